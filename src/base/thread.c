/* Threads on Linux; see thread.h. */
#include "base/thread.h"

#include "base/alloc.h"
#include "base/fault.h"
#include "base/number.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

struct thread_start {
    mu_thread_fn *fn;
    void *arg;
    char name[16]; /* the kernel's limit */
    int cpu;
};

static void *thread_main(void *p)
{
    struct thread_start start = *(struct thread_start *)p;
    mu_free(p);
    (void)pthread_setname_np(pthread_self(), start.name);
    if (start.cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)start.cpu, &set);
        /* A mask that shrank since it was read costs the pin, not the thread. */
        (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
    }
    start.fn(start.arg);
    return NULL;
}

mu_status mu_thread_start(struct mu_thread *thread, mu_thread_fn *fn, void *arg, const char *name,
                          int cpu, struct mu_err *err)
{
    struct thread_start *start = mu_alloc(sizeof *start);
    if (!start) return mu_fail_memory(err, sizeof *start);
    *start = (struct thread_start){.fn = fn, .arg = arg, .cpu = cpu};
    (void)snprintf(start->name, sizeof start->name, "%s", name);
    sigset_t all, old;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    int rc = mu_fault_hit(MU_FAULT_THREAD)
                 ? EAGAIN
                 : pthread_create(&thread->handle, NULL, thread_main, start);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0) {
        mu_free(start);
        mu_status status = mu_fail_errno(err, MU_E_RESOURCE, rc, "cannot start a thread");
        mu_err_cure(err, "see ulimit -u and the cgroup's pids.max");
        return status;
    }
    thread->started = true;
    return MU_OK;
}

void mu_thread_join(struct mu_thread *thread)
{
    if (thread->started) (void)pthread_join(thread->handle, NULL);
    thread->started = false;
}

static long futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
    return syscall(SYS_futex, word, op, value, timeout, NULL, 0);
}

void mu_wait_word(_Atomic uint32_t *word, uint32_t value)
{
    (void)futex(word, FUTEX_WAIT_PRIVATE, value, NULL);
}

bool mu_wait_word_for(_Atomic uint32_t *word, uint32_t value, uint32_t timeout_ms)
{
    return mu_wait_word_ns(word, value, timeout_ms * UINT64_C(1000000));
}

bool mu_wait_word_ns(_Atomic uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
    struct timespec t = {.tv_sec = (time_t)(timeout_ns / 1000000000),
                         .tv_nsec = (long)(timeout_ns % 1000000000)};
    return futex(word, FUTEX_WAIT_PRIVATE, value, &t) == 0 || errno != ETIMEDOUT;
}

void mu_wake_word(_Atomic uint32_t *word)
{
    (void)futex(word, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL);
}

/* The CPU quota of this process's cgroup in whole CPUs, rounded up; 0 when there is none. */
static unsigned cgroup_quota(void)
{
    static const char *const files[] = {"/sys/fs/cgroup/cpu.max",
                                        "/sys/fs/cgroup/cpu/cpu.cfs_quota_us"};
    for (size_t i = 0; i < MU_ARRAY_LEN(files); i++) {
        char line[64] = "";
        FILE *f = fopen(files[i], "re");
        if (!f) continue;
        size_t n = fread(line, 1, sizeof line - 1, f);
        (void)fclose(f);
        struct mu_str quota = {line, strcspn(line, " \n")};
        struct mu_str rest = {line + quota.len, n - quota.len};
        uint64_t quota_us, period_us = 100000;
        if (rest.len > 1 && rest.p[0] == ' ')
            (void)mu_parse_u64((struct mu_str){rest.p + 1, strcspn(rest.p + 1, "\n")}, 1,
                               UINT32_MAX, &period_us);
        if (mu_parse_u64(quota, 1, UINT32_MAX, &quota_us))
            return (unsigned)MU_CEIL_DIV(quota_us, period_us);
    }
    return 0;
}

unsigned mu_cpu_usable(int *cpus, unsigned max)
{
    cpu_set_t set;
    unsigned n = 0;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        for (int cpu = 0; cpu < CPU_SETSIZE && n < max; cpu++)
            if (CPU_ISSET((size_t)cpu, &set)) cpus[n++] = cpu;
    unsigned quota = cgroup_quota();
    unsigned threads = n ? n : 1;
    return quota ? MU_MIN(threads, quota) : threads;
}
