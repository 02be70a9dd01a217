/* muster inspect MODEL: what a model file is, exactly, for people or as one JSON document. */
#include "cli/cli.h"

#include "base/alloc.h"
#include "base/json.h"
#include "base/number.h"
#include "base/utf8.h"
#include "format/format.h"

#include <math.h>

#define OUT_BYTES_MAX (256u << 20)

struct options {
    bool json, tensors;
};

static const struct mu_option options[] = {
    {.name = "json",
     .kind = MU_OPTION_FLAG,
     .offset = offsetof(struct options, json),
     .help = "one JSON document"},
    {.name = "tensors",
     .kind = MU_OPTION_FLAG,
     .offset = offsetof(struct options, tensors),
     .help = "list every tensor"},
    {0},
};

/* What is summed over the tensors. */
struct totals {
    uint64_t bytes, values, n[MU_DTYPE_COUNT], bytes_of[MU_DTYPE_COUNT];
    enum mu_dtype main; /* the type of most bytes */
    bool packed;        /* integer words hold several weights each, so values are not parameters */
};

/* What is said about a model, gathered before any of it is written. */
struct facts {
    struct mu_model_file *file;
    const struct mu_config *config;
    struct totals totals;
    bool has_weights, is_part;
    unsigned part, parts;
    struct mu_tokenizer_spec *tokenizer; /* NULL: none, or it cannot be read: why */
    struct mu_err why;
};

/* As it is kept in memory. */
static enum mu_dtype type_of(const struct mu_tensor *t)
{
    return t->columns ? t->packed_type : t->type;
}

static struct totals add_up(const struct mu_model_file *file)
{
    struct totals t = {0};
    const struct mu_tensor *tensors;
    size_t n = mu_model_file_tensors(file, &tensors);
    for (size_t i = 0; i < n; i++) {
        enum mu_dtype type = type_of(&tensors[i]);
        t.bytes += mu_tensor_stored_bytes(&tensors[i]);
        t.values += tensors[i].n_values;
        t.n[type]++;
        t.bytes_of[type] += mu_tensor_stored_bytes(&tensors[i]);
        if (t.bytes_of[type] > t.bytes_of[t.main]) t.main = type;
        t.packed |= type == MU_DTYPE_U8 || type == MU_DTYPE_I32;
    }
    return t;
}

/* Bytes that one more token costs in all layers together, keys and values in 16 bits. */
static uint64_t kv_bytes(const struct mu_config *c)
{
    uint64_t values = 2 * (uint64_t)c->n_kv_heads * c->head_dim;
    if (c->kv_lora_rank) values = (uint64_t)c->kv_lora_rank + c->qk_rope_head_dim;
    return c->n_layers * values * 2;
}

static const char *tokenizer_kind(const struct mu_tokenizer_spec *spec)
{
    switch (spec->kind) {
    case MU_TOKENIZER_BPE:
        return "bpe";
    case MU_TOKENIZER_SPM:
        return "sentencepiece-bpe";
    case MU_TOKENIZER_UNIGRAM:
        return "unigram";
    }
    return "";
}

/* Tokens of the vocabulary and those added to it. */
static uint32_t tokenizer_size(const struct mu_tokenizer_spec *spec)
{
    uint32_t n = spec->n_tokens;
    for (uint32_t i = 0; i < spec->n_added; i++)
        n = MU_MAX(n, spec->added[i].id + 1);
    return n;
}

/* How the vocabulary spells a token; empty when it does not. */
static struct mu_str token_text(const struct facts *f, uint32_t id)
{
    const struct mu_tokenizer_spec *spec = f->tokenizer;
    for (uint32_t i = 0; spec && i < spec->n_added; i++)
        if (spec->added[i].id == id) return spec->added[i].content;
    bool known = spec && id < spec->n_tokens && spec->tokens[id].p;
    return known ? spec->tokens[id] : MU_STR("");
}

static const char *rope_name(const struct mu_rope_config *rope)
{
    switch (rope->kind) {
    case MU_ROPE_DEFAULT:
        return "default";
    case MU_ROPE_LINEAR:
        return "linear";
    case MU_ROPE_DYNAMIC:
        return "dynamic";
    case MU_ROPE_LLAMA3:
        return "llama3";
    case MU_ROPE_YARN:
        return "yarn";
    case MU_ROPE_LONGROPE:
        return "longrope";
    }
    return "";
}

static unsigned n_sliding(const struct mu_config *c)
{
    unsigned n = 0;
    for (uint32_t i = 0; i < c->n_layers; i++)
        n += c->layer_sliding[i];
    return n;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static void json_key(struct mu_text *out, const char *key)
{
    if (out->len > 1 && out->p[out->len - 1] != '{') mu_text_char(out, ',');
    mu_json_add_string(out, mu_str(key));
    mu_text_char(out, ':');
}

static void json_text(struct mu_text *out, const char *key, const char *value)
{
    json_key(out, key);
    mu_json_add_string(out, mu_str(value));
}

static void json_u64(struct mu_text *out, const char *key, uint64_t value)
{
    json_key(out, key);
    mu_text_printf(out, "%llu", (unsigned long long)value);
}

/* Absent values are left out: never a 0 that nobody said. */
static void json_known(struct mu_text *out, const char *key, uint64_t value)
{
    if (value) json_u64(out, key, value);
}

static void json_f64(struct mu_text *out, const char *key, double value)
{
    if (value == 0 || !isfinite(value)) return;
    json_key(out, key);
    mu_json_add_f64(out, value);
}

static void json_bool(struct mu_text *out, const char *key, bool value)
{
    json_key(out, key);
    mu_text_str(out, value ? "true" : "false");
}

static void json_rope(struct mu_text *out, const struct mu_rope_config *rope)
{
    json_key(out, "rope");
    mu_text_char(out, '{');
    json_text(out, "type", rope_name(rope));
    json_f64(out, "theta", rope->theta);
    if (rope->kind != MU_ROPE_DEFAULT) json_f64(out, "factor", rope->factor);
    json_known(out, "original_context", rope->original_context);
    if (rope->partial != 1) json_f64(out, "partial", rope->partial);
    mu_text_char(out, '}');
}

static void json_shape(struct mu_text *out, const struct facts *f)
{
    const struct mu_config *c = f->config;
    json_known(out, "layers", c->n_layers);
    json_known(out, "hidden", c->hidden);
    json_known(out, "heads", c->n_heads);
    json_known(out, "kv_heads", c->n_kv_heads);
    json_known(out, "head_dim", c->head_dim);
    json_known(out, "ffn", c->ffn);
    json_known(out, "vocab", c->vocab);
    json_known(out, "context", c->context);
    json_f64(out, "norm_eps", c->norm_eps);
    if (f->has_weights || f->config->names == MU_NAMES_HF)
        json_bool(out, "tied_head", c->tied_head);
    json_known(out, "experts", c->n_experts);
    json_known(out, "experts_used", c->n_experts_used);
    json_known(out, "expert_ffn", c->expert_ffn);
    json_known(out, "sliding_window", c->sliding_window);
    json_known(out, "sliding_layers", n_sliding(c));
    json_rope(out, &c->rope);
    json_known(out, "kv_bytes_per_token_f16", kv_bytes(c));
}

static void json_tokens(struct mu_text *out, const struct mu_config *c)
{
    if (c->bos != MU_TOKEN_NONE) json_u64(out, "bos", c->bos);
    if (c->pad != MU_TOKEN_NONE) json_u64(out, "pad", c->pad);
    json_key(out, "eos");
    mu_text_char(out, '[');
    for (unsigned i = 0; i < c->n_eos; i++)
        mu_text_printf(out, "%s%u", i ? "," : "", c->eos[i]);
    mu_text_char(out, ']');
}

static void json_totals(struct mu_text *out, const struct facts *f)
{
    const struct totals *t = &f->totals;
    if (f->is_part) mu_text_printf(out, ",\"part\":{\"number\":%u,\"of\":%u}", f->part, f->parts);
    if (!t->packed && !f->is_part) json_known(out, "parameters", t->values);
    json_u64(out, "bytes", t->bytes);
    if (f->has_weights) json_text(out, "main_type", mu_dtype(t->main)->name);
    json_key(out, "bytes_by_type");
    mu_text_char(out, '{');
    for (int i = 0; i < MU_DTYPE_COUNT; i++)
        json_known(out, mu_dtype((enum mu_dtype)i)->name, t->bytes_of[i]);
    mu_text_char(out, '}');
}

static void json_tokenizer(struct mu_text *out, const struct facts *f)
{
    const struct mu_tokenizer_spec *spec = f->tokenizer;
    if (!spec && f->why.code == MU_E_MISSING) return;
    json_key(out, "tokenizer");
    mu_text_char(out, '{');
    if (spec) {
        json_text(out, "kind", tokenizer_kind(spec));
        json_u64(out, "tokens", tokenizer_size(spec));
        json_u64(out, "added", spec->n_added);
        json_bool(out, "byte_fallback", spec->byte_fallback);
        json_bool(out, "adds_bos", spec->n_prefix > 0);
        json_bool(out, "adds_eos", spec->n_suffix > 0);
    } else {
        json_text(out, "error", f->why.what);
    }
    mu_text_char(out, '}');
}

static void json_tensors(struct mu_text *out, const struct mu_model_file *file)
{
    const struct mu_tensor *t;
    size_t n = mu_model_file_tensors(file, &t);
    json_key(out, "tensors");
    mu_text_char(out, '[');
    for (size_t i = 0; i < n; i++, t++) {
        mu_text_str(out, i ? ",{" : "{");
        json_text(out, "name", t->name);
        json_text(out, "type", mu_dtype(type_of(t))->name);
        json_key(out, "shape");
        mu_text_char(out, '[');
        for (unsigned d = 0; d < t->n_dims; d++)
            mu_text_printf(out, "%s%llu", d ? "," : "", (unsigned long long)t->dims[d]);
        mu_text_char(out, ']');
        json_u64(out, "bytes", mu_tensor_stored_bytes(t));
        if (t->data) json_u64(out, "file", t->file);
        if (t->data) json_u64(out, "offset", t->file_offset);
        mu_text_char(out, '}');
    }
    mu_text_char(out, ']');
}

static void write_json(struct mu_text *out, const struct facts *f, bool tensors)
{
    const struct mu_config *c = f->config;
    const struct mu_tensor *first;
    const char *const *paths;
    size_t n = mu_model_file_paths(f->file, &paths);
    mu_text_char(out, '{');
    json_text(out, "model", mu_model_file_name(f->file));
    json_text(out, "format", mu_model_file_format(f->file));
    json_key(out, "files");
    mu_text_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i) mu_text_char(out, ',');
        mu_json_add_string(out, mu_str(paths[i]));
    }
    mu_text_char(out, ']');
    json_text(out, "architecture", c->architecture);
    json_u64(out, "n_tensors", mu_model_file_tensors(f->file, &first));
    json_totals(out, f);
    if (c->quant_method[0]) json_text(out, "quantisation", c->quant_method);
    if (c->quant_format[0]) json_text(out, "quantisation_form", c->quant_format);
    json_known(out, "quantisation_group", c->quant_group_size);
    json_shape(out, f);
    json_tokenizer(out, f);
    json_tokens(out, c);
    json_bool(out, "chat_template", mu_model_file_chat_template(f->file, false) != NULL);
    if (tensors) json_tensors(out, f->file);
    mu_text_str(out, "}\n");
}

/* ---- For people ---------------------------------------------------------------------------- */

static void say_weights(struct mu_text *out, const struct facts *f)
{
    const struct totals *t = &f->totals;
    char text[MU_BYTES_TEXT];
    if (!f->has_weights) {
        mu_text_str(out, "weights        none here\n");
        return;
    }
    if (f->is_part)
        mu_text_printf(out, "part           %u of %u: weights are those of this part alone\n",
                       f->part, f->parts);
    else if (!t->packed)
        mu_text_printf(out, "parameters     %llu\n", (unsigned long long)t->values);
    mu_text_printf(out, "weights        %s, mostly %s\n", mu_format_bytes(t->bytes, text),
                   mu_dtype(t->main)->name);
    for (int i = 0; i < MU_DTYPE_COUNT; i++)
        if (t->n[i])
            mu_text_printf(out, "  %-12s %s in %llu tensors\n", mu_dtype((enum mu_dtype)i)->name,
                           mu_format_bytes(t->bytes_of[i], text), (unsigned long long)t->n[i]);
}

static void say_shape(struct mu_text *out, const struct facts *f)
{
    const struct mu_config *c = f->config;
    char text[MU_BYTES_TEXT];
    mu_text_printf(out, "layers         %u of hidden size %u\n", c->n_layers, c->hidden);
    mu_text_printf(out, "heads          %u of %u values, %u for keys and values\n", c->n_heads,
                   c->head_dim, c->n_kv_heads);
    if (c->n_experts)
        mu_text_printf(out, "experts        %u of %u, %u used for a token\n", c->n_experts,
                       c->expert_ffn, c->n_experts_used);
    else
        mu_text_printf(out, "mlp            %u\n", c->ffn);
    mu_text_printf(out, "vocabulary     %u%s\n", c->vocab,
                   f->has_weights && c->tied_head ? ", output tied to input" : "");
    mu_text_printf(out, "context        %llu tokens\n", (unsigned long long)c->context);
    if (n_sliding(c))
        mu_text_printf(out, "window         %u tokens in %u layers\n", c->sliding_window,
                       n_sliding(c));
    mu_text_printf(out, "rope           %s, theta %g", rope_name(&c->rope), c->rope.theta);
    if (c->rope.kind != MU_ROPE_DEFAULT) mu_text_printf(out, ", factor %g", c->rope.factor);
    mu_text_char(out, '\n');
    if (kv_bytes(c))
        mu_text_printf(out, "kv cache       %s a token at f16\n",
                       mu_format_bytes(kv_bytes(c), text));
}

static void say_tokenizer(struct mu_text *out, const struct facts *f)
{
    const struct mu_tokenizer_spec *spec = f->tokenizer;
    if (spec)
        mu_text_printf(out, "tokenizer      %s, %u tokens%s%s\n", tokenizer_kind(spec),
                       tokenizer_size(spec), spec->n_prefix ? ", begins a text with bos" : "",
                       spec->n_suffix ? ", ends it with eos" : "");
    else
        mu_text_printf(out, "tokenizer      %s%s\n",
                       f->why.code == MU_E_MISSING ? "" : "cannot be used: ",
                       f->why.code == MU_E_MISSING ? "none here" : f->why.what);
}

static void say_token(struct mu_text *out, const struct facts *f, const char *name, uint32_t id)
{
    struct mu_str text = token_text(f, id);
    if (id == MU_TOKEN_NONE) return;
    mu_text_printf(out, " %s %u", name, id);
    if (text.len > 0) mu_text_printf(out, " '%.*s'", (int)MU_MIN(text.len, 64), text.p);
}

static void say_tokens(struct mu_text *out, const struct facts *f)
{
    const struct mu_config *c = f->config;
    mu_text_str(out, "special       ");
    say_token(out, f, "bos", c->bos);
    for (unsigned i = 0; i < c->n_eos; i++)
        say_token(out, f, "eos", c->eos[i]);
    say_token(out, f, "pad", c->pad);
    mu_text_char(out, '\n');
}

static void say_tensors(struct mu_text *out, const struct mu_model_file *file)
{
    const struct mu_tensor *t;
    size_t n = mu_model_file_tensors(file, &t);
    for (size_t i = 0; i < n; i++, t++) {
        mu_text_printf(out, "%-48s %-8s [", t->name, mu_dtype(type_of(t))->name);
        for (unsigned d = 0; d < t->n_dims; d++)
            mu_text_printf(out, "%s%llu", d ? ", " : "", (unsigned long long)t->dims[d]);
        mu_text_str(out, "]\n");
    }
}

static void write_text(struct mu_text *out, const struct facts *f, bool tensors)
{
    const struct mu_config *c = f->config;
    const char *const *paths;
    size_t n = mu_model_file_paths(f->file, &paths);
    mu_text_printf(out, "model          %s\n", mu_model_file_name(f->file));
    mu_text_printf(out, "format         %s, %zu file%s\n", mu_model_file_format(f->file), n,
                   n == 1 ? "" : "s");
    mu_text_printf(out, "architecture   %s\n", c->architecture);
    say_weights(out, f);
    if (c->quant_method[0])
        mu_text_printf(out, "quantisation   %s%s%s%s\n", c->quant_method,
                       c->quant_format[0] ? " " : "", c->quant_format,
                       c->quant_known ? "" : ", which is not read");
    if (c->n_layers) say_shape(out, f);
    say_tokenizer(out, f);
    say_tokens(out, f);
    mu_text_printf(out, "chat template  %s\n",
                   mu_model_file_chat_template(f->file, false) ? "yes" : "no");
    if (tensors) say_tensors(out, f->file);
    /* Names from a file may hold anything; a terminal gets only what prints. */
    if (out->len)
        out->len =
            mu_utf8_copy_harmless(out->p, out->size, (struct mu_str){out->p, out->len}, '\n');
}

/* ---- The command --------------------------------------------------------------------------- */

static mu_status gather(const char *model, struct facts *f, struct mu_err *err)
{
    const struct mu_tensor *first;
    MU_TRY(mu_model_file_open(model, MU_OPEN_HEADER_ONLY, &f->file, err));
    f->config = mu_model_file_config(f->file);
    f->totals = add_up(f->file);
    f->has_weights = mu_model_file_tensors(f->file, &first) > 0;
    f->is_part = mu_model_file_is_part(f->file, &f->part, &f->parts);
    /* A tokenizer that cannot be used is a fact about the model, not a fault of the question. */
    if (mu_tokenizer_spec_read(f->file, &f->tokenizer, &f->why) != MU_E_MEMORY) return MU_OK;
    *err = f->why;
    return MU_E_MEMORY;
}

static void add_known(void *arg, const char *name, const struct mu_config *c)
{
    mu_text_printf(arg, "synth:%-32s %-12s %4u layers of %5u, vocabulary %6u\n", name,
                   c->architecture, c->n_layers, c->hidden, c->vocab);
}

static void add_known_json(void *arg, const char *name, const struct mu_config *c)
{
    struct mu_text *out = arg;
    (void)c;
    mu_text_str(out, out->len > 1 ? "," : "");
    mu_json_add_string(out, mu_str(name));
}

/* "synth:" alone asks what there is. */
static mu_status list_known(struct mu_text *out, bool json, struct mu_err *err)
{
    if (json) mu_text_char(out, '[');
    MU_TRY(mu_synth_each(json ? add_known_json : add_known, out, err));
    if (json) mu_text_str(out, "]\n");
    return MU_OK;
}

static mu_status run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct options *o = in->options;
    const char *model = in->result->operands[0];
    struct facts facts = {0};
    struct mu_text out;
    mu_status status = MU_OK;
    mu_text_init(&out, OUT_BYTES_MAX);
    if (strcmp(model, "synth:") == 0)
        status = list_known(&out, o->json, err);
    else if ((status = gather(model, &facts, err)) == MU_OK)
        (o->json ? write_json : write_text)(&out, &facts, o->tensors);
    if (status == MU_OK) status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    mu_tokenizer_spec_destroy(facts.tokenizer);
    mu_model_file_close(facts.file);
    return status;
}

const struct mu_command mu_command_inspect = {
    .spec = {.command = "inspect",
             .operands = "MODEL",
             .summary = "what a model file is, exactly",
             .details = "MODEL is a folder, a .gguf file (or the first of a split), a hub id in "
                        "the local cache, or synth:NAME[@TYPE]; synth: alone lists the NAMEs.",
             .options = options,
             .min_operands = 1,
             .max_operands = 1},
    .options_size = sizeof(struct options),
    .run = run,
};
