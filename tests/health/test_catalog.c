/* The catalogue itself: complete, compilable, refused with a place when it is broken; and the
 * prefilter misses nothing that the patterns match. */
#include "base/alloc.h"
#include "base/file.h"
#include "health/health_int.h"

#include "../data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct mu_health_catalog *catalog;

static void read_golden(const char *name, struct mu_text *out)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/golden/logs/%s", tests_folder(), name);
    mu_text_init(out, 1 << 20);
    assert_int_equal(mu_file_read(path, out, NULL), MU_OK);
}

static void test_compiles(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    char line[768];
    if (mu_health_catalog_check(catalog, &err) != MU_OK)
        fail_msg("%s", mu_err_line(&err, line, sizeof line));
    print_message("# %u rows, %u texts\n", catalog->n_rows, catalog->n_literals);
    assert_true(catalog->n_rows > 201);
}

/* Every cause word has a page, every accusing row a cause word, a meaning and a cure. */
static void test_rows_are_complete(void **state)
{
    (void)state;
    for (unsigned i = 0; i < catalog->n_rows; i++) {
        const struct mu_health_row *row = &catalog->rows[i];
        bool accuses = row->class == MU_HEALTH_CLASS_CAUSE ||
                       row->class == MU_HEALTH_CLASS_SYMPTOM ||
                       row->class == MU_HEALTH_CLASS_WEAK || row->class == MU_HEALTH_CLASS_SLOW;
        if (row->class == MU_HEALTH_CLASS_MARK) continue;
        if (row->cause[0] && !mu_health_family_of(row->cause)[0])
            fail_msg("%s: no page for %s", row->name, row->cause);
        if (accuses && (!row->cause[0] || !row->cure[0] || !row->meaning[0]))
            fail_msg("%s: cause, meaning or cure is missing", row->name);
    }
}

/* The pages have an anchor for each cause of the catalogue. */
static void test_pages_exist(void **state)
{
    (void)state;
    for (unsigned i = 0; i < catalog->n_rows; i++) {
        const struct mu_health_row *row = &catalog->rows[i];
        const char *family = mu_health_family_of(row->cause);
        if (!family[0]) continue;
        char path[512], heading[64];
        struct mu_text page;
        mu_text_init(&page, 1 << 20);
        (void)snprintf(path, sizeof path, "%s/../docs/findings/%s.md", tests_folder(), family);
        (void)snprintf(heading, sizeof heading, "## %s\n", row->cause);
        assert_int_equal(mu_file_read(path, &page, NULL), MU_OK);
        if (!strstr(mu_text_get(&page), heading)) fail_msg("%s lacks '%s'", path, heading);
        mu_text_fini(&page);
    }
}

static void for_each_line(const struct mu_text *text, void (*fn)(struct mu_str line))
{
    const char *p = mu_text_get(text);
    while (*p) {
        size_t n = strcspn(p, "\n");
        fn((struct mu_str){p, n});
        p += n + (p[n] == '\n');
    }
}

static unsigned n_lines, n_unknown;

static void classify(struct mu_str line)
{
    if (line.len == 0 || (line.p[0] == '#' && line.p[2] == 's'))
        return; /* the file's own heading */
    json_t *explanation = NULL;
    bool known = false;
    assert_int_equal(mu_health_explain(catalog, line, &explanation, &known, NULL), MU_OK);
    json_decref(explanation);
    n_lines++;
    n_unknown += !known;
    if (!known) print_message("# not classified: %.*s\n", (int)line.len, line.p);
}

static void test_samples(void **state)
{
    (void)state;
    struct mu_text text;
    read_golden("log_samples.txt", &text);
    for_each_line(&text, classify);
    print_message("# samples: %u of %u classified\n", n_lines - n_unknown, n_lines);
    assert_true(n_lines >= 94);
    assert_int_equal(n_unknown, 0);
    mu_text_fini(&text);
}

/* The rows that a line matches when all are tried, against those the stream reader reached. */
static void compare_reach(struct mu_str line)
{
    struct mu_health_diagnosis *d = NULL;
    json_t *explanation = NULL;
    bool known = false;
    if (line.len > 20000) return;
    assert_int_equal(mu_health_explain(catalog, line, &explanation, &known, NULL), MU_OK);
    assert_int_equal(mu_health_diagnosis_create(catalog, &d, NULL), MU_OK);
    assert_int_equal(mu_health_log_begin(d, "line", NULL), MU_OK);
    assert_int_equal(mu_health_log_feed(d, line.p, line.len, NULL), MU_OK);
    assert_int_equal(mu_health_log_end(d, NULL), MU_OK);
    uint64_t reached = 0;
    for (unsigned i = 0; i < catalog->n_rows; i++)
        reached += d->row_hits[i];
    if (reached != json_array_size(json_object_get(explanation, "rows")))
        fail_msg("the prefilter missed a row on: %.*s", (int)line.len, line.p);
    n_lines++;
    mu_health_diagnosis_destroy(d);
    json_decref(explanation);
}

static void test_prefilter_misses_nothing(void **state)
{
    (void)state;
    static const char *const logs[] = {"log_samples.txt",
                                       "incidents/09-t4x2-flashinfer-prefill.log",
                                       "incidents/27-shm-full-4gpu.log",
                                       "incidents/29-xid79-off-bus.log",
                                       "incidents/57-healthy-llama-server.log",
                                       "incidents/11-sglang-memfrac-0985.log"};
    n_lines = 0;
    for (size_t i = 0; i < MU_ARRAY_LEN(logs); i++) {
        struct mu_text text;
        read_golden(logs[i], &text);
        for_each_line(&text, compare_reach);
        mu_text_fini(&text);
    }
    assert_true(n_lines > 300);
}

/* Every text, after and before few bytes in memory of just this size. */
static void test_prefilter_finds_at_every_place(void **state)
{
    (void)state;
    for (unsigned i = 0; i < catalog->n_literals; i++)
        for (size_t place = 0; place < 64; place++) {
            struct mu_str text = catalog->literals[i].text;
            size_t before = place % 8, len = before + text.len + place / 8, pos = 0;
            char *bytes = mu_alloc(len);
            assert_non_null(bytes);
            memset(bytes, '~', len);
            memcpy(bytes + before, text.p, text.len);
            struct mu_health_hit hits[8];
            unsigned times = 0;
            for (size_t n;
                 (n = mu_health_prefilter_scan(&catalog->prefilter, (struct mu_str){bytes, len},
                                               &pos, hits, MU_ARRAY_LEN(hits)));)
                while (n-- > 0)
                    times += hits[n].literal == i;
            if (times != 1) fail_msg("found %u times at %zu: %s", times, before, text.p);
            mu_free(bytes);
        }
}

/* A text that is in most lines of a healthy log would cost the reader its speed. */
static void test_common_lines_are_cheap(void **state)
{
    (void)state;
    static const struct {
        const char *line;
        size_t hits;
    } common[] = {
        {"(APIServer pid=1) INFO:     127.0.0.1:35 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK",
         1},
        {"(APIServer pid=1) INFO 09-20 19:08:39 [launcher.py:44] Route: /openapi.json, Methods: "
         "GET",
         0},
        {"INFO 09-20 19:08:39 [async_llm.py:261] Added request chatcmpl-8a6e.", 0},
        {"srv  log_server_r: done request: POST /v1/chat/completions 127.0.0.1 200", 0},
        {"slot update_slots: id  0 | task 12 | prompt processing progress, n_past = 2048", 0},
        {"node-a:4900:5600 [0] NCCL INFO Channel 00/32 :    0   1   2   3   4   5   6   7", 0},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(common); i++) {
        struct mu_health_hit hits[16];
        size_t pos = 0;
        size_t n = mu_health_prefilter_scan(&catalog->prefilter, mu_str(common[i].line), &pos, hits,
                                            MU_ARRAY_LEN(hits));
        if (n != common[i].hits)
            fail_msg("'%.*s' is in a common line", (int)catalog->literals[hits[0].literal].text.len,
                     catalog->literals[hits[0].literal].text.p);
    }
}

static void test_broken_catalogues(void **state)
{
    (void)state;
    static const struct {
        const char *text, *what;
    } broken[] = {
        {"", "no rows"},
        {"a\tb\tc\n", "ten columns"},
        {"a\tb\tc\tcause\terror\t-\tabc\t-\t-\t-\n", "no 6 certain bytes"},
        {"a\tb\tc\twrong\terror\t-\tabcdefgh\t-\t-\t-\n", "there is no class 'wrong'"},
        {"a\tb\tc\tcause\tloud\t-\tabcdefgh\t-\t-\t-\n", "there is no severity 'loud'"},
        {"a\tb\tc\tcause\terror\t-\tabcdefgh\t-\t-\t-\na\tb\tc\tcause\terror\t-\tabcdefgh\t-\t-\t-"
         "\n",
         "already a row"},
        {"a\tb\tc\tcause\terror\t-\tabcdefgh(x\t-\t-\t-\n", "pattern of 'a'"},
        {"a\tb\tc\tcause\terror\t-\t(a|b|c)?x*[defghijk]\t-\t-\t-\n", "certain bytes"},
    };
    char folder[] = "/tmp/muster-catalog-XXXXXX", path[64];
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/logs.tsv", folder);
    for (size_t i = 0; i < MU_ARRAY_LEN(broken); i++) {
        FILE *f = fopen(path, "w");
        assert_non_null(f);
        (void)fputs(broken[i].text, f);
        (void)fclose(f);
        struct mu_health_catalog *c = NULL;
        struct mu_err err = MU_ERR_INIT;
        mu_status status = mu_health_catalog_open(folder, &c, &err);
        if (status == MU_OK) status = mu_health_catalog_check(c, &err);
        assert_int_equal(status, MU_E_INPUT);
        if (!strstr(err.what, broken[i].what)) fail_msg("case %zu says: %s", i, err.what);
        mu_health_catalog_close(c);
    }
    (void)unlink(path);
    (void)rmdir(folder);
    struct mu_health_catalog *c = NULL;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_health_catalog_open(folder, &c, &err), MU_E_MISSING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compiles),
        cmocka_unit_test(test_rows_are_complete),
        cmocka_unit_test(test_pages_exist),
        cmocka_unit_test(test_samples),
        cmocka_unit_test(test_prefilter_misses_nothing),
        cmocka_unit_test(test_prefilter_finds_at_every_place),
        cmocka_unit_test(test_common_lines_are_cheap),
        cmocka_unit_test(test_broken_catalogues),
    };
    struct mu_err err = MU_ERR_INIT;
    char line[768];
    if (mu_health_catalog_open(NULL, &catalog, &err) != MU_OK) {
        print_message("%s\n", mu_err_line(&err, line, sizeof line));
        return 1;
    }
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    mu_health_catalog_close(catalog);
    return rc;
}
