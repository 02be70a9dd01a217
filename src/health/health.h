/*
 * health: what is wrong with an engine, from what it wrote, what it does and where it runs.
 *
 * The catalogue (share/logs.tsv) says what lines mean; a diagnosis reads logs as a stream, in
 * bounded memory, and names the first cause, what followed from it, and what only looks bad. A look
 * joins what the devices, the kernel and the engine's own API say now, within half a minute. A sick
 * engine is not needed to diagnose it. One thread a catalogue; a diagnosis borrows its catalogue.
 */
#ifndef MU_HEALTH_HEALTH_H
#define MU_HEALTH_HEALTH_H

#include "base/json.h"
#include "probe/probe.h"

struct mu_health_catalog;
struct mu_health_diagnosis;

/* Reads `folder`/logs.tsv, or the copy inside the program when `folder` is NULL. */
mu_status mu_health_catalog_open(const char *folder, struct mu_health_catalog **out,
                                 struct mu_err *err);
void mu_health_catalog_close(struct mu_health_catalog *c);
/* Compiles every pattern, which otherwise happens at its first use; names the row at fault. */
mu_status mu_health_catalog_check(struct mu_health_catalog *c, struct mu_err *err);

/* Says what one line means. `known` is false when no row matches it. */
mu_status mu_health_explain(struct mu_health_catalog *c, struct mu_str text, json_t **out,
                            bool *known, struct mu_err *err);
void mu_health_explain_text(const json_t *explanation, struct mu_text *out);

enum mu_health_verdict {
    MU_HEALTH_HEALTHY, /* known lines, nothing wrong in them */
    MU_HEALTH_SLOW,    /* works, slower than it could */
    MU_HEALTH_FAILED,  /* a first cause is named */
    MU_HEALTH_UNKNOWN, /* no line is of a known kind: nothing can be said */
};

enum mu_health_role {
    MU_HEALTH_ROLE_FIRST,
    MU_HEALTH_ROLE_REPEAT,   /* the same on another rank, or printed again */
    MU_HEALTH_ROLE_FOLLOWER, /* came of the first cause */
    MU_HEALTH_ROLE_OTHER,    /* another cause, later */
    MU_HEALTH_ROLE_SETTLED,  /* went wrong, and the engine came up or went on all the same */
    MU_HEALTH_ROLE_NOTE,
    MU_HEALTH_ROLE_NOISE,
    MU_HEALTH_ROLE_COUNT
};

/* Texts live as long as the diagnosis. "" or -1 stands for what the log does not say. */
struct mu_health_finding {
    enum mu_health_role role;
    const char *row, *engine, *cause, *family, *meaning;
    const char *cure; /* lines separated by '\n' */
    const char *file, *process, *time, *text;
    uint64_t line, count; /* 1-based; how often the row matched in all */
    double at_s;          /* on the log's clock, within a year; -1: its line has no time */
    int rank;
    double confidence; /* of the first cause; 0 elsewhere */
};

mu_status mu_health_diagnosis_create(struct mu_health_catalog *catalog,
                                     struct mu_health_diagnosis **out, struct mu_err *err);
void mu_health_diagnosis_destroy(struct mu_health_diagnosis *d);

/* A log: begin, any number of pieces cut anywhere, end. */
mu_status mu_health_log_begin(struct mu_health_diagnosis *d, const char *name, struct mu_err *err);
mu_status mu_health_log_feed(struct mu_health_diagnosis *d, const void *bytes, size_t len,
                             struct mu_err *err);
mu_status mu_health_log_end(struct mu_health_diagnosis *d, struct mu_err *err);
/* The three in one, for a file, "-", "docker:NAME", "podman:NAME" or "journal:UNIT"; stops early
 * when `stop` (may be NULL) says so. */
mu_status mu_health_log_read(struct mu_health_diagnosis *d, const char *path, bool (*stop)(void),
                             struct mu_err *err);

/* After the last log. Calling it again changes nothing. */
mu_status mu_health_conclude(struct mu_health_diagnosis *d, enum mu_health_verdict *out,
                             struct mu_err *err);
/* Findings in the order of the logs; NULL past the last. */
const struct mu_health_finding *mu_health_finding_get(const struct mu_health_diagnosis *d,
                                                      size_t index);
/* The finding whose role is first cause, or NULL. */
const struct mu_health_finding *mu_health_first_cause(const struct mu_health_diagnosis *d);
/* A fact by its key, as the log printed it last; NULL when no line said it. */
const char *mu_health_fact(const struct mu_health_diagnosis *d, const char *key);

/* After the conclusion: for people, and as one JSON document. */
void mu_health_report_text(const struct mu_health_diagnosis *d, struct mu_text *out);
mu_status mu_health_report_json(const struct mu_health_diagnosis *d, json_t **out,
                                struct mu_err *err);

/* --- a look at what runs now ------------------------------------------------------------------ */

/* A device that is slower alone than this share of the usual speed of the best of its kind fails.
 */
#define MU_HEALTH_SLOW_SHARE 0.9

struct mu_health_look_options {
    struct mu_probe *probe;       /* NULL: the devices are not looked at */
    const char *url;              /* of the engine; NULL: none is asked */
    const char *token;            /* its key, or NULL */
    const char *model;            /* NULL: the first that it lists */
    double expected_tokens_per_s; /* 0: nothing is expected */
    const json_t *baseline;       /* what an earlier look kept; NULL: none */
    const json_t *alone;          /* rows of mu_measure_alone_...; NULL: no device was timed */
    double spent_s;               /* of the time for all, on that */
    bool trials;                  /* ask for long answers too, and for several at a time */
    const struct mu_health_diagnosis *logs; /* concluded; NULL: none was read */
    /* Tokens a second that one stream of the model should get of an engine on so many devices; 0:
     * nobody knows. NULL: nobody is asked. */
    double (*predict)(const char *model, const char *device, unsigned n, const char *engine);
    bool (*stop)(void);
    /* Given the values that figures sum up: the probes' speeds, and what the sampler saw of each
     * device ("cuda:0.power_w"), at seconds since the look began. NULL: nobody wants them. */
    void (*sample)(void *context, const char *name, double at_s, double value);
    void *context;
};

/* At most this long, whatever is asked; with trials. */
#define MU_HEALTH_LOOK_S   28
#define MU_HEALTH_TRIALS_S 110

/* One document: verdict, summary, exit_status, findings, devices, engine, sources, baseline. Fails
 * only for memory, for a URL that is none, and when it is told to stop: all that is wrong with
 * others is a finding. */
mu_status mu_health_look(struct mu_health_catalog *catalog,
                         const struct mu_health_look_options *options, json_t **out,
                         struct mu_err *err);
/* The verdict in a line, then its evidence. */
mu_status mu_health_look_text(const json_t *look, struct mu_text *out, struct mu_err *err);
/* The long form, in the six sections of a diagnosis, whose facts come along when it is not NULL. */
mu_status mu_health_look_sections(const json_t *look, const struct mu_health_diagnosis *diagnosis,
                                  struct mu_text *out, struct mu_err *err);

/* An engine's /metrics in words common to all engines; figures that it does not give are missing
 * from the object. The engine's name is under "engine" when its prefix tells. */
json_t *mu_health_metrics_json(struct mu_str text);

#endif
