/* What the sampler asks of a probe. Private to the room. */
#ifndef MU_PROBE_SAMPLER_INT_H
#define MU_PROBE_SAMPLER_INT_H

#include "probe/probe.h"

/* The fast metrics of a GPU that the last look found; MU_E_MISSING when it has no handle. */
mu_status probe_fast(struct mu_probe *probe, unsigned gpu, struct mu_probe_value *values);
/* GPUs that the last look found. */
unsigned probe_devices(struct mu_probe *probe);

#endif
