/* What is tried, if nobody says: placements, their names, and prompts; see prove.h. */
#include "bench/prove_int.h"

#include "base/alloc.h"
#include "base/number.h"

#include <stddef.h>
#include <stdio.h>

#define TP_MOST 8
#define PP_MOST 4
#define DP_MOST 3

static const struct {
    const char *name;
    size_t offset;
    uint64_t most;
} parts[] = {
    {"tp", offsetof(struct mu_placement, tp), MU_DEVICES_MAX},
    {"pp", offsetof(struct mu_placement, pp), MU_DEVICES_MAX},
    {"dp", offsetof(struct mu_placement, dp), MU_DEVICES_MAX},
    {"t", offsetof(struct mu_placement, threads), MU_DEVICE_CPUS_MAX},
};

static uint32_t *part_of(struct mu_placement *p, size_t i)
{
    return (uint32_t *)(void *)((char *)p + parts[i].offset);
}

const char *mu_placement_name(const struct mu_placement *p, char out[MU_PLACEMENT_TEXT])
{
    const uint32_t values[] = {p->tp, p->map ? 1 : p->pp, p->dp, p->threads};
    size_t len = 0;
    bool one = p->tp == 1 && p->pp == 1 && p->dp == 1 && !p->map;
    if (p->map)
        len =
            (size_t)snprintf(out, MU_PLACEMENT_TEXT, "%s%u", mu_placement_map_name(p->map), p->pp);
    for (size_t i = 0; i < MU_ARRAY_LEN(parts); i++) {
        bool threads = i + 1 == MU_ARRAY_LEN(parts);
        if (threads ? values[i] == 0 : values[i] == 1 && !(one && i == 0)) continue;
        len += (size_t)snprintf(out + len, MU_PLACEMENT_TEXT - len, "%s%s%u", len ? "x" : "",
                                parts[i].name, values[i]);
    }
    return out;
}

/* A word and a number from 1 to `most`. */
static bool parse_word(struct mu_str text, const char *word, uint64_t most, uint32_t *out)
{
    size_t len = strlen(word);
    uint64_t n;
    if (text.len <= len || memcmp(text.p, word, len) != 0 ||
        !mu_parse_u64((struct mu_str){text.p + len, text.len - len}, 1, most, &n))
        return false;
    *out = (uint32_t)n;
    return true;
}

static bool parse_part(struct mu_str text, struct mu_placement *p)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(parts); i++)
        if (parse_word(text, parts[i].name, parts[i].most, part_of(p, i))) return true;
    for (int m = MU_MAP_NONE + 1; m < MU_MAP_GIVEN; m++)
        if (parse_word(text, mu_placement_map_name((enum mu_placement_map)m), MU_DEVICES_MAX,
                       &p->pp)) {
            p->map = (enum mu_placement_map)m;
            return true;
        }
    return false;
}

mu_status mu_prompts_default(uint32_t vocab, uint32_t most, struct mu_prompt **out, uint32_t *n,
                             struct mu_err *err)
{
    /* Attention cuts its keys at every 128: below, on and beyond that. */
    static const uint32_t lengths[] = {150, 3, 128, 39, 300};
    struct mu_prompt *prompts = mu_calloc(MU_ARRAY_LEN(lengths), sizeof *prompts);
    if (!prompts) return mu_fail_memory(err, sizeof lengths);
    for (uint32_t i = 0; i < MU_ARRAY_LEN(lengths); i++) {
        struct mu_prompt *p = &prompts[i];
        p->n = MU_MIN(lengths[i], MU_MAX(most, 1u));
        p->ids = mu_alloc(p->n * sizeof *p->ids);
        if (!p->ids) {
            mu_prompts_destroy(prompts, MU_ARRAY_LEN(lengths));
            return mu_fail_memory(err, lengths[i] * sizeof(uint32_t));
        }
        for (uint32_t j = 0; j < p->n; j++)
            p->ids[j] = (uint32_t)(((uint64_t)(i + 1) * 7919 + (uint64_t)j * 104729) % vocab);
    }
    *out = prompts;
    *n = MU_ARRAY_LEN(lengths);
    return MU_OK;
}

void mu_prompts_destroy(struct mu_prompt *prompts, uint32_t n)
{
    for (uint32_t i = 0; prompts && i < n; i++)
        mu_free(prompts[i].ids);
    mu_free(prompts);
}

mu_status mu_placements_parse(const char *text, struct mu_placement *out, uint32_t *n,
                              struct mu_err *err)
{
    struct mu_str rest = mu_str(text);
    *n = 0;
    do {
        struct mu_str item = mu_str_take(&rest, ','), left = item;
        struct mu_placement p = {.tp = 1, .pp = 1, .dp = 1};
        /* A separator at the end separates nothing. */
        bool good = item.len > 0 && item.p[item.len - 1] != 'x' && *n < MU_PLACEMENTS_MAX;
        good = good && (rest.len > 0 || item.p[item.len] == '\0');
        while (good && left.len)
            good = parse_part(mu_str_take(&left, 'x'), &p);
        if (!good || (p.map && p.tp > 1) || (uint64_t)p.tp * p.pp * p.dp > MU_DEVICES_MAX) {
            mu_status status = mu_fail(err, MU_E_USAGE, "'%.*s' is no placement",
                                       (int)MU_MIN(item.len, (size_t)40), item.p);
            mu_err_cure(err,
                        "write tp2, tp2xpp2, dp2xt1, split3, ...: at most %d, of %d devices each",
                        MU_PLACEMENTS_MAX, MU_DEVICES_MAX);
            return status;
        }
        out[(*n)++] = p;
    } while (rest.len);
    return MU_OK;
}

void mu_placements_default(bool quick, struct mu_placement *out, uint32_t *n, uint32_t *left_out)
{
    static const struct mu_placement short_list[] = {
        {1, 1, 1, 0, MU_MAP_NONE}, {2, 1, 1, 0, MU_MAP_NONE},   {3, 1, 1, 0, MU_MAP_NONE},
        {1, 2, 1, 0, MU_MAP_NONE}, {1, 1, 2, 0, MU_MAP_NONE},   {2, 2, 2, 1, MU_MAP_NONE},
        {1, 2, 1, 0, MU_MAP_BACK}, {1, 1, 1, 0, MU_MAP_OFFLOAD}};
    /* Every degree occurs beside the others, and the odd ones too. */
    static const struct mu_placement mixed[] = {
        {2, 2, 1, 0, MU_MAP_NONE}, {3, 2, 1, 0, MU_MAP_NONE}, {2, 3, 1, 0, MU_MAP_NONE},
        {4, 4, 1, 0, MU_MAP_NONE}, {8, 2, 1, 0, MU_MAP_NONE}, {2, 1, 2, 0, MU_MAP_NONE},
        {5, 1, 3, 0, MU_MAP_NONE}, {1, 2, 2, 0, MU_MAP_NONE}, {1, 4, 3, 0, MU_MAP_NONE},
        {2, 2, 2, 0, MU_MAP_NONE}, {6, 2, 2, 0, MU_MAP_NONE}, {7, 3, 3, 0, MU_MAP_NONE},
        {1, 1, 1, 1, MU_MAP_NONE}, {1, 1, 1, 2, MU_MAP_NONE}, {1, 1, 1, 3, MU_MAP_NONE},
        {2, 1, 1, 2, MU_MAP_NONE}, {2, 2, 2, 3, MU_MAP_NONE}};
    static const struct mu_placement mapped[] = {
        {1, 2, 1, 0, MU_MAP_BALANCED}, {1, 2, 1, 0, MU_MAP_BACK},  {1, 3, 2, 1, MU_MAP_BACK},
        {1, 2, 1, 0, MU_MAP_SPLIT},    {1, 3, 1, 1, MU_MAP_SPLIT}, {1, 1, 1, 0, MU_MAP_OFFLOAD},
        {1, 2, 2, 0, MU_MAP_OFFLOAD},  {1, 1, 1, 0, MU_MAP_DISK},  {1, 2, 1, 2, MU_MAP_DISK}};
    uint32_t products = 0;
    *n = 0;
    if (quick) {
        memcpy(out, short_list, sizeof short_list);
        *n = MU_ARRAY_LEN(short_list);
    } else {
        for (uint32_t i = 1; i <= TP_MOST; i++)
            out[(*n)++] = (struct mu_placement){.tp = i, .pp = 1, .dp = 1};
        for (uint32_t i = 2; i <= PP_MOST; i++)
            out[(*n)++] = (struct mu_placement){.tp = 1, .pp = i, .dp = 1};
        for (uint32_t i = 2; i <= DP_MOST; i++)
            out[(*n)++] = (struct mu_placement){.tp = 1, .pp = 1, .dp = i};
        memcpy(out + *n, mixed, sizeof mixed);
        *n += MU_ARRAY_LEN(mixed);
        memcpy(out + *n, mapped, sizeof mapped);
        *n += MU_ARRAY_LEN(mapped);
    }
    for (uint32_t i = 0; i < *n; i++)
        products += out[i].threads == 0 && !out[i].map;
    *left_out = TP_MOST * PP_MOST * DP_MOST - products;
}
