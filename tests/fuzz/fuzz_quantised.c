/*
 * Any tensors as the parts of a quantised matrix: what is accepted must be readable in any pieces.
 * The input is the method, bits and group, then the parts (name, type, dimensions) up to a name
 * that there is not, then the bytes of all of them. Every part has memory of exactly its size.
 */
#include "format/format_int.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define PARTS_MAX 12

static const struct {
    const char *method, *format;
} methods[] = {
    {"awq", "gemm"},         {"gptq", "gptq"},
    {"gptq", "gptq_v2"},     {"bitsandbytes", "nf4"},
    {"bitsandbytes", "fp4"}, {"bitsandbytes", "int8"},
    {"fp8", "e4m3"},         {"compressed-tensors", "pack-quantized"},
    {"mxfp4", ""},
};

static const char *const names[] = {
    "qweight",
    "qzeros",
    "scales",
    "g_idx",
    "weight",
    "SCB",
    "weight_format",
    "weight.absmax",
    "weight.quant_map",
    "weight.nested_absmax",
    "weight.nested_quant_map",
    "weight.quant_state.bitsandbytes__nf4",
    "weight.quant_state.bitsandbytes__fp4",
    "weight_packed",
    "weight_scale",
    "weight_shape",
    "weight_zero_point",
    "weight_g_idx",
    "weight_scale_inv",
    "blocks",
};

static const enum mu_dtype types[] = {
    MU_DTYPE_I32, MU_DTYPE_F16, MU_DTYPE_BF16, MU_DTYPE_F32,     MU_DTYPE_U8,
    MU_DTYPE_I8,  MU_DTYPE_I64, MU_DTYPE_F64,  MU_DTYPE_F8_E4M3,
};

static void *exact(size_t size)
{
    void *p = calloc(1, size ? size : 1);
    if (!p) abort();
    return p;
}

static void read_parts(struct mu_cursor *c, struct mu_tensor_list *list)
{
    uint64_t budget = 1 << 18;
    while (list->n < PARTS_MAX) {
        struct mu_tensor *t = &list->items[list->n];
        uint8_t name = mu_cursor_u8(c), type = mu_cursor_u8(c), dims = mu_cursor_u8(c);
        if (c->failed || name >= MU_ARRAY_LEN(names)) break;
        *t = (struct mu_tensor){.name = names[name],
                                .type = types[type % MU_ARRAY_LEN(types)],
                                .n_dims = dims % (MU_DIMS_MAX + 1)};
        for (unsigned i = 0; i < t->n_dims; i++)
            t->dims[i] = mu_cursor_u16(c);
        if (c->failed || !mu_tensor_measure(t) || t->n_bytes > budget) break;
        budget -= t->n_bytes;
        list->n++;
    }
}

static void fill_parts(struct mu_cursor *c, struct mu_tensor_list *list)
{
    for (uint64_t i = 0; i < list->n; i++) {
        struct mu_tensor *t = &list->items[i];
        uint8_t *bytes = exact(t->n_bytes);
        uint64_t n = MU_MIN(t->n_bytes, mu_cursor_left(c));
        const uint8_t *from = n ? mu_cursor_take(c, n) : NULL;
        if (from) memcpy(bytes, from, n);
        t->data = bytes;
    }
}

static void read_rows(const struct mu_tensor *t)
{
    uint64_t cols = t->dims[t->n_dims - 1], rows = t->n_values / cols;
    uint64_t step = MU_MIN(rows, UINT64_C(67)), row_bytes = mu_tensor_row_bytes(t);
    for (uint64_t row = 0; row < rows; row += step) {
        uint64_t n = MU_MIN(step, rows - row);
        uint8_t *scratch = exact(n * row_bytes);
        (void)mu_tensor_rows(t, row, n, scratch);
        free(scratch);
        if (!t->columns) continue;
        scratch = exact(n * mu_tensor_packed_row_bytes(t));
        mu_tensor_packed_rows(t, row, n, scratch);
        free(scratch);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mu_model_file file;
    struct mu_err err = MU_ERR_INIT;
    struct mu_cursor cursor = mu_cursor_over(data, size);
    const uint8_t *parts[PARTS_MAX];
    file = (struct mu_model_file){.name = "fuzz", .arena = mu_arena_create(1 << 26)};
    struct mu_config *c = &file.config;
    size_t method = mu_cursor_u8(&cursor) % MU_ARRAY_LEN(methods);
    c->quant_bits = mu_cursor_u8(&cursor);
    c->quant_group_size = mu_cursor_u8(&cursor);
    c->quant_block[0] = c->quant_block[1] = c->quant_group_size;
    c->quant_known = true;
    memcpy(c->quant_method, methods[method].method, strlen(methods[method].method));
    memcpy(c->quant_format, methods[method].format, strlen(methods[method].format));
    if (mu_tensor_list_reserve(&file.tensors, PARTS_MAX, &err) != MU_OK) abort();
    read_parts(&cursor, &file.tensors);
    fill_parts(&cursor, &file.tensors);
    uint64_t n = file.tensors.n;
    for (uint64_t i = 0; i < n; i++)
        parts[i] = file.tensors.items[i].data;
    if (file.arena && mu_quantised_present(&file, &err) == MU_OK)
        for (uint64_t i = 0; i < file.tensors.n; i++)
            if (file.tensors.items[i].quantised) read_rows(&file.tensors.items[i]);
    for (uint64_t i = 0; i < n; i++)
        free((void *)(uintptr_t)parts[i]);
    mu_arena_destroy(file.arena);
    mu_free(file.tensors.items);
    return 0;
}
