/*
 * Cutting a normalised text into the pieces that the model sees, step by step. A step sees each
 * piece alone, as the steps before left it. Knows nothing of ids. Read-only but for the scratch.
 */
#include "text/tokenizer_int.h"

#include "base/alloc.h"
#include "base/clock.h"
#include "base/utf8.h"

#define SEARCH_BASE_NS UINT64_C(5000000000)
#define SEARCH_BYTE_NS 2000

/* ---- Matchers ------------------------------------------------------------------------------ */

mu_status mu_matcher_init(struct mu_matcher *m, struct mu_str pattern, bool is_regex,
                          struct mu_err *err)
{
    *m = (struct mu_matcher){0};
    if (!is_regex)
        m->literal = pattern;
    else if (!(m->scan = mu_scan_find(pattern)))
        return mu_regex_create(pattern, &m->regex, err);
    return MU_OK;
}

void mu_matcher_fini(struct mu_matcher *m)
{
    mu_regex_destroy(m->regex);
}

void mu_search_begin(struct mu_search *s, const struct mu_matcher *m, size_t n_bytes,
                     struct mu_err *err)
{
    *s = (struct mu_search){.matcher = m, .err = err};
    if (!m->regex) return;
    s->deadline_ns = mu_clock_ns() + SEARCH_BASE_NS + (uint64_t)n_bytes * SEARCH_BYTE_NS;
    mu_regex_begin(s);
}

void mu_search_end(struct mu_search *s)
{
    if (s->matcher->regex) mu_regex_end(s);
}

bool mu_search_next(struct mu_search *s, size_t from, size_t *begin, size_t *end)
{
    const struct mu_matcher *m = s->matcher;
    if (from >= s->text.len || s->status != MU_OK) return false;
    if (m->scan) return mu_scan_next(m->scan, s->text, from, begin, end);
    if (m->regex) return mu_regex_next(s, from, begin, end);
    const char *p =
        m->literal.len == 1
            ? memchr(s->text.p + from, m->literal.p[0], s->text.len - from)
            : memmem(s->text.p + from, s->text.len - from, m->literal.p, m->literal.len);
    if (!p) return false;
    *begin = (size_t)(p - s->text.p);
    *end = *begin + m->literal.len;
    return true;
}

/* ---- Lists of pieces ----------------------------------------------------------------------- */

void mu_pre_scratch_init(struct mu_pre_scratch *s)
{
    *s = (struct mu_pre_scratch){0};
    mu_text_init(&s->text[0], MU_SCRATCH_MAX);
    mu_text_init(&s->text[1], MU_SCRATCH_MAX);
}

void mu_pre_scratch_fini(struct mu_pre_scratch *s)
{
    for (unsigned i = 0; i < 2; i++) {
        mu_text_fini(&s->text[i]);
        mu_free(s->pieces[i].p);
    }
}

static bool push(struct mu_pieces *list, size_t begin, size_t end)
{
    if (list->n == list->size) {
        size_t size = list->size * 2 + 64;
        struct mu_piece *p = mu_realloc(list->p, size * sizeof *p);
        if (!p) return false;
        list->p = p;
        list->size = size;
    }
    list->p[list->n++] = (struct mu_piece){(uint32_t)begin, (uint32_t)end};
    return true;
}

/* The state of one text on its way through the steps. */
struct work {
    struct mu_pre_scratch *s;
    struct mu_str text;
    unsigned current; /* which list holds the pieces now */
    bool at_start;
    struct mu_err *err;
};

static struct mu_pieces *current_list(struct work *w)
{
    return &w->s->pieces[w->current];
}

/* An empty list for the step's results. */
static struct mu_pieces *other_list(struct work *w)
{
    struct mu_pieces *list = &w->s->pieces[!w->current];
    list->n = 0;
    return list;
}

/* The buffer that the text does not live in, empty. */
static struct mu_text *other_text(struct work *w)
{
    struct mu_text *text = &w->s->text[w->text.p == w->s->text[0].p && w->s->text[0].p];
    mu_text_clear(text);
    return text;
}

static mu_status no_memory(struct work *w)
{
    return mu_fail_memory(w->err, w->text.len);
}

/* ---- Splits -------------------------------------------------------------------------------- */

/* One piece's parts: `first` is where its entries begin in the list. */
struct parts {
    struct mu_pieces *out;
    size_t first;
    enum mu_split_behavior behavior;
    bool was_match;
};

static bool add_part(struct parts *p, size_t begin, size_t end, bool is_match)
{
    bool joins = false, before = p->was_match, any = p->out->n > p->first;
    if (begin == end) return true;
    p->was_match = is_match;
    switch (p->behavior) {
    case MU_SPLIT_ISOLATED:
        break;
    case MU_SPLIT_REMOVED:
        if (is_match) return true;
        break;
    case MU_SPLIT_MERGED_WITH_PREVIOUS:
        joins = is_match && !before && any;
        break;
    case MU_SPLIT_MERGED_WITH_NEXT:
        joins = !is_match && before && any;
        break;
    case MU_SPLIT_CONTIGUOUS:
        joins = is_match == before && any;
        break;
    }
    if (!joins) return push(p->out, begin, end);
    p->out->p[p->out->n - 1].end = (uint32_t)end;
    return true;
}

static mu_status split_piece(struct work *w, const struct mu_pre_step *step, struct mu_search *s,
                             struct mu_piece piece, struct mu_pieces *out)
{
    struct parts parts = {out, out->n, step->step.behavior, false};
    size_t at = 0, begin, end;
    s->text = (struct mu_str){w->text.p + piece.begin, piece.end - piece.begin};
    while (mu_search_next(s, at, &begin, &end)) {
        if (!add_part(&parts, piece.begin + at, piece.begin + begin, step->step.invert) ||
            !add_part(&parts, piece.begin + begin, piece.begin + end, !step->step.invert))
            return no_memory(w);
        at = end;
    }
    MU_TRY(s->status);
    return add_part(&parts, piece.begin + at, piece.end, step->step.invert) ? MU_OK : no_memory(w);
}

static mu_status split(struct work *w, const struct mu_pre_step *step)
{
    struct mu_pieces *in = current_list(w), *out = other_list(w);
    struct mu_search search;
    mu_search_begin(&search, &step->matcher, w->text.len, w->err);
    mu_status status = search.status;
    for (size_t i = 0; i < in->n && status == MU_OK; i++)
        status = split_piece(w, step, &search, in->p[i], out);
    mu_search_end(&search);
    w->current = !w->current;
    return status;
}

/* ---- Steps that change the text ------------------------------------------------------------ */

static bool begins_with(struct mu_str text, struct mu_str s)
{
    return text.len >= s.len && memcmp(text.p, s.p, s.len) == 0;
}

static void add_prefixed(struct mu_str piece, struct mu_text *out)
{
    if (!begins_with(piece, MU_STR(" "))) mu_text_char(out, ' ');
    mu_text_add(out, piece.p, piece.len);
}

static void add_metaspace(const struct mu_tokenizer_step *step, struct mu_str piece, bool at_start,
                          struct mu_text *out)
{
    bool wanted =
        step->prepend == MU_PREPEND_ALWAYS || (step->prepend == MU_PREPEND_FIRST && at_start);
    if (wanted && !begins_with(piece, step->content) && !begins_with(piece, MU_STR(" ")))
        mu_text_add(out, step->content.p, step->content.len);
    while (piece.len > 0) {
        const char *space = memchr(piece.p, ' ', piece.len);
        size_t n = space ? (size_t)(space - piece.p) : piece.len;
        mu_text_add(out, piece.p, n);
        if (!space) break;
        mu_text_add(out, step->content.p, step->content.len);
        piece.p += n + 1;
        piece.len -= n + 1;
    }
}

/* Writes every piece anew, as the step spells it. */
static mu_status rewrite(struct work *w, const struct mu_pre_step *step)
{
    struct mu_pieces *in = current_list(w), *out = other_list(w);
    struct mu_text *text = other_text(w);
    for (size_t i = 0; i < in->n; i++) {
        struct mu_str piece = {w->text.p + in->p[i].begin, in->p[i].end - in->p[i].begin};
        size_t begin = text->len;
        if (step->step.kind == MU_STEP_PREFIX_SPACE)
            add_prefixed(piece, text);
        else if (step->step.kind == MU_STEP_METASPACE)
            add_metaspace(&step->step, piece, w->at_start && i == 0, text);
        else
            mu_add_byte_letters(text, piece);
        if (!push(out, begin, text->len)) return no_memory(w);
    }
    MU_TRY(mu_text_status(text, w->err));
    w->text = (struct mu_str){mu_text_get(text), text->len};
    w->current = !w->current;
    return MU_OK;
}

/* The letters of a byte map become bytes again; pieces keep their borders. */
static mu_status unmap(struct work *w)
{
    struct mu_pieces *in = current_list(w), *out = other_list(w);
    struct mu_text *text = other_text(w);
    unsigned len;
    for (size_t i = 0; i < in->n; i++) {
        size_t begin = text->len;
        for (uint32_t at = in->p[i].begin; at < in->p[i].end; at += len) {
            int byte = mu_letter_byte(mu_char_next((const uint8_t *)w->text.p + at, &len));
            mu_text_char(text, (char)byte);
        }
        if (!push(out, begin, text->len)) return no_memory(w);
    }
    MU_TRY(mu_text_status(text, w->err));
    w->text = (struct mu_str){mu_text_get(text), text->len};
    w->current = !w->current;
    return MU_OK;
}

mu_status mu_pretokenize(const struct mu_pretokenizer *pre, struct mu_str text, bool at_start,
                         struct mu_pre_scratch *s, struct mu_str *out_text,
                         const struct mu_pieces **out, struct mu_err *err)
{
    struct work w = {.s = s, .text = text, .at_start = at_start, .err = err};
    s->pieces[0].n = 0;
    if (text.len > 0 && !push(&s->pieces[0], 0, text.len)) return no_memory(&w);
    for (unsigned i = 0; i < pre->n; i++) {
        const struct mu_pre_step *step = &pre->steps[i];
        MU_TRY(step->step.kind == MU_STEP_SPLIT ? split(&w, step) : rewrite(&w, step));
        /* A metaspace is followed by a split of its own. */
        if (step->step.kind == MU_STEP_METASPACE && step->step.split) MU_TRY(split(&w, step));
    }
    if (pre->unmap) MU_TRY(unmap(&w));
    *out_text = w.text;
    *out = current_list(&w);
    return MU_OK;
}
