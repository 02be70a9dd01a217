/* One placement: which device does what, the memory it takes and the time it needs. Inside the
 * room: planner.c. */
#ifndef MU_PLAN_PLACE_H
#define MU_PLAN_PLACE_H

#include "plan/planner.h"

/* Fills devices, memory, fits and predictions of a candidate whose degrees, format and devices
 * array are set; `shards` are those of its tp ranks. */
void mu_plan_candidate_fill(const struct mu_plan_request *request,
                            const struct mu_plan_shard *shards,
                            struct mu_plan_candidate *candidate);

#endif
