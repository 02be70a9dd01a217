/* What our own operations take on this machine, each timed alone; see measure.h. This file has the
 * stop-watch and the order of things; what is timed is in products.c, attention.c and rows.c. */
#include "measure/measure_int.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <math.h>
#include <string.h>

#define ROUND_SECONDS 0.0015 /* of passes that are timed together */
#define TIMED_SECONDS 0.007  /* of rounds */
#define ROUNDS_LEAST  3
#define ROUNDS_MOST   32
#define SWEEPS        3   /* over all, since machines are slower at times */
#define MEETINGS      200 /* timed together */
#define PARTS         4
#define TOLD                                                                                       \
    (SWEEPS * (MU_PLAN_MATRICES + PARTS - 1) + 1) /* parts, each matrix for itself, and steps */

float mu_timed_value(size_t i)
{
    return (float)((i * 2654435761u >> 7) % 1009) * 0.002f - 1.0f;
}

struct round {
    struct mu_team *team;
    const struct mu_timed_op *op;
    uint32_t first, n; /* passes */
};

static void round_member(void *arg, unsigned member)
{
    struct round *r = arg;
    uint32_t piece;
    for (uint32_t pass = r->first; pass < r->first + r->n; pass++) {
        while ((piece = mu_team_claim(r->team, member, r->op->n_pieces)) < r->op->n_pieces)
            r->op->piece(r->op->arg, pass, piece, member);
        mu_team_barrier(r->team, member);
    }
}

static double round_seconds(struct round *r)
{
    uint64_t begin = mu_clock_ns();
    mu_team_run(r->team, round_member, r);
    r->first += r->n;
    return mu_clock_seconds_since(begin) / r->n;
}

double mu_timed_seconds(struct mu_timed *timed, const struct mu_timed_op *op)
{
    struct round r = {.team = timed->team, .op = op, .n = 1};
    double rounds[ROUNDS_MOST] = {round_seconds(&r)}; /* and warms what can be warm */
    r.n = (uint32_t)MU_MAX(1.0, MU_MIN(ROUND_SECONDS / rounds[0], 1e4));
    uint64_t begin = mu_clock_ns();
    unsigned n = 0;
    while (n < ROUNDS_LEAST || (n < ROUNDS_MOST && mu_clock_seconds_since(begin) < TIMED_SECONDS))
        rounds[n++] = round_seconds(&r);
    double typical = mu_timed_median(rounds, n);
    return MU_MAX(typical - timed->costs->meeting_s, typical / 10);
}

mu_status mu_timed_alloc(struct mu_timed *timed, uint64_t bytes, void **out, struct mu_err *err)
{
    struct mu_timed_room *room = &timed->rooms[timed->n_rooms];
    MU_ASSERT(timed->n_rooms < MU_TIMED_ROOMS_MAX);
    room->bytes = bytes;
    MU_TRY(mu_device_alloc(timed->device, MU_PURPOSE_WEIGHTS, bytes, "a measurement", &room->memory,
                           err));
    timed->n_rooms++;
    *out = room->memory;
    return MU_OK;
}

void mu_timed_free(struct mu_timed *timed)
{
    while (timed->n_rooms > 0) {
        struct mu_timed_room *room = &timed->rooms[--timed->n_rooms];
        mu_device_free(timed->device, MU_PURPOSE_WEIGHTS, room->memory, room->bytes);
    }
}

void mu_timed_tell(struct mu_timed *timed)
{
    timed->done++;
    if (timed->progress) timed->progress->show(timed->progress->arg, timed->done, TOLD);
}

static void nothing(void *arg, uint32_t pass, uint32_t piece, unsigned member)
{
    (void)arg, (void)pass, (void)piece, (void)member;
}

static double meeting_seconds(struct mu_timed *timed)
{
    struct mu_timed_op op = {.piece = nothing, .n_pieces = mu_team_size(timed->team)};
    struct round r = {.team = timed->team, .op = &op, .n = MEETINGS};
    double best = round_seconds(&r);
    for (int i = 0; i < 20; i++)
        best = MU_MIN(best, round_seconds(&r));
    return best;
}

static mu_status measure(struct mu_timed *timed, struct mu_err *err)
{
    static mu_status (*const parts[PARTS])(struct mu_timed *, struct mu_err *) = {
        mu_timed_products, mu_timed_attention, mu_timed_rows, mu_timed_copies};
    timed->costs->meeting_s = meeting_seconds(timed);
    mu_status status = MU_OK;
    for (unsigned i = 0; status == MU_OK && i < PARTS; i++)
        status = parts[i](timed, err);
    mu_timed_free(timed);
    return status;
}

static struct mu_plan_costs medians(const struct mu_plan_costs *sweeps)
{
    double values[SWEEPS][MU_PLAN_COSTS], one[SWEEPS];
    struct mu_plan_costs out;
    memcpy(values, sweeps, sizeof values);
    for (size_t i = 0; i < MU_PLAN_COSTS; i++) {
        for (size_t s = 0; s < SWEEPS; s++)
            one[s] = values[s][i];
        values[0][i] = mu_timed_median(one, SWEEPS);
    }
    memcpy(&out, values[0], sizeof out);
    return out;
}

/* How fast the machine is: the mean of before and after. */
static mu_status look(struct mu_plan_costs *costs, struct mu_err *err)
{
    unsigned cores = mu_cpu_usable((int[MU_DEVICE_CPUS_MAX]){0}, MU_DEVICE_CPUS_MAX);
    double read, multiplies;
    MU_TRY(mu_measure_read_bandwidth(cores, NULL, &read, err));
    MU_TRY(mu_measure_multiplies(cores, &multiplies, err));
    costs->read_s += 0.5 / read;
    costs->multiply_s += 0.5 / multiplies;
    return MU_OK;
}

static mu_status sweep(struct mu_timed *timed, unsigned n_threads, struct mu_plan_costs *sweeps,
                       struct mu_err *err)
{
    struct mu_device_spec spec = {
        .name = "timed", .n_threads = n_threads, .budget_bytes = UINT64_MAX};
    /* Pinned where devices' threads are: two that share a core by chance meet a thousand times
     * slower. */
    bool pinned = mu_cpu_usable(spec.cpus, MU_DEVICE_CPUS_MAX) >= n_threads;
    MU_TRY(mu_team_create(n_threads, pinned ? spec.cpus : NULL, &timed->team, err));
    timed->rooms = mu_calloc(MU_TIMED_ROOMS_MAX, sizeof *timed->rooms);
    mu_status status = timed->rooms ? mu_device_open(&spec, &timed->device, err)
                                    : mu_fail_memory(err, sizeof *timed->rooms);
    for (int i = 0; status == MU_OK && i < SWEEPS; i++) {
        timed->costs = &sweeps[i];
        status = measure(timed, err);
    }
    mu_device_close(timed->device);
    mu_free(timed->rooms);
    mu_team_destroy(timed->team);
    return status;
}

/* Steps and controls have the machine for themselves: a team that waits keeps cores awake. */
mu_status mu_measure_costs(const struct mu_kernels *kernels, const struct mu_measure_shape *shape,
                           unsigned n_threads, mu_measure_step *step,
                           const struct mu_measure_progress *progress, struct mu_plan_costs *out,
                           struct mu_err *err)
{
    struct mu_plan_costs sweeps[SWEEPS] = {{.meeting_s = 0}}, beside = {.meeting_s = 0};
    struct mu_timed timed = {.k = kernels, .shape = shape, .progress = progress};
    MU_TRY(look(&beside, err));
    MU_TRY(sweep(&timed, n_threads, sweeps, err));
    MU_TRY(step(n_threads, &beside, err));
    MU_TRY(look(&beside, err));
    mu_timed_tell(&timed);
    *out = medians(sweeps);
    out->step_s = beside.step_s;
    out->sequence_s = beside.sequence_s;
    out->first_s = beside.first_s;
    memcpy(out->load_s, beside.load_s, sizeof out->load_s);
    out->read_s = beside.read_s;
    out->multiply_s = beside.multiply_s;
    return MU_OK;
}
