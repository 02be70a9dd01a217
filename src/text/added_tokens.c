/*
 * Finding added tokens in a text: a trie of their bytes, the longest one at the leftmost place
 * wins. Knows nothing of the rest of the pipeline. Read-only once made; any thread.
 */
#include "text/tokenizer_int.h"

#include "base/alloc.h"
#include "base/utf8.h"

#define NODES_MAX (UINT32_C(1) << 26)

struct node {
    uint32_t child, sibling; /* 0: none */
    uint32_t token;          /* of the set + 1, 0: no token ends here */
    uint8_t byte;
};

struct mu_added_set {
    const struct mu_char_table *table;
    struct mu_added_token *tokens; /* contents are not used: the trie has them */
    uint32_t n_tokens;
    struct node *nodes; /* [0] is not used */
    uint32_t n_nodes;
    uint32_t first[256]; /* nodes of the first bytes */
};

/* The node for `byte` in the list at *link, made if need be. */
static uint32_t node_get(struct mu_added_set *set, uint32_t *link, uint8_t byte)
{
    for (; *link; link = &set->nodes[*link].sibling)
        if (set->nodes[*link].byte == byte) return *link;
    uint32_t i = set->n_nodes++;
    set->nodes[i] = (struct node){.byte = byte};
    *link = i;
    return i;
}

static void insert(struct mu_added_set *set, struct mu_str s, uint32_t token)
{
    uint32_t at = node_get(set, &set->first[(uint8_t)s.p[0]], (uint8_t)s.p[0]);
    for (size_t i = 1; i < s.len; i++)
        at = node_get(set, &set->nodes[at].child, (uint8_t)s.p[i]);
    set->nodes[at].token = token + 1;
}

static mu_status build(struct mu_added_set *set, const struct mu_added_token *list,
                       const struct mu_str *contents, uint32_t n, bool normalized,
                       struct mu_err *err)
{
    size_t n_bytes = 1;
    for (uint32_t i = 0; i < n; i++)
        if (list[i].normalized == normalized) n_bytes += contents[i].len;
    if (n_bytes > NODES_MAX) return mu_fail(err, MU_E_INPUT, "the added tokens are too long");
    set->table = mu_char_table();
    set->nodes = mu_calloc(n_bytes, sizeof *set->nodes);
    set->tokens = mu_calloc(n, sizeof *set->tokens);
    if (!set->table || !set->nodes || !set->tokens)
        return mu_fail_memory(err, n_bytes * sizeof *set->nodes);
    set->n_nodes = 1;
    for (uint32_t i = 0; i < n; i++) {
        if (list[i].normalized != normalized || contents[i].len == 0) continue;
        /* A file may hold any bytes; cutting a text there would cut its characters. */
        if (!mu_utf8_valid(contents[i])) continue;
        set->tokens[set->n_tokens] = list[i];
        insert(set, contents[i], set->n_tokens++);
    }
    return MU_OK;
}

mu_status mu_added_create(const struct mu_added_token *list, const struct mu_str *contents,
                          uint32_t n, bool normalized, struct mu_added_set **out,
                          struct mu_err *err)
{
    bool any = false;
    for (uint32_t i = 0; i < n; i++)
        any |= list[i].normalized == normalized;
    if (!any) return MU_OK;
    struct mu_added_set *set = mu_calloc(1, sizeof *set);
    if (!set) return mu_fail_memory(err, sizeof *set);
    mu_status status = build(set, list, contents, n, normalized, err);
    if (status == MU_OK)
        *out = set;
    else
        mu_added_destroy(set);
    return status;
}

void mu_added_destroy(struct mu_added_set *set)
{
    if (!set) return;
    mu_free(set->nodes);
    mu_free(set->tokens);
    mu_free(set);
}

/* ---- Search -------------------------------------------------------------------------------- */

/* The longest token at `at`: its number, or -1. */
static int64_t longest_at(const struct mu_added_set *set, struct mu_str text, size_t at,
                          size_t *end)
{
    int64_t found = -1;
    uint32_t i = set->first[(uint8_t)text.p[at]];
    while (i) {
        const struct node *node = &set->nodes[i];
        at++;
        if (node->token) {
            found = (int64_t)node->token - 1;
            *end = at;
        }
        if (at == text.len) break;
        for (i = node->child; i && set->nodes[i].byte != (uint8_t)text.p[at];)
            i = set->nodes[i].sibling;
    }
    return found;
}

static unsigned flags_after(const struct mu_added_set *set, struct mu_str text, size_t at,
                            unsigned *len)
{
    *len = 0;
    if (at >= text.len) return 0;
    return mu_char_flags(set->table, mu_char_next((const uint8_t *)text.p + at, len));
}

static unsigned flags_before(const struct mu_added_set *set, struct mu_str text, size_t at,
                             unsigned *len)
{
    size_t p = at;
    while (p > 0 && ((uint8_t)text.p[--p] & 0xc0) == 0x80)
        ;
    unsigned n;
    *len = (unsigned)(at - p);
    return at == 0 ? 0 : mu_char_flags(set->table, mu_char_next((const uint8_t *)text.p + p, &n));
}

static bool stands_alone(const struct mu_added_set *set, struct mu_str text, size_t begin,
                         size_t end)
{
    unsigned len;
    return !(flags_before(set, text, begin, &len) & MU_CHAR_WORD) &&
           !(flags_after(set, text, end, &len) & MU_CHAR_WORD);
}

bool mu_added_next(const struct mu_added_set *set, struct mu_str text, size_t *from, size_t floor,
                   bool plain_special, struct mu_added_match *out)
{
    size_t at = *from, end = 0;
    unsigned len;
    for (;; at = end) {
        int64_t found = -1;
        for (; at < text.len; at++)
            if (set->first[(uint8_t)text.p[at]] && (found = longest_at(set, text, at, &end)) >= 0)
                break;
        if (found < 0) return false;
        const struct mu_added_token *t = &set->tokens[found];
        if ((plain_special && t->special) || (t->single_word && !stands_alone(set, text, at, end)))
            continue;
        *from = end;
        *out = (struct mu_added_match){t->id, at, end, t->special};
        if (t->lstrip)
            while (out->begin > floor &&
                   (flags_before(set, text, out->begin, &len) & MU_CHAR_SPACE))
                out->begin -= len;
        if (t->rstrip)
            while (flags_after(set, text, out->end, &len) & MU_CHAR_SPACE)
                out->end += len;
        return true;
    }
}
