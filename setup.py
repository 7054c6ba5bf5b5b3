"""Name the CFFI modules to build, and say what a build needs: pyproject.toml cannot."""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parent))  # pip runs this file from elsewhere
from _build_flags import HAS_STABLE_ABI, compiler, remove_other_flavours
from _libev_build import CARRIED, PREFIX


class BuildPy(build_py):
    """The command that copies Python files to build/, which an earlier build may have used."""

    def run(self) -> None:
        """Copy the files; nothing else of the package stays there, or the wheel would have it."""
        shutil.rmtree(Path(self.build_lib, "nats_ev"), ignore_errors=True)
        super().run()


class BuildExt(build_ext):
    """The build command, which says what to install when a compiler or header is missing.

    csrc/libev_glue.h names libev's missing header as well, but a compiler prints hundreds of errors after
    that line; here the message is the last line.
    """

    def run(self) -> None:
        """Build the modules; raises SystemExit with what to install."""
        command = compiler()
        if shutil.which(command[0]) is None:
            raise SystemExit(
                f"nats_ev needs a C compiler, and there is no {shlex.join(command)!r}. "
                "Install one: gcc libc6-dev (Debian, Ubuntu), gcc (Fedora), gcc musl-dev (Alpine), on macOS "
                "xcode-select --install"
            )
        header = Path(sysconfig.get_path("include"), "Python.h")
        if not header.exists():
            raise SystemExit(
                f"Python's header {header} is missing. Install python3-dev (Debian, Ubuntu, Alpine) or "
                "python3-devel (Fedora)"
            )
        if not self.finds_libev(command):
            raise SystemExit(
                "libev's header ev.h is missing. Install libev-dev (Debian, Ubuntu, Alpine) or libev-devel "
                "(Fedora), on macOS run: brew install libev. Elsewhere, LIBEV_PREFIX says where libev is"
            )
        # Objects in build/ do not tell with which flags and which CC they were compiled.
        self.force = True
        super().run()
        # libev's licence asks that its text goes with each binary.
        if CARRIED and not self.inplace and (PREFIX / "LICENSE").exists():
            shutil.copy(
                PREFIX / "LICENSE", Path(self.build_lib, "nats_ev", "pyev", "LICENSE.libev")
            )
        # For `pip install -e` in the source tree, else in build/.
        for extension in self.extensions:
            remove_other_flavours(self.get_ext_fullpath(extension.name))

    def finds_libev(self, command: list[str]) -> bool:
        """Return whether the compiler, called as for the build, finds libev's header."""
        flags = shlex.split(" ".join(os.environ.get(name, "") for name in ("CPPFLAGS", "CFLAGS")))
        folders = [folder for extension in self.extensions for folder in extension.include_dirs]
        for extension in self.extensions:
            given = extension.extra_compile_args
            folders += [given[i + 1] for i, flag in enumerate(given) if flag == "-isystem"]
        probe = [*command, *flags, *(f"-I{folder}" for folder in folders), "-E", "-x", "c", "-"]
        include = b"#include <ev.h>\n"
        return subprocess.run(probe, input=include, capture_output=True).returncode == 0


def urls(home: str | None) -> dict[str, str]:
    """Return the addresses of the project, which only the builder of a release knows."""
    if not home:
        return {}
    return {
        "Source": home,
        "Documentation": f"{home}/blob/main/docs/guide.md",
        "Changelog": f"{home}/blob/main/CHANGELOG.md",
        "Issues": f"{home}/issues",
    }


setup(
    cffi_modules=["_parser_build.py:ffibuilder", "_libev_build.py:ffibuilder"],
    cmdclass={"build_py": BuildPy, "build_ext": BuildExt},
    project_urls=urls(os.environ.get("NATS_EV_HOME")),
    options={"bdist_wheel": {"py_limited_api": "cp310"}} if HAS_STABLE_ABI else {},
)
