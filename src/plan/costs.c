/* Looking up what was timed; see costs.h and docs/internals/pricing.md. */
#include "plan/costs.h"

#include <math.h>

#define FEW_ROWS 8.0 /* that many rows read weights, and more than that multiply */

/* How much longer many rows take when `n` devices are at work than when one is. A single row says
 * nothing of that: a team shares it unevenly, and devices of their own do not. */
static double crowded(double one, double all, double n)
{
    return one > 0 ? MU_MAX(n * all / one, 1) : 1;
}

void mu_plan_costs_shared(const struct mu_plan_costs *one, const struct mu_plan_costs *all,
                          double n_busy, struct mu_plan_costs *out)
{
    double alone[MU_PLAN_COSTS], together[MU_PLAN_COSTS];
    memcpy(alone, one, sizeof alone);
    memcpy(together, all, sizeof together);
    for (size_t i = 0; i < MU_PLAN_COSTS; i++)
        alone[i] = MU_MAX(alone[i], n_busy * together[i]);
    memcpy(out, alone, sizeof alone);
    for (size_t i = 0; i < MU_PLAN_SIZES; i++)
        out->key_s[0][i] = one->key_s[0][i] * crowded(one->key_s[1][i], all->key_s[1][i], n_busy);
    out->query_s[0] = one->query_s[0] * crowded(one->query_s[1], all->query_s[1], n_busy);
    out->combine_s[0] = one->combine_s[0] * crowded(one->combine_s[1], all->combine_s[1], n_busy);
    out->meeting_s = one->meeting_s; /* each device's own threads */
    out->pick_s = one->pick_s;
    out->step_s = one->step_s;
    out->sequence_s = one->sequence_s;
    out->first_s = one->first_s;
    memcpy(out->load_s, one->load_s, sizeof out->load_s);
    out->read_s = one->read_s; /* of all cores in both */
    out->multiply_s = one->multiply_s;
}

/* Between two neighbours of a table: values[at] and the next, `part` of the way. */
static double between(const double *values, size_t stride, size_t at, size_t n, double part)
{
    size_t next = MU_MIN(at + 1, n - 1);
    return values[at * stride] + part * (values[next * stride] - values[at * stride]);
}

/* A table by bytes gone through, which is even on a logarithmic scale. */
static double by_size(const double *values, size_t stride, double bytes)
{
    static const double sizes[MU_PLAN_SIZES] = MU_PLAN_SIZE_BYTES;
    size_t at = 0;
    if (bytes <= sizes[0]) return values[0];
    while (at + 1 < MU_PLAN_SIZES && bytes > sizes[at + 1])
        at++;
    if (at + 1 == MU_PLAN_SIZES) return values[at * stride];
    return between(values, stride, at, MU_PLAN_SIZES,
                   log(bytes / sizes[at]) / log(sizes[at + 1] / sizes[at]));
}

static double weight_seconds(const struct mu_plan_costs *c, enum mu_plan_matrix matrix, double rows,
                             double bytes)
{
    double of_rows[MU_PLAN_ROWS], most = ldexp(1, MU_PLAN_ROWS - 1);
    for (size_t i = 0; i < MU_PLAN_ROWS; i++)
        of_rows[i] = by_size(&c->weight_s[matrix][0][i], MU_PLAN_ROWS, bytes);
    if (rows >= most) return of_rows[MU_PLAN_ROWS - 1] * rows / most;
    size_t at = 0;
    while (ldexp(1, (int)at + 1) <= rows)
        at++;
    double low = ldexp(1, (int)at), part = MU_MAX(rows - low, 0) / low;
    return between(of_rows, 1, at, MU_PLAN_ROWS, part);
}

/* The type that was timed stands for all of a model; what has more bits is read for longer. */
static double product(const struct mu_plan_timed *t, const struct mu_plan_work *w, double rows,
                      double bytes)
{
    double bits = w->matrix == MU_PLAN_HEAD ? t->head_bits : t->bits;
    double longer = rows < FEW_ROWS && bits > 0 && w->bits > 0 ? w->bits / bits : 1;
    return w->values * longer * weight_seconds(&t->costs, w->matrix, rows, bytes);
}

/* Rows choose experts, and those chosen together share their reading. */
static double experts(const struct mu_plan_timed *t, const struct mu_plan_shard *s,
                      const struct mu_plan_work *w, double rows, double bytes)
{
    double chosen = s->experts * (1 - pow(1 - s->experts_used / s->experts, rows));
    chosen = MU_MAX(chosen, MU_MIN(s->experts_used, s->experts));
    return chosen * product(t, w, rows * s->experts_used / chosen, bytes);
}

static double seen(const struct mu_plan_work *w, double keys)
{
    return w->window ? MU_MIN(keys, w->window) : keys;
}

/* What is timed for 1 row and for 8, for as many as there are: threads share 8 more evenly. */
static double for_rows(const double one_and_eight[2], double rows)
{
    double part = MU_MIN(MU_MAX(rows - 1, 0) / 7, 1);
    return one_and_eight[0] + part * (one_and_eight[1] - one_and_eight[0]);
}

/* Rows are what threads share out there: one row keeps one of them busy. */
static double between_products(const struct mu_plan_costs *c, double rows, double values)
{
    return rows * values * for_rows(c->combine_s, rows) + c->meeting_s;
}

static double attention(const struct mu_plan_costs *c, const struct mu_plan_work *w,
                        const struct mu_plan_step *s, double bytes)
{
    double keys = seen(w, s->context), prompt = seen(w, s->past + s->chunk / 2);
    double each[2] = {by_size(c->key_s[0], 1, bytes), by_size(c->key_s[1], 1, bytes)};
    double decoding = s->streams * (for_rows(c->query_s, s->streams) * w->values +
                                    keys * for_rows(each, s->streams) * w->kv_values);
    return decoding + s->chunk * w->values * (c->prompt_query_s + prompt * c->prompt_key_s);
}

double mu_plan_timed_seconds(const struct mu_plan_timed *timed, const struct mu_plan_shard *shard,
                             const struct mu_plan_work *work, const struct mu_plan_step *step,
                             double bytes)
{
    const struct mu_plan_costs *c = &timed->costs;
    double rows = step->streams + step->chunk, outs = step->streams + (step->chunk > 0);
    switch (work->kind) {
    case MU_OP_LINEAR:
    case MU_OP_GLU:
    case MU_OP_LINEAR_CUT:
    case MU_OP_Q_LATENT:
    case MU_OP_V_LATENT:
        return product(timed, work, rows, bytes) + c->meeting_s;
    case MU_OP_LOGITS:
        return product(timed, work, outs, bytes) + c->meeting_s;
    case MU_OP_EXPERTS:
    case MU_OP_EXPERTS_CUT:
        return experts(timed, shard, work, rows, bytes) + c->meeting_s;
    case MU_OP_ATTEND:
        return attention(c, work, step, bytes) + c->meeting_s;
    case MU_OP_ROPE_KV: /* while decoding, attention does it on its way */
    case MU_OP_LATENT_KV:
        return rows * work->turned * c->rope_s + (step->chunk > 0 ? c->meeting_s : 0);
    case MU_OP_OUT_ROWS:
        return between_products(c, outs, shard->hidden);
    case MU_OP_EMBED:
    case MU_OP_ROUTE:
    case MU_OP_COMBINE:
        return between_products(c, rows, shard->hidden);
    case MU_OP_GROUP:
    case MU_OP_DISPATCH:
        return between_products(c, rows * shard->experts_used, shard->hidden);
    case MU_OP_EXCHANGE:
    case MU_OP_GATHER:
    case MU_OP_SEND:
    case MU_OP_RECEIVE:
        return c->meeting_s;
    }
    return 0;
}
