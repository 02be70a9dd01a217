/* muster runs: what was measured before. */
#include "base/clock.h"
#include "base/number.h"
#include "cli/keep.h"
#include "cli/runs_html.h"
#include "report/report.h"

#include <math.h>
#include <stdio.h>

#define OUT_MAX_BYTES ((size_t)512 << 20)
#define LIST_SHOWN    20 /* for people, who want the latest */
#define SET_MAX       1000

struct runs_options {
    struct mu_keep_options keep;
    const char *command, *model, *figure, *older_than, *report;
    struct mu_option_list where;
    uint64_t last, keep_last;
    bool json, csv, force, dry_run;
};

static const struct mu_option options[] = {
    {"command", 'c', MU_OPTION_TEXT, offsetof(struct runs_options, command), "COMMAND",
     .help = "only runs of this command"},
    {"model", 'm', MU_OPTION_TEXT, offsetof(struct runs_options, model), "PART",
     .help = "only runs of models with this in their name"},
    {"where", 'w', MU_OPTION_LIST, offsetof(struct runs_options, where), "NAME=VALUE",
     .help = "only runs with this condition (see show); may be given several times"},
    {"last", 'l', MU_OPTION_U64, offsetof(struct runs_options, last), "N",
     .help = "only the latest N of them"},
    {"figure", 'f', MU_OPTION_TEXT, offsetof(struct runs_options, figure), "PART",
     .help = "show, compare: only figures with this in their name"},
    {"csv", 0, MU_OPTION_FLAG, offsetof(struct runs_options, csv), NULL,
     .help = "export: one line a figure, which it also does without being told"},
    {"report", 0, MU_OPTION_TEXT, offsetof(struct runs_options, report), "FILE.html",
     .help = "show, compare: write a page with plots there too"},
    {"json", 'j', MU_OPTION_FLAG, offsetof(struct runs_options, json), NULL,
     .help = "print one JSON document"},
    {"keep", 0, MU_OPTION_U64, offsetof(struct runs_options, keep_last), "N",
     .help = "prune: all but the latest N; 0 is all"},
    {"older-than", 0, MU_OPTION_TEXT, offsetof(struct runs_options, older_than), "TIME",
     .help = "prune: only what is older than this, like 90d, 12h or 30m"},
    {"dry-run", 'n', MU_OPTION_FLAG, offsetof(struct runs_options, dry_run), NULL,
     .help = "rm, prune: only say what would go"},
    {"force", 0, MU_OPTION_FLAG, offsetof(struct runs_options, force), NULL,
     .help = "rm, prune: baselines too"},
    MU_STORE_OPTION_ROW(struct runs_options),
    {.name = NULL},
};

/* What an action works with. */
struct runs {
    struct mu_store *store;
    bool keep_given; /* --keep 0 is not the same as none */
    const struct runs_options *o;
    const char *const *words; /* the operands after the action */
    unsigned n_words;
};

static struct mu_store_filter filter_of(const struct runs_options *o)
{
    return (struct mu_store_filter){.command = o->command,
                                    .model = o->model,
                                    .settings = o->where.items,
                                    .n_settings = o->where.n,
                                    .last = o->last};
}

/* --- sets of runs ----------------------------------------------------------------------------- */

static void set_fini(struct mu_runs_set *set)
{
    for (size_t i = 0; i < set->n; i++)
        mu_store_run_fini(&set->runs[i]);
    mu_free(set->runs);
    *set = (struct mu_runs_set){0};
}

/* Reads the runs; `set` must be ended, also after a failure. */
static mu_status set_read(struct mu_store *store, const struct mu_store_ids *ids,
                          enum mu_store_depth depth, struct mu_runs_set *set, struct mu_err *err)
{
    set->runs = mu_calloc(ids->n, sizeof *set->runs);
    if (!set->runs) return mu_fail_memory(err, ids->n * sizeof *set->runs);
    for (size_t i = 0; i < ids->n; i++)
        MU_TRY(mu_store_get(store, ids->p[i], depth, &set->runs[set->n++], err));
    return MU_OK;
}

static mu_status set_select(const struct runs *r, const struct mu_store_filter *filter,
                            enum mu_store_depth depth, struct mu_runs_set *set, struct mu_err *err)
{
    struct mu_store_ids ids;
    *set = (struct mu_runs_set){0};
    MU_TRY(mu_store_select(r->store, filter, &ids, err));
    mu_status status = set_read(r->store, &ids, depth, set, err);
    mu_store_ids_fini(&ids);
    return status;
}

/* The runs that a list of words means: ids, and NAME=VALUE, which all that are chosen must have. */
struct choice {
    struct mu_store_ids ids;
    const char *settings[2 * MU_OPTION_LIST_MAX];
    unsigned n_settings;
};

static mu_status choice_take(const struct runs *r, const char *word, struct choice *c,
                             struct mu_err *err)
{
    if (strchr(word, '=')) {
        if (c->n_settings == MU_OPTION_LIST_MAX)
            return mu_fail(err, MU_E_USAGE, "a set takes %d conditions at most",
                           MU_OPTION_LIST_MAX);
        c->settings[c->n_settings++] = word;
        return MU_OK;
    }
    if (c->ids.n == SET_MAX)
        return mu_fail(err, MU_E_USAGE, "a set takes %d runs at most", SET_MAX);
    return mu_store_find(r->store, word, c->ids.p[c->ids.n++], err);
}

/* "A,B,C" or "devices=cpu:2,compute=f32", to which the options --command, --model, --where and
 * --last are added. */
static mu_status set_parse(const struct runs *r, const char *said, struct mu_runs_set *set,
                           struct mu_err *err)
{
    struct choice c = {.ids.p = mu_calloc(SET_MAX, MU_STORE_ID_SIZE)};
    char *words = mu_strdup(said);
    mu_status status = c.ids.p && words ? MU_OK : mu_fail_memory(err, SET_MAX * MU_STORE_ID_SIZE);
    for (char *word = words; status == MU_OK && word;) {
        char *comma = strchr(word, ',');
        if (comma) *comma = '\0';
        status = choice_take(r, word, &c, err);
        word = comma ? comma + 1 : NULL;
    }
    if (status == MU_OK && c.n_settings && c.ids.n)
        status = mu_fail(err, MU_E_USAGE, "a set is made of runs or of conditions, not of both: %s",
                         said);
    set->said = said;
    if (status == MU_OK && c.n_settings) {
        struct mu_store_filter filter = filter_of(r->o);
        for (unsigned i = 0; i < filter.n_settings; i++)
            c.settings[c.n_settings++] = filter.settings[i];
        filter.settings = c.settings;
        filter.n_settings = c.n_settings;
        filter.last = filter.last ? filter.last : SET_MAX;
        status = set_select(r, &filter, MU_STORE_WHOLE, set, err);
        set->said = said;
    } else if (status == MU_OK) {
        status = set_read(r->store, &c.ids, MU_STORE_WHOLE, set, err);
    }
    if (status == MU_OK && set->n == 0) {
        status = mu_fail(err, MU_E_INPUT, "no run is like that: %s", said);
        mu_err_cure(err, "muster runs show last names the conditions of a run");
    }
    mu_free(words);
    mu_free(c.ids.p);
    return status;
}

/* --- actions ---------------------------------------------------------------------------------- */

static mu_status print_text(struct mu_text *out, mu_status status, struct mu_err *err)
{
    if (status == MU_OK) status = mu_cli_out_text(out, err);
    mu_text_fini(out);
    return status;
}

static json_t *set_json(const struct mu_runs_set *set, enum mu_store_depth depth)
{
    json_t *array = json_array();
    for (size_t i = 0; i < set->n; i++)
        (void)json_array_append_new(array, mu_store_run_json(&set->runs[i], depth));
    return array;
}

static mu_status list(const struct runs *r, struct mu_err *err)
{
    struct mu_runs_set set;
    struct mu_store_filter filter = filter_of(r->o);
    bool shorter = !r->o->json && filter.last == 0;
    if (shorter) filter.last = LIST_SHOWN + 1;
    mu_status status = set_select(r, &filter, MU_STORE_SUMMARY, &set, err);
    if (status == MU_OK && r->o->json) {
        status = mu_cli_out_json(json_pack("{s:s, s:I, s:o}", "store", mu_store_path(r->store),
                                           "bytes", (json_int_t)mu_store_bytes(r->store), "runs",
                                           set_json(&set, MU_STORE_SUMMARY)),
                                 err);
    } else if (status == MU_OK) {
        struct mu_text out;
        char bytes[MU_BYTES_TEXT];
        bool more = shorter && set.n > LIST_SHOWN;
        struct mu_runs_set shown = {set.runs + more, set.n - more, NULL};
        mu_text_init(&out, OUT_MAX_BYTES);
        if (set.n) status = mu_runs_list_text(&shown, &out, err);
        if (more) mu_cli_say("muster: there are earlier ones: --last N shows them\n");
        if (!set.n) mu_cli_say("muster: no run is like that\n");
        mu_cli_say("muster: %s has %s\n", mu_store_path(r->store),
                   mu_format_bytes(mu_store_bytes(r->store), bytes));
        status = print_text(&out, status, err);
    }
    set_fini(&set);
    return status;
}

static mu_status show(const struct runs *r, struct mu_err *err)
{
    struct mu_store_run run = {0};
    struct mu_text out, baseline;
    char id[MU_STORE_ID_SIZE];
    MU_TRY(mu_store_find(r->store, r->n_words ? r->words[0] : "last", id, err));
    mu_text_init(&out, OUT_MAX_BYTES);
    mu_text_init(&baseline, 1 << 16);
    mu_status status = mu_store_get(r->store, id, MU_STORE_WHOLE, &run, err);
    if (status == MU_OK) status = mu_store_baseline_name(r->store, id, &baseline, err);
    if (status == MU_OK && r->o->report) status = mu_runs_report(&run, r->o->report, err);
    if (status == MU_OK && r->o->json)
        status = mu_cli_out_json(mu_store_run_json(&run, MU_STORE_WHOLE), err);
    else if (status == MU_OK)
        status = mu_runs_show_text(&run, mu_text_get(&baseline), r->o->figure, &out, err);
    status = print_text(&out, status, err);
    mu_text_fini(&baseline);
    mu_store_run_fini(&run);
    return status;
}

static json_t *change_json(const struct mu_store_change *c)
{
    return json_pack("{s:s, s:s, s:s, s:I, s:I, s:f, s:f, s:f, s:o, s:o, s:s, s:s}", "name",
                     c->name, "kind", mu_store_kind_name(c->kind), "unit", c->unit, "runs_a",
                     (json_int_t)c->n_a, "runs_b", (json_int_t)c->n_b, "a", c->a, "b", c->b,
                     "difference", c->b - c->a, "difference_low",
                     isfinite(c->low) ? json_real(c->low) : json_null(), "difference_high",
                     isfinite(c->high) ? json_real(c->high) : json_null(), "noise_from",
                     mu_store_noise_name(c->noise), "verdict", mu_store_verdict_name(c->verdict));
}

static mu_status compare_print(const struct runs *r, const struct mu_runs_set sets[2],
                               json_t *unlike, const struct mu_store_change *c, size_t n,
                               struct mu_err *err)
{
    struct mu_text out;
    if (r->o->json) {
        json_t *figures = json_array();
        for (size_t i = 0; i < n; i++)
            if (!r->o->figure || strstr(c[i].name, r->o->figure))
                (void)json_array_append_new(figures, change_json(&c[i]));
        return mu_cli_out_json(
            json_pack("{s:o, s:o, s:O, s:o}", "a", set_json(&sets[0], MU_STORE_SUMMARY), "b",
                      set_json(&sets[1], MU_STORE_SUMMARY), "unlike", unlike, "figures", figures),
            err);
    }
    mu_text_init(&out, OUT_MAX_BYTES);
    return print_text(&out, mu_runs_compare_text(sets, unlike, c, n, r->o->figure, &out, err), err);
}

static mu_status compare(const struct runs *r, struct mu_err *err)
{
    struct mu_runs_set sets[2] = {{0}};
    struct mu_store_change *changes = NULL;
    size_t n = 0;
    mu_status status = set_parse(r, r->n_words ? r->words[0] : "last~1", &sets[0], err);
    if (status == MU_OK)
        status = set_parse(r, r->n_words > 1 ? r->words[1] : "last", &sets[1], err);
    if (status == MU_OK)
        status =
            mu_store_compare(sets[0].runs, sets[0].n, sets[1].runs, sets[1].n, &changes, &n, err);
    json_t *unlike = status == MU_OK ? mu_runs_unlike(sets) : NULL;
    if (status == MU_OK && r->o->report)
        status = mu_runs_report_compare(sets, unlike, changes, n, r->o->report, err);
    if (status == MU_OK) status = compare_print(r, sets, unlike, changes, n, err);
    json_decref(unlike);
    mu_free(changes);
    set_fini(&sets[0]);
    set_fini(&sets[1]);
    return status;
}

/* One line a figure. */
static void add_csv(const struct mu_store_run *run, struct mu_text *out)
{
    size_t n;
    char number[MU_FLOAT_TEXT];
    const struct mu_store_figure *f = mu_store_run_figures(run, &n);
    for (size_t i = 0; i < n; i++) {
        const char *const cells[] = {run->id,    run->at,   run->command,
                                     run->model, run->host, mu_store_kind_name(f[i].kind),
                                     f[i].name,  f[i].unit, mu_format_f64(f[i].value, number)};
        mu_report_csv_row(cells, MU_ARRAY_LEN(cells), out);
    }
}

static mu_status export(const struct runs *r, struct mu_err *err)
{
    static const char *const heads[] = {"run",  "at",   "command", "model", "host",
                                        "kind", "name", "unit",    "value"};
    struct mu_store_filter filter = filter_of(r->o);
    struct mu_store_ids ids = {0};
    struct mu_text out;
    json_t *array = r->o->json ? json_array() : NULL;
    mu_text_init(&out, OUT_MAX_BYTES);
    if (!r->o->json) mu_report_csv_row(heads, MU_ARRAY_LEN(heads), &out);
    mu_status status = mu_store_select(r->store, &filter, &ids, err);
    for (size_t i = 0; status == MU_OK && i < ids.n; i++) {
        struct mu_store_run run;
        status = mu_store_get(r->store, ids.p[i], MU_STORE_WHOLE, &run, err);
        if (status == MU_OK && r->o->json)
            (void)json_array_append_new(array, mu_store_run_json(&run, MU_STORE_WHOLE));
        else if (status == MU_OK)
            add_csv(&run, &out);
        mu_store_run_fini(&run);
        /* CSV goes out run by run: there may be any number. */
        if (status == MU_OK && !r->o->json) status = mu_cli_out_text(&out, err);
    }
    mu_store_ids_fini(&ids);
    if (r->o->json && status == MU_OK) {
        status = mu_cli_out_json(json_pack("{s:o}", "runs", array), err);
        array = NULL;
    }
    json_decref(array);
    return print_text(&out, status, err);
}

/* --- taking runs out -------------------------------------------------------------------------- */

static mu_status take_out(const struct runs *r, const struct mu_store_ids *ids, struct mu_err *err)
{
    if (ids->n == 0) mu_cli_say("muster: there is nothing to remove\n");
    if (!r->o->dry_run) MU_TRY(mu_store_remove(r->store, ids, r->o->force, err));
    for (size_t i = 0; i < ids->n; i++)
        mu_cli_say("muster: %s %s\n", r->o->dry_run ? "would remove" : "removed", ids->p[i]);
    return MU_OK;
}

static mu_status rm(const struct runs *r, struct mu_err *err)
{
    struct mu_store_ids ids = {mu_calloc(r->n_words, MU_STORE_ID_SIZE), 0};
    mu_status status = ids.p ? MU_OK : mu_fail_memory(err, MU_STORE_ID_SIZE);
    /* All are looked up before the first goes: "last" then means what it meant. */
    for (unsigned i = 0; status == MU_OK && i < r->n_words; i++)
        status = mu_store_find(r->store, r->words[i], ids.p[ids.n++], err);
    if (status == MU_OK) status = take_out(r, &ids, err);
    mu_store_ids_fini(&ids);
    return status;
}

/* "90d" in seconds. */
static bool parse_duration(const char *text, double *seconds)
{
    static const struct {
        char letter;
        double seconds;
    } units[] = {{'d', 86400}, {'h', 3600}, {'m', 60}, {'s', 1}};
    size_t len = strlen(text);
    for (size_t i = 0; len > 0 && i < MU_ARRAY_LEN(units); i++)
        if (text[len - 1] == units[i].letter &&
            mu_parse_f64((struct mu_str){text, len - 1}, seconds) && *seconds >= 0) {
            *seconds *= units[i].seconds;
            return true;
        }
    return false;
}

/* Baselines stay, unless forced. */
static mu_status spare_baselines(const struct runs *r, struct mu_store_ids *ids, struct mu_err *err)
{
    size_t kept = 0;
    struct mu_text name;
    mu_status status = MU_OK;
    mu_text_init(&name, 1 << 16);
    for (size_t i = 0; status == MU_OK && i < ids->n; i++) {
        mu_text_clear(&name);
        status = mu_store_baseline_name(r->store, ids->p[i], &name, err);
        if (!name.len) memmove(ids->p[kept++], ids->p[i], MU_STORE_ID_SIZE);
    }
    ids->n = kept;
    mu_text_fini(&name);
    return status;
}

static mu_status prune(const struct runs *r, struct mu_err *err)
{
    struct mu_store_filter filter = filter_of(r->o);
    struct mu_store_ids ids;
    double age = 0;
    if (r->o->older_than && !parse_duration(r->o->older_than, &age))
        return mu_fail(err, MU_E_USAGE, "--older-than wants a time like 90d, 12h or 30m, not '%s'",
                       r->o->older_than);
    if (!r->o->older_than && !r->keep_given)
        return mu_fail(err, MU_E_USAGE, "prune wants --keep N or --older-than TIME");
    if (r->o->older_than) filter.before_s = mu_clock_wall_s() - age;
    MU_TRY(mu_store_select(r->store, &filter, &ids, err));
    ids.n -= MU_MIN(ids.n, (size_t)r->o->keep_last);
    mu_status status = r->o->force ? MU_OK : spare_baselines(r, &ids, err);
    if (status == MU_OK) status = take_out(r, &ids, err);
    mu_store_ids_fini(&ids);
    return status;
}

/* --- which ------------------------------------------------------------------------------------ */

static const struct action {
    const char *name;
    unsigned least, most; /* operands after it */
    bool empty;           /* may go on without a store */
    mu_status (*run)(const struct runs *r, struct mu_err *err);
} actions[] = {
    {"list", 0, 0, true, list},     {"show", 0, 1, false, show}, {"compare", 0, 2, false, compare},
    {"export", 0, 0, true, export}, {"rm", 1, 256, false, rm},   {"prune", 0, 0, true, prune},
};

static mu_status action_find(const struct mu_option_result *result, const struct action **out,
                             struct mu_err *err)
{
    const char *word = result->n_operands ? result->operands[0] : "list";
    unsigned n = result->n_operands ? result->n_operands - 1 : 0;
    for (size_t i = 0; i < MU_ARRAY_LEN(actions); i++) {
        if (strcmp(word, actions[i].name) != 0) continue;
        *out = &actions[i];
        if (n >= actions[i].least && n <= actions[i].most) return MU_OK;
        mu_status status = mu_fail(err, MU_E_USAGE, "runs %s takes %u to %u runs, not %u", word,
                                   actions[i].least, actions[i].most, n);
        return status;
    }
    mu_status status = mu_fail(err, MU_E_USAGE, "runs cannot '%s'", word);
    mu_err_cure(err, "it can list, show, compare, export, rm and prune");
    return status;
}

static mu_status runs_run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct runs_options *o = in->options;
    const struct action *action;
    MU_TRY(action_find(in->result, &action, err));
    struct runs r = {.o = o,
                     .keep_given = mu_given(in, "keep"),
                     .words = in->result->operands + 1,
                     .n_words = in->result->n_operands ? in->result->n_operands - 1 : 0};
    /* Whoever asks what there is before anything was kept gets an empty answer; a file that was
     * named is one that is there. */
    enum mu_store_mode mode = action->empty && !o->keep.store ? MU_STORE_WRITE : MU_STORE_READ;
    MU_TRY(mu_store_open(o->keep.store, mode, &r.store, err));
    mu_status status = action->run(&r, err);
    mu_store_close(r.store);
    return status;
}

const struct mu_command mu_command_runs = {
    .spec = {.command = "runs",
             .operands = "[list | show [RUN] | compare [A B] | export | rm RUN... | prune]",
             .summary = "what was measured before: list, show, compare, export",
             .details =
                 "RUN is an id or the beginning of one, last, or last~N for the N-th before. A and "
                 "B are a run, several (A,B,C), or conditions (devices=cpu:2,compute=f32), which "
                 "mean all runs that have them and fit --command, --model, --where and --last. "
                 "compare says which conditions differ, and of each figure that both have how far "
                 "apart they are, within which limits that is known, and whether it is real.",
             .options = options,
             .max_operands = 257},
    .options_size = sizeof(struct runs_options),
    .run = runs_run,
};
