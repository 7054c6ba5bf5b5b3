/*
 * parser_vectors: streams, what nats_parser makes of them (in the words of parser_run.h), and how
 * they end. B1 to B16 are the classes of what a server may send and must not get away with.
 */
#ifndef PARSER_VECTORS_H
#define PARSER_VECTORS_H

#include "parser_run.h"

struct span {
    const char *p;
    size_t n;
};

#define T(literal) {literal, sizeof(literal) - 1}

/* A stream, the text of its rows, and the error at its end. */
struct vector {
    struct span in;
    struct span out;
    int error;
    uint64_t offset;
};

#define HDR "NATS/1.0\r\n\r\n"
#define BIG "18446744073709551615" /* 2^64 - 1 */

/* clang-format off */
static const struct vector vectors[] = {
    {T(""), T(""), 0, 0},
    {T("PING\r\n"), T("PING\n"), 0, 0},
    {T("PONG\r\n"), T("PONG\n"), 0, 0},
    {T("+OK\r\n"), T("OK\n"), 0, 0},
    {T("INFO {}\r\n"), T("INFO 2:{}\n"), 0, 0},
    {T("INFO {\"a\": 1} \r\nINFO {}\r\n"), T("INFO 8:{\"a\": 1}\nINFO 2:{}\n"), 0, 0},
    {T("INFO {\0\xff}\r\n"), T("INFO 4:{\0\xff}\n"), 0, 0},
    {T("PING\r\nPING\r\nPONG\r\n+OK\r\n+OK\r\nPING\r\n"), T("PING\nPING\nPONG\nOK\nOK\nPING\n"),
     0, 0},
    {T("PING \t\r\npong\r\n+ok \r\nPiNg\r\n"), T("PING\nPONG\nOK\nPING\n"), 0, 0},

    /* B15: -ERR in all shapes; B7, B8: any byte */
    {T("-ERR 'Stale Connection'\r\n"), T("ERR 18:'Stale Connection'\n"), 0, 0},
    {T("-ERR\r\n"), T("ERR 0:\n"), 0, 0},
    {T("-ERR \r\n"), T("ERR 0:\n"), 0, 0},
    {T("-ERR ''\r\n"), T("ERR 2:''\n"), 0, 0},
    {T("-err  un quoted \t\r\n"), T("ERR 9:un quoted\n"), 0, 0},
    {T("-ERR a\0b\xff\r\n"), T("ERR 4:a\0b\xff\n"), 0, 0},

    {T("MSG a 1 0\r\n\r\n"), T("MSG 1 1:a 0: 0: 0:\n"), 0, 0},
    {T("MSG foo.bar 12 5\r\nhello\r\n"), T("MSG 12 7:foo.bar 0: 0: 5:hello\n"), 0, 0},
    {T("MSG a 1 r.1 2\r\nhi\r\n"), T("MSG 1 1:a 3:r.1 0: 2:hi\n"), 0, 0},
    {T("MSG a 1 r.1 2\r\nhi\r\nMSG a 1 r.2 0\r\n\r\nMSG a 1 3 1\r\nx\r\nMSG a 1 1\r\ny\r\n"
       "MSG a 1  r\r4 1\r\nz\r\nMSG a 1 5  1\r\nz\r\nMSG a 1 6 1 \r\nz\r\nMSG a 2 7 0\r\n\r\n"),
     T("MSG 1 1:a 3:r.1 0: 2:hi\nMSG 1 1:a 3:r.2 0: 0:\nMSG 1 1:a 1:3 0: 1:x\nMSG 1 1:a 0: 0: 1:y\n"
       "MSG 1 1:a 3:r\r4 0: 1:z\nMSG 1 1:a 1:5 0: 1:z\nMSG 1 1:a 1:6 0: 1:z\nMSG 2 1:a 1:7 0: 0:\n"),
     0, 0},
    {T("MSG a 1 r 0\r\n\r\nMSG a 1 8\r\nx 1\r\ny\r\n\r\nMSG a 1 r 0\r\n\r\nMSG a 1  1\r\nz\r\n"),
     T("MSG 1 1:a 1:r 0: 0:\nMSG 1 1:a 0: 0: 8:x 1\r\ny\r\n\nMSG 1 1:a 1:r 0: 0:\n"
       "MSG 1 1:a 0: 0: 1:z\n"), 0, 0},
    /* answers to the inbox */
    {T("MSG in.17 77 1\r\na\r\nMSG in.18 77 0\r\n\r\nMSG in.999999999 77 2\r\nbc\r\n"
       "HMSG in.19 77 12 13\r\n" HDR "d\r\nMSG in.20 77 0\r\n\r\nMSG in.21 77 0\r\n\r\n"),
     T("MSG 77 #17 0: 0: 1:a\nMSG 77 #18 0: 0: 0:\nMSG 77 #999999999 0: 0: 2:bc\n"
       "MSG 77 #19 0: 12:" HDR " 1:d\nMSG 77 #20 0: 0: 0:\nMSG 77 #21 0: 0: 0:\n"),
     0, 0},
    {T("MSG in.1 77 0\r\n\r\nMSG in.1 77 r 0\r\n\r\nMSG in.01 77 0\r\n\r\nMSG in.1 7 0\r\n\r\n"
       "MSG in. 77 0\r\n\r\nMSG in.1000000000 77 0\r\n\r\nMSG i 77 0\r\n\r\nMSG in.1 77 0\r\n\r\n"),
     T("MSG 77 #1 0: 0: 0:\nMSG 77 4:in.1 1:r 0: 0:\nMSG 77 5:in.01 0: 0: 0:\nMSG 7 4:in.1 0: 0: 0:\n"
       "MSG 77 3:in. 0: 0: 0:\nMSG 77 13:in.1000000000 0: 0: 0:\nMSG 77 1:i 0: 0: 0:\n"
       "MSG 77 #1 0: 0: 0:\n"),
     0, 0},
    {T("MSG a 1 14\r\n\r\n\0\xffMSG b 2 0\r\r\n"),
     T("MSG 1 1:a 0: 0: 14:\r\n\0\xffMSG b 2 0\r\n"), 0, 0},
    {T("HMSG a 1 12 12\r\n" HDR "\r\n"), T("MSG 1 1:a 0: 12:" HDR " 0:\n"), 0, 0},
    {T("HMSG a 1 r 12 15\r\n" HDR "xyz\r\n"), T("MSG 1 1:a 1:r 12:" HDR " 3:xyz\n"), 0, 0},
    {T("msg\ta \t1  2 \t\r\nhi\r\nhMsG a  1 0\t0\r\n\r\n"),
     T("MSG 1 1:a 0: 0: 2:hi\nMSG 1 1:a 0: 0: 0:\n"), 0, 0},

    /* B4: leading zeros, up to 20 digits */
    {T("MSG a 007 00000000000000000005\r\nhello\r\n"), T("MSG 7 1:a 0: 0: 5:hello\n"), 0, 0},
    {T("HMSG a 1 00000000000000000002 00000000000000000003\r\nabc\r\n"),
     T("MSG 1 1:a 0: 2:ab 1:c\n"), 0, 0},
    /* B5: no headers */
    {T("HMSG a 1 0 3\r\nabc\r\n"), T("MSG 1 1:a 0: 0: 3:abc\n"), 0, 0},
    {T("HMSG a 1 r 0 0\r\n\r\n"), T("MSG 1 1:a 1:r 0: 0:\n"), 0, 0},
    /* B7, B8: any byte in names, headers and payload, CR in the middle of a name included */
    {T("MSG fo\0o.\xff\xc3 1 \x80\0r 1\r\n\0\r\n"),
     T("MSG 1 7:fo\0o.\xff\xc3 3:\x80\0r 0: 1:\0\n"), 0, 0},
    {T("MSG a\rb 1 0\r\n\r\n"), T("MSG 1 3:a\rb 0: 0: 0:\n"), 0, 0},
    /* B10: sids that no subscription of ours can have */
    {T("MSG a 0 0\r\n\r\nMSG a 2147483647 0\r\n\r\nMSG a 2147483648 0\r\n\r\nMSG a 4294967297 0\r\n\r\n"
       "MSG a " BIG " 1\r\nx\r\nMSG a 1 0\r\n\r\n"),
     T("MSG 0 1:a 0: 0: 0:\nMSG 2147483647 1:a 0: 0: 0:\nMSG 0 1:a 0: 0: 0:\n"
       "MSG 0 1:a 0: 0: 0:\nMSG 0 1:a 0: 0: 1:x\nMSG 1 1:a 0: 0: 0:\n"), 0, 0},
    /* B13: header blocks are not parsed */
    {T("HMSG a 1 3 5\r\nabcde\r\n"), T("MSG 1 1:a 0: 3:abc 2:de\n"), 0, 0},
    {T("HMSG a 1 14 14\r\nNATS/1.0 ABC\r\n\r\n"), T("MSG 1 1:a 0: 14:NATS/1.0 ABC\r\n 0:\n"), 0, 0},
    {T("HMSG a 1 5 5\r\n\r\n\n\r\0\r\n"), T("MSG 1 1:a 0: 5:\r\n\n\r\0 0:\n"), 0, 0},

    /* Lines that look like a repetition of the line before but are none. */
    {T("MSG a 1 1\r\nx\r\nMSG a 1 1 1\r\ny\r\nMSG a 1 1\r\nz\r\nMSG a 11 1\r\n1\r\n"),
     T("MSG 1 1:a 0: 0: 1:x\nMSG 1 1:a 1:1 0: 1:y\nMSG 1 1:a 0: 0: 1:z\nMSG 11 1:a 0: 0: 1:1\n"),
     0, 0},
    {T("HMSG a 1 0 1\r\nx\r\nHMSG a 1 0 0 1\r\ny\r\nHMSG a 1 0 3\r\nxyz\r\nHMSG a 1 1 1\r\nh\r\n"),
     T("MSG 1 1:a 0: 0: 1:x\nMSG 1 1:a 1:0 0: 1:y\nMSG 1 1:a 0: 0: 3:xyz\nMSG 1 1:a 0: 1:h 0:\n"),
     0, 0},
    {T("MSG a 1 0\r\n\r\nMSG a 1 0000000000001\r\nx\r\nMSG a 1 1 \r\ny\r\nmsg a 1 1\r\nz\r\n"),
     T("MSG 1 1:a 0: 0: 0:\nMSG 1 1:a 0: 0: 1:x\nMSG 1 1:a 0: 0: 1:y\nMSG 1 1:a 0: 0: 1:z\n"),
     0, 0},
    {T("MSG a 1 1\r\nx\r\nMSG a 1 1\rMSG a 1 1\r\ny\r\n"), T("MSG 1 1:a 0: 0: 1:x\n"),
     NATS_PARSER_BAD_ARGS, 14},
    {T("MSG a 1 1\r\nx\r\nMSG a 1 \r\nx\r\n"), T("MSG 1 1:a 0: 0: 1:x\n"), NATS_PARSER_BAD_ARGS,
     14},
    {T("MSG a 1 1\r\nx\r\nMSG a 1 1\r\nyz\r\n"), T("MSG 1 1:a 0: 0: 1:x\n"),
     NATS_PARSER_BAD_PAYLOAD_END, 14},
    {T("MSG a 1 1\r\nx\r\nMSG a 1 1\r\ny\r\r"), T("MSG 1 1:a 0: 0: 1:x\n"),
     NATS_PARSER_BAD_PAYLOAD_END, 14},
    {T("MSG a 1 1\r\nx\r\nMSG a 1 1\n"), T("MSG 1 1:a 0: 0: 1:x\n"), NATS_PARSER_BAD_LINE_END, 14},

    /* B1: sizes that are no numbers */
    {T("MSG a 1 -5\r\nhello\r\n"), T(""), NATS_PARSER_BAD_SIZE, 0},
    {T("MSG a 1 +5\r\nhello\r\n"), T(""), NATS_PARSER_BAD_SIZE, 0},
    {T("MSG a 1 0x5\r\nhello\r\n"), T(""), NATS_PARSER_BAD_SIZE, 0},
    {T("MSG a 1 5a\r\nhello\r\n"), T(""), NATS_PARSER_BAD_SIZE, 0},
    {T("MSG a 1 5\r\r\nhello\r\n"), T(""), NATS_PARSER_BAD_SIZE, 0},
    {T("MSG a 1 000000000000000000005\r\nhello\r\n"), T(""), NATS_PARSER_BAD_SIZE, 0},
    {T("HMSG a 1 -1 5\r\nhello\r\n"), T(""), NATS_PARSER_BAD_SIZE, 0},
    {T("HMSG a 1 x 5\r\nhello\r\n"), T(""), NATS_PARSER_BAD_SIZE, 0},
    {T("HMSG a 1 1 -5\r\nhello\r\n"), T(""), NATS_PARSER_BAD_SIZE, 0},
    /* B2, B3: sizes above max_message */
    {T("MSG a 1 67108865\r\nx"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("MSG a 1 2147483647\r\nx"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("MSG a 1 2147483648\r\nx"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("MSG a 1 4294967301\r\nhello\r\n"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("MSG a 1 1099511627776\r\nx"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("MSG a 1 4611686018427387904\r\nx"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("MSG a 1 9223372036854775807\r\nx"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("MSG a 1 18446744073709551616\r\n\r\n"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("MSG a 1 18446744073709551621\r\nhello\r\n"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("MSG a 1 99999999999999999999\r\nx"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("HMSG a 1 18446744073709551617 5\r\nx"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    {T("HMSG a 1 1 4294967297\r\nx"), T(""), NATS_PARSER_MESSAGE_TOO_LONG, 0},
    /* B5: header size above the total */
    {T("HMSG a 1 6 5\r\nhello\r\n"), T(""), NATS_PARSER_BAD_HEADER_SIZE, 0},
    {T("HMSG a 1 100 10\r\n0123456789\r\n"), T(""), NATS_PARSER_BAD_HEADER_SIZE, 0},
    {T("HMSG a 1 1000000 10\r\n0123456789\r\n"), T(""), NATS_PARSER_BAD_HEADER_SIZE, 0},
    /* B6: the payload's end */
    {T("MSG a 1 2\r\nhixx"), T(""), NATS_PARSER_BAD_PAYLOAD_END, 0},
    {T("MSG a 1 2\r\nhi\rx"), T(""), NATS_PARSER_BAD_PAYLOAD_END, 0},
    {T("MSG a 1 2\r\nhi\n\r"), T(""), NATS_PARSER_BAD_PAYLOAD_END, 0},
    {T("MSG a 1 2\r\nhix\n"), T(""), NATS_PARSER_BAD_PAYLOAD_END, 0},
    {T("MSG a 1 2\r\nhello\r\n"), T(""), NATS_PARSER_BAD_PAYLOAD_END, 0},
    {T("MSG a 1 4\r\nhi\r\nPING\r\n"), T(""), NATS_PARSER_BAD_PAYLOAD_END, 0},
    {T("HMSG a 1 1 2\r\nhi..\r\n"), T(""), NATS_PARSER_BAD_PAYLOAD_END, 0},
    /* B9: sids that are no numbers */
    {T("MSG a abc 0\r\n\r\n"), T(""), NATS_PARSER_BAD_SID, 0},
    {T("MSG a -1 0\r\n\r\n"), T(""), NATS_PARSER_BAD_SID, 0},
    {T("MSG a 1_ 0\r\n\r\n"), T(""), NATS_PARSER_BAD_SID, 0},
    {T("MSG a 18446744073709551616 0\r\n\r\n"), T(""), NATS_PARSER_BAD_SID, 0},
    {T("MSG a 18446744073709551617 0\r\n\r\n"), T(""), NATS_PARSER_BAD_SID, 0},
    {T("MSG a 000000000000000000001 0\r\n\r\n"), T(""), NATS_PARSER_BAD_SID, 0},
    {T("HMSG a : 0 0\r\n\r\n"), T(""), NATS_PARSER_BAD_SID, 0},
    /* B11: unknown verbs, empty lines, too few and too many arguments */
    {T("\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T(" PING\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("\0PING\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("PUB a 1\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("XYZ\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("P\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("PIN\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("PINGS\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("PING\r\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("MSGa 1 0\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("-ERROR\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("INFO{}\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("HTTP/1.1 400 Bad Request\r\n"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("\x15\x03\x01\0\x02\x02\x32"), T(""), NATS_PARSER_UNKNOWN_VERB, 0},
    {T("MSG\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("MSG a\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("MSG a 1\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("MSG a 1 r 0 0\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("MSG a 1 r 0 0 0\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("HMSG a 1 0\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("HMSG a 1 r 0 0 0\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("PING x\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("PONG 1\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("+OK fine\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("INFO\r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    {T("INFO \t \r\n"), T(""), NATS_PARSER_BAD_ARGS, 0},
    /* B16: LF alone */
    {T("PING\n"), T(""), NATS_PARSER_BAD_LINE_END, 0},
    {T("INFO {}\n"), T(""), NATS_PARSER_BAD_LINE_END, 0},
    {T("-ERR 'x'\n"), T(""), NATS_PARSER_BAD_LINE_END, 0},
    {T("MSG a 1 0\n\r\n"), T(""), NATS_PARSER_BAD_LINE_END, 0},

    /* What came before is delivered, and the offset is that of the frame and not of the byte. */
    {T("PING\r\nMSG a 1 1\r\nx\r\nMSG a 1 x\r\n"), T("PING\nMSG 1 1:a 0: 0: 1:x\n"),
     NATS_PARSER_BAD_SIZE, 20},
    {T("MSG a 1 2\r\nhi\r\nMSG a 1 3\r\nabc..PING\r\n"), T("MSG 1 1:a 0: 0: 2:hi\n"),
     NATS_PARSER_BAD_PAYLOAD_END, 15},
    {T("INFO {}\r\nPING\r\nPING\r\nPINX\r\nPING\r\n"), T("INFO 2:{}\nPING\nPING\n"),
     NATS_PARSER_UNKNOWN_VERB, 21},
};
/* clang-format on */

enum { VECTORS = sizeof vectors / sizeof *vectors };

/* Every command, in runs and alone, with repeated subjects, offsets of one digit and of two. */
static const char every_op[] =
    "INFO {\"server_id\":\"X\",\"max_payload\":1048576}\r\n"
    "+OK\r\n"
    "PONG\r\n"
    "MSG foo 1 5\r\nhello\r\n"
    "MSG foo 1 5\r\nworld\r\n"
    "MSG foo 1 0\r\n\r\n"
    "MSG foo 2 3\r\n\r\n.\r\n"
    "MSG foo 1 _INBOX.x 11\r\nMSG a 1 0\r\n\r\n"
    "HMSG foo 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"
    "HMSG foo.bar 1 reply 12 12\r\nNATS/1.0\r\n\r\n\r\n"
    "HMSG foo.bar 3 0 2\r\nok\r\n"
    "HMSG foo.bar 3 0 2\r\nok\r\n"
    "PING\r\nPING\r\n"
    "-ERR 'Permissions Violation for Publish to \"x\"'\r\n"
    "msg\tfoo  1 \t2 \r\n\r\n\r\n"
    "MSG foo 1 2\r\nab\r\n"
    "MSG foo 4294967297 2\r\nno\r\n"
    "MSG f 1 1\r\nx\r\n"
    "INFO {}\r\n";

#endif
