/* What the readers of tokenizers share and nobody else sees. */
#ifndef MU_FORMAT_TOKENIZER_INT_H
#define MU_FORMAT_TOKENIZER_INT_H

#include "format/format_int.h"
#include "format/tokenizer_spec.h"

/* Empty, with an arena; NULL when memory is out. */
struct mu_tokenizer_spec *mu_tokenizer_spec_new(const char *source, struct mu_err *err);

/* Cuts "left right" at its first space that is not its first byte; false when there is none. */
bool mu_merge_split(struct mu_str line, struct mu_merge *out);

/* Everything of tokenizer.json but vocabulary and merges. */
mu_status mu_tokenizer_read_settings(const json_t *root, const char *name,
                                     struct mu_tokenizer_spec *spec, struct mu_err *err);
/* add_bos_token and add_eos_token of tokenizer_config.json, where tokenizer.json adds nothing. */
void mu_tokenizer_read_config(const json_t *root, struct mu_tokenizer_spec *spec);
/* All of tokenizer_config.json, for a tokenizer that has only tokenizer.model beside it. */
mu_status mu_tokenizer_read_whole_config(const json_t *root, const char *name,
                                         struct mu_tokenizer_spec *spec, struct mu_err *err);
/* Makes a tokenizer whose pieces, scores and user-defined tokens (`verbatim`) are read one of
 * SentencePiece's: its normaliser is this one step. */
mu_status mu_tokenizer_sentencepiece(struct mu_tokenizer_spec *spec,
                                     const struct mu_tokenizer_step *step, struct mu_err *err);
/* Whether a SentencePiece table of replacements is whole: a trie's size in bytes, the trie, texts.
 */
bool mu_charsmap_good(struct mu_str map);
/* Into `out`, of text.len / 4 * 3 + 3 bytes; false when a character is none of base64's. */
bool mu_base64_decode(struct mu_str text, char *out, size_t *n);
mu_status mu_tokenizer_spec_from_gguf(const struct mu_gguf *gguf, const char *path,
                                      struct mu_tokenizer_spec *spec, struct mu_err *err);

/* The tokenizer.ggml.model of a file without one; llama.cpp refuses a file that does not say so. */
#define MU_GGUF_NO_TOKENIZER "no_vocab"

/* What a GGUF file says with two names, tokenizer.ggml.model and tokenizer.ggml.pre. */
struct mu_tokenizer_preset {
    enum mu_tokenizer_kind kind;
    bool ignore_merges, byte_fallback;
    bool add_bos;      /* unless the file says otherwise */
    bool space_prefix; /* the same; the normalizer's first and the decoder's last step do it */
    struct mu_tokenizer_steps normalizer, pre_tokenizer, decoder;
};

/* How GGUF files tell what kind a token is. */
enum {
    MU_GGUF_TOKEN_NORMAL = 1,
    MU_GGUF_TOKEN_UNKNOWN,
    MU_GGUF_TOKEN_CONTROL,
    MU_GGUF_TOKEN_USER,
    MU_GGUF_TOKEN_UNUSED,
    MU_GGUF_TOKEN_BYTE
};

/* The names under which GGUF files know the steps of a spec. */
struct mu_tokenizer_names {
    const char *model;
    struct mu_str pre;
    bool space_prefix;
    const char *not_quite; /* what the names do not say, or NULL */
};

/* False when there are none. */
bool mu_tokenizer_preset_match(const struct mu_tokenizer_spec *spec,
                               struct mu_tokenizer_names *out);

/* Spaces and single bytes of SentencePiece back to text, less so many spaces in front. */
enum mu_spaces { MU_SPACES_NONE, MU_SPACES_ONE, MU_SPACES_ALL };
struct mu_tokenizer_steps mu_tokenizer_decoder_of_spaces(enum mu_spaces stripped);

/* NULL when the names are not known. */
const struct mu_tokenizer_preset *mu_tokenizer_preset_find(struct mu_str model, struct mu_str pre);

/* The pattern that ByteLevel has built in. */
#define MU_PATTERN_GPT2                                                                            \
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

#endif
