/* A look for people: the verdict in a line and its evidence, or the long form in six sections.
 * Reads the document alone, and judges nothing. */
#include "base/utf8.h"
#include "health/health_int.h"
#include "health/look_int.h"
#include "report/report.h"

#include <stdio.h>

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

/* Appends what somebody else wrote: nothing in it moves a terminal's cursor, or ends the line. */
static void add_foreign(struct mu_text *out, const char *s)
{
    char clean[400];
    (void)mu_utf8_copy_harmless(clean, sizeof clean, mu_str(s), '\0');
    mu_text_str(out, clean);
}

/* A number by its key with a unit, or "-". */
static const char *number_of(const json_t *o, const char *key, double scale, const char *unit,
                             char out[48])
{
    const json_t *v = json_object_get(o, key);
    if (!json_is_number(v)) return "-";
    (void)snprintf(out, 48, "%.*f%s", scale == 1 ? 0 : 1, json_number_value(v) * scale, unit);
    return out;
}

static mu_status add_devices(const json_t *look, struct mu_text *out, struct mu_err *err)
{
    static const char *const heads[] = {">GPU", "NAME",  ">MEMORY", ">USED", ">SHARE",
                                        "",     ">BUSY", ">POWER",  ">TEMP"};
    const json_t *devices = json_object_get(look, "devices"), *d;
    if (json_array_size(devices) == 0) return MU_OK;
    struct mu_report_table *t = NULL;
    MU_TRY(mu_report_table_create(heads, MU_ARRAY_LEN(heads), &t, err));
    size_t i;
    json_array_foreach(devices, i, d)
    {
        const json_t *busy = json_object_get(json_object_get(d, "sampled"), "utilization_percent");
        char a[48];
        mu_report_table_row(t);
        mu_report_table_cell(t, 0, "%zu", i);
        mu_report_table_cell(t, 1, "%s", text_of(d, "name"));
        mu_report_table_cell(t, 2, "%s",
                             number_of(d, "memory_total_bytes", 1.0 / (1 << 30), " GiB", a));
        mu_report_table_cell(t, 3, "%s",
                             number_of(d, "memory_used_bytes", 1.0 / (1 << 30), " GiB", a));
        mu_report_table_cell(t, 4, "%s", number_of(d, "memory_share", 100, " %", a));
        mu_report_table_cell(t, 5, "%s", text_of(d, "memory_colour"));
        mu_report_table_cell(t, 6, "%s", number_of(busy, "max", 1, " %", a));
        mu_report_table_cell(t, 7, "%s", number_of(d, "power_w", 1, " W", a));
        mu_report_table_cell(t, 8, "%s", number_of(d, "temperature_c", 1, " C", a));
    }
    mu_status status = mu_report_table_print(t, out, err);
    mu_report_table_destroy(t);
    return status;
}

/* Findings of one section, or of all when it is NULL; returns how many. */
static unsigned add_findings(const json_t *look, const char *section, const char *lead,
                             struct mu_text *out)
{
    static const char *const levels[] = {"unreachable", "bad", "warn", "note"};
    const json_t *findings = json_object_get(look, "findings"), *f;
    unsigned n = 0;
    for (size_t level = 0; level < MU_ARRAY_LEN(levels); level++) {
        size_t i;
        json_array_foreach(findings, i, f)
        {
            if (strcmp(text_of(f, "level"), levels[level]) != 0 ||
                (section && strcmp(text_of(f, "section"), section) != 0))
                continue;
            n++;
            mu_text_printf(out, "%s%-12s %s\n", lead, levels[level], text_of(f, "text"));
            if (text_of(f, "cure")[0])
                mu_text_printf(out, "%s%-12s cure: %s\n", lead, "", text_of(f, "cure"));
            if (level < 2) /* of what is only a warning the document has it */
                mu_text_printf(out, "%s%-12s more: %s\n", lead, "", text_of(f, "page"));
        }
    }
    return n;
}

/* Long answers, and several at a time. */
static void add_trials(const json_t *engine, const char *lead, struct mu_text *out)
{
    const json_t *trials = json_object_get(engine, "trials"), *t;
    size_t i;
    json_array_foreach(trials, i, t)
    {
        const json_t *rate = json_object_get(t, "tokens_per_s");
        mu_text_printf(out, "%smeasured     %s: ", lead, text_of(t, "trial"));
        if (json_is_number(rate))
            mu_text_printf(
                out, "%.1f tokens/s, first token after %.2f s%s\n", json_number_value(rate),
                json_number_value(json_object_get(t, "first_token_s")),
                json_is_true(json_object_get(t, "cut_by_time")) ? ", cut when its time was over"
                                                                : "");
        else
            mu_text_printf(out, "no speed, %d of %d answered\n",
                           (int)json_integer_value(json_object_get(t, "answered")),
                           (int)json_integer_value(json_object_get(t, "parallel")));
    }
}

static void add_measured(const json_t *look, const char *lead, struct mu_text *out)
{
    const json_t *engine = json_object_get(look, "engine");
    const json_t *m = json_object_get(engine, "measured");
    const json_t *reported = json_object_get(engine, "reported"), *v;
    if (text_of(engine, "url")[0]) {
        mu_text_printf(out, "%sengine       %s%s", lead, text_of(engine, "url"),
                       text_of(engine, "model")[0] ? ", " : "");
        add_foreign(out, text_of(engine, "model"));
        mu_text_printf(out, " %s\n", text_of(engine, "kind"));
    }
    char probes[64] = "one short probe";
    if (json_integer_value(json_object_get(m, "probes")) > 1)
        (void)snprintf(probes, sizeof probes, "%d short probes, they differ by %.0f %%",
                       (int)json_integer_value(json_object_get(m, "probes")),
                       json_number_value(json_object_get(m, "noise")) * 100);
    if (json_object_get(m, "tokens_per_s"))
        mu_text_printf(out, "%smeasured     %.1f tokens/s, first token after %.2f s (%s)\n", lead,
                       json_number_value(json_object_get(m, "tokens_per_s")),
                       json_number_value(json_object_get(m, "first_token_s")), probes);
    else if (json_object_get(m, "first_token_s"))
        mu_text_printf(out, "%smeasured     no speed: %s; first token after %.2f s\n", lead,
                       text_of(m, "tokens_per_s_why"),
                       json_number_value(json_object_get(m, "first_token_s")));
    add_trials(engine, lead, out);
    if (json_object_get(engine, "reported_tokens_per_s"))
        mu_text_printf(out, "%sreported     %.1f tokens/s for the last short probe\n", lead,
                       json_number_value(json_object_get(engine, "reported_tokens_per_s")));
    const char *key;
    json_object_foreach((json_t *)(uintptr_t)reported, key, v)
    {
        if (json_is_number(v))
            mu_text_printf(out, "%sreported     %s %g\n", lead, key, json_number_value(v));
    }
}

static void add_sources(const json_t *look, const char *lead, struct mu_text *out)
{
    const json_t *sources = json_object_get(look, "sources"), *s;
    size_t i;
    json_array_foreach(sources, i, s)
    {
        if (!json_is_true(json_object_get(s, "used")))
            mu_text_printf(out, "%snot looked at: %s, %s\n", lead, text_of(s, "source"),
                           text_of(s, "why"));
    }
}

static void add_cost(const json_t *look, const char *lead, struct mu_text *out)
{
    const json_t *c = json_object_get(look, "sampling");
    if (!json_is_object(c)) return;
    mu_text_printf(
        out, "%ssampling     %lld ticks, %lld missed, %.2f %% of a core, %.2f ms late on average\n",
        lead, (long long)json_integer_value(json_object_get(c, "ticks")),
        (long long)json_integer_value(json_object_get(c, "missed")),
        json_number_value(json_object_get(c, "cpu_share")) * 100,
        json_number_value(json_object_get(c, "mean_late_ms")));
}

mu_status mu_health_look_text(const json_t *look, struct mu_text *out, struct mu_err *err)
{
    mu_text_printf(out, "%s: %s\n", text_of(look, "verdict"), text_of(look, "summary"));
    MU_TRY(add_devices(look, out, err));
    MU_TRY(look_alone_text(look, out, err));
    (void)add_findings(look, NULL, "  ", out);
    add_measured(look, "  ", out);
    add_cost(look, "  ", out);
    add_sources(look, "  ", out);
    mu_text_printf(out, "  looked for %.1f s\n",
                   json_number_value(json_object_get(look, "seconds")));
    return MU_OK;
}

static void add_topology(const json_t *look, struct mu_text *out)
{
    const json_t *rows = json_object_get(look, "topology"), *row, *cell;
    size_t a, b;
    if (json_array_size(rows) < 2) return;
    mu_text_str(out, "   paths between the GPUs (muster devices has the legend)\n");
    json_array_foreach(rows, a, row)
    {
        mu_text_str(out, "   ");
        json_array_foreach(row, b, cell)
        {
            mu_text_printf(out, " %-4s", json_string_value(cell));
        }
        while (out->len && out->p[out->len - 1] == ' ')
            out->p[--out->len] = '\0';
        mu_text_char(out, '\n');
    }
}

/* What an empty section says: whether anything was there to look at. */
static const char *empty_text(const json_t *look, unsigned section)
{
    bool devices = json_array_size(json_object_get(look, "devices")) > 0;
    bool engine = json_object_get(json_object_get(look, "engine"), "url") != NULL;
    if (section == 5 && !engine) return "absent: no engine was asked (--url)";
    if (section == 6 || section == 5 || devices) return "nothing to remark";
    return "absent: no GPU was seen";
}

mu_status mu_health_look_sections(const json_t *look, const struct mu_health_diagnosis *diagnosis,
                                  struct mu_text *out, struct mu_err *err)
{
    static const char *const keys[] = {"hardware",      "parallel", "memory",
                                       "communication", "live",     "review"};
    add_sources(look, "", out);
    for (unsigned i = 1; i <= MU_ARRAY_LEN(keys); i++) {
        mu_text_printf(out, "\n%u  %s\n", i, mu_health_section_title(i));
        size_t before = out->len;
        if (i == 1) add_topology(look, out);
        if (i == 3) MU_TRY(add_devices(look, out, err));
        if (i == 5) add_measured(look, "   ", out);
        if (i == 5) add_cost(look, "   ", out);
        (void)add_findings(look, keys[i - 1], "   ", out);
        if (diagnosis) mu_health_section_text(diagnosis, i, out);
        if (out->len == before) mu_text_printf(out, "   %s\n", empty_text(look, i));
    }
    mu_text_printf(out, "\nSummary: %s: %s\n", text_of(look, "verdict"), text_of(look, "summary"));
    if (diagnosis) mu_health_verdict_text(diagnosis, out);
    return MU_OK;
}
