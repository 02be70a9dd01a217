/* The CPU and its memory, out of /proc and /sys; see probe.h. */
#include "probe/probe.h"

#include "base/file.h"
#include "base/number.h"
#include "base/thread.h"

#include <stdio.h>

#define TEXT_MAX_BYTES (4u << 20) /* /proc/cpuinfo of a large machine */

/* What stands behind `key` at the beginning of a line, up to the end of that line. */
static struct mu_str field(const struct mu_text *text, const char *key)
{
    const char *p = mu_text_get(text);
    size_t len = strlen(key);
    while (p && strncmp(p, key, len) != 0) {
        p = strchr(p, '\n');
        p = p ? p + 1 : NULL;
    }
    if (!p) return (struct mu_str){"", 0};
    p += len;
    p += strspn(p, " \t:");
    return (struct mu_str){p, strcspn(p, "\n")};
}

static uint64_t kib_field(const struct mu_text *text, const char *key)
{
    struct mu_str s = field(text, key);
    uint64_t kib = 0;
    s.len = strcspn(s.p, " \n");
    return mu_parse_u64(s, 0, UINT64_MAX / 1024, &kib) ? kib * 1024 : 0;
}

/* The number in a file of one line; 0 when there is none ("max"). */
static uint64_t number_file(const char *path)
{
    struct mu_text text;
    uint64_t value = 0;
    mu_text_init(&text, 64);
    if (mu_file_read(path, &text, NULL) == MU_OK)
        (void)mu_parse_u64((struct mu_str){mu_text_get(&text), strcspn(mu_text_get(&text), "\n")},
                           0, UINT64_MAX, &value);
    mu_text_fini(&text);
    return value;
}

static void cut_by_cgroup(struct mu_probe_cpu *out)
{
    uint64_t limit = number_file("/sys/fs/cgroup/memory.max");
    uint64_t used = number_file("/sys/fs/cgroup/memory.current");
    if (limit == 0 || limit >= out->memory_bytes) return;
    out->memory_bytes = limit;
    out->available_bytes = MU_MIN(out->available_bytes, limit > used ? limit - used : 0);
}

void mu_probe_cpu(struct mu_probe_cpu *out)
{
    *out = (struct mu_probe_cpu){0};
    int cpus[1024];
    out->n_usable = mu_cpu_usable(cpus, MU_ARRAY_LEN(cpus));
    struct mu_text text;
    mu_text_init(&text, TEXT_MAX_BYTES);
    if (mu_file_read("/proc/cpuinfo", &text, NULL) == MU_OK) {
        struct mu_str name = field(&text, "model name");
        (void)snprintf(out->name, sizeof out->name, "%.*s", (int)MU_MIN(name.len, (size_t)95),
                       name.p);
    }
    mu_text_clear(&text);
    if (mu_file_read("/proc/meminfo", &text, NULL) == MU_OK) {
        out->memory_bytes = kib_field(&text, "MemTotal:");
        out->available_bytes = kib_field(&text, "MemAvailable:");
    }
    mu_text_fini(&text);
    cut_by_cgroup(out);
}
