/* SQLite, its statements and what its failures mean; see sqlite.h. */
#include "store/sqlite.h"

#include "base/library.h"

#include <pthread.h>
#include <stddef.h>

#define OLDEST 3037000 /* what the tables and settings need */

struct store_sqlite store_sqlite;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct mu_err library_err;

static void library_load(void)
{
    static const char *const names[] = {"libsqlite3.so.0", "libsqlite3.so", NULL};
    static const struct mu_symbol symbols[] = {
#define SYMBOL_(name) {"sqlite3_" #name, offsetof(struct store_sqlite, name)},
        STORE_SQLITE_FUNCTIONS(SYMBOL_)
#undef SYMBOL_
    };
    if (mu_library_load(names, symbols, MU_ARRAY_LEN(symbols), &store_sqlite, &library_err) !=
        MU_OK)
        mu_err_cure(&library_err, "install libsqlite3-0");
    else if (store_sqlite.libversion_number() < OLDEST)
        (void)mu_fail(&library_err, MU_E_MISSING, "libsqlite3 is older than 3.37");
}

mu_status store_sqlite_load(struct mu_err *err)
{
    (void)pthread_once(&once, library_load);
    if (library_err.code != MU_OK && err && err->code == MU_OK) *err = library_err;
    return library_err.code;
}

/* What went wrong, in words that help; others are said as SQLite says them. */
static const struct {
    int code;
    mu_status status;
    const char *what, *cure;
} faults[] = {
    {SQLITE_NOMEM, MU_E_MEMORY, "out of memory", ""},
    {SQLITE_FULL, MU_E_SPACE, "the disk is full", "muster runs prune makes room"},
    {SQLITE_BUSY, MU_E_RESOURCE, "another program keeps the file locked", "try again"},
    {SQLITE_LOCKED, MU_E_RESOURCE, "another program keeps the file locked", "try again"},
    {SQLITE_READONLY, MU_E_IO, "the file cannot be written", "name another with --store FILE"},
    {SQLITE_PERM, MU_E_IO, "the file may not be opened", "name another with --store FILE"},
    {SQLITE_CANTOPEN, MU_E_IO, "the file cannot be opened", "name another with --store FILE"},
    {SQLITE_NOTADB, MU_E_INPUT, "this is no SQLite file",
     "move it away, or name another with --store FILE"},
    {SQLITE_CORRUPT, MU_E_INPUT, "the file is damaged",
     "move it away; sqlite3 FILE .recover | sqlite3 NEW saves what can be read"},
    {SQLITE_INTERRUPT, MU_E_INPUT, "the file is damaged: reading it does not end",
     "move it away; sqlite3 FILE .recover | sqlite3 NEW saves what can be read"},
};

mu_status store_fail(struct mu_store *s, struct mu_err *err)
{
    int code = s->db ? store_sqlite.extended_errcode(s->db) : SQLITE_NOMEM;
    mu_status status = MU_E_IO;
    for (size_t i = 0; i < MU_ARRAY_LEN(faults); i++) {
        if (faults[i].code != (code & 0xff)) continue;
        status = mu_fail(err, faults[i].status, "%s", faults[i].what);
        mu_err_where(err, "%s", s->path);
        if (faults[i].cure[0]) mu_err_cure(err, "%s", faults[i].cure);
        return status;
    }
    status = mu_fail(err, status, "SQLite says: %s", store_sqlite.errmsg(s->db));
    mu_err_where(err, "%s", s->path);
    return status;
}

/* A tree of pages that was bent into a ring gives rows without end, so a statement may do no more
 * than one over a sound file of this size could need. */
static int on_progress(void *arg)
{
    struct mu_store *s = arg;
    return s->work_left-- <= 0;
}

#define PROGRESS_OPERATIONS 10000

static void work_renew(struct mu_store *s)
{
    s->work_left = 1000 + (int64_t)(s->bytes / 500);
    store_sqlite.progress_handler(s->db, PROGRESS_OPERATIONS, on_progress, s);
}

mu_status store_exec(struct mu_store *s, const char *sql, struct mu_err *err)
{
    work_renew(s);
    return store_sqlite.exec(s->db, sql, NULL, NULL, NULL) == SQLITE_OK ? MU_OK
                                                                        : store_fail(s, err);
}

mu_status store_prepare(struct mu_store *s, const char *sql, sqlite3_stmt **out, struct mu_err *err)
{
    work_renew(s);
    return store_sqlite.prepare_v2(s->db, sql, -1, out, NULL) == SQLITE_OK ? MU_OK
                                                                           : store_fail(s, err);
}

mu_status store_step(struct mu_store *s, sqlite3_stmt *stmt, bool *row, struct mu_err *err)
{
    int code = store_sqlite.step(stmt);
    *row = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? MU_OK : store_fail(s, err);
}

void store_bind_text(sqlite3_stmt *stmt, int i, const char *text)
{
    (void)store_sqlite.bind_text(stmt, i, text, -1, SQLITE_STATIC);
}

struct mu_str store_column_text(sqlite3_stmt *stmt, int column)
{
    const char *p = (const char *)store_sqlite.column_text(stmt, column);
    return p ? (struct mu_str){p, (size_t)store_sqlite.column_bytes(stmt, column)} : MU_STR("");
}

mu_status store_value(struct mu_store *s, const char *sql, const char *text, int64_t *out,
                      bool *found, struct mu_err *err)
{
    sqlite3_stmt *stmt = NULL;
    MU_TRY(store_prepare(s, sql, &stmt, err));
    if (text) store_bind_text(stmt, 1, text);
    mu_status status = store_step(s, stmt, found, err);
    if (status == MU_OK && *found) *out = store_sqlite.column_int64(stmt, 0);
    (void)store_sqlite.finalize(stmt);
    return status;
}

mu_status store_run_with(struct mu_store *s, const char *sql, const char *text, struct mu_err *err)
{
    int64_t value;
    bool found;
    return store_value(s, sql, text, &value, &found, err);
}
