/* muster devices: what is here to compute on. */
#include "cli/cli.h"

#include "base/json.h"
#include "base/number.h"
#include "device/device.h"
#include "kernel/kernel.h"
#include "measure/measure.h"
#include "probe/probe.h"

struct devices_options {
    bool measure, json;
};

static const struct mu_option options[] = {
    {"measure", 'm', MU_OPTION_FLAG, offsetof(struct devices_options, measure), NULL,
     "time what the machine can do (under a second)", 0, 0, NULL, NULL},
    {"json", 'j', MU_OPTION_FLAG, offsetof(struct devices_options, json), NULL,
     "print one JSON document", 0, 0, NULL, NULL},
    {0}};

struct facts {
    struct mu_probe_cpu cpu;
    double read_one, read_all; /* bytes a second; 0: not measured */
};

static mu_status measure(struct facts *f, struct mu_err *err)
{
    MU_TRY(mu_measure_read_bandwidth(1, NULL, &f->read_one, err));
    return mu_measure_read_bandwidth(f->cpu.n_usable, NULL, &f->read_all, err);
}

static void add_people(struct mu_text *out, const struct facts *f)
{
    char a[MU_BYTES_TEXT], b[MU_BYTES_TEXT];
    mu_text_printf(out, "cpu            %s\n", f->cpu.name[0] ? f->cpu.name : "(unnamed)");
    mu_text_printf(out, "threads        %u usable\n", f->cpu.n_usable);
    if (f->cpu.memory_bytes)
        mu_text_printf(out, "memory         %s, %s available\n",
                       mu_format_bytes(f->cpu.memory_bytes, a),
                       mu_format_bytes(f->cpu.available_bytes, b));
    mu_text_str(out, "kernels        ");
    for (unsigned i = 0; mu_kernels_usable(i); i++)
        mu_text_printf(out, "%s%s", i ? ", " : "", mu_kernels_usable(i)->family);
    mu_text_str(out, " (the first is used)\n");
    if (f->read_all > 0)
        mu_text_printf(out, "read bandwidth %.1f GB/s measured with %u threads, %.1f with one\n",
                       f->read_all * 1e-9, f->cpu.n_usable, f->read_one * 1e-9);
}

static void add_json(struct mu_text *out, const struct facts *f)
{
    mu_text_str(out, "{\"devices\":[{\"device\":\"cpu\",\"name\":");
    mu_json_add_string(out, mu_str(f->cpu.name));
    mu_text_printf(out, ",\"threads\":%u", f->cpu.n_usable);
    if (f->cpu.memory_bytes)
        mu_text_printf(out, ",\"memory_bytes\":%llu,\"available_bytes\":%llu",
                       (unsigned long long)f->cpu.memory_bytes,
                       (unsigned long long)f->cpu.available_bytes);
    mu_text_str(out, ",\"kernels\":[");
    for (unsigned i = 0; mu_kernels_usable(i); i++)
        mu_text_printf(out, "%s\"%s\"", i ? "," : "", mu_kernels_usable(i)->family);
    mu_text_char(out, ']');
    if (f->read_all > 0) {
        mu_text_str(out, ",\"measured\":{\"read_bytes_per_s\":");
        mu_json_add_f64(out, f->read_all);
        mu_text_str(out, ",\"read_one_thread_bytes_per_s\":");
        mu_json_add_f64(out, f->read_one);
        mu_text_char(out, '}');
    }
    mu_text_str(out, "}]}\n");
}

static mu_status devices_run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct devices_options *o = in->options;
    struct facts f = {0};
    mu_probe_cpu(NULL, &f.cpu);
    if (o->measure) MU_TRY(measure(&f, err));
    struct mu_text out;
    mu_text_init(&out, 65536);
    if (o->json)
        add_json(&out, &f);
    else
        add_people(&out, &f);
    mu_status status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    return status;
}

const struct mu_command mu_command_devices = {
    .spec = {.command = "devices",
             .operands = "",
             .summary = "what is here: processors, memory, measured limits",
             .options = options},
    .options_size = sizeof(struct devices_options),
    .run = devices_run,
};
