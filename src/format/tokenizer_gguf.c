/*
 * GGUF metadata (tokenizer.ggml.*) -> a checked tokenizer spec. Vocabulary, types, scores and
 * merges are read where they lie in the mapping; the steps follow from the name of the
 * pre-tokenizer (tokenizer_presets.c). Knows nothing of what the steps do.
 */
#include "format/tokenizer_int.h"

#define NAME_SHOWN 60

struct reader {
    const struct mu_gguf *gguf;
    const char *path;
    struct mu_tokenizer_spec *spec;
    struct mu_str model, pre;
    struct mu_err *err;
};

static mu_status fault(struct reader *r, const char *key, mu_status code, const char *what)
{
    mu_status status = mu_fail(r->err, code, "%s", what);
    mu_err_where(r->err, "%s, key '%s'", r->path, key);
    return status;
}

static mu_status read_tokens(struct reader *r)
{
    static const char key[] = "tokenizer.ggml.tokens";
    struct mu_tokenizer_spec *spec = r->spec;
    const struct mu_gguf_value *v = mu_gguf_find(r->gguf, key);
    if (!v || !v->is_array || v->type != MU_GGUF_STRING || v->n == 0)
        return fault(r, key, MU_E_MISSING, "there is no vocabulary");
    if (v->n > MU_TOKENS_MAX) return fault(r, key, MU_E_INPUT, "has more than 2,097,152 tokens");
    spec->n_tokens = spec->n_vocabulary = (uint32_t)v->n;
    spec->tokens = mu_calloc(v->n, sizeof *spec->tokens);
    if (!spec->tokens) return mu_fail_memory(r->err, v->n * sizeof *spec->tokens);
    struct mu_cursor c = mu_cursor_over(v->bytes, v->n_bytes);
    for (uint64_t i = 0; i < v->n; i++)
        spec->tokens[i] = mu_gguf_next_string(&c);
    return MU_OK;
}

static mu_status read_merges(struct reader *r)
{
    static const char key[] = "tokenizer.ggml.merges";
    struct mu_tokenizer_spec *spec = r->spec;
    const struct mu_gguf_value *v = mu_gguf_find(r->gguf, key);
    if (!v || !v->is_array || v->type != MU_GGUF_STRING || v->n > UINT32_MAX)
        return fault(r, key, MU_E_INPUT, "there are no merges");
    spec->merges = mu_calloc(v->n, sizeof *spec->merges);
    if (!spec->merges) return mu_fail_memory(r->err, v->n * sizeof *spec->merges);
    struct mu_cursor c = mu_cursor_over(v->bytes, v->n_bytes);
    for (uint64_t i = 0; i < v->n; i++)
        if (!mu_merge_split(mu_gguf_next_string(&c), &spec->merges[spec->n_merges++]))
            return fault(r, key, MU_E_INPUT, "a merge is not two tokens with a space between");
    return MU_OK;
}

static mu_status read_scores(struct reader *r)
{
    static const char key[] = "tokenizer.ggml.scores";
    struct mu_tokenizer_spec *spec = r->spec;
    const struct mu_gguf_value *v = mu_gguf_find(r->gguf, key);
    if (!v || !v->is_array || v->type != MU_GGUF_F32 || v->n != spec->n_tokens)
        return fault(r, key, MU_E_INPUT, "there is no score for each token");
    spec->scores = mu_calloc(v->n, sizeof *spec->scores);
    if (!spec->scores) return mu_fail_memory(r->err, v->n * sizeof *spec->scores);
    for (uint64_t i = 0; i < v->n; i++) {
        float score;
        memcpy(&score, v->bytes + i * sizeof score, sizeof score);
        /* Not a number would make the order of merges depend on the order of comparisons. */
        if (!(score >= -1e30f && score <= 1e30f))
            return fault(r, key, MU_E_INPUT, "a score is not a finite number");
        spec->scores[i] = (double)score;
    }
    return MU_OK;
}

/* Control and user-defined tokens are found in the text as they stand; the rest of the types says
 * what the model may merge into. */
static mu_status read_types(struct reader *r)
{
    static const char key[] = "tokenizer.ggml.token_type";
    struct mu_tokenizer_spec *spec = r->spec;
    const struct mu_gguf_value *v = mu_gguf_find(r->gguf, key);
    if (!v) return MU_OK;
    if (!v->is_array || v->n != spec->n_tokens)
        return fault(r, key, MU_E_INPUT, "there is no type for each token");
    spec->plain = mu_calloc(v->n, 1);
    spec->added = mu_arena_alloc(spec->arena, v->n, sizeof *spec->added);
    spec->verbatim = mu_arena_alloc(spec->arena, v->n, sizeof *spec->verbatim);
    if (!spec->plain || !spec->added || !spec->verbatim)
        return mu_fail_memory(r->err, v->n * sizeof *spec->added);
    for (uint32_t i = 0; i < spec->n_tokens; i++) {
        uint64_t type;
        if (!mu_gguf_element_u64(v, i, &type))
            return fault(r, key, MU_E_INPUT, "a type is not a number");
        spec->plain[i] = type == MU_GGUF_TOKEN_NORMAL || type == MU_GGUF_TOKEN_USER ||
                         type == MU_GGUF_TOKEN_UNUSED;
        if (spec->kind == MU_TOKENIZER_UNIGRAM) {
            spec->byte_fallback |= type == MU_GGUF_TOKEN_BYTE;
            if (type == MU_GGUF_TOKEN_USER) {
                spec->verbatim[spec->n_verbatim++] = i;
                continue;
            }
        }
        bool found = type == MU_GGUF_TOKEN_CONTROL || type == MU_GGUF_TOKEN_USER ||
                     (type == MU_GGUF_TOKEN_UNKNOWN && i == spec->unknown);
        if (found && spec->tokens[i].len > 0)
            spec->added[spec->n_added++] = (struct mu_added_token){
                .content = spec->tokens[i], .id = i, .special = type != MU_GGUF_TOKEN_USER};
    }
    return MU_OK;
}

/* The unigram model has its normaliser told in full, as tokenizer.model does. */
static mu_status read_normalizer(struct reader *r)
{
    static const char key[] = "tokenizer.ggml.precompiled_charsmap";
    struct mu_tokenizer_step step = {.kind = MU_STEP_SENTENCEPIECE, .escape = true};
    bool space_prefix = false;
    (void)mu_gguf_bool(r->gguf, "tokenizer.ggml.add_space_prefix", &space_prefix);
    (void)mu_gguf_bool(r->gguf, "tokenizer.ggml.remove_extra_whitespaces", &step.squeeze);
    step.prepend = space_prefix ? MU_PREPEND_FIRST : MU_PREPEND_NEVER;
    const struct mu_gguf_value *v = mu_gguf_find(r->gguf, key);
    if (v) {
        if (!v->is_array || (v->type != MU_GGUF_U8 && v->type != MU_GGUF_I8))
            return fault(r, key, MU_E_INPUT, "is not an array of bytes");
        step.content = (struct mu_str){(const char *)v->bytes, v->n};
        if (v->n > 0 && !mu_charsmap_good(step.content))
            return fault(r, key, MU_E_INPUT, "the normaliser's table is broken");
    }
    return mu_tokenizer_sentencepiece(r->spec, &step, r->err);
}

static mu_status add_affix(struct reader *r, const char *key, uint32_t *ids, unsigned *n)
{
    uint64_t id;
    if (!mu_gguf_u64(r->gguf, key, &id)) return MU_OK;
    if (id >= r->spec->n_tokens) return fault(r, key, MU_E_INPUT, "the id is out of range");
    ids[(*n)++] = (uint32_t)id;
    return MU_OK;
}

static mu_status read_affixes(struct reader *r, bool add_bos)
{
    struct mu_tokenizer_spec *spec = r->spec;
    bool add_eos = spec->kind == MU_TOKENIZER_UNIGRAM;
    (void)mu_gguf_bool(r->gguf, "tokenizer.ggml.add_bos_token", &add_bos);
    (void)mu_gguf_bool(r->gguf, "tokenizer.ggml.add_eos_token", &add_eos);
    if (add_bos) MU_TRY(add_affix(r, "tokenizer.ggml.bos_token_id", spec->prefix, &spec->n_prefix));
    if (add_eos) MU_TRY(add_affix(r, "tokenizer.ggml.eos_token_id", spec->suffix, &spec->n_suffix));
    return MU_OK;
}

static mu_status read_unknown(struct reader *r)
{
    static const char key[] = "tokenizer.ggml.unknown_token_id";
    uint64_t id;
    if (!mu_gguf_u64(r->gguf, key, &id)) return MU_OK;
    if (id >= r->spec->n_tokens) return fault(r, key, MU_E_INPUT, "the id is out of range");
    r->spec->unknown = (uint32_t)id;
    return MU_OK;
}

/* Phi 3's special tokens take the white space behind them along, but for three; the files do not
 * say so. */
static void mark_phi3(struct reader *r)
{
    static const char *const others[] = {"<unk>", "<s>", "<|endoftext|>"};
    struct mu_str architecture;
    if (!mu_gguf_string(r->gguf, "general.architecture", &architecture) ||
        !mu_str_is(architecture, "phi3") || !mu_str_is(r->model, "llama"))
        return;
    for (uint32_t i = 0; i < r->spec->n_added; i++) {
        struct mu_added_token *t = &r->spec->added[i];
        t->rstrip = true;
        for (unsigned k = 0; k < MU_ARRAY_LEN(others); k++)
            if (mu_str_is(t->content, others[k])) t->rstrip = false;
    }
}

static mu_status use_preset(struct reader *r, bool *add_bos)
{
    struct mu_tokenizer_spec *spec = r->spec;
    const struct mu_tokenizer_preset *preset = mu_tokenizer_preset_find(r->model, r->pre);
    if (!preset) {
        struct mu_str kind = r->model, name = r->pre;
        mu_status status = mu_fail(
            r->err, MU_E_UNSUPPORTED, "the tokenizer '%.*s' with pre-tokenizer '%.*s' is not known",
            (int)MU_MIN(kind.len, NAME_SHOWN), kind.p, (int)MU_MIN(name.len, NAME_SHOWN), name.p);
        mu_err_where(r->err, "%s, keys 'tokenizer.ggml.model' and '.pre'", r->path);
        return status;
    }
    bool space_prefix = preset->space_prefix;
    (void)mu_gguf_bool(r->gguf, "tokenizer.ggml.add_space_prefix", &space_prefix);
    *add_bos = preset->add_bos;
    spec->kind = preset->kind;
    spec->ignore_merges = preset->ignore_merges;
    spec->byte_fallback = preset->byte_fallback;
    spec->fuse_unknown = preset->byte_fallback;
    spec->normalizer = preset->normalizer;
    spec->pre_tokenizer = preset->pre_tokenizer;
    spec->decoder = preset->decoder;
    /* The first step of a normalizer and the last of a decoder are the space's, where it has one.
     */
    if (preset->space_prefix && !space_prefix) {
        spec->normalizer.items++;
        spec->normalizer.n--;
        spec->decoder.n--;
    }
    return MU_OK;
}

mu_status mu_tokenizer_spec_from_gguf(const struct mu_gguf *gguf, const char *path,
                                      struct mu_tokenizer_spec *spec, struct mu_err *err)
{
    struct reader r = {gguf, path, spec, MU_STR(""), MU_STR("default"), err};
    bool add_bos = false;
    if (!mu_gguf_string(gguf, "tokenizer.ggml.model", &r.model) ||
        mu_str_is(r.model, MU_GGUF_NO_TOKENIZER))
        return fault(&r, "tokenizer.ggml.model", MU_E_MISSING, "there is no tokenizer");
    (void)mu_gguf_string(gguf, "tokenizer.ggml.pre", &r.pre);
    MU_TRY(use_preset(&r, &add_bos));
    MU_TRY(read_tokens(&r));
    MU_TRY(read_unknown(&r));
    /* Where merges stand beside scores, they say more. */
    if (spec->kind == MU_TOKENIZER_SPM && mu_gguf_find(gguf, "tokenizer.ggml.merges"))
        spec->kind = MU_TOKENIZER_BPE;
    if (spec->kind == MU_TOKENIZER_BPE)
        MU_TRY(read_merges(&r));
    else
        MU_TRY(read_scores(&r));
    MU_TRY(read_types(&r));
    if (spec->kind == MU_TOKENIZER_UNIGRAM) MU_TRY(read_normalizer(&r));
    mark_phi3(&r);
    return read_affixes(&r, add_bos);
}
