/*
 * Finds hundreds of texts at once, skipping: a window of LITERAL_MIN bytes slides over the log; the
 * three bytes at its end say how far it can move without missing a text (Wu and Manber). Knows
 * bytes and texts only. A log that is all well is read here and nowhere else.
 */
#include "base/alloc.h"
#include "health/health_int.h"

#include <endian.h>

#define WINDOW    MU_HEALTH_LITERAL_MIN
#define HASH_BITS 15
#define NO_WINDOW (WINDOW - 2) /* three bytes that are in no window: it may move behind them */

static inline uint32_t hash3(const char *p)
{
    const unsigned char *b = (const unsigned char *)p;
    uint32_t v = (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16;
    return v * 2654435761u >> (32 - HASH_BITS);
}

/* The same of the three bytes before `end`, in one load: a byte before them is there too. */
static inline uint32_t hash3_before(const char *end)
{
    uint32_t v;
    memcpy(&v, end - sizeof v, sizeof v);
    return (le32toh(v) >> 8) * 2654435761u >> (32 - HASH_BITS);
}

/* The window that ends at `end`, as a number; `end` is at least WINDOW. */
static inline uint64_t window_load(const char *end)
{
    uint64_t value = 0;
    memcpy(&value, end - WINDOW, WINDOW);
    return value;
}

/* Bytes that are frequent in running text make a poor end of a window. */
static unsigned rarity(const char *p)
{
    unsigned score = 0;
    for (unsigned i = 0; i < 3; i++) {
        char c = p[i];
        score += c >= 'a' && c <= 'z' ? (strchr("etaoinrs", c) ? 0 : 1) : c == ' ' ? 0 : 2;
        score += (unsigned char)c >= 0x80 ? 2 : 0;
    }
    return score;
}

static size_t window_choose(struct mu_str text)
{
    size_t best = WINDOW;
    for (size_t end = WINDOW; end <= text.len && end < UINT8_MAX; end++)
        if (rarity(text.p + end - 3) > rarity(text.p + best - 3)) best = end;
    return best;
}

static void literal_add(struct mu_health_prefilter *pf, unsigned index)
{
    struct mu_str text = pf->literals[index].text;
    size_t end = window_choose(text);
    pf->window_end[index] = (uint8_t)end;
    pf->windows[index] = window_load(text.p + end);
    const char *window = text.p + end - WINDOW;
    for (unsigned i = 0; i + 3 <= WINDOW; i++) {
        uint8_t *shift = &pf->shifts[hash3(window + i)];
        *shift = (uint8_t)MU_MIN(*shift, WINDOW - 3 - i);
    }
    uint16_t *head = &pf->heads[hash3(window + WINDOW - 3)];
    pf->next[index] = *head;
    *head = (uint16_t)(index + 1);
}

mu_status mu_health_prefilter_build(struct mu_health_prefilter *pf, struct mu_arena *arena,
                                    const struct mu_health_literal *literals, unsigned n,
                                    struct mu_err *err)
{
    size_t slots = (size_t)1 << HASH_BITS;
    pf->heads = mu_arena_alloc(arena, slots, sizeof *pf->heads);
    pf->shifts = mu_arena_alloc(arena, slots, 1);
    pf->next = mu_arena_alloc(arena, n, sizeof *pf->next);
    pf->window_end = mu_arena_alloc(arena, n, 1);
    pf->windows = mu_arena_alloc(arena, n, sizeof *pf->windows);
    if (!pf->heads || !pf->shifts || !pf->next || !pf->window_end || !pf->windows)
        return mu_fail_memory(err, slots);
    memset(pf->shifts, NO_WINDOW, slots);
    pf->literals = literals;
    pf->n_literals = n;
    for (unsigned i = 0; i < n; i++)
        literal_add(pf, i);
    return MU_OK;
}

/* Adds the literals whose window ends at `end`; false when `hits` is full. */
static bool bucket_check(const struct mu_health_prefilter *pf, struct mu_str bytes, size_t end,
                         struct mu_health_hit *hits, size_t max, size_t *n)
{
    size_t before = *n;
    uint64_t window = window_load(bytes.p + end);
    for (unsigned i = pf->heads[hash3_before(bytes.p + end)]; i; i = pf->next[i - 1]) {
        if (pf->windows[i - 1] != window) continue;
        struct mu_str text = pf->literals[i - 1].text;
        size_t lead = pf->window_end[i - 1];
        if (end < lead || text.len - lead > bytes.len - end ||
            memcmp(bytes.p + end - lead, text.p, text.len) != 0)
            continue;
        if (*n == max) {
            *n = before; /* this place again, in the next call */
            return false;
        }
        hits[(*n)++] = (struct mu_health_hit){end, i - 1};
    }
    return true;
}

size_t mu_health_prefilter_scan(const struct mu_health_prefilter *pf, struct mu_str bytes,
                                size_t *pos, struct mu_health_hit *hits, size_t max)
{
    size_t n = 0, end = MU_MAX(*pos, (size_t)WINDOW);
    while (end <= bytes.len) {
        unsigned shift = pf->shifts[hash3_before(bytes.p + end)];
        if (shift) {
            end += shift;
            continue;
        }
        if (!bucket_check(pf, bytes, end, hits, max, &n)) break;
        end++;
    }
    *pos = end;
    return n;
}
