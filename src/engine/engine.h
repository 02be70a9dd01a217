/*
 * engine: a loaded model on its devices (struct mu_engine) and single generations on it (struct
 * mu_request). Front ends know these two handles and nothing of tensors, nor of which replica has
 * their request: its bits do not depend on that.
 *
 * mu_request_submit and mu_request_cancel never block and may be called by any thread. Events are
 * taken by one thread, which is woken through the event descriptor once a step at most.
 */
#ifndef MU_ENGINE_ENGINE_H
#define MU_ENGINE_ENGINE_H

#include "device/device.h"
#include "engine/sampling.h"
#include "format/format.h"
#include "kernel/kernel.h"
#include "model/model.h"

#define MU_STEPS_MAX 8 /* in flight together; and pipeline stages, but for those of `places` */

struct mu_world;

struct mu_engine_options {
    struct mu_device_list devices; /* with a world, of all its processes, in order */
    /* devices = dp x pp x tp: replicas of stages of ranks that share layers. 0: pp and dp 1, tp
     * what is left. */
    uint32_t tp, pp, dp;
    /* [mu_part_count]: which stage has what; the engine keeps a copy. NULL: layers shared out
     * evenly. */
    const struct mu_part_place *places;
    uint64_t host_bytes; /* that parts in the host's memory may take; 0: what is available */
    enum mu_compute compute;
    const char *kernels; /* family by name; NULL: the best */
    enum mu_dtype kv_type;
    enum mu_dtype weights;  /* matrices stored in a wider type are requantised to this; F32: none */
    uint32_t context;       /* longest sequence, prompt and answer; 0: the model's */
    uint32_t max_sequences; /* at work together, on all replicas; 0: 1 */
    uint32_t max_rows;      /* tokens in one step; 0: 512 */
    uint32_t prefill_chunk; /* tokens of one prompt in one step; 0: max_rows */
    uint64_t rope_context;  /* what length-dependent rope kinds go by; 0: context */
    struct mu_world *world; /* the processes that share the work, as agreed on; NULL: only this */
    /* Called now and then while loading, by the opening thread. */
    void (*progress)(void *arg, uint64_t done_bytes, uint64_t all_bytes);
    void *progress_arg;
    bool profile; /* keep the time of every operation: see mu_engine_profile */
};

#define MU_LAYERS_TEXT     24
#define MU_MEMORY_ROWS_MAX (2 * MU_DEVICES_MAX)

/* What every rank needs, before anything is loaded; or what lies in the host's memory for the ranks
 * of a replica. */
struct mu_rank_memory {
    char device[MU_DEVICE_NAME_MAX];
    char layers[MU_LAYERS_TEXT]; /* "0-3,8-11"; those it has a part of */
    uint32_t replica, tp_rank;
    uint64_t bytes[MU_PURPOSE_COUNT], total_bytes, budget_bytes;
};

struct mu_engine_memory {
    unsigned n_ranks; /* behind them hosts, of replicas that have something there, count too */
    bool fits;
    uint64_t context_fits; /* the longest context that would fit, 0 when none does */
    struct mu_rank_memory ranks[MU_MEMORY_ROWS_MAX];
};

/* The memory that mu_engine_open would take. Loads nothing. */
mu_status mu_engine_memory(const struct mu_model_file *file,
                           const struct mu_engine_options *options, struct mu_engine_memory *out,
                           struct mu_err *err);

/* What the weights of each part would take, packed, without tensor parallel: [mu_part_count]. */
mu_status mu_engine_part_bytes(const struct mu_model_file *file,
                               const struct mu_engine_options *options, uint64_t *out,
                               struct mu_err *err);

/*
 * For every process of a world, before memory is asked for or an engine opened. On the way in,
 * `options` holds what this process was asked for and its own devices, `asked` the words of the
 * user that must not differ, as "name TAB value NEWLINE"; on the way out, what the first process
 * wants and the devices of all. MU_E_PEER names the first rank that has another model, other
 * kernels, or was asked for something else.
 */
mu_status mu_engine_agree(const struct mu_model_file *file, const char *asked,
                          struct mu_engine_options *options, struct mu_err *err);

struct mu_engine;

/* Loads the model, which must stay open. MU_E_FIT before the first byte when it does not fit. */
mu_status mu_engine_open(const struct mu_model_file *file, const struct mu_engine_options *options,
                         struct mu_engine **out, struct mu_err *err);
/* In all processes of a world but the first, which takes the requests: does as that one says until
 * it closes its engine. */
mu_status mu_engine_follow(struct mu_engine *engine, struct mu_err *err);
/* Ends all requests (their handles stay to be destroyed) and frees everything. */
void mu_engine_close(struct mu_engine *engine);

/* How many rows a step takes when `left` are to be done and `most` fit. Stages work side by side
 * only on different steps, so with several (`pp`) what there is to do is cut into more steps than
 * stages, down to pieces that kernels still multiply at full speed. Prices go by it too. */
uint32_t mu_engine_step_rows(uint32_t most, uint32_t pp, uint64_t left);

struct mu_engine_facts {
    const char *family;          /* of kernels */
    unsigned n_ranks, n_threads; /* of all replicas */
    uint32_t context, vocab;
    uint64_t weight_bytes;       /* packed, on all devices */
    uint64_t bytes_read_a_token; /* packed weights that one decoded token reads, without KV */
    double load_seconds;
};
void mu_engine_facts(const struct mu_engine *engine, struct mu_engine_facts *out);
/* The memory in use now and at most, of row i of mu_engine_memory. */
void mu_engine_usage(const struct mu_engine *engine, unsigned rank, struct mu_device_usage *out);

/* Where the time of a rank's steps went: until all its threads had begun ("start"), then by
 * operations that do the same in every layer. A step counts as decoding when each of its sequences
 * goes on by one token and wants the next. */
enum mu_profile_phase { MU_PROFILE_PREFILL, MU_PROFILE_DECODE, MU_PROFILE_PHASES };

#define MU_PROFILE_ROWS_MAX 20
struct mu_profile_row {
    const char *name;
    uint32_t n;            /* operations of a step */
    double seconds;        /* of all steps */
    uint64_t weight_bytes; /* that a step of one row reads */
};

struct mu_profile_part {
    uint64_t n_steps;
    double seconds;
    unsigned n_rows;
    struct mu_profile_row rows[MU_PROFILE_ROWS_MAX]; /* in the order of the program */
};

/* While no request is open. False when there is nothing: no step of that phase, or no profile. */
bool mu_engine_profile(const struct mu_engine *engine, unsigned rank, enum mu_profile_phase phase,
                       struct mu_profile_part *out);

struct mu_request_options {
    const uint32_t *prompt; /* copied */
    uint32_t n_prompt;
    uint32_t max_tokens; /* 0: only read the prompt */
    const uint32_t *stop_ids;
    unsigned n_stop_ids;
    struct mu_sampling sampling; /* copied, with what it points to */
    uint32_t choice;        /* which of several answers to one prompt: part of the draw's key */
    uint32_t prefill_chunk; /* tokens of the prompt in one step, if less than the engine's; or 0 */
    bool digest;
    /* Asked of the prompt itself; the memory is the caller's until the request is done. */
    float *prompt_logprobs; /* [n_prompt]: of prompt[i] given what stands before; [0] NAN */
    const uint32_t *logit_positions; /* ascending */
    uint32_t n_logit_positions;
    float *logits; /* [n_logit_positions][vocab] */
    void *user;
};

struct mu_request;

enum mu_finish { MU_FINISH_STOP, MU_FINISH_LENGTH, MU_FINISH_CANCELLED, MU_FINISH_FAILED };

struct mu_event {
    struct mu_request *request;
    void *user;
    bool done;               /* the last event of its request, without a token */
    struct mu_picked picked; /* the token */
    enum mu_finish finish;   /* when done */
};

struct mu_request_result {
    enum mu_finish finish;
    uint64_t seed; /* drawn when none was given */
    uint64_t digest;
    uint32_t n_prompt, n_tokens;
    double prefill_seconds, decode_seconds; /* submit to first token; first to last token */
    struct mu_err err;                      /* when failed */
};

/* MU_E_INPUT for a prompt past the context, a token beyond the vocabulary and so on. */
mu_status mu_request_submit(struct mu_engine *engine, const struct mu_request_options *options,
                            struct mu_request **out, struct mu_err *err);
/* Asks for its end; the last event still comes. */
void mu_request_cancel(struct mu_request *request);
/* Valid once the last event was taken. */
void mu_request_result(const struct mu_request *request, struct mu_request_result *out);
/* After the last event was taken, or after mu_engine_close. */
void mu_request_destroy(struct mu_request *request);

/* Readable when events wait; poll it, or sleep in mu_engine_wait. */
int mu_engine_event_fd(const struct mu_engine *engine);
/* False when none waits. */
bool mu_engine_next_event(struct mu_engine *engine, struct mu_event *out);
/* Sleeps until an event waits, `timeout_ms` passed (-1: never) or a signal came. */
void mu_engine_wait(struct mu_engine *engine, int timeout_ms);

#endif
