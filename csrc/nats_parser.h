/*
 * nats_parser: incremental parser of everything a NATS server sends.
 *
 * Bytes in, flat rows of int32 out. The caller owns the input and the rows; rows are offsets into
 * the input. No I/O, no callbacks, no globals, nothing allocated per message: memory is taken only
 * for a frame that straddles two chunks, and grows with the bytes received, never with the size
 * that a control line announces.
 */
#ifndef NATS_PARSER_H
#define NATS_PARSER_H

#include <stddef.h>
#include <stdint.h>

/*
 * A row is NATS_ROW_WIDTH ints: kind, sid, s0, s1, r0, r1, h0, p0, p1.
 *
 *   MSG   subject [s0,s1)  reply [r0,r1), none when empty  headers [h0,p0), none when empty
 *         payload [p0,p1)
 *   ANSWER a message of the caller's inbox (see inbox_sid) without reply: as MSG, and r0 is the number
 *         behind the inbox's prefix
 *   INFO  the JSON text [s0,s1)          ERR   the text behind -ERR [s0,s1), blanks trimmed
 *   PING, PONG, OK                       p1 consecutive ones (a flood costs one row)
 *
 * Runs are p1 >= 2 consecutive messages without headers; behind the row follow p1 items.
 *
 *   RUN        same sid and subject [s0,s1), no reply:  (p0, p1)
 *   REPLY_RUN  same sid and subject [s0,s1), a reply:   (r0, r1, p0, p1)
 *   ANSWER_RUN answers, subject [s0,s1) of the first:   (number, p0, p1)
 *
 * sid is 0 (no subscription has it) when the server's is above 2^31-1; above 2^64-1 is an error.
 * A message whose subject equals that of the message before it in the same chunk repeats that
 * message's s0 and s1, so that comparing s0 tells whether a decoded subject can be used again.
 */
enum { NATS_ROW_WIDTH = 9 };
enum nats_row_kind {
    NATS_ROW_MSG,
    NATS_ROW_RUN,
    NATS_ROW_INFO,
    NATS_ROW_ERR,
    NATS_ROW_PING,
    NATS_ROW_PONG,
    NATS_ROW_OK,
    NATS_ROW_ANSWER,
    NATS_ROW_REPLY_RUN,
    NATS_ROW_ANSWER_RUN
};

/* Sticky errors. Everything up to the offending frame has been delivered, nothing after it is. */
enum nats_parser_error {
    NATS_PARSER_OK = 0,
    NATS_PARSER_UNKNOWN_VERB = -101,    /* a line that starts with nothing a server sends */
    NATS_PARSER_BAD_ARGS = -102,        /* too few or too many arguments */
    NATS_PARSER_BAD_SID = -103,         /* not a decimal number below 2^64 */
    NATS_PARSER_BAD_SIZE = -104,        /* not a decimal number of at most 20 digits */
    NATS_PARSER_BAD_HEADER_SIZE = -105, /* HMSG: header size above total size */
    NATS_PARSER_BAD_LINE_END = -106,    /* LF without CR */
    NATS_PARSER_BAD_PAYLOAD_END = -107, /* payload not followed by CRLF */
    NATS_PARSER_LINE_TOO_LONG = -201,   /* control line above its bound */
    NATS_PARSER_MESSAGE_TOO_LONG = -202,/* message above max_message */
    NATS_PARSER_NO_MEMORY = -401
};

enum {
    NATS_MAX_CONTROL_LINE = 4096,   /* of a publisher's arguments: the server's own default */
    NATS_LINE_EXTRA = 26,           /* verb, blank, sid and blank: what delivery puts before them */
    NATS_MAX_ERR_LINE = 64 * 1024,
    NATS_MAX_INFO_LINE = 1024 * 1024,
    NATS_SNIPPET = 64               /* bytes of an offending frame that are remembered */
};

typedef struct nats_parser {
    /* Set by the caller, any time between two calls. */
    size_t max_message;      /* headers + payload; clamped to INT32_MAX - 8 MiB */
    int32_t inbox_sid;       /* the subscription to "prefix.*", 0 for none: its messages whose last */
    size_t inbox_len;        /* token is a number below 10^9 may come as ANSWER rows */
    size_t max_control_line; /* a line but INFO and -ERR may be NATS_LINE_EXTRA bytes longer, CRLF
                                excluded; clamped to 1 MiB */

    /* Results of the last call. */
    size_t pos;              /* where in the chunk to go on; == len when all of it is taken */
    const char *frame;       /* non-NULL: the one row's offsets count from here, not from the chunk */
    size_t frame_len;        /* bytes at frame, valid until the next call */
    int error;               /* enum nats_parser_error, sticky */
    uint64_t error_offset;   /* offset of the offending frame's first byte in the whole stream */

    char snippet[NATS_SNIPPET]; /* its first bytes, as far as they have come */
    size_t snippet_len;

    /* Counters the caller may zero: messages and their header + payload bytes. */
    uint64_t msgs;
    uint64_t bytes;

    /* Private. */
    uint64_t stream_offset;
    char *tail;
    size_t tail_len;
    size_t tail_cap;
    size_t need;
    int state;
    int32_t row[NATS_ROW_WIDTH];
} nats_parser;

/* max_message 0 means 64 MiB. Never fails: nothing is allocated. */
void nats_parser_init(nats_parser *p, size_t max_message);
void nats_parser_destroy(nats_parser *p);

/*
 * Parse data[pos..len), len at most 2^31-1. Fills at most cap ints of rows (cap >= 64) and returns
 * how many; p->pos tells how far it came: call again with the same chunk while p->pos < len. Whatever
 * is left unfinished at the end of the chunk is kept inside, so the chunk may be freed once
 * p->pos == len and its rows are used up. A frame that started in an earlier chunk comes back alone:
 * one MSG, INFO or ERR row (or a PING, PONG, OK row, which needs no bytes) with p->frame set. After an
 * error it returns the rows before it with p->error set; every later call takes all input and returns 0.
 */
int nats_parser_feed(nats_parser *p, const void *data, size_t pos, size_t len, int32_t *rows,
                     int cap);

/* Never NULL; a short English phrase without a full stop. */
const char *nats_parser_strerror(int error);

#endif
