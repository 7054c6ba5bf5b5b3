/*
 * Benchmark of the parser alone, in nanoseconds per frame: a stream of frames in reads of 64 KiB. The rows
 * go to an array as large as the module's and are not used. Median, least and most of 9 runs each.
 *
 *   cc -O3 -DNDEBUG -std=c11 -Icsrc bench/bench_parser.c csrc/nats_parser.c -o bench_parser && ./bench_parser
 */
#define _POSIX_C_SOURCE 199309L

#include "nats_parser.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 9, BYTES = 64 * 1024 * 1024, READ = 64 * 1024, CAP = 8192 };

/* Write the i-th frame of a stream; return its length. */
typedef size_t frame_fn(char *to, size_t size, unsigned i);

static size_t body(char *to, int line, size_t size)
{
    memset(to + line, 'x', size);
    memcpy(to + (size_t)line + size, "\r\n", 2);
    return (size_t)line + size + 2;
}

static size_t same(char *to, size_t size, unsigned i)
{
    (void)i;
    return body(to, sprintf(to, "MSG bench.subject 1 %zu\r\n", size), size);
}

static size_t subjects(char *to, size_t size, unsigned i)
{
    return body(to, sprintf(to, "MSG bench.subject.%u 1 %zu\r\n", i % 1000, size), size);
}

static size_t requests(char *to, size_t size, unsigned i)
{
    int line = sprintf(to, "MSG bench.subject 1 _INBOX.Vq0bCkHJ6OEmEMKXJ7lhCT.%u %zu\r\n", i, size);
    return body(to, line, size);
}

static size_t answers(char *to, size_t size, unsigned i)
{
    return body(to, sprintf(to, "MSG _INBOX.Vq0bCkHJ6OEmEMKXJ7lhCT.%u 1 %zu\r\n", i, size), size);
}

static size_t headers(char *to, size_t size, unsigned i)
{
    int line = sprintf(to, "HMSG bench.subject 1 31 %zu\r\nNATS/1.0\r\nTrace: %010u\r\n\r\n",
                       31 + size, i);
    return body(to, line, size);
}

static size_t pings(char *to, size_t size, unsigned i)
{
    (void)size;
    (void)i;
    return (size_t)sprintf(to, "PING\r\n");
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Feed the whole stream, read by read; return how many ints of rows the parser has written. */
static unsigned long feed_all(nats_parser *p, const char *stream, size_t len, size_t read)
{
    static int32_t rows[CAP];
    unsigned long ints = 0;
    size_t at;
    for (at = 0; at < len; at += read) {
        size_t n = len - at < read ? len - at : read, pos = 0;
        while (pos < n) {
            ints += (unsigned long)nats_parser_feed(p, stream + at, pos, n, rows, CAP);
            pos = p->pos;
        }
    }
    return ints;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void row(const char *name, frame_fn *frame, size_t size, size_t read)
{
    char *stream = malloc(BYTES + 2 * size + 4096);
    double ns[RUNS];
    size_t len = 0;
    unsigned frames = 0;
    int i;
    if (stream == NULL) {
        fprintf(stderr, "bench_parser: out of memory\n");
        exit(1);
    }
    while (len < (frame == pings ? BYTES / 8 : BYTES))
        len += frame(stream + len, size, frames++);
    for (i = 0; i < RUNS; i++) {
        nats_parser p;
        double start = seconds();
        nats_parser_init(&p, 0);
        feed_all(&p, stream, len, read);
        ns[i] = (seconds() - start) * 1e9 / frames;
        if (p.error != 0 || (frame != pings && p.msgs != frames)) {
            fprintf(stderr, "bench_parser: %s\n", nats_parser_strerror(p.error));
            exit(1);
        }
        nats_parser_destroy(&p);
    }
    qsort(ns, RUNS, sizeof *ns, compare);
    printf("%-32s %6zu B, reads of %6zu %8.1f ns  (%.1f to %.1f)\n", name, size, read, ns[RUNS / 2],
           ns[0], ns[RUNS - 1]);
    free(stream);
}

int main(void)
{
    row("same subject (runs)", same, 8, READ);
    row("same subject (runs)", same, 100, READ);
    row("same subject (runs)", same, 1000, READ);
    row("same subject (runs)", same, 100, 1460);
    row("a thousand subjects", subjects, 100, READ);
    row("with a reply subject", requests, 100, READ);
    row("answers, each with its own subject", answers, 100, READ);
    row("with headers", headers, 100, READ);
    row("messages larger than a read", same, 1000000, READ);
    row("PING", pings, 0, READ);
    return 0;
}
