/*
 * The texts that any match of a pattern must hold, found by reading the pattern: runs of plain
 * characters outside of anything optional, or all the alternatives of a group. Knows nothing of
 * lines; the catalogue calls it once a row. Patterns come from a file that people edit: nesting is
 * bounded.
 */
#include "base/alloc.h"
#include "health/health_int.h"

#define DEPTH_MAX 8
#define RUN_MAX   96

struct set {
    struct mu_str items[MU_HEALTH_LITERAL_SET_MAX];
    unsigned n; /* 0: nothing is known */
};

struct reader {
    const char *p;
    struct mu_arena *arena;
    bool plain; /* nothing but plain characters so far */
    bool out_of_memory;
};

static size_t set_shortest(const struct set *set)
{
    size_t shortest = set->n ? SIZE_MAX : 0;
    for (unsigned i = 0; i < set->n; i++)
        shortest = MU_MIN(shortest, set->items[i].len);
    return shortest;
}

/* Longer texts are rarer and fewer of them are cheaper. */
static void set_keep_better(struct set *best, const struct set *other)
{
    size_t a = MU_MIN(set_shortest(best), (size_t)16) * 8;
    size_t b = MU_MIN(set_shortest(other), (size_t)16) * 8;
    if (other->n && (!best->n || b + best->n > a + other->n)) *best = *other;
}

static void run_flush(struct reader *r, struct set *best, char *run, size_t *len)
{
    if (*len >= MU_HEALTH_LITERAL_MIN) {
        struct set one = {.n = 1};
        one.items[0] = (struct mu_str){mu_arena_strndup(r->arena, run, *len), *len};
        if (one.items[0].p)
            set_keep_better(best, &one);
        else
            r->out_of_memory = true;
    }
    *len = 0;
}

/* Reads what follows an atom; true when the atom may be absent, `*many` when it may repeat. */
static bool quantifier(struct reader *r, bool *many)
{
    bool optional = *r->p == '?' || *r->p == '*' || (r->p[0] == '{' && r->p[1] == '0');
    *many = *r->p == '+' || *r->p == '*' || *r->p == '{';
    if (*r->p == '{') r->p += strcspn(r->p, "}");
    if (optional || *many) {
        r->plain = false;
        if (*r->p) r->p++;
        if (*r->p == '?' || *r->p == '+') r->p++;
    }
    return optional;
}

static void class_skip(struct reader *r)
{
    r->p++;
    if (*r->p == '^') r->p++;
    if (*r->p == ']') r->p++;
    for (; *r->p && *r->p != ']'; r->p++)
        if (*r->p == '\\' && r->p[1]) r->p++;
    if (*r->p) r->p++;
}

/* Steps over "(", "(?:" or "(?<name>"; false for a kind of group that need not match text. */
static bool group_open(struct reader *r)
{
    r->p++;
    if (*r->p != '?') return true;
    r->p++;
    if (*r->p == ':') {
        r->p++;
        return true;
    }
    if (*r->p != '<' || r->p[1] == '=' || r->p[1] == '!') return false;
    r->p += strcspn(r->p, ">)");
    if (*r->p == '>') r->p++;
    return true;
}

static void alternation(struct reader *r, unsigned depth, struct set *out);

static void group(struct reader *r, unsigned depth, struct set *best)
{
    struct set inner = {0};
    bool counts = group_open(r), many;
    r->plain = false;
    alternation(r, depth + 1, &inner);
    if (*r->p == ')') r->p++;
    if (!quantifier(r, &many) && counts) set_keep_better(best, &inner);
}

/* A plain character that JSON does not escape, so that it is the same in docker's files. */
static bool is_plain(const char *p, char *c)
{
    if (*p == '\\') {
        *c = p[1];
        return p[1] && strchr(".()[]{}*+?|^$/-'", p[1]);
    }
    *c = *p;
    return !strchr(".()[]{}*+?|^$\"<>&\\", *p) && (unsigned char)*p >= ' ';
}

static void concatenation(struct reader *r, unsigned depth, struct set *best)
{
    char run[RUN_MAX], c;
    size_t len = 0;
    while (*r->p && *r->p != '|' && *r->p != ')') {
        bool many = false;
        if (*r->p == '(' && depth < DEPTH_MAX) {
            run_flush(r, best, run, &len);
            group(r, depth, best);
        } else if (is_plain(r->p, &c)) {
            r->p += *r->p == '\\' ? 2 : 1;
            if (len == RUN_MAX) run_flush(r, best, run, &len);
            bool optional = quantifier(r, &many);
            if (!optional) run[len++] = c;
            if (optional || many) run_flush(r, best, run, &len);
        } else {
            run_flush(r, best, run, &len);
            r->plain = false;
            if (*r->p == '[')
                class_skip(r);
            else
                r->p += r->p[0] == '\\' && r->p[1] ? 2 : 1;
            (void)quantifier(r, &many);
        }
    }
    run_flush(r, best, run, &len);
}

static void alternation(struct reader *r, unsigned depth, struct set *out)
{
    bool all = true;
    for (;;) {
        struct set branch = {0};
        concatenation(r, depth, &branch);
        all = all && branch.n && out->n + branch.n <= MU_HEALTH_LITERAL_SET_MAX;
        for (unsigned i = 0; all && i < branch.n; i++)
            out->items[out->n++] = branch.items[i];
        if (*r->p != '|') break;
        r->plain = false;
        r->p++;
    }
    if (!all) out->n = 0;
}

int mu_health_literals_of(const char *pattern, struct mu_arena *arena,
                          struct mu_str out[MU_HEALTH_LITERAL_SET_MAX])
{
    struct reader r = {.p = pattern, .arena = arena, .plain = true};
    struct set set = {0};
    alternation(&r, 0, &set);
    if (r.out_of_memory) return -1;
    if (*r.p) return 0; /* a closing bracket too many: the compiler will say so */
    memcpy(out, set.items, sizeof set.items);
    return (int)set.n;
}

struct mu_str mu_health_plain_of(const char *pattern, struct mu_arena *arena)
{
    struct reader r = {.p = pattern, .arena = arena, .plain = true};
    struct set set = {0};
    alternation(&r, 0, &set);
    return r.plain && set.n == 1 ? set.items[0] : (struct mu_str){"", 0};
}
