/*
 * measure: what this machine can do, timed alone, for comparison and for the planner. Never fitted
 * to the runs that are judged by it. The calling thread, with nothing else at work.
 */
#ifndef MU_MEASURE_MEASURE_H
#define MU_MEASURE_MEASURE_H

#include "base/team.h"
#include "kernel/kernel.h"
#include "plan/plan.h"

/* Bytes a second that `n_threads` (on `cpus`, or anywhere when NULL) read together from memory too
 * large for any cache: the median of several passes. Takes about 0.3 s and 256 MiB. */
mu_status mu_measure_read_bandwidth(unsigned n_threads, const int *cpus, double *bytes_per_s,
                                    struct mu_err *err);

/* The model whose operations are timed: how evenly threads share a matrix depends on its shape. */
struct mu_measure_shape {
    uint32_t hidden, ffn, vocab;
    uint32_t n_heads, n_kv_heads, head_dim;
    enum mu_dtype type, head_type; /* of weights, as stored */
};

/* Called now and then with what is done of all. */
struct mu_measure_progress {
    void (*show)(void *arg, unsigned done, unsigned all);
    void *arg;
};

/* Times a family's kernels as the engine calls them, and the engine's meetings. Some seconds, and
 * 0.2 GiB. */
mu_status mu_measure_costs(const struct mu_kernels *kernels, const struct mu_measure_shape *shape,
                           unsigned n_threads, const struct mu_measure_progress *progress,
                           struct mu_plan_costs *out, struct mu_err *err);
/* The same, or what an earlier call of the same kernels found on this machine: kept in
 * `$XDG_CACHE_HOME/muster`. */
mu_status mu_measure_costs_kept(const struct mu_kernels *kernels,
                                const struct mu_measure_shape *shape, unsigned n_threads,
                                const struct mu_measure_progress *progress,
                                struct mu_plan_costs *out, struct mu_err *err);

#define MU_MEASURE_PEERS_MAX 8

/* What one exchange among `n_ranks` (2 and more) threads of this process takes when it is small,
 * and the bytes a second that each receives when it is large. Takes some milliseconds. */
mu_status mu_measure_exchange(unsigned n_ranks, double *latency_s, double *bytes_per_s,
                              struct mu_err *err);

#endif
