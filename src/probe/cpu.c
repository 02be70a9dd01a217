/* The CPU and its memory, out of /proc and /sys; see probe.h. */
#include "probe/probe_int.h"

#include "base/file.h"
#include "base/number.h"
#include "base/thread.h"

#include <stdio.h>

#define TEXT_MAX_BYTES (4u << 20) /* /proc/cpuinfo of a large machine */
#define CPUS_MAX       1024
#define NODES_MAX      64
#define ZONES_MAX      64
#define PACKAGES_MAX   16

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

/* Clocks in MHz: the mean of what cpufreq says now, and the most that it allows. */
static void clocks_read(const char *root, struct mu_probe_cpu *out)
{
    const char *folder = "sys/devices/system/cpu";
    double sum = 0;
    unsigned n = 0;
    for (unsigned cpu = 0; cpu < CPUS_MAX; cpu++) {
        struct mu_probe_value khz =
            sys_number(root, "%s/cpu%u/cpufreq/scaling_cur_freq", folder, cpu);
        if (!mu_probe_has(khz)) break;
        sum += khz.value;
        n++;
    }
    out->clock_mhz = n ? probe_value(sum / n * 1e-3) : probe_absent(MU_PROBE_NO_FILE);
    out->clock_max_mhz = sys_number(root, "%s/cpu0/cpufreq/scaling_max_freq", folder);
    out->clock_max_mhz.value *= 1e-3;
    char governor[sizeof out->governor];
    if (sys_text(root, governor, sizeof governor, "%s/cpu0/cpufreq/scaling_governor", folder))
        probe_text_copy(out->governor, sizeof out->governor, governor, strlen(governor));
}

/* The hottest zone; firmware that has nothing to say gives 0 or less. */
static struct mu_probe_value hottest(const char *root)
{
    struct mu_probe_value best = probe_absent(MU_PROBE_NO_FILE);
    for (unsigned zone = 0; zone < ZONES_MAX; zone++) {
        struct mu_probe_value v = sys_number(root, "sys/class/thermal/thermal_zone%u/temp", zone);
        if (!mu_probe_has(v)) break;
        if (v.value > 0 && v.value < 200e3 && v.value * 1e-3 > best.value)
            best = probe_value(v.value * 1e-3);
    }
    return best;
}

static struct mu_probe_value packages_energy(const char *root)
{
    struct mu_probe_value sum = probe_absent(MU_PROBE_NO_FILE);
    for (unsigned package = 0; package < PACKAGES_MAX; package++) {
        struct mu_probe_value uj =
            sys_number(root, "sys/class/powercap/intel-rapl:%u/energy_uj", package);
        if (!mu_probe_has(uj)) break;
        sum = probe_value(sum.value + uj.value * 1e-6);
    }
    return sum;
}

/* Limits of the cgroup; "max" is none. */
static void limits_read(const char *root, struct mu_probe_cpu *out)
{
    char text[64];
    out->memory_limit_bytes = sys_number(root, "sys/fs/cgroup/memory.max");
    out->quota_cpus = probe_absent(MU_PROBE_NO_FILE);
    double quota, period;
    if (!sys_text(root, text, sizeof text, "sys/fs/cgroup/cpu.max")) return;
    size_t len = strcspn(text, " ");
    if (mu_parse_f64((struct mu_str){text, len}, &quota) && text[len] &&
        mu_parse_f64(mu_str(text + len + 1), &period) && period > 0)
        out->quota_cpus = probe_value(quota / period);
}

static void cut_by_cgroup(const char *root, struct mu_probe_cpu *out)
{
    struct mu_probe_value limit = out->memory_limit_bytes;
    if (!mu_probe_has(limit) || limit.value <= 0 || limit.value >= (double)out->memory_bytes)
        return;
    struct mu_probe_value used = sys_number(root, "sys/fs/cgroup/memory.current");
    double left = mu_probe_has(used) ? MU_MAX(limit.value - used.value, 0) : limit.value;
    out->memory_bytes = (uint64_t)limit.value;
    out->available_bytes = MU_MIN(out->available_bytes, (uint64_t)left);
}

/* "cpu  user nice system idle iowait ...", in hundredths of a second. */
static void busy_read(const char *root, struct mu_probe_cpu *out)
{
    char line[256];
    double idle = 0, all = 0, value;
    out->busy_s = out->all_s = probe_absent(MU_PROBE_NO_FILE);
    if (!sys_text(root, line, sizeof line, "proc/stat") || strncmp(line, "cpu ", 4) != 0) return;
    const char *p = line + 4;
    for (unsigned i = 0; i < 8; i++) {
        p += strspn(p, " ");
        size_t len = strcspn(p, " ");
        if (!mu_parse_f64((struct mu_str){p, len}, &value)) return;
        all += value;
        if (i == 3 || i == 4) idle += value;
        p += len;
    }
    out->busy_s = probe_value((all - idle) * 0.01);
    out->all_s = probe_value(all * 0.01);
}

static struct mu_probe_value load_read(const char *root)
{
    char line[128];
    double load;
    if (!sys_text(root, line, sizeof line, "proc/loadavg") ||
        !mu_parse_f64((struct mu_str){line, strcspn(line, " ")}, &load))
        return probe_absent(MU_PROBE_NO_FILE);
    return probe_value(load);
}

static void proc_read(const char *root, const char *name, struct mu_text *out)
{
    char path[512];
    (void)snprintf(path, sizeof path, "%s/proc/%s", root, name);
    mu_text_clear(out);
    (void)mu_file_read(path, out, NULL);
}

void mu_probe_cpu(const char *given_root, struct mu_probe_cpu *out)
{
    const char *root = sys_root(given_root);
    *out = (struct mu_probe_cpu){0};
    int cpus[CPUS_MAX];
    out->n_usable = mu_cpu_usable(cpus, MU_ARRAY_LEN(cpus));
    struct mu_text text;
    mu_text_init(&text, TEXT_MAX_BYTES);
    proc_read(root, "cpuinfo", &text);
    struct mu_str name = field(&text, "model name");
    probe_text_copy(out->name, sizeof out->name, name.p, name.len);
    proc_read(root, "meminfo", &text);
    out->memory_bytes = kib_field(&text, "MemTotal:");
    out->available_bytes = kib_field(&text, "MemAvailable:");
    mu_text_fini(&text);
    limits_read(root, out);
    cut_by_cgroup(root, out);
    clocks_read(root, out);
    out->temperature_c = hottest(root);
    out->energy_j = packages_energy(root);
    busy_read(root, out);
    out->load = load_read(root);
}

void mu_probe_core(const char *given_root, int cpu, struct mu_probe_core *out)
{
    static const char folder[] = "sys/devices/system/cpu";
    const char *root = sys_root(given_root);
    char cpus[8];
    *out = (struct mu_probe_core){.node = probe_absent(MU_PROBE_NO_FILE)};
    out->clock_max_mhz = sys_number(root, "%s/cpu%d/cpufreq/cpuinfo_max_freq", folder, cpu);
    out->clock_max_mhz.value *= 1e-3;
    (void)sys_text(root, out->threads, sizeof out->threads,
                   "%s/cpu%d/topology/thread_siblings_list", folder, cpu);
    for (unsigned n = 0; n < NODES_MAX && !mu_probe_has(out->node); n++)
        if (sys_text(root, cpus, sizeof cpus, "%s/cpu%d/node%u/cpulist", folder, cpu, n))
            out->node = probe_value(n);
}
