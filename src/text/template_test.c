/* Chat templates: the tests that may follow `is`. */
#include "text/template_int.h"

static mu_status answer(struct value *out, bool yes)
{
    *out = mu_tpl_bool(yes);
    return MU_OK;
}

/* How: a set of kinds, one bit each. */
#define KIND(k) (1 << (k))

static mu_status test_kind(struct render *r, const struct call *c, struct value *out)
{
    (void)r;
    return answer(out, c->how & KIND(c->self.kind));
}

static mu_status test_constant(struct render *r, const struct call *c, struct value *out)
{
    (void)r;
    return answer(out, c->self.kind == V_BOOL && c->self.b == (c->how != 0));
}

static mu_status test_compare(struct render *r, const struct call *c, struct value *out)
{
    return mu_tpl_compare_op(r, (enum op)c->how, c->self, c->v[0], out);
}

/* How: what the remainder is compared with; the divisor is 2 unless given. */
static mu_status test_divides(struct render *r, const struct call *c, struct value *out)
{
    struct value divisor = c->v[0].kind == V_MISSING ? mu_tpl_int(2) : c->v[0], rest;
    MU_TRY(mu_tpl_binary(r, OP_MOD, c->self, divisor, &rest));
    return mu_tpl_compare_op(r, OP_EQ, rest, mu_tpl_int(c->how), out);
}

static mu_status test_case(struct render *r, const struct call *c, struct value *out)
{
    struct value text;
    MU_TRY(mu_tpl_string(r, c->self, &text));
    return answer(out, mu_tpl_all_case(mu_tpl_text(text), c->how));
}

static mu_status test_escaped(struct render *r, const struct call *c, struct value *out)
{
    (void)r;
    return answer(out, c->self.kind == V_STRING && c->self.flag);
}

static mu_status test_sameas(struct render *r, const struct call *c, struct value *out)
{
    struct value a = c->self, b = c->v[0];
    if (a.kind != b.kind) return answer(out, false);
    if (a.kind == V_LIST || a.kind == V_TUPLE)
        return answer(out, a.items == b.items && a.len == b.len);
    if (a.kind == V_DICT) return answer(out, a.dict == b.dict);
    return mu_tpl_compare_op(r, OP_EQ, a, b, out);
}

static mu_status test_known(struct render *r, const struct call *c, struct value *out)
{
    if (c->self.kind == V_LIST || c->self.kind == V_DICT)
        return mu_tpl_fail(r, "unhashable type: '%s'", mu_tpl_type(c->self));
    if (c->self.kind != V_STRING) return answer(out, false);
    struct mu_str name = mu_tpl_text(c->self);
    return answer(out, c->how ? mu_tpl_filter_find(name) != NULL : mu_tpl_test_find(name) != NULL);
}

#define ITERABLE                                                                                   \
    (KIND(V_STRING) | KIND(V_LIST) | KIND(V_TUPLE) | KIND(V_DICT) | KIND(V_VIEW) | KIND(V_RANGE) | \
     KIND(V_GENERATOR) | KIND(V_UNDEFINED))
#define SEQUENCE (ITERABLE & ~KIND(V_VIEW) & ~KIND(V_GENERATOR))
#define NUMBER   (KIND(V_BOOL) | KIND(V_INT) | KIND(V_WIDE) | KIND(V_FLOAT))
#define CALLABLE                                                                                   \
    (KIND(V_MACRO) | KIND(V_FUNCTION) | KIND(V_METHOD) | KIND(V_LOOP) | KIND(V_UNDEFINED))

static const struct builtin tests[] = {
    {"boolean", "", test_kind, KIND(V_BOOL)},
    {"callable", "", test_kind, CALLABLE},
    {"defined", "", test_kind, ~KIND(V_UNDEFINED)},
    {"divisibleby", "num;", test_divides, 0},
    {"eq", "b;", test_compare, OP_EQ},
    {"equalto", "b;", test_compare, OP_EQ},
    {"==", "b;", test_compare, OP_EQ},
    {"escaped", "", test_escaped, 0},
    {"even", "", test_divides, 0},
    {"false", "", test_constant, 0},
    {"filter", "", test_known, 1},
    {"float", "", test_kind, KIND(V_FLOAT)},
    {"ge", "b;", test_compare, OP_GE},
    {">=", "b;", test_compare, OP_GE},
    {"greaterthan", "b;", test_compare, OP_GT},
    {"gt", "b;", test_compare, OP_GT},
    {">", "b;", test_compare, OP_GT},
    {"in", "seq;", test_compare, OP_IN},
    {"integer", "", test_kind, KIND(V_INT) | KIND(V_WIDE)},
    {"iterable", "", test_kind, ITERABLE},
    {"le", "b;", test_compare, OP_LE},
    {"<=", "b;", test_compare, OP_LE},
    {"lessthan", "b;", test_compare, OP_LT},
    {"lower", "", test_case, false},
    {"lt", "b;", test_compare, OP_LT},
    {"<", "b;", test_compare, OP_LT},
    {"mapping", "", test_kind, KIND(V_DICT)},
    {"ne", "b;", test_compare, OP_NE},
    {"!=", "b;", test_compare, OP_NE},
    {"none", "", test_kind, KIND(V_NONE)},
    {"number", "", test_kind, NUMBER},
    {"odd", "", test_divides, 1},
    {"sameas", "other;", test_sameas, 0},
    {"sequence", "", test_kind, SEQUENCE},
    {"string", "", test_kind, KIND(V_STRING)},
    {"test", "", test_known, 0},
    {"true", "", test_constant, 1},
    {"undefined", "", test_kind, KIND(V_UNDEFINED)},
    {"upper", "", test_case, true},
};

const struct builtin *mu_tpl_test_find(struct mu_str name)
{
    for (unsigned i = 0; i < MU_ARRAY_LEN(tests); i++)
        if (mu_str_is(name, tests[i].name)) return &tests[i];
    return NULL;
}
