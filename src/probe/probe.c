/* A look at the whole machine: the driver, every GPU, how they are joined, the kernel's log; and
 * the words for what is absent. One look at a time holds the probe's lock. */
#include "base/alloc.h"
#include "probe/probe_int.h"
#include "probe/sampler_int.h"

#include <stdio.h>

struct mu_probe {
    struct nvml *lib;
    const char *root, *kernel_log;
    pthread_mutex_t lock; /* held during calls of the driver, and for what follows */
    void *devices[MU_PROBE_GPUS_MAX];
    unsigned n_devices;
};

/* --- words ----------------------------------------------------------------------------------- */

static const struct {
    mu_probe_absence why;
    const char *text;
} absences[] = {
    {0, "valid"},
    {1, "the driver was not initialised"},
    {2, "the driver refused the argument"},
    {MU_PROBE_NOT_SUPPORTED, "not supported by this device"},
    {4, "no permission"},
    {5, "the driver was initialised already"},
    {6, "not found"},
    {7, "the driver wants a larger buffer"},
    {8, "a power cable is missing"},
    {9, "the kernel's driver is not loaded"},
    {10, "the driver reports a timeout"},
    {11, "the kernel found an interrupt problem"},
    {12, "the driver misses a library"},
    {13, "the driver lacks the function"},
    {14, "the device's inforom is corrupt"},
    {MU_PROBE_GPU_LOST, "the GPU is lost: it fell off the bus"},
    {16, "the GPU needs a reset"},
    {17, "the operating system blocks the driver"},
    {18, "library and kernel driver are of different versions"},
    {19, "in use"},
    {20, "the driver is out of memory"},
    {21, "no data"},
    {22, "not available under vGPU with ECC"},
    {23, "the driver is out of resources"},
    {24, "the frequency is not supported"},
    {25, "the driver expects another version of the structure"},
    {26, "deprecated"},
    {27, "not ready"},
    {28, "no such GPU"},
    {29, "invalid state"},
    {999, "the driver reports an unknown error"},
    {MU_PROBE_NOT_ASKED, "not asked"},
    {MU_PROBE_NO_LIBRARY, "no NVIDIA driver library is here"},
    {MU_PROBE_NO_SYMBOL, "this driver is too old to say"},
    {MU_PROBE_HUNG, "the driver did not answer in time"},
    {MU_PROBE_RUBBISH, "the driver gave a value that cannot be"},
    {MU_PROBE_NO_FILE, "the system does not say"},
    {MU_PROBE_NO_MEMORY, "out of memory"},
};

const char *mu_probe_absence_text(mu_probe_absence why)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(absences); i++)
        if (absences[i].why == why) return absences[i].text;
    return "the driver reports an error of a kind not known here";
}

static const struct {
    const char *key, *unit;
} metrics[] = {
#define ROW_(name, key, unit, max) {key, unit},
    MU_PROBE_METRIC_TABLE(ROW_)
#undef ROW_
};

const char *mu_probe_metric_key(enum mu_probe_metric metric)
{
    return metrics[metric].key;
}

const char *mu_probe_metric_unit(enum mu_probe_metric metric)
{
    return metrics[metric].unit;
}

const struct mu_probe_clock_reason *mu_probe_clock_reason_get(unsigned n)
{
    static const struct mu_probe_clock_reason reasons[] = {
        {0x80, "hardware power brake", true},
        {0x40, "hardware thermal slowdown", true},
        {0x08, "hardware slowdown", true},
        {0x20, "software thermal slowdown", true},
        {0x04, "power cap", false},
        {0x10, "sync boost", false},
        {0x02, "application clocks", false},
        {0x100, "display clocks", false},
        {0x01, "idle", false},
    };
    return n < MU_ARRAY_LEN(reasons) ? &reasons[n] : NULL;
}

void probe_text_copy(char *out, size_t size, const char *s, size_t len)
{
    size_t n = 0;
    for (; n < len && n + 1 < size && s[n]; n++)
        out[n] = s[n] >= ' ' && s[n] <= '~' ? s[n] : '?';
    out[n] = '\0';
}

/* --- how GPUs are joined --------------------------------------------------------------------- */

static int owner_of(const struct mu_probe_node *node, const char *bus_id)
{
    for (unsigned i = 0; i < node->n_gpus; i++)
        if (bus_id[0] && strcmp(node->gpus[i].bus_id, bus_id) == 0) return (int)i;
    return -1;
}

unsigned mu_probe_nvlinks(const struct mu_probe_node *node, unsigned a, unsigned b)
{
    unsigned direct = 0, switched[2] = {0};
    const unsigned ends[] = {a, b};
    for (unsigned side = 0; side < 2; side++)
        for (unsigned l = 0; l < MU_PROBE_LINKS_MAX; l++) {
            const struct mu_probe_nvlink *link = &node->gpus[ends[side]].links[l];
            if (!mu_probe_has(link->up) || link->up.value == 0 || !link->remote[0]) continue;
            int owner = owner_of(node, link->remote);
            if (side == 0 && owner == (int)b) direct++;
            if (owner < 0) switched[side]++;
        }
    return direct ? direct : MU_MIN(switched[0], switched[1]);
}

const char *mu_probe_path_text(const struct mu_probe_node *node, unsigned a, unsigned b,
                               char out[8])
{
    static const struct {
        enum mu_probe_path path;
        const char *text;
    } paths[] = {{MU_PROBE_PATH_SAME, "X"},    {MU_PROBE_PATH_PIX, "PIX"},
                 {MU_PROBE_PATH_PXB, "PXB"},   {MU_PROBE_PATH_PHB, "PHB"},
                 {MU_PROBE_PATH_NODE, "NODE"}, {MU_PROBE_PATH_SYS, "SYS"}};
    unsigned links = a == b ? 0 : mu_probe_nvlinks(node, a, b);
    (void)snprintf(out, 8, links ? "NV%u" : "?", links % 1000);
    struct mu_probe_value v = node->path[a][b];
    for (size_t i = 0; !links && i < MU_ARRAY_LEN(paths); i++)
        if (mu_probe_has(v) && v.value == (double)paths[i].path)
            (void)snprintf(out, 8, "%s", paths[i].text);
    return out;
}

/* --- a look ---------------------------------------------------------------------------------- */

static void version_text(const struct nvml_call *c, char out[MU_PROBE_TEXT_MAX])
{
    unsigned v = c->out.u32[0];
    if (c->absent)
        out[0] = '\0';
    else if (c->function == NVML_CUDA_VERSION)
        (void)snprintf(out, MU_PROBE_TEXT_MAX, "%u.%u", v / 1000, v % 1000 / 10);
    else
        probe_text_copy(out, MU_PROBE_TEXT_MAX, c->out.text, MU_PROBE_TEXT_MAX);
}

static mu_status driver_read(struct nvml *lib, struct mu_probe_node *node, struct mu_err *err)
{
    static const enum nvml_function asked[] = {NVML_DRIVER_VERSION, NVML_NVML_VERSION,
                                               NVML_CUDA_VERSION, NVML_COUNT};
    unsigned n = MU_ARRAY_LEN(asked);
    struct nvml_call *calls = mu_calloc(n, sizeof *calls);
    if (!calls) return mu_fail_memory(err, n * sizeof *calls);
    for (unsigned i = 0; i < n; i++)
        calls[i].function = asked[i];
    MU_TRY(nvml_run(lib, &calls, n, err));
    version_text(&calls[0], node->driver);
    version_text(&calls[1], node->nvml);
    version_text(&calls[2], node->cuda);
    node->library = calls[3].absent;
    unsigned count = calls[3].out.u32[0];
    if (!node->library && count > 4096) node->library = MU_PROBE_RUBBISH;
    if (node->library)
        (void)snprintf(node->library_what, sizeof node->library_what,
                       "the number of GPUs cannot be had: %s",
                       mu_probe_absence_text(node->library));
    else
        node->n_gpus = MU_MIN(count, (unsigned)MU_PROBE_GPUS_MAX);
    mu_free(calls);
    return MU_OK;
}

static void symbols_tell(const struct nvml *lib, struct mu_probe_node *node)
{
    struct mu_text text;
    mu_text_init(&text, sizeof node->symbols_absent * 4);
    for (unsigned f = 0; f < NVML_FUNCTION_COUNT; f++)
        if (nvml_version(lib, f) == NVML_NAMES_MAX)
            mu_text_printf(&text, "%s%s", text.len ? " " : "", nvml_function_name(f));
    (void)snprintf(node->symbols_absent, sizeof node->symbols_absent, "%s", mu_text_get(&text));
    mu_text_clear(&text);
    nvml_hung_names(lib, &text);
    (void)snprintf(node->hung, sizeof node->hung, "%s", mu_text_get(&text));
    mu_text_fini(&text);
}

static mu_status gpus_read(struct mu_probe *probe, struct mu_probe_node *node, struct mu_err *err)
{
    MU_TRY(driver_read(probe->lib, node, err));
    for (unsigned i = 0; i < node->n_gpus; i++) {
        MU_TRY(gpu_read(probe->lib, i, &node->gpus[i], &probe->devices[i], err));
        sys_gpu(probe->root, &node->gpus[i]);
    }
    probe->n_devices = node->n_gpus;
    return gpu_paths(probe->lib, probe->devices, node, err);
}

/* The lock is free in between, so that a sampler's ticks come in time. */
static mu_status watched_read(struct mu_probe *probe, struct mu_probe_node *node,
                              struct mu_err *err)
{
    mu_status status = MU_OK;
    for (unsigned i = 0; i < node->n_gpus && status == MU_OK; i++) {
        (void)pthread_mutex_lock(&probe->lock);
        status = gpu_read_watched(probe->lib, &node->gpus[i], probe->devices[i], err);
        (void)pthread_mutex_unlock(&probe->lock);
    }
    return status;
}

mu_status mu_probe_look(struct mu_probe *probe, struct mu_probe_node *out, struct mu_err *err)
{
    memset(out, 0, sizeof *out);
    const char *what;
    out->library = nvml_absent(probe->lib, &what);
    (void)snprintf(out->library_what, sizeof out->library_what, "%s", what);
    mu_status status = MU_OK;
    if (out->library == MU_PROBE_VALID) {
        (void)pthread_mutex_lock(&probe->lock);
        status = gpus_read(probe, out, err);
        (void)pthread_mutex_unlock(&probe->lock);
        if (status == MU_OK) status = watched_read(probe, out, err);
        symbols_tell(probe->lib, out);
    }
    if (status == MU_OK) kernel_log_read(probe->root, probe->kernel_log, out);
    return status;
}

double probe_fast(struct mu_probe *probe, struct mu_probe_sample *samples, unsigned n_gpus)
{
    void *devices[MU_PROBE_GPUS_MAX];
    struct mu_probe_value *values[MU_PROBE_GPUS_MAX];
    unsigned n = 0;
    (void)pthread_mutex_lock(&probe->lock);
    double before = nvml_cpu_s(probe->lib);
    for (unsigned i = 0; i < n_gpus; i++) {
        for (unsigned m = 0; m < MU_PROBE_FAST; m++)
            samples[i].values[m] = probe_absent(MU_PROBE_GPU_LOST);
        if (i >= probe->n_devices || !probe->devices[i]) continue;
        devices[n] = probe->devices[i];
        values[n++] = samples[i].values;
    }
    (void)gpu_read_fast(probe->lib, devices, n, values, NULL);
    double cpu_s = nvml_cpu_s(probe->lib) - before;
    (void)pthread_mutex_unlock(&probe->lock);
    return MU_MAX(cpu_s, 0);
}

unsigned probe_devices(struct mu_probe *probe)
{
    (void)pthread_mutex_lock(&probe->lock);
    unsigned n = probe->n_devices;
    (void)pthread_mutex_unlock(&probe->lock);
    return n;
}

mu_status mu_probe_open(const struct mu_probe_options *options, struct mu_probe **out,
                        struct mu_err *err)
{
    if (options->kernel_log) MU_TRY(kernel_log_check(options->kernel_log, err));
    struct mu_probe *probe = mu_calloc(1, sizeof *probe);
    if (!probe) return mu_fail_memory(err, sizeof *probe);
    probe->root = sys_root(options->root);
    probe->kernel_log = options->kernel_log;
    mu_status status = nvml_open(options, &probe->lib, err);
    if (status != MU_OK) {
        mu_free(probe);
        return status;
    }
    (void)pthread_mutex_init(&probe->lock, NULL);
    *out = probe;
    return MU_OK;
}

void mu_probe_close(struct mu_probe *probe)
{
    if (!probe) return;
    nvml_close(probe->lib);
    (void)pthread_mutex_destroy(&probe->lock);
    mu_free(probe);
}
