/* share/models.tsv, the shapes of known models. */
#include "format/format_int.h"

#include "base/share.h"

MU_SHARE_EMBED(mu_share_models_tsv, "models.tsv");

mu_status mu_share_models(struct mu_text *out, struct mu_err *err)
{
    return mu_share_read("models.tsv", MU_SHARE_BYTES(mu_share_models_tsv), out, err);
}
