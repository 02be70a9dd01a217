/* Where the tests of this room find their files. */
#ifndef MU_TESTS_FORMAT_DATA_H
#define MU_TESTS_FORMAT_DATA_H

#include "base/alloc.h"

#include <stdlib.h>

/* A path below tests/, printf-style; mu_free. */
static inline char *data_path(const char *below)
{
    struct mu_text text;
    const char *root = getenv("MUSTER_TESTS");
    mu_text_init(&text, 4096);
    mu_text_printf(&text, "%s/%s", root ? root : "tests", below);
    return mu_text_take(&text);
}

#endif
