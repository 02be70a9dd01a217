/* Time; see clock.h. */
#include "base/clock.h"

#include "base/compiler.h"

#include <time.h>

uint64_t mu_clock_ns(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

double mu_clock_wall_s(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void mu_clock_pause(double seconds, bool (*stop)(void))
{
    uint64_t start = mu_clock_ns();
    for (double left; (left = seconds - mu_clock_seconds_since(start)) > 0 && !(stop && stop());) {
        struct timespec piece = {.tv_nsec = (long)(MU_MIN(left, 0.05) * 1e9)};
        (void)nanosleep(&piece, NULL);
    }
}
