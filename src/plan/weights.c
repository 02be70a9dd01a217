/* Bytes of weights by role and layer; see weights.h. */
#include "plan/weights.h"

#include <strings.h>

/* ---- Formats ------------------------------------------------------------------------------- */

/* Groups of 128 values share a 16-bit scale and a 4-bit zero point (AWQ, GPTQ), of 16 an 8-bit
 * scale (nvfp4), of 32 one (mxfp4), of 64 a 32-bit one (nf4). */
static const struct mu_plan_format formats[] = {
    {"f32", 4, 0, 4, 4, MU_PROBE_F32, 32, false, false, NULL},
    {"bf16", 2, 0, 2, 2, MU_PROBE_F16, 16, false, false, NULL},
    {"fp8", 1, 0, 2, 2, MU_PROBE_F8, 8, false, false, NULL},
    {"fp8_block", 1 + 4.0 / (128 * 128), 0, 2, 2, MU_PROBE_F8, 8, false, false, NULL},
    {"int8", 1, 4, 2, 2, MU_PROBE_I8, 8, false, false, NULL},
    {"awq", 0.5 + 2.5 / 128, 0, 2, 2, MU_PROBE_F16, 4, false, false, NULL},
    {"nf4", 0.5 + 4.0 / 64, 0, 2, 2, MU_PROBE_F16, 4, false, false, NULL},
    {"nvfp4", 0.5 + 1.0 / 16, 0, 2, 2, MU_PROBE_F4, 4, false, false, NULL},
    {"mxfp4", 0.5 + 1.0 / 32, 0, 2, 2, MU_PROBE_F4, 4, true, false, NULL},
#define BLOCKS(name, values, bytes, bits) MIXED(name, values, bytes, bits, NULL)
#define MIXED(name, values, bytes, bits, wider)                                                    \
    {                                                                                              \
        name, (double)(bytes) / (values), 0, (double)(bytes) / (values), 4, MU_PROBE_I8, bits,     \
            false, true, wider                                                                     \
    }
    BLOCKS("q8_0", 32, 34, 8),
    BLOCKS("q6_k", 256, 210, 6),
    BLOCKS("q5_k", 256, 176, 5),
    MIXED("q5_k_m", 256, 176, 5, "q6_k"),
    BLOCKS("q5_1", 32, 24, 5),
    BLOCKS("q5_0", 32, 22, 5),
    BLOCKS("q4_k", 256, 144, 4),
    MIXED("q4_k_m", 256, 144, 4, "q6_k"),
    BLOCKS("q4_1", 32, 20, 4),
    BLOCKS("q4_0", 32, 18, 4),
    BLOCKS("iq4_nl", 32, 18, 4),
    BLOCKS("iq4_xs", 256, 136, 4),
    BLOCKS("q3_k", 256, 110, 3),
    BLOCKS("q2_k", 256, 84, 2),
#undef BLOCKS
#undef MIXED
};

static const struct {
    const char *name, *format;
} same[] = {
    {"f16", "bf16"},    {"fp16", "bf16"},   {"bfloat16", "bf16"}, {"float16", "bf16"},
    {"16bit", "bf16"},  {"fp32", "f32"},    {"float32", "f32"},   {"float8", "fp8"},
    {"8bit", "int8"},   {"w8a8", "int8"},   {"bnb8", "int8"},     {"gptq", "awq"},
    {"int4", "awq"},    {"w4a16", "awq"},   {"4bit", "awq"},      {"bitsandbytes", "nf4"},
    {"fp4", "nvfp4"},   {"q4_k_s", "q4_k"}, {"modelopt", "fp8"},  {"compressed-tensors", "awq"},
    {"q5_k_s", "q5_k"}, {"q3_k_m", "q3_k"}, {"f8_e4m3", "fp8"},   {"fbgemm_fp8", "fp8"},
};

static const struct mu_plan_format *format_called(struct mu_str name)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(formats); i++)
        if (strlen(formats[i].name) == name.len &&
            strncasecmp(formats[i].name, name.p, name.len) == 0)
            return &formats[i];
    return NULL;
}

const struct mu_plan_format *mu_plan_format(struct mu_str name, struct mu_err *err)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(same); i++)
        if (strlen(same[i].name) == name.len && strncasecmp(same[i].name, name.p, name.len) == 0)
            name = mu_str(same[i].format);
    const struct mu_plan_format *format = format_called(name);
    if (format) return format;
    (void)mu_fail(err, MU_E_USAGE, "no weight type is called '%.*s'", (int)MU_MIN(name.len, 40),
                  name.p);
    mu_err_cure(err, "bf16, fp8, int8, awq, nf4, nvfp4, mxfp4, f32 and GGUF's (q8_0 ... q2_k)");
    return NULL;
}

const struct mu_plan_format *mu_plan_format_of(const struct mu_config *config)
{
    struct mu_str name = MU_STR("bf16");
    if (config->quant_method[0]) name = mu_str(config->quant_method);
    if (strcmp(config->quant_method, "fp8") == 0 && config->quant_block[0])
        name = MU_STR("fp8_block");
    else if (strncmp(config->quant_format, "float", 5) == 0)
        name = MU_STR("fp8"); /* compressed-tensors' float-quantized */
    else if (config->quant_method[0] && config->quant_bits == 8)
        name = MU_STR("int8");
    const struct mu_plan_format *format = mu_plan_format(name, NULL);
    return format ? format : mu_plan_format(MU_STR("bf16"), NULL);
}

bool mu_plan_engine_reads(const struct mu_probe_engine *engine, const struct mu_plan_format *format)
{
    bool plain = format->bits >= 16 || strcmp(format->name, "mxfp4") == 0;
    if (strcmp(engine->name, "muster") == 0) return true;
    return strcmp(engine->name, "llama.cpp") == 0 ? format->blocks || plain : !format->blocks;
}

/* ---- Programs ------------------------------------------------------------------------------ */

double mu_plan_copies(const struct mu_config *config, enum mu_tensor_role role)
{
    bool router =
        role == MU_ROLE_ROUTER || role == MU_ROLE_ROUTER_BIAS || role == MU_ROLE_ROUTER_CORRECTION;
    return router || mu_role_of_expert(role) ? config->n_experts : 1;
}

/* Configurations of architectures that are not known were not checked by those who read them. */
static bool has_shape(const struct mu_config *c)
{
    uint32_t ffn = c->n_experts ? c->expert_ffn : c->ffn;
    bool heads = c->n_heads && c->n_kv_heads && c->n_heads % c->n_kv_heads == 0;
    bool latent = c->v_head_dim && c->qk_rope_head_dim && c->qk_nope_head_dim;
    bool head = c->kv_lora_rank ? latent : c->head_dim != 0;
    bool experts = c->n_experts == 0 || (c->n_experts_used && c->n_experts_used <= c->n_experts);
    return heads && head && experts && ffn && c->hidden && c->vocab && c->head_dim % 2 == 0;
}

/* One expert for all, no format, and an architecture that there is. */
static mu_status plain_config(const struct mu_config *c, uint32_t tp_size, struct mu_arena *arena,
                              struct mu_config **out, struct mu_err *err)
{
    struct mu_config *copy = mu_arena_alloc(arena, 1, sizeof *copy);
    if (!copy) return mu_fail_memory(err, sizeof *copy);
    *copy = *c;
    copy->quant_method[0] = '\0';
    if (c->n_experts) copy->n_experts = copy->n_experts_used = 1;
    copy->n_group = copy->topk_group = 0;
    *out = copy;
    bool whole_norm = strcmp(c->architecture, "olmo2") == 0 && tp_size > 1;
    if (mu_arch_find(c->architecture, NULL) && !whole_norm) return MU_OK;
    if (!has_shape(c))
        return mu_fail(err, MU_E_UNSUPPORTED,
                       "the configuration of architecture '%s' does not say its shape",
                       c->architecture);
    const char *name = c->kv_lora_rank ? "deepseek_v3" : c->n_experts ? "qwen3_moe" : "llama";
    memcpy(copy->architecture, name, strlen(name) + 1);
    memcpy(copy->activation, "silu", sizeof "silu");
    copy->rope.partial = 1;
    return MU_OK;
}

mu_status mu_plan_program(const struct mu_config *config, const struct mu_shard *shard,
                          struct mu_arena *arena, struct mu_program **out, struct mu_err *err)
{
    struct mu_config *plain;
    MU_TRY(plain_config(config, shard->tp_size, arena, &plain, err));
    return mu_program_build(plain, shard, arena, out, err);
}

/* ---- Tables -------------------------------------------------------------------------------- */

static double whole_values(const struct mu_config *c, const struct mu_tensor_use *use)
{
    return (double)use->rows * use->cols * mu_plan_copies(c, use->role);
}

/* Where llama.cpp's mixtures take the wider type: its choice of layers, first and last eighth and
 * each third between. What it does beside that for single models is left out. */
static bool is_wider(const struct mu_config *c, const struct mu_tensor_use *use)
{
    uint32_t layers = c->n_layers, i = use->layer, eighth = layers / 8;
    if (use->role == MU_ROLE_HEAD || use->role == MU_ROLE_EMBED)
        return use->role == MU_ROLE_HEAD || c->tied_head;
    if (use->role != MU_ROLE_V && use->role != MU_ROLE_DOWN && use->role != MU_ROLE_EXPERT_DOWN)
        return false;
    return i < eighth || i >= 7 * layers / 8 || (i - eighth) % 3 == 2;
}

static double format_bytes(const struct mu_config *c, const struct mu_plan_format *f,
                           const struct mu_tensor_use *use)
{
    if (f->wider && is_wider(c, use)) f = format_called(mu_str(f->wider));
    bool table = use->role == MU_ROLE_EMBED || use->role == MU_ROLE_HEAD;
    if (use->vector) return f->vector_bytes;
    if (table) return f->table_bytes;
    if (use->role == MU_ROLE_ROUTER || use->role == MU_ROLE_SHARED_MIX)
        return MU_MAX(f->vector_bytes, 2); /* nobody rounds these */
    if (f->experts_only && !mu_role_of_expert(use->role)) return 2;
    return f->linear_bytes + f->row_bytes / use->cols;
}

/* The layer that a tensor's name tells; `none` for those outside of all. */
static uint32_t layer_of(const char *name, uint32_t none)
{
    const char *at = strstr(name, "layers.");
    at = at ? at + 7 : strncmp(name, "blk.", 4) == 0 ? name + 4 : NULL;
    uint32_t layer = 0;
    if (!at || *at < '0' || *at > '9') return none;
    for (; *at >= '0' && *at <= '9' && layer < none; at++)
        layer = layer * 10 + (uint32_t)(*at - '0');
    return MU_MIN(layer, none);
}

static const struct mu_tensor *find(const struct mu_tensor *tensors, size_t n, const char *name,
                                    size_t *hint)
{
    for (size_t i = 0; i < n; i++) {
        size_t at = (*hint + i) % n;
        if (strcmp(tensors[at].name, name) != 0) continue;
        *hint = at;
        return &tensors[at];
    }
    return NULL;
}

/* What the file's tensors take, layer by layer: those that the program knows by name are exact; the
 * rest of a layer (packed words, scales, experts) is shared out over the matrices that were not
 * found, so that the sums are the file's. */
static void take_from_file(const struct mu_config *c, const struct mu_program *p,
                           const struct mu_tensor *tensors, size_t n, double *rest,
                           struct mu_plan_weights *w)
{
    size_t hint = 0;
    for (size_t i = 0; i < n; i++)
        rest[layer_of(tensors[i].name, c->n_layers)] += (double)mu_tensor_stored_bytes(&tensors[i]);
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct mu_tensor_use *use = &p->tensors[i];
        const struct mu_tensor *t = find(tensors, n, use->name, &hint);
        uint32_t layer = use->role <= MU_ROLE_FINAL_NORM ? c->n_layers : use->layer;
        w->bytes[layer][use->role] =
            t ? (double)mu_tensor_stored_bytes(t) / (double)t->n_values : 0;
        if (t) rest[layer] -= w->bytes[layer][use->role] * whole_values(c, use);
    }
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        double missing = 0;
        for (uint32_t i = 0; i < p->n_tensors; i++)
            if (p->tensors[i].role > MU_ROLE_FINAL_NORM && p->tensors[i].layer == layer &&
                !p->tensors[i].vector && w->bytes[layer][p->tensors[i].role] == 0)
                missing += whole_values(c, &p->tensors[i]);
        for (uint32_t i = 0; i < p->n_tensors && missing > 0; i++)
            if (p->tensors[i].role > MU_ROLE_FINAL_NORM && p->tensors[i].layer == layer &&
                !p->tensors[i].vector && w->bytes[layer][p->tensors[i].role] == 0)
                w->bytes[layer][p->tensors[i].role] = rest[layer] / missing;
        w->more_bytes[layer] = missing > 0 ? 0 : rest[layer];
    }
    w->more_bytes[c->n_layers] = MU_MAX(rest[c->n_layers], 0);
}

mu_status mu_plan_weights_make(const struct mu_config *config, const struct mu_plan_format *format,
                               const struct mu_tensor *tensors, size_t n_tensors,
                               struct mu_arena *arena, struct mu_plan_weights *out,
                               struct mu_err *err)
{
    uint32_t layers = config->n_layers;
    const struct mu_shard whole = {.tp_size = 1};
    struct mu_program *p;
    MU_TRY(mu_plan_program(config, &whole, arena, &p, err));
    *out =
        (struct mu_plan_weights){.format = format, .n_layers = layers, .from_file = n_tensors > 0};
    out->bytes = mu_arena_alloc(arena, layers + 1, sizeof *out->bytes);
    out->more_bytes = mu_arena_alloc(arena, layers + 1, sizeof *out->more_bytes);
    double *rest = mu_arena_alloc(arena, layers + 1, sizeof *rest);
    if (!out->bytes || !out->more_bytes || !rest)
        return mu_fail_memory(err, (layers + 1) * sizeof *out->bytes);
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct mu_tensor_use *use = &p->tensors[i];
        uint32_t layer = use->role <= MU_ROLE_FINAL_NORM ? layers : use->layer;
        out->bytes[layer][use->role] = format_bytes(config, format, use);
    }
    if (n_tensors) take_from_file(config, p, tensors, n_tensors, rest, out);
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct mu_tensor_use *use = &p->tensors[i];
        uint32_t layer = use->role <= MU_ROLE_FINAL_NORM ? layers : use->layer;
        out->total_bytes += whole_values(config, use) * out->bytes[layer][use->role];
    }
    for (uint32_t layer = 0; layer <= layers; layer++)
        out->total_bytes += out->more_bytes[layer];
    return MU_OK;
}
