/*
 * comm's insides: the kinds of group behind one set of functions.
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

#endif
