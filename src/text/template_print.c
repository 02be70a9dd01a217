/* Chat templates: values as Python's str() and repr() write them, as HTML text, and as JSON. */
#include "text/template_int.h"

#include "base/number.h"
#include "base/utf8.h"

#include <math.h>
#include <utf8proc.h>

static void print_wide(struct mu_text *out, mu_tpl_wide w)
{
    char digits[44];
    unsigned n = sizeof digits;
    /* The magnitude as an unsigned number: the smallest integer has no positive twin. */
    unsigned __int128 u = w < 0 ? -(unsigned __int128)w : (unsigned __int128)w;
    do {
        digits[--n] = (char)('0' + (int)(u % 10));
        u /= 10;
    } while (u);
    if (w < 0) digits[--n] = '-';
    mu_text_add(out, digits + n, sizeof digits - n);
}

/* The digits of a finite, positive number without zeros around them, and where the point stands:
 * 0.d1d2... x 10^point. */
static unsigned float_digits(double f, char digits[MU_FLOAT_TEXT], int *point)
{
    char text[MU_FLOAT_TEXT];
    const char *s = mu_format_f64(f, text), *e = strchr(s, 'e');
    int64_t exponent = 0;
    unsigned n = 0;
    digits[0] = '0';
    bool seen_point = false;
    if (e) (void)mu_parse_i64(mu_str(e + 1), -400, 400, &exponent);
    *point = (int)exponent;
    for (const char *c = s; *c && c != e; c++) {
        if (*c == '.') {
            seen_point = true;
            continue;
        }
        if (!seen_point && (n > 0 || *c != '0')) ++*point;
        if (seen_point && n == 0 && *c == '0') --*point;
        if (n > 0 || *c != '0') digits[n++] = *c;
    }
    while (n > 1 && digits[n - 1] == '0')
        n--;
    return n;
}

static void print_float(struct mu_text *out, double f)
{
    char digits[MU_FLOAT_TEXT];
    int point;
    if (isnan(f)) {
        mu_text_str(out, "nan");
        return;
    }
    if (signbit(f)) mu_text_char(out, '-');
    if (isinf(f) || f == 0) {
        mu_text_str(out, f == 0 ? "0.0" : "inf");
        return;
    }
    int n = (int)float_digits(fabs(f), digits, &point);
    if (point > 16 || point < -3) {
        mu_text_char(out, digits[0]);
        if (n > 1) mu_text_char(out, '.');
        mu_text_add(out, digits + 1, (size_t)n - 1);
        mu_text_printf(out, "e%c%02d", point > 0 ? '+' : '-', abs(point - 1));
        return;
    }
    if (point <= 0) mu_text_str(out, "0.");
    for (int i = point; i < 0; i++)
        mu_text_char(out, '0');
    for (int i = 0; i < n || i < point; i++) {
        if (i == point && i > 0) mu_text_char(out, '.');
        mu_text_char(out, i < n ? digits[i] : '0');
    }
    if (n <= point) mu_text_str(out, ".0");
}

/* What repr() shows as itself: no separators but the space, no control, format, private or unknown
 * characters. */
static bool is_printable(uint32_t cp)
{
    if (cp < 0x7f) return cp >= 0x20;
    switch (utf8proc_category((utf8proc_int32_t)cp)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZS:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        return true;
    }
}

static void repr_string(struct mu_text *out, struct mu_str s)
{
    bool single = memchr(s.p, '\'', s.len) != NULL, pair = memchr(s.p, '"', s.len) != NULL;
    char quote = single && !pair ? '"' : '\'';
    mu_text_char(out, quote);
    for (unsigned n; s.len > 0; s = (struct mu_str){s.p + n, s.len - n}) {
        uint32_t cp = mu_utf8_decode(s, &n);
        const char *simple = cp && cp < 0x20 ? strchr("\nn\rr\tt", (int)cp) : NULL;
        if (cp == (unsigned char)quote || cp == '\\')
            mu_text_printf(out, "\\%c", (char)cp);
        else if (simple)
            mu_text_printf(out, "\\%c", simple[1]);
        else if (is_printable(cp))
            mu_text_add(out, s.p, n);
        else
            mu_text_printf(out, cp < 0x100 ? "\\x%02x" : cp < 0x10000 ? "\\u%04x" : "\\U%08x", cp);
    }
    mu_text_char(out, quote);
}

static mu_status repr_items(struct render *r, struct value v)
{
    mu_text_char(r->out, v.kind == V_LIST ? '[' : '(');
    for (uint32_t i = 0; i < v.len; i++) {
        if (i > 0) mu_text_str(r->out, ", ");
        MU_TRY(mu_tpl_repr(r, v.items[i]));
    }
    if (v.kind == V_TUPLE && v.len == 1) mu_text_char(r->out, ',');
    mu_text_char(r->out, v.kind == V_LIST ? ']' : ')');
    return MU_OK;
}

static mu_status repr_dict(struct render *r, const struct dict *d)
{
    mu_text_char(r->out, '{');
    for (uint32_t i = 0; i < d->n; i++) {
        if (i > 0) mu_text_str(r->out, ", ");
        MU_TRY(mu_tpl_repr(r, d->entries[i].key));
        mu_text_str(r->out, ": ");
        MU_TRY(mu_tpl_repr(r, d->entries[i].value));
    }
    mu_text_char(r->out, '}');
    return MU_OK;
}

static mu_status repr_view(struct render *r, struct value v)
{
    struct value list;
    MU_TRY(mu_tpl_items(r, v, &list));
    mu_text_printf(r->out, "%s(", mu_tpl_type(v));
    MU_TRY(repr_items(r, list));
    mu_text_char(r->out, ')');
    return MU_OK;
}

static void repr_range(struct mu_text *out, struct value v)
{
    const struct range *g = v.range;
    mu_text_printf(out, "range(%lld, %lld", (long long)g->start, (long long)g->stop);
    if (g->step != 1) mu_text_printf(out, ", %lld", (long long)g->step);
    mu_text_char(out, ')');
}

static mu_status repr_object(struct render *r, struct value v)
{
    struct value each = v;
    switch ((enum value_kind)v.kind) {
    case V_LIST:
    case V_TUPLE:
        return repr_items(r, v);
    case V_DICT:
        return repr_dict(r, v.dict);
    case V_VIEW:
        return repr_view(r, v);
    case V_NAMESPACE:
        mu_text_str(r->out, "<Namespace ");
        MU_TRY(repr_dict(r, each.dict));
        mu_text_char(r->out, '>');
        return MU_OK;
    case V_MACRO:
        mu_text_str(r->out, "<Macro ");
        if (v.closure->node->kind == N_MACRO)
            repr_string(r->out, v.closure->node->text);
        else
            mu_text_str(r->out, "anonymous");
        mu_text_char(r->out, '>');
        return MU_OK;
    case V_RANGE:
        repr_range(r->out, v);
        return MU_OK;
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE:
    case V_BOOL:
    case V_INT:
    case V_WIDE:
    case V_FLOAT:
    case V_STRING:
    case V_GENERATOR:
    case V_LOOP:
    case V_FUNCTION:
    case V_METHOD:
        break;
    }
    /* Python would print an address, which no template can want. */
    mu_text_printf(r->out, "<%s object>", mu_tpl_type(v));
    return MU_OK;
}

mu_status mu_tpl_repr(struct render *r, struct value v)
{
    MU_TRY(mu_tpl_charge(r, 1));
    MU_TRY(mu_tpl_enter(r));
    if (v.kind == V_STRING) {
        if (v.flag) mu_text_str(r->out, "Markup(");
        repr_string(r->out, mu_tpl_text(v));
        if (v.flag) mu_text_char(r->out, ')');
    } else if (v.kind == V_UNDEFINED) {
        mu_text_str(r->out, "Undefined");
    } else if (v.kind < V_STRING) {
        MU_TRY(mu_tpl_print(r, v));
    } else {
        MU_TRY(repr_object(r, v));
    }
    mu_tpl_leave(r);
    return mu_tpl_output_status(r);
}

mu_status mu_tpl_print(struct render *r, struct value v)
{
    switch ((enum value_kind)v.kind) {
    case V_STRING:
        mu_text_add(r->out, v.s, v.len);
        break;
    case V_MISSING:
    case V_UNDEFINED:
        break;
    case V_NONE:
        mu_text_str(r->out, "None");
        break;
    case V_BOOL:
        mu_text_str(r->out, v.b ? "True" : "False");
        break;
    case V_INT:
        mu_text_printf(r->out, "%lld", (long long)v.i);
        break;
    case V_WIDE:
        print_wide(r->out, *v.wide);
        break;
    case V_FLOAT:
        print_float(r->out, v.f);
        break;
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_VIEW:
    case V_RANGE:
    case V_GENERATOR:
    case V_NAMESPACE:
    case V_LOOP:
    case V_MACRO:
    case V_FUNCTION:
    case V_METHOD:
        return mu_tpl_repr(r, v);
    }
    return MU_OK;
}

mu_status mu_tpl_string(struct render *r, struct value v, struct value *out)
{
    *out = v;
    if (v.kind == V_STRING) return MU_OK;
    size_t from = mu_tpl_capture(r);
    MU_TRY(mu_tpl_print(r, v));
    return mu_tpl_captured(r, from, out);
}

mu_status mu_tpl_escape(struct render *r, struct value v, struct value *out)
{
    MU_TRY(mu_tpl_string(r, v, out));
    if (out->flag) return MU_OK;
    struct mu_str s = mu_tpl_text(*out);
    size_t from = mu_tpl_capture(r);
    for (size_t i = 0; i < s.len; i++) {
        const char *entity = s.p[i] == '&'    ? "&amp;"
                             : s.p[i] == '<'  ? "&lt;"
                             : s.p[i] == '>'  ? "&gt;"
                             : s.p[i] == '\'' ? "&#39;"
                             : s.p[i] == '"'  ? "&#34;"
                                              : NULL;
        if (entity)
            mu_text_str(r->out, entity);
        else
            mu_text_char(r->out, s.p[i]);
    }
    MU_TRY(mu_tpl_captured(r, from, out));
    out->flag = 1;
    return mu_tpl_charge(r, s.len / 64);
}

/* JSON as Python's json.dumps writes it */

static void json_point(struct mu_text *out, uint32_t cp, struct mu_str raw, bool ascii)
{
    static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
    const char *simple = cp && cp < 0x80 ? strchr(from, (int)cp) : NULL;
    if (simple)
        mu_text_printf(out, "\\%c", to[simple - from]);
    else if (cp >= 0x10000 && ascii)
        mu_text_printf(out, "\\u%04x\\u%04x", 0xd7c0 + (cp >> 10), 0xdc00 + (cp & 0x3ff));
    else if (cp < 0x20 || (ascii && cp >= 0x7f))
        mu_text_printf(out, "\\u%04x", cp);
    else
        mu_text_add(out, raw.p, raw.len);
}

static void json_string_add(struct mu_text *out, struct mu_str s, bool ascii)
{
    mu_text_char(out, '"');
    while (s.len > 0) {
        size_t plain = 0;
        while (plain < s.len && (unsigned char)s.p[plain] >= 0x20 && s.p[plain] != '"' &&
               s.p[plain] != '\\' && !(ascii && (unsigned char)s.p[plain] >= 0x7f))
            plain++;
        mu_text_add(out, s.p, plain);
        s = (struct mu_str){s.p + plain, s.len - plain};
        if (s.len == 0) break;
        unsigned n;
        uint32_t cp = mu_utf8_decode(s, &n);
        json_point(out, cp, (struct mu_str){s.p, n}, ascii);
        s = (struct mu_str){s.p + n, s.len - n};
    }
    mu_text_char(out, '"');
}

static void json_float(struct mu_text *out, double f)
{
    if (isfinite(f))
        print_float(out, f);
    else
        mu_text_str(out, isnan(f) ? "NaN" : f > 0 ? "Infinity" : "-Infinity");
}

static mu_status json_key(struct render *r, struct value key, const struct json_style *style)
{
    if (key.kind == V_STRING) {
        json_string_add(r->out, mu_tpl_text(key), style->ensure_ascii);
        return MU_OK;
    }
    if (key.kind < V_NONE || key.kind > V_FLOAT)
        return mu_tpl_fail(r, "keys must be str, int, float, bool or None, not %s",
                           mu_tpl_type(key));
    mu_text_char(r->out, '"');
    MU_TRY(mu_tpl_json(r, key, style, 0));
    mu_text_char(r->out, '"');
    return MU_OK;
}

static void json_line(struct mu_text *out, const struct json_style *style, unsigned level)
{
    if (!style->lines) return;
    mu_text_char(out, '\n');
    for (unsigned i = 0; i < level; i++)
        mu_text_add(out, style->indent.p, style->indent.len);
}

static mu_status json_items(struct render *r, struct value v, const struct json_style *style,
                            unsigned level)
{
    mu_text_char(r->out, '[');
    for (uint32_t i = 0; i < v.len; i++) {
        if (i > 0) mu_text_add(r->out, style->item.p, style->item.len);
        json_line(r->out, style, level + 1);
        MU_TRY(mu_tpl_json(r, v.items[i], style, level + 1));
    }
    if (v.len > 0) json_line(r->out, style, level);
    mu_text_char(r->out, ']');
    return MU_OK;
}

static mu_status json_dict(struct render *r, struct dict *d, const struct json_style *style,
                           unsigned level)
{
    const struct dict_entry *entries = d->entries;
    if (style->sort_keys) MU_TRY(mu_tpl_sorted_entries(r, d, &entries));
    mu_text_char(r->out, '{');
    for (uint32_t i = 0; i < d->n; i++) {
        if (i > 0) mu_text_add(r->out, style->item.p, style->item.len);
        json_line(r->out, style, level + 1);
        MU_TRY(json_key(r, entries[i].key, style));
        mu_text_add(r->out, style->key.p, style->key.len);
        MU_TRY(mu_tpl_json(r, entries[i].value, style, level + 1));
    }
    if (d->n > 0) json_line(r->out, style, level);
    mu_text_char(r->out, '}');
    return MU_OK;
}

mu_status mu_tpl_json(struct render *r, struct value v, const struct json_style *style,
                      unsigned level)
{
    MU_TRY(mu_tpl_charge(r, 1));
    MU_TRY(mu_tpl_enter(r));
    if (v.kind == V_STRING)
        json_string_add(r->out, mu_tpl_text(v), style->ensure_ascii);
    else if (v.kind == V_NONE)
        mu_text_str(r->out, "null");
    else if (v.kind == V_BOOL)
        mu_text_str(r->out, v.b ? "true" : "false");
    else if (v.kind == V_FLOAT)
        json_float(r->out, v.f);
    else if (v.kind == V_INT || v.kind == V_WIDE)
        MU_TRY(mu_tpl_print(r, v));
    else if (v.kind == V_LIST || v.kind == V_TUPLE)
        MU_TRY(json_items(r, v, style, level));
    else if (v.kind == V_DICT)
        MU_TRY(json_dict(r, v.dict, style, level));
    else
        return mu_tpl_fail(r, "Object of type %s is not JSON serializable", mu_tpl_type(v));
    mu_tpl_leave(r);
    return mu_tpl_output_status(r);
}
