"""An object of any size streams in and out in little memory, and a cut link never makes a wrong one.

`python -m drills.bigobject [MiB]`, or `make bigobject` (1024): put from an iterable and get into a
callback on a private server, measured by the peak of this process's resident memory; then a put and a
get of a quarter of it through a proxy that cuts each connection in the middle.
"""

from __future__ import annotations

import hashlib
import resource
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from lab.natsserver import NatsServer
from nats_ev import JetStream, Nats, NatsError, ObjectStore, pyev
from nats_ev.testing import CuttingProxy

MIB = 1024 * 1024
ALLOWED = 64 * MIB


def content(size: int) -> Iterator[bytes]:
    """Pieces that are all different, made as they are asked for."""
    block = hashlib.sha512(b"nats_ev").digest() * (MIB // 64)
    for number in range(size // MIB):
        yield number.to_bytes(8, "big") + block[8:]


def digest(size: int) -> str:
    whole = hashlib.sha256()
    for piece in content(size):
        whole.update(piece)
    return whole.hexdigest()


def peak() -> int:
    """The most memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def wait(operation: Callable[..., Any], *arguments: Any, **options: Any) -> tuple[Any, float]:
    """Run the loop until the operation's callback; its result, and the seconds that it took."""
    loop = pyev.default_loop()
    answers: list[tuple[Any, NatsError | None]] = []

    def done(result: Any, error: NatsError | None) -> None:
        answers.append((result, error))
        loop.stop()

    began = time.monotonic()
    operation(*arguments, done, **options)
    while not answers:
        loop.start()
    result, error = answers[0]
    if error is not None:
        raise error
    return result, time.monotonic() - began


def connect(port: int) -> ObjectStore:
    nats = Nats(
        host="127.0.0.1", port=port, reconnect=True, reconnect_delay=50, on_error=lambda err: None
    )
    return ObjectStore(JetStream(nats), "big")


def stream(port: int, size: int, allowed: int) -> None:
    """In and out, and what of memory that has taken."""
    store = connect(port)
    wait(store.create_bucket)
    expected = digest(size)
    before = peak()
    info, put_took = wait(store.put, "big", content(size))
    got = hashlib.sha256()
    _, get_took = wait(store.get, "big", got.update)
    grown = peak() - before
    assert info["size"] == size
    assert got.hexdigest() == expected, "a wrong object"
    print(
        f"{size // MIB} MiB in at {size / MIB / put_took:.0f} MiB/s, "
        f"out at {size / MIB / get_took:.0f} MiB/s, resident memory grew by {grown / MIB:.1f} MiB",
        flush=True,
    )
    assert grown < allowed, f"more than {allowed / MIB:.0f} MiB"
    store.js.nats.disconnect()


def cut(port: int, size: int) -> None:
    """In and out while the connection is cut in the middle of each."""
    with CuttingProxy(port) as link:
        store = connect(link.port)
        for name in ("put", "get"):
            connections = link.connections
            halves = iter([size // 2])

            def progress(done: int, total: Any, halves: Iterator[int] = halves) -> None:
                if done > size // 2 and next(halves, None):
                    link.cut(reset=True)

            got = hashlib.sha256()
            if name == "put":
                info, _ = wait(store.put, "cut", content(size), progress=progress)
            else:
                info, _ = wait(store.get, "cut", got.update, progress=progress)
                assert got.hexdigest() == digest(size), "a wrong object"
            assert info["size"] == size
            assert link.connections > connections, "the link was not cut"
        store.js.nats.disconnect()
    print(
        f"{size // MIB} MiB in and out over a link cut in the middle of each: resumed", flush=True
    )


def main() -> None:
    size = (int(sys.argv[1]) if len(sys.argv) > 1 else 1024) * MIB
    with NatsServer(jetstream=True) as server:
        stream(server.port, size, min(ALLOWED, size // 2))
        cut(server.port, size // 4)


if __name__ == "__main__":
    main()
