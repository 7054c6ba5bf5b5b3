/*
 * nats_frame: checks, writes and measures the frames of a client. Header only, pure functions;
 * nats_wbuf decides what is queued where.
 */
#ifndef NATS_FRAME_H
#define NATS_FRAME_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Return a + b, or SIZE_MAX if the sum overflows. No limit and no allocation admits SIZE_MAX. */
static inline size_t nats_plus(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

/* Return a number that is not 0 if one of 8 bytes is a blank or a control character: below 0x21, or 0x7f. A
   subtraction borrows from a byte's highest bit if the byte is smaller; ~ leaves out bytes above 0x7f. */
static inline uint64_t nats_unclean(const unsigned char *p)
{
    const uint64_t ones = UINT64_MAX / 255;
    uint64_t x, y;
    memcpy(&x, p, sizeof x);
    y = x ^ ones * 0x7f; /* 0 where the byte is 0x7f */
    return (((x - ones * 0x21) & ~x) | ((y - ones) & ~y)) & ones * 0x80;
}

/* Return whether a text can be an argument of a control line: no blank, no control character. Most are
   too short for vector code. */
static inline int nats_is_clean(const void *text, size_t len)
{
    const unsigned char *p = (const unsigned char *)text;
    uint64_t bad = 0;
    size_t i;
    if (len < 8) {
        for (i = 0; i < len; i++)
            bad |= (uint64_t)(p[i] <= 0x20) | (uint64_t)(p[i] == 0x7f);
        return bad == 0;
    }
    for (i = 0; i < len - 8; i += 8)
        bad |= nats_unclean(p + i);
    return (bad | nats_unclean(p + len - 8)) == 0; /* the last 8, some of them twice */
}

static inline int nats_is_subject(const void *text, size_t len)
{
    return len != 0 && nats_is_clean(text, len);
}

/* Return whether a block begins with NATS/1.0 and ends with an empty line. */
static inline int nats_is_header_block(const char *p, size_t len)
{
    return len >= 12 && memcmp(p, "NATS/1.0", 8) == 0 && (p[8] == '\r' || p[8] == ' ') &&
           memcmp(p + len - 4, "\r\n\r\n", 4) == 0;
}

/* Copy n bytes to p and return the byte after them. */
static inline char *nats_put(char *p, const void *data, size_t n)
{
    if (n != 0)
        memcpy(p, data, n);
    return p + n;
}

static inline size_t nats_count_digits(uint64_t value)
{
    size_t n = 1;
    for (; value >= 10; value /= 10)
        n++;
    return n;
}

static inline char *nats_put_decimal(char *p, uint64_t value)
{
    size_t n = nats_count_digits(value), i = n;
    while (i-- > 0) {
        p[i] = (char)('0' + value % 10);
        value /= 10;
    }
    return p + n;
}

/* Write the end of a PUB: size, CRLF, payload, CRLF. */
static inline void nats_put_payload(char *p, const void *payload, size_t n)
{
    p = nats_put_decimal(p, n);
    p = nats_put(p, "\r\n", 2);
    p = nats_put(p, payload, n);
    nats_put(p, "\r\n", 2);
}

/* The fields of one PUB or HPUB, and the sizes that follow. SIZE_MAX means "too large". */
struct nats_message {
    const void *subject;
    size_t subject_len;
    const void *reply;
    size_t reply_len;
    const void *headers;
    size_t headers_len;
    const void *payload;
    size_t payload_len;
    uint64_t number; /* not 0: its digits are the end of the reply */
    size_t line;     /* the control line without CRLF */
    size_t size;     /* headers and payload */
    size_t frame;    /* all bytes */
};

static inline void nats_put_message(char *p, const struct nats_message *m)
{
    p = m->headers_len != 0 ? nats_put(p, "HPUB ", 5) : nats_put(p, "PUB ", 4);
    p = nats_put(p, m->subject, m->subject_len);
    *p++ = ' ';
    if (m->reply_len != 0) {
        p = nats_put(p, m->reply, m->reply_len);
        if (m->number != 0)
            p = nats_put_decimal(p, m->number);
        *p++ = ' ';
    }
    if (m->headers_len != 0) {
        p = nats_put_decimal(p, m->headers_len);
        *p++ = ' ';
    }
    p = nats_put_decimal(p, m->size);
    p = nats_put(p, "\r\n", 2);
    p = nats_put(p, m->headers, m->headers_len);
    p = nats_put(p, m->payload, m->payload_len);
    nats_put(p, "\r\n", 2);
}

/* Return whether the frame at p is a PUB or HPUB. PING and PONG are the only others with a P. */
static inline int nats_is_message(const char *p)
{
    return p[0] == 'H' || (p[0] == 'P' && p[1] == 'U');
}

/* Return the length of the whole frame at p, of which at most `most` bytes can belong to it. */
static inline size_t nats_frame_len(const char *p, size_t most)
{
    const char *lf = (const char *)memchr(p, '\n', most); /* no argument contains one */
    size_t line, size = 0, unit = 1;
    assert(lf != NULL && lf[-1] == '\r');
    line = (size_t)(lf - p) + 1;
    if (!nats_is_message(p))
        return line;
    for (lf -= 2; *lf != ' '; lf--, unit *= 10) /* the size is the line's last argument */
        size += unit * (size_t)(*lf - '0');
    assert(size <= most - line - 2);
    return line + size + 2;
}

#endif
