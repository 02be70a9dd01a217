/*
 * The arithmetic contract, end to end: the digest of a generation does not depend on threads,
 * prefill chunks, company in the batch, or how many devices share the work; and requests end as
 * they should.
 */
#include "engine/engine.h"

#include "../data.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define N_TOKENS 24

struct setup {
    const char *model, *devices;
    unsigned threads;
    uint32_t tp, pp, dp, chunk, company;
    enum mu_compute compute;
    enum mu_dtype kv;
};

static struct mu_engine *open_engine(const struct setup *s, struct mu_model_file **file)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_engine *engine = NULL;
    struct mu_engine_options o = {.tp = s->tp,
                                  .pp = s->pp,
                                  .dp = s->dp,
                                  .compute = s->compute,
                                  .kernels = getenv("MUSTER_CPU"),
                                  .kv_type = s->kv,
                                  .context = 256,
                                  .max_sequences = 4,
                                  .prefill_chunk = s->chunk};
    require(mu_model_file_open(golden_path(s->model), 0, file, &err), &err);
    require(mu_devices_parse(s->devices ? s->devices : "cpu", s->threads, &o.devices, &err), &err);
    require(mu_engine_open(*file, &o, &engine, &err), &err);
    return engine;
}

static void fill_prompt(uint32_t *ids, uint32_t n, uint32_t seed)
{
    for (uint32_t i = 0; i < n; i++)
        ids[i] = (seed * 7919 + i * 104729 + i * i * 31) % 500;
}

/* Takes events until `n` requests are done. */
static void drain(struct mu_engine *engine, unsigned n)
{
    for (int waits = 0; n > 0 && waits < 3000;) {
        struct mu_event event;
        if (mu_engine_next_event(engine, &event)) {
            n -= event.done;
        } else {
            mu_engine_wait(engine, 100);
            waits++;
        }
    }
    assert_int_equal(n, 0);
}

/* The digest of one greedy generation from a prompt of 150 tokens under this setup. */
static uint64_t digest_of(const struct setup *s)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file;
    struct mu_engine *engine = open_engine(s, &file);
    uint32_t ids[150];
    struct mu_request *requests[4] = {NULL};
    for (uint32_t i = 0; i <= s->company; i++) {
        /* The one that counts is the last to come, beside others of other lengths. */
        bool counts = i == s->company;
        struct mu_request_options r = {.prompt = ids,
                                       .n_prompt = counts ? 150 : 5 + 40 * i,
                                       .max_tokens = N_TOKENS,
                                       .digest = true};
        mu_sampling_defaults(&r.sampling);
        r.sampling.greedy = true;
        fill_prompt(ids, r.n_prompt, counts ? 1 : 2 + i);
        require(mu_request_submit(engine, &r, &requests[i], &err), &err);
    }
    drain(engine, s->company + 1);
    struct mu_request_result result;
    mu_request_result(requests[s->company], &result);
    if (result.finish != MU_FINISH_LENGTH)
        fail_msg("finish %d: %s", (int)result.finish, result.err.what);
    assert_int_equal(result.n_tokens, N_TOKENS);
    for (uint32_t i = 0; i <= s->company; i++)
        mu_request_destroy(requests[i]);
    mu_engine_close(engine);
    mu_model_file_close(file);
    return result.digest;
}

static const char *const models[] = {"1_tiny/llama_gqa",    "1_tiny/qwen2",
                                     "1_tiny/llama3_tied",  "6_quant/gguf/legacy_mix.gguf",
                                     "1_tiny/mixtral",      "1_tiny/qwen2_moe",
                                     "1_tiny/gpt_oss",      "1_tiny/deepseek_v3",
                                     "synth:nano-moe@q8_0", "synth:nano-latent@q4_0"};

static void test_digest_does_not_depend_on_threads_chunks_or_company(void **state)
{
    (void)state;
    for (size_t m = 0; m < MU_ARRAY_LEN(models); m++)
        for (int f32 = 0; f32 < 2; f32++) {
            struct setup one = {.model = models[m],
                                .threads = 1,
                                .compute = f32 ? MU_COMPUTE_F32 : MU_COMPUTE_DEFAULT,
                                .kv = f32 ? MU_DTYPE_F32 : MU_DTYPE_F16};
            uint64_t want = digest_of(&one);
            assert_int_not_equal(want, 0);
            for (unsigned threads = 2; threads <= 3; threads++) {
                struct setup s = one;
                s.threads = threads;
                assert_int_equal(digest_of(&s), want);
            }
            static const uint32_t chunks[] = {1, 7, 32, 512};
            for (size_t c = 0; c < MU_ARRAY_LEN(chunks); c++) {
                struct setup s = one;
                s.chunk = chunks[c];
                assert_int_equal(digest_of(&s), want);
            }
            for (uint32_t company = 1; company <= 3; company++) {
                struct setup s = one;
                s.company = company;
                s.threads = company;
                s.chunk = 19;
                assert_int_equal(digest_of(&s), want);
            }
        }
}

static void test_digest_does_not_depend_on_the_number_of_devices(void **state)
{
    (void)state;
    for (size_t m = 0; m < MU_ARRAY_LEN(models); m++) {
        struct setup one = {.model = models[m], .threads = 1, .kv = MU_DTYPE_F16};
        uint64_t want = digest_of(&one);
        struct mu_model_file *file;
        struct mu_err err = MU_ERR_INIT;
        require(mu_model_file_open(golden_path(models[m]), 0, &file, &err), &err);
        uint32_t tp_max = mu_model_tp_max(mu_model_file_config(file));
        mu_model_file_close(file);
        for (uint32_t tp = 1; tp <= tp_max; tp++)
            for (uint32_t pp = 1; pp <= 2; pp++) {
                char devices[16];
                (void)snprintf(devices, sizeof devices, "cpu:%u", tp * pp);
                struct setup s = one;
                s.tp = tp;
                s.pp = pp;
                s.devices = devices;
                s.company = tp & 1;
                s.chunk = 40;
                uint64_t got = digest_of(&s);
                if (got != want) fail_msg("%s: tp %u pp %u gives other bits", models[m], tp, pp);
            }
    }
}

static void test_digest_does_not_depend_on_the_replica(void **state)
{
    (void)state;
    struct setup one = {.model = "1_tiny/mixtral", .threads = 1, .kv = MU_DTYPE_F16};
    uint64_t want = digest_of(&one);
    /* With company each replica in turn gets the request that counts. */
    for (uint32_t company = 0; company <= 3; company++)
        for (uint32_t tp = 1; tp <= 2; tp++) {
            struct setup s = one;
            s.devices = tp == 1 ? "cpu:3" : "cpu:8";
            s.tp = tp;
            s.pp = tp;
            s.dp = tp == 1 ? 3 : 2;
            s.company = company;
            s.chunk = 40;
            assert_int_equal(digest_of(&s), want);
        }
}

static void test_replicas_give_equal_requests_equal_bits(void **state)
{
    (void)state;
    struct setup s = {
        .model = "1_tiny/llama_gqa", .devices = "cpu:2", .threads = 1, .dp = 2, .kv = MU_DTYPE_F16};
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file;
    struct mu_engine *engine = open_engine(&s, &file);
    uint32_t ids[40];
    struct mu_request *requests[9];
    struct mu_request_result results[9];
    for (unsigned i = 0; i < 9; i++) {
        /* Each asks for pieces of its own, which change nothing either. */
        struct mu_request_options r = {
            .prompt = ids, .n_prompt = 40, .max_tokens = 20, .prefill_chunk = i, .digest = true};
        fill_prompt(ids, 40, 5);
        mu_sampling_defaults(&r.sampling);
        r.sampling.greedy = true;
        require(mu_request_submit(engine, &r, &requests[i], &err), &err);
    }
    drain(engine, 9);
    struct mu_engine_facts facts;
    mu_engine_facts(engine, &facts);
    assert_int_equal(facts.n_ranks, 2);
    for (unsigned i = 0; i < 9; i++) {
        mu_request_result(requests[i], &results[i]);
        assert_int_equal(results[i].finish, MU_FINISH_LENGTH);
        assert_int_equal(results[i].digest, results[0].digest);
        mu_request_destroy(requests[i]);
    }
    mu_engine_close(engine);
    mu_model_file_close(file);
}

static void test_a_seed_repeats_and_an_absent_one_is_told(void **state)
{
    (void)state;
    struct setup s = {.model = "1_tiny/llama_gqa", .threads = 1, .kv = MU_DTYPE_F16};
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file;
    struct mu_engine *engine = open_engine(&s, &file);
    uint32_t ids[9], answers[3][16];
    struct mu_request_result results[3];
    fill_prompt(ids, 9, 3);
    for (int i = 0; i < 3; i++) {
        struct mu_request *request;
        struct mu_request_options r = {.prompt = ids, .n_prompt = 9, .max_tokens = 16};
        mu_sampling_defaults(&r.sampling);
        if (i > 0) {
            r.sampling.has_seed = true;
            r.sampling.seed = i == 1 ? results[0].seed : results[0].seed + 1;
        }
        require(mu_request_submit(engine, &r, &request, &err), &err);
        uint32_t n = 0;
        for (bool done = false; !done;) {
            struct mu_event event;
            if (!mu_engine_next_event(engine, &event))
                mu_engine_wait(engine, 100);
            else if (event.done)
                done = true;
            else
                answers[i][n++] = event.picked.id;
        }
        assert_int_equal(n, 16);
        mu_request_result(request, &results[i]);
        mu_request_destroy(request);
    }
    assert_memory_equal(answers[0], answers[1], sizeof answers[0]);
    assert_memory_not_equal(answers[0], answers[2], sizeof answers[0]);
    mu_engine_close(engine);
    mu_model_file_close(file);
}

static void test_bad_requests_are_refused_with_the_reason(void **state)
{
    (void)state;
    struct setup s = {.model = "1_tiny/llama_gqa", .threads = 1, .kv = MU_DTYPE_F16};
    struct mu_model_file *file;
    struct mu_engine *engine = open_engine(&s, &file);
    uint32_t ids[300] = {0};
    const struct {
        uint32_t n_prompt, max_tokens, first;
        const char *says;
    } cases[] = {{0, 1, 0, "empty"},
                 {257, 0, 0, "context"},
                 {200, 57, 0, "context"},
                 {3, 1, 512, "vocabulary"}};
    for (size_t i = 0; i < MU_ARRAY_LEN(cases); i++) {
        struct mu_err err = MU_ERR_INIT;
        struct mu_request *request = NULL;
        struct mu_request_options r = {
            .prompt = ids, .n_prompt = cases[i].n_prompt, .max_tokens = cases[i].max_tokens};
        mu_sampling_defaults(&r.sampling);
        ids[0] = cases[i].first;
        assert_int_equal(mu_request_submit(engine, &r, &request, &err), MU_E_INPUT);
        assert_non_null(strstr(err.what, cases[i].says));
        assert_null(request);
    }
    mu_engine_close(engine);
    mu_model_file_close(file);
}

static void test_cancelled_requests_end_and_make_room(void **state)
{
    (void)state;
    struct setup s = {.model = "1_tiny/llama_gqa", .threads = 2, .kv = MU_DTYPE_F16};
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file;
    struct mu_engine *engine = open_engine(&s, &file);
    uint32_t ids[8];
    fill_prompt(ids, 8, 5);
    for (int round = 0; round < 5; round++) {
        struct mu_request *requests[12]; /* more than run together */
        for (unsigned i = 0; i < 12; i++) {
            struct mu_request_options r = {.prompt = ids, .n_prompt = 8, .max_tokens = 200};
            mu_sampling_defaults(&r.sampling);
            require(mu_request_submit(engine, &r, &requests[i], &err), &err);
        }
        for (unsigned i = 0; i < 12; i++)
            mu_request_cancel(requests[i]);
        drain(engine, 12);
        for (unsigned i = 0; i < 12; i++) {
            struct mu_request_result result;
            mu_request_result(requests[i], &result);
            assert_true(result.finish == MU_FINISH_CANCELLED || result.finish == MU_FINISH_LENGTH);
            mu_request_destroy(requests[i]);
        }
    }
    mu_engine_close(engine);
    mu_model_file_close(file);
}

static void test_closing_with_requests_under_way_loses_nothing(void **state)
{
    (void)state;
    struct setup s = {
        .model = "1_tiny/llama_gqa", .devices = "cpu:2", .threads = 1, .tp = 2, .kv = MU_DTYPE_F16};
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file;
    struct mu_engine *engine = open_engine(&s, &file);
    uint32_t ids[8];
    struct mu_request *requests[6];
    fill_prompt(ids, 8, 5);
    for (unsigned i = 0; i < 6; i++) {
        struct mu_request_options r = {.prompt = ids, .n_prompt = 8, .max_tokens = 200};
        mu_sampling_defaults(&r.sampling);
        require(mu_request_submit(engine, &r, &requests[i], &err), &err);
    }
    mu_engine_wait(engine, 50);
    mu_engine_close(engine);
    for (unsigned i = 0; i < 6; i++)
        mu_request_destroy(requests[i]);
    mu_model_file_close(file);
}

static void test_what_does_not_fit_is_refused_before_loading(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file;
    struct mu_engine *engine = NULL;
    struct mu_engine_memory memory;
    struct mu_engine_options o = {.kv_type = MU_DTYPE_F16, .context = 128};
    require(mu_model_file_open(golden_path("1_tiny/llama_gqa"), 0, &file, &err), &err);
    require(mu_devices_parse("cpu", 1, &o.devices, &err), &err);
    require(mu_engine_memory(file, &o, &memory, &err), &err);
    assert_true(memory.fits);
    /* A byte too little is too little; the exact need is enough, and is what gets used. */
    o.devices.items[0].budget_bytes = memory.ranks[0].total_bytes - 1;
    assert_int_equal(mu_engine_open(file, &o, &engine, &err), MU_E_FIT);
    assert_null(engine);
    o.devices.items[0].budget_bytes = memory.ranks[0].total_bytes;
    err = MU_ERR_INIT;
    require(mu_engine_open(file, &o, &engine, &err), &err);
    struct mu_device_usage usage;
    mu_engine_usage(engine, 0, &usage);
    assert_int_equal(usage.total_high_bytes, memory.ranks[0].total_bytes);
    mu_engine_close(engine);
    mu_model_file_close(file);
}

static void test_every_rank_takes_what_was_predicted(void **state)
{
    (void)state;
    static const char *const shapes[] = {"synth:nano-moe", "synth:nano-latent", "1_tiny/gpt_oss"};
    for (size_t m = 0; m < MU_ARRAY_LEN(shapes); m++) {
        struct mu_err err = MU_ERR_INIT;
        struct mu_model_file *file;
        struct mu_engine *engine = NULL;
        struct mu_engine_memory memory;
        struct mu_engine_options o = {
            .tp = 2, .pp = 2, .dp = 2, .kv_type = MU_DTYPE_F16, .context = 128, .max_sequences = 5};
        require(mu_model_file_open(golden_path(shapes[m]), 0, &file, &err), &err);
        require(mu_devices_parse("cpu:8", 1, &o.devices, &err), &err);
        require(mu_engine_memory(file, &o, &memory, &err), &err);
        for (unsigned i = 0; i < memory.n_ranks; i++)
            o.devices.items[i].budget_bytes = memory.ranks[i].total_bytes;
        for (unsigned i = 0; i < memory.n_ranks; i++) { /* a byte too little on any one of them */
            o.devices.items[i].budget_bytes--;
            assert_int_equal(mu_engine_open(file, &o, &engine, NULL), MU_E_FIT);
            o.devices.items[i].budget_bytes++;
        }
        assert_null(engine);
        require(mu_engine_open(file, &o, &engine, &err), &err);
        for (unsigned i = 0; i < memory.n_ranks; i++) {
            struct mu_device_usage usage;
            mu_engine_usage(engine, i, &usage);
            assert_int_equal(memory.ranks[i].replica, i / 4);
            assert_memory_equal(usage.high_bytes, memory.ranks[i].bytes, sizeof usage.high_bytes);
        }
        mu_engine_close(engine);
        mu_model_file_close(file);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]); /* "*replica*": slow checkers take them one by one */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_digest_does_not_depend_on_threads_chunks_or_company),
        cmocka_unit_test(test_digest_does_not_depend_on_the_number_of_devices),
        cmocka_unit_test(test_digest_does_not_depend_on_the_replica),
        cmocka_unit_test(test_replicas_give_equal_requests_equal_bits),
        cmocka_unit_test(test_a_seed_repeats_and_an_absent_one_is_told),
        cmocka_unit_test(test_bad_requests_are_refused_with_the_reason),
        cmocka_unit_test(test_cancelled_requests_end_and_make_room),
        cmocka_unit_test(test_closing_with_requests_under_way_loses_nothing),
        cmocka_unit_test(test_what_does_not_fit_is_refused_before_loading),
        cmocka_unit_test(test_every_rank_takes_what_was_predicted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
