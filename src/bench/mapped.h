/*
 * Device maps that run: asks the engine how much a model takes, has plan make the map by these
 * figures, and turns it into the engine's options. Prints nothing. Any thread.
 */
#ifndef MU_BENCH_MAPPED_H
#define MU_BENCH_MAPPED_H

#include "engine/engine.h"
#include "plan/plan.h"

struct mu_mapped_request {
    json_t *device_map;   /* as mu_plan_map_request has it, or "best" */
    json_t *max_memory;   /* NULL: what budgets leave beside caches and buffers */
    bool offload_compute; /* what is on the cpu is executed there */
};

/* How many devices it speaks of. */
unsigned mu_mapped_devices(const struct mu_mapped_request *request);

/*
 * Sets devices, stages, places and host_bytes in `options`, whose devices are the map's 0, 1, ...
 * (of each replica). Those that get nothing to do are left out. *map holds what `places` points to,
 * until it is destroyed; NULL: every stage has a run of layers, or it failed.
 */
mu_status mu_mapped_make(const struct mu_model_file *file, const struct mu_mapped_request *request,
                         struct mu_engine_options *options, struct mu_plan_map **map,
                         struct mu_err *err);

#endif
