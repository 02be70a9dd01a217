/* How fast ranks of this process exchange; see measure.h. */
#include "measure/measure_int.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "comm/comm.h"

#define SMALL_BYTES ((size_t)64)
#define LARGE_BYTES ((size_t)1 << 18)
#define ROUNDS      8
#define EXCHANGES   16 /* of one round */
#define LATE_SENDS  21
#define LATE_NS     400000 /* after which a receiver sleeps, and its core too */

struct peer {
    struct mu_comm *comm;
    struct mu_thread thread;
    unsigned rank, n;
    char *room; /* what it sends, then what it receives */
    double small_s, large_s;
    double late_s[LATE_SENDS]; /* from a send until its receiver runs */
};

/* The shortest of several rounds: other programs may share the machine. */
static double exchange_seconds(struct peer *p, const size_t *bytes)
{
    double best = 0;
    for (int round = 0; round < ROUNDS; round++) {
        uint64_t begin = mu_clock_ns();
        for (int i = 0; i < EXCHANGES; i++)
            if (mu_comm_exchange(p->comm, p->room, bytes, p->room + LARGE_BYTES) != MU_OK) return 0;
        double seconds = mu_clock_seconds_since(begin) / EXCHANGES;
        best = round == 0 ? seconds : MU_MIN(best, seconds);
    }
    return best;
}

/* The first sends the second what its clock says then, always after the second fell asleep. */
static void send_late(struct peer *p)
{
    for (int i = 0; i < LATE_SENDS; i++) {
        uint64_t now = mu_clock_ns(), then = now + LATE_NS;
        while (p->rank == 0 && now < then)
            now = mu_clock_ns();
        mu_status status = p->rank == 0 ? mu_comm_send(p->comm, 1, &now, sizeof now)
                                        : mu_comm_receive(p->comm, 0, &then, sizeof then);
        if (status != MU_OK) return;
        if (p->rank == 1) p->late_s[i] = mu_clock_seconds_since(then);
    }
}

static void peer_main(void *arg)
{
    struct peer *p = arg;
    size_t small[MU_MEASURE_PEERS_MAX], large[MU_MEASURE_PEERS_MAX];
    for (unsigned i = 0; i < p->n; i++) {
        small[i] = SMALL_BYTES;
        large[i] = LARGE_BYTES;
    }
    p->small_s = exchange_seconds(p, small);
    p->large_s = exchange_seconds(p, large);
    if (p->rank < 2) send_late(p);
}

static void tell(struct peer *peers, struct mu_measure_exchanged *out)
{
    const struct peer *first = &peers[0];
    double seconds = MU_MAX(first->large_s - first->small_s, 1e-7);
    double late_s = mu_timed_median(peers[1].late_s, LATE_SENDS);
    *out = (struct mu_measure_exchanged){.latency_s = first->small_s,
                                         .bytes_per_s =
                                             (double)((first->n - 1) * LARGE_BYTES) / seconds,
                                         .wake_s = MU_MAX(late_s - first->small_s, 0)};
}

mu_status mu_measure_exchange(unsigned n_ranks, struct mu_measure_exchanged *out,
                              struct mu_err *err)
{
    MU_ASSERT(n_ranks > 1 && n_ranks <= MU_MEASURE_PEERS_MAX);
    struct peer peers[MU_MEASURE_PEERS_MAX] = {0};
    struct mu_comm_group *group = NULL;
    int cpus[MU_DEVICE_CPUS_MAX];
    /* Pinned as ranks are, where each has a core of its own. */
    bool pinned = mu_cpu_usable(cpus, MU_DEVICE_CPUS_MAX) >= n_ranks;
    MU_TRY(mu_comm_create(n_ranks, &group, err));
    mu_status status = MU_OK;
    for (unsigned i = 0; status == MU_OK && i < n_ranks; i++) {
        struct peer *p = &peers[i];
        *p = (struct peer){.comm = mu_comm_rank(group, i), .rank = i, .n = n_ranks};
        p->room = mu_calloc(n_ranks + 1, LARGE_BYTES);
        status = p->room ? mu_thread_start(&p->thread, peer_main, p, "muster-peer",
                                           pinned ? cpus[i] : -1, err)
                         : mu_fail_memory(err, (n_ranks + 1) * LARGE_BYTES);
    }
    if (status != MU_OK) mu_comm_abort(group);
    for (unsigned i = 0; i < n_ranks; i++)
        mu_thread_join(&peers[i].thread);
    for (unsigned i = 0; i < n_ranks; i++) /* none reads another's any more */
        mu_free(peers[i].room);
    mu_comm_destroy(group);
    if (status != MU_OK) return status;
    tell(peers, out);
    return MU_OK;
}
