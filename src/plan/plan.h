/* plan: model + devices + budgets + costs + goal -> placements. Pure: no I/O, no clock. */
#ifndef MU_PLAN_PLAN_H
#define MU_PLAN_PLAN_H

#include "plan/device_map.h"
#include "plan/placed.h"
#include "plan/places.h"
#include "plan/planner.h"
#include "plan/write.h"

#endif
