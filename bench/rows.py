"""The rows of `full.py`: the table, and the decades in which one number of a row grows.

A row says what each client does (`kind`, a method of its program), with how many messages and of which size,
and what is expected of nats_ev. The numbers of messages are such that a run takes some tenths of a second.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from benchmark import CHECKED, WINDOW_BYTES, Row

MIB = 1024 * 1024
EV_NATS, NATS_PY = "EV::Nats", "nats-py"
# These clients get a part of the messages, so that their runs do not take most of the time.
AIO, UVLOOP, GREEN, BLOCKING = (
    "nats_ev.aio", "nats_ev.aio uvloop", "nats_ev.green", "nats_ev.blocking",
)  # fmt: skip
FACES = {AIO: "aio", UVLOOP: "uvloop", GREEN: "green", BLOCKING: "blocking"}
LOOP_CLIENTS = (NATS_PY, AIO, "nats-py uvloop", UVLOOP, GREEN, BLOCKING)
SLOWER = {NATS_PY: 5, "nats-py uvloop": 5, "natsrpy": 50}


@dataclass
class FullRow(Row):
    """A row of the table, or a point of a decade.

    Attributes:
        key: What the row is called in the results.
        number: What the kind needs besides: subjects, headers, keys.
        ahead: How many requests or unacknowledged messages at a time; 0 for the limit of `Row`.
        shared: Whether slower clients get fewer messages.
        limits: The largest number of messages that a client can take here.
        targets: By name: `cpu` and `wall` against EV::Nats, `py` by wall against nats-py.
        failures: By client: why it has no figure.
    """

    key: str = ""
    number: int = 1
    ahead: int = 0
    shared: bool = True
    limits: dict[str, int] = field(default_factory=dict)
    targets: dict[str, float] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def window(self) -> int:
        """Return how many messages may be on the way at a time."""
        return self.ahead or super().window

    @property
    def checked(self) -> int:
        """Return how many numbered messages to compare afterwards."""
        size = self.payload + 40 * self.number if "headers" in self.kind else self.payload
        return max(2, min(CHECKED, WINDOW_BYTES // max(1, size)))

    @property
    def stored(self) -> bool:
        """Return whether the row needs JetStream."""
        return self.kind.startswith(("js_", "kv_", "object_"))

    def count_for(self, client: str) -> int:
        """Return how many messages the client gets."""
        share = SLOWER.get(client, 1) if self.shared else 1
        least = self.ahead if self.kind in ("request", "js_publish") else 1
        count = max(least, self.messages // share, 1)
        return min(count, self.limits.get(client, count))

    def arguments_for(self, client: str) -> list[str]:
        """Return the arguments of a client's command line, without those for the server."""
        numbers = (
            self.count_for(client), self.payload, self.window, self.checked, self.number,
        )  # fmt: skip
        return [str(n) for n in numbers]

    def traffic_for(self, client: str) -> tuple[int, int] | None:
        """Return (messages in, messages out) that the server must count; None where that varies."""
        if self.kind not in (
            "pub", "pubsub", "iterate", "subjects", "headers", "raw_headers",
        ):  # fmt: skip
            return None
        if client == "natsrpy":  # its flush is a message
            return None
        count = self.count_for(client)
        sent = count + max(1, count // 10) + self.checked
        return sent, self.checked if self.kind == "pub" else sent


@dataclass
class Decade:
    """A row at growing sizes of one number."""

    key: str
    title: str
    axis: str
    points: list[tuple[int, FullRow]]


# What is wanted of nats_ev: its CPU against that of EV::Nats, then how many times as fast it is by the clock,
# against EV::Nats and against nats-py. None: no target.
TARGETS: dict[str, tuple[float | None, float | None, float | None]] = {
    "pub": (0.6, 1.5, 8),
    "pubsub": (0.5, 1.2, 10),
    "pubsub-8": (0.4, 1.4, 12),
    "sub": (0.5, 1.1, 9),
    "subjects": (0.75, 1.2, 8),
    "raw-headers": (0.6, 1.2, 8),
    "headers": (1.5, None, 6),
    "request": (0.75, 1.0, 6),
    "request-1024": (None, None, 8),
    "request-16384": (None, None, 8),
    "serial": (1.0, 1.0, 1.6),
    "pubsub-64k": (1.0, 1.1, 2),
    "pubsub-1m": (1.0, 1.1, 2),
    "js-publish": (None, None, 12),
    "js-fetch": (None, None, 8),
    "js-consume": (None, None, 10),
    "js-ordered": (None, None, 4),
    "kv-get": (None, None, 4),
    "kv-put": (None, None, 4),
    "kv-watch": (None, None, 4),
    "object-put": (None, None, 4),
    "object-get": (None, None, 4),
}


def table(scale: float) -> list[FullRow]:
    """Return the rows of the table; scale multiplies all numbers of messages."""

    def row(
        key: str, title: str, kind: str, messages: int, size: int = 100, **more: Any
    ) -> FullRow:
        wanted = zip(("cpu", "wall", "py"), TARGETS[key], strict=True)
        targets = {name: value for name, value in wanted if value is not None}
        return FullRow(title, kind, messages, size, key=key, targets=targets, **more)

    def count(number: int) -> int:
        return max(2, int(number * scale))

    keys = max(20, count(100_000))
    large = max(MIB // 4, int(64 * MIB * min(1, scale)))
    one = "PUB+SUB, one connection"
    return [
        row("pub", "PUB + flush, 100 B", "pub", count(200_000)),
        row("pubsub", f"{one}, 100 B", "pubsub", count(100_000)),
        row("pubsub-8", f"{one}, 8 B", "pubsub", count(100_000), 8),
        row("sub", "SUB only, fed by another process", "sub", count(100_000)),
        row("subjects", "fan-in, 1,000 subjects in turn", "subjects", count(100_000), number=1000),
        row("raw-headers", "HPUB+HMSG, raw block of 2", "raw_headers", count(50_000), number=2),
        row("headers", "HPUB+HMSG, mapping sent, parsed", "headers", count(50_000), number=2),
        row("request", "REQ/REP, 64 in flight", "request", count(20_000), ahead=64),
        row("request-1024", "REQ/REP, 1,024 in flight", "request", count(20_000), ahead=1024),
        row("request-16384", "REQ/REP, 16,384 in flight", "request", count(32_768), ahead=16_384),
        row("serial", "request, serial", "serial", count(2_000), ahead=1),
        row("pubsub-64k", "PUB+SUB, 64 KiB", "pubsub", count(2_000), 64 * 1024),
        row("pubsub-1m", "PUB+SUB, 1 MiB", "pubsub", count(100), MIB),
        row(
            "js-publish", "JetStream publish, window 4,000", "js_publish", count(20_000), ahead=4000
        ),
        row("js-fetch", "JetStream fetch of 200, ack each", "js_fetch", count(20_000)),
        row("js-consume", "JetStream consume, ack each", "js_consume", count(20_000)),
        row("js-ordered", "JetStream ordered consumer", "js_ordered", count(20_000), shared=False),
        row("kv-get", "KV get, 64 at a time", "kv_get", count(10_000), number=keys, ahead=64),
        row("kv-put", "KV put, 64 at a time", "kv_put", count(10_000), number=1000, ahead=64),
        row("kv-watch", f"KV watch of {keys:,} keys, per key", "kv_watch", keys, shared=False),
        row("object-put", f"object put of {large / MIB:g} MiB", "object_put", 1, large),
        row("object-get", f"object get of {large / MIB:g} MiB", "object_get", 1, large),
    ]


# How many times as fast as nats-py on the same loop `nats_ev.aio` is wanted to be, by wall.
LOOP_TARGETS = {"pub": 4, "pubsub": 8, "iterate": 8, "request": 4, "serial": 1.8}


def loops(scale: float) -> list[FullRow]:
    """Return the rows that compare the faces of nats_ev with nats-py."""
    rows = [
        ("pub", "PUB + flush", 200_000, 0),
        ("pubsub", "PUB+SUB, received by callback", 100_000, 0),
        ("iterate", "PUB+SUB, received by iterator", 100_000, 0),
        ("request", "request, 64 tasks", 20_000, 64),
        ("serial", "request, serial", 2000, 1),
    ]
    return [
        FullRow(
            title,
            kind,
            max(2, int(messages * scale)),
            100,
            key=f"loop-{kind}",
            ahead=ahead,
            targets={"py": LOOP_TARGETS[kind]},
        )
        for kind, title, messages, ahead in rows
    ]


def decades(scale: float, largest: int) -> list[Decade]:
    """Return the decades, each up to largest."""

    def count(number: int) -> int:
        return max(2, int(number * scale))

    def point(kind: str, messages: int, size: int = 100, **more: Any) -> FullRow:
        return FullRow("", kind, messages, size, **more)

    def decade(
        key: str, title: str, axis: str, numbers: list[int], make: Callable[[int], FullRow]
    ) -> Decade:
        points = [(n, make(n)) for n in numbers if n <= largest]
        for n, row in points:
            row.key, row.title = f"{key}-{n}", f"{title}: {n:,}"
        return Decade(key, title, axis, points)

    return [
        decade(
            "payload", "PUB+SUB by payload", "bytes of payload",
            [1, 10, 100, 1000, 10_000, 100_000, MIB, 16 * MIB, 60 * MIB],
            lambda n: point("pubsub", max(4, min(count(50_000), 64 * MIB // n)), n),
        ),
        decade(
            "subjects", "Fan-in by number of subjects", "subjects in turn", powers(1_000_000),
            lambda n: point("subjects", count(max(50_000, n // 2)), number=n),
        ),
        decade(
            "subscriptions", "Subscribing, by number of subscriptions", "subscriptions",
            [*powers(100_000), 500_000],
            lambda n: point(
                "subscriptions", n, 8, shared=False, limits={"libnats": 10_000, NATS_PY: 100_000}
            ),
        ),
        decade(
            "in-flight", "REQ/REP by requests in flight", "requests in flight",
            [1, 8, 64, 512, 4096, 32_768, 65_536],
            lambda n: point("request", max(count(2000 if n == 1 else 20_000), n), ahead=n),
        ),
        decade(
            "connections", "Connecting, by number of connections", "connections at once",
            powers(1000),
            lambda n: point("connections", n, 8, shared=False),
        ),
        decade(
            "headers", "HPUB+HMSG by number of headers, mapping sent, parsed", "headers",
            powers(1000),
            lambda n: point("headers", max(20, count(30_000 // n)), number=n),
        ),
        decade(
            "windows", "JetStream publish by window", "unacknowledged messages",
            [16, 256, 4096, 50_000],
            lambda n: point("js_publish", max(count(20_000), n), ahead=n),
        ),
    ]  # fmt: skip


def powers(last: int) -> list[int]:
    """Return 1, 10, 100, … up to last."""
    found = [1]
    while found[-1] < last:
        found.append(found[-1] * 10)
    return found
