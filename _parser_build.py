"""Build nats_ev._parser: the C core of csrc/, which does no I/O, wrapped by CFFI.

csrc/cdef.h declares what Python may see. Run as a script, this file compiles in place. Environment
variables: those of _build_flags.py.
"""

import sys
from pathlib import Path

from cffi import FFI

if sys.implementation.name != "cpython":
    raise SystemExit(
        f"nats_ev needs CPython 3.10 or later: its hot path uses CPython's C API, which "
        f"{sys.implementation.name} does not have"
    )

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # setuptools runs this file from elsewhere
from _build_flags import (  # noqa: E402
    QUIET_PREAMBLE,
    STABLE_ABI,
    compile_args,
    compile_in_place,
    dl_libraries,
    link_args,
)

CSRC = ROOT / "csrc"

# CFFI releases the interpreter lock around every call, which takes some 30 ns, and saves errno, some 13 ns.
# These calls never block and set no errno.
#
# Each call gets the bytes of an object together with its length, which is the result of len() in Python. A
# subclass of bytes may have a `__len__` of its own, and C would read memory that is not the object's. So no
# pointer is taken from a subclass.
PREAMBLE = """
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
#undef _cffi_restore_errno
#undef _cffi_save_errno
#define _cffi_restore_errno() ((void)0)
#define _cffi_save_errno() ((void)0)

static Py_ssize_t nats_ev_pointer(struct _cffi_ctypedescr *type, PyObject *arg, char **pointer)
{
    if (PyBytes_Check(arg) && !PyBytes_CheckExact(arg)) {
        PyErr_SetString(PyExc_TypeError, "expected bytes, not a subclass of bytes");
        return -1;
    }
    return _cffi_prepare_pointer_call_argument(type, arg, pointer);
}
#undef _cffi_prepare_pointer_call_argument
#define _cffi_prepare_pointer_call_argument nats_ev_pointer
#include "nats_parser.h"
#include "nats_wbuf.h"
#include "nats_ws.h"
#include "py_hot.h"
"""

SOURCES = [
    *("nats_parser", "nats_wbuf", "nats_unsent", "nats_ws"),
    *("py_answers", "py_expiry", "py_headers", "py_inbound", "py_method", "py_outbound"),
    *("py_taker", "py_turn", "py_types", "py_waiting"),
]

ffibuilder = FFI()
ffibuilder.cdef((CSRC / "cdef.h").read_text())
ffibuilder.set_source(
    "nats_ev._parser",
    PREAMBLE + QUIET_PREAMBLE,
    sources=[f"csrc/{name}.c" for name in SOURCES],
    include_dirs=["csrc"],
    libraries=dl_libraries(),
    depends=[f"csrc/{path.name}" for path in CSRC.glob("*.h")],
    extra_compile_args=compile_args("-O3", "-D_GNU_SOURCE", *STABLE_ABI),
    extra_link_args=link_args(),
)

if __name__ == "__main__":
    compile_in_place(ROOT / Path(__file__).name)
