/*
 * The routes over which engines make tokens, as a table, and one request over one of them. Knows
 * the dialects of OpenAI-like servers, SGLang and llama-server; judges no answer. Any thread: a
 * request is one thread's.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "health/look_int.h"
#include "health/look_tokens.h"

#include <stdio.h>

#define PROBE_IDLE_MS 5000
#define CONNECT_MS    2000
#define ANSWER_MAX    ((size_t)4 << 20)
#define METRICS_MAX   ((size_t)16 << 20)

/* The same work each time, and no answer out of a prefix cache: the number is another. */
static const char *prompt(char out[80])
{
    (void)snprintf(out, 80, "%06u. Count from one to forty in words: one, two, three,",
                   (unsigned)(mu_clock_ns() / 1000 % 1000000));
    return out;
}

static json_t *completion_body(const char *model, unsigned n)
{
    char text[80];
    return json_pack("{s:s*, s:s, s:i, s:f, s:b, s:{s:b}}", "model", model, "prompt", prompt(text),
                     "max_tokens", (int)n, "temperature", 0.0, "stream", 1, "stream_options",
                     "include_usage", 1);
}

static json_t *chat_body(const char *model, unsigned n)
{
    char text[80];
    return json_pack("{s:s*, s:[{s:s, s:s}], s:i, s:f, s:b, s:{s:b}}", "model", model, "messages",
                     "role", "user", "content", prompt(text), "max_tokens", (int)n, "temperature",
                     0.0, "stream", 1, "stream_options", "include_usage", 1);
}

static json_t *generate_body(const char *model, unsigned n)
{
    (void)model;
    char text[80];
    return json_pack("{s:s, s:{s:i, s:f, s:b}, s:b}", "text", prompt(text), "sampling_params",
                     "max_new_tokens", (int)n, "temperature", 0.0, "ignore_eos", 1, "stream", 1);
}

static json_t *llama_body(const char *model, unsigned n)
{
    (void)model;
    char text[80];
    return json_pack("{s:s, s:i, s:f, s:b}", "prompt", prompt(text), "n_predict", (int)n,
                     "temperature", 0.0, "stream", 1);
}

static const struct {
    const char *path;
    json_t *(*body)(const char *model, unsigned n_tokens);
} routes[] = {
    {"/v1/completions", completion_body},
    {"/v1/chat/completions", chat_body},
    {"/generate", generate_body},
    {"/completion", llama_body},
};

const char *look_route_path(unsigned route)
{
    return route < MU_ARRAY_LEN(routes) ? routes[route].path : NULL;
}

static mu_status ask(const struct look *l, const char *path, const char *body, uint32_t ms,
                     struct look_tokens *t, struct mu_net_answer *answer, struct mu_err *fault)
{
    char url[1200];
    (void)snprintf(url, sizeof url, "%s%s", l->url.base, path);
    struct mu_net_request r = {.url = url,
                               .body = body,
                               .token = l->options->token,
                               .connect_ms = look_time(l, CONNECT_MS),
                               .total_ms = look_time(l, ms),
                               .idle_ms = t ? PROBE_IDLE_MS : 0,
                               .body_max = t ? ANSWER_MAX : METRICS_MAX,
                               .event = t ? look_tokens_event : NULL,
                               .context = t,
                               .stop = l->options->stop};
    *fault = MU_ERR_INIT;
    return mu_net_fetch(&r, answer, fault);
}

mu_status look_get(const struct look *l, const char *path, uint32_t ms,
                   struct mu_net_answer *answer, struct mu_err *fault)
{
    return ask(l, path, NULL, ms, NULL, answer, fault);
}

mu_status look_route_ask(const struct look *l, const struct look_question *q, struct look_tokens *t,
                         struct mu_net_answer *a, struct mu_err *fault, struct mu_err *err)
{
    json_t *o = routes[l->route].body(l->model, q->n_tokens);
    /* Servers that know no such wish may refuse the whole request, so it is not always made. */
    if (o && q->to_the_end) (void)json_object_set_new(o, "ignore_eos", json_true());
    char *body = o ? json_dumps(o, JSON_COMPACT) : NULL;
    json_decref(o);
    if (!body) return mu_fail_memory(err, 256);
    *t = (struct look_tokens){.start_ns = mu_clock_ns(), .n_asked = q->n_tokens};
    if (ask(l, routes[l->route].path, body, q->total_ms, t, a, fault) == MU_OK)
        look_tokens_whole(t, (struct mu_str){mu_text_get(&a->body), a->body.len});
    mu_free(body);
    return MU_OK;
}
