/* Server-sent events, however the bytes are cut. */
#include "net/net.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static char seen[512];

static bool note(void *context, struct mu_str data)
{
    unsigned *left = context;
    size_t n = strlen(seen);
    (void)snprintf(seen + n, sizeof seen - n, "[%.*s]", (int)data.len, data.p);
    return --*left > 0;
}

/* The events of `bytes`, fed in pieces, at most `most` of them. */
static const char *events_of(const char *bytes, size_t piece, size_t line_max, unsigned most)
{
    struct mu_net_events events;
    mu_net_events_init(&events, line_max);
    seen[0] = '\0';
    for (size_t i = 0, len = strlen(bytes); i < len; i += piece)
        if (!mu_net_events_feed(&events, bytes + i, MU_MIN(piece, len - i), note, &most)) break;
    mu_net_events_fini(&events);
    return seen;
}

static void test_any_cut(void **state)
{
    (void)state;
    static const char stream[] = ": comment\nevent: x\ndata: one\n\ndata:two\r\n\r\nid: 3\ndata: "
                                 "{\"a\": 1}\n\ndata:\n\ndata: cut";
    for (size_t piece = 1; piece < sizeof stream; piece++)
        assert_string_equal(events_of(stream, piece, 64, 99), "[one][two][{\"a\": 1}][]");
}

static void test_long_lines_are_left_out(void **state)
{
    (void)state;
    static const char stream[] = "data: a\ndata: far too long for this\ndata: b\n";
    for (size_t piece = 1; piece < sizeof stream; piece++)
        assert_string_equal(events_of(stream, piece, 16, 99), "[a][b]");
}

static void test_the_listener_may_end_it(void **state)
{
    (void)state;
    assert_string_equal(events_of("data: a\ndata: b\ndata: c\n", 100, 64, 2), "[a][b]");
}

int main(void)
{
    const struct CMUnitTest all[] = {
        cmocka_unit_test(test_any_cut),
        cmocka_unit_test(test_long_lines_are_left_out),
        cmocka_unit_test(test_the_listener_may_end_it),
    };
    return cmocka_run_group_tests(all, NULL, NULL);
}
