/* The lines of muster top, in ASCII: the same for a terminal and for --once. Knows nothing of
 * terminals; the thread of the screen. */
#include "cli/top.h"

#include "base/number.h"

#include <stdarg.h>
#include <stdio.h>

#define BAR_WIDTH  10
#define SPARK_MOST 60

static void line(struct top_screen *s, enum top_tone tone, const char *format, ...) MU_PRINTF(3, 4);

static void line(struct top_screen *s, enum top_tone tone, const char *format, ...)
{
    if (s->n == TOP_LINES_MAX) return;
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t n = MU_MIN(strlen(text), (size_t)MU_MIN(s->width, (unsigned)TOP_WIDTH_MAX));
    while (n && text[n - 1] == ' ')
        n--;
    for (size_t i = 0; i < n; i++) /* names of processes may hold anything */
        s->lines[s->n].text[i] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    s->lines[s->n].text[n] = '\0';
    s->lines[s->n++].tone = tone;
}

static void bar(double share, char out[BAR_WIDTH + 1])
{
    double full = MU_MIN(MU_MAX(share, 0), 1) * BAR_WIDTH;
    for (unsigned i = 0; i < BAR_WIDTH; i++)
        out[i] = i + 0.5 < full ? '#' : '.';
    out[BAR_WIDTH] = '\0';
}

/* The latest of a metric in percent, a character a sample, the newest right. */
static void spark(const struct mu_probe_sample *samples, unsigned n, enum mu_probe_metric metric,
                  unsigned width, char *out)
{
    static const char ramp[] = "_.:-=+*#%@";
    unsigned shown = MU_MIN(n, width);
    memset(out, ' ', width);
    out[width] = '\0';
    for (unsigned i = 0; i < shown; i++) {
        struct mu_probe_value v = samples[n - shown + i].values[metric];
        double step = v.value / 100 * (sizeof ramp - 2);
        if (mu_probe_has(v))
            out[width - shown + i] = ramp[(unsigned)MU_MIN(MU_MAX(step, 0), sizeof ramp - 2)];
    }
}

/* "%.0f" and a unit in a field, or "-". */
static const char *figure(struct mu_probe_value v, const char *unit, char out[24])
{
    if (!mu_probe_has(v)) return "-";
    (void)snprintf(out, 24, "%.0f%s", v.value, unit);
    return out;
}

static const char *held_by(struct mu_probe_value bits, bool *bad)
{
    static const char *const brief[] = {"power brake", "hw thermal", "hw slowdown",
                                        "sw thermal",  "power cap",  "sync boost",
                                        "app clocks",  "display",    "idle"};
    const struct mu_probe_clock_reason *r;
    *bad = false;
    for (unsigned i = 0; mu_probe_has(bits) && (r = mu_probe_clock_reason_get(i)); i++) {
        if (!((uint64_t)bits.value & r->bit)) continue;
        *bad = r->bad;
        return brief[i];
    }
    return mu_probe_has(bits) ? "" : "-";
}

static void gpu_draw(struct top_screen *s, const struct top_view *view, unsigned i)
{
    const struct mu_probe_gpu *g = &view->node->gpus[i];
    if (g->unusable) {
        line(s, TOP_BAD, "%3u %s", i, mu_probe_absence_text(g->unusable));
        return;
    }
    unsigned n = view->gpus[i].n;
    const struct mu_probe_value *v = n ? view->gpus[i].samples[n - 1].values : g->values;
    struct mu_probe_value used = v[MU_PROBE_MEMORY_USED], total = v[MU_PROBE_MEMORY_TOTAL];
    bool known = mu_probe_has(used) && mu_probe_has(total), bad;
    double share = known ? used.value / total.value : 0;
    char memory[BAR_WIDTH + 1], gib[32] = "-", busy[24], power[24], temperature[24], clock[24];
    char history[SPARK_MOST + 1];
    bar(share, memory);
    if (known)
        (void)snprintf(gib, sizeof gib, "%.1f/%.1f", used.value / (1 << 30),
                       total.value / (1 << 30));
    unsigned room = s->width > 62 ? MU_MIN(s->width - 62, (unsigned)SPARK_MOST) : 0;
    spark(view->gpus[i].samples, n, MU_PROBE_UTILIZATION, room, history);
    const char *held = held_by(v[MU_PROBE_CLOCK_REASONS], &bad);
    line(s,
         bad                    ? TOP_BAD
         : known && share < 0.1 ? TOP_WARN
                                : TOP_PLAIN,
         "%3u %s %11s %5s %5s %4s %5s %-11s %s", i, memory, gib,
         figure(v[MU_PROBE_UTILIZATION], "%", busy), figure(v[MU_PROBE_POWER], "W", power),
         figure(v[MU_PROBE_TEMPERATURE], "C", temperature), figure(v[MU_PROBE_SM_CLOCK], "", clock),
         held, history);
}

static void cpu_draw(struct top_screen *s, const struct top_view *view)
{
    const struct mu_probe_cpu *c = &view->cpu;
    char memory[BAR_WIDTH + 1], gib[32] = "-", busy[24] = "-", temperature[24], clock[24];
    double used = (double)(c->memory_bytes - c->available_bytes);
    bar(c->memory_bytes ? used / (double)c->memory_bytes : 0, memory);
    if (c->memory_bytes)
        (void)snprintf(gib, sizeof gib, "%.1f/%.1f", used / (1 << 30),
                       (double)c->memory_bytes / (1 << 30));
    if (view->cpu_busy >= 0) (void)snprintf(busy, sizeof busy, "%.0f%%", view->cpu_busy * 100);
    line(s, TOP_PLAIN, "cpu %s %11s %5s %5s %4s %5s %u threads", memory, gib, busy, "-",
         figure(c->temperature_c, "C", temperature), figure(c->clock_mhz, "", clock), c->n_usable);
}

static void engine_draw(struct top_screen *s, const struct top_view *view)
{
    static const struct {
        const char *key, *label;
        double scale;
        const char *unit;
    } shown[] = {
        {"running", "running", 1, ""},       {"waiting", "waiting", 1, ""},
        {"kv_usage_ratio", "kv", 100, " %"}, {"prefix_hit_ratio", "prefix hits", 100, " %"},
        {"preemptions", "preempted", 1, ""}, {"generation_tokens", "tokens", 1, ""},
    };
    if (!view->engine) {
        line(s, view->engine_gone ? TOP_BAD : TOP_PLAIN, "engine  %s", view->engine_why);
        return;
    }
    const char *kind = json_string_value(json_object_get(view->engine, "engine"));
    struct mu_text text;
    mu_text_init(&text, 1024);
    double waiting = json_number_value(json_object_get(view->engine, "waiting"));
    for (size_t i = 0; i < MU_ARRAY_LEN(shown); i++) {
        const json_t *v = json_object_get(view->engine, shown[i].key);
        if (v)
            mu_text_printf(&text, "  %s %.0f%s", shown[i].label,
                           json_number_value(v) * shown[i].scale, shown[i].unit);
    }
    const json_t *rate = json_object_get(view->engine, "generation_tokens_per_s");
    if (view->tokens_per_s >= 0)
        mu_text_printf(&text, "  %.1f tokens/s", view->tokens_per_s);
    else if (rate)
        mu_text_printf(&text, "  %.1f tokens/s", json_number_value(rate));
    line(s, waiting > 0 ? TOP_WARN : TOP_GOOD, "%s (reported)%s", kind ? kind : "engine",
         mu_text_get(&text));
    mu_text_fini(&text);
}

/* "1.2 GB/s", or "-". */
static const char *rate(double bytes_per_s, char out[24])
{
    if (bytes_per_s < 0) return "-";
    (void)snprintf(out, 24, bytes_per_s < 1e9 ? "%.0f MB/s" : "%.1f GB/s",
                   bytes_per_s * (bytes_per_s < 1e9 ? 1e-6 : 1e-9));
    return out;
}

static double value_or_none(struct mu_probe_value v)
{
    return mu_probe_has(v) ? v.value : -1;
}

static void traffic_draw(struct top_screen *s, const struct top_view *view)
{
    const struct mu_probe_node *node = view->node;
    bool head = false;
    for (unsigned i = 0; i < node->n_gpus; i++) {
        const struct mu_probe_gpu *g = &node->gpus[i];
        const double rates[] = {value_or_none(g->values[MU_PROBE_PCIE_RECEIVED]),
                                value_or_none(g->values[MU_PROBE_PCIE_SENT]),
                                view->nvlink_received[i], view->nvlink_sent[i]};
        char text[MU_ARRAY_LEN(rates)][24];
        if (rates[0] < 0 && rates[1] < 0 && rates[2] < 0 && rates[3] < 0) continue;
        if (!head) line(s, TOP_HEAD, "GPU    PCIE IN   PCIE OUT  NVLINK IN NVLINK OUT");
        head = true;
        line(s, TOP_PLAIN, "%3u %10s %10s %10s %10s", i, rate(rates[0], text[0]),
             rate(rates[1], text[1]), rate(rates[2], text[2]), rate(rates[3], text[3]));
    }
}

static void processes_draw(struct top_screen *s, const struct mu_probe_node *node)
{
    bool head = false;
    for (unsigned i = 0; i < node->n_gpus; i++)
        for (unsigned p = 0; p < node->gpus[i].n_processes; p++) {
            const struct mu_probe_process *process = &node->gpus[i].processes[p];
            char bytes[MU_BYTES_TEXT] = "-";
            if (!head) line(s, TOP_HEAD, "GPU     PID    MEMORY  PROCESS");
            head = true;
            if (mu_probe_has(process->used_bytes))
                (void)mu_format_bytes((uint64_t)process->used_bytes.value, bytes);
            bool dead = process->state == 'Z' || process->state == 'X';
            line(s, dead ? TOP_BAD : TOP_PLAIN, "%3u %7u %9s  %s%s", i, process->pid, bytes,
                 process->name[0] ? process->name : "(not seen from here)",
                 dead ? " (dead, still holds the GPU)" : "");
        }
}

void top_screen_draw(struct top_screen *s, const struct top_view *view, unsigned width)
{
    const struct mu_probe_node *node = view->node;
    s->n = 0;
    s->width = width;
    if (node->library)
        line(s, TOP_HEAD, "muster top   no GPU: %s", node->library_what);
    else
        line(s, TOP_HEAD, "muster top   driver %s   %u GPUs   sampling takes %.2f %% of a core",
             node->driver[0] ? node->driver : "?", node->n_gpus,
             view->cost.wall_s > 0 ? view->cost.cpu_s / view->cost.wall_s * 100 : 0);
    line(s, TOP_HEAD, "GPU MEMORY             GiB  BUSY POWER TEMP   MHZ HELD BY     BUSY, LATEST");
    for (unsigned i = 0; i < node->n_gpus; i++)
        gpu_draw(s, view, i);
    cpu_draw(s, view);
    engine_draw(s, view);
    if (node->n_xids)
        line(s, TOP_BAD, "Xid %d on %s, %llu in all: muster check",
             node->xids[node->n_xids - 1].code, node->xids[node->n_xids - 1].bus_id,
             (unsigned long long)node->n_xids_seen);
    if (node->hung[0]) line(s, TOP_BAD, "the driver does not answer: %s", node->hung);
    processes_draw(s, node);
    traffic_draw(s, view);
}
