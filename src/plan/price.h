/*
 * What the operations of a shard cost: the program's list, each operation with the bytes that it
 * moves and the operations that it does, and the seconds that a device takes for them.
 *
 * Layers that are alike are priced once. Pure: no I/O, no clock. Any thread; a shard is read-only
 * once made.
 */
#ifndef MU_PLAN_PRICE_H
#define MU_PLAN_PRICE_H

#include "plan/weights.h"

/* The matrices of a layer, and the head: products that are timed apart, since their shapes decide
 * how evenly threads share them. */
enum mu_plan_matrix {
    MU_PLAN_QKV,
    MU_PLAN_O,
    MU_PLAN_GLU,
    MU_PLAN_DOWN,
    MU_PLAN_HEAD,
    MU_PLAN_MATRICES
};

/* One operation, freed of tensors and buffers. */
struct mu_plan_work {
    enum mu_op_kind kind;
    enum mu_plan_matrix matrix;
    bool out_rows;           /* works on the rows whose logits are wanted */
    bool experts;            /* its weights are all experts of a layer, of which some are used */
    double values;           /* multiplied with each row, of one expert */
    double bytes;            /* of weights, of one expert */
    double row_bytes;        /* of activations read and written a row */
    double kv_values;        /* of ATTEND: read for each key */
    double turned;           /* of ROPE_KV: numbers of a row's heads */
    uint32_t window;         /* of ATTEND: keys seen at most, 0: all */
    enum mu_probe_rate rate; /* of the product */
    double bits;             /* of a weight */
    enum mu_home home;       /* where its matrices lie */
};

/* One tensor-parallel rank of a whole model; pipeline stages are runs of its layers. */
struct mu_plan_shard {
    uint32_t n_layers, tp;
    struct mu_plan_work *works; /* before the layers, each kind of layer, after them */
    uint32_t *first;            /* [n_classes + 3] where each of those groups begins */
    uint32_t n_classes;
    uint32_t *layer_class;          /* [n_layers] */
    double *layer_bytes;            /* [n_layers] of weights */
    double head_bytes, embed_bytes; /* of the first and the last stage; */
    bool tied;                      /* one tensor, which a first and last stage has once */
    double kv_values;               /* of one token in one layer */
    uint32_t *layer_window;         /* [n_layers] */
    double row_bytes;               /* of a step's buffers, for each row */
    double out_bytes;               /* more for each row whose logits are wanted */
    double hidden;                  /* values that pass from stage to stage, a row */
    double experts, experts_used;   /* of a layer that has them; 0: none */
};

/* From the program of mu_plan_program, which need not live on. */
mu_status mu_plan_shard_make(const struct mu_config *config, const struct mu_plan_weights *weights,
                             const struct mu_program *program, struct mu_arena *arena,
                             struct mu_plan_shard *out, struct mu_err *err);

/* The same of a stage that has any parts of a model, as its one run of layers: of the program of
 * its shard. What is elsewhere counts with the two slots that it comes through. */
mu_status mu_plan_stage_make(const struct mu_config *config, const struct mu_plan_weights *weights,
                             const struct mu_program *program, struct mu_arena *arena,
                             struct mu_plan_shard *out, struct mu_err *err);

struct mu_plan_timed; /* costs.h */

/* Where it runs. */
struct mu_plan_place {
    const struct mu_probe_device *device;
    const struct mu_probe_link *link; /* to the others of its tensor-parallel group */
    const struct mu_probe_engine *engine;
    double kv_bytes;                   /* of one cached value */
    const struct mu_plan_timed *timed; /* operations as they were timed there; NULL: by limits */
};

/* What one step does: a token of each of `streams` sequences that have `context` tokens, and
 * `chunk` tokens of a prompt of which `past` were read before. */
struct mu_plan_step {
    double streams, context, chunk, past;
};

/* Seconds of layers [first, end), with what stands before the first and behind the last. Without
 * the engine's cost of a step. */
double mu_plan_seconds(const struct mu_plan_shard *shard, const struct mu_plan_place *place,
                       const struct mu_plan_step *step, uint32_t first, uint32_t end);

/* How weights that are elsewhere come to the device: a thread fills one slot while the other is
 * read (docs/internals/staging.md). */
struct mu_plan_staging {
    double fill_s[MU_HOME_COUNT]; /* one byte from there, by the team */
    double load_s[MU_HOME_COUNT]; /* of each load, beside its bytes */
    bool core_left;               /* for the thread; without, the team fills and then computes */
    uint32_t n_threads;           /* of the team */
};

/* What a step of such a stage waits for weights, beside mu_plan_seconds. */
double mu_plan_staged_seconds(const struct mu_plan_shard *shard, const struct mu_plan_place *place,
                              const struct mu_plan_step *step,
                              const struct mu_plan_staging *staging);

/* Bytes of weights of such a stage. */
double mu_plan_stage_weights(const struct mu_plan_shard *shard, uint32_t first, uint32_t end);
/* Cached values of `streams` sequences of `tokens` in it. */
double mu_plan_stage_kv(const struct mu_plan_shard *shard, uint32_t first, uint32_t end,
                        double streams, double tokens);
/* Seconds to hand the rows of a step to the next stage, which waits for them awake. */
double mu_plan_hand_over(const struct mu_plan_shard *shard, const struct mu_probe_engine *engine,
                         const struct mu_probe_link *link, double rows);
/* What it takes longer when the next stage has waited for `waited_s`. */
double mu_plan_wake(const struct mu_probe_link *link, double waited_s);

#endif
