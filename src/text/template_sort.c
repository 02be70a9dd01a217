/* Chat templates: the filters that order, group or compare items by a key. */
#include "text/template_int.h"

#include "base/number.h"

static bool arg_true(const struct call *c, unsigned i)
{
    return mu_tpl_truth(c->v[i]);
}

mu_status mu_tpl_sort(struct render *r, struct sortable *items, uint32_t n, bool reverse)
{
    struct sortable *from = items, *to;
    MU_TRY(mu_tpl_alloc(r, n, sizeof *to, &to));
    for (uint32_t run = 1; run < n; run *= 2) {
        MU_TRY(mu_tpl_charge(r, n));
        for (uint32_t start = 0, w = 0; start < n; start += 2 * run) {
            uint32_t a = start, mid = MU_MIN(start + run, n), b = mid, end = MU_MIN(mid + run, n);
            while (a < mid || b < end) {
                int order = 0;
                if (a < mid && b < end)
                    MU_TRY(mu_tpl_compare(r, from[b].key, from[a].key, "<", &order));
                bool take_b = a == mid || (b < end && order == (reverse ? 1 : -1));
                to[w++] = take_b ? from[b++] : from[a++];
            }
        }
        struct sortable *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != items) memcpy(items, from, n * sizeof *items);
    return MU_OK;
}

mu_status mu_tpl_sorted_entries(struct render *r, const struct dict *d,
                                const struct dict_entry **out)
{
    struct sortable *s;
    MU_TRY(mu_tpl_alloc(r, d->n, sizeof *s, &s));
    for (uint32_t i = 0; i < d->n; i++)
        s[i] = (struct sortable){d->entries[i].key, d->entries[i].value};
    MU_TRY(mu_tpl_sort(r, s, d->n, false));
    struct dict_entry *entries;
    MU_TRY(mu_tpl_alloc(r, d->n, sizeof *entries, &entries));
    for (uint32_t i = 0; i < d->n; i++)
        entries[i] = (struct dict_entry){s[i].key, s[i].item};
    *out = entries;
    return MU_OK;
}

static mu_status fold_case(struct render *r, struct value v, bool keep, struct value *out)
{
    *out = v;
    return keep || v.kind != V_STRING ? MU_OK : mu_tpl_case(r, v, CASE_LOWER, out);
}

/* item.a.0.b: the value that an attribute argument names; V_MISSING or none names the item. */
mu_status mu_tpl_attribute(struct render *r, struct value item, struct value attribute,
                           struct value *out)
{
    *out = item;
    if (attribute.kind == V_INT) return mu_tpl_item(r, item, attribute, out);
    if (attribute.kind != V_STRING) return MU_OK;
    struct mu_str rest = mu_tpl_text(attribute);
    for (;;) {
        const char *dot = memchr(rest.p, '.', rest.len);
        struct mu_str part = {rest.p, dot ? (size_t)(dot - rest.p) : rest.len};
        uint64_t index;
        bool number = mu_parse_u64(part, 0, INT64_MAX, &index);
        MU_TRY(mu_tpl_item(r, *out, number ? mu_tpl_int((int64_t)index) : mu_tpl_str(part), out));
        if (!dot) return MU_OK;
        rest = (struct mu_str){dot + 1, rest.len - part.len - 1};
    }
}

/* What an item is compared by: the value of its attribute. */
static mu_status key_of(struct render *r, struct value item, struct value attribute, bool keep_case,
                        struct value *out)
{
    MU_TRY(mu_tpl_attribute(r, item, attribute, out));
    return fold_case(r, *out, keep_case, out);
}

/* sort's key: a list, as several attributes may be named; lists never compare what is equal, so
 * that items without the attribute do not fail. */
static mu_status sort_key(struct render *r, struct value item, struct value attribute,
                          bool keep_case, struct value *out)
{
    struct mu_str rest =
        attribute.kind == V_STRING ? mu_tpl_text(attribute) : (struct mu_str){"", 0};
    uint32_t n = 1;
    struct value *keys;
    for (size_t at = 0; at < rest.len; at++)
        n += rest.p[at] == ',';
    MU_TRY(mu_tpl_alloc(r, n, sizeof *keys, &keys));
    for (uint32_t i = 0; i < n; i++) {
        const char *comma = rest.len ? memchr(rest.p, ',', rest.len) : NULL;
        struct mu_str one = {rest.p, comma ? (size_t)(comma - rest.p) : rest.len};
        struct value name = attribute.kind == V_STRING ? mu_tpl_str(one) : attribute;
        MU_TRY(key_of(r, item, name, keep_case, &keys[i]));
        if (comma) rest = (struct mu_str){comma + 1, rest.len - one.len - 1};
    }
    *out = mu_tpl_list(keys, n);
    return MU_OK;
}

typedef mu_status (*key_fn)(struct render *r, struct value item, struct value attribute,
                            bool keep_case, struct value *out);

static mu_status sortables(struct render *r, struct value over, key_fn key, struct value attribute,
                           bool keep_case, struct sortable **out, uint32_t *n)
{
    struct value list;
    MU_TRY(mu_tpl_items(r, over, &list));
    MU_TRY(mu_tpl_alloc(r, list.len, sizeof **out, out));
    *n = list.len;
    for (uint32_t i = 0; i < list.len; i++) {
        (*out)[i].item = list.items[i];
        MU_TRY(key(r, list.items[i], attribute, keep_case, &(*out)[i].key));
    }
    return MU_OK;
}

static mu_status list_of(struct render *r, const struct sortable *s, uint32_t n, struct value *out)
{
    struct value *items;
    MU_TRY(mu_tpl_alloc(r, n, sizeof *items, &items));
    for (uint32_t i = 0; i < n; i++)
        items[i] = s[i].item;
    *out = mu_tpl_list(items, n);
    return MU_OK;
}

mu_status mu_tpl_filter_sort(struct render *r, const struct call *c, struct value *out)
{
    struct sortable *s;
    uint32_t n;
    MU_TRY(sortables(r, c->self, sort_key, c->v[2], arg_true(c, 1), &s, &n));
    MU_TRY(mu_tpl_sort(r, s, n, arg_true(c, 0)));
    return list_of(r, s, n, out);
}

mu_status mu_tpl_filter_dictsort(struct render *r, const struct call *c, struct value *out)
{
    if (c->self.kind != V_DICT)
        return mu_tpl_fail(r, "'%s' object has no attribute 'items'", mu_tpl_type(c->self));
    bool by_value = c->v[1].kind == V_STRING && mu_str_is(mu_tpl_text(c->v[1]), "value");
    struct value pairs = {.kind = V_VIEW, .flag = VIEW_ITEMS, .dict = c->self.dict};
    struct sortable *s;
    uint32_t n;
    MU_TRY(sortables(r, pairs, key_of, mu_tpl_int(by_value), arg_true(c, 0), &s, &n));
    MU_TRY(mu_tpl_sort(r, s, n, arg_true(c, 2)));
    return list_of(r, s, n, out);
}

mu_status mu_tpl_filter_unique(struct render *r, const struct call *c, struct value *out)
{
    struct sortable *s;
    struct value seen;
    const struct value *found;
    uint32_t n, kept = 0;
    MU_TRY(sortables(r, c->self, key_of, c->v[1], arg_true(c, 0), &s, &n));
    MU_TRY(mu_tpl_dict(r, &seen));
    for (uint32_t i = 0; i < n; i++) {
        MU_TRY(mu_tpl_dict_get(r, seen.dict, s[i].key, &found));
        if (found) continue;
        MU_TRY(mu_tpl_dict_set(r, seen.dict, s[i].key, MU_TPL_NONE));
        s[kept++] = s[i];
    }
    struct value list;
    MU_TRY(list_of(r, s, kept, &list));
    return mu_tpl_generator(r, "generator", list, out);
}

/* How: -1 the smallest, 1 the greatest; the first of equals. */
mu_status mu_tpl_filter_extreme(struct render *r, const struct call *c, struct value *out)
{
    struct sortable *s;
    uint32_t n, best = 0;
    MU_TRY(sortables(r, c->self, key_of, c->v[1], arg_true(c, 0), &s, &n));
    if (n == 0) return mu_tpl_undefined_hint(r, "no aggregated item, the sequence was empty", out);
    for (uint32_t i = 1; i < n; i++) {
        int order;
        MU_TRY(mu_tpl_compare(r, s[i].key, s[best].key, c->how < 0 ? "<" : ">", &order));
        if (order == c->how) best = i;
    }
    *out = s[best].item;
    return MU_OK;
}

mu_status mu_tpl_filter_groupby(struct render *r, const struct call *c, struct value *out)
{
    struct sortable *s;
    struct value *groups;
    uint32_t n, n_groups = 0;
    MU_TRY(sortables(r, c->self, key_of, c->v[0], arg_true(c, 2), &s, &n));
    for (uint32_t i = 0; i < n; i++)
        if (s[i].key.kind == V_UNDEFINED && c->v[1].kind != V_MISSING) s[i].key = c->v[1];
    MU_TRY(mu_tpl_sort(r, s, n, false));
    MU_TRY(mu_tpl_alloc(r, n, sizeof *groups, &groups));
    for (uint32_t i = 0, end; i < n; i = end) {
        bool same = true;
        for (end = i; end < n && same; end += same)
            MU_TRY(mu_tpl_equal(r, s[i].key, s[end].key, &same));
        struct value *pair;
        MU_TRY(mu_tpl_alloc(r, 2, sizeof *pair, &pair));
        MU_TRY(mu_tpl_attribute(r, s[i].item, c->v[0], &pair[0]));
        if (pair[0].kind == V_UNDEFINED) pair[0] = s[i].key;
        MU_TRY(list_of(r, s + i, end - i, &pair[1]));
        groups[n_groups++] =
            (struct value){.kind = V_TUPLE, .flag = TUPLE_GROUP, .len = 2, .items = pair};
    }
    *out = mu_tpl_list(groups, n_groups);
    return MU_OK;
}
