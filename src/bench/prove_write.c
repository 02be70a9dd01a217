/* What prove found, as JSON and as tables; see prove.h. */
#include "bench/prove_int.h"

#include "base/json.h"
#include "base/number.h"
#include "report/report.h"

static uint64_t digest_of(const struct mu_prove *prove, const struct mu_prove_run *run)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < prove->n_prompts; i++)
        sum += run->digests[i];
    return sum;
}

static uint64_t most_of(const struct mu_prove_run *run, bool predicted)
{
    uint64_t most = 0;
    for (unsigned i = 0; i < run->memory->n_ranks; i++)
        most = MU_MAX(most, predicted ? run->memory->ranks[i].total_bytes : run->high_bytes[i]);
    return most;
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static void add_key(struct mu_text *out, const char *key, double value)
{
    mu_text_printf(out, "\"%s\":", key);
    mu_json_add_f64(out, value);
    mu_text_char(out, ',');
}

static void add_figures(const struct mu_prove_run *run, bool predicted, struct mu_text *out)
{
    const struct mu_prove_speed *s = predicted ? &run->predicted : &run->measured;
    mu_text_printf(out, ",\"%s\":{", predicted ? "predicted" : "measured");
    if (!predicted) add_key(out, "load_seconds", run->load_seconds);
    if (s->prefill_tokens_per_s > 0) add_key(out, "prefill_tokens_per_s", s->prefill_tokens_per_s);
    if (s->decode_tokens_per_s > 0) add_key(out, "decode_tokens_per_s", s->decode_tokens_per_s);
    if (s->together_tokens_per_s > 0)
        add_key(out, "together_tokens_per_s", s->together_tokens_per_s);
    mu_text_str(out, "\"devices\":[");
    for (unsigned i = 0; i < run->memory->n_ranks; i++)
        mu_text_printf(out, "%s{\"device\":\"%s\",\"total_bytes\":%llu}", i ? "," : "",
                       run->memory->ranks[i].device,
                       (unsigned long long)(predicted ? run->memory->ranks[i].total_bytes
                                                      : run->high_bytes[i]));
    mu_text_str(out, "]}");
}

static void add_run(const struct mu_prove *prove, const struct mu_prove_run *run,
                    struct mu_text *out)
{
    const struct mu_placement *p = &run->placement;
    char name[MU_PLACEMENT_TEXT];
    mu_text_printf(out, "{\"placement\":\"%s\",\"tp\":%u,\"pp\":%u,\"dp\":%u",
                   mu_placement_name(p, name), p->tp, p->pp, p->dp);
    if (p->threads) mu_text_printf(out, ",\"threads\":%u", p->threads);
    if (run->refused) {
        mu_text_str(out, ",\"refused\":");
        mu_json_add_string(out, mu_str(run->why.what));
        mu_text_char(out, '}');
        return;
    }
    mu_text_printf(out, ",\"same_bits\":%s,\"digest\":\"%s:%016llx\",\"digests\":[",
                   run->same ? "true" : "false", prove->family,
                   (unsigned long long)digest_of(prove, run));
    for (uint32_t i = 0; i < prove->n_prompts; i++)
        mu_text_printf(out, "%s\"%016llx\"", i ? "," : "", (unsigned long long)run->digests[i]);
    mu_text_char(out, ']');
    if (!run->same)
        mu_text_printf(out, ",\"differs\":{\"prompt\":%u,\"way\":\"%s\"}", run->differs,
                       run->differs_way);
    add_figures(run, true, out);
    add_figures(run, false, out);
    mu_text_str(out, ",\"efficiency\":");
    mu_json_add_f64(out, run->efficiency);
    mu_text_char(out, '}');
}

void mu_prove_write_json(const struct mu_prove_request *request, const struct mu_prove *prove,
                         uint32_t left_out, struct mu_text *out)
{
    mu_text_str(out, "{\"model\":");
    mu_json_add_string(out, mu_str(mu_model_file_name(request->file)));
    mu_text_printf(out, ",\"family\":\"%s\",\"same_bits\":%s,\"max_tokens\":%u,\"prompt_tokens\":[",
                   prove->family, prove->same ? "true" : "false", request->max_tokens);
    for (uint32_t i = 0; i < request->n_prompts; i++)
        mu_text_printf(out, "%s%u", i ? "," : "", request->prompts[i].n);
    mu_text_str(out, "],\"no_prediction\":");
    if (prove->no_prediction.code == MU_OK)
        mu_text_str(out, "null");
    else
        mu_json_add_string(out, mu_str(prove->no_prediction.what));
    mu_text_printf(out, ",\"left_out\":%u,\"placements\":[", left_out);
    for (uint32_t i = 0; i < prove->n_runs; i++) {
        mu_text_str(out, i ? "," : "");
        add_run(prove, &prove->runs[i], out);
    }
    mu_text_str(out, "]}\n");
}

/* ---- For people ---------------------------------------------------------------------------- */

enum column {
    PLACEMENT,
    DEVICES,
    BITS,
    DIGEST,
    DECODE,
    PREFILL,
    TOGETHER,
    EFFICIENCY,
    MEMORY,
    MEMORY_PREDICTED,
    DECODE_PREDICTED,
    PREFILL_PREDICTED,
    TOGETHER_PREDICTED,
    COLUMNS
};

static const char *const heads[COLUMNS] = {
    [PLACEMENT] = "placement",
    [DEVICES] = ">devices",
    [BITS] = "bits",
    [DIGEST] = "digest",
    [DECODE] = ">decode/s",
    [DECODE_PREDICTED] = ">predicted",
    [PREFILL] = ">prefill/s",
    [PREFILL_PREDICTED] = ">predicted",
    [TOGETHER] = ">together/s",
    [TOGETHER_PREDICTED] = ">predicted",
    [EFFICIENCY] = ">efficiency",
    [MEMORY] = ">most memory",
    [MEMORY_PREDICTED] = ">predicted",
};

/* From left to right; the predicted speeds only where there are any. */
static const struct {
    enum column column;
    bool speed;
} order[] = {{PLACEMENT, false},
             {DEVICES, false},
             {BITS, false},
             {DIGEST, false},
             {DECODE, false},
             {DECODE_PREDICTED, true},
             {PREFILL, false},
             {PREFILL_PREDICTED, true},
             {TOGETHER, false},
             {TOGETHER_PREDICTED, true},
             {EFFICIENCY, false},
             {MEMORY, false},
             {MEMORY_PREDICTED, false}};

static void add_cell(struct mu_report_table *t, unsigned at, enum column column,
                     const struct mu_prove *prove, const struct mu_prove_run *run)
{
    const struct mu_prove_speed *m = &run->measured, *p = &run->predicted;
    const double speeds[COLUMNS] = {[DECODE] = m->decode_tokens_per_s,
                                    [PREFILL] = m->prefill_tokens_per_s,
                                    [TOGETHER] = m->together_tokens_per_s,
                                    [DECODE_PREDICTED] = p->decode_tokens_per_s,
                                    [PREFILL_PREDICTED] = p->prefill_tokens_per_s,
                                    [TOGETHER_PREDICTED] = p->together_tokens_per_s};
    char text[MU_BYTES_TEXT], name[MU_PLACEMENT_TEXT];
    if (column == PLACEMENT)
        mu_report_table_cell(t, at, "%s", mu_placement_name(&run->placement, name));
    else if (column == DEVICES)
        mu_report_table_cell(t, at, "%u", mu_placement_devices(&run->placement));
    else if (column == BITS)
        mu_report_table_cell(t, at, "%s", run->same ? "same" : "DIFFER");
    else if (column == DIGEST)
        mu_report_table_cell(t, at, "%016llx", (unsigned long long)digest_of(prove, run));
    else if (column == EFFICIENCY)
        mu_report_table_cell(t, at, "%.2f", run->efficiency);
    else if (column == MEMORY || column == MEMORY_PREDICTED)
        mu_report_table_cell(t, at, "%s",
                             mu_format_bytes(most_of(run, column == MEMORY_PREDICTED), text));
    else if (speeds[column] > 0)
        mu_report_table_cell(t, at, speeds[column] < 100 ? "%.1f" : "%.0f", speeds[column]);
}

static mu_status add_table(const struct mu_prove *prove, struct mu_text *out, struct mu_err *err)
{
    const char *names[COLUMNS];
    enum column columns[COLUMNS];
    unsigned n = 0;
    struct mu_report_table *t;
    for (size_t i = 0; i < MU_ARRAY_LEN(order); i++) {
        if (order[i].speed && prove->no_prediction.code != MU_OK) continue;
        columns[n] = order[i].column;
        names[n++] = heads[order[i].column];
    }
    MU_TRY(mu_report_table_create(names, n, &t, err));
    for (uint32_t i = 0; i < prove->n_runs; i++) {
        if (prove->runs[i].refused) continue;
        mu_report_table_row(t);
        for (unsigned j = 0; j < n; j++)
            add_cell(t, j, columns[j], prove, &prove->runs[i]);
    }
    mu_status status = mu_report_table_print(t, out, err);
    mu_report_table_destroy(t);
    return status;
}

static void add_verdict(const struct mu_prove *prove, uint32_t left_out, struct mu_text *out)
{
    uint32_t ran = 0, differ = 0;
    char name[MU_PLACEMENT_TEXT];
    for (uint32_t i = 0; i < prove->n_runs; i++) {
        const struct mu_prove_run *run = &prove->runs[i];
        mu_placement_name(&run->placement, name);
        ran += !run->refused;
        differ += !run->same;
        if (run->refused) mu_text_printf(out, "%s is refused: %s\n", name, run->why.what);
        if (!run->same)
            mu_text_printf(out, "%s: prompt %u has other bits (%s)\n", name, run->differs + 1,
                           run->differs_way);
    }
    if (left_out)
        mu_text_printf(out, "%u more products of these degrees are left out (--placements)\n",
                       left_out);
    if (prove->no_prediction.code != MU_OK)
        mu_text_printf(out, "no speed is predicted: %s\n", prove->no_prediction.what);
    if (differ)
        mu_text_printf(out, "BITS DIFFER in %u of %u placements\n", differ, ran);
    else
        mu_text_printf(out, "same bits in all %u placements\n", ran);
}

mu_status mu_prove_write_table(const struct mu_prove_request *request, const struct mu_prove *prove,
                               uint32_t left_out, struct mu_text *out, struct mu_err *err)
{
    uint32_t shortest = UINT32_MAX, longest = 0;
    for (uint32_t i = 0; i < request->n_prompts; i++) {
        shortest = MU_MIN(shortest, request->prompts[i].n);
        longest = MU_MAX(longest, request->prompts[i].n);
    }
    mu_text_printf(out, "%s, %s: %u prompts of %u to %u tokens, %u new tokens each\n\n",
                   mu_model_file_name(request->file), prove->family, request->n_prompts, shortest,
                   longest, request->max_tokens);
    MU_TRY(add_table(prove, out, err));
    mu_text_char(out, '\n');
    add_verdict(prove, left_out, out);
    return mu_text_status(out, err);
}
