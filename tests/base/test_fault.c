/*
 * Fault points, and base itself under each of them: this program runs itself once for every passage
 * of every point. The child must end by itself, say what failed, and lose no memory (which the leak
 * checker of the address sanitizer's build sees).
 */
#include "base/alloc.h"
#include "base/fault.h"
#include "base/file.h"
#include "base/json.h"
#include "base/option.h"
#include "base/team.h"
#include "base/trap.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define CHILD_FAILED_CLEANLY 42

static void add_one(void *arg, unsigned member)
{
    (void)member;
    atomic_fetch_add((_Atomic unsigned *)arg, 1);
}

static mu_status use_team(struct mu_err *err)
{
    struct mu_team *team;
    _Atomic unsigned ran = 0;
    MU_TRY(mu_team_create(3, NULL, &team, err));
    mu_team_run(team, add_one, &ran);
    mu_team_destroy(team);
    return ran == 3 ? MU_OK : mu_fail(err, MU_E_INTERNAL, "%u of 3 members ran", ran);
}

static mu_status use_files(const char *path, struct mu_err *err)
{
    struct mu_file_out out;
    MU_TRY(mu_file_out_open(&out, path, err));
    mu_status status = mu_file_out_write(&out, "{\"k\": [1, 2]}", 13, err);
    if (status == MU_OK) status = mu_file_out_commit(&out, err);
    mu_file_out_close(&out);
    MU_TRY(status);
    struct mu_file_map map;
    MU_TRY(mu_file_map(path, &map, err));
    mu_file_unmap(&map);
    json_t *root = NULL;
    MU_TRY(mu_json_read(path, 100, &root, err));
    json_decref(root);
    return MU_OK;
}

static mu_status use_options(const char *config, struct mu_err *err)
{
    static const struct mu_option options[] = {
        {"name", 0, MU_OPTION_TEXT, 0, "N", "Who.", 0, 0, NULL, NULL}, {0}};
    static const struct mu_option_spec spec = {"try", "", "", NULL, options, 0, 0};
    const char *name = NULL;
    char command[] = "try";
    char *argv[] = {command, NULL};
    struct mu_option_result result;
    FILE *f = fopen(config, "w");
    if (!f) return mu_fail(err, MU_E_INTERNAL, "no config");
    (void)fputs("name = x\n", f);
    (void)fclose(f);
    mu_status status = mu_option_parse(&spec, 1, argv, config, (void *)&name, &result, err);
    mu_option_result_fini(&result);
    (void)unlink(config);
    return status;
}

static mu_status use_arena(struct mu_err *err)
{
    struct mu_arena *arena = mu_arena_create(100000);
    bool good = arena && mu_arena_alloc(arena, 10, 10) && mu_arena_printf(arena, "%d", 7);
    mu_arena_destroy(arena);
    return good ? MU_OK : mu_fail_memory(err, 100);
}

static int child(const char *folder)
{
    char path[1024], part[1040];
    struct mu_err err = MU_ERR_INIT;
    (void)snprintf(path, sizeof path, "%s/fault-%d", folder, (int)getpid());
    (void)snprintf(part, sizeof part, "%s.part", path);
    mu_status status = use_files(path, &err);
    if (status == MU_OK) status = use_options(path, &err);
    if (status == MU_OK) status = use_arena(&err);
    if (status == MU_OK) status = use_team(&err);
    (void)unlink(path);
    if (unlink(part) == 0) return 1; /* nobody may leave that behind */
    if (status == MU_OK) return 0;
    char line[768];
    (void)fprintf(stderr, "%s\n", mu_err_line(&err, line, sizeof line));
    return err.code == status && status != MU_E_INTERNAL ? CHILD_FAILED_CLEANLY : 1;
}

#define CHILD_TRAPS_NOTHING 43

/* Wakes a word, which is allowed, and does or does not make another system call, in a stretch that
 * allows no others. */
static int trapped_child(const char *what)
{
    static _Atomic uint32_t word;
    mu_fault_forbid(true);
    mu_fault_forbid(false);
    if (!mu_trap_able()) return CHILD_TRAPS_NOTHING;
    pid_t before = getppid(), inside = before;
    mu_fault_forbid(true);
    mu_wake_word(&word);
    if (strcmp(what, "call") == 0) inside = getppid();
    mu_fault_forbid(false);
    return getppid() == before && inside == before ? 0 : 1;
}

/* Runs this program as a child under the given fault; returns its exit status. */
static int run_child_as(const char *fault, const char *mode, const char *argument)
{
    pid_t pid = fork();
    if (pid == 0) {
        (void)setenv("MUSTER_FAULT", fault, 1);
        (void)execl("/proc/self/exe", "test_fault", mode, argument, (char *)NULL);
        _exit(127);
    }
    int status = 0;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_child(const char *fault)
{
    const char *folder = getenv("TMPDIR");
    return run_child_as(fault, "child", folder ? folder : "/tmp");
}

static void walk(const char *point)
{
    char fault[64];
    int failed = 0, code = CHILD_FAILED_CLEANLY;
    for (int n = 1; code == CHILD_FAILED_CLEANLY && n < 1000; n++) {
        (void)snprintf(fault, sizeof fault, "%s:%d", point, n);
        code = run_child(fault);
        failed += code == CHILD_FAILED_CLEANLY;
    }
    if (code != 0) fail_msg("%s ended with %d", fault, code);
    assert_true(failed > 0); /* the point is there at all */
}

static void every_allocation_may_fail(void **state)
{
    (void)state;
    walk("alloc");
}

static void every_read_may_fail(void **state)
{
    (void)state;
    walk("read");
}

static void every_write_may_fail(void **state)
{
    (void)state;
    walk("write");
}

static void every_thread_may_fail(void **state)
{
    (void)state;
    walk("thread");
}

static void counting_changes_nothing(void **state)
{
    (void)state;
    assert_int_equal(run_child("count"), 0);
    assert_int_equal(run_child("nonsense"), 0);
}

/* A thread that forbade itself the points is stopped at one, and goes on once it may again. */
static void forbidden_points_are_trapped(void **state)
{
    (void)state;
    mu_fault_forbid(true);
    mu_fault_forbid(false);
    mu_free(mu_alloc(1));
    pid_t pid = fork();
    if (pid == 0) {
        mu_fault_forbid(true);
        mu_free(mu_alloc(1));
        _exit(0);
    }
    int status = 0;
    assert_true(pid > 0 && waitpid(pid, &status, 0) == pid);
    assert_true(WIFSIGNALED(status));
}

static void system_calls_are_trapped_but_waits(void **state)
{
    (void)state;
    int quiet = run_child_as("calls", "trapped", "none");
    if (quiet == CHILD_TRAPS_NOTHING) skip();
    assert_int_equal(quiet, 0);
    assert_int_equal(run_child_as("calls", "trapped", "call"), 128 + SIGABRT);
    assert_int_not_equal(run_child_as("count", "trapped", "call"), 128 + SIGABRT);
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "trapped") == 0) return trapped_child(argv[2]);
    if (argc == 3 && strcmp(argv[1], "child") == 0) return child(argv[2]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_read_may_fail),
        cmocka_unit_test(every_write_may_fail),
        cmocka_unit_test(every_thread_may_fail),
        cmocka_unit_test(counting_changes_nothing),
        cmocka_unit_test(forbidden_points_are_trapped),
        cmocka_unit_test(system_calls_are_trapped_but_waits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
