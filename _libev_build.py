"""Build nats_ev.pyev._libev: the system's libev, wrapped by CFFI for nats_ev.pyev.

The C between libev and Python is csrc/libev_glue.c; csrc/libev_cdef.h declares what Python may see. Run as
a script, this file compiles in place. Environment variables:

* LIBEV_PREFIX: where libev is installed, when the compiler does not find libev by itself.
* those of _build_flags.py.
"""

import os
import sys
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # setuptools runs this file from elsewhere
from _build_flags import QUIET_PREAMBLE, compile_args, link_args  # noqa: E402

CSRC = ROOT / "csrc"

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
    PREAMBLE + QUIET_PREAMBLE,
    sources=["csrc/libev_glue.c"],
    libraries=["ev"],
    include_dirs=["csrc"] + [str(prefix / "include") for prefix in libev_prefixes()],
    library_dirs=[str(prefix / "lib") for prefix in libev_prefixes()],
    depends=[f"csrc/{name}" for name in ("libev_glue.h", "libev_cdef.h")],
    extra_compile_args=compile_args("-O2", "-D_GNU_SOURCE"),
    extra_link_args=link_args(),
)

if __name__ == "__main__":
    os.chdir(ROOT)
    ffibuilder.compile(verbose=True)
