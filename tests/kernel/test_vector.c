/* The small kernels of every family (norm, rope, glu, kv_store) against double precision. */
#include "kernel_test.h"

enum { N = 1000 };

static void near(const struct mu_kernels *k, const char *what, float got, double want)
{
    if (!(fabs((double)got - want) <= 2e-6 * fabs(want) + 1e-7))
        fail_msg("%s %s: %g, not %g", k->family, what, (double)got, want);
}

static void fill(float *x, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        x[i] = random_value();
}

static void norm(void **state)
{
    static const uint32_t sizes[] = {8, 64, 72, 576, 1000};
    const struct mu_kernels *k;
    float x[N], w[N], y[N];
    (void)state;
    fill(x, N);
    fill(w, N);
    for (unsigned f = 0; (k = mu_kernels_usable(f)); f++) {
        for (size_t s = 0; s < MU_ARRAY_LEN(sizes); s++) {
            double sum = 0;
            for (uint32_t i = 0; i < sizes[s]; i++)
                sum += (double)x[i] * (double)x[i];
            double r = 1 / sqrt(sum / sizes[s] + 1e-5);
            k->norm(y, x, w, sizes[s], 1e-5f, 1.0f);
            for (uint32_t i = 0; i < sizes[s]; i++)
                near(k, "norm", y[i], (double)x[i] * r * (1.0 + (double)w[i]));
            memcpy(y, x, sizeof y); /* in place */
            k->norm(y, y, w, sizes[s], 1e-5f, 0);
            for (uint32_t i = 0; i < sizes[s]; i++)
                near(k, "norm", y[i], (double)x[i] * r * (double)w[i]);
        }
    }
}

static void rope(void **state)
{
    const struct mu_kernels *k;
    float x[128], y[128], cosine[64], sine[64];
    (void)state;
    for (unsigned f = 0; (k = mu_kernels_usable(f)); f++) {
        for (uint32_t n = 8; n <= 128; n += 8) {
            fill(x, n);
            fill(cosine, n / 2);
            fill(sine, n / 2);
            memcpy(y, x, sizeof y);
            k->rope(y, cosine, sine, n);
            for (uint32_t i = 0; i < n / 2; i++) {
                double a = (double)x[i], b = (double)x[i + n / 2];
                double c = (double)cosine[i], s = (double)sine[i];
                assert_true(fabs((double)y[i] - (a * c - b * s)) <
                            1e-6 * (fabs(a * c) + fabs(b * s)));
                assert_true(fabs((double)y[i + n / 2] - (b * c + a * s)) <
                            1e-6 * (fabs(b * c) + fabs(a * s)));
            }
        }
    }
}

static double exact(double g, double u, enum mu_activation act)
{
    switch (act) {
    case MU_ACT_SILU:
        return g / (1 + exp(-g)) * u;
    case MU_ACT_GELU_TANH:
        return 0.5 * g * (1 + tanh(sqrt(2 / M_PI) * (g + 0.044715 * g * g * g))) * u;
    case MU_ACT_GELU:
        return 0.5 * g * (1 + erf(g / sqrt(2))) * u;
    case MU_ACT_SWIGLU_OAI:
        g = fmin(g, 7);
        return g / (1 + exp(-1.702 * g)) * (fmax(fmin(u, 7), -7) + 1);
    }
    return 0;
}

static void glu(void **state)
{
    static const enum mu_activation acts[] = {MU_ACT_SILU, MU_ACT_GELU_TANH, MU_ACT_GELU,
                                              MU_ACT_SWIGLU_OAI};
    const struct mu_kernels *k;
    float gate[N], up[N], y[N], piece[N];
    (void)state;
    fill(gate, N);
    fill(up, N);
    gate[0] = 100, gate[1] = -100, gate[2] = 9, gate[3] = -9, gate[4] = 0;
    for (unsigned f = 0; (k = mu_kernels_usable(f)); f++) {
        for (size_t a = 0; a < MU_ARRAY_LEN(acts); a++) {
            k->glu(y, gate, up, N, acts[a]);
            for (uint32_t i = 0; i < N; i++) {
                double want = exact((double)gate[i], (double)up[i], acts[a]);
                /* 1 + tanh cancels where the gate is very negative */
                assert_true(fabs((double)y[i] - want) <=
                            3e-6 * fabs(want) + 2e-7 * fabs((double)gate[i] * (double)up[i]));
            }
            for (uint32_t i = 0; i < N; i += 40) /* pieces of any multiple of 8 */
                k->glu(piece + i, gate + i, up + i, 40, acts[a]);
            assert_memory_equal(y, piece, sizeof y);
        }
    }
}

static void kv_store(void **state)
{
    static const enum mu_dtype types[] = {MU_DTYPE_F32, MU_DTYPE_F16, MU_DTYPE_BF16};
    const struct mu_kernels *k;
    float x[N];
    uint8_t got[4 * N], want[4 * N];
    (void)state;
    fill(x, N);
    x[0] = 1e-7f, x[1] = 65519.0f, x[2] = -3e-5f, x[3] = 1e-40f;
    for (unsigned f = 0; (k = mu_kernels_usable(f)); f++) {
        for (size_t t = 0; t < MU_ARRAY_LEN(types); t++) {
            mu_codec_encode(types[t], x, want, N);
            k->kv_store(got, types[t], x, N);
            assert_memory_equal(got, want, (size_t)N * mu_dtype(types[t])->block_bytes);
        }
    }
}

static void choosing(void **state)
{
    const struct mu_kernels *k = NULL, *named = NULL;
    struct mu_err err = MU_ERR_INIT;
    (void)state;
    assert_int_equal(mu_kernels_choose(NULL, &k, NULL), MU_OK);
    assert_ptr_equal(k, mu_kernels_usable(0));
    for (unsigned f = 0; (k = mu_kernels_usable(f)); f++) {
        assert_int_equal(mu_kernels_choose(k->family, &named, NULL), MU_OK);
        assert_ptr_equal(k, named);
        print_message("family %s\n", k->family);
    }
    assert_int_equal(mu_kernels_choose("cpu-abacus", &named, &err), MU_E_USAGE);
    assert_non_null(strstr(err.what, "cpu-abacus"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(norm),     cmocka_unit_test(rope),     cmocka_unit_test(glu),
        cmocka_unit_test(kv_store), cmocka_unit_test(choosing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
