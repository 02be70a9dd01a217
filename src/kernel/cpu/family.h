/* A whole CPU family: its file defines FAMILY_NAME and FAMILY_TABLE and includes this. */
#include <math.h>

#include "kernel/cpu/linear.h"

#include "kernel/cpu/vector.h"

#include "kernel/cpu/attend.h"

const struct mu_kernels FAMILY_TABLE = {
    .family = FAMILY_NAME,
    .form = form,
    .weight_bytes = mu_cpu_weight_bytes,
    .weight_pack = mu_cpu_weight_pack,
    .row_tile = MU_ROW_TILE,
    .weight_row = mu_cpu_weight_row,
    .form_bytes = form_bytes,
    .form_store = form_store,
    .linear = linear,
    .norm = norm,
    .rope = rope,
    .glu = glu,
    .kv_store = kv_store,
    .attend = attend,
    .attend_run = attend_run,
    .attend_join = attend_join,
    .attend_scratch = attend_scratch,
};
