/*
 * prove: the same prompts under many placements, in several ways each. All bits must be equal;
 * speed and memory stand beside what was predicted. Nothing is printed here. One thread.
 */
#ifndef MU_BENCH_PROVE_H
#define MU_BENCH_PROVE_H

#include "base/text.h"
#include "bench/mapped.h"

/* Device maps of `pp` devices. */
enum mu_placement_map {
    MU_MAP_NONE,
    MU_MAP_BALANCED, /* as transformers would */
    MU_MAP_BACK,     /* every second layer comes back to a device */
    MU_MAP_SPLIT,    /* inside layers */
    MU_MAP_OFFLOAD,  /* a third of the layers each: devices, cpu, disk */
    MU_MAP_DISK,     /* all on disk */
    MU_MAP_GIVEN,    /* the request's */
    MU_MAP_COUNT
};

/* Where the model goes: dp replicas of pp stages of tp ranks; threads of each, 0: a share of the
 * cores. */
struct mu_placement {
    uint32_t tp, pp, dp, threads;
    enum mu_placement_map map; /* then tp is 1 */
};

#define MU_PLACEMENT_TEXT 48
#define MU_PLACEMENTS_MAX 64

/* "tp2xpp2xt1": degrees of 1 are left out, but for the one device "tp1"; "split3xt1": a map. */
const char *mu_placement_name(const struct mu_placement *p, char out[MU_PLACEMENT_TEXT]);
/* A list of such names, comma between. */
mu_status mu_placements_parse(const char *text, struct mu_placement *out, uint32_t *n,
                              struct mu_err *err);
/* Each degree of tensor (1-8), pipeline (1-4) and data parallelism (1-3) alone, several together,
 * several numbers of threads, and device maps; `quick`: a few of them. Degrees that this model
 * cannot have are there to be refused. `left_out` products of those degrees are not. */
void mu_placements_default(bool quick, struct mu_placement *out, uint32_t *n, uint32_t *left_out);

struct mu_prompt {
    uint32_t *ids, n;
};

/* Prompts of pseudo-random tokens, short and long, none with more than `most`. */
mu_status mu_prompts_default(uint32_t vocab, uint32_t most, struct mu_prompt **out, uint32_t *n,
                             struct mu_err *err);
void mu_prompts_destroy(struct mu_prompt *prompts, uint32_t n);

struct mu_prove_request {
    const struct mu_model_file *file;
    /* What is the same everywhere; devices, degrees, context and sequences are set here. */
    struct mu_engine_options options;
    const struct mu_prompt *prompts;
    uint32_t n_prompts;
    uint32_t max_tokens;
    const struct mu_placement *placements; /* the first that runs is what the others must equal */
    uint32_t n_placements;
    const struct mu_mapped_request *given; /* of MU_MAP_GIVEN */
    bool quick;
    /* Called before each placement and way, and now and then: false ends it. */
    bool (*go_on)(void *arg, const struct mu_placement *placement, const char *way, uint32_t done,
                  uint32_t all);
    void *go_on_arg;
};

struct mu_prove_speed {
    double prefill_tokens_per_s, decode_tokens_per_s; /* one request alone */
    double together_tokens_per_s; /* answers of all requests at once, prompts included */
};

/* One placement. */
struct mu_prove_run {
    struct mu_placement placement;
    bool refused;
    struct mu_err why;                         /* it was refused */
    uint64_t *digests;                         /* [n_prompts], of the first way */
    bool same;                                 /* as the first that ran, in all ways */
    uint32_t differs;                          /* the first prompt that does not */
    const char *differs_way;                   /* in this way */
    struct mu_prove_speed measured, predicted; /* predicted: all 0 where it cannot be had */
    double efficiency; /* of all together, against the first on as many cores */
    double load_seconds;
    struct mu_engine_memory *memory; /* predicted, by rank */
    uint64_t *high_bytes;            /* [memory->n_ranks] most that were in use */
};

struct mu_prove {
    struct mu_prove_run *runs; /* [n_runs] */
    uint32_t n_runs, n_prompts;
    bool same; /* all that ran */
    const char *family;
    struct mu_err no_prediction; /* why there is none; code MU_OK: there is */
};

/* MU_OK also when bits differ. An error when no placement could run, or a run broke. */
mu_status mu_prove_make(const struct mu_prove_request *request, struct mu_prove **out,
                        struct mu_err *err);
void mu_prove_destroy(struct mu_prove *prove);

/* prove_write.c: one JSON document; and what people read. `left_out`: see mu_placements_default. */
void mu_prove_write_json(const struct mu_prove_request *request, const struct mu_prove *prove,
                         uint32_t left_out, struct mu_text *out);
mu_status mu_prove_write_table(const struct mu_prove_request *request, const struct mu_prove *prove,
                               uint32_t left_out, struct mu_text *out, struct mu_err *err);

/* What a placement's map makes of the options, whose devices are set; they point into `out` until
 * that is given up. */
struct mu_placed {
    struct mu_part_place *places;
    struct mu_plan_map *map;
};
mu_status mu_placement_map(const struct mu_prove_request *q, const struct mu_placement *at,
                           struct mu_engine_options *o, struct mu_placed *out, struct mu_err *err);
void mu_placed_fini(struct mu_placed *placed);

#endif
