/*
 * Machines as a person writes them: "8xh200_sxm", "2x8xh100" (two hosts), "4xA100-80G+2xL40S".
 * Pure; any thread.
 */
#ifndef MU_PLAN_RACK_H
#define MU_PLAN_RACK_H

#include "probe/probe.h"

#define MU_PLAN_DEVICES_MAX 128

struct mu_plan_slot {
    const struct mu_probe_device *device;
    uint32_t host;
    double budget_bytes; /* 0: all that is usable */
};

struct mu_plan_rack {
    struct mu_plan_slot slots[MU_PLAN_DEVICES_MAX];
    uint32_t n;
    const struct mu_probe_link *between; /* hosts */
};

/* A device's name may be followed by :BUDGET ("rtx_4090:20GiB"). */
mu_status mu_plan_rack_parse(const char *text, const struct mu_probe_catalog *catalog,
                             struct mu_plan_rack *out, struct mu_err *err);

/* The link that devices [first, first + n) of the rack all have; n > 1. */
const struct mu_probe_link *mu_plan_rack_link(const struct mu_plan_rack *rack, uint32_t first,
                                              uint32_t n);

#endif
