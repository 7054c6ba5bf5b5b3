#include "nats_parser.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "nats_scan.h"

/* Tests replace it to make it fail. */
#ifndef NATS_REALLOC
#define NATS_REALLOC realloc
#endif

enum { ST_CLEAN, ST_LINE, ST_PAYLOAD }; /* what the tail holds: nothing, part of a line, a message */

enum {
    MAX_ARGS = 5,
    SPARE_ROW = NATS_ROW_WIDTH,     /* a row that becomes a run needs no more: two items of four ints */
    SMALL_TAIL = 256 * 1024,        /* a tail that served a larger frame is given back */
    DEFAULT_MAX_MESSAGE = 64 * 1024 * 1024
};
/* Rows are int32: a frame's line (at most 1 MiB), payload and CRLFs must fit. */
static const size_t MAX_MESSAGE_CEILING = (size_t)INT32_MAX - 8 * 1024 * 1024;

/* One frame, taken apart. Offsets count from its first byte: whatever size it announces, they fit. */
struct frame {
    int32_t row[NATS_ROW_WIDTH];
    size_t end;  /* one past its last byte */
    size_t size; /* headers + payload */
    int message; /* MSG or HMSG */
};

enum { KIND, SID, S0, S1, R0, R1, H0, P0, P1 };

/* What one call carries from frame to frame. */
struct batch {
    const char *data;
    size_t len;
    int32_t *rows;
    int cap;
    int n;
    int32_t *last;      /* the last row, NULL when there is none */
    size_t prefix;      /* "MSG subject sid " of the last message, offset and length; length 0 when */
    size_t prefix_len;  /* it had headers or was none */
    int32_t subject[2]; /* the last message's subject; [1] is 0 when there was none */
};

/* The frame at offset is wrong; the tail has its first kept bytes, n more are at rest. */
static void fail(nats_parser *p, int error, uint64_t offset, size_t kept, const char *rest,
                 size_t n)
{
    size_t head = kept < NATS_SNIPPET ? kept : NATS_SNIPPET;
    size_t room = NATS_SNIPPET - head;
    if (head != 0)
        memcpy(p->snippet, p->tail, head);
    memcpy(p->snippet + head, rest, n < room ? n : room);
    p->snippet_len = head + (n < room ? n : room);
    p->error = error;
    p->error_offset = offset;
    p->tail_len = 0;
    p->state = ST_CLEAN;
}

/* The bound of a control line, which its first byte decides; 0 for a byte that begins none. */
static size_t line_bound(const nats_parser *p, char first)
{
    switch (first) {
    case 'M': case 'm': case 'H': case 'h': case 'P': case 'p': case '+':
        if (p->max_control_line > NATS_MAX_INFO_LINE)
            return NATS_MAX_INFO_LINE;
        return p->max_control_line + NATS_LINE_EXTRA;
    case 'I': case 'i':
        return NATS_MAX_INFO_LINE;
    case '-':
        return NATS_MAX_ERR_LINE;
    default:
        return 0;
    }
}

/* Whether line[0..len), without LF, is a possible (beginning of a) line: 0 or an error. */
static int check_line(const nats_parser *p, const char *line, size_t len)
{
    size_t bound;
    if (len == 0)
        return 0;
    bound = line_bound(p, line[0]);
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

/* Whether line begins with the verb (given in lower case) and a blank or its end; its length or 0. */
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

static int parse_size(const nats_parser *p, const char *begin, const char *end, size_t *size)
{
    uint64_t value = 0;
    int overflow;
    size_t max = p->max_message < MAX_MESSAGE_CEILING ? p->max_message : MAX_MESSAGE_CEILING;
    if (!nats_decimal(begin, end, &value, &overflow))
        return NATS_PARSER_BAD_SIZE;
    if (overflow || value > max)
        return NATS_PARSER_MESSAGE_TOO_LONG;
    *size = (size_t)value;
    return 0;
}

/* subject sid [reply] [header size] size: args are [begin, end) pointers, headers tells HMSG. */
static int parse_message(const nats_parser *p, const char *base, const char *line,
                         const char *end, int headers, struct frame *f)
{
    const char *arg[MAX_ARGS][2];
    const char *const *reply = NULL;
    size_t header_size = 0;
    int count = 0, least = headers ? 4 : 3, error;

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
    f->row[S0] = (int32_t)(arg[0][0] - base);
    f->row[S1] = (int32_t)(arg[0][1] - base);
    f->row[R0] = reply == NULL ? 0 : (int32_t)(reply[0] - base);
    f->row[R1] = reply == NULL ? 0 : (int32_t)(reply[1] - base);
    error = parse_sid(arg[1][0], arg[1][1], &f->row[SID]);
    if (error == 0 && headers)
        error = parse_size(p, arg[count - 2][0], arg[count - 2][1], &header_size);
    if (error == 0)
        error = parse_size(p, arg[count - 1][0], arg[count - 1][1], &f->size);
    if (error != 0)
        return error;
    if (header_size > f->size)
        return NATS_PARSER_BAD_HEADER_SIZE;
    f->row[H0] = (int32_t)(end + 2 - base); /* behind the line's CRLF */
    f->row[P0] = f->row[H0] + (int32_t)header_size;
    f->row[P1] = f->row[H0] + (int32_t)f->size;
    f->end = (size_t)f->row[P1] + 2;
    f->message = 1;
    return 0;
}

/* A line with a text behind its verb. */
static int parse_text(const char *base, const char *text, const char *end, int kind,
                      struct frame *f)
{
    text = nats_skip_blanks(text, end);
    while (end > text && nats_is_blank(end[-1]))
        end--;
    f->row[KIND] = kind;
    f->row[S0] = (int32_t)(text - base);
    f->row[S1] = (int32_t)(end - base);
    return kind == NATS_ROW_INFO && text == end ? NATS_PARSER_BAD_ARGS : 0;
}

static int parse_bare(const char *rest, const char *end, int kind, struct frame *f)
{
    f->row[KIND] = kind;
    f->row[P1] = 1;
    return nats_skip_blanks(rest, end) == end ? 0 : NATS_PARSER_BAD_ARGS;
}

/* Take apart line[0..lf), whose LF is at lf. Returns 0 or an error. */
static int parse_line(const nats_parser *p, const char *line, size_t lf, struct frame *f)
{
    const char *end = line + lf;
    size_t n;
    int error = check_line(p, line, lf);

    if (error != 0)
        return error;
    if (lf == 0)
        return NATS_PARSER_UNKNOWN_VERB;
    if (end[-1] != '\r')
        return NATS_PARSER_BAD_LINE_END;
    end--;
    memset(f, 0, sizeof *f);
    f->end = lf + 1;
    if ((n = match_verb(line, end, "msg")) != 0)
        return parse_message(p, line, line + n, end, 0, f);
    if ((n = match_verb(line, end, "hmsg")) != 0)
        return parse_message(p, line, line + n, end, 1, f);
    if ((n = match_verb(line, end, "ping")) != 0)
        return parse_bare(line + n, end, NATS_ROW_PING, f);
    if ((n = match_verb(line, end, "pong")) != 0)
        return parse_bare(line + n, end, NATS_ROW_PONG, f);
    if ((n = match_verb(line, end, "+ok")) != 0)
        return parse_bare(line + n, end, NATS_ROW_OK, f);
    if ((n = match_verb(line, end, "info")) != 0)
        return parse_text(line, line + n, end, NATS_ROW_INFO, f);
    if ((n = match_verb(line, end, "-err")) != 0)
        return parse_text(line, line + n, end, NATS_ROW_ERR, f);
    return NATS_PARSER_UNKNOWN_VERB;
}

/* The kind of the run that a row is or may become; 0 for none. */
static int run_kind(const int32_t *row)
{
    switch (row[KIND]) {
    case NATS_ROW_MSG:
        if (row[P0] != row[H0])
            return 0;
        return row[R1] == 0 ? NATS_ROW_RUN : NATS_ROW_REPLY_RUN;
    case NATS_ROW_ANSWER:
        return row[P0] != row[H0] ? 0 : NATS_ROW_ANSWER_RUN;
    case NATS_ROW_RUN: case NATS_ROW_REPLY_RUN: case NATS_ROW_ANSWER_RUN:
        return row[KIND];
    default:
        return 0;
    }
}

/*
 * A message at pos that repeats the last one's subject and sid, has a reply if and only if that one
 * has, and is all there needs nothing but its size: fills R0, R1, P0 and P1 of row. Returns 0 when it
 * must be parsed in full.
 */
static int parse_repeated(const nats_parser *p, const struct batch *b, size_t pos, int32_t *row)
{
    const char *line = b->data + pos, *end = b->data + b->len, *q = line + b->prefix_len;
    size_t size = 0, digits = 0;

    if (b->prefix_len == 0 || b->len - pos < b->prefix_len + 3 ||
        memcmp(line, b->data + b->prefix, b->prefix_len) != 0)
        return 0;
    if (run_kind(b->last) == NATS_ROW_REPLY_RUN) {
        row[R0] = (int32_t)(q - b->data);
        while (q < end && !nats_is_blank(*q) && *q != '\n')
            q++;
        row[R1] = (int32_t)(q - b->data);
        if (row[R0] == row[R1] || q == end || *q++ == '\n')
            return 0;
    }
    for (; q < end && (unsigned)(*q - '0') <= 9; q++, digits++)
        size = size * 10 + (size_t)(*q - '0');
    if (digits == 0 || digits > 9 || end - q < 4 || q[0] != '\r' || q[1] != '\n')
        return 0;
    if (size > p->max_message || (size_t)(q - line) > p->max_control_line ||
        size > (size_t)(end - q) - 4)
        return 0;
    row[P0] = (int32_t)(q + 2 - b->data);
    row[P1] = row[P0] + (int32_t)size;
    return 1;
}

static void add_row(struct batch *b, const int32_t *row)
{
    b->last = b->rows + b->n;
    memcpy(b->last, row, NATS_ROW_WIDTH * sizeof *row);
    b->n += NATS_ROW_WIDTH;
}

/* What a run of this kind keeps of a message. */
static void add_item(struct batch *b, int kind, const int32_t *row)
{
    int32_t *item = b->rows + b->n;
    if (kind != NATS_ROW_RUN)
        *item++ = row[R0];
    if (kind == NATS_ROW_REPLY_RUN)
        *item++ = row[R1];
    *item++ = row[P0];
    *item++ = row[P1];
    b->n = (int)(item - b->rows);
}

/* Add a message to the last row, which is, or now becomes, a run. */
static void add_to_run(struct batch *b, const int32_t *row)
{
    int32_t *run = b->last;
    int kind = run_kind(run);
    if (run[KIND] != kind) {
        add_item(b, kind, run);
        run[KIND] = kind;
        run[R0] = run[R1] = run[H0] = run[P0] = 0;
        run[P1] = 1;
    }
    add_item(b, kind, row);
    run[P1]++;
}

/* Remember what the next message may repeat: line is where this one's frame begins. */
static void remember_message(struct batch *b, struct frame *f, size_t line)
{
    const char *data = b->data;
    int32_t *row = f->row;
    size_t len = (size_t)(row[S1] - row[S0]);
    if (len == (size_t)(b->subject[1] - b->subject[0]) &&
        memcmp(data + b->subject[0], data + row[S0], len) == 0) {
        row[S0] = b->subject[0];
        row[S1] = b->subject[1];
    } else {
        b->subject[0] = row[S0];
        b->subject[1] = row[S1];
    }
    b->prefix = line;
    b->prefix_len = 0;
    if (row[P0] != row[H0])
        return;
    if (row[R1] != 0) {
        if (lower(data[line]) == 'm') /* HMSG has one more size behind the reply */
            b->prefix_len = (size_t)row[R0] - line;
    } else {
        const char *q = data + row[H0] - 2; /* at the line's CR */
        while (nats_is_blank(q[-1]))
            q--;
        while (!nats_is_blank(q[-1]))
            q--;
        b->prefix_len = (size_t)(q - (data + line));
    }
}

/* The number that the subject is behind the inbox's prefix; 0 when it is none, or no int32. */
static int32_t inbox_number(const nats_parser *p, const struct batch *b, const struct frame *f)
{
    const char *q = b->data + f->row[S0] + p->inbox_len, *end = b->data + f->row[S1];
    int32_t number = 0;
    if (end - q > 9 || end <= q || *q == '0') /* ten digits may be too large */
        return 0;
    for (; q < end; q++) {
        if (*q < '0' || *q > '9')
            return 0;
        number = number * 10 + (*q - '0');
    }
    return number;
}

static void add_frame(const nats_parser *p, struct batch *b, struct frame *f, size_t line)
{
    int32_t number, *row = f->row;
    const int32_t *last = b->last;

    if (f->message && p->inbox_sid != 0 && row[SID] == p->inbox_sid && row[R1] == 0 &&
        (number = inbox_number(p, b, f)) != 0) {
        row[KIND] = NATS_ROW_ANSWER;
        row[R0] = number;
        b->prefix_len = 0;
    } else if (f->message) {
        remember_message(b, f, line);
    } else {
        b->prefix_len = 0;
        if (last != NULL && last[KIND] == row[KIND] && row[P1] == 1) {
            b->last[P1]++;
            return;
        }
    }
    if (f->message && last != NULL && run_kind(row) != 0 && run_kind(row) == run_kind(last) &&
        row[SID] == last[SID] && (row[KIND] == NATS_ROW_ANSWER || row[S0] == last[S0]))
        add_to_run(b, row);
    else
        add_row(b, row);
}

/* Append to the tail; total is the frame's size when it is known, else 0. */
static int keep(nats_parser *p, const char *data, size_t n, size_t total)
{
    size_t want = p->tail_len + n;
    if (want > p->tail_cap) {
        size_t cap = want < 128 ? 256 : 2 * want;
        char *tail;
        if (total != 0 && cap > total)
            cap = total;
        tail = NATS_REALLOC(p->tail, cap);
        if (tail == NULL)
            return NATS_PARSER_NO_MEMORY;
        p->tail = tail;
        p->tail_cap = cap;
    }
    if (n != 0)
        memcpy(p->tail + p->tail_len, data, n);
    p->tail_len = want;
    return 0;
}

static int ends_with_crlf(const char *end)
{
    return end[-2] == '\r' && end[-1] == '\n';
}

static void count(nats_parser *p, size_t size)
{
    p->msgs++;
    p->bytes += size;
}

/* Bytes of an unfinished line have arrived: go on with it, to its end if that is here. */
static int continue_line(nats_parser *p, const char *data, size_t len)
{
    const char *lf = memchr(data + p->pos, '\n', len - p->pos);
    size_t n = (lf == NULL ? len : (size_t)(lf - data) + 1) - p->pos;
    struct frame f;
    int error;

    /* The bound is checked before the bytes are kept: no line makes the tail grow beyond it. */
    size_t bound = line_bound(p, p->tail[0]) + 2;
    if (n > bound)
        n = bound + 1;
    error = keep(p, data + p->pos, n, 0);
    if (error != 0)
        return error;
    p->pos += n;
    if (p->tail[p->tail_len - 1] != '\n')
        return check_line(p, p->tail, p->tail_len);
    error = parse_line(p, p->tail, p->tail_len - 1, &f);
    if (error != 0)
        return error;
    memcpy(p->row, f.row, sizeof p->row);
    p->state = ST_PAYLOAD;
    p->need = f.end - p->tail_len;
    return 0;
}

/* The frame that began in an earlier chunk; fills one row when it is complete. */
static int continue_frame(nats_parser *p, const char *data, size_t len, int32_t *rows, int *n)
{
    size_t take, size;
    int error;

    if (p->state == ST_LINE) {
        error = continue_line(p, data, len);
        if (error != 0 || p->state == ST_LINE)
            return error;
    }
    take = len - p->pos < p->need ? len - p->pos : p->need;
    error = keep(p, data + p->pos, take, p->tail_len + p->need);
    if (error != 0)
        return error;
    p->pos += take;
    p->need -= take;
    if (p->need != 0)
        return 0;
    if (p->row[KIND] == NATS_ROW_MSG) {
        size = (size_t)(p->row[P1] - p->row[H0]);
        if (!ends_with_crlf(p->tail + p->tail_len))
            return NATS_PARSER_BAD_PAYLOAD_END;
        count(p, size);
    }
    memcpy(rows, p->row, sizeof p->row);
    *n = NATS_ROW_WIDTH;
    p->frame = p->tail;
    p->frame_len = p->tail_len;
    p->tail_len = 0; /* the bytes stay where they are until the next call */
    p->state = ST_CLEAN;
    return 0;
}

/* Keep what is left of the chunk, the beginning of a frame; f is NULL when its line has no end yet. */
static int begin_tail(nats_parser *p, const struct batch *b, const struct frame *f)
{
    size_t n = b->len - p->pos;
    int error = keep(p, b->data + p->pos, n, f == NULL ? 0 : f->end);
    if (error != 0)
        return error;
    p->state = ST_LINE;
    if (f != NULL) {
        memcpy(p->row, f->row, sizeof p->row);
        p->state = ST_PAYLOAD;
        p->need = f->end - n;
    }
    p->pos = b->len;
    return 0;
}

/* The frame lies at pos of the chunk, all of it: let its offsets count from the chunk. */
static void place(struct frame *f, int32_t pos)
{
    int32_t *row = f->row;
    if (row[S1] != 0) { /* not a bare PING; no offset that is used is 0: a verb precedes it */
        row[S0] += pos;
        row[S1] += pos;
    }
    if (row[R1] != 0) {
        row[R0] += pos;
        row[R1] += pos;
    }
    if (f->message) {
        row[H0] += pos;
        row[P0] += pos;
        row[P1] += pos;
    }
}

/* One frame of the chunk: 0, an error, or 1 when the chunk's rest has become the tail. */
static int parse_frame(nats_parser *p, struct batch *b)
{
    struct frame f;
    const char *data = b->data, *lf;
    size_t pos = p->pos, left = b->len - pos;
    int32_t row[NATS_ROW_WIDTH];
    int error;

    if (parse_repeated(p, b, pos, row)) {
        p->pos = (size_t)row[P1] + 2;
        if (!ends_with_crlf(data + p->pos))
            return NATS_PARSER_BAD_PAYLOAD_END;
        add_to_run(b, row);
        count(p, (size_t)(row[P1] - row[P0]));
        return 0;
    }
    lf = memchr(data + pos, '\n', left);
    error = lf == NULL ? check_line(p, data + pos, left)
                       : parse_line(p, data + pos, (size_t)(lf - (data + pos)), &f);
    if (error != 0)
        return error;
    if (lf == NULL || f.end > left)
        return begin_tail(p, b, lf == NULL ? NULL : &f) != 0 ? NATS_PARSER_NO_MEMORY : 1;
    if (f.message) {
        if (!ends_with_crlf(data + pos + f.end))
            return NATS_PARSER_BAD_PAYLOAD_END;
        count(p, f.size);
    }
    place(&f, (int32_t)pos);
    add_frame(p, b, &f, pos);
    p->pos = pos + f.end;
    return 0;
}

void nats_parser_init(nats_parser *p, size_t max_message)
{
    memset(p, 0, sizeof *p);
    p->max_message = max_message == 0 ? DEFAULT_MAX_MESSAGE : max_message;
    p->max_control_line = NATS_MAX_CONTROL_LINE;
}

void nats_parser_destroy(nats_parser *p)
{
    free(p->tail);
    memset(p, 0, sizeof *p);
}

int nats_parser_feed(nats_parser *p, const void *data, size_t pos, size_t len, int32_t *rows,
                     int cap)
{
    struct batch b;
    int status = 0;

    assert(pos <= len && len <= INT32_MAX && cap >= 64);
    memset(&b, 0, sizeof b);
    b.data = data;
    b.len = len;
    b.rows = rows;
    b.cap = cap;
    p->frame = NULL;
    p->frame_len = 0;
    p->pos = pos;
    if (p->error != 0) {
        p->pos = len;
        return 0;
    }
    if (p->tail_len == 0 && p->tail_cap > SMALL_TAIL) {
        free(p->tail);
        p->tail = NULL;
        p->tail_cap = 0;
    }
    p->stream_offset -= p->tail_len; /* of the frame that is being parsed */
    if (p->state != ST_CLEAN) {
        size_t kept = p->tail_len;
        uint64_t start = p->stream_offset + kept;
        if (pos < len)
            status = continue_frame(p, b.data, len, rows, &b.n);
        if (status != 0) {
            fail(p, status, p->stream_offset, kept, b.data + pos, len - pos);
            p->pos = len;
        } else {
            p->stream_offset = start + (p->pos - pos);
        }
        return b.n;
    }
    while (p->pos < len && cap - b.n >= SPARE_ROW && status == 0) {
        size_t begin = p->pos;
        status = parse_frame(p, &b);
        if (status < 0) {
            fail(p, status, p->stream_offset + (begin - pos), 0, b.data + begin, len - begin);
            p->pos = len;
        }
    }
    p->stream_offset += p->pos - pos;
    assert(b.n <= cap);
    return b.n;
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
