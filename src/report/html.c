/* The page around a report, its texts and tables; see html.h. */
#include "report/html.h"

#include "base/utf8.h"

static const char style[] =
    ":root{color-scheme:light dark;--ink:#1b1f24;--dim:#5b6570;--line:#d5dae0;--paper:#fff;"
    "--good:#1a7f37;--warn:#9a6700;--bad:#cf222e;--s0:#0969da;--s1:#bc4c00;--s2:#1a7f37;"
    "--s3:#8250df;--s4:#bf3989;--s5:#57606a;--s6:#7d4e00;--s7:#0a7ea4}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--dim:#9aa4ae;--line:#3a424b;"
    "--paper:#0f1419;--good:#3fb950;--warn:#d29922;--bad:#ff7b72;--s0:#58a6ff;--s1:#f0883e;"
    "--s2:#3fb950;--s3:#bc8cff;--s4:#f778ba;--s5:#b1bac4;--s6:#e3b341;--s7:#56d4dd}}"
    "body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);"
    "max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem;border-bottom:1px solid var(--line)}"
    "table{border-collapse:collapse;font-size:.9rem}th,td{text-align:left;padding:.15rem .8rem "
    ".15rem 0;vertical-align:top}td{overflow-wrap:anywhere}th{color:var(--dim);font-weight:600}"
    "td.r,th.r{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}"
    "code,pre{font:.85rem/1.4 ui-monospace,monospace;overflow-wrap:anywhere;white-space:pre-wrap}"
    ".dim{color:var(--dim)}.good{color:var(--good)}.warn{color:var(--warn)}.bad{color:var(--bad)}"
    ".verdict{font-size:1.1rem;font-weight:600}.scroll{overflow-x:auto}"
    "figure{margin:1rem 0;break-inside:avoid}svg{width:100%;height:auto;max-width:720px}"
    "svg text{font:12px system-ui,sans-serif;fill:var(--ink)}svg .d{fill:var(--dim)}"
    "svg .t{font-weight:600;font-size:13px}svg .a{stroke:var(--dim)}svg .g{stroke:var(--line)}"
    "svg .e{stroke:var(--bad);stroke-dasharray:6 4}svg .of{fill:none;stroke:var(--dim)}"
    "@media print{body{max-width:none;margin:0;font-size:11pt}}";

void mu_report_html_begin(const char *title, struct mu_text *out)
{
    mu_text_str(out, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                     "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
                     "style-src 'unsafe-inline'\">\n");
    mu_report_html_element("title", NULL, title, out);
    mu_text_printf(out, "\n<style>%s</style></head>\n<body>\n", style);
    mu_report_html_element("h1", NULL, title, out);
}

void mu_report_html_end(struct mu_text *out)
{
    mu_text_str(out, "</body></html>\n");
}

void mu_report_html_text(const char *s, struct mu_text *out)
{
    struct mu_str rest = mu_str(s);
    for (unsigned n; rest.len > 0; rest.p += n, rest.len -= n) {
        uint32_t cp = mu_utf8_decode(rest, &n);
        bool control = (cp < 0x20 && cp != '\n') || (cp >= 0x7f && cp < 0xa0);
        /* Overrides of the direction make a line read as what it is not. */
        bool turns = (cp >= 0x202a && cp <= 0x202e) || (cp >= 0x2066 && cp <= 0x2069);
        if (cp == MU_UTF8_BAD || control || turns)
            mu_text_str(out, "\xef\xbf\xbd");
        else if (strchr("<>&\"'", (int)cp) && cp < 0x80 && cp)
            mu_text_printf(out, "&#%u;", cp);
        else
            mu_text_add(out, rest.p, n);
    }
}

void mu_report_html_element(const char *tag, const char *class, const char *text,
                            struct mu_text *out)
{
    if (class)
        mu_text_printf(out, "<%s class=\"%s\">", tag, class);
    else
        mu_text_printf(out, "<%s>", tag);
    mu_report_html_text(text, out);
    mu_text_printf(out, "</%s>", tag);
}

static void add_cell(const char *tag, const char *head, const char *text, struct mu_text *out)
{
    mu_report_html_element(tag, head[0] == '>' ? "r" : NULL, text, out);
}

void mu_report_html_table_begin(const char *const *heads, size_t n, struct mu_text *out)
{
    mu_text_str(out, "<div class=\"scroll\"><table><thead><tr>");
    for (size_t i = 0; i < n; i++)
        add_cell("th", heads[i], heads[i] + (heads[i][0] == '>'), out);
    mu_text_str(out, "</tr></thead><tbody>\n");
}

void mu_report_html_row(const char *const *heads, const char *const *cells, size_t n,
                        struct mu_text *out)
{
    mu_text_str(out, "<tr>");
    for (size_t i = 0; i < n; i++)
        add_cell("td", heads[i], cells[i] ? cells[i] : "", out);
    mu_text_str(out, "</tr>\n");
}

void mu_report_html_table_end(struct mu_text *out)
{
    mu_text_str(out, "</tbody></table></div>\n");
}
