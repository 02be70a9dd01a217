/*
 * How the CPU families pack weights; all of them share it. docs/internals/kernels.md has pictures.
 *
 * Sixteen outputs are a group, and the group's codes are interleaved: a 64-byte vector has sixteen
 * lanes, one an output, with four consecutive columns in a lane. 32 columns of a group are a cell:
 * eight such vectors ("steps") when codes take 8 bits. Narrower codes lie in bit planes, several
 * steps in a vector. Scales lie apart from the codes, so that both are read in order.
 *
 *     group:  codes of cell 0 | cell 1 | ... | scales of super-block 0 | 1 | ...
 */
#ifndef MU_KERNEL_CPU_INT_H
#define MU_KERNEL_CPU_INT_H

#include "kernel/kernel_int.h"

#define MU_LANES     16 /* outputs in a group */
#define MU_ROW_TILE  32 /* outputs worked on together: two groups */
#define MU_CELL      32 /* columns in a cell, values in a block of activations */
#define MU_CELL_STEP 4  /* columns in a lane of one vector */

/* Scales that every output has per super-block. */
enum mu_head {
    MU_HEAD_F16,       /* d */
    MU_HEAD_F16_MIN,   /* d, and dmin after it */
    MU_HEAD_E8M0,      /* an exponent in a byte */
    MU_HEAD_NONE,      /* scales lie apart: see struct mu_columns */
    MU_HEAD_F32,       /* d */
    MU_HEAD_F32_ZERO8, /* d, and after it the code of zero in 8 or in 16 bits */
    MU_HEAD_F32_ZERO16
};

/* Scales that every output has per cell, in bytes that multiply those of the head. */
enum mu_scales {
    MU_SCALES_NONE,
    MU_SCALES_32,        /* int8 */
    MU_SCALES_32_MIN,    /* uint8 scale, uint8 minimum */
    MU_SCALES_16,        /* int8 for either half of the cell */
    MU_SCALES_16_NIBBLES /* for either half a byte: scale low, minimum high */
};

/* The packed form of a type. Codes are `low` + `high` bits wide, and stored plus `offset`, or they
 * are indices into `table`, which gives codes plus `offset`. */
struct mu_lanes {
    uint8_t low, high, offset, cells; /* cells: in a super-block */
    enum mu_head head;
    enum mu_scales scales;
    const int8_t *table;
};

/* X(type, low, high, offset, cells, head, scales, table) */
#define MU_LANES_TABLE(X)                                                                          \
    X(Q8_0, 8, 0, 128, 1, MU_HEAD_F16, MU_SCALES_NONE, NULL)                                       \
    X(Q4_0, 4, 0, 8, 1, MU_HEAD_F16, MU_SCALES_NONE, NULL)                                         \
    X(Q4_1, 4, 0, 0, 1, MU_HEAD_F16_MIN, MU_SCALES_NONE, NULL)                                     \
    X(Q5_0, 4, 1, 16, 1, MU_HEAD_F16, MU_SCALES_NONE, NULL)                                        \
    X(Q5_1, 4, 1, 0, 1, MU_HEAD_F16_MIN, MU_SCALES_NONE, NULL)                                     \
    X(Q2_K, 2, 0, 0, 8, MU_HEAD_F16_MIN, MU_SCALES_16_NIBBLES, NULL)                               \
    X(Q3_K, 2, 1, 4, 8, MU_HEAD_F16, MU_SCALES_16, NULL)                                           \
    X(Q4_K, 4, 0, 0, 8, MU_HEAD_F16_MIN, MU_SCALES_32_MIN, NULL)                                   \
    X(Q5_K, 4, 1, 0, 8, MU_HEAD_F16_MIN, MU_SCALES_32_MIN, NULL)                                   \
    X(Q6_K, 4, 2, 32, 8, MU_HEAD_F16, MU_SCALES_16, NULL)                                          \
    X(IQ4_NL, 4, 0, 128, 1, MU_HEAD_F16, MU_SCALES_NONE, mu_codes_iq4)                             \
    X(IQ4_XS, 4, 0, 128, 8, MU_HEAD_F16, MU_SCALES_32, mu_codes_iq4)                               \
    X(MXFP4, 4, 0, 128, 1, MU_HEAD_E8M0, MU_SCALES_NONE, mu_codes_fp4)                             \
    X(TQ2_0, 2, 0, 1, 8, MU_HEAD_F16, MU_SCALES_NONE, NULL)                                        \
    X(Q4Z, 4, 0, 0, 1, MU_HEAD_F32_ZERO8, MU_SCALES_NONE, NULL)                                    \
    X(Q4Z_128, 4, 0, 0, 4, MU_HEAD_F32_ZERO8, MU_SCALES_NONE, NULL)                                \
    X(Q8Z, 8, 0, 128, 1, MU_HEAD_F32_ZERO16, MU_SCALES_NONE, NULL)                                 \
    X(Q8Z_128, 8, 0, 128, 4, MU_HEAD_F32_ZERO16, MU_SCALES_NONE, NULL)

/* The types whose codes stand for numbers, and with a table for codes of 4 bits; with one scale.
 * X(type, bits, cells, numbers) */
#define MU_NUMBERS_TABLE(X)                                                                        \
    X(NF4, 4, 2, mu_nf4_values)                                                                    \
    X(FP4, 4, 2, mu_fp4_values)                                                                    \
    X(E4M3, 8, 1, NULL)                                                                            \
    X(E4M3_128, 8, 4, NULL)

/* X(type, bits, offset) */
#define MU_COLUMNS_TABLE(X)                                                                        \
    X(Q4G, 4, 0)                                                                                   \
    X(Q8G, 8, 128)

#define MU_LANES_OF(low, high, offset, cells, head, scales, table)                                 \
    ((const struct mu_lanes){low, high, offset, cells, head, scales, table})

static inline uint32_t mu_lanes_code_bytes(const struct mu_lanes *l)
{
    return 64u * (l->low + l->high);
}

static inline uint32_t mu_lanes_head_bytes(const struct mu_lanes *l)
{
    switch (l->head) {
    case MU_HEAD_F16:
        return MU_LANES * 2;
    case MU_HEAD_E8M0:
        return MU_LANES * 1;
    case MU_HEAD_NONE:
        return 0;
    case MU_HEAD_F16_MIN:
    case MU_HEAD_F32:
        return MU_LANES * 4;
    case MU_HEAD_F32_ZERO8:
        return MU_LANES * 5;
    case MU_HEAD_F32_ZERO16:
        return MU_LANES * 6;
    }
    return 0;
}

static inline uint32_t mu_lanes_scale_bytes(const struct mu_lanes *l)
{
    return MU_LANES * (l->scales == MU_SCALES_NONE ? 0u : l->scales == MU_SCALES_32 ? 1u : 2u);
}

static inline uint32_t mu_lanes_super_bytes(const struct mu_lanes *l)
{
    return mu_lanes_head_bytes(l) + l->cells * mu_lanes_scale_bytes(l);
}

/* How the sum over a cell's codes is corrected. */
enum mu_cell_kind {
    MU_CELL_NARROW, /* unsigned codes below 64 with an offset */
    MU_CELL_WIDE,   /* unsigned codes of 8 bits with the offset 128 */
    MU_CELL_MIN,    /* unsigned codes below 64 without offset, and a minimum */
    MU_CELL_WIDE_MIN,
    MU_CELL_KINDS
};

static inline bool mu_cell_wide(enum mu_cell_kind kind)
{
    return kind == MU_CELL_WIDE || kind == MU_CELL_WIDE_MIN;
}

static inline bool mu_cell_min(enum mu_cell_kind kind)
{
    return kind == MU_CELL_MIN || kind == MU_CELL_WIDE_MIN;
}

static inline enum mu_cell_kind mu_lanes_kind(const struct mu_lanes *l)
{
    bool min =
        l->head == MU_HEAD_F16_MIN || l->head == MU_HEAD_F32_ZERO8 || l->head == MU_HEAD_F32_ZERO16;
    if (l->offset == 128) return min ? MU_CELL_WIDE_MIN : MU_CELL_WIDE;
    return min ? MU_CELL_MIN : MU_CELL_NARROW;
}

static inline bool mu_lanes_halves(const struct mu_lanes *l)
{
    return l->scales == MU_SCALES_16 || l->scales == MU_SCALES_16_NIBBLES;
}

/* A cell widened: the form that all types share when several activation rows use it. */
struct mu_cell {
    uint8_t code[8][64];
    float scale[2][MU_LANES], min[2][MU_LANES]; /* of the halves; only [0] when they are equal */
};

/* What panels of a type look like. */
struct mu_cell_form {
    enum mu_cell_kind kind;
    bool halves; /* a scale for each 16 columns */
    int offset;
};

/* Where the parts of a packed weight are. */
struct mu_packed {
    bool lanes;            /* false: stored rows as they are, or plain numbers */
    uint32_t skip;         /* columns kept before the slice's first */
    uint32_t cells;        /* of a group, of the kept columns */
    uint64_t group_bytes;  /* of 16 outputs */
    uint64_t scale_offset; /* in a group */
};

bool mu_cpu_lanes(enum mu_dtype type, struct mu_lanes *lanes);
struct mu_cell_form mu_cpu_cell_form(enum mu_dtype type);
struct mu_packed mu_cpu_packed(enum mu_dtype type, uint32_t col_first, uint32_t cols);
uint64_t mu_cpu_weight_bytes(enum mu_dtype type, enum mu_form form, uint32_t rows,
                             uint32_t col_first, uint32_t cols);
void mu_cpu_weight_pack(struct mu_weight *w, uint32_t first, uint32_t n,
                        const uint8_t *const *stored);
void mu_cpu_weight_row(const struct mu_weight *w, uint32_t row, float *out);
/* Scales of a group of a weight with columns, and after every sixteen their minima: [group of
 * columns][2][16]. */
const float *mu_cpu_table(const struct mu_weight *w, const struct mu_packed *packed,
                          uint32_t group);
/* Cells [first, first + n) of a group whose rows are kept as stored. */
void mu_cpu_cells_from_stored(const struct mu_weight *w, const struct mu_packed *packed,
                              uint32_t group, uint32_t first, uint32_t n, struct mu_cell *out);

extern const struct mu_kernels mu_kernels_avx512, mu_kernels_avx512_bf16, mu_kernels_avx2;

#endif
