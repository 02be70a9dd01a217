/*
 * The published patterns, scanned by hand: one scanner with a few switches stands for the family
 * (GPT-2, Llama 3, Qwen, o200k, Tekken), another for runs of numbers. Their alternatives are tried
 * in the order in which the pattern lists them, with the give-back a regular expression would do;
 * a test holds them to PCRE2. Knows nothing of tokens. Any thread.
 */
#include "text/char_class.h"
#include "text/pretokenize_int.h"

#include "base/compiler.h"

enum contractions { CONTRACT_NONE, CONTRACT_LOWER, CONTRACT_HEAD, CONTRACT_TAIL };

struct mu_scan_rules {
    enum contractions contractions; /* before all else: as written, or in any case; or as a tail */
    bool gpt2;           /* words and numbers take one space; numbers have no limit; no line rule */
    bool cased;          /* words end where upper case follows lower case */
    uint8_t letters;     /* what words are made of */
    unsigned max_digits; /* of a piece, 0: any number */
    bool slash;          /* punctuation takes slashes and line ends, or (false) line ends */
    bool only_numbers;   /* not a total pattern: numbers and nothing else */
};

#define LETTERS MU_CHAR_LETTER
#define MARKED  (MU_CHAR_LETTER | MU_CHAR_MARK)

static const struct mu_scan_rules rules_gpt2 = {CONTRACT_LOWER, true, false, LETTERS, 0,
                                                false,          false};
static const struct mu_scan_rules rules_llama3 = {CONTRACT_HEAD, false, false, LETTERS, 3,
                                                  false,         false};
static const struct mu_scan_rules rules_qwen2 = {CONTRACT_HEAD, false, false, LETTERS, 1,
                                                 false,         false};
static const struct mu_scan_rules rules_qwen35 = {CONTRACT_HEAD, false, false, MARKED, 1,
                                                  false,         false};
static const struct mu_scan_rules rules_o200k = {CONTRACT_TAIL, false, true, LETTERS, 3,
                                                 true,          false};
static const struct mu_scan_rules rules_tekken = {CONTRACT_NONE, false, true, LETTERS, 1,
                                                  true,          false};
static const struct mu_scan_rules rules_number = {.max_digits = 1, .only_numbers = true};
static const struct mu_scan_rules rules_numbers3 = {.max_digits = 3, .only_numbers = true};
static const struct mu_scan_rules rules_numbers = {.max_digits = 0, .only_numbers = true};

#define ANY_CASE   "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define TAIL       "\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define WORD_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define WORD_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define BEFORE     "[^\\r\\n\\p{L}\\p{N}]?"
#define LLAMA3(d)  ANY_CASE "|" BEFORE "\\p{L}+|" d "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|" TAIL
#define CASED(tail, d)                                                                             \
    BEFORE WORD_UPPER "*" WORD_LOWER "+" tail "|" BEFORE WORD_UPPER "+" WORD_LOWER "*" tail "|" d  \
                      "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|" TAIL

static const struct known {
    const char *pattern;
    const struct mu_scan_rules *rules;
} known[] = {
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     &rules_gpt2},
    {"'(?:[sdmt]|ll|ve|re)| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+",
     &rules_gpt2},
    {LLAMA3("\\p{N}{1,3}"), &rules_llama3},
    {LLAMA3("\\p{N}"), &rules_qwen2},
    {ANY_CASE "|" BEFORE "[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*|" TAIL,
     &rules_qwen35},
    {CASED(ANY_CASE "?", "\\p{N}{1,3}"), &rules_o200k},
    {CASED("", "\\p{N}"), &rules_tekken},
    {"\\p{N}", &rules_number},
    {"\\p{N}{1,3}", &rules_numbers3},
    {"\\p{N}+", &rules_numbers},
};

const struct mu_scan_rules *mu_scan_find(struct mu_str pattern)
{
    for (unsigned i = 0; i < MU_ARRAY_LEN(known); i++)
        if (mu_str_is(pattern, known[i].pattern)) return known[i].rules;
    return NULL;
}

bool mu_scan_is_total(const struct mu_scan_rules *rules)
{
    return !rules->only_numbers;
}

/* ---- Runs of one kind ---------------------------------------------------------------------- */

struct scanner {
    const struct mu_char_table *table;
    const uint8_t *end;
};

/* Flags of the character at p, 0 at the end of the text; `*n` is its length. */
static inline unsigned flags_at(const struct scanner *s, const uint8_t *p, unsigned *n)
{
    *n = 1;
    if (p >= s->end) return 0;
    if (*p < 0x80) return s->table->ascii[*p];
    return mu_char_flags(s->table, mu_char_next(p, n));
}

/* Past the run of characters that have one of the flags. */
static inline const uint8_t *run_of(const struct scanner *s, const uint8_t *p, unsigned flags)
{
    for (;;) {
        while (p < s->end && (s->table->ascii[*p] & flags))
            p++;
        unsigned n;
        if (p >= s->end || *p < 0x80 || !(flags_at(s, p, &n) & flags)) return p;
        p += n;
    }
}

/* Past the run of characters that have none of them. */
static inline const uint8_t *run_without(const struct scanner *s, const uint8_t *p, unsigned flags)
{
    unsigned n;
    while (p < s->end && !(flags_at(s, p, &n) & flags))
        p += n;
    return p;
}

static const uint8_t *run_of_digits(const struct scanner *s, const uint8_t *p, unsigned max)
{
    unsigned n;
    if (max == 0) return run_of(s, p, MU_CHAR_NUMBER);
    for (unsigned i = 0; i < max && (flags_at(s, p, &n) & MU_CHAR_NUMBER); i++)
        p += n;
    return p;
}

/* 's 't 're 've 'm 'll 'd at p, which is an apostrophe; p when there is none. */
static const uint8_t *contraction(const struct scanner *s, const uint8_t *p, bool any_case)
{
    const uint8_t fold = any_case ? 0x20 : 0;
    if (s->end - p < 2) return p;
    uint8_t a = p[1] | fold;
    if (a == 's' || a == 't' || a == 'm' || a == 'd') return p + 2;
    if (s->end - p < 3) return p;
    uint8_t b = p[2] | fold;
    if ((b == 'e' && (a == 'r' || a == 'v')) || (a == 'l' && b == 'l')) return p + 3;
    /* The long s, U+017F, is an s in any case. */
    return any_case && p[1] == 0xc5 && p[2] == 0xbf ? p + 3 : p;
}

/* ---- Alternatives -------------------------------------------------------------------------- */

/* \s*[\r\n]+|\s+(?!\S)|\s+ at p, where white space is: up to the last line end of the run; or the
 * run without its last character, which goes with what follows; or that one. */
static const uint8_t *white_space(const struct scanner *s, const uint8_t *p, bool line_rule)
{
    const uint8_t *q = p, *last = p, *line = NULL;
    unsigned n;
    while (flags_at(s, q, &n) & MU_CHAR_SPACE) {
        last = q;
        if (*q == '\n' || *q == '\r') line = q + 1;
        q += n;
    }
    if (line && line_rule) return line;
    return q == s->end || last == p ? q : last;
}

static const uint8_t *punctuation_tail(const struct scanner *s, const uint8_t *p, bool slash)
{
    while (p < s->end && (*p == '\r' || *p == '\n' || (slash && *p == '/')))
        p++;
    return p;
}

/* UPPER*LOWER+ at p, or p. Characters in both sets are given back from the end of the upper run
 * until one of them can begin the lower part. */
static const uint8_t *cased_word(const struct scanner *s, const uint8_t *p)
{
    const uint8_t *q = p, *after_both = p;
    unsigned n, flags;
    while ((flags = flags_at(s, q, &n)) & MU_CHAR_UPPER) {
        q += n;
        if (flags & MU_CHAR_LOWER) after_both = q;
    }
    const uint8_t *lower = run_of(s, q, MU_CHAR_LOWER);
    return lower > q ? lower : after_both;
}

/* The two alternatives of o200k for words; p when neither matches. */
static const uint8_t *cased_piece(const struct scanner *s, const uint8_t *p, unsigned flags,
                                  unsigned n)
{
    bool may_precede = !(flags & (MU_CHAR_LETTER | MU_CHAR_NUMBER)) && *p != '\r' && *p != '\n';
    const uint8_t *q = may_precede ? p + n : p;
    const uint8_t *e = cased_word(s, q);
    if (e > q) return e;
    if (may_precede && (flags & MU_CHAR_MARK)) return cased_word(s, p);
    e = run_of(s, q, MU_CHAR_UPPER);
    return e > q ? e : p;
}

static const uint8_t *gpt2_piece(const struct scanner *s, const uint8_t *p)
{
    const unsigned solid = MU_CHAR_LETTER | MU_CHAR_NUMBER | MU_CHAR_SPACE;
    unsigned n;
    if (*p == '\'') {
        const uint8_t *e = contraction(s, p, false);
        if (e > p) return e;
    }
    const uint8_t *q = *p == ' ' ? p + 1 : p;
    unsigned flags = flags_at(s, q, &n);
    if (flags & MU_CHAR_LETTER) return run_of(s, q, MU_CHAR_LETTER);
    if (flags & MU_CHAR_NUMBER) return run_of(s, q, MU_CHAR_NUMBER);
    if (q < s->end && !(flags & MU_CHAR_SPACE)) return run_without(s, q, solid);
    return white_space(s, p, false);
}

static const uint8_t *newer_piece(const struct scanner *s, const struct mu_scan_rules *rules,
                                  const uint8_t *p)
{
    unsigned n, next_n, flags = flags_at(s, p, &n);
    if (*p == '\'' && rules->contractions == CONTRACT_HEAD) {
        const uint8_t *e = contraction(s, p, true);
        if (e > p) return e;
    }
    if (rules->cased) {
        const uint8_t *e = cased_piece(s, p, flags, n);
        if (e > p && e < s->end && *e == '\'' && rules->contractions == CONTRACT_TAIL)
            return contraction(s, e, true);
        if (e > p) return e;
    } else if (flags & rules->letters) {
        return run_of(s, p + n, rules->letters);
    } else if (!(flags & MU_CHAR_NUMBER) && *p != '\r' && *p != '\n' &&
               (flags_at(s, p + n, &next_n) & rules->letters)) {
        return run_of(s, p + n + next_n, rules->letters);
    }
    if (flags & MU_CHAR_NUMBER) return run_of_digits(s, p, rules->max_digits);
    const unsigned solid = rules->letters | MU_CHAR_NUMBER | MU_CHAR_SPACE;
    const uint8_t *q = *p == ' ' ? p + 1 : p;
    if (q < s->end && !(flags_at(s, q, &next_n) & solid))
        return punctuation_tail(s, run_without(s, q, solid), rules->slash);
    return white_space(s, p, true);
}

const uint8_t *mu_scan_piece(const struct mu_scan_rules *rules, const struct mu_char_table *table,
                             const uint8_t *p, const uint8_t *end)
{
    const struct scanner s = {table, end};
    return rules->gpt2 ? gpt2_piece(&s, p) : newer_piece(&s, rules, p);
}

bool mu_scan_next(const struct mu_scan_rules *rules, struct mu_str text, size_t from, size_t *begin,
                  size_t *end)
{
    const uint8_t *text_p = (const uint8_t *)text.p;
    const struct scanner s = {mu_char_table(), text_p + text.len};
    const uint8_t *p = text_p + from;
    if (rules->only_numbers) p = run_without(&s, p, MU_CHAR_NUMBER);
    if (p == s.end) return false;
    *begin = (size_t)(p - text_p);
    p = rules->only_numbers ? run_of_digits(&s, p, rules->max_digits)
                            : mu_scan_piece(rules, s.table, p, s.end);
    *end = (size_t)(p - text_p);
    return true;
}
