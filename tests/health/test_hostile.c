/* Logs as an enemy writes them: nothing crashes, memory stays bounded, nothing reaches a terminal.
 */
#include "base/utf8.h"
#include "health/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>

#include <cmocka.h>

static struct mu_health_catalog *catalog;

static struct mu_health_diagnosis *begin(void)
{
    struct mu_health_diagnosis *d = NULL;
    assert_int_equal(mu_health_diagnosis_create(catalog, &d, NULL), MU_OK);
    assert_int_equal(mu_health_log_begin(d, "hostile\x1b[31m.log", NULL), MU_OK);
    return d;
}

static enum mu_health_verdict finish(struct mu_health_diagnosis *d)
{
    enum mu_health_verdict verdict;
    assert_int_equal(mu_health_log_end(d, NULL), MU_OK);
    assert_int_equal(mu_health_conclude(d, &verdict, NULL), MU_OK);
    return verdict;
}

static enum mu_health_verdict verdict_of(const void *bytes, size_t len)
{
    struct mu_health_diagnosis *d = begin();
    assert_int_equal(mu_health_log_feed(d, bytes, len, NULL), MU_OK);
    enum mu_health_verdict verdict = finish(d);
    mu_health_diagnosis_destroy(d);
    return verdict;
}

static void test_random_bytes(void **state)
{
    (void)state;
    size_t len = 1 << 20;
    unsigned char *bytes = malloc(len);
    uint64_t x = 88172645463325252u;
    for (unsigned round = 0; round < 8; round++) {
        for (size_t i = 0; i < len; i++) {
            x ^= x << 13, x ^= x >> 7, x ^= x << 17;
            bytes[i] = (unsigned char)x;
        }
        assert_int_equal(verdict_of(bytes, len), MU_HEALTH_UNKNOWN);
    }
    free(bytes);
}

static void test_empty_and_foreign(void **state)
{
    (void)state;
    assert_int_equal(verdict_of("", 0), MU_HEALTH_UNKNOWN);
    static const char nginx[] =
        "10.0.0.1 - - [21/Nov/2026:14:00:00 +0000] \"GET / HTTP/1.1\" 200 OK\n";
    assert_int_equal(verdict_of(nginx, sizeof nginx - 1), MU_HEALTH_UNKNOWN);
    static const char poem[] = "a room with a broom\nand memory of doom\n";
    assert_int_equal(verdict_of(poem, sizeof poem - 1), MU_HEALTH_UNKNOWN);
}

static long peak_kib(void)
{
    struct rusage usage;
    (void)getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* One line of a gigabyte, with a cause in the middle of it. */
static void test_one_long_line(void **state)
{
    (void)state;
    size_t piece = 1 << 20;
    char *bytes = malloc(piece);
    memset(bytes, 'x', piece);
    static const char cause[] = " CUDA out of memory. Tried to allocate 1.25 GiB ";
    struct mu_health_diagnosis *d = begin();
    long before = peak_kib();
    for (unsigned i = 0; i < 1024; i++) {
        assert_int_equal(mu_health_log_feed(d, bytes, piece, NULL), MU_OK);
        if (i == 500) assert_int_equal(mu_health_log_feed(d, cause, sizeof cause - 1, NULL), MU_OK);
    }
    assert_int_equal(finish(d), MU_HEALTH_FAILED);
    const struct mu_health_finding *f = mu_health_first_cause(d);
    assert_int_equal(f->line, 1);
    assert_non_null(strstr(f->text, "CUDA out of memory"));
    print_message("# one line of 1 GiB: %ld KiB more memory\n", peak_kib() - before);
    assert_true(peak_kib() - before < 16 * 1024);
    mu_health_diagnosis_destroy(d);
    free(bytes);
}

/* Millions of accusing lines keep the memory of a few. */
static void test_repeating_errors(void **state)
{
    (void)state;
    static const char line[] =
        "ERROR 03-01 12:00:00 [core.py:1] RuntimeError: CUDA error: device-side "
        "assert triggered\n";
    struct mu_health_diagnosis *d = begin();
    for (unsigned i = 0; i < 200000; i++)
        assert_int_equal(mu_health_log_feed(d, line, sizeof line - 1, NULL), MU_OK);
    assert_int_equal(finish(d), MU_HEALTH_FAILED);
    size_t n = 0;
    while (mu_health_finding_get(d, n))
        n++;
    assert_true(n < 40);
    assert_int_equal(mu_health_first_cause(d)->line, 1);
    assert_int_equal(mu_health_first_cause(d)->count, 200000);
    mu_health_diagnosis_destroy(d);
}

/* Terminal sequences, bells, right-to-left marks and cut UTF-8 do not come out again. */
static void test_output_is_harmless(void **state)
{
    (void)state;
    static const char evil[] =
        "\x1b[2J\x1b]0;pwned\a(APIServer pid=1) \x1b[31mERROR 03-01 12:00:00 [x.py:1] ValueError: "
        "No "
        "available memory for the cache blocks \x1b[8mhidden\x1b[0m \x9b"
        "31m \xe2\x80\xae"
        "evil "
        "\x07\x08\x0c\xff\xfe \xf0\x9f\x98\n"
        "{\"log\":\"\\u001b[31mRuntimeError: Engine core initialization failed. \\u0000\\ud800 See "
        "root "
        "cause\\n\",\"stream\":\"stderr\",\"time\":\"2026-03-01T12:00:00.1Z\"}\n"
        "(Worker_TP0 pid=\x1b[5m7) model='\x1b[31m/m' with config: model='\x01\x02'\n"
        "NVRM: Xid (PCI:0000:01:00): 79, \xc3";
    struct mu_health_diagnosis *d = begin();
    assert_int_equal(mu_health_log_feed(d, evil, sizeof evil - 1, NULL), MU_OK);
    (void)finish(d);
    struct mu_text text;
    mu_text_init(&text, 1 << 20);
    mu_health_report_text(d, &text);
    assert_int_equal(mu_text_status(&text, NULL), MU_OK);
    assert_true(mu_utf8_valid((struct mu_str){text.p, text.len}));
    for (size_t i = 0; i < text.len; i++)
        assert_true((unsigned char)text.p[i] >= ' ' || text.p[i] == '\n');
    assert_null(strstr(text.p, "\xe2\x80\xae"));
    assert_null(strstr(text.p, "\xc2\x9b"));
    json_t *document = NULL;
    assert_int_equal(mu_health_report_json(d, &document, NULL), MU_OK);
    json_decref(document);
    mu_text_fini(&text);
    mu_health_diagnosis_destroy(d);
}

/* The same log cut in pieces of every size gives the same findings. */
static void test_pieces(void **state)
{
    (void)state;
    static const char log[] =
        "(EngineCore_DP0 pid=9) INFO 03-01 12:00:00 [core.py:77] Initializing a V1 LLM engine "
        "(v0.11.0) "
        "with config: model='/m', tensor_parallel_size=4\n"
        "\x1b[1;36m(Worker_TP2 pid=7)\x1b[0;0m ERROR 03-01 12:00:01 [x.py:5] Traceback (most "
        "recent call "
        "last):\r\n"
        "\x1b[1;36m(Worker_TP2 pid=7)\x1b[0;0m ERROR 03-01 12:00:01 [x.py:5]   File \"a.py\", line "
        "1, in "
        "load_model\r\n"
        "\x1b[1;36m(Worker_TP2 pid=7)\x1b[0;0m ERROR 03-01 12:00:01 [x.py:5] "
        "torch.OutOfMemoryError: CUDA "
        "out of memory. Tried to allocate 2.00 GiB.\r\n"
        "RuntimeError: Engine core initialization failed. See root cause above.";
    for (size_t piece = 1; piece < sizeof log; piece += piece < 40 ? 1 : 37) {
        struct mu_health_diagnosis *d = begin();
        for (size_t i = 0; i < sizeof log - 1; i += piece)
            assert_int_equal(
                mu_health_log_feed(d, log + i, MU_MIN(piece, sizeof log - 1 - i), NULL), MU_OK);
        assert_int_equal(finish(d), MU_HEALTH_FAILED);
        const struct mu_health_finding *f = mu_health_first_cause(d);
        assert_int_equal(f->line, 4);
        assert_int_equal(f->rank, 2);
        assert_string_equal(f->cause, "oom_load");
        assert_string_equal(f->process, "Worker_TP2 pid=7");
        assert_string_equal(f->time, "03-01 12:00:01");
        assert_string_equal(mu_health_fact(d, "tp"), "4");
        mu_health_diagnosis_destroy(d);
    }
}

/* Two logs of one incident: the kernel's line came first, though its file was given last. */
static void test_two_logs_by_time(void **state)
{
    (void)state;
    static const char engine[] =
        "(Worker_TP1 pid=7) ERROR 03-01 12:00:09 [x.py:5] torch.OutOfMemoryError: "
        "CUDA out of memory. Tried to allocate 2.00 GiB.\n";
    static const char kernel[] =
        "Mar  1 12:00:05 node-a kernel: NVRM: Xid (PCI:0000:41:00): 79, pid=7, GPU "
        "has fallen off the bus.\n";
    struct mu_health_diagnosis *d = begin();
    assert_int_equal(mu_health_log_feed(d, engine, sizeof engine - 1, NULL), MU_OK);
    assert_int_equal(mu_health_log_end(d, NULL), MU_OK);
    assert_int_equal(mu_health_log_begin(d, "kernel.log", NULL), MU_OK);
    assert_int_equal(mu_health_log_feed(d, kernel, sizeof kernel - 1, NULL), MU_OK);
    assert_int_equal(finish(d), MU_HEALTH_FAILED);
    assert_string_equal(mu_health_first_cause(d)->cause, "xid_bus");
    assert_string_equal(mu_health_first_cause(d)->file, "kernel.log");
    mu_health_diagnosis_destroy(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_bytes),       cmocka_unit_test(test_empty_and_foreign),
        cmocka_unit_test(test_one_long_line),      cmocka_unit_test(test_repeating_errors),
        cmocka_unit_test(test_output_is_harmless), cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_two_logs_by_time),
    };
    if (mu_health_catalog_open(NULL, &catalog, NULL) != MU_OK) return 1;
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    mu_health_catalog_close(catalog);
    return rc;
}
