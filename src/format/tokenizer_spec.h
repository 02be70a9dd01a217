/*
 * What a tokenizer is, as data: the vocabulary, how words are merged, and the steps that text goes
 * through before and after. Read from tokenizer.json, tokenizer.model or GGUF metadata into one
 * spelling, and checked; what the steps do is the business of text/.
 *
 * Texts point into the model's file (tokenizer.json is kept mapped by the spec itself), so a spec
 * must not outlive the struct mu_model_file it was read from. Read-only once made; any thread.
 */
#ifndef MU_FORMAT_TOKENIZER_SPEC_H
#define MU_FORMAT_TOKENIZER_SPEC_H

#include "base/text.h"

struct mu_model_file;

#define MU_TOKENS_MAX (1u << 21)

enum mu_tokenizer_kind {
    MU_TOKENIZER_BPE,     /* merges in order of rank */
    MU_TOKENIZER_SPM,     /* any two neighbours whose union is a token merge, best score first */
    MU_TOKENIZER_UNIGRAM, /* the split with the best sum of scores */
};

/*
 * The steps. Other spellings are told in these: ByteLevel with its own pattern is a split and a
 * byte map, Digits and Punctuation are splits by a pattern.
 */
enum mu_tokenizer_step_kind {
    /* normalizer */
    MU_STEP_NFC,
    MU_STEP_NFD,
    MU_STEP_NFKC,
    MU_STEP_NFKD,
    MU_STEP_LOWERCASE,
    MU_STEP_STRIP_ACCENTS,
    MU_STEP_PREPEND, /* content, unless the text is empty */
    MU_STEP_REPLACE, /* pattern -> content; also a decoder */
    MU_STEP_STRIP,   /* normalizer: white space; decoder: content, from each end of each token */
    MU_STEP_PRECOMPILED,   /* characters replaced by SentencePiece's table, which is the content */
    MU_STEP_SENTENCEPIECE, /* the same and all that tokenizer.model says of spaces */
    /* pre-tokenizer */
    MU_STEP_PREFIX_SPACE, /* a space before pieces that do not begin with one */
    MU_STEP_SPLIT,
    MU_STEP_BYTE_MAP,  /* bytes spelled as letters, as the vocabulary does; also a decoder */
    MU_STEP_METASPACE, /* also a decoder */
    /* decoder */
    MU_STEP_BYTE_FALLBACK, /* runs of <0xHH> are bytes */
    MU_STEP_FUSE,          /* what follows sees one text, not tokens */
};

/* What becomes of the matches of a split. */
enum mu_split_behavior {
    MU_SPLIT_ISOLATED,
    MU_SPLIT_REMOVED,
    MU_SPLIT_MERGED_WITH_PREVIOUS,
    MU_SPLIT_MERGED_WITH_NEXT,
    MU_SPLIT_CONTIGUOUS,
};

enum mu_prepend { MU_PREPEND_NEVER, MU_PREPEND_FIRST, MU_PREPEND_ALWAYS };

struct mu_tokenizer_step {
    enum mu_tokenizer_step_kind kind;
    struct mu_str pattern, content;
    bool is_regex; /* pattern: Oniguruma's syntax, as published */
    bool invert;   /* split: what lies between the matches counts as match */
    bool split;    /* metaspace: pieces begin at the replacement */
    enum mu_split_behavior behavior;
    enum mu_prepend prepend; /* metaspace, sentencepiece */
    /* sentencepiece: one space for many and none at the ends; spaces become letters; the space that
     * is put before a text comes behind it. */
    bool squeeze, escape, space_behind;
    uint32_t start, stop; /* strip: at most so many, or (normalizer) whether */
};

struct mu_tokenizer_steps {
    struct mu_tokenizer_step *items;
    unsigned n;
};

/* A token that is found in the text before anything else happens to it. */
struct mu_added_token {
    struct mu_str content;
    uint32_t id; /* what the file says; a token of the vocabulary keeps that one's id */
    bool special, single_word, lstrip, rstrip;
    bool normalized; /* looked for in normalised text, */
    bool as_spelled; /* and there as it stands here, without being normalised itself */
};

struct mu_merge {
    struct mu_str left, right;
};

#define MU_AFFIX_MAX 8

struct mu_file_map;

struct mu_tokenizer_spec {
    enum mu_tokenizer_kind kind;
    const char *source;    /* the file, for messages */
    struct mu_str *tokens; /* by id; p is NULL for an id without token */
    uint32_t n_tokens;     /* ids are below */
    uint32_t n_vocabulary; /* tokens there are */
    double *scores;        /* by id; NULL for MU_TOKENIZER_BPE */
    uint8_t *plain;        /* by id: 0 for tokens that text never merges into; NULL: all do */
    struct mu_merge *merges;
    uint32_t n_merges;
    uint32_t *verbatim; /* tokens that the sentencepiece step leaves as they are */
    uint32_t n_verbatim;
    bool sums_in_float; /* unigram: scores are summed as SentencePiece does */
    struct mu_added_token *added;
    uint32_t n_added;
    struct mu_tokenizer_steps normalizer, pre_tokenizer, decoder;
    bool byte_fallback, fuse_unknown, ignore_merges;
    /* What unknown characters become: an id, or else a token by its text (empty: they vanish). */
    uint32_t unknown;
    struct mu_str unknown_token;
    /* What a complete encoder puts around a text. */
    uint32_t prefix[MU_AFFIX_MAX], suffix[MU_AFFIX_MAX];
    unsigned n_prefix, n_suffix;
    /* Owned. */
    struct mu_arena *arena;
    struct mu_file_map *map;
};

/* From tokenizer.json of a folder, or the metadata of a .gguf. A model without tokenizer is
 * MU_E_MISSING, a kind that is not spoken here MU_E_UNSUPPORTED, by name. */
mu_status mu_tokenizer_spec_read(const struct mu_model_file *file, struct mu_tokenizer_spec **out,
                                 struct mu_err *err);
/* One tokenizer.json, or tokenizer.model where the name ends in .model; with tokenizer_config.json
 * beside it when there is one. */
mu_status mu_tokenizer_spec_read_file(const char *path, struct mu_tokenizer_spec **out,
                                      struct mu_err *err);
/* The bytes of a tokenizer.json that stay where they are; `name` is for messages. */
mu_status mu_tokenizer_spec_parse(struct mu_str bytes, const char *name,
                                  struct mu_tokenizer_spec **out, struct mu_err *err);
/* The bytes of a tokenizer.model, likewise. */
mu_status mu_tokenizer_spec_parse_model(struct mu_str bytes, const char *name,
                                        struct mu_tokenizer_spec **out, struct mu_err *err);
void mu_tokenizer_spec_destroy(struct mu_tokenizer_spec *spec);

#endif
