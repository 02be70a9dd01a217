/* Status codes, and the error that is filled once. */
#include "base/status.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void every_code_has_its_row(void **state)
{
    (void)state;
    assert_int_equal(MU_OK, 0);
    assert_int_equal(mu_status_exit(MU_OK), 0);
    assert_int_equal(mu_status_exit(MU_E_ANSWER), 1);
    assert_int_equal(mu_status_exit(MU_E_USAGE), 2);
    assert_int_equal(mu_status_exit(MU_E_INPUT), 3);
    assert_int_equal(mu_status_exit(MU_E_FIT), 4);
    assert_int_equal(mu_status_exit(MU_E_PEER), 5);
    assert_int_equal(mu_status_exit(MU_E_INTERRUPTED), 130);
    assert_int_equal(mu_status_exit(MU_E_CLOSED), 0);
    assert_int_equal(mu_status_http(MU_E_MISSING), 404);
    for (int i = 0; i < MU_STATUS_COUNT; i++) {
        assert_true(strlen(mu_status_text((mu_status)-i)) > 0);
        assert_in_range(mu_status_http((mu_status)-i), 200, 599);
    }
    /* A number that is no code must not read past the table. */
    assert_int_equal(mu_status_exit((mu_status)-MU_STATUS_COUNT), mu_status_exit(MU_E_INTERNAL));
    assert_int_equal(mu_status_exit((mu_status)1), mu_status_exit(MU_E_INTERNAL));
}

static void the_first_word_stays(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    mu_err_where(&err, "too early");
    assert_string_equal(err.where, "");
    assert_int_equal(mu_fail(&err, MU_E_INPUT, "bad %d", 7), MU_E_INPUT);
    assert_int_equal(mu_fail(&err, MU_E_PEER, "later"), MU_E_PEER);
    assert_int_equal(mu_fail_errno(&err, MU_E_IO, EACCES, "later"), MU_E_IO);
    mu_err_where(&err, "%s, line %d", "file", 3);
    mu_err_where(&err, "elsewhere");
    mu_err_cure(&err, "do this");
    mu_err_cure(&err, "do that");
    assert_int_equal(err.code, MU_E_INPUT);
    char line[100];
    assert_string_equal(mu_err_line(&err, line, sizeof line), "file, line 3: bad 7; do this");
    assert_int_equal(mu_fail(NULL, MU_E_INPUT, "nobody listens"), MU_E_INPUT);
    mu_err_where(NULL, "nowhere");
    mu_err_cure(NULL, "nothing");
}

static void a_line_is_one_harmless_line(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    char line[768], little[8];
    (void)mu_fail(&err, MU_E_INPUT, "a\nb\x1b[31m\x7f");
    assert_string_equal(mu_err_line(&err, line, sizeof line), "a?b?[31m?");
    assert_string_equal(mu_err_line(&err, little, sizeof little), "a?b?[31");
    err = (struct mu_err){.code = MU_E_FIT};
    assert_string_equal(mu_err_line(&err, line, sizeof line), "does not fit");
    err = MU_ERR_INIT;
    char big[2000];
    memset(big, 'x', sizeof big - 1);
    big[sizeof big - 1] = '\0';
    (void)mu_fail(&err, MU_E_INPUT, "%s", big);
    mu_err_where(&err, "%s", big);
    mu_err_cure(&err, "%s", big);
    assert_int_equal(strlen(mu_err_line(&err, line, sizeof line)),
                     sizeof err.where + sizeof err.what + sizeof err.cure - 3 + 4);
}

static void system_errors_find_their_code(void **state)
{
    (void)state;
    static const struct {
        int number;
        mu_status want;
    } rows[] = {{ENOSPC, MU_E_SPACE},   {EDQUOT, MU_E_SPACE},    {ENOMEM, MU_E_MEMORY},
                {ENOENT, MU_E_MISSING}, {ENOTDIR, MU_E_MISSING}, {EPIPE, MU_E_CLOSED},
                {EACCES, MU_E_IO}};
    for (size_t i = 0; i < MU_ARRAY_LEN(rows); i++) {
        struct mu_err err = MU_ERR_INIT;
        assert_int_equal(mu_fail_errno(&err, MU_E_IO, rows[i].number, "cannot %s", "x"),
                         rows[i].want);
        assert_int_equal(err.code, rows[i].want);
        assert_true(strncmp(err.what, "cannot x: ", 10) == 0 && strlen(err.what) > 10);
    }
}

static mu_status tries(mu_status inner, int *reached)
{
    MU_TRY(inner);
    (*reached)++;
    return MU_OK;
}

static void try_passes_failures_up(void **state)
{
    (void)state;
    int reached = 0;
    assert_int_equal(tries(MU_E_IO, &reached), MU_E_IO);
    assert_int_equal(reached, 0);
    assert_int_equal(tries(MU_OK, &reached), MU_OK);
    assert_int_equal(reached, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_code_has_its_row),
        cmocka_unit_test(the_first_word_stays),
        cmocka_unit_test(a_line_is_one_harmless_line),
        cmocka_unit_test(system_errors_find_their_code),
        cmocka_unit_test(try_passes_failures_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
