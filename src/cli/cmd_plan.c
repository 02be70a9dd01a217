/* muster plan: where a model goes and how fast it would be, before anything is loaded. */
#include "base/alloc.h"
#include "base/json.h"
#include "cli/map_options.h"
#include "cli/plan_model.h"
#include "cli/plan_question.h"

#define OUT_MAX_BYTES (64u << 20)

static const struct mu_option options[] = {
    {"on", 0, MU_OPTION_TEXT, offsetof(struct plan_options, on), "HW",
     .help = "machines: 8xh200_sxm, 2x8xh100 (two hosts), 4xA100-80G+2xL40S, rtx_4090:20GiB; "
             "or a YAML file of hosts (docs/plan.md); default: this one"},
    {"engine", 0, MU_OPTION_TEXT, offsetof(struct plan_options, engine), "NAME",
     .help = "what runs it: muster, vllm, sglang, trtllm, llama.cpp or transformers",
     .default_value = "muster"},
    {"batch", 'b', MU_OPTION_U64, offsetof(struct plan_options, batch), "N",
     .help = "streams at work together", .min = 1, .max = 65536, .default_value = "1"},
    {"input", 0, MU_OPTION_U64, offsetof(struct plan_options, input), "N",
     .help = "tokens of each prompt; default: 1024, or what the context allows", .min = 1,
     .max = 10000000},
    {"output", 0, MU_OPTION_U64, offsetof(struct plan_options, output), "N",
     .help = "tokens of each answer; default: 512, or a third of the context", .min = 1,
     .max = 10000000},
    {"beyond-context", 0, MU_OPTION_FLAG, offsetof(struct plan_options, beyond_context), NULL,
     .help = "plan --input and --output also where the model has no such context"},
    {"goal", 0, MU_OPTION_TEXT, offsetof(struct plan_options, goal), "GOAL",
     .help = "what is best; default: latency for one stream, throughput for more",
     .choices = "latency|throughput|cost|fit"},
    {"weights", 0, MU_OPTION_TEXT, offsetof(struct plan_options, weights), "LIST",
     .help = "types of weights to compare: bf16,fp8,awq,q4_k or all; default: the model's own"},
    {"kv-type", 0, MU_OPTION_TEXT, offsetof(struct plan_options, kv_type), "TYPE",
     .help = "of keys and values", .default_value = "auto", .choices = "auto|bf16|fp8"},
    {"tp", 0, MU_OPTION_U64, offsetof(struct plan_options, tp), "N",
     .help = "tensor parallel degree; default: any", .max = 65536},
    {"pp", 0, MU_OPTION_U64, offsetof(struct plan_options, pp), "N",
     .help = "pipeline stages; default: up to 8", .max = 128},
    {"dp", 0, MU_OPTION_U64, offsetof(struct plan_options, dp), "N",
     .help = "replicas; default: any", .max = 128},
    {"network", 0, MU_OPTION_TEXT, offsetof(struct plan_options, network), "LINK",
     .help = "what joins hosts, of share/links.tsv", .default_value = MU_PLAN_NETWORK},
    {"svg", 0, MU_OPTION_TEXT, offsetof(struct plan_options, svg), "FILE",
     .help = "draw the best placement there too"},
    {"device-map", 0, MU_OPTION_TEXT, offsetof(struct plan_options, device_map), "MODE|FILE|JSON",
     .help =
         "auto, balanced, balanced_low_0, sequential, a device, or a map of modules to devices; "
         "best: our own, by time and all memory, on the devices of --on"},
    {"max-memory", 0, MU_OPTION_TEXT, offsetof(struct plan_options, max_memory), "JSON|LIST",
     .help = "what may be used of each device: '{\"0\":\"20GiB\",\"cpu\":\"64GiB\"}' or "
             "0=20GiB,cpu=64GiB"},
    {"free-memory", 0, MU_OPTION_TEXT, offsetof(struct plan_options, free_memory), "JSON|LIST",
     .help = "what the devices have free, as the hardware would report it"},
    {"dtype", 0, MU_OPTION_TEXT, offsetof(struct plan_options, dtype), "TYPE",
     .help = "data type the model is loaded in: bfloat16, float16, float32; default: the model's"},
    {"rules", 0, MU_OPTION_TEXT, offsetof(struct plan_options, rules), "LIBRARY",
     .help = "whose rules make the device map", .default_value = "transformers",
     .choices = "transformers|accelerate"},
    {"no-split", 0, MU_OPTION_TEXT, offsetof(struct plan_options, no_split), "CLASSES",
     .help = "modules that stay whole, comma between; default: the model's decoder layer"},
    {"fallback-allocation", 0, MU_OPTION_FLAG, offsetof(struct plan_options, fallback_allocation),
     NULL, .help = "accelerate: a device for which the next module is too big takes a later one"},
    {"offload-buffers", 0, MU_OPTION_FLAG, offsetof(struct plan_options, offload_buffers), NULL,
     .help = "offloaded modules take their buffers along"},
    {"json", 0, MU_OPTION_FLAG, offsetof(struct plan_options, json), NULL,
     .help = "the answer as JSON"},
    {.name = NULL},
};

/* One line a module, for people. */
static void add_table(const struct mu_plan_map *map, struct mu_text *out)
{
    for (size_t i = 0; i < map->n_entries; i++)
        mu_text_printf(out, "%-6s %s\n", map->devices[map->entries[i].device].name,
                       map->entries[i].module[0] ? map->entries[i].module : "(the whole model)");
}

/* A map that was to be found gives nothing to a GPU: where all went, and what would help. */
static void say_elsewhere(const struct mu_plan_map *map, const char *mode)
{
    static const char *const modes[] = {"auto", "balanced", "balanced_low_0", "sequential"};
    bool found = false;
    for (size_t i = 0; i < MU_ARRAY_LEN(modes); i++)
        found |= strcmp(mode, modes[i]) == 0;
    for (size_t i = 0; i < map->n_entries; i++)
        found &= map->devices[map->entries[i].device].gpu < 0;
    if (found && map->n_entries > 0)
        mu_cli_say("note: all of it is on the %s: there is no GPU, or none has room; with "
                   "--max-memory 0=24GiB,cpu=64GiB it is planned for one that has\n",
                   map->devices[map->entries[0].device].name);
}

static mu_status map_print(const struct mu_plan_map *map, const struct plan_options *o,
                           const char *model, struct mu_err *err)
{
    struct mu_text text;
    bool json = o->json;
    mu_text_init(&text, OUT_MAX_BYTES);
    if (json)
        mu_plan_map_write(map, &text);
    else
        add_table(map, &text);
    if (!json) mu_plan_add_speed(map, o, model, &text);
    if (json) mu_text_char(&text, '\n');
    for (size_t i = 0; i < map->n_warnings && !json; i++)
        mu_cli_say("warning: %s\n", map->warnings[i]);
    mu_status status = mu_cli_out_text(&text, err);
    mu_text_fini(&text);
    return status;
}

static mu_status run_device_map(const struct plan_options *o, const char *model, struct mu_err *err)
{
    json_t *config = NULL;
    struct mu_plan_map *map = NULL;
    struct mu_plan_map_request request = {
        .dtype = o->dtype,
        .rules = strcmp(o->rules, "accelerate") == 0 ? MU_PLAN_ACCELERATE : MU_PLAN_TRANSFORMERS,
        .no_split = o->no_split,
        .fallback_allocation = o->fallback_allocation,
        .offload_buffers = o->offload_buffers,
    };
    mu_status status = mu_plan_model_config(model, &config, err);
    request.config = config;
    if (status == MU_OK) status = mu_cli_device_map_read(o->device_map, &request.device_map, err);
    if (status == MU_OK)
        status = mu_cli_memory_read(o->max_memory, "--max-memory", &request.max_memory, err);
    if (status == MU_OK)
        status = mu_cli_memory_read(o->free_memory, "--free-memory", &request.free_memory, err);
    if (status == MU_OK) status = mu_plan_map_create(&request, &map, err);
    if (status == MU_OK) status = map_print(map, o, model, err);
    if (status == MU_OK && !o->json) say_elsewhere(map, o->device_map);
    mu_plan_map_destroy(map);
    json_decref(request.free_memory);
    json_decref(request.max_memory);
    json_decref(request.device_map);
    json_decref(config);
    return status;
}

static mu_status run(const struct mu_invocation *in, struct mu_err *err)
{
    const struct plan_options *o = in->options;
    const char *model = in->result->operands[0];
    static const char *const of_maps[] = {"max-memory", "free-memory",         "dtype",
                                          "no-split",   "fallback-allocation", "offload-buffers"};
    for (size_t i = 0; !o->device_map && i < MU_ARRAY_LEN(of_maps); i++)
        if (mu_commanded(in, of_maps[i]))
            return mu_fail(err, MU_E_USAGE, "--%s says how a --device-map is made; there is none",
                           of_maps[i]);
    bool ours = !o->device_map || strcmp(o->device_map, "best") == 0;
    return ours ? mu_plan_answer(o, model, err) : run_device_map(o, model, err);
}

const struct mu_command mu_command_plan = {
    .spec = {.command = "plan",
             .operands = "MODEL",
             .summary = "where a model goes and how fast it will be, before anything is loaded",
             .details =
                 "MODEL is a folder (config.json alone is enough), a .gguf file, or a name of "
                 "share/models.tsv with a type: llama-3.1-70b@fp8. Weights are never "
                 "touched. With --device-map: the map that transformers or accelerate "
                 "makes.",
             .options = options,
             .min_operands = 1,
             .max_operands = 1},
    .options_size = sizeof(struct plan_options),
    .run = run,
};
