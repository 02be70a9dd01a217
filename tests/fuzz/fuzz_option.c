/* Options from a hostile config file (first byte even) or command line (odd, words cut at NUL). */
#include "base/option.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct values {
    bool flag;
    uint64_t count, bytes;
    double rate;
    const char *mode;
    struct mu_option_list list;
};

#define AT(field) offsetof(struct values, field)
static const struct mu_option options[] = {
    {"flag", 'f', MU_OPTION_FLAG, AT(flag), NULL, "", 0, 0, NULL, NULL},
    {"count", 'n', MU_OPTION_U64, AT(count), "N", "", 2, 9, "3", NULL},
    {"rate", 'r', MU_OPTION_F64, AT(rate), "R", "", -1, 1, NULL, NULL},
    {"bytes", 0, MU_OPTION_BYTES, AT(bytes), "SIZE", "", 0, 0, "1K", NULL},
    {"mode", 0, MU_OPTION_TEXT, AT(mode), "MODE", "", 0, 0, "a", "a|bc"},
    {"list", 'l', MU_OPTION_LIST, AT(list), "ITEM", "", 0, 0, NULL, NULL},
    {0},
};

static void check(bool holds)
{
    if (!holds) abort();
}

static void parse(int argc, char **argv, const char *config)
{
    static const struct mu_option_spec spec = {"try", "X", "", NULL, options, 0, 2};
    struct values v = {0};
    struct mu_option_result result;
    struct mu_err err = MU_ERR_INIT;
    mu_status status = mu_option_parse(&spec, argc, argv, config, &v, &result, &err);
    check((status == MU_OK) == (err.code == MU_OK));
    if (status == MU_OK) {
        check(v.count >= 2 && v.count <= 9 && v.rate >= -1 && v.rate <= 1);
        check(strcmp(v.mode, "a") == 0 || strcmp(v.mode, "bc") == 0);
        check(v.list.n <= MU_OPTION_LIST_MAX);
        for (unsigned i = 0; i < v.list.n; i++)
            check(strlen(v.list.items[i]) <= 65536);
    } else {
        char line[768];
        check(strlen(mu_err_line(&err, line, sizeof line)) > 0);
    }
    mu_option_result_fini(&result);
}

static void parse_config(const uint8_t *data, size_t size)
{
    char command[] = "try", path[64];
    char *argv[] = {command, NULL};
    int fd = memfd_create("config", MFD_CLOEXEC);
    check(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    parse(1, argv, path);
    (void)close(fd);
}

static void parse_words(const uint8_t *data, size_t size)
{
    char *argv[34] = {NULL}, *text = malloc(size + 1), command[] = "try";
    int argc = 1;
    check(text != NULL);
    if (size) memcpy(text, data, size);
    text[size] = '\0';
    argv[0] = command;
    for (char *p = text; argc < 33 && p < text + size; p += strlen(p) + 1)
        argv[argc++] = p;
    parse(argc, argv, NULL);
    free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    if (data[0] % 2 == 0)
        parse_config(data + 1, size - 1);
    else
        parse_words(data + 1, size - 1);
    return 0;
}
