/*
 * What MODEL means on this machine: synth:NAME, a file, a folder, or the id of a repository that a
 * hub client has left in the local cache (models--OWNER--NAME/{refs,snapshots}). Never opens a
 * connection.
 */
#include "format/format_int.h"

#include "base/file.h"

#include <dirent.h>
#include <stdlib.h>

#define REVISION_BYTES_MAX 200

static bool ends_with(const char *s, const char *end)
{
    size_t len = strlen(s), end_len = strlen(end);
    return len >= end_len && strcmp(s + len - end_len, end) == 0;
}

/* True for a later file of a split: -00002-of-00004.gguf. */
static bool is_later_split(const char *name)
{
    size_t len = strlen(name), tail = sizeof "-00001-of-00002.gguf" - 1;
    if (len < tail || strncmp(name + len - tail + 6, "-of-", 4) != 0) return false;
    return name[len - tail] == '-' && strncmp(name + len - tail, "-00001", 6) != 0;
}

/* The only model among the folder's .gguf files, counting a split as one; NULL when there is none
 * or memory is out; `*n` says how many there were. */
static char *only_gguf(const char *folder, unsigned *n)
{
    char *found = NULL;
    DIR *dir = opendir(folder);
    *n = 0;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (!ends_with(e->d_name, ".gguf") || is_later_split(e->d_name)) continue;
        if (++*n == 1) found = mu_path_join(folder, e->d_name);
    }
    if (dir) (void)closedir(dir);
    if (*n == 1) return found;
    mu_free(found);
    return NULL;
}

static mu_status no_model_in(const char *folder, unsigned n, struct mu_err *err)
{
    mu_status status;
    if (n > 1) {
        status = mu_fail(err, MU_E_INPUT, "holds %u .gguf files", n);
        mu_err_cure(err, "name one of them");
    } else {
        status = mu_fail(err, MU_E_MISSING, "holds neither config.json nor a .gguf file");
        mu_err_cure(err, "name the folder of a model, a .gguf file, or a hub id");
    }
    mu_err_where(err, "%s", folder);
    return status;
}

static bool holds(const char *folder, const char *name)
{
    char *path = mu_path_join(folder, name);
    bool there = path && mu_file_exists(path);
    mu_free(path);
    return there;
}

/* Takes `folder` over. A tokenizer alone is enough for the commands that want no more. */
static mu_status look_into_folder(char *folder, struct mu_place *out, struct mu_err *err)
{
    unsigned n = 0;
    bool config = holds(folder, "config.json");
    char *gguf = config ? NULL : only_gguf(folder, &n);
    mu_status status = MU_OK;
    if (config ||
        (n == 0 && (holds(folder, "tokenizer.json") || holds(folder, "tokenizer.model")))) {
        *out = (struct mu_place){MU_PLACE_FOLDER, folder};
        return MU_OK;
    }
    if (gguf)
        *out = (struct mu_place){MU_PLACE_GGUF, gguf};
    else
        status = n == 1 ? mu_fail_memory(err, strlen(folder)) : no_model_in(folder, n, err);
    mu_free(folder);
    return status;
}

static mu_status look_at_path(const char *model, struct mu_place *out, struct mu_err *err)
{
    char *path = mu_strdup(model);
    if (!path) return mu_fail_memory(err, strlen(model));
    if (mu_file_is_folder(path)) return look_into_folder(path, out, err);
    *out = (struct mu_place){ends_with(path, ".safetensors") ? MU_PLACE_SAFETENSORS : MU_PLACE_GGUF,
                             path};
    return MU_OK;
}

/* ---- The hub's cache ----------------------------------------------------------------------- */

/* Where the hub's own client looks, in its order. */
static char *hub_folder(void)
{
    static const struct {
        const char *variable, *below;
    } places[] = {
        {"HF_HUB_CACHE", ""},
        {"HUGGINGFACE_HUB_CACHE", ""},
        {"HF_HOME", "hub"},
        {"XDG_CACHE_HOME", "huggingface/hub"},
        {"HOME", ".cache/huggingface/hub"},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(places); i++) {
        const char *value = getenv(places[i].variable);
        if (value && value[0]) return mu_path_join(value, places[i].below);
    }
    return NULL;
}

/* Letters, digits, and the marks that names of owners, repositories and revisions may have; not a
 * path, not hidden. */
static bool is_plain_name(struct mu_str s)
{
    if (s.len == 0 || s.len > REVISION_BYTES_MAX || s.p[0] == '.') return false;
    for (size_t i = 0; i < s.len; i++) {
        char c = s.p[i];
        bool ok = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '-' || c == '_' || c == '.';
        if (!ok) return false;
    }
    return true;
}

struct hub_id {
    struct mu_str owner, name, revision; /* an empty owner: a repository without one */
};

static bool hub_id_parse(const char *model, struct hub_id *id)
{
    const char *at = strchr(model, '@'), *slash = strchr(model, '/');
    const char *end = at ? at : model + strlen(model);
    id->revision = at ? mu_str(at + 1) : MU_STR("main");
    id->owner = slash ? (struct mu_str){model, (size_t)(slash - model)} : (struct mu_str){"", 0};
    const char *name = slash ? slash + 1 : model;
    if (name > end) return false;
    id->name = (struct mu_str){name, (size_t)(end - name)};
    return is_plain_name(id->name) && is_plain_name(id->revision) &&
           (!slash || is_plain_name(id->owner));
}

/* The commit that refs/REVISION names; the revision itself when it is a commit. */
static mu_status read_ref(const char *repo, struct mu_str revision, struct mu_text *commit,
                          struct mu_err *err)
{
    struct mu_text path;
    mu_text_init(&path, 8192);
    mu_text_printf(&path, "%s/refs/%.*s", repo, (int)revision.len, revision.p);
    mu_status status = mu_text_status(&path, err);
    if (status == MU_OK && mu_file_exists(mu_text_get(&path)))
        status = mu_file_read(mu_text_get(&path), commit, err);
    else
        mu_text_add(commit, revision.p, revision.len);
    while (commit->len && (commit->p[commit->len - 1] == '\n' || commit->p[commit->len - 1] == ' '))
        commit->p[--commit->len] = '\0';
    if (status == MU_OK) status = mu_text_status(commit, err);
    if (status == MU_OK && !is_plain_name((struct mu_str){mu_text_get(commit), commit->len})) {
        status = mu_fail(err, MU_E_INPUT, "does not hold the name of a commit");
        mu_err_where(err, "%s", mu_text_get(&path));
    }
    mu_text_fini(&path);
    return status;
}

static mu_status find_snapshot(const char *cache, const struct hub_id *id, struct mu_text *out,
                               struct mu_err *err)
{
    struct mu_text commit;
    mu_text_init(&commit, REVISION_BYTES_MAX + 2);
    mu_text_printf(out, "%s/models--%.*s%s%.*s", cache, (int)id->owner.len, id->owner.p,
                   id->owner.len ? "--" : "", (int)id->name.len, id->name.p);
    mu_status status = mu_text_status(out, err);
    if (status == MU_OK && !mu_file_is_folder(mu_text_get(out)))
        status = mu_fail(err, MU_E_MISSING, "is neither a file nor a model in the hub's cache");
    if (status == MU_OK) status = read_ref(mu_text_get(out), id->revision, &commit, err);
    mu_text_printf(out, "/snapshots/%s", mu_text_get(&commit));
    if (status == MU_OK) status = mu_text_status(out, err);
    if (status == MU_OK && !mu_file_is_folder(mu_text_get(out)))
        status = mu_fail(err, MU_E_MISSING, "is in the hub's cache, but not at that revision");
    mu_text_fini(&commit);
    return status;
}

static mu_status look_into_cache(const char *model, struct mu_place *out, struct mu_err *err)
{
    struct hub_id id;
    struct mu_text path;
    mu_text_init(&path, 8192);
    char *cache = hub_folder();
    mu_status status = MU_OK;
    if (!cache || !hub_id_parse(model, &id))
        status = mu_fail(err, MU_E_MISSING, "there is no such file or folder");
    else
        status = find_snapshot(cache, &id, &path, err);
    mu_free(cache);
    mu_err_where(err, "%s", model);
    if (status == MU_E_MISSING)
        mu_err_cure(err,
                    "name a folder, a .gguf file, a hub id that is on this disk, or synth:NAME");
    char *folder = status == MU_OK ? mu_text_take(&path) : NULL;
    mu_text_fini(&path);
    return status == MU_OK ? look_into_folder(folder, out, err) : status;
}

mu_status mu_place_find(const char *model, struct mu_place *out, struct mu_err *err)
{
    *out = (struct mu_place){MU_PLACE_SYNTH, NULL};
    if (strncmp(model, "synth:", 6) == 0) return MU_OK;
    if (model[0] != '\0' && mu_file_exists(model)) return look_at_path(model, out, err);
    return look_into_cache(model, out, err);
}
