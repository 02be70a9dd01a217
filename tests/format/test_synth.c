/* Models of random weights: known sizes, deterministic rows, the spread that was promised. */
#include "format/format_int.h"

#include "format/synth.h"

#include "open.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

/* As the publishers count them. */
static void check_parameters(void **state)
{
    (void)state;
    static const struct {
        const char *model;
        uint64_t parameters;
    } known[] = {
        {"synth:llama-3.2-1b", 1235814400},
        {"synth:llama-3.2-3b", 3212749824},
        {"synth:llama-3.1-8b", 8030261248},
        {"synth:llama-3.1-70b", 70553706496},
        {"synth:llama-2-7b", 6738415616},
        {"synth:llama-2-13b", 13015864320},
        {"synth:mistral-7b", 7248023552},
        {"synth:smollm2-135m", 134515008},
        {"synth:smollm2-360m", 361821120},
        {"synth:smollm2-1.7b", 1711376384},
        {"synth:qwen2.5-0.5b", 494032768},
        {"synth:qwen2.5-1.5b", 1543714304},
        {"synth:qwen2.5-3b", 3085938688},
        {"synth:qwen2.5-7b", 7615616512},
        {"synth:qwen2.5-14b", 14770033664},
        {"synth:qwen2.5-32b", 32763876352},
        {"synth:qwen2.5-72b", 72706203648},
        {"synth:qwen3-0.6b", 596049920},
        {"synth:qwen3-1.7b", 1720574976},
        {"synth:qwen3-4b", 4022468096},
        {"synth:qwen3-8b", 8190735360},
        {"synth:qwen3-14b", 14768307200},
        {"synth:qwen3-32b", 32762123264},
        {"synth:qwen3-30b-a3b", 30532122624},
        {"synth:mixtral-8x7b", 46702792704},
        {"synth:gpt-oss-20b@bf16", 20914757184},
        {"synth:gpt-oss-20b", 20914757184},
        {"synth:qwen1.5-moe-a2.7b", 14315784192},
        {"synth:deepseek-v2-lite", 15706484224},
        {"synth:deepseek-v3", 671026419200},
        {"synth:gpt-oss-120b@bf16", 116829156672},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(known); i++) {
        struct mu_model_file *file = open_good(known[i].model);
        const struct mu_tensor *t;
        size_t n = mu_model_file_tensors(file, &t);
        uint64_t sum = 0;
        for (size_t j = 0; j < n; j++)
            sum += t[j].n_values;
        if (sum != known[i].parameters)
            fail_msg("%s has %llu", known[i].model, (unsigned long long)sum);
        mu_model_file_close(file);
    }
}

/* Rows alone are the rows of a block, for every type, and differ from each other. */
static void check_rows(void **state)
{
    (void)state;
    for (int type = 0; type < MU_DTYPE_COUNT; type++) {
        struct mu_tensor t = {.type = (enum mu_dtype)type, .n_dims = 2, .dims = {8, 512}};
        if (!mu_synth_can(t.type)) continue;
        t.seed = mu_synth_seed(0x1234567890abcdef, MU_SYNTH_WEIGHT);
        assert_true(mu_tensor_measure(&t));
        uint64_t row = mu_tensor_row_bytes(&t);
        uint8_t *all = mu_alloc(t.n_bytes), *one = mu_alloc(row);
        assert_ptr_equal(mu_tensor_rows(&t, 0, 8, all), all);
        for (uint64_t i = 8; i-- > 0;) {
            (void)mu_tensor_rows(&t, i, 1, one);
            assert_memory_equal(one, all + i * row, row);
            assert_memory_not_equal(one, all + (i + 1) % 8 * row, row);
        }
        mu_free(all);
        mu_free(one);
    }
}

static double deviation(const float *x, uint64_t n)
{
    double sum = 0, squares = 0;
    for (uint64_t i = 0; i < n; i++) {
        sum += (double)x[i];
        squares += (double)x[i] * (double)x[i];
    }
    assert_true(fabs(sum / (double)n) < 0.003);
    return sqrt(squares / (double)n);
}

static void check_spread(void **state)
{
    (void)state;
    enum { N = 65536 };
    struct mu_tensor t = {.type = MU_DTYPE_F32, .n_dims = 2, .dims = {1, N}};
    float *x = mu_alloc(N * sizeof *x), *y = mu_alloc(N * sizeof *y);
    t.seed = mu_synth_seed(99, MU_SYNTH_WEIGHT);
    assert_true(mu_tensor_measure(&t));
    (void)mu_tensor_rows(&t, 0, 1, (uint8_t *)x);
    assert_true(fabs(deviation(x, N) - 0.02) < 0.001);
    t.type = MU_DTYPE_Q4_0;
    assert_true(mu_tensor_measure(&t));
    const uint8_t *block = mu_tensor_rows(&t, 0, 1, (uint8_t *)x);
    for (uint64_t i = 0; i < N; i++) {
        uint16_t half;
        const uint8_t *b = block + i / 32 * 18;
        memcpy(&half, b, sizeof half);
        uint8_t pair = b[2 + i % 16];
        y[i] = (float)((i % 32 < 16 ? pair & 15 : pair >> 4) - 8) * mu_f16_to_f32(half);
    }
    assert_true(fabs(deviation(y, N) - 0.02) < 0.003);
    mu_free(x);
    mu_free(y);
}

static void check_names(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file = NULL;
    assert_int_equal(mu_model_file_open("synth:lama-3.2-1b", 0, &file, &err), MU_E_MISSING);
    assert_non_null(strstr(err.cure, "synth:llama-3.2-1b"));
    err = MU_ERR_INIT;
    assert_int_equal(mu_model_file_open("synth:nano@f7", 0, &file, &err), MU_E_UNSUPPORTED);
    file = open_good("synth:meta-llama/Llama-3.2-1B@Q8_0");
    const struct mu_tensor *q = mu_model_file_find(file, "model.layers.15.self_attn.q_proj.weight");
    assert_int_equal(q->type, MU_DTYPE_Q8_0);
    assert_null(q->data);
    assert_null(mu_model_file_find(file, "lm_head.weight"));
    mu_model_file_close(file);
    file = open_good("synth:smollm2-135m@q4_k"); /* 576 is not whole blocks of 256 */
    assert_int_equal(mu_model_file_find(file, "model.embed_tokens.weight")->type, MU_DTYPE_Q8_0);
    mu_model_file_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_parameters),
        cmocka_unit_test(check_rows),
        cmocka_unit_test(check_spread),
        cmocka_unit_test(check_names),
    };
    return cmocka_run_group_tests_name("format/synth", tests, NULL, NULL);
}
