/* A placement as a picture: boxes of text, or SVG. See write.h. */
#include "plan/write.h"

#define GIB       1073741824.0
#define BAR_CELLS 24
#define BOX_WIDTH (BAR_CELLS + 2)
#define BOXES     4 /* side by side */

enum part { WEIGHTS, KV, ACTIVATIONS, OVERHEAD, FREE, PARTS };

static void parts_of(const struct mu_plan_memory *m, double out[PARTS])
{
    double left = m->budget_bytes - mu_plan_memory_total(m);
    out[WEIGHTS] = m->weights_bytes;
    out[KV] = m->kv_bytes;
    out[ACTIVATIONS] = m->activation_bytes;
    out[OVERHEAD] = m->overhead_bytes;
    out[FREE] = left > 0 ? left : 0;
}

/* ---- Boxes --------------------------------------------------------------------------------- */

static void add_rule(struct mu_text *out, const char *left, const char *right)
{
    mu_text_str(out, left);
    for (int i = 0; i < BOX_WIDTH; i++)
        mu_text_str(out, "─");
    mu_text_str(out, right);
    mu_text_char(out, ' ');
}

static void add_line(struct mu_text *out, const char *text)
{
    mu_text_printf(out, "│ %-*.*s│ ", BOX_WIDTH - 1, BOX_WIDTH - 1, text);
}

static void add_bar(struct mu_text *out, const struct mu_plan_memory *m)
{
    static const char *const cells[PARTS] = {"█", "▓", "▒", "▒", "░"};
    double parts[PARTS], whole = 0, sum = 0;
    int cell = 0;
    parts_of(m, parts);
    for (int i = 0; i < PARTS; i++)
        whole += parts[i];
    mu_text_str(out, "│ ");
    for (int i = 0; i < PARTS; i++)
        for (sum += parts[i]; cell < BAR_CELLS && cell + 0.5 < sum / whole * BAR_CELLS; cell++)
            mu_text_str(out, cells[i]);
    for (; cell < BAR_CELLS; cell++)
        mu_text_str(out, cells[FREE]);
    mu_text_str(out, " │ ");
}

static void add_row(struct mu_text *out, const struct mu_plan_candidate *c, uint32_t first,
                    uint32_t n)
{
    struct mu_text line;
    mu_text_init(&line, 256);
    for (uint32_t i = 0; i < n; i++)
        add_rule(out, "┌", "┐");
    mu_text_char(out, '\n');
    for (int text = 0; text < 5; text++) {
        for (uint32_t i = 0; i < n; i++) {
            const struct mu_plan_device *d = &c->devices[first + i];
            const struct mu_plan_memory *m = &d->memory;
            mu_text_clear(&line);
            if (text == 0) mu_text_printf(&line, "%u %s", d->slot, d->device->name);
            if (text == 1)
                mu_text_printf(&line, "layers %u-%u, rank %u of %u", d->layer_first,
                               d->layer_end - 1, d->tp_rank + 1, c->tp);
            if (text == 3)
                mu_text_printf(&line, "weights %.2f kv %.2f GiB", m->weights_bytes / GIB,
                               m->kv_bytes / GIB);
            if (text == 4)
                mu_text_printf(&line, "%.2f of %.2f GiB", mu_plan_memory_total(m) / GIB,
                               m->budget_bytes / GIB);
            if (text == 2)
                add_bar(out, m);
            else
                add_line(out, mu_text_get(&line));
        }
        mu_text_char(out, '\n');
    }
    for (uint32_t i = 0; i < n; i++)
        add_rule(out, "└", "┘");
    mu_text_char(out, '\n');
    mu_text_fini(&line);
}

void mu_plan_write_picture(const struct mu_plan_candidate *c, struct mu_text *out)
{
    for (uint32_t i = 0; i < c->n_devices; i += BOXES) {
        const struct mu_plan_device *d = &c->devices[i];
        if (d->stage == 0 && d->tp_rank == 0 && c->dp > 1)
            mu_text_printf(out, "replica %u\n", d->replica);
        add_row(out, c, i, MU_MIN((uint32_t)BOXES, c->n_devices - i));
    }
    mu_text_str(out, "█ weights  ▓ keys and values  ▒ activations, overhead  ░ free\n");
}

/* ---- SVG ----------------------------------------------------------------------------------- */

#define SVG_WIDTH  240
#define SVG_HEIGHT 120

static void add_escaped(struct mu_text *out, const char *s)
{
    for (; *s; s++) {
        if (*s == '&' || *s == '<' || *s == '>' || *s == '"')
            mu_text_printf(out, "&#%d;", *s);
        else
            mu_text_char(out, *s);
    }
}

static void add_svg_device(const struct mu_plan_candidate *c, const struct mu_plan_device *d,
                           uint32_t x, uint32_t y, struct mu_text *out)
{
    static const char *const fills[PARTS] = {"#1f5fa8", "#e08e2b", "#7a9e52", "#9a9a9a", "#eeeeee"};
    double parts[PARTS], whole = 0, at = x + 10;
    parts_of(&d->memory, parts);
    for (int i = 0; i < PARTS; i++)
        whole += parts[i];
    mu_text_printf(out,
                   "<rect x=\"%u\" y=\"%u\" width=\"%d\" height=\"%d\" fill=\"none\" "
                   "stroke=\"#333\"/>\n<text x=\"%u\" y=\"%u\">%u ",
                   x, y, SVG_WIDTH - 10, SVG_HEIGHT - 10, x + 10, y + 20, d->slot);
    add_escaped(out, d->device->name);
    mu_text_printf(out, "</text>\n<text x=\"%u\" y=\"%u\">layers %u-%u, rank %u of %u</text>\n",
                   x + 10, y + 38, d->layer_first, d->layer_end - 1, d->tp_rank + 1, c->tp);
    for (int i = 0; i < PARTS; i++) {
        double width = parts[i] / whole * (SVG_WIDTH - 30);
        mu_text_printf(out,
                       "<rect x=\"%.1f\" y=\"%u\" width=\"%.1f\" height=\"20\" fill=\"%s\"/>\n", at,
                       y + 48, width, fills[i]);
        at += width;
    }
    mu_text_printf(out, "<text x=\"%u\" y=\"%u\">%.2f of %.2f GiB</text>\n", x + 10, y + 90,
                   mu_plan_memory_total(&d->memory) / GIB, d->memory.budget_bytes / GIB);
}

void mu_plan_write_svg(const struct mu_plan *plan, const char *model, struct mu_text *out)
{
    const struct mu_plan_candidate *c = &plan->candidates[0];
    uint32_t rows = MU_CEIL_DIV(c->n_devices, (uint32_t)BOXES);
    mu_text_printf(out,
                   "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%u\" "
                   "font-family=\"sans-serif\" font-size=\"13\">\n<text x=\"10\" y=\"20\">",
                   BOXES * SVG_WIDTH + 10, rows * SVG_HEIGHT + 40);
    add_escaped(out, model);
    mu_text_printf(out, ": tp %u, pp %u, dp %u, %s, %.1f tokens/s predicted</text>\n", c->tp, c->pp,
                   c->dp, c->format->name, c->predicted.decode_tokens_per_s);
    for (uint32_t i = 0; i < c->n_devices; i++)
        add_svg_device(c, &c->devices[i], 10 + i % BOXES * SVG_WIDTH, 35 + i / BOXES * SVG_HEIGHT,
                       out);
    mu_text_str(out, "</svg>\n");
}
