/* What a probe saw, as metrics for Prometheus: a table of families, each with its samples. The
 * names and labels of GPUs are those of NVIDIA's dcgm-exporter, so that its dashboards fit. Reads
 * what it is given, and no hardware. Any thread. */
#include "base/number.h"
#include "probe/probe.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

enum kind { GAUGE, COUNTER };

#define MIB (1.0 / (1 << 20))

/* --- the two formats -------------------------------------------------------------------------- */

struct writer {
    struct mu_text *out;
    bool openmetrics;
    const char *name, *help;
    enum kind kind;
    bool begun; /* the family has a sample, so its head is written */
};

static void family(struct writer *w, const char *name, enum kind kind, const char *help)
{
    w->name = name;
    w->kind = kind;
    w->help = help;
    w->begun = false;
}

/* OpenMetrics wants counters to end in _total, and their family's name not to. NVIDIA's counters
 * keep their names, so there they are of unknown type. */
static void head(struct writer *w)
{
    static const char suffix[] = "_total";
    size_t len = strlen(w->name), end = sizeof suffix - 1;
    bool total = len > end && strcmp(w->name + len - end, suffix) == 0;
    const char *type = w->kind == GAUGE ? "gauge" : "counter";
    if (w->openmetrics && w->kind == COUNTER && total) len -= end;
    if (w->openmetrics && w->kind == COUNTER && !total) type = "unknown";
    mu_text_printf(w->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)len, w->name, w->help, (int)len,
                   w->name, type);
    w->begun = true;
}

/* Appends ,name="value"; the first of a sample has no comma. */
static void label(struct writer *w, const char *name, const char *value)
{
    char before = w->out->len ? w->out->p[w->out->len - 1] : '\0';
    mu_text_printf(w->out, "%s%s=\"", before == '{' ? "" : ",", name);
    for (; *value; value++) {
        if (*value == '\\' || *value == '"') mu_text_char(w->out, '\\');
        mu_text_str(w->out, *value == '\n' ? "\\n" : (char[]){*value, '\0'});
    }
    mu_text_char(w->out, '"');
}

static void number(struct writer *w, double value)
{
    char text[MU_FLOAT_TEXT];
    mu_text_printf(w->out, " %s\n", mu_format_f64(value, text));
}

static void plain(struct writer *w, const char *name, enum kind kind, const char *help,
                  double value)
{
    family(w, name, kind, help);
    head(w);
    mu_text_str(w->out, name);
    number(w, value);
}

/* --- GPUs ------------------------------------------------------------------------------------- */

static void gpu_begin(struct writer *w, const struct mu_probe_exposition *e,
                      const struct mu_probe_gpu *g)
{
    char index[16], device[24], bus[40];
    if (!w->begun) head(w);
    (void)snprintf(index, sizeof index, "%u", g->index);
    (void)snprintf(device, sizeof device, "nvidia%u", g->index);
    /* The driver's spelling has a domain of eight digits, that of sysfs of four. */
    (void)snprintf(bus, sizeof bus, "%s%s", strlen(g->bus_id) == 12 ? "0000" : "", g->bus_id);
    const char *const labels[][2] = {
        {"gpu", index},
        {"UUID", g->uuid},
        {"pci_bus_id", bus},
        {"device", device},
        {"modelName", g->name},
        {"Hostname", e->host},
        {"DCGM_FI_DRIVER_VERSION", e->node->driver},
    };
    mu_text_printf(w->out, "%s{", w->name);
    for (size_t i = 0; i < MU_ARRAY_LEN(labels); i++)
        if (labels[i][1][0]) label(w, labels[i][0], labels[i][1]);
}

static void gpu_sample(struct writer *w, const struct mu_probe_exposition *e,
                       const struct mu_probe_gpu *g, double value)
{
    gpu_begin(w, e, g);
    mu_text_char(w->out, '}');
    number(w, value);
}

static const struct {
    const char *name;
    enum kind kind;
    enum mu_probe_metric metric;
    double scale;
    const char *help;
} gpu_families[] = {
    {"DCGM_FI_DEV_SM_CLOCK", GAUGE, MU_PROBE_SM_CLOCK, 1, "Clock of the processors, MHz."},
    {"DCGM_FI_DEV_MEM_CLOCK", GAUGE, MU_PROBE_MEMORY_CLOCK, 1, "Clock of the memory, MHz."},
    {"DCGM_FI_DEV_MAX_SM_CLOCK", GAUGE, MU_PROBE_SM_CLOCK_MAX, 1,
     "Highest clock of the processors, MHz."},
    {"DCGM_FI_DEV_MAX_MEM_CLOCK", GAUGE, MU_PROBE_MEMORY_CLOCK_MAX, 1,
     "Highest clock of the memory, MHz."},
    {"DCGM_FI_DEV_CLOCKS_EVENT_REASONS", GAUGE, MU_PROBE_CLOCK_REASONS, 1,
     "What holds the clocks down, as the driver's bits."},
    {"DCGM_FI_DEV_GPU_TEMP", GAUGE, MU_PROBE_TEMPERATURE, 1, "Temperature, C."},
    {"DCGM_FI_DEV_MEMORY_TEMP", GAUGE, MU_PROBE_MEMORY_TEMPERATURE, 1,
     "Temperature of the memory, C."},
    {"DCGM_FI_DEV_SLOWDOWN_TEMP", GAUGE, MU_PROBE_SLOWDOWN_TEMPERATURE, 1,
     "Temperature at which it slows down, C."},
    {"DCGM_FI_DEV_FAN_SPEED", GAUGE, MU_PROBE_FAN, 1, "Speed of the fan, %."},
    {"DCGM_FI_DEV_POWER_USAGE", GAUGE, MU_PROBE_POWER, 1, "Power, W."},
    {"DCGM_FI_DEV_POWER_USAGE_INSTANT", GAUGE, MU_PROBE_POWER_INSTANT, 1,
     "Power at this moment, W."},
    {"DCGM_FI_DEV_ENFORCED_POWER_LIMIT", GAUGE, MU_PROBE_POWER_LIMIT, 1,
     "Power that it is held to, W."},
    {"DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", COUNTER, MU_PROBE_ENERGY, 1e3,
     "Energy since the driver was loaded, mJ."},
    {"DCGM_FI_DEV_GPU_UTIL", GAUGE, MU_PROBE_UTILIZATION, 1, "Time in which it worked, %."},
    {"DCGM_FI_DEV_MEM_COPY_UTIL", GAUGE, MU_PROBE_MEMORY_UTILIZATION, 1,
     "Time in which its memory was used, %."},
    {"DCGM_FI_DEV_PSTATE", GAUGE, MU_PROBE_PERFORMANCE_STATE, 1, "Performance state, 0 best."},
    {"DCGM_FI_DEV_FB_TOTAL", GAUGE, MU_PROBE_MEMORY_TOTAL, MIB, "Memory, MiB."},
    {"DCGM_FI_DEV_FB_FREE", GAUGE, MU_PROBE_MEMORY_FREE, MIB, "Memory that is free, MiB."},
    {"DCGM_FI_DEV_FB_USED", GAUGE, MU_PROBE_MEMORY_USED, MIB, "Memory in use, MiB."},
    {"DCGM_FI_DEV_PCIE_LINK_GEN", GAUGE, MU_PROBE_PCIE_GENERATION, 1, "PCIe generation now."},
    {"DCGM_FI_DEV_PCIE_MAX_LINK_GEN", GAUGE, MU_PROBE_PCIE_GENERATION_MAX, 1,
     "Highest PCIe generation."},
    {"DCGM_FI_DEV_PCIE_LINK_WIDTH", GAUGE, MU_PROBE_PCIE_WIDTH, 1, "PCIe lanes now."},
    {"DCGM_FI_DEV_PCIE_MAX_LINK_WIDTH", GAUGE, MU_PROBE_PCIE_WIDTH_MAX, 1, "Most PCIe lanes."},
    {"DCGM_FI_DEV_PCIE_TX_THROUGHPUT", GAUGE, MU_PROBE_PCIE_SENT, 1e-3,
     "What it sends over PCIe, KB/s."},
    {"DCGM_FI_DEV_PCIE_RX_THROUGHPUT", GAUGE, MU_PROBE_PCIE_RECEIVED, 1e-3,
     "What it receives over PCIe, KB/s."},
    {"muster_gpu_nvlink_sent_bytes_total", COUNTER, MU_PROBE_NVLINK_SENT, 1,
     "Sent over all its NVLinks."},
    {"muster_gpu_nvlink_received_bytes_total", COUNTER, MU_PROBE_NVLINK_RECEIVED, 1,
     "Received over all its NVLinks."},
    {"DCGM_FI_DEV_PCIE_REPLAY_COUNTER", COUNTER, MU_PROBE_PCIE_REPLAYS, 1, "PCIe replays."},
    {"DCGM_FI_DEV_ECC_CURRENT", GAUGE, MU_PROBE_ECC_ENABLED, 1, "1: memory errors are corrected."},
    {"DCGM_FI_DEV_ECC_SBE_VOL_TOTAL", COUNTER, MU_PROBE_ECC_CORRECTED, 1,
     "Corrected memory errors since the driver was loaded."},
    {"DCGM_FI_DEV_ECC_DBE_VOL_TOTAL", COUNTER, MU_PROBE_ECC_UNCORRECTED, 1,
     "Uncorrectable memory errors since the driver was loaded."},
    {"DCGM_FI_DEV_ECC_DBE_AGG_TOTAL", COUNTER, MU_PROBE_ECC_UNCORRECTED_EVER, 1,
     "Uncorrectable memory errors ever."},
    {"DCGM_FI_DEV_CORRECTABLE_REMAPPED_ROWS", COUNTER, MU_PROBE_REMAPPED_CORRECTABLE, 1,
     "Memory rows remapped for corrected errors."},
    {"DCGM_FI_DEV_UNCORRECTABLE_REMAPPED_ROWS", COUNTER, MU_PROBE_REMAPPED_UNCORRECTABLE, 1,
     "Memory rows remapped for uncorrectable errors."},
    {"DCGM_FI_DEV_ROW_REMAP_PENDING", GAUGE, MU_PROBE_REMAP_PENDING, 1,
     "1: a memory row waits for remapping."},
    {"DCGM_FI_DEV_ROW_REMAP_FAILURE", GAUGE, MU_PROBE_REMAP_FAILED, 1,
     "1: a memory row could not be remapped."},
    {"DCGM_FI_DEV_MIG_MODE", GAUGE, MU_PROBE_MIG_ENABLED, 1, "1: it is cut into MIG slices."},
    {"DCGM_FI_DEV_PERSISTENCE_MODE", GAUGE, MU_PROBE_PERSISTENCE, 1, "1: persistence mode."},
    {"DCGM_FI_DEV_COMPUTE_MODE", GAUGE, MU_PROBE_COMPUTE_MODE, 1, "Compute mode, 0 shared."},
};

static void figures(struct writer *w, const struct mu_probe_exposition *e)
{
    for (size_t f = 0; f < MU_ARRAY_LEN(gpu_families); f++) {
        family(w, gpu_families[f].name, gpu_families[f].kind, gpu_families[f].help);
        for (unsigned i = 0; i < e->node->n_gpus; i++) {
            struct mu_probe_value v = e->node->gpus[i].values[gpu_families[f].metric];
            if (mu_probe_has(v))
                gpu_sample(w, e, &e->node->gpus[i], v.value * gpu_families[f].scale);
        }
    }
}

/* Errors of all links of a GPU, where at least one counts them. */
static void links(struct writer *w, const struct mu_probe_exposition *e)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } counts[] = {
        {"DCGM_FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL", "NVLink checksum errors.",
         offsetof(struct mu_probe_nvlink, crc_errors)},
        {"DCGM_FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL", "NVLink replays.",
         offsetof(struct mu_probe_nvlink, replays)},
        {"DCGM_FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL", "NVLink recoveries.",
         offsetof(struct mu_probe_nvlink, recoveries)},
    };
    for (size_t c = 0; c < MU_ARRAY_LEN(counts); c++) {
        family(w, counts[c].name, COUNTER, counts[c].help);
        for (unsigned i = 0; i < e->node->n_gpus; i++) {
            double sum = 0;
            bool any = false;
            for (unsigned l = 0; l < MU_PROBE_LINKS_MAX; l++) {
                const struct mu_probe_nvlink *link = &e->node->gpus[i].links[l];
                struct mu_probe_value v;
                memcpy(&v, (const char *)link + counts[c].offset, sizeof v);
                if (!mu_probe_has(link->up) || !mu_probe_has(v)) continue;
                any = true;
                sum += v.value;
            }
            if (any) gpu_sample(w, e, &e->node->gpus[i], sum);
        }
    }
}

/* The latest of each GPU; 0, as NVIDIA's exporter says it, where the kernel's log tells of none. */
static void xids(struct writer *w, const struct mu_probe_exposition *e)
{
    if (e->node->kernel_log) return;
    family(w, "DCGM_FI_DEV_XID_ERRORS", GAUGE, "The latest Xid in the kernel's log, 0 for none.");
    for (unsigned i = 0; i < e->node->n_gpus; i++) {
        int latest = 0;
        for (unsigned x = 0; x < e->node->n_xids; x++)
            if (e->node->xids[x].gpu == (int)i) latest = e->node->xids[x].code;
        gpu_sample(w, e, &e->node->gpus[i], latest);
    }
    plain(w, "muster_xids_total", COUNTER, "Xid lines in the kernel's log, of all GPUs.",
          (double)e->node->n_xids_seen);
}

static void slices(struct writer *w, const struct mu_probe_exposition *e)
{
    for (unsigned kind = 0; kind < 2; kind++) {
        family(w, kind ? "muster_mig_memory_used_bytes" : "muster_mig_memory_bytes", GAUGE,
               kind ? "Memory of a MIG slice in use." : "Memory of a MIG slice.");
        for (unsigned i = 0; i < e->node->n_gpus; i++)
            for (unsigned s = 0; s < e->node->gpus[i].n_slices; s++) {
                const struct mu_probe_slice *slice = &e->node->gpus[i].slices[s];
                struct mu_probe_value v = kind ? slice->used_bytes : slice->total_bytes;
                if (!mu_probe_has(v)) continue;
                gpu_begin(w, e, &e->node->gpus[i]);
                char index[16];
                (void)snprintf(index, sizeof index, "%u", s);
                label(w, "slice", index);
                label(w, "slice_name", slice->name);
                label(w, "slice_uuid", slice->uuid);
                mu_text_char(w->out, '}');
                number(w, v.value);
            }
    }
}

static void gpus(struct writer *w, const struct mu_probe_exposition *e)
{
    plain(w, "muster_gpus", GAUGE, "GPUs that the driver counts.", e->node->n_gpus);
    family(w, "muster_gpu_usable", GAUGE, "0: the driver gives no access to it.");
    for (unsigned i = 0; i < e->node->n_gpus; i++)
        gpu_sample(w, e, &e->node->gpus[i], !e->node->gpus[i].unusable);
    figures(w, e);
    links(w, e);
    xids(w, e);
    slices(w, e);
}

/* --- the CPU, and what looking costs -----------------------------------------------------------
 */

static void cpu(struct writer *w, const struct mu_probe_cpu *c)
{
    family(w, "muster_cpu_info", GAUGE, "The processor.");
    head(w);
    mu_text_str(w->out, "muster_cpu_info{");
    label(w, "name", c->name);
    label(w, "governor", c->governor);
    mu_text_char(w->out, '}');
    number(w, 1);
    plain(w, "muster_cpu_usable_threads", GAUGE, "Threads that make sense here.", c->n_usable);
    const struct {
        const char *name;
        enum kind kind;
        struct mu_probe_value value;
        double scale;
        const char *help;
    } rows[] = {
        {"muster_cpu_busy_seconds_total", COUNTER, c->busy_s, 1, "Work of all threads."},
        {"muster_cpu_seconds_total", COUNTER, c->all_s, 1, "Time of all threads."},
        {"muster_cpu_clock_hertz", GAUGE, c->clock_mhz, 1e6, "Mean clock of the cores."},
        {"muster_cpu_clock_max_hertz", GAUGE, c->clock_max_mhz, 1e6, "Highest clock allowed."},
        {"muster_cpu_temperature_celsius", GAUGE, c->temperature_c, 1, "The hottest zone."},
        {"muster_cpu_energy_joules_total", COUNTER, c->energy_j, 1, "Energy of all packages."},
        {"muster_cpu_load", GAUGE, c->load, 1, "Threads that run or want to, over a minute."},
        {"muster_cgroup_cpus", GAUGE, c->quota_cpus, 1, "CPUs that the cgroup allows."},
        {"muster_cgroup_memory_bytes", GAUGE, c->memory_limit_bytes, 1,
         "Memory that the cgroup allows."},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(rows); i++)
        if (mu_probe_has(rows[i].value))
            plain(w, rows[i].name, rows[i].kind, rows[i].help, rows[i].value.value * rows[i].scale);
    if (c->memory_bytes)
        plain(w, "muster_memory_bytes", GAUGE, "Memory of the machine.", (double)c->memory_bytes);
    if (c->memory_bytes)
        plain(w, "muster_memory_available_bytes", GAUGE, "Memory that can be used now.",
              (double)c->available_bytes);
}

static void own_cost(struct writer *w, const struct mu_probe_sampler_cost *c)
{
    struct timespec t;
    if (clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t) == 0)
        plain(w, "process_cpu_seconds_total", COUNTER, "What muster itself has used.",
              (double)t.tv_sec + (double)t.tv_nsec * 1e-9);
    if (c->n_ticks == 0) return;
    plain(w, "muster_sampler_ticks_total", COUNTER, "Samples taken.", (double)c->n_ticks);
    plain(w, "muster_sampler_missed_total", COUNTER, "Samples that were due and not taken.",
          (double)c->n_missed);
    plain(w, "muster_sampler_cpu_seconds_total", COUNTER, "CPU time of the samples.", c->cpu_s);
    plain(w, "muster_sampler_late_seconds", GAUGE, "How late a sample is on average.",
          c->mean_late_ms * 1e-3);
    plain(w, "muster_sampler_late_max_seconds", GAUGE, "How late a sample was at worst.",
          c->max_late_ms * 1e-3);
}

void mu_probe_metrics_text(const struct mu_probe_exposition *e, struct mu_text *out)
{
    struct writer w = {.out = out, .openmetrics = e->openmetrics};
    gpus(&w, e);
    cpu(&w, e->cpu);
    own_cost(&w, e->cost);
    if (e->openmetrics) mu_text_str(out, "# EOF\n");
}
