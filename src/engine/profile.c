/* Profiles of steps; see profile.h. */
#include "engine/profile.h"

#include "engine/engine_int.h"

struct mu_profile *mu_profile_create(struct mu_arena *arena, const struct mu_program *program)
{
    struct mu_profile *p = mu_arena_alloc(arena, 1, sizeof *p);
    if (!p) return NULL;
    memset(p, 0, sizeof *p);
    for (int phase = 0; phase < MU_PROFILE_PHASES; phase++) {
        p->ns[phase] = mu_arena_alloc(arena, program->n_ops, sizeof *p->ns[phase]);
        if (!p->ns[phase]) return NULL;
        memset(p->ns[phase], 0, program->n_ops * sizeof *p->ns[phase]);
    }
    return p;
}

/* Operations that do the same in every layer share a name. */
static const char *name_of(const struct mu_program *p, const struct mu_op *op)
{
    switch (op->kind) {
    case MU_OP_EMBED:
        return "embed";
    case MU_OP_LINEAR:
        return p->tensors[op->weights[0]].role == MU_ROLE_ROUTER ? "router" : "qkv";
    case MU_OP_LINEAR_CUT:
        return op->cut == MU_CUT_O ? "o" : "down";
    case MU_OP_ROPE_KV:
    case MU_OP_LATENT_KV:
        return "rope_kv";
    case MU_OP_ATTEND:
        return "attention";
    case MU_OP_Q_LATENT:
    case MU_OP_V_LATENT:
        return "latent";
    case MU_OP_GLU:
        return "gate_up";
    case MU_OP_COMBINE:
        return "combine";
    case MU_OP_ROUTE:
    case MU_OP_GROUP:
    case MU_OP_DISPATCH:
        return "route";
    case MU_OP_EXPERTS:
        return "experts_gate_up";
    case MU_OP_EXPERTS_CUT:
        return "experts_down";
    case MU_OP_OUT_ROWS:
        return "final_norm";
    case MU_OP_LOGITS:
        return "logits";
    case MU_OP_EXCHANGE:
    case MU_OP_GATHER:
    case MU_OP_SEND:
    case MU_OP_RECEIVE:
        return "communicate";
    }
    return "";
}

/* Of matrices that one row reads; it looks a few of the embeddings up, not all. */
static uint64_t bytes_read(const struct mu_rank *rank, const struct mu_op *op)
{
    const struct mu_config *c = rank->program->config;
    uint64_t bytes = 0;
    for (uint32_t j = 0; op->kind != MU_OP_EMBED && j < op->n_weights; j++)
        for (uint32_t g = 0; g < MU_MAX(op->n_groups, 1u); g++)
            bytes += rank->weights[op->weights[j] + g].bytes;
    return op->n_groups ? bytes * c->n_experts_used / op->n_groups : bytes;
}

static struct mu_profile_row *find_row(struct mu_profile_part *out, const char *name)
{
    unsigned i = 0;
    while (i < out->n_rows && strcmp(out->rows[i].name, name) != 0)
        i++;
    MU_ASSERT(i < MU_PROFILE_ROWS_MAX);
    if (i == out->n_rows) out->rows[out->n_rows++] = (struct mu_profile_row){.name = name};
    return &out->rows[i];
}

bool mu_engine_profile(const struct mu_engine *engine, unsigned rank, enum mu_profile_phase phase,
                       struct mu_profile_part *out)
{
    unsigned each = engine->replicas[0].n_ranks;
    const struct mu_rank *r = &engine->replicas[rank / each].ranks[rank % each];
    *out = (struct mu_profile_part){0};
    if (!r->profile) return false;
    out->n_steps = r->profile->n_steps[phase];
    out->seconds = (double)r->profile->start_ns[phase] * 1e-9;
    if (out->n_steps > 0)
        *find_row(out, "start") = (struct mu_profile_row){"start", 1, out->seconds, 0};
    for (uint32_t i = 0; i < r->program->n_ops; i++) {
        uint64_t ns = r->profile->ns[phase][i];
        if (ns == 0) continue; /* nobody does it, or never in this phase */
        struct mu_profile_row *row = find_row(out, name_of(r->program, &r->program->ops[i]));
        row->n++;
        row->seconds += (double)ns * 1e-9;
        row->weight_bytes += bytes_read(r, &r->program->ops[i]);
        out->seconds += (double)ns * 1e-9;
    }
    return out->n_steps > 0;
}
