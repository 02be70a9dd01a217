/*
 * GPUs alone, timed by copies and one kernel over CUDA's driver library: own declarations, found at
 * run time. All its calls are made by a child process, task by task, so that one that hangs or
 * crashes costs its task and no more: another child goes on behind it. What a child finds stands in
 * memory that it shares with its parent. The caller's thread, and the child's.
 */
#include "base/alloc.h"
#include "base/child.h"
#include "base/clock.h"
#include "measure/measure_int.h"

#include <ctype.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LIBRARY     "libcuda.so.1"
#define GPUS_MAX    32
#define CALL_MS     4000
#define INIT_TIMES  3 /* as long may the first call take: it wakes every GPU */
#define FAULTS_MOST 4 /* children that end badly before it is given up */
#define BYTES_MOST  ((size_t)256 << 20)
#define BYTES_LEAST ((size_t)64 << 20) /* beyond every cache */
#define ROUND_S     0.004
#define REPEATS     64
#define BLOCKS      32768U /* so many that a last round of them that is not full hardly counts */
#define THREADS     256U
#define TIMES       64U
#define ROWS_MAX    (GPUS_MAX * (GPUS_MAX + N_FIGURES))
#define WHY_BYTES   120

/* What we use of the library: X(name here, name there, parameters). */
#define CUDA_FUNCTIONS(X)                                                                          \
    X(init, "cuInit", (unsigned))                                                                  \
    X(count, "cuDeviceGetCount", (int *))                                                          \
    X(device, "cuDeviceGet", (int *, int))                                                         \
    X(bus_id, "cuDeviceGetPCIBusId", (char *, int, int))                                           \
    X(retain, "cuDevicePrimaryCtxRetain", (void **, int))                                          \
    X(current, "cuCtxSetCurrent", (void *))                                                        \
    X(event, "cuEventCreate", (void **, unsigned))                                                 \
    X(record, "cuEventRecord", (void *, void *))                                                   \
    X(wait, "cuEventSynchronize", (void *))                                                        \
    X(elapsed, "cuEventElapsedTime", (float *, void *, void *))                                    \
    X(alloc, "cuMemAlloc_v2", (uint64_t *, size_t))                                                \
    X(alloc_host, "cuMemAllocHost_v2", (void **, size_t))                                          \
    X(within, "cuMemcpyDtoD_v2", (uint64_t, uint64_t, size_t))                                     \
    X(from_host, "cuMemcpyHtoD_v2", (uint64_t, const void *, size_t))                              \
    X(to_host, "cuMemcpyDtoH_v2", (void *, uint64_t, size_t))                                      \
    X(can_access, "cuDeviceCanAccessPeer", (int *, int, int))                                      \
    X(enable, "cuCtxEnablePeerAccess", (void *, unsigned))                                         \
    X(between, "cuMemcpyPeer", (uint64_t, void *, uint64_t, void *, size_t))                       \
    X(load, "cuModuleLoadData", (void **, const void *))                                           \
    X(get, "cuModuleGetFunction", (void **, void *, const char *))                                 \
    X(launch, "cuLaunchKernel",                                                                    \
      (void *, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void *,       \
       void **, void **))

/* Parameters cannot stand in parentheses. NOLINTBEGIN(bugprone-macro-parentheses) */
struct functions {
#define POINTER_(name, symbol, params) int(*name) params;
    CUDA_FUNCTIONS(POINTER_)
#undef POINTER_
};
/* NOLINTEND(bugprone-macro-parentheses) */

enum { GOOD, NO_FUNCTION = -1, PEER_ENABLED = 704 };

/* Codes of the library that have another cause than this program; the second: the device's or the
 * driver's fault. */
static const struct {
    int code;
    bool fault;
    const char *text;
} codes[] = {
    {NO_FUNCTION, false, "this driver lacks it"},
    {2, false, "out of memory: others hold what there is"},
    {3, true, "the driver was not initialised"},
    {34, false, "a stub stands in for the driver's library"},
    {46, false, "the GPU is busy, or its compute mode lets no other program in"},
    {100, false, "no GPU is visible (CUDA_VISIBLE_DEVICES)"},
    {101, false, "no such GPU"},
    {201, true, "its context is broken"},
    {205, true, "its memory cannot be mapped"},
    {209, false, "this GPU is too old for our kernel"},
    {214, true, "an uncorrectable memory error"},
    {216, false, "another process uses it alone"},
    {217, false, "these two reach each other over the host only"},
    {218, false, "this driver does not understand our kernel"},
    {221, false, "the driver's compiler is missing (libnvidia-ptxjitcompiler.so.1)"},
    {222, false, "this driver does not understand our kernel"},
    {223, false, "the driver may compile nothing (CUDA_DISABLE_PTX_JIT)"},
    {700, true, "an illegal address"},
    {702, true, "the driver gave up waiting"},
    {719, true, "the GPU failed"},
    {800, false, "not permitted"},
    {801, false, "not supported"},
    {802, true, "the system is not ready: see the fabric manager"},
    {803, true, "library and kernel driver are of different versions"},
    {804, true, "this driver does not fit the GPU"},
    {999, true, "an unknown error: see the kernel's log"},
};

/* In the order in which they are timed: copies wake the clocks that multiplying needs. */
enum figure { WITHIN, FROM_HOST, TO_HOST, MULTIPLY, BETWEEN, N_FIGURES };
static const char *const figure_names[N_FIGURES] = {"memory_bytes_per_s", "from_host_bytes_per_s",
                                                    "to_host_bytes_per_s", "fp32_flop_per_s",
                                                    "link_bytes_per_s"};

struct row {
    enum figure figure;
    unsigned device, peer; /* peer: of BETWEEN */
    double values[MU_ALONE_ROUNDS];
    unsigned n;
    bool direct, fault;
    char why[WHY_BYTES];
};

/* Tasks: each GPU for itself, then each pair. */
struct page {
    _Atomic uint32_t n_calls; /* a sign of life */
    _Atomic uint32_t task, n_rows;
    uint32_t n_gpus; /* 0: not known yet */
    bool over, lost[GPUS_MAX];
    char call[40];           /* that is being made */
    char nothing[WHY_BYTES]; /* why there is nothing to time */
    bool fault;
    char bus_ids[GPUS_MAX][24];
    struct row rows[ROWS_MAX];
};

/* --- in the child ----------------------------------------------------------------------------- */

struct gpu {
    int device;
    void *context, *events[2]; /* begin and end, which the GPU itself times */
    uint64_t memory[2];
    size_t bytes;
    void *host, *kernel;
};

struct child {
    const struct mu_measure_alone *options;
    struct page *page;
    struct functions fn;
    struct gpu gpus[GPUS_MAX];
};

static bool call_begin(struct child *c, const char *symbol, bool is_here)
{
    (void)snprintf(c->page->call, sizeof c->page->call, "%s", symbol);
    atomic_fetch_add_explicit(&c->page->n_calls, 1, memory_order_release);
    return is_here;
}

#define SYMBOL_(name, symbol, params) static const char symbol_##name[] = symbol;
CUDA_FUNCTIONS(SYMBOL_)
#undef SYMBOL_
#define CALL(c, name, ...)                                                                         \
    (call_begin((c), symbol_##name, (c)->fn.name != NULL) ? (c)->fn.name(__VA_ARGS__) : NO_FUNCTION)

static bool code_explain(const struct child *c, int code, char out[WHY_BYTES])
{
    for (size_t i = 0; i < MU_ARRAY_LEN(codes); i++)
        if (codes[i].code == code) {
            (void)snprintf(out, WHY_BYTES, "%s: %s", c->page->call, codes[i].text);
            return codes[i].fault;
        }
    (void)snprintf(out, WHY_BYTES, "%s: error %d", c->page->call, code);
    return true;
}

static void row_give(struct page *page, const struct row *row)
{
    uint32_t n = atomic_load_explicit(&page->n_rows, memory_order_relaxed);
    if (n == ROWS_MAX) return;
    page->rows[n] = *row;
    atomic_store_explicit(&page->n_rows, n + 1, memory_order_release);
}

static void library_find(struct child *c, const char *path)
{
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    void *(*find)(void *, const char *) = c->options->find ? c->options->find : dlsym;
    if (!library) {
        const char *why = dlerror();
        (void)snprintf(c->page->nothing, WHY_BYTES, "no CUDA here, %s", why ? why : path);
        return;
    }
    void *p;
#define FIND_(name, symbol, params)                                                                \
    p = find(library, symbol);                                                                     \
    memcpy(&c->fn.name, &p, sizeof p);
    CUDA_FUNCTIONS(FIND_)
#undef FIND_
}

/* The GPUs by their bus ids, which mean the same to everybody. */
static int gpus_find(struct child *c)
{
    struct page *page = c->page;
    int n = 0, code = CALL(c, init, 0);
    if (code == GOOD) code = CALL(c, count, &n);
    if (code == GOOD && n <= 0) code = 100;
    if (code == GOOD && page->n_gpus && page->n_gpus != (uint32_t)n) code = 101; /* one was lost */
    n = MU_MIN(n, GPUS_MAX);
    for (int i = 0; i < n && code == GOOD; i++) {
        char *id = page->bus_ids[i];
        code = CALL(c, device, &c->gpus[i].device, i);
        if (code == GOOD)
            code = CALL(c, bus_id, id, (int)sizeof page->bus_ids[i], c->gpus[i].device);
        id[sizeof page->bus_ids[i] - 1] = '\0';
        for (; *id; id++)
            *id = isxdigit((unsigned char)*id) ? (char)tolower(*id)
                  : *id == ':' || *id == '.'   ? *id
                                               : '?';
    }
    if (code == GOOD)
        page->n_gpus = (uint32_t)n;
    else
        page->fault = code_explain(c, code, page->nothing);
    return code;
}

/* A context and memory to copy; another task may have made them. */
static int gpu_open(struct child *c, struct gpu *g)
{
    int code = GOOD;
    if (!g->context) code = CALL(c, retain, &g->context, g->device);
    if (code == GOOD) code = CALL(c, current, g->context);
    if (code != GOOD || g->bytes) return code;
    size_t bytes = BYTES_MOST;
    for (unsigned i = 0; i < 2 && code == GOOD; i++)
        while ((code = CALL(c, alloc, &g->memory[i], bytes)) == 2 && i == 0 && bytes > BYTES_LEAST)
            bytes /= 2;
    if (code == GOOD) code = CALL(c, alloc_host, &g->host, bytes);
    for (unsigned i = 0; i < 2 && code == GOOD; i++)
        code = CALL(c, event, &g->events[i], 0);
    if (code == GOOD) g->bytes = bytes;
    return code;
}

static int kernel_open(struct child *c, struct gpu *g)
{
    void *module = NULL;
    int code = CALL(c, load, &module, mu_multiply_ptx);
    return code == GOOD ? CALL(c, get, &g->kernel, module, "multiply") : code;
}

static int multiply(struct child *c, struct gpu *g)
{
    unsigned times = TIMES;
    void *parameters[] = {&g->memory[0], &times};
    return CALL(c, launch, g->kernel, BLOCKS, 1, 1, THREADS, 1, 1, 0, NULL, parameters, NULL);
}

static int work(struct child *c, enum figure figure, struct gpu *g, struct gpu *peer)
{
    switch (figure) {
    case WITHIN:
        return CALL(c, within, g->memory[1], g->memory[0], g->bytes);
    case FROM_HOST:
        return CALL(c, from_host, g->memory[0], g->host, g->bytes);
    case TO_HOST:
        return CALL(c, to_host, g->host, g->memory[0], g->bytes);
    case MULTIPLY:
        return multiply(c, g);
    case BETWEEN:
        return CALL(c, between, peer->memory[1], peer->context, g->memory[0], g->context,
                    MU_MIN(g->bytes, peer->bytes));
    case N_FIGURES:
        break;
    }
    return GOOD;
}

/* Bytes that one piece of work moves, or its operations. */
static double work_size(enum figure figure, const struct gpu *g, const struct gpu *peer)
{
    if (figure == MULTIPLY) return 2.0 * MU_MULTIPLY_FMAS * TIMES * THREADS * BLOCKS;
    if (figure == BETWEEN) return (double)MU_MIN(g->bytes, peer->bytes);
    /* Within one memory it is read and written. */
    return (double)g->bytes * (figure == WITHIN ? 2 : 1);
}

/* Seconds of a piece of work when so many are done one after another. */
static int work_time(struct child *c, const struct row *row, unsigned n, double *seconds)
{
    struct gpu *g = &c->gpus[row->device], *peer = &c->gpus[row->peer];
    float ms = 0;
    int code = CALL(c, record, g->events[0], NULL);
    for (unsigned i = 0; i < n && code == GOOD; i++)
        code = work(c, row->figure, g, peer);
    if (code == GOOD) code = CALL(c, record, g->events[1], NULL);
    if (code == GOOD) code = CALL(c, wait, g->events[1]);
    if (code == GOOD) code = CALL(c, elapsed, &ms, g->events[0], g->events[1]);
    *seconds = (double)ms * 1e-3 / n;
    return code;
}

static void figure_time(struct child *c, struct row *row)
{
    struct gpu *g = &c->gpus[row->device];
    double size = work_size(row->figure, g, &c->gpus[row->peer]), seconds = 0;
    int code = row->figure == MULTIPLY ? kernel_open(c, g) : GOOD;
    if (code == GOOD) code = work_time(c, row, 1, &seconds); /* and wakes the clocks */
    double wanted = seconds > 0 ? ROUND_S / seconds : 1;
    unsigned repeats = wanted > REPEATS ? REPEATS : wanted < 1 ? 1 : (unsigned)wanted;
    while (code == GOOD && row->n < MU_ALONE_ROUNDS) {
        code = work_time(c, row, repeats, &seconds);
        if (code == GOOD) row->values[row->n++] = size / MU_MAX(seconds, 1e-9);
    }
    if (code != GOOD) {
        row->n = 0;
        row->fault = code_explain(c, code, row->why);
    }
}

static void gpu_time(struct child *c, unsigned i)
{
    struct row row = {.device = i};
    int code = gpu_open(c, &c->gpus[i]);
    if (code != GOOD) {
        c->page->lost[i] = true;
        row.fault = code_explain(c, code, row.why);
        row_give(c->page, &row);
        return;
    }
    for (enum figure f = WITHIN; f < BETWEEN; f++) {
        row = (struct row){.figure = f, .device = i};
        figure_time(c, &row);
        row_give(c->page, &row);
    }
}

static void pair_time(struct child *c, unsigned from, unsigned to)
{
    struct row row = {.figure = BETWEEN, .device = from, .peer = to};
    struct gpu *a = &c->gpus[from], *b = &c->gpus[to];
    int direct = 0, code = gpu_open(c, b);
    if (code == GOOD) code = gpu_open(c, a);
    if (code == GOOD) code = CALL(c, can_access, &direct, a->device, b->device);
    row.direct = code == GOOD && direct != 0;
    if (row.direct) code = CALL(c, enable, b->context, 0);
    if (code == GOOD || code == PEER_ENABLED)
        figure_time(c, &row);
    else
        row.fault = code_explain(c, code, row.why);
    row_give(c->page, &row);
}

static bool pair_of(const struct page *page, uint32_t task, unsigned *from, unsigned *to)
{
    *from = (task - page->n_gpus) / page->n_gpus;
    *to = (task - page->n_gpus) % page->n_gpus;
    return *from != *to && !page->lost[*from] && !page->lost[*to];
}

static void child_main(void *arg)
{
    struct child *c = arg;
    struct page *page = c->page;
    const char *path = c->options->library ? c->options->library : getenv("MUSTER_CUDA");
    library_find(c, path && path[0] ? path : LIBRARY);
    if (!page->nothing[0] && gpus_find(c) == GOOD) {
        uint32_t n = page->n_gpus, task = atomic_load(&page->task);
        for (unsigned from, to; task < n + n * n; atomic_store(&page->task, ++task))
            if (task < n)
                gpu_time(c, task);
            else if (pair_of(page, task, &from, &to))
                pair_time(c, from, to);
    }
    page->over = true;
}

/* --- in the parent ---------------------------------------------------------------------------- */

enum end { ENDED, HUNG, CRASHED, NO_TIME };

static enum end child_wait(struct mu_child *child, const struct page *page,
                           const struct mu_measure_alone *o, double left_s)
{
    uint64_t start = mu_clock_ns(), since = start;
    double call_s = (o->call_ms ? o->call_ms : CALL_MS) * 1e-3;
    uint32_t before = 0;
    for (int signal;; mu_clock_pause(0.01, NULL)) {
        if (mu_child_is_over(child, &signal)) return page->over ? ENDED : CRASHED;
        uint32_t now = atomic_load_explicit(&page->n_calls, memory_order_acquire);
        if (now != before) since = mu_clock_ns();
        before = now;
        bool stopped = o->stop && o->stop();
        double most_s = page->n_gpus ? call_s : call_s * INIT_TIMES;
        if (!stopped && mu_clock_seconds_since(since) > most_s) return HUNG;
        if (stopped || mu_clock_seconds_since(start) > left_s) return NO_TIME;
    }
}

/* A task that was not finished, and why. */
static void task_lost(struct page *page, uint32_t task, const char *why, bool fault)
{
    struct row row = {.fault = fault};
    (void)snprintf(row.why, sizeof row.why, "%s", why);
    row.device = task;
    if (task < page->n_gpus)
        page->lost[task] = true;
    else if (pair_of(page, task, &row.device, &row.peer))
        row.figure = BETWEEN;
    else
        return;
    row_give(page, &row);
}

/* What came of a child that did not end by itself; true when another one should go on. */
static bool child_lost(struct page *page, enum end end, unsigned n_faults)
{
    char why[WHY_BYTES];
    uint32_t task = atomic_load(&page->task), all = page->n_gpus + page->n_gpus * page->n_gpus;
    (void)snprintf(why, sizeof why,
                   end == CRASHED ? "%s: the driver crashed" : "%s did not return in time",
                   page->call);
    if (end == NO_TIME) (void)snprintf(why, sizeof why, "no time was left");
    if (page->n_gpus == 0) {
        memcpy(page->nothing, why, sizeof why);
        page->fault = end != NO_TIME;
        return false;
    }
    task_lost(page, task, why, end != NO_TIME);
    atomic_store(&page->task, ++task);
    if (end != NO_TIME && n_faults < FAULTS_MOST) return task < all;
    for (; task < all; task++)
        task_lost(page, task, end == NO_TIME ? why : "the driver failed too often before", false);
    return false;
}

static mu_status rows_take(struct page *page, json_t *rows, struct mu_err *err)
{
    if (page->nothing[0])
        return mu_timed_row_add(rows,
                                &(struct mu_timed_row){.figure = figure_names[WITHIN],
                                                       .device = "cuda",
                                                       .why = page->nothing,
                                                       .fault = page->fault},
                                err);
    for (uint32_t i = 0; i < atomic_load(&page->n_rows); i++) {
        struct row *r = &page->rows[i];
        bool pair = r->figure == BETWEEN;
        struct mu_timed_row row = {.figure = figure_names[r->figure],
                                   .device = page->bus_ids[r->device],
                                   .peer = pair ? page->bus_ids[r->peer] : NULL,
                                   .alike = !pair       ? "gpu"
                                            : r->direct ? "direct"
                                                        : "over the host",
                                   .values = r->values,
                                   .n = r->n,
                                   .why = r->why,
                                   .fault = r->fault};
        MU_TRY(mu_timed_row_add(rows, &row, err));
    }
    return MU_OK;
}

mu_status mu_measure_alone_gpus(const struct mu_measure_alone *options, json_t *rows,
                                struct mu_err *err)
{
    uint64_t start = mu_clock_ns();
    struct page *page = mu_shared_alloc(sizeof *page);
    struct child *c = mu_calloc(1, sizeof *c);
    mu_status status = page && c ? MU_OK : mu_fail_memory(err, sizeof *page);
    bool again = status == MU_OK;
    if (again && options->progress) options->progress(options->arg, "GPUs");
    for (unsigned n_faults = 0; again && status == MU_OK; n_faults++) {
        struct mu_child child = {0};
        *c = (struct child){.options = options, .page = page};
        status = mu_child_start(&child, child_main, c, err);
        if (status != MU_OK) break;
        enum end end =
            child_wait(&child, page, options, options->seconds - mu_clock_seconds_since(start));
        mu_child_kill(&child);
        again = end != ENDED && child_lost(page, end, n_faults + 1);
    }
    if (status == MU_OK) status = rows_take(page, rows, err);
    mu_shared_free(page, sizeof *page);
    mu_free(c);
    return status;
}
