/*
 * Rows of a quantised matrix from its parts: codes of some rows and columns are unpacked into
 * bytes, whatever their layout, and packed again as blocks with the scale and zero of each. Pure;
 * any thread. Called while weights are loaded.
 *
 * Half of the layouts have neighbouring rows side by side in memory and columns far apart, so that
 * rows are made a tile at a time: each line of the cache that is fetched serves a tile.
 */
#include "format/quantised.h"

enum { TILE_ROWS = 64, TILE_COLS = 128 };

typedef uint8_t tile_row[TILE_COLS];

static uint32_t word_at(const uint8_t *words, uint64_t i)
{
    uint32_t word;
    memcpy(&word, words + 4 * i, sizeof word);
    return word;
}

static float float_at(const uint8_t *data, enum mu_dtype type, uint64_t i)
{
    uint16_t half;
    if (type == MU_DTYPE_F32) return mu_f32_from_bits(word_at(data, i));
    memcpy(&half, data + 2 * i, sizeof half);
    return type == MU_DTYPE_F16 ? mu_f16_to_f32(half) : mu_bf16_to_f32(half);
}

/* ---- Codes --------------------------------------------------------------------------------- */

/* Where AWQ's word keeps row o of its eight. */
static unsigned awq_shift(uint64_t o)
{
    static const uint8_t nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};
    return nibble[o % 8] * 4u;
}

static void codes_awq(const struct mu_quantised *q, uint64_t row, unsigned n, uint64_t col,
                      unsigned cols, tile_row *out)
{
    for (unsigned k = 0; k < cols; k++) {
        uint64_t line = (col + k) * q->code_stride;
        for (unsigned i = 0; i < n; i++)
            out[i][k] = word_at(q->codes, line + (row + i) / 8) >> awq_shift(row + i) & 15;
    }
}

/* 32 codes are as many words as a code has bits; a code may begin in one and end in the next. */
static void codes_gptq(const struct mu_quantised *q, uint64_t row, unsigned n, uint64_t col,
                       unsigned cols, tile_row *out)
{
    const unsigned bits = q->bits;
    for (unsigned first = 0; first < cols; first += 32) {
        unsigned m = MU_MIN(cols - first, 32u), words = MU_CEIL_DIV(m * bits, 32u);
        const uint64_t line = (col + first) / 32 * bits;
        for (unsigned i = 0; i < n; i++) {
            uint32_t word[9] = {0};
            for (unsigned w = 0; w < words; w++)
                word[w] = word_at(q->codes, (line + w) * q->code_stride + row + i);
            for (unsigned k = 0; k < m; k++) {
                unsigned at = k * bits;
                uint64_t both = word[at / 32] | (uint64_t)word[at / 32 + 1] << 32;
                out[i][first + k] = (uint8_t)(both >> at % 32 & ((1u << bits) - 1));
            }
        }
    }
}

static void codes_rows(const struct mu_quantised *q, uint64_t row, unsigned n, uint64_t col,
                       unsigned cols, tile_row *out)
{
    const unsigned high = q->layout == MU_CODES_ROWS_HIGH;
    for (unsigned i = 0; i < n; i++) {
        uint64_t at = (row + i) * q->code_stride + col;
        if (q->bits == 8)
            for (unsigned k = 0; k < cols; k++)
                out[i][k] = q->codes[at + k] ^ q->flip;
        else
            for (unsigned k = 0; k < cols; k++, at++)
                out[i][k] = q->codes[at / 2] >> ((at & 1) ^ high) * 4 & 15;
    }
}

static void codes_read(const struct mu_quantised *q, uint64_t row, unsigned n, uint64_t col,
                       unsigned cols, tile_row *out)
{
    switch (q->layout) {
    case MU_CODES_AWQ:
        codes_awq(q, row, n, col, cols, out);
        break;
    case MU_CODES_GPTQ:
        codes_gptq(q, row, n, col, cols, out);
        break;
    case MU_CODES_ROWS:
    case MU_CODES_ROWS_HIGH:
        codes_rows(q, row, n, col, cols, out);
        break;
    }
}

/* ---- Scales and zeros ---------------------------------------------------------------------- */

static int zero_at(const struct mu_quantised *q, uint64_t o, uint64_t g)
{
    const uint32_t mask = (1u << q->bits) - 1;
    const unsigned per_word = 32 / q->bits;
    uint64_t line = g * q->zero_stride, at = o * q->bits;
    switch (q->zero_layout) {
    case MU_ZERO_CONSTANT:
        break;
    case MU_ZERO_AWQ:
        return (int)(word_at(q->zeros, line + o / 8) >> awq_shift(o) & 15);
    case MU_ZERO_GPTQ: {
        uint64_t both = word_at(q->zeros, line + at / 32);
        if (at % 32 + q->bits > 32) both |= (uint64_t)word_at(q->zeros, line + at / 32 + 1) << 32;
        return (int)(both >> at % 32 & mask) + q->zero;
    }
    case MU_ZERO_WORDS:
        return (int)(word_at(q->zeros, o / per_word * q->zero_stride + g) >>
                         o % per_word * q->bits &
                     mask);
    case MU_ZERO_BYTES:
        return q->zeros[o * q->zero_stride + g] ^ q->flip;
    }
    return q->zero;
}

static float flat_scale(const struct mu_quantised *q, uint64_t value)
{
    const struct mu_flat_scales *f = q->flat;
    uint64_t i = value / f->block;
    if (!f->nested) return float_at(q->scale.data, MU_DTYPE_F32, i);
    return f->map[f->codes[i]] * float_at(f->nested, MU_DTYPE_F32, i / f->nested_block) + f->offset;
}

static uint64_t group_at(const struct mu_quantised *q, uint64_t k)
{
    return q->group_of ? q->group_of[k] : k / q->group;
}

static uint64_t scale_index(const struct mu_quantised *q, uint64_t o, uint64_t g)
{
    const struct mu_scale_grid *s = &q->scale;
    return o / s->rows * s->row_step + g * s->group_step;
}

static float grid_scale(const struct mu_quantised *q, uint64_t o, uint64_t g)
{
    return float_at(q->scale.data, q->scale.type, scale_index(q, o, g)) / q->scale.divisor;
}

static float scale_at(const struct mu_quantised *q, uint64_t o, uint64_t k)
{
    if (q->flat) return flat_scale(q, o * q->cols + k);
    return grid_scale(q, o, group_at(q, k));
}

/* ---- Blocks -------------------------------------------------------------------------------- */

/* Of each 32 codes, the first half in low nibbles. */
static void put_nibbles(uint8_t *out, const uint8_t *codes, unsigned n)
{
    for (unsigned i = 0; i < n; i += 32, out += 16, codes += 32)
        for (unsigned j = 0; j < 16; j++)
            out[j] = (uint8_t)(codes[j] | codes[j + 16] << 4);
}

static void put_scale(const struct mu_quantised *q, uint64_t o, uint64_t k, uint8_t *out)
{
    float scale = scale_at(q, o, k);
    memcpy(out, &scale, sizeof scale);
}

static float value_at(const struct mu_quantised *q, uint64_t o, uint64_t k, uint8_t code)
{
    float number = q->numbers ? q->numbers[code]
                   : q->e4m3  ? mu_e4m3_to_f32(code)
                              : (float)(code - zero_at(q, o, group_at(q, k)));
    return number * scale_at(q, o, k);
}

/* One block whose first value is column k of row o; of F32, one value. */
static void put_block(const struct mu_quantised *q, enum mu_dtype type, uint64_t o, uint64_t k,
                      const uint8_t *codes, uint8_t *out)
{
    const unsigned n = mu_dtype(type)->block_values;
    const uint64_t g = group_at(q, k);
    int16_t zero;
    float value;
    switch ((int)type) {
    case MU_DTYPE_Q4Z:
    case MU_DTYPE_Q4Z_128:
        put_scale(q, o, k, out);
        out[4] = (uint8_t)zero_at(q, o, g);
        put_nibbles(out + 5, codes, n);
        break;
    case MU_DTYPE_Q8Z:
    case MU_DTYPE_Q8Z_128:
        put_scale(q, o, k, out);
        zero = (int16_t)zero_at(q, o, g);
        memcpy(out + 4, &zero, sizeof zero);
        memcpy(out + 6, codes, n);
        break;
    case MU_DTYPE_Q4G:
        put_nibbles(out, codes, n);
        break;
    case MU_DTYPE_Q8G:
        memcpy(out, codes, n);
        break;
    case MU_DTYPE_NF4:
    case MU_DTYPE_FP4:
        put_scale(q, o, k, out);
        put_nibbles(out + 4, codes, n);
        break;
    case MU_DTYPE_E4M3:
    case MU_DTYPE_E4M3_128:
        put_scale(q, o, k, out);
        memcpy(out + 4, codes, n);
        break;
    case MU_DTYPE_MXFP4:
        out[0] = q->scale.data[scale_index(q, o, g)];
        put_nibbles(out + 1, codes, n);
        break;
    default:
        value = value_at(q, o, k, codes[0]);
        memcpy(out, &value, sizeof value);
        break;
    }
}

void mu_quantised_rows(const struct mu_quantised *q, enum mu_dtype type, uint64_t row_bytes,
                       uint64_t first, uint64_t n, uint8_t *out)
{
    const struct mu_dtype_info *info = mu_dtype(type);
    for (uint64_t row = first; row < first + n; row += TILE_ROWS) {
        unsigned rows = (unsigned)MU_MIN(first + n - row, (uint64_t)TILE_ROWS);
        for (uint64_t col = 0; col < q->cols; col += TILE_COLS) {
            tile_row codes[TILE_ROWS];
            unsigned cols = (unsigned)MU_MIN(q->cols - col, (uint64_t)TILE_COLS);
            codes_read(q, row, rows, col, cols, codes);
            for (unsigned i = 0; i < rows; i++) {
                uint8_t *at = out + (row - first + i) * row_bytes +
                              col / info->block_values * info->block_bytes;
                for (unsigned k = 0; k < cols; k += info->block_values, at += info->block_bytes)
                    put_block(q, type, row + i, col + k, codes[i] + k, at);
            }
        }
    }
}

/* ---- Rows with a table of scales ----------------------------------------------------------- */

uint64_t mu_tensor_packed_row_bytes(const struct mu_tensor *tensor)
{
    const struct mu_columns *c = tensor->columns;
    uint64_t codes = 0;
    (void)mu_dtype_bytes(tensor->packed_type, c->n, &codes); /* whole blocks: this was checked */
    return codes + c->n_groups * 2 * sizeof(float);
}

void mu_tensor_packed_rows(const struct mu_tensor *tensor, uint64_t first, uint64_t n, uint8_t *out)
{
    const struct mu_quantised *q = tensor->quantised;
    const uint64_t row_bytes = mu_tensor_packed_row_bytes(tensor);
    const uint64_t table_bytes = tensor->columns->n_groups * 2 * sizeof(float);
    mu_quantised_rows(q, tensor->packed_type, row_bytes, first, n, out);
    for (uint64_t row = first; row < first + n; row++, out += row_bytes) {
        uint8_t *table = out + row_bytes - table_bytes;
        for (uint64_t g = 0; g < tensor->columns->n_groups; g++, table += 2 * sizeof(float)) {
            float pair[2] = {grid_scale(q, row, g)};
            pair[1] = pair[0] * (float)(zero_at(q, row, g) - (q->bits == 8 ? 128 : 0));
            memcpy(table, pair, sizeof pair);
        }
    }
}
