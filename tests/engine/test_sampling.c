/* The sampler against others' probabilities, against a plain restatement of its definition on
 * vocabularies long enough for its short cuts, and what penalties, masks and ends do. */
#include "base/json.h"
#include "base/number.h"

#include "sampling.h"

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
    const char *oracle = getenv("ORACLE");
    struct mu_text path;
    struct mu_err err = MU_ERR_INIT;
    json_t *root = NULL;
    mu_text_init(&path, 4096);
    mu_text_printf(&path, "%s%s/8_sampling/cases.json", oracle ? oracle : tests_folder(),
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(probabilities_are_those_of_others),
        cmocka_unit_test(short_cuts_change_nothing),
        cmocka_unit_test(greedy_takes_the_lowest_of_ties),
        cmocka_unit_test(penalties_follow_the_output),
        cmocka_unit_test(masks_and_ends_hold_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
