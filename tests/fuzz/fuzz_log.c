/*
 * Any bytes as a log, cut in pieces; as a line to explain; as a catalogue. The first byte selects.
 * What comes out must be printable UTF-8, whatever went in.
 */
#include "base/alloc.h"
#include "base/utf8.h"
#include "health/health_int.h"

#include <stdlib.h>

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) abort();                                                                         \
    } while (0)

static struct mu_health_catalog *catalog;

static void check_text(struct mu_text *text)
{
    CHECK(text->len == 0 || mu_utf8_valid((struct mu_str){text->p, text->len}));
    for (size_t i = 0; i < text->len; i++)
        CHECK((unsigned char)text->p[i] >= ' ' || text->p[i] == '\n');
    mu_text_fini(text);
}

static void as_log(const uint8_t *bytes, size_t len, size_t piece)
{
    struct mu_health_diagnosis *d = NULL;
    enum mu_health_verdict verdict;
    CHECK(mu_health_diagnosis_create(catalog, &d, NULL) == MU_OK);
    CHECK(mu_health_log_begin(d, "fuzz", NULL) == MU_OK);
    for (size_t i = 0; i < len; i += piece)
        CHECK(mu_health_log_feed(d, bytes + i, MU_MIN(piece, len - i), NULL) == MU_OK);
    CHECK(mu_health_log_end(d, NULL) == MU_OK);
    CHECK(mu_health_conclude(d, &verdict, NULL) == MU_OK);
    const struct mu_health_finding *first = mu_health_first_cause(d);
    CHECK((first != NULL) == (verdict == MU_HEALTH_FAILED || verdict == MU_HEALTH_SLOW));
    struct mu_text text;
    mu_text_init(&text, 8 << 20);
    mu_health_report_text(d, &text);
    check_text(&text);
    json_t *document = NULL;
    CHECK(mu_health_report_json(d, &document, NULL) == MU_OK);
    json_decref(document);
    mu_health_diagnosis_destroy(d);
}

static void as_line(const uint8_t *bytes, size_t len)
{
    json_t *explanation = NULL;
    bool known;
    struct mu_str line = {(const char *)bytes, len};
    CHECK(mu_health_explain(catalog, line, &explanation, &known, NULL) == MU_OK);
    struct mu_text text;
    mu_text_init(&text, 8 << 20);
    mu_health_explain_text(explanation, &text);
    check_text(&text);
    json_decref(explanation);
}

static void as_pattern(const uint8_t *bytes, size_t len)
{
    struct mu_arena *arena = mu_arena_create(1 << 20);
    char *pattern = mu_arena_strndup(arena, (const char *)bytes, len);
    struct mu_str set[MU_HEALTH_LITERAL_SET_MAX];
    int n = mu_health_literals_of(pattern, arena, set);
    CHECK(n <= MU_HEALTH_LITERAL_SET_MAX);
    for (int i = 0; i < n; i++)
        CHECK(set[i].len >= MU_HEALTH_LITERAL_MIN);
    (void)mu_health_plain_of(pattern, arena);
    mu_arena_destroy(arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (!catalog) CHECK(mu_health_catalog_open(NULL, &catalog, NULL) == MU_OK);
    if (len == 0) return 0;
    uint8_t mode = *bytes++;
    len--;
    if (mode % 8 == 0)
        as_line(bytes, len);
    else if (mode % 8 == 1)
        as_pattern(bytes, len);
    else
        as_log(bytes, len, (size_t)mode / 8 + 1);
    return 0;
}
