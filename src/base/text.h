/*
 * Growing text (or bytes) with a maximum said at the start, and borrowed pieces of text.
 *
 * Errors stick: after a failed append every later one is a no-op, so a writer checks once, at the
 * end, with mu_text_status. One thread at a time.
 */
#ifndef MU_BASE_TEXT_H
#define MU_BASE_TEXT_H

#include "base/status.h"

#include <stddef.h>
#include <string.h>

/* Borrowed bytes, not terminated. */
struct mu_str {
    const char *p;
    size_t len;
};

#define MU_STR(literal) ((struct mu_str){(literal), sizeof(literal) - 1})

static inline struct mu_str mu_str(const char *s)
{
    return (struct mu_str){s, strlen(s)};
}

static inline bool mu_str_equal(struct mu_str a, struct mu_str b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.p, b.p, a.len) == 0);
}

static inline bool mu_str_is(struct mu_str a, const char *s)
{
    return mu_str_equal(a, mu_str(s));
}

/* The piece of `rest` before the next `end`, or all of it; `rest` goes on behind that. */
struct mu_str mu_str_take(struct mu_str *rest, char end);

struct mu_text {
    char *p;    /* always terminated once something was appended; NULL before */
    size_t len; /* without the terminator */
    size_t size, max;
    mu_status status;
};

void mu_text_init(struct mu_text *text, size_t max_len);
void mu_text_fini(struct mu_text *text);
void mu_text_clear(struct mu_text *text); /* keeps the memory, forgets the error */

void mu_text_add(struct mu_text *text, const void *bytes, size_t len);
void mu_text_str(struct mu_text *text, const char *s);
void mu_text_char(struct mu_text *text, char c);
void mu_text_printf(struct mu_text *text, const char *format, ...) MU_PRINTF(2, 3);

/* The text so far, "" when there is none; valid until the next append. */
const char *mu_text_get(const struct mu_text *text);
/* Hands the terminated text over (mu_free); NULL when memory was out. Leaves `text` empty. */
char *mu_text_take(struct mu_text *text);
/* MU_OK, or fills `err` with what stopped the growth. */
mu_status mu_text_status(const struct mu_text *text, struct mu_err *err);

/* Edit distance with transpositions, for "did you mean"; names beyond 63 bytes count as far. */
unsigned mu_text_distance(const char *a, const char *b);

#endif
