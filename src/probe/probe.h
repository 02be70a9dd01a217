/*
 * probe: what the hardware says of itself, read-only. A value that could not be read is absent: an
 * empty text or 0, never a guess. Any thread.
 */
#ifndef MU_PROBE_PROBE_H
#define MU_PROBE_PROBE_H

#include "probe/catalog.h"

struct mu_probe_cpu {
    char name[96];            /* as the processor gives it */
    unsigned n_usable;        /* threads that make sense: affinity mask, cut by the CPU quota */
    uint64_t memory_bytes;    /* of the machine, or of the cgroup where that is less */
    uint64_t available_bytes; /* that could be used now without swapping */
};

void mu_probe_cpu(struct mu_probe_cpu *out);

#endif
