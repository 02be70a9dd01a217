/* Costs of kernels: they are there for every kind of type, and are kept for the next time. */
#include "base/base.h"
#include "measure/measure.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static const struct mu_measure_shape shape = {.hidden = 96,
                                              .ffn = 160,
                                              .vocab = 500,
                                              .n_heads = 6,
                                              .n_kv_heads = 3,
                                              .head_dim = 16,
                                              .type = MU_DTYPE_Q8_0,
                                              .head_type = MU_DTYPE_BF16};

static mu_status no_step(unsigned n_threads, struct mu_plan_costs *out, struct mu_err *err)
{
    assert_int_equal(n_threads, 1);
    out->step_s = out->sequence_s = out->first_s = out->load_s[0] = out->load_s[1] = 1e-6;
    return err->code;
}

static void check(const struct mu_plan_costs *c)
{
    double seconds[MU_PLAN_COSTS];
    memcpy(seconds, c, sizeof seconds);
    for (size_t i = 0; i < MU_PLAN_COSTS; i++)
        assert_true(seconds[i] > 0 && seconds[i] < 1);
    for (int m = 0; m < MU_PLAN_MATRICES; m++) /* 64 rows take longer than one */
        assert_true(c->weight_s[m][0][6] > c->weight_s[m][0][0]);
}

static unsigned n_told;

static void tell(void *arg, unsigned done, unsigned all)
{
    assert_ptr_equal(arg, &n_told);
    assert_true(done == n_told + 1 && done <= all);
    n_told = done;
}

static void kinds_of_types_are_timed(void **state)
{
    static const enum mu_dtype types[] = {MU_DTYPE_Q4_0, MU_DTYPE_BF16, MU_DTYPE_IQ4_XS};
    const struct mu_measure_progress progress = {tell, &n_told};
    struct mu_measure_shape s = shape;
    const struct mu_kernels *kernels;
    struct mu_plan_costs costs;
    struct mu_err err = MU_ERR_INIT;
    (void)state;
    assert_int_equal(mu_kernels_choose(NULL, &kernels, &err), MU_OK);
    for (size_t i = 0; i < MU_ARRAY_LEN(types); i++) {
        s.type = types[i];
        n_told = 0;
        assert_int_equal(mu_measure_costs(kernels, &s, 1, no_step, &progress, &costs, &err), MU_OK);
        check(&costs);
        assert_true(n_told > 0);
    }
    s.type = MU_DTYPE_U8;
    assert_int_equal(mu_measure_costs(kernels, &s, 1, no_step, NULL, &costs, &err),
                     MU_E_UNSUPPORTED);
}

static void they_are_kept(void **state)
{
    char folder[] = "/tmp/muster-costs-XXXXXX";
    const struct mu_kernels *kernels;
    struct mu_plan_costs first, again;
    struct mu_file_out out;
    struct mu_err err = MU_ERR_INIT;
    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(setenv("XDG_CACHE_HOME", folder, 1), 0);
    assert_int_equal(mu_kernels_choose(NULL, &kernels, &err), MU_OK);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(mu_measure_costs_kept(kernels, &shape, 1, no_step, NULL, &first, &err),
                         MU_OK);
        check(&first);
        assert_int_equal(mu_measure_costs_kept(kernels, &shape, 1, no_step, NULL, &again, &err),
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
        struct mu_measure_exchanged found = {0};
        struct mu_err err = MU_ERR_INIT;
        assert_int_equal(mu_measure_exchange(n, &found, &err), MU_OK);
        assert_true(found.latency_s > 0 && found.latency_s < 0.1);
        assert_true(found.bytes_per_s > 1e6);
        assert_true(found.wake_s >= 0 && found.wake_s < 0.1);
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
