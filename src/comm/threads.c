/* Ranks that are threads of one process; see comm.h. */
#include "comm/comm.h"

#include "base/alloc.h"
#include "base/thread.h"

#include <string.h>

#define SPINS          2000 /* see team.c */
#define ABORT_CHECK_MS 100  /* an abort may come between the look at it and the sleep */

/* What one rank sends another. */
struct line {
    const void *bytes;                               /* published before `posted` grows */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t posted; /* by the sender */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t taken;  /* by the receiver: send's answer */
};

struct mu_comm {
    struct mu_comm_group *group;
    unsigned rank;
    _Alignas(MU_CACHE_LINE) const void *mine; /* offered in an exchange, between two meetings */
};

struct mu_comm_group {
    unsigned n;
    unsigned spins;
    _Atomic uint32_t aborted;
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t arrived;
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t phase;
    struct line *lines; /* [from][to], behind the ranks */
    struct mu_comm ranks[];
};

static struct line *line_of(const struct mu_comm_group *group, unsigned from, unsigned to)
{
    return &group->lines[(size_t)from * group->n + to];
}

mu_status mu_comm_create(unsigned n_ranks, struct mu_comm_group **out, struct mu_err *err)
{
    size_t ranks = sizeof(struct mu_comm_group) + n_ranks * sizeof(struct mu_comm);
    ranks = MU_ROUND_UP(ranks, MU_CACHE_LINE);
    size_t size = ranks + (size_t)n_ranks * n_ranks * sizeof(struct line);
    struct mu_comm_group *group = mu_alloc_aligned(MU_CACHE_LINE, size);
    if (!group) return mu_fail_memory(err, size);
    memset(group, 0, size);
    int cpus[256];
    group->n = n_ranks;
    group->lines = (struct line *)(void *)((char *)group + ranks);
    group->spins = mu_cpu_usable(cpus, MU_ARRAY_LEN(cpus)) >= n_ranks ? SPINS : 0;
    for (unsigned i = 0; i < n_ranks; i++) {
        group->ranks[i].group = group;
        group->ranks[i].rank = i;
    }
    *out = group;
    return MU_OK;
}

void mu_comm_destroy(struct mu_comm_group *group)
{
    mu_free(group);
}

struct mu_comm *mu_comm_rank(struct mu_comm_group *group, unsigned rank)
{
    return &group->ranks[rank];
}

static bool aborted(const struct mu_comm_group *group)
{
    return atomic_load_explicit(&group->aborted, memory_order_acquire) != 0;
}

/* Waits until *word != value: pairs with the release that changes it. */
static mu_status wait_change(const struct mu_comm_group *group, _Atomic uint32_t *word,
                             uint32_t value)
{
    for (unsigned i = 0; i < group->spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != value) return MU_OK;
        mu_cpu_relax();
    }
    while (atomic_load_explicit(word, memory_order_acquire) == value) {
        if (aborted(group)) return MU_E_PEER;
        (void)mu_wait_word_for(word, value, ABORT_CHECK_MS);
    }
    return MU_OK;
}

static mu_status meet(struct mu_comm_group *group)
{
    if (aborted(group)) return MU_E_PEER;
    uint32_t phase = atomic_load_explicit(&group->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&group->arrived, 1, memory_order_acq_rel) + 1 < group->n)
        return wait_change(group, &group->phase, phase);
    atomic_store_explicit(&group->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&group->phase, phase + 1, memory_order_release);
    mu_wake_word(&group->phase);
    return MU_OK;
}

mu_status mu_comm_exchange(struct mu_comm *comm, const void *mine, const size_t *bytes, void *out)
{
    struct mu_comm_group *group = comm->group;
    comm->mine = mine;
    MU_TRY(meet(group));
    char *to = out;
    for (unsigned i = 0; i < group->n; i++) {
        memcpy(to, group->ranks[i].mine, bytes[i]);
        to += bytes[i];
    }
    return meet(group);
}

mu_status mu_comm_send(struct mu_comm *comm, unsigned to, const void *bytes, size_t len)
{
    struct line *line = line_of(comm->group, comm->rank, to);
    (void)len; /* both sides know it; the receiver copies */
    uint32_t before = atomic_load_explicit(&line->taken, memory_order_relaxed);
    line->bytes = bytes;
    atomic_fetch_add_explicit(&line->posted, 1, memory_order_release);
    mu_wake_word(&line->posted);
    return wait_change(comm->group, &line->taken, before);
}

mu_status mu_comm_receive(struct mu_comm *comm, unsigned from, void *out, size_t len)
{
    struct line *line = line_of(comm->group, from, comm->rank);
    uint32_t received = atomic_load_explicit(&line->taken, memory_order_relaxed);
    MU_TRY(wait_change(comm->group, &line->posted, received));
    memcpy(out, line->bytes, len);
    atomic_fetch_add_explicit(&line->taken, 1, memory_order_release);
    mu_wake_word(&line->taken);
    return MU_OK;
}

void mu_comm_abort(struct mu_comm_group *group)
{
    if (!group) return;
    atomic_store_explicit(&group->aborted, 1, memory_order_release);
    /* A changed word ends every wait; nobody trusts the words after an abort. */
    atomic_fetch_add_explicit(&group->phase, 1, memory_order_release);
    mu_wake_word(&group->phase);
    for (unsigned i = 0; i < group->n * group->n; i++) {
        mu_wake_word(&group->lines[i].posted);
        mu_wake_word(&group->lines[i].taken);
    }
}
