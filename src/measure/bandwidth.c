/* How fast the machine is at the moment: its read bandwidth, and how fast it multiplies; see
 * measure.h. */
#include "measure/measure_int.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

#define READ_BYTES      (256u << 20)
#define CHUNK_BYTES     (1u << 20)
#define PASSES          9
#define MULTIPLY_PASSES 101

#define CHAINS     8 /* of multiplications that do not wait for each other */
#define MULTIPLIES (1u << 15)

typedef uint64_t line __attribute__((vector_size(64)));
typedef float numbers __attribute__((vector_size(32)));

struct job {
    struct mu_team *team;
    const line *lines;
    uint32_t n_chunks;
    _Atomic uint64_t sink; /* so that the reads cannot be left out */
};

static void read_chunks(void *arg, unsigned member)
{
    struct job *job = arg;
    line sums[4] = {{0}};
    uint32_t n = job->n_chunks, chunk;
    while ((chunk = mu_team_claim(job->team, member, n)) < n) {
        const line *p = job->lines + (size_t)chunk * (CHUNK_BYTES / sizeof(line));
        for (size_t i = 0; i < CHUNK_BYTES / sizeof(line); i += 4)
            for (size_t j = 0; j < 4; j++)
                sums[j] ^= p[i + j];
    }
    line all = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
    atomic_fetch_xor_explicit(&job->sink, all[0] ^ all[3] ^ all[7], memory_order_relaxed);
}

static void fill_chunks(void *arg, unsigned member)
{
    struct job *job = arg;
    uint32_t n = job->n_chunks, chunk;
    while ((chunk = mu_team_claim(job->team, member, n)) < n)
        memset((char *)(uintptr_t)job->lines + (size_t)chunk * CHUNK_BYTES, (int)member + 1,
               CHUNK_BYTES);
}

void mu_timed_fill(struct mu_team *team, void *memory, size_t bytes)
{
    struct job job = {.team = team, .lines = memory, .n_chunks = (uint32_t)(bytes / CHUNK_BYTES)};
    mu_team_run(team, fill_chunks, &job);
}

double mu_timed_read(struct mu_team *team, const void *memory, size_t bytes)
{
    struct job job = {.team = team, .lines = memory, .n_chunks = (uint32_t)(bytes / CHUNK_BYTES)};
    uint64_t start = mu_clock_ns();
    mu_team_run(team, read_chunks, &job);
    return (double)bytes / mu_clock_seconds_since(start);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double mu_timed_median(double *values, unsigned n)
{
    qsort(values, n, sizeof *values, by_value);
    return values[n / 2];
}

mu_status mu_measure_read_bandwidth(unsigned n_threads, const int *cpus, double *bytes_per_s,
                                    struct mu_err *err)
{
    struct mu_team *team = NULL;
    void *memory = mu_alloc_aligned(4096, READ_BYTES);
    if (!memory) return mu_fail_memory(err, READ_BYTES);
    mu_status status = mu_team_create(n_threads, cpus, &team, err);
    if (status == MU_OK) {
        double rates[PASSES];
        mu_timed_fill(team, memory, READ_BYTES);
        for (int i = 0; i < PASSES; i++)
            rates[i] = mu_timed_read(team, memory, READ_BYTES);
        *bytes_per_s = mu_timed_median(rates, PASSES);
    }
    mu_team_destroy(team);
    mu_free(memory);
    return status;
}

static void multiply(void *arg, unsigned member)
{
    struct job *job = arg;
    numbers x[CHAINS], y = {1.0f, 1.1f, 1.2f, 1.3f, 1.4f, 1.5f, 1.6f, 1.7f};
    for (int c = 0; c < CHAINS; c++)
        x[c] = y * (float)(member + 1);
    for (uint32_t i = 0; i < MULTIPLIES; i++)
        for (int c = 0; c < CHAINS; c++)
            x[c] = x[c] * 0.5f + y;
    float sum = 0;
    for (int c = 0; c < CHAINS; c++)
        sum += x[c][0] + x[c][7];
    atomic_fetch_xor_explicit(&job->sink, (uint64_t)sum, memory_order_relaxed);
}

mu_status mu_measure_multiplies(unsigned n_threads, double *per_s, struct mu_err *err)
{
    struct job job = {0};
    double rates[MULTIPLY_PASSES];
    int cpus[MU_DEVICE_CPUS_MAX];
    bool pinned = mu_cpu_usable(cpus, MU_DEVICE_CPUS_MAX) >= n_threads;
    MU_TRY(mu_team_create(n_threads, pinned ? cpus : NULL, &job.team, err));
    for (int i = 0; i < MULTIPLY_PASSES; i++) {
        uint64_t start = mu_clock_ns();
        mu_team_run(job.team, multiply, &job);
        rates[i] = (double)n_threads * CHAINS * MULTIPLIES * 8 / mu_clock_seconds_since(start);
    }
    *per_s = mu_timed_median(rates, MULTIPLY_PASSES);
    mu_team_destroy(job.team);
    return MU_OK;
}
