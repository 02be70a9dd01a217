/* Models that must open. */
#ifndef MU_TESTS_FORMAT_OPEN_H
#define MU_TESTS_FORMAT_OPEN_H

#include "format/format.h"

#include "../data.h"

static inline struct mu_model_file *open_good(const char *model)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file = NULL;
    char line[768];
    if (mu_model_file_open(model, 0, &file, &err) != MU_OK)
        fail_msg("%s", mu_err_line(&err, line, sizeof line));
    return file;
}

#endif
