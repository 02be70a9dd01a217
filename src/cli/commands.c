/* The commands, in the order of `muster --help`. */
#include "cli/cli.h"

const struct mu_command *const mu_commands[] = {NULL};
