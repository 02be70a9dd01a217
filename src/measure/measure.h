/*
 * measure: what this machine can do, timed alone, for comparison and for the planner. Never fitted
 * to the runs that are judged by it. The calling thread, with nothing else at work.
 */
#ifndef MU_MEASURE_MEASURE_H
#define MU_MEASURE_MEASURE_H

#include "base/team.h"
#include "kernel/kernel.h"

/* Bytes a second that `n_threads` (on `cpus`, or anywhere when NULL) read together from memory too
 * large for any cache: the median of several passes. Takes about 0.3 s and 256 MiB. */
mu_status mu_measure_read_bandwidth(unsigned n_threads, const int *cpus, double *bytes_per_s,
                                    struct mu_err *err);

/* The attention that is timed. */
struct mu_measure_shape {
    uint32_t n_heads, n_kv_heads, head_dim;
};

struct mu_measure_costs {
    double weight_bytes_per_s; /* stored bytes that a product with one row reads */
    double product_per_s;      /* multiplications and additions of one with many rows */
    double kv_bytes_per_s;     /* keys and values that attention of one row reads */
    double attention_per_s;    /* multiplications and additions of attention over a prompt */
    double meeting_s;          /* of all threads: what an operation costs beside its work */
};

/* Times a family's kernels on weights of `type`. About a second, and 0.3 GiB. */
mu_status mu_measure_costs(const struct mu_kernels *kernels, enum mu_dtype type,
                           const struct mu_measure_shape *shape, unsigned n_threads,
                           struct mu_measure_costs *out, struct mu_err *err);
/* The same, or what an earlier call found on this machine: kept in `$XDG_CACHE_HOME/muster`. */
mu_status mu_measure_costs_kept(const struct mu_kernels *kernels, enum mu_dtype type,
                                const struct mu_measure_shape *shape, unsigned n_threads,
                                struct mu_measure_costs *out, struct mu_err *err);

#define MU_MEASURE_PEERS_MAX 8

/* What one exchange among `n_ranks` (2 and more) threads of this process takes when it is small,
 * and the bytes a second that each receives when it is large. Takes some milliseconds. */
mu_status mu_measure_exchange(unsigned n_ranks, double *latency_s, double *bytes_per_s,
                              struct mu_err *err);

#endif
