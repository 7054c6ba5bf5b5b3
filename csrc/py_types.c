/*
 * py_types: hands the types and functions of the hot path to Python.
 */
#include "py_hot.h"

/* Append a type to the list, which may be NULL after an earlier failure; a new reference goes with it. */
static PyObject *append(PyObject *list, PyObject *type)
{
    if (type != NULL && PyList_Append(list, type) < 0)
        Py_CLEAR(type);
    return type;
}

int nats_py_types(void *list)
{
    PyObject *types = list, *outbound, *subscription;
    outbound = append(types, nats_py_outbound_type());
    subscription = append(types, nats_py_subscription_type());
    if (outbound != NULL && subscription != NULL &&
        append(types, nats_py_client_type(outbound)) != NULL &&
        append(types, nats_py_method_type()) != NULL &&
        append(types, nats_py_inbound_type(subscription)) != NULL &&
        append(types, nats_py_encode_block()) != NULL &&
        append(types, nats_py_parse_block()) != NULL)
        return 0;
    PyErr_Clear(); /* CFFI would not see it */
    return -1;
}
