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

void mu_editor_open(struct mu_editor *editor);
/* Keeps the history of this time too. */
void mu_editor_close(struct mu_editor *editor);
/* Appends a line without its end; `prompt` is for a person. False at the end of input. */
bool mu_editor_line(struct mu_editor *editor, const char *prompt, struct mu_text *line);

#endif
