/* The family cpu-avx512-bf16: AVX-512 with integer and bfloat16 dot products. The Makefile says the
 * flags. */
#define FAMILY_NAME  "cpu-avx512-bf16"
#define FAMILY_TABLE mu_kernels_avx512_bf16
#include "kernel/cpu/family.h"
