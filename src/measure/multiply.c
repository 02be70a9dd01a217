/*
 * The one kernel that runs on a GPU without a plug-in: eight chains of multiply-adds a thread, in
 * registers, as text that any driver since CUDA 9 turns into the code of its GPU. Knows nothing of
 * who launches it; cuda.c does, in its child process.
 */
#include "measure/measure_int.h"

#define HEAD                                                                                       \
    ".version 6.0\n"                                                                               \
    ".target sm_50\n"                                                                              \
    ".address_size 64\n"                                                                           \
    ".visible .entry multiply(.param .u64 out, .param .u32 times)\n"                               \
    "{\n"                                                                                          \
    ".reg .pred %again;\n"                                                                         \
    ".reg .f32 %x<8>, %a, %b;\n"                                                                   \
    ".reg .b32 %left, %thread;\n"                                                                  \
    ".reg .b64 %at, %to;\n"                                                                        \
    "ld.param.u64 %to, [out];\n"                                                                   \
    "ld.param.u32 %left, [times];\n"                                                               \
    "mov.u32 %thread, %tid.x;\n"                                                                   \
    "cvt.rn.f32.u32 %x0, %thread;\n"

/* The factor is just below 1: nothing overflows however often it is applied. */
#define FACTORS                                                                                    \
    "mov.f32 %a, 0f3F7FF000;\n"                                                                    \
    "mov.f32 %b, 0f3A000000;\n"

#define START(n, before) "add.f32 %x" #n ", %x" #before ", %b;\n"
#define STARTS           START(1, 0) START(2, 1) START(3, 2) START(4, 3) START(5, 4) START(6, 5) START(7, 6)

#define CHAIN(n) "fma.rn.f32 %x" #n ", %x" #n ", %a, %b;\n"
#define CHAINS   CHAIN(0) CHAIN(1) CHAIN(2) CHAIN(3) CHAIN(4) CHAIN(5) CHAIN(6) CHAIN(7)

#define AGAIN                                                                                      \
    "sub.u32 %left, %left, 1;\n"                                                                   \
    "setp.ne.u32 %again, %left, 0;\n"                                                              \
    "@%again bra more;\n"

/* Blocks overwrite each other's sums, which are the same: storing them keeps the products from
 * being left out, and costs nothing. */
#define SUM(n) "add.f32 %x0, %x0, %x" #n ";\n"
#define SUMS   SUM(1) SUM(2) SUM(3) SUM(4) SUM(5) SUM(6) SUM(7)
#define STORE                                                                                      \
    "cvta.to.global.u64 %to, %to;\n"                                                               \
    "mul.wide.u32 %at, %thread, 4;\n"                                                              \
    "add.u64 %to, %to, %at;\n"                                                                     \
    "st.global.f32 [%to], %x0;\n"                                                                  \
    "ret;\n"                                                                                       \
    "}\n"

const char mu_multiply_ptx[] = HEAD FACTORS STARTS
    "more:\n" CHAINS CHAINS CHAINS CHAINS CHAINS CHAINS CHAINS CHAINS AGAIN SUMS STORE;
