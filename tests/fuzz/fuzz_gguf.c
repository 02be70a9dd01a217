/* Any bytes as a GGUF file: metadata, tensors and configuration, all of it read afterwards. */
#include "format/format_int.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t touch(const struct mu_gguf *gguf, const struct mu_tensor_list *list)
{
    uint64_t sum = 0, number;
    for (uint64_t i = 0; i < gguf->n_values; i++) {
        const struct mu_gguf_value *v = &gguf->values[i];
        struct mu_cursor c = mu_cursor_over(v->bytes, v->n_bytes);
        for (uint64_t j = 0; v->type == MU_GGUF_STRING && j < v->n; j++)
            sum += mu_gguf_next_string(&c).len;
        if (c.failed) abort();
        if (v->n && mu_gguf_element_u64(v, v->n - 1, &number)) sum += number;
    }
    for (uint64_t i = 0; i < list->n; i++) {
        const struct mu_tensor *t = &list->items[i];
        if (t->n_bytes) sum += (uint64_t)t->data[0] + t->data[t->n_bytes - 1];
        sum += mu_tensor_row_bytes(t);
    }
    return sum;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static volatile uint64_t sink MU_UNUSED; /* keeps the reads in */
    struct mu_err err = MU_ERR_INIT;
    struct mu_file_bytes file = {"fuzz.gguf", data, size, 0};
    struct mu_arena *arena = mu_arena_create(1 << 26);
    struct mu_tensor_list list = {0};
    struct mu_gguf *gguf;
    struct mu_config *config = mu_alloc(sizeof *config);
    if (arena && config && mu_gguf_parse(&file, arena, &list, &gguf, &err) == MU_OK) {
        sink += touch(gguf, &list);
        if (mu_config_from_gguf(gguf, &list, "fuzz.gguf", config, &err) == MU_OK)
            sink += config->vocab;
    }
    mu_arena_destroy(arena);
    mu_free(list.items);
    mu_free(config);
    return 0;
}
