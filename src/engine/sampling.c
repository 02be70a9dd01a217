/* The ranges of what a caller may ask for; see sampling.h. Knows nothing of logits. */
#include "engine/sampling.h"

#include "base/number.h"

#include <errno.h>
#include <stddef.h>
#include <sys/random.h>

void mu_sampling_defaults(struct mu_sampling *sampling)
{
    *sampling = (struct mu_sampling){
        .temperature = 1,
        .top_p = 1,
        .typical_p = 1,
        .repetition_penalty = 1,
        .n_logprobs = -1,
    };
}

#define FIELD(name) #name, offsetof(struct mu_sampling, name)

/* Penalties and biases as OpenAI's API has them; the other limits keep products finite. */
static const struct {
    const char *name;
    size_t offset;
    double min, max;
    bool min_open;
} ranges[] = {
    {FIELD(temperature), 0, 100, false},
    {FIELD(top_p), 0, 1, false},
    {FIELD(min_p), 0, 1, false},
    {FIELD(typical_p), 0, 1, true},
    {FIELD(repetition_penalty), 0.01, 100, false},
    {FIELD(frequency_penalty), -2, 2, false},
    {FIELD(presence_penalty), -2, 2, false},
};

static mu_status range_check(const char *name, double value, double min, double max, bool min_open,
                             struct mu_err *err)
{
    /* Written so that NaN fails. */
    if ((min_open ? value > min : value >= min) && value <= max) return MU_OK;
    char got[MU_FLOAT_TEXT], low[MU_FLOAT_TEXT], high[MU_FLOAT_TEXT];
    return mu_fail(err, MU_E_USAGE, "%s is %s, but must be %s %s and at most %s", name,
                   mu_format_f64(value, got), min_open ? "above" : "at least",
                   mu_format_f64(min, low), mu_format_f64(max, high));
}

static mu_status bias_check(const struct mu_sampling *s, uint32_t vocab, struct mu_err *err)
{
    MU_TRY(
        range_check("the length of logit_bias", s->n_logit_bias, 0, MU_LOGIT_BIAS_MAX, false, err));
    for (uint32_t i = 0; i < s->n_logit_bias; i++) {
        MU_TRY(range_check("an id of logit_bias", s->logit_bias[i].id, 0, vocab - 1.0, false, err));
        MU_TRY(range_check("a value of logit_bias", (double)s->logit_bias[i].bias, -100, 100, false,
                           err));
    }
    return MU_OK;
}

mu_status mu_sampling_check(const struct mu_sampling *sampling, uint32_t vocab, struct mu_err *err)
{
    for (unsigned i = 0; i < MU_ARRAY_LEN(ranges); i++) {
        const double *value = (const void *)((const char *)sampling + ranges[i].offset);
        MU_TRY(range_check(ranges[i].name, *value, ranges[i].min, ranges[i].max, ranges[i].min_open,
                           err));
    }
    MU_TRY(range_check("top_k", sampling->top_k, -1, INT32_MAX, false, err));
    MU_TRY(range_check("n_logprobs", sampling->n_logprobs, -1, MU_LOGPROBS_MAX, false, err));
    MU_TRY(range_check("order", sampling->order, MU_SAMPLER_VLLM, MU_SAMPLER_HF, false, err));
    return bias_check(sampling, vocab, err);
}

mu_status mu_sampling_draw_seed(struct mu_sampling *sampling, struct mu_err *err)
{
    if (sampling->has_seed) return MU_OK;
    uint64_t seed;
    if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
        return mu_fail_errno(err, MU_E_RESOURCE, errno, "cannot draw a seed");
    /* 53 bits survive every JSON reader on the way back. */
    sampling->seed = seed >> 11;
    sampling->has_seed = true;
    return MU_OK;
}
