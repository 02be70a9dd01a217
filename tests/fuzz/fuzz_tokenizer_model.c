/* Any bytes as a tokenizer.model: what loads must encode and decode without harm. */
#include "../text/small.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_tokenizer_spec *spec = NULL;
    struct mu_tokenizer *t = NULL;
    struct mu_str bytes = {(const char *)data, size};
    mu_status status = mu_tokenizer_spec_parse_model(bytes, "fuzz", &spec, &err);
    if (status == MU_OK) status = mu_tokenizer_create(spec, &t, &err);
    mu_tokenizer_spec_destroy(spec);
    if ((status == MU_OK) != (err.code == MU_OK)) abort();
    if (t) small_use(t);
    mu_tokenizer_destroy(t);
    return 0;
}
