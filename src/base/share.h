/*
 * Tables of share/ as part of the program, so that the binary alone suffices. A folder named by
 * MUSTER_SHARE comes first: that is how a person tries an edited table; those that it lacks are the
 * program's. Any thread.
 */
#ifndef MU_BASE_SHARE_H
#define MU_BASE_SHARE_H

#include "base/text.h"

#include <stdint.h>

/* Puts share/FILE into the program, between SYMBOL_begin and SYMBOL_end. The path is relative to
 * where the compiler runs, the root of the repository; the Makefile names the file once more, since
 * the assembler tells make nothing of it. */
#define MU_SHARE_EMBED(symbol, file)                                                               \
    __asm__(".section .rodata\n"                                                                   \
            ".balign 16\n" #symbol "_begin:\n"                                                     \
            ".incbin \"share/" file "\"\n" #symbol "_end:\n"                                       \
            ".byte 0\n"                                                                            \
            ".previous\n");                                                                        \
    extern const char symbol##_begin[], symbol##_end[]

#define MU_SHARE_BYTES(symbol)                                                                     \
    ((struct mu_str){symbol##_begin, (size_t)((uintptr_t)symbol##_end - (uintptr_t)symbol##_begin)})

/* The table `file` of MUSTER_SHARE's folder, or else the `embedded` one. Initialises `out`, which
 * the caller ends in any case. */
mu_status mu_share_read(const char *file, struct mu_str embedded, struct mu_text *out,
                        struct mu_err *err);

#endif
