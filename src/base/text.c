/* Bounded growing text; see text.h. */
#include "base/text.h"

#include "base/alloc.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT_FIRST_BYTES 64
#define DISTANCE_MAX_LEN 63

struct mu_str mu_str_take(struct mu_str *rest, char end)
{
    const char *stop = rest->len ? memchr(rest->p, end, rest->len) : NULL;
    size_t len = stop ? (size_t)(stop - rest->p) : rest->len;
    struct mu_str taken = {rest->p, len};
    size_t used = stop ? len + 1 : len;
    *rest = (struct mu_str){rest->p + used, rest->len - used};
    return taken;
}

void mu_text_init(struct mu_text *text, size_t max_len)
{
    *text = (struct mu_text){.max = max_len};
}

void mu_text_fini(struct mu_text *text)
{
    mu_free(text->p);
    *text = (struct mu_text){.max = text->max};
}

void mu_text_clear(struct mu_text *text)
{
    text->len = 0;
    text->status = MU_OK;
    if (text->p) text->p[0] = '\0';
}

/* Makes room for `more` bytes and the terminator. */
static bool text_reserve(struct mu_text *text, size_t more)
{
    if (text->status != MU_OK) return false;
    if (more > text->max - text->len) {
        text->status = MU_E_RESOURCE;
        return false;
    }
    size_t need = text->len + more + 1;
    if (need <= text->size) return true;
    size_t size = MU_MAX(MU_MAX(need, text->size * 2), (size_t)TEXT_FIRST_BYTES);
    char *p = mu_realloc(text->p, size);
    if (!p) {
        text->status = MU_E_MEMORY;
        return false;
    }
    text->p = p;
    text->size = size;
    return true;
}

void mu_text_add(struct mu_text *text, const void *bytes, size_t len)
{
    if (!text_reserve(text, len)) return;
    if (len) memcpy(text->p + text->len, bytes, len);
    text->len += len;
    text->p[text->len] = '\0';
}

void mu_text_str(struct mu_text *text, const char *s)
{
    mu_text_add(text, s, strlen(s));
}
void mu_text_char(struct mu_text *text, char c)
{
    mu_text_add(text, &c, 1);
}

void mu_text_printf(struct mu_text *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (n < 0 || !text_reserve(text, (size_t)n)) return;
    va_start(args, format);
    (void)vsnprintf(text->p + text->len, (size_t)n + 1, format, args);
    va_end(args);
    text->len += (size_t)n;
}

const char *mu_text_get(const struct mu_text *text)
{
    return text->p ? text->p : "";
}

char *mu_text_take(struct mu_text *text)
{
    char *p = NULL;
    if (text->status == MU_OK && text_reserve(text, 0)) {
        p = text->p;
        p[text->len] = '\0';
        text->p = NULL;
    }
    mu_text_fini(text);
    return p;
}

mu_status mu_text_status(const struct mu_text *text, struct mu_err *err)
{
    if (text->status == MU_E_RESOURCE)
        return mu_fail(err, MU_E_RESOURCE, "text grew past its limit of %zu bytes", text->max);
    if (text->status != MU_OK) return mu_fail_memory(err, text->len);
    return MU_OK;
}

unsigned mu_text_distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n > DISTANCE_MAX_LEN || m > DISTANCE_MAX_LEN) return DISTANCE_MAX_LEN;
    /* Three rows of the table: two letters back, one back, now. */
    unsigned rows[3][DISTANCE_MAX_LEN + 1];
    for (size_t j = 0; j <= m; j++)
        rows[0][j] = (unsigned)j;
    for (size_t i = 1; i <= n; i++) {
        unsigned *now = rows[i % 3], *back = rows[(i - 1) % 3], *back2 = rows[(i + 1) % 3];
        now[0] = (unsigned)i;
        for (size_t j = 1; j <= m; j++) {
            unsigned change = back[j - 1] + (a[i - 1] != b[j - 1]);
            unsigned best = MU_MIN(change, MU_MIN(back[j], now[j - 1]) + 1);
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                best = MU_MIN(best, back2[j - 2] + 1);
            now[j] = best;
        }
    }
    return rows[n % 3][m];
}
