/*
 * The tokenizer as a whole: made from a spec, and encoding. A text is cut at added tokens; what
 * lies between is normalised, cut again at the added tokens that are looked for in normalised text,
 * cut into pieces, and each piece goes through the model. Any number of threads may encode.
 */
#include "text/tokenizer_int.h"

#include "base/alloc.h"
#include "base/utf8.h"

#define ARENA_BYTES_MAX (UINT64_C(1) << 26)

/* ---- Lists of ids -------------------------------------------------------------------------- */

void mu_ids_fini(struct mu_ids *ids)
{
    mu_free(ids->p);
    *ids = (struct mu_ids){0};
}

bool mu_ids_reserve(struct mu_ids *ids, size_t n)
{
    if (MU_LIKELY(n <= ids->size - ids->n)) return true;
    size_t size = MU_MAX(ids->n + n, ids->size * 2 + 64);
    uint32_t *p = mu_realloc(ids->p, size * sizeof *p);
    if (!p) return false;
    ids->p = p;
    ids->size = size;
    return true;
}

/* ---- Encoders ------------------------------------------------------------------------------ */

static void encoder_destroy(struct mu_encoder *e)
{
    mu_bpe_scratch_destroy(e->bpe);
    mu_pre_scratch_fini(&e->pre);
    mu_text_fini(&e->repaired);
    mu_text_fini(&e->normal[0]);
    mu_text_fini(&e->normal[1]);
    mu_free(e);
}

static struct mu_encoder *encoder_take(struct mu_tokenizer *t)
{
    (void)pthread_mutex_lock(&t->lock);
    struct mu_encoder *e = t->resting;
    if (e) t->resting = e->next;
    (void)pthread_mutex_unlock(&t->lock);
    if (e || !(e = mu_calloc(1, sizeof *e))) return e;
    mu_pre_scratch_init(&e->pre);
    mu_text_init(&e->repaired, MU_SCRATCH_MAX);
    mu_text_init(&e->normal[0], MU_SCRATCH_MAX);
    mu_text_init(&e->normal[1], MU_SCRATCH_MAX);
    if (t->bpe && !(e->bpe = mu_bpe_scratch_create())) {
        encoder_destroy(e);
        return NULL;
    }
    return e;
}

static void encoder_rest(struct mu_tokenizer *t, struct mu_encoder *e)
{
    (void)pthread_mutex_lock(&t->lock);
    e->next = t->resting;
    t->resting = e;
    (void)pthread_mutex_unlock(&t->lock);
}

/* ---- Making it ----------------------------------------------------------------------------- */

static struct mu_str keep(struct mu_tokenizer *t, struct mu_str s, bool *good)
{
    const char *p = mu_arena_strndup(t->arena, s.p ? s.p : "", s.len);
    *good &= p != NULL;
    return (struct mu_str){p, s.len};
}

/* A copy whose texts live as long as the tokenizer. */
static bool keep_step(struct mu_tokenizer *t, const struct mu_tokenizer_step *from,
                      struct mu_tokenizer_step *to)
{
    bool good = true;
    *to = *from;
    to->pattern = keep(t, from->pattern, &good);
    to->content = keep(t, from->content, &good);
    return good;
}

static mu_status pattern_fault(mu_status status, const struct mu_tokenizer_spec *spec,
                               const struct mu_tokenizer_step *step, struct mu_err *err)
{
    if (status != MU_OK)
        mu_err_where(err, "%s, pattern '%.*s'", spec->source, (int)MU_MIN(step->pattern.len, 60),
                     step->pattern.p);
    return status;
}

static mu_status make_verbatim(const struct mu_tokenizer_spec *spec, struct mu_added_set **out,
                               struct mu_err *err)
{
    uint32_t n = spec->n_verbatim;
    struct mu_added_token *list = mu_calloc(n, sizeof *list);
    struct mu_str *texts = mu_calloc(n, sizeof *texts);
    mu_status status = list && texts ? MU_OK : mu_fail_memory(err, n * sizeof *list);
    for (uint32_t i = 0; status == MU_OK && i < n; i++)
        texts[i] = spec->tokens[spec->verbatim[i]];
    if (status == MU_OK) status = mu_added_create(list, texts, n, false, out, err);
    mu_free(list);
    mu_free(texts);
    return status;
}

static mu_status make_normalizer(struct mu_tokenizer *t, const struct mu_tokenizer_spec *spec,
                                 struct mu_err *err)
{
    unsigned n = spec->normalizer.n;
    t->normalizer.steps = mu_arena_alloc(t->arena, n, sizeof *t->normalizer.steps);
    if (!t->normalizer.steps) return mu_fail_memory(err, n * sizeof *t->normalizer.steps);
    for (unsigned i = 0; i < n; i++) {
        struct mu_normalizer_step *to = &t->normalizer.steps[i];
        if (!keep_step(t, &spec->normalizer.items[i], &to->step)) return mu_fail_memory(err, 64);
        t->normalizer.n++;
        if (to->step.kind == MU_STEP_SENTENCEPIECE) MU_TRY(make_verbatim(spec, &to->verbatim, err));
        if (to->step.kind == MU_STEP_REPLACE)
            MU_TRY(pattern_fault(
                mu_matcher_init(&to->matcher, to->step.pattern, to->step.is_regex, err), spec,
                &to->step, err));
    }
    return MU_OK;
}

/* A byte map at the very end needs no work: the model reads bytes. One before other splits does,
 * and so do those that look for a metaspace's letter. */
static mu_status make_pretokenizer(struct mu_tokenizer *t, const struct mu_tokenizer_spec *spec,
                                   struct mu_err *err)
{
    unsigned n = spec->pre_tokenizer.n;
    struct mu_pretokenizer *pre = &t->pre;
    pre->steps = mu_arena_alloc(t->arena, n, sizeof *pre->steps);
    if (!pre->steps) return mu_fail_memory(err, n * sizeof *pre->steps);
    for (unsigned i = 0; i < n; i++) {
        const struct mu_tokenizer_step *from = &spec->pre_tokenizer.items[i];
        struct mu_pre_step *to = &pre->steps[pre->n];
        if (from->kind == MU_STEP_BYTE_MAP && t->byte_level)
            return mu_fail(err, MU_E_UNSUPPORTED, "the pre-tokenizer maps bytes twice");
        t->byte_level |= from->kind == MU_STEP_BYTE_MAP;
        if (from->kind == MU_STEP_BYTE_MAP && i + 1 == n) break;
        pre->unmap |= from->kind == MU_STEP_BYTE_MAP;
        if (!keep_step(t, from, &to->step)) return mu_fail_memory(err, 64);
        pre->n++;
        if (from->kind == MU_STEP_SPLIT) {
            MU_TRY(pattern_fault(
                mu_matcher_init(&to->matcher, to->step.pattern, to->step.is_regex, err), spec,
                &to->step, err));
        } else if (from->kind == MU_STEP_METASPACE) {
            to->matcher.literal = to->step.content;
            to->step.behavior = MU_SPLIT_MERGED_WITH_NEXT;
        }
    }
    const struct mu_pre_step *only = pre->n == 1 ? pre->steps : NULL;
    if (only && only->step.kind == MU_STEP_SPLIT && only->matcher.scan &&
        mu_scan_is_total(only->matcher.scan) && !only->step.invert &&
        only->step.behavior == MU_SPLIT_ISOLATED)
        pre->only = only->matcher.scan;
    return MU_OK;
}

static mu_status make_decoder(struct mu_tokenizer *t, const struct mu_tokenizer_spec *spec,
                              struct mu_err *err)
{
    unsigned n = spec->decoder.n;
    bool fused = false;
    t->decoder.items = mu_arena_alloc(t->arena, n, sizeof *t->decoder.items);
    if (!t->decoder.items) return mu_fail_memory(err, n * sizeof *t->decoder.items);
    for (unsigned i = 0; i < n; i++) {
        const struct mu_tokenizer_step *step = &spec->decoder.items[i];
        if (!keep_step(t, step, &t->decoder.items[t->decoder.n++])) return mu_fail_memory(err, 64);
        /* These would need the end of the text before its beginning can be given out. */
        bool late = fused && !(step->kind == MU_STEP_STRIP && step->stop == 0) &&
                    step->kind != MU_STEP_FUSE;
        if (late || (step->kind == MU_STEP_REPLACE && step->is_regex)) {
            mu_status status = mu_fail(err, MU_E_UNSUPPORTED, "step %u is not supported there", i);
            mu_err_where(err, "%s, decoder", spec->source);
            return status;
        }
        fused |= step->kind == MU_STEP_FUSE;
    }
    return MU_OK;
}

/* The ids of added tokens: that of the vocabulary for those in it, else the next free one. What the
 * file says is not asked: the library that published it does not ask either. */
static uint32_t added_id(struct mu_tokenizer *t, struct mu_str content, uint32_t n_vocabulary,
                         uint32_t *next)
{
    uint32_t id = mu_vocabulary_find(&t->vocabulary, content);
    if (id == MU_TOKEN_NONE) {
        id = MU_MAX(*next, n_vocabulary);
        if (id > t->vocabulary.n_tokens) id = t->vocabulary.n_tokens;
        while (id < t->vocabulary.n_tokens && t->vocabulary.tokens[id].p)
            id++;
        mu_vocabulary_add(&t->vocabulary, content, id);
    }
    *next = MU_MAX(*next, id + 1);
    return id;
}

static mu_status make_added(struct mu_tokenizer *t, const struct mu_tokenizer_spec *spec,
                            struct mu_err *err)
{
    uint32_t n = spec->n_added, next = 0;
    struct mu_added_token *list = mu_alloc(n * sizeof *list);
    struct mu_str *contents = mu_calloc(n, sizeof *contents);
    t->special = mu_calloc((size_t)spec->n_tokens + n, 1);
    mu_status status =
        list && contents && t->special ? MU_OK : mu_fail_memory(err, n * sizeof *list);
    for (uint32_t i = 0; i < n && status == MU_OK; i++) {
        struct mu_text buffers[2];
        list[i] = spec->added[i];
        contents[i] = list[i].content;
        list[i].id = added_id(t, list[i].content, spec->n_vocabulary, &next);
        t->special[list[i].id] = list[i].special;
        if (!list[i].normalized || list[i].as_spelled) continue;
        mu_text_init(&buffers[0], MU_SCRATCH_MAX);
        mu_text_init(&buffers[1], MU_SCRATCH_MAX);
        status = mu_normalize(&t->normalizer, list[i].content, buffers, &contents[i], err);
        bool good = status == MU_OK;
        if (good) contents[i] = keep(t, contents[i], &good);
        if (status == MU_OK && !good) status = mu_fail_memory(err, list[i].content.len);
        mu_text_fini(&buffers[0]);
        mu_text_fini(&buffers[1]);
    }
    if (status == MU_OK) status = mu_added_create(list, contents, n, false, &t->added_raw, err);
    if (status == MU_OK)
        status = mu_added_create(list, contents, n, true, &t->added_normalized, err);
    mu_free(list);
    mu_free(contents);
    return status;
}

static mu_status make_affixes(struct mu_tokenizer *t, const struct mu_tokenizer_spec *spec,
                              struct mu_err *err)
{
    memcpy(t->prefix, spec->prefix, sizeof t->prefix);
    memcpy(t->suffix, spec->suffix, sizeof t->suffix);
    t->n_prefix = spec->n_prefix;
    t->n_suffix = spec->n_suffix;
    bool good = true;
    for (unsigned i = 0; i < t->n_prefix; i++)
        good &= t->prefix[i] < t->vocabulary.n_tokens;
    for (unsigned i = 0; i < t->n_suffix; i++)
        good &= t->suffix[i] < t->vocabulary.n_tokens;
    if (good) return MU_OK;
    mu_status status = mu_fail(err, MU_E_INPUT, "a special token's id is out of range");
    mu_err_where(err, "%s, post_processor", spec->source);
    return status;
}

static mu_status make_model(struct mu_tokenizer *t, const struct mu_tokenizer_spec *spec,
                            struct mu_err *err)
{
    uint32_t unknown = spec->unknown;
    if (spec->unknown_token.len > 0) {
        unknown = mu_vocabulary_find(&t->vocabulary, spec->unknown_token);
    } else if (unknown != MU_TOKEN_NONE && unknown >= spec->n_tokens) {
        mu_status status = mu_fail(err, MU_E_INPUT, "the unknown token's id is out of range");
        mu_err_where(err, "%s, model", spec->source);
        return status;
    }
    if (spec->kind == MU_TOKENIZER_UNIGRAM)
        return mu_unigram_create(spec, &t->vocabulary, unknown, &t->unigram, err);
    return mu_bpe_create(spec, &t->vocabulary, t->byte_level, unknown, &t->bpe, err);
}

static mu_status make(struct mu_tokenizer *t, const struct mu_tokenizer_spec *spec,
                      struct mu_err *err)
{
    t->arena = mu_arena_create(ARENA_BYTES_MAX);
    if (!t->arena || !mu_char_table()) return mu_fail_memory(err, sizeof *t);
    MU_TRY(mu_vocabulary_init(&t->vocabulary, spec, err));
    MU_TRY(make_normalizer(t, spec, err));
    MU_TRY(make_pretokenizer(t, spec, err));
    MU_TRY(make_decoder(t, spec, err));
    /* Before the added tokens come in: the model does not know those. */
    MU_TRY(make_model(t, spec, err));
    MU_TRY(make_added(t, spec, err));
    return make_affixes(t, spec, err);
}

mu_status mu_tokenizer_create(const struct mu_tokenizer_spec *spec, struct mu_tokenizer **out,
                              struct mu_err *err)
{
    struct mu_tokenizer *t = mu_calloc(1, sizeof *t);
    if (!t) return mu_fail_memory(err, sizeof *t);
    (void)pthread_mutex_init(&t->lock, NULL);
    mu_status status = make(t, spec, err);
    if (status == MU_OK)
        *out = t;
    else
        mu_tokenizer_destroy(t);
    return status;
}

mu_status mu_tokenizer_open(const struct mu_model_file *file, struct mu_tokenizer **out,
                            struct mu_err *err)
{
    struct mu_tokenizer_spec *spec;
    MU_TRY(mu_tokenizer_spec_read(file, &spec, err));
    mu_status status = mu_tokenizer_create(spec, out, err);
    mu_tokenizer_spec_destroy(spec);
    return status;
}

void mu_tokenizer_destroy(struct mu_tokenizer *t)
{
    if (!t) return;
    for (struct mu_encoder *e = t->resting, *next; e; e = next) {
        next = e->next;
        encoder_destroy(e);
    }
    for (unsigned i = 0; i < t->normalizer.n; i++) {
        mu_matcher_fini(&t->normalizer.steps[i].matcher);
        mu_added_destroy(t->normalizer.steps[i].verbatim);
    }
    for (unsigned i = 0; i < t->pre.n; i++)
        mu_matcher_fini(&t->pre.steps[i].matcher);
    mu_bpe_destroy(t->bpe);
    mu_unigram_destroy(t->unigram);
    mu_added_destroy(t->added_raw);
    mu_added_destroy(t->added_normalized);
    mu_vocabulary_fini(&t->vocabulary);
    mu_free(t->special);
    mu_arena_destroy(t->arena);
    (void)pthread_mutex_destroy(&t->lock);
    mu_free(t);
}

/* ---- Tokens -------------------------------------------------------------------------------- */

uint32_t mu_tokenizer_size(const struct mu_tokenizer *t)
{
    return t->vocabulary.n_tokens;
}

struct mu_str mu_tokenizer_token(const struct mu_tokenizer *t, uint32_t id)
{
    bool exists = id < t->vocabulary.n_tokens && t->vocabulary.tokens[id].p;
    return exists ? t->vocabulary.tokens[id] : (struct mu_str){"", 0};
}

bool mu_tokenizer_find(const struct mu_tokenizer *t, struct mu_str token, uint32_t *id)
{
    uint32_t found = mu_vocabulary_find(&t->vocabulary, token);
    if (found == MU_TOKEN_NONE) return false;
    *id = found;
    return true;
}

bool mu_tokenizer_is_special(const struct mu_tokenizer *t, uint32_t id)
{
    return id < t->vocabulary.n_tokens && t->special[id];
}

/* ---- Encoding ------------------------------------------------------------------------------ */

/* One call of mu_tokenizer_encode. */
struct job {
    const struct mu_tokenizer *t;
    struct mu_encoder *e;
    unsigned flags;
    struct mu_ids *out;
    struct mu_err *err;
};

static mu_status no_memory(struct job *j)
{
    return mu_fail_memory(j->err, j->out->n * sizeof *j->out->p);
}

static bool add_id(struct job *j, uint32_t id)
{
    if (!mu_ids_reserve(j->out, 1)) return false;
    j->out->p[j->out->n++] = id;
    return true;
}

/* The common case, without lists: scan a piece, encode it. */
static mu_status encode_scanned(struct job *j, struct mu_str text)
{
    const struct mu_char_table *table = mu_char_table();
    const uint8_t *p = (const uint8_t *)text.p, *end = p + text.len;
    while (p < end) {
        const uint8_t *q = mu_scan_piece(j->t->pre.only, table, p, end);
        MU_ASSERT(q > p);
        struct mu_str piece = {(const char *)p, (size_t)(q - p)};
        if (!mu_bpe_encode(j->t->bpe, j->e->bpe, piece, (size_t)(end - p), j->out))
            return no_memory(j);
        p = q;
    }
    return MU_OK;
}

/* Where no token goes across the beginning of a word, words may be encoded alone. */
static mu_status encode_words(struct job *j, struct mu_str text)
{
    const char *p = text.p, *end = text.p + text.len;
    while (p < end) {
        const char *q = p;
        /* The word's own spaces, then everything up to the next space. */
        while (end - q >= 3 && memcmp(q, "\xe2\x96\x81", 3) == 0)
            q += 3;
        while (q < end && !(*q == '\xe2' && end - q >= 3 && memcmp(q, "\xe2\x96\x81", 3) == 0))
            q++;
        struct mu_str piece = {p, (size_t)(q - p)};
        if (!mu_bpe_encode(j->t->bpe, j->e->bpe, piece, (size_t)(end - p), j->out))
            return no_memory(j);
        p = q;
    }
    return MU_OK;
}

/* Normalised text without added tokens. */
static mu_status encode_plain(struct job *j, struct mu_str text, bool at_start)
{
    const struct mu_tokenizer *t = j->t;
    const struct mu_pieces *pieces;
    if (text.len == 0) return MU_OK;
    if (t->bpe && t->byte_level && t->pre.only) return encode_scanned(j, text);
    if (t->bpe && t->pre.n == 0 && mu_bpe_cuts_at_space(t->bpe)) return encode_words(j, text);
    MU_TRY(mu_pretokenize(&t->pre, text, at_start, &j->e->pre, &text, &pieces, j->err));
    for (size_t i = 0; i < pieces->n; i++) {
        size_t begin = pieces->p[i].begin;
        struct mu_str piece = {text.p + begin, pieces->p[i].end - begin};
        if (piece.len == 0) continue;
        bool good = t->bpe ? mu_bpe_encode(t->bpe, j->e->bpe, piece, text.len - begin, j->out)
                           : mu_unigram_encode(t->unigram, piece, j->out);
        if (!good) return no_memory(j);
    }
    return MU_OK;
}

typedef mu_status encode_part(struct job *j, struct mu_str text, bool at_start);

/* Calls `encode` for what lies between the matches of `set`. */
static mu_status encode_around(struct job *j, const struct mu_added_set *set, struct mu_str text,
                               bool at_start, encode_part *encode)
{
    size_t at = 0, from = 0;
    struct mu_added_match m;
    bool plain = j->flags & MU_ENCODE_PLAIN_SPECIAL;
    while (set && mu_added_next(set, text, &from, at, plain, &m)) {
        /* White space that the match before took may reach behind the beginning of this one. */
        if (m.begin > at)
            MU_TRY(encode(j, (struct mu_str){text.p + at, m.begin - at}, at_start && at == 0));
        if (!add_id(j, m.id)) return no_memory(j);
        at = MU_MAX(m.end, at);
    }
    if (at == text.len) return MU_OK;
    return encode(j, (struct mu_str){text.p + at, text.len - at}, at_start && at == 0);
}

static mu_status encode_section(struct job *j, struct mu_str text, bool at_start)
{
    MU_TRY(mu_normalize(&j->t->normalizer, text, j->e->normal, &text, j->err));
    return encode_around(j, j->t->added_normalized, text, at_start, encode_plain);
}

static mu_status encode_all(struct job *j, struct mu_str text)
{
    const struct mu_tokenizer *t = j->t;
    bool complete = j->flags & MU_ENCODE_ADD_SPECIAL;
    if (!mu_utf8_valid(text)) {
        mu_text_clear(&j->e->repaired);
        mu_utf8_add_repaired(&j->e->repaired, text);
        MU_TRY(mu_text_status(&j->e->repaired, j->err));
        text = (struct mu_str){j->e->repaired.p, j->e->repaired.len};
    }
    for (unsigned i = 0; complete && i < t->n_prefix; i++)
        if (!add_id(j, t->prefix[i])) return no_memory(j);
    MU_TRY(encode_around(j, t->added_raw, text, true, encode_section));
    for (unsigned i = 0; complete && i < t->n_suffix; i++)
        if (!add_id(j, t->suffix[i])) return no_memory(j);
    return MU_OK;
}

mu_status mu_tokenizer_encode(const struct mu_tokenizer *t, struct mu_str text, unsigned flags,
                              struct mu_ids *out, struct mu_err *err)
{
    /* The list of resting encoders is the one thing that encoding changes. */
    struct mu_tokenizer *owner = (struct mu_tokenizer *)(uintptr_t)t;
    if (text.len > MU_ENCODE_BYTES_MAX)
        return mu_fail(err, MU_E_INPUT, "the text is longer than 512 MiB");
    struct mu_encoder *e = encoder_take(owner);
    if (!e) return mu_fail_memory(err, sizeof *e);
    size_t before = out->n;
    struct job j = {t, e, flags, out, err};
    mu_status status = encode_all(&j, text);
    if (status != MU_OK) out->n = before;
    encoder_rest(owner, e);
    return status;
}
