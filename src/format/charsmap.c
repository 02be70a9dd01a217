/*
 * SentencePiece's table of replacements as it comes in files: whether it is whole, and its bytes
 * from base64. What is looked up in it is the business of text/. Pure.
 */
#include "format/tokenizer_int.h"

bool mu_charsmap_good(struct mu_str map)
{
    struct mu_cursor c = mu_cursor_over(map.p, map.len);
    uint32_t trie_bytes = mu_cursor_u32(&c);
    return !c.failed && trie_bytes > 0 && trie_bytes % 4 == 0 && trie_bytes <= mu_cursor_left(&c);
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

bool mu_base64_decode(struct mu_str text, char *out, size_t *n)
{
    uint32_t bits = 0;
    unsigned held = 0;
    *n = 0;
    while (text.len > 0 && text.p[text.len - 1] == '=')
        text.len--;
    for (size_t i = 0; i < text.len; i++) {
        int digit = base64_digit(text.p[i]);
        if (digit < 0) return false;
        bits = bits << 6 | (uint32_t)digit;
        held += 6;
        if (held >= 8) {
            held -= 8;
            out[(*n)++] = (char)(bits >> held);
        }
    }
    return true;
}
