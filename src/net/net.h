/*
 * net: HTTP, as a client that trusts nobody: every wait and every size has its limit, and every
 * failure its name; and as a small server of pages. Knows nothing of what is said over it. Any
 * thread; a request is one thread's.
 */
#ifndef MU_NET_NET_H
#define MU_NET_NET_H

#include "base/text.h"

/* How a request went wrong, for those who judge it; the words are in the error. */
enum mu_net_fault {
    MU_NET_GOOD,
    MU_NET_NO_LIBRARY, /* libcurl is not here */
    MU_NET_BAD_URL,
    MU_NET_NO_NAME, /* the host's name means nothing */
    MU_NET_REFUSED, /* nobody listens, or nobody can be reached */
    MU_NET_TLS,
    MU_NET_NO_ANSWER,  /* connected, and not one byte came */
    MU_NET_STALLED,    /* bytes came, and then none */
    MU_NET_TOO_LONG,   /* bytes went on coming past the time limit */
    MU_NET_BROKEN_OFF, /* the connection was reset or closed in the middle */
    MU_NET_TOO_LARGE,
    MU_NET_NOT_HTTP,
    MU_NET_STOPPED, /* by the caller's own word */
    MU_NET_OTHER,
};

/* Where an engine is. People end it in a slash, in the /v1 of OpenAI's own clients, or give no
 * scheme: all of these are one address. */
struct mu_net_url {
    char base[1024];  /* before the path of a route; may hold a password */
    char shown[1024]; /* for reports: without user and password */
};
/* MU_E_USAGE when it is none that can be asked. */
mu_status mu_net_url_parse(const char *given, struct mu_net_url *out, struct mu_err *err);

struct mu_net_request {
    const char *url;
    const char *body;  /* JSON to POST; NULL: GET */
    const char *token; /* sent as Authorization: Bearer; NULL: none */
    uint32_t connect_ms, total_ms;
    uint32_t idle_ms; /* between two bytes; 0, and before the first: only the total counts */
    size_t body_max;  /* bytes of an answer that are taken; more is MU_NET_TOO_LARGE */
    /* Each event of a stream of server-sent events, without "data: "; false ends the request. NULL:
     * the answer is not looked into. */
    bool (*event)(void *context, struct mu_str data);
    void *context;
    bool (*stop)(void); /* asked several times a second; NULL: never */
};

struct mu_net_answer {
    enum mu_net_fault fault;
    unsigned http_status; /* 0: none came */
    char type[64];        /* Content-Type, as sent */
    struct mu_text body;  /* what came, also when it broke off */
    double first_byte_s, total_s;
};

/* `answer` must be released with mu_net_answer_fini, also after a failure. An HTTP status of any
 * kind is no failure. */
mu_status mu_net_fetch(const struct mu_net_request *request, struct mu_net_answer *answer,
                       struct mu_err *err);
void mu_net_answer_fini(struct mu_net_answer *answer);
/* "refused", ...: one word for reports. */
const char *mu_net_fault_name(enum mu_net_fault fault);

/* --- a server of pages ------------------------------------------------------------------------ */

struct mu_net_page {
    unsigned http_status; /* 200 unless it is changed */
    const char *type;     /* Content-Type; a constant. NULL: text/plain */
    struct mu_text body;
};

struct mu_net_server_options {
    const char *address; /* "ADDRESS:PORT"; "PORT" and ":PORT" are of the loopback; 0: any port */
    /* Makes the page of a path; `accept` is what the client asks for, "" when it does not say.
     * Called by the server's one thread, so it must not wait. */
    void (*page)(void *context, const char *path, const char *accept, struct mu_net_page *page);
    void *context;
};

/* Serves GET and HEAD to a bounded number of clients, on a thread of its own, until it is stopped.
 * Who is slow waits for itself alone; when all places are taken, the client that has waited longest
 * gives its own up. */
struct mu_net_server;
mu_status mu_net_server_start(const struct mu_net_server_options *options,
                              struct mu_net_server **out, struct mu_err *err);
void mu_net_server_stop(struct mu_net_server *server); /* NULL is fine */
/* "http://127.0.0.1:9400", with the port that it got. */
const char *mu_net_server_url(const struct mu_net_server *server);
/* False when others than this machine can reach it. */
bool mu_net_server_is_private(const struct mu_net_server *server);

/* --- server-sent events ----------------------------------------------------------------------- */

/* Takes events out of the bytes of a stream, cut anywhere. */
struct mu_net_events {
    struct mu_text line;
    bool skipping; /* the rest of a line that was too long */
};
void mu_net_events_init(struct mu_net_events *events, size_t line_max);
void mu_net_events_fini(struct mu_net_events *events);
/* False when `event` said so. */
bool mu_net_events_feed(struct mu_net_events *e, const char *bytes, size_t len,
                        bool (*event)(void *context, struct mu_str data), void *context);

#endif
