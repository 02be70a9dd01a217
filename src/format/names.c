/*
 * An open-addressing table from names to items, and the growing list of tensors it serves.
 * Called by the readers while a model opens (one thread) and by mu_model_file_find (any thread).
 */
#include "format/quantised.h"

#include "base/checked.h"

#include <xxhash.h>

static uint64_t slot_of(const struct mu_name_index *index, const void *items, mu_name_of *name_of,
                        struct mu_str name)
{
    uint64_t i = XXH3_64bits(name.p, name.len) & (index->n_slots - 1);
    while (index->slots[i] && !mu_str_equal(name_of(items, index->slots[i] - 1), name))
        i = (i + 1) & (index->n_slots - 1);
    return i;
}

mu_status mu_name_index_build(struct mu_name_index *index, struct mu_arena *arena,
                              const void *items, uint64_t n, mu_name_of *name_of,
                              struct mu_err *err)
{
    struct mu_name_index built = {.n_slots = 16};
    while (built.n_slots < 2 * n)
        built.n_slots *= 2;
    built.slots = mu_arena_alloc(arena, built.n_slots, sizeof *built.slots);
    if (!built.slots) return mu_fail_memory(err, built.n_slots * sizeof *built.slots);
    for (uint64_t i = 0; i < n; i++) {
        struct mu_str name = name_of(items, i);
        uint64_t slot = slot_of(&built, items, name_of, name);
        if (built.slots[slot])
            return mu_fail(err, MU_E_INPUT, "'%.*s' appears twice", (int)MU_MIN(name.len, 128),
                           name.p);
        built.slots[slot] = (uint32_t)(i + 1);
    }
    *index = built;
    return MU_OK;
}

uint64_t mu_name_index_find(const struct mu_name_index *index, const void *items,
                            mu_name_of *name_of, struct mu_str name)
{
    if (!index->n_slots) return UINT64_MAX;
    uint32_t found = index->slots[slot_of(index, items, name_of, name)];
    return found ? found - 1 : UINT64_MAX;
}

mu_status mu_tensor_list_reserve(struct mu_tensor_list *list, uint64_t n, struct mu_err *err)
{
    if (n > MU_TENSORS_MAX || list->n > MU_TENSORS_MAX - n)
        return mu_fail(err, MU_E_INPUT, "more than %d tensors", MU_TENSORS_MAX);
    if (list->items && n <= list->size - list->n) return MU_OK;
    uint64_t size = MU_MAX(MU_MAX(list->n + n, list->size * 2), UINT64_C(16));
    struct mu_tensor *items = mu_realloc(list->items, size * sizeof *items);
    if (!items) return mu_fail_memory(err, size * sizeof *items);
    memset(items + list->n, 0, (size - list->n) * sizeof *items);
    list->items = items;
    list->size = size;
    return MU_OK;
}

bool mu_tensor_measure(struct mu_tensor *tensor)
{
    uint64_t n = 1;
    for (unsigned i = 0; i < tensor->n_dims; i++)
        if (!mu_mul(n, tensor->dims[i], &n)) return false;
    tensor->n_values = n;
    return mu_dtype_bytes(tensor->type, n, &tensor->n_bytes);
}

uint64_t mu_tensor_row_bytes(const struct mu_tensor *tensor)
{
    uint64_t bytes = tensor->n_bytes;
    if (tensor->n_dims > 0 &&
        !mu_dtype_bytes(tensor->type, tensor->dims[tensor->n_dims - 1], &bytes))
        return 0;
    return bytes;
}

const uint8_t *mu_tensor_rows(const struct mu_tensor *tensor, uint64_t first, uint64_t n,
                              uint8_t *scratch)
{
    MU_ASSERT(mu_range_ok(first * mu_tensor_row_bytes(tensor), n * mu_tensor_row_bytes(tensor),
                          tensor->n_bytes));
    if (tensor->data) return tensor->data + first * mu_tensor_row_bytes(tensor);
    if (tensor->quantised)
        mu_quantised_rows(tensor->quantised, tensor->type, mu_tensor_row_bytes(tensor), first, n,
                          scratch);
    else
        mu_synth_rows(tensor, first, n, scratch);
    return scratch;
}
