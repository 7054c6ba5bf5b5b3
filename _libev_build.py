"""Build nats_ev.pyev._libev: the system's libev, wrapped by CFFI for nats_ev.pyev.

The C between libev and Python is csrc/libev_glue.c; csrc/libev_cdef.h declares what Python may see. Run as
a script, this file compiles in place. Environment variables:

* LIBEV_PREFIX: where libev is installed, when the compiler does not find libev by itself.
* NATS_EV_WERROR=1: make the C compiler's warnings errors.
"""

import os
import sys
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
CSRC = ROOT / "csrc"
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter"]

# CFFI releases the interpreter lock around every call. Every call but those that poll or sleep is shorter
# than releasing and taking the lock, and is atomic while the lock is held; csrc/libev_glue.c releases
# the lock where a call may block. PyPy has no such macros to replace.
PREAMBLE = """
#ifndef PYPY_VERSION
#undef Py_BEGIN_ALLOW_THREADS
#undef Py_END_ALLOW_THREADS
#define Py_BEGIN_ALLOW_THREADS {
#define Py_END_ALLOW_THREADS }
#endif
#include "libev_glue.h"
"""


def libev_prefixes() -> list[Path]:
    """Return where libev is installed; empty when the compiler finds libev by itself."""
    named = os.environ.get("LIBEV_PREFIX")
    candidates = [named] if named else ["/opt/homebrew", "/usr/local", "/opt/local"]
    if not named and sys.platform != "darwin":
        return []
    return [Path(prefix) for prefix in candidates if Path(prefix, "include", "ev.h").exists()][:1]


ffibuilder = FFI()
ffibuilder.cdef((CSRC / "libev_cdef.h").read_text())
ffibuilder.set_source(
    "nats_ev.pyev._libev",
    PREAMBLE,
    sources=["csrc/libev_glue.c"],
    libraries=["ev"],
    include_dirs=["csrc"] + [str(prefix / "include") for prefix in libev_prefixes()],
    library_dirs=[str(prefix / "lib") for prefix in libev_prefixes()],
    depends=[f"csrc/{name}" for name in ("libev_glue.h", "libev_cdef.h")],
    extra_compile_args=["-O2", "-std=c11", "-D_GNU_SOURCE", "-fvisibility=hidden", *WARNINGS]
    + (["-Werror"] if os.environ.get("NATS_EV_WERROR") == "1" else []),
)

if __name__ == "__main__":
    os.chdir(ROOT)
    ffibuilder.compile(verbose=True)
