/* The family cpu-avx512: AVX-512 with integer dot products (VNNI). The Makefile says the flags. */
#define FAMILY_NAME  "cpu-avx512"
#define FAMILY_TABLE mu_kernels_avx512
#include "kernel/cpu/family.h"
