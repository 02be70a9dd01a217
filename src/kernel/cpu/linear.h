/*
 * linear of a CPU family: included by the family's file after simd.h. See
 * docs/internals/kernels.md.
 *
 * Every output of every row is summed in one order, whichever function below computes it: cells (or
 * columns) of a segment in turn, into one lane of one accumulator. What is done together - sixteen
 * outputs in the lanes, rows in a tile, columns in a panel - therefore shows in no bit.
 */
#include "kernel/cpu/simd.h"

/* How many rows and groups a tile has: as many accumulators as the registers hold. */
#ifdef __AVX512F__
#define INT_ROWS   6
#define FLOAT_ROWS 12
#define GROUPS     2
#else
#define INT_ROWS   3
#define FLOAT_ROWS 6
#define GROUPS     1
#endif

#define PANEL_CELLS   16 /* widened at once: 20 KiB that stay in the first cache */
#define PANEL_COLUMNS (PANEL_CELLS * MU_CELL)
#define PARTS         512 /* rows times segments whose sums are kept at once: 64 KiB of stack */
#define BATCH_MAX     256 /* rows whose activations should stay in the second cache */

/*
 * How far ahead weights are fetched, in bytes of codes; measured. Narrow codes want far more than
 * memory's latency asks for: it makes the processor follow several pages at once.
 */
#define PREFETCH(l) ((l)->low == 8 ? 4096u : 24576u)

struct part {
    float sum[MU_ROW_TILE]; /* of one row over one segment, so far */
};

/* A row of activations in MU_FORM_Q8: all codes, all scales, then minus the sums of the codes, of
 * whole blocks and of their first halves. Any block can be written alone. */
struct q8_row {
    const int8_t *code;
    const float *scale;
    const int32_t *total, *half;
};

SIMD struct q8_row q8_row_at(const void *x, uint32_t cols)
{
    size_t blocks = MU_CEIL_DIV(cols, MU_CELL);
    const char *p = x;
    return (struct q8_row){(const int8_t *)p, (const float *)(const void *)(p + 32 * blocks),
                           (const int32_t *)(const void *)(p + 36 * blocks),
                           (const int32_t *)(const void *)(p + 40 * blocks)};
}

/* ---- codes and scales of a packed cell ---- */

/* Step s of a bit plane, moved up by `up` bits: see plane_put. */
SIMD vi plane_step(const vi *plane, unsigned bits, unsigned s, unsigned up)
{
    unsigned at = s / bits * bits;
    vi v = plane[s % bits];
    if (bits == 8) return v;
    v = at >= up ? vi_srl(v, at - up) : vi_sll(v, up - at);
    return vi_and(v, vi_set1((int)(0x01010101u * (((1u << bits) - 1) << up))));
}

SIMD void cell_codes(const struct mu_lanes *l, const uint8_t *p, vi code[8])
{
    vi low[8], high[2];
    UNROLL for (unsigned i = 0; i < l->low; i++) low[i] = vi_load(p + 64 * i);
    UNROLL for (unsigned i = 0; i < l->high; i++) high[i] = vi_load(p + 64 * (l->low + i));
    UNROLL for (unsigned s = 0; s < 8; s++)
    {
        code[s] = plane_step(low, l->low, s, 0);
        if (l->high) code[s] = vi_or(code[s], plane_step(high, l->high, s, l->low));
        if (l->table) code[s] = vi_lookup(l->table, code[s]);
    }
}

/* Scales and minima of the halves of cell i of a super-block; [1] only where they differ. */
SIMD void cell_scales(const struct mu_lanes *l, const uint8_t *super, uint32_t i, vf scale[2],
                      vf min[2])
{
    vf d, dmin = vf_set1(0);
    if (l->head == MU_HEAD_E8M0) { /* 2^(e - 128), subnormal below 2 */
        vi e = vi_load_u8(super), low = vi_add(e, vi_set1(-1));
        vi tiny = vi_srlv(vi_set1(0x00400000), vi_sub(vi_set1(1), e)); /* 0 from e = 2 on */
        d = vi_as_float(vi_or(vi_sll(vi_max(low, vi_set1(0)), 23), tiny));
    } else {
        d = vf_load_f16(super);
    }
    if (l->head == MU_HEAD_F16_MIN) dmin = vf_load_f16(super + 2 * MU_LANES);
    const uint8_t *at = super + mu_lanes_head_bytes(l) + i * mu_lanes_scale_bytes(l);
    scale[0] = scale[1] = d;
    min[0] = min[1] = dmin;
    if (l->scales == MU_SCALES_32 || l->scales == MU_SCALES_16)
        scale[0] = vf_mul(d, vf_from_int(vi_load_s8(at)));
    if (l->scales == MU_SCALES_16) scale[1] = vf_mul(d, vf_from_int(vi_load_s8(at + MU_LANES)));
    if (l->scales == MU_SCALES_32_MIN) {
        scale[0] = vf_mul(d, vf_from_int(vi_load_u8(at)));
        min[0] = vf_mul(dmin, vf_from_int(vi_load_u8(at + MU_LANES)));
    }
    if (l->scales == MU_SCALES_16_NIBBLES) {
        UNROLL for (unsigned h = 0; h < 2; h++)
        {
            vi both = vi_load_u8(at + MU_LANES * h);
            scale[h] = vf_mul(d, vf_from_int(vi_and(both, vi_set1(15))));
            min[h] = vf_mul(dmin, vf_from_int(vi_srl(both, 4)));
        }
    }
}

/* Fetches what lies PREFETCH bytes ahead of cell c, and as many cells ahead in the scales. */
SIMD void cell_prefetch(const struct mu_lanes *l, const uint8_t *codes, const uint8_t *super,
                        uint32_t c)
{
    const uint32_t cells = PREFETCH(l) / mu_lanes_code_bytes(l);
    UNROLL for (unsigned i = 0; i < mu_lanes_code_bytes(l); i += 64)
        _mm_prefetch((const char *)codes + PREFETCH(l) + i, _MM_HINT_T0);
    if (c % l->cells == 0)
        _mm_prefetch((const char *)super + cells / l->cells * mu_lanes_super_bytes(l), _MM_HINT_T0);
}

/* ---- integer sums ---- */

SIMD vi broadcast_4(const int8_t *x)
{
    int bits;
    memcpy(&bits, x, 4);
    return vi_set1(bits);
}

/* What a sum of products starts from, so that it ends without the offset's share. */
SIMD vi sum_start(enum mu_cell_kind kind, int offset, int minus_sum)
{
    if (kind == MU_CELL_MIN) return vi_set1(0);
    return vi_set1(minus_sum * (kind == MU_CELL_WIDE ? START_WIDE(offset) : offset));
}

/* Adds a cell's (or half a cell's) share to the sum of an output: the only place where rounding
 * happens in this form. */
SIMD vf cell_add(enum mu_cell_kind kind, vi products, vf scale, vf min, int minus_sum,
                 float x_scale, vf sum)
{
    vf t = vf_mul(vf_from_int(products), scale);
    if (kind == MU_CELL_MIN) t = vf_fma(min, vf_from_int(vi_set1(minus_sum)), t);
    return vf_fma(t, vf_set1(x_scale), sum);
}

/* One row, one group: codes go from memory to registers to the sum. */
SIMD vf group_one_row(const struct mu_lanes *l, enum mu_cell_kind kind, bool halves,
                      const uint8_t *group, const uint8_t *scales, uint32_t first, uint32_t n,
                      const struct q8_row *x, uint32_t x_first)
{
    vf sum = vf_set1(0);
    for (uint32_t c = first; c < first + n; c++) {
        uint32_t b = x_first + (c - first);
        const int8_t *codes = x->code + (size_t)b * MU_CELL;
        const uint8_t *p = group + (size_t)c * mu_lanes_code_bytes(l);
        const uint8_t *super = scales + (size_t)(c / l->cells) * mu_lanes_super_bytes(l);
        vi code[8];
        vf scale[2], min[2];
        cell_prefetch(l, p, super, c);
        cell_codes(l, p, code);
        cell_scales(l, super, c % l->cells, scale, min);
        int low = x->half[b], high = x->total[b] - low;
        vi a = sum_start(kind, l->offset, low), z = sum_start(kind, l->offset, high);
        UNROLL for (unsigned s = 0; s < 4; s++)
        {
            a = vi_dot(a, code[s], broadcast_4(codes + 4 * s), kind == MU_CELL_WIDE);
            z = vi_dot(z, code[s + 4], broadcast_4(codes + 4 * s + 16), kind == MU_CELL_WIDE);
        }
        if (halves) {
            sum = cell_add(kind, a, scale[0], min[0], low, x->scale[b], sum);
            sum = cell_add(kind, z, scale[1], min[1], high, x->scale[b], sum);
        } else {
            sum = cell_add(kind, vi_add(a, z), scale[0], min[0], x->total[b], x->scale[b], sum);
        }
    }
    return sum;
}

SIMD void cells_widen(const struct mu_lanes *l, const uint8_t *group, const uint8_t *scales,
                      uint32_t first, uint32_t n, struct mu_cell *out)
{
    for (uint32_t c = first; c < first + n; c++, out++) {
        const uint8_t *p = group + (size_t)c * mu_lanes_code_bytes(l);
        const uint8_t *super = scales + (size_t)(c / l->cells) * mu_lanes_super_bytes(l);
        vi code[8];
        vf scale[2], min[2];
        cell_prefetch(l, p, super, c);
        cell_codes(l, p, code);
        cell_scales(l, scales + (size_t)(c / l->cells) * mu_lanes_super_bytes(l), c % l->cells,
                    scale, min);
        UNROLL for (unsigned s = 0; s < 8; s++) vi_store(out->code[s], code[s]);
        UNROLL for (unsigned h = 0; h < 2; h++)
        {
            vf_store(out->scale[h], scale[h]);
            vf_store(out->min[h], min[h]);
        }
    }
}

/* Both jobs above for each packed type: sums == NULL asks for cells. */
static void group_read(enum mu_dtype type, const uint8_t *group, const uint8_t *scales,
                       uint32_t first, uint32_t n, const struct q8_row *x, uint32_t x_first,
                       float *sums, struct mu_cell *cells)
{
#define CASE_(name, low, high, offset, n_cells, head, kind, table)                                 \
    case MU_DTYPE_##name: {                                                                        \
        const struct mu_lanes l = MU_LANES_OF(low, high, offset, n_cells, head, kind, table);      \
        const bool halves = kind == MU_SCALES_16 || kind == MU_SCALES_16_NIBBLES;                  \
        const enum mu_cell_kind cell = head == MU_HEAD_F16_MIN ? MU_CELL_MIN                       \
                                       : offset == 128         ? MU_CELL_WIDE                      \
                                                               : MU_CELL_NARROW;                           \
        if (sums)                                                                                  \
            vf_store(sums, group_one_row(&l, cell, halves, group, scales, first, n, x, x_first));  \
        else                                                                                       \
            cells_widen(&l, group, scales, first, n, cells);                                       \
        break;                                                                                     \
    }
    switch ((int)type) {
        MU_LANES_TABLE(CASE_)
    }
#undef CASE_
}

/* R rows, GROUPS groups, n cells of a panel: adds to `parts`. */
SIMD void int_tile(const unsigned R, enum mu_cell_kind kind, const bool halves, int offset,
                   const struct mu_cell *panel, size_t group_stride, uint32_t n, const char *x,
                   size_t x_stride, uint32_t cols, uint32_t x_first, struct part *parts,
                   unsigned group)
{
    vf sum[INT_ROWS][GROUPS];
    const unsigned runs = halves ? 2 : 1, steps = halves ? 4 : 8;
    UNROLL for (unsigned r = 0; r < R; r++) UNROLL for (unsigned g = 0; g < GROUPS; g++) sum[r][g] =
        vf_load(parts[r].sum + MU_LANES * (group + g));
    for (uint32_t c = 0; c < n; c++) {
        UNROLL for (unsigned h = 0; h < runs; h++)
        {
            vi dot[INT_ROWS][GROUPS];
            int minus_sum[INT_ROWS];
            UNROLL for (unsigned r = 0; r < R; r++)
            {
                struct q8_row row = q8_row_at(x + r * x_stride, cols);
                int total = row.total[x_first + c];
                if (halves) {
                    int low = row.half[x_first + c];
                    total = h ? total - low : low;
                }
                minus_sum[r] = total;
                UNROLL for (unsigned g = 0; g < GROUPS; g++) dot[r][g] =
                    sum_start(kind, offset, total);
            }
            UNROLL for (unsigned s = h * steps; s < (h + 1) * steps; s++)
            {
                vi w[GROUPS];
                UNROLL for (unsigned g = 0; g < GROUPS; g++) w[g] =
                    vi_load(panel[g * group_stride + c].code[s]);
                UNROLL for (unsigned r = 0; r < R; r++)
                {
                    vi b = broadcast_4((const int8_t *)x + r * x_stride +
                                       (size_t)(x_first + c) * MU_CELL + 4 * s);
                    UNROLL for (unsigned g = 0; g < GROUPS; g++) dot[r][g] =
                        vi_dot(dot[r][g], w[g], b, kind == MU_CELL_WIDE);
                }
            }
            UNROLL for (unsigned g = 0; g < GROUPS; g++)
            {
                const struct mu_cell *cell = &panel[g * group_stride + c];
                vf scale = vf_load(cell->scale[h]), min = vf_load(cell->min[h]);
                UNROLL for (unsigned r = 0; r < R; r++)
                {
                    struct q8_row row = q8_row_at(x + r * x_stride, cols);
                    sum[r][g] = cell_add(kind, dot[r][g], scale, min, minus_sum[r],
                                         row.scale[x_first + c], sum[r][g]);
                }
            }
        }
    }
    UNROLL for (unsigned r = 0; r < R; r++) UNROLL for (unsigned g = 0; g < GROUPS; g++)
        vf_store(parts[r].sum + MU_LANES * (group + g), sum[r][g]);
}

typedef void int_tile_fn(int offset, const struct mu_cell *panel, size_t group_stride, uint32_t n,
                         const char *x, size_t x_stride, uint32_t cols, uint32_t x_first,
                         struct part *parts, unsigned group);

#define INT_TILE_(R, kind, halves)                                                                 \
    static void int_tile_##R##_##kind##_##halves(                                                  \
        int offset, const struct mu_cell *panel, size_t group_stride, uint32_t n, const char *x,   \
        size_t x_stride, uint32_t cols, uint32_t x_first, struct part *parts, unsigned group)      \
    {                                                                                              \
        int_tile(R, MU_CELL_##kind, halves, offset, panel, group_stride, n, x, x_stride, cols,     \
                 x_first, parts, group);                                                           \
    }
#define INT_TILES_(R)                                                                              \
    INT_TILE_(R, NARROW, 0)                                                                        \
    INT_TILE_(R, NARROW, 1)                                                                        \
    INT_TILE_(R, WIDE, 0) INT_TILE_(R, WIDE, 1) INT_TILE_(R, MIN, 0) INT_TILE_(R, MIN, 1)
#define INT_ROW_(R)                                                                                \
    {                                                                                              \
        {int_tile_##R##_NARROW_0, int_tile_##R##_NARROW_1},                                        \
            {int_tile_##R##_WIDE_0, int_tile_##R##_WIDE_1},                                        \
        {                                                                                          \
            int_tile_##R##_MIN_0, int_tile_##R##_MIN_1                                             \
        }                                                                                          \
    }

INT_TILES_(1)
INT_TILES_(2)
INT_TILES_(3)
#if INT_ROWS > 3
INT_TILES_(4)
INT_TILES_(5)
INT_TILES_(6)
#endif

static int_tile_fn *const int_tiles[INT_ROWS][3][2] = {
    INT_ROW_(1), INT_ROW_(2), INT_ROW_(3),
#if INT_ROWS > 3
    INT_ROW_(4), INT_ROW_(5), INT_ROW_(6),
#endif
};

/* ---- fp32 and bfloat16 sums ---- */

/* How weights lie in a panel of plain numbers, a group at a time. */
enum panel_kind { PANEL_F32, PANEL_F16, PANEL_BF16, PANEL_BF16_PAIRS, PANEL_KINDS };

/* Sixteen weights of column k. */
SIMD vf column_load(enum panel_kind kind, const uint8_t *p, size_t k, bool odd)
{
    if (kind == PANEL_F32) return vf_load((const float *)(const void *)(p + 64 * k));
    if (kind == PANEL_F16) return vf_load_f16(p + 32 * k);
    vi pair = vi_load(p + 64 * (k / 2));
    return vi_as_float(odd ? vi_and(pair, vi_set1((int)0xffff0000u)) : vi_sll(pair, 16));
}

SIMD void column_add(const unsigned R, enum panel_kind kind, const uint8_t *const *panel, size_t k,
                     bool odd, const char *x, size_t x_stride, vf sum[][GROUPS])
{
    vf w[GROUPS];
    UNROLL for (unsigned g = 0; g < GROUPS; g++) w[g] = column_load(kind, panel[g], k, odd);
    UNROLL for (unsigned r = 0; r < R; r++)
    {
        vf b = vf_set1(((const float *)(const void *)(x + r * x_stride))[k]);
        UNROLL for (unsigned g = 0; g < GROUPS; g++) sum[r][g] = vf_fma(w[g], b, sum[r][g]);
    }
}

/* The same for a pair of columns, weights and activations in bfloat16, where the family can. */
SIMD void pair_add(const unsigned R, const uint8_t *const *panel, size_t pair, const char *x,
                   size_t x_stride, vf sum[][GROUPS])
{
    UNROLL for (unsigned r = 0; r < R; r++)
    {
        vi b = broadcast_4((const int8_t *)x + r * x_stride + 4 * pair);
        UNROLL for (unsigned g = 0; g < GROUPS; g++) sum[r][g] =
            vf_dot_bf16(sum[r][g], vi_load(panel[g] + 64 * pair), b);
    }
}

/* n columns of a panel for R rows and GROUPS groups; panel and x begin at the first. */
SIMD void float_tile(const unsigned R, enum panel_kind kind, const uint8_t *const *panel,
                     uint32_t n, const char *x, size_t x_stride, struct part *parts, unsigned group)
{
    vf sum[FLOAT_ROWS][GROUPS];
    UNROLL for (unsigned r = 0; r < R; r++) UNROLL for (unsigned g = 0; g < GROUPS; g++) sum[r][g] =
        vf_load(parts[r].sum + MU_LANES * (group + g));
    for (uint32_t k = 0; k < n; k += 2) {
        UNROLL for (unsigned g = 0; g < GROUPS; g++)
            _mm_prefetch((const char *)panel[g] + 32 * (size_t)k + 2048, _MM_HINT_T0);
        if (kind == PANEL_BF16_PAIRS) {
            pair_add(R, panel, k / 2, x, x_stride, sum);
        } else {
            column_add(R, kind, panel, k, false, x, x_stride, sum);
            if (k + 1 < n) column_add(R, kind, panel, k + 1, true, x, x_stride, sum);
        }
    }
    UNROLL for (unsigned r = 0; r < R; r++) UNROLL for (unsigned g = 0; g < GROUPS; g++)
        vf_store(parts[r].sum + MU_LANES * (group + g), sum[r][g]);
}

typedef void float_tile_fn(const uint8_t *const *panel, uint32_t n, const char *x, size_t x_stride,
                           struct part *parts, unsigned group);

#define FLOAT_TILE_(R, kind)                                                                       \
    static void float_tile_##R##_##kind(const uint8_t *const *panel, uint32_t n, const char *x,    \
                                        size_t x_stride, struct part *parts, unsigned group)       \
    {                                                                                              \
        float_tile(R, PANEL_##kind, panel, n, x, x_stride, parts, group);                          \
    }
#define FLOAT_TILES_(R)                                                                            \
    FLOAT_TILE_(R, F32) FLOAT_TILE_(R, F16) FLOAT_TILE_(R, BF16) FLOAT_TILE_(R, BF16_PAIRS)
#define FLOAT_ROW_(R)                                                                              \
    {                                                                                              \
        R,                                                                                         \
        {                                                                                          \
            float_tile_##R##_F32, float_tile_##R##_F16, float_tile_##R##_BF16,                     \
                float_tile_##R##_BF16_PAIRS                                                        \
        }                                                                                          \
    }

FLOAT_TILES_(1)
FLOAT_TILES_(2)
FLOAT_TILES_(4)
#if FLOAT_ROWS > 6
FLOAT_TILES_(8)
FLOAT_TILES_(12)
#else
FLOAT_TILES_(6)
#endif

/* Largest first: a batch of rows takes the largest that fits, again and again. */
static const struct {
    uint32_t rows;
    float_tile_fn *run[PANEL_KINDS];
} float_tiles[] = {
#if FLOAT_ROWS > 6
    FLOAT_ROW_(12), FLOAT_ROW_(8),
#else
    FLOAT_ROW_(6),
#endif
    FLOAT_ROW_(4),  FLOAT_ROW_(2), FLOAT_ROW_(1),
};

/* ---- the whole linear ---- */

/* A row tile of outputs and a batch of activation rows. */
struct work {
    const struct mu_linear_args *a;
    const struct mu_weight *w;
    struct mu_packed packed;
    struct mu_cell_form form;
    uint32_t group;       /* the first of the tile's two */
    uint32_t row, n_rows; /* the batch */
};

static const uint8_t *group_at(const struct work *k, unsigned g)
{
    return (const uint8_t *)k->w->data + (k->group + g) * k->packed.group_bytes;
}

static const char *row_at(const struct work *k, uint32_t row)
{
    return (const char *)k->a->x + (k->row + row) * k->a->x_stride;
}

static void panel_cells(const struct work *k, unsigned g, uint32_t first, uint32_t n,
                        struct mu_cell *out)
{
    const uint8_t *group = group_at(k, g);
    if (k->packed.lanes)
        group_read(k->w->type, group, group + k->packed.scale_offset, first, n, NULL, 0, NULL, out);
    else
        mu_cpu_cells_from_stored(k->w, &k->packed, k->group + g, first, n, out);
}

/* Columns [first, end) of the slice, whole blocks of activations. */
static void segment_int(const struct work *k, uint32_t first, uint32_t end, struct part *parts)
{
    struct mu_cell panel[2][PANEL_CELLS];
    uint32_t skip = k->packed.skip / MU_CELL, x_first = first / MU_CELL,
             n = (end - first) / MU_CELL;
    if (k->n_rows == 1 && k->packed.lanes) {
        struct q8_row x = q8_row_at(row_at(k, 0), k->w->cols);
        for (unsigned g = 0; g < 2; g++)
            group_read(k->w->type, group_at(k, g), group_at(k, g) + k->packed.scale_offset,
                       skip + x_first, n, &x, x_first, parts->sum + MU_LANES * g, NULL);
        return;
    }
    for (uint32_t c = 0, m; c < n; c += m) {
        m = MU_MIN(n - c, (uint32_t)PANEL_CELLS);
        for (unsigned g = 0; g < 2; g++)
            panel_cells(k, g, skip + x_first + c, m, panel[g]);
        for (uint32_t r = 0, rows; r < k->n_rows; r += rows) {
            uint32_t left = k->n_rows - r; /* tiles as equal as can be */
            rows = MU_CEIL_DIV(left, MU_CEIL_DIV(left, (uint32_t)INT_ROWS));
            int_tile_fn *run = int_tiles[rows - 1][k->form.kind][k->form.halves];
            for (unsigned g = 0; g < 2; g += GROUPS)
                run(k->form.offset, panel[g], PANEL_CELLS, m, row_at(k, r), k->a->x_stride,
                    k->w->cols, x_first + c, parts + r, g);
        }
    }
}

static void panel_run(const struct work *k, enum panel_kind kind, const uint8_t *const *panel,
                      uint32_t n, size_t x_offset, struct part *parts)
{
    for (uint32_t r = 0, size = 0; r < k->n_rows;) {
        while (float_tiles[size].rows > k->n_rows - r)
            size++;
        for (unsigned g = 0; g < 2; g += GROUPS)
            float_tiles[size].run[kind](panel + g, n, row_at(k, r) + x_offset, k->a->x_stride,
                                        parts + r, g);
        r += float_tiles[size].rows;
    }
}

static void segment_plain(const struct work *k, uint32_t first, uint32_t end, struct part *parts)
{
    enum panel_kind kind = k->w->type == MU_DTYPE_F32   ? PANEL_F32
                           : k->w->type == MU_DTYPE_F16 ? PANEL_F16
                           : k->w->form == MU_FORM_BF16 ? PANEL_BF16_PAIRS
                                                        : PANEL_BF16;
    size_t column_bytes = kind == PANEL_F32 ? 64 : 32, x_bytes = kind == PANEL_BF16_PAIRS ? 2 : 4;
    for (uint32_t c = first, m; c < end; c += m) {
        m = k->n_rows == 1 ? end - first : MU_MIN(end - c, (uint32_t)PANEL_COLUMNS);
        const uint8_t *panel[2] = {group_at(k, 0) + c * column_bytes,
                                   group_at(k, 1) + c * column_bytes};
        panel_run(k, kind, panel, m, c * x_bytes, parts);
    }
}

/* Widens a cell exactly as mu_codec_decode does. */
static void cell_to_floats(const struct mu_cell *cell, struct mu_cell_form form, float *out)
{
    vf offset = vf_set1((float)form.offset);
    for (unsigned i = 0; i < MU_CELL; i++) {
        unsigned half = form.halves ? i / 16 : 0;
        vi code = vi_and(vi_srl(vi_load(cell->code[i / 4]), 8 * (i % 4)), vi_set1(255));
        vf w = vf_mul(vf_sub(vf_from_int(code), offset), vf_load(cell->scale[half]));
        if (form.kind == MU_CELL_MIN) w = vf_sub(w, vf_load(cell->min[half]));
        vf_store(out + MU_LANES * i, w);
    }
}

/* Quantised weights, fp32 activations: a few cells at a time become plain numbers. */
static void segment_widened(const struct work *k, uint32_t first, uint32_t end, struct part *parts)
{
    enum { CELLS = PANEL_CELLS / 2 };
    float wide[2][CELLS * MU_CELL * MU_LANES];
    struct mu_cell cells[CELLS];
    uint32_t skip = k->packed.skip;
    for (uint32_t c = first, m; c < end; c += m) {
        uint32_t cell = (skip + c) / MU_CELL, inside = (skip + c) % MU_CELL;
        m = MU_MIN(CELLS * MU_CELL - inside, end - c);
        uint32_t n = MU_CEIL_DIV(inside + m, MU_CELL);
        for (unsigned g = 0; g < 2; g++) {
            panel_cells(k, g, cell, n, cells);
            for (uint32_t i = 0; i < n; i++)
                cell_to_floats(&cells[i], k->form, wide[g] + i * MU_CELL * MU_LANES);
        }
        const uint8_t *panel[2] = {(const uint8_t *)(wide[0] + inside * MU_LANES),
                                   (const uint8_t *)(wide[1] + inside * MU_LANES)};
        panel_run(k, PANEL_F32, panel, m, c * sizeof(float), parts);
    }
}

static void outputs_store(const struct work *k, unsigned subtree, const struct part *parts)
{
    const struct mu_linear_args *a = k->a;
    uint32_t first = k->group * MU_LANES, n = MU_MIN(k->w->rows - first, (uint32_t)MU_ROW_TILE);
    for (uint32_t r = 0; r < k->n_rows; r++) {
        float *y = a->y + (k->row + r) * a->y_stride + subtree * a->y_subtree + first;
        if (a->bias)
            for (uint32_t i = 0; i < n; i++)
                y[i] = parts[r].sum[i] + a->bias[first + i];
        else
            memcpy(y, parts[r].sum, n * sizeof *y);
    }
}

static void tile_compute(const struct work *k, const struct mu_cut *cut, struct part *parts)
{
    struct mu_run leaves[MU_SEGMENTS_MAX], trees[MU_SUBTREES_MAX];
    float *pieces[MU_SEGMENTS_MAX];
    for (uint32_t i = 0; i < cut->run.end - cut->run.first; i++) {
        struct part *own = parts + (size_t)i * k->n_rows;
        leaves[i] = (struct mu_run){cut->run.first + i, cut->run.first + i + 1};
        pieces[i] = own->sum;
        memset(own, 0, k->n_rows * sizeof *own);
        if (k->w->form == MU_FORM_Q8)
            segment_int(k, cut->border[i], cut->border[i + 1], own);
        else if (mu_parts_known(k->w->type))
            segment_widened(k, cut->border[i], cut->border[i + 1], own);
        else
            segment_plain(k, cut->border[i], cut->border[i + 1], own);
    }
    unsigned n_trees = mu_segment_subtrees(cut->n, cut->run, trees);
    for (unsigned t = 0; t < n_trees; t++) {
        uint32_t i = trees[t].first - cut->run.first, n = trees[t].end - trees[t].first;
        mu_segment_add(trees[t].first, trees[t].end, leaves + i, pieces + i, n,
                       k->n_rows * MU_ROW_TILE, pieces[i]);
        outputs_store(k, t, parts + (size_t)i * k->n_rows);
    }
}

static void linear(const struct mu_linear_args *a, uint32_t first, uint32_t end)
{
    const struct mu_weight *w = a->weight;
    struct mu_cut whole = {.n = 1, .run = {0, 1}, .border = {0, w->cols}};
    const struct mu_cut *cut = a->cut ? a->cut : &whole;
    struct part parts[PARTS];
    uint32_t batch = MU_MIN(PARTS / (cut->run.end - cut->run.first), (uint32_t)BATCH_MAX);
    struct work k = {.a = a,
                     .w = w,
                     .packed = mu_cpu_packed(w->type, w->col_first, w->cols),
                     .form = mu_cpu_cell_form(w->type)};
    for (k.row = 0; k.row < a->n_rows; k.row += k.n_rows) {
        k.n_rows = MU_MIN(a->n_rows - k.row, batch);
        for (uint32_t o = first; o < end; o += MU_ROW_TILE) {
            k.group = o / MU_LANES;
            tile_compute(&k, cut, parts);
        }
    }
}
