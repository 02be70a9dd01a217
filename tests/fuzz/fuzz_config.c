/* Any JSON as config.json (first byte even) or generation_config.json (odd). */
#include "format/format_int.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mu_config config;
    struct mu_err err = MU_ERR_INIT;
    json_t *root = NULL;
    if (size == 0) return 0;
    struct mu_str text = {(const char *)data + 1, size - 1};
    mu_config_init(&config);
    if (mu_json_parse(text, "fuzz.json", &root, &err) != MU_OK) return 0;
    mu_status status = data[0] & 1 ? mu_config_add_generation(root, "fuzz.json", &config, &err)
                                   : mu_config_from_json(root, "fuzz.json", &config, &err);
    if (status != err.code) abort();
    /* What was accepted must be safe to divide by. */
    if (status == MU_OK && !(data[0] & 1) && mu_config_known(config.architecture) &&
        (config.n_layers == 0 || config.n_kv_heads == 0 || config.n_heads % config.n_kv_heads != 0))
        abort();
    json_decref(root);
    return 0;
}
