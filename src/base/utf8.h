/* UTF-8: decoding one code point, checking, and repairing. Any thread. */
#ifndef MU_BASE_UTF8_H
#define MU_BASE_UTF8_H

#include "base/text.h"

#define MU_UTF8_BAD UINT32_MAX

/* The code point at the start of `s` and its length in `*len`; MU_UTF8_BAD with the length of the
 * longest valid beginning (at least 1) when the bytes are not UTF-8. `s.len` > 0. */
uint32_t mu_utf8_decode(struct mu_str s, unsigned *len);
/* Writes the code point in 1 to 4 bytes; returns how many. */
unsigned mu_utf8_encode(uint32_t cp, char out[4]);

bool mu_utf8_valid(struct mu_str s);
/* Appends `s`, with U+FFFD for each maximal piece that is not UTF-8. */
void mu_utf8_add_repaired(struct mu_text *out, struct mu_str s);
/* How many bytes at the end of `s` are the beginning of a code point that may still be completed
 * (0 to 3). */
unsigned mu_utf8_unfinished(struct mu_str s);

#endif
