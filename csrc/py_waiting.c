/*
 * py_waiting: the table of waiting requests: their callbacks by number.
 *
 * Theory of operation: a ring
 *
 * The numbers of a client's requests increase, and most requests are answered before many others follow. So the
 * place of a request is the low bits of its number: two instructions find it, and no number becomes a Python
 * object. A dict takes 900 instructions for a request that is entered, found and removed; this takes 200.
 *
 * A place may be taken by an older request, the ring's size or a multiple of that before. When more than half of the
 * ring is in use it is made twice as large. When not, the older request has been waiting for long: it moves to the
 * dict `old`. So a request without an answer for an hour costs no large ring, and each number is in one of the two.
 * A ring that has been large is given back when nothing waits any more.
 *
 * Nothing that looks for a number, enters or takes it runs Python code, but for releasing a callback, which comes
 * last. So `old` is there from the beginning: the garbage collector may run when a dict is made, and with it a
 * finalizer that sends requests, which may replace the ring.
 */
#include "py_hot.h"

#include <stdlib.h>

enum { LEAST = 64, KEPT = 4096 }; /* the smallest ring; the largest that an empty table keeps */

struct place {
    unsigned long long number; /* 0: free */
    PyObject *callback;
};

typedef struct {
    PyObject_HEAD
    struct place *ring;
    size_t size;   /* a power of two, or 0 */
    size_t used;   /* of the ring */
    PyObject *old; /* NULL: the garbage collector has taken the table */
} table;

static PyTypeObject *table_type;

int nats_py_is_waiting(PyObject *object)
{
    return object != NULL && Py_TYPE(object) == table_type;
}

static size_t count(const table *self)
{
    return self->used + (self->old == NULL ? 0 : (size_t)PyDict_Size(self->old));
}

/* Move what a place has to the dict. Return 0, or -1 with an exception. */
static int evict(table *self, struct place *place)
{
    PyObject *key;
    int status;
    if (self->old == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "the table has been released");
        return -1;
    }
    key = PyLong_FromUnsignedLongLong(place->number);
    status = key == NULL ? -1 : PyDict_SetItem(self->old, key, place->callback);
    Py_XDECREF(key);
    if (status == 0) {
        PyObject *callback = place->callback;
        place->number = 0;
        place->callback = NULL;
        self->used--;
        Py_DECREF(callback); /* not the last reference */
    }
    return status;
}

/* Make the ring larger. Return 0, or -1 without an exception. */
static int grow(table *self)
{
    size_t i, size = self->size == 0 ? LEAST : 2 * self->size;
    struct place *ring = calloc(size, sizeof *ring);
    if (ring == NULL)
        return -1;
    /* Numbers that had places of their own in the smaller ring have them in the larger one. */
    for (i = 0; i < self->size; i++)
        if (self->ring[i].number != 0)
            ring[self->ring[i].number & (size - 1)] = self->ring[i];
    free(self->ring);
    self->ring = ring;
    self->size = size;
    return 0;
}

/* Return the value of a number in the dict, borrowed, and its key, a new reference; NULL: it is not there. */
static PyObject *find_old(const table *self, unsigned long long number, PyObject **key)
{
    PyObject *found = NULL;
    *key = NULL;
    if (self->old == NULL || PyDict_Size(self->old) == 0)
        return NULL;
    *key = PyLong_FromUnsignedLongLong(number);
    if (*key != NULL)
        found = PyDict_GetItemWithError(self->old, *key);
    PyErr_Clear(); /* no memory for the key: as if it were not there */
    return found;
}

int nats_py_waiting_has(PyObject *self_, unsigned long long number)
{
    const table *self = (table *)self_;
    PyObject *key, *found;
    if (self->used != 0 && self->ring[number & (self->size - 1)].number == number)
        return number != 0;
    found = find_old(self, number, &key);
    Py_XDECREF(key);
    return found != NULL;
}

int nats_py_waiting_put(PyObject *self_, unsigned long long number, PyObject *callback)
{
    table *self = (table *)self_;
    struct place *place;
    PyObject *key, *replaced = NULL;
    if (find_old(self, number, &key) != NULL) {
        int status = PyDict_SetItem(self->old, key, callback);
        Py_DECREF(key);
        return status;
    }
    Py_XDECREF(key);
    if (self->size == 0 && grow(self) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    place = &self->ring[number & (self->size - 1)];
    while (place->number != 0 && place->number != number) {
        if (self->used > self->size / 2 && grow(self) == 0)
            place = &self->ring[number & (self->size - 1)];
        else if (evict(self, place) < 0)
            return -1;
    }
    Py_INCREF(callback);
    replaced = place->callback;
    self->used += replaced == NULL;
    place->number = number;
    place->callback = callback;
    Py_XDECREF(replaced);
    return 0;
}

PyObject *nats_py_waiting_take(PyObject *self_, unsigned long long number)
{
    table *self = (table *)self_;
    struct place *place = self->size == 0 ? NULL : &self->ring[number & (self->size - 1)];
    PyObject *found, *key;
    if (place != NULL && number != 0 && place->number == number) {
        found = place->callback;
        place->number = 0;
        place->callback = NULL;
        if (--self->used == 0 && self->size > KEPT) {
            free(self->ring);
            self->ring = NULL;
            self->size = 0;
        }
        return found;
    }
    found = find_old(self, number, &key);
    if (found != NULL) {
        Py_INCREF(found);
        if (PyDict_DelItem(self->old, key) < 0)
            PyErr_Clear(); /* it is there */
    }
    Py_XDECREF(key);
    return found;
}

/* ---- for Python ---- */

static PyObject *no_key(PyObject *key)
{
    PyErr_SetObject(PyExc_KeyError, key);
    return NULL;
}

/* Convert what is looked for; 0, which is never there, for what no request has as its number. */
static unsigned long long get_number(PyObject *key)
{
    unsigned long long number = PyLong_Check(key) ? PyLong_AsUnsignedLongLong(key) : 0;
    if (PyErr_Occurred() == NULL)
        return number;
    PyErr_Clear();
    return 0;
}

static Py_ssize_t table_length(PyObject *self)
{
    return (Py_ssize_t)count((table *)self);
}

static int table_contains(PyObject *self, PyObject *key)
{
    return nats_py_waiting_has(self, get_number(key));
}

static PyObject *table_get(PyObject *self_, PyObject *key)
{
    const table *self = (table *)self_;
    unsigned long long number = get_number(key);
    PyObject *found = NULL, *unused;
    if (number != 0 && self->used != 0 && self->ring[number & (self->size - 1)].number == number) {
        found = self->ring[number & (self->size - 1)].callback;
        Py_INCREF(found);
        return found;
    }
    found = find_old(self, number, &unused);
    Py_XINCREF(found);
    Py_XDECREF(unused);
    return found == NULL ? no_key(key) : found;
}

static int table_set(PyObject *self, PyObject *key, PyObject *callback)
{
    unsigned long long number = get_number(key);
    PyObject *taken;
    if (callback != NULL) {
        if (number != 0)
            return nats_py_waiting_put(self, number, callback);
        PyErr_SetString(PyExc_ValueError, "the number of a request is 1 to 2**64 - 1");
        return -1;
    }
    taken = nats_py_waiting_take(self, number);
    if (taken == NULL)
        (void)no_key(key);
    Py_XDECREF(taken);
    return taken == NULL ? -1 : 0;
}

static int append_number(PyObject *list, unsigned long long number)
{
    PyObject *key = PyLong_FromUnsignedLongLong(number);
    int status = key == NULL ? -1 : PyList_Append(list, key);
    Py_XDECREF(key);
    return status;
}

/* keys() -> the list of the numbers, ascending */
static PyObject *table_keys(PyObject *self_, PyObject *unused)
{
    const table *self = (table *)self_;
    PyObject *list = self->old == NULL ? PyList_New(0) : PyDict_Keys(self->old);
    size_t i;
    (void)unused;
    for (i = 0; list != NULL && i < self->size; i++)
        if (self->ring[i].number != 0 && append_number(list, self->ring[i].number) < 0)
            Py_CLEAR(list);
    if (list != NULL && PyList_Sort(list) < 0)
        Py_CLEAR(list);
    return list;
}

static PyObject *table_iter(PyObject *self)
{
    PyObject *list = table_keys(self, NULL), *iterator;
    iterator = list == NULL ? NULL : PyObject_GetIter(list);
    Py_XDECREF(list);
    return iterator;
}

/* pop(number[, default]) */
static PyObject *table_pop(PyObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *taken;
    if (nargs != 1 && nargs != 2) {
        PyErr_SetString(PyExc_TypeError, "pop() takes a number and perhaps a default");
        return NULL;
    }
    taken = nats_py_waiting_take(self, get_number(args[0]));
    if (taken != NULL)
        return taken;
    if (nargs == 1)
        return no_key(args[0]);
    Py_INCREF(args[1]);
    return args[1];
}

/* Empty the ring. Return what it was, for `release`. */
static struct place *take_ring(table *self, size_t *size)
{
    struct place *ring = self->ring;
    *size = self->size;
    self->ring = NULL;
    self->size = self->used = 0;
    return ring;
}

static void release(struct place *ring, size_t size)
{
    size_t i;
    for (i = 0; i < size; i++)
        Py_XDECREF(ring[i].callback);
    free(ring);
}

/* The table is empty before the first callback is released: that may run any code. So it is in `clear()`. */
static int table_clear(PyObject *self_)
{
    table *self = (table *)self_;
    size_t size;
    struct place *ring = take_ring(self, &size);
    PyObject *old = self->old;
    self->old = NULL;
    release(ring, size);
    Py_XDECREF(old);
    return 0;
}

static PyObject *table_clear_all(PyObject *self_, PyObject *unused)
{
    table *self = (table *)self_;
    size_t size;
    struct place *ring = take_ring(self, &size);
    PyObject *old = self->old;
    (void)unused;
    if (old != NULL) {
        Py_INCREF(old);
        PyDict_Clear(old);
        Py_DECREF(old);
    }
    release(ring, size);
    Py_RETURN_NONE;
}

static PyObject *table_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    PyObject *self = alloc(type, 0);
    (void)args;
    (void)kwargs;
    if (self != NULL && (((table *)self)->old = PyDict_New()) == NULL)
        Py_CLEAR(self);
    return self;
}

static int table_traverse(PyObject *self_, visitproc visit, void *arg)
{
    table *self = (table *)self_;
    size_t i;
    for (i = 0; i < self->size; i++)
        Py_VISIT(self->ring[i].callback);
    Py_VISIT(self->old);
    Py_VISIT(Py_TYPE(self_));
    return 0;
}

static void table_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    (void)table_clear(self);
    nats_py_free(self);
}

static PyMethodDef table_methods[] = {
    {"pop", (PyCFunction)(void (*)(void))table_pop, METH_FASTCALL,
     "Take the callback of a number out; without a default a missing number is a KeyError."},
    {"keys", table_keys, METH_NOARGS, "Return a list of the numbers, ascending."},
    {"clear", table_clear_all, METH_NOARGS, "Forget all requests."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot table_slots[] = {{Py_tp_doc, "The callbacks of waiting requests by number."},
                                    {Py_mp_length, table_length},
                                    {Py_mp_subscript, table_get},
                                    {Py_mp_ass_subscript, table_set},
                                    {Py_sq_contains, table_contains},
                                    {Py_tp_iter, table_iter},
                                    {Py_tp_methods, table_methods},
                                    {Py_tp_new, table_new},
                                    {Py_tp_traverse, table_traverse},
                                    {Py_tp_clear, table_clear},
                                    {Py_tp_dealloc, table_dealloc},
                                    {0, NULL}};

static PyType_Spec table_spec = {"nats_ev._parser.Waiting", sizeof(table), 0,
                                 Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, table_slots};

PyObject *nats_py_waiting_type(void)
{
    table_type = (PyTypeObject *)PyType_FromSpec(&table_spec);
    return (PyObject *)table_type;
}

PyObject *nats_py_waiting_new(void)
{
    return PyObject_CallNoArgs((PyObject *)table_type);
}
