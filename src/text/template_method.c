/*
 * Chat templates: the methods of strings, dictionaries, lists and loops that the sandbox shows,
 * with Python's parameters. Those that would change their object have no function.
 */
#include "text/template_int.h"

#include "base/utf8.h"

#include <utf8proc.h>

static mu_status fail_text(struct render *r, struct value v)
{
    if (v.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, v);
    return mu_tpl_fail(r, "a str is wanted, not %s", mu_tpl_type(v));
}

static mu_status arg_text(struct render *r, struct value v, const char *fallback,
                          struct mu_str *out)
{
    *out = mu_str(fallback);
    if (v.kind == V_MISSING || v.kind == V_NONE) return MU_OK;
    if (v.kind != V_STRING) return fail_text(r, v);
    *out = mu_tpl_text(v);
    return MU_OK;
}

static mu_status arg_int(struct render *r, struct value v, int64_t fallback, int64_t *out)
{
    *out = fallback;
    if (v.kind == V_MISSING || v.kind == V_NONE) return MU_OK;
    if (v.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, v);
    if (!mu_tpl_is_int(v)) return mu_tpl_fail(r, "an integer is wanted, not %s", mu_tpl_type(v));
    *out = v.kind == V_BOOL ? v.b : v.i;
    return MU_OK;
}

/* A list that is built front to back; the caller knows a bound of its length. */
struct builder {
    struct value *items;
    uint32_t n;
};

static mu_status builder_init(struct render *r, struct builder *b, uint32_t room)
{
    b->n = 0;
    return mu_tpl_alloc(r, room, sizeof *b->items, &b->items);
}

static void builder_add(struct builder *b, const char *p, size_t len)
{
    b->items[b->n++] = mu_tpl_str((struct mu_str){p, len});
}

static void builder_done(struct builder *b, bool reversed, struct value *out)
{
    for (uint32_t i = 0; reversed && i < b->n / 2; i++) {
        struct value swap = b->items[i];
        b->items[i] = b->items[b->n - 1 - i];
        b->items[b->n - 1 - i] = swap;
    }
    *out = mu_tpl_list(b->items, b->n);
}

/* Text in, text out */

static mu_status str_case(struct render *r, const struct call *c, struct value *out)
{
    return mu_tpl_case(r, c->self, (enum case_change)c->how, out);
}

/* How: bit 0 the left end, bit 1 the right. */
static mu_status str_strip(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str chars;
    MU_TRY(arg_text(r, c->v[0], "", &chars));
    bool all = c->v[0].kind == V_MISSING || c->v[0].kind == V_NONE;
    *out =
        mu_tpl_str(mu_tpl_strip(mu_tpl_text(c->self), all ? NULL : &chars, c->how & 1, c->how & 2));
    out->flag = c->self.flag;
    return MU_OK;
}

static mu_status str_replace(struct render *r, const struct call *c, struct value *out)
{
    int64_t count;
    if (c->v[0].kind != V_STRING) return fail_text(r, c->v[0]);
    if (c->v[1].kind != V_STRING) return fail_text(r, c->v[1]);
    MU_TRY(arg_int(r, c->v[2], -1, &count));
    return mu_tpl_replace(r, mu_tpl_text(c->self), mu_tpl_text(c->v[0]), mu_tpl_text(c->v[1]),
                          count, out);
}

/* How: 0 a prefix, 1 a suffix. */
static mu_status str_remove(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str s = mu_tpl_text(c->self), part;
    MU_TRY(arg_text(r, c->v[0], "", &part));
    bool has =
        part.len <= s.len && memcmp(c->how ? s.p + s.len - part.len : s.p, part.p, part.len) == 0;
    if (has) s = (struct mu_str){c->how ? s.p : s.p + part.len, s.len - part.len};
    *out = mu_tpl_str(s);
    return MU_OK;
}

/* How: -1 puts the padding right, 0 on both sides, 1 left, 2 left but after a sign. */
static mu_status str_pad(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str s = mu_tpl_text(c->self), fill;
    int64_t width, n = mu_tpl_points(s);
    MU_TRY(arg_int(r, c->v[0], 0, &width));
    MU_TRY(arg_text(r, c->v[1], c->how == 2 ? "0" : " ", &fill));
    if (mu_tpl_points(fill) != 1) return mu_tpl_fail(r, "the fill character is one character");
    int64_t pad = MU_MAX(width - n, 0);
    int64_t left = c->how < 0 ? 0 : c->how > 0 ? pad : pad / 2 + (pad & width & 1);
    size_t from = mu_tpl_capture(r);
    MU_TRY(mu_tpl_charge(r, (uint64_t)pad / 8));
    if (c->how == 2 && s.len > 0 && (s.p[0] == '-' || s.p[0] == '+')) {
        mu_text_char(r->out, s.p[0]);
        s = (struct mu_str){s.p + 1, s.len - 1};
    }
    for (int64_t i = 0; i < pad; i++) {
        if (i == left) mu_text_add(r->out, s.p, s.len);
        mu_text_add(r->out, fill.p, fill.len);
    }
    if (left >= pad) mu_text_add(r->out, s.p, s.len);
    return mu_tpl_captured(r, from, out);
}

static mu_status str_join(struct render *r, const struct call *c, struct value *out)
{
    struct value list;
    MU_TRY(mu_tpl_items(r, c->v[0], &list));
    size_t from = mu_tpl_capture(r);
    for (uint32_t i = 0; i < list.len; i++) {
        if (list.items[i].kind != V_STRING) return fail_text(r, list.items[i]);
        if (i > 0) mu_text_add(r->out, c->self.s, c->self.len);
        mu_text_add(r->out, list.items[i].s, list.items[i].len);
        MU_TRY(mu_tpl_output_status(r));
    }
    return mu_tpl_captured(r, from, out);
}

/* Splitting */

static uint32_t count_of(struct mu_str s, struct mu_str sub)
{
    uint32_t n = 0;
    for (const char *hit; sub.len && (hit = memmem(s.p, s.len, sub.p, sub.len)); n++) {
        s.len -= (size_t)(hit + sub.len - s.p);
        s.p = hit + sub.len;
    }
    return n;
}

static const char *find_last(struct mu_str s, struct mu_str sub)
{
    for (size_t i = s.len; sub.len <= i; i--)
        if (memcmp(s.p + i - sub.len, sub.p, sub.len) == 0) return s.p + i - sub.len;
    return NULL;
}

static mu_status split_separator(struct render *r, struct mu_str s, struct mu_str sep, int64_t max,
                                 bool right, struct value *out)
{
    struct builder b;
    if (sep.len == 0) return mu_tpl_fail(r, "empty separator");
    MU_TRY(builder_init(r, &b, count_of(s, sep) + 1));
    while (max-- != 0) {
        const char *hit = right ? find_last(s, sep) : memmem(s.p, s.len, sep.p, sep.len);
        if (!hit) break;
        const char *after = hit + sep.len, *end = s.p + s.len;
        if (right)
            builder_add(&b, after, (size_t)(end - after));
        else
            builder_add(&b, s.p, (size_t)(hit - s.p));
        s = right ? (struct mu_str){s.p, (size_t)(hit - s.p)}
                  : (struct mu_str){after, (size_t)(end - after)};
    }
    builder_add(&b, s.p, s.len);
    builder_done(&b, right, out);
    return MU_OK;
}

/* The end of the word that a text without space at its end (or beginning) ends (or begins) with. */
static size_t word_edge(struct mu_str s, bool right)
{
    size_t i = right ? s.len : 0;
    for (unsigned n; right ? i > 0 : i < s.len;) {
        size_t at = right ? i - 1 : i;
        while (right && at > 0 && ((unsigned char)s.p[at] & 0xc0) == 0x80)
            at--;
        if (mu_tpl_is_space(mu_utf8_decode((struct mu_str){s.p + at, s.len - at}, &n))) break;
        i = right ? at : at + n;
    }
    return i;
}

static mu_status split_space(struct render *r, struct mu_str s, int64_t max, bool right,
                             struct value *out)
{
    struct builder b;
    MU_TRY(builder_init(r, &b, (uint32_t)(s.len / 2 + 2)));
    s = mu_tpl_strip(s, NULL, !right, right);
    for (; s.len > 0 && max != 0; max--) {
        size_t i = word_edge(s, right);
        builder_add(&b, right ? s.p + i : s.p, right ? s.len - i : i);
        s = right ? (struct mu_str){s.p, i} : (struct mu_str){s.p + i, s.len - i};
        s = mu_tpl_strip(s, NULL, !right, right);
    }
    if (s.len > 0) builder_add(&b, s.p, s.len);
    builder_done(&b, right, out);
    return MU_OK;
}

/* How: 0 from the left, 1 from the right. */
static mu_status str_split(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str sep, s = mu_tpl_text(c->self);
    int64_t max;
    MU_TRY(arg_text(r, c->v[0], "", &sep));
    MU_TRY(arg_int(r, c->v[1], -1, &max));
    if (c->v[0].kind == V_STRING) return split_separator(r, s, sep, max, c->how, out);
    return split_space(r, s, max, c->how, out);
}

static bool ends_line(uint32_t cp)
{
    return (cp >= 0x0a && cp <= 0x0d) || (cp >= 0x1c && cp <= 0x1e) || cp == 0x85 || cp == 0x2028 ||
           cp == 0x2029;
}

mu_status mu_tpl_lines(struct render *r, struct mu_str s, bool keep_ends, struct value *out)
{
    struct builder b;
    uint32_t room = 1;
    unsigned n;
    for (size_t i = 0; i < s.len; i += n)
        room += ends_line(mu_utf8_decode((struct mu_str){s.p + i, s.len - i}, &n));
    MU_TRY(builder_init(r, &b, room));
    size_t start = 0;
    for (size_t i = 0; i < s.len;) {
        uint32_t cp = mu_utf8_decode((struct mu_str){s.p + i, s.len - i}, &n);
        size_t end = i;
        i += n;
        if (!ends_line(cp)) continue;
        if (cp == '\r' && i < s.len && s.p[i] == '\n') i++;
        builder_add(&b, s.p + start, (keep_ends ? i : end) - start);
        start = i;
    }
    if (start < s.len) builder_add(&b, s.p + start, s.len - start);
    *out = mu_tpl_list(b.items, b.n);
    return MU_OK;
}

static mu_status str_splitlines(struct render *r, const struct call *c, struct value *out)
{
    return mu_tpl_lines(r, mu_tpl_text(c->self), mu_tpl_truth(c->v[0]), out);
}

/* How: 0 at the first separator, 1 at the last. */
static mu_status str_partition(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str s = mu_tpl_text(c->self), sep;
    struct builder b;
    MU_TRY(arg_text(r, c->v[0], "", &sep));
    if (sep.len == 0) return mu_tpl_fail(r, "empty separator");
    MU_TRY(builder_init(r, &b, 3));
    const char *hit = c->how ? find_last(s, sep) : memmem(s.p, s.len, sep.p, sep.len);
    size_t before = hit ? (size_t)(hit - s.p) : c->how ? 0 : s.len;
    size_t used = hit ? sep.len : 0;
    builder_add(&b, s.p, before);
    builder_add(&b, sep.p, used);
    builder_add(&b, s.p + before + used, s.len - before - used);
    *out = mu_tpl_list(b.items, 3);
    out->kind = V_TUPLE;
    return MU_OK;
}

/* Searching */

/* The part of the text between the optional start and end; `*skipped` code points before it. False
 * when the start lies beyond the end of the text. */
static mu_status search_range(struct render *r, const struct call *c, struct mu_str *s,
                              uint32_t *skipped, bool *inside)
{
    struct value piece;
    const struct value bounds[3] = {c->v[1].kind ? c->v[1] : MU_TPL_NONE,
                                    c->v[2].kind ? c->v[2] : MU_TPL_NONE, MU_TPL_NONE};
    *s = mu_tpl_text(c->self);
    *skipped = 0;
    *inside = true;
    if (bounds[0].kind == V_NONE && bounds[1].kind == V_NONE) return MU_OK;
    int64_t start;
    MU_TRY(arg_int(r, c->v[1], 0, &start));
    MU_TRY(mu_tpl_slice(r, c->self, bounds, &piece));
    *inside = start <= mu_tpl_points(*s);
    *skipped = mu_tpl_points((struct mu_str){s->p, (size_t)(piece.s - s->p)});
    *s = mu_tpl_text(piece);
    return MU_OK;
}

/* How: bit 0 from the right, bit 1 an error when it is not found. */
static mu_status str_find(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str s, sub;
    uint32_t skipped;
    bool inside;
    if (c->v[0].kind != V_STRING) return fail_text(r, c->v[0]);
    sub = mu_tpl_text(c->v[0]);
    MU_TRY(search_range(r, c, &s, &skipped, &inside));
    const char *hit = c->how & 1 ? find_last(s, sub) : memmem(s.p, s.len, sub.p, sub.len);
    if (sub.len == 0) hit = c->how & 1 ? s.p + s.len : s.p;
    if (hit && inside) {
        *out = mu_tpl_int(skipped + mu_tpl_points((struct mu_str){s.p, (size_t)(hit - s.p)}));
        return MU_OK;
    }
    *out = mu_tpl_int(-1);
    return c->how & 2 ? mu_tpl_fail(r, "substring not found") : MU_OK;
}

static mu_status str_count(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str s, sub;
    uint32_t skipped;
    bool inside;
    if (c->v[0].kind != V_STRING) return fail_text(r, c->v[0]);
    sub = mu_tpl_text(c->v[0]);
    MU_TRY(search_range(r, c, &s, &skipped, &inside));
    *out = mu_tpl_int(!inside ? 0 : sub.len ? count_of(s, sub) : mu_tpl_points(s) + 1);
    return MU_OK;
}

/* How: 0 at the start, 1 at the end. A tuple asks for any of its texts. */
static mu_status str_startswith(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str s;
    uint32_t skipped;
    bool inside, found = false;
    const struct value *any = c->v[0].kind == V_TUPLE ? c->v[0].items : &c->v[0];
    uint32_t n = c->v[0].kind == V_TUPLE ? c->v[0].len : 1;
    MU_TRY(search_range(r, c, &s, &skipped, &inside));
    for (uint32_t i = 0; i < n && !found; i++) {
        if (any[i].kind != V_STRING) return fail_text(r, any[i]);
        struct mu_str part = mu_tpl_text(any[i]);
        found = inside && part.len <= s.len &&
                memcmp(c->how ? s.p + s.len - part.len : s.p, part.p, part.len) == 0;
    }
    *out = mu_tpl_bool(found);
    return MU_OK;
}

/* Asking what all characters are */

enum is { IS_ALNUM, IS_ALPHA, IS_ASCII, IS_DECIMAL, IS_DIGIT, IS_NUMERIC, IS_SPACE };

static bool is_of(uint32_t cp, enum is what)
{
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)cp);
    bool letter = c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
    bool number = c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO;
    switch (what) {
    case IS_ALNUM:
        return letter || number;
    case IS_ALPHA:
        return letter;
    case IS_ASCII:
        return cp < 0x80;
    case IS_DECIMAL:
    case IS_DIGIT:
        return c == UTF8PROC_CATEGORY_ND;
    case IS_NUMERIC:
        return number;
    case IS_SPACE:
        break;
    }
    return mu_tpl_is_space(cp);
}

static mu_status str_is(struct render *r, const struct call *c, struct value *out)
{
    (void)r;
    struct mu_str s = mu_tpl_text(c->self);
    bool all = s.len > 0 || c->how == IS_ASCII;
    for (unsigned n; all && s.len > 0; s = (struct mu_str){s.p + n, s.len - n})
        all = is_of(mu_utf8_decode(s, &n), (enum is)c->how);
    *out = mu_tpl_bool(all);
    return MU_OK;
}

/* How: true for upper case. */
static mu_status str_is_case(struct render *r, const struct call *c, struct value *out)
{
    (void)r;
    *out = mu_tpl_bool(mu_tpl_all_case(mu_tpl_text(c->self), c->how));
    return MU_OK;
}

/* Dictionaries and lists */

static mu_status dict_view(struct render *r, const struct call *c, struct value *out)
{
    (void)r;
    *out = (struct value){.kind = V_VIEW, .flag = (uint8_t)c->how, .dict = c->self.dict};
    return MU_OK;
}

static mu_status dict_get(struct render *r, const struct call *c, struct value *out)
{
    const struct value *found;
    MU_TRY(mu_tpl_dict_get(r, c->self.dict, c->v[0], &found));
    *out = found ? *found : c->v[1].kind == V_MISSING ? MU_TPL_NONE : c->v[1];
    return MU_OK;
}

/* Nothing can change a list or dictionary, so a copy is the same one. */
static mu_status any_copy(struct render *r, const struct call *c, struct value *out)
{
    (void)r;
    *out = c->self;
    return MU_OK;
}

static mu_status list_count(struct render *r, const struct call *c, struct value *out)
{
    int64_t n = 0;
    for (uint32_t i = 0; i < c->self.len; i++) {
        bool same;
        MU_TRY(mu_tpl_equal(r, c->self.items[i], c->v[0], &same));
        n += same;
    }
    *out = mu_tpl_int(n);
    return mu_tpl_charge(r, c->self.len / 8);
}

static mu_status list_index(struct render *r, const struct call *c, struct value *out)
{
    MU_TRY(mu_tpl_charge(r, c->self.len / 8));
    for (uint32_t i = 0; i < c->self.len; i++) {
        bool same;
        MU_TRY(mu_tpl_equal(r, c->self.items[i], c->v[0], &same));
        *out = mu_tpl_int(i);
        if (same) return MU_OK;
    }
    return mu_tpl_fail(r, "the value is not in the list");
}

static const struct builtin str_methods[] = {
    {"capitalize", "", str_case, CASE_CAPITALIZE},
    {"casefold", "", str_case, CASE_LOWER},
    {"center", "width;fillchar", str_pad, 0},
    {"count", "sub;start,end", str_count, 0},
    {"endswith", "suffix;start,end", str_startswith, 1},
    {"find", "sub;start,end", str_find, 0},
    {"format", "*", mu_tpl_brace_format, 0},
    {"index", "sub;start,end", str_find, 2},
    {"isalnum", "", str_is, IS_ALNUM},
    {"isalpha", "", str_is, IS_ALPHA},
    {"isascii", "", str_is, IS_ASCII},
    {"isdecimal", "", str_is, IS_DECIMAL},
    {"isdigit", "", str_is, IS_DIGIT},
    {"islower", "", str_is_case, false},
    {"isnumeric", "", str_is, IS_NUMERIC},
    {"isspace", "", str_is, IS_SPACE},
    {"isupper", "", str_is_case, true},
    {"join", "iterable;", str_join, 0},
    {"ljust", "width;fillchar", str_pad, -1},
    {"lower", "", str_case, CASE_LOWER},
    {"lstrip", "chars", str_strip, 1},
    {"partition", "sep;", str_partition, 0},
    {"removeprefix", "prefix;", str_remove, 0},
    {"removesuffix", "suffix;", str_remove, 1},
    {"replace", "old,new;count", str_replace, 0},
    {"rfind", "sub;start,end", str_find, 1},
    {"rindex", "sub;start,end", str_find, 3},
    {"rjust", "width;fillchar", str_pad, 1},
    {"rpartition", "sep;", str_partition, 1},
    {"rsplit", "sep,maxsplit", str_split, 1},
    {"rstrip", "chars", str_strip, 2},
    {"split", "sep,maxsplit", str_split, 0},
    {"splitlines", "keepends", str_splitlines, 0},
    {"startswith", "prefix;start,end", str_startswith, 0},
    {"strip", "chars", str_strip, 3},
    {"swapcase", "", str_case, CASE_SWAP},
    {"title", "", str_case, CASE_TITLE},
    {"upper", "", str_case, CASE_UPPER},
    {"zfill", "width;", str_pad, 2},
    {NULL, NULL, NULL, 0},
};

static const struct builtin dict_methods[] = {
    {"clear", "", NULL, 0},
    {"copy", "", any_copy, 0},
    {"get", "key;default", dict_get, 0},
    {"items", "", dict_view, VIEW_ITEMS},
    {"keys", "", dict_view, VIEW_KEYS},
    {"pop", "*", NULL, 0},
    {"popitem", "", NULL, 0},
    {"setdefault", "*", NULL, 0},
    {"update", "*", NULL, 0},
    {"values", "", dict_view, VIEW_VALUES},
    {NULL, NULL, NULL, 0},
};

static const struct builtin list_methods[] = {
    {"append", "*", NULL, 0},  {"clear", "", NULL, 0},
    {"copy", "", any_copy, 0}, {"count", "value;", list_count, 0},
    {"extend", "*", NULL, 0},  {"index", "value;", list_index, 0},
    {"insert", "*", NULL, 0},  {"pop", "*", NULL, 0},
    {"remove", "*", NULL, 0},  {"reverse", "", NULL, 0},
    {"sort", "*", NULL, 0},    {NULL, NULL, NULL, 0},
};

static const struct builtin tuple_methods[] = {
    {"count", "value;", list_count, 0},
    {"index", "value;", list_index, 0},
    {NULL, NULL, NULL, 0},
};

static const struct builtin loop_methods[] = {
    {"changed", "*", mu_tpl_loop_changed, 0},
    {"cycle", "*", mu_tpl_loop_cycle, 0},
    {NULL, NULL, NULL, 0},
};

const struct builtin *mu_tpl_method_find(struct value object, struct mu_str name)
{
    const struct builtin *m = object.kind == V_STRING  ? str_methods
                              : object.kind == V_DICT  ? dict_methods
                              : object.kind == V_LIST  ? list_methods
                              : object.kind == V_TUPLE ? tuple_methods
                              : object.kind == V_LOOP  ? loop_methods
                                                       : NULL;
    for (; m && m->name; m++)
        if (mu_str_is(name, m->name)) return m;
    return NULL;
}
