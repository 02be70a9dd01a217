/*
 * Two sets of runs, figure by figure: how far apart, how far noise alone would take them, and so
 * whether the difference is real. One thread; no I/O.
 */
#ifndef MU_STORE_COMPARE_H
#define MU_STORE_COMPARE_H

#include "store/run.h"

/* Where the noise of a difference is known from. */
enum mu_store_noise {
    MU_STORE_NOISE_UNKNOWN, /* fewer values on a side than MU_STORE_VALUES_MIN */
    MU_STORE_NOISE_NONE,    /* predicted: computed, and the same each time */
    MU_STORE_NOISE_RUNS,    /* several runs on both sides: Welch's interval */
    MU_STORE_NOISE_SPREAD,  /* several on one side, whose spread stands for the other's too */
    MU_STORE_NOISE_SAMPLES, /* one run each: Welch's interval of the samples inside them */
};

/* A spread known from two values says next to nothing: Student's t is 12.7 there. */
#define MU_STORE_VALUES_MIN 3

enum mu_store_verdict {
    MU_STORE_SAME,   /* no difference at all */
    MU_STORE_REAL,   /* 0 lies outside the interval */
    MU_STORE_NOISE,  /* 0 lies inside it: noise explains the difference */
    MU_STORE_TOO_FEW /* values to tell */
};
const char *mu_store_noise_name(enum mu_store_noise noise);
const char *mu_store_verdict_name(enum mu_store_verdict verdict);

struct mu_store_change {
    enum mu_store_kind kind;
    const char *name, *unit; /* of the first run that has it */
    size_t n_a, n_b;         /* runs that have it */
    double a, b;             /* their means: geometric ones where all values are above 0 */
    enum mu_store_noise noise;
    double low, high; /* the interval of b - a, at 95 %; NAN where noise is unknown */
    enum mu_store_verdict verdict;
};

/* Every figure that both sets have, in the order of the first run. Free `*out` with mu_free.
 *
 * One test: Welch's, of the logarithms where all values are above 0, else of the values. Logarithms
 * because a speed and the time it takes are one fact, which must get one verdict: ln(1/x) is -ln x,
 * while the mean of the reciprocals is not the reciprocal of the mean. */
mu_status mu_store_compare(const struct mu_store_run *a, size_t n_a, const struct mu_store_run *b,
                           size_t n_b, struct mu_store_change **out, size_t *n, struct mu_err *err);

/* Student's t that 2.5 % lie above, for `freedom` >= 1. */
double mu_store_t95(double freedom);

/* Mean and variance of a figure's samples in a run; returns how many there are. */
size_t mu_store_samples_sum(const struct mu_store_run *run, enum mu_store_kind kind,
                            const char *name, double *mean, double *variance);

#endif
