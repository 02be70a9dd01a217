/*
 * muster completion: scripts that complete commands, options and choices in a shell, made from the
 * tables of all commands. Where nothing of ours fits, the shell completes file names.
 */
#include "cli/cli.h"

static const struct mu_option options[] = {{0}};

static void add_words(struct mu_text *out, const char *choices)
{
    for (const char *p = choices; *p; p++)
        mu_text_char(out, *p == '|' ? ' ' : *p);
}

/* Appends `s` with a backslash before every character of `special`, for one pair of quotes. */
static void add_quoted(struct mu_text *out, const char *s, const char *special)
{
    for (; *s; s++) {
        if (*s == '\'') {
            mu_text_str(out, "'\\''");
            continue;
        }
        if (strchr(special, *s)) mu_text_char(out, '\\');
        mu_text_char(out, *s);
    }
}

static void add_bash_command(struct mu_text *out, const struct mu_option_spec *spec)
{
    mu_text_printf(out, "    %s)\n        words='--help --version", spec->command);
    for (const struct mu_option *o = spec->options; o->name; o++)
        mu_text_printf(out, " --%s", o->name);
    mu_text_str(out, "'\n        case $prev in\n");
    for (const struct mu_option *o = spec->options; o->name; o++) {
        if (o->kind == MU_OPTION_FLAG) continue;
        mu_text_printf(out, "        --%s", o->name);
        if (o->letter) mu_text_printf(out, " | -%c", o->letter);
        mu_text_str(out, ") words='");
        if (o->choices) add_words(out, o->choices);
        mu_text_str(out, "' value=1 ;;\n");
    }
    mu_text_str(out, "        esac\n        ;;\n");
}

/* bash cuts "--mode=fast" into three words, so that "=" may be the word before, or the word. */
static void add_bash(struct mu_text *out)
{
    mu_text_str(out, "# bash completion for muster\n"
                     "_muster() {\n"
                     "    local cur=${COMP_WORDS[COMP_CWORD]} words='' value=''\n"
                     "    local prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                     "    if [ \"$cur\" = = ]; then\n"
                     "        cur=''\n"
                     "    elif [ \"$prev\" = = ]; then\n"
                     "        prev=${COMP_WORDS[COMP_CWORD-2]}\n"
                     "    fi\n"
                     "    COMPREPLY=()\n"
                     "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
                     "        COMPREPLY=($(compgen -W '--help --version");
    for (const struct mu_command *const *c = mu_commands; *c; c++)
        mu_text_printf(out, " %s", (*c)->spec.command);
    mu_text_str(out, "' -- \"$cur\"))\n"
                     "        return\n"
                     "    fi\n"
                     "    case ${COMP_WORDS[1]} in\n");
    for (const struct mu_command *const *c = mu_commands; *c; c++)
        add_bash_command(out, &(*c)->spec);
    mu_text_str(out, "    esac\n"
                     "    case $value$cur in\n"
                     "    1* | -*) COMPREPLY=($(compgen -W \"$words\" -- \"$cur\")) ;;\n"
                     "    esac\n"
                     "}\n"
                     "complete -o default -F _muster muster\n");
}

static void add_zsh_option(struct mu_text *out, const struct mu_option *o)
{
    const char *star = o->kind == MU_OPTION_LIST ? "*" : "";
    for (int letter = o->letter ? 0 : 1; letter < 2; letter++) {
        if (letter == 0)
            mu_text_printf(out, " \\\n            '%s-%c[", star, o->letter);
        else
            mu_text_printf(out, " \\\n            '%s--%s%s[", star, o->name,
                           o->kind == MU_OPTION_FLAG ? "" : "=");
        add_quoted(out, o->help, "[]:\\");
        mu_text_char(out, ']');
        if (o->kind != MU_OPTION_FLAG) {
            mu_text_char(out, ':');
            add_quoted(out, o->argument ? o->argument : o->name, "[]:\\");
            mu_text_char(out, ':');
            if (o->choices) {
                mu_text_char(out, '(');
                add_words(out, o->choices);
                mu_text_char(out, ')');
            } else {
                mu_text_str(out, "_files");
            }
        }
        mu_text_char(out, '\'');
    }
}

static void add_zsh(struct mu_text *out)
{
    mu_text_str(out, "#compdef muster\n"
                     "_muster() {\n"
                     "    if (( CURRENT == 2 )); then\n"
                     "        local -a commands=(\n");
    for (const struct mu_command *const *c = mu_commands; *c; c++) {
        mu_text_printf(out, "            '%s:", (*c)->spec.command);
        add_quoted(out, (*c)->spec.summary, ":\\");
        mu_text_str(out, "'\n");
    }
    mu_text_str(out, "        )\n"
                     "        _describe command commands\n"
                     "        return\n"
                     "    fi\n"
                     "    local command=$words[2]\n"
                     "    shift words\n"
                     "    (( CURRENT-- ))\n"
                     "    case $command in\n");
    for (const struct mu_command *const *c = mu_commands; *c; c++) {
        mu_text_printf(out,
                       "    %s)\n        _arguments -s '--help[this text]' "
                       "'--version[the version of muster]' '*:file:_files'",
                       (*c)->spec.command);
        for (const struct mu_option *o = (*c)->spec.options; o->name; o++)
            add_zsh_option(out, o);
        mu_text_str(out, "\n        ;;\n");
    }
    mu_text_str(out,
                "    esac\n"
                "}\n"
                "if [ \"$funcstack[1]\" = _muster ]; then _muster \"$@\"; else compdef _muster "
                "muster; fi\n");
}

static void add_fish(struct mu_text *out)
{
    mu_text_str(out, "# fish completion for muster\n");
    for (const struct mu_command *const *c = mu_commands; *c; c++) {
        const struct mu_option_spec *spec = &(*c)->spec;
        mu_text_printf(out, "complete -c muster -n __fish_use_subcommand -f -a %s -d '",
                       spec->command);
        add_quoted(out, spec->summary, "\\");
        mu_text_str(out, "'\n");
        for (const struct mu_option *o = spec->options; o->name; o++) {
            mu_text_printf(out, "complete -c muster -n '__fish_seen_subcommand_from %s' -l %s",
                           spec->command, o->name);
            if (o->letter) mu_text_printf(out, " -s %c", o->letter);
            if (o->kind != MU_OPTION_FLAG) mu_text_str(out, o->choices ? " -x" : " -r");
            if (o->choices) {
                mu_text_str(out, " -a '");
                add_words(out, o->choices);
                mu_text_char(out, '\'');
            }
            mu_text_str(out, " -d '");
            add_quoted(out, o->help, "\\");
            mu_text_str(out, "'\n");
        }
    }
}

static mu_status run(const struct mu_invocation *in, struct mu_err *err)
{
    static const struct {
        const char *shell;
        void (*add)(struct mu_text *out);
    } shells[] = {{"bash", add_bash}, {"zsh", add_zsh}, {"fish", add_fish}};
    const char *shell = in->result->operands[0];
    for (size_t i = 0; i < MU_ARRAY_LEN(shells); i++) {
        if (strcmp(shell, shells[i].shell) != 0) continue;
        struct mu_text text;
        mu_text_init(&text, 1 << 20);
        shells[i].add(&text);
        mu_status status = mu_cli_out_text(&text, err);
        mu_text_fini(&text);
        return status;
    }
    return mu_fail(err, MU_E_USAGE, "completion knows bash, zsh and fish, not '%s'", shell);
}

const struct mu_command mu_command_completion = {
    .spec = {.command = "completion",
             .operands = "bash|zsh|fish",
             .summary = "a script that completes muster's words in your shell",
             .details = "For this session, and for good:\n"
                        "  source <(muster completion bash)\n"
                        "  muster completion bash > "
                        "~/.local/share/bash-completion/completions/muster",
             .options = options,
             .min_operands = 1,
             .max_operands = 1},
    .run = run,
};
