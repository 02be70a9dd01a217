/* What the parts of the device map share: reading limits, balancing them, walking the tree. */
#ifndef MU_PLAN_DEVICE_MAP_INT_H
#define MU_PLAN_DEVICE_MAP_INT_H

#include "plan/device_map.h"
#include "plan/module_tree.h"

#define MU_PLAN_MAP_DEVICES_MAX 256
#define MU_PLAN_MAP_NO_DEVICE   UINT16_MAX

struct mu_plan_map_work {
    const struct mu_plan_map_request *request;
    struct mu_plan_map *map; /* devices, warnings */
    struct mu_plan_tree tree;
    bool quantised;
    uint16_t *device_of; /* of each node that is a key of the map; else MU_PLAN_MAP_NO_DEVICE */
};

/* Makes room for devices and warnings in `map`, whose arena is there. */
mu_status mu_plan_map_work_init(struct mu_plan_map_work *w, struct mu_err *err);
/* Fills the map's entries and devices for a tree that is there, by "auto", "sequential", ... */
mu_status mu_plan_map_by_rule(struct mu_plan_map_work *w, const char *mode, struct mu_err *err);

/* Adds a line to the warnings. */
mu_status mu_plan_map_warn(struct mu_plan_map_work *w, struct mu_err *err, const char *format, ...)
    MU_PRINTF(3, 4);

/* Finds or adds the device of this name: "0", "cuda:0", "cpu", "disk", "mps". */
mu_status mu_plan_map_device_named(struct mu_plan_map_work *w, struct mu_str name, unsigned *out,
                                   struct mu_err *err);

/* Fills the devices with their limits, in the order in which they are used, disk at the end. */
mu_status mu_plan_map_limits_read(struct mu_plan_map_work *w, struct mu_err *err);
/* Lowers the limits of GPUs so that all get about the same. */
void mu_plan_map_limits_balance(struct mu_plan_map_work *w, bool low_zero);

/* Places every module: fills device_of and the devices' minimum_bytes. */
mu_status mu_plan_map_infer(struct mu_plan_map_work *w, struct mu_err *err);

#endif
