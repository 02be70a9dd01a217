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
    const char *model; /* NULL: not known */
    json_t *models;    /* what it is from */
    unsigned route;    /* the one that makes tokens, or is tried */
    json_t *findings, *sources, *devices, *engine, *measured, *alone, *expected;
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

/* look_route.c */
struct look_tokens;
struct look_question {
    unsigned n_tokens;
    bool to_the_end; /* past the end that the model would choose */
    uint32_t total_ms;
};
/* NULL past the last. */
const char *look_route_path(unsigned route);
/* Asks the look's route for tokens. Fails for memory alone: `fault` has the rest. */
mu_status look_route_ask(const struct look *l, const struct look_question *q, struct look_tokens *t,
                         struct mu_net_answer *a, struct mu_err *fault, struct mu_err *err);
mu_status look_get(const struct look *l, const char *path, uint32_t ms,
                   struct mu_net_answer *answer, struct mu_err *fault);

/* look_devices.c */
void look_devices(struct look *l);
/* look_alone.c: what was timed of each device, judged; and for people. */
void look_alone(struct look *l);
mu_status look_alone_text(const json_t *look, struct mu_text *out, struct mu_err *err);
/* look_engine.c: also runs the probe of tokens. */
mu_status look_engine(struct look *l, struct mu_err *err);
bool look_answer_is_good(const struct look_tokens *t, const struct mu_net_answer *a);
void look_answer_find(struct look *l, const struct look_tokens *t, const struct mu_net_answer *a,
                      const struct mu_err *fault, bool seen_alive);

/* look_trials.c: longer answers, and several at a time, once the engine has made tokens. */
mu_status look_trials(struct look *l, struct mu_err *err);

/* look_expect.c: the speed, judged; after all else that may be its reason. */
mu_status look_expect(struct look *l, struct mu_err *err);

/* look_review.c */
void look_review(struct look *l);

#endif
