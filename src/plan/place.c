/* One placement's memory and time; see place.h and docs/internals/pricing.md. */
#include "plan/place.h"

#include <math.h>

/* One replica: pp stages of tp ranks on consecutive devices. */
struct replica {
    const struct mu_plan_request *request;
    const struct mu_plan_shard *shards;
    const struct mu_plan_candidate *candidate;
    struct mu_plan_device *devices; /* [pp * tp] */
    uint32_t slot;                  /* of the first */
    double streams, kv_bytes;
};

static bool eight_bit_kv(const struct mu_plan_request *q, const struct mu_plan_candidate *c)
{
    if (q->kv_bits > 0) return q->kv_bits < 16;
    return q->engine->kv8 > 0 && c->format->bits <= 8;
}

/* ---- Memory -------------------------------------------------------------------------------- */

static double budget_of(const struct replica *r, uint32_t device)
{
    const struct mu_plan_slot *slot = &r->request->rack->slots[r->slot + device];
    double all = slot->budget_bytes > 0 ? slot->budget_bytes : slot->device->usable_bytes;
    return all * r->request->engine->memory_share;
}

static double overhead_of(const struct replica *r)
{
    const struct mu_probe_engine *e = r->request->engine;
    uint32_t tp = r->candidate->tp;
    return e->overhead_bytes + (tp == 1 ? 0 : tp == 2 ? e->pair_bytes : e->group_bytes);
}

static double activations_of(const struct replica *r, const struct mu_plan_shard *s, bool last)
{
    double rows = MU_MIN(r->request->engine->chunk, (double)r->request->input) + r->streams;
    return rows * s->row_bytes + (last ? r->streams * s->out_bytes : 0);
}

static struct mu_plan_memory memory_of(const struct replica *r, uint32_t device, uint32_t first,
                                       uint32_t end)
{
    const struct mu_plan_shard *s = &r->shards[device % r->candidate->tp];
    double tokens = (double)r->request->input + r->request->output;
    return (struct mu_plan_memory){
        .weights_bytes = mu_plan_stage_weights(s, first, end),
        .kv_bytes = mu_plan_stage_kv(s, first, end, r->streams, tokens) * r->kv_bytes,
        .activation_bytes = activations_of(r, s, end == s->n_layers),
        .overhead_bytes = overhead_of(r),
        .budget_bytes = budget_of(r, device),
    };
}

/* Tokens of cache that the room beside all else holds; layers with a window count as they fill. */
static double room_of(const struct replica *r)
{
    double room = (double)INFINITY;
    for (uint32_t i = 0; i < r->candidate->pp * r->candidate->tp; i++) {
        const struct mu_plan_device *d = &r->devices[i];
        const struct mu_plan_memory *m = &d->memory;
        double tokens = (double)r->request->input + r->request->output;
        double each = m->kv_bytes / (r->streams * tokens);
        double left = m->budget_bytes - (mu_plan_memory_total(m) - m->kv_bytes);
        if (each > 0) room = MU_MIN(room, MU_MAX(left, 0) / each);
    }
    return isfinite(room) ? room : 0;
}

/* ---- Layers of the stages ------------------------------------------------------------------ */

static bool is_uniform(const struct replica *r)
{
    uint32_t n = r->candidate->pp * r->candidate->tp;
    const struct mu_plan_slot *slots = r->request->rack->slots + r->slot;
    for (uint32_t i = 1; i < n; i++)
        if (slots[i].device != slots[0].device || slots[i].budget_bytes != slots[0].budget_bytes)
            return false;
    return true;
}

static double stage_seconds(const struct replica *r, uint32_t stage, uint32_t first, uint32_t end,
                            const struct mu_plan_step *step)
{
    uint32_t tp = r->candidate->tp;
    const struct mu_probe_link *link =
        tp > 1 ? mu_plan_rack_link(r->request->rack, r->slot + stage * tp, tp) : NULL;
    double slowest = 0;
    for (uint32_t i = 0; i < tp; i++) {
        struct mu_plan_place place = {.device =
                                          r->request->rack->slots[r->slot + stage * tp + i].device,
                                      .link = link,
                                      .engine = r->request->engine,
                                      .kv_bytes = r->kv_bytes,
                                      .timed = r->request->timed};
        slowest = MU_MAX(slowest, mu_plan_seconds(&r->shards[i], &place, step, first, end));
    }
    return slowest;
}

static bool layer_fits(const struct replica *r, uint32_t stage, uint32_t layers)
{
    uint32_t tp = r->candidate->tp;
    for (uint32_t i = 0; i < tp; i++) {
        struct mu_plan_memory m = memory_of(r, stage * tp + i, 0, layers);
        if (mu_plan_memory_total(&m) > m.budget_bytes) return false;
    }
    return true;
}

/* Layer by layer to the stage that would be done first and has room (else to the first so): as if
 * all layers were alike, which they nearly are. */
static void share_by_speed(const struct replica *r, uint32_t *borders)
{
    uint32_t pp = r->candidate->pp, layers = r->request->config->n_layers;
    struct mu_plan_step step = {.streams = r->streams, .context = r->request->input};
    double each[MU_PLAN_DEVICES_MAX];
    uint32_t n[MU_PLAN_DEVICES_MAX] = {0};
    for (uint32_t s = 0; s < pp; s++) {
        each[s] = stage_seconds(r, s, 1, MU_MIN(layers, 2), &step);
        n[s] = 1;
    }
    for (uint32_t given = pp; given < layers; given++) {
        uint32_t best = 0;
        bool best_fits = false;
        for (uint32_t s = 0; s < pp; s++) {
            bool fits = layer_fits(r, s, n[s] + 1);
            bool sooner = (n[s] + 1) * each[s] < (n[best] + 1) * each[best];
            if (s > 0 && (fits == best_fits ? !sooner : !fits)) continue;
            best = s;
            best_fits = fits;
        }
        n[best]++;
    }
    borders[0] = 0;
    for (uint32_t s = 0; s < pp; s++)
        borders[s + 1] = borders[s] + n[s];
}

static void share_layers(const struct replica *r, uint32_t *borders)
{
    uint32_t pp = r->candidate->pp, layers = r->request->config->n_layers;
    if (pp > 1 && !is_uniform(r)) {
        share_by_speed(r, borders);
        return;
    }
    for (uint32_t s = 0; s <= pp; s++) /* as the engine does */
        borders[s] = (uint32_t)((uint64_t)s * layers / pp);
}

static void set_devices(struct replica *r, uint32_t replica, const uint32_t *borders)
{
    uint32_t tp = r->candidate->tp;
    for (uint32_t i = 0; i < r->candidate->pp * tp; i++) {
        uint32_t stage = i / tp;
        r->devices[i] =
            (struct mu_plan_device){.device = r->request->rack->slots[r->slot + i].device,
                                    .slot = r->slot + i,
                                    .replica = replica,
                                    .stage = stage,
                                    .tp_rank = i % tp,
                                    .layer_first = borders[stage],
                                    .layer_end = borders[stage + 1],
                                    .memory = memory_of(r, i, borders[stage], borders[stage + 1])};
    }
}

/* ---- Time ---------------------------------------------------------------------------------- */

/* All stages one after the other, and the slowest of them. */
struct pass {
    double sum, slowest;
};

static struct pass pass_of(const struct replica *r, const struct mu_plan_step *step)
{
    const struct mu_probe_engine *e = r->request->engine;
    struct pass pass = {.sum = e->step_s + e->sequence_s * step->streams};
    uint32_t pp = r->candidate->pp, tp = r->candidate->tp;
    for (uint32_t s = 0; s < pp; s++) {
        const struct mu_plan_device *d = &r->devices[s * tp];
        double t = stage_seconds(r, s, d->layer_first, d->layer_end, step);
        if (s + 1 < pp) { /* of many steps at once, the next stage is busy with others */
            const struct mu_probe_link *link =
                mu_plan_rack_link(r->request->rack, r->slot + (s + 1) * tp - 1, 2);
            pass.sum += mu_plan_wake(link, t);
            t += mu_plan_hand_over(r->shards, e, link, step->streams + step->chunk);
        }
        pass.sum += t;
        pass.slowest = MU_MAX(pass.slowest, t);
    }
    return pass;
}

/* A prompt in `n` chunks, each beside `streams` that decode: stages overlap from chunk to chunk.
 * What a chunk takes grows evenly with what was read before, so the first and the last tell. */
static double prompt_seconds(const struct replica *r, double streams, double context, double *n)
{
    double input = r->request->input;
    *n = ceil(input / MU_MIN(r->request->engine->chunk, input));
    struct mu_plan_step step = {.streams = streams, .context = context, .chunk = input / *n};
    struct pass first = pass_of(r, &step);
    step.past = input - step.chunk;
    struct pass last = pass_of(r, &step);
    if (r->candidate->pp == 1) return *n * (first.sum + last.sum) / 2;
    return first.sum + (*n - 1) * (first.slowest + last.slowest) / 2;
}

/*
 * A closed loop of equal streams: while one answer of `output` tokens is made, each of the others
 * has its prompt read once, and what that costs beyond a step of decode delays everybody by the
 * engine's share of mixing. The first token waits for its own prompt, for some of the others', and
 * for what an engine does before it starts.
 */
static void predict(const struct replica *r, struct mu_plan_prediction *out)
{
    const struct mu_plan_request *q = r->request;
    const struct mu_probe_engine *e = q->engine;
    double parts = MU_MIN((double)r->candidate->pp, r->streams), others = r->streams - 1;
    double context = q->input + 0.5 * q->output, output = MU_MAX(q->output, 1u);
    struct mu_plan_step step = {.streams = r->streams / parts, .context = context};
    struct pass decode = pass_of(r, &step);
    double n;
    out->step_s = MU_MAX(decode.sum, parts * decode.slowest);
    double alone = prompt_seconds(r, 0, 0, &n);
    double mixed = prompt_seconds(r, others / parts, context, &n);
    double extra = MU_MAX(mixed - n * decode.sum, 0);
    out->tpot_s = out->step_s + e->mixing * others / output * extra;
    double busy = MU_MIN(others * extra / (output * out->tpot_s), 0.9);
    out->ttft_s =
        e->first_s + mixed + e->burst * others * extra + e->queue * busy / (1 - busy) * extra / 2;
    out->decode_tokens_per_s = r->streams / out->tpot_s;
    out->prefill_tokens_per_s = q->input / alone;
}

static void add_parts(const struct replica *r, struct mu_plan_prediction *out)
{
    uint32_t tp = r->candidate->tp;
    double slowest = 0; /* of a stage's ranks: their shares of the weights need not be equal */
    for (uint32_t i = 0; i < r->candidate->pp * tp; i++) {
        const struct mu_plan_device *d = &r->devices[i];
        if (d->tp_rank == 0) slowest = 0;
        slowest = MU_MAX(slowest, d->memory.weights_bytes / d->device->bytes_per_s);
        if (d->tp_rank + 1 == tp) out->weights_s += slowest;
        out->watts += d->device->watts;
    }
}

/* ---- The whole ----------------------------------------------------------------------------- */

/* Replicas on alike devices are alike; the slowest speaks for the latency of all. */
static void add_replica(struct mu_plan_candidate *c, const struct mu_plan_prediction *one,
                        bool first)
{
    struct mu_plan_prediction *all = &c->predicted;
    all->decode_tokens_per_s += one->decode_tokens_per_s;
    all->prefill_tokens_per_s += one->prefill_tokens_per_s;
    all->kv_room_tokens += one->kv_room_tokens;
    all->watts += one->watts;
    if (!first && one->tpot_s <= all->tpot_s) return;
    all->tpot_s = one->tpot_s;
    all->ttft_s = one->ttft_s;
    all->step_s = one->step_s;
    all->weights_s = one->weights_s;
}

static bool same_slots(const struct mu_plan_rack *rack, uint32_t a, uint32_t b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (rack->slots[a + i].device != rack->slots[b + i].device ||
            rack->slots[a + i].budget_bytes != rack->slots[b + i].budget_bytes ||
            rack->slots[a + i].host - rack->slots[a].host !=
                rack->slots[b + i].host - rack->slots[b].host)
            return false;
    return true;
}

static void ask_engine(const struct mu_plan_request *q, struct mu_plan_candidate *c)
{
    struct mu_plan_memory told[MU_PLAN_DEVICES_MAX];
    if (!q->ask || !q->ask(q->ask_arg, c, told, c->n_devices)) return;
    for (uint32_t i = 0; i < c->n_devices; i++) {
        told[i].budget_bytes = c->devices[i].memory.budget_bytes;
        c->devices[i].memory = told[i];
    }
}

void mu_plan_candidate_fill(const struct mu_plan_request *request,
                            const struct mu_plan_shard *shards, struct mu_plan_candidate *candidate)
{
    uint32_t each = candidate->pp * candidate->tp, borders[MU_PLAN_DEVICES_MAX + 1];
    struct mu_plan_prediction one = {0};
    candidate->kv8 = eight_bit_kv(request, candidate);
    for (uint32_t i = 0; i < candidate->dp; i++) {
        struct replica r = {.request = request,
                            .shards = shards,
                            .candidate = candidate,
                            .devices = candidate->devices + (size_t)i * each,
                            .slot = i * each,
                            .streams = ceil((double)request->batch / candidate->dp),
                            .kv_bytes = candidate->kv8 ? 1 : 2};
        share_layers(&r, borders);
        set_devices(&r, i, borders);
        if (i == 0 || !same_slots(request->rack, r.slot, r.slot - each, each)) {
            one = (struct mu_plan_prediction){0};
            predict(&r, &one);
            add_parts(&r, &one);
            one.kv_room_tokens = room_of(&r);
        }
        add_replica(candidate, &one, i == 0);
    }
    double streams = candidate->dp * ceil((double)request->batch /
                                          candidate->dp); /* all replicas as busy as the busiest */
    candidate->predicted.decode_tokens_per_s *= request->batch / streams;
    ask_engine(request, candidate);
    candidate->fits = true;
    for (uint32_t i = 0; i < candidate->n_devices; i++) {
        const struct mu_plan_memory *m = &candidate->devices[i].memory;
        candidate->fits = candidate->fits && mu_plan_memory_total(m) <= m->budget_bytes;
    }
    candidate->predicted.joules_per_token =
        candidate->predicted.watts / candidate->predicted.decode_tokens_per_s;
}
