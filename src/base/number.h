/* Numbers from text: the whole field, in range, without locale; and numbers to text. */
#ifndef MU_BASE_NUMBER_H
#define MU_BASE_NUMBER_H

#include "base/status.h"
#include "base/text.h"

/* False unless the whole of `s` is one decimal number in [min, max]. */
bool mu_parse_u64(struct mu_str s, uint64_t min, uint64_t max, uint64_t *out);
bool mu_parse_i64(struct mu_str s, int64_t min, int64_t max, int64_t *out);
/* A finite decimal number; no hex, no "nan", no "inf". */
bool mu_parse_f64(struct mu_str s, double *out);
/* "20GiB", "512 MB", "1048576": binary and decimal units of bytes, fractions allowed. */
bool mu_parse_bytes(struct mu_str s, uint64_t *out);

/* "14.2 GiB": three digits that matter. Returns `out`. */
#define MU_BYTES_TEXT 24
const char *mu_format_bytes(uint64_t bytes, char out[MU_BYTES_TEXT]);

/* The shortest decimal text that reads back as the same float or double. Returns `out`. */
#define MU_FLOAT_TEXT 32
const char *mu_format_f32(float value, char out[MU_FLOAT_TEXT]);
const char *mu_format_f64(double value, char out[MU_FLOAT_TEXT]);

#endif
