/* muster validate-perf: what is wrong with an engine and why; from its logs, or from all that can
 * be asked now, in six sections. */
#include "cli/keep_look.h"
#include "cli/plan_question.h"
#include "cli/runs_html.h"

#define REPORT_BYTES_MAX ((size_t)32 << 20)

struct options {
    struct mu_option_list logs;
    struct mu_keep_options keep;
    const char *report, *explain, *share, *url, *token, *model, *kernel_log;
    bool json, live;
};

static const struct mu_option option_table[] = {
    {.name = "log",
     .kind = MU_OPTION_LIST,
     .offset = offsetof(struct options, logs),
     .argument = "FILE|-",
     .help = "an engine's, NCCL's or the kernel's log, also docker:NAME or journal:UNIT; may be "
             "given several times"},
    {.name = "explain",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct options, explain),
     .argument = "LINE",
     .help = "say what one line of a log means"},
    {.name = "url",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct options, url),
     .argument = "URL",
     .help = "ask this engine too, and the devices here"},
    {.name = "live",
     .kind = MU_OPTION_FLAG,
     .offset = offsetof(struct options, live),
     .help = "look at the devices and the kernel's log too, beside --log"},
    {.name = "token",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct options, token),
     .argument = "KEY",
     .help = "the engine's key (better in MUSTER_TOKEN)"},
    {.name = "model",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct options, model),
     .argument = "NAME",
     .help = "the model to ask; the first that the engine lists when not given"},
    {.name = "kernel-log",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct options, kernel_log),
     .argument = "FILE",
     .help = "read the kernel's log from there instead of /dev/kmsg"},
    {.name = "share",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct options, share),
     .argument = "FOLDER",
     .help = "read logs.tsv from there instead of the copy in the program"},
    {.name = "json",
     .kind = MU_OPTION_FLAG,
     .offset = offsetof(struct options, json),
     .help = "one JSON document on standard output"},
    {.name = "report",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct options, report),
     .argument = "FILE.html",
     .help = "write a page with plots there too"},
    MU_KEEP_OPTION_ROWS(struct options),
    {.name = NULL},
};

static mu_status explain(struct mu_health_catalog *catalog, const struct options *o,
                         struct mu_err *err)
{
    json_t *document = NULL;
    bool known = false;
    MU_TRY(mu_health_explain(catalog, mu_str(o->explain), &document, &known, err));
    mu_status status;
    if (o->json) {
        status = mu_cli_out_json(document, err);
    } else {
        struct mu_text out;
        mu_text_init(&out, REPORT_BYTES_MAX);
        mu_health_explain_text(document, &out);
        json_decref(document);
        status = mu_cli_out_text(&out, err);
        mu_text_fini(&out);
    }
    return status == MU_OK && !known ? MU_E_ANSWER : status;
}

static mu_status report(const struct mu_health_diagnosis *diagnosis, bool json, struct mu_err *err)
{
    if (json) {
        json_t *document = NULL;
        MU_TRY(mu_health_report_json(diagnosis, &document, err));
        return mu_cli_out_json(document, err);
    }
    struct mu_text out;
    mu_text_init(&out, REPORT_BYTES_MAX);
    mu_health_report_text(diagnosis, &out);
    mu_status status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    return status;
}

static mu_status verdict_status(enum mu_health_verdict verdict, struct mu_err *err)
{
    switch (verdict) {
    case MU_HEALTH_HEALTHY:
        return MU_OK;
    case MU_HEALTH_SLOW:
    case MU_HEALTH_FAILED:
        return MU_E_ANSWER;
    case MU_HEALTH_UNKNOWN:
        break;
    }
    return mu_fail(err, MU_E_INPUT, "no line is of a known kind, so nothing was validated");
}

/* Reads all logs; `*out` must be destroyed, also after a failure. */
static mu_status logs_read(struct mu_health_catalog *catalog, const struct options *o,
                           struct mu_health_diagnosis **out, enum mu_health_verdict *verdict,
                           struct mu_err *err)
{
    MU_TRY(mu_health_diagnosis_create(catalog, out, err));
    for (unsigned i = 0; i < o->logs.n; i++)
        MU_TRY(mu_health_log_read(*out, o->logs.items[i], mu_cli_interrupted, err));
    return mu_health_conclude(*out, verdict, err);
}

static mu_status page(struct mu_keep *k, const struct options *o, mu_status ends,
                      struct mu_err *err)
{
    k->run.exit_status = mu_status_exit(ends); /* also of what was not kept */
    return o->report ? mu_runs_report(&k->run, o->report, err) : MU_OK;
}

static mu_status diagnose(struct mu_health_catalog *catalog, const struct options *o,
                          struct mu_keep *k, struct mu_err *err)
{
    struct mu_err bad = MU_ERR_INIT;
    struct mu_health_diagnosis *diagnosis = NULL;
    enum mu_health_verdict verdict = MU_HEALTH_UNKNOWN;
    mu_status status = logs_read(catalog, o, &diagnosis, &verdict, err);
    if (status == MU_OK) {
        mu_keep_diagnosis(k, diagnosis, verdict);
        mu_status ends = verdict_status(verdict, &bad);
        if (bad.code == MU_OK) mu_keep_end(k, ends);
        status = page(k, o, ends, err);
        if (status == MU_OK) status = report(diagnosis, o->json, err);
    }
    mu_health_diagnosis_destroy(diagnosis);
    return status == MU_OK ? verdict_status(verdict, err) : status;
}

/* --- with what can be asked now --------------------------------------------------------------- */

static mu_status look_report(json_t *look, const struct mu_health_diagnosis *diagnosis, bool json,
                             struct mu_err *err)
{
    if (json) {
        json_t *log = NULL;
        if (diagnosis) MU_TRY(mu_health_report_json(diagnosis, &log, err));
        (void)json_object_set_new(look, "log", log ? log : json_null());
        return mu_cli_out_json(json_incref(look), err);
    }
    struct mu_text out;
    mu_text_init(&out, REPORT_BYTES_MAX);
    mu_status status = mu_health_look_sections(look, diagnosis, &out, err);
    if (status == MU_OK) status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    return status;
}

static mu_status look_status(const json_t *look, enum mu_health_verdict verdict, struct mu_err *err)
{
    json_int_t live = json_integer_value(json_object_get(look, "exit_status"));
    if (live == 5) return MU_E_PEER;
    bool bad = verdict == MU_HEALTH_FAILED || verdict == MU_HEALTH_SLOW;
    if (live == 1 || bad) return MU_E_ANSWER;
    if (live == 0 || verdict == MU_HEALTH_HEALTHY) return MU_OK;
    (void)mu_fail(err, MU_E_INPUT, "nothing was validated: no GPU, and no log of a known kind");
    mu_err_cure(err, "give --url URL, --log FILE or --explain LINE");
    return MU_E_INPUT;
}

static mu_status live(struct mu_health_catalog *catalog, const struct options *o, struct mu_keep *k,
                      struct mu_err *err)
{
    struct mu_err bad = MU_ERR_INIT;
    struct mu_health_diagnosis *diagnosis = NULL;
    struct mu_probe *probe = NULL;
    json_t *look = NULL, *baseline = NULL;
    enum mu_health_verdict verdict = MU_HEALTH_UNKNOWN;
    struct mu_probe_options probing = {.kernel_log = o->kernel_log, .call_ms = 1000};
    mu_cli_catch_interrupts(true);
    mu_status status = o->logs.n ? logs_read(catalog, o, &diagnosis, &verdict, err) : MU_OK;
    if (status == MU_OK) status = mu_probe_open(&probing, &probe, err);
    if (status == MU_OK) status = mu_keep_baseline_load(k, o->url, NULL, &baseline, err);
    struct mu_health_look_options asked = {.probe = probe,
                                           .url = o->url,
                                           .token = o->token,
                                           .model = o->model,
                                           .baseline = baseline,
                                           .trials = true,
                                           .logs = diagnosis,
                                           .predict = mu_plan_predict,
                                           .stop = mu_cli_interrupted,
                                           .sample = mu_keep_look_sample,
                                           .context = k};
    if (status == MU_OK) status = mu_health_look(catalog, &asked, &look, err);
    if (status == MU_OK) {
        mu_keep_look(k, look);
        if (diagnosis) mu_keep_diagnosis(k, diagnosis, verdict);
        mu_status ends = look_status(look, verdict, &bad);
        if (bad.code == MU_OK) mu_keep_end(k, ends); /* a look at nothing is none */
        status = page(k, o, ends, err);
        if (status == MU_OK) status = look_report(look, diagnosis, o->json, err);
    }
    if (status == MU_OK) status = look_status(look, verdict, err);
    json_decref(look);
    json_decref(baseline);
    mu_probe_close(probe);
    mu_health_diagnosis_destroy(diagnosis);
    return status;
}

static mu_status run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct options *o = in->options;
    struct mu_health_catalog *catalog = NULL;
    struct mu_keep k;
    MU_TRY(mu_health_catalog_open(o->share, &catalog, err));
    mu_keep_begin(&k, in, &o->keep, o->model);
    bool logs_alone = o->logs.n && !o->url && !o->live;
    mu_status status = o->explain   ? explain(catalog, o, err)
                       : logs_alone ? diagnose(catalog, o, &k, err)
                                    : live(catalog, o, &k, err);
    mu_keep_fini(&k);
    mu_health_catalog_close(catalog);
    return status;
}

const struct mu_command mu_command_validate_perf = {
    .spec = {.command = "validate-perf",
             .operands = "",
             .summary = "the first cause of what is wrong, with its evidence and its cure",
             .details =
                 "With --log alone, nothing but the logs is read. Without it, or with --url or "
                 "--live, the devices, the kernel's log and the engine are looked at too, "
                 "in half a minute. Exit status: 0 healthy; 1 a cause was found, or the line "
                 "is unknown; 3 the log cannot be read or is of no known kind; 5 the engine "
                 "cannot be reached.",
             .options = option_table},
    .options_size = sizeof(struct options),
    .run = run,
};
