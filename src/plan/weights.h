/*
 * What a weight costs: bytes and kind of arithmetic of every matrix of a model, by role and layer.
 * From a file's own headers where there is one; else from the name of a format ("bf16", "awq",
 * "q4_0"), by the rules of those who publish models in it.
 *
 * Pure. Any thread; a table is read-only once made.
 */
#ifndef MU_PLAN_WEIGHTS_H
#define MU_PLAN_WEIGHTS_H

#include "model/model.h"
#include "probe/probe.h"

struct mu_plan_format {
    const char *name;
    double linear_bytes;     /* of a value of a linear's matrix, with its scales */
    double row_bytes;        /* more of each output row */
    double table_bytes;      /* of a value of embedding and head */
    double vector_bytes;     /* of norms and biases */
    enum mu_probe_rate rate; /* what activations are rounded to for the products */
    double bits;             /* nominal, of a linear's value */
    bool experts_only;       /* all else has 16 bits */
    bool blocks;             /* llama.cpp's: GGUF files hold it */
    const char *wider;       /* of the head, and of v and down in half of the layers; NULL: none */
};

/* By name, any case; the many names of one thing ("int4", "w4a16", "awq") are one format. */
const struct mu_plan_format *mu_plan_format(struct mu_str name, struct mu_err *err);
/* The one that a configuration declares, or bf16. */
const struct mu_plan_format *mu_plan_format_of(const struct mu_config *config);

/* llama.cpp reads its own block types and the plain ones, engines of hub folders all but blocks,
 * muster everything. */
bool mu_plan_engine_reads(const struct mu_probe_engine *engine,
                          const struct mu_plan_format *format);

struct mu_plan_weights {
    const struct mu_plan_format *format;
    uint32_t n_layers;
    double (
        *bytes)[MU_ROLE_COUNT]; /* of a value; [n_layers + 1], the last for what is in no layer */
    double *more_bytes;         /* [n_layers + 1] that belong to no role: routers, sinks */
    double total_bytes;         /* of the whole model, on one device */
    bool from_file;
};

/* `tensors` of the model's file, or none: then everything is as `format` says. */
mu_status mu_plan_weights_make(const struct mu_config *config, const struct mu_plan_format *format,
                               const struct mu_tensor *tensors, size_t n_tensors,
                               struct mu_arena *arena, struct mu_plan_weights *out,
                               struct mu_err *err);

/* The program of a shard, for pricing: with one expert that stands for all
 * (mu_plan_copies says for how many), in whatever format, and for architectures that the engine
 * does not know by the nearest that it does. */
mu_status mu_plan_program(const struct mu_config *config, const struct mu_shard *shard,
                          struct mu_arena *arena, struct mu_program **out, struct mu_err *err);

/* How many tensors of the model this tensor of that program stands for. */
double mu_plan_copies(const struct mu_config *config, enum mu_tensor_role role);

#endif
