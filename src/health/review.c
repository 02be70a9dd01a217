/* Remarks on a configuration, from the facts that its logs state. A table of small rules. */
#include "health/health_int.h"

static bool value(const struct mu_health_diagnosis *d, const char *key, double *last)
{
    const struct mu_health_fact_value *fact = mu_health_fact_find(d, key);
    if (!fact || !fact->numeric) return false;
    *last = fact->last;
    return true;
}

static void ranks_missing(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    double world;
    unsigned seen = mu_health_fact_distinct(mu_health_fact_find(d, "rank"));
    if (value(d, "world_size", &world) && seen && seen < world)
        mu_text_printf(out, "only %u of %.0f ranks appear in the log\n", seen, world);
}

static void eager(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    const char *text = mu_health_fact(d, "enforce_eager");
    if (text && strcmp(text, "True") == 0)
        mu_text_str(out, "CUDA graphs are off: decode is slower; drop --enforce-eager\n");
}

static void balance(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    static const char *const keys[] = {"weights_gib", "kv_available_gib"};
    for (size_t i = 0; i < MU_ARRAY_LEN(keys); i++) {
        const struct mu_health_fact_value *fact = mu_health_fact_find(d, keys[i]);
        if (fact && fact->numeric && fact->min > 0 && fact->max > 1.1 * fact->min)
            mu_text_printf(out, "%s differs between ranks by more than a tenth: %g to %g\n",
                           keys[i], fact->min, fact->max);
    }
}

static void cache(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    const struct mu_health_fact_value *usage = mu_health_fact_find(d, "kv_usage_percent");
    const struct mu_health_fact_value *waiting = mu_health_fact_find(d, "waiting");
    if (usage && waiting && usage->max > 95 && waiting->max > 0)
        mu_text_str(out, "the KV cache was full while requests waited: more devices, "
                         "--kv-cache-dtype fp8, or a shorter --max-model-len\n");
    double fit;
    if (value(d, "max_concurrency", &fit) && fit < 1)
        mu_text_str(out, "not even one request of full length fits\n");
}

static void offload(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    double on_gpu, layers;
    if (value(d, "layers_on_gpu", &on_gpu) && value(d, "layers", &layers) && on_gpu < layers)
        mu_text_printf(out,
                       "%.0f of %.0f layers are on the GPU, the CPU sets the pace: a larger "
                       "-ngl, or a smaller model\n",
                       on_gpu, layers);
}

static void idle_gpus(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    double gpus, world;
    if (value(d, "gpus", &gpus) && value(d, "world_size", &world) && gpus > world)
        mu_text_printf(out, "%.0f of %.0f GPUs are idle\n", gpus - world, gpus);
}

static void memory_left(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    double left, share;
    if (value(d, "memory_left_gib", &left) && left > 10)
        mu_text_printf(out, "%g GB are left beside the pool: a larger --mem-fraction-static fits\n",
                       left);
    if (value(d, "gpu_memory_utilization", &share) && share < 0.8)
        mu_text_printf(out,
                       "the engine may use %g of the memory: a larger "
                       "--gpu-memory-utilization gives a larger KV cache\n",
                       share);
}

static void drafter(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    double accepted;
    if (value(d, "spec_acceptance", &accepted) && accepted < 1.1)
        mu_text_str(out, "the drafter's tokens are hardly ever accepted: switch it off\n");
}

static void prefix_hits(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    double percent;
    if (value(d, "prefix_hit_percent", &percent) && percent > 50)
        mu_text_printf(out,
                       "%g %% of the prompts came from the prefix cache: throughput looks "
                       "better than on new prompts\n",
                       percent);
}

static void unknown_variable(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    const char *name = mu_health_fact(d, "unknown_variable");
    if (name) mu_text_printf(out, "%s has no effect in this version of the engine\n", name);
}

typedef void rule_fn(const struct mu_health_diagnosis *d, struct mu_text *out);
static rule_fn *const rules[] = {ranks_missing, eager,           balance,     cache,
                                 offload,       idle_gpus,       memory_left, drafter,
                                 prefix_hits,   unknown_variable};

void mu_health_review(const struct mu_health_diagnosis *d, struct mu_text *out)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(rules); i++)
        rules[i](d, out);
}

const char *mu_health_engine_of(const struct mu_health_diagnosis *d)
{
    static const char *const engines[] = {"vllm",   "sglang", "llama.cpp",   "tensorrt-llm",
                                          "nccl",   "torch",  "cuda",        "ray",
                                          "kernel", "hub",    "transformers"};
    uint64_t hits[MU_ARRAY_LEN(engines)] = {0};
    for (unsigned r = 0; r < d->catalog->n_rows; r++)
        for (size_t i = 0; i < MU_ARRAY_LEN(engines); i++)
            if (strcmp(d->catalog->rows[r].engine, engines[i]) == 0) hits[i] += d->row_hits[r];
    size_t best = MU_ARRAY_LEN(engines);
    for (size_t i = 0; i < MU_ARRAY_LEN(engines); i++) {
        /* A serving engine counts before the libraries that it is made of. */
        if (i == 4 && best < MU_ARRAY_LEN(engines)) break;
        if (hits[i] && (best == MU_ARRAY_LEN(engines) || hits[i] > hits[best])) best = i;
    }
    return best < MU_ARRAY_LEN(engines) ? engines[best] : "";
}
