/*
 * py_method: the method of a class that is fast for common arguments, and the base class that has some.
 *
 * A Method stands in a class body in place of a Python function, and looks like it: its signature,
 * docstring, annotations and source are the function's (`__wrapped__`). A call goes to C with its
 * arguments as they lie on the interpreter's stack (vectorcall). When C has nothing to do with them, the function is
 * called.
 *
 * The vectorcall protocol belongs to the stable ABI since CPython 3.12 only. Its two flags and the
 * shape of its function have been the same since 3.8, so they are defined here for the versions before.
 */
#include "py_hot.h"

#include <stddef.h>
#include <string.h>

#define HAVE_VECTORCALL (1UL << 11)
#define METHOD_DESCRIPTOR (1UL << 17)
#define OFFSET_BIT ((size_t)1 << (8 * sizeof(size_t) - 1))

typedef PyObject *vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf,
                             PyObject *kwnames);

typedef struct {
    PyObject_HEAD
    vectorcall *call;
    nats_py_fast *fast;
    PyObject *function;
} method;

static const struct {
    const char *name;
    nats_py_fast *fast;
} FAST[] = {
    {"publish", nats_py_publish}, {"hpublish", nats_py_hpublish}, {"request", nats_py_request}};

static PyTypeObject *client_type;
static PyObject *bound_method_type; /* types.MethodType */

void nats_py_free(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc free_object = (freefunc)PyType_GetSlot(type, Py_tp_free);
    free_object(self);
    Py_DECREF(type);
}

/* ---- Client ---- */

static int client_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((nats_py_client *)self)->outbound);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static int client_clear(PyObject *self)
{
    Py_CLEAR(((nats_py_client *)self)->outbound);
    return 0;
}

static void client_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    client_clear(self);
    nats_py_free(self);
}

static PyTypeObject *outbound_type;

static PyObject *client_attach(PyObject *self, PyObject *outbound)
{
    nats_py_client *client = (nats_py_client *)self;
    PyObject *old = (PyObject *)client->outbound;
    if (!PyObject_TypeCheck(outbound, outbound_type) ||
        ((nats_py_outbound *)outbound)->wbuf == NULL) {
        PyErr_SetString(PyExc_TypeError, "outbound must be an Outbound that has a buffer");
        return NULL;
    }
    Py_INCREF(outbound);
    client->outbound = (nats_py_outbound *)outbound;
    Py_XDECREF(old);
    Py_RETURN_NONE;
}

static PyMethodDef client_methods[] = {
    {"_attach", client_attach, METH_O, "Set the write buffer that the fast paths of methods use."},
    {NULL, NULL, 0, NULL}};

static PyType_Slot client_slots[] = {
    {Py_tp_doc, "The base of a class that has methods with a fast path."},
    {Py_tp_methods, client_methods},
    {Py_tp_traverse, client_traverse},
    {Py_tp_clear, client_clear},
    {Py_tp_dealloc, client_dealloc},
    {0, NULL}};

static PyType_Spec client_spec = {"nats_ev._parser.Client", sizeof(nats_py_client), 0,
                                  Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                                  client_slots};

PyObject *nats_py_client_type(PyObject *outbound)
{
    PyObject *type = PyType_FromSpec(&client_spec);
    outbound_type = (PyTypeObject *)outbound;
    client_type = (PyTypeObject *)type;
    return type;
}

/* ---- Method ---- */

/* Call the Python function with a vectorcall's arguments: the stable ABI of 3.10 takes a tuple and a dict. */
static PyObject *call_function(PyObject *function, PyObject *const *args, size_t nargs,
                               PyObject *kwnames)
{
    Py_ssize_t i, n = (Py_ssize_t)nargs, n_kw = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    PyObject *tuple = PyTuple_New(n), *dict = NULL, *result = NULL;
    if (tuple == NULL)
        return NULL;
    for (i = 0; i < n; i++) {
        Py_INCREF(args[i]);
        PyTuple_SetItem(tuple, i, args[i]);
    }
    if (n_kw != 0) {
        dict = PyDict_New();
        for (i = 0; dict != NULL && i < n_kw; i++)
            if (PyDict_SetItem(dict, PyTuple_GetItem(kwnames, i), args[n + i]) < 0)
                Py_CLEAR(dict);
    }
    if (n_kw == 0 || dict != NULL)
        result = PyObject_Call(function, tuple, dict);
    Py_DECREF(tuple);
    Py_XDECREF(dict);
    return result;
}

/* After a TypeError that no code of the function has raised, the arguments do not fit: let `function.explain`, if
   there is one, say more about that. */
static void explain(PyObject *function)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    PyErr_NormalizeException(&type, &value, &trace);
    if (trace == NULL) {
        PyObject *hook = PyObject_GetAttrString(function, "explain"), *done = NULL;
        if (hook != NULL)
            done = PyObject_CallFunctionObjArgs(hook, value, NULL);
        PyErr_Clear();
        Py_XDECREF(hook);
        Py_XDECREF(done);
    }
    PyErr_Restore(type, value, trace);
}

static PyObject *method_vectorcall(PyObject *self, PyObject *const *args, size_t nargsf,
                                   PyObject *kwnames)
{
    method *m = (method *)self;
    size_t nargs = nargsf & ~OFFSET_BIT;
    PyObject *result;
    if (nargs != 0 && PyObject_TypeCheck(args[0], client_type)) {
        nats_py_outbound *outbound = ((nats_py_client *)args[0])->outbound;
        if (outbound != NULL) {
            int handled = 0;
            Py_INCREF(outbound); /* Python code may attach another one */
            result = m->fast(outbound, args + 1, nargs - 1, kwnames, &handled);
            Py_DECREF(outbound);
            if (handled)
                return result;
        }
    }
    result = call_function(m->function, args, nargs, kwnames);
    if (result == NULL && PyErr_ExceptionMatches(PyExc_TypeError))
        explain(m->function);
    return result;
}

static PyObject *method_call(PyObject *self, PyObject *args, PyObject *kwargs)
{
    return PyObject_Call(((method *)self)->function, args, kwargs);
}

static PyObject *method_get(PyObject *self, PyObject *object, PyObject *type)
{
    (void)type;
    if (object == NULL || object == Py_None) {
        Py_INCREF(self);
        return self;
    }
    return PyObject_CallFunctionObjArgs(bound_method_type, self, object, NULL);
}

static PyObject *method_getattro(PyObject *self, PyObject *name)
{
    PyObject *value = PyObject_GenericGetAttr(self, name);
    if (value == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        PyErr_Clear();
        value = PyObject_GetAttr(((method *)self)->function, name);
    }
    return value;
}

static PyObject *method_repr(PyObject *self)
{
    return PyObject_Repr(((method *)self)->function);
}

/* Return an attribute of the function that the type has, too. */
static PyObject *method_forwarded(PyObject *self, void *name)
{
    return PyObject_GetAttrString(((method *)self)->function, name);
}

static PyObject *method_wrapped(PyObject *self, void *unused)
{
    PyObject *function = ((method *)self)->function;
    (void)unused;
    Py_INCREF(function);
    return function;
}

static PyObject *method_reduce(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyObject_GetAttrString(((method *)self)->function, "__qualname__");
}

/* There is no tp_clear: a call always finds the function, and Python cuts the cycle at the function. */
static int method_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((method *)self)->function);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void method_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_XDECREF(((method *)self)->function);
    nats_py_free(self);
}

/* Method(function): function.__name__ chooses the fast path. */
static PyObject *method_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *function, *name, *self = NULL;
    nats_py_fast *fast = NULL;
    const char *text;
    size_t i;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O", &function))
        return NULL;
    name = PyObject_GetAttrString(function, "__name__");
    text = name == NULL ? NULL : PyUnicode_AsUTF8AndSize(name, NULL);
    for (i = 0; text != NULL && i < sizeof FAST / sizeof *FAST; i++)
        if (strcmp(text, FAST[i].name) == 0)
            fast = FAST[i].fast;
    if (text != NULL && fast == NULL)
        PyErr_Format(PyExc_ValueError, "no fast path is called %s", text);
    if (fast != NULL) {
        allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
        self = alloc(type, 0);
    }
    Py_XDECREF(name);
    if (self != NULL) {
        method *m = (method *)self;
        m->call = method_vectorcall;
        m->fast = fast;
        Py_INCREF(function);
        m->function = function;
    }
    return self;
}

static PyMemberDef method_members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(method, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL}};

static PyMethodDef method_methods[] = {{"__reduce__", method_reduce, METH_NOARGS,
                                        "Pickle the method as its function is: by its name."},
                                       {NULL, NULL, 0, NULL}};

static PyGetSetDef method_getset[] = {{"__doc__", method_forwarded, NULL, NULL, "__doc__"},
                                      {"__module__", method_forwarded, NULL, NULL, "__module__"},
                                      {"__wrapped__", method_wrapped, NULL, NULL, NULL},
                                      {NULL, NULL, NULL, NULL, NULL}};

static PyType_Slot method_slots[] = {{Py_tp_new, method_new},
                                     {Py_tp_call, method_call},
                                     {Py_tp_descr_get, method_get},
                                     {Py_tp_getattro, method_getattro},
                                     {Py_tp_repr, method_repr},
                                     {Py_tp_members, method_members},
                                     {Py_tp_methods, method_methods},
                                     {Py_tp_getset, method_getset},
                                     {Py_tp_traverse, method_traverse},
                                     {Py_tp_dealloc, method_dealloc},
                                     {0, NULL}};

static PyType_Spec method_spec = {
    "nats_ev._parser.Method", sizeof(method), 0,
    Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | HAVE_VECTORCALL | METHOD_DESCRIPTOR, method_slots};

PyObject *nats_py_method_type(void)
{
    PyObject *types = PyImport_ImportModule("types");
    if (types == NULL)
        return NULL;
    bound_method_type = PyObject_GetAttrString(types, "MethodType");
    Py_DECREF(types);
    return bound_method_type == NULL ? NULL : PyType_FromSpec(&method_spec);
}
