/* Any JSON as config.json, and the program of one shard of that model; the first two bytes choose
 * which. What the program says of its tensors and cuts must hold together. */
#include "format/format_int.h"
#include "model/model.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_tensors(const struct mu_program *p)
{
    for (uint32_t i = 0; i < p->n_tensors; i++) {
        const struct mu_tensor_use *use = &p->tensors[i];
        uint64_t rows = use->transposed ? use->file_cols : use->file_rows;
        uint64_t cols = use->transposed ? use->file_rows : use->file_cols;
        uint32_t n = use->vector ? use->cols : use->rows;
        if (n == 0 || use->cols == 0) abort();
        if (mu_tensor_use_row(use, n - 1) >= (use->vector ? cols : rows)) abort();
        if (!use->vector && (uint64_t)use->col_first + use->cols > cols) abort();
    }
}

static void check_ops(const struct mu_program *p)
{
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const struct mu_op *op = &p->ops[i];
        for (uint32_t j = 0; j < op->n_weights; j++)
            if (op->weights[j] + MU_MAX(op->n_groups, 1u) > p->n_tensors) abort();
        if (op->n_weights && op->kind != MU_OP_EMBED && p->width[op->in] == 0) abort();
        if (op->cut != MU_CUT_NONE && p->cuts[op->cut].n == 0) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mu_config config;
    struct mu_err err = MU_ERR_INIT;
    json_t *root = NULL;
    if (size < 2) return 0;
    struct mu_str text = {(const char *)data + 2, size - 2};
    mu_config_init(&config);
    if (mu_json_parse(text, "fuzz.json", &root, &err) != MU_OK) return 0;
    if (mu_config_from_json(root, "fuzz.json", &config, &err) == MU_OK) {
        struct mu_arena *arena = mu_arena_create(64u << 20);
        if (!arena) abort();
        uint32_t tp = 1 + data[0] % 8, stages = 1 + data[1] % 4;
        struct mu_part_place *places =
            mu_arena_alloc(arena, mu_part_count(&config), sizeof *places);
        for (uint32_t i = 0; places && i < mu_part_count(&config); i++)
            places[i] = (struct mu_part_place){(uint8_t)(data[i % size] / 16 % stages),
                                               data[i % size] / 4 % MU_HOME_COUNT};
        struct mu_shard shard = {.stage = data[1] / 4 % stages,
                                 .places = places,
                                 .tp_rank = data[1] % tp,
                                 .tp_size = tp};
        struct mu_program *p;
        if (mu_program_build(&config, &shard, arena, &p, &err) == MU_OK) {
            check_tensors(p);
            check_ops(p);
        }
        mu_arena_destroy(arena);
    }
    json_decref(root);
    return 0;
}
