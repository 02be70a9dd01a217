/*
 * Writing GGUF (version 3); see format.h. Knows how the file is laid out, not what is quantised or
 * permuted on the way: the caller hands over bytes as they shall stand in the file.
 */
#include "format/format_int.h"

#include "base/file.h"

#include <math.h>

#define METADATA_BYTES_MAX (1u << 30)
#define ALIGNMENT          32

struct mu_gguf_out {
    struct mu_file_out file;
    struct mu_text keys;     /* each between line feeds, to find those already given */
    struct mu_text metadata; /* as it will stand in the file */
    struct mu_text tensors;
    uint64_t n_keys, n_tensors;
    uint64_t *sizes; /* of the tensors, in order */
    uint64_t data_bytes;
    uint64_t at, written; /* the tensor being written, and how much of it */
    struct mu_err err;    /* the first fault of a declaration */
};

mu_status mu_gguf_out_create(const char *path, struct mu_gguf_out **out, struct mu_err *err)
{
    struct mu_gguf_out *o = mu_calloc(1, sizeof *o);
    if (!o) return mu_fail_memory(err, sizeof *o);
    mu_text_init(&o->keys, METADATA_BYTES_MAX);
    mu_text_init(&o->metadata, METADATA_BYTES_MAX);
    mu_text_init(&o->tensors, METADATA_BYTES_MAX);
    mu_status status = mu_file_out_open(&o->file, path, err);
    if (status == MU_OK)
        *out = o;
    else
        mu_gguf_out_close(o);
    return status;
}

void mu_gguf_out_close(struct mu_gguf_out *out)
{
    if (!out) return;
    mu_file_out_close(&out->file);
    mu_text_fini(&out->keys);
    mu_text_fini(&out->metadata);
    mu_text_fini(&out->tensors);
    mu_free(out->sizes);
    mu_free(out);
}

/* ---- Metadata ------------------------------------------------------------------------------ */

static void add_u32(struct mu_text *text, uint32_t value)
{
    mu_text_add(text, &value, sizeof value);
}

static void add_u64(struct mu_text *text, uint64_t value)
{
    mu_text_add(text, &value, sizeof value);
}

static void add_string(struct mu_text *text, struct mu_str value)
{
    add_u64(text, value.len);
    mu_text_add(text, value.p, value.len);
}

/* Begins a value; false when the key was given before. */
static bool add_key(struct mu_gguf_out *out, struct mu_str key, enum mu_gguf_type type)
{
    struct mu_text line;
    mu_text_init(&line, METADATA_BYTES_MAX);
    mu_text_printf(&line, "\n%.*s\n", (int)key.len, key.p);
    bool is_new = !strstr(mu_text_get(&out->keys), mu_text_get(&line));
    mu_text_str(&out->keys, mu_text_get(&line));
    if (line.status != MU_OK) out->keys.status = line.status;
    mu_text_fini(&line);
    if (!is_new) return false;
    add_string(&out->metadata, key);
    add_u32(&out->metadata, type);
    out->n_keys++;
    return true;
}

static bool add_array(struct mu_gguf_out *out, const char *key, enum mu_gguf_type type, uint64_t n)
{
    if (!add_key(out, mu_str(key), MU_GGUF_ARRAY)) return false;
    add_u32(&out->metadata, type);
    add_u64(&out->metadata, n);
    return true;
}

void mu_gguf_out_u32(struct mu_gguf_out *out, const char *key, uint32_t value)
{
    if (add_key(out, mu_str(key), MU_GGUF_U32)) add_u32(&out->metadata, value);
}

void mu_gguf_out_f32(struct mu_gguf_out *out, const char *key, float value)
{
    if (add_key(out, mu_str(key), MU_GGUF_F32)) add_u32(&out->metadata, mu_f32_bits(value));
}

void mu_gguf_out_bool(struct mu_gguf_out *out, const char *key, bool value)
{
    if (add_key(out, mu_str(key), MU_GGUF_BOOL)) mu_text_char(&out->metadata, value);
}

void mu_gguf_out_string(struct mu_gguf_out *out, const char *key, struct mu_str value)
{
    if (add_key(out, mu_str(key), MU_GGUF_STRING)) add_string(&out->metadata, value);
}

void mu_gguf_out_strings(struct mu_gguf_out *out, const char *key, const struct mu_str *values,
                         uint64_t n)
{
    if (!add_array(out, key, MU_GGUF_STRING, n)) return;
    for (uint64_t i = 0; i < n; i++)
        add_string(&out->metadata, values[i]);
}

void mu_gguf_out_u8s(struct mu_gguf_out *out, const char *key, const void *values, uint64_t n)
{
    if (add_array(out, key, MU_GGUF_U8, n)) mu_text_add(&out->metadata, values, n);
}

void mu_gguf_out_i32s(struct mu_gguf_out *out, const char *key, const int32_t *values, uint64_t n)
{
    if (add_array(out, key, MU_GGUF_I32, n))
        mu_text_add(&out->metadata, values, n * sizeof *values);
}

void mu_gguf_out_f32s(struct mu_gguf_out *out, const char *key, const float *values, uint64_t n)
{
    if (add_array(out, key, MU_GGUF_F32, n))
        mu_text_add(&out->metadata, values, n * sizeof *values);
}

/* ---- Metadata of another model ------------------------------------------------------------- */

static bool starts_with(struct mu_str s, const char *start)
{
    size_t len = strlen(start);
    return s.len >= len && memcmp(s.p, start, len) == 0;
}

static void copy_metadata(struct mu_gguf_out *out, const struct mu_gguf *gguf)
{
    for (uint64_t i = 0; i < gguf->n_values; i++) {
        const struct mu_gguf_value *v = &gguf->values[i];
        if (starts_with(v->key, "split.") || mu_str_is(v->key, "general.file_type") ||
            mu_str_is(v->key, "general.alignment"))
            continue;
        if (!add_key(out, v->key, v->is_array ? MU_GGUF_ARRAY : v->type)) continue;
        if (v->is_array) {
            add_u32(&out->metadata, v->type);
            add_u64(&out->metadata, v->n);
        }
        mu_text_add(&out->metadata, v->bytes, v->n_bytes);
    }
}

/* One fact of the configuration under its GGUF name; zeros are facts that are absent. */
static void add_field(struct mu_gguf_out *out, const struct mu_config *c, const char *key,
                      const struct mu_config_field *f)
{
    const void *at = (const char *)c + f->offset;
    switch (f->kind) {
    case MU_FIELD_U32:
        if (*(const uint32_t *)at) mu_gguf_out_u32(out, key, *(const uint32_t *)at);
        break;
    case MU_FIELD_U64:
        mu_gguf_out_u32(out, key, (uint32_t)MU_MIN(*(const uint64_t *)at, UINT32_MAX));
        break;
    case MU_FIELD_F64:
        if (*(const double *)at != 0) mu_gguf_out_f32(out, key, (float)*(const double *)at);
        break;
    case MU_FIELD_FLAG:
        if (*(const bool *)at) mu_gguf_out_bool(out, key, true);
        break;
    case MU_FIELD_TEXT:
        break;
    }
}

static void add_number(struct mu_gguf_out *out, const char *arch, const char *name, double value)
{
    char key[96];
    struct mu_text text;
    if (value == 0 || !isfinite(value)) return;
    mu_text_init(&text, sizeof key);
    mu_text_printf(&text, "%s.%s", arch, name);
    mu_gguf_out_f32(out, mu_text_get(&text), (float)value);
    mu_text_fini(&text);
}

/* Readers of GGUF do not know longrope's rule for it. */
static double attention_factor(const struct mu_config *c)
{
    double original = (double)c->rope.original_context;
    if (c->rope.kind != MU_ROPE_LONGROPE || c->rope.attention_factor != 0 || original == 0)
        return c->rope.attention_factor;
    double factor = (double)c->context / original;
    return factor <= 1 ? 1 : sqrt(1 + log(factor) / log(original));
}

/* llama3 factors have no key: the caller writes them as the tensor rope_freqs.weight. */
static void add_rope(struct mu_gguf_out *out, const char *arch, const struct mu_config *c)
{
    static const char *const kinds[] = {
        [MU_ROPE_DEFAULT] = NULL, [MU_ROPE_LINEAR] = "linear", [MU_ROPE_DYNAMIC] = NULL,
        [MU_ROPE_LLAMA3] = NULL,  [MU_ROPE_YARN] = "yarn",     [MU_ROPE_LONGROPE] = "longrope",
    };
    char key[96];
    struct mu_text text;
    mu_text_init(&text, sizeof key);
    uint32_t head = c->qk_rope_head_dim ? c->qk_rope_head_dim : c->head_dim;
    mu_text_printf(&text, "%s.rope.dimension_count", arch);
    mu_gguf_out_u32(out, mu_text_get(&text), (uint32_t)fmax(0, head * c->rope.partial));
    add_number(out, arch, "rope.freq_base", c->rope.theta);
    add_number(out, arch, "rope.freq_base_swa", c->rope_local_theta);
    if (kinds[c->rope.kind]) {
        mu_text_clear(&text);
        mu_text_printf(&text, "%s.rope.scaling.type", arch);
        mu_gguf_out_string(out, mu_text_get(&text), mu_str(kinds[c->rope.kind]));
        /* Of longrope the lists say it all; a factor would be applied as well. */
        if (c->rope.kind != MU_ROPE_LONGROPE)
            add_number(out, arch, "rope.scaling.factor", c->rope.factor);
        add_number(out, arch, "rope.scaling.attn_factor", attention_factor(c));
        add_number(out, arch, "rope.scaling.yarn_log_multiplier", 0.1 * c->rope.mscale_all_dim);
        mu_text_clear(&text);
        mu_text_printf(&text, "%s.rope.scaling.original_context_length", arch);
        if (c->rope.original_context)
            mu_gguf_out_u32(out, mu_text_get(&text),
                            (uint32_t)MU_MIN(c->rope.original_context, UINT32_MAX));
    }
    if (text.status != MU_OK) out->metadata.status = text.status;
    mu_text_fini(&text);
}

/* One KV head, whose key is the latent and what is rotated, and whose value is the latent. */
static void add_latent_attention(struct mu_gguf_out *out, const char *arch,
                                 const struct mu_config *c)
{
    const struct {
        const char *name;
        uint32_t value;
    } facts[] = {
        {"attention.head_count_kv", 1},
        {"attention.key_length", c->kv_lora_rank + c->qk_rope_head_dim},
        {"attention.value_length", c->kv_lora_rank},
        {"attention.key_length_mla", c->qk_nope_head_dim + c->qk_rope_head_dim},
        {"attention.value_length_mla", c->v_head_dim},
        {"expert_gating_func", strcmp(c->architecture, "deepseek_v3") == 0 ? 2 : 1},
    };
    struct mu_text key;
    mu_text_init(&key, 128);
    for (size_t i = 0; i < MU_ARRAY_LEN(facts); i++) {
        mu_text_clear(&key);
        mu_text_printf(&key, "%s.%s", arch, facts[i].name);
        mu_gguf_out_u32(out, mu_text_get(&key), facts[i].value);
    }
    if (key.status != MU_OK) out->metadata.status = key.status;
    mu_text_fini(&key);
}

static void add_config(struct mu_gguf_out *out, const struct mu_config *c)
{
    const char *arch = mu_architecture_to_gguf(c->architecture);
    struct mu_text key;
    mu_text_init(&key, 128);
    mu_gguf_out_string(out, "general.architecture", mu_str(arch));
    if (c->kv_lora_rank) add_latent_attention(out, arch, c);
    for (const struct mu_config_field *f = mu_config_fields; f->json || f->gguf; f++) {
        if (!f->gguf) continue;
        mu_text_clear(&key);
        mu_text_printf(&key, "%s.%s", arch, f->gguf);
        add_field(out, c, mu_text_get(&key), f);
    }
    mu_text_clear(&key);
    mu_text_printf(&key, "%s.attention.value_length", arch);
    mu_gguf_out_u32(out, mu_text_get(&key), c->v_head_dim ? c->v_head_dim : c->head_dim);
    if (key.status != MU_OK) out->metadata.status = key.status;
    mu_text_fini(&key);
    add_rope(out, arch, c);
    if (c->bos != MU_TOKEN_NONE) mu_gguf_out_u32(out, "tokenizer.ggml.bos_token_id", c->bos);
    if (c->pad != MU_TOKEN_NONE) mu_gguf_out_u32(out, "tokenizer.ggml.padding_token_id", c->pad);
    if (c->n_eos > 0) mu_gguf_out_u32(out, "tokenizer.ggml.eos_token_id", c->eos[0]);
    if (c->n_eos > 1) mu_gguf_out_u32(out, "tokenizer.ggml.eot_token_id", c->eos[1]);
}

void mu_gguf_out_metadata_of(struct mu_gguf_out *out, const struct mu_model_file *source)
{
    if (source->gguf) {
        copy_metadata(out, source->gguf);
        return;
    }
    add_config(out, &source->config);
    if (source->template_plain)
        mu_gguf_out_string(out, "tokenizer.chat_template", mu_str(source->template_plain));
    if (source->template_tools)
        mu_gguf_out_string(out, "tokenizer.chat_template.tool_use", mu_str(source->template_tools));
}

/* ---- Tensors ------------------------------------------------------------------------------- */

void mu_gguf_out_tensor(struct mu_gguf_out *out, const char *name, enum mu_dtype type,
                        unsigned n_dims, const uint64_t *dims)
{
    struct mu_tensor t = {.type = type, .n_dims = n_dims};
    uint64_t row;
    if (n_dims < 1 || n_dims > 4 || mu_dtype(type)->gguf < 0) {
        (void)mu_fail(&out->err, MU_E_UNSUPPORTED, "tensor '%s' of %u dimensions and type %s", name,
                      n_dims, mu_dtype(type)->name);
        return;
    }
    memcpy(t.dims, dims, n_dims * sizeof *dims);
    if (!mu_tensor_measure(&t) || !mu_dtype_bytes(type, dims[n_dims - 1], &row)) {
        (void)mu_fail(&out->err, MU_E_INPUT, "rows of tensor '%s' are not whole blocks of %s", name,
                      mu_dtype(type)->name);
        return;
    }
    uint64_t *sizes = mu_realloc(out->sizes, (out->n_tensors + 1) * sizeof *sizes);
    if (!sizes) {
        (void)mu_fail_memory(&out->err, (out->n_tensors + 1) * sizeof *sizes);
        return;
    }
    out->sizes = sizes;
    sizes[out->n_tensors++] = t.n_bytes;
    add_string(&out->tensors, mu_str(name));
    add_u32(&out->tensors, n_dims);
    for (unsigned i = n_dims; i-- > 0;)
        add_u64(&out->tensors, dims[i]);
    add_u32(&out->tensors, (uint32_t)mu_dtype(type)->gguf);
    add_u64(&out->tensors, out->data_bytes);
    out->data_bytes += MU_ROUND_UP(t.n_bytes, ALIGNMENT);
}

static mu_status pad(struct mu_gguf_out *out, uint64_t written, struct mu_err *err)
{
    static const char zeros[ALIGNMENT];
    uint64_t n = MU_ROUND_UP(written, ALIGNMENT) - written;
    return mu_file_out_write(&out->file, zeros, n, err);
}

mu_status mu_gguf_out_begin(struct mu_gguf_out *out, struct mu_err *err)
{
    if (out->err.code != MU_OK) {
        if (err) *err = out->err;
        return out->err.code;
    }
    MU_TRY(mu_text_status(&out->keys, err));
    MU_TRY(mu_text_status(&out->metadata, err));
    MU_TRY(mu_text_status(&out->tensors, err));
    const uint32_t version = 3;
    MU_TRY(mu_file_out_write(&out->file, "GGUF", 4, err));
    MU_TRY(mu_file_out_write(&out->file, &version, sizeof version, err));
    MU_TRY(mu_file_out_write(&out->file, &out->n_tensors, 8, err));
    MU_TRY(mu_file_out_write(&out->file, &out->n_keys, 8, err));
    MU_TRY(mu_file_out_write(&out->file, mu_text_get(&out->metadata), out->metadata.len, err));
    MU_TRY(mu_file_out_write(&out->file, mu_text_get(&out->tensors), out->tensors.len, err));
    return pad(out, 24 + out->metadata.len + out->tensors.len, err);
}

mu_status mu_gguf_out_bytes(struct mu_gguf_out *out, const void *bytes, uint64_t n,
                            struct mu_err *err)
{
    if (out->at == out->n_tensors || n > out->sizes[out->at] - out->written)
        return mu_fail(err, MU_E_INTERNAL, "more bytes than the tensors that were declared");
    MU_TRY(mu_file_out_write(&out->file, bytes, n, err));
    out->written += n;
    if (out->written < out->sizes[out->at]) return MU_OK;
    MU_TRY(pad(out, out->written, err));
    out->at++;
    out->written = 0;
    return MU_OK;
}

mu_status mu_gguf_out_commit(struct mu_gguf_out *out, struct mu_err *err)
{
    if (out->at != out->n_tensors)
        return mu_fail(err, MU_E_INTERNAL, "%llu declared tensors were not written",
                       (unsigned long long)(out->n_tensors - out->at));
    return mu_file_out_commit(&out->file, err);
}
