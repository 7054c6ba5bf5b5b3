"""What clients and preparation agree on: names, and the content of messages and objects."""

from __future__ import annotations

STREAM, SUBJECT, CONSUMER, BUCKET, OBJECT = "BENCH", "bench.js", "c", "bench", "blob"
PUT_BUCKET = "bench-put"
BATCH = 200


def numbered(size: int, index: int) -> bytes:
    """Return the payload number index, of size bytes."""
    return (b"%0*d" % (size, index))[-size:]


def blob(size: int) -> bytes:
    """Return an object's bytes: eight-digit numbers, so that no part is like another one."""
    return b"".join(b"%08d" % i for i in range(-(-size // 8)))[:size]
