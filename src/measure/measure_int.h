/* What the files that time operations share. Inside the room. */
#ifndef MU_MEASURE_MEASURE_INT_H
#define MU_MEASURE_MEASURE_INT_H

#include "device/device.h"
#include "measure/measure.h"

#define MU_TIMED_PIECES_A_THREAD 12 /* as the engine cuts a product */

#define MU_TIMED_ROOMS_MAX 2048

/* One measurement of a team: where all memory is from, and the costs that are filled. */
struct mu_timed {
    const struct mu_kernels *k;
    const struct mu_measure_shape *shape;
    struct mu_team *team;
    struct mu_device *device;
    struct mu_plan_costs *costs;
    const struct mu_measure_progress *progress;
    unsigned done;
    struct mu_timed_room {
        void *memory;
        uint64_t bytes;
    } * rooms;
    unsigned n_rooms;
};

/* Cleared memory as a device's is; all of it is given back at once. */
mu_status mu_timed_alloc(struct mu_timed *timed, uint64_t bytes, void **out, struct mu_err *err);
void mu_timed_free(struct mu_timed *timed);

/* One operation: its pieces are shared out among the team, which meets at the end of each pass. */
struct mu_timed_op {
    void (*piece)(void *arg, uint32_t pass, uint32_t piece, unsigned member);
    void *arg;
    uint32_t n_pieces;
};

/* Seconds of a pass without the meeting: the median of several rounds of passes, since a run is
 * not faster than it usually is. */
double mu_timed_seconds(struct mu_timed *timed, const struct mu_timed_op *op);

/* One more part is done. */
void mu_timed_tell(struct mu_timed *timed);

#define MU_ALONE_ROUNDS 9

/* A row of mu_measure_alone_...; sorts the values. No value: `why` says why. */
struct mu_timed_row {
    const char *figure, *device, *peer, *alike, *why; /* NULL where there is none */
    double *values;
    unsigned n;
    bool fault;
};
mu_status mu_timed_row_add(json_t *rows, const struct mu_timed_row *row, struct mu_err *err);

/* multiply.c: a kernel `multiply(out, times)` in PTX. Each thread of a block multiplies and adds
 * MU_MULTIPLY_FMAS times `times` often, and writes a float to `out`. */
#define MU_MULTIPLY_FMAS 64
extern const char mu_multiply_ptx[];

/* One pass of a team over memory of whole MiB, larger than any cache; the second in bytes a second.
 * Fill it first: memory lies near whom wrote it first. */
void mu_timed_fill(struct mu_team *team, void *memory, size_t bytes);
double mu_timed_read(struct mu_team *team, const void *memory, size_t bytes);
/* Sorts them. */
double mu_timed_median(double *values, unsigned n);

/* Values that are neither 0 nor large; which ones does not matter to the time. */
float mu_timed_value(size_t i);

/* products.c, attention.c, rows.c (and copies): fill their part of the costs. */
mu_status mu_timed_products(struct mu_timed *t, struct mu_err *err);
mu_status mu_timed_attention(struct mu_timed *t, struct mu_err *err);
mu_status mu_timed_rows(struct mu_timed *t, struct mu_err *err);
mu_status mu_timed_copies(struct mu_timed *t, struct mu_err *err);

#endif
