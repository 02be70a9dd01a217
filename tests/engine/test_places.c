/*
 * Where the parts of a model are changes no bit: parts dealt out at random to stages, so that
 * stages come back, layers are split and norms stand alone, give the digest of one device; and each
 * device takes what was predicted.
 */
#include "engine/engine.h"

#include "base/alloc.h"

#include "../data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_PROMPT 70
#define N_TOKENS 6

/* Two requests side by side in pieces of 40, so that steps follow each other closely. */
static uint64_t digests_of(struct mu_engine *engine)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_request *requests[2];
    struct mu_request_result result;
    uint32_t ids[N_PROMPT];
    uint64_t sum = 0;
    for (unsigned i = 0; i < 2; i++) {
        struct mu_request_options r = {.prompt = ids,
                                       .n_prompt = N_PROMPT - 30 * i,
                                       .max_tokens = N_TOKENS,
                                       .prefill_chunk = 40,
                                       .digest = true};
        mu_sampling_defaults(&r.sampling);
        r.sampling.greedy = true;
        for (uint32_t j = 0; j < r.n_prompt; j++)
            ids[j] = (i * 7919 + j * 104729 + j * j * 31) % 500;
        require(mu_request_submit(engine, &r, &requests[i], &err), &err);
    }
    unsigned left = 2;
    for (int waits = 0; left > 0 && waits < 600;) {
        struct mu_event event;
        if (mu_engine_next_event(engine, &event))
            left -= event.done;
        else if (++waits)
            mu_engine_wait(engine, 100);
    }
    assert_int_equal(left, 0);
    for (unsigned i = 0; i < 2; i++) {
        mu_request_result(requests[i], &result);
        if (result.finish != MU_FINISH_LENGTH)
            fail_msg("finish %d: %s", (int)result.finish, result.err.what);
        sum += result.digest;
        mu_request_destroy(requests[i]);
    }
    return sum;
}

/* Every part somewhere, by chance; `homes`: its matrices too. */
static struct mu_part_place *deal(const struct mu_config *config, uint32_t stages, unsigned homes,
                                  uint32_t seed)
{
    struct mu_part_place *places = mu_calloc(mu_part_count(config), sizeof *places);
    assert_non_null(places);
    for (uint32_t i = 0; i < mu_part_count(config); i++) {
        seed = seed * 1664525 + 1013904223;
        places[i].stage = (uint8_t)((seed >> 16) % stages);
        places[i].home = (uint8_t)((seed >> 24) % homes);
    }
    return places;
}

static uint64_t run(const struct mu_model_file *file, uint32_t stages,
                    const struct mu_part_place *places, enum mu_dtype weights, unsigned threads)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_engine *engine = NULL;
    struct mu_engine_memory memory;
    struct mu_engine_options o = {.tp = 1,
                                  .pp = stages,
                                  .places = places,
                                  .kv_type = MU_DTYPE_F16,
                                  .weights = weights,
                                  .context = 128,
                                  .max_sequences = 2};
    char devices[16];
    (void)snprintf(devices, sizeof devices, "cpu:%u", stages);
    require(mu_devices_parse(devices, threads, &o.devices, &err), &err);
    require(mu_engine_memory(file, &o, &memory, &err), &err);
    for (unsigned i = 0; i < memory.n_ranks; i++)
        if (i < stages) o.devices.items[i].budget_bytes = memory.ranks[i].total_bytes;
    require(mu_engine_open(file, &o, &engine, &err), &err);
    uint64_t digest = digests_of(engine);
    for (unsigned i = 0; i < memory.n_ranks; i++) {
        struct mu_device_usage usage;
        mu_engine_usage(engine, i, &usage);
        assert_memory_equal(usage.high_bytes, memory.ranks[i].bytes, sizeof usage.high_bytes);
    }
    mu_engine_close(engine);
    return digest;
}

/* Models of every kind, each under six placements. */
static void deal_out(unsigned homes, enum mu_dtype weights)
{
    static const char *const models[] = {"1_tiny/llama_gqa",    "1_tiny/qwen2",
                                         "1_tiny/llama3_tied",  "1_tiny/mixtral",
                                         "1_tiny/qwen2_moe",    "6_quant/gguf/legacy_mix.gguf",
                                         "1_tiny/gpt_oss",      "1_tiny/deepseek_v3",
                                         "synth:nano-moe@q8_0", "synth:micro@q4_k"};
    for (size_t m = 0; m < MU_ARRAY_LEN(models); m++) {
        struct mu_err err = MU_ERR_INIT;
        struct mu_model_file *file;
        require(mu_model_file_open(golden_path(models[m]), 0, &file, &err), &err);
        uint64_t want = run(file, 1, NULL, weights, 1);
        for (uint32_t seed = 1; seed <= 6; seed++) {
            uint32_t stages = 1 + seed % 4;
            struct mu_part_place *places = deal(mu_model_file_config(file), stages, homes, seed);
            if (run(file, stages, places, weights, 1 + seed % 2) != want)
                fail_msg("%s: places %u give other bits", models[m], seed);
            mu_free(places);
        }
        mu_model_file_close(file);
    }
}

static void test_parts_dealt_out_at_random_give_the_same_bits(void **state)
{
    (void)state;
    deal_out(1, MU_DTYPE_F32);
}

static void test_matrices_that_lie_elsewhere_give_the_same_bits(void **state)
{
    (void)state;
    deal_out(MU_HOME_COUNT, MU_DTYPE_F32);
    deal_out(MU_HOME_COUNT, MU_DTYPE_Q8_0);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]); /* "*replica*": slow checkers take them one by one */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_parts_dealt_out_at_random_give_the_same_bits),
        cmocka_unit_test(test_matrices_that_lie_elsewhere_give_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
