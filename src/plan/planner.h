/*
 * The planner: a model, a rack, an engine and a question -> placements with memory and predicted
 * speed, the best one chosen and explained. Nothing is run and no weight is read.
 *
 * Pure: no I/O, no clock. Any thread; a plan is read-only once made.
 */
#ifndef MU_PLAN_PLANNER_H
#define MU_PLAN_PLANNER_H

#include "plan/costs.h"
#include "plan/rack.h"

enum mu_plan_goal { MU_PLAN_LATENCY, MU_PLAN_THROUGHPUT, MU_PLAN_COST, MU_PLAN_FIT };

struct mu_plan_memory {
    double weights_bytes, kv_bytes, activation_bytes, overhead_bytes, budget_bytes;
};

/* One device of a placement. */
struct mu_plan_device {
    const struct mu_probe_device *device;
    uint32_t slot, replica, stage, tp_rank, layer_first, layer_end;
    struct mu_plan_memory memory;
};

struct mu_plan_prediction {
    double decode_tokens_per_s;  /* of all streams together */
    double prefill_tokens_per_s; /* of one prompt alone, on each replica */
    double ttft_s, tpot_s;
    double step_s;                  /* of decode with no prompt beside it */
    double weights_s;               /* the part of it that reading weights takes at the limit */
    double kv_room_tokens;          /* that the cache could hold on all replicas */
    double watts, joules_per_token; /* at most: all devices at their limit; 0: not published */
    double brought[MU_HOME_COUNT];  /* bytes of weights that come from there in each step */
};

struct mu_plan_candidate {
    uint32_t dp, pp, tp;
    const struct mu_plan_format *format;
    bool kv8;
    bool fits;
    struct mu_plan_device *devices; /* [dp * pp * tp] */
    uint32_t n_devices;
    struct mu_plan_prediction predicted;
};

#define MU_PLAN_FORMATS_MAX 16

/* What the engine itself says that a placement takes, where it can be asked: replaces the planner's
 * own sums. Fills weights, kv, activations and overhead of `n` devices; false: cannot say. */
typedef bool mu_plan_ask(void *arg, const struct mu_plan_candidate *candidate,
                         struct mu_plan_memory *out, uint32_t n);

struct mu_plan_request {
    const struct mu_config *config;
    const struct mu_tensor *tensors; /* of the model's file, for its own format; or none */
    size_t n_tensors;
    const struct mu_plan_format *formats[MU_PLAN_FORMATS_MAX]; /* the first is the model's own */
    uint32_t n_formats;
    const struct mu_plan_rack *rack;
    const struct mu_probe_engine *engine;
    const struct mu_plan_timed *timed; /* of all devices of the rack; NULL: by published limits */
    double kv_bits;                    /* 0: as the engine does by itself; or 16, 8 */
    uint32_t batch, input, output;
    enum mu_plan_goal goal;
    uint32_t tp, pp, dp; /* 0: any */
    const char *costs;   /* where they are from, in a few words: "catalogue" */
    mu_plan_ask *ask;
    void *ask_arg;
};

struct mu_plan {
    struct mu_arena *arena; /* everything below */
    struct mu_plan_request request;
    struct mu_plan_candidate *candidates; /* best first; those that do not fit are last */
    uint32_t n_candidates;
    double *weights_bytes; /* [n_formats] of the whole model */
    char why[400];         /* why the first is first, against the second, with figures */
    char nearest[400];     /* when nothing fits: what would */
};

/* MU_OK also when nothing fits: candidates[0].fits says. */
mu_status mu_plan_make(const struct mu_plan_request *request, struct mu_plan **out,
                       struct mu_err *err);
void mu_plan_destroy(struct mu_plan *plan);

static inline double mu_plan_memory_total(const struct mu_plan_memory *m)
{
    return m->weights_bytes + m->kv_bytes + m->activation_bytes + m->overhead_bytes;
}

#endif
