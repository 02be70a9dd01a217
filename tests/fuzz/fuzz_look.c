/*
 * What a look reads of strangers: a stream of events, a page of metrics, the kernel's log. The
 * first byte selects; what comes out must be printable.
 */
#include "base/alloc.h"
#include "health/health.h"
#include "net/net.h"
#include "probe/probe_int.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) abort();                                                                         \
    } while (0)

static bool count(void *context, struct mu_str data)
{
    size_t *n = context;
    CHECK(memchr(data.p, '\n', data.len) == NULL);
    return ++*n < 1000;
}

/* The same events, in one piece or in many. */
static void as_events(const uint8_t *bytes, size_t len)
{
    size_t counts[2] = {0};
    for (unsigned round = 0; round < 2; round++) {
        struct mu_net_events events;
        mu_net_events_init(&events, 4096);
        bool more = true;
        for (size_t i = 0, piece = round ? 7 : len; more && i < len; i += piece)
            more = mu_net_events_feed(&events, (const char *)bytes + i, MU_MIN(piece, len - i),
                                      count, &counts[round]);
        mu_net_events_fini(&events);
    }
    CHECK(counts[0] == counts[1]);
}

static void as_kernel_log(const uint8_t *bytes, size_t len)
{
    static struct mu_probe_node node;
    char path[64];
    int fd = memfd_create("log", MFD_CLOEXEC);
    if (fd < 0) return;
    node = (struct mu_probe_node){.n_gpus = 1};
    (void)snprintf(node.gpus[0].bus_id, sizeof node.gpus[0].bus_id, "0000:17:00.0");
    if (write(fd, bytes, len) == (ssize_t)len) {
        (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
        kernel_log_read("/nonexistent", path, &node);
    }
    (void)close(fd);
    CHECK(node.n_xids <= MU_PROBE_XIDS_MAX && node.n_xids_seen >= node.n_xids);
    for (unsigned i = 0; i < node.n_xids; i++)
        for (const char *p = node.xids[i].line; *p; p++)
            CHECK(*p >= ' ' && *p <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    if (len == 0) return 0;
    bytes++;
    len--;
    switch (bytes[-1] % 3) {
    case 0:
        as_events(bytes, len);
        break;
    case 1:
        json_decref(mu_health_metrics_json((struct mu_str){(const char *)bytes, len}));
        break;
    default:
        as_kernel_log(bytes, len);
        break;
    }
    return 0;
}
