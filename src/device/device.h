/*
 * device: memory with a budget that is a wall, and the threads that work on it.
 *
 * A CPU device is a share of the machine's cores and a budget of its memory. Any thread may
 * allocate and free, though never inside a step: the host's memory is one device, and all ranks
 * that leave something there load it at the same time. Usage may be read by any thread.
 */
#ifndef MU_DEVICE_DEVICE_H
#define MU_DEVICE_DEVICE_H

#include "base/team.h"

#define MU_DEVICES_MAX     64
#define MU_DEVICE_CPUS_MAX 256
#define MU_DEVICE_NAME_MAX 24

enum mu_purpose {
    MU_PURPOSE_WEIGHTS,
    MU_PURPOSE_KV,
    MU_PURPOSE_ACTIVATIONS,
    MU_PURPOSE_TABLES,  /* rope and what else is computed once */
    MU_PURPOSE_STAGING, /* weights on their way from the host's memory or the file */
    MU_PURPOSE_COUNT
};

const char *mu_purpose_name(enum mu_purpose purpose);

struct mu_device_spec {
    char name[MU_DEVICE_NAME_MAX]; /* "cpu", "cpu:2" */
    unsigned n_threads;
    unsigned n_cpus; /* 0: not pinned */
    int cpus[MU_DEVICE_CPUS_MAX];
    uint64_t budget_bytes;
    unsigned process; /* that has it, of those that share a model; 0 when there is only one */
};

struct mu_device_list {
    unsigned n;
    uint64_t host_bytes; /* of the machine's memory that are available, devices' budgets included */
    struct mu_device_spec items[MU_DEVICES_MAX];
};

/*
 * Reads "cpu", "cpu:4" (four devices that share the cores evenly) and "cpu:4x2GiB" (each with that
 * budget). `threads` > 0 says how many threads each device gets; 0: its share of the usable CPUs,
 * at least one. Without a budget a device may use its share of the memory that is available now.
 */
mu_status mu_devices_parse(const char *text, unsigned threads, struct mu_device_list *out,
                           struct mu_err *err);
/* The same for one of several processes on a machine: its cores are shared by `of_cpus` of them, of
 * which this is number `cpu_index`, its memory by `of_memory`. */
mu_status mu_devices_parse_share(const char *text, unsigned threads, unsigned cpu_index,
                                 unsigned of_cpus, unsigned of_memory, struct mu_device_list *out,
                                 struct mu_err *err);

struct mu_device;

mu_status mu_device_open(const struct mu_device_spec *spec, struct mu_device **out,
                         struct mu_err *err);
void mu_device_close(struct mu_device *device);
const struct mu_device_spec *mu_device_spec(const struct mu_device *device);

/* 64-byte aligned memory, cleared. Past the budget: MU_E_FIT, naming `what`. */
mu_status mu_device_alloc(struct mu_device *device, enum mu_purpose purpose, uint64_t bytes,
                          const char *what, void **out, struct mu_err *err);
/* `bytes` as allocated; p may be NULL. */
void mu_device_free(struct mu_device *device, enum mu_purpose purpose, void *p, uint64_t bytes);

struct mu_device_usage {
    uint64_t now_bytes[MU_PURPOSE_COUNT], high_bytes[MU_PURPOSE_COUNT];
    uint64_t total_now_bytes, total_high_bytes;
};

void mu_device_usage(const struct mu_device *device, struct mu_device_usage *out);

#endif
