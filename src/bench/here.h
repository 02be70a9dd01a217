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
};

/* The format that most of a file's bytes have. */
const struct mu_plan_format *mu_here_format(const struct mu_model_file *file);

/* Devices of `n_threads` each (0: all cores), of which `n_busy` work at the same time and exchange
 * among `n_ranks`. `muster` is the catalogue's row for our engine: what is not measured stays as it
 * says. Must not be moved afterwards. */
mu_status mu_here_measure(struct mu_here *out, const struct mu_config *config,
                          const struct mu_plan_format *format, const struct mu_kernels *kernels,
                          const struct mu_probe_engine *muster, unsigned n_threads, unsigned n_busy,
                          unsigned n_ranks, struct mu_err *err);

#endif
