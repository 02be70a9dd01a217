/* Any bytes as a GGUF file that holds a tokenizer: what loads must encode and decode without harm.
 */
#include "../text/small.h"

#include "format/tokenizer_int.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static mu_status parse(struct mu_str bytes, const char *name, struct mu_tokenizer_spec **out,
                       struct mu_err *err)
{
    struct mu_file_bytes file = {name, (const uint8_t *)bytes.p, bytes.len, 0};
    struct mu_arena *arena = mu_arena_create(1 << 26);
    struct mu_tensor_list list = {0};
    struct mu_gguf *gguf;
    struct mu_tokenizer_spec *spec = arena ? mu_tokenizer_spec_new(name, err) : NULL;
    mu_status status = spec ? MU_OK : mu_fail_memory(err, 1 << 26);
    if (status == MU_OK) status = mu_gguf_parse(&file, arena, &list, &gguf, err);
    if (status == MU_OK) status = mu_tokenizer_spec_from_gguf(gguf, name, spec, err);
    if (status == MU_OK)
        *out = spec;
    else
        mu_tokenizer_spec_destroy(spec);
    mu_arena_destroy(arena);
    mu_free(list.items);
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    small_fuzz(parse, data, size);
    return 0;
}
