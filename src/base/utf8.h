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
/* Copies what somebody else wrote so that nothing in it moves a terminal's cursor or turns its text
 * around: controls and bytes that are not UTF-8 become '?', a tab a space; `kept` alone stays as it
 * is ('\n' where lines are meant, else '\0'). Whole code points, and a terminator, within `size`
 * bytes; returns the length. `out` may be where `s` is. */
size_t mu_utf8_copy_harmless(char *out, size_t size, struct mu_str s, char kept);
/* How many bytes at the end of `s` are the beginning of a code point that may still be completed
 * (0 to 3). */
unsigned mu_utf8_unfinished(struct mu_str s);

#endif
