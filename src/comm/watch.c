/*
 * The watcher of a rank; see comm.h. It is the process that mpirun or srun started, with one
 * thread; the rank is its child. Launchers kill everybody as soon as one process that they started
 * ends badly, and say little about it; this one lives on after its rank and tells the others first.
 *
 * All watchers talk with the first one, which alone decides: what it hears of first and weighs most
 * is said, once, and then it has all end. Should the first be gone, the second says that. Knows
 * nothing of models or steps but their numbers.
 */
#include "base/clock.h"
#include "base/thread.h"
#include "comm/comm_int.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define TICK_MS   250
#define BEAT_MS   500
#define SILENT_MS 3000 /* without a sign of life; the rest of the 5 s is for telling */
#define STOOD_MS  1500 /* between two looks of ours: less than after which others say us silent */
#define GRACE_MS  1000 /* somebody may yet say why better */
#define END_MS    2500 /* for the first watcher to decide, or for all to end */
#define JOIN_MS   4000 /* for watchers to meet: more than what a silent one is told by */
#define STRANGERS 8    /* connections that have not said who they are */
#define WORDS_MAX 200
#define TEXT_MAX  404 /* fits a message */

/* What causes weigh: of what is known when it is said, the heaviest is. */
enum weight {
    WEIGHT_NONE,
    WEIGHT_EXIT,   /* a rank ended by itself, which may be for another one's fault */
    WEIGHT_SILENT, /* one is stopped, stuck, or not heard of */
    WEIGHT_DIED    /* one was killed */
};

struct watcher {
    void (*say)(const char *line);
    struct mu_watch_page *page;
    unsigned process, n;
    pid_t rank;
    bool rank_over, terminated, welcomed;
    int rank_status; /* its exit status, when over */
    int signals, wake, words_pipe, listener;
    uint64_t stopped_ns;        /* since when it is stopped; 0: it is not */
    uint64_t awake_ns;          /* when it last looked */
    uint64_t settled_ns;        /* it stood still itself, and says nothing before this */
    uint64_t moved_ns, beat_ns; /* when its beat last grew; when ours was last sent */
    uint32_t beat;
    char words[WORDS_MAX]; /* the last line that it printed */
    size_t n_words;
    bool line_over;
    /* By process; all but the first watcher have [0] alone. */
    struct mu_watch_link links[MU_WATCH_SIZE], strangers[STRANGERS];
    enum weight weight;
    char verdict[TEXT_MAX];
    uint64_t say_ns, end_ns; /* when the verdict is said; when patience ends; 0: not now */
    bool over;
    int exit_status;
};

static struct mu_watch_page *own_page;
static int wake_watcher = -1;

/* ---- In the rank ---- */

struct mu_watch_page *mu_watch_page(void)
{
    return own_page;
}

void mu_watch_step(uint32_t serial)
{
    if (own_page) atomic_store_explicit(&own_page->step, serial + 1, memory_order_relaxed);
}

void mu_watch_phase(const char *phase)
{
    if (own_page) atomic_store_explicit(&own_page->phase, phase, memory_order_relaxed);
}

void mu_watch_spoken(void)
{
    if (own_page) atomic_store_explicit(&own_page->spoken, 1, memory_order_release);
}

bool mu_watch_join(void)
{
    uint64_t one = 1, begin = mu_clock_ns();
    atomic_store_explicit(&own_page->joined, 1, memory_order_release);
    ssize_t n MU_UNUSED = write(wake_watcher, &one, sizeof one);
    while (!atomic_load_explicit(&own_page->met, memory_order_acquire)) {
        if (mu_clock_ns() - begin > JOIN_MS * UINT64_C(1000000)) return false;
        (void)usleep(1000);
    }
    return true;
}

/* ---- What is said, and how it ends ---- */

static uint64_t in_ms(uint64_t ms)
{
    return mu_clock_ns() + ms * 1000000;
}

static void end(struct watcher *w, int exit_status)
{
    if (w->over) return;
    if (!w->rank_over) (void)kill(w->rank, SIGKILL);
    w->over = true;
    w->exit_status = exit_status;
}

static void tell(struct watcher *w, struct mu_watch_link *link, enum mu_watch_kind kind, int code,
                 const char *text)
{
    struct mu_watch_message m = {
        .token = w->page->token, .kind = kind, .process = w->process, .code = code};
    (void)snprintf(m.text, sizeof m.text, "%s", text);
    (void)mu_watch_send(link, &m);
}

static void tell_all(struct watcher *w, enum mu_watch_kind kind, int code, const char *text)
{
    for (unsigned i = 0; i < w->n; i++)
        if (w->links[i].fd >= 0) tell(w, &w->links[i], kind, code, text);
}

/* The first watcher, or one that cannot reach it, will say this unless something heavier comes. */
static void judge(struct watcher *w, enum weight weight, const char *text, uint64_t grace_ms)
{
    if (weight <= w->weight || w->terminated) return;
    w->weight = weight;
    (void)snprintf(w->verdict, sizeof w->verdict, "%s", text);
    w->say_ns = in_ms(grace_ms);
}

static void report(struct watcher *w, enum weight weight, const char *text)
{
    if (w->process == 0 || w->links[0].fd < 0) {
        /* With the first out of reach another one tells that, or the first says the same and the
         * launcher ends all. But before they meet nobody else knows how this rank was lost. */
        bool alone = w->links[0].heard_ns == 0;
        bool others = w->process > 0 && !(alone && weight > WEIGHT_EXIT);
        judge(w, weight, text, others ? END_MS : weight == WEIGHT_EXIT ? GRACE_MS : 0);
    } else if (weight > w->weight) {
        w->weight = weight;
        tell(w, &w->links[0], MU_WATCH_FAILED, (int)weight, text);
        w->end_ns = in_ms(END_MS);
    }
}

/* "rank 2 on host b was killed by SIGKILL in step 17; its last words: ..." All ranks are in about
 * the same step, so that ours tells where another one was lost. */
static void describe(const struct watcher *w, unsigned process, const char *host, const char *what,
                     const char *words, char text[TEXT_MAX])
{
    char where[80];
    uint32_t step = atomic_load_explicit(&w->page->step, memory_order_relaxed);
    if (step > 0)
        (void)snprintf(where, sizeof where, "in step %u", step - 1);
    else
        (void)snprintf(where, sizeof where, "before the first step, %s",
                       atomic_load_explicit(&w->page->phase, memory_order_relaxed));
    (void)snprintf(text, TEXT_MAX, "rank %u on host %s %s %s; its last words: %s", process, host,
                   what, where, words);
}

static void report_rank(struct watcher *w, enum weight weight, const char *what)
{
    char text[TEXT_MAX];
    const char *words = w->n_words ? w->words : "none", own[] = "muster: ";
    if (strncmp(words, own, strlen(own)) == 0) words += strlen(own);
    describe(w, w->process, w->page->host, what, words, text);
    report(w, weight, text);
}

static void say_verdict(struct watcher *w)
{
    w->say(w->verdict);
    tell_all(w, MU_WATCH_END, mu_status_exit(MU_E_PEER), "");
    end(w, mu_status_exit(MU_E_PEER));
}

/* ---- The rank ---- */

static void rank_ended(struct watcher *w, int status)
{
    char what[64];
    w->rank_over = true;
    if (WIFSIGNALED(status)) {
        int number = WTERMSIG(status);
        const char *name = sigabbrev_np(number);
        w->rank_status = mu_status_exit(MU_E_PEER);
        (void)snprintf(what, sizeof what, "was killed by SIG%s", name ? name : "?");
        report_rank(w, WEIGHT_DIED, what);
        return;
    }
    w->rank_status = WEXITSTATUS(status);
    if (w->rank_status == 0) {
        tell_all(w, w->process ? MU_WATCH_BYE : MU_WATCH_BEAT, 0, "");
        w->end_ns = in_ms(END_MS);
    } else if (w->process == 0 && atomic_load_explicit(&w->page->spoken, memory_order_acquire)) {
        tell_all(w, MU_WATCH_END, w->rank_status, "");
        end(w, w->rank_status);
    } else {
        (void)snprintf(what, sizeof what, "ended with exit status %d", w->rank_status);
        report_rank(w, WEIGHT_EXIT, what);
    }
}

static void take_child(struct watcher *w)
{
    int status;
    while (!w->rank_over && waitpid(w->rank, &status, WNOHANG | WUNTRACED | WCONTINUED) > 0) {
        if (WIFSTOPPED(status))
            w->stopped_ns = mu_clock_ns();
        else if (WIFCONTINUED(status))
            w->stopped_ns = 0;
        else
            rank_ended(w, status);
    }
}

static void take_signals(struct watcher *w)
{
    struct signalfd_siginfo s;
    while (read(w->signals, &s, sizeof s) == (ssize_t)sizeof s) {
        if (s.ssi_signo == SIGCHLD) continue;
        /* From the launcher, because of a fault that is about to be told, or from the user. */
        if (!w->rank_over) (void)kill(w->rank, (int)s.ssi_signo);
        w->terminated = true;
        if (w->process > 0 && w->weight == WEIGHT_EXIT) w->say_ns = 0; /* so did another one */
        w->end_ns = in_ms(GRACE_MS);
    }
    take_child(w);
}

/* Keeps the last line, without what could move a terminal's cursor. */
static void take_words(struct watcher *w)
{
    char piece[1024];
    ssize_t n = read(w->words_pipe, piece, sizeof piece);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
        (void)close(w->words_pipe);
        w->words_pipe = -1;
    }
    for (ssize_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)piece[i];
        if (c == '\n') {
            w->line_over = true;
            continue;
        }
        if (w->line_over) w->n_words = 0;
        w->line_over = false;
        if (w->n_words + 1 < sizeof w->words)
            w->words[w->n_words++] = c < 32 || c == 127 ? ' ' : (char)c;
        w->words[w->n_words] = '\0';
    }
}

static void look_at_rank(struct watcher *w)
{
    uint64_t now = mu_clock_ns(), silent = SILENT_MS * UINT64_C(1000000);
    uint32_t beat = atomic_load_explicit(&w->page->beat, memory_order_relaxed);
    if (beat != w->beat || !atomic_load_explicit(&w->page->met, memory_order_relaxed))
        w->moved_ns = now;
    w->beat = beat;
    if (w->stopped_ns && now - w->stopped_ns > silent)
        report_rank(w, WEIGHT_SILENT, "was stopped by a signal");
    else if (now - w->moved_ns > silent)
        report_rank(w, WEIGHT_SILENT, "has not moved for 3 s");
}

/* ---- The other watchers ---- */

static void meet_first(struct watcher *w)
{
    struct mu_watch_link *first = &w->links[0];
    if (!atomic_load_explicit(&w->page->joined, memory_order_acquire) || first->fd >= 0) return;
    first->fd = mu_watch_connect(w->page->addresses, w->page->port);
    first->heard_ns = w->awake_ns = mu_clock_ns(); /* connecting took its time */
    (void)snprintf(first->host, sizeof first->host, "%s", w->page->first_host);
    if (first->fd >= 0) tell(w, first, MU_WATCH_HELLO, 0, w->page->host);
}

static void accept_stranger(struct watcher *w)
{
    int fd = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    for (unsigned i = 0; fd >= 0 && i < STRANGERS; i++)
        if (w->strangers[i].fd < 0) {
            w->strangers[i] = (struct mu_watch_link){.fd = fd, .heard_ns = mu_clock_ns()};
            return;
        }
    if (fd >= 0) (void)close(fd);
}

/* Who has the token and a place that is free is one of ours; once all are, work may begin. */
static void take_stranger(struct watcher *w, struct mu_watch_link *s)
{
    int got = mu_watch_receive(s);
    uint32_t from = s->in.process;
    if (got == 0) return;
    if (got < 0 || s->in.token != w->page->token || s->in.kind != MU_WATCH_HELLO || from == 0 ||
        from >= w->n || w->links[from].fd >= 0) {
        (void)close(s->fd);
        s->fd = -1;
        return;
    }
    (void)snprintf(s->host, sizeof s->host, "%.*s", MU_HOST_MAX - 1, s->in.text);
    w->links[from] = *s;
    s->fd = -1;
    unsigned missing = 1;
    while (missing < w->n && w->links[missing].fd >= 0)
        missing++;
    atomic_store_explicit(&w->page->missing, missing, memory_order_relaxed);
    if (missing < w->n) return;
    atomic_store_explicit(&w->page->met, 1, memory_order_release);
    w->welcomed = true;
    tell_all(w, MU_WATCH_WELCOME, 0, "");
}

static void lose_link(struct watcher *w, unsigned process, const char *how)
{
    struct mu_watch_link *l = &w->links[process];
    char text[TEXT_MAX];
    /* One that is only stopped may wake up, and must not say then that we are gone. */
    if (w->process <= 1) tell(w, l, MU_WATCH_END, mu_status_exit(MU_E_PEER), "");
    (void)close(l->fd);
    l->fd = -1;
    if (l->bye) return;
    describe(w, process, l->host, how, "none were heard", text);
    if (w->process <= 1)
        judge(w, WEIGHT_SILENT, text, 0);
    else
        w->end_ns = in_ms(GRACE_MS);
}

static void take_message(struct watcher *w, unsigned process)
{
    struct mu_watch_link *l = &w->links[process];
    switch (l->in.kind) {
    case MU_WATCH_WELCOME:
        atomic_store_explicit(&w->page->met, 1, memory_order_release);
        break;
    case MU_WATCH_BEAT:
        break;
    case MU_WATCH_FAILED:
        judge(w, (enum weight)l->in.code, l->in.text, l->in.code == WEIGHT_EXIT ? GRACE_MS : 0);
        break;
    case MU_WATCH_END:
        end(w, l->in.code);
        break;
    case MU_WATCH_BYE:
        l->bye = true;
        break;
    default: /* from outside; a watcher of ours says nothing else */
        lose_link(w, process, "says what nobody understands");
    }
}

/* All that has come: the reason that a watcher gave stands before its end. */
static void take_link(struct watcher *w, unsigned process)
{
    struct mu_watch_link *l = &w->links[process];
    int got = 0;
    while (!w->over && l->fd >= 0 && (got = mu_watch_receive(l)) > 0)
        take_message(w, process);
    if (got < 0) lose_link(w, process, "is gone with its watcher");
}

static void look_at_links(struct watcher *w)
{
    /* As of the last look: what was said since, while this may have stood still, was not read. */
    uint64_t now = w->awake_ns, silent = SILENT_MS * UINT64_C(1000000);
    if (now - w->beat_ns >= BEAT_MS * UINT64_C(1000000)) {
        tell_all(w, MU_WATCH_BEAT, 0, "");
        w->beat_ns = now;
    }
    for (unsigned i = 0; i < w->n; i++)
        if (w->links[i].fd >= 0 && !w->links[i].bye && now > w->links[i].heard_ns + silent)
            lose_link(w, i, "has not been heard of for 3 s");
    for (unsigned i = 0; i < STRANGERS; i++)
        if (w->strangers[i].fd >= 0 && now > w->strangers[i].heard_ns + silent) {
            (void)close(w->strangers[i].fd);
            w->strangers[i].fd = -1;
        }
}

/* ---- The loop ---- */

static bool others_ended(const struct watcher *w)
{
    for (unsigned i = 1; w->process == 0 && i < w->n; i++)
        if (w->links[i].fd >= 0 && !w->links[i].bye) return false;
    return true;
}

static void look_at_clock(struct watcher *w)
{
    uint64_t now = mu_clock_ns();
    bool unsure = now < w->settled_ns || now - w->awake_ns > STOOD_MS * UINT64_C(1000000);
    if (w->over) return;
    if (w->say_ns && now >= w->say_ns && !unsure)
        say_verdict(w);
    else if (w->rank_over && w->rank_status == 0 && !w->say_ns && others_ended(w))
        end(w, 0);
    else if (w->terminated && w->rank_over)
        end(w, mu_status_exit(MU_E_INTERRUPTED));
    else if (w->end_ns && now >= w->end_ns)
        end(w, w->terminated                         ? mu_status_exit(MU_E_INTERRUPTED)
               : w->rank_over && w->rank_status == 0 ? 0
                                                     : mu_status_exit(MU_E_PEER));
}

/* Who stood still itself must not blame the others. After so long they have told it, and are gone;
 * after less they may have, and what they said is still to be read. */
static bool stood_still(struct watcher *w, uint64_t ns)
{
    if (ns > STOOD_MS * UINT64_C(1000000)) w->settled_ns = in_ms(GRACE_MS);
    if (ns > SILENT_MS * UINT64_C(1000000)) end(w, mu_status_exit(MU_E_PEER));
    return w->over;
}

static void watch_once(struct watcher *w)
{
    struct pollfd fds[4 + MU_WATCH_SIZE + STRANGERS] = {
        {.fd = w->signals}, {.fd = w->wake}, {.fd = w->words_pipe}, {.fd = w->listener}};
    struct pollfd *links = fds + 4, *strangers = links + MU_WATCH_SIZE;
    uint64_t count;
    for (unsigned i = 0; i < MU_WATCH_SIZE; i++)
        links[i].fd = w->links[i].fd;
    for (unsigned i = 0; i < STRANGERS; i++)
        strangers[i].fd = w->strangers[i].fd;
    for (size_t i = 0; i < MU_ARRAY_LEN(fds); i++)
        fds[i].events = POLLIN;
    if (poll(fds, MU_ARRAY_LEN(fds), TICK_MS) < 0) return;
    uint64_t before = w->awake_ns;
    w->awake_ns = mu_clock_ns();
    if (stood_still(w, w->awake_ns - before)) return;
    if (fds[2].revents) take_words(w); /* before the end of who said them */
    if (fds[1].revents && read(w->wake, &count, sizeof count) > 0 && w->process > 0) meet_first(w);
    if (fds[3].revents) accept_stranger(w);
    for (unsigned i = 0; i < STRANGERS; i++)
        if (strangers[i].fd >= 0 && strangers[i].revents) take_stranger(w, &w->strangers[i]);
    for (unsigned i = 0; i < w->n; i++)
        if (links[i].fd >= 0 && links[i].revents && w->links[i].fd >= 0) take_link(w, i);
    if (fds[0].revents) take_signals(w);
}

static int watch(struct watcher *w)
{
    for (unsigned i = 0; i < MU_WATCH_SIZE; i++)
        w->links[i].fd = -1;
    for (unsigned i = 0; i < STRANGERS; i++)
        w->strangers[i].fd = -1;
    w->awake_ns = w->moved_ns = mu_clock_ns();
    while (!w->over) {
        watch_once(w);
        look_at_rank(w);
        look_at_links(w);
        look_at_clock(w);
    }
    (void)waitpid(w->rank, NULL, 0); /* an orphan's memory would outlive us */
    return w->exit_status;
}

/* ---- The split ---- */

/* Ranks but the first print nothing: their last words go to the watcher. */
static void become_rank(const struct watcher *w, pid_t watcher, int words)
{
    own_page = w->page;
    wake_watcher = w->wake;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != watcher) (void)raise(SIGKILL);
    (void)setpgid(0, 0); /* signals reach it once, through the watcher */
    (void)close(w->signals);
    if (w->listener >= 0) (void)close(w->listener);
    if (w->process == 0) return;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    (void)dup2(null, STDIN_FILENO);
    (void)dup2(null, STDOUT_FILENO);
    (void)dup2(words, STDERR_FILENO);
    (void)close(null);
    (void)close(words);
    (void)close(w->words_pipe);
}

bool mu_watch_split(void (*say)(const char *line), int *exit_status)
{
    struct watcher w = {.say = say, .listener = -1, .words_pipe = -1};
    int words[2] = {-1, -1};
    sigset_t taken, before;
    if (!mu_world_launched(&w.process, &w.n) || w.n > MU_WATCH_SIZE) return false;
    w.page = mmap(NULL, sizeof *w.page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (w.page == MAP_FAILED) return false;
    atomic_store_explicit(&w.page->phase, "starting", memory_order_relaxed);
    atomic_store_explicit(&w.page->missing, 1, memory_order_relaxed);
    (void)gethostname(w.page->host, sizeof w.page->host - 1);
    (void)getrandom(&w.page->token, sizeof w.page->token, 0);
    (void)sigemptyset(&taken);
    for (size_t i = 0; i < 4; i++)
        (void)sigaddset(&taken, (const int[]){SIGCHLD, SIGTERM, SIGINT, SIGHUP}[i]);
    (void)sigprocmask(SIG_BLOCK, &taken, &before);
    w.signals = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
    w.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w.process == 0) w.listener = mu_watch_listen(&w.page->port);
    if (w.process > 0 && pipe2(words, O_CLOEXEC) == 0) w.words_pipe = words[0];
    pid_t watcher = getpid();
    w.rank = fork();
    if (w.rank > 0) {
        (void)prctl(PR_SET_NAME, "muster-watch");
        if (words[1] >= 0) (void)close(words[1]);
        *exit_status = watch(&w);
        return true;
    }
    (void)sigprocmask(SIG_SETMASK, &before, NULL);
    if (w.rank == 0) become_rank(&w, watcher, words[1]);
    return false;
}
