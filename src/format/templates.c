/*
 * Where publishers put the chat template: chat_template.jinja, chat_template.json or
 * tokenizer_config.json of a folder (one text, or a list with names), or GGUF metadata. Only finds
 * the text; what it means is another room's.
 */
#include "format/format_int.h"

#include "base/file.h"

#define TEMPLATE_BYTES_MAX (1u << 20)
#define CONFIG_BYTES_MAX   (16u << 20)

static mu_status keep(struct mu_model_file *file, struct mu_str text, const char **out,
                      struct mu_err *err)
{
    if (text.len > TEMPLATE_BYTES_MAX)
        return mu_fail(err, MU_E_INPUT, "the chat template is longer than 1 MiB");
    *out = mu_arena_strndup(file->arena, text.p, text.len);
    return *out ? MU_OK : mu_fail_memory(err, text.len);
}

/* One text, or [{"name": "default", "template": ...}, {"name": "tool_use", ...}]. */
static mu_status keep_json(struct mu_model_file *file, const json_t *value, struct mu_err *err)
{
    const json_t *entry;
    size_t i;
    if (json_is_string(value)) {
        struct mu_str text = {json_string_value(value), json_string_length(value)};
        return keep(file, text, &file->template_plain, err);
    }
    json_array_foreach(value, i, entry)
    {
        const json_t *text = json_object_get(entry, "template");
        const char *name = json_string_value(json_object_get(entry, "name"));
        if (!name || !json_is_string(text)) continue;
        struct mu_str source = {json_string_value(text), json_string_length(text)};
        if (strcmp(name, "default") == 0)
            MU_TRY(keep(file, source, &file->template_plain, err));
        else if (strcmp(name, "tool_use") == 0)
            MU_TRY(keep(file, source, &file->template_tools, err));
    }
    return MU_OK;
}

static mu_status keep_plain_file(struct mu_model_file *file, const char *path, const char **out,
                                 struct mu_err *err)
{
    struct mu_text text;
    mu_text_init(&text, TEMPLATE_BYTES_MAX);
    mu_status status = mu_file_read(path, &text, err);
    if (status == MU_OK)
        status = keep(file, (struct mu_str){mu_text_get(&text), text.len}, out, err);
    mu_text_fini(&text);
    return status;
}

static mu_status keep_json_file(struct mu_model_file *file, const char *path, struct mu_err *err)
{
    json_t *root = NULL;
    MU_TRY(mu_json_read(path, CONFIG_BYTES_MAX, &root, err));
    mu_status status = keep_json(file, json_object_get(root, "chat_template"), err);
    json_decref(root);
    return status;
}

mu_status mu_templates_from_folder(struct mu_model_file *file, struct mu_err *err)
{
    /* In falling order of precedence; a .jinja file beats what the JSON files say. */
    static const char *const names[] = {"chat_template.jinja",
                                        "additional_chat_templates/tool_use.jinja",
                                        "chat_template.json", "tokenizer_config.json"};
    mu_status status = MU_OK;
    for (size_t i = 0; i < MU_ARRAY_LEN(names) && status == MU_OK; i++) {
        if (i >= 2 && file->template_plain) break;
        char *path = mu_path_join(file->folder, names[i]);
        if (!path) return mu_fail_memory(err, strlen(names[i]));
        if (!mu_file_exists(path))
            status = MU_OK;
        else if (i < 2)
            status = keep_plain_file(file, path,
                                     i == 0 ? &file->template_plain : &file->template_tools, err);
        else
            status = keep_json_file(file, path, err);
        if (status != MU_OK) mu_err_where(err, "%s", path);
        mu_free(path);
    }
    return status;
}

mu_status mu_templates_from_gguf(struct mu_model_file *file, struct mu_err *err)
{
    struct mu_str text;
    if (mu_gguf_string(file->gguf, "tokenizer.chat_template", &text))
        MU_TRY(keep(file, text, &file->template_plain, err));
    if (mu_gguf_string(file->gguf, "tokenizer.chat_template.tool_use", &text))
        MU_TRY(keep(file, text, &file->template_tools, err));
    return MU_OK;
}
