/* The device maps that prove tries; see prove_int.h. Those that a person would have to write out
 * are made here as places, part for part; the rest is made as for any command. */
#include "bench/prove_int.h"

#include "base/alloc.h"

/* Of what kind a part is: one of a layer's, or what stands before and behind the layers. */
#define OUTSIDE MU_PARTS_A_LAYER

struct dealing {
    uint32_t n; /* devices */
    uint32_t n_layers;
};

/* Layers by turns, so that every device is come back to. */
static struct mu_part_place back(const struct dealing *d, uint32_t part, uint32_t layer)
{
    return (struct mu_part_place){.stage = part == OUTSIDE ? 0 : (uint8_t)(layer % d->n)};
}

/* Attention, MLP and the norm before each on devices that follow each other. */
static struct mu_part_place split(const struct dealing *d, uint32_t part, uint32_t layer)
{
    return (struct mu_part_place){.stage = (uint8_t)((layer + part) % d->n)};
}

/* A third of the layers on the devices one after another, then one on the cpu, one on the disk. */
static struct mu_part_place offload(const struct dealing *d, uint32_t part, uint32_t layer)
{
    static const uint8_t homes[] = {MU_HOME_DEVICE, MU_HOME_HOST, MU_HOME_FILE};
    uint32_t third = part == OUTSIDE ? 0 : layer * 3 / d->n_layers;
    struct mu_part_place place = {.home = homes[third]};
    if (third == 0 && part != OUTSIDE)
        place.stage = (uint8_t)(layer * 3 * d->n / (d->n_layers + 2));
    return place;
}

/* Nothing but vectors on the device. */
static struct mu_part_place disk(const struct dealing *d, uint32_t part, uint32_t layer)
{
    (void)part;
    return (struct mu_part_place){.stage = (uint8_t)(layer * d->n / (d->n_layers + 1)),
                                  .home = MU_HOME_FILE};
}

static const struct {
    const char *name;
    struct mu_part_place (*deal)(const struct dealing *d, uint32_t part, uint32_t layer);
} maps[] = {
    [MU_MAP_BALANCED] = {"balanced", NULL}, [MU_MAP_BACK] = {"back", back},
    [MU_MAP_SPLIT] = {"split", split},      [MU_MAP_OFFLOAD] = {"offload", offload},
    [MU_MAP_DISK] = {"disk", disk},         [MU_MAP_GIVEN] = {"map", NULL},
};

const char *mu_placement_map_name(enum mu_placement_map map)
{
    return maps[map].name;
}

static struct mu_part_place *deal(const struct mu_placement *at, const struct mu_config *config)
{
    struct dealing d = {at->pp, config->n_layers};
    struct mu_part_place *places = mu_calloc(mu_part_count(config), sizeof *places);
    for (uint32_t i = 0; places && i < mu_part_count(config); i++) {
        bool outside = i == MU_PART_EMBED || i >= mu_part_norm(config);
        uint32_t layer = i == MU_PART_EMBED ? 0 : (i - 1) / MU_PARTS_A_LAYER;
        places[i] = maps[at->map].deal(&d, outside ? OUTSIDE : (i - 1) % MU_PARTS_A_LAYER, layer);
    }
    return places;
}

static mu_status make(const struct mu_prove_request *q, const struct mu_placement *at,
                      struct mu_engine_options *o, struct mu_plan_map **map, struct mu_err *err)
{
    struct mu_mapped_request balanced = {.device_map = json_string("balanced")};
    bool given = at->map == MU_MAP_GIVEN;
    o->tp = o->pp = 0;
    mu_status status = given || balanced.device_map
                           ? mu_mapped_make(q->file, given ? q->given : &balanced, o, map, err)
                           : mu_fail_memory(err, sizeof *o);
    json_decref(balanced.device_map);
    return status;
}

mu_status mu_placement_map(const struct mu_prove_request *q, const struct mu_placement *at,
                           struct mu_engine_options *o, struct mu_placed *out, struct mu_err *err)
{
    const struct mu_config *config = mu_model_file_config(q->file);
    *out = (struct mu_placed){0};
    if (at->map == MU_MAP_NONE) return MU_OK;
    if (!maps[at->map].deal) return make(q, at, o, &out->map, err);
    if (at->pp > config->n_layers)
        return mu_fail(err, MU_E_USAGE, "%u devices are more than the model has layers", at->pp);
    o->places = out->places = deal(at, config);
    return out->places ? MU_OK : mu_fail_memory(err, mu_part_count(config));
}

void mu_placed_fini(struct mu_placed *placed)
{
    mu_plan_map_destroy(placed->map);
    mu_free(placed->places);
}
