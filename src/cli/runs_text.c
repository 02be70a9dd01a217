/* Runs as tables; see runs.h. Judges nothing. Nothing here changes from one showing of the same
 * runs to the next, so that diff shows what changed. */
#include "cli/runs.h"

#include "base/number.h"
#include "report/report.h"

#include <math.h>
#include <stdio.h>

const char *mu_runs_number(double value, const char *unit, char out[MU_RUNS_NUMBER])
{
    char bytes[MU_BYTES_TEXT];
    double size = fabs(value);
    int digits = size >= 1000 || value == floor(value) ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
    if (strcmp(unit, "bytes") == 0)
        (void)snprintf(out, MU_RUNS_NUMBER, "%s%s", value < 0 ? "-" : "",
                       mu_format_bytes((uint64_t)MU_MIN(size, 1e18), bytes));
    else if (size > 0 && (size < 0.1 || size >= 1e15))
        (void)snprintf(out, MU_RUNS_NUMBER, "%.3g%s%s", value, unit[0] ? " " : "", unit);
    else
        (void)snprintf(out, MU_RUNS_NUMBER, "%.*f%s%s", digits, value, unit[0] ? " " : "", unit);
    return out;
}

/* "2026-11-21 20:10:35" of what the store has, in UTC. */
static const char *time_text(const char *at, char out[24])
{
    (void)snprintf(out, 24, "%.10s %.8s", at, strlen(at) > 11 ? at + 11 : "");
    return out;
}

mu_status mu_runs_list_text(const struct mu_runs_set *set, struct mu_text *out, struct mu_err *err)
{
    static const char *const heads[] = {"RUN",   "WHEN (UTC)", ">TIME", "COMMAND",
                                        ">EXIT", "MODEL",      "RESULT"};
    struct mu_report_table *t = NULL;
    char at[24], seconds[MU_RUNS_NUMBER];
    MU_TRY(mu_report_table_create(heads, MU_ARRAY_LEN(heads), &t, err));
    for (size_t i = 0; i < set->n; i++) {
        const struct mu_store_run *r = &set->runs[i];
        mu_report_table_row(t);
        mu_report_table_cell(t, 0, "%s", r->id);
        mu_report_table_cell(t, 1, "%s", time_text(r->at, at));
        if (isfinite(r->seconds))
            mu_report_table_cell(t, 2, "%s", mu_runs_number(r->seconds, "s", seconds));
        mu_report_table_cell(t, 3, "%s", r->command);
        mu_report_table_cell(t, 4, "%lld", (long long)r->exit_status);
        const char *slash = strrchr(r->model, '/');
        mu_report_table_cell(t, 5, "%.40s", slash && slash[1] ? slash + 1 : r->model);
        mu_report_table_cell(t, 6, "%.100s", r->result);
    }
    mu_status status = mu_report_table_print(t, out, err);
    mu_report_table_destroy(t);
    return status;
}

/* --- one run ---------------------------------------------------------------------------------- */

static mu_status add_settings(const struct mu_store_run *run, struct mu_text *out,
                              struct mu_err *err)
{
    static const char *const heads[] = {"CONDITION", "VALUE"};
    struct mu_report_table *t = NULL;
    size_t n;
    const struct mu_store_setting *s = mu_store_run_settings(run, &n);
    if (n == 0) return MU_OK;
    MU_TRY(mu_report_table_create(heads, MU_ARRAY_LEN(heads), &t, err));
    for (size_t i = 0; i < n; i++) {
        mu_report_table_row(t);
        mu_report_table_cell(t, 0, "%s", s[i].name);
        mu_report_table_cell(t, 1, "%s", s[i].value);
    }
    mu_text_char(out, '\n');
    mu_status status = mu_report_table_print(t, out, err);
    mu_report_table_destroy(t);
    return status;
}

static bool wanted(const char *name, const char *figure)
{
    return !figure || strstr(name, figure);
}

/* Figures of one name share a row: what was predicted stands beside what was measured. */
static void add_figure(struct mu_report_table *t, const struct mu_store_run *run,
                       const struct mu_store_figure *f)
{
    const struct mu_store_figure *of[MU_STORE_KINDS];
    char number[MU_RUNS_NUMBER];
    mu_report_table_row(t);
    mu_report_table_cell(t, 0, "%s", f->name);
    for (int k = 0; k < MU_STORE_KINDS; k++) {
        of[k] = mu_store_run_figure_get(run, (enum mu_store_kind)k, f->name);
        if (of[k])
            mu_report_table_cell(t, 1 + (unsigned)k, "%s",
                                 mu_runs_number(of[k]->value, of[k]->unit, number));
    }
    const struct mu_store_figure *p = of[MU_STORE_PREDICTED], *m = of[MU_STORE_MEASURED];
    if (p && m && p->value != 0)
        mu_report_table_cell(t, 4, "%+.1f %%", 100 * (m->value - p->value) / fabs(p->value));
    double mean, variance;
    size_t n = mu_store_samples_sum(run, MU_STORE_MEASURED, f->name, &mean, &variance);
    if (n > 1 && mean != 0)
        mu_report_table_cell(t, 5, "%.1f %% (%zu)", 100 * sqrt(variance) / fabs(mean), n);
}

static mu_status add_figures(const struct mu_store_run *run, const char *figure,
                             struct mu_text *out, struct mu_err *err)
{
    static const char *const heads[] = {"FIGURE",    ">PREDICTED",  ">MEASURED",
                                        ">REPORTED", ">DIFFERENCE", ">SPREAD"};
    struct mu_report_table *t = NULL;
    size_t n, shown = 0;
    const struct mu_store_figure *f = mu_store_run_figures(run, &n);
    MU_TRY(mu_report_table_create(heads, MU_ARRAY_LEN(heads), &t, err));
    for (size_t i = 0; i < n; i++) {
        bool first = true;
        for (int k = 0; k < MU_STORE_KINDS; k++) {
            const struct mu_store_figure *other =
                mu_store_run_figure_get(run, (enum mu_store_kind)k, f[i].name);
            first = first && (!other || other >= &f[i]);
        }
        if (!first || !wanted(f[i].name, figure)) continue;
        add_figure(t, run, &f[i]);
        shown++;
    }
    mu_status status = MU_OK;
    if (shown) {
        mu_text_char(out, '\n');
        status = mu_report_table_print(t, out, err);
    }
    mu_report_table_destroy(t);
    return status;
}

/* Lines of a text that may have several, each behind `lead`. */
static void add_lines(struct mu_text *out, const char *lead, const char *lines)
{
    for (const char *p = lines; *p;) {
        size_t n = strcspn(p, "\n");
        mu_text_printf(out, "%s%.*s\n", lead, (int)n, p);
        p += n + (p[n] == '\n');
    }
}

static void add_findings(const struct mu_store_run *run, struct mu_text *out)
{
    size_t n;
    const struct mu_store_finding *f = mu_store_run_findings(run, &n);
    for (size_t i = 0; i < n; i++) {
        mu_text_printf(out, "%s%-12s %s%s%s%s%s\n", i ? "" : "\n", f[i].level, f[i].code,
                       f[i].place[0] ? ", " : "", f[i].place, f[i].device[0] ? ", " : "",
                       f[i].device);
        add_lines(out, "             ", f[i].text);
        if (f[i].cure[0]) add_lines(out, "             cure: ", f[i].cure);
        if (f[i].page[0]) mu_text_printf(out, "             more: %s\n", f[i].page);
    }
}

mu_status mu_runs_show_text(const struct mu_store_run *run, const char *baseline,
                            const char *figure, struct mu_text *out, struct mu_err *err)
{
    char at[24], seconds[MU_RUNS_NUMBER] = "";
    if (isfinite(run->seconds)) (void)mu_runs_number(run->seconds, "s", seconds);
    mu_text_printf(out, "run %s, %s UTC, %s, exit status %lld\n", run->id, time_text(run->at, at),
                   seconds, (long long)run->exit_status);
    add_lines(out, "command   ", run->command_line);
    add_lines(out, "model     ", run->model);
    mu_text_printf(out, "machine   %s: %s\nprogram   muster %s\n", run->host, run->machine,
                   run->version);
    if (baseline[0]) mu_text_printf(out, "baseline  of %s\n", baseline);
    add_lines(out, "result    ", run->result);
    if (!figure) MU_TRY(add_settings(run, out, err));
    MU_TRY(add_figures(run, figure, out, err));
    if (!figure) add_findings(run, out);
    return MU_OK;
}

/* --- two sets --------------------------------------------------------------------------------- */

static void add_set(char letter, const struct mu_runs_set *set, struct mu_text *out)
{
    const struct mu_store_run *first = &set->runs[0];
    size_t like = 1;
    while (like < set->n && strcmp(set->runs[like].model, first->model) == 0)
        like++;
    mu_text_printf(out, "%c  %s  %s%s", letter, first->command, first->model,
                   like < set->n ? " and others" : "");
    mu_text_printf(out, set->n == 1 ? "  (one run:" : "  (%zu runs:", set->n);
    for (size_t i = 0; i < set->n && i < 8; i++)
        mu_text_printf(out, " %s", set->runs[i].id);
    mu_text_str(out, set->n > 8 ? " ...)\n" : ")\n");
}

/* Without what differs besides the figures a difference says little. */
static mu_status add_unlike(const json_t *unlike, struct mu_text *out, struct mu_err *err)
{
    static const char *const heads[] = {"CONDITION", "A", "B"};
    static const char *const sides[] = {"a", "b"};
    struct mu_report_table *t = NULL;
    size_t i;
    json_t *c;
    mu_text_char(out, '\n');
    if (json_array_size(unlike) == 0) {
        mu_text_str(out, "the conditions are the same\n");
        return MU_OK;
    }
    mu_runs_unlike_say(unlike, out);
    MU_TRY(mu_report_table_create(heads, MU_ARRAY_LEN(heads), &t, err));
    json_array_foreach(unlike, i, c)
    {
        mu_report_table_row(t);
        mu_report_table_cell(t, 0, "%s", json_string_value(json_object_get(c, "name")));
        for (unsigned side = 0; side < 2; side++) {
            struct mu_text values;
            mu_text_init(&values, 1 << 16);
            mu_runs_unlike_values(c, sides[side], &values);
            mu_report_table_cell(t, 1 + side, "%s", mu_text_get(&values));
            mu_text_fini(&values);
        }
    }
    mu_status status = mu_report_table_print(t, out, err);
    mu_report_table_destroy(t);
    return status;
}

const char *mu_runs_interval(const struct mu_store_change *c, char out[MU_RUNS_INTERVAL])
{
    char low[MU_RUNS_NUMBER], high[MU_RUNS_NUMBER];
    double of = fabs(c->a);
    if (!isfinite(c->low) || !isfinite(c->high))
        out[0] = '\0';
    else if (of > 0)
        (void)snprintf(out, MU_RUNS_INTERVAL, "%+.1f to %+.1f %%", 100 * c->low / of,
                       100 * c->high / of);
    else
        (void)snprintf(out, MU_RUNS_INTERVAL, "%s to %s", mu_runs_number(c->low, c->unit, low),
                       mu_runs_number(c->high, c->unit, high));
    return out;
}

static void add_change(struct mu_report_table *t, const struct mu_store_change *c)
{
    char number[MU_RUNS_NUMBER], interval[MU_RUNS_INTERVAL];
    mu_report_table_row(t);
    mu_report_table_cell(t, 0, "%s", c->name);
    mu_report_table_cell(t, 1, "%s", mu_store_kind_name(c->kind));
    mu_report_table_cell(t, 2, "%s", mu_runs_number(c->a, c->unit, number));
    mu_report_table_cell(t, 3, "%s", mu_runs_number(c->b, c->unit, number));
    mu_report_table_cell(t, 4, "%s", mu_runs_number(c->b - c->a, c->unit, number));
    if (c->a != 0) mu_report_table_cell(t, 5, "%+.1f %%", 100 * (c->b - c->a) / fabs(c->a));
    if (c->noise != MU_STORE_NOISE_NONE)
        mu_report_table_cell(t, 6, "%s", mu_runs_interval(c, interval));
    mu_report_table_cell(t, 7, "%s", mu_store_noise_name(c->noise));
    mu_report_table_cell(t, 8, "%s", mu_store_verdict_name(c->verdict));
}

/* What the words in the column OF mean, of those that occur. */
static void add_legend(const bool seen[], struct mu_text *out)
{
    static const char *const meanings[] = {
        [MU_STORE_NOISE_UNKNOWN] = ("fewer than 3 runs on each side, and fewer than 3 samples "
                                    "inside one run each: run both at least 3 times"),
        [MU_STORE_NOISE_NONE] = "computed, the same each time",
        [MU_STORE_NOISE_RUNS] = "the runs of both sides",
        [MU_STORE_NOISE_SPREAD] =
            "the spread of the side with several runs, taken for the other's too",
        [MU_STORE_NOISE_SAMPLES] =
            "the samples inside one run each; runs may differ by more: run both at least 3 times",
    };
    bool tested = false;
    for (size_t i = 0; i < MU_ARRAY_LEN(meanings); i++) {
        if (!seen[i]) continue;
        mu_text_printf(out, "of %s: %s\n", mu_store_noise_name((enum mu_store_noise)i),
                       meanings[i]);
        tested = tested || (i != MU_STORE_NOISE_UNKNOWN && i != MU_STORE_NOISE_NONE);
    }
    if (tested)
        mu_text_str(out, "The interval is Welch's at 95 %, of logarithms where all values are "
                         "above 0; a change is real when 0 lies outside.\n");
}

mu_status mu_runs_compare_text(const struct mu_runs_set sets[2], const json_t *unlike,
                               const struct mu_store_change *c, size_t n, const char *figure,
                               struct mu_text *out, struct mu_err *err)
{
    static const char *const heads[] = {"FIGURE", "KIND",           ">A", ">B",     ">CHANGE",
                                        "",       ">95 % INTERVAL", "OF", "VERDICT"};
    struct mu_report_table *t = NULL;
    size_t shown = 0, same = 0;
    bool seen[MU_STORE_NOISE_SAMPLES + 1] = {false};
    add_set('A', &sets[0], out);
    add_set('B', &sets[1], out);
    MU_TRY(add_unlike(unlike, out, err));
    MU_TRY(mu_report_table_create(heads, MU_ARRAY_LEN(heads), &t, err));
    for (size_t i = 0; i < n; i++) {
        if (!wanted(c[i].name, figure)) continue;
        same += c[i].verdict == MU_STORE_SAME;
        if (c[i].verdict == MU_STORE_SAME) continue;
        add_change(t, &c[i]);
        seen[c[i].noise] = true;
        shown++;
    }
    mu_text_char(out, '\n');
    mu_status status = shown ? mu_report_table_print(t, out, err) : MU_OK;
    mu_report_table_destroy(t);
    if (shown) mu_text_char(out, '\n');
    add_legend(seen, out);
    if (same) mu_text_printf(out, "%zu figures are the same\n", same);
    if (!same && !shown) mu_text_str(out, "they have no figure in common\n");
    return status;
}
