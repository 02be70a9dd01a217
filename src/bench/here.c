/* This machine as the planner sees it; see here.h. */
#include "bench/here.h"

#include <stdio.h>

const struct mu_plan_format *mu_here_format(const struct mu_model_file *file)
{
    uint64_t bytes[MU_DTYPE_COUNT] = {0};
    const struct mu_tensor *tensors;
    size_t n = mu_model_file_tensors(file, &tensors), most = MU_DTYPE_BF16;
    const struct mu_config *config = mu_model_file_config(file);
    if (config->names != MU_NAMES_GGUF) return mu_plan_format_of(config);
    for (size_t i = 0; i < n; i++)
        bytes[tensors[i].type] += tensors[i].n_bytes;
    for (size_t i = 0; i < MU_DTYPE_COUNT; i++)
        if (bytes[i] > bytes[most]) most = i;
    const struct mu_plan_format *format =
        mu_plan_format(mu_str(mu_dtype((enum mu_dtype)most)->name), NULL);
    return format ? format : mu_plan_format_of(config);
}

/* The stored type that a format's products are timed with. */
static enum mu_dtype timed_type(const struct mu_plan_format *format)
{
    enum mu_dtype type;
    if (mu_dtype_by_name(mu_str(format->name), &type) && mu_codec_can_decode(type)) return type;
    return format->bits <= 4 ? MU_DTYPE_Q4_0 : format->bits <= 8 ? MU_DTYPE_Q8_0 : MU_DTYPE_BF16;
}

/* Devices that work at the same time share what all cores reach together. */
static double share(double alone, double together, double n_busy)
{
    return MU_MIN(alone, together / n_busy);
}

static void set_device(struct mu_here *h, const struct mu_probe_cpu *cpu,
                       const struct mu_measure_costs *one, const struct mu_measure_costs *all,
                       double n_busy)
{
    double weights = share(one->weight_bytes_per_s, all->weight_bytes_per_s, n_busy);
    double products = share(one->product_per_s, all->product_per_s, n_busy);
    (void)snprintf(h->name, sizeof h->name, "%s", cpu->name[0] ? cpu->name : "cpu");
    h->device = (struct mu_probe_device){.name = h->name,
                                         .memory_bytes = (double)cpu->memory_bytes,
                                         .usable_bytes = (double)cpu->available_bytes,
                                         .bytes_per_s = weights,
                                         .link = &h->link,
                                         .node = MU_PLAN_DEVICES_MAX};
    h->device.rates[MU_PROBE_F32] = h->device.rates[MU_PROBE_F16] = h->device.rates[MU_PROBE_I8] =
        products;
    h->engine.weights = h->engine.f16 = h->engine.f8 = 1;
    h->engine.kv = share(one->kv_bytes_per_s, all->kv_bytes_per_s, n_busy) / weights;
    h->engine.attention = share(one->attention_per_s, all->attention_per_s, n_busy) / products;
    h->engine.op_s = one->meeting_s;
    h->engine.overhead_bytes = h->engine.pair_bytes = h->engine.group_bytes = 0;
}

mu_status mu_here_measure(struct mu_here *out, const struct mu_config *config,
                          const struct mu_plan_format *format, const struct mu_kernels *kernels,
                          const struct mu_probe_engine *muster, unsigned n_threads, unsigned n_busy,
                          unsigned n_ranks, struct mu_err *err)
{
    struct mu_measure_shape shape = {config->n_heads, config->n_kv_heads, config->head_dim};
    enum mu_dtype type = timed_type(format);
    struct mu_measure_costs one, all;
    struct mu_probe_cpu cpu;
    double step_s, latency_s, bytes_per_s;
    mu_probe_cpu(NULL, &cpu);
    unsigned threads = n_threads ? MU_MIN(n_threads, cpu.n_usable) : cpu.n_usable;
    MU_TRY(mu_measure_costs_kept(kernels, type, &shape, threads, &one, err));
    all = one;
    if (threads < cpu.n_usable && n_busy > 1)
        MU_TRY(mu_measure_costs_kept(kernels, type, &shape, cpu.n_usable, &all, err));
    MU_TRY(mu_measure_exchange(2, &step_s, &bytes_per_s, err));
    latency_s = step_s;
    if (n_ranks > 2)
        MU_TRY(mu_measure_exchange(MU_MIN(n_ranks, (unsigned)MU_MEASURE_PEERS_MAX), &latency_s,
                                   &bytes_per_s, err));
    *out = (struct mu_here){.engine = *muster};
    out->engine.step_s = step_s; /* from the scheduler to the ranks and back */
    out->link = (struct mu_probe_link){
        .name = "memory", .bytes_per_s = bytes_per_s, .latency_s = latency_s, .efficiency = 1};
    out->engine.latency = out->engine.exchange = 1;
    set_device(out, &cpu, &one, &all, n_busy);
    return MU_OK;
}
