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

static mu_status plan(const struct mu_prove_request *q, const struct mu_probe_engine *muster,
                      const struct mu_placement *at, uint32_t batch, struct mu_plan_prediction *out,
                      struct mu_err *err)
{
    uint32_t cores = mu_cpu_usable((int[MU_DEVICE_CPUS_MAX]){0}, MU_DEVICE_CPUS_MAX);
    /* A lone request keeps the ranks of one stage busy; several keep all. */
    uint32_t n = mu_placement_devices(at), busy = batch > 1 ? n : at->tp;
    uint32_t input = mean_prompt(q);
    const struct mu_kernels *kernels;
    struct mu_here here;
    struct mu_plan_rack rack = {.n = n};
    bool requantised = q->options.weights != MU_DTYPE_F32;
    const struct mu_plan_format *format =
        requantised ? mu_plan_format(mu_str(mu_dtype(q->options.weights)->name), err)
                    : mu_here_format(q->file);
    const struct mu_config *config = mu_model_file_config(q->file);
    if (!format) return MU_E_USAGE;
    if (q->options.compute == MU_COMPUTE_F32)
        return mu_fail(err, MU_E_UNSUPPORTED, "the reference path's kernels are not timed");
    MU_TRY(mu_kernels_choose(q->options.kernels, &kernels, err));
    MU_TRY(mu_here_measure(&here, config, format, kernels, muster, mu_placement_threads(at, cores),
                           busy, MU_MAX(at->tp, MU_MIN(at->pp, 2u)), err));
    here.engine.chunk = mu_engine_step_rows((uint32_t)here.engine.chunk, at->pp, input);
    for (uint32_t i = 0; i < n; i++)
        rack.slots[i] = (struct mu_plan_slot){.device = &here.device};
    struct mu_plan_request request = {.config = config,
                                      .formats = {format},
                                      .n_formats = 1,
                                      .rack = &rack,
                                      .engine = &here.engine,
                                      .kv_bits = 16,
                                      .batch = batch,
                                      .input = input,
                                      .output = q->max_tokens,
                                      .tp = at->tp,
                                      .pp = at->pp,
                                      .dp = at->dp,
                                      .costs = "kernels measured on this machine"};
    if (!requantised) request.n_tensors = mu_model_file_tensors(q->file, &request.tensors);
    struct mu_plan *made;
    MU_TRY(mu_plan_make(&request, &made, err));
    *out = made->candidates[0].predicted;
    mu_plan_destroy(made);
    return MU_OK;
}

mu_status mu_prove_predict(const struct mu_prove_request *q, const struct mu_placement *at,
                           struct mu_prove_speed *out, struct mu_err *err)
{
    struct mu_probe_catalog *catalog;
    const struct mu_probe_engine *muster;
    struct mu_plan_prediction alone = {0}, all = {0};
    double prompts = (double)mean_prompt(q) * q->n_prompts;
    MU_TRY(mu_probe_catalog_load(&catalog, err));
    mu_status status = mu_probe_find_engine(catalog, mu_str("muster"), &muster, err);
    if (status == MU_OK) status = plan(q, muster, at, 1, &alone, err);
    if (status == MU_OK) status = plan(q, muster, at, q->n_prompts, &all, err);
    mu_probe_catalog_destroy(catalog);
    if (status != MU_OK) return status;
    /* One replica reads a lone prompt. All together: the prompts first, then step for step. */
    out->prefill_tokens_per_s = alone.prefill_tokens_per_s / at->dp;
    out->decode_tokens_per_s = 1 / alone.step_s;
    out->together_tokens_per_s =
        (double)q->n_prompts * q->max_tokens /
        (prompts / all.prefill_tokens_per_s + (q->max_tokens - 1) * all.step_s);
    return MU_OK;
}
