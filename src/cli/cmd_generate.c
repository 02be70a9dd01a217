/* muster generate: text from prompts. */
#include "cli/keep.h"
#include "cli/profile.h"
#include "cli/prompts.h"

#include "base/alloc.h"
#include "base/json.h"

#include <stdio.h>

#define STREAMS_DEFAULT 16
#define SAMPLES_MAX     16u

struct generate_options {
    struct mu_run_options run;
    struct mu_answer_options answer;
    struct mu_prompt_options prompts;
    struct mu_keep_options keep;
    uint64_t choices, streams;
    bool json;
};

static const struct mu_option options[] = {
    MU_PROMPT_OPTION_ROWS(struct generate_options),
    {"choices", 0, MU_OPTION_U64, offsetof(struct generate_options, choices), "N",
     "answers to each prompt", 1, 1024, "1", NULL},
    {"streams", 0, MU_OPTION_U64, offsetof(struct generate_options, streams), "N",
     "answers made at the same time; 0: all, up to 16", 0, 4096, "0", NULL},
    {"profile", 0, MU_OPTION_FLAG, offsetof(struct generate_options, run.profile), NULL,
     "tell where the time of a step goes, by operation", 0, 0, NULL, NULL},
    {"json", 'j', MU_OPTION_FLAG, offsetof(struct generate_options, json), NULL,
     "print one JSON document at the end", 0, 0, NULL, NULL},
    MU_ANSWER_OPTION_ROWS(struct generate_options),
    MU_RUN_OPTION_ROWS(struct generate_options),
    MU_KEEP_OPTION_ROWS(struct generate_options),
    {0}};

/* One answer's own fields, without braces. */
static void add_answer(const struct mu_session *session, const struct mu_answer *a,
                       struct mu_text *out)
{
    mu_text_str(out, "\"ids\":[");
    for (uint32_t i = 0; i < a->n_ids; i++)
        mu_text_printf(out, "%s%u", i ? "," : "", a->ids[i]);
    mu_text_str(out, "],\"text\":");
    if (session->tokenizer)
        mu_json_add_string(out, (struct mu_str){mu_text_get(&a->text), a->text.len});
    else
        mu_text_str(out, "null");
    mu_text_printf(out, ",\"finish_reason\":\"%s\",\"seed\":%llu,", a->finish_reason,
                   (unsigned long long)a->result.seed);
    if (a->logprobs.len) mu_text_printf(out, "\"logprobs\":[%s],", mu_text_get(&a->logprobs));
    struct mu_engine_facts facts;
    mu_engine_facts(session->engine, &facts);
    mu_text_printf(out, "\"digest\":\"%s:%016llx\",", facts.family,
                   (unsigned long long)a->result.digest);
}

static void add_together(const struct mu_answers *answers, struct mu_text *out)
{
    mu_text_printf(out, "\"tokens\":%llu,\"seconds\":", (unsigned long long)answers->n_tokens);
    mu_json_add_f64(out, answers->seconds);
    if (answers->seconds > 0) {
        mu_text_str(out, ",\"tokens_per_s\":");
        mu_json_add_f64(out, (double)answers->n_tokens / answers->seconds);
    }
    if (answers->decode_tokens_per_s > 0) {
        mu_text_str(out, ",\"decode_tokens_per_s\":");
        mu_json_add_f64(out, answers->decode_tokens_per_s);
    }
    mu_text_char(out, ',');
}

/* Prompts and choices count from 1, as in the headings of the texts. One answer is a document;
 * several are its "answers", and what is measured is theirs together. */
static mu_status print_json(struct mu_session *session, const struct mu_answers *answers,
                            bool profile, struct mu_err *err)
{
    struct mu_text out;
    mu_text_init(&out, SIZE_MAX / 4);
    mu_text_char(&out, '{');
    if (answers->n == 1)
        add_answer(session, &answers->items[0], &out);
    else
        mu_text_str(&out, "\"answers\":[");
    for (uint32_t i = 0; answers->n > 1 && i < answers->n; i++) {
        const struct mu_answer *a = &answers->items[i];
        mu_text_printf(&out, "%s{\"prompt\":%u,\"choice\":%u,", i ? "," : "", a->prompt + 1,
                       a->choice + 1);
        add_answer(session, a, &out);
        mu_text_str(&out, "\"measured\":{");
        mu_session_add_speed(&a->result, &out);
        mu_text_printf(&out, "\"prompt_tokens\":%u}}", a->result.n_prompt);
    }
    if (answers->n > 1) mu_text_str(&out, "],");
    mu_session_add_predicted(session, &out);
    mu_text_str(&out, ",\"measured\":{");
    if (answers->n == 1)
        mu_session_add_speed(&answers->items[0].result, &out);
    else
        add_together(answers, &out);
    if (profile) {
        mu_profile_add(session, &out);
        mu_text_char(&out, ',');
    }
    mu_session_add_measured(session, &out);
    mu_text_str(&out, "}}\n");
    mu_status status = mu_cli_out_text(&out, err);
    mu_text_fini(&out);
    return status;
}

/* Tokens in a row, some at a time: how their speeds differ is the noise of this run. */
static void keep_samples(struct mu_keep *k, const struct mu_answer *a)
{
    uint32_t gaps = a->n_ids ? a->n_ids - 1 : 0, n = MU_MIN(gaps / 2, SAMPLES_MAX);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t from = (uint32_t)((uint64_t)gaps * i / n);
        uint32_t to = (uint32_t)((uint64_t)gaps * (i + 1) / n);
        double seconds = a->came_s[to] - a->came_s[from];
        if (seconds <= 0) continue;
        mu_store_run_sample(&k->run, MU_STORE_MEASURED, "decode_tokens_per_s", a->came_s[to],
                            (to - from) / seconds);
        mu_store_run_sample(&k->run, MU_STORE_MEASURED, "tpot_ms", a->came_s[to],
                            seconds * 1e3 / (to - from));
    }
}

static void keep_one(struct mu_keep *k, const struct mu_session *session, const struct mu_answer *a)
{
    char seed[24];
    (void)snprintf(seed, sizeof seed, "%llu", (unsigned long long)a->result.seed);
    mu_keep_session(k, session, &a->result);
    keep_samples(k, a);
    mu_store_run_setting(&k->run, "seed_used", seed);
    mu_store_run_figure(&k->run, MU_STORE_MEASURED, "prompt_tokens", a->result.n_prompt);
    mu_text_printf(&k->result, "%u tokens, %s", a->result.n_tokens, a->finish_reason);
    if (a->result.digest)
        mu_text_printf(&k->result, ", digest %016llx", (unsigned long long)a->result.digest);
}

/* Several at once: what they did together. */
static void keep_several(struct mu_keep *k, const struct mu_session *session,
                         const struct mu_answers *answers)
{
    mu_keep_session(k, session, NULL);
    if (answers->seconds > 0)
        mu_store_run_figure(&k->run, MU_STORE_MEASURED, "tokens_per_s",
                            (double)answers->n_tokens / answers->seconds);
    if (answers->decode_tokens_per_s > 0)
        mu_store_run_figure(&k->run, MU_STORE_MEASURED, "decode_tokens_per_s",
                            answers->decode_tokens_per_s);
    mu_text_printf(&k->result, "%u answers, %llu tokens", answers->n,
                   (unsigned long long)answers->n_tokens);
}

static void keep(struct mu_keep *k, const struct mu_session *session,
                 const struct mu_answers *answers)
{
    if (answers->n == 1)
        keep_one(k, session, &answers->items[0]);
    else
        keep_several(k, session, answers);
    mu_store_run_figure(&k->run, MU_STORE_MEASURED, "answer_tokens", (double)answers->n_tokens);
    mu_keep_end(k, MU_OK);
}

/* Of several prompts the one that is too long is named. */
static void say_longest(const struct mu_prompts *prompts, struct mu_err *err)
{
    uint32_t i = 0;
    while (prompts->items[i].n_ids < prompts->longest)
        i++;
    if (prompts->items[i].where) mu_err_where(err, "%s", prompts->items[i].where);
}

static mu_status generate(struct mu_session *session, const struct mu_invocation *in,
                          const struct generate_options *o, const struct mu_prompts *prompts,
                          struct mu_keep *k, struct mu_err *err)
{
    struct mu_answers answers;
    struct mu_answer_options wanted = o->answer;
    uint64_t context = mu_model_file_config(session->file)->context, longest = prompts->longest;
    uint64_t n = prompts->n * o->choices, most = o->streams ? o->streams : STREAMS_DEFAULT;
    if (n > UINT32_MAX / 2) return mu_fail(err, MU_E_USAGE, "that would be too many answers");
    if (o->run.rope_by_prompt && prompts->n > 1)
        return mu_fail(err, MU_E_USAGE, "--rope-by-prompt goes with one prompt only");
    /* How much was not asked for in so many words gives way to the model's context. */
    if (!mu_given(in, "n") && context > longest) wanted.n = MU_MIN(wanted.n, context - longest);
    mu_status status =
        mu_session_engine(session, &o->run, longest + wanted.n, longest, MU_MIN(n, most), err);
    if (status == MU_E_INPUT && context > 0 && longest + wanted.n > context)
        say_longest(prompts, err);
    if (status != MU_OK) return status;
    status = mu_answers_run(session, in, &wanted, prompts->items, prompts->n, (uint32_t)o->choices,
                            !o->json, &answers, err);
    mu_status written = MU_OK;
    if (status == MU_OK) keep(k, session, &answers);
    if (o->json && (status == MU_OK || status == MU_E_INTERRUPTED))
        written = print_json(session, &answers, o->run.profile, err);
    if (status == MU_OK && !o->json && (o->run.verbose || mu_cli_fancy()))
        mu_answer_say_speed(session, &o->run, &answers);
    if (status == MU_OK && !o->json && o->run.profile)
        written = mu_profile_say(session, &answers, err);
    mu_answers_fini(&answers);
    return status == MU_OK ? written : status;
}

static mu_status generate_run(const struct mu_invocation *in, struct mu_err *err)
{
    struct generate_options settled = *(const struct generate_options *)in->options, *o = &settled;
    struct mu_session session;
    struct mu_prompts prompts = {0};
    mu_prompts_settle(in, &o->prompts);
    if (!o->json && mu_commanded(in, "logprobs"))
        return mu_fail(err, MU_E_USAGE, "--logprobs are printed with --json only");
    struct mu_keep k;
    mu_keep_begin(&k, in, &o->keep, in->result->operands[0]);
    mu_status status = mu_session_open(&session, in->result->operands[0], err);
    /* Ids in, ids out: a model without a tokenizer still runs. */
    if (status == MU_OK) (void)mu_session_tokenizer(&session, NULL);
    if (status == MU_OK) status = mu_prompts_read(&session, &o->prompts, &prompts, err);
    if (status == MU_OK) status = generate(&session, in, o, &prompts, &k, err);
    mu_keep_fini(&k);
    mu_prompts_fini(&prompts);
    mu_session_close(&session);
    return status;
}

const struct mu_command mu_command_generate = {
    .spec = {.command = "generate",
             .operands = "MODEL",
             .summary = "text from prompts",
             .details =
                 "MODEL is a folder with safetensors, a .gguf file, a hub id already on disk, "
                 "or synth:NAME@TYPE.",
             .options = options,
             .min_operands = 1,
             .max_operands = 1},
    .options_size = sizeof(struct generate_options),
    .over_processes = true,
    .run = generate_run,
};
