"""Values as people write and read them: durations, sizes, headers, points in time, templates."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any, NoReturn

import click

from nats_ev import Headers

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
    "w": 604_800_000_000_000,
    "y": 31_536_000_000_000_000,
}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d|w|y)")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(i?b)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
# The largest number of a duration on the wire: 64 bits of nanoseconds.
_LONGEST = 2**63 - 1


class Duration(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """A duration such as ``5s``, ``1h30m`` or ``250ms``, as a timedelta; ``0`` needs no unit."""

    name = "duration"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        """See `click.ParamType`."""
        if isinstance(value, timedelta):
            return value
        parts = _PART.findall(value)
        if value == "0":
            return timedelta(0)
        if not parts or "".join(number + unit for number, unit in parts) != value:
            hint = f", such as {value}s" if re.fullmatch(r"\d+(\.\d+)?", value) else ""
            self.fail(f"{value!r} is no duration: write a number with its unit{hint}", param, ctx)
        ns = sum(float(number) * _UNITS[unit] for number, unit in parts)
        if ns > _LONGEST:
            self.fail(f"{value!r} is longer than 292 years", param, ctx)
        return timedelta(microseconds=ns / 1000)


class Durations(Duration):
    """Several durations with commas between, as a tuple."""

    name = "durations"

    def convert(self, value: Any, param: Any, ctx: Any) -> Any:
        """See `click.ParamType`."""
        if isinstance(value, tuple):
            return value
        return tuple(Duration.convert(self, each, param, ctx) for each in value.split(","))


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """A number of bytes such as ``512``, ``64KB`` or ``1.5GiB``, as an int. The units are powers of 1,024."""

    name = "size"

    def __init__(self, unlimited: bool = False) -> None:
        """unlimited: whether -1 is allowed."""
        self._unlimited = unlimited

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """See `click.ParamType`."""
        if isinstance(value, int):
            return value
        if self._unlimited and value == "-1":
            return -1
        found = _SIZE.fullmatch(value.strip())
        if found is None:
            self.fail(f"{value!r} is no size: write it like 512, 64KB or 1GiB", param, ctx)
        return int(float(found[1]) * 1024 ** _POWERS[found[2].lower()])


class Number(click.IntRange):
    """A whole number within bounds."""

    name = "number"


class Time(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """A point in time: RFC 3339, or a duration that is so long ago; as a datetime with its zone."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        """See `click.ParamType`."""
        if isinstance(value, datetime):
            return value
        if _PART.match(value):
            return now() - DURATION.convert(value, param, ctx)
        found = parsed_time(value)
        if found is None:
            self.fail(f"{value!r} is neither a time (RFC 3339) nor a duration", param, ctx)
        return found if found.tzinfo is not None else found.astimezone()


class Pair(click.ParamType):  # type: ignore[type-arg]  # generic in new versions only
    """``name:value`` or ``name=value``, as a tuple of two."""

    name = "name:value"

    def __init__(self, separator: str = ":") -> None:
        self._separator = separator
        self.name = f"name{separator}value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """See `click.ParamType`."""
        if isinstance(value, tuple):
            return value
        name, found, text = value.partition(self._separator)
        if not found or not name.strip():
            self.fail(f"{value!r} is not {self.name}", param, ctx)
        return name.strip(), text.strip()


DURATION = Duration()
SIZE = Size()
TIME = Time()


def now() -> datetime:
    """Return the time of the day, in UTC."""
    return datetime.now(timezone.utc)


def headers_of(pairs: Iterable[tuple[str, str]]) -> Headers | None:
    """Return the headers of a command line, None if it has none."""
    headers = Headers(pairs)
    return headers or None


def body_of(text: str | None, *, force: bool = False) -> bytes:
    """Return the payload of a command line: its argument, or standard input if that is ``-`` or a pipe.

    Args:
        text: the argument, None if it is missing.
        force: read standard input, whatever it is.
    """
    if text is not None and text != "-":
        return text.encode(errors="surrogateescape")
    if sys.stdin is not None and (text == "-" or force or not sys.stdin.isatty()):
        return sys.stdin.buffer.read()
    return b""


_TEMPLATE = re.compile(r"\{\{\s*\.?(\w+)\s*\}\}")


def filled(template: str, number: int) -> str:
    """Return a text with its placeholders ``{{Count}}``, ``{{Time}}``, ``{{Unix}}`` and ``{{ID}}`` filled in.

    Args:
        template: the text; a dot may stand before a placeholder's name.
        number: of the message, from 1.
    """
    moment = now()

    def value(found: re.Match[str]) -> str:
        name = found[1].lower()
        if name in ("count", "cnt"):
            return str(number)
        if name in ("time", "timestamp"):
            return moment.isoformat()
        if name == "unix":
            return str(int(moment.timestamp()))
        if name == "unixnano":
            return str(int(moment.timestamp() * 1e6) * 1000)
        if name == "id":
            return _identity()
        _unknown(found[0])

    return _TEMPLATE.sub(value, template)


def _unknown(placeholder: str) -> NoReturn:
    raise click.UsageError(
        f"unknown placeholder {placeholder}: known are Count, Time, Unix, UnixNano and ID"
    )


def _identity() -> str:
    import uuid

    return uuid.uuid4().hex


# What is shown.


def shown_size(size: float) -> str:
    """Return a number of bytes for people: ``1.5 MiB``; -1 is ``unlimited``."""
    if size < 0:
        return "unlimited"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def shown_limit(number: int | None) -> str:
    """Return a limit of a configuration for people: -1 and 0 are ``unlimited``."""
    return f"{number:,}" if number and number > 0 else "unlimited"


def shown_duration(ns: float | None) -> str:
    """Return a duration in ns for people: ``1h30m``, ``2.5s``; 0 and None are ``0s``."""
    if not ns:
        return "0s"
    left = int(ns)
    if left < 1_000_000_000:
        unit = next(u for u in ("ms", "µs", "ns") if left >= _UNITS[u])
        return f"{left / _UNITS[unit]:.4g}{unit}"
    parts = []
    for unit in ("y", "d", "h", "m"):
        count, left = divmod(left, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    if left:
        parts.append(f"{left / 1e9:.3g}s")
    return "".join(parts)


def shown_age(moment: str | datetime | None) -> str:
    """Return how long ago a time was, by its largest unit: ``3d``; ``never`` for Go's zero time."""
    if isinstance(moment, str):
        moment = parsed_time(moment)
    if moment is None or moment.year <= 1:
        return "never"
    seconds = max(0.0, (now() - moment).total_seconds())
    for unit in ("y", "d", "h", "m"):
        if seconds >= _UNITS[unit] / 1e9:
            return f"{seconds // (_UNITS[unit] / 1e9):.0f}{unit}"
    return f"{seconds:.0f}s"


def shown_time(moment: str | datetime | None) -> str:
    """Return a time in the zone of this machine, to the second; ``never`` for Go's zero time."""
    if isinstance(moment, str):
        moment = parsed_time(moment)
    if moment is None or moment.year <= 1:
        return "never"
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def parsed_time(text: str) -> datetime | None:
    """Return a server's time; None for a text that is none."""
    # Python 3.10 knows fractions of three or six digits only, and no "Z".
    text = re.sub(r"\.(\d{1,6})\d*", lambda f: "." + f[1].ljust(6, "0"), text)
    try:
        return datetime.fromisoformat(re.sub("[zZ]$", "+00:00", text))
    except ValueError:
        return None
