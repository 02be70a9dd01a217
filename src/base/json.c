/* JSON; see json.h. */
#include "base/json.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/number.h"
#include "base/utf8.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

/* jansson forgets that memory was out: it says "invalid token", goes on without the text, or writes
 * into a token that did not grow. So it is told of no failure while the system has any memory left,
 * and its result is thrown away. */
static _Thread_local bool memory_was_out;

static void *json_alloc(size_t size)
{
    void *p = mu_alloc(size);
    if (p) return p;
    memory_was_out = true;
    return malloc(size ? size : 1);
}

static void use_our_allocator(void)
{
    json_set_alloc_funcs(json_alloc, mu_free);
}

mu_status mu_json_parse(struct mu_str bytes, const char *name, json_t **out, struct mu_err *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, use_our_allocator);
    json_error_t e;
    memory_was_out = false;
    json_t *root = json_loadb(bytes.p, bytes.len, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (memory_was_out) {
        json_decref(root);
        return mu_fail_memory(err, bytes.len);
    }
    if (!root) {
        mu_status status = mu_fail(err, MU_E_INPUT, "not valid JSON: %s", e.text);
        mu_err_where(err, "%s, line %d, column %d", name, e.line, e.column);
        return status;
    }
    *out = root;
    return MU_OK;
}

mu_status mu_json_read(const char *path, uint64_t max_bytes, json_t **out, struct mu_err *err)
{
    struct mu_text text;
    mu_text_init(&text, max_bytes);
    mu_status status = mu_file_read(path, &text, err);
    if (status == MU_OK)
        status = mu_json_parse((struct mu_str){mu_text_get(&text), text.len}, path, out, err);
    mu_text_fini(&text);
    return status;
}

void mu_json_add_string(struct mu_text *out, struct mu_str s)
{
    mu_text_char(out, '"');
    for (unsigned n; s.len > 0; s.p += n, s.len -= n) {
        uint32_t cp = mu_utf8_decode(s, &n);
        if (cp == MU_UTF8_BAD)
            mu_text_add(out, "\xef\xbf\xbd", 3);
        else if (cp == '"' || cp == '\\')
            mu_text_printf(out, "\\%c", (char)cp);
        else if (cp == '\n')
            mu_text_str(out, "\\n");
        else if (cp < 0x20)
            mu_text_printf(out, "\\u%04x", cp);
        else
            mu_text_add(out, s.p, n);
    }
    mu_text_char(out, '"');
}

void mu_json_add_f32(struct mu_text *out, float value)
{
    char text[MU_FLOAT_TEXT];
    mu_text_str(out, isfinite(value) ? mu_format_f32(value, text) : "null");
}

void mu_json_add_f64(struct mu_text *out, double value)
{
    char text[MU_FLOAT_TEXT];
    mu_text_str(out, isfinite(value) ? mu_format_f64(value, text) : "null");
}
