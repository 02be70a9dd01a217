/*
 * Our own declarations of what we use of NVML, whose header need not be installed: constants,
 * structures in the exact layout of the driver, and the table of functions. Private to the room.
 */
#ifndef MU_PROBE_NVML_H
#define MU_PROBE_NVML_H

#include <stdint.h>

#define NVML_NOT_AVAILABLE        0xffffffffffffffffull /* a figure that is not known, of memory */
#define NVML_ALL_LINKS            0xffffffffu
#define NVML_SIZED(type, version) ((unsigned)(sizeof(type) | ((unsigned)(version) << 24)))

enum { NVML_TEMPERATURE_GPU, NVML_THRESHOLD_SLOWDOWN = 1 };
enum { NVML_CLOCK_SM = 1, NVML_CLOCK_MEMORY = 2 };
enum { NVML_ECC_CORRECTED, NVML_ECC_UNCORRECTED };
enum { NVML_ECC_VOLATILE, NVML_ECC_AGGREGATE };
enum { NVML_PCIE_SENT, NVML_PCIE_RECEIVED };
enum { NVML_LINK_REPLAY, NVML_LINK_RECOVERY, NVML_LINK_CRC_FLIT };
enum {
    NVML_FIELD_MEMORY_TEMPERATURE = 82,
    NVML_FIELD_NVLINK_SENT = 138, /* KiB of all links together, when the scope is ALL_LINKS */
    NVML_FIELD_NVLINK_RECEIVED = 139,
    NVML_FIELD_POWER_INSTANT = 186,
    NVML_FIELD_RECOVERY = 230
};

/* All versions begin so. */
struct nvml_pci {
    char bus_id_legacy[16];
    unsigned domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};

struct nvml_memory {
    unsigned long long total, free, used;
};

struct nvml_memory_v2 {
    unsigned version;
    unsigned long long total, reserved, free, used;
};

struct nvml_process_v1 {
    unsigned pid;
    unsigned long long used;
};

struct nvml_process_v2 {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};

/* What some drivers of the 535 series fill in behind the same function as the others. */
struct nvml_process_535 {
    struct nvml_process_v2 process;
    unsigned long long used_protected;
};

enum {
    NVML_TYPE_DOUBLE,
    NVML_TYPE_U32,
    NVML_TYPE_ULONG,
    NVML_TYPE_U64,
    NVML_TYPE_I64,
    NVML_TYPE_I32
};
struct nvml_field {
    unsigned id, scope;
    long long timestamp, latency_us;
    unsigned type, code;
    union {
        double f64;
        unsigned u32;
        int i32;
        unsigned long long u64;
    } value;
};

struct nvml_fabric {
    unsigned char cluster[16];
    unsigned status, clique;
    unsigned char state;
};

struct nvml_fabric_v2 {
    unsigned version;
    unsigned char cluster[16];
    unsigned status, clique;
    unsigned char state;
    unsigned health;
};

_Static_assert(sizeof(struct nvml_pci) == 68, "as the driver has it");
_Static_assert(sizeof(struct nvml_memory_v2) == 40, "as the driver has it");
_Static_assert(sizeof(struct nvml_process_v2) == 24, "as the driver has it");
_Static_assert(sizeof(struct nvml_process_535) == 32, "as the driver has it");
_Static_assert(sizeof(struct nvml_field) == 40, "as the driver has it");
_Static_assert(sizeof(struct nvml_fabric_v2) == 36, "as the driver has it");

/* The parameters of a function, apart from its last word. */
enum nvml_shape {
    NVML_SHAPE_NONE,     /* () */
    NVML_SHAPE_TEXT,     /* (char *, size) */
    NVML_SHAPE_OUT,      /* (out *) */
    NVML_SHAPE_INDEX,    /* (index, device *) */
    NVML_SHAPE_DEV_TEXT, /* (device, char *, size) */
    NVML_SHAPE_DEV_OUT,  /* (device, out *) */
    NVML_SHAPE_DEV_OUT2, /* (device, u32 *, u32 *) */
    NVML_SHAPE_DEV_OUT4, /* (device, u32 *, u32 *, u32 *, u32 *) */
    NVML_SHAPE_DEV_A,    /* (device, u32, out *) */
    NVML_SHAPE_DEV_AB,   /* (device, u32, u32, out *) */
    NVML_SHAPE_DEV_DEV,  /* (device, device, out *) */
    NVML_SHAPE_DEV_LIST, /* (device, u32 *n, items *) */
    NVML_SHAPE_DEV_N,    /* (device, n, items *) */
};

/* X(NAME, shape, the newest name first, then what older drivers call it or NULL) */
#define NVML_FUNCTION_TABLE(X)                                                                     \
    X(INIT, NONE, "nvmlInit_v2", "nvmlInit", NULL)                                                 \
    X(SHUTDOWN, NONE, "nvmlShutdown", NULL, NULL)                                                  \
    X(DRIVER_VERSION, TEXT, "nvmlSystemGetDriverVersion", NULL, NULL)                              \
    X(NVML_VERSION, TEXT, "nvmlSystemGetNVMLVersion", NULL, NULL)                                  \
    X(CUDA_VERSION, OUT, "nvmlSystemGetCudaDriverVersion_v2", "nvmlSystemGetCudaDriverVersion",    \
      NULL)                                                                                        \
    X(COUNT, OUT, "nvmlDeviceGetCount_v2", "nvmlDeviceGetCount", NULL)                             \
    X(HANDLE, INDEX, "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex", NULL)          \
    X(NAME, DEV_TEXT, "nvmlDeviceGetName", NULL, NULL)                                             \
    X(UUID, DEV_TEXT, "nvmlDeviceGetUUID", NULL, NULL)                                             \
    X(VBIOS, DEV_TEXT, "nvmlDeviceGetVbiosVersion", NULL, NULL)                                    \
    X(PCI, DEV_OUT, "nvmlDeviceGetPciInfo_v3", "nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo")  \
    X(MEMORY, DEV_OUT, "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMemoryInfo", NULL)              \
    X(UTILIZATION, DEV_OUT, "nvmlDeviceGetUtilizationRates", NULL, NULL)                           \
    X(POWER, DEV_OUT, "nvmlDeviceGetPowerUsage", NULL, NULL)                                       \
    X(ENERGY, DEV_OUT, "nvmlDeviceGetTotalEnergyConsumption", NULL, NULL)                          \
    X(TEMPERATURE, DEV_A, "nvmlDeviceGetTemperature", NULL, NULL)                                  \
    X(CLOCK, DEV_A, "nvmlDeviceGetClockInfo", NULL, NULL)                                          \
    X(CLOCK_REASONS, DEV_OUT, "nvmlDeviceGetCurrentClocksEventReasons",                            \
      "nvmlDeviceGetCurrentClocksThrottleReasons", NULL)                                           \
    X(POWER_LIMIT, DEV_OUT, "nvmlDeviceGetEnforcedPowerLimit", NULL, NULL)                         \
    X(CLOCK_MAX, DEV_A, "nvmlDeviceGetMaxClockInfo", NULL, NULL)                                   \
    X(TEMPERATURE_THRESHOLD, DEV_A, "nvmlDeviceGetTemperatureThreshold", NULL, NULL)               \
    X(PERFORMANCE_STATE, DEV_OUT, "nvmlDeviceGetPerformanceState", NULL, NULL)                     \
    X(FAN, DEV_OUT, "nvmlDeviceGetFanSpeed", NULL, NULL)                                           \
    X(BUS_WIDTH, DEV_OUT, "nvmlDeviceGetMemoryBusWidth", NULL, NULL)                               \
    X(PCIE_GENERATION, DEV_OUT, "nvmlDeviceGetCurrPcieLinkGeneration", NULL, NULL)                 \
    X(PCIE_GENERATION_MAX, DEV_OUT, "nvmlDeviceGetMaxPcieLinkGeneration", NULL, NULL)              \
    X(PCIE_WIDTH, DEV_OUT, "nvmlDeviceGetCurrPcieLinkWidth", NULL, NULL)                           \
    X(PCIE_WIDTH_MAX, DEV_OUT, "nvmlDeviceGetMaxPcieLinkWidth", NULL, NULL)                        \
    X(PCIE_REPLAYS, DEV_OUT, "nvmlDeviceGetPcieReplayCounter", NULL, NULL)                         \
    X(PCIE_THROUGHPUT, DEV_A, "nvmlDeviceGetPcieThroughput", NULL, NULL)                           \
    X(ECC_MODE, DEV_OUT2, "nvmlDeviceGetEccMode", NULL, NULL)                                      \
    X(ECC_ERRORS, DEV_AB, "nvmlDeviceGetTotalEccErrors", NULL, NULL)                               \
    X(REMAPPED_ROWS, DEV_OUT4, "nvmlDeviceGetRemappedRows", NULL, NULL)                            \
    X(MIG_MODE, DEV_OUT2, "nvmlDeviceGetMigMode", NULL, NULL)                                      \
    X(MIG_HANDLE, DEV_A, "nvmlDeviceGetMigDeviceHandleByIndex", NULL, NULL)                        \
    X(PERSISTENCE, DEV_OUT, "nvmlDeviceGetPersistenceMode", NULL, NULL)                            \
    X(COMPUTE_MODE, DEV_OUT, "nvmlDeviceGetComputeMode", NULL, NULL)                               \
    X(CAPABILITY, DEV_OUT2, "nvmlDeviceGetCudaComputeCapability", NULL, NULL)                      \
    X(FIELDS, DEV_N, "nvmlDeviceGetFieldValues", NULL, NULL)                                       \
    X(FABRIC, DEV_OUT, "nvmlDeviceGetGpuFabricInfoV", "nvmlDeviceGetGpuFabricInfo", NULL)          \
    X(PROCESSES, DEV_LIST, "nvmlDeviceGetComputeRunningProcesses_v3",                              \
      "nvmlDeviceGetComputeRunningProcesses_v2", "nvmlDeviceGetComputeRunningProcesses")           \
    X(LINK_STATE, DEV_A, "nvmlDeviceGetNvLinkState", NULL, NULL)                                   \
    X(LINK_VERSION, DEV_A, "nvmlDeviceGetNvLinkVersion", NULL, NULL)                               \
    X(LINK_REMOTE, DEV_A, "nvmlDeviceGetNvLinkRemotePciInfo_v2",                                   \
      "nvmlDeviceGetNvLinkRemotePciInfo", NULL)                                                    \
    X(LINK_ERRORS, DEV_AB, "nvmlDeviceGetNvLinkErrorCounter", NULL, NULL)                          \
    X(COMMON_ANCESTOR, DEV_DEV, "nvmlDeviceGetTopologyCommonAncestor", NULL, NULL)

#define NVML_ENUM_(name, shape, ...) NVML_##name,
enum nvml_function { NVML_FUNCTION_TABLE(NVML_ENUM_) NVML_FUNCTION_COUNT };
#undef NVML_ENUM_
#define NVML_NAMES_MAX 3

#endif
