/* UTF-8; see utf8.h. */
#include "base/utf8.h"

/* Length by first byte, and the range its second byte must be in (Unicode table 3-7). */
static unsigned lead(unsigned char c, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (c < 0x80) return 1;
    if (c >= 0xc2 && c <= 0xdf) return 2;
    if (c >= 0xe0 && c <= 0xef) {
        if (c == 0xe0)
            *low = 0xa0;
        else if (c == 0xed)
            *high = 0x9f;
        return 3;
    }
    if (c >= 0xf0 && c <= 0xf4) {
        if (c == 0xf0)
            *low = 0x90;
        else if (c == 0xf4)
            *high = 0x8f;
        return 4;
    }
    return 0;
}

uint32_t mu_utf8_decode(struct mu_str s, unsigned *len)
{
    const unsigned char *p = (const unsigned char *)s.p;
    unsigned char low, high;
    unsigned n = lead(p[0], &low, &high);
    *len = 1;
    if (n <= 1) return n ? p[0] : MU_UTF8_BAD;
    uint32_t cp = p[0] & (0x7fu >> n);
    for (unsigned i = 1; i < n; i++) {
        if (i >= s.len || p[i] < low || p[i] > high) return MU_UTF8_BAD;
        cp = cp << 6 | (p[i] & 0x3f);
        *len = i + 1;
        low = 0x80;
        high = 0xbf;
    }
    return cp;
}

unsigned mu_utf8_encode(uint32_t cp, char out[4])
{
    if (cp < 0x80) {
        out[0] = (char)cp;
        return 1;
    }
    unsigned n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
    for (unsigned i = n - 1; i > 0; i--, cp >>= 6)
        out[i] = (char)(0x80 | (cp & 0x3f));
    out[0] = (char)((0xf00u >> n & 0xff) | cp);
    return n;
}

/* Past the ASCII at the start of `s`: most text is little else. */
static struct mu_str skip_ascii(struct mu_str s)
{
    uint64_t word;
    for (; s.len >= sizeof word; s.p += sizeof word, s.len -= sizeof word) {
        memcpy(&word, s.p, sizeof word);
        if (word & UINT64_C(0x8080808080808080)) break;
    }
    for (; s.len > 0 && (unsigned char)*s.p < 0x80; s.p++, s.len--)
        ;
    return s;
}

bool mu_utf8_valid(struct mu_str s)
{
    for (s = skip_ascii(s); s.len > 0; s = skip_ascii(s)) {
        unsigned n;
        if (mu_utf8_decode(s, &n) == MU_UTF8_BAD) return false;
        s.p += n;
        s.len -= n;
    }
    return true;
}

void mu_utf8_add_repaired(struct mu_text *out, struct mu_str s)
{
    for (unsigned n; s.len > 0; s.p += n, s.len -= n) {
        if (mu_utf8_decode(s, &n) == MU_UTF8_BAD)
            mu_text_add(out, "\xef\xbf\xbd", 3);
        else
            mu_text_add(out, s.p, n);
    }
}

static bool is_harmless(uint32_t cp)
{
    return cp != MU_UTF8_BAD && cp >= 0x20 && !(cp >= 0x7f && cp < 0xa0) &&
           !(cp >= 0x200b && cp <= 0x200f) && !(cp >= 0x2028 && cp <= 0x202e) &&
           !(cp >= 0x2066 && cp <= 0x2069) && cp != 0xfeff;
}

size_t mu_utf8_copy_harmless(char *out, size_t size, struct mu_str s, char kept)
{
    size_t n = 0;
    for (unsigned len; s.len; s.p += len, s.len -= len) {
        for (; s.len && n + 1 < size && *s.p >= ' ' && *s.p <= '~'; s.p++, s.len--)
            out[n++] = *s.p; /* nearly all of it */
        if (s.len == 0) break;
        uint32_t cp = mu_utf8_decode(s, &len);
        bool same = is_harmless(cp) || (kept && cp == (uint32_t)kept);
        if (n + (same ? len : 1) >= size) break;
        if (same)
            memmove(out + n, s.p, len);
        else
            out[n] = cp == '\t' ? ' ' : '?';
        n += same ? len : 1;
    }
    out[n] = '\0';
    return n;
}

unsigned mu_utf8_unfinished(struct mu_str s)
{
    for (unsigned back = 1; back <= 3 && back <= s.len; back++) {
        struct mu_str tail = {s.p + s.len - back, back};
        unsigned char c = (unsigned char)tail.p[0], low, high;
        if ((c & 0xc0) == 0x80) continue;
        unsigned len;
        if (lead(c, &low, &high) > back && mu_utf8_decode(tail, &len) == MU_UTF8_BAD && len == back)
            return back;
        return 0;
    }
    return 0;
}
