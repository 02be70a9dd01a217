/*
 * A driver's library for tests, built as libnvidia-ml.so.1: says what the script in
 * MUSTER_NVML_FAKE says. A line is a key and a value for all GPUs, or "gpu N KEY VALUE"; "fail
 * FUNCTION CODE", "hang FUNCTION" (once, for hang_ms) and "hide FUNCTION" are about calls, and
 * "process N PID MIB" is one process. Without a script there is one GPU. Not linked with muster:
 * plain C only.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define EXPORT   __attribute__((visibility("default")))
#define GPUS_MAX 16
#define RULES    16

/* X(key, default) */
#define NUMBERS(X)                                                                                 \
    X(memory_mib, 81559)                                                                           \
    X(used_mib, 71000)                                                                             \
    X(util, 93)                                                                                    \
    X(wave, 0)                                                                                     \
    X(power_mw, 412000)                                                                            \
    X(limit_mw, 700000)                                                                            \
    X(temperature, 61)                                                                             \
    X(sm_clock, 1755)                                                                              \
    X(reasons, 0)                                                                                  \
    X(generation, 5)                                                                               \
    X(generation_max, 5)                                                                           \
    X(width, 16)                                                                                   \
    X(width_max, 16)                                                                               \
    X(pcie_kbs, 2400000)                                                                           \
    X(nvlink_mibs, 900)                                                                            \
    X(replays, 0)                                                                                  \
    X(ecc, 1)                                                                                      \
    X(corrected, 0)                                                                                \
    X(uncorrected, 0)                                                                              \
    X(remap_pending, 0)                                                                            \
    X(remap_failed, 0)                                                                             \
    X(links, 0)                                                                                    \
    X(links_down, 0)                                                                               \
    X(peer, -1)                                                                                    \
    X(mig, 0)                                                                                      \
    X(recovery, 0)                                                                                 \
    X(dead, 0)                                                                                     \
    X(bus, -1)

struct gpu {
    char name[96];
#define FIELD(key, value) long key;
    NUMBERS(FIELD)
    struct {
        unsigned pid;
        long mib;
    } processes[8];
    unsigned n_processes;
    unsigned index;
};

static struct {
    char driver[64];
    long gpus, path, near_path, group, layout_535, rubbish, hang_ms;
    struct gpu gpu[GPUS_MAX], slices[GPUS_MAX][4];
    struct {
        char kind, function[64];
        int code;
    } rules[RULES];
    unsigned n_rules;
} fake;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void number_set(struct gpu *g, const char *key, const char *value)
{
    if (strcmp(key, "name") == 0) snprintf(g->name, sizeof g->name, "%s", value);
#define SET(k, d)                                                                                  \
    if (strcmp(key, #k) == 0) g->k = strtoimax(value, NULL, 0);
    NUMBERS(SET)
}

static void line_take(char *line)
{
    char *save = NULL, *key = strtok_r(line, " \n", &save);
    char *rest = save ? save + strspn(save, " ") : NULL;
    if (!key || key[0] == '#' || !rest) return;
    rest[strcspn(rest, "\n")] = '\0';
    if (strcmp(key, "gpu") == 0 || strcmp(key, "process") == 0) {
        struct gpu *g = &fake.gpu[strtoimax(rest, &rest, 10) % GPUS_MAX];
        if (key[0] == 'p') {
            g->processes[g->n_processes].pid = (unsigned)strtoimax(rest, &rest, 10);
            g->processes[g->n_processes++].mib = strtoimax(rest, NULL, 10);
            return;
        }
        char *name = strtok_r(rest, " ", &save);
        if (name) number_set(g, name, save + strspn(save, " "));
    } else if (!strcmp(key, "fail") || !strcmp(key, "hang") || !strcmp(key, "hide")) {
        char *function = strtok_r(rest, " ", &save), *code = strtok_r(NULL, " ", &save);
        if (!function || fake.n_rules == RULES) return;
        fake.rules[fake.n_rules].kind = key[0] == 'f' ? 'f' : key[1];
        fake.rules[fake.n_rules].code = code ? (int)strtoimax(code, NULL, 10) : 0;
        snprintf(fake.rules[fake.n_rules++].function, 64, "%s", function);
    }
#define GLOBAL(k)                                                                                  \
    if (strcmp(key, #k) == 0) fake.k = strtoimax(rest, NULL, 0);
    GLOBAL(gpus)
    GLOBAL(path)
    GLOBAL(near_path)
    GLOBAL(group)
    GLOBAL(layout_535)
    GLOBAL(rubbish)
    GLOBAL(hang_ms)
    if (strcmp(key, "driver") == 0) snprintf(fake.driver, sizeof fake.driver, "%s", rest);
    for (unsigned i = 0; strcmp(key, "gpu") != 0 && i < GPUS_MAX; i++)
        number_set(&fake.gpu[i], key, rest);
}

/* Reads the script anew: a test calls it between scripts. */
EXPORT void nvml_fake_load(void);
EXPORT void nvml_fake_load(void)
{
    pthread_mutex_lock(&lock);
    memset(&fake, 0, sizeof fake);
    snprintf(fake.driver, sizeof fake.driver, "550.54.15");
    fake.gpus = 1;
    fake.path = 50;
    fake.near_path = 40;
    fake.group = 4;
    fake.hang_ms = 1500;
    for (unsigned i = 0; i < GPUS_MAX; i++) {
        struct gpu *g = &fake.gpu[i];
        snprintf(g->name, sizeof g->name, "NVIDIA H100 80GB HBM3");
#define DEFAULT(k, d) g->k = d;
        NUMBERS(DEFAULT)
        g->index = i;
    }
    const char *path = getenv("MUSTER_NVML_FAKE");
    FILE *f = path ? fopen(path, "re") : NULL;
    char line[512];
    while (f && fgets(line, sizeof line, f))
        line_take(line);
    if (f) fclose(f);
    for (unsigned i = 0; i < GPUS_MAX; i++)
        for (unsigned s = 0; s < 4; s++) {
            struct gpu *slice = &fake.slices[i][s];
            *slice = fake.gpu[i];
            slice->memory_mib /= 4;
            slice->used_mib /= 4;
            slice->mig = 0;
            snprintf(slice->name, sizeof slice->name, "%.60s MIG 1g.10gb", fake.gpu[i].name);
        }
    pthread_mutex_unlock(&lock);
}

/* True when the script hides the function. */
EXPORT int nvml_fake_hides(const char *function);
EXPORT int nvml_fake_hides(const char *function)
{
    pthread_once(&once, nvml_fake_load);
    for (unsigned i = 0; i < fake.n_rules; i++)
        if (fake.rules[i].kind == 'i' && !strcmp(fake.rules[i].function, function)) return 1;
    return 0;
}

/* What the script makes of a call: its code, after hanging when it is told to. */
static int enter(const char *function)
{
    pthread_once(&once, nvml_fake_load);
    int code = 0;
    long hang_ms = 0;
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < fake.n_rules; i++) {
        if (strcmp(fake.rules[i].function, function) != 0) continue;
        if (fake.rules[i].kind == 'f') code = fake.rules[i].code;
        if (fake.rules[i].kind == 'a') {
            hang_ms = fake.hang_ms;
            fake.rules[i].kind = '-';
        }
    }
    pthread_mutex_unlock(&lock);
    if (!hang_ms) return code;
    usleep((useconds_t)hang_ms * 1000);
    return 10; /* another script may be loaded by now */
}

#define ENTER()                                                                                    \
    do {                                                                                           \
        int code_ = enter(__func__);                                                               \
        if (code_) return code_;                                                                   \
    } while (0)

/* Parameters and bodies cannot stand in parentheses. NOLINTBEGIN(bugprone-macro-parentheses) */
#define SYSTEM(name, params, body)                                                                 \
    EXPORT int(name) params;                                                                       \
    EXPORT int(name) params                                                                        \
    {                                                                                              \
        ENTER();                                                                                   \
        body return 0;                                                                             \
    }
/* NOLINTEND(bugprone-macro-parentheses) */
#define U32(name, expression)                                                                      \
    SYSTEM(name, (struct gpu * g, unsigned *out),                                                  \
           { *out = fake.rubbish ? 0xdeadbeefu : (unsigned)(expression); })

SYSTEM(nvmlInit_v2, (void), {})
SYSTEM(nvmlInit, (void), {})
SYSTEM(nvmlShutdown, (void), {})
SYSTEM(nvmlSystemGetDriverVersion, (char *s, unsigned n), { snprintf(s, n, "%s", fake.driver); })
SYSTEM(nvmlSystemGetNVMLVersion, (char *s, unsigned n), { snprintf(s, n, "12.%s", fake.driver); })
SYSTEM(nvmlSystemGetCudaDriverVersion_v2, (int *out), { *out = 12040; })
SYSTEM(nvmlSystemGetCudaDriverVersion, (int *out), { *out = 12040; })
SYSTEM(nvmlDeviceGetCount_v2, (unsigned *out), { *out = (unsigned)fake.gpus; })
SYSTEM(nvmlDeviceGetCount, (unsigned *out), { *out = (unsigned)fake.gpus; })

static int handle(unsigned i, void **out)
{
    if (i >= (unsigned)fake.gpus) return 2;
    if (fake.gpu[i].dead) return (int)fake.gpu[i].dead;
    *out = &fake.gpu[i];
    return 0;
}
SYSTEM(nvmlDeviceGetHandleByIndex_v2, (unsigned i, void **out), { return handle(i, out); })
SYSTEM(nvmlDeviceGetHandleByIndex, (unsigned i, void **out), { return handle(i, out); })
SYSTEM(nvmlDeviceGetName, (struct gpu * g, char *s, unsigned n), {
    if (fake.rubbish)
        memset(s, '\x9b', n);
    else
        snprintf(s, n, "%s", g->name);
})
SYSTEM(nvmlDeviceGetUUID, (struct gpu * g, char *s, unsigned n),
       { snprintf(s, n, "GPU-00000000-0000-0000-0000-%012u", g->index); })
SYSTEM(nvmlDeviceGetVbiosVersion, (struct gpu * g, char *s, unsigned n),
       { snprintf(s, n, "96.00.89.00.%02u", g->index); })

static int pci(const struct gpu *g, void *out, size_t size)
{
    unsigned bus = g->bus >= 0 ? (unsigned)g->bus : 0x10 + g->index;
    struct {
        char legacy[16];
        unsigned domain, bus, device, id, subsystem;
        char bus_id[32];
    } p = {.bus = fake.rubbish ? 0xffffffff : bus};
    memcpy(out, &p, size);
    return 0;
}
SYSTEM(nvmlDeviceGetPciInfo_v3, (struct gpu * g, void *out), { return pci(g, out, 68); })
SYSTEM(nvmlDeviceGetPciInfo_v2, (struct gpu * g, void *out), { return pci(g, out, 36); })
SYSTEM(nvmlDeviceGetPciInfo, (struct gpu * g, void *out), { return pci(g, out, 36); })

static unsigned long long mib(long n)
{
    return fake.rubbish ? 0xfedcba9876543210u : (unsigned long long)n << 20;
}
SYSTEM(nvmlDeviceGetMemoryInfo_v2, (struct gpu * g, unsigned long long *out), {
    if ((unsigned)out[0] != (40 | 2 << 24)) return 25;
    out[1] = mib(g->memory_mib);
    out[2] = 0;
    out[3] = mib(g->memory_mib - g->used_mib);
    out[4] = mib(g->used_mib);
})
SYSTEM(nvmlDeviceGetMemoryInfo, (struct gpu * g, unsigned long long *out), {
    out[0] = mib(g->memory_mib);
    out[1] = mib(g->memory_mib - g->used_mib);
    out[2] = mib(g->used_mib);
})
/* How far below its figure a GPU is now: up and down in 3 s, each GPU at another time. */
static long waved(const struct gpu *g)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long tenths = now.tv_sec % 1000 * 10 + now.tv_nsec / 100000000 + g->index * 7L;
    return g->wave * labs(15 - tenths % 30) / 15;
}

SYSTEM(nvmlDeviceGetUtilizationRates, (struct gpu * g, unsigned *out), {
    out[0] = fake.rubbish ? 4000 : (unsigned)(g->util - waved(g));
    out[1] = (unsigned)g->util / 2;
})
U32(nvmlDeviceGetPowerUsage, g->power_mw)
SYSTEM(nvmlDeviceGetTotalEnergyConsumption, (struct gpu * g, unsigned long long *out),
       { *out = 123456789ull + (unsigned)g->power_mw; })
SYSTEM(nvmlDeviceGetTemperature, (struct gpu * g, unsigned sensor, unsigned *out),
       { *out = fake.rubbish ? 0x80000000u : (unsigned)g->temperature + sensor; })
SYSTEM(nvmlDeviceGetClockInfo, (struct gpu * g, unsigned clock, unsigned *out), {
    *out = fake.rubbish ? 1u << 30 : clock == 1 ? (unsigned)g->sm_clock : 2619;
})
SYSTEM(nvmlDeviceGetCurrentClocksEventReasons, (struct gpu * g, unsigned long long *out),
       { *out = (unsigned long long)g->reasons; })
SYSTEM(nvmlDeviceGetCurrentClocksThrottleReasons, (struct gpu * g, unsigned long long *out),
       { *out = (unsigned long long)g->reasons; })
U32(nvmlDeviceGetEnforcedPowerLimit, g->limit_mw)
SYSTEM(nvmlDeviceGetMaxClockInfo, (struct gpu * g, unsigned clock, unsigned *out),
       { *out = clock == 1 ? 1980 : 2619 + g->index * 0; })
SYSTEM(nvmlDeviceGetTemperatureThreshold, (struct gpu * g, unsigned kind, unsigned *out),
       { *out = 92 + kind * 0 + g->index * 0; })
U32(nvmlDeviceGetPerformanceState, g->util ? 0 : 8)
SYSTEM(nvmlDeviceGetFanSpeed, (struct gpu * g, unsigned *out), {
    (void)g;
    (void)out;
    return 3;
})
U32(nvmlDeviceGetMemoryBusWidth, g->index * 0 + 5120)
U32(nvmlDeviceGetCurrPcieLinkGeneration, g->generation)
U32(nvmlDeviceGetMaxPcieLinkGeneration, g->generation_max)
U32(nvmlDeviceGetCurrPcieLinkWidth, g->width)
U32(nvmlDeviceGetMaxPcieLinkWidth, g->width_max)
U32(nvmlDeviceGetPcieReplayCounter, g->replays)
SYSTEM(nvmlDeviceGetPcieThroughput, (struct gpu * g, unsigned counter, unsigned *out),
       { *out = fake.rubbish ? 0xffffffffu : (unsigned)g->pcie_kbs / (counter + 1); })
SYSTEM(nvmlDeviceGetEccMode, (struct gpu * g, unsigned *a, unsigned *b), {
    if (g->ecc < 0) return 3;
    *a = *b = (unsigned)g->ecc;
})
SYSTEM(nvmlDeviceGetTotalEccErrors,
       (struct gpu * g, unsigned error, unsigned counter, unsigned long long *out), {
           (void)counter;
           if (g->ecc < 0) return 3;
           *out = (unsigned long long)(error ? g->uncorrected : g->corrected);
       })
SYSTEM(nvmlDeviceGetRemappedRows,
       (struct gpu * g, unsigned *a, unsigned *b, unsigned *pending, unsigned *failed), {
           *a = *b = 0;
           *pending = (unsigned)g->remap_pending;
           *failed = (unsigned)g->remap_failed;
       })
SYSTEM(nvmlDeviceGetMigMode, (struct gpu * g, unsigned *a, unsigned *b),
       { *a = *b = (unsigned)g->mig > 0; })
SYSTEM(nvmlDeviceGetMigDeviceHandleByIndex, (struct gpu * g, unsigned i, void **out), {
    if (i >= (unsigned)g->mig || i >= 4) return 6;
    *out = &fake.slices[g->index][i];
})
U32(nvmlDeviceGetPersistenceMode, g->index * 0 + 1)
U32(nvmlDeviceGetComputeMode, g->index * 0)
SYSTEM(nvmlDeviceGetCudaComputeCapability, (struct gpu * g, int *major, int *minor), {
    *major = strstr(g->name, "Ada") ? 8 : 9;
    *minor = strstr(g->name, "Ada") ? 9 : 0;
})

/* A counter that grows as fast as the script says. */
static unsigned nvlink_kib(const struct gpu *g)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double s = (double)(now.tv_sec % 10000) + (double)now.tv_nsec * 1e-9;
    return (unsigned)(s * (double)g->nvlink_mibs * 1024 / 16);
}

struct field {
    unsigned id, scope;
    long long timestamp, latency;
    unsigned type, code;
    unsigned long long value;
};
SYSTEM(nvmlDeviceGetFieldValues, (struct gpu * g, int n, struct field *f), {
    for (int i = 0; i < n; i++) {
        f[i].code = 0;
        f[i].type = fake.rubbish ? 77 : 1;
        if (f[i].id == 82)
            f[i].value = (unsigned long long)g->temperature + 12;
        else if (f[i].id == 186)
            f[i].value = (unsigned long long)g->power_mw;
        else if (f[i].id == 230)
            f[i].value = (unsigned long long)g->recovery;
        else if ((f[i].id == 138 || f[i].id == 139) && f[i].scope == 0xffffffffu && g->links)
            f[i].value = nvlink_kib(g);
        else
            f[i].code = 3;
    }
})
SYSTEM(nvmlDeviceGetGpuFabricInfoV, (struct gpu * g, unsigned char *out), {
    if (!g->links) return 3;
    out[28] = 3;
    memset(out + 32, 0, 4);
})
SYSTEM(nvmlDeviceGetGpuFabricInfo, (struct gpu * g, unsigned char *out), {
    if (!g->links) return 3;
    out[24] = 3;
})

static int processes(const struct gpu *g, unsigned *n, unsigned char *out, size_t stride)
{
    if (*n < g->n_processes) return 7;
    *n = fake.rubbish ? 1000000 : g->n_processes;
    for (unsigned i = 0; i < g->n_processes; i++) {
        unsigned long long item[4] = {g->processes[i].pid,
                                      (unsigned long long)g->processes[i].mib << 20,
                                      0xffffffffffffffffull, 0};
        memcpy(out + i * stride, item, stride);
    }
    return 0;
}
SYSTEM(nvmlDeviceGetComputeRunningProcesses_v3, (struct gpu * g, unsigned *n, void *out),
       { return processes(g, n, out, fake.layout_535 ? 32 : 24); })
SYSTEM(nvmlDeviceGetComputeRunningProcesses_v2, (struct gpu * g, unsigned *n, void *out),
       { return processes(g, n, out, 24); })
SYSTEM(nvmlDeviceGetComputeRunningProcesses, (struct gpu * g, unsigned *n, void *out),
       { return processes(g, n, out, 16); })

SYSTEM(nvmlDeviceGetNvLinkState, (struct gpu * g, unsigned link, unsigned *out), {
    if (link >= (unsigned)g->links) return g->links ? 2 : 3;
    *out = link >= (unsigned)g->links_down;
})
SYSTEM(nvmlDeviceGetNvLinkVersion, (struct gpu * g, unsigned link, unsigned *out), {
    (void)link;
    *out = 4 + g->index * 0;
})
static int remote(const struct gpu *g, void *out)
{
    if (g->peer >= 0) return pci(&fake.gpu[g->peer % GPUS_MAX], out, 36);
    struct gpu nvswitch = {.bus = 0xa0};
    return pci(&nvswitch, out, 36);
}
SYSTEM(nvmlDeviceGetNvLinkRemotePciInfo_v2, (struct gpu * g, unsigned link, void *out), {
    (void)link;
    return remote(g, out);
})
SYSTEM(nvmlDeviceGetNvLinkRemotePciInfo, (struct gpu * g, unsigned link, void *out), {
    (void)link;
    return remote(g, out);
})
SYSTEM(nvmlDeviceGetNvLinkErrorCounter,
       (struct gpu * g, unsigned link, unsigned counter, unsigned long long *out), {
           (void)link;
           (void)counter;
           *out = g->index * 0;
       })
SYSTEM(nvmlDeviceGetTopologyCommonAncestor, (struct gpu * a, struct gpu *b, unsigned *out), {
    long group = fake.group > 0 ? fake.group : 1;
    *out = (unsigned)(a->index / group == b->index / group ? fake.near_path : fake.path);
})
