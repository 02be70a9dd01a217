/*
 * kernel: the arithmetic, as tables of functions, one table a family.
 *
 * A family (ref, cpu-avx512, ...) keeps the contract of docs/internals/contract.md: a row's bits do
 * not depend on how many rows, threads or devices share the work. Families may differ from each
 * other by rounding. Kernels know nothing of models, devices or threads: the caller cuts the work
 * into pieces and says which. No allocation, lock, log or system call inside.
 *
 * Any thread, with its own pieces.
 */
#ifndef MU_KERNEL_KERNEL_H
#define MU_KERNEL_KERNEL_H

#include "base/dtype.h"
#include "base/segment.h"
#include "base/status.h"

#include <stddef.h>

#define MU_KV_BLOCK_TOKENS 32  /* tokens in one block of the paged cache */
#define MU_ATTEND_CHUNK    128 /* keys whose partial attention is computed on its own */
#define MU_ATTEND_LEVELS   27 /* partial results that wait at once: one a bit of a chunk's number */
#define MU_ATTEND_QUERIES  64 /* rows times heads of a tile, at most */

/* The form in which a linear reads its activations. */
enum mu_form {
    MU_FORM_F32,  /* as they are */
    MU_FORM_BF16, /* rounded to bfloat16 */
    MU_FORM_Q8,   /* blocks of 32: int8 codes with one fp32 scale from the block's own values */
    MU_FORM_COUNT
};

/* How the sum over K is done. */
enum mu_compute {
    MU_COMPUTE_DEFAULT, /* the family's fastest for the weight's type */
    MU_COMPUTE_F32      /* weights widened, fp32 multiply and add */
};

/*
 * A weight matrix (or the slice of one that a device owns) as a family packed it: `rows` outputs,
 * `cols` inputs. The family alone knows what `data` looks like.
 */
struct mu_weight {
    enum mu_dtype type; /* as stored */
    enum mu_form form;  /* of the activations it is multiplied with */
    uint32_t rows, cols;
    uint32_t col_first;               /* where the slice begins in the stored row */
    uint64_t bytes;                   /* of `data` */
    void *data;                       /* 64-byte aligned */
    const struct mu_columns *columns; /* of Q4G and Q8G, else NULL */
};

/* What a weight with columns needs behind the bytes that weight_bytes says: the tables of its rows.
 */
static inline uint64_t mu_weight_table_bytes(const struct mu_columns *columns, uint32_t rows)
{
    const uint64_t outputs = MU_ROUND_UP((uint64_t)rows, 64);
    return columns ? outputs * columns->n_groups * 2 * sizeof(float) : 0;
}

/*
 * How a row-parallel linear cuts its sum over `cols`: the segments this rank owns are
 * [run.first, run.end) of n; segment s covers columns [border[s - run.first], border[s - run.first
 * + 1]) of the slice. A plain linear is the one segment [0, 1) of 1.
 */
struct mu_cut {
    uint32_t n;
    struct mu_run run;
    uint32_t border[MU_SEGMENTS_MAX + 1];
};

struct mu_linear_args {
    const struct mu_weight *weight;
    const struct mu_cut *cut; /* NULL: the sum over all columns is one segment */
    const float *bias;        /* [rows] or NULL; only without a cut */
    const void *x;            /* n_rows activations in weight->form, x_stride bytes apart: */
    size_t x_stride;          /* an odd multiple of 64, lest rows share the sets of a cache */
    float *y; /* output o of row r: y[r * y_stride + o]; with a cut, subtree t: + t * y_subtree */
    size_t y_stride, y_subtree; /* in floats */
    uint32_t n_rows;
    /* For rows that are scattered over y and meet others there: row r belongs to row y_rows[r], and
     * every segment's sum is added on its own to what is there, segment s of the cut's run at
     * + s * y_subtree. */
    const uint32_t *y_rows;
};

/*
 * Attention's contract. The keys that a row sees, [begin, end) by its position and the window, are
 * cut at multiples of MU_ATTEND_CHUNK; each piece gives a partial result (largest score, sum of
 * exp(score - largest), values weighted so). The pieces, numbered from 0, are pushed on a stack as
 * a binary counter counts: after piece i, the two topmost partials are merged once for every
 * trailing one bit of i. At the end those that wait are merged from the top, the latest, down; then
 * the sink joins. Only positions decide, so chunking, batching and blocks cannot change a bit.
 *
 * A single row's pieces may be shared out in runs of 2^i, the n-th run from piece n 2^i on: what a
 * run leaves, merged, is pushed on another stack in the same way, and gives the same tree.
 */
/*
 * Where the attention of one step finds everything. Cache layout of a layer, for keys and values
 * alike: [block][kv head][token of the block], a token's numbers in cache_type `stride` numbers
 * after those of the token before. The values may be the first value_dim numbers of the keys
 * (latent attention): then both pointers and both strides are the same. Else keys may be turned:
 * number i of token j of a block at i * MU_KV_BLOCK_TOKENS + j, so that a vector holds one number
 * of many keys, as scores want them.
 */
struct mu_attend_args {
    const float *q; /* row r, head h: head_dim values at q[r * q_stride + h * head_dim] */
    size_t q_stride;
    float
        *out; /* the tile's i-th row, j-th head: value_dim at out[i * out_stride + j * value_dim] */
    size_t out_stride;
    const void *keys, *values;
    size_t key_stride, value_stride; /* at least head_dim and value_dim */
    bool keys_turned;                /* and key_stride is head_dim */
    enum mu_dtype cache_type;
    uint32_t n_kv_heads, head_dim, value_dim;
    const uint32_t *positions; /* [rows] */
    const uint32_t *sequences; /* [rows]: which row of the block tables */
    const uint32_t *tables;    /* [sequences][table_stride] block numbers */
    size_t table_stride;
    float scale;
    float softcap;      /* scores = cap * tanh(scores / cap); 0: none */
    uint32_t window;    /* keys further back than window - 1 are not seen; 0: all are */
    const float *sinks; /* [heads] extra logit without a value, or NULL */
    float *scratch;     /* mu_kernels.attend_scratch floats for this thread */
};

/* Rows of one sequence at adjacent positions, times heads that read one KV head. What shares a tile
 * shares the work of reading the keys; it shows in no bit. */
struct mu_attend_tile {
    uint32_t row, n_rows;
    uint32_t head, n_heads;
    uint32_t kv; /* of this device's KV heads, the one they read */
};

/* Pieces [first, first + n) of a single row; attend_run leaves for head j of the tile at
 * partials[j * (value_dim + 2)] the largest score, the sum, and the values. */
struct mu_attend_run {
    uint32_t first, n;
    float *partials;
};

enum mu_activation {
    MU_ACT_SILU,
    MU_ACT_GELU_TANH,
    MU_ACT_GELU,
    MU_ACT_SWIGLU_OAI /* gate and up clamped at 7: gate sigmoid(1.702 gate) (up + 1) */
};

struct mu_kernels {
    const char *family;

    /* Linear. The form is chosen by weight type; packed size and layout follow from both. */
    enum mu_form (*form)(enum mu_dtype type, enum mu_compute compute);
    uint64_t (*weight_bytes)(enum mu_dtype type, enum mu_form form, uint32_t rows,
                             uint32_t col_first, uint32_t cols);
    /* Packs whole stored rows: `stored[i]` begins the full stored row of output first + i. first
     * and n are multiples of row_tile, but for the end of the matrix. A slice may begin and end
     * inside stored blocks: the family keeps the blocks that cover it. */
    void (*weight_pack)(struct mu_weight *weight, uint32_t first, uint32_t n,
                        const uint8_t *const *stored);
    uint32_t row_tile;
    /* The values of one packed row, exactly as stored: an embedding, when the table is the head too
     * (whole rows, so that col_first is 0). The engine requires it of every family. */
    void (*weight_row)(const struct mu_weight *weight, uint32_t row, float *out);
    /* Bytes of one activation row of `cols` values. */
    size_t (*form_bytes)(enum mu_form form, uint32_t cols);
    /* Writes values [first, first + n) of a row of `cols` into the row `out`; first and n are
     * multiples of 32, but for the end of the row. */
    void (*form_store)(enum mu_form form, void *out, uint32_t cols, uint32_t first, uint32_t n,
                       const float *x);
    /* Outputs [first, end) of all rows; borders as in weight_pack. In MU_FORM_Q8 the slice and the
     * borders of a cut lie at multiples of 32 stored columns; bfloat16 weights are cut at multiples
     * of 2. Uses up to 128 KiB of stack. */
    void (*linear)(const struct mu_linear_args *args, uint32_t first, uint32_t end);

    /* y = x / rms(x) * (offset + w) over n values. */
    void (*norm)(float *y, const float *x, const float *w, uint32_t n, float eps, float offset);
    /* Rotates pairs (i, i + n / 2) of the first n values of x by the angles of one position. */
    void (*rope)(float *x, const float *cos, const float *sin, uint32_t n);
    /* y[i] = act(gate[i]) * up[i] */
    void (*glu)(float *y, const float *gate, const float *up, uint32_t n, enum mu_activation act);
    /* Rounds n values to the cache's type. */
    void (*kv_store)(void *out, enum mu_dtype type, const float *x, uint32_t n);
    void (*attend)(const struct mu_attend_args *args, const struct mu_attend_tile *tile);
    void (*attend_run)(const struct mu_attend_args *args, const struct mu_attend_tile *tile,
                       const struct mu_attend_run *run);
    /* What attend gives, from all runs of the row: their partials lie `stride` floats apart. */
    void (*attend_join)(const struct mu_attend_args *args, const struct mu_attend_tile *tile,
                        const float *partials, size_t stride, uint32_t n_runs);
    /* Floats of scratch that attend needs for tiles of that many queries (rows times heads) and
     * positions below `context`. */
    size_t (*attend_scratch)(uint32_t queries, uint32_t head_dim, uint32_t value_dim,
                             uint32_t context);
};

/* How many chunks a run should have, for so many tiles of a row each that see up to `chunks`:
 * all, or the least that leave no more than `each` pieces to a thread. */
uint32_t mu_attend_run_chunks(uint32_t tiles, uint32_t chunks, uint32_t threads, uint32_t each);

/* Rounds a key of n numbers to the cache's type, into its place in a block of turned keys. */
void mu_key_store(const struct mu_kernels *kernels, void *block, enum mu_dtype type, const float *x,
                  uint32_t n, uint32_t token);

/* The readable definition, everywhere. */
extern const struct mu_kernels mu_kernels_ref;

/* The best family this CPU can run, or the one named by `name` ("ref", ...; NULL: best). */
mu_status mu_kernels_choose(const char *name, const struct mu_kernels **out, struct mu_err *err);
/* The n-th family this CPU can run, best first; NULL past the last. */
const struct mu_kernels *mu_kernels_usable(unsigned n);

/*
 * Stored blocks to floats, exactly, and floats to stored blocks. `n` is whole blocks.
 */
bool mu_codec_can_decode(enum mu_dtype type);
void mu_codec_decode(enum mu_dtype type, const void *stored, float *out, uint64_t n);
bool mu_codec_can_encode(enum mu_dtype type);
void mu_codec_encode(enum mu_dtype type, const float *x, void *stored, uint64_t n);
/* `type` where `cols` values are whole blocks of it; else the type by 32 that stands in for it
 * (q4_0 for q2_k and q3_k, q5_0 for q4_k, q5_1 for q5_k, q8_0 for q6_k, iq4_nl for iq4_xs); else
 * f16. */
enum mu_dtype mu_codec_fit(enum mu_dtype type, uint64_t cols);

/* exp, tanh and erf of our own: the same bits wherever they run. */
float mu_expf(float x);
float mu_tanhf(float x);
float mu_erff(float x);

#endif
