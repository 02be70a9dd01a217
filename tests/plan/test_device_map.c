/*
 * Device maps against the maps of transformers and accelerate (tests/golden/4_device_map), and the
 * rules against small trees whose maps follow from accelerate's documented behaviour.
 */
#include "base/base.h"
#include "plan/plan.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

static json_t *golden(const char *name)
{
    const char *tests = getenv("MUSTER_TESTS");
    char *path = mu_path_join(tests ? tests : "tests", name);
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

static void test_transformers(void **state)
{
    (void)state;
    json_t *cases = golden("golden/4_device_map/cases.jsonl"), *c;
    size_t i;
    json_array_foreach(cases, i, c)
    {
        const char *id = json_string_value(json_object_get(c, "id"));
        struct mu_plan_map_request request = request_of(c, json_object_get(c, "config"));
        json_t *got = map_of(&request, id);
        check(id, json_object_get(c, "transformers"), got);
        json_decref(got);
    }
    print_message("%zu cases, the slowest took %.3f ms\n", json_array_size(cases),
                  (double)slowest_ns / 1e6);
    assert_true(json_array_size(cases) >= 60);
    json_decref(cases);
}

static void test_accelerate(void **state)
{
    (void)state;
    json_t *cases = golden("golden/4_device_map/cases.jsonl"), *c;
    size_t i, n = 0;
    json_array_foreach(cases, i, c)
    {
        const json_t *want = json_object_get(c, "accelerate");
        if (!want) continue;
        const char *id = json_string_value(json_object_get(c, "id"));
        struct mu_plan_map_request request = request_of(c, json_object_get(c, "config"));
        const json_t *no_split = json_object_get(want, "no_split");
        const char *class_name = json_string_value(json_array_get(no_split, 0));
        assert_true(json_array_size(no_split) <= 1);
        request.rules = MU_PLAN_ACCELERATE;
        request.no_split = class_name ? class_name : "";
        request.fallback_allocation = json_is_true(json_object_get(want, "fallback_allocation"));
        json_t *got = map_of(&request, id);
        /* Where accelerate fails, a map must come out all the same. */
        if (!json_object_get(want, "error")) check(id, want, got), n++;
        json_decref(got);
    }
    print_message("%zu cases, the slowest took %.3f ms\n", n, (double)slowest_ns / 1e6);
    assert_true(n >= 40);
    json_decref(cases);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_transformers),
        cmocka_unit_test(test_accelerate),
        cmocka_unit_test(test_bitsandbytes),
        cmocka_unit_test(test_size_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
