/*
 * The driver's library: found at run time, called on a thread of its own, given up when it hangs.
 *
 * A call that does not return cannot be stopped, so its thread is left behind together with every
 * byte that the call may still write; the next call gets a new thread. Who holds a job is decided
 * by one word: the worker counts finished calls in it, the waiter sets its top bit when its
 * patience ends, and whoever finds the other's mark there takes over or lets go. Knows nothing of
 * what calls mean. The worker thread runs worker_main and what it calls; all else is the owner's.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "probe/probe_int.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

#define ABANDONED   (1u << 31)
#define HUNG_MAX    4 /* threads that are left behind before the library is given up */
#define CALL_MS     2000
#define PENDING     MU_PROBE_NOT_ASKED
#define LIBRARY     "libnvidia-ml.so.1"
#define WORKER_IDLE 0u
#define WORKER_JOB  1u
#define WORKER_QUIT 2u

static const struct {
    enum nvml_shape shape;
    const char *names[NVML_NAMES_MAX];
} functions[NVML_FUNCTION_COUNT] = {
#define ROW_(name, shape, ...) {NVML_SHAPE_##shape, {__VA_ARGS__}},
    NVML_FUNCTION_TABLE(ROW_)
#undef ROW_
};

struct entry {
    void *function;
    unsigned version;
};

struct job {
    struct nvml_call *calls;
    unsigned n;
    _Atomic uint32_t n_done; /* and ABANDONED */
};

struct worker {
    struct mu_thread thread;
    _Atomic uint32_t state;
    struct job *job;
    struct entry entries[NVML_FUNCTION_COUNT]; /* its own: it may outlive the library's struct */
};

struct nvml {
    struct entry entries[NVML_FUNCTION_COUNT];
    mu_probe_absence absent;
    char what[192];
    uint32_t call_ms;
    struct worker *worker;
    struct {
        enum nvml_function function;
        void *device;
    } hung[HUNG_MAX];
    unsigned n_hung;
    bool ready;
};

/* --- the worker ------------------------------------------------------------------------------ */

static int function_call(const struct entry *e, struct nvml_call *c)
{
    union {
        void *p;
        int (*none)(void);
        int (*text)(char *, unsigned);
        int (*out)(void *);
        int (*index)(unsigned, void *);
        int (*dev_text)(void *, char *, unsigned);
        int (*dev_out)(void *, void *);
        int (*dev_out2)(void *, void *, void *);
        int (*dev_out4)(void *, void *, void *, void *, void *);
        int (*dev_a)(void *, unsigned, void *);
        int (*dev_ab)(void *, unsigned, unsigned, void *);
        int (*dev_dev)(void *, void *, void *);
        int (*dev_list)(void *, unsigned *, void *);
    } f = {.p = e->function};
    void *out = &c->out;
    unsigned *u = c->out.u32;
    switch (functions[c->function].shape) {
    case NVML_SHAPE_NONE:
        return f.none();
    case NVML_SHAPE_TEXT:
        return f.text(c->out.text, sizeof c->out.text);
    case NVML_SHAPE_OUT:
        return f.out(out);
    case NVML_SHAPE_INDEX:
        return f.index(c->a, out);
    case NVML_SHAPE_DEV_TEXT:
        return f.dev_text(c->device, c->out.text, sizeof c->out.text);
    case NVML_SHAPE_DEV_OUT:
        return f.dev_out(c->device, out);
    case NVML_SHAPE_DEV_OUT2:
        return f.dev_out2(c->device, &u[0], &u[1]);
    case NVML_SHAPE_DEV_OUT4:
        return f.dev_out4(c->device, &u[0], &u[1], &u[2], &u[3]);
    case NVML_SHAPE_DEV_A:
        return f.dev_a(c->device, c->a, out);
    case NVML_SHAPE_DEV_AB:
        return f.dev_ab(c->device, c->a, c->b, out);
    case NVML_SHAPE_DEV_DEV:
        return f.dev_dev(c->device, c->other, out);
    case NVML_SHAPE_DEV_LIST:
        return f.dev_list(c->device, &c->a, out);
    case NVML_SHAPE_DEV_N:
        return f.dev_a(c->device, c->a, out);
    }
    return MU_PROBE_NO_SYMBOL;
}

static void call_make(const struct entry *e, struct nvml_call *c)
{
    if (c->absent != PENDING) return;
    if (c->function == NVML_MEMORY && e->version == 0)
        c->out.memory_v2.version = NVML_SIZED(struct nvml_memory_v2, 2);
    if (c->function == NVML_FABRIC && e->version == 0)
        c->out.fabric_v2.version = NVML_SIZED(struct nvml_fabric_v2, 2);
    int code = function_call(e, c);
    c->absent = code >= 0 && code < MU_PROBE_NOT_ASKED ? (mu_probe_absence)code : MU_PROBE_RUBBISH;
}

/* False when the job was abandoned: it is the worker's then. */
static bool job_run(const struct worker *w, struct job *job)
{
    /* After the last count the job may be gone. */
    for (uint32_t i = 0, n = job->n; i < n; i++) {
        struct nvml_call *c = &job->calls[i];
        call_make(&w->entries[c->function], c);
        uint32_t expected = i;
        if (!atomic_compare_exchange_strong_explicit(&job->n_done, &expected, i + 1,
                                                     memory_order_release, memory_order_acquire))
            return false;
    }
    return true;
}

static void worker_main(void *arg)
{
    struct worker *w = arg;
    for (;;) {
        uint32_t state;
        while ((state = atomic_load_explicit(&w->state, memory_order_acquire)) == WORKER_IDLE)
            mu_wait_word(&w->state, WORKER_IDLE);
        if (state == WORKER_QUIT) return;
        struct job *job = w->job;
        atomic_store_explicit(&w->state, WORKER_IDLE, memory_order_relaxed);
        if (!job_run(w, job)) {
            mu_free(job->calls);
            mu_free(job);
            mu_free(w);
            return;
        }
        mu_wake_word(&job->n_done);
    }
}

static mu_status worker_start(struct nvml *lib, struct mu_err *err)
{
    struct worker *w = mu_calloc(1, sizeof *w);
    if (!w) return mu_fail_memory(err, sizeof *w);
    memcpy(w->entries, lib->entries, sizeof w->entries);
    mu_status status = mu_thread_start(&w->thread, worker_main, w, "probe", -1, err);
    if (status != MU_OK) {
        mu_free(w);
        return status;
    }
    lib->worker = w;
    return MU_OK;
}

static void worker_stop(struct nvml *lib)
{
    struct worker *w = lib->worker;
    if (!w) return;
    atomic_store_explicit(&w->state, WORKER_QUIT, memory_order_release);
    mu_wake_word(&w->state);
    mu_thread_join(&w->thread);
    mu_free(w);
    lib->worker = NULL;
}

/* --- the owner ------------------------------------------------------------------------------- */

/* A call that hung is not made again, nor are those that look like hanging too. */
static bool would_hang(const struct nvml *lib, const struct nvml_call *c)
{
    unsigned same_function = 0, same_device = 0;
    for (unsigned i = 0; i < lib->n_hung; i++) {
        bool function = lib->hung[i].function == c->function;
        bool device = lib->hung[i].device == c->device;
        if (function && device) return true;
        same_function += function;
        same_device += device && c->device;
    }
    return same_function >= 2 || same_device >= 2 || lib->n_hung == HUNG_MAX;
}

/* Waits until all calls are done, or one takes too long; returns how many are done. */
static uint32_t job_wait(struct job *job, uint32_t call_ms)
{
    uint64_t since = mu_clock_ns();
    uint32_t before = UINT32_MAX, slice_ms = call_ms / 8 + 1;
    for (;;) {
        uint32_t done = atomic_load_explicit(&job->n_done, memory_order_acquire);
        if (done == job->n) return done;
        if (done != before) {
            before = done;
            since = mu_clock_ns();
        } else if (mu_clock_seconds_since(since) * 1e3 >= call_ms) {
            return done;
        }
        (void)mu_wait_word_for(&job->n_done, done, slice_ms);
    }
}

/* The calls after a hang, in a block that the hung call does not know: results before `hung`, its
 * own fault, and the inputs of those to come. */
static struct nvml_call *calls_rescued(const struct nvml_call *calls, unsigned n, unsigned hung)
{
    struct nvml_call *copy = mu_calloc(n, sizeof *copy);
    for (unsigned i = 0; copy && i < n; i++) {
        if (i != hung) {
            copy[i] = calls[i];
            continue;
        }
        copy[i].function = calls[i].function;
        copy[i].device = calls[i].device;
        copy[i].absent = MU_PROBE_HUNG;
    }
    return copy;
}

/* Leaves the worker behind with its job, unless it went on after all. */
static bool job_abandon(struct nvml *lib, struct job *job, uint32_t done)
{
    pthread_t thread = lib->worker->thread.handle;
    uint32_t expected = done;
    if (!atomic_compare_exchange_strong_explicit(&job->n_done, &expected, done | ABANDONED,
                                                 memory_order_release, memory_order_acquire))
        return false;
    (void)pthread_detach(thread);
    lib->worker = NULL;
    return true;
}

/* One round over the calls still pending. `*again` when some are left after a hang. */
static mu_status round_run(struct nvml *lib, struct nvml_call **calls, unsigned n, bool *again,
                           struct mu_err *err)
{
    *again = false;
    if (!lib->worker) MU_TRY(worker_start(lib, err));
    struct job *job = mu_calloc(1, sizeof *job);
    if (!job) return mu_fail_memory(err, sizeof *job);
    job->calls = *calls;
    job->n = n;
    lib->worker->job = job;
    atomic_store_explicit(&lib->worker->state, WORKER_JOB, memory_order_release);
    mu_wake_word(&lib->worker->state);
    for (uint32_t done; (done = job_wait(job, lib->call_ms)) != n;) {
        enum nvml_function function = (*calls)[done].function;
        void *device = (*calls)[done].device;
        struct nvml_call *copy = calls_rescued(*calls, n, done);
        if (!job_abandon(lib, job, done)) {
            mu_free(copy);
            continue;
        }
        lib->hung[lib->n_hung].function = function;
        lib->hung[lib->n_hung++].device = device;
        *calls = copy;
        *again = true;
        return copy ? MU_OK : mu_fail_memory(err, n * sizeof *copy);
    }
    mu_free(job);
    return MU_OK;
}

mu_status nvml_run(struct nvml *lib, struct nvml_call **calls, unsigned n, struct mu_err *err)
{
    for (unsigned i = 0; i < n; i++)
        (*calls)[i].absent = PENDING;
    for (bool again = true; again;) {
        bool pending = false;
        for (unsigned i = 0; i < n; i++) {
            struct nvml_call *c = &(*calls)[i];
            if (c->absent != PENDING) continue;
            if (!lib->entries[c->function].function) c->absent = MU_PROBE_NO_SYMBOL;
            if (would_hang(lib, c)) c->absent = MU_PROBE_HUNG;
            pending = pending || c->absent == PENDING;
        }
        if (!pending) return MU_OK;
        mu_status status = round_run(lib, calls, n, &again, err);
        if (status != MU_OK) {
            mu_free(*calls);
            *calls = NULL;
            return status;
        }
    }
    return MU_OK;
}

static void symbols_find(struct nvml *lib, void *library,
                         void *(*find)(void *library, const char *name))
{
    for (unsigned f = 0; f < NVML_FUNCTION_COUNT; f++) {
        struct entry *e = &lib->entries[f];
        for (e->version = 0; e->version < NVML_NAMES_MAX; e->version++) {
            const char *name = functions[f].names[e->version];
            if (name && (e->function = find(library, name))) break;
        }
    }
}

static mu_status initialise(struct nvml *lib, struct mu_err *err)
{
    struct nvml_call *call = mu_calloc(1, sizeof *call);
    if (!call) return mu_fail_memory(err, sizeof *call);
    call->function = NVML_INIT;
    MU_TRY(nvml_run(lib, &call, 1, err));
    lib->absent = call->absent;
    lib->ready = lib->absent == MU_PROBE_VALID;
    if (!lib->ready)
        (void)snprintf(lib->what, sizeof lib->what, "the NVIDIA driver does not start: %s",
                       mu_probe_absence_text(lib->absent));
    mu_free(call);
    return MU_OK;
}

mu_status nvml_open(const struct mu_probe_options *options, struct nvml **out, struct mu_err *err)
{
    struct nvml *lib = mu_calloc(1, sizeof *lib);
    if (!lib) return mu_fail_memory(err, sizeof *lib);
    const char *path = options->library ? options->library : getenv("MUSTER_NVML");
    if (!path || !path[0]) path = LIBRARY;
    lib->call_ms = options->call_ms ? options->call_ms : CALL_MS;
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    mu_status status = MU_OK;
    if (library) {
        symbols_find(lib, library, options->find ? options->find : dlsym);
        status = initialise(lib, err);
    } else {
        lib->absent = MU_PROBE_NO_LIBRARY;
        const char *why = dlerror();
        (void)snprintf(lib->what, sizeof lib->what, "no NVIDIA driver, %s", why ? why : path);
    }
    if (status == MU_OK)
        *out = lib;
    else
        nvml_close(lib);
    return status;
}

/* The library stays loaded: a thread that hung may still be inside. */
void nvml_close(struct nvml *lib)
{
    if (!lib) return;
    struct nvml_call *call = lib->ready ? mu_calloc(1, sizeof *call) : NULL;
    if (call) {
        call->function = NVML_SHUTDOWN;
        (void)nvml_run(lib, &call, 1, NULL);
        mu_free(call);
    }
    worker_stop(lib);
    mu_free(lib);
}

mu_probe_absence nvml_absent(const struct nvml *lib, const char **what)
{
    *what = lib->what;
    return lib->absent;
}

unsigned nvml_version(const struct nvml *lib, enum nvml_function function)
{
    return lib->entries[function].version;
}

const char *nvml_function_name(enum nvml_function function)
{
    return functions[function].names[0];
}

/* The calls are all that the worker does; one that was left behind is forgotten. */
double nvml_cpu_s(const struct nvml *lib)
{
    clockid_t clock;
    struct timespec t;
    if (!lib->worker || pthread_getcpuclockid(lib->worker->thread.handle, &clock) != 0 ||
        clock_gettime(clock, &t) != 0)
        return 0;
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

void nvml_hung_names(const struct nvml *lib, struct mu_text *out)
{
    for (unsigned i = 0; i < lib->n_hung; i++)
        mu_text_printf(out, "%s%s", i ? " " : "", functions[lib->hung[i].function].names[0]);
}
