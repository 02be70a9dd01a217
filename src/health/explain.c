/* What the catalogue knows of one line, all rows that match it, for `--explain`. */
#include "base/alloc.h"
#include "base/utf8.h"
#include "health/health_int.h"

static const char *const class_texts[MU_HEALTH_CLASS_COUNT] = {
#define CLASS_TEXT(name, text) [MU_HEALTH_CLASS_##name] = (text),
    MU_HEALTH_CLASS_TABLE(CLASS_TEXT)
#undef CLASS_TEXT
};

struct matched {
    const struct mu_health_row *row;
    const struct mu_health_match *match;
};

static bool group_add(const void *context, const char *key, struct mu_text *out)
{
    const struct matched *m = context;
    for (unsigned i = 0; i < m->row->n_groups; i++) {
        if (strcmp(m->row->groups[i].name, key) != 0 || !m->match->groups[i].p) continue;
        char text[MU_HEALTH_FACT_TEXT_MAX];
        (void)mu_utf8_copy_harmless(text, sizeof text, m->match->groups[i], '\0');
        mu_text_str(out, text);
        return true;
    }
    return false;
}

static json_t *cure_json(const struct matched *m)
{
    struct mu_text text;
    mu_text_init(&text, 4096);
    mu_health_cure_expand(m->row->cure, group_add, m, &text);
    json_t *cure = json_string(mu_text_get(&text));
    mu_text_fini(&text);
    return cure;
}

static json_t *row_json(const struct mu_health_row *row, const struct mu_health_match *match)
{
    json_t *facts = json_object();
    struct matched m = {row, match};
    for (unsigned i = 0; i < row->n_groups; i++)
        if (match->groups[i].p)
            (void)json_object_set_new(facts, row->groups[i].name,
                                      json_stringn(match->groups[i].p, match->groups[i].len));
    const char *family = mu_health_family_of(row->cause);
    bool marks = row->class == MU_HEALTH_CLASS_MARK;
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:s, s:o, s:s, s:o, s:o}", "row", row->name, "engine",
        row->engine, "versions", row->versions, "class", class_texts[row->class], "cause",
        row->cause[0] && !marks ? json_string(row->cause) : json_null(), "meaning", row->meaning,
        "cure", cure_json(&m), "source", row->source, "facts", facts, "page",
        family[0] ? json_sprintf("docs/findings/%s.md#%s", family, row->cause) : json_null());
}

/* What the line is to a diagnosis comes first, then the other rows that match it. */
static unsigned rank_of(const struct mu_health_row *row)
{
    unsigned class = row->class;
    return class < MU_HEALTH_CLASS_NOISE ? class + MU_HEALTH_CLASS_COUNT : class;
}

static mu_status rows_match(struct mu_health_catalog *c, const struct mu_health_line *line,
                            json_t *rows, struct mu_err *err)
{
    unsigned ranks[MU_HEALTH_ROWS_MAX];
    for (unsigned i = 0; i < c->n_rows; i++) {
        struct mu_health_match match;
        MU_TRY(mu_health_row_match(c, &c->rows[i], line, &match, err));
        if (!match.found) continue;
        size_t n = json_array_size(rows), at = n;
        for (; at > 0 && ranks[at - 1] > rank_of(&c->rows[i]); at--)
            ranks[at] = ranks[at - 1];
        ranks[at] = rank_of(&c->rows[i]);
        if (json_array_insert_new(rows, at, row_json(&c->rows[i], &match)) != 0)
            return mu_fail_memory(err, 0);
    }
    return MU_OK;
}

mu_status mu_health_explain(struct mu_health_catalog *c, struct mu_str text, json_t **out,
                            bool *known, struct mu_err *err)
{
    if (text.len > (size_t)24 << 10) text.len = (size_t)24 << 10;
    char *copy = mu_strndup(text.p, text.len);
    json_t *rows = json_array();
    struct mu_text unwrapped;
    mu_text_init(&unwrapped, (size_t)64 << 10);
    mu_status status = copy && rows ? MU_OK : mu_fail_memory(err, text.len);
    if (status == MU_OK) {
        struct mu_health_line line;
        size_t len = mu_health_strip_controls(copy, text.len);
        mu_health_line_parse((struct mu_str){copy, len}, &unwrapped, &line);
        status = rows_match(c, &line, rows, err);
    }
    *known = json_array_size(rows) > 0;
    if (status == MU_OK) {
        *out = json_pack("{s:b, s:O}", "known", *known, "rows", rows);
        if (!*out) status = mu_fail_memory(err, 0);
    }
    json_decref(rows);
    mu_text_fini(&unwrapped);
    mu_free(copy);
    return status;
}

static const char *string_of(const json_t *row, const char *key)
{
    const char *s = json_string_value(json_object_get(row, key));
    return s ? s : "";
}

static void add_row(const json_t *row, struct mu_text *out)
{
    mu_text_printf(out, "%s: %s, %s %s\n   %s\n", string_of(row, "row"), string_of(row, "class"),
                   string_of(row, "engine"), string_of(row, "versions"), string_of(row, "meaning"));
    if (string_of(row, "cure")[0]) mu_text_str(out, "   cure\n");
    for (const char *p = string_of(row, "cure"); *p;) {
        size_t n = strcspn(p, "\n");
        mu_text_printf(out, "      %.*s\n", (int)n, p);
        p += n + (p[n] == '\n');
    }
    if (string_of(row, "page")[0]) mu_text_printf(out, "   more: %s\n", string_of(row, "page"));
}

void mu_health_explain_text(const json_t *explanation, struct mu_text *out)
{
    const json_t *rows = json_object_get(explanation, "rows");
    size_t i, n = json_array_size(rows);
    const json_t *row;
    json_array_foreach(rows, i, row)
    {
        if (i == 0)
            add_row(row, out);
        else
            mu_text_printf(out, "%s%s%s", i == 1 ? "   also: " : ", ", string_of(row, "row"),
                           i + 1 == n ? "\n" : "");
    }
    if (n == 0) mu_text_str(out, "unknown: no row of the catalogue matches this line\n");
}
