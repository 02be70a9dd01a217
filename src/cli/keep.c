/* Runs of this program's commands, for the store; see keep.h. */
#include "cli/keep.h"

#include "base/clock.h"
#include "base/number.h"
#include "base/utf8.h"
#include "probe/probe.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#define VALUE_BYTES_MAX 240 /* of an option's value: prompts are cut */

/* --- conditions ------------------------------------------------------------------------------- */

/* As a person would type it; a password in a URL is left out. */
static void add_value(struct mu_text *out, const char *value)
{
    const char *scheme = strstr(value, "://"), *at = scheme ? strchr(scheme, '@') : NULL;
    if (at && at < scheme + 3 + strcspn(scheme + 3, "/")) {
        mu_text_add(out, value, (size_t)(scheme + 3 - value));
        mu_text_str(out, "***");
        value = at;
    }
    size_t len = strlen(value), n = MU_MIN(len, (size_t)VALUE_BYTES_MAX);
    n -= mu_utf8_unfinished((struct mu_str){value, n});
    mu_text_add(out, value, n);
    mu_text_str(out, n < len ? "..." : "");
}

/* The i-th value of an option as text; false past its last. Keys are never written down. */
static bool option_value(const struct mu_option *o, const void *options, unsigned i,
                         struct mu_text *out)
{
    const void *p = (const char *)options + o->offset;
    char number[MU_FLOAT_TEXT];
    mu_text_clear(out);
    if (o->kind == MU_OPTION_LIST) {
        const struct mu_option_list *list = p;
        if (i < list->n) add_value(out, list->items[i]);
        return i < list->n;
    }
    if (i > 0) return false;
    switch (o->kind) {
    case MU_OPTION_FLAG:
        mu_text_str(out, *(const bool *)p ? "true" : "");
        return *(const bool *)p;
    case MU_OPTION_U64:
    case MU_OPTION_BYTES:
        mu_text_printf(out, "%llu", (unsigned long long)*(const uint64_t *)p);
        return true;
    case MU_OPTION_F64:
        mu_text_str(out, mu_format_f64(*(const double *)p, number));
        return true;
    case MU_OPTION_TEXT:
    case MU_OPTION_LIST:
        break;
    }
    const char *text = *(const char *const *)p;
    if (text) add_value(out, strcmp(o->name, "token") == 0 ? "***" : text);
    return text != NULL;
}

/* Options of the keeping itself are no conditions. */
static bool is_condition(const struct mu_option *o)
{
    static const char *const none[] = {"store", "no-store", "json", "verbose", "token"};
    for (size_t i = 0; i < MU_ARRAY_LEN(none); i++)
        if (strcmp(o->name, none[i]) == 0) return false;
    return true;
}

/* In single quotes where a shell would split or change it. */
static void add_word(struct mu_text *out, const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "-_=+:,./@%~";
    bool quote = !word[0] || word[strspn(word, plain)];
    mu_text_str(out, quote ? " '" : " ");
    for (const char *p = word; *p; p++)
        if (*p == '\'')
            mu_text_str(out, "'\\''");
        else
            mu_text_char(out, *p);
    mu_text_str(out, quote ? "'" : "");
}

/* What was given on the command line, in the table's order and full names; and the conditions, from
 * wherever they came. */
static void conditions_take(struct mu_keep *k, const struct mu_invocation *in)
{
    struct mu_text line, value, word;
    mu_text_init(&line, 1 << 16);
    mu_text_init(&value, 1024);
    mu_text_init(&word, 2048);
    mu_text_printf(&line, "muster %s", in->spec->command);
    for (unsigned n = 0; n < in->result->n_operands; n++) {
        mu_text_clear(&value);
        add_value(&value, in->result->operands[n]);
        add_word(&line, mu_text_get(&value));
    }
    for (const struct mu_option *o = in->spec->options; o->name; o++)
        for (unsigned i = 0; option_value(o, in->options, i, &value); i++) {
            mu_text_clear(&word);
            mu_text_printf(&word, o->kind == MU_OPTION_FLAG ? "--%s" : "--%s=%s", o->name,
                           mu_text_get(&value));
            if (mu_commanded(in, o->name)) add_word(&line, mu_text_get(&word));
            if (is_condition(o) && (mu_given(in, o->name) || o->default_value))
                mu_store_run_setting(&k->run, o->name, mu_text_get(&value));
        }
    k->run.command_line = mu_store_run_text(&k->run, (struct mu_str){mu_text_get(&line), line.len});
    mu_text_fini(&word);
    mu_text_fini(&value);
    mu_text_fini(&line);
}

static void machine_take(struct mu_store_run *run)
{
    char host[256] = "", machine[256], memory[MU_BYTES_TEXT];
    struct mu_probe_cpu cpu;
    (void)gethostname(host, sizeof host - 1);
    mu_probe_cpu(NULL, &cpu);
    (void)snprintf(machine, sizeof machine, "%s, %u threads, %s",
                   cpu.name[0] ? cpu.name : "CPU of no known name", cpu.n_usable,
                   cpu.memory_bytes ? mu_format_bytes(cpu.memory_bytes, memory) : "? memory");
    run->host = mu_store_run_text(run, mu_str(host));
    run->machine = mu_store_run_text(run, mu_str(machine));
}

static void time_take(struct mu_store_run *run)
{
    char at[48] = "";
    struct timespec now;
    struct tm parts;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (gmtime_r(&now.tv_sec, &parts)) {
        size_t n = strftime(at, sizeof at, "%Y-%m-%dT%H:%M:%S", &parts);
        (void)snprintf(at + n, sizeof at - n, ".%03dZ", (int)(now.tv_nsec / 1000000));
    }
    run->at = mu_store_run_text(run, mu_str(at));
}

void mu_keep_begin(struct mu_keep *k, const struct mu_invocation *in,
                   const struct mu_keep_options *options, const char *model)
{
    *k = (struct mu_keep){.options = options, .start_ns = mu_clock_ns()};
    mu_text_init(&k->result, 4096);
    if (mu_store_run_init(&k->run, NULL) != MU_OK) return;
    k->run.command = in->spec->command;
    k->run.version = MU_VERSION;
    k->run.model = mu_store_run_text(&k->run, mu_str(model ? model : ""));
    time_take(&k->run);
    machine_take(&k->run);
    conditions_take(k, in);
}

/* --- results ---------------------------------------------------------------------------------- */

void mu_keep_take(struct mu_keep *k, const struct mu_text *document)
{
    json_t *root = NULL;
    struct mu_str s = {mu_text_get(document), document->len};
    if (mu_text_status(document, NULL) != MU_OK ||
        mu_json_parse(s, "the result", &root, NULL) != MU_OK)
        k->run.status = MU_E_MEMORY;
    mu_store_run_take(&k->run, root);
    json_decref(root);
}

void mu_keep_session(struct mu_keep *k, const struct mu_session *session,
                     const struct mu_request_result *result)
{
    struct mu_engine_facts facts;
    struct mu_text document;
    char number[32];
    mu_text_init(&document, 1 << 20);
    mu_text_char(&document, '{');
    mu_session_add_predicted(session, &document);
    mu_text_str(&document, ",\"measured\":{");
    if (result) mu_session_add_speed(result, &document);
    mu_session_add_measured(session, &document);
    mu_text_str(&document, "}}");
    mu_keep_take(k, &document);
    mu_text_fini(&document);
    mu_engine_facts(session->engine, &facts);
    mu_store_run_setting(&k->run, "kernels", facts.family);
    (void)snprintf(number, sizeof number, "%u", facts.n_threads);
    mu_store_run_setting(&k->run, "threads_in_all", number);
}

static mu_status run_put(struct mu_keep *k, struct mu_err *err)
{
    struct mu_store *store = NULL;
    if (!k->run.arena) return mu_fail_memory(err, 0);
    MU_TRY(mu_store_open(k->options->store, MU_STORE_WRITE, &store, err));
    mu_status status = mu_store_put(store, &k->run, err);
    mu_store_close(store);
    return status;
}

void mu_keep_end(struct mu_keep *k, mu_status status)
{
    struct mu_err err = MU_ERR_INIT;
    char line[768];
    if (k->run.arena)
        k->run.result =
            mu_store_run_text(&k->run, (struct mu_str){mu_text_get(&k->result), k->result.len});
    k->run.exit_status = mu_status_exit(status);
    k->run.seconds = mu_clock_seconds_since(k->start_ns);
    if (!k->options->no_store && run_put(k, &err) != MU_OK)
        mu_cli_say("muster: this run was not kept: %s\n", mu_err_line(&err, line, sizeof line));
}

void mu_keep_fini(struct mu_keep *k)
{
    mu_store_run_fini(&k->run);
    mu_text_fini(&k->result);
}
