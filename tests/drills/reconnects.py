"""Ten thousand connections in a row, TLS and plain, in one process whose memory must stay flat.

`python -m drills.reconnects [RECONNECTS]`, a part of `make soak`. Python's collector of cycles is off, so
that what waits for it counts as growth, too. After the first tenth, in which the allocator settles, memory
may grow by a few bytes per connection, and the number of descriptors not at all.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lab.certs import Certificates, server_config
from lab.natsserver import NatsServer
from lab.process import descriptors, resident
from nats_ev import Nats, pyev

RECONNECTS = 10_000
SAMPLES = 10
# Bytes that memory may grow by, per connection and in all: pages of the allocator.
EACH, SPARE = 100, 256 * 1024
OBJECTS = 50


def reconnect(count: int, server: NatsServer, **options: Any) -> list[tuple[int, int, int]]:
    """Connect so many times, one after the other; return samples of (memory, descriptors, objects)."""
    loop = pyev.Loop()
    samples: list[tuple[int, int, int]] = []
    done = 0

    def connected() -> None:
        nonlocal done
        done += 1
        if done % max(1, count // SAMPLES) == 0:
            samples.append((resident(), descriptors(), len(gc.get_objects())))
        if done >= count:
            nats.disconnect()
        else:
            nats.call_soon(nats.force_reconnect)

    def failed(error: Exception) -> None:
        raise error

    nats = Nats(
        loop=loop, host=server.host, port=server.port, reconnect=True, on_connect=connected,
        on_error=failed, **options,
    )  # fmt: skip
    loop.debug = True  # what a callback raises ends the run
    loop.start()
    return samples


def check(name: str, count: int, samples: list[tuple[int, int, int]], started: float) -> str:
    """Return what was measured. Raises AssertionError when something grew."""
    memory, files, objects = (
        last - first for first, last in zip(samples[0], samples[-1], strict=True)
    )
    text = (
        f"{count:,} {name} connections in {time.monotonic() - started:.0f} s; since the first tenth: "
        f"memory {memory / 1024:+.0f} KiB (of {samples[-1][0] >> 20} MiB), descriptors {files:+d}, "
        f"objects {objects:+d}"
    )
    assert memory <= EACH * count + SPARE, text
    assert files <= 0, text
    assert objects <= OBJECTS, text
    return text


def reconnects(count: int, folder: Path) -> list[str]:
    """Run; returns what was measured, raises AssertionError when something grew."""
    certs = Certificates(folder)
    config = server_config(certs.issue("server", "127.0.0.1"))
    texts = []
    gc.collect()
    gc.disable()
    try:
        for name, conf, options in (
            ("plain", None, {}),
            ("TLS", config, {"tls_ca_file": str(certs.ca.cert_file)}),
        ):
            started = time.monotonic()
            with NatsServer(config=conf) as server:
                texts.append(check(name, count, reconnect(count, server, **options), started))
    finally:
        gc.enable()
    return texts


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else RECONNECTS
    with tempfile.TemporaryDirectory() as name:
        for text in reconnects(count, Path(name)):
            print("reconnects:", text)


if __name__ == "__main__":
    main()
