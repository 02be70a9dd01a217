/* Opening the file, and runs in and out of it; see store.h. */
#include "store/store.h"

#include "base/file.h"
#include "base/number.h"
#include "store/sqlite.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUSY_MS     5000
#define VALUE_BYTES (1 << 20) /* of one value; a longer one is no run's */
#define IDS_MAX     1000000

/* $XDG_DATA_HOME/muster/muster.db, or ~/.local/share/muster/muster.db; NULL: there is no home. */
static char *default_path(void)
{
    const char *xdg = getenv("XDG_DATA_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/') return mu_path_join(xdg, "muster/muster.db");
    return home && home[0] == '/' ? mu_path_join(home, ".local/share/muster/muster.db") : NULL;
}

void mu_store_ids_fini(struct mu_store_ids *ids)
{
    mu_free(ids->p);
    *ids = (struct mu_store_ids){0};
}

/* --- open and close --------------------------------------------------------------------------- */

/* The file may come from anywhere: no trigger, view or function of its runs here. */
static mu_status harden(struct mu_store *s, struct mu_err *err)
{
    static const struct {
        int what, value;
    } settings[] = {{SQLITE_DBCONFIG_DEFENSIVE, 1},
                    {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0},
                    {SQLITE_DBCONFIG_ENABLE_VIEW, 0},
                    {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0}};
    for (size_t i = 0; i < MU_ARRAY_LEN(settings); i++)
        if (store_sqlite.db_config(s->db, settings[i].what, settings[i].value, NULL) != SQLITE_OK)
            return store_fail(s, err);
    (void)store_sqlite.limit(s->db, SQLITE_LIMIT_LENGTH, VALUE_BYTES);
    (void)store_sqlite.limit(s->db, SQLITE_LIMIT_ATTACHED, 0);
    (void)store_sqlite.busy_timeout(s->db, BUSY_MS);
    /* A commit is on disk when it returns. */
    return store_exec(
        s, "PRAGMA cell_size_check=ON; PRAGMA foreign_keys=ON; PRAGMA synchronous=FULL", err);
}

static mu_status folder_of_make(const char *path, struct mu_err *err)
{
    const char *slash = strrchr(path, '/');
    if (!slash || slash == path) return MU_OK;
    char *folder = mu_strndup(path, (size_t)(slash - path));
    mu_status status =
        folder ? mu_folder_make(folder, err) : mu_fail_memory(err, (size_t)(slash - path));
    mu_free(folder);
    return status;
}

static mu_status file_open(struct mu_store *s, enum mu_store_mode mode, struct mu_err *err)
{
    struct stat st;
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX;
    if (mode == MU_STORE_WRITE) {
        MU_TRY(folder_of_make(s->path, err));
        flags |= SQLITE_OPEN_CREATE;
    } else if (!mu_file_exists(s->path)) {
        mu_status status = mu_fail(err, MU_E_MISSING, "no run was kept yet");
        mu_err_where(err, "%s", s->path);
        return status;
    }
    /* Prompts are nobody else's business; SQLite's other files take the mode of this one. */
    int fd = mode == MU_STORE_WRITE ? open(s->path, O_CREAT | O_RDWR | O_CLOEXEC, 0600) : -1;
    if (fd >= 0) (void)close(fd);
    int code = store_sqlite.open_v2(s->path, &s->db, flags, NULL);
    if (code != SQLITE_OK) return store_fail(s, err);
    s->bytes = stat(s->path, &st) == 0 ? (uint64_t)st.st_size : 0;
    MU_TRY(harden(s, err));
    return store_schema(s, err);
}

mu_status mu_store_open(const char *path, enum mu_store_mode mode, struct mu_store **out,
                        struct mu_err *err)
{
    /* To SQLite that is a file of its own that is gone when it is closed. */
    if (path && !path[0]) return mu_fail(err, MU_E_USAGE, "the name of the store is empty");
    MU_TRY(store_sqlite_load(err));
    struct mu_store *s = mu_calloc(1, sizeof *s);
    if (!s) return mu_fail_memory(err, sizeof *s);
    s->path = path ? mu_strdup(path) : default_path();
    mu_status status = MU_OK;
    if (!s->path && path) {
        status = mu_fail_memory(err, strlen(path) + 1);
    } else if (!s->path) {
        status = mu_fail(err, MU_E_MISSING, "there is no home to keep runs in");
        mu_err_cure(err, "name a file with --store FILE");
    }
    if (status == MU_OK) status = file_open(s, mode, err);
    if (status == MU_OK)
        *out = s;
    else
        mu_store_close(s);
    return status;
}

void mu_store_close(struct mu_store *s)
{
    if (!s) return;
    if (s->db) {
        store_sqlite.progress_handler(s->db, 0, NULL, NULL);
        (void)store_sqlite.close(s->db);
    }
    mu_free(s->path);
    mu_free(s);
}

const char *mu_store_path(const struct mu_store *s)
{
    return s->path;
}

uint64_t mu_store_bytes(const struct mu_store *s)
{
    return s->bytes;
}

/* All of a transaction or nothing: `status` says which. */
static mu_status transaction_end(struct mu_store *s, mu_status status, struct mu_err *err)
{
    if (status == MU_OK) status = store_exec(s, "COMMIT", err);
    if (status != MU_OK) (void)store_sqlite.exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* --- rows ------------------------------------------------------------------------------------- */

static void row_bind(sqlite3_stmt *stmt, int i, const struct store_table *table, const void *row)
{
    for (const struct store_column *c = table->columns; c->name; c++, i++) {
        const void *field = store_field(row, c);
        switch (c->type) {
        case STORE_TEXT:
            store_bind_text(stmt, i, *(const char *const *)field);
            break;
        case STORE_REAL: /* what is not a number becomes NULL */
            (void)store_sqlite.bind_double(stmt, i, *(const double *)field);
            break;
        case STORE_INTEGER:
            (void)store_sqlite.bind_int64(stmt, i, *(const int64_t *)field);
            break;
        case STORE_KIND:
            store_bind_text(stmt, i, mu_store_kind_name(*(const enum mu_store_kind *)field));
            break;
        }
    }
}

static mu_status row_read(sqlite3_stmt *stmt, const struct store_table *table,
                          struct mu_store_run *run, void *row, struct mu_err *err)
{
    int i = 0;
    for (const struct store_column *c = table->columns; c->name; c++, i++) {
        void *field = store_field(row, c);
        bool null = store_sqlite.column_type(stmt, i) == SQLITE_NULL;
        switch (c->type) {
        case STORE_TEXT:
            *(const char **)field = mu_store_run_text(run, store_column_text(stmt, i));
            break;
        case STORE_REAL:
            *(double *)field = null ? (double)NAN : store_sqlite.column_double(stmt, i);
            break;
        case STORE_INTEGER:
            *(int64_t *)field = store_sqlite.column_int64(stmt, i);
            break;
        case STORE_KIND:
            if (!store_kind_parse(store_column_text(stmt, i), field))
                return mu_fail(err, MU_E_INPUT, "a figure is of no known kind");
            break;
        }
    }
    return run->status == MU_OK ? MU_OK : mu_fail_memory(err, table->row_size);
}

/* "INSERT INTO figures(run,kind,...) VALUES(?,?,...)"; runs have no column run. */
static mu_status insert_prepare(struct mu_store *s, const struct store_table *table, bool listed,
                                sqlite3_stmt **out, struct mu_err *err)
{
    struct mu_text sql, marks;
    mu_text_init(&sql, 1024);
    mu_text_init(&marks, 256);
    mu_text_printf(&sql, "INSERT INTO %s(%s", table->name, listed ? "run," : "");
    mu_text_str(&marks, listed ? "?," : "");
    for (const struct store_column *c = table->columns; c->name; c++) {
        mu_text_printf(&sql, "%s%s", c == table->columns ? "" : ",", c->name);
        mu_text_str(&marks, c == table->columns ? "?" : ",?");
    }
    mu_text_printf(&sql, ") VALUES(%s)", mu_text_get(&marks));
    mu_status status = mu_text_status(&sql, err);
    if (status == MU_OK) status = store_prepare(s, mu_text_get(&sql), out, err);
    mu_text_fini(&marks);
    mu_text_fini(&sql);
    return status;
}

static mu_status list_put(struct mu_store *s, const struct mu_store_run *run,
                          enum mu_store_list list, struct mu_err *err)
{
    const struct store_table *table = &store_lists[list];
    sqlite3_stmt *stmt = NULL;
    bool row;
    MU_TRY(insert_prepare(s, table, true, &stmt, err));
    mu_status status = MU_OK;
    for (size_t i = 0; status == MU_OK && i < run->lists[list].n; i++) {
        store_bind_text(stmt, 1, run->id);
        row_bind(stmt, 2, table, (const char *)run->lists[list].rows + i * table->row_size);
        status = store_step(s, stmt, &row, err);
        (void)store_sqlite.reset(stmt);
    }
    (void)store_sqlite.finalize(stmt);
    return status;
}

/* --- put -------------------------------------------------------------------------------------- */

/* Eight hexadecimal digits that no run has. */
static mu_status id_draw(struct mu_store *s, struct mu_store_run *run, struct mu_err *err)
{
    for (;;) {
        uint32_t bits;
        char id[MU_STORE_ID_SIZE];
        bool taken;
        int64_t number;
        if (getrandom(&bits, sizeof bits, 0) != sizeof bits)
            return mu_fail_errno(err, MU_E_RESOURCE, errno, "no random number for an id");
        (void)snprintf(id, sizeof id, "%08x", bits);
        MU_TRY(store_value(s, "SELECT number FROM runs WHERE id=?", id, &number, &taken, err));
        if (taken) continue;
        run->id = mu_store_run_text(run, mu_str(id));
        return run->status == MU_OK ? MU_OK : mu_fail_memory(err, sizeof id);
    }
}

static mu_status run_put(struct mu_store *s, struct mu_store_run *run, struct mu_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool found;
    MU_TRY(id_draw(s, run, err));
    MU_TRY(store_value(s, "SELECT coalesce(max(number), 0) + 1 FROM runs", NULL, &run->number,
                       &found, err));
    MU_TRY(insert_prepare(s, &store_runs, false, &stmt, err));
    row_bind(stmt, 1, &store_runs, run);
    mu_status status = store_step(s, stmt, &found, err);
    (void)store_sqlite.finalize(stmt);
    for (int list = 0; status == MU_OK && list < MU_STORE_LISTS; list++)
        status = list_put(s, run, (enum mu_store_list)list, err);
    return status;
}

mu_status mu_store_put(struct mu_store *s, struct mu_store_run *run, struct mu_err *err)
{
    if (run->status != MU_OK) return mu_fail_memory(err, 0);
    MU_TRY(store_exec(s, "BEGIN IMMEDIATE", err));
    return transaction_end(s, run_put(s, run, err), err);
}

/* --- select ----------------------------------------------------------------------------------- */

static void filter_sql(const struct mu_store_filter *f, struct mu_text *sql)
{
    mu_text_str(sql, "SELECT id FROM runs WHERE 1");
    if (f->command) mu_text_str(sql, " AND command=?1");
    if (f->model) mu_text_str(sql, " AND instr(lower(model),lower(?2))>0");
    if (f->before_s > 0) mu_text_str(sql, " AND julianday(at)<julianday(?3,'unixepoch')");
    for (unsigned i = 0; i < f->n_settings; i++)
        mu_text_printf(sql,
                       " AND EXISTS(SELECT 1 FROM settings WHERE run=id AND"
                       " name||'='||value=?%u)",
                       4 + i);
    mu_text_str(sql, " ORDER BY number DESC");
    mu_text_printf(sql, " LIMIT %llu",
                   (unsigned long long)(f->last && f->last < IDS_MAX ? f->last : IDS_MAX));
}

static mu_status ids_add(struct mu_store_ids *ids, size_t *size, struct mu_str id,
                         struct mu_err *err)
{
    if (ids->n == *size) {
        *size = *size ? 2 * *size : 64;
        void *p = mu_realloc(ids->p, *size * sizeof *ids->p);
        if (!p) return mu_fail_memory(err, *size * sizeof *ids->p);
        ids->p = p;
    }
    /* Ids that are none of ours cannot be asked for, so they are cut to fit. */
    (void)snprintf(ids->p[ids->n++], MU_STORE_ID_SIZE, "%.*s", (int)MU_MIN(id.len, (size_t)8),
                   id.p);
    return MU_OK;
}

static mu_status ids_read(struct mu_store *s, sqlite3_stmt *stmt, struct mu_store_ids *out,
                          struct mu_err *err)
{
    size_t size = 0;
    bool row = true;
    while (row) {
        MU_TRY(store_step(s, stmt, &row, err));
        if (row) MU_TRY(ids_add(out, &size, store_column_text(stmt, 0), err));
    }
    for (size_t i = 0; i < out->n / 2; i++) {
        char swap[MU_STORE_ID_SIZE];
        memcpy(swap, out->p[i], sizeof swap);
        memcpy(out->p[i], out->p[out->n - 1 - i], sizeof swap);
        memcpy(out->p[out->n - 1 - i], swap, sizeof swap);
    }
    return MU_OK;
}

mu_status mu_store_select(struct mu_store *s, const struct mu_store_filter *filter,
                          struct mu_store_ids *out, struct mu_err *err)
{
    struct mu_text sql;
    char before[MU_FLOAT_TEXT];
    sqlite3_stmt *stmt = NULL;
    *out = (struct mu_store_ids){0};
    mu_text_init(&sql, 4096);
    filter_sql(filter, &sql);
    mu_status status = mu_text_status(&sql, err);
    if (status == MU_OK) status = store_prepare(s, mu_text_get(&sql), &stmt, err);
    if (status == MU_OK) {
        if (filter->command) store_bind_text(stmt, 1, filter->command);
        if (filter->model) store_bind_text(stmt, 2, filter->model);
        if (filter->before_s > 0) store_bind_text(stmt, 3, mu_format_f64(filter->before_s, before));
        for (unsigned i = 0; i < filter->n_settings; i++)
            store_bind_text(stmt, 4 + (int)i, filter->settings[i]);
        status = ids_read(s, stmt, out, err);
    }
    (void)store_sqlite.finalize(stmt);
    mu_text_fini(&sql);
    if (status != MU_OK) mu_store_ids_fini(out);
    return status;
}

/* --- find ------------------------------------------------------------------------------------- */

static mu_status fail_find(struct mu_err *err, const char *word, const char *why)
{
    mu_status status = mu_fail(err, MU_E_INPUT, "%s '%.40s'", why, word);
    mu_err_cure(err, "muster runs list shows what there is");
    return status;
}

/* "last" is 0, "last~3" is 3. */
static bool last_parse(const char *word, uint64_t *back)
{
    *back = 0;
    if (strncmp(word, "last", 4) != 0) return false;
    return word[4] == '\0' ||
           (word[4] == '~' && mu_parse_u64(mu_str(word + 5), 0, IDS_MAX - 1, back));
}

mu_status mu_store_find(struct mu_store *s, const char *word, char id[MU_STORE_ID_SIZE],
                        struct mu_err *err)
{
    char pattern[MU_STORE_ID_SIZE + 1], sql[128];
    uint64_t back;
    bool last = last_parse(word, &back);
    size_t len = strlen(word);
    if (!last && (len == 0 || len >= MU_STORE_ID_SIZE || strspn(word, "0123456789abcdef") != len))
        return fail_find(err, word, "this is no run's id:");
    if (last)
        (void)snprintf(sql, sizeof sql,
                       "SELECT id FROM runs ORDER BY number DESC LIMIT 1 OFFSET %llu",
                       (unsigned long long)back);
    else
        (void)snprintf(sql, sizeof sql, "SELECT id FROM runs WHERE id GLOB ? LIMIT 2");
    (void)snprintf(pattern, sizeof pattern, "%.8s*", word);
    sqlite3_stmt *stmt = NULL;
    struct mu_store_ids ids = {0};
    mu_status status = store_prepare(s, sql, &stmt, err);
    if (status == MU_OK && !last) store_bind_text(stmt, 1, pattern);
    if (status == MU_OK) status = ids_read(s, stmt, &ids, err);
    (void)store_sqlite.finalize(stmt);
    if (status == MU_OK && ids.n != 1)
        status = fail_find(err, word, ids.n ? "several runs begin with" : "there is no run");
    if (status == MU_OK) memcpy(id, ids.p[0], MU_STORE_ID_SIZE);
    mu_store_ids_fini(&ids);
    return status;
}

/* --- get -------------------------------------------------------------------------------------- */

static mu_status select_prepare(struct mu_store *s, const struct store_table *table,
                                const char *where, sqlite3_stmt **out, struct mu_err *err)
{
    struct mu_text sql;
    mu_text_init(&sql, 1024);
    for (const struct store_column *c = table->columns; c->name; c++)
        mu_text_printf(&sql, "%s%s", c == table->columns ? "SELECT " : ",", c->name);
    mu_text_printf(&sql, " FROM %s WHERE %s ORDER BY rowid", table->name, where);
    mu_status status = mu_text_status(&sql, err);
    if (status == MU_OK) status = store_prepare(s, mu_text_get(&sql), out, err);
    mu_text_fini(&sql);
    return status;
}

static mu_status list_get(struct mu_store *s, const char *id, enum mu_store_list list,
                          struct mu_store_run *run, struct mu_err *err)
{
    const struct store_table *table = &store_lists[list];
    sqlite3_stmt *stmt = NULL;
    bool row = true;
    MU_TRY(select_prepare(s, table, "run=?", &stmt, err));
    store_bind_text(stmt, 1, id);
    mu_status status = MU_OK;
    while (status == MU_OK && row) {
        status = store_step(s, stmt, &row, err);
        if (status != MU_OK || !row) break;
        void *at = store_row_add(run, list);
        status = at ? row_read(stmt, table, run, at, err) : mu_fail_memory(err, table->row_size);
    }
    (void)store_sqlite.finalize(stmt);
    mu_err_where(err, "%s", s->path);
    return status;
}

static mu_status run_get(struct mu_store *s, const char *id, struct mu_store_run *out,
                         struct mu_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row;
    MU_TRY(select_prepare(s, &store_runs, "id=?", &stmt, err));
    store_bind_text(stmt, 1, id);
    mu_status status = store_step(s, stmt, &row, err);
    if (status == MU_OK && !row) status = fail_find(err, id, "there is no run");
    if (status == MU_OK) status = row_read(stmt, &store_runs, out, out, err);
    (void)store_sqlite.finalize(stmt);
    return status;
}

mu_status mu_store_get(struct mu_store *s, const char *id, enum mu_store_depth depth,
                       struct mu_store_run *out, struct mu_err *err)
{
    MU_TRY(mu_store_run_init(out, err));
    MU_TRY(run_get(s, id, out, err));
    for (int list = 0; depth == MU_STORE_WHOLE && list < MU_STORE_LISTS; list++)
        MU_TRY(list_get(s, id, (enum mu_store_list)list, out, err));
    return MU_OK;
}

/* --- remove ----------------------------------------------------------------------------------- */

static mu_status one_remove(struct mu_store *s, const char *id, bool force, struct mu_err *err)
{
    int64_t unused;
    bool baseline;
    MU_TRY(store_value(s, "SELECT 1 FROM baselines WHERE run=?", id, &unused, &baseline, err));
    if (baseline && !force) {
        mu_status status = mu_fail(err, MU_E_INPUT, "run %s is a baseline", id);
        mu_err_cure(err, "save another one first, or say --force");
        return status;
    }
    if (baseline) MU_TRY(store_run_with(s, "DELETE FROM baselines WHERE run=?", id, err));
    return store_run_with(s, "DELETE FROM runs WHERE id=?", id, err);
}

mu_status mu_store_remove(struct mu_store *s, const struct mu_store_ids *ids, bool force,
                          struct mu_err *err)
{
    mu_status status = MU_OK;
    MU_TRY(store_exec(s, "BEGIN IMMEDIATE", err));
    for (size_t i = 0; status == MU_OK && i < ids->n; i++)
        status = one_remove(s, ids->p[i], force, err);
    return transaction_end(s, status, err);
}

/* --- baselines -------------------------------------------------------------------------------- */

mu_status mu_store_baseline_set(struct mu_store *s, const char *name, const char *id,
                                struct mu_err *err)
{
    sqlite3_stmt *stmt = NULL;
    bool row;
    MU_TRY(store_prepare(s,
                         "INSERT OR REPLACE INTO baselines(name,run,at)"
                         " VALUES(?,?,strftime('%Y-%m-%dT%H:%M:%fZ','now'))",
                         &stmt, err));
    store_bind_text(stmt, 1, name);
    store_bind_text(stmt, 2, id);
    mu_status status = store_step(s, stmt, &row, err);
    (void)store_sqlite.finalize(stmt);
    return status;
}

static mu_status text_get(struct mu_store *s, const char *sql, const char *key, struct mu_text *out,
                          bool *found, struct mu_err *err)
{
    sqlite3_stmt *stmt = NULL;
    MU_TRY(store_prepare(s, sql, &stmt, err));
    store_bind_text(stmt, 1, key);
    mu_status status = store_step(s, stmt, found, err);
    if (status == MU_OK && *found) {
        struct mu_str text = store_column_text(stmt, 0);
        mu_text_add(out, text.p, text.len);
        status = mu_text_status(out, err);
    }
    (void)store_sqlite.finalize(stmt);
    return status;
}

mu_status mu_store_baseline_get(struct mu_store *s, const char *name, char id[MU_STORE_ID_SIZE],
                                struct mu_err *err)
{
    struct mu_text text;
    bool found = false;
    mu_text_init(&text, VALUE_BYTES);
    mu_status status =
        text_get(s, "SELECT run FROM baselines WHERE name=?", name, &text, &found, err);
    if (status == MU_OK && !found) status = mu_fail(err, MU_E_MISSING, "there is no baseline yet");
    if (status == MU_OK) (void)snprintf(id, MU_STORE_ID_SIZE, "%.8s", mu_text_get(&text));
    mu_text_fini(&text);
    return status;
}

mu_status mu_store_baseline_name(struct mu_store *s, const char *id, struct mu_text *out,
                                 struct mu_err *err)
{
    bool found;
    return text_get(s, "SELECT name FROM baselines WHERE run=?", id, out, &found, err);
}
