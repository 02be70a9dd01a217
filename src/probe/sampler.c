/*
 * The sampler: a thread that reads every GPU at a fixed rate into a ring, and keeps account of what
 * that costs and of how late it came. The lock guards the ring and the account; the driver is
 * called without it, so a reader never waits for a driver.
 */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/thread.h"
#include "probe/sampler_int.h"

#include <time.h>

struct mu_probe_sampler {
    struct mu_probe *probe;
    struct mu_thread thread;
    _Atomic uint32_t stop;
    uint64_t period_ns, start_ns;
    unsigned n_gpus, n_kept;
    pthread_mutex_t lock;         /* for what follows */
    uint64_t n_ticks;             /* also where the ring stands */
    struct mu_probe_sample *ring; /* [n_kept][n_gpus] */
    struct mu_probe_sampler_cost cost;
    double sum_tick_ms, sum_late_ms;
};

static double own_cpu_s(void)
{
    struct timespec t;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) return 0;
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void tick_account(struct mu_probe_sampler *s, const struct mu_probe_sample *row,
                         double tick_ms, double late_ms, double cpu_s, uint64_t missed)
{
    (void)pthread_mutex_lock(&s->lock);
    memcpy(&s->ring[s->n_ticks % s->n_kept * s->n_gpus], row, s->n_gpus * sizeof *row);
    s->n_ticks++;
    s->sum_tick_ms += tick_ms;
    s->sum_late_ms += late_ms;
    s->cost.n_missed += missed;
    s->cost.max_tick_ms = MU_MAX(s->cost.max_tick_ms, tick_ms);
    s->cost.max_late_ms = MU_MAX(s->cost.max_late_ms, late_ms);
    s->cost.cpu_s = cpu_s;
    (void)pthread_mutex_unlock(&s->lock);
}

static void sampler_main(void *arg)
{
    struct mu_probe_sampler *s = arg;
    struct mu_probe_sample *row = mu_calloc(s->n_gpus, sizeof *row);
    uint64_t start = s->start_ns;
    double driver_s = 0;
    for (uint64_t n = 0; row && !atomic_load_explicit(&s->stop, memory_order_acquire);) {
        uint64_t due = start + n * s->period_ns, now = mu_clock_ns();
        if (now < due) {
            (void)mu_wait_word_ns(&s->stop, 0, due - now);
            continue;
        }
        for (unsigned g = 0; g < s->n_gpus; g++)
            row[g].at_ns = now;
        driver_s += probe_fast(s->probe, row, s->n_gpus);
        uint64_t end = mu_clock_ns();
        /* Ticks that passed meanwhile are missed, not made up for. */
        uint64_t next = MU_MAX(n + 1, (end - start) / s->period_ns);
        tick_account(s, row, (double)(end - now) * 1e-6, (double)(now - due) * 1e-6,
                     own_cpu_s() + driver_s, next - n - 1);
        n = next;
    }
    mu_free(row);
}

mu_status mu_probe_sampler_start(struct mu_probe *probe, double hz, unsigned n_kept,
                                 struct mu_probe_sampler **out, struct mu_err *err)
{
    unsigned n_gpus = probe_devices(probe);
    struct mu_probe_sampler *s = mu_calloc(1, sizeof *s);
    struct mu_probe_sample *ring = mu_calloc((size_t)n_kept * MU_MAX(n_gpus, 1), sizeof *ring);
    if (!s || !ring) {
        mu_free(s);
        mu_free(ring);
        return mu_fail_memory(err, sizeof *ring);
    }
    s->probe = probe;
    s->period_ns = (uint64_t)(1e9 / hz);
    s->start_ns = mu_clock_ns();
    s->n_gpus = n_gpus;
    s->n_kept = n_kept;
    s->ring = ring;
    (void)pthread_mutex_init(&s->lock, NULL);
    mu_status status = mu_thread_start(&s->thread, sampler_main, s, "sampler", -1, err);
    if (status == MU_OK)
        *out = s;
    else
        mu_probe_sampler_stop(s);
    return status;
}

void mu_probe_sampler_stop(struct mu_probe_sampler *s)
{
    if (!s) return;
    atomic_store_explicit(&s->stop, 1, memory_order_release);
    mu_wake_word(&s->stop);
    mu_thread_join(&s->thread);
    (void)pthread_mutex_destroy(&s->lock);
    mu_free(s->ring);
    mu_free(s);
}

unsigned mu_probe_sampler_gpus(const struct mu_probe_sampler *s)
{
    return s->n_gpus;
}

unsigned mu_probe_sampler_read(struct mu_probe_sampler *s, unsigned gpu,
                               struct mu_probe_sample *out, unsigned max)
{
    (void)pthread_mutex_lock(&s->lock);
    uint64_t n = MU_MIN(s->n_ticks, (uint64_t)MU_MIN(s->n_kept, max));
    for (uint64_t i = 0; i < n; i++)
        out[i] = s->ring[(s->n_ticks - n + i) % s->n_kept * s->n_gpus + gpu];
    (void)pthread_mutex_unlock(&s->lock);
    return (unsigned)n;
}

void mu_probe_sampler_cost_get(struct mu_probe_sampler *s, struct mu_probe_sampler_cost *out)
{
    (void)pthread_mutex_lock(&s->lock);
    *out = s->cost;
    out->wall_s = mu_clock_seconds_since(s->start_ns);
    out->n_ticks = s->n_ticks;
    out->mean_tick_ms = s->n_ticks ? s->sum_tick_ms / (double)s->n_ticks : 0;
    out->mean_late_ms = s->n_ticks ? s->sum_late_ms / (double)s->n_ticks : 0;
    (void)pthread_mutex_unlock(&s->lock);
}
