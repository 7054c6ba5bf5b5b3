"""The files of contexts: where they are, and how they are read, written and selected."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any

from .errors import ContextError, ContextNotFoundError
from .references import Unresolved, read_file


def root() -> str:
    """Return the folder of the official tools' settings."""
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.join(os.path.expanduser("~"), ".config")
    return os.path.join(folder, "nats")


def selection(file: str = "context.txt") -> str:
    """Return the path of a file that names a context."""
    return os.path.join(root(), file)


def wrong_name(name: str) -> str:
    """Return why a name is none of a context, or ""."""
    if not name:
        return "it is empty"
    for part in ("..", "/", "\\", "\0"):
        if part in name:
            return f"it must not contain {part!r}"
    return ""


def path_of(name: str) -> str:
    """Return the path of a context's file. Raises `ContextError` for a malformed name."""
    if not isinstance(name, str):
        raise TypeError(f"name must be str, not {type(name).__name__}")
    why = wrong_name(name)
    if why:
        raise ContextError(f"invalid context name {name!r}: {why}")
    return os.path.join(root(), "context", f"{name}.json")


def not_found(name: str, path: str) -> ContextNotFoundError:
    """Return the error for a context that does not exist."""
    return ContextNotFoundError(f"no context {name!r}: {path} does not exist", name=name, path=path)


def _is_full(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry of a folder is a file that is not empty."""
    try:
        return entry.is_file() and entry.stat().st_size > 0
    except OSError:
        return False


def stored_names() -> list[str]:
    """Return the names of all contexts, sorted. Raises `ContextError`."""
    folder = os.path.join(root(), "context")
    try:
        with os.scandir(folder) as entries:
            found = [e.name[:-5] for e in entries if e.name.endswith(".json") and _is_full(e)]
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise ContextError(f"cannot read {folder}: {exc.strerror}", path=folder) from exc
    return sorted(name for name in found if not wrong_name(name))


def read_selection(file: str) -> str | None:
    """Return the name in a file of `selection`; None if there is none. Raises `ContextError`."""
    path = selection(file)
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read(4096).strip() or None
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise ContextError(f"cannot read {path}: {_reason(exc)}", path=path) from exc


def read_object(path: str, name: str) -> dict[str, Any]:
    """Return the content of a context's file. Raises `ContextNotFoundError`, `ContextError`."""
    try:
        data = read_file(path)
    except Unresolved as exc:
        if isinstance(exc.__cause__, FileNotFoundError):
            raise not_found(name, path) from None
        raise ContextError(str(exc), path=path) from None
    try:
        found = json.loads(data)
    except UnicodeDecodeError:
        raise ContextError(f"{path}: not UTF-8", path=path) from None
    except RecursionError:
        raise ContextError(f"{path}: nested too deeply", path=path) from None
    except json.JSONDecodeError as exc:  # whose text shows nothing of the file
        raise ContextError(f"{path}: not JSON: {exc}", path=path) from None
    except ValueError:  # Python refuses to read integers of more than 4,300 digits
        raise ContextError(f"{path}: a number in it is too long", path=path) from None
    if not isinstance(found, dict):
        raise ContextError(f"{path}: it must be a JSON object, not {kind_of(found)}", path=path)
    return found


def kind_of(value: Any) -> str:
    """Return what a value of JSON is; never the value, which may be a secret."""
    kinds = {bool: "true or false", str: "a text", list: "a list", dict: "an object"}
    return "null" if value is None else kinds.get(type(value), "a number")


def write(path: str, text: str) -> None:
    """Write a file by replacing it, so that a reader sees the old content or the new one."""
    folder = os.path.dirname(path) or "."
    temporary = ""
    try:
        os.makedirs(folder, 0o700, exist_ok=True)
        fd, temporary = tempfile.mkstemp(
            prefix=f"{os.path.basename(path)}.tmp-", dir=folder
        )  # mode 0600
        with open(fd, "w", encoding="utf-8", errors="surrogateescape") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(fd)
        os.replace(temporary, path)
    except (OSError, UnicodeEncodeError) as exc:
        if temporary:
            remove(temporary)
        raise ContextError(f"cannot write {path}: {_reason(exc)}", path=path) from exc


def remove(path: str) -> None:
    """Delete a file, if it exists. Raises `ContextError`."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise ContextError(f"cannot delete {path}: {_reason(exc)}", path=path) from exc


def _reason(exc: Exception) -> str:
    return getattr(exc, "strerror", None) or "it is not UTF-8"
