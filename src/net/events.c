/* Server-sent events: the data lines of a stream; see net.h. Engines put one document on one line,
 * so lines are not joined. */
#include "net/net.h"

void mu_net_events_init(struct mu_net_events *events, size_t line_max)
{
    mu_text_init(&events->line, line_max);
    events->skipping = false;
}

void mu_net_events_fini(struct mu_net_events *events)
{
    mu_text_fini(&events->line);
}

/* Gives the event of a complete line, if it is one. */
static bool line_end(struct mu_net_events *e, bool (*event)(void *context, struct mu_str data),
                     void *context)
{
    struct mu_str line = {mu_text_get(&e->line), e->line.len};
    if (line.len && line.p[line.len - 1] == '\r') line.len--;
    bool whole = e->line.status == MU_OK && !e->skipping;
    bool more = true;
    if (whole && line.len >= 5 && memcmp(line.p, "data:", 5) == 0) {
        size_t lead = line.len > 5 && line.p[5] == ' ' ? 6 : 5;
        more = event(context, (struct mu_str){line.p + lead, line.len - lead});
    }
    mu_text_clear(&e->line);
    e->skipping = false;
    return more;
}

bool mu_net_events_feed(struct mu_net_events *e, const char *bytes, size_t len,
                        bool (*event)(void *context, struct mu_str data), void *context)
{
    while (len > 0) {
        const char *newline = memchr(bytes, '\n', len);
        size_t n = newline ? (size_t)(newline - bytes) : len;
        if (!e->skipping) mu_text_add(&e->line, bytes, n);
        if (e->line.status != MU_OK) e->skipping = true;
        if (newline && !line_end(e, event, context)) return false;
        n += newline != NULL;
        bytes += n;
        len -= n;
    }
    return true;
}
