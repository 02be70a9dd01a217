/* Teams: every piece is claimed once, nobody passes a barrier early, and idle means idle. */
#include "base/team.h"

#include "base/clock.h"

#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define PHASES  10000
#define PIECES  13
#define THREADS 4

struct work {
    struct mu_team *team;
    unsigned phases;
    unsigned char done[2][PIECES]; /* by parity of the phase; plain memory, for the sanitizer */
    unsigned members_seen[THREADS];
    _Atomic unsigned bad;
};

/* Each phase writes one half and reads what the last one wrote, by whomever. */
static void claim_all(void *arg, unsigned member)
{
    struct work *w = arg;
    w->members_seen[member]++;
    for (unsigned phase = 0; phase < w->phases; phase++) {
        for (uint32_t i; (i = mu_team_claim(w->team, member, PIECES)) < PIECES;) {
            unsigned char *now = &w->done[phase & 1][i],
                          *before = &w->done[~phase & 1][PIECES - 1 - i];
            if (phase > 0 && *before != (unsigned char)phase) w->bad++;
            if (phase > 1 && *now != (unsigned char)(phase - 1)) w->bad++;
            *now = (unsigned char)(phase + 1);
        }
        mu_team_barrier(w->team, member);
    }
}

static void each_piece_is_claimed_once(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= THREADS; n++) {
        struct work w = {.phases = PHASES};
        assert_int_equal(mu_team_create(n, NULL, &w.team, NULL), MU_OK);
        assert_int_equal(mu_team_size(w.team), n);
        mu_team_run(w.team, claim_all, &w);
        mu_team_destroy(w.team);
        assert_int_equal(w.bad, 0);
        for (unsigned i = 0; i < PIECES; i++)
            assert_int_equal(w.done[(PHASES - 1) & 1][i], PHASES & 255);
        for (unsigned i = 0; i < THREADS; i++)
            assert_int_equal(w.members_seen[i], i < n);
    }
}

/* Claims to the end without a barrier: the end of the run must start the count afresh. */
static void claim_some(void *arg, unsigned member)
{
    struct work *w = arg;
    (void)member;
    for (uint32_t i; (i = mu_team_claim(w->team, member, PIECES)) < PIECES;)
        w->done[0][i]++;
}

static void runs_follow_each_other(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= THREADS; n++) {
        struct work w = {0};
        assert_int_equal(mu_team_create(n, NULL, &w.team, NULL), MU_OK);
        for (int run = 0; run < 200; run++)
            mu_team_run(w.team, claim_some, &w);
        mu_team_destroy(w.team);
        for (unsigned i = 0; i < PIECES; i++)
            assert_int_equal(w.done[0][i], 200);
    }
}

static double cpu_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void an_idle_team_uses_no_cpu(void **state)
{
    (void)state;
    struct work w = {.phases = 100};
    assert_int_equal(mu_team_create(THREADS, NULL, &w.team, NULL), MU_OK);
    mu_team_run(w.team, claim_all, &w);
    (void)usleep(20000); /* longer than any spin */
    double before = cpu_seconds();
    (void)usleep(300000);
    double used = cpu_seconds() - before;
    mu_team_destroy(w.team);
    assert_true(used < 0.02);
}

static void look_where_i_run(void *arg, unsigned member)
{
    int *cpus = arg;
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) == 1)
        cpus[member] = sched_getcpu();
}

static void members_live_where_they_are_told(void **state)
{
    (void)state;
    int usable[CPU_SETSIZE], seen[2] = {-1, -1};
    (void)mu_cpu_usable(usable, CPU_SETSIZE);
    int where[2] = {usable[0], usable[0]};
    cpu_set_t before, after;
    assert_int_equal(sched_getaffinity(0, sizeof before, &before), 0);
    struct mu_team *team;
    assert_int_equal(mu_team_create(2, where, &team, NULL), MU_OK);
    mu_team_run(team, look_where_i_run, seen);
    mu_team_destroy(team);
    assert_int_equal(seen[0], usable[0]);
    assert_int_equal(seen[1], usable[0]);
    /* The caller may go where it could go before. */
    assert_int_equal(sched_getaffinity(0, sizeof after, &after), 0);
    assert_true(CPU_EQUAL(&before, &after));
}

struct slow {
    struct mu_team *team;
    unsigned late; /* the member without a core */
    bool excused;
    unsigned calls[3];
};

static void one_comes_late(void *arg, unsigned member)
{
    struct slow *s = arg;
    s->calls[member]++;
    if (member == s->late) (void)usleep(3000);
    if (s->excused)
        mu_team_barrier_excused(s->team);
    else
        mu_team_barrier(s->team, member);
}

static void who_is_always_late_is_left_out_for_a_while(void **state)
{
    (void)state;
    int usable[CPU_SETSIZE];
    for (unsigned late = 0; late < 2 && mu_cpu_usable(usable, CPU_SETSIZE) >= 2; late++) {
        struct slow s = {.late = late};
        assert_int_equal(mu_team_create(2, NULL, &s.team, NULL), MU_OK);
        unsigned runs = 0;
        for (; runs < 1000 && s.calls[late] == runs; runs++)
            mu_team_run(s.team, one_comes_late, &s);
        assert_int_equal(s.calls[late], runs - 1); /* the last one was without it */
        assert_int_equal(s.calls[1 - late], runs);
        for (unsigned i = 0; i < 20; i++)
            mu_team_run(s.team, one_comes_late, &s);
        assert_true(s.calls[late] < s.calls[1 - late]);
        (void)usleep(200000);
        unsigned before = s.calls[late];
        for (unsigned i = 0; i < 3; i++)
            mu_team_run(s.team, one_comes_late, &s);
        assert_true(s.calls[late] > before); /* it was tried again */
        mu_team_destroy(s.team);
    }
}

static void nobody_is_left_out_for_what_happens_outside(void **state)
{
    (void)state;
    struct slow s = {.late = 1, .excused = true};
    assert_int_equal(mu_team_create(2, NULL, &s.team, NULL), MU_OK);
    for (unsigned i = 0; i < 40; i++)
        mu_team_run(s.team, one_comes_late, &s);
    mu_team_destroy(s.team);
    assert_int_equal(s.calls[0], 40);
    assert_int_equal(s.calls[1], 40);
}

static void an_unused_team_can_go(void **state)
{
    (void)state;
    struct mu_team *team;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(mu_team_create(3, NULL, &team, NULL), MU_OK);
        mu_team_destroy(team);
    }
    mu_team_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_piece_is_claimed_once),
        cmocka_unit_test(runs_follow_each_other),
        cmocka_unit_test(an_idle_team_uses_no_cpu),
        cmocka_unit_test(members_live_where_they_are_told),
        cmocka_unit_test(who_is_always_late_is_left_out_for_a_while),
        cmocka_unit_test(nobody_is_left_out_for_what_happens_outside),
        cmocka_unit_test(an_unused_team_can_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
