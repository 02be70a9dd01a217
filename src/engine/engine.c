/* Opening and closing an engine: ranks, their groups and threads, and the memory they will need.
 * See engine.h; requests are in request.c, the scheduler in scheduler.c. */
#include "engine/engine_int.h"

#include "base/clock.h"
#include "base/number.h"

#include <errno.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define ROWS_DEFAULT 512
#define OUT_MAX      64 /* rows of one step whose logits can be had */
#define PROGRESS_MS  50

static mu_status fail_devices(const struct mu_engine_options *o, struct mu_err *err)
{
    uint32_t want = MU_MAX(o->tp, 1u) * o->pp;
    mu_status status =
        o->tp ? mu_fail(err, MU_E_USAGE, "tp %u x pp %u wants %u devices, not %u", o->tp, o->pp,
                        want, o->devices.n)
              : mu_fail(err, MU_E_USAGE, "%u pipeline stages cannot share %u devices evenly", o->pp,
                        o->devices.n);
    mu_err_cure(err, "--devices cpu:%u", want);
    return status;
}

/* Fills what the caller left open and refuses what cannot be. */
static mu_status settle_options(struct mu_engine_options *o, const struct mu_config *config,
                                struct mu_err *err)
{
    o->pp = o->pp ? o->pp : 1;
    if (o->tp ? (uint64_t)o->tp * o->pp != o->devices.n : o->devices.n % o->pp != 0)
        return fail_devices(o, err);
    o->tp = o->devices.n / o->pp;
    if (o->pp > config->n_layers || o->pp > MU_STEPS_MAX)
        return mu_fail(err, MU_E_USAGE,
                       "%u pipeline stages are more than %u, which the model's layers and the "
                       "engine allow",
                       o->pp, MU_MIN(config->n_layers, (uint32_t)MU_STEPS_MAX));
    uint64_t context = o->context ? o->context : config->context;
    if (context == 0 || context > UINT32_MAX / 2)
        return mu_fail(err, MU_E_USAGE, "a context of %llu tokens is not possible",
                       (unsigned long long)context);
    o->context = (uint32_t)context;
    o->max_sequences = o->max_sequences ? o->max_sequences : 1;
    o->max_rows = MU_MAX(o->max_rows ? o->max_rows : ROWS_DEFAULT, o->max_sequences);
    o->prefill_chunk = o->prefill_chunk ? MU_MIN(o->prefill_chunk, o->max_rows) : o->max_rows;
    o->rope_context = o->rope_context ? o->rope_context : o->context;
    if (o->kv_type != MU_DTYPE_F32 && o->kv_type != MU_DTYPE_F16 && o->kv_type != MU_DTYPE_BF16)
        return mu_fail(err, MU_E_USAGE, "a KV cache of type %s is not supported",
                       mu_dtype(o->kv_type)->name);
    return MU_OK;
}

/* Creates the ranks without memory; `engine->common` and options are settled. */
static mu_status init_ranks(struct mu_engine *e, struct mu_err *err)
{
    struct mu_rank_common *c = &e->common;
    const struct mu_engine_options *o = &e->options;
    uint32_t max_blocks = MU_CEIL_DIV(o->context, MU_KV_BLOCK_TOKENS);
    c->config = mu_model_file_config(c->file);
    c->compute = o->compute;
    c->kv_type = o->kv_type;
    c->weights = o->weights;
    c->context = o->context;
    c->rope_context = o->rope_context;
    c->n_blocks = max_blocks * o->max_sequences;
    c->n_slots = o->pp;
    c->layout = (struct mu_step_layout){.max_rows = o->max_rows,
                                        .max_sequences = o->max_sequences,
                                        .max_out = MU_MAX(OUT_MAX, o->max_sequences),
                                        .max_blocks = max_blocks};
    c->layout.max_out = MU_MIN(c->layout.max_out, o->max_rows);
    e->tp = o->tp;
    e->pp = o->pp;
    e->ranks = mu_alloc_aligned(MU_CACHE_LINE, o->devices.n * sizeof *e->ranks);
    if (!e->ranks) return mu_fail_memory(err, o->devices.n * sizeof *e->ranks);
    memset(e->ranks, 0, o->devices.n * sizeof *e->ranks);
    for (uint32_t stage = 0; stage < o->pp; stage++)
        for (uint32_t r = 0; r < o->tp; r++) {
            struct mu_shard shard = {.layer_first = stage * c->config->n_layers / o->pp,
                                     .layer_end = (stage + 1) * c->config->n_layers / o->pp,
                                     .tp_rank = r,
                                     .tp_size = o->tp};
            unsigned i = e->n_ranks++;
            MU_TRY(mu_rank_init(&e->ranks[i], c, &e->options.devices.items[i], &shard, err));
        }
    return MU_OK;
}

static mu_status prepare(struct mu_engine *e, const struct mu_model_file *file,
                         const struct mu_engine_options *options, struct mu_err *err)
{
    memset(e, 0, sizeof *e);
    e->event_fd = -1;
    e->options = *options;
    e->common.file = file;
    MU_TRY(settle_options(&e->options, mu_model_file_config(file), err));
    MU_TRY(mu_kernels_choose(options->kernels, &e->common.kernels, err));
    return init_ranks(e, err);
}

static void tell_memory(const struct mu_engine *e, struct mu_engine_memory *out)
{
    *out = (struct mu_engine_memory){.n_ranks = e->n_ranks, .fits = true};
    uint64_t blocks_fit = UINT32_MAX;
    for (unsigned i = 0; i < e->n_ranks; i++) {
        const struct mu_rank *rank = &e->ranks[i];
        struct mu_rank_memory *m = &out->ranks[i];
        (void)snprintf(m->device, sizeof m->device, "%s", rank->spec->name);
        m->layer_first = rank->program->shard.layer_first;
        m->layer_end = rank->program->shard.layer_end;
        m->tp_rank = rank->program->shard.tp_rank;
        m->budget_bytes = rank->spec->budget_bytes;
        mu_rank_need(rank, m->bytes);
        for (int p = 0; p < MU_PURPOSE_COUNT; p++)
            m->total_bytes += m->bytes[p];
        out->fits = out->fits && m->total_bytes <= m->budget_bytes;
        uint64_t rest = m->total_bytes - m->bytes[MU_PURPOSE_KV];
        uint64_t room = m->budget_bytes > rest ? m->budget_bytes - rest : 0;
        uint64_t block = mu_rank_block_bytes(rank);
        blocks_fit = MU_MIN(blocks_fit, block ? room / block : 0);
    }
    uint64_t tokens = blocks_fit / e->options.max_sequences * MU_KV_BLOCK_TOKENS;
    out->context_fits = MU_MIN(tokens, e->options.context);
}

static void destroy_ranks(struct mu_engine *e)
{
    for (unsigned i = 0; i < e->n_ranks; i++)
        mu_rank_fini(&e->ranks[i]);
    mu_free(e->ranks);
}

mu_status mu_engine_memory(const struct mu_model_file *file,
                           const struct mu_engine_options *options, struct mu_engine_memory *out,
                           struct mu_err *err)
{
    struct mu_engine *e = mu_alloc_aligned(MU_CACHE_LINE, sizeof *e);
    if (!e) return mu_fail_memory(err, sizeof *e);
    mu_status status = prepare(e, file, options, err);
    if (status == MU_OK) tell_memory(e, out);
    destroy_ranks(e);
    mu_free(e);
    return status;
}

static mu_status refuse_unfit(const struct mu_engine *e, struct mu_err *err)
{
    struct mu_engine_memory m;
    tell_memory(e, &m);
    if (m.fits) return MU_OK;
    for (unsigned i = 0; i < m.n_ranks; i++) {
        const struct mu_rank_memory *r = &m.ranks[i];
        char a[MU_BYTES_TEXT], b[MU_BYTES_TEXT], c[MU_BYTES_TEXT], d[MU_BYTES_TEXT];
        if (r->total_bytes > r->budget_bytes)
            (void)mu_fail(
                err, MU_E_FIT, "%s needs %s (weights %s, KV cache %s) and has a budget of %s",
                r->device, mu_format_bytes(r->total_bytes, a),
                mu_format_bytes(r->bytes[MU_PURPOSE_WEIGHTS], b),
                mu_format_bytes(r->bytes[MU_PURPOSE_KV], c), mu_format_bytes(r->budget_bytes, d));
    }
    if (m.context_fits > 0)
        mu_err_cure(err, "a context of %llu tokens fits (--context)",
                    (unsigned long long)m.context_fits);
    else
        mu_err_cure(err, "spread it over more devices, or take fewer bits a weight");
    return MU_E_FIT;
}

static void rank_main(void *arg)
{
    struct mu_rank *rank = arg;
    struct mu_rank_common *c = rank->common;
    rank->status = mu_rank_load(rank, &rank->err);
    bool ready = rank->status == MU_OK;
    atomic_store_explicit(&rank->state, ready ? MU_RANK_READY : MU_RANK_FAILED,
                          memory_order_release);
    mu_wake_word(&rank->state);
    for (uint32_t serial = 0; ready; serial++) {
        while (atomic_load_explicit(&c->posted, memory_order_acquire) == serial)
            mu_wait_word(&c->posted, serial);
        if (atomic_load_explicit(&c->stop, memory_order_relaxed)) break;
        if (mu_rank_execute(rank, serial) != MU_OK) { /* the others must not wait for this rank */
            mu_comm_abort(rank->tp_group);
            mu_comm_abort(rank->pp_group);
        }
        atomic_store_explicit(&rank->done, serial + 1, memory_order_release);
        mu_wake_word(&rank->done);
    }
    mu_team_destroy(rank->team); /* by the thread that made it */
    rank->team = NULL;
}

static mu_status create_groups(struct mu_engine *e, struct mu_err *err)
{
    for (unsigned stage = 0; e->tp > 1 && stage < e->pp; stage++) {
        MU_TRY(mu_comm_create(e->tp, &e->tp_groups[stage], err));
        for (unsigned r = 0; r < e->tp; r++) {
            struct mu_rank *rank = &e->ranks[stage * e->tp + r];
            rank->tp_group = e->tp_groups[stage];
            rank->tp = mu_comm_rank(rank->tp_group, r);
        }
    }
    for (unsigned r = 0; e->pp > 1 && r < e->tp; r++) {
        MU_TRY(mu_comm_create(e->pp, &e->pp_groups[r], err));
        for (unsigned stage = 0; stage < e->pp; stage++) {
            struct mu_rank *rank = &e->ranks[stage * e->tp + r];
            rank->pp_group = e->pp_groups[r];
            rank->pp = mu_comm_rank(rank->pp_group, stage);
        }
    }
    return MU_OK;
}

/* Waits for every rank to have loaded, telling how far they are. */
static mu_status await_ranks(struct mu_engine *e, struct mu_err *err)
{
    uint64_t all = 0;
    for (unsigned i = 0; i < e->n_ranks; i++) {
        uint64_t bytes[MU_PURPOSE_COUNT];
        mu_rank_need(&e->ranks[i], bytes);
        all += bytes[MU_PURPOSE_WEIGHTS];
    }
    for (unsigned i = 0; i < e->n_ranks; i++) {
        struct mu_rank *rank = &e->ranks[i];
        while (rank->thread.started &&
               atomic_load_explicit(&rank->state, memory_order_acquire) == MU_RANK_NEW) {
            (void)mu_wait_word_for(&rank->state, MU_RANK_NEW, PROGRESS_MS);
            uint64_t done = atomic_load_explicit(&e->common.loaded_bytes, memory_order_relaxed);
            if (e->options.progress)
                e->options.progress(e->options.progress_arg, MU_MIN(done, all), all);
        }
    }
    for (unsigned i = 0; i < e->n_ranks; i++)
        if (e->ranks[i].status != MU_OK) {
            if (err && err->code == MU_OK) *err = e->ranks[i].err;
            return e->ranks[i].status;
        }
    return MU_OK;
}

static mu_status start(struct mu_engine *e, struct mu_err *err)
{
    MU_TRY(refuse_unfit(e, err));
    uint64_t begin = mu_clock_ns();
    size_t words = mu_step_words(&e->common.layout);
    for (uint32_t i = 0; i < e->common.n_slots; i++)
        if (!(e->common.slots[i] = mu_calloc(words, sizeof(uint32_t))))
            return mu_fail_memory(err, words * sizeof(uint32_t));
    MU_TRY(create_groups(e, err));
    MU_TRY(mu_scheduler_init(e, err));
    mu_status status = MU_OK;
    for (unsigned i = 0; status == MU_OK && i < e->n_ranks; i++) {
        char name[24];
        (void)snprintf(name, sizeof name, "muster-rank-%u", i);
        status = mu_thread_start(&e->ranks[i].thread, rank_main, &e->ranks[i], name, -1, err);
    }
    mu_status loaded = await_ranks(e, err);
    if (status == MU_OK) status = loaded;
    e->load_seconds = mu_clock_seconds_since(begin);
    if (status == MU_OK)
        status = mu_thread_start(&e->scheduler, mu_scheduler_main, e, "muster-sched", -1, err);
    return status;
}

mu_status mu_engine_open(const struct mu_model_file *file, const struct mu_engine_options *options,
                         struct mu_engine **out, struct mu_err *err)
{
    struct mu_engine *e = mu_alloc_aligned(MU_CACHE_LINE, sizeof *e);
    if (!e) return mu_fail_memory(err, sizeof *e);
    mu_status status = prepare(e, file, options, err);
    if (status == MU_OK && (e->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) < 0)
        status = mu_fail_errno(err, MU_E_RESOURCE, errno, "cannot create an event descriptor");
    if (status == MU_OK) status = start(e, err);
    if (status != MU_OK) {
        mu_engine_close(e);
        return status;
    }
    *out = e;
    return MU_OK;
}

void mu_engine_stop_ranks(struct mu_engine *e)
{
    atomic_store_explicit(&e->common.stop, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&e->common.posted, 1, memory_order_release);
    mu_wake_word(&e->common.posted);
    for (unsigned i = 0; i < e->n_ranks; i++)
        mu_thread_join(&e->ranks[i].thread);
}

void mu_engine_close(struct mu_engine *engine)
{
    if (!engine) return;
    atomic_store_explicit(&engine->stop, 1, memory_order_release);
    mu_engine_ring(engine);
    mu_thread_join(&engine->scheduler);
    mu_engine_stop_ranks(engine);
    mu_scheduler_fini(engine);
    destroy_ranks(engine);
    for (unsigned i = 0; i < MU_DEVICES_MAX; i++) {
        mu_comm_destroy(engine->tp_groups[i]);
        mu_comm_destroy(engine->pp_groups[i]);
    }
    for (uint32_t i = 0; i < engine->common.n_slots; i++)
        mu_free(engine->common.slots[i]);
    if (engine->event_fd >= 0) (void)close(engine->event_fd);
    mu_free(engine);
}

void mu_engine_facts(const struct mu_engine *engine, struct mu_engine_facts *out)
{
    *out = (struct mu_engine_facts){.family = engine->common.kernels->family,
                                    .n_ranks = engine->n_ranks,
                                    .context = engine->common.context,
                                    .vocab = engine->common.config->vocab,
                                    .load_seconds = engine->load_seconds};
    for (unsigned i = 0; i < engine->n_ranks; i++) {
        const struct mu_rank *rank = &engine->ranks[i];
        const struct mu_program *p = rank->program;
        out->n_threads += rank->spec->n_threads;
        for (uint32_t t = 0; t < p->n_tensors; t++) {
            out->weight_bytes += rank->weights[t].bytes;
            bool lookup_only =
                p->tensors[t].role == MU_ROLE_EMBED && !(p->config->tied_head && p->last_stage);
            uint64_t bytes = lookup_only ? 0 : rank->weights[t].bytes;
            if (mu_role_of_expert(p->tensors[t].role))
                bytes = bytes * p->config->n_experts_used / p->config->n_experts;
            out->bytes_read_a_token += bytes;
        }
    }
}

void mu_engine_usage(const struct mu_engine *engine, unsigned rank, struct mu_device_usage *out)
{
    mu_device_usage(engine->ranks[rank].device, out);
}
