"""Ten thousand connections in a row, on each loop, in one process whose memory must stay flat.

`python -m drills.reconnects [RECONNECTS [LOOP [KIND …]]]`: `make soak` runs all `KINDS` on libev, and
`make reconnects` on all `LOOPS`, each in a process of its own. gevent's loop is that of $GEVENT_LOOP. One
client loses its connection, plain and under TLS; then clients are made one after the other, each with an
adapter of its own, and disconnected.

Python's collector of cycles is off for the one client, so that what waits for it counts as growth, too. After
the first tenth, in which the allocator settles, memory may grow by a few bytes per connection, and the number
of descriptors, threads and objects, all watchers among them, not at all.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lab.natsserver import NatsServer
from lab.process import HAS_PROC, descriptors, resident
from nats_ev import Nats, pyev
from nats_ev.testing.certificates import Certificates, server_config

RECONNECTS = 10_000
SAMPLES = 10
# Bytes that memory may grow by, per connection and in all: pages of the allocator.
EACH, SPARE = 100, 512 * 1024
OBJECTS = 50
KINDS = ("plain", "TLS", "clients")
TESTS = Path(__file__).resolve().parents[1]
LOOPS = ("libev", "gevent-libev-cext", "gevent-libev-cffi", "gevent-libuv", "asyncio", "uvloop")


class Driver(NamedTuple):
    """A loop that runs until `stop` is called in a callback."""

    adapter: Callable[[], Any]  # for one client
    run: Callable[[], object]
    stop: Callable[[], object]


def driver(name: str) -> Driver:
    """Make a loop of this name. gevent's kind is that of the process."""
    if name == "libev":
        loop = pyev.Loop()
        loop.debug = True  # what a callback raises ends the run
        return Driver(lambda: loop, loop.start, loop.stop)
    if name.startswith("gevent"):
        from gevent.event import Event

        from nats_ev.gevent_loop import GeventLoop

        done = Event()

        def run() -> None:
            done.clear()
            done.wait()

        return Driver(GeventLoop, run, done.set)
    import asyncio

    from nats_ev.asyncio_loop import AsyncioLoop

    if name == "uvloop":
        import uvloop

        own = uvloop.new_event_loop()
    else:
        own = asyncio.new_event_loop()
    return Driver(lambda: AsyncioLoop(own), own.run_forever, own.stop)


class Cycles:
    """Counts connections, and takes samples of what may grow."""

    def __init__(self, count: int, driver: Driver) -> None:
        self._count = count
        self._driver = driver
        self._failed: Exception | None = None
        self.done = 0
        self.samples: list[tuple[int, ...]] = []

    def connected(self) -> bool:
        """Count a connection. Return whether there are more to come."""
        self.done += 1
        if self.done % max(1, self._count // SAMPLES) == 0:
            if gc.isenabled():  # a client that has ended is a cycle
                gc.collect()
            threads = len(os.listdir("/proc/self/task")) if HAS_PROC else 0
            self.samples.append((resident(), descriptors(), threads, len(gc.get_objects())))
        return self.done < self._count

    def failed(self, error: Exception) -> None:
        """End the run: no error is expected."""
        self._failed = error
        self._driver.stop()

    def run(self) -> list[tuple[int, ...]]:
        """Run the loop to the end. Return the samples."""
        self._driver.run()
        if self._failed is not None:
            raise self._failed
        return self.samples


def reconnect(
    count: int, server: NatsServer, driver: Driver, **options: Any
) -> list[tuple[int, ...]]:
    """Lose a connection so many times; return samples."""
    gc.disable()
    cycles = Cycles(count, driver)

    def connected() -> None:
        if cycles.connected():
            nats.call_soon(nats.force_reconnect)
        else:
            nats.disconnect()
            nats.call_soon(driver.stop)

    nats = Nats(
        loop=driver.adapter(), host=server.host, port=server.port, reconnect=True,
        on_connect=connected, on_error=cycles.failed, **options,
    )  # fmt: skip
    return cycles.run()


def clients(count: int, server: NatsServer, driver: Driver) -> list[tuple[int, ...]]:
    """Make so many clients, one after the other, and disconnect each; return samples."""
    cycles = Cycles(count, driver)
    current: list[Nats] = []

    def begin() -> None:
        current[:] = [
            Nats(
                loop=driver.adapter(), host="localhost", port=server.port,
                on_connect=connected, on_disconnect=disconnected, on_error=cycles.failed,
            )
        ]  # fmt: skip

    def connected() -> None:
        current[0].disconnect()

    def disconnected() -> None:
        if cycles.connected():
            begin()
        else:
            current.clear()
            driver.stop()

    gc.enable()
    begin()
    return cycles.run()


def check(name: str, count: int, samples: list[tuple[int, ...]], started: float) -> str:
    """Return what was measured. Raises AssertionError when something grew."""
    memory, files, threads, objects = (
        last - first for first, last in zip(samples[0], samples[-1], strict=True)
    )
    text = (
        f"{count:,} {name} in {time.monotonic() - started:.0f} s; since the first tenth: "
        f"memory {memory / 1024:+.0f} KiB (of {samples[-1][0] >> 20} MiB), descriptors {files:+d}, "
        f"threads {threads:+d}, objects {objects:+d}"
    )
    # A tracer like coverage's keeps four objects for each thread, and each client looks up a name in one.
    traced = count if sys.gettrace() is not None else 0
    assert memory <= EACH * count + SPARE + 2048 * traced, text
    assert files <= 0, text
    assert threads <= 1, text  # a resolver's, about to end
    assert objects <= OBJECTS + 5 * traced, text
    return text


def reconnects(
    count: int, folder: Path, loop: str = "libev", kinds: Sequence[str] = KINDS
) -> list[str]:
    """Run; returns what was measured, raises AssertionError when something grew."""
    certs = Certificates(folder)
    config = server_config(certs.issue("server", "127.0.0.1"))
    made = driver(loop)
    texts = []
    runs: dict[str, tuple[str | None, Callable[[NatsServer], list[tuple[int, ...]]]]] = {
        "plain": (None, lambda server: reconnect(count, server, made)),
        "TLS": (
            config,
            lambda server: reconnect(count, server, made, tls_ca_file=str(certs.ca.cert_file)),
        ),
        "clients": (None, lambda server: clients(count, server, made)),
    }
    gc.collect()
    try:
        for kind in kinds:
            conf, run = runs[kind]
            started = time.monotonic()
            with NatsServer(config=conf) as server:
                name = kind if kind == "clients" else f"{kind} connections"
                texts.append(f"{loop}: {check(name, count, run(server), started)}")
    finally:
        gc.enable()
    return texts


def in_a_process(count: int, loop: str, *kinds: str) -> int:
    """Run on one loop in a process of its own. Return its status."""
    gevents = {"GEVENT_LOOP": loop.partition("-")[2]} if loop.startswith("gevent") else {}
    command = [sys.executable, "-m", "drills.reconnects", str(count), loop, *kinds]
    return subprocess.run(command, env={**os.environ, **gevents}, cwd=TESTS).returncode


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else RECONNECTS
    loop = sys.argv[2] if len(sys.argv) > 2 else "libev"
    if loop == "all":
        sys.exit(max([in_a_process(count, loop, *sys.argv[3:]) for loop in LOOPS]))
    with tempfile.TemporaryDirectory() as name:
        for text in reconnects(count, Path(name), loop, sys.argv[3:] or KINDS):
            print("reconnects:", text, flush=True)


if __name__ == "__main__":
    main()
