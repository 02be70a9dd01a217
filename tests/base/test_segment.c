/* The tree of segments: every split of the work among owners must end in the same bits. */
#include "base/segment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define WIDTH 5

static void units_are_all_covered_once(void **state)
{
    (void)state;
    assert_int_equal(mu_segment_count(0), 0);
    for (uint64_t units = 1; units < 200; units++) {
        uint32_t n = mu_segment_count(units);
        assert_int_equal(n, units < 8 ? units : 8);
        assert_int_equal(mu_segment_start(units, n, 0), 0);
        assert_int_equal(mu_segment_start(units, n, n), units);
        for (uint32_t i = 0; i < n; i++)
            assert_true(mu_segment_start(units, n, i) < mu_segment_start(units, n, i + 1));
    }
    for (uint32_t n = 1; n <= 8; n++) {
        for (uint32_t ranks = 1; ranks <= n; ranks++) {
            uint32_t at = 0;
            for (uint32_t r = 0; r < ranks; r++) {
                struct mu_run run = mu_segment_run(n, r, ranks);
                assert_int_equal(run.first, at);
                assert_true(run.end > run.first);
                at = run.end;
            }
            assert_int_equal(at, n);
        }
    }
}

static void splits_below_by_powers_of_two(void **state)
{
    (void)state;
    static const uint32_t want[] = {0, 0, 1, 2, 2, 4, 4, 4, 4};
    for (uint32_t n = 2; n <= 8; n++) {
        assert_int_equal(mu_segment_split(0, n), want[n]);
        assert_int_equal(mu_segment_split(3, 3 + n), 3 + want[n]);
    }
}

static void subtrees_tile_every_run(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 8; n++) {
        for (uint32_t first = 0; first <= n; first++) {
            for (uint32_t end = first; end <= n; end++) {
                struct mu_run out[8], run = {first, end};
                unsigned k = mu_segment_subtrees(n, run, out);
                assert_true(k <= MU_SUBTREES_MAX);
                uint32_t at = first;
                for (unsigned i = 0; i < k; i++) {
                    assert_int_equal(out[i].first, at);
                    at = out[i].end;
                }
                assert_int_equal(at, k ? end : first);
                assert_true(k > 0 || first == end);
            }
        }
    }
}

/* Leaf values whose sums depend on the order they are added in. */
static float leaf(uint32_t i, uint32_t j)
{
    static const float values[] = {1.0f, 0x1p-24f, -0x1.fffffep+3f, 0x1.8p-25f,
                                   1e8f, 3.3333f,  -1e8f,           0x1p-20f};
    return values[(i * 3 + j) % 8] * (float)(j + 1);
}

static void fill(float *piece, uint32_t i)
{
    for (uint32_t j = 0; j < WIDTH; j++)
        piece[j] = leaf(i, j);
}

/* The definition, without the code under test. */
static float tree(uint32_t a, uint32_t b, uint32_t j)
{
    if (b - a == 1) return leaf(a, j);
    uint32_t half = 1;
    while (half * 2 < b - a)
        half *= 2;
    return tree(a, a + half, j) + tree(a + half, b, j);
}

/* Owners are given by the set bits of `cuts`: bit i cuts between segment i and i + 1. */
static void sum_by_owners(uint32_t n, uint32_t cuts, float out[WIDTH])
{
    float leaves[8][WIDTH];
    struct mu_run runs[8];
    float *pieces[8];
    unsigned k = 0;
    for (uint32_t i = 0; i < n; i++)
        fill(leaves[i], i);
    for (uint32_t first = 0, end; first < n; first = end) {
        for (end = first + 1; end < n && !(cuts >> (end - 1) & 1);)
            end++;
        struct mu_run own[8];
        unsigned m = mu_segment_subtrees(n, (struct mu_run){first, end}, own);
        for (unsigned t = 0; t < m; t++) {
            struct mu_run parts[8];
            float *vectors[8] = {leaves[own[t].first]};
            unsigned p = 0;
            for (uint32_t i = own[t].first; i < own[t].end; i++, p++) {
                parts[p] = (struct mu_run){i, i + 1};
                vectors[p] = leaves[i];
            }
            mu_segment_add(own[t].first, own[t].end, parts, vectors, p, WIDTH, vectors[0]);
            runs[k] = own[t];
            pieces[k++] = vectors[0];
        }
    }
    mu_segment_add(0, n, runs, pieces, k, WIDTH, out);
}

static void any_owners_give_the_same_bits(void **state)
{
    (void)state;
    for (uint32_t n = 1; n <= 8; n++) {
        for (uint32_t cuts = 0; cuts < 1u << (n - 1); cuts++) {
            float got[WIDTH];
            sum_by_owners(n, cuts, got);
            for (uint32_t j = 0; j < WIDTH; j++) {
                float want = tree(0, n, j);
                assert_memory_equal(&got[j], &want, sizeof want);
            }
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(units_are_all_covered_once),
        cmocka_unit_test(splits_below_by_powers_of_two),
        cmocka_unit_test(subtrees_tile_every_run),
        cmocka_unit_test(any_owners_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
