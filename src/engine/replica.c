/* One replica of the model: its ranks, their groups and threads, from making to ending. Knows no
 * other replica; called by engine.c. The scheduler is in scheduler.c. */
#include "engine/engine_int.h"

#include <stdio.h>

#define OUT_MAX     64 /* rows of one step whose logits can be had */
#define PROGRESS_MS 50

/* Creates the ranks without memory. */
static mu_status init_ranks(struct mu_replica *e, struct mu_err *err)
{
    struct mu_rank_common *c = &e->common;
    const struct mu_engine_options *o = &e->options;
    uint32_t max_blocks = MU_CEIL_DIV(o->context, MU_KV_BLOCK_TOKENS);
    c->config = mu_model_file_config(c->file);
    c->compute = o->compute;
    c->kv_type = o->kv_type;
    c->weights = o->weights;
    c->context = o->context;
    c->rope_context = o->rope_context;
    c->profile = o->profile;
    c->n_blocks = max_blocks * o->max_sequences;
    c->n_slots = MU_MIN(o->pp, (uint32_t)MU_STEPS_MAX);
    c->layout = (struct mu_step_layout){.max_rows = o->max_rows,
                                        .max_sequences = o->max_sequences,
                                        .max_out = MU_MAX(OUT_MAX, o->max_sequences),
                                        .max_blocks = max_blocks};
    c->layout.max_out = MU_MIN(c->layout.max_out, o->max_rows);
    e->tp = o->tp;
    e->pp = o->pp;
    e->logits_rank = o->places[mu_part_head(c->config)].stage * o->tp;
    e->ranks = mu_alloc_aligned(MU_CACHE_LINE, o->devices.n * sizeof *e->ranks);
    if (!e->ranks) return mu_fail_memory(err, o->devices.n * sizeof *e->ranks);
    memset(e->ranks, 0, o->devices.n * sizeof *e->ranks);
    for (uint32_t stage = 0; stage < o->pp; stage++)
        for (uint32_t r = 0; r < o->tp; r++) {
            struct mu_shard shard = {
                .stage = stage, .places = o->places, .tp_rank = r, .tp_size = o->tp};
            unsigned i = e->n_ranks++;
            unsigned process = o->devices.items[i].process;
            MU_TRY(mu_rank_init(&e->ranks[i], c, &e->options.devices.items[i], &shard, err));
            e->ranks[i].number = i;
            e->ranks[i].process = process;
            e->ranks[i].here = !o->world || process == mu_world_process(o->world);
            e->spread = e->spread || process != 0;
            e->n_here += e->ranks[i].here;
        }
    return MU_OK;
}

uint64_t mu_replica_host_bytes(const struct mu_replica *r)
{
    uint64_t bytes = 0;
    for (unsigned i = 0; i < r->n_ranks; i++)
        bytes += mu_rank_weight_bytes(&r->ranks[i], MU_HOME_HOST);
    return bytes;
}

static void tell_state(struct mu_rank *rank)
{
    atomic_store_explicit(&rank->state, rank->status == MU_OK ? MU_RANK_READY : MU_RANK_FAILED,
                          memory_order_release);
    mu_wake_word(&rank->state);
}

/* The others must not wait for this rank. */
static void give_up(struct mu_rank *rank, uint32_t serial)
{
    rank->failed_in = serial;
    tell_state(rank);
    mu_comm_abort(rank->tp_group);
    mu_comm_abort(rank->pp_group);
    mu_remote_abort(rank->remote);
}

static void rank_main(void *arg)
{
    struct mu_rank *rank = arg;
    struct mu_rank_common *c = rank->common;
    rank->status = mu_rank_load(rank, &rank->err);
    bool ready = rank->status == MU_OK;
    tell_state(rank);
    for (uint32_t serial = 0; ready; serial++) {
        while (atomic_load_explicit(&c->posted, memory_order_acquire) == serial)
            mu_wait_word(&c->posted, serial);
        if (atomic_load_explicit(&c->stop, memory_order_relaxed)) break;
        /* Once failed it only counts the steps that were under way: what it left in its buffers
         * others may still be copying, and its staging stands where the step broke off. */
        if (rank->status == MU_OK && mu_rank_execute(rank, serial) != MU_OK) give_up(rank, serial);
        if (rank->remote && rank->process != 0) mu_remote_report(rank, serial);
        atomic_store_explicit(&rank->done, serial + 1, memory_order_release);
        mu_wake_word(&rank->done);
    }
    mu_team_destroy(rank->team); /* by the thread that made it */
    rank->team = NULL;
}

/* The group of `n` ranks from `first` on, `step` apart: threads where all of them live here, over
 * processes where only some do; none where none does. */
static mu_status create_group(struct mu_replica *e, unsigned first, unsigned step, unsigned n,
                              unsigned id, struct mu_comm_group **out, struct mu_err *err)
{
    unsigned processes[MU_DEVICES_MAX], n_here = 0;
    for (unsigned i = 0; i < n; i++) {
        const struct mu_rank *rank = &e->ranks[first + i * step];
        processes[i] = rank->process;
        n_here += rank->here;
    }
    if (n_here == 0) return MU_OK;
    return n_here == n ? mu_comm_create(n, out, err)
                       : mu_comm_create_over(e->options.world, id, processes, n, out, err);
}

static mu_status create_groups(struct mu_replica *e, struct mu_err *err)
{
    for (unsigned stage = 0; e->tp > 1 && stage < e->pp; stage++) {
        unsigned first = stage * e->tp;
        MU_TRY(create_group(e, first, 1, e->tp, e->first_rank + first, &e->tp_groups[stage], err));
        for (unsigned r = 0; e->tp_groups[stage] && r < e->tp; r++) {
            e->ranks[first + r].tp_group = e->tp_groups[stage];
            e->ranks[first + r].tp = mu_comm_rank(e->tp_groups[stage], r);
        }
    }
    for (unsigned r = 0; e->pp > 1 && r < e->tp; r++) {
        unsigned id = MU_DEVICES_MAX + e->first_rank + r;
        MU_TRY(create_group(e, r, e->tp, e->pp, id, &e->pp_groups[r], err));
        for (unsigned stage = 0; e->pp_groups[r] && stage < e->pp; stage++) {
            struct mu_rank *rank = &e->ranks[stage * e->tp + r];
            rank->pp_group = e->pp_groups[r];
            rank->pp = mu_comm_rank(rank->pp_group, stage);
        }
    }
    return MU_OK;
}

mu_status mu_replica_init(struct mu_replica *r, const struct mu_model_file *file,
                          const struct mu_engine_options *settled, unsigned index,
                          struct mu_err *err)
{
    unsigned n = settled->tp * settled->pp;
    memset(r, 0, sizeof *r);
    r->event_fd = -1;
    r->index = index;
    r->first_rank = index * n;
    r->schedules = !settled->world || mu_world_process(settled->world) == 0;
    r->common.file = file;
    r->options = *settled;
    r->options.devices.n = n;
    memmove(r->options.devices.items, settled->devices.items + r->first_rank,
            n * sizeof *settled->devices.items);
    r->options.max_sequences = MU_CEIL_DIV(settled->max_sequences, settled->dp);
    uint64_t host = settled->host_bytes ? settled->host_bytes : settled->devices.host_bytes;
    r->host = (struct mu_device_spec){.name = "host", .budget_bytes = host / settled->dp};
    MU_TRY(mu_kernels_choose(settled->kernels, &r->common.kernels, err));
    return init_ranks(r, err);
}

mu_status mu_replica_start(struct mu_replica *r, int event_fd, struct mu_err *err)
{
    size_t words = mu_step_words(&r->common.layout);
    r->event_fd = event_fd;
    if (!r->schedules && r->n_here == 0) return MU_OK; /* nothing of it is here */
    for (uint32_t i = 0; i < r->common.n_slots; i++)
        if (!(r->common.slots[i] = mu_calloc(words, sizeof(uint32_t))))
            return mu_fail_memory(err, words * sizeof(uint32_t));
    if (mu_replica_host_bytes(r) > 0) MU_TRY(mu_device_open(&r->host, &r->common.host, err));
    MU_TRY(create_groups(r, err));
    if (r->spread) MU_TRY(mu_remote_create(r, err));
    if (r->schedules) MU_TRY(mu_scheduler_init(r, err));
    for (unsigned i = 0; i < r->n_ranks; i++) {
        char name[24];
        r->ranks[i].remote = r->remote;
        if (!r->ranks[i].here) continue;
        (void)snprintf(name, sizeof name, "muster-rank-%u", r->first_rank + i);
        MU_TRY(mu_thread_start(&r->ranks[i].thread, rank_main, &r->ranks[i], name, -1, err));
    }
    return MU_OK;
}

mu_status mu_replica_await(struct mu_replica *r, void (*tell)(void *arg), void *arg,
                           struct mu_err *err)
{
    for (unsigned i = 0; i < r->n_ranks; i++) {
        struct mu_rank *rank = &r->ranks[i];
        while (rank->here &&
               atomic_load_explicit(&rank->state, memory_order_acquire) == MU_RANK_NEW) {
            (void)mu_wait_word_for(&rank->state, MU_RANK_NEW, PROGRESS_MS);
            tell(arg);
        }
    }
    for (unsigned i = 0; i < r->n_ranks; i++)
        if (mu_rank_failed(&r->ranks[i])) {
            if (err && err->code == MU_OK) *err = r->ranks[i].err;
            return r->ranks[i].status;
        }
    if (!r->schedules && r->n_here == 0) return MU_OK;
    return mu_thread_start(&r->scheduler, r->schedules ? mu_scheduler_main : mu_remote_main, r,
                           "muster-sched", -1, err);
}

static void stop_ranks(struct mu_replica *r)
{
    atomic_store_explicit(&r->common.stop, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&r->common.posted, 1, memory_order_release);
    mu_wake_word(&r->common.posted);
    for (unsigned i = 0; i < r->n_ranks; i++)
        mu_thread_join(&r->ranks[i].thread);
}

void mu_replica_fini(struct mu_replica *r)
{
    atomic_store_explicit(&r->stop, 1, memory_order_release);
    mu_replica_ring(r);
    bool posted = r->scheduler.started && r->schedules;
    mu_thread_join(&r->scheduler);
    if (r->remote && posted) mu_remote_stop(r);
    stop_ranks(r);
    mu_remote_destroy(r->remote);
    mu_scheduler_fini(r);
    for (unsigned i = 0; i < r->n_ranks; i++)
        mu_rank_fini(&r->ranks[i]);
    mu_device_close(r->common.host);
    mu_free(r->ranks);
    for (unsigned i = 0; i < MU_DEVICES_MAX; i++) {
        mu_comm_destroy(r->tp_groups[i]);
        mu_comm_destroy(r->pp_groups[i]);
    }
    for (uint32_t i = 0; i < r->common.n_slots; i++)
        mu_free(r->common.slots[i]);
}

void mu_replica_ring(struct mu_replica *r)
{
    atomic_fetch_add_explicit(&r->bell, 1, memory_order_release);
    mu_wake_word(&r->bell);
}
