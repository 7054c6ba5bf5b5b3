/*
 * nats_parser: incremental parser of everything that a NATS server sends.
 *
 * The caller feeds bytes and gets flat rows of int32, which are offsets into those bytes. The
 * caller owns the input and the rows. The parser does no I/O, calls nothing back, has no globals
 * and allocates nothing per message: memory is taken only for a frame that straddles two chunks,
 * and grows with the bytes received, never with the size that a control line announces.
 *
 * Why rows, and what a run is for, stands at the head of nats_parser.c.
 */
#ifndef NATS_PARSER_H
#define NATS_PARSER_H

#include "nats_attributes.h"

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A row is NATS_ROW_WIDTH ints: kind, sid, s0, s1, r0, r1, h0, p0, p1. The last seven are offsets:
 * s is the subject, r the reply, h the headers, p the payload; 0 begins, 1 ends.
 *
 *   MSG    subject [s0,s1)  reply [r0,r1)  headers [h0,p0)  payload [p0,p1). An absent reply or
 *   header
 *          block is an empty range.
 *   ANSWER a message of the caller's inbox (see inbox_sid) without reply: as MSG, and r0 is the
 *   number
 *          that follows the inbox's prefix
 *   INFO   the JSON text [s0,s1)
 *   ERR    the text after -ERR [s0,s1), blanks trimmed
 *   PING, PONG, OK: p1 consecutive ones, so that a flood costs one row
 *
 * A run is p1 >= 2 consecutive messages without headers. p1 items follow the run's row:
 *
 *   RUN        same sid and subject [s0,s1), no reply:   (p0, p1)
 *   REPLY_RUN  same sid and subject [s0,s1), a reply:    (r0, r1, p0, p1)
 *   ANSWER_RUN answers, subject [s0,s1) of the first:    (number, p0, p1)
 *
 * A sid above 2^31-1 comes as 0, which no subscription has; a sid above 2^64-1 is an error. A
 * message whose subject equals that of the message before it in the same chunk repeats that
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

/* Sticky errors. Every frame before the offending one has been delivered, no frame after it is. */
enum nats_parser_error {
    NATS_PARSER_OK = 0,
    NATS_PARSER_UNKNOWN_VERB = -101,     /* a line that begins with nothing a server sends */
    NATS_PARSER_BAD_ARGS = -102,         /* too few or too many arguments */
    NATS_PARSER_BAD_SID = -103,          /* not a decimal number below 2^64 */
    NATS_PARSER_BAD_SIZE = -104,         /* not a decimal number of at most 20 digits */
    NATS_PARSER_BAD_HEADER_SIZE = -105,  /* HMSG: header size above total size */
    NATS_PARSER_BAD_LINE_END = -106,     /* LF without CR */
    NATS_PARSER_BAD_PAYLOAD_END = -107,  /* payload not followed by CRLF */
    NATS_PARSER_LINE_TOO_LONG = -201,    /* control line above its bound */
    NATS_PARSER_MESSAGE_TOO_LONG = -202, /* message above max_message */
    NATS_PARSER_NO_MEMORY = -401
};

enum {
    /* Far above what a publisher may send (a server's own default is 4096): mappings lengthen a
       subject, and a message above the bound would cost each of its subscribers the connection. */
    NATS_MAX_CONTROL_LINE = 1024 * 1024,
    NATS_LINE_EXTRA = 26, /* what delivery puts before them: verb, blank, sid, blank */
    NATS_MAX_ERR_LINE = 64 * 1024,
    NATS_MAX_INFO_LINE = 1024 * 1024,
    NATS_SNIPPET = 64 /* bytes of an offending frame that are remembered */
};

typedef struct nats_parser {
    /* Set by the caller, at any time between two calls. */
    size_t max_message; /* headers + payload; clamped to INT32_MAX - 8 MiB */
    int32_t inbox_sid;  /* the subscription to "prefix.*", 0 for none. Its messages whose last */
    size_t inbox_len;   /* token is a number below 10^9 may come as ANSWER rows */
    size_t max_control_line; /* a line but INFO and -ERR may be NATS_LINE_EXTRA bytes longer, CRLF
                                excluded; clamped to 1 MiB */

    /* Results of the last call. */
    size_t pos;            /* where in the chunk to go on; == len when the whole chunk is taken */
    const char *frame;     /* not NULL: the one row's offsets count from here, not from the chunk */
    size_t frame_len;      /* bytes at frame, valid until the next call */
    int error;             /* enum nats_parser_error, sticky */
    uint64_t error_offset; /* of the offending frame's first byte in the whole stream */

    char snippet[NATS_SNIPPET]; /* the offending frame's first bytes, as far as they have come */
    size_t snippet_len;

    /* Counters, which the caller may zero: messages and their header + payload bytes. */
    uint64_t msgs;
    uint64_t bytes;

    /* Private. */
    uint64_t stream_offset;
    char *tail;
    size_t tail_len;
    size_t tail_cap;
    size_t need;
    size_t skipped; /* bytes of the unfinished frame that are not in the tail */
    int state;
    int32_t row[NATS_ROW_WIDTH];
} nats_parser;

/* Make a parser ready. max_message 0 means 64 MiB. Never fails: nothing is allocated. */
void nats_parser_init(nats_parser *parser, size_t max_message);
void nats_parser_destroy(nats_parser *parser);

/*
 * Parse data[pos..len), len at most 2^31-1. Fill at most cap ints of rows (cap >= 64) and return
 * how many. parser->pos says how far the call came: call again with the same chunk while
 * parser->pos < len. An unfinished frame at the end of the chunk is kept inside, so the chunk may
 * be freed once parser->pos == len and its rows are used up.
 *
 * A frame that began in an earlier chunk comes back alone: one MSG, INFO or ERR row (or a PING,
 * PONG or OK row, which needs no bytes) with parser->frame set.
 *
 * After an error the call returns the rows before the offending frame, with parser->error set.
 * Every later call takes all input and returns 0.
 */
NATS_MUST_CHECK int nats_parser_feed(nats_parser *parser, const void *data, size_t pos, size_t len,
                                     int32_t *rows, int cap);

/*
 * A large message that has come in part may be received straight into memory of the caller's. Return
 * how many bytes of its payload are kept already, at *begin; *size is the whole payload's. 0: there is no
 * such message, or its payload has not begun.
 */
size_t nats_parser_unfinished(const nats_parser *parser, const char **begin, size_t *size);

/* The next n bytes of that payload were received elsewhere. From the first such call on the whole rest of the
   payload is. The CRLF is fed. The message's row has the payload's true size, but the bytes at its offsets
   are not the payload's. */
void nats_parser_skip(nats_parser *parser, size_t n);

/* Return a short English phrase without a full stop; never NULL. */
const char *nats_parser_strerror(int error);

#ifdef __cplusplus
}
#endif

#endif
