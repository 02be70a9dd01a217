/* Groups of ranks that are threads of one process; see comm.h. */
#include "comm/comm_int.h"

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

struct place {
    struct mu_comm base;
    struct threads *group;
    unsigned rank;
    _Alignas(MU_CACHE_LINE) const void *mine; /* offered in an exchange, between two meetings */
};

struct threads {
    struct mu_comm_group base;
    unsigned n;
    unsigned spins;
    _Atomic uint32_t aborted;
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t arrived;
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t phase;
    struct line *lines; /* [from][to], behind the ranks */
    struct place ranks[];
};

static struct line *line_of(const struct threads *group, unsigned from, unsigned to)
{
    return &group->lines[(size_t)from * group->n + to];
}

static bool aborted(const struct threads *group)
{
    return atomic_load_explicit(&group->aborted, memory_order_acquire) != 0;
}

/* Waits until *word != value: pairs with the release that changes it. */
static mu_status wait_change(const struct threads *group, _Atomic uint32_t *word, uint32_t value)
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

static mu_status meet(struct threads *group)
{
    if (aborted(group)) return MU_E_PEER;
    uint32_t phase = atomic_load_explicit(&group->phase, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&group->arrived, 1, memory_order_acq_rel) + 1 < group->n) {
        MU_TRY(wait_change(group, &group->phase, phase));
        return aborted(group) ? MU_E_PEER : MU_OK; /* then not all may have come */
    }
    atomic_store_explicit(&group->arrived, 0, memory_order_relaxed);
    atomic_store_explicit(&group->phase, phase + 1, memory_order_release);
    mu_wake_word(&group->phase);
    return MU_OK;
}

static mu_status threads_exchange(struct mu_comm *comm, const void *mine, const size_t *bytes,
                                  void *out)
{
    struct place *place = (struct place *)comm;
    struct threads *group = place->group;
    place->mine = mine;
    MU_TRY(meet(group));
    char *to = out;
    for (unsigned i = 0; i < group->n; i++) {
        memcpy(to, group->ranks[i].mine, bytes[i]);
        to += bytes[i];
    }
    return meet(group);
}

static mu_status threads_send(struct mu_comm *comm, unsigned to, const void *bytes, size_t len)
{
    const struct place *place = (const struct place *)comm;
    struct line *line = line_of(place->group, place->rank, to);
    (void)len; /* both sides know it; the receiver copies */
    uint32_t before = atomic_load_explicit(&line->taken, memory_order_relaxed);
    line->bytes = bytes;
    atomic_fetch_add_explicit(&line->posted, 1, memory_order_release);
    mu_wake_word(&line->posted);
    return wait_change(place->group, &line->taken, before);
}

static mu_status threads_receive(struct mu_comm *comm, unsigned from, void *out, size_t len)
{
    const struct place *place = (const struct place *)comm;
    struct line *line = line_of(place->group, from, place->rank);
    uint32_t received = atomic_load_explicit(&line->taken, memory_order_relaxed);
    MU_TRY(wait_change(place->group, &line->posted, received));
    memcpy(out, line->bytes, len);
    atomic_fetch_add_explicit(&line->taken, 1, memory_order_release);
    mu_wake_word(&line->taken);
    return MU_OK;
}

static void threads_abort(struct mu_comm_group *base)
{
    struct threads *group = (struct threads *)base;
    atomic_store_explicit(&group->aborted, 1, memory_order_release);
    /* A changed word ends every wait; nobody trusts the words after an abort. */
    atomic_fetch_add_explicit(&group->phase, 1, memory_order_release);
    mu_wake_word(&group->phase);
    for (unsigned i = 0; i < group->n * group->n; i++) {
        mu_wake_word(&group->lines[i].posted);
        mu_wake_word(&group->lines[i].taken);
    }
}

static struct mu_comm *threads_rank(struct mu_comm_group *base, unsigned rank)
{
    return &((struct threads *)base)->ranks[rank].base;
}

static void threads_destroy(struct mu_comm_group *group)
{
    mu_free(group);
}

static const struct mu_comm_kind threads_kind = {.rank = threads_rank,
                                                 .exchange = threads_exchange,
                                                 .send = threads_send,
                                                 .receive = threads_receive,
                                                 .abort = threads_abort,
                                                 .destroy = threads_destroy};

mu_status mu_comm_create(unsigned n_ranks, struct mu_comm_group **out, struct mu_err *err)
{
    size_t ranks = sizeof(struct threads) + n_ranks * sizeof(struct place);
    ranks = MU_ROUND_UP(ranks, MU_CACHE_LINE);
    size_t size = ranks + (size_t)n_ranks * n_ranks * sizeof(struct line);
    struct threads *group = mu_alloc_aligned(MU_CACHE_LINE, size);
    if (!group) return mu_fail_memory(err, size);
    memset(group, 0, size);
    int cpus[256];
    group->base.kind = &threads_kind;
    group->n = n_ranks;
    group->lines = (struct line *)(void *)((char *)group + ranks);
    group->spins = mu_cpu_usable(cpus, MU_ARRAY_LEN(cpus)) >= n_ranks ? SPINS : 0;
    for (unsigned i = 0; i < n_ranks; i++)
        group->ranks[i] = (struct place){.base.kind = &threads_kind, .group = group, .rank = i};
    *out = &group->base;
    return MU_OK;
}
