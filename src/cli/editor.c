/* Lines that a person types; see editor.h. */
#include "cli/editor.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/library.h"
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

#define HISTORY_LINES 1000
#define CTRL_C        3

/* As editline/readline.h has them. */
static struct {
    char *(*readline)(const char *prompt);
    int (*add_history)(const char *line);
    int (*read_history)(const char *path);
    int (*write_history)(const char *path);
    int (*stifle_history)(int lines);
    int (*rl_add_defun)(const char *name, int (*run)(int count, int key), int key);
    int *rl_done, *rl_end; /* set to end the line; how much was typed */
} edit;

/* Of the line at hand: what Ctrl-C found. */
static enum mu_editor_key key;

#define SYMBOL(name)                                                                               \
    {                                                                                              \
#name, offsetof(__typeof__(edit), name)                                                    \
    }

static bool load(void)
{
    static const char *const names[] = {"libedit.so.2", NULL};
    static const struct mu_symbol symbols[] = {
        SYMBOL(readline),       SYMBOL(add_history),  SYMBOL(read_history), SYMBOL(write_history),
        SYMBOL(stifle_history), SYMBOL(rl_add_defun), SYMBOL(rl_done),      SYMBOL(rl_end)};
    return mu_library_load(names, symbols, MU_ARRAY_LEN(symbols), &edit, NULL) == MU_OK;
}

/* ~/.local/state/muster/chat_history, or where XDG_STATE_HOME says; NULL without a place for it. */
static char *history_path(void)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char *folder = xdg && xdg[0] == '/' ? mu_path_join(xdg, "muster")
                   : home && home[0]    ? mu_path_join(home, ".local/state/muster")
                                        : NULL;
    bool made = folder && mu_folder_make(folder, NULL) == MU_OK;
    char *path = made ? mu_path_join(folder, "chat_history") : NULL;
    mu_free(folder);
    return path;
}

static int on_ctrl_c(int count, int pressed)
{
    (void)count, (void)pressed;
    key = *edit.rl_end > 0 ? MU_EDITOR_DROPPED : MU_EDITOR_STOP;
    *edit.rl_done = 1;
    return 0;
}

void mu_editor_open(struct mu_editor *editor)
{
    *editor = (struct mu_editor){.person = isatty(STDIN_FILENO) == 1};
    editor->edits = editor->person && isatty(STDOUT_FILENO) && load();
    if (!editor->edits) return;
    (void)edit.stifle_history(HISTORY_LINES); /* starts the library, which keys need */
    (void)edit.rl_add_defun("muster-stop", on_ctrl_c, CTRL_C);
    editor->history = history_path();
    if (editor->history) (void)edit.read_history(editor->history);
}

void mu_editor_close(struct mu_editor *editor)
{
    if (editor->history) (void)edit.write_history(editor->history);
    mu_free(editor->history);
}

/* The terminal drops what was typed before it sends the signal; how much that was it keeps. */
static enum mu_editor_key read_plain(const struct mu_editor *editor, struct mu_text *line)
{
    size_t before = line->len;
    int c;
    if (editor->person) mu_cli_catch_interrupts(true);
    while ((c = getc(stdin)) != EOF && c != '\n')
        mu_text_char(line, (char)c);
    bool stopped = c == EOF && mu_cli_interrupted();
    if (editor->person) mu_cli_catch_interrupts(false);
    if (stopped) clearerr(stdin);
    return stopped                           ? MU_EDITOR_STOP
           : c == '\n' || line->len > before ? MU_EDITOR_LINE
                                             : MU_EDITOR_END;
}

static struct termios as_it_was;

static void terminal_restore(void)
{
    (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &as_it_was);
}

/* With Ctrl-C as a key like others: a signal would leave the library no way to end the line. A
 * signal from elsewhere ends the process, and the library's way of reading keys with it. */
static char *read_edited(const char *prompt)
{
    bool known = tcgetattr(STDIN_FILENO, &as_it_was) == 0;
    if (known) {
        struct termios without = as_it_was;
        without.c_cc[VINTR] = _POSIX_VDISABLE;
        mu_cli_at_signal(terminal_restore);
        (void)tcsetattr(STDIN_FILENO, TCSADRAIN, &without);
    }
    key = MU_EDITOR_END;
    char *typed = edit.readline(prompt);
    if (known) {
        terminal_restore();
        mu_cli_at_signal(NULL);
    }
    return typed;
}

enum mu_editor_key mu_editor_line(struct mu_editor *editor, const char *prompt,
                                  struct mu_text *line)
{
    if (!editor->edits) {
        if (editor->person) mu_cli_say("%s", prompt);
        return read_plain(editor, line);
    }
    char *typed = read_edited(prompt);
    if (!typed) return key;
    if (*typed) (void)edit.add_history(typed);
    mu_text_str(line, typed);
    mu_free(typed);
    return MU_EDITOR_LINE;
}
