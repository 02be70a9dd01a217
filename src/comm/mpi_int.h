/*
 * What libmuster-mpi.so gives: starting messages and asking whether they are over, no more, so that
 * everything that decides anything is in the program. All are called by one thread, the one that
 * called open. A text that comes back says what went wrong; NULL is good.
 */
#ifndef MU_COMM_MPI_INT_H
#define MU_COMM_MPI_INT_H

#include <stdbool.h>
#include <stddef.h>

#define MU_MPI_EXPORT __attribute__((visibility("default")))

MU_MPI_EXPORT const char *mu_mpi_version(void); /* of muster */
MU_MPI_EXPORT const char *mu_mpi_open(unsigned *process, unsigned *n);
MU_MPI_EXPORT const char *mu_mpi_send(const void *bytes, size_t len, unsigned to, unsigned tag,
                                      void **request);
MU_MPI_EXPORT const char *mu_mpi_receive(void *bytes, size_t len, unsigned from, unsigned tag,
                                         void **request);
MU_MPI_EXPORT const char *mu_mpi_test(void **request, bool *over);
MU_MPI_EXPORT void mu_mpi_close(void);

#endif
