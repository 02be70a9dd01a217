/*
 * The figures behind muster top. The sampler's thread reads fast figures ten times a second; a
 * second thread looks at processes, links and the engine's metrics once a second, so that a slow
 * driver or engine never holds the screen up. The lock guards what that thread found last.
 */
#include "cli/top.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "net/net.h"

#include <stdio.h>

#define HZ          10
#define ROUND_MS    1000
#define STILL_S     20.0
#define METRICS_MAX ((size_t)8 << 20)

struct top_data {
    bool asks; /* an engine was given */
    struct mu_net_url url;
    const char *token;
    struct mu_probe *probe;
    struct mu_probe_sampler *sampler;
    struct mu_thread thread;
    _Atomic uint32_t stop;
    pthread_mutex_t lock; /* for what follows */
    struct mu_probe_node *node;
    uint64_t node_at_ns;
    double nvlink_sent[MU_PROBE_GPUS_MAX], nvlink_received[MU_PROBE_GPUS_MAX];
    struct mu_probe_cpu cpu;
    double cpu_busy;
    json_t *engine;
    bool engine_answered, engine_gone;
    char engine_why[200];
    double tokens_per_s, tokens_before;
    uint64_t tokens_at_ns;
};

/* Some engines count the tokens of a request when it ends: while requests run, a counter that
 * stands still for some seconds says nothing, and its next step is spread over them. */
static void rate_take_locked(struct top_data *d, const json_t *metrics)
{
    const json_t *counter = json_object_get(metrics, "generation_tokens");
    double tokens = json_number_value(counter);
    bool running = json_number_value(json_object_get(metrics, "running")) > 0;
    uint64_t now = mu_clock_ns();
    if (!counter || tokens < d->tokens_before) d->tokens_at_ns = 0;
    double since_s = (double)(now - d->tokens_at_ns) * 1e-9;
    bool known = d->tokens_at_ns != 0;
    if (known && running && tokens == d->tokens_before && since_s < STILL_S) return;
    d->tokens_per_s = known ? (tokens - d->tokens_before) / since_s : -1;
    d->tokens_before = tokens;
    d->tokens_at_ns = counter ? now : 0;
}

static void metrics_keep(struct top_data *d, json_t *metrics, bool gone, const char *why)
{
    (void)pthread_mutex_lock(&d->lock);
    json_decref(d->engine);
    d->engine = metrics;
    d->engine_answered = true;
    d->engine_gone = gone;
    (void)snprintf(d->engine_why, sizeof d->engine_why, "%s", why);
    rate_take_locked(d, metrics);
    (void)pthread_mutex_unlock(&d->lock);
}

static void metrics_read(struct top_data *d)
{
    if (!d->asks) return;
    char url[1200];
    (void)snprintf(url, sizeof url, "%s/metrics", d->url.base);
    struct mu_net_request r = {.url = url,
                               .token = d->token,
                               .connect_ms = 1000,
                               .total_ms = 2000,
                               .body_max = METRICS_MAX};
    struct mu_net_answer a;
    struct mu_err err = MU_ERR_INIT;
    mu_status status = mu_net_fetch(&r, &a, &err);
    json_t *metrics = mu_health_metrics_json((struct mu_str){mu_text_get(&a.body), a.body.len});
    if (status == MU_OK && a.http_status == 200 && json_object_size(metrics) > 0) {
        metrics_keep(d, metrics, false, "");
    } else {
        json_decref(metrics);
        if (status == MU_OK)
            (void)snprintf(err.what, sizeof err.what, "no metrics of a known kind (HTTP %u)",
                           a.http_status);
        metrics_keep(d, NULL, status != MU_OK, err.what);
    }
    mu_net_answer_fini(&a);
}

/* A counter's growth a second; negative when it is not known, or began anew. */
static double growth(const struct mu_probe_gpu *before, const struct mu_probe_gpu *now,
                     enum mu_probe_metric metric, double seconds)
{
    struct mu_probe_value a = before->values[metric], b = now->values[metric];
    bool known = mu_probe_has(a) && mu_probe_has(b) && seconds > 0;
    return known ? (b.value - a.value) / seconds : -1;
}

static void node_keep_locked(struct top_data *d, const struct mu_probe_node *fresh)
{
    uint64_t now = mu_clock_ns();
    double seconds = (double)(now - d->node_at_ns) * 1e-9;
    for (unsigned i = 0; i < fresh->n_gpus; i++) {
        const struct mu_probe_gpu *a = &d->node->gpus[i], *b = &fresh->gpus[i];
        d->nvlink_sent[i] = growth(a, b, MU_PROBE_NVLINK_SENT, seconds);
        d->nvlink_received[i] = growth(a, b, MU_PROBE_NVLINK_RECEIVED, seconds);
    }
    memcpy(d->node, fresh, sizeof *fresh);
    d->node_at_ns = now;
}

static void machine_read(struct top_data *d, struct mu_probe_node *fresh)
{
    struct mu_probe_cpu cpu;
    mu_probe_cpu(NULL, &cpu);
    bool looked = mu_probe_look(d->probe, fresh, NULL) == MU_OK;
    (void)pthread_mutex_lock(&d->lock);
    double all = cpu.all_s.value - d->cpu.all_s.value;
    bool known = mu_probe_has(cpu.all_s) && mu_probe_has(d->cpu.all_s) && all > 0;
    d->cpu_busy = known ? (cpu.busy_s.value - d->cpu.busy_s.value) / all : -1;
    d->cpu = cpu;
    if (looked) node_keep_locked(d, fresh);
    (void)pthread_mutex_unlock(&d->lock);
}

static void data_main(void *arg)
{
    struct top_data *d = arg;
    struct mu_probe_node *fresh = mu_calloc(1, sizeof *fresh);
    while (fresh && !atomic_load_explicit(&d->stop, memory_order_acquire)) {
        metrics_read(d);
        (void)mu_wait_word_for(&d->stop, 0, ROUND_MS);
        machine_read(d, fresh);
    }
    mu_free(fresh);
}

mu_status top_data_start(const char *url, const char *token, struct top_data **out,
                         struct mu_err *err)
{
    struct top_data *d = mu_calloc(1, sizeof *d);
    if (!d) return mu_fail_memory(err, sizeof *d);
    (void)pthread_mutex_init(&d->lock, NULL);
    d->asks = url != NULL;
    d->token = token;
    d->cpu_busy = d->tokens_per_s = -1;
    (void)snprintf(d->engine_why, sizeof d->engine_why, "%s",
                   url ? "asked, and no answer yet" : "none was asked: give --url");
    d->node = mu_calloc(1, sizeof *d->node);
    mu_status status = d->node ? MU_OK : mu_fail_memory(err, sizeof *d->node);
    if (status == MU_OK && url) status = mu_net_url_parse(url, &d->url, err);
    struct mu_probe_options options = {.call_ms = 1000};
    mu_probe_cpu(NULL, &d->cpu);
    if (status == MU_OK) status = mu_probe_open(&options, &d->probe, err);
    if (status == MU_OK) status = mu_probe_look(d->probe, d->node, err);
    d->node_at_ns = mu_clock_ns();
    for (unsigned i = 0; i < MU_PROBE_GPUS_MAX; i++)
        d->nvlink_sent[i] = d->nvlink_received[i] = -1;
    if (status == MU_OK && d->node->n_gpus)
        status = mu_probe_sampler_start(d->probe, HZ, TOP_HISTORY, &d->sampler, err);
    if (status == MU_OK) status = mu_thread_start(&d->thread, data_main, d, "top", -1, err);
    if (status == MU_OK)
        *out = d;
    else
        top_data_stop(d);
    return status;
}

void top_data_stop(struct top_data *d)
{
    if (!d) return;
    atomic_store_explicit(&d->stop, 1, memory_order_release);
    mu_wake_word(&d->stop);
    mu_thread_join(&d->thread);
    mu_probe_sampler_stop(d->sampler);
    mu_probe_close(d->probe);
    json_decref(d->engine);
    mu_free(d->node);
    (void)pthread_mutex_destroy(&d->lock);
    mu_free(d);
}

mu_status top_view_get(struct top_data *d, struct top_view *v, struct mu_err *err)
{
    if (!v->node) v->node = mu_calloc(1, sizeof *v->node);
    if (!v->node) return mu_fail_memory(err, sizeof *v->node);
    json_decref(v->engine);
    (void)pthread_mutex_lock(&d->lock);
    memcpy(v->node, d->node, sizeof *v->node);
    memcpy(v->nvlink_sent, d->nvlink_sent, sizeof v->nvlink_sent);
    memcpy(v->nvlink_received, d->nvlink_received, sizeof v->nvlink_received);
    v->cpu = d->cpu;
    v->cpu_busy = d->cpu_busy;
    v->engine_awaited = d->asks && !d->engine_answered;
    v->engine_gone = d->engine_gone;
    v->engine = json_deep_copy(d->engine); /* counts of references are not for two threads */
    memcpy(v->engine_why, d->engine_why, sizeof v->engine_why);
    v->tokens_per_s = d->tokens_per_s;
    (void)pthread_mutex_unlock(&d->lock);
    unsigned n = d->sampler ? mu_probe_sampler_gpus(d->sampler) : 0;
    for (unsigned i = 0; i < n; i++)
        v->gpus[i].n = mu_probe_sampler_read(d->sampler, i, v->gpus[i].samples, TOP_HISTORY);
    if (d->sampler) mu_probe_sampler_cost_get(d->sampler, &v->cost);
    return MU_OK;
}

void top_view_fini(struct top_view *v)
{
    mu_free(v->node);
    json_decref(v->engine);
}

static json_t *known_json(double v)
{
    return v >= 0 ? json_real(v) : json_null();
}

json_t *top_view_json(const struct top_view *v)
{
    json_t *devices = json_array();
    json_t *cpu = mu_probe_cpu_json(&v->cpu);
    (void)json_object_set_new(cpu, "busy_ratio",
                              v->cpu_busy >= 0 ? json_real(v->cpu_busy) : json_null());
    (void)json_array_append_new(devices, cpu);
    for (unsigned i = 0; i < v->node->n_gpus; i++) {
        json_t *gpu = mu_probe_gpu_json(&v->node->gpus[i]);
        double mean[MU_PROBE_FAST] = {0};
        unsigned n[MU_PROBE_FAST] = {0};
        for (unsigned s = 0; s < v->gpus[i].n; s++)
            for (unsigned m = 0; m < MU_PROBE_FAST; m++)
                if (mu_probe_has(v->gpus[i].samples[s].values[m]))
                    mean[m] += (v->gpus[i].samples[s].values[m].value - mean[m]) / ++n[m];
        json_t *sampled = json_object();
        static const enum mu_probe_metric shown[] = {MU_PROBE_UTILIZATION, MU_PROBE_POWER,
                                                     MU_PROBE_TEMPERATURE, MU_PROBE_SM_CLOCK};
        for (size_t k = 0; k < MU_ARRAY_LEN(shown); k++)
            if (n[shown[k]])
                (void)json_object_set_new(sampled, mu_probe_metric_key(shown[k]),
                                          json_real(mean[shown[k]]));
        (void)json_object_set_new(gpu, "sampled_mean", sampled);
        (void)json_object_set_new(gpu, "nvlink_sent_bytes_per_s", known_json(v->nvlink_sent[i]));
        (void)json_object_set_new(gpu, "nvlink_received_bytes_per_s",
                                  known_json(v->nvlink_received[i]));
        (void)json_array_append_new(devices, gpu);
    }
    return json_pack("{s:o, s:o, s:o, s:O?, s:o, s:o, s:{s:I, s:I, s:f, s:f}}", "devices", devices,
                     "driver", mu_probe_driver_json(v->node), "xids", mu_probe_xids_json(v->node),
                     "engine_reported", v->engine, "engine_why",
                     v->engine ? json_null() : json_string(v->engine_why), "engine_tokens_per_s",
                     v->tokens_per_s >= 0 ? json_real(v->tokens_per_s) : json_null(), "sampling",
                     "ticks", (json_int_t)v->cost.n_ticks, "missed", (json_int_t)v->cost.n_missed,
                     "cpu_share", v->cost.wall_s > 0 ? v->cost.cpu_s / v->cost.wall_s : 0,
                     "mean_late_ms", v->cost.mean_late_ms);
}
