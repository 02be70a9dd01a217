/* Pages and plots: whatever the texts and numbers are, the page keeps its own structure. */
#include "report/report.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static const char hostile[] = "</title><script>alert(1)</script>\"'&\x1b[2J\xff\xe2\x80\xae";

/* How often `what` stands in the text. */
static unsigned count(const struct mu_text *text, const char *what)
{
    unsigned n = 0;
    for (const char *p = mu_text_get(text); (p = strstr(p, what)); p++)
        n++;
    return n;
}

static void texts_are_escaped(void **state)
{
    (void)state;
    struct mu_text out;
    mu_text_init(&out, 1 << 16);
    mu_report_html_text(hostile, &out);
    assert_string_equal(mu_text_get(&out),
                        "&#60;/title&#62;&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#38;"
                        "\xef\xbf\xbd[2J\xef\xbf\xbd\xef\xbf\xbd");
    mu_text_clear(&out);
    mu_report_html_text("na\xc3\xafve \xe2\x82\xac\n\xf0\x9f\x98\x80", &out);
    assert_string_equal(mu_text_get(&out), "na\xc3\xafve \xe2\x82\xac\n\xf0\x9f\x98\x80");
    mu_text_fini(&out);
}

static void a_page_needs_nothing_else(void **state)
{
    (void)state;
    static const char *const heads[] = {"a", ">b"}, *const cells[] = {hostile, NULL};
    struct mu_text out;
    mu_text_init(&out, 1 << 16);
    mu_report_html_begin(hostile, &out);
    mu_report_html_table_begin(heads, 2, &out);
    mu_report_html_row(heads, cells, 2, &out);
    mu_report_html_table_end(&out);
    mu_report_html_end(&out);
    static const char *const none[] = {
        "<script", "http://", "https://", "src=", "href=", "url(", "@import", "\x1b"};
    for (size_t i = 0; i < MU_ARRAY_LEN(none); i++)
        assert_int_equal(count(&out, none[i]), 0);
    assert_int_equal(count(&out, "<td"), 2);
    assert_int_equal(count(&out, "<td class=\"r\"></td>"), 1);
    assert_int_equal(count(&out, "</html>"), 1);
    mu_text_fini(&out);
}

static void plots_hold_any_number(void **state)
{
    (void)state;
    static const double values[] = {0,   1,         -1,   1e-300, 1e300, 1.7e308, -1.7e308,
                                    0.1, 123456789, 42.5, 1e9,    3,     -0.0,    5e-324};
    struct mu_text out;
    mu_text_init(&out, 1 << 22);
    for (size_t i = 0; i < MU_ARRAY_LEN(values); i++)
        for (size_t j = 0; j < MU_ARRAY_LEN(values); j++) {
            struct mu_report_point points[] = {{values[i], values[j]}, {values[j], values[i]}};
            struct mu_report_series series[] = {{hostile, points, 2}, {"none", points, 0}};
            struct mu_report_plot plot = {.title = hostile,
                                          .x_label = "x",
                                          .unit = "W",
                                          .series = series,
                                          .n_series = 2,
                                          .expected = i % 2 ? values[j] : (double)NAN,
                                          .expected_label = hostile};
            struct mu_report_bar bars[] = {{hostile, values[i], values[j]},
                                           {"b", values[j], (double)NAN}};
            struct mu_report_mark marks[] = {
                {hostile, hostile, values[i], 0, 0, true},
                {"b", "", values[j], -fabs(values[i]), fabs(values[i]), false}};
            mu_text_clear(&out);
            mu_report_plot_lines(&plot, &out);
            mu_report_plot_bars(&plot, bars, 2, &out);
            mu_report_plot_marks(&plot, marks, 2, &out);
            assert_int_equal(count(&out, "<svg"), 3);
            assert_int_equal(count(&out, "</svg>"), 3);
            assert_int_equal(count(&out, "nan") + count(&out, "inf"), 0);
            assert_int_equal(count(&out, "<script"), 0);
            assert_true(out.len < 20000);
        }
    mu_text_fini(&out);
}

static void axes_have_round_ticks_from_zero(void **state)
{
    (void)state;
    static const struct mu_report_bar bars[] = {{"one", 93, (double)NAN}, {"two", 47.5, 120}};
    struct mu_text out;
    mu_text_init(&out, 1 << 16);
    mu_report_plot_bars(&(struct mu_report_plot){.title = "speed",
                                                 .x_label = "",
                                                 .unit = "tokens/s",
                                                 .expected = 100,
                                                 .expected_label = "expected"},
                        bars, 2, &out);
    static const char *const ticks[] = {">0<", ">50<", ">100<", ">150<", ">93<", ">47.5<"};
    for (size_t i = 0; i < MU_ARRAY_LEN(ticks); i++)
        assert_int_equal(count(&out, ticks[i]), 1);
    /* 550 wide from 0 to 150: 93 is 341 of it. */
    assert_int_equal(count(&out, "width=\"341.0\""), 1);
    assert_int_equal(count(&out, "width=\"440.0\" height=\"14\" class=\"of\""), 1);
    assert_int_equal(count(&out, "x1=\"516.7\""), 2); /* the grid at 100 and the expected level */
    mu_text_fini(&out);
}

static void many_points_are_thinned(void **state)
{
    (void)state;
    static struct mu_report_point points[100000];
    struct mu_report_series series[40];
    struct mu_text out;
    mu_text_init(&out, 1 << 20);
    for (size_t i = 0; i < MU_ARRAY_LEN(points); i++)
        points[i] = (struct mu_report_point){(double)i, sin((double)i)};
    for (size_t i = 0; i < MU_ARRAY_LEN(series); i++)
        series[i] = (struct mu_report_series){"s", points, MU_ARRAY_LEN(points)};
    mu_report_plot_lines(&(struct mu_report_plot){.title = "t",
                                                  .x_label = "x",
                                                  .unit = "",
                                                  .series = series,
                                                  .n_series = 40,
                                                  .expected = (double)NAN},
                         &out);
    assert_true(out.len < 80000);
    mu_text_fini(&out);
}

static void csv_is_quoted_where_it_must_be(void **state)
{
    (void)state;
    static const char *const cells[] = {"plain", "a,b", "say \"x\"", "two\nlines", ""};
    struct mu_text out;
    mu_text_init(&out, 1024);
    mu_report_csv_row(cells, MU_ARRAY_LEN(cells), &out);
    assert_string_equal(mu_text_get(&out), "plain,\"a,b\",\"say \"\"x\"\"\",\"two\nlines\",\r\n");
    mu_text_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_escaped),
        cmocka_unit_test(a_page_needs_nothing_else),
        cmocka_unit_test(plots_hold_any_number),
        cmocka_unit_test(axes_have_round_ticks_from_zero),
        cmocka_unit_test(many_points_are_thinned),
        cmocka_unit_test(csv_is_quoted_where_it_must_be),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
