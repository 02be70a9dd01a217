/*
 * format: outside files -> checked descriptions, and back.
 *
 * A model (folder of safetensors and JSON, .gguf file or first of a split, hub id in the local
 * cache, or synth:NAME@TYPE) is opened once; what it holds is then facts that were checked: tensors
 * whose bytes lie inside their files, numbers in range, one spelling for each thing. Knows nothing
 * of what a model computes. A struct mu_model_file is read by any number of threads once open.
 */
#ifndef MU_FORMAT_FORMAT_H
#define MU_FORMAT_FORMAT_H

#include "base/dtype.h"
#include "base/json.h"
#include "base/text.h"
#include "format/tokenizer_spec.h"

#define MU_DIMS_MAX 8

struct mu_tensor {
    const char *name;
    enum mu_dtype type;
    unsigned n_dims;
    uint64_t dims[MU_DIMS_MAX]; /* slowest first: a weight matrix is [out, in] */
    uint64_t n_values, n_bytes;
    const uint8_t *data;  /* mapped; NULL where rows are made on demand: from a synth: model's seed,
                           * or from the several stored tensors of a quantised matrix */
    uint64_t file_offset; /* for messages and inspect */
    unsigned file;        /* which of mu_model_file_paths */
    uint64_t seed;        /* of a synth: tensor */
    const struct mu_quantised *quantised;
    /* A matrix of type F32 that has rows of another type too: see mu_tensor_packed_rows. */
    const struct mu_columns *columns;
    enum mu_dtype packed_type;
};

enum mu_names { MU_NAMES_HF, MU_NAMES_GGUF };

enum mu_rope_kind {
    MU_ROPE_DEFAULT,
    MU_ROPE_LINEAR,
    MU_ROPE_DYNAMIC,
    MU_ROPE_LLAMA3,
    MU_ROPE_YARN,
    MU_ROPE_LONGROPE,
};

#define MU_ROPE_FACTORS_MAX 256

struct mu_rope_config {
    enum mu_rope_kind kind;
    double theta;
    double factor; /* 1 when there is none */
    double low_freq_factor, high_freq_factor;
    uint64_t original_context; /* 0: the model's own context */
    double beta_fast, beta_slow, mscale, mscale_all_dim;
    double attention_factor; /* 0: follow the rule of the kind */
    bool truncate;
    double partial; /* share of the head that is rotated: 1 for all */
    /* longrope: frequency j is divided by short_factor[j], or by long_factor[j] beyond the original
     * context. A GGUF file's rope_freqs tensor (how it carries llama3 scaling) is given in the same
     * words: MU_ROPE_LONGROPE, both lists the tensor's values, factor 1, attention_factor 1. */
    uint32_t n_factors;
    double short_factor[MU_ROPE_FACTORS_MAX], long_factor[MU_ROPE_FACTORS_MAX];
};

#define MU_LAYERS_MAX 1024
#define MU_EOS_MAX    16
#define MU_TOKEN_NONE UINT32_MAX

/* config.json or GGUF metadata in one spelling. 0 (or false) means absent unless said otherwise. */
struct mu_config {
    char architecture[32]; /* transformers' model_type: "llama", "qwen2" */
    /* How this file names its tensors. GGUF also differs in content: q and k rows of the llama
     * family are permuted for interleaved rope (below), gemma's norm weights have the 1 added. */
    enum mu_names names;
    uint32_t n_layers, hidden, n_heads, n_kv_heads, head_dim, ffn, vocab;
    uint64_t context; /* max_position_embeddings */
    double norm_eps;
    struct mu_rope_config rope;
    double rope_local_theta; /* of sliding layers, where they have their own (gemma3) */
    bool tied_head;
    bool attention_bias; /* q, k, v (and o where the architecture says so) */
    bool mlp_bias;
    char activation[32];     /* "silu", "gelu_pytorch_tanh" */
    uint32_t sliding_window; /* of the layers marked below */
    uint8_t layer_sliding[MU_LAYERS_MAX];
    uint8_t layer_no_rope[MU_LAYERS_MAX];
    double attn_softcap, final_softcap, query_pre_attn_scalar;
    double embedding_multiplier, residual_multiplier, attention_multiplier, logits_scaling;
    /* Mixture of experts. */
    uint32_t n_experts, n_experts_used, expert_ffn, shared_expert_ffn, n_shared_experts;
    uint32_t first_dense_layers, sparse_step;
    bool norm_topk;
    double routed_scaling;
    uint8_t layer_dense[MU_LAYERS_MAX];
    uint32_t n_group, topk_group;
    /* Multi-head latent attention. */
    uint32_t q_lora_rank, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim, v_head_dim;
    bool kv_b_joined;      /* a GGUF file that holds a head's keys and values in one tensor */
    bool rope_interleaved; /* rope turns pairs (2i, 2i + 1), not (i, i + half) */
    double swiglu_limit, swiglu_alpha;
    /* quantization_config; what the tensors themselves tell (group sizes, zero points) is there. */
    char quant_method[32];                 /* "" for none: "awq", "gptq", ... */
    char quant_format[32];                 /* "gemm", "gptq_v2", "nf4", "pack-quantized", ... */
    uint32_t quant_bits, quant_group_size; /* group 0: the whole row, or not said */
    uint32_t quant_block[2];               /* fp8: rows and columns that share a scale */
    bool quant_known;                      /* its matrices are presented as blocks */
    /* Tokens, and how the publisher wants text to be drawn; NAN / MU_TOKEN_NONE: absent. */
    uint32_t bos, pad;
    uint32_t eos[MU_EOS_MAX];
    unsigned n_eos;
    bool do_sample;
    double temperature, top_p, top_k, min_p, repetition_penalty;
};

struct mu_model_file;

/* Opens and checks everything but the tokenizer. A folder with only config.json opens with
 * MU_OPEN_HEADER_ONLY and then has no tensors; MU_OPEN_SHAPE_ONLY does without a synth: model's,
 * so that any row of the table opens. MU_OPEN_TEXT_ONLY is for its tokenizer and chat template: the
 * configuration is not read, so that the model may be of a kind that is not known. */
enum { MU_OPEN_HEADER_ONLY = 1, MU_OPEN_TEXT_ONLY = 2, MU_OPEN_SHAPE_ONLY = 4 };
mu_status mu_model_file_open(const char *model, unsigned flags, struct mu_model_file **out,
                             struct mu_err *err);
void mu_model_file_close(struct mu_model_file *file);

const char *mu_model_file_name(const struct mu_model_file *file);   /* as the user gave it */
const char *mu_model_file_format(const struct mu_model_file *file); /* "gguf 3", "safetensors" */
/* True for one shard of several, named by itself: it holds a part of the tensors. */
bool mu_model_file_is_part(const struct mu_model_file *file, unsigned *number, unsigned *of);
const struct mu_config *mu_model_file_config(const struct mu_model_file *file);
size_t mu_model_file_paths(const struct mu_model_file *file, const char *const **out);
size_t mu_model_file_tensors(const struct mu_model_file *file, const struct mu_tensor **out);
const struct mu_tensor *mu_model_file_find(const struct mu_model_file *file, const char *name);
/* Jinja source of the chat template (`with_tools`: the one for tools, where there are two); NULL
 * when the model has none. */
const char *mu_model_file_chat_template(const struct mu_model_file *file, bool with_tools);

/* Bytes of rows [first, first + n) of the matrix (all dims but the last make rows): a pointer into
 * the mapping, or made into `scratch` (n stored rows, aligned to 4) where `data` is NULL; many rows
 * at once are then made faster. Mapped bytes of a safetensors file have no alignment. */
const uint8_t *mu_tensor_rows(const struct mu_tensor *tensor, uint64_t first, uint64_t n,
                              uint8_t *scratch);
uint64_t mu_tensor_row_bytes(const struct mu_tensor *tensor);
/*
 * A matrix whose columns share scales in no order (GPTQ's desc_act) has no blocks that could stand
 * alone: its rows are F32 to those who ask for rows, and codes and a table of scales (see struct
 * mu_columns) to those who can multiply them. `out` has room for n packed rows.
 */
void mu_tensor_packed_rows(const struct mu_tensor *tensor, uint64_t first, uint64_t n,
                           uint8_t *out);
uint64_t mu_tensor_packed_row_bytes(const struct mu_tensor *tensor);
/* What it takes in the file: not n_bytes where several stored tensors are presented as one. */
uint64_t mu_tensor_stored_bytes(const struct mu_tensor *tensor);

/* Every model that synth: knows, by name. */
mu_status mu_synth_each(void (*each)(void *arg, const char *name, const struct mu_config *config),
                        void *arg, struct mu_err *err);

/* One of them, by its name or the hub's as people spell it ("llama3.1:8b", "Meta-Llama-3.1-8B"),
 * with synth: before it or not. */
struct mu_synth_row {
    char name[96];
    char hub_id[160]; /* of the model that the row restates; "" for none */
    json_t *config;   /* as its config.json; the caller gives it up */
};
mu_status mu_synth_row(const char *name, struct mu_synth_row *out, struct mu_err *err);

/*
 * Writing a GGUF file: metadata and tensors are declared, `begin` writes the header, then the bytes
 * of the tensors follow in the order of their declaration. The file appears under its name only at
 * `commit`. Declarations stick on failure; `begin` reports it. A key that was given stays: later
 * values for it are ignored, so that what replaces a copied value is given before the copy.
 */
struct mu_gguf_out;

mu_status mu_gguf_out_create(const char *path, struct mu_gguf_out **out, struct mu_err *err);
/* Removes the unfinished file unless it was committed. */
void mu_gguf_out_close(struct mu_gguf_out *out);

void mu_gguf_out_u32(struct mu_gguf_out *out, const char *key, uint32_t value);
void mu_gguf_out_f32(struct mu_gguf_out *out, const char *key, float value);
void mu_gguf_out_bool(struct mu_gguf_out *out, const char *key, bool value);
void mu_gguf_out_string(struct mu_gguf_out *out, const char *key, struct mu_str value);
void mu_gguf_out_strings(struct mu_gguf_out *out, const char *key, const struct mu_str *values,
                         uint64_t n);
void mu_gguf_out_u8s(struct mu_gguf_out *out, const char *key, const void *values, uint64_t n);
void mu_gguf_out_i32s(struct mu_gguf_out *out, const char *key, const int32_t *values, uint64_t n);
void mu_gguf_out_f32s(struct mu_gguf_out *out, const char *key, const float *values, uint64_t n);
/* All metadata of a model that is GGUF itself, but not how it was split or quantised; else its
 * configuration and chat templates, in GGUF's words. */
void mu_gguf_out_metadata_of(struct mu_gguf_out *out, const struct mu_model_file *source);
/* The tokenizer of a folder as metadata; `vocab` is the model's number of rows. MU_E_UNSUPPORTED
 * before anything is added, when GGUF has no words for it; `notes` gets lines on what is lost.
 * Given before mu_gguf_out_metadata_of. */
mu_status mu_gguf_out_tokenizer(struct mu_gguf_out *out, const struct mu_tokenizer_spec *spec,
                                uint32_t vocab, struct mu_text *notes, struct mu_err *err);
void mu_gguf_out_no_tokenizer(struct mu_gguf_out *out);

/* `dims` slowest first, as in struct mu_tensor. */
void mu_gguf_out_tensor(struct mu_gguf_out *out, const char *name, enum mu_dtype type,
                        unsigned n_dims, const uint64_t *dims);
mu_status mu_gguf_out_begin(struct mu_gguf_out *out, struct mu_err *err);
/* The next bytes: within a tensor in any pieces, never across its end. */
mu_status mu_gguf_out_bytes(struct mu_gguf_out *out, const void *bytes, uint64_t n,
                            struct mu_err *err);
mu_status mu_gguf_out_commit(struct mu_gguf_out *out, struct mu_err *err);

/* Writes a safetensors file that holds one F32 tensor; it appears only when complete. */
mu_status mu_safetensors_save(const char *path, const char *name, const uint64_t *dims,
                              unsigned n_dims, const float *values, struct mu_err *err);

#endif
