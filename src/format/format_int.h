/* What the files of format/ share and no other room sees. */
#ifndef MU_FORMAT_FORMAT_INT_H
#define MU_FORMAT_FORMAT_INT_H

#include "base/alloc.h"
#include "base/cursor.h"
#include "base/json.h"
#include "format/format.h"

/* ---- Names -> places, for tensors and metadata keys ---------------------------------------- */

typedef struct mu_str mu_name_of(const void *items, uint64_t i);

struct mu_name_index {
    uint32_t *slots; /* item + 1, 0 for an empty slot; lives in the arena */
    uint64_t n_slots;
};

/* MU_E_INPUT, naming the name, when two of the n items share one. */
mu_status mu_name_index_build(struct mu_name_index *index, struct mu_arena *arena,
                              const void *items, uint64_t n, mu_name_of *name_of,
                              struct mu_err *err);
/* UINT64_MAX when no item has that name. */
uint64_t mu_name_index_find(const struct mu_name_index *index, const void *items,
                            mu_name_of *name_of, struct mu_str name);

/* ---- Tensors of one or more files ---------------------------------------------------------- */

#define MU_TENSORS_MAX 1000000

struct mu_tensor_list {
    struct mu_tensor *items; /* mu_free */
    uint64_t n, size;
};

/* Room for n more, cleared; the caller counts them in `n`. `items` is never NULL afterwards. */
mu_status mu_tensor_list_reserve(struct mu_tensor_list *list, uint64_t n, struct mu_err *err);
/* Fills n_values and n_bytes from type and dims; false when they overflow or a row is not whole
 * blocks. */
bool mu_tensor_measure(struct mu_tensor *tensor);

/* One file in memory; names and descriptions go into the arena and the list, data stays where it
 * is. `path` is for messages and outlives nothing. */
struct mu_file_bytes {
    const char *path;
    const uint8_t *bytes;
    uint64_t size;
    unsigned number; /* mu_tensor.file */
};

mu_status mu_safetensors_parse(const struct mu_file_bytes *file, struct mu_arena *arena,
                               struct mu_tensor_list *tensors, struct mu_err *err);

/* ---- Quantised checkpoints ----------------------------------------------------------------- */

/* Whether files of this quantization_config are read. */
bool mu_quantised_known(const char *method, const char *format);
/* Puts one tensor of blocks in the place of the several that store a quantised matrix. */
mu_status mu_quantised_present(struct mu_model_file *file, struct mu_err *err);

/* ---- GGUF ---------------------------------------------------------------------------------- */

/* GGUF metadata, checked: every string and array lies inside the mapping. */
enum mu_gguf_type {
    MU_GGUF_U8,
    MU_GGUF_I8,
    MU_GGUF_U16,
    MU_GGUF_I16,
    MU_GGUF_U32,
    MU_GGUF_I32,
    MU_GGUF_F32,
    MU_GGUF_BOOL,
    MU_GGUF_STRING,
    MU_GGUF_ARRAY,
    MU_GGUF_U64,
    MU_GGUF_I64,
    MU_GGUF_F64
};

struct mu_gguf_value {
    struct mu_str key;
    enum mu_gguf_type type; /* of the value, or of the elements of an array */
    bool is_array;
    uint64_t n;           /* elements; 1 for a plain value */
    const uint8_t *bytes; /* first element; strings are u64 length, then bytes */
    uint64_t n_bytes;
};

struct mu_gguf {
    uint32_t version;
    struct mu_gguf_value *values;
    uint64_t n_values, n_tensors;
    struct mu_name_index index;
};

mu_status mu_gguf_parse(const struct mu_file_bytes *file, struct mu_arena *arena,
                        struct mu_tensor_list *tensors, struct mu_gguf **out, struct mu_err *err);

/* NULL when there is no such key. */
const struct mu_gguf_value *mu_gguf_find(const struct mu_gguf *gguf, const char *key);
/* False when absent, an array, or not convertible without loss. */
bool mu_gguf_u64(const struct mu_gguf *gguf, const char *key, uint64_t *out);
bool mu_gguf_f64(const struct mu_gguf *gguf, const char *key, double *out);
bool mu_gguf_bool(const struct mu_gguf *gguf, const char *key, bool *out);
bool mu_gguf_string(const struct mu_gguf *gguf, const char *key, struct mu_str *out);
/* Element i of a number or an array of numbers; false for other types or when negative. */
bool mu_gguf_element_u64(const struct mu_gguf_value *value, uint64_t i, uint64_t *out);
/* The next string of an array of strings, read with a cursor over value->bytes. */
struct mu_str mu_gguf_next_string(struct mu_cursor *cursor);

/* ---- Configuration ------------------------------------------------------------------------- */

enum mu_field_kind { MU_FIELD_U32, MU_FIELD_U64, MU_FIELD_F64, MU_FIELD_FLAG, MU_FIELD_TEXT };

/* One fact of struct mu_config under the two names that files have for it. */
struct mu_config_field {
    const char *json; /* key of config.json, or NULL */
    const char *gguf; /* what follows "<architecture>.", or NULL */
    enum mu_field_kind kind;
    size_t offset;
    double min, max; /* of numbers */
};

extern const struct mu_config_field mu_config_fields[]; /* both names NULL at the end */
#define MU_CONFIG_TEXT_SIZE 32                          /* of every text in struct mu_config */

/* True for an architecture whose defaults are known here. */
bool mu_config_known(const char *architecture);
/* Adds what transformers assumes for keys that this architecture's config.json lacks. */
mu_status mu_config_add_defaults(json_t *root, const char *architecture, struct mu_err *err);

/* Empty: every token absent, every sampling value NAN. */
void mu_config_init(struct mu_config *config);
/* Stores a number in its field; fails when it is out of the field's range. */
mu_status mu_config_set(struct mu_config *config, const struct mu_config_field *field, double value,
                        struct mu_err *err);
/* What follows from other values (head_dim, expert widths) and whether all fit together. */
mu_status mu_config_finish(struct mu_config *c, struct mu_err *err);
/* Fills layer_dense from the sparse step or the number of leading dense layers. */
void mu_config_mark_dense(struct mu_config *config);

/* `root` is changed: defaults are added. `path` is for messages. */
mu_status mu_config_from_json(json_t *root, const char *path, struct mu_config *config,
                              struct mu_err *err);
/* generation_config.json on top of a config that was read. */
mu_status mu_config_add_generation(const json_t *root, const char *path, struct mu_config *config,
                                   struct mu_err *err);
mu_status mu_config_from_gguf(const struct mu_gguf *gguf, const struct mu_tensor_list *tensors,
                              const char *path, struct mu_config *config, struct mu_err *err);
/* How transformers and GGUF call the same architecture; `gguf` is "deepseek2", "gpt-oss". */
const char *mu_architecture_to_gguf(const char *architecture);

/* ---- An opened model ----------------------------------------------------------------------- */

struct mu_file_map;

struct mu_model_file {
    struct mu_arena *arena; /* holds all texts below */
    const char *name, *format, *folder;
    struct mu_config config;
    struct mu_file_map *maps;
    const char **paths;
    size_t n_files;
    struct mu_tensor_list tensors;
    struct mu_name_index index;
    struct mu_gguf *gguf;
    const char *template_plain, *template_tools;
};

/* Maps one more file; `path` is copied. `max_files` was given to mu_model_file_room. */
mu_status mu_model_file_room(struct mu_model_file *file, size_t max_files, struct mu_err *err);
mu_status mu_model_file_map(struct mu_model_file *file, const char *path, struct mu_file_bytes *out,
                            struct mu_err *err);

mu_status mu_model_open_gguf(struct mu_model_file *file, const char *path, unsigned flags,
                             struct mu_err *err);
/* `weights` is one .safetensors file, or NULL for what the folder holds. */
mu_status mu_model_open_folder(struct mu_model_file *file, const char *folder, const char *weights,
                               unsigned flags, struct mu_err *err);
mu_status mu_model_open_synth(struct mu_model_file *file, const char *name, unsigned flags,
                              struct mu_err *err);

/* Chat templates of a folder, or of GGUF metadata, into template_plain and template_tools. */
mu_status mu_templates_from_folder(struct mu_model_file *file, struct mu_err *err);
mu_status mu_templates_from_gguf(struct mu_model_file *file, struct mu_err *err);

/* What MODEL means on this machine. */
enum mu_place_kind { MU_PLACE_SYNTH, MU_PLACE_GGUF, MU_PLACE_SAFETENSORS, MU_PLACE_FOLDER };

struct mu_place {
    enum mu_place_kind kind;
    char *path; /* mu_free */
};

mu_status mu_place_find(const char *model, struct mu_place *out, struct mu_err *err);

/* n stored rows of a synth: tensor from its seed. */
void mu_synth_rows(const struct mu_tensor *tensor, uint64_t first, uint64_t n, uint8_t *out);

/* A file of share/ that is part of the program, unless MUSTER_SHARE names a folder that has it. */
mu_status mu_share_models(struct mu_text *out, struct mu_err *err);

/* The metadata of an opened .gguf, NULL for other models. */
const struct mu_gguf *mu_model_file_gguf(const struct mu_model_file *file);
/* The folder of an opened safetensors model, NULL for other models. */
const char *mu_model_file_folder(const struct mu_model_file *file);

#endif
