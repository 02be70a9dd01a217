/* Reading --device-map and --max-memory; see map_options.h. */
#include "cli/map_options.h"

#include "base/file.h"

#define MAP_MAX_BYTES (4u << 20)

/* 0=20GiB,cpu=64GiB: plain numbers are bytes. */
static mu_status memory_list_read(const char *text, const char *option, json_t **out,
                                  struct mu_err *err)
{
    struct mu_text json;
    mu_text_init(&json, 1 << 16);
    mu_text_char(&json, '{');
    for (const char *p = text; *p;) {
        struct mu_str item = {p, strcspn(p, ",")};
        const char *equals = memchr(item.p, '=', item.len);
        size_t key = equals ? (size_t)(equals - item.p) : item.len;
        struct mu_str value = {equals ? equals + 1 : "", equals ? item.len - key - 1 : 0};
        mu_json_add_string(&json, (struct mu_str){item.p, key});
        mu_text_char(&json, ':');
        if (value.len > 0 && strspn(value.p, "0123456789") >= value.len)
            mu_text_add(&json, value.p, value.len);
        else
            mu_json_add_string(&json, value);
        p += item.len;
        if (*p == ',') mu_text_str(&json, ++p && *p ? "," : "");
    }
    mu_text_char(&json, '}');
    mu_status status = mu_text_status(&json, err);
    if (status == MU_OK)
        status = mu_json_parse((struct mu_str){mu_text_get(&json), json.len}, option, out, err);
    mu_text_fini(&json);
    return status;
}

mu_status mu_cli_memory_read(const char *text, const char *option, json_t **out, struct mu_err *err)
{
    if (!text) return MU_OK;
    if (text[strspn(text, " \t\n")] == '{') return mu_json_parse(mu_str(text), option, out, err);
    return memory_list_read(text, option, out, err);
}

bool mu_cli_means_file(const char *text, const char *ending)
{
    size_t len = strlen(text), n = strlen(ending);
    return strchr(text, '/') || (len > n && strcmp(text + len - n, ending) == 0);
}

mu_status mu_cli_no_file(const char *option, const char *path, const char *cure, struct mu_err *err)
{
    mu_status status =
        mu_fail(err, MU_E_MISSING, "%s %s: %s", option, path,
                mu_file_is_folder(path) ? "that is a folder" : "there is no such file");
    mu_err_cure(err, "%s", cure);
    return status;
}

mu_status mu_cli_device_map_read(const char *text, json_t **out, struct mu_err *err)
{
    if (text[strspn(text, " \t\n")] == '{')
        return mu_json_parse(mu_str(text), "--device-map", out, err);
    if (mu_file_exists(text) && !mu_file_is_folder(text))
        return mu_json_read(text, MAP_MAX_BYTES, out, err);
    if (mu_cli_means_file(text, ".json"))
        return mu_cli_no_file("--device-map", text,
                              "auto, balanced, balanced_low_0, sequential, "
                              "best, a device, a file, or JSON: '{\"\":0}'",
                              err);
    *out = json_string(text);
    return *out ? MU_OK : mu_fail(err, MU_E_INPUT, "--device-map is not UTF-8");
}
