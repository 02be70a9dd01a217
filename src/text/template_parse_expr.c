/*
 * Chat templates, second stage: the expressions, by descent in Jinja's order of precedence (which
 * is not Python's: filters bind tighter than arithmetic, ** is left-associative).
 */
#include "text/template_int.h"

#include "base/number.h"
#include "base/utf8.h"

static mu_status parse_or(struct parser *p, struct node **out);
static mu_status parse_unary(struct parser *p, bool filters, struct node **out);
static mu_status parse_args(struct parser *p, struct node **out);

static bool at_op(const struct parser *p, const char *op)
{
    return mu_tpl_at(p, T_OP, op);
}

/* Wraps what was parsed so far as the first child of a new node. */
static mu_status wrap(struct parser *p, enum node_kind kind, struct node **io)
{
    struct node *n;
    MU_TRY(mu_tpl_node(p, kind, p->now.at, &n));
    n->a = *io;
    *io = n;
    return MU_OK;
}

static mu_status enter(struct parser *p)
{
    if (++p->depth <= MU_TPL_NEST_MAX) return MU_OK;
    return mu_tpl_syntax(p, p->now.at, "more than %d levels of nesting", MU_TPL_NEST_MAX);
}

/* The part of a literal after a backslash: hexadecimal digits, as many as the letter says. */
static mu_status escape_hex(struct parser *p, uint32_t at, struct mu_str s, unsigned n,
                            uint32_t *cp)
{
    *cp = 0;
    for (unsigned i = 0; i < n; i++) {
        int c = i < s.len ? (unsigned char)s.p[i] : 0;
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return mu_tpl_syntax(p, at, "the text has an escape with too few digits");
        *cp = *cp << 4 | (uint32_t)digit;
    }
    if (*cp < 0x110000 && (*cp < 0xd800 || *cp > 0xdfff)) return MU_OK;
    return mu_tpl_syntax(p, at, "the text has an escape that is no character");
}

/* One escape: writes to `*w`, advances `*s` past it. `s->p[0]` is what follows the backslash. */
static mu_status unescape_one(struct parser *p, uint32_t at, struct mu_str *s, char **w)
{
    static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
    int c = (unsigned char)s->p[0];
    const char *simple = c ? strchr(from, c) : NULL;
    uint32_t cp = 0;
    *s = (struct mu_str){s->p + 1, s->len - 1};
    if (c == '\n') return MU_OK;
    if (simple) {
        *(*w)++ = to[simple - from];
    } else if (c == 'x' || c == 'u' || c == 'U') {
        unsigned n = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        MU_TRY(escape_hex(p, at, *s, n, &cp));
        *w += mu_utf8_encode(cp, *w);
        *s = (struct mu_str){s->p + n, s->len - n};
    } else if (c >= '0' && c <= '7') {
        cp = (uint32_t)c - '0';
        for (unsigned i = 0; i < 2 && s->len > 0 && s->p[0] >= '0' && s->p[0] <= '7'; i++) {
            cp = cp * 8 + (uint32_t)(s->p[0] - '0');
            *s = (struct mu_str){s->p + 1, s->len - 1};
        }
        *w += mu_utf8_encode(cp, *w);
    } else {
        *(*w)++ = '\\';
        *(*w)++ = (char)c;
    }
    return MU_OK;
}

static mu_status unescape(struct parser *p, uint32_t at, struct mu_str s, struct mu_str *out)
{
    *out = s;
    if (!memchr(s.p, '\\', s.len)) return MU_OK;
    /* No escape is longer as text than as source. */
    char *text = mu_arena_alloc(p->t->arena, s.len + 4, 1), *w = text;
    if (!text) return mu_fail_memory(p->err, s.len);
    while (s.len > 0) {
        char c = s.p[0];
        s = (struct mu_str){s.p + 1, s.len - 1};
        if (c == '\\' && s.len > 0)
            MU_TRY(unescape_one(p, at, &s, &w));
        else
            *w++ = c;
    }
    *out = (struct mu_str){text, (size_t)(w - text)};
    return MU_OK;
}

/* One or several literals side by side, which are one. */
static mu_status parse_string(struct parser *p, struct node **out)
{
    MU_TRY(mu_tpl_node(p, N_CONST, p->now.at, out));
    struct mu_str all = {"", 0};
    for (bool first = true; p->now.kind == T_STRING; first = false) {
        struct mu_str one;
        MU_TRY(
            unescape(p, p->now.at, (struct mu_str){p->now.text.p + 1, p->now.text.len - 2}, &one));
        if (first) {
            all = one;
        } else {
            char *text = mu_arena_alloc(p->t->arena, all.len + one.len + 1, 1);
            if (!text) return mu_fail_memory(p->err, all.len + one.len);
            memcpy(text, all.p, all.len);
            memcpy(text + all.len, one.p, one.len);
            all = (struct mu_str){text, all.len + one.len};
        }
        MU_TRY(mu_tpl_advance(p));
    }
    (*out)->value = mu_tpl_str(all);
    return MU_OK;
}

static mu_status parse_number(struct parser *p, struct node **out)
{
    struct mu_str s = p->now.text;
    MU_TRY(mu_tpl_node(p, N_CONST, p->now.at, out));
    if (p->now.kind == T_FLOAT) {
        char plain[80];
        size_t n = 0;
        for (size_t i = 0; i < s.len && n < sizeof plain; i++)
            if (s.p[i] != '_') plain[n++] = s.p[i];
        double f;
        if (n == sizeof plain || !mu_parse_f64((struct mu_str){plain, n}, &f))
            return mu_tpl_syntax(p, p->now.at, "a number out of range");
        (*out)->value = mu_tpl_float(f);
        return mu_tpl_advance(p);
    }
    mu_tpl_wide w;
    if (!mu_tpl_parse_int(s, 0, &w))
        return mu_tpl_syntax(p, p->now.at, "an integer of more than 128 bits");
    (*out)->value = mu_tpl_int((int64_t)w);
    if (w > INT64_MAX) {
        mu_tpl_wide *wide = mu_arena_alloc(p->t->arena, 1, sizeof *wide);
        if (!wide) return mu_fail_memory(p->err, sizeof *wide);
        *wide = w;
        (*out)->value = (struct value){.kind = V_WIDE, .wide = wide};
    }
    return mu_tpl_advance(p);
}

static mu_status parse_name(struct parser *p, struct node **out)
{
    static const struct {
        const char *word;
        struct value value;
    } constants[] = {
        {"true", {.kind = V_BOOL, .b = true}},
        {"True", {.kind = V_BOOL, .b = true}},
        {"false", {.kind = V_BOOL, .b = false}},
        {"False", {.kind = V_BOOL, .b = false}},
        {"none", {.kind = V_NONE}},
        {"None", {.kind = V_NONE}},
    };
    MU_TRY(mu_tpl_node(p, N_NAME, p->now.at, out));
    (*out)->text = p->now.text;
    for (unsigned i = 0; i < MU_ARRAY_LEN(constants); i++)
        if (mu_str_is(p->now.text, constants[i].word)) {
            (*out)->kind = N_CONST;
            (*out)->value = constants[i].value;
        }
    return mu_tpl_advance(p);
}

/* [a, b] and {k: v, ...}: the children in a row. */
static mu_status parse_items(struct parser *p, enum node_kind kind, const char *end,
                             struct node **out)
{
    MU_TRY(mu_tpl_node(p, kind, p->now.at, out));
    MU_TRY(mu_tpl_advance(p));
    struct node **tail = &(*out)->a;
    for (bool first = true; !at_op(p, end); first = false) {
        if (!first) MU_TRY(mu_tpl_expect(p, T_OP, ","));
        if (at_op(p, end)) break;
        MU_TRY(mu_tpl_parse_expression(p, tail));
        tail = &(*tail)->next;
        if (kind != N_DICT) continue;
        MU_TRY(mu_tpl_expect(p, T_OP, ":"));
        MU_TRY(mu_tpl_parse_expression(p, tail));
        tail = &(*tail)->next;
    }
    MU_TRY(mu_tpl_advance(p));
    return mu_tpl_measure(p, *out);
}

static mu_status parse_primary(struct parser *p, struct node **out)
{
    if (p->now.kind == T_NAME) return parse_name(p, out);
    if (p->now.kind == T_STRING) return parse_string(p, out);
    if (p->now.kind == T_INT || p->now.kind == T_FLOAT) return parse_number(p, out);
    if (at_op(p, "[")) return parse_items(p, N_LIST, "]", out);
    if (at_op(p, "{")) return parse_items(p, N_DICT, "}", out);
    if (!at_op(p, "(")) return mu_tpl_unexpected(p, "an expression");
    MU_TRY(mu_tpl_advance(p));
    MU_TRY(mu_tpl_parse_tuple(p, TUPLE_PARENS, NULL, out));
    return mu_tpl_expect(p, T_OP, ")");
}

/* What stands between brackets after a value: an index, or a slice with up to two colons. */
static mu_status parse_index(struct parser *p, struct node **out)
{
    struct node *part[3] = {NULL, NULL, NULL};
    unsigned colons = 0;
    uint32_t at = p->now.at;
    bool colon;
    for (;;) {
        if (!at_op(p, ":") && !at_op(p, "]") && !at_op(p, ","))
            MU_TRY(mu_tpl_parse_expression(p, &part[colons]));
        if (colons == 2) break;
        MU_TRY(mu_tpl_skip(p, T_OP, ":", &colon));
        if (!colon) break;
        colons++;
    }
    if (colons == 0) {
        *out = part[0];
        if (part[0]) return MU_OK;
        (void)mu_tpl_unexpected(p, "an expression");
        return MU_E_INPUT;
    }
    MU_TRY(mu_tpl_node(p, N_SLICE, at, out));
    (*out)->b = part[0];
    (*out)->c = part[1];
    (*out)->d = part[2];
    return MU_OK;
}

static mu_status parse_subscript(struct parser *p, struct node **io)
{
    struct node *index;
    MU_TRY(mu_tpl_advance(p));
    MU_TRY(parse_index(p, &index));
    if (at_op(p, ",")) {
        struct node *tuple, **tail = &index->next;
        MU_TRY(mu_tpl_node(p, N_TUPLE, index->at, &tuple));
        tuple->a = index;
        while (at_op(p, ",")) {
            MU_TRY(mu_tpl_advance(p));
            MU_TRY(mu_tpl_parse_expression(p, tail));
            tail = &(*tail)->next;
        }
        for (const struct node *n = tuple->a; n; n = n->next)
            if (n->kind == N_SLICE) return mu_tpl_syntax(p, n->at, "a slice among several indexes");
        MU_TRY(mu_tpl_measure(p, tuple));
        index = tuple;
    }
    if (index->kind == N_SLICE && !index->a) {
        index->a = *io;
        *io = index;
    } else {
        MU_TRY(wrap(p, N_ITEM, io));
        (*io)->b = index;
    }
    MU_TRY(mu_tpl_expect(p, T_OP, "]"));
    return mu_tpl_measure(p, *io);
}

/* .name or .0 */
static mu_status parse_dot(struct parser *p, struct node **io)
{
    MU_TRY(mu_tpl_advance(p));
    if (p->now.kind == T_INT) {
        MU_TRY(wrap(p, N_ITEM, io));
        MU_TRY(parse_number(p, &(*io)->b));
        return mu_tpl_measure(p, *io);
    }
    MU_TRY(wrap(p, N_ATTR, io));
    (*io)->text = p->now.text;
    MU_TRY(mu_tpl_expect(p, T_NAME, NULL));
    return mu_tpl_measure(p, *io);
}

static mu_status parse_call(struct parser *p, struct node **io)
{
    MU_TRY(wrap(p, N_CALL, io));
    MU_TRY(parse_args(p, &(*io)->b));
    return mu_tpl_measure(p, *io);
}

static mu_status parse_postfix(struct parser *p, struct node **io)
{
    for (;;) {
        if (at_op(p, "."))
            MU_TRY(parse_dot(p, io));
        else if (at_op(p, "["))
            MU_TRY(parse_subscript(p, io));
        else if (at_op(p, "("))
            MU_TRY(parse_call(p, io));
        else
            return MU_OK;
    }
}

static mu_status parse_arg(struct parser *p, struct node **out, unsigned *highest)
{
    enum arg_kind kind = ARG_POSITION;
    MU_TRY(mu_tpl_node(p, N_ARG, p->now.at, out));
    if (at_op(p, "*")) {
        kind = ARG_STAR;
    } else if (at_op(p, "**")) {
        kind = ARG_STAR_STAR;
    } else if (p->now.kind == T_NAME && p->ahead.kind == T_OP && mu_str_is(p->ahead.text, "=")) {
        kind = ARG_KEYWORD;
        (*out)->text = p->now.text;
        MU_TRY(mu_tpl_advance(p));
    }
    if (kind != ARG_POSITION) MU_TRY(mu_tpl_advance(p));
    if (kind < *highest && !(kind == ARG_KEYWORD && *highest == ARG_STAR))
        return mu_tpl_syntax(p, (*out)->at, "this argument may not follow the ones before it");
    *highest = MU_MAX(*highest, (unsigned)kind);
    (*out)->op = (uint8_t)kind;
    MU_TRY(mu_tpl_parse_expression(p, &(*out)->a));
    return mu_tpl_measure(p, *out);
}

/* (a, b, c=1, *d, **e) */
static mu_status parse_args(struct parser *p, struct node **out)
{
    unsigned highest = ARG_POSITION;
    MU_TRY(mu_tpl_advance(p));
    for (bool first = true; !at_op(p, ")"); first = false) {
        if (!first) MU_TRY(mu_tpl_expect(p, T_OP, ","));
        if (at_op(p, ")")) break;
        MU_TRY(parse_arg(p, out, &highest));
        out = &(*out)->next;
    }
    return mu_tpl_advance(p);
}

/* The name of a filter or test, which may have dots. */
static mu_status parse_dotted(struct parser *p, struct mu_str *name)
{
    *name = p->now.text;
    MU_TRY(mu_tpl_expect(p, T_NAME, NULL));
    while (at_op(p, ".")) {
        MU_TRY(mu_tpl_advance(p));
        struct mu_str part = p->now.text;
        MU_TRY(mu_tpl_expect(p, T_NAME, NULL));
        name->len = (size_t)(part.p + part.len - name->p);
    }
    return MU_OK;
}

mu_status mu_tpl_parse_filters(struct parser *p, bool inline_start, struct node **io)
{
    for (; inline_start || at_op(p, "|"); inline_start = false) {
        if (!inline_start) MU_TRY(mu_tpl_advance(p));
        MU_TRY(wrap(p, N_FILTER, io));
        MU_TRY(parse_dotted(p, &(*io)->text));
        (*io)->builtin = mu_tpl_filter_find((*io)->text);
        if (at_op(p, "(")) MU_TRY(parse_args(p, &(*io)->b));
        MU_TRY(mu_tpl_measure(p, *io));
    }
    return MU_OK;
}

/* A test may take one operand without parentheses: is divisibleby 3, is in [...]. */
static mu_status parse_bare_operand(struct parser *p, struct node **out)
{
    enum token_kind k = p->now.kind;
    bool word = k == T_NAME && !mu_tpl_at(p, T_NAME, "else") && !mu_tpl_at(p, T_NAME, "or") &&
                !mu_tpl_at(p, T_NAME, "and");
    if (!word && k != T_STRING && k != T_INT && k != T_FLOAT && !at_op(p, "[") && !at_op(p, "{"))
        return MU_OK;
    if (mu_tpl_at(p, T_NAME, "is"))
        return mu_tpl_syntax(p, p->now.at, "several tests cannot be chained with is");
    MU_TRY(mu_tpl_node(p, N_ARG, p->now.at, out));
    MU_TRY(parse_primary(p, &(*out)->a));
    MU_TRY(parse_postfix(p, &(*out)->a));
    return mu_tpl_measure(p, *out);
}

static mu_status parse_test(struct parser *p, struct node **io)
{
    bool negated;
    MU_TRY(mu_tpl_advance(p));
    MU_TRY(mu_tpl_skip(p, T_NAME, "not", &negated));
    MU_TRY(wrap(p, N_TEST, io));
    MU_TRY(parse_dotted(p, &(*io)->text));
    (*io)->builtin = mu_tpl_test_find((*io)->text);
    if (at_op(p, "("))
        MU_TRY(parse_args(p, &(*io)->b));
    else
        MU_TRY(parse_bare_operand(p, &(*io)->b));
    MU_TRY(mu_tpl_measure(p, *io));
    if (!negated) return MU_OK;
    MU_TRY(wrap(p, N_NOT, io));
    return mu_tpl_measure(p, *io);
}

static mu_status parse_filters_and_tests(struct parser *p, struct node **io)
{
    for (;;) {
        if (at_op(p, "|"))
            MU_TRY(mu_tpl_parse_filters(p, false, io));
        else if (mu_tpl_at(p, T_NAME, "is"))
            MU_TRY(parse_test(p, io));
        else if (at_op(p, "("))
            MU_TRY(parse_call(p, io));
        else
            return MU_OK;
    }
}

static mu_status parse_unary(struct parser *p, bool filters, struct node **out)
{
    MU_TRY(enter(p));
    if (at_op(p, "-") || at_op(p, "+")) {
        struct node *n;
        MU_TRY(mu_tpl_node(p, at_op(p, "-") ? N_NEG : N_POS, p->now.at, &n));
        MU_TRY(mu_tpl_advance(p));
        MU_TRY(parse_unary(p, false, &n->a));
        MU_TRY(mu_tpl_measure(p, n));
        *out = n;
    } else {
        MU_TRY(parse_primary(p, out));
    }
    MU_TRY(parse_postfix(p, out));
    if (filters) MU_TRY(parse_filters_and_tests(p, out));
    p->depth--;
    return MU_OK;
}

/* The left-associative operators, loosest first; between + and * stands ~, which is its own level.
 */
static const struct {
    char text[3];
    uint8_t level;
    enum op op;
} operators[] = {{"+", 0, OP_ADD},    {"-", 0, OP_SUB}, {"*", 2, OP_MUL}, {"/", 2, OP_DIV},
                 {"//", 2, OP_FLOOR}, {"%", 2, OP_MOD}, {"**", 3, OP_POW}};
#define LEVEL_CONCAT 1
#define LEVEL_UNARY  4

static mu_status parse_level(struct parser *p, unsigned level, struct node **out);

static mu_status parse_concat(struct parser *p, struct node **out)
{
    MU_TRY(parse_level(p, LEVEL_CONCAT + 1, out));
    if (!at_op(p, "~")) return MU_OK;
    MU_TRY(wrap(p, N_CONCAT, out));
    for (struct node **tail = &(*out)->a->next; at_op(p, "~"); tail = &(*tail)->next) {
        MU_TRY(mu_tpl_advance(p));
        MU_TRY(parse_level(p, LEVEL_CONCAT + 1, tail));
    }
    return mu_tpl_measure(p, *out);
}

static mu_status parse_level(struct parser *p, unsigned level, struct node **out)
{
    if (level == LEVEL_UNARY) return parse_unary(p, true, out);
    if (level == LEVEL_CONCAT) return parse_concat(p, out);
    MU_TRY(parse_level(p, level + 1, out));
    for (unsigned i = 0; i < MU_ARRAY_LEN(operators);) {
        if (operators[i].level != level || !at_op(p, operators[i].text)) {
            i++;
            continue;
        }
        MU_TRY(wrap(p, N_BINARY, out));
        (*out)->op = (uint8_t)operators[i].op;
        MU_TRY(mu_tpl_advance(p));
        MU_TRY(parse_level(p, level + 1, &(*out)->b));
        MU_TRY(mu_tpl_measure(p, *out));
        i = 0;
    }
    return MU_OK;
}

/* The comparison that is current: how many tokens it takes, 0 for none. */
static unsigned comparison(const struct parser *p, enum op *op)
{
    static const struct {
        const char *text;
        enum op op;
    } signs[] = {{"==", OP_EQ}, {"!=", OP_NE}, {"<", OP_LT},
                 {"<=", OP_LE}, {">", OP_GT},  {">=", OP_GE}};
    for (unsigned i = 0; i < MU_ARRAY_LEN(signs); i++)
        if (at_op(p, signs[i].text)) {
            *op = signs[i].op;
            return 1;
        }
    *op = OP_IN;
    if (mu_tpl_at(p, T_NAME, "in")) return 1;
    *op = OP_NOT_IN;
    bool not_in =
        mu_tpl_at(p, T_NAME, "not") && p->ahead.kind == T_NAME && mu_str_is(p->ahead.text, "in");
    return not_in ? 2 : 0;
}

static mu_status parse_compare(struct parser *p, struct node **out)
{
    enum op op;
    MU_TRY(parse_level(p, 0, out));
    unsigned tokens = comparison(p, &op);
    if (!tokens) return MU_OK;
    MU_TRY(wrap(p, N_COMPARE, out));
    for (struct node **tail = &(*out)->b; tokens; tail = &(*tail)->next) {
        MU_TRY(mu_tpl_node(p, N_OPERAND, p->now.at, tail));
        (*tail)->op = (uint8_t)op;
        while (tokens--)
            MU_TRY(mu_tpl_advance(p));
        MU_TRY(parse_level(p, 0, &(*tail)->a));
        MU_TRY(mu_tpl_measure(p, *tail));
        tokens = comparison(p, &op);
    }
    return mu_tpl_measure(p, *out);
}

static mu_status parse_not(struct parser *p, struct node **out)
{
    if (!mu_tpl_at(p, T_NAME, "not")) return parse_compare(p, out);
    MU_TRY(enter(p));
    MU_TRY(mu_tpl_node(p, N_NOT, p->now.at, out));
    MU_TRY(mu_tpl_advance(p));
    MU_TRY(parse_not(p, &(*out)->a));
    p->depth--;
    return mu_tpl_measure(p, *out);
}

static mu_status parse_and(struct parser *p, struct node **out)
{
    MU_TRY(parse_not(p, out));
    while (mu_tpl_at(p, T_NAME, "and")) {
        MU_TRY(wrap(p, N_AND, out));
        MU_TRY(mu_tpl_advance(p));
        MU_TRY(parse_not(p, &(*out)->b));
        MU_TRY(mu_tpl_measure(p, *out));
    }
    return MU_OK;
}

static mu_status parse_or(struct parser *p, struct node **out)
{
    MU_TRY(parse_and(p, out));
    while (mu_tpl_at(p, T_NAME, "or")) {
        MU_TRY(wrap(p, N_OR, out));
        MU_TRY(mu_tpl_advance(p));
        MU_TRY(parse_and(p, &(*out)->b));
        MU_TRY(mu_tpl_measure(p, *out));
    }
    return MU_OK;
}

mu_status mu_tpl_parse_expression(struct parser *p, struct node **out)
{
    MU_TRY(enter(p));
    MU_TRY(parse_or(p, out));
    while (mu_tpl_at(p, T_NAME, "if")) {
        bool otherwise;
        MU_TRY(wrap(p, N_IF_ELSE, out));
        MU_TRY(mu_tpl_advance(p));
        MU_TRY(parse_or(p, &(*out)->b));
        MU_TRY(mu_tpl_skip(p, T_NAME, "else", &otherwise));
        if (otherwise) MU_TRY(mu_tpl_parse_expression(p, &(*out)->c));
        MU_TRY(mu_tpl_measure(p, *out));
    }
    p->depth--;
    return MU_OK;
}

mu_status mu_tpl_parse_tuple(struct parser *p, unsigned how, const char *end_word,
                             struct node **out)
{
    struct node *first = NULL, **tail = &first;
    uint32_t at = p->now.at;
    bool comma = false;
    do {
        bool end = p->now.kind == T_PRINT_END || p->now.kind == T_BLOCK_END || at_op(p, ")") ||
                   (end_word && mu_tpl_at(p, T_NAME, end_word));
        if (end) break;
        MU_TRY(how & TUPLE_NO_IF ? parse_or(p, tail) : mu_tpl_parse_expression(p, tail));
        tail = &(*tail)->next;
        bool another;
        MU_TRY(mu_tpl_skip(p, T_OP, ",", &another));
        comma |= another;
        if (!another) break;
    } while (true);
    if (!first && !(how & TUPLE_PARENS)) return mu_tpl_unexpected(p, "an expression");
    *out = first;
    if (first && !comma) return MU_OK;
    MU_TRY(mu_tpl_node(p, N_TUPLE, at, out));
    (*out)->a = first;
    return mu_tpl_measure(p, *out);
}
