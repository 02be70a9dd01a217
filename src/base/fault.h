/*
 * Fault points: in test builds the n-th allocation, read, write or thread creation can be made to
 * fail from the environment, so that every error path is walked at least once:
 *
 *     MUSTER_FAULT=alloc:37      the 37th allocation of this process fails, all others work
 *     MUSTER_FAULT=read:1        the first read or mapping fails
 *     MUSTER_FAULT=step:5        the rank that begins the fifth step of this process fails in it
 *     MUSTER_FAULT=bits:9        the ninth row of logits in a digest has another bit
 *     MUSTER_FAULT=count         nothing fails; the totals are printed when the process ends
 *     MUSTER_FAULT=calls         nothing fails, but see below
 *
 * A thread may also forbid itself to pass any of these points, for the length of a step: to pass
 * one then is a failed assertion. With MUSTER_FAULT=calls so is any system call there, but futex,
 * by which threads wait for each other; how many of these there were is printed at the end.
 *
 * Release builds carry none of it. Any thread.
 */
#ifndef MU_BASE_FAULT_H
#define MU_BASE_FAULT_H

#include "base/compiler.h"

#include <stdbool.h>

enum mu_fault {
    MU_FAULT_ALLOC,
    MU_FAULT_READ,
    MU_FAULT_WRITE,
    MU_FAULT_THREAD,
    MU_FAULT_STEP, /* a rank gives up in this step of its process */
    MU_FAULT_BITS, /* a row of logits that is counted in a digest is another one */
    MU_FAULT_COUNT
};

#ifdef MU_CHECKS
/* Counts one passage of this point; true when it is the one that must fail. */
bool mu_fault_hit(enum mu_fault point);
void mu_fault_forbid(bool forbidden);
#else
static inline bool mu_fault_hit(enum mu_fault point)
{
    (void)point;
    return false;
}
static inline void mu_fault_forbid(bool forbidden)
{
    (void)forbidden;
}
#endif

#endif
