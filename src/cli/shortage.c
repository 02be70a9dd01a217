/* What a person needs to know when a model does not fit its devices; see session.h. */
#include "cli/session.h"

#include "base/alloc.h"
#include "base/number.h"

#include <stdio.h>

#define DEVICES_TRIED 32

void mu_session_say_memory(const struct mu_engine_memory *memory)
{
    bool staged = false;
    int layers = 9;
    for (unsigned i = 0; i < memory->n_ranks; i++) {
        staged |= memory->ranks[i].bytes[MU_PURPOSE_STAGING] > 0;
        layers = MU_MAX(layers, (int)strlen(memory->ranks[i].layers));
    }
    const int width = staged ? 12 : 0; /* of a column that few tables need */
    mu_cli_say("%-8s %-*s %11s %11s %11s %11s%*s %11s %11s\n", "device", layers, "layers",
               "weights", "kv cache", "activations", "tables", width, staged ? "staging" : "",
               "predicted", "budget");
    for (unsigned i = 0; i < memory->n_ranks; i++) {
        const struct mu_rank_memory *r = &memory->ranks[i];
        char cells[MU_PURPOSE_COUNT][MU_BYTES_TEXT], a[MU_BYTES_TEXT], b[MU_BYTES_TEXT];
        for (int p = 0; p < MU_PURPOSE_COUNT; p++)
            (void)mu_format_bytes(r->bytes[p], cells[p]);
        mu_cli_say("%-8s %-*s %11s %11s %11s %11s%*s %11s %11s%s\n", r->device, layers, r->layers,
                   cells[MU_PURPOSE_WEIGHTS], cells[MU_PURPOSE_KV], cells[MU_PURPOSE_ACTIVATIONS],
                   cells[MU_PURPOSE_TABLES], width, staged ? cells[MU_PURPOSE_STAGING] : "",
                   mu_format_bytes(r->total_bytes, a), mu_format_bytes(r->budget_bytes, b),
                   r->total_bytes > r->budget_bytes ? "  too little" : "");
    }
}

struct search {
    const struct mu_model_file *file;
    const struct mu_run_options *run;
    struct mu_engine_options options; /* as asked for; then as tried */
    struct mu_engine_memory memory;
    char devices[64];
};

static bool fits(struct search *s, uint32_t tp, uint32_t pp)
{
    struct mu_engine_options *o = &s->options;
    const char *budget = strchr(s->run->devices, 'x');
    (void)snprintf(s->devices, sizeof s->devices, "cpu:%u%s", tp * pp * o->dp, budget);
    o->tp = tp;
    o->pp = pp;
    return mu_devices_parse(s->devices, (unsigned)s->run->threads, &o->devices, NULL) == MU_OK &&
           mu_engine_memory(s->file, o, &s->memory, NULL) == MU_OK && s->memory.fits;
}

/* The fewest devices with this budget, and of their placements the one with the fewest stages. */
static bool find_devices(struct search *s)
{
    uint32_t dp = s->options.dp;
    for (uint32_t n = 1; n <= DEVICES_TRIED && n * dp <= MU_DEVICES_MAX; n++)
        for (uint32_t pp = 1; pp <= n; pp++)
            if (n % pp == 0 && fits(s, n / pp, pp)) return true;
    return false;
}

/* The type with the most bits that makes the weights fit where they were to go. */
static const char *find_type(struct search *s)
{
    static const char *const names[] = {"q8_0", "q6_k", "q5_k", "q4_k", "q3_k", "q2_k"};
    for (size_t i = 0; i < MU_ARRAY_LEN(names); i++)
        if (mu_session_weight_type(names[i], &s->options.weights, NULL) == MU_OK &&
            mu_engine_memory(s->file, &s->options, &s->memory, NULL) == MU_OK && s->memory.fits)
            return names[i];
    return NULL;
}

/* The most rows of a step with which its buffers are small enough; 0: none. */
static uint32_t find_chunk(struct search *s)
{
    for (uint32_t rows = s->options.max_rows / 2; rows >= 16; rows /= 2) {
        s->options.max_rows = rows;
        if (mu_engine_memory(s->file, &s->options, &s->memory, NULL) == MU_OK && s->memory.fits)
            return rows;
    }
    return 0;
}

void mu_session_say_shortage(const struct mu_session *session, const struct mu_run_options *run,
                             const struct mu_engine_options *options)
{
    mu_session_say_memory(&session->memory);
    struct search *s = mu_alloc(sizeof *s);
    if (!s) return;
    *s = (struct search){.file = session->file, .run = run, .options = *options};
    /* What costs least comes first; fewer bits cost quality. */
    uint32_t chunk = find_chunk(s);
    if (chunk) mu_cli_say("would fit: --prefill-chunk %u on these devices\n", chunk);
    s->options.max_rows = options->max_rows;
    s->options.dp = MU_MAX(s->options.dp, 1u);
    s->options.world = NULL;
    /* Without a budget of their own more devices only share the same memory. */
    if (!options->places && strchr(run->devices, 'x') && find_devices(s)) {
        char most[MU_BYTES_TEXT];
        uint64_t bytes = 0;
        for (unsigned i = 0; i < s->memory.n_ranks; i++)
            bytes = MU_MAX(bytes, s->memory.ranks[i].total_bytes);
        mu_cli_say(
            "would fit: --devices %s --tp %u --pp %u --dp %u%s, with at most %s on a device\n",
            s->devices, s->options.tp, s->options.pp, s->options.dp,
            options->world ? " in one process, or as many spread over several" : "",
            mu_format_bytes(bytes, most));
    }
    s->options = *options;
    s->options.world = NULL;
    const char *type = find_type(s);
    if (type) mu_cli_say("would fit: --weights %s on these devices\n", type);
    mu_free(s);
}
