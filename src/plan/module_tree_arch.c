/*
 * The architectures: the modules of transformers' causal language models, in their order, with the
 * shapes of their tensors. Data only; module_tree.c unfolds it.
 *
 * A line is a module, its depth told by the spaces before it:
 *
 *     name Class tensor=shape ~buffer=shape ?word
 *
 * '*' in front of a class stands for the architecture's prefix, the name '#' for the layers, each
 * with its number. A shape is a product of words and numbers; "@4" behind it gives the bytes of a
 * value that does not follow the model's data type, "&1" a group of tensors that are tied, "?word"
 * makes the tensor depend on a word being other than 0. "?word" at the end of a line does so for
 * the module and all below it.
 */
#include "plan/module_tree_int.h"

/* Laid out by hand: one module a line. */
/* clang-format off */

#define LINEAR(name, out, in, bias) name " Linear weight=" out "*" in " bias=" out "?" bias "\n"
#define NORM(name, n)               name " *RMSNorm weight=" n "\n"

#define TOP(embedding)                                                                             \
    "model *Model\n"                                                                               \
    " embed_tokens " embedding "\n"                                                                \
    " layers ModuleList\n"                                                                         \
    "  # *DecoderLayer\n"
#define EMBEDDING        "Embedding weight=vocab*hidden&1"
#define SCALED_EMBEDDING "*TextScaledWordEmbedding weight=vocab*hidden&1 ~embed_scale=1"

#define BOTTOM(rotary)                                                                             \
    NORM(" norm", "hidden")                                                                        \
    " rotary_emb *RotaryEmbedding " rotary "\n"                                                    \
    "lm_head Linear weight=vocab*hidden&1\n"
#define ROTARY "~inv_freq=rotary@4 ~original_inv_freq=rotary@4"

#define QKVO(qkv_bias, o_bias)                                                                     \
    LINEAR("    q_proj", "q", "hidden", qkv_bias)                                                  \
    LINEAR("    k_proj", "kv", "hidden", qkv_bias)                                                 \
    LINEAR("    v_proj", "kv", "hidden", qkv_bias)                                                 \
    LINEAR("    o_proj", "hidden", "q", o_bias)
#define ATTENTION(qkv_bias, o_bias)                                                                \
    "   self_attn *Attention\n"                                                                    \
    QKVO(qkv_bias, o_bias)
#define QK_NORMS(q, k)                                                                             \
    NORM("    q_norm", q)                                                                          \
    NORM("    k_norm", k)

/* What is in an MLP whose own line stands at `indent`. */
#define GATED(indent, n, bias)                                                                     \
    LINEAR(indent " gate_proj", n, "hidden", bias)                                                 \
    LINEAR(indent " up_proj", n, "hidden", bias)                                                   \
    LINEAR(indent " down_proj", "hidden", n, bias)                                                 \
    indent " act_fn Activation\n"
#define MLP(bias)                                                                                  \
    "   mlp *MLP\n"                                                                                \
    GATED("   ", "ffn", bias)
#define DENSE_MLP                                                                                  \
    "   mlp *MLP ?dense\n"                                                                         \
    GATED("   ", "ffn", "no")
#define EXPERTS(n)                                                                                 \
    "    experts *Experts gate_up_proj=experts*2*" n "*hidden down_proj=experts*hidden*" n "\n"    \
    "     act_fn Activation\n"

#define NORMS                                                                                      \
    NORM("   input_layernorm", "hidden")                                                           \
    NORM("   post_attention_layernorm", "hidden")
#define GEMMA_NORMS                                                                                \
    NORMS                                                                                          \
    NORM("   pre_feedforward_layernorm", "hidden")                                                 \
    NORM("   post_feedforward_layernorm", "hidden")

static const char llama[] =
    TOP(EMBEDDING)
    ATTENTION("attention_bias", "attention_bias")
    MLP("mlp_bias")
    NORMS
    BOTTOM(ROTARY);

static const char mistral[] =
    TOP(EMBEDDING)
    ATTENTION("no", "no")
    MLP("no")
    NORMS
    BOTTOM(ROTARY);

static const char qwen2[] =
    TOP(EMBEDDING)
    ATTENTION("yes", "no")
    MLP("no")
    NORMS
    BOTTOM(ROTARY);

static const char qwen3[] =
    TOP(EMBEDDING)
    ATTENTION("attention_bias", "attention_bias")
    QK_NORMS("head_dim", "head_dim")
    MLP("no")
    NORMS
    BOTTOM(ROTARY);

static const char qwen2_moe[] =
    TOP(EMBEDDING)
    ATTENTION("qkv_bias", "no")
    "   mlp *SparseMoeBlock ?sparse\n"
    "    gate *TopKRouter weight=experts*hidden\n"
    EXPERTS("expert_ffn")
    "    shared_expert *MLP\n"
    GATED("    ", "shared_ffn", "no")
    "    shared_expert_gate Linear weight=hidden\n"
    DENSE_MLP
    NORMS
    BOTTOM(ROTARY);

static const char qwen3_moe[] =
    TOP(EMBEDDING)
    ATTENTION("attention_bias", "attention_bias")
    QK_NORMS("head_dim", "head_dim")
    "   mlp *SparseMoeBlock ?sparse\n"
    EXPERTS("expert_ffn")
    "    gate *TopKRouter weight=experts*hidden\n"
    DENSE_MLP
    NORMS
    BOTTOM(ROTARY);

static const char mixtral[] =
    TOP(EMBEDDING)
    ATTENTION("no", "no")
    "   mlp *SparseMoeBlock\n"
    "    gate *TopKRouter weight=experts*hidden\n"
    EXPERTS("ffn")
    NORMS
    BOTTOM(ROTARY);

static const char gemma2[] =
    TOP(SCALED_EMBEDDING)
    ATTENTION("attention_bias", "attention_bias")
    MLP("no")
    GEMMA_NORMS
    BOTTOM(ROTARY);

static const char gemma3[] =
    TOP(SCALED_EMBEDDING)
    ATTENTION("attention_bias", "attention_bias")
    QK_NORMS("head_dim", "head_dim")
    MLP("no")
    GEMMA_NORMS
    BOTTOM("~full_attention_inv_freq=rotary@4?full "
           "~full_attention_original_inv_freq=rotary@4?full "
           "~sliding_attention_inv_freq=rotary@4?sliding "
           "~sliding_attention_original_inv_freq=rotary@4?sliding");

static const char phi3[] =
    TOP(EMBEDDING)
    "   self_attn *Attention\n"
    "    o_proj Linear weight=hidden*q\n"
    "    qkv_proj Linear weight=qkv*hidden\n"
    "   mlp *MLP\n"
    "    gate_up_proj Linear weight=2*ffn*hidden\n"
    "    down_proj Linear weight=hidden*ffn\n"
    "    activation_fn Activation\n"
    NORMS
    "   resid_attn_dropout Dropout\n"
    "   resid_mlp_dropout Dropout\n"
    BOTTOM(ROTARY);

static const char gpt_oss[] =
    TOP(EMBEDDING)
    "   self_attn *Attention sinks=heads\n"
    QKVO("attention_bias", "attention_bias")
    "   mlp *MLP\n"
    "    router *TopKRouter weight=experts*hidden bias=experts\n"
    "    experts *Experts gate_up_proj=experts*2*ffn*hidden gate_up_proj_bias=experts*2*ffn "
                         "down_proj=experts*hidden*ffn down_proj_bias=experts*hidden\n"
    NORMS
    BOTTOM(ROTARY);

static const char olmo2[] =
    TOP(EMBEDDING)
    ATTENTION("attention_bias", "attention_bias")
    QK_NORMS("q", "kv")
    MLP("no")
    NORM("   post_attention_layernorm", "hidden")
    NORM("   post_feedforward_layernorm", "hidden")
    BOTTOM(ROTARY);

static const char deepseek_v3[] =
    TOP(EMBEDDING)
    "   self_attn *Attention\n"
    "    q_proj Linear weight=heads*qk_dim*hidden ?q_direct\n"
    "    q_a_proj Linear weight=q_lora*hidden bias=q_lora?attention_bias ?q_lora\n"
    "    q_a_layernorm *RMSNorm weight=q_lora ?q_lora\n"
    "    q_b_proj Linear weight=heads*qk_dim*q_lora ?q_lora\n"
    LINEAR("    kv_a_proj_with_mqa", "kv_a", "hidden", "attention_bias")
    NORM("    kv_a_layernorm", "kv_lora")
    "    kv_b_proj Linear weight=heads*nope_v*kv_lora\n"
    "    o_proj Linear weight=hidden*heads*v_dim bias=hidden?attention_bias\n"
    "   mlp *MoE ?sparse\n"
    EXPERTS("expert_ffn")
    "    gate *TopkRouter weight=experts*hidden ~e_score_correction_bias=experts\n"
    "    shared_experts *MLP\n"
    GATED("    ", "shared_experts*expert_ffn", "no")
    DENSE_MLP
    NORMS
    BOTTOM(ROTARY);

/* clang-format on */

static const struct mu_plan_tree_arch archs[] = {
    {"deepseek_v3", "DeepseekV3", deepseek_v3,
     "vocab=129280 hidden=7168 ffn=18432 layers=61 heads=128 kv_heads=128 experts=256 "
     "expert_ffn=2048 shared_experts=1 dense_layers=3 q_lora=1536 kv_lora=512 nope_dim=128 "
     "rope_dim=64 v_dim=128",
     false},
    {"gemma2", "Gemma2", gemma2,
     "vocab=256000 hidden=2304 ffn=9216 layers=26 heads=8 kv_heads=4 head_dim=256 tied=1", false},
    {"gemma3_text", "Gemma3", gemma3,
     "vocab=262208 hidden=2304 ffn=9216 layers=26 heads=8 kv_heads=4 head_dim=256 tied=1 "
     "sliding_pattern=6",
     false},
    {"gpt_oss", "GptOss", gpt_oss,
     "vocab=201088 hidden=2880 ffn=2880 layers=36 heads=64 kv_heads=8 head_dim=64 experts=128 "
     "attention_bias=1",
     false},
    {"granite", "Granite", llama, "vocab=32000 hidden=4096 ffn=11008 layers=32 heads=32", false},
    {"llama", "Llama", llama, "vocab=32000 hidden=4096 ffn=11008 layers=32 heads=32", false},
    {"mistral", "Mistral", mistral,
     "vocab=32000 hidden=4096 ffn=14336 layers=32 heads=32 kv_heads=8", false},
    {"mixtral", "Mixtral", mixtral,
     "vocab=32000 hidden=4096 ffn=14336 layers=32 heads=32 kv_heads=8 experts=8", false},
    {"olmo2", "Olmo2", olmo2, "vocab=50304 hidden=4096 ffn=11008 layers=32 heads=32", false},
    {"phi3", "Phi3", phi3, "vocab=32064 hidden=3072 ffn=8192 layers=32 heads=32", true},
    {"qwen2", "Qwen2", qwen2, "vocab=151936 hidden=4096 ffn=22016 layers=32 heads=32 kv_heads=32",
     false},
    {"qwen2_moe", "Qwen2Moe", qwen2_moe,
     "vocab=151936 hidden=2048 ffn=5632 layers=24 heads=16 kv_heads=16 qkv_bias=1 experts=60 "
     "expert_ffn=1408 shared_ffn=5632 sparse_step=1",
     false},
    {"qwen3", "Qwen3", qwen3,
     "vocab=151936 hidden=4096 ffn=22016 layers=32 heads=32 kv_heads=32 head_dim=128", false},
    {"qwen3_moe", "Qwen3Moe", qwen3_moe,
     "vocab=151936 hidden=2048 ffn=6144 layers=24 heads=32 kv_heads=4 experts=128 expert_ffn=768 "
     "sparse_step=1",
     false},
    {"smollm3", "SmolLM3", llama,
     "vocab=128256 hidden=2048 ffn=11008 layers=36 heads=16 kv_heads=4 tied=1", false},
};

const struct mu_plan_tree_arch *mu_plan_tree_arch_find(const char *model_type)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(archs); i++)
        if (strcmp(archs[i].model_type, model_type) == 0) return &archs[i];
    return NULL;
}

void mu_plan_tree_arch_list(struct mu_text *out)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(archs); i++)
        mu_text_printf(out, "%s%s", i ? ", " : "", archs[i].model_type);
}
