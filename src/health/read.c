/*
 * A log as a stream of bytes in bounded memory: whole lines are searched in place for the texts of
 * the catalogue, and only lines that hold one are looked at. A line longer than the buffer is
 * searched piece by piece. Knows nothing of what lines mean.
 */
#include "base/alloc.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/utf8.h"
#include "health/health_int.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define BUFFER_BYTES ((size_t)1 << 20)
#define READ_BYTES   ((size_t)256 << 10)
#define HITS_MAX     256
/* Of a long line only the neighbourhood of a hit is matched: configuration lines are shorter. */
#define SUBJECT_MAX    ((size_t)24 << 10)
#define SUBJECT_BEFORE ((size_t)4 << 10)
#define BINARY_PROBE   4096
#define IDLE_MS        15000 /* of a program that was asked for a log */
#define POLL_MS        100

mu_status mu_health_log_begin(struct mu_health_diagnosis *d, const char *name, struct mu_err *err)
{
    if (d->n_logs == MU_HEALTH_LOGS_MAX)
        return mu_fail(err, MU_E_RESOURCE, "more than %d logs", MU_HEALTH_LOGS_MAX);
    if (!d->buffer) d->buffer = mu_alloc(BUFFER_BYTES);
    if (!d->buffer) return mu_fail_memory(err, BUFFER_BYTES);
    struct mu_health_log *log = &d->logs[d->n_logs++];
    *log = (struct mu_health_log){.time_ms = -1};
    (void)mu_utf8_copy_harmless(log->name, sizeof log->name, mu_str(name), '\0');
    d->held = 0;
    d->in_long_line = false;
    memset(d->streams, 0, sizeof d->streams);
    return MU_OK;
}

static size_t newlines(const char *p, const char *end)
{
    size_t n = 0;
    for (; p < end && (p = memchr(p, '\n', (size_t)(end - p))); p++)
        n++;
    return n;
}

/* The part of the line around `at` that is worth matching. */
static struct mu_str subject(struct mu_str line, const char *at)
{
    if (line.len <= SUBJECT_MAX) return line;
    size_t offset = (size_t)(at - line.p);
    size_t skip = offset > SUBJECT_BEFORE ? offset - SUBJECT_BEFORE : 0;
    return (struct mu_str){line.p + skip, MU_MIN(line.len - skip, SUBJECT_MAX)};
}

static void rows_add(const struct mu_health_catalog *c, unsigned literal,
                     uint64_t rows[MU_HEALTH_ROW_WORDS])
{
    const struct mu_health_literal *l = &c->literals[literal];
    for (unsigned i = 0; i < l->n_rows; i++) {
        unsigned row = c->rows_of[l->first_row + i];
        rows[row / 64] |= (uint64_t)1 << row % 64;
    }
}

struct scan {
    struct mu_str bytes;
    const char *counted; /* up to here the lines are counted */
    uint64_t line;       /* the number of the line at `counted` */
    struct mu_str now;   /* the line whose hits are being gathered; p NULL: none */
    const char *first;   /* its first hit */
    uint64_t rows[MU_HEALTH_ROW_WORDS];
    /* The last of a run of lines that only say "still at work"; p NULL: none. */
    struct mu_str quiet;
    uint64_t quiet_line;
    uint64_t quiet_rows[MU_HEALTH_ROW_WORDS];
};

#define QUIET_SAME 20 /* lines that begin alike are of the same process */

static mu_status scan_finish_quiet(struct mu_health_diagnosis *d, struct scan *s,
                                   struct mu_err *err)
{
    if (!s->quiet.p) return MU_OK;
    struct mu_str line = s->quiet;
    s->quiet.p = NULL;
    return mu_health_observe(d, line, s->quiet_line, s->quiet_rows, err);
}

static bool scan_is_quiet(const struct mu_health_diagnosis *d, const struct scan *s)
{
    for (unsigned w = 0; w < MU_HEALTH_ROW_WORDS; w++)
        if (s->rows[w] & ~d->catalog->quiet_rows[w]) return false;
    return s->now.len >= QUIET_SAME;
}

static mu_status scan_finish_line(struct mu_health_diagnosis *d, struct scan *s, struct mu_err *err)
{
    if (!s->now.p) return MU_OK;
    struct mu_str line = subject(s->now, s->first);
    bool quiet = scan_is_quiet(d, s);
    s->now.p = NULL;
    if (!quiet || (s->quiet.p && memcmp(line.p, s->quiet.p, QUIET_SAME) != 0))
        MU_TRY(scan_finish_quiet(d, s, err));
    if (!quiet) return mu_health_observe(d, line, s->line, s->rows, err);
    s->quiet = line;
    s->quiet_line = s->line;
    memcpy(s->quiet_rows, s->rows, sizeof s->rows);
    return MU_OK;
}

static void scan_start_line(struct scan *s, const char *hit)
{
    const char *end = s->bytes.p + s->bytes.len;
    const char *begin = memrchr(s->bytes.p, '\n', (size_t)(hit - s->bytes.p));
    begin = begin ? begin + 1 : s->bytes.p;
    const char *stop = memchr(hit, '\n', (size_t)(end - hit));
    s->line += newlines(s->counted, begin);
    s->counted = begin;
    s->now = (struct mu_str){begin, (size_t)((stop ? stop : end) - begin)};
    s->first = hit;
    memset(s->rows, 0, sizeof s->rows);
}

/* Searches whole lines, or a piece of one line. */
static mu_status scan_bytes(struct mu_health_diagnosis *d, char *p, size_t len, struct mu_err *err)
{
    struct mu_health_log *log = &d->logs[d->n_logs - 1];
    if (log->n_lines == 0 && memchr(p, '\0', MU_MIN(len, (size_t)BINARY_PROBE))) log->n_binary++;
    len = mu_health_strip_controls(p, len);
    struct scan s = {.bytes = {p, len}, .counted = p, .line = log->n_lines + 1};
    struct mu_health_hit hits[HITS_MAX];
    size_t pos = 0, n;
    while ((n = mu_health_prefilter_scan(&d->catalog->prefilter, s.bytes, &pos, hits, HITS_MAX))) {
        for (size_t i = 0; i < n; i++) {
            const char *at = p + hits[i].pos - 1;
            if (!s.now.p || at >= s.now.p + s.now.len) {
                MU_TRY(scan_finish_line(d, &s, err));
                scan_start_line(&s, at);
            }
            rows_add(d->catalog, hits[i].literal, s.rows);
        }
    }
    MU_TRY(scan_finish_line(d, &s, err));
    MU_TRY(scan_finish_quiet(d, &s, err));
    log->n_lines += newlines(p, p + len);
    return MU_OK;
}

/* The buffer is full: its whole lines are searched, the rest moves to the front. A buffer without
 * any newline is a piece of one long line, which keeps its number. */
static mu_status buffer_search(struct mu_health_diagnosis *d, struct mu_err *err)
{
    const char *last = memrchr(d->buffer, '\n', d->held);
    size_t whole = last ? (size_t)(last - d->buffer) + 1 : d->held;
    if (!last && !d->in_long_line) d->logs[d->n_logs - 1].n_long++;
    d->in_long_line = !last;
    size_t left = d->held - whole;
    d->held = 0;
    MU_TRY(scan_bytes(d, d->buffer, whole, err));
    memmove(d->buffer, d->buffer + whole, left);
    d->held = left;
    return MU_OK;
}

mu_status mu_health_log_feed(struct mu_health_diagnosis *d, const void *bytes, size_t len,
                             struct mu_err *err)
{
    MU_ASSERT(d->n_logs > 0);
    d->logs[d->n_logs - 1].n_bytes += len;
    for (const char *p = bytes; len > 0;) {
        size_t n = MU_MIN(len, BUFFER_BYTES - d->held);
        memcpy(d->buffer + d->held, p, n);
        d->held += n;
        p += n;
        len -= n;
        if (d->held == BUFFER_BYTES) MU_TRY(buffer_search(d, err));
    }
    return MU_OK;
}

mu_status mu_health_log_end(struct mu_health_diagnosis *d, struct mu_err *err)
{
    struct mu_health_log *log = &d->logs[d->n_logs - 1];
    if (d->held == 0) return MU_OK;
    bool open_line = d->buffer[d->held - 1] != '\n';
    size_t held = d->held;
    d->held = 0;
    MU_TRY(scan_bytes(d, d->buffer, held, err));
    log->n_lines += open_line;
    return MU_OK;
}

/* A log that is packed, or in two bytes a character, holds no line that anybody could match. */
static mu_status encoding_check(const char *p, size_t len, const char *path, struct mu_err *err)
{
    static const struct {
        struct mu_str magic;
        const char *what, *unpack;
    } known[] = {
        {MU_STR("\x1f\x8b"), "compressed by gzip", "gzip -dc"},
        {MU_STR("\x28\xb5\x2f\xfd"), "compressed by zstd", "zstd -dc"},
        {MU_STR("\xfd\x37zXZ"), "compressed by xz", "xz -dc"},
        {MU_STR("BZh"), "compressed by bzip2", "bzip2 -dc"},
        {MU_STR("\xff\xfe"), "text in UTF-16", "iconv -f UTF-16 -t UTF-8"},
        {MU_STR("\xfe\xff"), "text in UTF-16", "iconv -f UTF-16 -t UTF-8"},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(known); i++) {
        struct mu_str magic = known[i].magic;
        if (len < magic.len || memcmp(p, magic.p, magic.len) != 0) continue;
        (void)mu_fail(err, MU_E_INPUT, "the log is %s", known[i].what);
        mu_err_where(err, "%s", path);
        mu_err_cure(err, "%s FILE | muster validate-perf --log -", known[i].unpack);
        return MU_E_INPUT;
    }
    return MU_OK;
}

/* Whether there is something to read; a file always has. */
static mu_status fd_await(int fd, const char *path, bool (*stop)(void), struct mu_err *err)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (unsigned ms = 0; ms < IDLE_MS; ms += POLL_MS)
        if (poll(&p, 1, POLL_MS) > 0 || (stop && stop())) return MU_OK;
    return mu_fail(err, MU_E_PEER, "%s gave nothing for %d s", path, IDLE_MS / 1000);
}

mu_status mu_health_fd_read(struct mu_health_diagnosis *d, int fd, const char *path, bool patient,
                            bool (*stop)(void), struct mu_err *err)
{
    char *piece = mu_alloc(READ_BYTES);
    if (!piece) return mu_fail_memory(err, READ_BYTES);
    mu_status status = MU_OK;
    while (status == MU_OK && !(stop && stop())) {
        if (!patient) status = fd_await(fd, path, stop, err);
        if (status != MU_OK || (stop && stop())) break;
        ssize_t n = mu_fault_hit(MU_FAULT_READ) ? (errno = EIO, -1) : read(fd, piece, READ_BYTES);
        if (n == 0) break;
        if (n > 0 && d->logs[d->n_logs - 1].n_bytes == 0)
            status = encoding_check(piece, (size_t)n, path, err);
        if (n > 0 && status == MU_OK)
            status = mu_health_log_feed(d, piece, (size_t)n, err);
        else if (n < 0 && errno != EINTR)
            status = mu_fail_errno(err, MU_E_IO, errno, "cannot read %s", path);
    }
    mu_free(piece);
    if (status == MU_OK && stop && stop())
        return mu_fail(err, MU_E_INTERRUPTED, "interrupted while reading %s", path);
    return status;
}
