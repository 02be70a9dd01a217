/* What the tests of sampling share: a sampler with its scratch, and numbers that look drawn. */
#ifndef MU_TESTS_ENGINE_SAMPLING_H
#define MU_TESTS_ENGINE_SAMPLING_H

#include "base/rng.h"
#include "engine/sampler.h"

#include "../data.h"

#include <math.h>
#include <string.h>

#define VOCAB_MAX 5000

static const struct mu_sampler_ids none = {0};

/* A sampler with its scratch, for one test. */
struct rig {
    struct mu_sampler *sampler;
    struct mu_sampler_scratch *scratch;
    struct mu_err err;
};

static inline struct rig rig_open(const struct mu_sampling *sampling, uint32_t vocab,
                                  struct mu_sampler_ids prompt, struct mu_sampler_ids ends)
{
    struct rig rig = {.err = MU_ERR_INIT};
    assert_int_equal(mu_sampler_scratch_create(vocab, &rig.scratch, &rig.err), MU_OK);
    assert_int_equal(
        mu_sampler_create(sampling, vocab, 0, prompt, ends, 1000, &rig.sampler, &rig.err), MU_OK);
    return rig;
}

static inline void rig_close(struct rig *rig)
{
    mu_sampler_destroy(rig->sampler);
    mu_sampler_scratch_destroy(rig->scratch);
}

static inline uint32_t rig_pick(struct rig *rig, const float *logits, uint32_t position)
{
    struct mu_picked picked;
    assert_int_equal(
        mu_sampler_pick(rig->sampler, logits, position, NULL, rig->scratch, &picked, &rig->err),
        MU_OK);
    return picked.id;
}

static inline void rig_probabilities(struct rig *rig, const float *logits, float *out)
{
    assert_int_equal(
        mu_sampler_probabilities(rig->sampler, logits, 0, NULL, rig->scratch, out, &rig->err),
        MU_OK);
}

static inline struct mu_sampling defaults(void)
{
    struct mu_sampling s;
    mu_sampling_defaults(&s);
    s.has_seed = true;
    return s;
}

/* Numbers that look drawn, the same on every run. */
static inline double noise(uint64_t key, uint32_t i)
{
    uint32_t words[4];
    mu_philox(key, (const uint32_t[4]){i, 1, 2, 3}, words);
    return mu_uniform(words[0], words[1]);
}

static inline uint32_t noise_below(uint64_t key, uint32_t i, size_t n)
{
    return (uint32_t)(noise(key, i) * (double)n);
}

#endif
