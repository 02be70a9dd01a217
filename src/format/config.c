/*
 * The facts of a model's configuration: their two spellings, their ranges, what transformers
 * assumes when one is absent, and whether they fit together. Called by the readers of config.json
 * and of GGUF metadata.
 */
#include "format/format_int.h"

#include <math.h>

#define COUNT_MAX 16777216 /* of a width or a vocabulary: beyond any model, safe to multiply */
#define BIG       1e15

#define U32(json, gguf, field, min, max)                                                           \
    {                                                                                              \
        json, gguf, MU_FIELD_U32, offsetof(struct mu_config, field), min, max                      \
    }
#define F64(json, gguf, field, min, max)                                                           \
    {                                                                                              \
        json, gguf, MU_FIELD_F64, offsetof(struct mu_config, field), min, max                      \
    }
#define FLAG(json, gguf, field)                                                                    \
    {                                                                                              \
        json, gguf, MU_FIELD_FLAG, offsetof(struct mu_config, field), 0, 1                         \
    }
#define TEXT(json, field)                                                                          \
    {                                                                                              \
        json, NULL, MU_FIELD_TEXT, offsetof(struct mu_config, field), 0, 0                         \
    }

/* A later row wins where a file has both of its names. */
const struct mu_config_field mu_config_fields[] = {
    U32("num_hidden_layers", "block_count", n_layers, 1, MU_LAYERS_MAX),
    U32("hidden_size", "embedding_length", hidden, 1, COUNT_MAX),
    U32("num_attention_heads", "attention.head_count", n_heads, 1, 65536),
    U32("num_key_value_heads", "attention.head_count_kv", n_kv_heads, 1, 65536),
    U32("head_dim", "attention.key_length", head_dim, 1, 65536),
    U32("intermediate_size", "feed_forward_length", ffn, 0, COUNT_MAX),
    U32("vocab_size", "vocab_size", vocab, 1, COUNT_MAX),
    {"max_position_embeddings", "context_length", MU_FIELD_U64, offsetof(struct mu_config, context),
     1, 1e12},
    F64("rms_norm_eps", "attention.layer_norm_rms_epsilon", norm_eps, 0, 1),
    FLAG("tie_word_embeddings", NULL, tied_head),
    FLAG("attention_bias", NULL, attention_bias),
    FLAG("qkv_bias", NULL, attention_bias),
    FLAG("mlp_bias", NULL, mlp_bias),
    TEXT("hidden_act", activation),
    TEXT("hidden_activation", activation),
    U32("sliding_window", "attention.sliding_window", sliding_window, 0, 2147483647),
    F64("attn_logit_softcapping", "attn_logit_softcapping", attn_softcap, 0, BIG),
    F64("final_logit_softcapping", "final_logit_softcapping", final_softcap, 0, BIG),
    F64("query_pre_attn_scalar", NULL, query_pre_attn_scalar, 1e-6, BIG),
    F64("embedding_multiplier", "embedding_scale", embedding_multiplier, -BIG, BIG),
    F64("residual_multiplier", "residual_scale", residual_multiplier, -BIG, BIG),
    F64("attention_multiplier", "attention.scale", attention_multiplier, -BIG, BIG),
    F64("logits_scaling", "logit_scale", logits_scaling, -BIG, BIG),
    U32("num_local_experts", "expert_count", n_experts, 0, 65536),
    U32("num_experts", NULL, n_experts, 0, 65536),
    U32("n_routed_experts", NULL, n_experts, 0, 65536),
    U32("num_experts_per_tok", "expert_used_count", n_experts_used, 0, 65536),
    U32("moe_intermediate_size", "expert_feed_forward_length", expert_ffn, 0, COUNT_MAX),
    U32("shared_expert_intermediate_size", "expert_shared_feed_forward_length", shared_expert_ffn,
        0, COUNT_MAX),
    U32("n_shared_experts", "expert_shared_count", n_shared_experts, 0, 65536),
    U32("first_k_dense_replace", "leading_dense_block_count", first_dense_layers, 0, MU_LAYERS_MAX),
    U32("decoder_sparse_step", NULL, sparse_step, 1, MU_LAYERS_MAX),
    FLAG("norm_topk_prob", "expert_weights_norm", norm_topk),
    F64("routed_scaling_factor", "expert_weights_scale", routed_scaling, -BIG, BIG),
    U32("n_group", "expert_group_count", n_group, 0, 65536),
    U32("topk_group", "expert_group_used_count", topk_group, 0, 65536),
    U32("q_lora_rank", "attention.q_lora_rank", q_lora_rank, 0, COUNT_MAX),
    U32("kv_lora_rank", "attention.kv_lora_rank", kv_lora_rank, 0, COUNT_MAX),
    U32("qk_nope_head_dim", NULL, qk_nope_head_dim, 0, 65536),
    U32("qk_rope_head_dim", NULL, qk_rope_head_dim, 0, 65536),
    U32("v_head_dim", NULL, v_head_dim, 0, 65536),
    FLAG("rope_interleave", NULL, rope_interleaved),
    F64("swiglu_limit", NULL, swiglu_limit, 0, BIG),
    F64("swiglu_alpha", NULL, swiglu_alpha, 0, BIG),
    {NULL, NULL, MU_FIELD_U32, 0, 0, 0},
};

/* What each architecture's configuration class of transformers assumes for absent keys. A
 * checkpoint's config.json leaves out what equals the class's own value, so these matter. */
struct defaults {
    const char *architecture;
    const char *json;
};

// clang-format off
#define J(...) #__VA_ARGS__
static const struct defaults defaults[] = {
    {"llama", J({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "bos_token_id": 1, "eos_token_id": 2})},
    {"mistral", J({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "sliding_window": 4096,
        "bos_token_id": 1, "eos_token_id": 2})},
    {"qwen2", J({"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "attention_bias": true,
        "use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 28})},
    {"qwen3", J({"vocab_size": 151936, "hidden_size": 4096, "intermediate_size": 22016,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 32,
        "head_dim": 128, "max_position_embeddings": 32768, "rms_norm_eps": 1e-6,
        "use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 28})},
    {"phi3", J({"vocab_size": 32064, "hidden_size": 3072, "intermediate_size": 8192,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "bos_token_id": 1,
        "eos_token_id": 32000, "pad_token_id": 32000})},
    {"smollm3", J({"vocab_size": 128256, "hidden_size": 2048, "intermediate_size": 11008,
        "num_hidden_layers": 36, "num_attention_heads": 16, "num_key_value_heads": 4,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "rope_theta": 2000000.0,
        "bos_token_id": 128000, "eos_token_id": 128001, "pad_token_id": 128004,
        "use_sliding_window": false, "no_rope_layer_interval": 4, "tie_word_embeddings": true})},
    {"granite", J({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "bos_token_id": 1, "eos_token_id": 2, "embedding_multiplier": 1.0,
        "residual_multiplier": 1.0, "attention_multiplier": 1.0, "logits_scaling": 1.0})},
    {"olmo2", J({"vocab_size": 50304, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "pad_token_id": 1, "eos_token_id": 50279})},
    {"gemma2", J({"vocab_size": 256000, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 8192, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
        "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0, "tie_word_embeddings": true})},
    {"gemma3_text", J({"vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216,
        "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
        "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-6, "query_pre_attn_scalar": 256,
        "sliding_window": 4096, "sliding_window_pattern": 6, "rope_theta": 1000000.0,
        "rope_local_base_freq": 10000.0, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0,
        "tie_word_embeddings": true})},
    {"mixtral", J({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "max_position_embeddings": 131072, "rms_norm_eps": 1e-5, "rope_theta": 1000000.0,
        "num_local_experts": 8, "num_experts_per_tok": 2, "norm_topk_prob": true,
        "bos_token_id": 1, "eos_token_id": 2})},
    {"qwen2_moe", J({"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632,
        "num_hidden_layers": 24, "num_attention_heads": 16, "num_key_value_heads": 16,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "qkv_bias": true,
        "use_sliding_window": false, "sliding_window": 4096, "max_window_layers": 28,
        "decoder_sparse_step": 1, "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632, "num_experts_per_tok": 4, "num_local_experts": 60,
        "norm_topk_prob": false})},
    {"qwen3_moe", J({"vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 6144,
        "num_hidden_layers": 24, "num_attention_heads": 32, "num_key_value_heads": 4,
        "max_position_embeddings": 32768, "rms_norm_eps": 1e-6, "use_sliding_window": false,
        "sliding_window": 4096, "decoder_sparse_step": 1, "moe_intermediate_size": 768,
        "num_experts_per_tok": 8, "num_local_experts": 128, "norm_topk_prob": false})},
    {"gpt_oss", J({"vocab_size": 201088, "hidden_size": 2880, "intermediate_size": 2880,
        "num_hidden_layers": 36, "num_attention_heads": 64, "num_key_value_heads": 8,
        "head_dim": 64, "max_position_embeddings": 131072, "rms_norm_eps": 1e-5,
        "rope_theta": 150000.0, "sliding_window": 128, "attention_bias": true,
        "num_local_experts": 128, "num_experts_per_tok": 4, "swiglu_limit": 7.0,
        "swiglu_alpha": 1.702})},
    {"deepseek_v2", J({"vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "moe_intermediate_size": 1407, "num_hidden_layers": 32, "num_attention_heads": 32,
        "n_routed_experts": 64, "routed_scaling_factor": 1.0, "kv_lora_rank": 512,
        "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128,
        "first_k_dense_replace": 0, "norm_topk_prob": false, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-6, "bos_token_id": 1, "eos_token_id": 2, "rope_interleave": true})},
    {"deepseek_v3", J({"vocab_size": 129280, "hidden_size": 7168, "intermediate_size": 18432,
        "moe_intermediate_size": 2048, "num_hidden_layers": 61, "num_attention_heads": 128,
        "num_key_value_heads": 128, "n_shared_experts": 1, "n_routed_experts": 256,
        "routed_scaling_factor": 2.5, "kv_lora_rank": 512, "q_lora_rank": 1536,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128, "n_group": 8,
        "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
        "norm_topk_prob": true, "max_position_embeddings": 4096, "rms_norm_eps": 1e-6,
        "bos_token_id": 0, "eos_token_id": 1, "rope_interleave": true})},
};
#undef J
// clang-format on

static const struct defaults *defaults_find(const char *architecture)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(defaults); i++)
        if (strcmp(defaults[i].architecture, architecture) == 0) return &defaults[i];
    return NULL;
}

bool mu_config_known(const char *architecture)
{
    return defaults_find(architecture) != NULL;
}

mu_status mu_config_add_defaults(json_t *root, const char *architecture, struct mu_err *err)
{
    const struct defaults *found = defaults_find(architecture);
    json_t *assumed, *value;
    const char *key;
    bool whole = true;
    if (!found) return MU_OK;
    MU_TRY(mu_json_parse(mu_str(found->json), "built-in defaults", &assumed, err));
    /* jansson's own update hides a failure to store. */
    json_object_foreach(assumed, key, value)
    {
        if (!json_object_get(root, key) && json_object_set(root, key, value) != 0) whole = false;
    }
    json_decref(assumed);
    return whole ? MU_OK : mu_fail_memory(err, strlen(found->json));
}

void mu_config_init(struct mu_config *config)
{
    *config = (struct mu_config){
        .rope = {.theta = 10000, .factor = 1, .beta_fast = 32, .beta_slow = 1, .partial = 1},
        .bos = MU_TOKEN_NONE,
        .pad = MU_TOKEN_NONE,
        .temperature = (double)NAN,
        .top_p = (double)NAN,
        .top_k = (double)NAN,
        .min_p = (double)NAN,
        .repetition_penalty = (double)NAN,
    };
    config->rope.truncate = true;
    memcpy(config->activation, "silu", sizeof "silu");
}

mu_status mu_config_set(struct mu_config *config, const struct mu_config_field *field, double value,
                        struct mu_err *err)
{
    char *at = (char *)config + field->offset;
    if (!(value >= field->min && value <= field->max))
        return mu_fail(err, MU_E_INPUT, "is %g, and must be in %g..%g", value, field->min,
                       field->max);
    if (field->kind != MU_FIELD_F64 && value != floor(value))
        return mu_fail(err, MU_E_INPUT, "is %g, and must be a whole number", value);
    if (field->kind == MU_FIELD_U32)
        *(uint32_t *)(void *)at = (uint32_t)value;
    else if (field->kind == MU_FIELD_U64)
        *(uint64_t *)(void *)at = (uint64_t)value;
    else if (field->kind == MU_FIELD_F64)
        *(double *)(void *)at = value;
    else
        *(bool *)(void *)at = value != 0;
    return MU_OK;
}

void mu_config_mark_dense(struct mu_config *config)
{
    if (!config->n_experts) return;
    for (uint32_t i = 0; i < config->n_layers; i++)
        if (i < config->first_dense_layers ||
            (config->sparse_step && (i + 1) % config->sparse_step != 0))
            config->layer_dense[i] = 1;
}

static mu_status check_rope(const struct mu_rope_config *rope, uint32_t head, struct mu_err *err)
{
    if (!(rope->theta > 0 && rope->theta < BIG))
        return mu_fail(err, MU_E_INPUT, "the rope's theta must be above 0");
    if (!(rope->factor > 0 && rope->factor < BIG))
        return mu_fail(err, MU_E_INPUT, "the rope's factor must be above 0");
    if (!(rope->partial > 0 && rope->partial <= 1 && head * rope->partial >= 2))
        return mu_fail(err, MU_E_INPUT, "the rotated share of a head must be in (0, 1]");
    const uint32_t rotated = (uint32_t)(head * rope->partial);
    if (rope->kind == MU_ROPE_LLAMA3 &&
        !(rope->low_freq_factor > 0 && rope->high_freq_factor > rope->low_freq_factor))
        return mu_fail(err, MU_E_INPUT,
                       "llama3 rope needs low_freq_factor above 0 and high_freq_factor above that");
    if (rope->kind == MU_ROPE_YARN && !(rope->beta_slow > 0 && rope->beta_fast > 0))
        return mu_fail(err, MU_E_INPUT, "yarn rope needs beta_fast and beta_slow above 0");
    if (rope->kind == MU_ROPE_LONGROPE && rope->n_factors != rotated / 2)
        return mu_fail(err, MU_E_INPUT, "the rope has %u factors, and the head needs %u",
                       rope->n_factors, rotated / 2);
    for (uint32_t i = 0; i < rope->n_factors; i++)
        if (!(rope->short_factor[i] > 0 && rope->long_factor[i] > 0))
            return mu_fail(err, MU_E_INPUT, "a rope factor is not above 0");
    return MU_OK;
}

static mu_status check_experts(struct mu_config *c, struct mu_err *err)
{
    if (!c->n_experts) return MU_OK;
    if (!c->expert_ffn) c->expert_ffn = c->ffn;
    if (c->n_experts_used == 0 || c->n_experts_used > c->n_experts)
        return mu_fail(err, MU_E_INPUT, "%u of %u experts cannot be used", c->n_experts_used,
                       c->n_experts);
    if (c->n_group > 1 && (c->n_experts % c->n_group != 0 || c->topk_group > c->n_group))
        return mu_fail(err, MU_E_INPUT, "%u experts do not make %u groups of which %u are used",
                       c->n_experts, c->n_group, c->topk_group);
    /* Stacked tensors have rows (or columns) of all experts together. */
    uint64_t widest = MU_MAX(2 * (uint64_t)c->expert_ffn, c->hidden);
    uint64_t shared = MU_MAX(c->shared_expert_ffn, (uint64_t)c->n_shared_experts * c->expert_ffn);
    if (widest * c->n_experts > UINT32_MAX || shared > COUNT_MAX)
        return mu_fail(err, MU_E_INPUT, "%u experts of %u values are more than a tensor can hold",
                       c->n_experts, c->expert_ffn);
    return MU_OK;
}

static mu_status check_latent(const struct mu_config *c, struct mu_err *err)
{
    if (c->kv_lora_rank == 0) return MU_OK;
    if (c->qk_nope_head_dim == 0 || c->qk_rope_head_dim == 0 || c->v_head_dim == 0)
        return mu_fail(err, MU_E_INPUT,
                       "latent attention needs qk_nope_head_dim, "
                       "qk_rope_head_dim and v_head_dim above 0");
    uint64_t head = (uint64_t)c->qk_nope_head_dim + MU_MAX(c->qk_rope_head_dim, c->v_head_dim);
    if (head * c->n_heads > UINT32_MAX || (uint64_t)c->kv_lora_rank * c->n_heads > UINT32_MAX)
        return mu_fail(err, MU_E_INPUT, "%u heads are more than a tensor can hold", c->n_heads);
    return MU_OK;
}

mu_status mu_config_finish(struct mu_config *c, struct mu_err *err)
{
    if (!c->n_layers || !c->hidden || !c->n_heads || !c->vocab)
        return mu_fail(err, MU_E_INPUT,
                       "the number of layers, hidden size, heads or vocabulary is not given");
    if (!(c->norm_eps > 0)) return mu_fail(err, MU_E_INPUT, "the norm's epsilon must be above 0");
    if (!c->n_kv_heads) c->n_kv_heads = c->n_heads;
    if (!c->head_dim && c->hidden % c->n_heads != 0)
        return mu_fail(err, MU_E_INPUT, "%u heads do not divide the hidden size %u", c->n_heads,
                       c->hidden);
    if (!c->head_dim) c->head_dim = c->hidden / c->n_heads;
    if (c->n_heads % c->n_kv_heads != 0)
        return mu_fail(err, MU_E_INPUT, "%u key/value heads do not divide %u heads", c->n_kv_heads,
                       c->n_heads);
    if (c->head_dim % 2 != 0)
        return mu_fail(err, MU_E_INPUT, "the head dimension %u is odd", c->head_dim);
    uint32_t head = c->qk_rope_head_dim ? c->qk_rope_head_dim : c->head_dim;
    MU_TRY(check_latent(c, err));
    MU_TRY(check_rope(&c->rope, head, err));
    return check_experts(c, err);
}
