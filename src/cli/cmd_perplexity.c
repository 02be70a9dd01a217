/* muster perplexity: how well the model predicts a text. */
#include "cli/keep.h"
#include "cli/session.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"

#include <math.h>
#include <stdio.h>

#define TEXT_MAX_BYTES (1u << 30)

struct perplexity_options {
    struct mu_run_options run;
    struct mu_keep_options keep;
    const char *file;
    uint64_t window;
    bool json;
};

static const struct mu_option options[] = {
    {"file", 'f', MU_OPTION_TEXT, offsetof(struct perplexity_options, file), "FILE",
     "the text; - is standard input", 0, 0, NULL, NULL},
    {"window", 'w', MU_OPTION_U64, offsetof(struct perplexity_options, window), "N",
     "score as llama.cpp does: windows of N tokens, the second half of each; 0: one window as long "
     "as "
     "the context allows, every token but the first",
     0, 1 << 20, "0", NULL},
    {"json", 'j', MU_OPTION_FLAG, offsetof(struct perplexity_options, json), NULL,
     "print one JSON document", 0, 0, NULL, NULL},
    MU_RUN_OPTION_ROWS(struct perplexity_options),
    MU_KEEP_OPTION_ROWS(struct perplexity_options),
    {0}};

/* Which tokens count: [first, end) of every window of `size`. */
struct windows {
    uint32_t n, size, first;
};

static mu_status cut_windows(const struct perplexity_options *o, uint32_t n_ids, uint64_t context,
                             struct windows *out, struct mu_err *err)
{
    if (o->window == 0) {
        uint64_t size = MU_MIN(n_ids, o->run.context ? o->run.context : context);
        *out = (struct windows){.n = 1, .size = (uint32_t)size, .first = 1};
    } else {
        *out = (struct windows){.n = (uint32_t)(n_ids / o->window),
                                .size = (uint32_t)o->window,
                                .first = (uint32_t)o->window / 2 + 1};
    }
    if (out->n == 0 || out->size < 2)
        return mu_fail(err, MU_E_INPUT, "the text has %u tokens; to score it takes %llu", n_ids,
                       (unsigned long long)MU_MAX(o->window, 2u));
    return MU_OK;
}

static mu_status score(struct mu_session *session, const struct windows *w, const uint32_t *ids,
                       double *nll, uint64_t *scored, struct mu_err *err)
{
    float *logprobs = mu_alloc(w->size * sizeof *logprobs);
    mu_status status = logprobs ? MU_OK : mu_fail_memory(err, w->size * sizeof *logprobs);
    *nll = 0;
    *scored = 0;
    for (uint32_t i = 0; status == MU_OK && i < w->n; i++) {
        struct mu_request_options request = {
            .prompt = ids + (size_t)i * w->size, .n_prompt = w->size, .prompt_logprobs = logprobs};
        struct mu_request_result result;
        mu_sampling_defaults(&request.sampling);
        status = mu_session_requests(session, &request, 1, NULL, NULL, &result, err);
        for (uint32_t t = w->first; status == MU_OK && t < w->size; t++, ++*scored)
            *nll -= (double)logprobs[t];
        if (w->n > 1)
            mu_cli_progress((i + 1) / (double)w->n, "window %u of %u, perplexity %.4f", i + 1, w->n,
                            exp(*nll / (double)*scored));
    }
    mu_cli_progress_end();
    mu_free(logprobs);
    return status;
}

static mu_status print_result(const struct perplexity_options *o, const struct windows *w,
                              double nll, uint64_t scored, struct mu_err *err)
{
    struct mu_text out;
    mu_text_init(&out, 4096);
    double mean = nll / (double)scored;
    unsigned long long tokens = (unsigned long long)w->n * w->size;
    if (o->json) {
        mu_text_printf(&out, "{\"tokens\":%llu,\"scored\":%llu,\"mean_nll\":", tokens,
                       (unsigned long long)scored);
        mu_json_add_f64(&out, mean);
        mu_text_str(&out, ",\"perplexity\":");
        mu_json_add_f64(&out, exp(mean));
        mu_text_str(&out, "}\n");
    } else {
        mu_text_printf(&out, "perplexity %.4f over %llu of %llu tokens (mean nll %.6f)\n",
                       exp(mean), (unsigned long long)scored, tokens, mean);
    }
    mu_status status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    return status;
}

static void keep(struct mu_keep *k, const struct mu_session *session, const struct windows *w,
                 double nll, uint64_t scored)
{
    double mean = nll / (double)scored;
    mu_keep_session(k, session, NULL);
    mu_store_run_figure(&k->run, MU_STORE_MEASURED, "mean_nll", mean);
    mu_store_run_figure(&k->run, MU_STORE_MEASURED, "perplexity", exp(mean));
    mu_store_run_figure(&k->run, MU_STORE_MEASURED, "scored_tokens", (double)scored);
    mu_text_printf(&k->result, "perplexity %.4f, %u window%s of %u tokens", exp(mean), w->n,
                   w->n == 1 ? "" : "s", w->size);
    mu_keep_end(k, MU_OK);
}

static mu_status perplexity_of(struct mu_session *session, const struct perplexity_options *o,
                               struct mu_text *text, struct mu_keep *k, struct mu_err *err)
{
    uint32_t *ids = NULL, n_ids = 0;
    struct windows w;
    double nll = 0;
    uint64_t scored = 0;
    mu_status status = mu_session_encode(session, (struct mu_str){mu_text_get(text), text->len},
                                         false, &ids, &n_ids, err);
    if (status == MU_OK)
        status = cut_windows(o, n_ids, mu_model_file_config(session->file)->context, &w, err);
    if (status == MU_OK && (uint64_t)w.n * w.size < n_ids)
        mu_cli_say("muster: scoring %llu of %u tokens\n", (unsigned long long)w.n * w.size, n_ids);
    if (status == MU_OK) status = mu_session_engine(session, &o->run, w.size, w.size, 1, err);
    if (status == MU_OK) status = score(session, &w, ids, &nll, &scored, err);
    if (status == MU_OK) keep(k, session, &w, nll, scored);
    if (status == MU_OK) status = print_result(o, &w, nll, scored, err);
    mu_free(ids);
    return status;
}

static mu_status perplexity_run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct perplexity_options *o = in->options;
    if (!o->file) return mu_fail(err, MU_E_USAGE, "perplexity wants --file");
    struct mu_session session;
    struct mu_text text;
    struct mu_keep k;
    mu_text_init(&text, TEXT_MAX_BYTES);
    mu_keep_begin(&k, in, &o->keep, in->result->operands[0]);
    mu_status status = mu_session_open(&session, in->result->operands[0], err);
    if (status == MU_OK) status = mu_session_tokenizer(&session, err);
    if (status == MU_OK) status = mu_file_read(o->file, &text, err);
    if (status == MU_OK) status = perplexity_of(&session, o, &text, &k, err);
    mu_keep_fini(&k);
    mu_text_fini(&text);
    mu_session_close(&session);
    return status;
}

const struct mu_command mu_command_perplexity = {
    .spec = {.command = "perplexity",
             .operands = "MODEL",
             .summary = "how well the model predicts a text",
             .options = options,
             .min_operands = 1,
             .max_operands = 1},
    .options_size = sizeof(struct perplexity_options),
    .over_processes = true,
    .run = perplexity_run,
};
