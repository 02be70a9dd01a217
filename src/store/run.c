/* Runs in memory; see run.h. */
#include "store/run.h"

#include "base/utf8.h"
#include "store/store_int.h"

#include <math.h>
#include <stddef.h>
#include <stdio.h>

#define RUN_BYTES_MAX  ((size_t)64 << 20) /* of texts */
#define TEXT_BYTES_MAX ((size_t)64 << 10)
#define ROWS_MAX       ((size_t)1 << 20) /* of one list */
#define NAME_BYTES     160
#define DEPTH_MAX      8 /* of documents: ours have four */

static const char *const kind_names[MU_STORE_KINDS] = {"predicted", "measured", "reported"};

/* clang-format off */
#define TEXT_(type, name) {#name, STORE_TEXT, offsetof(struct type, name)}
#define REAL_(type, name) {#name, STORE_REAL, offsetof(struct type, name)}
#define RUN_TEXT_(name) TEXT_(mu_store_run, name),
const struct store_table store_runs = {"runs", sizeof(struct mu_store_run), (const struct store_column[]){
    {"number", STORE_INTEGER, offsetof(struct mu_store_run, number)},
    MU_STORE_RUN_TEXTS(RUN_TEXT_)
    REAL_(mu_store_run, seconds),
    {"exit_status", STORE_INTEGER, offsetof(struct mu_store_run, exit_status)},
    {0}}};

const struct store_table store_lists[MU_STORE_LISTS] = {
    [MU_STORE_SETTINGS] = {"settings", sizeof(struct mu_store_setting), (const struct store_column[]){
        TEXT_(mu_store_setting, name), TEXT_(mu_store_setting, value), {0}}},
    [MU_STORE_FIGURES] = {"figures", sizeof(struct mu_store_figure), (const struct store_column[]){
        {"kind", STORE_KIND, offsetof(struct mu_store_figure, kind)},
        TEXT_(mu_store_figure, name), TEXT_(mu_store_figure, unit), REAL_(mu_store_figure, value), {0}}},
    [MU_STORE_SAMPLES] = {"samples", sizeof(struct mu_store_sample), (const struct store_column[]){
        {"kind", STORE_KIND, offsetof(struct mu_store_sample, kind)},
        TEXT_(mu_store_sample, name), REAL_(mu_store_sample, at_s), REAL_(mu_store_sample, value), {0}}},
    [MU_STORE_FINDINGS] = {"findings", sizeof(struct mu_store_finding), (const struct store_column[]){
        TEXT_(mu_store_finding, level), TEXT_(mu_store_finding, code), TEXT_(mu_store_finding, section),
        TEXT_(mu_store_finding, device), TEXT_(mu_store_finding, place), REAL_(mu_store_finding, at_s),
        TEXT_(mu_store_finding, text), TEXT_(mu_store_finding, cure), TEXT_(mu_store_finding, page), {0}}},
};

/* The ends of names, the longer before what they end in. */
static const struct {
    const char *end, *unit;
} units[] = {
    {"tokens_per_s", "tokens/s"}, {"bytes_per_s", "bytes/s"}, {"_bytes", "bytes"}, {"_tokens", "tokens"},
    {"_gib", "GiB"}, {"_mib", "MiB"}, {"_ms", "ms"}, {"_seconds", "s"}, {"_s", "s"}, {"_w", "W"}, {"_j", "J"},
    {"_c", "C"}, {"_mhz", "MHz"}, {"_percent", "%"},
};
/* clang-format on */

const char *mu_store_kind_name(enum mu_store_kind kind)
{
    return kind_names[kind];
}

bool store_kind_parse(struct mu_str name, enum mu_store_kind *out)
{
    for (int i = 0; i < MU_STORE_KINDS; i++)
        if (mu_str_is(name, kind_names[i])) {
            *out = (enum mu_store_kind)i;
            return true;
        }
    return false;
}

const char *store_unit_of(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < MU_ARRAY_LEN(units); i++) {
        size_t n = strlen(units[i].end);
        if (len >= n && strcmp(name + len - n, units[i].end) == 0) return units[i].unit;
    }
    return "";
}

mu_status mu_store_run_init(struct mu_store_run *run, struct mu_err *err)
{
#define EMPTY_(name) .name = "",
    *run = (struct mu_store_run){MU_STORE_RUN_TEXTS(EMPTY_).seconds = (double)NAN};
#undef EMPTY_
    run->arena = mu_arena_create(RUN_BYTES_MAX);
    return run->arena ? MU_OK : mu_fail_memory(err, 1024);
}

void mu_store_run_fini(struct mu_store_run *run)
{
    mu_arena_destroy(run->arena);
    for (int i = 0; i < MU_STORE_LISTS; i++)
        mu_free(run->lists[i].rows);
    *run = (struct mu_store_run){0};
}

/* Control characters of both ranges move a terminal's cursor, and a zero byte would end a text. */
static bool is_control(uint32_t cp)
{
    return (cp < 0x20 && cp != '\n') || (cp >= 0x7f && cp < 0xa0);
}

const char *mu_store_run_text(struct mu_store_run *run, struct mu_str s)
{
    struct mu_text clean;
    if (!run->arena) {
        run->status = MU_E_MEMORY;
        return "";
    }
    mu_text_init(&clean, 3 * TEXT_BYTES_MAX);
    s.len = MU_MIN(s.len, TEXT_BYTES_MAX);
    for (unsigned n; s.len > 0; s.p += n, s.len -= n) {
        uint32_t cp = mu_utf8_decode(s, &n);
        if (cp == MU_UTF8_BAD)
            mu_text_str(&clean, "\xef\xbf\xbd");
        else if (is_control(cp))
            mu_text_char(&clean, ' ');
        else
            mu_text_add(&clean, s.p, n);
    }
    const char *copy = NULL;
    if (mu_text_status(&clean, NULL) == MU_OK)
        copy = mu_arena_strndup(run->arena, mu_text_get(&clean), clean.len);
    if (!copy) run->status = MU_E_MEMORY;
    mu_text_fini(&clean);
    return copy ? copy : "";
}

void *store_row_add(struct mu_store_run *run, enum mu_store_list list)
{
    __typeof__(run->lists[0]) *l = &run->lists[list];
    size_t row = store_lists[list].row_size;
    if (l->n == l->size) {
        size_t size = l->size ? 2 * l->size : 16;
        void *rows = size <= ROWS_MAX ? mu_realloc(l->rows, size * row) : NULL;
        if (!rows) {
            run->status = MU_E_MEMORY;
            return NULL;
        }
        l->rows = rows;
        l->size = size;
    }
    void *at = (char *)l->rows + l->n++ * row;
    memset(at, 0, row);
    return at;
}

void mu_store_run_setting(struct mu_store_run *run, const char *name, const char *value)
{
    struct mu_store_setting *row = store_row_add(run, MU_STORE_SETTINGS);
    if (row)
        *row = (struct mu_store_setting){mu_store_run_text(run, mu_str(name)),
                                         mu_store_run_text(run, mu_str(value))};
}

void mu_store_run_figure(struct mu_store_run *run, enum mu_store_kind kind, const char *name,
                         double value)
{
    struct mu_store_figure *row = isfinite(value) ? store_row_add(run, MU_STORE_FIGURES) : NULL;
    if (row)
        *row = (struct mu_store_figure){kind, mu_store_run_text(run, mu_str(name)),
                                        store_unit_of(name), value};
}

void mu_store_run_sample(struct mu_store_run *run, enum mu_store_kind kind, const char *name,
                         double at_s, double value)
{
    struct mu_store_sample *row = isfinite(value) ? store_row_add(run, MU_STORE_SAMPLES) : NULL;
    if (row)
        *row = (struct mu_store_sample){kind, mu_store_run_text(run, mu_str(name)), at_s, value};
}

void mu_store_run_finding(struct mu_store_run *run, const struct mu_store_finding *finding)
{
    struct mu_store_finding *row = store_row_add(run, MU_STORE_FINDINGS);
    if (!row) return;
    *row = *finding;
    for (const struct store_column *c = store_lists[MU_STORE_FINDINGS].columns; c->name; c++) {
        const char **text = store_field(row, c);
        if (c->type == STORE_TEXT) *text = mu_store_run_text(run, mu_str(*text ? *text : ""));
    }
}

/* --- from documents --------------------------------------------------------------------------- */

struct taking {
    struct mu_store_run *run;
    bool known; /* the kind is */
    enum mu_store_kind kind;
};

static void take(const struct taking *t, const char *path, const json_t *value, unsigned depth);

static void take_member(const struct taking *t, const char *path, const char *key,
                        const json_t *value, unsigned depth)
{
    char name[NAME_BYTES];
    struct taking inner = *t;
    bool kind = store_kind_parse(mu_str(key), &inner.kind);
    inner.known = t->known || kind;
    (void)snprintf(name, sizeof name, "%s%s%s", path, path[0] && !kind ? "." : "", kind ? "" : key);
    take(&inner, name, value, depth + 1);
}

/* What an element of an array goes by; NULL: nothing in it tells. */
static const char *label_of(const json_t *element)
{
    const char *s = json_string_value(json_object_get(element, "placement"));
    return s ? s : json_string_value(json_object_get(element, "device"));
}

static void take_elements(const struct taking *t, const char *path, const json_t *array,
                          unsigned depth)
{
    /* The array's own name tells nothing where its elements have names. */
    const char *dot = strrchr(path, '.');
    size_t i;
    const json_t *element;
    json_array_foreach(array, i, element)
    {
        char name[NAME_BYTES];
        const char *label = label_of(element);
        if (!json_is_object(element)) continue;
        if (label)
            (void)snprintf(name, sizeof name, "%.*s%s%s", dot ? (int)(dot - path) : 0, path,
                           dot ? "." : "", label);
        else
            (void)snprintf(name, sizeof name, "%s.%zu", path, i);
        take(t, name, element, depth + 1);
    }
}

static void take(const struct taking *t, const char *path, const json_t *value, unsigned depth)
{
    if (depth > DEPTH_MAX) return;
    if (json_is_number(value) && t->known)
        mu_store_run_figure(t->run, t->kind, path, json_number_value(value));
    if (json_is_array(value)) take_elements(t, path, value, depth);
    const char *key;
    json_t *member;
    json_object_foreach((json_t *)(uintptr_t)value, key, member)
    {
        take_member(t, path, key, member, depth);
    }
}

void mu_store_run_take(struct mu_store_run *run, const json_t *document)
{
    take(&(struct taking){.run = run}, "", document, 0);
}

void mu_store_run_take_kind(struct mu_store_run *run, enum mu_store_kind kind, const char *prefix,
                            const json_t *object)
{
    take(&(struct taking){run, true, kind}, prefix, object, 0);
}

/* --- reading it ------------------------------------------------------------------------------- */

const struct mu_store_setting *mu_store_run_settings(const struct mu_store_run *run, size_t *n)
{
    *n = run->lists[MU_STORE_SETTINGS].n;
    return run->lists[MU_STORE_SETTINGS].rows;
}

const struct mu_store_figure *mu_store_run_figures(const struct mu_store_run *run, size_t *n)
{
    *n = run->lists[MU_STORE_FIGURES].n;
    return run->lists[MU_STORE_FIGURES].rows;
}

const struct mu_store_sample *mu_store_run_samples(const struct mu_store_run *run, size_t *n)
{
    *n = run->lists[MU_STORE_SAMPLES].n;
    return run->lists[MU_STORE_SAMPLES].rows;
}

const struct mu_store_finding *mu_store_run_findings(const struct mu_store_run *run, size_t *n)
{
    *n = run->lists[MU_STORE_FINDINGS].n;
    return run->lists[MU_STORE_FINDINGS].rows;
}

const char *mu_store_run_setting_get(const struct mu_store_run *run, const char *name)
{
    size_t n;
    const struct mu_store_setting *s = mu_store_run_settings(run, &n);
    for (size_t i = 0; i < n; i++)
        if (strcmp(s[i].name, name) == 0) return s[i].value;
    return "";
}

const struct mu_store_figure *mu_store_run_figure_get(const struct mu_store_run *run,
                                                      enum mu_store_kind kind, const char *name)
{
    size_t n;
    const struct mu_store_figure *f = mu_store_run_figures(run, &n);
    for (size_t i = 0; i < n; i++)
        if (f[i].kind == kind && strcmp(f[i].name, name) == 0) return &f[i];
    return NULL;
}

static json_t *row_json(const struct store_table *table, const void *row)
{
    json_t *o = json_object();
    for (const struct store_column *c = table->columns; c->name; c++) {
        const void *field = store_field(row, c);
        json_t *value = NULL;
        switch (c->type) {
        case STORE_TEXT:
            value = json_string(*(const char *const *)field);
            break;
        case STORE_REAL:
            value =
                isfinite(*(const double *)field) ? json_real(*(const double *)field) : json_null();
            break;
        case STORE_INTEGER:
            value = json_integer(*(const int64_t *)field);
            break;
        case STORE_KIND:
            value = json_string(kind_names[*(const enum mu_store_kind *)field]);
            break;
        }
        (void)json_object_set_new(o, c->name, value);
    }
    return o;
}

json_t *mu_store_run_json(const struct mu_store_run *run, enum mu_store_depth depth)
{
    json_t *o = row_json(&store_runs, run);
    for (int list = 0; depth == MU_STORE_WHOLE && list < MU_STORE_LISTS; list++) {
        const struct store_table *table = &store_lists[list];
        json_t *rows = json_array();
        for (size_t i = 0; i < run->lists[list].n; i++)
            (void)json_array_append_new(
                rows, row_json(table, (const char *)run->lists[list].rows + i * table->row_size));
        (void)json_object_set_new(o, table->name, rows);
    }
    return o;
}
