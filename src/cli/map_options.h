/* What a person writes for --device-map and --max-memory, as JSON. The commands that take them. */
#ifndef MU_CLI_MAP_OPTIONS_H
#define MU_CLI_MAP_OPTIONS_H

#include "base/json.h"

/* JSON as it stands, the content of a file, or else a word: a mode or a device. */
mu_status mu_cli_device_map_read(const char *text, json_t **out, struct mu_err *err);
/* JSON, or 0=20GiB,cpu=64GiB; NULL leaves *out as it is. `option` is for messages. */
mu_status mu_cli_memory_read(const char *text, const char *option, json_t **out,
                             struct mu_err *err);

/* Whether an option's text is meant as a file, by its ending or a slash; and what is said when none
 * is there. */
bool mu_cli_means_file(const char *text, const char *ending);
mu_status mu_cli_no_file(const char *option, const char *path, const char *cure,
                         struct mu_err *err);

#endif
