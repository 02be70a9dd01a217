/* The JSON and the tables of a plan; see write.h. Pictures are in draw.c, lines to copy in
 * launch.c. */
#include "plan/write.h"

#include "base/json.h"
#include "base/number.h"

#include <math.h>

static const char *kv_name(const struct mu_plan_candidate *c)
{
    return c->kv8 ? "fp8" : "bf16";
}

/* ---- JSON ---------------------------------------------------------------------------------- */

static void add_key(struct mu_text *out, const char *key, double value)
{
    mu_text_printf(out, ",\"%s\":", key);
    mu_json_add_f64(out, value);
}

static void add_bytes(struct mu_text *out, const char *key, double bytes)
{
    mu_text_printf(out, ",\"%s\":%.0f", key, bytes);
}

static void add_device(const struct mu_plan_device *d, struct mu_text *out)
{
    const struct mu_plan_memory *m = &d->memory;
    mu_text_str(out, "{\"name\":");
    mu_json_add_string(out, mu_str(d->device->name));
    mu_text_printf(out,
                   ",\"index\":%u,\"replica\":%u,\"stage\":%u,\"tp_rank\":%u,"
                   "\"layer_first\":%u,\"layer_end\":%u",
                   d->slot, d->replica, d->stage, d->tp_rank, d->layer_first, d->layer_end);
    add_bytes(out, "weights_bytes", m->weights_bytes);
    add_bytes(out, "kv_bytes", m->kv_bytes);
    add_bytes(out, "activation_bytes", m->activation_bytes);
    add_bytes(out, "overhead_bytes", m->overhead_bytes);
    add_bytes(out, "total_bytes", mu_plan_memory_total(m));
    add_bytes(out, "budget_bytes", m->budget_bytes);
    mu_text_char(out, '}');
}

static void add_candidate(const struct mu_plan *plan, const struct mu_plan_candidate *c,
                          struct mu_text *out)
{
    const struct mu_plan_prediction *p = &c->predicted;
    const struct mu_plan_request *q = &plan->request;
    mu_text_printf(out, "{\"tp\":%u,\"pp\":%u,\"dp\":%u,\"weights\":\"%s\",\"kv_type\":\"%s\"",
                   c->tp, c->pp, c->dp, c->format->name, kv_name(c));
    mu_text_printf(out, ",\"fits\":%s,\"devices\":[", c->fits ? "true" : "false");
    for (uint32_t i = 0; i < c->n_devices; i++) {
        if (i) mu_text_char(out, ',');
        add_device(&c->devices[i], out);
    }
    mu_text_printf(out, "],\"predicted\":{\"from\":\"%s\"", q->costs);
    add_key(out, "decode_tokens_per_s", p->decode_tokens_per_s);
    add_key(out, "prefill_tokens_per_s", p->prefill_tokens_per_s);
    add_key(out, "ttft_ms", 1e3 * p->ttft_s);
    add_key(out, "tpot_ms", 1e3 * p->tpot_s);
    add_key(out, "decode_step_ms", 1e3 * p->step_s);
    add_key(out, "kv_room_tokens", floor(p->kv_room_tokens));
    add_key(out, "kv_room_streams", floor(p->kv_room_tokens / (q->input + (double)q->output)));
    if (p->watts > 0) {
        add_key(out, "watts_at_most", p->watts);
        add_key(out, "joules_per_token_at_most", p->joules_per_token);
    }
    mu_text_str(out, "}}");
}

double mu_plan_nominal_bytes(const char *model, const struct mu_plan_format *format)
{
    for (const char *p = model; *p; p++) {
        size_t n = strspn(p, "0123456789.");
        bool begins = p == model || strchr("-_/ ", p[-1]);
        double billions;
        if (n == 0 || !begins || (p[n] != 'b' && p[n] != 'B')) continue;
        if (p[n + 1] && !strchr("-_@. ", p[n + 1])) continue;
        if (mu_parse_f64((struct mu_str){p, n}, &billions))
            return billions * 1e9 * format->bits / 8;
    }
    return 0;
}

static void add_weights(const struct mu_plan *plan, const char *model, struct mu_text *out)
{
    const struct mu_plan_request *q = &plan->request;
    mu_text_str(out, "\"weights\":[");
    for (uint32_t i = 0; i < q->n_formats; i++) {
        double nominal = mu_plan_nominal_bytes(model, q->formats[i]);
        mu_text_printf(out, "%s{\"type\":\"%s\",\"bits\":%g", i ? "," : "", q->formats[i]->name,
                       q->formats[i]->bits);
        add_bytes(out, "bytes", plan->weights_bytes[i]);
        if (nominal > 0) add_bytes(out, "nominal_bytes", nominal);
        mu_text_char(out, '}');
    }
    mu_text_char(out, ']');
}

void mu_plan_write_map(const struct mu_plan *plan, struct mu_text *out)
{
    const struct mu_plan_candidate *c = &plan->candidates[0];
    uint32_t last = c->pp - 1;
    mu_text_str(out, "{\"device_map\":{\"model.embed_tokens\":0,\"model.rotary_emb\":0");
    for (uint32_t s = 0; s < c->pp; s++)
        for (uint32_t i = c->devices[s].layer_first; i < c->devices[s].layer_end; i++)
            mu_text_printf(out, ",\"model.layers.%u\":%u", i, s);
    mu_text_printf(out, ",\"model.norm\":%u,\"lm_head\":%u},\"devices\":[", last,
                   plan->request.config->tied_head ? 0 : last);
    for (uint32_t s = 0; s < c->pp; s++) {
        if (s) mu_text_char(out, ',');
        add_device(&c->devices[s], out);
    }
    mu_text_printf(out, "],\"predicted\":{\"from\":\"%s\"", plan->request.costs);
    add_key(out, "decode_tokens_per_s", c->predicted.decode_tokens_per_s);
    add_key(out, "ttft_ms", 1e3 * c->predicted.ttft_s);
    add_key(out, "tpot_ms", 1e3 * c->predicted.tpot_s);
    mu_text_str(out, "},\"warnings\":[]}\n");
}

void mu_plan_write_json(const struct mu_plan *plan, const char *model, struct mu_text *out)
{
    const struct mu_plan_request *q = &plan->request;
    mu_text_str(out, "{\"model\":");
    mu_json_add_string(out, mu_str(model));
    mu_text_printf(out, ",\"engine\":\"%s\",\"batch\":%u,\"input\":%u,\"output\":%u,",
                   q->engine->name, q->batch, q->input, q->output);
    add_weights(plan, model, out);
    mu_text_str(out, ",\"candidates\":[");
    for (uint32_t i = 0; i < plan->n_candidates; i++) {
        if (i) mu_text_char(out, ',');
        add_candidate(plan, &plan->candidates[i], out);
    }
    bool fits = plan->candidates[0].fits;
    mu_text_printf(out, "],\"chosen\":%s,\"why\":", fits ? "0" : "null");
    mu_json_add_string(out, mu_str(fits ? plan->why : "nothing fits"));
    if (!fits) {
        mu_text_str(out, ",\"nearest\":");
        mu_json_add_string(out, mu_str(plan->nearest));
    }
    mu_text_str(out, "}\n");
}

/* ---- Tables -------------------------------------------------------------------------------- */

#define GIB 1073741824.0

static const struct mu_plan_device *fullest(const struct mu_plan_candidate *c)
{
    const struct mu_plan_device *worst = &c->devices[0];
    for (uint32_t i = 1; i < c->n_devices; i++) {
        const struct mu_plan_memory *a = &c->devices[i].memory, *b = &worst->memory;
        if (mu_plan_memory_total(a) - a->budget_bytes > mu_plan_memory_total(b) - b->budget_bytes)
            worst = &c->devices[i];
    }
    return worst;
}

void mu_plan_write_table(const struct mu_plan *plan, uint32_t most, struct mu_text *out)
{
    uint32_t n = MU_MIN(plan->n_candidates, most);
    mu_text_str(out, " tp pp dp  weights  kv    fits  tok/s    TPOT ms  TTFT ms  prefill tok/s  "
                     "KV tokens  fullest device, GiB\n");
    for (uint32_t i = 0; i < n; i++) {
        const struct mu_plan_candidate *c = &plan->candidates[i];
        const struct mu_plan_prediction *p = &c->predicted;
        const struct mu_plan_memory *m = &fullest(c)->memory;
        mu_text_printf(out, "%3u%3u%3u  %-8s %-5s %-4s %7.1f %10.2f %8.0f %14.0f %10.0f  ", c->tp,
                       c->pp, c->dp, c->format->name, kv_name(c), c->fits ? "yes" : "no",
                       p->decode_tokens_per_s, 1e3 * p->tpot_s, 1e3 * p->ttft_s,
                       p->prefill_tokens_per_s, p->kv_room_tokens);
        mu_text_printf(out, "%.1f of %.1f\n", mu_plan_memory_total(m) / GIB, m->budget_bytes / GIB);
    }
    if (n < plan->n_candidates)
        mu_text_printf(out, "and %u more (--json has all)\n", plan->n_candidates - n);
}

void mu_plan_write_shortage(const struct mu_plan *plan, struct mu_text *out)
{
    const struct mu_plan_candidate *c = &plan->candidates[0];
    mu_text_printf(out, "nearest to fitting: tp %u x pp %u x dp %u, in GiB:\n", c->tp, c->pp,
                   c->dp);
    mu_text_str(out, "device                    weights      kv  activations  overhead     needs  "
                     "   has\n");
    for (uint32_t i = 0; i < c->n_devices; i++) {
        const struct mu_plan_device *d = &c->devices[i];
        const struct mu_plan_memory *m = &d->memory;
        mu_text_printf(out, "%-3u %-20s %8.2f %7.2f %12.2f %9.2f %9.2f %8.2f%s\n", d->slot,
                       d->device->name, m->weights_bytes / GIB, m->kv_bytes / GIB,
                       m->activation_bytes / GIB, m->overhead_bytes / GIB,
                       mu_plan_memory_total(m) / GIB, m->budget_bytes / GIB,
                       mu_plan_memory_total(m) > m->budget_bytes ? "  too little" : "");
    }
}
