/*
 * Any bytes as stored blocks of any type: decoding stays inside the block and encoding what came
 * out, whatever numbers they are, does too. The first byte names the type.
 */
#include "kernel/kernel.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Exactly as large as needed, so that the sanitizer sees one byte too many. */
static void *exact_copy(const void *data, size_t size)
{
    void *copy = malloc(size ? size : 1);
    if (!copy) abort();
    if (size) memcpy(copy, data, size);
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1 || size > 4096) return 0;
    enum mu_dtype type = (enum mu_dtype)(data[0] % MU_DTYPE_COUNT);
    if (!mu_codec_can_decode(type)) return 0;
    const struct mu_dtype_info *info = mu_dtype(type);
    size_t blocks = (size - 1) / info->block_bytes, n = blocks * info->block_values;
    uint8_t *stored = exact_copy(data + 1, blocks * info->block_bytes);
    float *x = malloc(n * sizeof *x + 1);
    if (!x) abort();
    mu_codec_decode(type, stored, x, n);
    if (mu_codec_can_encode(type)) mu_codec_encode(type, x, stored, n);
    for (size_t i = 0; i < n; i++)
        (void)(mu_expf(x[i]) + mu_tanhf(x[i]) + mu_erff(x[i]));
    free(x);
    free(stored);
    return 0;
}
