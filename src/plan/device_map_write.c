/* A device map as JSON; see device_map.h. */
#include "plan/device_map.h"

#include "base/number.h"

#include <math.h>

static void add_key(struct mu_text *out, size_t i, const char *key)
{
    if (i > 0) mu_text_char(out, ',');
    mu_json_add_string(out, mu_str(key));
    mu_text_char(out, ':');
}

/* Whole bytes as such; 4-bit sizes and limits times 0.9 may have a fraction. */
static void add_bytes(struct mu_text *out, double bytes)
{
    if (bytes == trunc(bytes) && fabs(bytes) < 0x1p53)
        mu_text_printf(out, "%.0f", bytes);
    else
        mu_json_add_f64(out, bytes);
}

static void add_device(struct mu_text *out, const struct mu_plan_map_device *device)
{
    if (device->gpu >= 0)
        mu_text_str(out, device->name);
    else
        mu_json_add_string(out, mu_str(device->name));
}

static void add_limits(struct mu_text *out, const struct mu_plan_map *map)
{
    size_t n = 0;
    mu_text_str(out, "},\"max_memory\":{");
    for (size_t i = 0; i < map->n_devices; i++) {
        if (!map->devices[i].listed) continue;
        add_key(out, n++, map->devices[i].name);
        add_bytes(out, map->devices[i].limit_bytes);
    }
    n = 0;
    mu_text_str(out, "},\"minimum_required\":{");
    for (size_t i = 0; i < map->n_devices; i++) {
        if (map->devices[i].minimum_bytes == 0) continue;
        add_key(out, n++, map->devices[i].name);
        add_bytes(out, map->devices[i].minimum_bytes);
    }
}

static void add_strings(struct mu_text *out, const char *const *strings, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (i > 0) mu_text_char(out, ',');
        mu_json_add_string(out, mu_str(strings[i]));
    }
}

void mu_plan_map_write(const struct mu_plan_map *map, struct mu_text *out)
{
    mu_text_str(out, "{\"device_map\":{");
    for (size_t i = 0; i < map->n_entries; i++) {
        add_key(out, i, map->entries[i].module);
        add_device(out, &map->devices[map->entries[i].device]);
    }
    add_limits(out, map);
    mu_text_str(out, "},\"sizes\":{");
    for (size_t i = 0; i < map->n_sizes; i++) {
        add_key(out, i, map->sizes[i].module);
        add_bytes(out, map->sizes[i].bytes);
    }
    mu_text_str(out, "},\"tied\":[");
    add_strings(out, map->tied, map->n_tied);
    mu_text_str(out, "],\"warnings\":[");
    add_strings(out, map->warnings, map->n_warnings);
    mu_text_str(out, "]}");
}
