/* What a probe saw, as JSON: absent figures are null, with the reason under "absent". */
#include "probe/probe.h"

#include <math.h>

static json_t *number_json(double v)
{
    return fabs(v) < 9e15 && floor(v) == v ? json_integer((json_int_t)v) : json_real(v);
}

static void value_add(json_t *o, json_t *absent, const char *key, struct mu_probe_value v)
{
    (void)json_object_set_new(o, key, mu_probe_has(v) ? number_json(v.value) : json_null());
    if (!mu_probe_has(v))
        (void)json_object_set_new(absent, key, json_string(mu_probe_absence_text(v.absent)));
}

static json_t *text_or_null(const char *s)
{
    return s[0] ? json_string(s) : json_null();
}

static json_t *reasons_json(struct mu_probe_value bits)
{
    json_t *array = json_array();
    const struct mu_probe_clock_reason *r;
    for (unsigned i = 0; mu_probe_has(bits) && (r = mu_probe_clock_reason_get(i)); i++)
        if ((uint64_t)bits.value & r->bit) (void)json_array_append_new(array, json_string(r->text));
    return array;
}

static json_t *links_json(const struct mu_probe_gpu *g)
{
    json_t *array = json_array();
    for (unsigned l = 0; l < MU_PROBE_LINKS_MAX; l++) {
        const struct mu_probe_nvlink *link = &g->links[l];
        if (!mu_probe_has(link->up)) continue;
        json_t *absent = json_object(), *o = json_object();
        (void)json_object_set_new(o, "link", json_integer(l));
        (void)json_object_set_new(o, "up", json_boolean(link->up.value != 0));
        (void)json_object_set_new(o, "remote", text_or_null(link->remote));
        value_add(o, absent, "version", link->version);
        value_add(o, absent, "replays", link->replays);
        value_add(o, absent, "recoveries", link->recoveries);
        value_add(o, absent, "crc_errors", link->crc_errors);
        (void)json_object_set_new(o, "absent", absent);
        (void)json_array_append_new(array, o);
    }
    return array;
}

static json_t *processes_json(const struct mu_probe_gpu *g)
{
    if (g->processes_absent) return json_null();
    json_t *array = json_array();
    for (unsigned i = 0; i < g->n_processes; i++) {
        const struct mu_probe_process *p = &g->processes[i];
        const char state[2] = {p->state, '\0'};
        (void)json_array_append_new(
            array, json_pack("{s:i, s:o, s:o, s:o}", "pid", (int)p->pid, "name",
                             text_or_null(p->name), "state", text_or_null(state), "used_bytes",
                             mu_probe_has(p->used_bytes) ? number_json(p->used_bytes.value)
                                                         : json_null()));
    }
    return array;
}

static json_t *slices_json(const struct mu_probe_gpu *g)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < g->n_slices; i++) {
        json_t *absent = json_object(), *o = json_object();
        (void)json_object_set_new(o, "name", text_or_null(g->slices[i].name));
        (void)json_object_set_new(o, "uuid", text_or_null(g->slices[i].uuid));
        value_add(o, absent, "memory_total_bytes", g->slices[i].total_bytes);
        value_add(o, absent, "memory_used_bytes", g->slices[i].used_bytes);
        (void)json_object_set_new(o, "absent", absent);
        (void)json_array_append_new(array, o);
    }
    return array;
}

json_t *mu_probe_gpu_json(const struct mu_probe_gpu *g)
{
    json_t *absent = json_object();
    json_t *o =
        json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:o, s:o}", "device",
                  json_sprintf("cuda:%u", g->index), "name", text_or_null(g->name), "uuid",
                  text_or_null(g->uuid), "vbios", text_or_null(g->vbios), "bus_id",
                  text_or_null(g->bus_id), "usable", g->unusable == MU_PROBE_VALID, "why",
                  g->unusable ? json_string(mu_probe_absence_text(g->unusable)) : json_null(),
                  "cpus_near", text_or_null(g->cpus));
    for (unsigned m = 0; m < MU_PROBE_METRIC_COUNT; m++)
        value_add(o, absent, mu_probe_metric_key(m), g->values[m]);
    value_add(o, absent, "numa_node", g->numa_node);
    value_add(o, absent, "slot_width", g->slot_width);
    value_add(o, absent, "slot_gt_s", g->slot_gt_s);
    value_add(o, absent, "iommu_group_size", g->iommu_group_size);
    (void)json_object_set_new(o, "clocks_held_by", reasons_json(g->values[MU_PROBE_CLOCK_REASONS]));
    (void)json_object_set_new(o, "nvlinks", links_json(g));
    if (g->processes_absent)
        (void)json_object_set_new(absent, "processes",
                                  json_string(mu_probe_absence_text(g->processes_absent)));
    (void)json_object_set_new(o, "processes", processes_json(g));
    (void)json_object_set_new(o, "mig_slices", slices_json(g));
    (void)json_object_set_new(o, "absent", absent);
    return o;
}

json_t *mu_probe_driver_json(const struct mu_probe_node *node)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "version", text_or_null(node->driver),
                     "nvml_version", text_or_null(node->nvml), "cuda_version",
                     text_or_null(node->cuda), "why", text_or_null(node->library_what),
                     "functions_absent", text_or_null(node->symbols_absent), "functions_hung",
                     text_or_null(node->hung));
}

json_t *mu_probe_topology_json(const struct mu_probe_node *node)
{
    json_t *rows = json_array();
    for (unsigned a = 0; a < node->n_gpus; a++) {
        json_t *row = json_array();
        char text[8];
        for (unsigned b = 0; b < node->n_gpus; b++)
            (void)json_array_append_new(row, json_string(mu_probe_path_text(node, a, b, text)));
        (void)json_array_append_new(rows, row);
    }
    return rows;
}

json_t *mu_probe_xids_json(const struct mu_probe_node *node)
{
    json_t *array = json_array();
    for (unsigned i = 0; i < node->n_xids; i++) {
        const struct mu_probe_xid *x = &node->xids[i];
        (void)json_array_append_new(
            array, json_pack("{s:i, s:o, s:s, s:o, s:s}", "xid", x->code, "device",
                             x->gpu >= 0 ? json_sprintf("cuda:%d", x->gpu) : json_null(), "bus_id",
                             x->bus_id, "age_s",
                             mu_probe_has(x->age_s) ? json_real(x->age_s.value) : json_null(),
                             "line", x->line));
    }
    return array;
}

json_t *mu_probe_cpu_json(const struct mu_probe_cpu *cpu)
{
    json_t *absent = json_object();
    json_t *o = json_pack("{s:s, s:o, s:i}", "device", "cpu", "name", text_or_null(cpu->name),
                          "threads", (int)cpu->n_usable);
    if (cpu->memory_bytes) {
        (void)json_object_set_new(o, "memory_bytes", json_integer((json_int_t)cpu->memory_bytes));
        (void)json_object_set_new(o, "available_bytes",
                                  json_integer((json_int_t)cpu->available_bytes));
    }
    value_add(o, absent, "clock_mhz", cpu->clock_mhz);
    value_add(o, absent, "clock_max_mhz", cpu->clock_max_mhz);
    value_add(o, absent, "temperature_c", cpu->temperature_c);
    value_add(o, absent, "energy_j", cpu->energy_j);
    value_add(o, absent, "busy_s", cpu->busy_s);
    value_add(o, absent, "load", cpu->load);
    value_add(o, absent, "cgroup_cpus", cpu->quota_cpus);
    value_add(o, absent, "cgroup_memory_bytes", cpu->memory_limit_bytes);
    (void)json_object_set_new(o, "governor", text_or_null(cpu->governor));
    (void)json_object_set_new(o, "absent", absent);
    return o;
}
