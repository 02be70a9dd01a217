/* A function in a process of its own; see child.h. */
#include "base/child.h"

#include "base/alloc.h"
#include "base/clock.h"

#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define DEATH_S 1.0 /* after which one that was killed is left behind */

void *mu_shared_alloc(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

void mu_shared_free(void *p, size_t size)
{
    if (p) (void)munmap(p, size);
}

mu_status mu_child_start(struct mu_child *child, void (*fn)(void *arg), void *arg,
                         struct mu_err *err)
{
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) return mu_fail_errno(err, MU_E_RESOURCE, errno, "no process can be started");
    if (pid > 0) {
        child->pid = pid;
        return MU_OK;
    }
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() == parent) fn(arg);
    _exit(0);
}

bool mu_child_is_over(struct mu_child *child, int *signal)
{
    int status = 0;
    *signal = 0;
    if (child->pid == 0) return true;
    pid_t done = waitpid(child->pid, &status, WNOHANG);
    if (done == 0 || (done < 0 && errno == EINTR)) return false;
    if (done > 0 && WIFSIGNALED(status)) *signal = WTERMSIG(status);
    child->pid = 0;
    return true;
}

void mu_child_kill(struct mu_child *child)
{
    int signal;
    if (child->pid) (void)kill(child->pid, SIGKILL);
    for (uint64_t start = mu_clock_ns();
         !mu_child_is_over(child, &signal) && mu_clock_seconds_since(start) < DEATH_S;)
        mu_clock_pause(0.005, NULL);
    child->pid = 0;
}
