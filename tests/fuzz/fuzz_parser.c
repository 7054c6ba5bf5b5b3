/*
 * For any stream, cut anywhere, the parser gives the same frames, the same error and the same
 * offset as for the whole stream. What the parser delivers lies inside its input. When memory runs
 * out, the parser has delivered exactly what precedes the frame that it names.
 *
 * Input: a byte of limits, a byte for the allocation that fails and for the receiving of payloads elsewhere,
 * two bytes that seed the sizes of the pieces, then the stream. How to run it: README.md.
 */
#include "parser_run.h"
#include "replay.h"

enum { HEAD = 4, MANY = 1024 };

struct limits {
    size_t max_message;
    size_t max_control_line;
    int cap;
};

/* Choose limits: small ones, so that inputs reach them; the last of each array is the default. */
static struct limits limits_of(uint8_t byte)
{
    static const size_t messages[] = {1, 16, 300, 0};
    static const size_t lines[] = {0, 16, 100, NATS_MAX_CONTROL_LINE};
    struct limits l;
    l.max_message = messages[byte & 3];
    l.max_control_line = lines[byte >> 2 & 3];
    l.cap = byte & 16 ? MANY : 64 + (byte >> 5);
    return l;
}

static void open_limited(struct run *r, struct limits l, int cap)
{
    run_open(r, l.max_message, cap);
    r->p.max_control_line = l.max_control_line;
}

/* Feed pieces of random sizes: at most 2, 16, 256 or 4096 bytes, as the seed says. */
static void feed_pieces(struct run *r, const uint8_t *data, size_t size, uint32_t seed)
{
    static const uint32_t most[] = {2, 16, 256, 4096};
    uint32_t state = seed | 1, bound = most[seed & 3];
    size_t at, piece;
    for (at = 0; at < size; at += piece) {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        piece = 1 + state % bound;
        if (piece > size - at)
            piece = size - at;
        run_feed(r, data + at, piece);
    }
}

static void check_without_memory(const uint8_t *data, size_t size, struct limits l, uint32_t seed,
                                 long succeed)
{
    struct run r, before;
    open_limited(&r, l, l.cap);
    fail_allocation = succeed;
    feed_pieces(&r, data, size, seed);
    fail_allocation = -1;
    if (r.p.error == NATS_PARSER_NO_MEMORY) {
        open_limited(&before, l, MANY);
        run_feed(&before, data, (size_t)r.p.error_offset);
        CHECK(before.p.error == 0 && before.p.tail_len == 0);
        CHECK(before.text_len == r.text_len);
        CHECK(r.text_len == 0 || memcmp(before.text, r.text, r.text_len) == 0);
        run_close(&before);
    }
    run_close(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct run whole, r;
    struct limits l;
    uint32_t seed;
    size_t bound, i;
    if (size < HEAD)
        return 0;
    l = limits_of(data[0]);
    seed = (uint32_t)data[2] << 8 | data[3];
    open_limited(&whole, l, MANY);
    run_feed(&whole, data + HEAD, size - HEAD);

    open_limited(&r, l, l.cap);
    r.skips = data[1] >> 4 & 1;
    feed_pieces(&r, data + HEAD, size - HEAD, seed);
    check_same(&whole, &r);
    bound = r.p.tail_cap;
    run_close(&r);
    CHECK(bound <= 2 * (size + 128));

    open_limited(&r, l, 64);
    r.skips = data[1] >> 5 & 1;
    for (i = HEAD; i < size; i++)
        run_feed(&r, data + i, 1);
    check_same(&whole, &r);
    run_close(&r);
    run_close(&whole);
    check_without_memory(data + HEAD, size - HEAD, l, seed, data[1] % 16);
    return 0;
}
