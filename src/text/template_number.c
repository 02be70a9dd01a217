/* Chat templates: arithmetic as Python does it, and integers from text. */
#include "text/template_int.h"

#include <math.h>

bool mu_tpl_wide_of(struct value v, mu_tpl_wide *out)
{
    if (v.kind == V_BOOL)
        *out = v.b;
    else if (v.kind == V_INT)
        *out = v.i;
    else if (v.kind == V_WIDE)
        *out = *v.wide;
    else
        return false;
    return true;
}

bool mu_tpl_number(struct value v, double *out)
{
    mu_tpl_wide w;
    if (v.kind == V_FLOAT)
        *out = v.f;
    else if (mu_tpl_wide_of(v, &w))
        *out = (double)w;
    else
        return false;
    return true;
}

mu_status mu_tpl_from_wide(struct render *r, mu_tpl_wide w, struct value *out)
{
    *out = mu_tpl_int((int64_t)w);
    if (w >= INT64_MIN && w <= INT64_MAX) return MU_OK;
    mu_tpl_wide *wide;
    MU_TRY(mu_tpl_alloc(r, 1, sizeof *wide, &wide));
    *wide = w;
    *out = (struct value){.kind = V_WIDE, .wide = wide};
    return MU_OK;
}

static int digit_of(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'z') return c - 'a' + 10;
    if (c >= 'A' && c <= 'Z') return c - 'A' + 10;
    return 99;
}

/* Takes a prefix such as 0x off when the base allows it; returns the base to go on with. */
static int take_prefix(struct mu_str *s, int base)
{
    int c = s->len > 2 && s->p[0] == '0' ? s->p[1] | 0x20 : 0;
    int said = c == 'x' ? 16 : c == 'o' ? 8 : c == 'b' ? 2 : 0;
    if (!said || (base != 0 && base != said)) return base ? base : 10;
    *s = (struct mu_str){s->p + 2, s->len - 2};
    if (s->p[0] == '_') *s = (struct mu_str){s->p + 1, s->len - 1};
    return said;
}

bool mu_tpl_parse_int(struct mu_str s, int base, mu_tpl_wide *out)
{
    bool negative = s.len > 0 && s.p[0] == '-';
    if (s.len > 0 && (negative || s.p[0] == '+')) s = (struct mu_str){s.p + 1, s.len - 1};
    base = take_prefix(&s, base);
    mu_tpl_wide w = 0;
    bool after_digit = false;
    for (size_t i = 0; i < s.len; i++) {
        if (s.p[i] == '_' && after_digit) {
            after_digit = false;
            continue;
        }
        int digit = digit_of(s.p[i]);
        if (digit >= base || __builtin_mul_overflow(w, (mu_tpl_wide)base, &w) ||
            __builtin_add_overflow(w, (mu_tpl_wide)digit, &w))
            return false;
        after_digit = true;
    }
    *out = negative ? -w : w;
    return after_digit;
}

static mu_status fail_types(struct render *r, const char *op, struct value a, struct value b)
{
    if (a.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, a);
    if (b.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, b);
    bool sequence = a.kind == V_STRING || a.kind == V_LIST || a.kind == V_TUPLE;
    if (op[0] == '+' && sequence)
        return mu_tpl_fail(r, "can only concatenate %s (not \"%s\") to %s", mu_tpl_type(a),
                           mu_tpl_type(b), mu_tpl_type(a));
    return mu_tpl_fail(r, "unsupported operand type(s) for %s: '%s' and '%s'", op, mu_tpl_type(a),
                       mu_tpl_type(b));
}

static mu_status add_sequences(struct render *r, struct value a, struct value b, struct value *out)
{
    if (a.kind == V_STRING) {
        if (a.flag != b.flag) MU_TRY(mu_tpl_escape(r, a.flag ? b : a, a.flag ? &b : &a));
        return mu_tpl_joined(r, a, b, out);
    }
    struct value *items;
    MU_TRY(mu_tpl_charge(r, ((uint64_t)a.len + b.len) / 8));
    MU_TRY(mu_tpl_alloc(r, (size_t)a.len + b.len, sizeof *items, &items));
    if (a.len) memcpy(items, a.items, a.len * sizeof *items);
    if (b.len) memcpy(items + a.len, b.items, b.len * sizeof *items);
    *out = mu_tpl_list(items, a.len + b.len);
    out->kind = a.kind;
    return MU_OK;
}

/* 'ab' * 3, [0] * 3 */
static mu_status repeat(struct render *r, struct value v, int64_t times, struct value *out)
{
    size_t unit = v.kind == V_STRING ? 1 : sizeof(struct value);
    char *bytes;
    if (times < 0 || v.len == 0) times = 0;
    if (times > 0 && (uint64_t)times > UINT32_MAX / v.len)
        return mu_tpl_fail(r, "%lld repetitions are too many", (long long)times);
    size_t piece = v.len * unit;
    MU_TRY(mu_tpl_charge(r, piece * (size_t)times / 64));
    MU_TRY(mu_tpl_alloc(r, (size_t)times * v.len + 1, unit, &bytes));
    for (int64_t i = 0; i < times; i++)
        memcpy(bytes + (size_t)i * piece, v.s, piece);
    *out = v;
    out->len = (uint32_t)times * v.len;
    out->s = bytes;
    return MU_OK;
}

static mu_status power(struct render *r, mu_tpl_wide base, mu_tpl_wide exponent, struct value *out)
{
    mu_tpl_wide result = 1;
    if (base >= -1 && base <= 1) exponent = exponent > 2 ? 2 + exponent % 2 : exponent;
    for (; exponent > 0; exponent--)
        if (__builtin_mul_overflow(result, base, &result))
            return mu_tpl_fail(r, "an integer of more than 128 bits");
    return mu_tpl_from_wide(r, result, out);
}

static mu_status integers(struct render *r, enum op op, mu_tpl_wide a, mu_tpl_wide b,
                          struct value *out)
{
    mu_tpl_wide result = 0;
    bool over = false;
    if (op == OP_ADD)
        over = __builtin_add_overflow(a, b, &result);
    else if (op == OP_SUB)
        over = __builtin_sub_overflow(a, b, &result);
    else if (op == OP_MUL)
        over = __builtin_mul_overflow(a, b, &result);
    else if (op == OP_POW)
        return power(r, a, b, out);
    else if (b == 0)
        return mu_tpl_fail(r, "integer division or modulo by zero");
    else if (b == -1) /* the smallest integer has no positive twin */
        over = op == OP_FLOOR && __builtin_sub_overflow((mu_tpl_wide)0, a, &result);
    else if (op == OP_FLOOR)
        result = a / b - (a % b != 0 && (a < 0) != (b < 0));
    else
        result = a % b + (a % b != 0 && (a < 0) != (b < 0) ? b : 0);
    if (over) return mu_tpl_fail(r, "an integer of more than 128 bits");
    return mu_tpl_from_wide(r, result, out);
}

static double float_mod(double a, double b)
{
    double m = fmod(a, b);
    if (m != 0 && (m < 0) != (b < 0)) return m + b;
    return m != 0 ? m : copysign(0.0, b);
}

static mu_status floats(struct render *r, enum op op, double a, double b, struct value *out)
{
    double result = 0;
    if (b == 0 && (op == OP_DIV || op == OP_FLOOR || op == OP_MOD))
        return mu_tpl_fail(r, "division by zero");
    if (op == OP_ADD)
        result = a + b;
    else if (op == OP_SUB)
        result = a - b;
    else if (op == OP_MUL)
        result = a * b;
    else if (op == OP_DIV)
        result = a / b;
    else if (op == OP_FLOOR)
        result = floor((a - float_mod(a, b)) / b + 0.5);
    else if (op == OP_MOD)
        result = float_mod(a, b);
    else
        result = pow(a, b);
    if (op == OP_POW && !isfinite(result) && isfinite(a) && isfinite(b))
        return mu_tpl_fail(r, "the power of these numbers is no finite number");
    *out = mu_tpl_float(result);
    return MU_OK;
}

mu_status mu_tpl_binary(struct render *r, enum op op, struct value a, struct value b,
                        struct value *out)
{
    static const char *const names[] = {"+", "-", "*", "/", "//", "%", "** or pow()"};
    bool sequence = a.kind == V_STRING || a.kind == V_LIST || a.kind == V_TUPLE;
    mu_tpl_wide x = 0, y = 0;
    double f, g;
    if (op == OP_ADD && sequence && a.kind == b.kind) return add_sequences(r, a, b, out);
    if (op == OP_MOD && a.kind == V_STRING) return mu_tpl_percent(r, a, b, out);
    if (op == OP_MUL && sequence && mu_tpl_is_int(b))
        return repeat(r, a, b.kind == V_BOOL ? b.b : b.i, out);
    if (op == OP_MUL && mu_tpl_is_int(a) &&
        (b.kind == V_STRING || b.kind == V_LIST || b.kind == V_TUPLE))
        return repeat(r, b, a.kind == V_BOOL ? a.b : a.i, out);
    bool whole = mu_tpl_wide_of(a, &x) && mu_tpl_wide_of(b, &y);
    if (whole && op != OP_DIV && !(op == OP_POW && y < 0)) return integers(r, op, x, y, out);
    if (mu_tpl_number(a, &f) && mu_tpl_number(b, &g)) return floats(r, op, f, g, out);
    return fail_types(r, names[op], a, b);
}

mu_status mu_tpl_negate(struct render *r, struct value v, bool negative, struct value *out)
{
    mu_tpl_wide w;
    if (v.kind == V_FLOAT) {
        *out = mu_tpl_float(negative ? -v.f : v.f);
        return MU_OK;
    }
    if (v.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, v);
    if (!mu_tpl_wide_of(v, &w))
        return mu_tpl_fail(r, "bad operand type for unary %c: '%s'", negative ? '-' : '+',
                           mu_tpl_type(v));
    if (negative) return integers(r, OP_SUB, 0, w, out);
    return mu_tpl_from_wide(r, w, out);
}
