/* muster top: every device, live, beside the engine's own figures. The terminal is ncurses', which
 * is loaded when it is wanted; --once needs none. */
#include "cli/cli.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/library.h"
#include "base/thread.h"
#include "cli/top.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define ONCE_S     1.5 /* of samples, and of the thread that looks once a second */
#define ENGINE_S   2.5 /* after which an engine that was asked has answered, or failed to */
#define ONCE_WIDTH 120

struct top_options {
    const char *url, *token, *export;
    bool once, json;
};

static const struct mu_option options[] = {
    {"url", 'u', MU_OPTION_TEXT, offsetof(struct top_options, url), "URL",
     "show the figures of this engine's /metrics too", 0, 0, NULL, NULL},
    {"token", 0, MU_OPTION_TEXT, offsetof(struct top_options, token), "KEY",
     "the engine's key (better in MUSTER_TOKEN)", 0, 0, NULL, NULL},
    {"export", 'e', MU_OPTION_TEXT, offsetof(struct top_options, export), "ADDRESS:PORT",
     "give the figures to Prometheus there; PORT alone is for this machine", 0, 0, NULL, NULL},
    {"once", '1', MU_OPTION_FLAG, offsetof(struct top_options, once), NULL,
     "print one view and end", 0, 0, NULL, NULL},
    {"json", 'j', MU_OPTION_FLAG, offsetof(struct top_options, json), NULL,
     "with --once: as one JSON document", 0, 0, NULL, NULL},
    {0}};

static mu_status view_print(const struct top_view *view, bool json, struct mu_err *err)
{
    if (json) return mu_cli_out_json(top_view_json(view), err);
    struct top_screen *screen = mu_calloc(1, sizeof *screen);
    if (!screen) return mu_fail_memory(err, sizeof *screen);
    top_screen_draw(screen, view, ONCE_WIDTH);
    struct mu_text out;
    mu_text_init(&out, 1 << 20);
    for (unsigned i = 0; i < screen->n; i++)
        mu_text_printf(&out, "%s\n", screen->lines[i].text);
    mu_free(screen);
    mu_status status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    return status;
}

static mu_status once(struct top_data *data, struct top_view *view, bool json, struct mu_err *err)
{
    mu_clock_pause(ONCE_S, mu_cli_interrupted);
    MU_TRY(top_view_get(data, view, err));
    for (uint64_t start = mu_clock_ns();
         view->engine_awaited && mu_clock_seconds_since(start) < ENGINE_S;) {
        mu_clock_pause(0.1, mu_cli_interrupted);
        MU_TRY(top_view_get(data, view, err));
        if (mu_cli_interrupted()) break;
    }
    MU_TRY(view_print(view, json, err));
    return view->engine_gone ? MU_E_PEER : MU_OK;
}

#ifdef MU_HAVE_CURSES

#define NCURSES_NOMACROS
#include <curses.h>

/* clang-format off */
#define FUNCTIONS(X) \
    X(newterm) X(delscreen) X(endwin) X(cbreak) X(noecho) X(curs_set) X(newwin) X(delwin) X(wresize) \
    X(wtimeout) X(keypad) X(wgetch) X(werase) X(wmove) X(waddnstr) X(wrefresh) \
    X(tigetstr) X(has_colors) X(start_color) X(use_default_colors) X(init_pair) X(wattrset)
/* clang-format on */

static struct {
#define POINTER_(name) __typeof__ (&(name))(name);
    FUNCTIONS(POINTER_)
#undef POINTER_
} lib;

static mu_status library_load(struct mu_err *err)
{
    static const char *const names[] = {"libncursesw.so.6", "libncurses.so.6", NULL};
    static const struct mu_symbol symbols[] = {
#define SYMBOL_(name) {#name, offsetof(__typeof__(lib), name)},
        FUNCTIONS(SYMBOL_)
#undef SYMBOL_
    };
    mu_status status = mu_library_load(names, symbols, MU_ARRAY_LEN(symbols), &lib, err);
    mu_err_cure(err, "install libncursesw6, or use --once");
    return status;
}

/* What the screen shows, and where the user is in it. */
struct show {
    WINDOW *window;
    unsigned rows, columns, first; /* first: the line at the top, below the two heads */
    bool paused, coloured;
};

static void size_get(struct show *s)
{
    struct winsize size = {.ws_row = 24, .ws_col = 80};
    (void)ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    s->rows = MU_MAX(size.ws_row, 1);
    s->columns = MU_MAX(size.ws_col, 2);
}

static void colours_start(struct show *s)
{
    static const short inks[] = {[TOP_PLAIN] = -1,
                                 [TOP_HEAD] = COLOR_CYAN,
                                 [TOP_GOOD] = COLOR_GREEN,
                                 [TOP_WARN] = COLOR_YELLOW,
                                 [TOP_BAD] = COLOR_RED};
    s->coloured = !getenv("NO_COLOR") && lib.has_colors() && lib.start_color() == OK &&
                  lib.use_default_colors() == OK;
    for (short i = 1; s->coloured && i < (short)MU_ARRAY_LEN(inks); i++)
        (void)lib.init_pair(i, inks[i], -1);
}

static void line_show(const struct show *s, unsigned row, const char *text, enum top_tone tone)
{
    int attributes = s->coloured ? (int)((unsigned)tone << 8) /* COLOR_PAIR(tone) */ : 0;
    (void)lib.wattrset(s->window, attributes | (tone == TOP_HEAD ? (int)A_BOLD : 0));
    (void)lib.wmove(s->window, (int)row, 0);
    /* The last column of the last row would scroll. */
    (void)lib.waddnstr(s->window, text, (int)s->columns - 1);
}

static void screen_show(struct show *s, const struct top_screen *screen)
{
    unsigned heads = MU_MIN(2, screen->n), room = s->rows > heads + 1 ? s->rows - heads - 1 : 0;
    unsigned most = screen->n - heads > room ? screen->n - heads - room : 0;
    s->first = MU_MIN(s->first, most);
    (void)lib.werase(s->window);
    for (unsigned i = 0; i < heads; i++)
        line_show(s, i, screen->lines[i].text, screen->lines[i].tone);
    for (unsigned i = 0; i < room && heads + s->first + i < screen->n; i++)
        line_show(s, heads + i, screen->lines[heads + s->first + i].text,
                  screen->lines[heads + s->first + i].tone);
    line_show(s, s->rows - 1,
              s->paused ? "q quit  p go on  (paused)" : "q quit  p pause  arrows scroll", TOP_HEAD);
    (void)lib.wrefresh(s->window);
}

/* False when the user wants to leave. */
static bool key_take(struct show *s, int key)
{
    if (key == 'q' || key == 'Q') return false;
    if (key == 'p' || key == ' ') s->paused = !s->paused;
    if (key == KEY_DOWN || key == 'j') s->first++;
    if ((key == KEY_UP || key == 'k') && s->first > 0) s->first--;
    if (key == KEY_RESIZE) {
        size_get(s);
        (void)lib.wresize(s->window, (int)s->rows, (int)s->columns);
    }
    return true;
}

static mu_status show_run(struct show *s, struct top_data *data, struct top_view *view,
                          struct mu_err *err)
{
    struct top_screen *screen = mu_calloc(1, sizeof *screen);
    if (!screen) return mu_fail_memory(err, sizeof *screen);
    mu_status status = MU_OK;
    bool more = true;
    for (int key = ERR; more && status == MU_OK && !mu_cli_interrupted();) {
        if (!s->paused || !view->node) status = top_view_get(data, view, err);
        if (status != MU_OK) break;
        top_screen_draw(screen, view, s->columns - 1);
        screen_show(s, screen);
        key = lib.wgetch(s->window);
        more = key_take(s, key);
    }
    mu_free(screen);
    return status;
}

/* Printers and editors' windows are terminals too, and cannot place a cursor. */
static mu_status terminal_open(SCREEN **terminal, struct mu_err *err)
{
    char where[] = "cup";
    *terminal = lib.newterm(NULL, stdout, stdin);
    const char *way = *terminal ? lib.tigetstr(where) : NULL;
    if (way && way != (char *)-1) return MU_OK; /* -1: not a capability of text */
    if (*terminal) {
        (void)lib.endwin();
        lib.delscreen(*terminal);
    }
    const char *kind = getenv("TERM");
    (void)mu_fail(err, MU_E_UNSUPPORTED, "no screen can be drawn on a terminal of the kind '%.40s'",
                  kind ? kind : "");
    mu_err_cure(err, "muster top --once prints one view; else set TERM to what the terminal is");
    return MU_E_UNSUPPORTED;
}

static mu_status interactive(struct top_data *data, struct top_view *view, struct mu_err *err)
{
    MU_TRY(library_load(err));
    struct show show = {0};
    SCREEN *terminal = NULL;
    MU_TRY(terminal_open(&terminal, err));
    (void)lib.cbreak();
    (void)lib.noecho();
    (void)lib.curs_set(0);
    size_get(&show);
    colours_start(&show);
    show.window = lib.newwin((int)show.rows, (int)show.columns, 0, 0);
    mu_status status = MU_OK;
    if (show.window) {
        (void)lib.keypad(show.window, TRUE);
        lib.wtimeout(show.window, 250);
        status = show_run(&show, data, view, err);
        (void)lib.delwin(show.window);
    } else {
        status = mu_fail_memory(err, 0);
    }
    (void)lib.endwin();
    lib.delscreen(terminal);
    return status;
}

#else

static mu_status interactive(struct top_data *data, struct top_view *view, struct mu_err *err)
{
    (void)data;
    (void)view;
    (void)mu_fail(err, MU_E_MISSING, "this muster was built without ncurses");
    mu_err_cure(err, "use --once");
    return MU_E_MISSING;
}

#endif

/* Without a terminal an export goes on alone, until it is ended. */
static mu_status exported(const struct top_options *o, bool terminal, struct top_data *data,
                          struct top_view *view, struct mu_err *err)
{
    struct top_export *export = NULL;
    MU_TRY(top_export_start(o->export, data, &export, err));
    mu_cli_say("muster: metrics at %s/metrics%s\n", top_export_url(export),
               top_export_is_private(export) ? "" : ", for everybody who can reach this machine");
    mu_status status = terminal ? interactive(data, view, err) : MU_OK;
    while (!terminal && !mu_cli_interrupted())
        mu_clock_pause(1, mu_cli_interrupted);
    top_export_stop(export);
    return status;
}

static mu_status usage_check(const struct top_options *o, bool terminal, struct mu_err *err)
{
    const char *why = o->json && !o->once                ? "--json goes with --once"
                      : o->once && o->export             ? "--export goes on, --once does not"
                      : o->once || o->export || terminal ? NULL
                                                         : "no terminal here";
    if (!why) return MU_OK;
    (void)mu_fail(err, MU_E_USAGE, "%s", why);
    mu_err_cure(err, "muster top --once prints one view");
    return MU_E_USAGE;
}

static mu_status top_run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct top_options *o = in->options;
    bool terminal = isatty(STDOUT_FILENO) && isatty(STDIN_FILENO);
    MU_TRY(usage_check(o, terminal, err));
    struct top_data *data = NULL;
    struct top_view *view = mu_calloc(1, sizeof *view);
    if (!view) return mu_fail_memory(err, sizeof *view);
    mu_cli_catch_interrupts(true);
    mu_status status = top_data_start(o->url, o->token, &data, err);
    if (status == MU_OK)
        status = o->once     ? once(data, view, o->json, err)
                 : o->export ? exported(o, terminal, data, view, err)
                             : interactive(data, view, err);
    top_data_stop(data);
    top_view_fini(view);
    mu_free(view);
    return status;
}

const struct mu_command mu_command_top = {
    .spec = {.command = "top",
             .operands = "",
             .summary = "live view of every device, beside the engine's own figures",
             .details =
                 "q quits, p pauses, arrows scroll. What holds the clocks down is named; the "
                 "last column shows the latest tenths of seconds, from _ (idle) to @ "
                 "(busy). With --once the exit status is 5 when the engine cannot be reached. "
                 "--export works without a terminal too, for as long as it is let.",
             .options = options},
    .options_size = sizeof(struct top_options),
    .run = top_run,
};
