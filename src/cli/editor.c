/* Lines that a person types; see editor.h. */
#include "cli/editor.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/library.h"
#include "cli/cli.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define HISTORY_LINES 1000

/* As editline/readline.h has them. */
static struct {
    char *(*readline)(const char *prompt);
    int (*add_history)(const char *line);
    int (*read_history)(const char *path);
    int (*write_history)(const char *path);
    int (*stifle_history)(int lines);
} edit;

#define SYMBOL(name)                                                                               \
    {                                                                                              \
#name, offsetof(__typeof__(edit), name)                                                    \
    }

static bool load(void)
{
    static const char *const names[] = {"libedit.so.2", NULL};
    static const struct mu_symbol symbols[] = {SYMBOL(readline), SYMBOL(add_history),
                                               SYMBOL(read_history), SYMBOL(write_history),
                                               SYMBOL(stifle_history)};
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

void mu_editor_open(struct mu_editor *editor)
{
    *editor = (struct mu_editor){.person = isatty(STDIN_FILENO) == 1};
    editor->edits = editor->person && isatty(STDOUT_FILENO) && load();
    if (!editor->edits) return;
    (void)edit.stifle_history(HISTORY_LINES);
    editor->history = history_path();
    if (editor->history) (void)edit.read_history(editor->history);
}

void mu_editor_close(struct mu_editor *editor)
{
    if (editor->history) (void)edit.write_history(editor->history);
    mu_free(editor->history);
}

static bool read_plain(struct mu_text *line)
{
    size_t before = line->len;
    int c;
    while ((c = getc(stdin)) != EOF && c != '\n')
        mu_text_char(line, (char)c);
    return c == '\n' || line->len > before;
}

bool mu_editor_line(struct mu_editor *editor, const char *prompt, struct mu_text *line)
{
    if (!editor->edits) {
        if (editor->person) mu_cli_say("%s", prompt);
        return read_plain(line);
    }
    char *typed = edit.readline(prompt);
    if (!typed) return false;
    if (*typed) (void)edit.add_history(typed);
    mu_text_str(line, typed);
    mu_free(typed);
    return true;
}
