/*
 * The manual page of the whole program as roff, made from the same tables as the help texts. Knows
 * no command by name. Called by main.c for `muster --man`.
 */
#include "cli/cli.h"

#include <stdio.h>

/* Text as roff prints it: nothing in it is a request, and a hyphen is the one people type. */
static void add_escaped(struct mu_text *out, const char *s)
{
    bool line_start = true;
    for (; *s; s++) {
        if (line_start && (*s == '.' || *s == '\'')) mu_text_str(out, "\\&");
        line_start = *s == '\n';
        if (*s == '\\')
            mu_text_str(out, "\\e");
        else if (*s == '-')
            mu_text_str(out, "\\-");
        else if (*s == '\n' && s[1] == '\n')
            mu_text_str(out, "\n.PP");
        else
            mu_text_char(out, *s);
    }
}

static void add_option(struct mu_text *out, const struct mu_option *o)
{
    mu_text_str(out, ".TP\n");
    if (o->letter) mu_text_printf(out, "\\fB\\-%c\\fR, ", o->letter);
    mu_text_str(out, "\\fB\\-\\-");
    add_escaped(out, o->name);
    mu_text_str(out, "\\fR");
    if (o->argument) {
        mu_text_str(out, " \\fI");
        add_escaped(out, o->argument);
        mu_text_str(out, "\\fR");
    }
    mu_text_char(out, '\n');
    add_escaped(out, o->help);
    if (o->choices) {
        mu_text_str(out, "\nOne of ");
        add_escaped(out, o->choices);
        mu_text_char(out, '.');
    }
    if (o->min != 0 || o->max != 0) mu_text_printf(out, "\nFrom %.10g to %.10g.", o->min, o->max);
    if (o->default_value) {
        mu_text_str(out, "\nThe default is ");
        add_escaped(out, o->default_value);
        mu_text_char(out, '.');
    }
    mu_text_char(out, '\n');
}

static void add_command(struct mu_text *out, const struct mu_option_spec *spec)
{
    mu_text_printf(out, ".SS %s\n.B muster %s\n[\\fIOPTION\\fR]... ", spec->command, spec->command);
    add_escaped(out, spec->operands);
    mu_text_str(out, "\n.PP\n");
    add_escaped(out, spec->summary);
    if (spec->details) {
        mu_text_str(out, "\n.PP\n");
        add_escaped(out, spec->details);
    }
    mu_text_char(out, '\n');
    for (const struct mu_option *o = spec->options; o->name; o++)
        add_option(out, o);
}

void mu_cli_exit_statuses(const char *lead, const char *trail, struct mu_text *out)
{
    for (int i = 0; i < MU_STATUS_COUNT; i++) {
        int status = mu_status_exit((mu_status)-i), first = 0;
        while (mu_status_exit((mu_status)-first) != status)
            first++;
        if (first != i) continue;
        mu_text_printf(out, "%s%-4d%s", lead, status, trail);
        for (int j = i; j < MU_STATUS_COUNT; j++)
            if (mu_status_exit((mu_status)-j) == status)
                mu_text_printf(out, "%s%s", j > i ? "; " : "", mu_status_text((mu_status)-j));
        mu_text_char(out, '\n');
    }
}

void mu_cli_manual(struct mu_text *out)
{
    mu_text_str(out, ".TH MUSTER 1 \"\" \"muster " MU_VERSION "\"\n"
                     ".SH NAME\nmuster \\- many devices, one language model\n"
                     ".SH SYNOPSIS\n.B muster\n\\fICOMMAND\\fR [\\fIOPTION\\fR]... "
                     "[\\fIARGUMENT\\fR]...\n"
                     ".SH DESCRIPTION\n"
                     "Puts many devices to work on one language model. It plans where a model goes "
                     "and how fast it will be, runs it,\nmeasures it against what the machine can "
                     "do, and looks over devices, engines and their logs for the first cause of "
                     "trouble.\nWhatever the number of devices, the batch or the prefill: the same "
                     "tokens and the same log-probabilities, bit for bit.\n.PP\n"
                     "Every command answers \\fB\\-h\\fR, \\fB\\-\\-help\\fR and "
                     "\\fB\\-\\-version\\fR.\n"
                     ".SH COMMANDS\n");
    for (const struct mu_command *const *c = mu_commands; *c; c++)
        add_command(out, &(*c)->spec);
    mu_text_str(out, ".SH ENVIRONMENT\n"
                     "Every option can be given as MUSTER_NAME: \\fB\\-\\-max\\-memory\\fR as "
                     "MUSTER_MAX_MEMORY;\nan empty one counts as none.\nThe command line beats the "
                     "environment, which beats the "
                     "config file.\n"
                     ".SH FILES\n.TP\n.I ~/.config/muster/config\n"
                     "Lines \"name = value\"; those after a line \"[COMMAND]\" are for that "
                     "command alone.\nXDG_CONFIG_HOME moves it.\n"
                     ".SH EXIT STATUS\n");
    mu_cli_exit_statuses(".TP\n.B ", "\n", out);
}
