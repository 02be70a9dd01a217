/* muster devices: what is here to compute on, how it is joined, and how to use it. */
#include "cli/cli.h"

#include "base/alloc.h"
#include "base/number.h"
#include "device/device.h"
#include "kernel/kernel.h"
#include "measure/measure.h"
#include "probe/probe.h"
#include "report/report.h"

#include <stdio.h>

#define BUDGET_SHARE 0.9 /* of a device's memory: the rest is the driver's and the libraries' */

struct devices_options {
    bool measure, json, yaml;
    const char *require;
};

static const struct mu_option options[] = {
    {"measure", 'm', MU_OPTION_FLAG, offsetof(struct devices_options, measure), NULL,
     "time what the machine can do (under a second)", 0, 0, NULL, NULL},
    {"require", 'r', MU_OPTION_TEXT, offsetof(struct devices_options, require), "0,1,...",
     "say whether these GPUs can be used; exit status 1 when one cannot", 0, 0, NULL, NULL},
    {"json", 'j', MU_OPTION_FLAG, offsetof(struct devices_options, json), NULL,
     "print one JSON document", 0, 0, NULL, NULL},
    {"yaml", 'y', MU_OPTION_FLAG, offsetof(struct devices_options, yaml), NULL,
     "print a file for the energy benchmark, with these devices", 0, 0, NULL, NULL},
    {0}};

struct facts {
    struct mu_probe_cpu cpu;
    struct mu_probe_node *node;
    double read_one, read_all; /* bytes a second; 0: not measured */
    unsigned required[MU_PROBE_GPUS_MAX], n_required;
    unsigned usable[MU_PROBE_GPUS_MAX], n_usable; /* their indexes */
};

static mu_status measure(struct facts *f, struct mu_err *err)
{
    MU_TRY(mu_measure_read_bandwidth(1, NULL, &f->read_one, err));
    return mu_measure_read_bandwidth(f->cpu.n_usable, NULL, &f->read_all, err);
}

/* --- which can be used ----------------------------------------------------------------------- */

/* Why a GPU cannot be used; NULL: it can. */
static const char *unusable_why(const struct mu_probe_node *node, unsigned index)
{
    static const struct {
        enum mu_probe_metric metric;
        double value;
        const char *why;
    } faults[] = {
        {MU_PROBE_REMAP_FAILED, 1, "its memory has a row that cannot be remapped: replace it"},
        {MU_PROBE_REMAP_PENDING, 1, "a memory row waits for remapping: reset it"},
        {MU_PROBE_RECOVERY_ACTION, 1, "the driver wants it reset"},
        {MU_PROBE_RECOVERY_ACTION, 2, "the driver wants the machine rebooted"},
        {MU_PROBE_RECOVERY_ACTION, 3, "the driver wants it drained and reset"},
        {MU_PROBE_MIG_ENABLED, 1, "it is cut into MIG slices: name one of those"},
        {MU_PROBE_COMPUTE_MODE, 2, "its compute mode prohibits programs: nvidia-smi -c DEFAULT"},
    };
    if (node->library) return node->library_what;
    if (index >= node->n_gpus) return "there is no such GPU";
    const struct mu_probe_gpu *g = &node->gpus[index];
    if (g->unusable) return mu_probe_absence_text(g->unusable);
    if (!mu_probe_has(g->values[MU_PROBE_MEMORY_TOTAL])) return "its memory cannot be read";
    for (size_t i = 0; i < MU_ARRAY_LEN(faults); i++) {
        struct mu_probe_value v = g->values[faults[i].metric];
        if (mu_probe_has(v) && v.value == faults[i].value) return faults[i].why;
    }
    return NULL;
}

static mu_status required_parse(const char *list, struct facts *f, struct mu_err *err)
{
    for (const char *p = list; p;) {
        uint64_t n;
        size_t len = strcspn(p, ",");
        if (f->n_required == MU_PROBE_GPUS_MAX ||
            !mu_parse_u64((struct mu_str){p, len}, 0, MU_PROBE_GPUS_MAX - 1, &n)) {
            (void)mu_fail(err, MU_E_USAGE, "--require wants numbers of GPUs, not '%s'", list);
            mu_err_cure(err, "as in --require 0,1,2,3");
            return MU_E_USAGE;
        }
        f->required[f->n_required++] = (unsigned)n;
        p = p[len] ? p + len + 1 : NULL;
    }
    return MU_OK;
}

/* --- tables ---------------------------------------------------------------------------------- */

/* "81.2 GiB", or "-" for what is absent; what and why is in the JSON. */
static const char *bytes_or_dash(struct mu_probe_value v, char out[MU_BYTES_TEXT])
{
    if (!mu_probe_has(v)) return "-";
    return mu_format_bytes((uint64_t)v.value, out);
}

static const char *number_or_dash(struct mu_probe_value v, const char *unit, char out[32])
{
    (void)snprintf(out, 32, mu_probe_has(v) ? "%.0f%s" : "-", v.value, unit);
    return out;
}

/* "gen 4 of 5 x16": links sleep to a lower generation while nothing is sent. */
static void pcie_text(const struct mu_probe_gpu *g, char *out, size_t size)
{
    char a[32], b[32], c[32], d[32];
    (void)snprintf(out, size, "gen %s of %s, x%s of %s",
                   number_or_dash(g->values[MU_PROBE_PCIE_GENERATION], "", a),
                   number_or_dash(g->values[MU_PROBE_PCIE_GENERATION_MAX], "", b),
                   number_or_dash(g->values[MU_PROBE_PCIE_WIDTH], "", c),
                   number_or_dash(g->values[MU_PROBE_PCIE_WIDTH_MAX], "", d));
}

static mu_status add_gpus(struct mu_text *out, const struct mu_probe_node *node, struct mu_err *err)
{
    static const char *const heads[] = {">GPU",   "NAME",  ">MEMORY", ">USED", ">BUSY",
                                        ">POWER", ">TEMP", "PCIE",    "NUMA",  "CPUS"};
    struct mu_report_table *t = NULL;
    MU_TRY(mu_report_table_create(heads, MU_ARRAY_LEN(heads), &t, err));
    for (unsigned i = 0; i < node->n_gpus; i++) {
        const struct mu_probe_gpu *g = &node->gpus[i];
        char bytes[MU_BYTES_TEXT], text[160];
        mu_report_table_row(t);
        mu_report_table_cell(t, 0, "%u", i);
        if (g->unusable) {
            mu_report_table_cell(t, 1, "(%s)", mu_probe_absence_text(g->unusable));
            continue;
        }
        mu_report_table_cell(t, 1, "%s", g->name[0] ? g->name : "(unnamed)");
        mu_report_table_cell(t, 2, "%s", bytes_or_dash(g->values[MU_PROBE_MEMORY_TOTAL], bytes));
        mu_report_table_cell(t, 3, "%s", bytes_or_dash(g->values[MU_PROBE_MEMORY_USED], bytes));
        mu_report_table_cell(t, 4, "%s",
                             number_or_dash(g->values[MU_PROBE_UTILIZATION], " %", text));
        mu_report_table_cell(t, 5, "%s", number_or_dash(g->values[MU_PROBE_POWER], " W", text));
        mu_report_table_cell(t, 6, "%s",
                             number_or_dash(g->values[MU_PROBE_TEMPERATURE], " C", text));
        pcie_text(g, text, sizeof text);
        mu_report_table_cell(t, 7, "%s", text);
        mu_report_table_cell(t, 8, "%s", number_or_dash(g->numa_node, "", text));
        mu_report_table_cell(t, 9, "%s", g->cpus[0] ? g->cpus : "-");
    }
    mu_status status = mu_report_table_print(t, out, err);
    mu_report_table_destroy(t);
    return status;
}

static mu_status add_topology(struct mu_text *out, const struct mu_probe_node *node,
                              struct mu_err *err)
{
    if (node->n_gpus < 2) return MU_OK;
    char names[MU_PROBE_GPUS_MAX + 1][8] = {"FROM"};
    const char *heads[MU_PROBE_GPUS_MAX + 1] = {names[0]};
    for (unsigned i = 0; i < node->n_gpus; i++) {
        (void)snprintf(names[i + 1], sizeof names[i + 1], "GPU%u", i % 100);
        heads[i + 1] = names[i + 1];
    }
    struct mu_report_table *t = NULL;
    MU_TRY(mu_report_table_create(heads, node->n_gpus + 1, &t, err));
    for (unsigned a = 0; a < node->n_gpus; a++) {
        char text[8];
        mu_report_table_row(t);
        mu_report_table_cell(t, 0, "GPU%u", a);
        for (unsigned b = 0; b < node->n_gpus; b++)
            mu_report_table_cell(t, b + 1, "%s", mu_probe_path_text(node, a, b, text));
    }
    mu_text_str(out, "\nHow they reach each other\n");
    mu_status status = mu_report_table_print(t, out, err);
    mu_report_table_destroy(t);
    mu_text_str(out, "X itself; NV# that many NVLinks; then over the bus, nearest first: PIX one "
                     "switch,\nPXB several switches, PHB the CPU's bridge, NODE bridges of one "
                     "NUMA node, SYS\nbetween sockets; ? not known\n");
    return status;
}

/* How many devices stand in each GPU's group; without an IOMMU there are no groups. */
static void add_iommu(struct mu_text *out, const struct mu_probe_node *node)
{
    unsigned n = 0;
    for (unsigned i = 0; i < node->n_gpus; i++) {
        struct mu_probe_value size = node->gpus[i].iommu_group_size;
        if (!mu_probe_has(size)) continue;
        mu_text_printf(out, "%s %u: %.0f",
                       n++ ? "," : "the IOMMU is on; devices in the group of GPU", i, size.value);
    }
    if (n) mu_text_char(out, '\n');
}

static void add_unusable(struct mu_text *out, const struct mu_probe_node *node)
{
    for (unsigned i = 0; i < node->n_gpus; i++) {
        const char *why = unusable_why(node, i);
        if (why) mu_text_printf(out, "GPU %u cannot be used: %s\n", i, why);
    }
    if (node->hung[0]) mu_text_printf(out, "the driver did not answer in time: %s\n", node->hung);
    if (node->symbols_absent[0])
        mu_text_printf(out, "this driver lacks: %s\n", node->symbols_absent);
    for (unsigned i = 0; i < node->n_gpus; i++)
        for (unsigned s = 0; s < node->gpus[i].n_slices; s++)
            mu_text_printf(out, "GPU %u slice %u: %s, CUDA_VISIBLE_DEVICES=%s\n", i, s,
                           node->gpus[i].slices[s].name, node->gpus[i].slices[s].uuid);
}

/* --- what to do with them -------------------------------------------------------------------- */

/* A power of two, as heads divide by those. */
static unsigned tensor_parallel(const struct facts *f)
{
    unsigned n = 1;
    while (n * 2 <= f->n_usable)
        n *= 2;
    return n;
}

static double budget_gib(const struct facts *f, unsigned i)
{
    struct mu_probe_value v = f->node->gpus[f->usable[i]].values[MU_PROBE_MEMORY_TOTAL];
    return mu_probe_has(v) ? v.value * BUDGET_SHARE / (1 << 30) : 0;
}

/* "0=71GiB,1=71GiB", whole GiB below the budget, or the same as YAML. */
static void add_budgets(struct mu_text *out, const struct facts *f, const char *format)
{
    for (unsigned i = 0; i < f->n_usable; i++) {
        unsigned gib = (unsigned)budget_gib(f, i);
        if (gib == 0) continue;
        if (i) mu_text_str(out, format[0] == ' ' ? ", " : ",");
        mu_text_printf(out, format[0] == ' ' ? "%u: %uGiB" : "%u=%uGiB", f->usable[i], gib);
    }
}

static void add_list(struct mu_text *out, const struct facts *f, const char *between)
{
    for (unsigned i = 0; i < f->n_usable; i++)
        mu_text_printf(out, "%s%u", i ? between : "", f->usable[i]);
}

static void add_recommended(struct mu_text *out, const struct facts *f)
{
    if (f->n_usable == 0) return;
    unsigned tp = tensor_parallel(f);
    mu_text_str(out, "\nA configuration to begin with: 90 % of each memory\n"
                     "memory      --max-memory ");
    add_budgets(out, f, "=");
    mu_text_str(out, "\nvisible     CUDA_VISIBLE_DEVICES=");
    add_list(out, f, ",");
    mu_text_printf(out, "\nvllm        --tensor-parallel-size %u --gpu-memory-utilization %.2f", tp,
                   BUDGET_SHARE);
    mu_text_printf(out, "\nsglang      --tp-size %u --mem-fraction-static %.2f", tp,
                   BUDGET_SHARE - 0.05);
    mu_text_str(out, "\nllama.cpp   --n-gpu-layers 999 --split-mode layer --tensor-split ");
    for (unsigned i = 0; i < f->n_usable; i++)
        mu_text_printf(out, "%s%.0f", i ? "," : "", budget_gib(f, i));
    mu_text_str(out, "\nenergy      muster devices --yaml > energy.yaml writes its file\n");
    if (f->n_usable != tp)
        mu_text_printf(out, "%u of the %u usable GPUs divide a model's heads evenly\n", tp,
                       f->n_usable);
}

/* A whole file for the energy benchmark; what is in capitals is the user's to say. */
static void add_yaml(struct mu_text *out, const struct facts *f)
{
    mu_text_printf(out,
                   "name: MODEL on %u GPUs\noutput_dir: results\nbackend:\n  type: pytorch\n"
                   "  device: %s\n",
                   f->n_usable, f->n_usable ? "cuda" : "cpu");
    if (f->n_usable) {
        mu_text_str(out, "  device_ids: [");
        add_list(out, f, ", ");
        mu_text_str(out, "]\n");
    }
    mu_text_str(out, "  model: MODEL\n  task: text-generation\n  torch_dtype: auto\n");
    if (f->n_usable) {
        mu_text_str(out, "  device_map: auto\n  max_memory: {");
        add_budgets(out, f, " ");
        mu_text_str(out, "}\n");
    }
    mu_text_str(out, "scenario:\n  dataset_name: DATASET\n  text_column_name: text\n"
                     "  num_samples: 100\n  truncation: true\n  input_shapes:\n"
                     "    batch_size: 1\n  generate_kwargs:\n    max_new_tokens: 256\n"
                     "    min_new_tokens: 256\nmetrics:\n  type: codecarbon\n  enabled: true\n"
                     "  project_name: MODEL\n  output_dir: results\n"
                     "  country_iso_code: COUNTRY\nreporter:\n  type: csv\n"
                     "  output_file: results/energy.csv\n");
}

/* --- the whole ------------------------------------------------------------------------------- */

static void add_cpu(struct mu_text *out, const struct facts *f)
{
    char a[MU_BYTES_TEXT], b[MU_BYTES_TEXT];
    const struct mu_probe_cpu *cpu = &f->cpu;
    mu_text_printf(out, "cpu            %s\n", cpu->name[0] ? cpu->name : "(unnamed)");
    mu_text_printf(out, "threads        %u usable\n", cpu->n_usable);
    if (cpu->memory_bytes)
        mu_text_printf(out, "memory         %s, %s available\n",
                       mu_format_bytes(cpu->memory_bytes, a),
                       mu_format_bytes(cpu->available_bytes, b));
    if (mu_probe_has(cpu->clock_mhz))
        mu_text_printf(out, "clock          %.0f MHz now%s%s\n", cpu->clock_mhz.value,
                       cpu->governor[0] ? ", governor " : "", cpu->governor);
    if (mu_probe_has(cpu->temperature_c))
        mu_text_printf(out, "temperature    %.0f C\n", cpu->temperature_c.value);
    mu_text_str(out, "kernels        ");
    for (unsigned i = 0; mu_kernels_usable(i); i++)
        mu_text_printf(out, "%s%s", i ? ", " : "", mu_kernels_usable(i)->family);
    mu_text_str(out, " (the first is used)\n");
    if (f->read_all > 0)
        mu_text_printf(out, "read bandwidth %.1f GB/s measured with %u threads, %.1f with one\n",
                       f->read_all * 1e-9, cpu->n_usable, f->read_one * 1e-9);
}

static mu_status add_people(struct mu_text *out, const struct facts *f, struct mu_err *err)
{
    const struct mu_probe_node *node = f->node;
    add_cpu(out, f);
    if (node->library) {
        mu_text_printf(out, "gpus           none: %s\n", node->library_what);
    } else {
        mu_text_printf(out, "driver         NVIDIA %s, CUDA %s, %u GPUs\n\n",
                       node->driver[0] ? node->driver : "(not said)",
                       node->cuda[0] ? node->cuda : "(not said)", node->n_gpus);
        MU_TRY(add_gpus(out, node, err));
        MU_TRY(add_topology(out, node, err));
        add_iommu(out, node);
        add_unusable(out, node);
        add_recommended(out, f);
    }
    if (f->n_required) mu_text_char(out, '\n');
    for (unsigned i = 0; i < f->n_required; i++) {
        const char *why = unusable_why(node, f->required[i]);
        mu_text_printf(out, "required GPU %u: %s%s\n", f->required[i],
                       why ? "not available, " : "available", why ? why : "");
    }
    return MU_OK;
}

static json_t *recommended_json(const struct facts *f)
{
    if (f->n_usable == 0) return json_null();
    json_t *ids = json_array(), *budgets = json_object();
    for (unsigned i = 0; i < f->n_usable; i++) {
        char key[16];
        (void)snprintf(key, sizeof key, "%u", f->usable[i]);
        (void)json_array_append_new(ids, json_integer(f->usable[i]));
        (void)json_object_set_new(budgets, key, json_sprintf("%uGiB", (unsigned)budget_gib(f, i)));
    }
    return json_pack("{s:o, s:o, s:i}", "device_ids", ids, "max_memory", budgets, "tensor_parallel",
                     (int)tensor_parallel(f));
}

static json_t *required_json(const struct facts *f)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < f->n_required; i++) {
        const char *why = unusable_why(f->node, f->required[i]);
        (void)json_array_append_new(
            array, json_pack("{s:o, s:b, s:o}", "device", json_sprintf("cuda:%u", f->required[i]),
                             "available", !why, "why", why ? json_string(why) : json_null()));
    }
    return array;
}

static json_t *facts_json(const struct facts *f)
{
    json_t *devices = json_array(), *cpu = mu_probe_cpu_json(&f->cpu), *kernels = json_array();
    for (unsigned i = 0; mu_kernels_usable(i); i++)
        (void)json_array_append_new(kernels, json_string(mu_kernels_usable(i)->family));
    (void)json_object_set_new(cpu, "kernels", kernels);
    if (f->read_all > 0)
        (void)json_object_set_new(cpu, "measured",
                                  json_pack("{s:f, s:f}", "read_bytes_per_s", f->read_all,
                                            "read_one_thread_bytes_per_s", f->read_one));
    (void)json_array_append_new(devices, cpu);
    for (unsigned i = 0; i < f->node->n_gpus; i++) {
        json_t *gpu = mu_probe_gpu_json(&f->node->gpus[i]);
        const char *why = unusable_why(f->node, i);
        (void)json_object_set_new(gpu, "usable", json_boolean(!why));
        (void)json_object_set_new(gpu, "why", why ? json_string(why) : json_null());
        (void)json_array_append_new(devices, gpu);
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "devices", devices, "driver",
                     mu_probe_driver_json(f->node), "topology", mu_probe_topology_json(f->node),
                     "xids", mu_probe_xids_json(f->node), "recommended", recommended_json(f),
                     "required", required_json(f));
}

static mu_status facts_print(const struct facts *f, const struct devices_options *o,
                             struct mu_err *err)
{
    if (o->json) return mu_cli_out_json(facts_json(f), err);
    struct mu_text out;
    mu_text_init(&out, 1 << 20);
    mu_status status = MU_OK;
    if (o->yaml)
        add_yaml(&out, f);
    else
        status = add_people(&out, f, err);
    if (status == MU_OK) status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    return status;
}

static mu_status node_look(struct mu_probe_node *node, struct mu_err *err)
{
    struct mu_probe *probe = NULL;
    MU_TRY(mu_probe_open(&(struct mu_probe_options){0}, &probe, err));
    mu_status status = mu_probe_look(probe, node, err);
    mu_probe_close(probe);
    return status;
}

static mu_status devices_run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct devices_options *o = in->options;
    struct facts f = {0};
    if (o->require) MU_TRY(required_parse(o->require, &f, err));
    f.node = mu_calloc(1, sizeof *f.node);
    if (!f.node) return mu_fail_memory(err, sizeof *f.node);
    mu_probe_cpu(NULL, &f.cpu);
    mu_status status = node_look(f.node, err);
    for (unsigned i = 0; i < f.node->n_gpus; i++)
        if (!unusable_why(f.node, i)) f.usable[f.n_usable++] = i;
    if (status == MU_OK && o->measure) status = measure(&f, err);
    if (status == MU_OK) status = facts_print(&f, o, err);
    for (unsigned i = 0; status == MU_OK && i < f.n_required; i++)
        if (unusable_why(f.node, f.required[i])) status = MU_E_ANSWER;
    mu_free(f.node);
    return status;
}

const struct mu_command mu_command_devices = {
    .spec = {.command = "devices",
             .operands = "",
             .summary = "what is here: processors, GPUs, memory, links, measured limits",
             .details = "The driver's library is libnvidia-ml.so.1 as the loader finds it, or the "
                        "file that MUSTER_NVML names.",
             .options = options},
    .options_size = sizeof(struct devices_options),
    .run = devices_run,
};
