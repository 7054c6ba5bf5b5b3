"""Builds nats_ev._parser: the sans-I/O C core (csrc/) behind CFFI.

What Python may see of it is csrc/cdef.h, read as it is. Set NATS_EV_WERROR=1 to make the C compiler's
warnings errors. Run as a script it compiles in place.
"""

import os
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"

# CFFI gives up the interpreter's lock around every call, some 30 ns, and keeps errno, some 13 ns. These
# calls never block and have no errno.
PREAMBLE = """
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
#undef _cffi_restore_errno
#undef _cffi_save_errno
#define _cffi_restore_errno() ((void)0)
#define _cffi_save_errno() ((void)0)
#include "nats_parser.h"
#include "nats_wbuf.h"
"""
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter"]

ffibuilder = FFI()
ffibuilder.cdef((CSRC / "cdef.h").read_text())
ffibuilder.set_source(
    "nats_ev._parser",
    PREAMBLE,
    sources=[f"csrc/{name}.c" for name in ("nats_parser", "nats_wbuf", "nats_unsent")],
    include_dirs=["csrc"],
    depends=[f"csrc/{path.name}" for path in CSRC.glob("*.h")],
    extra_compile_args=["-O3", "-std=c11", *WARNINGS]
    + (["-Werror"] if os.environ.get("NATS_EV_WERROR") == "1" else []),
)

if __name__ == "__main__":
    os.chdir(ROOT)
    ffibuilder.compile(verbose=True)
