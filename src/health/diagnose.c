/*
 * From events to a verdict: which event is the first cause, and what the others are to it.
 *
 * An event's tier says how much it explains; the first event of the highest tier is the first
 * cause. What went wrong before the engine came up all the same, or beside an engine that went on
 * making tokens, accuses nobody. Knows no text of any engine: that is all in the catalogue.
 */
#include "base/alloc.h"
#include "health/health_int.h"

#include <stdlib.h>

#define ARENA_BYTES_MAX ((size_t)64 << 20)
/* So many notices of a blocked worker, with no token made in between, are a hang. */
#define HANG_REPEATS 5
#define REFINE_LINES 400
#define REASON_LINES 3
/* An engine that worked so long after an event did not fail of it. */
#define SETTLED_MS    120000
#define SETTLED_LINES 500

enum tier {
    TIER_NONE,
    TIER_FOLLOWER, /* only when nothing else is there: something died, the log does not say why */
    TIER_WEAK,
    TIER_HANG,
    TIER_QUOTED_SYMPTOM,
    TIER_SYMPTOM,
    TIER_QUOTED,
    TIER_CAUSE,
};

static const double tier_confidence[] = {0, 0.3, 0.4, 0.5, 0.5, 0.6, 0.7, 0.9};

mu_status mu_health_diagnosis_create(struct mu_health_catalog *catalog,
                                     struct mu_health_diagnosis **out, struct mu_err *err)
{
    struct mu_health_diagnosis *d = mu_calloc(1, sizeof *d);
    if (!d) return mu_fail_memory(err, sizeof *d);
    d->catalog = catalog;
    mu_text_init(&d->unwrapped, (size_t)2 << 20);
    d->arena = mu_arena_create(ARENA_BYTES_MAX);
    if (!d->arena) {
        mu_health_diagnosis_destroy(d);
        return mu_fail_memory(err, 0);
    }
    *out = d;
    return MU_OK;
}

void mu_health_diagnosis_destroy(struct mu_health_diagnosis *d)
{
    if (!d) return;
    mu_free(d->buffer);
    mu_free(d->events);
    mu_text_fini(&d->unwrapped);
    mu_arena_destroy(d->arena);
    mu_free(d);
}

static const struct mu_health_row *row_of(const struct mu_health_diagnosis *d,
                                          const struct mu_health_event *e)
{
    return &d->catalog->rows[e->row];
}

static int event_compare(const void *pa, const void *pb)
{
    const struct mu_health_event *a = pa, *b = pb;
    if (a->log != b->log && a->time_ms != b->time_ms) return a->time_ms < b->time_ms ? -1 : 1;
    if (a->log != b->log) return a->log < b->log ? -1 : 1;
    return a->line < b->line ? -1 : a->line > b->line;
}

/* "Capture cuda graph failed: out of memory" says more about the OutOfMemoryError above it. */
static void refine_by_wrapper(struct mu_health_diagnosis *d, size_t wrapper)
{
    const struct mu_health_event *w = &d->events[wrapper];
    for (size_t k = wrapper; k-- > 0;) {
        struct mu_health_event *e = &d->events[k];
        if (e->log != w->log || w->line - e->line > REFINE_LINES) return;
        if (row_of(d, e)->class == MU_HEALTH_CLASS_CAUSE &&
            strcmp(row_of(d, e)->cause, "oom_load") == 0)
            e->cause = row_of(d, w)->cause;
    }
}

/* A refusal of arguments says in its next lines what is wrong with them. */
static void refine_by_reason(struct mu_health_diagnosis *d, size_t refusal)
{
    struct mu_health_event *e = &d->events[refusal];
    for (size_t k = refusal + 1; k < d->n_events; k++) {
        const struct mu_health_event *reason = &d->events[k];
        if (reason->log != e->log || reason->line - e->line > REASON_LINES) return;
        if (row_of(d, reason)->class != MU_HEALTH_CLASS_CAUSE) continue;
        e->cause = reason->cause;
        e->reason = (uint16_t)(reason->row + 1);
        return;
    }
}

static void causes_refine(struct mu_health_diagnosis *d)
{
    for (size_t i = 0; i < d->n_events; i++) {
        const struct mu_health_row *row = row_of(d, &d->events[i]);
        if (row->class == MU_HEALTH_CLASS_FOLLOWER && row->cause[0]) refine_by_wrapper(d, i);
        if (row->class == MU_HEALTH_CLASS_CAUSE && strcmp(row->cause, "bad_args") == 0)
            refine_by_reason(d, i);
    }
}

/* What the log says happened between an event and the next report of a failure, or its end. */
struct aftermath {
    bool alive; /* its service made tokens, well after it */
    bool up;    /* its service came up for the first time */
    bool broke; /* the failure that is reported may be the event's doing */
};

/* Requests under way may still be answered in the seconds between a fault and its report. */
static bool far_apart(const struct mu_health_event *a, const struct mu_health_event *b)
{
    if (a->time_ms >= 0 && b->time_ms > a->time_ms) return b->time_ms - a->time_ms > SETTLED_MS;
    return b->line - a->line > SETTLED_LINES;
}

static struct aftermath aftermath_of(const struct mu_health_diagnosis *d, size_t index)
{
    const struct mu_health_event *e = &d->events[index];
    const struct mu_health_service *s = &d->services[e->service];
    if (e->next_break == d->n_events)
        return (struct aftermath){s->alive_line > e->line, s->first_ready_line > e->line, false};
    const struct mu_health_event *b = &d->events[e->next_break];
    bool same = b->log == e->log;
    bool alive = same && b->service == e->service && b->alive_before > e->line && far_apart(e, b);
    return (struct aftermath){
        .alive = alive,
        .up = s->first_ready_line > e->line && (!same || b->line > s->first_ready_line),
        .broke = !alive,
    };
}

/* True for what a server says while it ends on request, if all was well until then. */
static bool leaving(const struct mu_health_diagnosis *d, const struct mu_health_event *e)
{
    const struct mu_health_service *s = &d->services[e->service];
    if (!s->leaving_line || !s->first_ready_line || e->line < s->leaving_line) return false;
    const struct mu_health_event *broke =
        d->first_break < d->n_events ? &d->events[d->first_break] : NULL;
    return !broke || broke->log != e->log || broke->line > s->leaving_line;
}

/* Hardware, driver and fabric faults stay true when the engine comes up. */
static bool lasting(const struct mu_health_row *row)
{
    static const char *const engines[] = {"kernel", "nvml", "dcgm", "systemd", "fabricmanager"};
    for (size_t i = 0; i < MU_ARRAY_LEN(engines); i++)
        if (strcmp(row->engine, engines[i]) == 0) return true;
    return false;
}

static enum tier tier_of(const struct mu_health_diagnosis *d, size_t index)
{
    const struct mu_health_event *e = &d->events[index];
    const struct mu_health_row *row = row_of(d, e);
    struct aftermath after = aftermath_of(d, index);
    bool mild = e->level != MU_HEALTH_LEVEL_NONE && e->level < MU_HEALTH_LEVEL_ERROR &&
                row->severity >= MU_HEALTH_LEVEL_ERROR;
    bool unsettled = !after.alive || after.broke;
    if (e->ignored) return TIER_NONE;
    if (leaving(d, e) && row->class != MU_HEALTH_CLASS_CAUSE &&
        row->class != MU_HEALTH_CLASS_SYMPTOM)
        return TIER_NONE;
    switch (row->class) {
    case MU_HEALTH_CLASS_CAUSE:
        if (lasting(row)) return TIER_CAUSE;
        if (mild) return after.broke ? TIER_SYMPTOM : TIER_NONE;
        return after.up ? TIER_NONE : TIER_CAUSE;
    case MU_HEALTH_CLASS_SYMPTOM:
        if (lasting(row)) return TIER_SYMPTOM;
        return unsettled && (!mild || after.broke) ? TIER_SYMPTOM : TIER_NONE;
    case MU_HEALTH_CLASS_FOLLOWER:
        if (!unsettled || row->severity < MU_HEALTH_LEVEL_ERROR) return TIER_NONE;
        if (!e->quoted) return TIER_FOLLOWER;
        return d->catalog->rows[e->quoted - 1].class == MU_HEALTH_CLASS_CAUSE ? TIER_QUOTED
                                                                              : TIER_QUOTED_SYMPTOM;
    case MU_HEALTH_CLASS_HANG:
        return d->row_counts[e->row] >= HANG_REPEATS && !after.alive ? TIER_HANG : TIER_NONE;
    case MU_HEALTH_CLASS_EXCEPTION:
        /* Beside a server that is up it is one request's. */
        if (d->services[e->service].first_ready_line && !after.broke) return TIER_NONE;
        return unsettled && (!mild || after.broke) ? TIER_WEAK : TIER_NONE;
    case MU_HEALTH_CLASS_WEAK:
        return unsettled && (!mild || after.broke) ? TIER_WEAK : TIER_NONE;
    case MU_HEALTH_CLASS_STOP:
        /* A server that was up and was told to end did nothing wrong. */
        if (d->services[e->service].first_ready_line && !after.broke) return TIER_NONE;
        return TIER_WEAK;
    case MU_HEALTH_CLASS_FACT:
    case MU_HEALTH_CLASS_MARK:
    case MU_HEALTH_CLASS_READY:
    case MU_HEALTH_CLASS_ALIVE:
    case MU_HEALTH_CLASS_NOISE:
    case MU_HEALTH_CLASS_SLOW:
    case MU_HEALTH_CLASS_SLOW_ONE_NODE:
    case MU_HEALTH_CLASS_HINT:
    case MU_HEALTH_CLASS_COUNT:
        break;
    }
    return TIER_NONE;
}

/* True when every rank of NCCL's group was seen in these logs, which are of one host. */
static bool one_node(const struct mu_health_diagnosis *d)
{
    const struct mu_health_fact_value *nodes = mu_health_fact_find(d, "nodes");
    if (nodes && nodes->numeric) return nodes->max == 1;
    const struct mu_health_fact_value *ranks = mu_health_fact_find(d, "nccl_rank");
    const struct mu_health_fact_value *size = mu_health_fact_find(d, "nccl_ranks");
    return ranks && size && size->numeric && (double)mu_health_fact_distinct(ranks) >= size->max;
}

static bool is_slow(const struct mu_health_diagnosis *d, const struct mu_health_event *e)
{
    enum mu_health_class class = row_of(d, e)->class;
    return class == MU_HEALTH_CLASS_SLOW || (class == MU_HEALTH_CLASS_SLOW_ONE_NODE && one_node(d));
}

static bool fact_add(const void *diagnosis, const char *key, struct mu_text *out)
{
    const struct mu_health_fact_value *fact = mu_health_fact_find(diagnosis, key);
    if (fact) mu_text_str(out, fact->text);
    return fact != NULL;
}

static char *cure_of(struct mu_health_diagnosis *d, const struct mu_health_row *row)
{
    struct mu_text out;
    mu_text_init(&out, 4096);
    mu_health_cure_expand(row->cure, fact_add, d, &out);
    char *copy =
        out.status == MU_OK ? mu_arena_strndup(d->arena, mu_text_get(&out), out.len) : NULL;
    mu_text_fini(&out);
    return copy;
}

static enum mu_health_role role_of(const struct mu_health_diagnosis *d, size_t i, size_t first,
                                   enum tier tier, bool has_first)
{
    const struct mu_health_event *e = &d->events[i];
    enum mu_health_class class = row_of(d, e)->class;
    if (class == MU_HEALTH_CLASS_NOISE) return MU_HEALTH_ROLE_NOISE;
    if (class == MU_HEALTH_CLASS_HINT) return MU_HEALTH_ROLE_NOTE;
    if (has_first && i == first) return MU_HEALTH_ROLE_FIRST;
    if (has_first && (e->row == d->events[first].row ||
                      (tier >= TIER_SYMPTOM && strcmp(e->cause, d->events[first].cause) == 0)))
        return MU_HEALTH_ROLE_REPEAT;
    if (class == MU_HEALTH_CLASS_FOLLOWER || e->ignored) return MU_HEALTH_ROLE_FOLLOWER;
    if (class == MU_HEALTH_CLASS_SLOW || class == MU_HEALTH_CLASS_SLOW_ONE_NODE)
        return is_slow(d, e) ? MU_HEALTH_ROLE_OTHER : MU_HEALTH_ROLE_NOTE;
    if (!has_first || tier == TIER_NONE) return MU_HEALTH_ROLE_SETTLED;
    return tier == TIER_CAUSE && i > first ? MU_HEALTH_ROLE_OTHER : MU_HEALTH_ROLE_FOLLOWER;
}

static mu_status finding_fill(struct mu_health_diagnosis *d, size_t i, enum mu_health_role role,
                              struct mu_err *err)
{
    const struct mu_health_event *e = &d->events[i];
    const struct mu_health_row *row = row_of(d, e);
    if (role == MU_HEALTH_ROLE_FIRST && e->quoted) row = &d->catalog->rows[e->quoted - 1];
    const char *cause = row == row_of(d, e) ? e->cause : row->cause;
    if (e->reason) row = &d->catalog->rows[e->reason - 1];
    if (role == MU_HEALTH_ROLE_FIRST && !cause[0]) cause = "proc_died";
    char *cure = cure_of(d, row);
    if (!cure) return mu_fail_memory(err, 0);
    d->findings[i] = (struct mu_health_finding){
        .role = role,
        .row = row->name,
        .engine = row->engine,
        .cause = cause,
        .family = mu_health_family_of(cause),
        .meaning = row->meaning,
        .cure = cure,
        .file = d->logs[e->log].name,
        .process = e->process,
        .time = e->time,
        .text = e->text,
        .line = e->line,
        .at_s = e->time_ms < 0 ? -1 : (double)e->time_ms * 1e-3,
        .count = d->row_counts[e->row],
        .rank = e->rank,
    };
    return MU_OK;
}

/* The first of the events that explain most; false when none explains anything. */
static bool first_choose(const struct mu_health_diagnosis *d, const enum tier *tiers, size_t *first,
                         enum mu_health_verdict *verdict)
{
    bool found = false;
    for (size_t i = 0; i < d->n_events; i++) {
        if (tiers[i] == TIER_NONE || (found && tiers[i] <= tiers[*first])) continue;
        *first = i;
        found = true;
    }
    *verdict = MU_HEALTH_FAILED;
    for (size_t i = 0; i < d->n_events && !found; i++) {
        if (!is_slow(d, &d->events[i])) continue;
        *first = i;
        *verdict = MU_HEALTH_SLOW;
        found = true;
    }
    return found;
}

static double confidence_of(const struct mu_health_diagnosis *d, size_t first, enum tier tier)
{
    if (tier == TIER_NONE) return 0.8; /* slow: the line says it of itself */
    return tier_confidence[tier] + (aftermath_of(d, first).broke ? 0.05 : 0);
}

static void breaks_find(struct mu_health_diagnosis *d)
{
    d->first_break = d->n_events;
    for (size_t i = d->n_events; i-- > 0;) {
        const struct mu_health_row *row = row_of(d, &d->events[i]);
        d->events[i].next_break = d->first_break;
        if (row->class == MU_HEALTH_CLASS_FOLLOWER && row->severity >= MU_HEALTH_LEVEL_ERROR &&
            !d->events[i].ignored)
            d->first_break = i;
    }
}

static mu_status conclude(struct mu_health_diagnosis *d, enum tier *tiers, struct mu_err *err)
{
    if (d->n_events) qsort(d->events, d->n_events, sizeof *d->events, event_compare);
    causes_refine(d);
    breaks_find(d);
    for (size_t i = 0; i < d->n_events; i++)
        tiers[i] = tier_of(d, i);
    size_t first = 0;
    bool has_first = first_choose(d, tiers, &first, &d->verdict);
    d->findings = mu_arena_alloc(d->arena, d->n_events + 1, sizeof *d->findings);
    if (!d->findings) return mu_fail_memory(err, d->n_events * sizeof *d->findings);
    for (size_t i = 0; i < d->n_events; i++)
        MU_TRY(finding_fill(d, i, role_of(d, i, first, tiers[i], has_first), err));
    d->n_findings = d->n_events;
    if (has_first) {
        d->findings[first].confidence = confidence_of(d, first, tiers[first]);
        d->first = &d->findings[first];
        return MU_OK;
    }
    uint64_t known = 0;
    for (unsigned i = 0; i < d->n_logs; i++)
        known += d->logs[i].n_known;
    d->verdict = known ? MU_HEALTH_HEALTHY : MU_HEALTH_UNKNOWN;
    return MU_OK;
}

mu_status mu_health_conclude(struct mu_health_diagnosis *d, enum mu_health_verdict *out,
                             struct mu_err *err)
{
    if (!d->concluded) {
        enum tier *tiers = mu_calloc(d->n_events + 1, sizeof *tiers);
        if (!tiers) return mu_fail_memory(err, d->n_events * sizeof *tiers);
        mu_status status = conclude(d, tiers, err);
        mu_free(tiers);
        MU_TRY(status);
        d->concluded = true;
    }
    *out = d->verdict;
    return MU_OK;
}

const struct mu_health_finding *mu_health_finding_get(const struct mu_health_diagnosis *d,
                                                      size_t index)
{
    return d->concluded && index < d->n_findings ? &d->findings[index] : NULL;
}

const struct mu_health_finding *mu_health_first_cause(const struct mu_health_diagnosis *d)
{
    return d->concluded ? d->first : NULL;
}

const char *mu_health_fact(const struct mu_health_diagnosis *d, const char *key)
{
    const struct mu_health_fact_value *fact = mu_health_fact_find(d, key);
    return fact ? fact->text : NULL;
}
