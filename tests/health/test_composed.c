/* Composed incidents and healthy starts, each in every wrapper that logs arrive in. */
#include "compose.h"
#include "scripts.h"

#include "health/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static void start(struct composer *c, enum start kind, unsigned ranks, unsigned stage)
{
    switch (kind) {
    case VLLM:
        composer_vllm(c, ranks, stage);
        break;
    case SGLANG:
        composer_sglang(c, ranks, stage);
        break;
    case NCCL:
    case NCCL_UP:
        composer_nccl(c, ranks, kind == NCCL_UP);
        break;
    case LLAMA:
    case LLAMA_UP:
        composer_llama(c, kind == LLAMA_UP);
        break;
    case BARE:
        break;
    }
}

static struct mu_health_catalog *catalog;

static struct mu_health_diagnosis *diagnosed(struct composer *c, enum mu_health_verdict *verdict)
{
    struct mu_health_diagnosis *d = NULL;
    assert_int_equal(mu_text_status(&c->out, NULL), MU_OK);
    assert_int_equal(mu_health_diagnosis_create(catalog, &d, NULL), MU_OK);
    assert_int_equal(mu_health_log_begin(d, "composed", NULL), MU_OK);
    assert_int_equal(mu_health_log_feed(d, c->out.p, c->out.len, NULL), MU_OK);
    assert_int_equal(mu_health_log_end(d, NULL), MU_OK);
    assert_int_equal(mu_health_conclude(d, verdict, NULL), MU_OK);
    return d;
}

static bool incident_holds(const struct incident *in, enum wrapper wrapper, unsigned seed)
{
    struct composer c = {.wrapper = wrapper, .random = seed * 7919 + 1};
    mu_text_init(&c.out, 1 << 20);
    start(&c, in->start, in->ranks, in->stage);
    for (size_t i = 0; i < MU_ARRAY_LEN(in->script) && in->script[i]; i++)
        composer_add(&c, in->script[i], in->start == VLLM ? in->ranks : 0);
    enum mu_health_verdict verdict;
    struct mu_health_diagnosis *d = diagnosed(&c, &verdict);
    const struct mu_health_finding *f = mu_health_first_cause(d);
    bool good =
        f && f->line == c.expected_line && strcmp(f->cause, in->cause) == 0 &&
        verdict == (strcmp(in->cause, "slow_transport") ? MU_HEALTH_FAILED : MU_HEALTH_SLOW);
    if (!good)
        print_message("# %s wrapper %d: wanted line %u, got %s line %d: %.120s\n", in->cause,
                      wrapper, c.expected_line, f ? f->cause : "nothing", f ? (int)f->line : 0,
                      f ? f->text : "");
    mu_health_diagnosis_destroy(d);
    mu_text_fini(&c.out);
    return good;
}

static void test_incidents(void **state)
{
    (void)state;
    unsigned n = 0, good = 0;
    for (size_t i = 0; i < MU_ARRAY_LEN(incidents); i++)
        for (int w = 0; w < WRAP_COUNT; w++, n++)
            good += incident_holds(&incidents[i], (enum wrapper)w, (unsigned)(i * 8) + (unsigned)w);
    print_message("# composed incidents: %u of %u right (%zu scripts)\n", good, n,
                  MU_ARRAY_LEN(incidents));
    assert_true(MU_ARRAY_LEN(incidents) >= 30);
    assert_int_equal(good, n);
}

static const struct incident healthy[] = {
    {"none", VLLM, 1, 4, {0}},
    {"none", VLLM, 4, 4, {NOT_DESTROYED}},
    {"none", VLLM, 8, 3, {0}},
    {"none", SGLANG, 2, 4, {0}},
    {"none", SGLANG, 8, 3, {0}},
    {"none", NCCL_UP, 4, 0, {0}},
    {"none", LLAMA_UP, 2, 0, {0}},
    {"none",
     VLLM,
     2,
     4,
     {"A INFO 03-01 12:05:00 [logger.py:41] Received request cmpl-1: prompt: 'why does torch say "
      "CUDA out of memory. Tried to allocate 2.00 GiB? RuntimeError: NCCL error', params: "
      "SamplingParams(n=1)",
      "A INFO:     10.0.0.9:52110 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK"}},
    {"none",
     VLLM,
     2,
     4,
     {"A INFO:     Shutting down",
      "C Worker proc VllmWorker-0 died unexpectedly, shutting down executor.",
      "A vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack "
      "trace "
      "(above) for the root cause.",
      "A INFO:     Waiting for application shutdown.", "A INFO:     Application shutdown complete.",
      "A INFO:     Finished server process [4711]", NOT_DESTROYED}},
    {"none",
     VLLM,
     2,
     4,
     {"w0 No available shared memory broadcast block found in 60 seconds. This typically happens "
      "when some processes are hanging or doing some time-consuming work (e.g. compilation).",
      "A INFO:     10.0.0.9:52110 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK"}},
    {"none",
     VLLM,
     2,
     4,
     {"A ERROR:    Exception in ASGI application", "A Traceback (most recent call last):",
      "A ValueError: This model's maximum context length is 32768 tokens. However, you requested "
      "40000 tokens.",
      "A INFO:     10.0.0.9:52110 - \"POST /v1/chat/completions HTTP/1.1\" 400 Bad Request",
      "A INFO:     10.0.0.9:52110 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK"}},
    {"none",
     NCCL_UP,
     2,
     0,
     {"n0 ras/client_support.cc:160 NCCL WARN Call to bind failed: Address already in use"}},
    {"none",
     VLLM,
     1,
     4,
     {"A Traceback (most recent call last):", "A KeyboardInterrupt",
      "A INFO:     Application shutdown complete."}},
    {"none",
     LLAMA,
     2,
     0,
     {"- warning: failed to mlock 784334848-byte buffer (after previously locking 0 bytes): Cannot "
      "allocate memory",
      "- llama_params_fit: failed to fit params to free device memory: n_gpu_layers already set by "
      "user to 999, abort",
      "- main: server is listening on http://127.0.0.1:8080"}},
};

static void test_healthy(void **state)
{
    (void)state;
    unsigned accused = 0;
    for (size_t i = 0; i < MU_ARRAY_LEN(healthy); i++)
        for (int w = 0; w < WRAP_COUNT; w++) {
            struct composer c = {.wrapper = (enum wrapper)w, .random = i * 31 + (unsigned)w};
            mu_text_init(&c.out, 1 << 20);
            start(&c, healthy[i].start, healthy[i].ranks, healthy[i].stage);
            for (size_t k = 0; healthy[i].script[k]; k++)
                composer_add(&c, healthy[i].script[k], 0);
            enum mu_health_verdict verdict;
            struct mu_health_diagnosis *d = diagnosed(&c, &verdict);
            const struct mu_health_finding *f = mu_health_first_cause(d);
            if (verdict != MU_HEALTH_HEALTHY)
                print_message("# healthy %zu wrapper %d accused: %s\n", i, w, f ? f->text : "");
            accused += verdict != MU_HEALTH_HEALTHY;
            mu_health_diagnosis_destroy(d);
            mu_text_fini(&c.out);
        }
    assert_true(MU_ARRAY_LEN(healthy) >= 10);
    assert_int_equal(accused, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_incidents),
        cmocka_unit_test(test_healthy),
    };
    if (mu_health_catalog_open(NULL, &catalog, NULL) != MU_OK) return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    mu_health_catalog_close(catalog);
    return rc;
}
