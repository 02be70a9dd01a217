/*
 * Sixteen lanes of fp32 or int32: one AVX-512 register, or two of AVX2. The only place that names
 * instructions. Included by a family's file, which is compiled for that instruction set.
 */
#ifndef MU_KERNEL_CPU_SIMD_H
#define MU_KERNEL_CPU_SIMD_H

#include <immintrin.h>

#include "kernel/cpu/cpu_int.h"

/* Kernels written out for every case take a sanitizer minutes to compile, and it needs no speed. */
#if defined __SANITIZE_ADDRESS__
#define MU_SANITIZED 1
#elif defined __has_feature
#if __has_feature(address_sanitizer)
#define MU_SANITIZED 1
#endif
#endif
#ifdef MU_SANITIZED
#define SIMD static inline
#define UNROLL
#else
#define SIMD static inline __attribute__((always_inline))
#ifdef __clang__
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif
#endif

SIMD __m128i table_offset(const int8_t *table)
{
    return _mm_xor_si128(_mm_loadu_si128((const void *)table), _mm_set1_epi8(-128));
}

#ifdef __AVX512F__

typedef __m512 vf;
typedef __m512i vi;

#define VF_2(name, op)                                                                             \
    SIMD vf name(vf a, vf b)                                                                       \
    {                                                                                              \
        return op(a, b);                                                                           \
    }
#define VI_2(name, op)                                                                             \
    SIMD vi name(vi a, vi b)                                                                       \
    {                                                                                              \
        return op(a, b);                                                                           \
    }

VF_2(vf_add, _mm512_add_ps)
VF_2(vf_sub, _mm512_sub_ps)
VF_2(vf_mul, _mm512_mul_ps)
VF_2(vf_div, _mm512_div_ps)
VF_2(vf_max, _mm512_max_ps)
VF_2(vf_min, _mm512_min_ps)
VI_2(vi_add, _mm512_add_epi32)
VI_2(vi_sub, _mm512_sub_epi32)
VI_2(vi_and, _mm512_and_si512)
VI_2(vi_or, _mm512_or_si512)
VI_2(vi_max, _mm512_max_epi32)
VI_2(vi_srlv, _mm512_srlv_epi32)

SIMD vf vf_fma(vf a, vf b, vf c)
{
    return _mm512_fmadd_ps(a, b, c);
}

SIMD vf vf_set1(float x)
{
    return _mm512_set1_ps(x);
}

SIMD vf vf_load(const float *p)
{
    return _mm512_loadu_ps(p);
}

SIMD void vf_store(float *p, vf v)
{
    _mm512_storeu_ps(p, v);
}

SIMD vf vf_load_f16(const void *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

SIMD vf vf_load_bf16(const void *p)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256(p)), 16));
}

SIMD void vf_store_f16(void *p, vf v)
{
    _mm256_storeu_si256(p, _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT));
}

SIMD vf vf_from_int(vi v)
{
    return _mm512_cvtepi32_ps(v);
}

SIMD vi vf_to_int(vf v) /* to nearest */
{
    return _mm512_cvtps_epi32(v);
}

SIMD vf vf_abs(vf v)
{
    return _mm512_abs_ps(v);
}

SIMD float vf_sum(vf v) /* lanes halved again and again */
{
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(v),
                             _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(v), 1)));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}

SIMD float vf_largest(vf v)
{
    return _mm512_reduce_max_ps(v);
}

SIMD int vi_sum(vi v)
{
    return _mm512_reduce_add_epi32(v);
}

SIMD vi vi_set1(int x)
{
    return _mm512_set1_epi32(x);
}

SIMD vi vi_load(const void *p)
{
    return _mm512_loadu_si512(p);
}

SIMD void vi_store(void *p, vi v)
{
    _mm512_storeu_si512(p, v);
}

SIMD vi vi_load_s8(const void *p)
{
    return _mm512_cvtepi8_epi32(_mm_loadu_si128(p));
}

SIMD vi vi_load_u8(const void *p)
{
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(p));
}

SIMD vi vi_load_s16(const void *p)
{
    return _mm512_cvtepi16_epi32(_mm256_loadu_si256(p));
}

SIMD void vi_store_s8(void *p, vi v)
{
    _mm_storeu_si128(p, _mm512_cvtepi32_epi8(v));
}

SIMD void vi_store_16(void *p, vi v)
{
    _mm256_storeu_si256(p, _mm512_cvtepi32_epi16(v));
}

SIMD vi vi_srl(vi v, unsigned n)
{
    return _mm512_srli_epi32(v, n);
}

SIMD vi vi_sll(vi v, unsigned n)
{
    return _mm512_slli_epi32(v, n);
}

/* Entries of the table, plus 128, that the bytes name. */
SIMD vi vi_lookup(const int8_t *table, vi bytes)
{
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table_offset(table)), bytes);
}

SIMD vf vi_as_float(vi v)
{
    return _mm512_castsi512_ps(v);
}

SIMD vi vf_as_int(vf v)
{
    return _mm512_castps_si512(v);
}

/* Entries of a table of sixteen floats. */
SIMD vf vf_lookup(const float *table, vi index)
{
    return _mm512_permutexvar_ps(index, vf_load(table));
}

/* b where a < limit in a lane, else c; for numbers that are not negative. */
SIMD vi vi_below(vi a, int limit, vi b, vi c)
{
    return _mm512_mask_blend_epi32(_mm512_cmplt_epi32_mask(a, _mm512_set1_epi32(limit)), c, b);
}

/* Adds the products of four unsigned bytes of w and four signed bytes of x in every lane. */
SIMD vi vi_dot(vi sum, vi w, vi x, bool wide)
{
    (void)wide;
    return _mm512_dpbusd_epi32(sum, w, x);
}

#define START_WIDE(offset) (offset)

/* Adds the products of two bfloat16 in every lane; families without the instruction never ask. */
SIMD vf vf_dot_bf16(vf sum, vi w, vi x)
{
#ifdef __AVX512BF16__
    return _mm512_dpbf16_ps(sum, (__m512bh)w, (__m512bh)x);
#else
    (void)w;
    (void)x;
    return sum;
#endif
}

/* Lane i of v[j] and lane j of v[i] change places. */
SIMD void vf_transpose_16(vf v[16])
{
    vf a[16], b[16];
    UNROLL for (unsigned i = 0; i < 16; i += 2)
    {
        a[i] = _mm512_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_ps(v[i], v[i + 1]);
    }
    UNROLL for (unsigned i = 0; i < 16; i++)
    { /* lanes 4 n + i % 4 of four vectors, side by side in quarter n */
        unsigned j = i / 4 * 4 + i % 4 / 2;
        __m512d x = _mm512_castps_pd(a[j]), y = _mm512_castps_pd(a[j + 2]);
        b[i] = _mm512_castpd_ps(i % 2 ? _mm512_unpackhi_pd(x, y) : _mm512_unpacklo_pd(x, y));
    }
    UNROLL for (unsigned i = 0; i < 4; i++)
    {
        vf even = _mm512_shuffle_f32x4(b[i], b[i + 4], 0x88);
        vf odd = _mm512_shuffle_f32x4(b[i], b[i + 4], 0xdd);
        vf even_2 = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0x88);
        vf odd_2 = _mm512_shuffle_f32x4(b[i + 8], b[i + 12], 0xdd);
        v[i] = _mm512_shuffle_f32x4(even, even_2, 0x88);
        v[i + 4] = _mm512_shuffle_f32x4(odd, odd_2, 0x88);
        v[i + 8] = _mm512_shuffle_f32x4(even, even_2, 0xdd);
        v[i + 12] = _mm512_shuffle_f32x4(odd, odd_2, 0xdd);
    }
}

#else /* AVX2, FMA, F16C */

typedef struct {
    __m256 a, b;
} vf;
typedef struct {
    __m256i a, b;
} vi;

#define VF_2(name, op)                                                                             \
    SIMD vf name(vf x, vf y)                                                                       \
    {                                                                                              \
        return (vf){op(x.a, y.a), op(x.b, y.b)};                                                   \
    }
#define VI_2(name, op)                                                                             \
    SIMD vi name(vi x, vi y)                                                                       \
    {                                                                                              \
        return (vi){op(x.a, y.a), op(x.b, y.b)};                                                   \
    }

VF_2(vf_add, _mm256_add_ps)
VF_2(vf_sub, _mm256_sub_ps)
VF_2(vf_mul, _mm256_mul_ps)
VF_2(vf_div, _mm256_div_ps)
VF_2(vf_max, _mm256_max_ps)
VF_2(vf_min, _mm256_min_ps)
VI_2(vi_add, _mm256_add_epi32)
VI_2(vi_sub, _mm256_sub_epi32)
VI_2(vi_and, _mm256_and_si256)
VI_2(vi_or, _mm256_or_si256)
VI_2(vi_max, _mm256_max_epi32)
VI_2(vi_srlv, _mm256_srlv_epi32)

SIMD vf vf_fma(vf x, vf y, vf z)
{
    return (vf){_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}

SIMD vf vf_set1(float x)
{
    return (vf){_mm256_set1_ps(x), _mm256_set1_ps(x)};
}

SIMD vf vf_load(const float *p)
{
    return (vf){_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)};
}

SIMD void vf_store(float *p, vf v)
{
    _mm256_storeu_ps(p, v.a);
    _mm256_storeu_ps(p + 8, v.b);
}

SIMD __m128i half_of(const void *p, unsigned i) /* 16 bytes */
{
    return _mm_loadu_si128((const __m128i *)p + i);
}

SIMD vf vf_load_f16(const void *p)
{
    return (vf){_mm256_cvtph_ps(half_of(p, 0)), _mm256_cvtph_ps(half_of(p, 1))};
}

SIMD vf vf_load_bf16(const void *p)
{
    return (vf){_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half_of(p, 0)), 16)),
                _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half_of(p, 1)), 16))};
}

SIMD void vf_store_f16(void *p, vf v)
{
    _mm_storeu_si128((__m128i *)p, _mm256_cvtps_ph(v.a, _MM_FROUND_TO_NEAREST_INT));
    _mm_storeu_si128((__m128i *)p + 1, _mm256_cvtps_ph(v.b, _MM_FROUND_TO_NEAREST_INT));
}

SIMD vf vf_from_int(vi v)
{
    return (vf){_mm256_cvtepi32_ps(v.a), _mm256_cvtepi32_ps(v.b)};
}

SIMD vi vf_to_int(vf v) /* to nearest */
{
    return (vi){_mm256_cvtps_epi32(v.a), _mm256_cvtps_epi32(v.b)};
}

SIMD vf vf_abs(vf v)
{
    __m256 sign = _mm256_set1_ps(-0.0f);
    return (vf){_mm256_andnot_ps(sign, v.a), _mm256_andnot_ps(sign, v.b)};
}

SIMD float vf_sum(vf v) /* lanes halved again and again */
{
    __m256 h = _mm256_add_ps(v.a, v.b);
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}

SIMD float vf_largest(vf v)
{
    __m256 h = _mm256_max_ps(v.a, v.b);
    __m128 q = _mm_max_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_max_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_max_ss(q, _mm_shuffle_ps(q, q, 1)));
}

SIMD int vi_sum(vi v)
{
    __m256i h = _mm256_add_epi32(v.a, v.b);
    __m128i q = _mm_add_epi32(_mm256_castsi256_si128(h), _mm256_extracti128_si256(h, 1));
    q = _mm_add_epi32(q, _mm_shuffle_epi32(q, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(q, _mm_shuffle_epi32(q, 0xb1)));
}

SIMD vi vi_set1(int x)
{
    return (vi){_mm256_set1_epi32(x), _mm256_set1_epi32(x)};
}

SIMD vi vi_load(const void *p)
{
    const __m256i *at = p;
    return (vi){_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}

SIMD void vi_store(void *p, vi v)
{
    __m256i *at = p;
    _mm256_storeu_si256(at, v.a);
    _mm256_storeu_si256(at + 1, v.b);
}

SIMD vi vi_load_s8(const void *p)
{
    __m128i x = half_of(p, 0);
    return (vi){_mm256_cvtepi8_epi32(x), _mm256_cvtepi8_epi32(_mm_srli_si128(x, 8))};
}

SIMD vi vi_load_u8(const void *p)
{
    __m128i x = half_of(p, 0);
    return (vi){_mm256_cvtepu8_epi32(x), _mm256_cvtepu8_epi32(_mm_srli_si128(x, 8))};
}

SIMD vi vi_load_s16(const void *p)
{
    return (vi){_mm256_cvtepi16_epi32(half_of(p, 0)), _mm256_cvtepi16_epi32(half_of(p, 1))};
}

SIMD void vi_store_16(void *p, vi v)
{
    __m256i low = _mm256_set1_epi32(0xffff); /* values below 2^16 */
    __m256i x = _mm256_packus_epi32(_mm256_and_si256(v.a, low), _mm256_and_si256(v.b, low));
    _mm256_storeu_si256(p, _mm256_permute4x64_epi64(x, 0xd8));
}

SIMD void vi_store_s8(void *p, vi v)
{
    __m256i x = _mm256_permute4x64_epi64(_mm256_packs_epi32(v.a, v.b), 0xd8);
    _mm_storeu_si128(p, _mm_packs_epi16(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1)));
}

SIMD vi vi_srl(vi v, unsigned n)
{
    return (vi){_mm256_srli_epi32(v.a, (int)n), _mm256_srli_epi32(v.b, (int)n)};
}

SIMD vi vi_sll(vi v, unsigned n)
{
    return (vi){_mm256_slli_epi32(v.a, (int)n), _mm256_slli_epi32(v.b, (int)n)};
}

/* Entries of the table, plus 128, that the bytes name. */
SIMD vi vi_lookup(const int8_t *table, vi bytes)
{
    __m256i t = _mm256_broadcastsi128_si256(table_offset(table));
    return (vi){_mm256_shuffle_epi8(t, bytes.a), _mm256_shuffle_epi8(t, bytes.b)};
}

SIMD vf vi_as_float(vi v)
{
    return (vf){_mm256_castsi256_ps(v.a), _mm256_castsi256_ps(v.b)};
}

SIMD vi vf_as_int(vf v)
{
    return (vi){_mm256_castps_si256(v.a), _mm256_castps_si256(v.b)};
}

SIMD __m256 lookup_half(const float *table, __m256i index)
{
    __m256 low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table), index);
    __m256 high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table + 8), index);
    return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(index, 28)));
}

/* Entries of a table of sixteen floats. */
SIMD vf vf_lookup(const float *table, vi index)
{
    return (vf){lookup_half(table, index.a), lookup_half(table, index.b)};
}

SIMD __m256i below_half(__m256i a, int limit, __m256i b, __m256i c)
{
    return _mm256_blendv_epi8(c, b, _mm256_cmpgt_epi32(_mm256_set1_epi32(limit), a));
}

/* b where a < limit in a lane, else c; for numbers that are not negative. */
SIMD vi vi_below(vi a, int limit, vi b, vi c)
{
    return (vi){below_half(a.a, limit, b.a, c.a), below_half(a.b, limit, b.b, c.b)};
}

SIMD __m256i dot_half(__m256i sum, __m256i w, __m256i x, bool wide)
{
    if (wide) { /* pairs of products of full bytes overflow 16 bits unless the codes are signed */
        w = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
        x = _mm256_sign_epi8(x, w);
        w = _mm256_abs_epi8(w);
    }
    __m256i pairs = _mm256_maddubs_epi16(w, x);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

/* Adds the products of four unsigned bytes of w and four signed bytes of x in every lane; of wide
 * codes it has taken the offset away. */
SIMD vi vi_dot(vi sum, vi w, vi x, bool wide)
{
    return (vi){dot_half(sum.a, w.a, x.a, wide), dot_half(sum.b, w.b, x.b, wide)};
}

#define START_WIDE(offset) ((void)(offset), 0)

SIMD vf vf_dot_bf16(vf sum, vi w, vi x)
{
    (void)w;
    (void)x;
    return sum;
}

SIMD void transpose_8(__m256 v[8])
{
    __m256 a[8], b[8];
    UNROLL for (unsigned i = 0; i < 8; i += 2)
    {
        a[i] = _mm256_unpacklo_ps(v[i], v[i + 1]);
        a[i + 1] = _mm256_unpackhi_ps(v[i], v[i + 1]);
    }
    UNROLL for (unsigned i = 0; i < 8; i++)
    {
        unsigned j = i / 4 * 4 + i % 4 / 2;
        __m256d x = _mm256_castps_pd(a[j]), y = _mm256_castps_pd(a[j + 2]);
        b[i] = _mm256_castpd_ps(i % 2 ? _mm256_unpackhi_pd(x, y) : _mm256_unpacklo_pd(x, y));
    }
    UNROLL for (unsigned i = 0; i < 4; i++)
    {
        v[i] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x20);
        v[i + 4] = _mm256_permute2f128_ps(b[i], b[i + 4], 0x31);
    }
}

/* Lane i of v[j] and lane j of v[i] change places. */
SIMD void vf_transpose_16(vf v[16])
{
    __m256 quarter[2][2][8];
    UNROLL for (unsigned i = 0; i < 16; i++)
    {
        quarter[i / 8][0][i % 8] = v[i].a;
        quarter[i / 8][1][i % 8] = v[i].b;
    }
    UNROLL for (unsigned i = 0; i < 4; i++) transpose_8(quarter[i / 2][i % 2]);
    UNROLL for (unsigned i = 0; i < 16; i++) v[i] =
        (vf){quarter[0][i / 8][i % 8], quarter[1][i / 8][i % 8]};
}

#endif

/* Fewer than sixteen values, the other lanes 0. */
SIMD vf vf_load_some(const float *p, uint32_t n)
{
    float all[16] = {0};
    memcpy(all, p, n * sizeof *p);
    return vf_load(all);
}

SIMD void vf_store_some(float *p, vf v, uint32_t n)
{
    float all[16];
    vf_store(all, v);
    memcpy(p, all, n * sizeof *p);
}

SIMD vf vf_load_cache(const void *p, enum mu_dtype type)
{
    return type == MU_DTYPE_F16   ? vf_load_f16(p)
           : type == MU_DTYPE_F32 ? vf_load(p)
                                  : vf_load_bf16(p);
}

/* Bits of the nearest bfloat16 in the low half of every lane. */
SIMD vi vf_to_bf16(vf v)
{
    vi bits = vf_as_int(v), odd = vi_and(vi_srl(bits, 16), vi_set1(1));
    return vi_srl(vi_add(bits, vi_add(odd, vi_set1(0x7fff))), 16);
}

/* The numbers that bytes of e4m3 are, as mu_e4m3_to_f32 has it. */
SIMD vf vf_from_e4m3(vi code)
{
    vi sign = vi_sll(vi_and(code, vi_set1(0x80)), 24), rest = vi_and(code, vi_set1(0x7f));
    vi normal = vi_add(vi_sll(rest, 20), vi_set1(120 << 23));
    vi tiny = vf_as_int(vf_mul(vf_from_int(rest), vf_set1(0x1p-9f)));
    vi finite = vi_below(rest, 8, tiny, normal);
    return vi_as_float(vi_or(sign, vi_below(rest, 127, finite, vi_set1(0x7fc00000))));
}

/* e^x as mu_expf has it, with fused steps; x below -87 gives 0 to 2^-126, which is all softmax and
 * sigmoid need. */
SIMD vf vf_exp(vf x)
{
    x = vf_max(vf_set1(-87.0f), vf_min(vf_set1(88.0f), x)); /* in this order NaN survives */
    vf shifted = vf_fma(x, vf_set1(0x1.715476p0f), vf_set1(0x1.8p23f));
    vf n = vf_sub(shifted, vf_set1(0x1.8p23f));
    vf r = vf_fma(n, vf_set1(-0x1.62e4p-1f), x);
    r = vf_fma(n, vf_set1(-0x1.7f7d1cp-20f), r);
    vf q = vf_fma(r, vf_set1(0x1.6dbc68p-10f), vf_set1(0x1.124148p-7f));
    q = vf_fma(q, r, vf_set1(0x1.555454p-5f));
    q = vf_fma(q, r, vf_set1(0x1.555486p-3f));
    q = vf_fma(q, r, vf_set1(0.5f));
    q = vf_add(vf_fma(vf_mul(r, r), q, r), vf_set1(1.0f));
    return vi_as_float(vi_add(vf_as_int(q), vi_sll(vf_as_int(shifted), 23)));
}

#endif
