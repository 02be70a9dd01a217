/* Reading racks; see rack.h. */
#include "plan/rack.h"

#include "base/number.h"

static void skip_spaces(struct mu_str *text)
{
    while (text->len && text->p[0] == ' ')
        *text = (struct mu_str){text->p + 1, text->len - 1};
}

/* The count in front of an 'x', when there is one: "8xh200", "8 x h200"; else *out is 0. */
static mu_status take_count(struct mu_str *text, uint32_t *out, struct mu_err *err)
{
    size_t digits = 0;
    uint64_t n;
    *out = 0;
    skip_spaces(text);
    while (digits < text->len && text->p[digits] >= '0' && text->p[digits] <= '9')
        digits++;
    struct mu_str count = {text->p, digits}, rest = {text->p + digits, text->len - digits};
    skip_spaces(&rest);
    if (digits == 0 || rest.len < 2 || !strchr("xX*", rest.p[0])) return MU_OK;
    if (!mu_parse_u64(count, 1, MU_PLAN_DEVICES_MAX, &n))
        return mu_fail(err, MU_E_USAGE, "a count of devices is 1 to %u, not %.*s",
                       MU_PLAN_DEVICES_MAX, (int)MU_MIN(digits, 20), count.p);
    *out = (uint32_t)n;
    *text = (struct mu_str){rest.p + 1, rest.len - 1};
    return MU_OK;
}

mu_status mu_plan_rack_budget(struct mu_str text, const struct mu_probe_device *device, double *out,
                              struct mu_err *err)
{
    char has[MU_BYTES_TEXT];
    uint64_t budget;
    if (!mu_parse_bytes(text, &budget))
        return mu_fail(err, MU_E_USAGE, "'%.*s' is not a size of memory", (int)MU_MIN(text.len, 40),
                       text.p);
    if (budget == 0 || (double)budget > device->memory_bytes)
        return mu_fail(err, MU_E_USAGE, "a %s has %s, of which %.*s cannot be used", device->name,
                       mu_format_bytes((uint64_t)device->memory_bytes, has),
                       (int)MU_MIN(text.len, 40), text.p);
    *out = (double)budget;
    return MU_OK;
}

static mu_status add_slots(struct mu_plan_rack *rack, const struct mu_plan_slot *slot,
                           uint32_t hosts, uint32_t each, struct mu_err *err)
{
    if ((uint64_t)hosts * each > MU_PLAN_DEVICES_MAX - rack->n)
        return mu_fail(err, MU_E_USAGE, "more than %u devices", MU_PLAN_DEVICES_MAX);
    uint32_t host = slot->host;
    for (uint32_t h = 0; h < hosts; h++)
        for (uint32_t i = 0; i < each; i++) {
            if (i > 0 && i % slot->device->node == 0) host++;
            if (h > 0 && i == 0) host++;
            rack->slots[rack->n] = *slot;
            rack->slots[rack->n++].host = host;
        }
    return MU_OK;
}

static mu_status add_part(struct mu_plan_rack *rack, struct mu_str part,
                          const struct mu_probe_catalog *catalog, struct mu_err *err)
{
    uint32_t hosts, each;
    MU_TRY(take_count(&part, &hosts, err));
    MU_TRY(take_count(&part, &each, err));
    bool by_host = each > 0;
    if (!by_host) {
        each = MU_MAX(hosts, 1u);
        hosts = 1;
    }
    struct mu_str name = mu_str_take(&part, ':');
    /* Kinds of one machine stand in one host, unless each says its hosts. */
    struct mu_plan_slot slot = {.host = 0};
    if (rack->n > 0) slot.host = rack->slots[rack->n - 1].host + by_host;
    MU_TRY(mu_probe_find_device(catalog, name, &slot.device, err));
    if (part.len) MU_TRY(mu_plan_rack_budget(part, slot.device, &slot.budget_bytes, err));
    return add_slots(rack, &slot, hosts, each, err);
}

mu_status mu_plan_rack_parse(const char *text, const struct mu_probe_catalog *catalog,
                             struct mu_plan_rack *out, struct mu_err *err)
{
    struct mu_str rest = mu_str(text);
    out->n = out->n_own = 0;
    while (rest.len) {
        mu_status status = add_part(out, mu_str_take(&rest, '+'), catalog, err);
        mu_err_where(err, "--on %.100s", text);
        MU_TRY(status);
    }
    return out->n ? MU_OK : mu_fail(err, MU_E_USAGE, "--on names no device");
}

static const struct mu_probe_link *slower(const struct mu_probe_link *a,
                                          const struct mu_probe_link *b)
{
    return !a || b->bytes_per_s < a->bytes_per_s ? b : a;
}

const struct mu_probe_link *mu_plan_rack_link(const struct mu_plan_rack *rack, uint32_t first,
                                              uint32_t n)
{
    const struct mu_plan_slot *slots = rack->slots + first;
    const struct mu_probe_link *link = NULL;
    bool mixed = false;
    for (uint32_t i = 0; i < n; i++) {
        if (slots[i].host != slots[0].host) return rack->between;
        mixed |= slots[i].device->link != slots[0].device->link;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct mu_probe_device *d = slots[i].device;
        bool joined = !mixed && d->link && (d->link->span == 0 || n <= d->link->span);
        link = slower(link, joined ? d->link : d->bus ? d->bus : rack->between);
    }
    return link;
}
