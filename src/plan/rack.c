/* Reading racks; see rack.h. */
#include "plan/rack.h"

#include "base/number.h"

/* The count in front of an 'x', when there is one: "8xh200". */
static bool take_count(struct mu_str *text, uint32_t *out)
{
    size_t digits = 0;
    uint64_t n;
    while (digits < text->len && text->p[digits] >= '0' && text->p[digits] <= '9')
        digits++;
    if (digits == 0 || digits + 1 >= text->len) return false;
    if (text->p[digits] != 'x' && text->p[digits] != 'X' && text->p[digits] != '*') return false;
    if (!mu_parse_u64((struct mu_str){text->p, digits}, 1, MU_PLAN_DEVICES_MAX, &n)) return false;
    *out = (uint32_t)n;
    *text = (struct mu_str){text->p + digits + 1, text->len - digits - 1};
    return true;
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
    uint32_t counts[2] = {1, 1}, n = 0;
    uint64_t budget = 0;
    while (n < 2 && take_count(&part, &counts[n]))
        n++;
    struct mu_str name = mu_str_take(&part, ':');
    if (part.len && !mu_parse_bytes(part, &budget))
        return mu_fail(err, MU_E_USAGE, "'%.*s' is not a size of memory", (int)part.len, part.p);
    /* Kinds of one machine stand in one host, unless each says its hosts. */
    struct mu_plan_slot slot = {.budget_bytes = (double)budget};
    if (rack->n > 0) slot.host = rack->slots[rack->n - 1].host + (n == 2);
    MU_TRY(mu_probe_find_device(catalog, name, &slot.device, err));
    return add_slots(rack, &slot, n == 2 ? counts[0] : 1, n == 2 ? counts[1] : counts[0], err);
}

mu_status mu_plan_rack_parse(const char *text, const struct mu_probe_catalog *catalog,
                             struct mu_plan_rack *out, struct mu_err *err)
{
    struct mu_str rest = mu_str(text);
    out->n = 0;
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
