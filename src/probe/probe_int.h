/* What the files of this room share: calls of the driver that may hang, and small readers. */
#ifndef MU_PROBE_PROBE_INT_H
#define MU_PROBE_PROBE_INT_H

#include "base/thread.h"
#include "probe/nvml.h"
#include "probe/probe.h"

/* --- nvml.c ---------------------------------------------------------------------------------- */

/* One call of the driver, with all that it writes: a call that hangs may still write later. */
struct nvml_call {
    enum nvml_function function;
    void *device, *other;
    unsigned a, b; /* arguments; `a` is also the number of items of a list, in and out */
    mu_probe_absence absent;
    union {
        unsigned u32[4];
        unsigned long long u64[8];
        void *device;
        char text[MU_PROBE_TEXT_MAX];
        struct nvml_pci pci;
        struct nvml_memory memory;
        struct nvml_memory_v2 memory_v2;
        struct nvml_fabric fabric;
        struct nvml_fabric_v2 fabric_v2;
        struct nvml_field fields[5];
        unsigned char bytes[MU_PROBE_PROCESSES_MAX * sizeof(struct nvml_process_535)];
    } out;
};

struct nvml;
mu_status nvml_open(const struct mu_probe_options *options, struct nvml **out, struct mu_err *err);
void nvml_close(struct nvml *lib);
/* Why there is no library, VALID when there is one; and the same in words. */
mu_probe_absence nvml_absent(const struct nvml *lib, const char **what);
/* Which of a function's names this driver has, 0 the newest; NVML_NAMES_MAX: none. */
unsigned nvml_version(const struct nvml *lib, enum nvml_function function);
const char *nvml_function_name(enum nvml_function function);
/* Names of the functions that hung, with spaces between. */
/* CPU time of the driver's calls so far. */
double nvml_cpu_s(const struct nvml *lib);
void nvml_hung_names(const struct nvml *lib, struct mu_text *out);

/* Makes the calls one after another on the probe's thread. `*calls` came from mu_alloc and goes on
 * belonging to the caller, but may be another block afterwards: what a hung call writes into is
 * left to it. On failure `*calls` is NULL. */
mu_status nvml_run(struct nvml *lib, struct nvml_call **calls, unsigned n, struct mu_err *err);

/* --- gpu.c ----------------------------------------------------------------------------------- */

/* The fast metrics alone of several devices, in one round: handles that the last look found. */
mu_status gpu_read_fast(struct nvml *lib, void *const *devices, unsigned n_devices,
                        struct mu_probe_value *const *values, struct mu_err *err);
/* All but what sysfs says. `device` is where its handle goes, NULL when there is none. */
mu_status gpu_read(struct nvml *lib, unsigned index, struct mu_probe_gpu *gpu, void **device,
                   struct mu_err *err);
/* Figures that the driver watches for before it answers: 20 ms each. */
mu_status gpu_read_watched(struct nvml *lib, struct mu_probe_gpu *gpu, void *device,
                           struct mu_err *err);
mu_status gpu_paths(struct nvml *lib, void *const *devices, struct mu_probe_node *node,
                    struct mu_err *err);

/* --- sys.c: small files below a root --------------------------------------------------------- */

/* "" or MUSTER_ROOT when `root` is NULL. */
const char *sys_root(const char *root);
/* Reads root/path, formatted, without its last newline, at most size - 1 bytes; false: no file. */
bool sys_text(const char *root, char *out, size_t size, const char *path, ...) MU_PRINTF(4, 5);
/* The number that such a file begins with. */
struct mu_probe_value sys_number(const char *root, const char *path, ...) MU_PRINTF(2, 3);
/* What sysfs and /proc know of a GPU and of its processes. */
void sys_gpu(const char *root, struct mu_probe_gpu *gpu);

/* --- kernel_log.c ---------------------------------------------------------------------------- */

/* Whether a file that was given can be read at all. */
mu_status kernel_log_check(const char *file, struct mu_err *err);
void kernel_log_read(const char *root, const char *file, struct mu_probe_node *node);

static inline struct mu_probe_value probe_value(double value)
{
    return (struct mu_probe_value){value, MU_PROBE_VALID};
}

static inline struct mu_probe_value probe_absent(mu_probe_absence why)
{
    return (struct mu_probe_value){0, why};
}

/* Copies printable ASCII up to the first NUL; the rest becomes '?'. */
void probe_text_copy(char *out, size_t size, const char *s, size_t len);

#endif
