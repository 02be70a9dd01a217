/* config.json and generation_config.json: what each spelling means, and what is refused. */
#include "format/format_int.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static mu_status read_config(const char *text, struct mu_config *config, struct mu_err *err)
{
    json_t *root;
    *err = MU_ERR_INIT;
    assert_int_equal(mu_json_parse(mu_str(text), "config.json", &root, err), MU_OK);
    mu_status status = mu_config_from_json(root, "config.json", config, err);
    json_decref(root);
    assert_int_equal(status, err->code);
    return status;
}

static struct mu_config *read_good(const char *text)
{
    static struct mu_config config;
    struct mu_err err;
    char line[768];
    if (read_config(text, &config, &err) != MU_OK)
        fail_msg("%s: %s", text, mu_err_line(&err, line, sizeof line));
    return &config;
}

#define TEXT(...) #__VA_ARGS__

static void check_refused(void **state)
{
    (void)state;
    /* clang-format off */
    static const char *const bad[] = {
        TEXT([]), TEXT({}), TEXT({"model_type":7}),
        TEXT({"model_type":"a name that is longer than any architecture's"}),
        TEXT({"model_type":"llama","num_hidden_layers":0}),
        TEXT({"model_type":"llama","num_hidden_layers":1025}),
        TEXT({"model_type":"llama","num_hidden_layers":2.5}),
        TEXT({"model_type":"llama","num_hidden_layers":-1}),
        TEXT({"model_type":"llama","num_hidden_layers":"2"}),
        TEXT({"model_type":"llama","num_attention_heads":0}),
        TEXT({"model_type":"llama","num_attention_heads":7}),
        TEXT({"model_type":"llama","num_key_value_heads":5}),
        TEXT({"model_type":"llama","head_dim":7}),
        TEXT({"model_type":"llama","hidden_size":1e15}),
        TEXT({"model_type":"llama","rms_norm_eps":0}),
        TEXT({"model_type":"llama","rope_theta":0}),
        TEXT({"model_type":"llama","rope_theta":-1.0}),
        TEXT({"model_type":"llama","rope_scaling":3}),
        TEXT({"model_type":"llama","rope_scaling":{"rope_type":"spiral","factor":2}}),
        TEXT({"model_type":"llama","rope_scaling":{"rope_type":"linear"}}),
        TEXT({"model_type":"llama","rope_scaling":{"rope_type":"linear","factor":0}}),
        TEXT({"model_type":"llama","rope_scaling":{"rope_type":"linear","factor":-2}}),
        TEXT({"model_type":"llama","rope_scaling":{"rope_type":"llama3","factor":8}}),
        TEXT({"model_type":"llama","partial_rotary_factor":-2.5}),
        TEXT({"model_type":"llama","partial_rotary_factor":1.5}),
        TEXT({"model_type":"llama","attention_bias":1}),
        TEXT({"model_type":"llama","eos_token_id":[1,"2"]}),
        TEXT({"model_type":"llama","eos_token_id":-7}),
        TEXT({"model_type":"llama","quantization_config":{"bits":4}}),
        TEXT({"model_type":"phi3","rope_scaling":{"type":"su","short_factor":[1,2],
              "long_factor":[1,2,3]}}),
        TEXT({"model_type":"gemma2","layer_types":["full_attention"]}),
        TEXT({"model_type":"gemma2","num_hidden_layers":1,"layer_types":["linear_attention"]}),
        TEXT({"model_type":"mixtral","num_experts_per_tok":9}),
        TEXT({"model_type":"qwen3_moe","mlp_only_layers":[24]}),
        TEXT({"model_type":"smollm3","no_rope_layers":[1]}),
    };
    /* clang-format on */
    struct mu_config config;
    struct mu_err err;
    for (size_t i = 0; i < MU_ARRAY_LEN(bad); i++) {
        if (read_config(bad[i], &config, &err) == MU_OK) fail_msg("%s", bad[i]);
        assert_int_equal(mu_status_exit(err.code), 3);
        assert_memory_equal(err.where, "config.json", 11);
    }
}

static void check_spellings(void **state)
{
    (void)state;
    struct mu_config *c = read_good(TEXT({
        "model_type" : "llama",
        "rope_theta" : 5e5,
        "rope_scaling" : {"type" : "linear", "factor" : 2}
    }));
    assert_int_equal(c->rope.kind, MU_ROPE_LINEAR);
    assert_true(c->rope.theta == 5e5 && c->rope.factor == 2);
    assert_int_equal(c->n_kv_heads, 32); /* as many as heads, when not given */
    assert_int_equal(c->head_dim, 128);
    c = read_good(TEXT({
        "model_type" : "llama",
        "rope_parameters" : {
            "rope_theta" : 5e5,
            "rope_type" : "yarn",
            "factor" : 4,
            "truncate" : false,
            "original_max_position_embeddings" : 512
        }
    }));
    assert_int_equal(c->rope.kind, MU_ROPE_YARN);
    assert_true(c->rope.theta == 5e5 && c->rope.factor == 4 && !c->rope.truncate);
    assert_int_equal(c->rope.original_context, 512);
    c = read_good(TEXT({
        "model_type" : "phi3",
        "num_attention_heads" : 768,
        "original_max_position_embeddings" : 1024,
        "rope_scaling" : {"type" : "yarn", "short_factor" : [ 1, 2 ], "long_factor" : [ 3, 4 ]}
    }));
    assert_int_equal(c->rope.kind, MU_ROPE_LONGROPE);
    assert_true(c->rope.factor == 4 && c->rope.long_factor[1] == 4);
    c = read_good(TEXT({"model_type" : "unheard_of", "hidden_size" : 7}));
    assert_string_equal(c->architecture, "unheard_of");
}

static void check_patterns(void **state)
{
    (void)state;
    struct mu_config *c = read_good(TEXT({
        "model_type" : "gemma3",
        "eos_token_id" : [ 1, 106 ],
        "text_config" : {
            "model_type" : "gemma3_text",
            "num_hidden_layers" : 13,
            "rope_scaling" : {"factor" : 8, "rope_type" : "linear"}
        }
    }));
    assert_string_equal(c->architecture, "gemma3_text");
    assert_string_equal(c->activation, "gelu_pytorch_tanh");
    assert_int_equal(c->n_eos, 2);
    assert_true(c->tied_head && c->rope_local_theta == 10000 && c->rope.theta == 1e6);
    for (unsigned i = 0; i < 13; i++)
        assert_int_equal(c->layer_sliding[i], i % 6 != 5);
    c = read_good(TEXT({
        "model_type" : "qwen2",
        "num_hidden_layers" : 4,
        "use_sliding_window" : true,
        "max_window_layers" : 3
    }));
    assert_true(c->attention_bias && c->sliding_window == 4096);
    assert_true(!c->layer_sliding[2] && c->layer_sliding[3]);
    c = read_good(TEXT({"model_type" : "qwen2", "num_hidden_layers" : 4}));
    assert_int_equal(c->sliding_window, 0);
    c = read_good(TEXT({"model_type" : "smollm3"}));
    assert_true(!c->layer_no_rope[2] && c->layer_no_rope[3] && c->tied_head);
    c = read_good(TEXT({"model_type" : "deepseek_v3"}));
    assert_true(c->layer_dense[2] && !c->layer_dense[3] && c->rope_interleaved);
    c = read_good(TEXT({
        "model_type" : "qwen3_moe",
        "num_hidden_layers" : 4,
        "num_experts" : 8,
        "decoder_sparse_step" : 2,
        "mlp_only_layers" : [3]
    }));
    assert_true(c->layer_dense[0] && !c->layer_dense[1] && c->layer_dense[3]);
    assert_int_equal(c->n_experts, 8);
}

static void check_generation(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    struct mu_config *c = read_good(TEXT({"model_type" : "llama", "eos_token_id" : 5}));
    json_t *root;
    assert_true(isnan(c->temperature) && c->eos[0] == 5 && c->pad == MU_TOKEN_NONE);
    const char *text = TEXT({
        "eos_token_id" : [ 7, 8 ],
        "pad_token_id" : -1,
        "do_sample" : true,
        "temperature" : 0.6,
        "top_k" : 20
    });
    assert_int_equal(mu_json_parse(mu_str(text), "g", &root, &err), MU_OK);
    assert_int_equal(mu_config_add_generation(root, "g", c, &err), MU_OK);
    json_decref(root);
    assert_true(c->n_eos == 2 && c->eos[0] == 7 && c->do_sample && c->top_k == 20);
    assert_true(c->temperature == 0.6 && isnan(c->top_p) && c->pad == MU_TOKEN_NONE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_refused),
        cmocka_unit_test(check_spellings),
        cmocka_unit_test(check_patterns),
        cmocka_unit_test(check_generation),
    };
    return cmocka_run_group_tests_name("format/config", tests, NULL, NULL);
}
