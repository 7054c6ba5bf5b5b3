"""Choose the compiler and linker flags of the compiled modules, for the build scripts; compile in place.

Environment variables:

* CC: the compiler's command, which may have arguments; quoted as for a shell, so may CFLAGS and LDFLAGS.
* NATS_EV_WERROR=1: make the C compiler's warnings errors.
* NATS_EV_DEBUG=1: check the assertions of the C code, and leave out what hardens a release, which
  sanitizers replace by better checks of their own.
"""

from __future__ import annotations

import functools
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion"]
# Each entry lists alternatives, the best first. A buffer overflow that no test has found shall end the
# process instead of running foreign code: checked calls of memcpy and the like, a canary before the
# return address of functions with arrays, and no table of functions that stays writable.
HARDENING_COMPILE = [
    [
        ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=3"],
        ["-U_FORTIFY_SOURCE", "-D_FORTIFY_SOURCE=2"],
    ],
    [["-fstack-protector-strong"]],
]
HARDENING_LINK = [[["-Wl,-z,relro"]], [["-Wl,-z,now"]]]

# CFFI's generated code, which follows the preamble, converts on purpose and has unused parameters.
# Python's own headers precede the preamble and are not all clean, either.
QUIET_PREAMBLE = """
#if defined(__GNUC__) || defined(__clang__)
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wsign-conversion"
#pragma GCC diagnostic ignored "-Wshadow"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#endif
"""

# The stable ABI of CPython 3.10: one wheel for it and all later versions. CFFI's own choice would be
# older. Debug and free-threaded interpreters have no stable ABI.
HAS_STABLE_ABI = not any(sysconfig.get_config_var(n) for n in ("Py_DEBUG", "Py_GIL_DISABLED"))
STABLE_ABI = ["-DPy_LIMITED_API=0x030A0000"] if HAS_STABLE_ABI else []

# What an extension's file may be called after the module's name, for any Python on any platform.
EXTENSIONS = (".so", ".pyd", ".dylib")

_PROBE = "#include <string.h>\nint nats_ev_probe(char *to) { memset(to, 0, 8); return to[0]; }\n"


def is_set(name: str) -> bool:
    """Return whether the environment variable is 1."""
    return os.environ.get(name) == "1"


def compiler() -> list[str]:
    """Return the C compiler's command and its arguments. Raises SystemExit if CC is no command."""
    given = os.environ.get("CC")
    try:
        command = shlex.split(given or sysconfig.get_config_var("CC") or "cc")
    except ValueError as exc:
        raise SystemExit(f"CC={given}: {exc}") from None
    if not command:
        raise SystemExit(f"CC={given!r} names no compiler")
    return command


@functools.cache
def accepts(*flags: str) -> bool:
    """Return whether the compiler compiles and links a shared library with these flags, silently."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "probe.c")
        source.write_text(_PROBE)
        output = ["-o", str(source.with_suffix(".so"))]
        # _FORTIFY_SOURCE depends on how much is optimised: the last of these flags counts.
        given = shlex.split(os.environ.get("CFLAGS", ""))
        optimise = ["-O2", *(flag for flag in given if flag.startswith("-O"))]
        probe = [*compiler(), *optimise, "-Werror", "-fPIC", "-shared", *flags, str(source)]
        try:
            return subprocess.run([*probe, *output], capture_output=True).returncode == 0
        except OSError:  # no such compiler; the build will say so
            return False


def chosen(alternatives: list[list[list[str]]]) -> list[str]:
    """Return, for each entry, the flags of the first alternative that the compiler accepts."""
    flags: list[str] = []
    for entry in alternatives:
        flags += next((option for option in entry if accepts(*option)), [])
    return flags


def compile_args(*specific: str) -> list[str]:
    """Return the flags for the compiler: ``specific``, warnings, assertions or hardening."""
    flags = ["-std=c11", "-fvisibility=hidden", *specific, *WARNINGS]
    if is_set("NATS_EV_WERROR"):
        flags.append("-Werror")
    if is_set("NATS_EV_DEBUG"):
        return [*flags, "-UNDEBUG"]
    return [*flags, "-DNDEBUG", *chosen(HARDENING_COMPILE)]


def dl_libraries() -> list[str]:
    """Return the library of dlsym: before glibc 2.34 it is one of its own."""
    return ["dl"] if sys.platform == "linux" else []


def link_args() -> list[str]:
    """Return the flags for the linker."""
    return [] if is_set("NATS_EV_DEBUG") else chosen(HARDENING_LINK)


def remove_other_flavours(built: str | os.PathLike[str]) -> None:
    """Remove the extensions of the same module next to the one that was just built.

    An extension's file name depends on how it was built: ``_parser.abi3.so`` or
    ``_parser.cpython-311-x86_64-linux-gnu.so``. Python imports the latter where both exist, even when the
    former is newer.
    """
    built = Path(built)
    module = built.name.partition(".")[0]
    for path in built.parent.glob(f"{module}.*"):
        if path.name.endswith(EXTENSIONS) and path.name != built.name:
            path.unlink()


def compile_in_place(script: Path) -> None:
    """Compile the module of a build script next to its Python files, as setup.py does for ``pip install -e``.

    Everything is compiled again: objects do not tell with which flags they were compiled. Nothing else is
    left in the tree.
    """
    from cffi.setuptools_ext import cffi_modules
    from setuptools import Distribution

    os.chdir(script.parent)
    distribution = Distribution({"name": "nats_ev", "script_name": script.name})
    cffi_modules(distribution, "cffi_modules", [f"{script.name}:ffibuilder"])
    with tempfile.TemporaryDirectory() as folder:
        command = distribution.get_command_obj("build_ext")
        command.inplace = True
        command.build_temp = command.build_lib = folder
        distribution.run_command("build_ext")
        for extension in command.extensions:
            remove_other_flavours(command.get_ext_fullpath(extension.name))
