/*
 * Chat templates: expressions to values, with the sandbox's view of attributes. Every walk down the
 * tree or into a macro counts towards the depth limit, so outside bytes bound no stack.
 */
#include "text/template_int.h"

#include "base/utf8.h"

struct value *mu_tpl_slot(struct scope *s, struct ref ref)
{
    for (unsigned hops = ref.hops; hops > 0; hops--)
        s = s->outer;
    return &s->slots[ref.slot];
}

static mu_status eval_name(struct render *r, struct scope *s, const struct node *n,
                           struct value *out)
{
    *out = n->ref.kind == REF_SLOT ? *mu_tpl_slot(s, n->ref) : r->context[n->ref.slot];
    return out->kind == V_MISSING ? mu_tpl_undefined_name(r, n->text, out) : MU_OK;
}

static mu_status eval_items(struct render *r, struct scope *s, const struct node *n,
                            struct value *out)
{
    uint32_t count = 0;
    struct value *items;
    for (const struct node *i = n->a; i; i = i->next)
        count++;
    MU_TRY(mu_tpl_alloc(r, count, sizeof *items, &items));
    *out = mu_tpl_list(items, count);
    if (n->kind == N_TUPLE) out->kind = V_TUPLE;
    for (const struct node *i = n->a; i; i = i->next)
        MU_TRY(mu_tpl_eval(r, s, i, items++));
    return MU_OK;
}

static mu_status eval_dict(struct render *r, struct scope *s, const struct node *n,
                           struct value *out)
{
    MU_TRY(mu_tpl_dict(r, out));
    for (const struct node *i = n->a; i; i = i->next->next) {
        struct value key, value;
        MU_TRY(mu_tpl_eval(r, s, i, &key));
        MU_TRY(mu_tpl_eval(r, s, i->next, &value));
        MU_TRY(mu_tpl_dict_set(r, out->dict, key, value));
    }
    return MU_OK;
}

static mu_status eval_concat(struct render *r, struct scope *s, const struct node *n,
                             struct value *out)
{
    struct value each;
    *out = mu_tpl_str(MU_STR(""));
    for (const struct node *i = n->a; i; i = i->next) {
        MU_TRY(mu_tpl_eval(r, s, i, &each));
        MU_TRY(mu_tpl_string(r, each, &each));
        MU_TRY(mu_tpl_joined(r, *out, each, out));
    }
    out->flag = 0;
    return MU_OK;
}

static mu_status compare_one(struct render *r, enum op op, struct value a, struct value b,
                             bool *out)
{
    static const char *const signs[] = {
        [OP_LT] = "<", [OP_LE] = "<=", [OP_GT] = ">", [OP_GE] = ">="};
    int order;
    if (op == OP_EQ || op == OP_NE) {
        MU_TRY(mu_tpl_equal(r, a, b, out));
        *out ^= op == OP_NE;
        return MU_OK;
    }
    if (op == OP_IN || op == OP_NOT_IN) {
        MU_TRY(mu_tpl_contains(r, b, a, out));
        *out ^= op == OP_NOT_IN;
        return MU_OK;
    }
    MU_TRY(mu_tpl_compare(r, a, b, signs[op], &order));
    *out = op == OP_LT   ? order == -1
           : op == OP_LE ? order == -1 || order == 0
           : op == OP_GT ? order == 1
                         : order == 1 || order == 0;
    return MU_OK;
}

mu_status mu_tpl_compare_op(struct render *r, enum op op, struct value a, struct value b,
                            struct value *out)
{
    bool answer = false;
    MU_TRY(compare_one(r, op, a, b, &answer));
    *out = mu_tpl_bool(answer);
    return MU_OK;
}

static mu_status eval_compare(struct render *r, struct scope *s, const struct node *n,
                              struct value *out)
{
    struct value left, right;
    bool answer = true;
    MU_TRY(mu_tpl_eval(r, s, n->a, &left));
    for (const struct node *i = n->b; i && answer; i = i->next) {
        MU_TRY(mu_tpl_eval(r, s, i->a, &right));
        r->at = i;
        MU_TRY(compare_one(r, (enum op)i->op, left, right, &answer));
        left = right;
    }
    *out = mu_tpl_bool(answer);
    return MU_OK;
}

static mu_status eval_slice(struct render *r, struct scope *s, const struct node *n,
                            struct value *out)
{
    struct value object, bounds[3] = {MU_TPL_NONE, MU_TPL_NONE, MU_TPL_NONE};
    const struct node *const part[3] = {n->b, n->c, n->d};
    MU_TRY(mu_tpl_eval(r, s, n->a, &object));
    for (unsigned i = 0; i < 3; i++)
        if (part[i]) MU_TRY(mu_tpl_eval(r, s, part[i], &bounds[i]));
    r->at = n;
    return mu_tpl_slice(r, object, bounds, out);
}

static bool is_dunder(struct mu_str name)
{
    return name.len > 4 && memcmp(name.p, "__", 2) == 0 &&
           memcmp(name.p + name.len - 2, "__", 2) == 0;
}

/* What even an undefined value has, and the sandbox hides. */
static bool is_of_every_object(struct mu_str name)
{
    return mu_str_is(name, "__class__") || mu_str_is(name, "__doc__") ||
           mu_str_is(name, "__init__");
}

/* What Python's getattr finds under the sandbox; V_MISSING when there is no such attribute. */
static mu_status own_attr(struct render *r, struct value object, struct mu_str name,
                          struct value *out)
{
    const struct value *found;
    const struct builtin *method = mu_tpl_method_find(object, name);
    *out = (struct value){.kind = V_MISSING};
    if (method && !method->fn) return mu_tpl_unsafe(r, object, name, out);
    if (method) {
        struct bound *bound;
        MU_TRY(mu_tpl_alloc(r, 1, sizeof *bound, &bound));
        *bound = (struct bound){object, method};
        *out = (struct value){.kind = V_METHOD, .bound = bound};
        return MU_OK;
    }
    if (object.kind == V_TUPLE && object.flag == TUPLE_GROUP) {
        if (mu_str_is(name, "grouper")) *out = object.items[0];
        if (mu_str_is(name, "list")) *out = object.items[1];
    }
    if (object.kind == V_LOOP) MU_TRY(mu_tpl_loop_attr(r, object.loop, name, out));
    if (object.kind == V_NAMESPACE) {
        MU_TRY(mu_tpl_dict_get(r, object.dict, mu_tpl_str(name), &found));
        if (found && name.p[0] == '_') return mu_tpl_unsafe(r, object, name, out);
        if (found) *out = *found;
    }
    return MU_OK;
}

mu_status mu_tpl_attr(struct render *r, struct value object, struct mu_str name, struct value *out)
{
    const struct value *found = NULL;
    if (object.kind == V_UNDEFINED && !is_of_every_object(name))
        return mu_tpl_fail_undefined(r, object);
    MU_TRY(own_attr(r, object, name, out));
    if (out->kind != V_MISSING) return MU_OK;
    if (object.kind == V_DICT) MU_TRY(mu_tpl_dict_get(r, object.dict, mu_tpl_str(name), &found));
    if (found) {
        *out = *found;
        return MU_OK;
    }
    if (is_dunder(name)) return mu_tpl_unsafe(r, object, name, out);
    return mu_tpl_undefined(r, object, mu_tpl_str(name), out);
}

/* The element at an index that may count from the end; V_MISSING outside. */
static mu_status element(struct render *r, struct value object, int64_t i, struct value *out)
{
    uint32_t n;
    *out = (struct value){.kind = V_MISSING};
    MU_TRY(mu_tpl_length(r, object, &n));
    if (i < 0) i += n;
    if (i < 0 || i >= n) return MU_OK;
    if (object.kind == V_RANGE) {
        *out = mu_tpl_int(object.range->start + i * object.range->step);
    } else if (object.kind == V_STRING) {
        struct mu_str s = mu_tpl_text(object);
        size_t at = mu_tpl_point_at(s, (uint32_t)i);
        unsigned len;
        (void)mu_utf8_decode((struct mu_str){s.p + at, s.len - at}, &len);
        *out = mu_tpl_str((struct mu_str){s.p + at, len});
    } else {
        *out = object.items[i];
    }
    return MU_OK;
}

mu_status mu_tpl_item(struct render *r, struct value object, struct value key, struct value *out)
{
    const struct value *found = NULL;
    *out = (struct value){.kind = V_MISSING};
    if (object.kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, object);
    bool sequence = object.kind == V_LIST || object.kind == V_TUPLE || object.kind == V_STRING ||
                    object.kind == V_RANGE;
    bool hashable = key.kind != V_LIST && key.kind != V_DICT;
    if (object.kind == V_DICT && hashable)
        MU_TRY(mu_tpl_dict_get(r, object.dict, key, &found));
    else if (sequence && mu_tpl_is_int(key))
        MU_TRY(element(r, object, key.kind == V_BOOL ? key.b : key.i, out));
    if (found) *out = *found;
    if (out->kind == V_MISSING && key.kind == V_STRING)
        MU_TRY(own_attr(r, object, mu_tpl_text(key), out));
    return out->kind == V_MISSING ? mu_tpl_undefined(r, object, key, out) : MU_OK;
}

static mu_status eval_attr(struct render *r, struct scope *s, const struct node *n,
                           struct value *out)
{
    struct value object;
    MU_TRY(mu_tpl_eval(r, s, n->a, &object));
    r->at = n;
    return mu_tpl_attr(r, object, n->text, out);
}

static mu_status eval_item(struct render *r, struct scope *s, const struct node *n,
                           struct value *out)
{
    struct value object, key;
    MU_TRY(mu_tpl_eval(r, s, n->a, &object));
    MU_TRY(mu_tpl_eval(r, s, n->b, &key));
    r->at = n;
    return mu_tpl_item(r, object, key, out);
}

/* Calls */

static mu_status spread_named(struct render *r, struct value v, struct args *out)
{
    if (v.kind != V_DICT)
        return mu_tpl_fail(r, "the argument after ** must be a mapping, not %s", mu_tpl_type(v));
    struct named *named;
    MU_TRY(mu_tpl_alloc(r, out->n_named + v.dict->n, sizeof *named, &named));
    if (out->n_named) memcpy(named, out->named, out->n_named * sizeof *named);
    out->named = named;
    for (uint32_t i = 0; i < v.dict->n; i++) {
        const struct dict_entry *e = &v.dict->entries[i];
        if (e->key.kind != V_STRING) return mu_tpl_fail(r, "keywords must be strings");
        named[out->n_named++] = (struct named){mu_tpl_text(e->key), e->value};
    }
    return MU_OK;
}

static mu_status spread_items(struct render *r, struct value v, struct args *out)
{
    struct value list, *all;
    MU_TRY(mu_tpl_items(r, v, &list));
    MU_TRY(mu_tpl_alloc(r, (size_t)out->n + list.len, sizeof *all, &all));
    if (out->n) memcpy(all, out->v, out->n * sizeof *all);
    if (list.len) memcpy(all + out->n, list.items, list.len * sizeof *all);
    out->v = all;
    out->n += list.len;
    return MU_OK;
}

mu_status mu_tpl_eval_args(struct render *r, struct scope *s, const struct node *args,
                           struct args *out)
{
    uint32_t n = 0;
    *out = (struct args){0};
    for (const struct node *a = args; a; a = a->next)
        n++;
    if (n == 0) return MU_OK;
    MU_TRY(mu_tpl_alloc(r, n, sizeof *out->v, &out->v));
    for (const struct node *a = args; a; a = a->next) {
        struct value v;
        MU_TRY(mu_tpl_eval(r, s, a->a, &v));
        r->at = a;
        if (a->op == ARG_POSITION) {
            out->v[out->n++] = v;
        } else if (a->op == ARG_STAR) {
            MU_TRY(spread_items(r, v, out));
        } else if (a->op == ARG_STAR_STAR) {
            MU_TRY(spread_named(r, v, out));
        } else {
            if (!out->named) MU_TRY(mu_tpl_alloc(r, n, sizeof *out->named, &out->named));
            out->named[out->n_named++] = (struct named){a->text, v};
        }
    }
    return MU_OK;
}

/* The number of parameters in "a,b;c", and the place of one of them; -1 when it is none. */
static int param_index(const char *params, struct mu_str name, unsigned *n, unsigned *required)
{
    int found = -1;
    *n = *required = 0;
    for (const char *p = params; *p;) {
        size_t len = strcspn(p, ",;");
        if (mu_str_equal(name, (struct mu_str){p, len})) found = (int)*n;
        ++*n;
        if (p[len] == ';') *required = *n;
        p += len + (p[len] != '\0');
    }
    return found;
}

mu_status mu_tpl_bind(struct render *r, const char *name, const char *params,
                      const struct args *args, struct value v[MU_TPL_PARAMS_MAX])
{
    unsigned n, required;
    (void)param_index(params, (struct mu_str){"", 0}, &n, &required);
    memset(v, 0, MU_TPL_PARAMS_MAX * sizeof *v);
    if (args->n > n)
        return mu_tpl_fail(r, "%s takes at most %u arguments, %u were given", name, n, args->n);
    if (args->n) memcpy(v, args->v, args->n * sizeof *v);
    for (uint32_t i = 0; i < args->n_named; i++) {
        const struct named *a = &args->named[i];
        int at = param_index(params, a->name, &n, &required);
        if (at < 0)
            return mu_tpl_fail(r, "%s got an unexpected keyword argument '%.*s'", name,
                               (int)MU_MIN(a->name.len, 40), a->name.p);
        if (v[at].kind != V_MISSING)
            return mu_tpl_fail(r, "%s got multiple values for argument '%.*s'", name,
                               (int)MU_MIN(a->name.len, 40), a->name.p);
        v[at] = a->value;
    }
    for (unsigned i = 0; i < required; i++)
        if (v[i].kind == V_MISSING)
            return mu_tpl_fail(r, "%s misses a required argument (%s)", name, params);
    return MU_OK;
}

mu_status mu_tpl_apply(struct render *r, const struct builtin *b, struct value self,
                       const struct args *args, struct value *out)
{
    struct value v[MU_TPL_PARAMS_MAX];
    if (b->params[0] != '*') MU_TRY(mu_tpl_bind(r, b->name, b->params, args, v));
    struct call call = {self, v, args, b->how};
    if (self.kind == V_STRING) MU_TRY(mu_tpl_charge(r, self.len / 64));
    return b->fn(r, &call, out);
}

mu_status mu_tpl_call(struct render *r, struct value callee, const struct args *args,
                      struct value *out)
{
    MU_TRY(mu_tpl_charge(r, 1));
    switch ((enum value_kind)callee.kind) {
    case V_MACRO:
        return mu_tpl_macro(r, callee.closure, args, out);
    case V_FUNCTION:
        return mu_tpl_function(r, callee.function, args, out);
    case V_METHOD:
        return mu_tpl_apply(r, callee.bound->method, callee.bound->object, args, out);
    case V_LOOP:
        return mu_tpl_loop_call(r, callee.loop, args, out);
    case V_UNDEFINED:
        return mu_tpl_fail_undefined(r, callee);
    case V_MISSING:
    case V_NONE:
    case V_BOOL:
    case V_INT:
    case V_WIDE:
    case V_FLOAT:
    case V_STRING:
    case V_LIST:
    case V_TUPLE:
    case V_DICT:
    case V_VIEW:
    case V_RANGE:
    case V_GENERATOR:
    case V_NAMESPACE:
        break;
    }
    return mu_tpl_fail(r, "'%s' object is not callable", mu_tpl_type(callee));
}

static mu_status eval_call(struct render *r, struct scope *s, const struct node *n,
                           struct value *out)
{
    struct value callee;
    struct args args;
    MU_TRY(mu_tpl_eval(r, s, n->a, &callee));
    MU_TRY(mu_tpl_eval_args(r, s, n->b, &args));
    r->at = n;
    return mu_tpl_call(r, callee, &args, out);
}

static mu_status eval_apply(struct render *r, struct scope *s, const struct node *n,
                            struct value *out)
{
    struct value self;
    struct args args;
    r->at = n;
    if (!n->builtin)
        return mu_tpl_fail(r, "unknown %s '%.*s'", n->kind == N_FILTER ? "filter" : "test",
                           (int)MU_MIN(n->text.len, 40), n->text.p);
    self = r->block_text;
    if (n->a) MU_TRY(mu_tpl_eval(r, s, n->a, &self));
    MU_TRY(mu_tpl_eval_args(r, s, n->b, &args));
    r->at = n;
    MU_TRY(mu_tpl_charge(r, 1));
    return mu_tpl_apply(r, n->builtin, self, &args, out);
}

static mu_status eval_unary(struct render *r, struct scope *s, const struct node *n,
                            struct value *out)
{
    MU_TRY(mu_tpl_eval(r, s, n->a, out));
    r->at = n;
    if (n->kind != N_NOT) return mu_tpl_negate(r, *out, n->kind == N_NEG, out);
    *out = mu_tpl_bool(!mu_tpl_truth(*out));
    return MU_OK;
}

static mu_status eval_choice(struct render *r, struct scope *s, const struct node *n,
                             struct value *out)
{
    struct value test;
    if (n->kind == N_IF_ELSE) {
        MU_TRY(mu_tpl_eval(r, s, n->b, &test));
        if (mu_tpl_truth(test)) return mu_tpl_eval(r, s, n->a, out);
        if (n->c) return mu_tpl_eval(r, s, n->c, out);
        return mu_tpl_undefined_hint(r, "the inline if-expression was false and has no else", out);
    }
    MU_TRY(mu_tpl_eval(r, s, n->a, out));
    return mu_tpl_truth(*out) == (n->kind == N_AND) ? mu_tpl_eval(r, s, n->b, out) : MU_OK;
}

static mu_status eval_binary(struct render *r, struct scope *s, const struct node *n,
                             struct value *out)
{
    struct value a, b;
    MU_TRY(mu_tpl_eval(r, s, n->a, &a));
    MU_TRY(mu_tpl_eval(r, s, n->b, &b));
    r->at = n;
    return mu_tpl_binary(r, (enum op)n->op, a, b, out);
}

typedef mu_status (*eval_fn)(struct render *r, struct scope *s, const struct node *n,
                             struct value *out);

mu_status mu_tpl_eval(struct render *r, struct scope *s, const struct node *n, struct value *out)
{
    static const eval_fn table[] = {
        [N_LIST] = eval_items,    [N_TUPLE] = eval_items,   [N_DICT] = eval_dict,
        [N_NOT] = eval_unary,     [N_NEG] = eval_unary,     [N_POS] = eval_unary,
        [N_BINARY] = eval_binary, [N_CONCAT] = eval_concat, [N_COMPARE] = eval_compare,
        [N_AND] = eval_choice,    [N_OR] = eval_choice,     [N_IF_ELSE] = eval_choice,
        [N_ATTR] = eval_attr,     [N_ITEM] = eval_item,     [N_SLICE] = eval_slice,
        [N_CALL] = eval_call,     [N_FILTER] = eval_apply,  [N_TEST] = eval_apply,
    };
    if (n->kind == N_CONST) {
        *out = n->value;
        return MU_OK;
    }
    if (n->kind == N_NAME) {
        r->at = n;
        return eval_name(r, s, n, out);
    }
    MU_ASSERT(n->kind < MU_ARRAY_LEN(table) && table[n->kind]);
    MU_TRY(mu_tpl_enter(r));
    MU_TRY(table[n->kind](r, s, n, out));
    mu_tpl_leave(r);
    return MU_OK;
}
