/* Pricing the operations of a shard; see price.h and docs/internals/pricing.md. */
#include "plan/price.h"

#include "plan/costs.h"

#include <math.h>

#define ACTIVATION_BYTES 2.0   /* of a value between operations */
#define AWAKE_S          50e-6 /* as long as who waits spins (comm/threads.c) */

/* ---- From the program to works ------------------------------------------------------------- */

struct reader {
    const struct mu_config *config;
    const struct mu_program *program;
    const struct mu_plan_weights *weights;
    struct mu_plan_shard *shard;
    uint32_t n;
};

static double role_bytes(const struct reader *r, const struct mu_tensor_use *use)
{
    uint32_t layer = use->role <= MU_ROLE_FINAL_NORM ? r->config->n_layers : use->layer;
    return r->weights->bytes[layer][use->role];
}

/* Values that this rank owns of a tensor, of one expert. */
static double use_values(const struct mu_tensor_use *use)
{
    return (double)use->rows * use->cols;
}

/* Values of a buffer for each row: slots are as many as experts that a row chooses. */
static double width(const struct reader *r, enum mu_buffer b)
{
    double times = mu_buffer_has_slots(b) ? r->config->n_experts_used : 1;
    return times * r->program->width[b];
}

/* Bytes of activations that a row moves through memory. */
static double row_bytes(const struct reader *r, const struct mu_op *op)
{
    double values = width(r, op->in) + width(r, op->out);
    if (op->kind == MU_OP_EMBED) values = 2 * width(r, MU_BUFFER_H);
    if (op->kind == MU_OP_COMBINE) values = 4 * width(r, MU_BUFFER_H);
    if (op->kind == MU_OP_EXCHANGE) values = width(r, MU_BUFFER_H);
    if (op->kind == MU_OP_LINEAR_CUT || op->kind == MU_OP_EXPERTS_CUT)
        values = width(r, op->in) + width(r, MU_BUFFER_H);
    return values * ACTIVATION_BYTES;
}

/* Matrices of one expert; of each head, where there is one a head. */
static void set_weights(const struct reader *r, const struct mu_op *op, struct mu_plan_work *w)
{
    const struct mu_plan_format *f = r->weights->format;
    bool heads = op->kind == MU_OP_Q_LATENT || op->kind == MU_OP_V_LATENT;
    if (op->kind == MU_OP_EMBED) return; /* a row is copied, not all of it read */
    for (uint32_t i = 0; i < op->n_weights; i++) {
        const struct mu_tensor_use *use = &r->program->tensors[op->weights[i]];
        double values = use_values(use) * (heads ? op->n_groups : 1);
        if (!w->experts) values *= mu_plan_copies(r->config, use->role); /* a router's rows */
        w->values += values;
        w->bytes += values * role_bytes(r, use);
    }
    w->bits = w->values > 0 ? 8 * w->bytes / w->values : 0;
    w->home = op->n_weights ? r->program->tensors[op->weights[0]].home : MU_HOME_DEVICE;
    bool coded = w->bits < 15 || f->rate == MU_PROBE_F32;
    w->rate = coded ? f->rate : MU_PROBE_F16;
}

static enum mu_plan_matrix matrix_of(const struct mu_op *op)
{
    bool gated = op->kind == MU_OP_GLU || op->kind == MU_OP_EXPERTS;
    if (op->kind == MU_OP_LINEAR_CUT && op->cut == MU_CUT_O) return MU_PLAN_O;
    if (op->kind == MU_OP_LINEAR_CUT || op->kind == MU_OP_EXPERTS_CUT) return MU_PLAN_DOWN;
    return gated ? MU_PLAN_GLU : op->kind == MU_OP_LOGITS ? MU_PLAN_HEAD : MU_PLAN_QKV;
}

static struct mu_plan_work work_of(const struct reader *r, const struct mu_op *op)
{
    const struct mu_config *c = r->config;
    const struct mu_program *p = r->program;
    struct mu_plan_work w = {.kind = op->kind,
                             .matrix = matrix_of(op),
                             .out_rows = op->out_rows,
                             .experts = op->kind == MU_OP_EXPERTS || op->kind == MU_OP_EXPERTS_CUT,
                             .row_bytes = row_bytes(r, op)};
    set_weights(r, op, &w);
    if (op->kind == MU_OP_ATTEND) {
        w.values = (double)p->n_heads * (p->key_dim + p->value_dim) / 2;
        w.kv_values = r->shard->kv_values;
        w.window = c->layer_sliding[op->layer] ? c->sliding_window : 0;
    }
    if (op->kind == MU_OP_ROPE_KV || op->kind == MU_OP_LATENT_KV)
        w.turned = (double)(p->n_heads + 2 * p->n_kv_heads) * p->key_dim;
    if (op->kind == MU_OP_EXCHANGE) /* all ranks' subtrees but one's own, of 4 bytes */
        w.values = 4.0 * ((double)p->width[MU_BUFFER_PARTS] - p->width[MU_BUFFER_PART]);
    if (op->kind == MU_OP_GATHER) w.values = 4.0 * (c->vocab - (double)p->vocab);
    return w;
}

static bool same_works(const struct mu_plan_work *a, const struct mu_plan_work *b, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (a[i].kind != b[i].kind || a[i].values != b[i].values || a[i].bytes != b[i].bytes ||
            a[i].window != b[i].window || a[i].experts != b[i].experts)
            return false;
    return true;
}

/* Works of ops [begin, end) as the group behind those that are there. */
static void add_group(struct reader *r, uint32_t begin, uint32_t end, uint32_t group)
{
    r->shard->first[group] = r->n;
    for (uint32_t i = begin; i < end; i++)
        r->shard->works[r->n++] = work_of(r, &r->program->ops[i]);
    r->shard->first[group + 1] = r->n;
}

/* The layer's works, unless an earlier layer has the same. */
static void add_layer(struct reader *r, uint32_t layer, uint32_t begin, uint32_t end)
{
    struct mu_plan_shard *s = r->shard;
    add_group(r, begin, end, s->n_classes + 1);
    const struct mu_plan_work *mine = s->works + s->first[s->n_classes + 1];
    for (uint32_t k = 0; k < s->n_classes; k++) {
        uint32_t n = s->first[k + 2] - s->first[k + 1];
        if (n != end - begin || !same_works(s->works + s->first[k + 1], mine, n)) continue;
        s->layer_class[layer] = k;
        r->n -= n;
        return;
    }
    s->layer_class[layer] = s->n_classes++;
}

static bool opens_layer(const struct mu_op *op)
{
    return op->kind == MU_OP_LINEAR && op->in == MU_BUFFER_X &&
           (op->out == MU_BUFFER_QKV || op->out == MU_BUFFER_LATENT);
}

static void read_ops(struct reader *r)
{
    const struct mu_program *p = r->program;
    uint32_t at = 0;
    while (at < p->n_ops && !opens_layer(&p->ops[at]))
        at++;
    add_group(r, 0, at, 0);
    for (uint32_t layer = 0; layer < r->config->n_layers; layer++) {
        uint32_t begin = at++;
        while (at < p->n_ops && !opens_layer(&p->ops[at]) && p->ops[at].kind != MU_OP_OUT_ROWS)
            at++;
        add_layer(r, layer, begin, at);
    }
    add_group(r, at, p->n_ops, r->shard->n_classes + 1);
}

/* ---- Memory -------------------------------------------------------------------------------- */

static void read_bytes(struct reader *r)
{
    struct mu_plan_shard *s = r->shard;
    const struct mu_program *p = r->program;
    const struct mu_config *c = r->config;
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct mu_tensor_use *use = &p->tensors[i];
        double bytes = use_values(use) * mu_plan_copies(c, use->role) * role_bytes(r, use);
        if (use->role == MU_ROLE_EMBED)
            s->embed_bytes += bytes;
        else if (use->role <= MU_ROLE_FINAL_NORM)
            s->head_bytes += bytes;
        else
            s->layer_bytes[use->layer] += bytes;
    }
    for (uint32_t layer = 0; layer < c->n_layers; layer++) {
        s->layer_bytes[layer] += r->weights->more_bytes[layer];
        s->layer_window[layer] = c->layer_sliding[layer] ? c->sliding_window : 0;
    }
    s->embed_bytes += r->weights->more_bytes[c->n_layers];
    for (int b = 0; b < MU_BUFFER_COUNT; b++)
        if (b != MU_BUFFER_OUT && b != MU_BUFFER_LOGITS && b != MU_BUFFER_LOGIT_PART)
            s->row_bytes += ACTIVATION_BYTES * width(r, (enum mu_buffer)b);
}

static void read_shape(struct reader *r)
{
    struct mu_plan_shard *s = r->shard;
    const struct mu_program *p = r->program;
    const struct mu_config *c = r->config;
    s->out_bytes = 4.0 * c->vocab;
    s->hidden = c->hidden;
    s->tied = c->tied_head;
    /* A latent is key and value in one. */
    s->kv_values = p->latent ? p->key_dim : (double)p->n_kv_heads * (p->key_dim + p->value_dim);
    s->experts = c->n_experts;
    s->experts_used = c->n_experts_used;
}

mu_status mu_plan_shard_make(const struct mu_config *config, const struct mu_plan_weights *weights,
                             const struct mu_program *program, struct mu_arena *arena,
                             struct mu_plan_shard *out, struct mu_err *err)
{
    *out = (struct mu_plan_shard){.n_layers = config->n_layers, .tp = program->shard.tp_size};
    uint32_t layers = config->n_layers;
    out->works = mu_arena_alloc(arena, program->n_ops + 1, sizeof *out->works);
    out->first = mu_arena_alloc(arena, layers + 4, sizeof *out->first);
    out->layer_class = mu_arena_alloc(arena, layers, sizeof *out->layer_class);
    out->layer_bytes = mu_arena_alloc(arena, layers, sizeof *out->layer_bytes);
    out->layer_window = mu_arena_alloc(arena, layers, sizeof *out->layer_window);
    if (!out->works || !out->first || !out->layer_class || !out->layer_bytes || !out->layer_window)
        return mu_fail_memory(err, program->n_ops * sizeof *out->works);
    struct reader r = {.config = config, .program = program, .weights = weights, .shard = out};
    read_shape(&r);
    read_ops(&r);
    read_bytes(&r);
    return MU_OK;
}

/* All experts of an operation come at once. */
static double staged_bytes(const struct mu_plan_shard *shard, const struct mu_plan_work *w)
{
    return w->home == MU_HOME_DEVICE ? 0 : w->bytes * (w->experts ? shard->experts : 1);
}

mu_status mu_plan_stage_make(const struct mu_config *config, const struct mu_plan_weights *weights,
                             const struct mu_program *program, struct mu_arena *arena,
                             struct mu_plan_shard *out, struct mu_err *err)
{
    *out = (struct mu_plan_shard){.n_classes = 1, .tp = 1};
    out->works = mu_arena_alloc(arena, program->n_ops + 1, sizeof *out->works);
    out->first = mu_arena_alloc(arena, 4, sizeof *out->first);
    out->layer_class = mu_arena_alloc(arena, config->n_layers, sizeof *out->layer_class);
    out->layer_bytes = mu_arena_alloc(arena, config->n_layers, sizeof *out->layer_bytes);
    out->layer_window = mu_arena_alloc(arena, config->n_layers, sizeof *out->layer_window);
    if (!out->works || !out->first || !out->layer_class || !out->layer_bytes || !out->layer_window)
        return mu_fail_memory(err, program->n_ops * sizeof *out->works);
    struct reader r = {.config = config, .program = program, .weights = weights, .shard = out};
    double slot = 0;
    read_shape(&r);
    add_group(&r, 0, program->n_ops, 0);
    out->first[2] = out->first[3] = r.n;
    for (uint32_t i = 0; i < r.n; i++) {
        const struct mu_plan_work *w = &out->works[i];
        if (w->kind == MU_OP_ATTEND) out->layer_window[out->n_layers++] = w->window;
        slot = MU_MAX(slot, staged_bytes(out, w));
        out->head_bytes +=
            w->home == MU_HOME_DEVICE ? w->bytes * (w->experts ? out->experts : 1) : 0;
    }
    out->head_bytes += 2 * slot;
    return MU_OK;
}

double mu_plan_stage_weights(const struct mu_plan_shard *shard, uint32_t first, uint32_t end)
{
    bool head = first == 0, tail = end == shard->n_layers;
    double bytes =
        (head || (tail && shard->tied) ? shard->embed_bytes : 0) + (tail ? shard->head_bytes : 0);
    for (uint32_t layer = first; layer < end; layer++)
        bytes += shard->layer_bytes[layer];
    return bytes;
}

double mu_plan_stage_kv(const struct mu_plan_shard *shard, uint32_t first, uint32_t end,
                        double streams, double tokens)
{
    double kept = 0;
    for (uint32_t layer = first; layer < end; layer++)
        kept += shard->layer_window[layer] ? MU_MIN(tokens, shard->layer_window[layer]) : tokens;
    return kept * streams * shard->kv_values;
}

/* ---- Seconds ------------------------------------------------------------------------------- */

struct pricer {
    const struct mu_plan_shard *shard;
    const struct mu_plan_place *place;
    const struct mu_plan_step *step;
    double rows, outs;
    double bandwidth; /* that weights and activations reach */
    double bytes;     /* weights, keys and values that all devices of its kind go through */
};

/* The rate of a product on this device, with what the engine reaches of it: activations that the
 * device has no arithmetic for are widened to what it has. */
static double rate(const struct pricer *p, enum mu_probe_rate wanted)
{
    const struct mu_probe_engine *e = p->place->engine;
    const double *rates = p->place->device->rates;
    switch (wanted) {
    case MU_PROBE_F4:
        if (rates[MU_PROBE_F4] > 0) return rates[MU_PROBE_F4] * e->f4;
        break; /* multiplied as 16 bits: nobody rounds activations further than the weights ask */
    case MU_PROBE_F8:
        if (rates[MU_PROBE_F8] > 0) return rates[MU_PROBE_F8] * e->f8;
        break;
    case MU_PROBE_I8:
        if (rates[MU_PROBE_I8] > 0) return rates[MU_PROBE_I8] * e->f8;
        break;
    case MU_PROBE_F16:
        break;
    case MU_PROBE_F32:
    case MU_PROBE_RATES:
        return rates[MU_PROBE_F32] * e->f16;
    }
    return MU_MAX(rates[MU_PROBE_F16], rates[MU_PROBE_F32]) * e->f16;
}

static double exchange_seconds(const struct mu_probe_link *link, const struct mu_probe_engine *e,
                               double n, double sent_bytes)
{
    double reached = link->efficiency * e->exchange * pow(2 / n, link->crowding);
    return link->latency_s * e->latency + sent_bytes / (link->bytes_per_s * reached);
}

static double exchange(const struct pricer *p, const struct mu_plan_work *w)
{
    double n = p->shard->tp;
    double sent = p->place->engine->trees > 0 ? p->rows * w->values
                                              : 2 * (n - 1) / n * p->rows * w->row_bytes;
    return exchange_seconds(p->place->link, p->place->engine, n, sent);
}

static double product(const struct pricer *p, const struct mu_plan_work *w)
{
    double rows = w->out_rows ? p->outs : p->rows;
    double moved = (w->bytes + rows * w->row_bytes) / p->bandwidth;
    double done = 2 * rows * w->values / rate(p, w->rate);
    return MU_MAX(moved, done) + p->place->engine->op_s;
}

/* Each row chooses some of the experts; together they choose fewer than that times the rows. */
static double experts(const struct pricer *p, const struct mu_plan_work *w)
{
    const struct mu_probe_engine *e = p->place->engine;
    const struct mu_probe_device *d = p->place->device;
    const struct mu_plan_shard *s = p->shard;
    bool widened = w->bits < 7 && d->rates[MU_PROBE_F4] == 0;
    double chosen = s->experts * (1 - pow(1 - s->experts_used / s->experts, p->rows * e->routing));
    chosen = MU_MAX(chosen, MU_MIN(s->experts_used, s->experts));
    double bandwidth = d->bytes_per_s * (widened ? e->experts_widened : e->experts);
    double moved = (chosen * w->bytes + p->rows * w->row_bytes) / bandwidth;
    double limit = MU_MAX(d->rates[MU_PROBE_F16], d->rates[MU_PROBE_F32]);
    if (!widened && w->bits < 12 && d->rates[MU_PROBE_F8] > 0) limit = d->rates[MU_PROBE_F8];
    double done = 2 * p->rows * s->experts_used * w->values /
                  (limit * (widened ? e->experts_math_widened : e->experts_math));
    return MU_MAX(moved, done) + e->op_s;
}

static double seen(const struct mu_plan_work *w, double keys)
{
    return w->window ? MU_MIN(keys, w->window) : keys;
}

static double attention(const struct pricer *p, const struct mu_plan_work *w)
{
    const struct mu_plan_step *s = p->step;
    const struct mu_probe_device *d = p->place->device;
    const struct mu_probe_engine *e = p->place->engine;
    double limit = MU_MAX(d->rates[MU_PROBE_F16], d->rates[MU_PROBE_F32]);
    double read = s->streams * seen(w, s->context) * w->kv_values * p->place->kv_bytes;
    double done = 4 * s->chunk * seen(w, s->past + s->chunk / 2) * w->values;
    return read / (d->bytes_per_s * e->kv) + done / (limit * e->attention) + e->op_s;
}

static double communication(const struct pricer *p, const struct mu_plan_work *w)
{
    if (w->kind == MU_OP_EXCHANGE) return exchange(p, w);
    if (w->kind != MU_OP_GATHER) return 0; /* mu_plan_hand_over */
    return exchange_seconds(p->place->link, p->place->engine, p->shard->tp, p->outs * w->values);
}

static double seconds_of(const struct pricer *p, const struct mu_plan_work *w)
{
    if (p->place->timed)
        return mu_plan_timed_seconds(p->place->timed, p->shard, w, p->step, p->bytes) +
               communication(p, w);
    switch (w->kind) {
    case MU_OP_LINEAR:
    case MU_OP_GLU:
    case MU_OP_LINEAR_CUT:
    case MU_OP_LOGITS:
    case MU_OP_Q_LATENT:
    case MU_OP_V_LATENT:
        return product(p, w);
    case MU_OP_EXPERTS:
    case MU_OP_EXPERTS_CUT:
        return experts(p, w);
    case MU_OP_ATTEND:
        return attention(p, w);
    case MU_OP_GROUP:
    case MU_OP_DISPATCH: /* parts of the kernels beside them, in most engines */
        return p->rows * w->row_bytes / p->bandwidth;
    case MU_OP_EMBED:
    case MU_OP_ROPE_KV:
    case MU_OP_LATENT_KV:
    case MU_OP_ROUTE:
    case MU_OP_COMBINE:
    case MU_OP_OUT_ROWS:
        return (w->out_rows ? p->outs : p->rows) * w->row_bytes / p->bandwidth +
               p->place->engine->op_s;
    case MU_OP_EXCHANGE:
    case MU_OP_GATHER:
    case MU_OP_SEND:
    case MU_OP_RECEIVE:
        break;
    }
    return communication(p, w);
}

static double group_seconds(const struct pricer *p, uint32_t group)
{
    double sum = 0;
    for (uint32_t i = p->shard->first[group]; i < p->shard->first[group + 1]; i++)
        sum += seconds_of(p, &p->shard->works[i]);
    return sum;
}

/* A step reads all weights, and the keys and values of its streams. */
static double gone_through(const struct mu_plan_shard *shard, const struct mu_plan_place *place,
                           const struct mu_plan_step *step, uint32_t first, uint32_t end)
{
    double kv = mu_plan_stage_kv(shard, first, end, step->streams, step->context) +
                mu_plan_stage_kv(shard, first, end, step->chunk > 0, step->past + step->chunk);
    double bytes = mu_plan_stage_weights(shard, first, end) + kv * place->kv_bytes;
    return bytes * place->timed->n_busy;
}

double mu_plan_seconds(const struct mu_plan_shard *shard, const struct mu_plan_place *place,
                       const struct mu_plan_step *step, uint32_t first, uint32_t end)
{
    struct pricer p = {.shard = shard,
                       .place = place,
                       .step = step,
                       .rows = step->streams + step->chunk,
                       .outs = step->streams + (step->chunk > 0),
                       .bandwidth = place->device->bytes_per_s * place->engine->weights,
                       .bytes = place->timed ? gone_through(shard, place, step, first, end) : 0};
    double sum = first == 0 ? group_seconds(&p, 0) : 0;
    for (uint32_t k = 0; k < shard->n_classes; k++) {
        uint32_t n = 0;
        for (uint32_t layer = first; layer < end; layer++)
            n += shard->layer_class[layer] == k;
        if (n) sum += n * group_seconds(&p, k + 1);
    }
    return end == shard->n_layers ? sum + group_seconds(&p, shard->n_classes + 1) : sum;
}

double mu_plan_hand_over(const struct mu_plan_shard *shard, const struct mu_probe_engine *engine,
                         const struct mu_probe_link *link, double rows)
{
    double bytes = rows * shard->hidden * (engine->trees > 0 ? 4 : ACTIVATION_BYTES);
    return exchange_seconds(link, engine, 2, bytes);
}

double mu_plan_wake(const struct mu_probe_link *link, double waited_s)
{
    return waited_s > AWAKE_S ? link->wake_s : 0;
}

/* Seconds until a load is there, when the operations since the one before took `since`: the thread
 * began with it then, and members that come too early help. */
static double awaited(const struct mu_plan_staging *s, double fill, double since)
{
    return s->core_left ? MU_MAX(fill * s->n_threads - since, 0) / (s->n_threads + 1) : fill;
}

double mu_plan_staged_seconds(const struct mu_plan_shard *shard, const struct mu_plan_place *place,
                              const struct mu_plan_step *step,
                              const struct mu_plan_staging *staging)
{
    struct pricer p = {.shard = shard,
                       .place = place,
                       .step = step,
                       .rows = step->streams + step->chunk,
                       .outs = step->streams + (step->chunk > 0),
                       .bytes = gone_through(shard, place, step, 0, shard->n_layers)};
    double since = 0, waits = 0;
    uint32_t n_loads = 0;
    for (int round = 0; round < 2; round++) { /* the first load comes while the last step ends */
        waits = n_loads = 0;
        for (uint32_t i = shard->first[0]; i < shard->first[1]; i++) {
            const struct mu_plan_work *w = &shard->works[i];
            double bytes = staged_bytes(shard, w);
            if (bytes > 0) {
                waits += staging->load_s[w->home] +
                         awaited(staging, bytes * staging->fill_s[w->home], since);
                n_loads++;
                since = 0;
            }
            since += seconds_of(&p, w);
        }
    }
    return n_loads > 2 ? waits : 0; /* two stay in their slots */
}
