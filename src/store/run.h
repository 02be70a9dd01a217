/*
 * One run in memory: what was asked, on what, and what came of it. Filled by whoever ran it, or by
 * the store. Faults stick: a run that memory was out for says so when it is kept. One thread.
 */
#ifndef MU_STORE_RUN_H
#define MU_STORE_RUN_H

#include "base/alloc.h"
#include "base/json.h"
#include "base/text.h"

/* A figure comes from the performance model, from this run, or from another program. */
enum mu_store_kind { MU_STORE_PREDICTED, MU_STORE_MEASURED, MU_STORE_REPORTED, MU_STORE_KINDS };
const char *mu_store_kind_name(enum mu_store_kind kind);

struct mu_store_setting {
    const char *name, *value;
};

struct mu_store_figure {
    enum mu_store_kind kind;
    const char *name, *unit; /* the unit is "" for what has none */
    double value;
};

/* One of the values that a figure of the same name sums up, or of a course over time. */
struct mu_store_sample {
    enum mu_store_kind kind;
    const char *name;
    double at_s; /* since the run began; NAN: not said */
    double value;
};

struct mu_store_finding {
    const char *level, *code, *section, *device, *text, *cure, *page; /* "": not said */
    const char *place;                                                /* "vllm.log:17" */
    double at_s; /* on the clock of the log it was found in; NAN: not said */
};

enum mu_store_list {
    MU_STORE_SETTINGS,
    MU_STORE_FIGURES,
    MU_STORE_SAMPLES,
    MU_STORE_FINDINGS,
    MU_STORE_LISTS
};

/* X(name): texts of a run, "" where not said. `at` is UTC, as ISO 8601 writes it. */
#define MU_STORE_RUN_TEXTS(X)                                                                      \
    X(id) X(at) X(command) X(command_line) X(version) X(host) X(machine) X(model) X(result)

struct mu_store_run {
#define MU_STORE_FIELD_(name) const char *name;
    MU_STORE_RUN_TEXTS(MU_STORE_FIELD_)
#undef MU_STORE_FIELD_
    int64_t number; /* grows from run to run */
    int64_t exit_status;
    double seconds;
    /* Private: read the lists through the functions below. */
    struct mu_arena *arena;
    struct {
        void *rows;
        size_t n, size;
    } lists[MU_STORE_LISTS];
    mu_status status;
};

mu_status mu_store_run_init(struct mu_store_run *run, struct mu_err *err);
void mu_store_run_fini(struct mu_store_run *run);

/* A copy that lives as long as the run, repaired and without control characters but newlines. */
const char *mu_store_run_text(struct mu_store_run *run, struct mu_str s);

/* Texts are copied. What is not finite is absent, so it is left out. */
void mu_store_run_setting(struct mu_store_run *run, const char *name, const char *value);
void mu_store_run_figure(struct mu_store_run *run, enum mu_store_kind kind, const char *name,
                         double value);
void mu_store_run_sample(struct mu_store_run *run, enum mu_store_kind kind, const char *name,
                         double at_s, double value);
void mu_store_run_finding(struct mu_store_run *run, const struct mu_store_finding *finding);

/* The figures in a document: every number below a key "predicted", "measured" or "reported", by the
 * keys that lead to it with dots between. Elements of arrays go by what is under "placement" or
 * "device" in them. */
void mu_store_run_take(struct mu_store_run *run, const json_t *document);
/* The same for an object whose numbers are all of one kind. */
void mu_store_run_take_kind(struct mu_store_run *run, enum mu_store_kind kind, const char *prefix,
                            const json_t *object);

const struct mu_store_setting *mu_store_run_settings(const struct mu_store_run *run, size_t *n);
const struct mu_store_figure *mu_store_run_figures(const struct mu_store_run *run, size_t *n);
const struct mu_store_sample *mu_store_run_samples(const struct mu_store_run *run, size_t *n);
const struct mu_store_finding *mu_store_run_findings(const struct mu_store_run *run, size_t *n);
/* "" and NULL: there is none. */
const char *mu_store_run_setting_get(const struct mu_store_run *run, const char *name);
const struct mu_store_figure *mu_store_run_figure_get(const struct mu_store_run *run,
                                                      enum mu_store_kind kind, const char *name);

/* A run with its lists, or without. */
enum mu_store_depth { MU_STORE_SUMMARY, MU_STORE_WHOLE };
/* Under the names that the tables have. */
json_t *mu_store_run_json(const struct mu_store_run *run, enum mu_store_depth depth);

#endif
