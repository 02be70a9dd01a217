/* Enumerating, ranking and explaining placements; see planner.h. */
#include "plan/planner.h"

#include "base/number.h"
#include "plan/place.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define ARENA_BYTES_MAX (1024u << 20)
#define TP_MAX          8    /* segments of a sum: the contract's most */
#define PP_MAX          8    /* stages that are tried unasked */
#define TIE             0.01 /* shares that no prediction tells apart */
#define MORE_DEVICES    24   /* that are tried when nothing fits */

/* What making one plan needs; freed with the plan's arena. */
struct maker {
    struct mu_plan *plan;
    struct mu_arena *arena;
    const struct mu_plan_request *q;
    struct mu_program *programs[TP_MAX + 1][TP_MAX];
    struct mu_plan_shard *shards[TP_MAX + 1]; /* of the format at hand */
    uint32_t room;                            /* for candidates */
    struct mu_err *err;
};

/* ---- Degrees ------------------------------------------------------------------------------- */

static bool tp_allowed(const struct mu_plan_request *q, uint32_t tp)
{
    const struct mu_config *c = q->config;
    if (q->tp && tp != q->tp) return false;
    if (tp > mu_model_tp_max(c)) return false;
    if (q->engine->even_heads == 0) return tp == 1 || strcmp(c->architecture, "olmo2") != 0;
    bool kv = c->n_kv_heads % tp == 0 || tp % c->n_kv_heads == 0 || c->kv_lora_rank;
    return c->n_heads % tp == 0 && kv;
}

static uint32_t most_stages(const struct mu_plan_request *q, uint32_t tp)
{
    return MU_MIN(q->pp ? q->pp : (uint32_t)PP_MAX, q->rack->n / tp);
}

static bool allowed(const struct mu_plan_request *q, uint32_t dp, uint32_t pp, uint32_t tp)
{
    if ((q->pp && pp != q->pp) || (q->dp && dp != q->dp)) return false;
    if (!q->dp && dp > 1 && dp > q->batch) return false; /* would idle */
    return pp <= q->config->n_layers && dp * pp * tp <= q->rack->n;
}

static mu_status programs_for(struct maker *m, uint32_t tp)
{
    for (uint32_t rank = 0; rank < tp && !m->programs[tp][rank]; rank++) {
        const struct mu_shard shard = {.tp_rank = rank, .tp_size = tp};
        MU_TRY(mu_plan_program(m->q->config, &shard, m->arena, &m->programs[tp][rank], m->err));
    }
    return MU_OK;
}

static mu_status shards_for(struct maker *m, uint32_t tp, const struct mu_plan_weights *weights)
{
    MU_TRY(programs_for(m, tp));
    m->shards[tp] = mu_arena_alloc(m->arena, tp, sizeof *m->shards[tp]);
    if (!m->shards[tp]) return mu_fail_memory(m->err, tp * sizeof *m->shards[tp]);
    for (uint32_t rank = 0; rank < tp; rank++)
        MU_TRY(mu_plan_shard_make(m->q->config, weights, m->programs[tp][rank], m->arena,
                                  &m->shards[tp][rank], m->err));
    return MU_OK;
}

static mu_status add_candidate(struct maker *m, uint32_t dp, uint32_t pp, uint32_t tp,
                               const struct mu_plan_format *format)
{
    struct mu_plan *plan = m->plan;
    MU_ASSERT(plan->n_candidates < m->room);
    struct mu_plan_candidate *c = &plan->candidates[plan->n_candidates];
    *c = (struct mu_plan_candidate){
        .dp = dp, .pp = pp, .tp = tp, .format = format, .n_devices = dp * pp * tp};
    c->devices = mu_arena_alloc(m->arena, c->n_devices, sizeof *c->devices);
    if (!c->devices) return mu_fail_memory(m->err, c->n_devices * sizeof *c->devices);
    mu_plan_candidate_fill(m->q, m->shards[tp], c);
    plan->n_candidates++;
    return MU_OK;
}

static mu_status add_format(struct maker *m, uint32_t i)
{
    const struct mu_plan_request *q = m->q;
    struct mu_plan_weights weights;
    bool own = i == 0;
    MU_TRY(mu_plan_weights_make(q->config, q->formats[i], own ? q->tensors : NULL,
                                own ? q->n_tensors : 0, m->arena, &weights, m->err));
    m->plan->weights_bytes[i] = weights.total_bytes;
    for (uint32_t tp = 1; tp <= MU_MIN(TP_MAX, q->rack->n); tp++) {
        if (!tp_allowed(q, tp)) continue;
        MU_TRY(shards_for(m, tp, &weights));
        for (uint32_t pp = 1; pp <= most_stages(q, tp); pp++)
            for (uint32_t dp = 1; dp <= q->rack->n / tp / pp; dp++)
                if (allowed(q, dp, pp, tp)) MU_TRY(add_candidate(m, dp, pp, tp, q->formats[i]));
    }
    return MU_OK;
}

/* ---- Ranking ------------------------------------------------------------------------------- */

/* Smaller is better. */
static double score(const struct mu_plan_candidate *c, enum mu_plan_goal goal)
{
    const struct mu_plan_prediction *p = &c->predicted;
    switch (goal) {
    case MU_PLAN_LATENCY:
        return p->tpot_s;
    case MU_PLAN_THROUGHPUT:
        return -p->decode_tokens_per_s;
    case MU_PLAN_COST:
        return -p->decode_tokens_per_s / c->n_devices;
    case MU_PLAN_FIT:
        break;
    }
    return c->n_devices - p->kv_room_tokens * 1e-12;
}

struct ranked {
    double score;
    struct mu_plan_candidate candidate;
};

static int compare(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    if (x->candidate.fits != y->candidate.fits) return x->candidate.fits ? -1 : 1;
    if (x->score != y->score) return x->score < y->score ? -1 : 1;
    if (x->candidate.n_devices != y->candidate.n_devices)
        return x->candidate.n_devices < y->candidate.n_devices ? -1 : 1;
    return 0;
}

static bool unlike(const struct mu_plan_candidate *c)
{
    for (uint32_t i = 1; i < c->n_devices; i++)
        if (c->devices[i].device != c->devices[0].device) return true;
    return false;
}

/* Of two that are as good by the goal: alike devices, then the sooner first token, then fewer. */
static bool better_tie(const struct mu_plan_candidate *a, const struct mu_plan_candidate *b)
{
    double x = a->predicted.ttft_s, y = b->predicted.ttft_s;
    if (unlike(a) != unlike(b)) return unlike(b);
    if (fabs(x - y) > TIE * y) return x < y;
    return a->n_devices < b->n_devices;
}

static bool is_tie(double a, double b)
{
    return fabs(a - b) <= TIE * fabs(a);
}

/* Predictions are not so sharp that a hair decides: the best of the nearly equal comes first. */
static void settle_ties(struct mu_plan *plan)
{
    struct mu_plan_candidate *list = plan->candidates;
    double first = score(&list[0], plan->request.goal);
    uint32_t best = 0;
    if (plan->request.goal == MU_PLAN_FIT) return; /* counts devices */
    for (uint32_t i = 1; i < plan->n_candidates && list[i].fits; i++)
        if (is_tie(first, score(&list[i], plan->request.goal)) && better_tie(&list[i], &list[best]))
            best = i;
    struct mu_plan_candidate chosen = list[best];
    memmove(list + 1, list, best * sizeof *list);
    list[0] = chosen;
}

static mu_status rank(struct maker *m)
{
    struct mu_plan *plan = m->plan;
    struct ranked *list = mu_arena_alloc(m->arena, plan->n_candidates + 1, sizeof *list);
    if (!list) return mu_fail_memory(m->err, plan->n_candidates * sizeof *list);
    for (uint32_t i = 0; i < plan->n_candidates; i++)
        list[i] = (struct ranked){score(&plan->candidates[i], m->q->goal), plan->candidates[i]};
    qsort(list, plan->n_candidates, sizeof *list, compare);
    for (uint32_t i = 0; i < plan->n_candidates; i++)
        plan->candidates[i] = list[i].candidate;
    settle_ties(plan);
    return MU_OK;
}

/* Which of the degrees asked for cannot be. */
static mu_status refuse_degrees(const struct maker *m)
{
    const struct mu_plan_request *q = m->q;
    const struct mu_config *c = q->config;
    mu_status status;
    if (q->tp && !tp_allowed(q, q->tp)) {
        if (q->tp > mu_model_tp_max(c))
            status = mu_fail(m->err, MU_E_USAGE,
                             "tp %u: the sums of this model are cut into %u parts, one a rank",
                             q->tp, mu_model_tp_max(c));
        else if (q->engine->even_heads == 0)
            status = mu_fail(m->err, MU_E_USAGE,
                             "tp %u: %s norms all heads together, which ranks do not share", q->tp,
                             c->architecture);
        else
            status = mu_fail(m->err, MU_E_USAGE,
                             "tp %u: %s wants degrees that divide %u heads of "
                             "queries and %u of keys",
                             q->tp, q->engine->name, c->n_heads, c->n_kv_heads);
        mu_err_cure(m->err, "use more devices with --pp (stages) or --dp (replicas)");
    } else if (q->pp > c->n_layers) {
        status = mu_fail(m->err, MU_E_USAGE, "pp %u: the model has %u layers, one a stage at least",
                         q->pp, c->n_layers);
    } else {
        status =
            mu_fail(m->err, MU_E_USAGE, "no placement has these degrees on %u devices", q->rack->n);
        mu_err_cure(m->err, "leave --tp, --pp or --dp out, or name more devices in --on");
    }
    return status;
}

static mu_status make(struct maker *m)
{
    struct mu_plan *plan = m->plan;
    const struct mu_plan_request *q = m->q;
    uint32_t n = MU_MIN(q->rack->n, (uint32_t)TP_MAX), each = 0;
    for (uint32_t tp = 1; tp <= n; tp++)
        for (uint32_t pp = 1; pp <= most_stages(q, tp); pp++)
            each += q->rack->n / tp / pp;
    m->room = each * q->n_formats;
    plan->candidates = mu_arena_alloc(m->arena, m->room, sizeof *plan->candidates);
    plan->weights_bytes = mu_arena_alloc(m->arena, q->n_formats, sizeof *plan->weights_bytes);
    if (!plan->candidates || !plan->weights_bytes)
        return mu_fail_memory(m->err, m->room * sizeof *plan->candidates);
    for (uint32_t i = 0; i < q->n_formats; i++)
        MU_TRY(add_format(m, i));
    return plan->n_candidates ? rank(m) : refuse_degrees(m);
}

/* ---- Saying why ---------------------------------------------------------------------------- */

static const char *name_of(const struct mu_plan_candidate *c, char *out, size_t size)
{
    (void)snprintf(out, size, "tp %u x pp %u x dp %u, %s", c->tp, c->pp, c->dp, c->format->name);
    return out;
}

/* What decided between two that are as good by the goal. */
static const char *cause_of_tie(const struct mu_plan_candidate *best,
                                const struct mu_plan_candidate *next)
{
    if (unlike(next) && !unlike(best)) return "as fast within 1 %, but on unlike devices";
    if (next->predicted.ttft_s > (1 + TIE) * best->predicted.ttft_s)
        return "as fast within 1 %, but its first token comes later";
    if (next->n_devices > best->n_devices) return "as fast within 1 %, but with more devices";
    return "as good within 1 %";
}

/* The one difference that says most about the times. */
static const char *cause_of_speed(const struct mu_plan_candidate *best,
                                  const struct mu_plan_candidate *next)
{
    bool reads_more = next->predicted.weights_s > (1 + TIE) * best->predicted.weights_s;
    if (next->format != best->format)
        return reads_more ? "it has more bytes to read for each token"
                          : "its arithmetic is slower on this device";
    if (reads_more && next->n_devices < best->n_devices)
        return "it shares the reading among fewer devices";
    if (next->dp > best->dp) return "each replica reads all of its weights for fewer streams";
    if (next->pp > best->pp) return "its stages wait for each other, token by token";
    if (reads_more) return "its slowest devices have more to read for each token";
    if (next->tp > best->tp) return "it exchanges among more devices, twice a layer";
    return "it spends more beside reading weights";
}

static const char *cause(const struct mu_plan *plan, const struct mu_plan_candidate *best,
                         const struct mu_plan_candidate *next)
{
    enum mu_plan_goal goal = plan->request.goal;
    if (goal == MU_PLAN_FIT)
        return next->n_devices > best->n_devices ? "it takes more devices"
                                                 : "it leaves less room for keys and values";
    if (is_tie(score(best, goal), score(next, goal))) return cause_of_tie(best, next);
    if (goal == MU_PLAN_COST) return "it makes fewer tokens for each device";
    return cause_of_speed(best, next);
}

static void explain(struct mu_plan *plan)
{
    const struct mu_plan_candidate *best = &plan->candidates[0];
    const struct mu_plan_candidate *next = plan->n_candidates > 1 ? best + 1 : NULL;
    char a[64], b[64];
    if (!best->fits) return;
    if (!next || !next->fits) {
        (void)snprintf(plan->why, sizeof plan->why, "%s is the only placement %s",
                       name_of(best, a, sizeof a), next ? "that fits" : "there is");
        return;
    }
    const struct mu_plan_prediction *p = &best->predicted, *q = &next->predicted;
    (void)snprintf(plan->why, sizeof plan->why,
                   "%s is predicted at %.1f tok/s, %.2f ms a token and %.0f ms to the first; %s at "
                   "%.1f, %.2f and %.0f: %s",
                   name_of(best, a, sizeof a), p->decode_tokens_per_s, 1e3 * p->tpot_s,
                   1e3 * p->ttft_s, name_of(next, b, sizeof b), q->decode_tokens_per_s,
                   1e3 * q->tpot_s, 1e3 * q->ttft_s, cause(plan, best, next));
    size_t n = strlen(plan->why);
    enum mu_plan_goal goal = plan->request.goal;
    bool by_speed = (goal == MU_PLAN_LATENCY || goal == MU_PLAN_THROUGHPUT) &&
                    !is_tie(score(best, goal), score(next, goal));
    if (!by_speed || plan->request.config->n_experts) return; /* a step reads some experts */
    (void)snprintf(plan->why + n, sizeof plan->why - n,
                   " (%.2f of its %.2f ms a step read weights at the memory's limit, against %.2f "
                   "of %.2f)",
                   1e3 * q->weights_s, 1e3 * q->step_s, 1e3 * p->weights_s, 1e3 * p->step_s);
}

/* ---- What would fit ------------------------------------------------------------------------ */

static bool any_fits(const struct mu_plan_request *q)
{
    struct mu_plan plan = {.arena = mu_arena_create(ARENA_BYTES_MAX)};
    struct maker m = {.plan = &plan, .arena = plan.arena, .q = q};
    bool fits = plan.arena && make(&m) == MU_OK && plan.candidates[0].fits;
    mu_arena_destroy(plan.arena);
    return fits;
}

/* Fewer bits on the same devices: the most that fit. */
static const struct mu_plan_format *fewer_bits(const struct mu_plan_request *q)
{
    static const char *const names[] = {"fp8", "q6_k", "awq", "q3_k", "q2_k"};
    for (size_t i = 0; i < MU_ARRAY_LEN(names); i++) {
        struct mu_plan_request less = *q;
        less.n_formats = 1;
        less.formats[0] = mu_plan_format(mu_str(names[i]), NULL);
        less.n_tensors = 0;
        less.ask = NULL;
        if (!mu_plan_engine_reads(q->engine, less.formats[0])) continue;
        if (less.formats[0]->bits < q->formats[0]->bits && any_fits(&less)) return less.formats[0];
    }
    return NULL;
}

/* More of the last kind of device; 0: not even many. */
static uint32_t more_devices(const struct mu_plan_request *q)
{
    struct mu_plan_rack rack = *q->rack;
    struct mu_plan_request more = *q;
    more.rack = &rack;
    more.dp = q->dp ? q->dp : 1;
    more.ask = NULL;
    for (uint32_t i = 1; i <= MORE_DEVICES && rack.n < MU_PLAN_DEVICES_MAX; i++) {
        rack.slots[rack.n] = rack.slots[rack.n - 1];
        if (rack.n % rack.slots[rack.n].device->node == 0) rack.slots[rack.n].host++;
        rack.n++;
        if (any_fits(&more)) return i;
    }
    return 0;
}

/* Tokens of each stream, prompt and answer, with which all would fit; 0: not even few. */
static uint32_t shorter_context(const struct mu_plan *plan)
{
    struct mu_plan_request less = plan->request;
    double room = 0;
    for (uint32_t i = 0; i < plan->n_candidates; i++)
        room = MU_MAX(room, plan->candidates[i].predicted.kv_room_tokens);
    uint32_t tokens = (uint32_t)MU_MIN(room / less.batch, (double)less.input + less.output - 1);
    if (tokens < 2) return 0;
    less.output = MU_MIN(less.output, tokens / 2);
    less.input = tokens - less.output;
    return any_fits(&less) ? tokens : 0;
}

static void find_nearest(struct mu_plan *plan)
{
    const struct mu_plan_request *q = &plan->request;
    struct mu_text text;
    uint32_t tokens = shorter_context(plan);
    mu_text_init(&text, sizeof plan->nearest - 1);
    const struct mu_plan_format *format = fewer_bits(q);
    uint32_t more = more_devices(q);
    if (format) mu_text_printf(&text, "weights in %s on these devices", format->name);
    if (more)
        mu_text_printf(&text, "%s%u more %s", text.len ? "; " : "", more,
                       q->rack->slots[q->rack->n - 1].device->name);
    if (tokens)
        mu_text_printf(&text, "%s%u tokens of context for each of %u streams", text.len ? "; " : "",
                       tokens, q->batch);
    (void)snprintf(plan->nearest, sizeof plan->nearest, "%s", mu_text_get(&text));
    mu_text_fini(&text);
}

/* ---- The whole ----------------------------------------------------------------------------- */

mu_status mu_plan_make(const struct mu_plan_request *request, struct mu_plan **out,
                       struct mu_err *err)
{
    struct mu_arena *arena = mu_arena_create(ARENA_BYTES_MAX);
    struct mu_plan *plan = arena ? mu_arena_alloc(arena, 1, sizeof *plan) : NULL;
    if (!plan) {
        mu_arena_destroy(arena);
        return mu_fail_memory(err, sizeof *plan);
    }
    plan->arena = arena;
    plan->request = *request;
    struct maker m = {.plan = plan, .arena = arena, .q = &plan->request, .err = err};
    mu_status status = make(&m);
    if (status == MU_OK) {
        explain(plan);
        if (!plan->candidates[0].fits) find_nearest(plan);
        *out = plan;
    } else {
        mu_plan_destroy(plan);
    }
    return status;
}

void mu_plan_destroy(struct mu_plan *plan)
{
    if (plan) mu_arena_destroy(plan->arena);
}
