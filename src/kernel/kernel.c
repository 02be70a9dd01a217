/* Which families exist and which this CPU can run; see kernel.h. Any thread. */
#include "kernel/kernel_int.h"

#include "base/text.h"

/* Best first. */
static const struct {
    const struct mu_kernels *kernels;
    bool (*runs)(void);
} families[] = {
    {&mu_kernels_ref, NULL},
};

static bool usable(size_t i)
{
    return !families[i].runs || families[i].runs();
}

const struct mu_kernels *mu_kernels_usable(unsigned n)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(families); i++)
        if (usable(i) && n-- == 0) return families[i].kernels;
    return NULL;
}

mu_status mu_kernels_choose(const char *name, const struct mu_kernels **out, struct mu_err *err)
{
    for (size_t i = 0; i < MU_ARRAY_LEN(families); i++) {
        if (name && strcmp(name, families[i].kernels->family) != 0) continue;
        if (usable(i)) {
            *out = families[i].kernels;
            return MU_OK;
        }
        if (name)
            return mu_fail(err, MU_E_UNSUPPORTED, "this CPU cannot run the kernels '%s'", name);
    }
    mu_status status = mu_fail(err, MU_E_USAGE, "no kernels are called '%s'", name);
    mu_err_cure(err, "`muster devices` lists the families; without a name the best is taken");
    return status;
}
