/*
 * A run, or a comparison, as an HTML page. What to draw follows from names: samples of a figure are
 * its course, figures of devices are set beside each other. Whatever a run holds, the page stays
 * small: what goes past a limit is counted, not shown.
 */
#include "cli/runs_html.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/number.h"
#include "report/report.h"

#include <math.h>
#include <stdio.h>

#define PAGE_BYTES_MAX ((size_t)16 << 20)
#define FINDINGS_SHOWN 100
#define FIGURES_SHOWN  400
#define SETTINGS_SHOWN 100
#define PLOTS_MAX      24
#define SERIES_MAX     16
#define BARS_MAX       40
#define TEXT_SHOWN     600
#define BARS_FEW       8 /* as many samples are shown one by one */

/* At most TEXT_SHOWN bytes of a text, whole characters. */
static const char *cut(const char *s, char out[TEXT_SHOWN + 4])
{
    size_t n = strlen(s);
    if (n <= TEXT_SHOWN) return s;
    n = TEXT_SHOWN;
    while (n > 0 && ((unsigned char)s[n] & 0xc0) == 0x80)
        n--;
    (void)snprintf(out, TEXT_SHOWN + 4, "%.*s...", (int)n, s);
    return out;
}

static void add_rest(size_t n, size_t shown, const char *what, struct mu_text *out)
{
    if (n > shown) mu_text_printf(out, "<p class=\"dim\">and %zu more %s</p>\n", n - shown, what);
}

/* --- what stands at the top ------------------------------------------------------------------- */

static void add_fact(const char *name, const char *value, struct mu_text *out)
{
    char text[TEXT_SHOWN + 4];
    if (!value[0]) return;
    mu_text_str(out, "<tr>");
    mu_report_html_element("th", NULL, name, out);
    mu_report_html_element("td", NULL, cut(value, text), out);
    mu_text_str(out, "</tr>\n");
}

static void add_head(const struct mu_store_run *run, struct mu_text *out)
{
    char title[TEXT_SHOWN + 80], text[TEXT_SHOWN + 4], machine[TEXT_SHOWN];
    (void)snprintf(title, sizeof title, "muster %s%s%s", run->command, run->model[0] ? ": " : "",
                   cut(run->model, text));
    mu_report_html_begin(title, out);
    mu_text_printf(out, "<p class=\"verdict %s\">", run->exit_status == 0 ? "good" : "bad");
    mu_report_html_text(cut(run->result, text), out);
    (void)snprintf(machine, sizeof machine, "%s: %s", run->host, run->machine);
    mu_text_str(out, "</p>\n<div class=\"scroll\"><table>\n");
    add_fact("run", run->id, out);
    add_fact("when", run->at, out);
    add_fact("command", run->command_line, out);
    add_fact("machine", machine, out);
    add_fact("program", run->version, out);
    mu_text_str(out, "</table></div>\n");
}

/* --- plots ------------------------------------------------------------------------------------ */

/* The name of a figure without its device: "power_w" of "cuda:0.power_w". */
static const char *bare(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? dot + 1 : name;
}

/* What a figure was to be: the prediction, what the user expects, or the baseline. */
static double expected_of(const struct mu_store_run *run, const char *name, const char **label)
{
    const struct mu_store_figure *f = mu_store_run_figure_get(run, MU_STORE_PREDICTED, name);
    static const char *const settings[] = {"expect", "baseline_tokens_per_s"};
    static const char *const labels[] = {"expected", "baseline"};
    double value;
    *label = "predicted";
    if (f) return f->value;
    for (size_t i = 0; i < MU_ARRAY_LEN(settings) && strcmp(name, "tokens_per_s") == 0; i++) {
        const char *text = mu_store_run_setting_get(run, settings[i]);
        *label = labels[i];
        if (text[0] && mu_parse_f64(mu_str(text), &value) && value > 0) return value;
    }
    return (double)NAN;
}

/* The points of one name; those without a time go by their order. */
static size_t points_of(const struct mu_store_run *run, const char *name,
                        struct mu_report_point *out)
{
    size_t n, k = 0;
    const struct mu_store_sample *s = mu_store_run_samples(run, &n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(s[i].name, name) != 0 || !isfinite(s[i].value)) continue;
        double x = isfinite(s[i].at_s) ? s[i].at_s : (double)k;
        if (k && x < out[k - 1].x) x = out[k - 1].x;
        out[k++] = (struct mu_report_point){x, s[i].value};
    }
    return k;
}

static void plot_few(const struct mu_report_plot *plot, const struct mu_report_series *s,
                     struct mu_text *out)
{
    struct mu_report_bar bars[BARS_FEW];
    char labels[BARS_FEW][32];
    for (size_t i = 0; i < s->n; i++) {
        (void)snprintf(labels[i], sizeof labels[i], "test %zu", i + 1);
        bars[i] = (struct mu_report_bar){labels[i], s->points[i].y, (double)NAN};
    }
    mu_report_plot_bars(plot, bars, s->n, out);
}

/* All series whose names end alike: one a device. */
static void plot_samples(const struct mu_store_run *run, const char *metric,
                         struct mu_report_point *points, struct mu_text *out)
{
    struct mu_report_series series[SERIES_MAX];
    const char *full[SERIES_MAX];
    char names[SERIES_MAX][24]; /* of the devices */
    size_t n, n_series = 0;
    const struct mu_store_sample *s = mu_store_run_samples(run, &n);
    for (size_t i = 0; i < n && n_series < SERIES_MAX; i++) {
        bool known = strcmp(bare(s[i].name), metric) != 0;
        for (size_t k = 0; k < n_series && !known; k++)
            known = strcmp(full[k], s[i].name) == 0;
        if (known) continue;
        size_t got = points_of(run, s[i].name, points);
        (void)snprintf(names[n_series], sizeof names[0], "%.*s",
                       (int)MU_MAX(bare(s[i].name) - s[i].name - 1, 0), s[i].name);
        full[n_series] = s[i].name;
        series[n_series] = (struct mu_report_series){names[n_series], points, got};
        if (!names[n_series][0]) series[n_series].name = s[i].name;
        n_series++;
        points += got;
    }
    size_t unit_n;
    const struct mu_store_figure *f = mu_store_run_figures(run, &unit_n);
    struct mu_report_plot plot = {.title = metric,
                                  .x_label = "seconds since the start",
                                  .unit = "",
                                  .series = series,
                                  .n_series = n_series};
    for (size_t i = 0; i < unit_n && !plot.unit[0]; i++)
        if (strcmp(bare(f[i].name), metric) == 0) plot.unit = f[i].unit;
    plot.expected = expected_of(run, metric, &plot.expected_label);
    if (n_series == 1 && series[0].n <= BARS_FEW) {
        plot.x_label = "";
        plot_few(&plot, &series[0], out);
    } else {
        mu_report_plot_lines(&plot, out);
    }
}

static mu_status add_courses(const struct mu_store_run *run, struct mu_text *out,
                             struct mu_err *err)
{
    const char *done[PLOTS_MAX];
    size_t n, n_done = 0;
    const struct mu_store_sample *s = mu_store_run_samples(run, &n);
    if (n == 0) return MU_OK;
    struct mu_report_point *points = mu_calloc(n, sizeof *points);
    if (!points) return mu_fail_memory(err, n * sizeof *points);
    mu_text_str(out, "<h2>Measured</h2>\n");
    for (size_t i = 0; i < n && n_done < PLOTS_MAX; i++) {
        bool seen = false;
        for (size_t k = 0; k < n_done && !seen; k++)
            seen = strcmp(done[k], bare(s[i].name)) == 0;
        if (seen) continue;
        done[n_done++] = bare(s[i].name);
        plot_samples(run, bare(s[i].name), points, out);
    }
    mu_free(points);
    return MU_OK;
}

/* Of every device: what it uses, of what it has or of what was predicted. */
static void add_memory(const struct mu_store_run *run, struct mu_text *out)
{
    static const struct {
        const char *used, *of;
        enum mu_store_kind used_kind, of_kind;
        const char *title;
    } pairs[] = {{".memory_used_bytes", ".memory_total_bytes", MU_STORE_REPORTED, MU_STORE_REPORTED,
                  "memory used, of what there is"},
                 {".total_bytes", ".total_bytes", MU_STORE_MEASURED, MU_STORE_PREDICTED,
                  "memory used, of what was predicted"}};
    size_t n;
    const struct mu_store_figure *f = mu_store_run_figures(run, &n);
    for (size_t p = 0; p < MU_ARRAY_LEN(pairs); p++) {
        struct mu_report_bar bars[BARS_MAX];
        char devices[BARS_MAX][64], whole[200];
        size_t n_bars = 0, end = strlen(pairs[p].used);
        double most = 0;
        for (size_t i = 0; i < n && n_bars < BARS_MAX; i++) {
            size_t len = strlen(f[i].name);
            if (f[i].kind != pairs[p].used_kind || len <= end ||
                strcmp(f[i].name + len - end, pairs[p].used) != 0)
                continue;
            (void)snprintf(devices[n_bars], sizeof devices[0], "%.*s", (int)MU_MIN(len - end, 60u),
                           f[i].name);
            (void)snprintf(whole, sizeof whole, "%s%s", devices[n_bars], pairs[p].of);
            const struct mu_store_figure *of =
                mu_store_run_figure_get(run, pairs[p].of_kind, whole);
            bars[n_bars] =
                (struct mu_report_bar){devices[n_bars], f[i].value, of ? of->value : (double)NAN};
            most = MU_MAX(most, f[i].value);
            n_bars++;
        }
        bool large = most >= 1 << 30;
        for (size_t i = 0; i < n_bars; i++) {
            bars[i].value /= large ? 1 << 30 : 1 << 20;
            bars[i].of /= large ? 1 << 30 : 1 << 20;
        }
        if (n_bars)
            mu_report_plot_bars(&(struct mu_report_plot){.title = pairs[p].title,
                                                         .x_label = "",
                                                         .unit = large ? "GiB" : "MiB",
                                                         .expected = (double)NAN},
                                bars, n_bars, out);
    }
}

/* --- findings --------------------------------------------------------------------------------- */

static bool is_bad(const char *level)
{
    static const char *const bad[] = {"bad", "unreachable", "first_cause"};
    for (size_t i = 0; i < MU_ARRAY_LEN(bad); i++)
        if (strcmp(level, bad[i]) == 0) return true;
    return false;
}

static void add_timeline(const struct mu_store_run *run, struct mu_text *out)
{
    size_t n, n_marks = 0;
    const struct mu_store_finding *f = mu_store_run_findings(run, &n);
    struct mu_report_mark marks[FINDINGS_SHOWN];
    double first = HUGE_VAL;
    for (size_t i = 0; i < n; i++)
        if (isfinite(f[i].at_s)) first = MU_MIN(first, f[i].at_s);
    for (size_t i = 0; i < n && n_marks < FINDINGS_SHOWN; i++)
        if (isfinite(f[i].at_s))
            marks[n_marks++] = (struct mu_report_mark){.lane = f[i].code,
                                                       .text = f[i].place,
                                                       .x = f[i].at_s - first,
                                                       .strong = is_bad(f[i].level)};
    if (n_marks)
        mu_report_plot_marks(
            &(struct mu_report_plot){.title = "findings of the logs, by the logs' own clocks",
                                     .x_label = "seconds after the first",
                                     .unit = "",
                                     .expected = (double)NAN},
            marks, n_marks, out);
}

static void add_finding(const struct mu_store_finding *f, struct mu_text *out)
{
    char text[TEXT_SHOWN + 4];
    const char *class = is_bad(f->level) ? "bad" : strcmp(f->level, "warn") == 0 ? "warn" : "dim";
    mu_text_printf(out, "<p><b class=\"%s\">", class);
    mu_report_html_text(f->level, out);
    mu_text_str(out, "</b> ");
    mu_report_html_element("b", NULL, f->code, out);
    mu_text_str(out, " <span class=\"dim\">");
    mu_report_html_text(f->place[0] ? f->place : f->section, out);
    mu_text_str(out, f->device[0] ? ", " : "");
    mu_report_html_text(f->device, out);
    mu_text_str(out, "</span><br>\n");
    mu_report_html_element("code", NULL, cut(f->text, text), out);
    if (f->cure[0]) {
        mu_text_str(out, "<br>cure: ");
        mu_report_html_element("code", NULL, cut(f->cure, text), out);
    }
    if (f->page[0]) {
        mu_text_str(out, "<br><span class=\"dim\">more: ");
        mu_report_html_text(f->page, out);
        mu_text_str(out, "</span>");
    }
    mu_text_str(out, "</p>\n");
}

/* Those that are bad come first; otherwise as they were found. */
static void add_findings(const struct mu_store_run *run, struct mu_text *out)
{
    size_t n, shown = 0;
    const struct mu_store_finding *f = mu_store_run_findings(run, &n);
    if (n == 0) return;
    mu_text_str(out, "<h2>Findings</h2>\n");
    add_timeline(run, out);
    for (int bad = 1; bad >= 0; bad--)
        for (size_t i = 0; i < n && shown < FINDINGS_SHOWN; i++) {
            if (is_bad(f[i].level) != (bad != 0)) continue;
            add_finding(&f[i], out);
            shown++;
        }
    add_rest(n, shown, "findings", out);
}

/* --- tables ----------------------------------------------------------------------------------- */

static void add_figures(const struct mu_store_run *run, struct mu_text *out)
{
    static const char *const heads[] = {"figure", "", ">value"};
    size_t n;
    char number[MU_RUNS_NUMBER];
    const struct mu_store_figure *f = mu_store_run_figures(run, &n);
    if (n == 0) return;
    mu_text_str(out, "<h2>Figures</h2>\n");
    mu_report_html_table_begin(heads, MU_ARRAY_LEN(heads), out);
    for (size_t i = 0; i < n && i < FIGURES_SHOWN; i++) {
        const char *const cells[] = {f[i].name, mu_store_kind_name(f[i].kind),
                                     mu_runs_number(f[i].value, f[i].unit, number)};
        mu_report_html_row(heads, cells, MU_ARRAY_LEN(cells), out);
    }
    mu_report_html_table_end(out);
    add_rest(n, FIGURES_SHOWN, "figures", out);
}

static void add_settings(const struct mu_store_run *run, struct mu_text *out)
{
    static const char *const heads[] = {"condition", "value"};
    size_t n;
    char text[TEXT_SHOWN + 4];
    const struct mu_store_setting *s = mu_store_run_settings(run, &n);
    if (n == 0) return;
    mu_text_str(out, "<h2>Conditions</h2>\n");
    mu_report_html_table_begin(heads, MU_ARRAY_LEN(heads), out);
    for (size_t i = 0; i < n && i < SETTINGS_SHOWN; i++) {
        const char *const cells[] = {s[i].name, cut(s[i].value, text)};
        mu_report_html_row(heads, cells, MU_ARRAY_LEN(cells), out);
    }
    mu_report_html_table_end(out);
    add_rest(n, SETTINGS_SHOWN, "conditions", out);
}

/* --- pages ------------------------------------------------------------------------------------ */

static mu_status page_write(const char *path, struct mu_text *page, struct mu_err *err)
{
    struct mu_file_out file = {.fd = -1};
    MU_TRY(mu_text_status(page, err));
    mu_status status = mu_file_out_open(&file, path, err);
    if (status == MU_OK) status = mu_file_out_write(&file, page->p, page->len, err);
    if (status == MU_OK) status = mu_file_out_commit(&file, err);
    mu_file_out_close(&file);
    return status;
}

mu_status mu_runs_report(const struct mu_store_run *run, const char *path, struct mu_err *err)
{
    struct mu_text page;
    mu_text_init(&page, PAGE_BYTES_MAX);
    add_head(run, &page);
    mu_status status = add_courses(run, &page, err);
    add_memory(run, &page);
    add_findings(run, &page);
    add_figures(run, &page);
    add_settings(run, &page);
    mu_report_html_end(&page);
    if (status == MU_OK) status = page_write(path, &page, err);
    mu_text_fini(&page);
    return status;
}

static void add_set(const char *letter, const struct mu_runs_set *set, struct mu_text *out)
{
    char text[TEXT_SHOWN + 4];
    mu_text_str(out, "<p>");
    mu_report_html_element("b", NULL, letter, out);
    mu_text_printf(out, " %zu run%s of ", set->n, set->n == 1 ? "" : "s");
    mu_report_html_element("code", NULL, cut(set->runs[0].command_line, text), out);
    mu_text_str(out, " <span class=\"dim\">");
    for (size_t i = 0; i < set->n && i < 16; i++) {
        mu_report_html_text(set->runs[i].id, out);
        mu_text_char(out, ' ');
    }
    mu_text_str(out, "</span></p>\n");
}

/* How far each figure moved and how far noise reaches, in percent. */
static void plot_changes(const struct mu_store_change *c, size_t n, struct mu_text *out)
{
    struct mu_report_mark marks[BARS_MAX];
    size_t n_marks = 0;
    for (size_t i = 0; i < n && n_marks < BARS_MAX; i++)
        if (c[i].kind != MU_STORE_PREDICTED && isfinite(c[i].low) && isfinite(c[i].high) &&
            c[i].a != 0 && c[i].verdict != MU_STORE_SAME)
            marks[n_marks++] = (struct mu_report_mark){.lane = c[i].name,
                                                       .text = mu_store_verdict_name(c[i].verdict),
                                                       .x = 100 * (c[i].b - c[i].a) / fabs(c[i].a),
                                                       .low = 100 * c[i].low / fabs(c[i].a),
                                                       .high = 100 * c[i].high / fabs(c[i].a),
                                                       .strong = c[i].verdict == MU_STORE_REAL};
    if (n_marks)
        mu_report_plot_marks(
            &(struct mu_report_plot){.title = "from A to B, with the 95 % interval (red: real)",
                                     .x_label = "percent of A",
                                     .unit = "%",
                                     .expected = (double)NAN},
            marks, n_marks, out);
}

/* Which conditions differ, in a sentence each and as a table. */
static void add_unlike(const json_t *unlike, struct mu_text *out)
{
    static const char *const heads[] = {"condition", "A", "B"};
    char text[2][TEXT_SHOWN + 4];
    struct mu_text said, values[2];
    mu_text_init(&said, 1 << 18);
    mu_runs_unlike_say(unlike, &said);
    if (said.len) mu_report_html_element("p", NULL, mu_text_get(&said), out);
    mu_text_fini(&said);
    size_t n = json_array_size(unlike);
    if (n == 0) return;
    mu_text_str(out, "<h2>Conditions that differ</h2>\n");
    mu_report_html_table_begin(heads, MU_ARRAY_LEN(heads), out);
    for (size_t i = 0; i < n && i < SETTINGS_SHOWN; i++) {
        const json_t *c = json_array_get(unlike, i);
        for (int side = 0; side < 2; side++) {
            mu_text_init(&values[side], 1 << 16);
            mu_runs_unlike_values(c, side ? "b" : "a", &values[side]);
        }
        const char *const cells[] = {json_string_value(json_object_get(c, "name")),
                                     cut(mu_text_get(&values[0]), text[0]),
                                     cut(mu_text_get(&values[1]), text[1])};
        mu_report_html_row(heads, cells, MU_ARRAY_LEN(cells), out);
        mu_text_fini(&values[0]);
        mu_text_fini(&values[1]);
    }
    mu_report_html_table_end(out);
    add_rest(n, SETTINGS_SHOWN, "conditions", out);
}

mu_status mu_runs_report_compare(const struct mu_runs_set sets[2], const json_t *unlike,
                                 const struct mu_store_change *c, size_t n, const char *path,
                                 struct mu_err *err)
{
    static const char *const heads[] = {"figure",         "",   ">A",     ">B", ">change",
                                        ">95 % interval", "of", "verdict"};
    struct mu_text page;
    mu_text_init(&page, PAGE_BYTES_MAX);
    mu_report_html_begin("muster runs compare", &page);
    add_set("A", &sets[0], &page);
    add_set("B", &sets[1], &page);
    add_unlike(unlike, &page);
    plot_changes(c, n, &page);
    mu_text_str(&page, "<h2>Figures</h2>\n");
    mu_report_html_table_begin(heads, MU_ARRAY_LEN(heads), &page);
    for (size_t i = 0; i < n && i < FIGURES_SHOWN; i++) {
        char a[MU_RUNS_NUMBER], b[MU_RUNS_NUMBER], change[32] = "", interval[MU_RUNS_INTERVAL];
        if (c[i].a != 0)
            (void)snprintf(change, sizeof change, "%+.1f %%",
                           100 * (c[i].b - c[i].a) / fabs(c[i].a));
        const char *const cells[] = {c[i].name,
                                     mu_store_kind_name(c[i].kind),
                                     mu_runs_number(c[i].a, c[i].unit, a),
                                     mu_runs_number(c[i].b, c[i].unit, b),
                                     change,
                                     mu_runs_interval(&c[i], interval),
                                     mu_store_noise_name(c[i].noise),
                                     mu_store_verdict_name(c[i].verdict)};
        mu_report_html_row(heads, cells, MU_ARRAY_LEN(cells), &page);
    }
    mu_report_html_table_end(&page);
    add_rest(n, FIGURES_SHOWN, "figures", &page);
    mu_report_html_end(&page);
    mu_status status = page_write(path, &page, err);
    mu_text_fini(&page);
    return status;
}
