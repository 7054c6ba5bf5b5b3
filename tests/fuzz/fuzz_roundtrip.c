/*
 * Whatever a caller passes as subject, reply, headers and payload: the write buffer refuses the
 * message and queues nothing, or it queues one frame from which the parser gets exactly these
 * fields back.
 *
 * Input: four bytes, the lengths of subject, reply and headers and whether the headers get a proper
 * beginning and end, then their bytes; the rest is the payload. How to run it: README.md.
 */
#include "parser_run.h"
#include "nats_wbuf.h"
#include "replay.h"

struct field {
    char *p;
    size_t n;
};

static struct field take(const uint8_t **data, size_t *left, size_t n)
{
    struct field f;
    f.n = n < *left ? n : *left;
    f.p = malloc(f.n != 0 ? f.n : 1);
    CHECK(f.p != NULL);
    if (f.n != 0)
        memcpy(f.p, *data, f.n);
    *data += f.n;
    *left -= f.n;
    return f;
}

/* Return the field between NATS/1.0 CRLF and CRLF CRLF. */
static struct field framed(struct field f)
{
    struct field g;
    g.n = f.n + 14;
    g.p = malloc(g.n);
    CHECK(g.p != NULL);
    memcpy(g.p, "NATS/1.0\r\n", 10);
    if (f.n != 0)
        memcpy(g.p + 10, f.p, f.n);
    memcpy(g.p + 10 + f.n, "\r\n\r\n", 4);
    free(f.p);
    return g;
}

/* Return what a server delivers to subscription 7 for a PUB or HPUB frame. */
static struct field delivered(const char *frame, size_t len, size_t subject_len)
{
    size_t verb = frame[0] == 'H' ? 4 : 3, before = verb + 1 + subject_len;
    struct field f;
    CHECK(len > before);
    f.n = len + 2;
    f.p = malloc(f.n);
    CHECK(f.p != NULL);
    memcpy(f.p, frame, before);
    memcpy(f.p, verb == 4 ? "HMSG" : "MSG", verb);
    memcpy(f.p + before, " 7", 2);
    memcpy(f.p + before + 2, frame + before, len - before);
    return f;
}

/* Parse the bytes at once, and check that two pieces give the same. */
static void parse(struct run *r, struct field f)
{
    struct run pieces;
    run_open(r, 0, 64);
    run_feed(r, f.p, f.n);
    CHECK(r->p.error == 0 && r->p.tail_len == 0);
    run_open(&pieces, 0, 64);
    run_feed(&pieces, f.p, f.n / 2);
    run_feed(&pieces, f.p + f.n / 2, f.n - f.n / 2);
    check_same(r, &pieces);
    run_close(&pieces);
}

static void put_expected(struct run *r, struct field f)
{
    put_number(r, " ", f.n, ":");
    put(r, f.p, f.n);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct field subject, reply, headers;
    struct run r, expected;
    const uint8_t *head = data;
    size_t left = size - 4;
    nats_wbuf *w;
    int code;
    if (size < 4)
        return 0;
    data += 4;
    subject = take(&data, &left, head[0]);
    reply = take(&data, &left, head[1]);
    headers = take(&data, &left, head[2]);
    if (head[3] % 2)
        headers = framed(headers);
    w = nats_wbuf_new();
    CHECK(w != NULL);
    code = nats_wbuf_publish(w, subject.p, subject.n, reply.p, reply.n, headers.p, headers.n, data,
                             left, 0);
    if (code < 0) {
        CHECK(nats_wbuf_len(w) == 0);
    } else {
        struct field frame = delivered(nats_wbuf_data(w), nats_wbuf_len(w), subject.n);
        parse(&r, frame);
        free(frame.p);
        run_open(&expected, 0, 64);
        put_word(&expected, "MSG 7");
        put_expected(&expected, subject);
        put_expected(&expected, reply);
        put_expected(&expected, headers);
        put_number(&expected, " ", left, ":");
        put(&expected, data, left);
        put_word(&expected, "\n");
        CHECK(r.text_len == expected.text_len);
        CHECK(memcmp(r.text, expected.text, r.text_len) == 0);
        run_close(&expected);
        run_close(&r);
    }
    nats_wbuf_free(w);
    free(subject.p);
    free(reply.p);
    free(headers.p);
    return 0;
}
