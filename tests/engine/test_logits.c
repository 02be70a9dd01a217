/* Sums over logits in their one order, and the log-probabilities made of them. */
#include "engine/logits.h"
#include "kernel/kernel.h"

#include "sampling.h"

static float tree(const float *x, uint32_t a, uint32_t b)
{
    if (b - a == 1) return x[a];
    uint32_t m = mu_segment_split(a, b);
    return tree(x, a, m) + tree(x, m, b);
}

static void sums_have_one_order(void **state)
{
    (void)state;
    static float logits[VOCAB_MAX], e[VOCAB_MAX];
    for (uint32_t n = 1; n <= VOCAB_MAX; n += n < 300 ? 1 : 47) {
        float max = -INFINITY, got[MU_SEGMENTS_MAX], want[MU_SEGMENTS_MAX];
        for (uint32_t i = 0; i < n; i++) {
            logits[i] = (float)(noise(n, i) * 20 - 10);
            if (logits[i] > max) max = logits[i];
        }
        for (uint32_t i = 0; i < n; i++)
            e[i] = logits[i] - max;
        mu_logits_exp(e, n);
        uint32_t segments = mu_segment_count(n);
        for (uint32_t s = 0; s < segments; s++) {
            float lanes[16] = {0};
            uint64_t first = mu_segment_start(n, segments, s);
            for (uint64_t i = first; i < mu_segment_start(n, segments, s + 1); i++)
                lanes[(i - first) % 16] += e[i];
            for (unsigned half = 8; half; half /= 2)
                for (unsigned i = 0; i < half; i++)
                    lanes[i] += lanes[i + half];
            want[s] = lanes[0];
        }
        float total = mu_logits_sum(logits, n, max, 1, got), whole = tree(want, 0, segments);
        assert_memory_equal(got, want, segments * sizeof *got);
        assert_memory_equal(&total, &whole, sizeof total);
    }
}

/* One exponential for the whole program, as far as a float is normal. */
static void exponentials_are_those_of_the_kernels(void **state)
{
    (void)state;
    float x[16];
    for (uint32_t i = 0; i < 1000000; i += 16) {
        for (uint32_t j = 0; j < 16; j++)
            x[j] = (float)(i + j) * -87e-6f;
        mu_logits_exp(x, 16);
        for (uint32_t j = 0; j < 16; j++) {
            float want = mu_expf((float)(i + j) * -87e-6f);
            assert_memory_equal(&x[j], &want, sizeof want);
        }
    }
    float ends[] = {0, -INFINITY, -1e30f, -88};
    mu_logits_exp(ends, 4);
    assert_true(ends[0] == 1 && ends[1] == 0 && ends[2] == 0 && ends[3] == 0);
}

static void logprobs_are_of_the_raw_logits(void **state)
{
    (void)state;
    static float logits[VOCAB_MAX];
    struct mu_logit_bias bias = {77, 60};
    double sum = 0;
    for (uint32_t i = 0; i < VOCAB_MAX; i++) {
        logits[i] = (float)(noise(5, i) * 12);
        sum += exp((double)logits[i]);
    }
    logits[4000] = logits[4001] = logits[20] = 12.5f;
    sum += 3 * exp(12.5) - exp(noise(5, 4000) * 12) - exp(noise(5, 4001) * 12) -
           exp(noise(5, 20) * 12);
    struct mu_sampling s = defaults();
    s.temperature = 0.5;
    s.logit_bias = &bias;
    s.n_logit_bias = 1;
    s.n_logprobs = 6;
    struct rig rig = rig_open(&s, VOCAB_MAX, none, none);
    struct mu_picked p;
    assert_int_equal(mu_sampler_pick(rig.sampler, logits, 0, NULL, rig.scratch, &p, &rig.err),
                     MU_OK);
    assert_int_equal(p.id, 77);
    assert_true(p.has_logprob);
    assert_true(fabs((double)p.logprob - ((double)logits[77] - log(sum))) < 1e-4);
    assert_int_equal(p.n_top, 6);
    assert_int_equal(p.top[0].id, 20);
    assert_int_equal(p.top[1].id, 4000);
    assert_int_equal(p.top[2].id, 4001);
    for (uint32_t i = 0; i < p.n_top; i++) {
        assert_true(fabs((double)p.top[i].logprob - ((double)logits[p.top[i].id] - log(sum))) <
                    1e-4);
        assert_true(i < 3 || p.top[i].logprob < p.top[i - 1].logprob);
    }
    rig_close(&rig);
}

static void absent_logprobs_are_said_to_be_absent(void **state)
{
    (void)state;
    const float logits[] = {1, -INFINITY, 2};
    struct mu_sampling s = defaults();
    struct mu_picked p;
    for (s.n_logprobs = -1; s.n_logprobs <= MU_LOGPROBS_MAX; s.n_logprobs++) {
        struct rig rig = rig_open(&s, 3, none, none);
        assert_int_equal(mu_sampler_pick(rig.sampler, logits, 0, NULL, rig.scratch, &p, &rig.err),
                         MU_OK);
        assert_int_equal(p.has_logprob, s.n_logprobs >= 0);
        /* A token that cannot come has no log-probability to report. */
        assert_int_equal(p.n_top, MU_MIN(MU_MAX(s.n_logprobs, 0), 2));
        rig_close(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sums_have_one_order),
        cmocka_unit_test(exponentials_are_those_of_the_kernels),
        cmocka_unit_test(logprobs_are_of_the_raw_logits),
        cmocka_unit_test(absent_logprobs_are_said_to_be_absent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
