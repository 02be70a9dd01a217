/*
 * Staging: matrices of a rank that do not lie on its device. Owns the two slots, the thread that
 * fills them where a core is left for it, and the table of what is brought when; knows nothing of
 * what operations compute. The rank's team calls it inside steps, rank.c around them. See rank.h.
 *
 * What is brought at once is a load: all matrices of one operation. Loads follow each other in the
 * order of the program, step after step, so which comes next is known without being asked; they are
 * counted from the start, and load u of the count goes into slot u mod 2. A load is opened by the
 * thread, or by the member that was last with the load before; then it is cut into pieces, which
 * the thread and the waiting members claim by one word that names the load too: who comes late
 * claims nothing of the next one. Who copies the last piece says that the load is there.
 */
#include "engine/rank.h"

#include "base/file.h"

#define SLOTS      2
#define COPY_BYTES ((uint64_t)512 << 10) /* that one piece copies */
#define WAIT_SPINS 2000                  /* as team.c */
#define NOT_STAGED UINT32_MAX

/* One matrix on its way. */
struct item {
    uint32_t tensor, first_piece, n_pieces;
    uint64_t offset; /* in the slot */
};

struct load {
    uint32_t first_item, n_items, n_pieces;
};

struct mu_staging {
    struct mu_rank *rank;
    struct item *items;
    struct load *loads;
    uint32_t n_items, n_loads, n_slots;
    uint32_t *load_of;        /* [ops] -> its load, or NOT_STAGED */
    struct mu_weight *tables; /* [tensors]: as the rank's, but where they lie */
    uint64_t slot_bytes;
    uint8_t *slots;
    uint32_t holds[SLOTS]; /* which load; the thread's own */
    bool core_left;        /* for the thread, beside the team's */
    uint32_t spins;        /* of a member that waits */
    struct mu_thread thread;

    _Alignas(MU_CACHE_LINE) _Atomic uint32_t filled; /* loads that are there; grows */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t used;   /* loads that were read; grows */
    _Alignas(MU_CACHE_LINE) _Atomic uint64_t claim;  /* the load being filled, its next piece */
    _Atomic uint32_t done;                           /* pieces of it */
    _Atomic uint32_t news; /* grows when a load can be claimed, or is there: members wait on it */
    _Atomic uint32_t stop;
};

/* ---- What is brought when ------------------------------------------------------------------ */

static bool is_away(const struct mu_rank *rank, const struct mu_op *op)
{
    if (op->n_weights == 0 || op->kind == MU_OP_EMBED) return false;
    for (uint32_t j = 0; j < op->n_weights; j++)
        if (rank->program->tensors[op->weights[j]].home != MU_HOME_DEVICE) return true;
    return false;
}

static uint32_t count_items(const struct mu_rank *rank, uint32_t *n_loads)
{
    uint32_t n = 0;
    *n_loads = 0;
    for (uint32_t i = 0; i < rank->program->n_ops; i++) {
        const struct mu_op *op = &rank->program->ops[i];
        if (!is_away(rank, op)) continue;
        n += op->n_weights * MU_MAX(op->n_groups, 1u);
        ++*n_loads;
    }
    return n;
}

static void add_item(struct mu_staging *s, uint32_t tensor, struct load *load, uint64_t *offset)
{
    uint64_t bytes = s->rank->weights[tensor].bytes;
    s->items[s->n_items++] = (struct item){.tensor = tensor,
                                           .first_piece = load->n_pieces,
                                           .n_pieces = (uint32_t)MU_CEIL_DIV(bytes, COPY_BYTES),
                                           .offset = *offset};
    load->n_pieces += (uint32_t)MU_CEIL_DIV(bytes, COPY_BYTES);
    load->n_items++;
    *offset += MU_ROUND_UP(bytes, 64);
}

static void add_load(struct mu_staging *s, uint32_t i)
{
    const struct mu_op *op = &s->rank->program->ops[i];
    struct load *load = &s->loads[s->n_loads];
    uint64_t bytes = 0;
    load->first_item = s->n_items;
    for (uint32_t j = 0; j < op->n_weights; j++)
        for (uint32_t g = 0; g < MU_MAX(op->n_groups, 1u); g++)
            add_item(s, op->weights[j] + g, load, &bytes);
    s->slot_bytes = MU_MAX(s->slot_bytes, bytes);
    s->load_of[i] = s->n_loads++;
}

static void plan(struct mu_staging *s)
{
    for (uint32_t i = 0; i < s->rank->program->n_ops; i++) {
        s->load_of[i] = NOT_STAGED;
        if (is_away(s->rank, &s->rank->program->ops[i])) add_load(s, i);
    }
    s->n_slots = MU_MIN(s->n_loads, (uint32_t)SLOTS);
}

mu_status mu_staging_init(struct mu_rank *rank, struct mu_err *err)
{
    const struct mu_program *p = rank->program;
    uint32_t n_loads, n_items = count_items(rank, &n_loads);
    bool any = false;
    for (uint32_t i = 0; i < p->n_tensors; i++)
        any |= p->tensors[i].home != MU_HOME_DEVICE;
    if (!any) return MU_OK;
    struct mu_staging *s = mu_alloc_aligned(MU_CACHE_LINE, sizeof *s);
    if (!s) return mu_fail_memory(err, sizeof *s);
    *s = (struct mu_staging){.rank = rank};
    rank->staging = s;
    s->items = mu_arena_alloc(rank->arena, n_items, sizeof *s->items);
    s->loads = mu_arena_alloc(rank->arena, n_loads, sizeof *s->loads);
    s->load_of = mu_arena_alloc(rank->arena, p->n_ops, sizeof *s->load_of);
    s->tables = mu_arena_alloc(rank->arena, p->n_tensors, sizeof *s->tables);
    if (!s->items || !s->loads || !s->load_of || !s->tables)
        return mu_fail_memory(err, n_items * sizeof *s->items);
    plan(s);
    return MU_OK;
}

uint64_t mu_staging_bytes(const struct mu_rank *rank)
{
    const struct mu_staging *s = rank->staging;
    return s ? s->n_slots * s->slot_bytes : 0;
}

/* ---- Filling ------------------------------------------------------------------------------- */

static bool claim(struct mu_staging *s, uint32_t u, uint32_t n_pieces, uint32_t *piece)
{
    uint64_t seen = atomic_load_explicit(&s->claim, memory_order_acquire);
    while (seen >> 32 == u && (uint32_t)seen < n_pieces) {
        *piece = (uint32_t)seen;
        if (atomic_compare_exchange_weak_explicit(&s->claim, &seen, seen + 1, memory_order_acq_rel,
                                                  memory_order_acquire))
            return true;
    }
    return false;
}

static void fill_piece(const struct mu_staging *s, const struct load *load, uint32_t piece)
{
    const struct item *item = &s->items[load->first_item];
    while (piece >= item->first_piece + item->n_pieces)
        item++;
    const struct mu_weight *from = &s->tables[item->tensor];
    uint64_t at = (piece - item->first_piece) * COPY_BYTES;
    memcpy((uint8_t *)s->rank->weights[item->tensor].data + at, (const uint8_t *)from->data + at,
           MU_MIN(COPY_BYTES, from->bytes - at));
}

static void tell_members(struct mu_staging *s)
{
    atomic_fetch_add_explicit(&s->news, 1, memory_order_release);
    mu_wake_word(&s->news);
}

static void say_filled(struct mu_staging *s, uint32_t u)
{
    atomic_store_explicit(&s->filled, u + 1, memory_order_release);
    if (s->core_left) mu_wake_word(&s->filled);
    tell_members(s);
}

/* Fills pieces of load u until none is left to claim. */
static void work(struct mu_staging *s, uint32_t u, const struct load *load)
{
    uint32_t piece;
    while (claim(s, u, load->n_pieces, &piece)) {
        fill_piece(s, load, piece);
        /* acq_rel: who copied the last piece publishes them all. */
        if (atomic_fetch_add_explicit(&s->done, 1, memory_order_acq_rel) + 1 == load->n_pieces)
            say_filled(s, u);
    }
}

/* Calls for the disk's pages of a load, or lets them go. */
static void tell_pages(const struct mu_staging *s, const struct load *load,
                       void (*tell)(const void *bytes, uint64_t size))
{
    for (uint32_t i = load->first_item; i < load->first_item + load->n_items; i++) {
        uint32_t tensor = s->items[i].tensor;
        if (s->rank->program->tensors[tensor].home == MU_HOME_FILE)
            tell(s->tables[tensor].data, s->tables[tensor].bytes);
    }
}

/* Lets load u, which is number k of the step, be filled; nobody reads its slot any more. With no
 * more loads than slots, each comes once and stays: false. */
static bool open_load(struct mu_staging *s, uint32_t u, uint32_t k)
{
    const struct load *load = &s->loads[k];
    uint8_t *slot = s->slots + u % s->n_slots * s->slot_bytes;
    if (s->holds[u % s->n_slots] == k) {
        say_filled(s, u);
        return false;
    }
    s->holds[u % s->n_slots] = k;
    for (uint32_t i = load->first_item; i < load->first_item + load->n_items; i++)
        s->rank->weights[s->items[i].tensor].data = slot + s->items[i].offset;
    atomic_store_explicit(&s->done, 0, memory_order_relaxed);
    atomic_store_explicit(&s->claim, (uint64_t)u << 32, memory_order_release);
    tell_members(s);
    tell_pages(s, &s->loads[(k + 1) % s->n_loads], mu_file_ahead);
    return true;
}

/* Waits until more than `u` of what the word counts are done; false: the engine closes. The thread
 * sleeps at once: the core that its team leaves may be another device's. */
static bool wait_for(const struct mu_staging *s, _Atomic uint32_t *word, uint32_t u)
{
    uint32_t seen;
    while ((int32_t)((seen = atomic_load_explicit(word, memory_order_acquire)) - u) <= 0) {
        if (atomic_load_explicit(&s->stop, memory_order_acquire)) return false;
        mu_wait_word(word, seen);
    }
    return atomic_load_explicit(&s->stop, memory_order_acquire) == 0;
}

static void staging_main(void *arg)
{
    struct mu_staging *s = arg;
    for (uint32_t u = 0, k = 0;; u++, k = (k + 1) % s->n_loads) {
        if (!wait_for(s, &s->used, u - s->n_slots)) return;
        if (!open_load(s, u, k)) continue;
        work(s, u, &s->loads[k]);
        if (!wait_for(s, &s->filled, u)) return;
        tell_pages(s, &s->loads[k], mu_file_release);
    }
}

/* ---- For the rank -------------------------------------------------------------------------- */

mu_status mu_staging_load(struct mu_rank *rank, struct mu_err *err)
{
    struct mu_staging *s = rank->staging;
    if (!s) return MU_OK;
    for (uint32_t i = 0; i < rank->program->n_tensors; i++) {
        s->tables[i] = rank->weights[i];
        s->tables[i].data = rank->away[i];
    }
    if (s->n_loads == 0) return MU_OK;
    MU_TRY(mu_device_alloc(rank->device, MU_PURPOSE_STAGING, mu_staging_bytes(rank),
                           "the staging buffer", (void **)&s->slots, err));
    memset(s->holds, 0xff, sizeof s->holds);
    unsigned usable = mu_cpu_usable((int[MU_DEVICE_CPUS_MAX]){0}, MU_DEVICE_CPUS_MAX);
    s->core_left = usable > rank->spec->n_threads;
    s->spins = usable >= rank->spec->n_threads ? WAIT_SPINS : 0;
    /* No load has the count UINT32_MAX yet: members that come before the first fill claim none. */
    atomic_store_explicit(&s->claim, UINT64_MAX, memory_order_relaxed);
    if (s->core_left)
        return mu_thread_start(&s->thread, staging_main, s, "muster-staging", -1, err);
    (void)open_load(s, 0, 0);
    return MU_OK;
}

void mu_staging_fini(struct mu_rank *rank)
{
    struct mu_staging *s = rank->staging;
    if (!s) return;
    atomic_store_explicit(&s->stop, 1, memory_order_release);
    /* Changed, so that no wait begins after this; nobody goes by these counts any more. */
    atomic_fetch_add_explicit(&s->used, 1, memory_order_release);
    atomic_fetch_add_explicit(&s->filled, 1, memory_order_release);
    mu_wake_word(&s->used);
    mu_wake_word(&s->filled);
    mu_thread_join(&s->thread);
    if (rank->device)
        mu_device_free(rank->device, MU_PURPOSE_STAGING, s->slots, mu_staging_bytes(rank));
    mu_free(s);
    rank->staging = NULL;
}

void mu_staging_await(struct mu_rank *rank, uint32_t serial, uint32_t i)
{
    struct mu_staging *s = rank->staging;
    uint32_t k = s->load_of[i], spins = 0;
    if (k == NOT_STAGED) return;
    for (uint32_t u = serial * s->n_loads + k;;) {
        uint32_t news = atomic_load_explicit(&s->news, memory_order_acquire);
        if ((int32_t)(atomic_load_explicit(&s->filled, memory_order_acquire) - u) > 0) return;
        work(s, u, &s->loads[k]);
        if (spins++ < s->spins)
            mu_cpu_relax();
        else
            mu_wait_word(&s->news, news);
    }
}

void mu_staging_done(struct mu_rank *rank, uint32_t serial, uint32_t i)
{
    struct mu_staging *s = rank->staging;
    uint32_t k = s->load_of[i], u = serial * s->n_loads + k;
    if (k == NOT_STAGED) return;
    if (s->core_left) {
        atomic_store_explicit(&s->used, u + 1, memory_order_release);
        mu_wake_word(&s->used);
        return;
    }
    /* On a core of the team a thread would only keep those waiting whom it works for: they fill. */
    if (s->n_loads > s->n_slots) tell_pages(s, &s->loads[k], mu_file_release);
    (void)open_load(s, u + 1, (k + 1) % s->n_loads);
}

void mu_staging_row(const struct mu_rank *rank, uint32_t tensor, uint32_t row, float *out)
{
    rank->common->kernels->weight_row(&rank->staging->tables[tensor], row, out);
}
