/* An engine's figures out of its /metrics page, in the words of one engine for those of all. */
#include "base/number.h"
#include "health/health.h"

static const struct {
    const char *key, *engine, *name;
} names[] = {
    {"running", "vllm", "vllm:num_requests_running"},
    {"waiting", "vllm", "vllm:num_requests_waiting"},
    {"kv_usage_ratio", "vllm", "vllm:kv_cache_usage_perc"},
    {"kv_usage_ratio", "vllm", "vllm:gpu_cache_usage_perc"},
    {"preemptions", "vllm", "vllm:num_preemptions_total"},
    {"prompt_tokens", "vllm", "vllm:prompt_tokens_total"},
    {"generation_tokens", "vllm", "vllm:generation_tokens_total"},
    {"prefix_queries", "vllm", "vllm:prefix_cache_queries_total"},
    {"prefix_hits", "vllm", "vllm:prefix_cache_hits_total"},
    {"running", "sglang", "sglang:num_running_reqs"},
    {"waiting", "sglang", "sglang:num_queue_reqs"},
    {"kv_usage_ratio", "sglang", "sglang:token_usage"},
    {"generation_tokens_per_s", "sglang", "sglang:gen_throughput"},
    {"prefix_hit_ratio", "sglang", "sglang:cache_hit_rate"},
    {"prompt_tokens", "sglang", "sglang:prompt_tokens_total"},
    {"generation_tokens", "sglang", "sglang:generation_tokens_total"},
    {"running", "llama.cpp", "llamacpp:requests_processing"},
    {"waiting", "llama.cpp", "llamacpp:requests_deferred"},
    {"kv_usage_ratio", "llama.cpp", "llamacpp:kv_cache_usage_ratio"},
    {"generation_tokens_per_s", "llama.cpp", "llamacpp:predicted_tokens_seconds"},
    {"prompt_tokens", "llama.cpp", "llamacpp:prompt_tokens_total"},
    {"prefix_hits", "llama.cpp", "llamacpp:prompt_tokens_cached_total"},
    {"generation_tokens", "llama.cpp", "llamacpp:tokens_predicted_total"},
};

/* "name{labels} value [timestamp]"; false for comments and what is no sample. */
static bool sample_parse(struct mu_str line, struct mu_str *name, double *value)
{
    size_t n = 0;
    while (n < line.len && line.p[n] != '{' && line.p[n] != ' ')
        n++;
    *name = (struct mu_str){line.p, n};
    if (n == 0 || line.p[0] == '#') return false;
    if (n < line.len && line.p[n] == '{') {
        const char *close = memrchr(line.p, '}', line.len);
        if (!close) return false;
        n = (size_t)(close - line.p) + 1;
    }
    while (n < line.len && line.p[n] == ' ')
        n++;
    size_t end = n;
    while (end < line.len && line.p[end] != ' ' && line.p[end] != '\r')
        end++;
    return mu_parse_f64((struct mu_str){line.p + n, end - n}, value);
}

/* Ranks and models have a sample each: counts add up, and of shares the largest is shown. */
static void sample_add(json_t *o, const char *key, double value)
{
    const json_t *old = json_object_get(o, key);
    size_t len = strlen(key);
    bool ratio = len > 6 && strcmp(key + len - 6, "_ratio") == 0;
    double before = json_number_value(old);
    (void)json_object_set_new(o, key, json_real(ratio ? MU_MAX(before, value) : before + value));
}

json_t *mu_health_metrics_json(struct mu_str text)
{
    json_t *o = json_object();
    for (const char *p = text.p, *end = text.p + text.len; p < end;) {
        const char *newline = memchr(p, '\n', (size_t)(end - p));
        struct mu_str line = {p, (size_t)((newline ? newline : end) - p)}, name;
        double value;
        p += line.len + 1;
        if (!sample_parse(line, &name, &value)) continue;
        for (size_t i = 0; i < MU_ARRAY_LEN(names); i++) {
            if (!mu_str_is(name, names[i].name)) continue;
            (void)json_object_set_new(o, "engine", json_string(names[i].engine));
            sample_add(o, names[i].key, value);
        }
    }
    return o;
}
