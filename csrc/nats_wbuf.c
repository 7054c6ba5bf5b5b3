#include "nats_wbuf_private.h"

#include <assert.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

/* Tests replace it to make it fail. */
#ifndef NATS_REALLOC
#define NATS_REALLOC realloc
#endif

enum {
    MAX_DIGITS = 20, /* of the largest uint64_t */
    FIRST_CAP = 16 * 1024,
    KEEP_CAP = 2 * 1024 * 1024, /* an emptied buffer keeps it: flushes at 1 MiB need as much */
    KEEP_TAGS = 16 * 1024,
    DEFAULT_CONTROL_LINE = 4096
};

void nats_wbuf_check(const nats_wbuf *w)
{
    assert(w->base <= w->pos && w->pos <= w->end && w->end <= w->cap);
    assert(w->pinned <= w->end - w->pos);
    assert(w->tags_begin <= w->tags_end && w->tags_end <= w->tags_cap);
    assert(w->counts.accepted ==
           w->counts.written + w->counts.waiting + w->counts.discarded);
    (void)w;
}

/*
 * Room for `more` elements of `size` bytes behind the first `used` ones of *cap. Returns the
 * memory, moved or not, or NULL with everything as it was.
 */
static void *grow(void *memory, size_t *cap, size_t used, size_t more, size_t size, size_t least)
{
    size_t most = SIZE_MAX / 2 / size; /* so that doubling cannot overflow */
    size_t want = nats_plus(used, more);
    size_t new_cap = 2 * *cap;
    void *grown;
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

void nats_wbuf_start_over(nats_wbuf *w)
{
    assert(w->pos == w->end && w->counts.waiting == 0);
    w->origin += w->end;
    w->base = w->pos = w->end = 0;
    w->pinned = 0;
    w->tags_begin = w->tags_end = 0;
    if (w->cap > KEEP_CAP) {
        free(w->buf);
        w->buf = NULL;
        w->cap = 0;
    }
    if (w->tags_cap > KEEP_TAGS) {
        free(w->tags);
        w->tags = NULL;
        w->tags_cap = 0;
    }
}

/* The frame at this offset is wholly sent, and may soon be gone. It may be shorter than what is kept
   of it: its CRLF tells. */
static void remember_line(nats_wbuf *w, size_t at)
{
    size_t len = w->end - at;
    w->last_line_len = len < NATS_LAST_LINE ? len : NATS_LAST_LINE;
    memcpy(w->last_line, w->buf + at, w->last_line_len);
}

void nats_wbuf_advance(nats_wbuf *w)
{
    size_t passed = SIZE_MAX;
    while (w->base < w->pos) {
        size_t len = nats_wbuf_frame_len(w, w->base);
        if (w->base + len > w->pos)
            break;
        if (nats_is_message(w->buf + w->base)) {
            w->counts.written++;
            w->counts.waiting--;
        }
        passed = w->base;
        w->base += len;
    }
    if (passed != SIZE_MAX)
        remember_line(w, passed);
    while (w->tags_begin < w->tags_end &&
           w->tags[w->tags_begin].offset < w->origin + w->base)
        w->tags_begin++;
    nats_wbuf_check(w);
}

/*
 * Make room for n bytes behind end. What is moved down is never more than what was sent since the
 * last move, and the frame that pos is inside of is moved whole.
 */
static int reserve(nats_wbuf *w, size_t n)
{
    char *buf;
    if (n <= w->cap - w->end)
        return 0;
    nats_wbuf_advance(w);
    if (w->base != 0 && w->base >= w->end - w->base) {
        memmove(w->buf, w->buf + w->base, w->end - w->base);
        w->origin += w->base;
        w->pos -= w->base;
        w->end -= w->base;
        w->last = w->end; /* the append that this makes room for sets it */
        w->base = 0;
    }
    buf = grow(w->buf, &w->cap, w->end, n, 1, FIRST_CAP);
    if (buf == NULL)
        return NATS_WBUF_NO_MEMORY;
    w->buf = buf;
    return 0;
}

/* Make room for one more tag; 0 is none. */
static int reserve_tag(nats_wbuf *w, uint64_t tag)
{
    struct nats_tag *tags;
    if (tag == 0 || w->tags_end < w->tags_cap)
        return 0;
    nats_wbuf_advance(w); /* lets go of the tags of what is sent */
    if (w->tags_begin != 0 && w->tags_begin >= w->tags_end - w->tags_begin) {
        memmove(w->tags, w->tags + w->tags_begin,
                (w->tags_end - w->tags_begin) * sizeof *w->tags);
        w->tags_end -= w->tags_begin;
        w->tags_begin = 0;
    }
    tags = grow(w->tags, &w->tags_cap, w->tags_end, 1, sizeof *w->tags, 64);
    if (tags == NULL)
        return NATS_WBUF_NO_MEMORY;
    w->tags = tags;
    return 0;
}

/* For the message that is being written behind end. */
static void add_tag(nats_wbuf *w, uint64_t tag)
{
    if (tag == 0)
        return;
    assert(w->tags_begin == w->tags_end || w->tags[w->tags_end - 1].tag < tag);
    w->tags[w->tags_end].tag = tag;
    w->tags[w->tags_end++].offset = w->origin + w->end;
}

/* n bytes have been written behind end: they are queued now. Returns what the caller is to know. */
static int appended(nats_wbuf *w, size_t n)
{
    const nats_wbuf_limits *limits = &w->limits;
    size_t before = w->end - w->pos;
    int bits = 0;
    w->last = w->end;
    w->end += n;
    w->queued += n;
    if (!limits->held) {
        if (before == 0)
            bits |= NATS_WBUF_FIRST;
        if (limits->high_water != 0 && w->queued >= limits->high_water) {
            w->queued = 0;
            bits |= NATS_WBUF_HIGH;
        }
    }
    if (limits->slow_mark != 0) {
        if (before <= limits->slow_mark)
            w->slow_told = 0;
        if (!w->slow_told && before + n > limits->slow_mark) {
            w->slow_told = 1;
            bits |= NATS_WBUF_SLOW;
        }
    }
    return bits;
}

static int accepted(nats_wbuf *w, size_t frame, size_t size)
{
    w->counts.msgs_out++;
    w->counts.bytes_out += size;
    w->counts.accepted++;
    w->counts.waiting++;
    return appended(w, frame);
}

static int check_line(const nats_wbuf *w, size_t line)
{
    size_t most = w->limits.max_control_line;
    return most != 0 && line > most ? NATS_WBUF_LINE_TOO_LONG : 0;
}

/* Whether a message's control line, its content and the frame are within the limits. */
static int check_sizes(const nats_wbuf *w, size_t line, size_t size, size_t frame)
{
    const nats_wbuf_limits *limits = &w->limits;
    if (check_line(w, line) != 0)
        return NATS_WBUF_LINE_TOO_LONG;
    if (limits->max_payload != 0 && size > limits->max_payload)
        return NATS_WBUF_PAYLOAD_TOO_LONG;
    if (limits->max_pending != 0 && nats_plus(w->end - w->pos, frame) > limits->max_pending)
        return NATS_WBUF_FULL;
    return 0;
}

static int check_message(const nats_wbuf *w, struct nats_message *m)
{
    if (w->limits.closed)
        return NATS_WBUF_CLOSED;
    if (!nats_is_subject(m->subject, m->subject_len))
        return NATS_WBUF_BAD_SUBJECT;
    if (!nats_is_clean(m->reply, m->reply_len))
        return NATS_WBUF_BAD_REPLY;
    if (m->headers_len != 0 && !nats_is_header_block(m->headers, m->headers_len))
        return NATS_WBUF_BAD_HEADERS;
    m->size = nats_plus(m->headers_len, m->payload_len);
    m->line = nats_plus(nats_plus(m->subject_len, m->reply_len), 5 + nats_count_digits(m->size));
    if (m->reply_len != 0)
        m->line = nats_plus(m->line, 1);
    if (m->headers_len != 0)
        m->line = nats_plus(m->line, 2 + nats_count_digits(m->headers_len));
    m->frame = nats_plus(nats_plus(m->line, m->size), 4);
    return check_sizes(w, m->line, m->size, m->frame);
}

/* A frame of one line that is already whole. */
static int put_line(nats_wbuf *w, const char *line, size_t n)
{
    int error = reserve(w, n);
    if (error != 0)
        return error;
    nats_put(w->buf + w->end, line, n);
    return appended(w, n);
}

/* Public. */

nats_wbuf *nats_wbuf_new(void)
{
    nats_wbuf *w = NATS_REALLOC(NULL, sizeof *w);
    if (w != NULL) {
        memset(w, 0, sizeof *w);
        w->limits.max_control_line = DEFAULT_CONTROL_LINE;
    }
    return w;
}

void nats_wbuf_free(nats_wbuf *w)
{
    if (w == NULL)
        return;
    free(w->buf);
    free(w->tags);
    free(w->arena);
    free(w->prefixes);
    free(w->inbox);
    free(w);
}

nats_wbuf_limits *nats_wbuf_get_limits(nats_wbuf *w)
{
    return &w->limits;
}

nats_wbuf_counts *nats_wbuf_get_counts(nats_wbuf *w)
{
    nats_wbuf_advance(w);
    return &w->counts;
}

int nats_wbuf_intern(nats_wbuf *w, const void *subject, size_t subject_len)
{
    size_t len = nats_plus(subject_len, 5);
    struct nats_prefix *prefixes;
    char *arena, *p;
    if (!nats_is_subject(subject, subject_len))
        return NATS_WBUF_BAD_SUBJECT;
    if (check_line(w, nats_plus(len, 1)) != 0) /* not even an empty message fits */
        return NATS_WBUF_LINE_TOO_LONG;
    if (w->prefixes_len == INT_MAX)
        return NATS_WBUF_NO_MEMORY;
    prefixes = grow(w->prefixes, &w->prefixes_cap, w->prefixes_len, 1, sizeof *prefixes, 64);
    if (prefixes == NULL)
        return NATS_WBUF_NO_MEMORY;
    w->prefixes = prefixes;
    arena = grow(w->arena, &w->arena_cap, w->arena_len, len, 1, 4096);
    if (arena == NULL)
        return NATS_WBUF_NO_MEMORY;
    w->arena = arena;
    prefixes[w->prefixes_len].offset = w->arena_len;
    prefixes[w->prefixes_len].len = len;
    p = nats_put(arena + w->arena_len, "PUB ", 4);
    p = nats_put(p, subject, subject_len);
    *p = ' ';
    w->arena_len += len;
    return (int)w->prefixes_len++;
}

void nats_wbuf_forget(nats_wbuf *w)
{
    w->prefixes_len = 0;
    w->arena_len = 0;
}

int nats_wbuf_pub(nats_wbuf *w, int subject, const void *payload, size_t payload_len)
{
    const struct nats_prefix *prefix;
    size_t line, frame;
    int error;
    char *p;

    if (w->limits.closed)
        return NATS_WBUF_CLOSED;
    if (subject < 0 || (size_t)subject >= w->prefixes_len)
        return NATS_WBUF_BAD_SUBJECT;
    prefix = &w->prefixes[subject];
    line = prefix->len + nats_count_digits(payload_len);
    frame = nats_plus(payload_len, line + 4);
    error = check_sizes(w, line, payload_len, frame);
    if (error == 0)
        error = reserve(w, frame);
    if (error != 0)
        return error;
    p = nats_put(w->buf + w->end, w->arena + prefix->offset, prefix->len);
    nats_put_payload(p, payload, payload_len);
    return accepted(w, frame, payload_len);
}

int nats_wbuf_publish(nats_wbuf *w, const void *subject, size_t subject_len, const void *reply,
                      size_t reply_len, const void *headers, size_t headers_len,
                      const void *payload, size_t payload_len, uint64_t tag)
{
    struct nats_message m = {subject, subject_len, reply, reply_len, headers, headers_len,
                        payload, payload_len, 0, 0, 0};
    int error = check_message(w, &m);
    if (error == 0)
        error = reserve_tag(w, tag);
    if (error == 0)
        error = reserve(w, m.frame);
    if (error != 0)
        return error;
    nats_put_message(w->buf + w->end, &m);
    add_tag(w, tag);
    return accepted(w, m.frame, m.size);
}

int nats_wbuf_pub_to(nats_wbuf *w, const void *subject, size_t subject_len, const void *payload,
                     size_t payload_len)
{
    return nats_wbuf_publish(w, subject, subject_len, NULL, 0, NULL, 0, payload, payload_len, 0);
}

int nats_wbuf_set_inbox(nats_wbuf *w, const void *inbox, size_t len)
{
    char *copy = NULL;
    if (!nats_is_clean(inbox, len))
        return NATS_WBUF_BAD_REPLY;
    if (len != 0) {
        copy = NATS_REALLOC(NULL, len);
        if (copy == NULL)
            return NATS_WBUF_NO_MEMORY;
        memcpy(copy, inbox, len);
    }
    free(w->inbox);
    w->inbox = copy;
    w->inbox_len = len;
    return 0;
}

int nats_wbuf_request(nats_wbuf *w, int subject, const void *payload, size_t payload_len,
                      uint64_t tag)
{
    const struct nats_prefix *prefix;
    size_t line, frame;
    int error;
    char *p;

    if (w->limits.closed)
        return NATS_WBUF_CLOSED;
    if (subject < 0 || (size_t)subject >= w->prefixes_len)
        return NATS_WBUF_BAD_SUBJECT;
    if (w->inbox_len == 0)
        return NATS_WBUF_BAD_REPLY;
    prefix = &w->prefixes[subject]; /* "PUB subject " */
    line = nats_plus(prefix->len + nats_count_digits(tag) + 1 + nats_count_digits(payload_len),
                     w->inbox_len);
    frame = nats_plus(payload_len, nats_plus(line, 4));
    error = check_sizes(w, line, payload_len, frame);
    if (error == 0)
        error = reserve_tag(w, tag);
    if (error == 0)
        error = reserve(w, frame);
    if (error != 0)
        return error;
    p = nats_put(w->buf + w->end, w->arena + prefix->offset, prefix->len);
    p = nats_put(p, w->inbox, w->inbox_len);
    p = nats_put_decimal(p, tag);
    *p++ = ' ';
    nats_put_payload(p, payload, payload_len);
    add_tag(w, tag);
    return accepted(w, frame, payload_len);
}

int nats_wbuf_sub(nats_wbuf *w, const void *subject, size_t subject_len, const void *queue,
                  size_t queue_len, uint64_t sid)
{
    size_t line = nats_plus(nats_plus(subject_len, queue_len),
                       5 + nats_count_digits(sid) + (size_t)(queue_len != 0));
    int error;
    char *p;
    if (!nats_is_subject(subject, subject_len))
        return NATS_WBUF_BAD_SUBJECT;
    if (!nats_is_clean(queue, queue_len))
        return NATS_WBUF_BAD_QUEUE;
    error = check_line(w, line);
    if (error == 0)
        error = reserve(w, nats_plus(line, 2));
    if (error != 0)
        return error;
    p = nats_put(w->buf + w->end, "SUB ", 4);
    p = nats_put(p, subject, subject_len);
    *p++ = ' ';
    if (queue_len != 0) {
        p = nats_put(p, queue, queue_len);
        *p++ = ' ';
    }
    p = nats_put_decimal(p, sid);
    nats_put(p, "\r\n", 2);
    return appended(w, line + 2);
}

int nats_wbuf_unsub(nats_wbuf *w, uint64_t sid, uint64_t max_msgs)
{
    char line[sizeof "UNSUB  \r\n" + 2 * MAX_DIGITS];
    char *p = nats_put(line, "UNSUB ", 6);
    int error;
    p = nats_put_decimal(p, sid);
    if (max_msgs != 0) {
        *p++ = ' ';
        p = nats_put_decimal(p, max_msgs);
    }
    error = check_line(w, (size_t)(p - line));
    if (error != 0)
        return error;
    p = nats_put(p, "\r\n", 2);
    return put_line(w, line, (size_t)(p - line));
}

int nats_wbuf_ping(nats_wbuf *w)
{
    return put_line(w, "PING\r\n", 6);
}

int nats_wbuf_pong(nats_wbuf *w)
{
    return put_line(w, "PONG\r\n", 6);
}

int nats_wbuf_connect(nats_wbuf *w, const void *json, size_t json_len)
{
    size_t frame = nats_plus(json_len, 10), i;
    int error = reserve(w, frame);
    char *p;
    if (error != 0)
        return error;
    p = nats_put(w->buf + w->end, "CONNECT ", 8);
    nats_put(p, json, json_len);
    for (i = 0; i < json_len; i++, p++) {
        if (*p == '\r' || *p == '\n')
            *p = ' ';
    }
    nats_put(p, "\r\n", 2);
    return appended(w, frame);
}

const char *nats_wbuf_data(const nats_wbuf *w)
{
    return w->buf == NULL ? "" : w->buf + w->pos;
}

size_t nats_wbuf_len(const nats_wbuf *w)
{
    return w->end - w->pos;
}

void nats_wbuf_sent(nats_wbuf *w, size_t n)
{
    assert(n <= w->end - w->pos);
    w->queued = 0;
    w->pos += n;
    w->pinned = w->pinned > n ? w->pinned - n : 0;
    if (w->pos == w->end) {
        if (n != 0)
            remember_line(w, w->last);
        w->counts.written += w->counts.waiting;
        w->counts.waiting = 0;
        nats_wbuf_start_over(w);
    }
    nats_wbuf_check(w);
}

void nats_wbuf_pin(nats_wbuf *w, size_t n)
{
    assert(n <= w->end - w->pos);
    w->pinned = n;
}

size_t nats_wbuf_last_line(const nats_wbuf *w, char *line, size_t cap)
{
    const char *from = w->last_line, *end;
    size_t len = w->last_line_len;
    if (w->pos > w->base) {
        size_t at = w->base;
        while (at + nats_wbuf_frame_len(w, at) < w->pos)
            at += nats_wbuf_frame_len(w, at);
        from = w->buf + at;
        len = w->end - at;
    }
    if (len > cap)
        len = cap;
    end = len != 0 ? memchr(from, '\r', len) : NULL;
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
    case NATS_WBUF_NO_MEMORY:
        return "out of memory";
    default:
        return error >= 0 ? "no error" : "unknown error";
    }
}
