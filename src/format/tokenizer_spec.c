/*
 * Finds the tokenizer of a model: tokenizer.json or tokenizer.model of a folder, or the metadata of
 * a GGUF file, and owns what was read until it is no longer needed.
 */
#include "format/tokenizer_int.h"

#include "base/file.h"

#define ARENA_BYTES_MAX  (UINT64_C(1) << 30)
#define CONFIG_BYTES_MAX (16u << 20)

struct mu_tokenizer_spec *mu_tokenizer_spec_new(const char *source, struct mu_err *err)
{
    struct mu_tokenizer_spec *spec = mu_calloc(1, sizeof *spec);
    struct mu_arena *arena = mu_arena_create(ARENA_BYTES_MAX);
    const char *copy = arena ? mu_arena_strndup(arena, source, strlen(source)) : NULL;
    if (!spec || !copy) {
        mu_arena_destroy(arena);
        mu_free(spec);
        (void)mu_fail_memory(err, sizeof *spec);
        return NULL;
    }
    *spec = (struct mu_tokenizer_spec){.source = copy, .unknown = MU_TOKEN_NONE, .arena = arena};
    return spec;
}

void mu_tokenizer_spec_destroy(struct mu_tokenizer_spec *spec)
{
    if (!spec) return;
    if (spec->map) mu_file_unmap(spec->map);
    mu_free(spec->map);
    mu_free(spec->tokens);
    mu_free(spec->scores);
    mu_free(spec->plain);
    mu_free(spec->merges);
    mu_arena_destroy(spec->arena);
    mu_free(spec);
}

bool mu_merge_split(struct mu_str line, struct mu_merge *out)
{
    const char *space = line.len > 1 ? memchr(line.p + 1, ' ', line.len - 1) : NULL;
    if (!space || space == line.p + line.len - 1) return false;
    size_t left = (size_t)(space - line.p);
    out->left = (struct mu_str){line.p, left};
    out->right = (struct mu_str){space + 1, line.len - left - 1};
    return true;
}

/* tokenizer_config.json in the folder of `path`. */
static mu_status add_config(const char *path, bool whole, struct mu_tokenizer_spec *spec,
                            struct mu_err *err)
{
    const char *slash = strrchr(path, '/');
    char *folder = slash ? mu_strndup(path, (size_t)(slash - path)) : mu_strdup(".");
    char *config = folder ? mu_path_join(folder, "tokenizer_config.json") : NULL;
    mu_status status = config ? MU_OK : mu_fail_memory(err, strlen(path));
    if (config && mu_file_exists(config)) {
        json_t *root = NULL;
        status = mu_json_read(config, CONFIG_BYTES_MAX, &root, err);
        if (status == MU_OK && whole)
            status = mu_tokenizer_read_whole_config(root, config, spec, err);
        else if (status == MU_OK)
            mu_tokenizer_read_config(root, spec);
        json_decref(root);
    }
    mu_free(config);
    mu_free(folder);
    return status;
}

mu_status mu_tokenizer_spec_read_file(const char *path, struct mu_tokenizer_spec **out,
                                      struct mu_err *err)
{
    struct mu_tokenizer_spec *spec = NULL;
    struct mu_file_map *map = mu_calloc(1, sizeof *map);
    const char *ending = strrchr(path, '.');
    bool is_model = ending && strcmp(ending, ".model") == 0;
    if (!map) return mu_fail_memory(err, sizeof *map);
    mu_status status = mu_file_map(path, map, err);
    if (status == MU_OK) {
        struct mu_str bytes = {map->bytes ? (const char *)map->bytes : "", map->size};
        status = is_model ? mu_tokenizer_spec_parse_model(bytes, path, &spec, err)
                          : mu_tokenizer_spec_parse(bytes, path, &spec, err);
        if (status != MU_OK) mu_file_unmap(map);
    }
    if (status != MU_OK) {
        mu_free(map);
        return status;
    }
    spec->map = map;
    status = add_config(path, is_model, spec, err);
    if (status == MU_OK)
        *out = spec;
    else
        mu_tokenizer_spec_destroy(spec);
    return status;
}

static mu_status read_folder(const char *folder, struct mu_tokenizer_spec **out, struct mu_err *err)
{
    char *json = mu_path_join(folder, "tokenizer.json");
    char *model = mu_path_join(folder, "tokenizer.model");
    mu_status status;
    if (!json || !model) {
        status = mu_fail_memory(err, strlen(folder));
    } else if (mu_file_exists(json) || mu_file_exists(model)) {
        status = mu_tokenizer_spec_read_file(mu_file_exists(json) ? json : model, out, err);
    } else {
        status = mu_fail(err, MU_E_MISSING, "there is no tokenizer.json and no tokenizer.model");
        mu_err_where(err, "%s", folder);
        mu_err_cure(err, "other kinds of tokenizer files are not read");
    }
    mu_free(json);
    mu_free(model);
    return status;
}

mu_status mu_tokenizer_spec_read(const struct mu_model_file *file, struct mu_tokenizer_spec **out,
                                 struct mu_err *err)
{
    const struct mu_gguf *gguf = mu_model_file_gguf(file);
    const char *folder = mu_model_file_folder(file), *name = mu_model_file_name(file);
    if (folder) return read_folder(folder, out, err);
    if (!gguf) {
        mu_status status = mu_fail(err, MU_E_MISSING, "this model has no tokenizer");
        mu_err_where(err, "%s", name);
        return status;
    }
    struct mu_tokenizer_spec *spec = mu_tokenizer_spec_new(name, err);
    if (!spec) return MU_E_MEMORY;
    mu_status status = mu_tokenizer_spec_from_gguf(gguf, name, spec, err);
    if (status == MU_OK)
        *out = spec;
    else
        mu_tokenizer_spec_destroy(spec);
    return status;
}
