/*
 * What the files of the store share: how rows look in memory and in the file, once, as tables that
 * writing, reading and JSON go by; and statements of SQLite. Private to the room.
 */
#ifndef MU_STORE_STORE_INT_H
#define MU_STORE_STORE_INT_H

#include "store/store.h"

enum store_type { STORE_TEXT, STORE_REAL, STORE_INTEGER, STORE_KIND };

struct store_column {
    const char *name;
    enum store_type type;
    size_t offset; /* in the row */
};

struct store_table {
    const char *name;
    size_t row_size;
    const struct store_column *columns; /* name NULL at the end */
};

extern const struct store_table store_runs; /* its row is struct mu_store_run */
extern const struct store_table store_lists[MU_STORE_LISTS];

static inline void *store_field(const void *row, const struct store_column *c)
{
    return (char *)(uintptr_t)row + c->offset;
}

/* An empty row at the end of a list, or NULL: then the run's fault sticks. */
void *store_row_add(struct mu_store_run *run, enum mu_store_list list);
/* False: `name` is none of the three. */
bool store_kind_parse(struct mu_str name, enum mu_store_kind *out);
/* The unit that a figure's name ends in, "" when it names none. */
const char *store_unit_of(const char *name);

#endif
