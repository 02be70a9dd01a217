/* bench: what runs are measured by, and shown to be. The rooms above see this header. */
#ifndef MU_BENCH_BENCH_H
#define MU_BENCH_BENCH_H

#include "bench/here.h"
#include "bench/mapped.h"
#include "bench/prove.h"

#endif
