/*
 * share/models.tsv as part of the program, so that the binary alone suffices. A folder named by
 * MUSTER_SHARE comes first: that is how a person tries an edited table.
 */
#include "format/format_int.h"

#include "base/file.h"

#include <stdlib.h>

#define TABLE_BYTES_MAX (4u << 20)

/* Paths are relative to where the compiler runs, the root of the repository. */
__asm__(".section .rodata\n"
        ".balign 16\n"
        "mu_share_models_begin:\n"
        ".incbin \"share/models.tsv\"\n"
        "mu_share_models_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char mu_share_models_begin[], mu_share_models_end[];

mu_status mu_share_models(struct mu_text *out, struct mu_err *err)
{
    const char *folder = getenv("MUSTER_SHARE");
    mu_text_init(out, TABLE_BYTES_MAX);
    if (!folder || !folder[0]) {
        mu_text_add(out, mu_share_models_begin,
                    (size_t)(mu_share_models_end - mu_share_models_begin));
        return mu_text_status(out, err);
    }
    char *path = mu_path_join(folder, "models.tsv");
    mu_status status = path ? mu_file_read(path, out, err) : mu_fail_memory(err, strlen(folder));
    mu_free(path);
    return status;
}
