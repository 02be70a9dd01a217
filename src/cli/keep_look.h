/* Looks and diagnoses as runs of the store; shared by check and validate-perf. The main thread. */
#ifndef MU_CLI_KEEP_LOOK_H
#define MU_CLI_KEEP_LOOK_H

#include "cli/keep.h"
#include "health/health.h"

/* For mu_health_look_options: `context` is the struct mu_keep. */
void mu_keep_look_sample(void *context, const char *name, double at_s, double value);
/* What a look found, and its figures. */
void mu_keep_look(struct mu_keep *k, const json_t *look);
/* What the logs say, and why. */
void mu_keep_diagnosis(struct mu_keep *k, const struct mu_health_diagnosis *diagnosis,
                       enum mu_health_verdict verdict);

/* --- baselines of check ----------------------------------------------------------------------- */

/* What looks at this engine, or at the devices here (NULL), are compared with: the run that `word`
 * means, which must be there; or the one that was saved when it is NULL. `*out` is NULL when none
 * was saved. One that was saved and cannot be read costs a line on standard error. */
mu_status mu_keep_baseline_load(struct mu_keep *k, const char *url, const char *word, json_t **out,
                                struct mu_err *err);
/* Makes the run, which was kept, that baseline. */
mu_status mu_keep_baseline_set(const struct mu_keep *k, const char *url, struct mu_err *err);

#endif
