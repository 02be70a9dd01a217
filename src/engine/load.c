/*
 * Loads a rank's weights: finds each tensor of its program in the file, checks it, and has the
 * kernels pack the rows and columns that the rank owns. Called by rank.c, on the rank's thread.
 */
#include "engine/rank.h"

#include "base/file.h"

#include <math.h>

#define DISK_ALIGN 4096 /* so that matrices share no page */

static mu_status check_tensor(const struct mu_tensor_use *use, const struct mu_tensor *t,
                              struct mu_err *err)
{
    uint64_t cols = t->n_dims ? t->dims[t->n_dims - 1] : 0;
    uint64_t rows = cols ? t->n_values / cols : 0;
    if (rows != use->file_rows || cols != use->file_cols)
        return mu_fail(err, MU_E_INPUT, "tensor %s is %llu x %llu, the configuration says %u x %u",
                       t->name, (unsigned long long)rows, (unsigned long long)cols, use->file_rows,
                       use->file_cols);
    if (!mu_codec_can_decode(t->type))
        return mu_fail(err, MU_E_UNSUPPORTED, "tensor %s has the type %s, which cannot be read",
                       t->name, mu_dtype(t->type)->name);
    return MU_OK;
}

mu_status mu_rank_find_tensor(const struct mu_rank *rank, const struct mu_tensor_use *use,
                              const struct mu_tensor **out, struct mu_err *err)
{
    const struct mu_model_file *file = rank->common->file;
    const struct mu_tensor *t = mu_model_file_find(file, use->name);
    mu_status status = t ? check_tensor(use, t, err)
                         : mu_fail(err, MU_E_INPUT, "tensor %s is not there", use->name);
    mu_err_where(err, "%s", mu_model_file_name(file));
    if (status == MU_OK) *out = t;
    return status;
}

/* ---- Vectors ---- */

static mu_status load_vector(struct mu_rank *rank, uint32_t i, const struct mu_tensor *t,
                             struct mu_err *err)
{
    const struct mu_tensor_use *use = &rank->program->tensors[i];
    uint64_t row_bytes = mu_tensor_row_bytes(t);
    uint8_t *stored = mu_alloc(row_bytes);
    float *whole = mu_alloc((size_t)use->file_cols * sizeof *whole);
    mu_status status = stored && whole ? MU_OK : mu_fail_memory(err, row_bytes);
    if (status == MU_OK) {
        float *data = rank->weights[i].data;
        mu_use_vector(use, t, mu_codec_decode, stored, whole, data);
        for (uint32_t j = 0; status == MU_OK && j < use->cols; j++)
            if (!isfinite(data[j]))
                status = mu_fail(err, MU_E_INPUT, "tensor %s holds a value that is not finite",
                                 use->name);
        mu_err_where(err, "%s", mu_model_file_name(rank->common->file));
    }
    mu_free(stored);
    mu_free(whole);
    return status;
}

/* ---- Matrices ---- */

enum mu_dtype mu_rank_held_type(const struct mu_rank *rank, const struct mu_tensor_use *use,
                                const struct mu_tensor *t)
{
    enum mu_dtype own = t->columns && !use->transposed ? t->packed_type : mu_use_rows_type(use, t);
    enum mu_dtype wanted = mu_codec_fit(rank->common->weights, mu_use_rows_values(use));
    return mu_dtype_wider(own, wanted) ? wanted : own;
}

/* How the stored rows of one matrix become the packed ones of a weight. */
struct packing {
    struct mu_weight *weight;
    const struct mu_kernels *kernels;
    const struct mu_tensor *tensor;
    struct mu_use_rows rows;
    uint64_t held_bytes; /* of a requantised row; 0: none is */
    size_t held;         /* bytes of requantised rows in the room */
    size_t room_bytes;   /* what a thread works in, 64-byte aligned */
};

static mu_status packing_init(struct packing *packing, struct mu_rank *rank, uint32_t tensor,
                              struct mu_err *err)
{
    const struct mu_tensor_use *use = &rank->program->tensors[tensor];
    uint64_t values = mu_use_rows_values(use);
    struct mu_weight *weight = &rank->weights[tensor];
    *packing = (struct packing){.weight = weight, .kernels = rank->common->kernels};
    MU_TRY(mu_rank_find_tensor(rank, use, &packing->tensor, err));
    mu_use_rows_init(&packing->rows, use, packing->tensor, weight->columns != NULL,
                     mu_codec_decode);
    packing->room_bytes = packing->rows.room_bytes;
    if (weight->type != packing->rows.type) {
        (void)mu_dtype_bytes(weight->type, values, &packing->held_bytes);
        packing->held = MU_ROUND_UP(MU_USE_ROWS * packing->held_bytes, 64);
        packing->room_bytes += packing->held + MU_ROUND_UP(values * sizeof(float), 64);
    }
    return MU_OK;
}

/* Rows in the type of the weight, which may not be the stored one. */
static void get_rows(const struct packing *packing, uint32_t first, uint32_t n, uint8_t *room,
                     const uint8_t **rows)
{
    mu_use_rows_get(&packing->rows, first, n, room, rows);
    if (!packing->held_bytes) return;
    uint64_t values = mu_use_rows_values(packing->rows.use);
    uint8_t *held = room + packing->rows.room_bytes;
    float *wide = (float *)(void *)(held + packing->held);
    for (uint32_t i = 0; i < n; i++, held += packing->held_bytes) {
        mu_codec_decode(packing->rows.type, rows[i], wide, values);
        mu_codec_encode(packing->weight->type, wide, held, values);
        rows[i] = held;
    }
}

/* Packs MU_USE_ROWS rows or what is left; returns how many. */
static uint32_t packing_piece(const struct packing *packing, uint32_t piece, uint8_t *room)
{
    const uint8_t *rows[MU_USE_ROWS];
    uint32_t first = piece * MU_USE_ROWS, n = MU_MIN(MU_USE_ROWS, packing->weight->rows - first);
    get_rows(packing, first, n, room, rows);
    packing->kernels->weight_pack(packing->weight, first, n, rows);
    return n;
}

/* One matrix, shared out over the team. */
struct pack_job {
    struct mu_rank *rank;
    struct packing packing;
    uint8_t *rooms;
};

static void pack_member(void *arg, unsigned member)
{
    struct pack_job *job = arg;
    const struct mu_weight *weight = job->packing.weight;
    uint32_t n_pieces = MU_CEIL_DIV(weight->rows, MU_USE_ROWS), piece;
    while ((piece = mu_team_claim(job->rank->team, member, n_pieces)) < n_pieces) {
        uint32_t n =
            packing_piece(&job->packing, piece, job->rooms + member * job->packing.room_bytes);
        atomic_fetch_add_explicit(&job->rank->common->loaded_bytes,
                                  weight->bytes * n / weight->rows, memory_order_relaxed);
    }
}

static mu_status load_matrix(struct mu_rank *rank, uint32_t i, struct mu_err *err)
{
    struct pack_job job = {.rank = rank};
    MU_TRY(packing_init(&job.packing, rank, i, err));
    size_t size = job.packing.room_bytes * mu_team_size(rank->team);
    job.rooms = mu_alloc_aligned(64, size + 64);
    if (!job.rooms) return mu_fail_memory(err, size);
    mu_team_run(rank->team, pack_member, &job);
    mu_free(job.rooms);
    return MU_OK;
}

/* What was read stays in the page cache, but no longer counts as this process's memory. */
static void release(const struct mu_tensor *t)
{
    if (t && t->data) mu_file_release(t->data, t->n_bytes);
}

/* Room for all matrices whose home is the disk: packed once, they are only read from then on. */
static mu_status take_disk(struct mu_rank *rank, struct mu_err *err)
{
    for (uint32_t i = 0; i < rank->program->n_tensors; i++)
        if (rank->program->tensors[i].home == MU_HOME_FILE)
            rank->disk_bytes += MU_ROUND_UP(rank->weights[i].bytes, DISK_ALIGN);
    if (rank->disk_bytes == 0) return MU_OK;
    return mu_file_scratch(rank->disk_bytes, &rank->disk, err);
}

/* Where the packed bytes go; *disk is the first byte there that is free. */
static mu_status find_place(struct mu_rank *rank, uint32_t i, uint8_t **disk, struct mu_err *err)
{
    const struct mu_tensor_use *use = &rank->program->tensors[i];
    struct mu_weight *w = &rank->weights[i];
    if (use->home == MU_HOME_FILE) {
        w->data = *disk;
        *disk += MU_ROUND_UP(w->bytes, DISK_ALIGN);
    } else {
        bool host = use->home == MU_HOME_HOST;
        MU_TRY(mu_device_alloc(host ? rank->common->host : rank->device, MU_PURPOSE_WEIGHTS,
                               w->bytes, use->name, &w->data, err));
    }
    if (use->home != MU_HOME_DEVICE) rank->away[i] = w->data;
    return MU_OK;
}

mu_status mu_rank_load_weights(struct mu_rank *rank, struct mu_err *err)
{
    const struct mu_program *p = rank->program;
    const struct mu_tensor *t = NULL;
    MU_TRY(take_disk(rank, err));
    uint8_t *disk = rank->disk;
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct mu_tensor_use *use = &p->tensors[i];
        const struct mu_tensor *before = t;
        MU_TRY(mu_rank_find_tensor(rank, use, &t, err));
        if (before != t) release(before);
        MU_TRY(find_place(rank, i, &disk, err));
        MU_TRY(use->vector ? load_vector(rank, i, t, err) : load_matrix(rank, i, err));
        if (use->home != MU_HOME_FILE) continue;
        mu_file_release(rank->away[i], rank->weights[i].bytes);
        release(t); /* other slices of it may follow */
    }
    release(t);
    return MU_OK;
}
