/*
 * parser_run: feeds a stream to nats_parser in chunks and writes down as text what comes out.
 *
 * Every chunk and every array of rows is a heap block of exactly its size, so that a sanitizer sees
 * each access outside. Every call checks what must hold whatever the input is; a breach prints its
 * line and aborts. Two runs over the same stream must give the same text, error and offset, however
 * the stream is cut. Used by test_parser.c and fuzz_parser.c; includes nats_parser.c itself in
 * order to make its allocations fail and to count what it scans and copies.
 *
 * The text has a line per frame: "MSG sid subject reply headers payload\n", each but the sid as
 * length:bytes, then "INFO 2:{}\n", "ERR 1:x\n", "PING\n", "PONG\n", "OK\n". The subject of a
 * numbered answer to the inbox, which is subscription INBOX_SID to "in.*", is " #number".
 */
#ifndef PARSER_RUN_H
#define PARSER_RUN_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "harness.h"

static size_t scanned; /* bytes looked at in search of the end of a line */
static size_t copied;  /* bytes copied, those of the rows included */

static const void *counting_memchr(const void *p, int c, size_t n)
{
    const void *found = memchr(p, c, n);
    scanned += found == NULL ? n : (size_t)((const char *)found - (const char *)p) + 1;
    return found;
}

static void *counting_memcpy(void *to, const void *from, size_t n)
{
    copied += n;
    return memcpy(to, from, n);
}

#define NATS_REALLOC failing_realloc
#define memchr counting_memchr
#define memcpy counting_memcpy
#include "nats_parser.c"
#undef memchr
#undef memcpy

enum { INBOX_SID = 77, INBOX_LEN = 3 };

/* One stream on its way through a parser. */
struct run {
    nats_parser p;
    int cap; /* ints per call */
    int32_t *rows;
    uint64_t fed;  /* bytes taken by all calls */
    uint64_t msgs; /* delivered, and their header + payload bytes */
    uint64_t bytes;
    char *text;
    size_t text_len;
    size_t text_cap;
    char *last_subject; /* of the last message row of this call, NULL before the first */
    int32_t last_s0;
    size_t last_len;
    int skips;   /* payloads are received elsewhere as soon as a part has come, as `read` does */
    char *large; /* such a payload, of exactly its size */
    size_t large_len;
    size_t large_size;
};

static void run_open(struct run *r, size_t max_message, int cap)
{
    memset(r, 0, sizeof *r);
    nats_parser_init(&r->p, max_message);
    r->p.inbox_sid = INBOX_SID;
    r->p.inbox_len = INBOX_LEN;
    r->cap = cap;
    r->rows = malloc((size_t)cap * sizeof *r->rows);
    CHECK(r->rows != NULL);
}

static void run_close(struct run *r)
{
    nats_parser_destroy(&r->p);
    free(r->rows);
    free(r->text);
    free(r->large);
}

static void put(struct run *r, const void *data, size_t n)
{
    if (r->text_cap - r->text_len < n) {
        r->text_cap = 2 * (r->text_len + n) + 256;
        r->text = realloc(r->text, r->text_cap);
        CHECK(r->text != NULL);
    }
    if (n != 0)
        memcpy(r->text + r->text_len, data, n);
    r->text_len += n;
}

static void put_word(struct run *r, const char *word)
{
    put(r, word, strlen(word));
}

static void put_number(struct run *r, const char *before, size_t n, const char *after)
{
    char digits[24], *end = digits + sizeof digits, *at = end;
    do {
        *--at = (char)('0' + n % 10);
        n /= 10;
    } while (n != 0);
    put_word(r, before);
    put(r, at, (size_t)(end - at));
    put_word(r, after);
}

static void put_field(struct run *r, const char *base, int32_t begin, int32_t end)
{
    size_t n = (size_t)(end - begin);
    put_number(r, " ", n, ":");
    put(r, base + begin, n);
}

/* Check that two offsets bound a part of the buffer. */
static void check_span(int32_t begin, int32_t end, size_t len)
{
    CHECK(begin >= 0 && begin <= end && (size_t)end <= len);
}

/* Return the number that a message of the inbox answers; 0 for any other message. */
static size_t answered(const char *base, const int32_t *row)
{
    const char *subject = base + row[S0];
    size_t len = (size_t)(row[S1] - row[S0]), i, number = 0;
    if (row[SID] != INBOX_SID || row[R0] != row[R1] || len <= INBOX_LEN || len > INBOX_LEN + 9 ||
        subject[INBOX_LEN] == '0')
        return 0;
    for (i = INBOX_LEN; i < len; i++) {
        if (subject[i] < '0' || subject[i] > '9')
            return 0;
        number = number * 10 + (size_t)(subject[i] - '0');
    }
    return number;
}

/* Write down a message whose fields are those of row. `number` is that of an answer, else 0. */
static void take_message(struct run *r, const char *base, size_t len, const int32_t *row,
                         size_t number)
{
    int elsewhere = r->large != NULL && r->p.frame != NULL;
    check_span(row[R0], row[R1], len);
    check_span(row[H0], row[P0], len);
    if (elsewhere) {
        CHECK(r->large_len == r->large_size && (size_t)(row[P1] - row[P0]) == r->large_size);
        CHECK(len >= 2 && memcmp(base + len - 2, "\r\n", 2) == 0);
    } else {
        check_span(row[P0], row[P1], len);
        CHECK((size_t)row[P1] + 2 <= len && memcmp(base + row[P1], "\r\n", 2) == 0);
    }
    put_number(r, "MSG ", (size_t)row[SID], "");
    if (number != 0)
        put_number(r, " #", number, "");
    else
        put_field(r, base, row[S0], row[S1]);
    put_field(r, base, row[R0], row[R1]);
    put_field(r, base, row[H0], row[P0]);
    if (elsewhere)
        put_field(r, r->large, 0, (int32_t)r->large_size);
    else
        put_field(r, base, row[P0], row[P1]);
    if (elsewhere) {
        free(r->large);
        r->large = NULL;
    }
    put_word(r, "\n");
    r->msgs++;
    r->bytes += (uint64_t)(row[P1] - row[H0]);
}

/* Check that equal subjects in a row have the same offset, and different ones do not. */
static void check_subject(struct run *r, const char *base, const int32_t *row)
{
    size_t len = (size_t)(row[S1] - row[S0]);
    if (r->last_subject != NULL) {
        int same = len == r->last_len && memcmp(r->last_subject, base + row[S0], len) == 0;
        CHECK(same == (row[S0] == r->last_s0));
    }
    r->last_subject = (char *)(uintptr_t)base + row[S0];
    r->last_s0 = row[S0];
    r->last_len = len;
}

/* Write down an answer: a row, or one made from a run's item. The number is in the column R0. */
static void take_answer(struct run *r, const char *base, size_t len, const int32_t *row)
{
    int32_t copy[NATS_ROW_WIDTH];
    memcpy(copy, row, sizeof copy);
    CHECK(row[SID] == INBOX_SID && row[R0] > 0 && row[R0] < 1000000000 && row[R1] == 0);
    copy[R0] = 0;
    take_message(r, base, len, copy, (size_t)row[R0]);
}

/* Write down a run and its items; return how many ints they take. */
static int take_run(struct run *r, const char *base, size_t len, const int32_t *row, int left)
{
    int width = row[KIND] == NATS_ROW_RUN ? 2 : row[KIND] == NATS_ROW_REPLY_RUN ? 4 : 3;
    const int32_t *item = row + NATS_ROW_WIDTH, *end = item + width * row[P1];
    int32_t one[NATS_ROW_WIDTH];

    CHECK(row[S0] < row[S1] && row[R0] == 0 && row[R1] == 0 && row[H0] == 0 && row[P0] == 0);
    CHECK(row[P1] >= 2 && left >= end - row);
    memcpy(one, row, sizeof one);
    for (; item < end; item += width) {
        one[H0] = one[P0] = item[width - 2];
        one[P1] = item[width - 1];
        if (row[KIND] == NATS_ROW_ANSWER_RUN) {
            one[R0] = item[0];
            take_answer(r, base, len, one);
            continue;
        }
        if (row[KIND] == NATS_ROW_REPLY_RUN) {
            CHECK(item[0] < item[1]);
            one[R0] = item[0];
            one[R1] = item[1];
        }
        take_message(r, base, len, one, 0);
    }
    return (int)(end - row);
}

/* Write down one row, with the items of a run; return how many ints they take. */
static int take_row(struct run *r, const char *base, size_t len, const int32_t *row, int left)
{
    static const char *const bare[] = {"PING\n", "PONG\n", "OK\n"};
    int32_t i;
    CHECK(left >= NATS_ROW_WIDTH && row[SID] >= 0);
    check_span(row[S0], row[S1], len);
    switch (row[KIND]) {
    case NATS_ROW_MSG:
        CHECK(row[S0] < row[S1]);
        check_subject(r, base, row);
        /* only a frame that straddled chunks comes as MSG although it has a number */
        CHECK(answered(base, row) == 0 || r->p.frame != NULL);
        take_message(r, base, len, row, answered(base, row));
        return NATS_ROW_WIDTH;
    case NATS_ROW_ANSWER:
        CHECK(row[S0] < row[S1] && row[R1] == 0);
        take_answer(r, base, len, row);
        return NATS_ROW_WIDTH;
    case NATS_ROW_RUN:
    case NATS_ROW_REPLY_RUN:
        check_subject(r, base, row);
        return take_run(r, base, len, row, left);
    case NATS_ROW_ANSWER_RUN:
        return take_run(r, base, len, row, left);
    case NATS_ROW_INFO:
    case NATS_ROW_ERR:
        put_word(r, row[KIND] == NATS_ROW_INFO ? "INFO" : "ERR");
        put_field(r, base, row[S0], row[S1]);
        put_word(r, "\n");
        return NATS_ROW_WIDTH;
    default:
        CHECK(row[KIND] >= NATS_ROW_PING && row[KIND] <= NATS_ROW_OK && row[P1] >= 1);
        for (i = 0; i < row[P1]; i++)
            put_word(r, bare[row[KIND] - NATS_ROW_PING]);
        return NATS_ROW_WIDTH;
    }
}

/* Check what holds after each call. */
static void check_state(const struct run *r, size_t len, int n, int had_error)
{
    const nats_parser *p = &r->p;
    CHECK(n >= 0 && n <= r->cap && p->pos <= len);
    CHECK(p->msgs == r->msgs && p->bytes == r->bytes);
    CHECK(p->tail_len <= p->tail_cap);
    if (p->error != 0) {
        CHECK(p->pos == len && p->error_offset <= r->fed && p->tail_len == 0);
        CHECK(!had_error || n == 0);
    }
    if (p->frame != NULL)
        CHECK(n == NATS_ROW_WIDTH && r->rows[KIND] != NATS_ROW_RUN);
}

/* Receive the next bytes of an unfinished payload elsewhere. Return how many of the n were such. */
static size_t receive_elsewhere(struct run *r, const char *data, size_t n)
{
    size_t left;
    if (r->large == NULL) {
        const char *begin = NULL;
        size_t size = 0, len = nats_parser_unfinished(&r->p, &begin, &size);
        if (len == 0)
            return 0;
        CHECK(len < size && size <= r->p.max_message);
        r->large = malloc(size);
        CHECK(r->large != NULL);
        memcpy(r->large, begin, len);
        r->large_len = len;
        r->large_size = size;
    }
    left = r->large_size - r->large_len;
    if (n > left)
        n = left;
    if (n != 0) {
        memcpy(r->large + r->large_len, data, n);
        r->large_len += n;
        nats_parser_skip(&r->p, n);
        r->fed += n;
    }
    return n;
}

static void feed_chunk(struct run *r, const void *data, size_t len)
{
    char *chunk = malloc(len != 0 ? len : 1);
    size_t pos = 0;
    CHECK(chunk != NULL);
    if (len != 0)
        memcpy(chunk, data, len);
    do {
        int had_error = r->p.error, n, at;
        const char *base = chunk;
        size_t size = len;
        n = nats_parser_feed(&r->p, chunk, pos, len, r->rows, r->cap);
        CHECK(r->p.pos > pos || len == 0);
        r->fed += r->p.pos - pos;
        pos = r->p.pos;
        if (r->p.frame != NULL) {
            base = r->p.frame;
            size = r->p.frame_len;
        }
        r->last_subject = NULL;
        for (at = 0; at < n;)
            at += take_row(r, base, size, r->rows + at, n - at);
        CHECK(at == n);
        check_state(r, len, n, had_error);
    } while (pos < len);
    free(chunk);
}

/* Feed one chunk. */
static void run_feed(struct run *r, const void *data, size_t len)
{
    size_t n = r->skips ? receive_elsewhere(r, data, len) : 0;
    if (len == 0 || n < len)
        feed_chunk(r, (const char *)data + n, len - n);
}

/* Check that two runs over the same stream came to the same end. */
static void check_same(const struct run *a, const struct run *b)
{
    CHECK(a->fed == b->fed);
    CHECK(a->p.error == b->p.error && a->p.error_offset == b->p.error_offset);
    CHECK(a->p.msgs == b->p.msgs && a->p.bytes == b->p.bytes);
    CHECK(a->text_len == b->text_len);
    CHECK(a->text_len == 0 || memcmp(a->text, b->text, a->text_len) == 0);
}

#endif
