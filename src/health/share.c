/* The log catalogue inside the program, so that it works without being installed. */
#include "health/health_int.h"

__asm__(".section .rodata\n"
        ".balign 16\n"
        "mu_health_logs_begin:\n"
        ".incbin \"share/logs.tsv\"\n"
        "mu_health_logs_end:\n"
        ".byte 0\n"
        ".previous\n");

extern const char mu_health_logs_begin[], mu_health_logs_end[];

struct mu_str mu_health_share_logs(void)
{
    return (struct mu_str){mu_health_logs_begin, (size_t)((uintptr_t)mu_health_logs_end -
                                                          (uintptr_t)mu_health_logs_begin)};
}
