/* Teams; see team.h. */
#include "base/team.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <sched.h>
#include <stdio.h>

#define SPINS 2000 /* of the pause instruction: about 50 us, longer than most phases differ */

/* After WINDOW_NS of runs, a member that was waited for more than a third of that time is left out
 * for AWAY_NS: one thread alone is faster than two of which one gets half a core, since at every
 * barrier the other waits until the scheduler gives that core back. The window spans several of
 * the scheduler's slices. A disturbance is mostly short, so the first leave is; each time that
 * the member comes back in vain, which half a window tells, the next is twice as long. */
#define WINDOW_NS   (30 * 1000000ULL)
#define AWAY_NS     (60 * 1000000ULL)
#define AWAY_MAX_NS (2000 * 1000000ULL)
#define LATE_SHARE  3

#define NOBODY UINT32_MAX

/* A word that members sleep on until it is stepped. */
struct gate {
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t value;
    _Atomic uint32_t sleepers; /* members in, or next to, a sleep */
};

struct team_member {
    struct gate calls; /* stepped for every run that the member takes part in */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t claimed; /* pieces of its share, by whomever */
    struct mu_team *team;
    unsigned number;
    bool away;                /* the creator's, between runs */
    _Atomic uint64_t late_ns; /* waited for it, summed over those who waited */
    struct mu_thread thread;
};

struct mu_team {
    unsigned n, n_present;
    unsigned spins;
    bool stop; /* written before calls are stepped; read after */
    mu_team_fn *fn;
    void *arg;
    struct team_member *members;
    uint64_t window_ns, away_ns, away_since_ns;
    bool pinned; /* the creator, who could use these CPUs before: */
    cpu_set_t creator_cpus;

    _Alignas(MU_CACHE_LINE) _Atomic uint32_t arrived;
    _Atomic uint32_t last;                            /* to arrive, or NOBODY to blame */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t leaving; /* members that have ended the run */
    struct gate phase;                                /* stepped at every barrier */
    struct gate done;                                 /* stepped at every run's end */
};

/* Returns once the gate's value is not `value`: pairs with gate_step. Gives the time asleep; while
 * a wait spins the clock is not read. */
static uint64_t gate_wait(const struct mu_team *team, struct gate *gate, uint32_t value)
{
    for (unsigned i = 0; i < team->spins; i++) {
        if (atomic_load_explicit(&gate->value, memory_order_acquire) != value) return 0;
        mu_cpu_relax();
    }
    uint64_t start = mu_clock_ns();
    atomic_fetch_add_explicit(&gate->sleepers, 1, memory_order_seq_cst);
    while (atomic_load_explicit(&gate->value, memory_order_seq_cst) == value)
        mu_wait_word(&gate->value, value);
    atomic_fetch_sub_explicit(&gate->sleepers, 1, memory_order_relaxed);
    return mu_clock_ns() - start;
}

/* Steps a gate and wakes who sleeps at it. When all still spin there is no system call: in the one
 * order of the seq_cst operations either we see a sleeper's count, or it sees our step. */
static void gate_step(struct gate *gate)
{
    atomic_fetch_add_explicit(&gate->value, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&gate->sleepers, memory_order_seq_cst) > 0) mu_wake_word(&gate->value);
}

uint32_t mu_team_claim(struct mu_team *team, unsigned member, uint32_t n)
{
    for (unsigned i = 0, of = member; i < team->n; i++, of = of + 1 < team->n ? of + 1 : 0) {
        uint32_t first = (uint32_t)((uint64_t)n * of / team->n);
        uint32_t end = (uint32_t)((uint64_t)n * (of + 1) / team->n);
        _Atomic uint32_t *claimed = &team->members[of].claimed;
        /* Looked at first: what all have claimed stays in everybody's cache. */
        if (atomic_load_explicit(claimed, memory_order_relaxed) >= end - first) continue;
        uint32_t piece = first + atomic_fetch_add_explicit(claimed, 1, memory_order_relaxed);
        if (piece < end) return piece;
    }
    return n;
}

static void unclaim_all(struct mu_team *team)
{
    for (unsigned i = 0; i < team->n; i++)
        atomic_store_explicit(&team->members[i].claimed, 0, memory_order_relaxed);
}

/* Comes to the barrier, to be blamed as `blamed` if last. True for the last. */
static bool meet(struct mu_team *team, uint32_t blamed)
{
    if (team->n_present == 1) {
        unclaim_all(team);
        return true;
    }
    uint32_t phase = atomic_load_explicit(&team->phase.value, memory_order_relaxed);
    /* acq_rel: the last to come sees what all others did before they came. */
    if (atomic_fetch_add_explicit(&team->arrived, 1, memory_order_acq_rel) + 1 == team->n_present) {
        atomic_store_explicit(&team->arrived, 0, memory_order_relaxed);
        unclaim_all(team);
        atomic_store_explicit(&team->last, blamed, memory_order_relaxed);
        gate_step(&team->phase);
        return true;
    }
    uint64_t asleep = gate_wait(team, &team->phase, phase);
    uint32_t last = atomic_load_explicit(&team->last, memory_order_relaxed);
    if (asleep > 0 && last != NOBODY)
        atomic_fetch_add_explicit(&team->members[last].late_ns, asleep, memory_order_relaxed);
    return false;
}

bool mu_team_barrier(struct mu_team *team, unsigned member)
{
    return meet(team, member);
}

bool mu_team_barrier_excused(struct mu_team *team)
{
    return meet(team, NOBODY);
}

/* Ends the run for a member; the last one steps the gate at which the creator waits. */
static void leave(struct mu_team *team)
{
    unsigned present = team->n_present; /* not to be read any more once the last has left */
    if (atomic_fetch_add_explicit(&team->leaving, 1, memory_order_acq_rel) + 1 < present) return;
    atomic_store_explicit(&team->leaving, 0, memory_order_relaxed);
    unclaim_all(team);
    gate_step(&team->done);
}

static void member_main(void *p)
{
    struct team_member *me = p;
    struct mu_team *team = me->team;
    for (uint32_t call = 0;; call++) {
        (void)gate_wait(team, &me->calls, call);
        if (team->stop) return;
        team->fn(team->arg, me->number);
        leave(team);
    }
}

/* The member that was waited for most, if that was too much. */
static struct team_member *latest(const struct mu_team *team)
{
    struct team_member *found = NULL;
    uint64_t most = team->window_ns / LATE_SHARE * (team->n_present - 1);
    for (unsigned i = 0; i < team->n; i++) {
        uint64_t late = atomic_load_explicit(&team->members[i].late_ns, memory_order_relaxed);
        if (late <= most) continue;
        most = late;
        found = &team->members[i];
    }
    return found;
}

/* Between runs: who takes part in the next ones. */
static void choose_members(struct mu_team *team, uint64_t now, uint64_t run_ns)
{
    team->window_ns += run_ns;
    bool back = team->n_present < team->n && now - team->away_since_ns > team->away_ns;
    uint64_t window = team->away_ns < AWAY_NS ? WINDOW_NS : WINDOW_NS / 2;
    if (team->window_ns < window && !back) return;
    struct team_member *late = back || team->n_present == 1 ? NULL : latest(team);
    if (late) {
        late->away = true;
        team->n_present--;
        team->away_since_ns = now;
        team->away_ns = MU_MIN(2 * team->away_ns, AWAY_MAX_NS);
    } else if (team->n_present == team->n) {
        team->away_ns = AWAY_NS / 2;
    }
    for (unsigned i = 0; i < team->n; i++) {
        atomic_store_explicit(&team->members[i].late_ns, 0, memory_order_relaxed);
        if (back) team->members[i].away = false;
    }
    if (back) team->n_present = team->n;
    team->window_ns = 0;
}

void mu_team_run(struct mu_team *team, mu_team_fn *fn, void *arg)
{
    if (team->n == 1) {
        fn(arg, 0);
        unclaim_all(team);
        return;
    }
    uint64_t start = mu_clock_ns();
    uint32_t done = atomic_load_explicit(&team->done.value, memory_order_relaxed);
    team->fn = fn;
    team->arg = arg;
    for (unsigned i = 1; i < team->n; i++)
        if (!team->members[i].away) gate_step(&team->members[i].calls);
    if (!team->members[0].away) {
        fn(arg, 0);
        leave(team);
    }
    (void)gate_wait(team, &team->done, done);
    if (team->spins) {
        uint64_t now = mu_clock_ns();
        choose_members(team, now, now - start);
    }
}

mu_status mu_team_create(unsigned n_threads, const int *cpus, struct mu_team **out,
                         struct mu_err *err)
{
    MU_ASSERT(n_threads > 0);
    struct mu_team *team = mu_alloc_aligned(MU_CACHE_LINE, sizeof *team);
    if (!team) return mu_fail_memory(err, sizeof *team);
    int usable[CPU_SETSIZE];
    *team = (struct mu_team){.n = n_threads, .n_present = n_threads, .away_ns = AWAY_NS / 2};
    team->spins = mu_cpu_usable(usable, CPU_SETSIZE) >= n_threads ? SPINS : 0;
    team->members = mu_alloc_aligned(MU_CACHE_LINE, n_threads * sizeof *team->members);
    if (!team->members) {
        mu_team_destroy(team);
        return mu_fail_memory(err, n_threads * sizeof *team->members);
    }
    for (unsigned i = 0; i < n_threads; i++)
        team->members[i] = (struct team_member){.team = team, .number = i};
    mu_status status = MU_OK;
    for (unsigned i = 1; status == MU_OK && i < n_threads; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "muster-team-%u", i % 1000);
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
    for (unsigned i = 1; team->members && i < team->n; i++) {
        gate_step(&team->members[i].calls);
        mu_thread_join(&team->members[i].thread);
    }
    if (team->pinned) (void)sched_setaffinity(0, sizeof team->creator_cpus, &team->creator_cpus);
    mu_free(team->members);
    mu_free(team);
}

unsigned mu_team_size(const struct mu_team *team)
{
    return team->n;
}
