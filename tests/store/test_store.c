/* The store's file: what is put comes back, in a file that others share, mistake or damage. */
#include "store/store.h"

#include "base/file.h"
#include "store/sqlite.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[512], path[600];

static int folder_make(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/muster-store-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(folder)) return -1;
    (void)snprintf(path, sizeof path, "%s/deep/er/runs.db", folder);
    return 0;
}

static int folder_remove(void **state)
{
    (void)state;
    static const char *const names[] = {
        "deep/er/runs.db", "deep/er/runs.db-wal", "deep/er/runs.db-shm", "deep/er", "deep", ""};
    for (size_t i = 0; i < MU_ARRAY_LEN(names); i++) {
        char name[700];
        (void)snprintf(name, sizeof name, "%s/%s", folder, names[i]);
        (void)remove(name);
    }
    return 0;
}

static struct mu_store *store_open(enum mu_store_mode mode)
{
    struct mu_store *s = NULL;
    struct mu_err err = MU_ERR_INIT;
    mu_status status = mu_store_open(path, mode, &s, &err);
    if (status != MU_OK) fail_msg("%s: %s", err.where, err.what);
    return s;
}

static void run_fill(struct mu_store_run *run, const char *command, double speed)
{
    assert_int_equal(mu_store_run_init(run, NULL), MU_OK);
    run->command = command;
    run->at = "2026-01-02T03:04:05.678Z";
    run->model = "models/Some-Model.gguf";
    run->seconds = 1.5;
    mu_store_run_setting(run, "devices", "cpu:2");
    mu_store_run_figure(run, MU_STORE_PREDICTED, "decode_tokens_per_s", speed + 1);
    mu_store_run_figure(run, MU_STORE_MEASURED, "decode_tokens_per_s", speed);
    mu_store_run_figure(run, MU_STORE_MEASURED, "ttft_ms", (double)NAN);
    mu_store_run_sample(run, MU_STORE_MEASURED, "decode_tokens_per_s", 0.25, speed);
    mu_store_run_sample(run, MU_STORE_MEASURED, "decode_tokens_per_s", (double)NAN, speed);
    mu_store_run_finding(run,
                         &(struct mu_store_finding){
                             .level = "bad", .code = "x", .text = "it's", .at_s = (double)NAN});
}

static void put(struct mu_store *s, const char *command, double speed, char id[MU_STORE_ID_SIZE])
{
    struct mu_store_run run;
    struct mu_err err = MU_ERR_INIT;
    run_fill(&run, command, speed);
    if (mu_store_put(s, &run, &err) != MU_OK) fail_msg("%s: %s", err.where, err.what);
    assert_int_equal(strlen(run.id), 8);
    (void)snprintf(id, MU_STORE_ID_SIZE, "%s", run.id);
    mu_store_run_fini(&run);
}

static size_t count(struct mu_store *s, const struct mu_store_filter *filter)
{
    struct mu_store_ids ids;
    assert_int_equal(mu_store_select(s, filter, &ids, NULL), MU_OK);
    size_t n = ids.n;
    mu_store_ids_fini(&ids);
    return n;
}

static void what_is_put_comes_back(void **state)
{
    (void)state;
    char id[MU_STORE_ID_SIZE];
    struct mu_store *s = store_open(MU_STORE_WRITE);
    put(s, "generate", 42.5, id);
    mu_store_close(s);
    s = store_open(MU_STORE_READ);
    struct mu_store_run run;
    size_t n;
    assert_int_equal(mu_store_get(s, id, MU_STORE_WHOLE, &run, NULL), MU_OK);
    assert_string_equal(run.id, id);
    assert_string_equal(run.command, "generate");
    assert_string_equal(run.at, "2026-01-02T03:04:05.678Z");
    assert_int_equal(run.number, 1);
    assert_true(run.seconds == 1.5);
    assert_string_equal(mu_store_run_setting_get(&run, "devices"), "cpu:2");
    assert_string_equal(mu_store_run_setting_get(&run, "absent"), "");
    const struct mu_store_figure *f = mu_store_run_figures(&run, &n);
    assert_int_equal(n, 2); /* the one that was no number is absent, not 0 */
    assert_int_equal(f[0].kind, MU_STORE_PREDICTED);
    assert_true(f[1].value == 42.5);
    assert_string_equal(f[1].unit, "tokens/s");
    const struct mu_store_sample *sample = mu_store_run_samples(&run, &n);
    assert_int_equal(n, 2);
    assert_true(sample[0].at_s == 0.25 && isnan(sample[1].at_s));
    const struct mu_store_finding *finding = mu_store_run_findings(&run, &n);
    assert_int_equal(n, 1);
    assert_string_equal(finding->text, "it's");
    assert_string_equal(finding->cure, "");
    assert_true(isnan(finding->at_s));
    mu_store_run_fini(&run);
    mu_store_close(s);
}

static void runs_are_found(void **state)
{
    (void)state;
    char ids[5][MU_STORE_ID_SIZE], id[MU_STORE_ID_SIZE];
    struct mu_store *s = store_open(MU_STORE_WRITE);
    for (int i = 0; i < 5; i++)
        put(s, i % 2 ? "prove" : "generate", i, ids[i]);
    assert_int_equal(mu_store_find(s, ids[2], id, NULL), MU_OK);
    assert_string_equal(id, ids[2]);
    assert_int_equal(mu_store_find(s, "last", id, NULL), MU_OK);
    assert_string_equal(id, ids[4]);
    assert_int_equal(mu_store_find(s, "last~3", id, NULL), MU_OK);
    assert_string_equal(id, ids[1]);
    char part[8];
    (void)snprintf(part, sizeof part, "%.7s", ids[3]);
    assert_int_equal(mu_store_find(s, part, id, NULL), MU_OK);
    assert_string_equal(id, ids[3]);
    static const char *const none[] = {"last~5", "last~", "last~x",     "lastly", "",
                                       "xyz",    "'; --", "0123456789", "*"};
    for (size_t i = 0; i < MU_ARRAY_LEN(none); i++) {
        struct mu_err err = MU_ERR_INIT;
        assert_int_equal(mu_store_find(s, none[i], id, &err), MU_E_INPUT);
        assert_true(err.what[0] && err.cure[0]);
    }
    static const char *const setting[] = {"devices=cpu:2"}, *const other[] = {"devices=cpu:3"};
    assert_int_equal(count(s, &(struct mu_store_filter){0}), 5);
    assert_int_equal(count(s, &(struct mu_store_filter){.command = "prove"}), 2);
    assert_int_equal(count(s, &(struct mu_store_filter){.last = 3}), 3);
    assert_int_equal(count(s, &(struct mu_store_filter){.model = "some-model"}), 5);
    assert_int_equal(count(s, &(struct mu_store_filter){.model = "other"}), 0);
    assert_int_equal(count(s, &(struct mu_store_filter){.settings = setting, .n_settings = 1}), 5);
    assert_int_equal(count(s, &(struct mu_store_filter){.settings = other, .n_settings = 1}), 0);
    /* 2026-01-02 03:04:05.678 is 1767323045.678 s after 1970. */
    assert_int_equal(count(s, &(struct mu_store_filter){.before_s = 1767323045}), 0);
    assert_int_equal(count(s, &(struct mu_store_filter){.before_s = 1767323046}), 5);
    struct mu_store_ids all;
    assert_int_equal(mu_store_select(s, &(struct mu_store_filter){.last = 2}, &all, NULL), MU_OK);
    assert_string_equal(all.p[0], ids[3]); /* the earlier first */
    mu_store_ids_fini(&all);
    mu_store_close(s);
}

static void removing_spares_baselines(void **state)
{
    (void)state;
    char ids[2][MU_STORE_ID_SIZE], id[MU_STORE_ID_SIZE];
    struct mu_err err = MU_ERR_INIT;
    struct mu_store *s = store_open(MU_STORE_WRITE);
    put(s, "check", 1, ids[0]);
    put(s, "check", 2, ids[1]);
    assert_int_equal(mu_store_baseline_get(s, "http://h", id, NULL), MU_E_MISSING);
    assert_int_equal(mu_store_baseline_set(s, "http://h", ids[0], NULL), MU_OK);
    assert_int_equal(mu_store_baseline_set(s, "http://h", ids[1], NULL), MU_OK);
    assert_int_equal(mu_store_baseline_get(s, "http://h", id, NULL), MU_OK);
    assert_string_equal(id, ids[1]);
    assert_int_not_equal(mu_store_baseline_set(s, "http://h", "00000000", NULL), MU_OK);
    struct mu_store_ids both = {ids, 2};
    assert_int_equal(mu_store_remove(s, &both, false, &err), MU_E_INPUT);
    assert_non_null(strstr(err.what, "is a baseline"));
    assert_int_equal(count(s, &(struct mu_store_filter){0}), 2); /* none of them went */
    assert_int_equal(mu_store_remove(s, &both, true, NULL), MU_OK);
    assert_int_equal(count(s, &(struct mu_store_filter){0}), 0);
    int64_t left;
    bool found;
    assert_int_equal(store_value(s, "SELECT count(*) FROM figures", NULL, &left, &found, NULL),
                     MU_OK);
    assert_int_equal(left, 0);
    mu_store_close(s);
}

static void several_share_a_file(void **state)
{
    (void)state;
    char id[MU_STORE_ID_SIZE];
    struct mu_store *a = store_open(MU_STORE_WRITE), *b = store_open(MU_STORE_WRITE);
    struct mu_store *c = store_open(MU_STORE_READ);
    put(a, "generate", 1, id);
    put(b, "generate", 2, id);
    assert_int_equal(count(c, &(struct mu_store_filter){0}), 2);
    mu_store_close(a);
    mu_store_close(b);
    mu_store_close(c);
}

/* Opens what `sql` made of an empty store's file. */
static mu_status reopened(const char *sql, struct mu_err *err)
{
    struct mu_store *s = store_open(MU_STORE_WRITE);
    char id[MU_STORE_ID_SIZE];
    put(s, "generate", 1, id);
    mu_status status = store_exec(s, sql, err);
    mu_store_close(s);
    assert_int_equal(status, MU_OK);
    s = NULL;
    status = mu_store_open(path, MU_STORE_WRITE, &s, err);
    if (status == MU_OK) {
        assert_int_equal(count(s, &(struct mu_store_filter){0}), 1);
        assert_int_equal(mu_store_baseline_set(s, "n", id, NULL), MU_OK);
    }
    mu_store_close(s);
    return status;
}

static void tables_of_other_versions(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(reopened("DROP TABLE baselines; PRAGMA user_version=1", &err), MU_OK);
    (void)folder_remove(NULL);
    assert_int_equal(folder_make(NULL), 0);
    assert_int_equal(reopened("PRAGMA user_version=99", &err), MU_E_UNSUPPORTED);
    assert_non_null(strstr(err.what, "a newer muster"));
    assert_non_null(strstr(err.what, "99"));
    assert_string_equal(err.where, path);
}

static mu_status opened_as(const void *bytes, size_t len, struct mu_err *err)
{
    char parent[560];
    struct mu_file_out out;
    struct mu_store *s = NULL;
    (void)snprintf(parent, sizeof parent, "%s/deep/er", folder);
    *err = MU_ERR_INIT;
    assert_int_equal(mu_folder_make(parent, NULL), MU_OK);
    assert_int_equal(mu_file_out_open(&out, path, NULL), MU_OK);
    assert_int_equal(mu_file_out_write(&out, bytes, len, NULL), MU_OK);
    assert_int_equal(mu_file_out_commit(&out, NULL), MU_OK);
    mu_file_out_close(&out);
    mu_status status = mu_store_open(path, MU_STORE_WRITE, &s, err);
    mu_store_close(s);
    return status;
}

static void files_that_are_no_store(void **state)
{
    (void)state;
    struct mu_err err;
    char id[MU_STORE_ID_SIZE];
    assert_int_equal(opened_as("just a note, longer than a header of SQLite is, which has a hundred"
                               " bytes in all, so that nobody takes it for an empty file",
                               122, &err),
                     MU_E_INPUT);
    assert_string_equal(err.what, "this is no SQLite file");
    assert_true(err.cure[0]);
    struct mu_store *s = NULL;
    (void)unlink(path);
    assert_int_equal(mu_store_open(path, MU_STORE_READ, &s, NULL), MU_E_MISSING);
    s = store_open(MU_STORE_WRITE);
    put(s, "generate", 1, id);
    assert_int_equal(store_exec(s, "PRAGMA application_id=7", NULL), MU_OK);
    mu_store_close(s);
    err = MU_ERR_INIT;
    assert_int_equal(mu_store_open(path, MU_STORE_READ, &s, &err), MU_E_INPUT);
    assert_non_null(strstr(err.what, "another program"));
    struct mu_text text;
    mu_text_init(&text, 1 << 20);
    assert_int_equal(mu_file_read(path, &text, NULL), MU_OK);
    memset(text.p + 1024, 0x5a, text.len - 1024);
    assert_int_equal(opened_as(text.p, text.len, &err), MU_E_INPUT);
    assert_non_null(strstr(err.what, "damaged"));
    assert_non_null(strstr(err.cure, ".recover"));
    mu_text_fini(&text);
}

static void texts_are_made_harmless(void **state)
{
    (void)state;
    struct mu_store_run run;
    assert_int_equal(mu_store_run_init(&run, NULL), MU_OK);
    assert_string_equal(mu_store_run_text(&run, mu_str("a\x1b[31mb\tc\nd\xc2\x9b"
                                                       "e\xff<\x7f")),
                        "a [31mb c\nd e\xef\xbf\xbd< ");
    assert_string_equal(mu_store_run_text(&run, (struct mu_str){"a\0b", 3}), "a b");
    mu_store_run_fini(&run);
}

static void figures_are_taken_from_documents(void **state)
{
    (void)state;
    static const char text[] =
        "{\"model\": \"m\", \"n\": 3, \"predicted\": {\"a_ms\": 1, \"devices\": [{\"device\": "
        "\"cpu:0\","
        " \"total_bytes\": 7}]}, \"placements\": [{\"placement\": \"tp2\", \"tp\": 2, \"measured\":"
        " {\"a_ms\": 2.5, \"s\": \"x\"}}], \"reported\": {\"list\": [{\"kv_percent\": 9}, 4, "
        "null]}}";
    static const struct {
        enum mu_store_kind kind;
        const char *name, *unit;
        double value;
    } wanted[] = {{MU_STORE_PREDICTED, "a_ms", "ms", 1},
                  {MU_STORE_PREDICTED, "cpu:0.total_bytes", "bytes", 7},
                  {MU_STORE_MEASURED, "tp2.a_ms", "ms", 2.5},
                  {MU_STORE_REPORTED, "list.0.kv_percent", "%", 9}};
    struct mu_store_run run;
    json_t *document = NULL;
    size_t n;
    assert_int_equal(mu_store_run_init(&run, NULL), MU_OK);
    assert_int_equal(mu_json_parse(mu_str(text), "test", &document, NULL), MU_OK);
    mu_store_run_take(&run, document);
    const struct mu_store_figure *f = mu_store_run_figures(&run, &n);
    assert_int_equal(n, MU_ARRAY_LEN(wanted));
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(f[i].kind, wanted[i].kind);
        assert_string_equal(f[i].name, wanted[i].name);
        assert_string_equal(f[i].unit, wanted[i].unit);
        assert_true(f[i].value == wanted[i].value);
    }
    json_decref(document);
    mu_store_run_fini(&run);
}

int main(void)
{
#define IN_FOLDER_(test) cmocka_unit_test_setup_teardown(test, folder_make, folder_remove)
    const struct CMUnitTest tests[] = {
        IN_FOLDER_(what_is_put_comes_back),
        IN_FOLDER_(runs_are_found),
        IN_FOLDER_(removing_spares_baselines),
        IN_FOLDER_(several_share_a_file),
        IN_FOLDER_(tables_of_other_versions),
        IN_FOLDER_(files_that_are_no_store),
        cmocka_unit_test(texts_are_made_harmless),
        cmocka_unit_test(figures_are_taken_from_documents),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
