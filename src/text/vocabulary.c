/*
 * The vocabulary in memory: token texts by id, ids by text, and the alphabet in which byte-level
 * vocabularies spell bytes. Read-only once made; any thread.
 */
#include "text/tokenizer_int.h"

#include "base/alloc.h"
#include "base/utf8.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#define TOKEN_BYTES_MAX 65535

/* ---- GPT-2's alphabet ---------------------------------------------------------------------- */

/* Bytes that are no printable letter in Latin-1 take the letters from U+0100 on, in their order. */
static bool is_printable(unsigned byte)
{
    return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte != 0xad);
}

uint32_t mu_byte_letter(uint8_t byte)
{
    if (is_printable(byte)) return byte;
    if (byte <= 0x20) return 0x100u + byte;
    if (byte < 0xad) return 0x100u + 0x21 + (byte - 0x7fu);
    return 0x100u + 0x21 + 0x22;
}

int mu_letter_byte(uint32_t letter)
{
    if (letter < 0x100) return is_printable(letter) ? (int)letter : -1;
    uint32_t i = letter - 0x100;
    if (i <= 0x20) return (int)i;
    if (i < 0x21 + 0x22) return (int)(i - 0x21 + 0x7f);
    return i == 0x21 + 0x22 ? 0xad : -1;
}

void mu_add_byte_letters(struct mu_text *out, struct mu_str bytes)
{
    char letter[4];
    for (size_t i = 0; i < bytes.len; i++)
        mu_text_add(out, letter, mu_utf8_encode(mu_byte_letter((uint8_t)bytes.p[i]), letter));
}

/* ---- Ids by text --------------------------------------------------------------------------- */

uint64_t mu_vocabulary_hash(struct mu_str s)
{
    return XXH3_64bits(s.p, s.len);
}

uint32_t mu_vocabulary_find_hashed(const struct mu_vocabulary *v, struct mu_str s, uint64_t hash)
{
    for (uint32_t i = (uint32_t)hash & v->mask;; i = (i + 1) & v->mask) {
        uint64_t slot = v->slots[i];
        if (slot == 0) return MU_TOKEN_NONE;
        if (slot >> 32 != hash >> 32) continue;
        uint32_t id = (uint32_t)slot - 1;
        if (mu_str_equal(v->tokens[id], s)) return id;
    }
}

uint32_t mu_vocabulary_find(const struct mu_vocabulary *v, struct mu_str s)
{
    return mu_vocabulary_find_hashed(v, s, mu_vocabulary_hash(s));
}

/* A text that comes twice belongs to its last id. */
static void put(struct mu_vocabulary *v, uint32_t id)
{
    struct mu_str s = v->tokens[id];
    uint64_t hash = mu_vocabulary_hash(s);
    uint32_t i = (uint32_t)hash & v->mask;
    for (; v->slots[i] != 0; i = (i + 1) & v->mask) {
        if (v->slots[i] >> 32 != hash >> 32) continue;
        if (mu_str_equal(v->tokens[(uint32_t)v->slots[i] - 1], s)) break;
    }
    v->slots[i] = (hash >> 32) << 32 | (id + 1);
}

/* Texts are copied, so that the file they came from may be closed; room is left for added ones. */
static mu_status copy_tokens(struct mu_vocabulary *v, const struct mu_tokenizer_spec *spec,
                             struct mu_err *err)
{
    size_t n_bytes = 1;
    for (uint32_t i = 0; i < spec->n_tokens; i++) {
        if (spec->tokens[i].len > TOKEN_BYTES_MAX) {
            mu_status status = mu_fail(err, MU_E_INPUT, "token %u is longer than 65,535 bytes", i);
            mu_err_where(err, "%s", spec->source);
            return status;
        }
        n_bytes += spec->tokens[i].len;
    }
    for (uint32_t i = 0; i < spec->n_added; i++)
        n_bytes += spec->added[i].content.len;
    size_t n = (size_t)spec->n_tokens + spec->n_added;
    v->blob = mu_alloc(n_bytes);
    v->tokens = mu_calloc(n, sizeof *v->tokens);
    if (!v->blob || !v->tokens) return mu_fail_memory(err, n_bytes);
    char *p = v->blob;
    for (uint32_t i = 0; i < spec->n_tokens; i++) {
        struct mu_str s = spec->tokens[i];
        if (!s.p) continue;
        memcpy(p, s.p, s.len);
        v->tokens[i] = (struct mu_str){p, s.len};
        p += s.len;
    }
    v->blob_end = p;
    v->n_tokens = spec->n_tokens;
    return MU_OK;
}

mu_status mu_vocabulary_init(struct mu_vocabulary *v, const struct mu_tokenizer_spec *spec,
                             struct mu_err *err)
{
    MU_TRY(copy_tokens(v, spec, err));
    size_t n_slots = 64;
    while (n_slots < 2 * ((size_t)spec->n_tokens + spec->n_added))
        n_slots *= 2;
    v->slots = mu_calloc(n_slots, sizeof *v->slots);
    if (!v->slots) return mu_fail_memory(err, n_slots * sizeof *v->slots);
    v->mask = (uint32_t)n_slots - 1;
    for (uint32_t i = 0; i < v->n_tokens; i++)
        if (v->tokens[i].p) put(v, i);
    return MU_OK;
}

void mu_vocabulary_add(struct mu_vocabulary *v, struct mu_str s, uint32_t id)
{
    MU_ASSERT(id <= v->n_tokens);
    memcpy(v->blob_end, s.p, s.len);
    v->tokens[id] = (struct mu_str){v->blob_end, s.len};
    v->blob_end += s.len;
    v->n_tokens = MU_MAX(v->n_tokens, id + 1);
    put(v, id);
}

void mu_vocabulary_fini(struct mu_vocabulary *v)
{
    mu_free(v->blob);
    mu_free(v->tokens);
    mu_free(v->slots);
}
