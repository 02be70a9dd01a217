/*
 * One safetensors file -> checked tensor descriptions, as strictly as the reference reader and a
 * little more: duplicate names and headers that do not begin with '{' are refused too. Knows
 * nothing of folders and shards.
 */
#include "format/format_int.h"

#include "base/checked.h"

#include <stdlib.h>

#define HEADER_BYTES_MAX 100000000
/* Each comma, brace and bracket is at most one JSON value of some hundred bytes in memory; real
 * headers have about ten for a tensor. */
#define HEADER_VALUES_MAX 4000000

struct header {
    const struct mu_file_bytes *file;
    struct mu_err *err;
    uint64_t data_begin;
    const char *tensor; /* being read, for messages */
};

static mu_status bad(struct header *h, const char *what)
{
    mu_status status = mu_fail(h->err, MU_E_INPUT, "%s", what);
    mu_err_where(h->err, "%s, tensor '%.80s'", h->file->path, h->tensor);
    return status;
}

static bool uint_of(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static mu_status read_shape(struct header *h, const json_t *shape, struct mu_tensor *t)
{
    if (!json_is_array(shape)) return bad(h, "has no shape");
    if (json_array_size(shape) > MU_DIMS_MAX) return bad(h, "has more than 8 dimensions");
    t->n_dims = (unsigned)json_array_size(shape);
    for (unsigned i = 0; i < t->n_dims; i++)
        if (!uint_of(json_array_get(shape, i), &t->dims[i]))
            return bad(h, "has a dimension that is not a number of at least 0");
    return MU_OK;
}

static mu_status read_entry(struct header *h, const json_t *entry, struct mu_tensor *t)
{
    const json_t *dtype = json_object_get(entry, "dtype");
    const json_t *offsets = json_object_get(entry, "data_offsets");
    if (!json_is_object(entry)) return bad(h, "is not an object");
    if (!json_is_string(dtype)) return bad(h, "has no dtype");
    struct mu_str name = {json_string_value(dtype), json_string_length(dtype)};
    if (!mu_dtype_by_safetensors(name, &t->type)) return bad(h, "has an unknown dtype");
    MU_TRY(read_shape(h, json_object_get(entry, "shape"), t));
    uint64_t begin, end;
    if (json_array_size(offsets) != 2 || !uint_of(json_array_get(offsets, 0), &begin) ||
        !uint_of(json_array_get(offsets, 1), &end))
        return bad(h, "has no data_offsets of two numbers");
    if (!mu_tensor_measure(t))
        return bad(h, "has a shape whose size is not whole bytes or too big");
    if (end < begin || end - begin != t->n_bytes)
        return bad(h, "has data_offsets that do not match its shape");
    if (end > h->file->size - h->data_begin) return bad(h, "lies beyond the end of the file");
    t->file_offset = h->data_begin + begin;
    t->data = h->file->bytes + t->file_offset;
    t->file = h->file->number;
    return MU_OK;
}

static int by_offset(const void *a, const void *b)
{
    const struct mu_tensor *x = *(const struct mu_tensor *const *)a;
    const struct mu_tensor *y = *(const struct mu_tensor *const *)b;
    if (x->file_offset != y->file_offset) return x->file_offset < y->file_offset ? -1 : 1;
    return (x->n_bytes > y->n_bytes) - (x->n_bytes < y->n_bytes);
}

/* The tensors must cover the data exactly: no holes, no overlap, nothing behind the last one. */
static mu_status check_cover(struct header *h, const struct mu_tensor *tensors, uint64_t n)
{
    const struct mu_tensor **order = mu_calloc(n, sizeof *order);
    if (!order) return mu_fail_memory(h->err, n * sizeof *order);
    for (uint64_t i = 0; i < n; i++)
        order[i] = &tensors[i];
    qsort(order, n, sizeof *order, by_offset);
    mu_status status = MU_OK;
    uint64_t end = h->data_begin;
    for (uint64_t i = 0; i < n && status == MU_OK; i++) {
        h->tensor = order[i]->name;
        if (order[i]->file_offset < end) status = bad(h, "shares bytes with another tensor");
        if (order[i]->file_offset > end) status = bad(h, "leaves unused bytes before it");
        end = order[i]->file_offset + order[i]->n_bytes;
    }
    mu_free(order);
    if (status == MU_OK && end != h->file->size)
        status = mu_fail(h->err, MU_E_INPUT, "holds %llu bytes that belong to no tensor",
                         (unsigned long long)(h->file->size - end));
    return status;
}

static mu_status check_metadata(struct header *h, json_t *metadata)
{
    const char *key;
    json_t *value;
    if (json_is_null(metadata)) return MU_OK;
    h->tensor = "__metadata__";
    if (!json_is_object(metadata)) return bad(h, "is not an object");
    json_object_foreach(metadata, key, value)
    {
        if (!json_is_string(value)) return bad(h, "holds something that is not text");
    }
    return MU_OK;
}

static mu_status read_tensors(struct header *h, json_t *root, struct mu_arena *arena,
                              struct mu_tensor_list *list)
{
    const char *key;
    json_t *entry;
    uint64_t first = list->n;
    if (!json_is_object(root)) return mu_fail(h->err, MU_E_INPUT, "the header is not an object");
    MU_TRY(mu_tensor_list_reserve(list, json_object_size(root), h->err));
    json_object_foreach(root, key, entry)
    {
        if (strcmp(key, "__metadata__") == 0) {
            MU_TRY(check_metadata(h, entry));
            continue;
        }
        struct mu_tensor *t = &list->items[list->n];
        h->tensor = key;
        MU_TRY(read_entry(h, entry, t));
        t->name = mu_arena_strndup(arena, key, strlen(key));
        if (!t->name) return mu_fail_memory(h->err, strlen(key));
        list->n++;
    }
    return check_cover(h, list->items + first, list->n - first);
}

static mu_status check_header(struct mu_str header, struct mu_err *err)
{
    uint64_t n = 0;
    if (header.len == 0 || header.p[0] != '{')
        return mu_fail(err, MU_E_INPUT, "the header does not begin with '{'");
    for (size_t i = 0; i < header.len; i++) {
        char c = header.p[i];
        n += c == ',' || c == '{' || c == '[';
    }
    if (n > HEADER_VALUES_MAX)
        return mu_fail(err, MU_E_INPUT, "the header holds more than %d values", HEADER_VALUES_MAX);
    return MU_OK;
}

mu_status mu_safetensors_parse(const struct mu_file_bytes *file, struct mu_arena *arena,
                               struct mu_tensor_list *tensors, struct mu_err *err)
{
    struct mu_cursor c = mu_cursor_over(file->bytes, file->size);
    struct mu_str header = {NULL, mu_cursor_u64(&c)};
    mu_status status = MU_OK;
    json_t *root = NULL;
    if (c.failed)
        status = mu_fail(err, MU_E_INPUT, "ends inside the 8 bytes of the header's length");
    else if (header.len > HEADER_BYTES_MAX)
        status = mu_fail(err, MU_E_INPUT, "the header is said to be longer than 100 MB");
    else if (!(header.p = (const char *)mu_cursor_take(&c, header.len)))
        status = mu_fail(err, MU_E_INPUT, "ends inside the header");
    if (status == MU_OK) status = check_header(header, err);
    if (status == MU_OK) status = mu_json_parse(header, file->path, &root, err);
    if (status == MU_OK) {
        struct header h = {.file = file, .err = err, .data_begin = 8 + header.len, .tensor = ""};
        status = read_tensors(&h, root, arena, tensors);
    }
    json_decref(root);
    if (status != MU_OK) {
        mu_err_where(err, "%s", file->path);
        mu_err_cure(err, "the file is damaged or was not fully downloaded: fetch it again");
    }
    return status;
}
