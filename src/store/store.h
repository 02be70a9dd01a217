/*
 * store: what was measured, kept. A run is one command with its conditions and its figures; the
 * file that holds all of them is SQLite's, so that `sqlite3` opens it too (docs/runs.md).
 *
 * Knows nothing of what figures mean, nor of who makes them. The file is outside bytes: whatever it
 * holds, reading it ends, and gives texts without control characters. Several processes may use one
 * file at once; a struct here belongs to one thread at a time.
 */
#ifndef MU_STORE_STORE_H
#define MU_STORE_STORE_H

#include "store/compare.h"
#include "store/run.h"

#define MU_STORE_ID_SIZE 9 /* eight hexadecimal digits, and the end */

struct mu_store;

enum mu_store_mode {
    MU_STORE_READ,  /* the file must be there */
    MU_STORE_WRITE, /* it is made when it is not */
};

/* The file at `path`; NULL: muster/muster.db where XDG keeps data. Tables of an earlier version are
 * brought up to date; those of a later one are refused. */
mu_status mu_store_open(const char *path, enum mu_store_mode mode, struct mu_store **out,
                        struct mu_err *err);
void mu_store_close(struct mu_store *s); /* NULL is fine */
const char *mu_store_path(const struct mu_store *s);
uint64_t mu_store_bytes(const struct mu_store *s);

/* Keeps a run, all of it or nothing; it gets its id and number. On disk when this returns. */
mu_status mu_store_put(struct mu_store *s, struct mu_store_run *run, struct mu_err *err);

/* Which runs; NULL, 0: any. Texts are compared whole, but for the model, of which a part will do.
 */
struct mu_store_filter {
    const char *command, *model;
    const char *const
        *settings; /* [n_settings] name=value; values as mu_store_run_setting took them
                    */
    unsigned n_settings;
    uint64_t last;   /* only the latest so many */
    double before_s; /* began earlier than that, in seconds since 1970 */
};

/* The ids of the runs, earliest first. */
struct mu_store_ids {
    char (*p)[MU_STORE_ID_SIZE];
    size_t n;
};
mu_status mu_store_select(struct mu_store *s, const struct mu_store_filter *filter,
                          struct mu_store_ids *out, struct mu_err *err);
void mu_store_ids_fini(struct mu_store_ids *ids);

/* The run that a person means: an id or a beginning of it that no other has, "last", or "last~N"
 * for the N-th before. */
mu_status mu_store_find(struct mu_store *s, const char *word, char id[MU_STORE_ID_SIZE],
                        struct mu_err *err);

/* Fills `out`, which the caller ends in any case. */
mu_status mu_store_get(struct mu_store *s, const char *id, enum mu_store_depth depth,
                       struct mu_store_run *out, struct mu_err *err);

/* Takes runs out. One that is a baseline is refused unless `force`, which takes the baseline out
 * too. All or none. */
mu_status mu_store_remove(struct mu_store *s, const struct mu_store_ids *ids, bool force,
                          struct mu_err *err);

/* The run that later ones of the same `name` are compared with. Finding none is MU_E_MISSING. */
mu_status mu_store_baseline_set(struct mu_store *s, const char *name, const char *id,
                                struct mu_err *err);
mu_status mu_store_baseline_get(struct mu_store *s, const char *name, char id[MU_STORE_ID_SIZE],
                                struct mu_err *err);
/* The name that a run is the baseline of, "" when it is none. */
mu_status mu_store_baseline_name(struct mu_store *s, const char *id, struct mu_text *out,
                                 struct mu_err *err);

#endif
