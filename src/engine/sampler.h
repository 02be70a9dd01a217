/*
 * The sampler: from one row of logits to one token. Internal to the engine.
 *
 * A struct mu_sampler is one choice of one request: its parameters and the ids it has seen. It is
 * created at submit, by any thread; from then on the engine's thread alone uses it, and nothing is
 * allocated. The buffers as long as the vocabulary are in a scratch, one for each engine thread.
 *
 * The result depends on the logits, the parameters, the ids seen, and (seed, choice, position):
 * not on the batch, nor on what was drawn before.
 */
#ifndef MU_ENGINE_SAMPLER_H
#define MU_ENGINE_SAMPLER_H

#include "engine/sampling.h"

struct mu_sampler;
struct mu_sampler_scratch;

struct mu_sampler_ids {
    const uint32_t *ids;
    uint32_t n;
};

mu_status mu_sampler_scratch_create(uint32_t vocab, struct mu_sampler_scratch **out,
                                    struct mu_err *err);
void mu_sampler_scratch_destroy(struct mu_sampler_scratch *scratch);

/*
 * Copies what it needs of `sampling`, which has been checked and has its seed. `ends` are the ids
 * that min_tokens holds back; `max_output` bounds the calls of mu_sampler_accept.
 */
mu_status mu_sampler_create(const struct mu_sampling *sampling, uint32_t vocab, uint32_t choice,
                            struct mu_sampler_ids prompt, struct mu_sampler_ids ends,
                            uint32_t max_output, struct mu_sampler **out, struct mu_err *err);
void mu_sampler_destroy(struct mu_sampler *sampler);

/* Counts a token of the output. Picking does not, so that a position can be picked again. */
void mu_sampler_accept(struct mu_sampler *sampler, uint32_t id);

/*
 * Picks the token of output position `position` (0 is the first). `allowed` is NULL or a bit for
 * every id, lowest bit first, in words of 32. MU_E_INPUT when a logit is NaN or +infinity, and when
 * no token is left to pick.
 */
mu_status mu_sampler_pick(const struct mu_sampler *sampler, const float *logits, uint32_t position,
                          const uint32_t *allowed, struct mu_sampler_scratch *scratch,
                          struct mu_picked *out, struct mu_err *err);

/* The log-probability that raw logits give an id: for tokens that were not picked but read. */
mu_status mu_sampler_logprob(const float *logits, uint32_t id, struct mu_sampler_scratch *scratch,
                             float *out, struct mu_err *err);

/* The probability with which mu_sampler_pick picks each id, [vocab]; for tests. */
mu_status mu_sampler_probabilities(const struct mu_sampler *sampler, const float *logits,
                                   uint32_t position, const uint32_t *allowed,
                                   struct mu_sampler_scratch *scratch, float *out,
                                   struct mu_err *err);

#endif
