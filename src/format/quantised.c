/*
 * Finds the stored tensors that make one quantised matrix, checks that they fit each other, and
 * puts one tensor of blocks in their place: X.qweight, X.scales and their like become X.weight.
 * Called once while a folder of safetensors opens; one thread. Everything that a row is later made
 * from (quantised_rows.c) was checked here.
 */
#include "format/quantised.h"

#include <limits.h>
#include <strings.h>

#define STATE_BYTES_MAX 65536

struct finder {
    struct mu_model_file *file;
    const struct mu_config *config;
    struct mu_err *err;
    struct mu_str base; /* of the names of the matrix in hand, with its last dot */
    uint32_t *fate;     /* of every tensor as the files have it: one of the below, or the place in
                         * the list of the matrix that stands in its stead */
    struct mu_quantised *q;
};

enum { STAYS, IS_PART };

static struct mu_str tensor_name(const void *items, uint64_t i)
{
    return mu_str(((const struct mu_tensor *)items)[i].name);
}

static mu_status fault(const struct finder *f, mu_status code, const char *part, const char *what)
{
    mu_status status = mu_fail(f->err, code, "%s", what);
    mu_err_where(f->err, "%s, tensor '%.*s%s'", f->file->name, (int)MU_MIN(f->base.len, 100),
                 f->base.p, part);
    return status;
}

static mu_status misfit(const struct finder *f, const char *part)
{
    return fault(f, MU_E_INPUT, part, "has a type or shape that does not fit the others'");
}

/* ---- Parts --------------------------------------------------------------------------------- */

/* The part of that name, or NULL; it is no longer listed on its own. */
static const struct mu_tensor *take(struct finder *f, const char *part)
{
    const struct mu_tensor_list *list = &f->file->tensors;
    char name[1024];
    size_t len = strlen(part);
    if (f->base.len + len >= sizeof name) return NULL;
    memcpy(name, f->base.p, f->base.len);
    memcpy(name + f->base.len, part, len + 1);
    uint64_t i = mu_name_index_find(&f->file->index, list->items, tensor_name, mu_str(name));
    if (i == UINT64_MAX) return NULL;
    if (f->fate[i] == STAYS) f->q->stored_bytes += list->items[i].n_bytes;
    f->fate[i] = IS_PART;
    return &list->items[i];
}

static mu_status need(struct finder *f, const char *part, const struct mu_tensor **out)
{
    *out = take(f, part);
    return *out ? MU_OK : fault(f, MU_E_INPUT, part, "is not there, and other parts of it are");
}

static bool is_float(enum mu_dtype type)
{
    return type == MU_DTYPE_F32 || type == MU_DTYPE_F16 || type == MU_DTYPE_BF16;
}

static bool is_matrix(const struct mu_tensor *t, enum mu_dtype type, uint64_t rows, uint64_t cols)
{
    return t->type == type && t->n_dims == 2 && t->dims[0] == rows && t->dims[1] == cols;
}

/* What the codes say about the size of the matrix; later parts must agree with it. */
static mu_status set_size(struct finder *f, const char *part, uint64_t rows, uint64_t cols)
{
    if (rows == 0 || cols == 0) return fault(f, MU_E_INPUT, part, "has no values");
    if (rows > UINT32_MAX || cols > UINT32_MAX) return misfit(f, part);
    f->q->rows = rows;
    f->q->cols = cols;
    return MU_OK;
}

/* ---- Scales and groups --------------------------------------------------------------------- */

/* The size of n equal pieces of a whole, the last perhaps smaller: as configured where that gives
 * n, else the one that divides. 0 for neither. */
static uint64_t piece_size(uint64_t whole, uint64_t n, uint64_t configured, uint64_t configured_too)
{
    const uint64_t sizes[] = {n == 1 ? whole : 0, configured, configured_too,
                              n && whole % n == 0 ? whole / n : 0};
    for (size_t i = 0; i < MU_ARRAY_LEN(sizes); i++)
        if (sizes[i] && MU_CEIL_DIV(whole, sizes[i]) == n) return sizes[i];
    return 0;
}

/* Scales of [rows or blocks of rows][groups], or one for all. */
static mu_status set_scales(struct finder *f, const char *part, const struct mu_tensor *t)
{
    struct mu_quantised *q = f->q;
    const struct mu_config *c = f->config;
    uint64_t n_rows = t->n_dims > 0 ? t->dims[0] : 1, n_groups = t->n_dims > 1 ? t->dims[1] : 1;
    if (!is_float(t->type) || t->n_dims > 2 || t->n_values == 0) return misfit(f, part);
    uint64_t rows = n_rows == q->rows ? 1 : piece_size(q->rows, n_rows, c->quant_block[0], 0);
    q->group = piece_size(q->cols, n_groups, c->quant_group_size, c->quant_block[1]);
    if (!rows || !q->group) return misfit(f, part);
    q->scale = (struct mu_scale_grid){t->data, t->type, rows, n_groups, 1, 1};
    return MU_OK;
}

/* AWQ's and GPTQ's: scales of [groups][rows], and words of zeros beside them. */
static mu_status set_lines(struct finder *f)
{
    struct mu_quantised *q = f->q;
    const struct mu_tensor *scales, *zeros;
    MU_TRY(need(f, "scales", &scales));
    MU_TRY(need(f, "qzeros", &zeros));
    uint64_t groups = scales->n_dims == 2 ? scales->dims[0] : 0, words = q->rows * q->bits / 32;
    q->group = piece_size(q->cols, groups, f->config->quant_group_size, 0);
    if (!is_float(scales->type) || !q->group || !is_matrix(scales, scales->type, groups, q->rows))
        return misfit(f, "scales");
    if (!is_matrix(zeros, MU_DTYPE_I32, groups, words) || q->rows * q->bits % 32 != 0)
        return misfit(f, "qzeros");
    q->scale = (struct mu_scale_grid){scales->data, scales->type, 1, 1, q->rows, 1};
    q->zeros = zeros->data;
    q->zero_stride = words;
    return MU_OK;
}

/* A group for every column, where a file says so. Columns in order, or all in group 0 (as some
 * writers leave it), mean what no such tensor means. */
static mu_status set_columns(struct finder *f, const char *part)
{
    struct mu_quantised *q = f->q;
    const struct mu_tensor *t = take(f, part);
    uint64_t groups = MU_CEIL_DIV(q->cols, q->group), n_zero = 0, n_in_order = 0;
    if (!t) return MU_OK;
    if (t->type != MU_DTYPE_I32 || t->n_values != q->cols) return misfit(f, part);
    uint32_t *group_of = mu_arena_alloc(f->file->arena, q->cols, sizeof *group_of);
    if (!group_of) return mu_fail_memory(f->err, q->cols * sizeof *group_of);
    memcpy(group_of, t->data, q->cols * sizeof *group_of);
    for (uint64_t k = 0; k < q->cols; k++) {
        if (group_of[k] >= groups)
            return fault(f, MU_E_INPUT, part, "names a group that does not exist");
        n_zero += group_of[k] == 0;
        n_in_order += group_of[k] == k / q->group;
    }
    if (n_zero != q->cols && n_in_order != q->cols) q->group_of = group_of;
    return MU_OK;
}

/* ---- Types --------------------------------------------------------------------------------- */

/* The largest block that rows are whole numbers of and whose values share a scale. What has none
 * (no published model's matrix) is widened. */
static enum mu_dtype block_type(const struct mu_quantised *q)
{
    static const enum mu_dtype four[] = {MU_DTYPE_Q4Z_128, MU_DTYPE_Q4Z};
    static const enum mu_dtype eight[] = {MU_DTYPE_Q8Z_128, MU_DTYPE_Q8Z};
    static const enum mu_dtype e4m3[] = {MU_DTYPE_E4M3_128, MU_DTYPE_E4M3};
    static const enum mu_dtype nf4[] = {MU_DTYPE_NF4, MU_DTYPE_NF4};
    static const enum mu_dtype fp4[] = {MU_DTYPE_FP4, MU_DTYPE_FP4};
    const enum mu_dtype *types = q->e4m3                       ? e4m3
                                 : q->numbers == mu_nf4_values ? nf4
                                 : q->numbers                  ? fp4
                                 : q->bits == 8                ? eight
                                                               : four;
    for (int i = 0; i < 2 && !q->group_of; i++) {
        uint64_t n = mu_dtype(types[i])->block_values;
        if (q->cols % n == 0 && (q->group == q->cols || q->group % n == 0)) return types[i];
    }
    return MU_DTYPE_F32;
}

/* Columns in no order: rows that need the table of the groups beside them. */
static mu_status present_columns(struct finder *f, struct mu_tensor *t)
{
    const struct mu_quantised *q = f->q;
    if (q->cols % 32 != 0) return MU_OK;
    struct mu_columns *c = mu_arena_alloc(f->file->arena, 1, sizeof *c);
    if (!c) return mu_fail_memory(f->err, sizeof *c);
    *c = (struct mu_columns){(uint32_t)q->cols, (uint32_t)MU_CEIL_DIV(q->cols, q->group),
                             q->group_of};
    t->columns = c;
    t->packed_type = q->bits == 8 ? MU_DTYPE_Q8G : MU_DTYPE_Q4G;
    return MU_OK;
}

static mu_status present(struct finder *f, struct mu_tensor *t)
{
    struct mu_quantised *q = f->q;
    t->name = mu_arena_printf(f->file->arena, "%.*sweight", (int)f->base.len, f->base.p);
    if (!t->name) return mu_fail_memory(f->err, f->base.len);
    t->type = block_type(q);
    t->n_dims = 2;
    t->dims[0] = q->rows;
    t->dims[1] = q->cols;
    t->quantised = q;
    if (q->group_of) MU_TRY(present_columns(f, t));
    return mu_tensor_measure(t) ? MU_OK : misfit(f, "weight");
}

/* ---- Schemes ------------------------------------------------------------------------------- */

static mu_status make_awq(struct finder *f, struct mu_tensor *t)
{
    struct mu_quantised *q = f->q;
    const struct mu_tensor *codes;
    MU_TRY(need(f, "qweight", &codes));
    if (f->config->quant_bits && f->config->quant_bits != 4)
        return fault(f, MU_E_UNSUPPORTED, "qweight", "has not the 4 bits that AWQ is read with");
    if (codes->type != MU_DTYPE_I32 || codes->n_dims != 2) return misfit(f, "qweight");
    MU_TRY(set_size(f, "qweight", codes->dims[1] * 8, codes->dims[0]));
    q->codes = codes->data;
    q->layout = MU_CODES_AWQ;
    q->bits = 4;
    q->code_stride = codes->dims[1];
    q->zero_layout = MU_ZERO_AWQ;
    MU_TRY(set_lines(f));
    return present(f, t);
}

static mu_status make_gptq(struct finder *f, struct mu_tensor *t)
{
    struct mu_quantised *q = f->q;
    const struct mu_tensor *codes;
    MU_TRY(need(f, "qweight", &codes));
    q->bits = f->config->quant_bits;
    if (q->bits != 2 && q->bits != 3 && q->bits != 4 && q->bits != 8)
        return fault(f, MU_E_UNSUPPORTED, "qweight",
                     "has not the 2, 3, 4 or 8 bits that GPTQ is read with");
    if (codes->type != MU_DTYPE_I32 || codes->n_dims != 2 || codes->dims[0] * 32 % q->bits != 0)
        return misfit(f, "qweight");
    MU_TRY(set_size(f, "qweight", codes->dims[1], codes->dims[0] * 32 / q->bits));
    q->codes = codes->data;
    q->layout = MU_CODES_GPTQ;
    q->code_stride = q->rows;
    q->zero_layout = MU_ZERO_GPTQ;
    /* The first version stores zeros less one, and a code of zero may be 2^bits. */
    q->zero = strcmp(f->config->quant_format, "gptq_v2") != 0;
    MU_TRY(set_lines(f));
    MU_TRY(set_columns(f, "g_idx"));
    return present(f, t);
}

static mu_status read_shape(struct finder *f, const char *part, uint64_t shape[2])
{
    const struct mu_tensor *t;
    MU_TRY(need(f, part, &t));
    if (t->n_values != 2 || (t->type != MU_DTYPE_I64 && t->type != MU_DTYPE_I32))
        return misfit(f, part);
    for (uint64_t i = 0; i < 2; i++) {
        uint64_t size = mu_dtype(t->type)->block_bytes;
        shape[i] = 0; /* a negative number is then too large */
        memcpy(&shape[i], t->data + i * size, size);
    }
    return MU_OK;
}

/* compressed-tensors, pack-quantized: whole codes in words, along a row. */
static mu_status make_packed(struct finder *f, struct mu_tensor *t)
{
    struct mu_quantised *q = f->q;
    const struct mu_tensor *codes, *scales, *zeros;
    uint64_t shape[2];
    MU_TRY(need(f, "weight_packed", &codes));
    MU_TRY(need(f, "weight_scale", &scales));
    MU_TRY(read_shape(f, "weight_shape", shape));
    MU_TRY(set_size(f, "weight_shape", shape[0], shape[1]));
    bool four = is_matrix(codes, MU_DTYPE_I32, q->rows, MU_CEIL_DIV(q->cols, 8u));
    if (!four && !is_matrix(codes, MU_DTYPE_I32, q->rows, MU_CEIL_DIV(q->cols, 4u)))
        return misfit(f, "weight_packed"); /* only 4 and 8 bits are read */
    q->codes = codes->data;
    q->bits = four ? 4 : 8;
    q->code_stride = codes->dims[1] * 32 / q->bits;
    q->zero = 1 << (q->bits - 1);
    MU_TRY(set_scales(f, "weight_scale", scales));
    uint64_t groups = MU_CEIL_DIV(q->cols, q->group);
    if ((zeros = take(f, "weight_zero_point"))) {
        if (!is_matrix(zeros, MU_DTYPE_I32, MU_CEIL_DIV(q->rows, 32 / q->bits), groups) ||
            q->scale.rows != 1)
            return misfit(f, "weight_zero_point");
        q->zero_layout = MU_ZERO_WORDS;
        q->zeros = zeros->data;
        q->zero_stride = groups;
    }
    MU_TRY(set_columns(f, "weight_g_idx"));
    return present(f, t);
}

/* A byte a value: integers, or e4m3. */
static mu_status make_bytes(struct finder *f, struct mu_tensor *t, const char *scale_part)
{
    struct mu_quantised *q = f->q;
    const struct mu_tensor *codes, *scales;
    MU_TRY(need(f, "weight", &codes));
    MU_TRY(need(f, scale_part, &scales));
    q->e4m3 = codes->type == MU_DTYPE_F8_E4M3;
    if ((!q->e4m3 && codes->type != MU_DTYPE_I8) || codes->n_dims != 2) return misfit(f, "weight");
    MU_TRY(set_size(f, "weight", codes->dims[0], codes->dims[1]));
    q->codes = codes->data;
    q->bits = 8;
    q->code_stride = q->cols;
    q->flip = q->e4m3 ? 0 : 0x80;
    q->zero = q->flip;
    MU_TRY(set_scales(f, scale_part, scales));
    const struct mu_tensor *zeros = q->e4m3 ? NULL : take(f, "weight_zero_point");
    if (zeros) {
        uint64_t groups = MU_CEIL_DIV(q->cols, q->group);
        if (zeros->type != MU_DTYPE_I8 || zeros->n_values != q->rows * groups || q->scale.rows != 1)
            return misfit(f, "weight_zero_point");
        q->zero_layout = MU_ZERO_BYTES;
        q->zeros = zeros->data;
        q->zero_stride = groups;
    }
    return present(f, t);
}

static mu_status make_scaled(struct finder *f, struct mu_tensor *t)
{
    return make_bytes(f, t, "weight_scale");
}

static mu_status make_scaled_inverse(struct finder *f, struct mu_tensor *t)
{
    return make_bytes(f, t, "weight_scale_inv"); /* which multiplies all the same */
}

static mu_status make_bnb_int8(struct finder *f, struct mu_tensor *t)
{
    const struct mu_tensor *format = take(f, "weight_format");
    if (format && (format->n_bytes != 1 || format->data[0] != 0))
        return fault(f, MU_E_UNSUPPORTED, "weight_format", "is not 0, the order of rows");
    MU_TRY(make_bytes(f, t, "SCB"));
    if (f->q->e4m3) return misfit(f, "weight");
    f->q->scale.divisor = 127;
    return MU_OK;
}

/* Whole numbers above 0 and no larger than an int. */
static uint64_t whole_of(const json_t *value)
{
    json_int_t n = json_integer_value(value);
    return n > 0 && n <= INT_MAX ? (uint64_t)n : 0;
}

static mu_status set_nested(struct finder *f, const json_t *state, uint64_t n_scales)
{
    struct mu_flat_scales *flat = f->q->flat;
    const struct mu_tensor *scales, *map;
    flat->nested_block = whole_of(json_object_get(state, "nested_blocksize"));
    if (!flat->nested_block) return misfit(f, "weight.quant_state");
    flat->offset = (float)json_number_value(json_object_get(state, "nested_offset"));
    MU_TRY(need(f, "weight.nested_absmax", &scales));
    MU_TRY(need(f, "weight.nested_quant_map", &map));
    if (scales->type != MU_DTYPE_F32 ||
        scales->n_values != MU_CEIL_DIV(n_scales, flat->nested_block))
        return misfit(f, "weight.nested_absmax");
    if (map->type != MU_DTYPE_F32 || map->n_values != MU_ARRAY_LEN(flat->map))
        return misfit(f, "weight.nested_quant_map");
    flat->nested = scales->data;
    memcpy(flat->map, map->data, sizeof flat->map);
    return MU_OK;
}

/* Whether the map of codes to numbers in the file is the one that everybody uses. */
static bool same_numbers(const struct mu_tensor *map, const float numbers[16])
{
    if (map->type != MU_DTYPE_F32 || map->n_values != 16) return false;
    for (size_t i = 0; i < 16; i++) {
        float number;
        memcpy(&number, map->data + i * sizeof number, sizeof number);
        if (number != numbers[i]) return false;
    }
    return true;
}

static mu_status set_flat(struct finder *f, const json_t *state, const char *part)
{
    struct mu_quantised *q = f->q;
    const json_t *shape = json_object_get(state, "shape");
    const struct mu_tensor *codes, *scales, *map = take(f, "weight.quant_map");
    uint64_t rows = whole_of(json_array_get(shape, 0)), cols = whole_of(json_array_get(shape, 1));
    q->flat->block = whole_of(json_object_get(state, "blocksize"));
    if (json_array_size(shape) != 2 || !q->flat->block) return misfit(f, part);
    MU_TRY(set_size(f, part, rows, cols));
    MU_TRY(need(f, "weight", &codes));
    MU_TRY(need(f, "weight.absmax", &scales));
    uint64_t n_scales = MU_CEIL_DIV(rows * cols, q->flat->block);
    /* The bytes may be stored as any type. */
    if (codes->n_bytes != MU_CEIL_DIV(rows * cols, 2u)) return misfit(f, "weight");
    if (scales->n_values != n_scales) return misfit(f, "weight.absmax");
    if (map && !same_numbers(map, q->numbers))
        return fault(f, MU_E_UNSUPPORTED, "weight.quant_map", "holds values of its own");
    q->codes = codes->data;
    q->bits = 4;
    q->layout = MU_CODES_ROWS_HIGH;
    q->code_stride = cols;
    q->group = q->flat->block;
    q->scale = (struct mu_scale_grid){scales->data, scales->type, 1, 0, 0, 1};
    if (scales->type == MU_DTYPE_F32) return MU_OK;
    if (scales->type != MU_DTYPE_U8) return misfit(f, "weight.absmax");
    q->flat->codes = scales->data;
    return set_nested(f, state, n_scales);
}

static mu_status make_bnb_4bit(struct finder *f, struct mu_tensor *t, const char *part)
{
    const struct mu_tensor *state;
    json_t *root = NULL;
    MU_TRY(need(f, part, &state));
    f->q->flat = mu_arena_alloc(f->file->arena, 1, sizeof *f->q->flat);
    if (!f->q->flat) return mu_fail_memory(f->err, sizeof *f->q->flat);
    if (state->n_bytes > STATE_BYTES_MAX) return misfit(f, part);
    struct mu_str text = {(const char *)state->data, state->n_bytes};
    mu_status status = mu_json_parse(text, part, &root, f->err);
    if (status == MU_OK) status = set_flat(f, root, part);
    json_decref(root);
    return status == MU_OK ? present(f, t) : status;
}

static mu_status make_nf4(struct finder *f, struct mu_tensor *t)
{
    f->q->numbers = mu_nf4_values;
    return make_bnb_4bit(f, t, "weight.quant_state.bitsandbytes__nf4");
}

static mu_status make_fp4(struct finder *f, struct mu_tensor *t)
{
    f->q->numbers = mu_fp4_values;
    return make_bnb_4bit(f, t, "weight.quant_state.bitsandbytes__fp4");
}

/* X_blocks and X_scales of stacked experts: [expert][row][block], with 16 bytes a block. They
 * become X, which is what the same tensor is called in 16 bits (where it is stored on its side). */
static mu_status make_mxfp4(struct finder *f, struct mu_tensor *t)
{
    struct mu_quantised *q = f->q;
    const struct mu_tensor *codes, *scales;
    MU_TRY(need(f, "blocks", &codes));
    MU_TRY(need(f, "scales", &scales));
    unsigned n = codes->n_dims;
    if (codes->type != MU_DTYPE_U8 || n < 3 || codes->dims[n - 1] != 16) return misfit(f, "blocks");
    if (scales->type != MU_DTYPE_U8 || scales->n_dims != n - 1 ||
        memcmp(scales->dims, codes->dims, (n - 1) * sizeof *codes->dims) != 0)
        return misfit(f, "scales");
    if (codes->n_values == 0) return fault(f, MU_E_INPUT, "blocks", "has no values");
    uint64_t blocks = codes->dims[n - 2];
    MU_TRY(set_size(f, "blocks", scales->n_values / blocks, blocks * 32));
    q->codes = codes->data;
    q->bits = 4;
    q->code_stride = q->cols;
    q->group = 32;
    q->scale = (struct mu_scale_grid){scales->data, scales->type, 1, blocks, 1, 1};
    size_t len = f->base.len - (f->base.len > 0); /* without the _ */
    t->name = len ? mu_arena_strndup(f->file->arena, f->base.p, len) : "weight";
    if (!t->name) return mu_fail_memory(f->err, f->base.len);
    t->type = MU_DTYPE_MXFP4;
    t->n_dims = n - 1;
    memcpy(t->dims, codes->dims, (n - 2) * sizeof *t->dims);
    t->dims[n - 2] = q->cols;
    t->quantised = q;
    return mu_tensor_measure(t) ? MU_OK : misfit(f, "blocks");
}

/* The part that shows a matrix of a method to be there. Of two for one method the first takes what
 * the second would find. */
static const struct scheme {
    const char *method, *part;
    char before; /* what stands between the matrix' name and the part's */
    mu_status (*make)(struct finder *f, struct mu_tensor *t);
} schemes[] = {
    {"awq", "qweight", '.', make_awq},
    {"gptq", "qweight", '.', make_gptq},
    {"bitsandbytes", "weight.quant_state.bitsandbytes__nf4", '.', make_nf4},
    {"bitsandbytes", "weight.quant_state.bitsandbytes__fp4", '.', make_fp4},
    {"bitsandbytes", "SCB", '.', make_bnb_int8},
    {"compressed-tensors", "weight_packed", '.', make_packed},
    {"compressed-tensors", "weight_scale", '.', make_scaled},
    {"fp8", "weight_scale_inv", '.', make_scaled_inverse},
    {"fp8", "weight_scale", '.', make_scaled},
    {"mxfp4", "blocks", '_', make_mxfp4},
};

/* Which forms of a method's files are read; "" for a file that does not say. */
static const struct {
    const char *method, *format;
} formats[] = {
    {"awq", ""},
    {"awq", "gemm"},
    {"gptq", ""},
    {"gptq", "gptq"},
    {"gptq", "gptq_v2"},
    {"bitsandbytes", "nf4"},
    {"bitsandbytes", "fp4"},
    {"bitsandbytes", "int8"},
    {"compressed-tensors", "pack-quantized"},
    {"compressed-tensors", "int-quantized"},
    {"compressed-tensors", "float-quantized"},
    {"compressed-tensors", "naive-quantized"},
    {"compressed-tensors", "mixed-precision"},
    {"fp8", ""},
    {"fp8", "e4m3"},
    {"mxfp4", ""},
};

bool mu_quantised_known(const char *method, const char *format)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(formats); i++)
        if (strcmp(formats[i].method, method) == 0 && strcasecmp(formats[i].format, format) == 0)
            return true;
    return false;
}

/* ---- The whole ----------------------------------------------------------------------------- */

static bool has_part(struct mu_str name, const struct scheme *s, struct mu_str *base)
{
    size_t len = strlen(s->part);
    if (name.len < len || memcmp(name.p + name.len - len, s->part, len) != 0) return false;
    *base = (struct mu_str){name.p, name.len - len};
    return base->len == 0 || base->p[base->len - 1] == s->before;
}

/* Makes the matrices of one scheme; each is added behind the list's first n. */
static mu_status find_scheme(struct finder *f, const struct scheme *s, uint64_t n)
{
    struct mu_tensor_list *list = &f->file->tensors;
    for (uint64_t i = 0; i < n; i++) {
        if (f->fate[i] != STAYS || !has_part(mu_str(list->items[i].name), s, &f->base)) continue;
        struct mu_tensor made = {.file = list->items[i].file,
                                 .file_offset = list->items[i].file_offset};
        f->q = mu_arena_alloc(f->file->arena, 1, sizeof *f->q);
        if (!f->q) return mu_fail_memory(f->err, sizeof *f->q);
        MU_TRY(s->make(f, &made));
        MU_TRY(mu_tensor_list_reserve(list, 1, f->err));
        f->fate[i] = (uint32_t)list->n;
        list->items[list->n++] = made;
    }
    return MU_OK;
}

static mu_status find_all(struct finder *f)
{
    struct mu_tensor_list *list = &f->file->tensors;
    const uint64_t n = list->n;
    uint64_t kept = 0;
    for (size_t i = 0; i < MU_ARRAY_LEN(schemes); i++)
        if (strcmp(schemes[i].method, f->config->quant_method) == 0)
            MU_TRY(find_scheme(f, &schemes[i], n));
    for (uint64_t i = 0; i < n; i++)
        if (f->fate[i] != IS_PART) list->items[kept++] = list->items[f->fate[i] ? f->fate[i] : i];
    list->n = kept;
    return MU_OK;
}

mu_status mu_quantised_present(struct mu_model_file *file, struct mu_err *err)
{
    struct finder f = {.file = file, .config = &file->config, .err = err};
    if (!file->config.quant_known || file->tensors.n < 2) return MU_OK;
    MU_TRY(mu_name_index_build(&file->index, file->arena, file->tensors.items, file->tensors.n,
                               tensor_name, err));
    f.fate = mu_calloc(file->tensors.n, sizeof *f.fate);
    if (!f.fate) return mu_fail_memory(err, file->tensors.n * sizeof *f.fate);
    mu_status status = find_all(&f);
    mu_free(f.fate);
    return status;
}

uint64_t mu_tensor_stored_bytes(const struct mu_tensor *tensor)
{
    return tensor->quantised ? tensor->quantised->stored_bytes : tensor->n_bytes;
}
