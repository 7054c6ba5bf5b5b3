"""The rows of `full.py`: the table, and the decades in which one number of a row grows.

A row says what each client does (`kind`, a method of its program), with how many messages and of which size,
and what is expected of nats_ev. The numbers of messages are such that a run takes some tenths of a second.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from benchmark import CHECKED, WINDOW_BYTES, Row

MIB = 1024 * 1024
EV_NATS, NATS_PY = "EV::Nats", "nats-py"
# These clients get a part of the messages, so that their runs do not take most of the time.
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
        if self.kind not in ("pub", "pubsub", "subjects", "headers", "raw_headers"):
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


def targets(cpu: float = 0, wall: float = 0, py: float = 0) -> dict[str, float]:
    """Return the targets that are given."""
    return {name: value for name, value in (("cpu", cpu), ("wall", wall), ("py", py)) if value}


def table(scale: float) -> list[FullRow]:
    """Return the rows of the table; scale multiplies all numbers of messages."""

    def row(key: str, title: str, kind: str, messages: int, size: int, **more: Any) -> FullRow:
        return FullRow(title, kind, max(2, int(messages * scale)), size, key=key, **more)

    keys = max(20, int(100_000 * scale))
    large = max(MIB // 4, int(64 * MIB * min(1, scale)))
    return [
        row("pub", "PUB + flush, 100 B", "pub", 200_000, 100, targets=targets(0.6, 1.5, 8)),
        row("pubsub", "PUB+SUB, one connection, 100 B", "pubsub", 100_000, 100, targets=targets(0.5, 1.2, 10)),
        row("pubsub-8", "PUB+SUB, one connection, 8 B", "pubsub", 100_000, 8, targets=targets(0.4, 1.4, 12)),
        row("sub", "SUB only, fed by another process", "sub", 100_000, 100, targets=targets(0.5, 1.1, 9)),
        row("subjects", "fan-in, 1,000 subjects in turn", "subjects", 100_000, 100, number=1000, targets=targets(0.75, 1.2, 8)),
        row("raw-headers", "HPUB+HMSG, raw block of 2", "raw_headers", 50_000, 100, number=2, targets=targets(0.6, 1.2, 8)),
        row("headers", "HPUB+HMSG, mapping sent, parsed", "headers", 50_000, 100, number=2, targets=targets(cpu=1.5, py=6)),
        row("request", "REQ/REP, 64 in flight", "request", 20_000, 100, ahead=64, targets=targets(0.75, 1.0, 6)),
        row("request-1024", "REQ/REP, 1,024 in flight", "request", 20_000, 100, ahead=1024, targets=targets(py=8)),
        row("request-16384", "REQ/REP, 16,384 in flight", "request", 32_768, 100, ahead=16_384, targets=targets(py=8)),
        row("serial", "request, serial", "serial", 2_000, 100, ahead=1, targets=targets(1.0, 1.0, 1.6)),
        row("pubsub-64k", "PUB+SUB, 64 KiB", "pubsub", 2_000, 64 * 1024, targets=targets(1.0, 1.1, 2)),
        row("pubsub-1m", "PUB+SUB, 1 MiB", "pubsub", 100, MIB, targets=targets(1.0, 1.1, 2)),
        row("js-publish", "JetStream publish, 4,000 unacknowledged", "js_publish", 20_000, 100, ahead=4000, targets=targets(py=12)),
        row("js-fetch", "JetStream fetch of 200, ack each", "js_fetch", 20_000, 100, targets=targets(py=8)),
        row("js-consume", "JetStream consume, ack each", "js_consume", 20_000, 100, targets=targets(py=10)),
        row("js-ordered", "JetStream ordered consumer", "js_ordered", 20_000, 100, shared=False, targets=targets(py=4)),
        row("kv-get", "KV get, 64 at a time", "kv_get", 10_000, 100, number=keys, ahead=64, targets=targets(py=4)),
        row("kv-put", "KV put, 64 at a time", "kv_put", 10_000, 100, number=1000, ahead=64, targets=targets(py=4)),
        row("kv-watch", "KV watch of 100,000 keys, per key", "kv_watch", 100_000, 100, shared=False, targets=targets(py=4)) if scale == 1
        else FullRow("KV watch, per key", "kv_watch", keys, 100, key="kv-watch", shared=False, targets=targets(py=4)),
        FullRow("object put of 64 MiB", "object_put", 1, large, key="object-put", targets=targets(py=4)),
        FullRow("object get of 64 MiB", "object_get", 1, large, key="object-get", targets=targets(py=4)),
    ]  # fmt: skip


def decades(scale: float, largest: int) -> list[Decade]:
    """Return the decades, each up to largest."""

    def count(number: int) -> int:
        return max(2, int(number * scale))

    def point(kind: str, messages: int, size: int = 100, **more: Any) -> FullRow:
        return FullRow("", kind, messages, size, **more)

    sizes = [1, 10, 100, 1000, 10_000, 100_000, MIB, 16 * MIB, 60 * MIB]
    found = [
        Decade(
            "payload", "PUB+SUB by payload", "bytes of payload",
            [(n, point("pubsub", max(4, min(count(50_000), 64 * MIB // n)), n)) for n in sizes],
        ),
        Decade(
            "subjects", "Fan-in by number of subjects", "subjects in turn",
            [(n, point("subjects", count(max(50_000, n // 2)), number=n)) for n in powers(1_000_000)],
        ),
        Decade(
            "subscriptions", "Subscribing, by number of subscriptions", "subscriptions",
            [
                (n, point("subscriptions", n, 8, shared=False, limits={"libnats": 10_000, NATS_PY: 100_000}))
                for n in [*powers(100_000), 500_000]
            ],
        ),
        Decade(
            "in-flight", "REQ/REP by requests in flight", "requests in flight",
            [
                (n, point("request", max(count(2000 if n == 1 else 20_000), n), ahead=n))
                for n in [1, 8, 64, 512, 4096, 32_768, 65_536]
            ],
        ),
        Decade(
            "connections", "Connecting, by number of connections", "connections at once",
            [(n, point("connections", n, 8, shared=False)) for n in powers(1000)],
        ),
        Decade(
            "headers", "HPUB+HMSG by number of headers, mapping sent, parsed", "headers",
            [(n, point("headers", max(20, count(30_000 // n)), number=n)) for n in powers(1000)],
        ),
        Decade(
            "windows", "JetStream publish by window", "unacknowledged messages",
            [(n, point("js_publish", max(count(20_000), n), ahead=n)) for n in [16, 256, 4096, 50_000]],
        ),
    ]  # fmt: skip
    for decade in found:
        decade.points = [(n, row) for n, row in decade.points if n <= largest]
        for n, row in decade.points:
            row.key = f"{decade.key}-{n}"
            row.title = f"{decade.title}: {n:,}"
    return found


def powers(last: int) -> list[int]:
    """Return 1, 10, 100, … up to last."""
    found = [1]
    while found[-1] < last:
        found.append(found[-1] * 10)
    return found
