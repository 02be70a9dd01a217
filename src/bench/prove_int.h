/* What the files of prove share; see prove.h. */
#ifndef MU_BENCH_PROVE_INT_H
#define MU_BENCH_PROVE_INT_H

#include "bench/here.h"
#include "bench/prove.h"

static inline uint32_t mu_placement_devices(const struct mu_placement *p)
{
    return p->tp * p->pp * p->dp;
}

/* Threads of each device, as mu_devices_parse shares cores out. */
static inline uint32_t mu_placement_threads(const struct mu_placement *p, uint32_t cores)
{
    return p->threads ? p->threads : MU_MAX(cores / mu_placement_devices(p), 1u);
}

/* maps.c: the word for a map. */
const char *mu_placement_map_name(enum mu_placement_map map);

/* prove_predict.c: speeds of a placement, from kernels and exchanges timed alone. */
mu_status mu_prove_predict(const struct mu_prove_request *q, const struct mu_placement *at,
                           const struct mu_engine_options *options, struct mu_prove_speed *out,
                           struct mu_err *err);

#endif
