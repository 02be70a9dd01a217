/* Differences and their noise, beside what scipy 1.17 computes from the same values (t.ppf,
 * ttest_ind with unequal variances, of logarithms unless a value is 0). */
#include "store/compare.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MOST 8

static void near(double got, double wanted, double share)
{
    if (!(fabs(got - wanted) <= share * fabs(wanted))) fail_msg("%g is not %g", got, wanted);
}

static void quantiles_are_students(void **state)
{
    (void)state;
    static const double scipy[][2] = {
        {1, 12.706205},  {2, 4.302653},  {3, 3.182446},  {4, 2.776445},   {5, 2.570582},
        {7.5, 2.333039}, {10, 2.228139}, {30, 2.042272}, {120, 1.979930}, {1e9, 1.959964}};
    for (size_t i = 0; i < MU_ARRAY_LEN(scipy); i++)
        near(mu_store_t95(scipy[i][0]), scipy[i][1], 0.002);
    double last = HUGE_VAL;
    for (unsigned quarters = 4; quarters < 400; quarters++) {
        double t = mu_store_t95(quarters / 4.0);
        assert_true(t <= last && t > 1.95);
        last = t;
    }
}

/* A run for each value, and inside each the samples. */
static void fill(struct mu_store_run *runs, size_t n, enum mu_store_kind kind, const double *values,
                 const double *samples, size_t n_samples)
{
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(mu_store_run_init(&runs[i], NULL), MU_OK);
        mu_store_run_figure(&runs[i], kind, "speed_tokens_per_s", values[i]);
        for (size_t s = 0; s < n_samples; s++)
            mu_store_run_sample(&runs[i], kind, "speed_tokens_per_s", (double)s, samples[s]);
    }
}

static struct mu_store_change compare(enum mu_store_kind kind, const double *a, size_t n_a,
                                      const double *b, size_t n_b, const double *samples_a,
                                      const double *samples_b, size_t n_samples)
{
    struct mu_store_run runs[2][MOST] = {{{0}}};
    struct mu_store_change *changes = NULL, out;
    size_t n = 0;
    fill(runs[0], n_a, kind, a, samples_a, n_samples);
    fill(runs[1], n_b, kind, b, samples_b, n_samples);
    assert_int_equal(mu_store_compare(runs[0], n_a, runs[1], n_b, &changes, &n, NULL), MU_OK);
    assert_int_equal(n, 1);
    assert_int_equal(changes->n_a, n_a);
    assert_int_equal(changes->n_b, n_b);
    out = *changes;
    mu_free(changes);
    for (size_t i = 0; i < MOST; i++) {
        mu_store_run_fini(&runs[0][i]);
        mu_store_run_fini(&runs[1][i]);
    }
    return out;
}

/* What scipy says of b - a; the quantile is right to 0.2 % of the interval's half. */
static void interval(const struct mu_store_change *c, double difference, double low, double high)
{
    near(c->b - c->a, difference, 1e-8);
    assert_true(fabs(c->low - low) < 0.002 * (high - low));
    assert_true(fabs(c->high - high) < 0.002 * (high - low));
}

static void several_runs_are_welchs(void **state)
{
    (void)state;
    static const double a[] = {52.1, 50.9, 51.7, 53.0}, b[] = {55.2, 54.1, 56.8};
    struct mu_store_change c = compare(MU_STORE_MEASURED, a, 4, b, 3, NULL, NULL, 0);
    assert_int_equal(c.noise, MU_STORE_NOISE_RUNS);
    near(c.a, 51.9194974, 1e-8);
    interval(&c, 3.43610224, 0.782661326, 6.22313822);
    assert_int_equal(c.verdict, MU_STORE_REAL);
    static const double d[] = {10, 12, 9, 11, 10.5, 30}, e[] = {11, 12, 13, 10};
    c = compare(MU_STORE_REPORTED, d, 6, e, 4, NULL, NULL, 0);
    interval(&c, -1.01473321, -5.25589128, 5.72322198);
    assert_int_equal(c.verdict, MU_STORE_NOISE);
    static const double zero[] = {0, 12, 9, 11, 10.5, 30};
    c = compare(MU_STORE_REPORTED, zero, 6, e, 4, NULL, NULL, 0);
    interval(&c, -7 / 12.0, -10.8491367, 9.68247004);
    static const double same[] = {5, 5, 5}, more[] = {5.001, 5.001, 5.001};
    c = compare(MU_STORE_MEASURED, same, 3, more, 3, NULL, NULL, 0);
    assert_true(c.a == 5 && c.b == 5.001);
    near(c.low, 0.001, 1e-9);
    assert_int_equal(c.verdict, MU_STORE_REAL);
    c = compare(MU_STORE_MEASURED, same, 3, same, 2, NULL, NULL, 0);
    assert_int_equal(c.verdict, MU_STORE_SAME);
}

static void one_run_against_several(void **state)
{
    (void)state;
    static const double a[] = {52.1, 50.9, 51.7, 53.0}, far[] = {56}, close[] = {54};
    struct mu_store_change c = compare(MU_STORE_MEASURED, a, 4, far, 1, NULL, NULL, 0);
    assert_int_equal(c.noise, MU_STORE_NOISE_SPREAD);
    interval(&c, 56 - 51.9194974, 0.829618053, 7.53173651);
    assert_int_equal(c.verdict, MU_STORE_REAL);
    c = compare(MU_STORE_MEASURED, close, 1, a, 4, NULL, NULL, 0);
    assert_int_equal(c.verdict, MU_STORE_NOISE);
}

static void one_run_each(void **state)
{
    (void)state;
    static const double a[] = {52}, b[] = {56};
    struct mu_store_change c = compare(MU_STORE_MEASURED, a, 1, b, 1, NULL, NULL, 0);
    assert_int_equal(c.noise, MU_STORE_NOISE_UNKNOWN);
    assert_int_equal(c.verdict, MU_STORE_TOO_FEW);
    assert_true(isnan(c.low) && isnan(c.high));
    static const double wide[] = {40, 60, 52}, narrow[] = {51.9, 52.0, 52.1};
    c = compare(MU_STORE_MEASURED, a, 1, b, 1, wide, wide, 3);
    assert_int_equal(c.noise, MU_STORE_NOISE_SAMPLES);
    assert_int_equal(c.verdict, MU_STORE_NOISE);
    c = compare(MU_STORE_MEASURED, a, 1, b, 1, narrow, narrow, 3);
    assert_int_equal(c.verdict, MU_STORE_REAL);
    c = compare(MU_STORE_PREDICTED, a, 1, b, 1, NULL, NULL, 0);
    assert_int_equal(c.noise, MU_STORE_NOISE_NONE);
    assert_int_equal(c.verdict, MU_STORE_REAL);
}

static void two_values_are_too_few(void **state)
{
    (void)state;
    static const double a[] = {52.1, 50.9, 51.7}, b[] = {96, 97}, one[] = {99};
    const struct mu_store_change c[] = {
        compare(MU_STORE_MEASURED, a, 3, b, 2, NULL, NULL, 0),
        compare(MU_STORE_MEASURED, b, 2, one, 1, NULL, NULL, 0),
        compare(MU_STORE_MEASURED, a, 1, one, 1, a, b, 2),
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(c); i++) {
        assert_int_equal(c[i].noise, MU_STORE_NOISE_UNKNOWN);
        assert_int_equal(c[i].verdict, MU_STORE_TOO_FEW);
    }
}

/* A speed and the time it takes are one fact: whatever the values, one verdict. */
static void reciprocals_agree(void **state)
{
    (void)state;
    uint64_t seed = 1;
    unsigned seen[4] = {0};
    for (unsigned trial = 0; trial < 2000; trial++) {
        double values[2][2][5]; /* as they are and as reciprocals, of both sides */
        size_t n[2];
        for (int side = 0; side < 2; side++) {
            seed = seed * 6364136223846793005 + 1442695040888963407;
            n[side] = 1 + (seed >> 33) % 5;
            for (size_t i = 0; i < n[side]; i++) {
                seed = seed * 6364136223846793005 + 1442695040888963407;
                values[0][side][i] = 50 + 6 * side + (double)((seed >> 33) % 1000) / 100;
                values[1][side][i] = 1 / values[0][side][i];
            }
        }
        struct mu_store_change c[2];
        for (int k = 0; k < 2; k++)
            c[k] =
                compare(MU_STORE_MEASURED, values[k][0], n[0], values[k][1], n[1], NULL, NULL, 0);
        assert_int_equal(c[0].verdict, c[1].verdict);
        near(c[1].a * c[0].a, 1, 1e-9);
        seen[c[0].verdict]++;
    }
    assert_true(seen[MU_STORE_REAL] > 100 && seen[MU_STORE_NOISE] > 100 &&
                seen[MU_STORE_TOO_FEW] > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(quantiles_are_students),  cmocka_unit_test(several_runs_are_welchs),
        cmocka_unit_test(one_run_against_several), cmocka_unit_test(one_run_each),
        cmocka_unit_test(two_values_are_too_few),  cmocka_unit_test(reciprocals_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
