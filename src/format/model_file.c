/*
 * Opening a model: finds what MODEL means, maps its files, hands them to the reader of their kind,
 * and keeps what came out until close. The only way other rooms reach outside files of a model.
 */
#include "format/format_int.h"

#include "base/file.h"
#include "base/number.h"

#include <stdio.h>

#define ARENA_BYTES_MAX (UINT64_C(1) << 30)
#define SPLITS_MAX      10000

static struct mu_str tensor_name(const void *items, uint64_t i)
{
    return mu_str(((const struct mu_tensor *)items)[i].name);
}

mu_status mu_model_file_room(struct mu_model_file *file, size_t max_files, struct mu_err *err)
{
    file->maps = mu_arena_alloc(file->arena, max_files, sizeof *file->maps);
    file->paths = mu_arena_alloc(file->arena, max_files, sizeof *file->paths);
    if (!file->maps || !file->paths) return mu_fail_memory(err, max_files * sizeof *file->maps);
    return MU_OK;
}

mu_status mu_model_file_map(struct mu_model_file *file, const char *path, struct mu_file_bytes *out,
                            struct mu_err *err)
{
    struct mu_file_map *map = &file->maps[file->n_files];
    const char *copy = mu_arena_strndup(file->arena, path, strlen(path));
    if (!copy) return mu_fail_memory(err, strlen(path));
    MU_TRY(mu_file_map(copy, map, err));
    file->paths[file->n_files] = copy;
    *out = (struct mu_file_bytes){copy, map->bytes, map->size, (unsigned)file->n_files++};
    return MU_OK;
}

/* ---- GGUF, whole or split ------------------------------------------------------------------ */

static mu_status split_fault(const char *path, const char *what, struct mu_err *err)
{
    mu_status status = mu_fail(err, MU_E_INPUT, "%s", what);
    mu_err_where(err, "%s", path);
    return status;
}

/* Part `i` of a split; its number must agree with its name. */
static mu_status open_split_part(struct mu_model_file *file, const char *path, uint64_t i,
                                 uint64_t count, struct mu_err *err)
{
    struct mu_file_bytes bytes;
    struct mu_gguf *gguf;
    uint64_t number = 0, said = 0;
    MU_TRY(mu_model_file_map(file, path, &bytes, err));
    MU_TRY(mu_gguf_parse(&bytes, file->arena, &file->tensors, &gguf, err));
    if (!mu_gguf_u64(gguf, "split.no", &number) || !mu_gguf_u64(gguf, "split.count", &said) ||
        number != i || said != count)
        return split_fault(path, "is not the part of the split that its name says", err);
    return MU_OK;
}

/* Opens what follows a first file named NAME-00001-of-0000N.gguf. */
static mu_status open_split(struct mu_model_file *file, const char *path, uint64_t count,
                            struct mu_err *err)
{
    size_t len = strlen(path), tail = sizeof "-00001-of-00002.gguf" - 1;
    char expected[32];
    if (count > SPLITS_MAX) return split_fault(path, "is split into more than 10,000 files", err);
    (void)snprintf(expected, sizeof expected, "-00001-of-%05u.gguf", (unsigned)count);
    if (len < tail || strcmp(path + len - tail, expected) != 0) {
        mu_status status = split_fault(path, "is not the first file of a split", err);
        mu_err_cure(err, "name the one that ends in %s", expected);
        return status;
    }
    mu_status status = MU_OK;
    for (uint64_t i = 1; i < count && status == MU_OK; i++) {
        struct mu_text part;
        mu_text_init(&part, len + 32);
        mu_text_printf(&part, "%.*s-%05u-of-%05u.gguf", (int)(len - tail), path, (unsigned)i + 1,
                       (unsigned)count);
        status = mu_text_status(&part, err);
        if (status == MU_OK) status = open_split_part(file, mu_text_get(&part), i, count, err);
        mu_text_fini(&part);
    }
    uint64_t said;
    if (status == MU_OK && mu_gguf_u64(file->gguf, "split.tensors.count", &said) &&
        said != file->tensors.n)
        status = split_fault(path, "the split holds another number of tensors than it says", err);
    return status;
}

mu_status mu_model_open_gguf(struct mu_model_file *file, const char *path, unsigned flags,
                             struct mu_err *err)
{
    struct mu_file_bytes bytes;
    uint64_t count = 1;
    MU_TRY(mu_model_file_room(file, SPLITS_MAX, err));
    MU_TRY(mu_model_file_map(file, path, &bytes, err));
    MU_TRY(mu_gguf_parse(&bytes, file->arena, &file->tensors, &file->gguf, err));
    (void)mu_gguf_u64(file->gguf, "split.count", &count);
    if (count > 1) MU_TRY(open_split(file, path, count, err));
    file->format = file->gguf->version == 2 ? "gguf 2" : "gguf 3";
    mu_config_init(&file->config);
    if (!(flags & MU_OPEN_TEXT_ONLY))
        MU_TRY(mu_config_from_gguf(file->gguf, &file->tensors, path, &file->config, err));
    return mu_templates_from_gguf(file, err);
}

/* ---- Open, close --------------------------------------------------------------------------- */

/* One .safetensors file; config.json must lie beside it. */
static mu_status open_safetensors(struct mu_model_file *file, const char *path, unsigned flags,
                                  struct mu_err *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash) return mu_model_open_folder(file, ".", path, flags, err);
    char *folder = mu_strndup(path, slash == path ? 1 : (size_t)(slash - path));
    if (!folder) return mu_fail_memory(err, strlen(path));
    mu_status status = mu_model_open_folder(file, folder, slash + 1, flags, err);
    mu_free(folder);
    return status;
}

static mu_status open_place(struct mu_model_file *file, const struct mu_place *place,
                            unsigned flags, struct mu_err *err)
{
    switch (place->kind) {
    case MU_PLACE_SYNTH:
        return mu_model_open_synth(file, file->name + sizeof "synth:" - 1, flags, err);
    case MU_PLACE_GGUF:
        return mu_model_open_gguf(file, place->path, flags, err);
    case MU_PLACE_SAFETENSORS:
        return open_safetensors(file, place->path, flags, err);
    case MU_PLACE_FOLDER:
        return mu_model_open_folder(file, place->path, NULL, flags, err);
    }
    return MU_E_INTERNAL;
}

static mu_status open_model(struct mu_model_file *file, const char *model, unsigned flags,
                            struct mu_err *err)
{
    struct mu_place place;
    file->arena = mu_arena_create(ARENA_BYTES_MAX);
    if (!file->arena) return mu_fail_memory(err, sizeof *file);
    file->name = mu_arena_strndup(file->arena, model, strlen(model));
    if (!file->name) return mu_fail_memory(err, strlen(model));
    MU_TRY(mu_place_find(model, &place, err));
    mu_status status = open_place(file, &place, flags, err);
    mu_free(place.path);
    MU_TRY(status);
    status = mu_name_index_build(&file->index, file->arena, file->tensors.items, file->tensors.n,
                                 tensor_name, err);
    mu_err_where(err, "%s, tensors", model);
    return status;
}

mu_status mu_model_file_open(const char *model, unsigned flags, struct mu_model_file **out,
                             struct mu_err *err)
{
    struct mu_model_file *file = mu_calloc(1, sizeof *file);
    if (!file) return mu_fail_memory(err, sizeof *file);
    mu_status status = open_model(file, model, flags, err);
    if (status == MU_OK)
        *out = file;
    else
        mu_model_file_close(file);
    return status;
}

void mu_model_file_close(struct mu_model_file *file)
{
    if (!file) return;
    for (size_t i = 0; i < file->n_files; i++)
        mu_file_unmap(&file->maps[i]);
    mu_free(file->tensors.items);
    mu_arena_destroy(file->arena);
    mu_free(file);
}

/* ---- What it holds ------------------------------------------------------------------------- */

const char *mu_model_file_name(const struct mu_model_file *file)
{
    return file->name;
}

const char *mu_model_file_format(const struct mu_model_file *file)
{
    return file->format;
}

bool mu_model_file_is_part(const struct mu_model_file *file, unsigned *number, unsigned *of)
{
    /* NAME-00002-of-00005.safetensors, and the only file that was opened. */
    const char *name = file->n_files == 1 && file->folder ? file->paths[0] : "";
    size_t len = strlen(name), tail = sizeof "-00002-of-00005.safetensors" - 1;
    const char *at = len > tail ? name + len - tail : name;
    uint64_t n, all;
    if (len <= tail || at[0] != '-' || strncmp(at + 6, "-of-", 4) != 0 ||
        !mu_parse_u64((struct mu_str){at + 1, 5}, 1, 99999, &n) ||
        !mu_parse_u64((struct mu_str){at + 10, 5}, 2, 99999, &all))
        return false;
    *number = (unsigned)n;
    *of = (unsigned)all;
    return true;
}

const struct mu_config *mu_model_file_config(const struct mu_model_file *file)
{
    return &file->config;
}

size_t mu_model_file_paths(const struct mu_model_file *file, const char *const **out)
{
    *out = file->paths;
    return file->n_files;
}

size_t mu_model_file_tensors(const struct mu_model_file *file, const struct mu_tensor **out)
{
    *out = file->tensors.items;
    return file->tensors.n;
}

const struct mu_tensor *mu_model_file_find(const struct mu_model_file *file, const char *name)
{
    uint64_t i = mu_name_index_find(&file->index, file->tensors.items, tensor_name, mu_str(name));
    return i == UINT64_MAX ? NULL : &file->tensors.items[i];
}

const char *mu_model_file_chat_template(const struct mu_model_file *file, bool with_tools)
{
    return with_tools && file->template_tools ? file->template_tools : file->template_plain;
}

const struct mu_gguf *mu_model_file_gguf(const struct mu_model_file *file)
{
    return file->gguf;
}

const char *mu_model_file_folder(const struct mu_model_file *file)
{
    return file->folder;
}
