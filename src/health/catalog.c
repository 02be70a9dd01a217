/*
 * The catalogue: rows of a tab-separated file, checked as a whole when it is opened, and their
 * patterns, compiled at first use. Knows nothing of logs. One thread.
 */
#define PCRE2_CODE_UNIT_WIDTH 8

#include "base/alloc.h"
#include "base/file.h"
#include "base/number.h"
#include "health/health_int.h"

#include <pcre2.h>

#define CATALOG_BYTES_MAX ((size_t)4 << 20)
#define ARENA_BYTES_MAX   ((size_t)32 << 20)
#define LITERALS_MAX      4096
#define COLUMNS           10
/* Steps of one match: far beyond what a sane pattern needs on the longest line that is matched. */
#define MATCH_LIMIT 2000000

static const char *const class_names[MU_HEALTH_CLASS_COUNT] = {
#define CLASS_NAME(name, text) [MU_HEALTH_CLASS_##name] = (text),
    MU_HEALTH_CLASS_TABLE(CLASS_NAME)
#undef CLASS_NAME
};

static const char *const level_names[] = {"", "info", "warn", "error", "fatal"};

static int name_index(const char *const *names, size_t n, const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (names[i] && strcmp(names[i], name) == 0) return (int)i;
    return -1;
}

static mu_status row_fail(struct mu_err *err, unsigned line, const char *what, const char *which)
{
    (void)mu_fail(err, MU_E_INPUT, "%s '%s'", what, which);
    mu_err_where(err, "logs.tsv line %u", line);
    return MU_E_INPUT;
}

/* Counts one more row for the text; its index, or -1 when there are too many. */
static int literal_add(struct mu_health_catalog *c, struct mu_str text)
{
    for (unsigned i = 0; i < c->n_literals; i++) {
        if (!mu_str_equal(c->literals[i].text, text)) continue;
        c->literals[i].n_rows++;
        return (int)i;
    }
    if (c->n_literals == LITERALS_MAX) return -1;
    c->literals[c->n_literals] = (struct mu_health_literal){.text = text, .n_rows = 1};
    return (int)c->n_literals++;
}

/* Rows of no particular program do not make a log one of a known kind. */
static bool is_telling(const char *engine)
{
    static const char *const anybody[] = {"python", "api", "os", "engines", "docker"};
    for (size_t i = 0; i < MU_ARRAY_LEN(anybody); i++)
        if (strcmp(engine, anybody[i]) == 0) return false;
    return true;
}

static mu_status row_fill(struct mu_health_catalog *c, char *const cells[COLUMNS], unsigned line,
                          struct mu_err *err)
{
    int class = name_index(class_names, MU_HEALTH_CLASS_COUNT, cells[3]);
    int severity = name_index(level_names, MU_ARRAY_LEN(level_names), cells[4]);
    if (class < 0) return row_fail(err, line, "there is no class", cells[3]);
    if (severity < 1) return row_fail(err, line, "there is no severity", cells[4]);
    if (c->n_rows == MU_HEALTH_ROWS_MAX) return row_fail(err, line, "too many rows at", cells[0]);
    for (unsigned i = 0; i < c->n_rows; i++)
        if (strcmp(c->rows[i].name, cells[0]) == 0)
            return row_fail(err, line, "there is already a row", cells[0]);
    c->rows[c->n_rows++] = (struct mu_health_row){
        .name = cells[0],
        .engine = cells[1],
        .versions = cells[2],
        .class = (enum mu_health_class) class,
        .severity = (enum mu_health_level)severity,
        .cause = cells[5],
        .pattern = cells[6],
        .meaning = cells[7],
        .cure = cells[8],
        .source = cells[9],
        .telling = is_telling(cells[1]),
        .anchored = cells[6][0] == '^',
        .plain = mu_health_plain_of(cells[6], c->arena),
    };
    unsigned last = c->n_rows - 1;
    if (class == MU_HEALTH_CLASS_ALIVE && c->rows[last].plain.len)
        c->quiet_rows[last / 64] |= (uint64_t)1 << last % 64;
    return MU_OK;
}

/* Cuts a line in its cells; "-" is an empty one. */
static mu_status row_parse(struct mu_health_catalog *c, char *text, unsigned line,
                           struct mu_err *err)
{
    char *cells[COLUMNS], *p = text;
    unsigned n = 0;
    for (; p && n < COLUMNS; n++) {
        cells[n] = p;
        p = strchr(p, '\t');
        if (p) *p++ = '\0';
        if (strcmp(cells[n], "-") == 0) cells[n] = text + strlen(text);
    }
    if (n != COLUMNS || p) return row_fail(err, line, "a row needs ten columns:", text);
    return strcmp(cells[0], "name") == 0 ? MU_OK : row_fill(c, cells, line, err);
}

static mu_status rows_read(struct mu_health_catalog *c, struct mu_str bytes, struct mu_err *err)
{
    char *text = mu_arena_strndup(c->arena, bytes.p, bytes.len);
    if (!text) return mu_fail_memory(err, bytes.len);
    unsigned line = 1;
    for (char *next; text && *text; text = next, line++) {
        next = strchr(text, '\n');
        if (next) *next++ = '\0';
        if (*text && *text != '#') MU_TRY(row_parse(c, text, line, err));
    }
    if (c->n_rows == 0) return mu_fail(err, MU_E_INPUT, "logs.tsv holds no rows");
    return MU_OK;
}

/* Gathers the literals of all rows, then for each literal the rows that need it. */
static mu_status literals_read(struct mu_health_catalog *c, struct mu_err *err)
{
    struct mu_str set[MU_HEALTH_LITERAL_SET_MAX];
    c->literals = mu_arena_alloc(c->arena, LITERALS_MAX, sizeof *c->literals);
    uint16_t *pairs = mu_arena_alloc(c->arena, 2 * LITERALS_MAX, sizeof *pairs);
    c->rows_of = mu_arena_alloc(c->arena, LITERALS_MAX, sizeof *c->rows_of);
    if (!c->literals || !pairs || !c->rows_of) return mu_fail_memory(err, LITERALS_MAX);
    unsigned n_pairs = 0;
    for (unsigned r = 0; r < c->n_rows; r++) {
        int n = mu_health_literals_of(c->rows[r].pattern, c->arena, set);
        if (n < 0) return mu_fail_memory(err, 0);
        if (n == 0 || n_pairs + (unsigned)n > LITERALS_MAX)
            return mu_fail(err, MU_E_INPUT, "logs.tsv: no %d certain bytes in the pattern of '%s'",
                           MU_HEALTH_LITERAL_MIN, c->rows[r].name);
        for (int i = 0; i < n; i++, n_pairs++) {
            int l = literal_add(c, set[i]);
            if (l < 0) return mu_fail(err, MU_E_INPUT, "logs.tsv holds too many texts");
            pairs[2 * n_pairs] = (uint16_t)l;
            pairs[2 * n_pairs + 1] = (uint16_t)r;
        }
    }
    for (unsigned l = 0; l < c->n_literals; l++) {
        c->literals[l].first_row = (uint16_t)c->n_rows_of;
        for (unsigned i = 0; i < n_pairs; i++)
            if (pairs[2 * i] == l) c->rows_of[c->n_rows_of++] = pairs[2 * i + 1];
    }
    return mu_health_prefilter_build(&c->prefilter, c->arena, c->literals, c->n_literals, err);
}

static void *pcre_alloc(size_t size, void *data)
{
    (void)data;
    return mu_alloc(size);
}

static void pcre_free(void *p, void *data)
{
    (void)data;
    mu_free(p);
}

static mu_status matcher_create(struct mu_health_catalog *c, struct mu_err *err)
{
    c->general_context = pcre2_general_context_create(pcre_alloc, pcre_free, NULL);
    if (!c->general_context) return mu_fail_memory(err, 0);
    c->compile_context = pcre2_compile_context_create(c->general_context);
    c->match_context = pcre2_match_context_create(c->general_context);
    c->match_data = pcre2_match_data_create(4 * MU_HEALTH_GROUPS_MAX, c->general_context);
    if (!c->compile_context || !c->match_context || !c->match_data) return mu_fail_memory(err, 0);
    pcre2_set_match_limit(c->match_context, MATCH_LIMIT);
    return MU_OK;
}

static mu_status catalog_fill(struct mu_health_catalog *c, const char *folder, struct mu_err *err)
{
    c->arena = mu_arena_create(ARENA_BYTES_MAX);
    if (!c->arena) return mu_fail_memory(err, 0);
    MU_TRY(matcher_create(c, err));
    if (!folder) {
        MU_TRY(rows_read(c, mu_health_share_logs(), err));
        return literals_read(c, err);
    }
    struct mu_text text;
    mu_text_init(&text, CATALOG_BYTES_MAX);
    char *path = mu_path_join(folder, "logs.tsv");
    mu_status status = path ? mu_file_read(path, &text, err) : mu_fail_memory(err, 0);
    mu_free(path);
    if (status == MU_OK) status = rows_read(c, (struct mu_str){mu_text_get(&text), text.len}, err);
    mu_text_fini(&text);
    return status == MU_OK ? literals_read(c, err) : status;
}

mu_status mu_health_catalog_open(const char *folder, struct mu_health_catalog **out,
                                 struct mu_err *err)
{
    struct mu_health_catalog *c = mu_calloc(1, sizeof *c);
    if (!c) return mu_fail_memory(err, sizeof *c);
    mu_status status = catalog_fill(c, folder, err);
    if (status == MU_OK)
        *out = c;
    else
        mu_health_catalog_close(c);
    return status;
}

void mu_health_catalog_close(struct mu_health_catalog *c)
{
    if (!c) return;
    for (unsigned i = 0; i < c->n_rows; i++)
        pcre2_code_free(c->rows[i].code);
    pcre2_match_data_free(c->match_data);
    pcre2_match_context_free(c->match_context);
    pcre2_compile_context_free(c->compile_context);
    pcre2_general_context_free(c->general_context);
    mu_arena_destroy(c->arena);
    mu_free(c);
}

/* Notes which groups of the pattern carry facts. */
static void groups_read(struct mu_health_row *row)
{
    uint32_t n = 0, entry = 0;
    PCRE2_SPTR names = NULL;
    (void)pcre2_pattern_info(row->code, PCRE2_INFO_NAMECOUNT, &n);
    (void)pcre2_pattern_info(row->code, PCRE2_INFO_NAMEENTRYSIZE, &entry);
    (void)pcre2_pattern_info(row->code, PCRE2_INFO_NAMETABLE, &names);
    for (uint32_t i = 0; i < n && i < MU_HEALTH_GROUPS_MAX; i++, names += entry) {
        row->groups[i].number = (unsigned)names[0] << 8 | names[1];
        row->groups[i].name = (const char *)names + 2;
        row->n_groups = i + 1;
    }
}

static mu_status row_compile(struct mu_health_catalog *c, struct mu_health_row *row,
                             struct mu_err *err)
{
    int code;
    PCRE2_SIZE offset;
    row->code = pcre2_compile((PCRE2_SPTR)row->pattern, PCRE2_ZERO_TERMINATED, 0, &code, &offset,
                              c->compile_context);
    if (!row->code && code == PCRE2_ERROR_HEAP_FAILED) return mu_fail_memory(err, 0);
    if (!row->code) {
        PCRE2_UCHAR text[128];
        (void)pcre2_get_error_message(code, text, sizeof text);
        return mu_fail(err, MU_E_INPUT, "logs.tsv: pattern of '%s' at %zu: %s", row->name, offset,
                       (const char *)text);
    }
    /* Without a compiler for this machine the pattern is interpreted: slower, the same answer. */
    (void)pcre2_jit_compile(row->code, PCRE2_JIT_COMPLETE);
    groups_read(row);
    return MU_OK;
}

mu_status mu_health_catalog_check(struct mu_health_catalog *c, struct mu_err *err)
{
    for (unsigned i = 0; i < c->n_rows; i++)
        if (!c->rows[i].code) MU_TRY(row_compile(c, &c->rows[i], err));
    return MU_OK;
}

mu_status mu_health_row_match(struct mu_health_catalog *c, struct mu_health_row *row,
                              const struct mu_health_line *line, struct mu_health_match *out,
                              struct mu_err *err)
{
    struct mu_str s = row->anchored ? line->body : line->text;
    size_t skipped = (size_t)(s.p - line->text.p);
    *out = (struct mu_health_match){0};
    if (row->plain.len) {
        const char *p = memmem(s.p, s.len, row->plain.p, row->plain.len);
        out->found = p != NULL;
        out->start = p ? (size_t)(p - line->text.p) : 0;
        return MU_OK;
    }
    if (!row->code) MU_TRY(row_compile(c, row, err));
    int rc = pcre2_match(row->code, (PCRE2_SPTR)s.p, s.len, 0, PCRE2_NO_UTF_CHECK, c->match_data,
                         c->match_context);
    if (rc == PCRE2_ERROR_NOMEMORY) return mu_fail_memory(err, 0);
    if (rc < 0) return MU_OK; /* no match, or one too costly to look for */
    const PCRE2_SIZE *v = pcre2_get_ovector_pointer(c->match_data);
    out->found = true;
    out->start = v[0] + skipped;
    for (unsigned i = 0; i < row->n_groups; i++) {
        unsigned g = row->groups[i].number;
        if (g < 4 * MU_HEALTH_GROUPS_MAX && v[2 * g] != PCRE2_UNSET)
            out->groups[i] = (struct mu_str){s.p + v[2 * g], v[2 * g + 1] - v[2 * g]};
    }
    return MU_OK;
}
