"""One run of one row with nats-py, written as its documentation recommends. See `benchmark.py`.

python client_nats_py.py ROW HOST PORT MESSAGES PAYLOAD WINDOW CHECKED
"""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import nats

SUBJECT = "bench.subject"


class Client:
    """The rows as methods; each returns when the server or the subscriber has everything."""

    def __init__(self, connection: Any) -> None:
        self.nats = connection

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

    async def check_messages(self, payloads: list[bytes]) -> int:
        """Publish payloads to a subscription of this connection; return how many came back wrong."""
        got: list[Any] = []

        async def message(message: Any) -> None:
            got.append((message.subject, message.data, message.reply, message.headers))

        sub = await self.nats.subscribe(SUBJECT, cb=message)
        for payload in payloads:
            await self.nats.publish(SUBJECT, payload)
        await self.nats.flush(60)
        deadline = time.monotonic() + 5
        while len(got) < len(payloads) and time.monotonic() < deadline:
            await asyncio.sleep(0.001)
        await sub.unsubscribe()
        return differences(got, [(SUBJECT, payload, "", None) for payload in payloads])

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


async def main(
    row: str, host: str, port: str, count: str, size: str, window: str, checked: str
) -> None:
    options: dict[str, Any] = {}
    if ca := os.environ.get("BENCH_TLS_CA"):
        options["tls"] = ssl.create_default_context(cafile=ca)
    connection = await nats.connect(f"nats://{host}:{port}", **options)
    client = Client(connection)
    run: Callable[[int, bytes, int], Awaitable[None]] = getattr(client, row)
    messages, payload = int(count), b"x" * int(size)
    await run(max(1, messages // 10), payload, int(window))  # warm-up
    cpu, start = time.process_time_ns(), time.perf_counter_ns()
    await run(messages, payload, int(window))
    elapsed, cpu = time.perf_counter_ns() - start, time.process_time_ns() - cpu
    numbered = [(b"%0*d" % (int(size), i))[-int(size) :] for i in range(int(checked))]
    wrong = await (client.check_requests if row == "request" else client.check_messages)(numbered)
    print(json.dumps({"ns": elapsed, "cpu_ns": cpu, "wrong": wrong}))
    await connection.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
