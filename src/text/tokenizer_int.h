/*
 * What the parts of the tokenizer share: text is cut at added tokens, normalised, cut into pieces,
 * and each piece is turned into ids by the model.
 */
#ifndef MU_TEXT_TOKENIZER_INT_H
#define MU_TEXT_TOKENIZER_INT_H

#include "format/format.h"
#include "text/char_class.h"
#include "text/pretokenize_int.h"
#include "text/tokenizer.h"

#include <pthread.h>

/* No text longer than this is encoded: places in it fit 32 bits with room for what steps add. */
#define MU_ENCODE_BYTES_MAX (UINT64_C(1) << 29)
#define MU_SCRATCH_MAX      (UINT64_C(1) << 31)

struct mu_added_set;

/* ---- Normalising (normalize.c) ------------------------------------------------------------- */

struct mu_normalizer_step {
    struct mu_tokenizer_step step;
    struct mu_matcher matcher;     /* replace */
    struct mu_added_set *verbatim; /* sentencepiece: tokens that stay as they are, or NULL */
};

struct mu_normalizer {
    struct mu_normalizer_step *steps; /* the texts in them live in the tokenizer's arena */
    unsigned n;
};

/* Gives `text` itself when nothing changes, or what it became in one of the buffers. */
mu_status mu_normalize(const struct mu_normalizer *n, struct mu_str text, struct mu_text buffers[2],
                       struct mu_str *out, struct mu_err *err);
mu_status mu_replace(const struct mu_matcher *m, struct mu_str content, struct mu_str text,
                     struct mu_text *out, struct mu_err *err);

/* sentencepiece.c: appends what the table of replacements, or all of the step, makes of a text. */
void mu_add_precompiled(struct mu_str content, struct mu_str text, struct mu_text *out);
void mu_add_sentencepiece(const struct mu_normalizer_step *n, struct mu_str text,
                          struct mu_text *out);

/* unicode_form.c: appends NFC or NFD (compose or not), or NFKC or NFKD (compatible). */
mu_status mu_add_form(struct mu_str text, bool compose, bool compatible, struct mu_text *out,
                      struct mu_err *err);

/* ---- Pieces (pretokenize.c) ---------------------------------------------------------------- */

struct mu_piece {
    uint32_t begin, end;
};

struct mu_pieces {
    struct mu_piece *p;
    size_t n, size;
};

struct mu_pre_step {
    struct mu_tokenizer_step step;
    struct mu_matcher matcher; /* split */
};

struct mu_pretokenizer {
    struct mu_pre_step *steps;
    unsigned n;
    bool unmap; /* a byte map is followed by steps that see its letters; undone at the end */
    const struct mu_scan_rules *only; /* the one step, where it is total and isolated */
};

struct mu_pre_scratch {
    struct mu_text text[2];
    struct mu_pieces pieces[2];
};

void mu_pre_scratch_init(struct mu_pre_scratch *s);
void mu_pre_scratch_fini(struct mu_pre_scratch *s);
/* Cuts `text` (`at_start`: the beginning of the whole text); pieces are places in `*out_text`. */
mu_status mu_pretokenize(const struct mu_pretokenizer *pre, struct mu_str text, bool at_start,
                         struct mu_pre_scratch *s, struct mu_str *out_text,
                         const struct mu_pieces **out, struct mu_err *err);

/* ---- Vocabulary (vocabulary.c) ------------------------------------------------------------- */

/* GPT-2's alphabet: every byte as a printable letter. */
uint32_t mu_byte_letter(uint8_t byte);
/* The byte that a letter stands for, -1: none. */
int mu_letter_byte(uint32_t letter);
void mu_add_byte_letters(struct mu_text *out, struct mu_str bytes);

struct mu_vocabulary {
    struct mu_str *tokens; /* by id, in `blob` */
    uint32_t n_tokens;
    char *blob, *blob_end;
    uint64_t *slots; /* high half of the hash, then id + 1; 0: empty */
    uint32_t mask;
};

mu_status mu_vocabulary_init(struct mu_vocabulary *v, const struct mu_tokenizer_spec *spec,
                             struct mu_err *err);
/* One more token; there is room for the spec's added ones, whose ids continue the row. */
void mu_vocabulary_add(struct mu_vocabulary *v, struct mu_str s, uint32_t id);
void mu_vocabulary_fini(struct mu_vocabulary *v);
uint64_t mu_vocabulary_hash(struct mu_str s);
uint32_t mu_vocabulary_find(const struct mu_vocabulary *v, struct mu_str s); /* or MU_TOKEN_NONE */
uint32_t mu_vocabulary_find_hashed(const struct mu_vocabulary *v, struct mu_str s, uint64_t hash);

/* ---- Added tokens (added_tokens.c) --------------------------------------------------------- */

struct mu_added_match {
    uint32_t id;
    size_t begin, end; /* with the white space it takes along */
    bool special;
};

/* Those tokens of `list` whose `normalized` is as asked, by their `contents`. NULL without error
 * when there are none. */
mu_status mu_added_create(const struct mu_added_token *list, const struct mu_str *contents,
                          uint32_t n, bool normalized, struct mu_added_set **out,
                          struct mu_err *err);
void mu_added_destroy(struct mu_added_set *set);
/* The next match at `from` or later; nothing before `floor` is taken along. `*from` is set behind
 * it. `plain_special`: special tokens are passed over. */
bool mu_added_next(const struct mu_added_set *set, struct mu_str text, size_t *from, size_t floor,
                   bool plain_special, struct mu_added_match *out);

/* ---- Models -------------------------------------------------------------------------------- */

/* bpe_build.c, bpe.c: merges by rank. SPM too, whose merges are made from its scores. */
struct mu_bpe;
mu_status mu_bpe_create(const struct mu_tokenizer_spec *spec, const struct mu_vocabulary *v,
                        bool byte_level, uint32_t unknown, struct mu_bpe **out, struct mu_err *err);
void mu_bpe_destroy(struct mu_bpe *bpe);
/* True when a space letter that follows another character is always the beginning of a token, so
 * that text may be cut there. */
bool mu_bpe_cuts_at_space(const struct mu_bpe *bpe);

struct mu_bpe_scratch;
struct mu_bpe_scratch *mu_bpe_scratch_create(void);
void mu_bpe_scratch_destroy(struct mu_bpe_scratch *s);
/* Appends the ids of one piece. `readable` bytes may be read at piece.p. False: out of memory. */
bool mu_bpe_encode(const struct mu_bpe *bpe, struct mu_bpe_scratch *s, struct mu_str piece,
                   size_t readable, struct mu_ids *out);

/* unigram.c */
struct mu_unigram;
mu_status mu_unigram_create(const struct mu_tokenizer_spec *spec, const struct mu_vocabulary *v,
                            uint32_t unknown, struct mu_unigram **out, struct mu_err *err);
void mu_unigram_destroy(struct mu_unigram *u);
bool mu_unigram_encode(const struct mu_unigram *u, struct mu_str piece, struct mu_ids *out);

/* ---- The tokenizer ------------------------------------------------------------------------- */

/* What one thread needs while it encodes. */
struct mu_encoder {
    struct mu_encoder *next; /* at rest: in the tokenizer's list */
    struct mu_bpe_scratch *bpe;
    struct mu_pre_scratch pre;
    struct mu_text repaired, normal[2];
};

struct mu_tokenizer {
    struct mu_arena *arena;
    struct mu_vocabulary vocabulary;
    uint8_t *special; /* by id */
    struct mu_added_set *added_raw, *added_normalized;
    struct mu_normalizer normalizer;
    struct mu_pretokenizer pre;
    struct mu_bpe *bpe; /* one of the two */
    struct mu_unigram *unigram;
    struct mu_tokenizer_steps decoder;
    bool byte_level;
    uint32_t prefix[MU_AFFIX_MAX], suffix[MU_AFFIX_MAX];
    unsigned n_prefix, n_suffix;
    pthread_mutex_t lock; /* of `resting` */
    struct mu_encoder *resting;
};

#endif
