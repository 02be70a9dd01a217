/* Chat templates: golden renders, refusals with their place, every limit, many threads at once. */
#include "text/template.h"

#include "base/alloc.h"
#include "base/file.h"

#include "../data.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* What a template gives for variables in JSON; NULL: refused, with `err` filled. The caller frees.
 */
static char *render(const char *source, const char *variables, const struct mu_template_limits *l,
                    struct mu_err *err)
{
    struct mu_template *t = NULL;
    struct mu_text out;
    json_t *json = json_loads(variables, 0, NULL);
    assert_non_null(json);
    mu_text_init(&out, 1 << 26);
    *err = MU_ERR_INIT;
    mu_status status = mu_template_compile(mu_str(source), "test", &t, err);
    if (status == MU_OK) status = mu_template_render(t, json, l, "2025-03-14T15:09:26", &out, err);
    assert_int_equal(status, err->code);
    mu_template_destroy(t);
    json_decref(json);
    if (status == MU_OK) return mu_text_take(&out);
    assert_int_equal(out.len, 0);
    mu_text_fini(&out);
    return NULL;
}

static void gives(const char *source, const char *want)
{
    struct mu_err err;
    char *got =
        render(source, "{\"l\":[1,2],\"s\":\"h\\u00e9llo\",\"d\":{\"b\":1,\"a\":2}}", NULL, &err);
    if (!got) fail_msg("%s: %s", source, err.what);
    assert_string_equal(got, want);
    mu_free(got);
}

static void refuses(const char *source, const char *what, const char *where)
{
    struct mu_err err;
    assert_null(render(source, "{\"l\":[1]}", NULL, &err));
    assert_int_equal(err.code, MU_E_INPUT);
    if (!strstr(err.what, what)) fail_msg("%s: '%s', wanted '%s'", source, err.what, what);
    assert_string_equal(err.where, where);
}

static void small_golden_templates(void **state)
{
    (void)state;
    char *path = mu_path_join(tests_folder(), "golden/chat_mini.jsonl");
    struct mu_text text;
    mu_text_init(&text, 1 << 20);
    assert_int_equal(mu_file_read(path, &text, NULL), MU_OK);
    json_t *header = NULL;
    unsigned n = 0;
    char *rest = text.p;
    for (char *line; (line = strsep(&rest, "\n")) && *line;) {
        json_t *row = json_loads(line, 0, NULL), *variables;
        if (!header) {
            header = row;
            continue;
        }
        struct mu_err err;
        const json_t *want = json_object_get(row, "text");
        assert_int_equal(mu_template_variables(header, 0, &variables, NULL), MU_OK);
        char *json = json_dumps(variables, 0);
        char *got = render(json_string_value(json_object_get(row, "template")), json, NULL, &err);
        if (want)
            assert_string_equal(got, json_string_value(want));
        else
            assert_null(got);
        mu_free(got);
        mu_free(json);
        json_decref(variables);
        json_decref(row);
        n++;
    }
    assert_int_equal(n, 30);
    json_decref(header);
    mu_text_fini(&text);
    mu_free(path);
}

static void scopes_are_those_of_the_original(void **state)
{
    (void)state;
    gives("{% set b=0 %}{% for i in l %}{{ b }}{% set b = i %}{% endfor %}{{ b }}", "000");
    gives("{% for i in l %}{% if i == 1 %}{% set z = 9 %}{% endif %}{{ z }};{% endfor %}", "9;;");
    gives("{{ s }}{% set s = 1 %}{{ s }}", "h\xc3\xa9llo1");
    gives("{% macro f() %}{{ s }}{% endmacro %}{% set s = 5 %}{{ f() }}", "5");
    gives("{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
          "3210");
    gives("{% macro f() %}[{{ caller(2) }}]{% endmacro %}{% call(x) f() %}{{ x }}{% endcall %}",
          "[2]");
    gives("{% for i in [[1, [2]], [3, []]] recursive %}{{ i[0] }}{{ loop.depth }} {% endfor %}",
          "11 31 ");
    gives("{% for i in [[1], []] recursive %}<{{ loop(i) if i is iterable else i }}>{% endfor %}",
          "<<1>><>");
    gives("{% for i in l %}{% continue %}{% else %}none{% endfor %}", "none");
    gives("{% set ns = namespace(p=l) %}{% for i in l if i in ns.p %}{% set ns.p = [] %}{{ i }}"
          "{% endfor %}",
          "1");
}

static void numbers_print_as_in_python(void **state)
{
    (void)state;
    gives(
        "{{ 1e16 }} {{ 123456789.125 }} {{ 1e-5 }} {{ 0.0001 }} {{ 1e15 }} {{ -0.0 }} {{ 5e-324 }}",
        "1e+16 123456789.125 1e-05 0.0001 1000000000000000.0 -0.0 5e-324");
    gives("{{ 2 ** 100 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7.5 // -2 }} {{ 9223372036854775807 + 1 }}",
          "1267650600228229401496703205376 -4 2 -4.0 9223372036854775808");
    gives("{{ 2.675|round(2) }} {{ 2.5|round }} {{ 7|round }} {{ '42.9'|int }} {{ "
          "'0x1F'|int(base=16) }}",
          "2.67 2.0 7 42 31");
    gives("{{ '%05.1f|%-4d|%+d|%x' % (2.25, 7, 7, 255) }} {{ '{:>6,}|{:.1%}'.format(12345, 0.5) }}",
          "002.2|7   |+7|ff 12,345|50.0%");
}

static void refusals_name_their_place(void **state)
{
    (void)state;
    refuses("a\n  {{ x.y }}", "'x' is undefined", "test, line 2, column 8");
    refuses("{{ 'h\xc3\xa9' }}{{ raise_exception('no ' ~ l[0]) }}", "no 1",
            "test, line 1, column 29");
    refuses("{% if l %}", "endif", "test, line 1, column 11");
    refuses("{{ l|nothing }}", "unknown filter 'nothing'", "test, line 1, column 6");
    refuses("{{ l is odder }}", "unknown test 'odder'", "test, line 1, column 9");
    refuses("{% include 'x' %}", "unknown statement 'include'", "test, line 1, column 4");
    refuses("{% break %}", "no loop", "test, line 1, column 4");
    refuses("{{ l.append(1) }}", "'append' of 'list' object is unsafe", "test, line 1, column 12");
    refuses("{{ ''.__class__() }}", "unsafe", "test, line 1, column 16");
    refuses("{{ [1}", "unexpected '}', expected ']'", "test, line 1, column 6");
    refuses("{{ 'a", "closing quote", "test, line 1, column 4");
    refuses("{# a", "comment", "test, line 1, column 1");
    refuses("{{ 1 + 'a' }}", "unsupported operand", "test, line 1, column 6");
    refuses("{{ 1 // 0 }}", "zero", "test, line 1, column 6");
    refuses("{{ 2 ** 200 }}", "128 bits", "test, line 1, column 6");
    /* An unknown filter in a branch waits until the branch is taken. */
    gives("{% if not l %}{{ l|nothing }}{% endif %}ok", "ok");
}

static void hostile_templates_end(void **state)
{
    (void)state;
    static const struct {
        const char *source, *what;
        struct mu_template_limits limits;
    } cases[] = {
#define BIG                                                                                        \
    .steps = 1000000, .output_bytes = 1 << 20, .memory_bytes = 8 << 20, .calls = 20,               \
    .wall_ms = 10000
        {"{% for i in range(99999999999) %}x{% endfor %}", "range too big", {BIG}},
        {"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
         "steps",
         {BIG}},
        {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "calls inside each other", {BIG}},
        {"{% set n = namespace(s='aaaaaaaaaaaaaaaa') %}{% for i in range(99) %}"
         "{% set n.s = n.s ~ n.s %}{% endfor %}",
         "memory",
         {BIG}},
        {"{% set n = namespace(s=[1]) %}{% for i in range(99999) %}{% set n.s = [n.s] %}"
         "{% endfor %}{{ n.s }}",
         "levels of nesting",
         {BIG}},
        {"{% set n = namespace(s=[1]) %}{% for i in range(40) %}{% set n.s = [n.s, n.s] %}"
         "{% endfor %}{{ n.s == n.s|list|list + [] }}{{ n.s|tojson }}",
         "",
         {BIG}},
        {"{{ 'x' * 2000000 }}", "writes more than", {BIG}},
        {"{{ 'x' * 99999999999 }}", "", {BIG}},
        {"{{ '%999999999d' % 1 }}", "width", {BIG}},
        {"{{ 'x'.center(10 ** 18) }}", "", {BIG}},
        {"{% for i in range(99999) %}{{ i }}{% endfor %}",
         "longer than 0 ms",
         {.steps = 1 << 30, .output_bytes = 1 << 20, .memory_bytes = 64 << 20, .calls = 9}},
    };
    for (unsigned i = 0; i < MU_ARRAY_LEN(cases); i++) {
        struct mu_err err;
        char *got = render(cases[i].source, "{}", &cases[i].limits, &err);
        if (got) fail_msg("%s was rendered", cases[i].source);
        if (!strstr(err.what, cases[i].what)) fail_msg("%s: %s", cases[i].source, err.what);
        assert_int_equal(err.code, MU_E_INPUT);
    }
}

/* The same piece many times over, around a middle. */
static char *nested(const char *open, const char *middle, const char *close, unsigned n)
{
    struct mu_text text;
    mu_text_init(&text, 1 << 20);
    for (unsigned i = 0; i < n; i++)
        mu_text_str(&text, open);
    mu_text_str(&text, middle);
    for (unsigned i = 0; i < n; i++)
        mu_text_str(&text, close);
    return mu_text_take(&text);
}

static void deep_nesting_is_refused(void **state)
{
    (void)state;
    static const char *const pieces[][3] = {{"{% if l %}", "", "{% endif %}"},
                                            {"{% for i in l %}", "", "{% endfor %}"},
                                            {"{{ ", "1", " }}"},
                                            {"{{ not ", "1 }}", ""},
                                            {"{{ - ", "1 }}", ""},
                                            {"{{ 1", " }}", " + 1 }}"},
                                            {"{% for (", "a", ") %}"},
                                            {"{{ 1 if 0 else ", "1 }}", ""},
                                            {"{% macro f() %}", "", "{% endmacro %}"}};
    for (unsigned i = 0; i < MU_ARRAY_LEN(pieces); i++) {
        struct mu_err err;
        char *source = nested(pieces[i][0], pieces[i][1], pieces[i][2], 20000);
        char *got = render(source, "{\"l\":[1]}", NULL, &err);
        assert_null(got);
        mu_free(source);
    }
    char *brackets = nested("", "{{ 0", "", 1), *sum = nested(" + 1", " }}", "", 2000);
    struct mu_text text;
    struct mu_err err;
    mu_text_init(&text, 1 << 20);
    mu_text_printf(&text, "%s%s", brackets, sum);
    assert_null(render(mu_text_get(&text), "{}", NULL, &err));
    assert_non_null(strstr(err.what, "levels of nesting"));
    mu_text_fini(&text);
    mu_free(brackets);
    mu_free(sum);
}

static void the_clock_can_be_pinned(void **state)
{
    (void)state;
    gives("{{ strftime_now('%d %b %Y|%A %-d %B|%H:%M:%S|%j %p %I %y %%|%F') }}",
          "14 Mar 2025|Friday 14 March|15:09:26|073 PM 03 25 %|2025-03-14");
    static const char *const bad[] = {
        "",           "2025",        "2025-13-01",          "2025-02-30",
        "2025/03/14", "2025-03-14T", "2025-03-14T99:00:00", "x"};
    for (unsigned i = 0; i < MU_ARRAY_LEN(bad); i++) {
        struct mu_template *t;
        struct mu_text out;
        json_t *none = json_object();
        mu_text_init(&out, 100);
        assert_int_equal(mu_template_compile(MU_STR("{{ strftime_now('%Y') }}"), "test", &t, NULL),
                         MU_OK);
        assert_int_equal(mu_template_render(t, none, NULL, bad[i], &out, NULL), MU_E_INPUT);
        assert_int_equal(mu_template_render(t, none, NULL, NULL, &out, NULL), MU_OK);
        assert_int_equal(out.len, 4);
        mu_text_fini(&out);
        mu_template_destroy(t);
        json_decref(none);
    }
}

static void conversations_become_variables(void **state)
{
    (void)state;
    json_t *in = json_loads("{\"messages\":[{\"role\":\"a\",\"reasoning_content\":\"why\"},5],"
                            "\"variables\":{\"bos_token\":\"<s>\",\"tools\":[1]}}",
                            0, NULL);
    json_t *before = json_deep_copy(in), *out;
    json_t *want = json_loads("{\"messages\":[{\"role\":\"a\",\"reasoning_content\":\"why\","
                              "\"thinking\":\"why\"},5],\"tools\":[1],\"documents\":null,"
                              "\"add_generation_prompt\":false,\"bos_token\":\"<s>\"}",
                              0, NULL);
    assert_int_equal(mu_template_variables(in, 0, &out, NULL), MU_OK);
    assert_true(json_equal(out, want));
    assert_true(json_equal(in, before));
    json_decref(out);
    json_object_set_new(in, "messages", json_string("no"));
    assert_int_equal(mu_template_variables(in, 0, &out, NULL), MU_E_INPUT);
    json_decref(in);
    json_decref(before);
    json_decref(want);
}

static void arguments_in_strings_become_objects(void **state)
{
    (void)state;
    json_t *in = json_loads(
        "{\"messages\":[{\"tool_calls\":[{\"function\":{\"arguments\":\"{\\\"a\\\":1}\"}},"
        "{\"function\":{\"arguments\":\"no json\"}},{\"function\":{\"arguments\":{}}},5]}]}",
        0, NULL);
    json_t *before = json_deep_copy(in), *out;
    json_t *want = json_loads(
        "[{\"tool_calls\":[{\"function\":{\"arguments\":{\"a\":1}}},"
        "{\"function\":{\"arguments\":\"no json\"}},{\"function\":{\"arguments\":{}}},5]}]",
        0, NULL);
    assert_int_equal(mu_template_variables(in, MU_TEMPLATE_PARSE_ARGUMENTS, &out, NULL), MU_OK);
    assert_true(json_equal(json_object_get(out, "messages"), want));
    assert_true(json_equal(in, before));
    json_decref(in);
    json_decref(before);
    json_decref(want);
    json_decref(out);
}

struct worker {
    const struct mu_template *t;
    json_t *variables;
    bool good;
};

static void *work(void *arg)
{
    struct worker *w = arg;
    w->good = true;
    for (unsigned i = 0; i < 200; i++) {
        struct mu_text out;
        mu_text_init(&out, 1000);
        mu_status status = mu_template_render(w->t, w->variables, NULL, NULL, &out, NULL);
        w->good &= status == MU_OK && strcmp(mu_text_get(&out), "A:{\"k\": [1, 2]};B:null;") == 0;
        mu_text_fini(&out);
    }
    return NULL;
}

static void threads_share_a_template(void **state)
{
    (void)state;
    struct mu_template *t;
    pthread_t threads[4];
    struct worker workers[4];
    json_t *variables = json_loads("{\"l\":[[\"a\",{\"k\":[1,2]}],[\"b\",null]]}", 0, NULL);
    struct mu_str source = MU_STR("{% macro f(x) %}{{ x|upper }}{% endmacro %}"
                                  "{% for a, b in l %}{{ f(a) }}:{{ b|tojson }};{% endfor %}");
    assert_int_equal(mu_template_compile(source, "test", &t, NULL), MU_OK);
    for (unsigned i = 0; i < 4; i++) {
        workers[i] = (struct worker){t, variables, false};
        assert_int_equal(pthread_create(&threads[i], NULL, work, &workers[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        (void)pthread_join(threads[i], NULL);
        assert_true(workers[i].good);
    }
    mu_template_destroy(t);
    json_decref(variables);
}

static void contents_in_parts_become_one_text(void **state)
{
    static const struct {
        const char *content, *joined, *says; /* joined NULL: refused */
    } cases[] = {
        {"[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\\u0000c\"}]",
         "\"a\\nb\\u0000c\"", ""},
        {"[]", "\"\"", ""},
        {"\"plain\"", "\"plain\"", ""},
        {"[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"image_url\",\"image_url\":{}}]", NULL,
         "part 2 of message 1 is of type image_url: only text is read"},
        {"[{\"type\":\"text\"}]", NULL, "part 1 of message 1 has no \"text\""},
        {"[\"a\"]", NULL, "part 1 of message 1 has no \"type\""},
    };
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(cases); i++) {
        json_t *content = json_loads(cases[i].content, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL),
               *out;
        json_t *in = json_pack("{s:[{s:O}]}", "messages", "content", content);
        struct mu_err err = MU_ERR_INIT;
        mu_status status = mu_template_variables(in, MU_TEMPLATE_JOIN_PARTS, &out, &err);
        assert_string_equal(err.what, cases[i].says);
        if (cases[i].joined) {
            json_t *want = json_loads(cases[i].joined, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
            assert_int_equal(status, MU_OK);
            json_t *message = json_array_get(json_object_get(out, "messages"), 0);
            assert_true(json_equal(json_object_get(message, "content"), want));
            json_decref(want);
            json_decref(out);
        }
        json_decref(content);
        json_decref(in);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(small_golden_templates),
        cmocka_unit_test(scopes_are_those_of_the_original),
        cmocka_unit_test(numbers_print_as_in_python),
        cmocka_unit_test(refusals_name_their_place),
        cmocka_unit_test(hostile_templates_end),
        cmocka_unit_test(deep_nesting_is_refused),
        cmocka_unit_test(the_clock_can_be_pinned),
        cmocka_unit_test(conversations_become_variables),
        cmocka_unit_test(arguments_in_strings_become_objects),
        cmocka_unit_test(contents_in_parts_become_one_text),
        cmocka_unit_test(threads_share_a_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
