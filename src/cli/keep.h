/*
 * Keeping what a command did: its conditions and figures as a run, written to the store at its end.
 * A store that cannot be written costs a line on standard error, never the command. The main
 * thread.
 */
#ifndef MU_CLI_KEEP_H
#define MU_CLI_KEEP_H

#include "cli/session.h"
#include "store/store.h"

struct mu_keep_options {
    const char *store;
    bool no_store;
};

#define MU_STORE_OPTION_ROW(type)                                                                  \
    {                                                                                              \
        .name = "store", .kind = MU_OPTION_TEXT, .offset = offsetof(type, keep.store),             \
        .argument = "FILE",                                                                        \
        .help = "where runs are kept; without it muster/muster.db in $XDG_DATA_HOME"               \
    }

/* Rows of a command's option table; `type` is its struct, which has a `struct mu_keep_options
 * keep`. */
#define MU_KEEP_OPTION_ROWS(type)                                                                  \
    MU_STORE_OPTION_ROW(type),                                                                     \
    {                                                                                              \
        .name = "no-store", .kind = MU_OPTION_FLAG, .offset = offsetof(type, keep.no_store),       \
        .help = "keep no record of this run (see muster runs)"                                     \
    }

struct mu_keep {
    const struct mu_keep_options *options;
    struct mu_store_run run;
    struct mu_text result; /* one line on what came of it */
    uint64_t start_ns;
};

/* Begins the record of a command: its options, this machine, the time. Nothing fails here: what
 * memory is out for is told by mu_keep_end. */
void mu_keep_begin(struct mu_keep *k, const struct mu_invocation *in,
                   const struct mu_keep_options *options, const char *model);
/* The figures of a document that was composed as text: see mu_store_run_take. */
void mu_keep_take(struct mu_keep *k, const struct mu_text *document);
/* A generation on this engine: memory, speeds, kernels. `result`: may be NULL. */
void mu_keep_session(struct mu_keep *k, const struct mu_session *session,
                     const struct mu_request_result *result);
/* Writes the record, unless told not to; `status` is how the command ends. Best called before the
 * result is printed: what is shown as done is then on disk. */
void mu_keep_end(struct mu_keep *k, mu_status status);
void mu_keep_fini(struct mu_keep *k);

#endif
