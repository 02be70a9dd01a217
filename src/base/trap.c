/* Trapped system calls; see trap.h. */
#include "base/trap.h"

#ifdef MU_CHECKS

#include <stdatomic.h>
#include <stdio.h>

#include <sys/prctl.h>

#if defined(__x86_64__) && defined(PR_SET_SYSCALL_USER_DISPATCH) && !defined(__SANITIZE_THREAD__)

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#define RESTORER_BYTES 16 /* of libc's two instructions that end a signal handler */

/* As the kernel knows it: libc does not tell where its restorer is. */
struct kernel_sigaction {
    void (*handler)(int);
    unsigned long flags;
    void (*restorer)(void);
    unsigned long mask;
};

static atomic_ullong stretches, futexes;
static _Atomic bool unable;
static struct kernel_sigaction installed;
static _Thread_local bool prepared;
static _Thread_local volatile char selector = SYSCALL_DISPATCH_FILTER_ALLOW;

static void refuse(int number)
{
    char line[64];
    int len = snprintf(line, sizeof line, "muster: system call %d inside a step\n", number);
    ssize_t n = write(STDERR_FILENO, line, (size_t)len);
    (void)n;
    abort();
}

/* Makes a futex call in the thread's place; its result is what the thread finds. */
static void on_call(int signal_number, siginfo_t *info, void *context)
{
    (void)signal_number;
    selector = SYSCALL_DISPATCH_FILTER_ALLOW;
    if (info->si_syscall != SYS_futex) refuse(info->si_syscall);
    greg_t *r = ((ucontext_t *)context)->uc_mcontext.gregs;
    int before = errno;
    long result =
        syscall(SYS_futex, r[REG_RDI], r[REG_RSI], r[REG_RDX], r[REG_R10], r[REG_R8], r[REG_R9]);
    r[REG_RAX] = result < 0 ? -errno : result;
    errno = before;
    atomic_fetch_add_explicit(&futexes, 1, memory_order_relaxed);
    selector = SYSCALL_DISPATCH_FILTER_BLOCK;
}

static void install(void)
{
    struct sigaction act = {.sa_sigaction = on_call, .sa_flags = SA_SIGINFO};
    if (sigaction(SIGSYS, &act, NULL) != 0 ||
        syscall(SYS_rt_sigaction, SIGSYS, NULL, &installed, sizeof installed.mask) != 0)
        atomic_store(&unable, true);
}

/* The way back from the handler is a system call too, and must stay open. */
static bool prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    sigset_t set;
    (void)pthread_once(&once, install);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGSYS);
    (void)pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    unsigned long restorer;
    memcpy(&restorer, &installed.restorer, sizeof restorer);
    return !atomic_load(&unable) && prctl(PR_SET_SYSCALL_USER_DISPATCH, PR_SYS_DISPATCH_ON,
                                          restorer, RESTORER_BYTES, &selector) == 0;
}

void mu_trap_calls(bool trapped)
{
    if (!prepared && !prepare()) atomic_store(&unable, true);
    prepared = true;
    if (atomic_load_explicit(&unable, memory_order_relaxed)) return;
    if (trapped) atomic_fetch_add_explicit(&stretches, 1, memory_order_relaxed);
    selector = trapped ? SYSCALL_DISPATCH_FILTER_BLOCK : SYSCALL_DISPATCH_FILTER_ALLOW;
}

#else

static atomic_ullong stretches, futexes;
static _Atomic bool unable = true;

void mu_trap_calls(bool trapped)
{
    (void)trapped;
}

#endif

bool mu_trap_able(void)
{
    return !atomic_load(&unable);
}

void mu_trap_report(void)
{
    if (!mu_trap_able())
        (void)fprintf(stderr, "system calls cannot be trapped here\n");
    else
        (void)fprintf(stderr, "trapped %llu runs of steps: %llu futex calls, no others\n",
                      atomic_load(&stretches), atomic_load(&futexes));
}

#endif
