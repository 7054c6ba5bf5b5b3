"""One run of one row of `bench_faces.py`, which explains the rows.

python client_faces.py CLIENT ROW PORT COUNT
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

TASKS = 64
PORTION = 500  # messages published between two turns of the loop
PAYLOAD = b"x" * 100


class Clock:
    """The time and the CPU that a run takes, and how many messages or answers were wrong."""

    def __init__(self) -> None:
        self.seconds = self.cpu = 0.0
        self.wrong = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure a block."""
        begun, cpu = time.perf_counter(), time.process_time()
        yield
        self.seconds, self.cpu = time.perf_counter() - begun, time.process_time() - cpu


class Ours:
    """What differs between nats_ev and nats-py, for nats_ev."""

    def __init__(self, nc: Any) -> None:
        self.nc = nc
        self.request = nc.request
        self.flush = nc.flush
        self.subs: list[Any] = []

    async def iterate(self, subject: str) -> Any:
        """Return an iterator over a subject's messages."""
        self.subs.append(self.nc.subscribe(subject))
        return self.subs[-1]

    async def unsubscribe(self) -> None:
        """End all subscriptions."""
        for sub in self.subs:
            sub.unsubscribe()
        self.subs.clear()

    async def publish(self, count: int) -> None:
        """Publish a number of messages."""
        publish = self.nc.publish
        for _ in range(count):
            publish("bench", PAYLOAD)

    async def respond(self, msg: Any) -> None:
        """Answer a request with its payload."""
        msg.respond(msg.payload)

    async def close(self) -> None:
        """End the client."""
        await self.nc.drain()


class Theirs(Ours):
    """The same for nats-py."""

    def __init__(self, nc: Any) -> None:
        super().__init__(nc)
        self.request = partial(
            nc.request, timeout=10
        )  # seconds; its default is too short for a busy machine

    async def iterate(self, subject: str) -> Any:
        """See `Ours`."""
        limits = {"pending_msgs_limit": 10**7, "pending_bytes_limit": 10**10}
        self.subs.append(await self.nc.subscribe(subject, **limits))
        return self.subs[-1].messages

    async def unsubscribe(self) -> None:
        """See `Ours`."""
        for sub in self.subs:
            await sub.unsubscribe()
        self.subs.clear()

    async def publish(self, count: int) -> None:
        """See `Ours`."""
        publish = self.nc.publish
        for _ in range(count):
            await publish("bench", PAYLOAD)

    async def respond(self, msg: Any) -> None:
        """See `Ours`."""
        await msg.respond(msg.data)

    async def close(self) -> None:
        """See `Ours`."""
        await self.nc.close()


async def connect(name: str, url: str) -> Ours:
    """Connect a client on asyncio."""
    if name.startswith("nats-py"):
        import nats

        return Theirs(await nats.connect(url, pending_size=64 * 1024 * 1024))
    from nats_ev import aio

    return Ours(await aio.connect(url))


async def on_asyncio(name: str, row: str, url: str, count: int, clock: Clock) -> None:
    """Make the run of a client on asyncio."""
    client = await connect(name, url)
    rows: dict[str, Callable[..., Awaitable[None]]] = {
        "pub": pub, "iterate": iterate, "requests": requests, "serial": requests,
    }  # fmt: skip
    for number, timed in ((max(TASKS, count // 10), Clock()), (count, clock)):  # first a warm-up
        await rows[row](client, number, timed, 1 if row == "serial" else TASKS)
        await client.unsubscribe()
    await client.close()


async def pub(client: Ours, count: int, clock: Clock, tasks: int) -> None:
    """Publish, and wait until the server has all."""
    with clock.running():
        await client.publish(count)
        await client.flush()


async def iterate(client: Ours, count: int, clock: Clock, tasks: int) -> None:
    """Publish to an iterator of the same client."""
    messages = await client.iterate("bench")

    async def take() -> None:
        left = count
        async for _ in messages:
            left -= 1
            if not left:
                return

    task = asyncio.ensure_future(take())
    await asyncio.sleep(0)
    with clock.running():
        for begun in range(0, count, PORTION):
            await client.publish(min(PORTION, count - begun))
            await asyncio.sleep(0)
        await task


async def requests(client: Ours, count: int, clock: Clock, tasks: int) -> None:
    """Make requests that another task of this client answers."""
    jobs = await client.iterate("service")

    async def serve() -> None:
        async for msg in jobs:
            await client.respond(msg)

    async def ask(number: int) -> None:
        for each in range(number):
            payload = b"%d" % each
            answer = await client.request("service", payload)
            clock.wrong += answer.data != payload

    server = asyncio.ensure_future(serve())
    await client.flush()
    with clock.running():
        await asyncio.gather(*(ask(count // tasks) for _ in range(tasks)))
    server.cancel()
    await asyncio.gather(server, return_exceptions=True)


def with_gevent(row: str, url: str, count: int, clock: Clock) -> None:
    """Make the run of `nats_ev.green`."""
    import gevent

    from nats_ev import green

    def serve(jobs: Any) -> None:
        for msg in jobs:
            msg.respond(msg.payload)

    with green.connect(url) as nc:
        sub = nc.subscribe("bench") if row == "iterate" else None
        if sub is not None:
            with clock.running():
                taker = gevent.spawn(take, sub, count)
                for _ in range(0, count, PORTION):
                    publish(nc, PORTION)
                    gevent.sleep(0)
                taker.join()
        elif row == "pub":
            with clock.running():
                publish(nc, count)
                nc.flush()
        else:
            tasks = 1 if row == "serial" else TASKS
            server = gevent.spawn(serve, nc.subscribe("service"))
            nc.flush()
            with clock.running():
                asking = [gevent.spawn(ask, nc, count // tasks, clock) for _ in range(tasks)]
                gevent.joinall(asking)
            server.kill()


def waiting(row: str, url: str, count: int, clock: Clock) -> None:
    """Make the run of `nats_ev.blocking`."""
    from nats_ev import blocking

    with blocking.connect(url) as nc:
        if row == "pub":
            with clock.running():
                publish(nc, count)
                nc.flush()
        elif row == "iterate":
            sub = nc.subscribe("bench")
            with clock.running():
                for _ in range(0, count, PORTION):
                    publish(nc, PORTION)
                    take(sub, PORTION)
        else:
            nc.nats.subscribe("service", lambda s, payload, reply, h: nc.publish(reply, payload))
            with clock.running():
                ask(nc, count, clock)


def publish(nc: Any, count: int) -> None:
    """Publish a number of messages."""
    for _ in range(count):
        nc.publish("bench", PAYLOAD)


def take(sub: Any, count: int) -> None:
    """Take a number of messages."""
    for _ in sub:
        count -= 1
        if not count:
            return


def ask(nc: Any, count: int, clock: Clock) -> None:
    """Make requests one after the other."""
    for each in range(count):
        payload = b"%d" % each
        clock.wrong += nc.request("service", payload).payload != payload


def main() -> None:
    """Make one run, and print its result as JSON."""
    name, row, port, count = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])
    url, clock = f"nats://127.0.0.1:{port}", Clock()
    if name == "green":
        with_gevent(row, url, count, clock)
    elif name == "blocking":
        waiting(row, url, count, clock)
    elif name.endswith("-uvloop"):
        import uvloop

        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(on_asyncio(name, row, url, count, clock))
    else:
        asyncio.run(on_asyncio(name, row, url, count, clock))
    print(json.dumps({"seconds": clock.seconds, "cpu": clock.cpu, "wrong": clock.wrong}))


if __name__ == "__main__":
    main()
