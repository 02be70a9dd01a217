/*
 * How the next token is chosen, as plain data: what a front end fills in, and what it gets back.
 * The public part of the sampler; sampler.h is the rest. Any thread.
 */
#ifndef MU_ENGINE_SAMPLING_H
#define MU_ENGINE_SAMPLING_H

#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

#define MU_LOGPROBS_MAX   20 /* as the servers we speak like */
#define MU_LOGIT_BIAS_MAX 1024

/* Below this a temperature means: take the best. */
#define MU_TEMPERATURE_GREEDY 1e-5

/*
 * Both orders begin: allowed ids, end ids before min_tokens, logit_bias, repetition, frequency and
 * presence penalties. Then
 *   VLLM: temperature, min_p, top_k, top_p, typical_p
 *   HF:   temperature, top_k, top_p, min_p, typical_p (what transformers does)
 * They differ where min_p drops tokens whose share top_p would have counted.
 */
enum mu_sampler_order { MU_SAMPLER_VLLM, MU_SAMPLER_HF };

struct mu_logit_bias {
    uint32_t id;
    float bias;
};

struct mu_sampling {
    uint64_t seed;
    bool has_seed; /* false: mu_sampling_draw_seed draws one */
    bool greedy;   /* the best token, whatever the temperature */
    enum mu_sampler_order order;
    double temperature;
    int32_t top_k;             /* 0 and -1: off; all tokens that tie with the k-th are kept */
    double top_p;              /* 1: off; 0 keeps the best alone */
    double min_p;              /* 0: off; relative to the best token's probability */
    double typical_p;          /* 1: off */
    double repetition_penalty; /* 1: off; counts prompt and output */
    double frequency_penalty;  /* 0: off; counts output only, as does the next */
    double presence_penalty;
    const struct mu_logit_bias *logit_bias; /* borrowed until the request was submitted */
    uint32_t n_logit_bias;
    uint32_t min_tokens; /* no end id is picked before this many tokens */
    int32_t n_logprobs;  /* -1: none; 0: the picked token's; K: and those of the K best */
};

/* Everything off, temperature 1. */
void mu_sampling_defaults(struct mu_sampling *sampling);
/* MU_E_USAGE, with its name and range, for the first value out of range. */
mu_status mu_sampling_check(const struct mu_sampling *sampling, uint32_t vocab, struct mu_err *err);
/* Gives a seed to those who brought none; it is part of the answer, so that it can be repeated. */
mu_status mu_sampling_draw_seed(struct mu_sampling *sampling, struct mu_err *err);

struct mu_logprob {
    uint32_t id;
    float logprob; /* natural logarithm, of the raw logits: before bias, penalties, temperature */
};

struct mu_picked {
    uint32_t id;
    bool has_logprob;
    float logprob;
    uint32_t n_top;
    struct mu_logprob top[MU_LOGPROBS_MAX]; /* best first; ties by id */
};

#endif
