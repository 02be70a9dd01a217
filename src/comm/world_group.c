/* Groups of ranks that live in several processes: every rank sends to every other one; see comm.h.
 * Ranks of one process talk in the same way, so that there is one way. */
#include "base/alloc.h"
#include "comm/comm_int.h"

#include <string.h>

struct member {
    struct mu_comm base;
    struct spread *group;
    unsigned rank;
    struct mu_message *messages; /* [2 n]: from every rank, to every rank */
};

struct spread {
    struct mu_comm_group base;
    struct mu_world *world;
    unsigned id, n;
    struct mu_message *messages; /* of all members */
    unsigned processes[MU_COMM_RANKS_MAX];
    struct member members[MU_COMM_RANKS_MAX];
};

static struct mu_message *post(struct member *m, unsigned other, bool outgoing, void *bytes,
                               size_t len)
{
    struct spread *g = m->group;
    struct mu_message *message = &m->messages[outgoing ? g->n + other : other];
    unsigned from = outgoing ? m->rank : other, to = outgoing ? other : m->rank;
    *message = (struct mu_message){.bytes = bytes,
                                   .len = len,
                                   .peer = g->processes[other],
                                   .tag = MU_TAG_GROUP(g->id, from, to),
                                   .outgoing = outgoing};
    mu_world_post(g->world, message);
    return message;
}

static mu_status spread_exchange(struct mu_comm *comm, const void *mine, const size_t *bytes,
                                 void *out)
{
    struct member *m = (struct member *)comm;
    struct spread *g = m->group;
    char *to = out;
    for (unsigned i = 0; i < g->n; to += bytes[i], i++) {
        if (i == m->rank) continue;
        (void)post(m, i, false, to, bytes[i]);
        (void)post(m, i, true, (void *)(uintptr_t)mine, bytes[m->rank]);
    }
    mu_world_ring(g->world);
    to = out;
    for (unsigned i = 0; i < m->rank; i++)
        to += bytes[i];
    memcpy(to, mine, bytes[m->rank]);
    for (unsigned i = 0; i < 2 * g->n; i++)
        if (i % g->n != m->rank) MU_TRY(mu_world_wait(g->world, &m->messages[i]));
    return MU_OK;
}

static mu_status transfer(struct mu_comm *comm, unsigned other, bool outgoing, void *bytes,
                          size_t len)
{
    struct member *m = (struct member *)comm;
    struct mu_message *message = post(m, other, outgoing, bytes, len);
    mu_world_ring(m->group->world);
    return mu_world_wait(m->group->world, message);
}

static mu_status spread_send(struct mu_comm *comm, unsigned to, const void *bytes, size_t len)
{
    return transfer(comm, to, true, (void *)(uintptr_t)bytes, len);
}

static mu_status spread_receive(struct mu_comm *comm, unsigned from, void *out, size_t len)
{
    return transfer(comm, from, false, out, len);
}

/* One that fails takes all with it: there is nothing that the rest of a world could still do. */
static void spread_abort(struct mu_comm_group *group)
{
    mu_world_abort(((struct spread *)group)->world);
}

static struct mu_comm *spread_rank(struct mu_comm_group *group, unsigned rank)
{
    return &((struct spread *)group)->members[rank].base;
}

static void spread_destroy(struct mu_comm_group *group)
{
    mu_free(((struct spread *)group)->messages);
    mu_free(group);
}

static const struct mu_comm_kind spread_kind = {.rank = spread_rank,
                                                .exchange = spread_exchange,
                                                .send = spread_send,
                                                .receive = spread_receive,
                                                .abort = spread_abort,
                                                .destroy = spread_destroy};

mu_status mu_comm_create_over(struct mu_world *world, unsigned id, const unsigned *processes,
                              unsigned n_ranks, struct mu_comm_group **out, struct mu_err *err)
{
    MU_ASSERT(id < MU_COMM_GROUPS_MAX && n_ranks <= MU_COMM_RANKS_MAX);
    struct spread *g = mu_calloc(1, sizeof *g);
    if (!g) return mu_fail_memory(err, sizeof *g);
    size_t n_messages = (size_t)2 * n_ranks * n_ranks;
    *g = (struct spread){.base.kind = &spread_kind, .world = world, .id = id, .n = n_ranks};
    if (!(g->messages = mu_calloc(n_messages, sizeof *g->messages))) {
        mu_free(g);
        return mu_fail_memory(err, n_messages * sizeof *g->messages);
    }
    for (unsigned i = 0; i < n_ranks; i++) {
        g->processes[i] = processes[i];
        g->members[i] = (struct member){.base.kind = &spread_kind,
                                        .group = g,
                                        .rank = i,
                                        .messages = g->messages + (size_t)2 * n_ranks * i};
    }
    *out = &g->base;
    return MU_OK;
}
