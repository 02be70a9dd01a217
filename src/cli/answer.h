/*
 * Answers: prompts through the engine, all together, streamed as text or collected for JSON. Shared
 * by generate and chat. The main thread.
 */
#ifndef MU_CLI_ANSWER_H
#define MU_CLI_ANSWER_H

#include "cli/session.h"

/* How tokens are drawn; NAN and UINT64_MAX: as the model's generation_config.json says. */
struct mu_answer_options {
    uint64_t n, seed, top_k, logprobs, min_tokens;
    double temperature, top_p, min_p, typical_p, repetition_penalty, frequency_penalty,
        presence_penalty;
    const char *sampler_order, *logit_bias;
    struct mu_option_list stop;
    bool greedy, ignore_eos;
};

#define MU_ANSWER_OPTION_ROWS(type)                                                                \
    {"n",     'n',   MU_OPTION_U64, offsetof(type, answer.n), "N", "tokens at most", 0,            \
     1 << 30, "256", NULL},                                                                        \
        {"greedy",                                                                                 \
         0,                                                                                        \
         MU_OPTION_FLAG,                                                                           \
         offsetof(type, answer.greedy),                                                            \
         NULL,                                                                                     \
         "always the likeliest token",                                                             \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"temperature",                                                                            \
         0,                                                                                        \
         MU_OPTION_F64,                                                                            \
         offsetof(type, answer.temperature),                                                       \
         "T",                                                                                      \
         "0: greedy; without it what the model's files say, else 1",                               \
         0,                                                                                        \
         100,                                                                                      \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"top-k",                                                                                  \
         0,                                                                                        \
         MU_OPTION_U64,                                                                            \
         offsetof(type, answer.top_k),                                                             \
         "K",                                                                                      \
         "only the K likeliest; 0: all",                                                           \
         0,                                                                                        \
         1 << 30,                                                                                  \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"top-p",                                                                                  \
         0,                                                                                        \
         MU_OPTION_F64,                                                                            \
         offsetof(type, answer.top_p),                                                             \
         "P",                                                                                      \
         "only the likeliest that together reach P",                                               \
         0,                                                                                        \
         1,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"min-p",                                                                                  \
         0,                                                                                        \
         MU_OPTION_F64,                                                                            \
         offsetof(type, answer.min_p),                                                             \
         "P",                                                                                      \
         "only those at least P times as likely as the likeliest",                                 \
         0,                                                                                        \
         1,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"typical-p",                                                                              \
         0,                                                                                        \
         MU_OPTION_F64,                                                                            \
         offsetof(type, answer.typical_p),                                                         \
         "P",                                                                                      \
         "only the most typical that together reach P",                                            \
         0,                                                                                        \
         1,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"repetition-penalty",                                                                     \
         0,                                                                                        \
         MU_OPTION_F64,                                                                            \
         offsetof(type, answer.repetition_penalty),                                                \
         "R",                                                                                      \
         "divide the logits of tokens seen before",                                                \
         0.01,                                                                                     \
         100,                                                                                      \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"frequency-penalty",                                                                      \
         0,                                                                                        \
         MU_OPTION_F64,                                                                            \
         offsetof(type, answer.frequency_penalty),                                                 \
         "F",                                                                                      \
         "subtract F for each time a token was given",                                             \
         -100,                                                                                     \
         100,                                                                                      \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"presence-penalty",                                                                       \
         0,                                                                                        \
         MU_OPTION_F64,                                                                            \
         offsetof(type, answer.presence_penalty),                                                  \
         "F",                                                                                      \
         "subtract F from tokens that were given",                                                 \
         -100,                                                                                     \
         100,                                                                                      \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"logit-bias",                                                                             \
         0,                                                                                        \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, answer.logit_bias),                                                        \
         "ID=B,...",                                                                               \
         "add B to the logit of token ID",                                                         \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"min-tokens",                                                                             \
         0,                                                                                        \
         MU_OPTION_U64,                                                                            \
         offsetof(type, answer.min_tokens),                                                        \
         "N",                                                                                      \
         "no end before N tokens",                                                                 \
         0,                                                                                        \
         1 << 30,                                                                                  \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"sampler-order",                                                                          \
         0,                                                                                        \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, answer.sampler_order),                                                     \
         "ORDER",                                                                                  \
         "in which order the choices above act",                                                   \
         0,                                                                                        \
         0,                                                                                        \
         "vllm",                                                                                   \
         "vllm|hf"},                                                                               \
        {"seed",                                                                                   \
         's',                                                                                      \
         MU_OPTION_U64,                                                                            \
         offsetof(type, answer.seed),                                                              \
         "SEED",                                                                                   \
         "same seed, same answer; without it one is drawn and reported",                           \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"stop",                                                                                   \
         0,                                                                                        \
         MU_OPTION_LIST,                                                                           \
         offsetof(type, answer.stop),                                                              \
         "TEXT",                                                                                   \
         "end before this text; may be given several times",                                       \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"ignore-eos",                                                                             \
         0,                                                                                        \
         MU_OPTION_FLAG,                                                                           \
         offsetof(type, answer.ignore_eos),                                                        \
         NULL,                                                                                     \
         "go on past the model's end tokens",                                                      \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
    {                                                                                              \
        "logprobs", 0, MU_OPTION_U64, offsetof(type, answer.logprobs), "K",                        \
            "log-probabilities of each token and of the K likeliest", 0, 20, NULL, NULL            \
    }

struct mu_prompt {
    uint32_t *ids, n_ids;
    char *where; /* the line it stands in, or "prompt 2"; NULL: it is the only one */
};

struct mu_answer {
    uint32_t prompt, choice; /* to which prompt, and which of its answers, from 0 */
    uint32_t *ids, n_ids;    /* the tokens of the answer; the end token too */
    double *came_s;          /* [n_ids] when each came, since the request */
    struct mu_text text;     /* without a tokenizer the ids, as ids came in: 1,2,3 */
    struct mu_text logprobs; /* the JSON list, "" when not asked for */
    const char *finish_reason;
    struct mu_request_result result;
};

struct mu_answers {
    struct mu_answer *items; /* all choices of the first prompt, then those of the second, ... */
    uint32_t n, n_choices;
    uint64_t n_tokens;
    double seconds;             /* from submitting them to the last token */
    double decode_tokens_per_s; /* of all together, once each had its first token; 0: not seen */
};

/* Answers each of the prompts `n_choices` times. Fills `out` (mu_answers_fini in any case; after an
 * interrupt it holds what there was). With `stream` texts are written to standard output as they
 * come, one answer after the other; several have headings. Options not `given` (looked up in `in`)
 * come from the model's files. */
mu_status mu_answers_run(struct mu_session *session, const struct mu_invocation *in,
                         const struct mu_answer_options *options, const struct mu_prompt *prompts,
                         uint32_t n_prompts, uint32_t n_choices, bool stream,
                         struct mu_answers *out, struct mu_err *err);
void mu_answers_fini(struct mu_answers *a);

/* Says on standard error how fast they were, one against the machine's read bandwidth when
 * `verbose`. */
void mu_answer_say_speed(const struct mu_session *session, const struct mu_run_options *options,
                         const struct mu_answers *a);

#endif
