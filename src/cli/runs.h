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
mu_status mu_runs_compare_text(const struct mu_runs_set sets[2], const struct mu_store_change *c,
                               size_t n, const char *figure, struct mu_text *out,
                               struct mu_err *err);
/* The value of a setting in all runs of a set; "differs" when they have several. */
const char *mu_runs_setting(const struct mu_runs_set *set, const char *name);

#endif
