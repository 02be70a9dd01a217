/* The words for causes, how people say them, and the page of docs/findings that explains them; and
 * the small language of the cures. */
#include "health/health_int.h"

static const struct {
    const char *cause, *family, *text;
} causes[] = {
    {"oom_load", "out-of-memory", "device memory ran out while the model was loaded or profiled"},
    {"oom_kv", "out-of-memory", "nothing is left for the KV cache"},
    {"oom_graph", "out-of-memory", "device memory ran out while graphs were captured"},
    {"oom_run", "out-of-memory", "device memory ran out while serving"},
    {"kv_too_small", "out-of-memory", "the KV cache is smaller than one request of full length"},
    {"gpu_busy", "out-of-memory", "another process holds the device's memory"},
    {"mem_fraction", "out-of-memory", "the memory fraction leaves no room"},
    {"host_oom_kill", "out-of-memory", "the kernel ended a process for lack of host memory"},
    {"tp_heads", "configuration", "the model cannot be divided by this parallel degree"},
    {"quant_tp_align", "configuration", "the quantisation cannot be cut by this parallel degree"},
    {"quant_unsupported", "configuration", "the quantisation is not supported here"},
    {"dtype_unsupported", "configuration", "the data type is not supported on this card"},
    {"bad_env", "configuration", "an environment variable is wrong"},
    {"bad_args", "configuration", "the arguments were rejected"},
    {"gpu_count", "configuration", "more GPUs are asked for than there are"},
    {"template", "configuration", "tokenizer or chat template"},
    {"arch_unsupported", "driver-and-xid", "no kernel for this card's compute capability"},
    {"driver_mismatch", "driver-and-xid", "driver and CUDA do not fit each other"},
    {"env_abi", "driver-and-xid", "an installed package does not fit the others"},
    {"kernel_fault", "driver-and-xid", "a GPU kernel or the device itself failed"},
    {"fabric_manager", "driver-and-xid", "the fabric manager does not run"},
    {"container_runtime", "driver-and-xid", "the container sees no GPU"},
    {"xid_bus", "driver-and-xid", "the GPU left the bus"},
    {"ecc", "driver-and-xid", "the GPU's memory has uncorrectable errors"},
    {"net_interface", "communication", "wrong or missing network interface"},
    {"net_unreachable", "communication", "another node cannot be reached"},
    {"nccl_timeout", "communication", "ranks waited for each other in vain"},
    {"nccl_p2p", "communication", "devices cannot reach each other's memory"},
    {"nccl_shm", "communication", "shared memory is too small"},
    {"nccl_ib", "communication", "InfiniBand, RoCE or EFA failed"},
    {"ray", "start-up", "the Ray cluster is at fault"},
    {"port_in_use", "start-up", "the port is taken"},
    {"weights_corrupt", "start-up", "weight files are missing or damaged"},
    {"hub_access", "start-up", "the model hub refused or cannot be reached"},
    {"disk_full", "start-up", "a disk is full"},
    {"probe_kill", "start-up", "the process was ended from outside"},
    {"proc_died", "start-up", "a process is gone and the log does not say why"},
    {"unknown_error", "start-up", "an error that the catalogue does not know"},
    {"slow_transport", "slow-but-working", "devices talk more slowly than the hardware allows"},
    {"kv_preempted", "slow-but-working", "the KV cache is too small for the requests at once"},
    {"throttle", "slow-but-working", "clocks are held down by power or heat"},
};

const char *mu_health_family_of(const char *cause)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(causes); i++)
        if (strcmp(causes[i].cause, cause) == 0) return causes[i].family;
    return "";
}

const char *mu_health_cause_text(const char *cause)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(causes); i++)
        if (strcmp(causes[i].cause, cause) == 0) return causes[i].text;
    return "";
}

/* Appends what stands for {key|else}; `p` is at the bracket. Returns the end, or NULL when it is
 * only a bracket. */
static const char *placeholder(const char *p, mu_health_fact_fn *fact, const void *context,
                               struct mu_text *out)
{
    const char *close = strchr(p, '}');
    const char *bar = close ? memchr(p, '|', (size_t)(close - p)) : NULL;
    char key[32] = "";
    if (!bar || (size_t)(bar - p) > sizeof key) return NULL;
    memcpy(key, p + 1, (size_t)(bar - p) - 1);
    if (!fact(context, key, out)) mu_text_add(out, bar + 1, (size_t)(close - bar) - 1);
    return close + 1;
}

void mu_health_cure_expand(const char *cure, mu_health_fact_fn *fact, const void *context,
                           struct mu_text *out)
{
    for (const char *p = cure, *next; *p; p = next) {
        size_t plain = strcspn(p, " {");
        mu_text_add(out, p, plain);
        next = p += plain;
        if (strncmp(p, " // ", 4) == 0) {
            mu_text_char(out, '\n');
            next = p + 4;
        } else if (*p) {
            const char *end = *p == '{' ? placeholder(p, fact, context, out) : NULL;
            if (!end) mu_text_char(out, *p);
            next = end ? end : p + 1;
        }
    }
}
