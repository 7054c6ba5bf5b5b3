/*
 * py_turn: what happens in every turn of the loop. The bases of `net.Turn`, `connection.Link` and
 * `connection.Connection`.
 *
 * Theory of operation
 *
 * With one message on the way at a time, the price of a message is that of a turn: the loop finds the socket
 * readable, the bytes are read and delivered, and at the turn's end what was framed is written. These files in
 * Python say how that works (net/turn.py, connection/link.py); the steps that every turn takes are here:
 *
 *  - `Link.read`, the callback of the read watcher;
 *  - `Turn._on_prepare`, the callback of the watcher that is fed for the turn's end;
 *  - `Link.flush`, which the latter calls.
 *
 * Each does the usual steps itself and calls a method of the Python class for what is rare: a connection that
 * is not `_direct` (TLS, the handshake), the end of a stream, an error, a socket that takes no more, calls that
 * were put off. So each rule has one home.
 *
 * Any call of Python code may close the link or attach another one. So a function has references of its own to
 * what it uses after such a call, and reads the fields again.
 */
#include "py_hot.h"

#include <stddef.h>
#include <string.h>

/* From libev's ev.h, whose numbers are its ABI. */
enum { EV_CUSTOM = 0x01000000 };

/* The base of `Connection`: how many deliveries are on the stack, and whether a drain refuses messages. */
typedef struct {
    PyObject_HEAD
    int delivering;
    char refusing;
} connection;

typedef struct {
    PyObject_HEAD
    PyObject *session; /* an Inbound */
    PyObject *out;     /* an Outbound */
    PyObject *owner;   /* a connection */
    PyObject *before_write, *clock;
    double spoke_at, slice;
    int fd;
    char direct, writing, broken, closed;
} nats_link;

typedef struct {
    PyObject_HEAD
    PyObject *received; /* an Inbound, or another object with the attribute `drained` */
    PyObject *deliver, *finish, *flush;
    PyObject *prepare; /* the watcher, and the function that feeds it, if it is one of pyev */
    int (*feed)(PyObject *, int);
    PyObject *soon, *unhandled; /* deques */
    char fed, resting, unfinished;
} turn;

static PyTypeObject *connection_type, *turn_type;
static PyObject *name_delivery_changed, *name_read_otherwise, *name_not_drained,
    *name_flush_otherwise, *name_send_failed, *name_watch_writable, *name_run_put_off, *name_raise,
    *name_drained, *name_feed;

/* Use up the result of a call. Return 0, or -1 with an exception. */
static int checked(PyObject *result)
{
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int call_method(PyObject *self, PyObject *name)
{
    return checked(PyObject_CallMethodObjArgs(self, name, NULL));
}

/* Call an attribute of an object, which the call may replace; NULL: the garbage collector has taken it. */
static int call(PyObject *callable)
{
    int status;
    if (callable == NULL)
        return 0;
    Py_INCREF(callable);
    status = checked(PyObject_CallNoArgs(callable));
    Py_DECREF(callable);
    return status;
}

static PyObject *raise_unset(void)
{
    PyErr_SetString(PyExc_AttributeError, "the constructor was not called");
    return NULL;
}

/* ---- Link: in ---- */

/* Return 0, or -1 with an exception; the number has changed in both cases. */
static int change_delivering(PyObject *owner, int by)
{
    connection *c = (connection *)owner;
    c->delivering += by;
    return c->refusing ? call_method(owner, name_delivery_changed) : 0;
}

/* End a delivery, whether an exception is set or not. Return 0, or -1 with the later exception. */
static int end_delivery(PyObject *owner)
{
    PyObject *type, *value, *trace;
    int status;
    PyErr_Fetch(&type, &value, &trace);
    status = change_delivering(owner, -1);
    if (status == 0) {
        PyErr_Restore(type, value, trace);
        return 0;
    }
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(trace);
    return -1;
}

/* read(watcher=None, revents=EV_READ) -> whether there was anything to read */
static PyObject *link_read(PyObject *self_, PyObject *const *args, Py_ssize_t nargs)
{
    nats_link *self = (nats_link *)self_;
    PyObject *session = self->session, *owner = self->owner, *result = NULL;
    double spoke_at = self->spoke_at;
    long code = -1;
    (void)args;
    (void)nargs;
    if (self->closed || !self->direct)
        return PyObject_CallMethodObjArgs(self_, name_read_otherwise, NULL);
    if (session == NULL || owner == NULL)
        return raise_unset();
    Py_INCREF(session);
    Py_INCREF(owner);
    self->spoke_at = 0.0;
    if (change_delivering(owner, 1) == 0)
        code = nats_py_read(session, self->fd, self->slice);
    if (end_delivery(owner) == 0 && PyErr_Occurred() == NULL) {
        if (code == NATS_PY_DRAINED) {
            result = Py_True;
            Py_INCREF(result);
        } else {
            PyObject *number = PyLong_FromLong(code), *when = PyFloat_FromDouble(spoke_at);
            if (number != NULL && when != NULL)
                result = PyObject_CallMethodObjArgs(self_, name_not_drained, number, when, NULL);
            Py_XDECREF(number);
            Py_XDECREF(when);
        }
    }
    Py_DECREF(session);
    Py_DECREF(owner);
    return result;
}

/* ---- Link: out ---- */

/* Note the time as that of our last words. */
static int note_time(nats_link *self)
{
    PyObject *now = self->clock == NULL ? raise_unset() : PyObject_CallNoArgs(self->clock);
    double seconds = now == NULL ? -1.0 : PyFloat_AsDouble(now);
    Py_XDECREF(now);
    if (PyErr_Occurred() != NULL)
        return -1;
    self->spoke_at = seconds;
    return 0;
}

/* Make one call to the kernel. Return the bytes that are left, or -1 when the rest is done, or with an exception. */
static Py_ssize_t send_once(PyObject *self, PyObject *out, int fd)
{
    Py_ssize_t left = nats_py_unsent(out), taken = left == 0 ? 0 : nats_py_send(out, fd);
    if (left == 0)
        return 0;
    if (taken < 0) {
        PyObject *number = PyLong_FromSsize_t(-taken);
        if (number != NULL) {
            (void)checked(PyObject_CallMethodObjArgs(self, name_send_failed, number, NULL));
            Py_DECREF(number);
        }
        return -1;
    }
    return note_time((nats_link *)self) < 0 ? -1 : left - taken;
}

/* flush(again=False) */
static PyObject *link_flush(PyObject *self_, PyObject *const *args, Py_ssize_t nargs)
{
    nats_link *self = (nats_link *)self_;
    int again = nargs == 0 ? 0 : PyObject_IsTrue(args[0]);
    PyObject *out;
    Py_ssize_t left;
    if (again < 0)
        return NULL;
    if ((self->writing && !again) || self->broken)
        Py_RETURN_NONE;
    if (!self->direct)
        return PyObject_CallMethodObjArgs(self_, name_flush_otherwise, NULL);
    if (self->out == NULL)
        return raise_unset();
    if (nats_py_wants_notice(self->out) && call(self->before_write) < 0)
        return NULL;
    out = self->out;
    Py_INCREF(out);
    left = send_once(self_, out, self->fd);
    Py_DECREF(out);
    if (PyErr_Occurred() != NULL)
        return NULL;
    if (left >= 0 && (left > 0) != self->writing) {
        PyObject *wanted = left > 0 ? Py_True : Py_False;
        if (checked(PyObject_CallMethodObjArgs(self_, name_watch_writable, wanted, NULL)) < 0)
            return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- Turn ---- */

/* Return whether all has been delivered, or -1 with an exception. */
static int is_drained(PyObject *received)
{
    PyObject *drained;
    int result = nats_py_is_drained(received);
    if (result >= 0)
        return result;
    drained = PyObject_GetAttr(received, name_drained);
    result = drained == NULL ? -1 : PyObject_IsTrue(drained);
    Py_XDECREF(drained);
    return result;
}

/* Return whether a deque is not empty; its length cannot fail. */
static int has_some(PyObject *deque)
{
    return deque != NULL && PyObject_Size(deque) > 0;
}

/* _on_prepare(watcher, revents): the turn's end, in the order that net/turn.py gives. */
static PyObject *on_prepare(PyObject *self_, PyObject *const *args, Py_ssize_t nargs)
{
    turn *self = (turn *)self_;
    int drained;
    (void)args;
    (void)nargs;
    if (self->received == NULL)
        return raise_unset();
    self->fed = 0;
    drained = is_drained(self->received);
    if (drained < 0 || (drained == 0 && call(self->deliver) < 0))
        return NULL;
    if (!self->resting && has_some(self->soon) && call_method(self_, name_run_put_off) < 0)
        return NULL;
    if (self->unfinished) {
        self->unfinished = 0;
        if (call(self->finish) < 0)
            return NULL;
    }
    if (call(self->flush) < 0)
        return NULL;
    if (has_some(self->unhandled) && call_method(self_, name_raise) < 0)
        return NULL;
    Py_RETURN_NONE;
}

int nats_py_schedule(PyObject *self)
{
    turn *t = (turn *)self;
    PyObject *bits, *prepare = t->prepare;
    int status;
    if (prepare == NULL) /* the garbage collector has taken it */
        return 0;
    if (t->feed != NULL)
        return t->feed(prepare, EV_CUSTOM);
    bits = PyLong_FromLong(EV_CUSTOM);
    if (bits == NULL)
        return -1;
    Py_INCREF(prepare);
    status = checked(PyObject_CallMethodObjArgs(prepare, name_feed, bits, NULL));
    Py_DECREF(prepare);
    Py_DECREF(bits);
    return status;
}

/* schedule(): ask the loop to call `_on_prepare` before it blocks. */
static PyObject *turn_schedule(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (nats_py_schedule(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

int nats_py_call_schedule(PyObject *schedule)
{
    if (PyCFunction_Check(schedule) && PyCFunction_GetFunction(schedule) == turn_schedule) {
        PyObject *self = PyCFunction_GetSelf(schedule);
        int status;
        Py_INCREF(self);
        status = nats_py_schedule(self);
        Py_DECREF(self);
        return status;
    }
    return call(schedule);
}

/* _attach_watcher(prepare, address): the watcher that is fed; its `_feed_address`, or 0 for `prepare.feed`. */
static PyObject *turn_attach(PyObject *self, PyObject *args)
{
    turn *t = (turn *)self;
    PyObject *prepare, *address, *old = t->prepare;
    void *feed;
    if (!PyArg_ParseTuple(args, "OO", &prepare, &address))
        return NULL;
    feed = PyLong_AsVoidPtr(address);
    if (PyErr_Occurred() != NULL)
        return NULL;
    memcpy(&t->feed, &feed, sizeof feed);
    Py_INCREF(prepare);
    t->prepare = prepare;
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

int nats_py_is_turn(PyObject *object)
{
    return PyObject_TypeCheck(object, turn_type);
}

int nats_py_unfinished(PyObject *self)
{
    turn *t = (turn *)self;
    if (t->unfinished) /* who has set it has called `schedule` */
        return 0;
    t->unfinished = 1;
    return nats_py_schedule(self);
}

/* ---- the types ---- */

static int connection_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void connection_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    nats_py_free(self);
}

static PyMemberDef connection_members[] = {
    {"delivering", T_INT, offsetof(connection, delivering), 0,
     "How many deliveries are on the stack: messages are accepted then, in a drain, too."},
    {"refusing", T_BOOL, offsetof(connection, refusing), 0,
     "Whether a drain refuses messages: `delivery_changed` follows each change of `delivering`."},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot connection_slots[] = {{Py_tp_doc, "What a link needs of its connection."},
                                         {Py_tp_members, connection_members},
                                         {Py_tp_traverse, connection_traverse},
                                         {Py_tp_dealloc, connection_dealloc},
                                         {0, NULL}};

static int link_traverse(PyObject *self_, visitproc visit, void *arg)
{
    nats_link *self = (nats_link *)self_;
    Py_VISIT(self->session);
    Py_VISIT(self->out);
    Py_VISIT(self->owner);
    Py_VISIT(self->before_write);
    Py_VISIT(self->clock);
    Py_VISIT(Py_TYPE(self_));
    return 0;
}

static int link_clear(PyObject *self_)
{
    nats_link *self = (nats_link *)self_;
    Py_CLEAR(self->session);
    Py_CLEAR(self->out);
    Py_CLEAR(self->owner);
    Py_CLEAR(self->before_write);
    Py_CLEAR(self->clock);
    return 0;
}

static void link_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    link_clear(self);
    nats_py_free(self);
}

/* The owner is read as a connection: nothing else may be set. */
static int set_owner(PyObject *self_, PyObject *owner, void *unused)
{
    nats_link *self = (nats_link *)self_;
    PyObject *old = self->owner;
    (void)unused;
    if (owner == NULL || !PyObject_TypeCheck(owner, connection_type)) {
        PyErr_SetString(PyExc_TypeError, "the owner must be a ConnectionBase");
        return -1;
    }
    Py_INCREF(owner);
    self->owner = owner;
    Py_XDECREF(old);
    return 0;
}

static PyObject *get_owner(PyObject *self, void *unused)
{
    PyObject *owner = ((nats_link *)self)->owner;
    (void)unused;
    if (owner == NULL)
        return raise_unset();
    Py_INCREF(owner);
    return owner;
}

static int set_session(PyObject *self_, PyObject *session, void *unused)
{
    nats_link *self = (nats_link *)self_;
    PyObject *old = self->session;
    (void)unused;
    if (session == NULL || nats_py_is_drained(session) < 0) {
        PyErr_SetString(PyExc_TypeError, "the session must be an Inbound");
        return -1;
    }
    Py_INCREF(session);
    self->session = session;
    Py_XDECREF(old);
    return 0;
}

static PyObject *get_session(PyObject *self, void *unused)
{
    PyObject *session = ((nats_link *)self)->session;
    (void)unused;
    if (session == NULL)
        return raise_unset();
    Py_INCREF(session);
    return session;
}

static int set_out(PyObject *self_, PyObject *out, void *unused)
{
    nats_link *self = (nats_link *)self_;
    PyObject *old = self->out;
    (void)unused;
    if (out == NULL || nats_py_unsent(out) < 0) {
        PyErr_SetString(PyExc_TypeError, "out must be an Outbound that has a buffer");
        return -1;
    }
    Py_INCREF(out);
    self->out = out;
    Py_XDECREF(old);
    return 0;
}

static PyObject *get_out(PyObject *self, void *unused)
{
    PyObject *out = ((nats_link *)self)->out;
    (void)unused;
    if (out == NULL)
        return raise_unset();
    Py_INCREF(out);
    return out;
}

static PyMemberDef link_members[] = {
    {"_before_write", T_OBJECT_EX, offsetof(nats_link, before_write), 0,
     "Called before a write if the buffer `wants_notice`."},
    {"_clock", T_OBJECT_EX, offsetof(nats_link, clock), 0, "Returns the time in seconds."},
    {"_spoke_at", T_DOUBLE, offsetof(nats_link, spoke_at), 0,
     "When we last wrote or failed to; 0: the server has said something since."},
    {"_slice", T_DOUBLE, offsetof(nats_link, slice), 0, "Seconds of callbacks in a row."},
    {"_fd", T_INT, offsetof(nats_link, fd), 0, "The socket's descriptor."},
    {"_direct", T_BOOL, offsetof(nats_link, direct), 0,
     "Whether C reads and writes the socket: after the handshake, and without TLS."},
    {"_writing", T_BOOL, offsetof(nats_link, writing), 0,
     "Whether the socket takes no more and the write watcher waits."},
    {"_broken", T_BOOL, offsetof(nats_link, broken), 0, "Whether the write side is broken."},
    {"_closed", T_BOOL, offsetof(nats_link, closed), 0,
     "Whether the connection has let go of the link."},
    {NULL, 0, 0, 0, NULL}};

static PyGetSetDef link_getset[] = {
    {"session", get_session, set_session, "The protocol of the connection.", NULL},
    {"_out", get_out, set_out, "The client's write buffer.", NULL},
    {"_owner", get_owner, set_owner, "The connection.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef link_methods[] = {
    {"read", (PyCFunction)(void (*)(void))link_read, METH_FASTCALL,
     "Read once and deliver; return whether there was anything to read."},
    {"flush", (PyCFunction)(void (*)(void))link_flush, METH_FASTCALL,
     "Write what is buffered, in one call to the kernel; with True although a write watcher "
     "waits."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot link_slots[] = {{Py_tp_doc, "What reading and writing use in every turn."},
                                   {Py_tp_members, link_members},
                                   {Py_tp_getset, link_getset},
                                   {Py_tp_methods, link_methods},
                                   {Py_tp_traverse, link_traverse},
                                   {Py_tp_clear, link_clear},
                                   {Py_tp_dealloc, link_dealloc},
                                   {0, NULL}};

static int turn_traverse(PyObject *self_, visitproc visit, void *arg)
{
    turn *self = (turn *)self_;
    Py_VISIT(self->received);
    Py_VISIT(self->deliver);
    Py_VISIT(self->finish);
    Py_VISIT(self->flush);
    Py_VISIT(self->prepare);
    Py_VISIT(self->soon);
    Py_VISIT(self->unhandled);
    Py_VISIT(Py_TYPE(self_));
    return 0;
}

static int turn_clear(PyObject *self_)
{
    turn *self = (turn *)self_;
    Py_CLEAR(self->received);
    Py_CLEAR(self->deliver);
    Py_CLEAR(self->finish);
    Py_CLEAR(self->flush);
    Py_CLEAR(self->prepare);
    Py_CLEAR(self->soon);
    Py_CLEAR(self->unhandled);
    return 0;
}

static void turn_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    turn_clear(self);
    nats_py_free(self);
}

static PyMemberDef turn_members[] = {
    {"_received", T_OBJECT_EX, offsetof(turn, received), 0, "What a connection has received."},
    {"deliver", T_OBJECT_EX, offsetof(turn, deliver), 0, "Delivers what is left of it."},
    {"finish", T_OBJECT_EX, offsetof(turn, finish), 0,
     "Called before the write of a turn that is `unfinished`. Must not call the user's code."},
    {"flush", T_OBJECT_EX, offsetof(turn, flush), 0, "Writes all that the turn has framed."},
    {"_soon", T_OBJECT_EX, offsetof(turn, soon), 0, "The calls that were put off."},
    {"_unhandled", T_OBJECT_EX, offsetof(turn, unhandled), 0, "The exceptions of `throw`."},
    {"_fed", T_BOOL, offsetof(turn, fed), 0,
     "Whether `run_soon` has fed the watcher, and it has not been called since."},
    {"_resting", T_BOOL, offsetof(turn, resting), 0, "Whether the calls wait for a timer."},
    {"unfinished", T_BOOL, offsetof(turn, unfinished), 0,
     "Who sets it calls `schedule`, too: then `finish` is called at the end of this turn."},
    {NULL, 0, 0, 0, NULL}};

static PyMethodDef turn_methods[] = {
    {"_on_prepare", (PyCFunction)(void (*)(void))on_prepare, METH_FASTCALL, "End the turn."},
    {"schedule", turn_schedule, METH_NOARGS,
     "Ask the loop to call `_on_prepare` before it blocks."},
    {"_attach_watcher", turn_attach, METH_VARARGS,
     "Set the watcher that is fed, and the address of the C function that does so, or 0."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot turn_slots[] = {{Py_tp_doc, "What the end of every turn uses."},
                                   {Py_tp_members, turn_members},
                                   {Py_tp_methods, turn_methods},
                                   {Py_tp_traverse, turn_traverse},
                                   {Py_tp_clear, turn_clear},
                                   {Py_tp_dealloc, turn_dealloc},
                                   {0, NULL}};

#define SPEC(name, type, slots)                                                                    \
    {"nats_ev._parser." name, sizeof(type), 0,                                                     \
     Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots}

static PyType_Spec connection_spec = SPEC("ConnectionBase", connection, connection_slots);
static PyType_Spec link_spec = SPEC("LinkBase", nats_link, link_slots);
static PyType_Spec turn_spec = SPEC("TurnBase", turn, turn_slots);

static int find_names(void)
{
    name_delivery_changed = PyUnicode_InternFromString("delivery_changed");
    name_read_otherwise = PyUnicode_InternFromString("_read_otherwise");
    name_not_drained = PyUnicode_InternFromString("_not_drained");
    name_flush_otherwise = PyUnicode_InternFromString("_flush_otherwise");
    name_send_failed = PyUnicode_InternFromString("_send_failed");
    name_watch_writable = PyUnicode_InternFromString("_watch_writable");
    name_run_put_off = PyUnicode_InternFromString("_run_put_off");
    name_raise = PyUnicode_InternFromString("_raise");
    name_drained = PyUnicode_InternFromString("drained");
    name_feed = PyUnicode_InternFromString("feed");
    return name_delivery_changed != NULL && name_read_otherwise != NULL &&
           name_not_drained != NULL && name_flush_otherwise != NULL && name_send_failed != NULL &&
           name_watch_writable != NULL && name_run_put_off != NULL && name_raise != NULL &&
           name_drained != NULL && name_feed != NULL;
}

PyObject *nats_py_connection_type(void)
{
    PyObject *type = find_names() ? PyType_FromSpec(&connection_spec) : NULL;
    connection_type = (PyTypeObject *)type;
    return type;
}

PyObject *nats_py_link_type(void)
{
    return PyType_FromSpec(&link_spec);
}

PyObject *nats_py_turn_type(void)
{
    turn_type = (PyTypeObject *)PyType_FromSpec(&turn_spec);
    return (PyObject *)turn_type;
}
