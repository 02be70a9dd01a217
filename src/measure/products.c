/* The matrix products of a layer and the head, timed as the engine runs them; see measure.h. */
#include "measure/measure_int.h"

#include <string.h>

#define STORED_ROWS 64
#define ROWS_MAX    (1u << (MU_PLAN_ROWS - 1))
#define MANY_ROWS   32   /* from there on it does not matter from where weights are read */
#define GLU_ROWS    128  /* as the engine: rows at a time, */
#define GLU_VALUES  8192 /* and of their gates and ups */
#define COPIES_MAX  1024
#define HEAD_ROWS   16 /* more than that no step wants logits of */

static const double sizes[MU_PLAN_SIZES] = MU_PLAN_SIZE_BYTES;

struct matrix {
    uint32_t cols, outputs;
    uint32_t unit; /* that its sums may be cut at; 0: they are not cut */
    uint32_t rows; /* at most */
};

/* One matrix, and as many copies of it as make up the bytes that a step would go through. */
struct product {
    const struct mu_kernels *k;
    enum mu_plan_matrix kind;
    struct mu_weight weight;
    struct mu_cut cut;
    struct mu_linear_args args;
    uint64_t row_bytes;
    uint32_t most_copies, n_copies, piece;
    uint32_t step;    /* from copy to copy: never to the next in memory, as in a layer */
    uint32_t columns; /* of a gate's; its ups lie behind them */
    void **copies;    /* each has memory of its own, as the engine's matrices do */
    char *x, *formed;
    uint8_t *stored;
    float *scratch; /* a part for each thread */
    size_t formed_stride;
};

static void run_glu(struct product *p, struct mu_linear_args args, uint32_t first, uint32_t end,
                    float *scratch)
{
    uint32_t n_rows = args.n_rows;
    for (uint32_t row = 0; row < n_rows; row += args.n_rows) {
        args.n_rows = MU_MIN(n_rows - row, (uint32_t)GLU_ROWS);
        args.x = (const char *)p->args.x + row * args.x_stride;
        uint32_t most = GLU_VALUES / args.n_rows / 32 * 32;
        for (uint32_t column = first, n; column < end; column += n) {
            n = MU_MIN(end - column, most);
            args.y_stride = 2 * (size_t)n;
            args.y = scratch - column;
            p->k->linear(&args, column, column + n);
            args.y = scratch + n - column - p->columns;
            p->k->linear(&args, p->columns + column, p->columns + column + n);
            for (uint32_t r = 0; r < args.n_rows; r++) {
                float *y = scratch + r * args.y_stride;
                p->k->glu(y, y, y + n, n, MU_ACT_SILU);
                p->k->form_store(p->weight.form, p->formed + (row + r) * p->formed_stride,
                                 p->columns, column, n, y);
            }
        }
    }
}

static void product_piece(void *arg, uint32_t pass, uint32_t piece, unsigned member)
{
    struct product *p = arg;
    struct mu_weight copy = p->weight;
    struct mu_linear_args args = p->args;
    uint32_t outputs = p->kind == MU_PLAN_GLU ? p->columns : copy.rows, first = piece * p->piece;
    copy.data = p->copies[(uint64_t)pass * p->step % p->n_copies];
    args.weight = &copy;
    uint32_t end = MU_MIN(first + p->piece, outputs);
    if (p->kind == MU_PLAN_GLU)
        run_glu(p, args, first, end, p->scratch + member * 2 * (size_t)GLU_VALUES);
    else
        p->k->linear(&args, first, end);
}

/* ---- Making one ---------------------------------------------------------------------------- */

static void fill_stored(struct product *p)
{
    float *row = p->scratch; /* not used yet */
    uint64_t row_bytes = p->row_bytes;
    uint32_t cols = p->weight.cols;
    enum mu_dtype type = p->weight.type;
    for (uint32_t r = 0; r < STORED_ROWS; r++) {
        for (size_t i = 0; i < cols; i++)
            row[i] = mu_timed_value(r * (size_t)cols + i);
        if (mu_codec_can_encode(type))
            mu_codec_encode(type, row, p->stored + r * row_bytes, cols);
        else /* small codes, and scales that are plain numbers */
            for (uint64_t i = 0; i < row_bytes; i++)
                p->stored[r * row_bytes + i] = (uint8_t)((i * 2654435761u >> 13) & 0x3b);
    }
}

static mu_status pack(struct product *p, struct mu_timed *t, struct mu_err *err)
{
    const uint8_t *rows[STORED_ROWS];
    for (uint32_t r = 0; r < STORED_ROWS; r++)
        rows[r] = p->stored + r * p->row_bytes;
    for (uint32_t i = 0; i < p->most_copies; i++) {
        MU_TRY(mu_timed_alloc(t, p->weight.bytes, &p->copies[i], err));
        if (i > 0) memcpy(p->copies[i], p->copies[0], p->weight.bytes);
        p->weight.data = p->copies[0];
        for (uint32_t r = 0; i == 0 && r < p->weight.rows; r += STORED_ROWS)
            p->k->weight_pack(&p->weight, r, MU_MIN(STORED_ROWS, p->weight.rows - r), rows);
    }
    return MU_OK;
}

static void fill_rows(struct product *p, uint32_t n)
{
    float *row = p->scratch;
    uint32_t cols = p->weight.cols;
    for (size_t i = 0; i < cols; i++)
        row[i] = mu_timed_value(i);
    for (uint32_t r = 0; r < n; r++)
        p->k->form_store(p->weight.form, p->x + r * p->args.x_stride, cols, 0, cols, row);
}

/* Sums over K are cut where the contract says; a block of activations must not straddle a cut. */
static void cut(struct product *p, uint32_t unit)
{
    uint32_t units = p->weight.cols / MU_MAX(unit, 1u), n = mu_segment_count(units);
    p->cut = (struct mu_cut){.n = n, .run = {0, n}};
    for (uint32_t i = 0; i <= n; i++)
        p->cut.border[i] = (uint32_t)mu_segment_start(units, n, i) * unit;
    p->cut.border[n] = p->weight.cols;
    p->args.cut = n > 0 ? &p->cut : NULL;
}

static bool blocks_allowed(const struct product *p)
{
    if (!p->args.cut) return p->weight.cols % 32 == 0;
    for (uint32_t i = 0; i <= p->cut.n; i++)
        if (p->cut.border[i] % 32) return false;
    return true;
}

static size_t stride_of(const struct mu_kernels *k, enum mu_form form, uint32_t cols)
{
    return MU_ROUND_UP(k->form_bytes(form, cols), (size_t)64) | 64;
}

static mu_status set_weight(struct product *p, const struct matrix *m, enum mu_dtype type,
                            struct mu_err *err)
{
    struct mu_weight *w = &p->weight;
    type = mu_codec_fit(type, m->cols);
    if (!mu_dtype_bytes(type, m->cols, &p->row_bytes) || !mu_codec_can_decode(type))
        return mu_fail(err, MU_E_UNSUPPORTED, "weights of type %s cannot be timed",
                       mu_dtype(type)->name);
    *w = (struct mu_weight){.type = type, .rows = m->outputs, .cols = m->cols};
    w->form = p->k->form(type, MU_COMPUTE_DEFAULT);
    if (m->unit) cut(p, m->unit);
    if (w->form != MU_FORM_F32 && !blocks_allowed(p)) w->form = MU_FORM_F32;
    w->bytes = p->k->weight_bytes(type, w->form, w->rows, 0, w->cols);
    double most = sizes[MU_PLAN_SIZES - 1] / (double)MU_MAX(w->bytes, UINT64_C(1));
    p->most_copies = (uint32_t)MU_MAX(MU_MIN(most, (double)COPIES_MAX), 1.0);
    return MU_OK;
}

static mu_status make(struct product *p, struct mu_timed *t, const struct matrix *m,
                      struct mu_err *err)
{
    enum mu_dtype type = p->kind == MU_PLAN_HEAD ? t->shape->head_type : t->shape->type;
    MU_TRY(set_weight(p, m, type, err));
    p->columns = m->outputs / 2;
    p->args.x_stride = stride_of(p->k, p->weight.form, m->cols);
    p->args.y_stride = m->outputs;
    p->args.y_subtree = (size_t)m->rows * m->outputs;
    p->formed_stride = stride_of(p->k, p->weight.form, MU_MAX(p->columns, 32u));
    size_t scratch = MU_MAX(mu_team_size(t->team) * 2 * (size_t)GLU_VALUES, (size_t)m->cols);
    void *rooms[6];
    const uint64_t bytes[] = {p->most_copies * sizeof *p->copies,
                              STORED_ROWS * p->row_bytes,
                              m->rows * p->args.x_stride,
                              m->rows * p->formed_stride,
                              (uint64_t)m->rows * m->outputs * sizeof(float),
                              scratch * sizeof(float)};
    for (size_t i = 0; i < MU_ARRAY_LEN(rooms); i++)
        MU_TRY(mu_timed_alloc(t, bytes[i], &rooms[i], err));
    p->copies = rooms[0];
    p->stored = rooms[1];
    p->x = rooms[2];
    p->formed = rooms[3];
    p->args.x = p->x;
    p->args.y = rooms[4];
    p->scratch = rooms[5];
    fill_stored(p);
    fill_rows(p, m->rows);
    return pack(p, t, err);
}

/* ---- Timing -------------------------------------------------------------------------------- */

/* A step that reaches each of n copies, most of them far from the one before. */
static uint32_t step_among(uint32_t n)
{
    for (uint32_t step = n * 5 / 8; step > 1; step--) {
        uint32_t a = n, b = step;
        while (b) {
            uint32_t rest = a % b;
            a = b;
            b = rest;
        }
        if (a == 1) return step;
    }
    return 1;
}

static double seconds(struct product *p, struct mu_timed *t, unsigned size, uint32_t rows)
{
    uint32_t pieces = mu_team_size(t->team) * MU_TIMED_PIECES_A_THREAD;
    bool gated = p->kind == MU_PLAN_GLU;
    p->piece = MU_ROUND_UP(MU_CEIL_DIV(p->weight.rows, pieces), p->k->row_tile);
    if (gated) p->piece = MU_ROUND_UP(p->piece, 32u);
    p->n_copies = (uint32_t)MU_MAX((uint64_t)sizes[size] / p->weight.bytes, UINT64_C(1));
    p->n_copies = MU_MIN(p->n_copies, p->most_copies);
    p->step = step_among(p->n_copies);
    p->args.n_rows = rows;
    struct mu_timed_op op = {.piece = product_piece,
                             .arg = p,
                             .n_pieces =
                                 MU_CEIL_DIV(gated ? p->columns : p->weight.rows, p->piece)};
    return mu_timed_seconds(t, &op) / ((double)p->weight.rows * p->weight.cols);
}

/* Rows by powers of two. What is multiplied with many rows is read so seldom that it does not
 * matter from where. */
static void time_product(struct product *p, struct mu_timed *t, uint32_t rows_most)
{
    for (unsigned i = 0; i < MU_PLAN_ROWS; i++)
        for (unsigned size = MU_PLAN_SIZES; size-- > 0;) {
            double *out = t->costs->weight_s[p->kind][size];
            uint32_t rows = 1u << i;
            if (rows > rows_most)
                out[i] = out[i - 1] * 2;
            else if (size + 1 < MU_PLAN_SIZES && rows >= MANY_ROWS)
                out[i] = t->costs->weight_s[p->kind][MU_PLAN_SIZES - 1][i];
            else
                out[i] = seconds(p, t, size, rows);
        }
}

mu_status mu_timed_products(struct mu_timed *t, struct mu_err *err)
{
    const struct mu_measure_shape *s = t->shape;
    uint32_t heads = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    const struct matrix matrices[MU_PLAN_MATRICES] = {
        [MU_PLAN_QKV] = {s->hidden, heads + 2 * kv, 0, ROWS_MAX},
        [MU_PLAN_O] = {heads, s->hidden, s->head_dim, ROWS_MAX},
        [MU_PLAN_GLU] = {s->hidden, 2 * s->ffn, 0, ROWS_MAX},
        [MU_PLAN_DOWN] = {s->ffn, s->hidden, 32, ROWS_MAX},
        [MU_PLAN_HEAD] = {s->hidden, s->vocab, 0, HEAD_ROWS},
    };
    for (unsigned i = 0; i < MU_PLAN_MATRICES; i++) {
        struct product p = {.k = t->k, .kind = (enum mu_plan_matrix)i};
        mu_status status = make(&p, t, &matrices[i], err);
        if (status == MU_OK) time_product(&p, t, matrices[i].rows);
        mu_timed_free(t);
        MU_TRY(status);
        mu_timed_tell(t);
    }
    return MU_OK;
}
