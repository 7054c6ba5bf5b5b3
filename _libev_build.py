"""Build nats_ev.pyev._libev: the system's libev, wrapped by CFFI for nats_ev.pyev.

The C between libev and Python is csrc/libev_glue.c; csrc/libev_cdef.h declares what Python may see. Run as
a script, this file compiles in place. Environment variables:

* LIBEV_PREFIX: where libev is installed (``include/ev.h``, ``lib/libev.so``), when the compiler does not find
  libev by itself. The module then loads libev from there (RUNPATH). Where ``lib/libev.a`` is the only
  library, as tests/lab/libev.sh makes it for wheels, the module carries libev and needs none.
* those of _build_flags.py.
"""

import os
import platform
import sys
import sysconfig
from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT))  # setuptools runs this file from elsewhere
from _build_flags import (  # noqa: E402
    QUIET_PREAMBLE,
    STABLE_ABI,
    accepts,
    compile_args,
    compile_in_place,
    dl_libraries,
    link_args,
)

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


def libev_prefix() -> Path | None:
    """Return where libev is installed; None when the compiler finds libev by itself.

    Raises:
        SystemExit: LIBEV_PREFIX names a folder without libev: another libev than the named one is not used.
    """
    named = os.environ.get("LIBEV_PREFIX")
    if named:
        prefix = Path(os.path.abspath(os.path.expanduser(named)))
        if not (prefix / "include" / "ev.h").exists():
            raise SystemExit(f"LIBEV_PREFIX={named}: there is no {prefix / 'include' / 'ev.h'}")
        if not library_folders(
            prefix
        ):  # the linker would take another libev than that of the header
            raise SystemExit(f"LIBEV_PREFIX={named}: there is no library libev in {prefix / 'lib'}")
        if ":" in str(prefix):
            raise SystemExit(f"LIBEV_PREFIX={named}: a colon separates folders in a RUNPATH")
        return prefix
    candidates = ["/opt/homebrew", "/usr/local", "/opt/local"] if sys.platform == "darwin" else []
    return next((Path(c) for c in candidates if Path(c, "include", "ev.h").exists()), None)


def library_folders(prefix: Path | None) -> list[str]:
    """Return the folders below the prefix that hold libev; empty when the linker finds libev by itself."""
    if prefix is None:
        return []
    # Debian's folder; not every Python knows its name.
    multiarch = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    names = ["lib", "lib64", f"lib/{multiarch}"]
    files = ("libev.so", "libev.a", "libev.dylib", "libev.dll.a")  # what the linker looks for
    return [str(prefix / n) for n in names if any((prefix / n / file).exists() for file in files)]


def is_carried(folders: list[str]) -> bool:
    """Return whether the module will have libev inside: LIBEV_PREFIX has a static library alone."""
    files = {path.name for folder in folders for path in Path(folder).glob("libev.*")}
    return bool(os.environ.get("LIBEV_PREFIX")) and not files - {"libev.a", "libev.la"}


PREFIX = libev_prefix()
LIBRARY_FOLDERS = library_folders(PREFIX)
CARRIED = is_carried(LIBRARY_FOLDERS)
# A libev inside must not answer to the names of another libev in the process.
HIDDEN = ["-Wl,--exclude-libs,libev.a"]

ffibuilder = FFI()
ffibuilder.cdef((CSRC / "libev_cdef.h").read_text())
ffibuilder.set_source(
    "nats_ev.pyev._libev",
    PREAMBLE + QUIET_PREAMBLE,
    sources=["csrc/libev_glue.c", "csrc/py_watcher.c"],
    libraries=["ev", *dl_libraries()],
    include_dirs=["csrc"],
    library_dirs=LIBRARY_FOLDERS,
    # The dynamic loader has to find the libev that was compiled for, and not another or none: RUNPATH.
    runtime_library_dirs=LIBRARY_FOLDERS if os.environ.get("LIBEV_PREFIX") and not CARRIED else [],
    depends=[f"csrc/{name}" for name in ("libev_glue.h", "libev_cdef.h", "py_call.h")],
    # As a header of the system: its warnings are not ours.
    extra_compile_args=compile_args(
        "-O2",
        "-D_GNU_SOURCE",
        *STABLE_ABI,
        *(["-isystem", str(PREFIX / "include")] if PREFIX else []),
    ),
    extra_link_args=link_args() + (HIDDEN if CARRIED and accepts(*HIDDEN) else []),
)

if __name__ == "__main__":
    compile_in_place(ROOT / Path(__file__).name)
