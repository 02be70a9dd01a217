/* Files; see file.h. */
#include "base/file.h"

#include "base/alloc.h"
#include "base/fault.h"
#include "base/number.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define OUT_BUFFER_BYTES (1u << 20)

mu_status mu_file_map(const char *path, struct mu_file_map *map, struct mu_err *err)
{
    struct stat st;
    /* Without O_NONBLOCK a pipe put in a model's place would hold us for ever. */
    int fd = mu_fault_hit(MU_FAULT_READ) ? (errno = EIO, -1)
                                         : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        mu_status status = mu_fail_errno(err, MU_E_IO, errno, "cannot open");
        mu_err_where(err, "%s", path);
        return status;
    }
    mu_status status = MU_OK;
    void *p = NULL;
    if (fstat(fd, &st) != 0)
        status = mu_fail_errno(err, MU_E_IO, errno, "cannot tell its size");
    else if (!S_ISREG(st.st_mode))
        status = mu_fail(err, MU_E_INPUT, "not a regular file");
    else if (st.st_size > 0 &&
             (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED)
        status = mu_fail_errno(err, MU_E_IO, errno, "cannot map");
    mu_err_where(err, "%s", path);
    (void)close(fd);
    if (status == MU_OK) *map = (struct mu_file_map){p, (uint64_t)st.st_size};
    return status;
}

void mu_file_unmap(struct mu_file_map *map)
{
    if (map->bytes) (void)munmap((void *)(uintptr_t)map->bytes, map->size);
    *map = (struct mu_file_map){0};
}

void mu_file_release(const void *bytes, uint64_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = MU_ROUND_UP((uintptr_t)bytes, page);
    uintptr_t end = ((uintptr_t)bytes + size) / page * page;
    if (end > first) (void)madvise((void *)first, end - first, MADV_DONTNEED);
}

void mu_file_ahead(const void *bytes, uint64_t size)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), first = (uintptr_t)bytes / page * page;
    (void)madvise((void *)first, (uintptr_t)bytes + size - first, MADV_WILLNEED);
}

mu_status mu_fd_read(int fd, const char *name, struct mu_text *out, struct mu_err *err)
{
    char piece[16384];
    for (;;) {
        ssize_t n = mu_fault_hit(MU_FAULT_READ) ? (errno = EIO, -1) : read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            mu_status status = mu_fail_errno(err, MU_E_IO, errno, "cannot read");
            mu_err_where(err, "%s", name);
            return status;
        }
        if (n == 0) break;
        mu_text_add(out, piece, (size_t)n);
        if (out->status != MU_OK) break;
    }
    mu_status status = mu_text_status(out, err);
    mu_err_where(err, "%s", name);
    return status;
}

mu_status mu_file_read(const char *path, struct mu_text *out, struct mu_err *err)
{
    if (strcmp(path, "-") == 0) return mu_fd_read(STDIN_FILENO, "standard input", out, err);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        mu_status status = mu_fail_errno(err, MU_E_IO, errno, "cannot open");
        mu_err_where(err, "%s", path);
        return status;
    }
    mu_status status = mu_fd_read(fd, path, out, err);
    (void)close(fd);
    return status;
}

mu_status mu_fd_write(int fd, const char *name, const void *bytes, size_t len, struct mu_err *err)
{
    const char *p = bytes;
    while (len > 0) {
        ssize_t n = mu_fault_hit(MU_FAULT_WRITE) ? (errno = ENOSPC, -1) : write(fd, p, len);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            /* Somebody we share this pipe or terminal with made it non-blocking. */
            (void)poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, -1);
            continue;
        }
        if (n < 0) {
            mu_status status = mu_fail_errno(err, MU_E_IO, errno, "cannot write");
            mu_err_where(err, "%s", name);
            return status;
        }
        p += n;
        len -= (size_t)n;
    }
    return MU_OK;
}

mu_status mu_file_out_open(struct mu_file_out *out, const char *path, struct mu_err *err)
{
    struct stat st;
    char real[PATH_MAX];
    *out = (struct mu_file_out){.fd = -1};
    if (stat(path, &st) == 0) {
        if (!S_ISREG(st.st_mode)) {
            mu_status status =
                mu_fail(err, MU_E_USAGE, "is no regular file, and would be replaced");
            mu_err_where(err, "%s", path);
            return status;
        }
        if (realpath(path, real)) path = real; /* what a link points to, not the link */
    }
    size_t len = strlen(path);
    out->path = mu_strndup(path, len);
    out->part_path = mu_alloc(len + sizeof ".part");
    out->buffer = mu_alloc(OUT_BUFFER_BYTES);
    if (!out->path || !out->part_path || !out->buffer) {
        mu_file_out_close(out);
        return mu_fail_memory(err, OUT_BUFFER_BYTES);
    }
    (void)snprintf(out->part_path, len + sizeof ".part", "%s.part", path);
    out->fd = open(out->part_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (out->fd < 0) {
        mu_status status = mu_fail_errno(err, MU_E_IO, errno, "cannot create");
        mu_err_where(err, "%s", out->part_path);
        mu_file_out_close(out);
        return status;
    }
    return MU_OK;
}

static mu_status file_out_flush(struct mu_file_out *out, struct mu_err *err)
{
    size_t n = out->used;
    out->used = 0;
    return mu_fd_write(out->fd, out->part_path, out->buffer, n, err);
}

mu_status mu_file_out_write(struct mu_file_out *out, const void *bytes, size_t len,
                            struct mu_err *err)
{
    if (len > OUT_BUFFER_BYTES - out->used) MU_TRY(file_out_flush(out, err));
    if (len > OUT_BUFFER_BYTES) return mu_fd_write(out->fd, out->part_path, bytes, len, err);
    if (len) memcpy(out->buffer + out->used, bytes, len);
    out->used += len;
    return MU_OK;
}

/* A new name survives a power cut once its folder is on disk. Folders that we may not open, and
 * file systems that cannot sync one, are left to themselves. */
static bool folder_sync(const char *file_path)
{
    const char *slash = strrchr(file_path, '/');
    char *folder = slash ? mu_strndup(file_path, (size_t)(slash - file_path) + 1) : mu_strdup(".");
    int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    mu_free(folder);
    if (fd < 0) return true;
    bool good = fsync(fd) == 0 || errno != EIO;
    (void)close(fd);
    return good;
}

mu_status mu_file_out_commit(struct mu_file_out *out, struct mu_err *err)
{
    MU_TRY(file_out_flush(out, err));
    if (mu_fault_hit(MU_FAULT_WRITE) ? (errno = EIO, true) : fsync(out->fd) != 0) {
        mu_status status = mu_fail_errno(err, MU_E_IO, errno, "cannot bring to disk");
        mu_err_where(err, "%s", out->part_path);
        return status;
    }
    mu_status status = MU_OK;
    if (rename(out->part_path, out->path) != 0) {
        status = mu_fail_errno(err, MU_E_IO, errno, "cannot take its final name");
    } else {
        mu_free(out->part_path);
        out->part_path = NULL;
        if (!folder_sync(out->path))
            status = mu_fail_errno(err, MU_E_IO, EIO, "cannot bring its name to disk");
    }
    mu_err_where(err, "%s", out->path);
    return status;
}

void mu_file_out_close(struct mu_file_out *out)
{
    if (out->fd >= 0) {
        (void)close(out->fd);
        if (out->part_path) (void)unlink(out->part_path);
    }
    mu_free(out->path);
    mu_free(out->part_path);
    mu_free(out->buffer);
    *out = (struct mu_file_out){.fd = -1};
}

bool mu_file_exists(const char *path)
{
    return access(path, F_OK) == 0;
}

bool mu_file_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool mu_file_is_folder(const char *path)
{
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

char *mu_path_join(const char *folder, const char *name)
{
    size_t size = strlen(folder) + strlen(name) + 2;
    char *path = mu_alloc(size);
    if (path) (void)snprintf(path, size, "%s/%s", folder, name);
    return path;
}

mu_status mu_folder_make(const char *path, struct mu_err *err)
{
    char *copy = mu_strdup(path);
    if (!copy) return mu_fail_memory(err, strlen(path));
    mu_status status = MU_OK;
    for (char *p = copy + (copy[0] == '/'); status == MU_OK; p++) {
        char c = *p;
        if (c != '/' && c != '\0') continue;
        *p = '\0';
        if (mkdir(copy, 0777) != 0 && !(errno == EEXIST && mu_file_is_folder(copy))) {
            status = mu_fail_errno(err, MU_E_IO, errno, "cannot make the folder");
            mu_err_where(err, "%s", copy);
        }
        *p = c;
        if (c == '\0') break;
    }
    mu_free(copy);
    return status;
}

char *mu_folder_cache(void)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/') return mu_path_join(xdg, "muster");
    return home && home[0] == '/' ? mu_path_join(home, ".cache/muster") : NULL;
}

/* Takes the name away at once: what is left of the file is `fd`. */
static int open_nameless(const char *folder)
{
    char *path = mu_path_join(folder, "scratch-XXXXXX");
    int fd = path ? mkostemp(path, O_CLOEXEC) : (errno = ENOMEM, -1);
    if (fd >= 0) (void)unlink(path);
    mu_free(path);
    return fd;
}

/* 0, or why not. Pages are written as they are needed, when it is too late to say that the disk is
 * full; so the space is taken now. */
static int map_space(int fd, uint64_t size, void **out)
{
    int failed = size > INT64_MAX               ? EFBIG
                 : mu_fault_hit(MU_FAULT_WRITE) ? ENOSPC
                                                : posix_fallocate(fd, 0, (off_t)size);
    if (failed) return failed;
    *out = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return *out == MAP_FAILED ? errno : 0;
}

mu_status mu_file_scratch(uint64_t size, uint8_t **out, struct mu_err *err)
{
    char bytes[MU_BYTES_TEXT], *cache = mu_folder_cache();
    const char *folder = cache ? cache : "/var/tmp";
    void *p = NULL;
    mu_status status = mu_folder_make(folder, err);
    int fd = status == MU_OK ? open_nameless(folder) : -1;
    int failed = fd < 0 ? errno : map_space(fd, size, &p);
    if (status == MU_OK && failed) {
        status = mu_fail_errno(err, MU_E_IO, failed, "cannot take %s of the disk",
                               mu_format_bytes(size, bytes));
        mu_err_where(err, "%s", folder);
        mu_err_cure(err, "set XDG_CACHE_HOME to a folder that has the room");
    }
    if (fd >= 0) (void)close(fd);
    mu_free(cache);
    if (status == MU_OK) *out = p;
    return status;
}

void mu_file_scratch_free(uint8_t *bytes, uint64_t size)
{
    if (bytes) (void)munmap(bytes, size);
}
