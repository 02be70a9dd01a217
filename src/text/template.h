/*
 * Chat templates: the part of Jinja2 that models' templates are written in, with the settings that
 * transformers uses (trim_blocks, lstrip_blocks, loop controls, the immutable sandbox), byte for
 * byte.
 *
 * A template comes with a model and the messages come from a user, so both are hostile: compiling
 * bounds nesting, rendering bounds steps, memory, output, calls and time. Knows nothing of
 * tokenizers. A compiled template is immutable and may be rendered by any number of threads at
 * once.
 */
#ifndef MU_TEXT_TEMPLATE_H
#define MU_TEXT_TEMPLATE_H

#include "base/json.h"

struct mu_template;

#define MU_TEMPLATE_SOURCE_MAX ((size_t)1 << 20)

struct mu_template_limits {
    uint64_t steps; /* statements, calls, and items or 64 bytes of text touched by one of them */
    uint64_t output_bytes;
    uint64_t memory_bytes;
    unsigned calls; /* of macros inside macros */
    unsigned wall_ms;
};

/* What NULL stands for: 4,000,000 steps, 16 MiB out, 256 MiB, 100 calls, 2 s. */
extern const struct mu_template_limits mu_template_limits_default;

/* `name` appears in errors. Syntax, unknown statements, filters and tests are refused here (names
 * in a branch that may never run when they are reached, as the original does). */
mu_status mu_template_compile(struct mu_str source, const char *name, struct mu_template **out,
                              struct mu_err *err);
void mu_template_destroy(struct mu_template *template);

/* Appends the text. `variables` is an object (messages, tools, bos_token, ...), only read, although
 * jansson has no const iteration. `now` is the local time that strftime_now formats
 * ("2025-03-14T15:09:26"; NULL: the clock's); `limits` NULL: the defaults. A template's own refusal
 * (raise_exception) is MU_E_INPUT with its message. `out` is as it was after a failure. */
mu_status mu_template_render(const struct mu_template *template, json_t *variables,
                             const struct mu_template_limits *limits, const char *now,
                             struct mu_text *out, struct mu_err *err);

/* OpenAI's clients send a call's arguments as JSON in a string, where most templates want the
 * object: PARSE_ARGUMENTS makes such strings what they hold; any other stays. They may also send a
 * content in parts, [{"type": "text", "text": ...}], which few templates know: JOIN_PARTS makes it
 * one text, a part a line, and refuses parts that are no text. transformers itself does neither. */
enum { MU_TEMPLATE_PARSE_ARGUMENTS = 1, MU_TEMPLATE_JOIN_PARTS = 2 };

/* The variables of a conversation {"messages", "tools", "documents", "add_generation_prompt",
 * "variables": {...}}: what is absent is null, entries of "variables" stand beside the others, and
 * a message's reasoning_content is also its `thinking`. The conversation stays as it is; the caller
 * owns `*out`. */
mu_status mu_template_variables(json_t *conversation, unsigned flags, json_t **out,
                                struct mu_err *err);

#endif
