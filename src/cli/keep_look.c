/* What check and validate-perf saw, for the store; see keep_look.h. */
#include "cli/keep_look.h"

#include "base/number.h"
#include "net/net.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

void mu_keep_look_sample(void *context, const char *name, double at_s, double value)
{
    struct mu_keep *k = context;
    mu_store_run_sample(&k->run, MU_STORE_MEASURED, name, at_s, value);
}

/* What we watched over time is measured; what the driver says once, it reports. */
static void device_take(struct mu_keep *k, json_t *device)
{
    static const char *const lists[] = {"sampled", "index", "nvlinks", "processes", "slices"};
    const char *label = text_of(device, "device"), *key;
    char name[192], who[256];
    json_t *seen, *rest = json_copy(device);
    json_object_foreach(json_object_get(device, "sampled"), key, seen)
    {
        (void)snprintf(name, sizeof name, "%s.%s", label, key);
        mu_store_run_figure(&k->run, MU_STORE_MEASURED, name,
                            json_number_value(json_object_get(seen, "mean")));
        (void)snprintf(name, sizeof name, "%s.max_%s", label, key);
        mu_store_run_figure(&k->run, MU_STORE_MEASURED, name,
                            json_number_value(json_object_get(seen, "max")));
    }
    for (size_t i = 0; i < MU_ARRAY_LEN(lists); i++)
        (void)json_object_del(rest, lists[i]);
    mu_store_run_take_kind(&k->run, MU_STORE_REPORTED, label, rest);
    json_decref(rest);
    (void)snprintf(who, sizeof who, "%s %s", text_of(device, "name"), text_of(device, "uuid"));
    mu_store_run_setting(&k->run, label, who);
}

/* What was timed of a device alone, or of the way to another one. */
static void alone_take(struct mu_keep *k, const json_t *row)
{
    char name[192];
    const char *peer = text_of(row, "peer");
    const json_t *best = json_object_get(row, "best");
    (void)snprintf(name, sizeof name, "%s%s%s.%s", text_of(row, "device"), peer[0] ? "-" : "", peer,
                   text_of(row, "figure"));
    if (json_is_number(best))
        mu_store_run_figure(&k->run, MU_STORE_MEASURED, name, json_number_value(best));
}

static void finding_take(struct mu_keep *k, const json_t *f)
{
    mu_store_run_finding(&k->run, &(struct mu_store_finding){.level = text_of(f, "level"),
                                                             .code = text_of(f, "code"),
                                                             .section = text_of(f, "section"),
                                                             .device = text_of(f, "device"),
                                                             .text = text_of(f, "text"),
                                                             .cure = text_of(f, "cure"),
                                                             .page = text_of(f, "page"),
                                                             .at_s = (double)NAN});
}

void mu_keep_look(struct mu_keep *k, const json_t *look)
{
    const json_t *engine = json_object_get(look, "engine");
    const json_t *devices = json_object_get(look, "devices");
    const json_t *findings = json_object_get(look, "findings");
    json_t *element;
    size_t i;
    if (!k->run.model[0])
        k->run.model = mu_store_run_text(&k->run, mu_str(text_of(engine, "model")));
    static const char *const kept[] = {"kind", "route"};
    for (size_t n = 0; n < MU_ARRAY_LEN(kept); n++)
        if (text_of(engine, kept[n])[0])
            mu_store_run_setting(&k->run, kept[n], text_of(engine, kept[n]));
    mu_store_run_take(&k->run, engine);
    mu_store_run_figure(&k->run, MU_STORE_MEASURED, "gpus", (double)json_array_size(devices));
    json_array_foreach(devices, i, element)
    {
        device_take(k, element);
    }
    json_array_foreach(json_object_get(look, "alone"), i, element)
    {
        alone_take(k, element);
    }
    json_array_foreach(findings, i, element)
    {
        finding_take(k, element);
    }
    mu_text_printf(&k->result, "%s%s: %s", k->result.len ? "; " : "", text_of(look, "verdict"),
                   text_of(look, "summary"));
}

/* --- logs ------------------------------------------------------------------------------------- */

static void log_finding_take(struct mu_keep *k, const struct mu_health_finding *f)
{
    static const char *const levels[MU_HEALTH_ROLE_COUNT] = {
        "first_cause", "repeat", "follower", "other_cause", "settled", "note", "noise"};
    char place[600], page[160], device[32] = "";
    (void)snprintf(place, sizeof place, "%s:%llu", f->file, (unsigned long long)f->line);
    (void)snprintf(page, sizeof page, "docs/findings/%s.md#%s", f->family, f->cause);
    if (f->rank >= 0) (void)snprintf(device, sizeof device, "rank %d", f->rank);
    mu_store_run_finding(&k->run,
                         &(struct mu_store_finding){.level = levels[f->role],
                                                    .code = f->cause[0] ? f->cause : f->row,
                                                    .section = "log",
                                                    .device = device,
                                                    .place = place,
                                                    .text = f->text,
                                                    .cure = f->cure,
                                                    .page = f->family[0] ? page : "",
                                                    .at_s = f->at_s < 0 ? (double)NAN : f->at_s});
}

void mu_keep_diagnosis(struct mu_keep *k, const struct mu_health_diagnosis *diagnosis,
                       enum mu_health_verdict verdict)
{
    static const char *const verdicts[] = {"healthy", "slow", "failed", "unknown"};
    const struct mu_health_finding *f = mu_health_first_cause(diagnosis);
    mu_text_printf(&k->result, "%slog %s%s%s", k->result.len ? "; " : "", verdicts[verdict],
                   f ? ", first cause " : "", f ? f->cause : "");
    for (size_t i = 0; (f = mu_health_finding_get(diagnosis, i)); i++)
        log_finding_take(k, f);
}

/* --- baselines -------------------------------------------------------------------------------- */

/* One an engine, however its URL is spelled, or one for the devices of this host. */
static mu_status baseline_name(const struct mu_keep *k, const char *given, char out[1200],
                               struct mu_err *err)
{
    struct mu_net_url url;
    (void)snprintf(out, 1200, "devices of %s", k->run.host);
    if (!given) return MU_OK;
    MU_TRY(mu_net_url_parse(given, &url, err));
    size_t n = 0;
    for (; url.shown[n]; n++)
        out[n] = (char)tolower((unsigned char)url.shown[n]);
    out[n] = '\0';
    return MU_OK;
}

/* The figures that mu_health_look compares. */
static json_t *baseline_json(const struct mu_store_run *run)
{
    static const char *const names[] = {"gpus", "tokens_per_s", "noise", "first_token_s"};
    json_t *o = json_object();
    for (size_t i = 0; i < MU_ARRAY_LEN(names); i++) {
        const struct mu_store_figure *f = mu_store_run_figure_get(run, MU_STORE_MEASURED, names[i]);
        if (f)
            (void)json_object_set_new(
                o, names[i], i == 0 ? json_integer((json_int_t)f->value) : json_real(f->value));
    }
    return o;
}

static mu_status baseline_read(struct mu_store *store, const char *id, json_t **out,
                               struct mu_err *err)
{
    struct mu_store_run run;
    mu_status status = mu_store_get(store, id, MU_STORE_WHOLE, &run, err);
    if (status == MU_OK && strcmp(run.command, "check") != 0 &&
        strcmp(run.command, "validate-perf") != 0)
        status = mu_fail(err, MU_E_INPUT, "run %s is of %s, and no baseline for a check", id,
                         run.command);
    if (status == MU_OK && !(*out = baseline_json(&run))) status = mu_fail_memory(err, 0);
    mu_store_run_fini(&run);
    return status;
}

static mu_status baseline_get(const struct mu_keep *k, const char *url, const char *word,
                              json_t **out, struct mu_err *err)
{
    struct mu_store *store = NULL;
    char name[1200], id[MU_STORE_ID_SIZE];
    MU_TRY(baseline_name(k, url, name, err));
    MU_TRY(mu_store_open(k->options->store, MU_STORE_READ, &store, err));
    mu_status status =
        word ? mu_store_find(store, word, id, err) : mu_store_baseline_get(store, name, id, err);
    if (status == MU_OK) status = baseline_read(store, id, out, err);
    mu_store_close(store);
    return status;
}

mu_status mu_keep_baseline_load(struct mu_keep *k, const char *url, const char *word, json_t **out,
                                struct mu_err *err)
{
    struct mu_err fault = MU_ERR_INIT;
    char line[768], number[MU_FLOAT_TEXT];
    *out = NULL;
    mu_status status = baseline_get(k, url, word, out, &fault);
    if (status != MU_OK && (word || status == MU_E_USAGE)) {
        *err = fault;
        return status;
    }
    if (status != MU_OK && status != MU_E_MISSING)
        mu_cli_say("muster: no baseline is compared: %s\n", mu_err_line(&fault, line, sizeof line));
    double speed = json_number_value(json_object_get(*out, "tokens_per_s"));
    if (speed > 0)
        mu_store_run_setting(&k->run, "baseline_tokens_per_s", mu_format_f64(speed, number));
    return MU_OK;
}

mu_status mu_keep_baseline_set(const struct mu_keep *k, const char *url, struct mu_err *err)
{
    struct mu_store *store = NULL;
    char name[1200];
    MU_TRY(baseline_name(k, url, name, err));
    MU_TRY(mu_store_open(k->options->store, MU_STORE_WRITE, &store, err));
    mu_status status = mu_store_baseline_set(store, name, k->run.id, err);
    mu_store_close(store);
    return status;
}
