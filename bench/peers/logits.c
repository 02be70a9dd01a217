/*
 * llama.cpp's logits, for comparison: built by tests/oracle/converted.py against a llama.cpp that
 * was built before. Not a part of muster.
 *
 *   logits MODEL ID,ID,...    the logits after the last token, as f32, on standard output
 */
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void quiet(enum ggml_log_level level, const char *text, void *data)
{
    (void)data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

int main(int argc, char **argv)
{
    llama_token ids[4096];
    int n = 0;
    if (argc != 3) return 2;
    for (char *at = argv[2]; *at && n < 4096; at += *at == ',')
        ids[n++] = (llama_token)strtol(at, &at, 10);
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model *model = llama_model_load_from_file(argv[1], llama_model_default_params());
    if (!model) return 1;
    struct llama_context_params p = llama_context_default_params();
    p.n_ctx = 512;
    p.n_threads = p.n_threads_batch = 1;
    p.type_k = p.type_v = GGML_TYPE_F32;
    struct llama_context *context = llama_init_from_model(model, p);
    if (!context || llama_decode(context, llama_batch_get_one(ids, n)) != 0) return 1;
    int vocab = llama_vocab_n_tokens(llama_model_get_vocab(model));
    const float *logits = llama_get_logits_ith(context, n - 1);
    return fwrite(logits, sizeof *logits, (size_t)vocab, stdout) != (size_t)vocab;
}
