/*
 * measure: what this machine can do, timed alone, for comparison and for the planner. Never fitted
 * to the runs that are judged by it. The calling thread, with nothing else at work.
 */
#ifndef MU_MEASURE_MEASURE_H
#define MU_MEASURE_MEASURE_H

#include "base/team.h"

/* Bytes a second that `n_threads` (on `cpus`, or anywhere when NULL) read together from memory too
 * large for any cache: the median of several passes. Takes about 0.3 s and 256 MiB. */
mu_status mu_measure_read_bandwidth(unsigned n_threads, const int *cpus, double *bytes_per_s,
                                    struct mu_err *err);

#endif
