/*
 * A matrix whose codes, scales and zero points lie in several stored tensors, presented as one
 * tensor of blocks. quantised.c finds and checks the parts while a model opens; quantised_rows.c
 * repacks them on demand. No other file knows these layouts; docs/internals/quantised.md has them.
 */
#ifndef MU_FORMAT_QUANTISED_H
#define MU_FORMAT_QUANTISED_H

#include "format/format_int.h"

/* Where the code of row o and column k is. */
enum mu_code_layout {
    MU_CODES_ROWS,      /* rows after each other, low bits first */
    MU_CODES_ROWS_HIGH, /* the same, high nibble first */
    MU_CODES_AWQ,       /* line k: 8 rows in a word, in an order of its own */
    MU_CODES_GPTQ       /* column o of a grid of words: a stream of bits, low first */
};

/* Where the code of zero for row o and group g is. */
enum mu_zero_layout {
    MU_ZERO_CONSTANT,
    MU_ZERO_AWQ,   /* line g, as the codes */
    MU_ZERO_GPTQ,  /* line g: a stream of bits over the rows */
    MU_ZERO_WORDS, /* column g of a grid of words: as many whole codes as fit each */
    MU_ZERO_BYTES  /* row o: a signed byte each */
};

/* Scales shared by rectangles of the matrix: value i = (o / rows) * row_step + g * group_step. */
struct mu_scale_grid {
    const uint8_t *data;
    enum mu_dtype type;
    uint64_t rows, row_step, group_step;
    float divisor; /* scales of bitsandbytes' int8 are 127 times too large */
};

/* bitsandbytes shares scales along the flattened matrix, and may keep them as codes. */
struct mu_flat_scales {
    uint64_t block; /* values that share a scale; 0: this is not in use */
    const uint8_t *codes;
    uint64_t nested_block;
    const uint8_t *nested; /* fp32; NULL: scales are in the grid's data */
    float map[256], offset;
};

struct mu_quantised {
    uint64_t rows, cols, stored_bytes;
    const uint8_t *codes;
    enum mu_code_layout layout;
    unsigned bits;
    uint8_t flip;         /* of every code: signed bytes become unsigned */
    uint64_t code_stride; /* codes in a row, or words in a line */
    /* What codes of 4 bits stand for, or that those of 8 are e4m3; neither: they are integers. */
    const float *numbers;
    bool e4m3;
    uint64_t group;           /* columns that share a scale */
    const uint32_t *group_of; /* of every column, where groups are not side by side */
    struct mu_scale_grid scale;
    struct mu_flat_scales *flat;
    enum mu_zero_layout zero_layout;
    const uint8_t *zeros;
    uint64_t zero_stride; /* in words; in bytes for MU_ZERO_BYTES */
    int zero;             /* the constant, or what is added */
};

/* Repacks rows [first, first + n) into blocks of a type, each row `row_bytes` after the last. */
void mu_quantised_rows(const struct mu_quantised *q, enum mu_dtype type, uint64_t row_bytes,
                       uint64_t first, uint64_t n, uint8_t *out);

#endif
