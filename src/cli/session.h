/*
 * What the commands that run a model share: the options that say where and how, and the opening of
 * file, tokenizer and engine with the messages a person wants to see meanwhile. The main thread.
 */
#ifndef MU_CLI_SESSION_H
#define MU_CLI_SESSION_H

#include "base/json.h"
#include "cli/cli.h"
#include "engine/engine.h"
#include "text/text.h"

struct mu_run_options {
    const char *devices, *compute, *kv_type, *cpu, *weights, *device_map, *max_memory;
    uint64_t threads, tp, pp, dp, context, prefill_chunk;
    bool rope_by_prompt, verbose, offload_compute;
    bool profile; /* only generate has an option for it */
};

/* Rows of a command's option table; `type` is its struct, which has a `struct mu_run_options run`.
 */
#define MU_RUN_OPTION_ROWS(type)                                                                   \
    {"devices",                                                                                    \
     'd',                                                                                          \
     MU_OPTION_TEXT,                                                                               \
     offsetof(type, run.devices),                                                                  \
     "LIST",                                                                                       \
     "where to run: cpu, cpu:4 (four devices that share the cores), cpu:4x2GiB (each with a "      \
     "budget)",                                                                                    \
     0,                                                                                            \
     0,                                                                                            \
     "cpu",                                                                                        \
     NULL},                                                                                        \
        {"threads",                                                                                \
         't',                                                                                      \
         MU_OPTION_U64,                                                                            \
         offsetof(type, run.threads),                                                              \
         "N",                                                                                      \
         "threads of each device; 0: a core each",                                                 \
         0,                                                                                        \
         256,                                                                                      \
         "0",                                                                                      \
         NULL},                                                                                    \
        {"tp",                                                                                     \
         0,                                                                                        \
         MU_OPTION_U64,                                                                            \
         offsetof(type, run.tp),                                                                   \
         "N",                                                                                      \
         "tensor parallel: devices that share each layer; 0: all devices",                         \
         0,                                                                                        \
         64,                                                                                       \
         "0",                                                                                      \
         NULL},                                                                                    \
        {"pp",                                                                                     \
         0,                                                                                        \
         MU_OPTION_U64,                                                                            \
         offsetof(type, run.pp),                                                                   \
         "N",                                                                                      \
         "pipeline parallel: stages that share the layers",                                        \
         1,                                                                                        \
         64,                                                                                       \
         "1",                                                                                      \
         NULL},                                                                                    \
        {"dp",                                                                                     \
         0,                                                                                        \
         MU_OPTION_U64,                                                                            \
         offsetof(type, run.dp),                                                                   \
         "N",                                                                                      \
         "data parallel: replicas of the whole model that take requests in turn",                  \
         1,                                                                                        \
         64,                                                                                       \
         "1",                                                                                      \
         NULL},                                                                                    \
        {"device-map",                                                                             \
         0,                                                                                        \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, run.device_map),                                                           \
         "MODE|FILE|JSON",                                                                         \
         "which module goes to which device, as transformers takes it: auto, balanced, "           \
         "balanced_low_0, sequential, best, a device, or {\"model.layers.0\": 1, ...}; what is "   \
         "on cpu "                                                                                 \
         "or disk comes through a staging buffer",                                                 \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"max-memory",                                                                             \
         0,                                                                                        \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, run.max_memory),                                                           \
         "JSON|LIST",                                                                              \
         "what weights may take of each device, for --device-map: 0=300MiB,1=300MiB,cpu=2GiB; "    \
         "default: what budgets leave",                                                            \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"offload-compute",                                                                        \
         0,                                                                                        \
         MU_OPTION_FLAG,                                                                           \
         offsetof(type, run.offload_compute),                                                      \
         NULL,                                                                                     \
         "what a device map has on cpu is executed there, not staged",                             \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"compute",                                                                                \
         0,                                                                                        \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, run.compute),                                                              \
         "HOW",                                                                                    \
         "default: the fastest arithmetic; f32: the reference path",                               \
         0,                                                                                        \
         0,                                                                                        \
         "default",                                                                                \
         "default|f32"},                                                                           \
        {"kv-type",                                                                                \
         0,                                                                                        \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, run.kv_type),                                                              \
         "TYPE",                                                                                   \
         "type of the KV cache; auto: f16, or f32 with --compute f32",                             \
         0,                                                                                        \
         0,                                                                                        \
         "auto",                                                                                   \
         "auto|f16|bf16|f32"},                                                                     \
        {"cpu",                                                                                    \
         0,                                                                                        \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, run.cpu),                                                                  \
         "FAMILY",                                                                                 \
         "kernel family; without it the best this CPU has",                                        \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"context",                                                                                \
         'c',                                                                                      \
         MU_OPTION_U64,                                                                            \
         offsetof(type, run.context),                                                              \
         "N",                                                                                      \
         "longest sequence in tokens; 0: what is asked for",                                       \
         0,                                                                                        \
         1 << 30,                                                                                  \
         "0",                                                                                      \
         NULL},                                                                                    \
        {"prefill-chunk",                                                                          \
         0,                                                                                        \
         MU_OPTION_U64,                                                                            \
         offsetof(type, run.prefill_chunk),                                                        \
         "N",                                                                                      \
         "prompt tokens a step takes at most",                                                     \
         0,                                                                                        \
         65536,                                                                                    \
         "512",                                                                                    \
         NULL},                                                                                    \
        {"rope-by-prompt",                                                                         \
         0,                                                                                        \
         MU_OPTION_FLAG,                                                                           \
         offsetof(type, run.rope_by_prompt),                                                       \
         NULL,                                                                                     \
         "length-dependent rope goes by the prompt, as transformers does, not by the context",     \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
        {"weights",                                                                                \
         'w',                                                                                      \
         MU_OPTION_TEXT,                                                                           \
         offsetof(type, run.weights),                                                              \
         "TYPE",                                                                                   \
         "quantise matrices that are stored in a wider type while loading: q8_0, q4_k, ...",       \
         0,                                                                                        \
         0,                                                                                        \
         NULL,                                                                                     \
         NULL},                                                                                    \
    {                                                                                              \
        "verbose", 'v', MU_OPTION_FLAG, offsetof(type, run.verbose), NULL,                         \
            "tell about machine, model and memory on standard error", 0, 0, NULL, NULL             \
    }

struct mu_session {
    struct mu_model_file *file;
    struct mu_tokenizer *tokenizer; /* NULL until mu_session_tokenizer */
    struct mu_template *template;   /* NULL until a conversation was rendered */
    bool template_has_tools;        /* it is the one for conversations with tools */
    struct mu_engine *engine;       /* NULL until mu_session_engine */
    struct mu_engine_memory memory; /* what was predicted before loading */
    double decode_tokens_per_s, prefill_tokens_per_s; /* predicted; 0: costs were not timed here */
};

/* The type that --weights names; MU_E_USAGE with a list of the types when it has no encoder. */
mu_status mu_session_weight_type(const char *name, enum mu_dtype *out, struct mu_err *err);
/* Tells how many matrices cannot take that type, and what they take instead; `all` or only those
 * that are stored in a wider one. */
void mu_session_say_stand_ins(const struct mu_model_file *file, enum mu_dtype type, bool all);

mu_status mu_session_open(struct mu_session *session, const char *model, struct mu_err *err);
mu_status mu_session_tokenizer(struct mu_session *session, struct mu_err *err);
/* The engine's options for one sequence of `context` tokens, or of --context, if that is given. */
mu_status mu_session_engine_options(const struct mu_run_options *o, uint64_t context,
                                    uint64_t n_prompt, struct mu_engine_options *out,
                                    struct mu_err *err);
/* Opens the engine for `sequences` at a time, each of `context` tokens (or --context, if that is
 * given), whose prompts have `n_prompt`. */
mu_status mu_session_engine(struct mu_session *session, const struct mu_run_options *options,
                            uint64_t context, uint64_t n_prompt, uint64_t sequences,
                            struct mu_err *err);
void mu_session_close(struct mu_session *session);

/* On standard error: what each device needs, of what, and what it has. */
void mu_session_say_memory(const struct mu_engine_memory *memory);
/* The same for what does not fit, and the nearest that would. */
void mu_session_say_shortage(const struct mu_session *session, const struct mu_run_options *run,
                             const struct mu_engine_options *options);

/* The tokens of a raw text, with what the model's tokenizer adds at its ends (`add_special`) or
 * not. */
mu_status mu_session_encode(struct mu_session *session, struct mu_str text, bool add_special,
                            uint32_t **ids, uint32_t *n, struct mu_err *err);
/*
 * A conversation ({"messages": [...], "tools": ..., "variables": {...}, "now": ...}) as the text
 * that the model's chat template makes of it, with the model's special tokens as variables; and the
 * tokens of that text. It ends where the assistant begins, as "add_generation_prompt" says. `flags`
 * are those of mu_template_variables; for the tokens all of them are set.
 */
mu_status mu_session_render(struct mu_session *session, json_t *conversation, const char *now,
                            unsigned flags, struct mu_text *out, struct mu_err *err);
mu_status mu_session_encode_conversation(struct mu_session *session, json_t *conversation,
                                         uint32_t **ids, uint32_t *n, struct mu_err *err);

/* Reads "1,2,3" into ids (mu_free). */
mu_status mu_session_parse_ids(const char *text, uint32_t **ids, uint32_t *n, struct mu_err *err);

/* In all processes but the first, where a launcher started several: opens the model as `options`
 * say and computes what the first one asks for, until that one is done. */
mu_status mu_session_follow(const char *model, const struct mu_run_options *options,
                            struct mu_err *err);

/* Submits all requests and takes events until the last of them is done; `each` (may be NULL) sees
 * every event and returns false to cancel its request. When one fails, or the user interrupts, all
 * are cancelled. Fills `results` [n] whatever becomes of them. */
mu_status mu_session_requests(struct mu_session *session, const struct mu_request_options *options,
                              uint32_t n, bool (*each)(void *arg, const struct mu_event *event),
                              void *arg, struct mu_request_result *results, struct mu_err *err);

/* Appends "predicted":{...}; and what "measured" has under the same keys: of the whole run, and
 * before it the speeds of one generation where enough tokens were seen to say them, each followed
 * by a comma. */
void mu_session_add_predicted(const struct mu_session *session, struct mu_text *out);
void mu_session_add_speed(const struct mu_request_result *r, struct mu_text *out);
void mu_session_add_measured(const struct mu_session *session, struct mu_text *out);

#endif
