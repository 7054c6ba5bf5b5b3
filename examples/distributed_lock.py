"""A lock shared by processes on any machines: one process at a time holds it, works, and releases it.

A killed holder loses the lock at the end of its lease; a holder that is stopped or cut off knows before. The
token grows with each holder: what the lock protects can refuse a smaller one.

Arguments: seconds to hold the lock each time (default 1), and a file that is locked as long; a second holder
would print "two holders" and end. NATS_HOST and NATS_PORT say where the server is (2.11 or later).
"""

from __future__ import annotations

import fcntl
import os
import sys
from datetime import timedelta
from typing import Any

from nats_ev import KV, JetStream, Nats, NatsError, NoRespondersError, pyev
from nats_ev.extras import Lock

HOLD = timedelta(seconds=float(sys.argv[1]) if len(sys.argv) > 1 else 1)
GUARD = open(sys.argv[2], "ab") if len(sys.argv) > 2 else None  # noqa: SIM115

nats = Nats(
    host=os.environ.get("NATS_HOST", "127.0.0.1"),
    port=int(os.environ.get("NATS_PORT", "4222")),
    reconnect=True,
    retry_on_failed_connect=False,
)
kv = KV(JetStream(nats), "locks")


def held(token: int | None, err: NatsError | None) -> None:
    if err is not None:
        sys.exit(f"error: {err}")
    guard(True)
    print(f"held {token}", flush=True)
    nats.call_later(HOLD, release)


def release() -> None:
    if lock.held:
        guard(False)
        print(f"released {lock.token}", flush=True)
        lock.release(lambda done, err: lock.acquire(held))


def lost(err: NatsError) -> None:
    guard(False)
    print(f"lost: {err}", flush=True)
    lock.acquire(held)


def guard(taken: bool) -> None:  # lock what the lock protects, or unlock it
    if GUARD is not None:
        try:
            fcntl.flock(GUARD, fcntl.LOCK_EX | fcntl.LOCK_NB if taken else fcntl.LOCK_UN)
        except OSError:
            print("two holders", flush=True)
            os._exit(1)


def ready(info: Any, err: NatsError | None) -> None:
    if isinstance(err, NoRespondersError):
        sys.exit(f"no bucket: {err}")
    if err is not None:
        print("no bucket yet:", err, file=sys.stderr)
        nats.call_later(1000, start)
        return
    lock.acquire(held)


def start() -> None:
    kv.create_bucket({"limit_marker_ttl": timedelta(seconds=1)}, ready)


lock = Lock(kv, "lock", lease=timedelta(seconds=2), on_lost=lost)
start()
pyev.default_loop().start()
