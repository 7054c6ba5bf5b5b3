/*
 * Benchmark of the write buffer alone, in nanoseconds per message: framing, and emptying the buffer at the
 * 1 MiB mark as the client does; no sockets. Median, least and most of 9 runs each.
 *
 *   cc -O3 -DNDEBUG -std=c11 -Icsrc bench/bench_wbuf.c csrc/nats_wbuf.c csrc/nats_unsent.c -o bench_wbuf
 *   ./bench_wbuf
 */
#define _POSIX_C_SOURCE 199309L

#include "nats_wbuf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { RUNS = 9, MESSAGES = 1000000 };

static const char subject[] = "bench.subject";
static const char inbox[] = "_INBOX.Vq0bCkHJ6OEmEMKXJ7lhCT.Vq0bCkHJ";
static const char headers[] = "NATS/1.0\r\nTrace: 1234567890\r\n\r\n";
static char payload[65536];

/* Frame one message as a row does; return the code of the call. */
typedef int publish_fn(nats_wbuf *w, size_t size, uint64_t i);

static int direct(nats_wbuf *w, size_t size, uint64_t i)
{
    (void)i;
    return nats_wbuf_publish(w, subject, sizeof subject - 1, NULL, 0, NULL, 0, payload, size, 0);
}

static int with_headers(nats_wbuf *w, size_t size, uint64_t i)
{
    (void)i;
    return nats_wbuf_publish(w, subject, sizeof subject - 1, NULL, 0, headers, sizeof headers - 1,
                             payload, size, 0);
}

static int request(nats_wbuf *w, size_t size, uint64_t i)
{
    return nats_wbuf_publish(w, subject, sizeof subject - 1, inbox, sizeof inbox - 1, NULL, 0,
                             payload, size, i + 1);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const char *what)
{
    fprintf(stderr, "bench_wbuf: %s\n", what);
    exit(1);
}

static nats_wbuf *open_wbuf(void)
{
    nats_wbuf *w = nats_wbuf_new();
    if (w == NULL)
        fail("out of memory");
    nats_wbuf_get_limits(w)->high_water = 1024 * 1024;
    nats_wbuf_get_limits(w)->max_payload = 1024 * 1024;
    nats_wbuf_get_limits(w)->max_pending = 256 * 1024 * 1024;
    return w;
}

/* Make one run. The bytes that each flush leaves unsent make the buffer advance, compact and grow. */
static double run(publish_fn *publish, size_t size, size_t left)
{
    nats_wbuf *w = open_wbuf();
    double start = seconds(), stop;
    uint64_t i;
    for (i = 0; i < MESSAGES; i++) {
        int code = publish(w, size, i);
        if (code < 0)
            fail(nats_wbuf_strerror(code));
        if (code & NATS_WBUF_HIGH) {
            nats_wbuf_sent(w, nats_wbuf_len(w) > left ? nats_wbuf_len(w) - left : 0);
        }
    }
    if (nats_wbuf_get_counts(w)->accepted != MESSAGES)
        fail("a message was lost");
    stop = seconds();
    nats_wbuf_free(w);
    return (stop - start) * 1e9 / MESSAGES;
}

/* Take back 100,000 messages, half of their bytes sent; return the time per message. */
static double run_take_back(publish_fn *publish, size_t size, size_t left)
{
    nats_wbuf *w = open_wbuf();
    uint64_t i;
    double start, stop;
    (void)left;
    for (i = 0; i < 100000; i++)
        if (publish(w, size, i) < 0)
            fail("a message was refused");
    nats_wbuf_sent(w, nats_wbuf_len(w) / 2);
    start = seconds();
    nats_wbuf_take_back(w);
    stop = seconds();
    nats_wbuf_free(w);
    return (stop - start) * 1e9 / 100000;
}

/* Remove every second one of 100,000 requests; return the time per request. */
static double run_remove(publish_fn *publish, size_t size, size_t left)
{
    static uint64_t tags[50000];
    nats_wbuf *w = open_wbuf();
    uint64_t i;
    double start, stop;
    (void)left;
    for (i = 0; i < 100000; i++) {
        publish(w, size, i);
        tags[i / 2] = i | 1;
    }
    start = seconds();
    if (nats_wbuf_remove(w, tags, 50000) != 50000)
        fail("not all were removed");
    stop = seconds();
    nats_wbuf_free(w);
    return (stop - start) * 1e9 / 100000;
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void row(const char *name, double (*measure)(publish_fn *, size_t, size_t),
                publish_fn *publish, size_t size, size_t left)
{
    double ns[RUNS];
    int i;
    for (i = 0; i < RUNS; i++)
        ns[i] = measure(publish, size, left);
    qsort(ns, RUNS, sizeof *ns, compare);
    printf("%-40s %6zu B %8.1f ns  (%.1f to %.1f)\n", name, size, ns[RUNS / 2], ns[0],
           ns[RUNS - 1]);
}

int main(void)
{
    memset(payload, 'x', sizeof payload);
    row("publish", run, direct, 8, 0);
    row("publish", run, direct, 100, 0);
    row("publish", run, direct, 1000, 0);
    row("publish, 64 KiB always unsent", run, direct, 100, 65536);
    row("publish, headers", run, with_headers, 100, 0);
    row("publish, reply and tag", run, request, 100, 0);
    row("take back, half of them sent", run_take_back, direct, 100, 0);
    row("remove every second request", run_remove, request, 100, 0);
    return 0;
}
