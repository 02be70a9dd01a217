/*
 * Tokenizers and templates alone, for bench/text.py, which puts them beside others:
 *
 *   build/bench/text load MODEL N            the tokenizer, N times: seconds of each
 *   build/bench/text encode MODEL N < TEXTS  all texts (u32 bytes, then the bytes), N times:
 * seconds of each, and the number of tokens build/bench/text render FILE N < TALK    the template,
 * N times for one conversation: seconds of all, and the number of bytes
 */
#include "text/text.h"
#include "base/base.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/number.h"
#include "format/format.h"

#include <stdio.h>

#define TEXT_BYTES_MAX (UINT64_C(1) << 30)

static mu_status open_tokenizer(const char *model, struct mu_tokenizer **out, struct mu_err *err)
{
    struct mu_model_file *file;
    MU_TRY(mu_model_file_open(model, MU_OPEN_TEXT_ONLY, &file, err));
    mu_status status = mu_tokenizer_open(file, out, err);
    mu_model_file_close(file);
    return status;
}

static mu_status time_load(const char *model, uint64_t n, struct mu_err *err)
{
    for (uint64_t i = 0; i < n; i++) {
        struct mu_tokenizer *t;
        uint64_t begin = mu_clock_ns();
        MU_TRY(open_tokenizer(model, &t, err));
        printf("%.6f 0\n", mu_clock_seconds_since(begin));
        mu_tokenizer_destroy(t);
    }
    return MU_OK;
}

static mu_status encode_texts(const struct mu_tokenizer *t, struct mu_str bytes, struct mu_ids *ids,
                              struct mu_err *err)
{
    struct mu_cursor c = mu_cursor_over(bytes.p, bytes.len);
    ids->n = 0;
    while (mu_cursor_left(&c) > 0) {
        uint32_t n = mu_cursor_u32(&c);
        struct mu_str text = {(const char *)mu_cursor_take(&c, n), n};
        if (!text.p) return mu_fail(err, MU_E_INPUT, "a text is cut off");
        MU_TRY(mu_tokenizer_encode(t, text, 0, ids, err));
    }
    return MU_OK;
}

static mu_status time_encode(const char *model, uint64_t n, struct mu_str bytes, struct mu_err *err)
{
    struct mu_tokenizer *t;
    struct mu_ids ids = {0};
    MU_TRY(open_tokenizer(model, &t, err));
    mu_status status = MU_OK;
    for (uint64_t i = 0; status == MU_OK && i < n; i++) {
        uint64_t begin = mu_clock_ns();
        status = encode_texts(t, bytes, &ids, err);
        printf("%.6f %zu\n", mu_clock_seconds_since(begin), ids.n);
    }
    mu_ids_fini(&ids);
    mu_tokenizer_destroy(t);
    return status;
}

static mu_status time_render(const char *path, uint64_t n, struct mu_str talk, struct mu_err *err)
{
    struct mu_text source, out;
    struct mu_template *template = NULL;
    json_t *conversation = NULL, *variables = NULL;
    mu_text_init(&source, TEXT_BYTES_MAX);
    mu_text_init(&out, TEXT_BYTES_MAX);
    mu_status status = mu_file_read(path, &source, err);
    if (status == MU_OK)
        status = mu_template_compile((struct mu_str){mu_text_get(&source), source.len}, path,
                                     &template, err);
    if (status == MU_OK) status = mu_json_parse(talk, "standard input", &conversation, err);
    if (status == MU_OK) status = mu_template_variables(conversation, 0, &variables, err);
    uint64_t begin = mu_clock_ns();
    for (uint64_t i = 0; status == MU_OK && i < n; i++) {
        mu_text_clear(&out);
        status = mu_template_render(template, variables, NULL, "2025-03-14T15:09:26", &out, err);
    }
    if (status == MU_OK) printf("%.6f %zu\n", mu_clock_seconds_since(begin), out.len);
    json_decref(conversation);
    json_decref(variables);
    mu_template_destroy(template);
    mu_text_fini(&source);
    mu_text_fini(&out);
    return status;
}

int main(int argc, char **argv)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_text in;
    uint64_t n;
    if (argc != 4 || !mu_parse_u64(mu_str(argv[3]), 1, 1000000, &n)) {
        printf("text: run by bench/text.py\n");
        return 0;
    }
    mu_text_init(&in, TEXT_BYTES_MAX);
    mu_status status = MU_OK;
    if (strcmp(argv[1], "load") != 0) status = mu_file_read("-", &in, &err);
    struct mu_str bytes = {mu_text_get(&in), in.len};
    if (status == MU_OK)
        status = strcmp(argv[1], "load") == 0     ? time_load(argv[2], n, &err)
                 : strcmp(argv[1], "encode") == 0 ? time_encode(argv[2], n, bytes, &err)
                                                  : time_render(argv[2], n, bytes, &err);
    mu_text_fini(&in);
    char line[1024];
    if (status != MU_OK) (void)fprintf(stderr, "%s\n", mu_err_line(&err, line, sizeof line));
    return status != MU_OK;
}
