"""The rows of JetStream, KV and objects with nats-py: methods of the client in `client_nats_py.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from names import BATCH, BUCKET, CONSUMER, OBJECT, PUT_BUCKET, STREAM, SUBJECT, blob, numbered


class JetStreamRows:
    """The rows as methods; each returns when everything is stored, or has arrived."""

    nats: Any
    number: int

    def ready(self, payload: bytes, count: int) -> None:
        """Prepare what the clock must not measure."""
        self.got: list[Any] = []
        self.expected: list[Any] = []
        self.data = blob(len(payload)) if len(payload) > 100_000 else payload

    async def js_publish(self, count: int, payload: bytes, window: int) -> None:
        """Publish with acknowledgement, window messages unacknowledged."""
        js = self.nats.jetstream(timeout=30, publish_async_max_pending=window)
        futures = []
        for _ in range(count):
            futures.append(await js.publish_async(SUBJECT, payload, wait_stall=30))
        for future in futures:
            await future

    async def js_fetch(self, count: int, payload: bytes, window: int) -> None:
        """Fetch 200 messages at a time; acknowledge each."""
        js, got = self.nats.jetstream(timeout=30), self.got
        sub = await js.pull_subscribe_bind(CONSUMER, STREAM)
        while len(got) < count:
            for message in await sub.fetch(min(BATCH, count - len(got)), timeout=5):
                got.append(message.data)
                await message.ack()
        await self.nats.flush(60)
        self.expected_count = (count, len(payload))

    # It has no continuous consume: fetch in a loop takes its place.
    js_consume = js_fetch

    async def js_ordered(self, count: int, payload: bytes, window: int) -> None:
        """Read the stream with the ordered consumer."""
        got, done = self.got, asyncio.Event()

        async def arrived(message: Any) -> None:
            got.append(message.data)
            if len(got) == count:
                done.set()

        js = self.nats.jetstream(timeout=30)
        await js.subscribe(
            SUBJECT,
            stream=STREAM,
            ordered_consumer=True,
            cb=arrived,
            pending_msgs_limit=-1,
            pending_bytes_limit=-1,
        )
        await done.wait()
        self.expected_count = (count, len(payload))

    async def keep(self, count: int, window: int, one: Callable[[int], Awaitable[Any]]) -> None:
        """Make count operations, window of them at a time."""
        begun = 0

        async def work() -> None:
            nonlocal begun
            while begun < count:
                begun += 1
                await one(begun - 1)

        await asyncio.gather(*(work() for _ in range(min(window, count))))

    async def kv_get(self, count: int, payload: bytes, window: int) -> None:
        """Read `number` keys in turn, window of them at a time."""
        kv = await self.nats.jetstream(timeout=30).key_value(BUCKET)
        self.got = [None] * count

        async def one(i: int) -> None:
            self.got[i] = (await kv.get(f"k{i % self.number}")).value

        await self.keep(count, window, one)
        self.expected = [numbered(len(payload), i % self.number) for i in range(count)]

    async def kv_put(self, count: int, payload: bytes, window: int) -> None:
        """Write `number` keys in turn, window of them at a time."""
        kv = await self.nats.jetstream(timeout=30).key_value(PUT_BUCKET)

        async def one(i: int) -> None:
            self.got.append(await kv.put(f"k{i % self.number}", payload))

        await self.keep(count, window, one)
        self.got.sort()
        self.expected = [self.got[0] + i for i in range(count)]

    async def kv_watch(self, count: int, payload: bytes, window: int) -> None:
        """Watch a bucket of count keys until its initial values have arrived."""
        kv = await self.nats.jetstream(timeout=30).key_value(BUCKET)
        watcher = await kv.watchall()
        while (entry := await watcher.updates(timeout=30)) is not None:
            self.got.append(entry.value)
        await watcher.stop()
        self.expected_count = (count, len(payload))

    async def object_put(self, count: int, payload: bytes, window: int) -> None:
        """Store objects."""
        self.store = await self.nats.jetstream(timeout=30).object_store(BUCKET)
        for i in range(count):
            await self.store.put(f"{OBJECT}-{i}", self.data)

    async def object_get(self, count: int, payload: bytes, window: int) -> None:
        """Read an object of the store, count times."""
        store = await self.nats.jetstream(timeout=30).object_store(BUCKET)
        for _ in range(count):
            self.got = [(await store.get(OBJECT)).data]
        self.expected = [self.data]

    async def check_stored(self, row: str) -> int:
        """Return how many of the values that the row has received, or stored, are wrong."""
        if row == "js_publish":
            return 0  # the runner compares what the stream holds
        if row == "object_put":
            return int((await self.store.get(f"{OBJECT}-0")).data != self.data)
        if row in ("js_fetch", "js_consume", "js_ordered", "kv_watch"):
            count, size = self.expected_count
            self.expected = [numbered(size, i) for i in range(count)]
        wrong = sum(a != b for a, b in zip(self.got, self.expected, strict=False))
        return wrong + abs(len(self.got) - len(self.expected))
