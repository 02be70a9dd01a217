/*
 * linear of every family: against double precision within stated bounds for every type and ragged
 * shapes; and bit for bit the same for any split of rows, outputs and segments.
 */
#include "kernel_test.h"

struct shape {
    enum mu_dtype type;
    enum mu_compute compute;
    uint32_t rows, cols, n_rows;
    uint32_t col_first, stored_cols;
};

struct setup {
    const struct mu_kernels *k;
    struct shape s;
    uint8_t *stored;
    float *x; /* [n_rows][cols] */
    struct mu_weight w;
    void *forms;
    size_t stride;
};

static struct setup setup_create(const struct mu_kernels *k, struct shape s)
{
    struct setup t = {.k = k, .s = s};
    t.stored = random_stored(s.type, s.rows, s.stored_cols);
    t.x = mu_alloc(sizeof *t.x * s.n_rows * s.cols);
    assert_non_null(t.x);
    for (uint32_t i = 0; i < s.n_rows * s.cols; i++)
        t.x[i] = random_value();
    t.w = pack(k, s.type, s.compute, t.stored, s.rows, s.stored_cols, s.col_first, s.cols);
    t.forms = store_forms(k, t.w.form, t.x, s.n_rows, s.cols, &t.stride);
    return t;
}

static void setup_destroy(struct setup *t)
{
    mu_free(t->stored);
    mu_free(t->x);
    mu_free(t->w.data);
    mu_free(t->forms);
}

static struct mu_linear_args args_of(const struct setup *t, float *y)
{
    return (struct mu_linear_args){.weight = &t->w,
                                   .x = t->forms,
                                   .x_stride = t->stride,
                                   .y = y,
                                   .y_stride = t->s.rows,
                                   .n_rows = t->s.n_rows};
}

static float *new_y(const struct setup *t, uint32_t copies)
{
    float *y = mu_calloc((size_t)t->s.n_rows * t->s.rows * copies, sizeof *y);
    assert_non_null(y);
    return y;
}

/* How far rounding may take a product w x from the truth, as a part of |w x| or of the block's
 * largest activation. fp32 sums add a little per value. */
static double form_error(enum mu_form form, double w, double x, double block_max)
{
    double sum = fabs(w * x) * 3e-6 + 1e-9;
    switch (form) {
    case MU_FORM_F32:
        return sum;
    case MU_FORM_BF16:
        return sum + fabs(w * x) * 0x1p-8;
    case MU_FORM_Q8:
        return sum + fabs(w) * block_max / 127 * 0.51;
    case MU_FORM_COUNT:
        break;
    }
    return 0;
}

/* What sets the scale of a block: its largest magnitude, or, where that is three times what all but
 * its own four values have, theirs. */
static double block_max(const float *x, uint32_t k)
{
    double largest = 0, second = 0;
    for (uint32_t i = k; i < k + 32; i += 4) {
        double four = 0;
        for (uint32_t j = i; j < i + 4; j++)
            four = fmax(four, fabs((double)x[j]));
        second = fmax(second, fmin(four, largest));
        largest = fmax(largest, four);
    }
    return second * 2.99 > largest ? largest : fmax(second, largest / 128);
}

static void check_values(const struct setup *t, const float *y)
{
    const struct shape *s = &t->s;
    uint64_t row_bytes = 0;
    float *w = mu_alloc(s->stored_cols * sizeof *w);
    assert_non_null(w);
    assert_true(mu_dtype_bytes(s->type, s->stored_cols, &row_bytes));
    for (uint32_t o = 0; o < s->rows; o++) {
        mu_codec_decode(s->type, t->stored + o * row_bytes, w, s->stored_cols);
        for (uint32_t r = 0; r < s->n_rows; r++) {
            double sum = 0, bound = 1e-6, largest = 0;
            const float *x = t->x + (size_t)r * s->cols;
            for (uint32_t k = 0; k < s->cols; k++) {
                double a = (double)w[s->col_first + k], b = (double)x[k];
                if (k % 32 == 0 && t->w.form == MU_FORM_Q8) largest = block_max(x, k);
                sum += a * b;
                bound += form_error(t->w.form, a, b, largest);
            }
            double got = (double)y[(size_t)r * s->rows + o];
            if (!(fabs(got - sum) <= bound))
                fail_msg("%s %s form %d rows %u cols %u+%u n %u: y[%u][%u] is %g, not %g +- %g",
                         t->k->family, mu_dtype(s->type)->name, t->w.form, s->rows, s->col_first,
                         s->cols, s->n_rows, r, o, got, sum, bound);
        }
    }
    mu_free(w);
}

static void assert_same(const struct setup *t, const float *a, const float *b, const char *what)
{
    size_t n = (size_t)t->s.n_rows * t->s.rows;
    if (memcmp(a, b, n * sizeof *a) == 0) return;
    size_t i = 0;
    while (mu_f32_bits(a[i]) == mu_f32_bits(b[i]))
        i++;
    fail_msg("%s %s form %d rows %u cols %u n %u: other bits %s at %zu: %a %a", t->k->family,
             mu_dtype(t->s.type)->name, t->w.form, t->s.rows, t->s.cols, t->s.n_rows, what, i,
             (double)a[i], (double)b[i]);
}

/* Any pieces of rows and outputs give the bits of the whole. */
static void check_splits(const struct setup *t, const float *y)
{
    float *z = new_y(t, 1);
    struct mu_linear_args a = args_of(t, z);
    for (uint32_t r = 0, n; r < t->s.n_rows; r += n) {
        n = 1 + random_below(9);
        n = MU_MIN(n, t->s.n_rows - r);
        struct mu_linear_args part = a;
        part.x = (const char *)a.x + r * t->stride;
        part.y = z + (size_t)r * t->s.rows;
        part.n_rows = n;
        for (uint32_t o = 0, m; o < t->s.rows; o += m) {
            m = (1 + random_below(4)) * t->k->row_tile;
            m = MU_MIN(m, t->s.rows - o);
            t->k->linear(&part, o, o + m);
        }
    }
    assert_same(t, y, z, "in pieces");
    mu_free(z);
}

static void check_shape(const struct mu_kernels *k, struct shape s)
{
    struct setup t = setup_create(k, s);
    float *y = new_y(&t, 1);
    struct mu_linear_args a = args_of(&t, y);
    k->linear(&a, 0, s.rows);
    check_values(&t, y);
    check_splits(&t, y);
    mu_free(y);
    setup_destroy(&t);
}

/* One owner of the run: slices the columns, leaves its subtrees in `y` [subtree][row][output]. */
static unsigned run_owner(const struct setup *t, uint32_t n, const uint32_t *border,
                          struct mu_run run, float *y, struct mu_run *trees)
{
    struct setup own = *t;
    struct mu_cut cut = {.n = n, .run = run};
    uint32_t first = border[run.first];
    for (uint32_t s = run.first; s <= run.end; s++)
        cut.border[s - run.first] = border[s] - first;
    own.s.cols = border[run.end] - first;
    own.s.col_first = t->s.col_first + first;
    own.w = pack(t->k, t->s.type, t->s.compute, t->stored, t->s.rows, t->s.stored_cols,
                 own.s.col_first, own.s.cols);
    own.x = mu_alloc(sizeof *own.x * t->s.n_rows * own.s.cols);
    assert_non_null(own.x);
    for (uint32_t r = 0; r < t->s.n_rows; r++)
        memcpy(own.x + (size_t)r * own.s.cols, t->x + (size_t)r * t->s.cols + first,
               own.s.cols * sizeof *own.x);
    own.forms = store_forms(t->k, own.w.form, own.x, t->s.n_rows, own.s.cols, &own.stride);
    struct mu_linear_args a = args_of(&own, y);
    a.cut = &cut;
    a.y_subtree = (size_t)t->s.n_rows * t->s.rows;
    t->k->linear(&a, 0, t->s.rows);
    mu_free(own.x);
    mu_free(own.w.data);
    mu_free(own.forms);
    return mu_segment_subtrees(n, run, trees);
}

/* The sum over `units` units of `unit` columns is the same bits for 1 to 8 owners. */
static void check_cut(const struct mu_kernels *k, struct shape s, uint32_t units, uint32_t unit)
{
    s.cols = units * unit;
    struct setup t = setup_create(k, s);
    uint32_t n = mu_segment_count(units), border[MU_SEGMENTS_MAX + 1];
    for (uint32_t i = 0; i <= n; i++)
        border[i] = (uint32_t)mu_segment_start(units, n, i) * unit;
    float *one = new_y(&t, 1), *many = new_y(&t, 2 * MU_SEGMENTS_MAX);
    struct mu_run trees[2 * MU_SEGMENTS_MAX];
    size_t size = (size_t)s.n_rows * s.rows;
    assert_int_equal(run_owner(&t, n, border, (struct mu_run){0, n}, one, trees), 1);
    check_values(&t, one);
    for (uint32_t owners = 2; owners <= n; owners++) {
        float *pieces[2 * MU_SEGMENTS_MAX];
        unsigned got = 0;
        for (uint32_t rank = 0; rank < owners; rank++)
            got += run_owner(&t, n, border, mu_segment_run(n, rank, owners), many + got * size,
                             trees + got);
        for (unsigned i = 0; i < got; i++)
            pieces[i] = many + i * size;
        mu_segment_add(0, n, trees, pieces, got, (uint32_t)size, many);
        assert_same(&t, one, many, "with several owners");
    }
    mu_free(one);
    mu_free(many);
    setup_destroy(&t);
}

#define FOR_EACH_CASE(k, type, compute)                                                            \
    for (unsigned family_ = 0; ((k) = mu_kernels_usable(family_)); family_++)                      \
        for (int type_ = 0; type_ < MU_DTYPE_COUNT; type_++)                                       \
            for (int compute_ = 0; compute_ < 2; compute_++)                                       \
                if (((type) = (enum mu_dtype)type_, (compute) = (enum mu_compute)compute_,         \
                     mu_codec_can_decode(type)))

static void shapes(void **state)
{
    const struct mu_kernels *k;
    enum mu_dtype type;
    enum mu_compute compute;
    (void)state;
    FOR_EACH_CASE(k, type, compute)
    {
        uint32_t block = mu_dtype(type)->block_values;
        for (uint32_t n_rows = 1; n_rows <= 33; n_rows += n_rows < 7 ? 1 : 13) {
            uint32_t cols = MU_MAX(block, 32) * (1 + random_below(block == 256 ? 3 : 20));
            check_shape(k,
                        (struct shape){type, compute, 1 + random_below(70), cols, n_rows, 0, cols});
        }
        check_shape(k, (struct shape){type, compute, 150, MU_MAX(block, 32) * 2, 2, 0,
                                      MU_MAX(block, 32) * 2});
    }
}

/* Long rows cross every panel and prefetch border. */
static void long_rows(void **state)
{
    const struct mu_kernels *k;
    enum mu_dtype type;
    enum mu_compute compute;
    (void)state;
    FOR_EACH_CASE(k, type, compute)
    check_shape(k, (struct shape){type, compute, 35, 5120, 17, 0, 5120});
}

/* Slices that begin and end inside stored blocks; of fp32 activations also inside 32 values. */
static void slices(void **state)
{
    const struct mu_kernels *k;
    enum mu_dtype type;
    enum mu_compute compute;
    (void)state;
    FOR_EACH_CASE(k, type, compute)
    {
        uint32_t unit = k->form(type, compute) == MU_FORM_Q8 ? 32 : 8;
        for (int i = 0; i < 8; i++) {
            uint32_t first = random_below(512 / unit) * unit;
            uint32_t cols = (1 + random_below((1024 - first) / unit)) * unit;
            check_shape(k,
                        (struct shape){type, compute, 40, cols, 1 + random_below(12), first, 1024});
        }
    }
}

static void cuts(void **state)
{
    const struct mu_kernels *k;
    enum mu_dtype type;
    enum mu_compute compute;
    (void)state;
    FOR_EACH_CASE(k, type, compute)
    {
        for (uint32_t units = 1; units <= 20; units++) {
            bool all = type == MU_DTYPE_Q8_0 || type == MU_DTYPE_Q4_K || type == MU_DTYPE_BF16;
            if (!all && units % 5 != 3) continue;
            uint32_t unit = k->form(type, compute) == MU_FORM_Q8 ? 32 : 8 * (1 + random_below(9));
            struct shape s = {type, compute, 1 + random_below(20), 0, 1 + random_below(8), 0, 0};
            s.stored_cols = MU_ROUND_UP(units * unit, 256u);
            check_cut(k, s, units, unit);
        }
    }
}

/* With fp32 activations a quantised matrix gives the bits of the same matrix widened to fp32. */
static void widened(void **state)
{
    const struct mu_kernels *k;
    enum mu_dtype type;
    enum mu_compute compute;
    (void)state;
    FOR_EACH_CASE(k, type, compute)
    {
        if (compute != MU_COMPUTE_F32) continue;
        struct setup t = setup_create(k, (struct shape){type, compute, 33, 768, 7, 0, 768});
        struct setup f = t;
        float *w = mu_alloc(33 * 768 * sizeof *w), *y = new_y(&t, 1), *z = new_y(&t, 1);
        assert_non_null(w);
        mu_codec_decode(type, t.stored, w, 33 * 768);
        f.s.type = MU_DTYPE_F32;
        f.w = pack(k, MU_DTYPE_F32, compute, (const uint8_t *)w, 33, 768, 0, 768);
        struct mu_linear_args a = args_of(&t, y), b = args_of(&f, z);
        k->linear(&a, 0, 33);
        k->linear(&b, 0, 33);
        assert_same(&t, y, z, "than the widened matrix");
        mu_free(f.w.data);
        mu_free(w);
        mu_free(y);
        mu_free(z);
        setup_destroy(&t);
    }
}

/* A matrix whose columns share scales in no order, as stored rows and widened. */
struct shuffled {
    struct mu_columns columns;
    uint32_t group_of[512];
    uint8_t *stored;
    float *values;
    size_t row_bytes;
};

static void shuffled_create(struct shuffled *m, enum mu_dtype type, uint32_t rows,
                            uint32_t n_groups)
{
    enum { COLS = MU_ARRAY_LEN(m->group_of) };
    uint64_t codes;
    m->columns = (struct mu_columns){COLS, n_groups, m->group_of};
    for (uint32_t k = 0; k < COLS; k++)
        m->group_of[k] = random_below(n_groups);
    assert_true(mu_dtype_bytes(type, COLS, &codes));
    m->row_bytes = codes + 8 * (size_t)n_groups;
    m->stored = mu_alloc(rows * m->row_bytes);
    m->values = mu_alloc(rows * COLS * sizeof *m->values);
    assert_true(m->stored && m->values);
    for (uint32_t r = 0; r < rows; r++) {
        uint8_t *row = m->stored + r * m->row_bytes;
        float table[64][2];
        for (uint64_t i = 0; i < codes; i++)
            row[i] = (uint8_t)random_u32();
        for (uint32_t g = 0; g < n_groups; g++) {
            table[g][0] = mu_f16_to_f32(mu_f32_to_f16(random_value() * 0.01f));
            table[g][1] = table[g][0] * (float)random_below(17);
        }
        memcpy(row + codes, table, 8 * (size_t)n_groups);
        for (uint32_t k = 0; k < COLS; k++) {
            int code = type == MU_DTYPE_Q8G ? row[k] - 128
                                            : row[k / 32 * 16 + k % 16] >> (k / 16 % 2 * 4) & 15;
            uint32_t g = m->group_of[k];
            m->values[r * COLS + k] = (float)code * table[g][0] - table[g][1];
        }
    }
}

/* Columns [first, first + cols) packed; of the widened matrix where `columns` is NULL. */
static struct mu_weight shuffled_pack(const struct mu_kernels *k, enum mu_dtype type,
                                      const struct mu_columns *columns, const void *stored,
                                      size_t row_bytes, uint32_t rows, uint32_t first,
                                      uint32_t cols)
{
    struct mu_weight w = {.type = type,
                          .form = k->form(type, MU_COMPUTE_DEFAULT),
                          .rows = rows,
                          .cols = cols,
                          .col_first = first,
                          .columns = columns};
    const uint8_t *at[128];
    assert_int_equal(w.form, MU_FORM_F32);
    w.bytes =
        k->weight_bytes(type, w.form, rows, first, cols) + mu_weight_table_bytes(columns, rows);
    w.data = mu_alloc_aligned(64, w.bytes);
    assert_non_null(w.data);
    for (uint32_t r = 0; r < rows; r++)
        at[r] = (const uint8_t *)stored + r * row_bytes;
    for (uint32_t r = 0; r < rows; r += k->row_tile)
        k->weight_pack(&w, r, MU_MIN(k->row_tile, rows - r), at + r);
    return w;
}

/* Their products have the bits of the widened matrix's, in any slice; and their rows come back. */
static void columns_in_no_order(void **state)
{
    const struct mu_kernels *k;
    (void)state;
    for (unsigned i = 0; (k = mu_kernels_usable(i)); i++)
        for (int round = 0; round < 24; round++) {
            enum { COLS = 512 };
            enum mu_dtype type = round % 2 ? MU_DTYPE_Q8G : MU_DTYPE_Q4G;
            struct shuffled m;
            float x[9 * COLS], y[9 * 128], z[9 * 128], row[COLS];
            uint32_t rows = 1 + random_below(70), n_rows = 1 + random_below(9);
            uint32_t first = round < 4 ? 0 : 32 * random_below(15);
            uint32_t cols = round < 4 ? COLS : 32 * (1 + random_below((COLS - first) / 32));
            shuffled_create(&m, type, rows, 1 + random_below(64));
            for (size_t j = 0; j < MU_ARRAY_LEN(x); j++)
                x[j] = random_value();
            struct mu_weight w =
                shuffled_pack(k, type, &m.columns, m.stored, m.row_bytes, rows, first, cols);
            struct mu_weight f =
                shuffled_pack(k, MU_DTYPE_F32, NULL, m.values, 4 * COLS, rows, first, cols);
            struct mu_linear_args a = {.weight = &w,
                                       .x = x,
                                       .x_stride = sizeof *x * COLS,
                                       .y = y,
                                       .y_stride = rows,
                                       .n_rows = n_rows};
            k->linear(&a, 0, rows);
            a.weight = &f;
            a.y = z;
            k->linear(&a, 0, rows);
            assert_memory_equal(y, z, n_rows * rows * sizeof *y);
            for (uint32_t r = 0; first == 0 && cols == COLS && r < rows; r++) {
                k->weight_row(&w, r, row);
                assert_memory_equal(row, m.values + (size_t)r * COLS, sizeof row);
            }
            mu_free(w.data);
            mu_free(f.data);
            mu_free(m.stored);
            mu_free(m.values);
        }
}

static void bias(void **state)
{
    const struct mu_kernels *k;
    (void)state;
    for (unsigned i = 0; (k = mu_kernels_usable(i)); i++) {
        struct setup t =
            setup_create(k, (struct shape){MU_DTYPE_Q8_0, MU_COMPUTE_DEFAULT, 37, 96, 5, 0, 96});
        float *y = new_y(&t, 1), *z = new_y(&t, 1), b[37];
        struct mu_linear_args a = args_of(&t, y);
        k->linear(&a, 0, 37);
        for (int o = 0; o < 37; o++)
            b[o] = random_value();
        a.bias = b;
        a.y = z;
        k->linear(&a, 0, 37);
        for (int j = 0; j < 5 * 37; j++)
            assert_true(z[j] == y[j] + b[j % 37]);
        mu_free(y);
        mu_free(z);
        setup_destroy(&t);
    }
}

/* A packed row gives its stored values back, exactly: tied embeddings are looked up so. */
static void rows_come_back(void **state)
{
    (void)state;
    const struct mu_kernels *k;
    for (unsigned i = 0; (k = mu_kernels_usable(i)); i++)
        for (int type = 0; type < MU_DTYPE_COUNT; type++) {
            enum { ROWS = 37, COLS = 512 };
            if (!mu_codec_can_decode((enum mu_dtype)type)) continue;
            uint8_t *stored = random_stored((enum mu_dtype)type, ROWS, COLS);
            struct mu_weight w =
                pack(k, (enum mu_dtype)type, MU_COMPUTE_DEFAULT, stored, ROWS, COLS, 0, COLS);
            uint64_t row_bytes;
            assert_true(mu_dtype_bytes((enum mu_dtype)type, COLS, &row_bytes));
            for (uint32_t r = 0; r < ROWS; r++) {
                float want[COLS], got[COLS];
                mu_codec_decode((enum mu_dtype)type, stored + r * row_bytes, want, COLS);
                k->weight_row(&w, r, got);
                for (int j = 0; j < COLS; j++)
                    if (got[j] != want[j])
                        fail_msg("%s %s row %u column %d: %g, not %g", k->family,
                                 mu_dtype((enum mu_dtype)type)->name, r, j, (double)got[j],
                                 (double)want[j]);
            }
            mu_free(w.data);
            mu_free(stored);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shapes),         cmocka_unit_test(long_rows),
        cmocka_unit_test(slices),         cmocka_unit_test(cuts),
        cmocka_unit_test(widened),        cmocka_unit_test(bias),
        cmocka_unit_test(rows_come_back), cmocka_unit_test(columns_in_no_order),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
