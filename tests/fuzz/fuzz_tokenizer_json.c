/* Any bytes as a tokenizer.json: what loads must encode and decode without harm. */
#include "../text/small.h"

#include "base/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void use(const struct mu_tokenizer *t)
{
    static const char text[] =
        "Hello the  12345 w\xc3\xb6rld's <|end|> \xe4\xb8\xad a\xcc\x81\r\n \xff";
    struct mu_err err = MU_ERR_INIT;
    struct mu_ids ids = {0};
    struct mu_text out;
    mu_text_init(&out, 1 << 20);
    for (unsigned flags = 0; flags < 4; flags++)
        if (mu_tokenizer_encode(t, mu_str(text), flags, &ids, &err) != MU_OK) break;
    for (size_t i = 0; i < ids.n; i++)
        if (ids.p[i] >= mu_tokenizer_size(t)) abort();
    if (mu_tokenizer_decode(t, ids.p, ids.n, 0, &out, &err) == MU_OK &&
        !mu_utf8_valid((struct mu_str){mu_text_get(&out), out.len}))
        abort();
    mu_ids_fini(&ids);
    mu_text_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_tokenizer_spec *spec = NULL;
    struct mu_tokenizer *t = NULL;
    struct mu_str bytes = {(const char *)data, size};
    mu_status status = mu_tokenizer_spec_parse(bytes, "fuzz", &spec, &err);
    if (status == MU_OK) status = mu_tokenizer_create(spec, &t, &err);
    mu_tokenizer_spec_destroy(spec);
    if ((status == MU_OK) != (err.code == MU_OK)) abort();
    if (t) use(t);
    mu_tokenizer_destroy(t);
    return 0;
}
