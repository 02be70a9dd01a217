/* The engine as front ends see it: replicas that take requests in turn, each as described in
 * replica.c, opened together or not at all. See engine.h; requests are in request.c. */
#include "engine/engine_int.h"

#include "base/clock.h"
#include "base/number.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ROWS_DEFAULT 512

static mu_status fail_devices(const struct mu_engine_options *o, struct mu_err *err)
{
    uint64_t want = (uint64_t)MU_MAX(o->tp, 1u) * o->pp * o->dp;
    mu_status status =
        o->tp ? mu_fail(err, MU_E_USAGE, "tp %u x pp %u x dp %u wants %llu devices, not %u", o->tp,
                        o->pp, o->dp, (unsigned long long)want, o->devices.n)
              : mu_fail(err, MU_E_USAGE,
                        "%u pipeline stages of %u replicas cannot share %u devices evenly", o->pp,
                        o->dp, o->devices.n);
    if (want <= MU_DEVICES_MAX) mu_err_cure(err, "--devices cpu:%llu", (unsigned long long)want);
    return status;
}

/* Fills what the caller left open and refuses what cannot be. */
static mu_status settle_options(struct mu_engine_options *o, const struct mu_config *config,
                                struct mu_err *err)
{
    o->pp = MU_MAX(o->pp, 1u);
    o->dp = MU_MAX(o->dp, 1u);
    uint64_t stages = (uint64_t)o->pp * o->dp;
    if (o->tp ? o->tp * stages != o->devices.n : o->devices.n % stages != 0)
        return fail_devices(o, err);
    o->tp = (uint32_t)(o->devices.n / stages);
    uint32_t most = o->places ? MU_STAGES_MAX : MU_MIN(config->n_layers, (uint32_t)MU_STEPS_MAX);
    if (o->pp > most)
        return mu_fail(err, MU_E_USAGE,
                       "%u pipeline stages are more than %u, which the model's layers and the "
                       "engine allow",
                       o->pp, most);
    uint64_t context = o->context ? o->context : config->context;
    if (context == 0 || context > UINT32_MAX / 2)
        return mu_fail(err, MU_E_USAGE, "a context of %llu tokens is not possible",
                       (unsigned long long)context);
    o->context = (uint32_t)context;
    o->max_sequences = o->max_sequences ? o->max_sequences : 1;
    o->max_rows =
        MU_MAX(o->max_rows ? o->max_rows : ROWS_DEFAULT, MU_CEIL_DIV(o->max_sequences, o->dp));
    o->prefill_chunk = o->prefill_chunk ? MU_MIN(o->prefill_chunk, o->max_rows) : o->max_rows;
    o->rope_context = o->rope_context ? o->rope_context : o->context;
    if (o->kv_type != MU_DTYPE_F32 && o->kv_type != MU_DTYPE_F16 && o->kv_type != MU_DTYPE_BF16)
        return mu_fail(err, MU_E_USAGE, "a KV cache of type %s is not supported",
                       mu_dtype(o->kv_type)->name);
    return MU_OK;
}

/* Every placement is a table of places. */
static mu_status settle_places(struct mu_engine *e, const struct mu_config *config,
                               struct mu_err *err)
{
    size_t size = mu_part_count(config) * sizeof *e->places;
    e->places = mu_alloc(size);
    if (!e->places) return mu_fail_memory(err, size);
    if (e->options.places)
        memcpy(e->places, e->options.places, size);
    else
        mu_places_even(config, e->options.pp, e->places);
    e->options.places = e->places;
    for (uint32_t i = 0; i < mu_part_count(config); i++)
        if (e->places[i].stage >= e->options.pp)
            return mu_fail(err, MU_E_USAGE, "a part of the model is on stage %u of %u",
                           e->places[i].stage, e->options.pp);
    return MU_OK;
}

static void destroy(struct mu_engine *e)
{
    for (unsigned i = 0; i < e->n_replicas; i++)
        mu_replica_fini(&e->replicas[i]);
    mu_free(e->replicas);
    mu_free(e->places);
    mu_free(e->usages);
    if (e->event_fd >= 0) (void)close(e->event_fd);
    mu_free(e);
}

/* An engine whose replicas have no memory yet. */
static mu_status create(const struct mu_model_file *file, const struct mu_engine_options *options,
                        struct mu_engine **out, struct mu_err *err)
{
    struct mu_engine *e = mu_calloc(1, sizeof *e);
    if (!e) return mu_fail_memory(err, sizeof *e);
    e->event_fd = -1;
    e->options = *options;
    mu_status status = settle_options(&e->options, mu_model_file_config(file), err);
    if (status == MU_OK) status = settle_places(e, mu_model_file_config(file), err);
    if (status == MU_OK &&
        !(e->replicas = mu_alloc_aligned(MU_CACHE_LINE, e->options.dp * sizeof *e->replicas)))
        status = mu_fail_memory(err, e->options.dp * sizeof *e->replicas);
    for (uint32_t i = 0; status == MU_OK && i < e->options.dp; i++)
        status = mu_replica_init(&e->replicas[e->n_replicas++], file, &e->options, i, err);
    if (status == MU_OK)
        *out = e;
    else
        destroy(e);
    return status;
}

/* Runs of layers that have a part on this stage; what has no room in the text is left to "...". */
static void tell_layers(const struct mu_config *config, const struct mu_shard *shard, char *out)
{
    size_t len = 0;
    uint32_t first = 0, n = 0;
    (void)snprintf(out, MU_LAYERS_TEXT, "none");
    for (uint32_t layer = 0; layer <= config->n_layers; layer++) {
        bool here = false;
        for (uint32_t i = 0; layer < config->n_layers && i < MU_PARTS_A_LAYER; i++)
            here |= shard->places[mu_part_of_layer(layer, (enum mu_part)i)].stage == shard->stage;
        if (here && n++ == 0) first = layer;
        if (here || n == 0) continue;
        char run[MU_LAYERS_TEXT];
        (void)snprintf(run, sizeof run, n > 1 ? "%s%u-%u" : "%s%u", len ? "," : "", first,
                       first + n - 1);
        bool room = len + strlen(run) + sizeof ",..." <= MU_LAYERS_TEXT;
        len += (size_t)snprintf(out + len, MU_LAYERS_TEXT - len, "%s", room ? run : ",...");
        if (!room) return;
        n = 0;
    }
}

static void tell_rank(const struct mu_rank *rank, struct mu_rank_memory *m)
{
    const struct mu_shard *shard = &rank->program->shard;
    (void)snprintf(m->device, sizeof m->device, "%s", rank->spec->name);
    tell_layers(rank->common->config, shard, m->layers);
    m->tp_rank = shard->tp_rank;
    m->budget_bytes = rank->spec->budget_bytes;
    mu_rank_need(rank, m->bytes);
    for (int p = 0; p < MU_PURPOSE_COUNT; p++)
        m->total_bytes += m->bytes[p];
}

static void tell_host(const struct mu_replica *replica, unsigned index,
                      struct mu_engine_memory *out)
{
    uint64_t bytes = mu_replica_host_bytes(replica);
    if (bytes == 0) return;
    struct mu_rank_memory *m = &out->ranks[out->n_ranks++];
    (void)snprintf(m->device, sizeof m->device, "%s", replica->host.name);
    (void)snprintf(m->layers, sizeof m->layers, "offloaded");
    m->replica = index;
    m->bytes[MU_PURPOSE_WEIGHTS] = m->total_bytes = bytes;
    m->budget_bytes = replica->host.budget_bytes;
    out->fits = out->fits && m->total_bytes <= m->budget_bytes;
}

static void tell_memory(const struct mu_engine *e, struct mu_engine_memory *out)
{
    uint64_t blocks_fit = UINT32_MAX;
    *out = (struct mu_engine_memory){.n_ranks = e->options.devices.n, .fits = true};
    for (unsigned i = 0; i < e->n_replicas; i++) {
        const struct mu_replica *replica = &e->replicas[i];
        for (unsigned j = 0; j < replica->n_ranks; j++) {
            struct mu_rank_memory *m = &out->ranks[replica->first_rank + j];
            m->replica = i;
            tell_rank(&replica->ranks[j], m);
            out->fits = out->fits && m->total_bytes <= m->budget_bytes;
            uint64_t rest = m->total_bytes - m->bytes[MU_PURPOSE_KV];
            uint64_t room = m->budget_bytes > rest ? m->budget_bytes - rest : 0;
            uint64_t block = mu_rank_block_bytes(&replica->ranks[j]);
            blocks_fit = MU_MIN(blocks_fit, block ? room / block : 0);
        }
    }
    for (unsigned i = 0; i < e->n_replicas; i++)
        tell_host(&e->replicas[i], i, out);
    uint64_t tokens = blocks_fit / e->replicas[0].options.max_sequences * MU_KV_BLOCK_TOKENS;
    out->context_fits = MU_MIN(tokens, e->options.context);
}

mu_status mu_engine_memory(const struct mu_model_file *file,
                           const struct mu_engine_options *options, struct mu_engine_memory *out,
                           struct mu_err *err)
{
    struct mu_engine *e;
    MU_TRY(create(file, options, &e, err));
    tell_memory(e, out);
    destroy(e);
    return MU_OK;
}

mu_status mu_engine_part_bytes(const struct mu_model_file *file,
                               const struct mu_engine_options *options, uint64_t *out,
                               struct mu_err *err)
{
    struct mu_engine *e;
    struct mu_engine_options *whole = mu_alloc(sizeof *whole);
    if (!whole) return mu_fail_memory(err, sizeof *whole);
    *whole = *options;
    whole->tp = whole->pp = whole->dp = whole->devices.n = 1;
    whole->places = NULL;
    mu_status status = create(file, whole, &e, err);
    mu_free(whole);
    if (status != MU_OK) return status;
    const struct mu_rank *rank = &e->replicas[0].ranks[0];
    memset(out, 0, mu_part_count(rank->common->config) * sizeof *out);
    for (uint32_t i = 0; i < rank->program->n_tensors; i++)
        out[rank->program->tensors[i].part] += rank->weights[i].bytes;
    destroy(e);
    return MU_OK;
}

static const struct mu_rank *rank_of(const struct mu_engine *e, unsigned rank)
{
    unsigned each = e->replicas[0].n_ranks;
    return &e->replicas[rank / each].ranks[rank % each];
}

static mu_status refuse_unfit(const struct mu_engine *e, struct mu_err *err)
{
    struct mu_engine_memory m;
    tell_memory(e, &m);
    if (m.fits) return MU_OK;
    for (unsigned i = 0; i < m.n_ranks; i++) {
        const struct mu_rank_memory *r = &m.ranks[i];
        char texts[5][MU_BYTES_TEXT];
        if (r->total_bytes > r->budget_bytes)
            (void)mu_fail(err, MU_E_FIT,
                          "%s needs %s (weights %s, KV cache %s), %s more than its budget of %s",
                          r->device, mu_format_bytes(r->total_bytes, texts[0]),
                          mu_format_bytes(r->bytes[MU_PURPOSE_WEIGHTS], texts[1]),
                          mu_format_bytes(r->bytes[MU_PURPOSE_KV], texts[2]),
                          mu_format_bytes(r->total_bytes - r->budget_bytes, texts[3]),
                          mu_format_bytes(r->budget_bytes, texts[4]));
    }
    if (m.context_fits > 0)
        mu_err_cure(err, "a context of %llu tokens fits (--context)",
                    (unsigned long long)m.context_fits);
    else
        mu_err_cure(err, "spread it over more devices, or take fewer bits a weight");
    return MU_E_FIT;
}

static void tell_progress(void *engine)
{
    const struct mu_engine *e = engine;
    uint64_t done = 0, all = 0;
    if (!e->options.progress) return;
    for (unsigned i = 0; i < e->n_replicas; i++) {
        const struct mu_replica *r = &e->replicas[i];
        done += atomic_load_explicit(&r->common.loaded_bytes, memory_order_relaxed);
        for (unsigned j = 0; j < r->n_ranks; j++)
            for (int home = 0; home < MU_HOME_COUNT; home++)
                all += mu_rank_weight_bytes(&r->ranks[j], (enum mu_home)home);
    }
    e->options.progress(e->options.progress_arg, MU_MIN(done, all), all);
}

/* The device of a row of mu_engine_memory, as far as it is in this process; or NULL. */
static const struct mu_device *device_of(const struct mu_engine *e, unsigned row)
{
    unsigned n = e->options.devices.n;
    return row < n ? rank_of(e, row)->device : e->replicas[row - n].common.host;
}

static void add_usage(struct mu_device_usage *sum, const struct mu_device_usage *part)
{
    for (int p = 0; p < MU_PURPOSE_COUNT; p++) {
        sum->now_bytes[p] += part->now_bytes[p];
        sum->high_bytes[p] += part->high_bytes[p];
    }
    sum->total_now_bytes += part->total_now_bytes;
    sum->total_high_bytes += part->total_high_bytes;
}

/* Until all processes have loaded, so that no request's time holds another one's loading. They tell
 * what they use then, of which nothing changes any more. */
static mu_status await_others(struct mu_engine *e, struct mu_err *err)
{
    unsigned n_rows = e->options.devices.n + e->n_replicas, n = mu_world_size(e->options.world);
    struct mu_device_usage *own = mu_calloc(n_rows, sizeof *own);
    struct mu_device_usage *all = mu_calloc((size_t)n * n_rows, sizeof *all);
    e->usages = mu_calloc(n_rows, sizeof *e->usages);
    bool room = own && all && e->usages;
    for (unsigned i = 0; room && i < n_rows; i++)
        if (device_of(e, i)) mu_device_usage(device_of(e, i), &own[i]);
    mu_watch_phase("waiting for the others to load");
    mu_status status = !room ? mu_fail_memory(err, (size_t)n * n_rows * sizeof *all)
                       : mu_world_gather(e->options.world, own, n_rows * sizeof *own, all) != MU_OK
                           ? mu_fail(err, MU_E_PEER, "the other ranks cannot be reached")
                           : MU_OK;
    for (unsigned i = 0; status == MU_OK && i < n * n_rows; i++)
        add_usage(&e->usages[i % n_rows], &all[i]);
    mu_free(all);
    mu_free(own);
    mu_watch_phase("waiting for work");
    return status;
}

static mu_status start(struct mu_engine *e, struct mu_err *err)
{
    MU_TRY(refuse_unfit(e, err));
    mu_watch_phase("loading the model");
    uint64_t begin = mu_clock_ns();
    if ((e->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        return mu_fail_errno(err, MU_E_RESOURCE, errno, "cannot create an event descriptor");
    for (unsigned i = 0; i < e->n_replicas; i++)
        MU_TRY(mu_replica_start(&e->replicas[i], e->event_fd, err));
    for (unsigned i = 0; i < e->n_replicas; i++)
        MU_TRY(mu_replica_await(&e->replicas[i], tell_progress, e, err));
    if (e->options.world) MU_TRY(await_others(e, err));
    e->load_seconds = mu_clock_seconds_since(begin);
    return MU_OK;
}

mu_status mu_engine_open(const struct mu_model_file *file, const struct mu_engine_options *options,
                         struct mu_engine **out, struct mu_err *err)
{
    struct mu_engine *e;
    MU_TRY(create(file, options, &e, err));
    mu_status status = start(e, err);
    if (status == MU_OK) {
        *out = e;
    } else {
        if (options->world) mu_world_abort(options->world); /* the others must not wait */
        destroy(e);
    }
    return status;
}

mu_status mu_engine_follow(struct mu_engine *engine, struct mu_err *err)
{
    for (unsigned i = 0; i < engine->n_replicas; i++) {
        struct mu_replica *r = &engine->replicas[i];
        mu_thread_join(&r->scheduler);
        if (r->failed.code == MU_OK) continue;
        *err = r->failed;
        return err->code;
    }
    return MU_OK;
}

void mu_engine_close(struct mu_engine *engine)
{
    if (engine) destroy(engine);
}

/* Adds what the rank holds; returns what it reads for a token. */
static uint64_t add_facts(const struct mu_rank *rank, struct mu_engine_facts *out)
{
    uint64_t read = 0;
    const struct mu_program *p = rank->program;
    out->n_threads += rank->spec->n_threads;
    for (uint32_t t = 0; t < p->n_tensors; t++) {
        out->weight_bytes += rank->weights[t].bytes;
        bool lookup_only =
            p->tensors[t].role == MU_ROLE_EMBED && !(p->config->tied_head && p->holds_head);
        uint64_t bytes = lookup_only ? 0 : rank->weights[t].bytes;
        if (mu_role_of_expert(p->tensors[t].role))
            bytes = bytes * p->config->n_experts_used / p->config->n_experts;
        read += bytes;
    }
    return read;
}

void mu_engine_facts(const struct mu_engine *engine, struct mu_engine_facts *out)
{
    const struct mu_rank_common *common = &engine->replicas[0].common;
    *out = (struct mu_engine_facts){.family = common->kernels->family,
                                    .n_ranks = engine->options.devices.n,
                                    .context = common->context,
                                    .vocab = common->config->vocab,
                                    .load_seconds = engine->load_seconds};
    for (unsigned i = 0; i < engine->n_replicas; i++)
        for (unsigned j = 0; j < engine->replicas[i].n_ranks; j++) {
            uint64_t read = add_facts(&engine->replicas[i].ranks[j], out);
            if (i == 0) out->bytes_read_a_token += read; /* one replica reads for a token */
        }
}

void mu_engine_usage(const struct mu_engine *engine, unsigned rank, struct mu_device_usage *out)
{
    if (engine->usages)
        *out = engine->usages[rank];
    else
        mu_device_usage(device_of(engine, rank), out);
}
