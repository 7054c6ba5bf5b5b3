"""One run of one row with natsrpy, a client whose core is written in Rust. See `benchmark.py`.

python client_natsrpy.py ROW HOST PORT MESSAGES PAYLOAD WINDOW CHECKED [NUMBER]
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import cycle, islice
from typing import Any

from natsrpy import Nats

SUBJECT = "bench.subject"
NO_ROW = 64


class Client:
    """The rows as methods; each returns when the server or the subscriber has everything."""

    def __init__(self, connection: Any, number: int) -> None:
        self.nats, self.number = connection, number
        self.extra: dict[str, int] = {}

    async def pub(self, count: int, payload: bytes, window: int) -> None:
        """Publish count messages, then wait until the server has processed them."""
        publish = self.nats.publish
        for _ in range(count):
            await publish(SUBJECT, payload)
        await self.round_trip()

    async def round_trip(self) -> None:
        """Wait for a message to this client: `flush` of natsrpy does not wait for the server."""
        arrived = asyncio.Event()

        async def message(message: Any) -> None:
            arrived.set()

        sub = await self.nats.subscribe("bench.last", callback=message).detatch()
        await self.nats.publish("bench.last", b"")
        await arrived.wait()
        await sub.unsubscribe()

    async def windowed(
        self, pattern: str, count: int, window: int, send: Callable[[int], Awaitable[None]]
    ) -> None:
        """Receive count messages; send(portion) publishes the next ones, window are on the way."""
        arrived = asyncio.Event()
        received = sent = mark = 0

        async def message(message: Any) -> None:
            nonlocal received
            received += 1
            if received == mark:
                arrived.set()

        sub = await self.nats.subscribe(pattern, callback=message).detatch()
        portion = window
        while received < count:
            portion = min(portion, count - sent)
            sent += portion
            mark = count if sent == count else sent - window // 2
            await send(portion)
            await arrived.wait()
            arrived.clear()
            portion = window // 2
        await sub.unsubscribe()

    async def pubsub(self, count: int, payload: bytes, window: int) -> None:
        """Publish to a subscription of this connection."""
        publish = self.nats.publish

        async def send(portion: int) -> None:
            for _ in range(portion):
                await publish(SUBJECT, payload)

        await self.windowed(SUBJECT, count, window, send)

    async def subjects(self, count: int, payload: bytes, window: int) -> None:
        """Publish to `number` subjects in turn; one subscription with a wildcard receives all."""
        publish = self.nats.publish
        names = cycle([f"bench.many.{i}" for i in range(self.number)])

        async def send(portion: int) -> None:
            for subject in islice(names, portion):
                await publish(subject, payload)

        await self.windowed("bench.many.*", count, window, send)

    async def headers(self, count: int, payload: bytes, window: int) -> None:
        """Publish with a mapping of `number` headers; natsrpy parses what arrives."""
        publish, mapping = self.nats.publish, header_mapping(self.number)

        async def send(portion: int) -> None:
            for _ in range(portion):
                await publish(SUBJECT, payload, headers=mapping)

        await self.windowed(SUBJECT, count, window, send)

    # natsrpy takes and gives mappings only.
    raw_headers = headers

    async def sub(self, count: int, payload: bytes, window: int) -> None:
        """Receive count messages that `feeder.py`, another process, publishes when asked."""

        async def send(portion: int) -> None:
            await self.nats.publish("bench.feed", b"%d %d" % (count, len(payload)))

        await self.windowed(SUBJECT, count, count, send)

    async def request(self, count: int, payload: bytes, window: int) -> None:
        """Send requests to a responder on this connection, window of them in flight."""
        sent = 0

        async def ask() -> None:
            nonlocal sent
            while sent < count:
                sent += 1
                await self.nats.request(SUBJECT, payload, timeout=10)

        sub = await self.echo()
        await asyncio.gather(*(ask() for _ in range(min(window, count))))
        await sub.unsubscribe()

    async def echo(self) -> Any:
        """Return a subscription that answers requests with their payload."""

        async def respond(message: Any) -> None:
            await self.nats.publish(message.reply, message.payload)

        return await self.nats.subscribe(SUBJECT, callback=respond).detatch()

    async def serial(self, count: int, payload: bytes, window: int) -> None:
        """Send one request after the other; note the time that each one took."""
        now, took = time.perf_counter_ns, []
        sub = await self.echo()
        for _ in range(count):
            begun = now()
            await self.nats.request(SUBJECT, payload, timeout=10)
            took.append(now() - begun)
        await sub.unsubscribe()
        took.sort()
        self.extra = {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}

    async def check(self, row: str, payloads: list[bytes]) -> int:
        """Send numbered payloads the way that the row does; return how many came back wrong."""
        if row in ("request", "serial"):
            sub = await self.echo()
            asked = [self.nats.request(SUBJECT, payload, timeout=10) for payload in payloads]
            answers = [await answer for answer in asked]
            await sub.unsubscribe()
            return differences([answer.payload for answer in answers], payloads)
        pattern, subjects = SUBJECT, [SUBJECT] * len(payloads)
        if row == "subjects":
            pattern = "bench.many.*"
            subjects = [f"bench.many.{i % self.number}" for i in range(len(payloads))]
        headers = header_mapping(self.number) if "headers" in row else None
        got: list[Any] = []
        arrived = asyncio.Event()

        async def message(message: Any) -> None:
            got.append((message.subject, message.payload, message.headers or None))
            if len(got) == len(payloads):
                arrived.set()

        sub = await self.nats.subscribe(pattern, callback=message).detatch()
        for subject, payload in zip(subjects, payloads, strict=True):
            await self.nats.publish(subject, payload, headers=headers)
        await asyncio.wait_for(arrived.wait(), 10)
        await sub.unsubscribe()
        pairs = zip(subjects, payloads, strict=True)
        return differences(got, [(subject, payload, headers) for subject, payload in pairs])


def header_mapping(number: int) -> dict[str, str]:
    """Return the headers of a message, as all clients send them."""
    return {f"X-Header-{i}": f"value-{i}" for i in range(number)}


def differences(got: list[Any], expected: list[Any]) -> int:
    """Return in how many places the two lists differ."""
    wrong = sum(a != b for a, b in zip(got, expected, strict=False))
    return wrong + abs(len(got) - len(expected))


async def main(
    row: str,
    host: str,
    port: str,
    count: str,
    size: str,
    window: str,
    checked: str,
    number: str = "1",
) -> None:
    connection = Nats([f"nats://{host}:{port}"])
    await connection.startup()
    client = Client(connection, int(number))
    run: Callable[[int, bytes, int], Awaitable[None]] | None = getattr(client, row, None)
    if run is None:
        raise SystemExit(NO_ROW)
    messages, payload = int(count), b"x" * int(size)
    await run(max(1, messages // 10), payload, int(window))  # warm-up
    cpu, start = time.process_time_ns(), time.perf_counter_ns()
    await run(messages, payload, int(window))
    elapsed, cpu = time.perf_counter_ns() - start, time.process_time_ns() - cpu
    numbered = [(b"%0*d" % (int(size), i))[-int(size) :] for i in range(int(checked))]
    wrong = await client.check(row, numbered)
    print(json.dumps({"ns": elapsed, "cpu_ns": cpu, "wrong": wrong} | client.extra))
    await connection.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
