/*
 * Does what the C core does for each message, operation by operation, for a count of its instructions:
 *
 *   valgrind --tool=callgrind --collect-atstart=no --toggle-collect=measured --dump-before=part ./hot_ops
 *
 * `part` is called after each operation, whose name the program prints. See tests/lab/hot_path.py.
 */
#include "nats_parser.h"
#include "nats_wbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMES = 1000, CAP = 8192, SIZE = 100, STREAM = 1024 * 1024 };

static const char subject[] = "bench.subject";
static const char inbox[] = "_INBOX.Vq0bCkHJ6OEmEMKXJ7lhCT.";
static const char headers[] = "NATS/1.0\r\nTrace: 1234567890\r\n\r\n";
static char payload[SIZE], stream[STREAM];
static int32_t rows[CAP];
static size_t stream_len;
static int failed;

enum { OUT = 4 };
/* The first OUT ones frame, the others parse. */
static const char *const names[] = {"frame",
                                    "frame with reply",
                                    "frame with headers",
                                    "frame request",
                                    "parse run",
                                    "parse other subjects",
                                    "parse with reply",
                                    "parse answers",
                                    "parse with headers"};

__attribute__((noinline)) void part(const char *name);
__attribute__((noinline)) void measured(int op, nats_wbuf *wbuf, nats_parser *parser);

void part(const char *name)
{
    puts(name);
}

static void frame(int op, nats_wbuf *w)
{
    const char *reply = op == 1 ? inbox : NULL, *block = op == 2 ? headers : NULL;
    uint64_t i;
    for (i = 0; i < TIMES; i++)
        if ((op == 3
                 ? nats_wbuf_request(w, subject, sizeof subject - 1, NULL, 0, payload, SIZE, i + 1)
                 : nats_wbuf_publish(w, subject, sizeof subject - 1, reply,
                                     reply == NULL ? 0 : sizeof inbox - 2, block,
                                     block == NULL ? 0 : sizeof headers - 1, payload, SIZE, 0)) < 0)
            failed = 1;
}

void measured(int op, nats_wbuf *wbuf, nats_parser *parser)
{
    if (op < OUT) {
        frame(op, wbuf);
        return;
    }
    while (parser->pos < stream_len)
        if (nats_parser_feed(parser, stream, parser->pos, stream_len, rows, CAP) == 0)
            break;
}

static void fill_stream(int op)
{
    int i;
    stream_len = 0;
    for (i = 0; i < TIMES; i++) {
        char *to = stream + stream_len;
        int n = op == OUT       ? sprintf(to, "MSG %s 1 %d\r\n", subject, SIZE)
                : op == OUT + 1 ? sprintf(to, "MSG %s.%d 1 %d\r\n", subject, i, SIZE)
                : op == OUT + 2 ? sprintf(to, "MSG %s 1 %s%d %d\r\n", subject, inbox, i, SIZE)
                : op == OUT + 3
                    ? sprintf(to, "MSG %s%d 1 %d\r\n", inbox, i, SIZE)
                    : sprintf(to, "HMSG %s 1 %d %d\r\n%s", subject, (int)sizeof headers - 1,
                              (int)sizeof headers - 1 + SIZE, headers);
        stream_len += (size_t)n;
        memcpy(stream + stream_len, payload, SIZE);
        memcpy(stream + stream_len + SIZE, "\r\n", 2);
        stream_len += SIZE + 2;
    }
}

int main(void)
{
    int op;
    memset(payload, 'x', sizeof payload);
    for (op = 0; op < (int)(sizeof names / sizeof *names); op++) {
        nats_wbuf *w = nats_wbuf_new();
        nats_parser parser;
        if (w == NULL || nats_wbuf_set_inbox(w, inbox, sizeof inbox - 1) < 0)
            return 1;
        nats_wbuf_get_limits(w)->max_payload = STREAM;
        nats_wbuf_get_limits(w)->max_pending = STREAM;
        nats_parser_init(&parser, 0);
        if (op == OUT + 3) {
            parser.inbox_sid = 1;
            parser.inbox_len = (int)sizeof inbox - 1;
        }
        if (op >= OUT)
            fill_stream(op);
        measured(op, w, &parser);
        if (failed || parser.error != 0 || (op >= OUT && parser.msgs != TIMES))
            return 1;
        part(names[op]);
        nats_parser_destroy(&parser);
        nats_wbuf_free(w);
    }
    return 0;
}
