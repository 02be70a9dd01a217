/* Small files of /sys and /proc, below a root so that a recorded machine can stand in. Any thread.
 */
#include "base/number.h"
#include "probe/probe_int.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PATH_BYTES 512

const char *sys_root(const char *root)
{
    if (!root) root = getenv("MUSTER_ROOT");
    return root ? root : "";
}

static bool text_read(const char *path, char *out, size_t size)
{
    out[0] = '\0';
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return false;
    ssize_t n = read(fd, out, size - 1);
    (void)close(fd);
    if (n < 0) return false;
    out[n] = '\0';
    out[strcspn(out, "\n")] = '\0';
    return true;
}

bool sys_text(const char *root, char *out, size_t size, const char *path, ...)
{
    char full[PATH_BYTES];
    int lead = snprintf(full, sizeof full, "%s/", root);
    if (lead < 0 || (size_t)lead >= sizeof full) return false;
    va_list args;
    va_start(args, path);
    int n = vsnprintf(full + lead, sizeof full - (size_t)lead, path, args);
    va_end(args);
    return n > 0 && (size_t)lead + (size_t)n < sizeof full && text_read(full, out, size);
}

struct mu_probe_value sys_number(const char *root, const char *path, ...)
{
    char full[PATH_BYTES], text[64];
    int lead = snprintf(full, sizeof full, "%s/", root);
    if (lead < 0 || (size_t)lead >= sizeof full) return probe_absent(MU_PROBE_NO_FILE);
    va_list args;
    va_start(args, path);
    int n = vsnprintf(full + lead, sizeof full - (size_t)lead, path, args);
    va_end(args);
    if (n <= 0 || (size_t)lead + (size_t)n >= sizeof full || !text_read(full, text, sizeof text))
        return probe_absent(MU_PROBE_NO_FILE);
    double value;
    /* "16.0 GT/s PCIe", "max 100000": what follows the number is its unit, or another number. */
    struct mu_str s = {text, strcspn(text, " ")};
    return mu_parse_f64(s, &value) ? probe_value(value) : probe_absent(MU_PROBE_RUBBISH);
}

/* Entries of a folder. */
static struct mu_probe_value folder_count(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) return probe_absent(MU_PROBE_NO_FILE);
    unsigned n = 0;
    for (const struct dirent *e; (e = readdir(folder));)
        n += e->d_name[0] != '.';
    (void)closedir(folder);
    return probe_value(n);
}

static void process_read(const char *root, struct mu_probe_process *p)
{
    char text[256];
    p->name[0] = '\0';
    p->state = 0;
    if (!sys_text(root, text, sizeof text, "proc/%u/stat", p->pid)) return;
    const char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (!open || !close || close < open || close[1] != ' ') return;
    probe_text_copy(p->name, sizeof p->name, open + 1, (size_t)(close - open - 1));
    p->state = close[2];
}

void sys_gpu(const char *root, struct mu_probe_gpu *gpu)
{
    struct mu_probe_value none = probe_absent(MU_PROBE_NO_FILE);
    gpu->numa_node = gpu->slot_width = gpu->slot_gt_s = gpu->iommu_group_size = none;
    for (unsigned i = 0; i < gpu->n_processes; i++)
        process_read(root, &gpu->processes[i]);
    if (!gpu->bus_id[0]) return;
    const char *folder = "sys/bus/pci/devices";
    char cpus[MU_PROBE_TEXT_MAX], path[PATH_BYTES];
    gpu->numa_node = sys_number(root, "%s/%s/numa_node", folder, gpu->bus_id);
    if (gpu->numa_node.value < 0) gpu->numa_node = probe_absent(MU_PROBE_NOT_SUPPORTED);
    /* A device's folder is a link into the tree of bridges, so its parent is the port. */
    gpu->slot_width = sys_number(root, "%s/%s/../max_link_width", folder, gpu->bus_id);
    gpu->slot_gt_s = sys_number(root, "%s/%s/../max_link_speed", folder, gpu->bus_id);
    int n = snprintf(path, sizeof path, "%s/%s/%s/iommu_group/devices", root, folder, gpu->bus_id);
    if (n > 0 && (size_t)n < sizeof path) gpu->iommu_group_size = folder_count(path);
    if (sys_text(root, cpus, sizeof cpus, "%s/%s/local_cpulist", folder, gpu->bus_id))
        probe_text_copy(gpu->cpus, sizeof gpu->cpus, cpus, strlen(cpus));
}
