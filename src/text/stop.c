/*
 * Stop strings in a stream of text: the earliest end of any of them ends the stream, and text that
 * may still become one is held back. One thread at a time.
 */
#include "text/tokenizer.h"

#include "base/compiler.h"

#define STOP_BYTES_MAX 4096
#define HELD_BYTES_MAX (UINT64_C(1) << 31)

mu_status mu_stop_init(struct mu_stop *stop, const struct mu_str *strings, unsigned n,
                       struct mu_err *err)
{
    *stop = (struct mu_stop){.found = -1};
    mu_text_init(&stop->held, HELD_BYTES_MAX);
    if (n > MU_STOP_MAX)
        return mu_fail(err, MU_E_INPUT, "there are %u stop strings, more than %d", n, MU_STOP_MAX);
    for (unsigned i = 0; i < n; i++) {
        if (strings[i].len > STOP_BYTES_MAX)
            return mu_fail(err, MU_E_INPUT, "a stop string is longer than 4,096 bytes");
        stop->strings[stop->n++] = strings[i];
    }
    return MU_OK;
}

void mu_stop_fini(struct mu_stop *stop)
{
    mu_text_fini(&stop->held);
}

/* The match that ends first, so that the answer is the same however the text was cut; among those,
 * the longest. */
static bool find(const struct mu_stop *stop, size_t *begin, int *which)
{
    size_t first_end = SIZE_MAX;
    for (unsigned i = 0; i < stop->n; i++) {
        struct mu_str s = stop->strings[i];
        const char *p = s.len ? memmem(stop->held.p, stop->held.len, s.p, s.len) : NULL;
        size_t at = p ? (size_t)(p - stop->held.p) : 0;
        if (!p || at + s.len > first_end || (at + s.len == first_end && at >= *begin)) continue;
        first_end = at + s.len;
        *begin = at;
        *which = (int)i;
    }
    return first_end != SIZE_MAX;
}

/* How many bytes at the end of `text` are the beginning of a stop string. */
static size_t possible(const struct mu_stop *stop, struct mu_str text)
{
    size_t most = 0;
    for (unsigned i = 0; i < stop->n; i++) {
        struct mu_str s = stop->strings[i];
        size_t n = s.len ? MU_MIN(s.len - 1, text.len) : 0;
        while (n > most && memcmp(text.p + text.len - n, s.p, n) != 0)
            n--;
        most = MU_MAX(most, n);
    }
    return most;
}

bool mu_stop_push(struct mu_stop *stop, struct mu_str text, bool keep, struct mu_text *out)
{
    size_t begin = 0;
    if (stop->found >= 0) return true;
    mu_text_add(&stop->held, text.p, text.len);
    if (stop->held.len == 0) return false;
    if (find(stop, &begin, &stop->found)) {
        mu_text_add(out, stop->held.p, begin + (keep ? stop->strings[stop->found].len : 0));
        mu_text_clear(&stop->held);
        return true;
    }
    struct mu_str all = {stop->held.p, stop->held.len};
    size_t wait = possible(stop, all);
    mu_text_add(out, all.p, all.len - wait);
    memmove(stop->held.p, stop->held.p + all.len - wait, wait + 1);
    stop->held.len = wait;
    return false;
}

void mu_stop_end(struct mu_stop *stop, struct mu_text *out)
{
    mu_text_add(out, mu_text_get(&stop->held), stop->held.len);
    mu_text_clear(&stop->held);
}
