/* muster generate: text from a prompt. */
#include "cli/answer.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"

#define PROMPT_MAX_BYTES (64u << 20)

struct generate_options {
    struct mu_run_options run;
    struct mu_answer_options answer;
    const char *prompt, *file, *chat, *tokens;
    bool json;
};

static const struct mu_option options[] = {
    {"prompt", 'p', MU_OPTION_TEXT, offsetof(struct generate_options, prompt), "TEXT",
     "raw text to go on from; - reads standard input", 0, 0, NULL, NULL},
    {"file", 'f', MU_OPTION_TEXT, offsetof(struct generate_options, file), "FILE",
     "the same from a file", 0, 0, NULL, NULL},
    {"chat", 0, MU_OPTION_TEXT, offsetof(struct generate_options, chat), "FILE",
     "a conversation in JSON ({\"messages\":[...]}), put through the model's template; - reads "
     "standard input",
     0, 0, NULL, NULL},
    {"tokens", 0, MU_OPTION_TEXT, offsetof(struct generate_options, tokens), "IDS",
     "the prompt as token ids: 1,2,3", 0, 0, NULL, NULL},
    {"json", 'j', MU_OPTION_FLAG, offsetof(struct generate_options, json), NULL,
     "print one JSON document at the end", 0, 0, NULL, NULL},
    MU_ANSWER_OPTION_ROWS(struct generate_options),
    MU_RUN_OPTION_ROWS(struct generate_options),
    {0}};

/* A prompt on the command line puts aside those of the environment and the config file. */
static void settle_prompt(const struct mu_invocation *in, struct generate_options *o)
{
    const struct {
        const char *name, **value;
    } sources[] = {
        {"prompt", &o->prompt}, {"file", &o->file}, {"chat", &o->chat}, {"tokens", &o->tokens}};
    bool commanded = false;
    for (size_t i = 0; i < MU_ARRAY_LEN(sources); i++)
        commanded |= mu_commanded(in, sources[i].name);
    for (size_t i = 0; commanded && i < MU_ARRAY_LEN(sources); i++)
        if (!mu_commanded(in, sources[i].name)) *sources[i].value = NULL;
}

static mu_status read_prompt(struct mu_session *session, const struct generate_options *o,
                             uint32_t **ids, uint32_t *n, struct mu_err *err)
{
    int sources = !!o->prompt + !!o->file + !!o->chat + !!o->tokens;
    if (sources != 1)
        return mu_fail(err, MU_E_USAGE, "generate wants %s of --prompt, --file, --chat, --tokens",
                       sources ? "only one" : "one");
    if (o->tokens) return mu_session_parse_ids(o->tokens, ids, n, err);
    struct mu_text text;
    mu_text_init(&text, PROMPT_MAX_BYTES);
    mu_status status = MU_OK;
    if (o->chat)
        status = mu_file_read(o->chat, &text, err);
    else if (o->file || strcmp(o->prompt, "-") == 0)
        status = mu_file_read(o->file ? o->file : "-", &text, err);
    else
        mu_text_str(&text, o->prompt);
    struct mu_str s = {mu_text_get(&text), text.len};
    json_t *conversation = NULL;
    if (status == MU_OK && o->chat) {
        status = mu_json_parse(s, o->chat, &conversation, err);
        if (status == MU_OK)
            status = mu_session_encode_conversation(session, conversation, ids, n, err);
        json_decref(conversation);
    } else if (status == MU_OK) {
        status = mu_session_encode(session, s, true, ids, n, err);
    }
    mu_text_fini(&text);
    return status;
}

static mu_status print_json(struct mu_session *session, const struct mu_answer *a,
                            struct mu_err *err)
{
    struct mu_text out;
    mu_text_init(&out, SIZE_MAX / 4);
    mu_text_str(&out, "{\"ids\":[");
    for (uint32_t i = 0; i < a->n_ids; i++)
        mu_text_printf(&out, "%s%u", i ? "," : "", a->ids[i]);
    mu_text_str(&out, "],\"text\":");
    if (session->tokenizer)
        mu_json_add_string(&out, (struct mu_str){mu_text_get(&a->text), a->text.len});
    else
        mu_text_str(&out, "null");
    mu_text_printf(&out, ",\"finish_reason\":\"%s\",\"seed\":%llu,", a->finish_reason,
                   (unsigned long long)a->result.seed);
    if (a->logprobs.len) mu_text_printf(&out, "\"logprobs\":[%s],", mu_text_get(&a->logprobs));
    mu_session_add_predicted(session, &out);
    mu_text_char(&out, ',');
    mu_session_add_measured(session, &a->result, &out);
    struct mu_engine_facts facts;
    mu_engine_facts(session->engine, &facts);
    mu_text_printf(&out, ",\"digest\":\"%s:%016llx\"}\n", facts.family,
                   (unsigned long long)a->result.digest);
    mu_status status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    return status;
}

static mu_status generate(struct mu_session *session, const struct mu_invocation *in,
                          const struct generate_options *o, const uint32_t *ids, uint32_t n_ids,
                          struct mu_err *err)
{
    struct mu_answer answer;
    struct mu_answer_options wanted = o->answer;
    uint64_t longest = mu_model_file_config(session->file)->context;
    /* How much was not asked for in so many words gives way to the model's context. */
    if (!mu_given(in, "n") && longest > n_ids) wanted.n = MU_MIN(wanted.n, longest - n_ids);
    MU_TRY(mu_session_engine(session, &o->run, n_ids + wanted.n, n_ids, err));
    mu_status status = mu_answer_run(session, in, &wanted, ids, n_ids, !o->json, &answer, err);
    if (status == MU_OK && o->json)
        status = print_json(session, &answer, err);
    else if (status == MU_OK)
        status = mu_cli_out("\n", 1, err);
    if (status == MU_OK && !o->json && (o->run.verbose || mu_cli_fancy()))
        mu_answer_say_speed(session, &o->run, &answer);
    mu_answer_fini(&answer);
    return status;
}

static mu_status generate_run(const struct mu_invocation *in, struct mu_err *err)
{
    struct generate_options settled = *(const struct generate_options *)in->options, *o = &settled;
    struct mu_session session;
    uint32_t *ids = NULL, n_ids = 0;
    settle_prompt(in, o);
    if (!o->json && mu_commanded(in, "logprobs"))
        return mu_fail(err, MU_E_USAGE, "--logprobs are printed with --json only");
    mu_status status = mu_session_open(&session, in->result->operands[0], err);
    /* Ids in, ids out: a model without a tokenizer still runs. */
    if (status == MU_OK && mu_session_tokenizer(&session, o->tokens ? NULL : err) != MU_OK &&
        !o->tokens)
        status = err->code;
    if (status == MU_OK) status = read_prompt(&session, o, &ids, &n_ids, err);
    if (status == MU_OK) status = generate(&session, in, o, ids, n_ids, err);
    mu_free(ids);
    mu_session_close(&session);
    return status;
}

const struct mu_command mu_command_generate = {
    .spec = {.command = "generate",
             .operands = "MODEL",
             .summary = "text from a prompt",
             .details =
                 "MODEL is a folder with safetensors, a .gguf file, a hub id already on disk, "
                 "or synth:NAME@TYPE.",
             .options = options,
             .min_operands = 1,
             .max_operands = 1},
    .options_size = sizeof(struct generate_options),
    .run = generate_run,
};
