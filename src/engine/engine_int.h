/*
 * The engine's insides: its ranks, and the scheduler that feeds them steps.
 *
 * Three kinds of thread meet here: front ends submit and cancel (any thread) and take events (one);
 * the scheduler's thread owns all requests from submit to their last event; each rank's thread owns
 * its rank. What crosses between them is marked.
 */
#ifndef MU_ENGINE_ENGINE_INT_H
#define MU_ENGINE_ENGINE_INT_H

#include "engine/rank.h"
#include "engine/sampler.h"

struct mu_request {
    struct mu_engine *engine;
    struct mu_request *next; /* in the inbox, then in the scheduler's queues */
    _Atomic bool cancelled;  /* set by any thread */

    struct mu_request_options options; /* pointers into memory of the request's own */
    uint32_t *tokens;                  /* [n_prompt + max_tokens] prompt, then answer */
    uint32_t n_known;                  /* tokens that are known */
    uint32_t n_posted;                 /* of these, handed to the ranks */
    uint32_t next_logit;               /* index into logit_positions */
    unsigned in_flight;                /* steps that hold rows of this request */
    uint32_t *blocks;                  /* of the cache, in order of position */
    uint32_t n_blocks;
    struct mu_sampler *sampler;
    uint64_t submitted_ns, first_token_ns, last_token_ns;
    struct mu_request_result result;
};

/* One row whose logits the scheduler takes when the step is done. */
struct mu_out_row {
    struct mu_request *request;
    uint32_t position;
};

struct mu_step_record {
    uint32_t serial;
    uint32_t n_requests, n_out;
    struct mu_request **requests; /* [max_sequences] */
    struct mu_out_row *out;       /* [max_out] */
};

struct mu_engine {
    struct mu_rank_common common;
    struct mu_engine_options options;
    unsigned n_ranks, tp, pp;
    struct mu_rank *ranks; /* stage by stage, tensor-parallel ranks side by side */
    struct mu_comm_group *tp_groups[MU_DEVICES_MAX], *pp_groups[MU_DEVICES_MAX];
    double load_seconds;

    /* The scheduler's own. */
    struct mu_thread scheduler;
    struct mu_request *waiting, **waiting_end; /* in order of submission */
    struct mu_request **running;               /* [max_sequences] */
    uint32_t n_running;
    uint32_t *free_blocks, n_free_blocks;
    struct mu_step_record *records; /* [n_slots] */
    uint32_t n_posted, n_done;      /* steps */
    struct mu_sampler_scratch *scratch;
    struct mu_err failed; /* a rank gave up: every request gets this */

    /* Any thread -> scheduler. */
    _Alignas(MU_CACHE_LINE) struct mu_request *_Atomic inbox; /* newest first */
    _Atomic uint32_t bell; /* grows with every submit, cancel, stop */
    _Atomic uint32_t stop;

    /* Scheduler -> the one thread that takes events. */
    struct mu_event *events; /* ring of n_events, a power of two */
    uint32_t n_events;
    int event_fd;
    bool event_fd_due; /* scheduler: events were added since the last wake-up */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t event_head; /* written by the scheduler */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t event_tail; /* written by the taker */
};

/* scheduler.c: the scheduler's thread, and what it needs. */
mu_status mu_scheduler_init(struct mu_engine *e, struct mu_err *err);
void mu_scheduler_fini(struct mu_engine *e);
void mu_scheduler_main(void *engine);
void mu_engine_ring(struct mu_engine *engine);

/* Posts nothing more to the ranks and ends their threads. */
void mu_engine_stop_ranks(struct mu_engine *e);

#endif
