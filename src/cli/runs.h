/* What the files of `muster runs` share: how runs are shown. The main thread. */
#ifndef MU_CLI_RUNS_H
#define MU_CLI_RUNS_H

#include "cli/cli.h"
#include "store/store.h"

/* One side of a comparison. */
struct mu_runs_set {
    struct mu_store_run *runs;
    size_t n;
    const char *said; /* as the user named it */
};

#define MU_RUNS_NUMBER 40
/* As many digits as matter, with its unit; bytes as GiB and the like. Returns `out`. */
const char *mu_runs_number(double value, const char *unit, char out[MU_RUNS_NUMBER]);

/* runs_text.c: for people. `figure`: only figures with that in their name; NULL: all. */
mu_status mu_runs_list_text(const struct mu_runs_set *set, struct mu_text *out, struct mu_err *err);
mu_status mu_runs_show_text(const struct mu_store_run *run, const char *baseline,
                            const char *figure, struct mu_text *out, struct mu_err *err);
/* `unlike` is what mu_runs_unlike gives. */
mu_status mu_runs_compare_text(const struct mu_runs_set sets[2], const json_t *unlike,
                               const struct mu_store_change *c, size_t n, const char *figure,
                               struct mu_text *out, struct mu_err *err);
/* "-3.1 to +4.0 %", or in the figure's unit where the first side is 0; "" where noise is unknown.
 * Returns `out`. */
#define MU_RUNS_INTERVAL (2 * MU_RUNS_NUMBER + 8)
const char *mu_runs_interval(const struct mu_store_change *c, char out[MU_RUNS_INTERVAL]);

/* runs_unlike.c: the conditions that the runs differ in, between the sets or within one, as
 * [{"name": ..., "a": [values], "b": [values]}]; NULL or shorter when memory was out. */
json_t *mu_runs_unlike(const struct mu_runs_set sets[2]);
/* Appends the values of one side, "a" or "b", of an item of it. */
void mu_runs_unlike_values(const json_t *condition, const char *side, struct mu_text *out);
/* Appends a line on what differs between the sets and one on what does within each, if it does. */
void mu_runs_unlike_say(const json_t *unlike, struct mu_text *out);

#endif
