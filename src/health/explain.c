/* What the catalogue knows of one line, all rows that match it, for `--explain`. */
#include "base/alloc.h"
#include "health/health_int.h"

static const char *const class_texts[MU_HEALTH_CLASS_COUNT] = {
#define CLASS_TEXT(name, text) [MU_HEALTH_CLASS_##name] = text,
    MU_HEALTH_CLASS_TABLE(CLASS_TEXT)
#undef CLASS_TEXT
};

static json_t *row_json(const struct mu_health_row *row, const struct mu_health_match *match)
{
    json_t *facts = json_object();
    for (unsigned i = 0; i < row->n_groups; i++)
        if (match->groups[i].p)
            (void)json_object_set_new(facts, row->groups[i].name,
                                      json_stringn(match->groups[i].p, match->groups[i].len));
    const char *family = mu_health_family_of(row->cause);
    json_t *page =
        family[0] ? json_sprintf("docs/findings/%s.md#%s", family, row->cause) : json_null();
    return json_pack(
        "{s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:s, s:o, s:o}", "row", row->name, "engine",
        row->engine, "versions", row->versions, "class", class_texts[row->class], "cause",
        row->cause[0] && row->class != MU_HEALTH_CLASS_MARK ? json_string(row->cause) : json_null(),
        "meaning", row->meaning, "cure", row->cure, "source", row->source, "facts", facts, "page",
        page);
}

static mu_status rows_match(struct mu_health_catalog *c, const struct mu_health_line *line,
                            json_t *rows, struct mu_err *err)
{
    for (unsigned i = 0; i < c->n_rows; i++) {
        struct mu_health_match match;
        MU_TRY(mu_health_row_match(c, &c->rows[i], line, &match, err));
        if (match.found && json_array_append_new(rows, row_json(&c->rows[i], &match)) != 0)
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

void mu_health_explain_text(const json_t *explanation, struct mu_text *out)
{
    size_t i;
    const json_t *row;
    json_array_foreach(json_object_get(explanation, "rows"), i, row)
    {
        mu_text_printf(out, "%s: %s, %s %s\n", string_of(row, "row"), string_of(row, "class"),
                       string_of(row, "engine"), string_of(row, "versions"));
        mu_text_printf(out, "   %s\n", string_of(row, "meaning"));
        if (string_of(row, "cure")[0]) mu_text_printf(out, "   cure: %s\n", string_of(row, "cure"));
        if (string_of(row, "page")[0]) mu_text_printf(out, "   more: %s\n", string_of(row, "page"));
    }
    if (i == 0) mu_text_str(out, "unknown: no row of the catalogue matches this line\n");
}
