"""What `tickets` and `coordination` share: who contends, with which lease, by which clock, and the errors."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import Any, NamedTuple

from ..arguments import Milliseconds, check_object, milliseconds
from ..client import Nats
from ..errors import (
    BadOptionsError,
    ConnectionClosedError,
    ConnectionLostError,
    NatsError,
    NoRespondersError,
    RequestTimeoutError,
)
from ..jetstream import APIError
from ..kv import KV, KvEntry, check_key

# How long to wait before another attempt, in ms; a shorter lease has shorter waits.
_RETRY_MS = 250.0
# By how many seconds a ticket must have outlived its lease to count as dead.
LATE = 1.0
# A lease of ms in another program's value that is no lease.
_MOST_LEASE = 1e15

_BOOT_TIME: int | None = getattr(time, "CLOCK_BOOTTIME", None)


def clock() -> float:
    """Return the seconds since some moment; the time in which the machine sleeps counts if the system can."""
    return time.monotonic() if _BOOT_TIME is None else time.clock_gettime(_BOOT_TIME)


class LeaseLostError(NatsError):
    """The lease has ended, or is about to: the server has not confirmed its renewal in time.

    The process was stopped, the connection was away for too long, or the server was. Another process may hold
    the lock, the place or the leadership from the end of the lease on.

    What to do: stop what the lock protects at once, and acquire it again; a longer lease survives longer
    interruptions.
    """

    text = "the lease is lost"


class NotReentrantError(NatsError):
    """The object holds its lock or place already, or is waiting for it.

    What to do: release or close it first; several tasks of one process need an object each.
    """

    text = "it is held already, or being acquired"


class LockClosedError(NatsError):
    """The object has been closed, and what waited for it has ended.

    What to do: nothing if the program has closed it; else use another object.
    """

    text = "it has been closed"


class Contender(NamedTuple):
    """One who holds, leads or waits.

    Attributes:
        owner: who it is, as given to `Lock`, `Semaphore` or `Election`.
        value: what an `Election` has been given as its value, "" elsewhere.
        token: the number of its ticket: its fencing token if it holds.
    """

    owner: str
    value: str
    token: int


class Settings:
    """What all tickets of one object have in common.

    Args:
        kv: a bucket with limit_marker_ttl; its codecs do not count.
        name: a key.
        lease: a timedelta or ms.
        margin: a timedelta or ms; None: a tenth of the lease.
        owner, value: for others to see.
        places: how many tickets have their turn at a time.
    """

    def __init__(
        self,
        kv: KV,
        name: str,
        lease: Milliseconds,
        margin: Milliseconds | None,
        owner: str,
        value: str,
        places: int,
    ) -> None:
        ms = milliseconds(lease, "lease")
        if ms < 1000 or ms % 1000:
            raise BadOptionsError(f"lease must be whole seconds, 1 s or more, not {ms:g} ms")
        early = ms / 10 if margin is None else milliseconds(margin, "margin")
        if not 0 < early < ms / 2:
            raise BadOptionsError(
                f"margin must be above 0 and below half of the lease, not {early:g} ms"
            )
        for word, text in (("owner", owner), ("value", value)):
            if not isinstance(text, str):
                raise TypeError(f"{word} must be str, not {type(text).__name__}")
        check_object(kv, "js", "kv must be a KV")
        if not isinstance(name, str):
            raise TypeError(f"name must be str, not {type(name).__name__}")
        self.lease_ms = ms
        self.lease = ms / 1000
        self.margin = early / 1000
        self.name = name
        self.owner = owner
        self.value = value
        self.places = places
        # An answer that takes longer than until the next renewal is asked for again.
        self.kv = KV(kv.js, kv.bucket, timeout=ms / 3)
        # With a wildcard, `queue` and its like would mix the tickets of several names.
        check_key(name)
        self.retry_ms = min(_RETRY_MS, ms / 10)

    @property
    def nats(self) -> Nats:
        """The client."""
        return self.kv.js.nats

    def data(self, number: int) -> str:
        """Return the value of a ticket; number: 0 before it is known."""
        fields: dict[str, Any] = {"owner": self.owner, "lease": self.lease_ms}
        if self.value:
            fields["value"] = self.value
        if number:
            fields["ticket"] = number
        return json.dumps(fields)


def contender(entry: KvEntry) -> tuple[Contender, float] | None:
    """Return who has put a ticket, and its lease in ms; None if another program's key is no ticket."""
    try:
        fields = json.loads(entry.value)
    except ValueError:
        fields = None
    lease = fields.get("lease") if isinstance(fields, dict) else None
    if not isinstance(lease, (int, float)) or not 0 < lease < _MOST_LEASE:
        return None
    number = fields.get("ticket")
    # The first revision has no number, and no later one has a larger number than its own revision.
    known = type(number) is int and 0 < number <= entry.revision
    found = Contender(
        str(fields.get("owner", "")),
        str(fields.get("value", "")),
        number if known else entry.revision,
    )
    return found, lease


def overdue(entry: KvEntry, lease: float, now: datetime) -> float:
    """Return for how many seconds a ticket has outlived its lease, at a time of the stream's clock.

    lease: in ms.
    """
    return (now - entry.created).total_seconds() - lease / 1000


def living(entries: dict[str, KvEntry]) -> dict[str, Contender]:
    """Return all who hold or wait, by their keys; without those that only the server has forgotten to delete.

    The newest ticket tells the time.
    """
    now = max((entry.created for entry in entries.values()), default=datetime.min)
    found = {}
    for key, entry in entries.items():
        ticket = contender(entry)
        if ticket is not None and overdue(entry, ticket[1], now) <= LATE:
            found[key] = ticket[0]
    return found


def queue(entries: dict[str, KvEntry]) -> list[Contender]:
    """Return all who hold or wait, in the order of their tickets."""
    return sorted(living(entries).values(), key=lambda each: each.token)


def passes(error: NatsError) -> bool:
    """Return whether another attempt may succeed."""
    if isinstance(error, APIError):
        return (error.code or 0) >= 500
    kinds = (RequestTimeoutError, NoRespondersError, ConnectionLostError, ConnectionClosedError)
    return isinstance(error, kinds)
