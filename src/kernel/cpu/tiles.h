/*
 * Sums of a CPU family's linear: one row from packed weights, tiles of rows from panels. Included
 * by linear.h. See docs/internals/kernels.md.
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
#define GROUP_ROWS 8
#else
#define INT_ROWS   3
#define FLOAT_ROWS 6
#define GROUPS     1
#define GROUP_ROWS 2
#endif

/*
 * How far ahead weights are fetched, in bytes of codes; measured. Narrow codes want far more than
 * memory's latency asks for: it makes the processor follow several pages at once.
 */
#define PREFETCH(l) ((l)->low == 8 ? 4096u : 24576u)

struct part {
    float sum[MU_ROW_TILE]; /* of one row over one segment, so far */
};

/*
 * 32 activations in MU_FORM_Q8; a row is a run of these. A value is its code times the scale, but
 * for the four values of the block's widest step: they are code + 128 top.
 */
struct q8_block {
    int8_t code[MU_CELL];
    float scale;
    int32_t total, half; /* minus the sum of the values so coded, and of the first sixteen */
    int8_t top[2][MU_CELL_STEP]; /* [step / 4]; the other is 0, and both in most blocks */
    uint32_t step;
};

#define TOP_BITS 7 /* the weight of a top code, 128 */

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

/* Step s alone, whichever it is. */
SIMD vi cell_code_step(const struct mu_lanes *l, const uint8_t *p, unsigned s)
{
    vi code = vi_load(p + 64 * (s % l->low));
    if (l->low < 8)
        code = vi_and(vi_srlv(code, vi_set1((int)(s / l->low * l->low))),
                      vi_set1((int)(0x01010101u * ((1u << l->low) - 1))));
    if (l->high) {
        unsigned at = s / l->high * l->high;
        vi high = vi_srlv(vi_load(p + 64 * (l->low + s % l->high)), vi_set1((int)at));
        high = vi_and(high, vi_set1((int)(0x01010101u * ((1u << l->high) - 1))));
        code = vi_or(code, vi_sll(high, l->low));
    }
    return l->table ? vi_lookup(l->table, code) : code;
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
    } else if (l->head == MU_HEAD_F32_ZERO8 || l->head == MU_HEAD_F32_ZERO16) {
        const uint8_t *after = super + 4 * MU_LANES;
        vi zero = l->head == MU_HEAD_F32_ZERO8 ? vi_load_u8(after) : vi_load_s16(after);
        d = vf_load((const float *)(const void *)super);
        dmin = vf_mul(d, vf_from_int(vi_sub(zero, vi_set1(l->offset))));
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

SIMD const struct q8_block *q8_at(const char *x, unsigned row, size_t x_stride)
{
    return (const struct q8_block *)(const void *)(x + row * x_stride);
}

/* What a sum of products starts from, so that it ends without the offset's share. */
SIMD vi sum_start(enum mu_cell_kind kind, int offset, int minus)
{
    if (kind == MU_CELL_MIN) return vi_set1(0);
    return vi_set1(minus * (mu_cell_wide(kind) ? START_WIDE(offset) : offset));
}

/* Of a block, or of a half of it. */
SIMD int minus_sum(const struct q8_block *b, bool halves, unsigned h)
{
    return !halves ? b->total : h ? b->total - b->half : b->half;
}

/* Whether the block, or that half of it, has top codes other than 0. */
SIMD bool top_there(const struct q8_block *b, bool halves, unsigned h)
{
    uint32_t bits[2];
    memcpy(bits, b->top, sizeof bits);
    return halves ? bits[h] : bits[0] | bits[1];
}

/* Adds the products of the top codes; w are the weights of the widest step. */
SIMD vi top_add(enum mu_cell_kind kind, vi w, const int8_t *top, vi sum)
{
    vi products = vi_dot(vi_set1(0), w, broadcast_4(top), mu_cell_wide(kind));
    return vi_add(sum, vi_sll(products, TOP_BITS));
}

/* Adds a cell's (or half a cell's) share to the sum of an output: the only place where rounding
 * happens in this form. */
SIMD vf cell_add(enum mu_cell_kind kind, vi products, vf scale, vf min, int minus, float x_scale,
                 vf sum)
{
    vf t = vf_mul(vf_from_int(products), scale);
    if (mu_cell_min(kind)) t = vf_fma(min, vf_from_int(vi_set1(minus)), t);
    return vf_fma(t, vf_set1(x_scale), sum);
}

/* R rows, one group: codes go from memory through registers to the sums. */
SIMD void group_rows(const unsigned R, const struct mu_lanes *l, enum mu_cell_kind kind,
                     const bool halves, const uint8_t *group, const uint8_t *scales, uint32_t first,
                     uint32_t n, const char *x, size_t x_stride, struct part *parts, unsigned g)
{
    vf sum[GROUP_ROWS];
    const unsigned runs = halves ? 2 : 1, steps = 8 / runs;
    UNROLL for (unsigned r = 0; r < R; r++) sum[r] = vf_set1(0);
    for (uint32_t c = first; c < first + n; c++, x += sizeof(struct q8_block)) {
        const uint8_t *p = group + (size_t)c * mu_lanes_code_bytes(l);
        const uint8_t *super = scales + (size_t)(c / l->cells) * mu_lanes_super_bytes(l);
        vi code[8], dot[GROUP_ROWS];
        vf scale[2], min[2];
        cell_prefetch(l, p, super, c);
        cell_codes(l, p, code);
        cell_scales(l, super, c % l->cells, scale, min);
        UNROLL for (unsigned h = 0; h < runs; h++)
        {
            UNROLL for (unsigned r = 0; r < R; r++) dot[r] =
                sum_start(kind, l->offset, minus_sum(q8_at(x, r, x_stride), halves, h));
            UNROLL for (unsigned s = h * steps; s < (h + 1) * steps; s++)
                UNROLL for (unsigned r = 0; r < R; r++) dot[r] =
                    vi_dot(dot[r], code[s], broadcast_4(q8_at(x, r, x_stride)->code + 4 * s),
                           mu_cell_wide(kind));
            UNROLL for (unsigned r = 0; r < R; r++)
            {
                const struct q8_block *b = q8_at(x, r, x_stride);
                if (top_there(b, halves, h))
                    dot[r] = top_add(kind, cell_code_step(l, p, b->step),
                                     b->top[halves ? h : b->step / 4], dot[r]);
                sum[r] = cell_add(kind, dot[r], scale[h], min[h], minus_sum(b, halves, h), b->scale,
                                  sum[r]);
            }
        }
    }
    UNROLL for (unsigned r = 0; r < R; r++) vf_store(parts[r].sum + MU_LANES * g, sum[r]);
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

static void group_widen(enum mu_dtype type, const uint8_t *group, const uint8_t *scales,
                        uint32_t first, uint32_t n, struct mu_cell *out)
{
#define CASE_(name, low, high, offset, n_cells, head, kind, table)                                 \
    case MU_DTYPE_##name: {                                                                        \
        const struct mu_lanes l = MU_LANES_OF(low, high, offset, n_cells, head, kind, table);      \
        cells_widen(&l, group, scales, first, n, out);                                             \
        break;                                                                                     \
    }
    switch ((int)type) {
        MU_LANES_TABLE(CASE_)
    }
#undef CASE_
}

/* The same for R rows' sums, of each packed type. */
SIMD void group_tile(const unsigned R, enum mu_dtype type, const uint8_t *group,
                     const uint8_t *scales, uint32_t first, uint32_t n, const char *x,
                     size_t x_stride, struct part *parts, unsigned g)
{
#define CASE_(name, low, high, offset, n_cells, head, kind, table)                                 \
    case MU_DTYPE_##name: {                                                                        \
        const struct mu_lanes l = MU_LANES_OF(low, high, offset, n_cells, head, kind, table);      \
        group_rows(R, &l, mu_lanes_kind(&l), mu_lanes_halves(&l), group, scales, first, n, x,      \
                   x_stride, parts, g);                                                            \
        break;                                                                                     \
    }
    switch ((int)type) {
        MU_LANES_TABLE(CASE_)
    }
#undef CASE_
}

typedef void group_tile_fn(enum mu_dtype type, const uint8_t *group, const uint8_t *scales,
                           uint32_t first, uint32_t n, const char *x, size_t x_stride,
                           struct part *parts, unsigned g);

#define GROUP_TILE_(R)                                                                             \
    static void group_tile_##R(enum mu_dtype type, const uint8_t *group, const uint8_t *scales,    \
                               uint32_t first, uint32_t n, const char *x, size_t x_stride,         \
                               struct part *parts, unsigned g)                                     \
    {                                                                                              \
        group_tile(R, type, group, scales, first, n, x, x_stride, parts, g);                       \
    }

GROUP_TILE_(1)
GROUP_TILE_(2)
#if GROUP_ROWS > 2
GROUP_TILE_(3)
GROUP_TILE_(4)
GROUP_TILE_(6)
GROUP_TILE_(8)
#endif

/* Largest first, as float_tiles below. */
static const struct {
    uint32_t rows;
    group_tile_fn *run;
} group_tiles[] = {
#if GROUP_ROWS > 2
    {8, group_tile_8}, {6, group_tile_6}, {4, group_tile_4}, {3, group_tile_3},
#endif
    {2, group_tile_2}, {1, group_tile_1},
};

/* Cells of a type whose codes stand for numbers: 32 times 16 of them for each. */
SIMD void cells_to_numbers(const struct mu_lanes *l, const float *numbers, const uint8_t *group,
                           const uint8_t *scales, uint32_t first, uint32_t n, float *out)
{
    for (uint32_t c = first; c < first + n; c++) {
        const uint8_t *p = group + (size_t)c * mu_lanes_code_bytes(l);
        const uint8_t *super = scales + (size_t)(c / l->cells) * mu_lanes_super_bytes(l);
        vi code[8];
        cell_prefetch(l, p, super, c);
        cell_codes(l, p, code);
        vf d = vf_load((const float *)(const void *)super);
        UNROLL for (unsigned s = 0; s < 8; s++) UNROLL for (unsigned i = 0; i < 4; i++)
        {
            vi one = vi_and(vi_srl(code[s], 8 * i), vi_set1(255));
            vf number = numbers ? vf_lookup(numbers, one) : vf_from_e4m3(one);
            vf_store(out, vf_mul(d, number));
            out += MU_LANES;
        }
    }
}

static void group_numbers(enum mu_dtype type, const uint8_t *group, const uint8_t *scales,
                          uint32_t first, uint32_t n, float *out)
{
#define CASE_(name, bits, n_cells, numbers)                                                        \
    case MU_DTYPE_##name: {                                                                        \
        const struct mu_lanes l =                                                                  \
            MU_LANES_OF(bits, 0, 0, n_cells, MU_HEAD_F32, MU_SCALES_NONE, NULL);                   \
        cells_to_numbers(&l, numbers, group, scales, first, n, out);                               \
        break;                                                                                     \
    }
    switch ((int)type) {
        MU_NUMBERS_TABLE(CASE_)
    }
#undef CASE_
}

/* Cells of a type whose scales belong to columns: `group_of` begins at cell 0. */
SIMD void cells_to_columns(const struct mu_lanes *l, const uint8_t *group, const float *table,
                           const uint32_t *group_of, uint32_t first, uint32_t n, float *out)
{
    for (uint32_t c = first; c < first + n; c++) {
        const uint8_t *p = group + (size_t)c * mu_lanes_code_bytes(l);
        const uint32_t *column = group_of + (size_t)c * MU_CELL;
        vi code[8];
        cell_prefetch(l, p, p, c);
        cell_codes(l, p, code);
        UNROLL for (unsigned s = 0; s < 8; s++) UNROLL for (unsigned i = 0; i < 4; i++)
        {
            const float *at = table + (size_t)column[4 * s + i] * (2 * MU_LANES);
            vi one = vi_and(vi_srl(code[s], 8 * i), vi_set1(255));
            vf w = vf_from_int(vi_sub(one, vi_set1(l->offset)));
            vf_store(out, vf_sub(vf_mul(w, vf_load(at)), vf_load(at + MU_LANES)));
            out += MU_LANES;
        }
    }
}

static void group_columns(enum mu_dtype type, const uint8_t *group, const float *table,
                          const uint32_t *group_of, uint32_t first, uint32_t n, float *out)
{
#define CASE_(name, bits, offset)                                                                  \
    case MU_DTYPE_##name: {                                                                        \
        const struct mu_lanes l =                                                                  \
            MU_LANES_OF(bits, 0, offset, 1, MU_HEAD_NONE, MU_SCALES_NONE, NULL);                   \
        cells_to_columns(&l, group, table, group_of, first, n, out);                               \
        break;                                                                                     \
    }
    switch ((int)type) {
        MU_COLUMNS_TABLE(CASE_)
    }
#undef CASE_
}

/* R rows, GROUPS groups, n cells of a panel: adds to `parts`. */
SIMD void int_tile(const unsigned R, enum mu_cell_kind kind, const bool halves, int offset,
                   const struct mu_cell *panel, size_t group_stride, uint32_t n, const char *x,
                   size_t x_stride, struct part *parts, unsigned group)
{
    vf sum[INT_ROWS][GROUPS];
    const unsigned runs = halves ? 2 : 1, steps = halves ? 4 : 8;
    UNROLL for (unsigned r = 0; r < R; r++) UNROLL for (unsigned g = 0; g < GROUPS; g++) sum[r][g] =
        vf_load(parts[r].sum + MU_LANES * (group + g));
    for (uint32_t c = 0; c < n; c++, x += sizeof(struct q8_block)) {
        UNROLL for (unsigned h = 0; h < runs; h++)
        {
            vi dot[INT_ROWS][GROUPS];
            UNROLL for (unsigned r = 0; r < R; r++) UNROLL for (unsigned g = 0; g < GROUPS; g++)
                dot[r][g] = sum_start(kind, offset, minus_sum(q8_at(x, r, x_stride), halves, h));
            UNROLL for (unsigned s = h * steps; s < (h + 1) * steps; s++)
            {
                vi w[GROUPS];
                UNROLL for (unsigned g = 0; g < GROUPS; g++) w[g] =
                    vi_load(panel[g * group_stride + c].code[s]);
                UNROLL for (unsigned r = 0; r < R; r++)
                {
                    vi b = broadcast_4(q8_at(x, r, x_stride)->code + 4 * s);
                    UNROLL for (unsigned g = 0; g < GROUPS; g++) dot[r][g] =
                        vi_dot(dot[r][g], w[g], b, mu_cell_wide(kind));
                }
            }
            bool tops = false;
            UNROLL for (unsigned r = 0; r < R; r++) tops |=
                top_there(q8_at(x, r, x_stride), halves, h);
            if (tops) /* all rows or none: for those without, it adds 0 */
                UNROLL for (unsigned r = 0; r < R; r++)
                {
                    const struct q8_block *b = q8_at(x, r, x_stride);
                    const int8_t *top = b->top[halves ? h : b->step / 4];
                    UNROLL for (unsigned g = 0; g < GROUPS; g++) dot[r][g] = top_add(
                        kind, vi_load(panel[g * group_stride + c].code[b->step]), top, dot[r][g]);
                }
            UNROLL for (unsigned g = 0; g < GROUPS; g++)
            {
                const struct mu_cell *cell = &panel[g * group_stride + c];
                vf scale = vf_load(cell->scale[h]), min = vf_load(cell->min[h]);
                UNROLL for (unsigned r = 0; r < R; r++)
                {
                    const struct q8_block *b = q8_at(x, r, x_stride);
                    sum[r][g] = cell_add(kind, dot[r][g], scale, min, minus_sum(b, halves, h),
                                         b->scale, sum[r][g]);
                }
            }
        }
    }
    UNROLL for (unsigned r = 0; r < R; r++) UNROLL for (unsigned g = 0; g < GROUPS; g++)
        vf_store(parts[r].sum + MU_LANES * (group + g), sum[r][g]);
}

typedef void int_tile_fn(int offset, const struct mu_cell *panel, size_t group_stride, uint32_t n,
                         const char *x, size_t x_stride, struct part *parts, unsigned group);

#define INT_TILE_(R, kind, halves)                                                                 \
    static void int_tile_##R##_##kind##_##halves(                                                  \
        int offset, const struct mu_cell *panel, size_t group_stride, uint32_t n, const char *x,   \
        size_t x_stride, struct part *parts, unsigned group)                                       \
    {                                                                                              \
        int_tile(R, MU_CELL_##kind, halves, offset, panel, group_stride, n, x, x_stride, parts,    \
                 group);                                                                           \
    }
#define INT_TILES_(R)                                                                              \
    INT_TILE_(R, NARROW, 0)                                                                        \
    INT_TILE_(R, NARROW, 1)                                                                        \
    INT_TILE_(R, WIDE, 0)                                                                          \
    INT_TILE_(R, WIDE, 1)                                                                          \
    INT_TILE_(R, MIN, 0) INT_TILE_(R, MIN, 1) INT_TILE_(R, WIDE_MIN, 0)
#define INT_ROW_(R)                                                                                \
    {                                                                                              \
        {int_tile_##R##_NARROW_0, int_tile_##R##_NARROW_1},                                        \
            {int_tile_##R##_WIDE_0, int_tile_##R##_WIDE_1},                                        \
            {int_tile_##R##_MIN_0, int_tile_##R##_MIN_1},                                          \
        {                                                                                          \
            int_tile_##R##_WIDE_MIN_0, NULL                                                        \
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

static int_tile_fn *const int_tiles[INT_ROWS][MU_CELL_KINDS][2] = {
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
