/* What the files of a look share. Private to the room. */
#ifndef MU_HEALTH_LOOK_INT_H
#define MU_HEALTH_LOOK_INT_H

#include "health/health.h"
#include "net/net.h"

/* In order of weight. */
enum look_level { LOOK_NOTE, LOOK_WARN, LOOK_BAD, LOOK_GONE };

/* The sections of the long form. */
enum look_section {
    LOOK_HARDWARE = 1,
    LOOK_PARALLEL,
    LOOK_MEMORY,
    LOOK_ERRORS,
    LOOK_LIVE,
    LOOK_REVIEW,
};

struct look {
    struct mu_health_catalog *catalog;
    const struct mu_health_look_options *options;
    uint64_t start_ns;
    struct mu_probe_node *before, *after;
    struct mu_probe_sampler *sampler; /* while the engine is asked */
    struct mu_net_url url;            /* of the engine, when one is asked */
    bool engine_here;                 /* it runs on this machine, so its devices are ours */
    bool made_tokens;
    json_t *findings, *sources, *devices, *engine, *measured;
    enum look_level worst;
    char summary[400]; /* of the first of the worst findings */
    unsigned n_worst;
};

/* `device` < 0: of none. */
void look_find(struct look *l, enum look_level level, enum look_section section, int device,
               const char *code, const char *cure, const char *text, ...) MU_PRINTF(7, 8);
/* A source of evidence, and why it is missing when `why` is not NULL. */
void look_source(struct look *l, const char *source, const char *why);
/* Hands over a value that a figure sums up; `device` < 0: of none. */
void look_sample(const struct look *l, int device, const char *name, uint64_t at_ns, double value);
/* Milliseconds that are left for all, at most `wanted`. */
uint32_t look_time(const struct look *l, uint32_t wanted);

/* look_devices.c */
void look_devices(struct look *l);
/* look_engine.c: also runs the probe of tokens. */
mu_status look_engine(struct look *l, struct mu_err *err);

/* look_review.c */
void look_review(struct look *l);

#endif
