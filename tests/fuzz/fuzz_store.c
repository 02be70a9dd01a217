/* The store's file as hostile bytes: whatever it holds, opening, reading and writing it end, and
 * give texts that are harmless. */
#include "store/sqlite.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define CHECK(x) ((x) ? (void)0 : abort())

static char path[512];

static void path_make(void)
{
    const char *folder = getenv("TMPDIR");
    (void)snprintf(path, sizeof path, "%s/muster-fuzz-store-%d.db", folder ? folder : "/tmp",
                   (int)getpid());
}

/* SQLite's other files would be taken for this one's. */
static void files_remove(void)
{
    static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < MU_ARRAY_LEN(ends); i++) {
        char name[600];
        (void)snprintf(name, sizeof name, "%s%s", path, ends[i]);
        (void)unlink(name);
    }
}

static void file_write(const uint8_t *bytes, size_t len)
{
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(bytes, 1, len, f) == len);
    CHECK(fclose(f) == 0);
}

static void text_check(const char *s)
{
    for (; *s; s++)
        CHECK((unsigned char)*s >= 0x20 || *s == '\n');
}

static void run_check(const struct mu_store_run *run)
{
    size_t n;
    struct mu_store_change *changes = NULL;
    text_check(run->command_line);
    const struct mu_store_figure *f = mu_store_run_figures(run, &n);
    for (size_t i = 0; i < n; i++) {
        text_check(f[i].name);
        CHECK(f[i].kind < MU_STORE_KINDS);
    }
    const struct mu_store_finding *finding = mu_store_run_findings(run, &n);
    for (size_t i = 0; i < n; i++)
        text_check(finding[i].text);
    json_decref(mu_store_run_json(run, MU_STORE_WHOLE));
    if (mu_store_compare(run, 1, run, 1, &changes, &n, NULL) == MU_OK) mu_free(changes);
}

static void store_use(struct mu_store *s)
{
    struct mu_store_ids ids;
    struct mu_store_run run;
    char id[MU_STORE_ID_SIZE];
    static const char *const settings[] = {"devices=cpu"};
    (void)mu_store_find(s, "last", id, NULL);
    (void)mu_store_baseline_get(s, "http://x", id, NULL);
    if (mu_store_select(s, &(struct mu_store_filter){.settings = settings, .n_settings = 1}, &ids,
                        NULL) == MU_OK)
        mu_store_ids_fini(&ids);
    if (mu_store_select(s, &(struct mu_store_filter){.last = 8}, &ids, NULL) != MU_OK) return;
    for (size_t i = 0; i < ids.n; i++) {
        if (mu_store_get(s, ids.p[i], MU_STORE_WHOLE, &run, NULL) == MU_OK) run_check(&run);
        mu_store_run_fini(&run);
    }
    if (mu_store_run_init(&run, NULL) == MU_OK) {
        mu_store_run_figure(&run, MU_STORE_MEASURED, "x_ms", 1);
        (void)mu_store_put(s, &run, NULL);
    }
    mu_store_run_fini(&run);
    (void)mu_store_remove(s, &ids, true, NULL);
    mu_store_ids_fini(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    struct mu_store *s = NULL;
    struct mu_err err = MU_ERR_INIT;
    if (!path[0]) path_make();
    files_remove();
    file_write(bytes, len);
    mu_status status = mu_store_open(path, MU_STORE_WRITE, &s, &err);
    CHECK((status == MU_OK) == (s != NULL) && (status == MU_OK) == (err.code == MU_OK));
    if (s) store_use(s);
    mu_store_close(s);
    files_remove();
    return 0;
}
