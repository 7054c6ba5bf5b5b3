"""Builds nats_ev._libev: the system's libev behind CFFI, for nats_ev.pyev.

The C that goes between libev and Python is nats_ev/pyev/_libev_glue.h, and what Python may see is
nats_ev/pyev/_libev_cdef.h. Set LIBEV_PREFIX when libev is not where the compiler looks, and
NATS_EV_WERROR=1 to make the C compiler's warnings errors. Run as a script it compiles in place.
"""

import os
import sys
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
GLUE = "nats_ev/pyev"
WARNINGS = ["-Wall", "-Wextra", "-Wno-unused-parameter"]


def libev_prefixes() -> list[Path]:
    """Return where libev is installed, unless the compiler finds it by itself."""
    named = os.environ.get("LIBEV_PREFIX")
    candidates = [named] if named else ["/opt/homebrew", "/usr/local", "/opt/local"]
    if not named and sys.platform != "darwin":
        return []
    return [Path(prefix) for prefix in candidates if Path(prefix, "include", "ev.h").exists()][:1]


ffibuilder = FFI()
ffibuilder.cdef((ROOT / GLUE / "_libev_cdef.h").read_text())
ffibuilder.set_source(
    "nats_ev._libev",
    '#include "_libev_glue.h"',
    libraries=["ev"],
    include_dirs=[GLUE] + [str(prefix / "include") for prefix in libev_prefixes()],
    library_dirs=[str(prefix / "lib") for prefix in libev_prefixes()],
    depends=[f"{GLUE}/_libev_glue.h", f"{GLUE}/_libev_cdef.h"],
    extra_compile_args=["-O2", "-std=c11", "-D_GNU_SOURCE", *WARNINGS]
    + (["-Werror"] if os.environ.get("NATS_EV_WERROR") == "1" else []),
)

if __name__ == "__main__":
    os.chdir(ROOT)
    ffibuilder.compile(verbose=True)
