/* Prompts of a command line; see prompts.h. */
#include "cli/prompts.h"

#include "base/alloc.h"
#include "base/file.h"

#include <stdio.h>

#define PROMPT_MAX_BYTES (64u << 20)

void mu_prompts_settle(const struct mu_invocation *in, struct mu_prompt_options *o)
{
    const struct {
        const char *name, **value;
    } sources[] = {
        {"file", &o->file}, {"chat", &o->chat}, {"tokens", &o->tokens}, {"prompts", &o->prompts}};
    bool commanded = mu_commanded(in, "prompt");
    for (size_t i = 0; i < MU_ARRAY_LEN(sources); i++)
        commanded |= mu_commanded(in, sources[i].name);
    if (!commanded) return;
    if (!mu_commanded(in, "prompt")) o->prompt.n = 0;
    for (size_t i = 0; i < MU_ARRAY_LEN(sources); i++)
        if (!mu_commanded(in, sources[i].name)) *sources[i].value = NULL;
}

/* Takes the ids over, also when there is no room for them. `where` is NULL for an only one. */
static mu_status add_prompt(struct mu_prompts *prompts, uint32_t *ids, uint32_t n_ids,
                            const char *where, struct mu_err *err)
{
    char *kept = where ? mu_strdup(where) : NULL;
    if (where && !kept) {
        mu_free(ids);
        return mu_fail_memory(err, strlen(where) + 1);
    }
    if (prompts->n == prompts->size) {
        uint32_t size = MU_MAX(2 * prompts->size, 4u);
        struct mu_prompt *more = mu_realloc(prompts->items, size * sizeof *more);
        if (!more) {
            mu_free(ids);
            mu_free(kept);
            return mu_fail_memory(err, size * sizeof *more);
        }
        prompts->items = more;
        prompts->size = size;
    }
    prompts->items[prompts->n++] = (struct mu_prompt){ids, n_ids, kept};
    prompts->longest = MU_MAX(prompts->longest, n_ids);
    return MU_OK;
}

/* Without a tokenizer a model takes and gives ids. */
static mu_status need_tokenizer(struct mu_session *session, struct mu_err *err)
{
    if (session->tokenizer) return MU_OK;
    mu_status status = mu_session_tokenizer(session, err);
    if (status != MU_OK) mu_err_cure(err, "it still takes ids: --tokens 1,2,3");
    return status;
}

static mu_status add_text(struct mu_session *session, struct mu_str text, const char *where,
                          struct mu_prompts *prompts, struct mu_err *err)
{
    uint32_t *ids, n;
    MU_TRY(need_tokenizer(session, err));
    MU_TRY(mu_session_encode(session, text, true, &ids, &n, err));
    return add_prompt(prompts, ids, n, where, err);
}

static mu_status add_conversation(struct mu_session *session, json_t *conversation,
                                  const char *where, struct mu_prompts *prompts, struct mu_err *err)
{
    uint32_t *ids, n;
    MU_TRY(need_tokenizer(session, err));
    MU_TRY(mu_session_encode_conversation(session, conversation, &ids, &n, err));
    return add_prompt(prompts, ids, n, where, err);
}

static mu_status add_ids(const json_t *list, const char *where, struct mu_prompts *prompts,
                         struct mu_err *err)
{
    uint32_t n = (uint32_t)json_array_size(list);
    uint32_t *ids = mu_alloc((n + 1) * sizeof *ids);
    if (!ids) return mu_fail_memory(err, n * sizeof *ids);
    for (uint32_t i = 0; i < n; i++) {
        json_int_t id = json_integer_value(json_array_get(list, i));
        if (!json_is_integer(json_array_get(list, i)) || id < 0 || id >= UINT32_MAX) {
            mu_free(ids);
            return mu_fail(err, MU_E_INPUT, "item %u of the prompt is no token id", i);
        }
        ids[i] = (uint32_t)id;
    }
    return add_prompt(prompts, ids, n, where, err);
}

/* What a line of --prompts may hold: a prompt alone, or what a conversation has. */
static const char *const with_prompt[] = {"prompt", NULL};
static const char *const with_messages[] = {
    "messages", "tools", "documents", "add_generation_prompt", "variables", "now", NULL};

/* A misspelt or unknown setting must not pass for one that was followed. */
static mu_status refuse_unknown(json_t *object, const char *const *known, struct mu_err *err)
{
    const char *key;
    json_t *value;
    struct mu_text list;
    json_object_foreach(object, key, value)
    {
        size_t i = 0;
        while (known[i] && strcmp(known[i], key) != 0)
            i++;
        if (known[i]) continue;
        mu_text_init(&list, 256);
        for (i = 0; known[i]; i++)
            mu_text_printf(&list, "%s%s", i ? ", " : "", known[i]);
        (void)mu_fail(err, MU_E_INPUT, "\"%.40s\" is unknown beside \"%s\"", key, known[0]);
        mu_err_cure(err, "known there: %s", mu_text_get(&list));
        mu_text_fini(&list);
        return MU_E_INPUT;
    }
    return MU_OK;
}

static mu_status add_object(struct mu_session *session, json_t *object, const char *where,
                            struct mu_prompts *prompts, struct mu_err *err)
{
    const json_t *prompt = json_object_get(object, "prompt");
    bool text = json_is_string(prompt), messages = json_object_get(object, "messages") != NULL;
    if ((messages && prompt) || (!messages && !text && !json_is_array(prompt)))
        return mu_fail(err, MU_E_INPUT,
                       "a line holds \"prompt\" (a text or a list of ids) or \"messages\"");
    MU_TRY(refuse_unknown(object, messages ? with_messages : with_prompt, err));
    if (messages) return add_conversation(session, object, where, prompts, err);
    if (!text) return add_ids(prompt, where, prompts, err);
    struct mu_str s = {json_string_value(prompt), json_string_length(prompt)};
    return add_text(session, s, where, prompts, err);
}

static mu_status add_line(struct mu_session *session, struct mu_str line, const char *where,
                          struct mu_prompts *prompts, struct mu_err *err)
{
    json_t *object;
    MU_TRY(mu_json_parse(line, where, &object, err));
    mu_status status = add_object(session, object, where, prompts, err);
    if (status != MU_OK) mu_err_where(err, "%s", where);
    json_decref(object);
    return status;
}

static mu_status add_lines(struct mu_session *session, struct mu_str text, const char *name,
                           struct mu_prompts *prompts, struct mu_err *err)
{
    for (unsigned number = 1; text.len > 0; number++) {
        struct mu_str line = mu_str_take(&text, '\n');
        char where[160];
        (void)snprintf(where, sizeof where, "%s:%u",
                       strcmp(name, "-") == 0 ? "standard input" : name, number);
        if (line.len > 0 && line.p[line.len - 1] == '\r') line.len--;
        if (line.len > 0) MU_TRY(add_line(session, line, where, prompts, err));
    }
    return prompts->n ? MU_OK : mu_fail(err, MU_E_INPUT, "%s holds no prompt", name);
}

/* What is read from a file: a text, a conversation, or lines with many of them. */
static mu_status add_file(struct mu_session *session, const struct mu_prompt_options *o,
                          const char *path, const char *where, struct mu_prompts *prompts,
                          struct mu_err *err)
{
    struct mu_text text;
    json_t *conversation = NULL;
    mu_text_init(&text, PROMPT_MAX_BYTES);
    mu_status status = mu_file_read(path, &text, err);
    struct mu_str s = {mu_text_get(&text), text.len};
    if (status == MU_OK && o->chat) {
        status = mu_json_parse(s, path, &conversation, err);
        if (status == MU_OK) status = add_conversation(session, conversation, where, prompts, err);
        json_decref(conversation);
    } else if (status == MU_OK && o->prompts) {
        status = add_lines(session, s, path, prompts, err);
    } else if (status == MU_OK) {
        status = add_text(session, s, where, prompts, err);
    }
    mu_text_fini(&text);
    return status;
}

mu_status mu_prompts_read(struct mu_session *session, const struct mu_prompt_options *o,
                          struct mu_prompts *out, struct mu_err *err)
{
    int sources = (o->prompt.n > 0) + !!o->file + !!o->chat + !!o->tokens + !!o->prompts;
    if (sources != 1)
        return mu_fail(err, MU_E_USAGE,
                       "generate wants %s of --prompt, --file, --chat, --tokens, --prompts",
                       sources ? "only one" : "one");
    if (o->tokens) {
        uint32_t *ids, n;
        MU_TRY(mu_session_parse_ids(o->tokens, &ids, &n, err));
        return add_prompt(out, ids, n, NULL, err);
    }
    const char *path = o->file ? o->file : o->chat ? o->chat : o->prompts;
    if (path) return add_file(session, o, path, NULL, out, err);
    for (unsigned i = 0; i < o->prompt.n; i++) {
        const char *text = o->prompt.items[i];
        char name[32];
        (void)snprintf(name, sizeof name, "prompt %u", i + 1);
        const char *where = o->prompt.n > 1 ? name : NULL;
        if (strcmp(text, "-") == 0)
            MU_TRY(add_file(session, o, text, where, out, err));
        else
            MU_TRY(add_text(session, mu_str(text), where, out, err));
    }
    return MU_OK;
}

void mu_prompts_fini(struct mu_prompts *prompts)
{
    for (uint32_t i = 0; i < prompts->n; i++) {
        mu_free(prompts->items[i].ids);
        mu_free(prompts->items[i].where);
    }
    mu_free(prompts->items);
}
