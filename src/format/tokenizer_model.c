/*
 * tokenizer.model, SentencePiece's protobuf -> a checked tokenizer spec. Pieces stay where they lie
 * in the file; the normaliser is one step (text/sentencepiece.c does it). Knows nothing of what the
 * step does.
 */
#include "format/tokenizer_int.h"

/* ---- Protobuf ------------------------------------------------------------------------------ */

struct field {
    uint32_t number;
    uint64_t value;        /* of a number, as its bits lie */
    struct mu_cursor body; /* of a text or message */
};

static uint64_t read_varint(struct mu_cursor *c)
{
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        uint8_t byte = mu_cursor_u8(c);
        value |= (uint64_t)(byte & 127) << shift;
        if (!(byte & 128)) return value;
    }
    c->failed = true; /* more than ten bytes */
    return 0;
}

/* False at the end, and when what comes is no field: then the cursor has failed. */
static bool next_field(struct mu_cursor *c, struct field *f)
{
    if (mu_cursor_left(c) == 0) return false;
    uint64_t tag = read_varint(c), n;
    *f = (struct field){.number = (uint32_t)MU_MIN(tag >> 3, UINT32_MAX)};
    switch (tag & 7) {
    case 0:
        f->value = read_varint(c);
        break;
    case 1:
        f->value = mu_cursor_u64(c);
        break;
    case 2:
        n = read_varint(c);
        f->body = mu_cursor_over(mu_cursor_take(c, n), n);
        break;
    case 5:
        f->value = mu_cursor_u32(c);
        break;
    default:
        c->failed = true;
    }
    return !c->failed;
}

/* ---- The model ----------------------------------------------------------------------------- */

enum { MODEL_PIECE = 1, MODEL_TRAINER = 2, MODEL_NORMALIZER = 3 };
enum { PIECE_TEXT = 1, PIECE_SCORE = 2, PIECE_TYPE = 3 };
enum {
    TRAINER_KIND = 3,
    TRAINER_SPACE_BEHIND = 24,
    TRAINER_BYTE_FALLBACK = 35,
    TRAINER_UNKNOWN = 40,
    TRAINER_BOS = 41,
    TRAINER_EOS = 42
};
enum { NORMALIZER_MAP = 2, NORMALIZER_PREFIX = 3, NORMALIZER_SQUEEZE = 4, NORMALIZER_ESCAPE = 5 };
enum { KIND_UNIGRAM = 1, KIND_BPE = 2 };

struct reader {
    struct mu_str bytes;
    const char *name;
    struct mu_tokenizer_spec *spec;
    struct mu_tokenizer_step step; /* the normaliser */
    uint64_t kind, unknown, bos, eos;
    struct mu_err *err;
};

static mu_status fault(struct reader *r, const struct mu_cursor *c, mu_status code,
                       const char *what)
{
    mu_status status = mu_fail(r->err, code, "%s", what);
    mu_err_where(r->err, "%s, byte %llu", r->name,
                 (unsigned long long)(c->bytes - (const uint8_t *)r->bytes.p) +
                     (unsigned long long)c->pos);
    return status;
}

static mu_status end_of(struct reader *r, const struct mu_cursor *c)
{
    return c->failed ? fault(r, c, MU_E_INPUT, "is not a SentencePiece model") : MU_OK;
}

static mu_status read_piece(struct reader *r, struct mu_cursor c)
{
    struct mu_tokenizer_spec *spec = r->spec;
    struct mu_str text = {0};
    float score = 0;
    uint64_t type = MU_GGUF_TOKEN_NORMAL; /* GGUF took its numbers from here */
    struct field f;
    while (next_field(&c, &f)) {
        if (f.number == PIECE_TEXT && f.body.bytes)
            text = (struct mu_str){(const char *)f.body.bytes, f.body.size};
        if (f.number == PIECE_SCORE) score = mu_f32_from_bits((uint32_t)f.value);
        if (f.number == PIECE_TYPE) type = f.value;
    }
    MU_TRY(end_of(r, &c));
    if (text.len == 0) return fault(r, &c, MU_E_INPUT, "has an empty piece");
    if (!(score >= -1e30f && score <= 1e30f))
        return fault(r, &c, MU_E_INPUT, "the score of a piece is not a finite number");
    uint32_t id = spec->n_tokens++;
    bool user = type == MU_GGUF_TOKEN_USER;
    spec->tokens[id] = text;
    spec->scores[id] = (double)score;
    spec->plain[id] = user || type == MU_GGUF_TOKEN_NORMAL || type == MU_GGUF_TOKEN_UNUSED;
    if (user) spec->verbatim[spec->n_verbatim++] = id;
    if (type == MU_GGUF_TOKEN_CONTROL || type == MU_GGUF_TOKEN_UNKNOWN)
        spec->added[spec->n_added++] =
            (struct mu_added_token){.content = text, .id = id, .special = true};
    return MU_OK;
}

static mu_status read_trainer(struct reader *r, struct mu_cursor c)
{
    struct field f;
    while (next_field(&c, &f)) {
        if (f.number == TRAINER_KIND) r->kind = f.value;
        if (f.number == TRAINER_SPACE_BEHIND) r->step.space_behind = f.value != 0;
        if (f.number == TRAINER_BYTE_FALLBACK) r->spec->byte_fallback = f.value != 0;
        if (f.number == TRAINER_UNKNOWN) r->unknown = f.value;
        if (f.number == TRAINER_BOS) r->bos = f.value;
        if (f.number == TRAINER_EOS) r->eos = f.value;
    }
    return end_of(r, &c);
}

static mu_status read_normalizer(struct reader *r, struct mu_cursor c)
{
    struct field f;
    while (next_field(&c, &f)) {
        if (f.number == NORMALIZER_MAP && f.body.bytes)
            r->step.content = (struct mu_str){(const char *)f.body.bytes, f.body.size};
        if (f.number == NORMALIZER_PREFIX)
            r->step.prepend = f.value ? MU_PREPEND_FIRST : MU_PREPEND_NEVER;
        if (f.number == NORMALIZER_SQUEEZE) r->step.squeeze = f.value != 0;
        if (f.number == NORMALIZER_ESCAPE) r->step.escape = f.value != 0;
    }
    MU_TRY(end_of(r, &c));
    if (r->step.content.len > 0 && !mu_charsmap_good(r->step.content))
        return fault(r, &c, MU_E_INPUT, "the normaliser's table is broken");
    return MU_OK;
}

/* How many pieces there are, for the tables; every field is looked at, so that a broken file is
 * found before. */
static mu_status count_pieces(struct reader *r, uint32_t *n)
{
    struct mu_cursor c = mu_cursor_over(r->bytes.p, r->bytes.len);
    struct field f;
    for (*n = 0; next_field(&c, &f);)
        *n += f.number == MODEL_PIECE;
    MU_TRY(end_of(r, &c));
    if (*n == 0 || *n > MU_TOKENS_MAX)
        return fault(r, &c, MU_E_INPUT, "has no pieces, or more than 2,097,152");
    return MU_OK;
}

static mu_status read_fields(struct reader *r)
{
    struct mu_tokenizer_spec *spec = r->spec;
    uint32_t n;
    MU_TRY(count_pieces(r, &n));
    spec->tokens = mu_calloc(n, sizeof *spec->tokens);
    spec->scores = mu_calloc(n, sizeof *spec->scores);
    spec->plain = mu_calloc(n, 1);
    spec->added = mu_arena_alloc(spec->arena, n, sizeof *spec->added);
    spec->verbatim = mu_arena_alloc(spec->arena, n, sizeof *spec->verbatim);
    if (!spec->tokens || !spec->scores || !spec->plain || !spec->added || !spec->verbatim)
        return mu_fail_memory(r->err, n * sizeof *spec->added);
    struct mu_cursor c = mu_cursor_over(r->bytes.p, r->bytes.len);
    struct field f;
    while (next_field(&c, &f)) {
        if (f.number == MODEL_PIECE) MU_TRY(read_piece(r, f.body));
        if (f.number == MODEL_TRAINER) MU_TRY(read_trainer(r, f.body));
        if (f.number == MODEL_NORMALIZER) MU_TRY(read_normalizer(r, f.body));
    }
    spec->n_vocabulary = spec->n_tokens;
    return MU_OK;
}

/* What users defined is found in the normalised text before anything is merged; for the unigram
 * model it gets a score that is hard to beat, the longer the harder, as SentencePiece has it. */
static void place_verbatim(struct mu_tokenizer_spec *spec)
{
    for (uint32_t i = 0; i < spec->n_verbatim; i++) {
        uint32_t id = spec->verbatim[i];
        if (spec->kind == MU_TOKENIZER_UNIGRAM)
            spec->scores[id] = 0.1 * (double)(spec->tokens[id].len - 1);
        else
            spec->added[spec->n_added++] = (struct mu_added_token){
                .content = spec->tokens[id], .id = id, .normalized = true, .as_spelled = true};
    }
}

mu_status mu_tokenizer_sentencepiece(struct mu_tokenizer_spec *spec,
                                     const struct mu_tokenizer_step *step, struct mu_err *err)
{
    bool one = step->prepend != MU_PREPEND_NEVER;
    struct mu_tokenizer_step *items = mu_arena_alloc(spec->arena, 1, sizeof *items);
    if (!items) return mu_fail_memory(err, sizeof *items);
    *items = *step;
    spec->normalizer = (struct mu_tokenizer_steps){items, 1};
    spec->decoder = mu_tokenizer_decoder_of_spaces(step->squeeze ? MU_SPACES_ALL
                                                   : one         ? MU_SPACES_ONE
                                                                 : MU_SPACES_NONE);
    spec->fuse_unknown = true;
    spec->sums_in_float = true;
    place_verbatim(spec);
    return MU_OK;
}

static mu_status finish(struct reader *r)
{
    struct mu_tokenizer_spec *spec = r->spec;
    if (r->kind != KIND_UNIGRAM && r->kind != KIND_BPE) {
        mu_status status =
            mu_fail(r->err, MU_E_UNSUPPORTED, "models of words or characters are not supported");
        mu_err_where(r->err, "%s", r->name);
        return status;
    }
    bool unigram = r->kind == KIND_UNIGRAM;
    spec->kind = unigram ? MU_TOKENIZER_UNIGRAM : MU_TOKENIZER_SPM;
    if (r->unknown < spec->n_tokens) spec->unknown = (uint32_t)r->unknown;
    /* As models of this kind are used; tokenizer_config.json may say otherwise. */
    if (!unigram && r->bos < spec->n_tokens) spec->prefix[spec->n_prefix++] = (uint32_t)r->bos;
    if (unigram && r->eos < spec->n_tokens) spec->suffix[spec->n_suffix++] = (uint32_t)r->eos;
    return mu_tokenizer_sentencepiece(spec, &r->step, r->err);
}

mu_status mu_tokenizer_spec_parse_model(struct mu_str bytes, const char *name,
                                        struct mu_tokenizer_spec **out, struct mu_err *err)
{
    struct mu_tokenizer_spec *spec = mu_tokenizer_spec_new(name, err);
    if (!spec) return MU_E_MEMORY;
    struct reader r = {.bytes = bytes,
                       .name = name,
                       .spec = spec,
                       .step = {.kind = MU_STEP_SENTENCEPIECE,
                                .prepend = MU_PREPEND_FIRST,
                                .squeeze = true,
                                .escape = true},
                       .kind = KIND_UNIGRAM,
                       .bos = 1,
                       .eos = 2,
                       .err = err};
    mu_status status = read_fields(&r);
    if (status == MU_OK) status = finish(&r);
    if (status == MU_OK)
        *out = spec;
    else
        mu_tokenizer_spec_destroy(spec);
    return status;
}
