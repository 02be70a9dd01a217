/*
 * A small server of pages over libmicrohttpd, which is loaded when a server is started. Its one
 * thread polls all clients, so none of them can hold another up; it owns the table of clients.
 * Knows nothing of what the pages say.
 */
#include "net/net.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/library.h"
#include "base/number.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define CLIENTS_MAX      32
#define CLIENT_IDLE_S    15
#define CLIENT_BYTES_MAX ((size_t)16 << 10) /* of a request's header */
#define PAGE_MAX         ((size_t)16 << 20)
#define BACKLOG          16

#ifdef MU_HAVE_MICROHTTPD

#include <microhttpd.h>

/* clang-format off */
#define FUNCTIONS(X) \
    X(start_daemon) X(stop_daemon) X(create_response_from_buffer) X(add_response_header) \
    X(queue_response) X(destroy_response) X(lookup_connection_value) X(get_connection_info)
/* clang-format on */

static struct {
#define POINTER_(name) __typeof__ (&MHD_##name)(name);
    FUNCTIONS(POINTER_)
#undef POINTER_
} mhd;

static mu_status library_load(struct mu_err *err)
{
    static const char *const names[] = {"libmicrohttpd.so.12", "libmicrohttpd.so", NULL};
    static const struct mu_symbol symbols[] = {
#define SYMBOL_(name) {"MHD_" #name, offsetof(__typeof__(mhd), name)},
        FUNCTIONS(SYMBOL_)
#undef SYMBOL_
    };
    mu_status status = mu_library_load(names, symbols, MU_ARRAY_LEN(symbols), &mhd, err);
    mu_err_cure(err, "install libmicrohttpd12");
    return status;
}

struct mu_net_server {
    struct mu_net_server_options options;
    struct MHD_Daemon *daemon;
    int listener;
    bool is_private;
    char url[64 + NI_MAXHOST];
    /* The server's thread alone uses it. */
    struct {
        int fd; /* -1: free */
        uint64_t waits_since_ns;
    } clients[CLIENTS_MAX];
};

/* --- clients ---------------------------------------------------------------------------------- */

static int client_fd(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        mhd.get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    return info ? info->connect_fd : -1;
}

/* A place in the table; the client that had it longest without asking anything is cut off. */
static void client_enter(struct mu_net_server *s, int fd)
{
    unsigned place = 0;
    for (unsigned i = 1; i < CLIENTS_MAX && s->clients[place].fd >= 0; i++)
        if (s->clients[i].fd < 0 || s->clients[i].waits_since_ns < s->clients[place].waits_since_ns)
            place = i;
    if (s->clients[place].fd >= 0) (void)shutdown(s->clients[place].fd, SHUT_RDWR);
    s->clients[place].fd = fd;
    s->clients[place].waits_since_ns = mu_clock_ns();
}

static void on_connection(void *context, struct MHD_Connection *connection, void **unused,
                          enum MHD_ConnectionNotificationCode code)
{
    (void)unused;
    struct mu_net_server *s = context;
    int fd = client_fd(connection);
    if (code == MHD_CONNECTION_NOTIFY_STARTED) client_enter(s, fd);
    for (unsigned i = 0; code == MHD_CONNECTION_NOTIFY_CLOSED && i < CLIENTS_MAX; i++)
        if (s->clients[i].fd == fd) s->clients[i].fd = -1;
}

static void on_completed(void *context, struct MHD_Connection *connection, void **unused,
                         enum MHD_RequestTerminationCode code)
{
    (void)unused;
    struct mu_net_server *s = context;
    int fd = client_fd(connection);
    for (unsigned i = 0; code == MHD_REQUEST_TERMINATED_COMPLETED_OK && i < CLIENTS_MAX; i++)
        if (s->clients[i].fd == fd) s->clients[i].waits_since_ns = mu_clock_ns();
}

/* --- pages ------------------------------------------------------------------------------------ */

static enum MHD_Result page_send(struct MHD_Connection *connection, struct mu_net_page *page)
{
    bool whole = mu_text_status(&page->body, NULL) == MU_OK;
    struct MHD_Response *response = mhd.create_response_from_buffer(
        whole ? page->body.len : 0, whole ? page->body.p : NULL, MHD_RESPMEM_MUST_COPY);
    if (!response) return MHD_NO;
    (void)mhd.add_response_header(response, "Content-Type",
                                  page->type ? page->type : "text/plain; charset=utf-8");
    if (page->http_status == 405) (void)mhd.add_response_header(response, "Allow", "GET, HEAD");
    enum MHD_Result sent =
        mhd.queue_response(connection, whole ? page->http_status : 503, response);
    mhd.destroy_response(response);
    return sent;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *body, size_t *body_len, void **seen)
{
    (void)version;
    (void)body;
    static char begun;
    if (!*seen) { /* the header is here; an answer may not be given yet */
        *seen = &begun;
        return MHD_YES;
    }
    *body_len = 0;
    const struct mu_net_server *s = context;
    const char *accept = mhd.lookup_connection_value(connection, MHD_HEADER_KIND, "Accept");
    struct mu_net_page page = {.http_status = 200};
    mu_text_init(&page.body, PAGE_MAX);
    if (strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0) {
        s->options.page(s->options.context, path, accept ? accept : "", &page);
    } else {
        page.http_status = 405;
        mu_text_printf(&page.body, "only GET and HEAD are answered\n");
    }
    enum MHD_Result sent = page_send(connection, &page);
    mu_text_fini(&page.body);
    return sent;
}

/* --- its address ------------------------------------------------------------------------------ */

/* Splits "ADDRESS:PORT", "[ADDRESS]:PORT", ":PORT" or "PORT". */
static bool address_split(const char *given, char host[256], char port[8])
{
    const char *colon = strrchr(given, ':'), *digits = colon ? colon + 1 : given;
    struct mu_str name = {given, colon ? (size_t)(colon - given) : 0};
    uint64_t number;
    if (!mu_parse_u64(mu_str(digits), 0, 65535, &number)) return false;
    if (name.len > 1 && name.p[0] == '[' && name.p[name.len - 1] == ']')
        name = (struct mu_str){name.p + 1, name.len - 2};
    if (name.len == 0) name = MU_STR("127.0.0.1");
    if (name.len >= 256) return false;
    memcpy(host, name.p, name.len);
    host[name.len] = '\0';
    (void)snprintf(port, 8, "%u", (unsigned)number);
    return true;
}

static bool is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)a)->sin_addr.s_addr) >> 24 == 127;
    return a->ss_family == AF_INET6 &&
           IN6_IS_ADDR_LOOPBACK(&((const struct sockaddr_in6 *)a)->sin6_addr);
}

static int listener_open(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;
    if (fd < 0) return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, BACKLOG) == 0) return fd;
    int why = errno;
    (void)close(fd);
    errno = why;
    return -1;
}

static mu_status listen_at(struct mu_net_server *s, struct mu_err *err)
{
    const char *given = s->options.address;
    char host[256], port[8];
    struct addrinfo wanted = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found = NULL;
    if (!address_split(given, host, port) || getaddrinfo(host, port, &wanted, &found) != 0) {
        (void)mu_fail(err, MU_E_USAGE, "'%s' is no address to listen at", given);
        mu_err_cure(err, "give ADDRESS:PORT, or PORT for this machine alone");
        return MU_E_USAGE;
    }
    s->listener = listener_open(found);
    freeaddrinfo(found);
    struct sockaddr_storage bound = {.ss_family = AF_UNSPEC};
    socklen_t len = sizeof bound;
    if (s->listener < 0 || getsockname(s->listener, (struct sockaddr *)&bound, &len) != 0)
        return mu_fail_errno(err, MU_E_RESOURCE, errno, "cannot listen at %s", given);
    char name[NI_MAXHOST] = "?";
    (void)getnameinfo((struct sockaddr *)&bound, len, name, sizeof name, port, sizeof port,
                      NI_NUMERICHOST | NI_NUMERICSERV);
    bool wide = bound.ss_family == AF_INET6;
    (void)snprintf(s->url, sizeof s->url, "http://%s%s%s:%s", wide ? "[" : "", name,
                   wide ? "]" : "", port);
    s->is_private = is_loopback(&bound);
    return MU_OK;
}

mu_status mu_net_server_start(const struct mu_net_server_options *options,
                              struct mu_net_server **out, struct mu_err *err)
{
    MU_TRY(library_load(err));
    struct mu_net_server *s = mu_calloc(1, sizeof *s);
    if (!s) return mu_fail_memory(err, sizeof *s);
    s->options = *options;
    s->listener = -1;
    for (unsigned i = 0; i < CLIENTS_MAX; i++)
        s->clients[i].fd = -1;
    mu_status status = listen_at(s, err);
    if (status == MU_OK) {
        /* More than there are places: those that were cut off take a moment to leave. */
        s->daemon = mhd.start_daemon(
            MHD_USE_AUTO | MHD_USE_INTERNAL_POLLING_THREAD, 0, NULL, NULL, on_request, s,
            MHD_OPTION_LISTEN_SOCKET, s->listener, MHD_OPTION_CONNECTION_LIMIT, 2u * CLIENTS_MAX,
            MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)CLIENT_IDLE_S,
            MHD_OPTION_CONNECTION_MEMORY_LIMIT, CLIENT_BYTES_MAX, MHD_OPTION_NOTIFY_CONNECTION,
            on_connection, s, MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_END);
        if (!s->daemon) status = mu_fail(err, MU_E_RESOURCE, "libmicrohttpd does not start");
    }
    if (status == MU_OK)
        *out = s;
    else
        mu_net_server_stop(s);
    return status;
}

void mu_net_server_stop(struct mu_net_server *server)
{
    if (!server) return;
    if (server->daemon)
        mhd.stop_daemon(server->daemon); /* closes the listener too */
    else if (server->listener >= 0)
        (void)close(server->listener);
    mu_free(server);
}

const char *mu_net_server_url(const struct mu_net_server *server)
{
    return server->url;
}

bool mu_net_server_is_private(const struct mu_net_server *server)
{
    return server->is_private;
}

#else

mu_status mu_net_server_start(const struct mu_net_server_options *options,
                              struct mu_net_server **out, struct mu_err *err)
{
    (void)options;
    (void)out;
    (void)mu_fail(err, MU_E_MISSING, "this muster was built without libmicrohttpd");
    mu_err_cure(err, "build it where libmicrohttpd-dev is installed");
    return MU_E_MISSING;
}

void mu_net_server_stop(struct mu_net_server *server)
{
    (void)server;
}

const char *mu_net_server_url(const struct mu_net_server *server)
{
    (void)server;
    return "";
}

bool mu_net_server_is_private(const struct mu_net_server *server)
{
    (void)server;
    return true;
}

#endif
