/*
 * Composes logs of engines from scripts: lines in the shapes that real engines print, with several
 * ranks, lines of other ranks in between, and the wrappers of containers and collectors around
 * them.
 *
 * A script line begins with who prints it:
 *   "A "  the API server           "i " "C "  the engine core's logger; as an error
 *   "w2 " worker 2's logger        "e2 " the same, as an error        "x2 " worker 2, bare
 *   "s2 " SGLang's rank 2          "n2 " NCCL on device 2             "r2 " torch's rank 2
 *   "k "  the kernel               "l "  llama.cpp                    "- "  nobody, bare
 * "T2 f,g|Error: text" is a traceback of worker 2 through the functions f and g. A leading '!'
 * marks the line that a diagnosis must name.
 */
#ifndef TESTS_HEALTH_COMPOSE_H
#define TESTS_HEALTH_COMPOSE_H

#include "base/json.h"
#include "base/text.h"

#include <stdlib.h>

enum wrapper { WRAP_NONE, WRAP_COLOUR, WRAP_COMPOSE, WRAP_DOCKER, WRAP_KUBERNETES, WRAP_COUNT };

struct composer {
    struct mu_text out;
    enum wrapper wrapper;
    uint64_t random;
    unsigned second, line, expected_line;
};

static inline unsigned composer_random(struct composer *c, unsigned below)
{
    c->random = c->random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(c->random >> 33) % below;
}

static inline void composer_line(struct composer *c, const char *prefix, const char *text)
{
    struct mu_text line;
    mu_text_init(&line, 1 << 16);
    bool colour = c->wrapper == WRAP_COLOUR && prefix[0] == '(';
    mu_text_printf(&line, "%s%s%s%s", colour ? "\x1b[1;36m" : "", prefix, colour ? "\x1b[0;0m" : "",
                   text);
    c->line++;
    switch (c->wrapper) {
    case WRAP_COMPOSE:
        mu_text_printf(&c->out, "vllm-1  | %s\n", mu_text_get(&line));
        break;
    case WRAP_DOCKER:
        mu_text_char(&line, '\n');
        mu_text_str(&c->out, "{\"log\":");
        mu_json_add_string(&c->out, (struct mu_str){mu_text_get(&line), line.len});
        mu_text_printf(&c->out, ",\"stream\":\"stderr\",\"time\":\"2026-03-01T12:%02u:%02u.5Z\"}\n",
                       c->second / 60 % 60, c->second % 60);
        break;
    case WRAP_KUBERNETES:
        mu_text_printf(&c->out, "2026-03-01T12:%02u:%02u.123456789Z stderr F %s\n",
                       c->second / 60 % 60, c->second % 60, mu_text_get(&line));
        break;
    case WRAP_NONE:
    case WRAP_COLOUR:
    case WRAP_COUNT:
        mu_text_printf(&c->out, "%s\n", mu_text_get(&line));
        break;
    }
    mu_text_fini(&line);
}

static inline void composer_prefix(struct composer *c, char who, unsigned rank, char *out,
                                   size_t size)
{
    unsigned m = c->second / 60 % 60, s = c->second % 60, pid = 4900 + rank;
    switch (who) {
    case 'A':
        (void)snprintf(out, size, "(APIServer pid=4711) ");
        break;
    case 'C':
        (void)snprintf(out, size,
                       "(EngineCore_DP0 pid=4800) ERROR 03-01 12:%02u:%02u [core.py:708] ", m, s);
        break;
    case 'i':
        (void)snprintf(out, size, "(EngineCore_DP0 pid=4800) INFO 03-01 12:%02u:%02u [core.py:77] ",
                       m, s);
        break;
    case 'w':
        (void)snprintf(out, size,
                       "(Worker_TP%u pid=%u) INFO 03-01 12:%02u:%02u [gpu_worker.py:298] ", rank,
                       pid, m, s);
        break;
    case 'W':
        (void)snprintf(out, size, "(Worker_TP%u pid=%u) WARNING 03-01 12:%02u:%02u [utils.py:18] ",
                       rank, pid, m, s);
        break;
    case 'e':
        (void)snprintf(out, size,
                       "(Worker_TP%u pid=%u) ERROR 03-01 12:%02u:%02u [multiproc_executor.py:559] ",
                       rank, pid, m, s);
        break;
    case 'x':
        (void)snprintf(out, size, "(Worker_TP%u pid=%u) ", rank, pid);
        break;
    case 's':
        (void)snprintf(out, size, "[2026-03-01 12:%02u:%02u TP%u] ", m, s, rank);
        break;
    case 'n':
        (void)snprintf(out, size, "node-a:%u:%u [%u] ", pid, pid + 700, rank);
        break;
    case 'r':
        (void)snprintf(out, size, "[rank%u]: ", rank);
        break;
    case 'k':
        (void)snprintf(out, size, "Mar  1 12:%02u:%02u node-a kernel: ", m, s);
        break;
    case 'l':
        (void)snprintf(out, size, "0.%02u.%02u.000.123 E ", m, s);
        break;
    default:
        out[0] = '\0';
        break;
    }
}

static inline void composer_traceback(struct composer *c, unsigned rank, const char *script,
                                      bool mark)
{
    char prefix[128], text[2048];
    composer_prefix(c, 'e', rank, prefix, sizeof prefix);
    const char *bar = strchr(script, '|');
    composer_line(c, prefix, "WorkerProc failed to start.");
    composer_line(c, prefix, "Traceback (most recent call last):");
    for (const char *p = script; p < bar;) {
        size_t n = strcspn(p, ",|");
        (void)snprintf(
            text, sizeof text,
            "  File \"/usr/lib/python3.12/site-packages/engine/worker.py\", line %u, in %.*s",
            composer_random(c, 900) + 1, (int)n, p);
        composer_line(c, prefix, text);
        composer_line(c, prefix, "    result = self._run(*args, **kwargs)");
        p += n + 1;
    }
    composer_line(c, prefix, bar + 1);
    if (mark) c->expected_line = c->line;
}

/* A line that another process happens to print meanwhile. */
static inline void composer_chatter(struct composer *c, unsigned ranks)
{
    static const char *const texts[] = {
        "Using FlashAttention version 2",
        "Directly load the compiled graph(s) for dynamic shape from the cache, took 3.004 s",
        "Dynamo bytecode transform time: 6.38 s",
        "Offloader set to NoopOffloader",
        "Kernel JIT monitor activated",
    };
    char prefix[128];
    if (composer_random(c, 3)) return;
    composer_prefix(c, 'w', composer_random(c, ranks ? ranks : 1), prefix, sizeof prefix);
    composer_line(c, prefix, texts[composer_random(c, MU_ARRAY_LEN(texts))]);
}

/* One line of a script. */
static inline void composer_add(struct composer *c, const char *script, unsigned ranks)
{
    bool mark = script[0] == '!';
    if (mark) script++;
    c->second += composer_random(c, 3);
    char who = script[0], prefix[128];
    bool numbered = script[1] >= '0' && script[1] <= '9';
    unsigned rank = numbered ? (unsigned)(script[1] - '0') : 0;
    const char *text = script + (numbered ? 3 : 2);
    if (who == 'T') {
        composer_traceback(c, rank, text, mark);
        return;
    }
    composer_prefix(c, who, rank, prefix, sizeof prefix);
    composer_line(c, prefix, text);
    if (mark) c->expected_line = c->line;
    if (strchr("AewCx", who) && ranks > 1) composer_chatter(c, ranks);
}

/* The start of an engine, up to a stage: 1 configured, 2 weights loaded, 3 cache made, 4 serving.
 */
static inline void composer_vllm(struct composer *c, unsigned ranks, unsigned stage)
{
    char text[512];
    composer_add(c, "A INFO 03-01 12:00:00 [api_server.py:1896] vLLM API server version 0.11.0", 0);
    (void)snprintf(text, sizeof text,
                   "i Initializing a V1 LLM engine (v0.11.0) with config: model='org/model-32b', "
                   "speculative_config=None, dtype=torch.bfloat16, max_seq_len=32768, "
                   "tensor_parallel_size=%u, pipeline_parallel_size=1, data_parallel_size=1, "
                   "quantization=awq_marlin, enforce_eager=False, kv_cache_dtype=auto",
                   ranks);
    composer_add(c, text, 0);
    for (unsigned r = 0; r < ranks; r++) {
        (void)snprintf(
            text, sizeof text,
            "w%u rank %u in world size %u is assigned as DP rank 0, PP rank 0, TP rank %u, "
            "EP rank %u",
            r, r, ranks, r, r);
        composer_add(c, text, ranks);
    }
    if (ranks > 1) composer_add(c, "w0 vLLM is using nccl==2.27.3", ranks);
    for (unsigned r = 0; stage >= 2 && r < ranks; r++) {
        (void)snprintf(text, sizeof text, "w%u Starting to load model org/model-32b...", r);
        composer_add(c, text, ranks);
        (void)snprintf(text, sizeof text, "w%u Model loading took 4.6%u GiB and 21.5 seconds", r,
                       r);
        composer_add(c, text, ranks);
    }
    for (unsigned r = 0; stage >= 3 && r < ranks; r++) {
        (void)snprintf(text, sizeof text, "w%u Available KV cache memory: 11.%u GiB", r, 30 + r);
        composer_add(c, text, ranks);
    }
    if (stage < 4) return;
    composer_add(
        c, "A INFO 03-01 12:01:00 [kv_cache_utils.py:864] GPU KV cache size: 186,512 tokens", 0);
    composer_add(c, "w0 Graph capturing finished in 12 secs, took 0.84 GiB", ranks);
    composer_add(c, "A INFO:     Started server process [4711]", 0);
    composer_add(c, "A INFO:     Application startup complete.", 0);
    for (unsigned i = 0; i < 6; i++)
        composer_add(
            c,
            i % 3 ? "A INFO:     10.0.0.9:52110 - \"POST /v1/chat/completions HTTP/1.1\" 200 OK"
                  : "A INFO 03-01 12:02:10 [loggers.py:123] Engine 000: Avg prompt "
                    "throughput: 210.1 tokens/s, Avg generation throughput: 88.4 "
                    "tokens/s, Running: 3 reqs, Waiting: 0 reqs, GPU KV cache usage: "
                    "4.1%, Prefix cache hit rate: 11.0%",
            0);
}

static inline void composer_sglang(struct composer *c, unsigned ranks, unsigned stage)
{
    char text[512];
    (void)snprintf(text, sizeof text,
                   "- [2026-03-01 12:00:00] server_args=ServerArgs(model_path='org/model-32b', "
                   "tp_size=%u, pp_size=1, dp_size=1, mem_fraction_static=0.88, "
                   "watchdog_timeout=300, disable_custom_all_reduce=False)",
                   ranks);
    composer_add(c, text, 0);
    for (unsigned r = 0; r < ranks; r++) {
        (void)snprintf(text, sizeof text, "s%u Init torch distributed ends. mem usage=0.7%u GB", r,
                       r);
        composer_add(c, text, 0);
        (void)snprintf(text, sizeof text, "s%u Load weight begin. avail mem=78.%u GB", r, r);
        composer_add(c, text, 0);
    }
    for (unsigned r = 0; stage >= 2 && r < ranks; r++) {
        (void)snprintf(
            text, sizeof text,
            "s%u Load weight end. type=Model, dtype=torch.bfloat16, avail mem=61.2%u GB, "
            "mem usage=16.9%u GB.",
            r, r, r);
        composer_add(c, text, 0);
    }
    for (unsigned r = 0; stage >= 3 && r < ranks; r++) {
        (void)snprintf(
            text, sizeof text,
            "s%u KV Cache is allocated. #tokens: 367404, K size: 8.23 GB, V size: 8.23 GB", r);
        composer_add(c, text, 0);
        (void)snprintf(text, sizeof text, "s%u Memory pool end. avail mem=9.1%u GB", r, r);
        composer_add(c, text, 0);
    }
    if (stage < 4) return;
    composer_add(c,
                 "s0 max_total_num_tokens=367404, chunked_prefill_size=8192, "
                 "max_prefill_tokens=16384, max_running_requests=2048, context_len=32768, "
                 "available_gpu_mem=7.90 GB",
                 0);
    composer_add(c, "- [2026-03-01 12:01:10] INFO:     Application startup complete.", 0);
    composer_add(c, "- [2026-03-01 12:01:12] The server is fired up and ready to roll!", 0);
    for (unsigned i = 0; i < 3; i++)
        composer_add(
            c,
            "s0 Decode batch. #running-req: 3, #token: 3709, token usage: 0.02, cuda graph: "
            "True, gen throughput (token/s): 214.01, #queue-req: 0",
            0);
}

static inline void composer_nccl(struct composer *c, unsigned ranks, bool complete)
{
    char text[256];
    composer_add(c, "- NCCL version 2.27.3+cuda12.9", 0);
    for (unsigned r = 0; r < ranks; r++) {
        (void)snprintf(text, sizeof text, "n%u NCCL INFO Bootstrap: Using eth0:10.0.0.2<0>", r);
        composer_add(c, text, 0);
        (void)snprintf(text, sizeof text, "n%u NCCL INFO NET/IB : No device found.", r);
        composer_add(c, text, 0);
        (void)snprintf(text, sizeof text, "n%u NCCL INFO Using network Socket", r);
        composer_add(c, text, 0);
    }
    for (unsigned r = 0; complete && r < ranks; r++) {
        (void)snprintf(text, sizeof text,
                       "n%u NCCL INFO Channel 00/0 : %u[%u] -> %u[%u] via P2P/CUMEM", r, r, r,
                       (r + 1) % ranks, (r + 1) % ranks);
        composer_add(c, text, 0);
        (void)snprintf(text, sizeof text,
                       "n%u NCCL INFO ncclCommInitRank comm 0x55d%u rank %u nranks %u cudaDev %u "
                       "nvmlDev %u busId %u000 commId 0x1 - Init COMPLETE",
                       r, r, r, ranks, r, r, r + 1);
        composer_add(c, text, 0);
    }
}

static inline void composer_llama(struct composer *c, bool serving)
{
    static const char *const start[] = {
        "- ggml_cuda_init: found 2 CUDA devices:",
        "-   Device 0: NVIDIA GeForce RTX 4090, compute capability 8.9, VMM: yes",
        "- build: 6123 (79c1160b) with cc (Debian 12.2.0) for x86_64-linux-gnu",
        "- main: binding port with default address family",
        "- srv    load_model: loading model '/models/m-00001-of-00002.gguf'",
        ("- llama_model_loader: loaded meta data with 41 key-value pairs and 579 tensors from "
         "/models/m-00001-of-00002.gguf (version GGUF V3 (latest))"),
        "- load_tensors: loading model tensors, this can take a while... (mmap = true)",
    };
    static const char *const end[] = {
        "- load_tensors: offloaded 65/65 layers to GPU",
        "- load_tensors:        CUDA0 model buffer size =  9216.12 MiB",
        "- load_tensors:        CUDA1 model buffer size =  9100.40 MiB",
        "- llama_kv_cache:      CUDA0 KV buffer size =   640.00 MiB",
        "- main: server is listening on http://127.0.0.1:8080 - starting the main loop",
        "- srv  update_slots: all slots are idle",
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(start); i++)
        composer_add(c, start[i], 0);
    for (size_t i = 0; serving && i < MU_ARRAY_LEN(end); i++)
        composer_add(c, end[i], 0);
}

#endif
