/* What is done to rows between products, and what a step costs beside its operations; see
 * measure.h. */
#include "measure/measure_int.h"

#include "base/clock.h"

#include <math.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ROWS       64
#define PARTS      5 /* of the steps, of which one is typical */
#define PART_STEPS 100
#define STEPS      (PARTS * PART_STEPS)
#define STEP_SPINS 1000 /* of its work */

struct rows {
    const struct mu_kernels *k;
    const struct mu_measure_shape *s;
    enum mu_form form;
    float *h, *tmp; /* [ROWS][width] */
    char *formed;   /* [ROWS] rows, and the cache's */
    size_t width, stride;
    float largest[ROWS];
};

/* As between two products: added, normed, formed. */
static void combine_piece(void *arg, uint32_t pass, uint32_t row, unsigned member)
{
    struct rows *a = arg;
    float *h = a->h + row * a->width, *tmp = a->tmp + row * a->width;
    (void)pass, (void)member;
    for (uint32_t j = 0; j < a->s->hidden; j++)
        h[j] += tmp[j];
    a->k->norm(tmp, h, a->h, a->s->hidden, 1e-5f, 0);
    a->k->form_store(a->form, a->formed + row * a->stride, a->s->hidden, 0, a->s->hidden, tmp);
}

/* All heads of a row are turned; keys and values go to the cache. */
static void rope_piece(void *arg, uint32_t pass, uint32_t row, unsigned member)
{
    struct rows *a = arg;
    uint32_t hd = a->s->head_dim, n = a->s->n_heads + a->s->n_kv_heads;
    float *x = a->h + row * a->width;
    char *cache = a->formed + row * a->stride;
    (void)pass, (void)member;
    for (uint32_t i = 0; i < n; i++)
        a->k->rope(x + (size_t)i * hd, a->tmp, a->tmp + hd, hd);
    for (uint32_t i = 0; i < a->s->n_kv_heads; i++) {
        mu_key_store(a->k, cache, MU_DTYPE_F16, x + (size_t)i * hd, hd, row % MU_KV_BLOCK_TOKENS);
        a->k->kv_store(cache, MU_DTYPE_F16, x + (size_t)(n + i) * hd, hd);
    }
}

static void pick_piece(void *arg, uint32_t pass, uint32_t row, unsigned member)
{
    struct rows *a = arg;
    const float *x = a->h + row * a->width;
    float largest[16];
    (void)pass, (void)member;
    memcpy(largest, x, sizeof largest);
    for (size_t i = 0; i + 16 <= a->width; i += 16)
        for (size_t j = 0; j < 16; j++)
            largest[j] = x[i + j] > largest[j] ? x[i + j] : largest[j];
    a->largest[row] = largest[pass % 16];
}

mu_status mu_timed_rows(struct mu_timed *t, struct mu_err *err)
{
    const struct mu_measure_shape *s = t->shape;
    size_t heads = (s->n_heads + 2 * (size_t)s->n_kv_heads) * s->head_dim;
    struct rows a = {.k = t->k, .s = s, .form = t->k->form(s->type, MU_COMPUTE_DEFAULT)};
    void *h, *tmp, *formed;
    a.width = MU_ROUND_UP(MU_MAX(heads, (size_t)s->hidden), (size_t)64);
    a.stride = MU_MAX(t->k->form_bytes(a.form, s->hidden),
                      (size_t)MU_KV_BLOCK_TOKENS * s->head_dim * sizeof(float));
    a.stride = MU_ROUND_UP(a.stride, (size_t)64) | 64;
    MU_TRY(mu_timed_alloc(t, ROWS * a.width * sizeof(float), &h, err));
    MU_TRY(mu_timed_alloc(t, ROWS * a.width * sizeof(float), &tmp, err));
    MU_TRY(mu_timed_alloc(t, ROWS * a.stride, &formed, err));
    a.h = h;
    a.tmp = tmp;
    a.formed = formed;
    for (size_t i = 0; i < ROWS * a.width; i++)
        a.tmp[i] = mu_timed_value(i) * 1e-3f; /* a turn, and what is added, again and again */
    struct mu_timed_op op = {.piece = combine_piece, .arg = &a, .n_pieces = 1};
    t->costs->combine_s[0] = mu_timed_seconds(t, &op) / s->hidden;
    op.n_pieces = 8;
    t->costs->combine_s[1] = mu_timed_seconds(t, &op) / (8.0 * s->hidden);
    op.n_pieces = ROWS;
    op.piece = rope_piece;
    t->costs->rope_s = mu_timed_seconds(t, &op) / ((double)ROWS * (double)heads);
    op.piece = pick_piece; /* by one thread, as the engine does */
    t->costs->pick_s = mu_timed_seconds(t, &op) * mu_team_size(t->team) / (ROWS * (double)a.width);
    mu_timed_free(t);
    mu_timed_tell(t);
    return MU_OK;
}

/* ---- Steps --------------------------------------------------------------------------------- */

/* One who plans steps, one rank that does them, and one who takes what comes of it: each sleeps
 * until it is wanted, and they may have fewer cores than they are. */
struct steps {
    struct mu_timed *t;
    _Atomic uint32_t posted, done;
    int bell; /* of the taker */
};

static void step_member(void *arg, unsigned member)
{
    (void)member;
    (void)arg;
    for (int i = 0; i < STEP_SPINS; i++)
        mu_cpu_relax();
}

static void planner_main(void *arg)
{
    struct steps *s = arg;
    uint64_t one = 1;
    for (uint32_t i = 1; i <= STEPS; i++) {
        uint32_t done;
        atomic_store_explicit(&s->posted, i, memory_order_release);
        mu_wake_word(&s->posted);
        while ((done = atomic_load_explicit(&s->done, memory_order_acquire)) != i)
            mu_wait_word(&s->done, done);
        ssize_t n MU_UNUSED = write(s->bell, &one, sizeof one);
    }
}

static void taker_main(void *arg)
{
    struct steps *s = arg;
    for (uint64_t taken = 0, n; taken < STEPS;) {
        struct pollfd bell = {.fd = s->bell, .events = POLLIN};
        (void)poll(&bell, 1, -1);
        if (read(s->bell, &n, sizeof n) == sizeof n) taken += n;
    }
}

/* The rank is the team's first member: the calling thread. */
static double steps_seconds(struct steps *s, uint32_t first)
{
    uint64_t begin = mu_clock_ns();
    for (uint32_t i = first; i < first + PART_STEPS; i++) {
        while (atomic_load_explicit(&s->posted, memory_order_acquire) == i)
            mu_wait_word(&s->posted, i);
        mu_team_run(s->t->team, step_member, s);
        atomic_store_explicit(&s->done, i + 1, memory_order_release);
        mu_wake_word(&s->done);
    }
    return mu_clock_seconds_since(begin) / PART_STEPS;
}

/* The work of a step, when nobody has to be woken for it. */
static double work_seconds(struct steps *s)
{
    double best = (double)INFINITY;
    for (int part = 0; part < PARTS; part++) {
        uint64_t begin = mu_clock_ns();
        for (int i = 0; i < PART_STEPS; i++)
            mu_team_run(s->t->team, step_member, s);
        best = MU_MIN(best, mu_clock_seconds_since(begin) / PART_STEPS);
    }
    return best;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

mu_status mu_timed_steps(struct mu_timed *t, struct mu_err *err)
{
    struct steps s = {.t = t, .bell = eventfd(0, EFD_CLOEXEC)};
    struct mu_thread planner = {.started = false}, taker = {.started = false};
    if (s.bell < 0) return mu_fail(err, MU_E_RESOURCE, "no event descriptor is left");
    double work = work_seconds(&s), parts[PARTS];
    mu_status status = mu_thread_start(&planner, planner_main, &s, "muster-planner", -1, err);
    if (status == MU_OK) {
        status = mu_thread_start(&taker, taker_main, &s, "muster-taker", -1, err);
        for (uint32_t i = 0; i < PARTS; i++)
            parts[i] = steps_seconds(&s, i * PART_STEPS);
        qsort(parts, PARTS, sizeof *parts, by_value);
        t->costs->step_s = MU_MAX(parts[PARTS / 2] - work, 1e-7);
    }
    mu_thread_join(&planner);
    mu_thread_join(&taker);
    (void)close(s.bell);
    mu_timed_tell(t);
    return status;
}
