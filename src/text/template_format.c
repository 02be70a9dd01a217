/* Chat templates: "%s" % x, "{}".format(x) and strftime, as Python does them. */
#include "text/template_int.h"

#include "base/number.h"
#include "base/utf8.h"

#include <math.h>
#include <time.h>

/* One replacement's wishes. */
struct spec {
    struct mu_str fill;
    char align; /* '<' '>' '^' '='; 0: the type's own */
    char sign;  /* '+', ' ' or 0 */
    bool alternate, comma;
    int64_t width, precision; /* precision -1: none */
    char type;                /* 0: none */
};

#define WIDTH_MAX 100000

static bool take(struct mu_str *s, char c)
{
    if (s->len == 0 || s->p[0] != c) return false;
    *s = (struct mu_str){s->p + 1, s->len - 1};
    return true;
}

/* The digits at the start; -1 when there are none. False when they are too many. */
static bool take_number(struct mu_str *s, int64_t *out)
{
    *out = -1;
    for (; s->len > 0 && s->p[0] >= '0' && s->p[0] <= '9';
         *s = (struct mu_str){s->p + 1, s->len - 1}) {
        *out = (*out < 0 ? 0 : *out) * 10 + (s->p[0] - '0');
        if (*out > WIDTH_MAX) return false;
    }
    return true;
}

/* Writes a body with its sign, padded to the width. */
static mu_status add_padded(struct render *r, const struct spec *spec, struct mu_str sign,
                            struct mu_str body)
{
    int64_t n = (int64_t)mu_tpl_points(body) + (int64_t)sign.len;
    int64_t pad = MU_MAX(spec->width - n, 0);
    int64_t left = spec->align == '<' ? 0 : spec->align == '^' ? pad / 2 : pad;
    MU_TRY(mu_tpl_charge(r, (uint64_t)pad / 16));
    if (spec->align == '=') mu_text_add(r->out, sign.p, sign.len);
    for (int64_t i = 0; i < left; i++)
        mu_text_add(r->out, spec->fill.p, spec->fill.len);
    if (spec->align != '=') mu_text_add(r->out, sign.p, sign.len);
    mu_text_add(r->out, body.p, body.len);
    for (int64_t i = left; i < pad; i++)
        mu_text_add(r->out, spec->fill.p, spec->fill.len);
    return mu_tpl_output_status(r);
}

static mu_status add_text(struct render *r, const struct spec *spec, struct mu_str s)
{
    struct spec own = *spec;
    if (!own.align) own.align = '<';
    if (spec->precision >= 0)
        s.len = mu_tpl_point_at(s, (uint32_t)MU_MIN(spec->precision, UINT32_MAX - 1));
    return add_padded(r, &own, (struct mu_str){"", 0}, s);
}

/* The sign (with a prefix such as 0x) apart from the digits, so that padding can stand between. */
static mu_status add_number(struct render *r, const struct spec *spec, bool negative,
                            const char *prefix, struct mu_str digits)
{
    struct spec own = *spec;
    char sign[4];
    size_t n = 0;
    if (!own.align) own.align = '>';
    if (negative)
        sign[n++] = '-';
    else if (spec->sign)
        sign[n++] = spec->sign;
    for (; *prefix && n < sizeof sign; prefix++)
        sign[n++] = *prefix;
    return add_padded(r, &own, (struct mu_str){sign, n}, digits);
}

static struct mu_str add_commas(struct render *r, struct mu_str digits)
{
    size_t whole = 0, n = 0;
    while (whole < digits.len && digits.p[whole] >= '0' && digits.p[whole] <= '9')
        whole++;
    char *text = mu_arena_alloc(r->arena, digits.len * 2 + 1, 1);
    if (!text) return digits;
    for (size_t i = 0; i < digits.len; i++) {
        if (i > 0 && i < whole && (whole - i) % 3 == 0) text[n++] = ',';
        text[n++] = digits.p[i];
    }
    return (struct mu_str){text, n};
}

static mu_status add_int(struct render *r, const struct spec *spec, mu_tpl_wide w)
{
    char buffer[132];
    size_t at = sizeof buffer;
    unsigned __int128 u = w < 0 ? -(unsigned __int128)w : (unsigned __int128)w;
    unsigned base = spec->type == 'x' || spec->type == 'X' ? 16
                    : spec->type == 'o'                    ? 8
                    : spec->type == 'b'                    ? 2
                                                           : 10;
    const char *letters = spec->type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
    do {
        buffer[--at] = letters[(unsigned)(u % base)];
        u /= base;
    } while (u);
    const char *prefix = !spec->alternate || base == 10 ? ""
                         : base == 2                    ? "0b"
                         : base == 8                    ? "0o"
                         : spec->type == 'X'            ? "0X"
                                                        : "0x";
    struct mu_str digits = {buffer + at, sizeof buffer - at};
    if (spec->comma) digits = add_commas(r, digits);
    return add_number(r, spec, w < 0, prefix, digits);
}

static mu_status add_float(struct render *r, const struct spec *spec, double f)
{
    int precision = (int)MU_MIN(spec->precision < 0 ? 6 : spec->precision, 400);
    bool percent = spec->type == '%';
    double v = fabs(percent ? f * 100 : f);
    const char *text = NULL;
    if (!isfinite(v)) {
        text = isnan(v) ? "nan" : "inf";
    } else if (spec->type == 0 && spec->precision < 0) {
        struct value s;
        MU_TRY(mu_tpl_string(r, mu_tpl_float(v), &s));
        text = s.s;
    } else if (spec->type == 'f' || spec->type == 'F' || percent) {
        text = mu_arena_printf(r->arena, percent ? "%.*f%%" : "%.*f", precision, v);
    } else if (spec->type == 'e') {
        text = mu_arena_printf(r->arena, "%.*e", precision, v);
    } else if (spec->type == 'E') {
        text = mu_arena_printf(r->arena, "%.*E", precision, v);
    } else {
        text = mu_arena_printf(r->arena, "%.*g", MU_MAX(precision, 1), v);
    }
    if (!text) return mu_fail_memory(r->err, 64);
    struct mu_str digits = mu_str(text);
    if (spec->comma) digits = add_commas(r, digits);
    return add_number(r, spec, signbit(f) && !isnan(f), "", digits);
}

static mu_status fail_spec(struct render *r, const struct spec *spec, struct value v)
{
    if (v.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, v);
    return mu_tpl_fail(r, "format code '%c' is not for a value of type %s",
                       spec->type ? spec->type : 's', mu_tpl_type(v));
}

/* "%..." */

static mu_status percent_spec(struct render *r, struct mu_str *s, struct spec *spec)
{
    bool zero = false, left = false, known = true;
    *spec = (struct spec){.fill = MU_STR(" "), .precision = -1};
    while (known) {
        if (take(s, '-'))
            left = true;
        else if (take(s, '+'))
            spec->sign = '+';
        else if (take(s, ' '))
            spec->sign = spec->sign ? spec->sign : ' ';
        else if (take(s, '0'))
            zero = true;
        else
            known = take(s, '#');
    }
    bool ok = take_number(s, &spec->width);
    if (take(s, '.')) {
        ok &= take_number(s, &spec->precision);
        spec->precision = MU_MAX(spec->precision, 0);
    }
    if (!ok) return mu_tpl_fail(r, "a width or precision of over %d", WIDTH_MAX);
    if (s->len == 0) return mu_tpl_fail(r, "incomplete format");
    spec->type = s->p[0];
    *s = (struct mu_str){s->p + 1, s->len - 1};
    bool number = strchr("diuoxXeEfFgG", spec->type) != NULL;
    spec->align = left ? '<' : zero && number ? '=' : '>';
    if (spec->align == '=') spec->fill = MU_STR("0");
    return MU_OK;
}

static mu_status percent_one(struct render *r, struct spec *spec, struct value v)
{
    struct value text;
    mu_tpl_wide w;
    double f;
    if (spec->type == 's') {
        MU_TRY(mu_tpl_string(r, v, &text));
        return add_text(r, spec, mu_tpl_text(text));
    }
    if (spec->type == 'r') {
        size_t from = mu_tpl_capture(r);
        MU_TRY(mu_tpl_repr(r, v));
        MU_TRY(mu_tpl_captured(r, from, &text));
        return add_text(r, spec, mu_tpl_text(text));
    }
    bool integer = strchr("diuxXo", spec->type) != NULL;
    if (integer && v.kind == V_FLOAT && fabs(v.f) < 1e38 && spec->type < 'o')
        return add_int(r, spec, (mu_tpl_wide)v.f);
    if (integer && mu_tpl_wide_of(v, &w)) return add_int(r, spec, w);
    if (strchr("eEfFgG", spec->type) && mu_tpl_number(v, &f)) return add_float(r, spec, f);
    return fail_spec(r, spec, v);
}

/* (name) after the percent sign: the value of that key. */
static mu_status percent_key(struct render *r, struct mu_str *s, struct value args,
                             struct value *out)
{
    const char *end = memchr(s->p, ')', s->len);
    if (!end || args.kind != V_DICT) return mu_tpl_fail(r, "format requires a mapping");
    struct mu_str key = {s->p, (size_t)(end - s->p)};
    const struct value *found;
    MU_TRY(mu_tpl_dict_get(r, args.dict, mu_tpl_str(key), &found));
    if (!found) return mu_tpl_fail(r, "format needs a key '%.*s'", (int)MU_MIN(key.len, 40), key.p);
    *out = *found;
    *s = (struct mu_str){end + 1, s->len - key.len - 1};
    return MU_OK;
}

mu_status mu_tpl_percent(struct render *r, struct value format, struct value args,
                         struct value *out)
{
    struct mu_str s = mu_tpl_text(format);
    bool tuple = args.kind == V_TUPLE, keyed = false;
    uint32_t used = 0, n = tuple ? args.len : 1;
    size_t from = mu_tpl_capture(r);
    while (s.len > 0) {
        const char *sign = memchr(s.p, '%', s.len);
        size_t plain = sign ? (size_t)(sign - s.p) : s.len;
        mu_text_add(r->out, s.p, plain);
        s = (struct mu_str){s.p + plain, s.len - plain};
        if (!take(&s, '%')) break;
        if (take(&s, '%')) {
            mu_text_char(r->out, '%');
            continue;
        }
        struct value v = args;
        struct spec spec;
        bool named = take(&s, '(');
        if (named) MU_TRY(percent_key(r, &s, args, &v));
        MU_TRY(percent_spec(r, &s, &spec));
        if (!named && used == n) return mu_tpl_fail(r, "not enough arguments for format string");
        if (!named && tuple) v = args.items[used];
        used += !named;
        keyed |= named;
        MU_TRY(percent_one(r, &spec, v));
    }
    bool spare = used < n && !keyed && args.kind != V_DICT && args.kind != V_LIST;
    if (spare) return mu_tpl_fail(r, "not all arguments converted during string formatting");
    MU_TRY(mu_tpl_captured(r, from, out));
    out->flag = format.flag;
    return MU_OK;
}

/* "{...}" */

static bool is_align(char c)
{
    return c == '<' || c == '>' || c == '^' || c == '=';
}

static mu_status brace_spec(struct render *r, struct mu_str s, struct spec *spec)
{
    *spec = (struct spec){.fill = MU_STR(" "), .precision = -1};
    size_t first = s.len ? mu_tpl_point_at(s, 1) : 0;
    if (first && first < s.len && is_align(s.p[first])) {
        spec->fill = (struct mu_str){s.p, first};
        spec->align = s.p[first];
        s = (struct mu_str){s.p + first + 1, s.len - first - 1};
    } else if (s.len && is_align(s.p[0])) {
        spec->align = s.p[0];
        s = (struct mu_str){s.p + 1, s.len - 1};
    }
    if (take(&s, '+'))
        spec->sign = '+';
    else if (take(&s, ' '))
        spec->sign = ' ';
    else
        (void)take(&s, '-');
    spec->alternate = take(&s, '#');
    if (s.len && s.p[0] == '0' && !spec->align) {
        spec->fill = MU_STR("0");
        spec->align = '=';
    }
    bool ok = take_number(&s, &spec->width);
    spec->comma = take(&s, ',');
    if (take(&s, '.')) ok &= take_number(&s, &spec->precision) && spec->precision >= 0;
    if (s.len) spec->type = s.p[0];
    if (!ok || s.len > 1) return mu_tpl_fail(r, "invalid format specifier");
    return MU_OK;
}

static mu_status brace_one(struct render *r, struct value v, struct mu_str format, char conversion)
{
    struct spec spec;
    struct value text;
    mu_tpl_wide w;
    double f;
    MU_TRY(brace_spec(r, format, &spec));
    bool number = v.kind == V_INT || v.kind == V_WIDE || v.kind == V_FLOAT ||
                  (v.kind == V_BOOL && format.len > 0);
    if (number && !conversion) {
        bool integer = !spec.type || strchr("bdoxX", spec.type);
        if (integer && spec.precision < 0 && mu_tpl_wide_of(v, &w)) return add_int(r, &spec, w);
        bool whole = v.kind != V_FLOAT && !spec.type;
        if (!whole && (!spec.type || strchr("eEfFgG%", spec.type)) && mu_tpl_number(v, &f))
            return add_float(r, &spec, f);
        return fail_spec(r, &spec, v);
    }
    bool numeric = spec.sign || spec.comma || spec.alternate || spec.align == '=';
    if ((spec.type && spec.type != 's') || numeric) return fail_spec(r, &spec, v);
    bool own = v.kind == V_STRING || conversion || format.len == 0;
    if (!own) return mu_tpl_fail(r, "unsupported format string for %s", mu_tpl_type(v));
    size_t from = mu_tpl_capture(r);
    MU_TRY(conversion == 'r' ? mu_tpl_repr(r, v) : mu_tpl_print(r, v));
    MU_TRY(mu_tpl_captured(r, from, &text));
    return add_text(r, &spec, mu_tpl_text(text));
}

/* Fields are counted by themselves or numbered, not both in one text; a number that an attribute
 * follows (not the `whole` field) does not count, as in the original. */
#define FIELDS_GIVEN UINT32_MAX

static mu_status brace_lookup(struct render *r, const struct args *args, struct mu_str name,
                              bool whole, uint32_t *next, struct value *out)
{
    uint64_t index = *next;
    if (name.len == 0 || mu_parse_u64(name, 0, UINT32_MAX, &index)) {
        if (name.len == 0 || whole) {
            if (*next != 0 && (*next == FIELDS_GIVEN) == (name.len == 0))
                return mu_tpl_fail(r, "automatic and manual field numbering do not mix");
            *next = name.len == 0 ? *next + 1 : FIELDS_GIVEN;
        }
        if (index >= args->n)
            return mu_tpl_fail(r, "replacement index %u is out of range", (unsigned)index);
        *out = args->v[index];
        return MU_OK;
    }
    for (uint32_t i = 0; i < args->n_named; i++)
        if (mu_str_equal(args->named[i].name, name)) {
            *out = args->named[i].value;
            return MU_OK;
        }
    return mu_tpl_fail(r, "format needs an argument '%.*s'", (int)MU_MIN(name.len, 40), name.p);
}

/* name.attribute[index]... */
static mu_status brace_field(struct render *r, const struct args *args, struct mu_str field,
                             uint32_t *next, struct value *out)
{
    size_t len = 0;
    while (len < field.len && field.p[len] != '.' && field.p[len] != '[')
        len++;
    MU_TRY(brace_lookup(r, args, (struct mu_str){field.p, len}, len == field.len, next, out));
    field = (struct mu_str){field.p + len, field.len - len};
    while (field.len > 0) {
        bool dot = take(&field, '.');
        if (!dot && !take(&field, '[')) return mu_tpl_fail(r, "only '.' or '[' may follow ']'");
        for (len = 0; len < field.len &&
                      (dot ? field.p[len] != '.' && field.p[len] != '[' : field.p[len] != ']');)
            len++;
        struct mu_str part = {field.p, len};
        uint64_t index;
        bool number = !dot && mu_parse_u64(part, 0, INT64_MAX, &index);
        MU_TRY(dot ? mu_tpl_attr(r, *out, part, out)
                   : mu_tpl_item(r, *out, number ? mu_tpl_int((int64_t)index) : mu_tpl_str(part),
                                 out));
        field = (struct mu_str){field.p + len, field.len - len};
        if (!dot && !take(&field, ']')) return mu_tpl_fail(r, "expected ']' before end of string");
    }
    return MU_OK;
}

/* What stands between braces: field, !conversion, :spec. */
static mu_status brace_replace(struct render *r, const struct args *args, struct mu_str inside,
                               uint32_t *next)
{
    const char *colon = memchr(inside.p, ':', inside.len);
    struct mu_str field = {inside.p, colon ? (size_t)(colon - inside.p) : inside.len};
    struct mu_str spec = {field.p + field.len, inside.len - field.len};
    (void)take(&spec, ':');
    char conversion = 0;
    struct value v;
    if (memchr(spec.p, '{', spec.len))
        return mu_tpl_fail(r, "replacements inside format specifiers are not supported");
    if (field.len >= 2 && field.p[field.len - 2] == '!') {
        conversion = field.p[field.len - 1];
        field.len -= 2;
    }
    MU_TRY(brace_field(r, args, field, next, &v));
    return brace_one(r, v, spec, conversion);
}

mu_status mu_tpl_brace_format(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str s = mu_tpl_text(c->self);
    uint32_t next = 0;
    size_t from = mu_tpl_capture(r);
    while (s.len > 0) {
        size_t plain = 0;
        while (plain < s.len && s.p[plain] != '{' && s.p[plain] != '}')
            plain++;
        mu_text_add(r->out, s.p, plain);
        s = (struct mu_str){s.p + plain, s.len - plain};
        if (s.len == 0) break;
        char brace = s.p[0];
        (void)take(&s, brace);
        if (take(&s, brace)) {
            mu_text_char(r->out, brace);
            continue;
        }
        size_t len = 0, depth = 1;
        for (; len < s.len; len++) {
            depth += s.p[len] == '{';
            if (s.p[len] == '}' && --depth == 0) break;
        }
        if (brace == '}' || len == s.len)
            return mu_tpl_fail(r, "single '%c' encountered in format string", brace);
        MU_TRY(brace_replace(r, c->args, (struct mu_str){s.p, len}, &next));
        s = (struct mu_str){s.p + len + 1, s.len - len - 1};
    }
    return mu_tpl_captured(r, from, out);
}

/* strftime */

static bool digits_at(const char *s, unsigned n, int *out)
{
    uint64_t v;
    if (strnlen(s, n) < n || !mu_parse_u64((struct mu_str){s, n}, 0, 9999, &v)) return false;
    *out = (int)v;
    return true;
}

/* "2025-03-14T15:09:26", with a space for the T and fractions allowed; the date may stand alone. */
static bool parse_now(const char *s, struct tm *tm)
{
    *tm = (struct tm){.tm_isdst = -1};
    size_t len = strlen(s);
    if (len < 10 || !digits_at(s, 4, &tm->tm_year) || s[4] != '-' ||
        !digits_at(s + 5, 2, &tm->tm_mon) || s[7] != '-' || !digits_at(s + 8, 2, &tm->tm_mday))
        return false;
    if (len > 10 && (len < 16 || !digits_at(s + 11, 2, &tm->tm_hour) || s[13] != ':' ||
                     !digits_at(s + 14, 2, &tm->tm_min)))
        return false;
    if (len > 16 && (len < 19 || s[16] != ':' || !digits_at(s + 17, 2, &tm->tm_sec))) return false;
    if (tm->tm_mon < 1 || tm->tm_mon > 12 || tm->tm_mday < 1 || tm->tm_mday > 31 ||
        tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 60)
        return false;
    tm->tm_year -= 1900;
    tm->tm_mon -= 1;
    int day = tm->tm_mday;
    /* Fills in the days of the week and of the year; a day that its month lacks moves. */
    (void)timegm(tm);
    return tm->tm_mday == day;
}

static bool local_now(struct tm *tm)
{
    time_t now = time(NULL);
    return localtime_r(&now, tm) != NULL;
}

/* The format is the template's, one directive long; what it makes is bounded by `size`. */
static size_t strftime_one(char *text, size_t size, const char *directive, const struct tm *tm)
{
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    return strftime(text, size, directive, tm);
#pragma GCC diagnostic pop
}

mu_status mu_tpl_strftime(struct render *r, struct value format, struct value *out)
{
    struct tm tm;
    if (format.kind != V_STRING) return mu_tpl_fail(r, "strftime_now wants a format");
    if (r->now ? !parse_now(r->now, &tm) : !local_now(&tm))
        return mu_tpl_fail(r, "the time is not of the form 2025-03-14T15:09:26");
    struct mu_str s = mu_tpl_text(format);
    size_t from = mu_tpl_capture(r);
    while (s.len > 0) {
        const char *sign = memchr(s.p, '%', s.len);
        size_t plain = sign ? (size_t)(sign - s.p) : s.len;
        mu_text_add(r->out, s.p, plain);
        s = (struct mu_str){s.p + plain, s.len - plain};
        size_t n = 1;
        while (n < s.len && strchr("-_0^#EO", s.p[n]) && s.p[n])
            n++;
        if (s.len == 0) break;
        char one[12], text[64];
        if (n >= s.len || n + 2 > sizeof one) return mu_tpl_fail(r, "invalid format string");
        memcpy(one, s.p, n + 1);
        one[n + 1] = '\0';
        s = (struct mu_str){s.p + n + 1, s.len - n - 1};
        if (one[n] == 'f') /* Python's own: a pinned time has no microseconds */
            mu_text_str(r->out, "000000");
        else if (one[n] != 'Z' && one[n] != 'z') /* the time knows no zone */
            mu_text_add(r->out, text, strftime_one(text, sizeof text, one, &tm));
    }
    return mu_tpl_captured(r, from, out);
}
