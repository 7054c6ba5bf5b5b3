/*
 * py_taker: the messages of a consumer that need no look: counted, made into an object, and given to a callback.
 *
 * A Taker is the base of JetStream's `Puller`, whose `_take` is the callback of its subscription. Nearly all messages
 * are no statuses, lead to no request for more, and, for an ordered consumer, come where the one before has ended.
 * `_take` does what `Puller._on_message` does with these. All others go to that method, so that each rule has one home.
 *
 * The messages are objects of a Python class with slots. `_take` allocates one without calling its constructor, and
 * sets the slots by their descriptors, which takes a quarter of the time.
 */
#include "py_call.h"
#include "py_hot.h"

#include <stddef.h>
#include <string.h>

enum { SUBJECT, DATA, REPLY, HEADERS, NATS, ACKED, N_SLOTS };

static const char *const slot_names[N_SLOTS] = {"subject", "data",  "reply",
                                                "headers", "_nats", "_acked"};

typedef struct {
    PyObject_HEAD
    long long received; /* messages since the beginning */
    long long mark;     /* a count that the next message must not reach here */
    Py_ssize_t
        where; /* where the consumer sequence begins in a reply subject, with its dot; 0: not looked at */
    PyObject *last_reply;
    PyObject *callback; /* cb(message, None); NULL: all messages are for Python */
    PyObject *type;     /* of the messages */
    PyObject *nats;     /* for their answers; NULL: they have none */
    PyObject *slots[N_SLOTS];
    char pinned; /* headers are for Python, which looks for the pin's id in them */
} taker;

static PyObject *name_on_message;
static descrsetfunc set_slot; /* of a member's descriptor */

/* Return whether a reply subject has a number between dots where the last message had it. */
static int is_next(const taker *self, PyObject *reply, long long number)
{
    const char *p, *end;
    Py_ssize_t size;
    long long found = 0;
    if (!PyUnicode_CheckExact(reply))
        return 0;
    p = PyUnicode_AsUTF8AndSize(reply, &size);
    if (p == NULL) {
        PyErr_Clear();
        return 0;
    }
    end = p + size;
    if (self->where >= size - 2 || PyUnicode_GetLength(reply) != size)
        return 0;
    p += self->where;
    if (*p++ != '.' || *p == '0')
        return 0;
    while (p < end && *p >= '0' && *p <= '9' && found < number)
        found = found * 10 + (*p++ - '0');
    return found == number && p < end && *p == '.';
}

/* Return whether a message is no status, whatever else it is. */
static int is_message(const taker *self, PyObject *headers)
{
    static const char STATUS[] = "NATS/1.0 ";
    Py_ssize_t n = sizeof STATUS - 1;
    if (headers == Py_None)
        return 1;
    return !self->pinned && PyBytes_CheckExact(headers) && PyBytes_Size(headers) >= n &&
           memcmp(PyBytes_AsString(headers), STATUS, (size_t)n) != 0;
}

static PyObject *make(const taker *self, PyObject *const *args)
{
    PyObject *message = PyType_GenericAlloc((PyTypeObject *)self->type, 0);
    int i, status = 0;
    for (i = 0; message != NULL && status == 0 && i < NATS; i++)
        status = set_slot(self->slots[i], message, args[i]);
    if (message != NULL && status == 0 && self->nats != NULL) {
        status = set_slot(self->slots[NATS], message, self->nats);
        if (status == 0)
            status = set_slot(self->slots[ACKED], message, Py_False);
    }
    if (status < 0)
        Py_CLEAR(message);
    return message;
}

/* _take(subject, payload, reply, headers): the callback of the subscription */
static PyObject *taker_take(PyObject *self_, PyObject *const *args, Py_ssize_t nargs)
{
    taker *self = (taker *)self_;
    PyObject *message, *callback, *result = NULL;
    if (nargs != 4) {
        PyErr_SetString(PyExc_TypeError, "_take() takes 4 arguments");
        return NULL;
    }
    if (!is_message(self, args[3]) || self->callback == NULL || self->received + 1 >= self->mark ||
        (self->nats == NULL && (self->where == 0 || !is_next(self, args[2], self->received + 1))))
        return PyObject_CallMethodObjArgs(self_, name_on_message, args[0], args[1], args[2],
                                          args[3], NULL);
    /* Before anything that may run Python code, which may deliver the next message. */
    self->received++;
    if (self->nats == NULL) {
        PyObject *last = self->last_reply;
        Py_INCREF(args[2]);
        self->last_reply = args[2];
        Py_XDECREF(last);
    }
    callback = self->callback;
    Py_INCREF(callback);
    message = make(self, args);
    if (message != NULL) {
        PyObject *given[] = {NULL, message, Py_None};
        result = nats_py_call(callback, given, 2);
    }
    Py_XDECREF(message);
    Py_DECREF(callback);
    return result;
}

/* _give(callback, type, base, nats): give messages of this type, whose slots base has, to a callback. nats None: they
   can't be answered, and come in order. */
static PyObject *taker_give(PyObject *self_, PyObject *args)
{
    taker *self = (taker *)self_;
    PyObject *callback, *type, *base, *nats, *slots[N_SLOTS];
    int i, n = 0;
    if (!PyArg_ParseTuple(args, "OO!O!O", &callback, &PyType_Type, &type, &PyType_Type, &base,
                          &nats))
        return NULL;
    if (self->callback != NULL || !PyType_IsSubtype((PyTypeObject *)type, (PyTypeObject *)base)) {
        PyErr_SetString(PyExc_TypeError, "a second time, or a type that has not these slots");
        return NULL;
    }
    while (n < N_SLOTS && (slots[n] = PyObject_GetAttrString(base, slot_names[n])) != NULL &&
           PyType_GetSlot(Py_TYPE(slots[n]), Py_tp_descr_set) == (void *)set_slot)
        n++;
    if (n < N_SLOTS) {
        if (slots[n] != NULL) {
            n++;
            PyErr_SetString(PyExc_TypeError, "no slot");
        }
        for (i = 0; i < n; i++)
            Py_DECREF(slots[i]);
        return NULL;
    }
    memcpy(self->slots, slots, sizeof slots);
    Py_INCREF(type);
    self->type = type;
    if (nats != Py_None) {
        Py_INCREF(nats);
        self->nats = nats;
    }
    Py_INCREF(callback);
    self->callback = callback;
    Py_RETURN_NONE;
}

static int taker_traverse(PyObject *self_, visitproc visit, void *arg)
{
    taker *self = (taker *)self_;
    int i;
    Py_VISIT(self->last_reply);
    Py_VISIT(self->callback);
    Py_VISIT(self->type);
    Py_VISIT(self->nats);
    for (i = 0; i < N_SLOTS; i++)
        Py_VISIT(self->slots[i]);
    Py_VISIT(Py_TYPE(self_));
    return 0;
}

/* type and slots stay: a call that runs uses them. */
static int taker_clear(PyObject *self_)
{
    taker *self = (taker *)self_;
    Py_CLEAR(self->callback);
    Py_CLEAR(self->last_reply);
    return 0;
}

static void taker_dealloc(PyObject *self_)
{
    taker *self = (taker *)self_;
    int i;
    PyObject_GC_UnTrack(self_);
    taker_clear(self_);
    Py_CLEAR(self->nats);
    Py_CLEAR(self->type);
    for (i = 0; i < N_SLOTS; i++)
        Py_CLEAR(self->slots[i]);
    nats_py_free(self_);
}

static PyMemberDef taker_members[] = {
    {"_received", T_LONGLONG, offsetof(taker, received), 0, "Messages since the beginning."},
    {"_mark", T_LONGLONG, offsetof(taker, mark), 0,
     "The count of messages at which to ask for more."},
    {"_where", T_PYSSIZET, offsetof(taker, where), 0,
     "Where the consumer sequence begins in a reply subject, with its dot; 0: not known."},
    {"_pinned", T_BOOL, offsetof(taker, pinned), 0, "Whether headers may have the pin's id."},
    {"last_reply", T_OBJECT, offsetof(taker, last_reply), 0,
     "The reply subject of the last message, of those that come in order."},
    {NULL, 0, 0, 0, NULL}};

static PyMethodDef taker_methods[] = {
    {"_take", (PyCFunction)(void (*)(void))taker_take, METH_FASTCALL, "Take a message."},
    {"_give", taker_give, METH_VARARGS, "Set the callback of messages, and their type."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot taker_slots[] = {{Py_tp_doc, "What takes the messages of a consumer."},
                                    {Py_tp_members, taker_members},
                                    {Py_tp_methods, taker_methods},
                                    {Py_tp_traverse, taker_traverse},
                                    {Py_tp_clear, taker_clear},
                                    {Py_tp_dealloc, taker_dealloc},
                                    {0, NULL}};

static PyType_Spec taker_spec = {"nats_ev._parser.Taker", sizeof(taker), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                                 taker_slots};

PyObject *nats_py_taker_type(void)
{
    PyObject *type = PyType_FromSpec(&taker_spec), *member;
    nats_py_find_vectorcall();
    name_on_message = PyUnicode_InternFromString("_on_message");
    member = type == NULL ? NULL : PyObject_GetAttrString(type, "_mark");
    if (member == NULL || name_on_message == NULL) {
        Py_XDECREF(member);
        Py_CLEAR(type);
        return NULL;
    }
    set_slot = (descrsetfunc)PyType_GetSlot(Py_TYPE(member), Py_tp_descr_set);
    Py_DECREF(member);
    return type;
}
