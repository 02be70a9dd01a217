/* Between module_tree.c, which unfolds descriptions, and module_tree_arch.c, which holds them. */
#ifndef MU_PLAN_MODULE_TREE_INT_H
#define MU_PLAN_MODULE_TREE_INT_H

#include "plan/module_tree.h"

struct mu_plan_tree_arch {
    const char *model_type, *prefix;
    const char *text;
    /* "vocab=32000 ...": what the configuration class assumes where config.json is silent. A word
     * not named is 0, or follows from others (kv_heads, head_dim). */
    const char *defaults;
    bool partial_rotary; /* the rotary embedding heeds partial_rotary_factor in its default form */
};

const struct mu_plan_tree_arch *mu_plan_tree_arch_find(const char *model_type);
/* "deepseek_v3, gemma2, ...": for a message. */
void mu_plan_tree_arch_list(struct mu_text *out);

#endif
