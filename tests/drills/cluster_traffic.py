"""The traffic of `clusters`: writers, readers and objects, each with what it has been acknowledged or given.

A reader notes at once what can't be right whatever is stored (`Notes.wrong`). What depends on the stream
is compared at the end with the stream as its leader has it then.
"""

from __future__ import annotations

import bisect
import hashlib
import random
import time
import zlib
from collections.abc import Callable
from typing import Any

from drills.cluster_nodes import Nodes
from nats_ev import KV, APIError, JetStream, ObjectStore, RequestTimeoutError

STREAM, BUCKET, STORE, DURABLE = "EVENTS", "chaos", "chaos", "worker"
CHUNK = 32 * 1024
MIB = 1024 * 1024
# A transfer survives trouble for 30 s, and its last request may be waiting for its own time-out then.
TRANSFER_LIMIT = 40.0


class Notes:
    """What is wrong, what is counted, and which operations are open."""

    def __init__(self) -> None:
        self.wrong: list[str] = []
        self.counts: dict[str, int] = {}
        self.longest: dict[str, float] = {}
        self.errors: dict[str, int] = {}
        self.open: dict[int, tuple[str, float]] = {}
        self._number = 0

    def count(self, what: str, n: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + n

    def error(self, what: str, error: BaseException) -> None:
        """Count an error that an operation has ended with."""
        text = f"{what}: {type(error).__name__}: {str(error)[:60]}"
        self.errors[text] = self.errors.get(text, 0) + 1

    def begin(self, kind: str) -> Callable[[], float]:
        """Note that an operation begins; call the result when it ends, once. That returns its seconds."""
        self._number += 1
        number, began = self._number, time.monotonic()
        self.open[number] = kind, began

        def ended() -> float:
            if self.open.pop(number, None) is None:
                self.wrong.append(f"{kind} was completed twice")
            took = time.monotonic() - began
            self.longest[kind] = max(self.longest.get(kind, 0.0), took)
            self.count(kind)
            return took

        return ended


def event(number: int) -> bytes:
    """Return the payload of a message: its number, filling, and a checksum."""
    body = b"%09d" % number + b"x" * (number % 97)
    return body + b"%08x" % zlib.crc32(body)


def number_of(payload: bytes) -> int:
    """Return the number of a message, or -1 if the payload is not whole."""
    return int(payload[:9]) if payload == event(int(payload[:9])) else -1


class Writer:
    """Publishes numbered messages, each with a message id and until it is acknowledged, and puts keys."""

    def __init__(self, js: JetStream, notes: Notes, keys: list[str], rng: random.Random) -> None:
        self.js = js
        self.kv = KV(js, BUCKET)
        self.notes = notes
        self.keys = keys
        self.rng = rng
        self.sent = 0
        self.acked: dict[int, int] = {}  # number → sequence
        self.puts: dict[int, tuple[str, bytes]] = {}  # revision → (key, value), acknowledged ones
        self.revisions: dict[str, list[int]] = {key: [] for key in keys}
        self.values = 0
        self.last_revision = 0
        self.in_flight = 0

    def publish(self, count: int) -> None:
        """Publish the next messages."""
        for number in range(self.sent, self.sent + count):
            self._publish(number)
        self.sent += count

    def _publish(self, number: int) -> None:
        def stored(ack: Any, error: Exception | None) -> None:
            if error is not None:
                self.notes.error("publish", error)
                self.js.nats.call_later(100, self._publish, number)
                return
            if number in self.acked:
                self.notes.wrong.append(f"message {number} was acknowledged twice")
            self.acked[number] = ack["seq"]

        # Waiting in the queue, or lost: only an error from the server lets it be sent again.
        self.js.publish(f"ev.{number % 7}", event(number), stored, msg_id=f"m{number}")

    @property
    def complete(self) -> bool:
        """Whether all has been acknowledged."""
        return len(self.acked) == self.sent and not self.in_flight

    def put(self, key: str | None = None) -> None:
        """Put a new value of a key. A put that fails may have been stored, and is not repeated."""
        key = key or self.rng.choice(self.keys)
        self.values += 1
        value = f"{key}={self.values}".encode()
        self.in_flight += 1
        ended = self.notes.begin("put")

        def stored(revision: Any, error: Exception | None) -> None:
            ended()
            self.in_flight -= 1
            if error is not None:
                self.notes.error("put", error)
                return
            self.puts[revision] = key, value
            bisect.insort(self.revisions[key], revision)
            self.last_revision = max(self.last_revision, revision)

        self.kv.put(key, value, stored)

    def newest(self, key: str, up_to: int) -> int:
        """Return the last acknowledged revision of a key that is not above a revision."""
        known = self.revisions[key]
        index = bisect.bisect(known, up_to)
        return known[index - 1] if index else 0


class Watcher:
    """A watch of all keys: never back, each entry what was put, the marker once and after all keys."""

    def __init__(self, kv: KV, notes: Notes, writer: Writer, nodes: Nodes, name: str) -> None:
        self.notes = notes
        self.writer = writer
        self.name = name
        self.seen: dict[str, int] = {}
        self.entries: dict[int, tuple[str, bytes]] = {}
        self.last = 0
        self.marked = False
        self.failed = False  # could not begin within its time-out
        # What every replica had when the watch began, and what had been acknowledged.
        self.floor, self.acknowledged = nodes.on_all(kv.stream), writer.last_revision
        self.on_entry: Callable[[int], object] | None = None
        self.on_marker: Callable[[], object] | None = None
        self.watch = kv.watch(cb=self._entry)

    def _entry(self, entry: Any, error: Exception | None) -> None:
        if isinstance(error, (RequestTimeoutError, APIError)) and not self.entries:
            # It could not begin within its time-out, which an outage may take longer than.
            self.notes.error(self.name.rstrip(" 0123456789"), error)
            self._failed()
        elif error is not None:
            self.notes.wrong.append(f"{self.name} ended after {len(self.entries)}: {error!r}")
            self._failed()
        elif entry is None:
            if self.marked:
                self.notes.wrong.append(f"{self.name}: a second marker")
            self.marked = True
            self._check_snapshot()
            if self.on_marker is not None:
                self.on_marker()
        else:
            if entry.revision <= self.last:
                self.notes.wrong.append(f"{self.name}: {entry.revision} after {self.last}")
            self.last = entry.revision
            self.seen[entry.key] = entry.revision
            self.entries[entry.revision] = entry.key, entry.value
            if self.on_entry is not None:
                self.on_entry(len(self.entries))

    def _failed(self) -> None:
        self.failed = True
        if self.on_marker is not None and not self.marked:
            self.on_marker()

    def _check_snapshot(self) -> None:
        writer, bad, stale = self.writer, [], 0
        for key in writer.keys:
            seen = self.seen.get(key, 0)
            if seen < writer.newest(key, self.floor) or not seen:
                bad.append((key, seen, writer.newest(key, self.floor)))
            elif seen < writer.newest(key, self.acknowledged):
                stale += 1
        if bad:
            self.notes.wrong.append(
                f"{self.name}: {len(bad)} of {len(writer.keys)} keys missing or old at the marker, "
                f"floor {self.floor}: {bad[:3]}"
            )
        if stale:  # a replica that lags has begun the watch
            self.notes.count("stale snapshots")

    def compare(self, truth: dict[str, int]) -> None:
        """Compare with the newest revision of each key, and with what was put."""
        for key, revision in truth.items():
            if self.seen.get(key, 0) != revision:
                self.notes.wrong.append(f"{self.name}: {key} {self.seen.get(key)}, not {revision}")
        for revision, put in self.writer.puts.items():
            if revision in self.entries and self.entries[revision] != put:
                self.notes.wrong.append(f"{self.name}: {revision} is {self.entries[revision]}")


class Lister:
    """Lists and short watches, one after another and several at once."""

    def __init__(self, js: JetStream, notes: Notes, writer: Writer, nodes: Nodes) -> None:
        self.kv = KV(js, BUCKET)
        self.notes = notes
        self.writer = writer
        self.nodes = nodes
        self.number = 0

    def keys(self) -> None:
        ended = self.notes.begin("keys")

        def listed(keys: Any, error: Exception | None) -> None:
            took = ended()
            if error is not None:
                self.notes.error("keys", error)
            elif keys != sorted(self.writer.keys):
                self.notes.wrong.append(
                    f"keys: {len(keys)} of {len(self.writer.keys)}, {took:.1f} s"
                )

        self.kv.keys(listed)

    def list_keys(self) -> None:
        ended = self.notes.begin("list_keys")
        got: list[str] = []

        def listed(key: Any, error: Exception | None) -> None:
            if key is not None:
                got.append(key)
                return
            ended()
            if error is not None:
                self.notes.error("list_keys", error)
            elif set(got) != set(self.writer.keys):
                self.notes.wrong.append(f"list_keys: {len(set(got))} of {len(self.writer.keys)}")

        self.kv.list_keys(listed)

    def watch(self, on_entry: Callable[[int], object] | None = None) -> Watcher:
        """Begin a watch that ends at its marker."""
        self.number += 1
        ended = self.notes.begin("watch")
        watcher = Watcher(self.kv, self.notes, self.writer, self.nodes, f"watch {self.number}")
        watcher.on_entry = on_entry

        def marked() -> None:
            ended()
            watcher.watch.stop()

        watcher.on_marker = marked
        return watcher


class Readers:
    """An ordered consumer, an ordered fetcher and a consume, all from the beginning of the stream."""

    def __init__(self, js: JetStream, notes: Notes) -> None:
        self.js = js
        self.notes = notes
        self.ordered: dict[int, bytes] = {}
        self.fetched: dict[int, bytes] = {}
        self.consumed: dict[int, bytes] = {}
        self._last_fetched = 0
        self._over = False
        heartbeat = {"heartbeat": 1_000_000_000, "expires": 4_000_000_000}
        self.consumer = js.ordered_consumer(STREAM, heartbeat, self._on_ordered)
        self.fetcher = js.ordered_fetcher(STREAM, {})
        self.consume = js.consume(STREAM, DURABLE, heartbeat, self._on_consumed)
        self._fetch()

    def _on_ordered(self, msg: Any, error: Exception | None) -> None:
        if msg is None:
            self.notes.wrong.append(f"ordered consumer ended: {error!r}")
            return
        if self.ordered and msg.seq <= next(reversed(self.ordered)):
            self.notes.wrong.append(f"ordered: {msg.seq} after {next(reversed(self.ordered))}")
        self.ordered[msg.seq] = msg.data

    def _fetch(self) -> None:
        if self._over:
            return
        ended = self.notes.begin("fetch")

        def fetched(messages: Any, error: Exception | None) -> None:
            ended()
            for msg in messages or ():
                if msg.seq <= self._last_fetched:
                    self.notes.wrong.append(f"fetcher: {msg.seq} after {self._last_fetched}")
                self._last_fetched = msg.seq
                self.fetched[msg.seq] = msg.data
            if error is not None:
                self.notes.error("fetch", error)
            self.js.nats.call_later(100 if error is not None else 10, self._fetch)

        self.fetcher.fetch({"batch": 500, "expires": 2_000_000_000}, fetched)

    def _on_consumed(self, msg: Any, error: Exception | None) -> None:
        if msg is None:
            self.notes.wrong.append(f"consume ended: {error!r}")
            return
        seq = msg.metadata.stream_sequence
        if self.consumed.setdefault(seq, msg.data) != msg.data:
            self.notes.wrong.append(f"consume: another message {seq}")
        msg.ack()

    def at(self, sequence: int) -> bool:
        """Return whether all three have come to a sequence."""
        return all(sequence in got for got in (self.ordered, self.fetched, self.consumed))

    def compare(self, truth: dict[int, bytes]) -> None:
        """Compare with what is stored."""
        for name in ("ordered", "fetched", "consumed"):
            got = getattr(self, name)
            missing = [seq for seq in truth if seq not in got]
            other = [seq for seq in got if got[seq] != truth.get(seq)]
            for what, found in (("missing", missing), ("not what is stored", other)):
                if found:
                    self.notes.wrong.append(f"{name}: {len(found)} {what}, first {found[:3]}")

    def stop(self) -> None:
        self._over = True
        self.consumer.stop()
        self.consume.stop()


class Objects:
    """Puts and gets, at most one at a time for a name."""

    def __init__(self, js: JetStream, notes: Notes, rng: random.Random) -> None:
        self.store = ObjectStore(js, STORE, chunk_size=CHUNK)
        self.notes = notes
        self.rng = rng
        self.names = [f"o{n}" for n in range(6)]
        self.free = list(self.names)
        # Digests of contents that a get may find; None: no object.
        self.allowed: dict[str, set[str | None]] = {name: {None} for name in self.names}

    def one(self) -> None:
        """Begin a put or a get, unless all names are busy."""
        if self.free:
            name = self.free.pop(self.rng.randrange(len(self.free)))
            if self.rng.random() < 0.5 or self.allowed[name] == {None}:
                self._put(name)
            else:
                self._get(name)

    def _put(self, name: str) -> None:
        data = self.rng.randbytes(self.rng.choice((0, 10, CHUNK, 300_000, MIB, 3 * MIB)))
        digest = hashlib.sha256(data).hexdigest()
        ended = self.notes.begin("object put")

        def stored(info: Any, error: Exception | None) -> None:
            took = ended()
            self.free.append(name)
            if error is None:
                self.allowed[name] = {digest}
                if info["size"] != len(data):
                    self.notes.wrong.append(f"put of {len(data)} bytes says {info['size']}")
            else:
                self.allowed[name].add(digest)
                self._failed("object put", took, error)

        self.store.put(name, data, stored)

    def _get(self, name: str) -> None:
        ended = self.notes.begin("object get")

        def got(data: Any, error: Exception | None) -> None:
            took = ended()
            self.free.append(name)
            if error is not None:
                self._failed("object get", took, error)
                return
            digest = None if data is None else hashlib.sha256(data).hexdigest()
            if digest not in self.allowed[name]:
                size = None if data is None else len(data)
                self.notes.wrong.append(f"get of {name}: {size} bytes that were not put")

        self.store.get(name, got)

    def _failed(self, what: str, took: float, error: Exception) -> None:
        """Note an error: no outage of this drill is as long as a transfer has to survive."""
        self.notes.error(what, error)
        self.notes.wrong.append(f"{what} failed after {took:.1f} s: {error!r}")
        if took > TRANSFER_LIMIT:
            self.notes.wrong.append(f"{what} took {took:.0f} s")
