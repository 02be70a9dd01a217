/* Functions in processes of their own: what they write is seen, and no hang or crash is caught. */
#include "base/child.h"
#include "base/clock.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include <cmocka.h>

static _Atomic int *seen;

static void writes(void *arg)
{
    atomic_store(seen, *(int *)arg);
}

static void hangs(void *arg)
{
    writes(arg);
    for (;;)
        (void)pause();
}

static void crashes(void *arg)
{
    writes(arg);
    (void)raise(SIGKILL); /* a fault would be told by a sanitizer in its own way */
}

static struct mu_child begin(void (*fn)(void *arg), int value)
{
    struct mu_child child = {0};
    atomic_store(seen, 0);
    assert_int_equal(mu_child_start(&child, fn, &value, NULL), MU_OK);
    for (unsigned i = 0; i < 500 && atomic_load(seen) == 0; i++)
        mu_clock_pause(0.01, NULL);
    assert_int_equal(atomic_load(seen), value);
    return child;
}

static int end(struct mu_child *child)
{
    int killed_by = -1;
    for (unsigned i = 0; i < 500 && !mu_child_is_over(child, &killed_by); i++)
        mu_clock_pause(0.01, NULL);
    assert_int_equal(child->pid, 0);
    return killed_by;
}

static void test_ends(void **state)
{
    (void)state;
    int killed_by;
    struct mu_child child = begin(writes, 7);
    assert_int_equal(end(&child), 0);
    assert_true(mu_child_is_over(&child, &killed_by));
    child = begin(crashes, 8);
    assert_int_equal(end(&child), SIGKILL);
}

static void test_hang(void **state)
{
    (void)state;
    int killed_by;
    struct mu_child child = begin(hangs, 9);
    assert_false(mu_child_is_over(&child, &killed_by));
    mu_child_kill(&child);
    assert_int_equal(child.pid, 0);
    mu_child_kill(&child);
}

static bool at_once(void)
{
    return true;
}

static void test_pause(void **state)
{
    (void)state;
    uint64_t start = mu_clock_ns();
    mu_clock_pause(0.12, NULL);
    assert_true(mu_clock_seconds_since(start) >= 0.12);
    mu_clock_pause(1e9, at_once);
    mu_clock_pause(-1, NULL);
}

int main(void)
{
    seen = mu_shared_alloc(sizeof *seen);
    if (!seen) return 1;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_hang),
        cmocka_unit_test(test_pause),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    mu_shared_free((void *)(uintptr_t)seen, sizeof *seen);
    return failed;
}
