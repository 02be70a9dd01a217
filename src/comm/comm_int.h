/*
 * comm's insides: the two kinds of group behind one set of functions, what the MPI plug-in gives,
 * and what a rank and its watcher share.
 */
#ifndef MU_COMM_COMM_INT_H
#define MU_COMM_COMM_INT_H

#include "comm/comm.h"

struct mu_comm_kind {
    struct mu_comm *(*rank)(struct mu_comm_group *group, unsigned rank);
    mu_status (*exchange)(struct mu_comm *comm, const void *mine, const size_t *bytes, void *out);
    mu_status (*send)(struct mu_comm *comm, unsigned to, const void *bytes, size_t len);
    mu_status (*receive)(struct mu_comm *comm, unsigned from, void *out, size_t len);
    void (*abort)(struct mu_comm_group *group);
    void (*destroy)(struct mu_comm_group *group);
};

/* Both begin the structs of a kind. */
struct mu_comm_group {
    const struct mu_comm_kind *kind;
};
struct mu_comm {
    const struct mu_comm_kind *kind;
};

/* ---- watch.c: a rank and its watcher ---- */

#define MU_HOST_MAX      64
#define MU_WATCH_SIZE    64 /* processes */
#define MU_WATCH_ADDRESS 512

/* In memory that both map; the words are all they need: who writes which is said. */
struct mu_watch_page {
    _Atomic uint32_t beat;     /* rank: grows while its MPI thread runs */
    _Atomic uint32_t step;     /* rank: serial + 1 of the last step begun, 0: none */
    const char *_Atomic phase; /* rank: a constant, at the same address in both */
    _Atomic uint32_t spoken;   /* rank: it said itself why it ends */
    _Atomic uint32_t joined;   /* rank: the fields below are there */
    _Atomic uint32_t met;      /* watcher: all others are reached */
    _Atomic uint32_t missing;  /* the first watcher: one that has not come yet */
    uint64_t token;            /* proves to the first watcher that a peer is one of ours */
    char addresses[MU_WATCH_ADDRESS + 32]; /* of the first watcher: "10.0.0.1 fd00::1 " */
    char host[MU_HOST_MAX], first_host[MU_HOST_MAX];
    uint16_t port; /* where the first watcher listens; there from the start in process 0 */
};

/* Of this process; NULL when it is not watched. */
struct mu_watch_page *mu_watch_page(void);
/* The page is filled: has the watcher meet the others; false if that takes too long. */
bool mu_watch_join(void);

/* watch_link.c: watchers talk in fixed messages over TCP, all with the first one. */
enum mu_watch_kind {
    MU_WATCH_HELLO,   /* to the first, with the token and the host */
    MU_WATCH_WELCOME, /* from the first, which has heard from all */
    MU_WATCH_BEAT,
    MU_WATCH_FAILED, /* my rank did, as the text says; code: how much the cause weighs */
    MU_WATCH_END,    /* from the first: end, with this code */
    MU_WATCH_BYE,    /* my rank ended well */
};
struct mu_watch_message {
    uint64_t token;
    uint32_t kind, process;
    int32_t code;
    char text[404];
};
/* A connection, and the message that is coming in. */
struct mu_watch_link {
    int fd; /* negative: none */
    size_t n_in;
    struct mu_watch_message in;
    char host[MU_HOST_MAX];
    uint64_t heard_ns; /* when it last said something */
    bool bye;          /* it ended well */
};
int mu_watch_listen(uint16_t *port);
/* Tries the addresses in turn. */
int mu_watch_connect(const char *addresses, uint16_t port);
bool mu_watch_send(struct mu_watch_link *link, const struct mu_watch_message *message);
/* 1: a whole message is in link->in; 0: not yet; -1: the connection is over. */
int mu_watch_receive(struct mu_watch_link *link);
/* This host's addresses but those of loopback. */
void mu_watch_addresses(char *out, size_t size);

#endif
