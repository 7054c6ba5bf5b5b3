"""Points in time and durations in the form that JetStream's JSON uses.

A point in time is RFC 3339 text there, a duration an integer of nanoseconds. Python's `datetime` and
`timedelta` have microseconds; `to_wire` converts both wherever they stand in a configuration.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

from .errors import BadOptionsError

# In nanoseconds.
MILLISECOND = 1_000_000
SECOND = 1_000_000_000


def nanoseconds(duration: timedelta) -> int:
    """Return a duration in nanoseconds, exact to the microsecond, which is all that a timedelta has."""
    return (duration // timedelta(microseconds=1)) * 1000


def rfc3339(value: datetime) -> str:
    """Return a time as RFC 3339 in UTC. A naive datetime is local time, as everywhere in Python.

    Raises `BadOptionsError` for a time that is before the year 1 or after 9999 in UTC.
    """
    try:
        utc = value.astimezone(timezone.utc)
    except (OverflowError, ValueError):
        raise BadOptionsError(f"a time must be from year 1 to 9999 in UTC, not {value}") from None
    return utc.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_time(text: str) -> datetime:
    """Return the time in an RFC 3339 text, to six of its decimals. Raises ValueError.

    Servers send nine decimals, or fewer when the last ones are zero. `datetime.fromisoformat` of
    Python 3.10 takes three or six decimals alone, and no "Z".
    """
    if (
        len(text) == 30
        and text[19] == "."
        and text[29] == "Z"
        and text.isascii()
        and text[20:29].isdigit()
    ):
        return datetime.fromisoformat(f"{text[:26]}+00:00")  # as a server writes most of them
    whole, dot, rest = text.replace("Z", "+00:00").partition(".")
    if not dot:
        return datetime.fromisoformat(whole)
    digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
    return datetime.fromisoformat(f"{whole}.{digits[:6].ljust(6, '0')}{rest[len(digits) :]}")


def to_wire(value: Any) -> Any:
    """Return a value, or a copy of a mapping or list, with all times converted for JSON.

    A timedelta becomes nanoseconds, a datetime RFC 3339 in UTC, a key of a mapping str, and a tuple a list.
    """
    if isinstance(value, timedelta):
        return nanoseconds(value)
    if isinstance(value, datetime):
        return rfc3339(value)
    if isinstance(value, Mapping):
        return {str(key): to_wire(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_wire(item) for item in value]
    return value
