/* What the sampler refuses: hostile logits and parameters, and no memory. */
#include "sampling.h"

#include <sys/wait.h>
#include <unistd.h>

#define CHILD "MUSTER_TEST_SAMPLER_CHILD"

/* --- what must be refused ------------------------------------------------------------------- */

static void bad_logits_are_never_sampled(void **state)
{
    (void)state;
    float logits[1000];
    struct mu_picked p;
    const struct {
        float value;
        const char *what;
    } bads[] = {{NAN, "not a number"}, {-NAN, "not a number"}, {INFINITY, "infinite"}};
    for (unsigned greedy = 0; greedy < 2; greedy++) {
        struct mu_sampling s = defaults();
        s.greedy = greedy;
        struct rig rig = rig_open(&s, 1000, none, none);
        for (uint32_t at = 0; at < 1000; at += 37) {
            for (unsigned b = 0; b < MU_ARRAY_LEN(bads); b++) {
                char name[32];
                memset(logits, 0, sizeof logits);
                logits[at] = logits[999] = bads[b].value;
                (void)snprintf(name, sizeof name, "token %u is ", at);
                rig.err = MU_ERR_INIT;
                assert_int_equal(
                    mu_sampler_pick(rig.sampler, logits, 0, NULL, rig.scratch, &p, &rig.err),
                    MU_E_INPUT);
                assert_non_null(strstr(rig.err.what, name));
                assert_non_null(strstr(rig.err.what, bads[b].what));
            }
        }
        for (uint32_t i = 0; i < 1000; i++)
            logits[i] = -INFINITY;
        assert_int_equal(mu_sampler_pick(rig.sampler, logits, 0, NULL, rig.scratch, &p, NULL),
                         MU_E_INPUT);
        rig_close(&rig);
    }
}

static void extremes_stay_finite(void **state)
{
    (void)state;
    const float logits[] = {3.4e38f, -3.4e38f, 3.3e38f, -INFINITY};
    const uint32_t prompt[] = {0, 1, 2, 3};
    struct mu_sampling s = defaults();
    float p[4];
    s.repetition_penalty = 0.01;
    s.presence_penalty = -2;
    s.temperature = 2e-5;
    for (unsigned i = 0; i < 2; i++) {
        struct rig rig = rig_open(&s, 4, (struct mu_sampler_ids){prompt, 4}, none);
        mu_sampler_accept(rig.sampler, 0);
        rig_probabilities(&rig, logits, p);
        for (unsigned id = 0; id < 4; id++)
            assert_true(p[id] >= 0 && p[id] <= 1);
        assert_true(p[3] == 0);
        rig_close(&rig);
        s.top_p = 1e-300;
        s.min_p = 1e-300;
        s.typical_p = 1e-300;
    }
}

static void check_refused(struct mu_sampling s, const char *name)
{
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_sampling_check(&s, 100, &err), MU_E_USAGE);
    if (!strstr(err.what, name)) fail_msg("\"%s\" does not name %s", err.what, name);
    assert_non_null(strstr(err.what, "must be"));
}

static void values_out_of_range_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        size_t offset;
        double good[2], bad[2];
    } rows[] = {
#define ROW(name, ...) {#name, offsetof(struct mu_sampling, name), __VA_ARGS__}
        ROW(temperature, {0, 100}, {-0.1, 100.1}),
        ROW(top_p, {0, 1}, {-0.1, 1.1}),
        ROW(min_p, {0, 1}, {-0.1, 1.1}),
        ROW(typical_p, {1e-9, 1}, {0, 1.1}),
        ROW(repetition_penalty, {0.01, 100}, {0, 101}),
        ROW(frequency_penalty, {-2, 2}, {-2.1, 2.1}),
        ROW(presence_penalty, {-2, 2}, {-2.1, 2.1}),
    };
    for (unsigned i = 0; i < MU_ARRAY_LEN(rows); i++) {
        const double bad[] = {rows[i].bad[0], rows[i].bad[1], (double)NAN, (double)INFINITY};
        struct mu_sampling s = defaults();
        for (unsigned j = 0; j < 2; j++) {
            memcpy((char *)&s + rows[i].offset, &rows[i].good[j], sizeof(double));
            assert_int_equal(mu_sampling_check(&s, 100, NULL), MU_OK);
        }
        for (unsigned j = 0; j < MU_ARRAY_LEN(bad); j++) {
            memcpy((char *)&s + rows[i].offset, &bad[j], sizeof(double));
            check_refused(s, rows[i].name);
        }
    }
    struct mu_sampling s = defaults();
    s.top_k = -2, check_refused(s, "top_k");
    s = defaults(), s.n_logprobs = -2, check_refused(s, "n_logprobs");
    s = defaults(), s.n_logprobs = MU_LOGPROBS_MAX + 1, check_refused(s, "n_logprobs");
    struct mu_logit_bias bias = {99, 100};
    s = defaults(), s.logit_bias = &bias, s.n_logit_bias = 1;
    assert_int_equal(mu_sampling_check(&s, 100, NULL), MU_OK);
    bias.id = 100, check_refused(s, "id of logit_bias");
    bias.id = 0, bias.bias = NAN, check_refused(s, "value of logit_bias");
    bias.bias = -100.5f, check_refused(s, "value of logit_bias");
    s.n_logit_bias = MU_LOGIT_BIAS_MAX + 1, check_refused(s, "length of logit_bias");
}

static void ids_outside_the_vocabulary_are_refused(void **state)
{
    (void)state;
    const uint32_t ids[] = {1, 10};
    const struct mu_sampler_ids bad = {ids, 2};
    struct mu_sampling s = defaults();
    struct mu_sampler *sampler = NULL;
    struct mu_sampler_scratch *scratch = NULL;
    assert_int_equal(mu_sampler_create(&s, 10, 0, bad, none, 1, &sampler, NULL), MU_E_INPUT);
    assert_int_equal(mu_sampler_create(&s, 10, 0, none, bad, 1, &sampler, NULL), MU_E_INPUT);
    assert_int_equal(mu_sampler_scratch_create(0, &scratch, NULL), MU_E_INPUT);
    assert_int_equal(mu_sampler_scratch_create(UINT32_MAX, &scratch, NULL), MU_E_INPUT);
    assert_null(sampler);
    assert_null(scratch);
}

static void an_absent_seed_is_drawn(void **state)
{
    (void)state;
    struct mu_sampling a, b;
    mu_sampling_defaults(&a);
    mu_sampling_defaults(&b);
    assert_int_equal(mu_sampling_draw_seed(&a, NULL), MU_OK);
    assert_int_equal(mu_sampling_draw_seed(&b, NULL), MU_OK);
    assert_true(a.has_seed && b.has_seed && a.seed != b.seed && a.seed < 1ull << 53);
    b.seed = 7;
    assert_int_equal(mu_sampling_draw_seed(&b, NULL), MU_OK);
    assert_int_equal(b.seed, 7);
}

/* --- no memory ------------------------------------------------------------------------------ */

/* One sampler's life, in a process of its own; 0 done, 1 refused cleanly, 2 anything else. */
static int child_run(void)
{
    const float logits[] = {1, 2, 3};
    const uint32_t ids[] = {0, 2};
    const struct mu_sampler_ids list = {ids, 2};
    const struct mu_logit_bias bias = {1, 1};
    struct mu_sampling s = defaults();
    struct mu_sampler_scratch *scratch = NULL;
    struct mu_sampler *sampler = NULL;
    struct mu_picked picked;
    struct mu_err err = MU_ERR_INIT;
    s.repetition_penalty = 1.1;
    s.logit_bias = &bias;
    s.n_logit_bias = 1;
    mu_status status = mu_sampler_scratch_create(3, &scratch, &err);
    if (!status) status = mu_sampler_create(&s, 3, 0, list, list, 4, &sampler, &err);
    if (!status) status = mu_sampler_pick(sampler, logits, 0, NULL, scratch, &picked, &err);
    mu_sampler_destroy(sampler);
    mu_sampler_scratch_destroy(scratch);
    if (status == MU_OK) return 0;
    return status == MU_E_MEMORY && err.code == MU_E_MEMORY ? 1 : 2;
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
#ifndef MU_CHECKS
    skip();
#endif
    bool done = false;
    for (unsigned n = 1; n < 50 && !done; n++) {
        char fault[32];
        (void)snprintf(fault, sizeof fault, "alloc:%u", n);
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            (void)setenv("MUSTER_FAULT", fault, 1);
            (void)setenv(CHILD, "1", 1);
            (void)execl("/proc/self/exe", "test_sampling", (char *)NULL);
            _exit(2);
        }
        int got;
        assert_int_equal(waitpid(pid, &got, 0), pid);
        assert_true(WIFEXITED(got) && WEXITSTATUS(got) < 2);
        done = WEXITSTATUS(got) == 0;
        assert_true(n > 5 || !done);
    }
    assert_true(done);
}

int main(void)
{
    if (getenv(CHILD)) return child_run();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_logits_are_never_sampled),
        cmocka_unit_test(extremes_stay_finite),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(an_absent_seed_is_drawn),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
