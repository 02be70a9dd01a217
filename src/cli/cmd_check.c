/* muster check: in half a minute, are the devices and the engine well? */
#include "cli/cli.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/thread.h"
#include "health/health.h"
#include "net/net.h"

#include <ctype.h>
#include <stdlib.h>
#include <time.h>

#define BASELINE_MAX_BYTES (1u << 20)

struct check_options {
    const char *url, *token, *model, *baseline, *kernel_log;
    double expect, watch;
    bool json;
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
    {"baseline", 'b', MU_OPTION_TEXT, offsetof(struct check_options, baseline), "FILE|save",
     "compare with what FILE holds, or save this check for later ones", 0, 0, NULL, NULL},
    {"kernel-log", 0, MU_OPTION_TEXT, offsetof(struct check_options, kernel_log), "FILE",
     "read the kernel's log from there instead of /dev/kmsg", 0, 0, NULL, NULL},
    {"watch", 'w', MU_OPTION_F64, offsetof(struct check_options, watch), "SECONDS",
     "check again every so often, until interrupted", 1, 86400, NULL, NULL},
    {"json", 'j', MU_OPTION_FLAG, offsetof(struct check_options, json), NULL,
     "print one JSON document (with --watch: one a line)", 0, 0, NULL, NULL},
    {0}};

/* --- baseline -------------------------------------------------------------------------------- */

/* ~/.local/state/muster/check, or where XDG_STATE_HOME says. */
static char *baseline_folder(void)
{
    const char *xdg = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/') return mu_path_join(xdg, "muster/check");
    return home && home[0] ? mu_path_join(home, ".local/state/muster/check") : NULL;
}

/* One file an engine, however its URL is spelled: that with all that a file's name does not like
 * replaced. NULL: of the devices alone. */
static char *baseline_path(const struct mu_net_url *url)
{
    char name[160] = "devices.json";
    size_t n = 0;
    for (const char *p = url ? url->shown : ""; *p && n < sizeof name - 6; p++)
        name[n++] = strchr("/:?&=%@", *p) ? '_' : (char)tolower((unsigned char)*p);
    if (n) memcpy(name + n, ".json", 6);
    char *folder = baseline_folder();
    char *path = folder ? mu_path_join(folder, name) : NULL;
    mu_free(folder);
    return path;
}

static mu_status baseline_save(const json_t *look, const char *path, struct mu_err *err)
{
    char *text = json_dumps(json_object_get(look, "baseline"), JSON_INDENT(2));
    char *folder = baseline_folder();
    struct mu_file_out out = {.fd = -1};
    mu_status status = text && folder ? mu_folder_make(folder, err) : mu_fail_memory(err, 1024);
    if (status == MU_OK) status = mu_file_out_open(&out, path, err);
    if (status == MU_OK) status = mu_file_out_write(&out, text, strlen(text), err);
    if (status == MU_OK) status = mu_file_out_commit(&out, err);
    if (status == MU_OK) mu_cli_say("muster: baseline saved in %s\n", path);
    mu_file_out_close(&out);
    mu_free(folder);
    mu_free(text);
    return status;
}

/* A baseline of something bad, or of nothing, would call later trouble good: why not to keep it. */
static const char *baseline_refusal(const json_t *look, bool asked)
{
    const json_t *kept = json_object_get(look, "baseline");
    if (json_integer_value(json_object_get(look, "exit_status")) != 0)
        return "the check is not good";
    if (asked && !json_object_get(kept, "tokens_per_s")) return "no speed was measured";
    return NULL;
}

static mu_status baseline_keep(const json_t *look, const char *path, bool asked, struct mu_err *err)
{
    const char *why = baseline_refusal(look, asked);
    if (!path) why = "there is no home to keep it in";
    if (why) return mu_fail(err, MU_E_ANSWER, "no baseline was saved: %s", why);
    return baseline_save(look, path, err);
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

static mu_status check_once(struct mu_health_catalog *catalog, struct mu_probe *probe,
                            const struct check_options *o, struct mu_err *err)
{
    bool save = o->baseline && strcmp(o->baseline, "save") == 0;
    struct mu_net_url url;
    if (o->url) MU_TRY(mu_net_url_parse(o->url, &url, err));
    char *kept = baseline_path(o->url ? &url : NULL);
    const char *path = o->baseline && !save ? o->baseline : kept;
    json_t *baseline = NULL, *look = NULL;
    mu_status status = MU_OK;
    if (path && !save && (o->baseline || mu_file_exists(path)))
        status = mu_json_read(path, BASELINE_MAX_BYTES, &baseline, err);
    struct mu_health_look_options options_ = {.probe = probe,
                                              .url = o->url,
                                              .token = o->token,
                                              .model = o->model,
                                              .expected_tokens_per_s = o->expect,
                                              .baseline = baseline,
                                              .stop = mu_cli_interrupted};
    if (status == MU_OK) status = mu_health_look(catalog, &options_, &look, err);
    if (status == MU_OK) status = look_print(look, o, err);
    mu_status kept_status =
        status == MU_OK && save ? baseline_keep(look, path, o->url, err) : MU_OK;
    if (status == MU_OK) status = exit_of(look, err);
    if (status == MU_OK) status = kept_status;
    json_decref(look);
    json_decref(baseline);
    mu_free(kept);
    return status;
}

static mu_status check_all(struct mu_health_catalog *catalog, struct mu_probe *probe,
                           const struct check_options *o, struct mu_err *err)
{
    for (;;) {
        uint64_t start = mu_clock_ns();
        mu_status status = check_once(catalog, probe, o, err);
        bool verdict = status == MU_OK || status == MU_E_ANSWER || status == MU_E_PEER;
        if (o->watch <= 0 || !verdict) return status;
        while (mu_clock_seconds_since(start) < o->watch) {
            if (mu_cli_interrupted()) return status;
            struct timespec pause = {.tv_nsec = 50000000};
            (void)nanosleep(&pause, NULL);
        }
    }
}

static mu_status check_run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct check_options *o = in->options;
    struct mu_health_catalog *catalog = NULL;
    struct mu_probe *probe = NULL;
    MU_TRY(mu_health_catalog_open(NULL, &catalog, err));
    struct mu_probe_options probing = {.kernel_log = o->kernel_log, .call_ms = 1000};
    mu_status status = mu_probe_open(&probing, &probe, err);
    mu_cli_catch_interrupts(true);
    if (status == MU_OK) status = check_all(catalog, probe, o, err);
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
