/*
 * Text to tokens and back.
 *
 * A tokenizer is made from a spec and then only read: any number of threads may encode and decode
 * with it at once. Text that is not UTF-8 is repaired with U+FFFD before anything else.
 */
#ifndef MU_TEXT_TOKENIZER_H
#define MU_TEXT_TOKENIZER_H

#include "base/text.h"

struct mu_model_file;
struct mu_tokenizer;
struct mu_tokenizer_spec;

/* Growing list of token ids. One thread at a time. */
struct mu_ids {
    uint32_t *p;
    size_t n, size;
};

void mu_ids_fini(struct mu_ids *ids);
/* Room for n more; false when memory is out. */
bool mu_ids_reserve(struct mu_ids *ids, size_t n) MU_NODISCARD;

/* The tokenizer of a model, which may be closed afterwards. */
mu_status mu_tokenizer_open(const struct mu_model_file *file, struct mu_tokenizer **out,
                            struct mu_err *err);
/* `spec` may be destroyed afterwards. */
mu_status mu_tokenizer_create(const struct mu_tokenizer_spec *spec, struct mu_tokenizer **out,
                              struct mu_err *err);
void mu_tokenizer_destroy(struct mu_tokenizer *t);

/* ---- Tokens -------------------------------------------------------------------------------- */

/* Ids are below; some of them may have no token. */
uint32_t mu_tokenizer_size(const struct mu_tokenizer *t);
/* The token as the vocabulary spells it; empty for an id without token. */
struct mu_str mu_tokenizer_token(const struct mu_tokenizer *t, uint32_t id);
/* False when no token is spelled so. */
bool mu_tokenizer_find(const struct mu_tokenizer *t, struct mu_str token, uint32_t *id);
/* A token that stands for no text: what MU_DECODE_SKIP_SPECIAL leaves out. */
bool mu_tokenizer_is_special(const struct mu_tokenizer *t, uint32_t id);
/* Appends the bytes that the token adds in the middle of a text; they may be a part of a
 * character. */
void mu_tokenizer_add_bytes(const struct mu_tokenizer *t, uint32_t id, struct mu_text *out);

/* ---- Encode, decode ------------------------------------------------------------------------ */

enum {
    MU_ENCODE_ADD_SPECIAL = 1,   /* with what a complete text begins and ends with */
    MU_ENCODE_PLAIN_SPECIAL = 2, /* special tokens in the text are text like any other */
};

/* Appends; on failure `out` is as before. */
mu_status mu_tokenizer_encode(const struct mu_tokenizer *t, struct mu_str text, unsigned flags,
                              struct mu_ids *out, struct mu_err *err);

enum { MU_DECODE_SKIP_SPECIAL = 1 };

/* Appends. Ids without token are left out; bytes that make no character become U+FFFD. */
mu_status mu_tokenizer_decode(const struct mu_tokenizer *t, const uint32_t *ids, size_t n,
                              unsigned flags, struct mu_text *out, struct mu_err *err);

/* One token at a time. What comes out is always whole characters; all pieces together are what
 * mu_tokenizer_decode gives, but for one thing: where a vocabulary has tokens for single bytes and
 * a row of them is not UTF-8, the good characters in it have been given out by then. Plain data;
 * one thread at a time. */
struct mu_detokenizer {
    const struct mu_tokenizer *t;
    unsigned flags;
    bool begun;           /* a token came */
    uint32_t strip_left;  /* how many more may be taken off the front */
    struct mu_text bytes; /* not yet whole characters */
    bool in_run;          /* they came one to a token */
    bool whole_runs;      /* such a row is judged when it has ended */
};

void mu_detokenizer_init(struct mu_detokenizer *d, const struct mu_tokenizer *t, unsigned flags);
void mu_detokenizer_fini(struct mu_detokenizer *d);
/* Appends what became whole. */
void mu_detokenizer_push(struct mu_detokenizer *d, uint32_t id, struct mu_text *out);
/* The text ends: appends what is left, and `d` is ready for another text. */
void mu_detokenizer_end(struct mu_detokenizer *d, struct mu_text *out);

/* ---- Stop strings -------------------------------------------------------------------------- */

#define MU_STOP_MAX 16

/* Finds the first of several texts in a stream, holding back what may be the beginning of one. */
struct mu_stop {
    struct mu_str strings[MU_STOP_MAX]; /* borrowed */
    unsigned n;
    struct mu_text held;
    int found; /* which one ended the stream, -1: none yet */
};

/* Empty strings never match. More than MU_STOP_MAX: MU_E_INPUT. */
mu_status mu_stop_init(struct mu_stop *stop, const struct mu_str *strings, unsigned n,
                       struct mu_err *err);
void mu_stop_fini(struct mu_stop *stop);
/* Takes more text; appends what cannot belong to a match any more. True when the stream ended: the
 * stop string and what follows is not given out, unless `keep`. */
bool mu_stop_push(struct mu_stop *stop, struct mu_str text, bool keep, struct mu_text *out);
/* The stream ended by itself: appends what was held back. */
void mu_stop_end(struct mu_stop *stop, struct mu_text *out);

#endif
