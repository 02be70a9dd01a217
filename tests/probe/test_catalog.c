/* The catalogue: every row is sane, names are found, and edited tables that are wrong are refused.
 */
#include "base/base.h"
#include "probe/probe.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static void every_row_is_sane(void **state)
{
    struct mu_probe_catalog *c;
    struct mu_err err = MU_ERR_INIT;
    (void)state;
    assert_int_equal(mu_probe_catalog_load(&c, &err), MU_OK);
    assert_true(c->n_devices >= 40 && c->n_links >= 10 && c->n_engines == 6);
    for (size_t i = 0; i < c->n_devices; i++) {
        const struct mu_probe_device *d = &c->devices[i], *found;
        if (d->usable_bytes > d->memory_bytes || d->usable_bytes < 0.85 * d->memory_bytes)
            fail_msg("%s: usable", d->name);
        if (d->bytes_per_s < 50e9 || d->bytes_per_s > 10e12) fail_msg("%s: bandwidth", d->name);
        if (d->rates[MU_PROBE_F16] > 0 && d->rates[MU_PROBE_F16] < d->rates[MU_PROBE_F32])
            fail_msg("%s: rates", d->name);
        if (d->watts == 0 || !d->bus) fail_msg("%s: power or bus", d->name);
        assert_int_equal(mu_probe_find_device(c, mu_str(d->name), &found, &err), MU_OK);
        assert_ptr_equal(found, d);
        for (struct mu_str rest = d->aliases; rest.len;) {
            assert_int_equal(mu_probe_find_device(c, mu_str_take(&rest, ','), &found, &err), MU_OK);
            if (found != d) fail_msg("an alias of %s means %s", d->name, found->name);
        }
    }
    for (size_t i = 0; i < c->n_engines; i++) {
        const struct mu_probe_engine *e = &c->engines[i];
        const double shares[] = {e->weights, e->kv,        e->f16,     e->f8,
                                 e->f4,      e->attention, e->experts, e->memory_share};
        for (size_t k = 0; k < MU_ARRAY_LEN(shares); k++)
            if (shares[k] <= 0 || shares[k] > 1) fail_msg("%s: share %zu", e->name, k);
        assert_true(e->chunk >= 1);
    }
    mu_probe_catalog_destroy(c);
}

static void names_are_forgiving(void **state)
{
    struct mu_probe_catalog *c;
    const struct mu_probe_device *d;
    struct mu_err err = MU_ERR_INIT;
    (void)state;
    assert_int_equal(mu_probe_catalog_load(&c, &err), MU_OK);
    assert_int_equal(mu_probe_find_device(c, MU_STR("A100-80G"), &d, &err), MU_OK);
    assert_string_equal(d->name, "a100_sxm");
    assert_int_equal(mu_probe_find_device(c, MU_STR("RTX_6000_ADA"), &d, &err), MU_OK);
    assert_int_equal(mu_probe_find_device(c, MU_STR("h100_sxn"), &d, &err), MU_E_USAGE);
    assert_non_null(strstr(err.cure, "h100_sxm"));
    mu_probe_catalog_destroy(c);
}

static void wrong_tables_are_refused(void **state)
{
    static const struct {
        const char *file, *content, *what;
    } cases[] = {
        {"devices.tsv", "gpu\t\t16\t15\tfast\t1\n", "'fast' is not a number"},
        {"devices.tsv", "gpu\t\t16\t15\t-3\t1\n", "'-3' is not a number"},
        {"devices.tsv", "gpu\t\t16\t15\t900\t10\t\t\t\t\t\tnvlink9\n", "no link is called"},
        {"devices.tsv", "gpu\n", "no link is called"},
        {"devices.tsv", "gpu\t\t16\t15\t0\t10\t\t\t\t\t\tnone\tnone\t1\n", "are needed"},
        {"links.tsv", "a\tb\n", "'b' is not a number"},
        {"engines.tsv", "", "is empty"},
        {"engines.tsv", "property\tx\tmeaning\nspeed\t1\n", "no property 'speed'"},
        {"engines.tsv", "property\tx\tmeaning\nweights\t1\n", "1 properties"},
    };
    char folder[] = "/tmp/muster-catalog-XXXXXX";
    (void)state;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(setenv("MUSTER_SHARE", folder, 1), 0);
    for (size_t i = 0; i < MU_ARRAY_LEN(cases); i++) {
        struct mu_probe_catalog *c = NULL;
        struct mu_file_out out;
        struct mu_err err = MU_ERR_INIT;
        char *path = mu_path_join(folder, cases[i].file);
        assert_int_equal(mu_file_out_open(&out, path, &err), MU_OK);
        assert_int_equal(mu_file_out_write(&out, cases[i].content, strlen(cases[i].content), &err),
                         MU_OK);
        assert_int_equal(mu_file_out_commit(&out, &err), MU_OK);
        mu_file_out_close(&out);
        assert_int_not_equal(mu_probe_catalog_load(&c, &err), MU_OK);
        if (!strstr(err.what, cases[i].what)) fail_msg("%zu: %s", i, err.what);
        assert_int_equal(unlink(path), 0);
        mu_free(path);
    }
    assert_int_equal(rmdir(folder), 0);
    assert_int_equal(unsetenv("MUSTER_SHARE"), 0);
}

/* Dense rates of one family stand in few proportions: a row that is off by a factor of two, or has
 * sparse rates or another unit in one column, falls out. */
static bool is_ratio(double a, double b, const double *allowed, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (fabs(a / b - allowed[i]) < 0.04 * allowed[i]) return true;
    return a <= 0 || b <= 0;
}

static void rates_are_of_their_family(void **state)
{
    /* of fp32; of 16 bits; of 16 bits; of fp8 (int8 was nearly left out of Blackwell Ultra) */
    static const double f16[] = {2, 2.22, 3.36, 4, 8, 13.9, 14.8, 16, 29.2, 30, 31.25};
    static const double f8[] = {2}, i8[] = {0.067, 1, 2, 4}, f4[] = {2, 3, 3.11, 4};
    struct mu_probe_catalog *c;
    (void)state;
    assert_int_equal(mu_probe_catalog_load(&c, NULL), MU_OK);
    for (size_t i = 0; i < c->n_devices; i++) {
        const struct mu_probe_device *d = &c->devices[i];
        const double *r = d->rates;
        bool good = is_ratio(r[MU_PROBE_F16], r[MU_PROBE_F32], f16, MU_ARRAY_LEN(f16)) &&
                    is_ratio(r[MU_PROBE_F8], r[MU_PROBE_F16], f8, MU_ARRAY_LEN(f8)) &&
                    is_ratio(r[MU_PROBE_I8], r[MU_PROBE_F16], i8, MU_ARRAY_LEN(i8)) &&
                    is_ratio(r[MU_PROBE_F4], r[MU_PROBE_F8], f4, MU_ARRAY_LEN(f4));
        if (!good) fail_msg("%s: rates of no known family", d->name);
        double usable = d->usable_bytes / d->memory_bytes, per_watt = d->bytes_per_s / d->watts;
        double math = r[MU_PROBE_F16] / d->bytes_per_s;
        if (usable < 0.9 || usable > 1) fail_msg("%s: %g of its memory is usable", d->name, usable);
        if (per_watt < 0.3e9 || per_watt > 12e9) fail_msg("%s: %g B/s a watt", d->name, per_watt);
        if (math > 0 && (math < 30 || math > 500))
            fail_msg("%s: %g operations a byte", d->name, math);
    }
    mu_probe_catalog_destroy(c);
}

static void links_have_the_units_of_their_columns(void **state)
{
    struct mu_probe_catalog *c;
    const struct mu_probe_link *link;
    (void)state;
    assert_int_equal(mu_probe_catalog_load(&c, NULL), MU_OK);
    for (size_t i = 0; i < c->n_links; i++) {
        const struct mu_probe_link *l = &c->links[i];
        assert_int_equal(mu_probe_find_link(c, mu_str(l->name), &link, NULL), MU_OK);
        if (link != l) fail_msg("%s stands twice", l->name);
        if (l->bytes_per_s < 1e9 || l->bytes_per_s > 1e12 || l->latency_s < 1e-6 ||
            l->latency_s > 1e-4 || l->efficiency < 0.3 || l->efficiency > 1 || l->crowding > 2)
            fail_msg("%s: not in the units of its columns", l->name);
    }
    mu_probe_catalog_destroy(c);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rates_are_of_their_family),
        cmocka_unit_test(links_have_the_units_of_their_columns),
        cmocka_unit_test(every_row_is_sane),
        cmocka_unit_test(names_are_forgiving),
        cmocka_unit_test(wrong_tables_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
