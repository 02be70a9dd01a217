/* One answer; see answer.h. */
#include "cli/answer.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/number.h"
#include "measure/measure.h"

#include <math.h>
#include <stdio.h>

#define ANSWER_MAX_BYTES (64u << 20)

/* What the collecting of tokens needs while they come. */
struct collector {
    struct mu_answer *answer;
    bool with_text; /* there is a tokenizer */
    struct mu_detokenizer detokenizer;
    struct mu_stop stop;
    struct mu_text fresh; /* what the last token added, before stop texts were looked for */
    const struct mu_config *config;
    size_t shown; /* bytes of the text that were written out */
    bool stream, with_logprobs, ignore_eos, stopped;
    mu_status status;
    struct mu_err *err;
};

static bool is_end(const struct collector *c, uint32_t id)
{
    for (unsigned i = 0; i < c->config->n_eos; i++)
        if (c->config->eos[i] == id) return true;
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

/* Looks for stop texts in what is fresh, and writes out what is certain to stay. */
static void take_text(struct collector *c)
{
    struct mu_text *text = &c->answer->text;
    struct mu_str fresh = {mu_text_get(&c->fresh), c->fresh.len};
    c->stopped = c->stopped || mu_stop_push(&c->stop, fresh, false, text);
    mu_text_clear(&c->fresh);
    if (c->stream && c->status == MU_OK && text->len > c->shown)
        c->status = mu_cli_out(text->p + c->shown, text->len - c->shown, c->err);
    c->shown = text->len;
}

static bool take_token(void *arg, const struct mu_event *event)
{
    struct collector *c = arg;
    struct mu_answer *a = c->answer;
    a->ids[a->n_ids++] = event->picked.id;
    if (c->with_logprobs) add_logprobs(&a->logprobs, event);
    if (c->with_text && (c->ignore_eos || !is_end(c, event->picked.id))) {
        mu_detokenizer_push(&c->detokenizer, event->picked.id, &c->fresh);
        take_text(c);
    } else if (!c->with_text && c->stream) { /* no tokenizer: ids out, as ids came in */
        char id[16];
        int len = snprintf(id, sizeof id, "%s%u", a->n_ids > 1 ? "," : "", event->picked.id);
        c->status = mu_cli_out(id, (size_t)len, c->err);
    }
    return !c->stopped && c->status == MU_OK;
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

static const char *finish_name(const struct collector *c, enum mu_finish finish)
{
    if (c->stopped || finish == MU_FINISH_STOP) return "stop";
    return finish == MU_FINISH_LENGTH ? "length" : "cancelled";
}

static mu_status collect(struct mu_session *session, struct collector *c,
                         const struct mu_request_options *request, struct mu_err *err)
{
    struct mu_answer *a = c->answer;
    mu_status status = mu_session_request(session, request, take_token, c, &a->result, err);
    if (c->with_text && !c->stopped) {
        mu_detokenizer_end(&c->detokenizer, &c->fresh);
        take_text(c);
        mu_stop_end(&c->stop, &a->text);
        take_text(c);
    }
    a->finish_reason = finish_name(c, a->result.finish);
    if (status == MU_OK) status = c->status;
    if (status == MU_OK) status = mu_text_status(&a->text, err);
    return status == MU_OK ? mu_text_status(&a->logprobs, err) : status;
}

mu_status mu_answer_run(struct mu_session *session, const struct mu_invocation *in,
                        const struct mu_answer_options *options, const uint32_t *prompt,
                        uint32_t n_prompt, bool stream, struct mu_answer *out, struct mu_err *err)
{
    const struct mu_config *config = mu_model_file_config(session->file);
    *out = (struct mu_answer){0};
    mu_text_init(&out->text, ANSWER_MAX_BYTES);
    mu_text_init(&out->logprobs, ANSWER_MAX_BYTES);
    out->ids = mu_alloc((options->n + 1) * sizeof *out->ids);
    if (!out->ids) return mu_fail_memory(err, options->n * sizeof *out->ids);
    struct collector c = {.answer = out,
                          .with_text = session->tokenizer != NULL,
                          .config = config,
                          .stream = stream,
                          .with_logprobs = mu_given(in, "logprobs"),
                          .ignore_eos = options->ignore_eos,
                          .err = err};
    struct mu_request_options request = {.prompt = prompt,
                                         .n_prompt = n_prompt,
                                         .max_tokens = (uint32_t)options->n,
                                         .stop_ids = config->eos,
                                         .n_stop_ids = options->ignore_eos ? 0 : config->n_eos,
                                         .digest = !stream};
    struct mu_logit_bias bias[MU_LOGIT_BIAS_MAX];
    mu_status status = fill_sampling(in, options, config, bias, &request.sampling, err);
    struct mu_str stops[MU_OPTION_LIST_MAX];
    for (unsigned i = 0; i < options->stop.n; i++)
        stops[i] = mu_str(options->stop.items[i]);
    mu_text_init(&c.fresh, ANSWER_MAX_BYTES);
    if (c.with_text)
        mu_detokenizer_init(&c.detokenizer, session->tokenizer, MU_DECODE_SKIP_SPECIAL);
    if (status == MU_OK) status = mu_stop_init(&c.stop, stops, options->stop.n, err);
    if (status == MU_OK) status = collect(session, &c, &request, err);
    mu_detokenizer_fini(&c.detokenizer);
    mu_stop_fini(&c.stop);
    mu_text_fini(&c.fresh);
    return status;
}

void mu_answer_fini(struct mu_answer *a)
{
    mu_free(a->ids);
    mu_text_fini(&a->text);
    mu_text_fini(&a->logprobs);
}

void mu_answer_say_speed(const struct mu_session *session, const struct mu_run_options *options,
                         const struct mu_answer *a)
{
    const struct mu_request_result *r = &a->result;
    struct mu_engine_facts facts;
    mu_engine_facts(session->engine, &facts);
    mu_cli_say("measured: %u prompt tokens in %.0f ms", r->n_prompt, r->prefill_seconds * 1e3);
    if (r->decode_seconds <= 0) {
        mu_cli_say("\n");
        return;
    }
    double rate = (r->n_tokens - 1) / r->decode_seconds;
    mu_cli_say(", then %.1f tokens/s over %u tokens (%s, %u threads)\n", rate, r->n_tokens,
               facts.family, facts.n_threads);
    double bandwidth;
    struct mu_device_list devices;
    if (!options->verbose ||
        mu_devices_parse(options->devices, (unsigned)options->threads, &devices, NULL) != MU_OK ||
        mu_measure_read_bandwidth(facts.n_threads, NULL, &bandwidth, NULL) != MU_OK)
        return;
    double used = rate * (double)facts.bytes_read_a_token;
    mu_cli_say("measured: a token reads %.0f MB of weights, so that was %.1f GB/s: %.0f %% of the "
               "%.1f GB/s that %u threads can read here\n",
               (double)facts.bytes_read_a_token * 1e-6, used * 1e-9, 100 * used / bandwidth,
               bandwidth * 1e-9, facts.n_threads);
}
