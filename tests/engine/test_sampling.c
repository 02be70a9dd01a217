/*
 * The sampler against others' probabilities, against a plain restatement of its definition on
 * vocabularies long enough for its short cuts, and against hostile logits and parameters.
 */
#include "base/alloc.h"
#include "base/json.h"
#include "base/number.h"
#include "base/rng.h"
#include "engine/logits.h"
#include "engine/sampler.h"
#include "kernel/kernel.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define VOCAB_MAX 5000
#define CHILD     "MUSTER_TEST_SAMPLER_CHILD"

static const struct mu_sampler_ids none = {0};

/* A sampler with its scratch, for one test. */
struct rig {
    struct mu_sampler *sampler;
    struct mu_sampler_scratch *scratch;
    struct mu_err err;
};

static struct rig rig_open(const struct mu_sampling *sampling, uint32_t vocab,
                           struct mu_sampler_ids prompt, struct mu_sampler_ids ends)
{
    struct rig rig = {.err = MU_ERR_INIT};
    assert_int_equal(mu_sampler_scratch_create(vocab, &rig.scratch, &rig.err), MU_OK);
    assert_int_equal(
        mu_sampler_create(sampling, vocab, 0, prompt, ends, 1000, &rig.sampler, &rig.err), MU_OK);
    return rig;
}

static void rig_close(struct rig *rig)
{
    mu_sampler_destroy(rig->sampler);
    mu_sampler_scratch_destroy(rig->scratch);
}

static uint32_t rig_pick(struct rig *rig, const float *logits, uint32_t position)
{
    struct mu_picked picked;
    assert_int_equal(
        mu_sampler_pick(rig->sampler, logits, position, NULL, rig->scratch, &picked, &rig->err),
        MU_OK);
    return picked.id;
}

static void rig_probabilities(struct rig *rig, const float *logits, float *out)
{
    assert_int_equal(
        mu_sampler_probabilities(rig->sampler, logits, 0, NULL, rig->scratch, out, &rig->err),
        MU_OK);
}

static struct mu_sampling defaults(void)
{
    struct mu_sampling s;
    mu_sampling_defaults(&s);
    s.has_seed = true;
    return s;
}

/* Numbers that look drawn, the same on every run. */
static double noise(uint64_t key, uint32_t i)
{
    uint32_t words[4];
    mu_philox(key, (const uint32_t[4]){i, 1, 2, 3}, words);
    return mu_uniform(words[0], words[1]);
}

static uint32_t noise_below(uint64_t key, uint32_t i, size_t n)
{
    return (uint32_t)(noise(key, i) * (double)n);
}

/* --- others' probabilities ------------------------------------------------------------------ */

static uint32_t read_ids(const json_t *array, uint32_t *out, uint32_t max)
{
    size_t n = json_array_size(array);
    assert_true(n <= max);
    for (size_t i = 0; i < n; i++)
        out[i] = (uint32_t)json_integer_value(json_array_get(array, i));
    return (uint32_t)n;
}

static void read_params(json_t *params, struct mu_sampling *s, struct mu_logit_bias *bias)
{
    const char *key;
    json_t *value;
    const struct {
        const char *name;
        double *to;
    } numbers[] = {{"temperature", &s->temperature},
                   {"top_p", &s->top_p},
                   {"min_p", &s->min_p},
                   {"typical_p", &s->typical_p},
                   {"repetition_penalty", &s->repetition_penalty},
                   {"frequency_penalty", &s->frequency_penalty},
                   {"presence_penalty", &s->presence_penalty}};
    json_object_foreach(params, key, value)
    {
        unsigned i = 0;
        while (i < MU_ARRAY_LEN(numbers) && strcmp(numbers[i].name, key) != 0)
            i++;
        if (i < MU_ARRAY_LEN(numbers)) {
            *numbers[i].to = json_number_value(value);
        } else if (strcmp(key, "top_k") == 0) {
            s->top_k = (int32_t)json_integer_value(value);
        } else {
            const char *name;
            json_t *amount;
            assert_string_equal(key, "logit_bias");
            s->logit_bias = bias;
            json_object_foreach(value, name, amount)
            {
                uint64_t id;
                assert_true(mu_parse_u64(mu_str(name), 0, 63, &id));
                bias[s->n_logit_bias++] =
                    (struct mu_logit_bias){(uint32_t)id, (float)json_number_value(amount)};
            }
        }
    }
}

/* Checks one case in one order; returns whether there was a vector to compare with. */
static bool check_case(const json_t *c, const char *system, enum mu_sampler_order order)
{
    const json_t *want = json_object_get(c, system), *row = json_object_get(c, "logits");
    uint32_t prompt[64], output[64], vocab = (uint32_t)json_array_size(row);
    struct mu_logit_bias bias[64];
    float logits[64], got[64];
    if (!want) return false;
    assert_true(vocab <= 64);
    for (uint32_t i = 0; i < vocab; i++) {
        const json_t *x = json_array_get(row, i);
        logits[i] = json_is_null(x) ? -INFINITY : (float)json_number_value(x);
    }
    struct mu_sampling s = defaults();
    s.order = order;
    read_params(json_object_get(c, "params"), &s, bias);
    uint32_t n_prompt = read_ids(json_object_get(c, "prompt_ids"), prompt, 64);
    uint32_t n_output = read_ids(json_object_get(c, "output_ids"), output, 64);
    struct rig rig = rig_open(&s, vocab, (struct mu_sampler_ids){prompt, n_prompt}, none);
    for (uint32_t i = 0; i < n_output; i++)
        mu_sampler_accept(rig.sampler, output[i]);
    rig_probabilities(&rig, logits, got);
    for (uint32_t i = 0; i < vocab; i++) {
        double p = json_number_value(json_array_get(want, i));
        if (fabs(p - (double)got[i]) > 1e-6)
            fail_msg("case %lld %s: token %u has %.9g, should have %.9g",
                     json_integer_value(json_object_get(c, "id")), system, i, (double)got[i], p);
    }
    rig_close(&rig);
    return true;
}

static void probabilities_are_those_of_others(void **state)
{
    (void)state;
    const char *oracle = getenv("ORACLE"), *tests = getenv("MUSTER_TESTS");
    struct mu_text path;
    struct mu_err err = MU_ERR_INIT;
    json_t *root = NULL;
    mu_text_init(&path, 4096);
    mu_text_printf(&path, "%s%s/8_sampling/cases.json",
                   oracle  ? oracle
                   : tests ? tests
                           : "tests",
                   oracle ? "" : "/golden");
    assert_int_equal(mu_json_read(mu_text_get(&path), 1 << 24, &root, &err), MU_OK);
    const json_t *cases = json_object_get(root, "cases");
    unsigned n_vllm = 0, n_hf = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i);
        unsigned vllm = check_case(c, "vllm", MU_SAMPLER_VLLM);
        unsigned hf = check_case(c, "transformers", MU_SAMPLER_HF);
        assert_true(vllm + hf > 0);
        n_vllm += vllm;
        n_hf += hf;
    }
    assert_true(n_vllm > 0 && n_hf > 0);
    json_decref(root);
    mu_text_fini(&path);
}

/* --- the definition, restated plainly ------------------------------------------------------- */

struct plain {
    double x, p; /* logit, share of the probability; 0 once filtered */
    uint32_t id;
};

static int plain_compare(const void *a, const void *b)
{
    const struct plain *x = a, *y = b;
    if (x->x != y->x) return x->x < y->x ? 1 : -1;
    return x->id < y->id ? -1 : 1;
}

static double plain_sum(const struct plain *list, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += list[i].p;
    return sum;
}

static void plain_top_k(struct plain *list, uint32_t n, int32_t k)
{
    for (uint32_t i = 0; k > 0 && i < n; i++)
        if ((uint32_t)k < n && list[i].x < list[k - 1].x) list[i].p = 0;
}

static void plain_min_p(struct plain *list, uint32_t n, double min_p)
{
    for (uint32_t i = n; i-- > 0;)
        if (list[i].p < min_p * list[0].p) list[i].p = 0;
}

static void plain_top_p(struct plain *list, uint32_t n, double top_p)
{
    double before = 0, sum = plain_sum(list, n);
    for (uint32_t i = 0; top_p < 1 && i < n; i++) {
        double p = list[i].p;
        if (i && before >= top_p * sum) list[i].p = 0;
        before += p;
    }
}

static void plain_probabilities(const struct mu_sampling *s, const float *logits, uint32_t n,
                                float *out)
{
    static struct plain list[VOCAB_MAX];
    for (uint32_t i = 0; i < n; i++)
        list[i] = (struct plain){.x = (double)logits[i] / s->temperature, .id = i};
    qsort(list, n, sizeof *list, plain_compare);
    for (uint32_t i = 0; i < n; i++)
        list[i].p = exp(list[i].x - list[0].x);
    if (s->order == MU_SAMPLER_VLLM) plain_min_p(list, n, s->min_p);
    plain_top_k(list, n, s->top_k);
    plain_top_p(list, n, s->top_p);
    if (s->order == MU_SAMPLER_HF) plain_min_p(list, n, s->min_p);
    double sum = plain_sum(list, n);
    for (uint32_t i = 0; i < n; i++)
        out[list[i].id] = (float)(list[i].p / sum);
}

/* The mass on which two vectors disagree. */
static double distance(const float *a, const float *b, uint32_t n)
{
    double sum = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += fabs((double)a[i] - (double)b[i]);
    return sum / 2;
}

static void short_cuts_change_nothing(void **state)
{
    (void)state;
    static float logits[VOCAB_MAX], got[VOCAB_MAX], want[VOCAB_MAX];
    static const int32_t ks[] = {0, -1, 1, 3, 50, 400, 4999, 100000};
    static const double ps[] = {1, 0, 0.3, 0.9, 0.999}, mins[] = {0, 0.001, 0.2, 1};
    for (uint32_t t = 0; t < 600; t++) {
        uint32_t n = 1 + noise_below(t, 0, t % 3 ? 200 : VOCAB_MAX);
        double spread = t % 4 == 0 ? 0.01 : t % 4 == 1 ? 40 : 8;
        for (uint32_t i = 0; i < n; i++) {
            double x = (noise(t, i + 10) - 0.5) * spread;
            /* Every fifth row has many ties, every seventh many that are masked. */
            logits[i] = (float)(t % 5 == 0 ? floor(x) : x);
            if (t % 7 == 0 && i && noise(t + 9999, i) < 0.7) logits[i] = -INFINITY;
        }
        struct mu_sampling s = defaults();
        s.order = t & 1 ? MU_SAMPLER_HF : MU_SAMPLER_VLLM;
        s.top_k = ks[noise_below(t, 1, MU_ARRAY_LEN(ks))];
        s.top_p = ps[noise_below(t, 2, MU_ARRAY_LEN(ps))];
        s.min_p = mins[noise_below(t, 3, MU_ARRAY_LEN(mins))];
        s.temperature = 0.2 + 2 * noise(t, 4);
        struct rig rig = rig_open(&s, n, none, none);
        rig_probabilities(&rig, logits, got);
        plain_probabilities(&s, logits, n, want);
        if (distance(got, want, n) > 2e-4)
            fail_msg("row %u of %u: %g of the mass differs", t, n, distance(got, want, n));
        assert_true(got[rig_pick(&rig, logits, t)] > 0);
        rig_close(&rig);
    }
}

/* --- sums and log-probabilities ------------------------------------------------------------- */

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

/* --- draws ---------------------------------------------------------------------------------- */

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

/* --- edits ---------------------------------------------------------------------------------- */

static void greedy_takes_the_lowest_of_ties(void **state)
{
    (void)state;
    float logits[300];
    struct mu_sampling s = defaults();
    s.temperature = 0;
    struct rig rig = rig_open(&s, 300, none, none);
    for (uint32_t i = 0; i < 300; i++)
        logits[i] = -1;
    assert_int_equal(rig_pick(&rig, logits, 0), 0);
    logits[299] = logits[191] = logits[192] = 0.0f;
    logits[190] = -0.0f;
    assert_int_equal(rig_pick(&rig, logits, 0), 190);
    logits[299] = 1;
    assert_int_equal(rig_pick(&rig, logits, 0), 299);
    rig_close(&rig);
}

static void penalties_follow_the_output(void **state)
{
    (void)state;
    const float logits[] = {4, 3, 2, -1, 3.5f};
    const uint32_t prompt[] = {1, 1, 3};
    struct mu_sampling s = defaults();
    s.repetition_penalty = 2;
    s.frequency_penalty = 0.25;
    s.presence_penalty = 0.5;
    struct rig rig = rig_open(&s, 5, (struct mu_sampler_ids){prompt, 3}, none);
    float got[5], edited[5] = {4, 1.5f, 2, -2, 3.5f}, want[5];
    const struct mu_sampling off = defaults();
    for (uint32_t n = 0; n < 3; n++) {
        rig_probabilities(&rig, logits, got);
        plain_probabilities(&off, edited, 5, want);
        assert_true(distance(got, want, 5) < 1e-6);
        mu_sampler_accept(rig.sampler, 0);
        mu_sampler_accept(rig.sampler, 3);
        edited[0] = 4.0f / 2 - 0.25f * (float)(n + 1) - 0.5f;
        edited[3] = -2 - 0.25f * (float)(n + 1) - 0.5f;
    }
    for (uint32_t i = 0; i < 2000; i++) /* room for every id, however often it comes */
        mu_sampler_accept(rig.sampler, i % 5);
    rig_close(&rig);
}

static void masks_and_ends_hold_back(void **state)
{
    (void)state;
    float logits[70];
    const uint32_t ends[] = {69, 3};
    struct mu_sampling s = defaults();
    struct mu_picked p;
    s.greedy = true;
    s.min_tokens = 2;
    for (uint32_t i = 0; i < 70; i++)
        logits[i] = (float)i;
    struct rig rig = rig_open(&s, 70, none, (struct mu_sampler_ids){ends, 2});
    assert_int_equal(rig_pick(&rig, logits, 0), 68);
    assert_int_equal(rig_pick(&rig, logits, 1), 68);
    assert_int_equal(rig_pick(&rig, logits, 2), 69);
    const uint32_t allowed[] = {1u << 3 | 1u << 17, UINT32_MAX >> 31, 1u << 5 | 1u << 9};
    assert_int_equal(mu_sampler_pick(rig.sampler, logits, 0, allowed, rig.scratch, &p, &rig.err),
                     MU_OK);
    assert_int_equal(p.id, 32);
    assert_int_equal(mu_sampler_pick(rig.sampler, logits, 9, allowed, rig.scratch, &p, &rig.err),
                     MU_OK);
    assert_int_equal(p.id, 69);
    const uint32_t nothing[] = {1u << 3, 0, 0};
    assert_int_equal(mu_sampler_pick(rig.sampler, logits, 0, nothing, rig.scratch, &p, &rig.err),
                     MU_E_INPUT);
    assert_non_null(strstr(rig.err.what, "no token is left"));
    rig_close(&rig);
}

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
        cmocka_unit_test(probabilities_are_those_of_others),
        cmocka_unit_test(short_cuts_change_nothing),
        cmocka_unit_test(sums_have_one_order),
        cmocka_unit_test(exponentials_are_those_of_the_kernels),
        cmocka_unit_test(logprobs_are_of_the_raw_logits),
        cmocka_unit_test(absent_logprobs_are_said_to_be_absent),
        cmocka_unit_test(a_seed_repeats_itself),
        cmocka_unit_test(draws_are_distributed_as_said),
        cmocka_unit_test(the_ends_of_the_unit_interval_have_tokens),
        cmocka_unit_test(greedy_takes_the_lowest_of_ties),
        cmocka_unit_test(penalties_follow_the_output),
        cmocka_unit_test(masks_and_ends_hold_back),
        cmocka_unit_test(bad_logits_are_never_sampled),
        cmocka_unit_test(extremes_stay_finite),
        cmocka_unit_test(values_out_of_range_are_refused),
        cmocka_unit_test(ids_outside_the_vocabulary_are_refused),
        cmocka_unit_test(an_absent_seed_is_drawn),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
