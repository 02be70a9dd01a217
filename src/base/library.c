/* Libraries loaded at run time; see library.h. */
#include "base/library.h"

#include <dlfcn.h>
#include <string.h>

mu_status mu_library_load(const char *const *names, const struct mu_symbol *symbols, size_t n,
                          void *functions, struct mu_err *err)
{
    void *library = NULL;
    for (size_t i = 0; names[i] && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library) return mu_fail(err, MU_E_MISSING, "the library %s is not here", names[0]);
    for (size_t i = 0; i < n; i++) {
        void *p = dlsym(library, symbols[i].name);
        if (!p) return mu_fail(err, MU_E_MISSING, "%s has no %s", names[0], symbols[i].name);
        memcpy((char *)functions + symbols[i].offset, &p, sizeof p);
    }
    return MU_OK;
}
