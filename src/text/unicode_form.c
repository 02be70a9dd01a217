/*
 * Unicode normalisation forms. The tables are utf8proc's; the order of marks is made here, because
 * the library's own way takes the square of their number and texts come from anywhere. Any thread.
 */
#include "text/tokenizer_int.h"

#include "base/alloc.h"
#include "base/utf8.h"

#include <utf8proc.h>

#define EXPANSION_MAX 32 /* characters that one becomes: 18 in Unicode 13 */
#define SHORT_RUN     16

struct points {
    utf8proc_int32_t *p;
    size_t n, size;
};

static bool reserve(struct points *list, size_t n)
{
    if (n <= list->size - list->n) return true;
    size_t size = list->size * 2 + n + 64;
    utf8proc_int32_t *p = mu_realloc(list->p, size * sizeof *p);
    if (!p) return false;
    list->p = p;
    list->size = size;
    return true;
}

static bool decompose(struct mu_str text, utf8proc_option_t options, struct points *out)
{
    unsigned len;
    int boundary = UTF8PROC_BOUNDCLASS_START;
    for (size_t i = 0; i < text.len; i += len) {
        uint32_t cp = mu_char_next((const uint8_t *)text.p + i, &len);
        if (!reserve(out, EXPANSION_MAX)) return false;
        utf8proc_ssize_t n = utf8proc_decompose_char((utf8proc_int32_t)cp, out->p + out->n,
                                                     EXPANSION_MAX, options, &boundary);
        MU_ASSERT(n >= 0 && n <= EXPANSION_MAX);
        if (n > 0) out->n += (size_t)n;
    }
    return true;
}

static unsigned class_of(utf8proc_int32_t cp)
{
    return (unsigned)utf8proc_get_property(cp)->combining_class & 0xff;
}

static void sort_short(utf8proc_int32_t *p, size_t n)
{
    for (size_t i = 1; i < n; i++) {
        utf8proc_int32_t cp = p[i];
        unsigned class = class_of(cp);
        size_t k = i;
        for (; k > 0 && class_of(p[k - 1]) > class; k--)
            p[k] = p[k - 1];
        p[k] = cp;
    }
}

/* Counts the classes, then deals the marks out: stable, and in one pass whatever their number. */
static bool sort_long(utf8proc_int32_t *p, size_t n)
{
    size_t begin[257] = {0};
    utf8proc_int32_t *sorted = mu_alloc(n * sizeof *sorted);
    if (!sorted) return false;
    for (size_t i = 0; i < n; i++)
        begin[class_of(p[i]) + 1]++;
    for (unsigned c = 0; c < 256; c++)
        begin[c + 1] += begin[c];
    for (size_t i = 0; i < n; i++)
        sorted[begin[class_of(p[i])]++] = p[i];
    memcpy(p, sorted, n * sizeof *sorted);
    mu_free(sorted);
    return true;
}

/* Marks on one letter stand in the order of their classes. */
static bool order_marks(struct points *list)
{
    for (size_t i = 0; i < list->n; i++) {
        size_t begin = i;
        while (i < list->n && class_of(list->p[i]) != 0)
            i++;
        if (i - begin > SHORT_RUN) {
            if (!sort_long(list->p + begin, i - begin)) return false;
        } else if (i - begin > 1) {
            sort_short(list->p + begin, i - begin);
        }
    }
    return true;
}

mu_status mu_add_form(struct mu_str text, bool compose, bool compatible, struct mu_text *out,
                      struct mu_err *err)
{
    utf8proc_option_t options = (compose ? UTF8PROC_COMPOSE : UTF8PROC_DECOMPOSE) | UTF8PROC_STABLE;
    if (compatible) options |= UTF8PROC_COMPAT;
    struct points list = {0};
    mu_status status = MU_OK;
    if (decompose(text, options, &list) && order_marks(&list)) {
        char bytes[4];
        utf8proc_ssize_t n = utf8proc_normalize_utf32(list.p, (utf8proc_ssize_t)list.n, options);
        for (utf8proc_ssize_t i = 0; list.p && i < n; i++)
            mu_text_add(out, bytes, mu_utf8_encode((uint32_t)list.p[i], bytes));
    } else {
        status = mu_fail_memory(err, text.len);
    }
    mu_free(list.p);
    return status;
}
