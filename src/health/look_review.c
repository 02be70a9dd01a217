/* Remarks on how the machine and the engine are set up, from a look's evidence. Small rules in a
 * table; none is a fault by itself. The caller's thread. */
#include "health/look_int.h"

#define HOST_LOAD 2.0 /* threads a CPU that want to run */

static double reported(const struct look *l, const char *key)
{
    const json_t *v = json_object_get(json_object_get(l->engine, "reported"), key);
    return json_is_number(v) ? json_number_value(v) : -1;
}

static void queue(struct look *l)
{
    double waiting = reported(l, "waiting"), running = reported(l, "running");
    if (reported(l, "kv_usage_ratio") > 0.95 && waiting > 0)
        look_find(l, LOOK_WARN, LOOK_REVIEW, -1, "kv_full",
                  "more devices, an fp8 KV cache, or a shorter context",
                  "the KV cache is full while %.0f requests wait", waiting);
    if (waiting > 0 && running == 0)
        look_find(l, LOOK_WARN, LOOK_REVIEW, -1, "nothing_runs", "see the engine's log",
                  "%.0f requests wait and none runs", waiting);
    if (reported(l, "preemptions") > 0)
        look_find(l, LOOK_NOTE, LOOK_REVIEW, -1, "preemptions", "",
                  "%.0f requests were preempted for lack of KV cache", reported(l, "preemptions"));
}

static void mixed(struct look *l)
{
    const struct mu_probe_node *n = l->after;
    for (unsigned i = 1; i < n->n_gpus; i++)
        if (!n->gpus[i].unusable && strcmp(n->gpus[i].name, n->gpus[0].name) != 0) {
            look_find(l, LOOK_NOTE, LOOK_PARALLEL, (int)i, "mixed",
                      "engines split evenly: the slowest sets the pace",
                      "is another model than GPU 0: %s, %s", n->gpus[i].name, n->gpus[0].name);
            return;
        }
}

/* How many of the usable devices hold a share of a model, and over what they talk. */
static void spread(struct look *l)
{
    const struct mu_probe_node *n = l->after;
    unsigned holding = 0, apart = 0, linked = 0, grouped = 0;
    for (unsigned a = 0; a < n->n_gpus; a++) {
        struct mu_probe_value used = n->gpus[a].values[MU_PROBE_MEMORY_USED];
        struct mu_probe_value total = n->gpus[a].values[MU_PROBE_MEMORY_TOTAL];
        holding += mu_probe_has(used) && mu_probe_has(total) && used.value > 0.1 * total.value;
        grouped += mu_probe_has(n->gpus[a].iommu_group_size);
        for (unsigned b = 0; b < a; b++) {
            bool nvlink = mu_probe_nvlinks(n, a, b) > 0;
            linked += nvlink;
            apart +=
                !nvlink && mu_probe_has(n->path[a][b]) && n->path[a][b].value == MU_PROBE_PATH_SYS;
        }
    }
    if (n->n_gpus)
        look_find(l, LOOK_NOTE, LOOK_PARALLEL, -1, "holding", "",
                  "%u of %u GPUs hold something in their memory", holding, n->n_gpus);
    if (apart && holding > 1)
        look_find(l, LOOK_NOTE, LOOK_PARALLEL, -1, "across_sockets",
                  "tensor parallel within a socket, pipeline parallel across",
                  "%u pairs of GPUs reach each other only between sockets", apart);
    if (grouped > 1 && !linked)
        look_find(l, LOOK_NOTE, LOOK_ERRORS, -1, "iommu",
                  "nvidia-smi topo -p2p r; without virtual machines: iommu=pt, ACS off in the BIOS",
                  "the IOMMU is on: GPUs may reach each other only over the host's memory");
    if (linked)
        look_find(l, LOOK_NOTE, LOOK_ERRORS, -1, "nvlinked", "", "%u pairs of GPUs have NVLink",
                  linked);
}

static void modes(struct look *l)
{
    static const struct {
        enum mu_probe_metric metric;
        double value;
        const char *code, *text, *cure;
    } rules[] = {
        {MU_PROBE_PERSISTENCE, 0, "no_persistence",
         "persistence mode is off: programs start slowly", "nvidia-smi -pm 1"},
        {MU_PROBE_ECC_ENABLED, 0, "no_ecc", "error correction is off, or the card has none", ""},
        {MU_PROBE_COMPUTE_MODE, 2, "prohibited", "its compute mode prohibits programs",
         "nvidia-smi -c DEFAULT"},
    };
    for (unsigned i = 0; i < l->after->n_gpus; i++)
        for (size_t r = 0; r < MU_ARRAY_LEN(rules); r++) {
            struct mu_probe_value v = l->after->gpus[i].values[rules[r].metric];
            if (mu_probe_has(v) && v.value == rules[r].value)
                look_find(l, LOOK_NOTE, LOOK_REVIEW, (int)i, rules[r].code, rules[r].cure, "%s",
                          rules[r].text);
        }
}

/* An engine that has to wait for a CPU is slow whatever its devices are. */
static void host(struct look *l)
{
    struct mu_probe_cpu cpu;
    if (!l->options->probe || (l->options->url && !l->engine_here)) return;
    mu_probe_cpu(NULL, &cpu);
    if (mu_probe_has(cpu.load) && cpu.load.value > HOST_LOAD * cpu.n_usable)
        look_find(l, LOOK_NOTE, LOOK_REVIEW, -1, "busy_host",
                  "end what else runs here, or give the engine CPUs of its own",
                  "%.0f threads on average wanted the %u CPUs here in the last minute",
                  cpu.load.value, cpu.n_usable);
}

void look_review(struct look *l)
{
    static void (*const rules[])(struct look * l) = {queue, mixed, spread, modes, host};
    for (size_t i = 0; i < MU_ARRAY_LEN(rules); i++)
        rules[i](l);
}
