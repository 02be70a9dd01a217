/* Writes one fp32 tensor as a safetensors file; see format.h. */
#include "format/format.h"

#include "base/checked.h"
#include "base/file.h"

mu_status mu_safetensors_save(const char *path, const char *name, const uint64_t *dims,
                              unsigned n_dims, const float *values, struct mu_err *err)
{
    struct mu_text header;
    uint64_t bytes = sizeof *values;
    mu_text_init(&header, 4096);
    mu_text_printf(&header, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[", name);
    for (unsigned i = 0; i < n_dims; i++) {
        mu_text_printf(&header, "%s%llu", i ? "," : "", (unsigned long long)dims[i]);
        if (!mu_mul(bytes, dims[i], &bytes)) bytes = 0;
    }
    mu_text_printf(&header, "],\"data_offsets\":[0,%llu]}}", (unsigned long long)bytes);
    while (header.status == MU_OK && header.len % 8 != 0)
        mu_text_char(&header, ' ');
    uint64_t length = header.len;
    struct mu_file_out out;
    mu_status status = mu_text_status(&header, err);
    if (status == MU_OK) status = mu_file_out_open(&out, path, err);
    if (status == MU_OK) {
        status = mu_file_out_write(&out, &length, sizeof length, err);
        if (status == MU_OK)
            status = mu_file_out_write(&out, mu_text_get(&header), header.len, err);
        if (status == MU_OK) status = mu_file_out_write(&out, values, bytes, err);
        if (status == MU_OK) status = mu_file_out_commit(&out, err);
        mu_file_out_close(&out);
    }
    mu_text_fini(&header);
    return status;
}
