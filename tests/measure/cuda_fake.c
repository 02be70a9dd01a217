/*
 * CUDA's driver library for tests, built as libcuda.so.1: GPUs that copy as fast as the script in
 * MUSTER_CUDA_FAKE says. "gpus N"; "within", "link" and "host" are GB/s; "fp32" is TFLOP/s; "slow N
 * PERCENT" makes one GPU slower by that, "slow_fp32 N PERCENT" in multiplying alone; "alone A B"
 * parts two GPUs. "fail FUNCTION CODE", "hang FUNCTION", "crash FUNCTION" (with a GPU behind it:
 * there alone) and "hide FUNCTION" are about calls. Not linked with muster: plain C only.
 */
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT   __attribute__((visibility("default")))
#define GPUS_MAX 32
#define RULES    16

static struct {
    long gpus, within, link, host, fp32, alone[2], slow[GPUS_MAX], slow_fp32[GPUS_MAX];
    struct {
        char kind, function[64];
        long code, gpu;
    } rules[RULES];
    unsigned n_rules;
} fake;
static long contexts[GPUS_MAX]; /* what a context points to: its GPU's number */
static long current;
static double clock_s, events[2 * GPUS_MAX];
static unsigned n_events;

static void line_take(char *line)
{
    char *save = NULL, *key = strtok_r(line, " \n", &save);
    char *a = strtok_r(NULL, " \n", &save), *b = strtok_r(NULL, " \n", &save);
    char *c = strtok_r(NULL, " \n", &save);
    if (!key || key[0] == '#' || !a) return;
#define GLOBAL(k)                                                                                  \
    if (!strcmp(key, #k)) fake.k = strtoimax(a, NULL, 10);
    GLOBAL(gpus)
    GLOBAL(within)
    GLOBAL(link)
    GLOBAL(host)
    GLOBAL(fp32)
    if (!strcmp(key, "slow") && b)
        fake.slow[strtoimax(a, NULL, 10) % GPUS_MAX] = strtoimax(b, NULL, 10);
    if (!strcmp(key, "slow_fp32") && b)
        fake.slow_fp32[strtoimax(a, NULL, 10) % GPUS_MAX] = strtoimax(b, NULL, 10);
    if (!strcmp(key, "alone") && b) {
        fake.alone[0] = strtoimax(a, NULL, 10);
        fake.alone[1] = strtoimax(b, NULL, 10);
    }
    static const char *const kinds[] = {"fail", "hang", "crash", "hide"};
    for (unsigned k = 0; k < 4; k++) {
        if (strcmp(key, kinds[k]) != 0 || fake.n_rules == RULES) continue;
        const char *gpu = k == 0 ? c : b;
        snprintf(fake.rules[fake.n_rules].function, 64, "%s", a);
        fake.rules[fake.n_rules].kind = "fhci"[k];
        fake.rules[fake.n_rules].code = k == 0 && b ? strtoimax(b, NULL, 10) : 0;
        fake.rules[fake.n_rules++].gpu = gpu ? strtoimax(gpu, NULL, 10) : -1;
    }
}

/* Reads the script anew: a test calls it between scripts. */
EXPORT void cuda_fake_load(void);
EXPORT __attribute__((constructor)) void cuda_fake_load(void)
{
    memset(&fake, 0, sizeof fake);
    fake.gpus = 2;
    fake.within = 2000;
    fake.link = 300;
    fake.host = 50;
    fake.fp32 = 60;
    fake.alone[0] = fake.alone[1] = -1;
    for (long i = 0; i < GPUS_MAX; i++)
        contexts[i] = i;
    const char *path = getenv("MUSTER_CUDA_FAKE");
    FILE *f = path ? fopen(path, "re") : NULL;
    char line[256];
    while (f && fgets(line, sizeof line, f))
        line_take(line);
    if (f) fclose(f);
}

/* True when the script hides the function. */
EXPORT int cuda_fake_hides(const char *function);
EXPORT int cuda_fake_hides(const char *function)
{
    for (unsigned i = 0; i < fake.n_rules; i++)
        if (fake.rules[i].kind == 'i' && !strcmp(fake.rules[i].function, function)) return 1;
    return 0;
}

static int enter(const char *function, long gpu)
{
    for (unsigned i = 0; i < fake.n_rules; i++) {
        if (strcmp(fake.rules[i].function, function) != 0) continue;
        if (fake.rules[i].gpu >= 0 && fake.rules[i].gpu != gpu) continue;
        if (fake.rules[i].kind == 'f') return (int)fake.rules[i].code;
        if (fake.rules[i].kind == 'c') raise(SIGKILL);
        while (fake.rules[i].kind == 'h')
            pause();
    }
    return 0;
}

/* So many bytes more, at that many GB/s less what this GPU is slower: on a clock of its own, so
 * that no load of the machine shows. */
static void work(long gpu, size_t bytes, long rate)
{
    clock_s += (double)bytes / ((double)rate * 1e9 * (double)(100 - fake.slow[gpu]) / 100);
}

/* Parameters and bodies cannot stand in parentheses. NOLINTBEGIN(bugprone-macro-parentheses) */
#define FUNCTION(name, params, gpu, body)                                                          \
    EXPORT int(name) params;                                                                       \
    EXPORT int(name) params                                                                        \
    {                                                                                              \
        int code_ = enter(__func__, (gpu));                                                        \
        if (code_) return code_;                                                                   \
        body return 0;                                                                             \
    }
/* NOLINTEND(bugprone-macro-parentheses) */

FUNCTION(cuInit, (unsigned flags), -1, { (void)flags; })
FUNCTION(cuDeviceGetCount, (int *n), -1, { *n = (int)fake.gpus; })
FUNCTION(cuDeviceGet, (int *device, int i), i, { *device = i; })
FUNCTION(cuDeviceGetPCIBusId, (char *out, int n, int device), device,
         { snprintf(out, (size_t)n, "0000:%02X:00.0", 0x10 + device); })
FUNCTION(cuDevicePrimaryCtxRetain, (void **out, int device), device, { *out = &contexts[device]; })
FUNCTION(cuCtxSetCurrent, (void *context), *(long *)context, { current = *(long *)context; })
FUNCTION(cuEventCreate, (void **out, unsigned flags), current,
         { *out = &events[(n_events++ + flags) % (2 * GPUS_MAX)]; })
FUNCTION(cuEventRecord, (double *event, void *stream), current, {
    if (stream) return 1;
    *event = clock_s;
})
FUNCTION(cuEventSynchronize, (double *event), current, { return *event > clock_s; })
FUNCTION(cuEventElapsedTime, (float *ms, const double *start, const double *end), current,
         { *ms = (float)((*end - *start) * 1e3); })
FUNCTION(cuMemAlloc_v2, (uint64_t * out, size_t bytes), current, {
    *out = (uint64_t)bytes;
    if (bytes == 0) return 1;
})
FUNCTION(cuMemAllocHost_v2, (void **out, size_t bytes), current, {
    *out = contexts;
    if (bytes == 0) return 1;
})
FUNCTION(cuMemcpyDtoD_v2, (uint64_t to, uint64_t from, size_t bytes), current, {
    if (!to || !from) return 1;
    work(current, bytes * 2, fake.within);
})
FUNCTION(cuMemcpyHtoD_v2, (uint64_t to, const void *from, size_t bytes), current, {
    if (!to || !from) return 1;
    work(current, bytes, fake.host);
})
FUNCTION(cuMemcpyDtoH_v2, (void *to, uint64_t from, size_t bytes), current, {
    if (!to || !from) return 1;
    work(current, bytes, fake.host);
})
FUNCTION(cuDeviceCanAccessPeer, (int *out, int a, int b), a, {
    *out =
        !((a == fake.alone[0] && b == fake.alone[1]) || (b == fake.alone[0] && a == fake.alone[1]));
})
FUNCTION(cuCtxEnablePeerAccess, (void *peer, unsigned flags), current, {
    (void)flags;
    if (*(long *)peer == current) return 1;
})
FUNCTION(cuMemcpyPeer,
         (uint64_t to, void *to_context, uint64_t from, void *from_context, size_t bytes), current,
         {
             if (!to || !from || to_context == from_context) return 1;
             work(current, bytes, fake.link);
         })

/* A module is the text it was made of, a kernel the number of multiply-adds in it. */
static long n_fmas;
FUNCTION(cuModuleLoadData, (void **out, void *image), current, {
    if (strncmp(image, ".version", 8) != 0) return 218;
    *out = image;
})
FUNCTION(cuModuleGetFunction, (void **out, const char *module, const char *name), current, {
    char entry[80];
    snprintf(entry, sizeof entry, ".entry %s(", name);
    if (!strstr(module, entry)) return 500;
    n_fmas = 0;
    for (const char *p = module; (p = strstr(p, "fma.rn.f32 ")); p++)
        n_fmas++;
    *out = &n_fmas;
})
FUNCTION(cuLaunchKernel,
         (const long *kernel, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
          unsigned bz, unsigned shared, void *stream, void **parameters, void **extra),
         current, {
             if (shared || stream || extra || !*(const uint64_t *)parameters[0]) return 1;
             double threads = (double)gx * gy * gz * bx * by * bz;
             double flop = 2.0 * (double)*kernel * *(const unsigned *)parameters[1] * threads;
             clock_s += flop / ((double)fake.fp32 * 1e12 * (double)(100 - fake.slow[current]) /
                                100 * (double)(100 - fake.slow_fp32[current]) / 100);
         })
