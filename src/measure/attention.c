/* Attention, timed as the engine runs it: of decoding rows, each a sequence of its own, and of a
 * prompt; see measure.h. */
#include "measure/measure_int.h"

#define KEYS       1024 /* of each sequence */
#define FEW_KEYS   16
#define BATCH_MOST 8
#define TILES      4  /* of a prompt's rows */
#define HEADS_MOST 32 /* of a tile, as the engine cuts them */
#define CACHE      MU_DTYPE_F16

struct attend {
    const struct mu_kernels *k;
    struct mu_attend_args args;
    uint32_t n_rows, tile_rows, group; /* group: heads of a tile */
    uint32_t n_sequences, n_rounds;    /* of n_rows sequences each */
    uint32_t run_chunks, n_runs;       /* how a decoding row's keys are shared out */
    size_t scratch_floats;
    float *partials; /* of a piece after the other; joining them would take no time to speak of */
    bool prompt;     /* all rows are of one sequence */
};

static void attend_piece(void *arg, uint32_t pass, uint32_t piece, unsigned member)
{
    struct attend *a = arg;
    struct mu_attend_args args = a->args;
    uint32_t number = piece % a->n_runs, tiles = piece / a->n_runs;
    uint32_t kv = tiles % args.n_kv_heads, row = tiles / args.n_kv_heads * a->tile_rows;
    struct mu_attend_tile tile = {.row = row,
                                  .n_rows = MU_MIN(a->tile_rows, a->n_rows - row),
                                  .head = kv * a->group,
                                  .n_heads = a->group,
                                  .kv = kv};
    args.scratch += member * a->scratch_floats;
    args.out += row * args.out_stride + (size_t)tile.head * args.value_dim;
    if (!a->prompt) args.tables += pass % a->n_rounds * (size_t)a->n_rows * args.table_stride;
    if (a->n_runs == 1) {
        a->k->attend(&args, &tile);
        return;
    }
    struct mu_attend_run run = {.first = number * a->run_chunks,
                                .n = a->run_chunks,
                                .partials =
                                    a->partials + (size_t)piece * a->group * (args.value_dim + 2)};
    a->k->attend_run(&args, &tile, &run);
}

static mu_status make(struct attend *a, struct mu_timed *t, struct mu_err *err)
{
    static const double sizes[MU_PLAN_SIZES] = MU_PLAN_SIZE_BYTES;
    const struct mu_measure_shape *s = t->shape;
    uint32_t hd = s->head_dim, blocks = KEYS / MU_KV_BLOCK_TOKENS;
    uint32_t group = MU_MAX(s->n_heads / s->n_kv_heads, 1u);
    a->group = MU_MIN(group, (uint32_t)HEADS_MOST);
    uint32_t most_rows = TILES * MU_MAX(MU_ATTEND_QUERIES / a->group, 1u);
    size_t q = (size_t)s->n_heads * hd, cached = (size_t)KEYS * s->n_kv_heads * hd;
    uint64_t bytes = 2 * cached * mu_dtype(CACHE)->block_bytes;
    a->n_sequences =
        MU_MAX((uint32_t)(sizes[MU_PLAN_SIZES - 1] / (double)bytes), (uint32_t)BATCH_MOST);
    a->scratch_floats =
        MU_ROUND_UP(a->k->attend_scratch(MU_ATTEND_QUERIES, hd, hd, KEYS), (size_t)16);
    void *floats, *words, *cache;
    size_t n_floats = 2 * most_rows * q + mu_team_size(t->team) * a->scratch_floats;
    size_t partials = n_floats;
    n_floats += (size_t)mu_team_size(t->team) * MU_TIMED_PIECES_A_THREAD * a->group * (hd + 2);
    MU_TRY(mu_timed_alloc(t, n_floats * sizeof(float), &floats, err));
    MU_TRY(mu_timed_alloc(t, (2 * most_rows + (uint64_t)a->n_sequences * blocks) * sizeof(uint32_t),
                          &words, err));
    MU_TRY(mu_timed_alloc(t, a->n_sequences * bytes, &cache, err));
    memset(cache, 0, a->n_sequences * bytes); /* each page its own: zero pages are in caches */
    a->partials = (float *)floats + partials;
    uint32_t *positions = words, *sequences = positions + most_rows;
    uint32_t *tables = sequences + most_rows;
    for (uint32_t i = 0; i < a->n_sequences * blocks; i++)
        tables[i] = i;
    size_t values = a->n_sequences * cached * mu_dtype(CACHE)->block_bytes;
    a->args = (struct mu_attend_args){.q = floats,
                                      .q_stride = q,
                                      .out = (float *)floats + most_rows * q,
                                      .out_stride = q,
                                      .keys = cache,
                                      .values = (char *)cache + values,
                                      .key_stride = hd,
                                      .value_stride = hd,
                                      .keys_turned = true,
                                      .cache_type = CACHE,
                                      .n_kv_heads = s->n_kv_heads,
                                      .head_dim = hd,
                                      .value_dim = hd,
                                      .positions = positions,
                                      .sequences = sequences,
                                      .tables = tables,
                                      .table_stride = blocks,
                                      .scale = 0.1f,
                                      .scratch = (float *)floats + 2 * most_rows * q};
    return MU_OK;
}

/* Decoding rows: each at the end of `keys` keys of its own. */
static double decode_seconds(struct attend *a, struct mu_timed *t, uint32_t rows, uint32_t keys,
                             double bytes)
{
    uint32_t *positions = (uint32_t *)(uintptr_t)a->args.positions;
    uint32_t *sequences = (uint32_t *)(uintptr_t)a->args.sequences;
    double each = 4.0 * keys * a->args.n_kv_heads * a->args.head_dim; /* two of two bytes */
    for (uint32_t r = 0; r < rows; r++) {
        positions[r] = keys - 1;
        sequences[r] = r;
    }
    uint32_t n = (uint32_t)MU_MIN(bytes / each, (double)a->n_sequences);
    a->prompt = false;
    a->n_rows = rows;
    a->tile_rows = 1;
    a->n_rounds = MU_MAX(n / rows, 1u);
    uint32_t tiles = rows * a->args.n_kv_heads, chunks = MU_CEIL_DIV(keys, MU_ATTEND_CHUNK);
    a->run_chunks =
        mu_attend_run_chunks(tiles, chunks, mu_team_size(t->team), MU_TIMED_PIECES_A_THREAD);
    a->n_runs = MU_CEIL_DIV(chunks, a->run_chunks);
    struct mu_timed_op op = {.piece = attend_piece, .arg = a, .n_pieces = tiles * a->n_runs};
    return mu_timed_seconds(t, &op);
}

/* Rows of a prompt that see up to `keys` keys. */
static double prompt_seconds(struct attend *a, struct mu_timed *t, uint32_t rows, uint32_t keys)
{
    uint32_t *positions = (uint32_t *)(uintptr_t)a->args.positions;
    uint32_t *sequences = (uint32_t *)(uintptr_t)a->args.sequences;
    for (uint32_t r = 0; r < rows; r++) {
        positions[r] = keys - rows + r;
        sequences[r] = 0;
    }
    a->prompt = true;
    a->n_rows = rows;
    a->tile_rows = rows / TILES;
    a->n_runs = 1;
    struct mu_timed_op op = {
        .piece = attend_piece, .arg = a, .n_pieces = TILES * a->args.n_kv_heads};
    return mu_timed_seconds(t, &op);
}

mu_status mu_timed_attention(struct mu_timed *t, struct mu_err *err)
{
    static const double sizes[MU_PLAN_SIZES] = MU_PLAN_SIZE_BYTES;
    static const uint32_t batches[2] = {1, BATCH_MOST};
    struct mu_plan_costs *c = t->costs;
    struct attend a = {.k = t->k};
    MU_TRY(make(&a, t, err));
    double queries = (double)t->shape->n_heads * t->shape->head_dim;
    double cached = 2.0 * t->shape->n_kv_heads * t->shape->head_dim;
    for (unsigned b = 0; b < 2; b++) {
        double few = decode_seconds(&a, t, batches[b], FEW_KEYS, sizes[0]);
        c->query_s[b] = few / (batches[b] * queries);
        for (unsigned i = 0; i < MU_PLAN_SIZES; i++) {
            double all = decode_seconds(&a, t, batches[b], KEYS, sizes[i]);
            c->key_s[b][i] =
                MU_MAX(all - few, all / 10) / (batches[b] * (KEYS - FEW_KEYS) * cached);
        }
    }
    uint32_t rows = TILES * MU_MAX(MU_ATTEND_QUERIES / a.group, 1u);
    uint32_t little = MU_MIN(MU_ROUND_UP(rows, (uint32_t)MU_ATTEND_CHUNK), (uint32_t)KEYS / 2);
    double first = prompt_seconds(&a, t, rows, little), last = prompt_seconds(&a, t, rows, KEYS);
    c->prompt_key_s = MU_MAX(last - first, last / 10) / (rows * queries * (KEYS - little));
    c->prompt_query_s =
        MU_MAX(first / (rows * queries) - c->prompt_key_s * (little - rows / 2.0), 1e-15);
    mu_timed_free(t);
    mu_timed_tell(t);
    return MU_OK;
}
