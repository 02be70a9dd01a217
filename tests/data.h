/* Where tests find their files, and what they do when a call must not fail. */
#ifndef MU_TESTS_DATA_H
#define MU_TESTS_DATA_H

#include "base/alloc.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static inline const char *tests_folder(void)
{
    const char *folder = getenv("MUSTER_TESTS");
    return folder ? folder : "tests";
}

/* A path below tests/; mu_free. */
static inline char *data_path(const char *below)
{
    struct mu_text text;
    mu_text_init(&text, 4096);
    mu_text_printf(&text, "%s/%s", tests_folder(), below);
    return mu_text_take(&text);
}

/* The model or file of this name below tests/golden/, until the next call; synth: stays. */
static inline const char *golden_path(const char *name)
{
    static char path[512];
    if (strncmp(name, "synth:", 6) == 0) return name;
    (void)snprintf(path, sizeof path, "%s/golden/%s", tests_folder(), name);
    return path;
}

static inline void require(mu_status status, const struct mu_err *err)
{
    if (status != MU_OK) fail_msg("%s: %s", err->where, err->what);
}

#endif
