/*
 * llama.cpp's tokenizer, for comparison: built by bench/text.py and tests/oracle against a
 * llama.cpp that was built before. Not a part of muster.
 *
 *   tokenize MODEL ids < texts > ids      each text: u32 bytes, then the bytes; each answer: u32
 *                                         tokens, then the tokens as i32
 *   tokenize MODEL seconds N < texts      the texts, N times: seconds of each, and the tokens
 *   tokenize MODEL load N                 the vocabulary, N times: seconds of each
 */
#include <llama.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static void quiet(enum ggml_log_level level, const char *text, void *data)
{
    (void)level, (void)text, (void)data;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static struct llama_model *load(const char *path)
{
    struct llama_model_params p = llama_model_default_params();
    p.vocab_only = true;
    struct llama_model *model = llama_model_load_from_file(path, p);
    if (!model) {
        fprintf(stderr, "llama.cpp cannot load %s\n", path);
        exit(1);
    }
    return model;
}

static int32_t encode(const struct llama_vocab *vocab, const char *text, size_t n, int32_t *out,
                      size_t size)
{
    return llama_tokenize(vocab, text, (int32_t)n, out, (int32_t)size, false, true);
}

static void answer_texts(const struct llama_vocab *vocab)
{
    uint32_t n;
    while (fread(&n, sizeof n, 1, stdin) == 1) {
        char *text = malloc(n + 1);
        int32_t *out = malloc((n + 16) * 2 * sizeof *out);
        if (!text || !out || fread(text, 1, n, stdin) != n) exit(1);
        uint32_t got = (uint32_t)encode(vocab, text, n, out, (n + 16) * 2);
        fwrite(&got, sizeof got, 1, stdout);
        fwrite(out, sizeof *out, got, stdout);
        free(text);
        free(out);
    }
}

static void time_texts(const struct llama_vocab *vocab, int times)
{
    size_t n = 0, size = 1 << 28;
    char *all = malloc(size);
    int32_t *out = malloc(size / 16 * sizeof *out);
    if (!all || !out) exit(1);
    for (size_t got; (got = fread(all + n, 1, size - n, stdin)) > 0;)
        n += got;
    for (int i = 0; i < times; i++) {
        double begin = now();
        long tokens = 0;
        for (size_t at = 0; at < n;) {
            uint32_t len;
            memcpy(&len, all + at, sizeof len);
            tokens += encode(vocab, all + at + sizeof len, len, out, size / 16);
            at += sizeof len + len;
        }
        printf("%.6f %ld\n", now() - begin, tokens);
    }
    free(all);
    free(out);
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    int times = 0;
    for (const char *p = argc > 3 ? argv[3] : "1"; *p >= '0' && *p <= '9'; p++)
        times = times * 10 + (*p - '0');
    llama_log_set(quiet, NULL);
    for (int i = 0; strcmp(argv[2], "load") == 0 && i < times; i++) {
        double begin = now();
        llama_model_free(load(argv[1]));
        printf("%.6f 0\n", now() - begin);
    }
    if (strcmp(argv[2], "load") == 0) return 0;
    struct llama_model *model = load(argv[1]);
    if (strcmp(argv[2], "ids") == 0)
        answer_texts(llama_model_get_vocab(model));
    else
        time_texts(llama_model_get_vocab(model), times);
    llama_model_free(model);
    return 0;
}
