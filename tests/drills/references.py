"""References after a million operations of each kind: none is left, and none is given up too often.

`python -m drills.references [OPERATIONS]`. Each row of the benchmark that uses the hot path in C runs twice.
The second run must leave the interpreter with as many references and blocks of memory as the first one. A
debug build of CPython counts all references and aborts on a count below zero: `make references` builds the
modules for it. Any other build counts its blocks.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from lab.natsserver import NatsServer
from lab.paths import ROOT

sys.path.insert(0, str(ROOT / "bench"))
from client_nats_ev import Client

OPERATIONS = 1_000_000
ROWS = ("pub", "pubsub", "subjects", "raw_headers", "headers", "request", "serial")
WINDOW, IN_FLIGHT = 10_000, 64
# A serial request takes a turn of the loop, so that it costs some fifty times as much as a message.
SHARES = {"serial": 20, "request": 4, "headers": 4}
# References and blocks that caches of the interpreter may take, whatever the number of operations.
SPARE = 300


def total() -> tuple[int, int]:
    """Return (references, blocks) of the interpreter; references are 0 without a debug build."""
    for _ in range(3):
        gc.collect()
    count: Callable[[], int] = getattr(sys, "gettotalrefcount", lambda: 0)
    return count(), sys.getallocatedblocks()


def references(operations: int) -> list[str]:
    """Run all rows; return what was measured. Raises AssertionError if a count has changed."""
    lines = []
    with NatsServer() as server:
        client = Client(server.host, server.port, 2)
        payload = b"x" * 100
        for row in ROWS:
            run: Callable[[int, bytes, int], None] = getattr(client, row)
            window = IN_FLIGHT if row in ("request", "serial") else WINDOW
            number = max(100, operations // SHARES.get(row, 1))
            run(max(100, number // 10), payload, window)
            before = total()
            run(number, payload, window)
            client.extra.clear()
            after = total()
            changed = tuple(b - a for a, b in zip(before, after, strict=True))
            lines.append(
                f"{row}: {number:,} operations, references {changed[0]:+}, blocks {changed[1]:+}"
            )
            assert all(abs(change) < SPARE for change in changed), lines[-1]
        client.nats.disconnect()
    return lines


def main() -> None:
    counted = hasattr(sys, "gettotalrefcount")
    print(f"CPython {sys.version.split()[0]}, {'a debug build' if counted else 'blocks only'}")
    for line in references(int(sys.argv[1]) if len(sys.argv) > 1 else OPERATIONS):
        print(line)


if __name__ == "__main__":
    main()
