/* Opening and running a model for a command; see session.h. */
#include "cli/session.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/number.h"
#include "base/thread.h"
#include "bench/bench.h"
#include "cli/map_options.h"
#include "comm/comm.h"

#include <stdio.h>

#define CONVERSATION_MAX_BYTES (64u << 20)
#define ASKED_MAX_BYTES        (64u << 10)

mu_status mu_session_open(struct mu_session *session, const char *model, struct mu_err *err)
{
    *session = (struct mu_session){0};
    return mu_model_file_open(model, 0, &session->file, err);
}

mu_status mu_session_tokenizer(struct mu_session *session, struct mu_err *err)
{
    return mu_tokenizer_open(session->file, &session->tokenizer, err);
}

void mu_session_close(struct mu_session *session)
{
    mu_engine_close(session->engine);
    mu_template_destroy(session->template);
    mu_tokenizer_destroy(session->tokenizer);
    mu_model_file_close(session->file);
    *session = (struct mu_session){0};
}

static void show_progress(void *arg, uint64_t done, uint64_t all)
{
    char a[MU_BYTES_TEXT], b[MU_BYTES_TEXT];
    mu_cli_progress((double)done / (double)MU_MAX(all, 1u), "loaded %s of %s: %s",
                    mu_format_bytes(done, a), mu_format_bytes(all, b), (const char *)arg);
}

static void list_weight_types(struct mu_text *out)
{
    for (int t = 0; t < MU_DTYPE_COUNT; t++)
        if (mu_dtype((enum mu_dtype)t)->gguf >= 0 && mu_codec_can_encode((enum mu_dtype)t))
            mu_text_printf(out, "%s%s", out->len ? " " : "", mu_dtype((enum mu_dtype)t)->name);
}

mu_status mu_session_weight_type(const char *name, enum mu_dtype *out, struct mu_err *err)
{
    struct mu_text types;
    if (mu_dtype_by_name(mu_str(name), out) && mu_dtype(*out)->gguf >= 0 &&
        mu_codec_can_encode(*out))
        return MU_OK;
    mu_text_init(&types, 512);
    list_weight_types(&types);
    mu_status status = mu_fail(err, MU_E_USAGE, "weights cannot be written as '%s'", name);
    mu_err_cure(err, "types are %s", mu_text_get(&types));
    mu_text_fini(&types);
    return status;
}

void mu_session_say_stand_ins(const struct mu_model_file *file, enum mu_dtype type, bool all)
{
    const struct mu_tensor *t;
    size_t n[MU_DTYPE_COUNT] = {0};
    for (size_t i = mu_model_file_tensors(file, &t); i > 0; i--, t++) {
        if (t->n_dims < 2) continue;
        enum mu_dtype fit = mu_codec_fit(type, t->dims[t->n_dims - 1]);
        n[fit] += all || mu_dtype_wider(t->type, fit);
    }
    for (int s = 0; s < MU_DTYPE_COUNT; s++)
        if (n[s] && s != (int)type)
            mu_cli_say("muster: %zu matrices take %s: their rows are not whole blocks of %s\n",
                       n[s], mu_dtype((enum mu_dtype)s)->name, mu_dtype(type)->name);
}

mu_status mu_session_engine_options(const struct mu_run_options *o, uint64_t context,
                                    uint64_t n_prompt, struct mu_engine_options *out,
                                    struct mu_err *err)
{
    *out = (struct mu_engine_options){.tp = (uint32_t)o->tp,
                                      .pp = (uint32_t)o->pp,
                                      .dp = (uint32_t)o->dp,
                                      .kernels = o->cpu,
                                      .profile = o->profile,
                                      .context = (uint32_t)(o->context ? o->context : context),
                                      .max_sequences = (uint32_t)o->dp,
                                      .max_rows = (uint32_t)o->prefill_chunk,
                                      .rope_context = o->rope_by_prompt ? n_prompt : 0};
    out->compute = strcmp(o->compute, "f32") == 0 ? MU_COMPUTE_F32 : MU_COMPUTE_DEFAULT;
    out->kv_type = out->compute == MU_COMPUTE_F32 ? MU_DTYPE_F32 : MU_DTYPE_F16;
    if (o->weights) MU_TRY(mu_session_weight_type(o->weights, &out->weights, err));
    if (strcmp(o->kv_type, "auto") != 0) (void)mu_dtype_by_name(mu_str(o->kv_type), &out->kv_type);
    struct mu_world_share share = {.of_cpus = 1, .of_memory = 1};
    if ((out->world = mu_cli_world())) mu_world_share(out->world, &share);
    return mu_devices_parse_share(o->devices, (unsigned)o->threads, share.cpu_index, share.of_cpus,
                                  share.of_memory, &out->devices, err);
}

/* The line of an option whose value is JSON, in one spelling. */
static void add_json(struct mu_text *out, const char *option, const json_t *value)
{
    char *text = value ? json_dumps(value, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY) : NULL;
    if (value && !text) out->status = MU_E_MEMORY;
    mu_text_printf(out, "option --%s\t%s\n", option, text ? text : "");
    mu_free(text);
}

/* Settles with the other processes on one set of options. */
static mu_status agree(const struct mu_session *session, const struct mu_run_options *o,
                       const struct mu_mapped_request *map, struct mu_engine_options *settled,
                       struct mu_err *err)
{
    struct mu_text asked;
    mu_text_init(&asked, ASKED_MAX_BYTES);
    mu_text_printf(&asked, "option --compute\t%s\noption --kv-type\t%s\noption --weights\t%s\n",
                   o->compute, o->kv_type, o->weights ? o->weights : "");
    const struct {
        const char *name;
        uint64_t value;
    } numbers[] = {{"tp", o->tp},
                   {"pp", o->pp},
                   {"dp", o->dp},
                   {"context", o->context},
                   {"prefill-chunk", o->prefill_chunk},
                   {"rope-by-prompt", o->rope_by_prompt},
                   {"offload-compute", o->offload_compute}};
    for (size_t i = 0; i < MU_ARRAY_LEN(numbers); i++)
        mu_text_printf(&asked, "option --%s\t%llu\n", numbers[i].name,
                       (unsigned long long)numbers[i].value);
    add_json(&asked, "device-map", map->device_map);
    add_json(&asked, "max-memory", map->max_memory);
    mu_status status = mu_text_status(&asked, err);
    if (status == MU_OK) status = mu_engine_agree(session->file, mu_text_get(&asked), settled, err);
    mu_text_fini(&asked);
    return status;
}

/* Unless told, all devices share each layer as far as the model can be cut, and stages are what is
 * left over. */
static void choose_degrees(const struct mu_config *config, struct mu_engine_options *o)
{
    uint32_t n = o->devices.n / MU_MAX(o->dp, 1u), tp = MU_MIN(n, mu_model_tp_max(config));
    if (o->tp != 0 || o->pp != 1 || n == 0) return;
    while (n % tp != 0)
        tp--;
    if (n / tp > config->n_layers) return;
    o->tp = tp;
    o->pp = n / tp;
}

/* What the user says about places; NULL without a map. */
static mu_status read_map(const struct mu_run_options *run, struct mu_mapped_request *out,
                          struct mu_err *err)
{
    *out = (struct mu_mapped_request){.offload_compute = run->offload_compute};
    if (!run->device_map && (run->max_memory || run->offload_compute))
        return mu_fail(err, MU_E_USAGE, "--%s goes with a --device-map; there is none",
                       run->max_memory ? "max-memory" : "offload-compute");
    if (!run->device_map) return MU_OK;
    MU_TRY(mu_cli_device_map_read(run->device_map, &out->device_map, err));
    return mu_cli_memory_read(run->max_memory, "--max-memory", &out->max_memory, err);
}

/* How fast that should be, where the costs of such a model are known: nobody who generates waits
 * until they are timed, as `muster plan` and `prove` do. */
static void predict_speed(struct mu_session *session, const struct mu_run_options *options,
                          const struct mu_engine_options *o, uint64_t n_prompt)
{
    struct mu_plan_prediction predicted;
    struct mu_here_run run = {.file = session->file,
                              .kernels = o->kernels,
                              .compute = o->compute,
                              .weights = o->weights,
                              .tp = MU_MAX(o->tp, 1u),
                              .pp = MU_MAX(o->pp, 1u),
                              .dp = MU_MAX(o->dp, 1u),
                              .n_threads = o->devices.items[0].n_threads,
                              .batch = MU_MAX(o->max_sequences, 1u),
                              .input = (uint32_t)MU_MAX(n_prompt, UINT64_C(1)),
                              .output = 1,
                              .places = o->places,
                              .kept_only = true};
    bool whole = run.tp * run.pp * run.dp == o->devices.n;
    if (o->world || !whole || options->offload_compute) return;
    if (mu_here_predict(&run, &predicted, NULL) != MU_OK) return;
    session->decode_tokens_per_s = run.batch / predicted.step_s;
    session->prefill_tokens_per_s = predicted.prefill_tokens_per_s / run.dp;
}

static mu_status open_engine(struct mu_session *session, const struct mu_run_options *options,
                             struct mu_engine_options *o, struct mu_err *err)
{
    MU_TRY(mu_engine_memory(session->file, o, &session->memory, err));
    if (options->weights) mu_session_say_stand_ins(session->file, o->weights, false);
    if (!session->memory.fits)
        mu_session_say_shortage(session, options, o);
    else if (options->verbose)
        mu_session_say_memory(&session->memory);
    char name[64];
    const char *path = mu_model_file_name(session->file), *slash = strrchr(path, '/');
    (void)snprintf(name, sizeof name, "%s", slash && slash[1] ? slash + 1 : path);
    if (mu_cli_fancy()) {
        o->progress = show_progress;
        o->progress_arg = name;
    }
    mu_status status = mu_engine_open(session->file, o, &session->engine, err);
    mu_cli_progress_end();
    return status;
}

mu_status mu_session_engine(struct mu_session *session, const struct mu_run_options *options,
                            uint64_t context, uint64_t n_prompt, uint64_t sequences,
                            struct mu_err *err)
{
    struct mu_engine_options o;
    uint64_t longest = mu_model_file_config(session->file)->context;
    if (longest > 0 && MU_MAX(context, options->context) > longest) {
        mu_status status = mu_fail(
            err, MU_E_INPUT, "%llu tokens are more than the model's context of %llu",
            (unsigned long long)MU_MAX(context, options->context), (unsigned long long)longest);
        if (options->context > longest)
            mu_err_cure(err, "--context %llu is the most", (unsigned long long)longest);
        else
            mu_err_cure(err, "shorten the prompt or ask for fewer tokens");
        return status;
    }
    MU_TRY(mu_session_engine_options(options, context, n_prompt, &o, err));
    o.max_sequences = MU_MAX(o.max_sequences, (uint32_t)sequences);
    struct mu_mapped_request request;
    struct mu_plan_map *map = NULL;
    mu_status status = read_map(options, &request, err);
    if (status == MU_OK && o.world) status = agree(session, options, &request, &o, err);
    if (status == MU_OK && request.device_map)
        status = mu_mapped_make(session->file, &request, &o, &map, err);
    if (!options->device_map) choose_degrees(mu_model_file_config(session->file), &o);
    if (status == MU_OK) predict_speed(session, options, &o, n_prompt);
    if (status == MU_OK) status = open_engine(session, options, &o, err);
    mu_plan_map_destroy(map);
    json_decref(request.device_map);
    json_decref(request.max_memory);
    return status;
}

mu_status mu_session_follow(const char *model, const struct mu_run_options *options,
                            struct mu_err *err)
{
    struct mu_session session;
    mu_watch_phase("opening the model");
    mu_status status = mu_session_open(&session, model, err);
    if (status == MU_OK) status = mu_session_engine(&session, options, 0, 0, 1, err);
    if (status == MU_OK) status = mu_engine_follow(session.engine, err);
    mu_session_close(&session);
    return status;
}

mu_status mu_session_encode(struct mu_session *session, struct mu_str text, bool add_special,
                            uint32_t **ids, uint32_t *n, struct mu_err *err)
{
    struct mu_ids list = {0};
    mu_status status = mu_tokenizer_encode(session->tokenizer, text,
                                           add_special ? MU_ENCODE_ADD_SPECIAL : 0, &list, err);
    if (status == MU_OK && list.n > UINT32_MAX / 2)
        status = mu_fail(err, MU_E_INPUT, "the text has %zu tokens", list.n);
    if (status != MU_OK) {
        mu_ids_fini(&list);
        return status;
    }
    *ids = list.p;
    *n = (uint32_t)list.n;
    return MU_OK;
}

/* Templates ask for bos_token and the like by name. What the caller set stays. */
static mu_status add_special_tokens(const struct mu_session *session, json_t *variables,
                                    struct mu_err *err)
{
    const struct mu_config *c = mu_model_file_config(session->file);
    const struct {
        const char *name;
        uint32_t id;
    } tokens[] = {{"bos_token", c->bos},
                  {"eos_token", c->n_eos ? c->eos[0] : MU_TOKEN_NONE},
                  {"pad_token", c->pad}};
    for (size_t i = 0; i < MU_ARRAY_LEN(tokens); i++) {
        if (json_object_get(variables, tokens[i].name) || tokens[i].id == MU_TOKEN_NONE ||
            tokens[i].id >= mu_tokenizer_size(session->tokenizer))
            continue;
        struct mu_str text = mu_tokenizer_token(session->tokenizer, tokens[i].id);
        if (text.len > 0 &&
            json_object_set_new(variables, tokens[i].name, json_stringn(text.p, text.len)) != 0)
            return mu_fail_memory(err, text.len);
    }
    return MU_OK;
}

/* Compiles the model's template, or the other one that it has for conversations with tools. */
static mu_status choose_template(struct mu_session *session, json_t *conversation,
                                 struct mu_err *err)
{
    bool with_tools = json_array_size(json_object_get(conversation, "tools")) > 0;
    if (session->template && session->template_has_tools == with_tools) return MU_OK;
    const char *source = mu_model_file_chat_template(session->file, with_tools);
    if (!source) {
        mu_status status = mu_fail(err, MU_E_INPUT, "the model has no chat template");
        mu_err_where(err, "%s", mu_model_file_name(session->file));
        mu_err_cure(err, "muster generate with --prompt takes raw text");
        return status;
    }
    mu_template_destroy(session->template);
    session->template = NULL;
    session->template_has_tools = with_tools;
    return mu_template_compile(mu_str(source), "chat template", &session->template, err);
}

mu_status mu_session_render(struct mu_session *session, json_t *conversation, const char *now,
                            unsigned flags, struct mu_text *out, struct mu_err *err)
{
    json_t *variables = NULL;
    const char *own_now = json_string_value(json_object_get(conversation, "now"));
    MU_TRY(choose_template(session, conversation, err));
    MU_TRY(mu_template_variables(conversation, flags, &variables, err));
    mu_status status = add_special_tokens(session, variables, err);
    if (status == MU_OK)
        status =
            mu_template_render(session->template, variables, NULL, now ? now : own_now, out, err);
    json_decref(variables);
    return status;
}

mu_status mu_session_encode_conversation(struct mu_session *session, json_t *conversation,
                                         uint32_t **ids, uint32_t *n, struct mu_err *err)
{
    struct mu_text text;
    mu_text_init(&text, CONVERSATION_MAX_BYTES);
    /* Somebody who hands over messages wants an answer, unless they say otherwise. */
    if (!json_object_get(conversation, "add_generation_prompt") &&
        json_object_set_new(conversation, "add_generation_prompt", json_true()) != 0)
        return mu_fail(err, MU_E_INPUT, "a conversation is an object with \"messages\"");
    mu_status status =
        mu_session_render(session, conversation, NULL,
                          MU_TEMPLATE_PARSE_ARGUMENTS | MU_TEMPLATE_JOIN_PARTS, &text, err);
    if (status == MU_OK)
        status = mu_session_encode(session, (struct mu_str){mu_text_get(&text), text.len}, false,
                                   ids, n, err);
    mu_text_fini(&text);
    return status;
}

mu_status mu_session_parse_ids(const char *text, uint32_t **ids, uint32_t *n, struct mu_err *err)
{
    size_t count = 1;
    for (const char *p = text; *p; p++)
        count += *p == ',';
    uint32_t *out = mu_alloc(count * sizeof *out);
    if (!out) return mu_fail_memory(err, count * sizeof *out);
    *n = 0;
    for (const char *p = text;; p++) {
        size_t len = strcspn(p, ",");
        uint64_t id;
        if (!mu_parse_u64((struct mu_str){p, len}, 0, UINT32_MAX - 1, &id)) {
            mu_free(out);
            return mu_fail(err, MU_E_USAGE, "'%.*s' is not a number in a list like 1,2,3",
                           (int)MU_MIN(len, (size_t)32), p);
        }
        out[(*n)++] = (uint32_t)id;
        p += len;
        if (!*p) break;
    }
    *ids = out;
    return MU_OK;
}

static void cancel_all(struct mu_request *const *requests, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        mu_request_cancel(requests[i]);
}

/* Takes the last events of `n` requests; returns whether the user interrupted that. */
static bool take_events(struct mu_session *session, struct mu_request *const *requests, uint32_t n,
                        bool (*each)(void *arg, const struct mu_event *event), void *arg)
{
    bool cancelled = false, failed = false;
    for (uint32_t left = n; left > 0;) {
        struct mu_event event;
        if (mu_engine_next_event(session->engine, &event)) {
            bool go_on = !each || each(arg, &event);
            failed |= event.done && event.finish == MU_FINISH_FAILED;
            left -= event.done;
            if (!go_on && !event.done) mu_request_cancel(event.request);
        } else {
            mu_engine_wait(session->engine, 200);
        }
        if (!cancelled && (failed || mu_cli_interrupted())) {
            cancel_all(requests, n);
            cancelled = true;
        }
    }
    return mu_cli_interrupted();
}

mu_status mu_session_requests(struct mu_session *session, const struct mu_request_options *options,
                              uint32_t n, bool (*each)(void *arg, const struct mu_event *event),
                              void *arg, struct mu_request_result *results, struct mu_err *err)
{
    struct mu_request **requests = mu_calloc(n, sizeof(struct mu_request *));
    if (!requests) return mu_fail_memory(err, n * sizeof(struct mu_request *));
    mu_status status = MU_OK;
    uint32_t made = 0;
    mu_cli_catch_interrupts(true);
    while (made < n && status == MU_OK) {
        status = mu_request_submit(session->engine, &options[made], &requests[made], err);
        if (status == MU_OK)
            made++;
        else
            results[made].finish = MU_FINISH_FAILED;
    }
    if (status != MU_OK) cancel_all(requests, made);
    bool interrupted = take_events(session, requests, made, each, arg);
    mu_cli_catch_interrupts(false);
    for (uint32_t i = 0; i < made; i++) {
        mu_request_result(requests[i], &results[i]);
        mu_request_destroy(requests[i]);
        if (status != MU_OK || results[i].finish != MU_FINISH_FAILED) continue;
        *err = results[i].err;
        status = err->code;
    }
    mu_free(requests);
    return status == MU_OK && interrupted ? mu_fail(err, MU_E_INTERRUPTED, "interrupted") : status;
}

static void add_device(struct mu_text *out, const char *name, const uint64_t *bytes, uint64_t total)
{
    mu_text_printf(out, "{\"device\":\"%s\"", name);
    for (int p = 0; p < MU_PURPOSE_COUNT; p++)
        mu_text_printf(out, ",\"%s_bytes\":%llu", mu_purpose_name((enum mu_purpose)p),
                       (unsigned long long)bytes[p]);
    mu_text_printf(out, ",\"total_bytes\":%llu}", (unsigned long long)total);
}

void mu_session_add_predicted(const struct mu_session *session, struct mu_text *out)
{
    mu_text_str(out, "\"predicted\":{");
    if (session->decode_tokens_per_s > 0) {
        mu_text_str(out, "\"decode_tokens_per_s\":");
        mu_json_add_f64(out, session->decode_tokens_per_s);
        mu_text_str(out, ",\"prefill_tokens_per_s\":");
        mu_json_add_f64(out, session->prefill_tokens_per_s);
        mu_text_char(out, ',');
    }
    mu_text_str(out, "\"devices\":[");
    for (unsigned i = 0; i < session->memory.n_ranks; i++) {
        const struct mu_rank_memory *r = &session->memory.ranks[i];
        mu_text_str(out, i ? "," : "");
        add_device(out, r->device, r->bytes, r->total_bytes);
    }
    mu_text_str(out, "]}");
}

void mu_session_add_speed(const struct mu_request_result *r, struct mu_text *out)
{
    if (r->prefill_seconds > 0 && r->n_tokens > 0) {
        mu_text_str(out, "\"prefill_tokens_per_s\":");
        mu_json_add_f64(out, r->n_prompt / r->prefill_seconds);
        mu_text_str(out, ",\"ttft_ms\":");
        mu_json_add_f64(out, r->prefill_seconds * 1e3);
        mu_text_char(out, ',');
    }
    if (r->decode_seconds > 0) {
        mu_text_str(out, "\"decode_tokens_per_s\":");
        mu_json_add_f64(out, (r->n_tokens - 1) / r->decode_seconds);
        mu_text_str(out, ",\"tpot_ms\":");
        mu_json_add_f64(out, r->decode_seconds * 1e3 / (r->n_tokens - 1));
        mu_text_char(out, ',');
    }
}

void mu_session_add_measured(const struct mu_session *session, struct mu_text *out)
{
    struct mu_engine_facts facts;
    mu_engine_facts(session->engine, &facts);
    mu_text_str(out, "\"load_seconds\":");
    mu_json_add_f64(out, facts.load_seconds);
    mu_text_str(out, ",\"devices\":[");
    for (unsigned i = 0; i < session->memory.n_ranks; i++) {
        struct mu_device_usage usage;
        mu_engine_usage(session->engine, i, &usage);
        mu_text_str(out, i ? "," : "");
        add_device(out, session->memory.ranks[i].device, usage.high_bytes, usage.total_high_bytes);
    }
    mu_text_char(out, ']');
}
