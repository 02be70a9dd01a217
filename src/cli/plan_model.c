/* Finding the model that a person means; see plan_model.h. */
#include "cli/plan_model.h"

#include "base/alloc.h"
#include "base/file.h"

#include <stdio.h>
#include <strings.h>

#define CONFIG_MAX_BYTES (16u << 20)
#define NAME_MAX_LEN     120

/* How publishers end a name, beside with a type of weights. */
static const char *const endings[] = {"-instruct", "-it",     "-chat",    "-base", "-hf",
                                      "-gguf",     "-v0.1",   "-v0.2",    "-v0.3", "-v1.0",
                                      "-dynamic",  "-static", "-unsloth", "-text", "-quantized"};

/* Takes the last word off a name when it is one of those, or a type: the last that is said is what
 * the weights are in. */
static bool strip_ending(char *name, const char **type)
{
    size_t len = strlen(name);
    static const char bnb[] = "-bnb-4bit";
    for (size_t i = 0; i < MU_ARRAY_LEN(endings); i++) {
        size_t n = strlen(endings[i]);
        if (len <= n || strcasecmp(name + len - n, endings[i]) != 0) continue;
        name[len - n] = '\0';
        return true;
    }
    const struct mu_plan_format *format = NULL;
    char *dash = strrchr(name, '-');
    if (len > sizeof bnb && strcasecmp(name + len - (sizeof bnb - 1), bnb) == 0) {
        dash = name + len - (sizeof bnb - 1);
        format = mu_plan_format(MU_STR("nf4"), NULL);
    } else if (dash && dash != name) {
        format = mu_plan_format(mu_str(dash + 1), NULL);
    }
    if (!format) return false;
    *dash = '\0';
    if (!*type) *type = format->name;
    return true;
}

/* The row that the last part of a name means, when its endings are taken off one by one. An error
 * speaks of the whole name. */
static mu_status find_row(const char *bare, struct plan_model *out, struct mu_err *err)
{
    struct mu_str rest = mu_str(bare), said = mu_str_take(&rest, '@');
    struct mu_err first = MU_ERR_INIT, local = MU_ERR_INIT;
    char name[NAME_MAX_LEN + 8];
    if (said.len > NAME_MAX_LEN) return mu_fail(err, MU_E_MISSING, "no model has so long a name");
    (void)snprintf(name, sizeof name, "%s%.*s", out->synth ? "synth:" : "", (int)said.len, said.p);
    (void)snprintf(out->type, sizeof out->type, "%.*s", (int)rest.len, rest.p);
    mu_status status = mu_synth_row(name, &out->row, &first);
    while (status == MU_E_MISSING && strip_ending(name, &out->own))
        status = mu_synth_row(name, &out->row, &local);
    /* The nearest of what is left is nearer than that of a name with all its endings. */
    if (status != MU_OK && err) *err = local.what[0] ? local : first;
    return status;
}

/* Nobody means a row of the table by a path. */
static bool is_path(const char *spoken)
{
    size_t len = strlen(spoken);
    const char *slash = strchr(spoken, '/');
    bool file = len > 5 && strcasecmp(spoken + len - 5, ".gguf") == 0;
    return file || strchr("./~", spoken[0]) || (slash && strchr(slash + 1, '/'));
}

static mu_status open_row(const char *spoken, struct plan_model *out, struct mu_err *err)
{
    char name[sizeof out->row.name + 8];
    const char *bare = spoken, *slash = strrchr(spoken, '/');
    out->synth = strncmp(spoken, "synth:", 6) == 0;
    if (out->synth) bare += 6;
    if (slash) bare = slash + 1;
    MU_TRY(find_row(bare, out, err));
    size_t end = strcspn(spoken, "@"), n = sizeof "-gguf" - 1;
    bool gguf = end > n && strncasecmp(spoken + end - n, "-gguf", n) == 0; /* of many files */
    bool hub = !out->synth && slash && !gguf;
    if (out->synth)
        (void)snprintf(out->id, sizeof out->id, "%s", spoken);
    else
        (void)snprintf(out->id, sizeof out->id, "%.*s", hub ? (int)end : 160,
                       hub ? spoken : out->row.hub_id);
    if (!out->type[0] && out->own) (void)snprintf(out->type, sizeof out->type, "%s", out->own);
    if (!hub) out->own = NULL; /* the id is the row's, whatever the name ends with */
    (void)snprintf(name, sizeof name, "synth:%s", out->row.name);
    return mu_model_file_open(name, MU_OPEN_SHAPE_ONLY, &out->file, err);
}

/* A folder by its config.json is the folder. */
static mu_status open_disk(const char *spoken, struct plan_model *out, struct mu_err *err)
{
    static const char config[] = "config.json";
    size_t len = strlen(spoken), n = sizeof config - 1;
    bool named = len >= n && strcmp(spoken + len - n, config) == 0 && mu_file_exists(spoken);
    int keep = named ? (int)(len - n) : (int)len;
    if (len >= sizeof out->id) return mu_fail(err, MU_E_USAGE, "the model's name is too long");
    (void)snprintf(out->id, sizeof out->id, "%.*s", keep, spoken);
    if (keep == 0) (void)snprintf(out->id, sizeof out->id, ".");
    out->on_disk = true;
    return mu_model_file_open(out->id, MU_OPEN_HEADER_ONLY, &out->file, err);
}

mu_status mu_plan_model_open(const char *spoken, struct plan_model *out, struct mu_err *err)
{
    struct mu_err local = MU_ERR_INIT;
    *out = (struct plan_model){.file = NULL};
    if (strncmp(spoken, "synth:", 6) != 0) {
        mu_status status = open_disk(spoken, out, &local);
        bool there = status != MU_E_MISSING || mu_file_exists(spoken);
        if (there) {
            if (err) *err = local;
            return status;
        }
        if (is_path(spoken)) {
            status = mu_fail(err, MU_E_MISSING, "%s: there is no such file or folder", spoken);
            mu_err_cure(err, "name a folder, a .gguf file, a hub id that is on this disk, or a "
                             "model of share/models.tsv");
            return status;
        }
    }
    *out = (struct plan_model){.file = NULL};
    return open_row(spoken, out, err);
}

void mu_plan_model_close(struct plan_model *model)
{
    mu_model_file_close(model->file);
    json_decref(model->row.config);
}

/* Beside the first of the files that were opened. */
static mu_status config_beside(const struct mu_model_file *file, json_t **out, struct mu_err *err)
{
    const char *const *paths;
    size_t n = mu_model_file_paths(file, &paths);
    const char *slash = n ? strrchr(paths[0], '/') : NULL;
    char *folder = slash ? mu_strndup(paths[0], (size_t)(slash - paths[0])) : mu_strdup(".");
    char *path = folder ? mu_path_join(folder, "config.json") : NULL;
    mu_status status =
        path ? mu_json_read(path, CONFIG_MAX_BYTES, out, err) : mu_fail_memory(err, 256);
    mu_free(path);
    mu_free(folder);
    return status;
}

/* A row says the data type by the name of the type that is asked for. */
static mu_status row_config(const char *spoken, json_t **out, struct mu_err *err)
{
    static const char *const types[][2] = {{"bf16", "bfloat16"}, {"f32", "float32"}};
    struct plan_model model;
    const struct mu_plan_format *format = NULL;
    const char *dtype = "bfloat16";
    mu_status status = mu_plan_model_open(spoken, &model, err);
    if (status == MU_OK && model.on_disk) {
        status = config_beside(model.file, out, err);
        mu_plan_model_close(&model);
        return status;
    }
    if (status == MU_OK && model.type[0]) {
        format = mu_plan_format(mu_str(model.type), err);
        dtype = NULL;
        for (size_t i = 0; format && i < MU_ARRAY_LEN(types); i++)
            if (strcmp(format->name, types[i][0]) == 0) dtype = types[i][1];
        if (!format)
            status = MU_E_USAGE;
        else if (!dtype)
            status = mu_fail(err, MU_E_USAGE,
                             "a map of %s needs the config.json of a checkpoint in that type",
                             model.type);
    }
    if (status == MU_OK && json_object_set_new(model.row.config, "dtype", json_string(dtype)) != 0)
        status = mu_fail_memory(err, 64);
    if (status == MU_OK) *out = json_incref(model.row.config);
    mu_plan_model_close(&model);
    return status;
}

mu_status mu_plan_model_config(const char *spoken, json_t **out, struct mu_err *err)
{
    size_t len = strlen(spoken);
    if (len > 5 && strcasecmp(spoken + len - 5, ".gguf") == 0)
        return mu_fail(err, MU_E_USAGE, "device maps are made from a config.json, not %s", spoken);
    if (!mu_file_exists(spoken) && !is_path(spoken)) return row_config(spoken, out, err);
    if (!mu_file_is_folder(spoken)) return mu_json_read(spoken, CONFIG_MAX_BYTES, out, err);
    char *path = mu_path_join(spoken, "config.json");
    mu_status status =
        path ? mu_json_read(path, CONFIG_MAX_BYTES, out, err) : mu_fail_memory(err, len);
    mu_free(path);
    return status;
}
