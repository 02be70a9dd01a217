/*
 * A look: the devices, the kernel's log and the engine, asked within half a minute and joined into
 * one document. What is missing is named and costs only itself. The sampler's thread reads the
 * devices while the engine works; all else is the caller's thread.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "health/health_int.h"
#include "health/look_int.h"

#include <stdarg.h>
#include <stdio.h>

#define SAMPLE_HZ    10
#define SAMPLES_KEPT 512
#define QUIET_S      1.0  /* how long the devices are watched when no engine is asked */
#define NOISE_LEAST  0.10 /* what two looks at the same engine may differ by */

static const char *const level_names[] = {"note", "warn", "bad", "unreachable"};
static const char *const section_names[] = {
    "", "hardware", "parallel", "memory", "communication", "live", "review"};
/* Of docs/findings: each code is a heading there. */
static const char *const section_pages[] = {"",        "devices", "devices", "devices",
                                            "devices", "engine",  "engine"};

void look_find(struct look *l, enum look_level level, enum look_section section, int device,
               const char *code, const char *cure, const char *text, ...)
{
    char said[512], line[512], whole[560];
    va_list args;
    va_start(args, text);
    (void)vsnprintf(said, sizeof said, text, args);
    va_end(args);
    (void)mu_utf8_copy_harmless(line, sizeof line, mu_str(said),
                                '\0'); /* engines and drivers are quoted */
    if (device >= 0)
        (void)snprintf(whole, sizeof whole, "GPU %d %s", device, line);
    else
        (void)snprintf(whole, sizeof whole, "%s", line);
    const char *page = section == LOOK_REVIEW && device >= 0 ? "devices" : section_pages[section];
    (void)json_array_append_new(
        l->findings, json_pack("{s:s, s:s, s:s, s:o, s:s, s:o, s:o}", "level", level_names[level],
                               "code", code, "section", section_names[section], "device",
                               device >= 0 ? json_sprintf("cuda:%d", device) : json_null(), "text",
                               whole, "cure", cure[0] ? json_string(cure) : json_null(), "page",
                               json_sprintf("docs/findings/%s.md#%s", page, code)));
    if (level > l->worst || (level == l->worst && !l->summary[0])) {
        l->worst = level;
        l->n_worst = 0;
        (void)snprintf(l->summary, sizeof l->summary, "%.390s", whole);
    }
    l->n_worst += level == l->worst;
}

void look_source(struct look *l, const char *source, const char *why)
{
    (void)json_array_append_new(l->sources,
                                json_pack("{s:s, s:b, s:o}", "source", source, "used", !why, "why",
                                          why ? json_string(why) : json_null()));
}

void look_sample(const struct look *l, int device, const char *name, uint64_t at_ns, double value)
{
    char full[64];
    if (!l->options->sample) return;
    if (device >= 0)
        (void)snprintf(full, sizeof full, "cuda:%d.%s", device, name);
    else
        (void)snprintf(full, sizeof full, "%s", name);
    l->options->sample(l->options->context, full, (double)(at_ns - l->start_ns) * 1e-9, value);
}

uint32_t look_time(const struct look *l, uint32_t wanted)
{
    int most = l->options->trials ? MU_HEALTH_TRIALS_S : MU_HEALTH_LOOK_S;
    double left = most - mu_clock_seconds_since(l->start_ns);
    uint32_t left_ms = left > 0.001 ? (uint32_t)(left * 1e3) : 1;
    return MU_MIN(wanted, left_ms);
}

/* --- against an earlier look ------------------------------------------------------------------ */

static void baseline_judge(struct look *l)
{
    const json_t *base = l->options->baseline;
    if (!base) return;
    const json_t *before = json_object_get(base, "tokens_per_s");
    const json_t *now = json_object_get(l->measured, "tokens_per_s");
    double noise = json_number_value(json_object_get(base, "noise"));
    noise = MU_MAX(noise, json_number_value(json_object_get(l->measured, "noise")));
    noise = MU_MAX(noise, NOISE_LEAST);
    (void)json_object_set_new(l->measured, "noise_allowed", json_real(noise));
    double a = json_number_value(before), b = json_number_value(now);
    if (a > 0 && b > 0 && b < a * (1 - noise))
        look_find(l, LOOK_BAD, LOOK_LIVE, -1, "slower_than_baseline",
                  "see throttling and other load above; or save a new baseline",
                  "%.1f tokens/s measured, %.1f in the baseline; noise explains %.0f %%", b, a,
                  noise * 100);
    else if (a > 0 && b > a * (1 + noise))
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "faster_than_baseline",
                  "if that is to stay, save it as the new baseline",
                  "%.1f tokens/s measured, %.1f in the baseline; noise explains %.0f %%", b, a,
                  noise * 100);
    else if (a > 0 && b > 0)
        look_find(l, LOOK_NOTE, LOOK_LIVE, -1, "as_baseline", "",
                  "%.1f tokens/s measured, %.1f in the baseline: within %.0f %%", b, a,
                  noise * 100);
    json_int_t gpus = json_integer_value(json_object_get(base, "gpus"));
    if (l->after->n_gpus < gpus)
        look_find(l, LOOK_BAD, LOOK_HARDWARE, -1, "gpus_missing", "nvidia-smi; dmesg",
                  "%u GPUs, %d in the baseline", l->after->n_gpus, (int)gpus);
    if (a > 0 ? b <= 0 : gpus == 0)
        look_find(l, LOOK_WARN, LOOK_LIVE, -1, "nothing_compared",
                  a > 0 ? "" : "save a new one: --baseline save",
                  a > 0 ? "the speed was not compared with the baseline: none was measured now"
                        : "nothing was compared: the baseline holds neither a speed nor devices");
}

/* --- verdict --------------------------------------------------------------------------------- */

struct verdict {
    const char *name;
    int exit_status;
};

static struct verdict verdict_of(const struct look *l)
{
    static const struct verdict verdicts[] = {[LOOK_NOTE] = {"good", 0},
                                              [LOOK_WARN] = {"warn", 0},
                                              [LOOK_BAD] = {"bad", 1},
                                              [LOOK_GONE] = {"unreachable", 5}};
    bool nothing = l->worst == LOOK_NOTE && !l->made_tokens && l->after->n_gpus == 0 &&
                   json_array_size(l->alone) == 0;
    return nothing ? (struct verdict){"unknown", 3} : verdicts[l->worst];
}

static void summary_make(const struct look *l, char *out, size_t size)
{
    if (l->worst > LOOK_NOTE) {
        int n = snprintf(out, size, "%s", l->summary);
        if (l->n_worst > 1 && n > 0 && (size_t)n < size)
            (void)snprintf(out + n, size - (size_t)n, " (and %u more)", l->n_worst - 1);
        return;
    }
    char tokens[64] = "tokens come, their speed is not measurable";
    const json_t *rate = json_object_get(l->measured, "tokens_per_s");
    if (rate)
        (void)snprintf(tokens, sizeof tokens, "%.1f tokens/s measured", json_number_value(rate));
    if (!l->made_tokens) tokens[0] = '\0';
    if (!l->made_tokens && l->after->n_gpus == 0)
        (void)snprintf(out, size, "%s",
                       json_array_size(l->alone)
                           ? "the CPUs are as fast as each other; no GPU, and no engine was asked"
                           : "nothing could be checked: no GPU, and no engine was asked");
    else if (l->after->n_gpus)
        (void)snprintf(out, size, "%u GPUs%s%s, nothing wrong", l->after->n_gpus,
                       l->made_tokens ? ", " : "", tokens);
    else
        (void)snprintf(out, size, "%s, nothing wrong; no GPU was seen", tokens);
}

static json_t *document_make(struct look *l)
{
    char summary[480];
    summary_make(l, summary, sizeof summary);
    struct verdict v = verdict_of(l);
    const json_t *rate = json_object_get(l->measured, "tokens_per_s");
    json_t *kept = json_pack("{s:i, s:O*, s:O*, s:O*}", "gpus", (int)l->after->n_gpus,
                             "tokens_per_s", rate, "noise", json_object_get(l->measured, "noise"),
                             "first_token_s", json_object_get(l->measured, "first_token_s"));
    json_t *sampling = json_null();
    if (l->sampler) {
        struct mu_probe_sampler_cost c;
        mu_probe_sampler_cost_get(l->sampler, &c);
        sampling = json_pack("{s:I, s:I, s:f, s:f, s:f, s:f}", "ticks", (json_int_t)c.n_ticks,
                             "missed", (json_int_t)c.n_missed, "cpu_share",
                             c.wall_s > 0 ? c.cpu_s / c.wall_s : 0, "mean_tick_ms", c.mean_tick_ms,
                             "mean_late_ms", c.mean_late_ms, "max_late_ms", c.max_late_ms);
    }
    (void)json_object_set(l->engine, "measured", l->measured);
    (void)json_object_set(l->engine, "expected", l->expected);
    return json_pack("{s:s, s:s, s:i, s:f, s:O, s:O, s:O, s:O, s:o, s:o, s:o, s:o, s:O}", "verdict",
                     v.name, "summary", summary, "exit_status", v.exit_status, "seconds",
                     mu_clock_seconds_since(l->start_ns), "findings", l->findings, "devices",
                     l->devices, "engine", l->engine, "sources", l->sources, "driver",
                     mu_probe_driver_json(l->after), "topology", mu_probe_topology_json(l->after),
                     "sampling", sampling, "baseline", kept, "alone", l->alone);
}

/* --- the course of a look -------------------------------------------------------------------- */

static mu_status run(struct look *l, struct mu_err *err)
{
    struct mu_probe *probe = l->options->probe;
    if (probe) {
        MU_TRY(mu_probe_look(probe, l->before, err));
        if (l->before->n_gpus)
            MU_TRY(mu_probe_sampler_start(probe, SAMPLE_HZ, SAMPLES_KEPT, &l->sampler, err));
    }
    MU_TRY(look_engine(l, err));
    if (l->sampler && !l->options->url) mu_clock_pause(QUIET_S, l->options->stop);
    if (probe) MU_TRY(mu_probe_look(probe, l->after, err));
    if (l->options->stop && l->options->stop())
        return mu_fail(err, MU_E_INTERRUPTED, "interrupted");
    look_devices(l);
    look_alone(l);
    look_review(l);
    baseline_judge(l);
    return look_expect(l, err);
}

static bool parts_make(struct look *l)
{
    l->before = mu_calloc(1, sizeof *l->before);
    l->after = mu_calloc(1, sizeof *l->after);
    l->findings = json_array();
    l->sources = json_array();
    l->devices = json_array();
    l->engine = json_object();
    l->measured = json_object();
    l->alone = json_array();
    l->expected = json_object();
    return l->alone && l->expected && l->before && l->after && l->findings && l->sources &&
           l->devices && l->engine && l->measured;
}

static void parts_drop(struct look *l)
{
    mu_probe_sampler_stop(l->sampler);
    mu_free(l->before);
    mu_free(l->after);
    json_decref(l->findings);
    json_decref(l->sources);
    json_decref(l->devices);
    json_decref(l->engine);
    json_decref(l->measured);
    json_decref(l->alone);
    json_decref(l->expected);
    json_decref(l->models);
}

mu_status mu_health_look(struct mu_health_catalog *catalog,
                         const struct mu_health_look_options *options, json_t **out,
                         struct mu_err *err)
{
    struct look l = {.catalog = catalog, .options = options};
    l.start_ns = mu_clock_ns() - (uint64_t)(options->spent_s * 1e9);
    if (options->url) MU_TRY(mu_net_url_parse(options->url, &l.url, err));
    mu_status status = parts_make(&l) ? run(&l, err) : mu_fail_memory(err, sizeof *l.before);
    if (status == MU_OK) {
        *out = document_make(&l);
        if (!*out) status = mu_fail_memory(err, 0);
    }
    parts_drop(&l);
    return status;
}
