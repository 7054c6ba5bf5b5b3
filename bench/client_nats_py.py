"""One run of one row with nats-py, written as its documentation recommends. See `benchmark.py`.

python client_nats_py.py ROW HOST PORT MESSAGES PAYLOAD WINDOW CHECKED [NUMBER]

With BENCH_UVLOOP in the environment it runs on uvloop.
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from itertools import cycle, islice
from typing import Any

import nats
from js_nats_py import JetStreamRows

SUBJECT = "bench.subject"
NO_ROW = 64
COLD = {"subscriptions", "connections"}
STORED = ("js_", "kv_", "object_")


class Client(JetStreamRows):
    """The rows as methods; each returns when the server or the subscriber has everything."""

    def __init__(self, connection: Any, number: int, url: str) -> None:
        self.nats, self.number, self.url = connection, number, url
        self.extra: dict[str, int] = {}

    async def pub(self, count: int, payload: bytes, window: int) -> None:
        """Publish count messages, then flush and wait for the server's confirmation."""
        publish = self.nats.publish
        for _ in range(count):
            await publish(SUBJECT, payload)
        await self.nats.flush(60)

    async def pubsub(self, count: int, payload: bytes, window: int) -> None:
        """Publish to a subscription of this connection; at most window messages are on the way."""
        publish = self.nats.publish
        arrived = asyncio.Event()
        received = sent = mark = 0

        async def message(message: Any) -> None:
            nonlocal received
            received += 1
            if received == mark:
                arrived.set()

        sub = await self.nats.subscribe(SUBJECT, cb=message)
        portion = window
        while received < count:
            portion = min(portion, count - sent)
            sent += portion
            mark = count if sent == count else sent - window // 2
            for _ in range(portion):
                await publish(SUBJECT, payload)
            await arrived.wait()
            arrived.clear()
            portion = window // 2
        await sub.unsubscribe()

    async def iterate(self, count: int, payload: bytes, window: int) -> None:
        """As `pubsub`, but receive by the subscription's iterator."""
        publish = self.nats.publish
        received = sent = mark = 0

        async def send(portion: int) -> None:
            nonlocal sent, mark
            portion = min(portion, count - sent)
            for _ in range(portion):
                await publish(SUBJECT, payload)
            sent += portion
            mark = count if sent == count else sent - window // 2

        sub = await self.nats.subscribe(SUBJECT)
        await send(window)
        async for _ in sub.messages:
            received += 1
            if received == mark:
                if received == count:
                    break
                await send(window // 2)
        await sub.unsubscribe()

    async def request(self, count: int, payload: bytes, window: int) -> None:
        """Send requests to a responder on this connection, window of them in flight."""
        request = self.nats.request
        sent = 0

        async def respond(message: Any) -> None:
            await message.respond(message.data)

        async def ask() -> None:
            nonlocal sent
            while sent < count:
                sent += 1
                await request(SUBJECT, payload, timeout=10)

        sub = await self.nats.subscribe(SUBJECT, cb=respond)
        await asyncio.gather(*(ask() for _ in range(min(window, count))))
        await sub.unsubscribe()

    async def sub(self, count: int, payload: bytes, window: int) -> None:
        """Receive count messages that `feeder.py`, another process, publishes when asked."""
        arrived = asyncio.Event()
        received = 0

        async def message(message: Any) -> None:
            nonlocal received
            received += 1
            if received == count:
                arrived.set()

        sub = await self.nats.subscribe(SUBJECT, cb=message)
        await self.nats.publish("bench.feed", b"%d %d" % (count, len(payload)))
        await arrived.wait()
        await sub.unsubscribe()

    async def subjects(self, count: int, payload: bytes, window: int) -> None:
        """Publish to `number` subjects in turn; one subscription with a wildcard receives all."""
        publish = self.nats.publish
        names = cycle([f"bench.many.{i}" for i in range(self.number)])

        async def send(portion: int) -> None:
            for subject in islice(names, portion):
                await publish(subject, payload)

        await self.windowed("bench.many.*", count, window, send)

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

        sub = await self.nats.subscribe(pattern, cb=message)
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

    async def headers(self, count: int, payload: bytes, window: int) -> None:
        """Publish with a mapping of `number` headers; nats-py parses what arrives."""
        publish, mapping = self.nats.publish, header_mapping(self.number)

        async def send(portion: int) -> None:
            for _ in range(portion):
                await publish(SUBJECT, payload, headers=mapping)

        await self.windowed(SUBJECT, count, window, send)

    # nats-py takes and gives mappings only.
    raw_headers = headers

    async def serial(self, count: int, payload: bytes, window: int) -> None:
        """Send one request after the other; note the time that each one took."""
        now, took = time.perf_counter_ns, []

        async def respond(message: Any) -> None:
            await message.respond(message.data)

        sub = await self.nats.subscribe(SUBJECT, cb=respond)
        for _ in range(count):
            begun = now()
            await self.nats.request(SUBJECT, payload, timeout=10)
            took.append(now() - begun)
        await sub.unsubscribe()
        took.sort()
        self.extra = {"p50": took[len(took) // 2], "p99": took[len(took) * 99 // 100]}

    async def subscriptions(self, count: int, payload: bytes, window: int) -> None:
        """Subscribe to count subjects; the server has confirmed all of them."""
        before = resident()

        async def message(message: Any) -> None:
            pass

        for i in range(count):
            await self.nats.subscribe(f"bench.sub.{i}", cb=message)
        await self.nats.flush(60)
        self.extra = {"bytes": max(0, resident() - before)}

    async def connections(self, count: int, payload: bytes, window: int) -> None:
        """Open count connections at once; all handshakes are over."""
        before = resident()
        self.others = await asyncio.gather(*(nats.connect(self.url) for _ in range(count)))
        self.extra = {"bytes": max(0, resident() - before)}

    async def check(self, row: str, payloads: list[bytes]) -> int:
        """Send numbered payloads the way that the row does; return how many came back wrong."""
        if row.startswith(STORED):
            return await self.check_stored(row)
        if row in ("request", "serial"):
            return await self.check_requests(payloads)
        if row == "subjects":
            subjects = [f"bench.many.{i % self.number}" for i in range(len(payloads))]
            return await self.check_all("bench.many.*", subjects, payloads, None)
        headers = header_mapping(self.number) if "headers" in row else None
        return await self.check_all(SUBJECT, [SUBJECT] * len(payloads), payloads, headers)

    async def check_all(
        self,
        pattern: str,
        subjects: list[str],
        payloads: list[bytes],
        headers: dict[str, str] | None,
    ) -> int:
        """Publish each payload to its subject; return how many came back wrong."""
        got: list[Any] = []

        async def message(message: Any) -> None:
            got.append((message.subject, message.data, message.reply, message.headers))

        sub = await self.nats.subscribe(pattern, cb=message)
        for subject, payload in zip(subjects, payloads, strict=True):
            await self.nats.publish(subject, payload, headers=headers)
        await self.nats.flush(60)
        deadline = time.monotonic() + 5
        while len(got) < len(payloads) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        await sub.unsubscribe()
        pairs = zip(subjects, payloads, strict=True)
        return differences(got, [(subject, payload, "", headers) for subject, payload in pairs])

    async def check_requests(self, payloads: list[bytes]) -> int:
        """Send each payload as a request to an echo; return how many answers were wrong."""

        async def respond(message: Any) -> None:
            await message.respond(message.data)

        sub = await self.nats.subscribe(SUBJECT, cb=respond)
        asked = (self.nats.request(SUBJECT, payload, timeout=10) for payload in payloads)
        answers = await asyncio.gather(*asked)
        await sub.unsubscribe()
        return differences([answer.data for answer in answers], payloads)


def differences(got: list[Any], expected: list[Any]) -> int:
    """Return in how many places the two lists differ."""
    wrong = sum(a != b for a, b in zip(got, expected, strict=False))
    return wrong + abs(len(got) - len(expected))


def header_mapping(number: int) -> dict[str, str]:
    """Return the headers of a message, as all clients send them."""
    return {f"X-Header-{i}": f"value-{i}" for i in range(number)}


def resident() -> int:
    """Return the resident memory in bytes; 0 where /proc is missing."""
    try:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


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
    # The default limit of 2 MiB stalls a publisher of large messages.
    options: dict[str, Any] = {"pending_size": 64 * 1024 * 1024} if int(size) > 100_000 else {}
    if ca := os.environ.get("BENCH_TLS_CA"):
        options["tls"] = ssl.create_default_context(cafile=ca)
    url = os.environ.get("BENCH_URL", f"nats://{host}:{port}")
    connection = await nats.connect(url, **options)
    client = Client(connection, int(number), url)
    run: Callable[[int, bytes, int], Awaitable[None]] | None = getattr(client, row, None)
    if run is None:
        raise SystemExit(NO_ROW)
    messages, payload = int(count), b"x" * int(size)
    if row.startswith(STORED):
        client.ready(payload, messages)
    elif row not in COLD:
        await run(max(1, messages // 10), payload, int(window))  # warm-up
    cpu, start = time.process_time_ns(), time.perf_counter_ns()
    await run(messages, payload, int(window))
    elapsed, cpu = time.perf_counter_ns() - start, time.process_time_ns() - cpu
    numbered = [(b"%0*d" % (int(size), i))[-int(size) :] for i in range(int(checked))]
    wrong = await client.check(row, numbered)
    print(json.dumps({"ns": elapsed, "cpu_ns": cpu, "wrong": wrong} | client.extra))
    if row in COLD:
        sys.stdout.flush()
        os._exit(0)  # closing many connections and subscriptions is not part of the row
    await connection.close()


if __name__ == "__main__":
    if "BENCH_UVLOOP" in os.environ:
        import uvloop

        uvloop.run(main(*sys.argv[1:]))
    else:
        asyncio.run(main(*sys.argv[1:]))
