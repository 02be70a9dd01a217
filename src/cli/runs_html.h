/* Runs as one HTML page each; see runs_html.c. The main thread. */
#ifndef MU_CLI_RUNS_HTML_H
#define MU_CLI_RUNS_HTML_H

#include "cli/runs.h"

/* What validate-perf --report and runs show --report write to `path`: whole or not at all. */
mu_status mu_runs_report(const struct mu_store_run *run, const char *path, struct mu_err *err);
mu_status mu_runs_report_compare(const struct mu_runs_set sets[2], const json_t *unlike,
                                 const struct mu_store_change *c, size_t n, const char *path,
                                 struct mu_err *err);

#endif
