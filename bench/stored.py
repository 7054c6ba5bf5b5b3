"""What the rows of JetStream, KV and objects find in the server: `Prepare` stores it before each run."""

from __future__ import annotations

from typing import Any

from names import BUCKET, CONSUMER, OBJECT, PUT_BUCKET, STREAM, SUBJECT, blob, numbered

from nats_ev import KV, JetStream, Nats, ObjectStore, pyev


class Prepare:
    """Stores what a row reads; keeps what the last row has left when it fits the next one."""

    def __init__(self, port: int) -> None:
        self.loop = pyev.Loop()
        self.nats = Nats(host="127.0.0.1", port=port, loop=self.loop)
        self.js = JetStream(self.nats, timeout=30_000, stall_wait=0)
        self.kv, self.objects = KV(self.js, BUCKET), ObjectStore(self.js, BUCKET)
        self.stream: tuple[int, int] | None = None
        self.keys: tuple[int, int] | None = None
        self.object: int | None = None

    def close(self) -> None:
        """End the connection."""
        self.nats.disconnect()

    def do(self, method: Any, *args: Any, may_fail: bool = False) -> Any:
        """Call a method that answers with (result, error); return the result."""
        answers: list[Any] = []

        def answer(*answer: Any) -> None:
            answers.append(answer)
            self.loop.stop()

        method(*args, answer)
        while not answers:
            self.loop.start()
        result, error = answers[0]
        if error is not None and not may_fail:
            raise SystemExit(f"prepare: {error!r}")
        return result

    def prepare(self, row: str, count: int, size: int, number: int) -> None:
        """Store what the row needs: a stream and a consumer, a bucket with keys, an object."""
        if row == "js_publish":
            self.fill_stream(0, size)
        elif row.startswith("js_"):
            self.fill_stream(count, size)
            self.new_consumer()
        elif row == "kv_watch":
            self.fill_bucket(count, size)
        elif row == "kv_put":
            self.do(KV(self.js, PUT_BUCKET).create_bucket, {"storage": "memory"})
        elif row == "kv_get":
            self.fill_bucket(number, size)
        elif row.startswith("object_"):
            self.fill_store(size)

    def fill_stream(self, count: int, size: int) -> None:
        """Create the stream with count numbered messages."""
        if count and self.stream == (count, size):
            return
        self.do(self.js.stream_delete, STREAM, may_fail=True)
        config = {"name": STREAM, "subjects": [SUBJECT], "storage": "memory"}
        self.do(self.js.stream_create, config)
        for i in range(count):
            self.js.publish_async(SUBJECT, numbered(size, i), stored)
        self.do(self.js.publish_complete)
        self.stream = (count, size) if count else None

    def new_consumer(self) -> None:
        """Create the consumer again, at the first message."""
        self.do(self.js.consumer_delete, STREAM, CONSUMER, may_fail=True)
        config = {"durable_name": CONSUMER, "ack_policy": "explicit", "max_ack_pending": 1_000_000}
        self.do(self.js.consumer_create, STREAM, config)

    def fill_bucket(self, keys: int, size: int) -> None:
        """Create the bucket with `keys` numbered values."""
        if self.keys == (keys, size):
            return
        self.do(self.js.stream_delete, f"KV_{BUCKET}", may_fail=True)
        self.do(self.kv.create_bucket, {"storage": "memory"})
        for i in range(keys):
            self.js.publish_async(f"$KV.{BUCKET}.k{i}", numbered(size, i), stored)
        self.do(self.js.publish_complete)
        self.keys = (keys, size)

    def fill_store(self, size: int) -> None:
        """Create the object store with one object."""
        if self.object != size:
            self.do(self.js.stream_delete, f"OBJ_{BUCKET}", may_fail=True)
            self.do(self.objects.create_bucket, {"storage": "memory"})
            self.do(self.objects.put, OBJECT, blob(size))
            self.object = size

    def lost(self, row: str, count: int) -> bool:
        """Return whether the stream does not hold what the row has published."""
        if row != "js_publish":
            return False
        info = self.do(self.js.stream_info, STREAM)
        return bool(info["state"]["messages"] != count)


def stored(ack: Any, error: Exception | None) -> None:
    """Take an acknowledgement."""
    if error is not None:
        raise SystemExit(f"prepare: {error!r}")
