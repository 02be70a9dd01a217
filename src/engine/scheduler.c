/*
 * The scheduler: its one thread owns every request from submit to the last event. It composes steps
 * from the running requests (a token for each that decodes, pieces of prompts for the rest), hands
 * them to the ranks, and turns the logits that come back into tokens and events. Each replica has
 * one. See engine_int.h.
 *
 * Nothing a request gets depends on who else is in its steps: kernels see to the bits, the
 * sampler's draws are keyed by the request alone.
 */
#include "engine/engine_int.h"

#include "base/clock.h"
#include "base/fault.h"

#define XXH_INLINE_ALL
#include <math.h>
#include <unistd.h>
#include <xxhash.h>

#define STEPS_A_STAGE     4 /* so that filling and draining a pipeline costs little */
#define STAGED_ROWS_LEAST UINT64_C(64)

mu_status mu_scheduler_init(struct mu_replica *e, struct mu_err *err)
{
    const struct mu_step_layout *l = &e->common.layout;
    uint32_t n_blocks = e->common.n_blocks;
    e->waiting_end = &e->waiting;
    e->running = mu_calloc(l->max_sequences, sizeof(struct mu_request *));
    e->free_blocks = mu_calloc(n_blocks, sizeof *e->free_blocks);
    e->records = mu_calloc(e->common.n_slots, sizeof *e->records);
    e->n_events = 64;
    while (e->n_events < 4 * l->max_sequences)
        e->n_events *= 2;
    e->events = mu_calloc(e->n_events, sizeof *e->events);
    if (!e->running || !e->free_blocks || !e->records || !e->events)
        return mu_fail_memory(err, n_blocks * sizeof *e->free_blocks);
    for (uint32_t i = 0; i < n_blocks; i++)
        e->free_blocks[e->n_free_blocks++] = n_blocks - 1 - i;
    for (uint32_t i = 0; i < e->common.n_slots; i++) {
        struct mu_step_record *r = &e->records[i];
        r->requests = mu_calloc(l->max_sequences, sizeof(struct mu_request *));
        r->out = mu_calloc(l->max_out, sizeof *r->out);
        if (!r->requests || !r->out) return mu_fail_memory(err, l->max_out * sizeof *r->out);
    }
    return mu_sampler_scratch_create(e->common.config->vocab, &e->scratch, err);
}

void mu_scheduler_fini(struct mu_replica *e)
{
    for (uint32_t i = 0; e->records && i < e->common.n_slots; i++) {
        mu_free(e->records[i].requests);
        mu_free(e->records[i].out);
    }
    mu_free(e->records);
    mu_free(e->running);
    mu_free(e->free_blocks);
    mu_free(e->events);
    mu_sampler_scratch_destroy(e->scratch);
}

static bool stopping(const struct mu_replica *e)
{
    return atomic_load_explicit(&e->stop, memory_order_acquire) != 0;
}

/* Events go out in the order of emission; with the ring full this waits for the taker. */
static void emit(struct mu_replica *e, const struct mu_event *event)
{
    uint32_t head = atomic_load_explicit(&e->event_head, memory_order_relaxed);
    for (;;) {
        uint32_t bell = atomic_load_explicit(&e->bell, memory_order_acquire);
        if (head - atomic_load_explicit(&e->event_tail, memory_order_acquire) < e->n_events) break;
        if (stopping(e)) return; /* nobody takes events any more */
        mu_wait_word(&e->bell, bell);
    }
    e->events[head & (e->n_events - 1)] = *event;
    atomic_store_explicit(&e->event_head, head + 1, memory_order_release);
    e->event_fd_due = true;
    if (head + 1 - atomic_load_explicit(&e->event_tail, memory_order_relaxed) == e->n_events) {
        uint64_t one = 1; /* full now: the taker must hear before we wait */
        ssize_t n MU_UNUSED = write(e->event_fd, &one, sizeof one);
    }
}

/* One wake-up for all events since the last. */
static void wake_taker(struct mu_replica *e)
{
    uint64_t one = 1;
    if (e->event_fd_due) {
        ssize_t n MU_UNUSED = write(e->event_fd, &one, sizeof one);
    }
    e->event_fd_due = false;
}

static void finish(struct mu_replica *e, struct mu_request *r, enum mu_finish why)
{
    uint64_t now = mu_clock_ns();
    atomic_fetch_sub_explicit(&e->open_tokens, mu_request_tokens(r), memory_order_relaxed);
    r->result.finish = why;
    r->result.n_tokens = r->n_known - r->options.n_prompt;
    uint64_t first = r->first_token_ns ? r->first_token_ns : now;
    r->result.prefill_seconds = (double)(first - r->submitted_ns) * 1e-9;
    if (r->result.n_tokens > 1)
        r->result.decode_seconds = (double)(r->last_token_ns - first) * 1e-9;
    struct mu_event event = {.request = r, .user = r->options.user, .done = true, .finish = why};
    emit(e, &event);
}

static void release_blocks(struct mu_replica *e, struct mu_request *r)
{
    for (uint32_t i = 0; i < r->n_blocks; i++)
        e->free_blocks[e->n_free_blocks++] = r->blocks[i];
}

/* Takes a running request out; its blocks are free again. No step holds it any more. */
static void retire(struct mu_replica *e, struct mu_request *r, enum mu_finish why)
{
    uint32_t i = 0;
    while (e->running[i] != r)
        i++;
    memmove(&e->running[i], &e->running[i + 1], (--e->n_running - i) * sizeof *e->running);
    release_blocks(e, r);
    finish(e, r, why);
}

static void take_inbox(struct mu_replica *e)
{
    struct mu_request *newest = atomic_exchange_explicit(&e->inbox, NULL, memory_order_acquire);
    struct mu_request *oldest = NULL;
    while (newest) { /* the stack, turned into order of submission */
        struct mu_request *next = newest->next;
        newest->next = oldest;
        oldest = newest;
        newest = next;
    }
    *e->waiting_end = oldest;
    while (*e->waiting_end)
        e->waiting_end = &(*e->waiting_end)->next;
}

static bool cancelled(const struct mu_request *r)
{
    return atomic_load_explicit(&r->cancelled, memory_order_relaxed);
}

/* Lets waiting requests in, first come first served, while there is room for all they may need. */
static void admit(struct mu_replica *e)
{
    while (e->waiting) {
        struct mu_request *r = e->waiting;
        bool room =
            e->n_running < e->common.layout.max_sequences && r->n_blocks <= e->n_free_blocks;
        if (!cancelled(r) && !room) return;
        e->waiting = r->next;
        if (!e->waiting) e->waiting_end = &e->waiting;
        if (cancelled(r)) {
            finish(e, r, MU_FINISH_CANCELLED);
            continue;
        }
        for (uint32_t i = 0; i < r->n_blocks; i++)
            r->blocks[i] = e->free_blocks[--e->n_free_blocks];
        e->running[e->n_running++] = r;
    }
}

/* Whether somebody wants the logits at this position. */
static bool wants_logits(struct mu_request *r, uint32_t position)
{
    const struct mu_request_options *o = &r->options;
    if (position + 1 == r->n_known && o->max_tokens > 0) return true;
    if (o->prompt_logprobs && position + 1 < o->n_prompt) return true;
    while (r->next_logit < o->n_logit_positions && o->logit_positions[r->next_logit] < position)
        r->next_logit++;
    return r->next_logit < o->n_logit_positions && o->logit_positions[r->next_logit] == position;
}

/* Adds up to `most` rows of one request to the step; returns whether it took part. */
static bool compose_request(struct mu_replica *e, struct mu_request *r, uint32_t most,
                            struct mu_step *step, struct mu_step_record *record)
{
    const struct mu_step_layout *l = &e->common.layout;
    uint32_t sequence = record->n_requests, first = r->n_posted;
    uint32_t end = MU_MIN(r->n_known, first + most);
    for (; r->n_posted < end; r->n_posted++) {
        uint32_t row = step->header[MU_STEP_ROWS];
        if (wants_logits(r, r->n_posted)) {
            if (record->n_out == l->max_out) break;
            step->out_rows[record->n_out] = row;
            record->out[record->n_out++] = (struct mu_out_row){r, r->n_posted};
        }
        step->ids[row] = r->tokens[r->n_posted];
        step->positions[row] = r->n_posted;
        step->sequences[row] = sequence;
        step->header[MU_STEP_ROWS] = row + 1;
    }
    if (r->n_posted == first) return false;
    memcpy(step->tables + (size_t)sequence * l->max_blocks, r->blocks,
           r->n_blocks * sizeof *r->blocks);
    record->requests[record->n_requests++] = r;
    r->in_flight++;
    return true;
}

uint32_t mu_engine_step_rows(uint32_t most, uint32_t pp, uint64_t left)
{
    uint64_t piece = MU_MAX(MU_CEIL_DIV(left, STEPS_A_STAGE * pp), STAGED_ROWS_LEAST);
    return pp == 1 ? most : (uint32_t)MU_MIN(piece, (uint64_t)most);
}

static uint32_t rows_of_step(const struct mu_replica *e)
{
    uint64_t left = 0;
    for (uint32_t i = 0; i < e->n_running; i++)
        left += e->running[i]->n_known - e->running[i]->n_posted;
    return mu_engine_step_rows(e->common.layout.max_rows, e->pp, left);
}

/* Fills the next step; false when nobody has work that is not under way. */
static bool compose(struct mu_replica *e)
{
    uint32_t slot = e->n_posted % e->common.n_slots;
    struct mu_step step = mu_step_view(&e->common.layout, e->common.slots[slot]);
    struct mu_step_record *record = &e->records[slot];
    memset(step.header, 0, MU_STEP_HEADER * sizeof *step.header);
    uint32_t rows = rows_of_step(e), decoding = 0;
    uint32_t decoding_most = MU_CEIL_DIV(e->n_running, e->pp); /* the others go with other steps */
    record->serial = e->n_posted;
    record->n_requests = record->n_out = 0;
    /* Tokens of those that decode go first, so that a long prompt delays nobody by more than a
     * step. */
    for (int prompts = 0; prompts < 2; prompts++)
        for (uint32_t i = 0; i < e->n_running; i++) {
            struct mu_request *r = e->running[i];
            uint32_t left = r->n_known - r->n_posted;
            uint32_t room = rows - MU_MIN(rows, step.header[MU_STEP_ROWS]);
            uint32_t chunk = e->options.prefill_chunk;
            if (left == 0 || room == 0 || cancelled(r) || (left > 1) != prompts) continue;
            if (!prompts && decoding++ == decoding_most) break;
            if (r->options.prefill_chunk) chunk = MU_MIN(chunk, r->options.prefill_chunk);
            (void)compose_request(e, r, MU_MIN(room, chunk), &step, record);
        }
    step.header[MU_STEP_SERIAL] = e->n_posted;
    step.header[MU_STEP_SEQUENCES] = record->n_requests;
    step.header[MU_STEP_OUT] = record->n_out;
    return record->n_requests > 0;
}

static void post(struct mu_replica *e)
{
    mu_watch_step(e->n_posted);
    if (e->remote) mu_remote_post(e, e->n_posted);
    e->n_posted++;
    atomic_store_explicit(&e->common.posted, e->n_posted, memory_order_release);
    mu_wake_word(&e->common.posted);
}

static uint64_t digest_row(const struct mu_config *config, const float *logits, uint32_t position)
{
    uint64_t sum = 0;
    uint32_t n = mu_segment_count(config->vocab);
    for (uint32_t s = 0; s < n; s++) {
        uint32_t first = mu_vocab_border(config->vocab, s);
        uint32_t end = mu_vocab_border(config->vocab, s + 1);
        sum += XXH3_64bits_withSeed(logits + first, (end - first) * sizeof *logits,
                                    (uint64_t)position << 32 | s);
    }
    return sum;
}

#define BLAME_ROWS UINT64_C(64) /* made at once, where they are not mapped */

/* Names the first tensor with a value that is not finite: the likeliest reason for such logits. */
static void blame_tensor(const struct mu_replica *e, struct mu_err *err)
{
    const struct mu_tensor *tensors;
    size_t n = mu_model_file_tensors(e->common.file, &tensors);
    struct mu_err found = MU_ERR_INIT;
    for (size_t i = 0; i < n && found.code == MU_OK; i++) {
        const struct mu_tensor *t = &tensors[i];
        uint64_t cols = t->n_dims ? t->dims[t->n_dims - 1] : 0;
        if (cols == 0 || !mu_codec_can_decode(t->type)) continue;
        const uint64_t row_bytes = mu_tensor_row_bytes(t);
        const uint8_t *rows = NULL;
        uint8_t *made = t->data ? NULL : mu_alloc(BLAME_ROWS * row_bytes);
        float *row = t->data || made ? mu_alloc(cols * sizeof *row) : NULL;
        for (uint64_t r = 0; row && found.code == MU_OK && r < t->n_values / cols; r++) {
            if (r % BLAME_ROWS == 0)
                rows = mu_tensor_rows(t, r, MU_MIN(t->n_values / cols - r, BLAME_ROWS), made);
            mu_codec_decode(t->type, rows + r % BLAME_ROWS * row_bytes, row, cols);
            for (uint64_t j = 0; j < cols && found.code == MU_OK; j++)
                if (!isfinite(row[j])) {
                    (void)mu_fail(&found, MU_E_INPUT,
                                  "tensor %s holds a value that is not finite (row %llu, column "
                                  "%llu), and so the logits do",
                                  t->name, (unsigned long long)r, (unsigned long long)j);
                    mu_err_where(&found, "%s", mu_model_file_name(e->common.file));
                }
        }
        mu_free(row);
        mu_free(made);
    }
    if (found.code != MU_OK) *err = found;
}

static bool is_stop(const struct mu_request *r, uint32_t token)
{
    for (unsigned i = 0; i < r->options.n_stop_ids; i++)
        if (r->options.stop_ids[i] == token) return true;
    return false;
}

/* Draws the token after `position` and tells the front end. */
static void draw(struct mu_replica *e, struct mu_request *r, const float *logits, uint32_t position)
{
    struct mu_event event = {.request = r, .user = r->options.user};
    struct mu_err *err = &r->result.err;
    uint32_t n_out = r->n_known - r->options.n_prompt;
    if (mu_sampler_pick(r->sampler, logits, n_out, NULL, e->scratch, &event.picked, err) != MU_OK) {
        blame_tensor(e, err);
        return;
    }
    mu_sampler_accept(r->sampler, event.picked.id);
    if (r->options.digest)
        r->result.digest +=
            digest_row(e->common.config, logits, position) ^ mu_fault_hit(MU_FAULT_BITS);
    r->last_token_ns = mu_clock_ns();
    if (n_out == 0) r->first_token_ns = r->last_token_ns;
    r->tokens[r->n_known++] = event.picked.id;
    emit(e, &event);
}

static void take_row(struct mu_replica *e, const struct mu_out_row *out, const float *logits)
{
    struct mu_request *r = out->request;
    struct mu_request_options *o = &r->options;
    uint32_t vocab = e->common.config->vocab, position = out->position;
    if (r->result.err.code != MU_OK || cancelled(r)) return;
    for (uint32_t i = 0; i < o->n_logit_positions; i++)
        if (o->logit_positions[i] == position)
            memcpy(o->logits + (size_t)i * vocab, logits, vocab * sizeof *logits);
    if (o->prompt_logprobs && position + 1 < o->n_prompt &&
        mu_sampler_logprob(logits, r->tokens[position + 1], e->scratch,
                           &o->prompt_logprobs[position + 1], &r->result.err) != MU_OK) {
        blame_tensor(e, &r->result.err);
        return;
    }
    if (position + 1 == r->n_known && o->max_tokens > 0) draw(e, r, logits, position);
}

/* Ends the request if this step was its last. */
static void settle(struct mu_replica *e, struct mu_request *r)
{
    const struct mu_request_options *o = &r->options;
    uint32_t n_tokens = r->n_known - o->n_prompt;
    if (r->in_flight > 0) return;
    if (e->failed.code != MU_OK || r->result.err.code != MU_OK) {
        if (r->result.err.code == MU_OK) r->result.err = e->failed;
        retire(e, r, MU_FINISH_FAILED);
    } else if (cancelled(r)) {
        retire(e, r, MU_FINISH_CANCELLED);
    } else if (n_tokens > 0 && is_stop(r, r->tokens[r->n_known - 1])) {
        retire(e, r, MU_FINISH_STOP);
    } else if (n_tokens == o->max_tokens && (o->max_tokens > 0 || r->n_posted == r->n_known)) {
        retire(e, r, MU_FINISH_LENGTH);
    }
}

static void await_done(struct mu_rank *rank, uint32_t serial)
{
    uint32_t done;
    while ((int32_t)((done = atomic_load_explicit(&rank->done, memory_order_acquire)) -
                     (serial + 1)) < 0)
        mu_wait_word(&rank->done, done);
}

/* Most ranks that fail do because another one did, which alone knows a reason and may be some steps
 * ahead or behind. So all of this process first end what was posted; no group holds them up any
 * more. NULL: nothing failed here. */
static const struct mu_rank *find_failed(struct mu_replica *e)
{
    const struct mu_rank *found = NULL;
    for (unsigned i = 0; i < e->n_ranks; i++) {
        struct mu_rank *rank = &e->ranks[i];
        if (!rank->here) continue;
        await_done(rank, e->n_posted - 1);
        if (!mu_rank_failed(rank)) continue;
        if (!found || (found->err.code == MU_OK && rank->err.code != MU_OK)) found = rank;
    }
    return found;
}

static void tell_failure(struct mu_replica *e, const struct mu_rank *failed, uint32_t serial)
{
    const struct mu_world *world = e->options.world;
    (void)mu_fail(&e->failed, MU_E_PEER, "rank %u (%s%s%s) failed in step %u: %s",
                  e->first_rank + failed->number, failed->spec->name, world ? " on host " : "",
                  world ? mu_world_host(world, failed->process) : "", serial,
                  failed->err.code ? failed->err.what : "another one cannot be reached");
}

/* Waits until all ranks are done with the step. */
static void await_ranks(struct mu_replica *e, uint32_t serial)
{
    const struct mu_rank *remote = NULL; /* that failed, or cannot be reached */
    bool failed = false;
    for (unsigned i = 0; i < e->n_ranks; i++) {
        struct mu_rank *rank = &e->ranks[i];
        if (!rank->here) {
            if (mu_remote_await(e, i, serial) != MU_OK && !remote) remote = rank;
            continue;
        }
        await_done(rank, serial);
        failed |= mu_rank_failed(rank);
    }
    if (e->remote && mu_remote_release(e, serial) != MU_OK && !remote) remote = &e->ranks[0];
    const struct mu_rank *here = failed || remote ? find_failed(e) : NULL;
    if (here || remote) tell_failure(e, here ? here : remote, here ? here->failed_in : serial);
}

/* Takes the logits of the oldest step, once it is done, and settles its requests. */
static void complete(struct mu_replica *e)
{
    uint32_t serial = e->n_done++;
    struct mu_step_record *record = &e->records[serial % e->common.n_slots];
    await_ranks(e, serial);
    const struct mu_rank *last = &e->ranks[e->logits_rank];
    const float *logits = last->here ? mu_rank_logits(last, serial) : mu_remote_logits(e, serial);
    for (uint32_t i = 0; e->failed.code == MU_OK && i < record->n_out; i++)
        take_row(e, &record->out[i], logits + (size_t)i * e->common.config->vocab);
    for (uint32_t i = 0; i < record->n_requests; i++) {
        record->requests[i]->in_flight--;
        settle(e, record->requests[i]);
    }
    wake_taker(e);
}

/* Requests that are not in any step and must not be in one: cancelled, or the ranks are gone. */
static void settle_idle(struct mu_replica *e)
{
    for (uint32_t i = e->n_running; i-- > 0;) {
        struct mu_request *r = e->running[i];
        if (r->in_flight == 0 && (cancelled(r) || e->failed.code != MU_OK)) settle(e, r);
    }
    wake_taker(e);
}

void mu_scheduler_main(void *replica)
{
    struct mu_replica *e = replica;
    while (!stopping(e)) {
        uint32_t bell = atomic_load_explicit(&e->bell, memory_order_acquire);
        take_inbox(e);
        admit(e);
        settle_idle(e);
        bool room = e->n_posted - e->n_done < e->common.n_slots;
        if (room && e->failed.code == MU_OK && compose(e))
            post(e);
        else if (e->n_done < e->n_posted)
            complete(e);
        else
            mu_wait_word(&e->bell, bell);
    }
    while (e->n_done < e->n_posted)
        complete(e);
}
