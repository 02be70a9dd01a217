/* Devices that were timed alone, judged beside those of their kind, and shown. Reads rows that
 * somebody measured (measure/measure.h has their keys), and times nothing. The caller's thread. */
#include "health/look_int.h"
#include "report/report.h"

#include <stdio.h>

#define BUSY_SHARE  10.0 /* percent: others use the GPU */
#define COLUMNS_MAX 17   /* of a table of pairs */

static const struct figure {
    const char *name, *text, *head, *unit;
    double scale;
} figures[] = {
    {"memory_bytes_per_s", "moves its memory at", ">MEMORY", "GB/s", 1e-9},
    {"fp32_flop_per_s", "multiplies at", ">FP32", "GFLOP/s", 1e-9},
    {"from_host_bytes_per_s", "receives from the host at", ">FROM HOST", "GB/s", 1e-9},
    {"to_host_bytes_per_s", "sends to the host at", ">TO HOST", "GB/s", 1e-9},
    {"link_bytes_per_s", "carries", ">LINK", "GB/s", 1e-9},
};
#define N_ALONE 4 /* figures without a peer */

static const char *text_of(const json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static double number_of(const json_t *o, const char *key)
{
    return json_number_value(json_object_get(o, key));
}

static const struct figure *figure_of(const json_t *row)
{
    size_t i = 0;
    while (i + 1 < MU_ARRAY_LEN(figures) && strcmp(figures[i].name, text_of(row, "figure")) != 0)
        i++;
    return &figures[i];
}

/* The GPU with this bus id; -1: none. */
static int gpu_of(const struct look *l, const char *bus_id)
{
    for (unsigned i = 0; bus_id[0] && i < l->after->n_gpus; i++)
        if (strcmp(l->after->gpus[i].bus_id, bus_id) == 0) return (int)i;
    return -1;
}

/* The host's memory is one node's, nearer to some GPUs than to others. */
static void node_text(const struct mu_probe_gpu *gpu, char out[16])
{
    if (mu_probe_has(gpu->numa_node)) (void)snprintf(out, 16, "of node %.0f", gpu->numa_node.value);
}

/* A row in the words of a look: GPUs by their numbers, and alike only what is of one model, or on
 * one kind of path. */
static json_t *row_named(const struct look *l, const json_t *given)
{
    json_t *row = json_deep_copy(given);
    int device = gpu_of(l, text_of(row, "device")), peer = gpu_of(l, text_of(row, "peer"));
    char path[16] = "";
    if (peer >= 0 && device >= 0)
        (void)mu_probe_path_text(l->after, (unsigned)device, (unsigned)peer, path);
    else if (device >= 0 && strstr(text_of(row, "figure"), "host"))
        node_text(&l->after->gpus[device], path);
    if (device >= 0) {
        (void)json_object_set_new(
            row, "alike",
            json_sprintf("%s, %s %s", l->after->gpus[device].name, text_of(row, "alike"), path));
        (void)json_object_set_new(row, "device", json_sprintf("cuda:%d", device));
    }
    if (peer >= 0) (void)json_object_set_new(row, "peer", json_sprintf("cuda:%d", peer));
    return row;
}

static bool is_used_by_others(const struct look *l, int gpu)
{
    if (gpu < 0) {
        struct mu_probe_cpu cpu;
        mu_probe_cpu(NULL, &cpu);
        return mu_probe_has(cpu.load) && cpu.load.value > cpu.n_usable;
    }
    struct mu_probe_value busy = l->before->gpus[gpu].values[MU_PROBE_UTILIZATION];
    return (unsigned)gpu < l->before->n_gpus && mu_probe_has(busy) && busy.value > BUSY_SHARE;
}

/* The fastest of the same kind. */
static const json_t *best_alike(const struct look *l, const json_t *row)
{
    const json_t *best = row, *other;
    size_t i;
    json_array_foreach(l->alone, i, other)
    {
        if (strcmp(text_of(other, "figure"), text_of(row, "figure")) == 0 &&
            strcmp(text_of(other, "alike"), text_of(row, "alike")) == 0 &&
            number_of(other, "best") > number_of(best, "best"))
            best = other;
    }
    return best;
}

/* Its best round against the usual one of the best: what disturbs a round or two accuses nobody. */
static void row_judge(struct look *l, const json_t *row, int gpu)
{
    const struct figure *f = figure_of(row);
    const json_t *best = best_alike(l, row);
    const char *peer = text_of(row, "peer");
    double value = number_of(row, "best"), usual = number_of(best, "median");
    if (value >= MU_HEALTH_SLOW_SHARE * usual) return;
    bool others = is_used_by_others(l, gpu);
    char what[80];
    (void)snprintf(what, sizeof what, "%s%s%s", text_of(row, "device"), peer[0] ? " to " : "",
                   peer);
    look_find(
        l, others ? LOOK_WARN : LOOK_BAD, peer[0] ? LOOK_ERRORS : LOOK_HARDWARE, -1,
        "slower_than_peers",
        others ? "time it again when nobody uses it"
               : "see its clocks, power, temperature and errors; swap slots to see whether "
                 "the fault moves along",
        "%s %s %.1f %s alone, where others of its kind reach %.1f (rounds from %.1f to %.1f)%s",
        what, f->text, value * f->scale, f->unit, usual * f->scale,
        number_of(best, "worst") * f->scale, number_of(best, "best") * f->scale,
        others ? "; but others use it now" : "");
}

/* Of one device or pair, or of all GPUs, whose row is called "cuda". */
static void row_missing(struct look *l, const json_t *row)
{
    const char *device = text_of(row, "device"), *peer = text_of(row, "peer");
    const char *why = text_of(row, "why");
    bool all = strcmp(device, "cuda") == 0;
    if (all) look_source(l, "cuda", why);
    for (unsigned g = 0; all && g < l->after->n_gpus; g++)
        look_find(l, LOOK_NOTE, LOOK_HARDWARE, (int)g, "not_timed", "", "was not timed: %s", why);
    if (json_is_true(json_object_get(row, "fault")))
        look_find(l, LOOK_BAD, LOOK_HARDWARE, -1, "timing_failed", "see the kernel's log; reset it",
                  "%s%s%s fails when it is used: %s", device, peer[0] ? " to " : "", peer, why);
    else if (!all)
        look_find(l, LOOK_NOTE, LOOK_HARDWARE, -1, "not_timed", "", "%s%s%s was not timed: %s",
                  device, peer[0] ? " to " : "", peer, why);
}

/* Whether a device was timed; "cuda:" stands for any GPU. */
static bool is_timed(const struct look *l, const char *device)
{
    size_t len = strlen(device) + (device[strlen(device) - 1] != ':');
    const json_t *row;
    size_t i;
    json_array_foreach(l->alone, i, row)
    {
        if (strncmp(text_of(row, "device"), device, len) == 0) return true;
    }
    return false;
}

/* GPUs that the driver shows, and CUDA does not. */
static void hidden_find(struct look *l)
{
    if (!is_timed(l, "cuda:")) return;
    for (unsigned g = 0; g < l->after->n_gpus; g++) {
        char name[16];
        (void)snprintf(name, sizeof name, "cuda:%u", g);
        if (!is_timed(l, name))
            look_find(l, LOOK_NOTE, LOOK_HARDWARE, (int)g, "not_timed", "",
                      "was not timed: CUDA does not show it");
    }
}

void look_alone(struct look *l)
{
    const json_t *row;
    size_t i;
    json_array_foreach(l->options->alone, i, row)
    {
        (void)json_array_append_new(l->alone, row_named(l, row));
    }
    json_array_foreach(l->alone, i, row)
    {
        if (json_is_number(json_object_get(row, "best")))
            row_judge(l, row, gpu_of(l, text_of(json_array_get(l->options->alone, i), "device")));
        else
            row_missing(l, row);
    }
    if (l->options->alone) hidden_find(l);
}

/* --- for people ------------------------------------------------------------------------------- */

static const json_t *row_find(const json_t *rows, const char *figure, const char *device,
                              const char *peer)
{
    const json_t *row;
    size_t i;
    json_array_foreach(rows, i, row)
    {
        if (strcmp(text_of(row, "figure"), figure) == 0 &&
            strcmp(text_of(row, "device"), device) == 0 && strcmp(text_of(row, "peer"), peer) == 0)
            return row;
    }
    return NULL;
}

static void cell(struct mu_report_table *t, unsigned column, const struct figure *f,
                 const json_t *row)
{
    const json_t *best = json_object_get(row, "best");
    if (json_is_number(best))
        mu_report_table_cell(t, column, "%.1f %s", json_number_value(best) * f->scale, f->unit);
    else
        mu_report_table_cell(t, column, "-");
}

/* True for the first row of a device, so that each is shown once. */
static bool is_first(const json_t *rows, size_t at, bool pairs)
{
    const char *device = text_of(json_array_get(rows, at), "device");
    if (!text_of(json_array_get(rows, at), "peer")[0] == pairs) return false;
    for (size_t i = 0; i < at; i++)
        if (strcmp(text_of(json_array_get(rows, i), "device"), device) == 0 &&
            !text_of(json_array_get(rows, i), "peer")[0] != pairs)
            return false;
    return true;
}

static mu_status add_each(const json_t *rows, struct mu_text *out, struct mu_err *err)
{
    const char *heads[1 + N_ALONE] = {"ALONE"};
    struct mu_report_table *t = NULL;
    for (unsigned f = 0; f < N_ALONE; f++)
        heads[f + 1] = figures[f].head;
    MU_TRY(mu_report_table_create(heads, MU_ARRAY_LEN(heads), &t, err));
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const char *device = text_of(json_array_get(rows, i), "device");
        if (!is_first(rows, i, false) || strcmp(device, "cuda") == 0) continue;
        mu_report_table_row(t);
        mu_report_table_cell(t, 0, "%s", device);
        for (unsigned f = 0; f < N_ALONE; f++)
            cell(t, f + 1, &figures[f], row_find(rows, figures[f].name, device, ""));
    }
    mu_status status = mu_report_table_print(t, out, err);
    mu_report_table_destroy(t);
    return status;
}

static mu_status add_pairs(const json_t *rows, struct mu_text *out, struct mu_err *err)
{
    const char *heads[COLUMNS_MAX] = {"FROM"};
    unsigned n = 1;
    for (size_t i = 0; i < json_array_size(rows) && n < COLUMNS_MAX; i++)
        if (is_first(rows, i, true)) heads[n++] = text_of(json_array_get(rows, i), "device");
    if (n < 2) return MU_OK;
    struct mu_report_table *t = NULL;
    MU_TRY(mu_report_table_create(heads, n, &t, err));
    for (unsigned from = 1; from < n; from++) {
        mu_report_table_row(t);
        mu_report_table_cell(t, 0, "%s", heads[from]);
        for (unsigned to = 1; to < n; to++)
            if (from != to)
                cell(t, to, &figures[N_ALONE],
                     row_find(rows, figures[N_ALONE].name, heads[from], heads[to]));
    }
    mu_status status = mu_report_table_print(t, out, err);
    mu_report_table_destroy(t);
    return status;
}

mu_status look_alone_text(const json_t *look, struct mu_text *out, struct mu_err *err)
{
    const json_t *rows = json_object_get(look, "alone");
    if (json_array_size(rows) == 0) return MU_OK;
    MU_TRY(add_each(rows, out, err));
    return add_pairs(rows, out, err);
}
