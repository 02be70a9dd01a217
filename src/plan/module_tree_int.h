/* Between module_tree.c, which unfolds descriptions, and module_tree_arch.c, which holds them. */
#ifndef MU_PLAN_MODULE_TREE_INT_H
#define MU_PLAN_MODULE_TREE_INT_H

#include "plan/module_tree.h"

/*
 * The words that descriptions are written in. X(word, config.json's key and its other spellings);
 * words without a key are derived or hold for one layer. module_tree_arch.c says how they are used.
 */
#define MU_TREE_WORDS(X)                                                                           \
    X(vocab, "vocab_size")                                                                         \
    X(hidden, "hidden_size")                                                                       \
    X(ffn, "intermediate_size")                                                                    \
    X(layers, "num_hidden_layers")                                                                 \
    X(heads, "num_attention_heads")                                                                \
    X(kv_heads, "num_key_value_heads")                                                             \
    X(head_dim, "head_dim")                                                                        \
    X(attention_bias, "attention_bias")                                                            \
    X(mlp_bias, "mlp_bias")                                                                        \
    X(qkv_bias, "qkv_bias")                                                                        \
    X(tied, "tie_word_embeddings")                                                                 \
    X(experts, "num_experts|num_local_experts|n_routed_experts")                                   \
    X(expert_ffn, "moe_intermediate_size")                                                         \
    X(shared_ffn, "shared_expert_intermediate_size")                                               \
    X(shared_experts, "n_shared_experts")                                                          \
    X(dense_layers, "first_k_dense_replace")                                                       \
    X(sparse_step, "decoder_sparse_step")                                                          \
    X(q_lora, "q_lora_rank")                                                                       \
    X(kv_lora, "kv_lora_rank")                                                                     \
    X(nope_dim, "qk_nope_head_dim")                                                                \
    X(rope_dim, "qk_rope_head_dim")                                                                \
    X(v_dim, "v_head_dim")                                                                         \
    X(sliding_pattern, "sliding_window_pattern")                                                   \
    X(yes, NULL)                                                                                   \
    X(no, NULL)                                                                                    \
    X(q, NULL)        /* heads * head_dim */                                                       \
    X(kv, NULL)       /* kv_heads * head_dim */                                                    \
    X(qkv, NULL)      /* q + 2 kv */                                                               \
    X(qk_dim, NULL)   /* nope_dim + rope_dim */                                                    \
    X(nope_v, NULL)   /* nope_dim + v_dim */                                                       \
    X(kv_a, NULL)     /* kv_lora + rope_dim */                                                     \
    X(q_direct, NULL) /* no q_lora */                                                              \
    X(rotary, NULL)   /* frequencies of the rotary embedding */                                    \
    X(full, NULL)     /* some layer attends to everything */                                       \
    X(sliding, NULL)  /* some layer attends to a window */                                         \
    X(sparse, NULL)   /* this layer has experts */                                                 \
    X(dense, NULL)    /* this layer has none */

#define MU_TREE_WORD_ENUM_(word, key) MU_TREE_WORD_##word,
enum mu_tree_word { MU_TREE_WORDS(MU_TREE_WORD_ENUM_) MU_TREE_WORD_COUNT };
#undef MU_TREE_WORD_ENUM_

struct mu_tree_arch {
    const char *model_type, *prefix;
    const char *text;
    /* "vocab=32000 ...": what the configuration class assumes where config.json is silent. A word
     * not named is 0, or follows from others (kv_heads, head_dim). */
    const char *defaults;
    bool partial_rotary; /* the rotary embedding heeds partial_rotary_factor in its default form */
};

const struct mu_tree_arch *mu_tree_arch_find(const char *model_type);
/* "deepseek_v3, gemma2, ...": for a message. */
void mu_tree_arch_list(struct mu_text *out);

#endif
