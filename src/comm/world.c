/*
 * The world: processes that mpirun or srun started together, and messages between them. Owns the
 * MPI plug-in and the one thread that calls it, since MPI libraries are at their safest and their
 * fastest when told that there is only one. Everybody else posts messages and sleeps on their
 * words. Knows nothing of what messages mean.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/library.h"
#include "base/number.h"
#include "base/thread.h"
#include "comm/comm_int.h"
#include "comm/mpi_int.h"

#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PLUGIN         "libmuster-mpi.so"
#define SPINS          2000 /* see team.c */
#define POLLS          50   /* without result, before the thread lets others have its core, */
#define YIELD_NS       UINT64_C(1000000) /* and so long, before it rests */
#define REST_SHARE     8                 /* a rest is this part of how long nothing came, */
#define REST_MOST_US   1000
#define IDLE_MS        250 /* between two beats of the heart with nothing to do */
#define ABORT_CHECK_MS 100 /* see threads.c */
#define WATCHERS_US    2000000
#define TAG_GATHER     0

struct mpi {
    const char *(*version)(void);
    const char *(*open)(unsigned *process, unsigned *n);
    const char *(*send)(const void *bytes, size_t len, unsigned to, unsigned tag, void **request);
    const char *(*receive)(void *bytes, size_t len, unsigned from, unsigned tag, void **request);
    const char *(*test)(void **request, bool *over);
    void (*close)(void);
};

static const struct mu_symbol symbols[] = {
    {"mu_mpi_version", offsetof(struct mpi, version)},
    {"mu_mpi_open", offsetof(struct mpi, open)},
    {"mu_mpi_send", offsetof(struct mpi, send)},
    {"mu_mpi_receive", offsetof(struct mpi, receive)},
    {"mu_mpi_test", offsetof(struct mpi, test)},
    {"mu_mpi_close", offsetof(struct mpi, close)},
};

/* What processes tell each other first. The version comes first of all, and is compared before
 * anything after it is believed. */
struct hello {
    char version[32];
    char host[MU_HOST_MAX];
    cpu_set_t cpus;
    uint64_t token; /* of the first process, with where its watcher listens */
    uint16_t port;
    char addresses[MU_WATCH_ADDRESS];
};

enum state { STATE_NEW, STATE_OPEN, STATE_FAILED };

struct mu_world {
    struct mpi mpi;
    unsigned process, n;
    unsigned spins;
    struct hello *hellos; /* [n] */
    struct mu_thread thread;
    struct mu_message *under_way; /* the thread's own */
    struct mu_err err;            /* why it could not open */
    _Atomic uint32_t state;
    _Atomic uint32_t stop;
    _Atomic uint32_t aborted; /* asked for, */
    _Atomic uint32_t halted;  /* and seen by the thread: it touches no message any more */
    struct mu_message gathering[2 * MU_WATCH_SIZE];
    _Alignas(MU_CACHE_LINE) struct mu_message *_Atomic inbox; /* newest first */
    _Atomic uint32_t bell;                                    /* grows with every ring */
    _Atomic uint32_t asleep; /* the thread will hear of a ring by a wake-up only */
};

/* ---- Which process this is ---- */

static bool read_variable(const char *name, unsigned least, unsigned *out)
{
    uint64_t value;
    const char *text = getenv(name);
    if (!text || !mu_parse_u64(mu_str(text), least, UINT32_MAX, &value)) return false;
    *out = (unsigned)value;
    return true;
}

bool mu_world_launched(unsigned *process, unsigned *n)
{
    /* Slurm alone says nothing: its variables are also there in a script that it runs. */
    static const char *const names[][2] = {{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"},
                                           {"PMIX_RANK", "SLURM_NTASKS"},
                                           {"PMI_RANK", "PMI_SIZE"}};
    for (size_t i = 0; i < MU_ARRAY_LEN(names); i++)
        if (read_variable(names[i][0], 0, process) && read_variable(names[i][1], 1, n))
            return *n > 1 && *process < *n;
    return false;
}

/* ---- The thread that calls MPI ---- */

static bool has_aborted(const struct mu_world *w)
{
    return atomic_load_explicit(&w->aborted, memory_order_acquire) != 0;
}

/* After this the owner may use the message again. */
static void message_end(struct mu_message *m)
{
    atomic_store_explicit(&m->under_way, 0, memory_order_release);
    mu_wake_word(&m->under_way);
}

/* Most likely the other side died. Its watcher knows more, and gets the time to say it. */
static void give_up(struct mu_world *w, const char *why)
{
    if (mu_watch_page()) (void)usleep(WATCHERS_US);
    if (w->err.code == MU_OK) (void)mu_fail(&w->err, MU_E_PEER, "MPI failed: %s", why);
    mu_world_abort(w);
}

static void start_posted(struct mu_world *w)
{
    struct mu_message *newest = atomic_exchange_explicit(&w->inbox, NULL, memory_order_acquire);
    struct mu_message *oldest = NULL, **end = &w->under_way;
    while (newest) { /* the stack, turned into order of posting */
        struct mu_message *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    while (*end)
        end = &(*end)->next;
    *end = oldest;
    for (struct mu_message *m = oldest; m && !has_aborted(w); m = m->next) {
        const char *why = m->outgoing
                              ? w->mpi.send(m->bytes, m->len, m->peer, m->tag, &m->request)
                              : w->mpi.receive(m->bytes, m->len, m->peer, m->tag, &m->request);
        if (why) give_up(w, why);
    }
}

/* Looks once at all that is under way; true when something ended. */
static bool poll_messages(struct mu_world *w)
{
    bool any = false;
    for (struct mu_message **at = &w->under_way; *at && !has_aborted(w);) {
        struct mu_message *m = *at;
        bool over = false;
        const char *why = w->mpi.test(&m->request, &over);
        if (why) {
            give_up(w, why);
        } else if (over) {
            *at = m->next;
            message_end(m);
            any = true;
        } else {
            at = &m->next;
        }
    }
    return any;
}

/* Sleeps unless the bell has rung since. */
static void rest(struct mu_world *w, uint32_t bell, uint32_t us)
{
    atomic_store_explicit(&w->asleep, 1, memory_order_seq_cst);
    (void)mu_wait_word_ns(&w->bell, bell, us * UINT64_C(1000));
    atomic_store_explicit(&w->asleep, 0, memory_order_relaxed);
}

/* MPI cannot be slept in, so while messages are under way this looks. Between looks it gives its
 * core away, which is most of an exchange's time saved where there are cores enough; when nothing
 * came for long it rests, for a part of that time: what a wait loses by it is small beside it. */
static void carry_messages(struct mu_world *w)
{
    struct mu_watch_page *page = mu_watch_page();
    uint64_t last = mu_clock_ns();
    unsigned polls = 0;
    while (!atomic_load_explicit(&w->stop, memory_order_acquire)) {
        uint32_t bell = atomic_load_explicit(&w->bell, memory_order_acquire);
        bool posted = atomic_load_explicit(&w->inbox, memory_order_relaxed) != NULL;
        if (page) atomic_fetch_add_explicit(&page->beat, 1, memory_order_relaxed);
        if (has_aborted(w)) {
            atomic_store_explicit(&w->halted, 1, memory_order_release);
            rest(w, bell, IDLE_MS * 1000);
            continue;
        }
        if (posted) start_posted(w);
        if (poll_messages(w) || posted) {
            last = mu_clock_ns();
            polls = 0;
        } else if (!w->under_way) {
            rest(w, bell, IDLE_MS * 1000);
        } else if (++polls > POLLS) {
            uint64_t waited = mu_clock_ns() - last;
            if (waited < YIELD_NS)
                (void)sched_yield();
            else
                rest(w, bell, (uint32_t)MU_MIN(waited / 1000 / REST_SHARE, REST_MOST_US));
        }
    }
}

static void thread_main(void *world)
{
    struct mu_world *w = world;
    unsigned process = 0, n = 0;
    (void)prctl(PR_SET_TIMERSLACK, 1000); /* short rests must not become long ones */
    const char *why = w->mpi.open(&process, &n);
    if (!why && (process != w->process || n != w->n))
        why = "MPI and the environment do not agree on which process this is";
    if (why) (void)mu_fail(&w->err, MU_E_PEER, "MPI cannot start: %s", why);
    atomic_store_explicit(&w->state, why ? STATE_FAILED : STATE_OPEN, memory_order_release);
    mu_wake_word(&w->state);
    if (why) return;
    carry_messages(w);
    /* Parting from processes that are gone would wait for ever. */
    if (!has_aborted(w)) w->mpi.close();
}

/* ---- Messages ---- */

void mu_world_post(struct mu_world *w, struct mu_message *m)
{
    struct mu_message *first = atomic_load_explicit(&w->inbox, memory_order_relaxed);
    atomic_store_explicit(&m->under_way, 1, memory_order_relaxed);
    do
        m->next = first;
    while (!atomic_compare_exchange_weak_explicit(&w->inbox, &first, m, memory_order_release,
                                                  memory_order_relaxed));
}

void mu_world_ring(struct mu_world *w)
{
    atomic_fetch_add_explicit(&w->bell, 1, memory_order_seq_cst);
    /* Either this sees that the thread sleeps, or its sleep sees the new bell. */
    if (atomic_load_explicit(&w->asleep, memory_order_seq_cst)) mu_wake_word(&w->bell);
}

mu_status mu_world_wait(struct mu_world *w, struct mu_message *m)
{
    for (unsigned i = 0; i < w->spins; i++) {
        if (!atomic_load_explicit(&m->under_way, memory_order_acquire)) return MU_OK;
        mu_cpu_relax();
    }
    while (atomic_load_explicit(&m->under_way, memory_order_acquire)) {
        if (atomic_load_explicit(&w->halted, memory_order_acquire)) return MU_E_PEER;
        (void)mu_wait_word_for(&m->under_way, 1, ABORT_CHECK_MS);
    }
    return MU_OK;
}

void mu_world_abort(struct mu_world *w)
{
    atomic_store_explicit(&w->aborted, 1, memory_order_release);
    mu_world_ring(w);
}

mu_status mu_world_gather(struct mu_world *w, const void *mine, size_t len, void *all)
{
    struct mu_message *in = w->gathering, *out = in + w->n;
    memcpy((char *)all + w->process * len, mine, len);
    for (unsigned i = 0; i < w->n; i++) {
        in[i] = (struct mu_message){
            .bytes = (char *)all + i * len, .len = len, .peer = i, .tag = TAG_GATHER};
        out[i] = in[i];
        out[i].bytes = (char *)all + w->process * len;
        out[i].outgoing = true;
        if (i == w->process) continue;
        mu_world_post(w, &in[i]);
        mu_world_post(w, &out[i]);
    }
    mu_world_ring(w);
    for (unsigned i = 0; i < 2 * w->n; i++)
        MU_TRY(mu_world_wait(w, &w->gathering[i]));
    return MU_OK;
}

/* ---- Meeting and parting ---- */

unsigned mu_world_process(const struct mu_world *w)
{
    return w->process;
}

unsigned mu_world_size(const struct mu_world *w)
{
    return w->n;
}

const char *mu_world_host(const struct mu_world *w, unsigned process)
{
    return w->hellos[process].host;
}

void mu_world_share(const struct mu_world *w, struct mu_world_share *out)
{
    const struct hello *own = &w->hellos[w->process];
    *out = (struct mu_world_share){0};
    for (unsigned i = 0; i < w->n; i++) {
        if (strcmp(w->hellos[i].host, own->host) != 0) continue;
        out->of_memory++;
        if (!CPU_EQUAL(&w->hellos[i].cpus, &own->cpus)) continue;
        out->cpu_index += i < w->process;
        out->of_cpus++;
    }
}

/* Beside the program, or where `make install` puts it, or where the system looks. */
static mu_status load_plugin(struct mu_world *w, struct mu_err *err)
{
    char program[PATH_MAX], beside[PATH_MAX + 32], installed[PATH_MAX + 32];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    program[MU_MAX(len, 0)] = '\0';
    char *slash = strrchr(program, '/');
    if (slash) *slash = '\0';
    (void)snprintf(beside, sizeof beside, "%s/" PLUGIN, program);
    (void)snprintf(installed, sizeof installed, "%s/../lib/muster/" PLUGIN, program);
    const char *names[] = {beside, installed, PLUGIN, NULL};
    mu_status status = mu_library_load(names, symbols, MU_ARRAY_LEN(symbols), &w->mpi, err);
    if (status != MU_OK) {
        mu_err_cure(err,
                    "%u processes were started together, which takes Open MPI: install "
                    "libopenmpi-dev and make again, or start one",
                    w->n);
        return status;
    }
    if (strcmp(w->mpi.version(), MU_VERSION) == 0) return MU_OK;
    return mu_fail(err, MU_E_MISSING, PLUGIN " is of version %s, not " MU_VERSION,
                   w->mpi.version());
}

static mu_status compare_versions(const struct mu_world *w, struct mu_err *err)
{
    const struct hello *first = &w->hellos[0];
    for (unsigned i = 0; i < w->n; i++) {
        struct hello *h = &w->hellos[i];
        h->version[sizeof h->version - 1] = h->host[sizeof h->host - 1] = '\0';
        h->addresses[sizeof h->addresses - 1] = '\0';
        if (strcmp(h->version, first->version) == 0) continue;
        return mu_fail(err, MU_E_PEER,
                       "rank %u on host %s is muster %s, rank 0 on host %s is muster %s", i,
                       h->host, h->version, first->host, first->version);
    }
    return MU_OK;
}

static mu_status join_watchers(const struct mu_world *w, const struct mu_watch_page *page,
                               struct mu_err *err)
{
    char who[MU_HOST_MAX + 32] = "not every rank";
    if (mu_watch_join()) return MU_OK;
    unsigned missing = atomic_load_explicit(&page->missing, memory_order_relaxed);
    if (w->process == 0 && missing < w->n)
        (void)snprintf(who, sizeof who, "rank %u on host %s", missing, w->hellos[missing].host);
    (void)mu_fail(err, MU_E_PEER, "%s has not reached rank 0 on host %s, port %u", who,
                  page->first_host, page->port);
    mu_err_cure(err, "open it between the hosts; it has the addresses %s", page->addresses);
    return MU_E_PEER;
}

static mu_status meet(struct mu_world *w, struct mu_err *err)
{
    struct mu_watch_page *page = mu_watch_page();
    struct hello own = {.version = MU_VERSION};
    (void)gethostname(own.host, sizeof own.host - 1);
    (void)sched_getaffinity(0, sizeof own.cpus, &own.cpus);
    if (page && w->process == 0) {
        own.token = page->token;
        own.port = page->port;
        mu_watch_addresses(own.addresses, sizeof own.addresses);
    }
    if (mu_world_gather(w, &own, sizeof own, w->hellos) != MU_OK)
        return mu_fail(err, MU_E_PEER, "the other processes cannot be reached over MPI");
    MU_TRY(compare_versions(w, err));
    if (!page) return MU_OK;
    const struct hello *first = &w->hellos[0];
    page->token = first->token;
    page->port = first->port;
    /* On one host the loopback leads there whatever its networks are. */
    (void)snprintf(page->addresses, sizeof page->addresses, "%s%s",
                   strcmp(first->host, own.host) == 0 ? "127.0.0.1 ::1 " : "", first->addresses);
    (void)snprintf(page->host, sizeof page->host, "%s", own.host);
    (void)snprintf(page->first_host, sizeof page->first_host, "%s", first->host);
    return join_watchers(w, page, err);
}

static mu_status open_world(struct mu_world *w, struct mu_err *err)
{
    int cpus[256];
    struct mu_world_share share;
    if (!mu_world_launched(&w->process, &w->n) || w->n > MU_WATCH_SIZE)
        return mu_fail(err, MU_E_USAGE, "%u processes are more than the %u that can be had", w->n,
                       (unsigned)MU_WATCH_SIZE);
    if (!(w->hellos = mu_calloc(w->n, sizeof *w->hellos)))
        return mu_fail_memory(err, w->n * sizeof *w->hellos);
    MU_TRY(load_plugin(w, err));
    mu_watch_phase("meeting the others over MPI");
    MU_TRY(mu_thread_start(&w->thread, thread_main, w, "muster-mpi", -1, err));
    while (atomic_load_explicit(&w->state, memory_order_acquire) == STATE_NEW)
        mu_wait_word(&w->state, STATE_NEW);
    if (atomic_load_explicit(&w->state, memory_order_relaxed) == STATE_FAILED) {
        if (err && err->code == MU_OK) *err = w->err;
        return w->err.code;
    }
    MU_TRY(meet(w, err));
    mu_world_share(w, &share);
    /* Each process has a thread that works and one that carries. */
    unsigned threads = 2 * share.of_cpus;
    w->spins = mu_cpu_usable(cpus, MU_ARRAY_LEN(cpus)) >= threads ? SPINS : 0;
    return MU_OK;
}

mu_status mu_world_open(struct mu_world **out, struct mu_err *err)
{
    struct mu_world *w = mu_alloc_aligned(MU_CACHE_LINE, sizeof *w);
    if (!w) return mu_fail_memory(err, sizeof *w);
    memset(w, 0, sizeof *w);
    mu_status status = open_world(w, err);
    if (status == MU_OK) {
        *out = w;
        return MU_OK;
    }
    mu_world_abort(w);
    mu_world_close(w);
    return status;
}

void mu_world_close(struct mu_world *w)
{
    if (!w) return;
    struct mu_watch_page *page = mu_watch_page();
    if (page) atomic_store_explicit(&page->met, 0, memory_order_relaxed); /* no beat from here on */
    atomic_store_explicit(&w->stop, 1, memory_order_release);
    mu_world_ring(w);
    mu_thread_join(&w->thread);
    mu_free(w->hellos);
    mu_free(w);
}
