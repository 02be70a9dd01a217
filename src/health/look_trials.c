/*
 * Trials of the engine that the long look makes: answers of 256 and twice 512 tokens, then several
 * at a time. A table says what is tried; each has its time, within that of the look. The caller's
 * thread, and a thread for each request that goes beside another.
 */
#include "base/alloc.h"
#include "base/thread.h"
#include "health/look_int.h"
#include "health/look_tokens.h"

#include <stdio.h>

#define PARALLEL_MAX  4
#define TRIALS        4
#define UNSTEADY      0.3  /* long answers whose speeds differ by more are remarked on */
#define BATCHING_GAIN 1.25 /* what several requests together should gain at least */

static const struct trial {
    const char *name;
    unsigned n_tokens, n_parallel;
    uint32_t total_ms;
} trials[TRIALS] = {
    {"256 tokens", 256, 1, 20000},
    {"512 tokens", 512, 1, 25000},
    {"512 tokens again", 512, 1, 25000},
    {"4 x 128 tokens at once", 128, PARALLEL_MAX, 25000},
};

struct request {
    struct look *look;
    struct look_question question;
    struct look_tokens tokens;
    struct mu_net_answer answer;
    struct mu_err fault;
    mu_status status;
    struct mu_thread thread;
};

static void request_main(void *arg)
{
    struct request *r = arg;
    struct mu_err err = MU_ERR_INIT;
    r->status = look_route_ask(r->look, &r->question, &r->tokens, &r->answer, &r->fault, &err);
    unsigned http = r->answer.http_status;
    if (r->status != MU_OK || !r->question.to_the_end || (http != 400 && http != 422)) return;
    mu_net_answer_fini(&r->answer);
    r->question.to_the_end = false;
    r->status = look_route_ask(r->look, &r->question, &r->tokens, &r->answer, &r->fault, &err);
}

/* Tokens that came until the time was over are as good for a speed as a whole answer. */
static bool is_cut(const struct request *r)
{
    return r->answer.fault == MU_NET_TOO_LONG && r->tokens.n_chunks > 1;
}

/* All requests of a trial at once, this thread making the first. */
static void requests_make(struct request *requests, unsigned n)
{
    for (unsigned i = 1; i < n; i++)
        if (mu_thread_start(&requests[i].thread, request_main, &requests[i], "trial", -1, NULL) !=
            MU_OK)
            requests[i].status = MU_E_RESOURCE;
    request_main(&requests[0]);
    for (unsigned i = 1; i < n; i++)
        mu_thread_join(&requests[i].thread);
}

/* Tokens a second from the first token of all to the last; 0 when that is not known. */
static double rate_of(const struct request *requests, unsigned n, unsigned *n_tokens)
{
    double first = 0, last = 0, rate = 0;
    uint64_t start = requests[0].tokens.start_ns;
    *n_tokens = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct look_tokens *t = &requests[i].tokens;
        double late = (double)(int64_t)(t->start_ns - start) * 1e-9;
        first = i == 0 ? t->first_s : MU_MIN(first, late + t->first_s);
        last = MU_MAX(last, late + t->last_s);
        *n_tokens += look_tokens_count(t);
    }
    if (n == 1) return look_tokens_rate(&requests[0].tokens, &rate) ? 0 : rate;
    return last - first > 0.05 ? (*n_tokens - 1) / (last - first) : 0;
}

/* The trial's row in the document; its speed goes to `*rate`, 0 when there is none. */
static mu_status trial_make(struct look *l, const struct trial *trial, json_t *rows, double *rate,
                            struct mu_err *err)
{
    struct request requests[PARALLEL_MAX] = {{0}};
    for (unsigned i = 0; i < trial->n_parallel; i++)
        requests[i] =
            (struct request){.look = l, .question = {trial->n_tokens, true, trial->total_ms}};
    requests_make(requests, trial->n_parallel);
    unsigned n_tokens, n_good = 0;
    mu_status status = MU_OK;
    *rate = rate_of(requests, trial->n_parallel, &n_tokens);
    for (unsigned i = 0; i < trial->n_parallel; i++) {
        struct request *r = &requests[i];
        bool good =
            r->status == MU_OK && (is_cut(r) || look_answer_is_good(&r->tokens, &r->answer));
        n_good += good;
        if (r->status == MU_OK && !good && r->answer.fault != MU_NET_STOPPED)
            look_answer_find(l, &r->tokens, &r->answer, &r->fault, true);
        if (r->status == MU_E_MEMORY) status = mu_fail_memory(err, sizeof *r);
        mu_net_answer_fini(&r->answer);
    }
    if (n_good < trial->n_parallel) *rate = 0;
    (void)json_array_append_new(
        rows,
        json_pack("{s:s, s:i, s:i, s:i, s:i, s:f, s:o, s:b}", "trial", trial->name, "tokens_asked",
                  (int)trial->n_tokens, "parallel", (int)trial->n_parallel, "answered", (int)n_good,
                  "tokens", (int)n_tokens, "first_token_s", requests[0].tokens.first_s,
                  "tokens_per_s", *rate > 0 ? json_real(*rate) : json_null(), "cut_by_time",
                  is_cut(&requests[0])));
    return status;
}

static void trials_judge(struct look *l, const double rates[TRIALS])
{
    double least = 0, most = 0, together = rates[TRIALS - 1];
    for (unsigned i = 0; i + 1 < TRIALS; i++) {
        if (rates[i] <= 0) continue;
        least = least > 0 ? MU_MIN(least, rates[i]) : rates[i];
        most = MU_MAX(most, rates[i]);
    }
    if (least > 0 && least < most * (1 - UNSTEADY))
        look_find(l, LOOK_WARN, LOOK_LIVE, -1, "unsteady",
                  "see other load, throttling and the length of the context",
                  "long answers come at %.1f to %.1f tokens/s", least, most);
    if (least > 0 && together > 0 && together < most * BATCHING_GAIN)
        look_find(l, LOOK_WARN, LOOK_LIVE, -1, "gains_nothing_together",
                  "see its limit of requests at a time (--max-num-seqs, --max-running-requests, "
                  "-np)",
                  "%u requests together get %.1f tokens/s, one alone %.1f", PARALLEL_MAX, together,
                  most);
}

mu_status look_trials(struct look *l, struct mu_err *err)
{
    double rates[TRIALS] = {0};
    json_t *rows = json_array();
    if (!rows) return mu_fail_memory(err, 0);
    enum look_level before = l->worst;
    mu_status status = MU_OK;
    for (unsigned i = 0; status == MU_OK && i < TRIALS; i++) {
        if (l->options->stop && l->options->stop()) break;
        status = trial_make(l, &trials[i], rows, &rates[i], err);
        if (l->worst > before && l->worst >= LOOK_BAD) break; /* it broke: no more of it */
    }
    (void)json_object_set_new(l->engine, "trials", rows);
    if (status == MU_OK) trials_judge(l, rates);
    return status;
}
