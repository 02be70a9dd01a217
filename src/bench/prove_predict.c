/* What a placement should reach on this machine; see prove_int.h. The planner prices it with costs
 * of kernels and of exchanges that were timed alone. */
#include "bench/prove_int.h"

static uint32_t mean_prompt(const struct mu_prove_request *q)
{
    uint64_t all = 0;
    for (uint32_t i = 0; i < q->n_prompts; i++)
        all += q->prompts[i].n;
    return (uint32_t)MU_MAX(all / MU_MAX(q->n_prompts, 1u), UINT64_C(1));
}

mu_status mu_prove_predict(const struct mu_prove_request *q, const struct mu_placement *at,
                           const struct mu_engine_options *options, struct mu_prove_speed *out,
                           struct mu_err *err)
{
    uint32_t cores = mu_cpu_usable((int[MU_DEVICE_CPUS_MAX]){0}, MU_DEVICE_CPUS_MAX);
    double prompts = (double)mean_prompt(q) * q->n_prompts;
    struct mu_plan_prediction alone, all;
    struct mu_here_run run = {.file = q->file,
                              .kernels = q->options.kernels,
                              .compute = q->options.compute,
                              .weights = q->options.weights,
                              .tp = MU_MAX(options->tp, 1u),
                              .pp = MU_MAX(options->pp, 1u),
                              .dp = at->dp,
                              .places = options->places,
                              .n_threads = mu_placement_threads(at, cores),
                              .batch = 1,
                              .input = mean_prompt(q),
                              .output = q->max_tokens};
    MU_TRY(mu_here_predict(&run, &alone, err));
    run.batch = q->n_prompts;
    MU_TRY(mu_here_predict(&run, &all, err));
    /* One replica reads a lone prompt. All together: the prompts first, then step for step. */
    out->prefill_tokens_per_s = alone.prefill_tokens_per_s / at->dp;
    out->decode_tokens_per_s = 1 / alone.step_s;
    out->together_tokens_per_s =
        (double)q->n_prompts * q->max_tokens /
        (prompts / all.prefill_tokens_per_s + (q->max_tokens - 1) * all.step_s);
    return MU_OK;
}
