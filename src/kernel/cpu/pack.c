/*
 * Packing weights into lanes; see cpu_int.h for the layout. Plain C, shared by the CPU families,
 * run while a model loads. Any thread, with its own outputs.
 */
#include "kernel/cpu/cpu_int.h"

#define LANES_(name, ...) [MU_DTYPE_##name] = {true, {__VA_ARGS__}},
#define NUMBERS_(name, bits, cells, numbers)                                                       \
    LANES_(name, bits, 0, 0, cells, MU_HEAD_F32, MU_SCALES_NONE, NULL)
#define COLUMNS_(name, bits, offset)                                                               \
    LANES_(name, bits, 0, offset, 1, MU_HEAD_NONE, MU_SCALES_NONE, NULL)
static const struct {
    bool known;
    struct mu_lanes lanes;
} packings[MU_DTYPE_COUNT] = {MU_LANES_TABLE(LANES_) MU_NUMBERS_TABLE(NUMBERS_)
                                  MU_COLUMNS_TABLE(COLUMNS_)};
#undef COLUMNS_
#undef NUMBERS_
#undef LANES_

bool mu_cpu_lanes(enum mu_dtype type, struct mu_lanes *lanes)
{
    *lanes = packings[type].lanes;
    return packings[type].known;
}

struct mu_cell_form mu_cpu_cell_form(enum mu_dtype type)
{
    struct mu_lanes l;
    if (!mu_cpu_lanes(type, &l))
        return (struct mu_cell_form){.kind = MU_CELL_WIDE, .halves = true, .offset = 128};
    return (struct mu_cell_form){
        .kind = mu_lanes_kind(&l), .halves = mu_lanes_halves(&l), .offset = l.offset};
}

static bool is_plain(enum mu_dtype type)
{
    return mu_coding(type) == MU_CODING_PLAIN;
}

struct mu_packed mu_cpu_packed(enum mu_dtype type, uint32_t col_first, uint32_t cols)
{
    const struct mu_dtype_info *info = mu_dtype(type);
    struct mu_packed p = {.skip = col_first % info->block_values};
    struct mu_lanes l;
    uint32_t kept = MU_ROUND_UP(p.skip + cols, info->block_values);
    p.cells = MU_CEIL_DIV(kept, MU_CELL);
    p.lanes = mu_cpu_lanes(type, &l);
    if (p.lanes) {
        p.scale_offset = (uint64_t)p.cells * mu_lanes_code_bytes(&l);
        p.group_bytes = p.scale_offset + p.cells / l.cells * mu_lanes_super_bytes(&l);
    } else if (is_plain(type)) { /* bfloat16 goes by pairs of columns */
        p.group_bytes = (uint64_t)MU_ROUND_UP(cols, 2u) * MU_LANES * info->block_bytes;
    } else {
        p.group_bytes = (uint64_t)(kept / info->block_values) * info->block_bytes * MU_LANES;
    }
    p.group_bytes = MU_ROUND_UP(p.group_bytes, (uint64_t)64);
    return p;
}

uint64_t mu_cpu_weight_bytes(enum mu_dtype type, enum mu_form form, uint32_t rows,
                             uint32_t col_first, uint32_t cols)
{
    (void)form; /* one layout serves all forms */
    return MU_CEIL_DIV((uint64_t)rows, MU_ROW_TILE) * (MU_ROW_TILE / MU_LANES) *
           mu_cpu_packed(type, col_first, cols).group_bytes;
}

/* Step s of `bits`-bit codes lies in vector s % bits at bit s / bits * bits of every byte: 8 bits
 * take eight vectors, 1 bit takes one. `code` are eight steps of four codes of one output, byte by
 * byte, of which the bits from `shift` on are put. */
static inline void planes_put_bits(uint8_t *planes, unsigned bits, unsigned lane,
                                   const uint32_t code[8], unsigned shift)
{
    uint32_t mask = 0x01010101u * ((1u << bits) - 1);
    for (unsigned plane = 0; plane < bits; plane++) {
        uint32_t word = 0;
        for (unsigned s = plane; s < 8; s += bits)
            word |= (code[s] >> shift & mask) << (s - plane);
        memcpy(planes + 64 * plane + 4 * lane, &word, sizeof word);
    }
}

/* A known number of bits lets the compiler unroll it. */
static void planes_put(uint8_t *planes, unsigned bits, unsigned lane, const uint32_t code[8],
                       unsigned shift)
{
    switch (bits) {
    case 1:
        planes_put_bits(planes, 1, lane, code, shift);
        break;
    case 2:
        planes_put_bits(planes, 2, lane, code, shift);
        break;
    case 4:
        planes_put_bits(planes, 4, lane, code, shift);
        break;
    case 8:
        planes_put_bits(planes, 8, lane, code, shift);
        break;
    }
}

static void cell_pack(const struct mu_lanes *l, uint8_t *codes, unsigned lane,
                      const uint8_t *unsigned_codes)
{
    uint32_t code[8];
    memcpy(code, unsigned_codes, sizeof code);
    planes_put(codes, l->low, lane, code, 0);
    if (l->high) planes_put(codes + 64 * l->low, l->high, lane, code, l->low);
}

/* Codes as the planes hold them: with the offset, or as indices of the table. */
static void codes_unsigned(const struct mu_lanes *l, const int8_t *code, unsigned n, uint8_t *out)
{
    uint8_t index[256];
    if (!l->table) {
        for (unsigned i = 0; i < n; i++)
            out[i] = (uint8_t)(code[i] + l->offset);
        return;
    }
    for (unsigned i = 16; i-- > 0;)
        index[(uint8_t)l->table[i]] = (uint8_t)i;
    for (unsigned i = 0; i < n; i++)
        out[i] = index[(uint8_t)code[i]];
}

static void scales_pack(const struct mu_lanes *l, uint8_t *super, unsigned lane,
                        const uint8_t *block, const struct mu_parts *p)
{
    uint16_t d = mu_f32_to_f16(p->d), dmin = mu_f32_to_f16(p->dmin);
    switch (l->head) {
    case MU_HEAD_E8M0:
        super[lane] = block[0];
        break;
    case MU_HEAD_F16_MIN:
        memcpy(super + 2 * MU_LANES + 2 * lane, &dmin, 2);
        memcpy(super + 2 * lane, &d, 2);
        break;
    case MU_HEAD_F16:
        memcpy(super + 2 * lane, &d, 2);
        break;
    case MU_HEAD_F32_ZERO16:
        memcpy(super + 4 * MU_LANES + 2 * lane, block + 4, 2);
        memcpy(super + 4 * lane, block, 4);
        break;
    case MU_HEAD_F32_ZERO8:
        super[4 * MU_LANES + lane] = block[4];
        memcpy(super + 4 * lane, block, 4);
        break;
    case MU_HEAD_F32:
        memcpy(super + 4 * lane, block, 4);
        break;
    case MU_HEAD_NONE:
        break;
    }
    uint8_t *at = super + mu_lanes_head_bytes(l) + lane;
    for (unsigned c = 0; c < l->cells; c++, at += mu_lanes_scale_bytes(l)) {
        const uint8_t *m = p->m + 2 * c;
        const int8_t *sc = p->sc + 2 * c;
        switch (l->scales) {
        case MU_SCALES_NONE:
            break;
        case MU_SCALES_32:
            at[0] = (uint8_t)sc[0];
            break;
        case MU_SCALES_32_MIN:
            at[0] = (uint8_t)sc[0];
            at[MU_LANES] = m[0];
            break;
        case MU_SCALES_16:
            at[0] = (uint8_t)sc[0];
            at[MU_LANES] = (uint8_t)sc[1];
            break;
        case MU_SCALES_16_NIBBLES:
            at[0] = (uint8_t)(sc[0] | m[0] << 4);
            at[MU_LANES] = (uint8_t)(sc[1] | m[1] << 4);
            break;
        }
    }
}

static void row_pack_lanes(const struct mu_weight *w, const struct mu_packed *packed,
                           const struct mu_lanes *l, uint8_t *group, unsigned lane,
                           const uint8_t *stored)
{
    const struct mu_dtype_info *info = mu_dtype(w->type);
    const uint8_t *block = stored + (size_t)(w->col_first / info->block_values) * info->block_bytes;
    uint8_t *super = group + packed->scale_offset;
    for (uint32_t c = 0; c < packed->cells; c += l->cells, block += info->block_bytes) {
        struct mu_parts parts;
        uint8_t codes[MU_PARTS_MAX];
        mu_parts_split(w->type, block, &parts);
        codes_unsigned(l, parts.code, info->block_values, codes);
        for (uint32_t i = 0; i < l->cells; i++)
            cell_pack(l, group + (size_t)(c + i) * mu_lanes_code_bytes(l), lane,
                      codes + MU_CELL * i);
        scales_pack(l, super, lane, block, &parts);
        super += mu_lanes_super_bytes(l);
    }
}

/* At once: what they take stays in the first cache until all sixteen outputs have written to it. */
#define STRAIGHT_CELLS 16u

/* Blocks whose stored codes are the planes' words already, `at` bytes behind their beginning, but
 * for bits to flip: packing them is moving words about, as fast as memory. */
struct straight {
    uint8_t at;
    uint32_t flip;
};
static const struct straight straights[MU_DTYPE_COUNT] = {
    [MU_DTYPE_Q8_0] = {2, 0x80808080}, [MU_DTYPE_Q4_0] = {2, 0},  [MU_DTYPE_Q4_1] = {4, 0},
    [MU_DTYPE_IQ4_NL] = {2, 0},        [MU_DTYPE_MXFP4] = {1, 0},
};

/* A known number of words lets the compiler unroll it. */
static inline void words_put(uint8_t *codes, unsigned n, unsigned lane, const uint8_t *stored,
                             uint32_t flip)
{
    for (unsigned s = 0; s < n; s++) {
        uint32_t word = mu_get32(stored + 4 * s) ^ flip;
        memcpy(codes + 64 * s + 4 * lane, &word, sizeof word);
    }
}

static void head_put(const struct mu_lanes *l, uint8_t *super, unsigned lane, const uint8_t *block)
{
    if (l->head == MU_HEAD_E8M0) {
        super[lane] = block[0];
        return;
    }
    memcpy(super + 2 * lane, block, 2);
    if (l->head != MU_HEAD_F16_MIN) return;
    uint16_t dmin = mu_get16(block + 2) ^ 0x8000; /* what is stored is added, dmin taken away */
    memcpy(super + 2 * MU_LANES + 2 * lane, &dmin, sizeof dmin);
}

static void group_pack_straight(const struct mu_weight *w, const struct mu_packed *packed,
                                const struct mu_lanes *l, uint8_t *group, unsigned n,
                                const uint8_t *const *stored)
{
    const struct straight *straight = &straights[w->type];
    const size_t block_bytes = mu_dtype(w->type)->block_bytes;
    const size_t begin = w->col_first / MU_CELL * block_bytes;
    for (uint32_t first = 0; first < packed->cells; first += STRAIGHT_CELLS)
        for (unsigned i = 0; i < n; i++)
            for (uint32_t c = first; c < MU_MIN(first + STRAIGHT_CELLS, packed->cells); c++) {
                const uint8_t *block = stored[i] + begin + c * block_bytes;
                uint8_t *codes = group + (size_t)c * mu_lanes_code_bytes(l);
                if (l->low == 8)
                    words_put(codes, 8, i, block + straight->at, straight->flip);
                else
                    words_put(codes, 4, i, block + straight->at, straight->flip);
                head_put(l, group + packed->scale_offset + (size_t)c * mu_lanes_super_bytes(l), i,
                         block);
            }
}

/* Words of 2 or 4 bytes: word k of output i to place i of line k. A few lines at a time, so that
 * they stay in the first cache until all sixteen outputs have written to them. */
#define TRANSPOSE_(name, word)                                                                     \
    static void name(uint8_t *group, unsigned n_rows, const uint8_t *const *rows, size_t n_words)  \
    {                                                                                              \
        for (size_t first = 0; first < n_words; first += 64)                                       \
            for (unsigned i = 0; i < n_rows; i++)                                                  \
                for (size_t k = first; k < MU_MIN(first + 64, n_words); k++) {                     \
                    word x;                                                                        \
                    memcpy(&x, rows[i] + k * sizeof x, sizeof x);                                  \
                    memcpy(group + (k * MU_LANES + i) * sizeof x, &x, sizeof x);                   \
                }                                                                                  \
    }
TRANSPOSE_(transpose_16, uint16_t)
TRANSPOSE_(transpose_32, uint32_t)
#undef TRANSPOSE_

/* Plain numbers: column by column, sixteen outputs side by side; bfloat16 by pairs of columns. */
static void group_pack_plain(const struct mu_weight *w, uint8_t *group, unsigned n,
                             const uint8_t *const *stored)
{
    size_t size = mu_dtype(w->type)->block_bytes;
    const uint8_t *rows[MU_LANES];
    for (unsigned i = 0; i < n; i++)
        rows[i] = stored[i] + w->col_first * size;
    if (w->type == MU_DTYPE_F16) {
        transpose_16(group, n, rows, w->cols);
    } else {
        transpose_32(group, n, rows, w->cols * size / 4);
        if (w->cols * size % 4) /* the last bfloat16 has no partner */
            for (unsigned i = 0; i < n; i++)
                memcpy(group + ((size_t)w->cols / 2 * MU_LANES + i) * 4,
                       rows[i] + (w->cols - 1) * size, size);
    }
}

static void group_pack(const struct mu_weight *w, const struct mu_packed *packed, uint8_t *group,
                       unsigned n, const uint8_t *const *stored)
{
    struct mu_lanes l;
    memset(group, 0, packed->group_bytes);
    if (straights[w->type].at) {
        (void)mu_cpu_lanes(w->type, &l);
        group_pack_straight(w, packed, &l, group, n, stored);
    } else if (mu_cpu_lanes(w->type, &l)) {
        for (unsigned i = 0; i < n; i++)
            row_pack_lanes(w, packed, &l, group, i, stored[i]);
    } else if (is_plain(w->type)) {
        group_pack_plain(w, group, n, stored);
    } else {
        const struct mu_dtype_info *info = mu_dtype(w->type);
        size_t first = (size_t)(w->col_first / info->block_values) * info->block_bytes;
        size_t bytes = (size_t)(packed->cells * MU_CELL / info->block_values) * info->block_bytes;
        for (unsigned i = 0; i < n; i++)
            memcpy(group + i * bytes, stored[i] + first, bytes);
    }
}

const float *mu_cpu_table(const struct mu_weight *w, const struct mu_packed *packed, uint32_t group)
{
    uint64_t groups = MU_CEIL_DIV(w->rows, MU_ROW_TILE) * (MU_ROW_TILE / MU_LANES);
    const char *tables = (const char *)w->data + groups * packed->group_bytes;
    return (const float *)(const void *)tables +
           (uint64_t)group * w->columns->n_groups * (2 * MU_LANES);
}

static void table_pack(const struct mu_weight *w, const struct mu_packed *packed, uint32_t group,
                       unsigned n, const uint8_t *const *stored)
{
    const uint32_t n_groups = w->columns->n_groups;
    float *table = (float *)(uintptr_t)mu_cpu_table(w, packed, group);
    uint64_t codes = 0;
    memset(table, 0, (size_t)n_groups * 2 * MU_LANES * sizeof *table);
    for (unsigned i = 0; i < n && mu_dtype_bytes(w->type, w->columns->n, &codes); i++)
        for (size_t g = 0; g < 2 * (size_t)n_groups; g++)
            memcpy(&table[g * MU_LANES + i], stored[i] + codes + 4 * g, 4);
}

void mu_cpu_weight_pack(struct mu_weight *w, uint32_t first, uint32_t n,
                        const uint8_t *const *stored)
{
    struct mu_packed packed = mu_cpu_packed(w->type, w->col_first, w->cols);
    uint32_t end = first + n == w->rows ? MU_ROUND_UP(w->rows, MU_ROW_TILE) : first + n;
    for (uint32_t row = first; row < end; row += MU_LANES) {
        uint8_t *group = (uint8_t *)w->data + row / MU_LANES * packed.group_bytes;
        uint32_t left = row < first + n ? first + n - row : 0;
        unsigned n_rows = MU_MIN(left, (uint32_t)MU_LANES);
        const uint8_t *const *from = left ? stored + (row - first) : stored;
        group_pack(w, &packed, group, n_rows, from);
        if (w->columns) table_pack(w, &packed, row / MU_LANES, n_rows, from);
    }
}

/* The inverse of planes_put, for one step. */
static uint32_t plane_get(const uint8_t *plane, unsigned bits, unsigned s, unsigned lane)
{
    uint32_t mask = 0x01010101u * ((1u << bits) - 1);
    return mu_get32(plane + 64 * (s % bits) + 4 * lane) >> (s / bits * bits) & mask;
}

/* One cell of a lane as 32 codes. */
static void cell_unpack(const struct mu_lanes *l, const uint8_t *codes, unsigned lane, int8_t *out)
{
    for (unsigned s = 0; s < 8; s++) {
        uint32_t code = plane_get(codes, l->low, s, lane);
        if (l->high) code |= plane_get(codes + 64 * l->low, l->high, s, lane) << l->low;
        for (unsigned i = 0; i < MU_CELL_STEP; i++) {
            uint8_t c = (uint8_t)(code >> (8 * i));
            out[4 * s + i] = l->table ? l->table[c] : (int8_t)(c - l->offset);
        }
    }
}

static void head_unpack(const struct mu_lanes *l, const uint8_t *super, unsigned lane,
                        struct mu_parts *p)
{
    const uint8_t *after = super + 4 * MU_LANES; /* what follows an fp32 scale */
    uint32_t e = super[lane];                    /* 2^(e - 128): these types' codes are doubled */
    p->dmin = 0;
    switch (l->head) {
    case MU_HEAD_E8M0:
        p->d = mu_f32_from_bits(e < 2 ? 0x00200000u << e : (e - 1) << 23);
        return;
    case MU_HEAD_F16_MIN:
        p->dmin = mu_get_f16(super + 2 * MU_LANES + 2 * lane);
        p->d = mu_get_f16(super + 2 * lane);
        return;
    case MU_HEAD_F16:
        p->d = mu_get_f16(super + 2 * lane);
        return;
    case MU_HEAD_NONE:
        p->d = 1;
        return;
    case MU_HEAD_F32_ZERO16:
    case MU_HEAD_F32_ZERO8:
    case MU_HEAD_F32:
        break;
    }
    int zero = l->head == MU_HEAD_F32_ZERO16 ? (int16_t)mu_get16(after + 2 * lane) : after[lane];
    p->d = mu_f32_from_bits(mu_get32(super + 4 * lane));
    if (l->head != MU_HEAD_F32) p->dmin = p->d * (float)(zero - l->offset);
}

/* The scales of one lane and super-block, as mu_parts has them. */
static void scales_unpack(const struct mu_lanes *l, const uint8_t *super, unsigned lane,
                          struct mu_parts *p)
{
    head_unpack(l, super, lane, p);
    const uint8_t *at = super + mu_lanes_head_bytes(l) + lane;
    for (unsigned c = 0; c < l->cells; c++, at += mu_lanes_scale_bytes(l))
        for (unsigned half = 0; half < 2; half++) {
            int8_t *sc = &p->sc[2 * c + half];
            uint8_t *m = &p->m[2 * c + half];
            *sc = 1;
            *m = 1;
            switch (l->scales) {
            case MU_SCALES_NONE:
                break;
            case MU_SCALES_32_MIN:
                *m = at[MU_LANES];
                *sc = (int8_t)at[0];
                break;
            case MU_SCALES_32:
                *sc = (int8_t)at[0];
                break;
            case MU_SCALES_16:
                *sc = (int8_t)at[half * MU_LANES];
                break;
            case MU_SCALES_16_NIBBLES:
                *sc = (int8_t)(at[half * MU_LANES] & 15);
                *m = at[half * MU_LANES] >> 4;
                break;
            }
        }
}

static void row_unpack_lanes(enum mu_dtype type, const struct mu_packed *packed,
                             const struct mu_lanes *l, const uint8_t *group, unsigned lane,
                             float *out)
{
    const uint8_t *super = group + packed->scale_offset;
    for (uint32_t c = 0; c < packed->cells; c += l->cells, super += mu_lanes_super_bytes(l)) {
        struct mu_parts p;
        scales_unpack(l, super, lane, &p);
        for (uint32_t i = 0; i < l->cells; i++)
            cell_unpack(l, group + (size_t)(c + i) * mu_lanes_code_bytes(l), lane,
                        p.code + MU_CELL * i);
        mu_parts_values(type, &p, l->cells * MU_CELL, out + MU_CELL * c);
    }
}

static void row_unpack_columns(const struct mu_weight *w, const struct mu_packed *packed,
                               uint32_t row, float *out)
{
    const float *table = mu_cpu_table(w, packed, row / MU_LANES) + row % MU_LANES;
    for (uint32_t k = 0; k < w->cols; k++) {
        const float *at = table + (size_t)w->columns->group_of[k] * (2 * MU_LANES);
        out[k] = out[k] * at[0] - at[MU_LANES];
    }
}

void mu_cpu_weight_row(const struct mu_weight *w, uint32_t row, float *out)
{
    const struct mu_dtype_info *info = mu_dtype(w->type);
    struct mu_packed packed = mu_cpu_packed(w->type, w->col_first, w->cols);
    const uint8_t *group = (const uint8_t *)w->data + row / MU_LANES * packed.group_bytes;
    unsigned lane = row % MU_LANES;
    struct mu_lanes l;
    if (mu_cpu_lanes(w->type, &l)) {
        row_unpack_lanes(w->type, &packed, &l, group, lane, out);
        if (w->columns) row_unpack_columns(w, &packed, row, out);
    } else if (is_plain(w->type)) {
        size_t size = info->block_bytes, pair = w->type == MU_DTYPE_BF16 ? 2 : 1;
        for (uint32_t k = 0; k < w->cols; k++)
            mu_codec_decode(w->type,
                            group + ((k / pair * MU_LANES + lane) * pair + k % pair) * size,
                            out + k, 1);
    } else {
        size_t bytes = (size_t)(packed.cells * MU_CELL / info->block_values) * info->block_bytes;
        mu_codec_decode(w->type, group + lane * bytes, out, w->cols);
    }
}

static void cell_from_parts(const struct mu_parts *p, unsigned cell, unsigned lane,
                            struct mu_cell *out)
{
    for (unsigned i = 0; i < MU_CELL; i++)
        out->code[i / 4][4 * lane + i % 4] = (uint8_t)(p->code[MU_CELL * cell + i] + 128);
    for (unsigned half = 0; half < 2; half++)
        out->scale[half][lane] = p->d * (float)p->sc[2 * cell + half];
}

void mu_cpu_cells_from_stored(const struct mu_weight *w, const struct mu_packed *packed,
                              uint32_t group, uint32_t first, uint32_t n, struct mu_cell *out)
{
    const struct mu_dtype_info *info = mu_dtype(w->type);
    uint32_t per_block = info->block_values / MU_CELL, end = first + n;
    size_t row_bytes = (size_t)packed->cells / per_block * info->block_bytes;
    const uint8_t *rows = (const uint8_t *)w->data + group * packed->group_bytes;
    for (unsigned lane = 0; lane < MU_LANES; lane++) {
        for (uint32_t c = first - first % per_block; c < end; c += per_block) {
            struct mu_parts parts;
            mu_parts_split(w->type,
                           rows + lane * row_bytes + (size_t)c / per_block * info->block_bytes,
                           &parts);
            for (uint32_t i = MU_MAX(c, first); i < MU_MIN(c + per_block, end); i++)
                cell_from_parts(&parts, i - c, lane, out + (i - first));
        }
    }
}
