/*
 * The steps of a replica whose ranks live in several processes. The first process schedules: it
 * sends the words of a step to every process that has ranks, which put them into their own slot and
 * post them as the scheduler would; each rank answers when it is done, and the one with the logits
 * sends those before. Owns the messages for that, one set a slot, so that nothing is allocated in a
 * step. Knows nothing of what is in a step. See docs/internals/ranks.md.
 *
 * Who calls: the scheduler's thread post, await, release; ranks' threads report.
 */
#include "engine/engine_int.h"

/* What a rank answers. */
struct done {
    uint32_t serial;
    int32_t status;
};

struct slot {
    struct mu_message *steps; /* [n_processes] */
    struct mu_message *dones; /* [n_ranks]; in the others, what their ranks send */
    struct done *answers;     /* [n_ranks] */
    struct mu_message logits;
    float *logits_room; /* [max_out][vocab]; only where they arrive */
};

struct mu_remote {
    struct mu_world *world;
    unsigned replica, first_rank, logits_rank;
    unsigned n_processes, processes[MU_DEVICES_MAX]; /* that have ranks, but for the first */
    struct slot slots[MU_STEPS_MAX];
    unsigned n_slots, n_ranks;
};

mu_status mu_remote_create(struct mu_replica *r, struct mu_err *err)
{
    const struct mu_rank_common *c = &r->common;
    struct mu_remote *m = r->remote = mu_calloc(1, sizeof *m);
    if (!m) return mu_fail_memory(err, sizeof *m);
    m->world = r->options.world;
    m->n_slots = c->n_slots;
    m->n_ranks = r->n_ranks;
    m->replica = r->index;
    m->first_rank = r->first_rank;
    m->logits_rank = r->logits_rank;
    for (unsigned i = 0; i < r->n_ranks; i++) {
        unsigned process = r->ranks[i].process, j = 0;
        while (j < m->n_processes && m->processes[j] != process)
            j++;
        if (process != 0 && j == m->n_processes) m->processes[m->n_processes++] = process;
    }
    size_t logits = (size_t)c->layout.max_out * c->config->vocab;
    bool arrive = r->schedules && !r->ranks[r->logits_rank].here;
    for (unsigned i = 0; i < m->n_slots; i++) {
        struct slot *s = &m->slots[i];
        s->steps = mu_calloc(m->n_processes, sizeof *s->steps);
        s->dones = mu_calloc(r->n_ranks, sizeof *s->dones);
        s->answers = mu_calloc(r->n_ranks, sizeof *s->answers);
        if (arrive) s->logits_room = mu_alloc(logits * sizeof(float));
        if (!s->steps || !s->dones || !s->answers || (arrive && !s->logits_room))
            return mu_fail_memory(err, logits * sizeof(float));
    }
    return MU_OK;
}

void mu_remote_destroy(struct mu_remote *m)
{
    for (unsigned i = 0; m && i < m->n_slots; i++) {
        struct slot *s = &m->slots[i];
        /* What has arrived in the first process this one's MPI may still be looking at. */
        for (unsigned j = 0; s->dones && j < m->n_ranks; j++)
            (void)mu_world_wait(m->world, &s->dones[j]);
        (void)mu_world_wait(m->world, &s->logits);
        mu_free(s->steps);
        mu_free(s->dones);
        mu_free(s->answers);
        mu_free(s->logits_room);
    }
    mu_free(m);
}

void mu_remote_abort(struct mu_remote *m)
{
    if (m) mu_world_abort(m->world);
}

/* ---- In the scheduling process ---- */

static void send_step(struct mu_replica *r, uint32_t serial)
{
    struct mu_remote *m = r->remote;
    uint32_t slot = serial % m->n_slots;
    for (unsigned i = 0; i < m->n_processes; i++) {
        m->slots[slot].steps[i] =
            (struct mu_message){.bytes = r->common.slots[slot],
                                .len = mu_step_words(&r->common.layout) * sizeof(uint32_t),
                                .peer = m->processes[i],
                                .tag = MU_TAG_STEP(r->index),
                                .outgoing = true};
        mu_world_post(m->world, &m->slots[slot].steps[i]);
    }
}

static size_t logits_bytes(const struct mu_rank_common *c, uint32_t slot)
{
    struct mu_step step = mu_step_view(&c->layout, c->slots[slot]);
    return (size_t)step.header[MU_STEP_OUT] * c->config->vocab * sizeof(float);
}

void mu_remote_post(struct mu_replica *r, uint32_t serial)
{
    struct mu_remote *m = r->remote;
    struct slot *s = &m->slots[serial % m->n_slots];
    size_t n_logits = logits_bytes(&r->common, serial % m->n_slots);
    send_step(r, serial);
    for (unsigned i = 0; i < r->n_ranks; i++) {
        if (r->ranks[i].here) continue;
        s->dones[i] = (struct mu_message){.bytes = &s->answers[i],
                                          .len = sizeof s->answers[i],
                                          .peer = r->ranks[i].process,
                                          .tag = MU_TAG_DONE(r->first_rank + i)};
        mu_world_post(m->world, &s->dones[i]);
    }
    if (s->logits_room && n_logits > 0) {
        s->logits = (struct mu_message){.bytes = s->logits_room,
                                        .len = n_logits,
                                        .peer = r->ranks[r->logits_rank].process,
                                        .tag = MU_TAG_LOGITS(r->index)};
        mu_world_post(m->world, &s->logits);
    }
    mu_world_ring(m->world);
}

mu_status mu_remote_await(struct mu_replica *r, unsigned rank, uint32_t serial)
{
    struct slot *s = &r->remote->slots[serial % r->remote->n_slots];
    MU_TRY(mu_world_wait(r->remote->world, &s->dones[rank]));
    return (mu_status)s->answers[rank].status;
}

/* Until the slot may be used again, and its logits be read. */
mu_status mu_remote_release(struct mu_replica *r, uint32_t serial)
{
    struct mu_remote *m = r->remote;
    struct slot *s = &m->slots[serial % m->n_slots];
    for (unsigned i = 0; i < m->n_processes; i++)
        MU_TRY(mu_world_wait(m->world, &s->steps[i]));
    return mu_world_wait(m->world, &s->logits);
}

const float *mu_remote_logits(const struct mu_replica *r, uint32_t serial)
{
    return r->remote->slots[serial % r->remote->n_slots].logits_room;
}

/* A step without rows is the last. */
void mu_remote_stop(struct mu_replica *r)
{
    uint32_t slot = r->n_posted % r->remote->n_slots;
    memset(r->common.slots[slot], 0, MU_STEP_HEADER * sizeof(uint32_t));
    send_step(r, r->n_posted);
    mu_world_ring(r->remote->world);
    (void)mu_remote_release(r, r->n_posted);
}

/* ---- In the others ---- */

void mu_remote_main(void *replica)
{
    struct mu_replica *r = replica;
    struct mu_remote *m = r->remote;
    struct mu_rank_common *c = &r->common;
    mu_status status;
    for (uint32_t serial = 0;; serial++) {
        uint32_t *words = c->slots[serial % c->n_slots];
        struct mu_message *message = &m->slots[serial % m->n_slots].steps[0];
        *message = (struct mu_message){.bytes = words,
                                       .len = mu_step_words(&c->layout) * sizeof(uint32_t),
                                       .tag = MU_TAG_STEP(r->index)};
        mu_world_post(m->world, message);
        mu_world_ring(m->world);
        status = mu_world_wait(m->world, message);
        if (status != MU_OK || words[MU_STEP_ROWS] == 0) break;
        mu_watch_step(serial);
        atomic_store_explicit(&c->posted, serial + 1, memory_order_release);
        mu_wake_word(&c->posted);
    }
    if (status == MU_OK) return;
    for (unsigned i = 0; i < r->n_ranks; i++)
        if (mu_rank_failed(&r->ranks[i]) && r->failed.code == MU_OK) r->failed = r->ranks[i].err;
    (void)mu_fail(&r->failed, status, "the first rank cannot be reached");
}

void mu_remote_report(const struct mu_rank *rank, uint32_t serial)
{
    struct mu_remote *m = rank->remote;
    const struct mu_rank_common *c = rank->common;
    uint32_t slot = serial % m->n_slots;
    struct slot *s = &m->slots[slot];
    struct done *answer = &s->answers[rank->number];
    struct mu_message *message = &s->dones[rank->number];
    size_t n_logits = logits_bytes(c, slot);
    bool with_logits = rank->number == m->logits_rank && n_logits > 0;
    /* They arrived long ago, or this step would not be here; this thread may not know it yet. */
    if (mu_world_wait(m->world, message) != MU_OK) return;
    if (with_logits && mu_world_wait(m->world, &s->logits) != MU_OK) return;
    if (with_logits) {
        s->logits = (struct mu_message){.bytes = mu_rank_logits(rank, serial),
                                        .len = n_logits,
                                        .tag = MU_TAG_LOGITS(m->replica),
                                        .outgoing = true};
        mu_world_post(m->world, &s->logits);
    }
    *answer = (struct done){.serial = serial, .status = rank->status};
    *message = (struct mu_message){.bytes = answer,
                                   .len = sizeof *answer,
                                   .tag = MU_TAG_DONE(m->first_rank + rank->number),
                                   .outgoing = true};
    mu_world_post(m->world, message);
    mu_world_ring(m->world);
}
