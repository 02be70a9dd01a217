/* The architectures, one row each, and how their tensors are called; see model.h. */
#include "model/model.h"

#include <stdio.h>

/* A role's name in files of transformers (below "model.layers.N.") and in GGUF (below "blk.N."); #
 * stands for the number of the expert. */
struct mu_role_name {
    enum mu_tensor_role role;
    const char *hf, *gguf; /* NULL: the common name */
};

static const struct mu_role_name common_names[] = {
    {MU_ROLE_EMBED, "model.embed_tokens.weight", "token_embd.weight"},
    {MU_ROLE_HEAD, "lm_head.weight", "output.weight"},
    {MU_ROLE_FINAL_NORM, "model.norm.weight", "output_norm.weight"},
    {MU_ROLE_ATTN_NORM, "input_layernorm.weight", "attn_norm.weight"},
    {MU_ROLE_Q, "self_attn.q_proj.weight", "attn_q.weight"},
    {MU_ROLE_K, "self_attn.k_proj.weight", "attn_k.weight"},
    {MU_ROLE_V, "self_attn.v_proj.weight", "attn_v.weight"},
    {MU_ROLE_O, "self_attn.o_proj.weight", "attn_output.weight"},
    {MU_ROLE_Q_BIAS, "self_attn.q_proj.bias", "attn_q.bias"},
    {MU_ROLE_K_BIAS, "self_attn.k_proj.bias", "attn_k.bias"},
    {MU_ROLE_V_BIAS, "self_attn.v_proj.bias", "attn_v.bias"},
    {MU_ROLE_O_BIAS, "self_attn.o_proj.bias", "attn_output.bias"},
    {MU_ROLE_Q_NORM, "self_attn.q_norm.weight", "attn_q_norm.weight"},
    {MU_ROLE_K_NORM, "self_attn.k_norm.weight", "attn_k_norm.weight"},
    {MU_ROLE_POST_ATTN_NORM, "post_attention_layernorm.weight", "post_attention_norm.weight"},
    {MU_ROLE_FFN_NORM, "post_attention_layernorm.weight", "ffn_norm.weight"},
    {MU_ROLE_GATE, "mlp.gate_proj.weight", "ffn_gate.weight"},
    {MU_ROLE_UP, "mlp.up_proj.weight", "ffn_up.weight"},
    {MU_ROLE_DOWN, "mlp.down_proj.weight", "ffn_down.weight"},
    {MU_ROLE_GATE_BIAS, "mlp.gate_proj.bias", "ffn_gate.bias"},
    {MU_ROLE_UP_BIAS, "mlp.up_proj.bias", "ffn_up.bias"},
    {MU_ROLE_DOWN_BIAS, "mlp.down_proj.bias", "ffn_down.bias"},
    {MU_ROLE_POST_FFN_NORM, "post_feedforward_layernorm.weight", "post_ffw_norm.weight"},
    {MU_ROLE_SINKS, "self_attn.sinks", "attn_sinks.weight"},
    {MU_ROLE_Q_A, "self_attn.q_a_proj.weight", "attn_q_a.weight"},
    {MU_ROLE_Q_A_NORM, "self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight"},
    {MU_ROLE_Q_B, "self_attn.q_b_proj.weight", "attn_q_b.weight"},
    {MU_ROLE_KV_A, "self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight"},
    {MU_ROLE_KV_A_NORM, "self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight"},
    {MU_ROLE_KV_B, "self_attn.kv_b_proj.weight", "attn_kv_b.weight"}, /* in older GGUF files */
    {MU_ROLE_K_B, "self_attn.kv_b_proj.weight", "attn_k_b.weight"},
    {MU_ROLE_V_B, "self_attn.kv_b_proj.weight", "attn_v_b.weight"},
    {MU_ROLE_ROUTER, "mlp.gate.weight", "ffn_gate_inp.weight"},
    {MU_ROLE_ROUTER_BIAS, "mlp.router.bias", "ffn_gate_inp.bias"},
    {MU_ROLE_ROUTER_CORRECTION, "mlp.gate.e_score_correction_bias", "exp_probs_b.bias"},
    {MU_ROLE_EXPERT_GATE, "mlp.experts.#.gate_proj.weight", "ffn_gate_exps.weight"},
    {MU_ROLE_EXPERT_UP, "mlp.experts.#.up_proj.weight", "ffn_up_exps.weight"},
    {MU_ROLE_EXPERT_DOWN, "mlp.experts.#.down_proj.weight", "ffn_down_exps.weight"},
    {MU_ROLE_EXPERT_GATE_BIAS, "mlp.experts.gate_up_proj_bias", "ffn_gate_exps.bias"},
    {MU_ROLE_EXPERT_UP_BIAS, "mlp.experts.gate_up_proj_bias", "ffn_up_exps.bias"},
    {MU_ROLE_EXPERT_DOWN_BIAS, "mlp.experts.down_proj_bias", "ffn_down_exps.bias"},
    {MU_ROLE_SHARED_GATE, "mlp.shared_expert.gate_proj.weight", "ffn_gate_shexp.weight"},
    {MU_ROLE_SHARED_UP, "mlp.shared_expert.up_proj.weight", "ffn_up_shexp.weight"},
    {MU_ROLE_SHARED_DOWN, "mlp.shared_expert.down_proj.weight", "ffn_down_shexp.weight"},
    {MU_ROLE_SHARED_MIX, "mlp.shared_expert_gate.weight", "ffn_gate_inp_shexp.weight"},
};

/* Ends a list. */
#define NO_MORE                                                                                    \
    {                                                                                              \
        MU_ROLE_COUNT, NULL, NULL                                                                  \
    }

/* One stored matrix for q, k and v, and one for gate and up. */
static const struct mu_role_name fused_names[] = {
    {MU_ROLE_Q, "self_attn.qkv_proj.weight", "attn_qkv.weight"},
    {MU_ROLE_K, "self_attn.qkv_proj.weight", "attn_qkv.weight"},
    {MU_ROLE_V, "self_attn.qkv_proj.weight", "attn_qkv.weight"},
    {MU_ROLE_GATE, "mlp.gate_up_proj.weight", "ffn_up.weight"},
    {MU_ROLE_UP, "mlp.gate_up_proj.weight", "ffn_up.weight"},
    NO_MORE,
};

/* With norms on both sides, transformers' "post_attention" is what it says; with one a layer it is
 * the norm before the MLP. */
static const struct mu_role_name both_norms_names[] = {
    {MU_ROLE_FFN_NORM, "pre_feedforward_layernorm.weight", NULL},
    NO_MORE,
};

static const struct mu_role_name mixtral_names[] = {
    {MU_ROLE_ROUTER, "block_sparse_moe.gate.weight", NULL},
    {MU_ROLE_EXPERT_GATE, "block_sparse_moe.experts.#.w1.weight", NULL},
    {MU_ROLE_EXPERT_UP, "block_sparse_moe.experts.#.w3.weight", NULL},
    {MU_ROLE_EXPERT_DOWN, "block_sparse_moe.experts.#.w2.weight", NULL},
    NO_MORE,
};

static const struct mu_role_name gpt_oss_names[] = {
    {MU_ROLE_FFN_NORM, NULL, "post_attention_norm.weight"},
    {MU_ROLE_ROUTER, "mlp.router.weight", NULL},
    {MU_ROLE_EXPERT_GATE, "mlp.experts.gate_up_proj", NULL},
    {MU_ROLE_EXPERT_UP, "mlp.experts.gate_up_proj", NULL},
    {MU_ROLE_EXPERT_DOWN, "mlp.experts.down_proj", NULL},
    NO_MORE,
};

static const struct mu_role_name deepseek_names[] = {
    {MU_ROLE_SHARED_GATE, "mlp.shared_experts.gate_proj.weight", NULL},
    {MU_ROLE_SHARED_UP, "mlp.shared_experts.up_proj.weight", NULL},
    {MU_ROLE_SHARED_DOWN, "mlp.shared_experts.down_proj.weight", NULL},
    NO_MORE,
};

static const struct mu_arch archs[] = {
    {.name = "llama", .o_bias = true, .pre_norm = true, .gguf_swaps_pairs = true},
    {.name = "mistral", .pre_norm = true, .gguf_swaps_pairs = true},
    {.name = "qwen2", .qkv_bias = true, .pre_norm = true},
    {.name = "qwen3", .o_bias = true, .qk_norm = true, .pre_norm = true},
    {.name = "phi3", .pre_norm = true, .fused_qkv = true, .names = fused_names},
    {.name = "smollm3", .o_bias = true, .pre_norm = true, .gguf_swaps_pairs = true},
    {.name = "granite", .o_bias = true, .pre_norm = true, .gguf_swaps_pairs = true},
    {.name = "olmo2", .o_bias = true, .qk_norm_wide = true, .post_norm = true},
    {.name = "gemma2",
     .pre_norm = true,
     .post_norm = true,
     .norm_plus_one = true,
     .embed_sqrt = true,
     .names = both_norms_names},
    {.name = "gemma3_text",
     .qk_norm = true,
     .pre_norm = true,
     .post_norm = true,
     .norm_plus_one = true,
     .embed_sqrt = true,
     .names = both_norms_names},
    {.name = "mixtral",
     .pre_norm = true,
     .gguf_swaps_pairs = true,
     .router_normed = true,
     .names = mixtral_names},
    {.name = "qwen2_moe", .qkv_bias = true, .pre_norm = true, .shared_mixed = true},
    {.name = "qwen3_moe", .o_bias = true, .qk_norm = true, .pre_norm = true},
    {.name = "gpt_oss",
     .o_bias = true,
     .pre_norm = true,
     .sinks = true,
     .swiglu_oai = true,
     .router_bias = true,
     .router_normed = true,
     .stacked_experts = true,
     .interleaved_experts = true,
     .names = gpt_oss_names},
    {.name = "deepseek_v2", .pre_norm = true, .names = deepseek_names},
    {.name = "deepseek_v3", .pre_norm = true, .router_sigmoid = true, .names = deepseek_names},
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

static const char *name_in(const struct mu_role_name *list, size_t n, enum mu_tensor_role role,
                           bool gguf)
{
    for (size_t i = 0; i < n && list[i].role != MU_ROLE_COUNT; i++)
        if (list[i].role == role) return gguf ? list[i].gguf : list[i].hf;
    return NULL;
}

static const char *role_name(const struct mu_arch *arch, enum mu_tensor_role role, bool gguf)
{
    const char *own = arch->names ? name_in(arch->names, MU_ROLE_COUNT, role, gguf) : NULL;
    return own ? own : name_in(common_names, MU_ARRAY_LEN(common_names), role, gguf);
}

void mu_model_tensor_name(const struct mu_arch *arch, enum mu_names names, enum mu_tensor_role role,
                          uint32_t layer, uint32_t expert, char out[MU_TENSOR_NAME_MAX])
{
    bool gguf = names == MU_NAMES_GGUF;
    const char *name = role_name(arch, role, gguf), *mark = strchr(name, '#');
    int n = 0;
    if (role > MU_ROLE_FINAL_NORM)
        n = snprintf(out, MU_TENSOR_NAME_MAX, gguf ? "blk.%u." : "model.layers.%u.", layer);
    if (mark)
        (void)snprintf(out + n, MU_TENSOR_NAME_MAX - (size_t)n, "%.*s%u%s", (int)(mark - name),
                       name, expert, mark + 1);
    else
        (void)snprintf(out + n, MU_TENSOR_NAME_MAX - (size_t)n, "%s", name);
}
