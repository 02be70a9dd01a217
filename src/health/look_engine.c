/*
 * The engine, asked over its API: is it there, does it make tokens, how fast. A health route that
 * answers proves nothing (schedulers die behind it), so only tokens count. The caller's thread.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "health/look_int.h"
#include "health/look_tokens.h"

#include <stdio.h>
#include <stdlib.h>

#define PROBES_MAX    3
#define PROBE_TOKENS  24
#define PROBE_QUICK_S 2.5 /* after a slower one no more are made */
#define PROBE_MS      12000
#define ROUTE_MS      3000
#define SLOW_TOKENS_S 1.0 /* below it nobody would call it working */
#define NOISE_MUCH    0.5 /* probes that differ by more are remarked on */

/* --- one request for tokens ------------------------------------------------------------------ */

/* What an answer without tokens means, by its HTTP status. */
static const struct {
    unsigned http;
    const char *code, *text, *cure;
} refusals[] = {
    {401, "unauthorized", "the engine wants a key, or another one (HTTP 401)",
     "give --token KEY, or MUSTER_TOKEN"},
    {403, "forbidden", "the engine refuses this key (HTTP 403)", "give another --token"},
    {404, "no_route", "nothing there makes tokens: every known route is unknown to it (HTTP 404)",
     "look at the URL: it is the engine's own, without a path"},
    {429, "overloaded", "the engine turns requests away (HTTP 429)",
     "lower the load, add replicas"},
    {503, "loading", "the engine is not ready: it loads its model, or is overloaded (HTTP 503)",
     "wait; after some minutes read its log with muster validate-perf --log"},
};

static bool is_html(const struct mu_net_answer *a)
{
    const char *body = mu_text_get(&a->body);
    return strstr(a->type, "html") || strncmp(body, "<!", 2) == 0 || strncmp(body, "<html", 5) == 0;
}

static void fault_find(struct look *l, const struct look_tokens *t, const struct mu_net_answer *a,
                       const struct mu_err *fault, bool seen_alive)
{
    static const char restart[] = "restart the engine; muster validate-perf --log FILE says why";
    bool stranger = a->fault == MU_NET_TOO_LARGE || a->fault == MU_NET_NOT_HTTP;
    const char *cure = stranger ? "look at the URL: a proxy or another program answers" : restart;
    const char *unfinished = look_tokens_unfinished(t);
    bool gone = a->http_status == 0 && t->n_events == 0 && !seen_alive;
    const char *what = fault->what;
    if (a->fault == MU_NET_NO_LIBRARY || a->fault == MU_NET_BAD_URL)
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, mu_net_fault_name(a->fault),
                  a->fault == MU_NET_NO_LIBRARY ? "install libcurl4" : "",
                  "the engine was not asked: %s", what);
    else if (gone)
        look_find(l, LOOK_GONE, LOOK_LIVE, -1, mu_net_fault_name(a->fault),
                  "see that it runs, and that host and port are right", "the engine is gone: %s",
                  what);
    else if (t->n_chunks && t->error[0])
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, "stream_error", cure, "fails after %u tokens: %s",
                  look_tokens_count(t), t->error);
    else if (a->fault == MU_NET_GOOD && t->n_chunks && unfinished)
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, "broken_off", cure, "stops after %u tokens: %s",
                  look_tokens_count(t), unfinished);
    else if (a->fault == MU_NET_TOO_LONG || (a->fault == MU_NET_GOOD && t->n_chunks))
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, "slow", "", "far too slow: %u tokens in %.1f s",
                  look_tokens_count(t), a->total_s);
    else if (t->n_chunks)
        look_find(l, LOOK_BAD, LOOK_LIVE, -1,
                  a->fault == MU_NET_STALLED ? "stuck" : mu_net_fault_name(a->fault), cure,
                  "stops after %u tokens: %s", look_tokens_count(t), what);
    else
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, mu_net_fault_name(a->fault), cure,
                  "makes no tokens: %s", what);
}

static void refusal_find(struct look *l, const struct look_tokens *t, const struct mu_net_answer *a)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(refusals); i++)
        if (a->http_status == refusals[i].http) {
            look_find(l, LOOK_BAD, LOOK_LIVE, -1, refusals[i].code, refusals[i].cure, "%s%s%s",
                      refusals[i].text, t->error[0] ? ", it says: " : "", t->error);
            return;
        }
    if (is_html(a))
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, "html",
                  "look at the URL: a proxy or another program answers",
                  "a web page answers there, not an engine (HTTP %u)", a->http_status);
    else if (a->http_status != 200)
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, "http_error", "", "the engine fails: HTTP %u%s%s",
                  a->http_status, t->error[0] ? ", " : "", t->error);
    else if (t->n_bad)
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, "bad_json",
                  "look at the URL: a proxy or another program answers",
                  "what answers there is not JSON of an engine");
    else
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, "no_tokens",
                  "restart the engine; muster validate-perf --log FILE says why",
                  "the engine answers and makes no token%s%s%s",
                  t->n_reported ? " with text, though it counts some" : "", t->error[0] ? ": " : "",
                  t->error);
}

bool look_answer_is_good(const struct look_tokens *t, const struct mu_net_answer *a)
{
    if (a->fault != MU_NET_GOOD || a->http_status != 200 || t->n_chunks == 0 || t->error[0] ||
        look_tokens_unfinished(t))
        return false;
    double rate;
    return !look_tokens_rate(t, &rate) ? rate >= SLOW_TOKENS_S
                                       : look_tokens_count(t) >= SLOW_TOKENS_S * t->last_s;
}

/* What is wrong with an answer, as a finding. */
void look_answer_find(struct look *l, const struct look_tokens *t, const struct mu_net_answer *a,
                      const struct mu_err *fault, bool seen_alive)
{
    if (a->fault != MU_NET_GOOD || t->n_chunks)
        fault_find(l, t, a, fault, seen_alive);
    else
        refusal_find(l, t, a);
}

/* Another route may do where this one is unknown, or does not like the request. */
static bool another_may(const struct mu_net_answer *a)
{
    unsigned s = a->http_status;
    return a->fault == MU_NET_GOOD && (s == 404 || s == 405 || s == 400 || s == 422 || s == 501);
}

/* --- all of it ------------------------------------------------------------------------------- */

struct speeds {
    double rates[PROBES_MAX], first_s, reported_rate;
    unsigned n, n_rates, n_tokens;
    const char *why; /* the last one without a rate has none */
    const char *garbage;
};

static int compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void speed_take(struct look *l, struct speeds *s, const struct look_tokens *t)
{
    double rate;
    if (s->n++ == 0) s->first_s = t->first_s;
    s->n_tokens += look_tokens_count(t);
    s->reported_rate = t->reported_rate;
    const char *why = look_tokens_rate(t, &rate), *garbage = look_tokens_garbage(t);
    if (why) {
        s->why = why;
    } else {
        s->rates[s->n_rates++] = rate;
        look_sample(l, -1, "tokens_per_s", mu_clock_ns(), rate);
    }
    if (garbage) s->garbage = garbage;
}

/* A speed that could not be measured is absent, and meets no expectation. */
static void speed_missing(struct look *l, const struct speeds *s)
{
    (void)json_object_set_new(l->measured, "tokens_per_s_why", json_string(s->why));
    double expected = l->options->expected_tokens_per_s;
    if (expected > 0)
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, "speed_unknown", "",
                  "%.1f tokens/s were expected, and the speed is not measurable: %s", expected,
                  s->why);
    else
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "speed_unknown", "",
                  "the speed is not measurable: %s", s->why);
}

static void speed_judge(struct look *l, struct speeds *s)
{
    qsort(s->rates, s->n_rates, sizeof s->rates[0], compare_doubles);
    double median = s->rates[s->n_rates / 2];
    double noise = s->n_rates > 1 ? (s->rates[s->n_rates - 1] - s->rates[0]) / median : 0;
    (void)json_object_set_new(l->measured, "tokens_per_s", json_real(median));
    (void)json_object_set_new(l->measured, "noise", json_real(noise));
    if (noise > NOISE_MUCH)
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "probes_differ", "ask again when nobody else does",
                  "the probes differ by %.0f %%, from %.1f to %.1f tokens/s", noise * 100,
                  s->rates[0], s->rates[s->n_rates - 1]);
    double expected = l->options->expected_tokens_per_s;
    if (expected > 0 && median < expected)
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, "slower_than_expected", "",
                  "%.1f tokens/s measured where %.1f were expected", median, expected);
}

static void speeds_judge(struct look *l, struct speeds *s)
{
    l->made_tokens = true;
    (void)json_object_set_new(l->measured, "first_token_s", json_real(s->first_s));
    (void)json_object_set_new(l->measured, "probes", json_integer(s->n));
    (void)json_object_set_new(l->measured, "tokens", json_integer(s->n_tokens));
    if (s->reported_rate > 0)
        (void)json_object_set_new(l->engine, "reported_tokens_per_s", json_real(s->reported_rate));
    if (s->n_rates)
        speed_judge(l, s);
    else
        speed_missing(l, s);
    if (s->garbage)
        look_find(l, LOOK_WARN, LOOK_LIVE, -1, "garbage",
                  "compare with another build or quantisation of the model; muster validate-perf "
                  "--log FILE",
                  "tokens come, and are no language: %s", s->garbage);
}

/* Tokens over the first route that has them, some times more when that is quick. */
static mu_status tokens_probe(struct look *l, bool seen_alive, struct mu_err *err)
{
    static const struct look_question question = {.n_tokens = PROBE_TOKENS, .total_ms = PROBE_MS};
    struct speeds speeds = {0};
    for (;;) {
        struct look_tokens t;
        struct mu_net_answer a;
        struct mu_err fault;
        MU_TRY(look_route_ask(l, &question, &t, &a, &fault, err));
        bool good = look_answer_is_good(&t, &a), quick = t.last_s < PROBE_QUICK_S;
        bool next = !good && another_may(&a) && look_route_path(l->route + 1);
        if (good) {
            speed_take(l, &speeds, &t);
            (void)json_object_set_new(l->engine, "route", json_string(look_route_path(l->route)));
        } else if (!next) {
            look_answer_find(l, &t, &a, &fault, seen_alive);
        }
        mu_net_answer_fini(&a);
        if (a.fault == MU_NET_STOPPED) return MU_OK;
        l->route += next;
        if (!next && (!good || speeds.n == PROBES_MAX || !quick)) break;
    }
    if (speeds.n) speeds_judge(l, &speeds);
    return MU_OK;
}

/* A GET whose JSON is wanted; NULL when there is none. `alive` tells that anything answered. */
static json_t *document_get(struct look *l, const char *path, bool *alive, unsigned *http)
{
    struct mu_net_answer a;
    struct mu_err fault;
    json_t *o = NULL;
    if (look_get(l, path, ROUTE_MS, &a, &fault) == MU_OK) {
        *alive = true;
        if (a.http_status == 200)
            (void)mu_json_parse((struct mu_str){mu_text_get(&a.body), a.body.len}, path, &o, NULL);
    }
    *http = a.http_status;
    mu_net_answer_fini(&a);
    return o;
}

static void metrics_get(struct look *l)
{
    struct mu_net_answer a;
    struct mu_err fault;
    mu_status status = look_get(l, "/metrics", ROUTE_MS, &a, &fault);
    json_t *o = mu_health_metrics_json((struct mu_str){mu_text_get(&a.body), a.body.len});
    bool useful = status == MU_OK && a.http_status == 200 && json_object_size(o) > 0;
    char why[400] = "it gives no metrics of a known kind";
    if (status != MU_OK) (void)snprintf(why, sizeof why, "%s", fault.what);
    look_source(l, "metrics", useful ? NULL : why);
    const json_t *engine = json_object_get(o, "engine");
    if (engine) (void)json_object_set(l->engine, "kind", json_object_get(o, "engine"));
    if (useful)
        (void)json_object_set_new(l->engine, "reported", o);
    else
        json_decref(o);
    mu_net_answer_fini(&a);
}

/* True for the names of this machine alone; `url` is as mu_net_url_parse shows it. */
static bool url_is_here(const char *url)
{
    const char *host = strstr(url, "://") + 3;
    static const char *const here[] = {"localhost", "127.", "[::1]", "0.0.0.0"};
    for (size_t i = 0; i < MU_ARRAY_LEN(here); i++)
        if (strncmp(host, here[i], strlen(here[i])) == 0) return true;
    return false;
}

mu_status look_engine(struct look *l, struct mu_err *err)
{
    if (!l->options->url) {
        look_source(l, "engine", "no --url was given, so no engine was asked");
        return MU_OK;
    }
    l->engine_here = url_is_here(l->url.shown);
    bool alive = false;
    unsigned http = 0;
    json_t *health = document_get(l, "/health", &alive, &http);
    json_decref(health);
    (void)json_object_set_new(l->engine, "url", json_string(l->url.shown));
    (void)json_object_set_new(l->engine, "health_http_status",
                              http ? json_integer(http) : json_null());
    unsigned health_http = http;
    l->models = document_get(l, "/v1/models", &alive, &http);
    const json_t *id = json_object_get(json_array_get(json_object_get(l->models, "data"), 0), "id");
    l->model = l->options->model ? l->options->model : json_string_value(id);
    (void)json_object_set_new(l->engine, "model", l->model ? json_string(l->model) : json_null());
    mu_status status = tokens_probe(l, alive, err);
    if (status == MU_OK && l->made_tokens && l->options->trials) status = look_trials(l, err);
    if (status != MU_OK) return status;
    look_source(l, "engine", alive || l->made_tokens ? NULL : "no answer came from it");
    if (health_http == 200 && !l->made_tokens)
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "health_route_fooled", "",
                  "its health route answers 200 all the same");
    if (alive || l->made_tokens) metrics_get(l);
    return MU_OK;
}
