/* Differences and their noise; see compare.h. */
#include "store/compare.h"

#include <math.h>

static const char *const noise_names[] = {"unknown", "none", "runs", "spread", "samples"};
static const char *const verdict_names[] = {"same", "real", "noise", "too few to tell"};

const char *mu_store_noise_name(enum mu_store_noise noise)
{
    return noise_names[noise];
}

const char *mu_store_verdict_name(enum mu_store_verdict verdict)
{
    return verdict_names[verdict];
}

/* Below 3 degrees the whole number below, which is on the safe side; from there on Cornish and
 * Fisher's expansion around the normal quantile, right to 0.2 %. */
double mu_store_t95(double freedom)
{
    static const double terms[] = {1.959964, 2.372272, 2.822500, 2.555852, 1.589534};
    if (freedom < 2) return 12.706205;
    if (freedom < 3) return 4.302653;
    double t = 0, power = 1;
    for (size_t i = 0; i < MU_ARRAY_LEN(terms); i++) {
        t += terms[i] * power;
        power /= freedom;
    }
    return t;
}

/* Values, or their logarithms, one after the other: Welford's sums. */
struct moments {
    bool logs;
    size_t n;
    double first, mean, squares;
};

static void moments_add(struct moments *m, double value)
{
    double x = m->logs ? log(value) : value, before = x - m->mean;
    if (m->n == 0) m->first = value;
    m->mean += before / (double)++m->n;
    m->squares += before * (x - m->mean);
}

/* Of the values as they were; to the bit where they are all the same. */
static double mean_of(const struct moments *m)
{
    return m->squares <= 0 ? m->first : m->logs ? exp(m->mean) : m->mean;
}

static double variance_of(const struct moments *m)
{
    return m->n > 1 ? m->squares / (double)(m->n - 1) : (double)NAN;
}

static struct moments samples_sum(const struct mu_store_run *run, enum mu_store_kind kind,
                                  const char *name, bool logs)
{
    struct moments m = {.logs = logs};
    size_t n;
    const struct mu_store_sample *s = mu_store_run_samples(run, &n);
    for (size_t i = 0; i < n; i++)
        if (s[i].kind == kind && strcmp(s[i].name, name) == 0) moments_add(&m, s[i].value);
    return m;
}

size_t mu_store_samples_sum(const struct mu_store_run *run, enum mu_store_kind kind,
                            const char *name, double *mean, double *variance)
{
    struct moments m = samples_sum(run, kind, name, false);
    *mean = m.mean;
    *variance = variance_of(&m);
    return m.n;
}

/* The figure in those runs that have it. */
static struct moments figure_sum(const struct mu_store_run *runs, size_t n,
                                 const struct mu_store_figure *figure, bool logs)
{
    struct moments m = {.logs = logs};
    for (size_t i = 0; i < n; i++) {
        const struct mu_store_figure *f =
            mu_store_run_figure_get(&runs[i], figure->kind, figure->name);
        if (f) moments_add(&m, f->value);
    }
    return m;
}

/* Whether logarithms can be taken: of the figure in all runs, and of its samples in them. */
static bool all_positive(const struct mu_store_run *runs, size_t n,
                         const struct mu_store_figure *figure)
{
    for (size_t i = 0; i < n; i++) {
        const struct mu_store_figure *f =
            mu_store_run_figure_get(&runs[i], figure->kind, figure->name);
        size_t n_samples;
        const struct mu_store_sample *s = mu_store_run_samples(&runs[i], &n_samples);
        if (f && !(f->value > 0)) return false;
        for (size_t k = 0; k < n_samples; k++)
            if (!(s[k].value > 0) && s[k].kind == figure->kind &&
                strcmp(s[k].name, figure->name) == 0)
                return false;
    }
    return true;
}

/* Half of the interval of the difference of two means; NAN: too few values. */
static double welch(const struct moments *m, const struct moments *o)
{
    if (m->n < MU_STORE_VALUES_MIN || o->n < MU_STORE_VALUES_MIN) return (double)NAN;
    double a = variance_of(m) / (double)m->n, b = variance_of(o) / (double)o->n;
    if (a + b <= 0) return 0;
    double freedom = (a + b) * (a + b) / (a * a / (double)(m->n - 1) + b * b / (double)(o->n - 1));
    return mu_store_t95(freedom) * sqrt(a + b);
}

/* The same for one more value beside several, which is as far from them as they are from each
 * other. */
static double of_spread(const struct moments *m)
{
    if (m->n < MU_STORE_VALUES_MIN) return (double)NAN;
    return mu_store_t95((double)(m->n - 1)) * sqrt(variance_of(m) * (1 + 1 / (double)m->n));
}

static const struct mu_store_run *run_with(const struct mu_store_run *runs, size_t n,
                                           const struct mu_store_change *c)
{
    size_t i = 0;
    while (i + 1 < n && !mu_store_run_figure_get(&runs[i], c->kind, c->name))
        i++;
    return &runs[i];
}

/* What is inside one run each. */
static double welch_of_samples(const struct mu_store_change *c, bool logs,
                               const struct mu_store_run *run_a, const struct mu_store_run *run_b)
{
    struct moments a = samples_sum(run_a, c->kind, c->name, logs);
    struct moments b = samples_sum(run_b, c->kind, c->name, logs);
    return welch(&a, &b);
}

static void judge(struct mu_store_change *c, const struct moments *a, const struct moments *b,
                  const struct mu_store_run *run_a, const struct mu_store_run *run_b)
{
    double half = 0, difference = b->mean - a->mean;
    if (c->kind == MU_STORE_PREDICTED && a->squares <= 0 && b->squares <= 0) {
        c->noise = MU_STORE_NOISE_NONE;
    } else if (a->n > 1 && b->n > 1) {
        c->noise = MU_STORE_NOISE_RUNS;
        half = welch(a, b);
    } else if (a->n > 1 || b->n > 1) {
        c->noise = MU_STORE_NOISE_SPREAD;
        half = of_spread(a->n > 1 ? a : b);
    } else {
        c->noise = MU_STORE_NOISE_SAMPLES;
        half = welch_of_samples(c, a->logs, run_a, run_b);
    }
    if (isnan(half)) c->noise = MU_STORE_NOISE_UNKNOWN;
    c->low = a->logs ? c->a * expm1(difference - half) : difference - half;
    c->high = a->logs ? c->a * expm1(difference + half) : difference + half;
    c->verdict = c->a == c->b              ? MU_STORE_SAME
                 : isnan(half)             ? MU_STORE_TOO_FEW
                 : fabs(difference) > half ? MU_STORE_REAL
                                           : MU_STORE_NOISE;
}

static bool seen_before(const struct mu_store_change *changes, size_t n,
                        const struct mu_store_figure *f)
{
    for (size_t i = 0; i < n; i++)
        if (changes[i].kind == f->kind && strcmp(changes[i].name, f->name) == 0) return true;
    return false;
}

mu_status mu_store_compare(const struct mu_store_run *a, size_t n_a, const struct mu_store_run *b,
                           size_t n_b, struct mu_store_change **out, size_t *n, struct mu_err *err)
{
    size_t most = 0, n_figures;
    for (size_t i = 0; i < n_a; i++) {
        (void)mu_store_run_figures(&a[i], &n_figures);
        most += n_figures;
    }
    struct mu_store_change *changes = mu_calloc(most, sizeof *changes);
    if (!changes) return mu_fail_memory(err, most * sizeof *changes);
    *n = 0;
    for (size_t i = 0; i < n_a; i++) {
        const struct mu_store_figure *f = mu_store_run_figures(&a[i], &n_figures);
        for (size_t k = 0; k < n_figures; k++, f++) {
            struct mu_store_change *c = &changes[*n];
            if (seen_before(changes, *n, f)) continue;
            bool logs = all_positive(a, n_a, f) && all_positive(b, n_b, f);
            struct moments x = figure_sum(a, n_a, f, logs), y = figure_sum(b, n_b, f, logs);
            if (y.n == 0) continue;
            *c = (struct mu_store_change){.kind = f->kind,
                                          .name = f->name,
                                          .unit = f->unit,
                                          .n_a = x.n,
                                          .n_b = y.n,
                                          .a = mean_of(&x),
                                          .b = mean_of(&y)};
            judge(c, &x, &y, run_with(a, n_a, c), run_with(b, n_b, c));
            ++*n;
        }
    }
    *out = changes;
    return MU_OK;
}
