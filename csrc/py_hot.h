/*
 * py_hot: the hot path between the C core and Python. Only it, libev_glue and py_watcher know Python.h.
 *
 * Theory of operation
 *
 * The problem. A CFFI call costs about 98 ns and a Python call about 40 ns, so a client in Python pays more
 * for the crossings between C and Python than for its own work: 217 ns for a publish of which 12 ns are spent
 * in the write buffer. A built-in method costs 24 ns, and a callback that C calls directly costs 38 ns.
 *
 * What these files do. They are compiled into the CFFI module `nats_ev._parser` and define eleven types,
 * which `nats_py_types` hands out once, three functions for header blocks (py_headers.c), and one for what JetStream
 * answers (py_answers.c):
 *
 *  - Method (py_method.c): a Python function with a fast path in C. The C code serves the common arguments
 *    and passes everything else, errors included, on to the Python function, so that each rule and each
 *    error text has one home.
 *  - Client (py_method.c): the base of `Nats`: it tells a Method where the write buffer is.
 *  - Outbound (py_outbound.c): the base of `wire.Outbound`: publish, hpublish and request.
 *  - Subscription (py_inbound.c): the base of `protocol.Subscription`: what the delivery of a message reads.
 *  - Inbound (py_inbound.c): the base of `protocol.Session`: receives, parses, and calls the callbacks.
 *  - Connection, Link, Turn (py_turn.c): the bases of the classes of these names: what every turn does.
 *  - Waiting (py_waiting.c): the table of waiting requests.
 *  - Expiry (py_expiry.c): the base of `client.expiry.Expiry`: when requests time out.
 *  - Taker (py_taker.c): the base of JetStream's `Puller`: makes messages of what a consumer gets.
 *
 * Only the stable ABI of CPython 3.10 is used, so that one wheel serves all later versions. One function of a
 * later version is looked up when the module is imported (py_call.h).
 *
 * The invariants:
 *  - No exception is set when a function that CFFI calls returns: CFFI would not see it.
 *  - Any call of Python code may re-enter these objects, or drop the last reference to what they refer to.
 *    A function holds its own references to what it uses after such a call, and reads its cursor again.
 */
#ifndef NATS_PY_HOT_H
#define NATS_PY_HOT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "nats_parser.h"
#include "nats_wbuf.h"

typedef struct {
    PyObject_HEAD
    nats_wbuf *wbuf;          /* belongs to `owner` */
    PyObject *owner;          /* keeps the buffer: CFFI's object, or NULL */
    unsigned long long order; /* the number of the last request or completion */
    unsigned long long run;   /* the first request of the run that is being made; 0: none */
    PyObject *timeout;        /* of the last request, as its caller gave it */
    PyObject *times;          /* an Expiry that takes another time-out; or None */
    PyObject *waiting;        /* Waiting: the callbacks of requests by number */
    PyObject *queued;         /* called with a framing call's bits */
    PyObject *schedule; /* called in its place when all that is needed is the turn's end; or None */
    PyObject *loop;     /* its attribute `thread` is the one that runs it */
    int batches;        /* calls of `batch` on the stack: nothing is scheduled */
    PyObject *begin_run; /* called with a run's first number */
    PyObject *subject;   /* of the last request, or None */
    PyObject *subjects;  /* list: (number, subject) of each request to another subject, or NULL */
    Py_ssize_t most_subjects; /* a list of this length calls begin_subject */
    PyObject *begin_subject;  /* called with the number and subject of a request to another one */
    PyObject
        *overrides;    /* (for False, for True): callables that wrap a callback for no_responders */
    char no_headers;   /* the server would close the connection for a message with headers */
    char wants_notice; /* `before_write` must be called before the next write */
} nats_py_outbound;

typedef struct {
    PyObject_HEAD
    nats_py_outbound *outbound; /* NULL: every call takes the slow path */
} nats_py_client;

typedef struct {
    PyObject_HEAD
    PyObject *callback;
    long long received; /* messages that were given to the callback or kept */
    long long
        received_before;   /* of these, before this connection began: its server counts from 0 */
    char fast;             /* nothing is to be checked or counted elsewhere when a message comes */
    char is_inbox;         /* its messages are answers to requests */
    char closed, draining; /* for Python: a slot there takes eight bytes */
} nats_py_subscription;

/* A fast path: the result of the call, or NULL. With *handled 0 nothing has happened, no exception is
   set, and the Python function is to be called. args are the call's arguments without self. */
typedef PyObject *nats_py_fast(nats_py_outbound *outbound, PyObject *const *args, size_t nargs,
                               PyObject *kwnames, int *handled);

PyObject *nats_py_publish(nats_py_outbound *outbound, PyObject *const *args, size_t nargs,
                          PyObject *kwnames, int *handled);
PyObject *nats_py_hpublish(nats_py_outbound *outbound, PyObject *const *args, size_t nargs,
                           PyObject *kwnames, int *handled);
PyObject *nats_py_request(nats_py_outbound *outbound, PyObject *const *args, size_t nargs,
                          PyObject *kwnames, int *handled);

/* The types. Each function returns a new reference, or NULL with an exception. */
PyObject *nats_py_client_type(PyObject *outbound_type);
PyObject *nats_py_method_type(void);
PyObject *nats_py_outbound_type(void);
PyObject *nats_py_subscription_type(void);
PyObject *nats_py_inbound_type(PyObject *subscription_type);
PyObject *nats_py_taker_type(void);
PyObject *nats_py_connection_type(void);
PyObject *nats_py_link_type(void);
PyObject *nats_py_turn_type(void);
PyObject *nats_py_expiry_type(void);
PyObject *nats_py_waiting_type(void);

/* The table of waiting requests (py_waiting.c). */
int nats_py_is_waiting(PyObject *object);
PyObject *nats_py_waiting_new(void);
int nats_py_waiting_has(PyObject *table, unsigned long long number);
/* Enter or replace the callback of a number that is not 0. Return 0, or -1 with an exception. */
int nats_py_waiting_put(PyObject *table, unsigned long long number, PyObject *callback);
/* Take a callback out: a new reference, or NULL, without an exception, if there is none. */
PyObject *nats_py_waiting_take(PyObject *table, unsigned long long number);

/* For py_turn.c. What `read` returns when there was nothing left to deliver, when not all of it has been delivered,
   when there was nothing to read, and at the end of the stream. */
enum { NATS_PY_DRAINED, NATS_PY_GAVE_WAY, NATS_PY_NOTHING, NATS_PY_END };

/* Read a socket once, and deliver for so many seconds. Return one of these, or a negative errno; -1 with an exception. */
long nats_py_read(PyObject *inbound, int fd, double seconds);
/* Return whether all has been delivered; -1 for an object that is no Inbound. */
int nats_py_is_drained(PyObject *inbound);
/* Give the unsent bytes to a socket in one call. Return how many it took, or a negative errno. */
Py_ssize_t nats_py_send(PyObject *outbound, int fd);
/* Return how many bytes are not sent; -1 for an object that is no Outbound with a buffer. */
Py_ssize_t nats_py_unsent(PyObject *outbound);
/* Return whether `before_write` must be called ahead of the next write. */
int nats_py_wants_notice(PyObject *outbound);

/* Whether an object is a Turn. Ask for the end of this turn of the loop, and for a call of `finish` at it. */
int nats_py_is_turn(PyObject *object);
int nats_py_schedule(PyObject *turn);
/* The same by `Turn.schedule`, without a call of Python, or by another callable. */
int nats_py_call_schedule(PyObject *schedule);
int nats_py_unfinished(PyObject *turn);
/* Choose the time-out of the next requests. Return 1, 0 for what Python must check, or -1 with an exception. */
int nats_py_choose(PyObject *times, PyObject *timeout);

/* Build the header block of a dict. Return 1; 0 when Python must do it, or must not; -1 with an exception.
   *data is valid until the next call. */
int nats_py_encode(PyObject *mapping, const char **data, size_t *len);
/* The functions of py_headers.c. */
PyObject *nats_py_encode_block(void);
PyObject *nats_py_last_values(void);
/* The function of py_answers.c. */
PyObject *nats_py_parse_ack(void);
PyObject *nats_py_parse_headers(void);
PyObject *nats_py_headers_type(void);

/* Free an object whose fields are released, and the reference that each object has to its type. */
void nats_py_free(PyObject *self);

/* For CFFI: append the types and functions to a list, in the order of py_types.c. Return 0, or -1
   when there is no memory. */
int nats_py_types(void *list);

#endif
