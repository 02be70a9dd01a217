/*
 * What the operations of our own engine take on one kind of device, each timed alone (measure/),
 * and what a shard's operation then takes: looked up between the sizes that were timed.
 *
 * Pure: no I/O, no clock. Any thread; costs are read-only once filled.
 */
#ifndef MU_PLAN_COSTS_H
#define MU_PLAN_COSTS_H

#include "plan/price.h"

#define MU_PLAN_ROWS  10 /* that a product is timed with: 1, 2, 4, ... 512 */
#define MU_PLAN_SIZES 3  /* bytes that a step goes through again and again: */
/* in the cores' own caches, in a cache that they share, in no cache. */
#define MU_PLAN_SIZE_BYTES                                                                         \
    {                                                                                              \
        512.0 * 1024, 8.0 * 1024 * 1024, 96.0 * 1024 * 1024                                        \
    }

/* All are seconds, so that costs of devices that work side by side can be told from both. */
struct mu_plan_costs {
    double weight_s[MU_PLAN_MATRICES][MU_PLAN_SIZES][MU_PLAN_ROWS]; /* of one weight, all rows */
    double key_s[2][MU_PLAN_SIZES]; /* one cached number of one key, for one row of 1; of 8 */
    double query_s[2];              /* one number of a row's queries, beside its keys: 1; 8 */
    double prompt_key_s;            /* a number of a query of a prompt, times one key */
    double prompt_query_s;          /* the same beside its keys */
    double rope_s;                  /* one number of a row's heads: turned, rounded, kept */
    double combine_s[2];            /* one number of a row between operations: of 1 row; of 8 */
    double pick_s;                  /* one logit, looked at to find the largest */
    double meeting_s;               /* of a device's threads, after each operation */
    double step_s;     /* beside all operations: from who plans steps to the device and back */
    double sequence_s; /* of each sequence in it, beside its logits */
    double first_s;    /* of a request, before its first step */
    double copy_s;     /* one byte from the host's memory to the device's */
    double file_s;     /* the same from the disk, when its pages are in memory */
    double load_s[2]; /* of matrices brought together from there (host, disk), beside their bytes */
    /* How fast the machine was meanwhile, all cores together: what is priced is what ran then. */
    double read_s, multiply_s; /* one byte of memory; one product */
};

#define MU_PLAN_COSTS (sizeof(struct mu_plan_costs) / sizeof(double))

/* Bits of the weights that were timed: of matrices, and of the head. What is stored in more is read
 * for longer. */
struct mu_plan_timed {
    struct mu_plan_costs costs;
    double bits, head_bits;
    double n_busy; /* devices that share the caches and work at the same time */
};

/* Of devices of which `n_busy` work at the same time: as alone, or longer where all cores together
 * (`all`) do not reach that much more. */
void mu_plan_costs_shared(const struct mu_plan_costs *one, const struct mu_plan_costs *all,
                          double n_busy, struct mu_plan_costs *out);

/* Seconds of an operation, but for those that talk to other devices: those take 0. `bytes` is what
 * the device goes through in a step. */
double mu_plan_timed_seconds(const struct mu_plan_timed *timed, const struct mu_plan_shard *shard,
                             const struct mu_plan_work *work, const struct mu_plan_step *step,
                             double bytes);

#endif
