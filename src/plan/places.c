/* From a device map to the engine's places; see places.h. */
#include "plan/places.h"

#include <stdio.h>

/* ---- The configuration --------------------------------------------------------------------- */

json_t *mu_plan_map_config(const struct mu_config *config)
{
    const struct mu_config *c = config;
    const struct {
        const char *key;
        uint32_t value;
    } numbers[] = {{"vocab_size", c->vocab},
                   {"hidden_size", c->hidden},
                   {"intermediate_size", c->n_experts && !c->ffn ? c->expert_ffn : c->ffn},
                   {"num_hidden_layers", c->n_layers},
                   {"num_attention_heads", c->n_heads},
                   {"num_key_value_heads", c->n_kv_heads},
                   {"head_dim", c->head_dim},
                   {"attention_bias", c->attention_bias},
                   {"mlp_bias", c->mlp_bias},
                   {"tie_word_embeddings", c->tied_head},
                   {"num_experts", c->n_experts},
                   {"moe_intermediate_size", c->expert_ffn},
                   {"shared_expert_intermediate_size", c->shared_expert_ffn},
                   {"n_shared_experts", c->n_shared_experts},
                   {"first_k_dense_replace", c->first_dense_layers},
                   {"q_lora_rank", c->q_lora_rank},
                   {"kv_lora_rank", c->kv_lora_rank},
                   {"qk_nope_head_dim", c->qk_nope_head_dim},
                   {"qk_rope_head_dim", c->qk_rope_head_dim},
                   {"v_head_dim", c->v_head_dim}};
    json_t *out = json_object(), *dense = json_array();
    bool v2 = strcmp(c->architecture, "deepseek_v2") == 0; /* its modules are those of the next */
    int failed =
        json_object_set_new(out, "model_type", json_string(v2 ? "deepseek_v3" : c->architecture));
    for (size_t i = 0; i < MU_ARRAY_LEN(numbers); i++)
        failed |= json_object_set_new(out, numbers[i].key, json_integer(numbers[i].value));
    for (uint32_t i = 0; c->n_experts && i < c->n_layers; i++)
        if (c->layer_dense[i]) failed |= json_array_append_new(dense, json_integer(i));
    failed |= json_object_set_new(out, "mlp_only_layers", dense);
    if (!failed) return out;
    json_decref(out);
    return NULL;
}

/* ---- Modules ------------------------------------------------------------------------------- */

struct reader {
    const struct mu_config *config;
    const struct mu_arch *arch;
    const struct mu_plan_map *map;
};

/* The module that a part is, as transformers calls it; "" for a norm that is not there. */
static void part_module(const struct reader *r, uint32_t part, char out[MU_TENSOR_NAME_MAX])
{
    enum mu_tensor_role role = MU_ROLE_FINAL_NORM;
    uint32_t layer = part ? (part - 1) / MU_PARTS_A_LAYER : 0;
    uint32_t which = part ? (part - 1) % MU_PARTS_A_LAYER : 0;
    out[0] = '\0';
    if (part == MU_PART_EMBED) role = MU_ROLE_EMBED;
    if (part == mu_part_head(r->config)) role = MU_ROLE_HEAD;
    if (part > MU_PART_EMBED && part < mu_part_norm(r->config)) {
        if (which == MU_PART_ATTN || which == MU_PART_FFN) {
            (void)snprintf(out, MU_TENSOR_NAME_MAX, "model.layers.%u.%s", layer,
                           which == MU_PART_ATTN ? "self_attn" : "mlp");
            return;
        }
        if (!r->arch->pre_norm) return;
        role = which == MU_PART_ATTN_NORM ? MU_ROLE_ATTN_NORM : MU_ROLE_FFN_NORM;
    }
    mu_model_tensor_name(r->arch, MU_NAMES_HF, role, layer, 0, out);
    out[strlen(out) - strlen(".weight")] = '\0';
}

mu_status mu_plan_map_sizes(const struct mu_config *config, const uint64_t *part_bytes,
                            struct mu_arena *arena, struct mu_plan_map_size **out, size_t *n,
                            struct mu_err *err)
{
    const struct reader r = {config, mu_arch_find(config->architecture, err), NULL};
    if (!r.arch) return MU_E_UNSUPPORTED;
    *n = mu_part_count(config);
    *out = mu_arena_alloc(arena, *n, sizeof **out);
    if (!*out) return mu_fail_memory(err, *n * sizeof **out);
    for (uint32_t i = 0; i < *n; i++) {
        char module[MU_TENSOR_NAME_MAX];
        part_module(&r, i, module);
        (*out)[i] = (struct mu_plan_map_size){mu_arena_strndup(arena, module, strlen(module)),
                                              (double)part_bytes[i]};
        if (!(*out)[i].module) return mu_fail_memory(err, sizeof module);
    }
    return MU_OK;
}

/* Whether `inner` is the module `outer`, or below it. */
static bool inside(const char *inner, const char *outer)
{
    size_t len = strlen(outer);
    return len == 0 || (strncmp(inner, outer, len) == 0 && (inner[len] == '.' || !inner[len]));
}

/* The entry that places a part: the nearest at or above its module, or the first below. */
static const struct mu_plan_map_entry *entry_of(const struct reader *r, const char *module)
{
    const struct mu_plan_map_entry *above = NULL, *below = NULL;
    for (size_t i = 0; i < r->map->n_entries; i++) {
        const struct mu_plan_map_entry *e = &r->map->entries[i];
        if (inside(module, e->module)) {
            if (!above || strlen(e->module) > strlen(above->module)) above = e;
        } else if (!below && e->has_tensors && inside(e->module, module)) {
            below = e;
        }
    }
    return above ? above : below;
}

static mu_status check_whole(const struct reader *r, const char *module,
                             const struct mu_plan_map_entry *entry, struct mu_err *err)
{
    for (size_t i = 0; i < r->map->n_entries; i++) {
        const struct mu_plan_map_entry *e = &r->map->entries[i];
        if (!e->has_tensors || e->device == entry->device || !inside(e->module, module)) continue;
        mu_status status =
            mu_fail(err, MU_E_INPUT, "%.60s cannot be on another device than the rest of %s",
                    e->module, module);
        mu_err_cure(err, "what is executed as one piece is self_attn, mlp and each norm");
        return status;
    }
    return MU_OK;
}

static mu_status check_names(const struct mu_plan_map *map, struct mu_err *err)
{
    for (size_t i = 0; i < map->n_entries; i++)
        if (!map->entries[i].known)
            return mu_fail(err, MU_E_INPUT, "the model has no module '%.80s'",
                           map->entries[i].module);
    for (size_t i = 0; i < map->n_entries; i++)
        if (strcmp(map->devices[map->entries[i].device].name, "mps") == 0)
            return mu_fail(err, MU_E_UNSUPPORTED, "%.80s is on mps, which is no device of ours",
                           map->entries[i].module);
    return MU_OK;
}

/* ---- Stages -------------------------------------------------------------------------------- */

/* Where accelerate executes what is offloaded. */
static int main_device(const struct mu_plan_map *map)
{
    for (size_t i = 0; i < map->n_entries; i++) {
        int gpu = map->devices[map->entries[i].device].gpu;
        if (gpu >= 0) return gpu;
    }
    return 0;
}

static mu_status stage_of(struct mu_plan_places *out, int device, uint8_t *stage,
                          struct mu_err *err)
{
    for (*stage = 0; *stage < out->n_stages; ++*stage)
        if (out->device[*stage] == device) return MU_OK;
    if (out->n_stages == MU_STAGES_MAX)
        return mu_fail(err, MU_E_USAGE, "a map over more than %d devices", MU_STAGES_MAX);
    out->device[out->n_stages++] = device;
    return MU_OK;
}

static mu_status place(const struct reader *r, uint32_t part, bool compute_on_host,
                       struct mu_plan_places *out, struct mu_err *err)
{
    char module[MU_TENSOR_NAME_MAX];
    struct mu_part_place *p = &out->places[part];
    part_module(r, part, module);
    if (!module[0]) return MU_OK;
    const struct mu_plan_map_entry *entry = entry_of(r, module);
    if (!entry && part == mu_part_head(r->config) && r->config->tied_head) {
        *p = out->places[MU_PART_EMBED];
        return MU_OK;
    }
    if (!entry) return mu_fail(err, MU_E_INPUT, "the device map gives no device for '%s'", module);
    MU_TRY(check_whole(r, module, entry, err));
    const struct mu_plan_map_device *d = &r->map->devices[entry->device];
    bool disk = strcmp(d->name, "disk") == 0, host = d->gpu < 0 && !disk;
    bool lies = host && compute_on_host;
    p->home = disk ? MU_HOME_FILE : host && !lies ? MU_HOME_HOST : MU_HOME_DEVICE;
    int device = lies ? MU_PLAN_ON_HOST : d->gpu >= 0 ? d->gpu : main_device(r->map);
    return stage_of(out, device, &p->stage, err);
}

mu_status mu_plan_map_places(const struct mu_plan_map *map, const struct mu_config *config,
                             bool compute_on_host, struct mu_plan_places *out, struct mu_err *err)
{
    struct reader r = {config, mu_arch_find(config->architecture, err), map};
    if (!r.arch) return MU_E_UNSUPPORTED;
    *out = (struct mu_plan_places){0};
    out->places = mu_arena_alloc(map->arena, mu_part_count(config), sizeof *out->places);
    if (!out->places) return mu_fail_memory(err, mu_part_count(config));
    mu_status status = check_names(map, err);
    for (uint32_t i = 0; status == MU_OK && i < mu_part_count(config); i++)
        status = place(&r, i, compute_on_host, out, err);
    mu_err_where(err, "device map");
    return status;
}
