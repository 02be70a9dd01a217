/* Time. Any thread. */
#ifndef MU_BASE_CLOCK_H
#define MU_BASE_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

/* Nanoseconds that never go back, for durations. */
uint64_t mu_clock_ns(void);
/* Seconds since 1970, for names and records. */
double mu_clock_wall_s(void);

/* Sleeps that long, or until `stop` (may be NULL) says so, which it is asked 20 times a second. */
void mu_clock_pause(double seconds, bool (*stop)(void));

static inline double mu_clock_seconds_since(uint64_t start_ns)
{
    return (double)(mu_clock_ns() - start_ns) * 1e-9;
}

#endif
