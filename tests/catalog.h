/* The device catalogue, for a whole group of tests: cmocka_run_group_tests(tests, load_catalog,
 * drop_catalog). */
#ifndef MU_TESTS_CATALOG_H
#define MU_TESTS_CATALOG_H

#include "probe/probe.h"

#include "data.h"

static struct mu_probe_catalog *catalog;

static inline int load_catalog(void **state)
{
    (void)state;
    return mu_probe_catalog_load(&catalog, NULL) == MU_OK ? 0 : -1;
}

static inline int drop_catalog(void **state)
{
    (void)state;
    mu_probe_catalog_destroy(catalog);
    return 0;
}

#endif
