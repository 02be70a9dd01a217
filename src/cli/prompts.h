/*
 * The prompts of a command line: raw texts, a file, a conversation, token ids, or a file with many
 * of these. The main thread.
 */
#ifndef MU_CLI_PROMPTS_H
#define MU_CLI_PROMPTS_H

#include "cli/answer.h"

struct mu_prompt_options {
    struct mu_option_list prompt;
    const char *file, *chat, *tokens, *prompts;
};

#define MU_PROMPT_OPTION_ROWS(type)                                                                \
    {"prompt",                                                                                     \
     'p',                                                                                          \
     MU_OPTION_LIST,                                                                               \
     offsetof(type, prompts.prompt),                                                               \
     "TEXT",                                                                                       \
     "raw text to go on from; - reads standard input; several are answered together",              \
     0,                                                                                            \
     0,                                                                                            \
     NULL,                                                                                         \
     NULL},                                                                                        \
        {"file",                                                                                   \
         'f',                                                                                      \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, prompts.file),                                                             \
         "FILE",                                                                                   \
         "the same from a file",                                                                   \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"chat",                                                                                   \
         0,                                                                                        \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, prompts.chat),                                                             \
         "FILE",                                                                                   \
         "a conversation in JSON ({\"messages\":[...]}), put through the model's template; - "     \
         "reads standard input",                                                                   \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"tokens",                                                                                 \
         0,                                                                                        \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, prompts.tokens),                                                           \
         "IDS",                                                                                    \
         "the prompt as token ids: 1,2,3",                                                         \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
    {                                                                                              \
        "prompts", 0, MU_OPTION_TEXT, offsetof(type, prompts.prompts), "FILE",                     \
            "many prompts, answered together: a line each of {\"prompt\":\"text\"}, "              \
            "{\"prompt\":[1,2,3]} or {\"messages\":[...]}; - reads standard input",                \
            0, 0, NULL, NULL                                                                       \
    }

struct mu_prompts {
    struct mu_prompt *items;
    uint32_t n, size;
    uint32_t longest; /* tokens */
};

/* Prompts on the command line put aside those of the environment and the config file. */
void mu_prompts_settle(const struct mu_invocation *in, struct mu_prompt_options *o);
/* Reads and encodes them all; exactly one kind must be given. Only those that are no ids want a
 * tokenizer. mu_prompts_fini in any case. */
mu_status mu_prompts_read(struct mu_session *session, const struct mu_prompt_options *o,
                          struct mu_prompts *out, struct mu_err *err);
void mu_prompts_fini(struct mu_prompts *prompts);

#endif
