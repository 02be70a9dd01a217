/*
 * A rank: one device, the program of its shard, its weights, cache and buffers, and the thread
 * whose team executes steps. Only the rank's own thread touches what is in here once it runs; the
 * engine reads `done`, `state` with what follows it and, for a finished step, the logits.
 */
#ifndef MU_ENGINE_RANK_H
#define MU_ENGINE_RANK_H

#include "comm/comm.h"
#include "engine/engine.h"
#include "engine/step.h"

#define MU_GLU_ROWS    128  /* whose gates and ups are made before they are activated, */
#define MU_GLU_VALUES  8192 /* and of either how many: they stay in the first caches */
#define MU_UNFOLD_ROWS 32   /* rows whose values one head makes at once */

/* What all ranks of an engine share; written before they start. */
struct mu_rank_common {
    const struct mu_model_file *file;
    const struct mu_config *config;
    struct mu_device *host; /* what lies in the host's memory is counted here; NULL: nothing does */
    const struct mu_kernels *kernels;
    enum mu_compute compute;
    enum mu_dtype kv_type;
    enum mu_dtype weights; /* see mu_engine_options */
    uint32_t context;
    uint64_t rope_context;
    bool profile;
    uint32_t n_blocks; /* of the KV cache; block 0 is never given out */
    uint32_t n_slots;  /* steps in flight */
    struct mu_step_layout layout;
    _Atomic uint64_t loaded_bytes;

    uint32_t *slots[MU_STEPS_MAX]; /* the words of step serial s lie in slot s % n_slots */
    _Alignas(MU_CACHE_LINE) _Atomic uint32_t posted; /* steps handed out; grows */
    _Atomic uint32_t stop;                           /* set before `posted` grows once more */
};

/* How an operation's buffers look on this rank. */
struct mu_op_forms {
    enum mu_form in;  /* of the activations that a linear reads */
    enum mu_form out; /* in which the normed or activated output is stored for its reader */
};

/* The slots of a step, by expert: made anew by each layer's MU_OP_GROUP. */
struct mu_groups {
    uint32_t *n_active;
    uint32_t *active; /* experts that have slots, ascending */
    uint32_t *first;  /* [experts + 1] */
    uint32_t *row;    /* [slots] */
    float *weight;    /* [slots] */
};

#define MU_PIECES_A_THREAD 12 /* enough that a late thread leaves little to wait for */

/* Attention of rows that decode, shared out by runs of their keys: what runs leave, and how many
 * are done of those that see the same with the same heads. */
struct mu_runs {
    float *partials; /* [row][run][head]: mu_attend_run.partials */
    _Atomic uint32_t *done;
};

struct mu_profile; /* profile.h */

struct mu_rank {
    struct mu_rank_common *common;
    const struct mu_device_spec *spec;
    struct mu_device *device;
    struct mu_program *program;
    struct mu_arena *arena;                    /* program, weights table */
    struct mu_comm_group *tp_group, *pp_group; /* NULL when alone in them */
    struct mu_comm *tp, *pp;
    unsigned process;         /* of the world; 0 when there is none */
    bool here;                /* it is this one: the rank has a device, memory and a thread */
    struct mu_remote *remote; /* who hears of its steps in another process; NULL: nobody */
    unsigned number;          /* in its replica */
    struct mu_team *team;
    struct mu_thread thread;

    struct mu_weight *weights; /* [program->n_tensors]; vectors are fp32 data */
    void **away;               /* [program->n_tensors]: packed in the host's memory or on the
                                  disk, or NULL */
    uint8_t *disk;             /* what is packed there, mapped */
    uint64_t disk_bytes;
    struct mu_staging *staging; /* brings what is not on the device; NULL: all is */
    struct mu_op_forms *forms;  /* [program->n_ops] */
    struct mu_cut cuts[MU_CUT_COUNT];
    struct mu_profile *profile; /* NULL unless asked for */
    struct mu_groups groups;
    uint64_t groups_bytes;
    struct mu_runs runs;
    uint64_t partials_bytes, runs_bytes; /* of runs.partials; of all of it */
    /* [layer][K, V][block][kv head][token][key_dim], but K turned: [key_dim][token]; where the key
     * is the value, one part a layer, not turned */
    void *cache;
    uint64_t cache_bytes, cache_part_bytes;   /* all; one layer's K or V */
    float *cos, *sin, *cos_local, *sin_local; /* [context][rope width / 2] */
    uint64_t rope_bytes;                      /* of one table */
    void *buffers[MU_BUFFER_COUNT];
    size_t row_bytes[MU_BUFFER_COUNT]; /* of the formed buffers: the widest form in use */
    uint64_t buffer_bytes[MU_BUFFER_COUNT];
    float *scratch; /* [threads][scratch_floats] */
    size_t scratch_floats;
    uint64_t scratch_bytes;

    _Alignas(MU_CACHE_LINE) _Atomic uint32_t done; /* steps finished; grows */
    _Atomic uint32_t state;                        /* enum mu_rank_state */
    /* Its own until the state says that it failed; then nothing of it changes any more. */
    mu_status status;
    struct mu_err err;
    uint32_t failed_in; /* step */
};

enum mu_rank_state { MU_RANK_NEW, MU_RANK_READY, MU_RANK_FAILED };

static inline bool mu_rank_failed(const struct mu_rank *rank)
{
    return atomic_load_explicit(&rank->state, memory_order_acquire) == MU_RANK_FAILED;
}

/* Builds the program and decides forms and sizes; allocates nothing on the device. */
mu_status mu_rank_init(struct mu_rank *rank, struct mu_rank_common *common,
                       const struct mu_device_spec *spec, const struct mu_shard *shard,
                       struct mu_err *err);
void mu_rank_fini(struct mu_rank *rank);

/* Bytes that the rank will take of its device, by purpose. */
void mu_rank_need(const struct mu_rank *rank, uint64_t bytes[MU_PURPOSE_COUNT]);
/* Of matrices that lie there (and on the device: of vectors). */
uint64_t mu_rank_weight_bytes(const struct mu_rank *rank, enum mu_home home);
/* KV bytes of one block on this rank. */
uint64_t mu_rank_block_bytes(const struct mu_rank *rank);

/* On the rank's own thread: memory and weights. */
mu_status mu_rank_load(struct mu_rank *rank, struct mu_err *err);

/* load.c: a tensor of the program in the file, checked; the type in which a matrix is held, its own
 * or the wanted one where that is narrower; and all of them loaded. */
mu_status mu_rank_find_tensor(const struct mu_rank *rank, const struct mu_tensor_use *use,
                              const struct mu_tensor **out, struct mu_err *err);
enum mu_dtype mu_rank_held_type(const struct mu_rank *rank, const struct mu_tensor_use *use,
                                const struct mu_tensor *t);
mu_status mu_rank_load_weights(struct mu_rank *rank, struct mu_err *err);

/*
 * staging.c: matrices that lie in the host's memory or on the disk come to the device through a
 * buffer of two slots, an operation's at a time. A thread fills one while the other is read, in the
 * order of the program and on into the next step; members that have to wait help it. Init decides
 * sizes, load allocates and starts the thread.
 */
mu_status mu_staging_init(struct mu_rank *rank, struct mu_err *err);
uint64_t mu_staging_bytes(const struct mu_rank *rank);
mu_status mu_staging_load(struct mu_rank *rank, struct mu_err *err);
void mu_staging_fini(struct mu_rank *rank);
/* Inside a step, by every member: before operation i, and by one member once all are done with it.
 */
void mu_staging_await(struct mu_rank *rank, uint32_t serial, uint32_t i);
void mu_staging_done(struct mu_rank *rank, uint32_t serial, uint32_t i);
/* The values of a row of a table that is not on the device. */
void mu_staging_row(const struct mu_rank *rank, uint32_t tensor, uint32_t row, float *out);

/* Executes the step in these words; called by the rank's thread, returns MU_E_PEER when another
 * rank gave up. */
mu_status mu_rank_execute(struct mu_rank *rank, uint32_t serial);

/* The logits of the step's out rows: row i at [i * vocab]. */
static inline float *mu_rank_logits(const struct mu_rank *rank, uint32_t serial)
{
    size_t one = (size_t)rank->common->layout.max_out * rank->common->config->vocab;
    return (float *)rank->buffers[MU_BUFFER_LOGITS] + serial % rank->common->n_slots * one;
}

#endif
