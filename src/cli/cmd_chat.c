/* muster chat: a conversation at the terminal, or the answer to one question. */
#include "cli/answer.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/utf8.h"

#include <stdio.h>
#include <unistd.h>

#define LINE_MAX_BYTES  (1u << 20)
#define CONTEXT_DEFAULT 4096

struct chat_options {
    struct mu_run_options run;
    struct mu_answer_options answer;
    const char *system;
};

static const struct mu_option options[] = {
    {"system", 0, MU_OPTION_TEXT, offsetof(struct chat_options, system), "TEXT",
     "what the model is told before the conversation", 0, 0, NULL, NULL},
    MU_ANSWER_OPTION_ROWS(struct chat_options),
    MU_RUN_OPTION_ROWS(struct chat_options),
    {0}};

struct chat {
    struct mu_session session;
    const struct mu_invocation *in;
    json_t *conversation; /* {"messages": [...], "add_generation_prompt": true} */
};

static mu_status add_message(struct chat *chat, const char *role, struct mu_str content,
                             struct mu_err *err)
{
    json_t *messages = json_object_get(chat->conversation, "messages");
    struct mu_text text;
    mu_text_init(&text, 4 * LINE_MAX_BYTES);
    mu_utf8_add_repaired(&text, content);
    mu_status status = mu_text_status(&text, err);
    json_t *message = status != MU_OK ? NULL
                                      : json_pack("{s:s, s:s%}", "role", role, "content",
                                                  mu_text_get(&text), text.len);
    if (status == MU_OK && (!message || json_array_append_new(messages, message) != 0))
        status = mu_fail_memory(err, text.len);
    mu_text_fini(&text);
    return status;
}

/* Answers the conversation so far, on standard output, and adds the answer to it. */
static mu_status answer_turn(struct chat *chat, struct mu_err *err)
{
    const struct chat_options *o = chat->in->options;
    struct mu_answer_options wanted = o->answer;
    struct mu_engine_facts facts;
    uint32_t *ids = NULL, n_ids = 0;
    mu_engine_facts(chat->session.engine, &facts);
    MU_TRY(mu_session_encode_conversation(&chat->session, chat->conversation, &ids, &n_ids, err));
    if (n_ids < facts.context) wanted.n = MU_MIN(wanted.n, facts.context - n_ids);
    struct mu_prompt prompt = {ids, n_ids};
    struct mu_answers answers;
    mu_status status =
        mu_answers_run(&chat->session, chat->in, &wanted, &prompt, 1, 1, true, &answers, err);
    if (status == MU_OK && (o->run.verbose || mu_cli_fancy()))
        mu_answer_say_speed(&chat->session, &o->run, &answers);
    if (status == MU_OK) {
        const struct mu_text *text = &answers.items[0].text;
        status = add_message(chat, "assistant", (struct mu_str){mu_text_get(text), text->len}, err);
    }
    mu_answers_fini(&answers);
    mu_free(ids);
    return status;
}

/* One line of the user, without its end; false at the end of input. */
static bool read_line(struct mu_text *line)
{
    mu_text_clear(line);
    if (isatty(STDIN_FILENO)) mu_cli_say("> ");
    for (int c; (c = getc(stdin)) != EOF;) {
        if (c == '\n') return true;
        mu_text_char(line, (char)c);
    }
    return line->len > 0;
}

static mu_status converse(struct chat *chat, struct mu_err *err)
{
    struct mu_text line;
    mu_text_init(&line, LINE_MAX_BYTES);
    mu_status status = MU_OK;
    if (isatty(STDIN_FILENO)) mu_cli_say("A line is a message; end with Ctrl-D.\n");
    while (status == MU_OK && read_line(&line)) {
        if (line.len == 0) continue;
        status = mu_text_status(&line, err);
        if (status == MU_OK)
            status = add_message(chat, "user", (struct mu_str){line.p, line.len}, err);
        if (status == MU_OK) status = answer_turn(chat, err);
        if (status == MU_E_INTERRUPTED && isatty(STDIN_FILENO)) { /* only this answer */
            *err = MU_ERR_INIT;
            status = MU_OK;
        }
    }
    mu_text_fini(&line);
    return status;
}

static mu_status chat(struct chat *chat, struct mu_err *err)
{
    const struct chat_options *o = chat->in->options;
    const struct mu_option_result *given = chat->in->result;
    MU_TRY(mu_session_open(&chat->session, given->operands[0], err));
    MU_TRY(mu_session_tokenizer(&chat->session, err));
    chat->conversation = json_pack("{s:[], s:b}", "messages", "add_generation_prompt", 1);
    if (!chat->conversation) return mu_fail_memory(err, sizeof(json_t));
    if (o->system) MU_TRY(add_message(chat, "system", mu_str(o->system), err));
    uint64_t longest = mu_model_file_config(chat->session.file)->context;
    MU_TRY(mu_session_engine(&chat->session, &o->run, MU_MIN(longest, CONTEXT_DEFAULT), 0, 1, err));
    if (given->n_operands < 2) return converse(chat, err);
    MU_TRY(add_message(chat, "user", mu_str(given->operands[1]), err));
    return answer_turn(chat, err);
}

static mu_status chat_run(const struct mu_invocation *in, struct mu_err *err)
{
    struct chat c = {.in = in};
    if (mu_commanded(in, "logprobs")) {
        mu_status refused = mu_fail(err, MU_E_USAGE, "chat prints no log-probabilities");
        mu_err_cure(err, "muster generate --json does");
        return refused;
    }
    mu_status status = chat(&c, err);
    json_decref(c.conversation);
    mu_session_close(&c.session);
    return status;
}

const struct mu_command mu_command_chat = {
    .spec = {.command = "chat",
             .operands = "MODEL [QUESTION]",
             .summary = "talk with a model, or ask it one question",
             .details =
                 "Messages go through the model's chat template. Without QUESTION every line "
                 "of standard input is a message of one conversation; --context is 4096 "
                 "unless given.",
             .options = options,
             .min_operands = 1,
             .max_operands = 2},
    .options_size = sizeof(struct chat_options),
    .run = chat_run,
};
