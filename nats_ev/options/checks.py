"""The checks of single options: each raises TypeError or `BadOptionsError`, or returns the value to store.

A check is called with the value and the name of the option. Checks that other layers share are in
`nats_ev.arguments`.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from ..arguments import (
    URL_CHARACTERS,
    http_headers,
    integer,
    is_unicode,
    milliseconds,
    shown_number,
)
from ..auth import (
    check_creds,
    check_creds_text,
    check_public,
    check_seed,
    check_seed_file,
    undecorated,
)
from ..errors import BadOptionsError, BadSubjectError
from ..subjects import check_subscribe
from .proxy import parse_proxy

# (value, name of the option) -> the value to store. Raises TypeError or `BadOptionsError`.
Check = Callable[[Any, str], Any]


def as_text(value: Any, name: str) -> str | None:
    """Accept a text, or None."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    if value and not is_unicode(value):
        raise BadOptionsError(f"{name} must not have lone surrogates")
    return value


def as_nkey_seed(value: Any, name: str) -> str | None:
    """Accept the seed of an NKey, as it is or as files decorate it."""
    seed = as_bare(as_decoded(value, name), name)
    if seed is not None:
        check_seed(seed)
    return seed


def as_bare(value: Any, name: str) -> str | None:
    """Accept a text with what surrounds it in a file: line breaks, or the lines of a creds file's block."""
    text = as_text(value, name)
    return (undecorated(text) or None) if text else None


def as_decoded(value: Any, name: str) -> Any:
    """Return the text of bytes; anything else is returned as it is. The error shows nothing of a secret."""
    if not isinstance(value, (bytes, bytearray)):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise BadOptionsError(f"{name} must be UTF-8") from None


def as_nkey(value: Any, name: str) -> str | None:
    """Accept a public NKey."""
    key = (as_text(value, name) or "").strip()
    if key:
        check_public(key)
    return key or None


def as_creds_file(value: Any, name: str) -> str | tuple[str, ...] | None:
    """Accept one path, or several."""
    if isinstance(value, (list, tuple)):
        paths = tuple(path for each in value if (path := as_path(each, name)) is not None)
        for path in paths:
            check_creds(path)
        return paths[0] if len(paths) == 1 else paths or None
    single = as_path(value, name)
    if single is not None:
        check_creds(single)
    return single


def as_creds_bytes(value: Any, name: str) -> tuple[bytes, ...] | None:
    """Accept the content of one creds file, or of several, as bytes or text."""
    contents = value if isinstance(value, (list, tuple)) else [value]
    found = tuple(pem for each in contents if (pem := as_content(each, name)) is not None)
    for each in found:
        check_creds_text(each, name)
    return found or None


def as_content(value: Any, name: str) -> bytes | None:
    """Accept the content of a file, as bytes or text; None if it is empty."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value) or None
    text = as_text(value, name)
    return text.encode() if text else None


def as_pem(value: Any, name: str) -> bytes | None:
    """Accept the content of a PEM file, as bytes or text."""
    pem = as_content(value, name)
    if pem is not None and b"-----BEGIN " not in pem:
        raise BadOptionsError(f"{name} must be PEM, the content of a file")
    return pem


def as_seed_file(value: Any, name: str) -> str | None:
    """Accept the path of a file with an NKey's seed."""
    path = as_path(value, name)
    if path is not None:
        check_seed_file(path)
    return path


def as_tls_context(value: Any, name: str) -> Any:
    """Accept a client's ssl.SSLContext."""
    # Duck-typed, so that a Python without ssl can import this module.
    if value is not None and not callable(getattr(value, "wrap_bio", None)):
        raise TypeError(f"{name} must be an ssl.SSLContext, not {type(value).__name__}")
    if value is not None and value.protocol.name == "PROTOCOL_TLS_SERVER":
        raise BadOptionsError(f"{name} must be a client's context")
    return value


def as_host(value: Any, name: str) -> str | None:
    """Accept a host or a URL."""
    host = as_text(value, name)
    if host is None:
        return None
    host = host.strip()
    # A host with one of @ and : in it may be a URL with a password: no text shows it.
    if not host:
        raise BadOptionsError(f"{name} must not be empty")
    if "@" in host and "://" not in host:
        raise BadOptionsError(f"{name} has an @: a URL begins with nats://")
    if any(c <= " " or c == "\x7f" for c in host):
        shown = "" if "@" in host or ":" in host else f": {host!r}"
        raise BadOptionsError(f"{name} has a blank or control character{shown}")
    if "," in host and "@" not in host:
        raise BadOptionsError(f"{name} is one server: give several as servers=")
    return host


def as_socket_path(value: Any, name: str) -> str | None:
    """Accept the path of a Unix socket."""
    if isinstance(value, os.PathLike):
        value = os.fsdecode(value)
    path = as_text(value, name)
    if path == "":
        raise BadOptionsError(f"{name} must not be empty")
    if path is not None:
        path = os.path.expanduser(path)
    if path is not None and "\0" in path[1:]:  # a first NUL means an abstract name
        raise BadOptionsError(f"{name} has a NUL in it: {path!r}")
    return path


def as_tls_hostname(value: Any, name: str) -> str | None:
    """Accept the name that a certificate must be for."""
    hostname = (as_text(value, name) or "").strip()
    if any(c <= " " or c == "\x7f" for c in hostname):
        raise BadOptionsError(f"{name} has a blank or control character: {hostname!r}")
    return hostname or None


def as_path(value: Any, name: str) -> str | None:
    """Accept the path of a file, with ~ expanded."""
    # "" means no file, as undef does in Perl, the language of EV::Nats.
    if value is None or value == "":
        return None
    try:
        path: str = os.path.expanduser(os.fspath(value))
    except TypeError:
        raise TypeError(f"{name} must be a path, not {type(value).__name__}") from None
    try:
        raw = os.fsencode(path)
    except UnicodeEncodeError:
        raise BadOptionsError(f"{name} has a lone surrogate in it: {path!r}") from None
    if b"\0" in raw:
        raise BadOptionsError(f"{name} has a NUL in it: {path!r}")
    return path


def as_flag(value: Any, name: str) -> bool:
    """Accept a bool, or an int for it."""
    if isinstance(value, (bool, int)):
        return bool(value)
    raise TypeError(f"{name} must be a bool, not {type(value).__name__}")


def as_optional_flag(value: Any, name: str) -> bool | None:
    """Accept a bool, or None."""
    return None if value is None else as_flag(value, name)


def between(least: int, most: int) -> Callable[[Any, str], int]:
    """Return the check of an int from least to most."""
    return lambda value, name: integer(value, name, least, most)


def as_seconds(value: Any, name: str) -> int:
    """Accept seconds, as an int or a timedelta."""
    if isinstance(value, timedelta):
        value = math.ceil(value.total_seconds())
    return integer(value, name, 0, 32767)  # Linux refuses a larger TCP_KEEPIDLE


def as_loop(value: Any, name: str) -> Any:
    """Accept any object with the methods of pyev's loops that a client uses."""
    for method in ("io", "timer", "prepare", "async", "update"):
        if value is not None and not callable(getattr(value, method, None)):
            hint = ""
            if hasattr(value, "add_reader"):
                hint = "; nats_ev.asyncio_loop.AsyncioLoop is the adapter to loops of asyncio"
            raise TypeError(
                f"{name} must be a loop of pyev or an adapter to one, not {type(value).__name__}: "
                f"it has no {method}(){hint}"
            )
    return value


def as_proxy(value: Any, name: str) -> str | None:
    """Accept the URL of a proxy; "" and False are none, whatever the environment says."""
    if isinstance(value, bool):
        if value:
            raise BadOptionsError(f"{name} must be a URL, or False for no proxy, not True")
        return ""
    text = as_text(value, name)
    if text is None or not (text := text.strip()):
        return text
    parse_proxy(text, name)
    return text


def as_local_address(value: Any, name: str) -> tuple[str, int] | None:
    """Accept a numeric address of this machine, or that with a port."""
    if value is None:
        return None
    host, port = value, 0
    if isinstance(value, (tuple, list)):
        if len(value) != 2:
            raise TypeError(f"{name} must be an address or (address, port)")
        host, port = value
    from ipaddress import ip_address

    text = as_text(host, name) or ""
    text = text[1:-1] if text[:1] == "[" and text[-1:] == "]" else text
    try:
        ip_address(text)
    except ValueError:
        raise BadOptionsError(f"{name} must be a numeric address, not {text!r}") from None
    return text, integer(port, f"{name}: the port", 0, 65535)


def as_resolution_order(value: Any, name: str) -> int:
    """Accept which families of addresses to use, and which of them first, in digits."""
    if integer(value, name) not in (0, 4, 6, 46, 64):
        raise BadOptionsError(f"{name} must be 0, 4, 6, 46 or 64, not {shown_number(value)}")
    return int(value)


def as_user_timeout(value: Any, name: str) -> int:
    """Accept ms, where the system can do it."""
    ms = math.ceil(milliseconds(value, name))
    if ms and not sys.platform.startswith("linux"):
        raise BadOptionsError(f"{name} needs Linux: this system has no TCP_USER_TIMEOUT")
    return integer(ms, name, 0, 2**31 - 1)


def as_urls(value: Any, name: str) -> list[str] | None:
    """Accept URLs in a list, or in a text with commas."""
    if value is None:
        return None
    if isinstance(value, str):
        value = value.split(",")
    urls = list(value)
    for url in urls:
        if not isinstance(url, str):
            raise TypeError(f"{name} must hold str, not {type(url).__name__}")
    # Lists come from files and environments: blanks, line breaks and commas too many mean nothing.
    urls = [stripped for url in urls if (stripped := url.strip())]
    if not urls:
        raise BadOptionsError(f"{name} must name at least one server")
    return urls


def as_ws_headers(value: Any, name: str) -> tuple[tuple[str, str], ...] | None:
    """Accept a mapping of HTTP headers."""
    return http_headers(value, name) or None


def as_ws_path(value: Any, name: str) -> str | None:
    """Accept the path of a URL, perhaps with a query."""
    path = (as_text(value, name) or "").strip()
    if any(c <= " " or c in "#\x7f" for c in path):
        raise BadOptionsError(f"{name} must be a path, without blanks and #")
    if not path:
        return None
    if "://" in path:
        raise BadOptionsError(f"{name} must be a path, not a URL")
    from urllib.parse import quote

    return quote(path if path.startswith("/") else f"/{path}", safe=URL_CHARACTERS)


def as_inbox_prefix(value: Any, name: str) -> str:
    """Accept a subject without wildcards."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    try:
        check_subscribe(value)
    except BadSubjectError as exc:
        raise BadOptionsError(f"{name}: {exc}") from None
    if "*" in value or ">" in value:
        raise BadOptionsError(f"{name} must not have wildcards: {value!r}")
    return value
