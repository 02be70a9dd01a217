/*
 * Files: mapped read-only, read whole under a limit, written whole or not at all. Every read and
 * write passes a fault point. Any thread.
 */
#ifndef MU_BASE_FILE_H
#define MU_BASE_FILE_H

#include "base/text.h"

struct mu_file_map {
    const uint8_t *bytes; /* NULL for an empty file */
    uint64_t size;
};

/* Maps a regular file. A file that another process shortens later raises SIGBUS in whoever reads
 * it; model folders are not edited while they are in use. */
mu_status mu_file_map(const char *path, struct mu_file_map *map, struct mu_err *err);
void mu_file_unmap(struct mu_file_map *map);
/* Tells the system that these mapped pages will not be used for now, or that they soon will be. */
void mu_file_release(const void *bytes, uint64_t size);
void mu_file_ahead(const void *bytes, uint64_t size);

/* Appends the whole file; "-" is standard input. More than the text's maximum is an error. */
mu_status mu_file_read(const char *path, struct mu_text *out, struct mu_err *err);
/* Appends all that `fd` gives until its end; `name` is for messages. */
mu_status mu_fd_read(int fd, const char *name, struct mu_text *out, struct mu_err *err);
/* Writes all bytes, however many calls it takes. */
mu_status mu_fd_write(int fd, const char *name, const void *bytes, size_t len, struct mu_err *err);

/* A file that appears under its name only when complete: written beside it, synced, renamed. */
struct mu_file_out {
    int fd;
    char *path, *part_path;
    char *buffer;
    size_t used;
};

mu_status mu_file_out_open(struct mu_file_out *out, const char *path, struct mu_err *err);
mu_status mu_file_out_write(struct mu_file_out *out, const void *bytes, size_t len,
                            struct mu_err *err);
mu_status mu_file_out_commit(struct mu_file_out *out, struct mu_err *err);
/* Releases; removes the part file unless committed. */
void mu_file_out_close(struct mu_file_out *out);

bool mu_file_exists(const char *path);
/* Two names of one file that is there. */
bool mu_file_same(const char *a, const char *b);
bool mu_file_is_folder(const char *path);
/* "folder/name"; free with mu_free. NULL when memory is out. */
char *mu_path_join(const char *folder, const char *name) MU_NODISCARD;
/* Makes the folder and those above it, as `mkdir -p` does. */
mu_status mu_folder_make(const char *path, struct mu_err *err);
/* ~/.cache/muster, or where XDG_CACHE_HOME says; NULL when there is no home, or no memory. Free
 * with mu_free. */
char *mu_folder_cache(void) MU_NODISCARD;

/* Room on the disk, mapped to be written and read: a file of the cache folder that has no name, so
 * that it is gone with the mapping, or with the process. The space is taken at once; MU_E_SPACE
 * when it is not there. */
mu_status mu_file_scratch(uint64_t size, uint8_t **out, struct mu_err *err);
void mu_file_scratch_free(uint8_t *bytes, uint64_t size);

#endif
