/* Files made to do harm: each case is laid over a good model in a folder of its own, opened, and
 * must be refused, accepted, or either, as the list says. */
#include "format/format.h"

#include "../data.h"
#include "base/file.h"
#include "base/json.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

/* Their fault shows only to who builds the model or the tokenizer; those rooms' tests have them. */
static const char *const not_ours[] = {
    "st_missing_tensor",    "st_wrong_shape", "st_nan_weights",      "config_vocab_mismatch",
    "config_unknown_model", "tok_",           "gguf_missing_tensor",
};

static bool is_ours(const char *id)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(not_ours); i++)
        if (strncmp(id, not_ours[i], strlen(not_ours[i])) == 0) return false;
    return true;
}

static void copy_file(const char *from_folder, const char *to_folder, const char *name)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_text bytes;
    struct mu_file_out out;
    char *from = mu_path_join(from_folder, name), *to = mu_path_join(to_folder, name);
    mu_text_init(&bytes, 64 << 20);
    assert_int_equal(mu_file_read(from, &bytes, &err), MU_OK);
    assert_int_equal(mu_file_out_open(&out, to, &err), MU_OK);
    assert_int_equal(mu_file_out_write(&out, mu_text_get(&bytes), bytes.len, &err), MU_OK);
    assert_int_equal(mu_file_out_commit(&out, &err), MU_OK);
    mu_file_out_close(&out);
    mu_text_fini(&bytes);
    mu_free(from);
    mu_free(to);
}

static void remove_file(const char *folder, const char *name)
{
    char *path = mu_path_join(folder, name);
    (void)unlink(path);
    mu_free(path);
}

static const char *const base_files[] = {"config.json", "generation_config.json",
                                         "model.safetensors", "tokenizer.json",
                                         "tokenizer_config.json"};

static void lay_out(const char *hostile, const char *folder, const json_t *c)
{
    char below[160];
    const json_t *value;
    size_t i;
    bool gguf = strcmp(json_string_value(json_object_get(c, "kind")), "gguf") == 0;
    char *base = mu_path_join(hostile, "base");
    for (i = 0; i < MU_ARRAY_LEN(base_files) && !gguf; i++)
        copy_file(base, folder, base_files[i]);
    json_array_foreach(json_object_get(c, "remove_from_base"), i, value)
    {
        remove_file(folder, json_string_value(value));
    }
    (void)snprintf(below, sizeof below, "cases/%s", json_string_value(json_object_get(c, "id")));
    char *files = mu_path_join(hostile, below);
    json_array_foreach(json_object_get(c, "files"), i, value)
    {
        copy_file(files, folder, json_string_value(value));
    }
    mu_free(files);
    mu_free(base);
}

static void clean_up(const char *folder, const json_t *c)
{
    const json_t *value;
    size_t i;
    for (i = 0; i < MU_ARRAY_LEN(base_files); i++)
        remove_file(folder, base_files[i]);
    json_array_foreach(json_object_get(c, "files"), i, value)
    {
        remove_file(folder, json_string_value(value));
    }
}

static bool run_case(const char *hostile, const char *folder, const json_t *c)
{
    const char *id = json_string_value(json_object_get(c, "id"));
    const char *must = json_string_value(json_object_get(c, "must"));
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file = NULL;
    char line[768];
    lay_out(hostile, folder, c);
    mu_status status = mu_model_file_open(folder, 0, &file, &err);
    bool good = strcmp(must, "either") == 0 || (status == MU_OK) == (strcmp(must, "ok") == 0);
    if (!good) print_error("%s must be %s: %s\n", id, must, mu_err_line(&err, line, sizeof line));
    if (status != MU_OK) {
        good &= err.code == status && err.what[0] && strstr(err.where, folder) == err.where;
        good &= mu_status_exit(status) == 3;
        if (!good) print_error("%s: '%s'\n", id, mu_err_line(&err, line, sizeof line));
    }
    mu_model_file_close(file);
    clean_up(folder, c);
    return good;
}

static void check_cases(void **state)
{
    (void)state;
    char folder[] = "/tmp/muster-hostile-XXXXXX";
    struct mu_err err = MU_ERR_INIT;
    json_t *index;
    const json_t *c;
    size_t i, n = 0, bad = 0;
    char *hostile = data_path("golden/hostile"), *list = mu_path_join(hostile, "index.json");
    assert_non_null(mkdtemp(folder));
    assert_int_equal(mu_json_read(list, 1 << 20, &index, &err), MU_OK);
    json_array_foreach(index, i, c)
    {
        if (!is_ours(json_string_value(json_object_get(c, "id")))) continue;
        bad += !run_case(hostile, folder, c);
        n++;
    }
    print_message("# %zu cases\n", n);
    (void)rmdir(folder);
    json_decref(index);
    mu_free(hostile);
    mu_free(list);
    assert_int_equal(bad, 0);
    assert_true(n >= 70);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(check_cases)};
    return cmocka_run_group_tests_name("format/hostile", tests, NULL, NULL);
}
