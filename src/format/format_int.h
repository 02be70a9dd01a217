/* What the files of format/ share and no other room sees. */
#ifndef MU_FORMAT_FORMAT_INT_H
#define MU_FORMAT_FORMAT_INT_H

#include "base/cursor.h"
#include "format/format.h"

/* GGUF metadata, checked: every string and array lies inside the mapping. */
enum mu_gguf_type {
    MU_GGUF_U8,
    MU_GGUF_I8,
    MU_GGUF_U16,
    MU_GGUF_I16,
    MU_GGUF_U32,
    MU_GGUF_I32,
    MU_GGUF_F32,
    MU_GGUF_BOOL,
    MU_GGUF_STRING,
    MU_GGUF_ARRAY,
    MU_GGUF_U64,
    MU_GGUF_I64,
    MU_GGUF_F64
};

struct mu_gguf_value {
    struct mu_str key;
    enum mu_gguf_type type; /* of the value, or of the elements of an array */
    bool is_array;
    uint64_t n;           /* elements; 1 for a plain value */
    const uint8_t *bytes; /* first element; strings are u64 length, then bytes */
    uint64_t n_bytes;
};

struct mu_gguf;

/* NULL when there is no such key. */
const struct mu_gguf_value *mu_gguf_find(const struct mu_gguf *gguf, const char *key);
/* False when absent, an array, or not convertible without loss. */
bool mu_gguf_u64(const struct mu_gguf *gguf, const char *key, uint64_t *out);
bool mu_gguf_f64(const struct mu_gguf *gguf, const char *key, double *out);
bool mu_gguf_bool(const struct mu_gguf *gguf, const char *key, bool *out);
bool mu_gguf_string(const struct mu_gguf *gguf, const char *key, struct mu_str *out);
/* The next string of an array of strings, read with a cursor over value->bytes. */
struct mu_str mu_gguf_next_string(struct mu_cursor *cursor);

/* The metadata of an opened .gguf, NULL for other models. */
const struct mu_gguf *mu_model_file_gguf(const struct mu_model_file *file);
/* The folder of an opened safetensors model, NULL for other models. */
const char *mu_model_file_folder(const struct mu_model_file *file);

#endif
