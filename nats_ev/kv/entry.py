"""`KvEntry`: one revision of a key, and what keys may look like."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ..buckets import InvalidKeyError
from ..headers import Headers
from ..times import parse_time

if TYPE_CHECKING:
    from ..jetstream import StoredMsg


# A key, and the same with wildcards, each a token of its own.
_TOKEN = r"[-/_=a-zA-Z0-9]+"
_KEY = re.compile(rf"{_TOKEN}(?:\.{_TOKEN})*")
_FILTER = re.compile(rf"(?:{_TOKEN}|\*)(?:\.(?:{_TOKEN}|\*))*(?:\.>)?|>")
_OPERATIONS = {"DEL": "DEL", "PURGE": "PURGE"}
# ADR-48: why the server itself has ended a key.
_MARKERS = {"MaxAge": "PURGE", "Purge": "PURGE", "Remove": "DEL"}

PUT = "PUT"


class KvEntry(NamedTuple):
    """One revision of a key.

    operation is "PUT", "DEL" or "PURGE"; only PUT has a value. created is in UTC. revision counts over
    the whole bucket. delta: how many later entries there were, for the same watch or list, when it was read.
    """

    bucket: str
    key: str
    value: bytes
    revision: int
    created: datetime
    delta: int = 0
    operation: str = PUT

    @property
    def deleted(self) -> bool:
        """Whether this revision ends the key."""
        return self.operation != PUT


def check_key(key: object) -> str:
    """A key that is valid; raises `InvalidKeyError`."""
    if not isinstance(key, str):
        raise TypeError(f"a key must be str, not {type(key).__name__}")
    if not _KEY.fullmatch(key):
        raise InvalidKeyError(f"invalid key {key!r}")
    return key


def check_filters(keys: str | Iterable[str] | None) -> list[str]:
    """Filters that are valid, as a list; None and "" are all keys. Raises `InvalidKeyError`."""
    if keys is None or keys == "":
        return [">"]
    if not isinstance(keys, Iterable):
        raise TypeError(f"keys must be a str or several, not {type(keys).__name__}")
    filters = [keys] if isinstance(keys, str) else list(keys)
    for key in filters:
        if not isinstance(key, str):
            raise TypeError(f"a key must be str, not {type(key).__name__}")
        if not _FILTER.fullmatch(key):
            raise InvalidKeyError(f"invalid key {key!r}")
    return list(dict.fromkeys(filters)) or [">"]


def operation(raw: bytes | None) -> str:
    """What a message with these headers does to its key."""
    if raw is None or (b"KV-Operation" not in raw and b"Nats-Marker-Reason" not in raw):
        return PUT
    headers = Headers.parse(raw)
    told = headers.get("KV-Operation")
    if told is not None:
        return _OPERATIONS.get(told, PUT)
    return _MARKERS.get(headers.get("Nats-Marker-Reason", ""), PUT)


def stored_entry(bucket: str, key: str, message: StoredMsg) -> KvEntry:
    """The entry in a message that was read by itself."""
    return KvEntry(
        bucket,
        key,
        message.data,
        message.seq,
        parse_time(message.time),
        0,
        operation(message.headers),
    )
