/*
 * One description of memory: what a plan for this machine says of each device is what the engine
 * takes, for all tiny models and placements; and the planner's own sums, which serve other engines
 * and models of which there is but a config, do not lie far from it where nothing is rounded.
 */
#include "base/base.h"
#include "bench/bench.h"

#include "../catalog.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define CONTEXT 96 /* whole blocks of the cache */

static const char *const models[] = {
    "1_tiny/llama_gqa", "1_tiny/qwen2",       "1_tiny/llama3_tied", "1_tiny/mixtral",
    "1_tiny/gpt_oss",   "1_tiny/deepseek_v3", "1_tiny/qwen2_moe",   "1_tiny/llama_bias_sharded",
    "synth:nano",       "synth:micro",        "synth:nano-moe",     "synth:nano-latent"};

static struct mu_model_file *open_model(const char *name)
{
    struct mu_model_file *file = NULL;
    struct mu_err err = MU_ERR_INIT;
    require(mu_model_file_open(golden_path(name), MU_OPEN_HEADER_ONLY, &file, &err), &err);
    return file;
}

static void ask(const struct mu_model_file *file, const struct mu_plan_rack *rack,
                struct mu_here_memory *memory, struct mu_plan **out)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_plan_request r = {.config = mu_model_file_config(file),
                                .formats = {mu_here_format(file)},
                                .n_formats = 1,
                                .rack = rack,
                                .kv_bits = 16,
                                .batch = 4,
                                .input = CONTEXT - 32,
                                .output = 32,
                                .costs = "catalogue"};
    r.n_tensors = mu_model_file_tensors(file, &r.tensors);
    assert_int_equal(mu_probe_find_engine(catalog, MU_STR("muster"), &r.engine, &err), MU_OK);
    if (memory) {
        *memory = (struct mu_here_memory){.file = file,
                                          .format = r.formats[0],
                                          .kv_type = MU_DTYPE_BF16,
                                          .context = CONTEXT,
                                          .batch = 4,
                                          .n_threads = 1};
        r.ask = mu_here_ask;
        r.ask_arg = memory;
    }
    if (mu_plan_make(&r, out, &err) != MU_OK) fail_msg("%s", err.what);
}

static void check(const struct mu_model_file *file, const struct mu_plan_candidate *c)
{
    struct mu_engine_options o = {.tp = c->tp,
                                  .pp = c->pp,
                                  .dp = c->dp,
                                  .kv_type = MU_DTYPE_BF16,
                                  .context = CONTEXT,
                                  .max_sequences = MU_ROUND_UP(4u, c->dp)};
    struct mu_engine_memory memory;
    char devices[16];
    (void)snprintf(devices, sizeof devices, "cpu:%u", c->n_devices);
    assert_int_equal(mu_devices_parse(devices, 1, &o.devices, NULL), MU_OK);
    assert_int_equal(mu_engine_memory(file, &o, &memory, NULL), MU_OK);
    assert_int_equal(memory.n_ranks, c->n_devices);
    for (uint32_t i = 0; i < c->n_devices; i++) {
        assert_true(mu_plan_memory_total(&c->devices[i].memory) ==
                    (double)memory.ranks[i].total_bytes);
        uint32_t first = c->devices[i].layer_first, end = c->devices[i].layer_end;
        char layers[32];
        (void)snprintf(layers, sizeof layers, end - first > 1 ? "%u-%u" : "%u", first, end - 1);
        assert_string_equal(memory.ranks[i].layers, layers);
    }
}

static void plans_say_what_the_engine_takes(void **state)
{
    struct mu_plan_rack rack;
    (void)state;
    assert_int_equal(mu_plan_rack_parse("4xepyc_9354", catalog, &rack, NULL), MU_OK);
    rack.between = &catalog->links[0];
    for (size_t i = 0; i < MU_ARRAY_LEN(models); i++) {
        struct mu_model_file *file = open_model(models[i]);
        struct mu_here_memory memory;
        struct mu_plan *asked, *summed;
        ask(file, &rack, &memory, &asked);
        ask(file, &rack, NULL, &summed);
        for (uint32_t k = 0; k < asked->n_candidates; k++)
            check(file, &asked->candidates[k]);
        /* Keys and values are rounded by nobody: both sums are of the same program. */
        bool windows = mu_model_file_config(file)->sliding_window > 0;
        for (uint32_t k = 0; k < summed->n_candidates && !windows; k++)
            for (uint32_t m = 0; m < asked->n_candidates; m++) {
                const struct mu_plan_candidate *a = &asked->candidates[m];
                const struct mu_plan_candidate *s = &summed->candidates[k];
                if (a->tp != s->tp || a->pp != s->pp || a->dp != s->dp) continue;
                for (uint32_t d = 0; d < a->n_devices; d++)
                    assert_true(a->devices[d].memory.kv_bytes == s->devices[d].memory.kv_bytes);
            }
        mu_plan_destroy(asked);
        mu_plan_destroy(summed);
        mu_model_file_close(file);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(plans_say_what_the_engine_takes)};
    return cmocka_run_group_tests(tests, load_catalog, drop_catalog);
}
