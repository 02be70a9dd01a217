/* Draws: repeated by their seed, spread as the probabilities say, and whole at the ends. */
#include "engine/logits.h"

#include "sampling.h"

static void a_seed_repeats_itself(void **state)
{
    (void)state;
    float logits[500];
    uint32_t first[64];
    for (uint32_t i = 0; i < 500; i++)
        logits[i] = (float)noise(1, i);
    for (unsigned filtered = 0; filtered < 2; filtered++) {
        struct mu_sampling s = defaults();
        s.seed = 0x123456789abcdefu;
        if (filtered) s.top_k = 300;
        struct rig a = rig_open(&s, 500, none, none);
        for (uint32_t i = 0; i < 64; i++)
            first[i] = rig_pick(&a, logits, i);
        struct rig b = rig_open(&s, 500, none, none);
        for (uint32_t i = 64; i-- > 0;)
            assert_int_equal(rig_pick(&b, logits, i), first[i]);
        struct mu_sampler *other;
        assert_int_equal(mu_sampler_create(&s, 500, 1, none, none, 8, &other, &b.err), MU_OK);
        unsigned same_choice = 0, same_seed = 0;
        mu_sampler_destroy(b.sampler);
        b.sampler = other;
        for (uint32_t i = 0; i < 64; i++)
            same_choice += rig_pick(&b, logits, i) == first[i];
        s.seed++;
        struct rig c = rig_open(&s, 500, none, none);
        for (uint32_t i = 0; i < 64; i++)
            same_seed += rig_pick(&c, logits, i) == first[i];
        assert_true(same_choice < 8 && same_seed < 8);
        rig_close(&a);
        rig_close(&b);
        rig_close(&c);
    }
}

/* Pearson's statistic of 100,000 draws stays below its mean plus five standard deviations. */
static void check_draws(const struct mu_sampling *s, const float *logits, uint32_t n)
{
    enum { DRAWS = 100000 };
    float p[256];
    uint32_t counts[256] = {0};
    double chi = 0, freedom = -1;
    struct rig rig = rig_open(s, n, none, none);
    rig_probabilities(&rig, logits, p);
    for (uint32_t i = 0; i < DRAWS; i++)
        counts[rig_pick(&rig, logits, i)]++;
    for (uint32_t i = 0; i < n; i++) {
        double want = DRAWS * (double)p[i], miss = counts[i] - want;
        if (p[i] == 0) assert_int_equal(counts[i], 0);
        if (want < 5) continue;
        chi += miss * miss / want;
        freedom += 1;
    }
    if (chi > freedom + 5 * sqrt(2 * freedom)) fail_msg("chi square %g of %g", chi, freedom);
    rig_close(&rig);
}

static void draws_are_distributed_as_said(void **state)
{
    (void)state;
    float logits[200];
    for (uint32_t i = 0; i < 200; i++)
        logits[i] = i % 11 == 5 ? -INFINITY : (float)(noise(3, i) * 3);
    struct mu_sampling s = defaults();
    s.seed = 42;
    check_draws(&s, logits, 200);
    check_draws(&s, logits, 3);
    s.temperature = 0.7;
    s.top_p = 0.9;
    check_draws(&s, logits, 200);
    s.typical_p = 0.5;
    s.top_k = 60;
    check_draws(&s, logits, 200);
}

/* The ends of [0, 1), which a draw meets once in 2^53. */
static void the_ends_of_the_unit_interval_have_tokens(void **state)
{
    (void)state;
    float logits[100], sums[MU_SEGMENTS_MAX];
    for (uint32_t i = 0; i < 100; i++)
        logits[i] = i < 30 || i > 70 ? -INFINITY : -(float)i * 0.1f;
    (void)mu_logits_sum(logits, 100, -3, 1, sums);
    assert_int_equal(mu_logits_draw(logits, 100, -3, 1, sums, 0), 30);
    assert_int_equal(mu_logits_draw(logits, 100, -3, 1, sums, 1 - 0x1p-53), 70);
    assert_int_equal(mu_logits_draw(logits, 100, -3, 1, sums, 1), 70);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_seed_repeats_itself),
        cmocka_unit_test(draws_are_distributed_as_said),
        cmocka_unit_test(the_ends_of_the_unit_interval_have_tokens),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
