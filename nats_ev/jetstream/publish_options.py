"""The options of a message that is published to a stream: names, checks, headers, and the features they need.

The conditions and features of a message are headers (ADR-22, 43, 49, 51).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, TypedDict

from ..arguments import Milliseconds, count, milliseconds, shown_number
from ..errors import BadOptionsError
from ..headers import HeadersLike, encode_headers, set_in_block
from ..times import rfc3339
from .config import MAX_SEQUENCE, V2_11, V2_12, V2_14
from .levels import Feature


class PublishOptions(TypedDict, total=False):
    """The options of a message that become headers; None: not set. `Publishing.publish` explains them."""

    msg_id: str | None
    expect_stream: str | None
    expect_last_seq: int | None
    expect_last_msg_id: str | None
    expect_last_subject_seq: int | None
    expect_last_subject_seq_subject: str | None
    ttl: Milliseconds | str | None
    rollup: str | None
    incr: int | str | None
    schedule: datetime | timedelta | str | None
    schedule_target: str | None
    schedule_source: str | None
    schedule_ttl: Milliseconds | str | None
    schedule_time_zone: str | None
    schedule_rollup: str | None
    # nats.go's words for some of them.
    expect_last_sequence: int | None
    expect_last_sequence_per_subject: int | None
    msg_ttl: Milliseconds | str | None
    schedule_at: datetime | timedelta | str | None
    schedule_every: datetime | timedelta | str | None
    schedule_cron: datetime | timedelta | str | None


def message_headers(headers: HeadersLike | None, options: Mapping[str, Any]) -> bytes | None:
    """Return the raw header block for a message's headers and options; None: the message has neither.

    Args:
        headers: what a user may pass as headers.
        options: a `PublishOptions`. An option replaces a header of the same name.

    Raises:
        TypeError: an option is unknown, or given by two of its names.
        BadOptionsError: an option has a bad value.
        BadHeadersError: a header is invalid.
    """
    raw = encode_headers(headers) if headers is not None else None
    values: dict[str, str] = {}
    for name, value in options.items():
        if value is None:
            continue
        if name not in _OPTIONS:
            raise TypeError(f"unknown option {name!r} of publish")
        header, convert = _OPTIONS[name]
        if header in values:
            same = (n for n in options if n in _OPTIONS and _OPTIONS[n][0] == header)
            other = next(n for n in same if options[n] is not None)
            raise TypeError(f"{other} and {name} are the same option of publish")
        values[header] = convert(name, value)
        if not values[header]:  # a server ignores it, and the condition with it
            raise BadOptionsError(f"{name} must not be empty")
    lone = [name for name in options if name in _WITH_SCHEDULE and options[name] is not None]
    if lone and "Nats-Schedule" not in values and b"\r\nNats-Schedule:" not in (raw or b""):
        raise BadOptionsError(f"{lone[0]} needs a schedule")
    return set_in_block(raw, values) if values else raw


def option_needs(options: Mapping[str, Any]) -> dict[str, Feature]:
    """Return the features that a message's options need.

    An older server ignores such a header and stores the message as if it had none.
    """
    needs = {
        name: OPTION_NEEDS[name]
        for name, value in options.items()
        if name in OPTION_NEEDS and value is not None
    }
    for name in _SCHEDULES & needs.keys():
        value = options[name]
        once = isinstance(value, datetime) or (isinstance(value, str) and value.startswith("@at "))
        if not once:
            needs[name] = V2_14
    return needs


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be str, not {type(value).__name__}")
    return value


def _sequence(name: str, value: Any) -> str:
    if count(value, name) > MAX_SEQUENCE:  # a server takes it modulo 2**64
        raise BadOptionsError(f"{name} must be below 2**64, not {shown_number(value)}")
    return str(value)


def _ttl(name: str, value: Any) -> str:
    if isinstance(value, str):
        return value  # in the server's notation: "never", "5" (seconds), "1h30m"
    ms = milliseconds(value, name)
    if ms < 1000:
        raise BadOptionsError(f"{name} must be at least 1000 ms, not {ms:g}")
    return f"{round(ms)}ms"


def _rollup(name: str, value: Any) -> str:
    if value not in ("sub", "all"):
        raise BadOptionsError(f"{name} must be 'sub' or 'all', not {value!r}")
    return str(value)


def _increment(name: str, value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:+d}"
    return _text(name, value)


def _schedule(name: str, value: Any) -> str:
    if isinstance(value, datetime):
        return f"@at {rfc3339(value)}"
    if isinstance(value, timedelta):
        return f"@every {round(value.total_seconds() * 1000)}ms"
    return _text(name, value)


# Option of `publish` → its header, and the function that makes the header's value.
_OPTIONS: dict[str, tuple[str, Callable[[str, Any], str]]] = {
    "msg_id": ("Nats-Msg-Id", _text),
    "expect_stream": ("Nats-Expected-Stream", _text),
    "expect_last_seq": ("Nats-Expected-Last-Sequence", _sequence),
    "expect_last_msg_id": ("Nats-Expected-Last-Msg-Id", _text),
    "expect_last_subject_seq": ("Nats-Expected-Last-Subject-Sequence", _sequence),
    "expect_last_subject_seq_subject": ("Nats-Expected-Last-Subject-Sequence-Subject", _text),
    "ttl": ("Nats-TTL", _ttl),
    "rollup": ("Nats-Rollup", _rollup),
    "incr": ("Nats-Incr", _increment),
    "schedule": ("Nats-Schedule", _schedule),
    "schedule_target": ("Nats-Schedule-Target", _text),
    "schedule_source": ("Nats-Schedule-Source", _text),
    "schedule_ttl": ("Nats-Schedule-TTL", _ttl),
    "schedule_time_zone": ("Nats-Schedule-Time-Zone", _text),
    "schedule_rollup": ("Nats-Schedule-Rollup", _text),
}
# nats.go's words for some of them.
for _name, _word in (
    ("expect_last_seq", "expect_last_sequence"),
    ("expect_last_subject_seq", "expect_last_sequence_per_subject"),
    ("ttl", "msg_ttl"),
    ("schedule", "schedule_at"),
    ("schedule", "schedule_every"),
    ("schedule", "schedule_cron"),
):
    _OPTIONS[_word] = _OPTIONS[_name]
_HEADER_NEEDS: dict[str, Feature] = {
    "Nats-Expected-Last-Subject-Sequence-Subject": V2_11,
    "Nats-TTL": V2_11,
    "Nats-Incr": V2_12,
    "Nats-Schedule": V2_12,  # for "@at"; all other schedules: 2.14
    "Nats-Schedule-Source": V2_14,
    "Nats-Schedule-Rollup": V2_14,
    "Nats-Schedule-Time-Zone": V2_14,
}
OPTION_NEEDS: dict[str, Feature] = {
    option: _HEADER_NEEDS[header]
    for option, (header, _) in _OPTIONS.items()
    if header in _HEADER_NEEDS
}
_WITH_SCHEDULE = {
    option for option, (header, _) in _OPTIONS.items() if header.startswith("Nats-Schedule-")
}
_SCHEDULES = {option for option, (header, _) in _OPTIONS.items() if header == "Nats-Schedule"}
