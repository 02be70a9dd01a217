/* exp, tanh and erf against long double: within 2 units in the last place over their range. */
#include "kernel_test.h"

/* The distance of `got` from `want` in units of the last place of a float of want's size. */
static double ulps(float got, long double want)
{
    if (want == 0 || fabsl(want) < 0x1p-150L) return (double)(fabsf(got) / 0x1p-149f);
    int exponent = MU_MAX(ilogbl(want), -126) - 23;
    return (double)(fabsl((long double)got - want) / scalbnl(1, exponent));
}

static void check(const char *name, float (*f)(float), long double (*exact)(long double), float low,
                  float high)
{
    double worst = 0;
    float at = low;
    for (int i = 0; i <= 2000000; i++) {
        float x = low + (high - low) * ((float)i / 2000000.0f);
        double u = ulps(f(x), exact((long double)x));
        if (u > worst) {
            worst = u;
            at = x;
        }
    }
    print_message("%s in [%g, %g]: %.3f ulp at %g\n", name, (double)low, (double)high, worst,
                  (double)at);
    assert_true(worst <= 2.0);
}

static void accuracy(void **state)
{
    (void)state;
    check("exp", mu_expf, expl, -103.0f, 88.7f);
    check("exp", mu_expf, expl, -1.0f, 1.0f);
    check("tanh", mu_tanhf, tanhl, -12.0f, 12.0f);
    check("tanh", mu_tanhf, tanhl, -0.7f, 0.7f);
    check("tanh", mu_tanhf, tanhl, -1e-3f, 1e-3f);
    check("erf", mu_erff, erfl, -5.0f, 5.0f);
    check("erf", mu_erff, erfl, -1.1f, 1.1f);
}

static void ends(void **state)
{
    (void)state;
    assert_true(mu_expf(0) == 1.0f && mu_expf(-INFINITY) == 0 && mu_expf(-1e30f) == 0);
    assert_true(mu_expf(INFINITY) == INFINITY && mu_expf(100.0f) == INFINITY);
    assert_true(isnan(mu_expf(NAN)) && isnan(mu_tanhf(NAN)) && isnan(mu_erff(NAN)));
    assert_true(mu_tanhf(INFINITY) == 1 && mu_tanhf(-INFINITY) == -1 && mu_tanhf(0) == 0);
    assert_true(mu_erff(INFINITY) == 1 && mu_erff(-INFINITY) == -1 && mu_erff(0) == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(accuracy), cmocka_unit_test(ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
