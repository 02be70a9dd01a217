/* Any bytes as a tokenizer.json: what loads must encode and decode without harm. */
#include "../text/small.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    small_fuzz(mu_tokenizer_spec_parse, data, size);
    return 0;
}
