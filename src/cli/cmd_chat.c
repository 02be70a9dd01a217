/* muster chat: a conversation at the terminal, or the answer to one question. */
#include "cli/answer.h"
#include "cli/editor.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"

#define LINE_MAX_BYTES         (1u << 20)
#define CONVERSATION_MAX_BYTES (64u << 20)
#define CONTEXT_DEFAULT        4096

struct chat_options {
    struct mu_run_options run;
    struct mu_answer_options answer;
    const char *system, *transcript;
};

static const struct mu_option options[] = {
    {"system", 0, MU_OPTION_TEXT, offsetof(struct chat_options, system), "TEXT",
     "what the model is told before the conversation", 0, 0, NULL, NULL},
    {"transcript", 0, MU_OPTION_TEXT, offsetof(struct chat_options, transcript), "FILE",
     "go on from the conversation in this file, if it is there, and keep it there", 0, 0, NULL,
     NULL},
    MU_ANSWER_OPTION_ROWS(struct chat_options),
    MU_RUN_OPTION_ROWS(struct chat_options),
    {0}};

struct chat {
    struct mu_session session;
    const struct mu_invocation *in;
    json_t *conversation; /* {"messages": [...], "add_generation_prompt": true} */
    char *kept;           /* the file that it is written to whenever it grows; NULL: none */
    bool quit;
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
    struct mu_prompt prompt = {ids, n_ids, NULL};
    struct mu_answers answers;
    mu_status status =
        mu_answers_run(&chat->session, chat->in, &wanted, &prompt, 1, 1, true, &answers, err);
    if (status == MU_OK && (o->run.verbose || mu_cli_fancy()))
        mu_answer_say_speed(&chat->session, &o->run, &answers);
    if ((status == MU_OK || status == MU_E_INTERRUPTED) && answers.items[0].text.len > 0) {
        const struct mu_text *text = &answers.items[0].text; /* what was said stays said */
        mu_status added =
            add_message(chat, "assistant", (struct mu_str){mu_text_get(text), text->len}, err);
        if (status == MU_OK) status = added;
    }
    mu_answers_fini(&answers);
    mu_free(ids);
    return status;
}

static json_t *messages_of(const struct chat *chat)
{
    return json_object_get(chat->conversation, "messages");
}

static bool has_role(const struct chat *chat, size_t i, const char *role)
{
    const char *s =
        json_string_value(json_object_get(json_array_get(messages_of(chat), i), "role"));
    return s && strcmp(s, role) == 0;
}

/* A question without any answer is taken back, so that what follows is not a second one. */
static mu_status ask(struct chat *chat, struct mu_str question, struct mu_err *err)
{
    MU_TRY(add_message(chat, "user", question, err));
    mu_status status = answer_turn(chat, err);
    size_t last = json_array_size(messages_of(chat)) - 1;
    if (status != MU_OK && status != MU_E_INTERRUPTED && has_role(chat, last, "user"))
        (void)json_array_remove(messages_of(chat), last);
    return status;
}

/* ---- commands: lines that begin with one of these words ---- */

static mu_status do_reset(struct chat *chat, const char *rest, struct mu_err *err)
{
    (void)rest, (void)err;
    json_t *messages = messages_of(chat);
    size_t kept = has_role(chat, 0, "system");
    while (json_array_size(messages) > kept)
        (void)json_array_remove(messages, json_array_size(messages) - 1);
    return MU_OK;
}

/* The new message is the last one then, and goes to the front. */
static mu_status do_system(struct chat *chat, const char *rest, struct mu_err *err)
{
    json_t *messages = messages_of(chat);
    if (*rest) MU_TRY(add_message(chat, "system", mu_str(rest), err));
    if (has_role(chat, 0, "system") && json_array_size(messages) > (*rest ? 1 : 0))
        (void)json_array_remove(messages, 0);
    if (!*rest) return MU_OK;
    size_t last = json_array_size(messages) - 1;
    json_t *message = json_incref(json_array_get(messages, last));
    (void)json_array_remove(messages, last);
    return json_array_insert_new(messages, 0, message) == 0 ? MU_OK
                                                            : mu_fail_memory(err, sizeof(json_t));
}

static mu_status do_regenerate(struct chat *chat, const char *rest, struct mu_err *err)
{
    (void)rest;
    json_t *messages = messages_of(chat);
    size_t n = json_array_size(messages);
    if (n > 0 && has_role(chat, n - 1, "assistant")) (void)json_array_remove(messages, --n);
    if (n == 0 || !has_role(chat, n - 1, "user"))
        return mu_fail(err, MU_E_USAGE, "there is no question to answer again");
    return answer_turn(chat, err);
}

static int add_piece(const char *bytes, size_t len, void *out)
{
    mu_text_add(out, bytes, len);
    return 0;
}

static mu_status write_kept(const struct chat *chat, struct mu_err *err)
{
    struct mu_text text;
    struct mu_file_out out;
    if (!chat->kept) return MU_OK;
    mu_text_init(&text, CONVERSATION_MAX_BYTES);
    if (json_dump_callback(chat->conversation, add_piece, &text, JSON_INDENT(2)) != 0)
        text.status = MU_E_MEMORY;
    mu_text_char(&text, '\n');
    mu_status status = mu_text_status(&text, err);
    if (status == MU_OK) status = mu_file_out_open(&out, chat->kept, err);
    if (status == MU_OK) {
        status = mu_file_out_write(&out, text.p, text.len, err);
        if (status == MU_OK) status = mu_file_out_commit(&out, err);
        mu_file_out_close(&out);
    }
    mu_text_fini(&text);
    return status;
}

/* Writes the conversation there now, and from now on; a place that cannot be written to is none. */
static mu_status keep_at(struct chat *chat, const char *path, struct mu_err *err)
{
    char *before = chat->kept;
    chat->kept = mu_strdup(path);
    mu_status status = chat->kept ? write_kept(chat, err) : mu_fail_memory(err, strlen(path) + 1);
    if (status == MU_OK) {
        mu_free(before);
    } else {
        mu_free(chat->kept);
        chat->kept = before;
    }
    return status;
}

static mu_status do_save(struct chat *chat, const char *rest, struct mu_err *err)
{
    if (!*rest) return mu_fail(err, MU_E_USAGE, "/save wants the name of a file");
    return keep_at(chat, rest, err);
}

/* Another conversation takes the place of this one, if it is one. */
static mu_status do_load(struct chat *chat, const char *rest, struct mu_err *err)
{
    json_t *loaded;
    if (!*rest) return mu_fail(err, MU_E_USAGE, "/load wants the name of a file");
    MU_TRY(mu_json_read(rest, CONVERSATION_MAX_BYTES, &loaded, err));
    if (!json_is_array(json_object_get(loaded, "messages"))) {
        json_decref(loaded);
        mu_status status = mu_fail(err, MU_E_INPUT, "a conversation holds \"messages\"");
        mu_err_where(err, "%s", rest);
        return status;
    }
    json_decref(chat->conversation);
    chat->conversation = loaded;
    return MU_OK;
}

static mu_status do_quit(struct chat *chat, const char *rest, struct mu_err *err)
{
    (void)rest, (void)err;
    chat->quit = true;
    return MU_OK;
}

static mu_status do_help(struct chat *chat, const char *rest, struct mu_err *err);

static const struct {
    const char *name, *argument, *help;
    mu_status (*run)(struct chat *chat, const char *rest, struct mu_err *err);
} commands[] = {
    {"/help", "", "this list", do_help},
    {"/reset", "", "forget what was said, but for the system's message", do_reset},
    {"/system", "TEXT", "what the model is told before the conversation; nothing: no more",
     do_system},
    {"/regenerate", "", "another answer to the last question", do_regenerate},
    {"/save", "FILE", "keep the conversation there from now on, as generate --chat reads it",
     do_save},
    {"/load", "FILE", "go on from such a file", do_load},
    {"/quit", "", "the end, as Ctrl-D is", do_quit},
};

static mu_status do_help(struct chat *chat, const char *rest, struct mu_err *err)
{
    (void)chat, (void)rest, (void)err;
    for (size_t i = 0; i < MU_ARRAY_LEN(commands); i++)
        mu_cli_say("  %-11s %-5s %s\n", commands[i].name, commands[i].argument, commands[i].help);
    mu_cli_say("A \\ at the end of a line goes on with the next; Ctrl-C stops an answer, or drops "
               "what was typed.\n");
    return MU_OK;
}

/* A slash and a word of letters, unlike the path of a file. */
static bool looks_like_command(const char *text, size_t len)
{
    const char *letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    return len > 1 && text[0] == '/' && strspn(text + 1, letters) == len - 1;
}

/* What the user entered: a command, or a message to answer. */
static mu_status take_entry(struct chat *chat, const struct mu_text *entry, struct mu_err *err)
{
    const char *text = mu_text_get(entry);
    size_t word = strcspn(text, " ");
    for (size_t i = 0; i < MU_ARRAY_LEN(commands); i++)
        if (mu_str_is((struct mu_str){text, word}, commands[i].name))
            return commands[i].run(chat, text + word + strspn(text + word, " "), err);
    if (looks_like_command(text, word)) {
        (void)mu_fail(err, MU_E_USAGE, "there is no command %.*s", (int)MU_MIN(word, 40u), text);
        mu_err_cure(err, "/help lists them");
        return MU_E_USAGE;
    }
    return ask(chat, (struct mu_str){text, entry->len}, err);
}

/* A line, or several joined by \ at their ends. */
static enum mu_editor_key read_entry(struct mu_editor *editor, struct mu_text *entry)
{
    mu_text_clear(entry);
    enum mu_editor_key key = mu_editor_line(editor, "> ", entry);
    while (key == MU_EDITOR_LINE && entry->len > 0 && entry->p[entry->len - 1] == '\\') {
        entry->p[entry->len - 1] = '\n';
        key = mu_editor_line(editor, "  ", entry);
        if (key == MU_EDITOR_END) return MU_EDITOR_LINE;
        if (key == MU_EDITOR_STOP) key = MU_EDITOR_DROPPED;
    }
    return key;
}

/* At a prompt Ctrl-C drops what was typed; where there is nothing to drop, the second one ends. */
static mu_status take_ctrl_c(const struct chat *chat, enum mu_editor_key key, bool again,
                             struct mu_err *err)
{
    mu_cli_say("\n");
    if (key == MU_EDITOR_STOP && again) return mu_fail(err, MU_E_INTERRUPTED, "interrupted");
    mu_cli_say(chat->kept || json_array_size(messages_of(chat)) == 0
                   ? "Ctrl-C again, or Ctrl-D, ends.\n"
                   : "Ctrl-C again, or Ctrl-D, ends; /save FILE keeps the conversation.\n");
    return MU_OK;
}

static mu_status take_and_keep(struct chat *chat, const struct mu_text *entry, struct mu_err *err)
{
    mu_status status = mu_text_status(entry, err);
    if (status == MU_OK) status = take_entry(chat, entry, err);
    mu_status kept = write_kept(chat, status == MU_OK ? err : NULL);
    return status == MU_OK ? kept : status;
}

/* A fault costs its line only: it is said, and the conversation goes on. The exit status tells a
 * script of the first; a person has seen it. */
static mu_status converse(struct chat *chat, struct mu_err *err)
{
    struct mu_text entry;
    struct mu_editor editor;
    enum mu_editor_key key, before = MU_EDITOR_LINE;
    mu_text_init(&entry, LINE_MAX_BYTES);
    mu_editor_open(&editor);
    mu_status status = MU_OK, first = MU_OK;
    if (editor.person) mu_cli_say("A line is a message; end with Ctrl-D. /help tells more.\n");
    for (; !chat->quit && (key = read_entry(&editor, &entry)) != MU_EDITOR_END; before = key) {
        if (key != MU_EDITOR_LINE) {
            status = take_ctrl_c(chat, key, before != MU_EDITOR_LINE, err);
            if (status != MU_OK) break;
            continue;
        }
        if (entry.len > 0) status = take_and_keep(chat, &entry, err);
        if (status == MU_E_CLOSED || (status == MU_E_INTERRUPTED && !editor.person)) break;
        char line[768];
        if (status != MU_OK && status != MU_E_INTERRUPTED) {
            mu_cli_say("muster: %s\n", mu_err_line(err, line, sizeof line));
            if (!editor.person && first == MU_OK) first = status;
        }
        *err = MU_ERR_INIT;
        status = MU_OK;
    }
    mu_editor_close(&editor);
    mu_text_fini(&entry);
    return status == MU_OK ? first : status;
}

/* What the conversation begins with. */
static mu_status begin(struct chat *chat, const struct chat_options *o, struct mu_err *err)
{
    chat->conversation = json_pack("{s:[], s:b}", "messages", "add_generation_prompt", 1);
    if (!chat->conversation) return mu_fail_memory(err, sizeof(json_t));
    if (o->transcript && mu_file_exists(o->transcript)) MU_TRY(do_load(chat, o->transcript, err));
    if (o->system) MU_TRY(do_system(chat, o->system, err));
    return o->transcript ? keep_at(chat, o->transcript, err) : MU_OK;
}

static mu_status chat(struct chat *chat, struct mu_err *err)
{
    const struct chat_options *o = chat->in->options;
    const struct mu_option_result *given = chat->in->result;
    MU_TRY(mu_session_open(&chat->session, given->operands[0], err));
    MU_TRY(mu_session_tokenizer(&chat->session, err));
    MU_TRY(begin(chat, o, err));
    uint64_t longest = mu_model_file_config(chat->session.file)->context;
    MU_TRY(mu_session_engine(&chat->session, &o->run, MU_MIN(longest, CONTEXT_DEFAULT), 0, 1, err));
    if (given->n_operands < 2) return converse(chat, err);
    mu_status status = ask(chat, mu_str(given->operands[1]), err);
    mu_status kept = write_kept(chat, status == MU_OK ? err : NULL);
    return status == MU_OK ? kept : status;
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
    mu_free(c.kept);
    mu_session_close(&c.session);
    return status;
}

const struct mu_command mu_command_chat = {
    .spec =
        {.command = "chat",
         .operands = "MODEL [QUESTION]",
         .summary = "talk with a model, or ask it one question",
         .details =
             "Messages go through the model's chat template. Without QUESTION every line "
             "of standard input is a message of one conversation, or a command (/help lists "
             "them); --context is 4096 unless given. A line that fails is told and passed over; "
             "the exit status says so at the end, unless somebody sat at the terminal.",
         .options = options,
         .min_operands = 1,
         .max_operands = 2},
    .options_size = sizeof(struct chat_options),
    .run = chat_run,
};
