/*
 * This machine as the planner sees it: a device whose limits are our own kernels', each timed
 * alone, and an engine that reaches all of them. Costs are never fitted to runs. The calling
 * thread, with nothing else at work: what was not measured before is measured now.
 */
#ifndef MU_BENCH_HERE_H
#define MU_BENCH_HERE_H

#include "engine/engine.h"
#include "measure/measure.h"
#include "plan/plan.h"

/* A kind of device that shares the machine with others like it. */
struct mu_here {
    char name[96];
    struct mu_probe_device device; /* points to name and link */
    struct mu_probe_link link;
    struct mu_probe_engine engine;
    struct mu_plan_timed timed;
};

/* The format that most of a file's bytes have. */
const struct mu_plan_format *mu_here_format(const struct mu_model_file *file);

/* What is asked about this machine. */
struct mu_here_question {
    const struct mu_model_file *file;
    const struct mu_plan_format *format; /* of the weights */
    bool own_format;                     /* as the file has them */
    const struct mu_kernels *kernels;
    const struct mu_probe_engine *muster; /* the catalogue's row for our engine */
    unsigned n_threads, n_busy, n_ranks;
    bool kept_only; /* nothing is timed: MU_E_MISSING where no costs are kept */
    const struct mu_measure_progress *progress;
};

/* Devices of `n_threads` each (0: all cores), of which `n_busy` work at the same time and exchange
 * among `n_ranks`. Of the engine, what is not measured stays as the catalogue says. Must not be
 * moved afterwards. */
mu_status mu_here_measure(struct mu_here *out, const struct mu_here_question *q,
                          struct mu_err *err);

/* How much memory our engine takes of its devices, for a plan's `ask`: the engine's own sums, so
 * that there are no others. `arg` is this. */
struct mu_here_memory {
    const struct mu_model_file *file;
    const struct mu_plan_format *format; /* the one that the file has; others cannot be asked of */
    enum mu_dtype kv_type, weights;      /* as mu_engine_options */
    uint32_t context, batch;             /* of each stream; streams */
    unsigned n_threads;
};
mu_plan_ask mu_here_ask;

/* A run of our engine on this machine: dp replicas of pp stages of tp devices of `n_threads`. */
struct mu_here_run {
    const struct mu_model_file *file;
    const char *kernels; /* family by name; NULL: the best */
    enum mu_compute compute;
    enum mu_dtype weights; /* as mu_engine_options */
    uint32_t tp, pp, dp, n_threads;
    uint32_t batch, input, output;      /* streams, and tokens of each */
    const struct mu_part_place *places; /* of the stages; NULL: layers shared out evenly */
    bool kept_only;                     /* as above */
    const struct mu_measure_progress *progress;
};

/* What the planner says of it. Of a run with places: step_s and the two rates. */
mu_status mu_here_predict(const struct mu_here_run *run, struct mu_plan_prediction *out,
                          struct mu_err *err);

/* How fast the machine was when the costs of that run were timed: bytes read and numbers
 * multiplied a second by all cores. For who compares with a run at another time. */
mu_status mu_here_control(const struct mu_here_run *run, double *read, double *multiplies,
                          struct mu_err *err);

#endif
