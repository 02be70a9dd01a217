/* Answers to prompts; see answer.h. */
#include "cli/answer.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/number.h"
#include "measure/measure.h"

#include <math.h>

#define ANSWER_MAX_BYTES (64u << 20)

/* What the collecting of one answer's tokens needs while they come. */
struct collector {
    struct mu_answer *answer;
    struct mu_detokenizer detokenizer;
    struct mu_stop stop;
    struct mu_text fresh;      /* what the last token added, before stop texts were looked for */
    bool stopped, done, empty; /* empty: given up before there was any text */
};

struct collectors {
    struct collector *items;
    uint32_t n, n_choices;
    struct mu_session *session;
    const struct mu_config *config;
    bool with_logprobs, ignore_eos;

    bool stream;
    uint32_t showing; /* the answer that is being written out */
    size_t shown;     /* bytes of its text that were */
    mu_status status;
    struct mu_err *err;

    uint64_t begin_ns, all_begun_ns, last_ns; /* submitted; all have a token; the last token */
    uint32_t n_begun;
    uint64_t n_tokens, n_tokens_all_begun; /* ... how many when all_begun_ns was */
};

static bool is_end(const struct collectors *all, uint32_t id)
{
    for (unsigned i = 0; i < all->config->n_eos; i++)
        if (all->config->eos[i] == id) return true;
    return false;
}

static void add_logprobs(struct mu_text *out, const struct mu_event *event)
{
    const struct mu_picked *p = &event->picked;
    mu_text_printf(out, "%s{\"id\":%u,\"logprob\":", out->len ? "," : "", p->id);
    mu_json_add_f32(out, p->logprob);
    mu_text_str(out, ",\"top\":[");
    for (unsigned i = 0; i < p->n_top; i++) {
        mu_text_printf(out, "%s[%u,", i ? "," : "", p->top[i].id);
        mu_json_add_f32(out, p->top[i].logprob);
        mu_text_char(out, ']');
    }
    mu_text_str(out, "]}");
}

/* Looks for stop texts in what is fresh; what is certain to stay joins the text. */
static void take_fresh(struct collector *c)
{
    struct mu_str fresh = {mu_text_get(&c->fresh), c->fresh.len};
    c->stopped = c->stopped || mu_stop_push(&c->stop, fresh, false, &c->answer->text);
    mu_text_clear(&c->fresh);
}

static void take_token(struct collectors *all, struct collector *c, const struct mu_event *event)
{
    struct mu_answer *a = c->answer;
    uint32_t id = event->picked.id;
    a->came_s[a->n_ids] = (double)(all->last_ns - all->begin_ns) * 1e-9;
    a->ids[a->n_ids++] = id;
    if (all->with_logprobs) add_logprobs(&a->logprobs, event);
    if (!all->session->tokenizer) {
        mu_text_printf(&a->text, "%s%u", a->n_ids > 1 ? "," : "", id);
    } else if (all->ignore_eos || !is_end(all, id)) {
        mu_detokenizer_push(&c->detokenizer, id, &c->fresh);
        take_fresh(c);
    }
}

static void take_end(struct collectors *all, struct collector *c, enum mu_finish finish)
{
    if (all->session->tokenizer && !c->stopped) {
        mu_detokenizer_end(&c->detokenizer, &c->fresh);
        take_fresh(c);
        mu_stop_end(&c->stop, &c->answer->text);
    }
    c->done = true;
    c->empty = finish >= MU_FINISH_CANCELLED && c->answer->text.len == 0;
    c->answer->finish_reason = c->stopped || finish == MU_FINISH_STOP ? "stop"
                               : finish == MU_FINISH_LENGTH           ? "length"
                                                                      : "cancelled";
}

static void write_out(struct collectors *all, const char *bytes, size_t len)
{
    if (all->status == MU_OK && len > 0) all->status = mu_cli_out(bytes, len, all->err);
}

static void write_heading(struct collectors *all)
{
    struct mu_text heading;
    const struct mu_answer *a = all->items[all->showing].answer;
    if (all->n == 1) return;
    mu_text_init(&heading, 128);
    mu_text_printf(&heading, "%s==> %u", all->showing ? "\n" : "", a->prompt + 1);
    if (all->n_choices > 1) mu_text_printf(&heading, ", choice %u", a->choice + 1);
    mu_text_str(&heading, " <==\n");
    write_out(all, mu_text_get(&heading), heading.len);
    mu_text_fini(&heading);
}

/* Writes out the first answer that was not done, as far as it has come, and those behind it that
 * were done meanwhile. */
static void show(struct collectors *all)
{
    while (all->stream && all->showing < all->n) {
        const struct collector *c = &all->items[all->showing];
        const struct mu_text *text = &c->answer->text;
        if (all->shown == 0 && (text->len > 0 || c->done) && !c->empty) write_heading(all);
        write_out(all, mu_text_get(text) + all->shown, text->len - all->shown);
        all->shown = text->len;
        if (!c->done) return;
        if (!c->empty) write_out(all, "\n", 1);
        all->showing++;
        all->shown = 0;
    }
}

static void keep_time(struct collectors *all, const struct collector *c)
{
    all->last_ns = mu_clock_ns();
    all->n_tokens++;
    if (c->answer->n_ids > 0 || ++all->n_begun < all->n) return;
    all->all_begun_ns = all->last_ns;
    all->n_tokens_all_begun = all->n_tokens;
}

static bool take_event(void *arg, const struct mu_event *event)
{
    struct collectors *all = arg;
    struct collector *c = event->user;
    if (event->done) {
        take_end(all, c, event->finish);
    } else if (!c->stopped && all->status == MU_OK) {
        keep_time(all, c);
        take_token(all, c, event);
    }
    show(all);
    return !c->stopped && all->status == MU_OK;
}

static mu_status read_bias(const char *text, struct mu_logit_bias *list, struct mu_sampling *s,
                           struct mu_err *err)
{
    s->logit_bias = list;
    for (const char *p = text; p && *p;) {
        size_t len = strcspn(p, ","), id_len = strcspn(p, "=");
        uint64_t id;
        double bias;
        if (s->n_logit_bias == MU_LOGIT_BIAS_MAX)
            return mu_fail(err, MU_E_USAGE, "--logit-bias takes %d tokens at most",
                           MU_LOGIT_BIAS_MAX);
        if (id_len >= len || !mu_parse_u64((struct mu_str){p, id_len}, 0, UINT32_MAX - 1, &id) ||
            !mu_parse_f64((struct mu_str){p + id_len + 1, len - id_len - 1}, &bias))
            return mu_fail(err, MU_E_USAGE, "--logit-bias wants ID=BIAS, not '%.*s'",
                           (int)MU_MIN(len, (size_t)32), p);
        list[s->n_logit_bias++] = (struct mu_logit_bias){(uint32_t)id, (float)bias};
        p += len + (p[len] == ',');
    }
    return MU_OK;
}

/* The user's choice, else the model's, else what is there. */
static void choose(double *out, bool given, double user, double model)
{
    if (given)
        *out = user;
    else if (!isnan(model))
        *out = model;
}

static mu_status fill_sampling(const struct mu_invocation *in, const struct mu_answer_options *o,
                               const struct mu_config *config, struct mu_logit_bias *bias,
                               struct mu_sampling *s, struct mu_err *err)
{
    mu_sampling_defaults(s);
    double top_k = s->top_k;
    choose(&s->temperature, mu_given(in, "temperature"), o->temperature, config->temperature);
    choose(&s->top_p, mu_given(in, "top-p"), o->top_p, config->top_p);
    choose(&s->min_p, mu_given(in, "min-p"), o->min_p, config->min_p);
    choose(&top_k, mu_given(in, "top-k"), (double)o->top_k, config->top_k);
    choose(&s->typical_p, mu_given(in, "typical-p"), o->typical_p, (double)NAN);
    choose(&s->repetition_penalty, mu_given(in, "repetition-penalty"), o->repetition_penalty,
           config->repetition_penalty);
    s->top_k = (int32_t)top_k;
    s->frequency_penalty = o->frequency_penalty;
    s->presence_penalty = o->presence_penalty;
    s->min_tokens = (uint32_t)o->min_tokens;
    s->order = strcmp(o->sampler_order, "hf") == 0 ? MU_SAMPLER_HF : MU_SAMPLER_VLLM;
    s->greedy = o->greedy;
    s->n_logprobs = mu_given(in, "logprobs") ? (int32_t)o->logprobs : -1;
    s->has_seed = mu_given(in, "seed");
    s->seed = o->seed;
    return read_bias(o->logit_bias, bias, s, err);
}

/* Room for each answer. */
static mu_status prepare(struct collectors *all, const struct mu_answer_options *options,
                         struct mu_answers *out, struct mu_err *err)
{
    struct mu_str stops[MU_OPTION_LIST_MAX];
    for (unsigned i = 0; i < options->stop.n; i++)
        stops[i] = mu_str(options->stop.items[i]);
    for (uint32_t i = 0; i < all->n; i++) {
        struct mu_answer *a = &out->items[i];
        struct collector *c = &all->items[i];
        *a = (struct mu_answer){.prompt = i / out->n_choices,
                                .choice = i % out->n_choices,
                                .finish_reason = "cancelled"};
        out->n = i + 1;
        mu_text_init(&a->text, ANSWER_MAX_BYTES);
        mu_text_init(&a->logprobs, ANSWER_MAX_BYTES);
        mu_text_init(&c->fresh, ANSWER_MAX_BYTES);
        c->answer = a;
        if (all->session->tokenizer)
            mu_detokenizer_init(&c->detokenizer, all->session->tokenizer, MU_DECODE_SKIP_SPECIAL);
        a->ids = mu_alloc((options->n + 1) * sizeof *a->ids);
        a->came_s = mu_alloc((options->n + 1) * sizeof *a->came_s);
        if (!a->ids || !a->came_s) return mu_fail_memory(err, options->n * sizeof *a->came_s);
        MU_TRY(mu_stop_init(&c->stop, stops, options->stop.n, err));
    }
    return MU_OK;
}

/* One request an answer. Choices of a prompt share its seed, which is drawn here if need be. */
static mu_status fill_requests(const struct collectors *all,
                               const struct mu_answer_options *options,
                               const struct mu_prompt *prompts, const struct mu_sampling *sampling,
                               struct mu_request_options *requests, struct mu_err *err)
{
    struct mu_sampling of_prompt = *sampling;
    for (uint32_t i = 0; i < all->n; i++) {
        const struct mu_answer *a = all->items[i].answer;
        if (a->choice == 0) {
            of_prompt = *sampling;
            MU_TRY(mu_sampling_draw_seed(&of_prompt, err));
        }
        requests[i] =
            (struct mu_request_options){.prompt = prompts[a->prompt].ids,
                                        .n_prompt = prompts[a->prompt].n_ids,
                                        .max_tokens = (uint32_t)options->n,
                                        .stop_ids = all->config->eos,
                                        .n_stop_ids = options->ignore_eos ? 0 : all->config->n_eos,
                                        .sampling = of_prompt,
                                        .choice = a->choice,
                                        .digest = !all->stream,
                                        .user = &all->items[i]};
    }
    return MU_OK;
}

/* Of several prompts the one that failed is named. */
static void say_where(const struct mu_answers *a, const struct mu_prompt *prompts,
                      struct mu_err *err)
{
    uint32_t i = 0;
    while (i < a->n && a->items[i].result.finish != MU_FINISH_FAILED)
        i++;
    if (i < a->n && prompts[a->items[i].prompt].where)
        mu_err_where(err, "%s", prompts[a->items[i].prompt].where);
}

static mu_status run_requests(struct collectors *all, const struct mu_prompt *prompts,
                              const struct mu_request_options *requests, struct mu_answers *out,
                              struct mu_err *err)
{
    struct mu_request_result *results = mu_calloc(all->n, sizeof *results);
    if (!results) return mu_fail_memory(err, all->n * sizeof *results);
    all->begin_ns = all->last_ns = mu_clock_ns();
    mu_status status =
        mu_session_requests(all->session, requests, all->n, take_event, all, results, err);
    for (uint32_t i = 0; i < all->n; i++)
        out->items[i].result = results[i];
    mu_free(results);
    if (status != MU_OK) say_where(out, prompts, err);
    out->n_tokens = all->n_tokens;
    out->seconds = (double)(all->last_ns - all->begin_ns) * 1e-9;
    if (all->all_begun_ns > 0 && all->last_ns > all->all_begun_ns)
        out->decode_tokens_per_s = (double)(all->n_tokens - all->n_tokens_all_begun) * 1e9 /
                                   (double)(all->last_ns - all->all_begun_ns);
    if (status == MU_OK) status = all->status;
    for (uint32_t i = 0; status == MU_OK && i < all->n; i++) {
        status = mu_text_status(&out->items[i].text, err);
        if (status == MU_OK) status = mu_text_status(&out->items[i].logprobs, err);
    }
    return status;
}

mu_status mu_answers_run(struct mu_session *session, const struct mu_invocation *in,
                         const struct mu_answer_options *options, const struct mu_prompt *prompts,
                         uint32_t n_prompts, uint32_t n_choices, bool stream,
                         struct mu_answers *out, struct mu_err *err)
{
    struct collectors all = {.n = n_prompts * n_choices,
                             .n_choices = n_choices,
                             .session = session,
                             .config = mu_model_file_config(session->file),
                             .stream = stream,
                             .with_logprobs = mu_given(in, "logprobs"),
                             .ignore_eos = options->ignore_eos,
                             .err = err};
    *out = (struct mu_answers){.n_choices = n_choices};
    out->items = mu_calloc(all.n, sizeof *out->items);
    all.items = mu_calloc(all.n, sizeof *all.items);
    struct mu_request_options *requests = mu_calloc(all.n, sizeof *requests);
    struct mu_logit_bias bias[MU_LOGIT_BIAS_MAX];
    struct mu_sampling sampling;
    mu_status status = out->items && all.items && requests
                           ? prepare(&all, options, out, err)
                           : mu_fail_memory(err, all.n * sizeof *requests);
    if (status == MU_OK) status = fill_sampling(in, options, all.config, bias, &sampling, err);
    if (status == MU_OK) status = fill_requests(&all, options, prompts, &sampling, requests, err);
    if (status == MU_OK) status = run_requests(&all, prompts, requests, out, err);
    for (uint32_t i = 0; i < out->n; i++) {
        mu_detokenizer_fini(&all.items[i].detokenizer);
        mu_stop_fini(&all.items[i].stop);
        mu_text_fini(&all.items[i].fresh);
    }
    mu_free(all.items);
    mu_free(requests);
    return status;
}

void mu_answers_fini(struct mu_answers *a)
{
    for (uint32_t i = 0; i < a->n; i++) {
        mu_free(a->items[i].ids);
        mu_free(a->items[i].came_s);
        mu_text_fini(&a->items[i].text);
        mu_text_fini(&a->items[i].logprobs);
    }
    mu_free(a->items);
}

static void say_together(const struct mu_answers *a)
{
    mu_cli_say("measured: %u answers, %llu tokens in %.2f s: %.1f tokens/s", a->n,
               (unsigned long long)a->n_tokens, a->seconds, (double)a->n_tokens / a->seconds);
    if (a->decode_tokens_per_s > 0) mu_cli_say(", %.1f once all had begun", a->decode_tokens_per_s);
    mu_cli_say("\n");
}

void mu_answer_say_speed(const struct mu_session *session, const struct mu_run_options *options,
                         const struct mu_answers *a)
{
    const struct mu_request_result *r = &a->items[0].result;
    struct mu_engine_facts facts;
    if (a->n > 1) {
        say_together(a);
        return;
    }
    mu_engine_facts(session->engine, &facts);
    mu_cli_say("measured: %u prompt token%s in %.0f ms", r->n_prompt, r->n_prompt == 1 ? "" : "s",
               r->prefill_seconds * 1e3);
    if (r->decode_seconds <= 0) {
        mu_cli_say("\n");
        return;
    }
    double rate = (r->n_tokens - 1) / r->decode_seconds;
    mu_cli_say(", then %.1f tokens/s over %u tokens (%s, %u thread%s)\n", rate, r->n_tokens,
               facts.family, facts.n_threads, facts.n_threads == 1 ? "" : "s");
    double bandwidth;
    struct mu_device_list devices;
    if (!options->verbose ||
        mu_devices_parse(options->devices, (unsigned)options->threads, &devices, NULL) != MU_OK ||
        mu_measure_read_bandwidth(facts.n_threads, NULL, &bandwidth, NULL) != MU_OK)
        return;
    double used = rate * (double)facts.bytes_read_a_token;
    mu_cli_say("measured: a token reads %.0f MB of weights, so that was %.1f GB/s: ",
               (double)facts.bytes_read_a_token * 1e-6, used * 1e-9);
    if (used <= bandwidth)
        mu_cli_say("%.0f %% of the %.1f GB/s that %u threads can read here\n",
                   100 * used / bandwidth, bandwidth * 1e-9, facts.n_threads);
    else
        mu_cli_say("more than the %.1f GB/s that %u threads read from memory right after; the "
                   "weights came from caches, or other work ran then\n",
                   bandwidth * 1e-9, facts.n_threads);
}
