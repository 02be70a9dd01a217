/*
 * Placing modules one after the other: a module goes to the current device if it fits, is split
 * into its children if it may be, and else moves on to the next device.
 *
 * The two rule sets differ in three places, each marked by `accelerate`. Where the libraries fail
 * on a tie whose other end is already placed, it counts as placed here; where they lose buffers of
 * a module that was split, the buffers stay.
 */
#include "plan/device_map_int.h"

#define LIST_END MU_PLAN_TREE_NONE

struct walk {
    struct mu_plan_map_work *w;
    const struct mu_plan_tree *tree;
    struct mu_plan_map_device *devices;
    bool accelerate;
    double *used, *buffers;  /* bytes, by device */
    bool *main;              /* by device: keeps room for the largest layer that is left */
    unsigned device;         /* the one being filled */
    uint32_t *next, *prev;   /* the list of nodes to place; entry tree->n is its head */
    bool *waiting;           /* in that list */
    uint32_t *search;        /* scratch of the fallback */
    double largest;          /* bytes of the largest layers that are left */
    uint32_t *largest_nodes; /* those layers */
    uint32_t n_largest;
};

static const struct mu_plan_tree_node *node_at(const struct walk *k, uint32_t i)
{
    return &k->tree->nodes[i];
}

/* ---- the list ---- */

static void list_remove(struct walk *k, uint32_t i)
{
    k->next[k->prev[i]] = k->next[i];
    k->prev[k->next[i]] = k->prev[i];
    k->waiting[i] = false;
}

static void list_insert(struct walk *k, uint32_t before, uint32_t i)
{
    k->prev[i] = k->prev[before];
    k->next[i] = before;
    k->next[k->prev[before]] = i;
    k->prev[before] = i;
    k->waiting[i] = true;
}

static uint32_t list_first(const struct walk *k)
{
    return k->next[k->tree->n];
}

/* Puts what is directly below `node` in front of `before`: tensors and modules, in tree order. */
static void list_insert_children(struct walk *k, uint32_t before, uint32_t node)
{
    for (uint32_t i = node + 1; i < node_at(k, node)->end; i = node_at(k, i)->end)
        list_insert(k, before, i);
}

static void list_split(struct walk *k, uint32_t node)
{
    list_insert_children(k, node, node);
    list_remove(k, node);
}

static bool splittable(const struct walk *k, uint32_t i)
{
    return node_at(k, i)->n_children > 0 && !node_at(k, i)->no_split;
}

/* ---- the largest layer ---- */

static void largest_offer(struct walk *k, uint32_t i)
{
    double bytes = node_at(k, i)->bytes;
    if (bytes > k->largest) {
        k->largest = bytes;
        k->n_largest = 0;
    }
    if (bytes == k->largest) k->largest_nodes[k->n_largest++] = i;
}

/* Looks through all that waits. Loose tensors count at the start only, as in both libraries. */
static void largest_update(struct walk *k, bool tensors)
{
    k->largest = 0;
    k->n_largest = 0;
    for (uint32_t item = list_first(k); item != k->tree->n; item = k->next[item]) {
        if (node_at(k, item)->kind != MU_PLAN_TREE_MODULE) {
            if (tensors) largest_offer(k, item);
            continue;
        }
        for (uint32_t i = item; i < node_at(k, item)->end;) {
            bool layer = node_at(k, i)->kind == MU_PLAN_TREE_MODULE && !splittable(k, i);
            if (layer) largest_offer(k, i);
            i = layer ? node_at(k, i)->end : i + 1;
        }
    }
}

/* `node` was taken out of the list. */
static void largest_forget(struct walk *k, uint32_t node)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < k->n_largest; i++)
        if (!mu_plan_tree_inside(k->tree, k->largest_nodes[i], node))
            k->largest_nodes[n++] = k->largest_nodes[i];
    k->n_largest = n;
    if (n == 0) largest_update(k, false);
}

/* ---- ties ---- */

/* The waiting node that holds `tensor`, or LIST_END. */
static uint32_t holder(const struct walk *k, uint32_t tensor)
{
    uint32_t i = tensor;
    while (i != MU_PLAN_TREE_NONE && !k->waiting[i])
        i = node_at(k, i)->parent;
    return i;
}

/* Tensors outside `node` that are tied to one inside it, from `*from` on; LIST_END at the end. */
static uint32_t next_tied(const struct walk *k, uint32_t node, uint32_t *from)
{
    const struct mu_plan_tree *tree = k->tree;
    while (*from < tree->n_tied) {
        uint32_t tensor = tree->tied[(*from)++];
        if (mu_plan_tree_inside(tree, tensor, node)) continue;
        for (uint32_t i = 0; i < tree->n_tied; i++)
            if (node_at(k, tree->tied[i])->tie == node_at(k, tensor)->tie &&
                mu_plan_tree_inside(tree, tree->tied[i], node))
                return tensor;
    }
    return LIST_END;
}

/* Whether `from`'s predecessors in the walk over ties already named this holder. */
static bool held_before(const struct walk *k, uint32_t node, uint32_t holding, uint32_t tensor)
{
    uint32_t from = 0;
    for (uint32_t t; (t = next_tied(k, node, &from)) != tensor;)
        if (holder(k, t) == holding) return true;
    return false;
}

/* Bytes of the node with the waiting modules it is tied to; `*complete` tells whether all tied
 * tensors still wait. */
static double bytes_with_ties(const struct walk *k, uint32_t node, bool *complete)
{
    double bytes = node_at(k, node)->bytes;
    uint32_t from = 0;
    *complete = true;
    for (uint32_t t; (t = next_tied(k, node, &from)) != LIST_END;) {
        uint32_t other = holder(k, t);
        if (other == LIST_END)
            *complete = false;
        else if (k->accelerate)
            bytes += node_at(k, other)->bytes - node_at(k, t)->bytes;
        else if (!held_before(k, node, other, t))
            bytes += node_at(k, other)->bytes;
    }
    return bytes;
}

/* ---- the fallback of accelerate ---- */

/* Brings `node` into the list by splitting those above it that wait, and takes it out. */
static void extract(struct walk *k, uint32_t node)
{
    while (!k->waiting[node])
        list_split(k, holder(k, node));
    list_remove(k, node);
}

/* Pushes what is directly below `node`, the first on top. */
static uint32_t search_push_children(struct walk *k, uint32_t n, uint32_t node)
{
    uint32_t first = n;
    for (uint32_t i = node + 1; i < node_at(k, node)->end; i = node_at(k, i)->end)
        if (node_at(k, i)->kind != MU_PLAN_TREE_BUFFER) k->search[n++] = i;
    for (uint32_t a = first, b = n; a + 1 < b; a++) {
        uint32_t swap = k->search[a];
        k->search[a] = k->search[--b];
        k->search[b] = swap;
    }
    return n;
}

/* The first node, in the order of the list, splitting what can be, of at most `room` bytes. */
static uint32_t search_fitting(struct walk *k, double room)
{
    uint32_t n = 0;
    for (uint32_t i = k->prev[k->tree->n]; i != k->tree->n; i = k->prev[i])
        k->search[n++] = i;
    while (n > 0) {
        uint32_t i = k->search[--n];
        bool complete;
        if (bytes_with_ties(k, i, &complete) <= room && complete) return i;
        if (splittable(k, i)) n = search_push_children(k, n, i);
    }
    return LIST_END;
}

/*
 * When a device got nothing: some module smaller than `node`, whose turn it is, may fit, and comes
 * first then. It fits for certain when its turn comes, so the walk ends.
 */
static bool fallback(struct walk *k, uint32_t node, double needed)
{
    if (!k->accelerate || !k->w->request->fallback_allocation || k->used[k->device] != 0)
        return false;
    double room = k->devices[k->device].limit_bytes - MU_MAX(k->largest, needed);
    list_remove(k, node);
    uint32_t found = room >= 0 ? search_fitting(k, room) : LIST_END;
    if (found != LIST_END) extract(k, found);
    list_insert(k, list_first(k), node);
    if (found != LIST_END) list_insert(k, node, found);
    return found != LIST_END;
}

/* ---- the walk ---- */

static void place(struct walk *k, uint32_t node, double bytes)
{
    uint16_t device = (uint16_t)k->device;
    k->used[device] += bytes;
    k->w->device_of[node] = device;
    uint32_t from = 0;
    for (uint32_t t; (t = next_tied(k, node, &from)) != LIST_END;) {
        uint32_t other = holder(k, t);
        if (other == LIST_END) continue;
        list_remove(k, other);
        k->w->device_of[other] = device;
    }
    if (node_at(k, node)->kind == MU_PLAN_TREE_MODULE)
        k->buffers[device] += node_at(k, node)->buffer_bytes;
}

/* Splits the first module tied to `node` that can be, which makes the two of them smaller. */
static bool split_tied(struct walk *k, uint32_t node)
{
    uint32_t from = 0;
    for (uint32_t t; (t = next_tied(k, node, &from)) != LIST_END;) {
        uint32_t other = holder(k, t);
        if (other == LIST_END || !splittable(k, other)) continue;
        list_split(k, other);
        return true;
    }
    return false;
}

static void treat(struct walk *k, uint32_t node)
{
    struct mu_plan_map_device *device = &k->devices[k->device];
    bool unlimited = strcmp(device->name, "disk") == 0, complete;
    double bytes = node_at(k, node)->bytes, needed = bytes_with_ties(k, node, &complete);
    double reserved = k->main[k->device] ? k->largest : 0;
    double limit = device->limit_bytes - reserved, *used = &k->used[k->device];

    if (unlimited || *used + needed <= limit) {
        place(k, node, needed);
        return;
    }
    /* Its turn comes again, whole or in pieces. */
    list_insert(k, list_first(k), node);
    if (*used + bytes <= limit && split_tied(k, node)) {
        largest_update(k, false);
    } else if (splittable(k, node) && (!k->accelerate || *used + bytes >= limit)) {
        list_split(k, node);
        largest_update(k, false);
    } else if (!fallback(k, node, needed)) {
        if (*used == 0) device->minimum_bytes = needed + reserved;
        *used += reserved;
        k->device++;
    }
}

/* Buffers of offloaded modules stay on a GPU, which must have room for them. */
static mu_status check_buffers(struct walk *k, struct mu_err *err)
{
    double offloaded = 0;
    bool gpus = false, room = false;
    for (size_t i = 0; i < k->w->map->n_devices; i++)
        if (k->devices[i].gpu < 0 && strcmp(k->devices[i].name, "mps") != 0)
            offloaded += k->buffers[i];
    for (size_t i = 0; i < k->w->map->n_devices; i++) {
        if (k->devices[i].gpu < 0 && strcmp(k->devices[i].name, "mps") != 0) continue;
        gpus = true;
        room |= k->devices[i].limit_bytes >= offloaded + k->used[i];
    }
    if (offloaded == 0 || k->w->request->offload_buffers || !gpus || room) return MU_OK;
    return mu_plan_map_warn(
        k->w, err,
        "offloaded modules have %.0f bytes of buffers that stay on a GPU, and no GPU "
        "has room for them: --offload-buffers moves them too",
        offloaded);
}

static mu_status walk_init(struct walk *k, struct mu_err *err)
{
    struct mu_arena *arena = k->w->map->arena;
    size_t n = k->tree->n + (size_t)1, n_devices = k->w->map->n_devices;
    k->used = mu_arena_alloc(arena, 2 * n_devices, sizeof *k->used);
    k->main = mu_arena_alloc(arena, n_devices, sizeof *k->main);
    k->next = mu_arena_alloc(arena, 4 * n, sizeof *k->next);
    k->waiting = mu_arena_alloc(arena, n, sizeof *k->waiting);
    if (!k->used || !k->main || !k->next || !k->waiting)
        return mu_fail_memory(err, 4 * n * sizeof *k->next);
    k->buffers = k->used + n_devices;
    k->prev = k->next + n;
    k->search = k->prev + n;
    k->largest_nodes = k->search + n;
    k->next[k->tree->n] = k->prev[k->tree->n] = k->tree->n;
    /* Layers that are offloaded come back to the first GPU or to the cpu when their turn comes. */
    bool mps = false;
    for (size_t i = 0; i < n_devices; i++)
        mps |= strcmp(k->devices[i].name, "mps") == 0;
    for (size_t i = 0; i < n_devices; i++) {
        bool cpu = strcmp(k->devices[i].name, "cpu") == 0;
        k->main[i] = mps ? strcmp(k->devices[i].name, "mps") == 0
                         : cpu || (i == 0 && k->devices[i].gpu >= 0);
    }
    return MU_OK;
}

mu_status mu_plan_map_infer(struct mu_plan_map_work *w, struct mu_err *err)
{
    struct walk k = {.w = w, .tree = &w->tree, .devices = w->map->devices};
    k.accelerate = w->request->rules == MU_PLAN_ACCELERATE;
    MU_TRY(walk_init(&k, err));
    list_insert_children(&k, k.tree->n, 0);
    largest_update(&k, true);
    for (uint32_t node; (node = list_first(&k)) != k.tree->n;) {
        list_remove(&k, node);
        largest_forget(&k, node);
        treat(&k, node);
    }
    return check_buffers(&k, err);
}
