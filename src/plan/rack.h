/*
 * Machines as a person writes them: "8xh200_sxm", "2x8xh100" (two hosts), "4xA100-80G+2xL40S"; or
 * host by host in YAML. Pure; any thread.
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

#define MU_PLAN_OWN_MAX 16

/* Is not moved: slots may point to devices of its own. */
struct mu_plan_rack {
    struct mu_plan_slot slots[MU_PLAN_DEVICES_MAX];
    uint32_t n;
    const struct mu_probe_link *between; /* hosts */
    /* Kinds of the catalogue whose links or memory a host's description changes. */
    struct mu_probe_device own[MU_PLAN_OWN_MAX];
    uint32_t n_own;
};

/* A device's name may be followed by :BUDGET ("rtx_4090:20GiB"). */
mu_status mu_plan_rack_parse(const char *text, const struct mu_probe_catalog *catalog,
                             struct mu_plan_rack *out, struct mu_err *err);

/* rack_yaml.c: the text of a file called `name`. `between` stays as it is unless the file says. */
mu_status mu_plan_rack_yaml(struct mu_str text, const char *name,
                            const struct mu_probe_catalog *catalog, struct mu_plan_rack *out,
                            struct mu_err *err);
/* What may be used of a device, as a person writes it. */
mu_status mu_plan_rack_budget(struct mu_str text, const struct mu_probe_device *device, double *out,
                              struct mu_err *err);

/* The link that devices [first, first + n) of the rack all have; n > 1. */
const struct mu_probe_link *mu_plan_rack_link(const struct mu_plan_rack *rack, uint32_t first,
                                              uint32_t n);

#endif
