/*
 * Device maps against the maps of transformers and accelerate (tests/golden/4_device_map), and the
 * rules against small trees whose maps follow from accelerate's documented behaviour.
 */
#include "base/base.h"
#include "plan/plan.h"

#include "../data.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static json_t *golden(const char *name)
{
    char *path = mu_path_join(tests_folder(), name);
    struct mu_text text;
    mu_text_init(&text, 1 << 20);
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_file_read(path, &text, &err), MU_OK);
    json_t *all;
    if (text.p[0] == '{') {
        struct mu_str rest = {text.p, text.len};
        all = json_array();
        while (rest.len > 0) {
            const char *end = memchr(rest.p, '\n', rest.len);
            size_t n = end ? (size_t)(end - rest.p) : rest.len;
            json_t *line;
            assert_int_equal(mu_json_parse((struct mu_str){rest.p, n}, name, &line, &err), MU_OK);
            assert_int_equal(json_array_append_new(all, line), 0);
            n += end ? 1 : 0;
            rest = (struct mu_str){rest.p + n, rest.len - n};
        }
    } else {
        assert_int_equal(mu_json_parse((struct mu_str){text.p, text.len}, name, &all, &err), MU_OK);
    }
    mu_text_fini(&text);
    mu_free(path);
    return all;
}

/* Every number and text of `want` is in `got`, and nothing else if `whole`. */
static void same(const char *id, const char *what, const json_t *want, const json_t *got,
                 bool whole)
{
    const char *key;
    json_t *value;
    if (whole && json_object_size(want) != json_object_size(got))
        fail_msg("%s: %s has %zu entries, wanted %zu", id, what, json_object_size(got),
                 json_object_size(want));
    json_object_foreach((json_t *)(uintptr_t)want, key, value)
    {
        const json_t *other = json_object_get(got, key);
        bool equal = json_is_number(value)
                         ? json_is_number(other) &&
                               fabs(json_number_value(value) - json_number_value(other)) < 1e-4
                         : json_equal(value, other);
        if (equal) continue;
        char *a = json_dumps(value, JSON_ENCODE_ANY), *b = json_dumps(other, JSON_ENCODE_ANY);
        fail_msg("%s: %s[%s] is %s, wanted %s", id, what, key, b ? b : "absent", a);
    }
}

static uint64_t slowest_ns;

static json_t *map_of(const struct mu_plan_map_request *request, const char *id)
{
    struct mu_plan_map *map = NULL;
    struct mu_err err = MU_ERR_INIT;
    struct mu_text text;
    mu_text_init(&text, 1 << 24);
    uint64_t start = mu_clock_ns();
    mu_status status = mu_plan_map_create(request, &map, &err);
    slowest_ns = MU_MAX(slowest_ns, mu_clock_ns() - start);
    if (status != MU_OK) fail_msg("%s: %s", id, err.what);
    mu_plan_map_write(map, &text);
    json_t *json = NULL;
    assert_int_equal(mu_json_parse((struct mu_str){mu_text_get(&text), text.len}, id, &json, &err),
                     MU_OK);
    mu_text_fini(&text);
    mu_plan_map_destroy(map);
    return json;
}

static json_t *not_null(json_t *json)
{
    return json_is_null(json) ? NULL : json;
}

static struct mu_plan_map_request request_of(const json_t *c, const json_t *config)
{
    const json_t *r = json_object_get(c, "request");
    return (struct mu_plan_map_request){
        .config = config,
        .device_map = json_object_get(r, "device_map"),
        .max_memory = not_null(json_object_get(r, "max_memory")),
        .free_memory = not_null(json_object_get(r, "free_memory")),
        .dtype = json_string_value(json_object_get(c, "dtype")),
    };
}

static void check(const char *id, const json_t *want, const json_t *got)
{
    same(id, "device_map", json_object_get(want, "device_map"), json_object_get(got, "device_map"),
         true);
    const json_t *limits = json_object_get(want, "adjusted_max_memory");
    if (!limits) limits = json_object_get(want, "balanced_max_memory");
    if (limits) same(id, "max_memory", limits, json_object_get(got, "max_memory"), true);
    same(id, "sizes", json_object_get(want, "sizes"), json_object_get(got, "sizes"), false);
    const json_t *warnings = json_object_get(want, "warnings");
    if (warnings && json_array_size(warnings) != json_array_size(json_object_get(got, "warnings")))
        fail_msg("%s: %zu warnings", id, json_array_size(json_object_get(got, "warnings")));
    for (size_t i = 0; i < json_array_size(json_object_get(want, "minimum_required")); i++) {
        const char *line =
            json_string_value(json_array_get(json_object_get(want, "minimum_required"), i));
        char device[16] = "";
        size_t n = strcspn(line, ":");
        memcpy(device, line, n);
        double bytes = strtod(line + n + 2, NULL);
        const json_t *own = json_object_get(json_object_get(got, "minimum_required"), device);
        if (json_number_value(own) != bytes)
            fail_msg("%s: minimum of %s is %.0f, wanted %.0f", id, device, json_number_value(own),
                     bytes);
    }
}

static void check_transformers(const json_t *c)
{
    const char *id = json_string_value(json_object_get(c, "id"));
    json_t *config = json_copy(json_object_get(c, "config"));
    json_t *quantization = json_object_get(c, "quantization");
    if (quantization)
        assert_int_equal(json_object_set(config, "quantization_config", quantization), 0);
    struct mu_plan_map_request request = request_of(c, config);
    json_t *got = map_of(&request, id);
    check(id, json_object_get(c, "transformers"), got);
    json_decref(got);
    json_decref(config);
}

/* Where accelerate fails, a map must come out all the same. */
static void check_accelerate(const json_t *c)
{
    const json_t *want = json_object_get(c, "accelerate"), *item;
    const char *id = json_string_value(json_object_get(c, "id"));
    struct mu_plan_map_request request = request_of(c, json_object_get(c, "config"));
    struct mu_text classes;
    size_t i;
    mu_text_init(&classes, 256);
    json_array_foreach(json_object_get(want, "no_split"), i, item)
    {
        mu_text_printf(&classes, "%s%s", i ? "," : "", json_string_value(item));
    }
    request.rules = MU_PLAN_ACCELERATE;
    request.no_split = mu_text_get(&classes);
    request.fallback_allocation = json_is_true(json_object_get(want, "fallback_allocation"));
    request.offload_buffers = json_is_true(json_object_get(want, "offload_buffers"));
    json_t *got = map_of(&request, id);
    if (!json_object_get(want, "error")) check(id, want, got);
    json_decref(got);
    mu_text_fini(&classes);
}

static void check_file(const char *name, size_t at_least)
{
    json_t *cases = golden(name), *c;
    size_t i, n = 0;
    slowest_ns = 0;
    json_array_foreach(cases, i, c)
    {
        check_transformers(c);
        if (json_object_get(c, "accelerate")) check_accelerate(c), n++;
    }
    print_message("%s: %zu cases of transformers, %zu of accelerate, the slowest took %.3f ms\n",
                  name, json_array_size(cases), n, (double)slowest_ns / 1e6);
    assert_true(json_array_size(cases) >= at_least);
    json_decref(cases);
}

static void test_published(void **state)
{
    (void)state;
    check_file("golden/4_device_map/cases.jsonl", 60);
}

/* More of the same kind, of every architecture, computed by both libraries. */
static void test_random(void **state)
{
    (void)state;
    check_file("golden/4_device_map/random.jsonl", 100);
}

static void test_bitsandbytes(void **state)
{
    (void)state;
    json_t *cases = golden("golden/4_device_map/cases_bnb.jsonl"), *c;
    size_t i;
    json_array_foreach(cases, i, c)
    {
        const char *id = json_string_value(json_object_get(c, "id"));
        json_t *config = json_copy(json_object_get(c, "config"));
        assert_int_equal(
            json_object_set(config, "quantization_config", json_object_get(c, "quantization")), 0);
        struct mu_plan_map_request request = request_of(c, config);
        json_t *got = map_of(&request, id), *sizes = json_object_get(c, "sizes");
        assert_int_equal(json_object_set(sizes, "model.layers.0", json_object_get(sizes, "layer0")),
                         0);
        assert_int_equal(
            json_object_set(sizes, "model.embed_tokens", json_object_get(sizes, "embed_tokens")),
            0);
        assert_int_equal(json_object_del(sizes, "layer0"), 0);
        assert_int_equal(json_object_del(sizes, "embed_tokens"), 0);
        check(id, c, got);
        json_decref(got);
        json_decref(config);
    }
    assert_true(json_array_size(cases) >= 10);
    json_decref(cases);
}

static void test_size_strings(void **state)
{
    (void)state;
    json_t *cases = golden("golden/4_device_map/size_strings.json"), *c;
    size_t i;
    json_array_foreach(cases, i, c)
    {
        const char *text = json_string_value(json_object_get(c, "text"));
        const json_t *bytes = json_object_get(c, "bytes");
        double got = -1;
        bool ok = mu_plan_map_bytes(mu_str(text), &got);
        if (ok != (bytes != NULL)) fail_msg("'%s' is %s", text, ok ? "read" : "refused");
        if (ok && got != json_number_value(bytes)) fail_msg("'%s' is %.0f", text, got);
    }
    assert_true(json_array_size(cases) >= 40);
    json_decref(cases);
}

static const char tiny[] = "{\"model_type\":\"llama\",\"hidden_size\":64,\"intermediate_size\":96,"
                           "\"num_hidden_layers\":2,\"num_attention_heads\":4,\"vocab_size\":128,"
                           "\"tie_word_embeddings\":true}";

/* What comes of a device map and limits on the tiny model: the map, or the error. */
static void check_given(const char *device_map, const char *limits, const char *map,
                        unsigned warnings)
{
    struct mu_err err = MU_ERR_INIT;
    json_t *config, *value, *memory = NULL;
    struct mu_plan_map *got = NULL;
    struct mu_text text;
    mu_text_init(&text, 4096);
    assert_int_equal(mu_json_parse(mu_str(tiny), "config", &config, &err), MU_OK);
    if (device_map[0] == '{')
        assert_int_equal(mu_json_parse(mu_str(device_map), "map", &value, &err), MU_OK);
    else
        value = json_string(device_map);
    if (limits) assert_int_equal(mu_json_parse(mu_str(limits), "limits", &memory, &err), MU_OK);
    struct mu_plan_map_request request = {
        .config = config, .device_map = value, .max_memory = memory};
    mu_status status = mu_plan_map_create(&request, &got, &err);
    for (size_t i = 0; status == MU_OK && i < got->n_entries; i++)
        mu_text_printf(&text, "%s:%s ", got->entries[i].module,
                       got->devices[got->entries[i].device].name);
    const char *said = status == MU_OK ? mu_text_get(&text) : err.what;
    if (strcmp(said, map) != 0) fail_msg("%s: %s, wanted %s", device_map, said, map);
    if (got && got->n_warnings != warnings)
        fail_msg("%s: %zu warnings", device_map, got->n_warnings);
    mu_plan_map_destroy(got);
    mu_text_fini(&text);
    json_decref(memory);
    json_decref(value);
    json_decref(config);
}

static void test_given(void **state)
{
    (void)state;
    check_given("{\"\":0}", NULL, ":0 ", 0);
    check_given("cuda:3", NULL, ":3 ", 0);
    check_given("cpu", NULL, ":cpu ", 0);
    check_given("{\"model\":\"cpu\",\"lm_head\":\"cpu\"}", NULL, "model:cpu lm_head:cpu ", 0);
    check_given("{\"model\":1,\"lm_head\":\"cpu\"}", NULL, "model:1 lm_head:cpu ", 1);
    check_given("{\"model\":1,\"lm_head\":1,\"visual\":2}", NULL, "model:1 lm_head:1 visual:2 ", 1);
    check_given("{\"model.layers\":1,\"lm_head\":1}", NULL,
                "the device map gives no device for 'model.embed_tokens.weight'", 0);
    check_given("{\"\":-1}", NULL, "the device of '' is neither a number nor a name", 0);
    check_given("{\"\":\"tpu\"}", NULL, "'tpu' is not a device", 0);
    check_given("balance", NULL, "'balance' is neither a mode nor a device", 0);
    check_given("auto", NULL, "a device map needs the memory of the devices", 0);
    check_given("auto", "{\"0\":\"1 lb\"}", "device 0: '1 lb' is not a size", 0);
    check_given("auto", "{\"0\":1,\"cuda:0\":1}", "device cuda:0 is named twice", 0);
    check_given("auto", "{\"gpu\":1}", "'gpu' is not a device", 0);
    check_given("auto", "{}", ":disk ", 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published),    cmocka_unit_test(test_random),
        cmocka_unit_test(test_bitsandbytes), cmocka_unit_test(test_size_strings),
        cmocka_unit_test(test_given),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
