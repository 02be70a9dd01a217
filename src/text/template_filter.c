/* Chat templates: the filters. Parameters and their order are Jinja's; see struct builtin. */
#include "text/template_int.h"

#include "base/number.h"

#include <math.h>

/* Arguments, with what stands for those not given. */

static bool given(const struct call *c, unsigned i)
{
    return c->v[i].kind != V_MISSING && c->v[i].kind != V_NONE;
}

static bool arg_true(const struct call *c, unsigned i)
{
    return mu_tpl_truth(c->v[i]);
}

static mu_status arg_int(struct render *r, const struct call *c, unsigned i, int64_t fallback,
                         int64_t *out)
{
    *out = fallback;
    if (!given(c, i)) return MU_OK;
    if (!mu_tpl_is_int(c->v[i]))
        return mu_tpl_fail(r, "an integer is wanted, not %s", mu_tpl_type(c->v[i]));
    *out = c->v[i].kind == V_BOOL ? c->v[i].b : c->v[i].i;
    return MU_OK;
}

static mu_status arg_text(struct render *r, const struct call *c, unsigned i, const char *fallback,
                          struct mu_str *out)
{
    struct value text;
    *out = mu_str(fallback);
    if (!given(c, i)) return MU_OK;
    MU_TRY(mu_tpl_string(r, c->v[i], &text));
    *out = mu_tpl_text(text);
    return MU_OK;
}

/* Sequences */

static mu_status filter_first(struct render *r, const struct call *c, struct value *out)
{
    struct walk w;
    bool more;
    MU_TRY(mu_tpl_iterate(r, c->self, &w));
    MU_TRY(mu_tpl_walk(r, &w, out, &more));
    if (more) return MU_OK;
    return mu_tpl_undefined_hint(r, "no first item, the sequence was empty", out);
}

static mu_status filter_last(struct render *r, const struct call *c, struct value *out)
{
    struct value list;
    if (c->self.kind == V_GENERATOR)
        return mu_tpl_fail(r, "'%s' object is not reversible", mu_tpl_type(c->self));
    MU_TRY(mu_tpl_items(r, c->self, &list));
    if (list.len == 0) return mu_tpl_undefined_hint(r, "no last item, the sequence was empty", out);
    *out = list.items[list.len - 1];
    return MU_OK;
}

static mu_status filter_length(struct render *r, const struct call *c, struct value *out)
{
    uint32_t n;
    MU_TRY(mu_tpl_length(r, c->self, &n));
    *out = mu_tpl_int(n);
    return MU_OK;
}

static mu_status filter_list(struct render *r, const struct call *c, struct value *out)
{
    return mu_tpl_items(r, c->self, out);
}

static mu_status filter_reverse(struct render *r, const struct call *c, struct value *out)
{
    struct value list, *items;
    const struct value backwards[3] = {MU_TPL_NONE, MU_TPL_NONE, mu_tpl_int(-1)};
    if (c->self.kind == V_STRING) return mu_tpl_slice(r, c->self, backwards, out);
    MU_TRY(mu_tpl_items(r, c->self, &list));
    MU_TRY(mu_tpl_alloc(r, list.len, sizeof *items, &items));
    for (uint32_t i = 0; i < list.len; i++)
        items[i] = list.items[list.len - 1 - i];
    *out = mu_tpl_list(items, list.len);
    if (c->self.kind == V_GENERATOR) return MU_OK;
    return mu_tpl_generator(r, "list_reverseiterator", *out, out);
}

static mu_status filter_items(struct render *r, const struct call *c, struct value *out)
{
    struct value list = mu_tpl_list(NULL, 0);
    if (c->self.kind == V_DICT) {
        struct value view = {.kind = V_VIEW, .flag = VIEW_ITEMS, .dict = c->self.dict};
        MU_TRY(mu_tpl_items(r, view, &list));
    } else if (c->self.kind != V_UNDEFINED) {
        return mu_tpl_fail(r, "can only get item pairs from a mapping");
    }
    return mu_tpl_generator(r, "generator", list, out);
}

static mu_status filter_join(struct render *r, const struct call *c, struct value *out)
{
    struct value list, each;
    struct mu_str between;
    MU_TRY(arg_text(r, c, 0, "", &between));
    MU_TRY(mu_tpl_items(r, c->self, &list));
    size_t from = mu_tpl_capture(r);
    for (uint32_t i = 0; i < list.len; i++) {
        MU_TRY(mu_tpl_attribute(r, list.items[i], c->v[1], &each));
        if (i > 0) mu_text_add(r->out, between.p, between.len);
        MU_TRY(mu_tpl_print(r, each));
        MU_TRY(mu_tpl_output_status(r));
    }
    return mu_tpl_captured(r, from, out);
}

static mu_status filter_sum(struct render *r, const struct call *c, struct value *out)
{
    struct value list, each;
    MU_TRY(mu_tpl_items(r, c->self, &list));
    *out = c->v[1].kind == V_MISSING ? mu_tpl_int(0) : c->v[1];
    for (uint32_t i = 0; i < list.len; i++) {
        MU_TRY(mu_tpl_attribute(r, list.items[i], c->v[0], &each));
        MU_TRY(mu_tpl_binary(r, OP_ADD, *out, each, out));
    }
    return MU_OK;
}

static mu_status filter_batch(struct render *r, const struct call *c, struct value *out)
{
    int64_t size;
    struct value list, *rows;
    uint32_t n = 0;
    MU_TRY(arg_int(r, c, 0, 1, &size));
    MU_TRY(mu_tpl_items(r, c->self, &list));
    if (size < 1 || size > UINT32_MAX / 2) return mu_tpl_fail(r, "batch wants a positive size");
    MU_TRY(mu_tpl_alloc(r, list.len, sizeof *rows, &rows));
    for (uint32_t i = 0; i < list.len; i += (uint32_t)size) {
        uint32_t left = MU_MIN(list.len - i, (uint32_t)size);
        rows[n++] = mu_tpl_list(list.items + i, left);
        if (!given(c, 1) || left == size) continue;
        struct value *filled;
        MU_TRY(mu_tpl_alloc(r, (size_t)size, sizeof *filled, &filled));
        for (uint32_t k = 0; k < size; k++)
            filled[k] = k < left ? list.items[i + k] : c->v[1];
        rows[n - 1] = mu_tpl_list(filled, (uint32_t)size);
    }
    return mu_tpl_generator(r, "generator", mu_tpl_list(rows, n), out);
}

/* Filters over items: map, select and their kin find the filter or test to apply by its name. */

static struct args shift(const struct args *args, uint32_t n)
{
    n = MU_MIN(n, args->n);
    return (struct args){args->v ? args->v + n : NULL, args->named, args->n - n, args->n_named};
}

static const struct value *find_named(const struct args *args, const char *name)
{
    for (uint32_t i = 0; i < args->n_named; i++)
        if (mu_str_is(args->named[i].name, name)) return &args->named[i].value;
    return NULL;
}

static mu_status map_one(struct render *r, const struct call *c, const struct builtin *filter,
                         const struct args *args, struct value *io)
{
    const struct value *attribute = find_named(c->args, "attribute");
    const struct value *fallback = find_named(c->args, "default");
    if (filter) return mu_tpl_apply(r, filter, *io, args, io);
    MU_TRY(mu_tpl_attribute(r, *io, *attribute, io));
    if (io->kind == V_UNDEFINED && fallback) *io = *fallback;
    return MU_OK;
}

static mu_status filter_map(struct render *r, const struct call *c, struct value *out)
{
    struct value list, *items;
    struct args rest;
    const struct builtin *filter = NULL;
    if (!mu_tpl_truth(c->self)) return mu_tpl_generator(r, "generator", mu_tpl_list(NULL, 0), out);
    MU_TRY(mu_tpl_items(r, c->self, &list));
    rest = shift(c->args, 1);
    if (c->args->n > 0) {
        struct value name = c->args->v[0];
        filter = name.kind == V_STRING ? mu_tpl_filter_find(mu_tpl_text(name)) : NULL;
        if (!filter) return mu_tpl_fail(r, "map names no filter that is known");
    } else if (!find_named(c->args, "attribute")) {
        return mu_tpl_fail(r, "map requires a filter argument");
    }
    MU_TRY(mu_tpl_alloc(r, list.len, sizeof *items, &items));
    for (uint32_t i = 0; i < list.len; i++) {
        MU_TRY(mu_tpl_charge(r, 1));
        items[i] = list.items[i];
        MU_TRY(map_one(r, c, filter, &rest, &items[i]));
    }
    return mu_tpl_generator(r, "generator", mu_tpl_list(items, list.len), out);
}

/* How: bit 0 keeps what passes, bit 1 looks at an attribute, which is the first argument. */
enum { SELECT_KEEP = 1, SELECT_ATTR = 2 };

static mu_status filter_select(struct render *r, const struct call *c, struct value *out)
{
    struct value list, *items;
    struct args rest;
    const struct builtin *test = NULL;
    uint32_t skip = c->how & SELECT_ATTR ? 1 : 0, n = 0;
    if (!mu_tpl_truth(c->self)) return mu_tpl_generator(r, "generator", mu_tpl_list(NULL, 0), out);
    MU_TRY(mu_tpl_items(r, c->self, &list));
    if (c->args->n < skip) return mu_tpl_fail(r, "missing parameter for attribute name");
    if (c->args->n > skip) {
        struct value name = c->args->v[skip];
        test = name.kind == V_STRING ? mu_tpl_test_find(mu_tpl_text(name)) : NULL;
        if (!test) return mu_tpl_fail(r, "select names no test that is known");
    }
    rest = shift(c->args, skip + 1);
    MU_TRY(mu_tpl_alloc(r, list.len, sizeof *items, &items));
    for (uint32_t i = 0; i < list.len; i++) {
        struct value v = list.items[i];
        MU_TRY(mu_tpl_charge(r, 1));
        if (skip) MU_TRY(mu_tpl_attribute(r, v, c->args->v[0], &v));
        if (test) MU_TRY(mu_tpl_apply(r, test, v, &rest, &v));
        if (mu_tpl_truth(v) == ((c->how & SELECT_KEEP) != 0)) items[n++] = list.items[i];
    }
    return mu_tpl_generator(r, "generator", mu_tpl_list(items, n), out);
}

/* Values */

static mu_status filter_default(struct render *r, const struct call *c, struct value *out)
{
    (void)r;
    bool replace = c->self.kind == V_UNDEFINED || (arg_true(c, 1) && !mu_tpl_truth(c->self));
    *out = !replace ? c->self : c->v[0].kind == V_MISSING ? mu_tpl_str(MU_STR("")) : c->v[0];
    return MU_OK;
}

static mu_status filter_attr(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str name;
    MU_TRY(arg_text(r, c, 0, "", &name));
    if (c->self.kind == V_DICT && !mu_tpl_method_find(c->self, name))
        return mu_tpl_undefined(r, c->self, c->v[0], out);
    return mu_tpl_attr(r, c->self, name, out);
}

static bool parse_float(struct mu_str s, double *out)
{
    static const struct {
        const char *word;
        double value;
    } words[] = {
        {"inf", HUGE_VAL}, {"-inf", -HUGE_VAL}, {"nan", (double)NAN}, {"infinity", HUGE_VAL}};
    s = mu_tpl_strip(s, NULL, true, true);
    for (unsigned i = 0; i < MU_ARRAY_LEN(words); i++)
        if (s.len == strlen(words[i].word) && strncasecmp(s.p, words[i].word, s.len) == 0) {
            *out = words[i].value;
            return true;
        }
    return mu_parse_f64(s, out);
}

static mu_status filter_float(struct render *r, const struct call *c, struct value *out)
{
    double f;
    bool number = c->self.kind == V_STRING ? parse_float(mu_tpl_text(c->self), &f)
                                           : mu_tpl_number(c->self, &f);
    if (c->self.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, c->self);
    *out = number ? mu_tpl_float(f) : c->v[0].kind == V_MISSING ? mu_tpl_float(0) : c->v[0];
    return MU_OK;
}

static mu_status filter_int(struct render *r, const struct call *c, struct value *out)
{
    int64_t base;
    mu_tpl_wide w;
    double f;
    struct mu_str s = {"", 0};
    MU_TRY(arg_int(r, c, 1, 10, &base));
    if (base < 0 || base > 36) return mu_tpl_fail(r, "int() base must be >= 2 and <= 36, or 0");
    if (c->self.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, c->self);
    if (c->self.kind == V_STRING) s = mu_tpl_strip(mu_tpl_text(c->self), NULL, true, true);
    if (s.len > 0 ? mu_tpl_parse_int(s, (int)base, &w) : mu_tpl_wide_of(c->self, &w))
        return mu_tpl_from_wide(r, w, out);
    bool number = s.len > 0 ? parse_float(s, &f) : mu_tpl_number(c->self, &f);
    if (number && fabs(f) < 1e38) return mu_tpl_from_wide(r, (mu_tpl_wide)f, out);
    if (number && !isnan(f) && (c->self.kind == V_FLOAT || !isinf(f)))
        return mu_tpl_fail(r, "an integer of more than 128 bits");
    *out = c->v[0].kind == V_MISSING ? mu_tpl_int(0) : c->v[0];
    return MU_OK;
}

static mu_status filter_abs(struct render *r, const struct call *c, struct value *out)
{
    double f;
    if (c->self.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, c->self);
    if (!mu_tpl_number(c->self, &f))
        return mu_tpl_fail(r, "bad operand type for abs(): '%s'", mu_tpl_type(c->self));
    return mu_tpl_negate(r, c->self, f < 0, out);
}

/* Python rounds the exact decimal value to even, which is what printing that many digits does. */
static mu_status round_common(struct render *r, double f, int64_t digits, double *out)
{
    double scale = pow(10, (double)-digits);
    *out = nearbyint(f / scale) * scale;
    if (digits < 0 || digits > 30) {
        if (digits > 0) *out = f;
        return MU_OK;
    }
    const char *text = mu_arena_printf(r->arena, "%.*f", (int)digits, f);
    if (!text) return mu_fail_memory(r->err, 64);
    if (!mu_parse_f64(mu_str(text), out)) *out = f;
    return MU_OK;
}

static mu_status filter_round(struct render *r, const struct call *c, struct value *out)
{
    int64_t digits;
    double f;
    struct mu_str method;
    MU_TRY(arg_int(r, c, 0, 0, &digits));
    MU_TRY(arg_text(r, c, 1, "common", &method));
    if (!mu_tpl_number(c->self, &f))
        return mu_tpl_fail(r, "type %s doesn't define __round__ method", mu_tpl_type(c->self));
    bool common = mu_str_is(method, "common"), up = mu_str_is(method, "ceil");
    if (!common && !up && !mu_str_is(method, "floor"))
        return mu_tpl_fail(r, "method must be common, ceil or floor");
    if (common && c->self.kind != V_FLOAT && digits >= 0)
        return mu_tpl_negate(r, c->self, false, out);
    double scale = pow(10, (double)digits);
    if (common)
        MU_TRY(round_common(r, f, digits, &f));
    else
        f = (up ? ceil(f * scale) : floor(f * scale)) / scale;
    *out = mu_tpl_float(f);
    if (common && c->self.kind != V_FLOAT) *out = mu_tpl_int((int64_t)f);
    return MU_OK;
}

/* Text */

static mu_status filter_case(struct render *r, const struct call *c, struct value *out)
{
    MU_TRY(mu_tpl_string(r, c->self, out));
    return mu_tpl_case(r, *out, (enum case_change)c->how, out);
}

static mu_status filter_string(struct render *r, const struct call *c, struct value *out)
{
    return mu_tpl_string(r, c->self, out);
}

/* How: 0 escapes what is not markup, 1 anything, 2 declares it to be markup. */
static mu_status filter_escape(struct render *r, const struct call *c, struct value *out)
{
    MU_TRY(mu_tpl_string(r, c->self, out));
    if (c->how == 1) out->flag = 0;
    if (c->how < 2) return mu_tpl_escape(r, *out, out);
    out->flag = 1;
    return MU_OK;
}

static mu_status filter_trim(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str chars;
    MU_TRY(mu_tpl_string(r, c->self, out));
    MU_TRY(arg_text(r, c, 0, "", &chars));
    uint8_t flag = out->flag;
    *out = mu_tpl_str(mu_tpl_strip(mu_tpl_text(*out), given(c, 0) ? &chars : NULL, true, true));
    out->flag = flag;
    return MU_OK;
}

static mu_status filter_replace(struct render *r, const struct call *c, struct value *out)
{
    struct mu_str from, to;
    int64_t count;
    MU_TRY(mu_tpl_string(r, c->self, out));
    MU_TRY(arg_text(r, c, 0, "None", &from));
    MU_TRY(arg_text(r, c, 1, "None", &to));
    MU_TRY(arg_int(r, c, 2, -1, &count));
    return mu_tpl_replace(r, mu_tpl_text(*out), from, to, count, out);
}

static mu_status filter_format(struct render *r, const struct call *c, struct value *out)
{
    struct value args = mu_tpl_list(c->args->v, c->args->n);
    args.kind = V_TUPLE;
    if (c->args->n && c->args->n_named)
        return mu_tpl_fail(r, "can't handle positional and keyword arguments at the same time");
    if (c->args->n_named) MU_TRY(mu_tpl_function(r, FN_DICT, c->args, &args));
    MU_TRY(mu_tpl_string(r, c->self, out));
    return mu_tpl_percent(r, *out, args, out);
}

static mu_status filter_indent(struct render *r, const struct call *c, struct value *out)
{
    struct value unit = c->v[0], lines;
    if (c->self.kind != V_STRING)
        return mu_tpl_fail(r, "indent wants a text, not %s", mu_tpl_type(c->self));
    if (unit.kind != V_STRING) {
        int64_t width;
        MU_TRY(arg_int(r, c, 0, 4, &width));
        MU_TRY(mu_tpl_binary(r, OP_MUL, mu_tpl_str(MU_STR(" ")), mu_tpl_int(width), &unit));
    }
    /* With the newline that the original adds, a text without lines has one, and a last newline
     * leaves an empty line behind. */
    MU_TRY(mu_tpl_joined(r, c->self, mu_tpl_str(MU_STR("\n")), &lines));
    MU_TRY(mu_tpl_lines(r, mu_tpl_text(lines), false, &lines));
    size_t from = mu_tpl_capture(r);
    for (uint32_t i = 0; i < lines.len; i++) {
        bool wanted = i == 0 ? arg_true(c, 1) : lines.items[i].len > 0 || arg_true(c, 2);
        if (i > 0) mu_text_char(r->out, '\n');
        if (wanted) mu_text_add(r->out, unit.s, unit.len);
        mu_text_add(r->out, lines.items[i].s, lines.items[i].len);
        MU_TRY(mu_tpl_output_status(r));
    }
    return mu_tpl_captured(r, from, out);
}

static mu_status filter_truncate(struct render *r, const struct call *c, struct value *out)
{
    int64_t length, leeway;
    struct mu_str end;
    MU_TRY(arg_int(r, c, 0, 255, &length));
    MU_TRY(arg_text(r, c, 2, "...", &end));
    MU_TRY(arg_int(r, c, 3, 5, &leeway));
    *out = c->self;
    uint32_t n;
    MU_TRY(mu_tpl_length(r, c->self, &n));
    if (n <= length + leeway) return MU_OK;
    if (c->self.kind != V_STRING)
        return mu_tpl_fail(r, "truncate wants a text, not %s", mu_tpl_type(c->self));
    struct mu_str s = mu_tpl_text(*out);
    int64_t keep = length - mu_tpl_points(end);
    if (keep < 0) return mu_tpl_fail(r, "truncate wants a length of at least that of its end");
    s.len = mu_tpl_point_at(s, (uint32_t)keep);
    const char *space = s.len && !arg_true(c, 1) ? memrchr(s.p, ' ', s.len) : NULL;
    if (space) s.len = (size_t)(space - s.p);
    return mu_tpl_joined(r, mu_tpl_str(s), mu_tpl_str(end), out);
}

static mu_status filter_center(struct render *r, const struct call *c, struct value *out)
{
    struct value text;
    struct args args = {.v = (struct value[]){c->v[0].kind ? c->v[0] : mu_tpl_int(80)}, .n = 1};
    MU_TRY(mu_tpl_string(r, c->self, &text));
    return mu_tpl_apply(r, mu_tpl_method_find(text, MU_STR("center")), text, &args, out);
}

static mu_status json_separators(struct render *r, struct value v, struct json_style *style)
{
    struct value pair;
    if (v.kind == V_MISSING || v.kind == V_NONE) return MU_OK;
    MU_TRY(mu_tpl_items(r, v, &pair));
    if (pair.len != 2 || pair.items[0].kind != V_STRING || pair.items[1].kind != V_STRING)
        return mu_tpl_fail(r, "separators are two texts");
    style->item = mu_tpl_text(pair.items[0]);
    style->key = mu_tpl_text(pair.items[1]);
    return MU_OK;
}

static mu_status filter_tojson(struct render *r, const struct call *c, struct value *out)
{
    struct json_style style = {.ensure_ascii = arg_true(c, 0),
                               .sort_keys = arg_true(c, 3),
                               .item = MU_STR(", "),
                               .key = MU_STR(": ")};
    struct value indent = c->v[1];
    if (given(c, 1)) {
        style.lines = true;
        style.item = MU_STR(",");
        if (mu_tpl_is_int(indent))
            MU_TRY(mu_tpl_binary(r, OP_MUL, mu_tpl_str(MU_STR(" ")), indent, &indent));
        if (indent.kind != V_STRING) return mu_tpl_fail(r, "indent is an integer or a text");
        style.indent = mu_tpl_text(indent);
    }
    MU_TRY(json_separators(r, c->v[2], &style));
    size_t from = mu_tpl_capture(r);
    MU_TRY(mu_tpl_json(r, c->self, &style, 0));
    return mu_tpl_captured(r, from, out);
}

static const struct builtin filters[] = {
    {"abs", "", filter_abs, 0},
    {"attr", "name;", filter_attr, 0},
    {"batch", "linecount;fill_with", filter_batch, 0},
    {"capitalize", "", filter_case, CASE_CAPITALIZE},
    {"center", "width", filter_center, 0},
    {"count", "", filter_length, 0},
    {"d", "default_value,boolean", filter_default, 0},
    {"default", "default_value,boolean", filter_default, 0},
    {"dictsort", "case_sensitive,by,reverse", mu_tpl_filter_dictsort, 0},
    {"e", "", filter_escape, 0},
    {"escape", "", filter_escape, 0},
    {"first", "", filter_first, 0},
    {"float", "default", filter_float, 0},
    {"forceescape", "", filter_escape, 1},
    {"format", "*", filter_format, 0},
    {"groupby", "attribute;default,case_sensitive", mu_tpl_filter_groupby, 0},
    {"indent", "width,first,blank", filter_indent, 0},
    {"int", "default,base", filter_int, 0},
    {"items", "", filter_items, 0},
    {"join", "d,attribute", filter_join, 0},
    {"last", "", filter_last, 0},
    {"length", "", filter_length, 0},
    {"list", "", filter_list, 0},
    {"lower", "", filter_case, CASE_LOWER},
    {"map", "*", filter_map, 0},
    {"max", "case_sensitive,attribute", mu_tpl_filter_extreme, 1},
    {"min", "case_sensitive,attribute", mu_tpl_filter_extreme, -1},
    {"reject", "*", filter_select, 0},
    {"rejectattr", "*", filter_select, SELECT_ATTR},
    {"replace", "old,new;count", filter_replace, 0},
    {"reverse", "", filter_reverse, 0},
    {"round", "precision,method", filter_round, 0},
    {"safe", "", filter_escape, 2},
    {"select", "*", filter_select, SELECT_KEEP},
    {"selectattr", "*", filter_select, SELECT_KEEP | SELECT_ATTR},
    {"sort", "reverse,case_sensitive,attribute", mu_tpl_filter_sort, 0},
    {"string", "", filter_string, 0},
    {"sum", "attribute,start", filter_sum, 0},
    {"title", "", filter_case, CASE_WORDS},
    {"tojson", "ensure_ascii,indent,separators,sort_keys", filter_tojson, 0},
    {"trim", "chars", filter_trim, 0},
    {"truncate", "length,killwords,end,leeway", filter_truncate, 0},
    {"unique", "case_sensitive,attribute", mu_tpl_filter_unique, 0},
    {"upper", "", filter_case, CASE_UPPER},
};

const struct builtin *mu_tpl_filter_find(struct mu_str name)
{
    for (unsigned i = 0; i < MU_ARRAY_LEN(filters); i++)
        if (mu_str_is(name, filters[i].name)) return &filters[i];
    return NULL;
}
