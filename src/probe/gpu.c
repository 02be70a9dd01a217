/* One GPU as the driver tells it: which calls give which figure, as tables. Knows nothing of hangs
 * (nvml.c) and of sysfs (sys.c). The caller's thread. */
#include "base/alloc.h"
#include "probe/probe_int.h"

#include <math.h>
#include <stdio.h>

/* Where a figure stands in what a call wrote. */
enum place { PLACE_U32, PLACE_U64, PLACE_MEMORY, PLACE_FABRIC_STATE, PLACE_FABRIC_HEALTH };

struct reading {
    enum mu_probe_metric metric;
    enum nvml_function function;
    unsigned a, b;
    enum place place;
    unsigned index;
    double scale;
};

#define N_WATCHED 2

/* Rows of one call stand together, the fast metrics first, those that are watched for last. */
static const struct reading readings[] = {
    {MU_PROBE_MEMORY_TOTAL, NVML_MEMORY, 0, 0, PLACE_MEMORY, 0, 1},
    {MU_PROBE_MEMORY_FREE, NVML_MEMORY, 0, 0, PLACE_MEMORY, 1, 1},
    {MU_PROBE_MEMORY_USED, NVML_MEMORY, 0, 0, PLACE_MEMORY, 2, 1},
    {MU_PROBE_UTILIZATION, NVML_UTILIZATION, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_MEMORY_UTILIZATION, NVML_UTILIZATION, 0, 0, PLACE_U32, 1, 1},
    {MU_PROBE_POWER, NVML_POWER, 0, 0, PLACE_U32, 0, 1e-3},
    {MU_PROBE_ENERGY, NVML_ENERGY, 0, 0, PLACE_U64, 0, 1e-3},
    {MU_PROBE_TEMPERATURE, NVML_TEMPERATURE, NVML_TEMPERATURE_GPU, 0, PLACE_U32, 0, 1},
    {MU_PROBE_SM_CLOCK, NVML_CLOCK, NVML_CLOCK_SM, 0, PLACE_U32, 0, 1},
    {MU_PROBE_MEMORY_CLOCK, NVML_CLOCK, NVML_CLOCK_MEMORY, 0, PLACE_U32, 0, 1},
    {MU_PROBE_CLOCK_REASONS, NVML_CLOCK_REASONS, 0, 0, PLACE_U64, 0, 1},
    {MU_PROBE_POWER_LIMIT, NVML_POWER_LIMIT, 0, 0, PLACE_U32, 0, 1e-3},
    {MU_PROBE_SM_CLOCK_MAX, NVML_CLOCK_MAX, NVML_CLOCK_SM, 0, PLACE_U32, 0, 1},
    {MU_PROBE_MEMORY_CLOCK_MAX, NVML_CLOCK_MAX, NVML_CLOCK_MEMORY, 0, PLACE_U32, 0, 1},
    {MU_PROBE_SLOWDOWN_TEMPERATURE, NVML_TEMPERATURE_THRESHOLD, NVML_THRESHOLD_SLOWDOWN, 0,
     PLACE_U32, 0, 1},
    {MU_PROBE_PERFORMANCE_STATE, NVML_PERFORMANCE_STATE, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_FAN, NVML_FAN, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_BUS_WIDTH, NVML_BUS_WIDTH, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_PCIE_GENERATION, NVML_PCIE_GENERATION, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_PCIE_GENERATION_MAX, NVML_PCIE_GENERATION_MAX, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_PCIE_WIDTH, NVML_PCIE_WIDTH, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_PCIE_WIDTH_MAX, NVML_PCIE_WIDTH_MAX, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_PCIE_REPLAYS, NVML_PCIE_REPLAYS, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_ECC_ENABLED, NVML_ECC_MODE, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_ECC_CORRECTED, NVML_ECC_ERRORS, NVML_ECC_CORRECTED, NVML_ECC_VOLATILE, PLACE_U64, 0,
     1},
    {MU_PROBE_ECC_UNCORRECTED, NVML_ECC_ERRORS, NVML_ECC_UNCORRECTED, NVML_ECC_VOLATILE, PLACE_U64,
     0, 1},
    {MU_PROBE_ECC_UNCORRECTED_EVER, NVML_ECC_ERRORS, NVML_ECC_UNCORRECTED, NVML_ECC_AGGREGATE,
     PLACE_U64, 0, 1},
    {MU_PROBE_REMAPPED_CORRECTABLE, NVML_REMAPPED_ROWS, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_REMAPPED_UNCORRECTABLE, NVML_REMAPPED_ROWS, 0, 0, PLACE_U32, 1, 1},
    {MU_PROBE_REMAP_PENDING, NVML_REMAPPED_ROWS, 0, 0, PLACE_U32, 2, 1},
    {MU_PROBE_REMAP_FAILED, NVML_REMAPPED_ROWS, 0, 0, PLACE_U32, 3, 1},
    {MU_PROBE_MIG_ENABLED, NVML_MIG_MODE, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_PERSISTENCE, NVML_PERSISTENCE, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_COMPUTE_MODE, NVML_COMPUTE_MODE, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_CAPABILITY_MAJOR, NVML_CAPABILITY, 0, 0, PLACE_U32, 0, 1},
    {MU_PROBE_CAPABILITY_MINOR, NVML_CAPABILITY, 0, 0, PLACE_U32, 1, 1},
    {MU_PROBE_FABRIC_STATE, NVML_FABRIC, 0, 0, PLACE_FABRIC_STATE, 0, 1},
    {MU_PROBE_FABRIC_HEALTH, NVML_FABRIC, 0, 0, PLACE_FABRIC_HEALTH, 0, 1},
    {MU_PROBE_PCIE_SENT, NVML_PCIE_THROUGHPUT, NVML_PCIE_SENT, 0, PLACE_U32, 0, 1e3},
    {MU_PROBE_PCIE_RECEIVED, NVML_PCIE_THROUGHPUT, NVML_PCIE_RECEIVED, 0, PLACE_U32, 0, 1e3},
};

static const struct {
    enum mu_probe_metric metric;
    unsigned id, scope;
    double scale;
} fields[] = {
    {MU_PROBE_MEMORY_TEMPERATURE, NVML_FIELD_MEMORY_TEMPERATURE, 0, 1},
    {MU_PROBE_POWER_INSTANT, NVML_FIELD_POWER_INSTANT, 0, 1e-3},
    {MU_PROBE_RECOVERY_ACTION, NVML_FIELD_RECOVERY, 0, 1},
    {MU_PROBE_NVLINK_SENT, NVML_FIELD_NVLINK_SENT, NVML_ALL_LINKS, 1024},
    {MU_PROBE_NVLINK_RECEIVED, NVML_FIELD_NVLINK_RECEIVED, NVML_ALL_LINKS, 1024},
};

static const double metric_max[] = {
#define MAX_(name, key, unit, max) max,
    MU_PROBE_METRIC_TABLE(MAX_)
#undef MAX_
};

static struct mu_probe_value believed(enum mu_probe_metric metric, double value)
{
    if (isnan(value)) return probe_absent(MU_PROBE_NOT_SUPPORTED);
    bool sane = value >= 0 && value <= metric_max[metric];
    return sane ? probe_value(value) : probe_absent(MU_PROBE_RUBBISH);
}

static double place_read(const struct nvml *lib, const struct reading *r, const struct nvml_call *c)
{
    const struct nvml_memory_v2 *m2 = &c->out.memory_v2;
    const struct nvml_memory *m1 = &c->out.memory;
    bool newest = nvml_version(lib, c->function) == 0;
    switch (r->place) {
    case PLACE_U32:
        return (double)c->out.u32[r->index];
    case PLACE_U64:
        return (double)c->out.u64[r->index];
    case PLACE_MEMORY: {
        unsigned long long v2[] = {m2->total, m2->free, m2->used};
        unsigned long long v1[] = {m1->total, m1->free, m1->used};
        return (double)(newest ? v2 : v1)[r->index];
    }
    case PLACE_FABRIC_STATE:
        return newest ? c->out.fabric_v2.state : c->out.fabric.state;
    case PLACE_FABRIC_HEALTH:
        return newest ? (double)c->out.fabric_v2.health : (double)NAN; /* older: it is not said */
    }
    return -1;
}

static bool same_call(const struct reading *a, const struct reading *b)
{
    return a->function == b->function && a->a == b->a && a->b == b->b;
}

/* Used memory beyond the total is rubbish, whichever of the two is wrong. */
static void memory_check(struct mu_probe_value *values)
{
    struct mu_probe_value total = values[MU_PROBE_MEMORY_TOTAL];
    if (!mu_probe_has(total)) return;
    if (total.value == 0) values[MU_PROBE_MEMORY_TOTAL].absent = MU_PROBE_RUBBISH;
    for (unsigned m = MU_PROBE_MEMORY_USED; m <= MU_PROBE_MEMORY_FREE; m++)
        if (mu_probe_has(values[m]) && values[m].value > total.value)
            values[m] = probe_absent(MU_PROBE_RUBBISH);
}

/* `n_readings` from `first` on, of every device, in one round of the driver. */
static mu_status readings_run(struct nvml *lib, void *const *devices, unsigned n_devices,
                              unsigned first, unsigned n_readings,
                              struct mu_probe_value *const *values, struct mu_err *err)
{
    const struct reading *asked[MU_ARRAY_LEN(readings)] = {NULL}, *row = &readings[first];
    unsigned call_of[MU_ARRAY_LEN(readings)], n = 0;
    for (unsigned i = 0; i < n_readings; i++) {
        if (i == 0 || !same_call(&row[i], &row[i - 1])) asked[n++] = &row[i];
        call_of[i] = n - 1;
    }
    struct nvml_call *calls = mu_calloc((size_t)n * n_devices, sizeof *calls);
    if (!calls) return mu_fail_memory(err, sizeof *calls);
    for (unsigned c = 0; c < n * n_devices; c++)
        calls[c] = (struct nvml_call){.function = asked[c % n]->function,
                                      .device = devices[c / n],
                                      .a = asked[c % n]->a,
                                      .b = asked[c % n]->b};
    MU_TRY(nvml_run(lib, &calls, n * n_devices, err));
    for (unsigned d = 0; d < n_devices; d++) {
        for (unsigned i = 0; i < n_readings; i++) {
            const struct reading *r = &row[i];
            const struct nvml_call *c = &calls[d * n + call_of[i]];
            values[d][r->metric] = c->absent
                                       ? probe_absent(c->absent)
                                       : believed(r->metric, place_read(lib, r, c) * r->scale);
        }
        memory_check(values[d]);
    }
    mu_free(calls);
    return MU_OK;
}

mu_status gpu_read_fast(struct nvml *lib, void *const *devices, unsigned n_devices,
                        struct mu_probe_value *const *values, struct mu_err *err)
{
    unsigned n = 0;
    while (n < MU_ARRAY_LEN(readings) && readings[n].metric < MU_PROBE_FAST)
        n++;
    return n_devices ? readings_run(lib, devices, n_devices, 0, n, values, err) : MU_OK;
}

/* --- fields, names ---------------------------------------------------------------------------- */

static double field_number(const struct nvml_field *f)
{
    switch (f->type) {
    case NVML_TYPE_DOUBLE:
        return f->value.f64;
    case NVML_TYPE_U32:
        return f->value.u32;
    case NVML_TYPE_ULONG:
    case NVML_TYPE_U64:
        return (double)f->value.u64;
    case NVML_TYPE_I64:
        return (double)(long long)f->value.u64;
    case NVML_TYPE_I32:
        return f->value.i32;
    default:
        return -1;
    }
}

static void fields_ask(struct nvml_call *c)
{
    c->function = NVML_FIELDS;
    c->a = MU_ARRAY_LEN(fields);
    for (unsigned i = 0; i < MU_ARRAY_LEN(fields); i++) {
        c->out.fields[i].id = fields[i].id;
        c->out.fields[i].scope = fields[i].scope;
    }
}

static void fields_take(const struct nvml_call *c, struct mu_probe_value *values)
{
    for (unsigned i = 0; i < MU_ARRAY_LEN(fields); i++) {
        const struct nvml_field *f = &c->out.fields[i];
        mu_probe_absence why = c->absent;
        if (!why && f->code)
            why = f->code < MU_PROBE_NOT_ASKED ? (mu_probe_absence)f->code : MU_PROBE_RUBBISH;
        values[fields[i].metric] =
            why ? probe_absent(why) : believed(fields[i].metric, field_number(f) * fields[i].scale);
    }
}

static void name_take(const struct nvml_call *c, char out[MU_PROBE_TEXT_MAX])
{
    if (c->absent)
        out[0] = '\0';
    else
        probe_text_copy(out, MU_PROBE_TEXT_MAX, c->out.text, sizeof c->out.text);
}

static void pci_take(const struct nvml_call *c, char out[32])
{
    const struct nvml_pci *p = &c->out.pci;
    out[0] = '\0';
    if (!c->absent && p->domain <= 0xffffffu && p->bus <= 0xff && p->device <= 0x1f)
        (void)snprintf(out, 32, "%04x:%02x:%02x.0", p->domain, p->bus, p->device);
}

/* --- processes ------------------------------------------------------------------------------- */

#define UNTOUCHED 0xa5
#define PID_MAX   (1u << 22) /* the kernel's own limit */

/* How far apart the items lie: drivers of the 535 series write larger ones behind the same name,
 * and then bytes are touched past where the usual ones end. */
static size_t process_stride(const struct nvml *lib, const struct nvml_call *c)
{
    if (nvml_version(lib, NVML_PROCESSES) == NVML_NAMES_MAX - 1)
        return sizeof(struct nvml_process_v1);
    for (size_t i = c->a * sizeof(struct nvml_process_v2);
         i < c->a * sizeof(struct nvml_process_535); i++)
        if (c->out.bytes[i] != UNTOUCHED) return sizeof(struct nvml_process_535);
    return sizeof(struct nvml_process_v2);
}

static void processes_take(const struct nvml *lib, const struct nvml_call *c,
                           struct mu_probe_gpu *gpu)
{
    gpu->n_processes = 0;
    gpu->processes_absent = c->absent;
    if (c->absent) return;
    if (c->a > MU_PROBE_PROCESSES_MAX) {
        gpu->processes_absent = MU_PROBE_RUBBISH;
        return;
    }
    size_t stride = process_stride(lib, c);
    for (unsigned i = 0; i < c->a; i++) {
        struct nvml_process_v1 item;
        memcpy(&item, c->out.bytes + i * stride, sizeof item);
        if (item.pid == 0 || item.pid > PID_MAX) {
            gpu->processes_absent = MU_PROBE_RUBBISH;
            continue;
        }
        struct mu_probe_process *p = &gpu->processes[gpu->n_processes++];
        *p = (struct mu_probe_process){.pid = item.pid};
        p->used_bytes = item.used == NVML_NOT_AVAILABLE
                            ? probe_absent(MU_PROBE_NOT_SUPPORTED)
                            : believed(MU_PROBE_MEMORY_USED, (double)item.used);
    }
}

/* --- links ----------------------------------------------------------------------------------- */

enum { LINK_STATE, LINK_VERSION, LINK_REMOTE, LINK_REPLAYS, LINK_RECOVERIES, LINK_CRC, LINK_CALLS };

static const struct {
    enum nvml_function function;
    unsigned b;
} link_calls[LINK_CALLS] = {
    [LINK_STATE] = {NVML_LINK_STATE, 0},
    [LINK_VERSION] = {NVML_LINK_VERSION, 0},
    [LINK_REMOTE] = {NVML_LINK_REMOTE, 0},
    [LINK_REPLAYS] = {NVML_LINK_ERRORS, NVML_LINK_REPLAY},
    [LINK_RECOVERIES] = {NVML_LINK_ERRORS, NVML_LINK_RECOVERY},
    [LINK_CRC] = {NVML_LINK_ERRORS, NVML_LINK_CRC_FLIT},
};

static struct mu_probe_value counted(const struct nvml_call *c)
{
    return c->absent ? probe_absent(c->absent) : probe_value((double)c->out.u64[0]);
}

static void link_take(const struct nvml_call *c, struct mu_probe_nvlink *link)
{
    const struct nvml_call *state = &c[LINK_STATE];
    link->up = state->absent ? probe_absent(state->absent) : probe_value(state->out.u32[0] ? 1 : 0);
    link->version = c[LINK_VERSION].absent ? probe_absent(c[LINK_VERSION].absent)
                                           : probe_value(c[LINK_VERSION].out.u32[0]);
    link->replays = counted(&c[LINK_REPLAYS]);
    link->recoveries = counted(&c[LINK_RECOVERIES]);
    link->crc_errors = counted(&c[LINK_CRC]);
    char bus_id[32];
    pci_take(&c[LINK_REMOTE], bus_id);
    (void)snprintf(link->remote, sizeof link->remote, "%s", bus_id);
}

/* Asks for the details of those links only that exist. */
static mu_status links_read(struct nvml *lib, void *device, struct mu_probe_gpu *gpu,
                            struct mu_err *err)
{
    struct nvml_call *calls = mu_calloc((size_t)MU_PROBE_LINKS_MAX * LINK_CALLS, sizeof *calls);
    if (!calls) return mu_fail_memory(err, sizeof *calls);
    unsigned n = 0;
    for (unsigned l = 0; l < MU_PROBE_LINKS_MAX; l++)
        calls[n++] = (struct nvml_call){.function = NVML_LINK_STATE, .device = device, .a = l};
    MU_TRY(nvml_run(lib, &calls, n, err));
    unsigned link_of[MU_PROBE_LINKS_MAX], n_links = 0;
    for (unsigned l = 0; l < MU_PROBE_LINKS_MAX; l++) {
        gpu->links[l].up = probe_absent(calls[l].absent);
        if (!calls[l].absent) link_of[n_links++] = l;
    }
    n = n_links * LINK_CALLS;
    memset(calls, 0, n * sizeof *calls);
    for (unsigned i = 0; i < n; i++)
        calls[i] = (struct nvml_call){.function = link_calls[i % LINK_CALLS].function,
                                      .device = device,
                                      .a = link_of[i / LINK_CALLS],
                                      .b = link_calls[i % LINK_CALLS].b};
    MU_TRY(nvml_run(lib, &calls, n, err));
    for (unsigned i = 0; i < n_links; i++)
        link_take(&calls[(size_t)i * LINK_CALLS], &gpu->links[link_of[i]]);
    mu_free(calls);
    return MU_OK;
}

/* --- MIG ------------------------------------------------------------------------------------- */

static mu_status slice_read(struct nvml *lib, void *slice, struct mu_probe_slice *out,
                            struct mu_err *err)
{
    struct nvml_call *calls = mu_calloc(2, sizeof *calls);
    if (!calls) return mu_fail_memory(err, sizeof *calls);
    calls[0] = (struct nvml_call){.function = NVML_NAME, .device = slice};
    calls[1] = (struct nvml_call){.function = NVML_UUID, .device = slice};
    MU_TRY(nvml_run(lib, &calls, 2, err));
    name_take(&calls[0], out->name);
    name_take(&calls[1], out->uuid);
    mu_free(calls);
    struct mu_probe_value values[MU_PROBE_METRIC_COUNT], *into = values;
    /* The call for memory gives the first three. */
    MU_TRY(readings_run(lib, &slice, 1, 0, 3, &into, err));
    out->total_bytes = values[MU_PROBE_MEMORY_TOTAL];
    out->used_bytes = values[MU_PROBE_MEMORY_USED];
    return MU_OK;
}

static mu_status slices_read(struct nvml *lib, void *device, struct mu_probe_gpu *gpu,
                             struct mu_err *err)
{
    gpu->n_slices = 0;
    struct mu_probe_value on = gpu->values[MU_PROBE_MIG_ENABLED];
    if (!mu_probe_has(on) || on.value == 0) return MU_OK;
    struct nvml_call *calls = mu_calloc(MU_PROBE_SLICES_MAX, sizeof *calls);
    if (!calls) return mu_fail_memory(err, sizeof *calls);
    for (unsigned i = 0; i < MU_PROBE_SLICES_MAX; i++)
        calls[i] = (struct nvml_call){.function = NVML_MIG_HANDLE, .device = device, .a = i};
    MU_TRY(nvml_run(lib, &calls, MU_PROBE_SLICES_MAX, err));
    mu_status status = MU_OK;
    for (unsigned i = 0; status == MU_OK && i < MU_PROBE_SLICES_MAX; i++)
        if (!calls[i].absent && calls[i].out.device)
            status = slice_read(lib, calls[i].out.device, &gpu->slices[gpu->n_slices++], err);
    mu_free(calls);
    return status;
}

/* --- a GPU ----------------------------------------------------------------------------------- */

enum { CALL_NAME, CALL_UUID, CALL_VBIOS, CALL_PCI, CALL_FIELDS, CALL_PROCESSES, N_CALLS };

static mu_status identity_read(struct nvml *lib, void *device, struct mu_probe_gpu *gpu,
                               struct mu_err *err)
{
    static const enum nvml_function asked[N_CALLS] = {NVML_NAME, NVML_UUID,   NVML_VBIOS,
                                                      NVML_PCI,  NVML_FIELDS, NVML_PROCESSES};
    struct nvml_call *calls = mu_calloc(N_CALLS, sizeof *calls);
    if (!calls) return mu_fail_memory(err, N_CALLS * sizeof *calls);
    for (unsigned i = 0; i < N_CALLS; i++)
        calls[i].function = asked[i];
    fields_ask(&calls[CALL_FIELDS]);
    calls[CALL_PROCESSES].a = MU_PROBE_PROCESSES_MAX;
    memset(calls[CALL_PROCESSES].out.bytes, UNTOUCHED, sizeof calls[CALL_PROCESSES].out.bytes);
    for (unsigned i = 0; i < N_CALLS; i++)
        calls[i].device = device;
    MU_TRY(nvml_run(lib, &calls, N_CALLS, err));
    name_take(&calls[CALL_NAME], gpu->name);
    name_take(&calls[CALL_UUID], gpu->uuid);
    name_take(&calls[CALL_VBIOS], gpu->vbios);
    pci_take(&calls[CALL_PCI], gpu->bus_id);
    fields_take(&calls[CALL_FIELDS], gpu->values);
    processes_take(lib, &calls[CALL_PROCESSES], gpu);
    mu_free(calls);
    return MU_OK;
}

mu_status gpu_read(struct nvml *lib, unsigned index, struct mu_probe_gpu *gpu, void **device,
                   struct mu_err *err)
{
    *gpu = (struct mu_probe_gpu){.index = index, .processes_absent = MU_PROBE_NOT_ASKED};
    for (unsigned m = 0; m < MU_PROBE_METRIC_COUNT; m++)
        gpu->values[m] = probe_absent(MU_PROBE_NOT_ASKED);
    for (unsigned l = 0; l < MU_PROBE_LINKS_MAX; l++)
        gpu->links[l].up = probe_absent(MU_PROBE_NOT_ASKED);
    struct nvml_call *call = mu_calloc(1, sizeof *call);
    if (!call) return mu_fail_memory(err, sizeof *call);
    *call = (struct nvml_call){.function = NVML_HANDLE, .a = index};
    MU_TRY(nvml_run(lib, &call, 1, err));
    gpu->unusable = call->absent;
    *device = call->absent ? NULL : call->out.device;
    mu_free(call);
    if (!*device) {
        for (unsigned m = 0; m < MU_PROBE_METRIC_COUNT; m++)
            gpu->values[m] = probe_absent(gpu->unusable);
        return MU_OK;
    }
    struct mu_probe_value *into = gpu->values;
    MU_TRY(readings_run(lib, device, 1, 0, MU_ARRAY_LEN(readings) - N_WATCHED, &into, err));
    MU_TRY(identity_read(lib, *device, gpu, err));
    MU_TRY(links_read(lib, *device, gpu, err));
    return slices_read(lib, *device, gpu, err);
}

mu_status gpu_read_watched(struct nvml *lib, struct mu_probe_gpu *gpu, void *device,
                           struct mu_err *err)
{
    struct mu_probe_value *into = gpu->values;
    if (!device) return MU_OK;
    return readings_run(lib, &device, 1, MU_ARRAY_LEN(readings) - N_WATCHED, N_WATCHED, &into, err);
}

mu_status gpu_paths(struct nvml *lib, void *const *devices, struct mu_probe_node *node,
                    struct mu_err *err)
{
    unsigned n = 0;
    struct nvml_call *calls =
        mu_calloc((size_t)MU_PROBE_GPUS_MAX * MU_PROBE_GPUS_MAX / 2, sizeof *calls);
    if (!calls) return mu_fail_memory(err, sizeof *calls);
    for (unsigned a = 0; a < node->n_gpus; a++)
        for (unsigned b = 0; b < a; b++)
            if (devices[a] && devices[b])
                calls[n++] = (struct nvml_call){
                    .function = NVML_COMMON_ANCESTOR, .device = devices[a], .other = devices[b]};
    MU_TRY(nvml_run(lib, &calls, n, err));
    n = 0;
    for (unsigned a = 0; a < node->n_gpus; a++) {
        node->path[a][a] = probe_value(MU_PROBE_PATH_SAME);
        for (unsigned b = 0; b < a; b++) {
            struct mu_probe_value v = probe_absent(MU_PROBE_GPU_LOST);
            if (devices[a] && devices[b]) {
                const struct nvml_call *c = &calls[n++];
                v = c->absent ? probe_absent(c->absent) : probe_value(c->out.u32[0]);
            }
            node->path[a][b] = node->path[b][a] = v;
        }
    }
    mu_free(calls);
    return MU_OK;
}
