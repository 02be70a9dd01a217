/* Addresses of engines: spellings of one are one, what cannot be asked is refused, and a password
 * is in nothing that is shown. */
#include "net/net.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

static void spellings_are_one_address(void **state)
{
    (void)state;
    static const char *const spelled[] = {"h:8000",           "http://h:8000",      "h:8000/",
                                          "http://h:8000/v1", "HTTP://h:8000//v1/", "h:8000/v1/"};
    for (size_t i = 0; i < MU_ARRAY_LEN(spelled); i++) {
        struct mu_net_url url;
        assert_int_equal(mu_net_url_parse(spelled[i], &url, NULL), MU_OK);
        assert_string_equal(url.base, "http://h:8000");
        assert_string_equal(url.shown, "http://h:8000");
    }
    struct mu_net_url url;
    assert_int_equal(mu_net_url_parse("https://[::1]:443/engine/", &url, NULL), MU_OK);
    assert_string_equal(url.base, "https://[::1]:443/engine");
}

static void passwords_stay_inside(void **state)
{
    (void)state;
    struct mu_net_url url;
    assert_int_equal(mu_net_url_parse("http://me:s3c@ret@h:1", &url, NULL), MU_OK);
    assert_string_equal(url.base, "http://me:s3c@ret@h:1");
    assert_string_equal(url.shown, "http://h:1");
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_net_url_parse("http://me:s3cret@h:99999", &url, &err), MU_E_USAGE);
    assert_null(strstr(err.what, "s3cret"));
}

static void what_cannot_be_asked_is_refused(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",
                                        "ftp://h",
                                        "http://",
                                        "h:99999",
                                        "h:0",
                                        "http://:8",
                                        "h:",
                                        "h:80x",
                                        "file:///etc/passwd",
                                        "a b",
                                        "http://a\nb",
                                        "/v1",
                                        "http://user@"};
    for (size_t i = 0; i < MU_ARRAY_LEN(wrong); i++) {
        struct mu_net_url url;
        struct mu_err err = MU_ERR_INIT;
        assert_int_equal(mu_net_url_parse(wrong[i], &url, &err), MU_E_USAGE);
        assert_string_not_equal(err.what, "");
    }
    static char longest[3000];
    memset(longest, 'a', sizeof longest - 1);
    struct mu_net_url url;
    assert_int_equal(mu_net_url_parse(longest, &url, NULL), MU_E_USAGE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(spellings_are_one_address),
        cmocka_unit_test(passwords_stay_inside),
        cmocka_unit_test(what_cannot_be_asked_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
