/*
 * Plans from a hostile rack and config.json: the first byte selects engine and question, the first
 * line is the rack, the rest the configuration. What comes out must be whole: JSON that can be
 * read, and for each device of each placement memory that is no less than nothing.
 */
#include "format/format_int.h"
#include "plan/plan.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct mu_probe_catalog *catalog(void)
{
    static struct mu_probe_catalog *loaded;
    if (!loaded && mu_probe_catalog_load(&loaded, NULL) != MU_OK) abort();
    return loaded;
}

static void check(const struct mu_plan *plan)
{
    struct mu_text text;
    json_t *back;
    mu_text_init(&text, 64u << 20);
    mu_plan_write_json(plan, "fuzz", &text);
    if (mu_json_parse((struct mu_str){mu_text_get(&text), text.len}, "plan", &back, NULL) != MU_OK)
        abort();
    json_decref(back);
    mu_plan_write_picture(&plan->candidates[0], &text);
    mu_plan_write_svg(plan, "fuzz", &text);
    struct mu_plan_launch how = {.model = "fuzz", .id = "fuzz", .own = plan->request.formats[0]};
    mu_plan_write_launch(plan, &how, &text);
    mu_text_fini(&text);
    for (uint32_t i = 0; i < plan->n_candidates; i++)
        for (uint32_t d = 0; d < plan->candidates[i].n_devices; d++) {
            const struct mu_plan_device *device = &plan->candidates[i].devices[d];
            if (!(device->memory.weights_bytes >= 0) || !(device->memory.kv_bytes >= 0) ||
                device->layer_end > plan->request.config->n_layers)
                abort();
        }
}

static void run(uint8_t mode, const char *on, const struct mu_config *config)
{
    struct mu_plan_rack rack;
    struct mu_plan_request request = {.config = config,
                                      .rack = &rack,
                                      .engine = &catalog()->engines[mode % catalog()->n_engines],
                                      .batch = mode & 64 ? 17 : 1,
                                      .input = mode & 128 ? 100000 : 100,
                                      .output = 100,
                                      .goal = (enum mu_plan_goal)(mode >> 4 & 3),
                                      .costs = "catalogue",
                                      .n_formats = 1};
    struct mu_plan *plan;
    struct mu_err err = MU_ERR_INIT;
    if (mu_plan_rack_parse(on, catalog(), &rack, &err) != MU_OK || rack.n > 12) return;
    rack.between = &catalog()->links[catalog()->n_links - 1];
    request.formats[0] = mu_plan_format_of(config);
    if (mu_plan_make(&request, &plan, &err) != MU_OK) {
        if (err.code == MU_OK) abort();
        return;
    }
    check(plan);
    mu_plan_destroy(plan);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct mu_config config;
    char on[64];
    json_t *root = NULL;
    if (size < 2) return 0;
    struct mu_str rest = {(const char *)data + 1, size - 1}, line = mu_str_take(&rest, '\n');
    if (line.len >= sizeof on || memchr(line.p, '\0', line.len)) return 0;
    memcpy(on, line.p, line.len);
    on[line.len] = '\0';
    mu_config_init(&config);
    if (mu_json_parse(rest, "fuzz.json", &root, NULL) != MU_OK) return 0;
    /* Large models are not worth the time: every layer is like the other. */
    if (mu_config_from_json(root, "fuzz.json", &config, NULL) == MU_OK && config.n_layers <= 20)
        run(data[0], on, &config);
    json_decref(root);
    return 0;
}
