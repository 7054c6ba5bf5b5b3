/*
 * py_expiry: when requests time out. The base of `client.expiry.Expiry`, whose file has the theory of operation.
 *
 * What is here is the heap of runs, and what happens per request and per turn. A run that ends takes its place in
 * `ended` until the turn's end, where all of them get their deadlines by one look at the clock. The newest run is
 * kept outside of the heap, because it may be extended.
 *
 * Memory is reserved before a request is framed (`nats_py_choose`). At the turn's end a lack of it leaves in `ended`
 * what has no deadline yet, for the next turn.
 *
 * No number here is a Python object, and looking into the table of waiting requests runs no Python code. So nothing
 * changes while a function works, but for `_attend`, the last thing that the turn's end calls.
 */
#include "py_hot.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    LEAST = 15,                  /* no more runs than these are not trimmed */
    MANY = 256,                  /* more runs than these are looked at once a second */
    LONGEST = 1000 * 1000 * 1000 /* ms; longer times are for Python */
};

typedef struct {
    double at; /* in `ended`: the time-out in seconds */
    unsigned long long first, last;
} run;

struct runs {
    run *items;
    size_t n, cap;
};

typedef struct {
    PyObject_HEAD
    PyObject *out, *turn, *clock;
    PyObject *alarm;  /* its attribute `_number` is 0 when it does not wait */
    double armed;     /* the time of the alarm */
    double seconds;   /* the time-out of the run that is being made */
    double slop;      /* how late a run expires, so that turns of that time can join it */
    double newest_at; /* the deadline of the last request in the newest run */
    run newest;       /* last == 0: no run is open */
    struct runs heap, ended;
    size_t trim_at;
    char sweeping; /* ended runs are removed once a second */
} expiry;

static PyTypeObject *expiry_type;
static PyObject *name_attend, *name_number;

/* ---- the heap ---- */

static int is_before(const run *a, const run *b)
{
    return a->at < b->at || (a->at <= b->at && a->first < b->first);
}

/* Return 0, or -1 without an exception. */
static int reserve(struct runs *runs, size_t n)
{
    size_t cap = runs->cap < LEAST ? LEAST : runs->cap;
    run *items;
    if (n <= runs->cap)
        return 0;
    while (cap < n)
        cap *= 2;
    items = realloc(runs->items, cap * sizeof *items);
    if (items == NULL)
        return -1;
    runs->items = items;
    runs->cap = cap;
    return 0;
}

/* Put a run in its place at i or above. */
static void sift_up(struct runs *heap, size_t i, run moved)
{
    while (i > 0 && is_before(&moved, &heap->items[(i - 1) / 2])) {
        heap->items[i] = heap->items[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    heap->items[i] = moved;
}

/* Put a run in its place at i or below. */
static void sift_down(struct runs *heap, size_t i, run moved)
{
    for (;;) {
        size_t child = 2 * i + 1;
        if (child >= heap->n)
            break;
        if (child + 1 < heap->n && is_before(&heap->items[child + 1], &heap->items[child]))
            child++;
        if (!is_before(&heap->items[child], &moved))
            break;
        heap->items[i] = heap->items[child];
        i = child;
    }
    heap->items[i] = moved;
}

static void pop(struct runs *heap)
{
    heap->n--;
    if (heap->n != 0)
        sift_down(heap, 0, heap->items[heap->n]);
}

/* Return the first number of a run that still waits, or 0. */
static unsigned long long first_waiting(PyObject *waiting, const run *r)
{
    unsigned long long number;
    for (number = r->first; number <= r->last; number++)
        if (nats_py_waiting_has(waiting, number))
            return number;
    return 0;
}

static PyObject *waiting_of(const expiry *self)
{
    PyObject *waiting = self->out == NULL ? NULL : ((nats_py_outbound *)self->out)->waiting;
    return nats_py_is_waiting(waiting) ? waiting : NULL;
}

/* Forget the runs that have no waiting request, and the answered requests that others begin with. */
static void trim(expiry *self)
{
    PyObject *waiting = waiting_of(self);
    struct runs *heap = &self->heap;
    size_t i, kept = 0;
    if (waiting == NULL)
        return;
    for (i = 0; i < heap->n; i++) {
        run r = heap->items[i];
        r.first = first_waiting(waiting, &r);
        if (r.first != 0)
            heap->items[kept++] = r;
    }
    heap->n = kept;
    for (i = kept / 2; i-- > 0;)
        sift_down(heap, i, heap->items[i]);
    self->trim_at = kept <= LEAST / 2 ? LEAST : 2 * kept;
    if (heap->cap > 4 * self->trim_at) { /* a failure leaves what is there */
        run *less = realloc(heap->items, 2 * self->trim_at * sizeof *less);
        if (less != NULL) {
            heap->items = less;
            heap->cap = 2 * self->trim_at;
        }
    }
}

/* Move the newest run into the heap, whose memory is reserved. */
static void retire(expiry *self)
{
    if (self->newest.last != 0) {
        self->heap.n++;
        sift_up(&self->heap, self->heap.n - 1, self->newest);
        self->newest.last = 0;
    }
}

/* Return the run that is due first; NULL if no run waits. */
static run *earliest(expiry *self)
{
    run *top = self->heap.n != 0 ? self->heap.items : NULL;
    if (self->newest.last != 0 && (top == NULL || is_before(&self->newest, top)))
        return &self->newest;
    return top;
}

/* ---- per request ---- */

/* End the run that is being made. Return 0, or -1 without an exception. */
static int end_run(expiry *self)
{
    nats_py_outbound *out = (nats_py_outbound *)self->out;
    if (out->run == 0)
        return 0;
    if (reserve(&self->ended, self->ended.n + 1) < 0)
        return -1;
    self->ended.items[self->ended.n++] =
        (run){.at = self->seconds, .first = out->run, .last = out->order};
    out->run = 0;
    return 0;
}

/* Choose the time-out of the next requests. Return 0, or -1 with an exception. */
static int choose(expiry *self, double seconds)
{
    /* For the run that ends here, and for the one that begins. */
    if (reserve(&self->ended, self->ended.n + 2) < 0 ||
        reserve(&self->heap, self->heap.n + self->ended.n + 3) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    (void)end_run(self);
    self->seconds = seconds;
    return 0;
}

int nats_py_choose(PyObject *times, PyObject *timeout)
{
    double ms;
    if (!PyObject_TypeCheck(times, expiry_type) || ((expiry *)times)->out == NULL)
        return 0;
    if (PyLong_CheckExact(timeout))
        ms = PyLong_AsDouble(timeout);
    else if (PyFloat_CheckExact(timeout))
        ms = PyFloat_AsDouble(timeout);
    else
        return 0;
    if (!(ms >= 0 && ms <= LONGEST)) { /* NaN, or an error: -1 */
        PyErr_Clear();
        return 0;
    }
    return choose((expiry *)times, ms / 1000) < 0 ? -1 : 1;
}

/* choose(seconds) */
static PyObject *expiry_choose(PyObject *self_, PyObject *seconds)
{
    double chosen = PyFloat_AsDouble(seconds);
    if (PyErr_Occurred() != NULL)
        return NULL;
    if (((expiry *)self_)->out == NULL) {
        PyErr_SetString(PyExc_AttributeError, "not attached");
        return NULL;
    }
    if (choose((expiry *)self_, chosen) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* begin_run(number): note the first request of a turn, or of another time-out in the same turn. */
static PyObject *expiry_begin_run(PyObject *self_, PyObject *number)
{
    expiry *self = (expiry *)self_;
    unsigned long long order = PyLong_AsUnsignedLongLong(number);
    if (PyErr_Occurred() != NULL)
        return NULL;
    if (self->out == NULL) {
        PyErr_SetString(PyExc_AttributeError, "not attached");
        return NULL;
    }
    ((nats_py_outbound *)self->out)->run = order;
    if (nats_py_unfinished(self->turn) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- per turn ---- */

/* Give a run its deadline. Return 0, or -1 without an exception. */
static int place(expiry *self, const run *ended, double now)
{
    double at = now + ended->at;
    if (ended->at <= 0) { /* never: these numbers must not get into another run */
        if (reserve(&self->heap, self->heap.n + 1) < 0)
            return -1;
        retire(self);
        return 0;
    }
    if (self->newest.last != 0 && at >= self->newest_at && at <= self->newest.at) {
        self->newest.last = ended->last;
        self->newest_at = at;
        return 0;
    }
    if (self->heap.n >= self->trim_at)
        trim(self);
    if (reserve(&self->heap, self->heap.n + 1) < 0)
        return -1;
    retire(self);
    self->newest = (run){.at = at + self->slop, .first = ended->first, .last = ended->last};
    self->newest_at = at;
    return 0;
}

/* Return whether the alarm waits for the earliest run or less, and somebody looks at many runs; -1 with an exception. */
static int is_attended(expiry *self)
{
    const run *first = earliest(self);
    PyObject *number;
    int waits;
    if (first == NULL)
        return 1;
    if (self->armed > first->at || (self->heap.n > MANY && !self->sweeping) || self->alarm == NULL)
        return 0;
    number = PyObject_GetAttr(self->alarm, name_number);
    waits = number == NULL ? -1 : PyObject_IsTrue(number);
    Py_XDECREF(number);
    return waits;
}

/* end_turn(): start the time-outs of the requests that were made in this turn. */
static PyObject *expiry_end_turn(PyObject *self_, PyObject *unused)
{
    expiry *self = (expiry *)self_;
    PyObject *result;
    size_t i = 0;
    double now;
    int lacks, attended;
    (void)unused;
    if (self->out == NULL || self->clock == NULL) /* the garbage collector has taken it */
        Py_RETURN_NONE;
    lacks = end_run(self) < 0;
    if (self->ended.n == 0 && !lacks)
        Py_RETURN_NONE;
    result = PyObject_CallNoArgs(self->clock);
    now = result == NULL ? -1 : PyFloat_AsDouble(result);
    Py_XDECREF(result);
    if (PyErr_Occurred() != NULL)
        return NULL;
    while (i < self->ended.n && !lacks) {
        lacks = place(self, &self->ended.items[i], now) < 0;
        i += !lacks;
    }
    if (i != 0)
        memmove(self->ended.items, self->ended.items + i, (self->ended.n - i) * sizeof(run));
    self->ended.n -= i;
    if (lacks)
        return PyErr_NoMemory();
    attended = is_attended(self);
    if (attended == 0)
        return PyObject_CallMethodObjArgs(self_, name_attend, NULL);
    if (attended < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* take_expired(now) -> the number of the next request that has timed out, or 0 */
static PyObject *expiry_take_expired(PyObject *self_, PyObject *now_)
{
    expiry *self = (expiry *)self_;
    PyObject *waiting = waiting_of(self);
    double now = PyFloat_AsDouble(now_);
    unsigned long long found = 0;
    run *r;
    if (PyErr_Occurred() != NULL)
        return NULL;
    while (found == 0 && waiting != NULL && (r = earliest(self)) != NULL && r->at <= now) {
        found = first_waiting(waiting, r);
        if (found != 0 && found < r->last)
            r->first = found + 1; /* the order of the heap stays: the deadline has not changed */
        else if (r == &self->newest)
            r->last = 0;
        else
            pop(&self->heap);
    }
    return PyLong_FromUnsignedLongLong(found);
}

static PyObject *expiry_trim(PyObject *self, PyObject *unused)
{
    (void)unused;
    trim((expiry *)self);
    Py_RETURN_NONE;
}

/* clear(): forget all runs. */
static PyObject *expiry_forget(PyObject *self_, PyObject *unused)
{
    expiry *self = (expiry *)self_;
    (void)unused;
    self->heap.n = self->ended.n = 0;
    self->newest.last = 0;
    self->trim_at = LEAST;
    if (self->out != NULL)
        ((nats_py_outbound *)self->out)->run = 0;
    Py_RETURN_NONE;
}

/* _attach(out, turn, clock, alarm, slop) */
static PyObject *expiry_attach(PyObject *self_, PyObject *args)
{
    expiry *self = (expiry *)self_;
    PyObject *out, *turn, *clock, *alarm;
    double slop;
    if (!PyArg_ParseTuple(args, "OOOOd", &out, &turn, &clock, &alarm, &slop))
        return NULL;
    if (self->out != NULL || nats_py_unsent(out) < 0 || !nats_py_is_turn(turn)) {
        PyErr_SetString(PyExc_TypeError, "an Outbound with a buffer and a Turn are needed, once");
        return NULL;
    }
    Py_INCREF(out);
    Py_INCREF(turn);
    Py_INCREF(clock);
    Py_INCREF(alarm);
    self->out = out;
    self->turn = turn;
    self->clock = clock;
    self->alarm = alarm;
    self->slop = slop;
    self->trim_at = LEAST;
    Py_RETURN_NONE;
}

/* ---- the type ---- */

static PyObject *get_runs(PyObject *self_, void *unused)
{
    const expiry *self = (expiry *)self_;
    (void)unused;
    return PyLong_FromSize_t(self->heap.n + (self->newest.last != 0));
}

static PyObject *get_next_at(PyObject *self, void *unused)
{
    const run *first = earliest((expiry *)self);
    (void)unused;
    return PyFloat_FromDouble(first == NULL ? 0.0 : first->at);
}

static int expiry_traverse(PyObject *self_, visitproc visit, void *arg)
{
    expiry *self = (expiry *)self_;
    Py_VISIT(self->out);
    Py_VISIT(self->turn);
    Py_VISIT(self->clock);
    Py_VISIT(self->alarm);
    Py_VISIT(Py_TYPE(self_));
    return 0;
}

/* out and turn stay: a finalizer of what is released may send a request. They do not refer to this object for long:
   both are cleared, too. */
static int expiry_clear(PyObject *self_)
{
    expiry *self = (expiry *)self_;
    Py_CLEAR(self->clock);
    Py_CLEAR(self->alarm);
    return 0;
}

static void expiry_dealloc(PyObject *self_)
{
    expiry *self = (expiry *)self_;
    PyObject_GC_UnTrack(self_);
    expiry_clear(self_);
    Py_CLEAR(self->out);
    Py_CLEAR(self->turn);
    free(self->heap.items);
    free(self->ended.items);
    nats_py_free(self_);
}

static PyMemberDef expiry_members[] = {
    {"armed", T_DOUBLE, offsetof(expiry, armed), 0, "The time of the alarm, if it waits."},
    {"sweeping", T_BOOL, offsetof(expiry, sweeping), 0,
     "Whether ended runs are removed once a second."},
    {NULL, 0, 0, 0, NULL}};

static PyGetSetDef expiry_getset[] = {
    {"runs", get_runs, NULL, "How many runs there are.", NULL},
    {"next_at", get_next_at, NULL, "The deadline of the first run, 0.0 without one.", NULL},
    {NULL, NULL, NULL, NULL, NULL}};

static PyMethodDef expiry_methods[] = {
    {"_attach", expiry_attach, METH_VARARGS,
     "Set the write buffer, the turn, the clock, the deadline that waits, and the slop."},
    {"choose", expiry_choose, METH_O, "Choose the time-out of the next requests, in seconds."},
    {"begin_run", expiry_begin_run, METH_O, "Note the first request of a run."},
    {"end_turn", expiry_end_turn, METH_NOARGS, "Start the time-outs of this turn's requests."},
    {"take_expired", expiry_take_expired, METH_O,
     "Return the number of the next request that has timed out, or 0."},
    {"trim", expiry_trim, METH_NOARGS, "Forget the runs that have no waiting request."},
    {"forget", expiry_forget, METH_NOARGS, "Forget all runs."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot expiry_slots[] = {{Py_tp_doc, "The runs of requests and their deadlines."},
                                     {Py_tp_members, expiry_members},
                                     {Py_tp_getset, expiry_getset},
                                     {Py_tp_methods, expiry_methods},
                                     {Py_tp_traverse, expiry_traverse},
                                     {Py_tp_clear, expiry_clear},
                                     {Py_tp_dealloc, expiry_dealloc},
                                     {0, NULL}};

static PyType_Spec expiry_spec = {"nats_ev._parser.ExpiryBase", sizeof(expiry), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                                  expiry_slots};

PyObject *nats_py_expiry_type(void)
{
    name_attend = PyUnicode_InternFromString("_attend");
    name_number = PyUnicode_InternFromString("_number");
    if (name_attend == NULL || name_number == NULL)
        return NULL;
    expiry_type = (PyTypeObject *)PyType_FromSpec(&expiry_spec);
    return (PyObject *)expiry_type;
}
