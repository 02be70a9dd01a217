/* Costs of kernels: they are there for every kind of type, and are kept for the next time. */
#include "base/base.h"
#include "measure/measure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const struct mu_measure_shape shape = {9, 3, 64};

static void check(const struct mu_measure_costs *c)
{
    assert_true(c->weight_bytes_per_s > 1e6 && c->weight_bytes_per_s < 1e13);
    assert_true(c->product_per_s > 1e6 && c->product_per_s < 1e16);
    assert_true(c->kv_bytes_per_s > 1e5 && c->attention_per_s > 1e5);
    assert_true(c->meeting_s > 0 && c->meeting_s < 1);
}

static void kinds_of_types_are_timed(void **state)
{
    static const enum mu_dtype types[] = {MU_DTYPE_Q4_0, MU_DTYPE_BF16, MU_DTYPE_IQ4_XS};
    const struct mu_kernels *kernels;
    struct mu_measure_costs costs;
    struct mu_err err = MU_ERR_INIT;
    (void)state;
    assert_int_equal(mu_kernels_choose(NULL, &kernels, &err), MU_OK);
    for (size_t i = 0; i < MU_ARRAY_LEN(types); i++) {
        assert_int_equal(mu_measure_costs(kernels, types[i], &shape, 1, &costs, &err), MU_OK);
        check(&costs);
    }
    assert_int_equal(mu_measure_costs(kernels, MU_DTYPE_U8, &shape, 1, &costs, &err),
                     MU_E_UNSUPPORTED);
}

static void they_are_kept(void **state)
{
    char folder[] = "/tmp/muster-costs-XXXXXX";
    const struct mu_kernels *kernels;
    struct mu_measure_costs first, again;
    struct mu_file_out out;
    struct mu_err err = MU_ERR_INIT;
    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(setenv("XDG_CACHE_HOME", folder, 1), 0);
    assert_int_equal(mu_kernels_choose(NULL, &kernels, &err), MU_OK);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(mu_measure_costs_kept(kernels, MU_DTYPE_Q8_0, &shape, 1, &first, &err),
                         MU_OK);
        check(&first);
        assert_int_equal(mu_measure_costs_kept(kernels, MU_DTYPE_Q8_0, &shape, 1, &again, &err),
                         MU_OK);
        assert_memory_equal(&first, &again, sizeof first);
        char *sub = mu_path_join(folder, "muster"), *path = mu_path_join(sub, "costs.tsv");
        if (round == 0) { /* what stands there is not believed blindly */
            static const char junk[] = "\t\t\n\xff\tx\n";
            assert_int_equal(mu_file_out_open(&out, path, &err), MU_OK);
            assert_int_equal(mu_file_out_write(&out, junk, sizeof junk, &err), MU_OK);
            assert_int_equal(mu_file_out_commit(&out, &err), MU_OK);
            mu_file_out_close(&out);
        } else {
            assert_int_equal(unlink(path), 0);
            assert_int_equal(rmdir(sub), 0);
        }
        mu_free(path);
        mu_free(sub);
    }
    assert_int_equal(rmdir(folder), 0);
}

static void exchanges_are_timed(void **state)
{
    (void)state;
    for (unsigned n = 2; n <= MU_MEASURE_PEERS_MAX; n += 3) {
        double latency_s = 0, bytes_per_s = 0;
        struct mu_err err = MU_ERR_INIT;
        assert_int_equal(mu_measure_exchange(n, &latency_s, &bytes_per_s, &err), MU_OK);
        assert_true(latency_s > 0 && latency_s < 0.1);
        assert_true(bytes_per_s > 1e6);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(kinds_of_types_are_timed),
        cmocka_unit_test(they_are_kept),
        cmocka_unit_test(exchanges_are_timed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
