/*
 * Chat templates: strings by code point - white space, case, slices, replacing - and the two ways a
 * render makes new text: at the end of its output, taken back off, and by growing a string in
 * place.
 */
#include "text/template_int.h"

#include "base/utf8.h"

#include <utf8proc.h>

bool mu_tpl_is_space(uint32_t cp)
{
    if (cp < 0x80) return (cp >= 0x09 && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x20);
    return cp == 0x85 || cp == 0xa0 || cp == 0x1680 || (cp >= 0x2000 && cp <= 0x200a) ||
           cp == 0x2028 || cp == 0x2029 || cp == 0x202f || cp == 0x205f || cp == 0x3000;
}

uint32_t mu_tpl_points(struct mu_str s)
{
    uint32_t n = 0;
    for (size_t i = 0; i < s.len; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

size_t mu_tpl_point_at(struct mu_str s, uint32_t n)
{
    size_t i = 0;
    for (; i < s.len; i++)
        if (((unsigned char)s.p[i] & 0xc0) != 0x80 && n-- == 0) break;
    return i;
}

static bool strips(struct mu_str point, uint32_t cp, const struct mu_str *chars)
{
    if (!chars) return mu_tpl_is_space(cp);
    return memmem(chars->p, chars->len, point.p, point.len) != NULL;
}

struct mu_str mu_tpl_strip(struct mu_str s, const struct mu_str *chars, bool left, bool right)
{
    unsigned n;
    while (left && s.len > 0) {
        uint32_t cp = mu_utf8_decode(s, &n);
        if (!strips((struct mu_str){s.p, n}, cp, chars)) break;
        s = (struct mu_str){s.p + n, s.len - n};
    }
    while (right && s.len > 0) {
        size_t i = s.len - 1;
        while (i > 0 && ((unsigned char)s.p[i] & 0xc0) == 0x80)
            i--;
        struct mu_str last = {s.p + i, s.len - i};
        if (!strips(last, mu_utf8_decode(last, &n), chars)) break;
        s.len = i;
    }
    return s;
}

/* New text */

size_t mu_tpl_capture(const struct render *r)
{
    return r->out->len;
}

mu_status mu_tpl_captured(struct render *r, size_t from, struct value *out)
{
    MU_TRY(mu_tpl_output_status(r));
    size_t len = r->out->len - from;
    char *text;
    MU_TRY(mu_tpl_charge(r, len / 64));
    MU_TRY(mu_tpl_alloc(r, len + 1, 1, &text));
    if (len) memcpy(text, r->out->p + from, len);
    if (len) r->out->p[from] = '\0';
    r->out->len = from;
    *out = mu_tpl_str((struct mu_str){text, len});
    return MU_OK;
}

/* Templates build long texts by adding to one again and again. A string that was the last to grow
 * has room behind it, so that this costs what is added, not what is there. */
mu_status mu_tpl_joined(struct render *r, struct value a, struct value b, struct value *out)
{
    size_t len = (size_t)a.len + b.len;
    *out = b.len == 0 ? a : b;
    if (a.len == 0 || b.len == 0) return MU_OK;
    if (len > INT32_MAX) return mu_tpl_fail(r, "a text of over 2 GiB");
    MU_TRY(mu_tpl_charge(r, b.len / 64));
    *out = a;
    out->len = (uint32_t)len;
    for (unsigned i = 0; i < MU_ARRAY_LEN(r->grown); i++) {
        struct grown *g = &r->grown[i];
        if (g->p != a.s || g->used != a.len || b.len > g->room - g->used) continue;
        memcpy(g->p + g->used, b.s, b.len);
        g->used = len;
        return MU_OK;
    }
    struct grown *g = &r->grown[r->next_grown++ % MU_ARRAY_LEN(r->grown)];
    *g = (struct grown){.used = len, .room = len + len / 2 + 16};
    MU_TRY(mu_tpl_charge(r, a.len / 64));
    MU_TRY(mu_tpl_alloc(r, g->room, 1, &g->p));
    memcpy(g->p, a.s, a.len);
    memcpy(g->p + a.len, b.s, b.len);
    out->s = g->p;
    return MU_OK;
}

/* Case */

/* Where Unicode's upper case is more than one character. */
static const struct {
    uint16_t point;
    char upper[4];
} wide_upper[] = {{0xdf, "SS"},    {0xfb00, "FF"},  {0xfb01, "FI"}, {0xfb02, "FL"},
                  {0xfb03, "FFI"}, {0xfb04, "FFL"}, {0xfb05, "ST"}, {0xfb06, "ST"}};

static bool is_cased(uint32_t cp)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

static void add_upper(struct mu_text *out, uint32_t cp, bool title)
{
    char bytes[4];
    for (unsigned i = 0; cp >= 0xdf && i < MU_ARRAY_LEN(wide_upper); i++) {
        if (wide_upper[i].point != cp) continue;
        mu_text_char(out, wide_upper[i].upper[0]);
        for (const char *c = wide_upper[i].upper + 1; *c; c++)
            mu_text_char(out, title ? (char)(*c | 0x20) : *c);
        return;
    }
    utf8proc_int32_t to =
        title ? utf8proc_totitle((utf8proc_int32_t)cp) : utf8proc_toupper((utf8proc_int32_t)cp);
    mu_text_add(out, bytes, mu_utf8_encode((uint32_t)to, bytes));
}

static void add_lower(struct mu_text *out, uint32_t cp)
{
    char bytes[4];
    uint32_t to = (uint32_t)utf8proc_tolower((utf8proc_int32_t)cp);
    mu_text_add(out, bytes, mu_utf8_encode(to, bytes));
    if (cp == 0x130) mu_text_str(out, "\xcc\x87");
}

/* A sigma that ends a word has a form of its own. */
static bool is_final_sigma(uint32_t cp, bool after_cased, struct mu_str rest)
{
    unsigned n;
    if (cp != 0x3a3 || !after_cased) return false;
    return rest.len == 0 || !is_cased(mu_utf8_decode(rest, &n));
}

static bool begins_word(uint32_t cp)
{
    return mu_tpl_is_space(cp) || cp == '-' || cp == '(' || cp == '{' || cp == '[' || cp == '<';
}

mu_status mu_tpl_case(struct render *r, struct value v, enum case_change how, struct value *out)
{
    size_t from = mu_tpl_capture(r);
    struct mu_str s = mu_tpl_text(v);
    bool start = true, after_cased = false; /* start: of a word, or of the text */
    for (unsigned n; s.len > 0;) {
        uint32_t cp = mu_utf8_decode(s, &n);
        bool swap = how == CASE_SWAP && mu_tpl_all_case((struct mu_str){s.p, n}, false);
        bool title = start && (how == CASE_TITLE || how == CASE_CAPITALIZE);
        s = (struct mu_str){s.p + n, s.len - n};
        if (how == CASE_UPPER || swap || title || (start && how == CASE_WORDS))
            add_upper(r->out, cp, title);
        else if (is_final_sigma(cp, after_cased, s))
            mu_text_str(r->out, "\xcf\x82");
        else
            add_lower(r->out, cp);
        after_cased = is_cased(cp);
        start = how == CASE_TITLE ? !after_cased : how == CASE_WORDS && begins_word(cp);
    }
    MU_TRY(mu_tpl_captured(r, from, out));
    out->flag = v.flag;
    return MU_OK;
}

bool mu_tpl_all_case(struct mu_str s, bool upper)
{
    bool cased = false;
    for (unsigned n; s.len > 0; s = (struct mu_str){s.p + n, s.len - n}) {
        utf8proc_int32_t cp = (utf8proc_int32_t)mu_utf8_decode(s, &n);
        if (!is_cased((uint32_t)cp)) continue;
        utf8proc_category_t c = utf8proc_category(cp);
        if (c != (upper ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL)) return false;
        cased = true;
    }
    return cased;
}

mu_status mu_tpl_replace(struct render *r, struct mu_str s, struct mu_str from, struct mu_str to,
                         int64_t count, struct value *out)
{
    size_t start = mu_tpl_capture(r);
    MU_TRY(mu_tpl_charge(r, s.len / 64));
    while (count != 0) {
        const char *hit = from.len ? memmem(s.p, s.len, from.p, from.len) : s.p;
        if (!hit) break;
        /* An empty `from` is found before every code point, and at the end. */
        size_t before = (size_t)(hit - s.p);
        mu_text_add(r->out, s.p, before);
        mu_text_add(r->out, to.p, to.len);
        s = (struct mu_str){hit + from.len, s.len - before - from.len};
        if (count > 0) count--;
        if (from.len == 0) {
            if (s.len == 0) break;
            size_t n = mu_tpl_point_at(s, 1);
            mu_text_add(r->out, s.p, n);
            s = (struct mu_str){s.p + n, s.len - n};
        }
        MU_TRY(mu_tpl_output_status(r));
    }
    mu_text_add(r->out, s.p, s.len);
    return mu_tpl_captured(r, start, out);
}

/* Slices */

static bool slice_bound(struct value v, int64_t n, bool backward, int64_t *at)
{
    mu_tpl_wide w;
    if (v.kind == V_NONE || v.kind == V_MISSING) return true;
    if (!mu_tpl_wide_of(v, &w)) return false;
    int64_t lowest = backward ? -1 : 0, highest = backward ? n - 1 : n;
    if (w < 0) w += n;
    *at = w < lowest ? lowest : w > highest ? highest : (int64_t)w;
    return true;
}

static mu_status slice_string(struct render *r, struct mu_str s, int64_t from, int64_t count,
                              int64_t step, struct value *out)
{
    if (step == 1 || count == 0) {
        size_t a = mu_tpl_point_at(s, (uint32_t)from);
        struct mu_str rest = {s.p + a, s.len - a};
        rest.len = mu_tpl_point_at(rest, (uint32_t)count);
        *out = mu_tpl_str(rest);
        return MU_OK;
    }
    struct value list;
    MU_TRY(mu_tpl_items(r, mu_tpl_str(s), &list));
    size_t start = mu_tpl_capture(r);
    for (int64_t i = 0; i < count; i++)
        MU_TRY(mu_tpl_print(r, list.items[from + i * step]));
    return mu_tpl_captured(r, start, out);
}

mu_status mu_tpl_slice(struct render *r, struct value v, const struct value bounds[3],
                       struct value *out)
{
    uint32_t n;
    mu_tpl_wide wide = 1;
    if (v.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, v);
    if (v.kind != V_STRING && v.kind != V_LIST && v.kind != V_TUPLE && v.kind != V_RANGE)
        return mu_tpl_fail(r, "'%s' object is not subscriptable", mu_tpl_type(v));
    MU_TRY(mu_tpl_length(r, v, &n));
    if (bounds[2].kind != V_NONE && !mu_tpl_wide_of(bounds[2], &wide)) wide = 0;
    int64_t step = wide > INT32_MAX ? INT32_MAX : wide < -INT32_MAX ? -INT32_MAX : (int64_t)wide;
    bool backward = step < 0;
    int64_t from = backward ? (int64_t)n - 1 : 0, to = backward ? -1 : (int64_t)n;
    if (step == 0 || !slice_bound(bounds[0], n, backward, &from) ||
        !slice_bound(bounds[1], n, backward, &to))
        return mu_tpl_fail(r, "slice indices must be integers or None, and the step not zero");
    int64_t distance = backward ? from - to : to - from;
    int64_t count = distance > 0 ? (distance - 1) / (backward ? -step : step) + 1 : 0;
    if (v.kind == V_STRING) return slice_string(r, mu_tpl_text(v), from, count, step, out);
    if (v.kind == V_RANGE) MU_TRY(mu_tpl_items(r, v, &v));
    *out = v;
    out->len = (uint32_t)count;
    out->items = v.items + (count ? from : 0);
    if (step == 1 || count == 0) return MU_OK;
    struct value *items;
    MU_TRY(mu_tpl_charge(r, (uint64_t)count / 8));
    MU_TRY(mu_tpl_alloc(r, (size_t)count, sizeof *items, &items));
    for (int64_t i = 0; i < count; i++)
        items[i] = v.items[from + i * step];
    out->items = items;
    return MU_OK;
}
