/*
 * nats_wbuf_private: how a write buffer keeps its frames. For nats_wbuf.c, which fills and empties
 * the buffer, and nats_unsent.c, which takes frames out of its middle.
 *
 * Theory of operation: the write buffer, and the take-back of unsent frames
 *
 * The problem. A client publishes millions of messages per second; each must be validated, framed
 * and queued. Most are written within the same turn of the loop and never looked at again. Rarely,
 * the queue must be taken apart: a lost connection (messages that the kernel did not take whole are
 * sent again by the next connection, requests and control frames are not), a request that expired,
 * a drain, a new server with smaller limits. Without a framing call in C, a list of Python byte
 * strings is the obvious queue; it is slower as soon as the subject is validated (189 against 141
 * ns per PUB).
 *
 * Why an index of frames fails. A table of (offset, length, kind) per message makes the rare
 * operations easy, and the frequent one dear: each publish would write the table, each send would
 * shorten it, and the table of a full buffer is as large as the small messages it describes.
 *
 * What the buffer does instead. Frames describe themselves: a control line ends at LF, and the last
 * argument of a PUB or HPUB is the size of what follows. So the bytes are the index, and a walk
 * from a known frame boundary finds all others. The buffer keeps one boundary, `base`, which
 * follows `pos` lazily (nats_wbuf_advance) when a boundary is needed; a full send moves `base`
 * without a walk. Publishing takes some 12 ns in C. Tagged messages (requests) are the exception:
 * their offsets are in `tags`, so that removing one that expired walks the tags and not the bytes.
 *
 * Taking frames out is one pass over the buffer in place (struct rewrite in nats_unsent.c): frames
 * are read at `from` and moved down to `to`. No operation of this kind allocates, so none can fail
 * in the middle of a lost connection.
 *
 * The invariants (nats_wbuf_check):
 *  - buf[base..end) are whole frames, base <= pos <= end. pos is inside of the frame at base or of
 *    a later frame, which is why a message cut by a lost connection can be sent again from its
 *    first byte.
 *  - accepted == written + waiting + discarded: every message is counted exactly once, whatever
 *    happens.
 *  - The offsets of tags are ascending, and so are the tags while tags_mixed is 0. Offsets count
 *    from the first byte ever queued, so that moving the buffer's content does not touch them.
 *
 * Measured: take-back 10 ns per message, removal of every second request 18 ns per message. A
 * buffer that was emptied keeps up to 2 MiB: flushes at the mark of 1 MiB would allocate and free
 * in turn. It keeps up to 64 MiB while it is used for as much again and again.
 */
#ifndef NATS_WBUF_PRIVATE_H
#define NATS_WBUF_PRIVATE_H

#include "nats_frame.h"
#include "nats_wbuf.h"

/* For the core's own files. A shared library that the core is linked into does not export it. */
#if defined(__GNUC__) || defined(__clang__)
#define NATS_PRIVATE __attribute__((visibility("hidden")))
#else
#define NATS_PRIVATE
#endif

#ifdef __cplusplus
extern "C" {
#endif

enum { NATS_LAST_LINE = 128 };

struct nats_tag {
    uint64_t tag;
    uint64_t offset; /* of the tagged frame in the stream of all bytes ever queued */
};

struct nats_wbuf {
    nats_wbuf_limits limits;
    nats_wbuf_counts counts;
    char *buf; /* buf[base..end) are whole frames, buf[pos..end) is unsent */
    size_t cap;
    size_t base;
    size_t pos;
    size_t end;
    uint64_t origin;      /* stream offset of buf[0] */
    size_t pinned;        /* unsent bytes that a layer below already has */
    size_t queued;        /* since the last nats_wbuf_sent or NATS_WBUF_HIGH */
    size_t last;          /* where the last frame begins; == end when that is not known */
    size_t last_line_len; /* the beginning of the frame before base, or of the last one sent */
    char last_line[NATS_LAST_LINE];
    int small_rounds; /* how often in turn little of the memory was used until the buffer was empty */
    int slow_reported;
    int locked;            /* see nats_wbuf_lock */
    struct nats_tag *tags; /* [tags_begin..tags_end): of tagged messages that may be unsent */
    size_t tags_begin;
    size_t tags_end;
    size_t tags_cap;
    int tags_mixed; /* some are perhaps not ascending: see nats_wbuf_publish */
    char *inbox;    /* what precedes the tag in the reply of a request */
    size_t inbox_len;
    void (*grown)(void *memory, size_t size); /* called with buf when it has grown, or NULL */
};

static inline size_t nats_wbuf_frame_len(const nats_wbuf *wbuf, size_t at)
{
    return nats_frame_len(wbuf->buf + at, wbuf->end - at);
}

/* Assert what always holds between two calls. */
NATS_PRIVATE void nats_wbuf_check(const nats_wbuf *wbuf);

/* Let base catch up with pos, and count the messages that base passes. */
NATS_PRIVATE void nats_wbuf_advance(nats_wbuf *wbuf);

/* Start at the front again when nothing is unsent, and free memory beyond a modest size. */
NATS_PRIVATE void nats_wbuf_start_over(nats_wbuf *wbuf);

#ifdef __cplusplus
}
#endif

#endif
