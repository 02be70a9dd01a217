/* Fault points of test builds; see fault.h. */
#include "base/fault.h"

#ifdef MU_CHECKS

#include "base/status.h"
#include "base/trap.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const names[MU_FAULT_COUNT] = {"alloc",  "read", "write",
                                                  "thread", "step", "bits"};
static atomic_ullong passed[MU_FAULT_COUNT];
static unsigned long long fail_at[MU_FAULT_COUNT]; /* 0: never */
static bool trapping;
static _Thread_local bool forbidden_here;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void print_totals(void)
{
    for (int i = 0; i < MU_FAULT_COUNT; i++)
        (void)fprintf(stderr, "fault point %s passed %llu\n", names[i],
                      atomic_load_explicit(&passed[i], memory_order_relaxed));
}

static void configure(void)
{
    const char *spec = getenv("MUSTER_FAULT");
    if (!spec) return;
    if (strcmp(spec, "count") == 0) {
        (void)atexit(print_totals);
        return;
    }
    if (strcmp(spec, "calls") == 0) {
        trapping = true;
        (void)atexit(mu_trap_report);
        return;
    }
    for (int i = 0; i < MU_FAULT_COUNT; i++) {
        size_t len = strlen(names[i]);
        if (strncmp(spec, names[i], len) == 0 && spec[len] == ':')
            for (const char *p = spec + len + 1; *p >= '0' && *p <= '9'; p++)
                fail_at[i] = fail_at[i] * 10 + (unsigned long long)(*p - '0');
    }
}

void mu_fault_forbid(bool forbidden)
{
    (void)pthread_once(&once, configure);
    forbidden_here = forbidden;
    if (trapping) mu_trap_calls(forbidden);
}

bool mu_fault_hit(enum mu_fault point)
{
    MU_ASSERT(!forbidden_here);
    (void)pthread_once(&once, configure);
    unsigned long long n = atomic_fetch_add_explicit(&passed[point], 1, memory_order_relaxed) + 1;
    return n == fail_at[point];
}

#endif
