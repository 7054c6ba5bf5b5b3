"""Only what pyproject.toml cannot say: which CFFI modules to build, and what that needs."""

import os
import shlex
import shutil
import sysconfig
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext


class BuildExt(build_ext):
    """Says what to install when the compiler or Python's headers are missing.

    When it is libev's header, nats_ev/pyev/_libev_glue.h says so.
    """

    def run(self) -> None:
        command = os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc"
        if shutil.which(shlex.split(command)[0]) is None:
            raise SystemExit(
                f"nats_ev needs a C compiler, and there is no {command!r}. Install one: gcc libc6-dev "
                "(Debian, Ubuntu), gcc (Fedora), gcc musl-dev (Alpine), on macOS xcode-select --install"
            )
        header = Path(sysconfig.get_path("include"), "Python.h")
        if not header.exists():
            raise SystemExit(
                f"Python's header {header} is missing. Install python3-dev (Debian, Ubuntu, Alpine) or "
                "python3-devel (Fedora)"
            )
        super().run()


setup(
    cffi_modules=["_parser_build.py:ffibuilder", "_libev_build.py:ffibuilder"],
    cmdclass={"build_ext": BuildExt},
)
