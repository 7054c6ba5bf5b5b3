#include "nats_wbuf_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* The tests define this macro to make allocations fail. */
#ifndef NATS_REALLOC
#define NATS_REALLOC realloc
#endif

enum {
    MAX_DIGITS = 20, /* of the largest uint64_t */
    FIRST_CAP = 16 * 1024,
    KEEP_CAP = 2 * 1024 * 1024, /* kept by an emptied buffer: flushes at 1 MiB need as much */
    /* Kept until SMALL_ROUNDS in turn have used less than a quarter of it, or until nats_wbuf_trim:
       fresh memory costs a page fault for each 4 KiB. */
    KEEP_MOST = 64 * 1024 * 1024 + 64 * 1024,
    SMALL_ROUNDS = 64,
    KEEP_TAGS = 16 * 1024,
    DEFAULT_CONTROL_LINE = 4096
};

void nats_wbuf_check(const nats_wbuf *wbuf)
{
    assert(wbuf->base <= wbuf->pos && wbuf->pos <= wbuf->end && wbuf->end <= wbuf->cap);
    assert(wbuf->pinned <= wbuf->end - wbuf->pos);
    assert(wbuf->tags_begin <= wbuf->tags_end && wbuf->tags_end <= wbuf->tags_cap);
    assert(wbuf->counts.accepted ==
           wbuf->counts.written + wbuf->counts.waiting + wbuf->counts.discarded);
    assert(wbuf->last <= wbuf->end && wbuf->last_line_len <= NATS_LAST_LINE);
    assert((wbuf->inbox == NULL) == (wbuf->inbox_len == 0));
    (void)wbuf;
}

void nats_wbuf_set_grown(nats_wbuf *wbuf, void (*grown)(void *memory, size_t size))
{
    wbuf->grown = grown;
}

/*
 * Make room for `more` elements of `size` bytes after the first `used` of *cap elements. Return the
 * memory, moved or not, or NULL with nothing changed.
 */
NATS_MUST_CHECK static void *grow(void *memory, size_t *cap, size_t used, size_t more, size_t size,
                                  size_t least)
{
    size_t most = SIZE_MAX / 2 / size; /* so that doubling cannot overflow */
    size_t want = nats_plus(used, more);
    size_t new_cap = 2 * *cap;
    void *grown;
    assert(used <= *cap && size != 0);
    if (want <= *cap)
        return memory;
    if (want > most)
        return NULL;
    if (new_cap < want)
        new_cap = want;
    if (new_cap < least)
        new_cap = least;
    grown = NATS_REALLOC(memory, new_cap * size);
    if (grown != NULL)
        *cap = new_cap;
    return grown;
}

static void free_memory(nats_wbuf *wbuf)
{
    free(wbuf->buf);
    wbuf->buf = NULL;
    wbuf->cap = 0;
    wbuf->small_rounds = 0;
}

void nats_wbuf_start_over(nats_wbuf *wbuf)
{
    wbuf->small_rounds = wbuf->end >= wbuf->cap / 4 ? 0 : wbuf->small_rounds + 1;
    assert(wbuf->pos == wbuf->end && wbuf->counts.waiting == 0);
    wbuf->origin += wbuf->end;
    wbuf->base = wbuf->pos = wbuf->end = wbuf->last = 0;
    wbuf->pinned = 0;
    wbuf->tags_begin = wbuf->tags_end = 0;
    wbuf->tags_mixed = 0;
    if (wbuf->cap > KEEP_MOST || (wbuf->cap > KEEP_CAP && wbuf->small_rounds >= SMALL_ROUNDS))
        free_memory(wbuf);
    if (wbuf->tags_cap > KEEP_TAGS) {
        free(wbuf->tags);
        wbuf->tags = NULL;
        wbuf->tags_cap = 0;
    }
}

/* Keep the beginning of the frame at this offset, which is wholly sent and may be overwritten soon.
   A shorter frame is kept with bytes of its successor: readers stop at CRLF. */
static void remember_line(nats_wbuf *wbuf, size_t at)
{
    size_t len = wbuf->end - at;
    assert(at <= wbuf->end); /* equal when the line is not known */
    wbuf->last_line_len = len < NATS_LAST_LINE ? len : NATS_LAST_LINE;
    memcpy(wbuf->last_line, wbuf->buf + at, wbuf->last_line_len);
}

void nats_wbuf_advance(nats_wbuf *wbuf)
{
    size_t passed = SIZE_MAX;
    while (wbuf->base < wbuf->pos) {
        size_t len = nats_wbuf_frame_len(wbuf, wbuf->base);
        if (wbuf->base + len > wbuf->pos)
            break;
        if (nats_is_message(wbuf->buf + wbuf->base)) {
            assert(wbuf->counts.waiting > 0);
            wbuf->counts.written++;
            wbuf->counts.waiting--;
        }
        passed = wbuf->base;
        wbuf->base += len;
    }
    if (passed != SIZE_MAX)
        remember_line(wbuf, passed);
    while (wbuf->tags_begin < wbuf->tags_end &&
           wbuf->tags[wbuf->tags_begin].offset < wbuf->origin + wbuf->base)
        wbuf->tags_begin++;
    nats_wbuf_check(wbuf);
}

/*
 * Make room for n bytes after end when the memory does not suffice. The bytes that are moved down are
 * never more than were sent since the last move, and the frame that pos is inside of is moved whole.
 */
NATS_COLD NATS_MUST_CHECK static int make_room(nats_wbuf *wbuf, size_t n)
{
    size_t before;
    char *buf;
    nats_wbuf_advance(wbuf);
    if (wbuf->base != 0 && wbuf->base >= wbuf->end - wbuf->base) {
        memmove(wbuf->buf, wbuf->buf + wbuf->base, wbuf->end - wbuf->base);
        wbuf->origin += wbuf->base;
        wbuf->pos -= wbuf->base;
        wbuf->end -= wbuf->base;
        wbuf->last = wbuf->end; /* set by the append that this call makes room for */
        wbuf->base = 0;
    }
    before = wbuf->cap;
    buf = (char *)grow(wbuf->buf, &wbuf->cap, wbuf->end, n, 1, FIRST_CAP);
    if (buf == NULL)
        return NATS_WBUF_NO_MEMORY;
    wbuf->buf = buf;
    if (wbuf->grown != NULL && wbuf->cap != before)
        wbuf->grown(buf, wbuf->cap);
    return 0;
}

/* Make room for n bytes after end. Return 0 or an error. */
NATS_MUST_CHECK static inline int reserve(nats_wbuf *wbuf, size_t n)
{
    if (wbuf->locked)
        return NATS_WBUF_LOCKED;
    return n <= wbuf->cap - wbuf->end ? 0 : make_room(wbuf, n);
}

/* Make room for one more tag; tag 0 needs no room. Return 0 or an error. */
NATS_MUST_CHECK static int reserve_tag(nats_wbuf *wbuf, uint64_t tag)
{
    struct nats_tag *tags;
    if (tag == 0 || wbuf->tags_end < wbuf->tags_cap)
        return 0;
    nats_wbuf_advance(wbuf); /* drops the tags of what is sent */
    if (wbuf->tags_begin != 0 && wbuf->tags_begin >= wbuf->tags_end - wbuf->tags_begin) {
        memmove(wbuf->tags, wbuf->tags + wbuf->tags_begin,
                (wbuf->tags_end - wbuf->tags_begin) * sizeof *wbuf->tags);
        wbuf->tags_end -= wbuf->tags_begin;
        wbuf->tags_begin = 0;
    }
    tags = (struct nats_tag *)grow(wbuf->tags, &wbuf->tags_cap, wbuf->tags_end, 1,
                                   sizeof *wbuf->tags, 64);
    if (tags == NULL)
        return NATS_WBUF_NO_MEMORY;
    wbuf->tags = tags;
    return 0;
}

/* Tag the message that is being written at end; tag 0 means no tag. */
static void add_tag(nats_wbuf *wbuf, uint64_t tag)
{
    if (tag == 0)
        return;
    assert(wbuf->tags_end < wbuf->tags_cap);
    if (wbuf->tags_begin != wbuf->tags_end && wbuf->tags[wbuf->tags_end - 1].tag > tag)
        wbuf->tags_mixed = 1;
    wbuf->tags[wbuf->tags_end].tag = tag;
    wbuf->tags[wbuf->tags_end++].offset = wbuf->origin + wbuf->end;
}

/* Queue the n bytes that have been written at end. Return the bits of enum nats_wbuf_code. */
static int appended(nats_wbuf *wbuf, size_t n)
{
    const nats_wbuf_limits *limits = &wbuf->limits;
    size_t before = wbuf->end - wbuf->pos;
    int bits = 0;
    assert(n > 2 && n <= wbuf->cap - wbuf->end && wbuf->buf[wbuf->end + n - 1] == '\n');
    wbuf->last = wbuf->end;
    wbuf->end += n;
    wbuf->queued += n;
    if (!limits->held) {
        if (before == 0)
            bits |= NATS_WBUF_FIRST;
        if (limits->high_water != 0 && wbuf->queued >= limits->high_water) {
            wbuf->queued = 0;
            bits |= NATS_WBUF_HIGH;
        }
    }
    if (limits->slow_mark != 0) {
        if (before <= limits->slow_mark)
            wbuf->slow_reported = 0;
        if (!wbuf->slow_reported && before + n > limits->slow_mark) {
            wbuf->slow_reported = 1;
            bits |= NATS_WBUF_SLOW;
        }
    }
    return bits;
}

/* Count and queue the message that has been written at end. */
static int accepted(nats_wbuf *wbuf, size_t frame, size_t size)
{
    wbuf->counts.msgs_out++;
    wbuf->counts.bytes_out += size;
    wbuf->counts.accepted++;
    wbuf->counts.waiting++;
    return appended(wbuf, frame);
}

/* Check the length of a control line. Return 0 or an error. */
static int check_line(const nats_wbuf *wbuf, size_t line)
{
    size_t most = wbuf->limits.max_control_line;
    return most != 0 && line > most ? NATS_WBUF_LINE_TOO_LONG : 0;
}

/* Check a message's control line, content and frame against the limits. Return 0 or an error. */
static int check_sizes(const nats_wbuf *wbuf, size_t line, size_t size, size_t frame)
{
    const nats_wbuf_limits *limits = &wbuf->limits;
    if (check_line(wbuf, line) != 0)
        return NATS_WBUF_LINE_TOO_LONG;
    if (limits->max_payload != 0 && size > limits->max_payload)
        return NATS_WBUF_PAYLOAD_TOO_LONG;
    if (limits->max_pending != 0 && nats_plus(wbuf->end - wbuf->pos, frame) > limits->max_pending)
        return NATS_WBUF_FULL;
    return 0;
}

/* Check the fields of a message, and fill in its sizes. Return 0 or an error. */
static int check_message(const nats_wbuf *wbuf, struct nats_message *m)
{
    if (wbuf->limits.closed)
        return NATS_WBUF_CLOSED;
    if (!nats_is_subject(m->subject, m->subject_len))
        return NATS_WBUF_BAD_SUBJECT;
    if (m->number == 0 && !nats_is_clean(m->reply, m->reply_len)) /* else it is the inbox */
        return NATS_WBUF_BAD_REPLY;
    if (m->headers_len != 0 && !nats_is_header_block((const char *)m->headers, m->headers_len))
        return NATS_WBUF_BAD_HEADERS;
    m->size = nats_plus(m->headers_len, m->payload_len);
    m->line = nats_plus(nats_plus(m->subject_len, m->reply_len), 5 + nats_count_digits(m->size));
    if (m->reply_len != 0)
        m->line = nats_plus(m->line, 1);
    if (m->number != 0)
        m->line = nats_plus(m->line, nats_count_digits(m->number));
    if (m->headers_len != 0)
        m->line = nats_plus(m->line, 2 + nats_count_digits(m->headers_len));
    m->frame = nats_plus(nats_plus(m->line, m->size), 4);
    return check_sizes(wbuf, m->line, m->size, m->frame);
}

/* Check and queue a message. */
NATS_MUST_CHECK static int put_message(nats_wbuf *wbuf, struct nats_message *m, uint64_t tag)
{
    int error = check_message(wbuf, m);
    if (error == 0)
        error = reserve_tag(wbuf, tag);
    if (error == 0)
        error = reserve(wbuf, m->frame);
    if (error != 0)
        return error;
    nats_put_message(wbuf->buf + wbuf->end, m);
    add_tag(wbuf, tag);
    return accepted(wbuf, m->frame, m->size);
}

/* Queue a frame of one line, n bytes with CRLF. */
NATS_MUST_CHECK static int put_line(nats_wbuf *wbuf, const char *line, size_t n)
{
    int error = reserve(wbuf, n);
    if (error != 0)
        return error;
    nats_put(wbuf->buf + wbuf->end, line, n);
    return appended(wbuf, n);
}

/* ---- public ---- */

nats_wbuf *nats_wbuf_new(void)
{
    nats_wbuf *wbuf = (nats_wbuf *)NATS_REALLOC(NULL, sizeof *wbuf);
    if (wbuf != NULL) {
        memset(wbuf, 0, sizeof *wbuf);
        wbuf->limits.max_control_line = DEFAULT_CONTROL_LINE;
    }
    return wbuf;
}

void nats_wbuf_free(nats_wbuf *wbuf)
{
    if (wbuf == NULL)
        return;
    free(wbuf->buf);
    free(wbuf->tags);
    free(wbuf->inbox);
    free(wbuf);
}

nats_wbuf_limits *nats_wbuf_get_limits(nats_wbuf *wbuf)
{
    return &wbuf->limits;
}

nats_wbuf_counts *nats_wbuf_get_counts(nats_wbuf *wbuf)
{
    nats_wbuf_advance(wbuf);
    return &wbuf->counts;
}

int nats_wbuf_publish(nats_wbuf *wbuf, const void *subject, size_t subject_len, const void *reply,
                      size_t reply_len, const void *headers, size_t headers_len,
                      const void *payload, size_t payload_len, uint64_t tag)
{
    struct nats_message m = {subject, subject_len, reply, reply_len, headers, headers_len,
                             payload, payload_len, 0,     0,         0,       0};
    return put_message(wbuf, &m, tag);
}

int nats_wbuf_set_inbox(nats_wbuf *wbuf, const void *inbox, size_t len)
{
    char *copy = NULL;
    if (!nats_is_clean(inbox, len))
        return NATS_WBUF_BAD_REPLY;
    if (len != 0) {
        copy = (char *)NATS_REALLOC(NULL, len);
        if (copy == NULL)
            return NATS_WBUF_NO_MEMORY;
        memcpy(copy, inbox, len);
    }
    free(wbuf->inbox);
    wbuf->inbox = copy;
    wbuf->inbox_len = len;
    return 0;
}

int nats_wbuf_request(nats_wbuf *wbuf, const void *subject, size_t subject_len, const void *headers,
                      size_t headers_len, const void *payload, size_t payload_len, uint64_t tag)
{
    struct nats_message m = {subject, subject_len, wbuf->inbox, wbuf->inbox_len,
                             headers, headers_len, payload,     payload_len,
                             tag,     0,           0,           0};
    assert(tag != 0);
    if (wbuf->inbox_len == 0)
        return wbuf->limits.closed ? NATS_WBUF_CLOSED : NATS_WBUF_BAD_REPLY;
    return put_message(wbuf, &m, tag);
}

/* The length of a SUB line. */
static size_t sub_line(size_t subject_len, size_t queue_len, uint64_t sid)
{
    return nats_plus(nats_plus(subject_len, queue_len),
                     5 + nats_count_digits(sid) + (size_t)(queue_len != 0));
}

int nats_wbuf_check_sub(const void *subject, size_t subject_len, const void *queue,
                        size_t queue_len, uint64_t sid, size_t max_control_line)
{
    if (!nats_is_subject(subject, subject_len))
        return NATS_WBUF_BAD_SUBJECT;
    if (!nats_is_clean(queue, queue_len))
        return NATS_WBUF_BAD_QUEUE;
    if (max_control_line != 0 && sub_line(subject_len, queue_len, sid) > max_control_line)
        return NATS_WBUF_LINE_TOO_LONG;
    return 0;
}

int nats_wbuf_sub(nats_wbuf *wbuf, const void *subject, size_t subject_len, const void *queue,
                  size_t queue_len, uint64_t sid)
{
    size_t line = sub_line(subject_len, queue_len, sid);
    int error = nats_wbuf_check_sub(subject, subject_len, queue, queue_len, sid,
                                    wbuf->limits.max_control_line);
    char *p;
    if (error == 0)
        error = reserve(wbuf, nats_plus(line, 2));
    if (error != 0)
        return error;
    p = nats_put(wbuf->buf + wbuf->end, "SUB ", 4);
    p = nats_put(p, subject, subject_len);
    *p++ = ' ';
    if (queue_len != 0) {
        p = nats_put(p, queue, queue_len);
        *p++ = ' ';
    }
    p = nats_put_decimal(p, sid);
    nats_put(p, "\r\n", 2);
    return appended(wbuf, line + 2);
}

int nats_wbuf_unsub(nats_wbuf *wbuf, uint64_t sid, uint64_t max_msgs)
{
    char line[sizeof "UNSUB  \r\n" + 2 * MAX_DIGITS];
    char *p = nats_put(line, "UNSUB ", 6);
    int error;
    p = nats_put_decimal(p, sid);
    if (max_msgs != 0) {
        *p++ = ' ';
        p = nats_put_decimal(p, max_msgs);
    }
    error = check_line(wbuf, (size_t)(p - line));
    if (error != 0)
        return error;
    p = nats_put(p, "\r\n", 2);
    return put_line(wbuf, line, (size_t)(p - line));
}

int nats_wbuf_ping(nats_wbuf *wbuf)
{
    return put_line(wbuf, "PING\r\n", 6);
}

int nats_wbuf_pong(nats_wbuf *wbuf)
{
    return put_line(wbuf, "PONG\r\n", 6);
}

int nats_wbuf_connect(nats_wbuf *wbuf, const void *json, size_t json_len)
{
    size_t frame = nats_plus(json_len, 10), i;
    int error = reserve(wbuf, frame);
    char *p;
    if (error != 0)
        return error;
    p = nats_put(wbuf->buf + wbuf->end, "CONNECT ", 8);
    nats_put(p, json, json_len);
    for (i = 0; i < json_len; i++, p++) {
        if (*p == '\r' || *p == '\n')
            *p = ' ';
    }
    nats_put(p, "\r\n", 2);
    return appended(wbuf, frame);
}

const char *nats_wbuf_data(const nats_wbuf *wbuf)
{
    return wbuf->buf == NULL ? "" : wbuf->buf + wbuf->pos;
}

size_t nats_wbuf_len(const nats_wbuf *wbuf)
{
    return wbuf->end - wbuf->pos;
}

void nats_wbuf_sent(nats_wbuf *wbuf, size_t n)
{
    assert(n <= wbuf->end - wbuf->pos);
    wbuf->queued = 0;
    wbuf->pos += n;
    wbuf->pinned = wbuf->pinned > n ? wbuf->pinned - n : 0;
    if (wbuf->pos == wbuf->end) {
        if (n != 0)
            remember_line(wbuf, wbuf->last);
        wbuf->counts.written += wbuf->counts.waiting;
        wbuf->counts.waiting = 0;
        nats_wbuf_start_over(wbuf);
    }
    nats_wbuf_check(wbuf);
}

void nats_wbuf_trim(nats_wbuf *wbuf)
{
    if (wbuf->end == 0 && wbuf->cap > KEEP_CAP && !wbuf->locked)
        free_memory(wbuf);
    nats_wbuf_check(wbuf);
}

void nats_wbuf_lock(nats_wbuf *wbuf, int locked)
{
    wbuf->locked = locked;
    wbuf->pinned = locked ? wbuf->end - wbuf->pos : 0;
}

void nats_wbuf_pin(nats_wbuf *wbuf, size_t n)
{
    assert(n <= wbuf->end - wbuf->pos);
    wbuf->pinned = n;
}

size_t nats_wbuf_last_line(const nats_wbuf *wbuf, char *line, size_t cap)
{
    const char *from = wbuf->last_line, *end;
    size_t len = wbuf->last_line_len;
    if (wbuf->pos > wbuf->base) {
        size_t at = wbuf->base;
        while (at + nats_wbuf_frame_len(wbuf, at) < wbuf->pos)
            at += nats_wbuf_frame_len(wbuf, at);
        from = wbuf->buf + at;
        len = wbuf->end - at;
    }
    if (len > cap)
        len = cap;
    end = len != 0 ? (const char *)memchr(from, '\r', len) : NULL;
    if (end != NULL)
        len = (size_t)(end - from);
    memcpy(line, from, len);
    return len;
}

const char *nats_wbuf_strerror(int error)
{
    switch (error) {
    case NATS_WBUF_LINE_TOO_LONG:
        return "control line too long";
    case NATS_WBUF_PAYLOAD_TOO_LONG:
        return "payload too long";
    case NATS_WBUF_FULL:
        return "buffer full";
    case NATS_WBUF_CLOSED:
        return "not connected";
    case NATS_WBUF_BAD_SUBJECT:
        return "invalid subject";
    case NATS_WBUF_BAD_REPLY:
        return "invalid reply subject";
    case NATS_WBUF_BAD_QUEUE:
        return "invalid queue group";
    case NATS_WBUF_BAD_HEADERS:
        return "invalid header block";
    case NATS_WBUF_LOCKED:
        return "buffer being sent";
    case NATS_WBUF_NO_MEMORY:
        return "out of memory";
    default:
        return error >= 0 ? "no error" : "unknown error";
    }
}
