/* What the files of this room share: the catalogue's rows, a parsed line, the stored events. */
#ifndef MU_HEALTH_HEALTH_INT_H
#define MU_HEALTH_HEALTH_INT_H

#include "health/health.h"

#define MU_HEALTH_ROWS_MAX      1024
#define MU_HEALTH_ROW_WORDS     (MU_HEALTH_ROWS_MAX / 64)
#define MU_HEALTH_LITERAL_MIN   6
#define MU_HEALTH_TEXT_MAX      400 /* bytes of evidence that are kept of a line */
#define MU_HEALTH_LABEL_MAX     48
#define MU_HEALTH_GROUPS_MAX    8
#define MU_HEALTH_FACTS_MAX     96
#define MU_HEALTH_FACT_TEXT_MAX 96

/* In order of what wins on one line, strongest first, from noise on. */
#define MU_HEALTH_CLASS_TABLE(X)                                                                   \
    X(FACT, "fact")                                                                                \
    X(MARK, "mark")                                                                                \
    X(READY, "ready")                                                                              \
    X(ALIVE, "alive")                                                                              \
    X(NOISE, "noise")                                                                              \
    X(FOLLOWER, "follower")                                                                        \
    X(SLOW, "slow")                                                                                \
    X(SLOW_ONE_NODE, "slow-one-node")                                                              \
    X(CAUSE, "cause")                                                                              \
    X(SYMPTOM, "symptom")                                                                          \
    X(HANG, "hang")                                                                                \
    X(WEAK, "weak")                                                                                \
    X(STOP, "stop")                                                                                \
    X(EXCEPTION, "exception")                                                                      \
    X(HINT, "hint")

#define MU_HEALTH_ENUM_(name, text) MU_HEALTH_CLASS_##name,
enum mu_health_class { MU_HEALTH_CLASS_TABLE(MU_HEALTH_ENUM_) MU_HEALTH_CLASS_COUNT };
#undef MU_HEALTH_ENUM_

enum mu_health_level {
    MU_HEALTH_LEVEL_NONE, /* the line does not say */
    MU_HEALTH_LEVEL_INFO,
    MU_HEALTH_LEVEL_WARN,
    MU_HEALTH_LEVEL_ERROR,
    MU_HEALTH_LEVEL_FATAL,
};

struct mu_health_row {
    const char *name, *engine, *versions, *cause, *pattern, *meaning, *cure, *source;
    enum mu_health_class class;
    enum mu_health_level severity;
    bool telling;        /* of one program, so that a log with it is of a known kind */
    bool anchored;       /* begins with ^: matches the message, not its prefixes */
    struct mu_str plain; /* the whole pattern, when it needs no expression */
    void *code;          /* compiled at first use */
    unsigned n_groups;
    struct {
        unsigned number;
        const char *name;
    } groups[MU_HEALTH_GROUPS_MAX];
};

/* Texts that any match of a row holds; finding them is much cheaper than matching. */
struct mu_health_literal {
    struct mu_str text;
    uint16_t first_row, n_rows; /* in rows_of */
};

struct mu_health_prefilter {
    uint16_t *heads; /* by hash of a window: literal index + 1 */
    uint8_t *places; /* by hash of three bytes: bit i is set when a window has them at byte i */
    uint16_t *next;
    uint8_t *window_end; /* of each literal: where its window of LITERAL_MIN bytes ends */
    uint64_t *windows;   /* the bytes of that window */
    const struct mu_health_literal *literals;
    unsigned n_literals;
};

struct mu_health_hit {
    size_t pos; /* of the literal's window end */
    unsigned literal;
};

struct mu_health_catalog {
    struct mu_arena *arena;
    struct mu_health_row rows[MU_HEALTH_ROWS_MAX];
    unsigned n_rows;
    struct mu_health_literal *literals;
    unsigned n_literals;
    uint16_t *rows_of;
    unsigned n_rows_of;
    struct mu_health_prefilter prefilter;
    /* Rows that say "still at work" and nothing else: of a run of such lines the last is enough. */
    uint64_t quiet_rows[MU_HEALTH_ROW_WORDS];
    void *match_data, *match_context, *compile_context, *general_context;
};

/* One line after its wrappers were taken off. */
struct mu_health_line {
    struct mu_str text; /* without colours and outer wrappers */
    struct mu_str body; /* the message alone */
    struct mu_str time; /* as printed */
    struct mu_str process, service;
    int64_t time_ms; /* within a year; -1: unknown */
    int rank;        /* -1: unknown */
    enum mu_health_level level;
};

struct mu_health_event {
    uint16_t row;
    uint16_t quoted; /* another row + 1 whose text this line repeats */
    uint16_t reason; /* another row + 1, of the line below, that says more */
    uint16_t log, service;
    enum mu_health_level level;
    bool ignored;
    int rank;
    uint64_t line;
    uint64_t alive_before; /* the last line that showed its service at work */
    int64_t time_ms;
    size_t next_break; /* the next event that reports a failure; n_events: none */
    const char *cause; /* the row's, or a better one */
    char time[MU_HEALTH_LABEL_MAX], process[MU_HEALTH_LABEL_MAX];
    char text[MU_HEALTH_TEXT_MAX + 4];
};

struct mu_health_fact_value {
    char key[32];
    char text[MU_HEALTH_FACT_TEXT_MAX];
    uint64_t n;
    bool numeric;
    double min, max, last, sum_nonzero;
    uint64_t n_nonzero;
    uint64_t seen[4]; /* which small whole numbers came */
};

struct mu_health_service {
    char name[MU_HEALTH_LABEL_MAX];
    uint16_t log;
    uint64_t ready_line, alive_line; /* the last one; 0: none */
    uint64_t first_ready_line;
    uint64_t leaving_line; /* where it was asked to end; 0: never, or it came up again */
    bool pool_end, graph_begin;
};

/* A process of a log, as its prefix names it: the owner of a traceback. */
struct mu_health_stream {
    uint64_t key;
    const char *phase; /* an out-of-memory word, from the frames of the traceback */
    uint64_t phase_line, ignored_line;
};

struct mu_health_log {
    char name[512];
    uint64_t n_lines, n_bytes, n_known, n_long, n_binary;
    int64_t time_ms; /* the latest so far: lines without a time inherit it */
};

#define MU_HEALTH_EVENTS_A_ROW 16
#define MU_HEALTH_STREAMS_MAX  256
#define MU_HEALTH_SERVICES_MAX 64
#define MU_HEALTH_LOGS_MAX     16

struct mu_health_diagnosis {
    struct mu_health_catalog *catalog;
    struct mu_arena *arena; /* texts of the findings */
    struct mu_health_log logs[MU_HEALTH_LOGS_MAX];
    unsigned n_logs;
    char *buffer; /* the bytes of lines that are not complete */
    size_t held;
    bool in_long_line;
    struct mu_text unwrapped; /* of one line of docker's JSON */
    struct mu_health_event *events;
    size_t n_events, size_events;
    size_t first_break, last_break;          /* the events that report a failure; n_events: none */
    uint64_t row_hits[MU_HEALTH_ROWS_MAX];   /* lines that a row matched */
    uint64_t row_counts[MU_HEALTH_ROWS_MAX]; /* lines whose event is of the row */
    uint32_t row_last[MU_HEALTH_ROWS_MAX];   /* event + 1 that holds a row's latest */
    struct mu_health_fact_value facts[MU_HEALTH_FACTS_MAX];
    unsigned n_facts;
    uint8_t fact_of[MU_HEALTH_ROWS_MAX][MU_HEALTH_GROUPS_MAX]; /* fact + 1 of a row's group */
    struct mu_health_service services[MU_HEALTH_SERVICES_MAX];
    unsigned n_services;
    struct mu_health_stream streams[MU_HEALTH_STREAMS_MAX];
    bool concluded;
    enum mu_health_verdict verdict;
    struct mu_health_finding *findings;
    size_t n_findings;
    const struct mu_health_finding *first;
};

/* read.c: all that comes from `fd`, as the log that was begun last. Who is not patient gives up
 * when nothing comes for some seconds. */
mu_status mu_health_fd_read(struct mu_health_diagnosis *d, int fd, const char *path, bool patient,
                            bool (*stop)(void), struct mu_err *err);

/* share.c */
struct mu_str mu_health_share_logs(void);

#define MU_HEALTH_LITERAL_SET_MAX 24
/* literal.c: what every match of `pattern` must hold, one of `set` at least. Returns how many; 0
 * when there is nothing of MU_HEALTH_LITERAL_MIN bytes, -1 when `arena`, which holds the texts, is
 * full. */
int mu_health_literals_of(const char *pattern, struct mu_arena *arena,
                          struct mu_str out[MU_HEALTH_LITERAL_SET_MAX]);
/* The literal text that `pattern` is, or length 0 when it is more than that. */
struct mu_str mu_health_plain_of(const char *pattern, struct mu_arena *arena);

/* prefilter.c */
mu_status mu_health_prefilter_build(struct mu_health_prefilter *pf, struct mu_arena *arena,
                                    const struct mu_health_literal *literals, unsigned n,
                                    struct mu_err *err);
/* Fills at most `max` hits from `*pos` on and moves `*pos`; 0 hits: the end. */
size_t mu_health_prefilter_scan(const struct mu_health_prefilter *pf, struct mu_str bytes,
                                size_t *pos, struct mu_health_hit *hits, size_t max);

/* catalog.c */
struct mu_health_match {
    bool found;
    size_t start; /* of the match, in the line's text */
    struct mu_str groups[MU_HEALTH_GROUPS_MAX];
};
mu_status mu_health_row_match(struct mu_health_catalog *c, struct mu_health_row *row,
                              const struct mu_health_line *line, struct mu_health_match *out,
                              struct mu_err *err);

/* line.c */
void mu_health_line_parse(struct mu_str raw, struct mu_text *unwrapped, struct mu_health_line *out);
/* Takes terminal control sequences out of `p`, in place; returns the new length. */
size_t mu_health_strip_controls(char *p, size_t len);

/* observe.c: one line with the rows whose literals it holds. */
mu_status mu_health_observe(struct mu_health_diagnosis *d, struct mu_str raw, uint64_t number,
                            const uint64_t rows[MU_HEALTH_ROW_WORDS], struct mu_err *err);
const struct mu_health_fact_value *mu_health_fact_find(const struct mu_health_diagnosis *d,
                                                       const char *key);
unsigned mu_health_fact_distinct(const struct mu_health_fact_value *fact);

/* The length of the whole words of `s` that `max` bytes hold; all of it when it is no longer. */
size_t mu_health_words_len(const char *s, size_t max);

/* vocabulary.c: the family (page of docs/findings) of a cause, and how it is said to people. */
const char *mu_health_family_of(const char *cause);
const char *mu_health_cause_text(const char *cause);
/* Writes a cure of the catalogue, one line of it per line, with each {fact|else} replaced by what
 * `fact` appends, or by the other text when it returns false. */
typedef bool mu_health_fact_fn(const void *context, const char *key, struct mu_text *out);
void mu_health_cure_expand(const char *cure, mu_health_fact_fn *fact, const void *context,
                           struct mu_text *out);

/* review.c: remarks on the configuration, one a line, from the facts. */
void mu_health_review(const struct mu_health_diagnosis *d, struct mu_text *out);
/* The engine whose rows matched most, "" when none did. */
const char *mu_health_engine_of(const struct mu_health_diagnosis *d);

/* report.c: parts of a diagnosis's report, for the long form of a look. */
const char *mu_health_section_title(unsigned section);
void mu_health_section_text(const struct mu_health_diagnosis *d, unsigned section,
                            struct mu_text *out);
void mu_health_verdict_text(const struct mu_health_diagnosis *d, struct mu_text *out);

#endif
