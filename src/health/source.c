/*
 * Where a log comes from: a file, standard input, or a program that is asked for it (docker, the
 * journal). The program is started without a shell, and waited for; what it says on both its
 * outputs is the log, since a container's lines come on both. The caller's thread.
 */
#include "base/alloc.h"
#include "base/utf8.h"
#include "health/health_int.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORDS_MAX 8

/* "PREFIX:NAME" runs the words, the name behind the last one. */
static const struct asked {
    const char *prefix, *what, *cure;
    const char *words[WORDS_MAX];
    const char *name_option; /* before the name, in the same word */
} programs[] = {
    {"docker:", "docker logs", "docker ps -a lists them", {"docker", "logs", "--"}, ""},
    {"podman:", "podman logs", "podman ps -a lists them", {"podman", "logs", "--"}, ""},
    {"journal:",
     "journalctl",
     "systemctl list-units lists them",
     {"journalctl", "--no-pager", "--quiet", "--output=short-iso"},
     "--unit="},
};

static const struct asked *program_of(const char *path)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(programs); i++)
        if (strncmp(path, programs[i].prefix, strlen(programs[i].prefix)) == 0) return &programs[i];
    return NULL;
}

/* Starts the program with both its outputs going into `out`. */
static mu_status program_start(const struct asked *p, const char *name, int out, pid_t *child,
                               struct mu_err *err)
{
    char last[300];
    char *words[WORDS_MAX + 2] = {NULL};
    unsigned n = 0;
    for (; n < WORDS_MAX && p->words[n]; n++)
        words[n] = (char *)(uintptr_t)p->words[n]; /* posix_spawn writes none of them */
    if ((size_t)snprintf(last, sizeof last, "%s%s", p->name_option, name) >= sizeof last)
        return mu_fail(err, MU_E_USAGE, "the name behind %s is too long", p->prefix);
    words[n] = last;
    posix_spawn_file_actions_t actions;
    if (posix_spawn_file_actions_init(&actions) != 0) return mu_fail_memory(err, sizeof actions);
    int why = posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!why) why = posix_spawn_file_actions_adddup2(&actions, out, STDOUT_FILENO);
    if (!why) why = posix_spawn_file_actions_adddup2(&actions, out, STDERR_FILENO);
    if (!why) why = posix_spawnp(child, words[0], &actions, NULL, words, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (!why) return MU_OK;
    return mu_fail_errno(err, why == ENOENT ? MU_E_MISSING : MU_E_RESOURCE, why, "cannot run %s",
                         words[0]);
}

/* What the program ended with; its first line tells why, when it is all that came. */
static mu_status program_end(const struct mu_health_diagnosis *d, const struct asked *p,
                             pid_t child, struct mu_err *err)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return MU_OK;
    char said[160] = "";
    const char *newline = d->held ? memchr(d->buffer, '\n', d->held) : NULL;
    if (newline && d->logs[d->n_logs - 1].n_bytes < sizeof said)
        (void)mu_utf8_copy_harmless(
            said, sizeof said, (struct mu_str){d->buffer, (size_t)(newline - d->buffer)}, '\0');
    (void)mu_fail(err, MU_E_INPUT, "%s failed%s%s", p->what, said[0] ? ": " : "", said);
    mu_err_cure(err, "%s", p->cure);
    return MU_E_INPUT;
}

static mu_status program_read(struct mu_health_diagnosis *d, const struct asked *p,
                              const char *path, bool (*stop)(void), struct mu_err *err)
{
    int ends[2];
    pid_t child = -1;
    if (pipe2(ends, O_CLOEXEC) != 0)
        return mu_fail_errno(err, MU_E_RESOURCE, errno, "cannot read %s", path);
    mu_status status = program_start(p, path + strlen(p->prefix), ends[1], &child, err);
    (void)close(ends[1]);
    if (status == MU_OK) {
        status = mu_health_fd_read(d, ends[0], path, false, stop, err);
        if (status != MU_OK) (void)kill(child, SIGKILL);
        mu_status ended = program_end(d, p, child, status == MU_OK ? err : NULL);
        if (status == MU_OK) status = ended;
    }
    (void)close(ends[0]);
    return status;
}

static mu_status file_read(struct mu_health_diagnosis *d, const char *path, bool (*stop)(void),
                           struct mu_err *err)
{
    bool input = strcmp(path, "-") == 0;
    int fd = input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return mu_fail_errno(err, MU_E_IO, errno, "cannot open %s", path);
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    mu_status status = mu_health_fd_read(d, fd, input ? "standard input" : path, true, stop, err);
    if (!input) (void)close(fd);
    return status;
}

mu_status mu_health_log_read(struct mu_health_diagnosis *d, const char *path, bool (*stop)(void),
                             struct mu_err *err)
{
    const struct asked *program = program_of(path);
    bool input = strcmp(path, "-") == 0;
    MU_TRY(mu_health_log_begin(d, input ? "standard input" : path, err));
    MU_TRY(program ? program_read(d, program, path, stop, err) : file_read(d, path, stop, err));
    return mu_health_log_end(d, err);
}
