/* What muster top gathers and how it is drawn: top_data.c, top_screen.c,
 * top_export.c, cmd_top.c. */
#ifndef MU_CLI_TOP_H
#define MU_CLI_TOP_H

#include "health/health.h"

#define TOP_HISTORY 256 /* samples of a device that are kept, 10 a second */

/* One view of everything; plain data of the thread that asked for it. */
struct top_view {
    struct mu_probe_node *node;
    struct mu_probe_cpu cpu;
    double nvlink_sent[MU_PROBE_GPUS_MAX], nvlink_received[MU_PROBE_GPUS_MAX]; /* bytes a second;
                                                                   negative: not known yet */
    double cpu_busy; /* share since the view before; negative: not known yet */
    struct {
        struct mu_probe_sample samples[TOP_HISTORY];
        unsigned n;
    } gpus[MU_PROBE_GPUS_MAX];
    json_t *engine;       /* the figures of its /metrics; NULL: none */
    char engine_why[200]; /* why there are none */
    bool engine_awaited;  /* it was asked, and neither answered nor failed yet */
    bool engine_gone;     /* it cannot be reached */
    double tokens_per_s;  /* from its counter; negative: not known */
    struct mu_probe_sampler_cost cost;
};

struct top_data;
/* Starts the sampler, and a thread that looks at the rest every second. */
mu_status top_data_start(const char *url, const char *token, struct top_data **out,
                         struct mu_err *err);
void top_data_stop(struct top_data *d);
mu_status top_view_get(struct top_data *d, struct top_view *v, struct mu_err *err);
/* Before the first get, zero it. */
void top_view_fini(struct top_view *v);
json_t *top_view_json(const struct top_view *v);

/* The figures as a page for Prometheus, for as long as `data` lives. */
struct top_export;
mu_status top_export_start(const char *address, struct top_data *data, struct top_export **out,
                           struct mu_err *err);
void top_export_stop(struct top_export *x); /* NULL is fine */
const char *top_export_url(const struct top_export *x);
/* False when others than this machine can reach it. */
bool top_export_is_private(const struct top_export *x);

enum top_tone { TOP_PLAIN, TOP_HEAD, TOP_GOOD, TOP_WARN, TOP_BAD };
#define TOP_LINES_MAX 256
#define TOP_WIDTH_MAX 240
struct top_screen {
    struct {
        char text[TOP_WIDTH_MAX + 1];
        enum top_tone tone;
    } lines[TOP_LINES_MAX];
    unsigned n, width;
};
/* Draws the view in lines of at most `width` ASCII characters. */
void top_screen_draw(struct top_screen *s, const struct top_view *view, unsigned width);

#endif
