/*
 * linear of a CPU family: which panels and tiles make up a piece of work. Included by the family's
 * file.
 */
#include "kernel/cpu/tiles.h"

#define PANEL_CELLS   16 /* widened at once: 20 KiB that stay in the first cache */
#define PANEL_COLUMNS (PANEL_CELLS * MU_CELL)
#define PARTS         512 /* rows times segments whose sums are kept at once: 64 KiB of stack */
#define BATCH_MAX     256 /* rows whose activations should stay in the second cache */
#define FEW_ROWS      (2 * GROUP_ROWS) /* at most, for which no panel is worth making; measured */

/* A row tile of outputs and a batch of activation rows. */
struct work {
    const struct mu_linear_args *a;
    const struct mu_weight *w;
    struct mu_packed packed;
    struct mu_cell_form form;
    uint32_t group;       /* the first of the tile's two */
    uint32_t row, n_rows; /* the batch */
};

static const uint8_t *group_at(const struct work *k, unsigned g)
{
    return (const uint8_t *)k->w->data + (k->group + g) * k->packed.group_bytes;
}

static const char *row_at(const struct work *k, uint32_t row)
{
    return (const char *)k->a->x + (k->row + row) * k->a->x_stride;
}

static void panel_cells(const struct work *k, unsigned g, uint32_t first, uint32_t n,
                        struct mu_cell *out)
{
    const uint8_t *group = group_at(k, g);
    if (k->packed.lanes)
        group_widen(k->w->type, group, group + k->packed.scale_offset, first, n, out);
    else
        mu_cpu_cells_from_stored(k->w, &k->packed, k->group + g, first, n, out);
}

/* Columns [first, end) of the slice, whole blocks of activations, for few rows: weights are read
 * at memory's speed, and what a tile has read, the next one finds in a cache. */
static void segment_few(const struct work *k, uint32_t first, uint32_t end, struct part *parts)
{
    uint32_t x_first = first / MU_CELL, cell = k->packed.skip / MU_CELL + x_first;
    for (unsigned g = 0; g < 2; g++) {
        const uint8_t *group = group_at(k, g);
        for (uint32_t r = 0, size = 0; r < k->n_rows; r += group_tiles[size].rows) {
            while (group_tiles[size].rows > k->n_rows - r)
                size++;
            group_tiles[size].run(
                k->w->type, group, group + k->packed.scale_offset, cell, (end - first) / MU_CELL,
                row_at(k, r) + x_first * sizeof(struct q8_block), k->a->x_stride, parts + r, g);
        }
    }
}

/* The same for many rows: adds to `parts`. */
static void segment_int(const struct work *k, uint32_t first, uint32_t end, struct part *parts)
{
    struct mu_cell panel[2][PANEL_CELLS];
    uint32_t skip = k->packed.skip / MU_CELL, x_first = first / MU_CELL,
             n = (end - first) / MU_CELL;
    for (uint32_t c = 0, m; c < n; c += m) {
        m = MU_MIN(n - c, (uint32_t)PANEL_CELLS);
        for (unsigned g = 0; g < 2; g++)
            panel_cells(k, g, skip + x_first + c, m, panel[g]);
        for (uint32_t r = 0, rows; r < k->n_rows; r += rows) {
            uint32_t left = k->n_rows - r; /* tiles as equal as can be */
            rows = MU_CEIL_DIV(left, MU_CEIL_DIV(left, (uint32_t)INT_ROWS));
            int_tile_fn *run = int_tiles[rows - 1][k->form.kind][k->form.halves];
            for (unsigned g = 0; g < 2; g += GROUPS)
                run(k->form.offset, panel[g], PANEL_CELLS, m,
                    row_at(k, r) + (x_first + c) * sizeof(struct q8_block), k->a->x_stride,
                    parts + r, g);
        }
    }
}

static void panel_run(const struct work *k, enum panel_kind kind, const uint8_t *const *panel,
                      uint32_t n, size_t x_offset, struct part *parts)
{
    for (uint32_t r = 0, size = 0; r < k->n_rows;) {
        while (float_tiles[size].rows > k->n_rows - r)
            size++;
        for (unsigned g = 0; g < 2; g += GROUPS)
            float_tiles[size].run[kind](panel + g, n, row_at(k, r) + x_offset, k->a->x_stride,
                                        parts + r, g);
        r += float_tiles[size].rows;
    }
}

static void segment_plain(const struct work *k, uint32_t first, uint32_t end, struct part *parts)
{
    enum panel_kind kind = k->w->type == MU_DTYPE_F32   ? PANEL_F32
                           : k->w->type == MU_DTYPE_F16 ? PANEL_F16
                           : k->w->form == MU_FORM_BF16 ? PANEL_BF16_PAIRS
                                                        : PANEL_BF16;
    size_t column_bytes = kind == PANEL_F32 ? 64 : 32, x_bytes = kind == PANEL_BF16_PAIRS ? 2 : 4;
    for (uint32_t c = first, m; c < end; c += m) {
        m = k->n_rows == 1 ? end - first : MU_MIN(end - c, (uint32_t)PANEL_COLUMNS);
        const uint8_t *panel[2] = {group_at(k, 0) + c * column_bytes,
                                   group_at(k, 1) + c * column_bytes};
        panel_run(k, kind, panel, m, c * x_bytes, parts);
    }
}

/* Widens a cell exactly as mu_codec_decode does. */
static void cell_to_floats(const struct mu_cell *cell, struct mu_cell_form form, float *out)
{
    vf offset = vf_set1((float)form.offset);
    for (unsigned i = 0; i < MU_CELL; i++) {
        unsigned half = form.halves ? i / 16 : 0;
        vi code = vi_and(vi_srl(vi_load(cell->code[i / 4]), 8 * (i % 4)), vi_set1(255));
        vf w = vf_mul(vf_sub(vf_from_int(code), offset), vf_load(cell->scale[half]));
        if (mu_cell_min(form.kind)) w = vf_sub(w, vf_load(cell->min[half]));
        vf_store(out + MU_LANES * i, w);
    }
}

enum { CELLS = PANEL_CELLS / 2 };

static void panel_floats(const struct work *k, unsigned g, uint32_t first, uint32_t n, float *out)
{
    const struct mu_weight *w = k->w;
    struct mu_cell cells[CELLS];
    switch (mu_coding(w->type)) {
    case MU_CODING_NUMBERS:
        group_numbers(w->type, group_at(k, g), group_at(k, g) + k->packed.scale_offset, first, n,
                      out);
        break;
    case MU_CODING_COLUMNS:
        group_columns(w->type, group_at(k, g), mu_cpu_table(w, &k->packed, k->group + g),
                      w->columns->group_of + w->col_first / MU_CELL * MU_CELL, first, n, out);
        break;
    case MU_CODING_INTEGERS:
    case MU_CODING_PLAIN:
        panel_cells(k, g, first, n, cells);
        for (uint32_t i = 0; i < n; i++)
            cell_to_floats(&cells[i], k->form, out + i * MU_CELL * MU_LANES);
        break;
    }
}

/* Quantised weights, fp32 activations: a few cells at a time become plain numbers. */
static void segment_widened(const struct work *k, uint32_t first, uint32_t end, struct part *parts)
{
    float wide[2][CELLS * MU_CELL * MU_LANES];
    uint32_t skip = k->packed.skip;
    for (uint32_t c = first, m; c < end; c += m) {
        uint32_t cell = (skip + c) / MU_CELL, inside = (skip + c) % MU_CELL;
        m = MU_MIN(CELLS * MU_CELL - inside, end - c);
        uint32_t n = MU_CEIL_DIV(inside + m, MU_CELL);
        for (unsigned g = 0; g < 2; g++)
            panel_floats(k, g, cell, n, wide[g]);
        const uint8_t *panel[2] = {(const uint8_t *)(wide[0] + inside * MU_LANES),
                                   (const uint8_t *)(wide[1] + inside * MU_LANES)};
        panel_run(k, PANEL_F32, panel, m, c * sizeof(float), parts);
    }
}

static void outputs_store(const struct work *k, unsigned subtree, const struct part *parts)
{
    const struct mu_linear_args *a = k->a;
    uint32_t first = k->group * MU_LANES, n = MU_MIN(k->w->rows - first, (uint32_t)MU_ROW_TILE);
    for (uint32_t r = 0; r < k->n_rows; r++) {
        float *y = a->y + (k->row + r) * a->y_stride + subtree * a->y_subtree + first;
        if (a->bias)
            for (uint32_t i = 0; i < n; i++)
                y[i] = parts[r].sum[i] + a->bias[first + i];
        else
            memcpy(y, parts[r].sum, n * sizeof *y);
    }
}

/* Adds a segment's sums to rows that others add to as well. */
static void outputs_add(const struct work *k, unsigned segment, const struct part *parts)
{
    const struct mu_linear_args *a = k->a;
    uint32_t first = k->group * MU_LANES, n = MU_MIN(k->w->rows - first, (uint32_t)MU_ROW_TILE);
    for (uint32_t r = 0; r < k->n_rows; r++) {
        float *y = a->y + a->y_rows[k->row + r] * a->y_stride + segment * a->y_subtree + first;
        for (uint32_t i = 0; i < n; i++)
            y[i] += parts[r].sum[i];
    }
}

/* Adds segments [first, end) of the tree, whose parts begin at `parts`, into the first's. */
static void parts_join(struct part *parts, uint32_t n_rows, uint32_t first, uint32_t end)
{
    if (end - first < 2) return;
    uint32_t middle = mu_segment_split(first, end);
    struct part *right = parts + (size_t)(middle - first) * n_rows;
    parts_join(parts, n_rows, first, middle);
    parts_join(right, n_rows, middle, end);
    for (uint32_t r = 0; r < n_rows; r++)
        for (unsigned i = 0; i < MU_ROW_TILE; i += MU_LANES)
            vf_store(parts[r].sum + i,
                     vf_add(vf_load(parts[r].sum + i), vf_load(right[r].sum + i)));
}

static void tile_compute(const struct work *k, const struct mu_cut *cut, struct part *parts)
{
    struct mu_run trees[MU_SUBTREES_MAX];
    bool few = k->w->form == MU_FORM_Q8 && k->packed.lanes && k->n_rows <= FEW_ROWS;
    for (uint32_t i = 0; i < cut->run.end - cut->run.first; i++) {
        struct part *own = parts + (size_t)i * k->n_rows;
        uint32_t first = cut->border[i], end = cut->border[i + 1];
        if (!few) memset(own, 0, k->n_rows * sizeof *own);
        if (few)
            segment_few(k, first, end, own);
        else if (k->w->form == MU_FORM_Q8)
            segment_int(k, first, end, own);
        else if (mu_coding(k->w->type) != MU_CODING_PLAIN)
            segment_widened(k, first, end, own);
        else
            segment_plain(k, first, end, own);
    }
    if (k->a->y_rows) {
        for (uint32_t i = 0; i < cut->run.end - cut->run.first; i++)
            outputs_add(k, i, parts + (size_t)i * k->n_rows);
        return;
    }
    unsigned n_trees = mu_segment_subtrees(cut->n, cut->run, trees);
    for (unsigned t = 0; t < n_trees; t++) {
        struct part *own = parts + (size_t)(trees[t].first - cut->run.first) * k->n_rows;
        parts_join(own, k->n_rows, trees[t].first, trees[t].end);
        outputs_store(k, t, own);
    }
}

static void linear(const struct mu_linear_args *a, uint32_t first, uint32_t end)
{
    const struct mu_weight *w = a->weight;
    struct mu_cut whole = {.n = 1, .run = {0, 1}, .border = {0, w->cols}};
    const struct mu_cut *cut = a->cut ? a->cut : &whole;
    struct part parts[PARTS];
    uint32_t batch = MU_MIN(PARTS / (cut->run.end - cut->run.first), (uint32_t)BATCH_MAX);
    struct work k = {.a = a,
                     .w = w,
                     .packed = mu_cpu_packed(w->type, w->col_first, w->cols),
                     .form = mu_cpu_cell_form(w->type)};
    for (k.row = 0; k.row < a->n_rows; k.row += k.n_rows) {
        k.n_rows = MU_MIN(a->n_rows - k.row, batch);
        for (uint32_t o = first; o < end; o += MU_ROW_TILE) {
            k.group = o / MU_LANES;
            tile_compute(&k, cut, parts);
        }
    }
}
