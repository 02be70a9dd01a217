/* What the files of model/ share. */
#ifndef MU_MODEL_PROGRAM_INT_H
#define MU_MODEL_PROGRAM_INT_H

#include "model/model.h"

/* The name of a tensor in a file of that naming. */
void mu_arch_tensor_name(const struct mu_arch *arch, enum mu_names names, enum mu_tensor_role role,
                         uint32_t layer, char out[MU_TENSOR_NAME_MAX]);

#endif
