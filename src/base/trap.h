/*
 * Traps the system calls of a thread while it must make none but those that wait for another thread
 * (futex): any other ends the process with a line that names it. Test builds only, on systems that
 * hand system calls back to the program (Linux 5.11 on x86-64 or later); the kernel does it by a
 * byte of the thread's, so that switching costs no system call. Called by fault.c alone, on any
 * thread.
 */
#ifndef MU_BASE_TRAP_H
#define MU_BASE_TRAP_H

#include <stdbool.h>

/* Begins or ends a stretch without system calls; the first one of a thread prepares it. */
void mu_trap_calls(bool trapped);
/* Whether that could be prepared, so far. */
bool mu_trap_able(void);
/* Prints on standard error how many stretches there were and the calls inside them, or that they
 * cannot be trapped here. */
void mu_trap_report(void);

#endif
