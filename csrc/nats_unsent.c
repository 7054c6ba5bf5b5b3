#include "nats_wbuf_private.h"

/*
 * One pass over the buffer that rewrites it in place. Kept frames are read at buf[from] and moved
 * down to buf[to]; their tags move from tags[tag_from] down to tags[tag_to].
 */
struct rewrite {
    size_t from;
    size_t to;
    size_t tag_from;
    size_t tag_to;
};

/* Return whether the frame at `from` is tagged; then its entry is tags[tag_from]. */
static int is_tagged(const nats_wbuf *wbuf, const struct rewrite *rewrite)
{
    return rewrite->tag_from < wbuf->tags_end &&
           wbuf->tags[rewrite->tag_from].offset == wbuf->origin + rewrite->from;
}

/* Keep all frames from `from` up to the frame at `until`. */
static void keep(nats_wbuf *wbuf, struct rewrite *rewrite, size_t until)
{
    size_t gap = rewrite->from - rewrite->to, n = until - rewrite->from;
    assert(rewrite->to <= rewrite->from && rewrite->from <= until && until <= wbuf->end);
    while (rewrite->tag_from < wbuf->tags_end &&
           wbuf->tags[rewrite->tag_from].offset < wbuf->origin + until) {
        wbuf->tags[rewrite->tag_to].tag = wbuf->tags[rewrite->tag_from].tag;
        wbuf->tags[rewrite->tag_to++].offset = wbuf->tags[rewrite->tag_from++].offset - gap;
    }
    if (gap != 0)
        memmove(wbuf->buf + rewrite->to, wbuf->buf + rewrite->from, n);
    rewrite->from = until;
    rewrite->to += n;
}

/* Drop the frame at `from`, and count it if it is a message. */
static void drop_frame(nats_wbuf *wbuf, struct rewrite *rewrite, size_t len)
{
    if (is_tagged(wbuf, rewrite))
        rewrite->tag_from++;
    if (nats_is_message(wbuf->buf + rewrite->from)) {
        assert(wbuf->counts.waiting > 0);
        wbuf->counts.waiting--;
        wbuf->counts.discarded++;
    }
    rewrite->from += len;
}

/* End the pass: what has been kept is now the content of the buffer. */
static void finish_rewrite(nats_wbuf *wbuf, const struct rewrite *rewrite)
{
    assert(rewrite->from == wbuf->end && rewrite->tag_from == wbuf->tags_end);
    wbuf->end = rewrite->to;
    wbuf->last = wbuf->end; /* where the last frame begins is not known any more */
    wbuf->tags_end = rewrite->tag_to;
    if (wbuf->pos == wbuf->end)
        nats_wbuf_start_over(wbuf);
    nats_wbuf_check(wbuf);
}

/* Begin a pass at the first frame of which no byte is sent or pinned. */
static struct rewrite skip_begun(nats_wbuf *wbuf)
{
    struct rewrite rewrite;
    nats_wbuf_advance(wbuf);
    rewrite.from = rewrite.to = wbuf->base;
    rewrite.tag_from = rewrite.tag_to = wbuf->tags_begin;
    while (rewrite.from < wbuf->end && rewrite.from < wbuf->pos + wbuf->pinned)
        keep(wbuf, &rewrite, rewrite.from + nats_wbuf_frame_len(wbuf, rewrite.from));
    return rewrite;
}

void nats_wbuf_take_back(nats_wbuf *wbuf)
{
    struct rewrite rewrite;
    nats_wbuf_advance(wbuf);
    rewrite.from = rewrite.to = wbuf->base;
    rewrite.tag_from = rewrite.tag_to = wbuf->tags_begin;
    wbuf->pos = wbuf->base;
    wbuf->pinned = 0;
    wbuf->last_line_len = 0; /* the next connection has sent nothing yet */
    while (rewrite.from < wbuf->end) {
        size_t len = nats_wbuf_frame_len(wbuf, rewrite.from);
        if (nats_is_message(wbuf->buf + rewrite.from) && !is_tagged(wbuf, &rewrite))
            keep(wbuf, &rewrite, rewrite.from + len);
        else
            drop_frame(wbuf, &rewrite, len);
    }
    wbuf->queued = 0;
    finish_rewrite(wbuf, &rewrite);
}

/* Return the index of the first of n ascending tags that is not below this one. */
static size_t first_from(const uint64_t *tags, size_t n, uint64_t tag)
{
    size_t begin = 0;
    while (begin < n) {
        size_t middle = begin + (n - begin) / 2;
        if (tags[middle] < tag)
            begin = middle + 1;
        else
            n = middle;
    }
    return begin;
}

size_t nats_wbuf_remove(nats_wbuf *wbuf, const uint64_t *tags, size_t n)
{
    uint64_t before = wbuf->counts.discarded;
    struct rewrite rewrite = skip_begun(wbuf);
    size_t at, i = 0;
    for (at = rewrite.tag_from; at < wbuf->tags_end; at++) {
        uint64_t tag = wbuf->tags[at].tag;
        if (wbuf->tags_mixed)
            i = first_from(tags, n, tag);
        while (i < n && tags[i] < tag)
            i++;
        if (i < n && tags[i] == tag) {
            keep(wbuf, &rewrite, (size_t)(wbuf->tags[at].offset - wbuf->origin));
            drop_frame(wbuf, &rewrite, nats_wbuf_frame_len(wbuf, rewrite.from));
        } else if (i == n && !wbuf->tags_mixed) {
            break;
        }
    }
    keep(wbuf, &rewrite, wbuf->end);
    finish_rewrite(wbuf, &rewrite);
    return (size_t)(wbuf->counts.discarded - before);
}

size_t nats_wbuf_drop_messages(nats_wbuf *wbuf)
{
    uint64_t before = wbuf->counts.discarded;
    struct rewrite rewrite = skip_begun(wbuf);
    while (rewrite.from < wbuf->end) {
        size_t len = nats_wbuf_frame_len(wbuf, rewrite.from);
        if (nats_is_message(wbuf->buf + rewrite.from))
            drop_frame(wbuf, &rewrite, len);
        else
            keep(wbuf, &rewrite, rewrite.from + len);
    }
    finish_rewrite(wbuf, &rewrite);
    return (size_t)(wbuf->counts.discarded - before);
}

size_t nats_wbuf_recheck(nats_wbuf *wbuf, int headers, uint64_t *tags, size_t cap, size_t *n_tags)
{
    uint64_t before = wbuf->counts.discarded;
    size_t most = wbuf->limits.max_payload;
    struct rewrite rewrite = skip_begun(wbuf);
    *n_tags = 0;
    while (rewrite.from < wbuf->end) {
        const char *p = wbuf->buf + rewrite.from,
                   *lf = (const char *)memchr(p, '\n', wbuf->end - rewrite.from);
        size_t len = nats_wbuf_frame_len(wbuf, rewrite.from);
        size_t body = len - (size_t)(lf - p) - 1; /* with CRLF, if the frame is a message */
        int too_much =
            nats_is_message(p) && ((most != 0 && body - 2 > most) || (p[0] == 'H' && !headers));
        if (!too_much) {
            keep(wbuf, &rewrite, rewrite.from + len);
            continue;
        }
        if (is_tagged(wbuf, &rewrite) && *n_tags < cap)
            tags[(*n_tags)++] = wbuf->tags[rewrite.tag_from].tag;
        drop_frame(wbuf, &rewrite, len);
    }
    finish_rewrite(wbuf, &rewrite);
    return (size_t)(wbuf->counts.discarded - before);
}
