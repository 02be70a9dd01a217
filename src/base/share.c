/* Reading the tables of share/; see share.h. */
#include "base/share.h"

#include "base/alloc.h"
#include "base/file.h"

#include <stdlib.h>

#define TABLE_BYTES_MAX (4u << 20)

mu_status mu_share_read(const char *file, struct mu_str embedded, struct mu_text *out,
                        struct mu_err *err)
{
    const char *folder = getenv("MUSTER_SHARE");
    mu_text_init(out, TABLE_BYTES_MAX);
    if (folder && folder[0] && !mu_file_is_folder(folder)) {
        mu_status status = mu_fail(err, MU_E_USAGE, "MUSTER_SHARE names no folder: %s", folder);
        mu_err_cure(err, "name a folder with edited tables, or unset it");
        return status;
    }
    char *path = folder && folder[0] ? mu_path_join(folder, file) : NULL;
    if (folder && folder[0] && !path) return mu_fail_memory(err, strlen(folder));
    mu_status status;
    if (path && mu_file_exists(path)) {
        status = mu_file_read(path, out, err);
    } else {
        mu_text_add(out, embedded.p, embedded.len);
        status = mu_text_status(out, err);
    }
    mu_free(path);
    return status;
}
