/* Costs that were measured before: one line each in costs.tsv of the user's cache, by what they
 * depend on. A cache that cannot be read or written costs only the time to measure again. */
#include "measure/measure.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/number.h"
#include "probe/probe.h"

#define FILE_BYTES_MAX (1u << 20)
#define LINES_MAX      200 /* the oldest are dropped */

/* Processor, threads, kernels, types, shape and the code that is timed: all that costs depend on.
 */
static void add_key(struct mu_text *out, const struct mu_kernels *kernels,
                    const struct mu_measure_shape *s, unsigned n_threads)
{
    struct mu_probe_cpu cpu;
    mu_probe_cpu(NULL, &cpu);
    mu_text_printf(out, "%s/%u/%s/%s.%s/%u.%u.%u/%u.%u.%u/%s", cpu.name, n_threads, kernels->family,
                   mu_dtype(s->type)->name, mu_dtype(s->head_type)->name, s->hidden, s->ffn,
                   s->vocab, s->n_heads, s->n_kv_heads, s->head_dim, MU_COSTS_REVISION);
}

static bool find_line(struct mu_str text, struct mu_str key, struct mu_plan_costs *out)
{
    double values[MU_PLAN_COSTS];
    while (text.len) {
        struct mu_str line = mu_str_take(&text, '\n');
        if (!mu_str_equal(mu_str_take(&line, '\t'), key)) continue;
        size_t n = 0;
        while (n < MU_PLAN_COSTS && mu_parse_f64(mu_str_take(&line, '\t'), &values[n]) &&
               values[n] > 0)
            n++;
        if (n < MU_PLAN_COSTS) continue;
        memcpy(out, values, sizeof values);
        return true;
    }
    return false;
}

static void add_line(struct mu_text *text, const char *key, const struct mu_plan_costs *costs)
{
    double values[MU_PLAN_COSTS];
    char number[MU_FLOAT_TEXT];
    memcpy(values, costs, sizeof values);
    if (text->len && text->p[text->len - 1] != '\n') mu_text_char(text, '\n');
    mu_text_str(text, key);
    for (size_t i = 0; i < MU_PLAN_COSTS; i++)
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

/* Lines of other revisions of the code help nobody; of this one only the latest are kept. */
static void drop_old(struct mu_text *text)
{
    struct mu_str rest = {mu_text_get(text), text->len};
    struct mu_text left;
    size_t n = 0, size = sizeof MU_COSTS_REVISION - 1;
    for (size_t i = 0; i < text->len; i++)
        n += text->p[i] == '\n';
    mu_text_init(&left, FILE_BYTES_MAX);
    while (rest.len) {
        struct mu_str line = mu_str_take(&rest, '\n'), values = line;
        struct mu_str key = mu_str_take(&values, '\t');
        bool ours = key.len > size && memcmp(key.p + key.len - size, MU_COSTS_REVISION, size) == 0;
        if (!ours || n-- > LINES_MAX) continue;
        mu_text_add(&left, line.p, line.len);
        mu_text_char(&left, '\n');
    }
    mu_text_fini(text);
    *text = left;
}

mu_status mu_measure_costs_kept(const struct mu_kernels *kernels,
                                const struct mu_measure_shape *shape, unsigned n_threads,
                                mu_measure_step *step, const struct mu_measure_progress *progress,
                                struct mu_plan_costs *out, struct mu_err *err)
{
    struct mu_text key, text;
    char *folder = mu_folder_cache(), *path = folder ? mu_path_join(folder, "costs.tsv") : NULL;
    mu_status status = MU_OK;
    mu_text_init(&key, 512);
    mu_text_init(&text, FILE_BYTES_MAX);
    add_key(&key, kernels, shape, n_threads);
    if (path && mu_file_exists(path) && mu_file_read(path, &text, NULL) != MU_OK)
        mu_text_clear(&text);
    bool found = find_line((struct mu_str){mu_text_get(&text), text.len},
                           (struct mu_str){mu_text_get(&key), key.len}, out);
    if (!found && !step) {
        status = mu_fail(err, MU_E_MISSING, "costs of this model were not timed here");
    } else if (!found) {
        status = mu_measure_costs(kernels, shape, n_threads, step, progress, out, err);
        if (status == MU_OK) {
            drop_old(&text);
            add_line(&text, mu_text_get(&key), out);
        }
        if (status == MU_OK && path && mu_text_status(&text, NULL) == MU_OK)
            keep(folder, path, &text);
    }
    mu_text_fini(&text);
    mu_text_fini(&key);
    mu_free(path);
    mu_free(folder);
    return status;
}
