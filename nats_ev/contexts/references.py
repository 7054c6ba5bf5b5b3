"""What the values of a context refer to: files, variables, text in the value itself, tools for secrets."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Callable

_MAX_FILE = 1024 * 1024
_TOOL_TIMEOUT = 30  # seconds
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):")
_VARIABLE = re.compile(r"\$(?:\{(\w+)\}|(\w+))")


class Unresolved(Exception):
    """Why a reference leads nowhere."""


def scheme_of(reference: str) -> str:
    """Return the scheme of a URI, in lower case; "" if a value is none. One letter is a drive of Windows."""
    found = _SCHEME.match(reference)
    return found[1].lower() if found is not None else ""


def _after(prefix: str, reference: str) -> str:
    """Return a reference without a prefix, in which letters are of any case."""
    return reference[len(prefix) :] if reference[: len(prefix)].lower() == prefix else reference


def expanded(reference: str) -> str:
    """Return a path with ~ and variables expanded; as in the official tools, an unset one is empty."""
    path = _after("file://", reference)
    path = _VARIABLE.sub(lambda found: os.environ.get(found[1] or found[2], ""), path)
    return os.path.expanduser(path)


def _open(path: str, flags: int) -> int:
    # Non-blocking: opening a FIFO would wait for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


def read_file(path: str) -> bytes:
    """Return the content of a regular file. Raises `Unresolved`."""
    try:
        with open(path, "rb", opener=_open) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise Unresolved(f"{path} is not a regular file")
            data = stream.read(_MAX_FILE + 1)
    except (OSError, ValueError) as exc:
        raise Unresolved(f"cannot open {path}: {getattr(exc, 'strerror', exc)}") from exc
    if len(data) > _MAX_FILE:
        raise Unresolved(f"{path} is too large")
    return data


def _from_file(reference: str) -> bytes:
    return read_file(expanded(reference))


def _from_env(reference: str) -> bytes:
    name = reference[len("env://") :]
    if not os.environ.get(name):
        raise Unresolved(f"the variable {name!r} is not set")
    return os.fsencode(os.environ[name])


def _from_data(reference: str) -> bytes:
    import base64

    head, comma, content = reference[len("data:") :].partition(",")
    if not comma or "base64" not in (part.strip() for part in head.split(";")):
        raise Unresolved("a data: reference must be data:;base64,…")
    try:
        return base64.b64decode(content, validate=True)
    except ValueError:
        raise Unresolved("a data: reference has invalid base64") from None


def _run(tool: str, *arguments: str) -> bytes:
    """Return what a tool writes. Its output may be a secret: no error shows it."""
    import shutil
    import subprocess

    program = shutil.which(tool)
    if program is None:
        raise Unresolved(f"it needs the tool {tool}, which is not on PATH")
    try:
        done = subprocess.run(
            [program, *arguments], capture_output=True, timeout=_TOOL_TIMEOUT, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise Unresolved(f"the tool {tool} has failed: {type(exc).__name__}") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()
        raise Unresolved(f"the tool {tool} has failed with {done.returncode}: {said[:200]}")
    return done.stdout


def ask_nsc(reference: str) -> dict[str, str]:
    """Return what the tool nsc says about a user: the path of its creds, and URLs. Raises `Unresolved`."""
    output = _run("nsc", "generate", "profile", f"nsc://{_after('nsc://', reference)}")
    try:
        profile = json.loads(output)
        service = profile.get("operator", {}).get("service") or []
        return {"creds": profile.get("user_creds") or "", "url": ",".join(service)}
    except (ValueError, TypeError, AttributeError):
        raise Unresolved("the tool nsc has written no profile") from None


def _from_nsc(reference: str) -> bytes:
    path = ask_nsc(reference).get("creds")
    if not path:
        raise Unresolved("the tool nsc has named no credentials")
    return read_file(path)


def _from_op(reference: str) -> bytes:
    return _run("op", "read", f"op://{reference[len('op://') :]}")


RESOLVERS: dict[str, Callable[[str], bytes]] = {
    "file": _from_file,
    "env": _from_env,
    "data": _from_data,
    "nsc": _from_nsc,
    "op": _from_op,
}
