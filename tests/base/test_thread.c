/* Threads, waiting on a word, usable CPUs, clocks. */
#include "base/thread.h"

#include "base/clock.h"

#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

struct report {
    char name[16];
    int cpus;
    bool signals_blocked;
};

static void look_around(void *arg)
{
    struct report *r = arg;
    sigset_t set;
    cpu_set_t cpus;
    (void)pthread_getname_np(pthread_self(), r->name, sizeof r->name);
    (void)pthread_sigmask(SIG_SETMASK, NULL, &set);
    r->signals_blocked = sigismember(&set, SIGINT) && sigismember(&set, SIGTERM);
    r->cpus = sched_getaffinity(0, sizeof cpus, &cpus) == 0 ? CPU_COUNT(&cpus) : 0;
}

static void starts_and_joins(void **state)
{
    (void)state;
    struct mu_thread thread = {0};
    struct report report = {0};
    assert_int_equal(
        mu_thread_start(&thread, look_around, &report, "a-name-that-is-too-long", -1, NULL), MU_OK);
    mu_thread_join(&thread);
    mu_thread_join(&thread); /* a second time does nothing */
    assert_string_equal(report.name, "a-name-that-is-");
    assert_true(report.signals_blocked);
    sigset_t set;
    (void)pthread_sigmask(SIG_SETMASK, NULL, &set);
    assert_false(sigismember(&set, SIGTERM)); /* the starter's own mask is as it was */
    int cpus[CPU_SETSIZE];
    assert_true(mu_cpu_usable(cpus, CPU_SETSIZE) >= 1);
    assert_int_equal(mu_thread_start(&thread, look_around, &report, "pinned", cpus[0], NULL),
                     MU_OK);
    mu_thread_join(&thread);
    assert_int_equal(report.cpus, 1);
}

static _Atomic uint32_t word;

static void change_word(void *arg)
{
    (void)arg;
    atomic_store(&word, 2);
    mu_wake_word(&word);
}

static void a_word_wakes_its_waiter(void **state)
{
    (void)state;
    for (int i = 0; i < 200; i++) {
        struct mu_thread thread = {0};
        atomic_store(&word, 1);
        assert_int_equal(mu_thread_start(&thread, change_word, NULL, "waker", -1, NULL), MU_OK);
        while (atomic_load(&word) == 1)
            mu_wait_word(&word, 1);
        mu_thread_join(&thread);
    }
}

static void a_wait_can_end_by_time(void **state)
{
    (void)state;
    atomic_store(&word, 5);
    mu_wait_word(&word, 4);                        /* already another value: returns at once */
    assert_true(mu_wait_word_for(&word, 4, 1000)); /* and this is not a timeout */
    uint64_t start = mu_clock_ns();
    assert_false(mu_wait_word_for(&word, 5, 30));
    double s = mu_clock_seconds_since(start);
    assert_true(s >= 0.029 && s < 5);
}

static void usable_cpus_are_distinct_and_cut_to_size(void **state)
{
    (void)state;
    int cpus[CPU_SETSIZE] = {0};
    unsigned n = mu_cpu_usable(cpus, CPU_SETSIZE);
    assert_true(n >= 1);
    for (unsigned i = 1; i < n; i++)
        assert_true(cpus[i] > cpus[i - 1]);
    assert_int_equal(mu_cpu_usable(cpus, 1), 1);
}

static void clocks_tell_time(void **state)
{
    (void)state;
    uint64_t last = mu_clock_ns();
    for (int i = 0; i < 1000; i++) {
        uint64_t now = mu_clock_ns();
        assert_true(now >= last);
        last = now;
    }
    assert_true(mu_clock_wall_s() > 1.7e9); /* later than 2023 */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(starts_and_joins),
        cmocka_unit_test(a_word_wakes_its_waiter),
        cmocka_unit_test(a_wait_can_end_by_time),
        cmocka_unit_test(usable_cpus_are_distinct_and_cut_to_size),
        cmocka_unit_test(clocks_tell_time),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
