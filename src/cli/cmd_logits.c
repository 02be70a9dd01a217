/* muster logits: the raw logits at given positions of a prompt, as a safetensors file. */
#include "cli/session.h"

#include "base/alloc.h"
#include "base/checked.h"

#include <stdio.h>

struct logits_options {
    struct mu_run_options run;
    const char *tokens, *positions, *out;
};

static const struct mu_option options[] = {
    {"tokens", 0, MU_OPTION_TEXT, offsetof(struct logits_options, tokens), "IDS",
     "the prompt as token ids: 1,2,3", 0, 0, NULL, NULL},
    {"positions", 0, MU_OPTION_TEXT, offsetof(struct logits_options, positions), "LIST",
     "positions whose logits are wanted: 0,2 or all", 0, 0, "all", NULL},
    {"out", 'o', MU_OPTION_TEXT, offsetof(struct logits_options, out), "FILE",
     "the file to write: tensor 'logits', F32 [positions, vocabulary]", 0, 0, NULL, NULL},
    MU_RUN_OPTION_ROWS(struct logits_options),
    {0}};

/* Fills `positions` from the list, or with all of the prompt. */
static mu_status read_positions(const char *list, uint32_t n_prompt, uint32_t **positions,
                                uint32_t *n, struct mu_err *err)
{
    if (strcmp(list, "all") != 0) return mu_session_parse_ids(list, positions, n, err);
    *positions = mu_alloc(n_prompt * sizeof **positions);
    if (!*positions) return mu_fail_memory(err, n_prompt * sizeof **positions);
    for (*n = 0; *n < n_prompt; ++*n)
        (*positions)[*n] = *n;
    return MU_OK;
}

static mu_status write_logits(struct mu_session *session, const struct logits_options *o,
                              const uint32_t *ids, uint32_t n_ids, const uint32_t *positions,
                              uint32_t n, struct mu_err *err)
{
    uint64_t dims[2] = {n, mu_model_file_config(session->file)->vocab}, values;
    float *logits = mu_mul(dims[0], dims[1], &values) ? mu_calloc(values, sizeof *logits) : NULL;
    if (!logits) return mu_fail_memory(err, n * dims[1] * sizeof *logits);
    struct mu_request_options request = {.prompt = ids,
                                         .n_prompt = n_ids,
                                         .logit_positions = positions,
                                         .n_logit_positions = n,
                                         .logits = logits};
    mu_sampling_defaults(&request.sampling);
    struct mu_request_result result;
    mu_status status = mu_session_requests(session, &request, 1, NULL, NULL, &result, err);
    if (status == MU_OK) status = mu_safetensors_save(o->out, "logits", dims, 2, logits, err);
    mu_free(logits);
    return status;
}

static mu_status logits_run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct logits_options *o = in->options;
    if (!o->tokens || !o->out)
        return mu_fail(err, MU_E_USAGE, "logits wants --%s", o->tokens ? "out" : "tokens");
    struct mu_session session;
    uint32_t *ids = NULL, *positions = NULL, n_ids = 0, n = 0;
    mu_status status = mu_session_open(&session, in->result->operands[0], err);
    if (status == MU_OK) status = mu_session_parse_ids(o->tokens, &ids, &n_ids, err);
    if (status == MU_OK) status = read_positions(o->positions, n_ids, &positions, &n, err);
    if (status == MU_OK) status = mu_session_engine(&session, &o->run, n_ids, n_ids, 1, err);
    if (status == MU_OK) status = write_logits(&session, o, ids, n_ids, positions, n, err);
    mu_free(ids);
    mu_free(positions);
    mu_session_close(&session);
    return status;
}

const struct mu_command mu_command_logits = {
    .spec = {.command = "logits",
             .operands = "MODEL",
             .summary = "write the raw logits of a prompt to a safetensors file",
             .options = options,
             .min_operands = 1,
             .max_operands = 1},
    .options_size = sizeof(struct logits_options),
    .over_processes = true,
    .run = logits_run,
};
