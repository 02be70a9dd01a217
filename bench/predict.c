/*
 * One run of the engine beside what was predicted for it, as a line of JSON:
 * `build/bench/predict MODEL PLACEMENT STREAMS INPUT OUTPUT [predict | measure]`; placements
 * are called as `muster prove` calls them.
 *
 * Costs that were not timed before are timed first, before anything else is at work; with `predict`
 * that is all, with `measure` it is left out. Measured are: one prompt alone (the median of
 * several), the prompts of all streams until each has its first token, and the tokens of all
 * streams while every one of them decodes (of each, the median of a few steps).
 * bench/predictions.py and bench/scaling.py ask for many.
 */
#include "base/base.h"
#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>

enum { STREAMS_MAX = 64, PROMPTS_MOST = 5, WARM_TOKENS = 3, CONTEXT_MAX = 1 << 17 };

#define PROMPTS_SECONDS 2.0 /* after which no further one is timed */
#define WINDOW          8   /* tokens: we hear of several short steps at once */

/* How fast the machine is. */
struct control {
    double read, multiplies;
};

struct bench {
    struct mu_here_run run;
    struct mu_placement at;
    struct mu_engine_options options;
    struct mu_placed placed;
    struct mu_engine *engine;
    struct mu_engine_memory memory;
    uint32_t *ids; /* of a prompt */
    double prefill_s[PROMPTS_MOST], prompts_s, decode_tokens_per_s;
    struct control costs, run_control; /* when costs were timed; meanwhile, the least seen */
    int n_prefills;
};

static mu_status submit(struct bench *b, uint32_t stream, uint32_t n_prompt, uint32_t n,
                        struct mu_request **out, struct mu_err *err)
{
    uint32_t vocab = mu_model_file_config(b->run.file)->vocab;
    for (uint32_t i = 0; i < n_prompt; i++)
        b->ids[i] = (uint32_t)(((uint64_t)(stream + 1) * 7919 + (uint64_t)i * 104729) % vocab);
    struct mu_request_options r = {.prompt = b->ids, .n_prompt = n_prompt, .max_tokens = n};
    mu_sampling_defaults(&r.sampling);
    r.sampling.greedy = true;
    return mu_request_submit(b->engine, &r, out, err);
}

static void next_event(struct bench *b, struct mu_event *event)
{
    while (!mu_engine_next_event(b->engine, event))
        mu_engine_wait(b->engine, -1);
}

/* One request alone, to its end. */
static mu_status alone(struct bench *b, uint32_t n_prompt, uint32_t n,
                       struct mu_request_result *out, struct mu_err *err)
{
    struct mu_request *request;
    struct mu_event event;
    MU_TRY(submit(b, 0, n_prompt, n, &request, err));
    do
        next_event(b, &event);
    while (!event.done);
    mu_request_result(request, out);
    mu_request_destroy(request);
    if (out->err.code != MU_OK && err) *err = out->err;
    return out->err.code;
}

static mu_status measure_prompts(struct bench *b, struct mu_err *err)
{
    struct mu_request_result result;
    double all = 0;
    MU_TRY(alone(b, MU_MIN(b->run.input, 64u), WARM_TOKENS, &result, err));
    while (b->n_prefills < PROMPTS_MOST && (b->n_prefills < 1 || all < PROMPTS_SECONDS)) {
        MU_TRY(alone(b, b->run.input, 1, &result, err));
        all += b->prefill_s[b->n_prefills++] = result.prefill_seconds;
    }
    return MU_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* The tokens of one stream while all decode. */
struct stream {
    struct mu_request *request;
    uint32_t seen, n_gaps, in_window;
    uint64_t window_ns; /* when it began */
    double *gaps;       /* from token to token: means of windows */
};

/* Costs are medians, so a median is what they are compared with: streams may take steps apart. */
static void set_decode_rate(struct bench *b, const struct stream *streams)
{
    for (uint32_t i = 0; i < b->run.batch; i++) {
        const struct stream *s = &streams[i];
        qsort(s->gaps, s->n_gaps, sizeof *s->gaps, by_value);
        if (s->n_gaps > 0) b->decode_tokens_per_s += 1 / s->gaps[s->n_gaps / 2];
    }
}

static void note_token(struct stream *s, bool all_decode)
{
    s->seen++;
    if (!all_decode || s->in_window++ % WINDOW > 0) return;
    uint64_t now = mu_clock_ns();
    if (s->window_ns > 0) s->gaps[s->n_gaps++] = (double)(now - s->window_ns) / WINDOW * 1e-9;
    s->window_ns = now;
}

/* From when all decode until the first is done. */
static mu_status follow_streams(struct bench *b, struct stream *streams, struct mu_err *err)
{
    struct mu_event event;
    uint32_t n = b->run.batch, begun = 0, done = 0;
    uint64_t begin = 0, submitted = mu_clock_ns();
    for (uint32_t i = 0; i < n; i++)
        MU_TRY(submit(b, i, b->run.input, b->run.output, &streams[i].request, err));
    while (done < n) {
        next_event(b, &event);
        struct stream *s = streams;
        while (s->request != event.request)
            s++;
        done += event.done;
        if (event.done) continue;
        if (s->seen == 0 && ++begun == n) begin = mu_clock_ns();
        note_token(s, begun == n && done == 0);
    }
    b->prompts_s = (double)(begin - submitted) * 1e-9;
    return MU_OK;
}

static mu_status measure_decode(struct bench *b, struct mu_err *err)
{
    struct stream streams[STREAMS_MAX] = {{.request = NULL}};
    uint32_t n = b->run.batch, each = b->run.output;
    double *gaps = mu_calloc((size_t)n * each, sizeof *gaps);
    if (!gaps) return mu_fail_memory(err, (size_t)n * each * sizeof *gaps);
    for (uint32_t i = 0; i < n; i++)
        streams[i].gaps = gaps + (size_t)i * each;
    mu_status status = follow_streams(b, streams, err);
    if (status == MU_OK) set_decode_rate(b, streams);
    for (uint32_t i = 0; i < n && streams[i].request; i++)
        mu_request_destroy(streams[i].request);
    mu_free(gaps);
    if (status == MU_OK && b->decode_tokens_per_s == 0)
        return mu_fail(err, MU_E_INPUT, "OUTPUT is too short: the first was done too soon");
    return status;
}

static void print(struct bench *b, const struct mu_plan_prediction *p)
{
    uint64_t predicted = 0, high = 0;
    for (unsigned i = 0; b->engine && i < b->memory.n_ranks; i++) {
        struct mu_device_usage usage;
        mu_engine_usage(b->engine, i, &usage);
        predicted += b->memory.ranks[i].total_bytes;
        high += usage.total_high_bytes;
    }
    printf("{");
    if (p->step_s > 0)
        printf("\"control\":{\"costs\":[%.4g,%.4g],\"run\":[%.4g,%.4g]},"
               "\"predicted\":{\"decode_tokens_per_s\":%.6g,\"prefill_tokens_per_s\":%.6g,"
               "\"total_bytes\":%llu}%s",
               b->costs.read, b->costs.multiplies, b->run_control.read, b->run_control.multiplies,
               b->run.batch / p->step_s, p->prefill_tokens_per_s / b->run.dp,
               (unsigned long long)predicted, b->engine ? "," : "");
    if (b->engine) {
        qsort(b->prefill_s, (size_t)b->n_prefills, sizeof *b->prefill_s, by_value);
        printf("\"measured\":{\"decode_tokens_per_s\":%.6g,\"prefill_tokens_per_s\":%.6g,"
               "\"prompts_tokens_per_s\":%.6g,\"total_bytes\":%llu}",
               b->decode_tokens_per_s, b->run.input / b->prefill_s[b->n_prefills / 2],
               (double)b->run.batch * b->run.input / b->prompts_s, (unsigned long long)high);
    }
    printf("}\n");
}

/* The run as the engine and the planner want it. */
static mu_status place(struct bench *b, struct mu_err *err)
{
    struct mu_here_run *r = &b->run;
    const struct mu_prove_request request = {.file = r->file};
    unsigned cores = mu_cpu_usable((int[MU_DEVICE_CPUS_MAX]){0}, MU_DEVICE_CPUS_MAX);
    uint32_t n = b->at.tp * b->at.pp * b->at.dp;
    struct mu_engine_options *o = &b->options;
    *o = (struct mu_engine_options){.tp = b->at.tp,
                                    .pp = b->at.pp,
                                    .dp = b->at.dp,
                                    .kv_type = MU_DTYPE_F16,
                                    .context = r->input + r->output,
                                    .max_sequences = MU_ROUND_UP(r->batch, b->at.dp)};
    char devices[24];
    r->n_threads = b->at.threads ? b->at.threads : MU_MAX(cores / n, 1u);
    (void)snprintf(devices, sizeof devices, "cpu:%u", n);
    MU_TRY(mu_devices_parse(devices, r->n_threads, &o->devices, err));
    MU_TRY(mu_placement_map(&request, &b->at, o, &b->placed, err));
    r->tp = o->tp;
    r->pp = o->pp;
    r->dp = o->dp;
    r->places = o->places;
    return MU_OK;
}

static mu_status measure(struct bench *b, struct mu_err *err)
{
    MU_TRY(mu_engine_memory(b->run.file, &b->options, &b->memory, err));
    MU_TRY(mu_engine_open(b->run.file, &b->options, &b->engine, err));
    MU_TRY(measure_prompts(b, err));
    return measure_decode(b, err);
}

/* Others may share the machine below us: a case counts only when this is what it was before. */
static mu_status look(struct bench *b, struct mu_err *err)
{
    struct control now, *least = &b->run_control;
    unsigned cores = mu_cpu_usable((int[MU_DEVICE_CPUS_MAX]){0}, MU_DEVICE_CPUS_MAX);
    MU_TRY(mu_measure_read_bandwidth(cores, NULL, &now.read, err));
    MU_TRY(mu_measure_multiplies(cores, &now.multiplies, err));
    least->read = least->read > 0 ? MU_MIN(now.read, least->read) : now.read;
    least->multiplies =
        least->multiplies > 0 ? MU_MIN(now.multiplies, least->multiplies) : now.multiplies;
    return MU_OK;
}

static mu_status bench(struct bench *b, const char *part, struct mu_err *err)
{
    struct mu_plan_prediction predicted = {.step_s = 0};
    struct mu_here_run *r = &b->run;
    if (r->batch > STREAMS_MAX || r->input > CONTEXT_MAX || r->output > CONTEXT_MAX)
        return mu_fail(err, MU_E_USAGE, "too many streams or tokens");
    MU_TRY(place(b, err));
    if (strcmp(part, "measure") == 0) {
        MU_TRY(measure(b, err));
    } else {
        MU_TRY(mu_here_predict(r, &predicted, err));
        MU_TRY(mu_here_control(r, &b->costs.read, &b->costs.multiplies, err));
        MU_TRY(look(b, err));
        if (strcmp(part, "predict") != 0) MU_TRY(measure(b, err));
        MU_TRY(look(b, err));
    }
    print(b, &predicted);
    return MU_OK;
}

int main(int argc, char **argv)
{
    struct bench b = {.engine = NULL};
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file = NULL;
    uint32_t *const numbers[] = {&b.run.batch, &b.run.input, &b.run.output}, n_placements = 0;
    static struct mu_placement placements[MU_PLACEMENTS_MAX];
    mu_status status = argc < 6 ? mu_fail(&err, MU_E_USAGE, "see the comment in bench/predict.c")
                                : mu_model_file_open(argv[1], 0, &file, &err);
    for (size_t i = 0; status == MU_OK && i < MU_ARRAY_LEN(numbers); i++) {
        uint64_t n;
        if (!mu_parse_u64(mu_str(argv[i + 3]), 1, UINT32_MAX / 2, &n))
            status = mu_fail(&err, MU_E_USAGE, "'%s' is not a number", argv[i + 3]);
        else
            *numbers[i] = (uint32_t)n;
    }
    if (status == MU_OK) status = mu_placements_parse(argv[2], placements, &n_placements, &err);
    b.run.file = file;
    b.at = placements[0];
    b.ids = mu_calloc(CONTEXT_MAX, sizeof *b.ids);
    if (status == MU_OK && !b.ids) status = mu_fail_memory(&err, CONTEXT_MAX * sizeof *b.ids);
    if (status == MU_OK) status = bench(&b, argc > 6 ? argv[6] : "", &err);
    if (status != MU_OK) (void)fprintf(stderr, "predict: %s\n", err.what);
    mu_engine_close(b.engine);
    mu_placed_fini(&b.placed);
    mu_model_file_close(file);
    mu_free(b.ids);
    return status == MU_OK ? 0 : 1;
}
