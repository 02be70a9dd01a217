/*
 * The blocks into which format/ repacks the quantised checkpoints of transformers, taken apart:
 * base/dtype.h has their layout. Pure; any thread.
 */
#include "kernel/kernel_int.h"

/* The scale that begins every block, and no minimum. */
static void scale_f32(struct mu_parts *p, const uint8_t *b)
{
    uint32_t bits = mu_get32(b);
    p->d = mu_f32_from_bits(bits);
    p->dmin = 0;
    memset(p->sc, 1, sizeof p->sc);
    memset(p->m, 1, sizeof p->m);
}

/* n codes of 4 bits: of each 32, the first half in low nibbles. */
static void codes_4bit(int8_t *code, const uint8_t *q, unsigned n)
{
    for (; n > 0; n -= 32, code += 32, q += 16)
        for (unsigned i = 0; i < 16; i++) {
            code[i] = (int8_t)(q[i] & 15);
            code[i + 16] = (int8_t)(q[i] >> 4);
        }
}

/* (code - zero) * scale, as a difference of two products: of scales that came from 16 bits both
 * are exact, and so is the difference. */
static void split_4z(const uint8_t *b, struct mu_parts *p, unsigned n)
{
    scale_f32(p, b);
    p->dmin = p->d * (float)b[4];
    codes_4bit(p->code, b + 5, n);
}

static void split_8z(const uint8_t *b, struct mu_parts *p, unsigned n)
{
    scale_f32(p, b);
    p->dmin = p->d * (float)((int16_t)mu_get16(b + 4) - 128);
    for (unsigned i = 0; i < n; i++)
        p->code[i] = (int8_t)(b[6 + i] - 128);
}

void mu_split_q4z(const uint8_t *b, struct mu_parts *p)
{
    split_4z(b, p, 32);
}

void mu_split_q4z_128(const uint8_t *b, struct mu_parts *p)
{
    split_4z(b, p, 128);
}

void mu_split_q8z(const uint8_t *b, struct mu_parts *p)
{
    split_8z(b, p, 32);
}

void mu_split_q8z_128(const uint8_t *b, struct mu_parts *p)
{
    split_8z(b, p, 128);
}

/* Codes only: what they are worth depends on the column. */
void mu_split_q4g(const uint8_t *b, struct mu_parts *p)
{
    *p = (struct mu_parts){.d = 1};
    codes_4bit(p->code, b, 32);
}

void mu_split_q8g(const uint8_t *b, struct mu_parts *p)
{
    *p = (struct mu_parts){.d = 1};
    for (unsigned i = 0; i < 32; i++)
        p->code[i] = (int8_t)(b[i] - 128);
}

void mu_columns_values(enum mu_dtype type, const struct mu_columns *columns, uint32_t first,
                       const uint8_t *codes, const uint8_t *table, uint32_t n, float *out)
{
    for (uint32_t i = 0; i < n; i += 32, codes += mu_dtype(type)->block_bytes) {
        struct mu_parts p;
        mu_parts_split(type, codes, &p);
        for (uint32_t j = i; j < MU_MIN(i + 32, n); j++) {
            const uint8_t *at = table + 8 * (size_t)columns->group_of[first + j];
            float scale = mu_f32_from_bits(mu_get32(at)), min = mu_f32_from_bits(mu_get32(at + 4));
            out[j] = (float)p.code[j - i] * scale - min;
        }
    }
}

void mu_split_fp4(const uint8_t *b, struct mu_parts *p)
{
    scale_f32(p, b);
    codes_4bit(p->code, b + 4, 64);
}

void mu_split_e4m3(const uint8_t *b, struct mu_parts *p)
{
    scale_f32(p, b);
    memcpy(p->code, b + 4, 32);
}

void mu_split_e4m3_128(const uint8_t *b, struct mu_parts *p)
{
    scale_f32(p, b);
    memcpy(p->code, b + 4, 128);
}

float mu_number_nf4(uint8_t code)
{
    return mu_nf4_values[code];
}

float mu_number_fp4(uint8_t code)
{
    return mu_fp4_values[code];
}
