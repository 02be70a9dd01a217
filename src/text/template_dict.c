/*
 * Chat templates: dictionaries, in the order of their entries, as Python has them. They live in the
 * render's arena. Knows no syntax.
 */
#include "text/template_int.h"

#include <math.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

/* Dictionaries: up to this many entries are searched in a row, more through an index. */
#define DICT_ROW 8

mu_status mu_tpl_dict(struct render *r, struct value *out)
{
    struct dict *d;
    MU_TRY(mu_tpl_alloc(r, 1, sizeof *d, &d));
    *out = (struct value){.kind = V_DICT, .dict = d};
    return MU_OK;
}

static mu_status hash_of(struct render *r, struct value key, uint64_t *out)
{
    uint64_t hash = r->seed ^ key.kind;
    mu_tpl_wide w;
    double f;
    switch ((enum value_kind)key.kind) {
    case V_STRING:
        hash = XXH3_64bits_withSeed(key.s, key.len, r->seed);
        break;
    case V_BOOL:
    case V_INT:
    case V_WIDE:
    case V_FLOAT: /* equal numbers of different types are the same key */
        if (mu_tpl_wide_of(key, &w))
            hash = XXH3_64bits_withSeed(&w, sizeof w, r->seed);
        else if (mu_tpl_number(key, &f) && f == floor(f) && fabs(f) < 1e30)
            w = (mu_tpl_wide)f, hash = XXH3_64bits_withSeed(&w, sizeof w, r->seed);
        else
            hash = XXH3_64bits_withSeed(&f, sizeof f, r->seed);
        break;
    case V_TUPLE:
        MU_TRY(mu_tpl_enter(r));
        for (uint32_t i = 0; i < key.len; i++) {
            uint64_t one;
            MU_TRY(mu_tpl_charge(r, 1));
            MU_TRY(hash_of(r, key.items[i], &one));
            hash = XXH3_64bits_withSeed(&one, sizeof one, hash);
        }
        mu_tpl_leave(r);
        break;
    case V_LIST:
    case V_DICT:
        return mu_tpl_fail(r, "unhashable type: '%s'", mu_tpl_type(key));
    case V_MISSING:
    case V_UNDEFINED:
    case V_NONE:
    case V_VIEW:
    case V_RANGE:
    case V_GENERATOR:
    case V_NAMESPACE:
    case V_LOOP:
    case V_MACRO:
    case V_FUNCTION:
    case V_METHOD:
        break;
    }
    *out = hash;
    return MU_OK;
}

static void index_add(struct dict *d, uint64_t hash, uint32_t entry)
{
    uint32_t at = (uint32_t)hash & (d->index_size - 1);
    while (d->index[at])
        at = (at + 1) & (d->index_size - 1);
    d->index[at] = entry + 1;
}

static mu_status index_build(struct render *r, struct dict *d)
{
    uint32_t size = 32;
    while (size < d->n * 3)
        size *= 2;
    MU_TRY(mu_tpl_alloc(r, size, sizeof *d->index, &d->index));
    d->index_size = size;
    for (uint32_t i = 0; i < d->n; i++) {
        uint64_t hash = 0;
        MU_TRY(hash_of(r, d->entries[i].key, &hash));
        index_add(d, hash, i);
    }
    return mu_tpl_charge(r, d->n / 4);
}

/* The entry of a key; NULL when there is none. */
static mu_status dict_find(struct render *r, struct dict *d, struct value key,
                           struct dict_entry **out)
{
    uint64_t hash = 0;
    bool same;
    *out = NULL;
    if (key.kind != V_STRING || d->n > DICT_ROW) MU_TRY(hash_of(r, key, &hash));
    if (d->n > DICT_ROW && !d->index) MU_TRY(index_build(r, d));
    if (!d->index) {
        for (uint32_t i = 0; i < d->n && !*out; i++) {
            struct dict_entry *e = &d->entries[i];
            if (key.kind == V_STRING && e->key.kind == V_STRING)
                same = mu_str_equal(mu_tpl_text(e->key), mu_tpl_text(key));
            else
                MU_TRY(mu_tpl_equal(r, e->key, key, &same));
            if (same) *out = e;
        }
        return MU_OK;
    }
    for (uint32_t at = (uint32_t)hash & (d->index_size - 1); d->index[at] && !*out;
         at = (at + 1) & (d->index_size - 1)) {
        struct dict_entry *e = &d->entries[d->index[at] - 1];
        MU_TRY(mu_tpl_equal(r, e->key, key, &same));
        if (same) *out = e;
    }
    return MU_OK;
}

mu_status mu_tpl_dict_get(struct render *r, struct dict *d, struct value key,
                          const struct value **out)
{
    struct dict_entry *e;
    MU_TRY(dict_find(r, d, key, &e));
    *out = e ? &e->value : NULL;
    return MU_OK;
}

mu_status mu_tpl_dict_reserve(struct render *r, struct dict *d, uint32_t room)
{
    struct dict_entry *grown;
    MU_TRY(mu_tpl_alloc(r, room, sizeof *grown, &grown));
    if (d->n) memcpy(grown, d->entries, d->n * sizeof *grown);
    d->entries = grown;
    d->room = room;
    return MU_OK;
}

mu_status mu_tpl_dict_set(struct render *r, struct dict *d, struct value key, struct value v)
{
    struct dict_entry *e;
    MU_TRY(dict_find(r, d, key, &e));
    if (e) {
        e->value = v;
        return MU_OK;
    }
    if (d->n == d->room) MU_TRY(mu_tpl_dict_reserve(r, d, d->room ? d->room * 2 : 4));
    d->entries[d->n++] = (struct dict_entry){key, v};
    if (d->index && d->n * 3 > d->index_size * 2) {
        d->index = NULL;
    } else if (d->index) {
        uint64_t hash = 0;
        MU_TRY(hash_of(r, key, &hash));
        index_add(d, hash, d->n - 1);
    }
    return MU_OK;
}
