/*
 * A team: threads that work on one thing together, a device's worth of them.
 *
 * The creator is member 0; the others sleep until mu_team_run. Inside a run the members share out
 * pieces of work by claiming (so that a member whose core is busy elsewhere takes fewer) and meet
 * at barriers. With a core per thread a wait spins briefly before it sleeps; with fewer cores than
 * threads it sleeps at once. A team is run by one thread at a time.
 *
 * A member that the others keep waiting for, because another program has its core, is left out of
 * runs for a while: so a run's work must not need any one member, nor all of them.
 */
#ifndef MU_BASE_TEAM_H
#define MU_BASE_TEAM_H

#include "base/thread.h"

struct mu_team;

/* `cpus` says where members 0..n-1 live, or is NULL: they may run anywhere. Member 0, the caller's
 * own thread, is pinned too when `cpus` is given; destroying the team, which the same thread does,
 * sets it free again. */
mu_status mu_team_create(unsigned n_threads, const int *cpus, struct mu_team **out,
                         struct mu_err *err);
void mu_team_destroy(struct mu_team *team);
unsigned mu_team_size(const struct mu_team *team);

/* Runs fn(arg, member) on the members (all, or all but those left out); returns when they have. */
typedef void mu_team_fn(void *arg, unsigned member);
void mu_team_run(struct mu_team *team, mu_team_fn *fn, void *arg);

/* Only inside a run, by every member that takes part, in the same order: */

/* An unclaimed piece of the current phase's `n`, or `n` when there are none. A member gets pieces
 * that lie side by side, first to last, of a share of its own: what it reads ahead of a piece is of
 * use in the next. When that is done it takes over from the others' shares. */
uint32_t mu_team_claim(struct mu_team *team, unsigned member, uint32_t n);
/* Ends the phase: returns when all members have come, with nothing claimed again. True to one of
 * them. */
bool mu_team_barrier(struct mu_team *team, unsigned member);
/* The same after a phase in which members wait for others than the team: nobody counts as late. */
bool mu_team_barrier_excused(struct mu_team *team);

#endif
