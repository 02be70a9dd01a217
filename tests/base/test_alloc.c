/* Heap and arenas. */
#include "base/alloc.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void nothing_is_something(void **state)
{
    (void)state;
    void *p = mu_alloc(0);
    assert_non_null(p);
    mu_free(p);
    p = mu_calloc(0, 8);
    assert_non_null(p);
    p = mu_realloc(p, 0);
    assert_non_null(p);
    mu_free(p);
    mu_free(NULL);
}

static void products_are_checked(void **state)
{
    (void)state;
    volatile size_t half = SIZE_MAX / 2 + 1;
    assert_null(mu_calloc(half, 2));
    assert_null(mu_alloc(half + half / 2));
    assert_null(mu_alloc_aligned(64, half + half / 2));
}

static void aligned_and_copied(void **state)
{
    (void)state;
    for (size_t align = 8; align <= 4096; align *= 2) {
        void *p = mu_alloc_aligned(align, 100);
        assert_int_equal((uintptr_t)p % align, 0);
        mu_free(p);
    }
    char *s = mu_strndup("abcdef", 3);
    assert_string_equal(s, "abc");
    mu_free(s);
    s = mu_strdup("");
    assert_string_equal(s, "");
    mu_free(s);
}

static void an_arena_gives_cleared_aligned_memory(void **state)
{
    (void)state;
    struct mu_arena *arena = mu_arena_create(10 << 20);
    unsigned char *pieces[200];
    for (unsigned i = 0; i < 200; i++) {
        size_t size = i * 97 % 5000;
        pieces[i] = mu_arena_alloc(arena, size, 1);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        for (size_t j = 0; j < size; j++)
            assert_int_equal(pieces[i][j], 0);
        memset(pieces[i], (int)i, size);
    }
    for (unsigned i = 0; i < 200; i++) /* none lies over another */
        for (size_t j = 0; j < i * 97 % 5000; j++)
            assert_int_equal(pieces[i][j], i);
    assert_string_equal(mu_arena_strndup(arena, "hello", 4), "hell");
    assert_string_equal(mu_arena_printf(arena, "%d-%s", 5, "x"), "5-x");
    mu_arena_destroy(arena);
    mu_arena_destroy(NULL);
}

static void an_arena_keeps_its_limit(void **state)
{
    (void)state;
    struct mu_arena *arena = mu_arena_create(1000);
    assert_int_equal(mu_arena_used_bytes(arena), 0);
    assert_null(mu_arena_alloc(arena, 1001, 1));
    assert_null(mu_arena_alloc(arena, SIZE_MAX, 2));
    assert_non_null(mu_arena_alloc(arena, 10, 99));
    assert_true(mu_arena_used_bytes(arena) >= 990 && mu_arena_used_bytes(arena) <= 1000);
    assert_null(mu_arena_alloc(arena, 11, 1));
    assert_null(mu_arena_printf(arena, "%s", "hello world"));
    mu_arena_destroy(arena);

    arena = mu_arena_create(SIZE_MAX);
    assert_null(mu_arena_alloc(arena, SIZE_MAX, 1));
    assert_null(mu_arena_alloc(arena, SIZE_MAX - 8, 1));
    assert_non_null(mu_arena_alloc(arena, 1, 0));
    assert_non_null(mu_arena_alloc(arena, 1, 1));
    mu_arena_destroy(arena);
}

static void exhaustion_is_told(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_fail_memory(&err, 123), MU_E_MEMORY);
    assert_non_null(strstr(err.what, "123 bytes"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_is_something),
        cmocka_unit_test(products_are_checked),
        cmocka_unit_test(aligned_and_copied),
        cmocka_unit_test(an_arena_gives_cleared_aligned_memory),
        cmocka_unit_test(an_arena_keeps_its_limit),
        cmocka_unit_test(exhaustion_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
