/* Costs that were measured before: one line each in costs.tsv of the user's cache, by what they
 * depend on. A cache that cannot be read or written costs only the time to measure again. */
#include "measure/measure.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/number.h"
#include "probe/probe.h"

#include <stdlib.h>

#define FILE_BYTES_MAX (1u << 20)
#define N_COSTS        5

_Static_assert(sizeof(struct mu_measure_costs) == N_COSTS * sizeof(double), "costs are doubles");

/* ~/.cache/muster, or where XDG_CACHE_HOME says; NULL when there is no home. */
static char *cache_folder(void)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    if (xdg && xdg[0] == '/') return mu_path_join(xdg, "muster");
    return home && home[0] == '/' ? mu_path_join(home, ".cache/muster") : NULL;
}

/* Processor, threads, kernels, type, shape and program: all that the costs depend on. */
static void add_key(struct mu_text *out, const struct mu_kernels *kernels, enum mu_dtype type,
                    const struct mu_measure_shape *shape, unsigned n_threads)
{
    struct mu_probe_cpu cpu;
    mu_probe_cpu(NULL, &cpu);
    mu_text_printf(out, "%s/%u/%s/%s/%u.%u.%u/%s", cpu.name, n_threads, kernels->family,
                   mu_dtype(type)->name, shape->n_heads, shape->n_kv_heads, shape->head_dim,
                   MU_VERSION);
}

static bool find_line(struct mu_str text, struct mu_str key, struct mu_measure_costs *out)
{
    double values[N_COSTS];
    while (text.len) {
        struct mu_str line = mu_str_take(&text, '\n');
        if (!mu_str_equal(mu_str_take(&line, '\t'), key)) continue;
        int n = 0;
        while (n < N_COSTS && mu_parse_f64(mu_str_take(&line, '\t'), &values[n]) && values[n] > 0)
            n++;
        if (n < N_COSTS) continue;
        memcpy(out, values, sizeof values);
        return true;
    }
    return false;
}

static void add_line(struct mu_text *text, const char *key, const struct mu_measure_costs *costs)
{
    double values[N_COSTS];
    char number[MU_FLOAT_TEXT];
    memcpy(values, costs, sizeof values);
    if (text->len && text->p[text->len - 1] != '\n') mu_text_char(text, '\n');
    mu_text_str(text, key);
    for (int i = 0; i < N_COSTS; i++)
        mu_text_printf(text, "\t%s", mu_format_f64(values[i], number));
    mu_text_char(text, '\n');
}

static void keep(const char *folder, const char *path, const struct mu_text *text)
{
    struct mu_file_out file;
    if (mu_folder_make(folder, NULL) != MU_OK || mu_file_out_open(&file, path, NULL) != MU_OK)
        return;
    if (mu_file_out_write(&file, mu_text_get(text), text->len, NULL) == MU_OK)
        (void)mu_file_out_commit(&file, NULL);
    mu_file_out_close(&file);
}

mu_status mu_measure_costs_kept(const struct mu_kernels *kernels, enum mu_dtype type,
                                const struct mu_measure_shape *shape, unsigned n_threads,
                                struct mu_measure_costs *out, struct mu_err *err)
{
    struct mu_text key, text;
    char *folder = cache_folder(), *path = folder ? mu_path_join(folder, "costs.tsv") : NULL;
    mu_status status = MU_OK;
    mu_text_init(&key, 512);
    mu_text_init(&text, FILE_BYTES_MAX);
    add_key(&key, kernels, type, shape, n_threads);
    if (path && mu_file_exists(path) && mu_file_read(path, &text, NULL) != MU_OK)
        mu_text_clear(&text);
    if (!find_line((struct mu_str){mu_text_get(&text), text.len},
                   (struct mu_str){mu_text_get(&key), key.len}, out)) {
        status = mu_measure_costs(kernels, type, shape, n_threads, out, err);
        if (status == MU_OK) add_line(&text, mu_text_get(&key), out);
        if (status == MU_OK && path && mu_text_status(&text, NULL) == MU_OK)
            keep(folder, path, &text);
    }
    mu_text_fini(&text);
    mu_text_fini(&key);
    mu_free(path);
    mu_free(folder);
    return status;
}
