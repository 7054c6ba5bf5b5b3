/*
 * py_types: hands the types and functions of the hot path to Python.
 */
#include "py_hot.h"

/* What was handed out, for a module that is imported again: classes made of the first types must go on working,
   in other interpreters of the process, too. */
static PyObject *made;

/* Append a type to the list, which may be NULL after an earlier failure; a new reference goes with it. */
static PyObject *append(PyObject *list, PyObject *type)
{
    if (type != NULL && PyList_Append(list, type) < 0)
        Py_CLEAR(type);
    return type;
}

static int make(PyObject *types)
{
    PyObject *outbound = append(types, nats_py_outbound_type());
    PyObject *subscription = append(types, nats_py_subscription_type());
    return outbound != NULL && subscription != NULL &&
           append(types, nats_py_client_type(outbound)) != NULL &&
           append(types, nats_py_method_type()) != NULL &&
           append(types, nats_py_inbound_type(subscription)) != NULL &&
           append(types, nats_py_encode_block()) != NULL &&
           append(types, nats_py_headers_type()) != NULL &&
           append(types, nats_py_parse_headers()) != NULL &&
           append(types, nats_py_last_values()) != NULL &&
           append(types, nats_py_parse_ack()) != NULL &&
           append(types, nats_py_taker_type()) != NULL &&
           append(types, nats_py_connection_type()) != NULL &&
           append(types, nats_py_link_type()) != NULL &&
           append(types, nats_py_turn_type()) != NULL &&
           append(types, nats_py_expiry_type()) != NULL &&
           append(types, nats_py_waiting_type()) != NULL;
}

int nats_py_types(void *list)
{
    PyObject *types = made != NULL ? NULL : PyList_New(0);
    if (types != NULL && make(types))
        made = types;
    else
        Py_XDECREF(types);
    if (made != NULL && PyList_SetSlice(list, 0, 0, made) == 0)
        return 0;
    PyErr_Clear(); /* CFFI would not see it */
    return -1;
}
