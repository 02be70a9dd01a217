/*
 * A diagnosis for people and as JSON. The text holds nothing that changes from run to run over the
 * same logs, so that `diff` of two reports shows what changed in them. Judges nothing.
 */
#include "base/alloc.h"
#include "health/health_int.h"

#define SHOWN_A_ROLE 12
#define SHOWN_TEXT   160

static const char *const verdict_names[] = {"healthy", "slow", "failed", "unknown"};
static const char *const role_names[MU_HEALTH_ROLE_COUNT] = {
    "first_cause", "repeat", "follower", "other_cause", "settled", "note", "noise"};

/* What each section shows, in this order. */
static const struct {
    unsigned section;
    const char *key;
} shown[] = {
    {2, "engine_version"},
    {2, "model"},
    {2, "tp"},
    {2, "pp"},
    {2, "dp"},
    {2, "world_size"},
    {2, "rank"},
    {2, "nodes"},
    {2, "nccl_ranks"},
    {2, "gpus"},
    {2, "quantization"},
    {2, "max_model_len"},
    {2, "slots"},
    {2, "threads"},
    {2, "attention"},
    {3, "gpu_memory_utilization"},
    {3, "mem_fraction_static"},
    {3, "kv_cache_dtype"},
    {3, "weights_gib"},
    {3, "weights_mib"},
    {3, "kv_available_gib"},
    {3, "kv_mib"},
    {3, "graph_gib"},
    {3, "memory_before_gib"},
    {3, "memory_left_gib"},
    {3, "kv_tokens"},
    {3, "kv_blocks"},
    {3, "max_concurrency"},
    {3, "layers_on_gpu"},
    {3, "layers"},
    {4, "nccl_version"},
    {4, "network"},
    {4, "transport"},
    {4, "all_reduce"},
    {5, "prompt_tokens_per_s"},
    {5, "generation_tokens_per_s"},
    {5, "running"},
    {5, "waiting"},
    {5, "kv_usage_percent"},
    {5, "kv_usage_ratio"},
    {5, "prefix_hit_percent"},
    {5, "spec_acceptance"},
    {5, "preemptions"},
};

static const struct {
    const char *title, *key;
    const char *absent; /* what a log alone cannot say */
} sections[] = {
    {NULL, NULL, NULL},
    {"Hardware and topology", "hardware", "the devices themselves were not asked, only logs read"},
    {"Parallel configuration", "parallel", NULL},
    {"Memory and balance", "memory", NULL},
    {"Communication and errors", "communication", NULL},
    {"Live tests", "live", "no server was asked; the engine's own figures, where its log has them"},
    {"Configuration review", "review", NULL},
};

/* --- text -------------------------------------------------------------------------------- */

static void add_fact(struct mu_text *out, const struct mu_health_fact_value *fact)
{
    mu_text_printf(out, "   %-24s %s", fact->key, fact->text);
    if (strcmp(fact->key, "rank") == 0)
        mu_text_printf(out, "   (%u ranks seen)", mu_health_fact_distinct(fact));
    else if (fact->numeric && fact->max > fact->min)
        mu_text_printf(out, "   (%g to %g in %llu lines)", fact->min, fact->max,
                       (unsigned long long)fact->n);
    mu_text_char(out, '\n');
}

static void add_facts(const struct mu_health_diagnosis *d, unsigned section, struct mu_text *out)
{
    unsigned n = 0;
    for (size_t i = 0; i < MU_ARRAY_LEN(shown); i++) {
        const struct mu_health_fact_value *fact = mu_health_fact_find(d, shown[i].key);
        if (shown[i].section != section || !fact) continue;
        add_fact(out, fact);
        n++;
    }
    if (n == 0 && section < 4) mu_text_str(out, "   absent: no line of the log says it\n");
}

static void add_place(struct mu_text *out, const struct mu_health_finding *f, bool file)
{
    if (file)
        mu_text_printf(out, "%s:%llu", f->file, (unsigned long long)f->line);
    else
        mu_text_printf(out, "line %llu", (unsigned long long)f->line);
    if (f->time[0]) mu_text_printf(out, "  %s", f->time);
    if (f->process[0])
        mu_text_printf(out, "  %s", f->process);
    else if (f->rank >= 0)
        mu_text_printf(out, "  rank %d", f->rank);
}

static void add_role(const struct mu_health_diagnosis *d, enum mu_health_role role,
                     const char *title, struct mu_text *out)
{
    unsigned n = 0;
    for (size_t i = 0; i < d->n_findings; i++) {
        const struct mu_health_finding *f = &d->findings[i];
        if (f->role != role) continue;
        if (n == 0) mu_text_printf(out, "   %s\n", title);
        if (++n > SHOWN_A_ROLE) continue;
        mu_text_str(out, "      ");
        add_place(out, f, d->n_logs > 1);
        mu_text_printf(out, "  %s", f->row);
        if (f->count > MU_HEALTH_EVENTS_A_ROW)
            mu_text_printf(out, " (%llu times)", (unsigned long long)f->count);
        mu_text_str(out, "\n         ");
        size_t len = mu_health_words_len(f->text, SHOWN_TEXT);
        mu_text_add(out, f->text, len);
        mu_text_str(out, f->text[len] ? " ...\n" : "\n");
    }
    if (n > SHOWN_A_ROLE) mu_text_printf(out, "      and %u more\n", n - SHOWN_A_ROLE);
}

static void add_errors(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    add_role(d, MU_HEALTH_ROLE_FIRST, "first cause", out);
    add_role(d, MU_HEALTH_ROLE_REPEAT, "the same again", out);
    add_role(d, MU_HEALTH_ROLE_FOLLOWER, "followed from it", out);
    add_role(d, MU_HEALTH_ROLE_OTHER, "other causes", out);
    add_role(d, MU_HEALTH_ROLE_SETTLED, "went wrong, and the engine went on", out);
    add_role(d, MU_HEALTH_ROLE_NOTE, "notes", out);
    add_role(d, MU_HEALTH_ROLE_NOISE, "looks bad, is harmless", out);
}

static void add_lines(struct mu_text *out, const char *lead, const char *lines)
{
    for (const char *p = lines; *p;) {
        size_t n = strcspn(p, "\n");
        mu_text_printf(out, "%s%.*s\n", lead, (int)n, p);
        p += n + (p[n] == '\n');
    }
}

static bool came_up(const struct mu_health_diagnosis *d)
{
    for (unsigned i = 0; i < d->n_services; i++)
        if (d->services[i].alive_line) return true;
    return false;
}

static void add_verdict(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    const struct mu_health_finding *f = d->first;
    mu_text_printf(out, "\nVerdict: %s", verdict_names[d->verdict]);
    if (d->verdict == MU_HEALTH_HEALTHY)
        mu_text_printf(out, ", %s\n",
                       came_up(d) ? "nothing wrong in the log"
                                  : "nothing wrong in the log, which ends before the engine is up");
    if (d->verdict == MU_HEALTH_UNKNOWN)
        mu_text_str(out, ", no line is of a known kind: nothing can be said\n");
    if (!f) return;
    mu_text_printf(out, ", %s: %s\n", f->cause, mu_health_cause_text(f->cause));
    mu_text_str(out, "   evidence    ");
    add_place(out, f, true);
    mu_text_printf(out, "\n               %s\n", f->text);
    mu_text_printf(out, "   meaning     %s\n", f->meaning);
    if (f->cure[0]) mu_text_str(out, "   cure\n");
    add_lines(out, "      ", f->cure);
    mu_text_printf(out, "   confidence  %.2f\n   more        docs/findings/%s.md#%s\n",
                   f->confidence, f->family, f->cause);
}

static void add_logs(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    for (unsigned i = 0; i < d->n_logs; i++) {
        const struct mu_health_log *log = &d->logs[i];
        mu_text_printf(out, "log %s: %llu lines, %llu bytes, %llu of a known kind", log->name,
                       (unsigned long long)log->n_lines, (unsigned long long)log->n_bytes,
                       (unsigned long long)log->n_known);
        if (log->n_binary) mu_text_str(out, ", holds binary data");
        if (log->n_long)
            mu_text_printf(out, ", %llu overlong lines", (unsigned long long)log->n_long);
        mu_text_char(out, '\n');
    }
    const char *engine = mu_health_engine_of(d);
    mu_text_printf(out, "engine %s\n", engine[0] ? engine : "unknown");
}

const char *mu_health_section_title(unsigned section)
{
    return sections[section].title;
}

void mu_health_section_text(const struct mu_health_diagnosis *d, unsigned section,
                            struct mu_text *out)
{
    if (section >= 2 && section <= 5) add_facts(d, section, out);
    if (section == 4) add_errors(d, out);
    if (section != 6) return;
    struct mu_text review;
    mu_text_init(&review, 1 << 16);
    mu_health_review(d, &review);
    add_lines(out, "   ", mu_text_get(&review));
    mu_text_fini(&review);
}

void mu_health_verdict_text(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    add_verdict(d, out);
}

void mu_health_report_text(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    add_logs(d, out);
    for (unsigned i = 1; i < MU_ARRAY_LEN(sections); i++) {
        mu_text_printf(out, "\n%u  %s%s\n", i, sections[i].title,
                       i >= 2 && i <= 5 ? " (reported by the log)" : "");
        if (sections[i].absent) mu_text_printf(out, "   absent: %s\n", sections[i].absent);
        size_t before = out->len;
        mu_health_section_text(d, i, out);
        if (i == 6 && out->len == before) mu_text_str(out, "   nothing to remark\n");
    }
    add_verdict(d, out);
}

/* --- JSON -------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *s)
{
    return s[0] ? json_string(s) : json_null();
}

static json_t *lines_json(const char *lines)
{
    json_t *array = json_array();
    for (const char *p = lines; *p;) {
        size_t n = strcspn(p, "\n");
        (void)json_array_append_new(array, json_stringn(p, n));
        p += n + (p[n] == '\n');
    }
    return array;
}

static json_t *finding_json(const struct mu_health_finding *f,
                            const struct mu_health_finding *first)
{
    json_t *page =
        f->family[0] ? json_sprintf("docs/findings/%s.md#%s", f->family, f->cause) : json_null();
    json_t *o = json_pack(
        "{s:s, s:s, s:s, s:o, s:o, s:s, s:I, s:o, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:I}", "role",
        role_names[f->role], "row", f->row, "engine", f->engine, "cause", text_or_null(f->cause),
        "family", text_or_null(f->family), "file", f->file, "line", (json_int_t)f->line, "rank",
        f->rank >= 0 ? json_integer(f->rank) : json_null(), "process", text_or_null(f->process),
        "time", text_or_null(f->time), "text", f->text, "meaning", f->meaning, "cure",
        lines_json(f->cure), "page", page, "confidence",
        f->confidence > 0 ? json_real(f->confidence) : json_null(), "count", (json_int_t)f->count);
    if (o && first && (f->role == MU_HEALTH_ROLE_FOLLOWER || f->role == MU_HEALTH_ROLE_REPEAT))
        (void)json_object_set_new(o, "follows_line", json_integer((json_int_t)first->line));
    return o;
}

static json_t *fact_json(const struct mu_health_fact_value *fact)
{
    json_t *o = json_pack("{s:s, s:I}", "reported", fact->text, "lines", (json_int_t)fact->n);
    if (!o || !fact->numeric) return o;
    (void)json_object_set_new(o, "value", json_real(fact->last));
    (void)json_object_set_new(o, "min", json_real(fact->min));
    (void)json_object_set_new(o, "max", json_real(fact->max));
    if (fact->n_nonzero)
        (void)json_object_set_new(o, "mean_of_nonzero",
                                  json_real(fact->sum_nonzero / (double)fact->n_nonzero));
    if (strcmp(fact->key, "rank") == 0)
        (void)json_object_set_new(o, "distinct", json_integer(mu_health_fact_distinct(fact)));
    return o;
}

static json_t *section_json(const struct mu_health_diagnosis *d, unsigned section)
{
    json_t *o = json_object(), *facts = json_object();
    for (size_t i = 0; i < MU_ARRAY_LEN(shown); i++) {
        const struct mu_health_fact_value *fact = mu_health_fact_find(d, shown[i].key);
        if (shown[i].section == section && fact)
            (void)json_object_set_new(facts, shown[i].key, fact_json(fact));
    }
    const char *absent = sections[section].absent;
    if (!absent && section != 6 && json_object_size(facts) == 0)
        absent = "no line of the log says it";
    (void)json_object_set_new(o, "absent", absent ? json_string(absent) : json_null());
    (void)json_object_set_new(o, "reported", facts);
    if (section == 6) {
        struct mu_text review;
        mu_text_init(&review, 1 << 16);
        mu_health_review(d, &review);
        (void)json_object_set_new(o, "remarks", lines_json(mu_text_get(&review)));
        mu_text_fini(&review);
    }
    return o;
}

static json_t *logs_json(const struct mu_health_diagnosis *d)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < d->n_logs; i++) {
        const struct mu_health_log *log = &d->logs[i];
        (void)json_array_append_new(
            array, json_pack("{s:s, s:I, s:I, s:I, s:I, s:b}", "file", log->name, "lines",
                             (json_int_t)log->n_lines, "bytes", (json_int_t)log->n_bytes,
                             "known_lines", (json_int_t)log->n_known, "overlong_lines",
                             (json_int_t)log->n_long, "binary", log->n_binary > 0));
    }
    return array;
}

mu_status mu_health_report_json(const struct mu_health_diagnosis *d, json_t **out,
                                struct mu_err *err)
{
    json_t *findings = json_array(), *parts = json_object();
    for (size_t i = 0; i < d->n_findings; i++)
        (void)json_array_append_new(findings, finding_json(&d->findings[i], d->first));
    for (unsigned i = 1; i < MU_ARRAY_LEN(sections); i++)
        (void)json_object_set_new(parts, sections[i].key, section_json(d, i));
    json_t *o =
        json_pack("{s:s, s:o, s:o, s:b, s:o, s:o, s:o}", "verdict", verdict_names[d->verdict],
                  "engine", text_or_null(mu_health_engine_of(d)), "first_cause",
                  d->first ? finding_json(d->first, NULL) : json_null(), "came_up", came_up(d),
                  "findings", findings, "sections", parts, "logs", logs_json(d));
    if (!o) return mu_fail_memory(err, 0);
    *out = o;
    return MU_OK;
}
