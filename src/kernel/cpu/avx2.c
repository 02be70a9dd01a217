/* The family cpu-avx2: AVX2 with FMA and half precision conversion. The Makefile says the flags. */
#define FAMILY_NAME  "cpu-avx2"
#define FAMILY_TABLE mu_kernels_avx2
#include "kernel/cpu/family.h"
