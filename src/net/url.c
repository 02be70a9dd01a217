/* The address of an engine, as people give it and as it is used; see net.h. Asks nobody. */
#include "net/net.h"

#include "base/number.h"

#include <stdio.h>
#include <strings.h>

static bool ends(struct mu_str s, const char *with)
{
    size_t n = strlen(with);
    return s.len >= n && memcmp(s.p + s.len - n, with, n) == 0;
}

/* "host", "host:1234" or "[::1]:1234". */
static bool host_is_good(struct mu_str host, const char **why)
{
    *why = "there is no host in it";
    const char *bracket = host.len && host.p[0] == '[' ? memchr(host.p, ']', host.len) : NULL;
    struct mu_str rest = host;
    if (bracket) rest = (struct mu_str){bracket, host.len - (size_t)(bracket - host.p)};
    const char *colon = memchr(rest.p, ':', rest.len);
    if (host.len == 0 || colon == host.p) return false;
    for (size_t i = 0; i < host.len; i++)
        if ((unsigned char)host.p[i] <= ' ' || host.p[i] == 0x7f) return false;
    uint64_t port;
    *why = "its port is no number from 1 to 65535";
    if (!colon) return true;
    struct mu_str digits = {colon + 1, rest.len - (size_t)(colon + 1 - rest.p)};
    return mu_parse_u64(digits, 1, 65535, &port);
}

/* The length of "http://" or of another scheme; 0: none is given. */
static size_t scheme_len(const char *s)
{
    size_t n = 0;
    while ((s[n] >= 'a' && s[n] <= 'z') || (s[n] >= 'A' && s[n] <= 'Z'))
        n++;
    return strncmp(s + n, "://", 3) == 0 ? n + 3 : 0;
}

mu_status mu_net_url_parse(const char *given, struct mu_net_url *out, struct mu_err *err)
{
    size_t lead = scheme_len(given);
    bool secure = lead == 8 && strncasecmp(given, "https", 5) == 0;
    bool spoken = secure || lead == 0 || (lead == 7 && strncasecmp(given, "http", 4) == 0);
    const char *scheme = secure ? "https://" : "http://", *why = "only http and https are spoken";
    struct mu_str rest = mu_str(given + lead);
    while (ends(rest, "/"))
        rest.len--;
    if (ends(rest, "/v1")) rest.len -= 3;
    while (ends(rest, "/"))
        rest.len--;
    size_t authority = 0, host = 0;
    for (; authority < rest.len && !memchr("/?#", rest.p[authority], 3); authority++)
        if (rest.p[authority] == '@') host = authority + 1;
    (void)snprintf(out->shown, sizeof out->shown, "%.*s%.*s", (int)lead, given,
                   (int)MU_MIN(rest.len - host, (size_t)1000), rest.p + host);
    bool good = spoken && host_is_good((struct mu_str){rest.p + host, authority - host}, &why);
    if (good && rest.len > 1000) {
        good = false;
        why = "it is longer than 1000 bytes";
    }
    if (!good) {
        (void)mu_fail(err, MU_E_USAGE, "'%s' is no address of an engine: %s", out->shown, why);
        mu_err_cure(err, "give http://HOST:PORT");
        return MU_E_USAGE;
    }
    (void)snprintf(out->base, sizeof out->base, "%s%.*s", scheme, (int)rest.len, rest.p);
    (void)snprintf(out->shown, sizeof out->shown, "%s%.*s", scheme, (int)(rest.len - host),
                   rest.p + host);
    return MU_OK;
}
