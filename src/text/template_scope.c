/*
 * Chat templates, third stage: which slot every name means. Follows Jinja's own analysis, in which
 * a block's variables are decided before it runs: a name that a block sets is the block's own and
 * starts as a copy of the outer one; a name that is only read is the outer one, or among the
 * variables of the call. Called by mu_template_compile.
 */
#include "text/template_int.h"

struct name {
    struct name *next; /* in its bucket */
    struct mu_str text;
    struct ref ref; /* what the name means here; hops unused */
    unsigned depth; /* of the function that owns the slot */
    uint32_t context;
    uint32_t frame;  /* the frame that collected it last, and where */
    uint32_t symbol; /* in resolver.symbols */
};

struct symbol {
    struct name *name;
    bool parameter, stored;
    bool set_first; /* its first mention sets it, in no branch */
    struct ref outer_ref;
    unsigned outer_depth;
    uint32_t outer_frame, outer_symbol;
};

#define BUCKETS 256

struct resolver {
    struct mu_template *t;
    struct mu_arena *arena; /* dies with the resolver */
    struct name *buckets[BUCKETS];
    struct symbol *symbols;                  /* of the frames that are open, innermost last */
    uint32_t n_symbols, symbols_room, first; /* where the innermost frame's begin */
    uint32_t frame, n_frames, n_slots;
    unsigned depth, branches, soft;
    struct mu_err *err;
};

static mu_status name_intern(struct resolver *s, struct mu_str text, struct name **out)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < text.len; i++)
        hash = (hash ^ (unsigned char)text.p[i]) * 16777619u;
    struct name **bucket = &s->buckets[hash % BUCKETS];
    for (struct name *n = *bucket; n; n = n->next)
        if (mu_str_equal(n->text, text)) {
            *out = n;
            return MU_OK;
        }
    struct name *n = mu_arena_alloc(s->arena, 1, sizeof *n);
    if (!n) return mu_fail_memory(s->err, sizeof *n);
    *n = (struct name){.next = *bucket, .text = text, .context = UINT32_MAX};
    *out = *bucket = n;
    return MU_OK;
}

/* The entry of a name in the frame that is being collected. */
static mu_status symbol_of(struct resolver *s, struct mu_str text, struct symbol **out, bool *first)
{
    struct name *name;
    MU_TRY(name_intern(s, text, &name));
    *first = name->frame != s->frame;
    if (*first) {
        if (s->n_symbols == s->symbols_room) {
            uint32_t room = s->symbols_room ? s->symbols_room * 2 : 64;
            struct symbol *grown = mu_realloc(s->symbols, room * sizeof *grown);
            if (!grown) return mu_fail_memory(s->err, room * sizeof *grown);
            s->symbols = grown;
            s->symbols_room = room;
        }
        s->symbols[s->n_symbols] = (struct symbol){.name = name,
                                                   .outer_ref = name->ref,
                                                   .outer_depth = name->depth,
                                                   .outer_frame = name->frame,
                                                   .outer_symbol = name->symbol};
        name->frame = s->frame;
        name->symbol = s->n_symbols++;
    }
    if (!s->symbols) return mu_fail(s->err, MU_E_INTERNAL, "a name was met before any symbol");
    *out = &s->symbols[name->symbol];
    return MU_OK;
}

static mu_status collect_load(struct resolver *s, struct mu_str name)
{
    struct symbol *symbol;
    bool first;
    return symbol_of(s, name, &symbol, &first);
}

static mu_status collect_store(struct resolver *s, struct mu_str name)
{
    struct symbol *symbol;
    bool first;
    MU_TRY(symbol_of(s, name, &symbol, &first));
    symbol->stored = true;
    if (first) symbol->set_first = s->branches == 0;
    return MU_OK;
}

static mu_status collect_parameter(struct resolver *s, struct mu_str name)
{
    struct symbol *symbol;
    bool first;
    MU_TRY(symbol_of(s, name, &symbol, &first));
    symbol->parameter = true;
    return MU_OK;
}

typedef mu_status (*name_fn)(struct resolver *s, struct mu_str name);

/* The names that a target sets; a namespace whose member is set is only read. */
static mu_status collect_target(struct resolver *s, const struct node *n, name_fn fn)
{
    for (; n; n = n->next) {
        if (n->kind == N_TUPLE)
            MU_TRY(collect_target(s, n->a, fn));
        else
            MU_TRY(n->kind == N_MEMBER ? collect_load(s, n->a->text) : fn(s, n->text));
    }
    return MU_OK;
}

static mu_status collect(struct resolver *s, const struct node *list);

static mu_status collect_children(struct resolver *s, const struct node *n)
{
    struct node *const below[] = {n->a, n->b, n->c, n->d, n->e};
    for (unsigned i = 0; i < MU_ARRAY_LEN(below); i++)
        if (below[i]) MU_TRY(collect(s, below[i]));
    return MU_OK;
}

static mu_status collect_if(struct resolver *s, const struct node *n)
{
    MU_TRY(collect(s, n->a));
    s->branches++;
    MU_TRY(collect(s, n->b));
    MU_TRY(collect(s, n->e));
    MU_TRY(collect(s, n->c));
    s->branches--;
    return MU_OK;
}

/* What a list of nodes reads and sets in its own frame: blocks with frames of their own count only
 * by what is evaluated outside of them. */
static mu_status collect(struct resolver *s, const struct node *list)
{
    for (const struct node *n = list; n; n = n->next) {
        switch ((enum node_kind)n->kind) {
        case N_NAME:
            MU_TRY(collect_load(s, n->text));
            break;
        case N_IF:
            MU_TRY(collect_if(s, n));
            break;
        case N_SET:
            MU_TRY(collect(s, n->b));
            MU_TRY(collect_target(s, n->a, collect_store));
            break;
        case N_SET_BLOCK:
            MU_TRY(collect_target(s, n->a, collect_store));
            break;
        case N_MACRO:
            MU_TRY(collect_store(s, n->text));
            break;
        case N_FOR:
        case N_CALL_BLOCK:
        case N_WITH:
            MU_TRY(collect(s, n->b));
            break;
        case N_FILTER_BLOCK:
            MU_TRY(collect(s, n->c));
            break;
        case N_CONST:
        case N_TEXT:
        case N_BREAK:
        case N_CONTINUE:
            break;
        case N_LIST:
        case N_TUPLE:
        case N_DICT:
        case N_NOT:
        case N_NEG:
        case N_POS:
        case N_BINARY:
        case N_CONCAT:
        case N_COMPARE:
        case N_OPERAND:
        case N_AND:
        case N_OR:
        case N_IF_ELSE:
        case N_ATTR:
        case N_ITEM:
        case N_SLICE:
        case N_CALL:
        case N_ARG:
        case N_FILTER:
        case N_TEST:
        case N_MEMBER:
        case N_PRINT:
            MU_TRY(collect_children(s, n));
            break;
        }
    }
    return MU_OK;
}

/* What was current before a frame or function was opened. */
struct opened {
    uint32_t first, frame;
    unsigned branches, soft;
    uint32_t n_slots; /* of the outer function */
};

static struct opened frame_open(struct resolver *s)
{
    struct opened before = {s->first, s->frame, s->branches, s->soft, s->n_slots};
    s->first = s->n_symbols;
    s->frame = ++s->n_frames;
    s->branches = s->soft = 0;
    return before;
}

static struct opened function_open(struct resolver *s)
{
    struct opened before = frame_open(s);
    s->depth++;
    s->n_slots = 0;
    return before;
}

static struct ref ref_here(const struct resolver *s, struct ref ref, unsigned depth)
{
    ref.hops = ref.kind == REF_SLOT ? (uint8_t)(s->depth - depth) : 0;
    return ref;
}

static mu_status context_ref(struct resolver *s, struct name *name, struct ref *out)
{
    struct mu_template *t = s->t;
    if (name->context == UINT32_MAX) {
        if ((t->n_context & (t->n_context - 1)) == 0) { /* a power of two is full */
            struct mu_str *grown =
                mu_arena_alloc(t->arena, t->n_context ? 2 * t->n_context : 1, sizeof *grown);
            if (!grown) return mu_fail_memory(s->err, t->n_context * sizeof *grown);
            if (t->n_context) memcpy(grown, t->context, t->n_context * sizeof *grown);
            t->context = grown;
        }
        name->context = t->n_context;
        t->context[t->n_context++] = name->text;
    }
    *out = (struct ref){.kind = REF_CONTEXT, .slot = name->context};
    return MU_OK;
}

/* All is collected: gives each name its meaning, and the frame the loads that it begins with. */
static mu_status frame_seal(struct resolver *s, struct frame *frame)
{
    uint32_t n = s->n_symbols - s->first;
    frame->loads = mu_arena_alloc(s->t->arena, n, sizeof *frame->loads);
    if (!frame->loads) return mu_fail_memory(s->err, n * sizeof *frame->loads);
    for (uint32_t i = s->first; i < s->n_symbols; i++) {
        struct symbol *symbol = &s->symbols[i];
        struct name *name = symbol->name;
        bool own = symbol->parameter || symbol->stored;
        struct ref from = ref_here(s, symbol->outer_ref, symbol->outer_depth);
        if (from.kind == REF_NONE && !symbol->parameter && !(symbol->stored && symbol->set_first))
            MU_TRY(context_ref(s, name, &from));
        if (own) {
            name->ref = (struct ref){.kind = REF_SLOT, .slot = s->n_slots++};
            name->depth = s->depth;
            if (!symbol->parameter)
                frame->loads[frame->n_loads++] = (struct load){name->ref.slot, from};
        } else if (name->ref.kind == REF_NONE) {
            name->ref = from;
        }
    }
    return MU_OK;
}

static void frame_close(struct resolver *s, struct opened before)
{
    while (s->n_symbols > s->first) {
        struct symbol *symbol = &s->symbols[--s->n_symbols];
        symbol->name->ref = symbol->outer_ref;
        symbol->name->depth = symbol->outer_depth;
        symbol->name->frame = symbol->outer_frame;
        symbol->name->symbol = symbol->outer_symbol;
    }
    s->first = before.first;
    s->frame = before.frame;
    s->branches = before.branches;
    s->soft = before.soft;
}

static void function_close(struct resolver *s, struct opened before, uint32_t *n_slots)
{
    frame_close(s, before);
    *n_slots = s->n_slots;
    s->n_slots = before.n_slots;
    s->depth--;
}

static mu_status ref_of(struct resolver *s, struct mu_str text, struct ref *out)
{
    struct name *name;
    MU_TRY(name_intern(s, text, &name));
    *out = ref_here(s, name->ref, name->depth);
    return MU_OK;
}

static mu_status bind(struct resolver *s, struct node *list);

static mu_status bind_children(struct resolver *s, struct node *n)
{
    struct node *const below[] = {n->a, n->b, n->c, n->d, n->e};
    for (unsigned i = 0; i < MU_ARRAY_LEN(below); i++)
        if (below[i]) MU_TRY(bind(s, below[i]));
    return MU_OK;
}

static mu_status bind_for(struct resolver *s, struct node *n)
{
    struct function *f = n->function;
    MU_TRY(bind(s, n->b));
    struct opened function = {0}, frame;
    if (n->recursive) {
        struct frame none;
        function = function_open(s);
        MU_TRY(frame_seal(s, &none));
    }
    if (n->c) {
        frame = frame_open(s);
        MU_TRY(collect_target(s, f->test_target, collect_parameter));
        MU_TRY(collect(s, n->c));
        MU_TRY(frame_seal(s, &f->test_frame));
        MU_TRY(bind(s, f->test_target));
        MU_TRY(bind(s, n->c));
        frame_close(s, frame);
    }
    frame = frame_open(s);
    MU_TRY(collect_parameter(s, MU_STR("loop")));
    MU_TRY(collect_target(s, n->a, collect_parameter));
    MU_TRY(collect(s, n->d));
    MU_TRY(frame_seal(s, &f->frame));
    MU_TRY(ref_of(s, MU_STR("loop"), &f->loop));
    MU_TRY(bind(s, n->a));
    MU_TRY(bind(s, n->d));
    frame_close(s, frame);
    frame = frame_open(s);
    MU_TRY(collect(s, n->e));
    MU_TRY(frame_seal(s, &f->else_frame));
    MU_TRY(bind(s, n->e));
    frame_close(s, frame);
    if (n->recursive) function_close(s, function, &f->n_slots);
    return MU_OK;
}

/* Which of the names that macros get unasked are read below: bits 0 caller, 1 varargs, 2 kwargs. */
static unsigned specials_in(const struct node *list)
{
    static const char *const names[] = {"caller", "varargs", "kwargs"};
    unsigned found = 0;
    for (const struct node *n = list; n; n = n->next) {
        for (unsigned i = 0; i < MU_ARRAY_LEN(names); i++)
            if (n->kind == N_NAME && mu_str_is(n->text, names[i])) found |= 1u << i;
        found |= specials_in(n->a) | specials_in(n->b) | specials_in(n->c) | specials_in(n->d) |
                 specials_in(n->e);
    }
    return found;
}

static bool has_parameter(const struct node *n, const char *name)
{
    for (const struct node *p = n->a; p; p = p->next)
        if (mu_str_is(p->text, name)) return true;
    return false;
}

static mu_status bind_function(struct resolver *s, struct node *n)
{
    struct function *f = n->function;
    struct {
        const char *name;
        struct ref *ref;
    } special[] = {{"caller", &f->caller}, {"varargs", &f->varargs}, {"kwargs", &f->kwargs}};
    unsigned wanted = specials_in(n->d);
    struct opened before = function_open(s);
    MU_TRY(collect_target(s, n->a, collect_parameter));
    MU_TRY(collect(s, n->c));
    MU_TRY(collect(s, n->d));
    for (unsigned i = 0; i < MU_ARRAY_LEN(special); i++) {
        if (has_parameter(n, special[i].name)) wanted &= ~(1u << i);
        if (wanted & 1u << i) MU_TRY(collect_parameter(s, mu_str(special[i].name)));
    }
    MU_TRY(frame_seal(s, &f->frame));
    for (unsigned i = 0; i < MU_ARRAY_LEN(special); i++)
        if (wanted & 1u << i) MU_TRY(ref_of(s, mu_str(special[i].name), special[i].ref));
    MU_TRY(bind(s, n->a));
    MU_TRY(bind(s, n->c));
    MU_TRY(bind(s, n->d));
    function_close(s, before, &f->n_slots);
    return MU_OK;
}

/* set and filter blocks, with: a frame of the same function around the body. */
static mu_status bind_block(struct resolver *s, struct node *n)
{
    MU_TRY(bind(s, n->b));
    if (n->kind == N_SET_BLOCK) MU_TRY(bind(s, n->a));
    struct opened before = frame_open(s);
    if (n->kind == N_WITH) MU_TRY(collect_target(s, n->a, collect_parameter));
    MU_TRY(collect(s, n->d));
    MU_TRY(collect(s, n->c));
    MU_TRY(frame_seal(s, n->frame));
    if (n->kind == N_WITH) MU_TRY(bind(s, n->a));
    MU_TRY(bind(s, n->d));
    MU_TRY(bind(s, n->c));
    frame_close(s, before);
    return MU_OK;
}

static mu_status fail_unknown(struct resolver *s, const struct node *n)
{
    (void)mu_fail(s->err, MU_E_INPUT, "unknown %s '%.*s'", n->kind == N_FILTER ? "filter" : "test",
                  (int)MU_MIN(n->text.len, 40), n->text.p);
    mu_tpl_where(s->t, n->at, s->err);
    return MU_E_INPUT;
}

static mu_status bind(struct resolver *s, struct node *list)
{
    for (struct node *n = list; n; n = n->next) {
        enum node_kind kind = (enum node_kind)n->kind;
        bool branch = kind == N_IF || kind == N_IF_ELSE;
        s->soft += branch;
        if ((kind == N_FILTER || kind == N_TEST) && !n->builtin && !s->soft)
            return fail_unknown(s, n);
        if (kind == N_NAME) {
            MU_TRY(ref_of(s, n->text, &n->ref));
        } else if (kind == N_FOR) {
            MU_TRY(bind_for(s, n));
        } else if (kind == N_MACRO || kind == N_CALL_BLOCK) {
            MU_TRY(bind(s, n->b));
            MU_TRY(bind_function(s, n));
        } else if (kind == N_SET_BLOCK || kind == N_FILTER_BLOCK || kind == N_WITH) {
            MU_TRY(bind_block(s, n));
        } else {
            MU_TRY(bind_children(s, n));
        }
        s->soft -= branch;
    }
    return MU_OK;
}

mu_status mu_tpl_resolve(struct mu_template *t, struct mu_err *err)
{
    struct resolver s = {.t = t, .err = err, .arena = mu_arena_create(SIZE_MAX)};
    mu_status status = s.arena ? MU_OK : mu_fail_memory(err, sizeof s);
    if (status != MU_OK) return status;
    struct opened before = frame_open(&s);
    MU_TRY_GOTO(status, collect(&s, t->body), out);
    MU_TRY_GOTO(status, frame_seal(&s, &t->frame), out);
    MU_TRY_GOTO(status, bind(&s, t->body), out);
    frame_close(&s, before);
    t->n_slots = s.n_slots;
out:
    mu_free(s.symbols);
    mu_arena_destroy(s.arena);
    return status;
}
