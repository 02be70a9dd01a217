/* Real logs with a known first cause, and real healthy ones: tests/golden/logs/incidents. */
#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "health/health.h"

#include "../data.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct mu_health_catalog *catalog;

static char *golden(const char *name)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/golden/logs/%s", tests_folder(), name);
    return mu_strdup(path);
}

static bool line_is(const json_t *entry, uint64_t line)
{
    size_t i;
    const json_t *repeat;
    if (json_integer_value(json_object_get(entry, "cause_line")) == (json_int_t)line) return true;
    json_array_foreach(json_object_get(entry, "evidence_repeats"), i, repeat)
    {
        if (json_integer_value(repeat) == (json_int_t)line) return true;
    }
    return false;
}

/* True when `text` holds one of the strings of `list`. */
static bool names_any(const char *text, const json_t *list)
{
    size_t i;
    const json_t *item;
    json_array_foreach(list, i, item)
    {
        if (strstr(text, json_string_value(item))) return true;
    }
    return false;
}

static bool entry_holds(const json_t *entry, bool *accused_follower)
{
    const char *kind = json_string_value(json_object_get(entry, "kind"));
    char name[256];
    (void)snprintf(name, sizeof name, "incidents/%s",
                   json_string_value(json_object_get(entry, "file")));
    char *path = golden(name);
    struct mu_health_diagnosis *d = NULL;
    enum mu_health_verdict verdict;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_health_diagnosis_create(catalog, &d, &err), MU_OK);
    assert_int_equal(mu_health_log_read(d, path, NULL, &err), MU_OK);
    assert_int_equal(mu_health_conclude(d, &verdict, &err), MU_OK);
    const struct mu_health_finding *f = mu_health_first_cause(d);
    bool good;
    if (strcmp(kind, "healthy") == 0)
        good = verdict == MU_HEALTH_HEALTHY;
    else
        good = f && line_is(entry, f->line) &&
               strcmp(f->cause, json_string_value(json_object_get(entry, "cause"))) == 0 &&
               verdict == (strcmp(kind, "slow") ? MU_HEALTH_FAILED : MU_HEALTH_SLOW);
    if (f && !good)
        *accused_follower = *accused_follower ||
                            names_any(f->text, json_object_get(entry, "followers")) ||
                            names_any(f->text, json_object_get(entry, "scary"));
    if (!good) print_message("# %s: %s\n", name, f ? f->text : "nothing found");
    mu_health_diagnosis_destroy(d);
    mu_free(path);
    return good;
}

static void test_index(void **state)
{
    (void)state;
    char *path = golden("incidents/index.json");
    json_t *index = NULL;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_json_read(path, 1 << 20, &index, &err), MU_OK);
    size_t i, good = 0, healthy = 0, healthy_good = 0;
    const json_t *entry;
    bool accused = false;
    json_array_foreach(index, i, entry)
    {
        bool is_healthy = strcmp(json_string_value(json_object_get(entry, "kind")), "healthy") == 0;
        bool holds = entry_holds(entry, &accused);
        good += holds;
        healthy += is_healthy;
        healthy_good += is_healthy && holds;
    }
    print_message("# real logs: %zu of %zu right\n", good, json_array_size(index));
    assert_int_equal(healthy, healthy_good);
    assert_false(accused);
    assert_true(good * 10 >= json_array_size(index) * 9);
    json_decref(index);
    mu_free(path);
}

/* The report of the same log is the same text, and it names what is absent. */
static void test_report_is_stable(void **state)
{
    (void)state;
    char *path = golden("incidents/27-shm-full-4gpu.log");
    struct mu_text text[2];
    for (int i = 0; i < 2; i++) {
        struct mu_health_diagnosis *d = NULL;
        enum mu_health_verdict verdict;
        mu_text_init(&text[i], 1 << 20);
        assert_int_equal(mu_health_diagnosis_create(catalog, &d, NULL), MU_OK);
        assert_int_equal(mu_health_log_read(d, path, NULL, NULL), MU_OK);
        assert_int_equal(mu_health_conclude(d, &verdict, NULL), MU_OK);
        mu_health_report_text(d, &text[i]);
        json_t *document = NULL;
        assert_int_equal(mu_health_report_json(d, &document, NULL), MU_OK);
        assert_string_equal(json_string_value(json_object_get(document, "verdict")), "failed");
        json_decref(document);
        mu_health_diagnosis_destroy(d);
    }
    assert_string_equal(mu_text_get(&text[0]), mu_text_get(&text[1]));
    assert_non_null(strstr(mu_text_get(&text[0]), "Hardware and topology\n   absent:"));
    assert_non_null(strstr(mu_text_get(&text[0]), "docs/findings/communication.md#nccl_shm"));
    mu_text_fini(&text[0]);
    mu_text_fini(&text[1]);
    mu_free(path);
}

static void test_facts(void **state)
{
    (void)state;
    static const struct {
        const char *log, *key, *value;
    } facts[] = {
        {"25-slow-tp2-no-p2p.log", "engine_version", "0.13.0"},
        {"25-slow-tp2-no-p2p.log", "tp", "2"},
        {"25-slow-tp2-no-p2p.log", "world_size", "2"},
        {"25-slow-tp2-no-p2p.log", "nccl_version", "2.27.5"},
        {"25-slow-tp2-no-p2p.log", "kv_tokens", "129,504"},
        {"25-slow-tp2-no-p2p.log", "generation_tokens_per_s", "414.8"},
        {"51-healthy-vllm-0102-port-log.log", "kv_blocks", "26417"},
        {"51-healthy-vllm-0102-port-log.log", "model", "Qwen/Qwen3-4B"},
        {"53-healthy-vllm-017.log", "weights_gib", "5.79"},
        {"57-healthy-llama-server.log", "layers_on_gpu", "31"},
        {"57-healthy-llama-server.log", "gpus", "1"},
        {"35-nccl-no-route-firewall.log", "nccl_version", "2.4.8"},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(facts); i++) {
        char name[256];
        (void)snprintf(name, sizeof name, "incidents/%s", facts[i].log);
        char *path = golden(name);
        struct mu_health_diagnosis *d = NULL;
        assert_int_equal(mu_health_diagnosis_create(catalog, &d, NULL), MU_OK);
        assert_int_equal(mu_health_log_read(d, path, NULL, NULL), MU_OK);
        const char *value = mu_health_fact(d, facts[i].key);
        assert_non_null(value);
        assert_string_equal(value, facts[i].value);
        mu_health_diagnosis_destroy(d);
        mu_free(path);
    }
}

#define PREEMPTED                                                                                  \
    "WARNING 05-09 00:49:33 scheduler.py:1057 Sequence group 12 is preempted by "                  \
    "PreemptionMode.RECOMPUTE mode because there is not enough KV cache space.\n"

/* Requests that lose their place in the cache are slow; and memory that runs out after that, ran
 * out while serving. */
static void test_preempted(void **state)
{
    (void)state;
    static const struct {
        const char *log, *cause;
        enum mu_health_verdict verdict;
    } cases[] = {
        {PREEMPTED, "kv_preempted", MU_HEALTH_SLOW},
        {PREEMPTED "ERROR 05-09 00:49:53 torch.OutOfMemoryError: CUDA out of memory. Tried to "
                   "allocate 1.25 GiB.\n",
         "oom_run", MU_HEALTH_FAILED},
        {"INFO 05-09 00:49:33 [loggers.py:236] Engine 000: Avg prompt throughput: 1.0 tokens/s, "
         "Avg "
         "generation throughput: 9.0 tokens/s, Running: 8 reqs, Waiting: 3 reqs, Preemptions: 2, "
         "GPU KV cache usage: 99.1%, Prefix cache hit rate: 0.0%\n",
         "kv_preempted", MU_HEALTH_SLOW},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(cases); i++) {
        struct mu_health_diagnosis *d = NULL;
        enum mu_health_verdict verdict;
        assert_int_equal(mu_health_diagnosis_create(catalog, &d, NULL), MU_OK);
        assert_int_equal(mu_health_log_begin(d, "log", NULL), MU_OK);
        assert_int_equal(mu_health_log_feed(d, cases[i].log, strlen(cases[i].log), NULL), MU_OK);
        assert_int_equal(mu_health_log_end(d, NULL), MU_OK);
        assert_int_equal(mu_health_conclude(d, &verdict, NULL), MU_OK);
        assert_int_equal(verdict, cases[i].verdict);
        assert_string_equal(mu_health_first_cause(d)->cause, cases[i].cause);
        assert_string_not_equal(mu_health_first_cause(d)->cure, "");
        mu_health_diagnosis_destroy(d);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index),
        cmocka_unit_test(test_report_is_stable),
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_preempted),
    };
    if (mu_health_catalog_open(NULL, &catalog, NULL) != MU_OK) return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    mu_health_catalog_close(catalog);
    return rc;
}
