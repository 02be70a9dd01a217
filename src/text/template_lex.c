/*
 * Chat templates, first stage: source to tokens, with the white space rules of trim_blocks,
 * lstrip_blocks and the signs in tags. Knows no grammar; called by the parser, one token at a time.
 */
#include "text/template_int.h"

#include "base/utf8.h"

#include <utf8proc.h>

static int byte_at(const struct lexer *l, size_t i)
{
    return i < l->source.len ? (unsigned char)l->source.p[i] : -1;
}

static bool starts(const struct lexer *l, size_t i, const char *text)
{
    size_t n = strlen(text);
    return i <= l->source.len && n <= l->source.len - i && memcmp(l->source.p + i, text, n) == 0;
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

/* The code point at `i` and its length; the source was checked to be UTF-8. */
static uint32_t point(const struct lexer *l, size_t i, unsigned *n)
{
    return mu_utf8_decode((struct mu_str){l->source.p + i, l->source.len - i}, n);
}

static size_t skip_space(const struct lexer *l, size_t i)
{
    unsigned n;
    while (i < l->source.len && mu_tpl_is_space(point(l, i, &n)))
        i += n;
    return i;
}

/* A tag's end at `i`, `mark` being "%}", "}}" or "#}": the byte after it and the space it takes
 * along, or 0. */
static size_t tag_end(const struct lexer *l, size_t i, const char *mark)
{
    bool block = mark[0] != '}';
    if (byte_at(l, i) == '-' && starts(l, i + 1, mark)) return skip_space(l, i + 3);
    if (block && byte_at(l, i) == '+' && starts(l, i + 1, mark)) return i + 3;
    if (!starts(l, i, mark)) return 0;
    return block && byte_at(l, i + 2) == '\n' ? i + 3 : i + 2;
}

/* Takes from the end of the text before a tag what the tag's sign and lstrip_blocks remove. */
static struct mu_str trim_before(struct mu_str text, int sign, bool print, bool line_starting)
{
    if (sign == '-') return mu_tpl_strip(text, NULL, false, true);
    if (sign == '+' || print) return text;
    const char *newline = text.len ? memrchr(text.p, '\n', text.len) : NULL;
    if (!newline && !line_starting) return text;
    size_t line = newline ? (size_t)(newline - text.p) + 1 : 0;
    struct mu_str last = {text.p + line, text.len - line};
    if (mu_tpl_strip(last, NULL, true, false).len == 0) text.len = line;
    return text;
}

/* The end of `{% word %}` at `i` when it is that tag, else 0; `sign` gets the sign of its begin. A
 * raw tag's own end takes no newline along, unlike all others. */
static size_t word_tag(const struct lexer *l, size_t i, const char *word, bool trim, int *sign)
{
    if (!starts(l, i, "{%")) return 0;
    *sign = byte_at(l, i + 2);
    i += *sign == '-' || *sign == '+' ? 3 : 2;
    i = skip_space(l, i);
    if (!starts(l, i, word)) return 0;
    i = skip_space(l, i + strlen(word));
    if (trim) return tag_end(l, i, "%}");
    if (starts(l, i, "-%}")) return skip_space(l, i + 3);
    return starts(l, i, "%}") ? i + 2 : 0;
}

static void line_moved(struct lexer *l, size_t to)
{
    l->pos = to;
    l->line_starting = byte_at(l, to - 1) == '\n';
}

static struct token data_token(const struct lexer *l, struct mu_str text)
{
    return (struct token){T_DATA, (uint32_t)(text.p - l->source.p), text};
}

/* Leaves the text between raw and endraw pending. */
static mu_status lex_raw(struct parser *p, size_t begin, size_t from)
{
    struct lexer *l = &p->lex;
    line_moved(l, from);
    for (size_t i = from; i < l->source.len; i++) {
        int sign;
        size_t end = word_tag(l, i, "endraw", true, &sign);
        if (!end) continue;
        struct mu_str text = {l->source.p + from, i - from};
        text = trim_before(text, sign, false, l->line_starting);
        l->pending = data_token(l, text);
        l->has_pending = text.len > 0;
        line_moved(l, end);
        return MU_OK;
    }
    return mu_tpl_syntax(p, (uint32_t)begin, "raw has no endraw");
}

static mu_status lex_comment(struct parser *p, size_t begin, size_t from)
{
    struct lexer *l = &p->lex;
    for (size_t i = from; i < l->source.len; i++) {
        size_t end = tag_end(l, i, "#}");
        if (!end) continue;
        line_moved(l, end);
        return MU_OK;
    }
    return mu_tpl_syntax(p, (uint32_t)begin, "the comment has no end");
}

/* Where the next tag begins, or the end of the source. */
static size_t find_tag(const struct lexer *l)
{
    for (size_t i = l->pos; i + 1 < l->source.len; i++) {
        const char *brace = memchr(l->source.p + i, '{', l->source.len - 1 - i);
        if (!brace) break;
        i = (size_t)(brace - l->source.p);
        if (brace[1] == '%' || brace[1] == '{' || brace[1] == '#') return i;
    }
    return l->source.len;
}

/* One tag and the text before it: the text is returned (perhaps empty), what follows is pending. */
static mu_status lex_data(struct parser *p, struct mu_str *text)
{
    struct lexer *l = &p->lex;
    size_t begin = find_tag(l), raw;
    *text = (struct mu_str){l->source.p + l->pos, begin - l->pos};
    if (begin == l->source.len) {
        l->pos = begin;
        return MU_OK;
    }
    int kind = byte_at(l, begin + 1), sign = byte_at(l, begin + 2), raw_sign;
    size_t after = begin + (sign == '-' || sign == '+' ? 3 : 2);
    *text = trim_before(*text, sign, kind == '{', l->line_starting);
    if (kind == '%' && (raw = word_tag(l, begin, "raw", false, &raw_sign)) != 0)
        return lex_raw(p, begin, raw);
    if (kind == '#') return lex_comment(p, begin, after);
    l->pending =
        (struct token){.kind = kind == '{' ? T_PRINT_BEGIN : T_BLOCK_BEGIN, .at = (uint32_t)begin};
    l->has_pending = true;
    l->state = kind == '{' ? LEX_PRINT : LEX_BLOCK;
    l->pos = after;
    l->line_starting = false;
    return MU_OK;
}

/* Digits with single underscores between them; returns the byte after, or `i` when there is none.
 */
static size_t digits(const struct lexer *l, size_t i, const char *allowed)
{
    size_t end = i;
    while (byte_at(l, i) > 0 && strchr(allowed, byte_at(l, i))) {
        end = ++i;
        if (byte_at(l, i) == '_') i++;
    }
    return end;
}

#define DECIMAL "0123456789"

/* The end of a float at the position; `l->pos` when there is none. */
static size_t float_end(const struct lexer *l)
{
    size_t i = digits(l, l->pos, DECIMAL), end = l->pos;
    if (l->pos > 0 && byte_at(l, l->pos - 1) == '.') return end;
    if (byte_at(l, i) == '.' && is_digit(byte_at(l, i + 1))) end = i = digits(l, i + 1, DECIMAL);
    if (byte_at(l, i) == 'e' || byte_at(l, i) == 'E') {
        size_t j = i + 1;
        if (byte_at(l, j) == '+' || byte_at(l, j) == '-') j++;
        if (is_digit(byte_at(l, j))) end = digits(l, j, DECIMAL);
    }
    return end;
}

static size_t integer_end(const struct lexer *l)
{
    static const struct {
        const char *lower, *upper, *digits;
    } bases[] = {
        {"0b", "0B", "01"}, {"0o", "0O", "01234567"}, {"0x", "0X", "0123456789abcdefABCDEF"}};
    for (unsigned b = 0; b < MU_ARRAY_LEN(bases); b++) {
        if (!starts(l, l->pos, bases[b].lower) && !starts(l, l->pos, bases[b].upper)) continue;
        size_t end = digits(l, l->pos + 2, bases[b].digits);
        if (end > l->pos + 2) return end;
    }
    return digits(l, l->pos, byte_at(l, l->pos) == '0' ? "0" : DECIMAL);
}

static size_t name_end(const struct lexer *l)
{
    size_t i = l->pos;
    for (unsigned n; i < l->source.len; i += n) {
        uint32_t cp = point(l, i, &n);
        utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
        bool letter = c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
        bool number = c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
        if (cp != '_' && !letter && !(number && i > l->pos)) break;
    }
    return i;
}

/* The end of a string literal that begins at the position; the position when it never ends. */
static size_t string_end(const struct lexer *l)
{
    int quote = byte_at(l, l->pos);
    for (size_t i = l->pos + 1; i < l->source.len; i++) {
        if (byte_at(l, i) == '\\')
            i++;
        else if (byte_at(l, i) == quote)
            return i + 1;
    }
    return l->pos;
}

/* Brackets must pair, and tags do not end inside them. */
static mu_status lex_bracket(struct parser *p, char c)
{
    struct lexer *l = &p->lex;
    if (c == '(' || c == '[' || c == '{') {
        if (l->n_brackets == MU_ARRAY_LEN(l->brackets))
            return mu_tpl_syntax(p, (uint32_t)l->pos, "more than %d brackets nested",
                                 MU_TPL_NEST_MAX);
        l->brackets[l->n_brackets++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (l->n_brackets == 0) return mu_tpl_syntax(p, (uint32_t)l->pos, "unexpected '%c'", c);
        char expected = l->brackets[--l->n_brackets];
        if (c != expected)
            return mu_tpl_syntax(p, (uint32_t)l->pos, "unexpected '%c', expected '%c'", c,
                                 expected);
    }
    return MU_OK;
}

static mu_status lex_operator(struct parser *p, size_t *end)
{
    static const char *const two[] = {"**", "//", "==", "!=", ">=", "<="};
    struct lexer *l = &p->lex;
    int c = byte_at(l, l->pos);
    for (unsigned i = 0; i < MU_ARRAY_LEN(two); i++)
        if (starts(l, l->pos, two[i])) {
            *end = l->pos + 2;
            return MU_OK;
        }
    if (c <= 0 || !strchr("+-*/%~[](){}<>=.:|,;", c)) {
        unsigned n;
        (void)point(l, l->pos, &n);
        return mu_tpl_syntax(p, (uint32_t)l->pos, "unexpected character '%.*s'", (int)n,
                             l->source.p + l->pos);
    }
    *end = l->pos + 1;
    return lex_bracket(p, (char)c);
}

static mu_status lex_tag(struct parser *p, struct token *out)
{
    struct lexer *l = &p->lex;
    l->pos = skip_space(l, l->pos);
    out->at = (uint32_t)l->pos;
    size_t end = l->n_brackets ? 0 : tag_end(l, l->pos, l->state == LEX_PRINT ? "}}" : "%}");
    if (end) {
        out->kind = l->state == LEX_PRINT ? T_PRINT_END : T_BLOCK_END;
        l->state = LEX_DATA;
        line_moved(l, end);
        return MU_OK;
    }
    int c = byte_at(l, l->pos);
    if (c < 0) {
        out->kind = T_END;
        return MU_OK;
    }
    if (is_digit(c)) {
        end = float_end(l);
        out->kind = end > l->pos ? T_FLOAT : T_INT;
        if (end == l->pos) end = integer_end(l);
    } else if (c == '"' || c == '\'') {
        out->kind = T_STRING;
        end = string_end(l);
        if (end == l->pos) return mu_tpl_syntax(p, out->at, "the text has no closing quote");
    } else if ((end = name_end(l)) > l->pos) {
        out->kind = T_NAME;
    } else {
        out->kind = T_OP;
        MU_TRY(lex_operator(p, &end));
    }
    out->text = (struct mu_str){l->source.p + l->pos, end - l->pos};
    l->pos = end;
    return MU_OK;
}

mu_status mu_tpl_lex(struct parser *p, struct token *out)
{
    struct lexer *l = &p->lex;
    *out = (struct token){.kind = T_END, .at = (uint32_t)l->pos};
    if (!l->has_pending && l->state != LEX_DATA) return lex_tag(p, out);
    while (!l->has_pending && l->pos < l->source.len) {
        struct mu_str text;
        MU_TRY(lex_data(p, &text));
        if (text.len == 0) continue;
        *out = data_token(l, text);
        return MU_OK;
    }
    if (l->has_pending) {
        *out = l->pending;
        l->has_pending = false;
    }
    return MU_OK;
}
