/* Option tables: every kind, every source, who beats whom, and what a mistake is told. */
#include "base/option.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

struct values {
    bool quick;
    uint64_t count;
    double rate;
    uint64_t memory;
    const char *mode;
    const char *name;
    struct mu_option_list tags;
};

static const struct mu_option options[] = {
    {"quick", 'q', MU_OPTION_FLAG, offsetof(struct values, quick), NULL, "No waiting.", 0, 0, NULL,
     NULL},
    {"count", 'n', MU_OPTION_U64, offsetof(struct values, count), "N", "How many.", 1, 100, "7",
     NULL},
    {"rate", 0, MU_OPTION_F64, offsetof(struct values, rate), "R", "How fast.", 0.5, 2, "1", NULL},
    {"max-memory", 0, MU_OPTION_BYTES, offsetof(struct values, memory), "SIZE", "How much.", 0, 0,
     "1KiB", NULL},
    {"mode", 'm', MU_OPTION_TEXT, offsetof(struct values, mode), "MODE", "Which.", 0, 0, "fast",
     "fast|slow"},
    {"name", 0, MU_OPTION_TEXT, offsetof(struct values, name), "NAME", "Who.", 0, 0, NULL, NULL},
    {"tag", 't', MU_OPTION_LIST, offsetof(struct values, tags), "TAG", "May be repeated.", 0, 0,
     "none", NULL},
    {0},
};

static const struct mu_option_spec spec = {
    .command = "try",
    .operands = "MODEL [OTHER]",
    .summary = "Tries.",
    .options = options,
    .min_operands = 1,
    .max_operands = 2,
};

static char config_path[4096];
static struct values values;
static struct mu_option_result result;
static struct mu_err err;

/* Parses the words, "try" before them. What they left is in the three above. */
static mu_status parse(int n, const char *const *words)
{
    static char copies[32][64]; /* argv is reordered in place, so it must not be literals */
    static char *argv[33];
    for (int i = 0; i <= n; i++) {
        (void)snprintf(copies[i], sizeof copies[i], "%s", i ? words[i - 1] : "try");
        argv[i] = copies[i];
    }
    argv[n + 1] = NULL;
    mu_option_result_fini(&result);
    values = (struct values){0};
    err = MU_ERR_INIT;
    return mu_option_parse(&spec, n + 1, argv, config_path, &values, &result, &err);
}
#define PARSE(...)                                                                                 \
    parse((int)MU_ARRAY_LEN(((const char *[]){__VA_ARGS__})), (const char *const[]){__VA_ARGS__})

static void config(const char *text)
{
    FILE *f = fopen(config_path, "w");
    assert_non_null(f);
    (void)fputs(text, f);
    assert_int_equal(fclose(f), 0);
}

static int fresh(void **state)
{
    (void)state;
    static const char *const names[] = {"QUICK", "COUNT", "RATE", "MAX_MEMORY",
                                        "MODE",  "NAME",  "TAG"};
    for (size_t i = 0; i < MU_ARRAY_LEN(names); i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "MUSTER_%s", names[i]);
        (void)unsetenv(name);
    }
    const char *folder = getenv("TMPDIR");
    (void)snprintf(config_path, sizeof config_path, "%s/option-%d", folder ? folder : "/tmp",
                   (int)getpid());
    (void)unlink(config_path);
    return 0;
}

static int finish(void **state)
{
    mu_option_result_fini(&result);
    return fresh(state);
}

static void defaults_come_from_the_table(void **state)
{
    (void)state;
    assert_int_equal(PARSE("model"), MU_OK);
    assert_false(values.quick);
    assert_int_equal(values.count, 7);
    assert_true(values.rate == 1);
    assert_int_equal(values.memory, 1024);
    assert_string_equal(values.mode, "fast");
    assert_null(values.name);
    assert_int_equal(values.tags.n, 1);
    assert_string_equal(values.tags.items[0], "none");
    assert_true(result.given == 0);
    assert_false(mu_option_given(&spec, &result, "mode"));
}

static void every_kind_is_read(void **state)
{
    (void)state;
    assert_int_equal(PARSE("-q", "model", "-n5", "--rate=2", "--max-memory", "2GiB", "-m", "slow",
                           "other", "--name", "x y", "-t", "a", "--tag=b"),
                     MU_OK);
    assert_true(values.quick);
    assert_int_equal(values.count, 5);
    assert_true(values.rate == 2);
    assert_true(values.memory == 2ull << 30);
    assert_string_equal(values.mode, "slow");
    assert_string_equal(values.name, "x y");
    assert_int_equal(values.tags.n, 2);
    assert_string_equal(values.tags.items[0], "a");
    assert_string_equal(values.tags.items[1], "b");
    assert_int_equal(result.n_operands, 2);
    assert_string_equal(result.operands[0], "model");
    assert_string_equal(result.operands[1], "other");
    assert_true(mu_option_given(&spec, &result, "rate"));
    assert_int_equal(PARSE("--", "-q"), MU_OK); /* after "--" all are operands */
    assert_string_equal(result.operands[0], "-q");
    assert_int_equal(PARSE("model", "--cou", "9"), MU_OK); /* GNU: a beginning is enough */
    assert_int_equal(values.count, 9);
}

static void the_nearer_source_wins(void **state)
{
    (void)state;
    config("# comment\n\ncount = 11\nunknown-to-us = 1\nmode=slow\ntag = f1\ntag = f2\n"
           "[other]\ncount = 12\n[try]\nrate = 1.5\nname =  spaced name \r\n");
    assert_int_equal(PARSE("model"), MU_OK);
    assert_int_equal(values.count, 11);
    assert_string_equal(values.mode, "slow");
    assert_true(values.rate == 1.5);
    assert_string_equal(values.name, "spaced name");
    assert_int_equal(values.tags.n, 2);
    assert_string_equal(values.tags.items[1], "f2");
    assert_true(mu_option_given(&spec, &result, "count"));

    (void)setenv("MUSTER_COUNT", "21", 1);
    (void)setenv("MUSTER_TAG", "e", 1);
    (void)setenv("MUSTER_QUICK", "true", 1);
    (void)setenv("MUSTER_MAX_MEMORY", "3KiB", 1);
    assert_int_equal(PARSE("model"), MU_OK);
    assert_int_equal(values.count, 21);
    assert_true(values.quick);
    assert_int_equal(values.memory, 3072);
    assert_string_equal(values.mode, "slow");
    assert_int_equal(values.tags.n, 1);
    assert_string_equal(values.tags.items[0], "e");

    (void)setenv("MUSTER_COUNT", "", 1);
    assert_int_equal(PARSE("model"), MU_OK);
    assert_int_equal(values.count, 11);

    assert_int_equal(PARSE("model", "--count", "31", "-t", "c1", "-t", "c2"), MU_OK);
    assert_int_equal(values.count, 31);
    assert_int_equal(values.tags.n, 2);
    assert_string_equal(values.tags.items[0], "c1");
}

static void wrong(const char *want, mu_status status)
{
    char line[768];
    assert_int_equal(status, MU_E_USAGE);
    (void)mu_err_line(&err, line, sizeof line);
    if (!strstr(line, want)) fail_msg("'%s' does not say '%s'", line, want);
}

static void mistakes_are_named(void **state)
{
    (void)state;
    wrong("did you mean --count?", PARSE("model", "--cuont", "3"));
    wrong("try has no option --zzzzzzzzz=4; muster try --help", PARSE("model", "--zzzzzzzzz=4"));
    wrong("no option -z", PARSE("model", "-z"));
    wrong("no option -z", PARSE("model", "-qzq"));
    wrong("--m could be several", PARSE("model", "--m"));
    wrong("--count wants a value", PARSE("model", "--count"));
    wrong("-n wants a value", PARSE("model", "-n"));
    wrong("--quick takes no value", PARSE("model", "--quick=1"));
    wrong("--version takes no value", PARSE("model", "--version=1"));
    wrong("--count wants a whole number from 1 to 100, not '0'", PARSE("model", "--count", "0"));
    wrong("not '101'", PARSE("model", "-n", "101"));
    wrong("not 'many'", PARSE("model", "-n", "many"));
    wrong("--rate wants a number from 0.5 to 2, not '3'", PARSE("model", "--rate", "3"));
    wrong("--rate wants a number, not 'nan'", PARSE("model", "--rate", "nan"));
    wrong("a size like 20GiB", PARSE("model", "--max-memory", "lots"));
    wrong("one of fast|slow, not 'slo'", PARSE("model", "-m", "slo"));
    wrong("one of fast|slow, not 'fast|slow'", PARSE("model", "-m", "fast|slow"));
    wrong("one of fast|slow, not ''", PARSE("model", "-m", ""));
    wrong("try wants MODEL", parse(0, (const char *const[]){""}));
    wrong("try cannot use 'c'", PARSE("a", "b", "c"));
    wrong("16 times at most",
          PARSE("a", "-t1", "-t2", "-t3", "-t4", "-t5", "-t6", "-t7", "-t8", "-t9", "-t10", "-t11",
                "-t12", "-t13", "-t14", "-t15", "-t16", "-t17"));
    (void)setenv("MUSTER_QUICK", "perhaps", 1);
    wrong("MUSTER_QUICK wants true or false, not 'perhaps'", PARSE("model"));
    (void)unsetenv("MUSTER_QUICK");
    config("\ncount: 3\n");
    wrong("line 2: not 'name = value'", PARSE("model"));
    config("[try]\ncuont = 3\n");
    wrong("line 2: try has no option 'cuont'", PARSE("model"));
    config("count = no\n");
    wrong("line 1: count wants", PARSE("model"));
}

static void a_config_that_is_no_text_is_refused(void **state)
{
    (void)state;
    FILE *f = fopen(config_path, "w");
    for (int i = 0; i < 70000; i++)
        (void)fputc('#', f);
    (void)fclose(f);
    assert_int_equal(PARSE("model"), MU_E_RESOURCE);
    f = fopen(config_path, "w");
    assert_int_equal(fwrite("count = 3\0count = 4\n", 1, 20, f), 20);
    (void)fclose(f);
    assert_int_equal(PARSE("model"), MU_E_INPUT);
}

static void help_needs_nothing_else_to_be_right(void **state)
{
    (void)state;
    assert_int_equal(PARSE("--help"), MU_OK);
    assert_true(result.help);
    config("no sense\n");
    assert_int_equal(PARSE("--help"), MU_OK);
    assert_true(result.help);
    assert_int_equal(err.code, MU_OK);
    wrong("line 1: not 'name = value'", PARSE("model"));
    wrong("line 1: not 'name = value'", PARSE("--bogus", "--help"));
    config("");
    assert_int_equal(PARSE("-h", "a", "b", "c"), MU_OK);
    assert_true(result.help);
    assert_int_equal(PARSE("--version"), MU_OK);
    assert_true(result.version);
    struct mu_text text;
    mu_text_init(&text, 10000);
    struct mu_option_spec wordy = spec;
    wordy.details = "Type:\n  try  this\nor not.";
    mu_option_help(&wordy, &text);
    assert_int_equal(mu_text_status(&text, NULL), MU_OK);
    static const char *const want[] = {
        "Usage: muster try [OPTION]... MODEL [OTHER]\nTries.\n",
        "\n\nType:\n  try  this\nor not.\n\n",
        "\n  -q, --quick               No waiting.\n",
        "\n      --max-memory SIZE     How much. (default 1KiB)\n",
        "\n  -m, --mode MODE           Which. [fast|slow] (default fast)\n",
        "\n  -h, --help ",
        "'[try]'",
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(want); i++)
        if (!strstr(mu_text_get(&text), want[i]))
            fail_msg("no '%s' in:\n%s", want[i], mu_text_get(&text));
    for (const char *line = mu_text_get(&text); *line; line += strcspn(line, "\n") + 1)
        assert_true(strcspn(line, "\n") <= 96);
    mu_text_fini(&text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(defaults_come_from_the_table, fresh, finish),
        cmocka_unit_test_setup_teardown(every_kind_is_read, fresh, finish),
        cmocka_unit_test_setup_teardown(the_nearer_source_wins, fresh, finish),
        cmocka_unit_test_setup_teardown(mistakes_are_named, fresh, finish),
        cmocka_unit_test_setup_teardown(a_config_that_is_no_text_is_refused, fresh, finish),
        cmocka_unit_test_setup_teardown(help_needs_nothing_else_to_be_right, fresh, finish),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
