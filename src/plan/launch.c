/* Lines to copy: what starts a placement with the engines that can; see write.h. */
#include "plan/write.h"

#include "base/json.h"

/* What `format` needs of an engine that loads a checkpoint in 16 bits; none: the checkpoint must be
 * in it already. */
static const struct {
    const char *format, *vllm, *sglang, *transformers;
} made_at_load[] = {
    {"bf16", " --dtype bfloat16", " --dtype bfloat16", ", dtype=\"bfloat16\""},
    {"f32", " --dtype float32", " --dtype float32", ", dtype=\"float32\""},
    {"fp8", " --quantization fp8", " --quantization fp8", NULL},
    {"nf4", " --quantization bitsandbytes", " --load-format bitsandbytes",
     ", quantization_config=BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type=\"nf4\")"},
};

struct launch {
    const struct mu_plan *plan;
    const struct mu_plan_candidate *c;
    const struct mu_plan_launch *how;
    struct mu_text *out;
    unsigned context, streams; /* of each replica */
};

static bool plain_word(const char *word)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                "_@%+=:,./-";
    return word[0] && word[0] != '-' && strspn(word, plain) == strlen(word);
}

/* As one word of a shell. */
static void add_word(struct mu_text *out, const char *word)
{
    if (plain_word(word)) {
        mu_text_str(out, word);
        return;
    }
    mu_text_str(out, word[0] == '-' ? "./'" : "'");
    for (const char *p = word; *p; p++)
        if (*p == '\'')
            mu_text_str(out, "'\\''");
        else
            mu_text_char(out, *p);
    mu_text_char(out, '\'');
}

static bool is_own(const struct launch *l)
{
    return l->how->own == l->c->format;
}

/* How the engine makes the type while loading; "" when nothing is to be made, NULL: it cannot. */
static const char *made(const struct launch *l, const char *engine)
{
    if (is_own(l)) return "";
    for (size_t i = 0; i < MU_ARRAY_LEN(made_at_load); i++) {
        if (strcmp(made_at_load[i].format, l->c->format->name) != 0) continue;
        bool from_plain = l->how->own && l->how->own->bits >= 16;
        if (!from_plain) return NULL;
        if (strcmp(engine, "vllm") == 0) return made_at_load[i].vllm;
        if (strcmp(engine, "sglang") == 0) return made_at_load[i].sglang;
        if (strcmp(engine, "transformers") == 0) return made_at_load[i].transformers;
    }
    return NULL;
}

/* Names the checkpoint as $MODEL where the planned type has to exist already. */
static void add_model_line(const struct launch *l, const char *kind)
{
    mu_text_printf(l->out, "MODEL=...  # %s of %s in %s\n", kind,
                   l->how->id[0] ? l->how->id : l->how->model, l->c->format->name);
}

static void add_model(const struct launch *l, bool here)
{
    if (here && l->how->id[0])
        add_word(l->out, l->how->id);
    else
        mu_text_str(l->out, "\"$MODEL\"");
}

static bool even(const struct launch *l)
{
    const struct mu_config *c = l->plan->request.config;
    uint32_t tp = l->c->tp;
    bool kv = c->n_kv_heads % tp == 0 || tp % c->n_kv_heads == 0 || c->kv_lora_rank;
    return c->n_heads % tp == 0 && kv;
}

static bool uneven_stages(const struct launch *l)
{
    const struct mu_plan_candidate *c = l->c;
    for (uint32_t s = 0; s < c->pp; s++)
        if (c->devices[s * c->tp].layer_first !=
            (uint32_t)((uint64_t)s * l->plan->request.config->n_layers / c->pp))
            return true;
    return false;
}

/* Layers of each stage, comma between, behind `name`. */
static void add_partition(const struct launch *l, const char *name)
{
    const struct mu_plan_candidate *c = l->c;
    if (c->pp == 1 || !uneven_stages(l)) return;
    for (uint32_t s = 0; s < c->pp; s++)
        mu_text_printf(l->out, "%s%u", s ? "," : name,
                       c->devices[s * c->tp].layer_end - c->devices[s * c->tp].layer_first);
    mu_text_char(l->out, ' ');
}

static void add_replicas(const struct launch *l)
{
    if (l->c->dp > 1)
        mu_text_printf(l->out, "  # one for each of %u replicas, on its own devices", l->c->dp);
    mu_text_char(l->out, '\n');
}

/* ---- One function an engine ---------------------------------------------------------------- */

/* The command as far as its model; returns how the type is made while loading. */
static const char *begin_server(const struct launch *l, const char *engine, const char *partition,
                                const char *command)
{
    const char *type = made(l, engine);
    add_partition(l, partition);
    mu_text_str(l->out, command);
    add_model(l, type != NULL);
    return type ? type : "";
}

static void add_vllm(const struct launch *l)
{
    const char *type = begin_server(l, "vllm", "VLLM_PP_LAYER_PARTITION=", "vllm serve ");
    mu_text_printf(l->out,
                   "%s --tensor-parallel-size %u --pipeline-parallel-size %u "
                   "--data-parallel-size %u --max-model-len %u --max-num-seqs %u%s\n",
                   type, l->c->tp, l->c->pp, l->c->dp, l->context, l->streams,
                   l->c->kv8 ? " --kv-cache-dtype fp8" : "");
}

static void add_sglang(const struct launch *l)
{
    const char *type = begin_server(
        l, "sglang", "SGLANG_PP_LAYER_PARTITION=", "python -m sglang.launch_server --model-path ");
    mu_text_printf(l->out,
                   "%s --tp-size %u --pp-size %u --dp-size %u --context-length %u "
                   "--max-running-requests %u%s\n",
                   type, l->c->tp, l->c->pp, l->c->dp, l->context, l->plan->request.batch,
                   l->c->kv8 ? " --kv-cache-dtype fp8_e5m2" : "");
}

static void add_trtllm(const struct launch *l)
{
    mu_text_str(l->out, "trtllm-serve ");
    add_model(l, made(l, "trtllm") != NULL);
    mu_text_printf(l->out, " --tp_size %u --pp_size %u --max_batch_size %u --max_seq_len %u",
                   l->c->tp, l->c->pp, l->streams, l->context);
    add_replicas(l);
}

/* Rows over the devices for tensor parallel, layers for stages; the context is of all slots. */
static void add_llama_cpp(const struct launch *l)
{
    uint32_t n = l->c->tp * l->c->pp;
    mu_text_str(l->out, "llama-server -m ");
    add_model(l, is_own(l) && l->how->gguf);
    mu_text_printf(l->out, " -ngl %u -c %u -np %u", l->how->on_cpu ? 0 : 999,
                   l->context * l->streams, l->streams);
    if (n > 1) mu_text_printf(l->out, " -sm %s -ts ", l->c->tp > 1 ? "row" : "layer");
    for (uint32_t i = 0; i < n && n > 1; i++)
        mu_text_printf(l->out, "%s%u", i ? "," : "",
                       l->c->devices[i].layer_end - l->c->devices[i].layer_first);
    if (l->c->kv8) mu_text_str(l->out, " -fa on -ctk q8_0 -ctv q8_0");
    add_replicas(l);
}

static void add_transformers(const struct launch *l)
{
    const struct mu_plan_candidate *c = l->c;
    const char *type = made(l, "transformers");
    uint32_t last = c->pp - 1, head = l->plan->request.config->tied_head ? 0 : last;
    mu_text_str(l->out, "AutoModelForCausalLM.from_pretrained(");
    if (type && l->how->id[0])
        mu_json_add_string(l->out, mu_str(l->how->id));
    else
        mu_text_str(l->out, "os.environ[\"MODEL\"]");
    mu_text_printf(l->out, "%s, device_map={\"model.embed_tokens\": 0, \"model.rotary_emb\": 0",
                   type && type[0] ? type : ", dtype=\"auto\"");
    for (uint32_t s = 0; s < c->pp; s++)
        mu_text_printf(l->out, ", **{f\"model.layers.{i}\": %u for i in range(%u, %u)}", s,
                       c->devices[s].layer_first, c->devices[s].layer_end);
    mu_text_printf(l->out, ", \"model.norm\": %u, \"lm_head\": %u})\n", last, head);
}

static void add_muster(const struct launch *l)
{
    const struct mu_plan_candidate *c = l->c;
    if (!l->how->on_cpu) {
        mu_text_str(l->out, "# muster itself does not drive GPUs yet\n");
    } else if (!l->how->runnable || !is_own(l)) {
        mu_text_printf(l->out, "# muster itself runs models that are on this disk, in %s here\n",
                       c->format->name);
    } else {
        mu_text_str(l->out, "muster generate ");
        add_word(l->out, l->how->id);
        mu_text_printf(l->out, " --devices cpu:%u --tp %u --pp %u", c->n_devices, c->tp, c->pp);
        if (c->dp > 1) mu_text_printf(l->out, " --dp %u", c->dp);
        mu_text_str(l->out, " -p \"...\"\n");
    }
}

static const struct {
    const char *engine;
    void (*add)(const struct launch *l);
    bool always; /* also when another engine was asked for */
} launchers[] = {
    {"muster", add_muster, false},       {"vllm", add_vllm, true},
    {"sglang", add_sglang, true},        {"trtllm", add_trtllm, false},
    {"llama.cpp", add_llama_cpp, false}, {"transformers", add_transformers, true},
};

/* Whether it has these degrees, and reads these weights. */
static bool can(const struct launch *l, const char *engine)
{
    const struct mu_plan_candidate *c = l->c;
    bool blocks = c->format->blocks || l->how->gguf;
    if (strcmp(engine, "muster") == 0) return true;
    if (strncmp(l->how->id, "synth:", 6) == 0) return false; /* nobody else makes weights */
    if (strcmp(engine, "llama.cpp") == 0) return c->tp == 1 || c->pp == 1;
    if (strcmp(engine, "transformers") == 0) return !blocks && c->tp == 1 && c->dp == 1;
    return !blocks && even(l);
}

void mu_plan_write_launch(const struct mu_plan *plan, const struct mu_plan_launch *how,
                          struct mu_text *out)
{
    const struct mu_plan_candidate *c = &plan->candidates[0];
    const struct mu_plan_request *q = &plan->request;
    struct launch l = {.plan = plan,
                       .c = c,
                       .how = how,
                       .out = out,
                       .context = q->input + q->output,
                       .streams = (unsigned)MU_CEIL_DIV(q->batch, c->dp)};
    bool wanted[MU_ARRAY_LEN(launchers)], missing = false;
    size_t first = 0; /* the engine that was asked for */
    const char *kind = "a checkpoint";
    for (size_t i = 0; i < MU_ARRAY_LEN(launchers); i++) {
        const char *engine = launchers[i].engine;
        bool llama = strcmp(engine, "llama.cpp") == 0;
        bool asked = strcmp(engine, q->engine->name) == 0;
        bool other = launchers[i].always && strcmp(q->engine->name, "llama.cpp") != 0 &&
                     !how->on_cpu; /* theirs are GPUs */
        wanted[i] = (asked || other || (llama && c->format->blocks)) && can(&l, engine);
        if (asked) first = i;
        if (!wanted[i] || strcmp(engine, "muster") == 0) continue;
        if (llama) kind = "a .gguf";
        missing |= !made(&l, engine) || (llama && !how->gguf) || !how->id[0];
    }
    if (missing) add_model_line(&l, kind);
    if (wanted[first]) launchers[first].add(&l);
    for (size_t i = 0; i < MU_ARRAY_LEN(launchers); i++)
        if (wanted[i] && i != first) launchers[i].add(&l);
}
