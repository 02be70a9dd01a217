/*
 * Finds hundreds of texts at once. Each is known by a window of LITERAL_MIN bytes of it, and each
 * run of three bytes of a window by its place there. One such run in every window begins at a
 * multiple of STRIDE behind the log's second byte: only there is looked first, and around what is
 * of some window at all, the window is looked for. Neither step branches on what it sees. Knows
 * bytes and texts only. A log that is all well is read here and nowhere else.
 */
#include "base/alloc.h"
#include "health/health_int.h"

#include <endian.h>

#define WINDOW    MU_HEALTH_LITERAL_MIN
#define HASH_BITS 15
#define STRIDE    (WINDOW - 2) /* so many runs of three bytes does a window hold */
#define BATCH     512

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

static inline uint32_t window_hash(uint64_t window)
{
    return (uint32_t)(window * 0x9e3779b97f4a7c15u >> (64 - HASH_BITS));
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
    for (unsigned i = 0; i < STRIDE; i++)
        pf->places[hash3(window + i)] |= (uint8_t)(1u << i);
    uint16_t *head = &pf->heads[window_hash(pf->windows[index])];
    pf->next[index] = *head;
    *head = (uint16_t)(index + 1);
}

mu_status mu_health_prefilter_build(struct mu_health_prefilter *pf, struct mu_arena *arena,
                                    const struct mu_health_literal *literals, unsigned n,
                                    struct mu_err *err)
{
    size_t slots = (size_t)1 << HASH_BITS;
    pf->heads = mu_arena_alloc(arena, slots, sizeof *pf->heads);
    pf->places = mu_arena_alloc(arena, slots, 1);
    pf->next = mu_arena_alloc(arena, n, sizeof *pf->next);
    pf->window_end = mu_arena_alloc(arena, n, 1);
    pf->windows = mu_arena_alloc(arena, n, sizeof *pf->windows);
    if (!pf->heads || !pf->places || !pf->next || !pf->window_end || !pf->windows)
        return mu_fail_memory(err, slots);
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
    for (unsigned i = pf->heads[window_hash(window)]; i; i = pf->next[i - 1]) {
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

/* Of the words from `word` on, at most BATCH, those whose last three bytes are of some window. */
static unsigned words_choose(const struct mu_health_prefilter *pf, struct mu_str bytes, size_t word,
                             uint16_t chosen[BATCH])
{
    unsigned n = 0, n_words = (unsigned)MU_MIN(bytes.len / STRIDE - word, (size_t)BATCH);
    const char *end = bytes.p + (word + 1) * STRIDE;
    for (unsigned i = 0; i < n_words; i++, end += STRIDE) {
        chosen[n] = (uint16_t)i;
        n += pf->places[hash3_before(end)] != 0;
    }
    return n;
}

/* Where windows end whose runs of three bytes are all in their places, one of them the word's that
 * ends at `word_end`: at most STRIDE ends, in `ends`. */
static unsigned word_ends(const struct mu_health_prefilter *pf, struct mu_str bytes,
                          size_t word_end, size_t ends[STRIDE])
{
    unsigned n = 0, places = 0;
    size_t end = MU_MAX(word_end - (STRIDE - 1), (size_t)3);
    size_t last = MU_MIN(word_end + (STRIDE - 1), bytes.len);
    for (; end <= last; end++) {
        uint32_t hash = end == 3 ? hash3(bytes.p) : hash3_before(bytes.p + end);
        places = (places << 1 | 1) & pf->places[hash];
        ends[n] = end;
        n += places >> (STRIDE - 1);
    }
    return n;
}

size_t mu_health_prefilter_scan(const struct mu_health_prefilter *pf, struct mu_str bytes,
                                size_t *pos, struct mu_health_hit *hits, size_t max)
{
    uint16_t chosen[BATCH] = {0};
    size_t ends[BATCH * STRIDE], n = 0, n_words = bytes.len / STRIDE;
    *pos = MU_MAX(*pos, (size_t)WINDOW);
    for (size_t word = *pos / STRIDE - 1; word < n_words; word += BATCH) {
        unsigned n_chosen = words_choose(pf, bytes, word, chosen), n_ends = 0;
        for (unsigned i = 0; i < n_chosen; i++)
            n_ends += word_ends(pf, bytes, (word + chosen[i] + 1) * STRIDE, ends + n_ends);
        for (unsigned i = 0; i < n_ends; i++) {
            if (ends[i] < *pos) continue;
            *pos = ends[i];
            if (!bucket_check(pf, bytes, ends[i], hits, max, &n)) return n;
        }
    }
    *pos = bytes.len + 1;
    return n;
}
