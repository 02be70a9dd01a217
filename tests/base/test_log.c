/* The log: levels, one line a message, nothing that steers a terminal, no line cut into another. */
#include "base/log.h"

#include "base/thread.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static FILE *caught;
static int real_stderr;

static int catch_stderr(void **state)
{
    (void)state;
    caught = tmpfile();
    real_stderr = dup(STDERR_FILENO);
    /* Appended to, as a log file is: the threads below must not write over each other. */
    int fd = fileno(caught);
    return fcntl(fd, F_SETFL, O_APPEND) == 0 && dup2(fd, STDERR_FILENO) >= 0 ? 0 : -1;
}

static int give_stderr_back(void **state)
{
    (void)state;
    mu_log_set_level(MU_LOG_WARN);
    (void)dup2(real_stderr, STDERR_FILENO);
    (void)close(real_stderr);
    return fclose(caught);
}

static const char *all_caught(void)
{
    static char text[300000];
    rewind(caught);
    text[fread(text, 1, sizeof text - 1, caught)] = '\0';
    return text;
}

static void levels_are_obeyed(void **state)
{
    (void)state;
    mu_log(MU_LOG_INFO, "not wanted");
    mu_log(MU_LOG_WARN, "device %d power %d w", 3, 412);
    mu_log(MU_LOG_ERROR, "two\nlines\x1b[2J");
    assert_true(mu_log_wants(MU_LOG_WARN));
    assert_false(mu_log_wants(MU_LOG_INFO));
    mu_log_set_level(MU_LOG_DEBUG);
    mu_log(MU_LOG_DEBUG, "%s", "");
    mu_log_set_level(MU_LOG_ERROR);
    mu_log(MU_LOG_WARN, "not wanted either");
    assert_string_equal(all_caught(), "muster: warning: device 3 power 412 w\n"
                                      "muster: error: two?lines?[2J\n"
                                      "muster: debug: \n");
}

static void a_long_message_is_cut_and_ended(void **state)
{
    (void)state;
    char message[3000];
    memset(message, 'm', sizeof message - 1);
    message[sizeof message - 1] = '\0';
    mu_log(MU_LOG_ERROR, "%s", message);
    const char *text = all_caught();
    assert_int_equal(strcspn(text, "\n"), strlen(text) - 1);
    assert_in_range(strlen(text), 1000, 1024);
}

static void log_much(void *arg)
{
    for (int i = 0; i < 500; i++)
        mu_log(MU_LOG_WARN, "%s", (const char *)arg);
}

static void lines_never_mix(void **state)
{
    (void)state;
    static char a[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", b[] = "bbbbbbbbbbbbbbbb";
    struct mu_thread one = {0}, two = {0};
    assert_int_equal(mu_thread_start(&one, log_much, a, "one", -1, NULL), MU_OK);
    assert_int_equal(mu_thread_start(&two, log_much, b, "two", -1, NULL), MU_OK);
    mu_thread_join(&one);
    mu_thread_join(&two);
    unsigned n = 0;
    for (const char *p = all_caught(); *p; p += strcspn(p, "\n") + 1, n++) {
        const char *body = p + strlen("muster: warning: ");
        size_t len = strcspn(body, "\n");
        assert_true((len == strlen(a) && memcmp(body, a, len) == 0) ||
                    (len == strlen(b) && memcmp(body, b, len) == 0));
    }
    assert_int_equal(n, 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(levels_are_obeyed, catch_stderr, give_stderr_back),
        cmocka_unit_test_setup_teardown(a_long_message_is_cut_and_ended, catch_stderr,
                                        give_stderr_back),
        cmocka_unit_test_setup_teardown(lines_never_mix, catch_stderr, give_stderr_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
