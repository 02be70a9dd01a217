/* Devices: memory is cleared, apart, counted, within the budget, and had by several threads. */
#include "device/device.h"

#include "base/thread.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define THREADS     4
#define BLOCKS      100
#define BLOCK_BYTES 70000u /* out of the region, and of no round size */

static struct mu_device *open_device(uint64_t budget)
{
    struct mu_device_spec spec = {.name = "test", .n_threads = 1, .budget_bytes = budget};
    struct mu_device *device;
    assert_int_equal(mu_device_open(&spec, &device, NULL), MU_OK);
    return device;
}

struct taker {
    struct mu_device *device;
    unsigned char mark, *blocks[BLOCKS];
    unsigned bad;
    struct mu_thread thread;
};

static bool all_are(const unsigned char *p, unsigned char value)
{
    return p[0] == value && memcmp(p, p + 1, BLOCK_BYTES - 1) == 0;
}

static void take(void *arg)
{
    struct taker *t = arg;
    for (unsigned i = 0; i < BLOCKS; i++) {
        void *p;
        if (mu_device_alloc(t->device, MU_PURPOSE_WEIGHTS, BLOCK_BYTES, "a block", &p, NULL) !=
            MU_OK) {
            t->bad++;
            return;
        }
        t->blocks[i] = p;
        t->bad += !all_are(p, 0);
        memset(p, t->mark, BLOCK_BYTES);
    }
}

static void threads_get_blocks_of_their_own(void **state)
{
    (void)state;
    struct mu_device *device = open_device((uint64_t)THREADS * BLOCKS * BLOCK_BYTES);
    struct taker takers[THREADS];
    for (unsigned i = 0; i < THREADS; i++) {
        takers[i] = (struct taker){.device = device, .mark = (unsigned char)(i + 1)};
        assert_int_equal(
            mu_thread_start(&takers[i].thread, take, &takers[i], "test-taker", -1, NULL), MU_OK);
    }
    for (unsigned i = 0; i < THREADS; i++)
        mu_thread_join(&takers[i].thread);
    struct mu_device_usage usage;
    mu_device_usage(device, &usage);
    assert_true(usage.total_now_bytes == (uint64_t)THREADS * BLOCKS * BLOCK_BYTES);
    for (unsigned i = 0; i < THREADS; i++) {
        assert_int_equal(takers[i].bad, 0);
        for (unsigned b = 0; b < BLOCKS; b++)
            assert_true(all_are(takers[i].blocks[b], takers[i].mark));
        for (unsigned b = 0; b < BLOCKS; b++)
            mu_device_free(device, MU_PURPOSE_WEIGHTS, takers[i].blocks[b], BLOCK_BYTES);
    }
    mu_device_usage(device, &usage);
    assert_true(usage.total_now_bytes == 0);
    mu_device_close(device);
}

static void what_comes_back_is_cleared_and_the_budget_is_a_wall(void **state)
{
    (void)state;
    struct mu_device *device = open_device(2 * BLOCK_BYTES);
    void *a, *b, *none;
    for (int turn = 0; turn < 3; turn++) {
        assert_int_equal(mu_device_alloc(device, MU_PURPOSE_KV, BLOCK_BYTES, "a block", &a, NULL),
                         MU_OK);
        assert_int_equal(mu_device_alloc(device, MU_PURPOSE_KV, BLOCK_BYTES, "a block", &b, NULL),
                         MU_OK);
        assert_int_equal(mu_device_alloc(device, MU_PURPOSE_KV, 1, "a byte", &none, NULL),
                         MU_E_FIT);
        assert_true(all_are(a, 0) && all_are(b, 0));
        memset(a, 7, BLOCK_BYTES);
        memset(b, 7, BLOCK_BYTES);
        mu_device_free(device, MU_PURPOSE_KV, b, BLOCK_BYTES);
        mu_device_free(device, MU_PURPOSE_KV, a, BLOCK_BYTES);
    }
    mu_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(threads_get_blocks_of_their_own),
        cmocka_unit_test(what_comes_back_is_cleared_and_the_budget_is_a_wall),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
