/* Profiles of runs; see profile.h. */
#include "cli/profile.h"

#include "measure/measure.h"
#include "report/report.h"

static const char *const phase_names[MU_PROFILE_PHASES] = {"prefill", "decode"};

enum { NAME, COUNT, MICROSECONDS, SHARE, MEGABYTES, RATE, OF_READ, COLUMNS };
static const char *const heads[COLUMNS] = {"operation", ">in a step", ">us a step",       ">share",
                                           ">MB read",  ">GB/s",      ">of the machine's"};

static void add_row(struct mu_report_table *t, const char *name, double seconds, double all)
{
    mu_report_table_row(t);
    mu_report_table_cell(t, NAME, "%s", name);
    mu_report_table_cell(t, MICROSECONDS, "%.0f", seconds * 1e6);
    mu_report_table_cell(t, SHARE, "%.1f %%", 100 * seconds / all);
}

/* Beside the time of a step `between` is what passed until the next one, where that is known. The
 * machine's bandwidth is timed after the run: what was faster is no share of it. */
static void add_part(struct mu_report_table *t, const struct mu_profile_part *part, double between,
                     double bandwidth)
{
    double steps = (double)part->n_steps, all = part->seconds / steps + between;
    for (unsigned i = 0; i < part->n_rows; i++) {
        const struct mu_profile_row *r = &part->rows[i];
        double seconds = r->seconds / steps, bytes = (double)r->weight_bytes;
        add_row(t, r->name, seconds, all);
        mu_report_table_cell(t, COUNT, "%u", r->n);
        if (bandwidth <= 0 || bytes <= 0) continue;
        mu_report_table_cell(t, MEGABYTES, "%.1f", bytes * 1e-6);
        mu_report_table_cell(t, RATE, "%.1f", bytes / seconds * 1e-9);
        if (bytes / seconds <= bandwidth)
            mu_report_table_cell(t, OF_READ, "%.0f %%", 100 * bytes / seconds / bandwidth);
        else
            mu_report_table_cell(t, OF_READ, "more");
    }
    if (between > 0) add_row(t, "between steps", between, all);
}

static mu_status say_part(const char *phase, const struct mu_profile_part *part, double between,
                          double bandwidth, struct mu_err *err)
{
    struct mu_report_table *t;
    struct mu_text text;
    MU_TRY(mu_report_table_create(heads, COLUMNS, &t, err));
    mu_text_init(&text, 1 << 16);
    add_part(t, part, between, bandwidth);
    mu_status status = mu_report_table_print(t, &text, err);
    if (status == MU_OK)
        mu_cli_say("measured: %s, %llu step%s\n%s", phase, (unsigned long long)part->n_steps,
                   part->n_steps == 1 ? "" : "s", mu_text_get(&text));
    if (status == MU_OK && bandwidth > 0)
        mu_cli_say("The machine's is %.1f GB/s, timed right after; more came from caches, or other "
                   "work ran then.\n",
                   bandwidth * 1e-9);
    mu_text_fini(&text);
    mu_report_table_destroy(t);
    return status;
}

mu_status mu_profile_say(const struct mu_session *session, const struct mu_answers *answers,
                         struct mu_err *err)
{
    struct mu_profile_part part;
    struct mu_engine_facts facts;
    double bandwidth = 0, decode_seconds = answers->items[0].result.decode_seconds;
    mu_engine_facts(session->engine, &facts);
    if (mu_engine_profile(session->engine, 0, MU_PROFILE_PREFILL, &part))
        MU_TRY(say_part("reading the prompt", &part, 0, 0, err));
    if (!mu_engine_profile(session->engine, 0, MU_PROFILE_DECODE, &part)) return MU_OK;
    bool alone = answers->n == 1 && facts.n_ranks == 1;
    double between = alone ? MU_MAX(decode_seconds - part.seconds, 0.0) / (double)part.n_steps : 0;
    if (facts.n_ranks > 1 ||
        mu_measure_read_bandwidth(facts.n_threads, NULL, &bandwidth, NULL) != MU_OK)
        bandwidth = 0;
    return say_part("decoding", &part, between, bandwidth, err);
}

static void add_json(const struct mu_profile_part *part, struct mu_text *out)
{
    mu_text_printf(out, "{\"steps\":%llu,\"seconds\":", (unsigned long long)part->n_steps);
    mu_json_add_f64(out, part->seconds);
    mu_text_str(out, ",\"operations\":[");
    for (unsigned i = 0; i < part->n_rows; i++) {
        const struct mu_profile_row *r = &part->rows[i];
        mu_text_printf(out, "%s{\"name\":\"%s\",\"count\":%u,\"weight_bytes\":%llu,\"seconds\":",
                       i ? "," : "", r->name, r->n, (unsigned long long)r->weight_bytes);
        mu_json_add_f64(out, r->seconds);
        mu_text_char(out, '}');
    }
    mu_text_str(out, "]}");
}

void mu_profile_add(const struct mu_session *session, struct mu_text *out)
{
    struct mu_profile_part part;
    mu_text_str(out, "\"profile\":[");
    for (unsigned rank = 0; rank < session->memory.n_ranks; rank++) {
        mu_text_printf(out, "%s{\"device\":\"%s\"", rank ? "," : "",
                       session->memory.ranks[rank].device);
        for (int phase = 0; phase < MU_PROFILE_PHASES; phase++) {
            if (!mu_engine_profile(session->engine, rank, (enum mu_profile_phase)phase, &part))
                continue;
            mu_text_printf(out, ",\"%s\":", phase_names[phase]);
            add_json(&part, out);
        }
        mu_text_char(out, '}');
    }
    mu_text_char(out, ']');
}
