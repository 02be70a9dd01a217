/* Unfolds an architecture's description into the tree of modules; see module_tree.h. */
#include "plan/module_tree_int.h"

#include "base/number.h"

#define LINES_MAX   64
#define TENSORS_MAX 5 /* of one module */
#define DEPTH_MAX   10
#define LAYERS_MAX  4096
#define VALUE_MAX   0x1p31 /* of one number in config.json */
#define BYTES_MAX   0x1p53 /* doubles count bytes exactly up to here */
#define TIES_MAX    8
#define SKIP_MAX    1000 /* names of modules that stay unquantised */

/*
 * The words that descriptions are written in. X(word, config.json's key and its other spellings);
 * words without a key are derived or hold for one layer. module_tree_arch.c says how they are used.
 */
#define WORDS(X)                                                                                   \
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

#define WORD_ENUM_(word, key) WORD_##word,
enum word { WORDS(WORD_ENUM_) WORD_COUNT };
#undef WORD_ENUM_

#define WORD_ROW_(word, key) {#word, key},
static const struct {
    const char *word, *keys;
} words[] = {WORDS(WORD_ROW_)};
#undef WORD_ROW_

struct tensor {
    struct mu_str name;
    enum mu_plan_tree_kind kind;
    enum word condition;  /* `yes` for always */
    double values;        /* how many */
    unsigned value_bytes; /* 0: the model's data type */
    uint8_t tie;
};

struct line {
    unsigned depth;
    struct mu_str name, class_name;
    enum word condition;
    struct tensor tensors[TENSORS_MAX];
    unsigned n_tensors;
};

struct builder {
    struct mu_plan_tree *tree;
    const struct mu_plan_tree_options *options;
    double words[WORD_COUNT];
    struct line lines[LINES_MAX];
    unsigned n_lines;
    uint32_t open[DEPTH_MAX]; /* the nodes from the root to the one being filled */
    const struct line *open_lines[DEPTH_MAX];
    unsigned n_open;
    unsigned ties_seen; /* bit g: a tensor of group g was counted */
    struct mu_text path;
};

static bool word_find(struct mu_str name, enum word *out)
{
    for (unsigned i = 0; i < WORD_COUNT; i++) {
        if (!mu_str_is(name, words[i].word)) continue;
        *out = (enum word)i;
        return true;
    }
    return false;
}

/* Cuts `*rest` at the first `mark`; what stood before it is returned. */
static struct mu_str cut(struct mu_str *rest, char mark)
{
    const char *at = rest->len ? memchr(rest->p, mark, rest->len) : NULL;
    struct mu_str head = {rest->p, at ? (size_t)(at - rest->p) : rest->len};
    size_t used = at ? head.len + 1 : head.len;
    *rest = (struct mu_str){rest->p + used, rest->len - used};
    return head;
}

/* ---- descriptions ---- */

static bool shape_values(const double *values, struct mu_str shape, double *out)
{
    *out = 1;
    while (shape.len > 0) {
        struct mu_str factor = cut(&shape, '*');
        enum word word;
        uint64_t number;
        if (word_find(factor, &word))
            *out *= values[word];
        else if (mu_parse_u64(factor, 0, UINT32_MAX, &number))
            *out *= (double)number;
        else
            return false;
    }
    return true;
}

/* "~name=shape@4&1?word", the marks behind the shape in this order. */
static bool tensor_parse(const double *values, struct mu_str text, struct tensor *out)
{
    bool buffer = text.len > 0 && text.p[0] == '~';
    if (buffer) text = (struct mu_str){text.p + 1, text.len - 1};
    *out = (struct tensor){.kind = buffer ? MU_PLAN_TREE_BUFFER : MU_PLAN_TREE_PARAMETER,
                           .condition = WORD_yes};
    out->name = cut(&text, '=');
    struct mu_str shape = cut(&text, '?');
    if (text.len > 0 && !word_find(text, &out->condition)) return false;
    uint64_t tie = 0, value_bytes = 0;
    struct mu_str marks = shape;
    shape = cut(&marks, '&');
    if (marks.len > 0 && !mu_parse_u64(marks, 1, TIES_MAX, &tie)) return false;
    marks = shape;
    shape = cut(&marks, '@');
    if (marks.len > 0 && !mu_parse_u64(marks, 1, 8, &value_bytes)) return false;
    out->tie = (uint8_t)tie;
    out->value_bytes = (unsigned)value_bytes;
    return out->name.len > 0 && shape.len > 0 && shape_values(values, shape, &out->values);
}

static bool line_parse(const double *values, struct mu_str text, struct line *out)
{
    *out = (struct line){.depth = 1, .condition = WORD_yes};
    for (; text.len > 0 && text.p[0] == ' '; text.p++, text.len--)
        out->depth++;
    out->name = cut(&text, ' ');
    out->class_name = cut(&text, ' ');
    while (text.len > 0) {
        struct mu_str part = cut(&text, ' ');
        if (part.len > 0 && part.p[0] == '?') {
            part = (struct mu_str){part.p + 1, part.len - 1};
            if (!word_find(part, &out->condition)) return false;
        } else if (out->n_tensors == TENSORS_MAX ||
                   !tensor_parse(values, part, &out->tensors[out->n_tensors++])) {
            return false;
        }
    }
    return out->depth < DEPTH_MAX && out->name.len > 0 && out->class_name.len > 0;
}

static mu_status lines_parse(struct builder *b, const char *text, struct mu_err *err)
{
    struct mu_str rest = mu_str(text);
    while (rest.len > 0) {
        struct mu_str line = cut(&rest, '\n');
        if (b->n_lines == LINES_MAX || !line_parse(b->words, line, &b->lines[b->n_lines++]))
            return mu_fail(err, MU_E_INTERNAL, "a module cannot be described as '%.*s'",
                           (int)line.len, line.p);
    }
    return MU_OK;
}

/* Lines from `first` on that describe one layer. */
static unsigned layer_lines(const struct builder *b, unsigned first)
{
    unsigned n = 1;
    while (first + n < b->n_lines && b->lines[first + n].depth > b->lines[first].depth)
        n++;
    return n;
}

static uint64_t nodes_max(const struct builder *b)
{
    uint64_t n = 1;
    unsigned in_layer = 0;
    for (unsigned i = 0; i < b->n_lines; i++) {
        if (mu_str_is(b->lines[i].name, "#")) in_layer = layer_lines(b, i);
        uint64_t times = in_layer > 0 ? (uint64_t)b->words[WORD_layers] : 1;
        n += times * (1 + b->lines[i].n_tensors);
        if (in_layer > 0) in_layer--;
    }
    return n;
}

/* ---- unfolding ---- */

static struct mu_plan_tree_node *node_add(struct builder *b, struct mu_str name,
                                          enum mu_plan_tree_kind kind)
{
    struct mu_plan_tree *tree = b->tree;
    uint32_t parent = b->n_open > 0 ? b->open[b->n_open - 1] : MU_PLAN_TREE_NONE;
    struct mu_plan_tree_node *node = &tree->nodes[tree->n++];
    *node =
        (struct mu_plan_tree_node){.name = name, .kind = kind, .parent = parent, .end = tree->n};
    return node;
}

static bool ends_with(struct mu_str s, struct mu_str end)
{
    return s.len >= end.len && memcmp(s.p + s.len - end.len, end.p, end.len) == 0;
}

/* A name in the list keeps what ends in it, and itself with all below it. */
static bool skipped(const struct builder *b, struct mu_str path)
{
    const json_t *skip = b->options->skip;
    if (!json_is_array(skip)) return mu_str_is(path, "lm_head");
    for (size_t i = 0; i < json_array_size(skip); i++) {
        const json_t *item = json_array_get(skip, i);
        struct mu_str name = {json_string_value(item), json_string_length(item)};
        if (name.len == 0) continue;
        if (ends_with(path, name)) return true;
        if (path.len > name.len && path.p[name.len] == '.' && memcmp(path.p, name.p, name.len) == 0)
            return true;
    }
    return false;
}

static bool linear_quantised(struct builder *b)
{
    const struct line *line = b->open_lines[b->n_open - 1];
    if (b->options->linear_bytes == 0 || !mu_str_is(line->class_name, "Linear")) return false;
    mu_text_clear(&b->path);
    mu_plan_tree_path(b->tree, b->open[b->n_open - 1], &b->path);
    return !skipped(b, (struct mu_str){mu_text_get(&b->path), b->path.len});
}

static void tensor_add(struct builder *b, const struct tensor *t)
{
    if (b->words[t->condition] == 0) return;
    double value_bytes = t->value_bytes ? t->value_bytes : b->options->float_bytes;
    if (mu_str_is(t->name, "weight") && linear_quantised(b)) value_bytes = b->options->linear_bytes;
    struct mu_plan_tree_node *node = node_add(b, t->name, t->kind);
    node->tie = b->words[WORD_tied] != 0 ? t->tie : 0;
    bool counted = node->tie == 0 || !(b->ties_seen >> node->tie & 1);
    b->ties_seen |= node->tie ? 1u << node->tie : 0;
    if (node->tie) b->tree->tied[b->tree->n_tied++] = b->tree->n - 1;
    node->n_tensors = counted;
    node->bytes = counted ? t->values * value_bytes : 0;
    struct mu_plan_tree_node *parent = &b->tree->nodes[node->parent];
    parent->n_tensors += node->n_tensors;
    parent->bytes += node->bytes;
    if (t->kind == MU_PLAN_TREE_BUFFER) parent->buffer_bytes += node->bytes;
}

static void tensors_add(struct builder *b, enum mu_plan_tree_kind kind)
{
    const struct line *line = b->open_lines[b->n_open - 1];
    for (unsigned i = 0; line && i < line->n_tensors; i++)
        if (line->tensors[i].kind == kind) tensor_add(b, &line->tensors[i]);
}

/* Ends modules until `depth` are open. */
static void close_to(struct builder *b, unsigned depth)
{
    while (b->n_open > depth) {
        tensors_add(b, MU_PLAN_TREE_BUFFER);
        struct mu_plan_tree_node *node = &b->tree->nodes[b->open[--b->n_open]];
        node->end = b->tree->n;
        if (node->parent == MU_PLAN_TREE_NONE) continue;
        struct mu_plan_tree_node *parent = &b->tree->nodes[node->parent];
        parent->n_children++;
        parent->n_tensors += node->n_tensors;
        parent->bytes += node->bytes;
        parent->buffer_bytes += node->buffer_bytes;
    }
}

static void module_open(struct builder *b, const struct line *line, struct mu_str name)
{
    node_add(b, name, MU_PLAN_TREE_MODULE)->class_name = line->class_name;
    b->open[b->n_open] = b->tree->n - 1;
    b->open_lines[b->n_open++] = line;
    tensors_add(b, MU_PLAN_TREE_PARAMETER);
}

static void lines_unfold(struct builder *b, unsigned first, unsigned end)
{
    for (unsigned i = first; i < end; i++) {
        const struct line *line = &b->lines[i];
        if (b->words[line->condition] == 0) {
            i += layer_lines(b, i) - 1;
            continue;
        }
        close_to(b, line->depth);
        module_open(b, line, line->name);
    }
}

/* Marks the layers that mlp_only_layers names; NULL when memory is out. */
static bool *layers_marked(const struct builder *b, const json_t *list)
{
    double layers = b->words[WORD_layers];
    bool *marked = mu_arena_alloc(b->tree->arena, (size_t)layers, sizeof *marked);
    for (size_t i = 0; marked && i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        double layer = json_is_integer(item) ? json_number_value(item) : -1;
        if (layer >= 0 && layer < layers) marked[(size_t)layer] = true;
    }
    return marked;
}

static void layer_words(double *v, unsigned layer, bool mlp_only)
{
    unsigned step = (unsigned)v[WORD_sparse_step];
    bool sparse = v[WORD_experts] > 0 && layer >= v[WORD_dense_layers] &&
                  (step == 0 || (layer + 1) % step == 0) && !mlp_only;
    v[WORD_sparse] = sparse;
    v[WORD_dense] = !sparse;
}

static mu_status layers_unfold(struct builder *b, unsigned first, const json_t *config,
                               struct mu_err *err)
{
    unsigned end = first + layer_lines(b, first);
    const bool *mlp_only = layers_marked(b, json_object_get(config, "mlp_only_layers"));
    if (!mlp_only) return mu_fail_memory(err, (size_t)b->words[WORD_layers]);
    for (unsigned layer = 0; layer < b->words[WORD_layers]; layer++) {
        char *number = mu_arena_printf(b->tree->arena, "%u", layer);
        if (!number) return mu_fail_memory(err, MU_FLOAT_TEXT);
        layer_words(b->words, layer, mlp_only[layer]);
        close_to(b, b->lines[first].depth);
        module_open(b, &b->lines[first], mu_str(number));
        lines_unfold(b, first + 1, end);
    }
    return MU_OK;
}

static mu_status unfold(struct builder *b, const json_t *config, struct mu_err *err)
{
    static const struct line root = {0};
    unsigned layers = 0;
    while (layers < b->n_lines && !mu_str_is(b->lines[layers].name, "#"))
        layers++;
    module_open(b, &root, MU_STR(""));
    lines_unfold(b, 0, layers);
    if (layers < b->n_lines) {
        MU_TRY(layers_unfold(b, layers, config, err));
        lines_unfold(b, layers + layer_lines(b, layers), b->n_lines);
    }
    close_to(b, 0);
    double bytes = b->tree->nodes[0].bytes;
    if (bytes < BYTES_MAX) return MU_OK;
    return mu_fail(err, MU_E_INPUT, "the model would have %.3g bytes, which cannot be", bytes);
}

static mu_status build(struct builder *b, const char *text, const json_t *config,
                       struct mu_err *err)
{
    if (json_array_size(b->options->skip) > SKIP_MAX)
        return mu_fail(err, MU_E_INPUT, "more than %d modules to skip", SKIP_MAX);
    MU_TRY(lines_parse(b, text, err));
    uint64_t n = nodes_max(b);
    struct mu_plan_tree *tree = b->tree;
    tree->nodes = mu_arena_alloc(tree->arena, n, sizeof *tree->nodes);
    tree->tied = mu_arena_alloc(tree->arena, n, sizeof *tree->tied);
    if (!tree->nodes || !tree->tied) return mu_fail_memory(err, n * sizeof *tree->nodes);
    mu_text_init(&b->path, 4096);
    mu_status status = unfold(b, config, err);
    mu_text_fini(&b->path);
    return status;
}

/* ---- config.json ---- */

static mu_status value_read(const json_t *config, const char *key, double *out, struct mu_err *err)
{
    const json_t *json = json_object_get(config, key);
    if (json_is_boolean(json) || json_is_null(json))
        *out = json_is_true(json);
    else if (json_is_integer(json) && json_number_value(json) >= 0 &&
             json_number_value(json) <= VALUE_MAX)
        *out = json_number_value(json);
    else
        return mu_fail(err, MU_E_INPUT, "%s is not a whole number from 0 to 2^31", key);
    return MU_OK;
}

/* The value under the first of the keys that is there; none: `*out` stays. A null counts as 0,
 * which lets the value follow from others. */
static mu_status word_read(const json_t *config, const char *keys, double *out, struct mu_err *err)
{
    struct mu_str rest = mu_str(keys);
    while (rest.len > 0) {
        char key[64] = "";
        struct mu_str name = cut(&rest, '|');
        MU_ASSERT(name.len < sizeof key);
        memcpy(key, name.p, name.len);
        if (json_object_get(config, key)) return value_read(config, key, out, err);
    }
    return MU_OK;
}

static void defaults_read(double *values, const char *defaults)
{
    struct mu_str rest = mu_str(defaults);
    while (rest.len > 0) {
        struct mu_str number = cut(&rest, ' '), name = cut(&number, '=');
        enum word word = WORD_yes;
        uint64_t value = 0;
        bool ok MU_UNUSED = word_find(name, &word) && mu_parse_u64(number, 0, UINT32_MAX, &value);
        MU_ASSERT(ok);
        values[word] = (double)value;
    }
}

/* Frequencies of the rotary embedding: half of what is rotated of a head, rounded up. */
static mu_status rotary_read(const json_t *config, bool partial, double *v, struct mu_err *err)
{
    double dim = v[WORD_rope_dim] > 0 ? v[WORD_rope_dim] : v[WORD_head_dim];
    const json_t *rope = json_object_get(config, "rope_parameters");
    if (!json_is_object(rope)) rope = json_object_get(config, "rope_scaling");
    const json_t *kind = json_object_get(rope, "rope_type");
    if (!kind) kind = json_object_get(rope, "type");
    bool heeds =
        partial || (json_is_string(kind) && strcmp(json_string_value(kind), "default") != 0);
    const json_t *share = json_object_get(rope, "partial_rotary_factor");
    if (!share) share = json_object_get(config, "partial_rotary_factor");
    if (heeds && json_is_number(share)) {
        double f = json_number_value(share);
        if (!(f > 0 && f <= 1))
            return mu_fail(err, MU_E_INPUT, "partial_rotary_factor is not between 0 and 1");
        dim = (double)(uint64_t)(dim * f);
    }
    uint64_t pairs = ((uint64_t)dim + 1) / 2;
    v[WORD_rotary] = (double)pairs;
    return MU_OK;
}

/* Which kinds of attention occur: the list of layer types, or one full layer in `pattern`. */
static void layer_types_read(const json_t *config, double *v)
{
    const json_t *types = json_object_get(config, "layer_types");
    double layers = v[WORD_layers], pattern = v[WORD_sliding_pattern];
    v[WORD_full] = pattern > 0 && layers >= pattern;
    v[WORD_sliding] = layers > 0 && pattern != 1;
    if (!json_is_array(types)) return;
    v[WORD_full] = v[WORD_sliding] = 0;
    for (size_t i = 0; i < json_array_size(types); i++) {
        const char *type = json_string_value(json_array_get(types, i));
        if (type && strcmp(type, "full_attention") == 0) v[WORD_full] = 1;
        if (type && strcmp(type, "sliding_attention") == 0) v[WORD_sliding] = 1;
    }
}

static mu_status words_derive(const json_t *config, bool partial, double *v, struct mu_err *err)
{
    static const enum word needed[] = {WORD_hidden, WORD_heads, WORD_layers, WORD_vocab};
    for (size_t i = 0; i < MU_ARRAY_LEN(needed); i++)
        if (v[needed[i]] < 1) return mu_fail(err, MU_E_INPUT, "%s is 0", words[needed[i]].keys);
    if (v[WORD_layers] > LAYERS_MAX)
        return mu_fail(err, MU_E_INPUT, "num_hidden_layers is over %d", LAYERS_MAX);
    if (v[WORD_kv_heads] == 0) v[WORD_kv_heads] = v[WORD_heads];
    uint64_t even_share = (uint64_t)v[WORD_hidden] / (uint64_t)v[WORD_heads];
    if (v[WORD_head_dim] == 0) v[WORD_head_dim] = (double)even_share;
    v[WORD_yes] = 1;
    v[WORD_q] = v[WORD_heads] * v[WORD_head_dim];
    v[WORD_kv] = v[WORD_kv_heads] * v[WORD_head_dim];
    v[WORD_qkv] = v[WORD_q] + 2 * v[WORD_kv];
    v[WORD_qk_dim] = v[WORD_nope_dim] + v[WORD_rope_dim];
    v[WORD_nope_v] = v[WORD_nope_dim] + v[WORD_v_dim];
    v[WORD_kv_a] = v[WORD_kv_lora] + v[WORD_rope_dim];
    v[WORD_q_direct] = v[WORD_q_lora] == 0;
    layer_types_read(config, v);
    return rotary_read(config, partial, v, err);
}

static const struct mu_plan_tree_arch *arch_of(const json_t *config, struct mu_err *err)
{
    const char *type = json_string_value(json_object_get(config, "model_type"));
    const struct mu_plan_tree_arch *arch = type ? mu_plan_tree_arch_find(type) : NULL;
    if (type && !arch) {
        struct mu_text list;
        mu_text_init(&list, 512);
        mu_plan_tree_arch_list(&list);
        (void)mu_fail(err, MU_E_UNSUPPORTED, "no device map for model_type '%.40s'", type);
        mu_err_cure(err, "it knows %s", mu_text_get(&list));
        mu_text_fini(&list);
    } else if (!type) {
        (void)mu_fail(err, MU_E_INPUT, "model_type is not there");
    }
    return arch;
}

mu_status mu_plan_tree_from_config(const json_t *config, const struct mu_plan_tree_options *options,
                                   struct mu_arena *arena, struct mu_plan_tree *out,
                                   struct mu_err *err)
{
    const struct mu_plan_tree_arch *arch = arch_of(config, err);
    if (!arch) return err ? err->code : MU_E_INPUT;
    *out = (struct mu_plan_tree){.arena = arena, .prefix = mu_str(arch->prefix)};
    struct builder *b = mu_arena_alloc(arena, 1, sizeof *b);
    if (!b) return mu_fail_memory(err, sizeof *b);
    b->tree = out;
    b->options = options;
    defaults_read(b->words, arch->defaults);
    for (unsigned i = 0; i < WORD_COUNT; i++)
        if (words[i].keys) MU_TRY(word_read(config, words[i].keys, &b->words[i], err));
    MU_TRY(words_derive(config, arch->partial_rotary, b->words, err));
    return build(b, arch->text, config, err);
}

mu_status mu_plan_tree_from_text(const char *text, const struct mu_plan_tree_options *options,
                                 struct mu_arena *arena, struct mu_plan_tree *out,
                                 struct mu_err *err)
{
    *out = (struct mu_plan_tree){.arena = arena};
    struct builder *b = mu_arena_alloc(arena, 1, sizeof *b);
    if (!b) return mu_fail_memory(err, sizeof *b);
    b->tree = out;
    b->options = options;
    b->words[WORD_yes] = b->words[WORD_tied] = 1;
    return build(b, text, NULL, err);
}

/* ---- reading a tree ---- */

static bool class_is(const struct mu_plan_tree *tree, struct mu_str class_name,
                     struct mu_str wanted)
{
    if (class_name.len == 0 || class_name.p[0] != '*') return mu_str_equal(class_name, wanted);
    struct mu_str prefix = tree->prefix, own = {class_name.p + 1, class_name.len - 1};
    return wanted.len == prefix.len + own.len && memcmp(wanted.p, prefix.p, prefix.len) == 0 &&
           memcmp(wanted.p + prefix.len, own.p, own.len) == 0;
}

void mu_plan_tree_no_split(struct mu_plan_tree *tree, const char *classes)
{
    for (uint32_t i = 0; i < tree->n; i++) {
        struct mu_plan_tree_node *node = &tree->nodes[i];
        node->no_split = !classes && mu_str_is(node->class_name, "*DecoderLayer");
        struct mu_str rest = mu_str(classes ? classes : "");
        while (rest.len > 0 && node->kind == MU_PLAN_TREE_MODULE)
            node->no_split |= class_is(tree, node->class_name, cut(&rest, ','));
    }
}

void mu_plan_tree_path(const struct mu_plan_tree *tree, uint32_t node, struct mu_text *out)
{
    uint32_t chain[DEPTH_MAX + 1];
    unsigned n = 0;
    for (uint32_t i = node; tree->nodes[i].parent != MU_PLAN_TREE_NONE; i = tree->nodes[i].parent)
        chain[n++] = i;
    for (unsigned i = n; i-- > 0;) {
        if (i + 1 < n) mu_text_char(out, '.');
        mu_text_add(out, tree->nodes[chain[i]].name.p, tree->nodes[chain[i]].name.len);
    }
}

static uint32_t child_find(const struct mu_plan_tree *tree, uint32_t node, struct mu_str name)
{
    for (uint32_t i = node + 1; i < tree->nodes[node].end; i = tree->nodes[i].end)
        if (mu_str_equal(tree->nodes[i].name, name)) return i;
    return MU_PLAN_TREE_NONE;
}

uint32_t mu_plan_tree_find(const struct mu_plan_tree *tree, struct mu_str path)
{
    uint32_t node = 0;
    while (path.len > 0 && node != MU_PLAN_TREE_NONE)
        node = child_find(tree, node, cut(&path, '.'));
    return node;
}
