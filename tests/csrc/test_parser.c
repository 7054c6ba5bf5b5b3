/*
 * Tests of nats_parser: every command and every error, at once, byte by byte and at every split;
 * every limit at its bound and one above; allocation failures at every point; what is scanned and
 * copied; and the shape of the rows.
 *
 * Prints what it ran; a failed check prints its line and aborts. Meant for ASan and UBSan.
 */
#define _DEFAULT_SOURCE
#include "parser_vectors.h"

#include <sys/mman.h>
#include <unistd.h>

enum { MANY = 8192 }; /* ints of rows, as in the Python module */

#define FEED(run, literal) run_feed(run, literal, sizeof(literal) - 1)

static void open_with(struct run *r, struct span in, int cap)
{
    run_open(r, 0, cap);
    run_feed(r, in.p, in.n);
}

static void feed_in_pieces(struct run *r, const char *data, size_t len, size_t piece)
{
    size_t at, n;
    for (at = 0; at < len; at += n) {
        n = len - at < piece ? len - at : piece;
        run_feed(r, data + at, n);
    }
}

/* Return whether the snippet is the beginning of the offending frame, as far as that had come. */
static int snippet_is_of(const struct run *r, const char *frame)
{
    size_t n = r->p.snippet_len;
    return n > 0 && n <= NATS_SNIPPET && memcmp(r->p.snippet, frame, n) == 0;
}

static void check_vector(const struct run *r, const struct vector *v, uint64_t shift)
{
    CHECK(r->p.error == v->error);
    CHECK(v->error == 0 || r->p.error_offset == v->offset + shift);
    CHECK(v->error == 0 || shift != 0 || snippet_is_of(r, v->in.p + v->offset));
    CHECK(r->text_len >= v->out.n);
    CHECK(v->out.n == 0 || memcmp(r->text + r->text_len - v->out.n, v->out.p, v->out.n) == 0);
    CHECK(shift != 0 || r->text_len == v->out.n);
}

static void every_vector_gives_its_rows_however_it_is_cut(void)
{
    size_t i, cut;
    for (i = 0; i < VECTORS; i++) {
        const struct vector *v = &vectors[i];
        struct run whole, r;
        open_with(&whole, v->in, MANY);
        check_vector(&whole, v, 0);
        run_open(&r, 0, 64);
        feed_in_pieces(&r, v->in.p, v->in.n, 1);
        check_same(&whole, &r);
        CHECK(v->error == 0 || snippet_is_of(&r, v->in.p + v->offset));
        run_close(&r);
        for (cut = 0; cut <= v->in.n; cut++) {
            run_open(&r, 0, 64);
            run_feed(&r, v->in.p, cut);
            run_feed(&r, v->in.p + cut, v->in.n - cut);
            check_same(&whole, &r);
            CHECK(v->error == 0 || snippet_is_of(&r, v->in.p + v->offset));
            run_close(&r);
        }
        run_close(&whole);
    }
}

static void every_vector_gives_its_rows_after_other_frames_and_errors_are_sticky(void)
{
    size_t i;
    for (i = 0; i < VECTORS; i++) {
        const struct vector *v = &vectors[i];
        size_t before, end = v->in.n;
        struct run r;
        run_open(&r, 0, 64);
        FEED(&r, "MSG a 1 1\r\n.\r\nPING\r\n+O");
        FEED(&r, "K\r\n");
        run_feed(&r, v->in.p, end);
        check_vector(&r, v, 25);
        before = r.text_len;
        FEED(&r, "PONG\r\nPI");
        FEED(&r, "NG\r\n");
        if (v->error != 0) {
            check_vector(&r, v, 25);
            CHECK(r.text_len == before);
        } else {
            CHECK(r.p.error == 0 && r.text_len == before + 10);
        }
        run_close(&r);
    }
}

/* Compare the rows of the whole stream with those of every cut into three; return how many cuts. */
static unsigned long every_pair_of_cuts(const char *data, size_t len, int cap, int skips)
{
    struct run whole, r;
    unsigned long splits = 0;
    size_t a, b;
    run_open(&whole, 0, MANY);
    run_feed(&whole, data, len);
    for (a = 0; a <= len; a++) {
        for (b = a; b <= len; b++) {
            run_open(&r, 0, cap);
            r.skips = skips;
            run_feed(&r, data, a);
            run_feed(&r, data + a, b - a);
            run_feed(&r, data + b, len - b);
            check_same(&whole, &r);
            run_close(&r);
            splits++;
        }
    }
    run_close(&whole);
    return splits;
}

static void a_stream_of_every_command_gives_the_same_rows_at_every_pair_of_cuts(void)
{
    static const char bad[] = "PING\r\nMSG foo 1 2\r\nab\r\nMSG foo 1 2\r\nabMSG foo 1 1\r\nx\r\n";
    unsigned long splits;
    CHECK(sizeof every_op > 300);
    splits = every_pair_of_cuts(every_op, sizeof every_op - 1, 64, 0);
    CHECK(splits >= 45000);
    printf("%lu splits\n", splits);
    every_pair_of_cuts(bad, sizeof bad - 1, 64, 0);
    every_pair_of_cuts(every_op, sizeof every_op - 1, 64, 1);
    every_pair_of_cuts(bad, sizeof bad - 1, 64, 1);
}

static void a_payload_received_elsewhere_gives_the_same_rows_errors_and_snippets(void)
{
    size_t i, cut;
    for (i = 0; i < VECTORS; i++) {
        const struct vector *v = &vectors[i];
        struct run whole, r;
        open_with(&whole, v->in, MANY);
        for (cut = 0; cut <= v->in.n; cut++) {
            run_open(&r, 0, 64);
            r.skips = 1;
            run_feed(&r, v->in.p, cut);
            feed_in_pieces(&r, v->in.p + cut, v->in.n - cut, 1 + i % 3);
            check_same(&whole, &r);
            CHECK(v->error == 0 || snippet_is_of(&r, v->in.p + v->offset));
            run_close(&r);
        }
        run_close(&whole);
    }
}

/* Only a payload that has begun and does not end with what has come may be received elsewhere. */
static void what_may_be_received_elsewhere(void)
{
    static const char *const others[] = {
        "",
        "MSG a 1 4",
        "MSG a 1 4\r\n",
        "HMSG a 1 12 16\r\nNATS/1.0\r\n",
        "HMSG a 1 12 16\r\nNATS/1.0\r\n\r\n",
        "MSG a 1 4\r\nabcd",
        "MSG a 1 4\r\nabcd\r",
        "MSG a 1 4\r\nabcd\r\n",
        "MSG a 1 0\r\n",
        "INFO {",
        "-ERR 'x",
        "bad\r\nMSG a 1 4\r\na",
    };
    const char *begin;
    size_t i, size;
    struct run r;
    for (i = 0; i < sizeof others / sizeof *others; i++) {
        run_open(&r, 0, 64);
        run_feed(&r, others[i], strlen(others[i]));
        CHECK(nats_parser_unfinished(&r.p, &begin, &size) == 0);
        run_close(&r);
    }
    run_open(&r, 0, 64);
    FEED(&r, "PING\r\nHMSG a 1 12 16\r\nNATS/1.0\r\n\r\nab");
    CHECK(nats_parser_unfinished(&r.p, &begin, &size) == 2 && size == 4);
    CHECK(memcmp(begin, "ab", 2) == 0);
    nats_parser_skip(&r.p, 1);
    CHECK(nats_parser_unfinished(&r.p, &begin, &size) == 3 && size == 4);
    nats_parser_skip(&r.p, 1);
    CHECK(nats_parser_unfinished(&r.p, &begin, &size) == 0);
    run_close(&r);
}

/* Every prefix of the input ends at the end of a page, and nothing is mapped after that page. */
static void nothing_is_read_after_the_input(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE), i, n;
    char *memory = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int32_t rows[256];
    CHECK(memory != MAP_FAILED && mprotect(memory + page, page, PROT_NONE) == 0);
    for (i = 0; i <= VECTORS; i++) {
        struct span in = {every_op, sizeof every_op - 1};
        if (i < VECTORS)
            in = vectors[i].in;
        CHECK(in.n <= page);
        for (n = 0; n <= in.n; n++) {
            nats_parser p;
            size_t pos = 0;
            nats_parser_init(&p, 0);
            memcpy(memory + page - n, in.p, n);
            while (pos < n) {
                CHECK(nats_parser_feed(&p, memory + page - n, pos, n, rows, 256) >= 0);
                pos = p.pos;
            }
            nats_parser_destroy(&p);
        }
    }
    CHECK(munmap(memory, 2 * page) == 0);
}

static void running_out_of_memory_at_any_point_delivers_what_came_before(void)
{
    static const size_t pieces[] = {1, 2, 7, 50, 130};
    size_t i, len = sizeof every_op - 1;
    for (i = 0; i < sizeof pieces / sizeof *pieces; i++) {
        long total, k;
        struct run r, before;
        allocations = 0;
        run_open(&r, 0, 64);
        feed_in_pieces(&r, every_op, len, pieces[i]);
        run_close(&r);
        total = allocations;
        CHECK(total > 0);
        for (k = 0; k < total; k++) {
            run_open(&r, 0, 64);
            fail_allocation = k;
            feed_in_pieces(&r, every_op, len, pieces[i]);
            fail_allocation = -1;
            CHECK(r.p.error == NATS_PARSER_NO_MEMORY);
            run_open(&before, 0, MANY);
            run_feed(&before, every_op, (size_t)r.p.error_offset);
            CHECK(before.p.error == 0 && before.p.tail_len == 0);
            CHECK(before.text_len == r.text_len);
            CHECK(r.text_len == 0 || memcmp(before.text, r.text, r.text_len) == 0);
            run_close(&before);
            run_close(&r);
        }
    }
}

/* Return a line of len bytes that begins with head and ends with foot, followed by end. */
static char *line_of(const char *head, const char *foot, size_t len, const char *end, size_t *n)
{
    size_t head_len = strlen(head), foot_len = strlen(foot), end_len = strlen(end);
    char *line = malloc(len + end_len);
    CHECK(line != NULL && head_len + foot_len <= len);
    memset(line, 'a', len);
    memcpy(line, head, head_len);
    memcpy(line + len - foot_len, foot, foot_len);
    memcpy(line + len, end, end_len);
    *n = len + end_len;
    return line;
}

static int error_of(const char *data, size_t n, size_t piece, size_t max_line, size_t max_message)
{
    struct run r;
    int error;
    run_open(&r, max_message, 64);
    if (max_line != 0)
        r.p.max_control_line = max_line;
    feed_in_pieces(&r, data, n, piece);
    error = r.p.error;
    CHECK(error == 0 || r.p.error_offset == 0);
    run_close(&r);
    return error;
}

/* Check that the line fits with `bound` bytes, whatever the pieces, and never with one more. */
static void check_line_bound(const char *head, const char *foot, size_t bound, size_t max_line)
{
    static const char *const ends[] = {"\r\n", "\r", ""};
    size_t i, over, piece, n;
    for (i = 0; i < 3; i++) {
        for (over = 0; over < 2; over++) {
            char *line = line_of(head, foot, bound + over, ends[i], &n);
            int expected = over ? NATS_PARSER_LINE_TOO_LONG : 0;
            for (piece = bound < 10000 ? 1 : 4095; piece < 2 * n; piece = 3 * piece + 1)
                CHECK(error_of(line, n, piece, max_line, 0) == expected);
            CHECK(error_of(line, n, n - 1, max_line, 0) == expected);
            CHECK(error_of(line, n, n, max_line, 0) == expected);
            free(line);
        }
    }
}

/* The tail has to grow for a long line and for a long message, and cannot. */
static void a_tail_that_cannot_grow_is_an_error_of_its_frame(void)
{
    static const char *const heads[] = {"PING\r\nINFO {", "PING\r\nMSG a 1 4000\r\n"};
    static char filler[1000];
    size_t i, piece;
    memset(filler, 'x', sizeof filler);
    for (i = 0; i < 2; i++) {
        struct run r;
        run_open(&r, 0, 64);
        run_feed(&r, heads[i], strlen(heads[i]));
        CHECK(r.p.error == 0 && r.p.tail_cap > 0);
        fail_allocation = 0;
        for (piece = 0; piece < sizeof filler; piece += 100)
            run_feed(&r, filler, 100);
        fail_allocation = -1;
        CHECK(r.p.error == NATS_PARSER_NO_MEMORY && r.p.error_offset == 6);
        CHECK(r.p.snippet_len == NATS_SNIPPET && memcmp(r.p.snippet, heads[i] + 6, 6) == 0);
        CHECK(r.text_len == 5 && memcmp(r.text, "PING\n", 5) == 0);
        run_close(&r);
    }
}

static void lines_fit_up_to_their_bound_and_not_one_byte_above(void)
{
    size_t bound = NATS_MAX_CONTROL_LINE + NATS_LINE_EXTRA;
    check_line_bound("MSG a", " 1 0", bound, 0);
    check_line_bound("HMSG a", " 1 0 0", bound, 0);
    check_line_bound("MSG a 1 b", " 0", bound, 0);
    check_line_bound("MSG a", " 1 0", 100 + NATS_LINE_EXTRA, 100);
    check_line_bound("hmsg a", " 1 0 0", 10000 + NATS_LINE_EXTRA, 10000);
    check_line_bound("MSG a", " 1 0", NATS_MAX_INFO_LINE, SIZE_MAX);
    check_line_bound("-ERR '", "'", NATS_MAX_ERR_LINE, 0);
    check_line_bound("INFO {", "}", NATS_MAX_INFO_LINE, 0);
}

/* A mapping may make a subject many times as long as the longest that its publisher may send. */
static void a_message_line_that_the_server_has_lengthened_fits(void)
{
    size_t n;
    char *line = line_of("HMSG s", " 2147483647 r 12 12", 20 * 4096, "\r\n" HDR "\r\n", &n);
    CHECK(error_of(line, n, n, 0, 0) == 0);
    free(line);
}

static void messages_fit_up_to_max_message_and_not_one_byte_above(void)
{
    static const size_t pieces[] = {1, 5, 1000};
    size_t i;
    for (i = 0; i < 3; i++) {
        struct run r;
        run_open(&r, 10, 64);
        feed_in_pieces(&r, "MSG a 1 10\r\n0123456789\r\nMSG a 1 10\r\n0123456789\r\n", 48,
                       pieces[i]);
        feed_in_pieces(&r, "HMSG a 1 4 10\r\n0123456789\r\n", 27, pieces[i]);
        CHECK(r.p.error == 0 && r.p.msgs == 3 && r.p.bytes == 30);
        r.p.max_message = 11; /* counts from the next frame on */
        feed_in_pieces(&r, "MSG a 1 11\r\n0123456789a\r\n", 25, pieces[i]);
        r.p.max_message = 10;
        CHECK(r.p.error == 0 && r.p.msgs == 4);
        feed_in_pieces(&r, "MSG a 1 10\r\n0123456789\r\nMSG a 1 11\r\n", 36, pieces[i]);
        CHECK(r.p.error == NATS_PARSER_MESSAGE_TOO_LONG && r.p.error_offset == 124);
        CHECK(r.p.msgs == 5);
        run_close(&r);
    }
}

/* A message that repeats subject and sid of the one before is parsed by a short cut. */
static void repeated_messages_have_the_same_bounds(void)
{
    char *line;
    size_t n;
    struct run r;
    run_open(&r, 10, 64);
    FEED(&r, "MSG a 1 10\r\n0123456789\r\nMSG a 1 11\r\n0123456789a\r\n");
    CHECK(r.p.error == NATS_PARSER_MESSAGE_TOO_LONG && r.p.error_offset == 24 && r.p.msgs == 1);
    run_close(&r);
    line = line_of("MSG a", " 1 0", NATS_MAX_CONTROL_LINE + NATS_LINE_EXTRA, "\r\n\r\n", &n);
    run_open(&r, 0, 64);
    line = realloc(line, 2 * n + 1);
    CHECK(line != NULL);
    memcpy(line + n, line, n - 4);
    memcpy(line + 2 * n - 4, "0\r\n\r\n", 5); /* one digit more */
    run_feed(&r, line, 2 * n + 1);
    CHECK(r.p.error == NATS_PARSER_LINE_TOO_LONG && r.p.error_offset == n && r.p.msgs == 1);
    run_close(&r);
    free(line);
}

/* Lines without end, in pieces of all sizes: an error, and no memory beyond twice the bound. */
static void an_endless_line_is_refused_and_takes_bounded_memory(void)
{
    static const char *const heads[] = {"MSG ", "HMSG ", "PING ", "PONG ",
                                        "+OK ", "-ERR ", "INFO "};
    static const size_t pieces[] = {1, 1000, 65536, 8 * 1024 * 1024};
    size_t i, k, n = 8 * 1024 * 1024;
    for (i = 0; i < sizeof heads / sizeof *heads; i++) {
        size_t bound = i == 6   ? NATS_MAX_INFO_LINE
                       : i == 5 ? NATS_MAX_ERR_LINE
                                : NATS_MAX_CONTROL_LINE + NATS_LINE_EXTRA;
        for (k = 0; k < sizeof pieces / sizeof *pieces; k++) {
            struct run r;
            char *piece = malloc(pieces[k]);
            size_t fed = 0;
            CHECK(piece != NULL);
            memset(piece, 'x', pieces[k]);
            run_open(&r, 0, 64);
            run_feed(&r, heads[i], strlen(heads[i]));
            while (r.p.error == 0 && fed < n) {
                run_feed(&r, piece, pieces[k]);
                fed += pieces[k];
                CHECK(r.p.tail_cap <= 2 * bound + 16);
            }
            CHECK(r.p.error == NATS_PARSER_LINE_TOO_LONG && r.p.error_offset == 0);
            CHECK(fed <= bound + pieces[k] + 1);
            run_close(&r);
            free(piece);
        }
    }
}

/* An announced size allocates nothing: memory grows with the bytes that have come. */
static void memory_follows_what_was_received_and_not_what_was_announced(void)
{
    static char block[1024];
    static const char *const lines[] = {
        "MSG a 1 2139095039\r\n", "HMSG a 1 2139095039 2139095039\r\n", "MSG a 1 2139095040\r\n"};
    size_t i, got;
    for (i = 0; i < 3; i++) {
        struct run r;
        run_open(&r, SIZE_MAX, 64);
        run_feed(&r, lines[i], strlen(lines[i]));
        if (i == 2) { /* the ceiling: offsets are int32 */
            CHECK(r.p.error == NATS_PARSER_MESSAGE_TOO_LONG);
        } else {
            CHECK(r.p.error == 0 && r.p.tail_cap <= 256);
            for (got = 0; got < 1024 * 1024; got += sizeof block) {
                run_feed(&r, block, sizeof block);
                CHECK(r.p.tail_cap <= 2 * (got + sizeof block + 64));
            }
        }
        run_close(&r);
    }
}

/* The announced size, counted from far inside a large chunk, is beyond int32. */
static void a_huge_claim_far_inside_a_large_chunk_is_no_overflow(void)
{
    static const char pings[] = "PING\r\nPING\r\nPING\r\nPING\r\n",
                      claim[] = "MSG a 1 2139095039\r\n";
    static const char more[] = "MSG a 1 0\r\n\r\nMSG a 1 999999999\r\nx";
    size_t len = 9 * 1024 * 1024, n = 0;
    char *chunk = malloc(len + 64);
    struct run r;
    CHECK(chunk != NULL);
    while (n < len) {
        memcpy(chunk + n, pings, sizeof pings - 1);
        n += sizeof pings - 1;
    }
    memcpy(chunk + n, claim, sizeof claim - 1);
    run_open(&r, SIZE_MAX, MANY);
    run_feed(&r, chunk, n + sizeof claim - 1);
    CHECK(r.p.error == 0 && r.p.need == 2139095039u + 2 && r.p.tail_len == sizeof claim - 1);
    run_close(&r);
    memcpy(chunk + n, more, sizeof more - 1);
    run_open(&r, SIZE_MAX, MANY);
    run_feed(&r, chunk, n + sizeof more - 1);
    CHECK(r.p.error == 0 && r.p.msgs == 1 && r.p.need == 999999999u + 1);
    run_close(&r);
    free(chunk);
}

/* 1 MiB of INFO byte by byte: each byte is looked at and copied once. */
static void a_line_in_pieces_is_scanned_and_copied_once(void)
{
    size_t n;
    char *line = line_of("INFO {", "}", NATS_MAX_INFO_LINE, "\r\n", &n);
    struct run r;
    run_open(&r, 0, 64);
    scanned = copied = 0;
    allocations = 0;
    feed_in_pieces(&r, line, n, 1);
    CHECK(r.p.error == 0 && r.text_len > NATS_MAX_INFO_LINE - 8);
    CHECK(scanned == n);
    CHECK(copied <= n + 4 * sizeof r.p.row);
    CHECK(allocations <= 16); /* by doubling */
    run_close(&r);
    free(line);
}

/* A large message in pieces is copied once, its payload never searched for a line's end. */
static void a_message_in_pieces_is_copied_once(void)
{
    static const size_t pieces[] = {1, 1000, 65536};
    size_t i, size = 1024 * 1024, n;
    for (i = 0; i < 3; i++) {
        char *frame = line_of("MSG a 1 1048576\r\n", "", size + 17, "\r\n", &n);
        struct run r;
        run_open(&r, 0, 64);
        scanned = copied = 0;
        allocations = 0;
        feed_in_pieces(&r, frame, n, pieces[i]);
        CHECK(r.p.error == 0 && r.p.bytes == size && r.p.tail_cap <= n);
        CHECK(scanned == 17 && copied <= n + 4 * sizeof r.p.row && allocations <= 16);
        /* The next call frees the memory. */
        FEED(&r, "PING\r\n");
        CHECK(r.p.tail_cap == 0);
        run_close(&r);
        free(frame);
    }
}

/* Whole frames are parsed in place. */
static void whole_frames_are_not_copied(void)
{
    size_t n;
    char *frame = line_of("MSG a 1 100000\r\n", "", 100016, "\r\n", &n);
    struct run r;
    run_open(&r, 0, 64);
    copied = 0;
    allocations = 0;
    run_feed(&r, frame, n);
    CHECK(r.p.msgs == 1 && copied <= 4 * sizeof r.p.row && allocations == 0);
    run_close(&r);
    free(frame);
}

static int feed_rows(nats_parser *p, const char *text, int32_t *rows)
{
    int n;
    nats_parser_init(p, 0);
    n = nats_parser_feed(p, text, 0, strlen(text), rows, 64);
    CHECK(p->pos == strlen(text) && p->error == 0);
    nats_parser_destroy(p);
    return n;
}

static void check_row(const int32_t *row, int kind, int sid, int s0, int p1)
{
    CHECK(row[KIND] == kind && row[SID] == sid && row[S0] == s0 && row[P1] == p1);
}

static void consecutive_messages_of_one_subscription_and_subject_make_a_run(void)
{
    nats_parser p;
    int32_t rows[64];
    int n = feed_rows(&p, "MSG a 1 1\r\nx\r\nMSG a 1 2\r\nxy\r\nHMSG a 1 0 0\r\n\r\n", rows);
    CHECK(n == NATS_ROW_WIDTH + 6);
    check_row(rows, NATS_ROW_RUN, 1, 4, 3);
    CHECK(rows[9] == 11 && rows[10] == 12 && rows[11] == 25 && rows[12] == 27);
    CHECK(rows[13] == 43 && rows[14] == 43);

    n = feed_rows(&p, "MSG a 1 0\r\n\r\nMSG a 2 0\r\n\r\nMSG b 2 0\r\n\r\nMSG b 2 0\r\n\r\n", rows);
    CHECK(n == 3 * NATS_ROW_WIDTH + 4);
    check_row(rows, NATS_ROW_MSG, 1, 4, 11);
    check_row(rows + 9, NATS_ROW_MSG, 2, 4, 24); /* the same subject: the same offset */
    check_row(rows + 18, NATS_ROW_RUN, 2, 30, 2);
}

static void consecutive_messages_with_a_reply_make_a_run(void)
{
    nats_parser p;
    int32_t rows[64];
    int n = feed_rows(&p, "MSG a 1 r 1\r\nx\r\nMSG a 1 st 2\r\nxy\r\nHMSG a 1 u 0 0\r\n\r\n", rows);
    CHECK(n == NATS_ROW_WIDTH + 12);
    check_row(rows, NATS_ROW_REPLY_RUN, 1, 4, 3);
    CHECK(rows[9] == 8 && rows[10] == 9 && rows[11] == 13 && rows[12] == 14);
    CHECK(rows[13] == 24 && rows[14] == 26 && rows[15] == 30 && rows[16] == 32);
    CHECK(rows[17] == 43 && rows[18] == 44 && rows[19] == 50 && rows[20] == 50);
}

static void consecutive_answers_make_a_run(void)
{
    static const char text[] = "MSG in.7 2 1\r\nx\r\nMSG in.8 2 0\r\n\r\n";
    nats_parser p;
    int32_t rows[64];
    nats_parser_init(&p, 0);
    p.inbox_sid = 2;
    p.inbox_len = 3;
    CHECK(nats_parser_feed(&p, text, 0, sizeof text - 1, rows, 64) == NATS_ROW_WIDTH + 6);
    check_row(rows, NATS_ROW_ANSWER_RUN, 2, 4, 2);
    CHECK(rows[9] == 7 && rows[10] == 14 && rows[11] == 15);
    CHECK(rows[12] == 8 && rows[13] == 31 && rows[14] == 31);
    nats_parser_destroy(&p);
}

static void answers_to_the_inbox_come_with_their_number(void)
{
    static const char text[] =
        "MSG in.x.17 2 2\r\nhi\r\nHMSG in.x.17 2 1 1\r\nh\r\nHMSG in.x.999999999 2 1 1\r\nh\r\n"
        "MSG in.x.1000000000 2 0\r\n\r\nMSG in.x.017 2 0\r\n\r\nMSG in.x.0 2 0\r\n\r\n"
        "MSG in.x.1x 2 0\r\n\r\nMSG in.x.17 2 r 0\r\n\r\nMSG in.x.17 3 0\r\n\r\n"
        "MSG in.x. 2 0\r\n\r\nMSG a 2 0\r\n\r\nMSG in.x.17 2 0\r\n\r\n";
    static const int32_t numbers[] = {17, 17, 999999999, 0, 0, 0, 0, 0, 0, 0, 0, 17};
    int32_t rows[256];
    nats_parser p;
    int i, n;
    nats_parser_init(&p, 0);
    p.inbox_sid = 2;
    p.inbox_len = 5;
    n = nats_parser_feed(&p, text, 0, sizeof text - 1, rows, 256);
    CHECK(p.error == 0 && p.msgs == 12 && n == 12 * NATS_ROW_WIDTH);
    for (i = 0; i < 12; i++) {
        const int32_t *row = rows + i * NATS_ROW_WIDTH;
        CHECK(row[KIND] == (numbers[i] != 0 ? NATS_ROW_ANSWER : NATS_ROW_MSG));
        CHECK(numbers[i] == 0 || (row[R0] == numbers[i] && row[R1] == 0 && row[SID] == 2));
    }
    CHECK(memcmp(text + rows[P0], "hi\r\n", 4) == 0 && rows[P1] == rows[P0] + 2);
    CHECK(rows[18 + P0] == rows[18 + H0] + 1);
    nats_parser_destroy(&p);
}

static void headers_other_commands_and_the_lack_of_a_reply_end_a_run(void)
{
    nats_parser p;
    int32_t rows[64];
    int n = feed_rows(&p,
                      "MSG a 1 0\r\n\r\nMSG a 1 r 0\r\n\r\nMSG a 1 0\r\n\r\n"
                      "HMSG a 1 1 1\r\nh\r\nMSG a 1 0\r\n\r\nPING\r\n",
                      rows);
    CHECK(n == 6 * NATS_ROW_WIDTH);
    check_row(rows, NATS_ROW_MSG, 1, 4, 11);
    check_row(rows + 9, NATS_ROW_MSG, 1, 4, 26);
    CHECK(rows[9 + R0] == 21 && rows[9 + R1] == 22);
    check_row(rows + 18, NATS_ROW_MSG, 1, 4, 39);
    check_row(rows + 27, NATS_ROW_MSG, 1, 4, 56);
    CHECK(rows[27 + H0] == 55 && rows[27 + P0] == 56);
    check_row(rows + 36, NATS_ROW_MSG, 1, 4, 69);
    check_row(rows + 45, NATS_ROW_PING, 0, 0, 1);
    n = feed_rows(&p, "MSG a 1 0\r\n\r\nPONG\r\nPONG\r\nMSG a 1 0\r\n\r\nMSG a 1 0\r\n\r\n", rows);
    CHECK(n == 3 * NATS_ROW_WIDTH + 4);
    check_row(rows + 9, NATS_ROW_PONG, 0, 0, 2);
    check_row(rows + 18, NATS_ROW_RUN, 1, 4, 2);
}

static void a_flood_of_pings_costs_one_row(void)
{
    static char flood[6 * 200000];
    int32_t rows[64];
    nats_parser p;
    size_t i;
    for (i = 0; i < sizeof flood; i += 6)
        memcpy(flood + i, "PING\r\n", 6);
    nats_parser_init(&p, 0);
    CHECK(nats_parser_feed(&p, flood, 0, sizeof flood, rows, 64) == NATS_ROW_WIDTH);
    check_row(rows, NATS_ROW_PING, 0, 0, 200000);
    nats_parser_destroy(&p);
}

/* Rows of all kinds fill arrays of every size; nothing is lost where one is full. */
static void rows_go_on_in_the_next_call_when_the_array_is_full(void)
{
    static const char *const repeated[] = {"MSG a 1 1\r\nx\r\n", "MSG a 1 r 1\r\nx\r\n",
                                           "MSG in.1 77 1\r\nx\r\n"};
    char stream[6000];
    size_t n = 0, i;
    struct run whole, r;
    int cap;
    for (i = 0; n + sizeof every_op < sizeof stream; i++) {
        const char *part = i % 30 == 29 ? every_op : repeated[i / 30 % 3];
        memcpy(stream + n, part, strlen(part));
        n += strlen(part);
    }
    run_open(&whole, 0, MANY);
    run_feed(&whole, stream, n);
    for (cap = 64; cap < 200; cap++) {
        run_open(&r, 0, cap);
        run_feed(&r, stream, n);
        check_same(&whole, &r);
        run_close(&r);
    }
    run_close(&whole);
}

static void a_call_without_input_changes_nothing(void)
{
    struct run r, whole;
    size_t i, len = sizeof every_op - 1;
    run_open(&whole, 0, MANY);
    run_feed(&whole, every_op, len);
    run_open(&r, 0, 64);
    for (i = 0; i < len; i++) {
        CHECK(nats_parser_feed(&r.p, NULL, 0, 0, r.rows, 64) == 0 && r.p.pos == 0);
        run_feed(&r, every_op + i, 1);
    }
    check_same(&whole, &r);
    run_close(&r);
    run_close(&whole);
}

static void counters_can_be_zeroed(void)
{
    struct run r;
    run_open(&r, 0, 64);
    FEED(&r, "MSG a 1 3\r\nabc\r\nHMSG a 1 1 2\r\nhi\r\n");
    CHECK(r.p.msgs == 2 && r.p.bytes == 5);
    r.p.msgs = r.p.bytes = r.msgs = r.bytes = 0;
    FEED(&r, "MSG a 1 4\r\nabcd\r\n");
    CHECK(r.p.msgs == 1 && r.p.bytes == 4);
    run_close(&r);
}

static void every_error_has_its_text(void)
{
    static const int codes[] = {0,    -101, -102, -103, -104, -105,
                                -106, -107, -201, -202, -401, -999};
    size_t i, k, n = sizeof codes / sizeof *codes;
    for (i = 0; i < n; i++) {
        CHECK(nats_parser_strerror(codes[i]) != NULL && nats_parser_strerror(codes[i])[0] != '\0');
        for (k = 0; k < i; k++)
            CHECK(strcmp(nats_parser_strerror(codes[i]), nats_parser_strerror(codes[k])) != 0);
    }
}

/* Commands and broken commands in any order, in pieces of any size, into rows of any number. */
static void random_streams_give_the_same_rows_however_they_are_cut(unsigned runs)
{
    uint64_t state = 88172645463325252u;
    unsigned run;
    for (run = 0; run < runs; run++) {
        char stream[4000];
        size_t n = 0, at, piece;
        struct run whole, r;
        while (n < 2000) {
            const struct vector *v = &vectors[next_random(&state) % VECTORS];
            if (v->error != 0 && next_random(&state) % 100 != 0)
                continue;
            memcpy(stream + n, v->in.p, v->in.n);
            n += v->in.n;
        }
        run_open(&whole, 0, MANY);
        run_feed(&whole, stream, n);
        run_open(&r, 0, 64 + (int)(next_random(&state) % 64));
        r.skips = next_random(&state) % 2 != 0;
        for (at = 0; at < n; at += piece) {
            piece = 1 + next_random(&state) % (run % 2 ? 400 : 20);
            if (piece > n - at)
                piece = n - at;
            run_feed(&r, stream + at, piece);
        }
        check_same(&whole, &r);
        run_close(&r);
        run_close(&whole);
    }
}

int main(int argc, char **argv)
{
    unsigned runs = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 500;
    RUN(every_vector_gives_its_rows_however_it_is_cut);
    RUN(every_vector_gives_its_rows_after_other_frames_and_errors_are_sticky);
    RUN(a_stream_of_every_command_gives_the_same_rows_at_every_pair_of_cuts);
    RUN(a_payload_received_elsewhere_gives_the_same_rows_errors_and_snippets);
    RUN(what_may_be_received_elsewhere);
    RUN(nothing_is_read_after_the_input);
    RUN(running_out_of_memory_at_any_point_delivers_what_came_before);
    RUN(a_tail_that_cannot_grow_is_an_error_of_its_frame);
    RUN(lines_fit_up_to_their_bound_and_not_one_byte_above);
    RUN(a_message_line_that_the_server_has_lengthened_fits);
    RUN(messages_fit_up_to_max_message_and_not_one_byte_above);
    RUN(repeated_messages_have_the_same_bounds);
    RUN(an_endless_line_is_refused_and_takes_bounded_memory);
    RUN(memory_follows_what_was_received_and_not_what_was_announced);
    RUN(a_huge_claim_far_inside_a_large_chunk_is_no_overflow);
    RUN(a_line_in_pieces_is_scanned_and_copied_once);
    RUN(a_message_in_pieces_is_copied_once);
    RUN(whole_frames_are_not_copied);
    RUN(consecutive_messages_of_one_subscription_and_subject_make_a_run);
    RUN(consecutive_messages_with_a_reply_make_a_run);
    RUN(consecutive_answers_make_a_run);
    RUN(answers_to_the_inbox_come_with_their_number);
    RUN(headers_other_commands_and_the_lack_of_a_reply_end_a_run);
    RUN(a_flood_of_pings_costs_one_row);
    RUN(rows_go_on_in_the_next_call_when_the_array_is_full);
    RUN(a_call_without_input_changes_nothing);
    RUN(counters_can_be_zeroed);
    RUN(every_error_has_its_text);
    random_streams_give_the_same_rows_however_they_are_cut(runs);
    printf("random_streams_give_the_same_rows_however_they_are_cut: %u runs\n", runs);
    return 0;
}
