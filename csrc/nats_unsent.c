#include "nats_wbuf_private.h"

/*
 * What rewriting the buffer in place needs: what is kept is read at `from` and moved down to `to`;
 * the tags of kept frames move down, too.
 */
struct rewrite {
    size_t from;
    size_t to;
    size_t tag_from;
    size_t tag_to;
};

/* Is the frame at r->from tagged? Then its entry is tags[r->tag_from]. */
static int is_tagged(const nats_wbuf *w, const struct rewrite *r)
{
    return r->tag_from < w->tags_end && w->tags[r->tag_from].offset == w->origin + r->from;
}

/* Keep all frames from r->from up to the one at `until`. */
static void keep(nats_wbuf *w, struct rewrite *r, size_t until)
{
    size_t gap = r->from - r->to, n = until - r->from;
    while (r->tag_from < w->tags_end && w->tags[r->tag_from].offset < w->origin + until) {
        w->tags[r->tag_to].tag = w->tags[r->tag_from].tag;
        w->tags[r->tag_to++].offset = w->tags[r->tag_from++].offset - gap;
    }
    if (gap != 0)
        memmove(w->buf + r->to, w->buf + r->from, n);
    r->from = until;
    r->to += n;
}

static void drop_frame(nats_wbuf *w, struct rewrite *r, size_t len)
{
    if (is_tagged(w, r))
        r->tag_from++;
    if (nats_is_message(w->buf + r->from)) {
        w->counts.waiting--;
        w->counts.discarded++;
    }
    r->from += len;
}

static void finish_rewrite(nats_wbuf *w, const struct rewrite *r)
{
    assert(r->from == w->end && r->tag_from == w->tags_end);
    w->end = r->to;
    w->last = w->end; /* where it begins is not known any more */
    w->tags_end = r->tag_to;
    if (w->pos == w->end)
        nats_wbuf_start_over(w);
    nats_wbuf_check(w);
}

/* Positioned at the first frame of which no byte is sent or pinned. */
static struct rewrite skip_begun(nats_wbuf *w)
{
    struct rewrite r;
    nats_wbuf_advance(w);
    r.from = r.to = w->base;
    r.tag_from = r.tag_to = w->tags_begin;
    while (r.from < w->end && r.from < w->pos + w->pinned)
        keep(w, &r, r.from + nats_wbuf_frame_len(w, r.from));
    return r;
}

void nats_wbuf_take_back(nats_wbuf *w)
{
    struct rewrite r;
    nats_wbuf_advance(w);
    r.from = r.to = w->base;
    r.tag_from = r.tag_to = w->tags_begin;
    w->pos = w->base;
    w->pinned = 0;
    w->last_line_len = 0; /* the next connection has heard nothing yet */
    while (r.from < w->end) {
        size_t len = nats_wbuf_frame_len(w, r.from);
        if (nats_is_message(w->buf + r.from) && !is_tagged(w, &r))
            keep(w, &r, r.from + len);
        else
            drop_frame(w, &r, len);
    }
    w->queued = 0;
    finish_rewrite(w, &r);
}

size_t nats_wbuf_remove(nats_wbuf *w, const uint64_t *tags, size_t n)
{
    uint64_t before = w->counts.discarded;
    struct rewrite r = skip_begun(w);
    size_t at, i = 0;
    for (at = r.tag_from; at < w->tags_end; at++) {
        while (i < n && tags[i] < w->tags[at].tag)
            i++;
        if (i == n)
            break;
        if (tags[i] == w->tags[at].tag) {
            keep(w, &r, (size_t)(w->tags[at].offset - w->origin));
            drop_frame(w, &r, nats_wbuf_frame_len(w, r.from));
        }
    }
    keep(w, &r, w->end);
    finish_rewrite(w, &r);
    return (size_t)(w->counts.discarded - before);
}

size_t nats_wbuf_drop_messages(nats_wbuf *w)
{
    uint64_t before = w->counts.discarded;
    struct rewrite r = skip_begun(w);
    while (r.from < w->end) {
        size_t len = nats_wbuf_frame_len(w, r.from);
        if (nats_is_message(w->buf + r.from))
            drop_frame(w, &r, len);
        else
            keep(w, &r, r.from + len);
    }
    finish_rewrite(w, &r);
    return (size_t)(w->counts.discarded - before);
}

size_t nats_wbuf_recheck(nats_wbuf *w, int headers, uint64_t *tags, size_t cap, size_t *n_tags)
{
    uint64_t before = w->counts.discarded;
    size_t most = w->limits.max_payload;
    struct rewrite r = skip_begun(w);
    *n_tags = 0;
    while (r.from < w->end) {
        const char *p = w->buf + r.from, *lf = memchr(p, '\n', w->end - r.from);
        size_t len = nats_wbuf_frame_len(w, r.from);
        size_t body = len - (size_t)(lf - p) - 1; /* with CRLF, when it is a message */
        int too_much = nats_is_message(p) &&
                       ((most != 0 && body - 2 > most) || (p[0] == 'H' && !headers));
        if (!too_much) {
            keep(w, &r, r.from + len);
            continue;
        }
        if (is_tagged(w, &r) && *n_tags < cap)
            tags[(*n_tags)++] = w->tags[r.tag_from].tag;
        drop_frame(w, &r, len);
    }
    finish_rewrite(w, &r);
    return (size_t)(w->counts.discarded - before);
}
