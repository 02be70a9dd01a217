/*
 * What a placement by parts would reach here: any map, also one that comes back to a device or
 * leaves weights in the host's memory or in the file. By operations that were timed (costs.h).
 *
 * Pure: no I/O, no clock. Any thread.
 */
#ifndef MU_PLAN_PLACED_H
#define MU_PLAN_PLACED_H

#include "plan/costs.h"

struct mu_plan_placed_request {
    const struct mu_config *config;
    const struct mu_plan_format *format;
    const struct mu_tensor *tensors; /* of the model's file, for its own format; or none */
    size_t n_tensors;
    const struct mu_part_place *places; /* [mu_part_count] */
    unsigned n_stages;
    const struct mu_plan_timed *timed;
    const struct mu_probe_engine *engine;
    const struct mu_probe_device *device; /* of every stage; its link joins them */
    uint32_t n_threads;                   /* of each */
    bool core_left;                       /* beside those */
    double file_bytes_per_s; /* how fast the disk is read; 0: its pages stay in memory */
    uint32_t batch, input, output;
};

struct mu_plan_placed {
    double step_s; /* of decode, all streams */
    double prefill_s;
    double bytes[MU_HOME_COUNT]; /* of weights that each step has brought from there */
};

mu_status mu_plan_placed_price(const struct mu_plan_placed_request *request,
                               struct mu_plan_placed *out, struct mu_err *err);

#endif
