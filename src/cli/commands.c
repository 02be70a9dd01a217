/* The commands, in the order of `muster --help`: one line each. */
#include "cli/cli.h"

/* clang-format off */
#define COMMANDS(X) \
    X(devices) \
    X(inspect) \
    X(plan) \
    X(generate) \
    X(chat) \
    X(tokenize) \
    X(template) \
    X(logits) \
    X(perplexity) \
    X(convert) \
    X(prove) \
    X(check) \
    X(top) \
    X(validate_perf) \
    X(runs) \
    X(completion)
/* clang-format on */

#define DECLARE_(name) extern const struct mu_command mu_command_##name;
COMMANDS(DECLARE_)

#define ROW_(name) &mu_command_##name,
const struct mu_command *const mu_commands[] = {COMMANDS(ROW_) NULL};
