/* Any bytes as a safetensors file. The first byte chooses whether the rest is a whole file or a
 * header to which the right length is added, so that mutations reach the JSON. */
#include "format/format_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static volatile uint64_t sink MU_UNUSED; /* keeps the reads in */
    if (size == 0) return 0;
    const bool whole = data[0] & 1;
    uint64_t len = size - 1, n_data = whole ? 0 : data[0] / 2, prefix = whole ? 0 : 8;
    uint8_t *bytes = mu_calloc(1, prefix + len + n_data);
    if (!bytes) return 0;
    memcpy(bytes, &len, prefix);
    memcpy(bytes + prefix, data + 1, len);
    struct mu_err err = MU_ERR_INIT;
    struct mu_file_bytes file = {"fuzz.safetensors", bytes, prefix + len + n_data, 0};
    struct mu_arena *arena = mu_arena_create(1 << 26);
    struct mu_tensor_list list = {0};
    if (arena && mu_safetensors_parse(&file, arena, &list, &err) == MU_OK)
        for (uint64_t i = 0; i < list.n; i++)
            if (list.items[i].n_bytes) sink += list.items[i].data[list.items[i].n_bytes - 1];
    mu_arena_destroy(arena);
    mu_free(list.items);
    mu_free(bytes);
    return 0;
}
