/* muster top --export: the figures as a page for Prometheus. Called by the server's thread, which
 * owns the view it fills. */
#include "cli/top.h"

#include "base/alloc.h"
#include "base/number.h"
#include "net/net.h"

#include <unistd.h>

struct top_export {
    struct top_data *data;
    struct top_view view;
    char host[256];
    struct mu_net_server *server;
};

/* "type;version=1;q=0.5, other": how much `type` is wanted, 0 to 1. */
static double wanted(const char *accept, const char *type)
{
    double most = 0;
    for (struct mu_str rest = mu_str(accept); rest.len;) {
        struct mu_str item = mu_str_take(&rest, ',');
        double q = 1;
        while (item.len && *item.p == ' ')
            item = (struct mu_str){item.p + 1, item.len - 1};
        struct mu_str name = mu_str_take(&item, ';');
        while (item.len) {
            struct mu_str part = mu_str_take(&item, ';');
            while (part.len && *part.p == ' ')
                part = (struct mu_str){part.p + 1, part.len - 1};
            if (part.len > 2 && memcmp(part.p, "q=", 2) == 0 &&
                !mu_parse_f64((struct mu_str){part.p + 2, part.len - 2}, &q))
                q = 0;
        }
        if (mu_str_is(name, type)) most = MU_MAX(most, q);
    }
    return most;
}

/* The sampler's figures are younger than those of the last look. */
static void samples_take(struct top_view *v)
{
    for (unsigned i = 0; i < v->node->n_gpus; i++)
        if (v->gpus[i].n && !v->node->gpus[i].unusable)
            memcpy(v->node->gpus[i].values, v->gpus[i].samples[v->gpus[i].n - 1].values,
                   sizeof v->gpus[i].samples[0].values);
}

static void metrics_page(struct top_export *x, const char *accept, struct mu_net_page *page)
{
    static const char openmetrics[] = "application/openmetrics-text";
    double share = wanted(accept, openmetrics);
    bool open = share > 0 && share >= wanted(accept, "text/plain");
    if (top_view_get(x->data, &x->view, NULL) != MU_OK) {
        page->http_status = 503;
        return;
    }
    samples_take(&x->view);
    page->type = open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                      : "text/plain; version=0.0.4; charset=utf-8";
    struct mu_probe_exposition e = {.node = x->view.node,
                                    .cpu = &x->view.cpu,
                                    .cost = &x->view.cost,
                                    .host = x->host,
                                    .openmetrics = open};
    mu_probe_metrics_text(&e, &page->body);
}

static void page_make(void *context, const char *path, const char *accept, struct mu_net_page *page)
{
    if (strcmp(path, "/metrics") == 0) {
        metrics_page(context, accept, page);
        return;
    }
    page->http_status = strcmp(path, "/") == 0 ? 200 : 404;
    mu_text_str(&page->body, "The figures of muster top are at /metrics.\n");
}

mu_status top_export_start(const char *address, struct top_data *data, struct top_export **out,
                           struct mu_err *err)
{
    struct top_export *x = mu_calloc(1, sizeof *x);
    if (!x) return mu_fail_memory(err, sizeof *x);
    x->data = data;
    (void)gethostname(x->host, sizeof x->host - 1);
    struct mu_net_server_options options = {.address = address, .page = page_make, .context = x};
    mu_status status = mu_net_server_start(&options, &x->server, err);
    if (status == MU_OK)
        *out = x;
    else
        top_export_stop(x);
    return status;
}

void top_export_stop(struct top_export *x)
{
    if (!x) return;
    mu_net_server_stop(x->server);
    top_view_fini(&x->view);
    mu_free(x);
}

const char *top_export_url(const struct top_export *x)
{
    return mu_net_server_url(x->server);
}

bool top_export_is_private(const struct top_export *x)
{
    return mu_net_server_is_private(x->server);
}
