/* Racks as a person writes them in a file: hosts, their devices, and what joins them. The schema
 * below is all that is understood; see rack.h and docs/plan.md. Only rack.h's users call it. */
#include "plan/rack.h"

#include "base/alloc.h"
#include "base/number.h"

#include <cyaml/cyaml.h>
#include <stdarg.h>
#include <stdio.h>

#define ENTRIES_MAX 64

struct yaml_devices {
    char *device, *budget;
    uint32_t *count;
};

struct yaml_host {
    char *name, *link, *bus;
    uint32_t *count;
    double *memory_gb_per_s;
    struct yaml_devices *devices;
    unsigned devices_count;
};

struct yaml_rack {
    char *network;
    struct yaml_host *hosts;
    unsigned hosts_count;
};

/* ---- The schema ---------------------------------------------------------------------------- */

#define WORD(type, field, flags)                                                                   \
    CYAML_FIELD_STRING_PTR(#field, CYAML_FLAG_POINTER | (flags), struct type, field, 1, 200)
#define COUNT(type) CYAML_FIELD_UINT_PTR("count", OPTIONAL, struct type, count)
#define OPTIONAL    (CYAML_FLAG_POINTER | CYAML_FLAG_OPTIONAL)

static const cyaml_schema_field_t devices_fields[] = {
    WORD(yaml_devices, device, 0), WORD(yaml_devices, budget, CYAML_FLAG_OPTIONAL),
    COUNT(yaml_devices), CYAML_FIELD_END};

static const cyaml_schema_value_t devices_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_devices, devices_fields)};

static const cyaml_schema_field_t host_fields[] = {
    WORD(yaml_host, name, CYAML_FLAG_OPTIONAL),
    WORD(yaml_host, link, CYAML_FLAG_OPTIONAL),
    WORD(yaml_host, bus, CYAML_FLAG_OPTIONAL),
    COUNT(yaml_host),
    CYAML_FIELD_FLOAT_PTR("memory_gb_per_s", OPTIONAL, struct yaml_host, memory_gb_per_s),
    CYAML_FIELD_SEQUENCE("devices", CYAML_FLAG_POINTER, struct yaml_host, devices, &devices_schema,
                         1, ENTRIES_MAX),
    CYAML_FIELD_END};

static const cyaml_schema_value_t host_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_DEFAULT, struct yaml_host, host_fields)};

static const cyaml_schema_field_t rack_fields[] = {
    WORD(yaml_rack, network, CYAML_FLAG_OPTIONAL),
    CYAML_FIELD_SEQUENCE("hosts", CYAML_FLAG_POINTER, struct yaml_rack, hosts, &host_schema, 1,
                         ENTRIES_MAX),
    CYAML_FIELD_END};

static const cyaml_schema_value_t rack_schema = {
    CYAML_VALUE_MAPPING(CYAML_FLAG_POINTER, struct yaml_rack, rack_fields)};

/* ---- Reading ------------------------------------------------------------------------------- */

/* What the library says of a fault: first the fault, then where it stands, from the inside out. */
struct said {
    char what[240];
    unsigned line;
};

static void __attribute__((format(printf, 3, 0)))
hear(cyaml_log_t level, void *ctx, const char *format, va_list args)
{
    struct said *said = ctx;
    char text[240];
    (void)level;
    int n = vsnprintf(text, sizeof text, format, args);
    if (n < 0) return;
    text[strcspn(text, "\n")] = '\0';
    const char *line = strstr(text, "line: ");
    uint64_t number;
    if (line && said->line == 0) {
        struct mu_str digits = {line + 6, strspn(line + 6, "0123456789")};
        if (mu_parse_u64(digits, 1, UINT32_MAX, &number)) said->line = (unsigned)number;
    }
    const char *what = strncmp(text, "Load: ", 6) == 0 ? text + 6 : text;
    if (!said->what[0]) (void)snprintf(said->what, sizeof said->what, "%s", what);
}

static void *grow(void *ctx, void *p, size_t size)
{
    (void)ctx;
    if (size > 0) return mu_realloc(p, size);
    mu_free(p);
    return NULL;
}

/* A rack while it is filled, and what was looked at last: the n-th (from 0) `key` of the file. */
struct filler {
    struct mu_plan_rack *rack;
    const struct mu_probe_catalog *catalog;
    const char *key, *value;
    uint32_t nth;
};

static void look_at(struct filler *f, const char *key, uint32_t nth, const char *value)
{
    f->key = key;
    f->nth = nth;
    f->value = value;
}

/* Whether a line has `key:` as a key, not as a part of a longer word. */
static bool has_key(struct mu_str line, const char *key, const char **behind)
{
    size_t n = strlen(key);
    for (size_t i = 0; i + n < line.len && line.p[i] != '#'; i++) {
        if (i > 0 && !strchr(" {,-\"'\t", line.p[i - 1])) continue;
        if (memcmp(line.p + i, key, n) != 0 || !strchr(":\"' ", line.p[i + n])) continue;
        *behind = line.p + i + n;
        return true;
    }
    return false;
}

/* The line that was looked at last; 0 when its value does not stand there: then the keys are
 * written in a way that this cannot count. */
static unsigned line_of(struct mu_str text, const struct filler *f)
{
    unsigned number = 0;
    uint32_t seen = 0;
    while (f->key && text.len) {
        struct mu_str line = mu_str_take(&text, '\n');
        const char *at = NULL;
        number++;
        for (struct mu_str rest = line; has_key(rest, f->key, &at);) {
            rest = (struct mu_str){at, (size_t)(line.p + line.len - at)};
            if (seen++ < f->nth) continue;
            size_t n = f->value ? strlen(f->value) : 0;
            for (size_t i = 0; i + n <= rest.len; i++)
                if (memcmp(rest.p + i, f->value ? f->value : "", n) == 0) return number;
            return 0;
        }
    }
    return 0;
}

/* Where the fault stands, behind what it is. */
static void tell_line(const char *name, unsigned line, struct mu_err *err)
{
    if (line > 0)
        mu_err_where(err, "%.100s, line %u", name, line);
    else
        mu_err_where(err, "%.100s", name);
}

static mu_status refuse(const char *name, unsigned line, struct mu_err *err)
{
    tell_line(name, line, err);
    mu_err_cure(err, "docs/plan.md says what such a file may hold");
    return MU_E_INPUT;
}

/* A kind of device with links or memory that only this rack has. */
static struct mu_probe_device *add_own(struct mu_plan_rack *rack,
                                       const struct mu_probe_device *like)
{
    if (rack->n_own == MU_PLAN_OWN_MAX) return NULL;
    rack->own[rack->n_own] = *like;
    return &rack->own[rack->n_own++];
}

/* What a host says of its devices goes before what the catalogue does. */
static mu_status set_host(struct filler *f, const struct yaml_rack *yaml, unsigned host,
                          double n_devices, struct mu_probe_device *d, struct mu_err *err)
{
    const struct yaml_host *h = &yaml->hosts[host];
    uint32_t links = 0, buses = 0, memories = 0;
    for (unsigned i = 0; i < host; i++) {
        links += yaml->hosts[i].link != NULL;
        buses += yaml->hosts[i].bus != NULL;
        memories += yaml->hosts[i].memory_gb_per_s != NULL;
    }
    look_at(f, "link", links, h->link);
    if (h->link && strcmp(h->link, "none") == 0)
        d->link = NULL;
    else if (h->link)
        MU_TRY(mu_probe_find_link(f->catalog, mu_str(h->link), &d->link, err));
    look_at(f, "bus", buses, h->bus);
    if (h->bus) MU_TRY(mu_probe_find_link(f->catalog, mu_str(h->bus), &d->bus, err));
    if (!h->memory_gb_per_s) return MU_OK;
    look_at(f, "memory_gb_per_s", memories, NULL);
    double all = *h->memory_gb_per_s * 1e9;
    if (!(all > 0 && all < 1e16))
        return mu_fail(err, MU_E_INPUT, "memory_gb_per_s is more than nothing, not %g",
                       *h->memory_gb_per_s);
    d->bytes_per_s = MU_MIN(d->bytes_per_s, all / n_devices);
    return MU_OK;
}

static uint32_t count_of(const uint32_t *count)
{
    return count ? *count : 1;
}

static uint64_t devices_of(const struct yaml_host *h)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < h->devices_count; i++)
        n += count_of(h->devices[i].count);
    return n;
}

static mu_status add_devices(struct filler *f, const struct yaml_rack *yaml, unsigned host,
                             const struct yaml_devices *d, struct mu_plan_slot *slot,
                             struct mu_err *err)
{
    const struct yaml_host *h = &yaml->hosts[host];
    if (count_of(d->count) == 0) return mu_fail(err, MU_E_INPUT, "a count is 1 at least");
    MU_TRY(mu_probe_find_device(f->catalog, mu_str(d->device), &slot->device, err));
    slot->budget_bytes = 0;
    if (d->budget)
        MU_TRY(mu_plan_rack_budget(mu_str(d->budget), slot->device, &slot->budget_bytes, err));
    if (!h->link && !h->bus && !h->memory_gb_per_s) return MU_OK;
    struct mu_probe_device *own = add_own(f->rack, slot->device);
    if (!own)
        return mu_fail(err, MU_E_INPUT,
                       "more than %d kinds of devices with links or memory of "
                       "their own",
                       MU_PLAN_OWN_MAX);
    slot->device = own;
    return set_host(f, yaml, host, (double)devices_of(h), own, err);
}

static mu_status add_host(struct filler *f, const struct yaml_rack *yaml, unsigned i,
                          uint32_t *number, struct mu_err *err)
{
    const struct yaml_host *h = &yaml->hosts[i];
    struct mu_plan_rack *rack = f->rack;
    struct mu_plan_slot slots[ENTRIES_MAX];
    uint32_t entries = 0;
    for (unsigned k = 0; k < i; k++)
        entries += yaml->hosts[k].devices_count;
    for (unsigned k = 0; k < h->devices_count; k++) {
        look_at(f, "device", entries + k, h->devices[k].device);
        MU_TRY(add_devices(f, yaml, i, &h->devices[k], &slots[k], err));
    }
    look_at(f, "device", entries, h->devices_count ? h->devices[0].device : NULL);
    uint64_t all = devices_of(h) * count_of(h->count);
    if (all == 0) return mu_fail(err, MU_E_INPUT, "a count is 1 at least");
    if (all > MU_PLAN_DEVICES_MAX - rack->n)
        return mu_fail(err, MU_E_INPUT, "more than %u devices", MU_PLAN_DEVICES_MAX);
    for (uint32_t n = 0; n < count_of(h->count); n++, (*number)++)
        for (unsigned k = 0; k < h->devices_count; k++)
            for (uint32_t c = 0; c < count_of(h->devices[k].count); c++) {
                slots[k].host = *number;
                rack->slots[rack->n++] = slots[k];
            }
    return MU_OK;
}

static mu_status add_hosts(struct filler *f, const struct yaml_rack *yaml, struct mu_err *err)
{
    uint32_t number = 0;
    look_at(f, "network", 0, yaml->network);
    if (yaml->network)
        MU_TRY(mu_probe_find_link(f->catalog, mu_str(yaml->network), &f->rack->between, err));
    for (unsigned i = 0; i < yaml->hosts_count; i++)
        MU_TRY(add_host(f, yaml, i, &number, err));
    return MU_OK;
}

mu_status mu_plan_rack_yaml(struct mu_str text, const char *name,
                            const struct mu_probe_catalog *catalog, struct mu_plan_rack *out,
                            struct mu_err *err)
{
    struct said said = {.line = 0};
    const cyaml_config_t config = {.log_fn = hear,
                                   .log_ctx = &said,
                                   .mem_fn = grow,
                                   .log_level = CYAML_LOG_ERROR,
                                   .flags = CYAML_CFG_NO_ALIAS};
    cyaml_data_t *data = NULL;
    out->n = out->n_own = 0;
    cyaml_err_t code =
        cyaml_load_data((const uint8_t *)text.p, text.len, &config, &rack_schema, &data, NULL);
    mu_status status = MU_OK;
    if (code == CYAML_ERR_OOM) {
        status = mu_fail_memory(err, text.len);
    } else if (code != CYAML_OK) {
        (void)mu_fail(err, MU_E_INPUT, "%s", said.what[0] ? said.what : cyaml_strerror(code));
        status = refuse(name, said.line, err);
    } else if (!data) {
        (void)mu_fail(err, MU_E_INPUT, "there are no hosts in it");
        status = refuse(name, 0, err);
    } else {
        struct filler f = {.rack = out, .catalog = catalog};
        status = add_hosts(&f, (const struct yaml_rack *)data, err);
        if (status != MU_OK) tell_line(name, line_of(text, &f), err);
    }
    (void)cyaml_free(&config, &rack_schema, data, 0);
    return status;
}
