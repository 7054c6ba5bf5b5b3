/*
 * py_outbound: publish, hpublish and request in C, and the base of `wire.Outbound`, which they use.
 *
 * Each fast path takes the arguments that most calls have: subjects without lone surrogates, payloads that
 * are bytes, str or None. It frames straight from the memory of these objects. When the write buffer
 * refuses the message nothing has happened, and the Python function is called, which is refused in the
 * same way and has the text of the error.
 */
#include "nats_attributes.h"
#include "py_hot.h"
#include "py_pages.h"

#include <errno.h>
#include <stddef.h>
#include <sys/socket.h>

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0
#endif

static const size_t MOST_AT_ONCE = (size_t)1 << 30; /* macOS refuses more than INT_MAX bytes */

/* Names of keyword arguments: a call's names are interned, so that comparing pointers suffices. */
static PyObject *name_payload, *name_reply_to, *name_timeout_ms, *name_headers, *name_no_responders;
static PyObject *name_thread;
static PyTypeObject *outbound_type;
static PyObject *default_timeout;

struct text {
    const char *data;
    Py_ssize_t size;
};

/* Get the UTF-8 of a str. Return 0 when the object is no str, or one with a lone surrogate. */
static int get_text(PyObject *object, struct text *text)
{
    if (!PyUnicode_CheckExact(object))
        return 0;
    text->data = PyUnicode_AsUTF8AndSize(object, &text->size);
    if (text->data == NULL)
        PyErr_Clear();
    return text->data != NULL;
}

/* Get the bytes of a payload. Return 0 for types that the Python function must convert. */
static int get_payload(PyObject *object, struct text *payload)
{
    if (object == NULL || object == Py_None) {
        payload->data = "";
        payload->size = 0;
        return 1;
    }
    if (PyBytes_CheckExact(object)) { /* then the call does not fail */
        char *data = NULL;
        (void)PyBytes_AsStringAndSize(object, &data, &payload->size);
        payload->data = data;
        return 1;
    }
    return get_text(object, payload);
}

/* Sort a call's arguments into `found`, by position and then by name. Return 0 when a name is not known, or is
   that of an argument that has been found. */
static int sort_arguments(PyObject *const *args, size_t nargs, PyObject *kwnames,
                          PyObject *const *names, PyObject **found, size_t most)
{
    size_t i, k, n_kw = kwnames == NULL ? 0 : (size_t)PyTuple_Size(kwnames);
    if (nargs > most)
        return 0;
    for (i = 0; i < nargs; i++)
        found[i] = args[i];
    for (k = 0; k < n_kw; k++) {
        PyObject *name = PyTuple_GetItem(kwnames, (Py_ssize_t)k);
        for (i = nargs; i < most && names[i] != name; i++) {
        }
        if (i == most || found[i] != NULL)
            return 0;
        found[i] = args[nargs + k];
    }
    return 1;
}

/* Call one of our own methods, which may replace itself; NULL: the garbage collector works, nobody is to be told.
   Return 0, or -1 with an exception. */
static int call(PyObject *method, PyObject *number, PyObject *subject)
{
    PyObject *done;
    if (method == NULL)
        return 0;
    Py_INCREF(method);
    done = PyObject_CallFunctionObjArgs(method, number, subject, NULL);
    Py_DECREF(method);
    Py_XDECREF(done);
    return done == NULL ? -1 : 0;
}

/* Return whether the loop does not run, or runs in this thread. `Connection.queued` looks more closely. */
static int is_at_home(const nats_py_outbound *self)
{
    PyObject *thread;
    int same;
    if (self->loop == NULL)
        return 0;
    thread = PyObject_GetAttr(self->loop, name_thread);
    if (thread == NULL)
        PyErr_Clear();
    same = thread == Py_None || (thread != NULL && PyLong_CheckExact(thread) &&
                                 PyLong_AsUnsignedLong(thread) == PyThread_get_thread_ident());
    Py_XDECREF(thread);
    if (PyErr_Occurred() != NULL)
        PyErr_Clear();
    return same;
}

NATS_COLD static int deal_with_bits(nats_py_outbound *self, int code)
{
    PyObject *number;
    int status;
    if (code == NATS_WBUF_FIRST && self->batches == 0 && self->schedule != NULL &&
        self->schedule != Py_None && is_at_home(self))
        return nats_py_call_schedule(self->schedule);
    number = PyLong_FromLong(code);
    if (number == NULL)
        return -1;
    status = call(self->queued, number, NULL);
    Py_DECREF(number);
    return status;
}

/* Do what a framing call's bits ask for. Return 0, or -1 with an exception. */
static inline int deal_with(nats_py_outbound *self, int code)
{
    return code == 0 ? 0 : deal_with_bits(self, code);
}

static PyObject *none_after(nats_py_outbound *self, int code)
{
    if (deal_with(self, code) < 0)
        return NULL;
    Py_RETURN_NONE;
}

PyObject *nats_py_publish(nats_py_outbound *self, PyObject *const *args, size_t nargs,
                          PyObject *kwnames, int *handled)
{
    PyObject *const names[] = {NULL, name_payload, name_reply_to};
    PyObject *found[] = {NULL, NULL, NULL};
    struct text subject, payload, reply = {NULL, 0};
    int code;
    if (!sort_arguments(args, nargs, kwnames, names, found, 3) || found[0] == NULL ||
        !get_text(found[0], &subject) || !get_payload(found[1], &payload) ||
        (found[2] != NULL && found[2] != Py_None && !get_text(found[2], &reply)))
        return NULL;
    code = nats_wbuf_publish(self->wbuf, subject.data, (size_t)subject.size, reply.data,
                             (size_t)reply.size, NULL, 0, payload.data, (size_t)payload.size, 0);
    if (code < 0)
        return NULL;
    *handled = 1;
    return none_after(self, code);
}

/* Get the header block of a raw block or a dict. Return 0 for what the Python function must convert, or refuse. */
static int get_headers(PyObject *object, struct text *headers)
{
    size_t len;
    if (PyDict_CheckExact(object)) {
        if (nats_py_encode(object, &headers->data, &len) <= 0) {
            PyErr_Clear();
            return 0;
        }
        headers->size = (Py_ssize_t)len;
        return 1;
    }
    if (!PyBytes_CheckExact(object) || PyBytes_Size(object) == 0)
        return 0;
    headers->data = PyBytes_AsString(object);
    headers->size = PyBytes_Size(object);
    return 1;
}

/* With a raw block or a dict as headers. */
PyObject *nats_py_hpublish(nats_py_outbound *self, PyObject *const *args, size_t nargs,
                           PyObject *kwnames, int *handled)
{
    struct text subject, headers, payload = {"", 0}, reply = {NULL, 0};
    int code;
    if (kwnames != NULL || nargs < 2 || nargs > 4 || self->no_headers ||
        !get_text(args[0], &subject) || (nargs > 2 && !get_payload(args[2], &payload)) ||
        (nargs > 3 && args[3] != Py_None && !get_text(args[3], &reply)) ||
        !get_headers(args[1], &headers))
        return NULL;
    code = nats_wbuf_publish(self->wbuf, subject.data, (size_t)subject.size, reply.data,
                             (size_t)reply.size, headers.data, (size_t)headers.size, payload.data,
                             (size_t)payload.size, 0);
    if (code < 0)
        return NULL;
    *handled = 1;
    return none_after(self, code);
}

/* Return whether a time-out is that of the last request: the same object, or an equal int. */
static int same_timeout(PyObject *timeout, PyObject *last)
{
    long a, b;
    if (timeout == last)
        return 1;
    if (last == NULL || !PyLong_CheckExact(timeout) || !PyLong_CheckExact(last))
        return 0;
    a = PyLong_AsLong(timeout);
    b = PyLong_AsLong(last);
    if (PyErr_Occurred() != NULL) { /* beyond the range of long */
        PyErr_Clear();
        return 0;
    }
    return a == b;
}

/* Choose the time-out of a request, unless it is that of the last one. Return 0 with *handled 1 and an exception, or
   when the Python function must check it. */
static int use_timeout(nats_py_outbound *self, PyObject *timeout, int *handled)
{
    PyObject *last = self->timeout;
    int chosen;
    if (same_timeout(timeout, last))
        return 1;
    chosen = self->times == NULL ? 0 : nats_py_choose(self->times, timeout);
    *handled = chosen < 0;
    if (chosen <= 0)
        return 0;
    Py_INCREF(timeout);
    self->timeout = timeout;
    Py_XDECREF(last);
    return 1;
}

static int same_subject(PyObject *subject, PyObject *last)
{
    return subject == last ||
           (last != NULL && PyUnicode_CheckExact(last) && PyUnicode_Compare(subject, last) == 0);
}

/* Return the callback as the table has it, with what `no_responders` asks for. NULL: an exception, or, with none
   set, the Python function must decide. */
static PyObject * override(nats_py_outbound *self, PyObject *callback, PyObject *no_responders)
{
    PyObject *overrides = self->overrides, *type, *wrapped;
    if ((no_responders != Py_False && no_responders != Py_True) || overrides == NULL ||
        !PyTuple_CheckExact(overrides) || PyTuple_Size(overrides) != 2)
        return NULL;
    type = PyTuple_GetItem(overrides, no_responders == Py_True);
    Py_INCREF(type);
    wrapped = PyObject_CallFunctionObjArgs(type, callback, NULL);
    Py_DECREF(type);
    return wrapped;
}

/* Return whether there is room in the list of subjects. */
static int has_room(nats_py_outbound *self)
{
    return self->subjects != NULL && PyList_CheckExact(self->subjects) &&
           PyList_Size(self->subjects) < self->most_subjects;
}

/* Enter a request in the tables: before it is framed, because this may fail for lack of memory, and framing may not be
   undone so simply. pair is for the list of subjects, or NULL. Return 0, or -1 with an exception. */
static int enter(nats_py_outbound *self, unsigned long long order, PyObject *callback,
                 PyObject *pair)
{
    if (nats_py_waiting_put(self->waiting, order, callback) < 0)
        return -1;
    if (pair == NULL || PyList_Append(self->subjects, pair) == 0)
        return 0;
    Py_XDECREF(nats_py_waiting_take(self->waiting, order)); /* the caller has the callback, too */
    return -1;
}

/* Take a request out of the tables again that was refused. */
static void withdraw(nats_py_outbound *self, unsigned long long order, PyObject *pair)
{
    Py_ssize_t n = pair == NULL ? 0 : PyList_Size(self->subjects);
    if (n != 0 && PyList_SetSlice(self->subjects, n - 1, n, NULL) < 0)
        PyErr_Clear();
    Py_XDECREF(nats_py_waiting_take(self->waiting, order));
}

/* Call those who want to know of a request that has been framed. Return 0, or -1 with an exception. */
static int tell(nats_py_outbound *self, int code, PyObject *number, PyObject *other_subject)
{
    PyObject *type, *value, *trace;
    if ((self->run != 0 || call(self->begin_run, number, NULL) == 0) &&
        (other_subject == NULL || call(self->begin_subject, number, other_subject) == 0))
        return deal_with(self, code);
    /* A Ctrl-C, most likely. Nobody else would ask for the write of what has been framed. */
    PyErr_Fetch(&type, &value, &trace);
    if (deal_with(self, code) < 0)
        PyErr_Clear();
    PyErr_Restore(type, value, trace);
    return -1;
}

/* What a request sends. */
struct request {
    PyObject *name; /* of the subject */
    PyObject *pair; /* a new tuple for the list of subjects, or NULL */
    int is_other;   /* the last request had another subject */
    struct text subject, headers, payload;
};

/* Make a request's tuple. That may run the garbage collector, and with it finalizers that send requests: nothing
   that follows may. Return 0 with an exception. */
static int make_pair(nats_py_outbound *self, struct request *r)
{
    r->pair = PyTuple_New(2);
    if (r->pair == NULL)
        return 0;
    r->is_other = !same_subject(r->name, self->subject);
    if (!r->is_other || !has_room(self))
        Py_CLEAR(r->pair);
    return 1;
}

/* Frame a request. Return its number, or NULL. */
static PyObject *send_request(nats_py_outbound *self, const struct request *r, PyObject *callback,
                              int *handled)
{
    unsigned long long order = self->order + 1;
    PyObject *number = PyLong_FromUnsignedLongLong(order), *pair = r->pair;
    int code;
    *handled = 1;
    if (number == NULL)
        return NULL;
    if (pair != NULL) {
        Py_INCREF(number);
        Py_INCREF(r->name);
        PyTuple_SetItem(pair, 0, number);
        PyTuple_SetItem(pair, 1, r->name);
    }
    if (enter(self, order, callback, pair) < 0) {
        Py_DECREF(number);
        return NULL;
    }
    code =
        nats_wbuf_request(self->wbuf, r->subject.data, (size_t)r->subject.size, r->headers.data,
                          (size_t)r->headers.size, r->payload.data, (size_t)r->payload.size, order);
    if (code < 0) {
        withdraw(self, order, pair);
        Py_DECREF(number);
        *handled = 0;
        return NULL;
    }
    self->order = order;
    if (pair != NULL) {
        PyObject *last = self->subject;
        Py_INCREF(r->name);
        self->subject = r->name;
        Py_XDECREF(last);
    }
    if (tell(self, code, number, r->is_other && pair == NULL ? r->name : NULL) < 0)
        Py_CLEAR(number);
    return number;
}

/* The parameters after cb that have a fast path: timeout_ms, by position or by name, headers and no_responders. */
PyObject *nats_py_request(nats_py_outbound *self, PyObject *const *args, size_t nargs,
                          PyObject *kwnames, int *handled)
{
    enum { SUBJECT, PAYLOAD, CB, TIMEOUT_MS, HEADERS, NO_RESPONDERS, N };
    PyObject *const names[N] = {
        NULL, NULL, NULL, name_timeout_ms, name_headers, name_no_responders};
    PyObject *found[N] = {NULL}, *callback, *result = NULL;
    struct request r = {NULL, NULL, 0, {NULL, 0}, {NULL, 0}, {NULL, 0}};
    int has_headers;
    if (nargs > HEADERS || !sort_arguments(args, nargs, kwnames, names, found, N) ||
        found[CB] == NULL || !get_text(found[SUBJECT], &r.subject) ||
        !get_payload(found[PAYLOAD], &r.payload) || !PyCallable_Check(found[CB]) ||
        !nats_py_is_waiting(self->waiting))
        return NULL;
    has_headers = found[HEADERS] != NULL && found[HEADERS] != Py_None;
    if (has_headers && self->no_headers)
        return NULL;
    r.name = found[SUBJECT];
    if (found[NO_RESPONDERS] == NULL || found[NO_RESPONDERS] == Py_None) {
        callback = found[CB];
        Py_INCREF(callback);
    } else {
        callback = override(self, found[CB], found[NO_RESPONDERS]);
        if (callback == NULL) {
            *handled = PyErr_Occurred() != NULL;
            return NULL;
        }
    }
    if (!same_subject(r.name, self->subject)) {
        r.is_other = 1;
        if (has_room(self) && !make_pair(self, &r)) {
            Py_DECREF(callback);
            *handled = 1;
            return NULL;
        }
    }
    /* The time-out comes last: a request of a finalizer may choose another one. */
    if ((!has_headers || get_headers(found[HEADERS], &r.headers)) &&
        use_timeout(self, found[TIMEOUT_MS] == NULL ? default_timeout : found[TIMEOUT_MS], handled))
        result = send_request(self, &r, callback, handled);
    Py_DECREF(callback);
    Py_XDECREF(r.pair);
    return result;
}

/* ---- Outbound ---- */

/* _attach(address, owner): the write buffer, and the object that keeps it. */
static PyObject *outbound_attach(PyObject *self, PyObject *args)
{
    nats_py_outbound *outbound = (nats_py_outbound *)self;
    PyObject *address, *owner;
    void *wbuf;
    if (!PyArg_ParseTuple(args, "OO", &address, &owner))
        return NULL;
    wbuf = PyLong_AsVoidPtr(address);
    if (wbuf == NULL || outbound->owner != NULL) {
        if (PyErr_Occurred() == NULL)
            PyErr_SetString(PyExc_ValueError, "no buffer, or a second one");
        return NULL;
    }
    Py_INCREF(owner);
    outbound->owner = owner;
    outbound->wbuf = wbuf;
    nats_wbuf_set_grown(wbuf, nats_py_use_huge_pages);
    Py_RETURN_NONE;
}

Py_ssize_t nats_py_send(PyObject *self, int fd)
{
    nats_wbuf *wbuf = ((nats_py_outbound *)self)->wbuf;
    const char *data = nats_wbuf_data(wbuf);
    size_t size = nats_wbuf_len(wbuf);
    ssize_t taken;
    int error;
    if (size > MOST_AT_ONCE)
        size = MOST_AT_ONCE;
    nats_wbuf_lock(wbuf, 1);
    Py_BEGIN_ALLOW_THREADS
    taken = send(fd, data, size, MSG_NOSIGNAL);
    error = errno;
    Py_END_ALLOW_THREADS
    nats_wbuf_lock(wbuf, 0);
    if (taken < 0)
        return error == EAGAIN || error == EWOULDBLOCK || error == EINTR ? 0 : -error;
    /* Another thread has perhaps ended the connection meanwhile, and so taken the bytes back. */
    size = nats_wbuf_len(wbuf);
    nats_wbuf_sent(wbuf, (size_t)taken < size ? (size_t)taken : size);
    return (Py_ssize_t)taken;
}

/* send(fd): give the unsent bytes to the kernel in one call. Return how many it took, or -errno. */
static PyObject *outbound_send(PyObject *self, PyObject *fd)
{
    int socket = (int)PyLong_AsLong(fd);
    if (socket == -1 && PyErr_Occurred() != NULL)
        return NULL;
    if (((nats_py_outbound *)self)->wbuf == NULL) {
        PyErr_SetString(PyExc_ValueError, "no buffer");
        return NULL;
    }
    return PyLong_FromSsize_t(nats_py_send(self, socket));
}

Py_ssize_t nats_py_unsent(PyObject *self)
{
    const nats_wbuf *wbuf =
        PyObject_TypeCheck(self, outbound_type) ? ((nats_py_outbound *)self)->wbuf : NULL;
    return wbuf == NULL ? -1 : (Py_ssize_t)nats_wbuf_len(wbuf);
}

int nats_py_wants_notice(PyObject *self)
{
    return ((nats_py_outbound *)self)->wants_notice;
}

static int outbound_traverse(PyObject *self, visitproc visit, void *arg)
{
    nats_py_outbound *outbound = (nats_py_outbound *)self;
    Py_VISIT(outbound->owner);
    Py_VISIT(outbound->timeout);
    Py_VISIT(outbound->times);
    Py_VISIT(outbound->waiting);
    Py_VISIT(outbound->queued);
    Py_VISIT(outbound->schedule);
    Py_VISIT(outbound->loop);
    Py_VISIT(outbound->begin_run);
    Py_VISIT(outbound->subject);
    Py_VISIT(outbound->subjects);
    Py_VISIT(outbound->begin_subject);
    Py_VISIT(outbound->overrides);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

/* The owner stays: a finalizer of what is released may publish. */
static int outbound_clear(PyObject *self)
{
    nats_py_outbound *outbound = (nats_py_outbound *)self;
    Py_CLEAR(outbound->timeout);
    Py_CLEAR(outbound->times);
    Py_CLEAR(outbound->queued);
    Py_CLEAR(outbound->schedule);
    Py_CLEAR(outbound->loop);
    Py_CLEAR(outbound->begin_run);
    Py_CLEAR(outbound->subject);
    Py_CLEAR(outbound->subjects);
    Py_CLEAR(outbound->begin_subject);
    Py_CLEAR(outbound->overrides);
    return 0;
}

static void outbound_dealloc(PyObject *self)
{
    nats_py_outbound *outbound = (nats_py_outbound *)self;
    PyObject_GC_UnTrack(self);
    outbound_clear(self);
    Py_CLEAR(outbound->waiting);
    Py_CLEAR(outbound->owner);
    nats_py_free(self);
}

/* len(outbound): the bytes that are not sent. */
static Py_ssize_t outbound_length(PyObject *self)
{
    const nats_wbuf *wbuf = ((nats_py_outbound *)self)->wbuf;
    return wbuf == NULL ? 0 : (Py_ssize_t)nats_wbuf_len(wbuf);
}

static PyMemberDef outbound_members[] = {
    {"last_order", T_ULONGLONG, offsetof(nats_py_outbound, order), 0,
     "The number of the last request or other completion."},
    {"run_start", T_ULONGLONG, offsetof(nats_py_outbound, run), 0,
     "The number of the first request of the run that is being made; 0: no run has begun."},
    {"timeout", T_OBJECT, offsetof(nats_py_outbound, timeout), 0,
     "The time-out of the last request, as its caller gave it."},
    {"times", T_OBJECT, offsetof(nats_py_outbound, times), 0,
     "What takes another time-out; None: Python checks each."},
    {"no_headers", T_BOOL, offsetof(nats_py_outbound, no_headers), 0,
     "Whether the server does not support headers."},
    {"wants_notice", T_BOOL, offsetof(nats_py_outbound, wants_notice), 0,
     "Whether `before_write` must be called before the next write."},
    {"waiting", T_OBJECT, offsetof(nats_py_outbound, waiting), 0,
     "The table of the callbacks of requests by number."},
    {"queued", T_OBJECT, offsetof(nats_py_outbound, queued), 0,
     "Called with the bits of a framing call, if any is set."},
    {"schedule", T_OBJECT, offsetof(nats_py_outbound, schedule), 0,
     "Called without arguments in place of `queued` when the turn's end is all that is asked for; "
     "or None."},
    {"loop", T_OBJECT, offsetof(nats_py_outbound, loop), 0,
     "What has the attribute `thread`: in another one `queued` is called."},
    {"batches", T_INT, offsetof(nats_py_outbound, batches), 0,
     "How many calls of `batch` are on the stack: nothing is scheduled."},
    {"begin_run", T_OBJECT, offsetof(nats_py_outbound, begin_run), 0,
     "Called with the number of the first request of a run."},
    {"subject", T_OBJECT, offsetof(nats_py_outbound, subject), 0, "That of the last request."},
    {"subjects", T_OBJECT, offsetof(nats_py_outbound, subjects), 0,
     "The list of (number, subject) of each request to another subject than the one before."},
    {"most_subjects", T_PYSSIZET, offsetof(nats_py_outbound, most_subjects), 0,
     "How many of them there may be; then `begin_subject` is called."},
    {"overrides", T_OBJECT, offsetof(nats_py_outbound, overrides), 0,
     "Two callables that wrap a callback for no_responders=False and True."},
    {"begin_subject", T_OBJECT, offsetof(nats_py_outbound, begin_subject), 0,
     "Called with the number and the subject of a request to another subject, if the list is "
     "full."},
    {NULL, 0, 0, 0, NULL}};

static PyMethodDef outbound_methods[] = {
    {"_attach", outbound_attach, METH_VARARGS,
     "Set the write buffer's address, and what keeps it."},
    {"send", outbound_send, METH_O,
     "Give the unsent bytes to a socket in one call. Return how many it took, or -errno."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot outbound_slots[] = {
    {Py_tp_doc, "What the fast paths of publish and request use."},
    {Py_sq_length, outbound_length},
    {Py_tp_members, outbound_members},
    {Py_tp_methods, outbound_methods},
    {Py_tp_traverse, outbound_traverse},
    {Py_tp_clear, outbound_clear},
    {Py_tp_dealloc, outbound_dealloc},
    {0, NULL}};

static PyType_Spec outbound_spec = {"nats_ev._parser.Outbound", sizeof(nats_py_outbound), 0,
                                    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                                    outbound_slots};

PyObject *nats_py_outbound_type(void)
{
    name_payload = PyUnicode_InternFromString("payload");
    name_reply_to = PyUnicode_InternFromString("reply_to");
    name_timeout_ms = PyUnicode_InternFromString("timeout_ms");
    name_headers = PyUnicode_InternFromString("headers");
    name_no_responders = PyUnicode_InternFromString("no_responders");
    name_thread = PyUnicode_InternFromString("thread");
    default_timeout = PyLong_FromLong(5000);
    if (name_payload == NULL || name_reply_to == NULL || name_timeout_ms == NULL ||
        name_headers == NULL || name_no_responders == NULL || name_thread == NULL ||
        default_timeout == NULL)
        return NULL;
    outbound_type = (PyTypeObject *)PyType_FromSpec(&outbound_spec);
    return (PyObject *)outbound_type;
}
