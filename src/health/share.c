/* The log catalogue inside the program, so that it works without being installed. */
#include "health/health_int.h"

#include "base/share.h"

MU_SHARE_EMBED(mu_health_logs_tsv, "logs.tsv");

struct mu_str mu_health_share_logs(void)
{
    return MU_SHARE_BYTES(mu_health_logs_tsv);
}
