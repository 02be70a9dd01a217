/* Comma-separated values as RFC 4180 has them; see report.h. */
#include "report/report.h"

void mu_report_csv_row(const char *const *cells, size_t n, struct mu_text *out)
{
    for (size_t i = 0; i < n; i++) {
        bool quoted = cells[i][strcspn(cells[i], ",\"\r\n")] != '\0';
        mu_text_str(out, i ? "," : "");
        if (quoted) mu_text_char(out, '"');
        for (const char *p = cells[i]; *p; p++) {
            if (*p == '"') mu_text_char(out, '"');
            mu_text_char(out, *p);
        }
        if (quoted) mu_text_char(out, '"');
    }
    mu_text_str(out, "\r\n");
}
