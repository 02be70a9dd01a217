/*
 * Quantised checkpoints of transformers: matrices against what the libraries that wrote them say,
 * rows in any pieces, and parts that are missing or do not fit. With ORACLE its whole set is read.
 */
#include "format/format_int.h"

#include "base/file.h"
#include "kernel/kernel.h"
#include "open.h"

#include <math.h>
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
    (void)snprintf(folder, sizeof folder, "/tmp/muster-quantised-XXXXXX");
    return mkdtemp(folder) ? 0 : 1;
}

static int drop_folder(void **state)
{
    static const char *const names[] = {"config.json", "model.safetensors"};
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(names); i++) {
        char *path = mu_path_join(folder, names[i]);
        (void)unlink(path);
        mu_free(path);
    }
    return rmdir(folder);
}

/* ---- A checkpoint with one matrix ---------------------------------------------------------- */

struct part {
    char name[80], dtype[16];
    json_t *shape;
    uint8_t *data;
    size_t n;
};

struct parts {
    struct part items[16];
    unsigned n;
    json_t *config; /* its quantization_config */
    char matrix[16];
};

static struct part *part_of(struct parts *p, const char *name)
{
    for (unsigned i = 0; i < p->n; i++)
        if (strcmp(p->items[i].name, name) == 0) return &p->items[i];
    fail_msg("the golden file has no %s", name);
    return NULL;
}

static void drop_part(struct parts *p, const char *name)
{
    struct part *gone = part_of(p, name);
    json_decref(gone->shape);
    mu_free(gone->data);
    *gone = p->items[--p->n];
}

static void parts_load(struct parts *p, const char *path)
{
    struct mu_file_map map;
    struct mu_err err = MU_ERR_INIT;
    const char *name;
    json_t *root, *entry;
    uint64_t header;
    assert_int_equal(mu_file_map(path, &map, &err), MU_OK);
    memcpy(&header, map.bytes, 8);
    struct mu_str text = {(const char *)map.bytes + 8, header};
    assert_int_equal(mu_json_parse(text, path, &root, &err), MU_OK);
    json_object_foreach(root, name, entry)
    {
        if (strcmp(name, "__metadata__") == 0) continue;
        struct part *part = &p->items[p->n++];
        json_t *offsets = json_object_get(entry, "data_offsets");
        size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0));
        part->n = (size_t)json_integer_value(json_array_get(offsets, 1)) - begin;
        part->shape = json_incref(json_object_get(entry, "shape"));
        (void)snprintf(part->name, sizeof part->name, "%s", name);
        (void)snprintf(part->dtype, sizeof part->dtype, "%s",
                       json_string_value(json_object_get(entry, "dtype")));
        part->data = mu_alloc(part->n);
        memcpy(part->data, map.bytes + 8 + header + begin, part->n);
    }
    json_decref(root);
    mu_file_unmap(&map);
}

static void parts_fini(struct parts *p)
{
    while (p->n > 0)
        drop_part(p, p->items[0].name);
    json_decref(p->config);
}

static void write_file(const char *name, const void *a, size_t n_a, const char *b)
{
    char *path = mu_path_join(folder, name);
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(a, 1, n_a, f), n_a);
    if (b) assert_int_equal(fwrite(b, 1, strlen(b), f), strlen(b));
    assert_int_equal(fclose(f), 0);
    mu_free(path);
}

static void parts_save(const struct parts *p)
{
    struct mu_text data;
    json_t *root = json_object(), *config;
    uint64_t at = 0, len;
    mu_text_init(&data, 1 << 24);
    for (unsigned i = 0; i < p->n; i++) {
        const struct part *part = &p->items[i];
        json_int_t begin = (json_int_t)at, end = begin + (json_int_t)part->n;
        json_t *entry = json_pack("{s:s,s:O,s:[I,I]}", "dtype", part->dtype, "shape", part->shape,
                                  "data_offsets", begin, end);
        assert_int_equal(json_object_set_new(root, part->name, entry), 0);
        at += part->n;
    }
    char *header = json_dumps(root, JSON_COMPACT);
    len = strlen(header);
    mu_text_add(&data, &len, 8);
    mu_text_str(&data, header);
    for (unsigned i = 0; i < p->n; i++)
        mu_text_add(&data, p->items[i].data, p->items[i].n);
    write_file("model.safetensors", mu_text_get(&data), data.len, NULL);
    config = json_pack("{s:s,s:O}", "model_type", "one_matrix", "quantization_config", p->config);
    char *text = json_dumps(config, 0);
    write_file("config.json", text, strlen(text), "\n");
    free(text);
    free(header);
    mu_text_fini(&data);
    json_decref(config);
    json_decref(root);
}

/* What the config.json of a whole model would say of an entry of the index. */
static json_t *config_of(const json_t *entry)
{
    const char *format = json_string_value(json_object_get(entry, "format"));
    const char *dash = strchr(format, '/');
    json_t *bits = json_object_get(entry, "bits"), *group = json_object_get(entry, "group_size");
    if (strncmp(format, "awq", 3) == 0)
        return json_pack("{s:s,s:O,s:O,s:s}", "quant_method", "awq", "bits", bits, "group_size",
                         group, "version", "gemm");
    if (strncmp(format, "gptq", 4) == 0)
        return json_pack("{s:s,s:O,s:O,s:s}", "quant_method", "gptq", "bits", bits, "group_size",
                         group, "checkpoint_format", format);
    if (strcmp(format, "bitsandbytes-int8") == 0)
        return json_pack("{s:s,s:b}", "quant_method", "bitsandbytes", "load_in_8bit", 1);
    if (strcmp(format, "bitsandbytes-4bit") == 0)
        return json_pack("{s:s,s:b,s:O}", "quant_method", "bitsandbytes", "load_in_4bit", 1,
                         "bnb_4bit_quant_type", json_object_get(entry, "quant_type"));
    if (strcmp(format, "fp8") == 0)
        return json_pack("{s:s,s:O}", "quant_method", "fp8", "weight_block_size",
                         json_object_get(entry, "weight_block_size"));
    if (strncmp(format, "mxfp4", 5) == 0) return json_pack("{s:s}", "quant_method", "mxfp4");
    return json_pack("{s:s,s:s,s:{s:{s:{s:O?,s:O?}}}}", "quant_method", "compressed-tensors",
                     "format", dash + 1, "config_groups", "group_0", "weights", "num_bits", bits,
                     "group_size", group);
}

/* The golden parts of the first file whose name begins so. */
static void parts_golden(struct parts *p, const char *root, const char *file)
{
    char *path = mu_path_join(root, "index.json"), *data = mu_path_join(root, file);
    struct mu_err err = MU_ERR_INIT;
    json_t *index, *entry;
    size_t i;
    *p = (struct parts){.n = 0};
    assert_int_equal(mu_json_read(path, 1 << 20, &index, &err), MU_OK);
    json_array_foreach(index, i, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "file")), file) == 0)
            p->config = config_of(entry);
    }
    assert_non_null(p->config);
    parts_load(p, data);
    json_decref(index);
    mu_free(path);
    mu_free(data);
}

/* ---- Values -------------------------------------------------------------------------------- */

/* All rows as floats, made `step` at a time. */
static float *values_of(const struct mu_tensor *t, uint64_t step)
{
    uint64_t cols = t->dims[t->n_dims - 1], rows = t->n_values / cols;
    uint8_t *scratch = mu_alloc(step * mu_tensor_row_bytes(t));
    float *values = mu_alloc(t->n_values * sizeof *values);
    for (uint64_t row = 0; row < rows; row += step) {
        uint64_t n = MU_MIN(step, rows - row);
        mu_codec_decode(t->type, mu_tensor_rows(t, row, n, scratch), values + row * cols, n * cols);
    }
    mu_free(scratch);
    return values;
}

static void check_values(const char *root, const json_t *entry)
{
    struct parts p;
    const char *name = json_string_value(json_object_get(entry, "file"));
    float tolerance = json_is_true(json_object_get(entry, "double_quant")) ? 1e-5f : 1e-6f;
    parts_golden(&p, root, name);
    parts_save(&p);
    struct mu_model_file *file = open_good(folder);
    const struct mu_tensor *t = mu_model_file_find(file, "weight"), *all;
    const struct mu_tensor *expected = mu_model_file_find(file, "expected");
    assert_true(t && expected && t->quantised && t->n_values == expected->n_values);
    assert_int_equal(mu_model_file_tensors(file, &all), 2); /* the parts are no longer seen */
    float *whole = values_of(t, 1000), *single = values_of(t, 1), *odd = values_of(t, 7);
    for (uint64_t i = 0; i < t->n_values; i++) {
        float want;
        memcpy(&want, expected->data + 4 * i, 4);
        if (whole[i] != want && !(fabsf(whole[i] - want) <= tolerance * fabsf(want)))
            fail_msg("%s: value %llu is %g, not %g", name, (unsigned long long)i, (double)whole[i],
                     (double)want);
    }
    assert_memory_equal(whole, single, t->n_values * sizeof *whole);
    assert_memory_equal(whole, odd, t->n_values * sizeof *whole);
    print_message("%s: %s\n", name, mu_dtype(t->type)->name);
    mu_free(whole);
    mu_free(single);
    mu_free(odd);
    mu_model_file_close(file);
    parts_fini(&p);
}

/* Codes without a scale, which no method has. */
static void check_e4m3(const char *root, const char *name)
{
    struct parts p = {.n = 0};
    char *path = mu_path_join(root, name);
    parts_load(&p, path);
    const struct part *codes = part_of(&p, "weight"), *expected = part_of(&p, "expected");
    for (size_t i = 0; i < codes->n; i++) {
        float want, got = mu_e4m3_to_f32(codes->data[i]);
        memcpy(&want, expected->data + 4 * i, 4);
        assert_true(got == want || (isnan(got) && isnan(want)));
    }
    parts_fini(&p);
    mu_free(path);
}

static unsigned check_folder(const char *root)
{
    char *path = mu_path_join(root, "index.json");
    struct mu_err err = MU_ERR_INIT;
    json_t *index, *entry;
    unsigned n = 0;
    size_t i;
    assert_int_equal(mu_json_read(path, 1 << 20, &index, &err), MU_OK);
    json_array_foreach(index, i, entry)
    {
        if (strcmp(json_string_value(json_object_get(entry, "format")), "f8_e4m3") == 0)
            check_e4m3(root, json_string_value(json_object_get(entry, "file")));
        else
            check_values(root, entry);
        n++;
    }
    json_decref(index);
    mu_free(path);
    return n;
}

static void golden_matrices(void **state)
{
    char *root = data_path("golden/6_quant/tensors");
    (void)state;
    assert_int_equal(check_folder(root), 13);
    mu_free(root);
}

static void all_matrices_of_the_oracle(void **state)
{
    const char *oracle = getenv("ORACLE");
    (void)state;
    if (!oracle) skip();
    char *root = mu_path_join(oracle, "6_quant/tensors");
    assert_int_equal(check_folder(root), 44);
    mu_free(root);
}

/* ---- What does not fit --------------------------------------------------------------------- */

static void refuse(const struct parts *p, mu_status code, const char *says)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_model_file *file = NULL;
    char line[768];
    parts_save(p);
    if (mu_model_file_open(folder, 0, &file, &err) == MU_OK) {
        mu_model_file_close(file);
        fail_msg("opened in spite of %s", says);
    }
    assert_int_equal(err.code, code);
    if (!strstr(mu_err_line(&err, line, sizeof line), says))
        fail_msg("'%s' is not in: %s", says, line);
}

static const struct {
    const char *file;
    const char *parts[6]; /* that every one is needed of */
} needs[] = {
    {"awq_2.safetensors", {"qzeros", "scales"}},
    {"gptq4_2.safetensors", {"qzeros", "scales"}},
    {"bnb_nf4_2.safetensors",
     {"weight", "weight.absmax", "weight.nested_absmax", "weight.nested_quant_map"}},
    {"bnb_int8_2.safetensors", {"weight"}},
    {"ct_w4a16_1.safetensors", {"weight_scale", "weight_shape"}},
    {"ct_w8a8_2.safetensors", {"weight"}},
    {"fp8_block_2.safetensors", {"weight"}},
    {"mxfp4_all_codes.safetensors", {"scales"}},
};

static void a_missing_part_is_named(void **state)
{
    char *root = data_path("golden/6_quant/tensors");
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(needs); i++)
        for (int j = 0; j < 6 && needs[i].parts[j]; j++) {
            struct parts p;
            parts_golden(&p, root, needs[i].file);
            drop_part(&p, needs[i].parts[j]);
            refuse(&p, MU_E_INPUT, needs[i].parts[j]);
            parts_fini(&p);
        }
    mu_free(root);
}

/* With half of the first dimension, or three times that where it is odd. */
static void resize_part(struct part *part)
{
    json_int_t first = json_integer_value(json_array_get(part->shape, 0));
    bool odd = first % 2 != 0;
    part->data = mu_realloc(part->data, 3 * part->n);
    memset(part->data + part->n, 0, 2 * part->n);
    part->n = odd ? 3 * part->n : part->n / 2;
    json_array_set_new(part->shape, 0, json_integer(odd ? 3 * first : first / 2));
}

/* As integers or fractions of the same size that no part has. */
static void retype_part(struct part *part)
{
    static const char *const types[][2] = {{"F32", "U32"},  {"I32", "F32"},     {"F16", "I16"},
                                           {"BF16", "I16"}, {"I8", "BOOL"},     {"U8", "BOOL"},
                                           {"I64", "F64"},  {"F8_E4M3", "BOOL"}};
    for (size_t i = 0; i < MU_ARRAY_LEN(types); i++)
        if (strcmp(part->dtype, types[i][0]) == 0) {
            (void)snprintf(part->dtype, sizeof part->dtype, "%s", types[i][1]);
            return;
        }
}

static void empty_part(struct part *part)
{
    part->n = 0;
    json_array_set_new(part->shape, 0, json_integer(0));
}

static void parts_that_do_not_fit_are_refused(void **state)
{
    static void (*const spoil[])(struct part *) = {resize_part, retype_part, empty_part};
    char *root = data_path("golden/6_quant/tensors");
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(needs); i++)
        for (int j = 0; j < 6 && needs[i].parts[j]; j++)
            for (size_t kind = 0; kind < MU_ARRAY_LEN(spoil); kind++) {
                struct parts p;
                bool fp8 = strncmp(needs[i].file, "fp8", 3) == 0; /* half as many rows do fit */
                bool bytes = strcmp(needs[i].file, "bnb_nf4_2.safetensors") == 0 && j == 0;
                if ((fp8 && kind == 0) || (bytes && kind == 1)) continue;
                parts_golden(&p, root, needs[i].file);
                spoil[kind](part_of(&p, needs[i].parts[j]));
                refuse(&p, MU_E_INPUT, "");
                parts_fini(&p);
            }
    mu_free(root);
}

static void strange_contents_are_refused(void **state)
{
    char *root = data_path("golden/6_quant/tensors");
    struct parts p;
    (void)state;
    parts_golden(&p, root, "gptq2_2.safetensors");
    part_of(&p, "g_idx")->data[4 * 17] = 12;
    refuse(&p, MU_E_INPUT, "g_idx");
    part_of(&p, "g_idx")->data[4 * 17] = 0;
    part_of(&p, "g_idx")->data[4 * 17 + 3] = 0xff;
    refuse(&p, MU_E_INPUT, "g_idx");
    json_object_set_new(p.config, "bits", json_integer(5));
    refuse(&p, MU_E_UNSUPPORTED, "bits");
    parts_fini(&p);

    parts_golden(&p, root, "bnb_int8_2.safetensors");
    part_of(&p, "weight_format")->data[0] = 1;
    refuse(&p, MU_E_UNSUPPORTED, "weight_format");
    parts_fini(&p);

    parts_golden(&p, root, "bnb_nf4_2.safetensors");
    part_of(&p, "weight.quant_map")->data[3] ^= 1;
    refuse(&p, MU_E_UNSUPPORTED, "quant_map");
    part_of(&p, "weight.quant_map")->data[3] ^= 1;
    part_of(&p, "weight.quant_state.bitsandbytes__nf4")->data[0] = 'x';
    refuse(&p, MU_E_INPUT, "quant_state");
    parts_fini(&p);

    parts_golden(&p, root, "ct_w4a16_1.safetensors");
    part_of(&p, "weight_shape")->data[7] = 0x80; /* negative */
    refuse(&p, MU_E_INPUT, "weight_shape");
    parts_fini(&p);
    mu_free(root);
}

/* Methods and forms that are not read leave the tensors as they are, for inspect to show. */
static void unknown_forms_are_left_alone(void **state)
{
    static const char *const configs[] = {
        "{\"quant_method\":\"awq\",\"bits\":4,\"version\":\"gemv\"}",
        "{\"quant_method\":\"gptq\",\"bits\":4,\"checkpoint_format\":\"marlin\"}",
        "{\"quant_method\":\"compressed-tensors\",\"format\":\"marlin-24\"}",
        ("{\"quant_method\":\"compressed-tensors\",\"format\":\"float-quantized\","
         "\"sparsity_config\":{\"format\":\"sparse-24-bitmask\"}}"),
        "{\"quant_method\":\"aqlm\"}",
    };
    char *root = data_path("golden/6_quant/tensors");
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(configs); i++) {
        struct parts p;
        parts_golden(&p, root, "awq_2.safetensors");
        json_decref(p.config);
        p.config = json_loads(configs[i], 0, NULL);
        assert_non_null(p.config);
        parts_save(&p);
        struct mu_model_file *file = open_good(folder);
        assert_non_null(mu_model_file_find(file, "qweight"));
        assert_false(mu_model_file_config(file)->quant_known);
        mu_model_file_close(file);
        parts_fini(&p);
    }
    mu_free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(golden_matrices),
        cmocka_unit_test(all_matrices_of_the_oracle),
        cmocka_unit_test(a_missing_part_is_named),
        cmocka_unit_test(parts_that_do_not_fit_are_refused),
        cmocka_unit_test(strange_contents_are_refused),
        cmocka_unit_test(unknown_forms_are_left_alone),
    };
    return cmocka_run_group_tests(tests, make_folder, drop_folder);
}
