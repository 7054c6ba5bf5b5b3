/*
 * wbuf_model: a second implementation of nats_wbuf, as a plain list of frames.
 *
 * Every operation is done on a real buffer and on the list; any difference prints its line and
 * aborts. The list has no positions, walks nothing lazily and copies every frame, so that no idea
 * is shared that could be wrong in both. Used by test_wbuf.c and by fuzz_wbuf.c; includes
 * nats_wbuf.c itself in order to make its allocations fail, and nats_unsent.c.
 */
#ifndef WBUF_MODEL_H
#define WBUF_MODEL_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

#define NATS_REALLOC failing_realloc
#include "nats_wbuf.c"
#include "nats_unsent.c"

/* Text with a length, in a block of exactly that size, so that a sanitizer sees every step outside. */
struct text {
    char *p;
    size_t n;
};

static struct text text_of(const void *data, size_t n)
{
    struct text t;
    t.p = malloc(n != 0 ? n : 1);
    t.n = n;
    CHECK(t.p != NULL);
    if (n != 0)
        memcpy(t.p, data, n);
    return t;
}

struct frame {
    char *bytes;
    size_t len;
    size_t sent;
    uint64_t tag;
    int is_message;
};

struct model {
    nats_wbuf *w;
    nats_wbuf_limits *limits;
    struct frame *frames; /* not wholly sent */
    size_t len;
    size_t cap;
    size_t pinned;
    size_t queued;
    int slow_reported;
    nats_wbuf_counts counts;
    uint64_t last_tag;
    char last_line[128]; /* of the frame of which the kernel took bytes last */
    size_t last_line_len;
};

static size_t model_unsent(const struct model *m)
{
    size_t i, n = 0;
    for (i = 0; i < m->len; i++)
        n += m->frames[i].len - m->frames[i].sent;
    return n;
}

/* Check that the buffer holds the bytes of the list. */
static void model_compare(const struct model *m)
{
    const char *data = nats_wbuf_data(m->w);
    size_t i;
    CHECK(data != NULL);
    CHECK(nats_wbuf_len(m->w) == model_unsent(m));
    for (i = 0; i < m->len; i++) {
        const struct frame *f = &m->frames[i];
        CHECK(memcmp(data, f->bytes + f->sent, f->len - f->sent) == 0);
        data += f->len - f->sent;
    }
}

static void model_compare_counts(const struct model *m)
{
    const nats_wbuf_counts *c = nats_wbuf_get_counts(m->w);
    CHECK(c->accepted == c->written + c->waiting + c->discarded);
    CHECK(c->msgs_out == m->counts.msgs_out && c->bytes_out == m->counts.bytes_out);
    CHECK(c->accepted == m->counts.accepted && c->written == m->counts.written);
    CHECK(c->waiting == m->counts.waiting && c->discarded == m->counts.discarded);
}

static void model_open(struct model *m)
{
    memset(m, 0, sizeof *m);
    m->w = nats_wbuf_new();
    CHECK(m->w != NULL);
    m->limits = nats_wbuf_get_limits(m->w);
    CHECK(nats_wbuf_set_inbox(m->w, "in.", 3) == 0);
}

static void model_close(struct model *m)
{
    size_t i;
    model_compare(m);
    model_compare_counts(m);
    for (i = 0; i < m->len; i++)
        free(m->frames[i].bytes);
    free(m->frames);
    nats_wbuf_free(m->w);
}

/* Arguments and limits: the first that is wrong, in the order closed, arguments, line, payload,
   room. */

static int model_is_clean(const struct text *t)
{
    size_t i;
    for (i = 0; i < t->n; i++) {
        unsigned char c = (unsigned char)t->p[i];
        if (c < 0x21 || c == 0x7f)
            return 0;
    }
    return 1;
}

static int model_are_headers(const struct text *t)
{
    if (t->n < 12 || memcmp(t->p, "NATS/1.0", 8) != 0)
        return 0;
    if (t->p[8] != '\r' && t->p[8] != ' ')
        return 0;
    return memcmp(t->p + t->n - 4, "\r\n\r\n", 4) == 0;
}

static int model_fits(size_t value, size_t limit)
{
    return limit == 0 || value <= limit;
}

/* Add a frame to the list; return what the call that queued the frame must return. */
static int model_append(struct model *m, struct frame f)
{
    size_t before = model_unsent(m), after = before + f.len;
    int bits = 0;
    if (m->len == m->cap) {
        m->cap = m->cap != 0 ? 2 * m->cap : 16;
        m->frames = realloc(m->frames, m->cap * sizeof *m->frames);
        CHECK(m->frames != NULL);
    }
    m->frames[m->len++] = f;
    m->queued += f.len;
    if (!m->limits->held && before == 0)
        bits += NATS_WBUF_FIRST;
    if (!m->limits->held && m->limits->high_water != 0 && m->queued >= m->limits->high_water) {
        bits += NATS_WBUF_HIGH;
        m->queued = 0;
    }
    if (m->limits->slow_mark != 0 && before <= m->limits->slow_mark)
        m->slow_reported = 0;
    if (m->limits->slow_mark != 0 && after > m->limits->slow_mark && !m->slow_reported) {
        bits += NATS_WBUF_SLOW;
        m->slow_reported = 1;
    }
    return bits;
}

/* Check the code of a call. `expected` is 0 or an error; f is what a successful call appends. */
static void model_settle(struct model *m, int code, int expected, struct frame f, size_t content)
{
    if (expected == 0 && code == NATS_WBUF_NO_MEMORY) {
        CHECK(fail_allocation == 0);
        expected = code;
    } else if (expected == 0) {
        expected = model_append(m, f);
        if (f.is_message) {
            m->counts.msgs_out++;
            m->counts.bytes_out += content;
            m->counts.accepted++;
            m->counts.waiting++;
        }
        f.bytes = NULL;
    }
    free(f.bytes);
    CHECK(code == expected);
    model_compare(m);
}

static void put_text(struct frame *f, const void *data, size_t n)
{
    if (n != 0)
        memcpy(f->bytes + f->len, data, n);
    f->len += n;
}

static void put_number(struct frame *f, uint64_t n)
{
    char digits[32];
    int len = snprintf(digits, sizeof digits, "%llu", (unsigned long long)n);
    put_text(f, digits, (size_t)len);
}

static struct frame frame_for(size_t bytes)
{
    struct frame f;
    memset(&f, 0, sizeof f);
    f.bytes = malloc(bytes + 128);
    CHECK(f.bytes != NULL);
    return f;
}

static int model_message_error(const struct model *m, size_t line, size_t content, size_t frame)
{
    if (!model_fits(line, m->limits->max_control_line))
        return NATS_WBUF_LINE_TOO_LONG;
    if (!model_fits(content, m->limits->max_payload))
        return NATS_WBUF_PAYLOAD_TOO_LONG;
    if (!model_fits(model_unsent(m) + frame, m->limits->max_pending))
        return NATS_WBUF_FULL;
    return 0;
}

/* Publish, by nats_wbuf_request if the reply is that of a request. */
static int model_message(struct model *m, struct text subject, struct text reply,
                         struct text headers, struct text payload, uint64_t tag, int request)
{
    struct frame f = frame_for(subject.n + reply.n + headers.n + payload.n);
    size_t line;
    int expected, code;
    f.is_message = 1;
    f.tag = tag;
    put_text(&f, "HPUB ", 5);
    if (headers.n == 0) {
        f.len = 0;
        put_text(&f, "PUB ", 4);
    }
    put_text(&f, subject.p, subject.n);
    put_text(&f, " ", 1);
    put_text(&f, reply.p, reply.n);
    put_text(&f, " ", reply.n != 0);
    if (headers.n != 0) {
        put_number(&f, headers.n);
        put_text(&f, " ", 1);
    }
    put_number(&f, headers.n + payload.n);
    line = f.len;
    put_text(&f, "\r\n", 2);
    put_text(&f, headers.p, headers.n);
    put_text(&f, payload.p, payload.n);
    put_text(&f, "\r\n", 2);
    if (m->limits->closed)
        expected = NATS_WBUF_CLOSED;
    else if (subject.n == 0 || !model_is_clean(&subject))
        expected = NATS_WBUF_BAD_SUBJECT;
    else if (!model_is_clean(&reply))
        expected = NATS_WBUF_BAD_REPLY;
    else if (headers.n != 0 && !model_are_headers(&headers))
        expected = NATS_WBUF_BAD_HEADERS;
    else
        expected = model_message_error(m, line, headers.n + payload.n, f.len);
    if (request)
        code = nats_wbuf_request(m->w, subject.p, subject.n, headers.p, headers.n, payload.p,
                                 payload.n, tag);
    else
        code = nats_wbuf_publish(m->w, subject.p, subject.n, reply.p, reply.n, headers.p, headers.n,
                                 payload.p, payload.n, tag);
    if (tag != 0 && code >= 0)
        m->last_tag = tag;
    model_settle(m, code, expected, f, headers.n + payload.n);
    return code;
}

static int model_publish(struct model *m, struct text subject, struct text reply,
                         struct text headers, struct text payload, uint64_t tag)
{
    return model_message(m, subject, reply, headers, payload, tag, 0);
}

static int model_request(struct model *m, struct text subject, struct text headers,
                         struct text payload, uint64_t tag)
{
    char inbox[24];
    struct text reply = {inbox, 0};
    reply.n = (size_t)snprintf(inbox, sizeof inbox, "in.%llu", (unsigned long long)tag);
    return model_message(m, subject, reply, headers, payload, tag, 1);
}

static int model_sub(struct model *m, struct text subject, struct text queue, uint64_t sid)
{
    struct frame f = frame_for(subject.n + queue.n);
    int expected = 0, code;
    put_text(&f, "SUB ", 4);
    put_text(&f, subject.p, subject.n);
    put_text(&f, " ", 1);
    put_text(&f, queue.p, queue.n);
    put_text(&f, " ", queue.n != 0);
    put_number(&f, sid);
    if (subject.n == 0 || !model_is_clean(&subject))
        expected = NATS_WBUF_BAD_SUBJECT;
    else if (!model_is_clean(&queue))
        expected = NATS_WBUF_BAD_QUEUE;
    else if (!model_fits(f.len, m->limits->max_control_line))
        expected = NATS_WBUF_LINE_TOO_LONG;
    put_text(&f, "\r\n", 2);
    code = nats_wbuf_check_sub(subject.p, subject.n, queue.p, queue.n, sid,
                               m->limits->max_control_line);
    CHECK(code == expected);
    code = nats_wbuf_sub(m->w, subject.p, subject.n, queue.p, queue.n, sid);
    model_settle(m, code, expected, f, 0);
    return code;
}

static int model_unsub(struct model *m, uint64_t sid, uint64_t max_msgs)
{
    struct frame f = frame_for(0);
    int expected = 0, code;
    put_text(&f, "UNSUB ", 6);
    put_number(&f, sid);
    if (max_msgs != 0) {
        put_text(&f, " ", 1);
        put_number(&f, max_msgs);
    }
    if (!model_fits(f.len, m->limits->max_control_line))
        expected = NATS_WBUF_LINE_TOO_LONG;
    put_text(&f, "\r\n", 2);
    code = nats_wbuf_unsub(m->w, sid, max_msgs);
    model_settle(m, code, expected, f, 0);
    return code;
}

static int model_ping(struct model *m, int pong)
{
    struct frame f = frame_for(0);
    int code;
    put_text(&f, pong ? "PONG\r\n" : "PING\r\n", 6);
    code = pong ? nats_wbuf_pong(m->w) : nats_wbuf_ping(m->w);
    model_settle(m, code, 0, f, 0);
    return code;
}

static int model_connect(struct model *m, struct text json)
{
    struct frame f = frame_for(json.n);
    size_t i;
    int code;
    put_text(&f, "CONNECT ", 8);
    for (i = 0; i < json.n; i++)
        put_text(&f, json.p[i] == '\r' || json.p[i] == '\n' ? " " : json.p + i, 1);
    put_text(&f, "\r\n", 2);
    code = nats_wbuf_connect(m->w, json.p, json.n);
    model_settle(m, code, 0, f, 0);
    return code;
}

/* Sending and removing: none of these operations may allocate. */

static void model_drop(struct model *m, size_t at)
{
    free(m->frames[at].bytes);
    m->len--;
    memmove(m->frames + at, m->frames + at + 1, (m->len - at) * sizeof *m->frames);
}

static void model_discard(struct model *m, size_t at)
{
    if (m->frames[at].is_message) {
        m->counts.waiting--;
        m->counts.discarded++;
    }
    model_drop(m, at);
}

static void model_sent(struct model *m, size_t n)
{
    long before = allocations;
    nats_wbuf_sent(m->w, n);
    m->queued = 0;
    m->pinned -= m->pinned < n ? m->pinned : n;
    while (n > 0) {
        struct frame *f = &m->frames[0];
        size_t part = f->len - f->sent < n ? f->len - f->sent : n;
        f->sent += part;
        n -= part;
        m->last_line_len = (size_t)((char *)memchr(f->bytes, '\r', f->len) - f->bytes);
        if (m->last_line_len > sizeof m->last_line)
            m->last_line_len = sizeof m->last_line;
        memcpy(m->last_line, f->bytes, m->last_line_len);
        if (f->sent < f->len)
            continue;
        if (f->is_message) {
            m->counts.waiting--;
            m->counts.written++;
        }
        model_drop(m, 0);
    }
    CHECK(allocations == before);
    model_compare(m);
}

static void model_pin(struct model *m, size_t n)
{
    nats_wbuf_pin(m->w, n);
    m->pinned = n;
}

static void model_take_back(struct model *m)
{
    long before = allocations;
    size_t i = 0;
    nats_wbuf_take_back(m->w);
    while (i < m->len) {
        m->frames[i].sent = 0;
        if (m->frames[i].is_message && m->frames[i].tag == 0)
            i++;
        else
            model_discard(m, i);
    }
    m->pinned = 0;
    m->last_line_len = 0;
    m->queued = 0;
    CHECK(allocations == before);
    model_compare(m);
}

/* Discard the messages that may still be removed: all, or those with one of n tags. */
static size_t model_discard_unsent(struct model *m, int all, const uint64_t *tags, size_t n)
{
    size_t i = 0, at = 0, count = 0, k;
    while (i < m->len) {
        struct frame *f = &m->frames[i];
        int wanted = f->is_message && all;
        for (k = 0; k < n; k++)
            wanted |= f->tag != 0 && f->tag == tags[k];
        if (wanted && f->sent == 0 && at >= m->pinned) {
            model_discard(m, i);
            count++;
        } else {
            at += f->len - f->sent;
            i++;
        }
    }
    if (m->pinned > model_unsent(m))
        m->pinned = model_unsent(m);
    return count;
}

static size_t model_remove(struct model *m, const uint64_t *tags, size_t n)
{
    long before = allocations;
    size_t removed = nats_wbuf_remove(m->w, tags, n);
    CHECK(removed == model_discard_unsent(m, 0, tags, n));
    CHECK(allocations == before);
    model_compare(m);
    return removed;
}

/* Check the last line: unknown or right, never another frame's, and cut at cap. */
static void model_last_line(const struct model *m, size_t cap)
{
    char line[128];
    size_t len = nats_wbuf_last_line(m->w, line, cap);
    size_t want = m->last_line_len < cap ? m->last_line_len : cap;
    CHECK(len == 0 || (len == want && memcmp(line, m->last_line, len) == 0));
}

static size_t model_recheck(struct model *m, int headers, size_t cap)
{
    long before = allocations;
    uint64_t tags[8], want[8];
    size_t i = 0, at = 0, count = 0, n_tags = 0, n_want = 0;
    size_t discarded = nats_wbuf_recheck(m->w, headers, tags, cap, &n_tags);
    while (i < m->len) {
        struct frame *f = &m->frames[i];
        size_t line = (size_t)((char *)memchr(f->bytes, '\n', f->len) - f->bytes) + 1;
        int bad = f->is_message && (!model_fits(f->len - line - 2, m->limits->max_payload) ||
                                    (f->bytes[0] == 'H' && !headers));
        if (bad && f->sent == 0 && at >= m->pinned) {
            if (f->tag != 0 && n_want < cap)
                want[n_want++] = f->tag;
            model_discard(m, i);
            count++;
        } else {
            at += f->len - f->sent;
            i++;
        }
    }
    if (m->pinned > model_unsent(m))
        m->pinned = model_unsent(m);
    CHECK(discarded == count && n_tags == n_want);
    CHECK(n_tags == 0 || memcmp(tags, want, n_tags * sizeof *tags) == 0);
    CHECK(allocations == before);
    model_compare(m);
    return discarded;
}

static size_t model_drop_messages(struct model *m)
{
    long before = allocations;
    size_t dropped = nats_wbuf_drop_messages(m->w);
    CHECK(dropped == model_discard_unsent(m, 1, NULL, 0));
    CHECK(allocations == before);
    model_compare(m);
    return dropped;
}

/*
 * Operations from arbitrary bytes: one byte chooses the operation, the following bytes its
 * arguments. Missing bytes read as 0.
 */

struct script {
    const unsigned char *p;
    size_t n;
};

static unsigned next_byte(struct script *s)
{
    if (s->n == 0)
        return 0;
    s->n--;
    return *s->p++;
}

static unsigned next_word(struct script *s)
{
    unsigned high = next_byte(s);
    return high << 8 | next_byte(s);
}

static struct text next_name(struct script *s, int may_be_empty)
{
    static const char *const names[] = {"a", "foo.bar", "_INBOX.q7.1", "\xc3\xa9\xff", "PUB", "H"};
    static const char *const wrong[] = {"a b", "a\r\nPING", "\x7f", " a", "a\t", "\x01"};
    unsigned kind = next_byte(s);
    struct text t;
    size_t n;
    if (kind < 16)
        return text_of("", 0);
    if (may_be_empty && kind < 128)
        return text_of("", 0);
    if (kind < 200)
        return text_of(names[kind % 6], strlen(names[kind % 6]));
    if (kind < 215)
        return text_of(wrong[kind % 6], strlen(wrong[kind % 6]));
    if (kind < 235) { /* taken from the input */
        n = next_byte(s) % 24;
        n = n < s->n ? n : s->n;
        t = text_of(s->p, n);
        s->p += n;
        s->n -= n;
        return t;
    }
    n = next_byte(s);
    t = text_of("", 0);
    free(t.p);
    t.p = malloc(n != 0 ? n : 1);
    CHECK(t.p != NULL);
    memset(t.p, 'x', n);
    t.n = n;
    return t;
}

/* Return a payload that looks like frames. */
static struct text next_payload(struct script *s)
{
    static const char filler[] = "\r\nPUB x 3\r\nabc\r\nPING\r\nHPUB ";
    unsigned kind = next_byte(s);
    size_t n = kind < 128 ? kind % 20 : kind < 250 ? 4 * kind : next_word(s);
    struct text t;
    size_t i;
    t.n = n;
    t.p = malloc(n != 0 ? n : 1);
    CHECK(t.p != NULL);
    for (i = 0; i < n; i++)
        t.p[i] = filler[i % (sizeof filler - 1)];
    return t;
}

static struct text next_headers(struct script *s)
{
    /* clang-format off */
    static const char *const blocks[] = {
        "NATS/1.0\r\n\r\n", "NATS/1.0\r\nA: b\r\n\r\n", "NATS/1.0 503\r\n\r\n",
        "NATS/1.0\r\nK: \r\n\r\n", "NATS/1.0\r\n", "NATS/1.1\r\n\r\n", "NATS/1.0X\r\n\r\n",
        "NATS/1.0\n\n", "\r\n\r\n", "NATS/1.0"};
    /* clang-format on */
    unsigned kind = next_byte(s);
    const char *block;
    if (kind < 128)
        return text_of("", 0);
    block = blocks[kind < 220 ? kind % 4 : kind % 10];
    return text_of(block, strlen(block));
}

static void script_publish(struct model *m, struct script *s, int tagged)
{
    struct text subject = next_name(s, 0), reply = next_name(s, 1);
    struct text headers = next_headers(s), payload = next_payload(s);
    uint64_t tag = tagged ? m->last_tag + 1 + next_byte(s) % 3 : 0;
    model_publish(m, subject, reply, headers, payload, tag);
    free(subject.p);
    free(reply.p);
    free(headers.p);
    free(payload.p);
}

static void script_limits(struct model *m, struct script *s)
{
    unsigned which = next_byte(s), value = next_word(s);
    nats_wbuf_limits *l = m->limits;
    /* clang-format off */
    switch (which % 7) {
    case 0: l->max_payload = value % 3 ? 0 : value % 700; break;
    case 1: l->max_control_line = value % 3 ? 4096 : value % 60; break;
    case 2: l->max_pending = value % 3 ? 0 : value; break;
    case 3: l->high_water = value % 2000; break;
    case 4: l->slow_mark = value % 4000; break;
    case 5: l->closed = value % 4 == 3; break;
    default: l->held = (int)(value & 1); break;
    }
    /* clang-format on */
}

static void script_remove(struct model *m, struct script *s)
{
    unsigned mask = next_byte(s) | 0x100;
    uint64_t first = m->last_tag > 200 ? m->last_tag - 200 : 1, tag;
    uint64_t *tags = malloc(256 * sizeof *tags);
    size_t n = 0;
    CHECK(tags != NULL);
    for (tag = first; tag <= m->last_tag + 2; tag++) {
        if (mask >> (tag * 5 % 8) & 1)
            tags[n++] = tag;
    }
    model_remove(m, tags, n);
    free(tags);
}

static void script_control(struct model *m, struct script *s, unsigned which)
{
    struct text a, b;
    unsigned n;
    switch (which) {
    case 0:
        a = next_name(s, 0);
        b = next_name(s, 1);
        model_sub(m, a, b, next_word(s));
        free(a.p);
        free(b.p);
        break;
    case 1:
        n = next_byte(s);
        model_unsub(m, n == 255 ? UINT64_MAX : n, n % 4 ? 0 : next_word(s));
        break;
    case 2:
        model_ping(m, (int)(next_byte(s) & 1));
        break;
    default:
        a = next_payload(s);
        model_connect(m, a);
        free(a.p);
        break;
    }
}

static void script_request(struct model *m, struct script *s)
{
    struct text subject = next_name(s, 0), headers = next_headers(s), payload = next_payload(s);
    model_request(m, subject, headers, payload, m->last_tag + 1 + next_byte(s) % 3);
    free(subject.p);
    free(headers.p);
    free(payload.p);
}

static void model_run(const void *data, size_t size)
{
    struct script s = {data, size};
    struct model m;
    size_t unsent;
    model_open(&m);
    while (s.n > 0) {
        unsigned op = next_byte(&s);
        unsent = nats_wbuf_len(m.w);
        /* clang-format off */
        switch (op % 20) {
        case 0: case 1: script_publish(&m, &s, 0); break;
        case 2: case 3: script_publish(&m, &s, 1); break;
        case 4: case 5: script_request(&m, &s); break;
        case 6: case 7: script_control(&m, &s, next_byte(&s) % 4); break;
        case 8: case 9: model_sent(&m, next_byte(&s) % (unsent + 1)); break;
        case 10: model_sent(&m, next_word(&s) % (unsent + 1)); break;
        case 11: model_sent(&m, next_byte(&s) % 8 ? 0 : unsent); break;
        case 12: model_pin(&m, next_word(&s) % (unsent + 1)); break;
        case 13: model_last_line(&m, next_byte(&s) % 129); break;
        case 14: model_take_back(&m); break;
        case 15: case 16: script_remove(&m, &s); break;
        case 17:
            if (next_byte(&s) & 1)
                model_drop_messages(&m);
            else
                model_recheck(&m, (int)(next_byte(&s) & 1), next_byte(&s) % 9);
            break;
        case 18: script_limits(&m, &s); break;
        default:
            model_compare_counts(&m);
            fail_allocation = next_byte(&s) % 4 ? -1 : 0;
            break;
        }
        /* clang-format on */
    }
    fail_allocation = -1;
    model_close(&m);
}

#endif
