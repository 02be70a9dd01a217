/*
 * How fast it should be: what the long look measured beside what others published for this model
 * on these GPUs, and what the performance model predicts; and the likeliest reason when it is less
 * than half, from what was found besides. The caller's thread.
 */
#include "health/look_int.h"

#include <stdio.h>

#define HOLDS 0.1 /* of a GPU's memory: less, and it holds no share of the model */
#define BELOW 0.8 /* of what was expected */
#define HALF  0.5

struct setup {
    char device[MU_PROBE_TEXT_MAX];
    unsigned n; /* GPUs that hold a share; 0: not known */
};

/* GPUs of one kind that hold something, where the engine runs here. */
static struct setup setup_find(const struct look *l)
{
    struct setup s = {.n = 0};
    for (unsigned i = 0; l->engine_here && i < l->after->n_gpus; i++) {
        const struct mu_probe_gpu *g = &l->after->gpus[i];
        struct mu_probe_value used = g->values[MU_PROBE_MEMORY_USED];
        struct mu_probe_value total = g->values[MU_PROBE_MEMORY_TOTAL];
        if (g->unusable || !mu_probe_has(used) || !mu_probe_has(total) ||
            used.value < HOLDS * total.value)
            continue;
        if (s.n && strcmp(s.device, g->name) != 0) return (struct setup){.n = 0};
        (void)snprintf(s.device, sizeof s.device, "%s", g->name);
        s.n++;
    }
    return s;
}

/* The best that one stream got. */
static double measured(const struct look *l)
{
    double best = json_number_value(json_object_get(l->measured, "tokens_per_s"));
    const json_t *trial;
    size_t i;
    json_array_foreach(json_object_get(l->engine, "trials"), i, trial)
    {
        if (json_integer_value(json_object_get(trial, "parallel")) == 1)
            best = MU_MAX(best, json_number_value(json_object_get(trial, "tokens_per_s")));
    }
    return best;
}

/* --- the reason ------------------------------------------------------------------------------- */

/* Codes of findings that slow an engine down, the likeliest reason first. */
static const char *const reasons[] = {
    "driver_hangs", "gpu_unusable",      "throttle",        "xid",      "ecc",       "nvlink_down",
    "idle",         "slower_than_peers", "pcie_generation", "inactive", "busy_host", "kv_full",
    "pcie_width",   "nvlink_errors",     "pcie_replays",    "mixed",    "unbalanced"};

static const json_t *finding_of(const struct look *l, const char *code)
{
    const json_t *f;
    size_t i;
    json_array_foreach(l->findings, i, f)
    {
        if (strcmp(json_string_value(json_object_get(f, "code")), code) == 0) return f;
    }
    return NULL;
}

static void reason_find(struct look *l)
{
    const struct mu_health_finding *first =
        l->options->logs ? mu_health_first_cause(l->options->logs) : NULL;
    if (first) {
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "likely_reason", first->cure,
                  "the likeliest reason stands in %s, line %llu: %s", first->file,
                  (unsigned long long)first->line, first->meaning);
        return;
    }
    const json_t *found = NULL;
    for (size_t i = 0; i < MU_ARRAY_LEN(reasons) && !found; i++)
        found = finding_of(l, reasons[i]);
    const json_t *running = json_object_get(json_object_get(l->engine, "reported"), "running");
    if (found) {
        const char *cure = json_string_value(json_object_get(found, "cure"));
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "likely_reason", cure ? cure : "",
                  "the likeliest reason: %s", json_string_value(json_object_get(found, "text")));
    } else if (json_number_value(running) >= 1) {
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "likely_reason", "measure again when nobody asks it",
                  "the likeliest reason: %.0f other requests run", json_number_value(running));
    } else {
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "no_reason_seen",
                  l->options->logs ? "muster check --deep" : "muster check --deep; --log FILE",
                  "nothing that was looked at explains it");
    }
}

/* --- against what is expected ----------------------------------------------------------------- */

/* True when it is below half. */
static bool compare(struct look *l, double speed, double low, double high, const char *what,
                    enum look_level half)
{
    char range[64];
    (void)snprintf(range, sizeof range, high > low ? "%.0f to %.0f" : "%.1f", low, high);
    if (speed < HALF * low)
        look_find(l, half, LOOK_LIVE, -1, "half_of_expected", "",
                  "%.1f tokens/s measured, less than half of what is %s: %s", speed, what, range);
    else if (speed < BELOW * low)
        look_find(l, LOOK_WARN, LOOK_LIVE, -1, "below_expected", "",
                  "%.1f tokens/s measured, below what is %s: %s", speed, what, range);
    else
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "as_expected", "", "%.1f tokens/s measured; %s: %s",
                  speed, what, range);
    return speed < HALF * low;
}

static mu_status published_judge(struct look *l, const struct setup *s, double speed, bool *half,
                                 struct mu_err *err)
{
    struct mu_probe_catalog *catalog = NULL;
    MU_TRY(mu_probe_catalog_load(&catalog, err));
    const struct mu_probe_published *p =
        mu_probe_find_published(catalog, l->model, mu_str(s->device), s->n);
    if (p) {
        (void)json_object_set_new(l->expected, "published_low", json_real(p->low));
        (void)json_object_set_new(l->expected, "published_high", json_real(p->high));
        (void)json_object_set_new(l->expected, "published_source", json_string(p->source));
    }
    if (p && p->high <= 0)
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "published_not_to_fit", "",
                  "others say that this model does not fit this GPU (%s)", p->source);
    else if (p)
        *half = compare(l, speed, p->low, p->high, "published", LOOK_BAD) || *half;
    mu_probe_catalog_destroy(catalog);
    return MU_OK;
}

mu_status look_expect(struct look *l, struct mu_err *err)
{
    struct setup s = setup_find(l);
    double speed = measured(l), predicted = 0;
    if (!l->options->trials || speed <= 0) return MU_OK;
    bool half = false;
    const json_t *kind = json_object_get(l->engine, "kind");
    if (l->model && s.n) {
        MU_TRY(published_judge(l, &s, speed, &half, err));
        if (l->options->predict && json_is_string(kind))
            predicted = l->options->predict(l->model, s.device, s.n, json_string_value(kind));
    }
    if (predicted > 0) {
        (void)json_object_set_new(l->expected, "predicted_tokens_per_s", json_real(predicted));
        half = compare(l, speed, predicted, 0, "predicted", LOOK_WARN) || half;
    }
    double before = json_number_value(json_object_get(l->options->baseline, "tokens_per_s"));
    if (half || speed < HALF * before) reason_find(l);
    return MU_OK;
}
