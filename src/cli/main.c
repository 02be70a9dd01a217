/* The program's entry: finds the command, parses its options, runs it, ends the process. */
#include "cli/cli.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/log.h"
#include "cli/session.h"
#include "comm/comm.h"

#include <fcntl.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DOCUMENT_BYTES_MAX ((size_t)32 << 20)

static volatile sig_atomic_t interrupts, interrupts_caught;
static void (*_Atomic undo_at_signal)(void);
static struct mu_world *world;

struct mu_world *mu_cli_world(void)
{
    return world;
}

static void on_interrupt(int signal_number)
{
    (void)signal_number;
    if (!interrupts_caught || interrupts) {
        void (*undo)(void) = undo_at_signal;
        if (undo) undo();
        _exit(mu_status_exit(MU_E_INTERRUPTED));
    }
    interrupts = 1;
}

void mu_cli_at_signal(void (*undo)(void))
{
    undo_at_signal = undo;
}

void mu_cli_catch_interrupts(bool caught)
{
    interrupts = 0;
    interrupts_caught = caught;
}

bool mu_cli_interrupted(void)
{
    return interrupts != 0;
}

mu_status mu_cli_out(const void *bytes, size_t len, struct mu_err *err)
{
    return mu_fd_write(STDOUT_FILENO, "standard output", bytes, len, err);
}

mu_status mu_cli_out_text(struct mu_text *text, struct mu_err *err)
{
    MU_TRY(mu_text_status(text, err));
    mu_status status = mu_cli_out(mu_text_get(text), text->len, err);
    mu_text_clear(text);
    return status;
}

static int add_piece(const char *bytes, size_t len, void *out)
{
    mu_text_add(out, bytes, len);
    return 0;
}

mu_status mu_cli_out_json(json_t *document, struct mu_err *err)
{
    struct mu_text out;
    mu_text_init(&out, DOCUMENT_BYTES_MAX);
    int rc =
        json_dump_callback(document, add_piece, &out, JSON_INDENT(2) | JSON_REAL_PRECISION(10));
    json_decref(document);
    mu_text_char(&out, '\n');
    mu_status status = rc == 0 ? mu_cli_out_text(&out, err)
                               : mu_fail(err, MU_E_MEMORY, "no memory for the report");
    mu_text_fini(&out);
    return status;
}

void mu_cli_say(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vfprintf(stderr, format, args);
    va_end(args);
}

bool mu_cli_fancy(void)
{
    const char *term = getenv("TERM");
    return isatty(STDERR_FILENO) && !getenv("NO_COLOR") && term && strcmp(term, "dumb") != 0;
}

static void add_overview(struct mu_text *out)
{
    mu_text_str(out, "muster " MU_VERSION ": many devices, one language model\n\n"
                     "Usage: muster COMMAND [OPTION]... [ARGUMENT]...\n\n");
    for (const struct mu_command *const *c = mu_commands; *c; c++)
        mu_text_printf(out, "  %-13s %s\n", (*c)->spec.command, (*c)->spec.summary);
    mu_text_str(out, "\nExit status:\n");
    mu_cli_exit_statuses("  ", "", out);
    mu_text_str(out, "\nmuster COMMAND --help tells more; muster --man is the whole manual.\n");
}

static const struct mu_command *command_find(const char *name, struct mu_err *err)
{
    if (name[0] == '-') {
        (void)mu_fail(err, MU_E_USAGE, "muster has no option %s", name);
        mu_err_cure(err, "it has --help, --version and --man; others follow a command");
        return NULL;
    }
    const char *nearest = NULL;
    /* A word none of whose letters fit is no misspelling. */
    unsigned nearest_distance = (unsigned)MU_MIN(strlen(name), (size_t)4);
    for (const struct mu_command *const *c = mu_commands; *c; c++) {
        unsigned d = mu_text_distance(name, (*c)->spec.command);
        if (d == 0) return *c;
        if (d < nearest_distance) {
            nearest = (*c)->spec.command;
            nearest_distance = d;
        }
    }
    (void)mu_fail(err, MU_E_USAGE, "there is no command '%s'", name);
    if (nearest)
        mu_err_cure(err, "did you mean %s?", nearest);
    else
        mu_err_cure(err, "muster --help lists them");
    return NULL;
}

/* ~/.config/muster/config, or where XDG_CONFIG_HOME says; NULL when there is no home. */
static char *config_path(void)
{
    const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/') return mu_path_join(xdg, "muster/config");
    return home && home[0] ? mu_path_join(home, ".config/muster/config") : NULL;
}

static const struct mu_option_spec *nth_spec(unsigned i)
{
    return mu_commands[i] ? &mu_commands[i]->spec : NULL;
}

/* Of several processes the first does what the command says, and the others follow it. A command
 * that needs one process only is done by the first alone. */
static mu_status run_alone_or_not(const struct mu_command *command, const struct mu_invocation *in,
                                  struct mu_err *err)
{
    unsigned process, n;
    if (!mu_world_launched(&process, &n)) return command->run(in, err);
    if (!command->over_processes) return process == 0 ? command->run(in, err) : MU_OK;
    MU_TRY(mu_world_open(&world, err));
    mu_status status = process == 0 ? command->run(in, err)
                                    : mu_session_follow(in->result->operands[0], in->options, err);
    if (status != MU_OK) mu_world_abort(world);
    mu_world_close(world);
    return status;
}

static mu_status run_command(const struct mu_command *command, int argc, char **argv,
                             struct mu_err *err)
{
    struct mu_option_result result = {0};
    struct mu_text text;
    mu_text_init(&text, 1 << 20);
    char *config = config_path();
    void *options = mu_calloc(1, command->options_size);
    mu_status status =
        options ? mu_option_parse(&command->spec, argc, argv, config, options, &result, err)
                : mu_fail_memory(err, command->options_size);
    if (status == MU_OK && !result.help && !result.version)
        status = mu_option_check_config(config, nth_spec, err);
    if (status == MU_OK && result.help) {
        mu_option_help(&command->spec, &text);
        status = mu_cli_out_text(&text, err);
    } else if (status == MU_OK && result.version) {
        status = mu_cli_out("muster " MU_VERSION "\n", sizeof "muster " MU_VERSION, err);
    } else if (status == MU_OK) {
        struct mu_invocation in = {options, &command->spec, &result};
        status = run_alone_or_not(command, &in, err);
    }
    mu_option_result_fini(&result);
    mu_free(options);
    mu_free(config);
    mu_text_fini(&text);
    return status;
}

static mu_status run(int argc, char **argv, struct mu_err *err)
{
    const char *word = argc > 1 ? argv[1] : "--help";
    if (strcmp(word, "--version") == 0)
        return mu_cli_out("muster " MU_VERSION "\n", sizeof "muster " MU_VERSION, err);
    bool manual = strcmp(word, "--man") == 0;
    bool help = strcmp(word, "help") == 0;
    if (help && argc > 2) {
        char *asked[] = {argv[2], (char[]){"--help"}, NULL};
        const struct mu_command *command = command_find(argv[2], err);
        return command ? run_command(command, 2, asked, err) : MU_E_USAGE;
    }
    if (manual || help || strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        struct mu_text text;
        mu_text_init(&text, 1 << 20);
        (manual ? mu_cli_manual : add_overview)(&text);
        mu_status status = mu_cli_out_text(&text, err);
        mu_text_fini(&text);
        return status;
    }
    const struct mu_command *command = command_find(word, err);
    return command ? run_command(command, argc - 1, argv + 1, err) : MU_E_USAGE;
}

/* A file that is opened must not become standard output because that was closed. What stands in
 * fails on use, as a closed descriptor does. */
static void occupy_standard_descriptors(void)
{
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0)
            (void)open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

/* Text is UTF-8 here, whatever the user's locale: otherwise libedit drops what is typed beyond
 * ASCII, and tables show it as numbers. */
static void take_text_as_utf8(void)
{
    locale_t utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    if (utf8) (void)uselocale(utf8);
}

static void say_line(const char *line)
{
    mu_cli_say("muster: %s\n", line);
}

int main(int argc, char **argv)
{
    int watched;
    occupy_standard_descriptors();
    take_text_as_utf8();
    if (mu_watch_split(say_line, &watched)) return watched;
    struct sigaction act = {.sa_handler = on_interrupt};
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
    act.sa_handler = SIG_IGN;
    (void)sigaction(SIGPIPE, &act, NULL);

    struct mu_err err = MU_ERR_INIT;
    mu_status status = run(argc, argv, &err);
    if (err.code != MU_OK && err.code != MU_E_CLOSED) {
        char line[768];
        say_line(mu_err_line(&err, line, sizeof line));
        mu_watch_spoken();
    }
    return mu_status_exit(status);
}
