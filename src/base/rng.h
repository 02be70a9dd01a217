/*
 * Randomness by counter: Philox4x32-10. The same key and counter give the same numbers on every
 * machine, in any order, so a draw depends on what it is for and not on what was drawn before.
 */
#ifndef MU_BASE_RNG_H
#define MU_BASE_RNG_H

#include <stdint.h>

/* Four random words for a 64-bit key and a 128-bit counter. */
void mu_philox(uint64_t key, const uint32_t counter[4], uint32_t out[4]);

/* Uniform in [0, 1) with 53 bits, from two words. */
static inline double mu_uniform(uint32_t high, uint32_t low)
{
    return (double)(((uint64_t)high << 32 | low) >> 11) * 0x1p-53;
}

#endif
