/* Where the time of a run went, by operations: for people and as JSON. The main thread. */
#ifndef MU_CLI_PROFILE_H
#define MU_CLI_PROFILE_H

#include "cli/answer.h"

/* Tables on standard error, of the first device: a step of reading the prompt, and one of decoding
 * with the weights it reads against the machine's read bandwidth. */
mu_status mu_profile_say(const struct mu_session *session, const struct mu_answers *answers,
                         struct mu_err *err);
/* Appends "profile":[...], an entry a device. */
void mu_profile_add(const struct mu_session *session, struct mu_text *out);

#endif
