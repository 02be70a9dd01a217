/* Differences and their noise; see compare.h. */
#include "store/compare.h"

#include <math.h>

static const char *const noise_names[] = {"unknown", "none", "runs", "spread", "samples"};
static const char *const verdict_names[] = {"same", "real", "noise", "undecided"};

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

/* Values one after the other: Welford's sums. */
struct moments {
    size_t n;
    double mean, squares;
};

static void moments_add(struct moments *m, double value)
{
    double before = value - m->mean;
    m->mean += before / (double)++m->n;
    m->squares += before * (value - m->mean);
}

static double variance_of(const struct moments *m)
{
    return m->n > 1 ? m->squares / (double)(m->n - 1) : (double)NAN;
}

size_t mu_store_samples_sum(const struct mu_store_run *run, enum mu_store_kind kind,
                            const char *name, double *mean, double *variance)
{
    struct moments m = {0};
    size_t n;
    const struct mu_store_sample *s = mu_store_run_samples(run, &n);
    for (size_t i = 0; i < n; i++)
        if (s[i].kind == kind && strcmp(s[i].name, name) == 0) moments_add(&m, s[i].value);
    *mean = m.mean;
    *variance = variance_of(&m);
    return m.n;
}

static struct moments figure_sum(const struct mu_store_run *runs, size_t n,
                                 const struct mu_store_figure *figure)
{
    struct moments m = {0};
    for (size_t i = 0; i < n; i++) {
        const struct mu_store_figure *f =
            mu_store_run_figure_get(&runs[i], figure->kind, figure->name);
        if (f) moments_add(&m, f->value);
    }
    return m;
}

/* Half of the interval of the difference of two means, each known from n values. */
static double welch(double variance_a, size_t n_a, double variance_b, size_t n_b)
{
    double a = variance_a / (double)n_a, b = variance_b / (double)n_b;
    if (a + b <= 0) return 0;
    double freedom = (a + b) * (a + b) / (a * a / (double)(n_a - 1) + b * b / (double)(n_b - 1));
    return mu_store_t95(freedom) * sqrt(a + b);
}

/* One run each: what is inside them. */
static void judge_samples(struct mu_store_change *c, const struct mu_store_run *a,
                          const struct mu_store_run *b)
{
    double mean, variance_a, variance_b;
    size_t n_a = mu_store_samples_sum(a, c->kind, c->name, &mean, &variance_a);
    size_t n_b = mu_store_samples_sum(b, c->kind, c->name, &mean, &variance_b);
    c->half = (double)NAN;
    if (n_a < 2 || n_b < 2) return;
    c->noise = MU_STORE_NOISE_SAMPLES;
    c->half = welch(variance_a, n_a, variance_b, n_b);
}

static const struct mu_store_run *run_with(const struct mu_store_run *runs, size_t n,
                                           const struct mu_store_change *c)
{
    size_t i = 0;
    while (i + 1 < n && !mu_store_run_figure_get(&runs[i], c->kind, c->name))
        i++;
    return &runs[i];
}

static void judge(struct mu_store_change *c, const struct moments *a, const struct moments *b,
                  const struct mu_store_run *run_a, const struct mu_store_run *run_b)
{
    const struct moments *many = a->n > 1 ? a : b;
    if (c->kind == MU_STORE_PREDICTED && a->squares == 0 && b->squares == 0) {
        c->noise = MU_STORE_NOISE_NONE;
    } else if (a->n > 1 && b->n > 1) {
        c->noise = MU_STORE_NOISE_RUNS;
        c->half = welch(variance_of(a), a->n, variance_of(b), b->n);
    } else if (many->n > 1) {
        c->noise = MU_STORE_NOISE_SPREAD;
        c->half = mu_store_t95((double)(many->n - 1)) *
                  sqrt(variance_of(many) * (1 + 1 / (double)many->n));
    } else {
        judge_samples(c, run_a, run_b);
    }
    double difference = fabs(c->b - c->a);
    c->verdict = difference == 0                      ? MU_STORE_SAME
                 : c->noise == MU_STORE_NOISE_UNKNOWN ? MU_STORE_UNDECIDED
                 : difference > c->half               ? MU_STORE_REAL
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
            struct moments x = figure_sum(a, n_a, f), y = figure_sum(b, n_b, f);
            if (y.n == 0) continue;
            *c = (struct mu_store_change){.kind = f->kind,
                                          .name = f->name,
                                          .unit = f->unit,
                                          .n_a = x.n,
                                          .n_b = y.n,
                                          .a = x.mean,
                                          .b = y.mean};
            judge(c, &x, &y, run_with(a, n_a, c), run_with(b, n_b, c));
            ++*n;
        }
    }
    *out = changes;
    return MU_OK;
}
