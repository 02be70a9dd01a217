/* What processes compare before they work together, so that what differs is told and not computed;
 * see mu_engine_agree. Knows only names and values; the first process's count. */
#include "engine/engine_int.h"

#include <stdio.h>
#include <sys/stat.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define SHEET_MAX    16384 /* room for a device map */
#define SAMPLES      64    /* places in the file whose bytes are compared */
#define SAMPLE_BYTES UINT64_C(4096)

struct sheet {
    char lines[SHEET_MAX]; /* "name TAB value NEWLINE"; all processes have the same names */
    struct mu_engine_options options;
};

static uint64_t file_bytes(const struct mu_model_file *file)
{
    const char *const *paths;
    uint64_t sum = 0;
    for (size_t n = mu_model_file_paths(file, &paths), i = 0; i < n; i++) {
        struct stat s;
        if (stat(paths[i], &s) == 0) sum += (uint64_t)s.st_size;
    }
    return sum;
}

/* Names, types and sizes of all tensors, and the first bytes of some. */
static void hash_tensors(const struct mu_model_file *file, uint64_t *table, uint64_t *bytes)
{
    const struct mu_tensor *t;
    size_t n = mu_model_file_tensors(file, &t), every = MU_MAX(n / SAMPLES, (size_t)1);
    *table = *bytes = 0;
    for (size_t i = 0; i < n; i++, t++) {
        *table = XXH3_64bits_withSeed(t->name, strlen(t->name), *table);
        *table = XXH3_64bits_withSeed(t->dims, t->n_dims * sizeof *t->dims, *table);
        *table = XXH3_64bits_withSeed(&t->type, sizeof t->type, *table);
        if (i % every == 0 && t->data)
            *bytes =
                XXH3_64bits_withSeed(t->data, MU_MIN((uint64_t)t->n_bytes, SAMPLE_BYTES), *bytes);
    }
}

static mu_status fill_sheet(const struct mu_model_file *file, const char *asked,
                            const struct mu_engine_options *o, struct sheet *sheet,
                            struct mu_err *err)
{
    const struct mu_kernels *kernels;
    uint64_t table, bytes;
    const struct mu_config *config = mu_model_file_config(file);
    MU_TRY(mu_kernels_choose(o->kernels, &kernels, err));
    hash_tensors(file, &table, &bytes);
    int len = snprintf(sheet->lines, sizeof sheet->lines,
                       "kernel family\t%s\nconfiguration\t%016llx\ntable of tensors\t%016llx\n"
                       "size of the model in bytes\t%llu\nbytes of the model\t%016llx\n"
                       "number of devices\t%u\n%s",
                       kernels->family, (unsigned long long)XXH3_64bits(config, sizeof *config),
                       (unsigned long long)table, (unsigned long long)file_bytes(file),
                       (unsigned long long)bytes, o->devices.n, asked);
    if (len >= (int)sizeof sheet->lines)
        return mu_fail(err, MU_E_USAGE, "what was asked for is too long to be compared");
    sheet->options = *o;
    return MU_OK;
}

/* The first line in which rank i differs from the first. */
static mu_status compare(const struct mu_world *world, struct sheet *sheets, unsigned i,
                         struct mu_err *err)
{
    sheets[i].lines[SHEET_MAX - 1] = '\0';
    struct mu_str mine = mu_str(sheets[i].lines), first = mu_str(sheets[0].lines);
    while (mine.len > 0 || first.len > 0) {
        struct mu_str a = mu_str_take(&mine, '\n'), b = mu_str_take(&first, '\n');
        if (mu_str_equal(a, b)) continue;
        struct mu_str name = mu_str_take(&a, '\t'), same = mu_str_take(&b, '\t');
        (void)mu_fail(err, MU_E_PEER,
                      "rank %u on host %s has the %.*s %.*s, rank 0 on host %s has %.*s", i,
                      mu_world_host(world, i), (int)MU_MIN(name.len, (size_t)40), name.p,
                      (int)MU_MIN(a.len, (size_t)40), a.p, mu_world_host(world, 0),
                      (int)MU_MIN(b.len, (size_t)40), mu_str_equal(name, same) ? b.p : same.p);
        mu_err_cure(err, "start all ranks with the same program, model and options");
        return MU_E_PEER;
    }
    return MU_OK;
}

/* The devices of all, as "1/cpu:0": the process first. */
static mu_status join_devices(struct sheet *sheets, unsigned n, struct mu_device_list *out,
                              struct mu_err *err)
{
    unsigned each = sheets[0].options.devices.n;
    if (n * each > MU_DEVICES_MAX)
        return mu_fail(err, MU_E_USAGE, "%u devices are more than the %u that can be had", n * each,
                       (unsigned)MU_DEVICES_MAX);
    out->n = n * each;
    for (unsigned i = 0; i < out->n; i++) {
        struct mu_device_spec *d = &out->items[i];
        *d = sheets[i / each].options.devices.items[i % each];
        d->process = i / each;
        char name[MU_DEVICE_NAME_MAX + 16];
        (void)snprintf(name, sizeof name, "%u/%s", i / each, d->name);
        memcpy(d->name, name, sizeof d->name - 1);
    }
    return MU_OK;
}

static mu_status agree(const struct mu_world *world, struct sheet *sheets,
                       struct mu_engine_options *options, struct mu_err *err)
{
    struct mu_engine_options own = *options;
    for (unsigned i = 1; i < mu_world_size(world); i++)
        MU_TRY(compare(world, sheets, i, err));
    /* What the prompt decided, only the first knows; pointers are each process's own. */
    *options = sheets[0].options;
    options->kernels = own.kernels;
    options->world = own.world;
    options->progress = own.progress;
    options->progress_arg = own.progress_arg;
    return join_devices(sheets, mu_world_size(world), &options->devices, err);
}

mu_status mu_engine_agree(const struct mu_model_file *file, const char *asked,
                          struct mu_engine_options *options, struct mu_err *err)
{
    struct mu_world *world = options->world;
    size_t size = mu_world_size(world) * sizeof(struct sheet);
    struct sheet *own = mu_calloc(1, sizeof *own), *all = mu_alloc(size);
    mu_status status = own && all ? MU_OK : mu_fail_memory(err, size);
    if (status == MU_OK) status = fill_sheet(file, asked, options, own, err);
    if (status == MU_OK && mu_world_gather(world, own, sizeof *own, all) != MU_OK)
        status = mu_fail(err, MU_E_PEER, "the other ranks cannot be reached");
    if (status == MU_OK) status = agree(world, all, options, err);
    mu_free(own);
    mu_free(all);
    return status;
}
