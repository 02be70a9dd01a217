/*
 * SQLite, loaded when the first file is opened, and its statements with this program's errors.
 * Private to the room.
 */
#ifndef MU_STORE_SQLITE_H
#define MU_STORE_SQLITE_H

#include "store/store_int.h"

#include <sqlite3.h>

/* clang-format off */
#define STORE_SQLITE_FUNCTIONS(X) \
    X(open_v2) X(close) X(prepare_v2) X(step) X(reset) X(finalize) X(exec) X(errmsg) X(changes) \
    X(bind_text) X(bind_double) X(bind_int64) X(column_text) X(column_bytes) X(column_double) \
    X(column_int64) X(column_type) X(busy_timeout) X(db_config) X(limit) X(progress_handler) \
    X(extended_errcode) X(libversion_number)
/* clang-format on */

struct store_sqlite {
#define STORE_POINTER_(name) __typeof__ (&sqlite3_##name)(name);
    STORE_SQLITE_FUNCTIONS(STORE_POINTER_)
#undef STORE_POINTER_
};
extern struct store_sqlite store_sqlite;

mu_status store_sqlite_load(struct mu_err *err);

struct mu_store {
    sqlite3 *db;
    char *path;
    uint64_t bytes;
    int64_t work_left; /* of one statement, in calls of the progress handler */
};

/* Fills `err` by what SQLite said last. */
mu_status store_fail(struct mu_store *s, struct mu_err *err);
/* Statements without rows. */
mu_status store_exec(struct mu_store *s, const char *sql, struct mu_err *err);
/* Compiles one statement; it must be finalized. */
mu_status store_prepare(struct mu_store *s, const char *sql, sqlite3_stmt **out,
                        struct mu_err *err);
/* The next row: `*row` is false past the last. */
mu_status store_step(struct mu_store *s, sqlite3_stmt *stmt, bool *row, struct mu_err *err);
/* Borrows the text; it must outlive the step. */
void store_bind_text(sqlite3_stmt *stmt, int i, const char *text);
struct mu_str store_column_text(sqlite3_stmt *stmt, int column);
/* A statement with one text to bind, or none (NULL), and no rows. */
mu_status store_run_with(struct mu_store *s, const char *sql, const char *text, struct mu_err *err);
/* The first column of its first row; `*found` is false when there is no row. */
mu_status store_value(struct mu_store *s, const char *sql, const char *text, int64_t *out,
                      bool *found, struct mu_err *err);

/* schema.c: makes the tables, or brings them up to date. */
mu_status store_schema(struct mu_store *s, struct mu_err *err);

#endif
