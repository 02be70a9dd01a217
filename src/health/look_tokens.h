/* What one request for tokens gave; look_tokens.c reads it, look_engine.c judges. Private. */
#ifndef MU_HEALTH_LOOK_TOKENS_H
#define MU_HEALTH_LOOK_TOKENS_H

#include "base/text.h"

struct look_tokens {
    uint64_t start_ns;
    unsigned n_asked;       /* tokens */
    double first_s, last_s; /* since the start */
    unsigned n_chunks;      /* with text */
    unsigned n_events, n_bad;
    unsigned n_reported;  /* tokens, as the server counts them; 0: it does not say */
    size_t cumulative;    /* SGLang's text, which comes whole each time */
    double reported_rate; /* tokens/s, as the server counts them; 0: it does not say */
    bool done;            /* [DONE] came, or the answer was one whole document */
    char finish[24];      /* the reason it gives for the end; "": none */
    char error[160];
    /* Of the text: code points that are no space, those that are U+FFFD, those like the first. */
    unsigned n_letters, n_undecoded, n_alike;
    uint32_t letter;
};

/* An event of the stream; `context` is a struct look_tokens. False ends the request. */
bool look_tokens_event(void *context, struct mu_str data);
/* A server that does not stream gives one document. */
void look_tokens_whole(struct look_tokens *t, struct mu_str body);
unsigned look_tokens_count(const struct look_tokens *t);
/* Tokens a second from the first to the last; or says why that is not known. */
const char *look_tokens_rate(const struct look_tokens *t, double *out);
/* How the answer says that it is not all; NULL when it is. */
const char *look_tokens_unfinished(const struct look_tokens *t);
/* What makes the text look like no language; NULL: nothing. */
const char *look_tokens_garbage(const struct look_tokens *t);

#endif
