/* Devices timed alone: the CPUs that are here, and GPUs of a scripted library: every function taken
 * away, failing with every code, hanging and crashing. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "measure/measure.h"

#include <dlfcn.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static char library[512];
static void (*fake_load)(void);
static int (*fake_hides)(const char *function);

static void *find(void *handle, const char *name)
{
    return fake_hides(name) ? NULL : dlsym(handle, name);
}

static struct mu_measure_alone options = {
    .seconds = 20, .library = library, .find = find, .call_ms = 4000};

static json_t *timed(const char *lines)
{
    char path[] = "/tmp/muster-fake-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(mu_fd_write(fd, path, lines, strlen(lines), NULL), MU_OK);
    (void)close(fd);
    assert_int_equal(setenv("MUSTER_CUDA_FAKE", path, 1), 0);
    fake_load();
    json_t *rows = json_array();
    assert_int_equal(mu_measure_alone_gpus(&options, rows, NULL), MU_OK);
    (void)unlink(path);
    return rows;
}

/* The row of a figure between these, or NULL. */
static const json_t *row_of(const json_t *rows, const char *figure, const char *device,
                            const char *peer)
{
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        const char *other = json_string_value(json_object_get(row, "peer"));
        if (strcmp(json_string_value(json_object_get(row, "figure")), figure) == 0 &&
            strcmp(json_string_value(json_object_get(row, "device")), device) == 0 &&
            strcmp(other ? other : "", peer) == 0)
            return row;
    }
    return NULL;
}

static double best(const json_t *row)
{
    return json_number_value(json_object_get(row, "best"));
}

static const char *why(const json_t *row)
{
    const char *s = json_string_value(json_object_get(row, "why"));
    return s ? s : "";
}

static unsigned n_measured(const json_t *rows)
{
    unsigned n = 0;
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        n += best(row) > 0;
        assert_true(best(row) > 0 || why(row)[0]);
    }
    return n;
}

#define GPU0 "0000:10:00.0"
#define GPU1 "0000:11:00.0"

static void test_gpus(void **state)
{
    (void)state;
    json_t *rows = timed("gpus 3\nslow 1 60\nalone 0 2\n");
    assert_int_equal(json_array_size(rows), 3 * 4 + 6);
    assert_int_equal(n_measured(rows), 3 * 4 + 6);
    double whole = best(row_of(rows, "memory_bytes_per_s", GPU0, ""));
    double slow = best(row_of(rows, "memory_bytes_per_s", GPU1, ""));
    assert_true(fabs(whole - 2000e9) < 1e9 && fabs(slow - 800e9) < 1e9);
    assert_true(fabs(best(row_of(rows, "fp32_flop_per_s", GPU0, "")) - 60e12) < 1e10);
    assert_true(fabs(best(row_of(rows, "fp32_flop_per_s", GPU1, "")) - 24e12) < 1e10);
    assert_true(best(row_of(rows, "to_host_bytes_per_s", GPU0, "")) <= 50.1e9);
    assert_true(best(row_of(rows, "link_bytes_per_s", GPU1, GPU0)) <= 121e9);
    const json_t *link = row_of(rows, "link_bytes_per_s", GPU0, "0000:12:00.0");
    assert_string_equal(json_string_value(json_object_get(link, "alike")), "over the host");
    link = row_of(rows, "link_bytes_per_s", GPU0, GPU1);
    assert_string_equal(json_string_value(json_object_get(link, "alike")), "direct");
    json_decref(rows);
}

static void test_no_library(void **state)
{
    (void)state;
    struct mu_measure_alone none = options;
    none.library = "/nonexistent/libcuda.so.1";
    json_t *rows = json_array();
    assert_int_equal(mu_measure_alone_gpus(&none, rows, NULL), MU_OK);
    assert_int_equal(json_array_size(rows), 1);
    assert_non_null(strstr(why(json_array_get(rows, 0)), "/nonexistent/libcuda.so.1"));
    json_decref(rows);
}

static const char *const functions[] = {"cuInit",
                                        "cuDeviceGetCount",
                                        "cuDeviceGet",
                                        "cuDeviceGetPCIBusId",
                                        "cuMemAlloc_v2",
                                        "cuMemAllocHost_v2",
                                        "cuDevicePrimaryCtxRetain",
                                        "cuCtxSetCurrent",
                                        "cuMemcpyDtoD_v2",
                                        "cuMemcpyHtoD_v2",
                                        "cuMemcpyDtoH_v2",
                                        "cuDeviceCanAccessPeer",
                                        "cuMemcpyPeer",
                                        "cuEventCreate",
                                        "cuEventRecord",
                                        "cuEventSynchronize",
                                        "cuEventElapsedTime",
                                        "cuCtxEnablePeerAccess",
                                        "cuModuleLoadData",
                                        "cuModuleGetFunction",
                                        "cuLaunchKernel"};

/* How many of the ten figures of two GPUs there are without the function; a GPU that is given up
 * loses what was still to come. */
static unsigned n_left(size_t function, bool given_up)
{
    static const struct {
        const char *name;
        unsigned left;
        unsigned given_up;
    } some[] = {{"cuMemcpyDtoD_v2", 8, 0},       {"cuMemcpyHtoD_v2", 8, 2},
                {"cuMemcpyDtoH_v2", 8, 4},       {"cuModuleLoadData", 8, 6},
                {"cuModuleGetFunction", 8, 6},   {"cuLaunchKernel", 8, 6},
                {"cuDeviceCanAccessPeer", 8, 8}, {"cuMemcpyPeer", 8, 8},
                {"cuCtxEnablePeerAccess", 8, 8}};
    for (size_t i = 0; i < MU_ARRAY_LEN(some); i++)
        if (strcmp(some[i].name, functions[function]) == 0)
            return given_up ? some[i].given_up : some[i].left;
    return 0;
}

/* Each function by this rule: what depends on it is absent and names it, the rest is there. */
static void rule_check(const char *rule, const char *code, const char *words, bool fault)
{
    for (size_t f = 0; f < MU_ARRAY_LEN(functions); f++) {
        char script[160];
        (void)snprintf(script, sizeof script, "%s %s %s\n", rule, functions[f], code);
        json_t *rows = timed(script);
        bool given_up = rule[0] == 'c' || rule[1] == 'a'; /* crash, hang */
        if (n_measured(rows) != n_left(f, given_up && strcmp(rule, "fail") != 0))
            fail_msg("%s: %u figures are left", script, n_measured(rows));
        const json_t *row;
        size_t i;
        json_array_foreach(rows, i, row)
        {
            if (best(row) > 0) continue;
            if (!strstr(why(row), functions[f]) || !strstr(why(row), words))
                fail_msg("%s: %s", script, why(row));
            assert_int_equal(json_is_true(json_object_get(row, "fault")), fault);
        }
        json_decref(rows);
    }
}

static void test_every_function_missing(void **state)
{
    (void)state;
    rule_check("hide", "", "this driver lacks it", false);
}

static void test_every_code(void **state)
{
    (void)state;
    rule_check("fail", "46", "busy", false);
    rule_check("fail", "802", "fabric manager", true);
    rule_check("fail", "12345", "error 12345", true);
    static const int codes[] = {1,   2,   3,   34,  100, 101, 201, 205, 209, 214, 216, 217, 218,
                                221, 222, 223, 700, 702, 719, 800, 801, 803, 804, 999, -7};
    for (size_t i = 0; i < MU_ARRAY_LEN(codes); i++) {
        char script[80];
        (void)snprintf(script, sizeof script, "fail cuDevicePrimaryCtxRetain %d 1\n", codes[i]);
        json_t *rows = timed(script);
        assert_int_equal(n_measured(rows), 4); /* of the other GPU */
        const json_t *row = row_of(rows, "memory_bytes_per_s", GPU1, "");
        assert_non_null(strstr(why(row), "cuDevicePrimaryCtxRetain: "));
        json_decref(rows);
    }
}

static void test_every_call_hangs_or_crashes(void **state)
{
    (void)state;
    rule_check("crash", "", "crashed", true);
    options.call_ms = 200;
    rule_check("hang", "", "did not return", true);
    options.call_ms = 4000;
}

/* One bad GPU of eight costs its own figures. */
static void test_one_of_many_hangs(void **state)
{
    (void)state;
    options.call_ms = 500;
    json_t *rows = timed("gpus 8\nhang cuMemcpyDtoD_v2 3\n");
    options.call_ms = 4000;
    assert_int_equal(n_measured(rows), 7 * 4 + 7 * 6);
    assert_non_null(strstr(why(row_of(rows, "memory_bytes_per_s", "0000:13:00.0", "")),
                           "did not return in time"));
    json_decref(rows);
}

static void test_no_time(void **state)
{
    (void)state;
    options.seconds = 0;
    json_t *rows = timed("gpus 2\nhang cuInit\n");
    assert_int_equal(n_measured(rows), 0);
    assert_string_equal(why(json_array_get(rows, 0)), "no time was left");
    assert_false(json_is_true(json_object_get(json_array_get(rows, 0), "fault")));
    json_decref(rows);
    rows = json_array();
    assert_int_equal(mu_measure_alone_cpus(&options, rows, NULL), MU_OK);
    assert_int_equal(n_measured(rows), 0);
    json_decref(rows);
    options.seconds = 20;
}

static void test_cpus(void **state)
{
    (void)state;
    json_t *rows = json_array();
    uint64_t start = mu_clock_ns();
    assert_int_equal(mu_measure_alone_cpus(&options, rows, NULL), MU_OK);
    assert_true(mu_clock_seconds_since(start) < 30);
    const json_t *row = json_array_get(rows, 0);
    const char *name = json_string_value(json_object_get(row, "device"));
    assert_true(strncmp(name, "cpu:", 4) == 0 || strncmp(name, "node:", 5) == 0);
    assert_true(best(row_of(rows, "memory_bytes_per_s", name, "")) > 1e8);
    assert_true(best(row_of(rows, "fp32_flop_per_s", name, "")) > 1e8);
    assert_true(best(row) >= json_number_value(json_object_get(row, "median")));
    json_decref(rows);
}

static bool told_again;

static void hear(void *arg, const char *what)
{
    (void)arg;
    told_again = told_again || strstr(what, "once more");
}

static bool was_told(void)
{
    return told_again;
}

/* Twice what is usual is what no device reaches: they are timed again, where it is asked for. */
static void test_what_looks_slow_is_timed_again(void **state)
{
    (void)state;
    struct mu_measure_alone o = {.seconds = 1000, .progress = hear, .stop = was_told};
    for (unsigned i = 0; i < 2; i++) {
        told_again = false;
        o.slow_share = 2 * i;
        json_t *rows = json_array();
        assert_int_equal(mu_measure_alone_cpus(&o, rows, NULL), MU_OK);
        assert_int_equal(told_again, i == 1);
        assert_int_equal(json_integer_value(json_object_get(json_array_get(rows, 0), "rounds")), 9);
        json_decref(rows);
    }
}

int main(void)
{
    char exe[400] = "";
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    char *slash = n > 0 ? strrchr(exe, '/') : NULL;
    if (!slash) return 1;
    *slash = '\0';
    (void)snprintf(library, sizeof library, "%s/libcuda.so.1", exe);
    void *handle = dlopen(library, RTLD_NOW);
    if (!handle) return 1;
    void *load = dlsym(handle, "cuda_fake_load"), *hides = dlsym(handle, "cuda_fake_hides");
    memcpy(&fake_load, &load, sizeof load);
    memcpy(&fake_hides, &hides, sizeof hides);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gpus),
        cmocka_unit_test(test_no_library),
        cmocka_unit_test(test_every_function_missing),
        cmocka_unit_test(test_every_code),
        cmocka_unit_test(test_every_call_hangs_or_crashes),
        cmocka_unit_test(test_one_of_many_hangs),
        cmocka_unit_test(test_no_time),
        cmocka_unit_test(test_cpus),
        cmocka_unit_test(test_what_looks_slow_is_timed_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
