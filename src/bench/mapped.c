/* Device maps for the engine; see mapped.h. */
#include "bench/mapped.h"

#include "base/alloc.h"
#include "base/number.h"

#include <stdio.h>

#define ARENA_MAX_BYTES (16u << 20)

struct maker {
    const struct mu_model_file *file;
    const struct mu_mapped_request *request;
    struct mu_engine_options *options;
    struct mu_engine_options tried;
    struct mu_engine_memory memory;
    unsigned n_devices; /* of a replica */
    struct mu_arena *arena;
};

/* ---- What there is ------------------------------------------------------------------------- */

/* One replica of stages of equal length. */
static mu_status ask_stages(struct maker *m, struct mu_err *err)
{
    const struct mu_config *config = mu_model_file_config(m->file);
    uint32_t most = MU_MIN(config->n_layers, (uint32_t)MU_STEPS_MAX);
    m->tried = *m->options;
    m->tried.tp = m->tried.dp = 1;
    m->tried.pp = m->tried.devices.n = MU_MIN(m->n_devices, most);
    m->tried.max_sequences =
        MU_CEIL_DIV(MU_MAX(m->options->max_sequences, 1u), MU_MAX(m->options->dp, 1u));
    return mu_engine_memory(m->file, &m->tried, &m->memory, err);
}

/* What budgets leave for weights, as if each device had the longest stage and the head. */
static json_t *find_limits(const struct maker *m)
{
    uint64_t other = 0;
    for (unsigned i = 0; i < m->memory.n_ranks; i++) {
        const struct mu_rank_memory *r = &m->memory.ranks[i];
        other = MU_MAX(other, r->total_bytes - r->bytes[MU_PURPOSE_WEIGHTS]);
    }
    json_t *limits = json_object();
    int failed = !limits;
    for (unsigned i = 0; i < m->n_devices; i++) {
        char key[16];
        uint64_t budget = m->options->devices.items[i].budget_bytes;
        (void)snprintf(key, sizeof key, "%u", i);
        failed |= json_object_set_new(
            limits, key, json_integer((json_int_t)(budget > other ? budget - other : 0)));
    }
    failed |= json_object_set_new(limits, "cpu",
                                  json_integer((json_int_t)m->options->devices.host_bytes));
    if (!failed) return limits;
    json_decref(limits);
    return NULL;
}

/* ---- The map ------------------------------------------------------------------------------- */

/* What modules really take: types differ, and none may be as wide as the configuration says. */
static mu_status find_sizes(struct maker *m, struct mu_plan_map_request *request,
                            struct mu_err *err)
{
    const struct mu_config *config = mu_model_file_config(m->file);
    struct mu_plan_map_size *sizes;
    uint64_t *bytes = mu_arena_alloc(m->arena, mu_part_count(config), sizeof *bytes);
    if (!bytes) return mu_fail_memory(err, mu_part_count(config) * sizeof *bytes);
    MU_TRY(mu_engine_part_bytes(m->file, m->options, bytes, err));
    MU_TRY(mu_plan_map_sizes(config, bytes, m->arena, &sizes, &request->n_sizes, err));
    request->sizes = sizes;
    return MU_OK;
}

static mu_status make_map(struct maker *m, json_t *device_map, struct mu_plan_map **out,
                          struct mu_err *err)
{
    struct mu_plan_map_request request = {.device_map = device_map, .rules = MU_PLAN_TRANSFORMERS};
    MU_TRY(find_sizes(m, &request, err));
    json_t *config = mu_plan_map_config(mu_model_file_config(m->file));
    request.config = config;
    request.max_memory =
        m->request->max_memory ? json_incref(m->request->max_memory) : find_limits(m);
    mu_status status = config && request.max_memory ? mu_plan_map_create(&request, out, err)
                                                    : mu_fail_memory(err, sizeof request);
    json_decref(request.max_memory);
    json_decref(config);
    return status;
}

/* The host's cores and memory as one more device. */
static mu_status add_host(const struct maker *m, struct mu_device_spec *out, struct mu_err *err)
{
    struct mu_device_list cpu;
    MU_TRY(mu_devices_parse("cpu", 0, &cpu, err));
    *out = cpu.items[0];
    (void)snprintf(out->name, sizeof out->name, "host");
    out->budget_bytes = m->options->host_bytes / MU_MAX(m->options->dp, 1u);
    return MU_OK;
}

/* The devices of all replicas, stage by stage. */
static mu_status take_devices(const struct maker *m, const struct mu_plan_places *places,
                              struct mu_err *err)
{
    struct mu_engine_options *o = m->options;
    const struct mu_device_list all = o->devices;
    uint32_t dp = MU_MAX(o->dp, 1u);
    if ((uint64_t)places->n_stages * dp > MU_DEVICES_MAX)
        return mu_fail(err, MU_E_USAGE, "a map over more than %d devices", MU_DEVICES_MAX);
    o->devices.n = 0;
    for (uint32_t r = 0; r < dp; r++)
        for (unsigned s = 0; s < places->n_stages; s++) {
            int device = places->device[s];
            struct mu_device_spec *to = &o->devices.items[o->devices.n++];
            if (device >= (int)m->n_devices)
                return mu_fail(err, MU_E_USAGE, "the device map names device %d; there are %u",
                               device, m->n_devices);
            if (device == MU_PLAN_ON_HOST)
                MU_TRY(add_host(m, to, err));
            else
                *to = all.items[r * m->n_devices + (unsigned)device];
        }
    o->tp = 1;
    o->pp = places->n_stages;
    o->places = places->places;
    return MU_OK;
}

/* What the cpu may give, if the limits say so. */
static mu_status read_host(const struct maker *m, const struct mu_plan_map *map, struct mu_err *err)
{
    m->options->host_bytes = m->options->devices.host_bytes;
    for (size_t i = 0; m->request->max_memory && i < map->n_devices; i++) {
        const struct mu_plan_map_device *d = &map->devices[i];
        if (!d->listed || strcmp(d->name, "cpu") != 0) continue;
        if (d->limit_bytes < 1)
            return mu_fail(err, MU_E_USAGE, "the limit of the cpu leaves it nothing");
        m->options->host_bytes = (uint64_t)MU_MIN(d->limit_bytes, 0x1p62);
    }
    return MU_OK;
}

static mu_status use_map(const struct maker *m, const struct mu_plan_map *map, struct mu_err *err)
{
    struct mu_plan_places places;
    MU_TRY(mu_plan_map_places(map, mu_model_file_config(m->file), m->request->offload_compute,
                              &places, err));
    MU_TRY(read_host(m, map, err));
    return take_devices(m, &places, err);
}

/* The number in "1" or "cuda:1"; none for "cpu" and the like. */
static bool device_number(const char *name, uint64_t *out)
{
    if (strncmp(name, "cuda:", 5) == 0) name += 5;
    return mu_parse_u64(mu_str(name), 0, MU_DEVICES_MAX - 1, out);
}

unsigned mu_mapped_devices(const struct mu_mapped_request *request)
{
    uint64_t most = 0, n;
    const char *key;
    json_t *value;
    json_object_foreach(request->device_map, key, value)
    {
        const char *name = json_string_value(value);
        if (json_is_integer(value))
            n = (uint64_t)MU_MAX(json_integer_value(value), 0);
        else if (!name || !device_number(name, &n))
            continue;
        most = MU_MAX(most, MU_MIN(n, (uint64_t)MU_DEVICES_MAX - 1));
    }
    json_object_foreach(request->max_memory, key, value)
    {
        if (device_number(key, &n)) most = MU_MAX(most, n);
    }
    return (unsigned)most + 1;
}

mu_status mu_mapped_make(const struct mu_model_file *file, const struct mu_mapped_request *request,
                         struct mu_engine_options *options, struct mu_plan_map **map,
                         struct mu_err *err)
{
    uint32_t dp = MU_MAX(options->dp, 1u);
    const char *word = json_string_value(request->device_map);
    bool best = word && strcmp(word, "best") == 0;
    *map = NULL;
    if (options->tp > 1 || options->pp > 1)
        return mu_fail(err, MU_E_USAGE, "--device-map says where everything goes: without --%s",
                       options->tp > 1 ? "tp" : "pp");
    if (options->devices.n % dp != 0)
        return mu_fail(err, MU_E_USAGE, "%u replicas cannot share %u devices evenly", dp,
                       options->devices.n);
    struct maker *m = mu_calloc(1, sizeof *m);
    if (!m) return mu_fail_memory(err, sizeof *m);
    *m = (struct maker){.file = file,
                        .request = request,
                        .options = options,
                        .n_devices = options->devices.n / dp,
                        .arena = mu_arena_create(ARENA_MAX_BYTES)};
    mu_status status = m->arena ? ask_stages(m, err) : mu_fail_memory(err, ARENA_MAX_BYTES);
    /* Limits on single devices are for the rules, which know them. */
    bool even = best && !request->max_memory && m->memory.fits && m->tried.pp == m->n_devices;
    if (status == MU_OK && even) {
        options->tp = 1;
        options->pp = m->tried.pp;
    } else if (status == MU_OK) {
        json_t *device_map = best ? json_string("auto") : json_incref(request->device_map);
        status = device_map ? make_map(m, device_map, map, err) : mu_fail_memory(err, sizeof *m);
        json_decref(device_map);
        if (status == MU_OK) status = use_map(m, *map, err);
    }
    if (status != MU_OK) {
        mu_plan_map_destroy(*map);
        *map = NULL;
    }
    mu_arena_destroy(m->arena);
    mu_free(m);
    return status;
}
