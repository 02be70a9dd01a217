/* This machine as the planner sees it; see here.h. */
#include "bench/here.h"

#include "bench/step.h"

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

/* The type of the matrix that makes logits: often another than the layers'. */
static enum mu_dtype head_type(const struct mu_here_question *q, enum mu_dtype body)
{
    const struct mu_config *c = mu_model_file_config(q->file);
    const struct mu_tensor *tensors;
    size_t n = mu_model_file_tensors(q->file, &tensors);
    enum mu_dtype type = body;
    for (size_t i = 0; q->own_format && i < n; i++) {
        const struct mu_tensor *t = &tensors[i];
        bool table = t->n_dims == 2 && t->dims[0] == c->vocab && t->dims[1] == c->hidden;
        bool head = strstr(t->name, "output.weight") || strstr(t->name, "lm_head");
        if (table && mu_codec_can_decode(t->type) && (head || c->tied_head)) type = t->type;
    }
    return type;
}

static double bits_of(enum mu_dtype type, uint32_t cols)
{
    uint64_t bytes = 0;
    return mu_dtype_bytes(mu_codec_fit(type, cols), cols, &bytes) ? 8.0 * (double)bytes / cols : 0;
}

static struct mu_measure_shape shape_of(const struct mu_here_question *q)
{
    const struct mu_config *c = mu_model_file_config(q->file);
    enum mu_dtype type = timed_type(q->format);
    return (struct mu_measure_shape){.hidden = c->hidden,
                                     .ffn = c->n_experts ? c->expert_ffn : c->ffn,
                                     .vocab = c->vocab,
                                     .n_heads = c->n_heads,
                                     .n_kv_heads = c->n_kv_heads,
                                     .head_dim = c->head_dim,
                                     .type = type,
                                     .head_type = head_type(q, type)};
}

/* A device of which nothing is published: limits are what the kernels reach, for what the plan says
 * of weights at the memory's limit, and the engine reaches all of them. */
static void set_device(struct mu_here *h, const struct mu_probe_cpu *cpu)
{
    const struct mu_plan_costs *c = &h->timed.costs;
    double bytes_per_s = h->timed.bits / 8 / c->weight_s[MU_PLAN_GLU][MU_PLAN_SIZES - 1][0];
    (void)snprintf(h->name, sizeof h->name, "%s", cpu->name[0] ? cpu->name : "cpu");
    h->device = (struct mu_probe_device){.name = h->name,
                                         .memory_bytes = (double)cpu->memory_bytes,
                                         .usable_bytes = (double)cpu->available_bytes,
                                         .bytes_per_s = bytes_per_s,
                                         .link = &h->link,
                                         .node = MU_PLAN_DEVICES_MAX};
    h->engine.step_s = c->step_s;
    h->engine.overhead_bytes = h->engine.pair_bytes = h->engine.group_bytes = 0;
    h->engine.latency = h->engine.exchange = 1;
    h->engine.first_s = c->first_s;
}

static mu_status measure_link(struct mu_here *h, unsigned n_ranks, struct mu_err *err)
{
    struct mu_measure_exchanged found;
    unsigned n = MU_MIN(MU_MAX(n_ranks, 2u), (unsigned)MU_MEASURE_PEERS_MAX);
    MU_TRY(mu_measure_exchange(n, &found, err));
    h->link = (struct mu_probe_link){.name = "memory",
                                     .bytes_per_s = found.bytes_per_s,
                                     .latency_s = found.latency_s,
                                     .wake_s = found.wake_s,
                                     .efficiency = 1};
    return MU_OK;
}

mu_status mu_here_measure(struct mu_here *out, const struct mu_here_question *q, struct mu_err *err)
{
    struct mu_measure_shape shape = shape_of(q);
    struct mu_plan_costs one, all;
    struct mu_probe_cpu cpu;
    mu_probe_cpu(NULL, &cpu);
    unsigned threads = q->n_threads ? MU_MIN(q->n_threads, cpu.n_usable) : cpu.n_usable;
    *out = (struct mu_here){.engine = *q->muster};
    out->engine.name = "muster"; /* the catalogue need not stay */
    mu_measure_step *step = q->kept_only ? NULL : mu_bench_step;
    MU_TRY(mu_measure_costs_kept(q->kernels, &shape, threads, step, q->progress, &one, err));
    all = one;
    if (threads < cpu.n_usable && q->n_busy > 1)
        MU_TRY(
            mu_measure_costs_kept(q->kernels, &shape, cpu.n_usable, step, q->progress, &all, err));
    mu_plan_costs_shared(&one, &all, q->n_busy, &out->timed.costs);
    out->timed.bits = bits_of(shape.type, shape.hidden);
    out->timed.head_bits = bits_of(shape.head_type, shape.hidden);
    out->timed.n_busy = q->n_busy;
    out->engine.sequence_s = shape.vocab * one.pick_s + one.sequence_s;
    if (q->n_ranks > 1) MU_TRY(measure_link(out, q->n_ranks, err));
    set_device(out, &cpu);
    return MU_OK;
}

/* ---- Memory -------------------------------------------------------------------------------- */

bool mu_here_ask(void *arg, const struct mu_plan_candidate *c, struct mu_plan_memory *out,
                 uint32_t n)
{
    const struct mu_here_memory *m = arg;
    struct mu_engine_options options = {.tp = c->tp,
                                        .pp = c->pp,
                                        .dp = c->dp,
                                        .kv_type = m->kv_type,
                                        .weights = m->weights,
                                        .context = m->context,
                                        .max_sequences = MU_ROUND_UP(m->batch, c->dp)};
    struct mu_engine_memory memory;
    char devices[24];
    (void)snprintf(devices, sizeof devices, "cpu:%u", n);
    if (n > MU_DEVICES_MAX || c->format != m->format) return false;
    if (mu_devices_parse(devices, m->n_threads, &options.devices, NULL) != MU_OK) return false;
    if (mu_engine_memory(m->file, &options, &memory, NULL) != MU_OK) return false;
    for (uint32_t i = 0; i < n; i++) {
        const uint64_t *bytes = memory.ranks[i].bytes;
        out[i] = (struct mu_plan_memory){.weights_bytes = (double)bytes[MU_PURPOSE_WEIGHTS],
                                         .kv_bytes = (double)bytes[MU_PURPOSE_KV],
                                         .activation_bytes = (double)bytes[MU_PURPOSE_ACTIVATIONS],
                                         .overhead_bytes = (double)bytes[MU_PURPOSE_TABLES]};
    }
    return true;
}

/* ---- Runs ---------------------------------------------------------------------------------- */

/* A lone stream keeps the ranks of one stage busy; several keep more. */
static uint32_t n_busy(const struct mu_here_run *run)
{
    uint32_t replicas = MU_MIN(run->dp, run->batch), streams = MU_CEIL_DIV(run->batch, run->dp);
    return run->tp * MU_MIN(run->pp, streams) * replicas;
}

static mu_status predict(const struct mu_here_run *run, const struct mu_plan_format *format,
                         const struct mu_here *here, struct mu_plan_prediction *out,
                         struct mu_err *err)
{
    struct mu_plan_rack rack = {.n = run->tp * run->pp * run->dp};
    struct mu_plan_request request = {.config = mu_model_file_config(run->file),
                                      .formats = {format},
                                      .n_formats = 1,
                                      .rack = &rack,
                                      .engine = &here->engine,
                                      .timed = &here->timed,
                                      .kv_bits = 16,
                                      .batch = run->batch,
                                      .input = run->input,
                                      .output = run->output,
                                      .tp = run->tp,
                                      .pp = run->pp,
                                      .dp = run->dp,
                                      .costs = "kernels measured on this machine"};
    struct mu_plan *plan;
    for (uint32_t i = 0; i < rack.n; i++)
        rack.slots[i] = (struct mu_plan_slot){.device = &here->device};
    if (run->weights == MU_DTYPE_F32)
        request.n_tensors = mu_model_file_tensors(run->file, &request.tensors);
    MU_TRY(mu_plan_make(&request, &plan, err));
    *out = plan->candidates[0].predicted;
    mu_plan_destroy(plan);
    return MU_OK;
}

/* Of a file that memory can hold, pages are read once. */
static mu_status find_file_speed(const struct mu_here_run *run, double *bytes_per_s,
                                 struct mu_err *err)
{
    const char *const *paths;
    const struct mu_tensor *tensors;
    struct mu_probe_cpu cpu;
    uint64_t bytes = 0;
    size_t n = mu_model_file_tensors(run->file, &tensors);
    for (size_t i = 0; i < n; i++)
        bytes += mu_tensor_stored_bytes(&tensors[i]);
    mu_probe_cpu(NULL, &cpu);
    *bytes_per_s = 0;
    if (bytes < cpu.available_bytes || mu_model_file_paths(run->file, &paths) == 0) return MU_OK;
    return mu_measure_file(paths[0], bytes_per_s, err);
}

static mu_status predict_placed(const struct mu_here_run *run, const struct mu_plan_format *format,
                                const struct mu_here *here, struct mu_plan_prediction *out,
                                struct mu_err *err)
{
    int cpus[MU_DEVICE_CPUS_MAX];
    unsigned cores = mu_cpu_usable(cpus, MU_DEVICE_CPUS_MAX);
    struct mu_plan_placed placed;
    struct mu_plan_placed_request request = {.config = mu_model_file_config(run->file),
                                             .format = format,
                                             .places = run->places,
                                             .n_stages = run->pp,
                                             .timed = &here->timed,
                                             .engine = &here->engine,
                                             .device = &here->device,
                                             .n_threads = run->n_threads ? run->n_threads : cores,
                                             .batch = MU_CEIL_DIV(run->batch, run->dp),
                                             .input = run->input,
                                             .output = run->output};
    request.core_left = cores > request.n_threads;
    if (run->weights == MU_DTYPE_F32)
        request.n_tensors = mu_model_file_tensors(run->file, &request.tensors);
    for (uint32_t i = 0; i < mu_part_count(request.config) && request.file_bytes_per_s == 0; i++)
        if (run->places[i].home == MU_HOME_FILE) {
            MU_TRY(find_file_speed(run, &request.file_bytes_per_s, err));
            break;
        }
    MU_TRY(mu_plan_placed_price(&request, &placed, err));
    *out = (struct mu_plan_prediction){.step_s = placed.step_s,
                                       .tpot_s = placed.step_s,
                                       .ttft_s = placed.prefill_s,
                                       .decode_tokens_per_s = run->batch / placed.step_s,
                                       .prefill_tokens_per_s =
                                           run->dp * run->input / placed.prefill_s};
    memcpy(out->brought, placed.bytes, sizeof out->brought);
    return MU_OK;
}

/* The machine as a run needs it. */
static mu_status measure_for(const struct mu_here_run *run, const struct mu_plan_format **format,
                             struct mu_here *out, struct mu_err *err)
{
    bool own = run->weights == MU_DTYPE_F32;
    struct mu_here_question question = {
        .file = run->file,
        .format = own ? mu_here_format(run->file)
                      : mu_plan_format(mu_str(mu_dtype(run->weights)->name), err),
        .own_format = own,
        .n_threads = run->n_threads,
        .n_busy = n_busy(run),
        .n_ranks = MU_MAX(run->tp, MU_MIN(run->pp, 2u)),
        .kept_only = run->kept_only,
        .progress = run->progress};
    struct mu_probe_catalog *catalog;
    if (!question.format) return MU_E_USAGE;
    *format = question.format;
    if (run->compute == MU_COMPUTE_F32)
        return mu_fail(err, MU_E_UNSUPPORTED, "the reference path's kernels are not timed");
    MU_TRY(mu_kernels_choose(run->kernels, &question.kernels, err));
    MU_TRY(mu_probe_catalog_load(&catalog, err));
    mu_status status = mu_probe_find_engine(catalog, MU_STR("muster"), &question.muster, err);
    if (status == MU_OK) status = mu_here_measure(out, &question, err);
    mu_probe_catalog_destroy(catalog);
    return status;
}

mu_status mu_here_predict(const struct mu_here_run *run, struct mu_plan_prediction *out,
                          struct mu_err *err)
{
    const struct mu_plan_format *format;
    struct mu_here here;
    MU_TRY(measure_for(run, &format, &here, err));
    here.engine.chunk = mu_engine_step_rows((uint32_t)here.engine.chunk, run->pp, run->input);
    return run->places ? predict_placed(run, format, &here, out, err)
                       : predict(run, format, &here, out, err);
}

mu_status mu_here_control(const struct mu_here_run *run, double *read, double *multiplies,
                          struct mu_err *err)
{
    const struct mu_plan_format *format;
    struct mu_here here;
    MU_TRY(measure_for(run, &format, &here, err));
    *read = 1 / here.timed.costs.read_s;
    *multiplies = 1 / here.timed.costs.multiply_s;
    return MU_OK;
}
