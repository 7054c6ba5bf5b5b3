/*
 * py_call: calls of Python callables from C by vectorcall.
 *
 * `PyObject_Vectorcall` belongs to the stable ABI since CPython 3.12, and is a function with the same arguments in
 * 3.11. A module for 3.10 must not name the function, so it is looked up. Where it is missing, the call is made in
 * the way of 3.10, which takes 10 ns more.
 */
#ifndef NATS_PY_CALL_H
#define NATS_PY_CALL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define NATS_PY_OFFSET_BIT ((size_t)1 << (8 * sizeof(size_t) - 1))

typedef PyObject *nats_py_vectorcall(PyObject *callable, PyObject *const *args, size_t nargsf,
                                     PyObject *kwnames);

/* Call with the two or more arguments that stand in args[1..n]; args[0] is for the callee. */
static PyObject *nats_py_call_slowly(PyObject *callable, PyObject *const *args, size_t nargsf,
                                     PyObject *kwnames)
{
    size_t n = nargsf & ~NATS_PY_OFFSET_BIT;
    (void)kwnames;
    return PyObject_CallFunctionObjArgs(callable, args[0], args[1], n > 2 ? args[2] : NULL,
                                        n > 3 ? args[3] : NULL, NULL);
}

static nats_py_vectorcall *nats_py_vectorcall_found = nats_py_call_slowly;

/* Find the function, once. */
static inline void nats_py_find_vectorcall(void)
{
    void *found = dlsym(RTLD_DEFAULT, "PyObject_Vectorcall");
    if (found != NULL) /* C has no conversion from a data pointer to a function pointer */
        memcpy(&nats_py_vectorcall_found, &found, sizeof found);
}

/* Call with n arguments, two to four, in args[1..n]. args[0] need not be set: a bound method puts its object there. */
static inline PyObject *nats_py_call(PyObject *callable, PyObject **args, size_t n)
{
    return nats_py_vectorcall_found(callable, args + 1, n | NATS_PY_OFFSET_BIT, NULL);
}

#endif
