/* The tokens of one request, in the dialects of OpenAI-like servers, SGLang and llama-server: what
 * came, when, and how it ended. Judges no engine; the thread of the request. */
#include "health/look_tokens.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/utf8.h"
#include "health/health_int.h"

#include <stdio.h>

/* Fewer tokens, or fewer seconds between first and last, are the time of a network, not of tokens:
 * something on the way held them back and gave them at once. */
#define RATE_TOKENS_LEAST 8
#define RATE_S_LEAST      0.01
#define GARBAGE_LEAST     12 /* letters that are alike, or half of which could not be decoded */

static const json_t *member(const json_t *o, const char *a, const char *b)
{
    return json_object_get(json_object_get(o, a), b);
}

static void letters_take(struct look_tokens *t, struct mu_str s)
{
    for (unsigned len; s.len; s.p += len, s.len -= len) {
        uint32_t cp = mu_utf8_decode(s, &len);
        if (cp <= ' ') continue;
        if (t->n_letters++ == 0) t->letter = cp;
        t->n_alike += cp == t->letter;
        t->n_undecoded += cp == 0xfffd;
    }
}

/* True when the document brings new text, in any of the dialects. */
static bool text_is_new(struct look_tokens *t, const json_t *o)
{
    const json_t *choice = json_array_get(json_object_get(o, "choices"), 0);
    const json_t *texts[] = {json_object_get(choice, "text"),
                             member(choice, "delta", "content"),
                             member(choice, "delta", "reasoning_content"),
                             member(choice, "message", "content"),
                             member(choice, "message", "reasoning_content"),
                             json_object_get(o, "content")};
    size_t n = 0;
    for (size_t i = 0; i < MU_ARRAY_LEN(texts); i++) {
        if (!json_is_string(texts[i])) continue;
        n += json_string_length(texts[i]);
        letters_take(t, (struct mu_str){json_string_value(texts[i]), json_string_length(texts[i])});
    }
    const json_t *whole = json_object_get(o, "text");
    size_t len = json_is_string(whole) ? json_string_length(whole) : 0;
    if (len <= t->cumulative) return n > 0;
    const char *text = json_string_value(whole);
    letters_take(t, (struct mu_str){text + t->cumulative, len - t->cumulative});
    t->cumulative = len;
    return true;
}

static void counts_take(struct look_tokens *t, const json_t *o)
{
    const json_t *counts[] = {member(o, "usage", "completion_tokens"),
                              member(o, "meta_info", "completion_tokens"),
                              json_object_get(o, "tokens_predicted")};
    for (size_t i = 0; i < MU_ARRAY_LEN(counts); i++)
        if (json_is_integer(counts[i]) && json_integer_value(counts[i]) > 0 &&
            json_integer_value(counts[i]) < 1000000)
            t->n_reported = (unsigned)json_integer_value(counts[i]);
    double rate =
        json_number_value(member(o, "timings", "predicted_per_second")); /* llama-server */
    if (rate > 0 && rate < 1e6) t->reported_rate = rate;
}

static void error_take(struct look_tokens *t, const json_t *o)
{
    const json_t *error = json_object_get(o, "error");
    const json_t *text = json_is_object(error) ? json_object_get(error, "message") : error;
    const char *object = json_string_value(json_object_get(o, "object"));
    if (object && strcmp(object, "error") == 0) text = json_object_get(o, "message");
    if (!text && !error) text = json_object_get(o, "detail");
    if (t->error[0]) return;
    if (json_is_string(text) && json_string_length(text))
        (void)mu_utf8_copy_harmless(t->error, sizeof t->error, mu_str(json_string_value(text)),
                                    '\0');
    else if (json_is_object(error) || json_is_string(error))
        (void)snprintf(t->error, sizeof t->error, "an error without a message");
}

/* OpenAI's finish_reason, SGLang's object of it, llama-server's "stop". */
static void finish_take(struct look_tokens *t, const json_t *o)
{
    const json_t *choice = json_array_get(json_object_get(o, "choices"), 0);
    const json_t *sglang = member(o, "meta_info", "finish_reason");
    const json_t *reasons[] = {json_object_get(choice, "finish_reason"), sglang,
                               json_object_get(sglang, "type")};
    const char *reason = json_is_true(json_object_get(o, "stop")) ? "stop" : NULL;
    for (size_t i = 0; i < MU_ARRAY_LEN(reasons); i++)
        if (json_is_string(reasons[i])) reason = json_string_value(reasons[i]);
    if (reason) (void)mu_utf8_copy_harmless(t->finish, sizeof t->finish, mu_str(reason), '\0');
}

static bool document_take(struct look_tokens *t, struct mu_str text)
{
    json_t *o = NULL;
    if (mu_json_parse(text, "answer", &o, NULL) != MU_OK) {
        t->n_bad++;
        return false;
    }
    if (text_is_new(t, o)) {
        t->last_s = mu_clock_seconds_since(t->start_ns);
        if (t->n_chunks++ == 0) t->first_s = t->last_s;
    }
    counts_take(t, o);
    error_take(t, o);
    finish_take(t, o);
    json_decref(o);
    return true;
}

bool look_tokens_event(void *context, struct mu_str data)
{
    struct look_tokens *t = context;
    t->n_events++;
    t->done = mu_str_is(data, "[DONE]");
    if (!t->done) (void)document_take(t, data);
    return !t->done;
}

void look_tokens_whole(struct look_tokens *t, struct mu_str body)
{
    if (t->n_events || body.len == 0) return;
    t->done = document_take(t, body);
}

unsigned look_tokens_count(const struct look_tokens *t)
{
    return t->n_reported ? t->n_reported : t->n_chunks;
}

const char *look_tokens_rate(const struct look_tokens *t, double *out)
{
    unsigned n = look_tokens_count(t);
    if (n < RATE_TOKENS_LEAST) return "the answer is too short";
    if (t->n_chunks < 2 || t->last_s - t->first_s < RATE_S_LEAST) return "the answer came at once";
    *out = (n - 1) / (t->last_s - t->first_s);
    return NULL;
}

const char *look_tokens_unfinished(const struct look_tokens *t)
{
    static const char *const failures[] = {"abort", "error", "cancelled"};
    for (size_t i = 0; i < MU_ARRAY_LEN(failures); i++)
        if (strcmp(t->finish, failures[i]) == 0)
            return "the engine gave the request up (finish_reason abort or error)";
    if (t->finish[0]) return NULL;
    if (!t->done) return "the answer ends without finish_reason and without [DONE]";
    if (look_tokens_count(t) < t->n_asked)
        return "fewer tokens than asked for, and no finish_reason";
    return NULL;
}

const char *look_tokens_garbage(const struct look_tokens *t)
{
    if (t->n_letters < GARBAGE_LEAST) return NULL;
    if (t->n_undecoded * 2 >= t->n_letters) return "text that cannot be decoded (U+FFFD)";
    if (t->n_alike == t->n_letters) return "one character, repeated";
    return NULL;
}
