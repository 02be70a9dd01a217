/* tokenizer.model against what the sentencepiece package answers (tests/oracle/pieces.py
 * makes the vectors), also once it was written as GGUF; and what is left of a model file that was
 * cut. */
#include "small.h"

#include "../data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static struct mu_tokenizer_spec *read_model(const char *kind)
{
    char name[64];
    struct mu_err err = MU_ERR_INIT;
    struct mu_tokenizer_spec *spec;
    (void)snprintf(name, sizeof name, "sentencepiece/%s/tokenizer.model", kind);
    require(mu_tokenizer_spec_read_file(golden_path(name), &spec, &err), &err);
    return spec;
}

/* A GGUF file that holds nothing but the tokenizer; gives up the spec. */
static struct mu_model_file *as_gguf(struct mu_tokenizer_spec *spec)
{
    char path[] = "/tmp/muster-test-XXXXXX";
    struct mu_err err = MU_ERR_INIT;
    struct mu_gguf_out *out;
    struct mu_model_file *file;
    struct mu_text notes;
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)close(fd);
    mu_text_init(&notes, 1 << 16);
    assert_int_equal(mu_gguf_out_create(path, &out, &err), MU_OK);
    mu_gguf_out_string(out, "general.architecture", MU_STR("llama"));
    assert_int_equal(mu_gguf_out_tokenizer(out, spec, 0, &notes, &err), MU_OK);
    assert_string_equal(mu_text_get(&notes), "");
    assert_int_equal(mu_gguf_out_begin(out, &err), MU_OK);
    assert_int_equal(mu_gguf_out_commit(out, &err), MU_OK);
    mu_gguf_out_close(out);
    mu_text_fini(&notes);
    mu_tokenizer_spec_destroy(spec);
    require(mu_model_file_open(path, 0, &file, &err), &err);
    (void)unlink(path);
    return file;
}

/* [text, ids, decoded] */
static void check_vector(const struct mu_tokenizer *t, const json_t *vector)
{
    const json_t *text = json_array_get(vector, 0), *ids = json_array_get(vector, 1);
    const json_t *decoded = json_array_get(vector, 2);
    struct mu_str s = {json_string_value(text), json_string_length(text)};
    struct mu_ids got = {0};
    struct mu_text back;
    mu_text_init(&back, 1 << 20);
    assert_int_equal(mu_tokenizer_encode(t, s, MU_ENCODE_PLAIN_SPECIAL, &got, NULL), MU_OK);
    assert_int_equal(got.n, json_array_size(ids));
    for (size_t i = 0; i < got.n; i++)
        assert_int_equal(got.p[i], json_integer_value(json_array_get(ids, i)));
    assert_int_equal(mu_tokenizer_decode(t, got.p, got.n, 0, &back, NULL), MU_OK);
    assert_int_equal(back.len, json_string_length(decoded));
    assert_memory_equal(mu_text_get(&back), json_string_value(decoded), back.len);
    mu_ids_fini(&got);
    mu_text_fini(&back);
}

/* All vectors of a kind; gives up the spec. */
static void check_vectors(const char *kind, struct mu_tokenizer_spec *spec)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_tokenizer *t;
    require(mu_tokenizer_create(spec, &t, &err), &err);
    mu_tokenizer_spec_destroy(spec);
    json_t *all = json_load_file(golden_path("sentencepiece/vectors.json"), JSON_ALLOW_NUL, NULL);
    const json_t *list = json_object_get(all, kind);
    assert_true(json_array_size(list) > 100);
    for (size_t i = 0; i < json_array_size(list); i++)
        check_vector(t, json_array_get(list, i));
    mu_tokenizer_destroy(t);
    json_decref(all);
}

static void answers_as_sentencepiece(void **state)
{
    (void)state;
    check_vectors("bpe", read_model("bpe"));
    check_vectors("unigram", read_model("unigram"));
}

static void a_unigram_model_answers_the_same_from_gguf(void **state)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_tokenizer_spec *spec;
    (void)state;
    struct mu_model_file *file = as_gguf(read_model("unigram"));
    require(mu_tokenizer_spec_read(file, &spec, &err), &err);
    check_vectors("unigram", spec);
    mu_model_file_close(file);
}

static void a_model_that_was_cut_is_refused_or_smaller(void **state)
{
    static char bytes[1 << 17];
    (void)state;
    FILE *f = fopen(golden_path("sentencepiece/unigram/tokenizer.model"), "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, sizeof bytes, f);
    (void)fclose(f);
    for (size_t len = 0; len < n; len += 37) {
        struct mu_err err = MU_ERR_INIT;
        struct mu_tokenizer_spec *spec = NULL;
        struct mu_str cut = {bytes, len};
        if (mu_tokenizer_spec_parse_model(cut, "cut", &spec, &err) != MU_OK)
            assert_int_not_equal(err.code, MU_OK);
        mu_tokenizer_spec_destroy(spec);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_as_sentencepiece),
        cmocka_unit_test(a_unigram_model_answers_the_same_from_gguf),
        cmocka_unit_test(a_model_that_was_cut_is_refused_or_smaller),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
