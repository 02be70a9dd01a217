/*
 * Chat templates: compiling, rendering, the limits of a render, the functions that templates may
 * call, and the variables a conversation turns into. See template.h and, for how the parts fit,
 * template_int.h. Any thread; a render belongs to one.
 */
#include "text/template_int.h"

#include "base/clock.h"
#include "base/utf8.h"

const struct mu_template_limits mu_template_limits_default = {.steps = 4000000,
                                                              .output_bytes = 16u << 20,
                                                              .memory_bytes = 256u << 20,
                                                              .calls = 100,
                                                              .wall_ms = 2000};

/* A source byte makes at most one token, and a token a few nodes. */
#define COMPILED_BYTES_MAX ((size_t)512 << 20)

/* Newlines become LF, and one at the end is dropped. */
static mu_status copy_source(struct mu_template *t, struct mu_str source, struct mu_err *err)
{
    char *copy = mu_arena_alloc(t->arena, source.len + 1, 1), *w = copy;
    if (!copy) return mu_fail_memory(err, source.len);
    for (size_t i = 0; i < source.len; i++) {
        bool pair = source.p[i] == '\r' && i + 1 < source.len && source.p[i + 1] == '\n';
        if (!pair) *w++ = source.p[i] == '\r' ? '\n' : source.p[i];
    }
    if (w > copy && w[-1] == '\n') w--;
    t->source = (struct mu_str){copy, (size_t)(w - copy)};
    return MU_OK;
}

static mu_status compile(struct mu_template *t, struct mu_str source, const char *name,
                         struct mu_err *err)
{
    t->name = mu_arena_strndup(t->arena, name, strlen(name));
    if (!t->name) return mu_fail_memory(err, strlen(name));
    MU_TRY(copy_source(t, source, err));
    struct parser p = {.t = t, .err = err, .lex = {.source = t->source, .line_starting = true}};
    MU_TRY(mu_tpl_parse(&p));
    return mu_tpl_resolve(t, err);
}

mu_status mu_template_compile(struct mu_str source, const char *name, struct mu_template **out,
                              struct mu_err *err)
{
    mu_status status = MU_OK;
    if (source.len > MU_TEMPLATE_SOURCE_MAX)
        status = mu_fail(err, MU_E_INPUT, "a template of over %zu bytes", MU_TEMPLATE_SOURCE_MAX);
    else if (!mu_utf8_valid(source))
        status = mu_fail(err, MU_E_INPUT, "the template is not UTF-8");
    if (status != MU_OK) {
        mu_err_where(err, "%s", name);
        return status;
    }
    struct mu_template *t = mu_calloc(1, sizeof *t);
    if (!t) return mu_fail_memory(err, sizeof *t);
    t->arena = mu_arena_create(COMPILED_BYTES_MAX);
    status = t->arena ? compile(t, source, name, err) : mu_fail_memory(err, sizeof *t);
    if (status != MU_OK) {
        mu_template_destroy(t);
        return status;
    }
    *out = t;
    return MU_OK;
}

void mu_template_destroy(struct mu_template *template)
{
    if (!template) return;
    mu_arena_destroy(template->arena);
    mu_free(template);
}

/* Limits */

mu_status mu_tpl_charge(struct render *r, uint64_t steps)
{
    r->steps += steps;
    if (MU_UNLIKELY(r->steps > r->limits->steps))
        return mu_tpl_fail(r, "the template takes more than %llu steps",
                           (unsigned long long)r->limits->steps);
    if (MU_LIKELY(r->steps < r->next_clock)) return MU_OK;
    r->next_clock = r->steps + 4096;
    if (mu_clock_ns() <= r->end_ns) return MU_OK;
    return mu_tpl_fail(r, "the template takes longer than %u ms", r->limits->wall_ms);
}

mu_status mu_tpl_enter(struct render *r)
{
    if (MU_LIKELY(++r->depth <= MU_TPL_DEPTH_MAX)) return MU_OK;
    return mu_tpl_fail(r, "more than %d levels of nesting", MU_TPL_DEPTH_MAX);
}

mu_status mu_tpl_alloc(struct render *r, size_t n, size_t size, void *out)
{
    void *p = mu_arena_alloc(r->arena, n, size);
    memcpy(out, &p, sizeof p);
    if (MU_LIKELY(p != NULL)) return MU_OK;
    size_t left = r->limits->memory_bytes - mu_arena_used_bytes(r->arena);
    if (size == 0 || n <= left / size) return mu_fail_memory(r->err, n * size);
    return mu_tpl_fail(r, "the template needs more than %llu bytes of memory",
                       (unsigned long long)r->limits->memory_bytes);
}

mu_status mu_tpl_output_status(struct render *r)
{
    MU_TRY(mu_text_status(r->out, r->err));
    if (r->out->len - r->out_start <= r->limits->output_bytes) return MU_OK;
    return mu_tpl_fail(r, "the template writes more than %llu bytes",
                       (unsigned long long)r->limits->output_bytes);
}

/* Functions */

#define RANGE_MAX 100000

static mu_status fn_range(struct render *r, const struct args *args, struct value *out)
{
    int64_t v[3] = {0, 0, 1};
    for (uint32_t i = 0; i < args->n; i++) {
        if (args->v[i].kind == V_UNDEFINED) return mu_tpl_fail_undefined(r, args->v[i]);
        if (!mu_tpl_is_int(args->v[i]) || i > 2)
            return mu_tpl_fail(r, "range takes one to three integers");
        v[args->n == 1 ? 1 : i] = args->v[i].kind == V_BOOL ? args->v[i].b : args->v[i].i;
    }
    if (args->n == 0 || args->n_named || v[2] == 0)
        return mu_tpl_fail(r, "range takes one to three integers, and no step of zero");
    mu_tpl_wide distance = v[2] > 0 ? (mu_tpl_wide)v[1] - v[0] : (mu_tpl_wide)v[0] - v[1];
    mu_tpl_wide step = v[2] > 0 ? v[2] : -(mu_tpl_wide)v[2];
    mu_tpl_wide n = distance > 0 ? (distance - 1) / step + 1 : 0;
    if (n > RANGE_MAX)
        return mu_tpl_fail(r, "range too big: ranges larger than %d are blocked", RANGE_MAX);
    struct range *range;
    MU_TRY(mu_tpl_alloc(r, 1, sizeof *range, &range));
    *range = (struct range){v[0], v[1], v[2]};
    *out = (struct value){.kind = V_RANGE, .len = (uint32_t)n, .range = range};
    return MU_OK;
}

static mu_status fill_dict(struct render *r, struct dict *d, struct value from)
{
    struct value list, pair;
    if (from.kind == V_DICT)
        from = (struct value){.kind = V_VIEW, .flag = VIEW_ITEMS, .dict = from.dict};
    MU_TRY(mu_tpl_items(r, from, &list));
    for (uint32_t i = 0; i < list.len; i++) {
        MU_TRY(mu_tpl_items(r, list.items[i], &pair));
        if (pair.len != 2) return mu_tpl_fail(r, "a dictionary is made from pairs");
        MU_TRY(mu_tpl_dict_set(r, d, pair.items[0], pair.items[1]));
    }
    return MU_OK;
}

static mu_status fn_dict(struct render *r, const struct args *args, struct value *out)
{
    if (args->n > 1) return mu_tpl_fail(r, "dict expected at most 1 argument, got %u", args->n);
    MU_TRY(mu_tpl_dict(r, out));
    if (args->n) MU_TRY(fill_dict(r, out->dict, args->v[0]));
    for (uint32_t i = 0; i < args->n_named; i++)
        MU_TRY(
            mu_tpl_dict_set(r, out->dict, mu_tpl_str(args->named[i].name), args->named[i].value));
    return MU_OK;
}

static mu_status fn_raise(struct render *r, const struct args *args)
{
    struct value message = args->n ? args->v[0] : mu_tpl_str(MU_STR("the template refuses"));
    MU_TRY(mu_tpl_string(r, message, &message));
    return mu_tpl_fail(r, "%.*s", (int)message.len, message.s);
}

mu_status mu_tpl_function(struct render *r, enum function_id id, const struct args *args,
                          struct value *out)
{
    struct value v[MU_TPL_PARAMS_MAX];
    switch (id) {
    case FN_RANGE:
        return fn_range(r, args, out);
    case FN_DICT:
        return fn_dict(r, args, out);
    case FN_NAMESPACE:
        MU_TRY(fn_dict(r, args, out));
        out->kind = V_NAMESPACE;
        return MU_OK;
    case FN_RAISE:
        return fn_raise(r, args);
    case FN_STRFTIME:
        MU_TRY(mu_tpl_bind(r, "strftime_now", "format;", args, v));
        return mu_tpl_strftime(r, v[0], out);
    case FN_COUNT:
        break;
    }
    return MU_E_INTERNAL;
}

/* Rendering */

static bool find_function(struct mu_str name, struct value *out)
{
    static const char *const names[FN_COUNT] = {[FN_RANGE] = "range",
                                                [FN_DICT] = "dict",
                                                [FN_NAMESPACE] = "namespace",
                                                [FN_RAISE] = "raise_exception",
                                                [FN_STRFTIME] = "strftime_now"};
    for (unsigned i = 0; i < FN_COUNT; i++)
        if (mu_str_is(name, names[i])) {
            *out = (struct value){.kind = V_FUNCTION, .function = (enum function_id)i};
            return true;
        }
    return false;
}

/* Only the variables that the template reads are converted. */
static mu_status context_fill(struct render *r, json_t *variables)
{
    const struct mu_template *t = r->t;
    MU_TRY(mu_tpl_alloc(r, t->n_context, sizeof *r->context, &r->context));
    for (uint32_t i = 0; i < t->n_context; i++) {
        json_t *v = json_object_getn(variables, t->context[i].p, t->context[i].len);
        if (v)
            MU_TRY(mu_tpl_from_json(r, v, &r->context[i]));
        else
            (void)find_function(t->context[i], &r->context[i]);
    }
    return MU_OK;
}

static mu_status render(struct render *r, json_t *variables)
{
    const struct mu_template *t = r->t;
    struct scope *s;
    MU_TRY(context_fill(r, variables));
    MU_TRY(mu_tpl_alloc(r, 1, sizeof *s + t->n_slots * sizeof s->slots[0], &s));
    for (uint32_t i = 0; i < t->frame.n_loads; i++)
        if (t->frame.loads[i].from.kind == REF_CONTEXT)
            s->slots[t->frame.loads[i].slot] = r->context[t->frame.loads[i].from.slot];
    MU_TRY(mu_tpl_exec(r, s, t->body));
    return mu_tpl_output_status(r);
}

mu_status mu_template_render(const struct mu_template *template, json_t *variables,
                             const struct mu_template_limits *limits, const char *now,
                             struct mu_text *out, struct mu_err *err)
{
    if (!limits) limits = &mu_template_limits_default;
    uint64_t start = mu_clock_ns();
    struct render r = {.t = template,
                       .arena = mu_arena_create(limits->memory_bytes),
                       .limits = limits,
                       .out = out,
                       .out_start = out->len,
                       .now = now,
                       .end_ns = start + limits->wall_ms * UINT64_C(1000000),
                       .seed = start,
                       .err = err};
    if (!r.arena) return mu_fail_memory(err, sizeof r);
    mu_status status = render(&r, variables);
    mu_arena_destroy(r.arena);
    if (status != MU_OK) {
        out->len = r.out_start;
        out->status = MU_OK;
        if (out->p) out->p[out->len] = '\0';
    }
    return status;
}

/* The variables of a conversation */

/* A copy of `object` in which `key` has the new value, which is taken; NULL when memory is out. */
static json_t *copy_with(json_t *object, const char *key, json_t *value)
{
    json_t *copy = json_copy(object);
    if (copy && json_object_set_new(copy, key, value) == 0) return copy;
    if (!copy) json_decref(value);
    json_decref(copy);
    return NULL;
}

/* A list of what `prepare` makes of each item. */
static json_t *copy_each(json_t *list, unsigned flags, json_t *(*prepare)(json_t *, unsigned))
{
    json_t *copy = json_array();
    for (size_t i = 0; copy && i < json_array_size(list); i++)
        if (json_array_append_new(copy, prepare(json_array_get(list, i), flags)) != 0) {
            json_decref(copy);
            return NULL;
        }
    return copy;
}

static json_t *call_prepare(json_t *call, unsigned flags)
{
    json_t *function = json_object_get(call, "function"), *parsed = NULL;
    const json_t *text = json_object_get(function, "arguments");
    (void)flags;
    if (!json_is_string(text)) return json_incref(call);
    struct mu_str s = {json_string_value(text), json_string_length(text)};
    if (mu_json_parse(s, "arguments", &parsed, NULL) != MU_OK) return json_incref(call);
    function = copy_with(function, "arguments", parsed);
    return function ? copy_with(call, "function", function) : NULL;
}

/* The text of a content's parts, which were checked. */
static json_t *join_parts(const json_t *parts)
{
    struct mu_text text;
    mu_text_init(&text, SIZE_MAX / 2);
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_object_get(json_array_get(parts, i), "text");
        if (i > 0) mu_text_char(&text, '\n');
        mu_text_add(&text, json_string_value(part), json_string_length(part));
    }
    json_t *joined =
        text.status == MU_OK ? json_stringn_nocheck(mu_text_get(&text), text.len) : NULL;
    mu_text_fini(&text);
    return joined;
}

static mu_status check_parts(const json_t *content, size_t message, struct mu_err *err)
{
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *part = json_array_get(content, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        if (!type)
            return mu_fail(err, MU_E_INPUT, "part %zu of message %zu has no \"type\"", i + 1,
                           message + 1);
        if (strcmp(type, "text") != 0)
            return mu_fail(err, MU_E_UNSUPPORTED,
                           "part %zu of message %zu is of type %.40s: only text is read", i + 1,
                           message + 1, type);
        if (!json_is_string(json_object_get(part, "text")))
            return mu_fail(err, MU_E_INPUT, "part %zu of message %zu has no \"text\"", i + 1,
                           message + 1);
    }
    return MU_OK;
}

/* Puts the new value, which is taken, into a copy that takes the place of `*message`; once memory
 * is out `*message` is NULL and stays it. */
static void message_set(json_t **message, const char *key, json_t *value)
{
    json_t *old = *message;
    *message = old && value ? copy_with(old, key, value) : NULL;
    if (!old) json_decref(value);
    json_decref(old);
}

/* A message as templates expect it. */
static json_t *message_prepare(json_t *message, unsigned flags)
{
    json_t *reasoning = json_object_get(message, "reasoning_content");
    json_t *calls = json_object_get(message, "tool_calls");
    json_t *content = json_object_get(message, "content");
    json_t *out = json_incref(message);
    if (reasoning) message_set(&out, "thinking", json_incref(reasoning));
    if ((flags & MU_TEMPLATE_JOIN_PARTS) && json_is_array(content))
        message_set(&out, "content", join_parts(content));
    if ((flags & MU_TEMPLATE_PARSE_ARGUMENTS) && json_is_array(calls))
        message_set(&out, "tool_calls", copy_each(calls, flags, call_prepare));
    return out;
}

static bool fill_variables(json_t *variables, json_t *conversation, unsigned flags)
{
    static const char *const keys[] = {"tools", "documents", "add_generation_prompt"};
    json_t *messages = json_object_get(conversation, "messages");
    if (messages && json_object_set_new(variables, "messages",
                                        copy_each(messages, flags, message_prepare)) != 0)
        return false;
    for (unsigned i = 0; i < MU_ARRAY_LEN(keys); i++) {
        json_t *v = json_object_get(conversation, keys[i]);
        json_t *absent = i == 2 ? json_false() : json_null();
        if (json_object_set_new(variables, keys[i], v ? json_incref(v) : absent) != 0) return false;
    }
    json_t *more = json_object_get(conversation, "variables");
    return !more || json_object_update(variables, more) == 0;
}

mu_status mu_template_variables(json_t *conversation, unsigned flags, json_t **out,
                                struct mu_err *err)
{
    json_t *messages = json_object_get(conversation, "messages");
    json_t *more = json_object_get(conversation, "variables");
    if (!json_is_object(conversation) || (messages && !json_is_array(messages)))
        return mu_fail(err, MU_E_INPUT, "a conversation is an object with an array \"messages\"");
    if (more && !json_is_object(more))
        return mu_fail(err, MU_E_INPUT, "\"variables\" of a conversation is an object");
    for (size_t i = 0; (flags & MU_TEMPLATE_JOIN_PARTS) && i < json_array_size(messages); i++)
        MU_TRY(check_parts(json_object_get(json_array_get(messages, i), "content"), i, err));
    json_t *variables = json_object();
    if (!variables || !fill_variables(variables, conversation, flags)) {
        json_decref(variables);
        return mu_fail_memory(err, 0);
    }
    *out = variables;
    return MU_OK;
}
