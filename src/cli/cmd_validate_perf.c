/* muster validate-perf: what is wrong with an engine and why; from its logs. */
#include "cli/cli.h"

#include "health/health.h"

#define REPORT_BYTES_MAX ((size_t)32 << 20)

struct options {
    struct mu_option_list logs;
    const char *explain, *share;
    bool json;
};

static const struct mu_option option_table[] = {
    {.name = "log",
     .kind = MU_OPTION_LIST,
     .offset = offsetof(struct options, logs),
     .argument = "FILE|-",
     .help = "an engine's, NCCL's or the kernel's log; may be given several times"},
    {.name = "explain",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct options, explain),
     .argument = "LINE",
     .help = "say what one line of a log means"},
    {.name = "share",
     .kind = MU_OPTION_TEXT,
     .offset = offsetof(struct options, share),
     .argument = "FOLDER",
     .help = "read logs.tsv from there instead of the copy in the program"},
    {.name = "json",
     .kind = MU_OPTION_FLAG,
     .offset = offsetof(struct options, json),
     .help = "one JSON document on standard output"},
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

static mu_status diagnose(struct mu_health_catalog *catalog, const struct options *o,
                          struct mu_err *err)
{
    struct mu_health_diagnosis *diagnosis = NULL;
    MU_TRY(mu_health_diagnosis_create(catalog, &diagnosis, err));
    enum mu_health_verdict verdict = MU_HEALTH_UNKNOWN;
    mu_status status = MU_OK;
    for (unsigned i = 0; status == MU_OK && i < o->logs.n; i++)
        status = mu_health_log_read(diagnosis, o->logs.items[i], mu_cli_interrupted, err);
    if (status == MU_OK) status = mu_health_conclude(diagnosis, &verdict, err);
    if (status == MU_OK) status = report(diagnosis, o->json, err);
    mu_health_diagnosis_destroy(diagnosis);
    return status == MU_OK ? verdict_status(verdict, err) : status;
}

static mu_status run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct options *o = in->options;
    if (!o->explain && o->logs.n == 0) {
        (void)mu_fail(err, MU_E_USAGE, "nothing to validate");
        mu_err_cure(err, "give --log FILE, --log - or --explain LINE");
        return MU_E_USAGE;
    }
    struct mu_health_catalog *catalog = NULL;
    MU_TRY(mu_health_catalog_open(o->share, &catalog, err));
    mu_status status = o->explain ? explain(catalog, o, err) : diagnose(catalog, o, err);
    mu_health_catalog_close(catalog);
    return status;
}

const struct mu_command mu_command_validate_perf = {
    .spec = {.command = "validate-perf",
             .operands = "",
             .summary = "the first cause of what is wrong, with its evidence and its cure",
             .details = "Exit status: 0 healthy; 1 a cause was found, or the line is unknown;\n"
                        "3 the log cannot be read or is of no known kind.",
             .options = option_table},
    .options_size = sizeof(struct options),
    .run = run,
};
