"""Types and checks of what callers pass: callbacks, numbers, times, payloads.

A check raises TypeError for a wrong type and `BadOptionsError` (a ValueError) for a wrong value. Its text
names the argument and shows what was wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from .errors import BadOptionsError, NatsError

Payload = bytes | bytearray | memoryview | str | None
Milliseconds = float | timedelta
# An on_* callback; None: not set.
Hook = Callable[..., object] | None
# Gets (err) when something is done: err is None, or why it failed.
Done = Callable[[Any], object]
# Gets (result, err): one of them is None.
Callback = Callable[[Any, NatsError | None], object]


class Omitted:
    """The default of an argument for which None has a meaning of its own."""

    def __repr__(self) -> str:
        return "<omitted>"


def check_callback(cb: Any, name: str = "cb") -> None:
    """Raise TypeError if cb can't be called."""
    if not callable(cb):
        raise TypeError(f"{name} must be callable, not {type(cb).__name__}")


def callable_or_none(value: Any, name: str) -> Hook:
    """Return a callback that may be None. Raises TypeError."""
    if value is not None and not callable(value):
        raise TypeError(f"{name} must be callable or None, not {type(value).__name__}")
    return value  # type: ignore[no-any-return]


def optional_middle(opts: Any, cb: Any) -> tuple[Any, Any]:
    """Return (opts, cb) of a call whose caller may have left out opts, and check both."""
    if cb is None and callable(opts):
        opts, cb = None, opts
    check_callback(cb)
    if opts is not None and not isinstance(opts, Mapping):
        raise TypeError(f"options must be a mapping, not {type(opts).__name__}")
    return opts, cb


def integer(value: Any, name: str, least: int | None = None, most: int | None = None) -> int:
    """Return value if it is an int (not a bool) from least to most."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if (least is not None and value < least) or (most is not None and value > most):
        bound = f"{least} or more" if most is None else f"between {least} and {most}"
        raise BadOptionsError(f"{name} must be {bound}, not {value}")
    return value


def count(value: Any, name: str) -> int:
    """Return value if it is an int of 0 or more."""
    return integer(value, name, 0)


def milliseconds(value: Any, name: str) -> float:
    """Return a duration in ms, given in ms or as a timedelta."""
    if isinstance(value, timedelta):
        value = value / timedelta(milliseconds=1)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be milliseconds or a timedelta, not {type(value).__name__}")
    if math.isnan(value) or math.isinf(value) or value < 0:
        raise BadOptionsError(f"{name} must be a time of 0 or more, not {value}")
    return value


def age_ms(value: object) -> float:
    """Return a duration in ms that may be negative, given in ms or as a timedelta."""
    if isinstance(value, timedelta):
        return value.total_seconds() * 1000
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"an age must be a number or a timedelta, not {type(value).__name__}")
    if not math.isfinite(value):
        raise BadOptionsError(f"an age must be finite, not {value}")
    return float(value)


def is_unicode(text: str) -> bool:
    """Return whether text has no lone surrogates, without an encoder's error, which would quote the text."""
    return not any("\ud800" <= c <= "\udfff" for c in text)


def payload_bytes(payload: Payload, name: str = "payload") -> bytes:
    """Return the bytes to send for a payload, copied if the caller could change them."""
    if type(payload) is bytes:
        return payload
    if payload is None:
        return b""
    if isinstance(payload, str):
        try:
            return payload.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise ValueError(f"{name} has a lone surrogate, which UTF-8 can't express") from None
    try:
        return bytes(memoryview(payload))
    except TypeError:
        raise TypeError(
            f"{name} must be bytes-like, str or None, not {type(payload).__name__}"
        ) from None
