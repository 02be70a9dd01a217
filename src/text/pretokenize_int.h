/*
 * Matchers: what a Split step looks for. A few published patterns, which nearly all models share,
 * are scanned by hand; every other regular expression goes to PCRE2; plain texts are searched for.
 */
#ifndef MU_TEXT_PRETOKENIZE_INT_H
#define MU_TEXT_PRETOKENIZE_INT_H

#include "base/text.h"

struct mu_char_table;
struct mu_scan_rules;
struct mu_regex;

struct mu_matcher {
    const struct mu_scan_rules *scan; /* one of these three */
    struct mu_regex *regex;
    struct mu_str literal;
};

/* `pattern` stays borrowed. */
mu_status mu_matcher_init(struct mu_matcher *m, struct mu_str pattern, bool is_regex,
                          struct mu_err *err);
void mu_matcher_fini(struct mu_matcher *m);

/* A running search through pieces of text, by one thread. */
struct mu_search {
    const struct mu_matcher *matcher;
    struct mu_str text;
    void *match_data, *context; /* of the regex */
    uint64_t deadline_ns;
    struct mu_err *err;
    mu_status status; /* what ended it early */
};

/* `n_bytes` of text are going to be searched: it sets how long a regex may take. */
void mu_search_begin(struct mu_search *s, const struct mu_matcher *m, size_t n_bytes,
                     struct mu_err *err);
void mu_search_end(struct mu_search *s);
/* The first match in s->text that begins at `from` or later and is not empty; false when there is
 * none, or when s->status says what went wrong. */
bool mu_search_next(struct mu_search *s, size_t from, size_t *begin, size_t *end);

/* ---- By hand (pretokenize_scan.c) ---------------------------------------------------------- */

/* NULL when the pattern is not one that is scanned by hand. */
const struct mu_scan_rules *mu_scan_find(struct mu_str pattern);
/* True when every text is a row of matches without gaps. */
bool mu_scan_is_total(const struct mu_scan_rules *rules);
/* The end of the match that begins at p < end, for total rules. */
const uint8_t *mu_scan_piece(const struct mu_scan_rules *rules, const struct mu_char_table *table,
                             const uint8_t *p, const uint8_t *end);
bool mu_scan_next(const struct mu_scan_rules *rules, struct mu_str text, size_t from, size_t *begin,
                  size_t *end);

/* ---- By PCRE2 (pretokenize_regex.c) -------------------------------------------------------- */

mu_status mu_regex_create(struct mu_str pattern, struct mu_regex **out, struct mu_err *err);
void mu_regex_destroy(struct mu_regex *regex);
void mu_regex_begin(struct mu_search *s);
void mu_regex_end(struct mu_search *s);
bool mu_regex_next(struct mu_search *s, size_t from, size_t *begin, size_t *end);

#endif
