/* The plug-in that is linked with MPI; see mpi_int.h. Knows nothing of ranks, groups or steps, and
 * is built only where MPI's header is. */
#include "comm/mpi_int.h"

#include <limits.h>
#include <mpi.h>
#include <stdlib.h>

_Static_assert(sizeof(MPI_Request) <= sizeof(void *), "a request is kept in a pointer");

/* Where the program keeps it: a pointer to it knows nothing of what it is. */
static MPI_Request *as_request(void **request)
{
    return (MPI_Request *)(void *)request;
}

static const char *text_of(int code)
{
    static char text[MPI_MAX_ERROR_STRING];
    int len = 0;
    if (code == MPI_SUCCESS) return NULL;
    if (MPI_Error_string(code, text, &len) != MPI_SUCCESS || len == 0) return "an MPI call failed";
    return text;
}

const char *mu_mpi_version(void)
{
    return MU_VERSION;
}

const char *mu_mpi_open(unsigned *process, unsigned *n)
{
    int rank = 0, size = 0, provided;
    /* Open MPI's own handler of fatal signals would stand between a crash and our watcher. */
    (void)setenv("OMPI_MCA_opal_signal", "", 0);
    const char *why = text_of(MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided));
    if (why) return why;
    if (provided < MPI_THREAD_FUNNELED) return "this MPI allows no threads beside its own";
    if (!(why = text_of(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN))) &&
        !(why = text_of(MPI_Comm_rank(MPI_COMM_WORLD, &rank))))
        why = text_of(MPI_Comm_size(MPI_COMM_WORLD, &size));
    *process = (unsigned)rank;
    *n = (unsigned)size;
    return why;
}

/* Counts are ints: in words of four bytes where they can be, a message may have 8 GiB. */
static const char *count_of(size_t len, int *count, MPI_Datatype *type)
{
    size_t unit = len % 4 == 0 ? 4 : 1;
    if (len / unit > INT_MAX) return "a message is larger than MPI can send";
    *count = (int)(len / unit);
    *type = unit == 4 ? MPI_UINT32_T : MPI_BYTE;
    return NULL;
}

const char *mu_mpi_send(const void *bytes, size_t len, unsigned to, unsigned tag, void **request)
{
    int count;
    MPI_Datatype type;
    const char *why = count_of(len, &count, &type);
    if (!why)
        why = text_of(
            MPI_Isend(bytes, count, type, (int)to, (int)tag, MPI_COMM_WORLD, as_request(request)));
    return why;
}

const char *mu_mpi_receive(void *bytes, size_t len, unsigned from, unsigned tag, void **request)
{
    int count;
    MPI_Datatype type;
    const char *why = count_of(len, &count, &type);
    if (!why)
        why = text_of(MPI_Irecv(bytes, count, type, (int)from, (int)tag, MPI_COMM_WORLD,
                                as_request(request)));
    return why;
}

const char *mu_mpi_test(void **request, bool *over)
{
    int flag = 0;
    const char *why = text_of(MPI_Test(as_request(request), &flag, MPI_STATUS_IGNORE));
    *over = flag != 0;
    return why;
}

void mu_mpi_close(void)
{
    (void)MPI_Finalize();
}
