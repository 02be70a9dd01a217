/*
 * probe: what the hardware says of itself, read-only.
 *
 * Every figure is a struct mu_probe_value: a number in the unit of its metric, or absent with the
 * reason; nothing is guessed and nothing absent is 0. A driver that hangs costs the call that hung:
 * its calls run on a thread of their own, which is given up after a time. One thread at a time uses
 * a probe, but for the functions that say otherwise.
 */
#ifndef MU_PROBE_PROBE_H
#define MU_PROBE_PROBE_H

#include "base/json.h"
#include "base/text.h"
#include "probe/catalog.h"

#include <stdint.h>

/* --- values ---------------------------------------------------------------------------------- */

/* 0: the value is valid; 1 to 999: the driver's own return code; then ours. */
typedef uint16_t mu_probe_absence;
enum {
    MU_PROBE_VALID = 0,
    MU_PROBE_NOT_SUPPORTED = 3, /* the driver's words for two cases that callers ask about */
    MU_PROBE_GPU_LOST = 15,
    MU_PROBE_NOT_ASKED = 1000,
    MU_PROBE_NO_LIBRARY,
    MU_PROBE_NO_SYMBOL,
    MU_PROBE_HUNG,
    MU_PROBE_RUBBISH,
    MU_PROBE_NO_FILE,
    MU_PROBE_NO_MEMORY,
};
const char *mu_probe_absence_text(mu_probe_absence why);

struct mu_probe_value {
    double value;
    mu_probe_absence absent;
};

static inline bool mu_probe_has(struct mu_probe_value v)
{
    return v.absent == MU_PROBE_VALID;
}

/* Every figure of a GPU: X(NAME, key in JSON, unit, largest that is believed). Keys end in the unit
 * where there is one. The first MU_PROBE_FAST are what a sampler reads at each tick. */
#define MU_PROBE_METRIC_TABLE(X)                                                                   \
    X(MEMORY_TOTAL, "memory_total_bytes", "bytes", 1e15)                                           \
    X(MEMORY_USED, "memory_used_bytes", "bytes", 1e15)                                             \
    X(MEMORY_FREE, "memory_free_bytes", "bytes", 1e15)                                             \
    X(UTILIZATION, "utilization_percent", "%", 100)                                                \
    X(MEMORY_UTILIZATION, "memory_utilization_percent", "%", 100)                                  \
    X(POWER, "power_w", "W", 5000)                                                                 \
    X(ENERGY, "energy_j", "J", 1e15)                                                               \
    X(TEMPERATURE, "temperature_c", "C", 200)                                                      \
    X(SM_CLOCK, "sm_clock_mhz", "MHz", 20000)                                                      \
    X(MEMORY_CLOCK, "memory_clock_mhz", "MHz", 50000)                                              \
    X(CLOCK_REASONS, "clock_event_reasons", "", 4294967295.0)                                      \
    X(MEMORY_TEMPERATURE, "memory_temperature_c", "C", 200)                                        \
    X(POWER_INSTANT, "power_instant_w", "W", 5000)                                                 \
    X(POWER_LIMIT, "power_limit_w", "W", 5000)                                                     \
    X(SM_CLOCK_MAX, "sm_clock_max_mhz", "MHz", 20000)                                              \
    X(MEMORY_CLOCK_MAX, "memory_clock_max_mhz", "MHz", 50000)                                      \
    X(SLOWDOWN_TEMPERATURE, "slowdown_temperature_c", "C", 200)                                    \
    X(PERFORMANCE_STATE, "performance_state", "", 32)                                              \
    X(FAN, "fan_percent", "%", 200)                                                                \
    X(BUS_WIDTH, "memory_bus_width_bits", "bits", 65536)                                           \
    X(PCIE_GENERATION, "pcie_generation", "", 9)                                                   \
    X(PCIE_GENERATION_MAX, "pcie_generation_max", "", 9)                                           \
    X(PCIE_WIDTH, "pcie_width", "", 32)                                                            \
    X(PCIE_WIDTH_MAX, "pcie_width_max", "", 32)                                                    \
    X(PCIE_REPLAYS, "pcie_replays", "", 4294967295.0)                                              \
    X(ECC_ENABLED, "ecc_enabled", "", 1)                                                           \
    X(ECC_CORRECTED, "ecc_corrected_volatile", "", 1e15)                                           \
    X(ECC_UNCORRECTED, "ecc_uncorrected_volatile", "", 1e15)                                       \
    X(ECC_UNCORRECTED_EVER, "ecc_uncorrected_aggregate", "", 1e15)                                 \
    X(REMAPPED_CORRECTABLE, "remapped_rows_correctable", "", 1e6)                                  \
    X(REMAPPED_UNCORRECTABLE, "remapped_rows_uncorrectable", "", 1e6)                              \
    X(REMAP_PENDING, "remap_pending", "", 1)                                                       \
    X(REMAP_FAILED, "remap_failed", "", 1)                                                         \
    X(MIG_ENABLED, "mig_enabled", "", 1)                                                           \
    X(PERSISTENCE, "persistence_mode", "", 1)                                                      \
    X(COMPUTE_MODE, "compute_mode", "", 3)                                                         \
    X(CAPABILITY_MAJOR, "compute_capability_major", "", 99)                                        \
    X(CAPABILITY_MINOR, "compute_capability_minor", "", 99)                                        \
    X(RECOVERY_ACTION, "recovery_action", "", 16)                                                  \
    X(FABRIC_STATE, "fabric_state", "", 16)                                                        \
    X(FABRIC_HEALTH, "fabric_health_mask", "", 4294967295.0)                                       \
    X(PCIE_SENT, "pcie_sent_bytes_per_s", "bytes/s", 1e13)                                         \
    X(PCIE_RECEIVED, "pcie_received_bytes_per_s", "bytes/s", 1e13)                                 \
    X(NVLINK_SENT, "nvlink_sent_bytes", "bytes", 1e19)                                             \
    X(NVLINK_RECEIVED, "nvlink_received_bytes", "bytes", 1e19)

#define MU_PROBE_METRIC_ENUM_(name, key, unit, max) MU_PROBE_##name,
enum mu_probe_metric { MU_PROBE_METRIC_TABLE(MU_PROBE_METRIC_ENUM_) MU_PROBE_METRIC_COUNT };
#undef MU_PROBE_METRIC_ENUM_
#define MU_PROBE_FAST (MU_PROBE_CLOCK_REASONS + 1)

const char *mu_probe_metric_key(enum mu_probe_metric metric);
const char *mu_probe_metric_unit(enum mu_probe_metric metric);

/* What holds the clocks down: the bits of CLOCK_REASONS, worst first; NULL past the last. `bad`
 * tells those that point at a fault of power or cooling. */
struct mu_probe_clock_reason {
    uint32_t bit;
    const char *text;
    bool bad;
};
const struct mu_probe_clock_reason *mu_probe_clock_reason_get(unsigned n);

/* --- a machine ------------------------------------------------------------------------------- */

#define MU_PROBE_GPUS_MAX      32
#define MU_PROBE_LINKS_MAX     18
#define MU_PROBE_PROCESSES_MAX 64
#define MU_PROBE_SLICES_MAX    8
#define MU_PROBE_TEXT_MAX      96

struct mu_probe_nvlink {
    struct mu_probe_value up, version; /* a link that is absent here does not exist */
    struct mu_probe_value replays, recoveries, crc_errors;
    char remote[MU_PROBE_TEXT_MAX]; /* the bus id at the other end, or "" */
};

struct mu_probe_process {
    uint32_t pid; /* the host's, also inside a container */
    struct mu_probe_value used_bytes;
    char name[32];
    char state; /* of /proc/PID/stat; 0: it cannot be seen from here */
};

/* One MIG instance. */
struct mu_probe_slice {
    char name[MU_PROBE_TEXT_MAX], uuid[MU_PROBE_TEXT_MAX];
    struct mu_probe_value total_bytes, used_bytes;
};

struct mu_probe_gpu {
    unsigned index;
    mu_probe_absence unusable; /* why the driver gives no handle to it; VALID: it does */
    char name[MU_PROBE_TEXT_MAX], uuid[MU_PROBE_TEXT_MAX], vbios[MU_PROBE_TEXT_MAX];
    char bus_id[32]; /* as sysfs spells it: 0000:17:00.0 */
    struct mu_probe_value values[MU_PROBE_METRIC_COUNT];
    struct mu_probe_nvlink links[MU_PROBE_LINKS_MAX];
    struct mu_probe_process processes[MU_PROBE_PROCESSES_MAX];
    unsigned n_processes; /* those kept */
    mu_probe_absence processes_absent;
    struct mu_probe_slice slices[MU_PROBE_SLICES_MAX];
    unsigned n_slices;
    /* From sysfs. */
    struct mu_probe_value numa_node, slot_width,
        slot_gt_s;                          /* of the port that it is plugged into */
    struct mu_probe_value iommu_group_size; /* devices in its isolation group */
    char cpus[MU_PROBE_TEXT_MAX];           /* near it, as a list; "" unknown */
};

/* How two GPUs reach each other over the bus; NVLink is in the links. Values are the driver's. */
enum mu_probe_path {
    MU_PROBE_PATH_SAME = 0,
    MU_PROBE_PATH_PIX = 10,
    MU_PROBE_PATH_PXB = 20,
    MU_PROBE_PATH_PHB = 30,
    MU_PROBE_PATH_NODE = 40,
    MU_PROBE_PATH_SYS = 50,
};

struct mu_probe_xid {
    int code;
    int gpu; /* -1: of no GPU that is here */
    struct mu_probe_value age_s;
    char bus_id[32];
    char line[256]; /* printable */
};
#define MU_PROBE_XIDS_MAX 32

struct mu_probe_node {
    mu_probe_absence library; /* why there are no GPUs; VALID: the driver answered */
    char library_what[192];   /* the same in words */
    char driver[MU_PROBE_TEXT_MAX], nvml[MU_PROBE_TEXT_MAX], cuda[MU_PROBE_TEXT_MAX];
    unsigned n_gpus;
    struct mu_probe_gpu gpus[MU_PROBE_GPUS_MAX];
    struct mu_probe_value path[MU_PROBE_GPUS_MAX][MU_PROBE_GPUS_MAX];
    struct mu_probe_xid xids[MU_PROBE_XIDS_MAX]; /* the latest */
    unsigned n_xids;                             /* those kept */
    uint64_t n_xids_seen;
    mu_probe_absence kernel_log; /* why the kernel's log could not be read */
    char kernel_log_what[192];
    char symbols_absent[512]; /* what this driver lacks, names with spaces between */
    char hung[256];           /* calls that did not return in time */
};

/* NVLinks that are up between two GPUs, going by the bus ids at their ends; those that end in a
 * switch count between all GPUs that have such. */
unsigned mu_probe_nvlinks(const struct mu_probe_node *node, unsigned a, unsigned b);
/* "NV18", "PIX", ..., "X" for itself, "?" when it is not known. */
const char *mu_probe_path_text(const struct mu_probe_node *node, unsigned a, unsigned b,
                               char out[8]);

struct mu_probe_options {
    const char *library;    /* NULL: MUSTER_NVML, else libnvidia-ml.so.1 as the loader finds it */
    const char *root;       /* before /sys, /proc and /dev; NULL: MUSTER_ROOT, else none */
    const char *kernel_log; /* a file; NULL: the kernel's own */
    uint32_t call_ms;       /* after which a call of the driver is given up; 0: 2,000 */
    /* How functions are found in the library; NULL: dlsym. Tests take some away. */
    void *(*find)(void *library, const char *name);
};

struct mu_probe;
/* Opens whatever is here; a missing driver is no failure, and mu_probe_look says so. A file that
 * was given and cannot be read is one. */
mu_status mu_probe_open(const struct mu_probe_options *options, struct mu_probe **out,
                        struct mu_err *err);
void mu_probe_close(struct mu_probe *probe);
/* Everything. Fails only for memory. Large: keep the node on the heap. Any thread. */
mu_status mu_probe_look(struct mu_probe *probe, struct mu_probe_node *out, struct mu_err *err);

/* --- sampling -------------------------------------------------------------------------------- */

struct mu_probe_sample {
    uint64_t at_ns; /* of mu_clock_ns */
    struct mu_probe_value values[MU_PROBE_FAST];
};

/* What the sampling itself cost, and how late its ticks were. */
struct mu_probe_sampler_cost {
    uint64_t n_ticks, n_missed;
    double cpu_s, wall_s; /* CPU time, in calls of the driver and beside them */
    double mean_tick_ms, max_tick_ms;
    double mean_late_ms, max_late_ms;
};

struct mu_probe_sampler;
/* Reads the fast metrics of every GPU `hz` times a second into a ring of the latest `n_kept`. */
mu_status mu_probe_sampler_start(struct mu_probe *probe, double hz, unsigned n_kept,
                                 struct mu_probe_sampler **out, struct mu_err *err);
void mu_probe_sampler_stop(struct mu_probe_sampler *s); /* NULL is fine */
unsigned mu_probe_sampler_gpus(const struct mu_probe_sampler *s);
/* Copies the latest samples of one GPU, at most `max`, oldest first; returns how many. Any thread.
 */
unsigned mu_probe_sampler_read(struct mu_probe_sampler *s, unsigned gpu,
                               struct mu_probe_sample *out, unsigned max);
void mu_probe_sampler_cost_get(struct mu_probe_sampler *s, struct mu_probe_sampler_cost *out);

/* --- the CPU --------------------------------------------------------------------------------- */

struct mu_probe_cpu {
    char name[96];            /* as the processor gives it; "" when it does not */
    unsigned n_usable;        /* threads that make sense: affinity mask, cut by the CPU quota */
    uint64_t memory_bytes;    /* of the machine, or of the cgroup where that is less; 0: absent */
    uint64_t available_bytes; /* that could be used now without swapping */
    struct mu_probe_value clock_mhz, clock_max_mhz; /* mean of the cores; the fastest allowed */
    struct mu_probe_value temperature_c;            /* the hottest zone */
    struct mu_probe_value energy_j;                 /* RAPL, all packages; wraps */
    struct mu_probe_value busy_s, all_s;            /* of all threads, since the start */
    struct mu_probe_value load; /* threads that ran or wanted to, on average of a minute */
    struct mu_probe_value quota_cpus, memory_limit_bytes; /* of the cgroup */
    char governor[32];
};

/* The root as in the options. Any thread. */
void mu_probe_cpu(const char *given_root, struct mu_probe_cpu *out);

/* Where a CPU is: which memory is near, and which other CPUs are threads of the same core. */
struct mu_probe_core {
    struct mu_probe_value node;
    struct mu_probe_value clock_max_mhz; /* cores of one machine may differ in it */
    char threads[64];                    /* as a list; "" unknown */
};
void mu_probe_core(const char *given_root, int cpu, struct mu_probe_core *out);

/* --- as metrics ------------------------------------------------------------------------------- */

struct mu_probe_exposition {
    const struct mu_probe_node *node;
    const struct mu_probe_cpu *cpu;
    const struct mu_probe_sampler_cost *cost;
    const char *host;
    bool openmetrics; /* else the text format 0.0.4 of Prometheus */
};
/* What is known now: GPUs under the names of NVIDIA's exporter, all else as muster_... in base
 * units. What could not be read is not there. */
void mu_probe_metrics_text(const struct mu_probe_exposition *e, struct mu_text *out);

/* --- as JSON ---------------------------------------------------------------------------------- */

/* New references; NULL, or less than all, when memory is out. */
json_t *mu_probe_gpu_json(const struct mu_probe_gpu *g);
json_t *mu_probe_driver_json(const struct mu_probe_node *node);
json_t *mu_probe_topology_json(const struct mu_probe_node *node);
json_t *mu_probe_xids_json(const struct mu_probe_node *node);
json_t *mu_probe_cpu_json(const struct mu_probe_cpu *cpu);

#endif
