/* From a request to a device map; see device_map.h. The rules themselves are in device_map_infer.c
 * and device_map_memory.c. */
#include "plan/device_map.h"

#include "plan/device_map_int.h"

#include "base/number.h"

#include <stdarg.h>
#include <stdio.h>

#define ARENA_BYTES  ((size_t)256 << 20)
#define WARNINGS_MAX 64

mu_status mu_plan_map_warn(struct mu_plan_map_work *w, struct mu_err *err, const char *format, ...)
{
    char line[256];
    va_list args;
    if (w->map->n_warnings == WARNINGS_MAX) return MU_OK;
    va_start(args, format);
    (void)vsnprintf(line, sizeof line, format, args);
    va_end(args);
    const char *copy = mu_arena_strndup(w->map->arena, line, strlen(line));
    if (!copy) return mu_fail_memory(err, sizeof line);
    w->map->warnings[w->map->n_warnings++] = copy;
    return MU_OK;
}

/* ---- the model ---- */

/* Bytes of a value: "bfloat16" or "torch.float16" as PyTorch writes it, "bf16" as we do. */
static mu_status float_bytes(const struct mu_plan_map_request *request, unsigned *out,
                             struct mu_err *err)
{
    static const struct {
        const char *name, *other;
        unsigned bytes;
    } types[] = {{"float32", "f32", 4}, {"float16", "f16", 2}, {"bfloat16", "bf16", 2},
                 {"float64", "f64", 8}, {"float", NULL, 4},    {"half", NULL, 2}};
    const char *name = request->dtype;
    if (name && strcmp(name, "auto") == 0) name = NULL;
    if (!name) name = json_string_value(json_object_get(request->config, "dtype"));
    if (!name) name = json_string_value(json_object_get(request->config, "torch_dtype"));
    if (!name) name = "float32";
    if (strncmp(name, "torch.", 6) == 0) name += 6;
    for (size_t i = 0; i < MU_ARRAY_LEN(types); i++) {
        if (strcmp(name, types[i].name) != 0 &&
            !(types[i].other && strcmp(name, types[i].other) == 0))
            continue;
        *out = types[i].bytes;
        return MU_OK;
    }
    (void)mu_fail(err, MU_E_INPUT, "'%.40s' is not a data type that models are loaded in", name);
    mu_err_cure(err, "use float32, float16 or bfloat16");
    return MU_E_INPUT;
}

/* bitsandbytes: a value of a Linear's weight has 4 or 8 bits. Other methods store other tensors. */
static mu_status quantisation_read(struct mu_plan_map_work *w, struct mu_plan_tree_options *options,
                                   struct mu_err *err)
{
    const json_t *q = json_object_get(w->request->config, "quantization_config");
    const char *method = json_string_value(json_object_get(q, "quant_method"));
    if (!json_is_object(q) || w->request->rules == MU_PLAN_ACCELERATE) return MU_OK;
    if (!method || strcmp(method, "bitsandbytes") != 0)
        return mu_plan_map_warn(w, err,
                                "sizes are those of the model before quantisation (%.40s): only "
                                "bitsandbytes is counted",
                                method ? method : "unnamed");
    bool four = json_is_true(json_object_get(q, "load_in_4bit")) ||
                json_integer_value(json_object_get(q, "bits")) == 4;
    w->quantised = true;
    options->linear_bytes = four ? 0.5 : 1;
    options->skip = json_object_get(q, "llm_int8_skip_modules");
    return MU_OK;
}

/* Modules of known size, then all that contain them. Another name of a tied tensor stays empty. */
static void sizes_use(struct mu_plan_tree *tree, const struct mu_plan_map_request *request)
{
    for (size_t i = 0; i < request->n_sizes; i++) {
        uint32_t node = mu_plan_tree_find(tree, mu_str(request->sizes[i].module));
        if (node == MU_PLAN_TREE_NONE || node == 0 || tree->nodes[node].bytes == 0) continue;
        double times = request->sizes[i].bytes / tree->nodes[node].bytes;
        for (uint32_t n = node; n < tree->nodes[node].end; n++) {
            tree->nodes[n].bytes *= times;
            tree->nodes[n].buffer_bytes *= times;
        }
    }
    for (uint32_t i = tree->n; i-- > 0 && request->n_sizes > 0;) {
        struct mu_plan_tree_node *node = &tree->nodes[i];
        if (node->kind != MU_PLAN_TREE_MODULE) continue;
        node->bytes = 0;
        for (uint32_t c = i + 1; c < node->end; c = tree->nodes[c].end)
            node->bytes += tree->nodes[c].bytes;
    }
}

static mu_status model_read(struct mu_plan_map_work *w, struct mu_err *err)
{
    struct mu_plan_tree_options options = {0};
    mu_status status = float_bytes(w->request, &options.float_bytes, err);
    if (status == MU_OK) status = quantisation_read(w, &options, err);
    if (status == MU_OK)
        status =
            mu_plan_tree_from_config(w->request->config, &options, w->map->arena, &w->tree, err);
    if (status != MU_OK) mu_err_where(err, "config.json");
    if (status == MU_OK) sizes_use(&w->tree, w->request);
    return status;
}

mu_status mu_plan_map_work_init(struct mu_plan_map_work *w, struct mu_err *err)
{
    struct mu_plan_map *map = w->map;
    map->devices = mu_arena_alloc(map->arena, MU_PLAN_MAP_DEVICES_MAX, sizeof *map->devices);
    map->warnings = mu_arena_alloc(map->arena, WARNINGS_MAX, sizeof *map->warnings);
    if (!map->devices || !map->warnings) return mu_fail_memory(err, sizeof *map->devices);
    return MU_OK;
}

static mu_status keys_init(struct mu_plan_map_work *w, struct mu_err *err)
{
    w->device_of = mu_arena_alloc(w->map->arena, w->tree.n, sizeof *w->device_of);
    if (!w->device_of) return mu_fail_memory(err, w->tree.n);
    for (uint32_t i = 0; i < w->tree.n; i++)
        w->device_of[i] = MU_PLAN_MAP_NO_DEVICE;
    return MU_OK;
}

static const char *path_copy(struct mu_plan_map_work *w, uint32_t node, struct mu_err *err)
{
    struct mu_text text;
    mu_text_init(&text, 1024);
    mu_plan_tree_path(&w->tree, node, &text);
    const char *copy = NULL;
    if (mu_text_status(&text, err) == MU_OK)
        copy = mu_arena_strndup(w->map->arena, mu_text_get(&text), text.len);
    if (!copy) (void)mu_fail_memory(err, text.len + 1);
    mu_text_fini(&text);
    return copy;
}

/* ---- maps by rule ---- */

/* Where all keys below a module name one device, the module itself becomes the key. */
static void collapse(struct mu_plan_map_work *w)
{
    const struct mu_plan_tree *tree = &w->tree;
    for (uint32_t i = 0; i < tree->n; i++) {
        uint32_t keys = 0;
        uint16_t device = MU_PLAN_MAP_NO_DEVICE;
        bool same = w->device_of[i] == MU_PLAN_MAP_NO_DEVICE;
        for (uint32_t c = i + 1; c < tree->nodes[i].end && same; c++) {
            if (w->device_of[c] == MU_PLAN_MAP_NO_DEVICE) continue;
            same = keys++ == 0 || w->device_of[c] == device;
            device = w->device_of[c];
        }
        if (!same || keys < 2) continue;
        for (uint32_t c = i + 1; c < tree->nodes[i].end; c++)
            w->device_of[c] = MU_PLAN_MAP_NO_DEVICE;
        w->device_of[i] = device;
    }
}

static mu_status entries_take(struct mu_plan_map_work *w, struct mu_err *err)
{
    struct mu_plan_map *map = w->map;
    size_t n = 0;
    for (uint32_t i = 0; i < w->tree.n; i++)
        n += w->device_of[i] != MU_PLAN_MAP_NO_DEVICE;
    map->entries = mu_arena_alloc(map->arena, n, sizeof *map->entries);
    if (!map->entries) return mu_fail_memory(err, n * sizeof *map->entries);
    for (uint32_t i = 0; i < w->tree.n; i++) {
        if (w->device_of[i] == MU_PLAN_MAP_NO_DEVICE) continue;
        const char *path = path_copy(w, i, err);
        if (!path) return MU_E_MEMORY;
        map->entries[map->n_entries++] = (struct mu_plan_map_entry){
            path, w->device_of[i], .known = true, .has_tensors = w->tree.nodes[i].n_tensors > 0};
    }
    return MU_OK;
}

/* bitsandbytes computes on GPUs only. */
static mu_status check_quantised(struct mu_plan_map_work *w, struct mu_err *err)
{
    bool gpu = false, off = false;
    for (size_t i = 0; i < w->map->n_entries; i++) {
        int number = w->map->devices[w->map->entries[i].device].gpu;
        gpu |= number >= 0;
        off |= number < 0;
    }
    if (!w->quantised || !off || !gpu) return MU_OK;
    return mu_plan_map_warn(
        w, err, "some modules are on the cpu or the disk, where bitsandbytes does not run");
}

mu_status mu_plan_map_by_rule(struct mu_plan_map_work *w, const char *mode, struct mu_err *err)
{
    if (!w->request->max_memory && !w->request->free_memory) {
        (void)mu_fail(err, MU_E_USAGE, "a device map needs the memory of the devices");
        mu_err_cure(err, "give --max-memory '{\"0\":\"20GiB\",\"cpu\":\"64GiB\"}'");
        return MU_E_USAGE;
    }
    MU_TRY(keys_init(w, err));
    mu_plan_tree_no_split(&w->tree, w->request->no_split);
    MU_TRY(mu_plan_map_limits_read(w, err));
    if (strcmp(mode, "sequential") != 0)
        mu_plan_map_limits_balance(w, strcmp(mode, "balanced_low_0") == 0);
    /* Quantising needs working memory of its own. */
    for (size_t i = 0; w->quantised && i < w->map->n_devices; i++)
        w->map->devices[i].limit_bytes *= 0.90;
    MU_TRY(mu_plan_map_infer(w, err));
    collapse(w);
    MU_TRY(entries_take(w, err));
    return check_quantised(w, err);
}

/* ---- maps by hand ---- */

static mu_status device_read(struct mu_plan_map_work *w, const char *key, const json_t *value,
                             unsigned *out, struct mu_err *err)
{
    char number[MU_FLOAT_TEXT];
    if (json_is_string(value))
        return mu_plan_map_device_named(
            w, (struct mu_str){json_string_value(value), json_string_length(value)}, out, err);
    if (json_is_integer(value) && json_integer_value(value) >= 0)
        return mu_plan_map_device_named(w, mu_str(mu_format_f64(json_number_value(value), number)),
                                        out, err);
    return mu_fail(err, MU_E_INPUT, "the device of '%.80s' is neither a number nor a name", key);
}

static mu_status given_entry(struct mu_plan_map_work *w, const char *key, const json_t *value,
                             struct mu_err *err)
{
    struct mu_plan_map *map = w->map;
    unsigned device;
    MU_TRY(device_read(w, key, value, &device, err));
    const char *path = mu_arena_strndup(map->arena, key, strlen(key));
    if (!path) return mu_fail_memory(err, strlen(key));
    uint32_t node = mu_plan_tree_find(&w->tree, mu_str(key));
    bool known = node != MU_PLAN_TREE_NONE;
    map->entries[map->n_entries++] =
        (struct mu_plan_map_entry){path, device, known, known && w->tree.nodes[node].n_tensors > 0};
    if (node == MU_PLAN_TREE_NONE)
        return mu_plan_map_warn(w, err, "the model has no module '%.80s'", key);
    w->device_of[node] = (uint16_t)device;
    return MU_OK;
}

/* The device of the nearest key at or above the node. */
static uint16_t device_above(const struct mu_plan_map_work *w, uint32_t node)
{
    while (node != MU_PLAN_TREE_NONE && w->device_of[node] == MU_PLAN_MAP_NO_DEVICE)
        node = w->tree.nodes[node].parent;
    return node == MU_PLAN_TREE_NONE ? MU_PLAN_MAP_NO_DEVICE : w->device_of[node];
}

static mu_status check_given(struct mu_plan_map_work *w, struct mu_err *err)
{
    const struct mu_plan_tree *tree = &w->tree;
    for (uint32_t i = 0; i < tree->n; i++) {
        if (tree->nodes[i].kind != MU_PLAN_TREE_PARAMETER ||
            device_above(w, i) != MU_PLAN_MAP_NO_DEVICE)
            continue;
        const char *path = path_copy(w, i, err);
        if (!path) return MU_E_MEMORY;
        mu_status status =
            mu_fail(err, MU_E_INPUT, "the device map gives no device for '%.120s'", path);
        if (w->map->n_warnings) mu_err_cure(err, "%s", w->map->warnings[0]);
        return status;
    }
    for (uint32_t i = 0; i + 1 < tree->n_tied; i++)
        if (tree->nodes[tree->tied[i]].tie == tree->nodes[tree->tied[i + 1]].tie &&
            device_above(w, tree->tied[i]) != device_above(w, tree->tied[i + 1]))
            return mu_plan_map_warn(w, err, "tied parameters are on different devices");
    return check_quantised(w, err);
}

/* One device for the whole model, or a word that is neither a device nor a mode. */
static mu_status given_whole(struct mu_plan_map_work *w, const json_t *device, struct mu_err *err)
{
    if (given_entry(w, "", device, NULL) == MU_OK) return MU_OK;
    const char *text = json_string_value(device);
    (void)mu_fail(err, MU_E_USAGE, "'%.40s' is neither a mode nor a device", text ? text : "");
    mu_err_cure(err, "modes are auto, balanced, balanced_low_0 and sequential; devices 0, 1, ..., "
                     "cuda:0, mps, cpu and disk");
    return MU_E_USAGE;
}

static mu_status given(struct mu_plan_map_work *w, struct mu_err *err)
{
    json_t *all = w->request->device_map, *value;
    const char *key;
    size_t n = json_is_object(all) ? json_object_size(all) : 1;
    MU_TRY(keys_init(w, err));
    if (w->request->max_memory || w->request->free_memory) MU_TRY(mu_plan_map_limits_read(w, err));
    w->map->entries = mu_arena_alloc(w->map->arena, n, sizeof *w->map->entries);
    if (!w->map->entries) return mu_fail_memory(err, n * sizeof *w->map->entries);
    if (!json_is_object(all)) return given_whole(w, all, err);
    json_object_foreach(all, key, value)
    {
        MU_TRY(given_entry(w, key, value, err));
    }
    return check_given(w, err);
}

/* ---- results ---- */

static unsigned depth_of(const struct mu_plan_tree *tree, uint32_t node)
{
    unsigned depth = 0;
    while ((node = tree->nodes[node].parent) != MU_PLAN_TREE_NONE)
        depth++;
    return depth;
}

static mu_status sizes_take(struct mu_plan_map_work *w, struct mu_err *err)
{
    struct mu_plan_map *map = w->map;
    const struct mu_plan_tree *tree = &w->tree;
    size_t n = 0;
    for (uint32_t i = 0; i < tree->n; i++)
        n += tree->nodes[i].kind == MU_PLAN_TREE_MODULE && depth_of(tree, i) <= 3;
    map->sizes = mu_arena_alloc(map->arena, n, sizeof *map->sizes);
    if (!map->sizes) return mu_fail_memory(err, n * sizeof *map->sizes);
    for (uint32_t i = 0; i < tree->n; i++) {
        if (tree->nodes[i].kind != MU_PLAN_TREE_MODULE || depth_of(tree, i) > 3) continue;
        const char *path = i == 0 ? "total" : path_copy(w, i, err);
        if (!path) return MU_E_MEMORY;
        map->sizes[map->n_sizes++] = (struct mu_plan_map_size){path, tree->nodes[i].bytes};
    }
    return MU_OK;
}

static mu_status tied_take(struct mu_plan_map_work *w, struct mu_err *err)
{
    struct mu_plan_map *map = w->map;
    map->tied = mu_arena_alloc(map->arena, w->tree.n_tied, sizeof *map->tied);
    if (!map->tied) return mu_fail_memory(err, w->tree.n_tied * sizeof *map->tied);
    for (uint32_t i = 0; i < w->tree.n_tied; i++) {
        const char *path = path_copy(w, w->tree.tied[i], err);
        if (!path) return MU_E_MEMORY;
        map->tied[map->n_tied++] = path;
    }
    return MU_OK;
}

static mu_status work(struct mu_plan_map_work *w, struct mu_err *err)
{
    static const char *const rules[] = {"auto", "balanced", "balanced_low_0", "sequential"};
    MU_TRY(mu_plan_map_work_init(w, err));
    MU_TRY(model_read(w, err));
    const char *mode = json_string_value(w->request->device_map);
    bool by_name = false;
    for (size_t i = 0; mode && i < MU_ARRAY_LEN(rules); i++)
        by_name |= strcmp(mode, rules[i]) == 0;
    mu_status status = by_name ? mu_plan_map_by_rule(w, mode, err) : given(w, err);
    if (status != MU_OK) mu_err_where(err, "device map");
    MU_TRY(status);
    MU_TRY(sizes_take(w, err));
    return tied_take(w, err);
}

mu_status mu_plan_map_create(const struct mu_plan_map_request *request, struct mu_plan_map **out,
                             struct mu_err *err)
{
    struct mu_arena *arena = mu_arena_create(ARENA_BYTES);
    struct mu_plan_map *map = arena ? mu_arena_alloc(arena, 1, sizeof *map) : NULL;
    struct mu_plan_map_work w = {.request = request, .map = map};
    mu_status status = map ? MU_OK : mu_fail_memory(err, sizeof *map);
    if (map) {
        map->arena = arena;
        status = work(&w, err);
    }
    if (status == MU_OK)
        *out = map;
    else
        mu_arena_destroy(arena);
    return status;
}

void mu_plan_map_destroy(struct mu_plan_map *map)
{
    if (map) mu_arena_destroy(map->arena);
}
