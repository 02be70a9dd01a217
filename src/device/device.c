/* Devices with budgets: CPU devices. See device.h. */
#include "device/device.h"

#include "base/alloc.h"
#include "base/checked.h"
#include "base/fault.h"
#include "base/number.h"
#include "probe/probe.h"

#include <stdio.h>
#include <sys/mman.h>

/* From this size on memory comes out of the device's region. */
#define REGION_FROM_BYTES (1u << 16)
#define TOUCH_MAX_BYTES   ((uint64_t)64 << 20)
#define HUGE_PAGE         ((uint64_t)2 << 20)
/* The region becomes usable in steps, so that huge pages can be had before it is all in use. */
#define REGION_STEP (32 * HUGE_PAGE)

/* Addresses for the whole budget, of which [0, used) are given out and [0, open) may be touched.
 * One after the other: a model's many matrices are smaller than a huge page each, and share them.
 */
struct region {
    char *base;
    uint64_t bytes, open, used;
    char *reserved; /* what base, aligned, lies in */
};

struct mu_device {
    struct mu_device_spec spec;
    pthread_mutex_t lock; /* of the region, and of what the budget leaves */
    struct region region;
    struct {
        _Atomic uint64_t now[MU_PURPOSE_COUNT], high[MU_PURPOSE_COUNT];
        _Atomic uint64_t total_now, total_high;
    } usage;
};

const char *mu_purpose_name(enum mu_purpose purpose)
{
    static const char *const names[MU_PURPOSE_COUNT] = {"weights", "kv", "activations", "tables",
                                                        "staging"};
    return names[purpose];
}

static mu_status fail_spec(const char *text, struct mu_err *err)
{
    mu_status status = mu_fail(err, MU_E_USAGE, "cannot read the devices '%s'", text);
    mu_err_cure(err, "write cpu, cpu:4 or cpu:4x2GiB");
    return status;
}

mu_status mu_devices_parse(const char *text, unsigned threads, struct mu_device_list *out,
                           struct mu_err *err)
{
    return mu_devices_parse_share(text, threads, 0, 1, 1, out, err);
}

mu_status mu_devices_parse_share(const char *text, unsigned threads, unsigned cpu_index,
                                 unsigned of_cpus, unsigned of_memory, struct mu_device_list *out,
                                 struct mu_err *err)
{
    uint64_t n = 1, budget = 0;
    if (strncmp(text, "cuda", 4) == 0) {
        mu_status status = mu_fail(err, MU_E_UNSUPPORTED, "this build has no CUDA devices");
        mu_err_cure(err, "use --devices cpu");
        return status;
    }
    if (strncmp(text, "cpu", 3) != 0 || (text[3] != '\0' && text[3] != ':'))
        return fail_spec(text, err);
    if (text[3] == ':') {
        const char *count = text + 4;
        size_t len = strcspn(count, "x");
        if (!mu_parse_u64((struct mu_str){count, len}, 1, UINT64_MAX, &n))
            return fail_spec(text, err);
        if (n > MU_DEVICES_MAX)
            return mu_fail(err, MU_E_USAGE, "%llu devices are more than the %u that can be had",
                           (unsigned long long)n, (unsigned)MU_DEVICES_MAX);
        if (count[len] == 'x' && (!mu_parse_bytes(mu_str(count + len + 1), &budget) || budget == 0))
            return fail_spec(text, err);
    }
    struct mu_probe_cpu machine;
    mu_probe_cpu(NULL, &machine);
    if (budget == 0 && machine.available_bytes == 0) {
        mu_status status =
            mu_fail(err, MU_E_RESOURCE, "no memory is available, or how much cannot be read");
        mu_err_cure(err, "say how much may be used: --devices cpu:%llux2GiB",
                    (unsigned long long)n);
        return status;
    }
    int cpus[MU_DEVICE_CPUS_MAX];
    unsigned usable = mu_cpu_usable(cpus, MU_DEVICE_CPUS_MAX);
    *out = (struct mu_device_list){.n = (unsigned)n, .host_bytes = machine.available_bytes};
    for (unsigned i = 0; i < n; i++) {
        struct mu_device_spec *d = &out->items[i];
        unsigned all = (unsigned)n * of_cpus, number = (unsigned)n * cpu_index + i;
        unsigned first = number * usable / all, end = (number + 1) * usable / all;
        d->n_threads = threads ? threads : MU_MAX(end - first, 1u);
        /* Pinned only where every thread of every device has a core of its own. */
        if (d->n_threads == end - first)
            for (unsigned j = first; j < end; j++)
                d->cpus[d->n_cpus++] = cpus[j];
        d->budget_bytes = budget ? budget : machine.available_bytes / (n * of_memory);
        if (n == 1)
            (void)snprintf(d->name, sizeof d->name, "cpu");
        else
            (void)snprintf(d->name, sizeof d->name, "cpu:%u", i);
    }
    return MU_OK;
}

/* Without a region (a limit on addresses, say) memory comes from the allocator. */
static void region_reserve(struct region *region, uint64_t budget)
{
    uint64_t bytes = MU_ROUND_UP(MU_MIN(budget, UINT64_MAX / 4), HUGE_PAGE);
    char *p = mmap(NULL, bytes + HUGE_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    if (p == MAP_FAILED) return;
    *region = (struct region){.reserved = p, .bytes = bytes};
    region->base = p + (MU_ROUND_UP((uintptr_t)p, HUGE_PAGE) - (uintptr_t)p);
    (void)madvise(region->base, bytes, MADV_HUGEPAGE);
}

/* Cleared memory, or NULL. */
static void *region_alloc(struct region *region, uint64_t bytes)
{
    uint64_t used = MU_ROUND_UP(region->used, MU_CACHE_LINE);
    if (!mu_range_ok(used, bytes, region->bytes)) return NULL;
    uint64_t open = MU_MIN(MU_ROUND_UP(used + bytes, REGION_STEP), region->bytes);
    if (open > region->open &&
        mprotect(region->base + region->open, open - region->open, PROT_READ | PROT_WRITE) != 0)
        return NULL;
    region->open = MU_MAX(open, region->open);
    region->used = used + bytes;
    return region->base + used;
}

static void region_touch(const struct region *region, const char *p, uint64_t bytes)
{
    uint64_t start = (uint64_t)(p - region->base) / 4096u * 4096u;
    uint64_t end = MU_ROUND_UP((uint64_t)(p - region->base) + bytes, 4096u);
    (void)madvise(region->base + start, end - start, MADV_POPULATE_WRITE);
}

static bool region_has(const struct region *region, const void *p)
{
    return region->base && (const char *)p >= region->base &&
           (const char *)p < region->base + region->bytes;
}

/* Whole pages go back to the system at once; the addresses only if nothing was given out since. */
static void region_free(struct region *region, char *p, uint64_t bytes)
{
    uint64_t start = (uint64_t)(p - region->base), page = MU_ROUND_UP(start, 4096u);
    bool last = start + bytes == region->used;
    uint64_t end = last ? MU_ROUND_UP(start + bytes, 4096u) : (start + bytes) / 4096u * 4096u;
    if (page < end) (void)madvise(region->base + page, end - page, MADV_DONTNEED);
    if (!last) return;
    memset(p, 0, MU_MIN(page - start, bytes));
    region->used = start;
}

mu_status mu_device_open(const struct mu_device_spec *spec, struct mu_device **out,
                         struct mu_err *err)
{
    struct mu_device *device = mu_calloc(1, sizeof *device);
    if (!device) return mu_fail_memory(err, sizeof *device);
    device->spec = *spec;
    (void)pthread_mutex_init(&device->lock, NULL);
    region_reserve(&device->region, spec->budget_bytes);
    *out = device;
    return MU_OK;
}

void mu_device_close(struct mu_device *device)
{
    if (!device) return;
    if (device->region.reserved)
        (void)munmap(device->region.reserved, device->region.bytes + HUGE_PAGE);
    (void)pthread_mutex_destroy(&device->lock);
    mu_free(device);
}

const struct mu_device_spec *mu_device_spec(const struct mu_device *device)
{
    return &device->spec;
}

static void raise_high(_Atomic uint64_t *high, uint64_t now)
{
    uint64_t seen = atomic_load_explicit(high, memory_order_relaxed);
    while (seen < now && !atomic_compare_exchange_weak_explicit(
                             high, &seen, now, memory_order_relaxed, memory_order_relaxed))
        ;
}

/* Cleared; NULL when there is no memory. */
static void *memory_get(struct mu_device *device, enum mu_purpose purpose, uint64_t bytes)
{
    void *p = NULL;
    if (bytes >= REGION_FROM_BYTES) {
        if (mu_fault_hit(MU_FAULT_ALLOC)) return NULL;
        p = region_alloc(&device->region, bytes);
        /* Better its pages come now than in the first steps. Weights are written at once anyway. */
        if (p && purpose != MU_PURPOSE_WEIGHTS && bytes <= TOUCH_MAX_BYTES)
            region_touch(&device->region, p, bytes);
    }
    if (p) return p;
    p = mu_alloc_aligned(MU_CACHE_LINE, bytes);
    if (p) memset(p, 0, bytes);
    return p;
}

static void count(struct mu_device *device, enum mu_purpose purpose, uint64_t bytes)
{
    uint64_t total =
        atomic_fetch_add_explicit(&device->usage.total_now, bytes, memory_order_relaxed) + bytes;
    uint64_t now =
        atomic_fetch_add_explicit(&device->usage.now[purpose], bytes, memory_order_relaxed) + bytes;
    raise_high(&device->usage.total_high, total);
    raise_high(&device->usage.high[purpose], now);
}

mu_status mu_device_alloc(struct mu_device *device, enum mu_purpose purpose, uint64_t bytes,
                          const char *what, void **out, struct mu_err *err)
{
    (void)pthread_mutex_lock(&device->lock);
    uint64_t used = atomic_load_explicit(&device->usage.total_now, memory_order_relaxed);
    bool fits = mu_range_ok(used, bytes, device->spec.budget_bytes);
    void *p = fits ? memory_get(device, purpose, bytes) : NULL;
    if (p) count(device, purpose, bytes);
    (void)pthread_mutex_unlock(&device->lock);
    if (fits && !p) return mu_fail_memory(err, bytes);
    if (!fits) {
        char a[MU_BYTES_TEXT], b[MU_BYTES_TEXT], c[MU_BYTES_TEXT];
        return mu_fail(err, MU_E_FIT, "%s does not fit on %s: %s on top of %s, budget %s", what,
                       device->spec.name, mu_format_bytes(bytes, a), mu_format_bytes(used, b),
                       mu_format_bytes(device->spec.budget_bytes, c));
    }
    *out = p;
    return MU_OK;
}

void mu_device_free(struct mu_device *device, enum mu_purpose purpose, void *p, uint64_t bytes)
{
    if (!p) return;
    (void)pthread_mutex_lock(&device->lock);
    if (region_has(&device->region, p))
        region_free(&device->region, p, bytes);
    else
        mu_free(p);
    atomic_fetch_sub_explicit(&device->usage.total_now, bytes, memory_order_relaxed);
    atomic_fetch_sub_explicit(&device->usage.now[purpose], bytes, memory_order_relaxed);
    (void)pthread_mutex_unlock(&device->lock);
}

void mu_device_usage(const struct mu_device *device, struct mu_device_usage *out)
{
    for (int i = 0; i < MU_PURPOSE_COUNT; i++) {
        out->now_bytes[i] = atomic_load_explicit(&device->usage.now[i], memory_order_relaxed);
        out->high_bytes[i] = atomic_load_explicit(&device->usage.high[i], memory_order_relaxed);
    }
    out->total_now_bytes = atomic_load_explicit(&device->usage.total_now, memory_order_relaxed);
    out->total_high_bytes = atomic_load_explicit(&device->usage.total_high, memory_order_relaxed);
}
