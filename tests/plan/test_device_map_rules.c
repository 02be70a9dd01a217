/*
 * The rules of accelerate on trees small enough to follow by hand. Trees, limits and maps are the
 * known answers of its documented behaviour: what fits, what is split, ties, buffers, the fallback.
 */
#include "base/base.h"
#include "plan/device_map_int.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* 64, 72 and 100 bytes. `t1` and `t2` are marks behind the weights of the linear modules. */
#define THREE(at, t1, t2)                                                                          \
    at "linear1 Linear weight=12" t1 " bias=4\n" at                                                \
       "batchnorm Norm weight=4 bias=4 ~mean=4 ~var=4 ~batches=1@8\n" at                           \
       "linear2 Linear weight=20" t2 " bias=5\n"
#define LAYERS(t2, t3, t4)                                                                         \
    "layer1 Three\n" THREE(" ", t2, "&1") "layer2 Three\n" THREE(                                  \
        " ", t3, t4) "layer3 Three\n" THREE(" ", "", "&1")
#define TEN    " Linear weight=100 bias=10"
#define TWENTY " Linear weight=400 bias=20\n"
#define BUFFERS                                                                                    \
    "linear1 Linear weight=12 bias=4 ~more=20\n"                                                   \
    "batchnorm Norm weight=4 bias=4 ~mean=4 ~var=4 ~batches=32\n"                                  \
    "linear2 Linear weight=20 bias=5 ~more=30\n"

static const struct toy {
    const char *tree, *mode, *limits, *no_split;
    bool fallback, offload_buffers;
    const char *map;
    unsigned warnings;
} toys[] = {
    {THREE("", "", ""), "sequential", "{\"0\":200,\"1\":200}", "", false, false,
     "linear1:0 batchnorm:1 linear2:1 ", 0},
    {THREE("", "", ""), "sequential", "{\"0\":200,\"1\":172,\"2\":200}", "", false, false,
     "linear1:0 batchnorm:1 linear2:1 ", 0},
    {THREE("", "&1", "&1"), "sequential", "{\"0\":200,\"1\":200}", "", false, false, ":0 ", 0},
    {"0 Three\n" THREE(" ", "", "") "1 Three\n" THREE(" ", "", "") "2 Three\n" THREE(" ", "", ""),
     "sequential", "{\"0\":500,\"1\":500}", "", false, false,
     "0:0 1.linear1:0 1.batchnorm:0 1.linear2:1 2:1 ", 0},
    {"0 Three\n" THREE(" ", "", "") "1 Three\n" THREE(" ", "", "") "2 Three\n" THREE(" ", "", ""),
     "sequential", "{\"0\":500,\"1\":500}", "Other,Three", false, false, "0:0 1:1 2:1 ", 0},
    {LAYERS("", "", ""), "sequential", "{\"0\":400,\"1\":500}", "", false, false,
     "layer1:0 layer2:1 layer3.linear1:1 layer3.batchnorm:1 layer3.linear2:0 ", 0},
    {LAYERS("", "", "&1"), "sequential", "{\"0\":400,\"1\":500}", "", false, false,
     "layer1:0 layer2.linear1:1 layer2.batchnorm:1 layer2.linear2:0 layer3.linear1:1 "
     "layer3.batchnorm:1 layer3.linear2:0 ",
     0},
    {LAYERS("&2", "&2", "&1"), "sequential", "{\"0\":400,\"1\":500}", "", false, false,
     "layer1:0 layer2.linear1:0 layer2.batchnorm:1 layer2.linear2:0 layer3.linear1:1 "
     "layer3.batchnorm:1 layer3.linear2:0 ",
     0},
    {"linear1 Linear weight=16&1 bias=4&2\nlinear2 Linear weight=36 bias=6\n"
     "linear3 Linear weight=16&1 bias=4&2\nlinear4 Linear weight=36 bias=6\n",
     "sequential", "{\"0\":250,\"1\":400}", "", false, false,
     "linear1:0 linear2:1 linear3:0 linear4:1 ", 0},
    {"compute Module weight=10&1\n weight_submodule Module parameter=10&1\n"
     "compute1 Module weight=10\n",
     "sequential", "{\"0\":4,\"cpu\":96000}", "", false, false, ":cpu ", 0},
    {BUFFERS, "sequential", "{\"0\":400,\"cpu\":\"1GB\"}", "", false, false,
     "linear1:0 batchnorm:cpu linear2:cpu ", 1},
    {BUFFERS, "sequential", "{\"0\":400,\"cpu\":\"1GB\"}", "", false, true,
     "linear1:0 batchnorm:cpu linear2:cpu ", 0},
    {BUFFERS "linear3 Linear weight=20 bias=5 ~more=20\n", "sequential",
     "{\"0\":400,\"1\":400,\"cpu\":\"1GB\"}", "", false, false,
     "linear1:0 batchnorm:1 linear2:cpu linear3:cpu ", 0},
    {BUFFERS "linear3 Linear weight=20 bias=5 ~more=20\n", "sequential",
     "{\"0\":400,\"1\":200,\"cpu\":\"1GB\"}", "", false, false,
     "linear1:0 batchnorm:1 linear2:cpu linear3:cpu ", 1},
    {"linear1 Linear weight=40 bias=4\nlinear2 Linear weight=16 bias=4\n"
     "linear3 Linear weight=32 bias=8\n",
     "sequential", "{\"0\":256}", "", false, false, ":disk ", 0},
    {"linear1 Linear weight=40 bias=4\nlinear2 Linear weight=16 bias=4\n"
     "linear3 Linear weight=32 bias=8\n",
     "sequential", "{\"0\":256}", "", true, false, "linear1:disk linear2:0 linear3:disk ", 0},
    {"linear1" TEN "\nlinear2" TEN "\nlinear3" TEN "\n", "sequential", "{\"0\":30}", "", true,
     false, ":disk ", 0},
    {"a Two\n x" TWENTY " y" TWENTY "b Two\n x" TWENTY " y" TWENTY "c Two\n x" TWENTY " y" TWENTY,
     "sequential", "{\"0\":5000}", "", true, false, "a.x:0 a.y:disk b:disk c:disk ", 0},
    {"linear1 Linear weight=100&1 bias=10\nlinear2 Linear weight=100&1 bias=10\n", "sequential",
     "{\"0\":600}", "", true, false, ":0 ", 0},
    {"linear1" TEN " ~more=5\nbatchnorm Norm weight=10 bias=10 ~mean=10 ~var=10 ~batches=7\n"
     "linear2" TEN " ~more=5\n",
     "sequential", "{\"0\":678}", "", true, false, "linear1:disk batchnorm:0 linear2:disk ", 1},
};

struct toy_result {
    struct mu_plan_map map;
    json_t *limits;
};

static struct mu_plan_map *toy_run(const struct toy *toy, struct toy_result *r)
{
    struct mu_err err = MU_ERR_INIT;
    r->map = (struct mu_plan_map){.arena = mu_arena_create(1 << 24)};
    assert_int_equal(mu_json_parse(mu_str(toy->limits), "limits", &r->limits, &err), MU_OK);
    struct mu_plan_map_request request = {.max_memory = r->limits,
                                          .rules = MU_PLAN_ACCELERATE,
                                          .no_split = toy->no_split,
                                          .fallback_allocation = toy->fallback,
                                          .offload_buffers = toy->offload_buffers};
    struct mu_plan_map_work w = {.request = &request, .map = &r->map};
    struct mu_plan_tree_options options = {.float_bytes = 4};
    mu_status status = mu_plan_map_work_init(&w, &err);
    if (status == MU_OK)
        status = mu_plan_tree_from_text(toy->tree, &options, r->map.arena, &w.tree, &err);
    if (status == MU_OK) status = mu_plan_map_by_rule(&w, toy->mode, &err);
    if (status != MU_OK) fail_msg("%s", err.what);
    return &r->map;
}

static void toy_end(struct toy_result *r)
{
    mu_arena_destroy(r->map.arena);
    json_decref(r->limits);
}

static void test_toys(void **state)
{
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(toys); i++) {
        struct toy_result r;
        struct mu_text text;
        mu_text_init(&text, 4096);
        const struct mu_plan_map *map = toy_run(&toys[i], &r);
        for (size_t e = 0; e < map->n_entries; e++)
            mu_text_printf(&text, "%s:%s ", map->entries[e].module,
                           map->devices[map->entries[e].device].name);
        if (strcmp(mu_text_get(&text), toys[i].map) != 0)
            fail_msg("toy %zu: %s, wanted %s", i, mu_text_get(&text), toys[i].map);
        if (map->n_warnings != toys[i].warnings)
            fail_msg("toy %zu: %zu warnings", i, map->n_warnings);
        mu_text_fini(&text);
        toy_end(&r);
    }
}

static void test_minimum(void **state)
{
    (void)state;
    struct toy_result r;
    const struct toy toy = {.tree = "linear1 Linear weight=40 bias=4\n"
                                    "linear2 Linear weight=16 bias=4\n"
                                    "linear3 Linear weight=32 bias=8\n",
                            .mode = "sequential",
                            .limits = "{\"0\":256}",
                            .no_split = ""};
    assert_true(toy_run(&toy, &r)->devices[0].minimum_bytes == 336);
    toy_end(&r);
}

static void test_balance(void **state)
{
    (void)state;
    static const struct {
        const char *mode, *limits;
        double balanced[3];
    } cases[] = {
        {"balanced", "{\"0\":200,\"1\":200}", {200, 200}},
        {"balanced", "{\"2\":200,\"0\":200}", {200, 200}},
        {"balanced", "{\"0\":300,\"1\":300}", {215, 300}},
        {"balanced", "{\"0\":300,\"1\":500}", {215, 500}},
        {"balanced", "{\"0\":300,\"cpu\":1000}", {300, 1000}},
        {"balanced", "{\"0\":0,\"1\":300,\"2\":300}", {0, 215, 300}},
        {"balanced", "{\"0\":0,\"cpu\":100}", {0, 100}},
        {"auto", "{\"0\":300,\"1\":500}", {215, 500}},
        {"sequential", "{\"0\":300,\"1\":500}", {300, 500}},
        {"balanced_low_0", "{\"0\":300,\"1\":500}", {0, 500}},
        {"balanced_low_0", "{\"0\":300,\"1\":100,\"2\":100}", {36, 100, 100}},
        /* GPUs that are not numbered from 0 on, where the library fails. */
        {"balanced_low_0", "{\"3\":300,\"5\":100,\"7\":100}", {36, 100, 100}},
        {"balanced_low_0", "{\"4\":300,\"cpu\":100}", {300, 100}},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(cases); i++) {
        struct toy_result r;
        const struct toy toy = {.tree = THREE("", "", ""),
                                .mode = cases[i].mode,
                                .limits = cases[i].limits,
                                .no_split = ""};
        const struct mu_plan_map *map = toy_run(&toy, &r);
        for (size_t d = 0; d < map->n_devices && map->devices[d].listed; d++)
            if (map->devices[d].limit_bytes != cases[i].balanced[d])
                fail_msg("%s %s: device %s gets %.1f", cases[i].mode, cases[i].limits,
                         map->devices[d].name, map->devices[d].limit_bytes);
        toy_end(&r);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_toys),
        cmocka_unit_test(test_minimum),
        cmocka_unit_test(test_balance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
