/* The devices, judged: before and after the engine was asked, and by what the sampler saw
 * meanwhile. Thresholds are in one place, at the top. The caller's thread. */
#include "base/alloc.h"
#include "base/number.h"
#include "health/look_int.h"

#include <stdio.h>

#define IDLE_SHARE    0.10 /* of the memory: less is a device that does nothing */
#define PART_SHARE    0.50
#define BALANCE_SHARE 0.10 /* between the fullest and the emptiest */
#define SAMPLES_MAX   512
#define COURSE_MAX    128 /* points of a course that is handed over */
#define BUSY_PERCENT  1.0
#define NAMES_MOST    4 /* of figures, in one line */

static double value(const struct mu_probe_gpu *g, enum mu_probe_metric metric, double otherwise)
{
    return mu_probe_has(g->values[metric]) ? g->values[metric].value : otherwise;
}

/* --- rules on one device ---------------------------------------------------------------------- */

/* A figure that must be 0, and what it means when it is not. */
static const struct {
    enum mu_probe_metric metric;
    enum look_level level;
    const char *code, *text, *cure;
} must_be_zero[] = {
    {MU_PROBE_ECC_UNCORRECTED, LOOK_BAD, "ecc", "%.0f uncorrectable memory errors since the start",
     "drain it; nvidia-smi --gpu-reset -i N"},
    {MU_PROBE_REMAP_FAILED, LOOK_BAD, "remap_failed", "a memory row could not be remapped",
     "replace the card"},
    {MU_PROBE_REMAP_PENDING, LOOK_WARN, "remap_pending", "a memory row waits for remapping",
     "nvidia-smi --gpu-reset -i N at the next quiet hour"},
    {MU_PROBE_RECOVERY_ACTION, LOOK_BAD, "recovery",
     "the driver asks for recovery (%.0f: 1 reset, 2 reboot, 3 drain)", "do as the driver asks"},
    {MU_PROBE_FABRIC_HEALTH, LOOK_WARN, "fabric", "the NVLink fabric reports a fault (mask %.0f)",
     "see the fabric manager's log"},
};

static void zeros_judge(struct look *l, const struct mu_probe_gpu *g)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(must_be_zero); i++) {
        double v = value(g, must_be_zero[i].metric, 0);
        char text[160];
        if (v <= 0) continue;
        if (must_be_zero[i].metric == MU_PROBE_FABRIC_HEALTH && ((uint64_t)v & 0x55) == 0)
            continue; /* two bits a fault: 1 true, 2 false, 0 not said */
        (void)snprintf(text, sizeof text, "%s", must_be_zero[i].text);
        const char *mark = strstr(text, "%.0f");
        look_find(l, must_be_zero[i].level, LOOK_ERRORS, (int)g->index, must_be_zero[i].code,
                  must_be_zero[i].cure, "%.*s%.0f%s", mark ? (int)(mark - text) : (int)strlen(text),
                  text, v, mark ? mark + 4 : "");
    }
}

/* Counters that must not move while we look. */
static void counters_judge(struct look *l, const struct mu_probe_gpu *a,
                           const struct mu_probe_gpu *b)
{
    static const struct {
        enum mu_probe_metric metric;
        const char *code, *text;
    } counters[] = {
        {MU_PROBE_PCIE_REPLAYS, "pcie_replays", "PCIe replays"},
        {MU_PROBE_ECC_CORRECTED, "ecc_corrected", "corrected memory errors"},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(counters); i++) {
        double more = value(b, counters[i].metric, 0) - value(a, counters[i].metric, 0);
        if (mu_probe_has(a->values[counters[i].metric]) && more > 0)
            look_find(l, LOOK_WARN, LOOK_ERRORS, (int)a->index, counters[i].code,
                      "reseat the card or its riser, if it goes on", "%.0f %s during this check",
                      more, counters[i].text);
    }
    for (unsigned i = 0; i < MU_PROBE_LINKS_MAX; i++) {
        const struct mu_probe_nvlink *x = &a->links[i], *y = &b->links[i];
        double more =
            y->crc_errors.value - x->crc_errors.value + y->replays.value - x->replays.value;
        if (mu_probe_has(x->up) && mu_probe_has(x->crc_errors) && mu_probe_has(y->replays) &&
            more > 0)
            look_find(l, LOOK_WARN, LOOK_ERRORS, (int)a->index, "nvlink_errors",
                      "nvidia-smi nvlink -e; check the bridge",
                      "NVLink %u counted %.0f errors during this check", i, more);
    }
}

static void links_judge(struct look *l, const struct mu_probe_gpu *g)
{
    unsigned up = 0, down = 0;
    for (unsigned i = 0; i < MU_PROBE_LINKS_MAX; i++) {
        if (!mu_probe_has(g->links[i].up)) continue;
        up += g->links[i].up.value != 0;
        down += g->links[i].up.value == 0;
    }
    if (up && down)
        look_find(l, LOOK_BAD, LOOK_HARDWARE, (int)g->index, "nvlink_down",
                  "nvidia-smi nvlink -s; reset; check the bridge", "%u of %u NVLinks are down",
                  down, up + down);
    double width = value(g, MU_PROBE_PCIE_WIDTH, 0), most = value(g, MU_PROBE_PCIE_WIDTH_MAX, 0);
    if (mu_probe_has(g->slot_width) && g->slot_width.value > 0)
        most = MU_MIN(most, g->slot_width.value);
    if (width > 0 && width < most)
        look_find(l, LOOK_WARN, LOOK_HARDWARE, (int)g->index, "pcie_width",
                  "reseat the card; look for a shared or bent slot", "PCIe x%.0f where x%.0f fits",
                  width, most);
    double generation = value(g, MU_PROBE_PCIE_GENERATION, 0);
    double generation_most = value(g, MU_PROBE_PCIE_GENERATION_MAX, 0);
    /* An idle link sleeps at a lower generation, so only a busy one is judged. */
    if (generation > 0 && generation < generation_most && value(g, MU_PROBE_UTILIZATION, 0) > 50)
        look_find(l, LOOK_WARN, LOOK_HARDWARE, (int)g->index, "pcie_generation",
                  "BIOS: the slot's speed; riser cables limit it too",
                  "PCIe generation %.0f of %.0f under load", generation, generation_most);
}

static void clocks_judge(struct look *l, const struct mu_probe_gpu *g, uint32_t bits)
{
    const struct mu_probe_clock_reason *r;
    for (unsigned i = 0; (r = mu_probe_clock_reason_get(i)); i++) {
        if (!(bits & r->bit) || r->bit == 1) continue;
        look_find(l, r->bad ? LOOK_BAD : LOOK_NOTE, LOOK_HARDWARE, (int)g->index,
                  r->bad ? "throttle" : "clocks_held",
                  r->bad ? "look at fans, airflow, power cables and supply" : "",
                  "clocks are held down by: %s", r->text);
    }
}

static void processes_judge(struct look *l, const struct mu_probe_gpu *g)
{
    for (unsigned i = 0; i < g->n_processes; i++) {
        const struct mu_probe_process *p = &g->processes[i];
        if (p->state != 'Z' && p->state != 'X') continue;
        look_find(l, LOOK_BAD, LOOK_MEMORY, (int)g->index, "zombie",
                  "end its parent; else reset the GPU",
                  "process %u (%s) is dead and still holds the GPU", p->pid, p->name);
    }
}

/* A container hides processes, so memory that nobody holds is told, and not judged. */
static void nobodys_judge(struct look *l)
{
    unsigned n = 0;
    for (unsigned i = 0; i < l->after->n_gpus; i++) {
        const struct mu_probe_gpu *g = &l->after->gpus[i];
        double used = value(g, MU_PROBE_MEMORY_USED, 0), total = value(g, MU_PROBE_MEMORY_TOTAL, 0);
        n += !g->processes_absent && g->n_processes == 0 && g->n_slices == 0 && used > 0.05 * total;
    }
    if (n)
        look_find(l, LOOK_NOTE, LOOK_MEMORY, -1, "memory_of_nobody", "",
                  "on %u GPUs no process is seen to hold the memory (a container hides them)", n);
}

/* --- memory ---------------------------------------------------------------------------------- */

static bool share_of(const struct mu_probe_gpu *g, double *share)
{
    double total = value(g, MU_PROBE_MEMORY_TOTAL, 0);
    if (g->unusable || total <= 0 || !mu_probe_has(g->values[MU_PROBE_MEMORY_USED])) return false;
    *share = g->values[MU_PROBE_MEMORY_USED].value / total;
    return true;
}

static void balance_judge(struct look *l)
{
    const struct mu_probe_node *node = l->after;
    double least = 1, most = 0, share;
    unsigned n = 0;
    for (unsigned i = 0; i < node->n_gpus; i++) {
        if (!share_of(&node->gpus[i], &share)) continue;
        n++;
        least = MU_MIN(least, share);
        most = MU_MAX(most, share);
        if (share < IDLE_SHARE)
            look_find(l, LOOK_BAD, LOOK_MEMORY, (int)i, "idle",
                      "see the engine's parallel degree and CUDA_VISIBLE_DEVICES",
                      "idle: %.0f %% of its memory is used", share * 100);
        else if (share < PART_SHARE)
            look_find(l, LOOK_WARN, LOOK_MEMORY, (int)i, "part_used", "",
                      "only %.0f %% of its memory is used", share * 100);
    }
    if (n > 1 && most - least > BALANCE_SHARE)
        look_find(l, LOOK_WARN, LOOK_MEMORY, -1, "unbalanced",
                  "the same model share on each: see the parallel degree and other tenants",
                  "memory is not balanced: %.0f %% to %.0f %% used", least * 100, most * 100);
}

/* --- what the sampler saw -------------------------------------------------------------------- */

struct seen {
    double mean[MU_PROBE_FAST], max[MU_PROBE_FAST];
    unsigned n[MU_PROBE_FAST];
    uint32_t reasons;
};

static void samples_read(struct look *l, unsigned gpu, struct seen *seen)
{
    memset(seen, 0, sizeof *seen);
    if (!l->sampler || gpu >= mu_probe_sampler_gpus(l->sampler)) return;
    struct mu_probe_sample *samples = mu_calloc(SAMPLES_MAX, sizeof *samples);
    unsigned n = samples ? mu_probe_sampler_read(l->sampler, gpu, samples, SAMPLES_MAX) : 0;
    for (unsigned i = 0; i < n; i++)
        for (unsigned m = 0; m < MU_PROBE_FAST; m++) {
            struct mu_probe_value v = samples[i].values[m];
            if (!mu_probe_has(v)) continue;
            seen->mean[m] += (v.value - seen->mean[m]) / ++seen->n[m];
            seen->max[m] = MU_MAX(seen->max[m], v.value);
            if (m == MU_PROBE_CLOCK_REASONS) seen->reasons |= (uint32_t)v.value;
        }
    mu_free(samples);
}

/* While tokens were made here, some devices worked: those that did not are told. */
static void activity_judge(struct look *l)
{
    const struct mu_probe_node *node = l->after;
    bool active[MU_PROBE_GPUS_MAX] = {false}, any = false;
    for (unsigned i = 0; i < node->n_gpus; i++) {
        struct seen seen;
        samples_read(l, i, &seen);
        active[i] =
            seen.n[MU_PROBE_UTILIZATION] == 0 || seen.max[MU_PROBE_UTILIZATION] >= BUSY_PERCENT;
        any = any || active[i];
    }
    for (unsigned i = 0; any && l->made_tokens && l->engine_here && i < node->n_gpus; i++)
        if (!active[i] && !node->gpus[i].unusable)
            look_find(l, LOOK_WARN, LOOK_HARDWARE, (int)i, "inactive",
                      "see the engine's parallel degree and CUDA_VISIBLE_DEVICES",
                      "did nothing while tokens were made");
}

static const enum mu_probe_metric sampled[] = {MU_PROBE_UTILIZATION, MU_PROBE_POWER,
                                               MU_PROBE_TEMPERATURE, MU_PROBE_SM_CLOCK};

/* The course of what was sampled, thinned evenly. */
static void course_give(const struct look *l, unsigned gpu)
{
    if (!l->options->sample || !l->sampler || gpu >= mu_probe_sampler_gpus(l->sampler)) return;
    struct mu_probe_sample *samples = mu_calloc(SAMPLES_MAX, sizeof *samples);
    unsigned n = samples ? mu_probe_sampler_read(l->sampler, gpu, samples, SAMPLES_MAX) : 0;
    for (unsigned i = 0; i < n; i += n / COURSE_MAX + 1)
        for (size_t m = 0; m < MU_ARRAY_LEN(sampled); m++)
            if (mu_probe_has(samples[i].values[sampled[m]]))
                look_sample(l, (int)gpu, mu_probe_metric_key(sampled[m]), samples[i].at_ns,
                            samples[i].values[sampled[m]].value);
    mu_free(samples);
}

static json_t *device_json(struct look *l, const struct mu_probe_gpu *g)
{
    json_t *o = mu_probe_gpu_json(g);
    struct seen seen;
    samples_read(l, g->index, &seen);
    double share;
    const char *colour = NULL;
    if (share_of(g, &share)) {
        colour = share < IDLE_SHARE ? "red" : share < PART_SHARE ? "yellow" : "green";
        (void)json_object_set_new(o, "memory_share", json_real(share));
    }
    (void)json_object_set_new(o, "memory_colour", colour ? json_string(colour) : json_null());
    json_t *measured = json_object();
    for (size_t i = 0; i < MU_ARRAY_LEN(sampled); i++)
        if (seen.n[sampled[i]])
            (void)json_object_set_new(measured, mu_probe_metric_key(sampled[i]),
                                      json_pack("{s:f, s:f, s:i}", "mean", seen.mean[sampled[i]],
                                                "max", seen.max[sampled[i]], "samples",
                                                (int)seen.n[sampled[i]]));
    (void)json_object_set_new(o, "sampled", measured);
    return o;
}

/* --- the kernel's log ------------------------------------------------------------------------ */

/* The catalogue's word on a line: how bad, and what to do. */
static void xid_judge(struct look *l, const struct mu_probe_xid *x)
{
    json_t *explained = NULL;
    bool known = false;
    if (mu_health_explain(l->catalog, mu_str(x->line), &explained, &known, NULL) != MU_OK) return;
    const json_t *row = json_array_get(json_object_get(explained, "rows"), 0);
    const char *class = json_string_value(json_object_get(row, "class"));
    const char *meaning = json_string_value(json_object_get(row, "meaning"));
    const char *cure = json_string_value(json_object_get(row, "cure"));
    enum look_level level = !class || strcmp(class, "symptom") == 0 ? LOOK_WARN
                            : strcmp(class, "cause") == 0           ? LOOK_BAD
                                                                    : LOOK_NOTE;
    char age[48] = "";
    if (mu_probe_has(x->age_s))
        (void)snprintf(age, sizeof age, ", %.0f minutes ago", x->age_s.value / 60);
    look_find(l, level, LOOK_ERRORS, x->gpu, "xid", cure ? cure : "", "Xid %d at %s%s: %s", x->code,
              x->bus_id, age, meaning ? meaning : "of a kind not known here");
    json_decref(explained);
}

static void kernel_log_judge(struct look *l)
{
    const struct mu_probe_node *node = l->after;
    look_source(l, "kernel_log", node->kernel_log ? node->kernel_log_what : NULL);
    for (unsigned i = 0; i < node->n_xids; i++)
        xid_judge(l, &node->xids[i]);
}

/* --- all ------------------------------------------------------------------------------------- */

/* A GPU whose memory nobody can read is no good one; some kinds have none of their own, and some
 * drivers lack the function. Figures that cannot be are named. */
static void absences_judge(struct look *l, const struct mu_probe_gpu *g)
{
    mu_probe_absence memory = g->values[MU_PROBE_MEMORY_TOTAL].absent;
    if (memory && memory != MU_PROBE_NOT_SUPPORTED && memory != MU_PROBE_NO_SYMBOL)
        look_find(l, LOOK_BAD, LOOK_MEMORY, (int)g->index, "unreadable",
                  "reload the driver; see the kernel's log", "its memory cannot be read: %s",
                  mu_probe_absence_text(memory));
    char names[160] = "";
    unsigned n = 0;
    for (enum mu_probe_metric m = 0; m < MU_PROBE_METRIC_COUNT; m++) {
        if (g->values[m].absent != MU_PROBE_RUBBISH || n++ >= NAMES_MOST) continue;
        size_t len = strlen(names);
        (void)snprintf(names + len, sizeof names - len, "%s%s", len ? ", " : "",
                       mu_probe_metric_key(m));
    }
    if (n)
        look_find(l, LOOK_WARN, LOOK_HARDWARE, (int)g->index, "rubbish",
                  "install a driver that fits the card",
                  "the driver gives figures that cannot be: %s%s", names,
                  n > NAMES_MOST ? ", ..." : "");
}

static void gpu_judge(struct look *l, unsigned i)
{
    const struct mu_probe_gpu *g = &l->after->gpus[i];
    if (g->unusable) {
        look_find(l, LOOK_BAD, LOOK_HARDWARE, (int)i, "gpu_unusable",
                  "look for its Xid in the kernel's log; cold reboot", "cannot be used: %s",
                  mu_probe_absence_text(g->unusable));
        return;
    }
    struct seen seen;
    samples_read(l, i, &seen);
    absences_judge(l, g);
    zeros_judge(l, g);
    if (i < l->before->n_gpus) counters_judge(l, &l->before->gpus[i], g);
    links_judge(l, g);
    clocks_judge(l, g, seen.reasons | (uint32_t)value(g, MU_PROBE_CLOCK_REASONS, 0));
    processes_judge(l, g);
}

void look_devices(struct look *l)
{
    const struct mu_probe_node *node = l->after;
    if (!l->options->probe) {
        look_source(l, "nvml", "the devices were not asked");
        return;
    }
    look_source(l, "nvml", node->library ? node->library_what : NULL);
    kernel_log_judge(l);
    if (node->hung[0])
        look_find(l, LOOK_BAD, LOOK_HARDWARE, -1, "driver_hangs", "reboot; see the kernel's log",
                  "the driver does not answer: %s", node->hung);
    for (unsigned i = 0; i < node->n_gpus; i++) {
        (void)json_array_append_new(l->devices, device_json(l, &node->gpus[i]));
        course_give(l, i);
        gpu_judge(l, i);
    }
    if (l->options->url && !l->engine_here) {
        if (node->n_gpus)
            look_find(l, LOOK_NOTE, LOOK_MEMORY, -1, "engine_elsewhere", "",
                      "the engine runs elsewhere: the use of the devices here was not judged");
        return;
    }
    balance_judge(l);
    nobodys_judge(l);
    activity_judge(l);
}
