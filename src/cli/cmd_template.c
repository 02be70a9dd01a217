/*
 * muster template: a conversation on standard input to the text that a model is given, by the
 * model's own chat template or one from a file.
 */
#include "cli/session.h"

#include "base/file.h"

#include <unistd.h>

#define INPUT_MAX ((size_t)256 << 20)

struct template_options {
    const char *template, *now;
    bool json, lines, parse_arguments;
};

static const struct mu_option options[] = {
    {.name = "template",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct template_options, template),
     .argument = "FILE",
     .help = "use this Jinja template instead of the model's own"},
    {.name = "now",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct template_options, now),
     .argument = "TIME",
     .help = "the local time that templates see, as 2025-03-14T15:09:26 (default: that of the "
             "conversation, else the clock's)"},
    {.name = "parse-arguments",
     .kind = MU_OPTION_FLAG,
     .offset = offsetof(struct template_options, parse_arguments),
     .help = "arguments of tool calls that are JSON in a string become what they hold"},
    {.name = "json",
     .kind = MU_OPTION_FLAG,
     .offset = offsetof(struct template_options, json),
     .help = "print {\"text\":...,\"ids\":[...]} (ids with a MODEL) instead of the text"},
    {.name = "lines",
     .kind = MU_OPTION_FLAG,
     .offset = offsetof(struct template_options, lines),
     .help = "read one conversation a line and print one JSON document a line; what fails becomes "
             "{\"error\": ...}; a conversation may bring its own \"template\" text"},
    {0},
};

static unsigned flags_of(const struct template_options *o)
{
    return o->parse_arguments ? MU_TEMPLATE_PARSE_ARGUMENTS : 0;
}

/* Renders one conversation by a template that came without a model. */
static mu_status render(const struct template_options *o, const struct mu_template *template,
                        json_t *conversation, struct mu_text *out, struct mu_err *err)
{
    json_t *variables = NULL;
    const char *own_now = json_string_value(json_object_get(conversation, "now"));
    MU_TRY(mu_template_variables(conversation, flags_of(o), &variables, err));
    mu_status status =
        mu_template_render(template, variables, NULL, o->now ? o->now : own_now, out, err);
    json_decref(variables);
    return status;
}

static void add_document(struct mu_text *out, const char *key, struct mu_str value)
{
    mu_text_printf(out, "{\"%s\":", key);
    mu_json_add_string(out, value);
    mu_text_str(out, "}\n");
}

static void add_ids(struct mu_text *out, const struct mu_ids *ids)
{
    mu_text_str(out, ",\"ids\":[");
    for (size_t i = 0; i < ids->n; i++)
        mu_text_printf(out, "%s%u", i ? "," : "", ids->p[i]);
    mu_text_char(out, ']');
}

/* The text, and with --json and a model its tokens too. */
static mu_status print_one(const struct template_options *o, const struct mu_session *session,
                           struct mu_str made, struct mu_err *err)
{
    if (!o->json) return mu_cli_out(made.p, made.len, err);
    struct mu_text document;
    struct mu_ids ids = {0};
    mu_text_init(&document, INPUT_MAX);
    mu_text_str(&document, "{\"text\":");
    mu_json_add_string(&document, made);
    mu_status status = MU_OK;
    if (session->tokenizer) {
        status = mu_tokenizer_encode(session->tokenizer, made, 0, &ids, err);
        add_ids(&document, &ids);
    }
    mu_text_str(&document, "}\n");
    if (status == MU_OK) status = mu_cli_out_text(&document, err);
    mu_ids_fini(&ids);
    mu_text_fini(&document);
    return status;
}

static mu_status run_one(const struct template_options *o, const struct mu_template *template,
                         struct mu_session *session, struct mu_str input, struct mu_err *err)
{
    struct mu_text text;
    json_t *conversation = NULL;
    mu_text_init(&text, INPUT_MAX);
    mu_status status = mu_json_parse(input, "standard input", &conversation, err);
    if (status == MU_OK)
        status = template
                     ? render(o, template, conversation, &text, err)
                     : mu_session_render(session, conversation, o->now, flags_of(o), &text, err);
    if (status == MU_OK)
        status = print_one(o, session, (struct mu_str){mu_text_get(&text), text.len}, err);
    json_decref(conversation);
    mu_text_fini(&text);
    return status;
}

static mu_status render_line(const struct template_options *o, const struct mu_template *template,
                             struct mu_session *session, struct mu_str line, struct mu_text *text,
                             struct mu_err *err)
{
    json_t *conversation = NULL;
    struct mu_template *own = NULL;
    MU_TRY(mu_json_parse(line, "standard input", &conversation, err));
    json_t *source = json_object_get(conversation, "template");
    mu_status status = MU_OK;
    if (json_is_string(source))
        status = mu_template_compile(
            (struct mu_str){json_string_value(source), json_string_length(source)}, "template",
            &own, err);
    else if (!template && !session->file)
        status = mu_fail(err, MU_E_USAGE, "neither the line nor the command names a template");
    if (status == MU_OK)
        status = own || template
                     ? render(o, own ? own : template, conversation, text, err)
                     : mu_session_render(session, conversation, o->now, flags_of(o), text, err);
    mu_template_destroy(own);
    json_decref(conversation);
    return status;
}

static mu_status run_lines(const struct template_options *o, const struct mu_template *template,
                           struct mu_session *session, struct mu_str input, struct mu_err *err)
{
    struct mu_text text, document;
    mu_status status = MU_OK;
    mu_text_init(&text, INPUT_MAX);
    mu_text_init(&document, INPUT_MAX);
    while (status == MU_OK && input.len > 0) {
        const char *newline = memchr(input.p, '\n', input.len);
        struct mu_str line = {input.p, newline ? (size_t)(newline - input.p) : input.len};
        input.p += line.len + (newline != NULL);
        input.len -= line.len + (newline != NULL);
        struct mu_err own = MU_ERR_INIT;
        char message[768];
        mu_text_clear(&text);
        if (render_line(o, template, session, line, &text, &own) == MU_OK)
            add_document(&document, "text", (struct mu_str){mu_text_get(&text), text.len});
        else
            add_document(&document, "error", mu_str(mu_err_line(&own, message, sizeof message)));
        status = mu_cli_out_text(&document, err);
    }
    mu_text_fini(&document);
    mu_text_fini(&text);
    return status;
}

static mu_status compile(const struct template_options *o, struct mu_template **out,
                         struct mu_err *err)
{
    struct mu_text source;
    mu_text_init(&source, MU_TEMPLATE_SOURCE_MAX);
    mu_status status = mu_file_read(o->template, &source, err);
    if (status == MU_OK)
        status = mu_template_compile((struct mu_str){mu_text_get(&source), source.len}, o->template,
                                     out, err);
    mu_text_fini(&source);
    return status;
}

static mu_status template_run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct template_options *o = in->options;
    struct mu_session session = {0};
    struct mu_template *template = NULL;
    struct mu_text input;
    mu_text_init(&input, INPUT_MAX);
    bool has_model = in->result->n_operands > 0;
    mu_status status = MU_OK;
    if (!has_model && !o->template && !o->lines)
        status = mu_fail(err, MU_E_USAGE, "template wants a MODEL or --template FILE");
    if (status == MU_OK && has_model) {
        status = mu_session_open(&session, in->result->operands[0], err);
        if (status == MU_OK) status = mu_session_tokenizer(&session, err);
    }
    if (status == MU_OK && o->template) status = compile(o, &template, err);
    if (status == MU_OK) status = mu_fd_read(STDIN_FILENO, "standard input", &input, err);
    struct mu_str bytes = {mu_text_get(&input), input.len};
    if (status == MU_OK)
        status = o->lines ? run_lines(o, template, &session, bytes, err)
                          : run_one(o, template, &session, bytes, err);
    mu_template_destroy(template);
    mu_session_close(&session);
    mu_text_fini(&input);
    return status;
}

const struct mu_command mu_command_template = {
    .spec = {.command = "template",
             .operands = "[MODEL]",
             .summary = "the text that a conversation becomes for a model",
             .details = "Reads {\"messages\": [...], \"tools\": [...], \"documents\": [...], "
                        "\"add_generation_prompt\": true, \"variables\": {...}, \"now\": ...} on "
                        "standard input.",
             .options = options,
             .max_operands = 1},
    .options_size = sizeof(struct template_options),
    .run = template_run,
};
