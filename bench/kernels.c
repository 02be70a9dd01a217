/*
 * The kernels alone, beside what the machine can do: `build/bench/kernels [FAMILY [TYPE...]]`.
 *
 * For every weight type, with 1 thread and with 2: GB/s of stored weights that come out of memory,
 * for one row (decode) and for a few (streams that decode together); and 10^9 operations per second
 * (a multiplication and an addition are two) for more rows of weights that lie in a cache. Beside
 * them what that is of the bandwidth, and of the rate of the instruction that such weights are
 * multiplied with. Every figure is the best of many short rounds, because other programs may share
 * the machine: a share above 100 % says that the limit's rounds were disturbed.
 *
 * Attention has a table of its own (TYPE `attention` asks for it alone): GB/s of keys and values
 * for rows that decode, 10^9 operations per second for a prompt's.
 */
#include "base/base.h"
#include "kernel/kernel.h"

#include <immintrin.h>
#include <stdio.h>
#include <sys/mman.h>

enum { COLS = 2048, MAX_ROWS = 512, STORED_ROWS = 64, THREADS_MAX = 2, FEW = 2048 };

#define ROUND_SECONDS 0.4
#define MEMORY_BYTES  ((uint64_t)128 << 20) /* of weights: more than caches hold */

/* Memory as a device has its own: in large pages, where the system gives them. */
static void *memory(size_t bytes)
{
    const size_t page = (size_t)2 << 20;
    void *p = mu_alloc_aligned(page, MU_ROUND_UP(bytes, page));
    if (p) (void)madvise(p, MU_ROUND_UP(bytes, page), MADV_HUGEPAGE);
    return p;
}

/* ---- the machine's limits ---- */

#define READ_BYTES  ((size_t)256 << 20)
#define LIMIT_LOOPS 1000000 /* about 2 ms: often shorter than a turn of the scheduler */

static void *read_buffer;

/* Plain loads with prefetching, as the one-row kernels do it. */
__attribute__((target("avx2"))) static void read_all(unsigned member, unsigned n)
{
    size_t share = READ_BYTES / n;
    const char *p = (const char *)read_buffer + member * share;
    __m256i sum[8];
    memset(sum, 0, sizeof sum);
    for (size_t i = 0; i < share; i += 256)
        _Pragma("GCC unroll 8") for (int j = 0; j < 8; j++)
        {
            if (j % 2 == 0) _mm_prefetch(p + i + 32 * j + 4096, _MM_HINT_T0);
            sum[j] = _mm256_xor_si256(
                sum[j], _mm256_load_si256((const __m256i *)(const void *)(p + i) + j));
        }
    for (int j = 0; j < 8; j++)
        __asm__ volatile("" ::"x"(sum[j]));
}

/* Twelve independent sums hide the latency of any of these instructions. */
#define RATE_LOOP(name, features, type, zero, step)                                                \
    __attribute__((target(features))) static void name(unsigned member, unsigned n)                \
    {                                                                                              \
        type a[12];                                                                                \
        (void)member;                                                                              \
        (void)n;                                                                                   \
        for (int i = 0; i < 12; i++)                                                               \
            a[i] = zero;                                                                           \
        type x = a[0];                                                                             \
        for (int loop = 0; loop < LIMIT_LOOPS; loop++) {                                           \
            _Pragma("GCC unroll 12") for (int i = 0; i < 12; i++)                                  \
            {                                                                                      \
                step;                                                                              \
            }                                                                                      \
            __asm__ volatile("" : "+v"(x));                                                        \
        }                                                                                          \
        for (int i = 0; i < 12; i++)                                                               \
            __asm__ volatile("" ::"v"(a[i]));                                                      \
    }

RATE_LOOP(rate_int8, "avx512f,avx512vnni", __m512i, _mm512_setzero_si512(),
          a[i] = _mm512_dpbusd_epi32(a[i], x, x))
RATE_LOOP(rate_bf16, "avx512f,avx512bf16", __m512, _mm512_setzero_ps(),
          a[i] = _mm512_dpbf16_ps(a[i], (__m512bh)x, (__m512bh)x))
RATE_LOOP(rate_f32, "avx512f", __m512, _mm512_setzero_ps(), a[i] = _mm512_fmadd_ps(a[i], x, x))

/* ---- timing on a team ---- */

struct limit {
    void (*run)(unsigned member, unsigned n);
    struct mu_team *team;
};

static void limit_member(void *arg, unsigned member)
{
    struct limit *l = arg;
    l->run(member, mu_team_size(l->team));
}

static double best_seconds(struct mu_team *team, mu_team_fn *fn, void *arg)
{
    double best = 1e9;
    uint64_t begin = mu_clock_ns();
    while (mu_clock_seconds_since(begin) < ROUND_SECONDS) {
        uint64_t start = mu_clock_ns();
        mu_team_run(team, fn, arg);
        best = MU_MIN(best, mu_clock_seconds_since(start));
    }
    return best;
}

static double limit_seconds(struct mu_team *team, void (*run)(unsigned, unsigned))
{
    struct limit l = {run, team};
    return best_seconds(team, limit_member, &l);
}

/* Of a number of threads: bytes and operations a second, by the form of activations; 0: no such
 * instruction here. */
struct limits {
    double read, ops[MU_FORM_COUNT];
};

static struct limits measure_limits(struct mu_team *team)
{
    double ops = 12.0 * LIMIT_LOOPS * mu_team_size(team);
    struct limits l = {.read = (double)READ_BYTES / limit_seconds(team, read_all)};
    if (!__builtin_cpu_supports("avx512f")) return l;
    l.ops[MU_FORM_F32] = ops * 32 / limit_seconds(team, rate_f32);
    if (__builtin_cpu_supports("avx512vnni"))
        l.ops[MU_FORM_Q8] = ops * 128 / limit_seconds(team, rate_int8);
    if (__builtin_cpu_supports("avx512bf16"))
        l.ops[MU_FORM_BF16] = ops * 64 / limit_seconds(team, rate_bf16);
    return l;
}

static void print_limits(unsigned threads, const struct limits *l)
{
    static const char *const names[] = {
        [MU_FORM_F32] = "fp32", [MU_FORM_BF16] = "bf16 dot", [MU_FORM_Q8] = "int8 dot"};
    printf("limits, %u thread%s: read %.1f GB/s", threads, threads > 1 ? "s" : "", l->read * 1e-9);
    for (size_t f = 0; f < MU_ARRAY_LEN(names); f++)
        if (names[f] && l->ops[f] > 0) printf(", %s %.0f GOP/s", names[f], l->ops[f] * 1e-9);
    printf("\n");
}

/* A rate and its share of the limit, where that is known. */
static void print_rate(double rate, double limit)
{
    if (limit > 0)
        printf(" %8.1f %4.0f%%", rate * 1e-9, 100 * rate / limit);
    else
        printf(" %8.1f     -", rate * 1e-9);
}

/* ---- linear ---- */

struct job {
    const struct mu_kernels *k;
    struct mu_team *team;
    struct mu_linear_args args;
    uint32_t outputs;
};

static void job_member(void *arg, unsigned member)
{
    struct job *j = arg;
    uint32_t piece = j->k->row_tile * (j->args.n_rows > 1 ? 4 : 32);
    uint32_t n = MU_CEIL_DIV(j->outputs, piece), i;
    while ((i = mu_team_claim(j->team, member, n)) < n)
        j->k->linear(&j->args, i * piece, MU_MIN((i + 1) * piece, j->outputs));
    mu_team_barrier(j->team, member);
}

static float random_value(uint64_t i)
{
    uint32_t counter[4] = {(uint32_t)i, (uint32_t)(i >> 32), 0, 0}, out[4];
    mu_philox(1, counter, out);
    return (float)(mu_uniform(out[0], out[1]) + mu_uniform(out[2], out[3]) - 1.0);
}

/* A few random stored rows, with scales near 1 where the type has any. */
static uint8_t *stored_rows(enum mu_dtype type, uint64_t row_bytes)
{
    uint8_t *stored = mu_alloc(STORED_ROWS * row_bytes);
    if (!stored) return NULL;
    if (mu_codec_can_encode(type)) {
        float row[COLS];
        for (uint32_t r = 0; r < STORED_ROWS; r++) {
            for (uint32_t i = 0; i < COLS; i++)
                row[i] = random_value((uint64_t)r * COLS + i);
            mu_codec_encode(type, row, stored + r * row_bytes, COLS);
        }
    } else {
        for (uint64_t i = 0; i < STORED_ROWS * row_bytes; i++)
            stored[i] = (uint8_t)(((i * 2654435761u) >> 13) & 0x3b);
        const float one = 1; /* any other bits might be a number that takes longer */
        const bool f32_scale = type >= MU_DTYPE_Q4Z && type <= MU_DTYPE_E4M3_128;
        for (uint64_t i = 0; f32_scale && i < STORED_ROWS * row_bytes;
             i += mu_dtype(type)->block_bytes)
            memcpy(stored + i, &one, sizeof one);
    }
    return stored;
}

/* Outputs enough that the weights do not stay in a cache when one row reads them. */
static bool job_create(struct job *j, struct mu_weight *w, enum mu_dtype type, uint32_t outputs)
{
    uint64_t row_bytes = 0;
    const uint8_t *rows[STORED_ROWS];
    *w = (struct mu_weight){.type = type, .rows = outputs, .cols = COLS};
    w->form = j->k->form(type, MU_COMPUTE_DEFAULT);
    w->bytes = j->k->weight_bytes(type, w->form, outputs, 0, COLS);
    w->data = memory(w->bytes);
    uint8_t *stored = mu_dtype_bytes(type, COLS, &row_bytes) ? stored_rows(type, row_bytes) : NULL;
    size_t stride =
        MU_ROUND_UP(j->k->form_bytes(w->form, COLS), (size_t)64) | 64; /* see kernel.h */
    char *x = mu_alloc_aligned(64, MAX_ROWS * stride);
    float *y = mu_calloc(MU_MAX((size_t)outputs, (size_t)MAX_ROWS * FEW), sizeof *y);
    if (!w->data || !stored || !x || !y) return false;
    for (uint32_t r = 0; r < STORED_ROWS; r++)
        rows[r] = stored + r * row_bytes;
    for (uint32_t r = 0; r < outputs; r += STORED_ROWS)
        j->k->weight_pack(w, r, STORED_ROWS, rows);
    for (uint32_t r = 0; r < MAX_ROWS; r++) {
        float row[COLS];
        for (uint32_t i = 0; i < COLS; i++)
            row[i] = random_value((uint64_t)r * COLS + i);
        j->k->form_store(w->form, x + r * stride, COLS, 0, COLS, row);
    }
    mu_free(stored);
    j->outputs = outputs;
    j->args =
        (struct mu_linear_args){.weight = w, .x = x, .x_stride = stride, .y = y, .y_stride = FEW};
    return true;
}

static void job_destroy(struct job *j, struct mu_weight *w)
{
    mu_free(w->data);
    mu_free((void *)(uintptr_t)j->args.x);
    mu_free(j->args.y);
}

static double job_seconds(struct job *j, uint32_t n_rows, uint32_t outputs)
{
    j->args.n_rows = n_rows;
    j->outputs = outputs;
    return best_seconds(j->team, job_member, j);
}

/* Rows that meet weights out of memory, and rows that meet few weights again and again. */
static const uint32_t streamed[] = {1, 2, 4, 8, 16}, cached[] = {8, 32, 512};

static bool bench_type(const struct mu_kernels *k, struct mu_team *const *teams,
                       const struct limits *limits, enum mu_dtype type)
{
    struct mu_weight w;
    struct job j = {.k = k};
    uint64_t row_bytes = 0;
    (void)mu_dtype_bytes(type, COLS, &row_bytes);
    uint32_t many = (uint32_t)MU_ROUND_UP(MEMORY_BYTES / row_bytes, STORED_ROWS);
    if (!job_create(&j, &w, type, many)) return false;
    for (int t = 0; t < THREADS_MAX; t++) {
        j.team = teams[t];
        printf("%-16s %-8s %7d", k->family, mu_dtype(type)->name, t + 1);
        for (size_t b = 0; b < MU_ARRAY_LEN(streamed); b++)
            print_rate((double)row_bytes * many / job_seconds(&j, streamed[b], many),
                       limits[t].read);
        for (size_t b = 0; b < MU_ARRAY_LEN(cached); b++) {
            uint32_t outputs = cached[b] > 128 ? FEW / 4 : FEW; /* some 2 ms of work */
            double ops = 2.0 * COLS * outputs * cached[b];
            print_rate(ops / job_seconds(&j, cached[b], outputs), limits[t].ops[w.form]);
        }
        printf("\n");
        fflush(stdout);
    }
    job_destroy(&j, &w);
    return true;
}

/* ---- attention ---- */

enum {
    PIECES_A_THREAD = 12 /* as the engine cuts */,
    CACHED_MOST = 128 << 20
}; /* bytes of keys and values: more than caches hold */

/* Rows of sequences of so many keys each, or the last rows of one: a layer's work in a step. */
struct attention {
    const char *name;
    uint32_t heads, kv_heads, head_dim, rows, keys;
    bool prompt;
};

static const struct attention attentions[] = {
    {"9/3 x 64", 9, 3, 64, 1, 128, false},      {"9/3 x 64", 9, 3, 64, 1, 2048, false},
    {"9/3 x 64", 9, 3, 64, 8, 160, false},      {"9/3 x 64", 9, 3, 64, 512, 512, true},
    {"9/3 x 64", 9, 3, 64, 512, 2048, true},    {"32/8 x 64", 32, 8, 64, 1, 2048, false},
    {"32/8 x 64", 32, 8, 64, 8, 160, false},    {"32/8 x 64", 32, 8, 64, 512, 2048, true},
    {"32/8 x 128", 32, 8, 128, 1, 2048, false}, {"32/8 x 128", 32, 8, 128, 512, 2048, true},
};

struct attention_job {
    const struct attention *what;
    const struct mu_kernels *k;
    struct mu_team *team;
    struct mu_attend_args args;
    size_t scratch_floats, layer_bytes; /* of keys, and of values */
    uint32_t layers, layer, tile_rows;
    uint32_t run_chunks, n_runs; /* how the keys of a decoding row are shared out */
    float *partials;             /* the last run to be done would join them, in no time */
};

static void attention_member(void *arg, unsigned member)
{
    struct attention_job *j = arg;
    const struct attention *w = j->what;
    const uint32_t group = w->heads / w->kv_heads;
    uint32_t n = MU_CEIL_DIV(w->rows, j->tile_rows) * w->kv_heads * j->n_runs, i;
    struct mu_attend_args args = j->args;
    args.keys = (const char *)args.keys + 2 * j->layer * j->layer_bytes;
    args.values = (const char *)args.keys + j->layer_bytes;
    args.scratch += member * j->scratch_floats;
    while ((i = mu_team_claim(j->team, member, n)) < n) {
        uint32_t number = i % j->n_runs, at = i / j->n_runs;
        uint32_t kv = at % w->kv_heads, row = at / w->kv_heads * j->tile_rows;
        struct mu_attend_tile tile = {.row = row,
                                      .n_rows = MU_MIN(j->tile_rows, w->rows - row),
                                      .head = kv * group,
                                      .n_heads = group,
                                      .kv = kv};
        args.out = j->args.out + row * args.out_stride + (size_t)tile.head * w->head_dim;
        struct mu_attend_run run = {.first = number * j->run_chunks,
                                    .n = j->run_chunks,
                                    .partials =
                                        j->partials + (size_t)i * group * (w->head_dim + 2)};
        if (j->n_runs > 1)
            j->k->attend_run(&args, &tile, &run);
        else
            j->k->attend(&args, &tile);
    }
    mu_team_barrier(j->team, member);
}

/* The best time of a layer; each run is another layer's, as in a step. */
static double attention_seconds(struct attention_job *j)
{
    double best = 1e9;
    uint64_t begin = mu_clock_ns();
    while (mu_clock_seconds_since(begin) < ROUND_SECONDS) {
        uint64_t start = mu_clock_ns();
        for (j->layer = 0; j->layer < j->layers; j->layer++)
            mu_team_run(j->team, attention_member, j);
        best = MU_MIN(best, mu_clock_seconds_since(start) / j->layers);
    }
    return best;
}

static bool attention_alloc(struct attention_job *j, uint16_t **cache, uint32_t **words)
{
    const struct attention *w = j->what;
    const uint32_t blocks = MU_CEIL_DIV(w->keys, MU_KV_BLOCK_TOKENS);
    const size_t huge = (size_t)2 << 20, q = (size_t)w->heads * w->head_dim;
    const uint32_t sequences = w->prompt ? 1 : w->rows;
    j->layer_bytes =
        (size_t)sequences * blocks * w->kv_heads * MU_KV_BLOCK_TOKENS * w->head_dim * 2;
    j->layers = w->prompt ? 1 : (uint32_t)(CACHED_MOST / (2 * j->layer_bytes));
    j->scratch_floats = MU_ROUND_UP(
        j->k->attend_scratch(MU_ATTEND_QUERIES, w->head_dim, w->head_dim, w->keys), (size_t)16);
    size_t bytes = MU_ROUND_UP(2 * j->layers * j->layer_bytes, huge);
    size_t n_floats = 2 * w->rows * q + THREADS_MAX * j->scratch_floats;
    size_t partials = (size_t)THREADS_MAX * PIECES_A_THREAD * (w->heads / w->kv_heads);
    *cache = mu_alloc_aligned(huge, bytes);
    *words = mu_calloc(2 * w->rows + (size_t)sequences * blocks, sizeof **words);
    float *floats =
        mu_alloc_aligned(64, (n_floats + partials * (w->head_dim + 2)) * sizeof *floats);
    if (!*cache || !*words || !floats) return false;
    (void)madvise(*cache, bytes, MADV_HUGEPAGE); /* as a device's memory is */
    for (size_t i = 0; i < j->layers * j->layer_bytes; i++)
        (*cache)[i] = (uint16_t)(0x3000 | (i * 2654435761u >> 7 & 0x83ff)); /* near an eighth */
    for (size_t i = 0; i < w->rows * q; i++)
        floats[i] = random_value(i);
    for (uint32_t r = 0; r < w->rows; r++) {
        (*words)[r] = w->keys - 1 - (w->prompt ? w->rows - 1 - r : 0);
        (*words)[w->rows + r] = w->prompt ? 0 : r;
    }
    for (uint32_t i = 0; i < sequences * blocks; i++)
        (*words)[2 * w->rows + i] = i;
    j->args.q = floats;
    j->args.out = floats + w->rows * q;
    j->args.scratch = floats + 2 * w->rows * q;
    j->partials = floats + n_floats;
    return true;
}

static void attention_print(struct attention_job *j, unsigned threads, const struct limits *limits)
{
    const struct attention *w = j->what;
    const uint32_t chunks = MU_CEIL_DIV(w->keys, MU_ATTEND_CHUNK);
    const double values = (double)w->rows * w->heads * w->head_dim;
    const double key_bytes = 4.0 * w->kv_heads * w->head_dim; /* two numbers of two bytes */
    j->run_chunks =
        w->prompt ? chunks
                  : mu_attend_run_chunks(w->rows * w->kv_heads, chunks, threads, PIECES_A_THREAD);
    j->n_runs = MU_CEIL_DIV(chunks, j->run_chunks);
    double s = attention_seconds(j), seen = w->keys - (w->prompt ? (w->rows - 1) / 2.0 : 0);
    printf("%-16s %-10s %s %4u %5u %7u %10.1f", j->k->family, w->name,
           w->prompt ? "prompt" : "decode", w->rows, w->keys, threads, s * 1e6);
    if (w->prompt)
        printf(" %8s     -", "-");
    else
        print_rate(w->rows * w->keys * key_bytes / s, limits->read);
    print_rate(4 * values * seen / s, limits->ops[MU_FORM_F32]);
    printf("\n");
    fflush(stdout);
}

static bool bench_attention(const struct mu_kernels *k, struct mu_team *const *teams,
                            const struct limits *limits, const struct attention *w)
{
    uint16_t *cache;
    uint32_t *words;
    struct attention_job j = {.what = w,
                              .k = k,
                              .tile_rows =
                                  w->prompt ? MU_ATTEND_QUERIES / (w->heads / w->kv_heads) : 1};
    if (!attention_alloc(&j, &cache, &words)) return false;
    j.args.q_stride = j.args.out_stride = (size_t)w->heads * w->head_dim;
    j.args.keys = cache;
    j.args.keys_turned = true;
    j.args.cache_type = MU_DTYPE_F16;
    j.args.n_kv_heads = w->kv_heads;
    j.args.key_stride = j.args.value_stride = w->head_dim;
    j.args.head_dim = j.args.value_dim = w->head_dim;
    j.args.positions = words;
    j.args.sequences = words + w->rows;
    j.args.tables = words + 2 * w->rows;
    j.args.table_stride = MU_CEIL_DIV(w->keys, MU_KV_BLOCK_TOKENS);
    j.args.scale = 0.125f;
    for (unsigned t = 0; t < THREADS_MAX; t++) {
        j.team = teams[t];
        attention_print(&j, t + 1, &limits[t]);
    }
    mu_free(cache);
    mu_free((void *)(uintptr_t)j.args.q);
    mu_free(words);
    return true;
}

static bool bench_attentions(const struct mu_kernels *k, struct mu_team *const *teams,
                             const struct limits *limits)
{
    printf("%-16s %-10s %6s %4s %5s %s %10s %14s %14s\n", "family", "heads", "", "rows", "keys",
           "threads", "us", "GB/s", "GOP/s");
    for (size_t i = 0; i < MU_ARRAY_LEN(attentions); i++)
        if (!bench_attention(k, teams, limits, &attentions[i])) return false;
    return true;
}

static void print_head(void)
{
    printf("%-16s %-8s %s", "family", "type", "threads");
    for (size_t b = 0; b < MU_ARRAY_LEN(streamed); b++)
        printf(" %3u row%s GB/s", streamed[b], streamed[b] > 1 ? "s" : " ");
    for (size_t b = 0; b < MU_ARRAY_LEN(cached); b++)
        printf("  %4u: GOP/s ", cached[b]);
    printf("\n");
}

static bool wanted(int argc, char **argv, enum mu_dtype type)
{
    if (argc <= 2) return mu_codec_can_decode(type);
    for (int i = 2; i < argc; i++)
        if (strcmp(argv[i], mu_dtype(type)->name) == 0) return mu_codec_can_decode(type);
    return false;
}

int main(int argc, char **argv)
{
    struct mu_team *teams[THREADS_MAX];
    struct limits limits[THREADS_MAX];
    struct mu_err err = MU_ERR_INIT;
    const struct mu_kernels *k;
    char line[640];
    if (mu_kernels_choose(argc > 1 ? argv[1] : NULL, &k, &err) != MU_OK) goto failed;
    for (unsigned t = 0; t < THREADS_MAX; t++)
        if (mu_team_create(t + 1, NULL, &teams[t], &err) != MU_OK) goto failed;
    read_buffer = memory(READ_BYTES);
    if (!read_buffer) return 4;
    memset(read_buffer, 1, READ_BYTES);
    for (unsigned t = 0; t < THREADS_MAX; t++) {
        limits[t] = measure_limits(teams[t]);
        print_limits(t + 1, &limits[t]);
    }
    mu_free(read_buffer);
    bool attention = argc == 3 && strcmp(argv[2], "attention") == 0;
    if (!attention) print_head();
    for (int type = 0; type < MU_DTYPE_COUNT; type++)
        if (wanted(argc, argv, (enum mu_dtype)type) &&
            !bench_type(k, teams, limits, (enum mu_dtype)type))
            return 4;
    if ((argc <= 2 || attention) && !bench_attentions(k, teams, limits)) return 4;
    for (unsigned t = 0; t < THREADS_MAX; t++)
        mu_team_destroy(teams[t]);
    return 0;
failed:
    fprintf(stderr, "%s\n", mu_err_line(&err, line, sizeof line));
    return mu_status_exit(err.code);
}
