/*
 * Chat templates: statements to output, loops, macros and call blocks. A body that jumps (break,
 * continue) says so in render.jump until the loop it means has seen it.
 */
#include "text/template_int.h"

static void frame_begin(struct render *r, struct scope *s, const struct frame *f)
{
    for (uint32_t i = 0; i < f->n_loads; i++) {
        const struct load *l = &f->loads[i];
        if (l->from.kind == REF_NONE)
            s->slots[l->slot] = (struct value){.kind = V_MISSING};
        else
            s->slots[l->slot] =
                l->from.kind == REF_SLOT ? *mu_tpl_slot(s, l->from) : r->context[l->from.slot];
    }
}

static mu_status scope_new(struct render *r, struct scope *outer, uint32_t n_slots,
                           struct scope **out)
{
    MU_TRY(mu_tpl_alloc(r, 1, sizeof **out + n_slots * sizeof(*out)->slots[0], out));
    (*out)->outer = outer;
    return MU_OK;
}

static mu_status assign(struct render *r, struct scope *s, const struct node *target,
                        struct value v);

static mu_status assign_items(struct render *r, struct scope *s, const struct node *target,
                              struct value v)
{
    struct value list;
    uint32_t n = 0;
    MU_TRY(mu_tpl_items(r, v, &list));
    for (const struct node *t = target->a; t; t = t->next)
        n++;
    if (list.len != n)
        return mu_tpl_fail(r, "%s values to unpack (expected %u, got %u)",
                           list.len < n ? "not enough" : "too many", n, list.len);
    for (const struct node *t = target->a; t; t = t->next)
        MU_TRY(assign(r, s, t, *list.items++));
    return MU_OK;
}

static mu_status assign(struct render *r, struct scope *s, const struct node *target,
                        struct value v)
{
    r->at = target;
    if (target->kind == N_TUPLE) return assign_items(r, s, target, v);
    if (target->kind == N_NAME) {
        *mu_tpl_slot(s, target->ref) = v;
        return MU_OK;
    }
    struct value space;
    MU_TRY(mu_tpl_eval(r, s, target->a, &space));
    if (space.kind != V_NAMESPACE)
        return mu_tpl_fail(r, "cannot assign attribute on non-namespace object");
    return mu_tpl_dict_set(r, space.dict, mu_tpl_str(target->text), v);
}

static mu_status exec_text(struct render *r, struct scope *s, const struct node *n)
{
    (void)s;
    mu_text_add(r->out, n->text.p, n->text.len);
    return MU_OK;
}

static mu_status exec_print(struct render *r, struct scope *s, const struct node *n)
{
    struct value v;
    for (const struct node *i = n->a; i; i = i->next) {
        MU_TRY(mu_tpl_eval(r, s, i, &v));
        MU_TRY(mu_tpl_print(r, v));
    }
    return mu_tpl_output_status(r);
}

static mu_status exec_if(struct render *r, struct scope *s, const struct node *n)
{
    struct value test;
    MU_TRY(mu_tpl_eval(r, s, n->a, &test));
    if (mu_tpl_truth(test)) return mu_tpl_exec(r, s, n->b);
    for (const struct node *i = n->e; i; i = i->next) {
        MU_TRY(mu_tpl_eval(r, s, i->a, &test));
        if (mu_tpl_truth(test)) return mu_tpl_exec(r, s, i->b);
    }
    return mu_tpl_exec(r, s, n->c);
}

static mu_status exec_set(struct render *r, struct scope *s, const struct node *n)
{
    struct value v;
    MU_TRY(mu_tpl_eval(r, s, n->b, &v));
    return assign(r, s, n->a, v);
}

/* Runs a body with its text taken off the output, through filters when there are some. */
static mu_status capture_body(struct render *r, struct scope *s, const struct node *n,
                              struct value *out)
{
    size_t from = mu_tpl_capture(r);
    frame_begin(r, s, n->frame);
    MU_TRY(mu_tpl_exec(r, s, n->d));
    MU_TRY(mu_tpl_captured(r, from, out));
    if (!n->c || r->jump) return MU_OK;
    r->block_text = *out;
    return mu_tpl_eval(r, s, n->c, out);
}

static mu_status exec_set_block(struct render *r, struct scope *s, const struct node *n)
{
    struct value v;
    MU_TRY(capture_body(r, s, n, &v));
    return r->jump ? MU_OK : assign(r, s, n->a, v);
}

static mu_status exec_filter_block(struct render *r, struct scope *s, const struct node *n)
{
    struct value v;
    MU_TRY(capture_body(r, s, n, &v));
    return r->jump ? MU_OK : mu_tpl_print(r, v);
}

static mu_status exec_with(struct render *r, struct scope *s, const struct node *n)
{
    struct value v;
    frame_begin(r, s, n->frame);
    const struct node *value = n->b;
    for (const struct node *t = n->a; t; t = t->next, value = value->next) {
        MU_TRY(mu_tpl_eval(r, s, value, &v));
        MU_TRY(assign(r, s, t, v));
    }
    return mu_tpl_exec(r, s, n->d);
}

static mu_status exec_jump(struct render *r, struct scope *s, const struct node *n)
{
    (void)s;
    r->jump = n->kind == N_BREAK ? JUMP_BREAK : JUMP_CONTINUE;
    return MU_OK;
}

/* Loops */

/* The next item that passes the loop's filter; one that was unpacked for it becomes a tuple. */
static mu_status loop_fetch(struct render *r, struct loop *l, struct value *item, bool *more)
{
    const struct node *n = l->node;
    struct value test;
    for (;;) {
        MU_TRY(mu_tpl_walk(r, &l->walk, item, more));
        if (!*more || !n->c || l->filtered) return MU_OK;
        MU_TRY(assign(r, l->scope, n->function->test_target, *item));
        MU_TRY(mu_tpl_eval(r, l->scope, n->c, &test));
        if (!mu_tpl_truth(test)) continue;
        if (n->a->kind != N_TUPLE) return MU_OK;
        MU_TRY(mu_tpl_items(r, *item, item));
        item->kind = V_TUPLE;
        return MU_OK;
    }
}

static mu_status loop_peek(struct render *r, struct loop *l)
{
    bool more;
    if (l->peeked) return MU_OK;
    MU_TRY(loop_fetch(r, l, &l->next, &more));
    if (!more) l->next = (struct value){.kind = V_MISSING};
    l->peeked = true;
    return MU_OK;
}

static mu_status loop_advance(struct render *r, struct loop *l, bool *more)
{
    MU_TRY(loop_peek(r, l));
    l->peeked = false;
    *more = l->next.kind != V_MISSING;
    if (!*more) return MU_OK;
    l->previous = l->current;
    l->current = l->next;
    l->index0++;
    return MU_OK;
}

/* Asking for the length of what has none draws the rest of it first. */
static mu_status loop_length(struct render *r, struct loop *l)
{
    if (l->length != UINT32_MAX) return MU_OK;
    if (!l->node->c && l->walk.over.kind != V_GENERATOR)
        return mu_tpl_length(r, l->walk.over, &l->length);
    uint32_t n = 0, room = 0;
    struct value *items = NULL;
    for (bool more;; n++) {
        struct value item;
        MU_TRY(loop_fetch(r, l, &item, &more));
        if (!more) break;
        if (n == room) {
            struct value *grown;
            room = room ? room * 2 : 16;
            MU_TRY(mu_tpl_alloc(r, room, sizeof *grown, &grown));
            if (n) memcpy(grown, items, n * sizeof *items);
            items = grown;
        }
        items[n] = item;
    }
    MU_TRY(mu_tpl_iterate(r, mu_tpl_list(items, n), &l->walk));
    l->filtered = true;
    l->length = n + l->index0 + 1 + (l->peeked && l->next.kind != V_MISSING);
    return MU_OK;
}

mu_status mu_tpl_loop_attr(struct render *r, struct loop *l, struct mu_str name, struct value *out)
{
    int64_t index0 = l->index0;
    if (mu_str_is(name, "index0")) {
        *out = mu_tpl_int(index0);
    } else if (mu_str_is(name, "index")) {
        *out = mu_tpl_int(index0 + 1);
    } else if (mu_str_is(name, "first")) {
        *out = mu_tpl_bool(index0 == 0);
    } else if (mu_str_is(name, "depth") || mu_str_is(name, "depth0")) {
        *out = mu_tpl_int(l->depth0 + (name.len == 5));
    } else if (mu_str_is(name, "previtem")) {
        if (index0 == 0) return mu_tpl_undefined_hint(r, "there is no previous item", out);
        *out = l->previous;
    } else if (mu_str_is(name, "last") || mu_str_is(name, "nextitem")) {
        MU_TRY(loop_peek(r, l));
        bool none = l->next.kind == V_MISSING;
        if (name.len != 4 && none) return mu_tpl_undefined_hint(r, "there is no next item", out);
        *out = name.len == 4 ? mu_tpl_bool(none) : l->next;
    } else if (mu_str_is(name, "length") || mu_str_is(name, "revindex") ||
               mu_str_is(name, "revindex0")) {
        MU_TRY(loop_length(r, l));
        *out = mu_tpl_int(name.len == 6   ? l->length
                          : name.len == 8 ? l->length - index0
                                          : l->length - index0 - 1);
    }
    return MU_OK;
}

mu_status mu_tpl_loop_cycle(struct render *r, const struct call *c, struct value *out)
{
    if (c->args->n == 0) return mu_tpl_fail(r, "no items for cycling given");
    *out = c->args->v[c->self.loop->index0 % c->args->n];
    return MU_OK;
}

mu_status mu_tpl_loop_changed(struct render *r, const struct call *c, struct value *out)
{
    struct loop *l = c->self.loop;
    bool same = false;
    struct value now = mu_tpl_list(c->args->v, c->args->n);
    if (l->changed.kind != V_MISSING) MU_TRY(mu_tpl_equal(r, l->changed, now, &same));
    l->changed = now;
    *out = mu_tpl_bool(!same);
    return MU_OK;
}

static mu_status loop_run(struct render *r, struct scope *s, const struct node *n,
                          struct value over, unsigned depth0)
{
    const struct function *f = n->function;
    bool completed = false, more;
    struct loop *l;
    MU_TRY(mu_tpl_alloc(r, 1, sizeof *l, &l));
    *l = (struct loop){
        .length = UINT32_MAX, .index0 = UINT32_MAX, .depth0 = depth0, .node = n, .scope = s};
    r->at = n->b;
    MU_TRY(mu_tpl_iterate(r, over, &l->walk));
    for (;;) {
        MU_TRY(loop_advance(r, l, &more));
        if (!more) break;
        frame_begin(r, s, &f->frame);
        *mu_tpl_slot(s, f->loop) = (struct value){.kind = V_LOOP, .loop = l};
        MU_TRY(assign(r, s, n->a, l->current));
        MU_TRY(mu_tpl_exec(r, s, n->d));
        enum jump jump = r->jump;
        r->jump = JUMP_NONE;
        if (jump == JUMP_BREAK) break;
        completed |= jump == JUMP_NONE;
    }
    /* As in the original, a round cut short by a jump does not keep the else away. */
    if (completed || !n->e) return MU_OK;
    frame_begin(r, s, &f->else_frame);
    return mu_tpl_exec(r, s, n->e);
}

static mu_status call_enter(struct render *r)
{
    if (++r->calls <= r->limits->calls) return MU_OK;
    return mu_tpl_fail(r, "more than %u calls inside each other", r->limits->calls);
}

static mu_status loop_call(struct render *r, struct scope *outer, const struct node *n,
                           struct value over, unsigned depth0)
{
    struct scope *s;
    MU_TRY(call_enter(r));
    MU_TRY(scope_new(r, outer, n->function->n_slots, &s));
    MU_TRY(loop_run(r, s, n, over, depth0));
    r->calls--;
    return MU_OK;
}

mu_status mu_tpl_loop_call(struct render *r, struct loop *l, const struct args *args,
                           struct value *out)
{
    if (!l->node->recursive)
        return mu_tpl_fail(r, "the loop must be marked recursive to be called");
    if (args->n != 1 || args->n_named) return mu_tpl_fail(r, "a loop is called with one iterable");
    size_t from = mu_tpl_capture(r);
    MU_TRY(mu_tpl_enter(r));
    MU_TRY(loop_call(r, l->scope->outer, l->node, args->v[0], l->depth0 + 1));
    mu_tpl_leave(r);
    return mu_tpl_captured(r, from, out);
}

static mu_status exec_for(struct render *r, struct scope *s, const struct node *n)
{
    struct value over;
    MU_TRY(mu_tpl_eval(r, s, n->b, &over));
    return n->recursive ? loop_call(r, s, n, over, 0) : loop_run(r, s, n, over, 0);
}

/* Macros */

static mu_status macro_keyword(struct render *r, const struct closure *m, struct scope *s,
                               const struct named *a)
{
    const struct function *f = m->node->function;
    for (const struct node *p = m->node->a; p; p = p->next) {
        struct value *slot = mu_tpl_slot(s, p->ref);
        if (!mu_str_equal(p->text, a->name) || slot->kind != V_MISSING) continue;
        *slot = a->value;
        return MU_OK;
    }
    if (f->caller.kind && mu_str_is(a->name, "caller")) {
        *mu_tpl_slot(s, f->caller) = a->value;
        return MU_OK;
    }
    if (f->kwargs.kind)
        return mu_tpl_dict_set(r, mu_tpl_slot(s, f->kwargs)->dict, mu_tpl_str(a->name), a->value);
    return mu_tpl_fail(r, "macro '%.*s' takes no keyword argument '%.*s'", (int)m->node->text.len,
                       m->node->text.p, (int)MU_MIN(a->name.len, 40), a->name.p);
}

/* Parameters that got nothing take their default, or become undefined. */
static mu_status macro_defaults(struct render *r, const struct closure *m, struct scope *s)
{
    const struct function *f = m->node->function;
    const struct node *fallback = m->node->c;
    uint32_t i = 0;
    for (const struct node *p = m->node->a; p; p = p->next, i++) {
        struct value *slot = mu_tpl_slot(s, p->ref);
        bool has_default = i >= f->n_params - f->n_defaults;
        if (slot->kind == V_MISSING && has_default) {
            MU_TRY(mu_tpl_eval(r, s, fallback, slot));
        } else if (slot->kind == V_MISSING) {
            const char *hint = mu_arena_printf(r->arena, "parameter '%.*s' was not provided",
                                               (int)p->text.len, p->text.p);
            MU_TRY(mu_tpl_undefined_hint(r, hint ? hint : "a parameter was not provided", slot));
        }
        if (has_default) fallback = fallback->next;
    }
    return MU_OK;
}

static mu_status macro_arguments(struct render *r, const struct closure *m, struct scope *s,
                                 const struct args *args)
{
    const struct node *n = m->node;
    const struct function *f = n->function;
    uint32_t used = 0;
    for (const struct node *p = n->a; p; p = p->next) {
        struct value *slot = mu_tpl_slot(s, p->ref);
        *slot = used < args->n ? args->v[used] : (struct value){.kind = V_MISSING};
        used += used < args->n;
    }
    if (used < args->n && !f->varargs.kind)
        return mu_tpl_fail(r, "macro '%.*s' takes not more than %u argument(s)", (int)n->text.len,
                           n->text.p, f->n_params);
    if (f->varargs.kind) {
        struct value *slot = mu_tpl_slot(s, f->varargs);
        *slot = mu_tpl_list(args->v ? args->v + used : NULL, args->n - used);
        slot->kind = V_TUPLE;
    }
    if (f->kwargs.kind) MU_TRY(mu_tpl_dict(r, mu_tpl_slot(s, f->kwargs)));
    if (f->caller.kind)
        MU_TRY(mu_tpl_undefined_hint(r, "no caller defined", mu_tpl_slot(s, f->caller)));
    for (uint32_t i = 0; i < args->n_named; i++)
        MU_TRY(macro_keyword(r, m, s, &args->named[i]));
    return MU_OK;
}

mu_status mu_tpl_macro(struct render *r, const struct closure *m, const struct args *args,
                       struct value *out)
{
    const struct node *n = m->node;
    struct scope *s;
    MU_TRY(call_enter(r));
    MU_TRY(scope_new(r, m->scope, n->function->n_slots, &s));
    frame_begin(r, s, &n->function->frame);
    MU_TRY(macro_arguments(r, m, s, args));
    MU_TRY(macro_defaults(r, m, s));
    size_t from = mu_tpl_capture(r);
    MU_TRY(mu_tpl_exec(r, s, n->d));
    r->calls--;
    return mu_tpl_captured(r, from, out);
}

static mu_status closure_new(struct render *r, struct scope *s, const struct node *n,
                             struct value *out)
{
    struct closure *m;
    MU_TRY(mu_tpl_alloc(r, 1, sizeof *m, &m));
    *m = (struct closure){n, s};
    *out = (struct value){.kind = V_MACRO, .closure = m};
    return MU_OK;
}

static mu_status exec_macro(struct render *r, struct scope *s, const struct node *n)
{
    struct value m;
    MU_TRY(closure_new(r, s, n, &m));
    return assign(r, s, n->b, m);
}

static mu_status exec_call_block(struct render *r, struct scope *s, const struct node *n)
{
    struct value caller, callee, text;
    struct args args = {0};
    MU_TRY(closure_new(r, s, n, &caller));
    if (!n->b) { /* generation: nothing but its body, with variables of its own */
        MU_TRY(mu_tpl_macro(r, caller.closure, &args, &text));
        return mu_tpl_print(r, text);
    }
    MU_TRY(mu_tpl_eval(r, s, n->b->a, &callee));
    MU_TRY(mu_tpl_eval_args(r, s, n->b->b, &args));
    struct named *named;
    MU_TRY(mu_tpl_alloc(r, args.n_named + 1, sizeof *named, &named));
    if (args.n_named) memcpy(named, args.named, args.n_named * sizeof *named);
    named[args.n_named++] = (struct named){MU_STR("caller"), caller};
    args.named = named;
    r->at = n->b;
    MU_TRY(mu_tpl_call(r, callee, &args, &text));
    return mu_tpl_print(r, text);
}

typedef mu_status (*exec_fn)(struct render *r, struct scope *s, const struct node *n);

mu_status mu_tpl_exec(struct render *r, struct scope *s, const struct node *body)
{
    static const exec_fn table[] = {
        [N_TEXT] = exec_text,
        [N_PRINT] = exec_print,
        [N_IF] = exec_if,
        [N_FOR] = exec_for,
        [N_SET] = exec_set,
        [N_SET_BLOCK] = exec_set_block,
        [N_MACRO] = exec_macro,
        [N_CALL_BLOCK] = exec_call_block,
        [N_FILTER_BLOCK] = exec_filter_block,
        [N_WITH] = exec_with,
        [N_BREAK] = exec_jump,
        [N_CONTINUE] = exec_jump,
    };
    MU_TRY(mu_tpl_enter(r));
    for (const struct node *n = body; n && !r->jump; n = n->next) {
        MU_ASSERT(n->kind < MU_ARRAY_LEN(table) && table[n->kind]);
        MU_TRY(mu_tpl_charge(r, 1));
        MU_TRY(table[n->kind](r, s, n));
    }
    mu_tpl_leave(r);
    return MU_OK;
}
