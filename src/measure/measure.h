/*
 * measure: what this machine can do, timed alone, for comparison and for the planner. Never fitted
 * to the runs that are judged by it. The calling thread, with nothing else at work.
 */
#ifndef MU_MEASURE_MEASURE_H
#define MU_MEASURE_MEASURE_H

#include "base/json.h"
#include "base/team.h"
#include "kernel/kernel.h"
#include "plan/plan.h"

/* Bytes a second that `n_threads` (on `cpus`, or anywhere when NULL) read together from memory too
 * large for any cache: the median of several passes. Takes about 0.3 s and 256 MiB. */
mu_status mu_measure_read_bandwidth(unsigned n_threads, const int *cpus, double *bytes_per_s,
                                    struct mu_err *err);
/* Multiplications and additions a second of `n_threads` together: the median of many passes. Takes
 * some milliseconds. */
mu_status mu_measure_multiplies(unsigned n_threads, double *per_s, struct mu_err *err);

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

/* Runs an engine, which is above this room, on one device of `n_threads`, and fills what its steps
 * take beside their operations: step_s, sequence_s, first_s. */
typedef mu_status mu_measure_step(unsigned n_threads, struct mu_plan_costs *out,
                                  struct mu_err *err);

/* Times a family's kernels as the engine calls them, the engine's meetings and its steps. Some
 * seconds, and 0.2 GiB. */
mu_status mu_measure_costs(const struct mu_kernels *kernels, const struct mu_measure_shape *shape,
                           unsigned n_threads, mu_measure_step *step,
                           const struct mu_measure_progress *progress, struct mu_plan_costs *out,
                           struct mu_err *err);
/* The same, or what an earlier call of the same kernels found on this machine: kept in
 * `$XDG_CACHE_HOME/muster`. Without a `step` nothing is timed: MU_E_MISSING when none is kept. */
mu_status mu_measure_costs_kept(const struct mu_kernels *kernels,
                                const struct mu_measure_shape *shape, unsigned n_threads,
                                mu_measure_step *step, const struct mu_measure_progress *progress,
                                struct mu_plan_costs *out, struct mu_err *err);

/* Bytes a second that a file is read with when nothing of it is in memory: pages of its middle are
 * dropped and read again. */
mu_status mu_measure_file(const char *path, double *bytes_per_s, struct mu_err *err);

#define MU_MEASURE_PEERS_MAX 8

struct mu_measure_exchanged {
    double latency_s;   /* of a small exchange, all being awake */
    double bytes_per_s; /* that each receives in a large one */
    double wake_s;      /* that a receiver takes longer that waited until it fell asleep */
};

/* Of `n_ranks` (2 and more) threads of this process. Takes some milliseconds. */
mu_status mu_measure_exchange(unsigned n_ranks, struct mu_measure_exchanged *out,
                              struct mu_err *err);

/* --- devices alone ---------------------------------------------------------------------------- */

struct mu_measure_alone {
    double seconds; /* for all of it; what is not reached by then says so */
    bool (*stop)(void);
    /* Told what is timed next; may be NULL. */
    void (*progress)(void *arg, const char *what);
    void *arg;
    const char *library; /* CUDA's; NULL: MUSTER_CUDA, else libcuda.so.1 as the loader finds it */
    /* How functions are found in it; NULL: dlsym. Tests take some away. */
    void *(*find)(void *library, const char *name);
    uint32_t call_ms; /* after which a call of it is given up; 0: 4,000 */
    /* CPUs: while something reaches less than this share of what others of its kind usually do, all
     * are timed again, for some seconds. 0: never. */
    double slow_share;
};

/* Times each device with the others at rest, in several rounds, and each pair of devices; appends
 * an object a figure to the array `rows`:
 *   "figure"  memory_bytes_per_s, fp32_flop_per_s, link_bytes_per_s, to_host_..., from_host_...
 *   "device", "peer"  "cpu:3", "node:0", or a GPU's bus id as sysfs spells it; peer: null but for
 *             links, which go from the device to the peer
 *   "alike"   those with the same words are of one kind, and should be as fast
 *   "best", "median", "worst"  of the rounds; null when it was not timed, and "why" says why not
 *   "fault"   true when that is the device's or the driver's fault
 * A CPU device is a core, or where there are very many, a NUMA node's cores. Fails for memory and
 * threads only. */
mu_status mu_measure_alone_cpus(const struct mu_measure_alone *options, json_t *rows,
                                struct mu_err *err);
/* GPUs, over CUDA's library and in a process of its own, which ends with a call that hangs. */
mu_status mu_measure_alone_gpus(const struct mu_measure_alone *options, json_t *rows,
                                struct mu_err *err);

#endif
