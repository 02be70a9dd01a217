/* Data types; see dtype.h. */
#include "base/dtype.h"

#include "base/checked.h"

#include <strings.h>

#define ROW_(name, text, values, bytes, gguf, st) {text, values, bytes, gguf, st},
static const struct mu_dtype_info infos[MU_DTYPE_COUNT] = {MU_DTYPE_TABLE(ROW_)};
#undef ROW_

const struct mu_dtype_info *mu_dtype(enum mu_dtype type)
{
    return &infos[type];
}

bool mu_dtype_by_name(struct mu_str name, enum mu_dtype *out)
{
    for (int i = 0; i < MU_DTYPE_COUNT; i++) {
        if (strlen(infos[i].name) == name.len &&
            strncasecmp(infos[i].name, name.p, name.len) == 0) {
            *out = (enum mu_dtype)i;
            return true;
        }
    }
    return false;
}

bool mu_dtype_by_gguf(uint32_t number, enum mu_dtype *out)
{
    for (int i = 0; i < MU_DTYPE_COUNT; i++) {
        if (infos[i].gguf >= 0 && (uint32_t)infos[i].gguf == number) {
            *out = (enum mu_dtype)i;
            return true;
        }
    }
    return false;
}

bool mu_dtype_by_safetensors(struct mu_str name, enum mu_dtype *out)
{
    for (int i = 0; i < MU_DTYPE_COUNT; i++) {
        if (infos[i].safetensors && mu_str_is(name, infos[i].safetensors)) {
            *out = (enum mu_dtype)i;
            return true;
        }
    }
    return false;
}

bool mu_dtype_bytes(enum mu_dtype type, uint64_t n, uint64_t *out)
{
    const struct mu_dtype_info *info = &infos[type];
    return n % info->block_values == 0 && mu_mul(n / info->block_values, info->block_bytes, out);
}

bool mu_dtype_wider(enum mu_dtype a, enum mu_dtype b)
{
    return infos[a].block_bytes * infos[b].block_values >
           infos[b].block_bytes * infos[a].block_values;
}

float mu_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16, rest = h & 0x7fff;
    if (rest >= 0x7c00) /* infinity and NaN */
        return mu_f32_from_bits(sign | 0x7f800000 | (rest & 0x3ff) << 13);
    if (rest >= 0x400) /* normal: shift the fields, move the exponent's bias from 15 to 127 */
        return mu_f32_from_bits(sign | ((rest << 13) + (112u << 23)));
    float f = (float)rest * 0x1p-24f; /* subnormal: exact in float */
    return mu_f32_from_bits(sign | mu_f32_bits(f));
}

uint16_t mu_f32_to_f16(float f)
{
    uint32_t bits = mu_f32_bits(f), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (rest > 0x7f800000) return (uint16_t)(sign | 0x7e00);
    if (rest >= 0x477ff000) /* rounds to 65536 or more */
        return (uint16_t)(sign | 0x7c00);
    if (rest <
        0x38800000) { /* below 2^-14: let the float adder round at the subnormal's last bit */
        float shifted = mu_f32_from_bits(rest) + 0.5f;
        return (uint16_t)(sign | (mu_f32_bits(shifted) - mu_f32_bits(0.5f)));
    }
    rest += 0xfff + (rest >> 13 & 1);
    return (uint16_t)(sign | ((rest >> 13) - (112u << 10)));
}

const float mu_nf4_values[16] = {-0x1p0f,         -0x1.647362p-1f, -0x1.0cd66p-1f,  -0x1.94654p-2f,
                                 -0x1.23449ap-2f, -0x1.7a6a7ep-3f, -0x1.74f0e2p-4f, 0,
                                 0x1.45f5fep-4f,  0x1.4995c6p-3f,  0x1.f809bap-3f,  0x1.5a0674p-2f,
                                 0x1.c3497p-2f,   0x1.200f56p-1f,  0x1.722766p-1f,  0x1p0f};

const float mu_fp4_values[16] = {0,
                                 0x1.555556p-8f,
                                 0x1.555556p-1f,
                                 0x1p0f,
                                 0x1.555556p-2f,
                                 0x1p-1f,
                                 0x1.555556p-3f,
                                 0x1p-2f,
                                 0,
                                 -0x1.555556p-8f,
                                 -0x1.555556p-1f,
                                 -0x1p0f,
                                 -0x1.555556p-2f,
                                 -0x1p-1f,
                                 -0x1.555556p-3f,
                                 -0x1p-2f};

float mu_e4m3_to_f32(uint8_t code)
{
    uint32_t sign = (uint32_t)(code & 0x80) << 24, rest = code & 0x7f;
    if (rest == 0x7f) return mu_f32_from_bits(sign | 0x7fc00000);
    if (rest >= 8) return mu_f32_from_bits(sign | ((rest << 20) + (120u << 23)));
    return mu_f32_from_bits(sign | mu_f32_bits((float)rest * 0x1p-9f)); /* subnormal */
}
