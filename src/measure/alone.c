/*
 * CPU devices alone: each reads memory and multiplies while the others rest, and copies what
 * another one wrote. Rounds go over all devices by turns, then over all pairs by turns, so that
 * what disturbs the machine for a while disturbs all alike; and they go on for as long as something
 * looks slow, since what disturbed it may pass. The caller's thread, pinned meanwhile, and teams of
 * it.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "measure/measure_int.h"
#include "probe/probe.h"

#include <stdio.h>
#include <string.h>

#define CPUS_MAX    1024
#define NODES_MAX   64
#define CORES_MOST  64 /* with more, nodes are the devices */
#define ENDS_MOST   8  /* of which each pair is timed */
#define READ_BYTES  ((size_t)128 << 20)
#define COPY_BYTES  ((size_t)32 << 20)
#define MATH_COLS   256 /* of a matrix that a core's own cache holds, */
#define MATH_ROWS   128
#define MATH_BATCH  64   /* and of its activations */
#define MATH_S      0.01 /* of products in one round */
#define ROUNDS_MOST 60   /* where something looks slow; */
#define BREATH_S    0.1  /* they are that far apart then, */
#define MORE_S      6.0  /* and go on for no longer */

struct place {
    char name[24], alike[48];
    unsigned node, n_cpus;
    const int *cpus;
    double reads[ROUNDS_MOST], products[ROUNDS_MOST];
    unsigned n; /* rounds */
};

struct pair {
    const struct place *from, *to;
    double rates[ROUNDS_MOST];
    unsigned n;
};

struct alone {
    const struct mu_measure_alone *options;
    uint64_t start_ns;
    int cpus[CPUS_MAX];
    struct place places[CPUS_MAX];
    unsigned n_places;
    struct pair pairs[ENDS_MOST * ENDS_MOST];
    unsigned n_pairs;
    void *memory[NODES_MAX]; /* near each, once one of its devices was timed */
    const struct mu_kernels *kernels;
    struct mu_weight weight;
    struct mu_linear_args math;
    void *math_memory;
    size_t y_bytes; /* what a member writes */
    _Atomic uint64_t n_products;
};

mu_status mu_timed_row_add(json_t *rows, const struct mu_timed_row *row, struct mu_err *err)
{
    bool timed = row->n > 0;
    double median = timed ? mu_timed_median(row->values, row->n) : 0;
    json_t *o =
        json_pack("{s:s, s:s, s:s?, s:s, s:o, s:o, s:o, s:i, s:s?, s:b}", "figure", row->figure,
                  "device", row->device, "peer", row->peer, "alike", row->alike ? row->alike : "",
                  "best", timed ? json_real(row->values[row->n - 1]) : json_null(), "median",
                  timed ? json_real(median) : json_null(), "worst",
                  timed ? json_real(row->values[0]) : json_null(), "rounds", (int)row->n, "why",
                  timed ? NULL : row->why, "fault", !timed && row->fault);
    return json_array_append_new(rows, o) == 0 ? MU_OK : mu_fail_memory(err, 256);
}

static bool is_over(const struct alone *a)
{
    return mu_clock_seconds_since(a->start_ns) > a->options->seconds ||
           (a->options->stop && a->options->stop());
}

static void tell(const struct alone *a, const char *what)
{
    if (a->options->progress) a->options->progress(a->options->arg, what);
}

/* --- which devices there are ------------------------------------------------------------------ */

/* Threads of one core share what is timed, so one of them stands for it. */
static bool is_known_core(const struct mu_probe_core *cores, unsigned n)
{
    for (unsigned i = 0; i < n && cores[n].threads[0]; i++)
        if (strcmp(cores[n].threads, cores[i].threads) == 0) return true;
    return false;
}

static void core_add(struct alone *a, const struct mu_probe_core *core, const int *cpu)
{
    struct place *p = &a->places[a->n_places++];
    *p = (struct place){.n_cpus = 1, .cpus = cpu};
    if (mu_probe_has(core->node)) p->node = (unsigned)core->node.value;
    (void)snprintf(p->name, sizeof p->name, "cpu:%d", *cpu);
    (void)snprintf(p->alike, sizeof p->alike, "core");
    if (mu_probe_has(core->clock_max_mhz))
        (void)snprintf(p->alike, sizeof p->alike, "core of %.0f MHz", core->clock_max_mhz.value);
}

/* Cores of a node that stand side by side make one device. */
static void cores_join(struct alone *a)
{
    unsigned n = 0;
    for (unsigned i = 0; i < a->n_places; i++) {
        struct place *p = &a->places[n], *core = &a->places[i];
        if (n && p[-1].node == core->node && p[-1].cpus + p[-1].n_cpus == core->cpus) {
            p[-1].n_cpus++;
            continue;
        }
        if (p != core) *p = *core;
        (void)snprintf(p->name, sizeof p->name, "node:%u", p->node);
        n++;
    }
    a->n_places = n;
    for (unsigned i = 0; i < n; i++)
        (void)snprintf(a->places[i].alike, sizeof a->places[i].alike, "node of %u cores",
                       a->places[i].n_cpus);
}

static mu_status places_find(struct alone *a, struct mu_err *err)
{
    struct mu_probe_core *cores = mu_calloc(CPUS_MAX, sizeof *cores);
    if (!cores) return mu_fail_memory(err, CPUS_MAX * sizeof *cores);
    /* A quota makes fewer threads sensible; any CPU may be the slow one all the same. */
    memset(a->cpus, -1, sizeof a->cpus);
    (void)mu_cpu_usable(a->cpus, CPUS_MAX);
    unsigned n = 0;
    for (unsigned i = 0; i < CPUS_MAX && a->cpus[i] >= 0; i++) {
        mu_probe_core(NULL, a->cpus[i], &cores[n]);
        if (!is_known_core(cores, n)) a->cpus[n++] = a->cpus[i];
    }
    for (unsigned i = 0; i < n; i++)
        core_add(a, &cores[i], &a->cpus[i]);
    if (n > CORES_MOST) cores_join(a);
    mu_free(cores);
    return MU_OK;
}

/* --- one round of one device ------------------------------------------------------------------ */

static mu_status math_make(struct alone *a, struct mu_err *err)
{
    MU_TRY(mu_kernels_choose(NULL, &a->kernels, err));
    const struct mu_kernels *k = a->kernels;
    struct mu_weight *w = &a->weight;
    *w = (struct mu_weight){.type = MU_DTYPE_F32, .rows = MATH_ROWS, .cols = MATH_COLS};
    w->form = k->form(w->type, MU_COMPUTE_F32);
    w->bytes = k->weight_bytes(w->type, w->form, w->rows, 0, w->cols);
    unsigned most = 1;
    for (unsigned i = 0; i < a->n_places; i++)
        most = MU_MAX(most, a->places[i].n_cpus);
    size_t weight_bytes = MU_ROUND_UP(w->bytes, (size_t)64);
    size_t stride = MU_ROUND_UP(k->form_bytes(w->form, w->cols), (size_t)64) | 64;
    a->y_bytes = MATH_BATCH * MATH_ROWS * sizeof(float);
    size_t bytes = weight_bytes + MATH_BATCH * stride + most * a->y_bytes;
    a->math_memory = mu_alloc_aligned(64, bytes);
    if (!a->math_memory) return mu_fail_memory(err, bytes);
    memset(a->math_memory, 0, bytes); /* numbers that are 0 are multiplied like others */
    char *p = a->math_memory;
    w->data = p;
    a->math =
        (struct mu_linear_args){.weight = w,
                                .x = p + weight_bytes,
                                .x_stride = stride,
                                .y = (float *)(void *)(p + weight_bytes + MATH_BATCH * stride),
                                .y_stride = MATH_ROWS,
                                .n_rows = MATH_BATCH};
    return MU_OK;
}

static void products_make(void *arg, unsigned member)
{
    struct alone *a = arg;
    struct mu_linear_args args = a->math;
    uint64_t n = 0, start = mu_clock_ns();
    args.y += member * (a->y_bytes / sizeof(float));
    for (; mu_clock_seconds_since(start) < MATH_S; n++)
        a->kernels->linear(&args, 0, MATH_ROWS);
    atomic_fetch_add_explicit(&a->n_products, n, memory_order_relaxed);
}

static mu_status memory_have(struct alone *a, unsigned node, struct mu_team *team,
                             struct mu_err *err)
{
    if (a->memory[node]) return MU_OK;
    a->memory[node] = mu_alloc_aligned(4096, READ_BYTES);
    if (!a->memory[node]) return mu_fail_memory(err, READ_BYTES);
    mu_timed_fill(team, a->memory[node], READ_BYTES);
    return MU_OK;
}

static mu_status round_make(struct alone *a, struct place *p, struct mu_err *err)
{
    static const double flop = 2.0 * MATH_COLS * MATH_ROWS * MATH_BATCH;
    struct mu_team *team = NULL;
    MU_TRY(mu_team_create(p->n_cpus, p->cpus, &team, err));
    mu_status status = memory_have(a, p->node, team, err);
    if (status == MU_OK) {
        p->reads[p->n] = mu_timed_read(team, a->memory[p->node], READ_BYTES);
        atomic_store_explicit(&a->n_products, 0, memory_order_relaxed);
        uint64_t start = mu_clock_ns();
        mu_team_run(team, products_make, a);
        double n = (double)atomic_load_explicit(&a->n_products, memory_order_relaxed);
        p->products[p->n++] = n * flop / mu_clock_seconds_since(start);
    }
    mu_team_destroy(team);
    return status;
}

static mu_status places_time(struct alone *a, bool first, struct mu_err *err)
{
    for (unsigned i = 0; i < a->n_places && !is_over(a); i++) {
        if (first) tell(a, a->places[i].name);
        MU_TRY(round_make(a, &a->places[i], err));
    }
    return MU_OK;
}

/* --- pairs ------------------------------------------------------------------------------------ */

/* `to` copies what `from` wrote, out of the memory that is near `from`. */
static mu_status copy_time(struct alone *a, const struct place *from, const struct place *to,
                           double *rate, struct mu_err *err)
{
    char *source = a->memory[from->node], *target = (char *)a->memory[to->node] + READ_BYTES / 2;
    struct mu_team *team = NULL;
    MU_TRY(mu_team_create(1, from->cpus, &team, err));
    mu_timed_fill(team, source, COPY_BYTES);
    mu_team_destroy(team);
    team = NULL;
    MU_TRY(mu_team_create(1, to->cpus, &team, err));
    uint64_t start = mu_clock_ns();
    memcpy(target, source, COPY_BYTES);
    *rate = (double)COPY_BYTES / mu_clock_seconds_since(start);
    mu_team_destroy(team);
    return MU_OK;
}

/* Between nodes, where there are several; else between cores, which share one memory. */
static unsigned ends_find(const struct alone *a, const struct place *ends[ENDS_MOST])
{
    unsigned n = 0, nodes = 0;
    for (unsigned i = 0; i < a->n_places; i++) {
        const struct place *p = &a->places[i];
        bool first = true;
        for (unsigned j = 0; j < i; j++)
            first = first && a->places[j].node != p->node;
        nodes += first;
        if (first && n < ENDS_MOST) ends[n++] = p;
    }
    if (nodes > 1) return n;
    n = MU_MIN(a->n_places, (unsigned)ENDS_MOST);
    for (unsigned i = 0; i < n; i++)
        ends[i] = &a->places[i];
    return n;
}

/* Those whose devices were timed, which have memory therefore. */
static void pairs_find(struct alone *a)
{
    const struct place *ends[ENDS_MOST];
    unsigned n = ends_find(a, ends);
    for (unsigned i = 0; i < n; i++)
        for (unsigned j = 0; j < n; j++)
            if (i != j && a->memory[ends[i]->node] && a->memory[ends[j]->node])
                a->pairs[a->n_pairs++] = (struct pair){.from = ends[i], .to = ends[j]};
    if (a->n_pairs) tell(a, "pairs of CPUs");
}

static mu_status pairs_time(struct alone *a, struct mu_err *err)
{
    for (unsigned i = 0; i < a->n_pairs && !is_over(a); i++) {
        struct pair *p = &a->pairs[i];
        MU_TRY(copy_time(a, p->from, p->to, &p->rates[p->n], err));
        p->n++;
    }
    return MU_OK;
}

/* --- all of it -------------------------------------------------------------------------------- */

static mu_status rows_make(struct alone *a, json_t *rows, struct mu_err *err)
{
    struct mu_timed_row row = {.why = "no time was left"};
    for (unsigned i = 0; i < a->n_places; i++) {
        struct place *p = &a->places[i];
        row.device = p->name;
        row.alike = p->alike;
        row.n = p->n;
        row.figure = "memory_bytes_per_s";
        row.values = p->reads;
        MU_TRY(mu_timed_row_add(rows, &row, err));
        row.figure = "fp32_flop_per_s";
        row.values = p->products;
        MU_TRY(mu_timed_row_add(rows, &row, err));
    }
    row.figure = "link_bytes_per_s";
    for (unsigned i = 0; i < a->n_pairs; i++) {
        struct pair *p = &a->pairs[i];
        row.device = p->from->name;
        row.peer = p->to->name;
        row.alike = p->from->node == p->to->node ? "within a node" : "between nodes";
        row.values = p->rates;
        row.n = p->n;
        MU_TRY(mu_timed_row_add(rows, &row, err));
    }
    return MU_OK;
}

static bool is_same(const json_t *a, const json_t *b, const char *key)
{
    return json_equal(json_object_get(a, key), json_object_get(b, key)) != 0;
}

/* Whether somebody who asks for that share of what others of its kind usually reach would find a
 * row too slow. */
static bool rows_look_slow(const json_t *rows, double share)
{
    const json_t *row, *other;
    size_t i, j;
    json_array_foreach(rows, i, row)
    {
        double best = json_number_value(json_object_get(row, "best"));
        json_array_foreach(rows, j, other)
        {
            if (is_same(row, other, "figure") && is_same(row, other, "alike") &&
                best < share * json_number_value(json_object_get(other, "median")))
                return true;
        }
    }
    return false;
}

static mu_status looks_slow(struct alone *a, bool *slow, struct mu_err *err)
{
    json_t *rows = json_array();
    mu_status status = rows ? rows_make(a, rows, err) : mu_fail_memory(err, 0);
    *slow = status == MU_OK && rows_look_slow(rows, a->options->slow_share);
    json_decref(rows);
    return status;
}

static mu_status all_time(struct alone *a, struct mu_err *err)
{
    unsigned n = 0;
    for (; n < MU_ALONE_ROUNDS; n++)
        MU_TRY(places_time(a, n == 0, err));
    pairs_find(a);
    for (n = 0; n < MU_ALONE_ROUNDS; n++)
        MU_TRY(pairs_time(a, err));
    uint64_t since = mu_clock_ns();
    for (; n < ROUNDS_MOST && !is_over(a) && mu_clock_seconds_since(since) < MORE_S; n++) {
        bool slow = false;
        MU_TRY(looks_slow(a, &slow, err));
        if (!slow) break;
        if (n == MU_ALONE_ROUNDS) tell(a, "what looked slow once more");
        mu_clock_pause(BREATH_S, a->options->stop);
        MU_TRY(places_time(a, false, err));
        MU_TRY(pairs_time(a, err));
    }
    return MU_OK;
}

mu_status mu_measure_alone_cpus(const struct mu_measure_alone *options, json_t *rows,
                                struct mu_err *err)
{
    struct alone *a = mu_calloc(1, sizeof *a);
    if (!a) return mu_fail_memory(err, sizeof *a);
    a->options = options;
    a->start_ns = mu_clock_ns();
    mu_status status = places_find(a, err);
    if (status == MU_OK) status = math_make(a, err);
    if (status == MU_OK) status = all_time(a, err);
    if (status == MU_OK) status = rows_make(a, rows, err);
    for (unsigned i = 0; i < NODES_MAX; i++)
        mu_free(a->memory[i]);
    mu_free(a->math_memory);
    mu_free(a);
    return status;
}
