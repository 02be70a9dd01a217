/* What the kernels of this machine reach, each timed alone; see measure.h. */
#include "measure/measure.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "device/device.h"

#include <math.h>

#define COLS          2048
#define STORED_ROWS   64
#define MANY_ROWS     256         /* of a prompt */
#define FEW_OUTPUTS   2048        /* that a prompt's product is timed with */
#define WEIGHTS_BYTES (96u << 20) /* more than caches hold */
#define KEYS          1024        /* that attention is timed over */
#define PROMPT_ROWS   32          /* of a prompt, at the end of those keys */
#define ROUND_SECONDS 0.12
#define ROUNDS_LEAST  3

/* The shortest of several rounds: other programs may share the machine. */
static double best_seconds(struct mu_team *team, mu_team_fn *fn, void *arg)
{
    double best = (double)INFINITY;
    uint64_t begin = mu_clock_ns();
    for (int i = 0; i < ROUNDS_LEAST || mu_clock_seconds_since(begin) < ROUND_SECONDS; i++) {
        uint64_t start = mu_clock_ns();
        mu_team_run(team, fn, arg);
        best = MU_MIN(best, mu_clock_seconds_since(start));
    }
    return best;
}

/* Values that are neither 0 nor large; which ones does not matter to the time. */
static float value_at(size_t i)
{
    return (float)((i * 2654435761u >> 7) % 1009) * 0.002f - 1.0f;
}

/* ---- Products ------------------------------------------------------------------------------ */

struct product {
    const struct mu_kernels *k;
    struct mu_team *team;
    struct mu_weight weight;
    struct mu_linear_args args;
    uint32_t outputs;
    char *x;
    uint8_t *stored;
};

static void product_member(void *arg, unsigned member)
{
    struct product *p = arg;
    uint32_t piece = p->k->row_tile * (p->args.n_rows > 1 ? 4 : 32);
    uint32_t n = MU_CEIL_DIV(p->outputs, piece), i;
    while ((i = mu_team_claim(p->team, member, n)) < n)
        p->k->linear(&p->args, i * piece, MU_MIN((i + 1) * piece, p->outputs));
    mu_team_barrier(p->team, member);
}

static void fill_stored(uint8_t *stored, enum mu_dtype type, uint64_t row_bytes)
{
    float row[COLS];
    for (uint32_t r = 0; r < STORED_ROWS; r++) {
        for (size_t i = 0; i < COLS; i++)
            row[i] = value_at(r * COLS + i);
        if (mu_codec_can_encode(type))
            mu_codec_encode(type, row, stored + r * row_bytes, COLS);
        else /* small codes, and scales that are plain numbers */
            for (uint64_t i = 0; i < row_bytes; i++)
                stored[r * row_bytes + i] = (uint8_t)((i * 2654435761u >> 13) & 0x3b);
    }
}

static mu_status product_make(struct product *p, enum mu_dtype type, uint32_t outputs,
                              uint64_t row_bytes, struct mu_err *err)
{
    struct mu_weight *w = &p->weight;
    const uint8_t *rows[STORED_ROWS];
    float row[COLS];
    *w = (struct mu_weight){.type = type, .rows = outputs, .cols = COLS};
    w->form = p->k->form(type, MU_COMPUTE_DEFAULT);
    w->bytes = p->k->weight_bytes(type, w->form, outputs, 0, COLS);
    size_t stride = MU_ROUND_UP(p->k->form_bytes(w->form, COLS), (size_t)64) | 64;
    size_t y_values = MU_MAX((size_t)outputs, (size_t)MANY_ROWS * FEW_OUTPUTS);
    w->data = mu_alloc_aligned(64, w->bytes);
    p->stored = mu_alloc(STORED_ROWS * row_bytes);
    p->x = mu_alloc_aligned(64, MANY_ROWS * stride);
    p->args.y = mu_calloc(y_values, sizeof(float));
    if (!w->data || !p->stored || !p->x || !p->args.y) return mu_fail_memory(err, w->bytes);
    fill_stored(p->stored, type, row_bytes);
    for (uint32_t r = 0; r < STORED_ROWS; r++)
        rows[r] = p->stored + r * row_bytes;
    for (uint32_t r = 0; r < outputs; r += STORED_ROWS)
        p->k->weight_pack(w, r, STORED_ROWS, rows);
    for (size_t i = 0; i < COLS; i++)
        row[i] = value_at(i);
    for (uint32_t r = 0; r < MANY_ROWS; r++)
        p->k->form_store(w->form, p->x + r * stride, COLS, 0, COLS, row);
    p->args.weight = w;
    p->args.x = p->x;
    p->args.x_stride = stride;
    p->args.y_stride = FEW_OUTPUTS;
    return MU_OK;
}

static mu_status measure_products(const struct mu_kernels *k, struct mu_team *team,
                                  enum mu_dtype type, struct mu_measure_costs *out,
                                  struct mu_err *err)
{
    struct product p = {.k = k, .team = team};
    uint64_t row_bytes;
    if (!mu_dtype_bytes(type, COLS, &row_bytes) || !mu_codec_can_decode(type))
        return mu_fail(err, MU_E_UNSUPPORTED, "weights of type %s cannot be timed",
                       mu_dtype(type)->name);
    uint32_t outputs = (uint32_t)MU_ROUND_UP(WEIGHTS_BYTES / row_bytes, STORED_ROWS);
    mu_status status = product_make(&p, type, outputs, row_bytes, err);
    if (status == MU_OK) {
        p.args.n_rows = 1;
        p.outputs = outputs;
        out->weight_bytes_per_s =
            (double)row_bytes * outputs / best_seconds(team, product_member, &p);
        p.args.n_rows = MANY_ROWS;
        p.outputs = FEW_OUTPUTS;
        out->product_per_s =
            2.0 * COLS * FEW_OUTPUTS * MANY_ROWS / best_seconds(team, product_member, &p);
    }
    mu_free(p.weight.data);
    mu_free(p.stored);
    mu_free(p.x);
    mu_free(p.args.y);
    return status;
}

/* ---- Attention ----------------------------------------------------------------------------- */

struct attend {
    const struct mu_kernels *k;
    struct mu_team *team;
    struct mu_attend_args args;
    uint32_t rows, group; /* group: heads that read one KV head */
    size_t scratch_floats;
    float *memory; /* q, out, each thread's scratch */
    uint32_t *words;
    void *cache;
};

/* A tile of as many of the rows and heads that read one KV head as the kernels take at once. */
static void attend_member(void *arg, unsigned member)
{
    struct attend *a = arg;
    struct mu_attend_args args = a->args;
    uint32_t tile_rows = MU_MAX(MU_MIN(a->rows, MU_ATTEND_QUERIES / a->group), 1u);
    uint32_t tiles = MU_CEIL_DIV(a->rows, tile_rows), n = tiles * args.n_kv_heads, i;
    float *out = args.out;
    args.scratch += member * a->scratch_floats;
    while ((i = mu_team_claim(a->team, member, n)) < n) {
        uint32_t row = i % tiles * tile_rows, kv = i / tiles;
        struct mu_attend_tile tile = {.row = row,
                                      .n_rows = MU_MIN(tile_rows, a->rows - row),
                                      .head = kv * a->group,
                                      .n_heads = a->group,
                                      .kv = kv};
        args.out = out + row * args.out_stride + (size_t)tile.head * args.head_dim;
        a->k->attend(&args, &tile);
    }
    mu_team_barrier(a->team, member);
}

static mu_status attend_make(struct attend *a, const struct mu_measure_shape *s, enum mu_dtype kv,
                             struct mu_err *err)
{
    uint32_t blocks = KEYS / MU_KV_BLOCK_TOKENS, hd = s->head_dim;
    size_t q = (size_t)s->n_heads * hd, threads = mu_team_size(a->team);
    size_t values = (size_t)KEYS * s->n_kv_heads * hd, bytes = mu_dtype(kv)->block_bytes;
    a->group = MU_MIN(s->n_heads / s->n_kv_heads, (uint32_t)MU_ATTEND_QUERIES);
    a->scratch_floats =
        MU_ROUND_UP(a->k->attend_scratch(MU_ATTEND_QUERIES, hd, hd, KEYS), (size_t)16);
    a->memory = mu_calloc(2 * PROMPT_ROWS * q + threads * a->scratch_floats, sizeof(float));
    a->words = mu_calloc(2 * PROMPT_ROWS + blocks, sizeof(uint32_t));
    a->cache = mu_calloc(2 * values, bytes);
    if (!a->memory || !a->words || !a->cache) return mu_fail_memory(err, 2 * values * bytes);
    uint32_t *positions = a->words, *sequences = positions + PROMPT_ROWS;
    uint32_t *table = sequences + PROMPT_ROWS;
    for (uint32_t r = 0; r < PROMPT_ROWS; r++)
        positions[r] = KEYS - PROMPT_ROWS + r;
    for (uint32_t b = 0; b < blocks; b++)
        table[b] = b;
    a->args = (struct mu_attend_args){.q = a->memory,
                                      .q_stride = q,
                                      .out = a->memory + PROMPT_ROWS * q,
                                      .out_stride = q,
                                      .keys = a->cache,
                                      .values = (char *)a->cache + values * bytes,
                                      .key_stride = hd,
                                      .value_stride = hd,
                                      .keys_turned = true,
                                      .cache_type = kv,
                                      .n_kv_heads = s->n_kv_heads,
                                      .head_dim = hd,
                                      .value_dim = hd,
                                      .positions = positions,
                                      .sequences = sequences,
                                      .tables = table,
                                      .table_stride = blocks,
                                      .scale = 0.1f,
                                      .scratch = a->memory + 2 * PROMPT_ROWS * q};
    return MU_OK;
}

static mu_status measure_attention(const struct mu_kernels *k, struct mu_team *team,
                                   const struct mu_measure_shape *s, enum mu_dtype kv,
                                   struct mu_measure_costs *out, struct mu_err *err)
{
    struct attend a = {.k = k, .team = team};
    mu_status status = attend_make(&a, s, kv, err);
    if (status == MU_OK) {
        double values = 2.0 * KEYS * s->n_kv_heads * s->head_dim;
        a.rows = 1;
        out->kv_bytes_per_s =
            values * mu_dtype(kv)->block_bytes / best_seconds(team, attend_member, &a);
        a.rows = PROMPT_ROWS;
        out->attention_per_s = 4.0 * KEYS * s->n_heads * s->head_dim * PROMPT_ROWS /
                               best_seconds(team, attend_member, &a);
    }
    mu_free(a.memory);
    mu_free(a.words);
    mu_free(a.cache);
    return status;
}

/* ---- The whole ----------------------------------------------------------------------------- */

static void meet(void *arg, unsigned member)
{
    struct mu_team *team = arg;
    for (int i = 0; i < 100; i++)
        mu_team_barrier(team, member);
}

mu_status mu_measure_costs(const struct mu_kernels *kernels, enum mu_dtype type,
                           const struct mu_measure_shape *shape, unsigned n_threads,
                           struct mu_measure_costs *out, struct mu_err *err)
{
    struct mu_team *team;
    struct mu_measure_costs costs = {0};
    int cpus[MU_DEVICE_CPUS_MAX];
    /* Pinned where devices' threads are: two that share a core by chance meet a thousand times
     * slower. */
    bool pinned = mu_cpu_usable(cpus, MU_DEVICE_CPUS_MAX) >= n_threads;
    MU_TRY(mu_team_create(n_threads, pinned ? cpus : NULL, &team, err));
    mu_status status = measure_products(kernels, team, type, &costs, err);
    if (status == MU_OK)
        status = measure_attention(kernels, team, shape, MU_DTYPE_F16, &costs, err);
    if (status == MU_OK) {
        costs.meeting_s = best_seconds(team, meet, team) / 100;
        *out = costs;
    }
    mu_team_destroy(team);
    return status;
}
