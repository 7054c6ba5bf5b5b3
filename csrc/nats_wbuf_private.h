/*
 * nats_wbuf_private: how a write buffer keeps its frames, for nats_wbuf.c, which fills and empties it,
 * and nats_unsent.c, which takes frames out of its middle.
 */
#ifndef NATS_WBUF_PRIVATE_H
#define NATS_WBUF_PRIVATE_H

#include "nats_frame.h"
#include "nats_wbuf.h"

enum { NATS_LAST_LINE = 128 };

struct nats_tag {
    uint64_t tag;
    uint64_t offset; /* of its frame in the stream of all bytes ever queued */
};

struct nats_prefix {
    size_t offset; /* in the arena */
    size_t len;
};

/*
 * buf[base..end) are whole frames; buf[pos..end) is unsent. base is the frame that pos is inside
 * of, or an earlier one: it follows lazily. The frames describe themselves, so nothing else is kept
 * of them, except where the tagged ones are.
 */
struct nats_wbuf {
    nats_wbuf_limits limits;
    nats_wbuf_counts counts;
    char *buf;
    size_t cap;
    size_t base;
    size_t pos;
    size_t end;
    uint64_t origin; /* stream offset of buf[0] */
    size_t pinned;   /* unsent bytes that a layer below already has */
    size_t queued;   /* since the last nats_wbuf_sent or NATS_WBUF_HIGH */
    size_t last;     /* where the last frame begins; == end when that is not known */
    size_t last_line_len; /* the beginning of the frame before base, or of the last one sent */
    char last_line[NATS_LAST_LINE];
    int slow_told;
    struct nats_tag *tags; /* of tagged messages that may be unsent, ascending: [tags_begin..tags_end) */
    size_t tags_begin;
    size_t tags_end;
    size_t tags_cap;
    char *arena; /* interned prefixes, "PUB subject " */
    size_t arena_len;
    size_t arena_cap;
    struct nats_prefix *prefixes;
    size_t prefixes_len;
    size_t prefixes_cap;
    char *inbox; /* with room for a tag's digits behind it */
    size_t inbox_len;
};

static inline size_t nats_wbuf_frame_len(const nats_wbuf *w, size_t at)
{
    return nats_frame_len(w->buf + at, w->end - at);
}

/* Asserts what always holds between two calls. */
void nats_wbuf_check(const nats_wbuf *w);

/* Let base catch up with pos, and count what it passes. */
void nats_wbuf_advance(nats_wbuf *w);

/* Nothing is unsent: start at the front again, and return memory beyond a modest size. */
void nats_wbuf_start_over(nats_wbuf *w);

#endif
