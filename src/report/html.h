/*
 * Reports as one HTML page that needs nothing beside it: no script, no font, no picture from
 * elsewhere; light or dark as the reader's system is, and fit for paper. All text is escaped here.
 * Knows nothing of what it shows. One thread.
 */
#ifndef MU_REPORT_HTML_H
#define MU_REPORT_HTML_H

#include "base/text.h"

void mu_report_html_begin(const char *title, struct mu_text *out);
void mu_report_html_end(struct mu_text *out);
/* Text of any origin, harmless: markup is escaped, control characters and what is no UTF-8 are
 * replaced. */
void mu_report_html_text(const char *s, struct mu_text *out);
/* <tag class="...">text</tag>; `class` may be NULL. */
void mu_report_html_element(const char *tag, const char *class, const char *text,
                            struct mu_text *out);
/* A table; its heads' first character '>' puts a column to the right, as in mu_report_table. */
void mu_report_html_table_begin(const char *const *heads, size_t n, struct mu_text *out);
void mu_report_html_row(const char *const *heads, const char *const *cells, size_t n,
                        struct mu_text *out);
void mu_report_html_table_end(struct mu_text *out);

/* --- plots, as SVG within the page ------------------------------------------------------------ */

struct mu_report_point {
    double x, y;
};

struct mu_report_series {
    const char *name;
    const struct mu_report_point *points; /* x ascending */
    size_t n;
};

/* Axes begin at 0, unless a value is below it: a line that looks twice as high is. */
struct mu_report_plot {
    const char *title, *x_label, *unit;
    const struct mu_report_series *series;
    size_t n_series;
    double expected; /* a level that is drawn across; NAN: none */
    const char *expected_label;
};

/* Lines over a common x; thinned where there are more points than a page can show. */
void mu_report_plot_lines(const struct mu_report_plot *plot, struct mu_text *out);

struct mu_report_bar {
    const char *label;
    double value, of; /* of: the whole it is a part of, drawn as a frame; NAN: none */
};
/* One bar under the other; `plot` gives title, unit and the expected level. */
void mu_report_plot_bars(const struct mu_report_plot *plot, const struct mu_report_bar *bars,
                         size_t n, struct mu_text *out);

struct mu_report_mark {
    const char *lane, *text; /* text: shown to who points at it */
    double x, low, high;     /* an interval around it; 0 and 0: none */
    bool strong;
};
/* Marks along x, one lane for each name, in the order of their first mark. */
void mu_report_plot_marks(const struct mu_report_plot *plot, const struct mu_report_mark *marks,
                          size_t n, struct mu_text *out);

#endif
