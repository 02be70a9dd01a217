/*
 * The bytes of tokenizer.json -> a checked tokenizer spec. Vocabulary and merges are large: they go
 * straight from the streaming parser into arrays; everything else becomes a small document, which
 * tokenizer_steps.c reads. Knows nothing of what the steps do.
 */
#include "format/tokenizer_int.h"

#include "base/utf8.h"

#include <yajl/yajl_parse.h>

#define DEPTH_MAX      48
#define NODES_MAX      1000000
#define MERGES_MAX     (1u << 24)
#define FILE_BYTES_MAX (UINT64_C(1) << 30)
#define TABLE_FIRST    4096

/* What the next value belongs to. */
enum place {
    PLACE_TREE,       /* the small document */
    PLACE_VOCAB_MAP,  /* "token": id */
    PLACE_VOCAB_LIST, /* [token, score] */
    PLACE_MERGES,
};

struct entry {
    struct mu_str text;
    double value; /* id or score */
};

struct reader {
    struct mu_str bytes;
    const char *name;
    struct mu_tokenizer_spec *spec;
    struct mu_err *err;
    json_t *stack[DEPTH_MAX]; /* open containers of the small document; [0] is the root's holder */
    struct mu_str keys[DEPTH_MAX];
    unsigned depth;
    unsigned n_nodes;
    enum place place;
    bool listed;    /* the vocabulary was a list */
    unsigned inner; /* containers open inside a vocabulary or the merges */
    struct entry *entries;
    uint32_t n_entries, size_entries;
    uint32_t size_merges;
    struct entry item; /* of a list, so far */
    struct mu_str pair[2];
    unsigned n_parts;
};

enum { STOP, GO };

static int fault(struct reader *r, const char *what)
{
    (void)mu_fail(r->err, MU_E_INPUT, "%s", what);
    return STOP;
}

static int no_memory(struct reader *r)
{
    (void)mu_fail_memory(r->err, r->bytes.len);
    return STOP;
}

/* Most texts lie in the file as they are; those with escapes are copied. */
static bool keep_text(struct reader *r, const unsigned char *p, size_t len, struct mu_str *out)
{
    const char *s = (const char *)p;
    if (s < r->bytes.p || s > r->bytes.p + r->bytes.len) {
        s = mu_arena_strndup(r->spec->arena, s, len);
        if (!s) return no_memory(r);
    }
    *out = (struct mu_str){s, len};
    return GO;
}

/* ---- The small document -------------------------------------------------------------------- */

/* Puts `value` into the open container; takes it over. */
static int add_node(struct reader *r, json_t *value)
{
    if (!value) return no_memory(r);
    json_t *into = r->stack[r->depth];
    struct mu_str key = r->keys[r->depth];
    if (++r->n_nodes > NODES_MAX) {
        json_decref(value);
        return fault(r, "has too many values");
    }
    if (json_is_array(into)) return json_array_append_new(into, value) == 0 ? GO : no_memory(r);
    if (json_object_getn(into, key.p, key.len)) {
        json_decref(value);
        return fault(r, "has the same key twice in one object");
    }
    return json_object_setn_new_nocheck(into, key.p, key.len, value) == 0 ? GO : no_memory(r);
}

static int open_node(struct reader *r, json_t *container)
{
    if (add_node(r, container) == STOP) return STOP;
    if (r->depth + 1 == DEPTH_MAX) return fault(r, "is nested too deeply");
    r->stack[++r->depth] = container;
    return GO;
}

/* Whether the value that comes now is "model" -> `key`. */
static bool at_model_key(const struct reader *r, const char *key)
{
    return r->place == PLACE_TREE && r->depth == 2 && mu_str_is(r->keys[1], "model") &&
           json_is_object(r->stack[2]) && mu_str_is(r->keys[2], key);
}

/* ---- Vocabulary and merges ----------------------------------------------------------------- */

static int add_entry(struct reader *r, struct entry entry)
{
    if (r->n_entries == MU_TOKENS_MAX) return fault(r, "has more than 2,097,152 tokens");
    if (r->n_entries == r->size_entries) {
        uint32_t size = r->size_entries ? r->size_entries * 2 : TABLE_FIRST;
        struct entry *p = mu_realloc(r->entries, size * sizeof *p);
        if (!p) return no_memory(r);
        r->entries = p;
        r->size_entries = size;
    }
    r->entries[r->n_entries++] = entry;
    return GO;
}

static int add_merge(struct reader *r, struct mu_merge merge)
{
    struct mu_tokenizer_spec *spec = r->spec;
    if (spec->n_merges == MERGES_MAX) return fault(r, "has too many merges");
    if (spec->n_merges == r->size_merges) {
        uint32_t size = r->size_merges ? r->size_merges * 2 : TABLE_FIRST;
        struct mu_merge *p = mu_realloc(spec->merges, size * sizeof *p);
        if (!p) return no_memory(r);
        spec->merges = p;
        r->size_merges = size;
    }
    spec->merges[spec->n_merges++] = merge;
    return GO;
}

/* "left right", the older spelling. */
static int add_merge_line(struct reader *r, struct mu_str line)
{
    if (line.len >= 8 && memcmp(line.p, "#version", 8) == 0) return GO;
    struct mu_merge merge;
    if (!mu_merge_split(line, &merge) || memchr(merge.right.p, ' ', merge.right.len))
        return fault(r, "a merge is not two tokens with a space between");
    return add_merge(r, merge);
}

static int table_number(struct reader *r, double value)
{
    if (r->place == PLACE_VOCAB_MAP) {
        r->item.value = value;
        return add_entry(r, r->item);
    }
    if (r->place != PLACE_VOCAB_LIST || r->inner != 2 || r->n_parts != 1)
        return fault(r, "a number where a token or a merge must be");
    r->item.value = value;
    r->n_parts = 2;
    return GO;
}

static int table_string(struct reader *r, const unsigned char *p, size_t len)
{
    struct mu_str s;
    if (keep_text(r, p, len, &s) == STOP) return STOP;
    if (r->place == PLACE_MERGES && r->inner == 1) return add_merge_line(r, s);
    if (r->place == PLACE_MERGES && r->n_parts < 2) {
        r->pair[r->n_parts++] = s;
        return GO;
    }
    if (r->place != PLACE_VOCAB_LIST || r->inner != 2 || r->n_parts != 0)
        return fault(r, "a text where a token's id or score must be");
    r->item.text = s;
    r->n_parts = 1;
    return GO;
}

static int table_open(struct reader *r)
{
    if (r->place == PLACE_VOCAB_MAP || r->inner == 2)
        return fault(r, "a vocabulary or its merges are nested");
    r->inner++;
    r->n_parts = 0;
    return GO;
}

static int table_close(struct reader *r)
{
    if (--r->inner == 0) {
        r->place = PLACE_TREE;
        return GO;
    }
    if (r->n_parts != 2) return fault(r, "an entry of the vocabulary or the merges lacks a part");
    if (r->place == PLACE_MERGES) return add_merge(r, (struct mu_merge){r->pair[0], r->pair[1]});
    return add_entry(r, r->item);
}

static int table_begin(struct reader *r, enum place place)
{
    r->place = place;
    r->listed |= place == PLACE_VOCAB_LIST;
    r->inner = 1;
    return GO;
}

/* ---- Callbacks ----------------------------------------------------------------------------- */

static int on_null(void *ctx)
{
    struct reader *r = ctx;
    return r->place == PLACE_TREE ? add_node(r, json_null()) : fault(r, "a null among the tokens");
}

static int on_boolean(void *ctx, int value)
{
    struct reader *r = ctx;
    if (r->place != PLACE_TREE) return fault(r, "true or false among the tokens");
    return add_node(r, json_boolean(value));
}

static int on_integer(void *ctx, long long value)
{
    struct reader *r = ctx;
    return r->place == PLACE_TREE ? add_node(r, json_integer(value))
                                  : table_number(r, (double)value);
}

static int on_double(void *ctx, double value)
{
    struct reader *r = ctx;
    return r->place == PLACE_TREE ? add_node(r, json_real(value)) : table_number(r, value);
}

static int on_string(void *ctx, const unsigned char *p, size_t len)
{
    struct reader *r = ctx;
    if (r->place != PLACE_TREE) return table_string(r, p, len);
    return add_node(r, json_stringn_nocheck((const char *)p, len));
}

static int on_start_map(void *ctx)
{
    struct reader *r = ctx;
    if (r->place != PLACE_TREE) return fault(r, "an object among the tokens");
    if (at_model_key(r, "vocab")) return table_begin(r, PLACE_VOCAB_MAP);
    return open_node(r, json_object());
}

static int on_map_key(void *ctx, const unsigned char *p, size_t len)
{
    struct reader *r = ctx;
    return keep_text(r, p, len, r->place == PLACE_TREE ? &r->keys[r->depth] : &r->item.text);
}

static int on_start_array(void *ctx)
{
    struct reader *r = ctx;
    if (r->place != PLACE_TREE) return table_open(r);
    if (at_model_key(r, "vocab")) return table_begin(r, PLACE_VOCAB_LIST);
    if (at_model_key(r, "merges")) return table_begin(r, PLACE_MERGES);
    return open_node(r, json_array());
}

static int on_end(void *ctx)
{
    struct reader *r = ctx;
    if (r->place != PLACE_TREE) return table_close(r);
    r->depth--;
    return GO;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_boolean,
    .yajl_integer = on_integer,
    .yajl_double = on_double,
    .yajl_string = on_string,
    .yajl_start_map = on_start_map,
    .yajl_map_key = on_map_key,
    .yajl_end_map = on_end,
    .yajl_start_array = on_start_array,
    .yajl_end_array = on_end,
};

/* ---- The whole ----------------------------------------------------------------------------- */

static mu_status run_parser(struct reader *r)
{
    yajl_handle handle = yajl_alloc(&callbacks, NULL, r);
    if (!handle) return mu_fail_memory(r->err, sizeof *r);
    /* The whole file was checked to be UTF-8 before. */
    (void)yajl_config(handle, yajl_dont_validate_strings, 1);
    const unsigned char *p = (const unsigned char *)r->bytes.p;
    mu_status status = MU_OK;
    yajl_status state = yajl_parse(handle, p, r->bytes.len);
    size_t at = yajl_get_bytes_consumed(handle);
    if (state == yajl_status_ok) {
        at = r->bytes.len;
        state = yajl_complete_parse(handle);
    }
    if (state == yajl_status_client_canceled) {
        status = r->err && r->err->code != MU_OK ? r->err->code : MU_E_INPUT;
    } else if (state != yajl_status_ok) {
        unsigned char *text = yajl_get_error(handle, 0, p, r->bytes.len);
        size_t len = text ? strcspn((char *)text, "\n") : 0;
        status =
            mu_fail(r->err, MU_E_INPUT, "not valid JSON: %.*s", (int)len, text ? (char *)text : "");
        if (text) yajl_free_error(handle, text);
    }
    if (status == MU_E_INPUT) mu_err_where(r->err, "%s, byte %zu", r->name, at);
    yajl_free(handle);
    return status;
}

/* The entries, now that their number is known, by id. */
static mu_status place_tokens(struct reader *r)
{
    struct mu_tokenizer_spec *spec = r->spec;
    uint32_t top = 0;
    for (uint32_t i = 0; i < r->n_entries; i++) {
        double id = r->listed ? (double)i : r->entries[i].value;
        if (!(id >= 0 && id < MU_TOKENS_MAX) || id != (double)(uint32_t)id) {
            mu_status status =
                mu_fail(r->err, MU_E_INPUT, "a token's id %.17g is out of range", id);
            struct mu_str t = r->entries[i].text;
            mu_err_where(r->err, "%s, model.vocab, token '%.*s'", r->name, (int)MU_MIN(t.len, 60),
                         t.p);
            return status;
        }
        top = MU_MAX(top, (uint32_t)id + 1);
    }
    spec->n_tokens = top;
    spec->n_vocabulary = r->n_entries;
    spec->tokens = mu_calloc(top, sizeof *spec->tokens);
    if (!spec->tokens) return mu_fail_memory(r->err, top * sizeof *spec->tokens);
    if (r->listed && !(spec->scores = mu_calloc(top, sizeof *spec->scores)))
        return mu_fail_memory(r->err, top * sizeof *spec->scores);
    for (uint32_t i = 0; i < r->n_entries; i++) {
        spec->tokens[r->listed ? i : (uint32_t)r->entries[i].value] = r->entries[i].text;
        if (r->listed) spec->scores[i] = r->entries[i].value;
    }
    return MU_OK;
}

static mu_status read_document(struct reader *r, json_t *holder)
{
    MU_TRY(run_parser(r));
    const json_t *root = json_object_get(holder, "root");
    MU_TRY(mu_tokenizer_read_settings(root, r->name, r->spec, r->err));
    MU_TRY(place_tokens(r));
    if (r->n_entries == 0 || r->listed != (r->spec->kind == MU_TOKENIZER_UNIGRAM)) {
        mu_status status = mu_fail(r->err, MU_E_INPUT, "there is no vocabulary of its kind");
        mu_err_where(r->err, "%s, model.vocab", r->name);
        return status;
    }
    return MU_OK;
}

mu_status mu_tokenizer_spec_parse(struct mu_str bytes, const char *name,
                                  struct mu_tokenizer_spec **out, struct mu_err *err)
{
    if (bytes.len > FILE_BYTES_MAX || !mu_utf8_valid(bytes)) {
        mu_status status = mu_fail(err, MU_E_INPUT, "is larger than 1 GiB, or is not UTF-8");
        mu_err_where(err, "%s", name);
        return status;
    }
    struct mu_tokenizer_spec *spec = mu_tokenizer_spec_new(name, err);
    if (!spec) return MU_E_MEMORY;
    struct reader *r = mu_calloc(1, sizeof *r);
    json_t *holder = json_object();
    mu_status status = MU_OK;
    if (!r || !holder) {
        status = mu_fail_memory(err, sizeof *r);
    } else {
        *r = (struct reader){.bytes = bytes, .name = name, .spec = spec, .err = err};
        r->stack[0] = holder;
        r->keys[0] = MU_STR("root");
        status = read_document(r, holder);
        mu_free(r->entries);
    }
    json_decref(holder);
    mu_free(r);
    if (status == MU_OK)
        *out = spec;
    else
        mu_tokenizer_spec_destroy(spec);
    return status;
}
