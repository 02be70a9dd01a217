/* The probe against a driver's library that follows a script: whole machines, every function taken
 * away, every return code, every call hanging. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/thread.h"
#include "probe/probe_int.h"

#include "../data.h"

#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char library[512], folder[512];
static void (*fake_load)(void);
static int (*fake_hides)(const char *function);
static const char *taken_away;

static void *find(void *handle, const char *name)
{
    if (fake_hides(name) || (taken_away && strcmp(taken_away, name) == 0)) return NULL;
    return dlsym(handle, name);
}

static struct mu_probe_node *look_at(struct mu_probe *probe)
{
    struct mu_probe_node *node = mu_calloc(1, sizeof *node);
    assert_non_null(node);
    assert_int_equal(mu_probe_look(probe, node, NULL), MU_OK);
    return node;
}

static struct mu_probe_options options = {
    .library = library, .root = "/nonexistent", .kernel_log = "/dev/null", .find = find};

/* What the probe sees of a script's machine. */
static struct mu_probe_node *look(const char *script)
{
    assert_int_equal(setenv("MUSTER_NVML_FAKE", script, 1), 0);
    fake_load();
    struct mu_probe *probe = NULL;
    assert_int_equal(mu_probe_open(&options, &probe, NULL), MU_OK);
    struct mu_probe_node *node = look_at(probe);
    mu_probe_close(probe);
    return node;
}

static struct mu_probe_node *look_named(const char *name)
{
    char path[1024];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    return look(path);
}

/* A script of these lines. */
static struct mu_probe_node *look_lines(const char *lines)
{
    char path[] = "/tmp/muster-fake-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(mu_fd_write(fd, path, lines, strlen(lines), NULL), MU_OK);
    (void)close(fd);
    struct mu_probe_node *node = look(path);
    (void)unlink(path);
    return node;
}

static double number(const struct mu_probe_gpu *g, enum mu_probe_metric metric)
{
    assert_int_equal(g->values[metric].absent, MU_PROBE_VALID);
    return g->values[metric].value;
}

static void test_eight_with_switch(void **state)
{
    (void)state;
    struct mu_probe_node *node = look_named("h100x8");
    assert_int_equal(node->library, MU_PROBE_VALID);
    assert_int_equal(node->n_gpus, 8);
    assert_string_equal(node->driver, "550.54.15");
    assert_string_equal(node->cuda, "12.4");
    assert_string_equal(node->symbols_absent, "");
    const struct mu_probe_gpu *g = &node->gpus[1];
    assert_string_equal(g->name, "NVIDIA H100 80GB HBM3");
    assert_string_equal(g->bus_id, "0000:11:00.0");
    assert_true(number(g, MU_PROBE_MEMORY_TOTAL) == 81559.0 * 1048576);
    assert_true(number(g, MU_PROBE_POWER) > 411.9 && number(g, MU_PROBE_POWER) < 412.1);
    assert_true(number(g, MU_PROBE_MEMORY_TEMPERATURE) == 73);
    assert_true(number(g, MU_PROBE_FABRIC_STATE) == 3);
    assert_true(number(g, MU_PROBE_PCIE_SENT) == 2.4e9);
    assert_true(number(g, MU_PROBE_PCIE_RECEIVED) == 1.2e9);
    assert_true(number(g, MU_PROBE_NVLINK_SENT) > 0);
    assert_int_equal(g->values[MU_PROBE_FAN].absent, MU_PROBE_NOT_SUPPORTED);
    assert_int_equal(g->n_processes, 1);
    assert_int_equal(g->processes[0].pid, 4243);
    assert_true(g->processes[0].used_bytes.value == 73000.0 * 1048576);
    char text[8];
    assert_string_equal(mu_probe_path_text(node, 0, 7, text), "NV18");
    assert_string_equal(mu_probe_path_text(node, 3, 3, text), "X");
    mu_free(node);
}

static void test_four_on_pcie(void **state)
{
    (void)state;
    struct mu_probe_node *node = look_named("ada4");
    char text[8];
    assert_int_equal(node->n_gpus, 4);
    assert_string_equal(mu_probe_path_text(node, 0, 1, text), "PHB");
    assert_string_equal(mu_probe_path_text(node, 1, 2, text), "SYS");
    assert_int_equal(node->gpus[0].links[0].up.absent, MU_PROBE_NOT_SUPPORTED);
    assert_int_equal(node->gpus[0].values[MU_PROBE_FABRIC_STATE].absent, MU_PROBE_NOT_SUPPORTED);
    assert_int_equal(node->gpus[0].values[MU_PROBE_NVLINK_SENT].absent, MU_PROBE_NOT_SUPPORTED);
    mu_free(node);
}

static void test_dead_gpu(void **state)
{
    (void)state;
    struct mu_probe_node *node = look_named("dead");
    assert_int_equal(node->n_gpus, 4);
    assert_int_equal(node->gpus[2].unusable, MU_PROBE_GPU_LOST);
    assert_int_equal(node->gpus[2].values[MU_PROBE_POWER].absent, MU_PROBE_GPU_LOST);
    assert_int_equal(node->gpus[3].unusable, MU_PROBE_VALID);
    assert_true(number(&node->gpus[3], MU_PROBE_UTILIZATION) == 93);
    char text[8];
    assert_string_equal(mu_probe_path_text(node, 2, 3, text), "?");
    mu_free(node);
}

static void test_old_driver(void **state)
{
    (void)state;
    struct mu_probe_node *node = look_named("old");
    const struct mu_probe_gpu *g = &node->gpus[0];
    assert_true(number(g, MU_PROBE_MEMORY_TOTAL) == 16130.0 * 1048576);
    assert_true(number(g, MU_PROBE_MEMORY_USED) == 12000.0 * 1048576);
    assert_true(number(g, MU_PROBE_CLOCK_REASONS) == 0);
    assert_int_equal(g->n_processes, 1); /* of the oldest layout */
    assert_int_equal(g->processes[0].pid, 77);
    assert_true(g->processes[0].used_bytes.value == 500.0 * 1048576);
    assert_int_equal(g->values[MU_PROBE_MIG_ENABLED].absent, MU_PROBE_NO_SYMBOL);
    assert_int_equal(g->values[MU_PROBE_REMAP_FAILED].absent, MU_PROBE_NO_SYMBOL);
    assert_non_null(strstr(node->symbols_absent, "nvmlDeviceGetRemappedRows"));
    assert_null(strstr(node->symbols_absent, "MemoryInfo"));
    mu_free(node);
}

static void test_slices(void **state)
{
    (void)state;
    struct mu_probe_node *node = look_named("mig");
    assert_int_equal(node->gpus[0].n_slices, 3);
    assert_non_null(strstr(node->gpus[0].slices[2].name, "MIG 1g"));
    assert_true(node->gpus[0].slices[2].total_bytes.value == 20389.0 * 1048576);
    assert_int_equal(node->gpus[1].n_slices, 0);
    mu_free(node);
}

static void test_rubbish(void **state)
{
    (void)state;
    struct mu_probe_node *node = look_named("rubbish");
    static const enum mu_probe_metric wrong[] = {
        MU_PROBE_MEMORY_TOTAL, MU_PROBE_MEMORY_USED, MU_PROBE_UTILIZATION, MU_PROBE_POWER,
        MU_PROBE_TEMPERATURE,  MU_PROBE_SM_CLOCK,    MU_PROBE_PCIE_WIDTH,  MU_PROBE_POWER_INSTANT};
    for (size_t i = 0; i < MU_ARRAY_LEN(wrong); i++)
        assert_int_equal(node->gpus[0].values[wrong[i]].absent, MU_PROBE_RUBBISH);
    assert_string_equal(node->gpus[0].bus_id, "");
    assert_int_equal(node->gpus[0].processes_absent, MU_PROBE_RUBBISH);
    for (const char *p = node->gpus[0].name; *p; p++)
        assert_true(*p >= ' ' && *p <= '~');
    mu_free(node);
}

static void test_process_layouts(void **state)
{
    (void)state;
    for (unsigned layout = 0; layout < 2; layout++) {
        char script[256];
        (void)snprintf(script, sizeof script,
                       "layout_535 %u\nprocess 0 11 1\nprocess 0 12 2\nprocess 0 13 3\n", layout);
        struct mu_probe_node *node = look_lines(script);
        assert_int_equal(node->gpus[0].n_processes, 3);
        for (unsigned i = 0; i < 3; i++) {
            assert_int_equal(node->gpus[0].processes[i].pid, 11 + i);
            assert_true(node->gpus[0].processes[i].used_bytes.value == (i + 1) * 1048576.0);
        }
        mu_free(node);
    }
}

static void test_no_library(void **state)
{
    (void)state;
    struct mu_probe_options none = {.library = "/nonexistent/libnvidia-ml.so.1"};
    struct mu_probe *probe = NULL;
    assert_int_equal(mu_probe_open(&none, &probe, NULL), MU_OK);
    struct mu_probe_node *node = look_at(probe);
    assert_int_equal(node->library, MU_PROBE_NO_LIBRARY);
    assert_non_null(strstr(node->library_what, "/nonexistent/libnvidia-ml.so.1"));
    assert_int_equal(node->n_gpus, 0);
    mu_free(node);
    mu_probe_close(probe);
}

/* --- every function, one at a time ----------------------------------------------------------- */

static const char *const names[NVML_FUNCTION_COUNT][NVML_NAMES_MAX] = {
#define NAMES_(name, shape, ...) {__VA_ARGS__},
    NVML_FUNCTION_TABLE(NAMES_)
#undef NAMES_
};

/* Valid figures of the first GPU, so that what a fault costs can be counted. */
static unsigned n_valid(const struct mu_probe_node *node)
{
    const struct mu_probe_gpu *g = &node->gpus[0];
    const char *const texts[] = {g->name,      g->uuid,    g->vbios,  g->bus_id,
                                 node->driver, node->nvml, node->cuda};
    unsigned n = 0;
    for (size_t i = 0; i < MU_ARRAY_LEN(texts); i++)
        n += texts[i][0] != '\0';
    n += g->processes_absent == MU_PROBE_VALID;
    for (unsigned m = 0; m < MU_PROBE_METRIC_COUNT; m++)
        n += mu_probe_has(g->values[m]);
    for (unsigned l = 0; l < MU_PROBE_LINKS_MAX && node->n_gpus; l++)
        n += mu_probe_has(g->links[l].up);
    return node->n_gpus ? n : 0;
}

static bool carries_all(unsigned function)
{
    return function == NVML_INIT || function == NVML_COUNT || function == NVML_HANDLE;
}

/* At most the figures of one call are lost (18 links, or all that FIELDS and rows of one call
 * give), unless it is a call without which there is nothing. */
static void check_loss(unsigned function, unsigned before, const struct mu_probe_node *node,
                       mu_probe_absence why)
{
    unsigned after = n_valid(node);
    if (function == NVML_SHUTDOWN) return;
    if (carries_all(function)) {
        assert_true(node->library == why || node->gpus[0].unusable == why);
        return;
    }
    unsigned most = function == NVML_LINK_STATE ? MU_PROBE_LINKS_MAX : 5;
    if (before - after > most) fail_msg("%s costs %u figures", names[function][0], before - after);
}

static void test_every_function_missing(void **state)
{
    (void)state;
    struct mu_probe_node *whole = look_lines("gpus 2\nlinks 18\nmig 1\n");
    unsigned before = n_valid(whole);
    assert_true(before > 50);
    mu_free(whole);
    for (unsigned f = 0; f < NVML_FUNCTION_COUNT; f++) {
        char script[512] = "gpus 2\nlinks 18\nmig 1\n";
        for (unsigned v = 0; v < NVML_NAMES_MAX && names[f][v]; v++)
            (void)snprintf(script + strlen(script), sizeof script - strlen(script), "hide %s\n",
                           names[f][v]);
        struct mu_probe_node *node = look_lines(script);
        if (f != NVML_INIT) assert_non_null(strstr(node->symbols_absent, names[f][0]));
        check_loss(f, before, node, MU_PROBE_NO_SYMBOL);
        mu_free(node);
        /* The newest name alone: an older one takes its place. */
        taken_away = names[f][0];
        node = look_lines("gpus 2\nlinks 18\nmig 1\n");
        taken_away = NULL;
        if (names[f][1] && f != NVML_FABRIC) assert_int_equal(n_valid(node), before);
        mu_free(node);
    }
}

static void test_every_return_code(void **state)
{
    (void)state;
    struct mu_probe_node *whole = look_lines("gpus 2\nlinks 18\n");
    unsigned before = n_valid(whole);
    mu_free(whole);
    static const int codes[] = {1,  2,  3,  4,  6,  7,  9,  10, 11, 12, 13,  14, 15,
                                16, 17, 18, 20, 21, 23, 25, 27, 28, 29, 999, 77, -5};
    for (unsigned f = 0; f < NVML_FUNCTION_COUNT; f++)
        for (unsigned i = 0; i < MU_ARRAY_LEN(codes); i++) {
            char script[512];
            (void)snprintf(script, sizeof script, "gpus 2\nlinks 18\nfail %s %d\n", names[f][0],
                           codes[i]);
            struct mu_probe_node *node = look_lines(script);
            mu_probe_absence why = codes[i] < 0 ? MU_PROBE_RUBBISH : (mu_probe_absence)codes[i];
            check_loss(f, before, node, why);
            mu_free(node);
        }
}

static void test_every_call_hangs_once(void **state)
{
    (void)state;
    options.call_ms = 300;
    for (unsigned f = 0; f < NVML_FUNCTION_COUNT; f++) {
        char script[512];
        (void)snprintf(script, sizeof script, "gpus 2\nlinks 18\nmig 1\nhang %s\n", names[f][0]);
        uint64_t start = mu_clock_ns();
        struct mu_probe_node *node = look_lines(script);
        assert_true(mu_clock_seconds_since(start) < 1.4);
        if (f == NVML_INIT)
            assert_int_equal(node->library, MU_PROBE_HUNG);
        else if (f != NVML_SHUTDOWN)
            assert_string_equal(node->hung, names[f][0]);
        mu_free(node);
    }
    (void)usleep(1600 * 1000); /* the last to hang lets go: nothing of ours may be touched then */
    options.call_ms = 0;
}

static void test_hopeless_driver(void **state)
{
    (void)state;
    char script[1024] = "gpus 4\n";
    for (unsigned f = NVML_NAME; f < NVML_NAME + 12; f++)
        (void)snprintf(script + strlen(script), sizeof script - strlen(script), "hang %s\n",
                       names[f][0]);
    options.call_ms = 300;
    uint64_t start = mu_clock_ns();
    struct mu_probe_node *node = look_lines(script);
    options.call_ms = 0;
    assert_true(mu_clock_seconds_since(start) < 3); /* given up after a few, not after all */
    assert_int_equal(node->gpus[3].values[MU_PROBE_POWER].absent, MU_PROBE_HUNG);
    mu_free(node);
    (void)usleep(1600 * 1000);
}

/* --- sampler --------------------------------------------------------------------------------- */

static void test_sampler(void **state)
{
    (void)state;
    assert_int_equal(setenv("MUSTER_NVML_FAKE", "/dev/null", 1), 0);
    fake_load();
    struct mu_probe *probe = NULL;
    assert_int_equal(mu_probe_open(&options, &probe, NULL), MU_OK);
    struct mu_probe_node *node = look_at(probe);
    struct mu_probe_sampler *sampler = NULL;
    assert_int_equal(mu_probe_sampler_start(probe, 100, 16, &sampler, NULL), MU_OK);
    struct mu_probe_sample samples[32];
    unsigned n = 0;
    for (unsigned i = 0; i < 100 && n < 16; i++) {
        (void)usleep(20000);
        n = mu_probe_sampler_read(sampler, 0, samples, MU_ARRAY_LEN(samples));
        if (i == 3) assert_int_equal(mu_probe_look(probe, node, NULL), MU_OK); /* beside it */
    }
    assert_int_equal(n, 16);
    for (unsigned i = 1; i < n; i++)
        assert_true(samples[i].at_ns > samples[i - 1].at_ns);
    assert_true(samples[15].values[MU_PROBE_UTILIZATION].value == 93);
    struct mu_probe_sampler_cost cost;
    mu_probe_sampler_cost_get(sampler, &cost);
    assert_true(cost.n_ticks >= 16 && cost.cpu_s > 0 && cost.cpu_s < cost.wall_s);
    mu_probe_sampler_stop(sampler);
    mu_probe_close(probe);
    mu_free(node);
}

int main(void)
{
    char exe[400] = "";
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash = n > 0 ? strrchr(exe, '/') : NULL;
    if (!slash) return 1;
    *slash = '\0';
    (void)snprintf(library, sizeof library, "%s/libnvidia-ml.so.1", exe);
    (void)snprintf(folder, sizeof folder, "%s/probe/nvml", tests_folder());
    void *handle = dlopen(library, RTLD_NOW);
    if (!handle) return 1;
    void *load = dlsym(handle, "nvml_fake_load"), *hides = dlsym(handle, "nvml_fake_hides");
    memcpy(&fake_load, &load, sizeof load);
    memcpy(&fake_hides, &hides, sizeof hides);
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_eight_with_switch),
        cmocka_unit_test(test_four_on_pcie),
        cmocka_unit_test(test_dead_gpu),
        cmocka_unit_test(test_old_driver),
        cmocka_unit_test(test_slices),
        cmocka_unit_test(test_rubbish),
        cmocka_unit_test(test_process_layouts),
        cmocka_unit_test(test_no_library),
        cmocka_unit_test(test_every_function_missing),
        cmocka_unit_test(test_every_return_code),
        cmocka_unit_test(test_every_call_hangs_once),
        cmocka_unit_test(test_hopeless_driver),
        cmocka_unit_test(test_sampler),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
