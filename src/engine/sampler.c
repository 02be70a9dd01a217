/*
 * The sampler; see sampler.h.
 *
 * Few of 128,000 tokens survive top_k, top_p or min_p, so what cannot survive is never sorted: each
 * filter gives a bound that its survivors reach, blocks of ids whose maximum is below the bound are
 * skipped, and the rest is sorted by value, ties by id. In that order every filter but typical_p
 * keeps a prefix.
 */
#include "engine/sampler.h"

#include "base/alloc.h"
#include "base/rng.h"
#include "engine/logits.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define VOCAB_MAX  (1u << 24)
#define ARENA_MAX  ((size_t)1 << 32)
#define RADIX_BITS 11
#define RADIX_SIZE (1u << RADIX_BITS)

/* Bounds from logarithms are lowered by this, so that no rounding takes a survivor. */
#define BOUND_SLACK 1e-3

struct candidate {
    float value;
    uint32_t id;
};

struct mu_sampler_scratch {
    struct mu_arena *arena;
    uint32_t vocab, n_blocks;
    float *edited;                  /* [vocab] logits after bias and penalties */
    float *weights;                 /* [vocab] of the sorted candidates */
    float *block_max;               /* [n_blocks] */
    struct candidate *list, *spare; /* [vocab] */
    uint32_t counts[RADIX_SIZE];
};

/* An id of the prompt or the output, and how often the output has it. */
struct seen {
    uint32_t id, n_output;
};

struct mu_sampler {
    struct mu_arena *arena;
    struct mu_sampling sampling;
    uint32_t vocab, choice;
    uint32_t *ends, n_ends;
    bool has_penalties;
    struct seen *seen;
    uint32_t n_seen, max_seen;
    uint32_t *slots; /* open addressing; 0 is free, else index into seen + 1 */
    uint32_t slot_mask;
};

/* --- creation ------------------------------------------------------------------------------- */

mu_status mu_sampler_scratch_create(uint32_t vocab, struct mu_sampler_scratch **out,
                                    struct mu_err *err)
{
    if (vocab == 0 || vocab > VOCAB_MAX)
        return mu_fail(err, MU_E_INPUT, "a vocabulary of %u tokens cannot be sampled", vocab);
    struct mu_arena *arena = mu_arena_create(ARENA_MAX);
    struct mu_sampler_scratch *s = arena ? mu_arena_alloc(arena, 1, sizeof *s) : NULL;
    if (!s) goto no_memory;
    s->arena = arena;
    s->vocab = vocab;
    s->n_blocks = MU_CEIL_DIV(vocab, MU_LOGITS_BLOCK);
    s->edited = mu_arena_alloc(arena, vocab, sizeof *s->edited);
    s->weights = mu_arena_alloc(arena, vocab, sizeof *s->weights);
    s->block_max = mu_arena_alloc(arena, s->n_blocks, sizeof *s->block_max);
    s->list = mu_arena_alloc(arena, vocab, sizeof *s->list);
    s->spare = mu_arena_alloc(arena, vocab, sizeof *s->spare);
    if (!s->edited || !s->weights || !s->block_max || !s->list || !s->spare) goto no_memory;
    *out = s;
    return MU_OK;
no_memory:
    mu_arena_destroy(arena);
    return mu_fail_memory(err, sizeof *s + vocab * (2 * sizeof *s->list + 2 * sizeof(float)));
}

void mu_sampler_scratch_destroy(struct mu_sampler_scratch *scratch)
{
    if (scratch) mu_arena_destroy(scratch->arena);
}

/* The entry of `id`, made if there is none; NULL when the table is full. */
static struct seen *seen_get(struct mu_sampler *sampler, uint32_t id)
{
    uint32_t slot = (id * 0x9E3779B1u) >> 7 & sampler->slot_mask;
    for (; sampler->slots[slot]; slot = (slot + 1) & sampler->slot_mask)
        if (sampler->seen[sampler->slots[slot] - 1].id == id)
            return &sampler->seen[sampler->slots[slot] - 1];
    if (sampler->n_seen == sampler->max_seen) return NULL;
    struct seen *entry = &sampler->seen[sampler->n_seen++];
    entry->id = id;
    sampler->slots[slot] = sampler->n_seen;
    return entry;
}

/* Makes room for every id that can come, so that counting one needs no memory. */
static bool seen_init(struct mu_sampler *sampler, struct mu_sampler_ids prompt, uint32_t max_output)
{
    uint64_t n = (uint64_t)prompt.n + max_output;
    uint32_t n_slots = 16;
    sampler->max_seen = (uint32_t)MU_MIN(n, sampler->vocab);
    while (n_slots < 2 * sampler->max_seen)
        n_slots *= 2;
    sampler->slot_mask = n_slots - 1;
    sampler->slots = mu_arena_alloc(sampler->arena, n_slots, sizeof *sampler->slots);
    sampler->seen = mu_arena_alloc(sampler->arena, sampler->max_seen, sizeof *sampler->seen);
    if (!sampler->slots || !sampler->seen) return false;
    for (uint32_t i = 0; i < prompt.n; i++)
        (void)seen_get(sampler, prompt.ids[i]);
    return true;
}

static mu_status ids_check(const char *name, struct mu_sampler_ids ids, uint32_t vocab,
                           struct mu_err *err)
{
    for (uint32_t i = 0; i < ids.n; i++)
        if (ids.ids[i] >= vocab)
            return mu_fail(err, MU_E_INPUT, "%s token %u is not in the vocabulary of %u", name,
                           ids.ids[i], vocab);
    return MU_OK;
}

/* A copy in the arena; `ok` stays true unless memory is out. */
static void *copy_array(struct mu_arena *arena, const void *from, uint32_t n, size_t size, bool *ok)
{
    void *copy = mu_arena_alloc(arena, n, size);
    if (!copy)
        *ok = false;
    else if (n)
        memcpy(copy, from, n * size);
    return copy;
}

mu_status mu_sampler_create(const struct mu_sampling *sampling, uint32_t vocab, uint32_t choice,
                            struct mu_sampler_ids prompt, struct mu_sampler_ids ends,
                            uint32_t max_output, struct mu_sampler **out, struct mu_err *err)
{
    MU_TRY(mu_sampling_check(sampling, vocab, err));
    MU_TRY(ids_check("prompt", prompt, vocab, err));
    MU_TRY(ids_check("end", ends, vocab, err));
    struct mu_arena *arena = mu_arena_create(ARENA_MAX);
    struct mu_sampler *s = arena ? mu_arena_alloc(arena, 1, sizeof *s) : NULL;
    if (!s) goto no_memory;
    *s = (struct mu_sampler){
        .arena = arena, .sampling = *sampling, .vocab = vocab, .choice = choice, .n_ends = ends.n};
    bool ok = true, repetition = sampling->repetition_penalty != 1;
    s->has_penalties =
        repetition || sampling->frequency_penalty != 0 || sampling->presence_penalty != 0;
    s->ends = copy_array(arena, ends.ids, ends.n, sizeof *ends.ids, &ok);
    s->sampling.logit_bias = copy_array(arena, sampling->logit_bias, sampling->n_logit_bias,
                                        sizeof *sampling->logit_bias, &ok);
    if (!repetition) prompt.n = 0; /* the other penalties do not ask about the prompt */
    if (!ok || (s->has_penalties && !seen_init(s, prompt, max_output))) goto no_memory;
    *out = s;
    return MU_OK;
no_memory:
    mu_arena_destroy(arena);
    return mu_fail_memory(err, sizeof *s);
}

void mu_sampler_destroy(struct mu_sampler *sampler)
{
    if (sampler) mu_arena_destroy(sampler->arena);
}

void mu_sampler_accept(struct mu_sampler *sampler, uint32_t id)
{
    if (!sampler->has_penalties) return;
    struct seen *seen = seen_get(sampler, id);
    MU_ASSERT(seen && id < sampler->vocab);
    if (seen) seen->n_output++;
}

/* --- a row of logits ------------------------------------------------------------------------ */

/* Logits as they are looked at: relative to their maximum, divided by a temperature. The maximum's
 * relative value is 0, and no overflow can come of a large one. */
struct row {
    const float *logits;
    float max, scale;
    struct mu_sampler_scratch *scratch; /* block_max is that of `logits` */
};

static float relative(const struct row *row, float logit)
{
    return (logit - row->max) * row->scale;
}

static mu_status row_open(struct row *row, const float *logits, struct mu_sampler_scratch *scratch,
                          struct mu_err *err)
{
    uint32_t bad;
    *row = (struct row){.logits = logits, .scale = 1, .scratch = scratch};
    if (!mu_logits_scan(logits, scratch->vocab, scratch->block_max, &row->max, &bad))
        return mu_fail(err, MU_E_INPUT, "the logit of token %u is %s", bad,
                       isnan(logits[bad]) ? "not a number" : "infinite");
    if (row->max == -INFINITY)
        return mu_fail(err, MU_E_INPUT, "no token is left to pick: all logits are -infinity");
    return MU_OK;
}

/* The best token, the lowest id where several are. */
static uint32_t row_best(const struct row *row)
{
    uint32_t block = 0, id;
    while (row->scratch->block_max[block] < row->max)
        block++;
    for (id = block * MU_LOGITS_BLOCK; row->logits[id] < row->max;)
        id++;
    return id;
}

/* Larger values give smaller keys; -0 and 0 the same. */
static uint32_t sort_key(float value)
{
    uint32_t bits;
    value += 0.0f;
    memcpy(&bits, &value, sizeof bits);
    return bits >> 31 ? bits : ~bits & 0x7fffffff;
}

/* Sorts `scratch->list` by value, largest first. It is stable: ids ascend where values are equal if
 * they ascended before. A radix sort's time has no bad cases. */
static void list_sort(struct mu_sampler_scratch *scratch, uint32_t n)
{
    uint32_t *counts = scratch->counts;
    for (unsigned shift = 0; shift < 32; shift += RADIX_BITS) {
        struct candidate *from = scratch->list, *to = scratch->spare;
        memset(counts, 0, sizeof scratch->counts);
        for (uint32_t i = 0; i < n; i++)
            counts[sort_key(from[i].value) >> shift & (RADIX_SIZE - 1)]++;
        for (uint32_t i = 0, sum = 0; i < RADIX_SIZE; i++) {
            uint32_t count = counts[i];
            counts[i] = sum;
            sum += count;
        }
        for (uint32_t i = 0; i < n; i++)
            to[counts[sort_key(from[i].value) >> shift & (RADIX_SIZE - 1)]++] = from[i];
        scratch->list = to;
        scratch->spare = from;
    }
}

/* Sorts all tokens whose relative value reaches `bound` into the list; returns how many. */
static uint32_t row_collect(const struct row *row, float bound)
{
    struct mu_sampler_scratch *scratch = row->scratch;
    uint32_t n = 0;
    bound = MU_MAX(bound, -FLT_MAX); /* minus infinity is never a candidate */
    for (uint32_t b = 0; b < scratch->n_blocks; b++) {
        if (relative(row, scratch->block_max[b]) < bound) continue;
        uint32_t end = MU_MIN((b + 1) * MU_LOGITS_BLOCK, scratch->vocab);
        for (uint32_t id = b * MU_LOGITS_BLOCK; id < end; id++) {
            float value = relative(row, row->logits[id]);
            if (value >= bound) scratch->list[n++] = (struct candidate){value, id};
        }
    }
    list_sort(scratch, n);
    return n;
}

/* A value that at least k tokens reach: that of the k-th best block, since each block has one. */
static float bound_of_best(const struct row *row, uint32_t k)
{
    struct mu_sampler_scratch *scratch = row->scratch;
    if (k > scratch->n_blocks) return -FLT_MAX;
    for (uint32_t b = 0; b < scratch->n_blocks; b++)
        scratch->list[b] = (struct candidate){relative(row, scratch->block_max[b]), b};
    list_sort(scratch, scratch->n_blocks);
    return scratch->list[k - 1].value;
}

/* --- bias and penalties --------------------------------------------------------------------- */

static bool has_edits(const struct mu_sampler *sampler, uint32_t position, const uint32_t *allowed)
{
    return allowed || sampler->n_seen || sampler->sampling.n_logit_bias ||
           (sampler->n_ends && position < sampler->sampling.min_tokens);
}

static void edit_allowed(const uint32_t *allowed, uint32_t vocab, float *logits)
{
    for (uint32_t first = 0; first < vocab; first += 32) {
        uint32_t word = allowed[first / 32], end = MU_MIN(first + 32, vocab);
        if (word == UINT32_MAX) continue;
        for (uint32_t id = first; id < end; id++, word >>= 1)
            if (!(word & 1)) logits[id] = -INFINITY;
    }
}

static void edit_penalties(const struct mu_sampler *sampler, float *logits)
{
    float repetition = (float)sampler->sampling.repetition_penalty;
    float frequency = (float)sampler->sampling.frequency_penalty;
    float presence = (float)sampler->sampling.presence_penalty;
    for (uint32_t i = 0; i < sampler->n_seen; i++) {
        const struct seen *seen = &sampler->seen[i];
        float *x = &logits[seen->id];
        *x = *x < 0 ? *x * repetition : *x / repetition;
        if (seen->n_output) *x -= frequency * (float)seen->n_output + presence;
        if (*x > FLT_MAX) *x = FLT_MAX;
    }
}

static void edit(const struct mu_sampler *sampler, uint32_t position, const uint32_t *allowed,
                 float *logits)
{
    const struct mu_sampling *sampling = &sampler->sampling;
    if (allowed) edit_allowed(allowed, sampler->vocab, logits);
    for (uint32_t i = 0; position < sampling->min_tokens && i < sampler->n_ends; i++)
        logits[sampler->ends[i]] = -INFINITY;
    for (uint32_t i = 0; i < sampling->n_logit_bias; i++)
        logits[sampling->logit_bias[i].id] += sampling->logit_bias[i].bias;
    edit_penalties(sampler, logits);
}

/* --- filters -------------------------------------------------------------------------------- */

static bool is_greedy(const struct mu_sampling *sampling)
{
    return sampling->greedy || sampling->temperature < MU_TEMPERATURE_GREEDY;
}

/* The filters as they apply to one vocabulary. */
struct filters {
    uint32_t top_k; /* 0: off */
    double top_p, min_p, typical_p;
    bool min_p_first; /* before top_p */
    bool any;
};

static struct filters filters_of(const struct mu_sampler *sampler)
{
    const struct mu_sampling *s = &sampler->sampling;
    struct filters f = {.top_p = s->top_p,
                        .min_p = s->min_p,
                        .typical_p = s->typical_p,
                        .min_p_first = s->order == MU_SAMPLER_VLLM};
    if (s->top_k > 0 && (uint32_t)s->top_k < sampler->vocab) f.top_k = (uint32_t)s->top_k;
    f.any = f.top_k || f.top_p < 1 || f.min_p > 0 || f.typical_p < 1;
    return f;
}

/* The sorted candidates that remain, with their weights. */
struct head {
    uint32_t n;
    double total;
};

static double sum_of(const float *weights, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += (double)weights[i];
    return sum;
}

/* How many of n candidates reach `mass` of weight: at least one, at most n. */
static uint32_t reach(const float *weights, uint32_t n, double mass)
{
    double sum = (double)weights[0];
    uint32_t i = 1;
    while (i < n && sum < mass)
        sum += (double)weights[i++];
    return i;
}

static uint32_t keep_ties(const struct candidate *list, uint32_t kept, uint32_t n)
{
    while (kept < n && list[kept].value == list[kept - 1].value)
        kept++;
    return kept;
}

/*
 * Keeps the tokens whose surprise is nearest to the expected one (the entropy), nearest first,
 * until they hold typical_p of the probability.
 */
static struct head head_typical(const struct row *row, struct head head, double typical_p)
{
    struct mu_sampler_scratch *scratch = row->scratch;
    double log_total = log(head.total), entropy = 0;
    for (uint32_t i = 0; i < head.n; i++)
        entropy -=
            (double)scratch->weights[i] / head.total * ((double)scratch->list[i].value - log_total);
    for (uint32_t i = 0; i < head.n; i++)
        scratch->list[i].value = (float)-fabs(log_total - (double)scratch->list[i].value - entropy);
    list_sort(scratch, head.n);
    for (uint32_t i = 0; i < head.n; i++)
        scratch->weights[i] = relative(row, row->logits[scratch->list[i].id]);
    mu_logits_exp(scratch->weights, head.n);
    uint32_t kept = reach(scratch->weights, head.n, typical_p * head.total);
    head.n = keep_ties(scratch->list, kept, head.n);
    head.total = sum_of(scratch->weights, head.n);
    return head;
}

/*
 * Applies top_k, min_p and top_p. Their survivors are prefixes of the sorted list, so the order
 * decides only what top_p's share is a share of: of what top_k left, and with min_p_first of what
 * min_p left of that.
 */
static struct head head_filter(const struct row *row, const struct filters *f)
{
    struct mu_sampler_scratch *scratch = row->scratch;
    float *weights = scratch->weights;
    double whole = 0; /* what top_p is a share of, where that is all tokens */
    float bound = -FLT_MAX, sums[MU_SEGMENTS_MAX];
    if (f->top_k) bound = MU_MAX(bound, bound_of_best(row, f->top_k));
    /* Behind top_k, min_p must not take what top_p's share is counted from. */
    if (f->min_p > 0 && (f->min_p_first || !f->top_k))
        bound = MU_MAX(bound, (float)(log(f->min_p) - BOUND_SLACK));
    if (f->top_p < 1 && !f->top_k && !(f->min_p_first && f->min_p > 0)) {
        whole = (double)mu_logits_sum(row->logits, scratch->vocab, row->max, row->scale, sums);
        /* All tokens below an equal share of the tail that goes do not add up to that tail. */
        double share = (1 - f->top_p) * whole / scratch->vocab;
        bound = MU_MAX(bound, (float)(log(share) - BOUND_SLACK));
    }
    uint32_t n = row_collect(row, bound);
    if (f->top_k && f->top_k < n) n = keep_ties(scratch->list, f->top_k, n);
    for (uint32_t i = 0; i < n; i++)
        weights[i] = scratch->list[i].value;
    mu_logits_exp(weights, n);
    uint32_t n_min = 1;
    while (n_min < n && (double)weights[n_min] >= f->min_p)
        n_min++;
    if (f->min_p_first) n = n_min;
    if (f->top_p < 1) n = reach(weights, n, f->top_p * (whole > 0 ? whole : sum_of(weights, n)));
    n = MU_MIN(n, n_min);
    return (struct head){.n = n, .total = sum_of(weights, n)};
}

static struct head head_build(const struct row *row, const struct filters *f)
{
    struct head head = head_filter(row, f);
    return f->typical_p < 1 ? head_typical(row, head, f->typical_p) : head;
}

/* --- picking -------------------------------------------------------------------------------- */

/* The row after bias and penalties, at its temperature. */
static mu_status row_prepare(struct row *row, const struct mu_sampler *sampler, uint32_t position,
                             const uint32_t *allowed, struct mu_err *err)
{
    struct mu_sampler_scratch *scratch = row->scratch;
    if (has_edits(sampler, position, allowed)) {
        memcpy(scratch->edited, row->logits, scratch->vocab * sizeof *scratch->edited);
        edit(sampler, position, allowed, scratch->edited);
        MU_TRY(row_open(row, scratch->edited, scratch, err));
    }
    if (!is_greedy(&sampler->sampling)) row->scale = (float)(1 / sampler->sampling.temperature);
    return MU_OK;
}

/*
 * One uniform number in [0, 1) for each (seed, choice, position): the first two words of
 * Philox4x32-10 with key = seed and counter = {position, choice, 0, 0}. It falls into the shares of
 * the tokens, which lie side by side: by value and then id where there are filters (by typicality
 * with typical_p), else by id.
 */
static uint32_t draw(const struct mu_sampler *sampler, const struct row *row, uint32_t position)
{
    struct mu_sampler_scratch *scratch = row->scratch;
    struct filters filters = filters_of(sampler);
    uint32_t words[4];
    mu_philox(sampler->sampling.seed, (const uint32_t[4]){position, sampler->choice, 0, 0}, words);
    double u = mu_uniform(words[0], words[1]);
    if (!filters.any) {
        float sums[MU_SEGMENTS_MAX];
        (void)mu_logits_sum(row->logits, scratch->vocab, row->max, row->scale, sums);
        return mu_logits_draw(row->logits, scratch->vocab, row->max, row->scale, sums, u);
    }
    struct head head = head_build(row, &filters);
    uint32_t i = 0;
    double goal = u * head.total;
    while (i + 1 < head.n && goal >= (double)scratch->weights[i])
        goal -= (double)scratch->weights[i++];
    return scratch->list[i].id;
}

/* Fills the best k; returns what a relative value exceeds its log-probability by. */
static double logprobs_top(const struct row *row, uint32_t k, struct mu_picked *picked)
{
    float sums[MU_SEGMENTS_MAX];
    uint32_t vocab = row->scratch->vocab;
    double log_sum = log((double)mu_logits_sum(row->logits, vocab, row->max, 1, sums));
    uint32_t n = k ? row_collect(row, bound_of_best(row, MU_MIN(k, vocab))) : 0;
    picked->n_top = MU_MIN(k, n);
    for (uint32_t i = 0; i < picked->n_top; i++) {
        const struct candidate *c = &row->scratch->list[i];
        picked->top[i] = (struct mu_logprob){c->id, (float)((double)c->value - log_sum)};
    }
    return log_sum;
}

mu_status mu_sampler_logprob(const float *logits, uint32_t id, struct mu_sampler_scratch *scratch,
                             float *out, struct mu_err *err)
{
    float max, sums[MU_SEGMENTS_MAX];
    uint32_t bad;
    if (!mu_logits_scan(logits, scratch->vocab, scratch->block_max, &max, &bad))
        return mu_fail(err, MU_E_INPUT, "the logit of token %u is not a number", bad);
    double sum = (double)mu_logits_sum(logits, scratch->vocab, max, 1, sums);
    *out = (float)((double)(logits[id] - max) - log(sum));
    return MU_OK;
}

mu_status mu_sampler_pick(const struct mu_sampler *sampler, const float *logits, uint32_t position,
                          const uint32_t *allowed, struct mu_sampler_scratch *scratch,
                          struct mu_picked *out, struct mu_err *err)
{
    MU_ASSERT(scratch->vocab == sampler->vocab);
    struct mu_picked picked = {.has_logprob = sampler->sampling.n_logprobs >= 0};
    struct row raw, row;
    double log_sum = 0;
    MU_TRY(row_open(&raw, logits, scratch, err));
    if (picked.has_logprob)
        log_sum = logprobs_top(&raw, (uint32_t)sampler->sampling.n_logprobs, &picked);
    row = raw;
    MU_TRY(row_prepare(&row, sampler, position, allowed, err));
    picked.id = is_greedy(&sampler->sampling) ? row_best(&row) : draw(sampler, &row, position);
    if (picked.has_logprob)
        picked.logprob = (float)((double)relative(&raw, logits[picked.id]) - log_sum);
    *out = picked;
    return MU_OK;
}

mu_status mu_sampler_probabilities(const struct mu_sampler *sampler, const float *logits,
                                   uint32_t position, const uint32_t *allowed,
                                   struct mu_sampler_scratch *scratch, float *out,
                                   struct mu_err *err)
{
    struct row row;
    struct filters filters = filters_of(sampler);
    MU_TRY(row_open(&row, logits, scratch, err));
    MU_TRY(row_prepare(&row, sampler, position, allowed, err));
    memset(out, 0, scratch->vocab * sizeof *out);
    if (is_greedy(&sampler->sampling)) {
        out[row_best(&row)] = 1;
        return MU_OK;
    }
    struct head head = head_build(&row, &filters);
    for (uint32_t i = 0; i < head.n; i++)
        out[scratch->list[i].id] = (float)((double)scratch->weights[i] / head.total);
    return MU_OK;
}
