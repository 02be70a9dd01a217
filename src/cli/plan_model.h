/*
 * A model as a person names it to muster plan: what is on this disk, or a row of share/models.tsv
 * by one of the many spellings of its name. Shared by cmd_plan.c and plan_question.c.
 */
#ifndef MU_CLI_PLAN_MODEL_H
#define MU_CLI_PLAN_MODEL_H

#include "cli/cli.h"
#include "format/format.h"
#include "plan/plan.h"

struct plan_model {
    struct mu_model_file *file; /* its shape; NULL until opened */
    bool on_disk, synth;
    char id[512];    /* what a command line names: a path, a hub's id, synth:NAME; "": none */
    char type[40];   /* the type of weights asked for; "": its own */
    const char *own; /* the type that `id` is in, where its name says; NULL: as configured */
    struct mu_synth_row row; /* of share/models.tsv; no name: on this disk */
};

/* What is on this disk first, then the table; the caller closes it in any case. */
mu_status mu_plan_model_open(const char *spoken, struct plan_model *out, struct mu_err *err);
void mu_plan_model_close(struct plan_model *model);
/* config.json of a folder, a file, or a row of the table, for a map of devices. */
mu_status mu_plan_model_config(const char *spoken, json_t **out, struct mu_err *err);

#endif
