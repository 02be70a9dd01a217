/* Prices of placements by parts; see placed.h and docs/internals/pricing.md. */
#include "plan/placed.h"

#include <math.h>

#define ARENA_MAX_BYTES (64u << 20)

struct stages {
    const struct mu_plan_placed_request *request;
    struct mu_plan_shard shards[MU_STAGES_MAX];
    double sends[MU_STAGES_MAX]; /* hand-overs of each, */
    double all_sends;            /* and of all */
    double spans[MU_STAGES_MAX]; /* share of the parts from a stage's first to its last; 0: all
                                  * between are its own */
    struct mu_plan_place place;
    struct mu_plan_staging staging;
};

static mu_status make_stage(struct stages *s, unsigned i, const struct mu_plan_weights *weights,
                            struct mu_arena *arena, struct mu_plan_placed *out, struct mu_err *err)
{
    const struct mu_plan_placed_request *q = s->request;
    const struct mu_shard shard = {.stage = i, .places = q->places, .tp_size = 1};
    struct mu_program *program;
    MU_TRY(mu_plan_program(q->config, &shard, arena, &program, err));
    MU_TRY(mu_plan_stage_make(q->config, weights, program, arena, &s->shards[i], err));
    for (uint32_t k = 0; k < s->shards[i].first[1]; k++) {
        const struct mu_plan_work *w = &s->shards[i].works[k];
        s->sends[i] += w->kind == MU_OP_SEND;
        s->all_sends += w->kind == MU_OP_SEND;
        if (w->home != MU_HOME_DEVICE)
            out->bytes[w->home] += w->bytes * (w->experts ? s->shards[i].experts : 1);
    }
    return MU_OK;
}

static double stage_seconds(const struct stages *s, unsigned i, const struct mu_plan_step *step)
{
    const struct mu_plan_shard *shard = &s->shards[i];
    double rows = step->streams + step->chunk;
    double sends = s->sends[i] > 0 ? s->sends[i] * mu_plan_hand_over(shard, s->place.engine,
                                                                     s->place.link, rows)
                                   : 0;
    return mu_plan_seconds(shard, &s->place, step, 0, shard->n_layers) + sends +
           mu_plan_staged_seconds(shard, &s->place, step, &s->staging);
}

/* A stage that is come back to waits for what stands between: it has its whole span for one part of
 * the streams, and takes no other meanwhile. */
static void find_spans(struct stages *s)
{
    const struct mu_plan_placed_request *q = s->request;
    uint32_t first[MU_STAGES_MAX] = {0}, last[MU_STAGES_MAX] = {0}, own[MU_STAGES_MAX] = {0};
    uint32_t n = mu_part_count(q->config);
    for (uint32_t i = 0; i < n; i++) {
        unsigned stage = q->places[i].stage;
        if (own[stage]++ == 0) first[stage] = i;
        last[stage] = i;
    }
    for (unsigned i = 0; i < q->n_stages; i++)
        if (own[i] > 0 && last[i] - first[i] + 1 > own[i])
            s->spans[i] = (double)(last[i] - first[i] + 1) / n;
}

/* All stages one after the other; or, of `parts` at work at once, as long as the slowest takes for
 * all. */
static double pass_seconds(const struct stages *s, const struct mu_plan_step *step, double parts)
{
    const struct mu_probe_engine *e = s->request->engine;
    double sum = 0, slowest = 0;
    for (unsigned i = 0; i < s->request->n_stages; i++) {
        double seconds = stage_seconds(s, i, step);
        sum += seconds;
        slowest = MU_MAX(slowest, seconds);
    }
    if (s->all_sends > 0)
        sum += s->all_sends * mu_plan_wake(s->place.link, sum / (s->all_sends + 1));
    for (unsigned i = 0; i < s->request->n_stages; i++)
        slowest = MU_MAX(slowest, s->spans[i] * sum);
    return MU_MAX(e->step_s + e->sequence_s * step->streams + sum, parts * slowest);
}

static void price(const struct stages *s, struct mu_plan_placed *out)
{
    const struct mu_plan_placed_request *q = s->request;
    double input = q->input, n = ceil(input / MU_MIN(q->engine->chunk, input));
    double parts = MU_MIN((double)q->n_stages, (double)q->batch);
    struct mu_plan_step decode = {.streams = q->batch / parts, .context = input + 0.5 * q->output};
    struct mu_plan_step first = {.chunk = input / n};
    struct mu_plan_step last = {.chunk = input / n, .past = input - input / n};
    out->step_s = pass_seconds(s, &decode, parts);
    out->prefill_s =
        q->engine->first_s + n * (pass_seconds(s, &first, 1) + pass_seconds(s, &last, 1)) / 2;
}

/* Bytes come as fast as they are copied; from the disk no faster than it is read. */
static void set_staging(struct stages *s)
{
    const struct mu_plan_placed_request *q = s->request;
    const struct mu_plan_costs *c = &q->timed->costs;
    double read = q->file_bytes_per_s > 0 ? 1 / q->file_bytes_per_s : 0;
    s->staging = (struct mu_plan_staging){.core_left = q->core_left, .n_threads = q->n_threads};
    s->staging.fill_s[MU_HOME_HOST] = c->copy_s;
    s->staging.fill_s[MU_HOME_FILE] = MU_MAX(c->file_s, read);
    s->staging.load_s[MU_HOME_HOST] = c->load_s[0];
    s->staging.load_s[MU_HOME_FILE] = c->load_s[1];
}

mu_status mu_plan_placed_price(const struct mu_plan_placed_request *request,
                               struct mu_plan_placed *out, struct mu_err *err)
{
    struct mu_plan_weights weights;
    struct mu_arena *arena = mu_arena_create(ARENA_MAX_BYTES);
    struct stages *s = arena ? mu_arena_alloc(arena, 1, sizeof *s) : NULL;
    *out = (struct mu_plan_placed){.step_s = 0};
    mu_status status = s ? mu_plan_weights_make(request->config, request->format, request->tensors,
                                                request->n_tensors, arena, &weights, err)
                         : mu_fail_memory(err, sizeof *s);
    if (status == MU_OK) {
        s->request = request;
        s->place = (struct mu_plan_place){.device = request->device,
                                          .link = request->device->link,
                                          .engine = request->engine,
                                          .kv_bytes = 2,
                                          .timed = request->timed};
        set_staging(s);
    }
    for (unsigned i = 0; status == MU_OK && i < request->n_stages; i++)
        status = make_stage(s, i, &weights, arena, out, err);
    if (status == MU_OK) {
        find_spans(s);
        price(s, out);
    }
    mu_arena_destroy(arena);
    return status;
}
