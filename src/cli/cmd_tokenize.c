/* muster tokenize: text to ids and back, with a model's own tokenizer. */
#include "cli/cli.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/json.h"
#include "base/number.h"
#include "base/utf8.h"
#include "format/format.h"
#include "text/text.h"

#include <unistd.h>

#define INPUT_BYTES_MAX  (UINT64_C(1) << 29)
#define OUTPUT_BYTES_MAX (UINT64_C(1) << 33)

struct options {
    const char *file;
    bool batch, add_special, no_special, decode, json;
};

static const struct mu_option option_table[] = {
    {"file", 'f', MU_OPTION_TEXT, offsetof(struct options, file), "FILE",
     "read this file instead of standard input", 0, 0, "-", NULL},
    {"batch", 0, MU_OPTION_FLAG, offsetof(struct options, batch), NULL,
     "a JSON array of texts in, an array of id arrays out", 0, 0, NULL, NULL},
    {"add-special", 0, MU_OPTION_FLAG, offsetof(struct options, add_special), NULL,
     "with what the tokenizer puts around a text (BOS, EOS)", 0, 0, NULL, NULL},
    {"no-special", 0, MU_OPTION_FLAG, offsetof(struct options, no_special), NULL,
     "special tokens in the text are plain text; with --decode, leave them out", 0, 0, NULL, NULL},
    {"decode", 0, MU_OPTION_FLAG, offsetof(struct options, decode), NULL,
     "read ids (JSON, or numbers between spaces or commas) and write their text", 0, 0, NULL, NULL},
    {"json", 0, MU_OPTION_FLAG, offsetof(struct options, json), NULL, "print JSON", 0, 0, NULL,
     NULL},
    {0},
};

struct run {
    const struct options *o;
    const struct mu_tokenizer *t;
    struct mu_text in, out;
    struct mu_ids ids;
    struct mu_err *err;
};

static void add_ids(struct mu_text *out, const struct mu_ids *ids)
{
    mu_text_char(out, '[');
    for (size_t i = 0; i < ids->n; i++)
        mu_text_printf(out, i ? ",%u" : "%u", ids->p[i]);
    mu_text_char(out, ']');
}

/* A piece as one readable word: its own text, or how the vocabulary spells it. */
static void add_piece(struct run *r, uint32_t id)
{
    struct mu_text piece;
    mu_text_init(&piece, INPUT_BYTES_MAX);
    mu_tokenizer_add_bytes(r->t, id, &piece);
    struct mu_str s = {mu_text_get(&piece), piece.len};
    mu_text_printf(&r->out, "%8u  ", id);
    if (mu_utf8_unfinished(s) || !mu_utf8_valid(s)) {
        for (size_t i = 0; i < s.len; i++)
            mu_text_printf(&r->out, "<%02x>", (unsigned char)s.p[i]);
    } else {
        mu_json_add_string(&r->out, s);
    }
    mu_text_str(&r->out, mu_tokenizer_is_special(r->t, id) ? "  (special)\n" : "\n");
    mu_text_fini(&piece);
}

static mu_status encode(struct run *r, struct mu_str text)
{
    unsigned flags = (r->o->add_special ? MU_ENCODE_ADD_SPECIAL : 0) |
                     (r->o->no_special ? MU_ENCODE_PLAIN_SPECIAL : 0);
    r->ids.n = 0;
    return mu_tokenizer_encode(r->t, text, flags, &r->ids, r->err);
}

static mu_status encode_one(struct run *r)
{
    MU_TRY(encode(r, (struct mu_str){mu_text_get(&r->in), r->in.len}));
    if (r->o->json) {
        mu_text_str(&r->out, "{\"ids\":");
        add_ids(&r->out, &r->ids);
        mu_text_str(&r->out, "}\n");
        return MU_OK;
    }
    for (size_t i = 0; i < r->ids.n; i++)
        add_piece(r, r->ids.p[i]);
    return MU_OK;
}

static mu_status bad_input(struct run *r, const char *what)
{
    mu_status status = mu_fail(r->err, MU_E_INPUT, "%s", what);
    mu_err_where(r->err, "%s", strcmp(r->o->file, "-") == 0 ? "standard input" : r->o->file);
    return status;
}

static mu_status encode_batch(struct run *r, const json_t *root)
{
    const json_t *text;
    size_t i;
    if (!json_is_array(root)) return bad_input(r, "not a JSON array of texts");
    mu_text_char(&r->out, '[');
    json_array_foreach(root, i, text)
    {
        if (!json_is_string(text)) return bad_input(r, "not a JSON array of texts");
        MU_TRY(encode(r, (struct mu_str){json_string_value(text), json_string_length(text)}));
        if (i) mu_text_str(&r->out, ",\n");
        add_ids(&r->out, &r->ids);
    }
    mu_text_str(&r->out, "]\n");
    return MU_OK;
}

/* ---- Decode -------------------------------------------------------------------------------- */

static mu_status add_id(struct run *r, uint64_t id)
{
    if (id >= mu_tokenizer_size(r->t)) {
        (void)mu_fail(r->err, MU_E_INPUT, "there is no token %llu: ids are below %u",
                      (unsigned long long)id, mu_tokenizer_size(r->t));
        return MU_E_INPUT;
    }
    if (!mu_ids_reserve(&r->ids, 1)) return mu_fail_memory(r->err, r->ids.n);
    r->ids.p[r->ids.n++] = (uint32_t)id;
    return MU_OK;
}

static mu_status read_id_list(struct run *r, const json_t *list)
{
    const json_t *id;
    size_t i;
    r->ids.n = 0;
    if (!json_is_array(list)) return bad_input(r, "not an array of token ids");
    json_array_foreach(list, i, id)
    {
        if (!json_is_integer(id) || json_integer_value(id) < 0)
            return bad_input(r, "not an array of token ids");
        MU_TRY(add_id(r, (uint64_t)json_integer_value(id)));
    }
    return MU_OK;
}

/* "1 2, 3" */
static mu_status read_id_words(struct run *r)
{
    static const char between[] = " \t\r\n,";
    const char *p = mu_text_get(&r->in);
    r->ids.n = 0;
    for (p += strspn(p, between); *p; p += strspn(p, between)) {
        struct mu_str word = {p, strcspn(p, between)};
        uint64_t id;
        if (!mu_parse_u64(word, 0, UINT32_MAX, &id)) return bad_input(r, "not a list of token ids");
        MU_TRY(add_id(r, id));
        p += word.len;
    }
    return MU_OK;
}

static mu_status decode(struct run *r, struct mu_text *out)
{
    return mu_tokenizer_decode(r->t, r->ids.p, r->ids.n,
                               r->o->no_special ? MU_DECODE_SKIP_SPECIAL : 0, out, r->err);
}

static mu_status decode_to_json(struct run *r)
{
    struct mu_text text;
    mu_text_init(&text, OUTPUT_BYTES_MAX);
    mu_status status = decode(r, &text);
    if (status == MU_OK) mu_json_add_string(&r->out, (struct mu_str){mu_text_get(&text), text.len});
    mu_text_fini(&text);
    return status;
}

static mu_status decode_batch(struct run *r, const json_t *root)
{
    const json_t *list;
    size_t i;
    if (!json_is_array(root)) return bad_input(r, "not a JSON array of id arrays");
    mu_text_char(&r->out, '[');
    json_array_foreach(root, i, list)
    {
        MU_TRY(read_id_list(r, list));
        if (i) mu_text_str(&r->out, ",\n");
        MU_TRY(decode_to_json(r));
    }
    mu_text_str(&r->out, "]\n");
    return MU_OK;
}

static mu_status decode_one(struct run *r, const json_t *root)
{
    if (json_is_object(root)) root = json_object_get(root, "ids");
    MU_TRY(root ? read_id_list(r, root) : read_id_words(r));
    if (!r->o->json) return decode(r, &r->out);
    mu_text_str(&r->out, "{\"text\":");
    MU_TRY(decode_to_json(r));
    mu_text_str(&r->out, "}\n");
    return MU_OK;
}

/* ---- The command --------------------------------------------------------------------------- */

static mu_status run_on_input(struct run *r)
{
    const struct options *o = r->o;
    const char *p = mu_text_get(&r->in);
    p += strspn(p, " \t\r\n");
    bool is_json = o->batch || (o->decode && (*p == '[' || *p == '{'));
    json_t *root = NULL;
    if (is_json)
        MU_TRY(mu_json_parse((struct mu_str){mu_text_get(&r->in), r->in.len},
                             strcmp(o->file, "-") == 0 ? "standard input" : o->file, &root,
                             r->err));
    mu_status status;
    if (o->batch)
        status = o->decode ? decode_batch(r, root) : encode_batch(r, root);
    else
        status = o->decode ? decode_one(r, root) : encode_one(r);
    json_decref(root);
    return status;
}

static mu_status open_tokenizer(const char *model, struct mu_tokenizer **out, struct mu_err *err)
{
    struct mu_model_file *file;
    MU_TRY(mu_model_file_open(model, MU_OPEN_TEXT_ONLY, &file, err));
    mu_status status = mu_tokenizer_open(file, out, err);
    mu_model_file_close(file);
    return status;
}

static mu_status tokenize(const struct mu_invocation *in, struct mu_err *err)
{
    struct run r = {.o = in->options, .err = err};
    struct mu_tokenizer *t;
    if (r.o->decode && mu_commanded(in, "add-special"))
        return mu_fail(err, MU_E_USAGE, "--add-special has no meaning with --decode");
    MU_TRY(open_tokenizer(in->result->operands[0], &t, err));
    r.t = t;
    mu_text_init(&r.in, INPUT_BYTES_MAX);
    mu_text_init(&r.out, OUTPUT_BYTES_MAX);
    mu_status status = mu_file_read(r.o->file, &r.in, err);
    if (status == MU_OK) status = run_on_input(&r);
    if (status == MU_OK) status = mu_cli_out_text(&r.out, err);
    mu_ids_fini(&r.ids);
    mu_text_fini(&r.in);
    mu_text_fini(&r.out);
    mu_tokenizer_destroy(t);
    return status;
}

const struct mu_command mu_command_tokenize = {
    .spec = {.command = "tokenize",
             .operands = "MODEL",
             .summary = "text to token ids and back",
             .details = "Reads a text from standard input and prints its tokens, one a line. MODEL "
                        "may be a GGUF file that holds only a vocabulary.",
             .options = option_table,
             .min_operands = 1,
             .max_operands = 1},
    .options_size = sizeof(struct options),
    .run = tokenize,
};
