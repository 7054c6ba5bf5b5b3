/*
 * The fuzz targets of lab/fuzz_targets.py: TARGET, which is inbound or outbound, by way of Python.
 *
 * The compiled module is instrumented and loaded by the interpreter, and libFuzzer sees its counters because
 * this program exports libFuzzer's symbols. How to run it: README.md.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static PyObject *target;

/* Import the target. PYTHONPATH says where it and the module are. */
static void begin(void)
{
    PyObject *module;
    Py_Initialize();
    module = PyImport_ImportModule("lab.fuzz_targets");
    if (module != NULL)
        target = PyObject_GetAttrString(module, TARGET);
    if (target == NULL) {
        PyErr_Print();
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    PyObject *result;
    if (target == NULL)
        begin();
    result = PyObject_CallFunction(target, "y#", (const char *)data, (Py_ssize_t)size);
    if (result == NULL) {
        PyErr_Print();
        abort();
    }
    Py_DECREF(result);
    return 0;
}
