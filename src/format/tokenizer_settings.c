/*
 * The part of tokenizer.json that is not vocabulary: normalizer, pre-tokenizer, post-processor,
 * decoder, added tokens and options of the model, from a document into the steps of a spec. Steps
 * with several names or built-in patterns are told in one spelling here.
 */
#include "format/tokenizer_int.h"

#include "base/number.h"
#include "base/utf8.h"

#define STEPS_MAX        64
#define NESTING_MAX      8
#define ADDED_MAX        (1u << 20)
#define CONFIG_ADDED_MAX 16384 /* each is looked for among the pieces */

/* What the library that publishes these files calls numeric, a word, punctuation. */
#define PATTERN_DIGIT       "\\p{N}"
#define PATTERN_DIGITS      "\\p{N}+"
#define PATTERN_SPACES      "\\s+"
#define PATTERN_PUNCTUATION "[!-/:-@\\[-`{-~\\p{P}]"
#define PATTERN_WORDS       "[\\p{L}\\p{M}\\p{N}\\p{Pc}]+|[^\\p{L}\\p{M}\\p{N}\\p{Pc}\\s]+"

enum stage { STAGE_NORMALIZER, STAGE_PRE_TOKENIZER, STAGE_DECODER };

struct reader {
    struct mu_tokenizer_spec *spec;
    const char *name;  /* of the file */
    const char *place; /* "pre_tokenizer" */
    struct mu_tokenizer_step steps[STEPS_MAX];
    unsigned n_steps;
    struct mu_err *err;
};

/* `name`: what the file said, or NULL. */
static mu_status fault(struct reader *r, mu_status code, const char *what, const char *name)
{
    mu_status status =
        name ? mu_fail(r->err, code, "%s: '%.60s'", what, name) : mu_fail(r->err, code, "%s", what);
    mu_err_where(r->err, "%s, %s", r->name, r->place);
    return status;
}

static bool flag(const json_t *object, const char *key, bool otherwise)
{
    const json_t *value = json_object_get(object, key);
    return json_is_boolean(value) ? json_is_true(value) : otherwise;
}

static const char *word(const json_t *object, const char *key)
{
    const char *s = json_string_value(json_object_get(object, key));
    return s ? s : "";
}

static uint32_t small_number(const json_t *object, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(object, key));
    return n > 0 && n < UINT32_MAX ? (uint32_t)n : 0;
}

/* Copies a string of the document, which goes away, into the spec. */
static mu_status keep(struct reader *r, const json_t *value, struct mu_str *out)
{
    if (!json_is_string(value)) return fault(r, MU_E_INPUT, "a text is missing", NULL);
    size_t len = json_string_length(value);
    const char *p = mu_arena_strndup(r->spec->arena, json_string_value(value), len);
    if (!p) return mu_fail_memory(r->err, len);
    *out = (struct mu_str){p, len};
    return MU_OK;
}

static mu_status add_step(struct reader *r, struct mu_tokenizer_step step)
{
    if (r->n_steps == STEPS_MAX) return fault(r, MU_E_INPUT, "has too many steps", NULL);
    r->steps[r->n_steps++] = step;
    return MU_OK;
}

static mu_status add_split(struct reader *r, const char *pattern, enum mu_split_behavior behavior)
{
    return add_step(r, (struct mu_tokenizer_step){.kind = MU_STEP_SPLIT,
                                                  .pattern = mu_str(pattern),
                                                  .is_regex = true,
                                                  .behavior = behavior});
}

/* {"String": ...} or {"Regex": ...}. */
static mu_status read_pattern(struct reader *r, const json_t *o, struct mu_tokenizer_step *step)
{
    const json_t *pattern = json_object_get(o, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    step->is_regex = regex != NULL;
    MU_TRY(keep(r, regex ? regex : json_object_get(pattern, "String"), &step->pattern));
    if (step->pattern.len == 0) return fault(r, MU_E_INPUT, "has an empty pattern", NULL);
    return MU_OK;
}

static mu_status read_behavior(struct reader *r, const char *name, enum mu_split_behavior *out)
{
    static const char *const names[] = {
        [MU_SPLIT_ISOLATED] = "Isolated",
        [MU_SPLIT_REMOVED] = "Removed",
        [MU_SPLIT_MERGED_WITH_PREVIOUS] = "MergedWithPrevious",
        [MU_SPLIT_MERGED_WITH_NEXT] = "MergedWithNext",
        [MU_SPLIT_CONTIGUOUS] = "Contiguous",
    };
    for (unsigned i = 0; i < MU_ARRAY_LEN(names); i++) {
        if (strcmp(name, names[i]) == 0) {
            *out = (enum mu_split_behavior)i;
            return MU_OK;
        }
    }
    return fault(r, MU_E_INPUT, "unknown behavior", name);
}

/* ---- One function a type ------------------------------------------------------------------- */

typedef mu_status read_step(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind);

static mu_status read_bare(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind)
{
    (void)o;
    return add_step(r, (struct mu_tokenizer_step){.kind = kind});
}

static mu_status read_prepend(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind)
{
    struct mu_tokenizer_step step = {.kind = kind};
    MU_TRY(keep(r, json_object_get(o, "prepend"), &step.content));
    return add_step(r, step);
}

static mu_status read_replace(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind)
{
    struct mu_tokenizer_step step = {.kind = kind};
    MU_TRY(read_pattern(r, o, &step));
    MU_TRY(keep(r, json_object_get(o, "content"), &step.content));
    return add_step(r, step);
}

static mu_status read_strip(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind)
{
    return add_step(r, (struct mu_tokenizer_step){.kind = kind,
                                                  .start = flag(o, "strip_left", true),
                                                  .stop = flag(o, "strip_right", true)});
}

static mu_status read_strip_content(struct reader *r, const json_t *o,
                                    enum mu_tokenizer_step_kind kind)
{
    struct mu_tokenizer_step step = {
        .kind = kind, .start = small_number(o, "start"), .stop = small_number(o, "stop")};
    MU_TRY(keep(r, json_object_get(o, "content"), &step.content));
    if (step.content.len == 0) return fault(r, MU_E_INPUT, "strips an empty text", NULL);
    return add_step(r, step);
}

static mu_status read_byte_level(struct reader *r, const json_t *o,
                                 enum mu_tokenizer_step_kind kind)
{
    if (flag(o, "add_prefix_space", true))
        MU_TRY(add_step(r, (struct mu_tokenizer_step){.kind = MU_STEP_PREFIX_SPACE}));
    if (flag(o, "use_regex", true)) MU_TRY(add_split(r, MU_PATTERN_GPT2, MU_SPLIT_ISOLATED));
    return add_step(r, (struct mu_tokenizer_step){.kind = kind});
}

static mu_status read_split(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind)
{
    struct mu_tokenizer_step step = {.kind = kind, .invert = flag(o, "invert", false)};
    MU_TRY(read_pattern(r, o, &step));
    MU_TRY(read_behavior(r, word(o, "behavior"), &step.behavior));
    return add_step(r, step);
}

static mu_status read_delimiter(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind)
{
    struct mu_tokenizer_step step = {.kind = kind, .behavior = MU_SPLIT_REMOVED};
    MU_TRY(keep(r, json_object_get(o, "delimiter"), &step.pattern));
    if (step.pattern.len == 0) return fault(r, MU_E_INPUT, "has an empty delimiter", NULL);
    return add_step(r, step);
}

static mu_status read_digits(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind)
{
    (void)kind;
    return add_split(r, flag(o, "individual_digits", false) ? PATTERN_DIGIT : PATTERN_DIGITS,
                     MU_SPLIT_ISOLATED);
}

static mu_status read_punctuation(struct reader *r, const json_t *o,
                                  enum mu_tokenizer_step_kind kind)
{
    enum mu_split_behavior behavior = MU_SPLIT_ISOLATED;
    (void)kind;
    if (json_object_get(o, "behavior")) MU_TRY(read_behavior(r, word(o, "behavior"), &behavior));
    return add_split(r, PATTERN_PUNCTUATION, behavior);
}

static mu_status read_spaces(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind)
{
    (void)o, (void)kind;
    return add_split(r, PATTERN_SPACES, MU_SPLIT_REMOVED);
}

static mu_status read_words(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind)
{
    (void)o, (void)kind;
    MU_TRY(add_split(r, PATTERN_WORDS, MU_SPLIT_REMOVED));
    r->steps[r->n_steps - 1].invert = true;
    return MU_OK;
}

static mu_status read_bert_words(struct reader *r, const json_t *o,
                                 enum mu_tokenizer_step_kind kind)
{
    MU_TRY(read_spaces(r, o, kind));
    return add_split(r, PATTERN_PUNCTUATION, MU_SPLIT_ISOLATED);
}

static mu_status read_metaspace(struct reader *r, const json_t *o, enum mu_tokenizer_step_kind kind)
{
    struct mu_tokenizer_step step = {.kind = kind, .split = flag(o, "split", true)};
    const char *scheme = word(o, "prepend_scheme");
    MU_TRY(keep(r, json_object_get(o, "replacement"), &step.content));
    unsigned len;
    if (step.content.len == 0 || mu_utf8_decode(step.content, &len) == MU_UTF8_BAD ||
        len != step.content.len)
        return fault(r, MU_E_INPUT, "the replacement is not one character", NULL);
    if (strcmp(scheme, "first") == 0)
        step.prepend = MU_PREPEND_FIRST;
    else if (strcmp(scheme, "always") == 0 || (!scheme[0] && flag(o, "add_prefix_space", true)))
        step.prepend = MU_PREPEND_ALWAYS;
    return add_step(r, step);
}

static mu_status read_precompiled(struct reader *r, const json_t *o,
                                  enum mu_tokenizer_step_kind kind)
{
    struct mu_tokenizer_step step = {.kind = kind};
    const json_t *map = json_object_get(o, "precompiled_charsmap");
    struct mu_str base64 = {json_string_value(map), json_string_length(map)};
    char *bytes = mu_arena_alloc(r->spec->arena, base64.len / 4 * 3 + 3, 1);
    if (!bytes) return mu_fail_memory(r->err, base64.len);
    step.content.p = bytes;
    if (!mu_base64_decode(base64, bytes, &step.content.len) || !mu_charsmap_good(step.content))
        return fault(r, MU_E_INPUT, "the table of replacements is broken", NULL);
    return add_step(r, step);
}

struct step_type {
    const char *name;
    read_step *read;
    enum mu_tokenizer_step_kind kind;
};

static const struct step_type normalizers[] = {
    {"NFC", read_bare, MU_STEP_NFC},
    {"NFD", read_bare, MU_STEP_NFD},
    {"NFKC", read_bare, MU_STEP_NFKC},
    {"NFKD", read_bare, MU_STEP_NFKD},
    {"Lowercase", read_bare, MU_STEP_LOWERCASE},
    {"StripAccents", read_bare, MU_STEP_STRIP_ACCENTS},
    {"Strip", read_strip, MU_STEP_STRIP},
    {"Prepend", read_prepend, MU_STEP_PREPEND},
    {"Replace", read_replace, MU_STEP_REPLACE},
    {"Precompiled", read_precompiled, MU_STEP_PRECOMPILED},
    {NULL, NULL, 0},
};

static const struct step_type pre_tokenizers[] = {
    {"ByteLevel", read_byte_level, MU_STEP_BYTE_MAP},
    {"Split", read_split, MU_STEP_SPLIT},
    {"Digits", read_digits, MU_STEP_SPLIT},
    {"Metaspace", read_metaspace, MU_STEP_METASPACE},
    {"Punctuation", read_punctuation, MU_STEP_SPLIT},
    {"Whitespace", read_words, MU_STEP_SPLIT},
    {"WhitespaceSplit", read_spaces, MU_STEP_SPLIT},
    {"CharDelimiterSplit", read_delimiter, MU_STEP_SPLIT},
    {"BertPreTokenizer", read_bert_words, MU_STEP_SPLIT},
    {NULL, NULL, 0},
};

static const struct step_type decoders[] = {
    {"ByteLevel", read_bare, MU_STEP_BYTE_MAP},
    {"ByteFallback", read_bare, MU_STEP_BYTE_FALLBACK},
    {"Fuse", read_bare, MU_STEP_FUSE},
    {"Replace", read_replace, MU_STEP_REPLACE},
    {"Strip", read_strip_content, MU_STEP_STRIP},
    {"Metaspace", read_metaspace, MU_STEP_METASPACE},
    {NULL, NULL, 0},
};

/* One stage: its types, and what a sequence calls its list. */
static const struct stage_kind {
    const char *key, *list;
    const struct step_type *types;
} stages[] = {
    [STAGE_NORMALIZER] = {"normalizer", "normalizers", normalizers},
    [STAGE_PRE_TOKENIZER] = {"pre_tokenizer", "pretokenizers", pre_tokenizers},
    [STAGE_DECODER] = {"decoder", "decoders", decoders},
};

static mu_status read_node(struct reader *r, const json_t *o, const struct stage_kind *stage,
                           unsigned depth)
{
    const char *type = word(o, "type");
    if (strcmp(type, "Sequence") == 0) {
        const json_t *child;
        size_t i;
        if (depth == NESTING_MAX) return fault(r, MU_E_INPUT, "is nested too deeply", NULL);
        json_array_foreach(json_object_get(o, stage->list), i, child)
        {
            MU_TRY(read_node(r, child, stage, depth + 1));
        }
        return MU_OK;
    }
    for (const struct step_type *t = stage->types; t->name; t++)
        if (strcmp(type, t->name) == 0) return t->read(r, o, t->kind);
    return fault(r, MU_E_UNSUPPORTED, "this type is not supported", type);
}

static mu_status read_stage(struct reader *r, const json_t *root, enum stage which,
                            struct mu_tokenizer_steps *out)
{
    const struct stage_kind *stage = &stages[which];
    const json_t *o = json_object_get(root, stage->key);
    r->place = stage->key;
    r->n_steps = 0;
    if (!o || json_is_null(o)) return MU_OK;
    MU_TRY(read_node(r, o, stage, 0));
    out->items = mu_arena_alloc(r->spec->arena, r->n_steps, sizeof *out->items);
    if (!out->items) return mu_fail_memory(r->err, sizeof r->steps);
    if (r->n_steps) memcpy(out->items, r->steps, r->n_steps * sizeof *out->items);
    out->n = r->n_steps;
    return MU_OK;
}

/* ---- What goes around a text --------------------------------------------------------------- */

static mu_status add_affix(struct reader *r, uint32_t *ids, unsigned *n, const json_t *id)
{
    json_int_t value = json_integer_value(id);
    if (!json_is_integer(id) || value < 0 || value >= MU_TOKENS_MAX)
        return fault(r, MU_E_INPUT, "a special token has no usable id", NULL);
    if (*n == MU_AFFIX_MAX) return fault(r, MU_E_INPUT, "adds too many special tokens", NULL);
    ids[(*n)++] = (uint32_t)value;
    return MU_OK;
}

static mu_status read_template(struct reader *r, const json_t *o)
{
    struct mu_tokenizer_spec *spec = r->spec;
    const json_t *piece;
    size_t i;
    bool after = false;
    json_array_foreach(json_object_get(o, "single"), i, piece)
    {
        const json_t *special = json_object_get(piece, "SpecialToken");
        if (!special) {
            after |= json_object_get(piece, "Sequence") != NULL;
            continue;
        }
        const json_t *known =
            json_object_get(json_object_get(o, "special_tokens"), word(special, "id"));
        const json_t *ids = json_object_get(known, "ids"), *id;
        size_t k;
        if (json_array_size(ids) == 0)
            return fault(r, MU_E_INPUT, "this special token is not described", word(special, "id"));
        json_array_foreach(ids, k, id)
        {
            MU_TRY(after ? add_affix(r, spec->suffix, &spec->n_suffix, id)
                         : add_affix(r, spec->prefix, &spec->n_prefix, id));
        }
    }
    return MU_OK;
}

static mu_status read_post_processor(struct reader *r, const json_t *o, unsigned depth)
{
    struct mu_tokenizer_spec *spec = r->spec;
    const char *type = word(o, "type");
    if (strcmp(type, "Sequence") == 0 && depth < NESTING_MAX) {
        const json_t *child;
        size_t i;
        json_array_foreach(json_object_get(o, "processors"), i, child)
        {
            MU_TRY(read_post_processor(r, child, depth + 1));
        }
        return MU_OK;
    }
    if (strcmp(type, "ByteLevel") == 0) return MU_OK;
    if (strcmp(type, "TemplateProcessing") == 0) return read_template(r, o);
    if (strcmp(type, "BertProcessing") == 0 || strcmp(type, "RobertaProcessing") == 0) {
        MU_TRY(add_affix(r, spec->prefix, &spec->n_prefix,
                         json_array_get(json_object_get(o, "cls"), 1)));
        return add_affix(r, spec->suffix, &spec->n_suffix,
                         json_array_get(json_object_get(o, "sep"), 1));
    }
    return fault(r, MU_E_UNSUPPORTED, "this type is not supported", type);
}

/* ---- Added tokens, options of the model ---------------------------------------------------- */

static mu_status read_added_token(struct reader *r, const json_t *o, uint64_t id,
                                  struct mu_added_token *t)
{
    MU_TRY(keep(r, json_object_get(o, "content"), &t->content));
    if (id >= MU_TOKENS_MAX)
        return fault(r, MU_E_INPUT, "the id of this token is out of range", t->content.p);
    t->id = (uint32_t)id;
    t->special = flag(o, "special", false);
    t->single_word = flag(o, "single_word", false);
    t->lstrip = flag(o, "lstrip", false);
    t->rstrip = flag(o, "rstrip", false);
    t->normalized = flag(o, "normalized", !t->special);
    return MU_OK;
}

static mu_status read_added(struct reader *r, const json_t *list)
{
    struct mu_tokenizer_spec *spec = r->spec;
    const json_t *o;
    size_t i, n = json_array_size(list);
    r->place = "added_tokens";
    if (n > ADDED_MAX) return fault(r, MU_E_INPUT, "has too many entries", NULL);
    spec->added = mu_arena_alloc(spec->arena, n, sizeof *spec->added);
    if (!spec->added) return mu_fail_memory(r->err, n * sizeof *spec->added);
    json_array_foreach(list, i, o)
    {
        json_int_t id = json_integer_value(json_object_get(o, "id"));
        MU_TRY(read_added_token(r, o, id < 0 ? UINT64_MAX : (uint64_t)id,
                                &spec->added[spec->n_added]));
        spec->n_added += spec->added[spec->n_added].content.len > 0;
    }
    return MU_OK;
}

static mu_status read_model(struct reader *r, const json_t *model)
{
    struct mu_tokenizer_spec *spec = r->spec;
    const char *type = word(model, "type");
    r->place = "model";
    if (strcmp(type, "Unigram") == 0)
        spec->kind = MU_TOKENIZER_UNIGRAM;
    else if (strcmp(type, "BPE") != 0 && (type[0] || !spec->merges))
        return fault(r, MU_E_UNSUPPORTED, "this type is not supported", type);
    if (word(model, "continuing_subword_prefix")[0] || word(model, "end_of_word_suffix")[0])
        return fault(r, MU_E_UNSUPPORTED, "marks at the edges of words are not supported", NULL);
    spec->byte_fallback = flag(model, "byte_fallback", false);
    spec->fuse_unknown = flag(model, "fuse_unk", false);
    spec->ignore_merges = flag(model, "ignore_merges", false);
    spec->unknown = MU_TOKEN_NONE;
    const json_t *unk_id = json_object_get(model, "unk_id");
    if (json_is_integer(unk_id)) spec->unknown = small_number(model, "unk_id");
    const json_t *unk = json_object_get(model, "unk_token");
    return json_is_string(unk) ? keep(r, unk, &spec->unknown_token) : MU_OK;
}

mu_status mu_tokenizer_read_settings(const json_t *root, const char *name,
                                     struct mu_tokenizer_spec *spec, struct mu_err *err)
{
    struct reader *r = mu_calloc(1, sizeof *r);
    if (!r) return mu_fail_memory(err, sizeof *r);
    *r = (struct reader){.spec = spec, .name = name, .place = "version", .err = err};
    const json_t *post = json_object_get(root, "post_processor");
    const char *version = word(root, "version");
    mu_status status = MU_OK;
    if (!json_is_object(root) || (version[0] && strcmp(version, "1.0") != 0))
        status = fault(r, MU_E_UNSUPPORTED, "the version is not 1.0", NULL);
    if (status == MU_OK) status = read_model(r, json_object_get(root, "model"));
    if (status == MU_OK) status = read_added(r, json_object_get(root, "added_tokens"));
    if (status == MU_OK) status = read_stage(r, root, STAGE_NORMALIZER, &spec->normalizer);
    if (status == MU_OK) status = read_stage(r, root, STAGE_PRE_TOKENIZER, &spec->pre_tokenizer);
    if (status == MU_OK) status = read_stage(r, root, STAGE_DECODER, &spec->decoder);
    r->place = "post_processor";
    if (status == MU_OK && json_is_object(post)) status = read_post_processor(r, post, 0);
    mu_free(r);
    return status;
}

/* ---- tokenizer_config.json ----------------------------------------------------------------- */

/* "bos_token": "<s>" or {"content": "<s>"}; the id it has among the added tokens. */
static uint32_t named_token(const json_t *root, const char *key,
                            const struct mu_tokenizer_spec *spec)
{
    const json_t *value = json_object_get(root, key);
    const char *s = json_is_object(value) ? word(value, "content") : json_string_value(value);
    for (uint32_t i = 0; s && i < spec->n_added; i++)
        if (mu_str_is(spec->added[i].content, s)) return spec->added[i].id;
    return MU_TOKEN_NONE;
}

void mu_tokenizer_read_config(const json_t *root, struct mu_tokenizer_spec *spec)
{
    uint32_t bos = named_token(root, "bos_token", spec), eos = named_token(root, "eos_token", spec);
    if (flag(root, "add_bos_token", false) && bos != MU_TOKEN_NONE && spec->n_prefix == 0)
        spec->prefix[spec->n_prefix++] = bos;
    if (flag(root, "add_eos_token", false) && eos != MU_TOKEN_NONE && spec->n_suffix == 0)
        spec->suffix[spec->n_suffix++] = eos;
}

static bool is_piece(const struct mu_tokenizer_spec *spec, struct mu_str text)
{
    for (uint32_t i = 0; i < spec->n_tokens; i++)
        if (mu_str_equal(spec->tokens[i], text)) return true;
    return false;
}

/* added_tokens_decoder: {"32000": {"content": ...}}; what the model file has already stays. */
static mu_status read_added_by_id(struct reader *r, const json_t *map)
{
    struct mu_tokenizer_spec *spec = r->spec;
    size_t n = json_object_size(map), size = (spec->n_added + n) * sizeof *spec->added;
    const char *key;
    json_t *o;
    r->place = "added_tokens_decoder";
    if (n == 0) return MU_OK;
    if (n > CONFIG_ADDED_MAX) return fault(r, MU_E_INPUT, "has too many entries", NULL);
    struct mu_added_token *all =
        mu_arena_alloc(spec->arena, spec->n_added + n, sizeof *spec->added);
    if (!all) return mu_fail_memory(r->err, size);
    memcpy(all, spec->added, spec->n_added * sizeof *all);
    spec->added = all;
    json_object_foreach((json_t *)(uintptr_t)map, key, o)
    {
        uint64_t id;
        struct mu_added_token *t = &all[spec->n_added];
        if (!mu_parse_u64(mu_str(key), 0, MU_TOKENS_MAX, &id)) id = UINT64_MAX;
        *t = (struct mu_added_token){0};
        MU_TRY(read_added_token(r, o, id, t));
        spec->n_added += t->content.len > 0 && !is_piece(spec, t->content);
    }
    return MU_OK;
}

mu_status mu_tokenizer_read_whole_config(const json_t *root, const char *name,
                                         struct mu_tokenizer_spec *spec, struct mu_err *err)
{
    struct reader *r = mu_calloc(1, sizeof *r);
    if (!r) return mu_fail_memory(err, sizeof *r);
    *r = (struct reader){.spec = spec, .name = name, .err = err};
    mu_status status = read_added_by_id(r, json_object_get(root, "added_tokens_decoder"));
    mu_free(r);
    if (status != MU_OK) return status;
    if (json_is_false(json_object_get(root, "add_bos_token"))) spec->n_prefix = 0;
    if (json_is_false(json_object_get(root, "add_eos_token"))) spec->n_suffix = 0;
    mu_tokenizer_read_config(root, spec);
    return MU_OK;
}
