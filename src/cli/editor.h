/*
 * What a person types, line by line: with editing and a history where libedit is here and both ends
 * are a terminal, else as it comes. Knows nothing of what lines mean. The main thread.
 */
#ifndef MU_CLI_EDITOR_H
#define MU_CLI_EDITOR_H

#include "base/text.h"

struct mu_editor {
    bool person; /* standard input is a terminal */
    bool edits;
    char *history; /* path of the file, NULL: none */
};

enum mu_editor_key {
    MU_EDITOR_LINE,
    MU_EDITOR_DROPPED, /* Ctrl-C took away what was typed */
    MU_EDITOR_STOP,    /* Ctrl-C, and nothing was typed as far as one can tell */
    MU_EDITOR_END,     /* of input */
};

void mu_editor_open(struct mu_editor *editor);
/* Keeps the history of this time too. */
void mu_editor_close(struct mu_editor *editor);
/* Appends a line without its end, or tells why there is none; `prompt` is for a person, of whom a
 * Ctrl-C at it does not end the program. */
enum mu_editor_key mu_editor_line(struct mu_editor *editor, const char *prompt,
                                  struct mu_text *line);

#endif
