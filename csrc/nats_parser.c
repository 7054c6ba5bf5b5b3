/*
 * nats_parser: how bytes become rows.
 *
 * Theory of operation: rows and runs
 *
 * The problem. A client in Python can only be as fast as its crossings from C to Python are few.
 * Calling a Python function from C for each frame took some 490 ns per message, more than all other
 * work together. A struct or a tuple per message would have to be created, filled and freed.
 *
 * So one call parses a whole read and fills one flat array of int32 of the caller's. Python turns
 * the array into a list once and walks the list with one iterator: 170 to 180 ns per message, the
 * user's callback included. Fields are offsets into the chunk and not copies, because slicing the
 * one `bytes` object is cheaper in Python than a memoryview or a buffer per field, and because most
 * fields of most messages are never looked at.
 *
 * Each int of a row costs some 8 ns to unpack, so the next saving is fewer ints. Messages come in
 * streaks: one publisher, one subject. Consecutive messages of the same sid and subject become a
 * run: one row, then an item of two to four ints per message instead of nine. That took delivery to
 * 130 ns per message. A row becomes a run when its second message comes. SPARE_ROW ints must be
 * free before a frame is parsed: a new row needs nine ints, a row that becomes a run two items of
 * four.
 *
 * Streaks also save parsing. The batch remembers where the last message's "MSG subject sid "
 * stands. When the next frame begins with the same bytes, only the reply and the size are read
 * (parse_repeated): 8 ns per frame of 100 bytes against 37 ns for the full parse.
 *
 * The invariants:
 *  - Offsets of one call's rows refer to one buffer: the chunk or, for a frame that straddles
 *    chunks, the assembled copy. A straddling frame comes back alone for this reason.
 *  - A run's messages are adjacent in the stream, so the order of delivery is the order of arrival.
 *  - Two messages of one call have the same s0 if and only if they have equal subjects in a row.
 *  - No byte of an unfinished line is scanned twice and no byte of an unfinished frame is copied
 *    more often than growing by doubling needs: a frame fed byte by byte costs linear time.
 *
 * Reads of 64 KiB were best: with 256 KiB, keeping the unfinished frame at the end (the tail) cost
 * 50 ns per message.
 */
#include "nats_parser.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "nats_scan.h"

/* The tests define this macro to make allocations fail. */
#ifndef NATS_REALLOC
#define NATS_REALLOC realloc
#endif

/* What the tail holds: nothing, part of a line, or a line and part of its payload. */
enum { STATE_CLEAN, STATE_LINE, STATE_PAYLOAD };

enum {
    MAX_ARGS = 5,
    SPARE_ROW = NATS_ROW_WIDTH, /* ints that one frame may add: see above */
    SMALL_TAIL = 256 * 1024,    /* a tail that served a larger frame is given back */
    DEFAULT_MAX_MESSAGE = 64 * 1024 * 1024
};
/* Rows are int32: the sum of a frame's line (at most 1 MiB), payload and CRLFs must fit. */
static const size_t MAX_MESSAGE_CEILING = (size_t)INT32_MAX - 8 * 1024 * 1024;

/* One frame, taken apart. Its offsets count from its first byte, so that they fit whatever size it
   announces, wherever in the chunk it begins. */
struct frame {
    int32_t row[NATS_ROW_WIDTH];
    size_t end;  /* one past the frame's last byte */
    size_t size; /* headers + payload */
    int message; /* MSG or HMSG */
};

/* The columns of a row: see nats_parser.h. */
enum { KIND, SID, S0, S1, R0, R1, H0, P0, P1 };

/* What one call carries from frame to frame. */
struct batch {
    const char *data;
    size_t len;
    int32_t *rows;
    int cap;
    int used;      /* ints of rows that are filled */
    int32_t *last; /* the last row, NULL before the first */
    size_t prefix; /* offset and length of the last message's "MSG subject sid ". The length is 0 */
    size_t prefix_len;  /* when the last frame was no message, or one that cannot be repeated */
    int32_t subject[2]; /* the last message's subject; [1] is 0 before the first message */
};

/* Record a sticky error for the frame at this stream offset, whose first bytes are tail[0..kept)
   followed by rest[0..n). */
static void fail(nats_parser *parser, int error, uint64_t offset, size_t kept, const char *rest,
                 size_t n)
{
    size_t head, room;
    if (parser->skipped != 0) { /* the snippet ends where the skipped bytes begin */
        size_t before = (size_t)parser->row[P1] - parser->skipped;
        kept = kept < before ? kept : before;
        n = 0;
    }
    head = kept < NATS_SNIPPET ? kept : NATS_SNIPPET;
    room = NATS_SNIPPET - head;
    assert(error < 0 && kept <= parser->tail_len);
    if (head != 0)
        memcpy(parser->snippet, parser->tail, head);
    memcpy(parser->snippet + head, rest, n < room ? n : room);
    parser->snippet_len = head + (n < room ? n : room);
    parser->error = error;
    parser->error_offset = offset;
    parser->tail_len = 0;
    parser->skipped = 0;
    parser->state = STATE_CLEAN;
}

/* Return the bound of a control line, which its first byte decides; 0 when no line begins so. */
static size_t line_bound(const nats_parser *parser, char first)
{
    switch (first) {
    case 'M':
    case 'm':
    case 'H':
    case 'h':
    case 'P':
    case 'p':
    case '+':
        if (parser->max_control_line > NATS_MAX_INFO_LINE)
            return NATS_MAX_INFO_LINE;
        return parser->max_control_line + NATS_LINE_EXTRA;
    case 'I':
    case 'i':
        return NATS_MAX_INFO_LINE;
    case '-':
        return NATS_MAX_ERR_LINE;
    default:
        return 0;
    }
}

/* Check line[0..len), a line without its LF or the beginning of one. Return 0 or an error. */
static int check_line(const nats_parser *parser, const char *line, size_t len)
{
    size_t bound;
    if (len == 0)
        return 0;
    bound = line_bound(parser, line[0]);
    if (bound == 0)
        return NATS_PARSER_UNKNOWN_VERB;
    if (line[len - 1] == '\r')
        len--;
    return len > bound ? NATS_PARSER_LINE_TOO_LONG : 0;
}

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* Return the length of the verb (given in lower case) if the line begins with it, and a blank or
   the line's end follows; else 0. */
static size_t match_verb(const char *line, const char *end, const char *verb)
{
    size_t i;
    for (i = 0; verb[i] != '\0'; i++) {
        if (line + i == end || lower(line[i]) != verb[i])
            return 0;
    }
    return line + i == end || nats_is_blank(line[i]) ? i : 0;
}

static int parse_sid(const char *begin, const char *end, int32_t *sid)
{
    uint64_t value = 0;
    int overflow;
    if (!nats_decimal(begin, end, &value, &overflow) || overflow)
        return NATS_PARSER_BAD_SID;
    *sid = value > INT32_MAX ? 0 : (int32_t)value;
    return 0;
}

static int parse_size(const nats_parser *parser, const char *begin, const char *end, size_t *size)
{
    uint64_t value = 0;
    int overflow;
    size_t max =
        parser->max_message < MAX_MESSAGE_CEILING ? parser->max_message : MAX_MESSAGE_CEILING;
    if (!nats_decimal(begin, end, &value, &overflow))
        return NATS_PARSER_BAD_SIZE;
    if (overflow || value > max)
        return NATS_PARSER_MESSAGE_TOO_LONG;
    *size = (size_t)value;
    return 0;
}

/* Parse the arguments "subject sid [reply] [header size] size"; `headers` is 1 for HMSG. */
static int parse_message(const nats_parser *parser, const char *base, const char *line,
                         const char *end, int headers, struct frame *frame)
{
    const char *arg[MAX_ARGS][2]; /* begin and end */
    const char *const *reply = NULL;
    size_t header_size = 0;
    int count = 0, least = headers ? 4 : 3, error;
    assert(least < MAX_ARGS);

    for (line = nats_skip_blanks(line, end); line < end; line = nats_skip_blanks(line, end)) {
        if (count == least + 1)
            return NATS_PARSER_BAD_ARGS;
        arg[count][0] = line;
        line = nats_skip_token(line, end);
        arg[count++][1] = line;
    }
    if (count < least)
        return NATS_PARSER_BAD_ARGS;
    if (count > least)
        reply = arg[2];
    frame->row[S0] = (int32_t)(arg[0][0] - base);
    frame->row[S1] = (int32_t)(arg[0][1] - base);
    frame->row[R0] = reply == NULL ? 0 : (int32_t)(reply[0] - base);
    frame->row[R1] = reply == NULL ? 0 : (int32_t)(reply[1] - base);
    error = parse_sid(arg[1][0], arg[1][1], &frame->row[SID]);
    if (error == 0 && headers)
        error = parse_size(parser, arg[count - 2][0], arg[count - 2][1], &header_size);
    if (error == 0)
        error = parse_size(parser, arg[count - 1][0], arg[count - 1][1], &frame->size);
    if (error != 0)
        return error;
    if (header_size > frame->size)
        return NATS_PARSER_BAD_HEADER_SIZE;
    frame->row[H0] = (int32_t)(end + 2 - base); /* after the line's CRLF */
    frame->row[P0] = frame->row[H0] + (int32_t)header_size;
    frame->row[P1] = frame->row[H0] + (int32_t)frame->size;
    frame->end = (size_t)frame->row[P1] + 2;
    assert(frame->row[S0] > 0 && frame->row[H0] <= frame->row[P0] &&
           frame->row[P0] <= frame->row[P1]);
    frame->message = 1;
    return 0;
}

/* Parse a line whose verb is followed by a text: INFO, -ERR. */
static int parse_text(const char *base, const char *text, const char *end, int kind,
                      struct frame *frame)
{
    text = nats_skip_blanks(text, end);
    while (end > text && nats_is_blank(end[-1]))
        end--;
    frame->row[KIND] = kind;
    frame->row[S0] = (int32_t)(text - base);
    frame->row[S1] = (int32_t)(end - base);
    return kind == NATS_ROW_INFO && text == end ? NATS_PARSER_BAD_ARGS : 0;
}

/* Parse a line that is only a verb. */
static int parse_bare(const char *rest, const char *end, int kind, struct frame *frame)
{
    frame->row[KIND] = kind;
    frame->row[P1] = 1;
    return nats_skip_blanks(rest, end) == end ? 0 : NATS_PARSER_BAD_ARGS;
}

/* Parse the line at `line`, whose LF is line[lf]. Return 0 or an error. */
static int parse_line(const nats_parser *parser, const char *line, size_t lf, struct frame *frame)
{
    const char *end = line + lf;
    size_t n;
    int error = check_line(parser, line, lf);

    if (error != 0)
        return error;
    if (lf == 0)
        return NATS_PARSER_UNKNOWN_VERB;
    if (end[-1] != '\r')
        return NATS_PARSER_BAD_LINE_END;
    end--;
    memset(frame, 0, sizeof *frame);
    frame->end = lf + 1;
    if ((n = match_verb(line, end, "msg")) != 0)
        return parse_message(parser, line, line + n, end, 0, frame);
    if ((n = match_verb(line, end, "hmsg")) != 0)
        return parse_message(parser, line, line + n, end, 1, frame);
    if ((n = match_verb(line, end, "ping")) != 0)
        return parse_bare(line + n, end, NATS_ROW_PING, frame);
    if ((n = match_verb(line, end, "pong")) != 0)
        return parse_bare(line + n, end, NATS_ROW_PONG, frame);
    if ((n = match_verb(line, end, "+ok")) != 0)
        return parse_bare(line + n, end, NATS_ROW_OK, frame);
    if ((n = match_verb(line, end, "info")) != 0)
        return parse_text(line, line + n, end, NATS_ROW_INFO, frame);
    if ((n = match_verb(line, end, "-err")) != 0)
        return parse_text(line, line + n, end, NATS_ROW_ERR, frame);
    return NATS_PARSER_UNKNOWN_VERB;
}

/* Return the kind of the run that a row is or may become; 0 when it can be part of none. */
static int run_kind(const int32_t *row)
{
    switch (row[KIND]) {
    case NATS_ROW_MSG:
        if (row[P0] != row[H0])
            return 0;
        return row[R1] == 0 ? NATS_ROW_RUN : NATS_ROW_REPLY_RUN;
    case NATS_ROW_ANSWER:
        return row[P0] != row[H0] ? 0 : NATS_ROW_ANSWER_RUN;
    case NATS_ROW_RUN:
    case NATS_ROW_REPLY_RUN:
    case NATS_ROW_ANSWER_RUN:
        return row[KIND];
    default:
        return 0;
    }
}

/*
 * Parse a message at pos that repeats the last one: same subject and sid, a reply if and only if
 * the last one has a reply. Only the reply and the size are read; R0, R1, P0 and P1 of row are
 * filled. Return 0 when the frame must be parsed in full, because it is no repetition or has not
 * come whole.
 */
static int parse_repeated(const nats_parser *parser, const struct batch *batch, size_t pos,
                          int32_t *row)
{
    const char *line = batch->data + pos, *end = batch->data + batch->len,
               *at = line + batch->prefix_len;
    size_t size = 0, digits = 0;

    if (batch->prefix_len == 0 || batch->len - pos < batch->prefix_len + 3 ||
        memcmp(line, batch->data + batch->prefix, batch->prefix_len) != 0)
        return 0;
    if (run_kind(batch->last) == NATS_ROW_REPLY_RUN) {
        row[R0] = (int32_t)(at - batch->data);
        while (at < end && ((unsigned char)*at > ' ' || (!nats_is_blank(*at) && *at != '\n')))
            at++;
        row[R1] = (int32_t)(at - batch->data);
        if (row[R0] == row[R1] || at == end || *at++ == '\n')
            return 0;
    }
    for (; at < end && (unsigned)(*at - '0') <= 9; at++, digits++)
        size = size * 10 + (size_t)(*at - '0');
    if (digits == 0 || digits > 9 || end - at < 4 || at[0] != '\r' || at[1] != '\n')
        return 0;
    if (size > parser->max_message || (size_t)(at - line) > parser->max_control_line ||
        size > (size_t)(end - at) - 4)
        return 0;
    row[P0] = (int32_t)(at + 2 - batch->data);
    row[P1] = row[P0] + (int32_t)size;
    return 1;
}

static void add_row(struct batch *batch, const int32_t *row)
{
    assert(batch->used + NATS_ROW_WIDTH <= batch->cap);
    batch->last = batch->rows + batch->used;
    memcpy(batch->last, row, NATS_ROW_WIDTH * sizeof *row);
    batch->used += NATS_ROW_WIDTH;
}

/* Add the item of a message to a run of this kind. */
static void add_item(struct batch *batch, int kind, const int32_t *row)
{
    int32_t *item = batch->rows + batch->used;
    if (kind != NATS_ROW_RUN)
        *item++ = row[R0];
    if (kind == NATS_ROW_REPLY_RUN)
        *item++ = row[R1];
    *item++ = row[P0];
    *item++ = row[P1];
    assert(item <= batch->rows + batch->cap);
    batch->used = (int)(item - batch->rows);
}

/* Add a message to the last row, which is a run or becomes one. */
static void add_to_run(struct batch *batch, const int32_t *row)
{
    int32_t *run = batch->last;
    int kind = run_kind(run);
    assert(kind != 0);
    if (run[KIND] != kind) {
        add_item(batch, kind, run);
        run[KIND] = kind;
        run[R0] = run[R1] = run[H0] = run[P0] = 0;
        run[P1] = 1;
    }
    add_item(batch, kind, row);
    run[P1]++;
}

/* Remember what the next message may repeat. `line` is where this message's frame begins. */
static void remember_message(struct batch *batch, struct frame *frame, size_t line)
{
    const char *data = batch->data;
    int32_t *row = frame->row;
    size_t len = (size_t)(row[S1] - row[S0]);
    if (len == (size_t)(batch->subject[1] - batch->subject[0]) &&
        memcmp(data + batch->subject[0], data + row[S0], len) == 0) {
        row[S0] = batch->subject[0];
        row[S1] = batch->subject[1];
    } else {
        batch->subject[0] = row[S0];
        batch->subject[1] = row[S1];
    }
    batch->prefix = line;
    batch->prefix_len = 0;
    if (row[P0] != row[H0])
        return;
    if (row[R1] != 0) {
        if (lower(data[line]) == 'm') /* HMSG has one more size after the reply */
            batch->prefix_len = (size_t)row[R0] - line;
    } else {
        const char *at = data + row[H0] - 2; /* at the line's CR */
        while (nats_is_blank(at[-1]))
            at--;
        while (!nats_is_blank(at[-1]))
            at--;
        batch->prefix_len = (size_t)(at - (data + line));
    }
}

/* Return the number that follows the inbox's prefix in the subject; 0 when no number does, or one
   that may not fit an int32. */
static int32_t inbox_number(const nats_parser *parser, const struct batch *batch,
                            const struct frame *frame)
{
    const char *at = batch->data + frame->row[S0] + parser->inbox_len,
               *end = batch->data + frame->row[S1];
    int32_t number = 0;
    if (end - at > 9 || end <= at || *at == '0') /* ten digits may be too large */
        return 0;
    for (; at < end; at++) {
        if (*at < '0' || *at > '9')
            return 0;
        number = number * 10 + (*at - '0');
    }
    return number;
}

/* Add a frame of the chunk to the rows: as an item of the last run, by counting, or as a row.
   `line` is where the frame begins. */
static void add_frame(const nats_parser *parser, struct batch *batch, struct frame *frame,
                      size_t line)
{
    int32_t number, *row = frame->row;
    const int32_t *last = batch->last;

    if (frame->message && parser->inbox_sid != 0 && row[SID] == parser->inbox_sid && row[R1] == 0 &&
        (number = inbox_number(parser, batch, frame)) != 0) {
        row[KIND] = NATS_ROW_ANSWER;
        row[R0] = number;
        batch->prefix_len = 0;
    } else if (frame->message) {
        remember_message(batch, frame, line);
    } else {
        batch->prefix_len = 0;
        if (last != NULL && last[KIND] == row[KIND] && row[P1] == 1) {
            batch->last[P1]++;
            return;
        }
    }
    if (frame->message && last != NULL && run_kind(row) != 0 && run_kind(row) == run_kind(last) &&
        row[SID] == last[SID] && (row[KIND] == NATS_ROW_ANSWER || row[S0] == last[S0]))
        add_to_run(batch, row);
    else
        add_row(batch, row);
}

/* Append to the tail. `total` is the frame's size when known, else 0. Return 0 or an error. */
NATS_MUST_CHECK static int keep(nats_parser *parser, const char *data, size_t n, size_t total)
{
    size_t want = parser->tail_len + n;
    if (want > parser->tail_cap) {
        size_t cap = want < 128 ? 256 : 2 * want;
        char *tail;
        if (total != 0 && cap > total)
            cap = total;
        tail = (char *)NATS_REALLOC(parser->tail, cap);
        if (tail == NULL)
            return NATS_PARSER_NO_MEMORY;
        parser->tail = tail;
        parser->tail_cap = cap;
    }
    if (n != 0)
        memcpy(parser->tail + parser->tail_len, data, n);
    parser->tail_len = want;
    assert(parser->tail_len <= parser->tail_cap);
    return 0;
}

static int ends_with_crlf(const char *end)
{
    return end[-2] == '\r' && end[-1] == '\n';
}

static void count(nats_parser *parser, size_t size)
{
    parser->msgs++;
    parser->bytes += size;
}

/* Continue an unfinished line with the chunk's bytes, to the line's end if that has come. */
NATS_MUST_CHECK static int continue_line(nats_parser *parser, const char *data, size_t len)
{
    const char *lf = (const char *)memchr(data + parser->pos, '\n', len - parser->pos);
    size_t n = (lf == NULL ? len : (size_t)(lf - data) + 1) - parser->pos;
    struct frame frame;
    int error;

    assert(parser->tail_len > 0 && parser->pos < len);
    /* Checked before the bytes are kept, so that no line makes the tail grow beyond its bound. */
    size_t bound = line_bound(parser, parser->tail[0]) + 2;
    if (n > bound)
        n = bound + 1;
    error = keep(parser, data + parser->pos, n, 0);
    if (error != 0)
        return error;
    parser->pos += n;
    if (parser->tail[parser->tail_len - 1] != '\n')
        return check_line(parser, parser->tail, parser->tail_len);
    error = parse_line(parser, parser->tail, parser->tail_len - 1, &frame);
    if (error != 0)
        return error;
    memcpy(parser->row, frame.row, sizeof parser->row);
    parser->state = STATE_PAYLOAD;
    assert(frame.end >= parser->tail_len);
    parser->need = frame.end - parser->tail_len;
    return 0;
}

/* Continue the frame that began in an earlier chunk; fill one row when it is complete. */
NATS_MUST_CHECK static int continue_frame(nats_parser *parser, const char *data, size_t len,
                                          int32_t *rows, int *n)
{
    size_t take, size;
    int error;

    if (parser->state == STATE_LINE) {
        error = continue_line(parser, data, len);
        if (error != 0 || parser->state == STATE_LINE)
            return error;
    }
    assert(parser->state == STATE_PAYLOAD);
    take = len - parser->pos < parser->need ? len - parser->pos : parser->need;
    error = keep(parser, data + parser->pos, take, parser->tail_len + parser->need);
    if (error != 0)
        return error;
    parser->pos += take;
    parser->need -= take;
    if (parser->need != 0)
        return 0;
    if (parser->row[KIND] == NATS_ROW_MSG) {
        size = (size_t)(parser->row[P1] - parser->row[H0]);
        if (!ends_with_crlf(parser->tail + parser->tail_len))
            return NATS_PARSER_BAD_PAYLOAD_END;
        count(parser, size);
    }
    memcpy(rows, parser->row, sizeof parser->row);
    *n = NATS_ROW_WIDTH;
    parser->frame = parser->tail;
    parser->frame_len = parser->tail_len;
    parser->tail_len = 0; /* the bytes stay in place until the next call */
    parser->skipped = 0;
    parser->state = STATE_CLEAN;
    return 0;
}

/* Keep the rest of the chunk, the beginning of a frame. `frame` is NULL when its line is
   unfinished. */
NATS_MUST_CHECK static int begin_tail(nats_parser *parser, const struct batch *batch,
                                      const struct frame *frame)
{
    size_t n = batch->len - parser->pos;
    int error;
    assert(parser->tail_len == 0 && n > 0);
    error = keep(parser, batch->data + parser->pos, n, frame == NULL ? 0 : frame->end);
    if (error != 0)
        return error;
    parser->state = STATE_LINE;
    if (frame != NULL) {
        memcpy(parser->row, frame->row, sizeof parser->row);
        parser->state = STATE_PAYLOAD;
        assert(frame->end > n);
        parser->need = frame->end - n;
    }
    parser->pos = batch->len;
    return 0;
}

/* Let the offsets of a whole frame, which begins at pos, count from the chunk's first byte. */
static void place(struct frame *frame, int32_t pos)
{
    int32_t *row = frame->row;
    if (row[S1] != 0) { /* not a bare PING: a verb precedes every offset that is in use */
        row[S0] += pos;
        row[S1] += pos;
    }
    if (row[R1] != 0) {
        row[R0] += pos;
        row[R1] += pos;
    }
    if (frame->message) {
        row[H0] += pos;
        row[P0] += pos;
        row[P1] += pos;
    }
}

/* Parse one frame of the chunk. Return 0, an error, or 1 when the rest has become the tail. */
NATS_MUST_CHECK static int parse_frame(nats_parser *parser, struct batch *batch)
{
    struct frame frame;
    const char *data = batch->data, *lf;
    size_t pos = parser->pos, left = batch->len - pos;
    int32_t row[NATS_ROW_WIDTH];
    int error;

    if (parse_repeated(parser, batch, pos, row)) {
        parser->pos = (size_t)row[P1] + 2;
        if (!ends_with_crlf(data + parser->pos))
            return NATS_PARSER_BAD_PAYLOAD_END;
        add_to_run(batch, row);
        count(parser, (size_t)(row[P1] - row[P0]));
        return 0;
    }
    lf = (const char *)memchr(data + pos, '\n', left);
    error = lf == NULL ? check_line(parser, data + pos, left)
                       : parse_line(parser, data + pos, (size_t)(lf - (data + pos)), &frame);
    if (error != 0)
        return error;
    if (lf == NULL || frame.end > left)
        return begin_tail(parser, batch, lf == NULL ? NULL : &frame) != 0 ? NATS_PARSER_NO_MEMORY
                                                                          : 1;
    if (frame.message) {
        if (!ends_with_crlf(data + pos + frame.end))
            return NATS_PARSER_BAD_PAYLOAD_END;
        count(parser, frame.size);
    }
    place(&frame, (int32_t)pos);
    add_frame(parser, batch, &frame, pos);
    parser->pos = pos + frame.end;
    return 0;
}

void nats_parser_init(nats_parser *parser, size_t max_message)
{
    memset(parser, 0, sizeof *parser);
    parser->max_message = max_message == 0 ? DEFAULT_MAX_MESSAGE : max_message;
    parser->max_control_line = NATS_MAX_CONTROL_LINE;
}

void nats_parser_destroy(nats_parser *parser)
{
    free(parser->tail);
    memset(parser, 0, sizeof *parser);
}

int nats_parser_feed(nats_parser *parser, const void *data, size_t pos, size_t len, int32_t *rows,
                     int cap)
{
    struct batch batch;
    int status = 0;

    assert(pos <= len && len <= INT32_MAX && cap >= 64);
    memset(&batch, 0, sizeof batch);
    batch.data = (const char *)data;
    batch.len = len;
    batch.rows = rows;
    batch.cap = cap;
    parser->frame = NULL;
    parser->frame_len = 0;
    parser->pos = pos;
    if (parser->error != 0) {
        parser->pos = len;
        return 0;
    }
    if (parser->tail_len == 0 && parser->tail_cap > SMALL_TAIL) {
        free(parser->tail);
        parser->tail = NULL;
        parser->tail_cap = 0;
    }
    parser->stream_offset -=
        parser->tail_len + parser->skipped; /* where the frame that is being parsed begins */
    if (parser->state != STATE_CLEAN) {
        size_t kept = parser->tail_len;
        uint64_t start = parser->stream_offset + kept + parser->skipped;
        if (pos < len)
            status = continue_frame(parser, batch.data, len, rows, &batch.used);
        if (status != 0) {
            fail(parser, status, parser->stream_offset, kept, batch.data + pos, len - pos);
            parser->pos = len;
        } else {
            parser->stream_offset = start + (parser->pos - pos);
        }
        return batch.used;
    }
    while (parser->pos < len && cap - batch.used >= SPARE_ROW && status == 0) {
        size_t begin = parser->pos;
        status = parse_frame(parser, &batch);
        if (status < 0) {
            fail(parser, status, parser->stream_offset + (begin - pos), 0, batch.data + begin,
                 len - begin);
            parser->pos = len;
        }
    }
    parser->stream_offset += parser->pos - pos;
    assert(batch.used <= cap);
    return batch.used;
}

size_t nats_parser_unfinished(const nats_parser *parser, const char **begin, size_t *size)
{
    const int32_t *row = parser->row;
    if (parser->state != STATE_PAYLOAD || row[KIND] != NATS_ROW_MSG ||
        parser->tail_len <= (size_t)row[P0] || parser->need <= 2)
        return 0;
    *begin = parser->tail + row[P0];
    *size = (size_t)(row[P1] - row[P0]);
    return *size + 2 - parser->need;
}

void nats_parser_skip(nats_parser *parser, size_t n)
{
    assert(parser->state == STATE_PAYLOAD && n + 2 <= parser->need);
    parser->need -= n;
    parser->skipped += n;
    parser->stream_offset += n;
}

const char *nats_parser_strerror(int error)
{
    switch (error) {
    case NATS_PARSER_OK:
        return "no error";
    case NATS_PARSER_UNKNOWN_VERB:
        return "unknown command";
    case NATS_PARSER_BAD_ARGS:
        return "wrong number of arguments";
    case NATS_PARSER_BAD_SID:
        return "invalid subscription id";
    case NATS_PARSER_BAD_SIZE:
        return "invalid message size";
    case NATS_PARSER_BAD_HEADER_SIZE:
        return "header size above message size";
    case NATS_PARSER_BAD_LINE_END:
        return "line does not end with CRLF";
    case NATS_PARSER_BAD_PAYLOAD_END:
        return "payload does not end with CRLF";
    case NATS_PARSER_LINE_TOO_LONG:
        return "control line too long";
    case NATS_PARSER_MESSAGE_TOO_LONG:
        return "message too long";
    case NATS_PARSER_NO_MEMORY:
        return "out of memory";
    default:
        return "unknown error";
    }
}
