/* What is done to rows between products, and how fast weights come from the host; see measure.h. */
#include "measure/measure_int.h"

#include "base/file.h"

#include <string.h>

#define ROWS        64
#define COPY_BYTES  ((uint64_t)512 << 10) /* as the staging thread copies them */
#define COPY_PIECES 16                    /* of a load */
#define COPY_LOADS  12

struct rows {
    const struct mu_kernels *k;
    const struct mu_measure_shape *s;
    enum mu_form form;
    float *h, *tmp;     /* [ROWS][width] */
    const float *norms; /* [width] */
    char *formed;       /* [ROWS] rows, and the cache's */
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
    a->k->norm(tmp, h, a->norms, a->s->hidden, 1e-5f, 0);
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
    MU_TRY(mu_timed_alloc(t, (ROWS + 1) * a.width * sizeof(float), &h, err));
    MU_TRY(mu_timed_alloc(t, ROWS * a.width * sizeof(float), &tmp, err));
    MU_TRY(mu_timed_alloc(t, ROWS * a.stride, &formed, err));
    a.h = h;
    a.norms = a.h + ROWS * a.width;
    a.tmp = tmp;
    a.formed = formed;
    for (size_t i = 0; i < a.width; i++)
        a.h[ROWS * a.width + i] = mu_timed_value(i);
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

/* ---- Copies -------------------------------------------------------------------------------- */

struct copies {
    char *from, *to;
    bool mapped; /* from a file: pages that were read are let go, as staging does */
};

static char *load_of(const struct copies *c, uint32_t pass)
{
    return c->from + pass % COPY_LOADS * COPY_PIECES * COPY_BYTES;
}

static void copy_piece(void *arg, uint32_t pass, uint32_t piece, unsigned member)
{
    const struct copies *c = arg;
    uint64_t slot = pass % 2 * COPY_PIECES + piece;
    (void)member;
    if (c->mapped && piece == 0 && pass > 0)
        mu_file_release(load_of(c, pass - 1), COPY_PIECES * COPY_BYTES);
    memcpy(c->to + slot * COPY_BYTES, load_of(c, pass) + piece * COPY_BYTES, COPY_BYTES);
}

/* Loads that lie in no cache, to two slots in turn. */
mu_status mu_timed_copies(struct mu_timed *t, struct mu_err *err)
{
    uint64_t bytes = COPY_PIECES * COPY_BYTES, all = COPY_LOADS * bytes;
    void *from, *to;
    uint8_t *file;
    MU_TRY(mu_timed_alloc(t, all, &from, err));
    MU_TRY(mu_timed_alloc(t, 2 * bytes, &to, err));
    memset(from, 1, all);
    struct copies c = {.from = from, .to = to};
    struct mu_timed_op op = {.piece = copy_piece, .arg = &c, .n_pieces = COPY_PIECES};
    t->costs->copy_s = t->costs->file_s = mu_timed_seconds(t, &op) / (double)bytes;
    /* Without a disk that has room, nothing is staged from one. */
    if (mu_file_scratch(all, &file, NULL) == MU_OK) {
        memset(file, 1, all);
        c.from = (char *)file;
        c.mapped = true;
        t->costs->file_s = mu_timed_seconds(t, &op) / (double)bytes;
        mu_file_scratch_free(file, all);
    }
    mu_timed_free(t);
    mu_timed_tell(t);
    return MU_OK;
}
