/*
 * llama.cpp's logits, for comparison: built by tests/oracle/converted.py against a llama.cpp that
 * was built before. Not a part of muster.
 *
 *   logits MODEL ID,ID,...    the logits after the last token, as f32, on standard output
 */
#include <llama.h>
#include <stdio.h>

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
    ids[0] = 0;
    for (const char *at = argv[2]; *at && n < 4095; at++)
        if (*at == ',')
            ids[++n] = 0;
        else
            ids[n] = ids[n] * 10 + (*at - '0');
    n++;
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
