/*
 * config.json and generation_config.json -> struct mu_config, in the spellings of transformers 4
 * (rope_scaling, rope_theta) and 5 (rope_parameters), multimodal ones by their text_config.
 */
#include "format/format_int.h"

#include <math.h>

struct reader {
    const json_t *root;
    const char *path;
    struct mu_config *config;
    struct mu_err *err;
};

static mu_status fault(struct reader *r, mu_status code, const char *key, const char *what)
{
    mu_status status = mu_fail(r->err, code, "%s", what);
    mu_err_where(r->err, "%s, %s", r->path, key);
    return status;
}

/* NULL for absent keys and for null, which mean the same. */
static json_t *get(const json_t *object, const char *key)
{
    json_t *value = json_object_get(object, key);
    return json_is_null(value) ? NULL : value;
}

static const char *get_text(const json_t *object, const char *key)
{
    return json_string_value(get(object, key));
}

/* Leaves `*out` alone when the key is absent. */
static mu_status get_number(struct reader *r, const json_t *object, const char *key, double *out)
{
    const json_t *value = get(object, key);
    if (!value) return MU_OK;
    if (!json_is_number(value)) return fault(r, MU_E_INPUT, key, "is not a number");
    *out = json_number_value(value);
    return MU_OK;
}

static mu_status get_flag(struct reader *r, const char *key, bool *out)
{
    const json_t *value = get(r->root, key);
    if (!value) return MU_OK;
    if (!json_is_boolean(value)) return fault(r, MU_E_INPUT, key, "is neither true nor false");
    *out = json_is_true(value);
    return MU_OK;
}

static mu_status copy_text(struct reader *r, const char *key, const json_t *value,
                           char out[MU_CONFIG_TEXT_SIZE])
{
    if (!json_is_string(value)) return fault(r, MU_E_INPUT, key, "is not text");
    if (json_string_length(value) >= MU_CONFIG_TEXT_SIZE)
        return fault(r, MU_E_INPUT, key, "is too long");
    memcpy(out, json_string_value(value), json_string_length(value) + 1);
    return MU_OK;
}

static mu_status read_field(struct reader *r, const struct mu_config_field *field)
{
    const json_t *value = get(r->root, field->json);
    if (!value) return MU_OK;
    if (field->kind == MU_FIELD_TEXT)
        return copy_text(r, field->json, value, (char *)r->config + field->offset);
    if (field->kind == MU_FIELD_FLAG)
        return get_flag(r, field->json, (bool *)(void *)((char *)r->config + field->offset));
    if (!json_is_number(value)) return fault(r, MU_E_INPUT, field->json, "is not a number");
    mu_status status = mu_config_set(r->config, field, json_number_value(value), r->err);
    mu_err_where(r->err, "%s, %s", r->path, field->json);
    return status;
}

/* ---- Tokens and sampling ------------------------------------------------------------------- */

static mu_status token_of(struct reader *r, const char *key, const json_t *value, uint32_t *out)
{
    json_int_t id = json_integer_value(value);
    if (!json_is_integer(value) || id < -1 || id >= MU_TOKEN_NONE)
        return fault(r, MU_E_INPUT, key, "is not a token id");
    *out = (uint32_t)id; /* -1, which some files have for "none", becomes MU_TOKEN_NONE */
    return MU_OK;
}

static mu_status read_eos(struct reader *r)
{
    static const char key[] = "eos_token_id";
    const json_t *value = get(r->root, key);
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    if (!value) return MU_OK;
    if (n > MU_EOS_MAX) return fault(r, MU_E_INPUT, key, "lists more than 16 tokens");
    r->config->n_eos = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t *slot = &r->config->eos[r->config->n_eos];
        MU_TRY(token_of(r, key, json_is_array(value) ? json_array_get(value, i) : value, slot));
        r->config->n_eos += *slot != MU_TOKEN_NONE;
    }
    return MU_OK;
}

static mu_status read_tokens(struct reader *r)
{
    const json_t *bos = get(r->root, "bos_token_id"), *pad = get(r->root, "pad_token_id");
    if (bos) MU_TRY(token_of(r, "bos_token_id", bos, &r->config->bos));
    if (pad) MU_TRY(token_of(r, "pad_token_id", pad, &r->config->pad));
    return read_eos(r);
}

mu_status mu_config_add_generation(const json_t *root, const char *path, struct mu_config *config,
                                   struct mu_err *err)
{
    struct reader r = {root, path, config, err};
    if (!json_is_object(root)) return fault(&r, MU_E_INPUT, "top", "is not an object");
    MU_TRY(read_tokens(&r));
    MU_TRY(get_flag(&r, "do_sample", &config->do_sample));
    MU_TRY(get_number(&r, root, "temperature", &config->temperature));
    MU_TRY(get_number(&r, root, "top_p", &config->top_p));
    MU_TRY(get_number(&r, root, "top_k", &config->top_k));
    MU_TRY(get_number(&r, root, "min_p", &config->min_p));
    return get_number(&r, root, "repetition_penalty", &config->repetition_penalty);
}

/* ---- Rope ---------------------------------------------------------------------------------- */

static mu_status read_rope_kind(struct reader *r, const json_t *rope, enum mu_rope_kind *out)
{
    static const struct {
        const char *name;
        enum mu_rope_kind kind;
    } kinds[] = {
        {"default", MU_ROPE_DEFAULT}, {"linear", MU_ROPE_LINEAR}, {"dynamic", MU_ROPE_DYNAMIC},
        {"llama3", MU_ROPE_LLAMA3},   {"yarn", MU_ROPE_YARN},     {"longrope", MU_ROPE_LONGROPE},
        {"su", MU_ROPE_LONGROPE},
    };
    const char *name = get_text(rope, "rope_type");
    if (!name) name = get_text(rope, "type");
    if (!name) name = "default";
    /* Early phi3 files say yarn where they mean longrope. */
    if (strcmp(name, "yarn") == 0 && get(rope, "short_factor")) name = "longrope";
    for (size_t i = 0; i < MU_ARRAY_LEN(kinds); i++) {
        if (strcmp(kinds[i].name, name) != 0) continue;
        *out = kinds[i].kind;
        return MU_OK;
    }
    return fault(r, MU_E_UNSUPPORTED, "rope_type",
                 "is none of default, linear, dynamic, llama3, yarn, longrope");
}

static mu_status read_factors(struct reader *r, const json_t *rope, const char *key, double *out)
{
    const json_t *list = get(rope, key);
    size_t n = json_array_size(list);
    if (n == 0 || n > MU_ROPE_FACTORS_MAX)
        return fault(r, MU_E_INPUT, key, "is not a list of 1 to 256 numbers");
    if (r->config->rope.n_factors && r->config->rope.n_factors != n)
        return fault(r, MU_E_INPUT, key, "is not as long as the other list");
    r->config->rope.n_factors = (uint32_t)n;
    for (size_t i = 0; i < n; i++) {
        const json_t *value = json_array_get(list, i);
        if (!json_is_number(value)) return fault(r, MU_E_INPUT, key, "holds what is no number");
        out[i] = json_number_value(value);
    }
    return MU_OK;
}

/* transformers takes the stretch from the two context lengths where the original one is known. */
static mu_status read_longrope(struct reader *r, const json_t *rope)
{
    struct mu_rope_config *out = &r->config->rope;
    MU_TRY(read_factors(r, rope, "short_factor", out->short_factor));
    MU_TRY(read_factors(r, rope, "long_factor", out->long_factor));
    if (out->original_context && !get(rope, "factor"))
        out->factor = (double)r->config->context / (double)out->original_context;
    return MU_OK;
}

static mu_status read_rope_numbers(struct reader *r, const json_t *rope)
{
    struct mu_rope_config *out = &r->config->rope;
    double original = 0;
    MU_TRY(get_number(r, r->root, "original_max_position_embeddings", &original));
    MU_TRY(get_number(r, rope, "original_max_position_embeddings", &original));
    if (!(original >= 0 && original < 1e12))
        return fault(r, MU_E_INPUT, "original_max_position_embeddings", "is out of range");
    out->original_context = (uint64_t)original;
    const struct {
        const char *key;
        double *out;
    } numbers[] = {
        {"factor", &out->factor},
        {"low_freq_factor", &out->low_freq_factor},
        {"high_freq_factor", &out->high_freq_factor},
        {"beta_fast", &out->beta_fast},
        {"beta_slow", &out->beta_slow},
        {"mscale", &out->mscale},
        {"mscale_all_dim", &out->mscale_all_dim},
        {"attention_factor", &out->attention_factor},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(numbers); i++)
        MU_TRY(get_number(r, rope, numbers[i].key, numbers[i].out));
    if (json_is_false(get(rope, "truncate"))) out->truncate = false;
    return MU_OK;
}

static mu_status read_rope(struct reader *r)
{
    struct mu_rope_config *out = &r->config->rope;
    const json_t *rope = get(r->root, "rope_parameters"), *local = NULL;
    if (!rope) rope = get(r->root, "rope_scaling");
    if (json_is_object(get(rope, "full_attention"))) { /* one set for each kind of layer */
        local = get(rope, "sliding_attention");
        rope = get(rope, "full_attention");
    }
    if (rope && !json_is_object(rope))
        return fault(r, MU_E_INPUT, "rope_scaling", "is not an object");
    MU_TRY(get_number(r, r->root, "rope_theta", &out->theta));
    MU_TRY(get_number(r, rope, "rope_theta", &out->theta));
    MU_TRY(get_number(r, r->root, "rope_local_base_freq", &r->config->rope_local_theta));
    MU_TRY(get_number(r, local, "rope_theta", &r->config->rope_local_theta));
    MU_TRY(get_number(r, r->root, "partial_rotary_factor", &out->partial));
    MU_TRY(get_number(r, rope, "partial_rotary_factor", &out->partial));
    if (!rope) return MU_OK;
    MU_TRY(read_rope_kind(r, rope, &out->kind));
    if (out->kind == MU_ROPE_DEFAULT) return MU_OK;
    MU_TRY(read_rope_numbers(r, rope));
    if (out->kind == MU_ROPE_LONGROPE) return read_longrope(r, rope);
    if (!get(rope, "factor")) return fault(r, MU_E_INPUT, "rope factor", "is not given");
    return MU_OK;
}

/* ---- Layers -------------------------------------------------------------------------------- */

static mu_status read_layer_types(struct reader *r, const json_t *types)
{
    if (json_array_size(types) != r->config->n_layers)
        return fault(r, MU_E_INPUT, "layer_types", "does not have one entry for each layer");
    for (uint32_t i = 0; i < r->config->n_layers; i++) {
        const char *type = json_string_value(json_array_get(types, i));
        bool sliding = type && strcmp(type, "sliding_attention") == 0;
        if (!sliding && !(type && strcmp(type, "full_attention") == 0))
            return fault(r, MU_E_UNSUPPORTED, "layer_types",
                         "names a kind other than full_attention and sliding_attention");
        r->config->layer_sliding[i] = sliding;
    }
    return MU_OK;
}

/* The pattern of each architecture's configuration class, for files without layer_types. */
static bool slides(const char *architecture, uint32_t i, uint32_t first, uint32_t pattern,
                   bool no_rope)
{
    if (strcmp(architecture, "gemma2") == 0 || strcmp(architecture, "gpt_oss") == 0)
        return i % 2 == 0;
    if (strcmp(architecture, "gemma3_text") == 0) return (i + 1) % pattern != 0;
    if (strcmp(architecture, "qwen2") == 0 || strcmp(architecture, "qwen3") == 0) return i >= first;
    if (strcmp(architecture, "qwen2_moe") == 0) return i % 2 == 0 && i < first;
    if (strcmp(architecture, "smollm3") == 0) return no_rope;
    return true; /* mistral, mixtral, phi3, qwen3_moe: every layer */
}

static mu_status read_sliding(struct reader *r)
{
    struct mu_config *c = r->config;
    bool use = true;
    double first = 0, pattern = 6;
    MU_TRY(get_flag(r, "use_sliding_window", &use));
    MU_TRY(get_number(r, r->root, "max_window_layers", &first));
    MU_TRY(get_number(r, r->root, "sliding_window_pattern", &pattern));
    MU_TRY(get_number(r, r->root, "_sliding_window_pattern", &pattern));
    if (!(first >= 0 && first <= 1e6 && pattern >= 1 && pattern <= 1e6))
        return fault(r, MU_E_INPUT, "max_window_layers or sliding_window_pattern",
                     "is out of range");
    if (!use) c->sliding_window = 0;
    if (c->sliding_window == 0) return MU_OK;
    const json_t *types = get(r->root, "layer_types");
    if (types) return read_layer_types(r, types);
    for (uint32_t i = 0; i < c->n_layers; i++)
        c->layer_sliding[i] =
            slides(c->architecture, i, (uint32_t)first, (uint32_t)pattern, c->layer_no_rope[i]);
    return MU_OK;
}

static mu_status read_no_rope(struct reader *r)
{
    const json_t *list = get(r->root, "no_rope_layers");
    double interval = 0;
    MU_TRY(get_number(r, r->root, "no_rope_layer_interval", &interval));
    if (list && json_array_size(list) != r->config->n_layers)
        return fault(r, MU_E_INPUT, "no_rope_layers", "does not have one entry for each layer");
    if (!(interval >= 0 && interval <= 1e6))
        return fault(r, MU_E_INPUT, "no_rope_layer_interval", "is out of range");
    for (uint32_t i = 0; i < r->config->n_layers; i++) {
        /* In spite of its name the list has 1 for layers with rope. */
        if (list)
            r->config->layer_no_rope[i] = json_integer_value(json_array_get(list, i)) == 0;
        else if (interval >= 1)
            r->config->layer_no_rope[i] = (i + 1) % (uint32_t)interval == 0;
    }
    return MU_OK;
}

static mu_status read_dense_layers(struct reader *r)
{
    const json_t *list = get(r->root, "mlp_only_layers"), *value;
    size_t i;
    mu_config_mark_dense(r->config);
    json_array_foreach(list, i, value)
    {
        json_int_t layer = json_integer_value(value);
        if (!json_is_integer(value) || layer < 0 || layer >= r->config->n_layers)
            return fault(r, MU_E_INPUT, "mlp_only_layers", "names a layer that does not exist");
        r->config->layer_dense[layer] = 1;
    }
    return MU_OK;
}

/* ---- Quantisation -------------------------------------------------------------------------- */

static mu_status read_quant(struct reader *r)
{
    struct mu_config *c = r->config;
    const json_t *q = get(r->root, "quantization_config");
    if (!q) q = get(r->root, "compression_config");
    if (!q) return MU_OK;
    const json_t *method = get(q, "quant_method"), *format = NULL, *numbers = q;
    if (!method) return fault(r, MU_E_INPUT, "quantization_config", "names no quant_method");
    MU_TRY(copy_text(r, "quant_method", method, c->quant_method));
    const json_t *groups = get(q, "config_groups");
    void *first = json_object_iter((json_t *)(uintptr_t)groups);
    if (first) numbers = get(json_object_iter_value(first), "weights");
    static const char *const formats[] = {"checkpoint_format", "format", "bnb_4bit_quant_type",
                                          "version", "fmt"};
    for (size_t i = 0; i < MU_ARRAY_LEN(formats) && !format; i++)
        format = get(q, formats[i]);
    const json_t *sparse = get(get(q, "sparsity_config"), "format");
    if (sparse && strcmp(json_string_value(sparse) ? json_string_value(sparse) : "", "dense") != 0)
        format = sparse;
    if (json_is_string(format))
        MU_TRY(copy_text(r, "quantization format", format, c->quant_format));
    double bits = 0, group = 0;
    MU_TRY(get_number(r, numbers, "bits", &bits));
    MU_TRY(get_number(r, numbers, "num_bits", &bits));
    MU_TRY(get_number(r, numbers, "group_size", &group));
    if (json_is_true(get(q, "load_in_8bit"))) bits = 8;
    if (json_is_true(get(q, "load_in_4bit"))) bits = 4;
    if (!(bits >= 0 && bits <= 32 && group >= -1 && group <= 1e7))
        return fault(r, MU_E_INPUT, "quantization_config", "bits or group_size is out of range");
    c->quant_bits = (uint32_t)bits;
    c->quant_group_size = group > 0 ? (uint32_t)group : 0;
    const json_t *block = get(q, "weight_block_size");
    for (size_t i = 0; i < 2 && block; i++) {
        json_int_t size = json_integer_value(json_array_get(block, i));
        if (size < 1 || size > 65536)
            return fault(r, MU_E_INPUT, "weight_block_size", "is not two numbers above 0");
        c->quant_block[i] = (uint32_t)size;
    }
    if (strcmp(c->quant_method, "bitsandbytes") == 0 && c->quant_bits == 8)
        memcpy(c->quant_format, "int8", sizeof "int8"); /* the file names its 4 bit type anyway */
    c->quant_known = mu_quantised_known(c->quant_method, c->quant_format);
    return MU_OK;
}

/* ---- The whole ----------------------------------------------------------------------------- */

/* A multimodal file keeps the language model's facts in text_config and the shared ones above. */
static mu_status enter_text_config(struct reader *r, json_t *root, json_t **out)
{
    static const char *const shared[] = {"quantization_config", "tie_word_embeddings",
                                         "bos_token_id", "eos_token_id", "pad_token_id"};
    json_t *text = get(root, "text_config");
    *out = root;
    if (!json_is_object(text)) return MU_OK;
    for (size_t i = 0; i < MU_ARRAY_LEN(shared); i++) {
        json_t *value = get(root, shared[i]);
        if (value && !json_object_get(text, shared[i]) &&
            json_object_set(text, shared[i], value) != 0)
            return mu_fail_memory(r->err, sizeof *text);
    }
    *out = text;
    return MU_OK;
}

static mu_status read_all(struct reader *r)
{
    for (const struct mu_config_field *f = mu_config_fields; f->json || f->gguf; f++)
        if (f->json) MU_TRY(read_field(r, f));
    MU_TRY(read_tokens(r));
    MU_TRY(read_rope(r));
    MU_TRY(read_no_rope(r));
    MU_TRY(read_sliding(r));
    MU_TRY(read_dense_layers(r));
    MU_TRY(read_quant(r));
    if (!mu_config_known(r->config->architecture)) return MU_OK;
    mu_status status = mu_config_finish(r->config, r->err);
    mu_err_where(r->err, "%s", r->path);
    return status;
}

mu_status mu_config_from_json(json_t *root, const char *path, struct mu_config *config,
                              struct mu_err *err)
{
    struct reader r = {root, path, config, err};
    mu_config_init(config);
    if (!json_is_object(root)) return fault(&r, MU_E_INPUT, "top", "is not an object");
    json_t *text;
    MU_TRY(enter_text_config(&r, root, &text));
    const json_t *type = get(text, "model_type");
    if (!type) type = get(root, "model_type");
    if (!type) return fault(&r, MU_E_INPUT, "model_type", "is not given");
    MU_TRY(copy_text(&r, "model_type", type, config->architecture));
    MU_TRY(mu_config_add_defaults(text, config->architecture, err));
    r.root = text;
    return read_all(&r);
}
