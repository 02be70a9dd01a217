/*
 * Where the time of a rank's steps goes: the nanoseconds until all members of its team are there,
 * and between the ends of its operations, as member 0 sees them, waits for the others included. Off
 * by default; a step then pays one comparison an operation. Written by the rank's thread inside a
 * step (reading the clock is no system call), read by anybody once no step is under way.
 */
#ifndef MU_ENGINE_PROFILE_H
#define MU_ENGINE_PROFILE_H

#include "base/clock.h"
#include "engine/engine.h"

struct mu_profile {
    uint64_t n_steps[MU_PROFILE_PHASES], start_ns[MU_PROFILE_PHASES];
    uint64_t *ns[MU_PROFILE_PHASES]; /* [operations of the program] */
};

/* NULL when memory is out. */
struct mu_profile *mu_profile_create(struct mu_arena *arena, const struct mu_program *program);

/* All members are there for a step that member 0 entered at `then`; returns the time. */
static inline uint64_t mu_profile_begin(struct mu_profile *p, enum mu_profile_phase phase,
                                        uint64_t then)
{
    uint64_t now = mu_clock_ns();
    p->n_steps[phase]++;
    p->start_ns[phase] += now - then;
    return now;
}

/* Operation `op`, begun at `then`, is done; returns the time. */
static inline uint64_t mu_profile_note(struct mu_profile *p, enum mu_profile_phase phase,
                                       uint32_t op, uint64_t then)
{
    uint64_t now = mu_clock_ns();
    p->ns[phase][op] += now - then;
    return now;
}

#endif
