/* How watchers reach each other: sockets, and messages of one size. Knows nothing of what they say.
 * The watcher's only thread; mu_watch_addresses: the rank's main one. */
#include "base/clock.h"
#include "comm/comm_int.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define CONNECT_MS 500 /* for one address */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* Both families at once, or the old one where there is no other. */
int mu_watch_listen(uint16_t *port)
{
    union address a = {.v6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_any}};
    socklen_t len = sizeof a.v6;
    int off = 0, fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off) != 0 ||
        bind(fd, &a.any, len) != 0) {
        if (fd >= 0) (void)close(fd);
        a = (union address){.v4 = {.sin_family = AF_INET}};
        len = sizeof a.v4;
        if ((fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) < 0) return -1;
        if (bind(fd, &a.any, len) != 0) goto fail;
    }
    if (listen(fd, MU_WATCH_SIZE) != 0 || getsockname(fd, &a.any, &len) != 0) goto fail;
    *port = ntohs(a.any.sa_family == AF_INET6 ? a.v6.sin6_port : a.v4.sin_port);
    return fd;
fail:
    (void)close(fd);
    return -1;
}

static int connect_to(const char *text, uint16_t port)
{
    union address a = {0};
    socklen_t len = sizeof a.v4, error_len = sizeof(int);
    if (inet_pton(AF_INET, text, &a.v4.sin_addr) == 1) {
        a.v4.sin_family = AF_INET;
        a.v4.sin_port = htons(port);
    } else if (inet_pton(AF_INET6, text, &a.v6.sin6_addr) == 1) {
        a.v6.sin6_family = AF_INET6;
        a.v6.sin6_port = htons(port);
        len = sizeof a.v6;
    } else {
        return -1;
    }
    int error = 0, fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    if ((connect(fd, &a.any, len) == 0 || errno == EINPROGRESS) && poll(&p, 1, CONNECT_MS) == 1 &&
        getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_len) == 0 && error == 0)
        return fd;
    (void)close(fd);
    return -1;
}

int mu_watch_connect(const char *addresses, uint16_t port)
{
    int fd = -1;
    while (*addresses && fd < 0) {
        char one[INET6_ADDRSTRLEN];
        size_t len = strcspn(addresses, " ");
        (void)snprintf(one, sizeof one, "%.*s", (int)len, addresses);
        fd = connect_to(one, port);
        addresses += len + (addresses[len] == ' ');
    }
    return fd;
}

bool mu_watch_send(struct mu_watch_link *link, const struct mu_watch_message *message)
{
    /* Far less than a socket's buffer is ever under way, so that a part of a message means that
     * nobody reads any more. */
    return link->fd >= 0 &&
           send(link->fd, message, sizeof *message, MSG_NOSIGNAL) == (ssize_t)sizeof *message;
}

int mu_watch_receive(struct mu_watch_link *link)
{
    ssize_t n = recv(link->fd, (char *)&link->in + link->n_in, sizeof link->in - link->n_in, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (n <= 0) return -1;
    link->n_in += (size_t)n;
    if (link->n_in < sizeof link->in) return 0;
    link->n_in = 0;
    link->in.text[sizeof link->in.text - 1] = '\0';
    link->heard_ns = mu_clock_ns();
    return 1;
}

void mu_watch_addresses(char *out, size_t size)
{
    struct ifaddrs *all, *i;
    size_t len = 0;
    out[0] = '\0';
    if (getifaddrs(&all) != 0) return;
    for (i = all; i; i = i->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        const union address *a = (const union address *)(const void *)i->ifa_addr;
        if (!a || !(i->ifa_flags & IFF_UP) || i->ifa_flags & IFF_LOOPBACK) continue;
        bool old = a->any.sa_family == AF_INET, new = a->any.sa_family == AF_INET6;
        if (!old && (!new || IN6_IS_ADDR_LINKLOCAL(&a->v6.sin6_addr))) continue;
        const void *number = old ? (const void *)&a->v4.sin_addr : &a->v6.sin6_addr;
        if (!inet_ntop(a->any.sa_family, number, text, sizeof text) ||
            len + strlen(text) + 2 > size)
            continue;
        len += (size_t)snprintf(out + len, size - len, "%s ", text);
    }
    freeifaddrs(all);
}
