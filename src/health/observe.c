/*
 * What one line adds to a diagnosis: facts, marks of the log's structure, and events for the rows
 * that accuse, follow or excuse. Keeps the first few and the last event of each row, so that a log
 * that repeats itself for gigabytes costs nothing. Judges nothing; that is diagnose.c.
 */
#include "base/alloc.h"
#include "base/number.h"
#include "base/utf8.h"
#include "health/health_int.h"

#define EVIDENCE_BEFORE 120 /* bytes shown in front of the match when a line is cut */
#define MARK_LINES      400 /* a mark is of the traceback that it stands in, not a later one */

/* --- facts ------------------------------------------------------------------------------- */

const struct mu_health_fact_value *mu_health_fact_find(const struct mu_health_diagnosis *d,
                                                       const char *key)
{
    for (unsigned i = 0; i < d->n_facts; i++)
        if (strcmp(d->facts[i].key, key) == 0) return &d->facts[i];
    return NULL;
}

unsigned mu_health_fact_distinct(const struct mu_health_fact_value *fact)
{
    unsigned n = 0;
    for (unsigned i = 0; fact && i < MU_ARRAY_LEN(fact->seen); i++)
        n += (unsigned)__builtin_popcountll(fact->seen[i]);
    return n;
}

/* The fact that a row's group feeds; NULL when there are too many. */
static struct mu_health_fact_value *fact_slot(struct mu_health_diagnosis *d, unsigned row,
                                              unsigned group)
{
    uint8_t *known = &d->fact_of[row][group];
    const char *key = d->catalog->rows[row].groups[group].name;
    if (*known) return &d->facts[*known - 1];
    const struct mu_health_fact_value *fact = mu_health_fact_find(d, key);
    if (!fact && d->n_facts < MU_HEALTH_FACTS_MAX && strlen(key) < sizeof fact->key) {
        fact = &d->facts[d->n_facts];
        memcpy(d->facts[d->n_facts++].key, key, strlen(key));
    }
    if (!fact) return NULL;
    *known = (uint8_t)(fact - d->facts + 1);
    return &d->facts[*known - 1];
}

size_t mu_health_words_len(const char *s, size_t max)
{
    size_t len = strlen(s), n = max;
    if (len <= max) return len;
    while (n > 0 && s[n] != ' ')
        n--;
    if (n > 0) return n;
    struct mu_str cut = {s, max}; /* one word, of which what fits */
    return max - mu_utf8_unfinished(cut);
}

static void fact_number(struct mu_health_fact_value *fact, double value)
{
    if (fact->n == 0 || !fact->numeric) fact->min = fact->max = value;
    fact->numeric = true;
    fact->min = MU_MIN(fact->min, value);
    fact->max = MU_MAX(fact->max, value);
    fact->last = value;
    if (value > 0) {
        fact->sum_nonzero += value;
        fact->n_nonzero++;
    }
    if (value >= 0 && value < 256 && value == (double)(unsigned)value)
        fact->seen[(unsigned)value / 64] |= (uint64_t)1 << ((unsigned)value % 64);
}

static void fact_set(struct mu_health_fact_value *fact, struct mu_str value)
{
    if (!fact || !value.p) return;
    char plain[32];
    size_t n = 0;
    for (size_t i = 0; i < value.len && n < sizeof plain; i++) /* "178,880" */
        if (value.p[i] != ',') plain[n++] = value.p[i];
    double parsed;
    if (n < sizeof plain && mu_parse_f64((struct mu_str){plain, n}, &parsed))
        fact_number(fact, parsed);
    (void)mu_utf8_copy_harmless(fact->text, sizeof fact->text, value, '\0');
    fact->n++;
}

/* --- whose line it is ---------------------------------------------------------------------- */

static uint16_t service_of(struct mu_health_diagnosis *d, struct mu_str name)
{
    char text[MU_HEALTH_LABEL_MAX];
    (void)mu_utf8_copy_harmless(text, sizeof text, name, '\0');
    for (unsigned i = 0; i < d->n_services; i++)
        if (d->services[i].log == d->n_logs - 1 && strcmp(d->services[i].name, text) == 0)
            return (uint16_t)i;
    if (d->n_services == MU_HEALTH_SERVICES_MAX) return MU_HEALTH_SERVICES_MAX - 1;
    struct mu_health_service *service = &d->services[d->n_services];
    service->log = (uint16_t)(d->n_logs - 1);
    memcpy(service->name, text, sizeof text);
    return (uint16_t)d->n_services++;
}

static struct mu_health_stream *stream_of(struct mu_health_diagnosis *d,
                                          const struct mu_health_line *line)
{
    uint64_t key = 14695981039346656037u ^ (uint64_t)(unsigned)line->rank;
    struct mu_str parts[] = {line->service, line->process};
    for (size_t i = 0; i < MU_ARRAY_LEN(parts); i++)
        for (size_t k = 0; k < parts[i].len; k++)
            key = (key ^ (unsigned char)parts[i].p[k]) * 1099511628211u;
    key |= 1; /* 0 is a free place */
    for (unsigned i = 0; i < 8; i++) {
        struct mu_health_stream *s = &d->streams[(key + i) % MU_HEALTH_STREAMS_MAX];
        if (s->key == 0) s->key = key;
        if (s->key == key) return s;
    }
    return &d->streams[key % MU_HEALTH_STREAMS_MAX];
}

/* --- events ---------------------------------------------------------------------------------- */

struct observation {
    const struct mu_health_line *line;
    uint64_t number;
    struct mu_health_service *service;
    struct mu_health_stream *stream;
    uint16_t service_index;
    /* The strongest row of the line, and an accusing one that it quotes. */
    unsigned best, accusing;
    bool has_best, has_accusing;
    size_t start;
};

static void mark_set(struct observation *o, const char *mark)
{
    struct mu_health_stream *s = o->stream;
    if (strcmp(mark, "traceback") == 0) {
        s->phase = NULL;
    } else if (strcmp(mark, "ignored") == 0) {
        s->ignored_line = o->number;
    } else if (strcmp(mark, "leaving") == 0) {
        o->service->leaving_line = o->number;
    } else if (strcmp(mark, "pool_end") == 0) {
        o->service->pool_end = true;
    } else if (strcmp(mark, "graph_begin") == 0) {
        o->service->graph_begin = true;
    } else if (strcmp(mark, "chained") != 0) {
        s->phase = mark;
        s->phase_line = o->number;
    }
}

/* "Process 123 has 70.00 GiB memory in use" beside "this process has": somebody else's memory. */
static bool other_process_holds(struct mu_str text)
{
    const char *other = memmem(text.p, text.len, " Process ", 9);
    const char *own = memmem(text.p, text.len, "this process has ", 17);
    if (!other || !own) return false;
    struct mu_str s = {other, text.len - (size_t)(other - text.p)};
    const char *has = memmem(s.p, s.len, " has ", 5);
    if (!has) return false;
    s = (struct mu_str){has + 5, s.len - (size_t)(has + 5 - s.p)};
    size_t n = 0;
    while (n < s.len && ((s.p[n] >= '0' && s.p[n] <= '9') || s.p[n] == '.'))
        n++;
    double amount;
    return mu_parse_f64((struct mu_str){s.p, n}, &amount) && n + 1 < s.len && s.p[n + 1] == 'G' &&
           amount >= 2;
}

/* Which kind of out-of-memory this is, from what the process was doing. */
static const char *cause_refined(const struct observation *o, const struct mu_health_row *row)
{
    if (strcmp(row->cause, "oom_load") != 0) return row->cause;
    if (other_process_holds(o->line->text)) return "gpu_busy";
    const struct mu_health_stream *s = o->stream;
    if (s->phase && o->number - s->phase_line < MARK_LINES) return s->phase;
    if (o->service->first_ready_line || o->service->alive_line) return "oom_run";
    if (o->service->graph_begin) return "oom_graph";
    if (o->service->pool_end) return "mem_fraction";
    return row->cause;
}

static struct mu_health_event *event_slot(struct mu_health_diagnosis *d, unsigned row)
{
    uint64_t count = ++d->row_counts[row];
    if (count > MU_HEALTH_EVENTS_A_ROW && d->row_last[row]) return &d->events[d->row_last[row] - 1];
    if (d->n_events == d->size_events) {
        size_t size = MU_MAX(d->size_events * 2, (size_t)64);
        struct mu_health_event *events = mu_realloc(d->events, size * sizeof *events);
        if (!events) return NULL;
        d->events = events;
        d->size_events = size;
    }
    if (count > MU_HEALTH_EVENTS_A_ROW) d->row_last[row] = (uint32_t)d->n_events + 1;
    return &d->events[d->n_events++];
}

static mu_status event_add(struct mu_health_diagnosis *d, struct observation *o, struct mu_err *err)
{
    const struct mu_health_row *row = &d->catalog->rows[o->best];
    struct mu_health_event *e = event_slot(d, o->best);
    if (!e) return mu_fail_memory(err, sizeof *e);
    struct mu_str text = o->line->text;
    if (text.len > MU_HEALTH_TEXT_MAX && o->start > EVIDENCE_BEFORE) {
        size_t skip = o->start - EVIDENCE_BEFORE;
        const char *space = memchr(text.p + skip, ' ', EVIDENCE_BEFORE);
        if (space) skip = (size_t)(space + 1 - text.p);
        text = (struct mu_str){text.p + skip, text.len - skip};
    }
    bool ignored = o->stream->ignored_line && o->number - o->stream->ignored_line < MARK_LINES &&
                   row->class != MU_HEALTH_CLASS_NOISE && row->class != MU_HEALTH_CLASS_HINT;
    *e = (struct mu_health_event){
        .row = (uint16_t)o->best,
        .quoted = o->has_accusing && row->class == MU_HEALTH_CLASS_FOLLOWER
                      ? (uint16_t)(o->accusing + 1)
                      : 0,
        .log = (uint16_t)(d->n_logs - 1),
        .service = o->service_index,
        .level = o->line->level,
        .ignored = ignored,
        .rank = o->line->rank,
        .line = o->number,
        .alive_before = o->service->alive_line,
        .time_ms = o->line->time_ms,
        .cause = cause_refined(o, row),
    };
    if (ignored) o->stream->ignored_line = 0;
    (void)mu_utf8_copy_harmless(e->time, sizeof e->time, o->line->time, '\0');
    (void)mu_utf8_copy_harmless(e->process, sizeof e->process, o->line->process, '\0');
    (void)mu_utf8_copy_harmless(e->text, sizeof e->text, text, '\0');
    if (text.len < sizeof e->text - 4) return MU_OK;
    size_t len = mu_health_words_len(e->text, MU_HEALTH_TEXT_MAX - 4);
    if (e->text[len]) memcpy(e->text + len, " ...", sizeof " ...");
    return MU_OK;
}

static void row_take(struct mu_health_diagnosis *d, struct observation *o, unsigned index,
                     const struct mu_health_match *match)
{
    const struct mu_health_row *row = &d->catalog->rows[index];
    d->row_hits[index]++;
    for (unsigned i = 0; i < row->n_groups; i++)
        fact_set(fact_slot(d, index, i), match->groups[i]);
    switch (row->class) {
    case MU_HEALTH_CLASS_FACT:
    case MU_HEALTH_CLASS_COUNT:
        return;
    case MU_HEALTH_CLASS_MARK:
        mark_set(o, row->cause);
        return;
    case MU_HEALTH_CLASS_READY:
        o->service->ready_line = o->service->alive_line = o->number;
        o->service->leaving_line = 0;
        if (!o->service->first_ready_line) o->service->first_ready_line = o->number;
        return;
    case MU_HEALTH_CLASS_ALIVE:
        o->service->alive_line = o->number;
        return;
    case MU_HEALTH_CLASS_CAUSE:
    case MU_HEALTH_CLASS_SYMPTOM:
        if (!o->has_accusing) o->accusing = index;
        o->has_accusing = true;
        break;
    case MU_HEALTH_CLASS_NOISE:
    case MU_HEALTH_CLASS_FOLLOWER:
    case MU_HEALTH_CLASS_HANG:
    case MU_HEALTH_CLASS_SLOW:
    case MU_HEALTH_CLASS_SLOW_ONE_NODE:
    case MU_HEALTH_CLASS_WEAK:
    case MU_HEALTH_CLASS_STOP:
    case MU_HEALTH_CLASS_EXCEPTION:
    case MU_HEALTH_CLASS_HINT:
        break;
    }
    if (o->has_best && d->catalog->rows[o->best].class <= row->class) return;
    o->best = index;
    o->has_best = true;
    o->start = match->start;
}

mu_status mu_health_observe(struct mu_health_diagnosis *d, struct mu_str raw, uint64_t number,
                            const uint64_t rows[MU_HEALTH_ROW_WORDS], struct mu_err *err)
{
    struct mu_health_log *log = &d->logs[d->n_logs - 1];
    struct mu_health_line line;
    mu_health_line_parse(raw, &d->unwrapped, &line);
    struct observation o = {.line = &line, .number = number};
    o.service_index = service_of(d, line.service);
    o.service = &d->services[o.service_index];
    o.stream = stream_of(d, &line);
    bool known = false;
    for (unsigned w = 0; w < MU_HEALTH_ROW_WORDS; w++)
        for (uint64_t bits = rows[w]; bits; bits &= bits - 1) {
            unsigned index = w * 64 + (unsigned)__builtin_ctzll(bits);
            struct mu_health_match match;
            MU_TRY(mu_health_row_match(d->catalog, &d->catalog->rows[index], &line, &match, err));
            if (!match.found) continue;
            known = known || d->catalog->rows[index].telling;
            row_take(d, &o, index, &match);
        }
    log->n_known += known;
    /* A line without a time is as late as the one before it. */
    log->time_ms = MU_MAX(log->time_ms, line.time_ms);
    line.time_ms = log->time_ms;
    return o.has_best ? event_add(d, &o, err) : MU_OK;
}
