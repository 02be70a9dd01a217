/*
 * Patterns that are not scanned by hand, run by PCRE2. They are written for Oniguruma: what PCRE2
 * would read differently is rewritten or refused, never guessed. A pattern may come with a model
 * from anywhere, so every match has limits and every search a deadline. Any thread.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "text/pretokenize_int.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <pcre2.h>

#define PATTERN_BYTES_MAX (64u << 10)
/* Steps of one attempt, and kilobytes of backtracking: a sane pattern needs a few dozen. */
#define MATCH_LIMIT 1000000
#define HEAP_LIMIT  65536
#define DEPTH_LIMIT 100000
/* Attempts between two looks at the clock, in bytes of text. */
#define STRIDE 512

/* White_Space: PCRE2's own \s also has U+180E. */
#define SPACES                                                                                     \
    "\\t-\\r \\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"                \
    "\\x{205F}\\x{3000}"

struct mu_regex {
    pcre2_code *code;
    pcre2_match_context *context;
};

static mu_status unsupported(const char *what, struct mu_err *err)
{
    return mu_fail(err, MU_E_UNSUPPORTED, "the pattern has %s, which is not supported", what);
}

/* Copies the escape at s.p[i]; returns the bytes it took. */
static size_t translate_escape(struct mu_str s, size_t i, bool in_class, struct mu_text *out)
{
    char c = i + 1 < s.len ? s.p[i + 1] : '\0';
    if (c == 's')
        mu_text_str(out, in_class ? SPACES : "[" SPACES "]");
    else if (c == 'S' && !in_class)
        mu_text_str(out, "[^" SPACES "]");
    else {
        /* \p{L}, \x{2028}: the braces belong to the escape. */
        const char *close =
            i + 2 < s.len && s.p[i + 2] == '{' ? memchr(s.p + i, '}', s.len - i) : NULL;
        size_t n = close ? (size_t)(close - s.p) + 1 - i : MU_MIN((size_t)2, s.len - i);
        mu_text_add(out, s.p + i, n);
        return n;
    }
    return 2;
}

/* From Oniguruma's syntax to PCRE2's. */
static mu_status translate(struct mu_str s, struct mu_text *out, struct mu_err *err)
{
    size_t class_begin = 0;
    bool in_class = false;
    for (size_t i = 0; i < s.len;) {
        char c = s.p[i], next = i + 1 < s.len ? s.p[i + 1] : '\0';
        if (c == '\\' && next == 'h') return unsupported("\\h", err);
        if (c == '\\') {
            i += translate_escape(s, i, in_class, out);
            continue;
        }
        if (in_class && c == '[' && next != ':') return unsupported("a set inside a set", err);
        if (in_class && c == '&' && next == '&') return unsupported("an intersection (&&)", err);
        if (!in_class && c == '}' && next == '+') return unsupported("a possessive interval", err);
        if (!in_class && c == '[') {
            in_class = true;
            class_begin = i + 1 + (next == '^');
        } else if (in_class && c == ']' && i > class_begin) {
            in_class = false;
        }
        mu_text_char(out, c);
        i++;
    }
    return mu_text_status(out, err);
}

static mu_status compile(struct mu_regex *regex, struct mu_str pattern, struct mu_err *err)
{
    int code;
    size_t at;
    /* Ruby's rules: ^ and $ are at every line. */
    regex->code = pcre2_compile((PCRE2_SPTR)pattern.p, pattern.len,
                                PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NO_UTF_CHECK |
                                    PCRE2_NEVER_BACKSLASH_C | PCRE2_USE_OFFSET_LIMIT,
                                &code, &at, NULL);
    if (!regex->code) {
        PCRE2_UCHAR text[160] = "";
        (void)pcre2_get_error_message(code, text, sizeof text);
        return mu_fail(err, MU_E_INPUT, "the pattern cannot be read: %s (at byte %zu)",
                       (const char *)text, at);
    }
    regex->context = pcre2_match_context_create(NULL);
    if (!regex->context) return mu_fail_memory(err, sizeof *regex);
    (void)pcre2_set_match_limit(regex->context, MATCH_LIMIT);
    (void)pcre2_set_heap_limit(regex->context, HEAP_LIMIT);
    (void)pcre2_set_depth_limit(regex->context, DEPTH_LIMIT);
    /* Without JIT everything works, more slowly. */
    (void)pcre2_jit_compile(regex->code, PCRE2_JIT_COMPLETE);
    return MU_OK;
}

mu_status mu_regex_create(struct mu_str pattern, struct mu_regex **out, struct mu_err *err)
{
    struct mu_text text;
    struct mu_regex *regex = mu_calloc(1, sizeof *regex);
    if (!regex) return mu_fail_memory(err, sizeof *regex);
    mu_text_init(&text, PATTERN_BYTES_MAX);
    mu_status status = translate(pattern, &text, err);
    if (status == MU_OK)
        status = compile(regex, (struct mu_str){mu_text_get(&text), text.len}, err);
    mu_text_fini(&text);
    if (status == MU_OK)
        *out = regex;
    else
        mu_regex_destroy(regex);
    return status;
}

void mu_regex_destroy(struct mu_regex *regex)
{
    if (!regex) return;
    pcre2_match_context_free(regex->context);
    pcre2_code_free(regex->code);
    mu_free(regex);
}

void mu_regex_begin(struct mu_search *s)
{
    const struct mu_regex *regex = s->matcher->regex;
    s->match_data = pcre2_match_data_create_from_pattern(regex->code, NULL);
    s->context = pcre2_match_context_copy(regex->context);
    if (!s->match_data || !s->context) s->status = mu_fail_memory(s->err, sizeof *regex);
}

void mu_regex_end(struct mu_search *s)
{
    pcre2_match_data_free(s->match_data);
    pcre2_match_context_free(s->context);
}

static bool stop(struct mu_search *s, const char *what)
{
    s->status = mu_fail(s->err, MU_E_INPUT, "the pre-tokenizer's pattern %s", what);
    return false;
}

/* The beginning of the first character behind `at`. */
static size_t next_character(struct mu_str s, size_t at)
{
    do
        at++;
    while (at < s.len && ((unsigned char)s.p[at] & 0xc0) == 0x80);
    return at;
}

bool mu_regex_next(struct mu_search *s, size_t from, size_t *begin, size_t *end)
{
    const pcre2_code *code = s->matcher->regex->code;
    while (from < s->text.len) {
        size_t limit = MU_MIN(s->text.len, from + STRIDE);
        (void)pcre2_set_offset_limit(s->context, limit);
        int n = pcre2_match(code, (PCRE2_SPTR)s->text.p, s->text.len, from, PCRE2_NO_UTF_CHECK,
                            s->match_data, s->context);
        if (n < 0 && n != PCRE2_ERROR_NOMATCH) return stop(s, "needs too many steps on this text");
        const size_t *match = pcre2_get_ovector_pointer(s->match_data);
        if (n >= 0 && match[0] >= from && match[1] > match[0]) {
            *begin = match[0];
            *end = match[1];
            return true;
        }
        if (mu_clock_ns() > s->deadline_ns) return stop(s, "is too slow on this text");
        /* An empty match is no place to split; look further on. */
        from = next_character(s->text, n >= 0 ? MU_MAX(match[0], from) : limit);
    }
    return false;
}
