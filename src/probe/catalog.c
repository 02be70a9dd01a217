/* Reading the catalogue's three tables; see catalog.h. */
#include "probe/catalog.h"

#include "base/alloc.h"
#include "base/number.h"
#include "base/share.h"

#include <ctype.h>

#define ARENA_BYTES_MAX (8u << 20)
#define COLUMNS_MAX     20
#define GIB             1073741824.0

MU_SHARE_EMBED(mu_probe_devices_tsv, "devices.tsv");
MU_SHARE_EMBED(mu_probe_links_tsv, "links.tsv");
MU_SHARE_EMBED(mu_probe_engines_tsv, "engines.tsv");
MU_SHARE_EMBED(mu_probe_published_tsv, "published.tsv");

/* ---- Lines and cells ----------------------------------------------------------------------- */

struct table {
    const char *name;
    struct mu_str rest;
    unsigned line;
    struct mu_str cells[COLUMNS_MAX];
    struct mu_err *err;
};

/* The next line that is no comment; false at the end. */
static bool next_line(struct table *t)
{
    while (t->rest.len) {
        struct mu_str line = mu_str_take(&t->rest, '\n');
        t->line++;
        if (line.len == 0 || line.p[0] == '#') continue;
        for (int i = 0; i < COLUMNS_MAX; i++)
            t->cells[i] = mu_str_take(&line, '\t');
        return true;
    }
    return false;
}

static size_t count_lines(struct mu_str text)
{
    size_t n = 0;
    for (size_t i = 0; i < text.len; i++)
        n += text.p[i] == '\n';
    return n + 1;
}

/* A number of at least 0; an empty cell is 0. */
static mu_status number(const struct table *t, unsigned column, double unit, double *out)
{
    double value = 0;
    struct mu_str cell = t->cells[column];
    if (cell.len && (!mu_parse_f64(cell, &value) || value < 0)) {
        mu_status status = mu_fail(t->err, MU_E_INPUT, "'%.*s' is not a number of at least 0",
                                   (int)MU_MIN(cell.len, 40), cell.p);
        mu_err_where(t->err, "%s, line %u, column %u", t->name, t->line, column + 1);
        return status;
    }
    *out = value * unit;
    return MU_OK;
}

static const char *copy(struct mu_probe_catalog *c, struct mu_str s)
{
    return mu_arena_strndup(c->arena, s.p, s.len);
}

#define NAME_MAX_LEN 64

static size_t put_word(const char *word, size_t n, char *out)
{
    static const char *const said_by_drivers[] = {
        "nvidia", "geforce",     "tesla",  "amd",      "instinct",  "intel",
        "hbm2",   "hbm2e",       "hbm3",   "hbm3e",    "blackwell", "edition",
        "gpu",    "accelerator", "series", "graphics", "generation"};
    for (size_t i = 0; i < MU_ARRAY_LEN(said_by_drivers); i++)
        if (strlen(said_by_drivers[i]) == n && memcmp(word, said_by_drivers[i], n) == 0) return 0;
    if (n > 2 && memcmp(word + n - 2, "gb", 2) == 0 && isdigit((unsigned char)word[n - 3])) n--;
    memcpy(out, word, n);
    return n;
}

/* Names are compared without case, separators and what drivers say besides: "RTX4090" and "NVIDIA
 * GeForce RTX 4090" are rtx_4090, "A100-SXM4-80GB" is a100_sxm4_80g. */
static void spell(struct mu_str name, char out[NAME_MAX_LEN])
{
    char lower[NAME_MAX_LEN] = "";
    size_t n = 0, length = MU_MIN(name.len, (size_t)NAME_MAX_LEN - 1);
    for (size_t i = 0; i < length; i++)
        lower[i] = (char)tolower((unsigned char)name.p[i]);
    for (const char *p = lower; *p;) {
        size_t word = strcspn(p, " -_./\t");
        n += put_word(p, word, out + n);
        p += word;
        p += strspn(p, " -_./\t");
    }
    out[n] = '\0';
}

static bool same_name(struct mu_str a, struct mu_str b)
{
    char x[NAME_MAX_LEN], y[NAME_MAX_LEN];
    spell(a, x);
    spell(b, y);
    return x[0] && strcmp(x, y) == 0;
}

/* ---- The tables ---------------------------------------------------------------------------- */

static mu_status read_links(struct mu_probe_catalog *c, struct table *t)
{
    while (next_line(t)) {
        struct mu_probe_link *l = &c->links[c->n_links];
        double span;
        l->name = copy(c, t->cells[0]);
        if (!l->name) return mu_fail_memory(t->err, t->cells[0].len);
        MU_TRY(number(t, 1, 1e9, &l->bytes_per_s));
        MU_TRY(number(t, 2, 1e-6, &l->latency_s));
        MU_TRY(number(t, 3, 1, &l->efficiency));
        MU_TRY(number(t, 4, 1, &l->crowding));
        MU_TRY(number(t, 5, 1, &span));
        l->span = (uint32_t)MU_MIN(span, 1e6);
        l->between = mu_str_is(t->cells[6], "yes");
        c->n_links++;
    }
    return MU_OK;
}

static mu_status link_of(struct mu_probe_catalog *c, struct table *t, unsigned column,
                         const struct mu_probe_link **out)
{
    if (mu_str_is(t->cells[column], "none")) return MU_OK;
    mu_status status = mu_probe_find_link(c, t->cells[column], out, t->err);
    mu_err_where(t->err, "%s, line %u", t->name, t->line);
    return status;
}

static mu_status read_devices(struct mu_probe_catalog *c, struct table *t)
{
    while (next_line(t)) {
        struct mu_probe_device *d = &c->devices[c->n_devices];
        double node;
        d->name = copy(c, t->cells[0]);
        const char *aliases = copy(c, t->cells[1]);
        if (!d->name || !aliases) return mu_fail_memory(t->err, t->cells[0].len);
        d->aliases = mu_str(aliases);
        MU_TRY(number(t, 2, GIB, &d->memory_bytes));
        MU_TRY(number(t, 3, GIB, &d->usable_bytes));
        MU_TRY(number(t, 4, 1e9, &d->bytes_per_s));
        for (unsigned i = 0; i < MU_PROBE_RATES; i++)
            MU_TRY(number(t, 5 + i, 1e12, &d->rates[i]));
        MU_TRY(number(t, 10, 1, &d->watts));
        MU_TRY(link_of(c, t, 11, &d->link));
        MU_TRY(link_of(c, t, 12, &d->bus));
        MU_TRY(number(t, 13, 1, &node));
        d->node = (uint32_t)MU_MAX(1, MU_MIN(node, 1024));
        if (d->bytes_per_s == 0 || d->rates[MU_PROBE_F32] == 0 || d->usable_bytes == 0)
            return mu_fail(t->err, MU_E_INPUT,
                           "devices.tsv, line %u: memory, bandwidth and fp32 rate are needed",
                           t->line);
        c->n_devices++;
    }
    return MU_OK;
}

/* Rows of engines.tsv are properties, so that each has room to say what it means. */
static const struct property {
    const char *name;
    size_t offset;
    double unit;
} properties[] = {
#define PROPERTY(name, unit)                                                                       \
    {                                                                                              \
#name, offsetof(struct mu_probe_engine, name), unit                                        \
    }
    PROPERTY(weights, 1),
    PROPERTY(kv, 1),
    PROPERTY(f16, 1),
    PROPERTY(f8, 1),
    PROPERTY(f4, 1),
    PROPERTY(attention, 1),
    PROPERTY(experts, 1),
    PROPERTY(experts_widened, 1),
    PROPERTY(experts_math, 1),
    PROPERTY(experts_math_widened, 1),
    PROPERTY(routing, 1),
    {"op_us", offsetof(struct mu_probe_engine, op_s), 1e-6},
    {"step_us", offsetof(struct mu_probe_engine, step_s), 1e-6},
    {"sequence_us", offsetof(struct mu_probe_engine, sequence_s), 1e-6},
    PROPERTY(latency, 1),
    PROPERTY(exchange, 1),
    PROPERTY(mixing, 1),
    {"first_ms", offsetof(struct mu_probe_engine, first_s), 1e-3},
    PROPERTY(burst, 1),
    PROPERTY(queue, 1),
    PROPERTY(memory_share, 1),
    {"overhead_gib", offsetof(struct mu_probe_engine, overhead_bytes), GIB},
    {"pair_gib", offsetof(struct mu_probe_engine, pair_bytes), GIB},
    {"group_gib", offsetof(struct mu_probe_engine, group_bytes), GIB},
    PROPERTY(chunk, 1),
    PROPERTY(kv8, 1),
    PROPERTY(even_heads, 1),
    PROPERTY(trees, 1),
#undef PROPERTY
};

static mu_status read_property(struct mu_probe_catalog *c, struct table *t)
{
    const struct property *p = NULL;
    for (size_t i = 0; i < MU_ARRAY_LEN(properties) && !p; i++)
        if (mu_str_is(t->cells[0], properties[i].name)) p = &properties[i];
    if (!p)
        return mu_fail(t->err, MU_E_INPUT, "engines.tsv, line %u: no property '%.*s'", t->line,
                       (int)MU_MIN(t->cells[0].len, 40), t->cells[0].p);
    for (unsigned e = 0; e < c->n_engines; e++) {
        double value;
        MU_TRY(number(t, e + 1, p->unit, &value));
        memcpy((char *)&c->engines[e] + p->offset, &value, sizeof value);
    }
    return MU_OK;
}

/* The first line names the engines; the column behind them is prose. */
static mu_status read_engines(struct mu_probe_catalog *c, struct table *t)
{
    if (!next_line(t)) return mu_fail(t->err, MU_E_INPUT, "engines.tsv is empty");
    while (c->n_engines + 1 < COLUMNS_MAX && t->cells[c->n_engines + 1].len &&
           !mu_str_is(t->cells[c->n_engines + 1], "meaning")) {
        struct mu_probe_engine *e = &c->engines[c->n_engines];
        e->name = copy(c, t->cells[++c->n_engines]);
        if (!e->name) return mu_fail_memory(t->err, 32);
    }
    unsigned n = 0;
    for (; next_line(t); n++)
        MU_TRY(read_property(c, t));
    if (n < MU_ARRAY_LEN(properties))
        return mu_fail(t->err, MU_E_INPUT, "engines.tsv has %u properties of %zu", n,
                       MU_ARRAY_LEN(properties));
    return MU_OK;
}

/* A row whose device is not in the table of devices is left out: that table may be the user's. */
static mu_status read_published(struct mu_probe_catalog *c, struct table *t)
{
    while (next_line(t)) {
        struct mu_probe_published *p = &c->published[c->n_published];
        double n;
        if (mu_probe_find_device(c, t->cells[3], &p->device, NULL) != MU_OK) continue;
        p->model = copy(c, t->cells[0]);
        p->format = copy(c, t->cells[1]);
        p->source = copy(c, t->cells[6]);
        if (!p->model || !p->format || !p->source) return mu_fail_memory(t->err, 64);
        MU_TRY(number(t, 2, 1, &n));
        MU_TRY(number(t, 4, 1, &p->low));
        MU_TRY(number(t, 5, 1, &p->high));
        p->n = (unsigned)MU_MIN(n, 1e6);
        if (!p->model[0] || p->n == 0 || p->high < p->low)
            return mu_fail(t->err, MU_E_INPUT,
                           "published.tsv, line %u: a model, devices, and low to high are needed",
                           t->line);
        c->n_published++;
    }
    return MU_OK;
}

static mu_status read_table(struct mu_probe_catalog *c, const char *name, struct mu_str embedded,
                            size_t item_size, void **items,
                            mu_status (*read)(struct mu_probe_catalog *, struct table *),
                            struct mu_err *err)
{
    struct mu_text text;
    mu_status status = mu_share_read(name, embedded, &text, err);
    struct table t = {.name = name, .rest = {mu_text_get(&text), text.len}, .err = err};
    size_t n = MU_MAX(count_lines(t.rest), (size_t)COLUMNS_MAX);
    if (status == MU_OK && !(*items = mu_arena_alloc(c->arena, n, item_size)))
        status = mu_fail_memory(err, n * item_size);
    if (status == MU_OK) status = read(c, &t);
    mu_text_fini(&text);
    return status;
}

static mu_status load(struct mu_probe_catalog *c, struct mu_err *err)
{
    c->arena = mu_arena_create(ARENA_BYTES_MAX);
    if (!c->arena) return mu_fail_memory(err, ARENA_BYTES_MAX);
    MU_TRY(read_table(c, "links.tsv", MU_SHARE_BYTES(mu_probe_links_tsv), sizeof *c->links,
                      (void **)&c->links, read_links, err));
    MU_TRY(read_table(c, "devices.tsv", MU_SHARE_BYTES(mu_probe_devices_tsv), sizeof *c->devices,
                      (void **)&c->devices, read_devices, err));
    MU_TRY(read_table(c, "engines.tsv", MU_SHARE_BYTES(mu_probe_engines_tsv), sizeof *c->engines,
                      (void **)&c->engines, read_engines, err));
    return read_table(c, "published.tsv", MU_SHARE_BYTES(mu_probe_published_tsv),
                      sizeof *c->published, (void **)&c->published, read_published, err);
}

mu_status mu_probe_catalog_load(struct mu_probe_catalog **out, struct mu_err *err)
{
    struct mu_probe_catalog *c = mu_calloc(1, sizeof *c);
    if (!c) return mu_fail_memory(err, sizeof *c);
    mu_status status = load(c, err);
    if (status == MU_OK)
        *out = c;
    else
        mu_probe_catalog_destroy(c);
    return status;
}

void mu_probe_catalog_destroy(struct mu_probe_catalog *catalog)
{
    if (!catalog) return;
    mu_arena_destroy(catalog->arena);
    mu_free(catalog);
}

/* ---- Looking up ---------------------------------------------------------------------------- */

/* The nearest of the names, for "did you mean"; none when all are far. */
struct nearest {
    struct mu_str said;
    char wanted[NAME_MAX_LEN];
    const char *name;
    unsigned distance;
};

static void nearest_try(struct nearest *n, const char *name)
{
    char spelt[NAME_MAX_LEN];
    spell(mu_str(name), spelt);
    unsigned distance = mu_text_distance(n->wanted, spelt);
    if (distance >= n->distance) return;
    n->distance = distance;
    n->name = name;
}

static struct nearest nearest_to(struct mu_str name)
{
    struct nearest n = {.said = name, .name = NULL};
    spell(name, n.wanted);
    n.distance = (unsigned)strlen(n.wanted) / 2 + 1; /* half of it must be right */
    return n;
}

static mu_status unknown(const struct nearest *n, const char *what, const char *table,
                         struct mu_err *err)
{
    mu_status status = mu_fail(err, MU_E_USAGE, "no %s is called '%.*s'", what,
                               (int)MU_MIN(n->said.len, NAME_MAX_LEN), n->said.p);
    if (n->name)
        mu_err_cure(err, "the nearest is %s; share/%s lists them", n->name, table);
    else
        mu_err_cure(err, "share/%s lists them", table);
    return status;
}

static bool is_called(const struct mu_probe_device *d, struct mu_str name)
{
    if (same_name(mu_str(d->name), name)) return true;
    for (struct mu_str rest = d->aliases; rest.len;)
        if (same_name(mu_str_take(&rest, ','), name)) return true;
    return false;
}

mu_status mu_probe_find_device(const struct mu_probe_catalog *catalog, struct mu_str name,
                               const struct mu_probe_device **out, struct mu_err *err)
{
    struct nearest n = nearest_to(name);
    for (size_t i = 0; i < catalog->n_devices; i++) {
        if (is_called(&catalog->devices[i], name)) {
            *out = &catalog->devices[i];
            return MU_OK;
        }
        nearest_try(&n, catalog->devices[i].name);
    }
    return unknown(&n, "device", "devices.tsv", err);
}

mu_status mu_probe_find_link(const struct mu_probe_catalog *catalog, struct mu_str name,
                             const struct mu_probe_link **out, struct mu_err *err)
{
    struct nearest n = nearest_to(name);
    for (size_t i = 0; i < catalog->n_links; i++) {
        if (same_name(mu_str(catalog->links[i].name), name)) {
            *out = &catalog->links[i];
            return MU_OK;
        }
        nearest_try(&n, catalog->links[i].name);
    }
    return unknown(&n, "link", "links.tsv", err);
}

mu_status mu_probe_find_engine(const struct mu_probe_catalog *catalog, struct mu_str name,
                               const struct mu_probe_engine **out, struct mu_err *err)
{
    struct nearest n = nearest_to(name);
    for (size_t i = 0; i < catalog->n_engines; i++) {
        if (same_name(mu_str(catalog->engines[i].name), name)) {
            *out = &catalog->engines[i];
            return MU_OK;
        }
        nearest_try(&n, catalog->engines[i].name);
    }
    return unknown(&n, "engine", "engines.tsv", err);
}

const struct mu_probe_published *mu_probe_find_published(const struct mu_probe_catalog *catalog,
                                                         const char *model, struct mu_str device,
                                                         unsigned n)
{
    const struct mu_probe_device *d = NULL;
    if (mu_probe_find_device(catalog, device, &d, NULL) != MU_OK) return NULL;
    for (size_t i = 0; i < catalog->n_published; i++) {
        const struct mu_probe_published *p = &catalog->published[i];
        if (p->device == d && p->n == n && strcasestr(model, p->model) &&
            strcasestr(model, p->format))
            return p;
    }
    return NULL;
}
