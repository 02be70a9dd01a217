/*
 * Limits: how much of each device may be used. Reads them in the spellings that accelerate takes,
 * and lowers those of GPUs so that all get about the same.
 *
 * Bytes are doubles: both libraries multiply limits by fractions and go on with what comes out,
 * and doubles hold whole bytes exactly up to 8 PiB.
 */
#include "plan/device_map_int.h"

#include "base/number.h"

#include <math.h>
#include <stdlib.h>

/* What Python's float() takes beyond mu_parse_f64: space around, '_' between digits. */
static bool python_float(struct mu_str s, double *out)
{
    char text[64];
    size_t n = 0;
    while (s.len > 0 && strchr(" \t\n\r\f\v", s.p[0]) && s.p[0])
        s = (struct mu_str){s.p + 1, s.len - 1};
    while (s.len > 0 && strchr(" \t\n\r\f\v", s.p[s.len - 1]) && s.p[s.len - 1])
        s.len--;
    for (size_t i = 0; i < s.len; i++) {
        bool between = i > 0 && i + 1 < s.len && s.p[i - 1] >= '0' && s.p[i - 1] <= '9' &&
                       s.p[i + 1] >= '0' && s.p[i + 1] <= '9';
        if (s.p[i] == '_' && between) continue;
        if (n == sizeof text) return false;
        text[n++] = s.p[i];
    }
    return mu_parse_f64((struct mu_str){text, n}, out);
}

static bool ends_with_unit(struct mu_str s, const char *unit)
{
    size_t n = strlen(unit);
    if (s.len < n) return false;
    for (size_t i = 0; i < n; i++) {
        char c = s.p[s.len - n + i];
        if ((c >= 'a' && c <= 'z' ? c - 'a' + 'A' : c) != unit[i]) return false;
    }
    return true;
}

bool mu_plan_map_bytes(struct mu_str text, double *out)
{
    static const struct {
        const char *unit;
        double bytes;
        bool bits; /* a last 'b' in lower case means bits */
    } units[] = {{"GIB", 0x1p30, false}, {"MIB", 0x1p20, false}, {"KIB", 0x1p10, false},
                 {"GB", 1e9, true},      {"MB", 1e6, true},      {"KB", 1e3, true}};
    for (size_t i = 0; i < MU_ARRAY_LEN(units); i++) {
        if (!ends_with_unit(text, units[i].unit)) continue;
        double v;
        bool bits = units[i].bits && text.p[text.len - 1] == 'b';
        if (!python_float((struct mu_str){text.p, text.len - strlen(units[i].unit)}, &v))
            return false;
        v = trunc(v * units[i].bytes);
        if (!isfinite(v) || v < 0) return false;
        *out = (bits ? floor(v / 8) : v) + 0.0;
        return true;
    }
    return false;
}

/* ---- devices ---- */

static bool gpu_number(struct mu_str name, int *out)
{
    uint64_t number;
    if (name.len > 5 && memcmp(name.p, "cuda:", 5) == 0)
        name = (struct mu_str){name.p + 5, name.len - 5};
    else if (mu_str_is(name, "cuda"))
        name = MU_STR("0");
    if (!mu_parse_u64(name, 0, 9999, &number)) return false;
    *out = (int)number;
    return true;
}

mu_status mu_plan_map_device_named(struct mu_plan_map_work *w, struct mu_str name, unsigned *out,
                                   struct mu_err *err)
{
    static const char *const others[] = {"cpu", "mps", "disk"};
    struct mu_plan_map_device d = {.gpu = -1};
    for (size_t i = 0; i < MU_ARRAY_LEN(others); i++)
        if (mu_str_is(name, others[i])) d.name = others[i];
    if (!d.name && !gpu_number(name, &d.gpu)) {
        (void)mu_fail(err, MU_E_USAGE, "'%.*s' is not a device", (int)MU_MIN(name.len, 40), name.p);
        mu_err_cure(err, "devices are 0, 1, ... (GPUs), mps, cpu and disk");
        return MU_E_USAGE;
    }
    if (!d.name && !(d.name = mu_arena_printf(w->map->arena, "%d", d.gpu)))
        return mu_fail_memory(err, MU_FLOAT_TEXT);
    struct mu_plan_map *map = w->map;
    for (*out = 0; *out < map->n_devices; ++*out)
        if (strcmp(map->devices[*out].name, d.name) == 0) return MU_OK;
    if (map->n_devices == MU_PLAN_MAP_DEVICES_MAX)
        return mu_fail(err, MU_E_USAGE, "more than %d devices", MU_PLAN_MAP_DEVICES_MAX);
    map->devices[map->n_devices++] = d;
    return MU_OK;
}

static mu_status limit_read(const json_t *json, const char *name, double *out, struct mu_err *err)
{
    if (json_is_number(json)) {
        *out = json_number_value(json);
        return MU_OK;
    }
    struct mu_str text = {json_string_value(json), json_string_length(json)};
    if (text.p && mu_plan_map_bytes(text, out)) return MU_OK;
    (void)mu_fail(err, MU_E_USAGE, "device %.15s: '%.40s' is not a size", name,
                  text.p ? text.p : "");
    mu_err_cure(err, "use a number of bytes, or a text like \"20GiB\" or \"500MB\"");
    return MU_E_USAGE;
}

/* GPUs by number, then mps, cpu, disk. */
static int device_order(const void *a, const void *b)
{
    const struct mu_plan_map_device *x = a, *y = b;
    if ((x->gpu < 0) != (y->gpu < 0)) return x->gpu < 0 ? 1 : -1;
    if (x->gpu >= 0) return (x->gpu > y->gpu) - (x->gpu < y->gpu);
    static const char order[] = "mcd"; /* mps, cpu, disk by their first letters */
    return (int)(strchr(order, x->name[0]) - strchr(order, y->name[0]));
}

mu_status mu_plan_map_limits_read(struct mu_plan_map_work *w, struct mu_err *err)
{
    const struct mu_plan_map_request *request = w->request;
    json_t *limits = request->max_memory ? request->max_memory : request->free_memory;
    if (!json_is_object(limits))
        return mu_fail(err, MU_E_USAGE, "the memory of the devices is not a JSON object");
    const char *key;
    json_t *value;
    json_object_foreach(limits, key, value)
    {
        unsigned device;
        size_t before = w->map->n_devices;
        MU_TRY(mu_plan_map_device_named(w, mu_str(key), &device, err));
        if (w->map->n_devices == before)
            return mu_fail(err, MU_E_USAGE, "device %.15s is named twice", key);
        MU_TRY(limit_read(value, key, &w->map->devices[device].limit_bytes, err));
        if (request->max_memory && request->free_memory && w->map->devices[device].gpu >= 0 &&
            !json_object_get(request->free_memory, w->map->devices[device].name))
            MU_TRY(mu_plan_map_warn(w, err, "there is no GPU %.15s", key));
    }
    qsort(w->map->devices, w->map->n_devices, sizeof *w->map->devices, device_order);
    /* transformers leaves a tenth of the host's memory alone unless it was told a figure. */
    for (size_t i = 0; i < w->map->n_devices; i++)
        if (!request->max_memory && request->rules == MU_PLAN_TRANSFORMERS &&
            strcmp(w->map->devices[i].name, "cpu") == 0)
            w->map->devices[i].limit_bytes *= 0.90;
    for (size_t i = 0; i < w->map->n_devices; i++)
        w->map->devices[i].listed = true;
    unsigned disk;
    MU_TRY(mu_plan_map_device_named(w, MU_STR("disk"), &disk, err));
    return MU_OK;
}

/* ---- balancing ---- */

/* accelerate sees no mps device on a machine with GPUs. */
static bool counts(const struct mu_plan_map_work *w, const struct mu_plan_map_device *d)
{
    bool mps = strcmp(d->name, "mps") == 0;
    if (mps && w->request->rules == MU_PLAN_ACCELERATE && w->map->devices[0].gpu >= 0) return false;
    return (mps || d->gpu >= 0) && d->limit_bytes > 0;
}

/* transformers: the largest module that is not split, or the largest sum of tensors directly in
 * one module. */
static double largest_piece(const struct mu_plan_tree *tree)
{
    double largest = 0;
    for (uint32_t i = 1; i < tree->n; i++) {
        const struct mu_plan_tree_node *node = &tree->nodes[i];
        if (node->kind != MU_PLAN_TREE_MODULE) continue;
        double own = 0;
        for (uint32_t c = i + 1; c < node->end; c = tree->nodes[c].end)
            if (tree->nodes[c].kind != MU_PLAN_TREE_MODULE) own += tree->nodes[c].bytes;
        largest = MU_MAX(largest, MU_MAX(own, node->no_split ? node->bytes : 0));
    }
    return largest;
}

/* The first module of its class among those not split: later ones do not count for accelerate. */
static bool first_of_class(const struct mu_plan_tree *tree, uint32_t node)
{
    for (uint32_t i = 0; i < node; i++)
        if (tree->nodes[i].no_split && tree->nodes[i].n_tensors > 0 &&
            mu_str_equal(tree->nodes[i].class_name, tree->nodes[node].class_name))
            return false;
    return true;
}

static bool has_children_with_tensors(const struct mu_plan_tree *tree, uint32_t node)
{
    for (uint32_t c = node + 1; c < tree->nodes[node].end; c = tree->nodes[c].end)
        if (tree->nodes[c].kind == MU_PLAN_TREE_MODULE && tree->nodes[c].n_tensors > 0) return true;
    return false;
}

/* accelerate: the first module of each class that is not split, or the mean of final modules. */
static double mean_piece(const struct mu_plan_tree *tree)
{
    double largest = 0, sum = 0, n = 0;
    for (uint32_t i = 1; i < tree->n; i++) {
        const struct mu_plan_tree_node *node = &tree->nodes[i];
        if (node->kind != MU_PLAN_TREE_MODULE || node->n_tensors == 0) continue;
        if (node->no_split && node->bytes > largest && first_of_class(tree, i))
            largest = node->bytes;
        if (has_children_with_tensors(tree, i)) continue;
        sum += node->bytes;
        n++;
    }
    return MU_MAX(largest, trunc(sum / MU_MAX(n, 1)));
}

static struct mu_plan_map_device *gpu_find(struct mu_plan_map *map, int gpu)
{
    for (size_t i = 0; i < map->n_devices; i++)
        if (map->devices[i].gpu == gpu) return &map->devices[i];
    return NULL;
}

/*
 * GPU 0 gets what the others cannot hold. The libraries take GPUs 1 to n - 1 for the others and
 * fail where one of these is not there; then all GPUs but the first are meant.
 */
static void lower_zero(struct mu_plan_map *map, unsigned n, double total)
{
    double others = 0;
    struct mu_plan_map_device *zero = gpu_find(map, 0), *d = zero;
    for (int gpu = 1; gpu < (int)n && d; gpu++)
        if ((d = gpu_find(map, gpu))) others += d->limit_bytes;
    if (!d) {
        zero = NULL;
        others = 0;
        for (size_t i = 0; i < map->n_devices; i++) {
            if (map->devices[i].gpu < 0 || map->devices[i].limit_bytes <= 0) continue;
            if (zero)
                others += map->devices[i].limit_bytes;
            else
                zero = &map->devices[i];
        }
    }
    if (zero) zero->limit_bytes = MU_MIN(MU_MAX(0, total - others), zero->limit_bytes);
}

void mu_plan_map_limits_balance(struct mu_plan_map_work *w, bool low_zero)
{
    struct mu_plan_map *map = w->map;
    unsigned n = 0;
    struct mu_plan_map_device *last = NULL;
    for (size_t i = 0; i < map->n_devices; i++) {
        if (!counts(w, &map->devices[i])) continue;
        n++;
        if (map->devices[i].gpu >= 0) last = &map->devices[i];
    }
    if (n == 0) return;
    if (n == 1) low_zero = false;
    if (n == 1 && !w->request->max_memory && map->devices[0].gpu >= 0)
        map->devices[0].limit_bytes *= 0.9;
    double total = w->tree.nodes[0].bytes, share = low_zero ? n - 1 : n;
    double each = (total - fmod(total, share)) / share;
    each += trunc(1.25 * (w->request->rules == MU_PLAN_ACCELERATE ? mean_piece(&w->tree)
                                                                  : largest_piece(&w->tree)));
    for (struct mu_plan_map_device *d = map->devices; last && d < last; d++)
        if (d->gpu >= 0 && d->limit_bytes > 0 && !(low_zero && d->gpu == 0))
            d->limit_bytes = MU_MIN(each, d->limit_bytes);
    if (low_zero) lower_zero(map, n, total);
}
