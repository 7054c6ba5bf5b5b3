/*
 * What the C core does, without Python: it parses what a server has sent, and frames what a client
 * sends. This file is C11 and C++17.
 *
 *   frames < capture                       print the frames of a server's bytes, one a line
 *   frames capture                         the same of a file
 *   frames publish SUBJECT PAYLOAD         write a PUB
 *   frames publish SUBJECT PAYLOAD K=V…    write an HPUB with these headers
 *
 * With the core installed (make install-core PREFIX=/usr/local):
 *
 *   cc frames.c $(pkg-config --cflags --libs nats-ev-core) -o frames
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nats_parser.h"
#include "nats_wbuf.h"

enum { ROWS = 4096, CHUNK = 64 * 1024 };

/* ---- a capture's frames ---- */

static void print_text(const char *name, const char *text, int32_t begin, int32_t end)
{
    printf(" %s \"", name);
    for (; begin < end; begin++) {
        int c = (unsigned char)text[begin];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (isprint(c))
            putchar(c);
        else
            printf("\\x%02x", (unsigned)c);
    }
    putchar('"');
}

/* Print a message. Its reply is empty if it has none, and so are its headers. */
static void print_message(const char *base, const int32_t *row, int32_t r0, int32_t r1, int32_t h0,
                          int32_t p0, int32_t p1)
{
    printf("%s sid %d", h0 < p0 ? "HMSG" : "MSG", row[1]);
    print_text("subject", base, row[2], row[3]);
    if (r0 < r1)
        print_text("reply", base, r0, r1);
    if (h0 < p0)
        print_text("headers", base, h0, p0);
    print_text("payload", base, p0, p1);
    putchar('\n');
}

/* Print one row and the items that follow it, and return how many ints these were. */
static int print_row(const char *base, const int32_t *row)
{
    const int32_t *item = row + NATS_ROW_WIDTH;
    int32_t left;
    switch (row[0]) {
    case NATS_ROW_MSG:
        print_message(base, row, row[4], row[5], row[6], row[7], row[8]);
        break;
    case NATS_ROW_RUN: /* messages of one subject: the rest of each */
        for (left = row[8]; left > 0; left--, item += 2)
            print_message(base, row, 0, 0, item[0], item[0], item[1]);
        break;
    case NATS_ROW_REPLY_RUN:
        for (left = row[8]; left > 0; left--, item += 4)
            print_message(base, row, item[0], item[1], item[2], item[2], item[3]);
        break;
    case NATS_ROW_INFO:
    case NATS_ROW_ERR:
        fputs(row[0] == NATS_ROW_INFO ? "INFO" : "-ERR", stdout);
        print_text("text", base, row[2], row[3]);
        putchar('\n');
        break;
    default: /* ANSWER rows come only with an inbox_sid, which this program does not set */
        for (left = row[8]; left > 0; left--)
            puts(row[0] == NATS_ROW_PING ? "PING" : row[0] == NATS_ROW_PONG ? "PONG" : "+OK");
    }
    return (int)(item - row);
}

/* Feed one chunk to its end, or to the parser's error. */
static void parse_chunk(nats_parser *parser, const char *chunk, size_t len)
{
    int32_t rows[ROWS];
    size_t pos = 0;
    while (pos < len && parser->error == 0) {
        int used = nats_parser_feed(parser, chunk, pos, len, rows, ROWS), at = 0;
        const char *base = parser->frame != NULL ? parser->frame : chunk;
        while (at < used)
            at += print_row(base, rows + at);
        pos = parser->pos;
    }
}

static int parse(FILE *capture)
{
    static char chunk[CHUNK];
    nats_parser parser;
    size_t len;
    int failed;
    nats_parser_init(&parser, 0);
    while (parser.error == 0 && (len = fread(chunk, 1, sizeof chunk, capture)) > 0)
        parse_chunk(&parser, chunk, len);
    failed = parser.error != 0 || ferror(capture);
    if (parser.error != 0) {
        printf("error at byte %llu: %s", (unsigned long long)parser.error_offset,
               nats_parser_strerror(parser.error));
        print_text("in", parser.snippet, 0, (int32_t)parser.snippet_len);
        putchar('\n');
    }
    printf("%llu messages, %llu bytes\n", (unsigned long long)parser.msgs,
           (unsigned long long)parser.bytes);
    nats_parser_destroy(&parser);
    return failed;
}

/* ---- a client's frame ---- */

/* Return a header block of the arguments KEY=VALUE, empty for no arguments; the caller frees it. */
static char *header_block(int n, char **pairs)
{
    size_t size = sizeof "NATS/1.0\r\n\r\n";
    char *block, *p;
    int i;
    for (i = 0; i < n; i++)
        size += strlen(pairs[i]) + sizeof ": \r\n";
    block = (char *)calloc(size, 1);
    if (block == NULL || n == 0)
        return block;
    p = block + sprintf(block, "NATS/1.0\r\n");
    for (i = 0; i < n; i++) {
        size_t key = strcspn(pairs[i], "=");
        const char *value = pairs[i] + key + (pairs[i][key] == '=');
        p += sprintf(p, "%.*s: %s\r\n", (int)key, pairs[i], value);
    }
    strcpy(p, "\r\n");
    return block;
}

static int publish(const char *subject, const char *payload, int n, char **pairs)
{
    nats_wbuf *wbuf = nats_wbuf_new();
    char *headers = header_block(n, pairs);
    int code = NATS_WBUF_NO_MEMORY;
    if (wbuf != NULL && headers != NULL)
        code = nats_wbuf_publish(wbuf, subject, strlen(subject), NULL, 0, headers, strlen(headers),
                                 payload, strlen(payload), 0);
    if (code < 0)
        fprintf(stderr, "not framed: %s\n", nats_wbuf_strerror(code));
    else /* a client gives these bytes to its socket, and reports what the kernel took */
        nats_wbuf_sent(wbuf, fwrite(nats_wbuf_data(wbuf), 1, nats_wbuf_len(wbuf), stdout));
    free(headers);
    nats_wbuf_free(wbuf);
    return code < 0;
}

int main(int argc, char **argv)
{
    FILE *capture = stdin;
    int failed;
    if (argc >= 4 && strcmp(argv[1], "publish") == 0)
        return publish(argv[2], argv[3], argc - 4, argv + 4);
    if (argc > 2) {
        fputs("usage: frames [FILE] | frames publish SUBJECT PAYLOAD [KEY=VALUE…]\n", stderr);
        return 2;
    }
    if (argc == 2 && (capture = fopen(argv[1], "rb")) == NULL) {
        perror(argv[1]);
        return 1;
    }
    failed = parse(capture);
    if (capture != stdin)
        fclose(capture);
    return failed;
}
