/* What a step of the engine takes beside its operations: from who plans it to the ranks, back, and
 * to who takes its tokens; and what it takes to bring matrices that lie elsewhere, beside their
 * bytes. See step.h. A small model runs, with a profile; what is not in the profile is the
 * engine's. Its steps are long enough for those who wait to fall asleep, as they do beside a real
 * model: waking them is most of the cost. Knows nothing of prices. Called by measure/ while costs
 * are timed. */
#include "bench/step.h"

#include "base/alloc.h"
#include "engine/engine.h"

#define MODEL   "synth:tick@bf16"
#define TOKENS  200 /* of an answer */
#define STREAMS 8
#define ENGINES                                                                                    \
    8 /* each has its threads on cores as it happens, and keeps them there: the mean               \
       */

#define LOADS 4 /* of a layer: q, k and v; o; gate and up; down */

/* Seconds of steps, of steps beside operations, and of a request before its first step. */
struct beside {
    double whole, step, first;
};

static mu_status submit(struct mu_engine *engine, struct mu_request **out, struct mu_err *err)
{
    static const uint32_t prompt[] = {1};
    struct mu_request_options r = {
        .prompt = prompt, .n_prompt = MU_ARRAY_LEN(prompt), .max_tokens = TOKENS};
    mu_sampling_defaults(&r.sampling);
    r.sampling.greedy = true;
    return mu_request_submit(engine, &r, out, err);
}

/* `n` streams, which begin and end nearly together. */
static mu_status run(struct mu_engine *engine, unsigned n, struct mu_request_result *out,
                     struct mu_err *err)
{
    struct mu_request *requests[STREAMS] = {NULL};
    unsigned begun = 0, done = 0;
    mu_status status = MU_OK;
    while (status == MU_OK && begun < n) {
        status = submit(engine, &requests[begun], err);
        begun += status == MU_OK;
    }
    while (done < begun) {
        struct mu_event event;
        if (mu_engine_next_event(engine, &event))
            done += event.done;
        else
            mu_engine_wait(engine, -1);
    }
    for (unsigned i = 0; i < begun; i++) {
        mu_request_result(requests[i], out);
        mu_request_destroy(requests[i]);
        if (status == MU_OK && out->finish == MU_FINISH_FAILED) {
            *err = out->err;
            status = err->code;
        }
    }
    return status;
}

/* Runs `n` streams and adds what their steps took beside operations. */
static mu_status add_run(struct mu_engine *engine, unsigned n, struct beside *sum,
                         struct mu_err *err)
{
    struct mu_request_result result;
    struct mu_profile_part before = {.n_steps = 0}, after;
    (void)mu_engine_profile(engine, 0, MU_PROFILE_DECODE, &before);
    MU_TRY(run(engine, n, &result, err));
    if (!mu_engine_profile(engine, 0, MU_PROFILE_DECODE, &after)) return MU_OK;
    double step = result.decode_seconds / (TOKENS - 1);
    double steps = (double)MU_MAX(after.n_steps - before.n_steps, UINT64_C(1));
    sum->whole += step;
    sum->step += step - (after.seconds - before.seconds) / steps;
    sum->first += MU_MAX(result.prefill_seconds - step, 0);
    return MU_OK;
}

/* One stream, and all, with the layers' matrices where `places` says. */
static mu_status add_engine(const struct mu_model_file *file, unsigned n_threads,
                            const struct mu_part_place *places, struct beside *one,
                            struct beside *all, struct mu_err *err)
{
    struct mu_engine_options options = {
        .max_sequences = STREAMS, .kv_type = MU_DTYPE_F16, .profile = true, .places = places};
    struct beside warm = {0};
    struct mu_engine *engine;
    MU_TRY(mu_devices_parse("cpu", n_threads, &options.devices, err));
    MU_TRY(mu_engine_open(file, &options, &engine, err));
    mu_status status = add_run(engine, 1, &warm, err);
    if (status == MU_OK) status = add_run(engine, 1, one, err);
    if (status == MU_OK) status = add_run(engine, STREAMS, all, err);
    mu_engine_close(engine);
    return status;
}

/* All matrices of the layers are brought from there in every step. */
static mu_status add_staged(const struct mu_model_file *file, unsigned n_threads, enum mu_home home,
                            struct beside *one, struct mu_err *err)
{
    const struct mu_config *config = mu_model_file_config(file);
    struct beside all = {0};
    struct mu_part_place *places = mu_calloc(mu_part_count(config), sizeof *places);
    if (!places) return mu_fail_memory(err, mu_part_count(config) * sizeof *places);
    for (uint32_t i = MU_PART_EMBED + 1; i < mu_part_norm(config); i++)
        places[i].home = (uint8_t)home;
    mu_status status = add_engine(file, n_threads, places, one, &all, err);
    mu_free(places);
    return status;
}

mu_status mu_bench_step(unsigned n_threads, struct mu_plan_costs *out, struct mu_err *err)
{
    struct mu_model_file *file;
    struct beside one = {0}, all = {0}, host = {0}, disk = {0};
    MU_TRY(mu_model_file_open(MODEL, 0, &file, err));
    double loads = (double)LOADS * ENGINES * mu_model_file_config(file)->n_layers;
    mu_status status = MU_OK;
    for (int i = 0; status == MU_OK && i < ENGINES; i++) {
        status = add_engine(file, n_threads, NULL, &one, &all, err);
        if (status == MU_OK) status = add_staged(file, n_threads, MU_HOME_HOST, &host, err);
        /* Without a disk that has room, nothing is brought from one. */
        if (status == MU_OK && add_staged(file, n_threads, MU_HOME_FILE, &disk, NULL) != MU_OK)
            disk = host;
    }
    mu_model_file_close(file);
    out->load_s[0] = MU_MAX((host.whole - one.whole) / loads, 1e-9);
    out->load_s[1] = MU_MAX((disk.whole - one.whole) / loads, 1e-9);
    out->sequence_s = MU_MAX((all.step - one.step) / ENGINES / (STREAMS - 1), 1e-8);
    out->step_s = MU_MAX(one.step / ENGINES - out->sequence_s, 1e-7);
    out->first_s = MU_MAX(one.first / ENGINES, 1e-7);
    return status;
}
