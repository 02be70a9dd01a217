/* The architectures, one row each, and how their tensors are called; see model.h. */
#include "model/model.h"

#include <stdio.h>

static const struct mu_arch archs[] = {
    {.name = "llama", .o_bias = true, .pre_norm = true, .gguf_swaps_pairs = true},
    {.name = "mistral", .pre_norm = true, .gguf_swaps_pairs = true},
    {.name = "qwen2", .qkv_bias = true, .pre_norm = true},
    {.name = "qwen3", .o_bias = true, .qk_norm = true, .pre_norm = true},
    {.name = "phi3", .pre_norm = true, .fused_qkv = true},
    {.name = "smollm3", .o_bias = true, .pre_norm = true, .gguf_swaps_pairs = true},
    {.name = "granite", .o_bias = true, .pre_norm = true, .gguf_swaps_pairs = true},
    {.name = "olmo2", .o_bias = true, .qk_norm_wide = true, .post_norm = true},
    {.name = "gemma2",
     .pre_norm = true,
     .post_norm = true,
     .norm_plus_one = true,
     .embed_sqrt = true},
    {.name = "gemma3_text",
     .qk_norm = true,
     .pre_norm = true,
     .post_norm = true,
     .norm_plus_one = true,
     .embed_sqrt = true},
};

const struct mu_arch *mu_arch_find(const char *name, struct mu_err *err)
{
    struct mu_text known;
    mu_text_init(&known, 1024);
    for (size_t i = 0; i < MU_ARRAY_LEN(archs); i++) {
        if (strcmp(archs[i].name, name) == 0) {
            mu_text_fini(&known);
            return &archs[i];
        }
        mu_text_printf(&known, "%s%s", i ? " " : "", archs[i].name);
    }
    (void)mu_fail(err, MU_E_UNSUPPORTED, "architecture '%s' is not supported", name);
    mu_err_cure(err, "supported are %s", mu_text_get(&known));
    mu_text_fini(&known);
    return NULL;
}

/* Names in files of transformers (below "model.layers.N.") and in GGUF (below "blk.N."). */
struct role_names {
    const char *hf, *gguf;
};

static const struct role_names role_names[MU_ROLE_COUNT] = {
    [MU_ROLE_EMBED] = {"model.embed_tokens.weight", "token_embd.weight"},
    [MU_ROLE_HEAD] = {"lm_head.weight", "output.weight"},
    [MU_ROLE_FINAL_NORM] = {"model.norm.weight", "output_norm.weight"},
    [MU_ROLE_ATTN_NORM] = {"input_layernorm.weight", "attn_norm.weight"},
    [MU_ROLE_Q] = {"self_attn.q_proj.weight", "attn_q.weight"},
    [MU_ROLE_K] = {"self_attn.k_proj.weight", "attn_k.weight"},
    [MU_ROLE_V] = {"self_attn.v_proj.weight", "attn_v.weight"},
    [MU_ROLE_O] = {"self_attn.o_proj.weight", "attn_output.weight"},
    [MU_ROLE_Q_BIAS] = {"self_attn.q_proj.bias", "attn_q.bias"},
    [MU_ROLE_K_BIAS] = {"self_attn.k_proj.bias", "attn_k.bias"},
    [MU_ROLE_V_BIAS] = {"self_attn.v_proj.bias", "attn_v.bias"},
    [MU_ROLE_O_BIAS] = {"self_attn.o_proj.bias", "attn_output.bias"},
    [MU_ROLE_Q_NORM] = {"self_attn.q_norm.weight", "attn_q_norm.weight"},
    [MU_ROLE_K_NORM] = {"self_attn.k_norm.weight", "attn_k_norm.weight"},
    [MU_ROLE_POST_ATTN_NORM] = {"post_attention_layernorm.weight", "post_attention_norm.weight"},
    [MU_ROLE_FFN_NORM] = {"post_attention_layernorm.weight", "ffn_norm.weight"},
    [MU_ROLE_GATE] = {"mlp.gate_proj.weight", "ffn_gate.weight"},
    [MU_ROLE_UP] = {"mlp.up_proj.weight", "ffn_up.weight"},
    [MU_ROLE_DOWN] = {"mlp.down_proj.weight", "ffn_down.weight"},
    [MU_ROLE_GATE_BIAS] = {"mlp.gate_proj.bias", "ffn_gate.bias"},
    [MU_ROLE_UP_BIAS] = {"mlp.up_proj.bias", "ffn_up.bias"},
    [MU_ROLE_DOWN_BIAS] = {"mlp.down_proj.bias", "ffn_down.bias"},
    [MU_ROLE_POST_FFN_NORM] = {"post_feedforward_layernorm.weight", "post_ffw_norm.weight"},
};

static const char *role_name(const struct mu_arch *arch, enum mu_tensor_role role, bool gguf)
{
    /* With norms on both sides, transformers' "post_attention" is what it says; with one a layer it
     * is the norm before the MLP. */
    if (!gguf && role == MU_ROLE_FFN_NORM && arch->post_norm)
        return "pre_feedforward_layernorm.weight";
    if (arch->fused_qkv && (role == MU_ROLE_Q || role == MU_ROLE_K || role == MU_ROLE_V))
        return gguf ? "attn_qkv.weight" : "self_attn.qkv_proj.weight";
    if (arch->fused_qkv && (role == MU_ROLE_GATE || role == MU_ROLE_UP))
        return gguf ? "ffn_up.weight" : "mlp.gate_up_proj.weight";
    return gguf ? role_names[role].gguf : role_names[role].hf;
}

void mu_model_tensor_name(const struct mu_arch *arch, enum mu_names names, enum mu_tensor_role role,
                          uint32_t layer, char out[MU_TENSOR_NAME_MAX])
{
    bool gguf = names == MU_NAMES_GGUF;
    const char *name = role_name(arch, role, gguf);
    if (role <= MU_ROLE_FINAL_NORM)
        (void)snprintf(out, MU_TENSOR_NAME_MAX, "%s", name);
    else
        (void)snprintf(out, MU_TENSOR_NAME_MAX, gguf ? "blk.%u.%s" : "model.layers.%u.%s", layer,
                       name);
}
