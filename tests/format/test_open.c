/* Opening whole models: the golden ones, every one of the oracle's when ORACLE names its folder,
 * hub ids, folders of GGUF files, splits, and what was written by our own writer. */
#include "format/format_int.h"

#include "base/file.h"

#include "open.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[64];

static int make_folder(void **state)
{
    (void)state;
    (void)snprintf(folder, sizeof folder, "/tmp/muster-open-XXXXXX");
    return mkdtemp(folder) ? 0 : 1;
}

/* Removes what the tests left: files, and folders to a depth that they use. */
static void remove_tree(const char *path, int depth)
{
    DIR *dir = depth > 0 ? opendir(path) : NULL;
    for (struct dirent *e; dir && (e = readdir(dir));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        char *below = mu_path_join(path, e->d_name);
        if (unlink(below) != 0) remove_tree(below, depth - 1);
        mu_free(below);
    }
    if (dir) (void)closedir(dir);
    (void)rmdir(path);
}

static int drop_folder(void **state)
{
    (void)state;
    remove_tree(folder, 6);
    return 0;
}

static mu_status open_bad(const char *model, struct mu_err *err)
{
    struct mu_model_file *file = NULL;
    *err = MU_ERR_INIT;
    mu_status status = mu_model_file_open(model, 0, &file, err);
    assert_int_not_equal(status, MU_OK);
    return status;
}

static struct mu_model_file *open_golden(const char *below)
{
    char *path = data_path(below);
    struct mu_model_file *file = open_good(path);
    mu_free(path);
    return file;
}

static void check_golden_folders(void **state)
{
    (void)state;
    struct mu_model_file *file = open_golden("golden/1_tiny/llama_bias_sharded");
    const struct mu_config *c = mu_model_file_config(file);
    const char *const *paths;
    assert_string_equal(c->architecture, "llama");
    assert_string_equal(mu_model_file_format(file), "safetensors");
    assert_int_equal(mu_model_file_paths(file, &paths), 3);
    assert_int_equal(c->head_dim, 24);
    assert_true(c->attention_bias && c->mlp_bias && !c->tied_head);
    const struct mu_tensor *t = mu_model_file_find(file, "model.layers.2.mlp.up_proj.bias");
    assert_non_null(t);
    assert_int_equal(t->n_dims, 1);
    assert_int_equal(t->dims[0], 128);
    assert_null(mu_model_file_find(file, "model.layers.3.mlp.up_proj.bias"));
    mu_model_file_close(file);

    file = open_golden("golden/1_tiny/llama3_tied");
    c = mu_model_file_config(file);
    assert_int_equal(c->rope.kind, MU_ROPE_LLAMA3);
    assert_true(c->rope.factor == 8 && c->rope.high_freq_factor == 4 && c->tied_head);
    assert_int_equal(c->rope.original_context, 64);
    assert_int_equal(c->pad, 0); /* generation_config.json says so; config.json says null */
    mu_model_file_close(file);

    file = open_golden("golden/1_tiny/qwen2/model.safetensors");
    assert_true(mu_model_file_config(file)->attention_bias);
    assert_non_null(mu_model_file_chat_template(file, true));
    mu_model_file_close(file);
}

static void check_golden_gguf(void **state)
{
    (void)state;
    struct mu_model_file *file = open_golden("golden/6_quant/gguf/legacy_mix.gguf");
    const struct mu_config *c = mu_model_file_config(file);
    assert_string_equal(mu_model_file_format(file), "gguf 3");
    assert_int_equal(c->names, MU_NAMES_GGUF);
    assert_true(c->rope_interleaved && !c->tied_head);
    assert_int_equal(c->n_heads, 4);
    assert_int_equal(c->n_kv_heads, 2);
    assert_int_equal(c->bos, 1);
    assert_int_equal(c->eos[0], 2);
    const struct mu_tensor *t = mu_model_file_find(file, "blk.1.ffn_down.weight");
    assert_int_equal(t->dims[0], 128);
    assert_int_equal(t->dims[1], 256);
    assert_ptr_equal(mu_tensor_rows(t, 3, 1, NULL), t->data + 3 * mu_tensor_row_bytes(t));
    const struct mu_gguf_value *v = mu_gguf_find(mu_model_file_gguf(file), "tokenizer.ggml.tokens");
    struct mu_cursor cursor = mu_cursor_over(v->bytes, v->n_bytes);
    assert_int_equal(v->n, 512);
    assert_true(mu_str_is(mu_gguf_next_string(&cursor), "<|pad|>"));
    mu_model_file_close(file);
}

/* Every model of the oracle opens; only where the oracle is, since it is too big to carry. */
static void check_oracle(void **state)
{
    (void)state;
    static const char *const folders[] = {"1_tiny", "6_quant/checkpoints", "6_quant/gguf"};
    const char *oracle = getenv("ORACLE");
    unsigned n = 0;
    if (!oracle) skip();
    for (size_t i = 0; i < MU_ARRAY_LEN(folders); i++) {
        char *path = mu_path_join(oracle, folders[i]);
        DIR *dir = opendir(path);
        assert_non_null(dir);
        for (struct dirent *e; (e = readdir(dir));) {
            size_t len = strlen(e->d_name);
            if (e->d_name[0] == '.') continue;
            if (i == 2 && (len < 5 || strcmp(e->d_name + len - 5, ".gguf") != 0)) continue;
            char *model = mu_path_join(path, e->d_name);
            mu_model_file_close(open_good(model));
            mu_free(model);
            n++;
        }
        (void)closedir(dir);
        mu_free(path);
    }
    print_message("# %u models of the oracle\n", n);
    assert_true(n >= 37);
}

/* ---- Writing, reading back ----------------------------------------------------------------- */

/* Copies tensors [first, end) of `source` into a new file that claims to be part `number`. */
static void write_part(const struct mu_model_file *source, size_t first, size_t end,
                       const char *path, uint32_t number, uint32_t count)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_gguf_out *out;
    const struct mu_tensor *t;
    (void)mu_model_file_tensors(source, &t);
    assert_int_equal(mu_gguf_out_create(path, &out, &err), MU_OK);
    if (count > 1) {
        mu_gguf_out_u32(out, "split.no", number);
        mu_gguf_out_u32(out, "split.count", count);
    }
    mu_gguf_out_string(out, "general.name", MU_STR("replaced"));
    if (number == 0) mu_gguf_out_metadata_of(out, source);
    for (size_t i = first; i < end; i++)
        mu_gguf_out_tensor(out, t[i].name, t[i].type, t[i].n_dims, t[i].dims);
    assert_int_equal(mu_gguf_out_begin(out, &err), MU_OK);
    for (size_t i = first; i < end; i++) {
        uint64_t half = t[i].n_bytes / 2;
        assert_int_equal(mu_gguf_out_bytes(out, t[i].data, half, &err), MU_OK);
        assert_int_equal(mu_gguf_out_bytes(out, t[i].data + half, t[i].n_bytes - half, &err),
                         MU_OK);
    }
    assert_int_equal(access(path, F_OK), -1);
    assert_int_equal(mu_gguf_out_commit(out, &err), MU_OK);
    mu_gguf_out_close(out);
}

static void assert_same_model(const struct mu_model_file *a, const struct mu_model_file *b)
{
    const struct mu_tensor *t;
    size_t n = mu_model_file_tensors(a, &t);
    assert_int_equal(mu_model_file_tensors(b, &t), n);
    assert_memory_equal(mu_model_file_config(a), mu_model_file_config(b), sizeof(struct mu_config));
    (void)mu_model_file_tensors(a, &t);
    for (size_t i = 0; i < n; i++) {
        const struct mu_tensor *u = mu_model_file_find(b, t[i].name);
        assert_non_null(u);
        assert_int_equal(t[i].type, u->type);
        assert_memory_equal(t[i].dims, u->dims, sizeof u->dims);
        assert_memory_equal(t[i].data, u->data, u->n_bytes);
    }
}

static void check_round_trip(void **state)
{
    (void)state;
    struct mu_str name;
    const struct mu_tensor *t;
    struct mu_model_file *source = open_golden("golden/6_quant/gguf/legacy_mix.gguf");
    char *path = mu_path_join(folder, "copy.gguf");
    write_part(source, 0, mu_model_file_tensors(source, &t), path, 0, 1);
    struct mu_model_file *copy = open_good(path);
    assert_same_model(source, copy);
    assert_true(mu_gguf_string(mu_model_file_gguf(copy), "general.name", &name));
    assert_true(mu_str_is(name, "replaced"));
    mu_model_file_close(copy);
    copy = open_good(folder); /* a folder with one .gguf is that file */
    mu_model_file_close(copy);
    (void)unlink(path);
    mu_free(path);
    mu_model_file_close(source);
}

static void check_split(void **state)
{
    (void)state;
    struct mu_err err;
    const struct mu_tensor *t;
    const char *const *paths;
    struct mu_model_file *source = open_golden("golden/6_quant/gguf/legacy_mix.gguf");
    size_t n = mu_model_file_tensors(source, &t);
    char *first = mu_path_join(folder, "m-00001-of-00003.gguf");
    char *second = mu_path_join(folder, "m-00002-of-00003.gguf");
    char *third = mu_path_join(folder, "m-00003-of-00003.gguf");
    write_part(source, 0, n / 3, first, 0, 3);
    write_part(source, n / 3, n / 2, second, 1, 3);
    write_part(source, n / 2, n, third, 2, 3);
    struct mu_model_file *whole = open_good(folder);
    assert_int_equal(mu_model_file_paths(whole, &paths), 3);
    assert_same_model(source, whole);
    mu_model_file_close(whole);
    assert_int_equal(open_bad(second, &err), MU_E_INPUT);
    assert_non_null(strstr(err.cure, "-00001-of-00003.gguf"));
    (void)unlink(third);
    assert_int_equal(open_bad(first, &err), MU_E_MISSING);
    (void)rename(second, third);
    write_part(source, 0, 1, second, 1, 3);
    assert_int_equal(open_bad(first, &err), MU_E_INPUT); /* part 3 says it is part 2 */
    (void)unlink(first);
    (void)unlink(second);
    (void)unlink(third);
    mu_free(first);
    mu_free(second);
    mu_free(third);
    mu_model_file_close(source);
}

/* A configuration written from a folder reads back from GGUF as the same facts. */
static void check_config_to_gguf(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    struct mu_gguf_out *out;
    struct mu_model_file *source = open_golden("golden/1_tiny/qwen2");
    char *path = mu_path_join(folder, "q.gguf");
    const uint64_t dims[] = {512, 96};
    float *zeros = mu_calloc(dims[0] * dims[1], sizeof *zeros);
    assert_int_equal(mu_gguf_out_create(path, &out, &err), MU_OK);
    mu_gguf_out_metadata_of(out, source);
    mu_gguf_out_tensor(out, "token_embd.weight", MU_DTYPE_F32, 2, dims);
    assert_int_equal(mu_gguf_out_begin(out, &err), MU_OK);
    assert_int_equal(mu_gguf_out_bytes(out, zeros, sizeof *zeros * 512 * 96, &err), MU_OK);
    assert_int_equal(mu_gguf_out_bytes(out, zeros, 1, NULL), MU_E_INTERNAL);
    assert_int_equal(mu_gguf_out_commit(out, &err), MU_OK);
    mu_gguf_out_close(out);
    mu_free(zeros);
    struct mu_model_file *copy = open_good(path);
    const struct mu_config *a = mu_model_file_config(source), *b = mu_model_file_config(copy);
    assert_string_equal(a->architecture, b->architecture);
    assert_int_equal(a->n_layers, b->n_layers);
    assert_int_equal(a->hidden, b->hidden);
    assert_int_equal(a->n_kv_heads, b->n_kv_heads);
    assert_int_equal(a->head_dim, b->head_dim);
    assert_int_equal(a->context, b->context);
    assert_true(a->rope.theta == b->rope.theta && b->rope.partial == 1);
    assert_true((float)a->norm_eps == (float)b->norm_eps);
    assert_int_equal(a->eos[0], b->eos[0]);
    assert_string_equal(mu_model_file_chat_template(source, false),
                        mu_model_file_chat_template(copy, false));
    mu_model_file_close(copy);
    mu_model_file_close(source);
    (void)unlink(path);
    mu_free(path);
}

/* Every prefix of a GGUF file is refused, and nothing is read beyond its end. */
static void check_gguf_cuts(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    struct mu_file_map map;
    char *path = data_path("golden/hostile/cases/gguf_valid/model.gguf");
    assert_int_equal(mu_file_map(path, &map, &err), MU_OK);
    for (uint64_t size = 0; size < map.size; size += size < 8000 ? 7 : 997) {
        uint8_t *bytes = mu_alloc(size);
        if (size) memcpy(bytes, map.bytes, size);
        struct mu_file_bytes file = {path, bytes, size, 0};
        struct mu_arena *arena = mu_arena_create(1 << 24);
        struct mu_tensor_list list = {0};
        struct mu_gguf *gguf;
        assert_int_equal(mu_gguf_parse(&file, arena, &list, &gguf, NULL), MU_E_INPUT);
        mu_arena_destroy(arena);
        mu_free(list.items);
        mu_free(bytes);
    }
    mu_file_unmap(&map);
    mu_free(path);
}

/* ---- Where models lie ---------------------------------------------------------------------- */

static void write_file(const char *below, const char *content)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_file_out out;
    char *path = mu_path_join(folder, below);
    char *slash = strrchr(path, '/');
    *slash = '\0';
    assert_int_equal(mu_folder_make(path, &err), MU_OK);
    *slash = '/';
    assert_int_equal(mu_file_out_open(&out, path, &err), MU_OK);
    assert_int_equal(mu_file_out_write(&out, content, strlen(content), &err), MU_OK);
    assert_int_equal(mu_file_out_commit(&out, &err), MU_OK);
    mu_file_out_close(&out);
    mu_free(path);
}

static void link_golden(const char *name, const char *below)
{
    char *from = data_path("golden/1_tiny/llama_gqa"), *file = mu_path_join(from, name);
    char *real = realpath(file, NULL), *to = mu_path_join(folder, below);
    assert_non_null(real);
    assert_int_equal(symlink(real, to), 0);
    free(real);
    mu_free(from);
    mu_free(file);
    mu_free(to);
}

static void check_hub_cache(void **state)
{
    (void)state;
    struct mu_err err;
    (void)setenv("HF_HUB_CACHE", folder, 1);
    write_file("models--some--model/refs/main", "0123abcd\n");
    write_file("models--some--model/snapshots/0123abcd/README.md", "");
    link_golden("config.json", "models--some--model/snapshots/0123abcd/config.json");
    link_golden("model.safetensors", "models--some--model/snapshots/0123abcd/model.safetensors");
    struct mu_model_file *file = open_good("some/model");
    assert_int_equal(mu_model_file_config(file)->n_layers, 3);
    mu_model_file_close(file);
    mu_model_file_close(open_good("some/model@0123abcd"));
    assert_int_equal(open_bad("some/model@other", &err), MU_E_MISSING);
    assert_int_equal(open_bad("some/absent", &err), MU_E_MISSING);
    assert_non_null(strstr(err.cure, "hub id that is on this disk"));
    write_file("models--some--model/refs/evil", "../../..");
    assert_int_equal(open_bad("some/model@evil", &err), MU_E_INPUT);
    assert_int_equal(open_bad("../model", &err), MU_E_MISSING);
    assert_int_equal(open_bad("", &err), MU_E_MISSING);
    (void)unsetenv("HF_HUB_CACHE");
    (void)setenv("HF_HOME", folder, 1);
    assert_int_equal(open_bad("some/model", &err), MU_E_MISSING); /* HF_HOME/hub it is */
    (void)unsetenv("HF_HOME");
}

static void check_templates(void **state)
{
    (void)state;
    struct mu_err err = MU_ERR_INIT;
    char *path = mu_path_join(folder, "t");
    struct mu_model_file *file;
    write_file("t/config.json", "{\"model_type\":\"llama\"}");
    write_file("t/tokenizer_config.json",
               "{\"chat_template\":[{\"name\":\"default\",\"template\":\"A\"},"
               "{\"name\":\"tool_use\",\"template\":\"B\"}]}");
    assert_int_equal(mu_model_file_open(path, MU_OPEN_HEADER_ONLY, &file, &err), MU_OK);
    assert_string_equal(mu_model_file_chat_template(file, false), "A");
    assert_string_equal(mu_model_file_chat_template(file, true), "B");
    mu_model_file_close(file);
    write_file("t/chat_template.jinja", "C");
    assert_int_equal(mu_model_file_open(path, MU_OPEN_HEADER_ONLY, &file, &err), MU_OK);
    assert_string_equal(mu_model_file_chat_template(file, true), "C");
    mu_model_file_close(file);
    assert_int_equal(open_bad(path, &err), MU_E_MISSING); /* without weights, unless told so */
    mu_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(check_golden_folders),
        cmocka_unit_test(check_golden_gguf),
        cmocka_unit_test(check_oracle),
        cmocka_unit_test_setup_teardown(check_round_trip, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(check_split, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(check_config_to_gguf, make_folder, drop_folder),
        cmocka_unit_test(check_gguf_cuts),
        cmocka_unit_test_setup_teardown(check_hub_cache, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(check_templates, make_folder, drop_folder),
    };
    return cmocka_run_group_tests_name("format/open", tests, NULL, NULL);
}
