/* muster convert: writes a model as GGUF, in other weight types on the way. */
#include "cli/session.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/number.h"
#include "base/team.h"

#include <math.h>

#define ARENA_MAX_BYTES (256u << 20)
#define NOTES_MAX_BYTES (1u << 20)
#define BATCH_BYTES     (16u << 20) /* of fp32 values that the team works on at once */

struct convert_options {
    const char *weights;
    uint64_t threads;
    bool quiet;
};

static const struct mu_option options[] = {
    {"weights", 'w', MU_OPTION_TEXT, offsetof(struct convert_options, weights), "TYPE",
     "type of the matrices: f16, bf16, q8_0, q6_k, q4_k, ...; without it as they are; where a "
     "row is not whole blocks of it, the nearest type that fits",
     0, 0, NULL, NULL},
    {"threads", 't', MU_OPTION_U64, offsetof(struct convert_options, threads), "N",
     "threads; 0: a core each", 0, 256, "0", NULL},
    {"quiet", 'q', MU_OPTION_FLAG, offsetof(struct convert_options, quiet), NULL,
     "no progress and no summary", 0, 0, NULL, NULL},
    {0}};

/* One tensor on its way out: the rows of one use of a stored tensor after those of another, where
 * GGUF holds together what the model uses apart (experts; q, k and v). */
struct item {
    const struct mu_tensor_use *uses;
    uint32_t n_uses;
    char name[MU_TENSOR_NAME_MAX];
    enum mu_dtype type;
    uint32_t swap_heads; /* rows are to come in pairs of the two halves of each head */
    float add;           /* to every value: norms that count from one */
    uint64_t cols, rows; /* rows: of all uses */
    unsigned n_dims;
    uint64_t dims[4];
};

struct conversion {
    struct mu_model_file *file;
    const struct mu_config *config;
    struct mu_arena *arena;
    struct item *items;
    uint32_t n_items;
    struct mu_team *team;
    struct mu_gguf_out *out;
    uint64_t bytes_read, bytes_all, bytes_written;
};

/* The wanted type where a row is whole blocks of it, else the nearest that fits. */
static enum mu_dtype type_for(enum mu_dtype type, const char *weights, uint64_t cols)
{
    if (weights) (void)mu_dtype_by_name(mu_str(weights), &type);
    if (mu_dtype(type)->gguf < 0) type = MU_DTYPE_F16;
    return mu_codec_fit(type, cols);
}

static const struct mu_tensor *tensor_of(const struct conversion *c,
                                         const struct mu_tensor_use *use)
{
    return mu_model_file_find(c->file, use->name);
}

/* What one use gives: rows of a matrix, or one of a vector. */
static uint32_t use_rows(const struct mu_tensor_use *use)
{
    return use->vector ? 1 : use->rows;
}

static mu_status check_use(const struct conversion *c, const struct mu_tensor_use *use,
                           enum mu_dtype type, struct mu_err *err)
{
    const struct mu_tensor *t = tensor_of(c, use);
    if (!t) return mu_fail(err, MU_E_INPUT, "tensor %s is not there", use->name);
    uint64_t cols = t->n_dims ? t->dims[t->n_dims - 1] : 1;
    if (cols != use->file_cols || t->n_values != cols * use->file_rows)
        return mu_fail(err, MU_E_INPUT, "tensor %s has %llu values, the configuration says %u x %u",
                       use->name, (unsigned long long)t->n_values, use->file_rows, use->file_cols);
    if (type != t->type && (!mu_codec_can_decode(t->type) || !mu_codec_can_encode(type)))
        return mu_fail(err, MU_E_UNSUPPORTED, "tensor %s cannot go from %s to %s", use->name,
                       mu_dtype(t->type)->name, mu_dtype(type)->name);
    return MU_OK;
}

static mu_status add_item(struct conversion *c, const struct mu_tensor_use *uses, uint32_t n,
                          const char *name, const char *weights, struct mu_err *err)
{
    struct item *item = &c->items[c->n_items];
    const struct mu_tensor *t = tensor_of(c, uses);
    *item = (struct item){.uses = uses, .n_uses = n, .cols = uses->cols};
    if (!t) return mu_fail(err, MU_E_INPUT, "tensor %s is not there", uses->name);
    for (uint32_t i = 0; i < n; i++)
        item->rows += use_rows(&uses[i]);
    item->type = type_for(mu_use_rows_type(uses, t), weights, item->cols);
    /* Routers are small, and a choice that flips costs more than they save. */
    if (uses->vector || strstr(name, "ffn_gate_inp")) item->type = MU_DTYPE_F32;
    memcpy(item->name, name, MU_MIN(strlen(name), sizeof item->name - 1));
    for (uint32_t i = 0; i < n; i++) {
        MU_TRY(check_use(c, &uses[i], item->type, err));
        uint64_t row_bytes = 0;
        (void)mu_dtype_bytes(tensor_of(c, &uses[i])->type, item->cols, &row_bytes);
        c->bytes_all += row_bytes * use_rows(&uses[i]);
    }
    if (n > 1 && uses[0].role == uses[1].role) item->dims[item->n_dims++] = n;
    uint64_t rows = item->n_dims ? uses->rows : item->rows;
    if (!uses->vector) item->dims[item->n_dims++] = rows;
    item->dims[item->n_dims++] = item->cols;
    c->n_items++;
    return MU_OK;
}

/* GGUF to GGUF: every tensor under its own name. */
static mu_status list_as_they_are(struct conversion *c, const char *weights, struct mu_err *err)
{
    const struct mu_tensor *tensors;
    size_t n = mu_model_file_tensors(c->file, &tensors);
    struct mu_tensor_use *uses = mu_arena_alloc(c->arena, n, sizeof *uses);
    c->items = mu_arena_alloc(c->arena, n, sizeof *c->items);
    if (!c->items || !uses) return mu_fail_memory(err, n * sizeof *c->items);
    for (size_t i = 0; i < n; i++) {
        const struct mu_tensor *t = &tensors[i];
        struct mu_tensor_use *use = &uses[i];
        uint64_t cols = t->n_dims ? t->dims[t->n_dims - 1] : 1;
        uint64_t rows = cols ? t->n_values / cols : 0;
        if (strlen(t->name) >= sizeof use->name || t->n_dims > 4 || rows > UINT32_MAX ||
            cols > UINT32_MAX)
            return mu_fail(err, MU_E_UNSUPPORTED, "tensor %.200s has a name or a shape too long",
                           t->name);
        *use = (struct mu_tensor_use){.vector = t->n_dims < 2,
                                      .file_rows = (uint32_t)rows,
                                      .file_cols = (uint32_t)cols,
                                      .rows = (uint32_t)rows,
                                      .cols = (uint32_t)cols};
        memcpy(use->name, t->name, strlen(t->name));
        MU_TRY(add_item(c, use, 1, t->name, weights, err));
        struct item *item = &c->items[c->n_items - 1];
        item->n_dims = MU_MAX(t->n_dims, 1u);
        memcpy(item->dims, t->dims, t->n_dims * sizeof *t->dims);
    }
    return MU_OK;
}

static bool is_norm(enum mu_tensor_role role)
{
    return role == MU_ROLE_FINAL_NORM || role == MU_ROLE_ATTN_NORM || role == MU_ROLE_FFN_NORM ||
           role == MU_ROLE_POST_ATTN_NORM || role == MU_ROLE_POST_FFN_NORM ||
           role == MU_ROLE_Q_NORM || role == MU_ROLE_K_NORM;
}

static void finish_item(const struct conversion *c, const struct mu_program *p, struct item *item)
{
    enum mu_tensor_role role = item->uses->role;
    bool q = role == MU_ROLE_Q || role == MU_ROLE_Q_BIAS;
    bool k = role == MU_ROLE_K || role == MU_ROLE_K_BIAS;
    if (p->arch->gguf_swaps_pairs && (q || k))
        item->swap_heads = q ? c->config->n_heads : c->config->n_kv_heads;
    if (is_norm(role)) item->add = p->norm_offset;
    if (role == MU_ROLE_SHARED_MIX) { /* one row of a matrix here, a vector there */
        item->n_dims = 1;
        item->dims[0] = item->cols;
    }
}

/* From transformers' names and row order to GGUF's: what the model's program uses. */
static mu_status list_by_program(struct conversion *c, const char *weights, struct mu_err *err)
{
    struct mu_shard whole = {.tp_size = 1};
    struct mu_program *p;
    if (c->config->kv_lora_rank && !c->config->rope_interleaved)
        return mu_fail(err, MU_E_UNSUPPORTED,
                       "GGUF has no latent attention whose rope turns halves of a head");
    MU_TRY(mu_program_build(c->config, &whole, c->arena, &p, err));
    c->items = mu_arena_alloc(c->arena, p->n_tensors + 1, sizeof *c->items);
    if (!c->items) return mu_fail_memory(err, p->n_tensors * sizeof *c->items);
    for (uint32_t i = 0, n; i < p->n_tensors; i += n) {
        char name[MU_TENSOR_NAME_MAX], next[MU_TENSOR_NAME_MAX];
        struct mu_tensor_use *use = &p->tensors[i];
        mu_model_tensor_name(p->arch, MU_NAMES_GGUF, use->role, use->layer, 0, name);
        /* What is swapped in both kinds of files stays so. */
        use->swap_heads = 0;
        for (n = 1; i + n < p->n_tensors; n++) {
            mu_model_tensor_name(p->arch, MU_NAMES_GGUF, use[n].role, use[n].layer, 0, next);
            if (strcmp(next, name) != 0) break;
        }
        MU_TRY(add_item(c, use, n, name, weights, err));
        finish_item(c, p, &c->items[c->n_items - 1]);
    }
    return MU_OK;
}

/* Rows [first, first + n) of one use of an item, shared out over the team. */
struct batch {
    const struct conversion *c;
    const struct item *item;
    struct mu_use_rows rows;
    uint32_t first, n;
    uint8_t *rooms; /* [threads] what rows are made in, then the values of one */
    size_t room;
    uint8_t *out; /* [n] rows */
    size_t out_row_bytes;
};

/* The row (of a vector: the value) of the source that becomes row i of n in the output. */
static uint32_t source_row(const struct item *item, uint32_t n, uint32_t i)
{
    if (item->swap_heads == 0) return i;
    uint32_t head_rows = n / item->swap_heads, at = i % head_rows;
    return i - at + (at % 2 ? head_rows / 2 : 0) + at / 2;
}

static void convert_row(const struct batch *b, const uint8_t *row, uint32_t i, float *values)
{
    const struct item *item = b->item;
    uint8_t *out = b->out + i * b->out_row_bytes;
    if (item->type == b->rows.type && item->add == 0) {
        memcpy(out, row, b->out_row_bytes);
        return;
    }
    mu_codec_decode(b->rows.type, row, values, item->cols);
    for (uint64_t j = 0; item->add != 0 && j < item->cols; j++)
        values[j] += item->add;
    mu_codec_encode(item->type, values, out, item->cols);
}

static void convert_rows(void *arg, unsigned member)
{
    const struct batch *b = arg;
    uint8_t *room = b->rooms + member * b->room;
    float *values = (float *)(void *)(room + b->rows.room_bytes);
    uint32_t n_pieces = MU_CEIL_DIV(b->n, MU_USE_ROWS), piece;
    while ((piece = mu_team_claim(b->c->team, member, n_pieces)) < n_pieces) {
        uint32_t first = piece * MU_USE_ROWS, n = MU_MIN(MU_USE_ROWS, b->n - first);
        const uint8_t *rows[MU_USE_ROWS];
        if (b->item->swap_heads == 0) mu_use_rows_get(&b->rows, b->first + first, n, room, rows);
        for (uint32_t i = 0; i < n; i++) {
            if (b->item->swap_heads > 0)
                mu_use_rows_get(&b->rows,
                                source_row(b->item, b->rows.use->rows, b->first + first + i), 1,
                                room, &rows[i]);
            convert_row(b, rows[i], first + i, values);
        }
    }
}

static void show_progress(const struct conversion *c)
{
    char a[MU_BYTES_TEXT], b[MU_BYTES_TEXT];
    mu_cli_progress((double)c->bytes_read / (double)MU_MAX(c->bytes_all, 1u), "%s of %s converted",
                    mu_format_bytes(c->bytes_read, a), mu_format_bytes(c->bytes_all, b));
}

static mu_status convert_vector(struct conversion *c, const struct item *item,
                                const struct mu_tensor_use *use, struct mu_err *err)
{
    const struct mu_tensor *t = tensor_of(c, use);
    uint32_t n = use->cols;
    uint8_t *stored = mu_alloc(mu_tensor_row_bytes(t));
    float *whole = mu_alloc(((size_t)use->file_cols + 2 * (size_t)n) * sizeof *whole);
    mu_status status = stored && whole ? MU_OK : mu_fail_memory(err, 2 * n * sizeof *whole);
    if (status == MU_OK) {
        float *values = whole + use->file_cols, *out = values + n;
        mu_use_vector(use, t, mu_codec_decode, stored, whole, values);
        for (uint32_t i = 0; i < n; i++)
            out[i] = values[source_row(item, n, i)] + item->add;
        status = mu_gguf_out_bytes(c->out, out, n * sizeof *out, err);
    }
    mu_free(stored);
    mu_free(whole);
    return status;
}

static mu_status convert_matrix(struct conversion *c, const struct item *item,
                                const struct mu_tensor_use *use, struct mu_err *err)
{
    uint64_t out_row_bytes, batch_rows = MU_MAX(BATCH_BYTES / (item->cols * sizeof(float)), 1u);
    batch_rows = MU_MIN(batch_rows, MU_MAX(use->rows, 1u));
    unsigned threads = mu_team_size(c->team);
    if (!mu_dtype_bytes(item->type, item->cols, &out_row_bytes))
        return mu_fail(err, MU_E_INTERNAL, "tensor %s has no whole blocks", item->name);
    struct batch b = {.c = c, .item = item, .out_row_bytes = out_row_bytes};
    mu_use_rows_init(&b.rows, use, tensor_of(c, use), false, mu_codec_decode);
    b.room = b.rows.room_bytes + MU_ROUND_UP(item->cols * sizeof(float), 64);
    b.rooms = mu_alloc_aligned(64, threads * b.room);
    b.out = mu_alloc(batch_rows * out_row_bytes);
    mu_status status = b.rooms && b.out ? MU_OK : mu_fail_memory(err, batch_rows * out_row_bytes);
    for (; status == MU_OK && b.first < use->rows; b.first += b.n) {
        b.n = (uint32_t)MU_MIN(batch_rows, use->rows - b.first);
        mu_team_run(c->team, convert_rows, &b);
        status = mu_gguf_out_bytes(c->out, b.out, b.n * out_row_bytes, err);
        if (status == MU_OK && mu_cli_interrupted())
            status = mu_fail(err, MU_E_INTERRUPTED, "interrupted, nothing was written");
    }
    mu_free(b.rooms);
    mu_free(b.out);
    return status;
}

static mu_status convert_item(struct conversion *c, const struct item *item, struct mu_err *err)
{
    for (uint32_t i = 0; i < item->n_uses; i++) {
        const struct mu_tensor_use *use = &item->uses[i];
        MU_TRY(use->vector ? convert_vector(c, item, use, err) : convert_matrix(c, item, use, err));
        uint64_t read = 0;
        (void)mu_dtype_bytes(tensor_of(c, use)->type, item->cols, &read);
        c->bytes_read += read * use_rows(use);
    }
    return MU_OK;
}

static void say_lines(const char *start, const struct mu_text *lines)
{
    for (const char *line = mu_text_get(lines), *end; *line; line = end + 1) {
        end = strchr(line, '\n');
        mu_cli_say("muster: %s%.*s\n", start, (int)(end - line), line);
    }
}

/* A folder's tokenizer comes along as far as GGUF has words for it; the rest is said. */
static mu_status carry_tokenizer(struct conversion *c, bool quiet, struct mu_err *err)
{
    struct mu_tokenizer_spec *spec = NULL;
    struct mu_text notes;
    struct mu_err why = {0};
    mu_status status = mu_tokenizer_spec_read(c->file, &spec, &why);
    mu_text_init(&notes, NOTES_MAX_BYTES);
    if (status == MU_OK)
        status = mu_gguf_out_tokenizer(c->out, spec, c->config->vocab, &notes, &why);
    if (status == MU_OK && !quiet) say_lines("tokenizer: ", &notes);
    if (status == MU_E_MISSING || status == MU_E_UNSUPPORTED) {
        if (!quiet)
            mu_cli_say(
                "muster: the tokenizer is not carried over, so that the file takes and gives "
                "token ids: %s\n",
                why.what);
        mu_gguf_out_no_tokenizer(c->out);
        status = MU_OK;
    }
    if (status != MU_OK) *err = why;
    mu_text_fini(&notes);
    mu_tokenizer_spec_destroy(spec);
    return status;
}

/* How much longer each rotation's wave became: GGUF has no words for llama3's rule, nor for lists.
 */
struct rope_factors {
    const char *name;
    float values[MU_ROPE_FACTORS_MAX];
};

static uint32_t list_rope_factors(const struct mu_config *c, struct rope_factors out[2],
                                  uint32_t *n_values)
{
    const struct mu_rope_config *r = &c->rope;
    *n_values = mu_rope_width(c) / 2;
    if (*n_values > MU_ROPE_FACTORS_MAX) return 0;
    if (r->kind == MU_ROPE_LONGROPE) {
        out[0].name = "rope_factors_long.weight";
        out[1].name = "rope_factors_short.weight";
        for (uint32_t i = 0; i < r->n_factors; i++) {
            out[0].values[i] = (float)r->long_factor[i];
            out[1].values[i] = (float)r->short_factor[i];
        }
        return 2;
    }
    if (r->kind != MU_ROPE_LLAMA3) return 0;
    struct mu_config plain = *c;
    float before[MU_ROPE_FACTORS_MAX], after[MU_ROPE_FACTORS_MAX], scale;
    plain.rope.kind = MU_ROPE_DEFAULT;
    mu_rope_frequencies(&plain, c->context, false, before, &scale);
    mu_rope_frequencies(c, c->context, false, after, &scale);
    out[0].name = "rope_freqs.weight";
    for (uint32_t i = 0; i < *n_values; i++)
        out[0].values[i] = before[i] / after[i];
    return 1;
}

static mu_status write_out(struct conversion *c, const char *path, bool quiet, struct mu_err *err)
{
    MU_TRY(mu_gguf_out_create(path, &c->out, err));
    struct rope_factors factors[2];
    uint32_t n_values = 0, n_factors = 0;
    if (c->config->names == MU_NAMES_HF) {
        MU_TRY(carry_tokenizer(c, quiet, err));
        n_factors = list_rope_factors(c->config, factors, &n_values);
    }
    mu_gguf_out_metadata_of(c->out, c->file);
    for (uint32_t i = 0; i < n_factors; i++)
        mu_gguf_out_tensor(c->out, factors[i].name, MU_DTYPE_F32, 1, &(uint64_t){n_values});
    for (uint32_t i = 0; i < c->n_items; i++)
        mu_gguf_out_tensor(c->out, c->items[i].name, c->items[i].type, c->items[i].n_dims,
                           c->items[i].dims);
    MU_TRY(mu_gguf_out_begin(c->out, err));
    for (uint32_t i = 0; i < n_factors; i++)
        MU_TRY(mu_gguf_out_bytes(c->out, factors[i].values, n_values * sizeof(float), err));
    for (uint32_t i = 0; i < c->n_items; i++) {
        const struct item *item = &c->items[i];
        uint64_t row_bytes = 0;
        MU_TRY(convert_item(c, item, err));
        (void)mu_dtype_bytes(item->type, item->cols, &row_bytes);
        c->bytes_written += row_bytes * item->rows;
        if (!quiet) show_progress(c);
    }
    return mu_gguf_out_commit(c->out, err);
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-5 * fmax(fabs(a), fabs(b));
}

static bool same_rope(const struct mu_config *a, const struct mu_config *b, bool local)
{
    float own[MU_ROPE_FACTORS_MAX], other[MU_ROPE_FACTORS_MAX], own_scale, other_scale;
    uint32_t n = mu_rope_width(a) / 2;
    if (n != mu_rope_width(b) / 2 || n > MU_ROPE_FACTORS_MAX) return false;
    mu_rope_frequencies(a, a->context, local, own, &own_scale);
    mu_rope_frequencies(b, a->context, local, other, &other_scale);
    for (uint32_t i = 0; i < n; i++)
        if (!near((double)own[i], (double)other[i])) return false;
    return near((double)own_scale, (double)other_scale);
}

/* What a reader of the file would compute otherwise than a reader of the source; NULL: nothing. */
static const char *difference(const struct mu_config *a, const struct mu_config *b,
                              const struct mu_program *p, const struct mu_program *q)
{
    if (a->sliding_window != b->sliding_window ||
        memcmp(a->layer_sliding, b->layer_sliding, a->n_layers) != 0)
        return "pattern of sliding layers";
    if (memcmp(a->layer_no_rope, b->layer_no_rope, a->n_layers) != 0)
        return "pattern of layers without rope";
    if (a->n_experts && memcmp(a->layer_dense, b->layer_dense, a->n_layers) != 0)
        return "pattern of dense layers";
    if (!same_rope(a, b, false) || !same_rope(a, b, true)) return "rope";
    if (!near((double)p->attn_scale, (double)q->attn_scale)) return "scale of attention";
    if (!near((double)p->embed_scale, (double)q->embed_scale) ||
        !near((double)p->residual_scale, (double)q->residual_scale) ||
        !near((double)p->logit_scale, (double)q->logit_scale))
        return "scales of the residual";
    if (!near(a->attn_softcap, b->attn_softcap) || !near(a->final_softcap, b->final_softcap))
        return "softcaps";
    if (!near(a->routed_scaling, b->routed_scaling) || a->n_group != b->n_group ||
        a->topk_group != b->topk_group ||
        (a->n_experts && !p->arch->router_normed && a->norm_topk != b->norm_topk))
        return "rule that chooses experts";
    return strcmp(a->activation, b->activation) == 0 ? NULL : "activation";
}

/* GGUF leaves much to what readers know of an architecture: a model that is not as they assume is
 * refused, rather than written to compute something else. */
static mu_status check_result(struct conversion *c, const char *path, struct mu_err *err)
{
    struct mu_shard whole = {.tp_size = 1};
    struct mu_model_file *result = NULL;
    struct mu_program *p = NULL, *q = NULL;
    const char *what = NULL;
    mu_status status = mu_model_file_open(path, MU_OPEN_HEADER_ONLY, &result, err);
    if (status == MU_OK) status = mu_program_build(c->config, &whole, c->arena, &p, err);
    const struct mu_config *read = status == MU_OK ? mu_model_file_config(result) : NULL;
    if (read) status = mu_program_build(read, &whole, c->arena, &q, err);
    if (p && q && status == MU_OK) what = difference(c->config, read, p, q);
    if (what) {
        status = mu_fail(err, MU_E_UNSUPPORTED,
                         "GGUF has no words for this model's %s; nothing is left behind", what);
        mu_err_where(err, "%s", mu_model_file_name(c->file));
    }
    mu_model_file_close(result);
    if (status != MU_OK) (void)remove(path);
    return status;
}

/* The result may be smaller than what it is made from: nothing is written over that. */
static mu_status refuse_own_source(const struct conversion *c, const char *out, struct mu_err *err)
{
    const char *const *paths;
    size_t n = mu_model_file_paths(c->file, &paths);
    for (size_t i = 0; i < n; i++)
        if (mu_file_same(paths[i], out)) {
            mu_status status = mu_fail(err, MU_E_USAGE, "is what would be converted");
            mu_err_where(err, "%s", out);
            mu_err_cure(err, "give the result another name");
            return status;
        }
    return MU_OK;
}

/* Packed forms of transformers have no GGUF type of their own: the file grows, which is told. */
static void say_unpacked(const struct conversion *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n_items; i++) {
        const struct mu_tensor *t = tensor_of(c, c->items[i].uses);
        bool packed =
            t->columns || (mu_dtype(t->type)->block_values > 1 && mu_dtype(t->type)->gguf < 0);
        n += packed && mu_dtype(c->items[i].type)->block_values == 1;
    }
    if (n > 0)
        mu_cli_say("muster: %u packed matrices are written unpacked, since GGUF has no such type; "
                   "--weights q4_0 or q8_0 quantises them anew\n",
                   n);
}

static mu_status convert(struct conversion *c, const struct mu_invocation *in, struct mu_err *err)
{
    const struct convert_options *o = in->options;
    int cpus[256];
    unsigned threads = o->threads ? (unsigned)o->threads : mu_cpu_usable(cpus, MU_ARRAY_LEN(cpus));
    enum mu_dtype type;
    if (o->weights) MU_TRY(mu_session_weight_type(o->weights, &type, err));
    MU_TRY(mu_model_file_open(in->result->operands[0], 0, &c->file, err));
    c->config = mu_model_file_config(c->file);
    c->arena = mu_arena_create(ARENA_MAX_BYTES);
    if (!c->arena) return mu_fail_memory(err, ARENA_MAX_BYTES);
    MU_TRY(c->config->names == MU_NAMES_GGUF ? list_as_they_are(c, o->weights, err)
                                             : list_by_program(c, o->weights, err));
    MU_TRY(refuse_own_source(c, in->result->operands[1], err));
    if (!o->quiet && !o->weights) say_unpacked(c);
    if (o->weights && !o->quiet) mu_session_say_stand_ins(c->file, type, true);
    MU_TRY(mu_team_create(threads, NULL, &c->team, err));
    mu_cli_catch_interrupts(true);
    mu_status status = write_out(c, in->result->operands[1], o->quiet, err);
    mu_cli_progress_end();
    if (status != MU_OK) return status;
    if (c->config->names == MU_NAMES_HF) MU_TRY(check_result(c, in->result->operands[1], err));
    char a[MU_BYTES_TEXT], b[MU_BYTES_TEXT];
    if (!o->quiet)
        mu_cli_say("%s: %u tensors, %s from %s\n", in->result->operands[1], c->n_items,
                   mu_format_bytes(c->bytes_written, a), mu_format_bytes(c->bytes_read, b));
    return MU_OK;
}

static mu_status convert_run(const struct mu_invocation *in, struct mu_err *err)
{
    struct conversion c = {0};
    mu_status status = convert(&c, in, err);
    mu_gguf_out_close(c.out);
    mu_team_destroy(c.team);
    mu_arena_destroy(c.arena);
    mu_model_file_close(c.file);
    return status;
}

const struct mu_command mu_command_convert = {
    .spec = {.command = "convert",
             .operands = "MODEL OUT.gguf",
             .summary = "write a model as GGUF, quantising on the way",
             .options = options,
             .min_operands = 2,
             .max_operands = 2},
    .options_size = sizeof(struct convert_options),
    .run = convert_run,
};
