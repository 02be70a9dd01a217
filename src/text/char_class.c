/* The table of character kinds; see char_class.h. */
#include "text/char_class.h"

#include "base/alloc.h"
#include "base/compiler.h"

#include <pthread.h>
#include <string.h>
#include <utf8proc.h>

#define N_BLOCKS       (0x110000 / MU_CHAR_BLOCK)
#define N_KINDS_MAX    1024 /* different blocks; Unicode 13 has about 500 */
#define SECOND_IN_PAIR 0x8000u

static struct mu_char_table table;
static bool ready;

static uint8_t flags_of_category(utf8proc_propval_t category)
{
    switch (category) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LT:
        return MU_CHAR_LETTER | MU_CHAR_UPPER | MU_CHAR_WORD;
    case UTF8PROC_CATEGORY_LL:
        return MU_CHAR_LETTER | MU_CHAR_LOWER | MU_CHAR_WORD;
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
        return MU_CHAR_LETTER | MU_CHAR_LOWER | MU_CHAR_UPPER | MU_CHAR_WORD;
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
        return MU_CHAR_MARK | MU_CHAR_LOWER | MU_CHAR_UPPER | MU_CHAR_WORD;
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
        return MU_CHAR_NUMBER | MU_CHAR_WORD;
    case UTF8PROC_CATEGORY_NO:
        return MU_CHAR_NUMBER;
    case UTF8PROC_CATEGORY_PC:
        return MU_CHAR_WORD;
    default:
        return 0;
    }
}

static bool is_space(uint32_t cp)
{
    return (cp >= 9 && cp <= 13) || cp == 0x20 || cp == 0x85 || cp == 0xa0 || cp == 0x1680 ||
           (cp >= 0x2000 && cp <= 0x200a) || cp == 0x2028 || cp == 0x2029 || cp == 0x202f ||
           cp == 0x205f || cp == 0x3000;
}

/* False for characters that NFC leaves alone whatever stands around them. Letters with accents that
 * are composed already count as unstable only when NFC would write them differently. */
static bool is_unstable(uint32_t cp, const utf8proc_property_t *p)
{
    if (cp < 0x300) return false;
    if (p->combining_class != 0) return true;
    if (p->comb_index != UINT16_MAX && p->comb_index >= SECOND_IN_PAIR) return true;
    if ((cp >= 0x1160 && cp <= 0x11ff) || (cp >= 0xac00 && cp <= 0xd7a3)) return cp < 0xac00;
    if (p->decomp_type != 0 || p->decomp_seqindex == UINT16_MAX) return false;
    utf8proc_uint8_t text[5] = {0};
    utf8proc_uint8_t *composed = NULL;
    utf8proc_ssize_t len = utf8proc_encode_char((utf8proc_int32_t)cp, text);
    utf8proc_ssize_t n = utf8proc_map(text, len, &composed, UTF8PROC_COMPOSE | UTF8PROC_STABLE);
    bool same = n == len && memcmp(text, composed, (size_t)len) == 0;
    mu_free(composed);
    return !same;
}

static uint8_t flags_of(uint32_t cp)
{
    const utf8proc_property_t *p = utf8proc_get_property((utf8proc_int32_t)cp);
    uint8_t flags = flags_of_category(p->category);
    if (is_space(cp)) flags |= MU_CHAR_SPACE;
    if (is_unstable(cp, p)) flags |= MU_CHAR_UNSTABLE;
    return flags;
}

/* Planes without characters share the first empty block and cost nothing. */
static bool is_empty_plane(uint32_t cp)
{
    return cp >= 0x40000 && (cp < 0xe0000 || cp >= 0xf0000);
}

static void make_table(void)
{
    uint16_t n_kinds = 1; /* kind 0: nothing known of any character in it */
    table.flags = mu_calloc(N_KINDS_MAX, sizeof *table.flags);
    if (!table.flags) return;
    for (uint32_t b = 0; b < N_BLOCKS; b++) {
        if (is_empty_plane(b * MU_CHAR_BLOCK)) continue;
        uint8_t *flags = table.flags[n_kinds];
        for (uint32_t i = 0; i < MU_CHAR_BLOCK; i++)
            flags[i] = flags_of(b * MU_CHAR_BLOCK + i);
        uint16_t kind = 0;
        /* The latest blocks first: neighbours are alike. */
        for (uint16_t k = n_kinds; k-- > 0 && !kind;)
            if (memcmp(table.flags[k], flags, MU_CHAR_BLOCK) == 0) kind = k + 1;
        if (!kind && n_kinds + 1 == N_KINDS_MAX) return;
        table.block[b] = kind ? kind - 1 : n_kinds++;
    }
    memcpy(table.ascii, table.flags[table.block[0]], 128);
    ready = true;
}

const struct mu_char_table *mu_char_table(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, make_table);
    return ready ? &table : NULL;
}
