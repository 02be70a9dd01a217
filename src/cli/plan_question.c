/* muster plan MODEL --on HW: finds the model's shape, asks the planner and prints its answer. */
#include "cli/plan_question.h"

#include "base/file.h"
#include "base/number.h"
#include "bench/bench.h"
#include "cli/map_options.h"
#include "cli/plan_model.h"
#include "engine/engine.h"
#include "format/format.h"
#include "kernel/kernel.h"

#include <stdio.h>

#define OUT_MAX_BYTES  (64u << 20)
#define TABLE_ROWS     12
#define RACK_MAX_BYTES 65536

struct question {
    const struct plan_options *options;
    struct plan_model model;
    struct mu_probe_catalog *catalog;
    struct mu_here here;
    struct mu_here_memory memory;
    struct mu_plan_rack rack;
    struct mu_plan_request request;
};

/* ---- The model ----------------------------------------------------------------------------- */

/* The type that a model's weights have, or that a synth: model of that shape is made in. */
static const struct mu_plan_format *own_format(const struct question *q)
{
    const struct mu_config *config = mu_model_file_config(q->model.file);
    bool made = q->model.synth && strcmp(config->quant_method, "mxfp4") != 0;
    return made ? mu_plan_format(MU_STR("bf16"), NULL) : mu_here_format(q->model.file);
}

/* The model's own format first, unless --weights names others; "all" are those that the engine
 * reads. */
static mu_status read_formats(struct question *q, struct mu_err *err)
{
    static const char every[] = "bf16,fp8,int8,awq,q8_0,q6_k,q4_k";
    struct mu_plan_request *r = &q->request;
    const char *type = q->model.type;
    const struct mu_plan_format *format =
        type[0] ? mu_plan_format(mu_str(type), err) : own_format(q);
    if (!format) return MU_E_USAGE;
    if (!type[0]) r->n_tensors = mu_model_file_tensors(q->model.file, &r->tensors);
    r->formats[r->n_formats++] = format;
    if (!q->options->weights) return MU_OK;
    bool all = strcmp(q->options->weights, "all") == 0;
    if (!all) r->n_formats = 0;
    struct mu_str rest = mu_str(all ? every : q->options->weights);
    while (rest.len && r->n_formats < MU_PLAN_FORMATS_MAX) {
        const struct mu_plan_format *f = mu_plan_format(mu_str_take(&rest, ','), err);
        if (!f) return MU_E_USAGE;
        bool skip = false;
        for (uint32_t i = 0; i < r->n_formats; i++)
            skip |= r->formats[i] == f;
        skip |= all && !mu_plan_engine_reads(r->engine, f);
        if (!skip) r->formats[r->n_formats++] = f;
    }
    if (r->formats[0] != format) r->n_tensors = 0;
    return MU_OK;
}

/* ---- The machine --------------------------------------------------------------------------- */

static void show_progress(void *arg, unsigned done, unsigned all)
{
    (void)arg;
    if (done < all)
        mu_cli_progress((double)done / all, "timing this machine's kernels, once: %u of %u", done,
                        all);
    else
        mu_cli_progress_end();
}

/* This machine's processor as one device. */
static mu_status find_here(struct question *q, struct mu_err *err)
{
    const struct mu_kernels *kernels;
    MU_TRY(mu_kernels_choose(NULL, &kernels, err));
    struct mu_measure_progress progress = {.show = show_progress};
    struct mu_here_question question = {.file = q->model.file,
                                        .format = q->request.formats[0],
                                        .own_format = q->request.n_tensors > 0,
                                        .kernels = kernels,
                                        .muster = q->request.engine,
                                        .n_busy = 1,
                                        .n_ranks = 1,
                                        .progress = &progress};
    MU_TRY(mu_here_measure(&q->here, &question, err));
    q->request.engine = &q->here.engine;
    q->request.timed = &q->here.timed;
    q->rack.slots[0] = (struct mu_plan_slot){.device = &q->here.device};
    q->rack.n = 1;
    return MU_OK;
}

static mu_status read_rack(struct question *q, const char *path, struct mu_err *err)
{
    struct mu_text file;
    mu_text_init(&file, RACK_MAX_BYTES);
    mu_status status = mu_file_read(path, &file, err);
    if (status == MU_OK)
        status = mu_plan_rack_yaml((struct mu_str){mu_text_get(&file), file.len}, path, q->catalog,
                                   &q->rack, err);
    mu_text_fini(&file);
    return status;
}

static mu_status find_rack(struct question *q, struct mu_err *err)
{
    const struct plan_options *o = q->options;
    MU_TRY(mu_probe_find_link(q->catalog, mu_str(o->network), &q->rack.between, err));
    const char *engine = q->request.engine->name;
    if (!o->on && strcmp(engine, "muster") != 0)
        return mu_fail(err, MU_E_USAGE, "--engine %s is planned for only with --on", engine);
    if (!o->on) return find_here(q, err);
    if (mu_file_exists(o->on) && !mu_file_is_folder(o->on)) return read_rack(q, o->on, err);
    if (mu_cli_means_file(o->on, ".yaml") || mu_cli_means_file(o->on, ".yml"))
        return mu_cli_no_file("--on", o->on, "a description of hosts is a file, as in docs/plan.md",
                              err);
    return mu_plan_rack_parse(o->on, q->catalog, &q->rack, err);
}

/* ---- The question -------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum mu_plan_goal goal;
} goals[] = {
    {"latency", MU_PLAN_LATENCY},
    {"throughput", MU_PLAN_THROUGHPUT},
    {"cost", MU_PLAN_COST},
    {"fit", MU_PLAN_FIT},
};

/* Engines refuse to start with a context that the model was not made for, unless told. */
static mu_status set_context(struct question *q, const char *model, struct mu_err *err)
{
    const struct plan_options *o = q->options;
    uint64_t has = mu_model_file_config(q->model.file)->context, most = has ? has : UINT32_MAX;
    uint64_t output = o->output ? o->output : MU_MIN(UINT64_C(512), most / 3 + 1);
    uint64_t left = output < most ? most - output : 1;
    uint64_t input = o->input ? o->input : MU_MIN(UINT64_C(1024), left);
    uint64_t asked = input + output;
    q->request.input = (uint32_t)input;
    q->request.output = (uint32_t)output;
    if (asked <= most) return MU_OK;
    if (o->beyond_context) {
        mu_cli_say("warning: %s has a context of %llu tokens; planned is %llu\n", model,
                   (unsigned long long)has, (unsigned long long)asked);
        return MU_OK;
    }
    mu_status status = mu_fail(
        err, MU_E_FIT, "%s has a context of %llu tokens, not the %llu of --input + --output", model,
        (unsigned long long)has, (unsigned long long)asked);
    if (output < has)
        mu_err_cure(err, "would fit: --input %llu; --beyond-context plans it all the same",
                    (unsigned long long)left);
    else
        mu_err_cure(err, "ask for a shorter --output; --beyond-context plans it all the same");
    return status;
}

static mu_status compose(struct question *q, const char *model, struct mu_err *err)
{
    const struct plan_options *o = q->options;
    struct mu_plan_request *r = &q->request;
    MU_TRY(mu_probe_catalog_load(&q->catalog, err));
    MU_TRY(mu_plan_model_open(model, &q->model, err));
    MU_TRY(set_context(q, model, err));
    MU_TRY(mu_probe_find_engine(q->catalog, mu_str(o->engine), &r->engine, err));
    MU_TRY(read_formats(q, err));
    MU_TRY(find_rack(q, err));
    r->config = mu_model_file_config(q->model.file);
    r->rack = &q->rack;
    r->kv_bits = strcmp(o->kv_type, "auto") == 0 ? 0 : strcmp(o->kv_type, "fp8") == 0 ? 8 : 16;
    r->batch = (uint32_t)o->batch;
    r->tp = (uint32_t)o->tp;
    r->pp = (uint32_t)o->pp;
    r->dp = (uint32_t)o->dp;
    r->goal = o->batch > 1 ? MU_PLAN_THROUGHPUT : MU_PLAN_LATENCY;
    for (size_t i = 0; o->goal && i < MU_ARRAY_LEN(goals); i++)
        if (strcmp(o->goal, goals[i].name) == 0) r->goal = goals[i].goal;
    if (!o->on && r->n_tensors > 0) {
        q->memory = (struct mu_here_memory){.file = q->model.file,
                                            .format = r->formats[0],
                                            .kv_type = MU_DTYPE_BF16,
                                            .context = r->input + r->output,
                                            .batch = r->batch};
        r->ask = mu_here_ask;
        r->ask_arg = &q->memory;
    }
    r->costs = o->on ? "catalogue" : "kernels measured on this machine";
    if (o->device_map) { /* best: whole layers on whole devices, as transformers runs them */
        r->tp = r->dp = 1;
        if (!o->goal) r->goal = MU_PLAN_LATENCY;
    }
    return MU_OK;
}

/* ---- The answer ---------------------------------------------------------------------------- */

/* Processors are joined by sockets; this machine has nothing else yet. */
static bool on_cpu(const struct question *q)
{
    for (uint32_t i = 0; i < q->rack.n; i++) {
        const struct mu_probe_link *bus = q->rack.slots[i].device->bus;
        if (q->options->on && !(bus && strcmp(bus->name, "socket") == 0)) return false;
    }
    return true;
}

static void write_launch(const struct question *q, const struct mu_plan *plan, const char *model,
                         struct mu_text *out)
{
    const struct plan_model *m = &q->model;
    struct mu_plan_launch how = {
        .model = model,
        .id = m->synth && !on_cpu(q) ? m->row.hub_id : m->id,
        .own = m->own ? mu_plan_format(mu_str(m->own), NULL) : own_format(q),
        .gguf = mu_model_file_config(m->file)->names == MU_NAMES_GGUF,
        .on_cpu = on_cpu(q),
        .runnable = m->on_disk || m->synth,
    };
    if (m->synth && on_cpu(q)) how.own = q->request.formats[0]; /* it says the type */
    mu_plan_write_launch(plan, &how, out);
}

static void add_people(const struct question *q, const struct mu_plan *plan, const char *model,
                       struct mu_text *out)
{
    const struct mu_plan_request *r = &q->request;
    bool fits = plan->candidates[0].fits;
    mu_text_printf(out, "%s with %s: %u streams of %u tokens in and %u out, all predicted\n", model,
                   r->engine->name, r->batch, r->input, r->output);
    for (uint32_t i = 0; i < r->n_formats; i++) {
        char text[MU_BYTES_TEXT];
        double nominal = mu_plan_nominal_bytes(model, r->formats[i]);
        bool exact = (i == 0 && r->n_tensors) || !r->formats[i]->blocks; /* quantisers mix blocks */
        mu_text_printf(out, "weights in %s: %s%s%s", r->formats[i]->name, exact ? "" : "about ",
                       mu_format_bytes((uint64_t)plan->weights_bytes[i], text),
                       i == 0 && r->n_tensors ? ", as the file has them" : "");
        if (nominal > 0)
            mu_text_printf(out, " (%s%.4g GB%s, nominally %.4g)", exact ? "" : "about ",
                           plan->weights_bytes[i] * 1e-9, exact ? " exactly" : "", nominal * 1e-9);
        mu_text_char(out, '\n');
    }
    mu_text_printf(out, "costs: %s\n\n",
                   q->options->on ? "published limits times the engine's efficiencies (share/)"
                                  : r->costs);
    mu_plan_write_table(plan, TABLE_ROWS, out);
    mu_text_char(out, '\n');
    if (!fits) {
        mu_plan_write_shortage(plan, out);
        return;
    }
    mu_plan_write_picture(&plan->candidates[0], out);
    mu_text_printf(out, "\n%s\n\n", plan->why);
    write_launch(q, plan, model, out);
}

static mu_status write_svg(const struct mu_plan *plan, const char *model, const char *path,
                           struct mu_err *err)
{
    struct mu_text text;
    struct mu_file_out file;
    mu_text_init(&text, OUT_MAX_BYTES);
    mu_plan_write_svg(plan, model, &text);
    mu_status status = mu_text_status(&text, err);
    if (status == MU_OK) status = mu_file_out_open(&file, path, err);
    if (status == MU_OK) {
        status = mu_file_out_write(&file, mu_text_get(&text), text.len, err);
        if (status == MU_OK) status = mu_file_out_commit(&file, err);
        mu_file_out_close(&file);
    }
    mu_text_fini(&text);
    return status;
}

static mu_status refuse(const struct mu_plan *plan, const char *model, struct mu_err *err)
{
    const struct mu_plan_candidate *c = &plan->candidates[0];
    char needs[MU_BYTES_TEXT], has[MU_BYTES_TEXT];
    const struct mu_plan_device *worst = &c->devices[0];
    for (uint32_t i = 1; i < c->n_devices; i++)
        if (mu_plan_memory_total(&c->devices[i].memory) - c->devices[i].memory.budget_bytes >
            mu_plan_memory_total(&worst->memory) - worst->memory.budget_bytes)
            worst = &c->devices[i];
    mu_status status = mu_fail(
        err, MU_E_FIT,
        "no placement of %s fits: tp %u x pp %u x dp %u needs %s of a %s that has %s", model, c->tp,
        c->pp, c->dp, mu_format_bytes((uint64_t)mu_plan_memory_total(&worst->memory), needs),
        worst->device->name, mu_format_bytes((uint64_t)worst->memory.budget_bytes, has));
    if (plan->nearest[0]) mu_err_cure(err, "would fit: %s", plan->nearest);
    return status;
}

static mu_status print(const struct question *q, const struct mu_plan *plan, const char *model,
                       struct mu_err *err)
{
    struct mu_text text;
    mu_text_init(&text, OUT_MAX_BYTES);
    if (q->options->device_map && plan->candidates[0].fits)
        mu_plan_write_map(plan, &text);
    else if (q->options->json)
        mu_plan_write_json(plan, model, &text);
    else
        add_people(q, plan, model, &text);
    mu_status status = mu_cli_out_text(&text, err);
    mu_text_fini(&text);
    if (status == MU_OK && q->options->svg) status = write_svg(plan, model, q->options->svg, err);
    return status == MU_OK && !plan->candidates[0].fits ? refuse(plan, model, err) : status;
}

mu_status mu_plan_answer(const struct plan_options *o, const char *model, struct mu_err *err)
{
    struct question q = {.options = o};
    struct mu_plan *plan = NULL;
    mu_status status = compose(&q, model, err);
    if (status == MU_OK) status = mu_plan_make(&q.request, &plan, err);
    if (status == MU_OK) status = print(&q, plan, model, err);
    mu_plan_destroy(plan);
    mu_probe_catalog_destroy(q.catalog);
    mu_plan_model_close(&q.model);
    return status;
}

double mu_plan_predict(const char *model, const char *device, unsigned n, const char *engine)
{
    char on[160];
    bool layers = strcmp(engine, "llama.cpp") == 0; /* its default is to split by layers */
    struct plan_options o = {.on = on,
                             .engine = engine,
                             .kv_type = "auto",
                             .network = MU_PLAN_NETWORK,
                             .batch = 1,
                             .tp = layers ? 1 : n,
                             .pp = layers ? n : 1,
                             .dp = 1};
    struct question q = {.options = &o};
    struct mu_plan *plan = NULL;
    double tokens_per_s = 0;
    (void)snprintf(on, sizeof on, "%ux%s", n, device);
    if (compose(&q, model, NULL) == MU_OK && mu_plan_make(&q.request, &plan, NULL) == MU_OK &&
        plan->candidates[0].fits)
        tokens_per_s = plan->candidates[0].predicted.decode_tokens_per_s;
    mu_plan_destroy(plan);
    mu_probe_catalog_destroy(q.catalog);
    mu_plan_model_close(&q.model);
    return tokens_per_s;
}

/* ---- Maps ---------------------------------------------------------------------------------- */

static void add_brought(const struct mu_plan_prediction *p, struct mu_text *out)
{
    static const char *const from[MU_HOME_COUNT] = {
        [MU_HOME_HOST] = "the host's memory", [MU_HOME_FILE] = "the disk"};
    bool any = false;
    for (int home = 0; home < MU_HOME_COUNT; home++) {
        char text[MU_BYTES_TEXT];
        if (!from[home] || p->brought[home] <= 0) continue;
        mu_text_printf(out, "%s%s from %s", any ? " and " : "; each step has brought ",
                       mu_format_bytes((uint64_t)p->brought[home], text), from[home]);
        any = true;
    }
}

void mu_plan_add_speed(const struct mu_plan_map *map, const struct plan_options *o,
                       const char *model, struct mu_text *out)
{
    struct plan_model m;
    struct mu_plan_places places;
    struct mu_plan_prediction p;
    struct mu_measure_progress progress = {.show = show_progress};
    const struct mu_tensor *tensors;
    if (mu_plan_model_open(model, &m, NULL) != MU_OK) {
        mu_plan_model_close(&m);
        return;
    }
    struct mu_here_run run = {.file = m.file,
                              .weights = MU_DTYPE_F32,
                              .tp = 1,
                              .dp = 1,
                              .batch = (uint32_t)o->batch,
                              .input = o->input ? (uint32_t)o->input : 128,
                              .output = o->output ? (uint32_t)o->output : 128,
                              .progress = &progress};
    bool here = m.synth || (m.on_disk && mu_model_file_tensors(m.file, &tensors) > 0);
    if (here &&
        mu_plan_map_places(map, mu_model_file_config(m.file), false, &places, NULL) == MU_OK) {
        run.places = places.places;
        run.pp = places.n_stages;
        run.n_threads = MU_MAX(
            mu_cpu_usable((int[MU_DEVICE_CPUS_MAX]){0}, MU_DEVICE_CPUS_MAX) / places.n_stages, 1u);
        if (mu_here_predict(&run, &p, NULL) == MU_OK) {
            mu_text_printf(out, "predicted for muster on this machine: %.4g tokens/s, prompts %.4g",
                           p.decode_tokens_per_s, p.prefill_tokens_per_s);
            add_brought(&p, out);
            mu_text_char(out, '\n');
        }
    }
    mu_plan_model_close(&m);
}
