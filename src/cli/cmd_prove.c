/* muster prove: the same prompts under many placements, compared bit by bit. */
#include "base/alloc.h"
#include "base/file.h"
#include "bench/bench.h"
#include "cli/keep.h"
#include "cli/map_options.h"
#include "cli/session.h"

#define PROMPTS_MAX_BYTES (16u << 20)
#define PROMPTS_MAX       64
#define OUT_MAX_BYTES     (16u << 20)

struct prove_options {
    struct mu_run_options
        run; /* compute, kv_type, cpu and weights; the rest is prove's to choose */
    struct mu_keep_options keep;
    const char *prompts, *placements, *device_map, *max_memory;
    uint64_t n;
    bool quick, json;
};

static const struct mu_option options[] = {
    {"prompts", 'f', MU_OPTION_TEXT, offsetof(struct prove_options, prompts), "FILE",
     .help = "one prompt a line; without it a set of random tokens"},
    {"n", 'n', MU_OPTION_U64, offsetof(struct prove_options, n), "N",
     .help = "new tokens for each prompt", .min = 1, .max = 65536, .default_value = "16"},
    {"placements", 0, MU_OPTION_TEXT, offsetof(struct prove_options, placements), "LIST",
     .help = "tp2,pp2,tp2xpp2xdp2,tp2xt1, ...: tensor, pipeline and data parallel degrees, threads "
             "of each device; balanced2, back2, split3, offload1, disk1: device maps of so many "
             "devices; without it all that show something new"},
    {"device-map", 0, MU_OPTION_TEXT, offsetof(struct prove_options, device_map), "MODE|FILE|JSON",
     .help = "another placement, as muster generate takes it"},
    {"max-memory", 0, MU_OPTION_TEXT, offsetof(struct prove_options, max_memory), "JSON|LIST",
     .help = "what that map may use of each device"},
    {"quick", 'q', MU_OPTION_FLAG, offsetof(struct prove_options, quick), NULL,
     .help = "few placements, each in fewer ways"},
    {"compute", 0, MU_OPTION_TEXT, offsetof(struct prove_options, run.compute), "HOW",
     .help = "default: the fastest arithmetic; f32: the reference path", .default_value = "default",
     .choices = "default|f32"},
    {"kv-type", 0, MU_OPTION_TEXT, offsetof(struct prove_options, run.kv_type), "TYPE",
     .help = "type of the KV cache; auto: f16, or f32 with --compute f32", .default_value = "auto",
     .choices = "auto|f16|bf16|f32"},
    {"cpu", 0, MU_OPTION_TEXT, offsetof(struct prove_options, run.cpu), "FAMILY",
     .help = "kernel family; without it the best this CPU has"},
    {"weights", 'w', MU_OPTION_TEXT, offsetof(struct prove_options, run.weights), "TYPE",
     .help = "quantise matrices that are stored in a wider type while loading: q8_0, q4_k, ..."},
    {"json", 'j', MU_OPTION_FLAG, offsetof(struct prove_options, json), NULL,
     .help = "print one JSON document"},
    MU_KEEP_OPTION_ROWS(struct prove_options),
    {.name = NULL},
};

/* One prompt a line; empty lines are none. */
static mu_status read_prompts(struct mu_session *session, const char *path, struct mu_prompt **out,
                              uint32_t *n, struct mu_err *err)
{
    struct mu_text text;
    mu_text_init(&text, PROMPTS_MAX_BYTES);
    mu_status status = mu_session_tokenizer(session, err);
    if (status == MU_OK) status = mu_file_read(path, &text, err);
    struct mu_str rest = {mu_text_get(&text), text.len};
    if (status == MU_OK && !(*out = mu_calloc(PROMPTS_MAX, sizeof **out)))
        status = mu_fail_memory(err, PROMPTS_MAX * sizeof **out);
    while (status == MU_OK && rest.len) {
        struct mu_str line = mu_str_take(&rest, '\n');
        if (line.len == 0) continue;
        if (*n == PROMPTS_MAX)
            status = mu_fail(err, MU_E_INPUT, "%s has more than %d prompts", path, PROMPTS_MAX);
        else
            status = mu_session_encode(session, line, true, &(*out)[*n].ids, &(*out)[*n].n, err);
        *n += status == MU_OK;
    }
    if (status == MU_OK && *n == 0) status = mu_fail(err, MU_E_INPUT, "%s has no prompt", path);
    mu_text_fini(&text);
    return status;
}

static bool show_progress(void *arg, const struct mu_placement *at, const char *way, uint32_t done,
                          uint32_t all)
{
    char name[MU_PLACEMENT_TEXT];
    (void)arg;
    mu_cli_progress((double)done / (double)MU_MAX(all, 1u), "%u of %u: %s %s", done, all,
                    mu_placement_name(at, name), way);
    return !mu_cli_interrupted();
}

static void keep(struct mu_keep *k, const struct mu_prove *prove, const struct mu_text *document)
{
    uint32_t ran = 0;
    for (uint32_t i = 0; i < prove->n_runs; i++)
        ran += !prove->runs[i].refused;
    mu_keep_take(k, document);
    mu_store_run_setting(&k->run, "kernels", prove->family);
    mu_text_printf(&k->result, "%s in %u placements", prove->same ? "same bits" : "bits differ",
                   ran);
    mu_keep_end(k, prove->same ? MU_OK : MU_E_ANSWER);
}

static mu_status print(const struct prove_options *o, const struct mu_prove_request *request,
                       const struct mu_prove *prove, uint32_t left_out, struct mu_keep *k,
                       struct mu_err *err)
{
    struct mu_text out;
    mu_status status = MU_OK;
    mu_text_init(&out, OUT_MAX_BYTES);
    mu_prove_write_json(request, prove, left_out, &out);
    keep(k, prove, &out);
    if (!o->json) {
        mu_text_clear(&out);
        status = mu_prove_write_table(request, prove, left_out, &out, err);
    }
    if (status == MU_OK) status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    return status == MU_OK && !prove->same ? MU_E_ANSWER : status;
}

/* Adds the map of --device-map to the placements. */
static mu_status read_map(const struct prove_options *o, struct mu_mapped_request *given,
                          struct mu_placement *placements, uint32_t *n, struct mu_err *err)
{
    if (!o->device_map && o->max_memory)
        return mu_fail(err, MU_E_USAGE, "--max-memory goes with a --device-map; there is none");
    if (!o->device_map) return MU_OK;
    if (*n == MU_PLACEMENTS_MAX)
        return mu_fail(err, MU_E_USAGE, "more than %d placements", MU_PLACEMENTS_MAX);
    MU_TRY(mu_cli_device_map_read(o->device_map, &given->device_map, err));
    MU_TRY(mu_cli_memory_read(o->max_memory, "--max-memory", &given->max_memory, err));
    placements[(*n)++] = (struct mu_placement){
        .tp = 1, .pp = mu_mapped_devices(given), .dp = 1, .map = MU_MAP_GIVEN};
    return MU_OK;
}

static mu_status prove(struct mu_session *session, const struct prove_options *o,
                       struct mu_mapped_request *given, struct mu_prompt **prompts,
                       uint32_t *n_prompts, struct mu_keep *k, struct mu_err *err)
{
    const struct mu_config *config = mu_model_file_config(session->file);
    struct mu_run_options run = o->run;
    struct mu_placement placements[MU_PLACEMENTS_MAX];
    struct mu_prove *result;
    uint32_t left_out = 0, n = 0;
    if (config->context && o->n >= config->context)
        return mu_fail(err, MU_E_INPUT, "%llu tokens are more than the model's context of %llu",
                       (unsigned long long)o->n, (unsigned long long)config->context);
    uint64_t most = config->context ? config->context - o->n : UINT32_MAX / 2;
    if (o->placements)
        MU_TRY(mu_placements_parse(o->placements, placements, &n, err));
    else
        mu_placements_default(o->quick, placements, &n, &left_out);
    MU_TRY(read_map(o, given, placements, &n, err));
    struct mu_prove_request request = {.file = session->file,
                                       .max_tokens = (uint32_t)o->n,
                                       .placements = placements,
                                       .n_placements = n,
                                       .given = given,
                                       .quick = o->quick,
                                       .go_on = show_progress};
    run.devices = "cpu";
    run.prefill_chunk = 0;
    MU_TRY(mu_session_engine_options(&run, 0, 0, &request.options, err));
    if (o->prompts)
        MU_TRY(read_prompts(session, o->prompts, prompts, n_prompts, err));
    else
        MU_TRY(mu_prompts_default(config->vocab, (uint32_t)MU_MIN(most, (uint64_t)UINT32_MAX / 2),
                                  prompts, n_prompts, err));
    request.prompts = *prompts;
    request.n_prompts = *n_prompts;
    mu_cli_catch_interrupts(true);
    mu_status status = mu_prove_make(&request, &result, err);
    mu_cli_catch_interrupts(false);
    mu_cli_progress_end();
    if (status != MU_OK) return status;
    status = print(o, &request, result, left_out, k, err);
    mu_prove_destroy(result);
    return status;
}

static mu_status prove_run(const struct mu_invocation *in, struct mu_err *err)
{
    struct mu_session session;
    const struct prove_options *o = in->options;
    struct mu_prompt *prompts = NULL;
    uint32_t n_prompts = 0;
    struct mu_keep k;
    struct mu_mapped_request given = {0};
    mu_keep_begin(&k, in, &o->keep, in->result->operands[0]);
    mu_status status = mu_session_open(&session, in->result->operands[0], err);
    if (status == MU_OK) status = prove(&session, o, &given, &prompts, &n_prompts, &k, err);
    mu_keep_fini(&k);
    mu_prompts_destroy(prompts, n_prompts);
    json_decref(given.device_map);
    json_decref(given.max_memory);
    mu_session_close(&session);
    return status;
}

const struct mu_command mu_command_prove = {
    .spec = {.command = "prove",
             .operands = "MODEL",
             .summary = "runs the same prompts under many placements: bits, speed, memory",
             .details =
                 "Every prompt runs alone and together with the others, in pieces of several "
                 "sizes, under each placement. Exit status 0: all bits are the same; 1: not. "
                 "Speed is in tokens a second; predictions come from kernels and exchanges "
                 "that were timed alone.",
             .options = options,
             .min_operands = 1,
             .max_operands = 1},
    .options_size = sizeof(struct prove_options),
    .run = prove_run,
};
