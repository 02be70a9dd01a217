/* The reader of one safetensors file: the reference implementation's own vectors, byte for byte. */
#include "format/format_int.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

struct vector {
    const char *name, *header;
    uint64_t said_len; /* 0: as long as the header is */
    uint64_t n_data;
    bool good;
};

static const struct vector vectors[] = {
    {"valid", "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", 0, 16,
     true},
    {"empty", "{}      ", 0, 0, true},
    {"metadata", "{\"__metadata__\":{\"framework\":\"pt\"}}     ", 0, 0, true},
    {"metadata null", "{\"__metadata__\":null}", 0, 0, true},
    {"scalar", "{\"t\":{\"dtype\":\"I32\",\"shape\":[],\"data_offsets\":[0,4]}}", 0, 4, true},
    {"zero size", "{\"t\":{\"dtype\":\"I32\",\"shape\":[2,0],\"data_offsets\":[0,0]}}", 0, 0, true},
    {"zero sizes share a place",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\","
     "\"shape\":[0],\"data_offsets\":[4,4]},\"c\":{\"dtype\":\"U8\",\"shape\":[0],"
     "\"data_offsets\":[4,4]},\"d\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
     0, 4, true},
    {"unknown key", "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 0, 1,
     true},
    {"f4", "{\"t\":{\"dtype\":\"F4\",\"shape\":[1,2],\"data_offsets\":[0,1]}}", 0, 1, true},
    {"f4 half a byte", "{\"t\":{\"dtype\":\"F4\",\"shape\":[1,3],\"data_offsets\":[0,1]}}", 0, 1,
     false},
    {"trailing bytes", "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", 0,
     51, false},
    {"two bytes short", "{\"test\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]}}", 0,
     14, false},
    {"header too large", "{}", 0xffffff000000003c, 0, false},
    {"header at 100 MB + 1", "{}", 100000001, 0, false},
    {"only a length", "", 0x3c, 0, false},
    {"not utf-8", "\xff", 0, 0, false},
    {"only a brace", "{", 0, 0, false},
    {"white space in front", "  {}", 0, 0, false},
    {"nul padding", "{}", 3, 1, false},
    {"info mismatch", "{\"t\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,4]}}", 0, 4,
     false},
    {"overflow",
     "{\"t\":{\"dtype\":\"I32\",\"shape\":[2,18446744073709551614],"
     "\"data_offsets\":[0,16]}}",
     0, 16, false},
    {"overflow signed",
     "{\"t\":{\"dtype\":\"I32\",\"shape\":[2,9223372036854775807],"
     "\"data_offsets\":[0,16]}}",
     0, 16, false},
    {"overlap",
     "{\"a\":{\"dtype\":\"I32\",\"shape\":[2,2],\"data_offsets\":[0,16]},\"b\":{\"dtype\":\"I32\","
     "\"shape\":[2,2],\"data_offsets\":[0,16]}}",
     0, 16, false},
    {"real offset", "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1.0]}}", 0, 1,
     false},
    {"real shape", "{\"t\":{\"dtype\":\"U8\",\"shape\":[1e0],\"data_offsets\":[0,1]}}", 0, 1,
     false},
    {"three offsets", "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1,1]}}", 0, 1,
     false},
    {"lower case dtype", "{\"t\":{\"dtype\":\"u8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 0, 1,
     false},
    {"entry is an array", "{\"t\":[\"U8\",[1],[0,1]]}", 0, 1, false},
    {"escaped duplicate",
     "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"\\u0061\":{\"dtype\":\"U8\","
     "\"shape\":[1],\"data_offsets\":[1,2]}}",
     0, 2, false},
    {"lone surrogate", "{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 0,
     1, false},
    {"name with nul", "{\"a\\u0000b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 0,
     1, false},
    {"nine dimensions",
     "{\"t\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 0, 1,
     false},
    {"metadata holds a number", "{\"__metadata__\":{\"a\":1}}", 0, 0, false},
    {"top is an array", "[]", 0, 0, false},
};

static mu_status parse(const uint8_t *bytes, uint64_t size, struct mu_tensor_list *list,
                       struct mu_arena *arena)
{
    struct mu_err err = MU_ERR_INIT;
    struct mu_file_bytes file = {"test.safetensors", bytes, size, 0};
    mu_status status = mu_safetensors_parse(&file, arena, list, &err);
    if (status != MU_OK) {
        assert_string_not_equal(err.what, "");
        assert_memory_equal(err.where, "test.safetensors", 16);
    }
    return status;
}

static void check_vectors(void **state)
{
    (void)state;
    for (size_t i = 0; i < MU_ARRAY_LEN(vectors); i++) {
        const struct vector *v = &vectors[i];
        uint64_t len = strlen(v->header), said = v->said_len ? v->said_len : len;
        /* On the heap at its exact size, so that a sanitizer sees every byte read beyond. */
        uint8_t *bytes = mu_calloc(1, 8 + len + v->n_data);
        memcpy(bytes, &said, 8);
        memcpy(bytes + 8, v->header, len);
        struct mu_arena *arena = mu_arena_create(1 << 20);
        struct mu_tensor_list list = {0};
        mu_status status = parse(bytes, 8 + len + v->n_data, &list, arena);
        if ((status == MU_OK) != v->good) fail_msg("%s: status %d", v->name, status);
        for (uint64_t t = 0; v->good && t < list.n; t++)
            assert_true(list.items[t].data + list.items[t].n_bytes <= bytes + 8 + len + v->n_data);
        mu_arena_destroy(arena);
        mu_free(list.items);
        mu_free(bytes);
    }
}

static void check_cuts(void **state)
{
    (void)state;
    const struct vector *v = &vectors[0];
    uint64_t len = strlen(v->header), whole = 8 + len + v->n_data;
    for (uint64_t size = 0; size < whole; size++) {
        uint8_t *bytes = mu_calloc(1, size ? size : 1);
        uint8_t full[128] = {0};
        memcpy(full, &len, 8);
        memcpy(full + 8, v->header, len);
        memcpy(bytes, full, size);
        struct mu_arena *arena = mu_arena_create(1 << 20);
        struct mu_tensor_list list = {0};
        assert_int_not_equal(parse(bytes, size, &list, arena), MU_OK);
        mu_arena_destroy(arena);
        mu_free(list.items);
        mu_free(bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(check_vectors),
                                       cmocka_unit_test(check_cuts)};
    return cmocka_run_group_tests_name("format/safetensors", tests, NULL, NULL);
}
