/*
 * py_answers: what JetStream's servers answer most often, read without a Python loop.
 *
 * That is the acknowledgement of a publish: an object of two fields, with a blank between them or without. What
 * looks any different is for Python, whose code has all of the rules.
 */
#include "py_hot.h"

#include <string.h>

enum { MOST_DIGITS = 19 }; /* as many nines as 64 bits can hold */

static PyObject *key_stream, *key_seq, *key_duplicate;

/* Skip text that must come next. Return where it ends, or NULL. */
static const char *skip(const char *p, const char *end, const char *text)
{
    size_t n = strlen(text);
    return p != NULL && (size_t)(end - p) >= n && memcmp(p, text, n) == 0 ? p + n : NULL;
}

/* Skip a name up to its quote: printable ASCII without an escape, at least one character. */
static const char *skip_name(const char *p, const char *end)
{
    const char *begin = p;
    while (p != NULL && p < end && *p != '"')
        p = (unsigned char)(*p - ' ') < 127 - ' ' && *p != '\\' ? p + 1 : NULL;
    return p == NULL || p == begin || p == end ? NULL : p;
}

/* Skip a number, and set it. */
static const char *skip_number(const char *p, const char *end, unsigned long long *number)
{
    const char *begin = p;
    *number = 0;
    while (p != NULL && p < end && *p >= '0' && *p <= '9' && p - begin <= MOST_DIGITS)
        *number = *number * 10 + (unsigned long long)(*p++ - '0');
    if (p == NULL || p == begin || p - begin > MOST_DIGITS || (*begin == '0' && p - begin > 1))
        return NULL;
    return p;
}

static PyObject *make_ack(const char *name, const char *name_end, unsigned long long number)
{
    PyObject *ack = PyDict_New(), *stream = PyUnicode_FromStringAndSize(name, name_end - name);
    PyObject *seq = PyLong_FromUnsignedLongLong(number);
    if (ack != NULL &&
        (stream == NULL || seq == NULL || PyDict_SetItem(ack, key_stream, stream) < 0 ||
         PyDict_SetItem(ack, key_seq, seq) < 0 || PyDict_SetItem(ack, key_duplicate, Py_False) < 0))
        Py_CLEAR(ack);
    Py_XDECREF(stream);
    Py_XDECREF(seq);
    return ack;
}

/* parse_ack(data) -> {"stream": …, "seq": …, "duplicate": False}, or None when it is not the usual one */
static PyObject *parse_ack(PyObject *unused, PyObject *data)
{
    const char *p, *end, *name, *name_end;
    unsigned long long number;
    char *begin;
    Py_ssize_t size;
    (void)unused;
    if (PyBytes_AsStringAndSize(data, &begin, &size) < 0)
        return NULL;
    end = begin + size;
    name = skip(begin, end, "{\"stream\":\"");
    name_end = skip_name(name, end);
    p = skip(name_end, end, "\",");
    if (p != NULL && p < end && *p == ' ')
        p++;
    p = skip_number(skip(p, end, "\"seq\":"), end, &number);
    if (skip(p, end, "}") != end)
        Py_RETURN_NONE;
    return make_ack(name, name_end, number);
}

static PyMethodDef functions[] = {
    {"parse_ack", parse_ack, METH_O,
     "Return the acknowledgement of a publish, or None if it is not the usual one."}};

PyObject *nats_py_parse_ack(void)
{
    key_stream = PyUnicode_InternFromString("stream");
    key_seq = PyUnicode_InternFromString("seq");
    key_duplicate = PyUnicode_InternFromString("duplicate");
    if (key_stream == NULL || key_seq == NULL || key_duplicate == NULL)
        return NULL;
    return PyCFunction_NewEx(&functions[0], NULL, NULL);
}
