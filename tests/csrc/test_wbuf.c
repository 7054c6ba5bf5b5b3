/*
 * Tests of nats_wbuf: exact bytes of every verb, every error, every bound at its limit and one
 * above, allocation failures at every point, and removal at every position, against a model
 * (wbuf_model.h).
 *
 * Prints what it ran; a failed check prints its line and aborts. Meant for ASan and UBSan.
 */
#include "wbuf_model.h"

enum verb { PUBLISH, PUB, SUB, UNSUB, PING, PONG, CONNECT };

struct span {
    const char *p;
    size_t n;
};

#define T(literal) {literal, sizeof(literal) - 1}
#define NONE {NULL, 0}

/* One call with its arguments. `reply` is also the queue group of SUB, `payload` the JSON of
   CONNECT. */
struct call {
    enum verb verb;
    struct span subject;
    struct span reply;
    struct span headers;
    struct span payload;
    uint64_t sid;
    uint64_t max_msgs;
    int code; /* NATS_WBUF_FIRST when it appends to an empty buffer */
    struct span bytes;
};

#define HDR "NATS/1.0\r\n\r\n"

static const struct call vectors[] = {
    {PUBLISH, T("a"), NONE, NONE, NONE, 0, 0, 1, T("PUB a 0\r\n\r\n")},
    {PUBLISH, T("foo.bar"), NONE, NONE, T("hello"), 0, 0, 1, T("PUB foo.bar 5\r\nhello\r\n")},
    {PUBLISH, T("a"), T("r.1"), NONE, T("0123456789"), 0, 0, 1,
     T("PUB a r.1 10\r\n0123456789\r\n")},
    {PUBLISH, T("a"), NONE, NONE, T("\r\n\0\xff PUB x 1\r\n"), 0, 0, 1,
     T("PUB a 14\r\n\r\n\0\xff PUB x 1\r\n\r\n")},
    {PUBLISH, T("a"), NONE, T(HDR), NONE, 0, 0, 1, T("HPUB a 12 12\r\n" HDR "\r\n")},
    {PUBLISH, T("a"), T("r"), T(HDR), T("xyz"), 0, 0, 1, T("HPUB a r 12 15\r\n" HDR "xyz\r\n")},
    {PUBLISH, T("a"), NONE, T("NATS/1.0 503\r\n\r\n"), NONE, 0, 0, 1,
     T("HPUB a 16 16\r\nNATS/1.0 503\r\n\r\n\r\n")},
    {PUBLISH, T("a"), NONE, T("NATS/1.0\r\nK: v\r\n\r\n"), T("p"), 0, 0, 1,
     T("HPUB a 18 19\r\nNATS/1.0\r\nK: v\r\n\r\np\r\n")},
    {PUBLISH, T("\xc3\xa9\x80\xff!~"), NONE, NONE, NONE, 0, 0, 1,
     T("PUB \xc3\xa9\x80\xff!~ 0\r\n\r\n")},
    {PUB, T("foo"), NONE, NONE, NONE, 0, 0, 1, T("PUB foo 0\r\n\r\n")},
    {PUB, T("foo"), NONE, NONE, T("123456789"), 0, 0, 1, T("PUB foo 9\r\n123456789\r\n")},
    {PUB, T("foo"), NONE, NONE, T("1234567890"), 0, 0, 1, T("PUB foo 10\r\n1234567890\r\n")},
    {SUB, T("foo.*"), NONE, NONE, NONE, 1, 0, 1, T("SUB foo.* 1\r\n")},
    {SUB, T("foo.>"), T("workers"), NONE, NONE, UINT64_MAX, 0, 1,
     T("SUB foo.> workers 18446744073709551615\r\n")},
    {UNSUB, NONE, NONE, NONE, NONE, 7, 0, 1, T("UNSUB 7\r\n")},
    {UNSUB, NONE, NONE, NONE, NONE, UINT64_MAX, UINT64_MAX, 1,
     T("UNSUB 18446744073709551615 18446744073709551615\r\n")},
    {PING, NONE, NONE, NONE, NONE, 0, 0, 1, T("PING\r\n")},
    {PONG, NONE, NONE, NONE, NONE, 0, 0, 1, T("PONG\r\n")},
    {CONNECT, NONE, NONE, NONE, T("{\"verbose\":false}"), 0, 0, 1,
     T("CONNECT {\"verbose\":false}\r\n")},
    {CONNECT, NONE, NONE, NONE, T("{\r\n\"a\":1\n}"), 0, 0, 1, T("CONNECT {  \"a\":1 }\r\n")},

    {PUBLISH, NONE, NONE, NONE, T("x"), 0, 0, NATS_WBUF_BAD_SUBJECT, NONE},
    {PUBLISH, T("a b"), NONE, NONE, T("x"), 0, 0, NATS_WBUF_BAD_SUBJECT, NONE},
    {PUBLISH, T("a\r\nPING\r\n"), NONE, NONE, T("x"), 0, 0, NATS_WBUF_BAD_SUBJECT, NONE},
    {PUBLISH, T("a"), T("r r"), NONE, T("x"), 0, 0, NATS_WBUF_BAD_REPLY, NONE},
    {PUBLISH, T("a"), T("r\n"), NONE, T("x"), 0, 0, NATS_WBUF_BAD_REPLY, NONE},
    {PUBLISH, T("a"), NONE, T("NATS/1.0"), NONE, 0, 0, NATS_WBUF_BAD_HEADERS, NONE},
    {PUBLISH, T("a"), NONE, T("NATS/1.0\r\n"), NONE, 0, 0, NATS_WBUF_BAD_HEADERS, NONE},
    {PUBLISH, T("a"), NONE, T("NATS/1.0\n\r\n"), NONE, 0, 0, NATS_WBUF_BAD_HEADERS, NONE},
    {PUBLISH, T("a"), NONE, T("NATS/1.0X\r\n\r\n"), NONE, 0, 0, NATS_WBUF_BAD_HEADERS, NONE},
    {PUBLISH, T("a"), NONE, T("NATS/1.1\r\n\r\n"), NONE, 0, 0, NATS_WBUF_BAD_HEADERS, NONE},
    {PUBLISH, T("a"), NONE, T("nats/1.0\r\n\r\n"), NONE, 0, 0, NATS_WBUF_BAD_HEADERS, NONE},
    {PUBLISH, T("a"), NONE, T("NATS/1.0\r\nK: v\r\n"), NONE, 0, 0, NATS_WBUF_BAD_HEADERS, NONE},
    {PUBLISH, T("a"), NONE, T("NATS/1.0\r\nK: v\n\r\n"), NONE, 0, 0, NATS_WBUF_BAD_HEADERS, NONE},
    {PUBLISH, T("a"), NONE, T("\r\n\r\n"), NONE, 0, 0, NATS_WBUF_BAD_HEADERS, NONE},
    {PUBLISH, T("a"), NONE, T("x"), NONE, 0, 0, NATS_WBUF_BAD_HEADERS, NONE},
    {SUB, NONE, NONE, NONE, NONE, 1, 0, NATS_WBUF_BAD_SUBJECT, NONE},
    {SUB, T("a\t"), NONE, NONE, NONE, 1, 0, NATS_WBUF_BAD_SUBJECT, NONE},
    {SUB, T("a"), T("q q"), NONE, NONE, 1, 0, NATS_WBUF_BAD_QUEUE, NONE},
    {SUB, T("a"), T("\x7f"), NONE, NONE, 1, 0, NATS_WBUF_BAD_QUEUE, NONE},
};

static struct text exact(struct span s)
{
    return text_of(s.p, s.n);
}

/* Make the call through the model. */
static int make(struct model *m, const struct call *c)
{
    struct text subject = exact(c->subject), reply = exact(c->reply);
    struct text headers = exact(c->headers), payload = exact(c->payload);
    static const struct text none = {NULL, 0};
    int code = 0;
    /* clang-format off */
    switch (c->verb) {
    case PUBLISH: code = model_publish(m, subject, reply, headers, payload, 0); break;
    case PUB: code = model_publish(m, subject, none, none, payload, 0); break;
    case SUB: code = model_sub(m, subject, reply, c->sid); break;
    case UNSUB: code = model_unsub(m, c->sid, c->max_msgs); break;
    case PING: code = model_ping(m, 0); break;
    case PONG: code = model_ping(m, 1); break;
    default: code = model_connect(m, payload); break;
    }
    /* clang-format on */
    free(subject.p);
    free(reply.p);
    free(headers.p);
    free(payload.p);
    return code;
}

static size_t vectors_len(void)
{
    return sizeof vectors / sizeof *vectors;
}

static void every_verb_frames_exactly_these_bytes(void)
{
    size_t i;
    for (i = 0; i < vectors_len(); i++) {
        const struct call *c = &vectors[i];
        struct model m;
        model_open(&m);
        CHECK(make(&m, c) == c->code);
        CHECK(nats_wbuf_len(m.w) == c->bytes.n);
        CHECK(c->bytes.n == 0 || memcmp(nats_wbuf_data(m.w), c->bytes.p, c->bytes.n) == 0);
        model_close(&m);
    }
}

static void a_failed_call_changes_nothing(void)
{
    size_t i;
    struct model m;
    model_open(&m);
    model_ping(&m, 0);
    make(&m, &vectors[2]);
    model_sent(&m, 3);
    for (i = 0; i < vectors_len(); i++) {
        nats_wbuf_counts before = *nats_wbuf_get_counts(m.w);
        nats_wbuf_limits limits = *m.limits;
        if (vectors[i].code > 0)
            continue;
        CHECK(make(&m, &vectors[i]) == vectors[i].code);
        CHECK(memcmp(&before, nats_wbuf_get_counts(m.w), sizeof before) == 0);
        CHECK(memcmp(&limits, m.limits, sizeof limits) == 0);
        model_compare_counts(&m);
    }
    model_close(&m);
}

/* All 256 bytes, first, in the middle and last, in all three kinds of names. */
static void names_take_all_bytes_but_blanks_and_controls(void)
{
    struct model m;
    unsigned byte, at;
    model_open(&m);
    for (byte = 0; byte < 256; byte++) {
        for (at = 0; at < 40; at += 13) {
            int good = byte > 0x20 && byte != 0x7f;
            char name[40];
            struct text t, a = text_of("a", 1), none = text_of("", 0);
            memset(name, 'n', sizeof name);
            name[at] = (char)byte;
            t = text_of(name, sizeof name);
            CHECK((model_publish(&m, t, none, none, a, 0) >= 0) == good);
            CHECK((model_publish(&m, a, t, none, a, 0) >= 0) == good);
            CHECK((model_sub(&m, t, none, 1) >= 0) == good);
            CHECK((model_sub(&m, a, t, 1) >= 0) == good);
            CHECK((model_request(&m, t, none, a, m.last_tag + 1) >= 0) == good);
            free(t.p);
            free(a.p);
            free(none.p);
        }
        model_sent(&m, nats_wbuf_len(m.w));
    }
    model_close(&m);
}

/* Length of the control line of a frame, CRLF excluded. */
static size_t line_of(struct span bytes)
{
    const char *end = memchr(bytes.p, '\r', bytes.n);
    return end == NULL ? 0 : (size_t)(end - bytes.p);
}

static void the_control_line_fits_at_its_limit_and_not_one_above(void)
{
    size_t i;
    for (i = 0; i < vectors_len(); i++) {
        const struct call *c = &vectors[i];
        int bounded = c->verb != PING && c->verb != PONG && c->verb != CONNECT;
        struct model m;
        if (c->code < 0)
            continue;
        model_open(&m);
        CHECK(m.limits->max_control_line == 4096);
        m.limits->max_control_line = line_of(c->bytes);
        CHECK(make(&m, c) == NATS_WBUF_FIRST);
        m.limits->max_control_line--;
        CHECK(make(&m, c) == (bounded ? NATS_WBUF_LINE_TOO_LONG : 0));
        m.limits->max_control_line = 0;
        CHECK(make(&m, c) == 0);
        model_close(&m);
    }
}

static void content_fits_at_max_payload_and_not_one_above(void)
{
    size_t i;
    for (i = 0; i < vectors_len(); i++) {
        const struct call *c = &vectors[i];
        size_t content = c->headers.n + c->payload.n;
        struct model m;
        if (c->code < 0 || (c->verb != PUBLISH && c->verb != PUB) || content < 2)
            continue;
        model_open(&m);
        m.limits->max_payload = content;
        CHECK(make(&m, c) == NATS_WBUF_FIRST);
        m.limits->max_payload = content - 1;
        CHECK(make(&m, c) == NATS_WBUF_PAYLOAD_TOO_LONG);
        model_close(&m);
    }
}

/* With nothing unsent, with whole frames unsent, and with part of a frame unsent. */
static void messages_fit_up_to_max_pending_and_control_frames_always(void)
{
    size_t i;
    for (i = 0; i < vectors_len(); i++) {
        const struct call *c = &vectors[i];
        int is_message = c->verb == PUBLISH || c->verb == PUB;
        struct model m;
        if (c->code < 0)
            continue;
        model_open(&m);
        m.limits->max_pending = c->bytes.n;
        CHECK(make(&m, c) == NATS_WBUF_FIRST);
        CHECK(make(&m, c) == (is_message ? NATS_WBUF_FULL : 0));
        m.limits->max_pending = nats_wbuf_len(m.w) + c->bytes.n;
        CHECK(make(&m, c) == 0);
        model_sent(&m, 3);
        m.limits->max_pending = nats_wbuf_len(m.w) + c->bytes.n - 1;
        CHECK(make(&m, c) == (is_message ? NATS_WBUF_FULL : 0));
        m.limits->max_pending = nats_wbuf_len(m.w) + c->bytes.n;
        CHECK(make(&m, c) == 0);
        model_sent(&m, nats_wbuf_len(m.w));
        m.limits->max_pending = c->bytes.n - 1;
        CHECK(make(&m, c) == (is_message ? NATS_WBUF_FULL : NATS_WBUF_FIRST));
        model_close(&m);
    }
}

/* Everything is wrong at once. Each error reported is repaired, until the call succeeds. */
static void errors_are_reported_in_a_fixed_order(void)
{
    struct call c = {PUBLISH, T("a b"), T("r\n"), T("x"), T("payload"), 0, 0, 0, NONE};
    struct span subject = T("a"), reply = T("r"), headers = T(HDR);
    struct model m;
    model_open(&m);
    m.limits->closed = 1;
    m.limits->max_control_line = 13;
    m.limits->max_payload = 18;
    m.limits->max_pending = 36;
    fail_allocation = 0;
    CHECK(make(&m, &c) == NATS_WBUF_CLOSED);
    m.limits->closed = 0;
    CHECK(make(&m, &c) == NATS_WBUF_BAD_SUBJECT);
    c.subject = subject;
    CHECK(make(&m, &c) == NATS_WBUF_BAD_REPLY);
    c.reply = reply;
    CHECK(make(&m, &c) == NATS_WBUF_BAD_HEADERS);
    c.headers = headers;
    CHECK(make(&m, &c) == NATS_WBUF_LINE_TOO_LONG);
    m.limits->max_control_line = 14;
    CHECK(make(&m, &c) == NATS_WBUF_PAYLOAD_TOO_LONG);
    m.limits->max_payload = 19;
    CHECK(make(&m, &c) == NATS_WBUF_FULL);
    m.limits->max_pending = 37;
    CHECK(make(&m, &c) == NATS_WBUF_NO_MEMORY);
    fail_allocation = -1;
    CHECK(make(&m, &c) == NATS_WBUF_FIRST);
    model_close(&m);
}

static void closed_refuses_messages_and_takes_control_frames(void)
{
    size_t i;
    struct model m;
    model_open(&m);
    m.limits->closed = 1;
    for (i = 0; i < vectors_len(); i++) {
        const struct call *c = &vectors[i];
        if (c->code >= 0)
            CHECK((make(&m, c) >= 0) == (c->verb != PUBLISH && c->verb != PUB));
    }
    model_close(&m);
}

static void a_request_is_a_publish_with_its_tag_after_the_inbox(void)
{
    static const char frames[] =
        "PUB svc in.x.7 2\r\nhi\r\nHPUB svc in.x.8 18 20\r\nNATS/1.0\r\nA: b\r\n\r\nhi\r\n"
        "PUB svc in.x.18446744073709551615 0\r\n\r\n";
    static const char block[] = "NATS/1.0\r\nA: b\r\n\r\n";
    uint64_t tags[] = {7, 8, UINT64_MAX};
    nats_wbuf *w = nats_wbuf_new();
    CHECK(w != NULL);
    CHECK(nats_wbuf_request(w, "svc", 3, NULL, 0, "hi", 2, 1) == NATS_WBUF_BAD_REPLY);
    CHECK(nats_wbuf_set_inbox(w, "in x", 4) == NATS_WBUF_BAD_REPLY);
    fail_allocation = 0;
    CHECK(nats_wbuf_set_inbox(w, "in.x.", 5) == NATS_WBUF_NO_MEMORY);
    fail_allocation = -1;
    CHECK(nats_wbuf_set_inbox(w, "in.x.", 5) == 0);
    CHECK(nats_wbuf_request(w, "", 0, NULL, 0, "hi", 2, 1) == NATS_WBUF_BAD_SUBJECT);
    CHECK(nats_wbuf_request(w, "s c", 3, NULL, 0, "hi", 2, 1) == NATS_WBUF_BAD_SUBJECT);
    fail_allocation = 0; /* for the tag */
    CHECK(nats_wbuf_request(w, "svc", 3, NULL, 0, "hi", 2, 1) == NATS_WBUF_NO_MEMORY);
    fail_allocation = 1; /* for the frame */
    CHECK(nats_wbuf_request(w, "svc", 3, NULL, 0, "hi", 2, 1) == NATS_WBUF_NO_MEMORY);
    fail_allocation = -1;
    nats_wbuf_get_limits(w)->max_control_line = 15;
    CHECK(nats_wbuf_request(w, "svc", 3, NULL, 0, "hi", 2, tags[0]) == NATS_WBUF_LINE_TOO_LONG);
    CHECK(nats_wbuf_len(w) == 0 && nats_wbuf_get_counts(w)->accepted == 0);
    nats_wbuf_get_limits(w)->max_control_line = 16;
    CHECK(nats_wbuf_request(w, "svc", 3, NULL, 0, "hi", 2, tags[0]) == NATS_WBUF_FIRST);
    nats_wbuf_get_limits(w)->max_control_line = 0;
    CHECK(nats_wbuf_request(w, "svc", 3, block, 9, "hi", 2, 8) == NATS_WBUF_BAD_HEADERS);
    CHECK(nats_wbuf_request(w, "svc", 3, block, sizeof block - 1, "hi", 2, tags[1]) == 0);
    CHECK(nats_wbuf_request(w, "svc", 3, NULL, 0, "", 0, tags[2]) == 0);
    CHECK(nats_wbuf_len(w) == sizeof frames - 1);
    CHECK(memcmp(nats_wbuf_data(w), frames, sizeof frames - 1) == 0);
    CHECK(nats_wbuf_remove(w, tags, 3) == 3);
    CHECK(nats_wbuf_set_inbox(w, NULL, 0) == 0);
    CHECK(nats_wbuf_request(w, "svc", 3, NULL, 0, "hi", 2, 8) == NATS_WBUF_BAD_REPLY);
    nats_wbuf_get_limits(w)->closed = 1;
    CHECK(nats_wbuf_request(w, "svc", 3, NULL, 0, "hi", 2, 8) == NATS_WBUF_CLOSED);
    nats_wbuf_free(w);
}

static void a_locked_buffer_takes_nothing_and_stays_where_it_is(void)
{
    nats_wbuf *w = nats_wbuf_new();
    const char *data;
    CHECK(w != NULL && nats_wbuf_ping(w) == NATS_WBUF_FIRST);
    data = nats_wbuf_data(w);
    nats_wbuf_lock(w, 1);
    CHECK(nats_wbuf_publish(w, "a", 1, NULL, 0, NULL, 0, "x", 1, 0) == NATS_WBUF_LOCKED);
    CHECK(nats_wbuf_sub(w, "a", 1, NULL, 0, 1) == NATS_WBUF_LOCKED);
    CHECK(nats_wbuf_unsub(w, 1, 0) == NATS_WBUF_LOCKED && nats_wbuf_pong(w) == NATS_WBUF_LOCKED);
    CHECK(nats_wbuf_connect(w, "{}", 2) == NATS_WBUF_LOCKED);
    CHECK(nats_wbuf_data(w) == data && nats_wbuf_len(w) == 6);
    nats_wbuf_lock(w, 0);
    CHECK(nats_wbuf_publish(w, "a", 1, NULL, 0, NULL, 0, "x", 1, 0) == 0);
    nats_wbuf_lock(w, 1);
    CHECK(nats_wbuf_drop_messages(w) == 0 && nats_wbuf_len(w) == 6 + 12);
    CHECK(nats_wbuf_data(w) == data);
    nats_wbuf_lock(w, 0);
    CHECK(nats_wbuf_drop_messages(w) == 1 && nats_wbuf_len(w) == 6);
    nats_wbuf_free(w);
}

/* No byte of such a payload is read. */
static void sizes_that_overflow_are_refused(void)
{
    static const size_t sizes[] = {SIZE_MAX,      SIZE_MAX - 1,  SIZE_MAX - 11, SIZE_MAX - 12,
                                   SIZE_MAX - 16, SIZE_MAX - 64, SIZE_MAX / 2,  SIZE_MAX / 4};
    size_t i;
    for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        volatile size_t huge = sizes[i];
        nats_wbuf *w = nats_wbuf_new();
        nats_wbuf_limits *limits;
        CHECK(w != NULL);
        limits = nats_wbuf_get_limits(w);
        fail_allocation = 0; /* the allocation that would be possible in theory fails */
        CHECK(nats_wbuf_publish(w, "a", 1, NULL, 0, NULL, 0, "x", huge, 0) == NATS_WBUF_NO_MEMORY);
        CHECK(nats_wbuf_publish(w, "a", 1, "r", 1, HDR, 12, "x", huge, 1) == NATS_WBUF_NO_MEMORY);
        CHECK(nats_wbuf_connect(w, "{}", huge) == NATS_WBUF_NO_MEMORY);
        limits->max_pending = 1 << 20;
        CHECK(nats_wbuf_publish(w, "a", 1, NULL, 0, NULL, 0, "x", huge, 0) == NATS_WBUF_FULL);
        CHECK(nats_wbuf_publish(w, "a", 1, "r", 1, HDR, 12, "x", huge, 1) == NATS_WBUF_FULL);
        limits->max_payload = 1 << 20;
        CHECK(nats_wbuf_publish(w, "a", 1, NULL, 0, NULL, 0, "x", huge, 0) ==
              NATS_WBUF_PAYLOAD_TOO_LONG);
        CHECK(nats_wbuf_publish(w, "a", 1, "r", 1, HDR, 12, "x", huge, 1) ==
              NATS_WBUF_PAYLOAD_TOO_LONG);
        fail_allocation = -1;
        CHECK(nats_wbuf_len(w) == 0 && nats_wbuf_get_counts(w)->accepted == 0);
        nats_wbuf_free(w);
    }
}

/* FIRST, HIGH and SLOW at their marks. A PING has 6 bytes. */
static void the_bits_say_when_to_flush_and_when_to_slow_down(void)
{
    struct model m;
    int i;
    model_open(&m);
    m.limits->high_water = 12;
    m.limits->slow_mark = 18;
    CHECK(model_ping(&m, 0) == NATS_WBUF_FIRST);
    CHECK(model_ping(&m, 0) == NATS_WBUF_HIGH);
    CHECK(model_ping(&m, 0) == 0); /* 18 bytes: at the mark, not above */
    CHECK(model_ping(&m, 0) == (NATS_WBUF_HIGH | NATS_WBUF_SLOW));
    CHECK(model_ping(&m, 0) == 0); /* reported already */
    model_sent(&m, 0);
    CHECK(model_ping(&m, 0) == 0);
    CHECK(model_ping(&m, 0) == NATS_WBUF_HIGH);
    model_sent(&m, 23); /* 19 left: still above */
    CHECK(model_ping(&m, 0) == 0);
    model_sent(&m, 7); /* 18 left: fell to the mark */
    CHECK(model_ping(&m, 0) == NATS_WBUF_SLOW);
    CHECK(model_ping(&m, 0) == NATS_WBUF_HIGH);
    m.limits->held = 1;
    for (i = 0; i < 3; i++)
        CHECK(model_ping(&m, 0) == 0);
    m.limits->held = 0;
    CHECK(model_ping(&m, 0) == NATS_WBUF_HIGH);
    m.limits->slow_mark = 1000; /* a raised mark is reported again */
    CHECK(model_ping(&m, 0) == 0);
    m.limits->slow_mark = 20;
    CHECK(model_ping(&m, 0) == (NATS_WBUF_HIGH | NATS_WBUF_SLOW));
    model_sent(&m, nats_wbuf_len(m.w));
    m.limits->held = 1;
    CHECK(model_ping(&m, 0) == 0);
    model_close(&m);
}

static void every_verb_reports_the_first_bytes(void)
{
    size_t i;
    struct model m;
    model_open(&m);
    for (i = 0; i < vectors_len(); i++) {
        if (vectors[i].code < 0)
            continue;
        CHECK(make(&m, &vectors[i]) == NATS_WBUF_FIRST);
        CHECK(make(&m, &vectors[i]) == 0);
        model_sent(&m, nats_wbuf_len(m.w));
    }
    model_close(&m);
}

/* Eleven frames of all kinds, three of them tagged 2, 4 and 6. */
static void fill(struct model *m)
{
    struct text a = text_of("a", 1), r = text_of("r", 1), none = text_of("", 0);
    struct text h = text_of(HDR, 12), p = text_of("PING\r\nPUB x 1\r\n", 15);
    model_ping(m, 0);
    model_publish(m, a, none, none, p, 0);
    model_publish(m, a, r, none, p, 2);
    model_sub(m, a, none, 1);
    model_publish(m, a, r, h, p, 4);
    model_publish(m, a, none, h, none, 0);
    model_unsub(m, 1, 0);
    model_publish(m, a, none, none, none, 0);
    model_publish(m, a, r, none, none, 6);
    model_connect(m, p);
    model_publish(m, a, none, none, p, 0);
    free(a.p);
    free(r.p);
    free(none.p);
    free(h.p);
    free(p.p);
}

/* Check that the rest is sent correctly after an operation, and that the buffer still works. */
static void use_on(struct model *m)
{
    struct text a = text_of("after", 5), none = text_of("", 0);
    model_compare_counts(m);
    model_publish(m, a, none, none, a, m->last_tag + 1);
    model_ping(m, 1);
    model_sent(m, nats_wbuf_len(m->w) / 2);
    model_take_back(m);
    model_compare_counts(m);
    free(a.p);
    free(none.p);
}

/* Run operation 0: take back, 1: drop messages, 2 and up: remove a set of tags. */
static void operate(struct model *m, unsigned operation)
{
    static const uint64_t sets[][7] = {{2}, {4}, {6}, {2, 4, 6}, {1, 2, 3, 5, 6, 7, 99}};
    static const size_t lens[] = {1, 1, 1, 3, 7};
    if (operation == 0)
        model_take_back(m);
    else if (operation == 1)
        model_drop_messages(m);
    else
        model_remove(m, sets[operation - 2], lens[operation - 2]);
}

static void removal_is_right_with_any_number_of_bytes_sent_and_pinned(void)
{
    unsigned operation;
    size_t sent, pin, len = 1;
    for (operation = 0; operation < 7; operation++) {
        for (sent = 0; sent <= len; sent++) {
            for (pin = 0; pin <= len - sent; pin += pin < 8 ? 1 : 7) {
                struct model m;
                model_open(&m);
                fill(&m);
                len = nats_wbuf_len(m.w);
                model_sent(&m, sent / 2);
                if ((sent & 3) == 1)
                    model_compare_counts(&m); /* with the walk up to date, and without */
                model_sent(&m, sent - sent / 2);
                model_pin(&m, pin);
                operate(&m, operation);
                use_on(&m);
                model_close(&m);
            }
        }
    }
}

static void a_pin_shrinks_with_what_is_sent_and_ends_with_the_connection(void)
{
    struct text a = text_of("a", 1), none = text_of("", 0);
    static const uint64_t tags[] = {1, 2};
    struct model m;
    model_open(&m);
    model_publish(&m, a, none, none, none, 1); /* 11 bytes each */
    model_publish(&m, a, none, none, none, 2);
    model_pin(&m, 12);
    CHECK(model_remove(&m, tags, 2) == 0);
    model_sent(&m, 1); /* pinned: 11, which is 1 byte of the second */
    CHECK(model_remove(&m, tags, 2) == 0);
    model_pin(&m, 10);
    CHECK(model_remove(&m, tags, 2) == 1);
    model_take_back(&m); /* drops the first as well, because it is tagged */
    CHECK(nats_wbuf_len(m.w) == 0 && nats_wbuf_get_counts(m.w)->discarded == 2);
    model_publish(&m, a, none, none, none, 3);
    CHECK(model_drop_messages(&m) == 1);
    free(a.p);
    free(none.p);
    model_close(&m);
}

static void a_message_taken_back_begins_at_its_first_byte(void)
{
    static const char expected[] = "PUB a 3\r\nabc\r\n";
    nats_wbuf *w = nats_wbuf_new();
    size_t cut, len = sizeof expected - 1;
    CHECK(w != NULL);
    for (cut = 0; cut < len; cut++) {
        CHECK(nats_wbuf_ping(w) == NATS_WBUF_FIRST);
        CHECK(nats_wbuf_publish(w, "a", 1, NULL, 0, NULL, 0, "abc", 3, 0) == 0);
        CHECK(nats_wbuf_pong(w) == 0);
        nats_wbuf_sent(w, 6 + cut);
        nats_wbuf_take_back(w);
        CHECK(nats_wbuf_len(w) == len && memcmp(nats_wbuf_data(w), expected, len) == 0);
        CHECK(nats_wbuf_get_counts(w)->waiting == 1);
        nats_wbuf_sent(w, len);
    }
    CHECK(nats_wbuf_get_counts(w)->written == len);
    CHECK(nats_wbuf_get_counts(w)->discarded == 0);
    nats_wbuf_free(w);
}

static void a_smaller_server_gets_only_what_it_takes(void)
{
    struct text a = text_of("a", 1), none = text_of("", 0), h = text_of("NATS/1.0\r\n\r\n", 12);
    struct text small = text_of("1234567890", 10), big = text_of("12345678901", 11);
    struct model m;
    model_open(&m);
    model_publish(&m, a, none, none, big, 0);
    model_publish(&m, a, none, none, small, 0);
    model_publish(&m, a, none, h, none, 0);
    model_publish(&m, a, a, none, big, 7);
    model_ping(&m, 0);
    m.limits->max_payload = 10;
    CHECK(model_recheck(&m, 1, 8) == 3);
    CHECK(model_recheck(&m, 1, 8) == 0);
    m.limits->max_payload = 0;
    model_publish(&m, a, none, h, none, 0);
    CHECK(model_recheck(&m, 1, 8) == 0);
    CHECK(model_recheck(&m, 0, 0) == 1);
    model_publish(&m, a, none, none, big, 0);
    model_sent(&m, nats_wbuf_len(m.w) - 1); /* has begun, so it stays */
    m.limits->max_payload = 1;
    CHECK(model_recheck(&m, 0, 8) == 0);
    free(a.p);
    free(none.p);
    free(h.p);
    free(small.p);
    free(big.p);
    model_close(&m);
}

static void tags_that_do_not_increase_are_removed_as_well(void)
{
    static const uint64_t tags[] = {7, 3, 9, 8, 1, 12, 10};
    size_t i, removed;
    for (removed = 0; removed < 128; removed++) {
        nats_wbuf *w = nats_wbuf_new();
        uint64_t wanted[7];
        size_t n = 0, left = 0;
        uint64_t tag;
        CHECK(w != NULL);
        for (i = 0; i < 7; i++)
            CHECK(nats_wbuf_publish(w, "a", 1, NULL, 0, NULL, 0, "abc", 3, tags[i]) >= 0);
        for (tag = 1; tag <= 12; tag++) {
            for (i = 0; i < 7; i++) {
                if (tags[i] == tag && ((removed >> i) & 1) != 0)
                    wanted[n++] = tag;
            }
        }
        CHECK(nats_wbuf_remove(w, wanted, n) == n);
        left = 7 - n;
        CHECK(nats_wbuf_len(w) == 14 * left);
        CHECK(nats_wbuf_get_counts(w)->waiting == left);
        CHECK(nats_wbuf_remove(w, wanted, n) == 0);
        nats_wbuf_take_back(w);
        CHECK(nats_wbuf_len(w) == 0);
        nats_wbuf_free(w);
    }
}

static void the_line_sent_last_is_known_wherever_the_kernel_stopped(void)
{
    static const char *const lines[] = {"PUB a 3", "PING", "SUB b 1"};
    static const size_t lens[] = {14, 6, 9};
    size_t sent, i, end, total = 14 + 6 + 9;
    char line[128];
    for (sent = 0; sent <= total; sent++) {
        nats_wbuf *w = nats_wbuf_new();
        CHECK(w != NULL && nats_wbuf_last_line(w, line, sizeof line) == 0);
        CHECK(nats_wbuf_publish(w, "a", 1, NULL, 0, NULL, 0, "abc", 3, 0) >= 0);
        CHECK(nats_wbuf_ping(w) >= 0 && nats_wbuf_sub(w, "b", 1, NULL, 0, 1) >= 0);
        nats_wbuf_sent(w, sent / 2);
        if (sent & 1)
            nats_wbuf_get_counts(w); /* the walk catches up */
        nats_wbuf_sent(w, sent - sent / 2);
        for (i = 0, end = lens[0]; end < sent; end += lens[++i])
            ;
        if (sent == 0) {
            CHECK(nats_wbuf_last_line(w, line, sizeof line) == 0);
        } else {
            CHECK(nats_wbuf_last_line(w, line, sizeof line) == strlen(lines[i]));
            CHECK(memcmp(line, lines[i], strlen(lines[i])) == 0);
            CHECK(nats_wbuf_last_line(w, line, 2) == 2);
        }
        nats_wbuf_free(w);
    }
}

/* Make calls that allocate buffer and tags, each of them twice. */
static void allocate_everywhere(struct model *m)
{
    struct text none = text_of("", 0), big = text_of("", 0), name;
    char *p = malloc(3000);
    int i;
    CHECK(p != NULL);
    memset(p, 'x', 3000);
    name = text_of(p, 200);
    free(big.p);
    big.p = p;
    big.n = 3000;
    for (i = 0; i < 70; i++) {
        if (model_publish(m, name, none, none, i % 8 ? none : big, m->last_tag + 1) < 0) {
            fail_allocation = -1;
            CHECK(model_publish(m, name, none, none, i % 8 ? none : big, m->last_tag + 1) >= 0);
        }
        if (model_request(m, name, none, none, m->last_tag + 1) == NATS_WBUF_NO_MEMORY ||
            model_sub(m, name, none, 1) < 0 || model_unsub(m, 1, 1) < 0 || model_ping(m, 0) < 0 ||
            model_connect(m, big) < 0)
            fail_allocation = -1;
        if (i == 35)
            model_sent(m, nats_wbuf_len(m->w) - 1);
    }
    model_take_back(m);
    model_compare_counts(m);
    free(none.p);
    free(big.p);
    free(name.p);
}

static void running_out_of_memory_at_any_point_changes_nothing(void)
{
    long needed, k;
    struct model m;
    model_open(&m);
    allocations = 0;
    allocate_everywhere(&m);
    needed = allocations;
    CHECK(needed >= 5);
    model_close(&m);
    for (k = 0; k <= needed; k++) {
        model_open(&m);
        fail_allocation = k;
        allocate_everywhere(&m);
        fail_allocation = -1;
        model_close(&m);
    }
    fail_allocation = 0;
    CHECK(nats_wbuf_new() == NULL);
    fail_allocation = -1;
    nats_wbuf_free(NULL);
}

/* 200 MB pass through while a byte is always unsent: neither buffer nor tags grow with them. */
static void memory_is_bounded_by_what_is_unsent(void)
{
    static const char payload[1000];
    nats_wbuf *w = nats_wbuf_new();
    uint64_t tag = 0;
    CHECK(w != NULL);
    CHECK(nats_wbuf_ping(w) == NATS_WBUF_FIRST);
    allocations = 0;
    while (tag < 200000) {
        tag++;
        CHECK(nats_wbuf_publish(w, "s", 1, NULL, 0, NULL, 0, payload, sizeof payload, tag) >= 0);
        nats_wbuf_sent(w, nats_wbuf_len(w) - 1);
    }
    CHECK(allocations <= 4);
    CHECK(w->cap <= 64 * 1024 && w->tags_cap <= 256);
    CHECK(nats_wbuf_get_counts(w)->written == tag - 1);
    nats_wbuf_free(w);
}

static void memory_of_a_burst_is_given_back(void)
{
    static const char payload[4000];
    nats_wbuf *w = nats_wbuf_new();
    uint64_t tag = 0;
    CHECK(w != NULL);
    allocations = 0;
    while (nats_wbuf_len(w) < 64u * 1024 * 1024) {
        tag++;
        CHECK(nats_wbuf_publish(w, "s", 1, NULL, 0, NULL, 0, payload, sizeof payload, tag) >= 0);
    }
    while (tag < 60000) {
        tag++;
        CHECK(nats_wbuf_publish(w, "s", 1, NULL, 0, NULL, 0, payload, 1, tag) >= 0);
    }
    CHECK(allocations <= 40); /* grows by doubling */
    CHECK(w->cap <= 160u * 1024 * 1024);
    nats_wbuf_sent(w, nats_wbuf_len(w));
    CHECK(w->cap <= 2u * 1024 * 1024 && w->tags_cap <= 16u * 1024);
    CHECK(nats_wbuf_publish(w, "s", 1, NULL, 0, NULL, 0, payload, 1, tag + 1) == NATS_WBUF_FIRST);
    CHECK(nats_wbuf_drop_messages(w) == 1 && nats_wbuf_len(w) == 0);
    CHECK(nats_wbuf_data(w) != NULL);
    nats_wbuf_free(w);
}

static void fill_and_send(nats_wbuf *w, size_t size)
{
    static const char payload[4000];
    while (nats_wbuf_len(w) < size)
        CHECK(nats_wbuf_publish(w, "s", 1, NULL, 0, NULL, 0, payload, sizeof payload, 0) >= 0);
    nats_wbuf_trim(w); /* not while something is unsent */
    nats_wbuf_sent(w, nats_wbuf_len(w));
}

/* Memory beyond 2 MiB stays while much of it is used, for some small rounds, and no longer. */
static void memory_of_repeated_bursts_is_kept_while_it_is_used(void)
{
    const size_t burst = 8u * 1024 * 1024;
    nats_wbuf *w = nats_wbuf_new();
    size_t cap;
    CHECK(w != NULL);
    fill_and_send(w, burst);
    cap = w->cap;
    CHECK(cap >= burst);
    allocations = 0;
    for (int i = 0; i < 200; i++)
        fill_and_send(w, i % 20 == 0 ? burst : 1);
    CHECK(allocations == 0 && w->cap == cap);
    for (int i = 0; i < 64; i++)
        fill_and_send(w, 1);
    CHECK(w->cap <= 2u * 1024 * 1024);
    fill_and_send(w, burst);
    CHECK(w->cap == cap);
    nats_wbuf_trim(w);
    CHECK(w->cap == 0);
    fill_and_send(w, 1);
    cap = w->cap;
    nats_wbuf_trim(w);
    CHECK(w->cap == cap && cap != 0);
    nats_wbuf_free(w);
}

/* Early flushes at 1 MiB: after the first, the buffer has its final size. */
static void early_flushes_do_not_allocate(void)
{
    static const char payload[100];
    nats_wbuf *w = nats_wbuf_new();
    int flushes = 0;
    CHECK(w != NULL);
    nats_wbuf_get_limits(w)->high_water = 1024 * 1024;
    while (flushes < 3) {
        if (nats_wbuf_publish(w, "subject", 7, NULL, 0, NULL, 0, payload, sizeof payload, 0) &
            NATS_WBUF_HIGH) {
            nats_wbuf_sent(w, nats_wbuf_len(w));
            if (flushes++ == 0)
                allocations = 0;
        }
    }
    CHECK(allocations == 0);
    nats_wbuf_free(w);
}

static void counters_can_be_zeroed(void)
{
    struct model m;
    struct text a = text_of("a", 1), none = text_of("", 0), h = text_of(HDR, 12);
    model_open(&m);
    model_publish(&m, a, none, h, a, 0);
    CHECK(nats_wbuf_get_counts(m.w)->bytes_out == 13);
    nats_wbuf_get_counts(m.w)->msgs_out = m.counts.msgs_out = 0;
    nats_wbuf_get_counts(m.w)->bytes_out = m.counts.bytes_out = 0;
    model_publish(&m, a, none, none, a, 0);
    model_compare_counts(&m);
    CHECK(nats_wbuf_get_counts(m.w)->bytes_out == 1);
    model_close(&m);
    free(a.p);
    free(none.p);
    free(h.p);
}

static void every_error_has_its_text(void)
{
    static const int codes[] = {-201, -202, -203, -204, -301, -302, -303, -304, -401, -999, 0};
    size_t i, k, n = sizeof codes / sizeof *codes;
    for (i = 0; i < n; i++) {
        CHECK(nats_wbuf_strerror(codes[i]) != NULL && nats_wbuf_strerror(codes[i])[0] != '\0');
        for (k = 0; k < i; k++)
            CHECK(strcmp(nats_wbuf_strerror(codes[i]), nats_wbuf_strerror(codes[k])) != 0);
    }
}

/* Run the operations of the fuzz target on bytes of a fixed generator. */
static void random_calls_agree_with_the_model(unsigned runs)
{
    static unsigned char data[3000];
    uint64_t state = 88172645463325252u;
    unsigned run;
    size_t i;
    for (run = 0; run < runs; run++) {
        for (i = 0; i < sizeof data; i++)
            data[i] = (unsigned char)(next_random(&state) >> 16);
        model_run(data, sizeof data);
    }
}

int main(int argc, char **argv)
{
    unsigned runs = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 300;
    RUN(every_verb_frames_exactly_these_bytes);
    RUN(a_failed_call_changes_nothing);
    RUN(names_take_all_bytes_but_blanks_and_controls);
    RUN(the_control_line_fits_at_its_limit_and_not_one_above);
    RUN(content_fits_at_max_payload_and_not_one_above);
    RUN(messages_fit_up_to_max_pending_and_control_frames_always);
    RUN(errors_are_reported_in_a_fixed_order);
    RUN(closed_refuses_messages_and_takes_control_frames);
    RUN(a_request_is_a_publish_with_its_tag_after_the_inbox);
    RUN(a_locked_buffer_takes_nothing_and_stays_where_it_is);
    RUN(sizes_that_overflow_are_refused);
    RUN(the_bits_say_when_to_flush_and_when_to_slow_down);
    RUN(every_verb_reports_the_first_bytes);
    RUN(removal_is_right_with_any_number_of_bytes_sent_and_pinned);
    RUN(a_pin_shrinks_with_what_is_sent_and_ends_with_the_connection);
    RUN(a_message_taken_back_begins_at_its_first_byte);
    RUN(a_smaller_server_gets_only_what_it_takes);
    RUN(tags_that_do_not_increase_are_removed_as_well);
    RUN(the_line_sent_last_is_known_wherever_the_kernel_stopped);
    RUN(running_out_of_memory_at_any_point_changes_nothing);
    RUN(memory_is_bounded_by_what_is_unsent);
    RUN(memory_of_a_burst_is_given_back);
    RUN(memory_of_repeated_bursts_is_kept_while_it_is_used);
    RUN(early_flushes_do_not_allocate);
    RUN(counters_can_be_zeroed);
    RUN(every_error_has_its_text);
    random_calls_agree_with_the_model(runs);
    printf("random_calls_agree_with_the_model: %u runs\n", runs);
    return 0;
}
