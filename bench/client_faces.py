"""One run of one row with a face of nats_ev. `full.py` starts it; `benchmark.py` explains rows and arguments.

python client_faces.py FACE ROW HOST PORT MESSAGES PAYLOAD WINDOW CHECKED [NUMBER]

FACE is aio, uvloop (aio on uvloop), green or blocking. `pubsub` receives by callback, and `iterate` by the
face's iterator.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from client_nats_ev import NO_ROW, SUBJECT, differences, in_kernel, percentiles

TIMEOUT = 10_000  # ms


class Window:
    """Publishes the next messages when half of those on the way have arrived."""

    def __init__(self, nc: Any, count: int, payload: bytes, window: int) -> None:
        self._publish, self._payload = nc.publish, payload
        self.count, self._window = count, window
        self.received = self._sent = self._mark = 0

    def begin(self) -> None:
        """Publish the first messages; call it after subscribing."""
        self._send(self._window)

    def _send(self, portion: int) -> None:
        portion = min(portion, self.count - self._sent)
        publish, payload = self._publish, self._payload
        for _ in range(portion):
            publish(SUBJECT, payload)
        self._sent += portion
        self._mark = self.count if self._sent == self.count else self._sent - self._window // 2

    def callback(self, done: Callable[[], object]) -> Callable[..., None]:
        """Return a message callback that calls done after the last message."""

        def message(subject: str, payload: bytes, reply: str | None, headers: Any) -> None:
            self.received += 1
            if self.received == self._mark:
                if self.received == self.count:
                    done()
                else:
                    self._send(self._window // 2)

        return message

    def arrived(self) -> bool:
        """Count a message; return whether it was the last one."""
        self.received += 1
        if self.received == self._mark:
            if self.received == self.count:
                return True
            self._send(self._window // 2)
        return False


def answer_with_the_request(nc: Any) -> int:
    """Subscribe an echo, by callback, to the subject; return its sid."""
    nats = nc.nats
    sid: int = nats.subscribe(SUBJECT, lambda _s, payload, reply, _h: nats.publish(reply, payload))
    return sid


class Aio:
    """The rows with `nats_ev.aio`."""

    def __init__(self, nc: Any) -> None:
        self.nc = nc
        self.extra: dict[str, int] = {}

    async def pub(self, count: int, payload: bytes, window: int) -> None:
        publish = self.nc.publish
        for _ in range(count):
            publish(SUBJECT, payload)
        await self.nc.flush()

    async def pubsub(self, count: int, payload: bytes, window: int) -> None:
        import asyncio

        done = asyncio.Event()
        flow = Window(self.nc, count, payload, window)
        sid = self.nc.nats.subscribe(SUBJECT, flow.callback(done.set))
        flow.begin()
        await done.wait()
        self.nc.nats.unsubscribe(sid)

    async def iterate(self, count: int, payload: bytes, window: int) -> None:
        async with self.nc.subscribe(SUBJECT) as messages:
            flow = Window(self.nc, count, payload, window)
            flow.begin()
            async for _ in messages:
                if flow.arrived():
                    break

    async def request(self, count: int, payload: bytes, window: int) -> None:
        import asyncio

        request, left = self.nc.request, count
        sid = answer_with_the_request(self.nc)

        async def ask() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await request(SUBJECT, payload, TIMEOUT)

        await asyncio.gather(*(ask() for _ in range(min(window, count))))
        self.nc.nats.unsubscribe(sid)

    async def serial(self, count: int, payload: bytes, window: int) -> None:
        now, took = time.perf_counter_ns, []
        sid = answer_with_the_request(self.nc)
        for _ in range(count):
            begun = now()
            await self.nc.request(SUBJECT, payload, TIMEOUT)
            took.append(now() - begun)
        self.nc.nats.unsubscribe(sid)
        self.extra = percentiles(took)

    async def check(self, payloads: list[bytes]) -> int:
        """Send numbered payloads to an iterator; return how many came back wrong."""
        got = []
        async with self.nc.subscribe(SUBJECT) as messages:
            for payload in payloads:
                self.nc.publish(SUBJECT, payload)
            async for msg in messages:
                got.append((msg.subject, msg.payload))
                if len(got) == len(payloads):
                    break
        return differences(got, [(SUBJECT, payload) for payload in payloads])


class Blocking:
    """The rows with `nats_ev.blocking` and `nats_ev.green`."""

    def __init__(self, nc: Any) -> None:
        self.nc = nc
        self.extra: dict[str, int] = {}

    def pub(self, count: int, payload: bytes, window: int) -> None:
        publish = self.nc.publish
        for _ in range(count):
            publish(SUBJECT, payload)
        self.nc.flush()

    def iterate(self, count: int, payload: bytes, window: int) -> None:
        with self.nc.subscribe(SUBJECT) as messages:
            flow = Window(self.nc, count, payload, window)
            flow.begin()
            for _ in messages:
                if flow.arrived():
                    break

    def serial(self, count: int, payload: bytes, window: int) -> None:
        now, took = time.perf_counter_ns, []
        sid = answer_with_the_request(self.nc)
        for _ in range(count):
            begun = now()
            self.nc.request(SUBJECT, payload, TIMEOUT)
            took.append(now() - begun)
        self.nc.nats.unsubscribe(sid)
        self.extra = percentiles(took)

    def check(self, payloads: list[bytes]) -> int:
        """Send numbered payloads to an iterator; return how many came back wrong."""
        got = []
        with self.nc.subscribe(SUBJECT) as messages:
            for payload in payloads:
                self.nc.publish(SUBJECT, payload)
            for msg in messages:
                got.append((msg.subject, msg.payload))
                if len(got) == len(payloads):
                    break
        return differences(got, [(SUBJECT, payload) for payload in payloads])


class Green(Blocking):
    """The rows that need several greenlets, or an event, besides those of `Blocking`."""

    def pubsub(self, count: int, payload: bytes, window: int) -> None:
        from gevent.event import Event

        done = Event()
        flow = Window(self.nc, count, payload, window)
        sid = self.nc.nats.subscribe(SUBJECT, flow.callback(done.set))
        flow.begin()
        done.wait()
        self.nc.nats.unsubscribe(sid)

    def request(self, count: int, payload: bytes, window: int) -> None:
        import gevent

        request, left = self.nc.request, count
        sid = answer_with_the_request(self.nc)

        def ask() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                request(SUBJECT, payload, TIMEOUT)

        gevent.joinall([gevent.spawn(ask) for _ in range(min(window, count))], raise_error=True)
        self.nc.nats.unsubscribe(sid)


def steps(row: str, arguments: list[str], rows: Any) -> Any:
    """Yield what to run, and print the result; a face's main program runs each of them."""
    count, size, window, checked = (int(argument) for argument in arguments[:4])
    run = getattr(rows, row, None)
    if run is None:
        raise SystemExit(NO_ROW)
    payload = b"x" * size
    yield run(max(1, count // 10), payload, window)  # warm-up
    kernel = in_kernel()
    cpu, start = time.process_time_ns(), time.perf_counter_ns()
    yield run(count, payload, window)
    elapsed, cpu = time.perf_counter_ns() - start, time.process_time_ns() - cpu
    rows.extra["kernel_ns"] = in_kernel() - kernel
    wrong = yield rows.check([(b"%0*d" % (size, i))[-size:] for i in range(checked)])
    print(json.dumps({"ns": elapsed, "cpu_ns": cpu, "wrong": wrong} | rows.extra))


def run_all(steps: Any) -> None:
    """Run the steps of a face whose methods return their results."""
    result = None
    try:
        while True:
            result = steps.send(result)
    except StopIteration:
        pass


async def await_all(steps: Any) -> None:
    """Run the steps of a face whose methods are awaited."""
    result: Any = None
    try:
        while True:
            step: Awaitable[Any] = steps.send(result)
            result = await step
    except StopIteration:
        pass


def main(face: str, row: str, host: str, port: str, *arguments: str) -> None:
    url = f"nats://{host}:{port}"
    if face in ("aio", "uvloop"):
        from nats_ev import aio

        async def run() -> None:
            async with aio.connect(url) as nc:
                await await_all(steps(row, list(arguments), Aio(nc)))

        if face == "uvloop":
            import uvloop

            uvloop.run(run())
        else:
            import asyncio

            asyncio.run(run())
    elif face == "green":
        from nats_ev import green

        with green.connect(url) as nc:
            run_all(steps(row, list(arguments), Green(nc)))
    else:
        from nats_ev import blocking

        with blocking.connect(url) as nc:
            run_all(steps(row, list(arguments), Blocking(nc)))


if __name__ == "__main__":
    main(*sys.argv[1:])
