/*
 * The step: what all ranks compute next, as one block of plain 32-bit words with a fixed layout, so
 * that the same bytes can be read by a thread, sent to a process or copied to a GPU.
 *
 * A step is a ragged list of (sequence, its new tokens). Row r is one token: its id, its position,
 * and which of the step's sequences it belongs to. Rows of one sequence are adjacent and in order.
 * out_rows lists the rows whose logits are wanted. tables[s] lists the cache blocks of sequence s.
 */
#ifndef MU_ENGINE_STEP_H
#define MU_ENGINE_STEP_H

#include "base/compiler.h"

struct mu_step_layout {
    uint32_t max_rows, max_sequences, max_out, max_blocks; /* blocks: of one sequence */
};

enum { MU_STEP_SERIAL, MU_STEP_ROWS, MU_STEP_SEQUENCES, MU_STEP_OUT, MU_STEP_HEADER = 16 };

struct mu_step {
    uint32_t *header;                      /* MU_STEP_... */
    uint32_t *ids, *positions, *sequences; /* [max_rows] */
    uint32_t *out_rows;                    /* [max_out] */
    uint32_t *tables;                      /* [max_sequences][max_blocks] */
};

static inline uint64_t mu_step_words(const struct mu_step_layout *l)
{
    return MU_STEP_HEADER + 3 * (uint64_t)l->max_rows + l->max_out +
           (uint64_t)l->max_sequences * l->max_blocks;
}

static inline struct mu_step mu_step_view(const struct mu_step_layout *l, uint32_t *words)
{
    struct mu_step s = {.header = words, .ids = words + MU_STEP_HEADER};
    s.positions = s.ids + l->max_rows;
    s.sequences = s.positions + l->max_rows;
    s.out_rows = s.sequences + l->max_rows;
    s.tables = s.out_rows + l->max_out;
    return s;
}

#endif
