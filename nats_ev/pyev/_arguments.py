"""Checks of the arguments that `nats_ev.pyev` gets from its callers."""

from __future__ import annotations

from math import isfinite, isnan
from typing import Any


def require_int(name: str, value: object) -> int:
    """Return ``value``, an int that fits a C int or unsigned int.

    Args:
        name: how the message of an exception calls the argument.
        value: what the caller passed.

    Raises:
        TypeError: ``value`` is not an int.
        ValueError: ``value`` is out of range.
    """
    if not isinstance(value, int):
        raise TypeError(f"{name} must be an int, not {type(value).__name__}")
    if not -0x80000000 <= value <= 0xFFFFFFFF:
        # Python refuses to print ints of more than 4,300 digits.
        shown = value if value.bit_length() < 128 else f"an int of {value.bit_length()} bits"
        raise ValueError(f"{name} is out of range: {shown}")
    return value


def require_seconds(name: str, value: object, minimum: float | None = 0.0) -> float:
    """Return ``value``, a number of seconds, as a float.

    Args:
        name: how the message of an exception calls the argument.
        value: what the caller passed.
        minimum: the least value allowed, or None for any.

    Raises:
        TypeError: ``value`` is neither an int nor a float.
        ValueError: ``value`` is not a number, is below ``minimum``, or no float can hold it.
    """
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    try:
        seconds = float(value)
    except OverflowError:
        raise ValueError(f"{name} is out of range") from None
    if isnan(seconds):
        raise ValueError(f"{name} is not a number")
    if minimum is not None and seconds < minimum:
        raise ValueError(f"{name} must not be less than {minimum:g}, got {seconds:g}")
    return seconds


def require_finite(name: str, value: object, minimum: float | None = 0.0) -> float:
    """Return ``value`` as `require_seconds` does; infinity raises ValueError as well."""
    seconds = require_seconds(name, value, minimum)
    if not isfinite(seconds):
        raise ValueError(f"{name} must be finite")
    return seconds


def require_callable(name: str, value: Any) -> Any:
    """Return ``value`` if it can be called, else raise TypeError."""
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type(value).__name__}")
    return value
