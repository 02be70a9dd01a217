/* Placements as people write them, prompts by default, and what a proof says of equal and of
 * impossible placements. */
#include "bench/bench.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void names_are_read_as_they_are_written(void **state)
{
    (void)state;
    struct mu_placement list[MU_PLACEMENTS_MAX], again;
    uint32_t n, left_out, one;
    struct mu_err err = MU_ERR_INIT;
    mu_placements_default(false, list, &n, &left_out);
    assert_true(n <= MU_PLACEMENTS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        char name[MU_PLACEMENT_TEXT];
        assert_int_equal(mu_placements_parse(mu_placement_name(&list[i], name), &again, &one, &err),
                         MU_OK);
        assert_int_equal(one, 1);
        assert_memory_equal(&again, &list[i], sizeof again);
        for (uint32_t j = 0; j < i; j++)
            assert_memory_not_equal(&list[j], &list[i], sizeof *list);
    }
    assert_int_equal(mu_placements_parse("tp2xpp3,dp2xt4", list, &n, &err), MU_OK);
    assert_int_equal(n, 2);
    assert_int_equal(list[0].pp, 3);
    assert_int_equal(list[1].threads, 4);
}

static void every_degree_is_tried(void **state)
{
    (void)state;
    struct mu_placement list[MU_PLACEMENTS_MAX];
    uint32_t n, left_out, tp = 0, pp = 0, dp = 0, maps = 0, products = 0;
    mu_placements_default(false, list, &n, &left_out);
    for (uint32_t i = 0; i < n; i++) {
        tp |= 1u << list[i].tp;
        pp |= 1u << list[i].pp;
        dp |= 1u << list[i].dp;
        maps |= 1u << list[i].map;
        products += list[i].threads == 0 && list[i].map == MU_MAP_NONE;
    }
    assert_int_equal(tp, 0x1fe);
    assert_int_equal(pp, 0x1e);
    assert_int_equal(dp, 0xe);
    assert_int_equal(maps, (1u << MU_MAP_GIVEN) - 1);
    assert_int_equal(left_out + products, 8 * 4 * 3);
}

static void words_that_are_no_placement_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",       "x",    "tp",     "tp0",    "tp2x", "tp2,,pp2", "tp65", "tp8xpp9",
        "tp2y3",  "tp-1", "2",      "tp2 ",   "t0",   "tp2,",     "t257", "tp1e1",
        "dp2,tq", "back", "split0", "disk65", "map2", "tp2xback2"};
    struct mu_placement list[MU_PLACEMENTS_MAX];
    uint32_t n;
    for (size_t i = 0; i < MU_ARRAY_LEN(bad); i++) {
        struct mu_err err = MU_ERR_INIT;
        if (mu_placements_parse(bad[i], list, &n, &err) != MU_E_USAGE)
            fail_msg("'%s' was read", bad[i]);
    }
    char many[MU_PLACEMENTS_MAX * 4 + 8] = "tp1";
    for (int i = 0; i < MU_PLACEMENTS_MAX; i++)
        memcpy(many + 3 + (size_t)i * 4, ",tp1", 5);
    assert_int_equal(mu_placements_parse(many, list, &n, NULL), MU_E_USAGE);
}

static bool go_on(void *arg, const struct mu_placement *at, const char *way, uint32_t done,
                  uint32_t all)
{
    uint32_t *left = arg;
    (void)at;
    assert_non_null(way);
    assert_true(done < all);
    return *left > 0 && (*left)--;
}

/* Proves synth:nano, with short prompts, under these; an interrupt comes after `calls`. */
static mu_status prove(const char *placements, uint32_t calls, struct mu_prove **out)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file;
    struct mu_placement list[MU_PLACEMENTS_MAX];
    struct mu_prompt *prompts;
    struct mu_prove_request request = {.max_tokens = 3,
                                       .placements = list,
                                       .options = {.kv_type = MU_DTYPE_F16},
                                       .go_on = go_on,
                                       .go_on_arg = &calls};
    assert_int_equal(mu_model_file_open("synth:nano", 0, &file, &err), MU_OK);
    assert_int_equal(mu_prompts_default(512, 20, &prompts, &request.n_prompts, &err), MU_OK);
    for (uint32_t i = 0; i < request.n_prompts; i++)
        assert_in_range(prompts[i].n, 1, 20);
    assert_int_equal(mu_placements_parse(placements, list, &request.n_placements, &err), MU_OK);
    request.file = file;
    request.prompts = prompts;
    mu_status status = mu_prove_make(&request, out, &err);
    mu_prompts_destroy(prompts, request.n_prompts);
    mu_model_file_close(file);
    return status;
}

static void equal_placements_are_equal_and_impossible_ones_refused(void **state)
{
    (void)state;
    struct mu_prove *proved;
    assert_int_equal(prove("pp3,tp1,tp2xpp2xdp2,dp3xt2", 1000, &proved), MU_OK);
    assert_true(proved->same);
    assert_int_equal(proved->n_runs, 4);
    assert_true(proved->runs[0].refused);
    assert_int_equal(proved->runs[0].why.code, MU_E_USAGE);
    for (uint32_t i = 1; i < 4; i++) {
        const struct mu_prove_run *run = &proved->runs[i];
        assert_true(run->same && !run->refused);
        assert_memory_equal(run->digests, proved->runs[1].digests,
                            proved->n_prompts * sizeof *run->digests);
        assert_true(run->measured.together_tokens_per_s > 0);
        assert_true(run->predicted.together_tokens_per_s > 0);
        for (unsigned r = 0; r < run->memory->n_ranks; r++)
            assert_int_equal(run->high_bytes[r], run->memory->ranks[r].total_bytes);
    }
    mu_prove_destroy(proved);
    assert_int_equal(prove("pp3", 1000, &proved), MU_E_USAGE);
}

static void an_interrupt_ends_it(void **state)
{
    (void)state;
    struct mu_prove *proved;
    assert_int_equal(prove("tp1,tp2", 1, &proved), MU_E_INTERRUPTED);
    assert_int_equal(prove("tp1", 0, &proved), MU_E_INTERRUPTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_read_as_they_are_written),
        cmocka_unit_test(every_degree_is_tried),
        cmocka_unit_test(words_that_are_no_placement_are_refused),
        cmocka_unit_test(equal_placements_are_equal_and_impossible_ones_refused),
        cmocka_unit_test(an_interrupt_ends_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
