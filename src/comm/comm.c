/* One set of functions for both kinds of group; see comm.h. Knows neither kind. */
#include "comm/comm_int.h"

struct mu_comm *mu_comm_rank(struct mu_comm_group *group, unsigned rank)
{
    return group->kind->rank(group, rank);
}

mu_status mu_comm_exchange(struct mu_comm *comm, const void *mine, const size_t *bytes, void *out)
{
    return comm->kind->exchange(comm, mine, bytes, out);
}

mu_status mu_comm_send(struct mu_comm *comm, unsigned to, const void *bytes, size_t len)
{
    return comm->kind->send(comm, to, bytes, len);
}

mu_status mu_comm_receive(struct mu_comm *comm, unsigned from, void *out, size_t len)
{
    return comm->kind->receive(comm, from, out, len);
}

void mu_comm_abort(struct mu_comm_group *group)
{
    if (group) group->kind->abort(group);
}

void mu_comm_destroy(struct mu_comm_group *group)
{
    if (group) group->kind->destroy(group);
}
