/*
 * Device maps as Hugging Face users know them: which module of a transformers model goes to which
 * device, by the rules of transformers (from version 5 on) or of accelerate, to the byte.
 *
 * Works from config.json's values alone. Pure: no file, no clock, no hardware. Any thread; a map is
 * read-only once made. Called by the commands that take --device-map.
 */
#ifndef MU_PLAN_DEVICE_MAP_H
#define MU_PLAN_DEVICE_MAP_H

#include "base/json.h"

enum mu_plan_rules { MU_PLAN_TRANSFORMERS, MU_PLAN_ACCELERATE };

struct mu_plan_map_size {
    const char *module; /* a dotted path; "total" is the whole model */
    double bytes;
};

struct mu_plan_map_request {
    const json_t *config; /* config.json */
    /* A string: "auto", "balanced", "balanced_low_0", "sequential", or one device for all ("cpu",
     * "cuda:1"); an integer: that GPU; an object: module path -> device. */
    json_t *device_map;
    /* Device -> bytes or "20GiB"; NULL: what the hardware has free, which is the next. */
    json_t *max_memory;
    json_t *free_memory; /* device -> bytes; NULL: not known */
    const char *dtype;   /* "bfloat16", "f16"; NULL: the configuration's, else float32 */
    enum mu_plan_rules rules;
    const char *no_split;     /* classes, comma between; NULL: the architecture's decoder layer */
    bool fallback_allocation; /* of accelerate */
    bool offload_buffers;     /* buffers of offloaded modules leave the GPU too */
    /* What modules take, where that is known better than by `dtype`; those below have shares. */
    const struct mu_plan_map_size *sizes;
    size_t n_sizes;
};

struct mu_plan_map_device {
    const char *name;     /* "0", "mps", "cpu", "disk" */
    int gpu;              /* -1: not a GPU */
    bool listed;          /* false: no limit was given, as for disk, the last resort */
    double limit_bytes;   /* what the rules may use of it, after balancing */
    double minimum_bytes; /* nothing fitted; this much would be needed. 0: something fitted */
};

struct mu_plan_map_entry {
    const char *module; /* dotted path; "" is the whole model */
    unsigned device;
    bool known, has_tensors; /* the model has this module; there is a tensor in it */
};

struct mu_plan_map {
    struct mu_arena *arena; /* everything below */
    struct mu_plan_map_entry *entries;
    struct mu_plan_map_device *devices;
    struct mu_plan_map_size *sizes; /* of paths of at most three components */
    const char **warnings;
    const char **tied; /* names of tensors that are one and the same; n_tied = 0: none */
    size_t n_entries, n_devices, n_sizes, n_warnings, n_tied;
};

mu_status mu_plan_map_create(const struct mu_plan_map_request *request, struct mu_plan_map **out,
                             struct mu_err *err);
void mu_plan_map_destroy(struct mu_plan_map *map);

/* {"device_map":…,"max_memory":…,"sizes":…,"warnings":…,"minimum_required":…,"tied":…} */
void mu_plan_map_write(const struct mu_plan_map *map, struct mu_text *out);

/* "20GiB", "1.5 GB", "10Gb" (bits) in bytes, as accelerate reads it; false when it would not. */
bool mu_plan_map_bytes(struct mu_str text, double *out);

#endif
