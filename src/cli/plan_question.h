/*
 * What muster plan is asked, beside device maps: the options turned into the planner's request.
 * Shared by cmd_plan.c and plan_question.c.
 */
#ifndef MU_CLI_PLAN_QUESTION_H
#define MU_CLI_PLAN_QUESTION_H

#include "cli/cli.h"
#include "plan/plan.h"

#define MU_PLAN_NETWORK "ib_ndr" /* what joins hosts, unless told */

struct plan_options {
    const char *device_map, *max_memory, *free_memory, *dtype, *rules, *no_split;
    bool fallback_allocation, offload_buffers, json, beyond_context;
    const char *on, *engine, *weights, *kv_type, *goal, *network, *svg;
    uint64_t batch, input, output, tp, pp, dp;
};

/* Plans, prints, and writes the picture where one is wanted; MU_E_FIT when nothing fits. */
mu_status mu_plan_answer(const struct plan_options *o, const char *model, struct mu_err *err);

/* Tokens a second of one stream that `engine` is predicted to make of the model on `n` devices that
 * share it; 0 when model, device or engine are not known. */
double mu_plan_predict(const char *model, const char *device, unsigned n, const char *engine);

/* What our engine would reach on this machine with the map, in a line; nothing where the model is
 * not on this disk or the map not one that it executes. */
void mu_plan_add_speed(const struct mu_plan_map *map, const struct plan_options *o,
                       const char *model, struct mu_text *out);

#endif
