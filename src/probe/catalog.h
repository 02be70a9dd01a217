/*
 * The catalogue: what makers publish of devices and links, and how much of that each engine reaches
 * (share/devices.tsv, links.tsv, engines.tsv). Facts and figures only; what follows from them is
 * plan's. Any thread; a catalogue is read-only once loaded.
 */
#ifndef MU_PROBE_CATALOG_H
#define MU_PROBE_CATALOG_H

#include "base/text.h"

#include <stdint.h>

struct mu_probe_link {
    const char *name;
    double bytes_per_s; /* one direction, per device */
    double latency_s;   /* of a small all-reduce between two */
    double wake_s;      /* more, when a receiver has waited long; 0: it never sleeps */
    double efficiency;  /* what a large one reaches */
    double crowding;    /* efficiency falls with (2 / devices) ^ crowding */
    uint32_t span;      /* how many devices one such link joins; 0: all of a host */
    bool between;       /* joins hosts */
};

/* What a multiplication's operands are rounded to; a device without a rate falls back. */
enum mu_probe_rate {
    MU_PROBE_F32,
    MU_PROBE_F16,
    MU_PROBE_F8,
    MU_PROBE_I8,
    MU_PROBE_F4,
    MU_PROBE_RATES
};

struct mu_probe_device {
    const char *name;
    struct mu_str aliases; /* comma between */
    double memory_bytes, usable_bytes;
    double bytes_per_s;
    double rates[MU_PROBE_RATES];           /* operations a second, dense; 0: none of its own */
    double watts;                           /* the whole device at most; 0: not published */
    const struct mu_probe_link *link, *bus; /* link: NULL for none but the bus */
    uint32_t node;                          /* devices in a host */
};

/* How much of the limits an engine reaches, and what it adds; the columns of share/engines.tsv,
 * where the meaning of each stands. Shares are of 1, times in seconds. */
struct mu_probe_engine {
    const char *name;
    double weights, kv, f16, f8, f4, attention;
    double experts, experts_widened, experts_math, experts_math_widened, routing;
    double op_s, step_s, sequence_s, latency, exchange;
    double mixing, first_s, burst, queue;
    double memory_share, overhead_bytes, pair_bytes, group_bytes, chunk, kv8, even_heads, trees;
};

/* What others published of a model on so many devices; share/published.tsv says of what. */
struct mu_probe_published {
    const char *model, *format, *source;
    const struct mu_probe_device *device;
    unsigned n;
    double low, high; /* tokens a second; 0: it does not fit */
};

struct mu_probe_catalog {
    struct mu_arena *arena;
    struct mu_probe_device *devices;
    struct mu_probe_link *links;
    struct mu_probe_engine *engines;
    struct mu_probe_published *published;
    size_t n_devices, n_links, n_engines, n_published;
};

mu_status mu_probe_catalog_load(struct mu_probe_catalog **out, struct mu_err *err);
void mu_probe_catalog_destroy(struct mu_probe_catalog *catalog);

/* By name or alias, as people and drivers spell it; an error that names the nearest. */
mu_status mu_probe_find_device(const struct mu_probe_catalog *catalog, struct mu_str name,
                               const struct mu_probe_device **out, struct mu_err *err);
mu_status mu_probe_find_link(const struct mu_probe_catalog *catalog, struct mu_str name,
                             const struct mu_probe_link **out, struct mu_err *err);
mu_status mu_probe_find_engine(const struct mu_probe_catalog *catalog, struct mu_str name,
                               const struct mu_probe_engine **out, struct mu_err *err);

/* NULL when nothing was published; `model` is as an engine names it, `device` as its driver does.
 */
const struct mu_probe_published *mu_probe_find_published(const struct mu_probe_catalog *catalog,
                                                         const char *model, struct mu_str device,
                                                         unsigned n);

#endif
