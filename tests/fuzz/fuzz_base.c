/* The readers of base on hostile bytes: the first byte selects which. */
#include "base/base.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool holds)
{
    if (!holds) abort();
}

static void read_json(struct mu_str s)
{
    json_t *root = NULL;
    struct mu_err err = MU_ERR_INIT;
    mu_status status = mu_json_parse(s, "input", &root, &err);
    check((status == MU_OK) == (root != NULL));
    check((status == MU_OK) == (err.code == MU_OK));
    json_decref(root);
}

/* Whatever the bytes were, the literal made of them is JSON, and holds them repaired. */
static void write_json(struct mu_str s)
{
    struct mu_text text, repaired;
    json_t *root = NULL;
    mu_text_init(&text, 1 << 22);
    mu_text_init(&repaired, 1 << 22);
    mu_text_char(&text, '[');
    mu_json_add_string(&text, s);
    mu_text_char(&text, ']');
    mu_utf8_add_repaired(&repaired, s);
    check(mu_utf8_valid((struct mu_str){repaired.p, repaired.len}));
    check(mu_json_parse((struct mu_str){text.p, text.len}, "", &root, NULL) == MU_OK);
    const json_t *string = json_array_get(root, 0);
    check(mu_str_equal((struct mu_str){json_string_value(string), json_string_length(string)},
                       (struct mu_str){repaired.p, repaired.len}));
    json_decref(root);
    mu_text_fini(&text);
    mu_text_fini(&repaired);
}

/* Cut anywhere, a text and its unfinished end say the same as the whole. */
static void cut_utf8(struct mu_str s)
{
    for (size_t n = 0; n <= s.len && n <= 64; n++) {
        unsigned open = mu_utf8_unfinished((struct mu_str){s.p, n});
        check(open <= 3 && open <= n);
        if (mu_utf8_valid(s)) check(mu_utf8_valid((struct mu_str){s.p, n - open}));
    }
}

static void read_numbers(struct mu_str s)
{
    uint64_t u;
    int64_t i;
    double d;
    char text[MU_FLOAT_TEXT];
    if (mu_parse_u64(s, 10, 1000, &u)) check(u >= 10 && u <= 1000);
    if (mu_parse_i64(s, -10, 10, &i)) check(i >= -10 && i <= 10);
    if (mu_parse_bytes(s, &u)) check(u < 1ull << 63);
    if (mu_parse_f64(s, &d)) {
        double again;
        check(mu_parse_f64(mu_str(mu_format_f64(d, text)), &again) && again == d);
    }
}

static void read_cursor(struct mu_str s)
{
    struct mu_cursor c = mu_cursor_over(s.p, s.len);
    while (!c.failed && mu_cursor_left(&c) > 0) {
        uint64_t n = mu_cursor_u8(&c);
        n = n < 128 ? n : mu_cursor_u64(&c);
        const uint8_t *p = mu_cursor_take(&c, n);
        for (uint64_t i = 0; p && i < n; i++)
            (void)*(const volatile uint8_t *)&p[i];
        check(c.pos <= c.size);
    }
}

static void make_line(struct mu_str s)
{
    struct mu_err err = MU_ERR_INIT;
    char line[128];
    (void)mu_fail(&err, MU_E_INPUT, "%.*s", (int)MU_MIN(s.len, (size_t)1000), s.p);
    for (const char *p = mu_err_line(&err, line, sizeof line); *p; p++)
        check((unsigned char)*p >= 0x20 && *p != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const readers[])(struct mu_str) = {read_json,    write_json,  cut_utf8,
                                                     read_numbers, read_cursor, make_line};
    if (size > 0)
        readers[data[0] % MU_ARRAY_LEN(readers)]((struct mu_str){(const char *)data + 1, size - 1});
    return 0;
}
