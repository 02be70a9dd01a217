/*
 * A folder in the layout of the hub: config.json, generation_config.json, and the weights in one
 * model.safetensors or in shards that model.safetensors.index.json lists. Files may be links (the
 * hub's cache is made of them); names in the index may not leave the folder.
 */
#include "format/format_int.h"

#include "base/file.h"

#include <stdlib.h>

#define CONFIG_BYTES_MAX (4u << 20)
#define INDEX_BYTES_MAX  (64u << 20)
#define SHARDS_MAX       10000

/* A name below this folder and nowhere else. */
static bool is_plain_file_name(const char *name)
{
    size_t len = strlen(name);
    return len > 12 && name[0] != '.' && !strpbrk(name, "/\\:") &&
           strcmp(name + len - 12, ".safetensors") == 0;
}

static mu_status read_json(const char *folder, const char *name, uint64_t max, char **path,
                           json_t **out, struct mu_err *err)
{
    *path = mu_path_join(folder, name);
    return *path ? mu_json_read(*path, max, out, err) : mu_fail_memory(err, strlen(name));
}

static mu_status read_config(struct mu_model_file *file, struct mu_err *err)
{
    json_t *root = NULL;
    char *path;
    mu_status status = read_json(file->folder, "config.json", CONFIG_BYTES_MAX, &path, &root, err);
    if (status == MU_OK) status = mu_config_from_json(root, path, &file->config, err);
    json_decref(root);
    mu_free(path);
    return status;
}

static mu_status read_generation_config(struct mu_model_file *file, struct mu_err *err)
{
    json_t *root = NULL;
    char *path = mu_path_join(file->folder, "generation_config.json");
    mu_status status = path ? MU_OK : mu_fail_memory(err, strlen(file->folder));
    if (path && mu_file_exists(path)) {
        status = mu_json_read(path, CONFIG_BYTES_MAX, &root, err);
        if (status == MU_OK) status = mu_config_add_generation(root, path, &file->config, err);
    }
    json_decref(root);
    mu_free(path);
    return status;
}

static mu_status read_weights(struct mu_model_file *file, const char *name, struct mu_err *err)
{
    char *path = mu_path_join(file->folder, name);
    if (!path) return mu_fail_memory(err, strlen(name));
    struct mu_file_bytes bytes;
    mu_status status = mu_model_file_map(file, path, &bytes, err);
    if (status == MU_OK) status = mu_safetensors_parse(&bytes, file->arena, &file->tensors, err);
    mu_free(path);
    return status;
}

/* ---- Shards -------------------------------------------------------------------------------- */

struct shards {
    const json_t *map;  /* tensor -> file */
    const char **names; /* each once, sorted */
    size_t n;
    uint64_t n_placed; /* tensors found where the map says */
};

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static mu_status list_shards(const json_t *map, const char *path, struct shards *out,
                             struct mu_err *err)
{
    const char *tensor;
    json_t *value;
    mu_status status = MU_OK;
    size_t n = 0;
    out->map = map;
    out->names = mu_calloc(json_object_size(map), sizeof *out->names);
    if (!out->names) return mu_fail_memory(err, json_object_size(map) * sizeof *out->names);
    json_object_foreach((json_t *)(uintptr_t)map, tensor, value)
    {
        const char *name = json_string_value(value);
        if (!name || !is_plain_file_name(name)) {
            status = mu_fail(err, MU_E_INPUT, "does not name a .safetensors file of this folder");
            mu_err_where(err, "%s, tensor '%.80s'", path, tensor);
            return status;
        }
        out->names[n++] = name;
    }
    qsort(out->names, n, sizeof *out->names, by_name);
    for (size_t i = 0; i < n; i++)
        if (out->n == 0 || strcmp(out->names[out->n - 1], out->names[i]) != 0)
            out->names[out->n++] = out->names[i];
    if (out->n == 0 || out->n > SHARDS_MAX) {
        status =
            mu_fail(err, MU_E_INPUT, "lists %zu files, and must list 1 to %d", out->n, SHARDS_MAX);
        mu_err_where(err, "%s", path);
    }
    return status;
}

/* Every tensor that a shard holds must be where the index says, if the index knows it. */
static mu_status check_shard(struct mu_model_file *file, struct shards *shards, const char *name,
                             uint64_t first, const char *path, struct mu_err *err)
{
    for (uint64_t i = first; i < file->tensors.n; i++) {
        const char *tensor = file->tensors.items[i].name;
        const char *said = json_string_value(json_object_get(shards->map, tensor));
        if (said && strcmp(said, name) == 0) shards->n_placed++;
        if (!said || strcmp(said, name) == 0) continue;
        mu_status status =
            mu_fail(err, MU_E_INPUT, "is said to be in %.80s and is in %.80s", said, name);
        mu_err_where(err, "%s, tensor '%.80s'", path, tensor);
        return status;
    }
    return MU_OK;
}

static mu_status read_shards(struct mu_model_file *file, const json_t *root, const char *path,
                             struct mu_err *err)
{
    struct shards shards = {0};
    const json_t *map = json_object_get(root, "weight_map");
    if (!json_is_object(map)) {
        mu_status status = mu_fail(err, MU_E_INPUT, "has no weight_map");
        mu_err_where(err, "%s", path);
        return status;
    }
    mu_status status = list_shards(map, path, &shards, err);
    if (status == MU_OK) status = mu_model_file_room(file, shards.n, err);
    for (size_t i = 0; i < shards.n && status == MU_OK; i++) {
        uint64_t first = file->tensors.n;
        status = read_weights(file, shards.names[i], err);
        if (status == MU_OK)
            status = check_shard(file, &shards, shards.names[i], first, path, err);
        else if (status == MU_E_MISSING)
            mu_err_cure(err, "model.safetensors.index.json lists it: fetch it");
    }
    if (status == MU_OK && shards.n_placed != json_object_size(map)) {
        status = mu_fail(err, MU_E_INPUT, "lists %zu tensors, and its files hold %llu of them",
                         json_object_size(map), (unsigned long long)shards.n_placed);
        mu_err_where(err, "%s", path);
    }
    mu_free(shards.names);
    return status;
}

static mu_status read_index(struct mu_model_file *file, const char *path, struct mu_err *err)
{
    json_t *root = NULL;
    MU_TRY(mu_json_read(path, INDEX_BYTES_MAX, &root, err));
    mu_status status = read_shards(file, root, path, err);
    json_decref(root);
    return status;
}

/* ---- The whole ----------------------------------------------------------------------------- */

static mu_status find_weights(struct mu_model_file *file, unsigned flags, struct mu_err *err)
{
    char *single = mu_path_join(file->folder, "model.safetensors");
    char *index = mu_path_join(file->folder, "model.safetensors.index.json");
    mu_status status = MU_OK;
    if (!single || !index) {
        status = mu_fail_memory(err, strlen(file->folder));
    } else if (mu_file_exists(single)) {
        status = mu_model_file_room(file, 1, err);
        if (status == MU_OK) status = read_weights(file, "model.safetensors", err);
    } else if (mu_file_exists(index)) {
        status = read_index(file, index, err);
    } else if (!(flags & MU_OPEN_HEADER_ONLY)) {
        status = mu_fail(err, MU_E_MISSING,
                         "holds neither model.safetensors nor model.safetensors.index.json");
        mu_err_where(err, "%s", file->folder);
        mu_err_cure(err, "other kinds of weights (.bin, .pth) must be saved as safetensors first");
    }
    mu_free(single);
    mu_free(index);
    return status;
}

/* A multimodal checkpoint holds its language model under one more word. */
static mu_status enter_language_model(struct mu_model_file *file, struct mu_err *err)
{
    static const char outer[] = "language_model.", inner[] = "model.language_model.";
    for (uint64_t i = 0; i < file->tensors.n; i++) {
        struct mu_tensor *t = &file->tensors.items[i];
        if (strncmp(t->name, outer, sizeof outer - 1) == 0) {
            t->name += sizeof outer - 1;
        } else if (strncmp(t->name, inner, sizeof inner - 1) == 0) {
            t->name = mu_arena_printf(file->arena, "model.%s", t->name + sizeof inner - 1);
            if (!t->name) return mu_fail_memory(err, sizeof *t);
        }
    }
    return MU_OK;
}

mu_status mu_model_open_folder(struct mu_model_file *file, const char *folder, const char *weights,
                               unsigned flags, struct mu_err *err)
{
    file->format = "safetensors";
    file->folder = mu_arena_strndup(file->arena, folder, strlen(folder));
    if (!file->folder) return mu_fail_memory(err, strlen(folder));
    mu_config_init(&file->config);
    if (flags & MU_OPEN_TEXT_ONLY) return mu_templates_from_folder(file, err);
    MU_TRY(read_config(file, err));
    MU_TRY(read_generation_config(file, err));
    if (weights) {
        MU_TRY(mu_model_file_room(file, 1, err));
        MU_TRY(read_weights(file, weights, err));
    } else {
        MU_TRY(find_weights(file, flags, err));
    }
    MU_TRY(enter_language_model(file, err));
    MU_TRY(mu_quantised_present(file, err));
    return mu_templates_from_folder(file, err);
}
