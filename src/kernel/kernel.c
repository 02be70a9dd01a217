/* Which families exist and which this CPU can run; see kernel.h. Any thread. */
#include "base/text.h"
#include "kernel/cpu/cpu_int.h"

#include <cpuid.h>

/* Asked of the CPU itself: clang 14's __builtin_cpu_supports has no name for it. */
static bool has_f16c(void)
{
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static bool has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static bool has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}

static bool has_avx512_bf16(void)
{
    return has_avx512() && __builtin_cpu_supports("avx512bf16");
}

/* Best first. */
static const struct {
    const struct mu_kernels *kernels;
    bool (*runs)(void);
} families[] = {
    {&mu_kernels_avx512_bf16, has_avx512_bf16},
    {&mu_kernels_avx512, has_avx512},
    {&mu_kernels_avx2, has_avx2},
    {&mu_kernels_ref, NULL},
};

static bool usable(size_t i)
{
    return !families[i].runs || families[i].runs();
}

const struct mu_kernels *mu_kernels_usable(unsigned n)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(families); i++)
        if (usable(i) && n-- == 0) return families[i].kernels;
    return NULL;
}

mu_status mu_kernels_choose(const char *name, const struct mu_kernels **out, struct mu_err *err)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(families); i++) {
        if (name && strcmp(name, families[i].kernels->family) != 0) continue;
        if (usable(i)) {
            *out = families[i].kernels;
            return MU_OK;
        }
        if (name)
            return mu_fail(err, MU_E_UNSUPPORTED, "this CPU cannot run the kernels '%s'", name);
    }
    mu_status status = mu_fail(err, MU_E_USAGE, "no kernels are called '%s'", name);
    mu_err_cure(err, "`muster devices` lists the families; without a name the best is taken");
    return status;
}

uint32_t mu_attend_run_chunks(uint32_t tiles, uint32_t chunks, uint32_t threads, uint32_t each)
{
    uint32_t n = 1;
    if (threads == 1 || 2 * tiles > threads * each) return chunks;
    while (tiles * MU_CEIL_DIV(chunks, n) > threads * each)
        n *= 2;
    return n;
}

void mu_key_store(const struct mu_kernels *kernels, void *block, enum mu_dtype type, const float *x,
                  uint32_t n, uint32_t token)
{
    enum { SOME = 64 };
    char rounded[SOME * sizeof(float)];
    size_t size = mu_dtype(type)->block_bytes;
    for (uint32_t i = 0; i < n; i += SOME) {
        uint32_t some = MU_MIN(n - i, (uint32_t)SOME);
        kernels->kv_store(rounded, type, x + i, some);
        char *to = (char *)block + ((size_t)i * MU_KV_BLOCK_TOKENS + token) * size;
        if (size == 2)
            for (uint32_t j = 0; j < some; j++, to += MU_KV_BLOCK_TOKENS * 2)
                memcpy(to, rounded + (size_t)j * 2, 2);
        else
            for (uint32_t j = 0; j < some; j++, to += MU_KV_BLOCK_TOKENS * size)
                memcpy(to, rounded + j * size, size);
    }
}
