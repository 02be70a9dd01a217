/*
 * A step's operations on experts: which of them each row takes, and their matrices over the rows
 * that took them. Called by execute.c.
 *
 * A slot is one row for one of its experts. Slots of one expert lie side by side, so that its
 * matrices meet all their rows at once. Sums over experts go by ascending expert inside each
 * segment of the cut, before the tree over segments: so the bits depend neither on the company of a
 * row nor on how many ranks share the columns.
 */
#include "engine/execute_int.h"

#include <math.h>

static struct mu_choice *choices_of(const struct run *run, uint32_t row)
{
    return (struct mu_choice *)(void *)row_f32(run, MU_BUFFER_CHOSEN, row);
}

/* Values that choose and weights, from the router's logits. */
static void score_experts(const struct run *run, const struct mu_op *op, const float *logits,
                          float *choice, float *score)
{
    uint32_t n = run->p->config->n_experts;
    const float *correction = vector(run, op->biases[0]);
    if (run->p->arch->router_sigmoid) {
        for (uint32_t e = 0; e < n; e++) {
            score[e] = 1 / (1 + mu_expf(-logits[e]));
            choice[e] = score[e] + (correction ? correction[e] : 0);
        }
        return;
    }
    float most = logits[0], sum = 0;
    for (uint32_t e = 1; e < n; e++)
        most = logits[e] > most ? logits[e] : most;
    for (uint32_t e = 0; e < n; e++) {
        choice[e] = logits[e];
        score[e] = mu_expf(logits[e] - most);
        sum += score[e];
    }
    for (uint32_t e = 0; e < n; e++)
        score[e] /= sum;
}

static uint32_t best_of(const float *values, uint32_t first, uint32_t end)
{
    uint32_t best = first;
    for (uint32_t i = first + 1; i < end; i++)
        if (values[i] > values[best]) best = i;
    return best;
}

/* What a group of experts promises: its two best together, or its best. */
static float group_value(const struct run *run, float *choice, uint32_t first, uint32_t end)
{
    uint32_t best = best_of(choice, first, end);
    float value = choice[best], second;
    if (!run->p->arch->router_sigmoid || end - first < 2) return value;
    choice[best] = -INFINITY;
    second = choice[best_of(choice, first, end)];
    choice[best] = value;
    return value + second;
}

/* Only the best groups are chosen from. transformers gives the others' experts the value 0, which a
 * correction below 0 can lose to. */
static void mask_groups(const struct run *run, float *choice, float *value)
{
    const struct mu_config *c = run->p->config;
    uint32_t size = c->n_experts / c->n_group;
    for (uint32_t g = 0; g < c->n_group; g++)
        value[g] = group_value(run, choice, g * size, (g + 1) * size);
    for (uint32_t i = 0; i < c->topk_group; i++)
        value[best_of(value, 0, c->n_group)] = -INFINITY;
    for (uint32_t g = 0; g < c->n_group; g++)
        for (uint32_t e = g * size; value[g] != -INFINITY && e < (g + 1) * size; e++)
            choice[e] = run->p->arch->router_sigmoid ? 0 : -INFINITY;
}

static void weigh(const struct run *run, struct mu_choice *chosen, uint32_t n)
{
    const struct mu_config *c = run->p->config;
    float sum = run->p->arch->router_sigmoid ? 1e-20f : 0;
    for (uint32_t i = 0; i < n; i++)
        sum += chosen[i].weight;
    for (uint32_t i = 0; i < n; i++) {
        if (run->p->arch->router_normed || c->norm_topk) chosen[i].weight /= sum;
        if (c->routed_scaling != 0) chosen[i].weight *= (float)c->routed_scaling;
    }
}

void mu_run_route(const struct run *run, const struct mu_op *op, uint32_t row, unsigned member)
{
    const struct mu_config *c = run->p->config;
    struct mu_choice *chosen = choices_of(run, row);
    float *choice = scratch_of(run, member), *score = choice + c->n_experts;
    float *groups = score + c->n_experts;
    score_experts(run, op, row_f32(run, op->in, row), choice, score);
    if (c->n_group > 1) mask_groups(run, choice, groups);
    for (uint32_t i = 0; i < c->n_experts_used; i++) {
        uint32_t best = best_of(choice, 0, c->n_experts), at = i;
        for (; at > 0 && chosen[at - 1].expert > best; at--)
            chosen[at] = chosen[at - 1];
        chosen[at] = (struct mu_choice){.expert = best, .weight = score[best]};
        choice[best] = -INFINITY;
    }
    weigh(run, chosen, c->n_experts_used);
}

void mu_run_group(const struct run *run)
{
    const struct mu_config *c = run->p->config;
    const struct mu_groups *g = &run->rank->groups;
    memset(g->first, 0, (c->n_experts + 1) * sizeof *g->first);
    for (uint32_t row = 0; row < run->n_rows; row++)
        for (uint32_t i = 0; i < c->n_experts_used; i++)
            g->first[choices_of(run, row)[i].expert]++;
    uint32_t slot = 0, n_active = 0;
    for (uint32_t e = 0; e < c->n_experts; e++) {
        uint32_t n = g->first[e];
        if (n > 0) g->active[n_active++] = e;
        g->first[e] = slot;
        slot += n;
    }
    *g->n_active = n_active;
    for (uint32_t row = 0; row < run->n_rows; row++)
        for (uint32_t i = 0; i < c->n_experts_used; i++) {
            struct mu_choice *choice = &choices_of(run, row)[i];
            choice->slot = g->first[choice->expert]++;
            g->row[choice->slot] = row;
            g->weight[choice->slot] = choice->weight;
        }
    /* Every beginning has moved to the next one's. */
    memmove(g->first + 1, g->first, c->n_experts * sizeof *g->first);
    g->first[0] = 0;
}

void mu_run_dispatch(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t row)
{
    const struct mu_config *c = run->p->config;
    const struct mu_choice *chosen = choices_of(run, row);
    void *first = row_formed(run, op->out, chosen[0].slot);
    run->k->form_store(run->rank->forms[i].out, first, c->hidden, 0, c->hidden,
                       row_f32(run, op->in, row));
    for (uint32_t j = 1; j < c->n_experts_used; j++)
        memcpy(row_formed(run, op->out, chosen[j].slot), first, run->rank->row_bytes[op->out]);
}

static uint32_t slots_of(const struct run *run, uint32_t expert)
{
    return run->rank->groups.first[expert + 1] - run->rank->groups.first[expert];
}

/* Pieces of one expert's columns: as many as make work for all threads with all experts. */
static uint32_t expert_step(const struct run *run, const struct mu_op *op, uint32_t *pieces)
{
    uint32_t step = mu_run_glu_step(run, op->width * *run->rank->groups.n_active);
    step = MU_MIN(step, MU_ROUND_UP(op->width, 32u));
    *pieces = MU_CEIL_DIV(op->width, step);
    return step;
}

uint32_t mu_run_experts_pieces(const struct run *run, const struct mu_op *op)
{
    uint32_t pieces;
    (void)expert_step(run, op, &pieces);
    return pieces * *run->rank->groups.n_active;
}

void mu_run_experts(const struct run *run, const struct mu_op *op, uint32_t i, uint32_t piece,
                    unsigned member)
{
    const struct mu_rank *rank = run->rank;
    uint32_t pieces, step = expert_step(run, op, &pieces), first = piece % pieces * step;
    uint32_t expert = rank->groups.active[piece / pieces];
    bool biased = op->biases[0] != MU_NO_TENSOR;
    struct glu glu = {.gate = &rank->weights[op->weights[0] + expert],
                      .up = &rank->weights[op->weights[1] + expert],
                      .gate_bias = biased ? vector(run, op->biases[0] + expert) : NULL,
                      .up_bias = biased ? vector(run, op->biases[1] + expert) : NULL,
                      .row = rank->groups.first[expert],
                      .n_rows = slots_of(run, expert)};
    mu_run_glu_columns(run, op, i, &glu, first, MU_MIN(first + step, op->width),
                       scratch_of(run, member));
}

/* Adds up the segments' sums of some outputs to this rank's subtrees of them. */
static void finish_subtrees(const struct run *run, const struct mu_op *op, float *sums,
                            uint32_t first, uint32_t n)
{
    const struct mu_cut_plan *cut = &run->p->cuts[op->cut];
    uint32_t hidden = run->p->config->hidden, width = run->n_rows * run->k->row_tile;
    struct mu_run leaves[MU_SEGMENTS_MAX];
    float *pieces[MU_SEGMENTS_MAX];
    for (uint32_t i = 0; i < cut->run.end - cut->run.first; i++) {
        leaves[i] = (struct mu_run){cut->run.first + i, cut->run.first + i + 1};
        pieces[i] = sums + (size_t)i * width;
    }
    for (unsigned t = 0; t < cut->n_subtrees; t++) {
        struct mu_run tree = cut->subtrees[t];
        uint32_t at = tree.first - cut->run.first;
        mu_segment_add(tree.first, tree.end, leaves + at, pieces + at, tree.end - tree.first, width,
                       pieces[at]);
        float *out = (float *)run->rank->buffers[op->out] + (size_t)t * run->n_rows * hidden;
        for (uint32_t row = 0; row < run->n_rows; row++)
            memcpy(out + (size_t)row * hidden + first, pieces[at] + row * run->k->row_tile,
                   n * sizeof *out);
    }
}

void mu_run_experts_cut(const struct run *run, const struct mu_op *op, uint32_t piece,
                        unsigned member)
{
    const struct mu_rank *rank = run->rank;
    uint32_t tile = run->k->row_tile, first = piece * tile;
    uint32_t end = MU_MIN(first + tile, run->p->config->hidden);
    size_t segment = (size_t)run->n_rows * tile;
    struct mu_run own = run->p->cuts[op->cut].run;
    float *sums = scratch_of(run, member);
    memset(sums, 0, (own.end - own.first) * segment * sizeof *sums);
    for (uint32_t i = 0; i < *rank->groups.n_active; i++) {
        uint32_t expert = rank->groups.active[i], slot = rank->groups.first[expert];
        struct mu_linear_args args = {.weight = &rank->weights[op->weights[0] + expert],
                                      .cut = &rank->cuts[op->cut],
                                      .x = row_formed(run, op->in, slot),
                                      .x_stride = rank->row_bytes[op->in],
                                      .y = sums - first,
                                      .y_stride = tile,
                                      .y_subtree = segment,
                                      .n_rows = slots_of(run, expert),
                                      .y_rows = rank->groups.row + slot};
        run->k->linear(&args, first, end);
    }
    finish_subtrees(run, op, sums, first, end - first);
}

void mu_run_expert_biases(const struct run *run, const struct mu_op *op, uint32_t row, float *sum)
{
    const struct mu_config *c = run->p->config;
    const struct mu_choice *chosen = choices_of(run, row);
    for (uint32_t i = 0; i < c->n_experts_used; i++) {
        const float *bias = vector(run, op->biases[0] + chosen[i].expert);
        for (uint32_t j = 0; j < c->hidden; j++)
            sum[j] += chosen[i].weight * bias[j];
    }
}

float mu_run_shared_share(const struct run *run, uint32_t row)
{
    float logit = row_f32(run, MU_BUFFER_ROUTES, row)[run->p->config->n_experts];
    return 1 / (1 + mu_expf(-logit));
}
