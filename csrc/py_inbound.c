/*
 * py_inbound: bytes in, callbacks called. The base of `protocol.Session`, and that of `Subscription`.
 *
 * Theory of operation: one cursor
 *
 * The parser fills rows of ints for all that is complete in a chunk (nats_parser.h). An Inbound has one
 * cursor into them: `at`, the next int, and for a run of messages with one subject `run_left`, how many of
 * its items come next. `walk` moves the cursor past an item, then calls its callback. So at each call of
 * Python code the cursor names exactly what has not been delivered, and everything else follows:
 *
 *  - Nested delivery. A callback may run the loop and so deliver again. The inner call goes on where the
 *    cursor stands, then parses more. When it returns, the outer call finds nothing left, or what came
 *    since: it reads the cursor again after each call.
 *  - Exceptions. One that must stop the loop ends `walk` with the cursor after its message. The next
 *    delivery goes on from there.
 *  - A slice of time that is over ends `walk` in the same way.
 *  - `close`, also in a callback, sets the cursor to the end.
 *  - No memory for a message's objects: the cursor has not been moved, so that no message is lost.
 *
 * Memory. The rows and the bytes of a read lie in a block of about 160 KiB. A connection has one only while
 * it has something to deliver; up to MOST_FREE blocks are kept for the next connection that has.
 * Fields are copied into Python objects at once, so that no callback sees a block.
 *
 * Large messages. Once a sixteenth of a large payload has come, the rest is received straight into the bytes
 * object that the callback gets. Not before, so that memory follows what a server sends, never what it announces.
 *
 * Time. `deliver` gives way after a slice of time, so that thousands of messages of one read do not keep
 * other watchers from their turn. A look at the clock takes as long as half a message. So the clock is looked
 * at after every `stride` messages, and the stride follows the callbacks' speed: 1 for slow ones.
 */
#include "py_call.h"
#include "py_hot.h"
#include "py_pages.h"

#include <assert.h>
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

enum {
    ROWS_CAP = 8192, /* 32 KiB of ints */
    READ_SIZE = 128 *
        1024, /* more than a message of 64 KiB; larger ones cost small messages cache misses */
    MOST_FREE = 4,
    LARGE = 256 * 1024, /* a payload from this size on is received into its own bytes object */
    MOST_AT_ONCE = 1024 * 1024,
    MOST_STRIDE = 16
};

static const int64_t SHORT = 100 * 1000, LONG = 1000 * 1000; /* ns between two looks at the clock */

enum { KIND, SID, S0, S1, R0, R1, H0, P0, P1 };

struct block {
    struct block *next;
    int32_t rows[ROWS_CAP];
    char bytes[READ_SIZE];
};

typedef struct {
    PyObject_HEAD
    nats_parser parser;
    PyObject *subs;    /* dict: the subscriptions by sid */
    PyObject *waiting; /* Waiting: the callbacks of requests by number */
    PyObject *
        schedule; /* called before callbacks are: one may nest the loop, which must deliver the rest */
    struct block *block;
    /* Input: the bytes being parsed, in `chunk` or, when that is NULL, in the block, and the chunks after it. */
    PyObject *chunk;
    PyObject *queue;
    size_t pos, end;
    /* The cursor. */
    const char *data; /* what the offsets of the rows refer to */
    int at, filled;
    int run_kind, run_left;
    nats_py_subscription *run_sub; /* of the run, or of the last message that had another subject */
    int32_t run_sid;
    PyObject *subject;  /* of the run, or the last one that was decoded */
    int32_t subject_at; /* its offset in the rows' data, -1: none */
    /* A large payload that is being received, or whose row comes next: how much of it there is. */
    PyObject *large;
    size_t large_len;
    int32_t pongs; /* PONGs of the last row that have not been reported */
    int depth;     /* deliveries on the stack */
    int stride;
    char awaits_info; /* the server's first line must be INFO */
    char closed;
    char reading; /* another thread may run now */
    char failed;  /* the parser's error has been reported */
} inbound;

static struct block *free_blocks;
static int n_free_blocks;
static PyTypeObject *subscription_type, *inbound_type;
/* The methods of `protocol.Session` for what is rare. */
static PyObject *name_control, *name_pong, *name_raised, *name_answer, *name_to_inbox,
    *name_arrived, *name_protocol_failed, *name_no_info;

/* ---- memory ---- */

static int take_block(inbound *self)
{
    if (self->block != NULL)
        return 0;
    if (free_blocks != NULL) {
        self->block = free_blocks;
        free_blocks = free_blocks->next;
        n_free_blocks--;
        return 0;
    }
    self->block = malloc(sizeof *self->block);
    if (self->block == NULL)
        PyErr_NoMemory();
    return self->block == NULL ? -1 : 0;
}

/* Does nothing while another thread receives into the block, which then gives it back. */
static void give_block(inbound *self)
{
    struct block *block = self->block;
    if (block == NULL || self->reading)
        return;
    self->block = NULL;
    if (n_free_blocks < MOST_FREE) {
        block->next = free_blocks;
        free_blocks = block;
        n_free_blocks++;
    } else {
        free(block);
    }
}

/* Whether rows are left to deliver. */
static int has_rows(const inbound *self)
{
    return self->at < self->filled || self->run_left != 0 || self->pongs != 0;
}

static int is_drained(const inbound *self)
{
    return self->closed ||
           (!has_rows(self) && self->pos >= self->end && PyList_Size(self->queue) == 0 &&
            (self->parser.error == 0 || self->failed));
}

/* Set the cursor to the end, and forget what the rows refer to. */
static void forget_rows(inbound *self)
{
    nats_py_subscription *sub = self->run_sub;
    PyObject *subject = self->subject;
    self->at = self->filled = self->run_left = 0;
    self->pongs = 0;
    self->subject_at = -1;
    self->run_sub = NULL;
    self->subject = NULL;
    Py_XDECREF((PyObject *)sub); /* may call us, by a finalizer */
    Py_XDECREF(subject);
}

/* ---- one message ---- */

static PyObject *get_bytes(const inbound *self, int32_t begin, int32_t end)
{
    return PyBytes_FromStringAndSize(self->data + begin, (Py_ssize_t)(end - begin));
}

static PyObject *get_text(const inbound *self, int32_t begin, int32_t end)
{
    return PyUnicode_DecodeUTF8(self->data + begin, (Py_ssize_t)(end - begin), "surrogateescape");
}

/* Hand what a callback raised to `Session._raised`. Return -1, with an exception, when the loop must stop. */
static int raised(inbound *self, PyObject *callback)
{
    PyObject *type, *value, *trace, *done;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace != NULL && value != NULL)
        PyException_SetTraceback(value, trace);
    done = PyObject_CallMethodObjArgs((PyObject *)self, name_raised, value, callback, NULL);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Use up the result of a callback. */
static int after(inbound *self, PyObject *callback, PyObject *result)
{
    if (result == NULL)
        return raised(self, callback);
    Py_DECREF(result);
    return 0;
}

/* Use up the result of one of our own methods, whose exceptions stop the loop. */
static int checked(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* Decode a subject, unless it is the one that was decoded last. */
static int find_subject(inbound *self, const int32_t *row)
{
    PyObject *subject;
    if (self->subject_at == row[S0] && self->subject != NULL)
        return 0;
    subject = get_text(self, row[S0], row[S1]);
    if (subject == NULL)
        return -1;
    Py_XDECREF(self->subject);
    self->subject = subject;
    self->subject_at = row[S0];
    return 0;
}

/* Find a subscription. *sub becomes a new reference, or NULL when there is none. The last one that was found is
   still in the table if it is fast: then it is open, and no sid is used twice. */
static int find_sub(inbound *self, int32_t sid, nats_py_subscription **sub)
{
    PyObject *key, *found;
    *sub = self->run_sub;
    if (*sub != NULL && self->run_sid == sid && (*sub)->fast) {
        Py_INCREF((PyObject *)*sub);
        return 0;
    }
    *sub = NULL;
    key = PyLong_FromLong(sid);
    if (key == NULL)
        return -1;
    found = PyDict_GetItemWithError(self->subs, key);
    Py_DECREF(key);
    if (found == NULL)
        return PyErr_Occurred() != NULL ? -1 : 0;
    if (PyObject_TypeCheck(found, subscription_type)) {
        Py_INCREF(found);
        *sub = (nats_py_subscription *)found;
    }
    return 0;
}

/* The objects of a message. */
struct message {
    PyObject *subject, *payload, *reply, *headers;
};

static void release(struct message *m)
{
    Py_XDECREF(m->subject);
    Py_XDECREF(m->payload);
    Py_XDECREF(m->reply);
    Py_XDECREF(m->headers);
}

static PyObject *none(void)
{
    Py_INCREF(Py_None);
    return Py_None;
}

/* Make the objects of a message; its subject is the last one that was decoded. */
static int make(const inbound *self, struct message *m, int32_t r0, int32_t r1, int32_t h0,
                int32_t p0, int32_t p1)
{
    Py_INCREF(self->subject);
    m->subject = self->subject;
    if (self->large != NULL && self->parser.frame != NULL) {
        Py_INCREF(self->large);
        m->payload = self->large;
    } else {
        m->payload = get_bytes(self, p0, p1);
    }
    m->reply = r0 < r1 ? get_text(self, r0, r1) : none();
    m->headers = h0 < p0 ? get_bytes(self, h0, p0) : none();
    if (m->payload != NULL && m->reply != NULL && m->headers != NULL)
        return 0;
    release(m);
    return -1;
}

/* Give a message to its subscription. The cursor is after the message. Releases the message. */
static int give(inbound *self, nats_py_subscription *sub, struct message *m)
{
    PyObject *result;
    int status;
    if (sub->fast) {
        PyObject *callback = sub->callback;
        PyObject *args[] = {NULL, m->subject, m->payload, m->reply, m->headers};
        Py_INCREF(callback);
        sub->received++;
        result = nats_py_call(callback, args, 4);
        status = after(self, callback, result);
        Py_DECREF(callback);
    } else if (sub->is_inbox) {
        status =
            checked(PyObject_CallMethodObjArgs((PyObject *)self, name_to_inbox, (PyObject *)sub,
                                               m->subject, m->payload, m->headers, NULL));
    } else {
        status = checked(PyObject_CallMethodObjArgs((PyObject *)sub, name_arrived, m->subject,
                                                    m->payload, m->reply, m->headers, NULL));
    }
    release(m);
    return status;
}

/* Give an answer to its request. next is where the cursor is to be when Python code runs. */
static int give_answer(inbound *self, int32_t order, int32_t h0, int32_t p0, int32_t p1, int next)
{
    PyObject *payload = get_bytes(self, p0, p1), *callback = NULL;
    PyObject *headers = h0 < p0 ? get_bytes(self, h0, p0) : none(), *number;
    int status = -1;
    if (payload == NULL || headers == NULL) {
        Py_XDECREF(payload);
        Py_XDECREF(headers);
        return -1;
    }
    /* An empty answer with headers may say that nobody listens. */
    if (h0 == p0 || p0 != p1)
        callback = nats_py_waiting_take(self->waiting, (unsigned long long)order);
    number = callback != NULL ? none() : PyLong_FromLong(order);
    if (number != NULL) {
        self->at = next;
        if (self->run_left != 0)
            self->run_left--;
        if (callback == NULL) {
            status = checked(PyObject_CallMethodObjArgs((PyObject *)self, name_answer, number,
                                                        payload, headers, NULL));
        } else {
            PyObject *args[] = {NULL, payload, Py_None, headers};
            status = after(self, callback, nats_py_call(callback, args, 3));
        }
    }
    Py_XDECREF(number);
    Py_DECREF(payload);
    Py_DECREF(headers);
    Py_XDECREF(callback);
    return status;
}

/* ---- the cursor ---- */

/* Deliver the next item of a run. */
static int walk_item(inbound *self)
{
    const int32_t *item = self->block->rows + self->at;
    struct message m;
    nats_py_subscription *sub = self->run_sub;
    int reply = self->run_kind == NATS_ROW_REPLY_RUN;
    int status;
    if (self->run_kind == NATS_ROW_ANSWER_RUN)
        return give_answer(self, item[0], item[1], item[1], item[2], self->at + 3);
    if (reply)
        status = make(self, &m, item[0], item[1], item[2], item[2], item[3]);
    else
        status = make(self, &m, 0, 0, item[0], item[0], item[1]);
    if (status < 0)
        return -1;
    self->at += reply ? 4 : 2;
    self->run_left--;
    Py_INCREF(sub);
    status = give(self, sub, &m);
    Py_DECREF(sub);
    return status;
}

/* Begin a run: deliver its first item, or skip all of them. */
static int walk_run(inbound *self, const int32_t *row)
{
    nats_py_subscription *sub = NULL, *old = self->run_sub;
    int items = self->at + NATS_ROW_WIDTH;
    if (row[KIND] != NATS_ROW_ANSWER_RUN) {
        if (find_sub(self, row[SID], &sub) < 0)
            return -1;
        if (sub == NULL) {
            self->at = items + row[P1] * (row[KIND] == NATS_ROW_RUN ? 2 : 4);
            return 0;
        }
        if (find_subject(self, row) < 0) {
            Py_DECREF(sub);
            return -1;
        }
    }
    self->run_sub = sub;
    self->run_sid = row[SID];
    self->at = items;
    self->run_kind = row[KIND];
    self->run_left = row[P1];
    Py_XDECREF((PyObject *)old);
    return 0;
}

static int walk_message(inbound *self, const int32_t *row)
{
    nats_py_subscription *sub;
    struct message m;
    int status;
    if (find_sub(self, row[SID], &sub) < 0)
        return -1;
    if (sub == NULL) {
        self->at += NATS_ROW_WIDTH;
        Py_CLEAR(self->large);
        return 0;
    }
    status = find_subject(self, row);
    if (status == 0)
        status = make(self, &m, row[R0], row[R1], row[H0], row[P0], row[P1]);
    if (status == 0) {
        nats_py_subscription *old = self->run_sub;
        Py_INCREF(sub);
        self->run_sub = sub;
        self->run_sid = row[SID];
        self->at += NATS_ROW_WIDTH;
        Py_CLEAR(self->large);
        status = give(self, sub, &m);
        Py_XDECREF(
            (PyObject *)old); /* may call us, by a finalizer: after the message, for the order */
    }
    Py_DECREF(sub);
    return status;
}

/* Report a row that is no message. */
static int walk_control(inbound *self, const int32_t *row)
{
    PyObject *done = NULL, *kind, *text, *count;
    if (row[KIND] == NATS_ROW_PONG) {
        self->pongs = row[P1];
        self->at += NATS_ROW_WIDTH;
        return 0;
    }
    kind = PyLong_FromLong(row[KIND]);
    text = get_bytes(self, row[S0], row[S1]);
    count = PyLong_FromLong(row[P1]);
    if (kind != NULL && text != NULL && count != NULL) {
        self->at += NATS_ROW_WIDTH;
        done = PyObject_CallMethodObjArgs((PyObject *)self, name_control, kind, text, count, NULL);
    }
    Py_XDECREF(kind);
    Py_XDECREF(text);
    Py_XDECREF(count);
    return checked(done);
}

static int walk_one(inbound *self)
{
    const int32_t *row;
    if (self->pongs != 0) {
        self->pongs--; /* before the call: if it raises, the next delivery reports the others */
        return checked(PyObject_CallMethodObjArgs((PyObject *)self, name_pong, NULL));
    }
    if (self->run_left != 0)
        return walk_item(self);
    row = self->block->rows + self->at;
    switch (row[KIND]) {
    case NATS_ROW_MSG:
        return walk_message(self, row);
    case NATS_ROW_ANSWER:
        return give_answer(self, row[R0], row[H0], row[P0], row[P1], self->at + NATS_ROW_WIDTH);
    case NATS_ROW_RUN:
    case NATS_ROW_REPLY_RUN:
    case NATS_ROW_ANSWER_RUN:
        return walk_run(self, row);
    default:
        return walk_control(self, row);
    }
}

/* ---- time ---- */

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

struct slice {
    int64_t until, last;
    int left; /* messages until the next look at the clock */
};

/* Return whether the slice is over. */
static int is_over(inbound *self, struct slice *slice)
{
    int64_t now;
    if (--slice->left > 0)
        return 0;
    now = now_ns();
    if (now - slice->last > LONG)
        self->stride = 1;
    else if (now - slice->last < SHORT && self->stride < MOST_STRIDE)
        self->stride *= 2;
    slice->last = now;
    slice->left = self->stride;
    return now > slice->until;
}

/* Deliver rows until none is left (0) or the slice is over (1); -1 with an exception. */
static int walk(inbound *self, struct slice *slice)
{
    while (has_rows(self)) {
        if (walk_one(self) < 0)
            return -1;
        if (is_over(self, slice) && has_rows(self))
            return 1;
    }
    return 0;
}

/* ---- delivery ---- */

/* Take the next chunk out of the queue. When there is no memory for that, it stays there. */
static int take_chunk(inbound *self)
{
    PyObject *chunk = PyList_GetItem(self->queue, 0);
    Py_INCREF(chunk);
    if (PyList_SetSlice(self->queue, 0, 1, NULL) < 0) {
        Py_DECREF(chunk);
        return -1;
    }
    self->chunk = chunk;
    self->pos = 0;
    self->end = (size_t)PyBytes_Size(chunk);
    return 0;
}

/* Parse more of what has been received. Return 1 when there are rows, 0 when all has been parsed, or -1. */
static int parse(inbound *self)
{
    for (;;) {
        const char *bytes;
        forget_rows(self);
        if (has_rows(self)) /* of a delivery by a finalizer */
            return 1;
        if (self->closed)
            return 0;
        if (self->pos >= self->end) {
            if (self->parser.error != 0 && !self->failed) {
                self->failed = 1;
                return checked(
                    PyObject_CallMethodObjArgs((PyObject *)self, name_protocol_failed, NULL));
            }
            Py_CLEAR(self->chunk);
            if (PyList_Size(self->queue) == 0)
                return 0;
            if (take_chunk(self) < 0)
                return -1;
        }
        if (take_block(self) < 0)
            return -1;
        bytes = self->chunk != NULL ? PyBytes_AsString(self->chunk) : self->block->bytes;
        self->filled = nats_parser_feed(&self->parser, bytes, self->pos, self->end,
                                        self->block->rows, ROWS_CAP);
        self->pos = self->parser.pos;
        self->data = self->parser.frame != NULL ? self->parser.frame : bytes;
        if (self->filled == 0)
            continue;
        if (self->awaits_info && self->block->rows[KIND] != NATS_ROW_INFO &&
            self->block->rows[KIND] != NATS_ROW_ERR)
            return checked(PyObject_CallMethodObjArgs((PyObject *)self, name_no_info, NULL));
        return 1;
    }
}

/* Ask for the rest to be delivered by a loop that a callback runs. */
static int schedule(inbound *self)
{
    if (self->schedule == NULL || self->schedule == Py_None)
        return 0;
    return nats_py_call_schedule(self->schedule);
}

/* Deliver all that was received. Return 0, 1 when the slice is over, -1 with an exception. */
static int deliver(inbound *self, int64_t slice_ns)
{
    struct slice slice;
    int status = 0;
    if (is_drained(self))
        return 0;
    slice.last = now_ns();
    slice.until = slice.last + slice_ns;
    slice.left = self->stride;
    Py_INCREF(self);
    self->depth++;
    status = schedule(self);
    while (status == 0) {
        status = walk(self, &slice);
        if (status != 0)
            break;
        status = parse(self);
        if (status != 1)
            break;
        status = 0;
    }
    self->depth--;
    if (status == 0 && !has_rows(self))
        forget_rows(self);
    /* Looked at again: a finalizer may have delivered, and left rows. */
    if (!has_rows(self) && self->pos >= self->end)
        give_block(self);
    Py_DECREF(self);
    return status;
}

static int64_t get_slice(double s)
{
    if (s >= 1e9)
        return INT64_MAX / 4;
    return s > 0 ? (int64_t)(s * 1e9) : 0; /* 0 for NaN, too */
}

/* deliver(seconds) -> whether all has been delivered */
static PyObject *inbound_deliver(PyObject *self, PyObject *seconds)
{
    int64_t slice = get_slice(PyFloat_AsDouble(seconds));
    int status = PyErr_Occurred() != NULL ? -1 : deliver((inbound *)self, slice);
    return status < 0 ? NULL : PyBool_FromLong(status == 0);
}

/* Make the bytes object of a large payload of which a part has come. */
static int begin_large(inbound *self)
{
    const char *part;
    size_t size, len = nats_parser_unfinished(&self->parser, &part, &size);
    if (len == 0 || size < LARGE || len < size / 16)
        return 0;
    self->large = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (self->large == NULL)
        return -1;
    nats_py_use_huge_pages(PyBytes_AsString(self->large), size);
    memcpy(PyBytes_AsString(self->large), part, len);
    self->large_len = len;
    return 0;
}

/* Find where the next bytes from the socket go. Return NULL with an exception. */
static char *find_room(inbound *self, size_t *room)
{
    size_t left;
    if (self->large == NULL && begin_large(self) < 0)
        return NULL;
    if (self->large != NULL) {
        left = (size_t)PyBytes_Size(self->large) - self->large_len;
        if (left != 0) {
            *room = left < MOST_AT_ONCE ? left : MOST_AT_ONCE;
            return PyBytes_AsString(self->large) + self->large_len;
        }
    }
    if (take_block(self) < 0)
        return NULL;
    *room = READ_SIZE;
    return self->block->bytes;
}

/* Deliver what has been received before. Return 0, NATS_PY_GAVE_WAY, or -1 with an exception. */
static long deliver_rest(inbound *self, int64_t slice)
{
    int status = is_drained(self) ? 0 : deliver(self, slice);
    if (status < 0)
        return -1;
    if (status == 1 || !is_drained(self))
        return NATS_PY_GAVE_WAY;
    if (!self->reading)
        return 0;
    PyErr_SetString(PyExc_RuntimeError, "another thread reads the same connection");
    return -1;
}

/* Deal with a read that has brought nothing for us. */
static long nothing_read(inbound *self, ssize_t got, int error)
{
    give_block(self);
    if (self->closed)
        Py_CLEAR(self->large); /* `close` left it, because the kernel was writing to it */
    if (got == 0)
        return NATS_PY_END;
    if (got > 0 || error == EAGAIN || error == EWOULDBLOCK || error == EINTR)
        return NATS_PY_NOTHING;
    return -error;
}

/* Return what `nats_py_read` does. */
static long read_once(inbound *self, int fd, int64_t slice)
{
    int error;
    long status = deliver_rest(self, slice);
    size_t room;
    ssize_t got;
    char *to;
    if (status != 0)
        return status;
    if (self->closed)
        return NATS_PY_NOTHING;
    to = find_room(self, &room);
    if (to == NULL)
        return -1;
    self->reading = 1;
    Py_BEGIN_ALLOW_THREADS
    got = recv(fd, to, room, 0);
    error = errno;
    Py_END_ALLOW_THREADS
    self->reading = 0;
    if (got <= 0 || self->closed)
        return nothing_read(self, got, error);
    if (self->large != NULL && (self->block == NULL || to != self->block->bytes)) {
        self->large_len += (size_t)got;
        nats_parser_skip(&self->parser, (size_t)got);
        return NATS_PY_DRAINED;
    }
    Py_CLEAR(self->chunk);
    self->pos = 0;
    self->end = (size_t)got;
    return deliver(self, slice); /* 0 is NATS_PY_DRAINED, 1 NATS_PY_GAVE_WAY */
}

long nats_py_read(PyObject *self, int fd, double seconds)
{
    return read_once((inbound *)self, fd, get_slice(seconds));
}

int nats_py_is_drained(PyObject *self)
{
    return PyObject_TypeCheck(self, inbound_type) ? is_drained((inbound *)self) : -1;
}

/* read(fd, seconds) -> what nats_py_read returns */
static PyObject *inbound_read(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    int fd;
    double seconds;
    long code;
    if (nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "read() takes fd and seconds");
        return NULL;
    }
    fd = (int)PyLong_AsLong(args[0]);
    seconds = PyErr_Occurred() != NULL ? 0 : PyFloat_AsDouble(args[1]);
    if (PyErr_Occurred() != NULL)
        return NULL;
    code = nats_py_read(self, fd, seconds);
    return code < 0 && PyErr_Occurred() != NULL ? NULL : PyLong_FromLong(code);
}

/* receive(data): take bytes, which `deliver` delivers. */
static PyObject *inbound_receive(PyObject *self_, PyObject *data)
{
    inbound *self = (inbound *)self_;
    if (!PyBytes_CheckExact(data)) { /* freeing an object of a subclass may run Python code */
        PyErr_SetString(PyExc_TypeError, "data must be bytes");
        return NULL;
    }
    if (self->closed)
        Py_RETURN_NONE;
    if (self->reading) {
        PyErr_SetString(PyExc_RuntimeError, "another thread reads the same connection");
        return NULL;
    }
    if (self->large != NULL && self->parser.frame == NULL) {
        /* Some of a large payload has been read: nobody gives us the rest by another way. */
        PyErr_SetString(PyExc_RuntimeError, "receive after read, in the middle of a message");
        return NULL;
    }
    if (PyList_Append(self->queue, data) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* close(): discard what has not been delivered, and take no more. */
static PyObject *inbound_close(PyObject *self_, PyObject *unused)
{
    inbound *self = (inbound *)self_;
    (void)unused;
    self->closed = 1;
    forget_rows(self);
    self->pos = self->end = 0;
    Py_CLEAR(self->chunk);
    if (PyList_SetSlice(self->queue, 0, PyList_Size(self->queue), NULL) < 0)
        return NULL;
    if (!self->reading) {
        Py_CLEAR(self->large);
        if (self->depth == 0)
            give_block(self);
    }
    Py_RETURN_NONE;
}

static PyObject *inbound_set_inbox(PyObject *self_, PyObject *args)
{
    inbound *self = (inbound *)self_;
    int sid;
    Py_ssize_t prefix_len;
    if (!PyArg_ParseTuple(args, "in", &sid, &prefix_len))
        return NULL;
    if (prefix_len < 0) {
        PyErr_SetString(PyExc_ValueError, "the prefix's length is negative");
        return NULL;
    }
    self->parser.inbox_sid = sid;
    self->parser.inbox_len = (size_t)prefix_len;
    Py_RETURN_NONE;
}

static PyObject *inbound_set_max_message(PyObject *self, PyObject *size)
{
    size_t most = PyLong_AsSize_t(size);
    if (most == (size_t)-1 && PyErr_Occurred() != NULL)
        return NULL;
    ((inbound *)self)->parser.max_message = most;
    Py_RETURN_NONE;
}

/* parse_error() -> (text, offset, snippet) of the stream that has failed */
static PyObject *inbound_parse_error(PyObject *self_, PyObject *unused)
{
    inbound *self = (inbound *)self_;
    (void)unused;
    return Py_BuildValue("sKy#", nats_parser_strerror(self->parser.error),
                         (unsigned long long)self->parser.error_offset, self->parser.snippet,
                         (Py_ssize_t)self->parser.snippet_len);
}

static PyObject *get_counts(PyObject *self, void *unused)
{
    const nats_parser *parser = &((inbound *)self)->parser;
    (void)unused;
    return Py_BuildValue("KK", (unsigned long long)parser->msgs, (unsigned long long)parser->bytes);
}

static PyObject *get_drained(PyObject *self, void *unused)
{
    (void)unused;
    return PyBool_FromLong(is_drained((inbound *)self));
}

static PyObject *inbound_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *self = alloc(type, 0);
    (void)args;
    (void)kwargs;
    if (self != NULL) {
        inbound *in = (inbound *)self;
        nats_parser_init(&in->parser, 0);
        in->stride = 1;
        in->subject_at = -1;
        in->awaits_info = 1;
        in->subs = PyDict_New();
        in->waiting = nats_py_waiting_new();
        in->queue = PyList_New(0);
        if (in->subs == NULL || in->waiting == NULL || in->queue == NULL)
            Py_CLEAR(self);
    }
    return self;
}

/* _attach(subs, waiting, schedule): the client's tables, and what asks for a nested delivery. */
static PyObject *inbound_attach(PyObject *self_, PyObject *args)
{
    inbound *self = (inbound *)self_;
    PyObject *subs, *waiting, *schedule;
    PyObject *old_subs = self->subs, *old_waiting = self->waiting, *old_schedule = self->schedule;
    if (!PyArg_ParseTuple(args, "O!OO", &PyDict_Type, &subs, &waiting, &schedule))
        return NULL;
    if (!nats_py_is_waiting(waiting)) {
        PyErr_SetString(PyExc_TypeError, "waiting must be a Waiting");
        return NULL;
    }
    Py_INCREF(subs);
    Py_INCREF(waiting);
    Py_INCREF(schedule);
    self->subs = subs;
    self->waiting = waiting;
    self->schedule = schedule;
    Py_XDECREF(old_subs);
    Py_XDECREF(old_waiting);
    Py_XDECREF(old_schedule);
    Py_RETURN_NONE;
}

static int inbound_traverse(PyObject *self_, visitproc visit, void *arg)
{
    inbound *self = (inbound *)self_;
    Py_VISIT(self->subs);
    Py_VISIT(self->waiting);
    Py_VISIT(self->schedule);
    Py_VISIT(self->queue);
    Py_VISIT((PyObject *)self->run_sub);
    Py_VISIT(Py_TYPE(self_));
    return 0;
}

/* subs, waiting and queue stay: they are never NULL while the object can be called. */
static int inbound_clear(PyObject *self_)
{
    inbound *self = (inbound *)self_;
    Py_CLEAR(self->schedule);
    forget_rows(self);
    return 0;
}

static void inbound_dealloc(PyObject *self_)
{
    inbound *self = (inbound *)self_;
    PyObject_GC_UnTrack(self_);
    self->reading = 0; /* in the child of a fork: the thread that reads is in the parent */
    inbound_clear(self_);
    Py_CLEAR(self->subs);
    Py_CLEAR(self->waiting);
    Py_CLEAR(self->queue);
    Py_CLEAR(self->chunk);
    Py_CLEAR(self->large);
    give_block(self);
    nats_parser_destroy(&self->parser);
    nats_py_free(self_);
}

static PyMemberDef inbound_members[] = {
    {"awaits_info", T_BOOL, offsetof(inbound, awaits_info), 0,
     "Whether the server's next line must be INFO or -ERR."},
    {"depth", T_INT, offsetof(inbound, depth), READONLY, "How many deliveries are on the stack."},
    {NULL, 0, 0, 0, NULL}};

static PyGetSetDef inbound_getset[] = {
    {"drained", get_drained, NULL, "Whether all that was received has been delivered.", NULL},
    {"counts", get_counts, NULL,
     "How many messages were received, and their header and payload bytes.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef inbound_methods[] = {
    {"_attach", inbound_attach, METH_VARARGS,
     "Set the tables of subscriptions and waiting requests, and what is called before callbacks."},
    {"receive", inbound_receive, METH_O,
     "Take bytes, for `deliver`. A closed object discards them."},
    {"deliver", inbound_deliver, METH_O,
     "Deliver what was received, for so many seconds. Return whether that was all."},
    {"read", (PyCFunction)(void (*)(void))inbound_read, METH_FASTCALL,
     "Read a socket once, and deliver for so many seconds."},
    {"close", inbound_close, METH_NOARGS, "Discard what has not been delivered, and take no more."},
    {"set_inbox", inbound_set_inbox, METH_VARARGS,
     "Set the sid of the subscription to the answers of requests, and the length before the "
     "number."},
    {"set_max_message", inbound_set_max_message, METH_O,
     "Set the bound of headers + payload of one message, from the next frame on."},
    {"parse_error", inbound_parse_error, METH_NOARGS,
     "Return what is wrong with the stream: (text, offset, snippet)."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot inbound_slots[] = {
    {Py_tp_doc, "What one connection receives, and its delivery."},
    {Py_tp_new, inbound_new},
    {Py_tp_members, inbound_members},
    {Py_tp_getset, inbound_getset},
    {Py_tp_methods, inbound_methods},
    {Py_tp_traverse, inbound_traverse},
    {Py_tp_clear, inbound_clear},
    {Py_tp_dealloc, inbound_dealloc},
    {0, NULL}};

static PyType_Spec inbound_spec = {"nats_ev._parser.Inbound", sizeof(inbound), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                                   inbound_slots};

PyObject *nats_py_inbound_type(PyObject *subscription)
{
    nats_py_find_vectorcall();
    subscription_type = (PyTypeObject *)subscription;
    name_control = PyUnicode_InternFromString("_control");
    name_pong = PyUnicode_InternFromString("_pong");
    name_raised = PyUnicode_InternFromString("_raised");
    name_answer = PyUnicode_InternFromString("_answer");
    name_to_inbox = PyUnicode_InternFromString("_to_inbox");
    name_arrived = PyUnicode_InternFromString("arrived");
    name_protocol_failed = PyUnicode_InternFromString("_protocol_failed");
    name_no_info = PyUnicode_InternFromString("_no_info");
    if (name_control == NULL || name_pong == NULL || name_raised == NULL || name_answer == NULL ||
        name_to_inbox == NULL || name_arrived == NULL || name_protocol_failed == NULL ||
        name_no_info == NULL)
        return NULL;
    inbound_type = (PyTypeObject *)PyType_FromSpec(&inbound_spec);
    return (PyObject *)inbound_type;
}

/* ---- Subscription ---- */

static int subscription_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((nats_py_subscription *)self)->callback);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

/* The callback stays, as None: a message may come while the garbage collector works. */
static int subscription_clear(PyObject *self)
{
    nats_py_subscription *sub = (nats_py_subscription *)self;
    PyObject *old = sub->callback;
    sub->fast = 0;
    sub->callback = none();
    Py_XDECREF(old);
    return 0;
}

static void subscription_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(((nats_py_subscription *)self)->callback);
    nats_py_free(self);
}

static PyObject *subscription_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *self = alloc(type, 0);
    (void)args;
    (void)kwargs;
    if (self != NULL)
        ((nats_py_subscription *)self)->callback = none();
    return self;
}

/* callback is set and never deleted, so that C never finds NULL. */
static PyObject *get_callback(PyObject *self, void *unused)
{
    PyObject *callback = ((nats_py_subscription *)self)->callback;
    (void)unused;
    Py_INCREF(callback);
    return callback;
}

static int set_callback(PyObject *self, PyObject *callback, void *unused)
{
    nats_py_subscription *sub = (nats_py_subscription *)self;
    PyObject *old = sub->callback;
    (void)unused;
    if (callback == NULL) {
        PyErr_SetString(PyExc_TypeError, "callback can't be deleted");
        return -1;
    }
    Py_INCREF(callback);
    sub->callback = callback;
    Py_XDECREF(old);
    return 0;
}

static PyMemberDef subscription_members[] = {
    {"received", T_LONGLONG, offsetof(nats_py_subscription, received), 0,
     "How many messages were given to the callback, or kept."},
    {"received_before", T_LONGLONG, offsetof(nats_py_subscription, received_before), 0,
     "How many of them came before this connection."},
    {"fast", T_BOOL, offsetof(nats_py_subscription, fast), 0,
     "Whether a message goes to the callback without a check."},
    {"is_inbox", T_BOOL, offsetof(nats_py_subscription, is_inbox), 0,
     "Whether the messages are answers to requests."},
    {"closed", T_BOOL, offsetof(nats_py_subscription, closed), 0,
     "Whether no message is to be delivered any more."},
    {"draining", T_BOOL, offsetof(nats_py_subscription, draining), 0,
     "Whether UNSUB is framed, and what is in flight is still delivered."},
    {NULL, 0, 0, 0, NULL}};

static PyGetSetDef subscription_getset[] = {
    {"callback", get_callback, set_callback, "What a message is given to.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot subscription_slots[] = {{Py_tp_doc, "What the delivery of a message reads."},
                                           {Py_tp_new, subscription_new},
                                           {Py_tp_members, subscription_members},
                                           {Py_tp_getset, subscription_getset},
                                           {Py_tp_traverse, subscription_traverse},
                                           {Py_tp_clear, subscription_clear},
                                           {Py_tp_dealloc, subscription_dealloc},
                                           {0, NULL}};

static PyType_Spec subscription_spec = {
    "nats_ev._parser.Subscription", sizeof(nats_py_subscription), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, subscription_slots};

PyObject *nats_py_subscription_type(void)
{
    return PyType_FromSpec(&subscription_spec);
}
