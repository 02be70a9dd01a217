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

/* One tensor on its way out. */
struct item {
    const struct mu_tensor *tensor;
    char name[MU_TENSOR_NAME_MAX];
    enum mu_dtype type;
    uint32_t swap_heads; /* rows are to come in pairs: see mu_model_swapped_row */
    float add;           /* to every value: norms that count from one */
    uint64_t cols, rows;
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
static enum mu_dtype type_for(const struct mu_tensor *t, const char *weights, uint64_t cols)
{
    enum mu_dtype type = t->type;
    if (t->n_dims < 2) return MU_DTYPE_F32;
    if (weights) (void)mu_dtype_by_name(mu_str(weights), &type);
    if (mu_dtype(type)->gguf < 0) type = MU_DTYPE_F16;
    return mu_codec_fit(type, cols);
}

static mu_status add_item(struct conversion *c, const struct mu_tensor *t, const char *name,
                          const char *weights, struct mu_err *err)
{
    struct item *item = &c->items[c->n_items];
    *item = (struct item){.tensor = t};
    item->cols = t->n_dims ? t->dims[t->n_dims - 1] : 1;
    item->rows = item->cols ? t->n_values / item->cols : 0;
    item->type = type_for(t, weights, item->cols);
    memcpy(item->name, name, MU_MIN(strlen(name), sizeof item->name - 1));
    if (item->type != t->type &&
        (!mu_codec_can_decode(t->type) || !mu_codec_can_encode(item->type)))
        return mu_fail(err, MU_E_UNSUPPORTED, "tensor %s cannot go from %s to %s", t->name,
                       mu_dtype(t->type)->name, mu_dtype(item->type)->name);
    c->n_items++;
    c->bytes_all += t->n_bytes;
    return MU_OK;
}

/* GGUF to GGUF: every tensor under its own name. */
static mu_status list_as_they_are(struct conversion *c, const char *weights, struct mu_err *err)
{
    const struct mu_tensor *tensors;
    size_t n = mu_model_file_tensors(c->file, &tensors);
    c->items = mu_arena_alloc(c->arena, n, sizeof *c->items);
    if (!c->items) return mu_fail_memory(err, n * sizeof *c->items);
    for (size_t i = 0; i < n; i++)
        MU_TRY(add_item(c, &tensors[i], tensors[i].name, weights, err));
    return MU_OK;
}

static bool is_norm(enum mu_tensor_role role)
{
    return role == MU_ROLE_FINAL_NORM || role == MU_ROLE_ATTN_NORM || role == MU_ROLE_FFN_NORM ||
           role == MU_ROLE_POST_ATTN_NORM || role == MU_ROLE_POST_FFN_NORM ||
           role == MU_ROLE_Q_NORM || role == MU_ROLE_K_NORM;
}

/* From transformers' names and row order to GGUF's: what the model's program uses. */
static mu_status list_by_program(struct conversion *c, const char *weights, struct mu_err *err)
{
    struct mu_shard whole = {.layer_end = c->config->n_layers, .tp_size = 1};
    struct mu_program *p;
    if (c->config->n_experts > 0 || c->config->kv_lora_rank > 0)
        return mu_fail(err, MU_E_UNSUPPORTED,
                       "a folder's experts and latent attention cannot be written as GGUF");
    MU_TRY(mu_program_build(c->config, &whole, c->arena, &p, err));
    c->items = mu_arena_alloc(c->arena, p->n_tensors, sizeof *c->items);
    if (!c->items) return mu_fail_memory(err, p->n_tensors * sizeof *c->items);
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct mu_tensor_use *use = &p->tensors[i];
        const struct mu_tensor *t = mu_model_file_find(c->file, use->name);
        if (!t) return mu_fail(err, MU_E_INPUT, "tensor %s is not there", use->name);
        if (i > 0 && p->arch->fused_qkv && c->n_items > 0 && c->items[c->n_items - 1].tensor == t)
            continue; /* slices of one stored matrix */
        char name[MU_TENSOR_NAME_MAX];
        mu_model_tensor_name(p->arch, MU_NAMES_GGUF, use->role, use->layer, 0, name);
        MU_TRY(add_item(c, t, name, weights, err));
        struct item *item = &c->items[c->n_items - 1];
        bool q = use->role == MU_ROLE_Q || use->role == MU_ROLE_Q_BIAS;
        bool k = use->role == MU_ROLE_K || use->role == MU_ROLE_K_BIAS;
        if (p->arch->gguf_swaps_pairs && (q || k))
            item->swap_heads = q ? c->config->n_heads : c->config->n_kv_heads;
        if (is_norm(use->role)) item->add = p->norm_offset;
    }
    return MU_OK;
}

#define PIECE_ROWS 64u /* that a thread takes at once: rows that are made are made faster so */

/* Rows [first, first + n) of one item, shared out over the team. */
struct batch {
    const struct conversion *c;
    const struct item *item;
    uint64_t first;
    uint32_t n;
    uint8_t *stored; /* [threads][PIECE_ROWS] rows that are not mapped */
    float *values;   /* [threads] rows */
    uint8_t *out;    /* [n] rows */
    size_t out_row_bytes;
};

/* The row of the source that becomes row i of the output. */
static uint64_t source_row(const struct item *item, uint64_t i)
{
    uint32_t n = (uint32_t)item->rows;
    if (item->swap_heads == 0) return i;
    uint32_t head_rows = n / item->swap_heads, head = (uint32_t)i / head_rows;
    uint32_t at = (uint32_t)i % head_rows;
    return (uint64_t)head * head_rows + (at % 2 ? head_rows / 2 : 0) + at / 2;
}

static void convert_row(const struct batch *b, const uint8_t *row, uint32_t i, float *values)
{
    const struct item *item = b->item;
    uint8_t *out = b->out + i * b->out_row_bytes;
    if (item->type == item->tensor->type && item->add == 0) {
        memcpy(out, row, b->out_row_bytes);
        return;
    }
    mu_codec_decode(item->tensor->type, row, values, item->cols);
    for (uint64_t j = 0; item->add != 0 && j < item->cols; j++)
        values[j] += item->add;
    mu_codec_encode(item->type, values, out, item->cols);
}

static void convert_rows(void *arg, unsigned member)
{
    const struct batch *b = arg;
    const struct item *item = b->item;
    const struct mu_tensor *t = item->tensor;
    const uint64_t row_bytes = mu_tensor_row_bytes(t);
    float *values = b->values + member * item->cols;
    uint8_t *scratch = b->stored ? b->stored + member * PIECE_ROWS * row_bytes : NULL;
    uint32_t piece;
    while ((piece = mu_team_claim(b->c->team)) < MU_CEIL_DIV(b->n, PIECE_ROWS)) {
        uint32_t first = piece * PIECE_ROWS, n = MU_MIN(PIECE_ROWS, b->n - first);
        const uint8_t *row = NULL;
        for (uint32_t i = first; i < first + n; i++) {
            if (item->swap_heads > 0)
                row = mu_tensor_rows(t, source_row(item, b->first + i), 1, scratch);
            else
                row = i == first ? mu_tensor_rows(t, b->first + i, n, scratch) : row + row_bytes;
            convert_row(b, row, i, values);
        }
    }
}

static void show_progress(const struct conversion *c)
{
    char a[MU_BYTES_TEXT], b[MU_BYTES_TEXT];
    if (mu_cli_fancy())
        mu_cli_say("\rconverting %s of %s (%.0f %%)  ", mu_format_bytes(c->bytes_read, a),
                   mu_format_bytes(c->bytes_all, b),
                   100.0 * (double)c->bytes_read / (double)MU_MAX(c->bytes_all, 1u));
}

/* A vector whose order matters (the bias of q or k) is a column of rows to the permutation. */
static struct item as_rows(struct item item)
{
    if (item.tensor->n_dims == 1 && item.swap_heads > 0) {
        item.rows = item.cols;
        item.cols = 1;
    }
    return item;
}

static mu_status convert_vector(struct conversion *c, const struct item *item, struct mu_err *err)
{
    const struct mu_tensor *t = item->tensor;
    struct item rows = as_rows(*item);
    uint64_t n = item->cols, bytes = mu_tensor_row_bytes(t);
    uint8_t *stored = mu_alloc(bytes);
    float *values = mu_alloc(2 * n * sizeof *values);
    mu_status status = stored && values ? MU_OK : mu_fail_memory(err, 2 * n * sizeof *values);
    if (status == MU_OK) {
        mu_codec_decode(t->type, mu_tensor_rows(t, 0, 1, stored), values, n);
        for (uint64_t i = 0; i < n; i++)
            values[n + i] = values[rows.swap_heads ? source_row(&rows, i) : i] + item->add;
        status = mu_gguf_out_bytes(c->out, values + n, n * sizeof *values, err);
    }
    mu_free(stored);
    mu_free(values);
    return status;
}

static mu_status convert_matrix(struct conversion *c, const struct item *item, struct mu_err *err)
{
    uint64_t out_row_bytes, batch_rows = MU_MAX(BATCH_BYTES / (item->cols * sizeof(float)), 1u);
    batch_rows = MU_MIN(batch_rows, MU_MAX(item->rows, 1u));
    unsigned threads = mu_team_size(c->team);
    if (!mu_dtype_bytes(item->type, item->cols, &out_row_bytes))
        return mu_fail(err, MU_E_INTERNAL, "tensor %s has no whole blocks", item->name);
    struct batch b = {.c = c, .item = item, .out_row_bytes = out_row_bytes};
    b.values = mu_alloc(threads * item->cols * sizeof *b.values);
    b.out = mu_alloc(batch_rows * out_row_bytes);
    if (!item->tensor->data)
        b.stored = mu_alloc(threads * PIECE_ROWS * mu_tensor_row_bytes(item->tensor));
    mu_status status = b.values && b.out && (item->tensor->data || b.stored)
                           ? MU_OK
                           : mu_fail_memory(err, batch_rows * out_row_bytes);
    for (; status == MU_OK && b.first < item->rows; b.first += b.n) {
        b.n = (uint32_t)MU_MIN(batch_rows, item->rows - b.first);
        mu_team_run(c->team, convert_rows, &b);
        status = mu_gguf_out_bytes(c->out, b.out, b.n * out_row_bytes, err);
        if (status == MU_OK && mu_cli_interrupted())
            status = mu_fail(err, MU_E_INTERRUPTED, "interrupted, nothing was written");
    }
    mu_free(b.values);
    mu_free(b.out);
    mu_free(b.stored);
    return status;
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
        status = MU_OK;
    }
    if (status != MU_OK) *err = why;
    mu_text_fini(&notes);
    mu_tokenizer_spec_destroy(spec);
    return status;
}

static mu_status write_out(struct conversion *c, const char *path, bool quiet, struct mu_err *err)
{
    MU_TRY(mu_gguf_out_create(path, &c->out, err));
    if (c->config->names == MU_NAMES_HF) MU_TRY(carry_tokenizer(c, quiet, err));
    mu_gguf_out_metadata_of(c->out, c->file);
    for (uint32_t i = 0; i < c->n_items; i++)
        mu_gguf_out_tensor(c->out, c->items[i].name, c->items[i].type, c->items[i].tensor->n_dims,
                           c->items[i].tensor->dims);
    MU_TRY(mu_gguf_out_begin(c->out, err));
    for (uint32_t i = 0; i < c->n_items; i++) {
        const struct item *item = &c->items[i];
        uint64_t row_bytes = 0;
        MU_TRY(item->tensor->n_dims < 2 ? convert_vector(c, item, err)
                                        : convert_matrix(c, item, err));
        (void)mu_dtype_bytes(item->type, item->cols, &row_bytes);
        c->bytes_read += item->tensor->n_bytes;
        c->bytes_written += row_bytes * item->rows;
        if (!quiet) show_progress(c);
    }
    return mu_gguf_out_commit(c->out, err);
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
    if (o->weights && !o->quiet) mu_session_say_stand_ins(c->file, type, true);
    MU_TRY(mu_team_create(threads, NULL, &c->team, err));
    mu_cli_catch_interrupts(true);
    MU_TRY(write_out(c, in->result->operands[1], o->quiet, err));
    char a[MU_BYTES_TEXT], b[MU_BYTES_TEXT];
    if (!o->quiet)
        mu_cli_say("%s%s: %u tensors, %s from %s\n", mu_cli_fancy() ? "\r\033[K" : "",
                   in->result->operands[1], c->n_items, mu_format_bytes(c->bytes_written, a),
                   mu_format_bytes(c->bytes_read, b));
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
