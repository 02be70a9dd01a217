/* What sampling every GPU costs, and how even its ticks are: build/bench/sampler [SECONDS [HZ]].
 * Measures the driver that is here, or the one that MUSTER_NVML names. The sampler's own account of
 * its CPU time stands beside the whole process's, which the kernel counts. */
#include "base/alloc.h"
#include "base/number.h"
#include "probe/probe.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>

#define SAMPLES_MAX 65536

static double process_cpu_s(void)
{
    struct rusage u;
    if (getrusage(RUSAGE_SELF, &u) != 0) return 0;
    return (double)u.ru_utime.tv_sec + (double)u.ru_stime.tv_sec +
           1e-6 * (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* How far apart two samples of the first GPU were, from what was asked: sorted, in milliseconds. */
static unsigned gaps_read(struct mu_probe_sampler *s, double hz, double *gaps)
{
    struct mu_probe_sample *samples = mu_calloc(SAMPLES_MAX, sizeof *samples);
    unsigned n = samples ? mu_probe_sampler_read(s, 0, samples, SAMPLES_MAX) : 0;
    for (unsigned i = 1; i < n; i++) {
        double gap = (double)(samples[i].at_ns - samples[i - 1].at_ns) * 1e-6 - 1e3 / hz;
        gaps[i - 1] = gap < 0 ? -gap : gap;
    }
    mu_free(samples);
    if (n < 2) return 0;
    qsort(gaps, n - 1, sizeof *gaps, compare);
    return n - 1;
}

static void measure(struct mu_probe *probe, unsigned n_gpus, double seconds, double hz)
{
    static double gaps[SAMPLES_MAX];
    struct mu_probe_sampler *sampler = NULL;
    struct mu_probe_sampler_cost c;
    double before = process_cpu_s();
    if (mu_probe_sampler_start(probe, hz, SAMPLES_MAX, &sampler, NULL) != MU_OK) return;
    struct timespec pause = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    (void)nanosleep(&pause, NULL);
    mu_probe_sampler_cost_get(sampler, &c);
    double process_s = process_cpu_s() - before;
    unsigned n = gaps_read(sampler, hz, gaps);
    mu_probe_sampler_stop(sampler);
    printf("%u GPUs at %g Hz for %.0f s: %llu ticks, %llu missed\n", n_gpus, hz, c.wall_s,
           (unsigned long long)c.n_ticks, (unsigned long long)c.n_missed);
    printf("  cost    %.3f %% of a core by its own account, %.3f %% of the whole process\n",
           c.cpu_s / c.wall_s * 100, process_s / c.wall_s * 100);
    printf("  ticks   %.3f ms on average, %.3f ms at most\n", c.mean_tick_ms, c.max_tick_ms);
    printf("  late    %.3f ms on average, %.3f ms at most\n", c.mean_late_ms, c.max_late_ms);
    if (n)
        printf("  jitter  %.3f ms median, %.3f ms of 99 in 100, %.3f ms at most\n", gaps[n / 2],
               gaps[(size_t)n * 99 / 100], gaps[n - 1]);
}

int main(int argc, char **argv)
{
    double seconds = 10, hz = 10;
    if ((argc > 1 && !mu_parse_f64(mu_str(argv[1]), &seconds)) ||
        (argc > 2 && !mu_parse_f64(mu_str(argv[2]), &hz)) || seconds <= 0 || hz <= 0)
        return 2;
    struct mu_probe_options options = {0};
    struct mu_probe *probe = NULL;
    struct mu_probe_node *node = mu_calloc(1, sizeof *node);
    if (!node || mu_probe_open(&options, &probe, NULL) != MU_OK) return 1;
    bool looked = mu_probe_look(probe, node, NULL) == MU_OK;
    if (looked && node->n_gpus)
        measure(probe, node->n_gpus, seconds, hz);
    else
        printf("no GPU: %s\n", node->library_what);
    mu_probe_close(probe);
    mu_free(node);
    return 0;
}
