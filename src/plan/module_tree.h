/*
 * The tree of modules that transformers builds for a model, with the bytes of every tensor: what
 * the device map rules walk over. Built from config.json's values alone.
 *
 * Owns the descriptions of architectures (module_tree_arch.c) and how they unfold. Knows nothing of
 * devices. Inside the room: device_map.c and the tests. Any thread; a tree is read-only once made.
 */
#ifndef MU_PLAN_MODULE_TREE_H
#define MU_PLAN_MODULE_TREE_H

#include "base/alloc.h"
#include "base/json.h"

enum mu_plan_tree_kind { MU_PLAN_TREE_MODULE, MU_PLAN_TREE_PARAMETER, MU_PLAN_TREE_BUFFER };

#define MU_PLAN_TREE_NONE UINT32_MAX

/*
 * One module or tensor. Nodes stand in the order in which PyTorch's modules are walked: a module,
 * its own parameters, its children, its own buffers. Bytes are doubles because 4-bit values have
 * half a byte; they are exact, being far below 2^53.
 */
struct mu_plan_tree_node {
    struct mu_str name;       /* one component of the dotted path */
    struct mu_str class_name; /* of a module; a leading '*' stands for the architecture's prefix */
    enum mu_plan_tree_kind kind;
    bool no_split;       /* set by mu_plan_tree_no_split */
    uint8_t tie;         /* of a tensor: group of tensors that are one and the same; 0 for none */
    uint32_t parent;     /* MU_PLAN_TREE_NONE for the root */
    uint32_t end;        /* the subtree is [this node, end) */
    uint32_t n_children; /* modules directly below */
    uint32_t n_tensors;  /* below, without those counted under another name */
    double bytes;        /* of the subtree; a tied tensor counts under its first name only */
    double buffer_bytes; /* the part of it that is buffers */
};

struct mu_plan_tree {
    struct mu_arena *arena;
    struct mu_plan_tree_node *nodes;
    uint32_t n;
    struct mu_str prefix; /* "Llama" */
    uint32_t *tied;       /* tensors with a tie, in order */
    uint32_t n_tied;
};

struct mu_plan_tree_options {
    unsigned float_bytes; /* of the data type the model is loaded in */
    double linear_bytes;  /* of a value of a quantised Linear's weight; 0: not quantised */
    const json_t *skip;   /* names of modules that stay unquantised; NULL: the head */
};

/* Everything lands in `arena`, which the caller owns. */
mu_status mu_plan_tree_from_config(const json_t *config, const struct mu_plan_tree_options *options,
                                   struct mu_arena *arena, struct mu_plan_tree *out,
                                   struct mu_err *err);

/* A tree written out by hand, in the language of module_tree_arch.c, for tests of the rules. */
mu_status mu_plan_tree_from_text(const char *text, const struct mu_plan_tree_options *options,
                                 struct mu_arena *arena, struct mu_plan_tree *out,
                                 struct mu_err *err);

/* Marks the modules of these classes ("LlamaDecoderLayer,LlamaMLP"); NULL: the architecture's own,
 * its decoder layer. Forgets what was marked before. */
void mu_plan_tree_no_split(struct mu_plan_tree *tree, const char *classes);

/* Appends the dotted path; nothing for the root. */
void mu_plan_tree_path(const struct mu_plan_tree *tree, uint32_t node, struct mu_text *out);
/* The node of a dotted path ("" is the root); MU_PLAN_TREE_NONE when there is none. */
uint32_t mu_plan_tree_find(const struct mu_plan_tree *tree, struct mu_str path);

static inline bool mu_plan_tree_inside(const struct mu_plan_tree *tree, uint32_t node,
                                       uint32_t ancestor)
{
    return node >= ancestor && node < tree->nodes[ancestor].end;
}

#endif
