/*
 * Fuzz target: the input is a template, a NUL and a conversation in JSON (or nothing). First byte
 * odd: rendered under small limits as well.
 */
#include "text/text.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void render(const struct mu_template *t, struct mu_str json,
                   const struct mu_template_limits *limits)
{
    json_t *conversation = NULL, *variables = NULL;
    struct mu_text out;
    struct mu_err err = MU_ERR_INIT;
    mu_text_init(&out, 1 << 20);
    if (mu_json_parse(json, "fuzz", &conversation, &err) == MU_OK &&
        mu_template_variables(conversation, MU_TEMPLATE_PARSE_ARGUMENTS, &variables, &err) == MU_OK)
        (void)mu_template_render(t, variables, limits, "2025-03-14T15:09:26", &out, &err);
    json_decref(variables);
    json_decref(conversation);
    mu_text_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct mu_template_limits usual = {200000, 1 << 20, 32 << 20, 100, 1000},
                                           small = {100, 200, 4000, 2, 1000};
    if (size == 0) return 0;
    struct mu_template *t = NULL;
    struct mu_err err = MU_ERR_INIT;
    struct mu_str source = {(const char *)data + 1, size - 1}, json = MU_STR("{}");
    const char *end = memchr(source.p, '\0', source.len);
    if (end) {
        json = (struct mu_str){end + 1, (size_t)(source.p + source.len - end - 1)};
        source.len = (size_t)(end - source.p);
    }
    if (mu_template_compile(source, "fuzz", &t, &err) == MU_OK) {
        render(t, json, &usual);
        if (data[0] & 1) render(t, json, &small);
    }
    mu_template_destroy(t);
    return 0;
}
