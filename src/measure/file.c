/* How fast a file comes from its disk; see measure.h. */
#include "measure/measure.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define READ_BYTES  ((off_t)64 << 20)
#define PIECE_BYTES ((size_t)1 << 20)

mu_status mu_measure_file(const char *path, double *bytes_per_s, struct mu_err *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return mu_fail_errno(err, MU_E_IO, errno, "cannot read %s", path);
    off_t size = lseek(fd, 0, SEEK_END), n = MU_MIN(MU_MAX(size, 0), READ_BYTES);
    off_t first = (size - n) / 2, done = 0;
    void *piece = mu_alloc_aligned(4096, PIECE_BYTES);
    mu_status status = piece ? MU_OK : mu_fail_memory(err, PIECE_BYTES);
    (void)posix_fadvise(fd, first, n, POSIX_FADV_DONTNEED);
    uint64_t begin = mu_clock_ns();
    while (status == MU_OK && done < n) {
        ssize_t got = pread(fd, piece, PIECE_BYTES, first + done);
        if (got <= 0) status = mu_fail(err, MU_E_INPUT, "%s cannot be read", path);
        done += MU_MAX(got, 0);
    }
    if (status == MU_OK)
        *bytes_per_s = (double)MU_MAX(done, 1) / MU_MAX(mu_clock_seconds_since(begin), 1e-9);
    mu_free(piece);
    (void)close(fd);
    return status;
}
