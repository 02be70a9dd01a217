/* Requests as front ends see them: submit, cancel, events, results. See engine.h. */
#include "engine/engine_int.h"

#include "base/clock.h"

#include <poll.h>
#include <unistd.h>

static mu_status check_request(const struct mu_engine *engine, const struct mu_request_options *o,
                               struct mu_err *err)
{
    const struct mu_rank_common *common = &engine->replicas[0].common;
    uint32_t context = common->context, vocab = common->config->vocab;
    if (o->n_prompt == 0) return mu_fail(err, MU_E_INPUT, "the prompt is empty");
    if (o->n_prompt > context || o->max_tokens > context - o->n_prompt) {
        mu_status status = mu_fail(
            err, MU_E_INPUT, "%u prompt tokens and %u new ones are more than the context of %u",
            o->n_prompt, o->max_tokens, context);
        mu_err_cure(err, "shorten the prompt, ask for fewer tokens or give a longer --context");
        return status;
    }
    for (uint32_t i = 0; i < o->n_prompt; i++)
        if (o->prompt[i] >= vocab)
            return mu_fail(err, MU_E_INPUT, "token %u of the prompt is %u, the vocabulary has %u",
                           i, o->prompt[i], vocab);
    for (uint32_t i = 0; i < o->n_logit_positions; i++) {
        if (o->logit_positions[i] >= o->n_prompt)
            return mu_fail(err, MU_E_INPUT, "position %u is not in the prompt of %u tokens",
                           o->logit_positions[i], o->n_prompt);
        if (i > 0 && o->logit_positions[i] <= o->logit_positions[i - 1])
            return mu_fail(err, MU_E_INPUT, "position %u follows %u: positions go upwards",
                           o->logit_positions[i], o->logit_positions[i - 1]);
    }
    return mu_sampling_check(&o->sampling, vocab, err);
}

static void *copy_ids(const uint32_t *ids, size_t n, size_t room)
{
    uint32_t *copy = mu_alloc(room * sizeof *copy);
    if (copy && n) memcpy(copy, ids, n * sizeof *copy);
    return copy;
}

static mu_status request_create(const struct mu_engine *engine, const struct mu_request_options *o,
                                struct mu_request **out, struct mu_err *err)
{
    struct mu_request *r = mu_calloc(1, sizeof *r);
    if (!r) return mu_fail_memory(err, sizeof *r);
    uint32_t length = o->n_prompt + o->max_tokens;
    *out = r;
    r->options = *o;
    r->options.prompt = NULL; /* the caller's; ours is in tokens */
    r->tokens = copy_ids(o->prompt, o->n_prompt, length);
    r->options.stop_ids = copy_ids(o->stop_ids, o->n_stop_ids, o->n_stop_ids);
    r->options.logit_positions =
        copy_ids(o->logit_positions, o->n_logit_positions, o->n_logit_positions);
    r->n_blocks = MU_CEIL_DIV(length, MU_KV_BLOCK_TOKENS);
    r->blocks = mu_alloc(r->n_blocks * sizeof *r->blocks);
    if (!r->tokens || !r->options.stop_ids || !r->options.logit_positions || !r->blocks)
        return mu_fail_memory(err, length * sizeof *r->tokens);
    r->n_known = o->n_prompt;
    r->result.n_prompt = o->n_prompt;
    struct mu_sampling *s = &r->options.sampling;
    MU_TRY(mu_sampling_draw_seed(s, err));
    r->result.seed = s->seed;
    struct mu_sampler_ids prompt = {r->tokens, o->n_prompt};
    struct mu_sampler_ids ends = {r->options.stop_ids, o->n_stop_ids};
    return mu_sampler_create(s, engine->replicas[0].common.config->vocab, o->choice, prompt, ends,
                             o->max_tokens, &r->sampler, err);
}

/* The replica with the least to do; where several have as little, they take turns. */
static struct mu_replica *choose_replica(struct mu_engine *engine)
{
    uint32_t turn = atomic_fetch_add_explicit(&engine->turn, 1, memory_order_relaxed);
    struct mu_replica *best = NULL;
    uint64_t least = 0;
    for (uint32_t i = 0; i < engine->n_replicas; i++) {
        struct mu_replica *r = &engine->replicas[(turn + i) % engine->n_replicas];
        uint64_t n = atomic_load_explicit(&r->open_tokens, memory_order_relaxed);
        if (best && n >= least) continue;
        best = r;
        least = n;
    }
    return best;
}

mu_status mu_request_submit(struct mu_engine *engine, const struct mu_request_options *options,
                            struct mu_request **out, struct mu_err *err)
{
    MU_TRY(check_request(engine, options, err));
    struct mu_request *r = NULL;
    mu_status status = request_create(engine, options, &r, err);
    if (status != MU_OK) {
        mu_request_destroy(r);
        return status;
    }
    struct mu_replica *to = r->replica = choose_replica(engine);
    r->submitted_ns = mu_clock_ns();
    *out = r;
    atomic_fetch_add_explicit(&to->open_tokens, mu_request_tokens(r), memory_order_relaxed);
    struct mu_request *first = atomic_load_explicit(&to->inbox, memory_order_relaxed);
    do
        r->next = first;
    while (!atomic_compare_exchange_weak_explicit(&to->inbox, &first, r, memory_order_release,
                                                  memory_order_relaxed));
    mu_replica_ring(to);
    return MU_OK;
}

void mu_request_cancel(struct mu_request *request)
{
    atomic_store_explicit(&request->cancelled, true, memory_order_relaxed);
    mu_replica_ring(request->replica);
}

void mu_request_result(const struct mu_request *request, struct mu_request_result *out)
{
    *out = request->result;
}

void mu_request_destroy(struct mu_request *request)
{
    if (!request) return;
    mu_sampler_destroy(request->sampler);
    mu_free(request->tokens);
    mu_free((void *)(uintptr_t)request->options.stop_ids);
    mu_free((void *)(uintptr_t)request->options.logit_positions);
    mu_free(request->blocks);
    mu_free(request);
}

int mu_engine_event_fd(const struct mu_engine *engine)
{
    return engine->event_fd;
}

static bool take_event(struct mu_replica *r, struct mu_event *out)
{
    uint32_t tail = atomic_load_explicit(&r->event_tail, memory_order_relaxed);
    if (tail == atomic_load_explicit(&r->event_head, memory_order_acquire)) return false;
    *out = r->events[tail & (r->n_events - 1)];
    atomic_store_explicit(&r->event_tail, tail + 1, memory_order_release);
    if (tail + 1 == atomic_load_explicit(&r->event_head, memory_order_relaxed))
        mu_replica_ring(r); /* the scheduler may wait for room */
    return true;
}

static bool take_any_event(struct mu_engine *engine, struct mu_event *out)
{
    for (unsigned i = 0; i < engine->n_replicas; i++) {
        engine->taker_turn = (engine->taker_turn + 1) % engine->n_replicas;
        if (take_event(&engine->replicas[engine->taker_turn], out)) return true;
    }
    return false;
}

bool mu_engine_next_event(struct mu_engine *engine, struct mu_event *out)
{
    if (take_any_event(engine, out)) return true;
    /* Empty: drain the descriptor, then look again, so that no wake-up is lost. */
    uint64_t count;
    ssize_t n MU_UNUSED = read(engine->event_fd, &count, sizeof count);
    return take_any_event(engine, out);
}

void mu_engine_wait(struct mu_engine *engine, int timeout_ms)
{
    struct pollfd fd = {.fd = engine->event_fd, .events = POLLIN};
    (void)poll(&fd, 1, timeout_ms);
}
