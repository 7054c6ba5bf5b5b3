"""The rows of JetStream, KV and objects with nats_ev: methods of the client in `client_nats_ev.py`.

The clock covers a whole row. What arrives is kept and compared after the clock has stopped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from names import BATCH, BUCKET, CONSUMER, OBJECT, PUT_BUCKET, STREAM, SUBJECT, blob, numbered

from nats_ev import KV, JetStream, ObjectStore


class JetStreamRows:
    """The rows as methods; each returns when everything is stored, or has arrived."""

    loop: Any
    nats: Any
    number: int

    def jetstream(self, window: int = 4000) -> JetStream:
        """Return a JetStream whose `publish_async` leaves window messages unacknowledged."""
        return JetStream(self.nats, timeout=30_000, max_ack_pending=window, stall_wait=0)

    def ready(self, payload: bytes, count: int) -> None:
        """Prepare what the clock must not measure."""
        self.got: list[bytes] = []
        self.expected: list[bytes] = []
        self.data = blob(len(payload)) if len(payload) > 100_000 else payload

    def js_publish(self, count: int, payload: bytes, window: int) -> None:
        """Publish with acknowledgement, window messages unacknowledged."""
        js = self.jetstream(window)
        acked = sent = 0

        def done(ack: Any, error: Exception | None) -> None:
            nonlocal acked
            check(error)
            acked += 1
            if acked == count:
                self.loop.stop()
            elif sent < count and js.publish_async_pending() <= window // 2:
                more()

        def more() -> None:
            nonlocal sent
            while sent < count:
                sent += 1
                if not js.publish_async(SUBJECT, payload, done):
                    return

        more()
        self.loop.start()

    def js_fetch(self, count: int, payload: bytes, window: int) -> None:
        """Fetch 200 messages at a time; acknowledge each."""
        js, got = self.jetstream(), self.got

        def fetched(messages: Any, error: Exception | None) -> None:
            check(error)
            for message in messages:
                got.append(message.data)
                message.ack()
            if len(got) < count:
                fetch()
            else:
                self.nats.flush(lambda error: self.loop.stop())

        def fetch() -> None:
            js.fetch(STREAM, CONSUMER, {"batch": min(BATCH, count - len(got))}, fetched)

        fetch()
        self.loop.start()
        self.expect(count, len(payload))

    def js_consume(self, count: int, payload: bytes, window: int) -> None:
        """Receive continuously; acknowledge each message."""
        got = self.got

        def arrived(message: Any, error: Exception | None) -> None:
            if error is not None:
                check(error)
            got.append(message.data)
            message.ack()
            if len(got) == count:
                self.nats.flush(lambda error: self.loop.stop())

        self.jetstream().consume(STREAM, CONSUMER, arrived)
        self.loop.start()
        self.expect(count, len(payload))

    def js_ordered(self, count: int, payload: bytes, window: int) -> None:
        """Read the stream with the ordered consumer."""
        got = self.got

        def arrived(message: Any, error: Exception | None) -> None:
            if error is not None:
                check(error)
            got.append(message.data)
            if len(got) == count:
                self.loop.stop()

        self.jetstream().ordered_consumer(STREAM, arrived)
        self.loop.start()
        self.expect(count, len(payload))

    def expect(self, count: int, size: int) -> None:
        """Remember what must have arrived; the comparison comes after the clock."""
        self.expected_count = (count, size)

    def kv_get(self, count: int, payload: bytes, window: int) -> None:
        """Read `number` keys in turn, window of them at a time."""
        kv, got, number = KV(self.jetstream(), BUCKET), self.got, self.number

        def answer(value: Any, error: Exception | None) -> None:
            check(error)
            got.append(value)

        self.keep(count, window, got, lambda i, cb: kv.get(f"k{i % number}", cb), answer)
        self.expected = [numbered(len(payload), i % number) for i in range(count)]

    def kv_put(self, count: int, payload: bytes, window: int) -> None:
        """Write `number` keys in turn, window of them at a time."""
        kv, number = KV(self.jetstream(), PUT_BUCKET), self.number
        revisions: list[Any] = []

        def answer(revision: Any, error: Exception | None) -> None:
            check(error)
            revisions.append(revision)

        self.keep(
            count, window, revisions, lambda i, cb: kv.put(f"k{i % number}", payload, cb), answer
        )
        self.got, self.expected = revisions, [revisions[0] + i for i in range(count)]

    def keep(
        self,
        count: int,
        window: int,
        answers: list[Any],
        begin: Callable[[int, Callable[..., None]], object],
        answer: Callable[[Any, Any], None],
    ) -> None:
        """Begin count operations, window of them at a time, until all are answered."""
        begun = 0

        def answered(result: Any, error: Any) -> None:
            nonlocal begun
            answer(result, error)
            if begun < count:
                begun += 1
                begin(begun - 1, answered)
            elif len(answers) == count:
                self.loop.stop()

        while begun < min(window, count):
            begun += 1
            begin(begun - 1, answered)
        self.loop.start()

    def kv_watch(self, count: int, payload: bytes, window: int) -> None:
        """Watch a bucket of count keys until its initial values have arrived."""
        got = self.got

        def changed(entry: Any, error: Exception | None) -> None:
            if entry is None:
                check(error)
                self.loop.stop()
            else:
                got.append(entry.value)

        watch = KV(self.jetstream(), BUCKET).watch(changed)
        self.loop.start()
        watch.stop()
        self.expect(count, len(payload))

    def object_put(self, count: int, payload: bytes, window: int) -> None:
        """Store objects."""
        store = ObjectStore(self.jetstream(), BUCKET)
        for i in range(count):
            self.wait(store.put, f"{OBJECT}-{i}", self.data)
        self.store = store

    def object_get(self, count: int, payload: bytes, window: int) -> None:
        """Read an object of the store, count times."""
        store = ObjectStore(self.jetstream(), BUCKET)
        for _ in range(count):
            self.got = [self.wait(store.get, OBJECT)]
        self.expected = [self.data]

    def wait(self, method: Any, *args: Any) -> Any:
        """Call a method that answers with (result, error); return the result."""
        answers: list[Any] = []

        def answer(result: Any, error: Exception | None) -> None:
            check(error)
            answers.append(result)
            self.loop.stop()

        method(*args, answer)
        self.loop.start()
        return answers[0]

    def check_stored(self, row: str) -> int:
        """Return how many of the values that the row has received, or stored, are wrong."""
        if row == "js_publish":
            return 0  # the runner compares what the stream holds
        if row == "object_put":
            return int(self.wait(self.store.get, f"{OBJECT}-0") != self.data)
        if row in ("js_fetch", "js_consume", "js_ordered", "kv_watch"):
            count, size = self.expected_count
            self.expected = [numbered(size, i) for i in range(count)]
        wrong = sum(a != b for a, b in zip(self.got, self.expected, strict=False))
        return wrong + abs(len(self.got) - len(self.expected))


def check(error: Exception | None) -> None:
    """End the program if an operation has failed."""
    if error is not None:
        raise SystemExit(f"nats_ev: {error!r}")
