/* muster check: in half a minute, are the devices and the engine well? */
#include "base/alloc.h"
#include "base/clock.h"
#include "cli/keep_look.h"
#include "measure/measure.h"

#include <time.h>
#include <unistd.h>

#define DEEP_S 14.0 /* of the half minute of a check, for what --deep adds */

struct check_options {
    const char *url, *token, *model, *baseline, *kernel_log;
    struct mu_keep_options keep;
    double expect, watch;
    bool json, deep;
};

static const struct mu_option options[] = {
    {"url", 'u', MU_OPTION_TEXT, offsetof(struct check_options, url), "URL",
     "the engine: vLLM, SGLang, llama-server or anything with OpenAI's API", 0, 0, NULL, NULL},
    {"token", 0, MU_OPTION_TEXT, offsetof(struct check_options, token), "KEY",
     "the engine's key (better in MUSTER_TOKEN)", 0, 0, NULL, NULL},
    {"model", 0, MU_OPTION_TEXT, offsetof(struct check_options, model), "NAME",
     "the model to ask; the first that the engine lists when not given", 0, 0, NULL, NULL},
    {"expect", 0, MU_OPTION_F64, offsetof(struct check_options, expect), "TOKENS_PER_S",
     "less than this is bad", 0, 1e9, NULL, NULL},
    {"baseline", 'b', MU_OPTION_TEXT, offsetof(struct check_options, baseline), "RUN|save",
     "compare with this run of muster runs, or save this check for later ones", 0, 0, NULL, NULL},
    {"kernel-log", 0, MU_OPTION_TEXT, offsetof(struct check_options, kernel_log), "FILE",
     "read the kernel's log from there instead of /dev/kmsg", 0, 0, NULL, NULL},
    {"watch", 'w', MU_OPTION_F64, offsetof(struct check_options, watch), "SECONDS",
     "check again every so often, until interrupted", 1, 86400, NULL, NULL},
    {"deep", 'd', MU_OPTION_FLAG, offsetof(struct check_options, deep), NULL,
     "time each device alone, and each pair of devices", 0, 0, NULL, NULL},
    {"json", 'j', MU_OPTION_FLAG, offsetof(struct check_options, json), NULL,
     "print one JSON document (with --watch: one a line)", 0, 0, NULL, NULL},
    MU_KEEP_OPTION_ROWS(struct check_options),
    {0}};

/* --- baseline -------------------------------------------------------------------------------- */

/* A baseline of something bad, or of nothing, would call later trouble good: why not to keep it. */
static const char *baseline_refusal(const json_t *look, bool asked)
{
    const json_t *kept = json_object_get(look, "baseline");
    if (json_integer_value(json_object_get(look, "exit_status")) != 0)
        return "the check is not good";
    if (asked && !json_object_get(kept, "tokens_per_s")) return "no speed was measured";
    return NULL;
}

static mu_status baseline_save(const struct mu_keep *k, const json_t *look,
                               const struct check_options *o, struct mu_err *err)
{
    const char *why = baseline_refusal(look, o->url);
    if (!why && !k->run.id[0]) why = "this check was not kept";
    if (why) return mu_fail(err, MU_E_ANSWER, "no baseline was saved: %s", why);
    MU_TRY(mu_keep_baseline_set(k, o->url, err));
    mu_cli_say("muster: baseline saved: run %s\n", k->run.id);
    return MU_OK;
}

/* --- one check ------------------------------------------------------------------------------- */

static mu_status look_print(json_t *look, const struct check_options *o, struct mu_err *err)
{
    if (o->json && o->watch <= 0) return mu_cli_out_json(json_incref(look), err);
    struct mu_text out;
    mu_text_init(&out, (size_t)32 << 20);
    mu_status status = MU_OK;
    if (o->json) {
        char *line = json_dumps(look, JSON_COMPACT);
        if (!line) status = mu_fail_memory(err, 1024);
        mu_text_printf(&out, "%s\n", line ? line : "");
        mu_free(line);
    } else {
        char when[32] = "";
        time_t now = time(NULL);
        struct tm parts;
        if (o->watch > 0 && localtime_r(&now, &parts))
            (void)strftime(when, sizeof when, "%H:%M:%S  ", &parts);
        mu_text_str(&out, when);
        status = mu_health_look_text(look, &out, err);
    }
    if (status == MU_OK) status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    return status;
}

static mu_status exit_of(const json_t *look, struct mu_err *err)
{
    switch (json_integer_value(json_object_get(look, "exit_status"))) {
    case 0:
        return MU_OK;
    case 1:
        return MU_E_ANSWER;
    case 5:
        return MU_E_PEER;
    default:
        return mu_fail(err, MU_E_INPUT, "nothing could be checked: no GPU, and no --url");
    }
}

static bool is_to_save(const struct check_options *o)
{
    return o->baseline && strcmp(o->baseline, "save") == 0;
}

static void deep_show(void *arg, const char *what)
{
    (void)arg;
    mu_cli_say("\r\033[Ktimes %s", what);
}

/* GPUs first, CPUs in what is left of the time. */
static mu_status deep_time(json_t *rows, struct mu_err *err)
{
    uint64_t start = mu_clock_ns();
    bool shown = isatty(STDERR_FILENO);
    struct mu_measure_alone alone = {
        .seconds = DEEP_S,
        .stop = mu_cli_interrupted,
        .progress = shown ? deep_show : NULL,
        .slow_share = MU_HEALTH_SLOW_SHARE,
    };
    mu_status status = mu_measure_alone_gpus(&alone, rows, err);
    alone.seconds -= mu_clock_seconds_since(start);
    if (status == MU_OK) status = mu_measure_alone_cpus(&alone, rows, err);
    if (shown) mu_cli_say("\r\033[K");
    return status;
}

/* `*save` is false once a baseline was saved: what comes later is compared with it. */
static mu_status look_and_keep(struct mu_health_catalog *catalog, struct mu_probe *probe,
                               const struct check_options *o, bool *save, struct mu_keep *k,
                               struct mu_err *err)
{
    json_t *baseline = NULL, *look = NULL, *alone = NULL;
    uint64_t start = mu_clock_ns();
    const char *word = is_to_save(o) ? NULL : o->baseline;
    mu_status status = *save ? MU_OK : mu_keep_baseline_load(k, o->url, word, &baseline, err);
    if (status == MU_OK && o->deep) {
        alone = json_array();
        status = alone ? deep_time(alone, err) : mu_fail_memory(err, 0);
    }
    struct mu_health_look_options options_ = {.probe = probe,
                                              .url = o->url,
                                              .token = o->token,
                                              .model = o->model,
                                              .expected_tokens_per_s = o->expect,
                                              .baseline = baseline,
                                              .alone = alone,
                                              .spent_s = mu_clock_seconds_since(start),
                                              .stop = mu_cli_interrupted,
                                              .sample = mu_keep_look_sample,
                                              .context = k};
    if (status == MU_OK) status = mu_health_look(catalog, &options_, &look, err);
    json_decref(baseline);
    json_decref(alone);
    if (status != MU_OK) return status;
    struct mu_err verdict = MU_ERR_INIT;
    status = exit_of(look, &verdict);
    mu_keep_look(k, look);
    if (verdict.code == MU_OK) mu_keep_end(k, status); /* a check of nothing is none */
    mu_status printed = look_print(look, o, err);
    mu_status saved = printed == MU_OK && *save ? baseline_save(k, look, o, err) : MU_OK;
    *save = *save && saved != MU_OK;
    if (err->code == MU_OK) *err = verdict;
    json_decref(look);
    return printed != MU_OK ? printed : status != MU_OK ? status : saved;
}

static mu_status check_once(struct mu_health_catalog *catalog, struct mu_probe *probe,
                            const struct mu_invocation *in, bool *save, struct mu_err *err)
{
    const struct check_options *o = in->options;
    struct mu_keep k;
    mu_keep_begin(&k, in, &o->keep, o->model);
    mu_status status = look_and_keep(catalog, probe, o, save, &k, err);
    mu_keep_fini(&k);
    return status;
}

static mu_status check_all(struct mu_health_catalog *catalog, struct mu_probe *probe,
                           const struct mu_invocation *in, struct mu_err *err)
{
    const struct check_options *o = in->options;
    char line[768];
    for (bool save = is_to_save(o);;) {
        uint64_t start = mu_clock_ns();
        *err = MU_ERR_INIT;
        mu_status status = check_once(catalog, probe, in, &save, err);
        bool verdict = status == MU_OK || status == MU_E_ANSWER || status == MU_E_PEER;
        if (o->watch <= 0 || !verdict) return status;
        if (err->code != MU_OK) mu_cli_say("muster: %s\n", mu_err_line(err, line, sizeof line));
        mu_clock_pause(o->watch - mu_clock_seconds_since(start), mu_cli_interrupted);
        if (mu_cli_interrupted()) return status;
    }
}

static mu_status check_run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct check_options *o = in->options;
    struct mu_health_catalog *catalog = NULL;
    struct mu_probe *probe = NULL;
    if (is_to_save(o) && o->keep.no_store)
        return mu_fail(err, MU_E_USAGE, "--baseline save keeps a run, --no-store keeps none");
    MU_TRY(mu_health_catalog_open(NULL, &catalog, err));
    struct mu_probe_options probing = {.kernel_log = o->kernel_log, .call_ms = 1000};
    mu_status status = mu_probe_open(&probing, &probe, err);
    mu_cli_catch_interrupts(true);
    if (status == MU_OK) status = check_all(catalog, probe, in, err);
    mu_probe_close(probe);
    mu_health_catalog_close(catalog);
    return status;
}

const struct mu_command mu_command_check = {
    .spec = {.command = "check",
             .operands = "",
             .summary = "are devices and engine well? A verdict in half a minute",
             .details = "Exit status: 0 good, or good with warnings; 1 something is bad; 3 nothing "
                        "could be checked, or a file given cannot be read; 5 the engine cannot be "
                        "reached. An engine is well when it makes tokens: its health route is not "
                        "believed.",
             .options = options},
    .options_size = sizeof(struct check_options),
    .run = check_run,
};
