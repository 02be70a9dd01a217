/*
 * Racks from hostile text: the first byte is even for YAML and odd for --on's own spelling. What is
 * taken must be whole: devices of the catalogue's kinds with memory, hosts in order, a link between
 * any two.
 */
#include "base/base.h"
#include "plan/plan.h"

#include <stdlib.h>

#define TEXT_MAX 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct mu_probe_catalog *catalog(void)
{
    static struct mu_probe_catalog *loaded;
    if (!loaded && mu_probe_catalog_load(&loaded, NULL) != MU_OK) abort();
    return loaded;
}

static void check(const struct mu_plan_rack *rack)
{
    if (rack->n == 0 || rack->n > MU_PLAN_DEVICES_MAX) abort();
    for (uint32_t i = 0; i < rack->n; i++) {
        const struct mu_plan_slot *slot = &rack->slots[i];
        if (!(slot->device->bytes_per_s > 0) || !(slot->device->usable_bytes > 0)) abort();
        if (!(slot->budget_bytes >= 0) || slot->budget_bytes > slot->device->memory_bytes) abort();
        if (i > 0 && slot->host < rack->slots[i - 1].host) abort();
        if (i > 0 && !mu_plan_rack_link(rack, i - 1, 2)) abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mu_plan_rack rack = {.between = &catalog()->links[0]};
    struct mu_err err = MU_ERR_INIT;
    char text[TEXT_MAX];
    if (size < 1 || size > TEXT_MAX) return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    mu_status status = data[0] % 2 ? mu_plan_rack_parse(text, catalog(), &rack, &err)
                                   : mu_plan_rack_yaml((struct mu_str){text, size - 1}, "fuzz",
                                                       catalog(), &rack, &err);
    if (status == MU_OK)
        check(&rack);
    else if (err.code != status || !err.what[0])
        abort();
    return 0;
}
