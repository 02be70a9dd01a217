/* Plots as SVG; see html.h. Coordinates are of a page 720 wide, which the browser scales. */
#include "report/html.h"

#include <math.h>
#include <stdio.h>

#define WIDTH       720
#define LEFT        150 /* of the plot's field in marks and bars: names stand before it */
#define LINES_LEFT  60
#define RIGHT       700
#define TOP         30
#define LINES_END   210
#define LANE        22
#define LANES_MAX   40
#define POINTS_MAX  256
#define SERIES_MAX  16
#define COLOURS     8
#define MOST        1e300 /* of a value: differences of such are still finite */
#define LEAST       1e-300
#define NAMES_A_ROW 4
#define NAME_HEIGHT 18
#define NAME_MAX    22 /* characters of a lane's name that fit */

/* An axis from low to high, with ticks at round numbers. */
struct axis {
    double low, high, step, from, to; /* from, to: on the page */
};

static struct axis axis_make(double low, double high, double from, double to)
{
    struct axis a = {.from = from, .to = to};
    if (!isfinite(low) || !isfinite(high)) low = high = 0;
    low = MU_MAX(MU_MIN(low, 0), -MOST);
    high = MU_MIN(MU_MAX(high, 0), MOST);
    if (high - low <= LEAST) high = low + 1;
    double power = pow(10, floor(log10((high - low) / 5)));
    double parts = (high - low) / 5 / power;
    a.step = power * (parts <= 1 ? 1 : parts <= 2 ? 2 : parts <= 5 ? 5 : 10);
    a.low = floor(low / a.step) * a.step;
    a.high = ceil(high / a.step - 1e-9) * a.step;
    return a;
}

static double at(const struct axis *a, double value)
{
    value = MU_MAX(MU_MIN(value, MOST), -MOST);
    return a->from + (value - a->low) / (a->high - a->low) * (a->to - a->from);
}

static void add_text(double x, double y, const char *class, const char *anchor, const char *text,
                     struct mu_text *out)
{
    mu_text_printf(out, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\" text-anchor=\"%s\">", x, y, class,
                   anchor);
    mu_report_html_text(text, out);
    mu_text_str(out, "</text>");
}

static void add_line(double x1, double y1, double x2, double y2, const char *class,
                     struct mu_text *out)
{
    mu_text_printf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" class=\"%s\"/>", x1,
                   y1, x2, y2, class);
}

static void begin(const struct mu_report_plot *plot, double height, struct mu_text *out)
{
    char title[200];
    (void)snprintf(title, sizeof title, "%s%s%s", plot->title, plot->unit[0] ? ", " : "",
                   plot->unit);
    mu_text_printf(out, "<figure><svg viewBox=\"0 0 %d %.0f\" role=\"img\"><title>", WIDTH, height);
    mu_report_html_text(title, out);
    mu_text_str(out, "</title>");
    add_text(4, 16, "t", "start", title, out);
}

static void end(struct mu_text *out)
{
    mu_text_str(out, "</svg></figure>\n");
}

static unsigned ticks_of(const struct axis *a)
{
    double n = floor((a->high - a->low) / a->step + 1e-6);
    return n < 50 ? (unsigned)n + 1 : 0;
}

/* Ticks along x, from the top of the field to its bottom. */
static void add_x_axis(const struct axis *x, double top, double bottom, const char *label,
                       struct mu_text *out)
{
    char number[32];
    for (unsigned i = 0; i < ticks_of(x); i++) {
        double value = x->low + i * x->step;
        if (fabs(value) < x->step * 1e-6) value = 0;
        (void)snprintf(number, sizeof number, "%g", value);
        add_line(at(x, value), top, at(x, value), bottom, "g", out);
        add_text(at(x, value), bottom + 15, "d", "middle", number, out);
    }
    add_line(x->from, bottom, x->to, bottom, "a", out);
    add_text((x->from + x->to) / 2, bottom + 32, "d", "middle", label, out);
}

/* --- lines ------------------------------------------------------------------------------------ */

static void range_of(const struct mu_report_plot *p, struct mu_report_point *low,
                     struct mu_report_point *high)
{
    *low = (struct mu_report_point){HUGE_VAL, HUGE_VAL};
    *high = (struct mu_report_point){-HUGE_VAL, -HUGE_VAL};
    for (size_t s = 0; s < p->n_series; s++)
        for (size_t i = 0; i < p->series[s].n; i++) {
            struct mu_report_point v = p->series[s].points[i];
            low->x = MU_MIN(low->x, v.x);
            low->y = MU_MIN(low->y, v.y);
            high->x = MU_MAX(high->x, v.x);
            high->y = MU_MAX(high->y, v.y);
        }
    if (isfinite(p->expected)) high->y = MU_MAX(high->y, p->expected);
}

static void add_series(const struct mu_report_series *s, unsigned colour, const struct axis *x,
                       const struct axis *y, struct mu_text *out)
{
    size_t step = s->n / POINTS_MAX + 1;
    mu_text_printf(out,
                   "<polyline fill=\"none\" stroke=\"var(--s%u)\" stroke-width=\"1.5\"%s points=\"",
                   colour % COLOURS, colour >= COLOURS ? " stroke-dasharray=\"2 3\"" : "");
    for (size_t i = 0; i < s->n; i += step)
        mu_text_printf(out, "%.1f,%.1f ", at(x, s->points[i].x), at(y, s->points[i].y));
    mu_text_str(out, "\"/>");
}

/* Names below the field. */
static void add_legend(const struct mu_report_plot *p, size_t n, double top, struct mu_text *out)
{
    for (size_t s = 0; s < n; s++) {
        size_t row = s / NAMES_A_ROW, column = s % NAMES_A_ROW;
        double x = LINES_LEFT + (double)column * 160, y = top + (double)row * NAME_HEIGHT;
        mu_text_printf(
            out, "<rect x=\"%.0f\" y=\"%.0f\" width=\"12\" height=\"4\" fill=\"var(--s%zu)\"/>", x,
            y - 6, s % COLOURS);
        add_text(x + 18, y, "d", "start", p->series[s].name, out);
    }
}

void mu_report_plot_lines(const struct mu_report_plot *plot, struct mu_text *out)
{
    struct mu_report_point low, high;
    size_t n = MU_MIN(plot->n_series, (size_t)SERIES_MAX);
    size_t rows = MU_CEIL_DIV(n, (size_t)NAMES_A_ROW);
    double height = LINES_END + 50 + (double)rows * NAME_HEIGHT;
    range_of(plot, &low, &high);
    struct axis x = axis_make(low.x, high.x, LINES_LEFT, RIGHT);
    struct axis y = axis_make(low.y, high.y, LINES_END, TOP);
    begin(plot, height, out);
    for (unsigned i = 0; i < ticks_of(&y); i++) {
        char number[32];
        double value = y.low + i * y.step;
        (void)snprintf(number, sizeof number, "%g", value);
        add_line(LINES_LEFT, at(&y, value), RIGHT, at(&y, value), "g", out);
        add_text(LINES_LEFT - 6, at(&y, value) + 4, "d", "end", number, out);
    }
    add_x_axis(&x, TOP, LINES_END, plot->x_label, out);
    for (size_t s = 0; s < n; s++)
        add_series(&plot->series[s], (unsigned)s, &x, &y, out);
    if (isfinite(plot->expected)) {
        add_line(LINES_LEFT, at(&y, plot->expected), RIGHT, at(&y, plot->expected), "e", out);
        add_text(RIGHT, at(&y, plot->expected) - 4, "d", "end", plot->expected_label, out);
    }
    add_legend(plot, n, LINES_END + 52, out);
    end(out);
}

/* --- bars and marks --------------------------------------------------------------------------- */

/* The beginning of a name that is too long, whole characters only. */
static void add_lane(double y, const char *name, struct mu_text *out)
{
    char cut[4 * NAME_MAX + 4];
    size_t len = 0, n = 0;
    while (name[len] && n < NAME_MAX) {
        do
            len++;
        while (((unsigned char)name[len] & 0xc0) == 0x80);
        n++;
    }
    len = MU_MIN(len, sizeof cut - 4);
    (void)snprintf(cut, sizeof cut, "%.*s%s", (int)len, name, name[len] ? "..." : "");
    add_text(LEFT - 8, y + 4, "d", "end", cut, out);
}

void mu_report_plot_bars(const struct mu_report_plot *plot, const struct mu_report_bar *bars,
                         size_t n, struct mu_text *out)
{
    double high = isfinite(plot->expected) ? plot->expected : 0, low = 0;
    n = MU_MIN(n, (size_t)LANES_MAX);
    for (size_t i = 0; i < n; i++) {
        high = MU_MAX(high, MU_MAX(bars[i].value, isfinite(bars[i].of) ? bars[i].of : 0));
        low = MU_MIN(low, bars[i].value);
    }
    double bottom = TOP + (double)n * LANE;
    struct axis x = axis_make(low, high, LEFT, RIGHT);
    begin(plot, bottom + 40, out);
    add_x_axis(&x, TOP, bottom, plot->x_label, out);
    for (size_t i = 0; i < n; i++) {
        double y = TOP + (double)i * LANE + LANE / 2.0;
        double a = at(&x, MU_MIN(bars[i].value, 0)), b = at(&x, MU_MAX(bars[i].value, 0));
        char number[64];
        mu_text_printf(out,
                       "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"14\" "
                       "fill=\"var(--s0)\" fill-opacity=\".75\"/>",
                       a, y - 7, b - a);
        if (isfinite(bars[i].of))
            mu_text_printf(
                out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"14\" class=\"of\"/>",
                at(&x, 0), y - 7, at(&x, bars[i].of) - at(&x, 0));
        add_lane(y, bars[i].label, out);
        (void)snprintf(number, sizeof number, "%.4g", bars[i].value);
        add_text(at(&x, 0) + 6, y + 4, "", "start", number, out);
    }
    if (isfinite(plot->expected)) {
        add_line(at(&x, plot->expected), TOP - 4, at(&x, plot->expected), bottom, "e", out);
        add_text(at(&x, plot->expected), TOP - 6, "d", "end", plot->expected_label, out);
    }
    end(out);
}

static size_t lane_of(const char *const *lanes, size_t n, const char *name)
{
    size_t i = 0;
    while (i < n && strcmp(lanes[i], name) != 0)
        i++;
    return i;
}

static void add_mark(const struct mu_report_mark *m, const struct axis *x, double y,
                     struct mu_text *out)
{
    const char *colour = m->strong ? "var(--bad)" : "var(--s0)";
    if (m->low < m->high)
        mu_text_printf(out,
                       "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"%s\" "
                       "stroke-width=\"2\"/>",
                       at(x, m->low), y, at(x, m->high), y, colour);
    mu_text_printf(out, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"4\" fill=\"%s\"><title>", at(x, m->x),
                   y, colour);
    mu_report_html_text(m->text, out);
    mu_text_str(out, "</title></circle>");
}

void mu_report_plot_marks(const struct mu_report_plot *plot, const struct mu_report_mark *marks,
                          size_t n, struct mu_text *out)
{
    const char *lanes[LANES_MAX];
    size_t n_lanes = 0;
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (size_t i = 0; i < n; i++) {
        size_t lane = lane_of(lanes, n_lanes, marks[i].lane);
        if (lane == n_lanes && n_lanes < LANES_MAX) lanes[n_lanes++] = marks[i].lane;
        bool wide = marks[i].low < marks[i].high;
        low = MU_MIN(low, MU_MIN(marks[i].x, wide ? marks[i].low : marks[i].x));
        high = MU_MAX(high, MU_MAX(marks[i].x, wide ? marks[i].high : marks[i].x));
    }
    double bottom = TOP + (double)n_lanes * LANE;
    struct axis x = axis_make(low, high, LEFT, RIGHT - 10);
    begin(plot, bottom + 40, out);
    add_x_axis(&x, TOP, bottom, plot->x_label, out);
    add_line(at(&x, 0), TOP, at(&x, 0), bottom, "a", out);
    for (size_t i = 0; i < n_lanes; i++)
        add_lane(TOP + (double)i * LANE + LANE / 2.0, lanes[i], out);
    for (int strong = 0; strong < 2; strong++) /* those on top of the others */
        for (size_t i = 0; i < n; i++) {
            size_t lane = lane_of(lanes, n_lanes, marks[i].lane);
            if (lane < n_lanes && marks[i].strong == (strong != 0))
                add_mark(&marks[i], &x, TOP + (double)lane * LANE + LANE / 2.0, out);
        }
    end(out);
}
