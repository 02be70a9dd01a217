/* The rows of a stored tensor as a shard wants them; see model.h. */
#include "model/model.h"

static size_t part(size_t bytes)
{
    return MU_ROUND_UP(bytes, 64);
}

enum mu_dtype mu_use_rows_type(const struct mu_tensor_use *use, const struct mu_tensor *tensor)
{
    /* Turned round, blocks of a quantised type fall apart. */
    bool blocks = mu_dtype(tensor->type)->block_values > 1;
    return use->transposed && blocks ? MU_DTYPE_F32 : tensor->type;
}

uint64_t mu_use_rows_values(const struct mu_tensor_use *use)
{
    return use->transposed ? use->cols : use->file_cols;
}

void mu_use_rows_init(struct mu_use_rows *rows, const struct mu_tensor_use *use,
                      const struct mu_tensor *tensor, bool packed, mu_decode_fn *decode)
{
    *rows = (struct mu_use_rows){.use = use,
                                 .tensor = tensor,
                                 .type = mu_use_rows_type(use, tensor),
                                 .packed = packed,
                                 .decode = decode};
    (void)mu_dtype_bytes(rows->type, mu_use_rows_values(use), &rows->row_bytes);
    if (packed) {
        rows->type = tensor->packed_type;
        rows->row_bytes = mu_tensor_packed_row_bytes(tensor);
    }
    if (!tensor->data || use->transposed) rows->made = part(MU_USE_ROWS * rows->row_bytes);
    rows->room_bytes = rows->made;
    if (use->transposed)
        rows->room_bytes +=
            part(mu_tensor_row_bytes(tensor)) + part(use->file_cols * sizeof(float));
}

/* Rows [first, first + n) out of the columns of a stored tensor. */
static void turn(const struct mu_use_rows *rows, uint32_t first, uint32_t n, uint8_t *room)
{
    const struct mu_tensor_use *use = rows->use;
    const struct mu_tensor *t = rows->tensor;
    size_t size = mu_dtype(rows->type)->block_bytes;
    uint8_t *scratch = room + rows->made;
    float *values = (float *)(void *)(scratch + part(mu_tensor_row_bytes(t)));
    for (uint32_t c = 0; c < use->cols; c++) {
        const uint8_t *stored = mu_tensor_rows(t, use->col_first + c, 1, scratch);
        if (t->type != rows->type) {
            rows->decode(t->type, stored, values, use->file_cols);
            stored = (const uint8_t *)values;
        }
        for (uint32_t i = 0; i < n; i++)
            memcpy(room + i * rows->row_bytes + c * size,
                   stored + mu_tensor_use_row(use, first + i) * size, size);
    }
}

void mu_use_rows_get(const struct mu_use_rows *rows, uint32_t first, uint32_t n, uint8_t *room,
                     const uint8_t **out)
{
    const struct mu_tensor_use *use = rows->use;
    const uint8_t *all = room;
    bool adjacent = use->swap_heads == 0 && use->step <= 1;
    if (use->transposed)
        turn(rows, first, n, room);
    else if (rows->packed)
        mu_tensor_packed_rows(rows->tensor, mu_tensor_use_row(use, first), n, room);
    else if (adjacent)
        all = mu_tensor_rows(rows->tensor, mu_tensor_use_row(use, first), n, room);
    for (uint32_t i = 0; i < n; i++)
        if (adjacent || use->transposed)
            out[i] = all + i * rows->row_bytes;
        else
            out[i] = mu_tensor_rows(rows->tensor, mu_tensor_use_row(use, first + i), 1,
                                    rows->made ? room + i * rows->row_bytes : NULL);
}

void mu_use_vector(const struct mu_tensor_use *use, const struct mu_tensor *tensor,
                   mu_decode_fn *decode, uint8_t *stored, float *whole, float *out)
{
    decode(tensor->type, mu_tensor_rows(tensor, use->row_first, 1, stored), whole, use->file_cols);
    for (uint32_t i = 0; i < use->cols; i++)
        out[i] = whole[mu_tensor_use_row(use, i)];
}
