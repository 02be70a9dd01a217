/* Tables over libsmartcols; see report.h. A fault sticks until the table is printed. */
#include "base/alloc.h"
#include "report/report.h"

#include <libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define CELL_BYTES 256

struct mu_report_table {
    struct libscols_table *table;
    struct libscols_line *line;
    bool broken;
};

mu_status mu_report_table_create(const char *const *heads, unsigned n_columns,
                                 struct mu_report_table **out, struct mu_err *err)
{
    struct mu_report_table *t = mu_calloc(1, sizeof *t);
    if (!t || !(t->table = scols_new_table())) {
        mu_free(t);
        return mu_fail_memory(err, sizeof *t);
    }
    for (unsigned i = 0; i < n_columns; i++) {
        bool right = heads[i][0] == '>';
        t->broken = t->broken || !scols_table_new_column(t->table, heads[i] + right, 0,
                                                         right ? SCOLS_FL_RIGHT : 0);
    }
    /* As wide as it is, whatever the terminal: a cut figure is a wrong one. */
    (void)scols_table_enable_nowrap(t->table, 1);
    (void)scols_table_set_termforce(t->table, SCOLS_TERMFORCE_NEVER);
    *out = t;
    return MU_OK;
}

void mu_report_table_destroy(struct mu_report_table *t)
{
    if (!t) return;
    scols_unref_table(t->table);
    mu_free(t);
}

void mu_report_table_row(struct mu_report_table *t)
{
    t->line = scols_table_new_line(t->table, NULL);
    t->broken = t->broken || !t->line;
}

void mu_report_table_cell(struct mu_report_table *t, unsigned column, const char *format, ...)
{
    char cell[CELL_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(cell, sizeof cell, format, args);
    va_end(args);
    if (t->line) t->broken = scols_line_set_data(t->line, column, cell) != 0 || t->broken;
}

/* Takes the spaces off the ends of lines. */
static void lines_add(struct mu_text *out, const char *s)
{
    while (*s) {
        size_t line = strcspn(s, "\n"), n = line;
        while (n > 0 && s[n - 1] == ' ')
            n--;
        mu_text_add(out, s, n);
        mu_text_char(out, '\n');
        s += line + (s[line] == '\n');
    }
}

mu_status mu_report_table_print(struct mu_report_table *t, struct mu_text *out, struct mu_err *err)
{
    char *whole = NULL;
    if (t->broken || scols_print_table_to_string(t->table, &whole) != 0)
        return mu_fail_memory(err, CELL_BYTES);
    lines_add(out, whole);
    mu_free(whole); /* the library takes it from malloc, as mu_alloc does */
    return MU_OK;
}
