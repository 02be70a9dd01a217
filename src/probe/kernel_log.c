/* The driver's Xid lines in the kernel's log: from /dev/kmsg, or from a file that was given. Only
 * finds and dates them; what a number means is the catalogue's business. */
#include "base/alloc.h"
#include "base/file.h"
#include "base/number.h"
#include "probe/probe_int.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_MAX_BYTES    ((size_t)64 << 20)
#define RECORD_MAX_BYTES 8192
#define RECORDS_MAX      200000 /* a log that is written faster than it is read has an end too */

struct reader {
    struct mu_probe_node *node;
    double uptime_s; /* negative: not known */
};

static int gpu_of(const struct mu_probe_node *node, const char *bus_id)
{
    for (unsigned i = 0; i < node->n_gpus; i++)
        if (strncmp(node->gpus[i].bus_id, bus_id, strlen("0000:17:00")) == 0) return (int)i;
    return -1;
}

/* "PCI:0000:17:00" or "0000:17:00.0" up to a bracket, as sysfs spells it without the function. */
static void bus_id_take(struct mu_str s, char out[32])
{
    if (s.len > 4 && memcmp(s.p, "PCI:", 4) == 0) s = (struct mu_str){s.p + 4, s.len - 4};
    probe_text_copy(out, 32, s.p, MU_MIN(s.len, (size_t)31));
}

/* One line of the log; `at_s` since the start of the machine, negative when it is not known. */
static void line_take(struct reader *r, struct mu_str line, double at_s)
{
    static const struct mu_str mark = MU_STR("NVRM: Xid (");
    const char *p = memmem(line.p, line.len, mark.p, mark.len);
    if (!p) return;
    const char *end = line.p + line.len, *id = p + mark.len;
    const char *close = memchr(id, ')', (size_t)(end - id));
    if (!close || end - close < 4 || memcmp(close, "): ", 3) != 0) return;
    const char *number = close + 3;
    size_t digits = 0;
    while (number + digits < end && number[digits] >= '0' && number[digits] <= '9')
        digits++;
    uint64_t code;
    if (!mu_parse_u64((struct mu_str){number, digits}, 1, 9999, &code)) return;
    struct mu_probe_node *node = r->node;
    node->n_xids_seen++;
    if (node->n_xids == MU_PROBE_XIDS_MAX) /* the latest are kept */
        memmove(&node->xids[0], &node->xids[1], --node->n_xids * sizeof node->xids[0]);
    struct mu_probe_xid *x = &node->xids[node->n_xids++];
    *x = (struct mu_probe_xid){.code = (int)code, .age_s = probe_absent(MU_PROBE_NO_FILE)};
    if (at_s >= 0 && r->uptime_s >= at_s) x->age_s = probe_value(r->uptime_s - at_s);
    bus_id_take((struct mu_str){id, (size_t)(close - id)}, x->bus_id);
    x->gpu = gpu_of(node, x->bus_id);
    probe_text_copy(x->line, sizeof x->line, p, (size_t)(end - p));
}

/* "6,1234,5678000,-;text": the third number is in microseconds. */
static void record_take(struct reader *r, struct mu_str record)
{
    const char *text = memchr(record.p, ';', record.len);
    if (!text) return;
    const char *field = record.p;
    for (unsigned i = 0; i < 2 && field; i++) {
        field = memchr(field, ',', (size_t)(text - field));
        field = field ? field + 1 : NULL;
    }
    uint64_t us;
    size_t len = 0;
    while (field && field + len < text && field[len] >= '0' && field[len] <= '9')
        len++;
    bool dated = field && mu_parse_u64((struct mu_str){field, len}, 0, UINT64_MAX / 2, &us);
    text++;
    size_t left = record.len - (size_t)(text - record.p);
    const char *newline = memchr(text, '\n', left);
    line_take(r, (struct mu_str){text, newline ? (size_t)(newline - text) : left},
              dated ? (double)us * 1e-6 : -1);
}

static mu_probe_absence kmsg_read(struct reader *r, int fd)
{
    char record[RECORD_MAX_BYTES];
    for (unsigned i = 0; i < RECORDS_MAX; i++) {
        ssize_t n = read(fd, record, sizeof record);
        if (n > 0)
            record_take(r, (struct mu_str){record, (size_t)n});
        else if (n == 0 || errno == EAGAIN)
            break;
        else if (errno != EPIPE && errno != EINTR && errno != EINVAL) /* EPIPE: some were lost */
            return MU_PROBE_NO_FILE;
    }
    return MU_PROBE_VALID;
}

/* "[ 1234.567890] text" as dmesg prints it. */
static double dmesg_time(struct mu_str line)
{
    double at;
    const char *close = line.len && line.p[0] == '[' ? memchr(line.p, ']', line.len) : NULL;
    if (!close) return -1;
    struct mu_str s = {line.p + 1, (size_t)(close - line.p - 1)};
    for (; s.len && s.p[0] == ' '; s.p++)
        s.len--;
    return mu_parse_f64(s, &at) ? at : -1;
}

/* As dmesg, dmesg -T, journalctl and syslog print them, or the driver's part alone. */
static bool line_is_kernels(struct mu_str line)
{
    bool dated = line.len > 5 && line.p[0] == '[' && line.p[4] == ' ' && line.p[1] >= 'A' &&
                 line.p[1] <= 'Z';
    return dated || dmesg_time(line) >= 0 || memmem(line.p, line.len, " kernel: ", 9) ||
           memmem(line.p, line.len, "NVRM: ", 6);
}

mu_status kernel_log_check(const char *file, struct mu_err *err)
{
    struct stat about;
    if (stat(file, &about) != 0 || access(file, R_OK) != 0)
        return mu_fail_errno(err, MU_E_IO, errno, "cannot read the kernel's log %s", file);
    return S_ISDIR(about.st_mode)
               ? mu_fail_errno(err, MU_E_IO, EISDIR, "cannot read the kernel's log %s", file)
               : MU_OK;
}

static void file_read(struct reader *r, const char *path)
{
    bool kernels = false;
    struct mu_text text;
    struct mu_err err = MU_ERR_INIT;
    mu_text_init(&text, LOG_MAX_BYTES);
    if (mu_file_read(path, &text, &err) != MU_OK) {
        r->node->kernel_log = MU_PROBE_NO_FILE;
        (void)snprintf(r->node->kernel_log_what, sizeof r->node->kernel_log_what, "%.100s: %.80s",
                       path, err.what);
    }
    /* What was read before a fault counts all the same. */
    for (const char *p = mu_text_get(&text), *end = p + text.len; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        struct mu_str line = {p, (size_t)((newline ? newline : end) - p)};
        line_take(r, line, dmesg_time(line));
        kernels = kernels || line_is_kernels(line);
        p += line.len + 1;
    }
    if (!kernels && !r->node->kernel_log) {
        r->node->kernel_log = MU_PROBE_NO_FILE;
        (void)snprintf(r->node->kernel_log_what, sizeof r->node->kernel_log_what,
                       "%.100s holds no line of a kernel", path);
    }
    mu_text_fini(&text);
}

void kernel_log_read(const char *root, const char *file, struct mu_probe_node *node)
{
    struct mu_probe_value uptime = sys_number(root, "proc/uptime");
    struct reader r = {node, mu_probe_has(uptime) ? uptime.value : -1};
    if (file) {
        file_read(&r, file);
        return;
    }
    char path[512];
    (void)snprintf(path, sizeof path, "%s/dev/kmsg", root);
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    node->kernel_log = fd >= 0 ? kmsg_read(&r, fd) : MU_PROBE_NO_FILE;
    if (node->kernel_log)
        (void)snprintf(node->kernel_log_what, sizeof node->kernel_log_what,
                       "%.100s cannot be read (root, or --kernel-log FILE)", path);
    if (fd >= 0) (void)close(fd);
}
