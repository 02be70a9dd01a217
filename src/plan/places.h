/*
 * From a device map to the parts of a model that our engine can place apart: what stage executes
 * each, and where its weights lie. Pure. Any thread.
 */
#ifndef MU_PLAN_PLACES_H
#define MU_PLAN_PLACES_H

#include "model/model.h"
#include "plan/device_map.h"

#define MU_PLAN_ON_HOST (-1)

struct mu_plan_places {
    struct mu_part_place *places; /* [mu_part_count], in the map's arena */
    unsigned n_stages;
    int device[MU_STAGES_MAX]; /* number of the device of each stage, or MU_PLAN_ON_HOST */
};

/*
 * What is on "cpu" or "disk" is executed by the main device, the first that the map names; with
 * `compute_on_host`, what is on "cpu" by a stage of its own. A norm on what a module gives is done
 * by that module. MU_E_INPUT for a map that names what is not there, or that cuts attention or an
 * MLP in pieces.
 */
mu_status mu_plan_map_places(const struct mu_plan_map *map, const struct mu_config *config,
                             bool compute_on_host, struct mu_plan_places *out, struct mu_err *err);

/* The modules that parts are, with what they take; in the arena. */
mu_status mu_plan_map_sizes(const struct mu_config *config, const uint64_t *part_bytes,
                            struct mu_arena *arena, struct mu_plan_map_size **out, size_t *n,
                            struct mu_err *err);

/* The values of config.json that the tree of modules is made of, whatever file the model came in.
 * NULL when memory is out. */
json_t *mu_plan_map_config(const struct mu_config *config);

#endif
