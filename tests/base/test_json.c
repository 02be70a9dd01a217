/* JSON in and out. */
#include "base/json.h"

#include "base/alloc.h"

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void reads_documents(void **state)
{
    (void)state;
    json_t *root = NULL;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_json_parse(MU_STR("{\"a\": [1, 2.5, \"x\\u0000y\"]}"), "text", &root, &err),
                     MU_OK);
    const json_t *list = json_object_get(root, "a");
    assert_int_equal(json_integer_value(json_array_get(list, 0)), 1);
    assert_int_equal(json_string_length(json_array_get(list, 2)), 3);
    json_decref(root);
}

static void refuses(const char *text, const char *where, const char *what)
{
    json_t *root = NULL;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_json_parse(mu_str(text), "text", &root, &err), MU_E_INPUT);
    assert_null(root);
    if (where) assert_string_equal(err.where, where);
    if (!strstr(err.what, what)) fail_msg("'%s' does not say '%s'", err.what, what);
}

static void refuses_what_is_not_strict(void **state)
{
    (void)state;
    refuses("", NULL, "not valid JSON");
    refuses("{\"a\": 1,\n \"a\": 2}", "text, line 2, column 4", "duplicate");
    refuses("{} x", "text, line 1, column 4", "end of file expected");
    refuses("[1,]", NULL, "unexpected");
    refuses("[NaN]", NULL, "invalid token");
    refuses("[1e999]", NULL, "overflow");
    refuses("[99999999999999999999]", NULL, "big");
    refuses("[\"\xff\"]", NULL, "decode byte 0xff");
    refuses("[\"\\ud800\"]", NULL, "Unicode");
    refuses("[01]", NULL, "");
    char deep[5000];
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    refuses(deep, NULL, "depth");
}

static void reads_files_up_to_a_limit(void **state)
{
    (void)state;
    char path[1024];
    const char *folder = getenv("TMPDIR");
    (void)snprintf(path, sizeof path, "%s/json-%d", folder ? folder : "/tmp", (int)getpid());
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs("{\"k\": true}", f);
    (void)fclose(f);
    json_t *root = NULL;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_json_read(path, 11, &root, &err), MU_OK);
    assert_true(json_is_true(json_object_get(root, "k")));
    json_decref(root);
    assert_int_equal(mu_json_read(path, 10, &root, &err), MU_E_RESOURCE);
    assert_string_equal(err.where, path);
    (void)unlink(path);
    assert_int_equal(mu_json_read(path, 10, &root, NULL), MU_E_MISSING);
}

static void writes_strings_that_read_back(void **state)
{
    (void)state;
    struct mu_text out;
    mu_text_init(&out, 10000);
    mu_json_add_string(&out, MU_STR("a\"b\\c\nd\x01\te\x7f \xc3\xa9 \xf0\x9f\x98\x80 \xff."));
    assert_string_equal(mu_text_get(&out), "\"a\\\"b\\\\c\\nd\\u0001\\u0009e\x7f \xc3\xa9 "
                                           "\xf0\x9f\x98\x80 \xef\xbf\xbd.\"");
    mu_text_clear(&out);
    char all[256], want[256 * 3];
    size_t n = 0;
    for (int i = 0; i < 256; i++) {
        all[i] = (char)i;
        if (i < 0x80)
            want[n++] = (char)i;
        else
            memcpy(want + n, "\xef\xbf\xbd", 3), n += 3;
    }
    mu_text_char(&out, '[');
    mu_json_add_string(&out, (struct mu_str){all, sizeof all});
    mu_text_char(&out, ']');
    json_t *root = NULL;
    assert_int_equal(mu_json_parse((struct mu_str){out.p, out.len}, "", &root, NULL), MU_OK);
    const json_t *string = json_array_get(root, 0);
    assert_int_equal(json_string_length(string), n);
    assert_memory_equal(json_string_value(string), want, n);
    json_decref(root);
    mu_text_fini(&out);
}

static void writes_numbers_that_read_back(void **state)
{
    (void)state;
    struct mu_text out;
    mu_text_init(&out, 1000);
    mu_json_add_f32(&out, 0.1f);
    mu_text_char(&out, ' ');
    mu_json_add_f64(&out, -DBL_MIN);
    mu_text_char(&out, ' ');
    mu_json_add_f32(&out, NAN);
    mu_text_char(&out, ' ');
    mu_json_add_f64(&out, (double)-INFINITY);
    assert_string_equal(mu_text_get(&out), "0.1 -2.2250738585072014e-308 null null");
    mu_text_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_documents),
        cmocka_unit_test(refuses_what_is_not_strict),
        cmocka_unit_test(reads_files_up_to_a_limit),
        cmocka_unit_test(writes_strings_that_read_back),
        cmocka_unit_test(writes_numbers_that_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
