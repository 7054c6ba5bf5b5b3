/*
 * A C program that owns its libev loop, embeds Python, and gets messages from NATS in that loop.
 *
 *   host release    the interpreter lock is released while ev_run runs; callbacks take it
 *   host poll       the lock is held, but libev releases it while it waits for events
 *   host hold       the lock is held all the time: no other thread of Python runs
 *
 * The host ticks ten times, or as often as a second argument says, and ends; on SIGINT and SIGTERM it
 * ends earlier. docs/embedding.md says why each step is as it is.
 *
 *   cc host.c $(python3-config --includes --ldflags --embed) -lev -o host
 *   PYTHONPATH=. NATS_HOST=127.0.0.1 ./host release
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <ev.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct ev_loop *loop;
static ev_timer tick;
static PyObject *plugin;
static PyThreadState *released;
static int ticks = 10, sent, received, signals;

/* ---- what Python may call ---- */

/* The callback of a subscription: (subject, payload, reply, headers). Called with the lock held. */
static PyObject *on_message(PyObject *self, PyObject *args)
{
    const char *subject, *payload, *reply, *headers;
    Py_ssize_t len, headers_len;
    (void)self;
    if (!PyArg_ParseTuple(args, "sy#zz#", &subject, &payload, &len, &reply, &headers, &headers_len))
        return NULL;
    received++;
    printf("%s: %.*s\n", subject, (int)len, payload);
    Py_RETURN_NONE;
}

static PyObject *stop(PyObject *self, PyObject *args)
{
    (void)self;
    (void)args;
    ev_break(loop, EVBREAK_ALL);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {{"on_message", on_message, METH_VARARGS, "Count a message."},
                                  {"stop", stop, METH_NOARGS, "End the host's loop."},
                                  {NULL, NULL, 0, NULL}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT,
                                        "host",
                                        "The program around Python.",
                                        -1,
                                        functions,
                                        NULL,
                                        NULL,
                                        NULL,
                                        NULL};

static PyObject *init_host(void)
{
    return PyModule_Create(&definition);
}

/* ---- the host calls Python ---- */

/* Call a function of the plugin; an exception ends the loop. From any callback, in each mode: the
   lock is taken if this thread does not hold it. */
static void call(const char *name, int number)
{
    PyGILState_STATE state = PyGILState_Ensure();
    PyObject *result = number ? PyObject_CallMethod(plugin, name, "i", number)
                              : PyObject_CallMethod(plugin, name, NULL);
    if (result == NULL) {
        PyErr_Print();
        ev_break(loop, EVBREAK_ALL);
    }
    Py_XDECREF(result);
    PyGILState_Release(state);
}

static void leave(void)
{
    ev_timer_stop(loop, &tick);
    call("leave", 0);
}

static void on_tick(struct ev_loop *l, ev_timer *w, int revents)
{
    (void)l;
    (void)w;
    (void)revents;
    if (sent < ticks)
        call("tick", ++sent);
    else
        leave();
}

static void on_signal(struct ev_loop *l, ev_signal *w, int revents)
{
    (void)revents;
    signals++;
    ev_signal_stop(l, w); /* a second one ends the process */
    leave();
}

/* ---- the loop ---- */

static void release_lock(struct ev_loop *l)
{
    (void)l;
    released = PyEval_SaveThread();
}

static void acquire_lock(struct ev_loop *l)
{
    (void)l;
    PyEval_RestoreThread(released);
}

/* Run the loop until ev_break is called. The caller holds the lock before and after. */
static void run(const char *mode)
{
    if (strcmp(mode, "release") == 0) {
        Py_BEGIN_ALLOW_THREADS;
        ev_run(loop, 0);
        Py_END_ALLOW_THREADS;
        return;
    }
    if (strcmp(mode, "poll") == 0)
        ev_set_loop_release_cb(loop, release_lock, acquire_lock);
    ev_run(loop, 0);
    ev_set_loop_release_cb(loop, NULL, NULL);
}

/* Start Python without handlers of signals: the host watches them. Return whether that worked. */
static int start_python(void)
{
    PyConfig config;
    PyStatus status;
    PyObject *result = NULL, *module;
    if (PyImport_AppendInittab("host", init_host) < 0)
        return 0;
    PyConfig_InitPythonConfig(&config);
    config.install_signal_handlers = 0;
    config.buffered_stdio = 0; /* its lines and ours come in order */
    status = Py_InitializeFromConfig(&config);
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        fprintf(stderr, "host: %s\n", status.err_msg);
        return 0;
    }
    plugin = PyImport_ImportModule("plugin");
    module = PyImport_ImportModule("host");
    if (plugin != NULL && module != NULL) {
        PyObject *callback = PyObject_GetAttrString(module, "on_message");
        PyObject *address = PyLong_FromVoidPtr(loop);
        result = PyObject_CallMethod(plugin, "start", "OO", address, callback);
        Py_XDECREF(address);
        Py_XDECREF(callback);
    }
    if (result == NULL)
        PyErr_Print();
    Py_XDECREF(module);
    Py_XDECREF(result);
    return result != NULL;
}

/* End Python while the loop still exists. Return the exit status. */
static int end_python(void)
{
    PyObject *result = PyObject_CallMethod(plugin, "code", NULL);
    int code = result != NULL ? (int)PyLong_AsLong(result) : 1;
    if (PyErr_Occurred())
        PyErr_Print();
    Py_XDECREF(result);
    Py_CLEAR(plugin);
    return Py_FinalizeEx() < 0 ? 120 : code;
}

int main(int argc, char **argv)
{
    ev_signal interrupted, terminated;
    int code;
    if (argc < 2 || argc > 3) {
        fputs("usage: host release|poll|hold [TICKS]\n", stderr);
        return 2;
    }
    if (argc == 3)
        ticks = atoi(argv[2]);
    setvbuf(stdout, NULL, _IOLBF, 0);
    loop = ev_loop_new(EVFLAG_AUTO);
    if (loop == NULL || !start_python())
        return 1;
    ev_timer_init(&tick, on_tick, 0.01, 0.01);
    ev_timer_start(loop, &tick);
    ev_signal_init(&interrupted, on_signal, SIGINT);
    ev_signal_start(loop, &interrupted);
    ev_signal_init(&terminated, on_signal, SIGTERM);
    ev_signal_start(loop, &terminated);
    run(argv[1]);
    code = end_python();
    ev_loop_destroy(loop);
    printf("host: %d sent, %d received, %d signals\n", sent, received, signals);
    return code;
}
