/*
 * One table of options a command feeds its command line (GNU long options, single letters, any
 * order), its environment (MUSTER_NAME), its config file and its help text.
 *
 * Command line beats environment beats config file beats the default in the table. One thread, at
 * the start of the program.
 */
#ifndef MU_BASE_OPTION_H
#define MU_BASE_OPTION_H

#include "base/text.h"

#include <stddef.h>

enum mu_option_kind {
    MU_OPTION_FLAG,  /* bool */
    MU_OPTION_U64,   /* uint64_t in [min, max] */
    MU_OPTION_F64,   /* double in [min, max] */
    MU_OPTION_BYTES, /* uint64_t, "20GiB" */
    MU_OPTION_TEXT,  /* const char * */
    MU_OPTION_LIST,  /* struct mu_option_list: may be given several times */
};

#define MU_OPTION_LIST_MAX 16
struct mu_option_list {
    const char *items[MU_OPTION_LIST_MAX];
    unsigned n;
};

struct mu_option {
    const char *name; /* NULL ends the table */
    char letter;      /* 0: none */
    enum mu_option_kind kind;
    size_t offset;        /* of the value in the command's struct */
    const char *argument; /* its name in the help; NULL for flags */
    const char *help;
    double min, max;           /* of numbers; both 0: any */
    const char *default_value; /* as a user would type it; NULL: zero, false, absent */
    const char *choices;       /* of texts: "f32|f16"; NULL: any */
};

struct mu_option_spec {
    const char *command;  /* "generate" */
    const char *operands; /* "MODEL" */
    const char *summary;  /* one line */
    const char *details;  /* further paragraphs of the help, or NULL */
    const struct mu_option *options;
    unsigned min_operands, max_operands;
};

/* What the command line held, beside the values themselves. */
struct mu_option_result {
    const char *const *operands; /* into argv, which is reordered */
    unsigned n_operands;
    uint64_t given;     /* bit i: option i of the table came from the user, wherever from */
    uint64_t commanded; /* the same, from the command line */
    bool help, version;
    char *texts; /* holds config file values; mu_option_result_fini */
};

/* Options of every command, answered in `result`: -h, --help, --version. `values` is the command's
 * struct; `config_path` may be NULL or absent from the disk. argv[0] is the command's name. */
mu_status mu_option_parse(const struct mu_option_spec *spec, int argc, char **argv,
                          const char *config_path, void *values, struct mu_option_result *result,
                          struct mu_err *err);
void mu_option_result_fini(struct mu_option_result *result);

/* True when the user gave the option with this name (which must be in the table). */
bool mu_option_given(const struct mu_option_spec *spec, const struct mu_option_result *result,
                     const char *name);

/* True when it stood on the command line. */
bool mu_option_commanded(const struct mu_option_spec *spec, const struct mu_option_result *result,
                         const char *name);

/* Names the first section or option of the config file that no command has; `nth` gives the
 * commands' tables, NULL past the last. */
mu_status mu_option_check_config(const char *path, const struct mu_option_spec *(*nth)(unsigned i),
                                 struct mu_err *err);

/* Appends the help text. */
void mu_option_help(const struct mu_option_spec *spec, struct mu_text *out);

#endif
