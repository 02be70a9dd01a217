/*
 * Threads, and waiting on a word: all that the team, the ranks and the engine's loop are made of.
 * Which thread calls what is said at each owner.
 */
#ifndef MU_BASE_THREAD_H
#define MU_BASE_THREAD_H

#include "base/status.h"

#include <pthread.h>
#include <stdatomic.h>

typedef void mu_thread_fn(void *arg);

struct mu_thread {
    pthread_t handle;
    bool started;
};

/* Starts a thread pinned to `cpu` (or free, when negative), with all signals blocked. */
mu_status mu_thread_start(struct mu_thread *thread, mu_thread_fn *fn, void *arg, const char *name,
                          int cpu, struct mu_err *err);
/* Waits for its end; does nothing for a thread never started. */
void mu_thread_join(struct mu_thread *thread);

/* Sleeps while *word == value (it may wake without reason: check again). */
void mu_wait_word(_Atomic uint32_t *word, uint32_t value);
/* The same for at most `timeout_ms`; false when the time ran out. */
bool mu_wait_word_for(_Atomic uint32_t *word, uint32_t value, uint32_t timeout_ms);
bool mu_wait_word_ns(_Atomic uint32_t *word, uint32_t value, uint64_t timeout_ns);
void mu_wake_word(_Atomic uint32_t *word);

/* CPUs this process may use: its affinity mask, cut by the cgroup's CPU quota (at least 1). Fills
 * at most `max` numbers of usable CPUs; returns how many threads make sense. */
unsigned mu_cpu_usable(int *cpus, unsigned max);

/* Hints the CPU that this is a waiting loop. */
static inline void mu_cpu_relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

#endif
