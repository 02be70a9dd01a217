/*
 * report: how figures are laid out for people. Knows nothing of what they mean. One thread.
 */
#ifndef MU_REPORT_REPORT_H
#define MU_REPORT_REPORT_H

#include "base/text.h"
#include "report/html.h"

struct mu_report_table;

/* `heads` are the columns' names; one that begins with '>' stands right. */
mu_status mu_report_table_create(const char *const *heads, unsigned n_columns,
                                 struct mu_report_table **out, struct mu_err *err);
void mu_report_table_destroy(struct mu_report_table *t);
/* Begins a row; cells that are not set stay empty. */
void mu_report_table_row(struct mu_report_table *t);
void mu_report_table_cell(struct mu_report_table *t, unsigned column, const char *format, ...)
    MU_PRINTF(3, 4);
/* Appends the table, its columns as wide as they need; fails when memory was out anywhere. */
mu_status mu_report_table_print(struct mu_report_table *t, struct mu_text *out, struct mu_err *err);

/* A line of comma-separated values. */
void mu_report_csv_row(const char *const *cells, size_t n, struct mu_text *out);

#endif
