/*
 * Chat templates: the values of a render and what Python does with them - truth, equality, order,
 * membership, iteration. Values live in the render's arena. Knows no syntax.
 */
#include "text/template_int.h"

#include "base/utf8.h"

const char *mu_tpl_type(struct value v)
{
    static const char *const names[] = {"Undefined",
                                        "Undefined",
                                        "NoneType",
                                        "bool",
                                        "int",
                                        "int",
                                        "float",
                                        "str",
                                        "list",
                                        "tuple",
                                        "dict",
                                        "dict_keys",
                                        "range",
                                        "generator",
                                        "Namespace",
                                        "LoopContext",
                                        "Macro",
                                        "function",
                                        "builtin_function_or_method"};
    static const char *const views[] = {"dict_keys", "dict_values", "dict_items"};
    if (v.kind == V_VIEW) return views[v.flag];
    if (v.kind == V_GENERATOR) return v.generator->type;
    return names[v.kind];
}

bool mu_tpl_truth(struct value v)
{
    switch ((enum value_kind)v.kind) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE:
        return false;
    case V_BOOL:
        return v.b;
    case V_INT:
        return v.i != 0;
    case V_FLOAT:
        return v.f != 0;
    case V_STRING:
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
        return v.len > 0;
    case V_DICT:
    case V_VIEW:
        return v.dict->n > 0;
    case V_WIDE:
    case V_GENERATOR:
    case V_NAMESPACE:
    case V_LOOP:
    case V_MACRO:
    case V_FUNCTION:
    case V_METHOD:
        break;
    }
    return true;
}

static bool is_number(struct value v)
{
    return v.kind == V_BOOL || v.kind == V_INT || v.kind == V_WIDE || v.kind == V_FLOAT;
}

static mu_status items_equal(struct render *r, struct value a, struct value b, bool *out)
{
    *out = a.len == b.len;
    MU_TRY(mu_tpl_enter(r));
    for (uint32_t i = 0; *out && i < a.len; i++)
        MU_TRY(mu_tpl_equal(r, a.items[i], b.items[i], out));
    mu_tpl_leave(r);
    return MU_OK;
}

static mu_status dicts_equal(struct render *r, struct dict *a, struct dict *b, bool *out)
{
    *out = a->n == b->n;
    MU_TRY(mu_tpl_enter(r));
    for (uint32_t i = 0; *out && i < a->n; i++) {
        const struct value *other;
        MU_TRY(mu_tpl_dict_get(r, b, a->entries[i].key, &other));
        *out = other != NULL;
        if (other) MU_TRY(mu_tpl_equal(r, a->entries[i].value, *other, out));
    }
    mu_tpl_leave(r);
    return MU_OK;
}

mu_status mu_tpl_equal(struct render *r, struct value a, struct value b, bool *out)
{
    *out = false;
    if (is_number(a) && is_number(b)) {
        mu_tpl_wide x, y;
        double f = 0, g = 0;
        if (mu_tpl_wide_of(a, &x) && mu_tpl_wide_of(b, &y))
            *out = x == y;
        else
            *out = mu_tpl_number(a, &f) && mu_tpl_number(b, &g) && f == g;
        return MU_OK;
    }
    if (a.kind != b.kind) return MU_OK;
    switch ((enum value_kind)a.kind) {
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE:
        *out = true;
        return MU_OK;
    case V_STRING:
        *out = mu_str_equal(mu_tpl_text(a), mu_tpl_text(b));
        return mu_tpl_charge(r, a.len / 64);
    case V_LIST:
    case V_TUPLE:
        MU_TRY(mu_tpl_charge(r, 1 + MU_MIN(a.len, b.len) / 8));
        if (a.items != b.items || a.len != b.len) return items_equal(r, a, b, out);
        *out = true;
        return MU_OK;
    case V_DICT:
        MU_TRY(mu_tpl_charge(r, 1 + a.dict->n / 4));
        if (a.dict != b.dict) return dicts_equal(r, a.dict, b.dict, out);
        *out = true;
        return MU_OK;
    case V_RANGE:
        *out = a.len == b.len && (a.len == 0 || (a.range->start == b.range->start &&
                                                 (a.len == 1 || a.range->step == b.range->step)));
        return MU_OK;
    case V_FUNCTION:
        *out = a.function == b.function;
        return MU_OK;
    case V_BOOL:
    case V_INT:
    case V_WIDE:
    case V_FLOAT:
    case V_VIEW:
    case V_GENERATOR:
    case V_NAMESPACE:
    case V_LOOP:
    case V_MACRO:
    case V_METHOD:
        break;
    }
    *out = a.items == b.items;
    return MU_OK;
}

static int text_order(struct mu_str a, struct mu_str b)
{
    int c = memcmp(a.p, b.p, MU_MIN(a.len, b.len));
    return c ? (c > 0) - (c < 0) : (a.len > b.len) - (a.len < b.len);
}

mu_status mu_tpl_compare(struct render *r, struct value a, struct value b, const char *op, int *out)
{
    *out = 0;
    if (is_number(a) && is_number(b)) {
        mu_tpl_wide x, y;
        double f = 0, g = 0;
        if (mu_tpl_wide_of(a, &x) && mu_tpl_wide_of(b, &y)) {
            *out = (x > y) - (x < y);
        } else {
            (void)mu_tpl_number(a, &f);
            (void)mu_tpl_number(b, &g);
            *out = f != f || g != g ? 2 : (f > g) - (f < g);
        }
        return MU_OK;
    }
    if (a.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, a);
    if (b.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, b);
    if (a.kind == V_STRING && b.kind == V_STRING) {
        *out = text_order(mu_tpl_text(a), mu_tpl_text(b));
        return mu_tpl_charge(r, MU_MIN(a.len, b.len) / 64);
    }
    if (a.kind != b.kind || (a.kind != V_LIST && a.kind != V_TUPLE))
        return mu_tpl_fail(r, "'%s' not supported between instances of '%s' and '%s'", op,
                           mu_tpl_type(a), mu_tpl_type(b));
    MU_TRY(mu_tpl_charge(r, 1));
    MU_TRY(mu_tpl_enter(r));
    bool same = true;
    uint32_t i = 0;
    for (; i < a.len && i < b.len; i++) {
        MU_TRY(mu_tpl_equal(r, a.items[i], b.items[i], &same));
        if (!same) break;
    }
    if (same)
        *out = (a.len > b.len) - (a.len < b.len);
    else
        MU_TRY(mu_tpl_compare(r, a.items[i], b.items[i], op, out));
    mu_tpl_leave(r);
    return MU_OK;
}

mu_status mu_tpl_contains(struct render *r, struct value in, struct value item, bool *out)
{
    *out = false;
    if (in.kind == V_STRING) {
        if (item.kind != V_STRING)
            return mu_tpl_fail(r, "'in <string>' requires string as left operand, not %s",
                               mu_tpl_type(item));
        *out = item.len == 0 || memmem(in.s, in.len, item.s, item.len) != NULL;
        return mu_tpl_charge(r, in.len / 64);
    }
    if (in.kind == V_DICT || (in.kind == V_VIEW && in.flag == VIEW_KEYS)) {
        const struct value *found;
        MU_TRY(mu_tpl_dict_get(r, in.dict, item, &found));
        *out = found != NULL;
        return MU_OK;
    }
    struct walk w;
    struct value each;
    bool more;
    MU_TRY(mu_tpl_iterate(r, in, &w));
    while (!*out) {
        MU_TRY(mu_tpl_walk(r, &w, &each, &more));
        if (!more) break;
        MU_TRY(mu_tpl_equal(r, each, item, out));
    }
    return MU_OK;
}

mu_status mu_tpl_length(struct render *r, struct value v, uint32_t *out)
{
    *out = v.len;
    if (v.kind == V_STRING) {
        *out = mu_tpl_points(mu_tpl_text(v));
        return mu_tpl_charge(r, v.len / 64);
    }
    if (v.kind == V_DICT || v.kind == V_VIEW)
        *out = v.dict->n;
    else if (v.kind == V_UNDEFINED)
        *out = 0;
    else if (v.kind != V_LIST && v.kind != V_TUPLE && v.kind != V_RANGE)
        return mu_tpl_fail(r, "object of type '%s' has no len()", mu_tpl_type(v));
    return MU_OK;
}

static mu_status undefined_new(struct render *r, struct undefined why, struct value *out)
{
    struct undefined *u;
    MU_TRY(mu_tpl_alloc(r, 1, sizeof *u, &u));
    *u = why;
    *out = (struct value){.kind = V_UNDEFINED, .undefined = u};
    return MU_OK;
}

mu_status mu_tpl_undefined(struct render *r, struct value object, struct value name,
                           struct value *out)
{
    return undefined_new(r, (struct undefined){.why = WHY_MEMBER, .object = object, .name = name},
                         out);
}

mu_status mu_tpl_undefined_hint(struct render *r, const char *hint, struct value *out)
{
    return undefined_new(r, (struct undefined){.why = WHY_HINT, .hint = hint}, out);
}

mu_status mu_tpl_undefined_name(struct render *r, struct mu_str name, struct value *out)
{
    return undefined_new(r, (struct undefined){.why = WHY_NAME, .name = mu_tpl_str(name)}, out);
}

mu_status mu_tpl_unsafe(struct render *r, struct value object, struct mu_str name,
                        struct value *out)
{
    return undefined_new(
        r, (struct undefined){.why = WHY_UNSAFE, .object = object, .name = mu_tpl_str(name)}, out);
}

mu_status mu_tpl_fail_undefined(struct render *r, struct value v)
{
    const struct undefined *u = v.undefined;
    if (!u) return mu_tpl_fail(r, "a value is undefined");
    int n = u->name.kind == V_STRING ? (int)MU_MIN(u->name.len, 80u) : 0;
    bool none = u->object.kind == V_NONE;
    const char *type = none ? "None" : mu_tpl_type(u->object), *object = none ? "" : " object";
    switch (u->why) {
    case WHY_NAME:
        return mu_tpl_fail(r, "'%.*s' is undefined", n, u->name.s);
    case WHY_HINT:
        return mu_tpl_fail(r, "%s", u->hint);
    case WHY_UNSAFE:
        return mu_tpl_fail(r, "access to attribute '%.*s' of '%s' object is unsafe", n, u->name.s,
                           type);
    case WHY_MEMBER:
        break;
    }
    if (u->name.kind == V_STRING)
        return mu_tpl_fail(r, "'%s%s' has no attribute '%.*s'", type, object, n, u->name.s);
    if (u->name.kind == V_INT)
        return mu_tpl_fail(r, "%s%s has no element %lld", type, object, (long long)u->name.i);
    return mu_tpl_fail(r, "%s%s has no such element", type, object);
}

/* Iteration */

mu_status mu_tpl_iterate(struct render *r, struct value over, struct walk *w)
{
    *w = (struct walk){.over = over};
    switch ((enum value_kind)over.kind) {
    case V_STRING:
        w->p = over.s;
        return MU_OK;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
        w->n = over.len;
        return MU_OK;
    case V_DICT:
    case V_VIEW:
        w->n = over.dict->n;
        return MU_OK;
    case V_UNDEFINED:
    case V_GENERATOR:
    case V_MISSING:
        return MU_OK;
    case V_NONE:
    case V_BOOL:
    case V_INT:
    case V_WIDE:
    case V_FLOAT:
    case V_NAMESPACE:
    case V_LOOP:
    case V_MACRO:
    case V_FUNCTION:
    case V_METHOD:
        break;
    }
    return mu_tpl_fail(r, "'%s' object is not iterable", mu_tpl_type(over));
}

static mu_status pair_new(struct render *r, struct value a, struct value b, struct value *out)
{
    struct value *items;
    MU_TRY(mu_tpl_alloc(r, 2, sizeof *items, &items));
    items[0] = a;
    items[1] = b;
    *out = (struct value){.kind = V_TUPLE, .len = 2, .items = items};
    return MU_OK;
}

static mu_status walk_dict(struct render *r, struct walk *w, struct value *item)
{
    const struct dict_entry *e = &w->over.dict->entries[w->at++];
    enum view_kind view = w->over.kind == V_DICT ? VIEW_KEYS : (enum view_kind)w->over.flag;
    if (view == VIEW_ITEMS) return pair_new(r, e->key, e->value, item);
    *item = view == VIEW_KEYS ? e->key : e->value;
    return MU_OK;
}

static bool walk_string(struct walk *w, struct value *item)
{
    struct mu_str rest = {w->p, (size_t)(w->over.s + w->over.len - w->p)};
    if (rest.len == 0) return false;
    unsigned n;
    (void)mu_utf8_decode(rest, &n);
    w->p += n;
    *item = mu_tpl_str((struct mu_str){rest.p, n});
    return true;
}

mu_status mu_tpl_walk(struct render *r, struct walk *w, struct value *item, bool *more)
{
    struct generator *g = w->over.kind == V_GENERATOR ? w->over.generator : NULL;
    if (w->over.kind == V_STRING)
        *more = walk_string(w, item);
    else
        *more = g ? g->at < g->n : w->at < w->n;
    if (!*more) return MU_OK;
    MU_TRY(mu_tpl_charge(r, 1));
    if (g)
        *item = g->items[g->at++];
    else if (w->over.kind == V_LIST || w->over.kind == V_TUPLE)
        *item = w->over.items[w->at++];
    else if (w->over.kind == V_RANGE)
        *item = mu_tpl_int(w->over.range->start + (int64_t)w->at++ * w->over.range->step);
    else if (w->over.kind == V_DICT || w->over.kind == V_VIEW)
        MU_TRY(walk_dict(r, w, item));
    return MU_OK;
}

mu_status mu_tpl_items(struct render *r, struct value over, struct value *list)
{
    struct walk w;
    if (over.kind == V_LIST || over.kind == V_TUPLE) {
        *list = mu_tpl_list(over.items, over.len);
        return MU_OK;
    }
    MU_TRY(mu_tpl_iterate(r, over, &w));
    uint32_t room = over.kind == V_STRING      ? mu_tpl_points(mu_tpl_text(over))
                    : over.kind == V_GENERATOR ? over.generator->n - over.generator->at
                                               : w.n;
    struct value *items;
    MU_TRY(mu_tpl_alloc(r, room, sizeof *items, &items));
    uint32_t n = 0;
    for (bool more = true; n < room; n++) {
        MU_TRY(mu_tpl_walk(r, &w, &items[n], &more));
        if (!more) break;
    }
    *list = mu_tpl_list(items, n);
    return MU_OK;
}

mu_status mu_tpl_generator(struct render *r, const char *type, struct value list, struct value *out)
{
    struct generator *g;
    MU_TRY(mu_tpl_alloc(r, 1, sizeof *g, &g));
    *g = (struct generator){type, list.items, list.len, 0};
    *out = (struct value){.kind = V_GENERATOR, .generator = g};
    return MU_OK;
}

/* Values of the outside */

static mu_status from_json_object(struct render *r, json_t *json, struct value *out)
{
    const char *key;
    json_t *each;
    MU_TRY(mu_tpl_dict(r, out));
    struct dict *d = out->dict;
    MU_TRY(mu_tpl_dict_reserve(r, d, (uint32_t)json_object_size(json)));
    for (void *i = json_object_iter(json); i && d->n < d->room;
         i = json_object_iter_next(json, i)) {
        key = json_object_iter_key(i);
        each = json_object_iter_value(i);
        struct dict_entry *e = &d->entries[d->n];
        e->key = mu_tpl_str((struct mu_str){key, json_object_iter_key_len(i)});
        MU_TRY(mu_tpl_from_json(r, each, &e->value));
        d->n++;
    }
    return MU_OK;
}

static mu_status from_json_array(struct render *r, json_t *json, struct value *out)
{
    struct value *items;
    uint32_t n = (uint32_t)json_array_size(json);
    MU_TRY(mu_tpl_alloc(r, n, sizeof *items, &items));
    for (uint32_t i = 0; i < n; i++)
        MU_TRY(mu_tpl_from_json(r, json_array_get(json, i), &items[i]));
    *out = mu_tpl_list(items, n);
    return MU_OK;
}

mu_status mu_tpl_from_json(struct render *r, json_t *json, struct value *out)
{
    MU_TRY(mu_tpl_enter(r));
    switch (json_typeof(json)) {
    case JSON_OBJECT:
        MU_TRY(from_json_object(r, json, out));
        break;
    case JSON_ARRAY:
        MU_TRY(from_json_array(r, json, out));
        break;
    case JSON_STRING:
        if (json_string_length(json) > INT32_MAX) return mu_tpl_fail(r, "a text of over 2 GiB");
        *out = mu_tpl_str((struct mu_str){json_string_value(json), json_string_length(json)});
        break;
    case JSON_INTEGER:
        *out = mu_tpl_int(json_integer_value(json));
        break;
    case JSON_REAL:
        *out = mu_tpl_float(json_real_value(json));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *out = mu_tpl_bool(json_is_true(json));
        break;
    case JSON_NULL:
        *out = MU_TPL_NONE;
        break;
    }
    mu_tpl_leave(r);
    return MU_OK;
}
