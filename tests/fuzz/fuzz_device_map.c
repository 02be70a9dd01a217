/*
 * Device maps from hostile JSON: {"config":…,"device_map":…,"max_memory":…,"free_memory":…,
 * "no_split":…}. The first byte selects the rules. What comes out must be a map that covers the
 * model and JSON that can be read.
 */
#include "base/base.h"
#include "plan/plan.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(const json_t *all, uint8_t mode)
{
    struct mu_plan_map_request request = {
        .config = json_object_get(all, "config"),
        .device_map = json_object_get(all, "device_map"),
        .max_memory = json_object_get(all, "max_memory"),
        .free_memory = json_object_get(all, "free_memory"),
        .no_split = json_string_value(json_object_get(all, "no_split")),
        .rules = mode & 1 ? MU_PLAN_ACCELERATE : MU_PLAN_TRANSFORMERS,
        .fallback_allocation = mode & 2,
        .offload_buffers = mode & 4,
    };
    /* Large models are not worth the time: every layer is like the other. */
    if (json_integer_value(json_object_get(request.config, "num_hidden_layers")) > 20) return;
    struct mu_plan_map *map;
    struct mu_err err = MU_ERR_INIT;
    if (mu_plan_map_create(&request, &map, &err) != MU_OK) {
        if (err.code == MU_OK) abort();
        return;
    }
    struct mu_text text;
    mu_text_init(&text, 1 << 24);
    mu_plan_map_write(map, &text);
    json_t *back = NULL;
    if (map->n_entries == 0 || mu_text_status(&text, NULL) != MU_OK ||
        mu_json_parse((struct mu_str){mu_text_get(&text), text.len}, "map", &back, NULL) != MU_OK)
        abort();
    json_decref(back);
    mu_text_fini(&text);
    mu_plan_map_destroy(map);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t *all = NULL;
    if (size < 2) return 0;
    if (mu_json_parse((struct mu_str){(const char *)data + 1, size - 1}, "fuzz", &all, NULL) !=
        MU_OK)
        return 0;
    run(all, data[0]);
    json_decref(all);
    return 0;
}
