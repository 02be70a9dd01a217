/*
 * The pre-tokenizers that GGUF files call by name, spelled out as their publishers' tokenizer.json
 * does; and the name that a tokenizer.json would have there.
 */
#include "format/tokenizer_int.h"

#define STRING(literal)                                                                            \
    {                                                                                              \
        literal, sizeof(literal) - 1                                                               \
    }

#define SPLIT(regex)                                                                               \
    {                                                                                              \
        .kind = MU_STEP_SPLIT, .pattern = STRING(regex), .is_regex = true,                         \
        .behavior = MU_SPLIT_ISOLATED                                                              \
    }
#define BYTES                                                                                      \
    {                                                                                              \
        .kind = MU_STEP_BYTE_MAP                                                                   \
    }

#define CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL         "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3(digits)                                                                             \
    CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|" digits "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL
#define CASED(contractions, digits)                                                                \
    "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"     \
    "+" contractions "|[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+"                \
    "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*" contractions "|" digits                                       \
    "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL
/* Letters that have case, and a few that never had, as DeepSeek's first tokenizer lists them. */
#define CASED_LETTERS                                                                              \
    "A-Za-z\\x{B5}\\x{C0}-\\x{D6}\\x{D8}-\\x{F6}\\x{F8}-\\x{1BA}\\x{1BC}-\\x{1BF}"                 \
    "\\x{1C4}-\\x{293}\\x{295}-\\x{2AF}\\x{370}-\\x{373}\\x{376}\\x{377}\\x{37B}-\\x{37D}"         \
    "\\x{37F}\\x{386}\\x{388}-\\x{38A}\\x{38C}\\x{38E}-\\x{3A1}\\x{3A3}-\\x{3F5}"                  \
    "\\x{3F7}-\\x{481}\\x{48A}-\\x{52F}\\x{531}-\\x{556}\\x{10A0}-\\x{10C5}"                       \
    "\\x{13A0}-\\x{13F5}\\x{13F8}-\\x{13FD}\\x{1C90}-\\x{1CBA}\\x{1CBD}-\\x{1CBF}"                 \
    "\\x{1D00}-\\x{1D2B}\\x{1D6B}-\\x{1D77}\\x{1D79}-\\x{1D9A}\\x{1E00}-\\x{1F15}"                 \
    "\\x{1F18}-\\x{1F1D}\\x{1F20}-\\x{1F45}\\x{1F48}-\\x{1F4D}\\x{1F50}-\\x{1F57}\\x{1F59}"        \
    "\\x{1F5B}\\x{1F5D}\\x{1F5F}-\\x{1F7D}\\x{1F80}-\\x{1FB4}\\x{1FB6}-\\x{1FBC}\\x{1FBE}"         \
    "\\x{1FC2}-\\x{1FC4}\\x{1FC6}-\\x{1FCC}\\x{1FD0}-\\x{1FD3}\\x{1FD6}-\\x{1FDB}"                 \
    "\\x{1FE0}-\\x{1FEC}\\x{1FF2}-\\x{1FF4}\\x{1FF6}-\\x{1FFC}\\x{2102}\\x{2107}"                  \
    "\\x{210A}-\\x{2113}\\x{2115}\\x{2119}-\\x{211D}\\x{2124}\\x{2126}\\x{2128}"                   \
    "\\x{212A}-\\x{212D}\\x{212F}-\\x{2134}\\x{2139}\\x{213C}-\\x{213F}\\x{2145}-\\x{2149}"        \
    "\\x{214E}\\x{2183}\\x{2184}\\x{2C00}-\\x{2C7B}\\x{2C7E}-\\x{2CE4}\\x{2CEB}-\\x{2CEE}"         \
    "\\x{2CF2}\\x{2CF3}\\x{A640}-\\x{A66D}\\x{A680}-\\x{A69B}\\x{A722}-\\x{A76F}"                  \
    "\\x{A771}-\\x{A787}\\x{A78B}-\\x{A78E}\\x{AB70}-\\x{ABBF}\\x{FB00}-\\x{FB06}"                 \
    "\\x{FB13}-\\x{FB17}\\x{FF21}-\\x{FF3A}\\x{FF41}-\\x{FF5A}\\x{10400}-\\x{1044F}"               \
    "\\x{104B0}-\\x{104D3}\\x{104D8}-\\x{104FB}\\x{10C80}-\\x{10CB2}\\x{10CC0}-\\x{10CF2}"         \
    "\\x{118A0}-\\x{118DF}\\x{1E900}-\\x{1E943}"
#define CJK "[一-龥ࠀ-一가-퟿]+"

#define STEPS(name, ...) static struct mu_tokenizer_step name[] = {__VA_ARGS__}
#define LIST(name)                                                                                 \
    {                                                                                              \
        name, MU_ARRAY_LEN(name)                                                                   \
    }

STEPS(bytes, BYTES);
STEPS(nfc, {.kind = MU_STEP_NFC});
STEPS(gpt2, SPLIT(MU_PATTERN_GPT2), BYTES);
STEPS(digits_gpt2, SPLIT("\\p{N}"), SPLIT(MU_PATTERN_GPT2), BYTES);
STEPS(llama3, SPLIT(LLAMA3("\\p{N}{1,3}")), BYTES);
STEPS(qwen2, SPLIT(LLAMA3("\\p{N}")), BYTES);
STEPS(qwen35,
      SPLIT(CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}"
                         "| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" TAIL),
      BYTES);
STEPS(o200k, SPLIT(CASED(CONTRACTIONS "?", "\\p{N}{1,3}")), BYTES);
STEPS(tekken, SPLIT(CASED("", "\\p{N}")), BYTES);
STEPS(falcon,
      {.kind = MU_STEP_SPLIT,
       .pattern = STRING("[!-/:-@\\[-`{-~\\p{P}]"),
       .is_regex = true,
       .behavior = MU_SPLIT_CONTIGUOUS},
      SPLIT(MU_PATTERN_GPT2), BYTES, SPLIT("\\p{N}+"), SPLIT("[0-9][0-9][0-9]"));
STEPS(deepseek_llm, SPLIT("[\r\n]"), SPLIT("\\s?[" CASED_LETTERS "]+"),
      SPLIT("\\s?[!-/:-~！-／：-～‘-‟　-。]+"), SPLIT("\\s+$"), SPLIT(CJK), SPLIT("\\p{N}"), BYTES);
STEPS(deepseek_coder, SPLIT("[\r\n]"), SPLIT("\\s?\\p{L}+"), SPLIT("\\s?\\p{P}+"), SPLIT(CJK),
      SPLIT("\\p{N}"), BYTES);
STEPS(deepseek_v3, SPLIT("\\p{N}{1,3}"), SPLIT("[一-龥\u3040-ゟ゠-ヿ]+"),
      SPLIT("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?"
            "[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"),
      BYTES);
STEPS(bloom, SPLIT(" ?[^(\\s|.,!?…。，、।۔،)]+"), BYTES);

/* SentencePiece: spaces are a letter of the vocabulary, and a text may begin with one. */
#define SPACE "\xe2\x96\x81"
STEPS(spm_normalizer, {.kind = MU_STEP_PREPEND, .content = STRING(SPACE)},
      {.kind = MU_STEP_REPLACE, .pattern = STRING(" "), .content = STRING(SPACE)});
STEPS(spm_decoder, {.kind = MU_STEP_REPLACE, .pattern = STRING(SPACE), .content = STRING(" ")},
      {.kind = MU_STEP_BYTE_FALLBACK}, {.kind = MU_STEP_FUSE},
      {.kind = MU_STEP_STRIP, .content = STRING(" "), .start = 1});
STEPS(spm_decoder_all, {.kind = MU_STEP_REPLACE, .pattern = STRING(SPACE), .content = STRING(" ")},
      {.kind = MU_STEP_BYTE_FALLBACK}, {.kind = MU_STEP_FUSE},
      {.kind = MU_STEP_STRIP, .content = STRING(" "), .start = UINT32_MAX});
STEPS(gemma4_normalizer,
      {.kind = MU_STEP_REPLACE, .pattern = STRING(" "), .content = STRING(SPACE)});
STEPS(gemma4, SPLIT("[^\\n]+|[\\n]+"));

#define NONE                                                                                       \
    {                                                                                              \
        NULL, 0                                                                                    \
    }

struct row {
    const char *model, *pre; /* pre: several names between spaces; "*": any */
    struct mu_tokenizer_preset preset;
};

#define BPE_ROW(names, splits, ...)                                                                \
    {                                                                                              \
        "gpt2", names,                                                                             \
        {                                                                                          \
            .kind = MU_TOKENIZER_BPE, .pre_tokenizer = LIST(splits), .decoder = LIST(bytes),       \
            __VA_ARGS__                                                                            \
        }                                                                                          \
    }

static const struct row rows[] = {
    BPE_ROW(" gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de jina-v2-code jais "
            "roberta-bpe mellum a.x-4.0 ",
            gpt2, .normalizer = NONE),
    BPE_ROW(" mpt olmo ", gpt2, .normalizer = LIST(nfc)),
    BPE_ROW(" starcoder refact smollm codeshell exaone minerva-7b ", digits_gpt2,
            .normalizer = NONE),
    BPE_ROW(" command-r ", digits_gpt2, .normalizer = LIST(nfc)),
    BPE_ROW(" llama3 llama-v3 llama-bpe falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano ",
            llama3, .ignore_merges = true, .add_bos = true),
    BPE_ROW(" dbrx smaug-bpe glm4 chatglm-bpe ", llama3, .normalizer = NONE),
    BPE_ROW(" qwen2 deepseek-r1-qwen stablelm2 megrez kormo f2llmv2 ", qwen2,
            .normalizer = LIST(nfc)),
    BPE_ROW(" qwen35 ", qwen35, .normalizer = LIST(nfc)),
    BPE_ROW(" bailingmoe bailingmoe2 llada-moe hunyuan ", qwen2, .normalizer = NONE),
    BPE_ROW(" gpt-4o llama4 kanana2 ", o200k, .normalizer = NONE),
    BPE_ROW(" tekken ", tekken, .ignore_merges = true, .add_bos = true),
    BPE_ROW(" falcon ", falcon, .normalizer = NONE),
    BPE_ROW(" deepseek-llm ", deepseek_llm, .normalizer = NONE),
    BPE_ROW(" deepseek-coder ", deepseek_coder, .normalizer = NONE),
    BPE_ROW(" deepseek-v3 hunyuan-dense joyai-llm ", deepseek_v3, .normalizer = NONE),
    BPE_ROW(" bloom poro-chat gpt3-finnish ", bloom, .normalizer = NONE),
    BPE_ROW(" default ", gpt2, .normalizer = NONE),
    {"llama",
     "*",
     {.kind = MU_TOKENIZER_SPM,
      .byte_fallback = true,
      .add_bos = true,
      .space_prefix = true,
      .normalizer = LIST(spm_normalizer),
      .decoder = LIST(spm_decoder)}},
    {"t5", "*", {.kind = MU_TOKENIZER_UNIGRAM}}, /* its files tell the rest */
    {"gemma4",
     "*",
     {.kind = MU_TOKENIZER_BPE,
      .byte_fallback = true,
      .add_bos = true,
      .normalizer = LIST(gemma4_normalizer),
      .pre_tokenizer = LIST(gemma4),
      .decoder = {spm_decoder, MU_ARRAY_LEN(spm_decoder) - 1}}},
};

struct mu_tokenizer_steps mu_tokenizer_decoder_of_spaces(enum mu_spaces stripped)
{
    static const struct mu_tokenizer_steps decoders[] = {
        [MU_SPACES_NONE] = {spm_decoder, MU_ARRAY_LEN(spm_decoder) - 1},
        [MU_SPACES_ONE] = LIST(spm_decoder),
        [MU_SPACES_ALL] = LIST(spm_decoder_all),
    };
    return decoders[stripped];
}

static bool lists_name(const char *names, struct mu_str name)
{
    for (const char *p = strchr(names, ' '); p && p[1]; p = strchr(p + 1, ' ')) {
        struct mu_str word = {p + 1, strcspn(p + 1, " ")};
        if (mu_str_equal(word, name)) return true;
    }
    return names[0] == '*';
}

const struct mu_tokenizer_preset *mu_tokenizer_preset_find(struct mu_str model, struct mu_str pre)
{
    for (unsigned i = 0; i < MU_ARRAY_LEN(rows); i++)
        if (mu_str_is(model, rows[i].model) && lists_name(rows[i].pre, pre)) return &rows[i].preset;
    return NULL;
}

/* ---- The other way ------------------------------------------------------------------------- */

static bool same_step(const struct mu_tokenizer_step *a, const struct mu_tokenizer_step *b)
{
    return a->kind == b->kind && mu_str_equal(a->pattern, b->pattern) &&
           mu_str_equal(a->content, b->content) && a->is_regex == b->is_regex &&
           a->invert == b->invert && a->behavior == b->behavior;
}

static bool same_steps(struct mu_tokenizer_steps a, struct mu_tokenizer_steps b)
{
    bool same = a.n == b.n;
    for (unsigned i = 0; same && i < a.n; i++)
        same = same_step(&a.items[i], &b.items[i]);
    return same;
}

static bool match_pattern(const struct mu_tokenizer_spec *spec, bool ignore_merges,
                          struct mu_tokenizer_names *out)
{
    for (unsigned i = 0; i < MU_ARRAY_LEN(rows); i++) {
        const struct mu_tokenizer_preset *p = &rows[i].preset;
        if (strcmp(rows[i].model, "gpt2") != 0 || p->ignore_merges != ignore_merges ||
            !same_steps(p->normalizer, spec->normalizer) ||
            !same_steps(p->pre_tokenizer, spec->pre_tokenizer))
            continue;
        const char *name = rows[i].pre + 1;
        *out = (struct mu_tokenizer_names){.model = "gpt2", .pre = {name, strcspn(name, " ")}};
        return true;
    }
    return false;
}

/* The ways in which SentencePiece's spaces are told. */
static bool match_spaces(const struct mu_tokenizer_spec *spec, struct mu_tokenizer_names *out)
{
    const struct mu_tokenizer_steps whole = LIST(spm_normalizer), bare = {spm_normalizer + 1, 1};
    const struct mu_tokenizer_steps *pre = &spec->pre_tokenizer;
    const struct mu_tokenizer_step *meta = pre->n == 1 ? pre->items : NULL;
    *out = (struct mu_tokenizer_names){.model = "llama", .pre = MU_STR("default")};
    if (spec->normalizer.n == 0 && meta && meta->kind == MU_STEP_METASPACE && !meta->split &&
        mu_str_is(meta->content, SPACE)) {
        out->space_prefix = meta->prepend != MU_PREPEND_NEVER;
        if (meta->prepend == MU_PREPEND_FIRST)
            out->not_quite = "a text behind a special token gets a space too";
        return true;
    }
    const struct mu_tokenizer_step *first = spec->normalizer.items;
    if (spec->normalizer.n == 1 && first->kind == MU_STEP_SENTENCEPIECE) {
        out->space_prefix = first->prepend != MU_PREPEND_NEVER;
        if (first->content.len > 0)
            out->not_quite = "characters and spaces are taken as they come";
        else if (first->squeeze)
            out->not_quite = "rows of spaces stay as they are";
        return first->escape && !first->space_behind;
    }
    /* Spaces are gone by the time that a split looks for them. */
    bool idle = meta && meta->kind == MU_STEP_SPLIT && !meta->is_regex && !meta->invert &&
                mu_str_is(meta->pattern, " ");
    out->space_prefix = same_steps(spec->normalizer, whole);
    return (pre->n == 0 || idle) && (out->space_prefix || same_steps(spec->normalizer, bare));
}

/* Only SentencePiece's own step can be told in full. */
static bool match_unigram(const struct mu_tokenizer_spec *spec, struct mu_tokenizer_names *out)
{
    const struct mu_tokenizer_step *step = spec->normalizer.items;
    *out = (struct mu_tokenizer_names){.model = "t5", .pre = MU_STR("default")};
    if (spec->normalizer.n != 1 || spec->pre_tokenizer.n != 0 ||
        step->kind != MU_STEP_SENTENCEPIECE)
        return false;
    out->space_prefix = step->prepend != MU_PREPEND_NEVER;
    return step->escape && !step->space_behind;
}

bool mu_tokenizer_preset_match(const struct mu_tokenizer_spec *spec, struct mu_tokenizer_names *out)
{
    if (spec->kind == MU_TOKENIZER_UNIGRAM) return match_unigram(spec, out);
    if (spec->byte_fallback || spec->kind == MU_TOKENIZER_SPM) return match_spaces(spec, out);
    if (match_pattern(spec, spec->ignore_merges, out)) return true;
    out->not_quite = NULL;
    if (!match_pattern(spec, !spec->ignore_merges, out)) return false;
    out->not_quite = spec->ignore_merges ? "words that are tokens are merged like others"
                                         : "words that are tokens are not merged";
    return true;
}
