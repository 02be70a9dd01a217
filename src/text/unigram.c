/*
 * The unigram model: of all ways to cut a piece into tokens, the one with the best sum of scores.
 * Characters that no token begins with score worse than every token. Read-only once made.
 */
#include "text/tokenizer_int.h"

#include "base/alloc.h"

#include <math.h>

/* Longer tokens are refused: they bound the work at every place of a text. */
#define TOKEN_BYTES_MAX 512
#define UNKNOWN_PENALTY 10.0

struct mu_unigram {
    const struct mu_vocabulary *vocabulary;
    double *scores; /* NAN: text never becomes this token */
    uint32_t n_tokens, unknown;
    size_t longest;
    double unknown_score;
    uint32_t bytes[256];
    bool byte_fallback, sums_in_float;
};

/* The best way to get to a place. */
struct place {
    double score;
    uint32_t token, from; /* the place before; UINT32_MAX: nobody came yet */
};

static mu_status fill(struct mu_unigram *u, const struct mu_tokenizer_spec *spec,
                      struct mu_err *err)
{
    static const char hex[] = "0123456789ABCDEF";
    double worst = 0;
    u->scores = mu_alloc(spec->n_tokens * sizeof *u->scores);
    if (!u->scores) return mu_fail_memory(err, spec->n_tokens * sizeof *u->scores);
    for (uint32_t i = 0; i < spec->n_tokens; i++) {
        u->scores[i] = spec->plain && !spec->plain[i] ? (double)NAN : spec->scores[i];
        worst = MU_MIN(worst, spec->scores[i]);
        u->longest = MU_MAX(u->longest, spec->tokens[i].len);
    }
    if (u->longest > TOKEN_BYTES_MAX) {
        mu_status status = mu_fail(err, MU_E_UNSUPPORTED, "a token is longer than 512 bytes");
        mu_err_where(err, "%s", spec->source);
        return status;
    }
    u->unknown_score = worst - UNKNOWN_PENALTY;
    for (unsigned i = 0; i < 256; i++) {
        char text[6] = {'<', '0', 'x', hex[i >> 4], hex[i & 15], '>'};
        u->bytes[i] = mu_vocabulary_find(u->vocabulary, (struct mu_str){text, 6});
        if (u->bytes[i] == MU_TOKEN_NONE) u->byte_fallback = false;
    }
    return MU_OK;
}

mu_status mu_unigram_create(const struct mu_tokenizer_spec *spec, const struct mu_vocabulary *v,
                            uint32_t unknown, struct mu_unigram **out, struct mu_err *err)
{
    struct mu_unigram *u = mu_calloc(1, sizeof *u);
    if (!u) return mu_fail_memory(err, sizeof *u);
    u->vocabulary = v;
    u->n_tokens = spec->n_tokens;
    u->unknown = unknown;
    u->byte_fallback = spec->byte_fallback;
    u->sums_in_float = spec->sums_in_float;
    mu_status status = fill(u, spec, err);
    if (status == MU_OK)
        *out = u;
    else
        mu_unigram_destroy(u);
    return status;
}

void mu_unigram_destroy(struct mu_unigram *u)
{
    if (!u) return;
    mu_free(u->scores);
    mu_free(u);
}

static void offer(const struct mu_unigram *u, struct place *places, uint32_t from, uint32_t to,
                  uint32_t token, double score)
{
    double sum = places[from].score + score;
    if (u->sums_in_float) sum = (double)((float)places[from].score + (float)score);
    if (places[to].from != UINT32_MAX && sum <= places[to].score) return;
    places[to] = (struct place){sum, token, from};
}

/* Tokens that begin at `at`, and the character there when no token is just that. */
static void extend(const struct mu_unigram *u, struct mu_str piece, uint32_t at,
                   struct place *places)
{
    const uint8_t *p = (const uint8_t *)piece.p;
    unsigned first, len;
    bool single = false;
    (void)mu_char_next(p + at, &first);
    for (size_t end = at + first; end - at <= u->longest; end += len) {
        uint32_t id = mu_vocabulary_find(u->vocabulary, (struct mu_str){piece.p + at, end - at});
        if (id < u->n_tokens && !isnan(u->scores[id])) {
            offer(u, places, at, (uint32_t)end, id, u->scores[id]);
            single |= end == at + first;
        }
        if (end >= piece.len) break;
        (void)mu_char_next(p + end, &len);
    }
    if (!single) offer(u, places, at, at + first, MU_TOKEN_NONE, u->unknown_score);
}

/* Turns the path around, so that it can be walked from the front: `from` becomes the next place. */
static void reverse_path(struct place *places, uint32_t n)
{
    uint32_t next = n, at = n;
    while (at != 0) {
        uint32_t before = places[at].from;
        places[at].from = next;
        next = at;
        at = before;
    }
    places[0].from = next;
}

static bool emit(const struct mu_unigram *u, struct mu_str piece, const struct place *places,
                 struct mu_ids *out)
{
    bool was_unknown = false;
    uint32_t n = (uint32_t)piece.len;
    for (uint32_t at = 0; at < n;) {
        uint32_t to = places[at].from, token = places[to].token;
        /* The unknown token, spelled out in the text, is one more unknown character. */
        bool unknown = token == MU_TOKEN_NONE || (token == u->unknown && !u->byte_fallback);
        if (!mu_ids_reserve(out, 4)) return false;
        if (!unknown) {
            out->p[out->n++] = token;
        } else if (u->byte_fallback) {
            for (uint32_t i = at; i < to; i++)
                out->p[out->n++] = u->bytes[(uint8_t)piece.p[i]];
        } else if (!was_unknown && u->unknown != MU_TOKEN_NONE) {
            out->p[out->n++] = u->unknown;
        }
        was_unknown = unknown;
        at = to;
    }
    return true;
}

bool mu_unigram_encode(const struct mu_unigram *u, struct mu_str piece, struct mu_ids *out)
{
    uint32_t n = (uint32_t)piece.len;
    struct place *places = mu_alloc(((size_t)n + 1) * sizeof *places);
    if (!places) return false;
    for (uint32_t i = 0; i <= n; i++)
        places[i].from = UINT32_MAX;
    places[0] = (struct place){0, MU_TOKEN_NONE, 0};
    unsigned len;
    for (uint32_t at = 0; at < n; at += len) {
        (void)mu_char_next((const uint8_t *)piece.p + at, &len);
        if (places[at].from != UINT32_MAX) extend(u, piece, at, places);
    }
    reverse_path(places, n);
    bool good = emit(u, piece, places, out);
    mu_free(places);
    return good;
}
