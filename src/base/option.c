/* Option tables; see option.h. getopt_long does the GNU part: argp would print its own messages
 * and could not name the nearest option. */
#include "base/option.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/number.h"

#include <ctype.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#define OPTIONS_MAX      60
#define CONFIG_MAX_BYTES 65536
#define KEY_HELP         1000
#define KEY_VERSION      1001
#define KEY_FIRST        2000 /* long option i returns KEY_FIRST + i */

static unsigned option_count(const struct mu_option_spec *spec)
{
    unsigned n = 0;
    while (spec->options[n].name)
        n++;
    MU_ASSERT(n <= OPTIONS_MAX);
    return n;
}

static bool choice_ok(const char *choices, const char *value)
{
    size_t len = strcspn(value, "|");
    if (value[len]) return false;
    for (const char *p = choices; p; p = strchr(p, '|') ? strchr(p, '|') + 1 : NULL)
        if (strncmp(p, value, len) == 0 && (p[len] == '|' || p[len] == '\0') && len > 0)
            return true;
    return false;
}

/* `source` says who gave the value, for the message: "--n", "MUSTER_N", "n". */
static mu_status option_set(const struct mu_option *o, const char *value, const char *source,
                            void *values, struct mu_err *err)
{
    void *p = (char *)values + o->offset;
    bool bounded = o->min != 0 || o->max != 0;
    switch (o->kind) {
    case MU_OPTION_FLAG:
        if (!value || strcmp(value, "1") == 0 || strcmp(value, "true") == 0)
            *(bool *)p = true;
        else if (strcmp(value, "0") == 0 || strcmp(value, "false") == 0)
            *(bool *)p = false;
        else
            return mu_fail(err, MU_E_USAGE, "%s wants true or false, not '%s'", source, value);
        return MU_OK;
    case MU_OPTION_U64: {
        uint64_t max = bounded && o->max < 0x1p63 ? (uint64_t)o->max : UINT64_MAX;
        if (mu_parse_u64(mu_str(value), (uint64_t)o->min, max, p)) return MU_OK;
        if (max == UINT64_MAX)
            return mu_fail(err, MU_E_USAGE, "%s wants a whole number of at least %.0f, not '%s'",
                           source, o->min, value);
        return mu_fail(err, MU_E_USAGE, "%s wants a whole number from %.0f to %.0f, not '%s'",
                       source, o->min, o->max, value);
    }
    case MU_OPTION_F64: {
        double v;
        if (!mu_parse_f64(mu_str(value), &v))
            return mu_fail(err, MU_E_USAGE, "%s wants a number, not '%s'", source, value);
        if (bounded && (v < o->min || v > o->max))
            return mu_fail(err, MU_E_USAGE, "%s wants a number from %g to %g, not '%s'", source,
                           o->min, o->max, value);
        *(double *)p = v;
        return MU_OK;
    }
    case MU_OPTION_BYTES:
        if (!mu_parse_bytes(mu_str(value), p))
            return mu_fail(err, MU_E_USAGE, "%s wants a size like 20GiB, not '%s'", source, value);
        return MU_OK;
    case MU_OPTION_TEXT:
        if (o->choices && !choice_ok(o->choices, value))
            return mu_fail(err, MU_E_USAGE, "%s wants one of %s, not '%s'", source, o->choices,
                           value);
        *(const char **)p = value;
        return MU_OK;
    case MU_OPTION_LIST: {
        struct mu_option_list *list = p;
        if (list->n == MU_OPTION_LIST_MAX)
            return mu_fail(err, MU_E_USAGE, "%s can be given %d times at most", source,
                           MU_OPTION_LIST_MAX);
        list->items[list->n++] = value;
        return MU_OK;
    }
    }
    return MU_OK;
}

/* Takes a value the user gave. `seen` are the options that this source (command line, environment,
 * file) gave before: the first item of a list takes the place of those from weaker sources. */
static mu_status option_give(const struct mu_option_spec *spec, unsigned i, const char *value,
                             const char *source, void *values, uint64_t *seen, struct mu_err *err)
{
    const struct mu_option *o = &spec->options[i];
    if (o->kind == MU_OPTION_LIST && !(*seen >> i & 1))
        *(struct mu_option_list *)(void *)((char *)values + o->offset) =
            (struct mu_option_list){.n = 0};
    *seen |= 1ull << i;
    return option_set(o, value, source, values, err);
}

static void set_defaults(const struct mu_option_spec *spec, void *values)
{
    for (const struct mu_option *o = spec->options; o->name; o++) {
        struct mu_err err = MU_ERR_INIT;
        mu_status status MU_UNUSED =
            o->default_value ? option_set(o, o->default_value, o->name, values, &err) : MU_OK;
        MU_ASSERT(status == MU_OK);
    }
}

/* Cuts one line at `*cursor` and strips it; NULL at the end. */
static char *next_line(char **cursor)
{
    char *line = *cursor;
    if (!line || !*line) return NULL;
    char *end = strchr(line, '\n');
    *cursor = end ? end + 1 : NULL;
    if (end) *end = '\0';
    while (isspace((unsigned char)*line))
        line++;
    for (char *e = line + strlen(line); e > line && isspace((unsigned char)e[-1]);)
        *--e = '\0';
    return line;
}

/*
 * The config file: "name = value" lines, "#" comments, "[command]" sections; what stands before the
 * first section is for every command that has such an option.
 */
static mu_status read_config(const struct mu_option_spec *spec, const char *path, void *values,
                             struct mu_option_result *result, struct mu_err *err)
{
    if (!path || !mu_file_exists(path)) return MU_OK;
    struct mu_text text;
    mu_text_init(&text, CONFIG_MAX_BYTES);
    mu_status status = mu_file_read(path, &text, err);
    if (status == MU_OK && memchr(mu_text_get(&text), '\0', text.len)) {
        status = mu_fail(err, MU_E_INPUT, "not a text: it holds a zero byte");
        mu_err_where(err, "%s", path);
    }
    if (status == MU_OK && !(result->texts = mu_text_take(&text)))
        status = mu_fail_memory(err, CONFIG_MAX_BYTES);
    mu_text_fini(&text);
    MU_TRY(status);
    bool ours = true, general = true;
    int number = 0;
    uint64_t seen = 0;
    char *cursor = result->texts;
    for (char *line; (line = next_line(&cursor));) {
        number++;
        size_t len = strlen(line);
        if (len == 0 || line[0] == '#') continue;
        if (line[0] == '[' && line[len - 1] == ']') {
            line[len - 1] = '\0';
            general = false;
            ours = strcmp(line + 1, spec->command) == 0;
            continue;
        }
        char *equals = strchr(line, '=');
        if (!equals) {
            status = mu_fail(err, MU_E_USAGE, "not 'name = value'");
            mu_err_where(err, "%s, line %d", path, number);
            return status;
        }
        char *name_end = equals, *value = equals + 1;
        while (name_end > line && isspace((unsigned char)name_end[-1]))
            name_end--;
        *name_end = '\0';
        while (isspace((unsigned char)*value))
            value++;
        const struct mu_option *o = spec->options;
        while (o->name && strcmp(o->name, line) != 0)
            o++;
        if (!ours || (!o->name && general)) continue;
        status = o->name ? option_give(spec, (unsigned)(o - spec->options), value, o->name, values,
                                       &seen, err)
                         : mu_fail(err, MU_E_USAGE, "%s has no option '%s'", spec->command, line);
        mu_err_where(err, "%s, line %d", path, number);
        MU_TRY(status);
    }
    result->given |= seen;
    return MU_OK;
}

static mu_status read_environment(const struct mu_option_spec *spec, void *values,
                                  struct mu_option_result *result, struct mu_err *err)
{
    uint64_t seen = 0;
    for (unsigned i = 0; spec->options[i].name; i++) {
        char name[64];
        (void)snprintf(name, sizeof name, "MUSTER_%s", spec->options[i].name);
        for (char *p = name; *p; p++)
            *p = *p == '-' ? '_' : (char)toupper((unsigned char)*p);
        const char *value = getenv(name);
        /* Empty is how a script says none: XDG's variables read so, and so do these. */
        if (value && value[0]) MU_TRY(option_give(spec, i, value, name, values, &seen, err));
    }
    result->given |= seen;
    return MU_OK;
}

static void take_nearer(const char *name, const char *known, const char **best, unsigned *distance)
{
    unsigned d = mu_text_distance(name, known);
    if (d >= *distance) return;
    *best = known;
    *distance = d;
}

static mu_status fail_unknown(const struct mu_option_spec *spec, const char *word,
                              struct mu_err *err)
{
    char name[64];
    const char *body = word + strspn(word, "-");
    (void)snprintf(name, sizeof name, "%.*s", (int)strcspn(body, "="), body);
    static const char *const everywhere[] = {"help", "version"};
    const char *best = NULL;
    unsigned best_distance = 4;
    for (size_t i = 0; i < MU_ARRAY_LEN(everywhere); i++)
        take_nearer(name, everywhere[i], &best, &best_distance);
    for (const struct mu_option *o = spec->options; o->name; o++)
        take_nearer(name, o->name, &best, &best_distance);
    mu_status status = mu_fail(err, MU_E_USAGE, "%s has no option %s", spec->command, word);
    if (best)
        mu_err_cure(err, "did you mean --%s?", best);
    else
        mu_err_cure(err, "muster %s --help lists them", spec->command);
    return status;
}

/* Explains a '?' or ':' of getopt_long. `word` is the argument it was reading. */
static mu_status fail_word(const struct mu_option_spec *spec, int key, const char *word,
                           const struct option *longs, struct mu_err *err)
{
    char letter[3] = {'-', (char)optopt, '\0'};
    bool is_long = word[0] == '-' && word[1] == '-';
    if (key == ':') return mu_fail(err, MU_E_USAGE, "%s wants a value", is_long ? word : letter);
    if (is_long && optopt >= KEY_HELP)
        return mu_fail(err, MU_E_USAGE, "%.*s takes no value", (int)strcspn(word, "="), word);
    if (is_long) {
        size_t len = strcspn(word + 2, "=");
        unsigned matches = 0;
        for (const struct option *l = longs; l->name; l++)
            matches += strncmp(l->name, word + 2, len) == 0;
        if (matches > 1)
            return mu_fail(err, MU_E_USAGE, "%s could be several options; spell it out", word);
    }
    return fail_unknown(spec, is_long ? word : letter, err);
}

static mu_status read_arguments(const struct mu_option_spec *spec, int argc, char **argv,
                                void *values, struct mu_option_result *result, struct mu_err *err)
{
    struct option longs[OPTIONS_MAX + 3];
    char letters[OPTIONS_MAX * 2 + 4] = ":h";
    unsigned n = option_count(spec);
    uint64_t seen = 0;
    size_t at = 2;
    for (unsigned i = 0; i < n; i++) {
        const struct mu_option *o = &spec->options[i];
        bool flag = o->kind == MU_OPTION_FLAG;
        longs[i] = (struct option){o->name, flag ? no_argument : required_argument, NULL,
                                   KEY_FIRST + (int)i};
        if (o->letter) {
            letters[at++] = o->letter;
            if (!flag) letters[at++] = ':';
        }
    }
    letters[at] = '\0';
    longs[n] = (struct option){"help", no_argument, NULL, KEY_HELP};
    longs[n + 1] = (struct option){"version", no_argument, NULL, KEY_VERSION};
    longs[n + 2] = (struct option){0};
    opterr = 0;
    optind = 0; /* glibc: start afresh, so that a process may parse twice */
    for (;;) {
        int before = optind ? optind : 1;
        int key = getopt_long(argc, argv, letters, longs, NULL);
        if (key == -1) break;
        if (key == '?' || key == ':')
            return fail_word(spec, key, argv[optind > before ? optind - 1 : before], longs, err);
        if (key == KEY_VERSION) {
            result->version = true;
            continue;
        }
        if (key == KEY_HELP || key == 'h') {
            result->help = true;
            continue;
        }
        unsigned i = key >= KEY_FIRST ? (unsigned)(key - KEY_FIRST) : 0;
        while (key < KEY_FIRST && spec->options[i].letter != key)
            i++;
        char source[64];
        (void)snprintf(source, sizeof source, "--%s", spec->options[i].name);
        MU_TRY(option_give(spec, i, optarg, source, values, &seen, err));
    }
    result->given |= seen;
    result->commanded = seen;
    result->operands = (const char *const *)(argv + optind);
    result->n_operands = (unsigned)(argc - optind);
    return MU_OK;
}

mu_status mu_option_parse(const struct mu_option_spec *spec, int argc, char **argv,
                          const char *config_path, void *values, struct mu_option_result *result,
                          struct mu_err *err)
{
    *result = (struct mu_option_result){0};
    set_defaults(spec, values);
    mu_status status = read_config(spec, config_path, values, result, err);
    if (status == MU_OK) status = read_environment(spec, values, result, err);
    if (status != MU_OK) {
        /* Whoever asks for help gets it, whatever a file or the environment holds. */
        if (read_arguments(spec, argc, argv, values, result, NULL) != MU_OK ||
            !(result->help || result->version))
            return status;
        if (err) *err = MU_ERR_INIT;
        return MU_OK;
    }
    MU_TRY(read_arguments(spec, argc, argv, values, result, err));
    if (result->help || result->version) return MU_OK;
    if (result->n_operands < spec->min_operands)
        status = mu_fail(err, MU_E_USAGE, "%s wants %s", spec->command, spec->operands);
    else if (result->n_operands > spec->max_operands)
        status = mu_fail(err, MU_E_USAGE, "%s cannot use '%s'", spec->command,
                         result->operands[spec->max_operands]);
    mu_err_cure(err, "muster %s --help", spec->command);
    return status;
}

void mu_option_result_fini(struct mu_option_result *result)
{
    mu_free(result->texts);
    *result = (struct mu_option_result){0};
}

static unsigned option_index(const struct mu_option_spec *spec, const char *name)
{
    unsigned i = 0;
    while (spec->options[i].name && strcmp(spec->options[i].name, name) != 0)
        i++;
    return i;
}

bool mu_option_given(const struct mu_option_spec *spec, const struct mu_option_result *result,
                     const char *name)
{
    unsigned i = option_index(spec, name);
    MU_ASSERT(spec->options[i].name);
    return result->given >> i & 1;
}

bool mu_option_commanded(const struct mu_option_spec *spec, const struct mu_option_result *result,
                         const char *name)
{
    unsigned i = option_index(spec, name);
    MU_ASSERT(spec->options[i].name);
    return result->commanded >> i & 1;
}

/* Whether a name that stands under `section` (NULL: before any) is an option of a command there. */
static bool has_option(const struct mu_option_spec *(*nth)(unsigned i),
                       const struct mu_option_spec *section, const char *name)
{
    if (section) return section->options[option_index(section, name)].name;
    for (unsigned i = 0; nth(i); i++)
        if (nth(i)->options[option_index(nth(i), name)].name) return true;
    return false;
}

static mu_status check_lines(char *cursor, const char *path,
                             const struct mu_option_spec *(*nth)(unsigned i), struct mu_err *err)
{
    const struct mu_option_spec *section = NULL;
    mu_status status = MU_OK;
    char *line;
    for (int number = 1; status == MU_OK && (line = next_line(&cursor)); number++) {
        size_t len = strlen(line);
        if (len == 0 || line[0] == '#') continue;
        if (line[0] == '[' && line[len - 1] == ']') {
            line[len - 1] = '\0';
            unsigned i = 0;
            while (nth(i) && strcmp(nth(i)->command, line + 1) != 0)
                i++;
            section = nth(i);
            if (!section)
                status = mu_fail(err, MU_E_USAGE, "there is no command '%.64s'", line + 1);
        } else {
            line[strcspn(line, " \t=")] = '\0';
            if (!has_option(nth, section, line))
                status = section
                             ? mu_fail(err, MU_E_USAGE, "%s has no option '%.64s'",
                                       section->command, line)
                             : mu_fail(err, MU_E_USAGE, "no command has an option '%.64s'", line);
        }
        mu_err_where(err, "%s, line %d", path, number);
    }
    return status;
}

mu_status mu_option_check_config(const char *path, const struct mu_option_spec *(*nth)(unsigned i),
                                 struct mu_err *err)
{
    if (!path || !mu_file_exists(path)) return MU_OK;
    struct mu_text text;
    mu_text_init(&text, CONFIG_MAX_BYTES);
    mu_status status = mu_file_read(path, &text, err);
    char *lines = status == MU_OK ? mu_text_take(&text) : NULL;
    if (status == MU_OK && !lines) status = mu_fail_memory(err, CONFIG_MAX_BYTES);
    if (status == MU_OK) status = check_lines(lines, path, nth, err);
    mu_free(lines);
    mu_text_fini(&text);
    return status;
}

#define HELP_COLUMN 28
#define HELP_WIDTH  96

/* Appends words wrapped from `column` on; `at` is the column the cursor stands in. What follows a
 * newline is a line for itself, such as a command to type, and stays as it is. */
static void add_wrapped(struct mu_text *out, size_t column, size_t at, const char *words)
{
    if (at > column || (at > 0 && at + 2 > column)) {
        mu_text_char(out, '\n');
        at = 0;
    }
    mu_text_printf(out, "%*s", (int)(column - at), "");
    at = column;
    for (const char *p = words; *p;) {
        if (p[0] == '\n') {
            size_t line = 1 + strcspn(p + 1, "\n");
            mu_text_add(out, p, line);
            at = HELP_WIDTH;
            p += line;
            continue;
        }
        size_t word = strcspn(p, " \n");
        if (at > column && at + 1 + word > HELP_WIDTH) {
            mu_text_printf(out, "\n%*s", (int)column, "");
            at = column;
        } else if (at > column) {
            mu_text_char(out, ' ');
            at++;
        }
        mu_text_add(out, p, word);
        at += word;
        p += word + strspn(p + word, " ");
    }
    mu_text_char(out, '\n');
}

/* " (1 to 64; default 4)", as far as there is something to say. */
static void add_range(const struct mu_option *o, struct mu_text *out)
{
    bool ranged = o->min != 0 || o->max != 0;
    if (!ranged && !o->default_value) return;
    mu_text_str(out, " (");
    if (ranged) mu_text_printf(out, "%.10g to %.10g", o->min, o->max);
    if (o->default_value) mu_text_printf(out, "%sdefault %s", ranged ? "; " : "", o->default_value);
    mu_text_char(out, ')');
}

void mu_option_help(const struct mu_option_spec *spec, struct mu_text *out)
{
    mu_text_printf(out, "Usage: muster %s [OPTION]... %s\n%s\n", spec->command, spec->operands,
                   spec->summary);
    if (spec->details) {
        mu_text_char(out, '\n');
        add_wrapped(out, 0, 0, spec->details);
    }
    mu_text_char(out, '\n');
    for (const struct mu_option *o = spec->options; o->name; o++) {
        size_t start = out->len;
        if (o->letter)
            mu_text_printf(out, "  -%c, --%s", o->letter, o->name);
        else
            mu_text_printf(out, "      --%s", o->name);
        if (o->argument) mu_text_printf(out, " %s", o->argument);
        struct mu_text help;
        mu_text_init(&help, 4096);
        mu_text_str(&help, o->help);
        if (o->choices) mu_text_printf(&help, " [%s]", o->choices);
        add_range(o, &help);
        add_wrapped(out, HELP_COLUMN, out->len - start, mu_text_get(&help));
        mu_text_fini(&help);
    }
    mu_text_str(out, "  -h, --help                this text\n"
                     "      --version             the version of muster\n\n"
                     "Every option can also come from the environment (MUSTER_NAME) or the config "
                     "file\n(~/.config/muster/config: 'name = value', under '[");
    mu_text_printf(out, "%s]' for this command only).\n", spec->command);
}
