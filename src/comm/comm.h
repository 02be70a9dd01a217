/*
 * comm: ranks talking. A group's ranks call the same operations in the same order; nothing here
 * adds numbers, so that the order of every sum stays ours. Ranks are threads of one process, or of
 * several that mpirun or srun started (the world); a group is of one kind or the other, and who
 * uses it need not know of which.
 */
#ifndef MU_COMM_COMM_H
#define MU_COMM_COMM_H

#include "base/status.h"

#include <stdatomic.h>
#include <stddef.h>

/* ---- Groups of ranks ---- */

struct mu_comm_group;
struct mu_comm; /* one rank's place in a group; used from one thread at a time */
struct mu_world;

/* A group of threads of this process. */
mu_status mu_comm_create(unsigned n_ranks, struct mu_comm_group **out, struct mu_err *err);
/* A group over processes: rank i lives in process processes[i]. All of them create it, with the
 * same id (below MU_COMM_GROUPS_MAX), which no other group of the world has. */
#define MU_COMM_GROUPS_MAX 128
#define MU_COMM_RANKS_MAX  64
mu_status mu_comm_create_over(struct mu_world *world, unsigned id, const unsigned *processes,
                              unsigned n_ranks, struct mu_comm_group **out, struct mu_err *err);
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

/* ---- The world: processes that a launcher started together ---- */

/* Which of how many processes this is, by what mpirun or srun left in the environment; false when
 * it was started alone. */
bool mu_world_launched(unsigned *process, unsigned *n);

/* Loads the MPI plug-in, meets the other processes and has this process's watcher meet theirs.
 * Versions are compared here. */
mu_status mu_world_open(struct mu_world **out, struct mu_err *err);
/* Parts from the others, who do the same; after an abort it leaves them where they are. */
void mu_world_close(struct mu_world *w);
/* Ends all waits for other processes, now and later, with MU_E_PEER. Any thread. */
void mu_world_abort(struct mu_world *w);

unsigned mu_world_process(const struct mu_world *w);
unsigned mu_world_size(const struct mu_world *w);
const char *mu_world_host(const struct mu_world *w, unsigned process);

/* The processes on this host among which its memory is shared, and those among which this process's
 * cores are: a launcher may have given each its own. */
struct mu_world_share {
    unsigned of_memory, of_cpus, cpu_index;
};
void mu_world_share(const struct mu_world *w, struct mu_world_share *out);

/* Every process gives `len` bytes and gets those of all, in order. One thread at a time. */
mu_status mu_world_gather(struct mu_world *w, const void *mine, size_t len, void *all);

/* A message on its way: the owner's memory until it is over. Zeroed, it is over. Between two
 * processes, messages of one tag arrive in the order in which they were posted. */
struct mu_message {
    void *bytes;
    size_t len;
    unsigned peer;
    uint32_t tag; /* of MU_TAG_... */
    bool outgoing;
    _Atomic uint32_t under_way;
    struct mu_message *next; /* the world's own, as is */
    void *request;
};
#define MU_TAG_STEP(replica)       (1u << 20 | (replica))
#define MU_TAG_DONE(rank)          (2u << 20 | (rank))
#define MU_TAG_LOGITS(replica)     (3u << 20 | (replica))
#define MU_TAG_GROUP(id, from, to) (4u << 20 | (id) << 12 | (from) << 6 | (to))

/* Posting never blocks; mu_world_ring has what was posted leave. Any thread. */
void mu_world_post(struct mu_world *w, struct mu_message *m);
void mu_world_ring(struct mu_world *w);
mu_status mu_world_wait(struct mu_world *w, struct mu_message *m);

/* ---- The watcher: a small process beside each rank's ---- */

/*
 * To be called first of all, by the only thread. A process that a launcher started splits in two:
 * the child goes on as the rank (false); the parent, which the launcher knows, watches it
 * together with the watchers of the other ranks, and once all is over returns true with the exit
 * status. When a rank dies, stops or cannot be reached, one of the watchers says so, through `say`,
 * and all end. Of ranks but the first only the watcher hears what they print.
 */
bool mu_watch_split(void (*say)(const char *line), int *exit_status);
/* In the rank: where it is, for the watcher to tell. No system calls; nothing when there is none.
 */
void mu_watch_step(uint32_t serial);
void mu_watch_phase(const char *phase); /* a constant text: "loading" */
void mu_watch_spoken(void);             /* it has printed why it ends */

#endif
