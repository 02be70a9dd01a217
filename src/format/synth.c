/*
 * synth:NAME[@TYPE]: a model in the exact shape of a known one, whose weights are made when they
 * are asked for (synth_rows.c). A row of share/models.tsv is turned into a config.json and read
 * like one, so that there is one reading of configurations. Names and shapes are the hub's.
 */
#include "format/format_int.h"

#include "base/number.h"
#include "format/synth.h"

#include <ctype.h>
#include <stdio.h>
#include <strings.h>
#include <xxhash.h>

/* ---- The table of models ------------------------------------------------------------------- */

enum { COLUMN_NAME, COLUMN_MORE = 13, COLUMN_SOURCE, COLUMNS };

/* What each column is called in config.json; NULL where it takes more than renaming. */
static const char *const column_keys[COLUMNS] = {
    NULL,
    "model_type",
    "num_hidden_layers",
    "hidden_size",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    "tie_word_embeddings",
    "rms_norm_eps",
    "rope_theta",
    NULL,
    NULL,
};

#define NAME_MAX_LEN 96

/* Without case, and without separators but for one between digits: "llama3.1:8b" and "Llama-3.1-8B"
 * are spelt llama3.1-8b. */
static void spell(struct mu_str name, char out[NAME_MAX_LEN])
{
    size_t n = 0;
    if (name.len > 5 && strncasecmp(name.p, "meta-", 5) == 0)
        name = (struct mu_str){name.p + 5, name.len - 5};
    for (size_t i = 0; i < name.len && n + 1 < NAME_MAX_LEN; i++) {
        unsigned char c = (unsigned char)name.p[i];
        bool between = n > 0 && isdigit((unsigned char)out[n - 1]) && i + 1 < name.len &&
                       isdigit((unsigned char)name.p[i + 1]);
        if (!memchr("-_: ", c, 4))
            out[n++] = (char)tolower(c);
        else if (between)
            out[n++] = '-';
    }
    out[n] = '\0';
}

static bool same_name(struct mu_str a, struct mu_str b)
{
    char x[NAME_MAX_LEN], y[NAME_MAX_LEN];
    spell(a, x);
    spell(b, y);
    return x[0] && strcmp(x, y) == 0;
}

static bool next_row(struct mu_str *table, struct mu_str columns[COLUMNS])
{
    while (table->len) {
        struct mu_str line = mu_str_take(table, '\n');
        if (line.len == 0 || line.p[0] == '#') continue;
        for (int i = 0; i < COLUMNS; i++)
            columns[i] = mu_str_take(&line, '\t');
        return true;
    }
    return false;
}

/* The hub's id that a row restates; empty for what was made here. */
static struct mu_str hub_id(const struct mu_str columns[COLUMNS])
{
    struct mu_str rest = columns[COLUMN_SOURCE], id = mu_str_take(&rest, ' ');
    if (id.len && id.p[id.len - 1] == ',') id.len--;
    return id.len && memchr(id.p, '/', id.len) ? id : MU_STR("");
}

/* The columns of the row with this name, or whose model has it on the hub. */
static bool find_row(struct mu_str table, struct mu_str name, struct mu_str columns[COLUMNS])
{
    struct mu_str rest = table;
    while (next_row(&rest, columns))
        if (same_name(columns[COLUMN_NAME], name)) return true;
    while (next_row(&table, columns)) {
        struct mu_str id = hub_id(columns);
        (void)mu_str_take(&id, '/');
        if (same_name(id, name)) return true;
    }
    return false;
}

static json_t *json_of(struct mu_str text)
{
    uint64_t whole;
    double real;
    if (mu_str_is(text, "yes")) return json_true();
    if (mu_str_is(text, "no")) return json_false();
    if (mu_parse_u64(text, 0, INT64_MAX, &whole)) return json_integer((json_int_t)whole);
    if (mu_parse_f64(text, &real)) return json_real(real);
    return json_stringn(text.p, text.len);
}

static mu_status json_of_row(const struct mu_str columns[COLUMNS], json_t **out, struct mu_err *err)
{
    json_t *root = NULL;
    struct mu_str more = columns[COLUMN_MORE].len ? columns[COLUMN_MORE] : MU_STR("{}");
    MU_TRY(mu_json_parse(more, "models.tsv, column 'more'", &root, err));
    mu_status status = MU_OK;
    for (int i = 0; i < COLUMNS && status == MU_OK; i++)
        if (column_keys[i] && json_object_set_new(root, column_keys[i], json_of(columns[i])) != 0)
            status = mu_fail(err, MU_E_INPUT, "models.tsv: column %d of '%.*s' cannot be used",
                             i + 1, (int)columns[0].len, columns[0].p);
    if (status == MU_OK)
        *out = root;
    else
        json_decref(root);
    return status;
}

static mu_status config_of_row(const struct mu_str columns[COLUMNS], struct mu_config *config,
                               struct mu_err *err)
{
    json_t *root;
    MU_TRY(json_of_row(columns, &root, err));
    mu_status status = mu_config_from_json(root, "models.tsv", config, err);
    json_decref(root);
    return status;
}

/* The nearest name, for "did you mean", as one would type it; nothing when all are far. */
static mu_status unknown(struct mu_str table, struct mu_str name, bool synth, struct mu_err *err)
{
    char wanted[NAME_MAX_LEN], other[NAME_MAX_LEN];
    struct mu_str columns[COLUMNS], best = {"", 0};
    spell(name, wanted);
    unsigned nearest = (unsigned)strlen(wanted) / 3 + 1;
    while (next_row(&table, columns)) {
        spell(columns[COLUMN_NAME], other);
        unsigned distance = mu_text_distance(wanted, other);
        if (distance >= nearest) continue;
        nearest = distance;
        best = columns[COLUMN_NAME];
    }
    const char *prefix = synth ? "synth:" : "";
    const char *all = synth ? "muster inspect synth:" : "share/models.tsv";
    mu_status status = mu_fail(err, MU_E_MISSING, "no model named '%.*s' in the table of shapes",
                               (int)MU_MIN(name.len, 100), name.p);
    if (best.len)
        mu_err_cure(err, "the nearest is %s%.*s; %s lists them all", prefix, (int)best.len, best.p,
                    all);
    else
        mu_err_cure(err, "%s lists them all", all);
    return status;
}

mu_status mu_synth_each(void (*each)(void *arg, const char *name, const struct mu_config *config),
                        void *arg, struct mu_err *err)
{
    struct mu_text table;
    mu_status status = mu_share_models(&table, err);
    struct mu_str rest = {mu_text_get(&table), table.len};
    struct mu_config *config = mu_calloc(1, sizeof *config);
    if (status == MU_OK && !config) status = mu_fail_memory(err, sizeof *config);
    struct mu_str columns[COLUMNS];
    while (status == MU_OK && next_row(&rest, columns)) {
        char *name = mu_strndup(columns[COLUMN_NAME].p, columns[COLUMN_NAME].len);
        status = name ? config_of_row(columns, config, err) : mu_fail_memory(err, 64);
        if (status == MU_OK) each(arg, name, config);
        mu_free(name);
    }
    mu_free(config);
    mu_text_fini(&table);
    return status;
}

static mu_status find_config(struct mu_str name, struct mu_config *config, struct mu_err *err)
{
    struct mu_text table;
    struct mu_str columns[COLUMNS];
    mu_status status = mu_share_models(&table, err);
    struct mu_str bytes = {mu_text_get(&table), table.len};
    if (status == MU_OK)
        status = find_row(bytes, name, columns) ? config_of_row(columns, config, err)
                                                : unknown(bytes, name, true, err);
    mu_text_fini(&table);
    return status;
}

mu_status mu_synth_row(const char *name, struct mu_synth_row *out, struct mu_err *err)
{
    struct mu_text table;
    struct mu_str columns[COLUMNS];
    bool synth = strncmp(name, "synth:", 6) == 0;
    struct mu_str bare = mu_str(synth ? name + 6 : name);
    mu_status status = mu_share_models(&table, err);
    struct mu_str bytes = {mu_text_get(&table), table.len};
    if (status == MU_OK && !find_row(bytes, bare, columns))
        status = unknown(bytes, bare, synth, err);
    if (status == MU_OK) status = json_of_row(columns, &out->config, err);
    if (status == MU_OK) {
        struct mu_str id = hub_id(columns);
        (void)snprintf(out->name, sizeof out->name, "%.*s", (int)columns[0].len, columns[0].p);
        (void)snprintf(out->hub_id, sizeof out->hub_id, "%.*s", (int)id.len, id.p);
    }
    mu_text_fini(&table);
    return status;
}

/* ---- Its tensors --------------------------------------------------------------------------- */

enum {
    LLAMA = 1,
    MISTRAL = 2,
    QWEN2 = 4,
    QWEN3 = 8,
    MIXTRAL = 16,
    QWEN3_MOE = 32,
    GPT_OSS = 64,     /* experts in bf16 */
    GPT_OSS_MX = 128, /* experts in mxfp4 */
    QWEN2_MOE = 256,
    DEEPSEEK_LITE = 512, /* without a latent for q */
    DEEPSEEK_V2 = 1024,
    DEEPSEEK_V3 = 2048,
};
#define OSS      (GPT_OSS | GPT_OSS_MX)
#define EVERY    0xfff
#define NARROW_Q (DEEPSEEK_V2 | DEEPSEEK_V3)
#define DEEPSEEK (DEEPSEEK_LITE | NARROW_Q)
#define HEADS    (EVERY & ~DEEPSEEK) /* the usual attention */
#define GATED    (LLAMA | MISTRAL | QWEN2 | QWEN3 | QWEN2_MOE | QWEN3_MOE | DEEPSEEK)
#define QKBIAS   (QWEN2 | QWEN2_MOE | OSS)
#define QKNORM   (QWEN3 | QWEN3_MOE)
#define EXPERTS  (QWEN2_MOE | QWEN3_MOE | DEEPSEEK)

static const struct {
    const char *name;
    unsigned bit;
} families[] = {
    {"llama", LLAMA},
    {"mistral", MISTRAL},
    {"qwen2", QWEN2},
    {"qwen3", QWEN3},
    {"mixtral", MIXTRAL},
    {"qwen3_moe", QWEN3_MOE},
    {"gpt_oss", GPT_OSS},
    {"qwen2_moe", QWEN2_MOE},
    {"deepseek_v2", DEEPSEEK_V2},
    {"deepseek_v3", DEEPSEEK_V3},
};

/* Layers of a model with experts are dense or have experts. */
enum scope { ONCE, EACH_LAYER, DENSE_LAYER, EXPERT_LAYER, EACH_EXPERT };

/* Dimensions, slowest first: H hidden, V vocabulary, Q and K widths of queries and of keys, D head,
 * A heads, F, X and S widths of MLP, expert and shared expert, W twice X, E experts, 1 one. Of
 * latent attention: L and R the latents of q and of k and v, P the latter with the key's rotated
 * part, M, U and T all heads' queries, unfolded keys and values, and values. */
struct pattern {
    unsigned families;
    enum scope scope;
    const char *name; /* below model.layers.N unless ONCE; # is the expert */
    const char *dims;
    enum mu_synth_kind kind;
};

static const struct pattern patterns[] = {
    {EVERY, ONCE, "model.embed_tokens.weight", "VH", MU_SYNTH_WEIGHT},
    {EVERY, EACH_LAYER, "input_layernorm.weight", "H", MU_SYNTH_ONES},
    {HEADS, EACH_LAYER, "self_attn.q_proj.weight", "QH", MU_SYNTH_WEIGHT},
    {HEADS, EACH_LAYER, "self_attn.k_proj.weight", "KH", MU_SYNTH_WEIGHT},
    {HEADS, EACH_LAYER, "self_attn.v_proj.weight", "KH", MU_SYNTH_WEIGHT},
    {HEADS, EACH_LAYER, "self_attn.o_proj.weight", "HQ", MU_SYNTH_WEIGHT},
    {DEEPSEEK_LITE, EACH_LAYER, "self_attn.q_proj.weight", "MH", MU_SYNTH_WEIGHT},
    {NARROW_Q, EACH_LAYER, "self_attn.q_a_proj.weight", "LH", MU_SYNTH_WEIGHT},
    {NARROW_Q, EACH_LAYER, "self_attn.q_a_layernorm.weight", "L", MU_SYNTH_ONES},
    {NARROW_Q, EACH_LAYER, "self_attn.q_b_proj.weight", "ML", MU_SYNTH_WEIGHT},
    {DEEPSEEK, EACH_LAYER, "self_attn.kv_a_proj_with_mqa.weight", "PH", MU_SYNTH_WEIGHT},
    {DEEPSEEK, EACH_LAYER, "self_attn.kv_a_layernorm.weight", "R", MU_SYNTH_ONES},
    {DEEPSEEK, EACH_LAYER, "self_attn.kv_b_proj.weight", "UR", MU_SYNTH_WEIGHT},
    {DEEPSEEK, EACH_LAYER, "self_attn.o_proj.weight", "HT", MU_SYNTH_WEIGHT},
    {QKBIAS, EACH_LAYER, "self_attn.q_proj.bias", "Q", MU_SYNTH_PLAIN},
    {QKBIAS, EACH_LAYER, "self_attn.k_proj.bias", "K", MU_SYNTH_PLAIN},
    {QKBIAS, EACH_LAYER, "self_attn.v_proj.bias", "K", MU_SYNTH_PLAIN},
    {OSS, EACH_LAYER, "self_attn.o_proj.bias", "H", MU_SYNTH_PLAIN},
    {OSS, EACH_LAYER, "self_attn.sinks", "A", MU_SYNTH_PLAIN},
    {QKNORM, EACH_LAYER, "self_attn.q_norm.weight", "D", MU_SYNTH_ONES},
    {QKNORM, EACH_LAYER, "self_attn.k_norm.weight", "D", MU_SYNTH_ONES},
    {EVERY, EACH_LAYER, "post_attention_layernorm.weight", "H", MU_SYNTH_ONES},
    {GATED, DENSE_LAYER, "mlp.gate_proj.weight", "FH", MU_SYNTH_WEIGHT},
    {GATED, DENSE_LAYER, "mlp.up_proj.weight", "FH", MU_SYNTH_WEIGHT},
    {GATED, DENSE_LAYER, "mlp.down_proj.weight", "HF", MU_SYNTH_WEIGHT},
    {MIXTRAL, EACH_LAYER, "block_sparse_moe.gate.weight", "EH", MU_SYNTH_PLAIN},
    {MIXTRAL, EACH_EXPERT, "block_sparse_moe.experts.#.w1.weight", "XH", MU_SYNTH_WEIGHT},
    {MIXTRAL, EACH_EXPERT, "block_sparse_moe.experts.#.w2.weight", "HX", MU_SYNTH_WEIGHT},
    {MIXTRAL, EACH_EXPERT, "block_sparse_moe.experts.#.w3.weight", "XH", MU_SYNTH_WEIGHT},
    {EXPERTS, EXPERT_LAYER, "mlp.gate.weight", "EH", MU_SYNTH_PLAIN},
    {DEEPSEEK_V3, EXPERT_LAYER, "mlp.gate.e_score_correction_bias", "E", MU_SYNTH_PLAIN},
    {EXPERTS, EACH_EXPERT, "mlp.experts.#.gate_proj.weight", "XH", MU_SYNTH_WEIGHT},
    {EXPERTS, EACH_EXPERT, "mlp.experts.#.up_proj.weight", "XH", MU_SYNTH_WEIGHT},
    {EXPERTS, EACH_EXPERT, "mlp.experts.#.down_proj.weight", "HX", MU_SYNTH_WEIGHT},
    {QWEN2_MOE, EXPERT_LAYER, "mlp.shared_expert.gate_proj.weight", "SH", MU_SYNTH_WEIGHT},
    {QWEN2_MOE, EXPERT_LAYER, "mlp.shared_expert.up_proj.weight", "SH", MU_SYNTH_WEIGHT},
    {QWEN2_MOE, EXPERT_LAYER, "mlp.shared_expert.down_proj.weight", "HS", MU_SYNTH_WEIGHT},
    {QWEN2_MOE, EXPERT_LAYER, "mlp.shared_expert_gate.weight", "1H", MU_SYNTH_PLAIN},
    {DEEPSEEK, EXPERT_LAYER, "mlp.shared_experts.gate_proj.weight", "SH", MU_SYNTH_WEIGHT},
    {DEEPSEEK, EXPERT_LAYER, "mlp.shared_experts.up_proj.weight", "SH", MU_SYNTH_WEIGHT},
    {DEEPSEEK, EXPERT_LAYER, "mlp.shared_experts.down_proj.weight", "HS", MU_SYNTH_WEIGHT},
    {OSS, EACH_LAYER, "mlp.router.weight", "EH", MU_SYNTH_PLAIN},
    {OSS, EACH_LAYER, "mlp.router.bias", "E", MU_SYNTH_PLAIN},
    {GPT_OSS, EACH_LAYER, "mlp.experts.gate_up_proj", "EHW", MU_SYNTH_PLAIN},
    {GPT_OSS, EACH_LAYER, "mlp.experts.down_proj", "EXH", MU_SYNTH_PLAIN},
    {GPT_OSS_MX, EACH_LAYER, "mlp.experts.gate_up_proj", "EWH", MU_SYNTH_MXFP4},
    {GPT_OSS_MX, EACH_LAYER, "mlp.experts.down_proj", "EHX", MU_SYNTH_MXFP4},
    {OSS, EACH_LAYER, "mlp.experts.gate_up_proj_bias", "EW", MU_SYNTH_PLAIN},
    {OSS, EACH_LAYER, "mlp.experts.down_proj_bias", "EH", MU_SYNTH_PLAIN},
    {EVERY, ONCE, "model.norm.weight", "H", MU_SYNTH_ONES},
    {EVERY, ONCE, "lm_head.weight", "VH", MU_SYNTH_WEIGHT},
};

static uint64_t dimension(const struct mu_config *c, char symbol)
{
    switch (symbol) {
    case 'H':
        return c->hidden;
    case 'V':
        return c->vocab;
    case 'Q':
        return (uint64_t)c->n_heads * c->head_dim;
    case 'K':
        return (uint64_t)c->n_kv_heads * c->head_dim;
    case 'D':
        return c->head_dim;
    case 'A':
        return c->n_heads;
    case 'F':
        return c->ffn;
    case 'X':
        return c->expert_ffn;
    case 'W':
        return 2 * (uint64_t)c->expert_ffn;
    case 'E':
        return c->n_experts;
    case 'S':
        return c->shared_expert_ffn ? c->shared_expert_ffn
                                    : (uint64_t)c->n_shared_experts * c->expert_ffn;
    case 'L':
        return c->q_lora_rank;
    case 'R':
        return c->kv_lora_rank;
    case 'P':
        return (uint64_t)c->kv_lora_rank + c->qk_rope_head_dim;
    case 'M':
        return (uint64_t)c->n_heads * (c->qk_nope_head_dim + c->qk_rope_head_dim);
    case 'U':
        return (uint64_t)c->n_heads * (c->qk_nope_head_dim + c->v_head_dim);
    case 'T':
        return (uint64_t)c->n_heads * c->v_head_dim;
    default:
        return 1;
    }
}

/* The wanted type where whole blocks fit the row; else the nearest that does. */
static enum mu_dtype type_for(enum mu_dtype wanted, enum mu_synth_kind kind, uint64_t row)
{
    bool plain = wanted == MU_DTYPE_F32 || wanted == MU_DTYPE_F16 || wanted == MU_DTYPE_BF16;
    if (kind == MU_SYNTH_MXFP4) return MU_DTYPE_MXFP4;
    if (plain) return wanted;
    if (kind != MU_SYNTH_WEIGHT) return MU_DTYPE_F32;
    if (row % mu_dtype(wanted)->block_values == 0) return wanted;
    return row % 32 == 0 ? MU_DTYPE_Q8_0 : MU_DTYPE_F16;
}

static const char *name_of(struct mu_arena *arena, const struct pattern *p, uint32_t layer,
                           uint32_t expert)
{
    const char *mark = strchr(p->name, '#');
    if (p->scope == ONCE) return p->name;
    if (!mark) return mu_arena_printf(arena, "model.layers.%u.%s", layer, p->name);
    return mu_arena_printf(arena, "model.layers.%u.%.*s%u%s", layer, (int)(mark - p->name), p->name,
                           expert, mark + 1);
}

static mu_status add_tensor(struct mu_model_file *file, const struct pattern *p,
                            enum mu_dtype wanted, uint32_t layer, uint32_t expert,
                            struct mu_err *err)
{
    MU_TRY(mu_tensor_list_reserve(&file->tensors, 1, err));
    struct mu_tensor *t = &file->tensors.items[file->tensors.n];
    t->n_dims = (unsigned)strlen(p->dims);
    for (unsigned i = 0; i < t->n_dims; i++)
        t->dims[i] = dimension(&file->config, p->dims[i]);
    t->type = type_for(wanted, p->kind, t->dims[t->n_dims - 1]);
    if (!mu_tensor_measure(t))
        return mu_fail(err, MU_E_INPUT, "a tensor of %s is too big", p->name);
    t->name = name_of(file->arena, p, layer, expert);
    if (!t->name) return mu_fail_memory(err, strlen(p->name));
    t->seed = mu_synth_seed(XXH3_64bits(t->name, strlen(t->name)), p->kind);
    file->tensors.n++;
    return MU_OK;
}

static mu_status add_layer(struct mu_model_file *file, unsigned family, enum mu_dtype type,
                           uint32_t layer, struct mu_err *err)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(patterns); i++) {
        const struct pattern *p = &patterns[i];
        if (!(p->families & family) || p->scope == ONCE) continue;
        bool experts = file->config.n_experts > 0 && !file->config.layer_dense[layer];
        if (p->scope == DENSE_LAYER ? experts : p->scope > DENSE_LAYER && !experts) continue;
        uint32_t n = p->scope == EACH_EXPERT ? file->config.n_experts : 1;
        for (uint32_t e = 0; e < n; e++)
            MU_TRY(add_tensor(file, p, type, layer, e, err));
    }
    return MU_OK;
}

static mu_status add_tensors(struct mu_model_file *file, unsigned family, enum mu_dtype type,
                             struct mu_err *err)
{
    const size_t last = MU_ARRAY_LEN(patterns) - 1;
    MU_TRY(add_tensor(file, &patterns[0], type, 0, 0, err));
    for (uint32_t layer = 0; layer < file->config.n_layers; layer++)
        MU_TRY(add_layer(file, family, type, layer, err));
    MU_TRY(add_tensor(file, &patterns[last - 1], type, 0, 0, err));
    if (!file->config.tied_head) MU_TRY(add_tensor(file, &patterns[last], type, 0, 0, err));
    return MU_OK;
}

/* ---- The whole ----------------------------------------------------------------------------- */

/* The weights that are made are not in the type that the model is published in. */
static void publish_plain(struct mu_config *config)
{
    config->quant_method[0] = config->quant_format[0] = '\0';
    config->quant_bits = config->quant_group_size = 0;
    config->quant_block[0] = config->quant_block[1] = 0;
}

static mu_status parse_type(struct mu_str text, struct mu_config *config, enum mu_dtype *out,
                            struct mu_err *err)
{
    bool mx_experts = strcmp(config->quant_method, "mxfp4") == 0;
    *out = MU_DTYPE_BF16;
    if (!mx_experts) publish_plain(config);
    if (text.len == 0 || (mx_experts && mu_str_is(text, "mxfp4"))) return MU_OK;
    if (!mu_dtype_by_name(text, out) || !mu_synth_can(*out))
        return mu_fail(err, MU_E_UNSUPPORTED, "synth: weights of type '%.*s' cannot be made",
                       (int)MU_MIN(text.len, 32), text.p);
    if (!mx_experts) return MU_OK;
    if (mu_dtype(*out)->block_values != 1)
        return mu_fail(err, MU_E_UNSUPPORTED,
                       "this model exists with experts in mxfp4, bf16, f16 or f32 only");
    publish_plain(config);
    return MU_OK;
}

static unsigned family_of(const struct mu_config *config)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(families); i++) {
        if (strcmp(families[i].name, config->architecture) != 0) continue;
        if (families[i].bit == GPT_OSS && config->quant_method[0]) return GPT_OSS_MX;
        if (families[i].bit == DEEPSEEK_V2 && config->q_lora_rank == 0) return DEEPSEEK_LITE;
        return families[i].bit;
    }
    return 0;
}

mu_status mu_model_open_synth(struct mu_model_file *file, const char *name, unsigned flags,
                              struct mu_err *err)
{
    struct mu_str rest = mu_str(name), type_name, model;
    enum mu_dtype type;
    const char *slash = strrchr(name, '/'); /* "synth:meta-llama/Llama-3.2-1B" means the same */
    if (slash) rest = mu_str(slash + 1);
    model = mu_str_take(&rest, '@');
    type_name = rest;
    file->format = "synth";
    MU_TRY(find_config(model, &file->config, err));
    if (flags & MU_OPEN_SHAPE_ONLY) return MU_OK; /* of any architecture, and any type */
    MU_TRY(parse_type(type_name, &file->config, &type, err));
    unsigned family = family_of(&file->config);
    if (!family)
        return mu_fail(err, MU_E_UNSUPPORTED, "synth: has no tensor names for architecture %s",
                       file->config.architecture);
    return add_tensors(file, family, type, err);
}
