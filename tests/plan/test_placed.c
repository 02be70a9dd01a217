/* Prices of placements by parts: on one device they are the planner's own; what is elsewhere takes
 * as long as it has to be waited for. With made-up costs. */
#include "base/base.h"
#include "format/format.h"
#include "plan/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

#define PARTS_MAX 400
#define COPY_S    1e-10

static const char *const models[] = {"synth:micro", "synth:nano-moe", "synth:nano-latent",
                                     "synth:smollm2-135m"};

/* A machine, and a question. */
struct asked {
    struct mu_probe_catalog *catalog;
    struct mu_model_file *file;
    struct mu_plan_timed timed;
    struct mu_probe_engine engine;
    struct mu_probe_link link;
    struct mu_probe_device device;
    struct mu_part_place places[PARTS_MAX];
    struct mu_plan_placed_request request;
};

/* Costs that are all alike do not depend on the bytes that a step goes through. */
static void setup(struct asked *a, const char *model, bool alike)
{
    struct mu_err err = MU_ERR_INIT;
    double costs[MU_PLAN_COSTS];
    const struct mu_probe_engine *muster;
    *a = (struct asked){.file = NULL};
    if (mu_model_file_open(model, MU_OPEN_SHAPE_ONLY, &a->file, &err) != MU_OK)
        fail_msg("%s: %s", model, err.what);
    assert_int_equal(mu_probe_catalog_load(&a->catalog, &err), MU_OK);
    assert_int_equal(mu_probe_find_engine(a->catalog, MU_STR("muster"), &muster, &err), MU_OK);
    for (size_t i = 0; i < MU_PLAN_COSTS; i++)
        costs[i] = alike ? 1e-9 : 1e-9 * (1 + (double)(i % 7));
    memcpy(&a->timed.costs, costs, sizeof costs);
    a->timed.costs.copy_s = COPY_S;
    a->timed.costs.file_s = 2 * COPY_S;
    a->timed.bits = a->timed.head_bits = 16;
    a->timed.n_busy = 1;
    a->engine = *muster;
    a->engine.first_s = 0;
    a->link = (struct mu_probe_link){
        .name = "memory", .bytes_per_s = 1e10, .latency_s = 1e-6, .efficiency = 1};
    a->device = (struct mu_probe_device){.name = "cpu",
                                         .memory_bytes = 1e12,
                                         .usable_bytes = 1e12,
                                         .bytes_per_s = 1e10,
                                         .link = &a->link,
                                         .node = MU_PLAN_DEVICES_MAX};
    a->request = (struct mu_plan_placed_request){.config = mu_model_file_config(a->file),
                                                 .format = mu_plan_format(MU_STR("bf16"), &err),
                                                 .places = a->places,
                                                 .n_stages = 1,
                                                 .timed = &a->timed,
                                                 .engine = &a->engine,
                                                 .device = &a->device,
                                                 .n_threads = 1,
                                                 .batch = 3,
                                                 .input = 200,
                                                 .output = 64};
    assert_true(mu_part_count(a->request.config) <= PARTS_MAX);
}

static void drop(struct asked *a)
{
    mu_probe_catalog_destroy(a->catalog);
    mu_model_file_close(a->file);
}

static struct mu_plan_placed price(const struct asked *a)
{
    struct mu_plan_placed out;
    struct mu_err err = MU_ERR_INIT;
    if (mu_plan_placed_price(&a->request, &out, &err) != MU_OK) fail_msg("%s", err.what);
    return out;
}

static void put(struct asked *a, enum mu_home home)
{
    for (uint32_t i = 0; i < mu_part_count(a->request.config); i++)
        a->places[i].home = (uint8_t)home;
}

/* What the planner says of one device. */
static double planned(const struct asked *a)
{
    struct mu_plan_rack rack = {.n = 1, .slots = {{.device = &a->device}}};
    const struct mu_plan_placed_request *q = &a->request;
    struct mu_plan_request r = {.config = q->config,
                                .formats = {q->format},
                                .n_formats = 1,
                                .rack = &rack,
                                .engine = q->engine,
                                .timed = q->timed,
                                .kv_bits = 16,
                                .batch = q->batch,
                                .input = q->input,
                                .output = q->output,
                                .costs = "made up"};
    struct mu_plan *plan;
    struct mu_err err = MU_ERR_INIT;
    if (mu_plan_make(&r, &plan, &err) != MU_OK) fail_msg("%s", err.what);
    double step = plan->candidates[0].predicted.step_s;
    mu_plan_destroy(plan);
    return step;
}

static void on_one_device_it_is_the_planners_price(void **state)
{
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(models); i++) {
        struct asked a;
        setup(&a, models[i], false);
        double want = planned(&a), got = price(&a).step_s;
        if (fabs(got / want - 1) > 0.01) fail_msg("%s: %g, not %g", models[i], got, want);
        drop(&a);
    }
}

static void what_is_elsewhere_is_waited_for(void **state)
{
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(models); i++) {
        struct asked a;
        setup(&a, models[i], true);
        struct mu_plan_placed here = price(&a);
        put(&a, MU_HOME_HOST);
        struct mu_plan_placed host = price(&a);
        assert_true(host.bytes[MU_HOME_HOST] > 0 && host.bytes[MU_HOME_FILE] == 0);
        double waits = host.step_s - here.step_s, all = host.bytes[MU_HOME_HOST] * COPY_S;
        if (fabs(waits / all - 1) > 1e-3) fail_msg("%s: waits %g for %g", models[i], waits, all);
        a.timed.costs.load_s[0] = 1e-3;
        double loads = (price(&a).step_s - host.step_s) / 1e-3;
        if (loads < 4 || fabs(loads - round(loads)) > 1e-3) fail_msg("%g loads", loads);
        a.timed.costs.load_s[0] = 1e-9;
        a.request.core_left = true; /* and a thread fills the other slot meanwhile */
        assert_true(price(&a).step_s < host.step_s);
        a.request.core_left = false;
        put(&a, MU_HOME_FILE);
        struct mu_plan_placed file = price(&a);
        assert_true(file.bytes[MU_HOME_FILE] == host.bytes[MU_HOME_HOST]);
        assert_true(file.step_s > host.step_s); /* pages are mapped, too */
        a.request.file_bytes_per_s = 1e6;
        assert_true(price(&a).step_s > 10 * file.step_s);
        drop(&a);
    }
}

static void stages_hand_over(void **state)
{
    struct asked a;
    (void)state;
    setup(&a, "synth:smollm2-135m", true);
    a.request.batch = 1;
    struct mu_plan_placed one = price(&a);
    mu_places_even(a.request.config, 3, a.places);
    a.request.n_stages = 3;
    double more = price(&a).step_s - one.step_s;
    if (more < 2 * a.link.latency_s || more > 4 * a.link.latency_s) fail_msg("%g more", more);
    drop(&a);
}

static void who_waits_long_is_woken(void **state)
{
    struct asked a;
    (void)state;
    setup(&a, "synth:smollm2-135m", true);
    a.request.batch = 1;
    mu_places_even(a.request.config, 3, a.places);
    a.request.n_stages = 3;
    double before = price(&a).step_s;
    a.link.wake_s = 1e-3;
    double more = price(&a).step_s - before;
    if (fabs(more / 2e-3 - 1) > 1e-6) fail_msg("%g more", more);
    drop(&a);
}

/* Stages overlap from one part of the streams to the next, unless they wait for each other inside.
 */
static void a_stage_that_is_come_back_to_does_not_overlap(void **state)
{
    struct asked a;
    (void)state;
    setup(&a, "synth:smollm2-135m", true);
    a.link.latency_s = 1e-12;
    a.request.batch = 2;
    a.request.n_stages = 2;
    mu_places_even(a.request.config, 2, a.places);
    double apart = price(&a).step_s;
    for (uint32_t i = 1; i < mu_part_norm(a.request.config); i++)
        a.places[i].stage = (uint8_t)((i - 1) / MU_PARTS_A_LAYER % 2);
    double mixed = price(&a).step_s;
    if (mixed < 1.5 * apart || mixed > 2.1 * apart) fail_msg("%g and %g", apart, mixed);
    drop(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(on_one_device_it_is_the_planners_price),
        cmocka_unit_test(what_is_elsewhere_is_waited_for),
        cmocka_unit_test(stages_hand_over),
        cmocka_unit_test(who_waits_long_is_woken),
        cmocka_unit_test(a_stage_that_is_come_back_to_does_not_overlap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
