/*
 * One GGUF file (version 2 or 3, little-endian) -> metadata and tensor descriptions, both pointing
 * into the mapping. Knows nothing of splits and of what the keys mean.
 */
#include "format/format_int.h"

#include "base/checked.h"

#define KEYS_MAX       10000
#define KEY_BYTES_MAX  65535
#define NAME_BYTES_MAX 1024
#define GGUF_DIMS_MAX  4
/* Of one entry: a string's length, a type, at least one byte of value; and a tensor's name length,
 * its number of dimensions, type and offset. They bound the counts before anything is allocated. */
#define KEY_BYTES_MIN    13
#define TENSOR_BYTES_MIN 24

struct reader {
    struct mu_cursor c;
    const struct mu_file_bytes *file;
    struct mu_arena *arena;
    struct mu_err *err;
};

static const uint8_t type_bytes[] = {
    [MU_GGUF_U8] = 1,  [MU_GGUF_I8] = 1,  [MU_GGUF_U16] = 2, [MU_GGUF_I16] = 2,
    [MU_GGUF_U32] = 4, [MU_GGUF_I32] = 4, [MU_GGUF_F32] = 4, [MU_GGUF_BOOL] = 1,
    [MU_GGUF_U64] = 8, [MU_GGUF_I64] = 8, [MU_GGUF_F64] = 8,
};

static mu_status fault(struct reader *r, uint64_t at, const char *what)
{
    mu_status status = mu_fail(r->err, MU_E_INPUT, "%s", what);
    mu_err_where(r->err, "%s, byte %llu", r->file->path, (unsigned long long)at);
    return status;
}

/* What no second download would mend. */
static mu_status foreign(struct reader *r, uint64_t at, const char *what)
{
    mu_status status = fault(r, at, what);
    mu_err_cure(r->err, "name a little-endian GGUF file of version 2 or 3");
    return status;
}

static mu_status fault_of(struct reader *r, const char *kind, struct mu_str name, const char *what)
{
    mu_status status = mu_fail(r->err, MU_E_INPUT, "%s", what);
    mu_err_where(r->err, "%s, %s '%.*s'", r->file->path, kind, (int)MU_MIN(name.len, 80), name.p);
    return status;
}

struct mu_str mu_gguf_next_string(struct mu_cursor *cursor)
{
    uint64_t len = mu_cursor_u64(cursor);
    const uint8_t *p = mu_cursor_take(cursor, len);
    return p ? (struct mu_str){(const char *)p, len} : (struct mu_str){"", 0};
}

static mu_status skip_elements(struct reader *r, struct mu_gguf_value *v)
{
    uint64_t n_bytes = 0;
    if (v->type == MU_GGUF_STRING) {
        for (uint64_t i = 0; i < v->n && !r->c.failed; i++)
            (void)mu_gguf_next_string(&r->c);
    } else if (!mu_mul(v->n, type_bytes[v->type], &n_bytes) || !mu_cursor_take(&r->c, n_bytes)) {
        r->c.failed = true;
    }
    if (r->c.failed) return fault_of(r, "key", v->key, "the value goes beyond the end of the file");
    return MU_OK;
}

static mu_status read_value(struct reader *r, struct mu_gguf_value *v)
{
    v->key = mu_gguf_next_string(&r->c);
    uint32_t type = mu_cursor_u32(&r->c);
    if (r->c.failed) return fault(r, r->c.pos, "the file ends inside the metadata");
    if (v->key.len == 0 || v->key.len > KEY_BYTES_MAX)
        return fault(r, r->c.pos, "a metadata key is empty or too long");
    v->n = 1;
    if (type == MU_GGUF_ARRAY) {
        v->is_array = true;
        type = mu_cursor_u32(&r->c);
        v->n = mu_cursor_u64(&r->c);
        if (type == MU_GGUF_ARRAY)
            return fault_of(r, "key", v->key, "an array of arrays is not supported");
    }
    if (type > MU_GGUF_F64) return fault_of(r, "key", v->key, "unknown type of value");
    v->type = (enum mu_gguf_type)type;
    v->bytes = r->c.bytes + r->c.pos;
    uint64_t begin = r->c.pos;
    MU_TRY(skip_elements(r, v));
    v->n_bytes = r->c.pos - begin;
    return MU_OK;
}

static struct mu_str value_key(const void *items, uint64_t i)
{
    return ((const struct mu_gguf_value *)items)[i].key;
}

static mu_status read_metadata(struct reader *r, struct mu_gguf *gguf)
{
    if (gguf->n_values > KEYS_MAX || gguf->n_values > mu_cursor_left(&r->c) / KEY_BYTES_MIN)
        return fault(r, 16, "the number of metadata keys cannot be right");
    gguf->values = mu_arena_alloc(r->arena, gguf->n_values, sizeof *gguf->values);
    if (!gguf->values) return mu_fail_memory(r->err, gguf->n_values * sizeof *gguf->values);
    for (uint64_t i = 0; i < gguf->n_values; i++)
        MU_TRY(read_value(r, &gguf->values[i]));
    return mu_name_index_build(&gguf->index, r->arena, gguf->values, gguf->n_values, value_key,
                               r->err);
}

static mu_status read_dims(struct reader *r, struct mu_str name, struct mu_tensor *t)
{
    t->n_dims = mu_cursor_u32(&r->c);
    if (t->n_dims > GGUF_DIMS_MAX) return fault_of(r, "tensor", name, "has more than 4 dimensions");
    /* The file has them fastest first. */
    for (unsigned i = t->n_dims; i-- > 0;) {
        t->dims[i] = mu_cursor_u64(&r->c);
        if (t->dims[i] == 0 && !r->c.failed)
            return fault_of(r, "tensor", name, "has a dimension of 0");
    }
    return MU_OK;
}

static mu_status read_tensor(struct reader *r, struct mu_tensor *t)
{
    struct mu_str name = mu_gguf_next_string(&r->c);
    if (name.len > NAME_BYTES_MAX || memchr(name.p, '\0', name.len))
        return fault(r, r->c.pos, "a tensor's name is too long or holds a NUL");
    MU_TRY(read_dims(r, name, t));
    uint32_t type = mu_cursor_u32(&r->c);
    t->file_offset = mu_cursor_u64(&r->c); /* relative until the data's begin is known */
    if (r->c.failed) return fault(r, r->c.pos, "the file ends inside the list of tensors");
    if (!mu_dtype_by_gguf(type, &t->type))
        return fault_of(r, "tensor", name, "has an unknown or removed type");
    uint64_t row;
    if (!mu_tensor_measure(t) ||
        (t->n_dims > 0 && !mu_dtype_bytes(t->type, t->dims[t->n_dims - 1], &row)))
        return fault_of(r, "tensor", name, "has dimensions that overflow or do not fit its type");
    t->name = mu_arena_strndup(r->arena, name.p, name.len);
    if (!t->name) return mu_fail_memory(r->err, name.len);
    t->file = r->file->number;
    return MU_OK;
}

/* Once the header has been read, offsets become places in the mapping. */
static mu_status place_tensors(struct reader *r, struct mu_tensor *tensors, uint64_t n,
                               uint64_t alignment)
{
    uint64_t begin = MU_ROUND_UP(r->c.pos, alignment);
    for (uint64_t i = 0; i < n; i++) {
        struct mu_tensor *t = &tensors[i];
        struct mu_str name = mu_str(t->name);
        if (t->file_offset % alignment != 0)
            return fault_of(r, "tensor", name, "its data is not aligned");
        if (begin > r->file->size ||
            !mu_range_ok(t->file_offset, t->n_bytes, r->file->size - begin))
            return fault_of(r, "tensor", name, "its data goes beyond the end of the file");
        t->file_offset += begin;
        t->data = r->file->bytes + t->file_offset;
    }
    return MU_OK;
}

static mu_status read_alignment(struct reader *r, const struct mu_gguf *gguf, uint64_t *out)
{
    *out = 32;
    bool given = mu_gguf_find(gguf, "general.alignment") != NULL;
    if (given && (!mu_gguf_u64(gguf, "general.alignment", out) || *out == 0 || *out > 1 << 20 ||
                  (*out & (*out - 1)) != 0))
        return fault_of(r, "key", MU_STR("general.alignment"), "must be a power of two");
    return MU_OK;
}

static mu_status read_header(struct reader *r, struct mu_gguf *gguf)
{
    const uint8_t *magic = mu_cursor_take(&r->c, 4);
    if (!magic || memcmp(magic, "GGUF", 4) != 0)
        return foreign(r, 0, "does not begin with GGUF, so it is not a GGUF file");
    gguf->version = mu_cursor_u32(&r->c);
    gguf->n_tensors = mu_cursor_u64(&r->c);
    gguf->n_values = mu_cursor_u64(&r->c);
    if (r->c.failed) return fault(r, r->c.pos, "the file ends inside its first 24 bytes");
    if (gguf->version == 0x02000000 || gguf->version == 0x03000000)
        return foreign(r, 4, "a big-endian GGUF file is not supported");
    if (gguf->version != 2 && gguf->version != 3)
        return foreign(r, 4, "GGUF versions other than 2 and 3 are not supported");
    if (gguf->n_tensors > mu_cursor_left(&r->c) / TENSOR_BYTES_MIN)
        return fault(r, 8, "the number of tensors cannot be right");
    return MU_OK;
}

static mu_status parse(struct reader *r, struct mu_tensor_list *tensors, struct mu_gguf *gguf)
{
    uint64_t alignment, first = tensors->n;
    MU_TRY(read_header(r, gguf));
    MU_TRY(read_metadata(r, gguf));
    MU_TRY(read_alignment(r, gguf, &alignment));
    MU_TRY(mu_tensor_list_reserve(tensors, gguf->n_tensors, r->err));
    for (uint64_t i = 0; i < gguf->n_tensors; i++, tensors->n++)
        MU_TRY(read_tensor(r, &tensors->items[tensors->n]));
    return place_tensors(r, tensors->items + first, gguf->n_tensors, alignment);
}

mu_status mu_gguf_parse(const struct mu_file_bytes *file, struct mu_arena *arena,
                        struct mu_tensor_list *tensors, struct mu_gguf **out, struct mu_err *err)
{
    struct reader r = {mu_cursor_over(file->bytes, file->size), file, arena, err};
    struct mu_gguf *gguf = mu_arena_alloc(arena, 1, sizeof *gguf);
    if (!gguf) return mu_fail_memory(err, sizeof *gguf);
    mu_status status = parse(&r, tensors, gguf);
    if (status != MU_OK) {
        mu_err_where(err, "%s", file->path);
        mu_err_cure(err, "the file is damaged or was not fully downloaded: fetch it again");
        return status;
    }
    *out = gguf;
    return MU_OK;
}

const struct mu_gguf_value *mu_gguf_find(const struct mu_gguf *gguf, const char *key)
{
    uint64_t i = mu_name_index_find(&gguf->index, gguf->values, value_key, mu_str(key));
    return i == UINT64_MAX ? NULL : &gguf->values[i];
}

static const struct mu_gguf_value *find_plain(const struct mu_gguf *gguf, const char *key)
{
    const struct mu_gguf_value *v = mu_gguf_find(gguf, key);
    return v && !v->is_array ? v : NULL;
}

bool mu_gguf_element_u64(const struct mu_gguf_value *v, uint64_t i, uint64_t *out)
{
    if (v->type == MU_GGUF_STRING || v->type == MU_GGUF_F32 || v->type == MU_GGUF_F64 || i >= v->n)
        return false;
    unsigned size = type_bytes[v->type];
    uint64_t raw = 0;
    memcpy(&raw, v->bytes + i * size, size);
    bool is_signed = v->type == MU_GGUF_I8 || v->type == MU_GGUF_I16 || v->type == MU_GGUF_I32 ||
                     v->type == MU_GGUF_I64;
    if (is_signed && raw >> (8 * size - 1)) return false;
    *out = raw;
    return true;
}

bool mu_gguf_u64(const struct mu_gguf *gguf, const char *key, uint64_t *out)
{
    const struct mu_gguf_value *v = find_plain(gguf, key);
    return v && v->type != MU_GGUF_BOOL && mu_gguf_element_u64(v, 0, out);
}

bool mu_gguf_f64(const struct mu_gguf *gguf, const char *key, double *out)
{
    const struct mu_gguf_value *v = find_plain(gguf, key);
    uint64_t whole;
    float single;
    if (!v) return false;
    if (v->type == MU_GGUF_F32) {
        memcpy(&single, v->bytes, sizeof single);
        *out = (double)single;
        return true;
    }
    if (v->type == MU_GGUF_F64) {
        memcpy(out, v->bytes, sizeof *out);
        return true;
    }
    if (!mu_gguf_u64(gguf, key, &whole) || whole > UINT64_C(1) << 53) return false;
    *out = (double)whole;
    return true;
}

bool mu_gguf_bool(const struct mu_gguf *gguf, const char *key, bool *out)
{
    const struct mu_gguf_value *v = find_plain(gguf, key);
    if (!v || v->type != MU_GGUF_BOOL) return false;
    *out = v->bytes[0] != 0;
    return true;
}

bool mu_gguf_string(const struct mu_gguf *gguf, const char *key, struct mu_str *out)
{
    const struct mu_gguf_value *v = find_plain(gguf, key);
    if (!v || v->type != MU_GGUF_STRING) return false;
    struct mu_cursor c = mu_cursor_over(v->bytes, v->n_bytes);
    *out = mu_gguf_next_string(&c);
    return true;
}
