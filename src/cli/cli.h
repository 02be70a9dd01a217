/*
 * cli: the only room that prints for people, parses arguments and ends the process.
 *
 * One file a command (cmd_NAME.c) with one `const struct mu_command`; main.c lists them, parses the
 * options by the command's table, runs it and turns its status into an exit status. The main
 * thread.
 */
#ifndef MU_CLI_CLI_H
#define MU_CLI_CLI_H

#include "base/json.h"
#include "base/option.h"

struct mu_invocation {
    const void *options; /* the command's own struct, filled from its table */
    const struct mu_option_spec *spec;
    const struct mu_option_result *result;
};

struct mu_world;

struct mu_command {
    struct mu_option_spec spec;
    size_t options_size;
    bool over_processes; /* its struct begins with mu_run_options: mpirun may start several */
    mu_status (*run)(const struct mu_invocation *in, struct mu_err *err);
};

/* True when it stood on the command line. */
static inline bool mu_commanded(const struct mu_invocation *in, const char *option)
{
    return mu_option_commanded(in->spec, in->result, option);
}

static inline bool mu_given(const struct mu_invocation *in, const char *option)
{
    return mu_option_given(in->spec, in->result, option);
}

/* Writes to standard output, all of it; a reader that went away is MU_E_CLOSED. */
mu_status mu_cli_out(const void *bytes, size_t len, struct mu_err *err);
/* The same for a text that was composed, after checking that it is whole; empties it. */
mu_status mu_cli_out_text(struct mu_text *text, struct mu_err *err);
/* Writes one JSON document, NULL standing for one that memory was out for; gives up its reference.
 */
mu_status mu_cli_out_json(json_t *document, struct mu_err *err);
/* For people, on standard error. */
void mu_cli_say(const char *format, ...) MU_PRINTF(1, 2);
/* True when standard error is a terminal that may be coloured or drawn on. */
bool mu_cli_fancy(void);
/* On such a terminal, a line that says how far something is, `part` of 1; the next one takes its
 * place, and the end takes it away. However narrow the terminal, it stays one line. */
void mu_cli_progress(double part, const char *format, ...) MU_PRINTF(2, 3);
void mu_cli_progress_end(void);
/* SIGINT and SIGTERM end the process at once, unless a command says that it looks for them itself:
 * then the first makes mu_cli_interrupted true, and the second ends the process. Saying so, or no
 * more, forgets what came before. */
void mu_cli_catch_interrupts(bool caught);
bool mu_cli_interrupted(void);
/* What is left to do when a signal ends the process, with the few calls that its handler may make;
 * NULL: nothing. */
void mu_cli_at_signal(void (*undo)(void));

/* The processes that a launcher started together with this one for one command; NULL: none. */
struct mu_world *mu_cli_world(void);

extern const struct mu_command *const mu_commands[]; /* NULL at the end */

/* Appends the manual page of the whole program, as roff. */
void mu_cli_manual(struct mu_text *out);
/* Appends a line for each exit status, naming all that ends so; `lead` and `trail` stand around the
 * number. */
void mu_cli_exit_statuses(const char *lead, const char *trail, struct mu_text *out);

#endif
