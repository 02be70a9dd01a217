/* What a step of our engine takes on this machine beside its operations. Inside the room. */
#ifndef MU_BENCH_STEP_H
#define MU_BENCH_STEP_H

#include "measure/measure.h"

/* Takes about a second, on a device of `n_threads`. */
mu_measure_step mu_bench_step;

#endif
