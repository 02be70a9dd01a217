/*
 * The engine's insides: replicas, each with its ranks and the scheduler that feeds them steps.
 *
 * Three kinds of thread meet here: front ends submit and cancel (any thread) and take events (one);
 * a scheduler's thread owns all requests of its replica from submit to their last event; each
 * rank's thread owns its rank. What crosses between them is marked. Replicas share nothing but the
 * model's file and the event descriptor.
 */
#ifndef MU_ENGINE_ENGINE_INT_H
#define MU_ENGINE_ENGINE_INT_H

#include "engine/rank.h"
#include "engine/sampler.h"

struct mu_request {
    struct mu_replica *replica;
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

/* It may have at most. */
static inline uint64_t mu_request_tokens(const struct mu_request *r)
{
    return (uint64_t)r->options.n_prompt + r->options.max_tokens;
}

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

/* remote.c: the steps of a replica between the process that schedules and those of its ranks. */
struct mu_remote;

struct mu_replica {
    struct mu_rank_common common;
    struct mu_remote *remote;         /* NULL: all ranks are threads of this process */
    struct mu_engine_options options; /* settled; the devices are this replica's */
    unsigned index;                   /* of the engine's replicas */
    unsigned first_rank;              /* of the engine's */
    unsigned n_ranks, tp, pp;
    unsigned logits_rank;       /* the first of those that have the head */
    struct mu_device_spec host; /* its budget, where something lies in the host's memory */
    unsigned n_here;            /* ranks that are in this process */
    bool spread;                /* not all ranks are where the scheduler is */
    bool schedules;             /* it is here */
    struct mu_rank *ranks;      /* stage by stage, tensor-parallel ranks side by side */
    struct mu_comm_group *tp_groups[MU_DEVICES_MAX], *pp_groups[MU_DEVICES_MAX];

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
    /* Tokens, read and made, of requests that are not done: grows with submit, falls by the
     * scheduler. */
    _Atomic uint64_t open_tokens;

    /* Scheduler -> the one thread that takes events. */
    struct mu_event *events; /* ring of n_events, a power of two */
    uint32_t n_events;
    int event_fd;      /* the engine's */
    bool event_fd_due; /* scheduler: events were added since the last wake-up */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t event_head; /* written by the scheduler */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t event_tail; /* written by the taker */
};

struct mu_engine {
    struct mu_engine_options options; /* settled */
    struct mu_part_place *places;     /* which the options point to */
    struct mu_replica *replicas;      /* [n_replicas] */
    unsigned n_replicas;
    int event_fd;
    double load_seconds;
    struct mu_device_usage *usages; /* with a world: of all ranks, once they have loaded */
    _Atomic uint32_t turn;          /* of the replica to get the next request, others being equal */
    unsigned taker_turn; /* of the replica whose events are looked at first; the taker's own */
};

/* replica.c. Init decides forms and sizes, and allocates nothing on devices; start has the ranks
 * begin to load; await waits until they have, calling `tell` meanwhile, and starts the scheduler.
 */
mu_status mu_replica_init(struct mu_replica *r, const struct mu_model_file *file,
                          const struct mu_engine_options *settled, unsigned index,
                          struct mu_err *err);
mu_status mu_replica_start(struct mu_replica *r, int event_fd, struct mu_err *err);
mu_status mu_replica_await(struct mu_replica *r, void (*tell)(void *arg), void *arg,
                           struct mu_err *err);
/* Ends all its threads, then frees everything; also what was only partly made. */
void mu_replica_fini(struct mu_replica *r);
/* What lies in the host's memory for its ranks. */
uint64_t mu_replica_host_bytes(const struct mu_replica *r);
/* Wakes the scheduler. */
void mu_replica_ring(struct mu_replica *r);

/* remote.c. In the scheduling process: post sends a step's words and expects what comes back; await
 * waits for one rank's end of it, release for the rest; stop has the others end. In the others:
 * main is the thread that stands for the scheduler, report says that a rank is done with a step. */
mu_status mu_remote_create(struct mu_replica *r, struct mu_err *err);
void mu_remote_destroy(struct mu_remote *m);
/* A rank failed: nobody waits any more. NULL is fine. */
void mu_remote_abort(struct mu_remote *m);
void mu_remote_post(struct mu_replica *r, uint32_t serial);
mu_status mu_remote_await(struct mu_replica *r, unsigned rank, uint32_t serial);
mu_status mu_remote_release(struct mu_replica *r, uint32_t serial);
const float *mu_remote_logits(const struct mu_replica *r, uint32_t serial);
void mu_remote_stop(struct mu_replica *r);
void mu_remote_main(void *replica);
void mu_remote_report(const struct mu_rank *rank, uint32_t serial);

/* scheduler.c: the scheduler's thread, and what it needs. */
mu_status mu_scheduler_init(struct mu_replica *e, struct mu_err *err);
void mu_scheduler_fini(struct mu_replica *e);
void mu_scheduler_main(void *replica);

#endif
