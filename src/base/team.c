/* Teams; see team.h. */
#include "base/team.h"

#include "base/alloc.h"

#include <sched.h>
#include <stdio.h>

#define SPINS 2000 /* of the pause instruction: about 50 us, longer than most phases differ */

struct team_member {
    struct mu_team *team;
    unsigned number;
    struct mu_thread thread;
};

struct mu_team {
    unsigned n;
    unsigned spins;
    bool stop; /* written before `round` grows; read after */
    mu_team_fn *fn;
    void *arg;
    struct team_member *members;
    bool pinned; /* the creator, who could use these CPUs before: */
    cpu_set_t creator_cpus;

    _Alignas(MU_CACHE_LINE) _Atomic uint32_t round; /* grows with every run; members wait on it */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t claimed;
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t arrived;
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t phase;    /* grows with every barrier */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t sleepers; /* members in, or next to, a sleep */
};

/* Returns once *word != value: pairs with word_step. */
static void wait_change(struct mu_team *team, _Atomic uint32_t *word, uint32_t value)
{
    for (unsigned i = 0; i < team->spins; i++) {
        if (atomic_load_explicit(word, memory_order_acquire) != value) return;
        mu_cpu_relax();
    }
    atomic_fetch_add_explicit(&team->sleepers, 1, memory_order_seq_cst);
    while (atomic_load_explicit(word, memory_order_seq_cst) == value)
        mu_wait_word(word, value);
    atomic_fetch_sub_explicit(&team->sleepers, 1, memory_order_relaxed);
}

/* Steps a word and wakes who sleeps on it. When all still spin there is no system call: in the one
 * order of the seq_cst operations either we see a sleeper's count, or it sees our step. */
static void word_step(struct mu_team *team, _Atomic uint32_t *word)
{
    atomic_fetch_add_explicit(word, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&team->sleepers, memory_order_seq_cst) > 0) mu_wake_word(word);
}

uint32_t mu_team_claim(struct mu_team *team)
{
    return atomic_fetch_add_explicit(&team->claimed, 1, memory_order_relaxed);
}

void mu_team_barrier(struct mu_team *team)
{
    if (team->n == 1) {
        atomic_store_explicit(&team->claimed, 0, memory_order_relaxed);
        return;
    }
    uint32_t phase = atomic_load_explicit(&team->phase, memory_order_relaxed);
    /* acq_rel: the last to come sees what all others did before they came. */
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == team->n) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&team->claimed, 0, memory_order_relaxed);
        word_step(team, &team->phase);
    } else {
        wait_change(team, &team->phase, phase);
    }
}

static void member_main(void *p)
{
    struct team_member *me = p;
    struct mu_team *team = me->team;
    for (uint32_t round = 0;; round++) {
        wait_change(team, &team->round, round);
        if (team->stop) return;
        team->fn(team->arg, me->number);
        mu_team_barrier(team);
    }
}

void mu_team_run(struct mu_team *team, mu_team_fn *fn, void *arg)
{
    if (team->n > 1) {
        team->fn = fn;
        team->arg = arg;
        word_step(team, &team->round);
    }
    fn(arg, 0);
    mu_team_barrier(team);
}

mu_status mu_team_create(unsigned n_threads, const int *cpus, struct mu_team **out,
                         struct mu_err *err)
{
    MU_ASSERT(n_threads > 0);
    struct mu_team *team = mu_alloc_aligned(MU_CACHE_LINE, sizeof *team);
    if (!team) return mu_fail_memory(err, sizeof *team);
    int usable[CPU_SETSIZE];
    *team = (struct mu_team){.n = n_threads};
    team->spins = mu_cpu_usable(usable, CPU_SETSIZE) >= n_threads ? SPINS : 0;
    team->members = mu_calloc(n_threads, sizeof *team->members);
    if (!team->members) {
        mu_team_destroy(team);
        return mu_fail_memory(err, n_threads * sizeof *team->members);
    }
    mu_status status = MU_OK;
    for (unsigned i = 1; status == MU_OK && i < n_threads; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "muster-team-%u", i % 1000);
        team->members[i] = (struct team_member){.team = team, .number = i};
        status = mu_thread_start(&team->members[i].thread, member_main, &team->members[i], name,
                                 cpus ? cpus[i] : -1, err);
    }
    if (status != MU_OK) {
        mu_team_destroy(team);
        return status;
    }
    if (cpus) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)cpus[0], &set);
        team->pinned = sched_getaffinity(0, sizeof team->creator_cpus, &team->creator_cpus) == 0 &&
                       sched_setaffinity(0, sizeof set, &set) == 0;
    }
    *out = team;
    return MU_OK;
}

void mu_team_destroy(struct mu_team *team)
{
    if (!team) return;
    team->stop = true;
    word_step(team, &team->round);
    for (unsigned i = 1; team->members && i < team->n; i++)
        mu_thread_join(&team->members[i].thread);
    if (team->pinned) (void)sched_setaffinity(0, sizeof team->creator_cpus, &team->creator_cpus);
    mu_free(team->members);
    mu_free(team);
}

unsigned mu_team_size(const struct mu_team *team)
{
    return team->n;
}
