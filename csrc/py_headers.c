/*
 * py_headers: header blocks from mappings, and mappings from header blocks (ADR-4).
 *
 * One pass over the bytes each way. Encoding takes what most callers have: a dict of str to str, or to a list of
 * str. It refuses everything else, and whatever must not be sent, by returning 0; `headers.py` has the rules and
 * the texts of the errors, and goes through the same mapping then.
 */
#include "py_hot.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char VERSION[] = "NATS/1.0\r\n";

enum { FIRST_CAP = 1024, KEEP_CAP = 64 * 1024 };

/* One block is built at a time, and no Python code runs meanwhile. */
static char *block;
static size_t block_cap, block_len;

/* Return where n bytes more can be written, or NULL with MemoryError. */
static char *reserve(size_t n)
{
    char *p;
    if (n <= block_cap - block_len)
        return block + block_len;
    if (n > SIZE_MAX / 4 - block_len) {
        PyErr_NoMemory();
        return NULL;
    }
    p = realloc(block, 2 * (block_len + n) + FIRST_CAP);
    if (p == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    block = p;
    block_cap = 2 * (block_len + n) + FIRST_CAP;
    return block + block_len;
}

/* Get the UTF-8 of a str. Return 0 for other types and for lone surrogates. */
static int get_utf8(PyObject *object, const char **data, Py_ssize_t *size)
{
    if (!PyUnicode_CheckExact(object))
        return 0;
    *data = PyUnicode_AsUTF8AndSize(object, size);
    if (*data == NULL)
        PyErr_Clear();
    return *data != NULL;
}

/* ADR-4: printable ASCII without the colon. */
static int is_name(const char *p, Py_ssize_t n)
{
    unsigned bad = 0;
    Py_ssize_t i;
    for (i = 0; i < n; i++) /* no early exit, so that the compiler can emit vector code */
        bad |=
            (unsigned)((unsigned)(unsigned char)p[i] - 33u > 126u - 33u) | (unsigned)(p[i] == ':');
    return n > 0 && bad == 0;
}

static int is_value(const char *p, Py_ssize_t n)
{
    unsigned bad = 0;
    Py_ssize_t i;
    for (i = 0; i < n; i++)
        bad |= (unsigned)(p[i] == '\r') | (unsigned)(p[i] == '\n') | (unsigned)(p[i] == 0);
    return bad == 0;
}

/* Append "name: value". Return 1, 0 when the value must not be sent, or -1 with an exception. */
static int put_header(const char *name, Py_ssize_t name_len, PyObject *value)
{
    const char *text;
    Py_ssize_t n;
    char *p;
    if (!get_utf8(value, &text, &n) || !is_value(text, n))
        return 0;
    p = reserve((size_t)name_len + (size_t)n + 4);
    if (p == NULL)
        return -1;
    memcpy(p, name, (size_t)name_len);
    p += name_len;
    *p++ = ':';
    *p++ = ' ';
    memcpy(p, text, (size_t)n);
    p += n;
    *p++ = '\r';
    *p++ = '\n';
    block_len = (size_t)(p - block);
    return 1;
}

static int put_all(PyObject *mapping)
{
    PyObject *name, *value;
    Py_ssize_t at = 0, name_len, i;
    const char *text;
    int status = 1;
    while (status == 1 && PyDict_Next(mapping, &at, &name, &value)) {
        if (!get_utf8(name, &text, &name_len) || !is_name(text, name_len))
            return 0;
        if (!PyList_CheckExact(value))
            status = put_header(text, name_len, value);
        else
            for (i = 0; status == 1 && i < PyList_Size(value); i++)
                status = put_header(text, name_len, PyList_GetItem(value, i));
    }
    return status;
}

int nats_py_encode(PyObject *mapping, const char **data, size_t *len)
{
    char *p;
    int status;
    if (block_cap > KEEP_CAP) {
        free(block);
        block = NULL;
        block_cap = 0;
    }
    block_len = 0;
    p = reserve(sizeof VERSION - 1);
    if (p == NULL)
        return -1;
    memcpy(p, VERSION, sizeof VERSION - 1);
    block_len = sizeof VERSION - 1;
    status = put_all(mapping);
    if (status != 1)
        return status;
    p = reserve(2);
    if (p == NULL)
        return -1;
    memcpy(p, "\r\n", 2);
    *data = block;
    *len = block_len + 2;
    return 1;
}

/* encode_block(mapping) -> the raw block, or None when the mapping is not for C */
static PyObject *encode_block(PyObject *unused, PyObject *mapping)
{
    const char *data;
    size_t len;
    int status = PyDict_CheckExact(mapping) ? nats_py_encode(mapping, &data, &len) : 0;
    (void)unused;
    if (status < 0)
        return NULL;
    if (status == 0)
        Py_RETURN_NONE;
    return PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
}

static PyObject *decode(const char *begin, const char *end)
{
    return PyUnicode_DecodeUTF8(begin, (Py_ssize_t)(end - begin), "surrogateescape");
}

/* Append the value to the list that the dict has for the name. */
static int add(PyObject *values, PyObject *name, PyObject *value)
{
    PyObject *list = PyDict_GetItemWithError(values, name);
    int status;
    if (list != NULL)
        return PyList_Append(list, value);
    if (PyErr_Occurred() != NULL)
        return -1;
    list = PyList_New(1);
    if (list == NULL)
        return -1;
    Py_INCREF(value);
    PyList_SetItem(list, 0, value);
    status = PyDict_SetItem(values, name, list);
    Py_DECREF(list);
    return status;
}

static int is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* Add the header of one line. A line that is no header is left out, as in the official clients. */
static int parse_line(PyObject *values, const char *line, const char *end, int last)
{
    const char *colon = memchr(line, ':', (size_t)(end - line)), *begin;
    PyObject *name, *value;
    int status = -1;
    if (colon == NULL || colon == line)
        return 0;
    begin = colon + 1;
    while (begin < end && is_blank(*begin))
        begin++;
    while (end > begin && is_blank(end[-1]))
        end--;
    name = decode(line, colon);
    value = decode(begin, end);
    if (name != NULL && value != NULL)
        status = last ? PyDict_SetItem(values, name, value) : add(values, name, value);
    Py_XDECREF(name);
    Py_XDECREF(value);
    return status;
}

/* Return the CRLF at or after p, or end. */
static const char *find_break(const char *p, const char *end)
{
    while ((p = memchr(p, '\r', (size_t)(end - p))) != NULL) {
        if (p + 1 < end && p[1] == '\n')
            return p;
        p++;
    }
    return end;
}

/* Return a dict of the names; the first line is left out. last: to the last value of each, not to lists of all. */
static PyObject *parse_block(const char *data, Py_ssize_t size, int last)
{
    const char *p, *end, *line_end;
    PyObject *values;
    values = PyDict_New();
    end = data + size;
    p = find_break(data, end);
    while (values != NULL && p < end) {
        p += 2;
        line_end = find_break(p, end);
        if (parse_line(values, p, line_end, last) < 0)
            Py_CLEAR(values);
        p = line_end;
    }
    return values;
}

/* last_values(raw) -> dict of the names to their last values */
static PyObject *last_values(PyObject *unused, PyObject *raw)
{
    char *data;
    Py_ssize_t size;
    (void)unused;
    if (PyBytes_AsStringAndSize(raw, &data, &size) < 0)
        return NULL;
    return parse_block(data, size, 1);
}

/* ---- Headers ---- */

typedef struct {
    PyObject_HEAD
    PyObject *values;
    PyObject *status, *description; /* NULL is None */
    char received;
} headers;

static PyTypeObject *headers_type;

/* Make an object of a class; a constructor of its own is called. */
static PyObject *make(PyTypeObject *type)
{
    PyObject *self;
    if (PyType_GetSlot(type, Py_tp_new) == PyType_GetSlot(headers_type, Py_tp_new))
        return ((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    self = PyObject_CallMethod((PyObject *)type, "__new__", "O", type);
    if (self != NULL && !PyObject_TypeCheck(self, headers_type)) {
        Py_CLEAR(self);
        PyErr_SetString(PyExc_TypeError, "__new__ returned something else than headers");
    }
    return self;
}

/* Set the fields that a status line has. */
static int add_status(headers *self, PyObject *status_of, PyObject *raw)
{
    PyObject *both = PyObject_CallFunctionObjArgs(status_of, raw, NULL);
    PyObject *status = both == NULL ? NULL : PyTuple_GetItem(both, 0);
    PyObject *description = status == NULL ? NULL : PyTuple_GetItem(both, 1);
    if (description != NULL) {
        PyObject *old_status = self->status, *old_description = self->description;
        Py_INCREF(status);
        Py_INCREF(description);
        self->status = status;
        self->description = description;
        Py_XDECREF(old_status);
        Py_XDECREF(old_description);
    }
    Py_XDECREF(both);
    return description == NULL ? -1 : 0;
}

/* parse_headers(cls, raw, status_of) -> headers of that class, or None if raw is no block. status_of is called
   when there may be a status line. */
static PyObject *parse_headers(PyObject *unused, PyObject *const *args, Py_ssize_t nargs)
{
    const size_t version_len = sizeof VERSION - 3, plain_len = sizeof VERSION - 1;
    headers *self;
    PyObject *values, *old;
    char *data;
    Py_ssize_t size;
    (void)unused;
    if (nargs != 3 || !PyType_Check(args[0]) ||
        !PyType_IsSubtype((PyTypeObject *)args[0], headers_type)) {
        PyErr_SetString(PyExc_TypeError, "parse_headers() takes a class of headers and a block");
        return NULL;
    }
    if (PyBytes_AsStringAndSize(args[1], &data, &size) < 0)
        return NULL;
    if ((size_t)size < version_len || memcmp(data, VERSION, version_len) != 0)
        Py_RETURN_NONE;
    values = parse_block(data, size, 0);
    self = values == NULL ? NULL : (headers *)make((PyTypeObject *)args[0]);
    if (self == NULL) {
        Py_XDECREF(values);
        return NULL;
    }
    old = self->values;
    self->values = values;
    self->received = 1;
    Py_XDECREF(old);
    if (((size_t)size < plain_len || memcmp(data, VERSION, plain_len) != 0) &&
        add_status(self, args[2], args[1]) < 0) {
        Py_DECREF((PyObject *)self);
        return NULL;
    }
    return (PyObject *)self;
}

static int headers_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(((headers *)self)->values);
    Py_VISIT(((headers *)self)->status);
    Py_VISIT(((headers *)self)->description);
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void headers_dealloc(PyObject *self)
{
    PyObject_GC_UnTrack(self);
    Py_CLEAR(((headers *)self)->values);
    Py_CLEAR(((headers *)self)->status);
    Py_CLEAR(((headers *)self)->description);
    nats_py_free(self);
}

static PyMemberDef headers_members[] = {
    {"_values", T_OBJECT_EX, offsetof(headers, values), 0, "The lists of values by name."},
    {"status", T_OBJECT, offsetof(headers, status), 0,
     "The number in the status line, or None without a status line."},
    {"description", T_OBJECT, offsetof(headers, description), 0,
     "The text after the number, or None."},
    {"_received", T_BOOL, offsetof(headers, received), 0,
     "Whether names may be in it that must not be sent."},
    {NULL, 0, 0, 0, NULL}};

static PyType_Slot headers_slots[] = {{Py_tp_doc, "The base of Headers."},
                                      {Py_tp_members, headers_members},
                                      {Py_tp_traverse, headers_traverse},
                                      {Py_tp_dealloc, headers_dealloc},
                                      {0, NULL}};

static PyType_Spec headers_spec = {"nats_ev._parser.HeadersBase", sizeof(headers), 0,
                                   Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
                                   headers_slots};

PyObject *nats_py_headers_type(void)
{
    PyObject *type = PyType_FromSpec(&headers_spec);
    /* copy and pickle find the fields by these names, as those of a class in Python. */
    PyObject *names = Py_BuildValue("(ssss)", "_values", "status", "description", "_received");
    if (type != NULL && (names == NULL || PyObject_SetAttrString(type, "__slots__", names) < 0))
        Py_CLEAR(type);
    Py_XDECREF(names);
    headers_type = (PyTypeObject *)type;
    return type;
}

static PyMethodDef functions[] = {
    {"encode_block", encode_block, METH_O,
     "Return the header block of a dict, or None if C can't tell."},
    {"parse_headers", (PyCFunction)(void (*)(void))parse_headers, METH_FASTCALL,
     "Return the headers of a block, or None for other bytes."},
    {"last_values", last_values, METH_O,
     "Return a dict of a header block's names to their last values."}};

PyObject *nats_py_encode_block(void)
{
    return PyCFunction_NewEx(&functions[0], NULL, NULL);
}

PyObject *nats_py_parse_headers(void)
{
    return PyCFunction_NewEx(&functions[1], NULL, NULL);
}

PyObject *nats_py_last_values(void)
{
    return PyCFunction_NewEx(&functions[2], NULL, NULL);
}
