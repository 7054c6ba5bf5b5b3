/*
 * py_watcher: the base of pyev's `Watcher` in C, and the call of a watcher's callback.
 *
 * Theory of operation
 *
 * A client's turn consists of a few events, so the price of an event is a large part of the price of a single
 * request. libev's event reaches the user's callback without a Python function in between: libev_glue.c calls
 * `nats_ev_on_event`, which calls the callback.
 *
 * The object refers to libev's watcher, and owns it. libev's watcher refers back without a reference: while it is
 * active or pending, the loop's dict `held` keeps the object, and an object that is being freed gets no event.
 *
 * Python runs signal handlers inside of Python code only. So a handler's exception comes out of the callback, or
 * out of `PyErr_CheckSignals` after it, and never strikes between libev and the callback. Before the callback
 * only memory may be missing: then the event is not delivered, and libev_glue.c sets it aside.
 *
 * No exception may be set when a function here returns to libev. `_glue.caught` and `_glue.interrupted`
 * decide what happens to it.
 */
#include <Python.h>
#include <structmember.h>

#include "libev_glue.h"
#include "py_call.h"

#include <limits.h>
#include <stddef.h>

typedef struct {
    PyObject_HEAD
    nats_ev_watcher *watcher; /* NULL: the constructor has not come so far */
    PyObject *callback;
    PyObject *loop;
    PyObject *held; /* the loop's dict of the objects that must stay alive, by `key` */
    PyObject *key;
} object;

/* Of `_glue`: caught(watcher, exception, can_stop) -> verdict, interrupted(exception), take_interrupt() -> verdict;
   and the dict of the module that has the flag `pending`. */
static PyObject *caught, *interrupted, *take_interrupt, *flags;
static PyObject *name_pending;

/* ---- exceptions ---- */

/* Take the exception that is set; NULL when there is none, or no memory. */
static PyObject *take_exception(void)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (value != NULL && trace != NULL && PyException_SetTraceback(value, trace) < 0)
        PyErr_Clear();
    Py_XDECREF(type);
    Py_XDECREF(trace);
    return value;
}

/* Note an exception for the run, which ends. */
static void note(void)
{
    PyObject *exception = take_exception();
    PyObject *done =
        exception == NULL ? NULL : PyObject_CallFunctionObjArgs(interrupted, exception, NULL);
    Py_XDECREF(exception);
    Py_XDECREF(done);
    PyErr_Clear(); /* `interrupted` begins with what needs no memory */
}

/* Return the verdict that a function of `_glue` has returned. */
static int verdict_of(PyObject *result)
{
    long verdict = result == NULL ? -1 : PyLong_AsLong(result);
    Py_XDECREF(result);
    if (!PyErr_Occurred())
        return (int)verdict;
    note();
    return NATS_EV_STOP;
}

static int deal_with_exception(PyObject *self, int can_stop)
{
    PyObject *exception = take_exception(), *result;
    if (exception == NULL)
        return NATS_EV_STOP;
    result =
        PyObject_CallFunctionObjArgs(caught, self, exception, can_stop ? Py_True : Py_False, NULL);
    Py_DECREF(exception);
    return verdict_of(result);
}

/* ---- events ---- */

static int hold(object *self)
{
    return PyDict_SetItem(self->held, self->key, (PyObject *)self);
}

static int release(object *self)
{
    /* Perhaps taken out already: an event that is fed while it is being delivered has one entry with it. */
    int found = PyDict_Contains(self->held, self->key);
    return found == 1 ? PyDict_DelItem(self->held, self->key) : found;
}

/* Call the callback. Return the verdict. The caller has a reference to self. */
static int deliver(object *self, int revents, int state)
{
    PyObject *callback = self->callback, *number, *done, *args[3];
    int verdict = 0;
    if (callback == NULL)
        return 0;
    number = PyLong_FromLong(revents);
    if (number == NULL || (!(state & NATS_EV_ACTIVE) && release(self) < 0)) {
        Py_XDECREF(number);
        if (state & NATS_EV_CAN_STOP)
            note();
        else
            (void)deal_with_exception((PyObject *)self, 0);
        return NATS_EV_NOT_DELIVERED;
    }
    Py_INCREF(callback);
    args[1] = (PyObject *)self;
    args[2] = number;
    done = nats_py_call(callback, args, 2);
    Py_DECREF(callback);
    Py_DECREF(number);
    Py_XDECREF(done);
    if (done == NULL) {
        verdict = deal_with_exception((PyObject *)self, state & NATS_EV_CAN_STOP);
    } else if (PyErr_CheckSignals() < 0) {
        if ((state & NATS_EV_CAN_STOP) == 0)
            return deal_with_exception((PyObject *)self, 0); /* no start of ours could raise it */
        note();
        verdict = NATS_EV_STOP;
    }
    if (verdict == 0 && (state & NATS_EV_CAN_STOP) != 0 &&
        PyDict_GetItemWithError(flags, name_pending) == Py_True)
        verdict = verdict_of(PyObject_CallFunctionObjArgs(take_interrupt, NULL));
    return verdict;
}

int nats_ev_on_event(void *python, int revents, int state)
{
    /* A host or another binding that runs the loop may have released the lock, also in a callback of ours. */
    int is_locked = (state & NATS_EV_LOCKED) != 0;
    PyGILState_STATE lock = is_locked ? PyGILState_LOCKED : PyGILState_Ensure();
    object *self = python;
    int verdict = 0;
    if (self != NULL && Py_REFCNT((PyObject *)self) > 0) {
        Py_INCREF((PyObject *)self);
        verdict = deliver(self, revents, state);
        Py_DECREF((PyObject *)self);
    }
    if (!is_locked)
        PyGILState_Release(lock);
    return verdict;
}

/* ---- the type ---- */

/* _own(address): take over libev's watcher. */
static PyObject *own(PyObject *self_, PyObject *address)
{
    object *self = (object *)self_;
    nats_ev_watcher *watcher = PyLong_AsVoidPtr(address);
    if (watcher == NULL || self->watcher != NULL || self->held == NULL || self->key == NULL ||
        !PyDict_Check(self->held)) {
        if (PyErr_Occurred() == NULL)
            PyErr_SetString(PyExc_ValueError, "no watcher, or a second one");
        return NULL;
    }
    self->watcher = watcher;
    nats_ev_watcher_own(watcher, self);
    Py_RETURN_NONE;
}

/* Return 0, or -1 with an exception. */
static int feed_bits(PyObject *self_, int bits)
{
    object *self = (object *)self_;
    if (self->watcher == NULL) {
        PyErr_SetString(PyExc_AttributeError, "the watcher's constructor was not called");
        return -1;
    }
    /* What is pending is held, and most turns ask for their end more than once. */
    if (!nats_ev_is_pending(self->watcher) && hold(self) < 0)
        return -1;
    nats_ev_feed(self->watcher, bits);
    return 0;
}

static PyObject *feed(PyObject *self, PyObject *revents)
{
    long bits = PyLong_AsLong(revents);
    if (bits == -1 && PyErr_Occurred() != NULL)
        return NULL;
    if (bits < INT_MIN || bits > INT_MAX) {
        PyErr_SetString(PyExc_OverflowError, "revents is out of the range of int");
        return NULL;
    }
    if (feed_bits(self, (int)bits) < 0)
        return NULL;
    Py_RETURN_NONE;
}

static int traverse(PyObject *self_, visitproc visit, void *arg)
{
    object *self = (object *)self_;
    Py_VISIT(self->callback);
    Py_VISIT(self->loop);
    Py_VISIT(self->held);
    Py_VISIT(self->key);
    Py_VISIT(Py_TYPE(self_));
    return 0;
}

static void dealloc(PyObject *self_)
{
    object *self = (object *)self_;
    PyTypeObject *type = Py_TYPE(self_);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    PyObject_GC_UnTrack(self_);
    if (self->watcher != NULL) {
        nats_ev_watcher_own(self->watcher, NULL);
        nats_ev_watcher_free(self->watcher);
        self->watcher = NULL;
    }
    Py_CLEAR(self->callback);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->held);
    Py_CLEAR(self->key);
    free_object(self_);
    Py_DECREF((PyObject *)type);
}

static PyMemberDef members[] = {{"_callback", T_OBJECT_EX, offsetof(object, callback), 0, NULL},
                                {"_loop", T_OBJECT_EX, offsetof(object, loop), 0, NULL},
                                {"_held", T_OBJECT_EX, offsetof(object, held), 0, NULL},
                                {"_key", T_OBJECT_EX, offsetof(object, key), 0, NULL},
                                {NULL, 0, 0, 0, NULL}};

static PyObject *get_feed_address(PyObject *self, void *unused)
{
    int (*function)(PyObject *, int) = feed_bits;
    void *address;
    (void)self;
    (void)unused;
    memcpy(&address, &function, sizeof address); /* C has no conversion */
    return PyLong_FromVoidPtr(address);
}

static PyGetSetDef getset[] = {{"_feed_address", get_feed_address, NULL,
                                "The address of a C function (watcher, revents) that does what "
                                "`feed` does, without a call of Python.",
                                NULL},
                               {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef methods[] = {
    {"_own", own, METH_O, "Take over libev's watcher at an address."},
    {"feed", feed, METH_O,
     "feed(revents)\n--\n\nMake the loop deliver ``revents`` as if they had happened, whether "
     "active or not."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot slots[] = {{Py_tp_doc, "What libev's events need of a watcher."},
                              {Py_tp_members, members},
                              {Py_tp_methods, methods},
                              {Py_tp_getset, getset},
                              {Py_tp_traverse, traverse},
                              {Py_tp_dealloc, dealloc},
                              {0, NULL}};

static PyType_Spec spec = {"nats_ev.pyev._libev.WatcherBase", sizeof(object), 0,
                           Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots};

static PyObject *item(PyObject *list, Py_ssize_t i)
{
    PyObject *found = PyList_GetItem(list, i);
    Py_XINCREF(found);
    return found;
}

int nats_ev_watcher_type(void *list)
{
    PyObject *type = PyType_FromSpec(&spec);
    int status;
    nats_py_find_vectorcall();
    caught = item(list, 0);
    interrupted = item(list, 1);
    take_interrupt = item(list, 2);
    flags = item(list, 3);
    name_pending = PyUnicode_InternFromString("pending");
    status = type == NULL || caught == NULL || interrupted == NULL || take_interrupt == NULL ||
                     flags == NULL || name_pending == NULL
                 ? -1
                 : PyList_Append(list, type);
    Py_XDECREF(type);
    PyErr_Clear(); /* CFFI would not see it */
    return status;
}
