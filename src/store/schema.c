/* The tables of the file, and how they came to be: each step takes them one version further. A step
 * that was released is never changed; what is new is a step more. */
#include "store/sqlite.h"

#include <stdio.h>

#define APPLICATION 0x6d757374 /* "must" */

/* Rows of runs are few and read by people; those of the lists hang on them and go with them. */
static const char *const steps[] = {
    "CREATE TABLE runs(number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE,"
    " at TEXT NOT NULL, command TEXT NOT NULL, command_line TEXT NOT NULL,"
    " version TEXT NOT NULL, host TEXT NOT NULL, machine TEXT NOT NULL, model TEXT NOT NULL,"
    " result TEXT NOT NULL, seconds REAL, exit_status INTEGER NOT NULL);"
    "CREATE TABLE settings(run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " name TEXT NOT NULL, value TEXT NOT NULL);"
    "CREATE TABLE figures(run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " kind TEXT NOT NULL CHECK(kind IN ('predicted', 'measured', 'reported')),"
    " name TEXT NOT NULL, unit TEXT NOT NULL, value REAL NOT NULL);"
    "CREATE TABLE samples(run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " kind TEXT NOT NULL CHECK(kind IN ('predicted', 'measured', 'reported')),"
    " name TEXT NOT NULL, at_s REAL, value REAL NOT NULL);"
    "CREATE TABLE findings(run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE,"
    " level TEXT NOT NULL, code TEXT NOT NULL, section TEXT NOT NULL, device TEXT NOT NULL,"
    " place TEXT NOT NULL, at_s REAL, text TEXT NOT NULL, cure TEXT NOT NULL, page TEXT NOT NULL);"
    "CREATE INDEX settings_run ON settings(run);"
    "CREATE INDEX figures_run ON figures(run);"
    "CREATE INDEX samples_run ON samples(run);"
    "CREATE INDEX findings_run ON findings(run);",

    "CREATE TABLE baselines(name TEXT PRIMARY KEY, run TEXT NOT NULL REFERENCES runs(id),"
    " at TEXT NOT NULL) WITHOUT ROWID;",
};

static mu_status pragma(struct mu_store *s, const char *name, int64_t *out, struct mu_err *err)
{
    char sql[64];
    bool found;
    (void)snprintf(sql, sizeof sql, "PRAGMA %s", name);
    *out = 0;
    return store_value(s, sql, NULL, out, &found, err);
}

/* Another program's file keeps its tables; a newer program's are not ours to read. */
static mu_status refuse_foreign(struct mu_store *s, int64_t version, struct mu_err *err)
{
    int64_t application = 0, tables = 0;
    bool found;
    MU_TRY(pragma(s, "application_id", &application, err));
    MU_TRY(store_value(s, "SELECT count(*) FROM sqlite_master", NULL, &tables, &found, err));
    if (application == APPLICATION ? version < 1 : application != 0 || version != 0 || tables > 0) {
        mu_status status = mu_fail(err, MU_E_INPUT, "this SQLite file is another program's");
        mu_err_where(err, "%s", s->path);
        mu_err_cure(err, "name another with --store FILE");
        return status;
    }
    if (version <= (int64_t)MU_ARRAY_LEN(steps)) return MU_OK;
    mu_status status =
        mu_fail(err, MU_E_UNSUPPORTED,
                "a newer muster wrote this: its tables are of version %lld, this program knows %zu",
                (long long)version, MU_ARRAY_LEN(steps));
    mu_err_where(err, "%s", s->path);
    mu_err_cure(err, "use that muster, or name another file with --store FILE");
    return status;
}

static mu_status steps_take(struct mu_store *s, struct mu_err *err)
{
    int64_t version = 0;
    char sql[96];
    /* Again, now that nobody else can take the same steps. */
    MU_TRY(pragma(s, "user_version", &version, err));
    MU_TRY(refuse_foreign(s, version, err));
    for (; version < (int64_t)MU_ARRAY_LEN(steps); version++)
        MU_TRY(store_exec(s, steps[version], err));
    (void)snprintf(sql, sizeof sql, "PRAGMA application_id=%d; PRAGMA user_version=%zu",
                   APPLICATION, MU_ARRAY_LEN(steps));
    return store_exec(s, sql, err);
}

/* Readers and a writer then do not wait for each other. Whoever loses the race for setting it uses
 * what the winner set. Space of removed runs goes back to the disk. */
static mu_status journal_set(struct mu_store *s, struct mu_err *err)
{
    int code = store_sqlite.exec(s->db, "PRAGMA auto_vacuum=FULL; PRAGMA journal_mode=WAL", NULL,
                                 NULL, NULL);
    return code == SQLITE_OK || code == SQLITE_BUSY ? MU_OK : store_fail(s, err);
}

mu_status store_schema(struct mu_store *s, struct mu_err *err)
{
    int64_t version = 0;
    MU_TRY(pragma(s, "user_version", &version, err));
    MU_TRY(refuse_foreign(s, version, err));
    if (version == (int64_t)MU_ARRAY_LEN(steps)) return MU_OK;
    MU_TRY(journal_set(s, err));
    MU_TRY(store_exec(s, "BEGIN IMMEDIATE", err));
    mu_status status = steps_take(s, err);
    if (status == MU_OK) return store_exec(s, "COMMIT", err);
    (void)store_sqlite.exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}
