/*
 * The insides of the template interpreter, shared by template*.c and nobody else.
 *
 *     source -> tokens (lex) -> tree (parse, parse_expr) -> names to slots (scope)     compile
 *     tree x variables -> text (exec, eval, value, print, number, filter, test,
 *     method, format)                                                                render
 *
 * Compiled trees live in the template's arena and never change. All values of a render live in its
 * arena and die with it; strings of the template and of the variables are borrowed.
 */
#ifndef MU_TEXT_TEMPLATE_INT_H
#define MU_TEXT_TEMPLATE_INT_H

#include "text/template.h"

#include "base/alloc.h"

/* 128 bits hold every integer that templates were seen to use; beyond is refused, not rounded. */
typedef __int128 mu_tpl_wide;

enum value_kind {
    V_MISSING, /* a variable that was not set; reading it gives V_UNDEFINED */
    V_UNDEFINED,
    V_NONE,
    V_BOOL,
    V_INT,
    V_WIDE, /* an integer outside 64 bits */
    V_FLOAT,
    V_STRING,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_VIEW, /* keys(), values(), items() of a dict */
    V_RANGE,
    V_GENERATOR,
    V_NAMESPACE,
    V_LOOP,
    V_MACRO,
    V_FUNCTION,
    V_METHOD,
};

enum view_kind { VIEW_KEYS, VIEW_VALUES, VIEW_ITEMS };
enum function_id { FN_RANGE, FN_DICT, FN_NAMESPACE, FN_RAISE, FN_STRFTIME, FN_COUNT };

/* The flag of a tuple that groupby made, whose parts have names. */
#define TUPLE_GROUP 1

struct value {
    uint8_t kind;
    uint8_t flag; /* strings: markup already escaped; views: enum view_kind; tuples: TUPLE_GROUP */
    uint32_t len; /* bytes of a string; items of a list, tuple or range */
    union {
        bool b;
        int64_t i;
        double f;
        const char *s;
        const mu_tpl_wide *wide;
        const struct value *items;
        struct dict *dict; /* also of a view and of a namespace */
        const struct range *range;
        struct generator *generator;
        const struct undefined *undefined;
        struct loop *loop;
        const struct closure *closure;
        enum function_id function;
        const struct bound *bound;
    };
};

struct dict_entry {
    struct value key, value;
};

/* Keeps the order of insertion; `index` (made when first needed) is a table of entry numbers + 1.
 */
struct dict {
    struct dict_entry *entries;
    uint32_t n, room;
    uint32_t *index, index_size;
};

struct range {
    int64_t start, stop, step;
};

/* What map, select, reverse, ... give: can be walked once. */
struct generator {
    const char *type; /* its Python type, for messages */
    const struct value *items;
    uint32_t n, at;
};

/* Why a value is undefined, kept to be told when it is used. */
struct undefined {
    enum { WHY_NAME, WHY_MEMBER, WHY_HINT, WHY_UNSAFE } why;
    struct value object, name;
    const char *hint;
};

struct bound {
    struct value object;
    const struct builtin *method;
};

/* Walks whatever can be iterated; filled by mu_tpl_iterate. */
struct walk {
    struct value over;
    uint32_t at, n;
    const char *p;
};

struct loop {
    struct walk walk;
    struct value current, previous, next; /* V_MISSING where there is none */
    bool peeked;                          /* `next` was drawn already */
    bool filtered;                        /* what is left has passed the filter */
    uint32_t index0, length;              /* length is UINT32_MAX until asked for */
    struct value changed;
    unsigned depth0;
    const struct node *node;
    struct scope *scope; /* of the loop's filter and, when recursive, of its body */
};

/* A macro, or the body of a call block, with the variables it sees. */
struct closure {
    const struct node *node;
    struct scope *scope;
};

/* The variables of one call of a function (the template itself, a macro, a recursive loop). */
struct scope {
    struct scope *outer;
    struct value slots[];
};

/* Where a name's value is: in a slot of the scope `hops` outwards, or among the variables. */
enum ref_kind { REF_NONE, REF_SLOT, REF_CONTEXT };
struct ref {
    uint8_t kind, hops;
    uint32_t slot;
};

/* Slots filled whenever a frame (loop body, block, macro) is entered. */
struct load {
    uint32_t slot;
    struct ref from; /* REF_NONE: becomes missing */
};
struct frame {
    struct load *loads;
    uint32_t n_loads;
};

enum node_kind {
    N_CONST,
    N_NAME,
    N_LIST,
    N_TUPLE,
    N_DICT, /* a: key, value, key, value ... */
    N_NOT,
    N_NEG,
    N_POS,
    N_BINARY,
    N_CONCAT,
    N_COMPARE, /* a: first operand, b: operands with their op */
    N_OPERAND,
    N_AND,
    N_OR,
    N_IF_ELSE, /* a if b else c */
    N_ATTR,    /* a . text */
    N_ITEM,    /* a [b] */
    N_SLICE,   /* a [b : c : d] */
    N_CALL,    /* a (b: args) */
    N_ARG,     /* a: value; text: keyword; op: ARG_ */
    N_FILTER,  /* a | spec (b: args) */
    N_TEST,    /* a is spec (b: args) */
    N_MEMBER,  /* target ns.attr: a the name, text */
    N_TEXT,
    N_PRINT,        /* a: expressions */
    N_IF,           /* a: test, b: body, c: else */
    N_FOR,          /* a: target, b: iterated, c: filter, d: body, e: else */
    N_SET,          /* a: target, b: value */
    N_SET_BLOCK,    /* a: target, c: filters over NULL, d: body */
    N_MACRO,        /* a: parameters, c: defaults (of the last ones), d: body, text */
    N_CALL_BLOCK,   /* the same, and b: the call; NULL: generation */
    N_FILTER_BLOCK, /* c: filters over NULL, d: body */
    N_WITH,         /* a: targets, b: values, d: body */
    N_BREAK,
    N_CONTINUE,
};

enum arg_kind { ARG_POSITION, ARG_KEYWORD, ARG_STAR, ARG_STAR_STAR };

enum op {
    OP_ADD,
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_FLOOR,
    OP_MOD,
    OP_POW,
    OP_EQ,
    OP_NE,
    OP_LT,
    OP_LE,
    OP_GT,
    OP_GE,
    OP_IN,
    OP_NOT_IN,
};

struct node {
    uint8_t kind, op;
    bool recursive;  /* for */
    uint16_t height; /* of the tree below: bounds the recursion of every walk over it */
    uint32_t at;     /* byte of the source */
    struct node *next;
    struct node *a, *b, *c, *d, *e;
    struct value value; /* constants */
    struct mu_str text; /* names, attributes, keywords; data */
    union {
        struct ref ref;                /* names */
        const struct builtin *builtin; /* filters and tests; NULL: not known, fails when reached */
        struct function *function;     /* for, macro, call block */
        struct frame *frame;           /* other blocks */
    };
};

/* What the blocks that own variables need beside their tree. */
struct function {
    struct frame frame, test_frame, else_frame;
    uint32_t n_slots; /* of macros and recursive loops, which are scopes of their own */
    struct ref loop, caller, varargs, kwargs; /* slots of the special names; REF_NONE: unused */
    struct node *test_target;                 /* a second copy: the filter runs ahead of the body */
    uint32_t n_params, n_defaults;
};

struct mu_template {
    struct mu_arena *arena;
    struct mu_str source;
    const char *name;
    struct node *body;
    struct frame frame;
    uint32_t n_slots;
    struct mu_str *context; /* names looked up among the variables */
    uint32_t n_context;
};

/* Compiling */

#define MU_TPL_HEIGHT_MAX 400
#define MU_TPL_NEST_MAX   100

enum token_kind {
    T_END,
    T_DATA,
    T_PRINT_BEGIN,
    T_PRINT_END,
    T_BLOCK_BEGIN,
    T_BLOCK_END,
    T_NAME,
    T_STRING,
    T_INT,
    T_FLOAT,
    T_OP, /* text is the operator */
};

struct token {
    enum token_kind kind;
    uint32_t at;
    struct mu_str text;
};

struct lexer {
    struct mu_str source;
    size_t pos;
    enum { LEX_DATA, LEX_PRINT, LEX_BLOCK } state;
    bool line_starting;
    struct token pending; /* the tag's begin, after its text */
    bool has_pending;
    char brackets[MU_TPL_NEST_MAX];
    unsigned n_brackets;
};

struct parser {
    struct mu_template *t;
    struct lexer lex;
    struct token now, ahead;
    unsigned depth, loops; /* of nesting, of loops that a jump may mean */
    struct mu_err *err;
};

mu_status mu_tpl_lex(struct parser *p, struct token *out);

mu_status mu_tpl_parse(struct parser *p);
mu_status mu_tpl_advance(struct parser *p);
/* Says where in the template the error that was filled lies. */
void mu_tpl_where(const struct mu_template *t, uint32_t at, struct mu_err *err);
#define mu_tpl_syntax(p, at, ...)                                                                  \
    ((void)mu_fail((p)->err, MU_E_INPUT, __VA_ARGS__), mu_tpl_where((p)->t, at, (p)->err),         \
     MU_E_INPUT)

mu_status mu_tpl_node(struct parser *p, enum node_kind kind, uint32_t at, struct node **out);
/* Sets the height of `n` from the lists below it. */
mu_status mu_tpl_measure(struct parser *p, struct node *n);
bool mu_tpl_at(const struct parser *p, enum token_kind kind, const char *text);
/* Fails, naming what is there instead. */
mu_status mu_tpl_unexpected(struct parser *p, const char *wanted);
mu_status mu_tpl_expect(struct parser *p, enum token_kind kind, const char *text);
mu_status mu_tpl_skip(struct parser *p, enum token_kind kind, const char *text, bool *found);

enum { TUPLE_NO_IF = 1, TUPLE_PARENS = 2 };
mu_status mu_tpl_parse_tuple(struct parser *p, unsigned how, const char *end_word,
                             struct node **out);
mu_status mu_tpl_parse_expression(struct parser *p, struct node **out);
/* One filter or several; `*io` NULL stands for the text of a block. `inline_start`: the first has
 * no bar before it. */
mu_status mu_tpl_parse_filters(struct parser *p, bool inline_start, struct node **io);

mu_status mu_tpl_resolve(struct mu_template *t, struct mu_err *err);

/* Rendering */

#define MU_TPL_DEPTH_MAX 1500 /* nested C calls that walk trees or values */

enum jump { JUMP_NONE, JUMP_BREAK, JUMP_CONTINUE };

struct render {
    const struct mu_template *t;
    struct mu_arena *arena;
    const struct mu_template_limits *limits;
    struct mu_text *out;
    size_t out_start;
    struct value *context;
    const char *now;
    uint64_t steps, next_clock, end_ns, seed;
    unsigned depth, calls;
    enum jump jump;
    const struct node *at;   /* for errors */
    struct value block_text; /* what a block's filters apply to */
    struct grown {           /* strings that grew last and have room to grow further */
        char *p;
        size_t used, room;
    } grown[4];
    unsigned next_grown;
    struct mu_err *err;
};

struct named {
    struct mu_str name;
    struct value value;
};

/* The arguments of a call, evaluated. */
struct args {
    struct value *v;
    struct named *named;
    uint32_t n, n_named;
};

#define MU_TPL_PARAMS_MAX 6

/* A filter or test gets its operand and then its parameters in order, V_MISSING where not given.
 * With params "*" it gets `args` as they are. */
struct call {
    struct value self;
    const struct value *v;
    const struct args *args;
    int how;
};
typedef mu_status (*mu_tpl_fn)(struct render *r, const struct call *c, struct value *out);

/* A filter, a test or a method. */
struct builtin {
    const char *name, *params; /* "width,first"; parameters before ';' are required */
    mu_tpl_fn fn;              /* NULL: a method that changes its object, which the sandbox hides */
    int how;                   /* which of the several that share `fn` */
};

#define mu_tpl_fail(r, ...)                                                                        \
    ((void)mu_fail((r)->err, MU_E_INPUT, __VA_ARGS__),                                             \
     mu_tpl_where((r)->t, (r)->at ? (r)->at->at : 0, (r)->err), MU_E_INPUT)
mu_status mu_tpl_fail_undefined(struct render *r, struct value v);
mu_status mu_tpl_charge(struct render *r, uint64_t steps);
mu_status mu_tpl_enter(struct render *r);
static inline void mu_tpl_leave(struct render *r)
{
    r->depth--;
}
/* Fails when the output outgrew its limit or memory. */
mu_status mu_tpl_output_status(struct render *r);
mu_status mu_tpl_alloc(struct render *r, size_t n, size_t size, void *out);

/* Values */

#define MU_TPL_NONE ((struct value){.kind = V_NONE})

static inline struct value mu_tpl_bool(bool b)
{
    return (struct value){.kind = V_BOOL, .b = b};
}
static inline struct value mu_tpl_int(int64_t i)
{
    return (struct value){.kind = V_INT, .i = i};
}
static inline struct value mu_tpl_float(double f)
{
    return (struct value){.kind = V_FLOAT, .f = f};
}
static inline struct value mu_tpl_str(struct mu_str s)
{
    return (struct value){.kind = V_STRING, .len = (uint32_t)s.len, .s = s.p};
}
static inline struct value mu_tpl_list(const struct value *items, uint32_t n)
{
    return (struct value){.kind = V_LIST, .len = n, .items = items};
}
static inline struct mu_str mu_tpl_text(struct value v)
{
    return (struct mu_str){v.s, v.len};
}
static inline bool mu_tpl_is_int(struct value v)
{
    return v.kind == V_INT || v.kind == V_BOOL;
}

const char *mu_tpl_type(struct value v);
bool mu_tpl_truth(struct value v);
mu_status mu_tpl_equal(struct render *r, struct value a, struct value b, bool *out);
/* -1, 0, 1; an error where Python has no order. `op` is for the message. */
mu_status mu_tpl_compare(struct render *r, struct value a, struct value b, const char *op,
                         int *out);
mu_status mu_tpl_contains(struct render *r, struct value in, struct value item, bool *out);
mu_status mu_tpl_length(struct render *r, struct value v, uint32_t *out);
mu_status mu_tpl_undefined(struct render *r, struct value object, struct value name,
                           struct value *out);
mu_status mu_tpl_undefined_name(struct render *r, struct mu_str name, struct value *out);
/* What the sandbox gives instead of what it hides: an error once it is used. */
mu_status mu_tpl_unsafe(struct render *r, struct value object, struct mu_str name,
                        struct value *out);
mu_status mu_tpl_undefined_hint(struct render *r, const char *hint, struct value *out);

mu_status mu_tpl_iterate(struct render *r, struct value over, struct walk *w);
/* False at the end. */
mu_status mu_tpl_walk(struct render *r, struct walk *w, struct value *item, bool *more);
/* Everything that can be iterated, as a list. */
mu_status mu_tpl_items(struct render *r, struct value over, struct value *list);
mu_status mu_tpl_generator(struct render *r, const char *type, struct value list,
                           struct value *out);

mu_status mu_tpl_dict(struct render *r, struct value *out);
/* Room for so many entries in all. */
mu_status mu_tpl_dict_reserve(struct render *r, struct dict *d, uint32_t room);
mu_status mu_tpl_dict_set(struct render *r, struct dict *d, struct value key, struct value v);
mu_status mu_tpl_dict_get(struct render *r, struct dict *d, struct value key,
                          const struct value **out);
mu_status mu_tpl_from_json(struct render *r, json_t *json, struct value *out);

/* The number of code points, and the byte at which the n-th starts (at most the length). */
uint32_t mu_tpl_points(struct mu_str s);
size_t mu_tpl_point_at(struct mu_str s, uint32_t n);
mu_status mu_tpl_slice(struct render *r, struct value v, const struct value bounds[3],
                       struct value *out);

/* Text made by writing to the render's output and taking it back off. */
size_t mu_tpl_capture(const struct render *r);
mu_status mu_tpl_captured(struct render *r, size_t from, struct value *out);
mu_status mu_tpl_joined(struct render *r, struct value a, struct value b, struct value *out);

/* Printing: str(), repr() and JSON, appended to the output. */
struct json_style {
    bool ensure_ascii, sort_keys;
    struct mu_str item, key; /* separators */
    struct mu_str indent;    /* of one level */
    bool lines;
};
mu_status mu_tpl_print(struct render *r, struct value v);
mu_status mu_tpl_repr(struct render *r, struct value v);
mu_status mu_tpl_json(struct render *r, struct value v, const struct json_style *style,
                      unsigned level);
/* The entries sorted by key. */
mu_status mu_tpl_sorted_entries(struct render *r, const struct dict *d,
                                const struct dict_entry **out);

struct sortable {
    struct value key, item;
};
/* Stable. */
mu_status mu_tpl_sort(struct render *r, struct sortable *items, uint32_t n, bool reverse);
/* str() as a string; strings stay themselves. */
mu_status mu_tpl_string(struct render *r, struct value v, struct value *out);
mu_status mu_tpl_escape(struct render *r, struct value v, struct value *out);

/* Numbers */
mu_status mu_tpl_binary(struct render *r, enum op op, struct value a, struct value b,
                        struct value *out);
mu_status mu_tpl_negate(struct render *r, struct value v, bool negative, struct value *out);
bool mu_tpl_number(struct value v, double *out);
bool mu_tpl_wide_of(struct value v, mu_tpl_wide *out);
mu_status mu_tpl_from_wide(struct render *r, mu_tpl_wide w, struct value *out);
/* An integer literal: "1_000", "0x1f". With `base` 0 prefixes count; false when it is none. */
bool mu_tpl_parse_int(struct mu_str s, int base, mu_tpl_wide *out);

/* Text */
bool mu_tpl_is_space(uint32_t code_point);
struct mu_str mu_tpl_strip(struct mu_str s, const struct mu_str *chars, bool left, bool right);
enum case_change { CASE_UPPER, CASE_LOWER, CASE_TITLE, CASE_CAPITALIZE, CASE_SWAP, CASE_WORDS };
mu_status mu_tpl_case(struct render *r, struct value v, enum case_change how, struct value *out);
bool mu_tpl_all_case(struct mu_str s, bool upper);
mu_status mu_tpl_replace(struct render *r, struct mu_str s, struct mu_str from, struct mu_str to,
                         int64_t count, struct value *out);
/* The lines of a text, as str.splitlines. */
mu_status mu_tpl_lines(struct render *r, struct mu_str s, bool keep_ends, struct value *out);
mu_status mu_tpl_percent(struct render *r, struct value format, struct value args,
                         struct value *out);
mu_status mu_tpl_brace_format(struct render *r, const struct call *c, struct value *out);
mu_status mu_tpl_strftime(struct render *r, struct value format, struct value *out);

/* Evaluating */
mu_status mu_tpl_eval(struct render *r, struct scope *s, const struct node *n, struct value *out);
mu_status mu_tpl_compare_op(struct render *r, enum op op, struct value a, struct value b,
                            struct value *out);
mu_status mu_tpl_eval_args(struct render *r, struct scope *s, const struct node *args,
                           struct args *out);
mu_status mu_tpl_attr(struct render *r, struct value object, struct mu_str name, struct value *out);
mu_status mu_tpl_item(struct render *r, struct value object, struct value key, struct value *out);
mu_status mu_tpl_call(struct render *r, struct value callee, const struct args *args,
                      struct value *out);
/* Spreads arguments over the parameters that `params` names. */
mu_status mu_tpl_bind(struct render *r, const char *name, const char *params,
                      const struct args *args, struct value v[MU_TPL_PARAMS_MAX]);
mu_status mu_tpl_apply(struct render *r, const struct builtin *b, struct value self,
                       const struct args *args, struct value *out);

mu_status mu_tpl_exec(struct render *r, struct scope *s, const struct node *body);
mu_status mu_tpl_macro(struct render *r, const struct closure *m, const struct args *args,
                       struct value *out);
mu_status mu_tpl_loop_attr(struct render *r, struct loop *l, struct mu_str name, struct value *out);
mu_status mu_tpl_loop_call(struct render *r, struct loop *l, const struct args *args,
                           struct value *out);
mu_status mu_tpl_loop_cycle(struct render *r, const struct call *c, struct value *out);
mu_status mu_tpl_loop_changed(struct render *r, const struct call *c, struct value *out);
struct value *mu_tpl_slot(struct scope *s, struct ref ref);

/* item.a.0.b: the value that an attribute argument names; what is no name or index names the item.
 */
mu_status mu_tpl_attribute(struct render *r, struct value item, struct value attribute,
                           struct value *out);
mu_status mu_tpl_filter_sort(struct render *r, const struct call *c, struct value *out);
mu_status mu_tpl_filter_dictsort(struct render *r, const struct call *c, struct value *out);
mu_status mu_tpl_filter_unique(struct render *r, const struct call *c, struct value *out);
mu_status mu_tpl_filter_extreme(struct render *r, const struct call *c, struct value *out);
mu_status mu_tpl_filter_groupby(struct render *r, const struct call *c, struct value *out);
const struct builtin *mu_tpl_filter_find(struct mu_str name);
const struct builtin *mu_tpl_test_find(struct mu_str name);
const struct builtin *mu_tpl_method_find(struct value object, struct mu_str name);
mu_status mu_tpl_function(struct render *r, enum function_id id, const struct args *args,
                          struct value *out);

#endif
