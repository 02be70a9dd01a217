/*
 * Chat templates, second stage: the statements. Tokens in, tree out; every node knows its height,
 * so that later walks need no limit of their own. Called by mu_template_compile.
 */
#include "text/template_int.h"

void mu_tpl_where(const struct mu_template *t, uint32_t at, struct mu_err *err)
{
    unsigned line = 1, column = 1;
    for (uint32_t i = 0; i < at && i < t->source.len; i++) {
        unsigned char c = (unsigned char)t->source.p[i];
        column = c == '\n' ? 1 : column + ((c & 0xc0) != 0x80);
        line += c == '\n';
    }
    mu_err_where(err, "%s, line %u, column %u", t->name, line, column);
}

mu_status mu_tpl_node(struct parser *p, enum node_kind kind, uint32_t at, struct node **out)
{
    struct node *n = mu_arena_alloc(p->t->arena, 1, sizeof *n);
    if (!n) return mu_fail_memory(p->err, sizeof *n);
    n->kind = (uint8_t)kind;
    n->at = at;
    n->height = 1;
    *out = n;
    return MU_OK;
}

mu_status mu_tpl_measure(struct parser *p, struct node *n)
{
    struct node *const below[] = {n->a, n->b, n->c, n->d, n->e};
    for (unsigned i = 0; i < MU_ARRAY_LEN(below); i++)
        for (const struct node *child = below[i]; child; child = child->next)
            if (child->height >= n->height) n->height = (uint16_t)(child->height + 1);
    if (n->height <= MU_TPL_HEIGHT_MAX) return MU_OK;
    return mu_tpl_syntax(p, n->at, "more than %d levels of nesting", MU_TPL_HEIGHT_MAX);
}

mu_status mu_tpl_advance(struct parser *p)
{
    p->now = p->ahead;
    return mu_tpl_lex(p, &p->ahead);
}

bool mu_tpl_at(const struct parser *p, enum token_kind kind, const char *text)
{
    return p->now.kind == kind && (!text || mu_str_is(p->now.text, text));
}

static const char *token_name(enum token_kind kind)
{
    static const char *const names[] = {"end of the template",
                                        "text",
                                        "'{{'",
                                        "'}}'",
                                        "'{%'",
                                        "'%}'",
                                        "a name",
                                        "text",
                                        "integer",
                                        "a number",
                                        "an operator"};
    return names[kind];
}

mu_status mu_tpl_unexpected(struct parser *p, const char *wanted)
{
    if (p->now.text.len == 0)
        return mu_tpl_syntax(p, p->now.at, "expected %s, got %s", wanted, token_name(p->now.kind));
    return mu_tpl_syntax(p, p->now.at, "expected %s, got '%.*s'", wanted,
                         (int)MU_MIN(p->now.text.len, 40), p->now.text.p);
}

mu_status mu_tpl_expect(struct parser *p, enum token_kind kind, const char *text)
{
    if (mu_tpl_at(p, kind, text)) return mu_tpl_advance(p);
    return mu_tpl_unexpected(p, text ? text : token_name(kind));
}

mu_status mu_tpl_skip(struct parser *p, enum token_kind kind, const char *text, bool *found)
{
    *found = mu_tpl_at(p, kind, text);
    return *found ? mu_tpl_advance(p) : MU_OK;
}

/* Adds to a list that is built front to back. */
static struct node **list_add(struct node **tail, struct node *n)
{
    *tail = n;
    return &n->next;
}

static bool at_word_of(const struct parser *p, const char *words)
{
    if (p->now.kind != T_NAME) return false;
    for (const char *w = words; *w;) {
        size_t len = strcspn(w, " ");
        if (mu_str_equal(p->now.text, (struct mu_str){w, len})) return true;
        w += len + (w[len] == ' ');
    }
    return false;
}

static mu_status parse_block(struct parser *p, const char *ends, struct node **out);

/* From the end of a tag to the tag that begins with one of `ends`; that word is current after. */
static mu_status parse_body(struct parser *p, const char *ends, struct node **out)
{
    bool colon;
    MU_TRY(mu_tpl_skip(p, T_OP, ":", &colon));
    MU_TRY(mu_tpl_expect(p, T_BLOCK_END, NULL));
    MU_TRY(parse_block(p, ends, out));
    if (p->now.kind != T_END) return MU_OK;
    return mu_tpl_syntax(p, p->now.at, "the template ends where one of these is expected: %s",
                         ends);
}

static mu_status parse_body_last(struct parser *p, const char *end, struct node **out)
{
    MU_TRY(parse_body(p, end, out));
    return mu_tpl_advance(p);
}

/* A name, or name.attribute of a namespace. */
static mu_status parse_target_name(struct parser *p, bool members, struct node **out)
{
    static const char *const constants[] = {"true", "false", "none", "True", "False", "None"};
    struct node *name = NULL;
    for (unsigned i = 0; i < MU_ARRAY_LEN(constants); i++)
        if (mu_tpl_at(p, T_NAME, constants[i]))
            return mu_tpl_syntax(p, p->now.at, "cannot assign to %s", constants[i]);
    MU_TRY(mu_tpl_node(p, N_NAME, p->now.at, &name));
    name->text = p->now.text;
    MU_TRY(mu_tpl_expect(p, T_NAME, NULL));
    if (!members || !mu_tpl_at(p, T_OP, ".")) {
        *out = name;
        return MU_OK;
    }
    MU_TRY(mu_tpl_advance(p));
    MU_TRY(mu_tpl_node(p, N_MEMBER, name->at, out));
    (*out)->a = name;
    (*out)->text = p->now.text;
    MU_TRY(mu_tpl_expect(p, T_NAME, NULL));
    return mu_tpl_measure(p, *out);
}

/* What stands before `=` or `in`: targets separated by commas, in parentheses or not. */
static mu_status parse_target(struct parser *p, bool members, struct node **out)
{
    if (++p->depth > MU_TPL_NEST_MAX)
        return mu_tpl_syntax(p, p->now.at, "more than %d levels of nesting", MU_TPL_NEST_MAX);
    struct node *first = NULL, **tail = &first;
    uint32_t at = p->now.at;
    bool comma = true, tuple = false, open;
    while (comma && (p->now.kind == T_NAME || mu_tpl_at(p, T_OP, "(")) &&
           !(tuple && mu_tpl_at(p, T_NAME, "in"))) {
        struct node *item;
        MU_TRY(mu_tpl_skip(p, T_OP, "(", &open));
        MU_TRY(open ? parse_target(p, members, &item) : parse_target_name(p, members, &item));
        if (open) MU_TRY(mu_tpl_expect(p, T_OP, ")"));
        tail = list_add(tail, item);
        MU_TRY(mu_tpl_skip(p, T_OP, ",", &comma));
        tuple |= comma;
    }
    p->depth--;
    if (!first) return mu_tpl_unexpected(p, "a name");
    *out = first;
    if (!tuple) return MU_OK;
    MU_TRY(mu_tpl_node(p, N_TUPLE, at, out));
    (*out)->a = first;
    return mu_tpl_measure(p, *out);
}

static mu_status function_new(struct parser *p, struct node *n)
{
    n->function = mu_arena_alloc(p->t->arena, 1, sizeof *n->function);
    return n->function ? MU_OK : mu_fail_memory(p->err, sizeof *n->function);
}

static mu_status frame_new(struct parser *p, struct node *n)
{
    n->frame = mu_arena_alloc(p->t->arena, 1, sizeof *n->frame);
    return n->frame ? MU_OK : mu_fail_memory(p->err, sizeof *n->frame);
}

static mu_status copy_target(struct parser *p, const struct node *from, struct node **out)
{
    struct node **tail = out;
    for (; from; from = from->next) {
        MU_TRY(mu_tpl_node(p, (enum node_kind)from->kind, from->at, tail));
        (*tail)->text = from->text;
        (*tail)->height = from->height;
        if (from->a) MU_TRY(copy_target(p, from->a, &(*tail)->a));
        tail = &(*tail)->next;
    }
    return MU_OK;
}

static mu_status parse_for(struct parser *p, struct node *n)
{
    bool filter, otherwise;
    n->kind = N_FOR;
    MU_TRY(function_new(p, n));
    MU_TRY(parse_target(p, false, &n->a));
    MU_TRY(mu_tpl_expect(p, T_NAME, "in"));
    MU_TRY(mu_tpl_parse_tuple(p, TUPLE_NO_IF, "recursive", &n->b));
    MU_TRY(mu_tpl_skip(p, T_NAME, "if", &filter));
    if (filter) {
        MU_TRY(mu_tpl_parse_expression(p, &n->c));
        MU_TRY(copy_target(p, n->a, &n->function->test_target));
        n->function->test_target->next = NULL;
    }
    MU_TRY(mu_tpl_skip(p, T_NAME, "recursive", &n->recursive));
    p->loops++;
    MU_TRY(parse_body(p, "endfor else", &n->d));
    p->loops--;
    otherwise = mu_tpl_at(p, T_NAME, "else");
    MU_TRY(mu_tpl_advance(p));
    return otherwise ? parse_body_last(p, "endfor", &n->e) : MU_OK;
}

static mu_status parse_if(struct parser *p, struct node *n)
{
    struct node *now = n, **tail = &n->e;
    for (;;) {
        now->kind = N_IF;
        MU_TRY(mu_tpl_parse_tuple(p, TUPLE_NO_IF, NULL, &now->a));
        MU_TRY(parse_body(p, "elif else endif", &now->b));
        if (now != n) MU_TRY(mu_tpl_measure(p, now));
        struct mu_str word = p->now.text;
        MU_TRY(mu_tpl_advance(p));
        if (mu_str_is(word, "else")) return parse_body_last(p, "endif", &n->c);
        if (mu_str_is(word, "endif")) return MU_OK;
        MU_TRY(mu_tpl_node(p, N_IF, p->now.at, &now));
        tail = list_add(tail, now);
    }
}

static mu_status parse_set(struct parser *p, struct node *n)
{
    bool value;
    n->kind = N_SET;
    MU_TRY(parse_target(p, true, &n->a));
    MU_TRY(mu_tpl_skip(p, T_OP, "=", &value));
    if (value) return mu_tpl_parse_tuple(p, 0, NULL, &n->b);
    n->kind = N_SET_BLOCK;
    MU_TRY(frame_new(p, n));
    MU_TRY(mu_tpl_parse_filters(p, false, &n->c));
    return parse_body_last(p, "endset", &n->d);
}

/* (a, b=1): parameters, and the defaults of the last ones. */
static mu_status parse_signature(struct parser *p, struct node *n)
{
    struct node **param = &n->a, **fallback = &n->c;
    bool more = true, value;
    MU_TRY(mu_tpl_expect(p, T_OP, "("));
    while (!mu_tpl_at(p, T_OP, ")") && more) {
        struct node *item;
        MU_TRY(parse_target_name(p, false, &item));
        param = list_add(param, item);
        n->function->n_params++;
        MU_TRY(mu_tpl_skip(p, T_OP, "=", &value));
        if (value) {
            MU_TRY(mu_tpl_parse_expression(p, &item));
            fallback = list_add(fallback, item);
            n->function->n_defaults++;
        } else if (n->c) {
            return mu_tpl_syntax(p, p->now.at, "a parameter without default follows one with it");
        }
        MU_TRY(mu_tpl_skip(p, T_OP, ",", &more));
    }
    return mu_tpl_expect(p, T_OP, ")");
}

static mu_status parse_function_body(struct parser *p, const char *end, struct node *n)
{
    unsigned loops = p->loops;
    p->loops = 0;
    MU_TRY(parse_body_last(p, end, &n->d));
    p->loops = loops;
    return MU_OK;
}

static mu_status parse_macro(struct parser *p, struct node *n)
{
    n->kind = N_MACRO;
    MU_TRY(function_new(p, n));
    MU_TRY(parse_target_name(p, false, &n->b));
    n->text = n->b->text;
    MU_TRY(parse_signature(p, n));
    return parse_function_body(p, "endmacro", n);
}

static mu_status parse_call_block(struct parser *p, struct node *n)
{
    n->kind = N_CALL_BLOCK;
    MU_TRY(function_new(p, n));
    if (mu_tpl_at(p, T_OP, "(")) MU_TRY(parse_signature(p, n));
    MU_TRY(mu_tpl_parse_expression(p, &n->b));
    if (n->b->kind != N_CALL) return mu_tpl_syntax(p, n->at, "call needs a call");
    return parse_function_body(p, "endcall", n);
}

static mu_status parse_generation(struct parser *p, struct node *n)
{
    n->kind = N_CALL_BLOCK;
    MU_TRY(function_new(p, n));
    return parse_function_body(p, "endgeneration", n);
}

static mu_status parse_filter_block(struct parser *p, struct node *n)
{
    n->kind = N_FILTER_BLOCK;
    MU_TRY(frame_new(p, n));
    MU_TRY(mu_tpl_parse_filters(p, true, &n->c));
    return parse_body_last(p, "endfilter", &n->d);
}

static mu_status parse_with(struct parser *p, struct node *n)
{
    struct node **target = &n->a, **value = &n->b;
    bool more = true;
    n->kind = N_WITH;
    MU_TRY(frame_new(p, n));
    while (more && p->now.kind != T_BLOCK_END) {
        struct node *item;
        MU_TRY(parse_target_name(p, false, &item));
        target = list_add(target, item);
        MU_TRY(mu_tpl_expect(p, T_OP, "="));
        MU_TRY(mu_tpl_parse_expression(p, &item));
        value = list_add(value, item);
        MU_TRY(mu_tpl_skip(p, T_OP, ",", &more));
    }
    return parse_body_last(p, "endwith", &n->d);
}

static mu_status parse_print(struct parser *p, struct node *n)
{
    struct node **tail = &n->a;
    bool more = true;
    n->kind = N_PRINT;
    while (more && p->now.kind != T_BLOCK_END) {
        struct node *item;
        MU_TRY(mu_tpl_parse_expression(p, &item));
        tail = list_add(tail, item);
        MU_TRY(mu_tpl_skip(p, T_OP, ",", &more));
    }
    return MU_OK;
}

static mu_status parse_jump(struct parser *p, struct node *n, enum node_kind kind)
{
    n->kind = (uint8_t)kind;
    return p->loops ? MU_OK : mu_tpl_syntax(p, n->at, "there is no loop here to leave or continue");
}

static mu_status parse_break(struct parser *p, struct node *n)
{
    return parse_jump(p, n, N_BREAK);
}

static mu_status parse_continue(struct parser *p, struct node *n)
{
    return parse_jump(p, n, N_CONTINUE);
}

static const struct {
    const char *word;
    mu_status (*parse)(struct parser *p, struct node *n);
} statements[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"generation", parse_generation},
    {"break", parse_break},
    {"continue", parse_continue},
    {"with", parse_with},
    {"print", parse_print},
};

/* After `{%`. */
static mu_status parse_statement(struct parser *p, struct node **out)
{
    struct token word = p->now;
    if (word.kind != T_NAME)
        return mu_tpl_syntax(p, word.at, "a tag needs the name of a statement");
    for (unsigned i = 0; i < MU_ARRAY_LEN(statements); i++) {
        if (!mu_str_is(word.text, statements[i].word)) continue;
        MU_TRY(mu_tpl_node(p, N_TEXT, word.at, out));
        MU_TRY(mu_tpl_advance(p));
        MU_TRY(statements[i].parse(p, *out));
        return mu_tpl_measure(p, *out);
    }
    return mu_tpl_syntax(p, word.at, "unknown statement '%.*s'", (int)MU_MIN(word.text.len, 40),
                         word.text.p);
}

static mu_status parse_output(struct parser *p, struct node **out)
{
    MU_TRY(mu_tpl_node(p, N_PRINT, p->now.at, out));
    MU_TRY(mu_tpl_advance(p));
    MU_TRY(mu_tpl_parse_tuple(p, 0, NULL, &(*out)->a));
    MU_TRY(mu_tpl_expect(p, T_PRINT_END, NULL));
    return mu_tpl_measure(p, *out);
}

static mu_status parse_item(struct parser *p, struct node **out)
{
    if (p->now.kind == T_PRINT_BEGIN) return parse_output(p, out);
    MU_TRY(mu_tpl_node(p, N_TEXT, p->now.at, out));
    (*out)->text = p->now.text;
    return mu_tpl_advance(p);
}

/* Until the end of the template, or the tag that begins with one of `ends`. */
static mu_status parse_block(struct parser *p, const char *ends, struct node **out)
{
    struct node **tail = out;
    if (++p->depth > MU_TPL_NEST_MAX)
        return mu_tpl_syntax(p, p->now.at, "more than %d levels of nesting", MU_TPL_NEST_MAX);
    while (p->now.kind != T_END) {
        struct node *n = NULL;
        if (p->now.kind == T_BLOCK_BEGIN) {
            MU_TRY(mu_tpl_advance(p));
            if (at_word_of(p, ends)) break;
            MU_TRY(parse_statement(p, &n));
            MU_TRY(mu_tpl_expect(p, T_BLOCK_END, NULL));
        } else {
            MU_TRY(parse_item(p, &n));
        }
        tail = list_add(tail, n);
    }
    p->depth--;
    return MU_OK;
}

mu_status mu_tpl_parse(struct parser *p)
{
    MU_TRY(mu_tpl_advance(p));
    MU_TRY(mu_tpl_advance(p));
    return parse_block(p, "", &p->t->body);
}
