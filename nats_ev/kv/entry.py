"""`KvEntry`: one revision of a key, how a message becomes one, and the checks of keys and filters. No I/O."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from ..buckets import InvalidKeyError
from ..headers import appended, received
from ..times import parse_time

if TYPE_CHECKING:
    from ..jetstream import StoredMsg


# Keys, and filters: the same with wildcards, each of which is a token of its own.
_TOKEN = r"[-/_=a-zA-Z0-9]+"
_KEY = re.compile(rf"{_TOKEN}(?:\.{_TOKEN})*")
_FILTER = re.compile(rf"(?:{_TOKEN}|\*)(?:\.(?:{_TOKEN}|\*))*(?:\.>)?|>")
_OPERATIONS = {"DEL": "DEL", "PURGE": "PURGE"}
# Why the server itself has deleted a key (ADR-48).
_MARKERS = {"MaxAge": "PURGE", "Purge": "PURGE", "Remove": "DEL"}

PUT = "PUT"
# Bytes of a value that the repr of an entry shows.
_SHOWN = 64


class KvEntry(NamedTuple):
    """One revision of a key.

    Attributes:
        bucket: the bucket's name.
        key: the key.
        value: the value; b"" unless operation is "PUT", and after ``meta_only=True``.
        revision: counted over the whole bucket.
        created: when the server stored the revision, in UTC.
        delta: how many later entries the same watch or list had at the time of reading.
        operation: "PUT", "DEL" or "PURGE".
    """

    bucket: str
    key: str
    value: bytes
    revision: int
    created: datetime
    delta: int = 0
    operation: str = PUT

    def __repr__(self) -> str:
        fields = self._asdict()
        if len(self.value) > _SHOWN:  # a value may have megabytes
            fields["value"] = self.value[:_SHOWN] + b"..."
        shown = ", ".join(f"{name}={value!r}" for name, value in fields.items())
        return f"{type(self).__name__}({shown})"

    @property
    def deleted(self) -> bool:
        """True for a deletion of the key: operation is "DEL" or "PURGE"."""
        return self.operation != PUT


def _invalid(key: str) -> InvalidKeyError:
    text = f"invalid key {key!r}: letters, digits and -/_=. without an empty token between dots"
    return InvalidKeyError(text, key=key)


def check_key(key: object) -> str:
    """Return key if it is valid. Raises TypeError and `InvalidKeyError`."""
    if not isinstance(key, str):
        raise TypeError(f"a key must be str, not {type(key).__name__}")
    if _KEY.fullmatch(key) is None:
        raise _invalid(key)
    return key


def check_filters(keys: str | Iterable[str] | None) -> list[str]:
    """Return filters as a list if they are valid; None and "" mean all keys.

    Raises TypeError and `InvalidKeyError`.
    """
    if keys is None or keys == "":
        return [">"]
    if not isinstance(keys, Iterable):
        raise TypeError(f"keys must be a str or several, not {type(keys).__name__}")
    filters = [keys] if isinstance(keys, str) else list(keys)
    for key in filters:
        if not isinstance(key, str):
            raise TypeError(f"a key must be str, not {type(key).__name__}")
        if not _FILTER.fullmatch(key):
            raise _invalid(key)
    return list(dict.fromkeys(filters)) or [">"]


def operation(raw: bytes | None) -> str:
    """Return what a message with these headers does to its key: "PUT", "DEL" or "PURGE"."""
    if raw is None or (b"KV-Operation" not in raw and b"Nats-Marker-Reason" not in raw):
        return PUT
    by_client = received(raw).get("KV-Operation")
    if by_client is not None:
        return _OPERATIONS.get(by_client, PUT)
    return _MARKERS.get(appended(raw).get("Nats-Marker-Reason", ""), PUT)


def stored_entry(bucket: str, key: str, message: StoredMsg) -> KvEntry:
    """Return the entry in a message that was read on its own, not from a consumer."""
    created = parse_time(message.time)
    if created.tzinfo is None:
        raise ValueError(f"time without a zone: {message.time!r}")
    return KvEntry(
        bucket,
        key,
        message.data,
        message.seq,
        created,
        0,
        operation(message.headers),
    )
