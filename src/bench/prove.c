/* Runs the prompts under each placement and compares; see prove.h. */
#include "bench/prove_int.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <stdio.h>

#define WAIT_MS 100

/* In which the prompts run under one placement. Odd pieces make steps in which prompts of several
 * requests and decoding ones are mixed; the first way touches all memory for the first time, so it
 * is not one of those that are timed. */
static const struct way {
    const char *name;
    bool together, quick;
    uint32_t chunk; /* tokens of a prompt in one step; 0: as many as fit */
} ways[] = {{"together, in pieces of 7", true, true, 7},
            {"alone", false, true, 0},
            {"together", true, true, 0},
            {"alone, in pieces of 19", false, false, 19},
            {"together, in pieces of 64", true, false, 64}};

struct answer {
    uint64_t digest;
    uint32_t *ids; /* [max_tokens] */
    uint32_t n;
    struct mu_request *request;
    struct mu_request_result result;
};

struct prover {
    const struct mu_prove_request *q;
    struct mu_prove *prove;
    struct answer *answers, *first; /* [n_prompts] of this way; those that all must equal */
    bool have_first;
    uint32_t done, all; /* ways */
    double first_per_core;
};

/* ---- One way ------------------------------------------------------------------------------- */

static mu_status submit(struct prover *p, struct mu_engine *engine, const struct way *way,
                        uint32_t i, struct mu_err *err)
{
    const struct mu_prompt *prompt = &p->q->prompts[i];
    struct answer *a = &p->answers[i];
    struct mu_request_options r = {.prompt = prompt->ids,
                                   .n_prompt = prompt->n,
                                   .max_tokens = p->q->max_tokens,
                                   .prefill_chunk = way->chunk,
                                   .digest = true,
                                   .user = a};
    mu_sampling_defaults(&r.sampling);
    /* Every second answer is drawn: the sampler has to be the same everywhere too. */
    r.sampling.greedy = i % 2 == 0;
    r.sampling.has_seed = true;
    r.sampling.seed = i;
    a->n = 0;
    return mu_request_submit(engine, &r, &a->request, err);
}

/* Takes events until `n` requests are done. */
static mu_status drain(struct prover *p, struct mu_engine *engine, uint32_t n,
                       const struct mu_placement *at, const struct way *way, struct mu_err *err)
{
    while (n > 0) {
        struct mu_event event;
        if (!mu_engine_next_event(engine, &event)) {
            mu_engine_wait(engine, WAIT_MS);
            if (!p->q->go_on(p->q->go_on_arg, at, way->name, p->done, p->all))
                return mu_fail(err, MU_E_INTERRUPTED, "interrupted");
            continue;
        }
        struct answer *a = event.user;
        n -= event.done;
        if (!event.done)
            a->ids[a->n++] = event.picked.id;
        else
            mu_request_result(event.request, &a->result);
        if (event.done && a->result.finish == MU_FINISH_FAILED) {
            if (err && err->code == MU_OK) *err = a->result.err;
            return a->result.err.code;
        }
    }
    return MU_OK;
}

static mu_status run_way(struct prover *p, struct mu_engine *engine, const struct mu_placement *at,
                         const struct way *way, struct mu_err *err)
{
    uint32_t n = p->q->n_prompts;
    mu_status status = MU_OK;
    for (uint32_t i = 0; status == MU_OK && i < n; i++) {
        status = submit(p, engine, way, i, err);
        if (status == MU_OK && !way->together) status = drain(p, engine, 1, at, way, err);
    }
    return status == MU_OK && way->together ? drain(p, engine, n, at, way, err) : status;
}

static void forget_requests(struct prover *p)
{
    for (uint32_t i = 0; i < p->q->n_prompts; i++) {
        mu_request_destroy(p->answers[i].request);
        p->answers[i].request = NULL;
    }
}

/* ---- What came of it ----------------------------------------------------------------------- */

static bool equal(const struct answer *a, const struct answer *b)
{
    return a->result.digest == b->result.digest && a->n == b->n &&
           memcmp(a->ids, b->ids, a->n * sizeof *a->ids) == 0;
}

static void compare(struct prover *p, struct mu_prove_run *run, const struct way *way)
{
    for (uint32_t i = 0; i < p->q->n_prompts; i++) {
        struct answer *a = &p->answers[i];
        if (!p->have_first) {
            uint32_t *ids = p->first[i].ids;
            memcpy(ids, a->ids, a->n * sizeof *ids);
            p->first[i] = *a;
            p->first[i].ids = ids;
        }
        if (way == ways) run->digests[i] = a->result.digest;
        if (!run->same || equal(a, &p->first[i])) continue;
        run->same = p->prove->same = false;
        run->differs = i;
        run->differs_way = way->name;
    }
    p->have_first = true;
}

/* Speed of the plain ways; the others only have to have the same bits. */
static void measure(struct prover *p, struct mu_prove_run *run, const struct way *way,
                    double seconds)
{
    double prompt = 0, prompt_s = 0, tokens = 0, more = 0, more_s = 0;
    for (uint32_t i = 0; i < p->q->n_prompts; i++) {
        const struct mu_request_result *r = &p->answers[i].result;
        prompt += r->n_prompt;
        prompt_s += r->prefill_seconds;
        tokens += r->n_tokens;
        more += r->n_tokens - 1;
        more_s += r->decode_seconds;
    }
    if (way->chunk) return;
    if (way->together) {
        run->measured.together_tokens_per_s = tokens / seconds;
        return;
    }
    run->measured.prefill_tokens_per_s = prompt / prompt_s;
    if (more_s > 0) run->measured.decode_tokens_per_s = more / more_s;
}

/* Cores stay the same where devices share them: then twice the devices are not twice as fast. */
static void compare_speed(struct prover *p, struct mu_prove_run *run)
{
    uint32_t cores = mu_cpu_usable((int[MU_DEVICE_CPUS_MAX]){0}, MU_DEVICE_CPUS_MAX);
    uint32_t threads = mu_placement_threads(&run->placement, cores);
    uint32_t used = MU_MIN(cores, threads * mu_placement_devices(&run->placement));
    double per_core = run->measured.together_tokens_per_s / used;
    if (p->first_per_core <= 0) p->first_per_core = per_core;
    run->efficiency = per_core / p->first_per_core;
}

/* ---- One placement ------------------------------------------------------------------------- */

static mu_status set_options(const struct prover *p, const struct mu_placement *at,
                             struct mu_engine_options *o, struct mu_err *err)
{
    char devices[24];
    uint32_t longest = 0;
    *o = p->q->options;
    for (uint32_t i = 0; i < p->q->n_prompts; i++)
        longest = MU_MAX(longest, p->q->prompts[i].n);
    o->tp = at->tp;
    o->pp = at->pp;
    o->dp = at->dp;
    o->context = longest + p->q->max_tokens;
    o->max_sequences = MU_ROUND_UP(p->q->n_prompts, at->dp);
    (void)snprintf(devices, sizeof devices, "cpu:%u", mu_placement_devices(at));
    return mu_devices_parse(devices, at->threads, &o->devices, err);
}

static mu_status run_ways(struct prover *p, struct mu_prove_run *run, struct mu_engine *engine,
                          struct mu_err *err)
{
    for (size_t w = 0; w < MU_ARRAY_LEN(ways); w++) {
        if (p->q->quick && !ways[w].quick) continue;
        uint64_t begin = mu_clock_ns();
        MU_TRY(run_way(p, engine, &run->placement, &ways[w], err));
        measure(p, run, &ways[w], mu_clock_seconds_since(begin));
        compare(p, run, &ways[w]);
        forget_requests(p);
        p->done++;
    }
    compare_speed(p, run);
    for (unsigned i = 0; i < run->memory->n_ranks; i++) {
        struct mu_device_usage usage;
        mu_engine_usage(engine, i, &usage);
        run->high_bytes[i] = usage.total_high_bytes;
    }
    return MU_OK;
}

static bool refusal(mu_status status)
{
    return status == MU_E_USAGE || status == MU_E_UNSUPPORTED || status == MU_E_FIT;
}

static mu_status run_placement(struct prover *p, struct mu_prove_run *run, struct mu_err *err)
{
    struct mu_engine_options *o = mu_alloc(sizeof *o);
    struct mu_engine *engine = NULL;
    if (!o) return mu_fail_memory(err, sizeof *o);
    struct mu_err why = MU_ERR_INIT;
    struct mu_placed placed = {0};
    mu_status status = set_options(p, &run->placement, o, &why);
    if (status == MU_OK) status = mu_placement_map(p->q, &run->placement, o, &placed, &why);
    if (status == MU_OK) status = mu_engine_memory(p->q->file, o, run->memory, &why);
    /* Before anything else is at work. */
    if (status == MU_OK && p->prove->no_prediction.code == MU_OK)
        (void)mu_prove_predict(p->q, &run->placement, o, &run->predicted, &p->prove->no_prediction);
    if (status == MU_OK) status = mu_engine_open(p->q->file, o, &engine, &why);
    if (refusal(status)) {
        run->refused = true;
        run->why = why;
        status = MU_OK;
    } else if (status == MU_OK) {
        struct mu_engine_facts facts;
        mu_engine_facts(engine, &facts);
        p->prove->family = facts.family;
        run->load_seconds = facts.load_seconds;
        status = run_ways(p, run, engine, &why);
    }
    mu_engine_close(engine);
    forget_requests(p);
    mu_placed_fini(&placed);
    mu_free(o);
    if (status != MU_OK && err && err->code == MU_OK) *err = why;
    return status;
}

/* ---- All ----------------------------------------------------------------------------------- */

static mu_status make_rooms(struct prover *p, struct mu_err *err)
{
    const struct mu_prove_request *q = p->q;
    struct mu_prove *prove = p->prove;
    size_t ids = q->max_tokens * sizeof(uint32_t);
    p->answers = mu_calloc(q->n_prompts, sizeof *p->answers);
    p->first = mu_calloc(q->n_prompts, sizeof *p->first);
    prove->runs = mu_calloc(q->n_placements, sizeof *prove->runs);
    if (!p->answers || !p->first || !prove->runs) return mu_fail_memory(err, ids);
    for (uint32_t i = 0; i < q->n_prompts; i++) {
        p->answers[i].ids = mu_alloc(ids);
        p->first[i].ids = mu_alloc(ids);
        if (!p->answers[i].ids || !p->first[i].ids) return mu_fail_memory(err, ids);
    }
    for (uint32_t i = 0; i < q->n_placements; i++) {
        struct mu_prove_run *run = &prove->runs[prove->n_runs++];
        run->placement = q->placements[i];
        run->same = true;
        run->digests = mu_calloc(q->n_prompts, sizeof *run->digests);
        run->memory = mu_calloc(1, sizeof *run->memory);
        run->high_bytes = mu_calloc(MU_MEMORY_ROWS_MAX, sizeof *run->high_bytes);
        if (!run->digests || !run->memory || !run->high_bytes)
            return mu_fail_memory(err, sizeof *run->memory);
    }
    return MU_OK;
}

static void drop_rooms(struct prover *p)
{
    for (uint32_t i = 0; p->answers && p->first && i < p->q->n_prompts; i++) {
        mu_free(p->answers[i].ids);
        mu_free(p->first[i].ids);
    }
    mu_free(p->answers);
    mu_free(p->first);
}

static uint32_t count_ways(bool quick)
{
    uint32_t n = 0;
    for (size_t w = 0; w < MU_ARRAY_LEN(ways); w++)
        n += !quick || ways[w].quick;
    return n;
}

static mu_status prove_all(struct prover *p, struct mu_err *err)
{
    const struct mu_prove_request *q = p->q;
    uint32_t each = count_ways(q->quick), n_refused = 0;
    MU_TRY(make_rooms(p, err));
    p->all = q->n_placements * each;
    for (uint32_t i = 0; i < q->n_placements; i++) {
        struct mu_prove_run *run = &p->prove->runs[i];
        p->done = i * each;
        if (!q->go_on(q->go_on_arg, &run->placement, "loading", p->done, p->all))
            return mu_fail(err, MU_E_INTERRUPTED, "interrupted");
        MU_TRY(run_placement(p, run, err));
        n_refused += run->refused;
    }
    if (n_refused < q->n_placements) return MU_OK;
    if (err) *err = p->prove->runs[0].why;
    return p->prove->runs[0].why.code;
}

mu_status mu_prove_make(const struct mu_prove_request *request, struct mu_prove **out,
                        struct mu_err *err)
{
    struct mu_prove *prove = mu_calloc(1, sizeof *prove);
    if (!prove) return mu_fail_memory(err, sizeof *prove);
    *prove = (struct mu_prove){
        .n_prompts = request->n_prompts, .same = true, .no_prediction = MU_ERR_INIT};
    struct prover p = {.q = request, .prove = prove};
    mu_status status = prove_all(&p, err);
    drop_rooms(&p);
    if (status == MU_OK)
        *out = prove;
    else
        mu_prove_destroy(prove);
    return status;
}

void mu_prove_destroy(struct mu_prove *prove)
{
    if (!prove) return;
    for (uint32_t i = 0; i < prove->n_runs; i++) {
        mu_free(prove->runs[i].digests);
        mu_free(prove->runs[i].memory);
        mu_free(prove->runs[i].high_bytes);
    }
    mu_free(prove->runs);
    mu_free(prove);
}
