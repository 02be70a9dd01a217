/* Racks in YAML: the documentation's example, what a host says of its devices, and what is refused
 * in one line that names the place. */
#include "base/base.h"
#include "plan/plan.h"

#include "../catalog.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void read_yaml(const char *yaml, struct mu_plan_rack *out)
{
    struct mu_err err = MU_ERR_INIT;
    *out = (struct mu_plan_rack){.n = 99};
    if (mu_plan_rack_yaml(mu_str(yaml), "a.yaml", catalog, out, &err) != MU_OK)
        fail_msg("%s: %s", err.where, err.what);
}

static void the_example_of_the_documentation(void **state)
{
    char *path = mu_path_join(tests_folder(), "../docs/rack.yaml");
    struct mu_text text;
    struct mu_plan_rack rack;
    (void)state;
    mu_text_init(&text, 1 << 16);
    assert_int_equal(mu_file_read(path, &text, NULL), MU_OK);
    read_yaml(mu_text_get(&text), &rack);
    mu_text_fini(&text);
    mu_free(path);
    assert_int_equal(rack.n, 19);
    assert_string_equal(rack.between->name, "ib_ndr");
    assert_string_equal(rack.slots[0].device->name, "h100_sxm");
    assert_int_equal(rack.slots[7].host, 0);
    assert_int_equal(rack.slots[8].host, 1);
    assert_string_equal(mu_plan_rack_link(&rack, 0, 8)->name, "nvlink4");
    assert_string_equal(mu_plan_rack_link(&rack, 7, 2)->name, "ib_ndr");
    assert_string_equal(mu_plan_rack_link(&rack, 16, 2)->name, "pcie4");
    assert_string_equal(rack.slots[18].device->name, "rtx_4000_ada");
    assert_true(rack.slots[16].budget_bytes == 40.0 * (1u << 30));
    assert_true(rack.slots[18].budget_bytes == 0);
    assert_true(rack.slots[18].host == 2);
}

static void the_same_as_in_a_word(void **state)
{
    static const char *const both[][2] = {
        {"hosts: [{devices: [{device: h200, count: 8}]}]", "8xh200"},
        {"hosts: [{count: 2, devices: [{device: h100, count: 8}]}]", "2x8xh100"},
        {"hosts: [{devices: [{device: A100-80G, count: 4}, {device: L40S, count: 2}]}]",
         "4xA100-80G+2xL40S"},
        {"hosts: [{devices: [{device: rtx_4090, budget: 20GiB}]}]", "rtx_4090:20GiB"},
    };
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(both); i++) {
        struct mu_plan_rack yaml, word;
        read_yaml(both[i][0], &yaml);
        assert_int_equal(mu_plan_rack_parse(both[i][1], catalog, &word, NULL), MU_OK);
        assert_int_equal(yaml.n, word.n);
        for (uint32_t k = 0; k < word.n; k++) {
            assert_ptr_equal(yaml.slots[k].device, word.slots[k].device);
            assert_int_equal(yaml.slots[k].host, word.slots[k].host);
            assert_true(yaml.slots[k].budget_bytes == word.slots[k].budget_bytes);
        }
    }
}

/* Two processors that share one memory bus each get half of it. */
static void memory_is_shared(void **state)
{
    struct mu_plan_rack rack;
    (void)state;
    read_yaml("hosts:\n  - memory_gb_per_s: 400\n    devices:\n"
              "      - {device: epyc_9354, count: 2}\n",
              &rack);
    assert_true(rack.slots[0].device->bytes_per_s == 200e9);
    read_yaml("hosts:\n  - memory_gb_per_s: 40000\n    devices: [{device: epyc_9354}]\n", &rack);
    assert_true(rack.slots[0].device->bytes_per_s == 460.8e9);
}

static void what_is_wrong_is_named(void **state)
{
    static const struct {
        const char *yaml, *where, *what;
    } wrong[] = {
        {"hosts:\n  - devices:\n      - {device: h100, cout: 3}\n", "a.yaml, line 3", "cout"},
        {"hosts:\n  - devices:\n      - {device: h100, count: -3}\n", "line 3", "-3"},
        {"hosts: [\n  - x", "line", "node"},
        {"a: &x 1\nhosts: *x\n", "line 1", "Unexpected key"},
        {"hosts: [{devices: &d [{device: h100}]}, {devices: *d}]", "a.yaml", ""},
        {"", "a.yaml", "no hosts"},
        {"hosts: []", "a.yaml", ""},
        {"hosts: [{devices: [{count: 2}]}]", "line 1", "device"},
        {"hosts: [{devices: [{device: h1000x}]}]", "a.yaml, line 1", "h1000x"},
        {"hosts: [{name: big, link: wire, devices: [{device: h100}]}]", "a.yaml, line 1", "wire"},
        {"network: eth_9g\nhosts: [{devices: [{device: h100}]}]", "a.yaml, line 1", "eth_9g"},
        {"hosts: [{count: 0, devices: [{device: h100}]}]", "a.yaml, line 1", "1 at least"},
        {"hosts: [{count: 17, devices: [{device: h100, count: 8}]}]", "a.yaml, line 1",
         "more than 128"},
        {"hosts: [{count: 4000000000, devices: [{device: h100, count: 4000000000}]}]",
         "a.yaml, line 1", "more than 128"},
        {"hosts: [{memory_gb_per_s: -1, devices: [{device: h100}]}]", "a.yaml, line 1",
         "memory_gb_per_s"},
        {"hosts: [{memory_gb_per_s: .nan, devices: [{device: h100}]}]", "", ""},
        {"hosts: [{devices: [{device: h100, budget: 100GiB}]}]", "a.yaml, line 1", "h100_sxm has"},
        {"hosts:\n- devices: # device: none\n  - device: h100\n  - {count: 2, device: a100}\n"
         "- link: none\n  devices:\n  - count: 2\n    \"device\": h100x\n",
         "a.yaml, line 8", "h100x"},
        {"hosts:\n- link: none\n  devices: [{device: h100}]\n- link: nvlink4\n"
         "  devices: [{device: h100}]\n- link: wire\n  devices: [{device: h100}]\n",
         "a.yaml, line 6", "wire"},
    };
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(wrong); i++) {
        struct mu_plan_rack rack = {.n = 0};
        struct mu_err err = MU_ERR_INIT;
        if (mu_plan_rack_yaml(mu_str(wrong[i].yaml), "a.yaml", catalog, &rack, &err) == MU_OK)
            fail_msg("taken: %s", wrong[i].yaml);
        if (!strstr(err.where, wrong[i].where) || !strstr(err.what, wrong[i].what))
            fail_msg("%s: %s: %s", wrong[i].yaml, err.where, err.what);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_example_of_the_documentation),
        cmocka_unit_test(the_same_as_in_a_word),
        cmocka_unit_test(memory_is_shared),
        cmocka_unit_test(what_is_wrong_is_named),
    };
    return cmocka_run_group_tests(tests, load_catalog, drop_catalog);
}
