/* Files: mapped, read under a limit, written whole or not at all. */
#include "base/file.h"

#include "base/alloc.h"
#include "base/thread.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[1024];

static const char *in_folder(const char *name)
{
    static char paths[4][2048];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    (void)snprintf(path, sizeof paths[0], "%s/%s", folder, name);
    return path;
}

static int make_folder(void **state)
{
    (void)state;
    const char *base = getenv("TMPDIR");
    (void)snprintf(folder, sizeof folder, "%s/muster-file-XXXXXX", base ? base : "/tmp");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"a",     "empty", "out", "out.part", "pipe",
                                        "d/e/f", "d/e",   "d",   "no-entry"};
    for (size_t i = 0; i < MU_ARRAY_LEN(names); i++)
        (void)remove(in_folder(names[i]));
    return rmdir(folder);
}

static void put(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static void check_content(const char *path, const char *want)
{
    struct mu_text text;
    mu_text_init(&text, 4 << 20);
    assert_int_equal(mu_file_read(path, &text, NULL), MU_OK);
    assert_string_equal(mu_text_get(&text), want);
    mu_text_fini(&text);
}

static void maps_regular_files(void **state)
{
    (void)state;
    struct mu_file_map map;
    put(in_folder("a"), "twelve bytes");
    assert_int_equal(mu_file_map(in_folder("a"), &map, NULL), MU_OK);
    assert_int_equal(map.size, 12);
    assert_memory_equal(map.bytes, "twelve bytes", 12);
    mu_file_release(map.bytes, map.size);
    assert_memory_equal(map.bytes, "twelve bytes", 12);
    mu_file_unmap(&map);
    assert_null(map.bytes);
    put(in_folder("empty"), "");
    assert_int_equal(mu_file_map(in_folder("empty"), &map, NULL), MU_OK);
    assert_null(map.bytes);
    assert_int_equal(map.size, 0);
    mu_file_unmap(&map);
}

static void maps_nothing_else(void **state)
{
    (void)state;
    struct mu_file_map map;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_file_map(in_folder("absent"), &map, &err), MU_E_MISSING);
    assert_non_null(strstr(err.where, "absent"));
    assert_non_null(strstr(err.what, "No such file"));
    err = MU_ERR_INIT;
    assert_int_equal(mu_file_map(folder, &map, &err), MU_E_INPUT);
    assert_string_equal(err.what, "not a regular file");
    assert_int_equal(mkfifo(in_folder("pipe"), 0600), 0);
    assert_int_equal(mu_file_map(in_folder("pipe"), &map, NULL), MU_E_INPUT);
    assert_int_equal(mu_file_map("/dev/null", &map, NULL), MU_E_INPUT);
}

static void reads_up_to_the_limit(void **state)
{
    (void)state;
    struct mu_text text;
    struct mu_err err = MU_ERR_INIT;
    put(in_folder("a"), "12345");
    mu_text_init(&text, 5);
    assert_int_equal(mu_file_read(in_folder("a"), &text, &err), MU_OK);
    assert_string_equal(mu_text_get(&text), "12345");
    mu_text_fini(&text);
    mu_text_init(&text, 4);
    assert_int_equal(mu_file_read(in_folder("a"), &text, &err), MU_E_RESOURCE);
    assert_non_null(strstr(err.where, "/a"));
    mu_text_fini(&text);
    mu_text_init(&text, 1 << 20); /* a file without end stops there */
    assert_int_equal(mu_file_read("/dev/zero", &text, NULL), MU_E_RESOURCE);
    mu_text_fini(&text);
    assert_int_equal(mu_file_read(folder, &text, NULL), MU_E_IO);
    assert_int_equal(mu_file_read(in_folder("absent"), &text, NULL), MU_E_MISSING);
    mu_text_fini(&text);
}

static void reads_a_pipe_to_its_end(void **state)
{
    (void)state;
    int ends[2];
    struct mu_text text;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(mu_fd_write(ends[1], "pipe", "some", 4, NULL), MU_OK);
    (void)close(ends[1]);
    mu_text_init(&text, 100);
    assert_int_equal(mu_fd_read(ends[0], "pipe", &text, NULL), MU_OK);
    assert_string_equal(mu_text_get(&text), "some");
    mu_text_fini(&text);
    (void)close(ends[0]);
}

static void a_full_disk_and_a_gone_reader_are_told_apart(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    (void)signal(SIGPIPE, SIG_IGN); /* as the program does */
    int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(mu_fd_write(fd, "the disk", "x", 1, &err), MU_E_SPACE);
    assert_string_equal(err.where, "the disk");
    assert_int_equal(mu_fd_write(fd, "the disk", NULL, 0, NULL), MU_OK);
    (void)close(fd);
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    (void)close(ends[0]);
    assert_int_equal(mu_fd_write(ends[1], "pipe", "x", 1, NULL), MU_E_CLOSED);
    (void)close(ends[1]);
}

static void drain(void *arg)
{
    char piece[4096];
    while (read(*(int *)arg, piece, sizeof piece) > 0)
        (void)usleep(100);
}

static void waits_for_a_slow_reader(void **state)
{
    (void)state;
    static char much[1000000];
    int ends[2];
    struct mu_thread reader = {0};
    assert_int_equal(pipe2(ends, 0), 0);
    assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    assert_int_equal(mu_thread_start(&reader, drain, &ends[0], "reader", -1, NULL), MU_OK);
    assert_int_equal(mu_fd_write(ends[1], "pipe", much, sizeof much, NULL), MU_OK);
    (void)close(ends[1]);
    mu_thread_join(&reader);
    (void)close(ends[0]);
}

static void appears_only_when_complete(void **state)
{
    (void)state;
    struct mu_file_out out;
    put(in_folder("out"), "old");
    assert_int_equal(mu_file_out_open(&out, in_folder("out"), NULL), MU_OK);
    assert_int_equal(mu_file_out_write(&out, "new", 3, NULL), MU_OK);
    check_content(in_folder("out"), "old");
    assert_int_equal(mu_file_out_commit(&out, NULL), MU_OK);
    check_content(in_folder("out"), "new");
    mu_file_out_close(&out);
    assert_false(mu_file_exists(in_folder("out.part")));
    check_content(in_folder("out"), "new");

    assert_int_equal(mu_file_out_open(&out, in_folder("out"), NULL), MU_OK);
    assert_int_equal(mu_file_out_write(&out, "never", 5, NULL), MU_OK);
    mu_file_out_close(&out); /* given up */
    assert_false(mu_file_exists(in_folder("out.part")));
    check_content(in_folder("out"), "new");
}

static void writes_more_than_its_buffer(void **state)
{
    (void)state;
    struct mu_file_out out;
    static char piece[700000], large[2500000];
    memset(piece, 'p', sizeof piece);
    memset(large, 'L', sizeof large);
    assert_int_equal(mu_file_out_open(&out, in_folder("out"), NULL), MU_OK);
    assert_int_equal(mu_file_out_write(&out, piece, sizeof piece, NULL), MU_OK);
    assert_int_equal(mu_file_out_write(&out, piece, sizeof piece, NULL), MU_OK);
    assert_int_equal(mu_file_out_write(&out, large, sizeof large, NULL), MU_OK);
    assert_int_equal(mu_file_out_write(&out, "end", 3, NULL), MU_OK);
    assert_int_equal(mu_file_out_write(&out, NULL, 0, NULL), MU_OK);
    assert_int_equal(mu_file_out_commit(&out, NULL), MU_OK);
    mu_file_out_close(&out);
    struct mu_file_map map;
    assert_int_equal(mu_file_map(in_folder("out"), &map, NULL), MU_OK);
    assert_int_equal(map.size, 2 * sizeof piece + sizeof large + 3);
    for (uint64_t i = 0; i < map.size - 3; i++)
        assert_int_equal(map.bytes[i], i < 2 * sizeof piece ? 'p' : 'L');
    assert_memory_equal(map.bytes + map.size - 3, "end", 3);
    mu_file_unmap(&map);
}

static void output_that_cannot_be_made_is_told(void **state)
{
    (void)state;
    struct mu_file_out out;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_file_out_open(&out, in_folder("absent/out"), &err), MU_E_MISSING);
    assert_non_null(strstr(err.where, "absent/out.part"));
    assert_int_equal(mkdir(in_folder("d"), 0700), 0); /* a folder stands where the file should */
    assert_int_equal(mu_file_out_open(&out, in_folder("d"), NULL), MU_E_USAGE);
    assert_false(mu_file_exists(in_folder("d.part")));
    assert_int_equal(mu_file_out_open(&out, "/dev/full", NULL), MU_E_USAGE); /* not replaced */
    assert_true(mu_file_same("/dev/full", "/dev/../dev/full"));
    assert_int_equal(mu_file_out_open(&out, in_folder("late"), NULL), MU_OK);
    assert_int_equal(mkdir(in_folder("late"), 0700), 0); /* it comes before the end */
    assert_int_equal(mu_file_out_commit(&out, NULL), MU_E_IO);
    mu_file_out_close(&out);
    assert_false(mu_file_exists(in_folder("late.part")));
    assert_int_equal(rmdir(in_folder("late")), 0);
}

static void folders_are_made_with_their_parents(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    assert_int_equal(mu_folder_make(in_folder("d//e/f/"), NULL), MU_OK);
    assert_true(mu_file_is_folder(in_folder("d/e/f")));
    assert_int_equal(mu_folder_make(in_folder("d/e/f"), NULL), MU_OK);
    assert_int_equal(mu_folder_make("/", NULL), MU_OK);
    assert_int_equal(mu_folder_make("", NULL), MU_E_MISSING);
    put(in_folder("a"), "");
    assert_int_equal(mu_folder_make(in_folder("a"), &err), MU_E_IO);
    assert_non_null(strstr(err.what, "File exists"));
    assert_int_equal(mu_folder_make(in_folder("a/b"), NULL), MU_E_IO);
    char *path = mu_path_join("one", "two");
    assert_string_equal(path, "one/two");
    mu_free(path);
}

static void scratch_room_has_no_name(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    uint8_t *room = NULL;
    assert_int_equal(setenv("XDG_CACHE_HOME", in_folder("d"), 1), 0);
    assert_int_equal(mu_file_scratch(100000, &room, &err), MU_OK);
    memset(room, 7, 100000);
    mu_file_release(room, 100000);
    assert_int_equal(room[99999], 7);
    assert_int_equal(rmdir(in_folder("d/muster")), 0); /* nothing is in it */
    mu_file_scratch_free(room, 100000);
    assert_int_not_equal(mu_file_scratch(UINT64_C(1) << 60, &room, &err), MU_OK);
    assert_non_null(strstr(err.cure, "XDG_CACHE_HOME"));
    assert_int_equal(rmdir(in_folder("d/muster")), 0);
    put(in_folder("a"), "");
    assert_int_equal(setenv("XDG_CACHE_HOME", in_folder("a"), 1), 0);
    assert_int_equal(mu_file_scratch(1, &room, NULL), MU_E_IO);
    assert_int_equal(unsetenv("XDG_CACHE_HOME"), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, make_folder, remove_folder)
    const struct CMUnitTest tests[] = {
        TEST(maps_regular_files),
        TEST(maps_nothing_else),
        TEST(reads_up_to_the_limit),
        TEST(reads_a_pipe_to_its_end),
        TEST(a_full_disk_and_a_gone_reader_are_told_apart),
        TEST(waits_for_a_slow_reader),
        TEST(appears_only_when_complete),
        TEST(writes_more_than_its_buffer),
        TEST(output_that_cannot_be_made_is_told),
        TEST(folders_are_made_with_their_parents),
        TEST(scratch_room_has_no_name),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
