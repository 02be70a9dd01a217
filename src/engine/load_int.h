/* What load.c, which packs weights once, and staging.c, which packs some of them again and again,
 * share. Only they may include this. */
#ifndef MU_ENGINE_LOAD_INT_H
#define MU_ENGINE_LOAD_INT_H

#include "engine/rank.h"

/* How the stored rows of one matrix become the packed ones of a weight. */
struct mu_packing {
    struct mu_weight *weight;
    const struct mu_kernels *kernels;
    const struct mu_tensor *tensor;
    struct mu_use_rows rows;
    uint64_t held_bytes; /* of a requantised row; 0: none is */
    size_t held;         /* bytes of requantised rows in the room */
    size_t room_bytes;   /* what a thread works in, 64-byte aligned */
};

mu_status mu_packing_init(struct mu_packing *packing, struct mu_rank *rank, uint32_t tensor,
                          struct mu_err *err);
/* Pieces of MU_USE_ROWS rows each. */
static inline uint32_t mu_packing_pieces(const struct mu_packing *packing)
{
    return MU_CEIL_DIV(packing->weight->rows, MU_USE_ROWS);
}
/* Packs one piece; returns the rows it has. */
uint32_t mu_packing_piece(const struct mu_packing *packing, uint32_t piece, uint8_t *room);
/* The values of one row, as the weight would hold them. */
void mu_packing_row(const struct mu_packing *packing, uint32_t row, uint8_t *room, float *out);

#endif
