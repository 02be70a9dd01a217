/*
 * comm: ranks talking. A group's ranks call the same operations in the same order; nothing here
 * adds numbers, so that the order of every sum stays ours. A group is of one kind, and who uses it
 * need not know of which; there is one kind, threads of one process.
 */
#ifndef MU_COMM_COMM_H
#define MU_COMM_COMM_H

#include "base/status.h"

#include <stddef.h>

/* ---- Groups of ranks ---- */

struct mu_comm_group;
struct mu_comm; /* one rank's place in a group; used from one thread at a time */

/* A group of threads of this process. */
mu_status mu_comm_create(unsigned n_ranks, struct mu_comm_group **out, struct mu_err *err);
void mu_comm_destroy(struct mu_comm_group *group);
struct mu_comm *mu_comm_rank(struct mu_comm_group *group, unsigned rank);

/* Every rank gives `bytes[own rank]` bytes; every rank receives all, in order of rank, in `out`.
 * MU_E_PEER once the group was aborted. */
mu_status mu_comm_exchange(struct mu_comm *comm, const void *mine, const size_t *bytes, void *out);

/* To and from any other rank of the group; what one rank sends another arrives in order. Once
 * send is back, `bytes` may change. */
mu_status mu_comm_send(struct mu_comm *comm, unsigned to, const void *bytes, size_t len);
mu_status mu_comm_receive(struct mu_comm *comm, unsigned from, void *out, size_t len);

/* Ends all waits, now and later, with MU_E_PEER: a rank failed. Any thread; NULL is no group. */
void mu_comm_abort(struct mu_comm_group *group);

#endif
