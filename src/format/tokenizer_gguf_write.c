/*
 * A tokenizer spec -> tokenizer.ggml.* metadata. GGUF tells the steps of a tokenizer by name only
 * (tokenizer_presets.c), so they are compared with what each name stands for. Knows nothing of what
 * the steps do. Called while a GGUF file is declared.
 */
#include "format/tokenizer_int.h"

#define NOTE_SHOWN 60

struct writer {
    struct mu_gguf_out *out;
    const struct mu_tokenizer_spec *spec;
    struct mu_arena *arena; /* of the spec: tables live as long as it */
    struct mu_str *tokens;
    int32_t *types;
    float *scores;
    uint32_t n;            /* tokens to write */
    struct mu_text *notes; /* what GGUF cannot say, a line each */
    struct mu_err *err;
};

static struct mu_str token_name(const void *items, uint64_t i)
{
    const struct mu_str *tokens = items;
    return tokens[i].p ? tokens[i] : MU_STR("");
}

static bool is_byte_token(struct mu_str s)
{
    return s.len == 6 && memcmp(s.p, "<0x", 3) == 0 && s.p[5] == '>';
}

/* ---- Tokens and their types ---------------------------------------------------------------- */

/* The rows of the embedding that have no token get names, as every id must have one. */
static mu_status pad_tokens(struct writer *w)
{
    for (uint32_t i = 0; i < w->n; i++) {
        struct mu_text name;
        if (w->tokens[i].p) continue;
        mu_text_init(&name, 32);
        mu_text_printf(&name, "[PAD%u]", i);
        const char *p = mu_arena_strndup(w->arena, mu_text_get(&name), name.len);
        w->tokens[i] = (struct mu_str){p, name.len};
        w->types[i] = MU_GGUF_TOKEN_UNUSED;
        mu_text_fini(&name);
        if (!p) return mu_fail_memory(w->err, 32);
    }
    return MU_OK;
}

static void add_extra(struct writer *w, const struct mu_added_token *t)
{
    if (t->id >= w->n) {
        mu_text_printf(w->notes, "token '%.*s' has an id past the vocabulary and is left out\n",
                       (int)MU_MIN(t->content.len, NOTE_SHOWN), t->content.p);
        return;
    }
    w->tokens[t->id] = t->content;
    w->types[t->id] = t->special ? MU_GGUF_TOKEN_CONTROL : MU_GGUF_TOKEN_USER;
    if (t->lstrip || t->rstrip || t->single_word)
        mu_text_printf(w->notes, "token '%.*s' no longer minds the white space or word around it\n",
                       (int)MU_MIN(t->content.len, NOTE_SHOWN), t->content.p);
}

static mu_status add_tokens(struct writer *w, uint32_t vocab)
{
    const struct mu_tokenizer_spec *spec = w->spec;
    w->n = MU_MAX(vocab, spec->n_tokens);
    w->tokens = mu_arena_alloc(w->arena, w->n, sizeof *w->tokens);
    w->types = mu_arena_alloc(w->arena, w->n, sizeof *w->types);
    if (!w->tokens || !w->types) return mu_fail_memory(w->err, w->n * sizeof *w->tokens);
    for (uint32_t i = 0; i < w->n; i++) {
        bool byte = i < spec->n_tokens && spec->byte_fallback && is_byte_token(spec->tokens[i]);
        w->tokens[i] = i < spec->n_tokens ? spec->tokens[i] : (struct mu_str){0};
        w->types[i] = byte ? MU_GGUF_TOKEN_BYTE : MU_GGUF_TOKEN_NORMAL;
    }
    for (uint32_t i = 0; i < spec->n_verbatim; i++)
        w->types[spec->verbatim[i]] = MU_GGUF_TOKEN_USER;
    for (uint32_t i = 0; i < spec->n_added; i++)
        add_extra(w, &spec->added[i]);
    MU_TRY(pad_tokens(w));
    uint32_t unknown = spec->unknown;
    for (uint32_t i = 0; i < w->n && spec->unknown_token.len > 0; i++)
        if (mu_str_equal(w->tokens[i], spec->unknown_token)) unknown = i;
    if (unknown < w->n) {
        w->types[unknown] = MU_GGUF_TOKEN_UNKNOWN;
        mu_gguf_out_u32(w->out, "tokenizer.ggml.unknown_token_id", unknown);
    }
    mu_gguf_out_strings(w->out, "tokenizer.ggml.tokens", w->tokens, w->n);
    mu_gguf_out_i32s(w->out, "tokenizer.ggml.token_type", w->types, w->n);
    return MU_OK;
}

/* ---- Merges and scores --------------------------------------------------------------------- */

static mu_status add_merges(struct writer *w)
{
    const struct mu_tokenizer_spec *spec = w->spec;
    struct mu_str *lines = mu_arena_alloc(w->arena, spec->n_merges, sizeof *lines);
    if (!lines) return mu_fail_memory(w->err, spec->n_merges * sizeof *lines);
    for (uint32_t i = 0; i < spec->n_merges; i++) {
        const struct mu_merge *m = &spec->merges[i];
        size_t len = m->left.len + 1 + m->right.len;
        char *p = mu_arena_alloc(w->arena, len, 1);
        if (!p) return mu_fail_memory(w->err, len);
        memcpy(p, m->left.p, m->left.len);
        p[m->left.len] = ' ';
        memcpy(p + m->left.len + 1, m->right.p, m->right.len);
        lines[i] = (struct mu_str){p, len};
    }
    mu_gguf_out_strings(w->out, "tokenizer.ggml.merges", lines, spec->n_merges);
    return MU_OK;
}

/* In how many ways two tokens make up this one. */
static uint32_t n_halvings(const struct writer *w, const struct mu_name_index *index,
                           struct mu_str token)
{
    uint32_t n = 0;
    for (size_t cut = 1; cut < token.len; cut++)
        n += mu_name_index_find(index, w->tokens, token_name, (struct mu_str){token.p, cut}) !=
                 UINT64_MAX &&
             mu_name_index_find(index, w->tokens, token_name,
                                (struct mu_str){token.p + cut, token.len - cut}) != UINT64_MAX;
    return n;
}

/*
 * SentencePiece has scores, no merges: any two neighbours that make up a token merge, best score
 * first. Merges say the same when all merges into one token stand together and none is missing.
 */
static mu_status scores_from_merges(struct writer *w, bool *same)
{
    const struct mu_tokenizer_spec *spec = w->spec;
    struct mu_name_index index;
    uint32_t *missing = mu_arena_alloc(w->arena, w->n, sizeof *missing);
    if (!missing) return mu_fail_memory(w->err, w->n * sizeof *missing);
    MU_TRY(mu_name_index_build(&index, w->arena, w->tokens, w->n, token_name, w->err));
    for (uint32_t i = 0; i < w->n; i++) {
        w->scores[i] = -(float)(spec->n_merges + 1);
        missing[i] = w->types[i] == MU_GGUF_TOKEN_NORMAL ? n_halvings(w, &index, w->tokens[i]) : 0;
    }
    uint64_t before = UINT64_MAX;
    for (uint32_t r = 0; r < spec->n_merges; r++) {
        const struct mu_merge *m = &spec->merges[r];
        char whole[512];
        size_t len = m->left.len + m->right.len;
        if (len > sizeof whole) {
            *same = false;
            continue;
        }
        memcpy(whole, m->left.p, m->left.len);
        memcpy(whole + m->left.len, m->right.p, m->right.len);
        uint64_t id =
            mu_name_index_find(&index, w->tokens, token_name, (struct mu_str){whole, len});
        if (id == UINT64_MAX) continue;
        bool first = w->scores[id] < -(float)spec->n_merges;
        *same &= first || id == before;
        if (first) w->scores[id] = -(float)r;
        missing[id] -= missing[id] > 0;
        before = id;
    }
    for (uint32_t i = 0; i < w->n; i++)
        *same &= missing[i] == 0;
    return MU_OK;
}

static mu_status add_scores(struct writer *w)
{
    const struct mu_tokenizer_spec *spec = w->spec;
    bool same = true;
    w->scores = mu_arena_alloc(w->arena, w->n, sizeof *w->scores);
    if (!w->scores) return mu_fail_memory(w->err, w->n * sizeof *w->scores);
    if (spec->kind == MU_TOKENIZER_BPE) {
        MU_TRY(scores_from_merges(w, &same));
    } else {
        for (uint32_t i = 0; i < spec->n_tokens; i++)
            w->scores[i] = (float)spec->scores[i];
    }
    mu_gguf_out_f32s(w->out, "tokenizer.ggml.scores", w->scores, w->n);
    if (same) return MU_OK;
    mu_text_str(w->notes, "its merges are not those of SentencePiece: they are written beside the "
                          "scores, but readers that know only scores may cut words otherwise\n");
    return add_merges(w);
}

static void add_normalizer(struct mu_gguf_out *out, const struct mu_tokenizer_step *step)
{
    mu_gguf_out_bool(out, "tokenizer.ggml.remove_extra_whitespaces", step->squeeze);
    if (step->content.len > 0)
        mu_gguf_out_u8s(out, "tokenizer.ggml.precompiled_charsmap", step->content.p,
                        step->content.len);
}

/* ---- What goes around a text --------------------------------------------------------------- */

static void add_affix(struct writer *w, const char *flag, const char *key, const uint32_t *ids,
                      unsigned n)
{
    mu_gguf_out_bool(w->out, flag, n > 0);
    if (n > 0) mu_gguf_out_u32(w->out, key, ids[0]);
    if (n > 1) mu_text_str(w->notes, "more than one special token around a text is lost\n");
}

mu_status mu_gguf_out_tokenizer(struct mu_gguf_out *out, const struct mu_tokenizer_spec *spec,
                                uint32_t vocab, struct mu_text *notes, struct mu_err *err)
{
    struct writer w = {.out = out, .spec = spec, .arena = spec->arena, .notes = notes, .err = err};
    struct mu_tokenizer_names names;
    if (vocab > 0 && spec->n_tokens > vocab)
        return mu_fail(err, MU_E_UNSUPPORTED, "it has %u tokens, the model %u", spec->n_tokens,
                       vocab);
    if (!mu_tokenizer_preset_match(spec, &names))
        return mu_fail(err, MU_E_UNSUPPORTED, "GGUF has no name for its way to cut and write text");
    mu_gguf_out_string(out, "tokenizer.ggml.model", mu_str(names.model));
    mu_gguf_out_string(out, "tokenizer.ggml.pre", names.pre);
    bool unigram = spec->kind == MU_TOKENIZER_UNIGRAM;
    bool has_scores = unigram || strcmp(names.model, "llama") == 0;
    if (has_scores) mu_gguf_out_bool(out, "tokenizer.ggml.add_space_prefix", names.space_prefix);
    if (unigram) add_normalizer(out, spec->normalizer.items);
    if (names.not_quite)
        mu_text_printf(notes, "'%.*s' is the nearest name that GGUF has for it: %s\n",
                       (int)names.pre.len, names.pre.p, names.not_quite);
    add_affix(&w, "tokenizer.ggml.add_bos_token", "tokenizer.ggml.bos_token_id", spec->prefix,
              spec->n_prefix);
    add_affix(&w, "tokenizer.ggml.add_eos_token", "tokenizer.ggml.eos_token_id", spec->suffix,
              spec->n_suffix);
    MU_TRY(add_tokens(&w, vocab));
    return has_scores ? add_scores(&w) : add_merges(&w);
}

void mu_gguf_out_no_tokenizer(struct mu_gguf_out *out)
{
    mu_gguf_out_string(out, "tokenizer.ggml.model", MU_STR(MU_GGUF_NO_TOKENIZER));
}
