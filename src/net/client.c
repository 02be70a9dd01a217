/*
 * HTTP over libcurl, which is loaded when the first request wants it. Without its header at build
 * time, or without the library at run time, a request says so.
 */
#include "net/net.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/library.h"

#include <pthread.h>
#include <stddef.h>
#include <stdio.h>

static const struct {
    enum mu_net_fault fault;
    mu_status status;
    const char *name;
} faults[] = {
    {MU_NET_GOOD, MU_OK, "good"},
    {MU_NET_NO_LIBRARY, MU_E_MISSING, "no_library"},
    {MU_NET_BAD_URL, MU_E_USAGE, "bad_url"},
    {MU_NET_NO_NAME, MU_E_PEER, "no_such_host"},
    {MU_NET_REFUSED, MU_E_PEER, "refused"},
    {MU_NET_TLS, MU_E_PEER, "tls"},
    {MU_NET_NO_ANSWER, MU_E_PEER, "no_answer"},
    {MU_NET_STALLED, MU_E_PEER, "stalled"},
    {MU_NET_TOO_LONG, MU_E_PEER, "too_long"},
    {MU_NET_BROKEN_OFF, MU_E_PEER, "broken_off"},
    {MU_NET_TOO_LARGE, MU_E_PEER, "too_large"},
    {MU_NET_NOT_HTTP, MU_E_PEER, "not_http"},
    {MU_NET_STOPPED, MU_E_INTERRUPTED, "stopped"},
    {MU_NET_OTHER, MU_E_PEER, "other"},
};

const char *mu_net_fault_name(enum mu_net_fault fault)
{
    return faults[fault].name;
}

void mu_net_answer_fini(struct mu_net_answer *answer)
{
    mu_text_fini(&answer->body);
}

static mu_status fault_fill(struct mu_net_answer *a, enum mu_net_fault fault, const char *url,
                            const char *what, struct mu_err *err)
{
    a->fault = fault;
    mu_status status = mu_fail(err, faults[fault].status, "%s", what);
    struct mu_net_url parsed;
    (void)mu_net_url_parse(url, &parsed, NULL);
    mu_err_where(err, "%s", parsed.shown);
    return status;
}

#ifdef MU_HAVE_CURL

#include <curl/curl.h>

#define LINE_MAX_BYTES ((size_t)1 << 20)
#define WAIT_MS        100
/* Of a response's header in all; a single line of it is limited by libcurl, to less. */
#define HEADER_MAX_BYTES ((size_t)256 << 10)

/* clang-format off */
#define FUNCTIONS(X) \
    X(global_init) X(easy_init) X(easy_cleanup) X(easy_setopt) X(easy_getinfo) X(easy_strerror) \
    X(multi_init) X(multi_cleanup) X(multi_add_handle) X(multi_remove_handle) X(multi_perform) \
    X(multi_poll) X(multi_info_read) X(slist_append) X(slist_free_all)
/* clang-format on */

/* The header's macros of the same names check types, and stand in the way of pointers. */
#undef curl_easy_setopt
#undef curl_easy_getinfo

static struct {
#define POINTER_(name) __typeof__ (&curl_##name)(name);
    FUNCTIONS(POINTER_)
#undef POINTER_
} curl;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static struct mu_err library_err;

static void library_load(void)
{
    static const char *const names[] = {"libcurl.so.4", "libcurl-gnutls.so.4", "libcurl.so", NULL};
    static const struct mu_symbol symbols[] = {
#define SYMBOL_(name) {"curl_" #name, offsetof(__typeof__(curl), name)},
        FUNCTIONS(SYMBOL_)
#undef SYMBOL_
    };
    if (mu_library_load(names, symbols, MU_ARRAY_LEN(symbols), &curl, &library_err) == MU_OK &&
        curl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        (void)mu_fail(&library_err, MU_E_MISSING, "libcurl does not start");
}

struct transfer {
    const struct mu_net_request *request;
    struct mu_net_answer *answer;
    struct mu_net_events events;
    uint64_t start_ns, last_byte_ns;
    uint64_t n_bytes;
    size_t n_header_bytes;
    bool ended_by_event, too_large;
};

/* libcurl's callback for the bytes of the answer. */
static size_t on_bytes(char *bytes, size_t size, size_t n, void *arg)
{
    struct transfer *t = arg;
    size_t len = size * n;
    t->last_byte_ns = mu_clock_ns();
    if (t->n_bytes == 0) t->answer->first_byte_s = (double)(t->last_byte_ns - t->start_ns) * 1e-9;
    t->n_bytes += len;
    if (t->n_bytes > t->request->body_max) {
        t->too_large = true;
        return 0;
    }
    mu_text_add(&t->answer->body, bytes, len);
    if (!t->request->event) return len;
    t->ended_by_event =
        !mu_net_events_feed(&t->events, bytes, len, t->request->event, t->request->context);
    return t->ended_by_event ? 0 : len;
}

/* libcurl's callback for each line of the answer's header. */
static size_t on_header(char *bytes, size_t size, size_t n, void *arg)
{
    (void)bytes;
    struct transfer *t = arg;
    t->n_header_bytes += size * n;
    return t->n_header_bytes > HEADER_MAX_BYTES ? 0 : size * n;
}

static CURLcode options_set(CURL *easy, struct transfer *t, struct curl_slist *headers)
{
    const struct mu_net_request *r = t->request;
    struct {
        CURLoption option;
        long value;
    } numbers[] = {
        {CURLOPT_NOSIGNAL, 1},
        {CURLOPT_CONNECTTIMEOUT_MS, (long)r->connect_ms},
        {CURLOPT_TIMEOUT_MS, (long)r->total_ms},
        {CURLOPT_FOLLOWLOCATION, 0},
        {CURLOPT_HTTP_VERSION, CURL_HTTP_VERSION_1_1},
        {CURLOPT_BUFFERSIZE, 16384},
    };
    CURLcode code = CURLE_OK;
    for (size_t i = 0; i < MU_ARRAY_LEN(numbers) && code == CURLE_OK; i++)
        code = curl.easy_setopt(easy, numbers[i].option, numbers[i].value);
    struct {
        CURLoption option;
        const void *value;
    } pointers[] = {
        {CURLOPT_URL, r->url},
        {CURLOPT_PROTOCOLS_STR, "http,https"},
        {CURLOPT_NOPROXY, "localhost,127.0.0.1,::1"},
        {CURLOPT_USERAGENT, "muster/" MU_VERSION},
        {CURLOPT_WRITEDATA, t},
        {CURLOPT_HEADERDATA, t},
        {CURLOPT_HTTPHEADER, headers},
        {CURLOPT_POSTFIELDS, r->body},
    };
    for (size_t i = 0; i < MU_ARRAY_LEN(pointers) && code == CURLE_OK; i++)
        if (pointers[i].value) code = curl.easy_setopt(easy, pointers[i].option, pointers[i].value);
    if (code == CURLE_OK) code = curl.easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    return code == CURLE_OK ? curl.easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_bytes) : code;
}

/* libcurl has its own limit for a line of a header, and calls it memory that is out, or (since
 * 8.6) too large. Bytes of a body mean that the header was complete. */
static bool header_is_too_large(CURLcode code, const struct transfer *t)
{
    enum { TOO_LARGE = 100 }; /* CURLE_TOO_LARGE, which older headers lack */
    return t->n_header_bytes > HEADER_MAX_BYTES ||
           (t->n_bytes == 0 && ((int)code == CURLE_OUT_OF_MEMORY || (int)code == TOO_LARGE));
}

static enum mu_net_fault fault_of(CURLcode code, const struct transfer *t)
{
    switch ((int)code) {
    case CURLE_OK:
        return MU_NET_GOOD;
    case CURLE_URL_MALFORMAT:
        return MU_NET_BAD_URL;
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return MU_NET_NO_NAME;
    case CURLE_COULDNT_CONNECT:
        return MU_NET_REFUSED;
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
        return MU_NET_TLS;
    case CURLE_OPERATION_TIMEDOUT:
        return t->n_bytes ? MU_NET_TOO_LONG : MU_NET_NO_ANSWER;
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
        return MU_NET_BROKEN_OFF;
    case CURLE_UNSUPPORTED_PROTOCOL: /* the URL's was looked at before: this is the answer's */
    case CURLE_WEIRD_SERVER_REPLY:
    case CURLE_HTTP2:
        return MU_NET_NOT_HTTP;
    default:
        return MU_NET_OTHER;
    }
}

static const char *fault_text(enum mu_net_fault fault, CURLcode code, const struct transfer *t,
                              char *out, size_t size)
{
    const struct mu_net_request *r = t->request;
    const char *library = curl.easy_strerror(code);
    switch (fault) {
    case MU_NET_NOT_HTTP:
        return "what answers there does not speak HTTP";
    case MU_NET_NO_NAME:
        return "the host's name cannot be resolved";
    case MU_NET_REFUSED:
        return "nobody answers there: the connection was refused, or found no way";
    case MU_NET_NO_ANSWER:
        (void)snprintf(out, size, "connected, and no answer within %.1f s", r->total_ms * 1e-3);
        break;
    case MU_NET_STALLED:
        (void)snprintf(out, size, "the answer stopped: nothing came for %.1f s, after %llu bytes",
                       r->idle_ms * 1e-3, (unsigned long long)t->n_bytes);
        break;
    case MU_NET_TOO_LONG:
        (void)snprintf(out, size, "the answer was not complete after %.1f s, %llu bytes",
                       r->total_ms * 1e-3, (unsigned long long)t->n_bytes);
        break;
    case MU_NET_BROKEN_OFF:
        (void)snprintf(out, size, "the connection broke off after %llu bytes",
                       (unsigned long long)t->n_bytes);
        break;
    case MU_NET_TOO_LARGE:
        if (!t->too_large)
            return "the answer's header is larger than 256 KiB, or a line of it than 100 kB";
        (void)snprintf(out, size, "the answer is larger than %zu bytes", r->body_max);
        break;
    case MU_NET_GOOD:
    case MU_NET_NO_LIBRARY:
    case MU_NET_BAD_URL:
    case MU_NET_TLS:
    case MU_NET_OTHER:
    case MU_NET_STOPPED:
        (void)snprintf(out, size, "%s", library);
        break;
    }
    return out;
}

/* Moves the transfer along until it ends or one of our limits does. */
static enum mu_net_fault transfer_drive(CURLM *multi, struct transfer *t, CURLcode *code)
{
    const struct mu_net_request *r = t->request;
    for (int running = 1; running;) {
        if (curl.multi_perform(multi, &running) != CURLM_OK) return MU_NET_OTHER;
        if (!running) break;
        if (r->stop && r->stop()) return MU_NET_STOPPED;
        if (r->idle_ms && t->n_bytes && mu_clock_seconds_since(t->last_byte_ns) * 1e3 > r->idle_ms)
            return MU_NET_STALLED;
        (void)curl.multi_poll(multi, NULL, 0, WAIT_MS, NULL);
    }
    int left;
    const CURLMsg *message = curl.multi_info_read(multi, &left);
    *code = message ? message->data.result : CURLE_OK;
    if (t->too_large || header_is_too_large(*code, t)) return MU_NET_TOO_LARGE;
    return t->ended_by_event ? MU_NET_GOOD : fault_of(*code, t);
}

static void answer_take(CURL *easy, struct mu_net_answer *answer)
{
    long http = 0;
    const char *type = NULL;
    (void)curl.easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &http);
    (void)curl.easy_getinfo(easy, CURLINFO_CONTENT_TYPE, &type);
    answer->http_status = http > 0 && http < 1000 ? (unsigned)http : 0;
    (void)snprintf(answer->type, sizeof answer->type, "%s", type ? type : "");
}

static struct curl_slist *headers_make(const struct mu_net_request *r, bool *good)
{
    struct curl_slist *list = NULL;
    char line[1024];
    const char *lines[] = {"Expect:", r->body ? "Content-Type: application/json" : NULL, NULL};
    if (r->token) {
        (void)snprintf(line, sizeof line, "Authorization: Bearer %s", r->token);
        lines[2] = line;
    }
    *good = true;
    for (size_t i = 0; i < MU_ARRAY_LEN(lines); i++) {
        struct curl_slist *longer = lines[i] ? curl.slist_append(list, lines[i]) : list;
        *good = *good && longer;
        list = longer ? longer : list;
    }
    return list;
}

static mu_status transfer_run(struct transfer *t, struct mu_err *err)
{
    bool good;
    struct curl_slist *headers = headers_make(t->request, &good);
    CURL *easy = good ? curl.easy_init() : NULL;
    CURLM *multi = easy ? curl.multi_init() : NULL;
    mu_status status = MU_OK;
    if (!multi || options_set(easy, t, headers) != CURLE_OK ||
        curl.multi_add_handle(multi, easy) != CURLM_OK) {
        t->answer->fault = MU_NET_OTHER;
        status = mu_fail(err, MU_E_MEMORY, "no memory for a request");
    } else {
        CURLcode code = CURLE_OK;
        char text[256];
        enum mu_net_fault fault = transfer_drive(multi, t, &code);
        answer_take(easy, t->answer);
        if (fault != MU_NET_GOOD)
            status = fault_fill(t->answer, fault, t->request->url,
                                fault_text(fault, code, t, text, sizeof text), err);
        (void)curl.multi_remove_handle(multi, easy);
    }
    if (easy) curl.easy_cleanup(easy);
    if (multi) (void)curl.multi_cleanup(multi);
    curl.slist_free_all(headers);
    return status;
}

mu_status mu_net_fetch(const struct mu_net_request *request, struct mu_net_answer *answer,
                       struct mu_err *err)
{
    *answer = (struct mu_net_answer){.fault = MU_NET_GOOD};
    mu_text_init(&answer->body, request->body_max);
    (void)pthread_once(&once, library_load);
    if (library_err.code != MU_OK)
        return fault_fill(answer, MU_NET_NO_LIBRARY, request->url, library_err.what, err);
    if (strncmp(request->url, "http://", 7) != 0 && strncmp(request->url, "https://", 8) != 0)
        return fault_fill(answer, MU_NET_BAD_URL, request->url, "only http and https are spoken",
                          err);
    struct transfer t = {.request = request, .answer = answer, .start_ns = mu_clock_ns()};
    mu_net_events_init(&t.events, LINE_MAX_BYTES);
    mu_status status = transfer_run(&t, err);
    answer->total_s = mu_clock_seconds_since(t.start_ns);
    mu_net_events_fini(&t.events);
    return status;
}

#else

mu_status mu_net_fetch(const struct mu_net_request *request, struct mu_net_answer *answer,
                       struct mu_err *err)
{
    *answer = (struct mu_net_answer){.fault = MU_NET_GOOD};
    return fault_fill(answer, MU_NET_NO_LIBRARY, request->url,
                      "this muster was built without libcurl's header", err);
}

#endif
