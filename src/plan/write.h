/*
 * Plans as text: the JSON of the contract, tables and a picture for people, and lines to copy.
 * Pure; any thread. Called by muster plan.
 */
#ifndef MU_PLAN_WRITE_H
#define MU_PLAN_WRITE_H

#include "plan/planner.h"

/* {"candidates":[…],"chosen":i or null,"why":…, …} */
void mu_plan_write_json(const struct mu_plan *plan, const char *model, struct mu_text *out);
/* The ranked candidates, at most `most` of them. */
void mu_plan_write_table(const struct mu_plan *plan, uint32_t most, struct mu_text *out);
/* What each device of the candidate holds, as boxes. */
void mu_plan_write_picture(const struct mu_plan_candidate *c, struct mu_text *out);
/* The first candidate, a pipeline of whole devices, as a map of modules to devices. */
void mu_plan_write_map(const struct mu_plan *plan, struct mu_text *out);
void mu_plan_write_svg(const struct mu_plan *plan, const char *model, struct mu_text *out);
/* Bytes as people reckon them, from the size in a model's name ("70b") and the bits of a weight: no
 * scales, no wider tables. 0: the name has no size. */
double mu_plan_nominal_bytes(const char *model, const struct mu_plan_format *format);
/* What launch lines name. */
struct mu_plan_launch {
    const char *model;                /* as the person said it */
    const char *id;                   /* a path or a hub's id; "": there is none */
    const struct mu_plan_format *own; /* of the weights that `id` has */
    bool gguf;                        /* `id` is such a file */
    bool on_cpu;                      /* the devices are processors, which muster drives */
    bool runnable;                    /* `id` is on this disk, or synth: */
};
/* What starts the best candidate, with the engine asked for and with others that can. */
void mu_plan_write_launch(const struct mu_plan *plan, const struct mu_plan_launch *how,
                          struct mu_text *out);
/* What each device of the best candidate would need and has, when nothing fits. */
void mu_plan_write_shortage(const struct mu_plan *plan, struct mu_text *out);

#endif
