/* The conditions that runs differ in, between two sets or within one; see runs.h. */
#include "cli/runs.h"

#define VALUES_SHOWN 4 /* of one condition in one set */

/* What every run has besides its settings. */
static const struct {
    const char *name;
    size_t offset;
} fields[] = {
    {"command", offsetof(struct mu_store_run, command)},
    {"model", offsetof(struct mu_store_run, model)},
    {"machine", offsetof(struct mu_store_run, machine)},
    {"host", offsetof(struct mu_store_run, host)},
    {"version", offsetof(struct mu_store_run, version)},
};

static const char *value_of(const struct mu_store_run *run, const char *name)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(fields); i++)
        if (strcmp(fields[i].name, name) == 0)
            return *(const char *const *)((const char *)run + fields[i].offset);
    return mu_store_run_setting_get(run, name);
}

/* Every value once, in the order of the runs. */
static json_t *values_of(const struct mu_runs_set *set, const char *name)
{
    json_t *values = json_array();
    for (size_t i = 0; i < set->n; i++) {
        json_t *value = json_string(value_of(&set->runs[i], name)), *other;
        size_t k;
        bool known = false;
        json_array_foreach(values, k, other) known = known || json_equal(value, other);
        if (known)
            json_decref(value);
        else
            (void)json_array_append_new(values, value);
    }
    return values;
}

static bool told(const json_t *conditions, const char *name)
{
    json_t *c;
    size_t i;
    json_array_foreach(conditions, i, c) if (strcmp(json_string_value(json_object_get(c, "name")),
                                                    name) == 0) return true;
    return false;
}

static void look(json_t *out, const struct mu_runs_set sets[2], const char *name)
{
    if (told(out, name)) return;
    json_t *a = values_of(&sets[0], name), *b = values_of(&sets[1], name);
    if (json_array_size(a) > 1 || !json_equal(a, b))
        (void)json_array_append_new(out,
                                    json_pack("{s:s, s:O, s:O}", "name", name, "a", a, "b", b));
    json_decref(a);
    json_decref(b);
}

json_t *mu_runs_unlike(const struct mu_runs_set sets[2])
{
    json_t *out = json_array();
    for (size_t i = 0; i < MU_ARRAY_LEN(fields); i++)
        look(out, sets, fields[i].name);
    for (int side = 0; side < 2; side++)
        for (size_t r = 0; r < sets[side].n; r++) {
            size_t n;
            const struct mu_store_setting *s = mu_store_run_settings(&sets[side].runs[r], &n);
            for (size_t i = 0; i < n; i++)
                look(out, sets, s[i].name);
        }
    return out;
}

void mu_runs_unlike_values(const json_t *condition, const char *side, struct mu_text *out)
{
    const json_t *values = json_object_get(condition, side);
    size_t n = json_array_size(values);
    for (size_t i = 0; i < n && i < VALUES_SHOWN; i++)
        mu_text_printf(out, "%s%s", i ? ", " : "", json_string_value(json_array_get(values, i)));
    if (n > VALUES_SHOWN) mu_text_printf(out, " and %zu more", n - VALUES_SHOWN);
}

/* "model, devices": the conditions that differ between the sets (`side` NULL) or within one. A
 * seed that was drawn is no condition that anybody chose. */
static size_t add_names(const json_t *unlike, const char *side, struct mu_text *out)
{
    size_t i, n = 0;
    json_t *c;
    json_array_foreach(unlike, i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        bool differs = side ? json_array_size(json_object_get(c, side)) > 1
                            : !json_equal(json_object_get(c, "a"), json_object_get(c, "b"));
        if (!differs || strcmp(name, "seed_used") == 0) continue;
        mu_text_printf(out, "%s%s", n++ ? ", " : "", name);
    }
    return n;
}

void mu_runs_unlike_say(const json_t *unlike, struct mu_text *out)
{
    static const struct {
        const char *side, *begin, *end;
    } lines[] = {
        {NULL, "A and B differ in ", ": their figures show what that does"},
        {"a", "A mixes runs that differ in ", ": its figures are means of unlike runs"},
        {"b", "B mixes runs that differ in ", ": its figures are means of unlike runs"},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(lines); i++) {
        struct mu_text names;
        mu_text_init(&names, 1 << 16);
        if (add_names(unlike, lines[i].side, &names) > 0)
            mu_text_printf(out, "%s%s%s\n", lines[i].begin, mu_text_get(&names), lines[i].end);
        mu_text_fini(&names);
    }
}
