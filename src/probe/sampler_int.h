/* What the sampler asks of a probe. Private to the room. */
#ifndef MU_PROBE_SAMPLER_INT_H
#define MU_PROBE_SAMPLER_INT_H

#include "probe/probe.h"

/* The fast metrics of the first GPUs that the last look found, absent for those without a handle.
 * Returns the CPU time of the driver's calls. */
double probe_fast(struct mu_probe *probe, struct mu_probe_sample *samples, unsigned n_gpus);
/* GPUs that the last look found. */
unsigned probe_devices(struct mu_probe *probe);

#endif
