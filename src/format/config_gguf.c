/*
 * GGUF metadata -> struct mu_config, under the names that transformers has for the same
 * architectures. What GGUF leaves to the reader's knowledge of an architecture (patterns of sliding
 * layers, activations, the order of rope pairs) is filled in here.
 */
#include "format/format_int.h"

#include <math.h>

struct architecture {
    const char *gguf, *name;
    bool interleaved; /* the converter permuted q and k for rope over neighbouring pairs */
    const char *activation;
};

static const struct architecture architectures[] = {
    {"llama", "llama", true, "silu"},
    {"llama", "mixtral", true, "silu"},
    {"llama", "mistral", true, "silu"},
    {"mistral3", "mistral", true, "silu"},
    {"qwen2", "qwen2", false, "silu"},
    {"qwen2moe", "qwen2_moe", false, "silu"},
    {"qwen3", "qwen3", false, "silu"},
    {"qwen3moe", "qwen3_moe", false, "silu"},
    {"phi3", "phi3", false, "silu"},
    {"smollm3", "smollm3", true, "silu"},
    {"granite", "granite", true, "silu"},
    {"olmo2", "olmo2", false, "silu"},
    {"gemma2", "gemma2", false, "gelu_pytorch_tanh"},
    {"gemma3", "gemma3_text", false, "gelu_pytorch_tanh"},
    {"gpt-oss", "gpt_oss", false, "silu"},
    {"deepseek2", "deepseek_v3", true, "silu"},
    {"deepseek2", "deepseek_v2", true, "silu"},
};

const char *mu_architecture_to_gguf(const char *architecture)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(architectures); i++)
        if (strcmp(architectures[i].name, architecture) == 0) return architectures[i].gguf;
    return architecture;
}

struct reader {
    const struct mu_gguf *gguf;
    const struct mu_tensor_list *tensors;
    const char *path;
    struct mu_str prefix; /* general.architecture */
    struct mu_config *config;
    struct mu_err *err;
    char key[160]; /* made by key_of */
};

static const char *key_of(struct reader *r, const char *suffix)
{
    size_t len = strlen(suffix);
    memcpy(r->key, r->prefix.p, r->prefix.len);
    r->key[r->prefix.len] = '.';
    memcpy(r->key + r->prefix.len + 1, suffix, len + 1);
    return r->key;
}

static mu_status fault(struct reader *r, mu_status code, const char *key, const char *what)
{
    mu_status status = mu_fail(r->err, code, "%s", what);
    mu_err_where(r->err, "%s, key '%s'", r->path, key);
    return status;
}

/* Leaves `*out` alone when the key is absent. A list with one number for each layer is taken when
 * all are the same. */
static mu_status get_number(struct reader *r, const char *suffix, double *out)
{
    const char *key = key_of(r, suffix);
    const struct mu_gguf_value *v = mu_gguf_find(r->gguf, key);
    uint64_t first, other;
    bool flag;
    if (!v) return MU_OK;
    if (mu_gguf_bool(r->gguf, key, &flag)) {
        *out = flag;
        return MU_OK;
    }
    if (!v->is_array) {
        if (!mu_gguf_f64(r->gguf, key, out)) return fault(r, MU_E_INPUT, key, "is not a number");
        return MU_OK;
    }
    if (!mu_gguf_element_u64(v, 0, &first) || first > UINT32_MAX)
        return fault(r, MU_E_INPUT, key, "is not a list of numbers of at least 0");
    for (uint64_t i = 1; i < v->n; i++)
        if (!mu_gguf_element_u64(v, i, &other) || other != first)
            return fault(r, MU_E_UNSUPPORTED, key, "differs between layers");
    *out = (double)first;
    return MU_OK;
}

static mu_status read_field(struct reader *r, const struct mu_config_field *field)
{
    double value = (double)NAN;
    MU_TRY(get_number(r, field->gguf, &value));
    if (!mu_gguf_find(r->gguf, r->key)) return MU_OK;
    mu_status status = mu_config_set(r->config, field, value, r->err);
    mu_err_where(r->err, "%s, key '%s'", r->path, r->key);
    return status;
}

static const struct mu_tensor *tensor_find(const struct reader *r, const char *name)
{
    for (uint64_t i = 0; i < r->tensors->n; i++)
        if (strcmp(r->tensors->items[i].name, name) == 0) return &r->tensors->items[i];
    return NULL;
}

/* ---- Rope ---------------------------------------------------------------------------------- */

static mu_status read_factors(struct reader *r, const struct mu_tensor *t, double *out)
{
    struct mu_rope_config *rope = &r->config->rope;
    if (t->type != MU_DTYPE_F32 || t->n_values == 0 || t->n_values > MU_ROPE_FACTORS_MAX ||
        (rope->n_factors && rope->n_factors != t->n_values))
        return fault(r, MU_E_INPUT, t->name, "is not the list of rope factors it should be");
    rope->n_factors = (uint32_t)t->n_values;
    for (uint32_t i = 0; i < rope->n_factors; i++) {
        float value;
        memcpy(&value, t->data + i * sizeof value, sizeof value);
        out[i] = (double)value;
    }
    return MU_OK;
}

/* The factors of llama3 and longrope scaling travel as tensors. */
static mu_status read_factor_tensors(struct reader *r)
{
    struct mu_rope_config *rope = &r->config->rope;
    const struct mu_tensor *freqs = tensor_find(r, "rope_freqs.weight");
    const struct mu_tensor *shorts = tensor_find(r, "rope_factors_short.weight");
    const struct mu_tensor *longs = tensor_find(r, "rope_factors_long.weight");
    if (!freqs && !(shorts && longs)) return MU_OK;
    rope->kind = MU_ROPE_LONGROPE;
    MU_TRY(read_factors(r, freqs ? freqs : shorts, rope->short_factor));
    MU_TRY(read_factors(r, freqs ? freqs : longs, rope->long_factor));
    if (freqs)
        rope->attention_factor = 1;
    else if (rope->original_context)
        rope->factor = (double)r->config->context / (double)rope->original_context;
    return MU_OK;
}

static mu_status read_rope_kind(struct reader *r)
{
    static const struct {
        const char *name;
        enum mu_rope_kind kind;
    } kinds[] = {
        {"none", MU_ROPE_DEFAULT},
        {"linear", MU_ROPE_LINEAR},
        {"yarn", MU_ROPE_YARN},
        {"longrope", MU_ROPE_LONGROPE},
    };
    struct mu_str name;
    if (!mu_gguf_string(r->gguf, key_of(r, "rope.scaling.type"), &name)) return MU_OK;
    for (size_t i = 0; i < MU_ARRAY_LEN(kinds); i++) {
        if (!mu_str_is(name, kinds[i].name)) continue;
        r->config->rope.kind = kinds[i].kind;
        return MU_OK;
    }
    return fault(r, MU_E_UNSUPPORTED, r->key, "is none of none, linear, yarn, longrope");
}

static mu_status read_rope(struct reader *r)
{
    struct mu_rope_config *rope = &r->config->rope;
    double original = 0, rotated = 0, log_multiplier = 0;
    MU_TRY(read_rope_kind(r));
    MU_TRY(get_number(r, "rope.freq_base", &rope->theta));
    MU_TRY(get_number(r, "rope.freq_base_swa", &r->config->rope_local_theta));
    MU_TRY(get_number(r, "rope.scaling.factor", &rope->factor));
    MU_TRY(get_number(r, "rope.scaling.attn_factor", &rope->attention_factor));
    MU_TRY(get_number(r, "rope.scaling.yarn_beta_fast", &rope->beta_fast));
    MU_TRY(get_number(r, "rope.scaling.yarn_beta_slow", &rope->beta_slow));
    MU_TRY(get_number(r, "rope.scaling.yarn_log_multiplier", &log_multiplier));
    MU_TRY(get_number(r, "rope.scaling.original_context_length", &original));
    MU_TRY(get_number(r, "rope.dimension_count", &rotated));
    if (!(original >= 0 && original < 1e12 && rotated >= 0 && rotated <= 65536))
        return fault(r, MU_E_INPUT, r->key, "or the original context length is out of range");
    rope->original_context = (uint64_t)original;
    /* deepseek: the converter stores a tenth of mscale_all_dim. */
    rope->mscale = rope->mscale_all_dim = 10 * log_multiplier;
    MU_TRY(read_factor_tensors(r));
    uint32_t head = r->config->head_dim;
    if (!head && r->config->n_heads) head = r->config->hidden / r->config->n_heads;
    if (r->config->kv_lora_rank)
        r->config->qk_rope_head_dim = (uint32_t)rotated;
    else if (rotated > 0 && head)
        rope->partial = rotated / head;
    return MU_OK;
}

/* ---- What an architecture implies ---------------------------------------------------------- */

static mu_status read_latent_attention(struct reader *r)
{
    struct mu_config *c = r->config;
    double key = c->head_dim, value = 0;
    if (!c->kv_lora_rank) return MU_OK;
    MU_TRY(get_number(r, "attention.value_length", &value));
    MU_TRY(get_number(r, "attention.key_length_mla", &key));
    MU_TRY(get_number(r, "attention.value_length_mla", &value));
    if (!(key > c->qk_rope_head_dim && key <= 65536 && value >= 1 && value <= 65536))
        return fault(r, MU_E_INPUT, "attention.key_length_mla", "does not fit the other sizes");
    c->qk_nope_head_dim = (uint32_t)key - c->qk_rope_head_dim;
    c->v_head_dim = (uint32_t)value;
    c->n_kv_heads = c->n_heads;
    c->head_dim = c->qk_rope_head_dim;
    return MU_OK;
}

static void mark_layers(struct mu_config *c)
{
    bool gemma3 = strcmp(c->architecture, "gemma3_text") == 0;
    bool alternate =
        strcmp(c->architecture, "gemma2") == 0 || strcmp(c->architecture, "gpt_oss") == 0;
    bool smollm3 = strcmp(c->architecture, "smollm3") == 0;
    for (uint32_t i = 0; i < c->n_layers; i++) {
        if (c->sliding_window)
            c->layer_sliding[i] = alternate ? i % 2 == 0 : gemma3 ? (i + 1) % 6 != 0 : 1;
        if (smollm3) c->layer_no_rope[i] = (i + 1) % 4 == 0;
    }
    mu_config_mark_dense(c);
}

static void fill_gemma(struct mu_config *c)
{
    bool gemma3 = strcmp(c->architecture, "gemma3_text") == 0;
    if (!gemma3 && strcmp(c->architecture, "gemma2") != 0) return;
    /* Only the largest of each generation scales by the width of a head's share of the model. */
    bool largest = c->n_layers == (gemma3 ? 62 : 46);
    c->query_pre_attn_scalar = largest && c->n_heads ? c->hidden / c->n_heads : c->head_dim;
    if (gemma3 && c->rope_local_theta == 0) c->rope_local_theta = 10000;
}

static void fill_biases(struct reader *r)
{
    r->config->attention_bias =
        tensor_find(r, "blk.0.attn_q.bias") || tensor_find(r, "blk.0.attn_qkv.bias");
    r->config->mlp_bias = tensor_find(r, "blk.0.ffn_up.bias") != NULL;
    r->config->kv_b_joined = tensor_find(r, "blk.0.attn_kv_b.weight") != NULL;
    r->config->tied_head = tensor_find(r, "output.weight") == NULL;
}

static void fill_architecture(struct reader *r)
{
    struct mu_config *c = r->config;
    for (size_t i = 0; i < MU_ARRAY_LEN(architectures); i++) {
        const struct architecture *a = &architectures[i];
        if (!mu_str_is(r->prefix, a->gguf)) continue;
        memcpy(c->architecture, a->name, strlen(a->name) + 1);
        memcpy(c->activation, a->activation, strlen(a->activation) + 1);
        c->rope_interleaved = a->interleaved;
        break;
    }
    if (strcmp(c->architecture, "llama") == 0 && c->n_experts) {
        memcpy(c->architecture, "mixtral", sizeof "mixtral");
        c->norm_topk = true;
    }
    if (strcmp(c->architecture, "qwen3_moe") == 0) c->norm_topk = true;
    if (strcmp(c->architecture, "gpt_oss") == 0) {
        c->rope.truncate = false;
        c->swiglu_limit = 7;
        c->swiglu_alpha = 1.702;
    }
    /* deepseek2 is also the name of version 2, whose experts are chosen by a softmax (1). */
    double gating = 1;
    if (strcmp(c->architecture, "deepseek_v3") == 0 &&
        get_number(r, "expert_gating_func", &gating) == MU_OK && gating < 2)
        memcpy(c->architecture, "deepseek_v2", sizeof "deepseek_v2");
}

/* ---- Tokens -------------------------------------------------------------------------------- */

static uint32_t token_of(const struct mu_gguf *gguf, const char *key)
{
    uint64_t id;
    return mu_gguf_u64(gguf, key, &id) && id < MU_TOKEN_NONE ? (uint32_t)id : MU_TOKEN_NONE;
}

static void add_eos(struct mu_config *c, uint32_t id)
{
    if (id == MU_TOKEN_NONE || c->n_eos == MU_EOS_MAX) return;
    for (unsigned i = 0; i < c->n_eos; i++)
        if (c->eos[i] == id) return;
    c->eos[c->n_eos++] = id;
}

static mu_status read_tokens(struct reader *r)
{
    struct mu_config *c = r->config;
    const struct mu_gguf_value *tokens = mu_gguf_find(r->gguf, "tokenizer.ggml.tokens");
    c->bos = token_of(r->gguf, "tokenizer.ggml.bos_token_id");
    c->pad = token_of(r->gguf, "tokenizer.ggml.padding_token_id");
    add_eos(c, token_of(r->gguf, "tokenizer.ggml.eos_token_id"));
    add_eos(c, token_of(r->gguf, "tokenizer.ggml.eot_token_id"));
    /* The embedding has more rows than there are tokens where the publisher padded it. */
    const struct mu_tensor *embedding = tensor_find(r, "token_embd.weight");
    uint64_t n = embedding ? embedding->dims[0] : tokens ? tokens->n : c->vocab;
    if (n > 16777216)
        return fault(r, MU_E_INPUT, "tokenizer.ggml.tokens", "has more than 16,777,216 tokens");
    c->vocab = (uint32_t)n;
    return MU_OK;
}

/* ---- The whole ----------------------------------------------------------------------------- */

static mu_status read_architecture(struct reader *r)
{
    static const char key[] = "general.architecture";
    if (!mu_gguf_string(r->gguf, key, &r->prefix) || r->prefix.len == 0)
        return fault(r, MU_E_INPUT, key, "is not given");
    if (r->prefix.len >= sizeof r->config->architecture || memchr(r->prefix.p, '\0', r->prefix.len))
        return fault(r, MU_E_INPUT, key, "is too long");
    memcpy(r->config->architecture, r->prefix.p, r->prefix.len);
    return MU_OK;
}

static mu_status finish(struct reader *r)
{
    /* A file that holds only a vocabulary has no shape to check, and unknown architectures are
     * refused by name, by who would have to compute them. */
    if (r->tensors->n == 0 || !mu_config_known(r->config->architecture)) return MU_OK;
    mu_status status = mu_config_finish(r->config, r->err);
    mu_err_where(r->err, "%s, metadata", r->path);
    return status;
}

mu_status mu_config_from_gguf(const struct mu_gguf *gguf, const struct mu_tensor_list *tensors,
                              const char *path, struct mu_config *config, struct mu_err *err)
{
    struct reader r = {
        .gguf = gguf, .tensors = tensors, .path = path, .config = config, .err = err};
    mu_config_init(config);
    config->names = MU_NAMES_GGUF;
    MU_TRY(read_architecture(&r));
    for (const struct mu_config_field *f = mu_config_fields; f->json || f->gguf; f++)
        if (f->gguf) MU_TRY(read_field(&r, f));
    MU_TRY(read_tokens(&r));
    MU_TRY(read_rope(&r));
    MU_TRY(read_latent_attention(&r));
    fill_architecture(&r);
    fill_biases(&r);
    if (!config->head_dim && config->n_heads) config->head_dim = config->hidden / config->n_heads;
    fill_gemma(config);
    mark_layers(config);
    return finish(&r);
}
