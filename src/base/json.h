/*
 * JSON in and out over jansson, with this program's limits, allocator and errors. Any thread.
 */
#ifndef MU_BASE_JSON_H
#define MU_BASE_JSON_H

#include "base/text.h"

#include <jansson.h>

/* Parses one document; duplicate keys, trailing bytes and more than 2,048 levels are refused. The
 * caller owns the result (json_decref). `name` says where the bytes came from. */
mu_status mu_json_parse(struct mu_str bytes, const char *name, json_t **out, struct mu_err *err);
/* Reads and parses a file of at most `max_bytes`. */
mu_status mu_json_read(const char *path, uint64_t max_bytes, json_t **out, struct mu_err *err);

/* Appends a string literal with its quotes; bytes that are not UTF-8 become U+FFFD. */
void mu_json_add_string(struct mu_text *out, struct mu_str s);
/* Appends a number that reads back as the same float; null for NaN and infinities. */
void mu_json_add_f32(struct mu_text *out, float value);
void mu_json_add_f64(struct mu_text *out, double value);

#endif
